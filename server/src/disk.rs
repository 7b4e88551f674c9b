//! The disk thread: everything slow about files, done in order, beside the loop.
//!
//! Jobs are done first in, first out, so disk effects end in the order of their tickets. Waiting appends to the
//! same file are written together, with one sync. Files are read, and snapshots encoded, a piece per job: the loop
//! asks for the next piece when it has dealt with the last.
#![allow(clippy::disallowed_methods)] // the thread is started here

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use mio::Waker;
use slotstorm_node::io::{DiskError, DiskOp, SnapshotId, Ticket};
use slotstorm_node::keyspace::Snapshot;
use slotstorm_node::rdb::SnapshotEncoder;

use crate::files::{AppendPiece, FileReader, FileStore, READ_CHUNK_BYTES};

/// Bytes of one piece of a snapshot sent to a replica.
const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;
/// Bytes of one piece of a snapshot written to a file.
const SNAPSHOT_WRITE_BYTES: usize = 256 * 1024;
/// Bytes of appends that are written together at most.
const APPEND_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Work for the thread.
#[derive(Debug)]
pub enum Job {
    /// Carry out an effect.
    Op {
        /// Answered with it.
        ticket: Ticket,
        /// What to do.
        op: DiskOp,
    },
    /// The next piece of a file; the first one opens it.
    ReadNext {
        /// Its name.
        name: String,
    },
    /// Begin to encode a snapshot.
    SnapshotStart {
        /// Its name in later jobs.
        id: SnapshotId,
        /// What to encode.
        snapshot: Snapshot,
        /// Auxiliary fields of the RDB.
        rdb_aux: Vec<(String, String)>,
    },
    /// The next piece of a snapshot.
    SnapshotPull {
        /// Which.
        id: SnapshotId,
    },
    /// Forget a snapshot.
    SnapshotCancel {
        /// Which.
        id: SnapshotId,
    },
}

/// What the thread has done.
#[derive(Debug)]
pub enum Done {
    /// An effect.
    Op {
        /// Its ticket.
        ticket: Ticket,
        /// How it went.
        result: Result<(), DiskError>,
    },
    /// A piece of a file.
    Read {
        /// Its name.
        name: String,
        /// What was read.
        piece: io::Result<ReadPiece>,
    },
    /// A piece of a snapshot.
    Snapshot {
        /// Which.
        id: SnapshotId,
        /// Its bytes.
        bytes: Arc<[u8]>,
        /// Whether it is the end.
        last: bool,
    },
}

/// A piece of a file.
#[derive(Debug)]
pub struct ReadPiece {
    /// What was read.
    pub bytes: Vec<u8>,
    /// The file ends here.
    pub eof: bool,
    /// There is no such file.
    pub missing: bool,
}

/// The handle of the thread.
#[derive(Debug)]
pub struct DiskThread {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

impl DiskThread {
    /// Starts the thread; it wakes the loop through `waker`.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn start(store: FileStore, waker: Arc<Waker>) -> io::Result<Self> {
        let (jobs, todo) = mpsc::channel();
        let (answers, done) = mpsc::channel();
        let worker = Worker { store, answers, waker, readers: BTreeMap::new(), snapshots: BTreeMap::new() };
        let thread = thread::Builder::new().name("disk".to_owned()).spawn(move || worker.run(&todo))?;
        Ok(Self { jobs: Some(jobs), done, thread: Some(thread) })
    }

    /// Queues a job.
    pub fn push(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only after this sender; if it died, its answers stop, and with them all gated bytes.
            let _ = jobs.send(job);
        }
    }

    /// The next answer, if there is one.
    pub fn next_done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }

    /// Lets the thread do all that is queued, and waits for it. Answers can still be taken.
    pub fn finish(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    store: FileStore,
    answers: Sender<Done>,
    waker: Arc<Waker>,
    readers: BTreeMap<String, FileReader>,
    snapshots: BTreeMap<SnapshotId, SnapshotEncoder>,
}

impl Worker {
    fn run(mut self, todo: &Receiver<Job>) {
        let mut queue = VecDeque::new();
        while let Ok(job) = todo.recv() {
            queue.push_back(job);
            queue.extend(todo.try_iter());
            while let Some(job) = queue.pop_front() {
                self.work(job, &mut queue);
                queue.extend(todo.try_iter());
            }
        }
    }

    fn work(&mut self, job: Job, queue: &mut VecDeque<Job>) {
        match job {
            Job::Op { ticket, op: DiskOp::Append { name, bytes, sync } } => {
                self.append(ticket, &name, AppendPiece { bytes, sync }, queue);
            }
            Job::Op { ticket, op } => {
                let result = self.carry_out(op);
                self.answer(Done::Op { ticket, result });
            }
            Job::ReadNext { name } => {
                let piece = self.read(&name);
                self.answer(Done::Read { name, piece });
            }
            Job::SnapshotStart { id, snapshot, rdb_aux } => {
                self.snapshots.insert(id, SnapshotEncoder::new(snapshot, rdb_aux));
            }
            Job::SnapshotPull { id } => {
                // A pull of a cancelled snapshot has no answer.
                if let Some(encoder) = self.snapshots.get_mut(&id) {
                    let piece = encoder.next_chunk(SNAPSHOT_CHUNK_BYTES);
                    if piece.last {
                        self.snapshots.remove(&id);
                    }
                    self.answer(Done::Snapshot { id, bytes: piece.bytes, last: piece.last });
                }
            }
            Job::SnapshotCancel { id } => {
                self.snapshots.remove(&id);
            }
        }
    }

    /// Appends, together with the appends to the same file that wait right behind.
    fn append(&mut self, first: Ticket, name: &str, piece: AppendPiece, queue: &mut VecDeque<Job>) {
        let mut tickets = vec![first];
        let mut len = piece.bytes.len();
        let mut pieces = vec![piece];
        while len < APPEND_BATCH_BYTES
            && let Some((ticket, piece)) = pop_append(queue, name)
        {
            tickets.push(ticket);
            len += piece.bytes.len();
            pieces.push(piece);
        }
        let result = self.store.append(name, &pieces);
        for ticket in tickets {
            self.answer(Done::Op { ticket, result: result.clone() });
        }
    }

    fn carry_out(&mut self, op: DiskOp) -> Result<(), DiskError> {
        match op {
            DiskOp::Append { name, bytes, sync } => self.store.append(&name, &[AppendPiece { bytes, sync }]),
            DiskOp::Replace { name, bytes, sync } => self.store.replace(&name, [bytes], sync),
            DiskOp::ReplaceWithSnapshot { name, snapshot, rdb_aux, sync } => {
                let mut encoder = Some(SnapshotEncoder::new(snapshot, rdb_aux));
                let pieces = std::iter::from_fn(|| {
                    let piece = encoder.as_mut()?.next_chunk(SNAPSHOT_WRITE_BYTES);
                    if piece.last {
                        encoder = None;
                    }
                    Some(piece.bytes)
                });
                self.store.replace(&name, pieces, sync)
            }
            DiskOp::Sync { name } => self.store.sync(&name),
            DiskOp::Truncate { name, len } => self.store.truncate(&name, len),
            DiskOp::Remove { name } => self.store.remove(&name),
        }
    }

    fn read(&mut self, name: &str) -> io::Result<ReadPiece> {
        let mut reader = match self.readers.remove(name) {
            Some(reader) => reader,
            None => match self.store.read(name)? {
                Some(reader) => reader,
                None => return Ok(ReadPiece { bytes: Vec::new(), eof: true, missing: true }),
            },
        };
        let bytes = reader.next_chunk()?;
        let eof = bytes.len() < READ_CHUNK_BYTES;
        if !eof {
            self.readers.insert(name.to_owned(), reader);
        }
        Ok(ReadPiece { bytes, eof, missing: false })
    }

    fn answer(&self, done: Done) {
        // Nobody listens any more: the process is ending, and the work itself still counts.
        if self.answers.send(done).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

/// Takes the first job of the queue if it is an append to this file.
fn pop_append(queue: &mut VecDeque<Job>, name: &str) -> Option<(Ticket, AppendPiece)> {
    match queue.pop_front()? {
        Job::Op { ticket, op: DiskOp::Append { name: other, bytes, sync } } if other == name => {
            Some((ticket, AppendPiece { bytes, sync }))
        }
        other => {
            queue.push_front(other);
            None
        }
    }
}
