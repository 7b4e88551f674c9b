//! The disk thread: everything slow about files, done in order, beside the loop.
//!
//! Jobs are done first in, first out, so disk effects end in the order of their tickets; only a sync that is asked for
//! beside other work has a thread of its own, since a disk may take seconds for it, and writes and votes must not wait.
//! Waiting appends to the same file are written together, with one sync. Files are read a piece per job: the loop asks for the
//! next piece when it has dealt with the last. What takes long, snapshots, is not done here ([`crate::saver`]).
#![allow(clippy::disallowed_methods)] // the thread is started here

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use mio::Waker;
use slotstorm_node::io::{DiskError, DiskOp, SnapshotId, Ticket};

use crate::files::{AppendPiece, FileReader, FileStore, READ_CHUNK_BYTES, SyncBeside};

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
    /// A snapshot was written to its file, whose length this is, or was not.
    Saved {
        /// Which.
        id: SnapshotId,
        /// How it went.
        result: Result<u64, DiskError>,
    },
    /// A file that was being sent cannot be read.
    FileFailed {
        /// Which.
        id: SnapshotId,
        /// Why.
        error: DiskError,
    },
}

/// Where answers go, and the loop's alarm.
#[derive(Clone, Debug)]
pub struct Answers {
    answers: Sender<Done>,
    waker: Arc<Waker>,
}

impl Answers {
    /// Hands an answer to the loop.
    pub fn send(&self, done: Done) {
        // Nobody listens any more: the process is ending, and the work itself still counts.
        if self.answers.send(done).is_ok() {
            let _ = self.waker.wake();
        }
    }
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
    /// The file's length when it was opened.
    pub total_bytes: u64,
}

/// The handle of the thread.
#[derive(Debug)]
pub struct DiskThread {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    answers: Answers,
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
        let answers = Answers { answers, waker };
        let syncer = Syncer::start(answers.clone())?;
        let worker = Worker { store, answers: answers.clone(), readers: BTreeMap::new(), syncer };
        let thread = thread::Builder::new().name("disk".to_owned()).spawn(move || worker.run(&todo))?;
        Ok(Self { jobs: Some(jobs), done, answers, thread: Some(thread) })
    }

    /// For other threads whose answers the loop takes here.
    pub const fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Queues a job.
    pub fn push(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only after this sender; if it died, its answers stop, and with them all gated
            // bytes.
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
    answers: Answers,
    readers: BTreeMap<String, FileReader>,
    syncer: Syncer,
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
            Job::Op { ticket, op: DiskOp::Sync { name, beside: true } } => {
                match self.store.sync_beside(&name) {
                    Ok(sync) => self.syncer.push(ticket, sync),
                    Err(error) => self.answer(Done::Op { ticket, result: Err(error) }),
                }
            }
            Job::Op { ticket, op } => {
                let result = self.carry_out(op);
                self.answer(Done::Op { ticket, result });
            }
            Job::ReadNext { name } => {
                let piece = self.read(&name);
                self.answer(Done::Read { name, piece });
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
            DiskOp::Sync { name, .. } => self.store.sync(&name),
            DiskOp::Truncate { name, len } => self.store.truncate(&name, len),
            DiskOp::Remove { name } => self.store.remove(&name),
            DiskOp::Rename { from, to } => self.store.rename(&from, &to),
            DiskOp::ChangeDir { path } => self.store.change_dir(&path),
        }
    }

    fn read(&mut self, name: &str) -> io::Result<ReadPiece> {
        let mut reader = match self.readers.remove(name) {
            Some(reader) => reader,
            None => match self.store.read(name)? {
                Some(reader) => reader,
                None => return Ok(ReadPiece { bytes: Vec::new(), eof: true, missing: true, total_bytes: 0 }),
            },
        };
        let bytes = reader.next_chunk()?;
        let eof = bytes.len() < READ_CHUNK_BYTES;
        let total_bytes = reader.total_bytes();
        if !eof {
            self.readers.insert(name.to_owned(), reader);
        }
        Ok(ReadPiece { bytes, eof, missing: false, total_bytes })
    }

    fn answer(&self, done: Done) {
        self.answers.send(done);
    }
}

/// The thread of syncs beside other work. Dropping it waits for those that were asked for.
struct Syncer {
    syncs: Option<Sender<(Ticket, SyncBeside)>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    fn start(answers: Answers) -> io::Result<Self> {
        let (syncs, todo) = mpsc::channel::<(Ticket, SyncBeside)>();
        let work = move || {
            for (ticket, sync) in todo {
                answers.send(Done::Op { ticket, result: sync.carry_out() });
            }
        };
        let thread = thread::Builder::new().name("sync".to_owned()).spawn(work)?;
        Ok(Self { syncs: Some(syncs), thread: Some(thread) })
    }

    fn push(&self, ticket: Ticket, sync: SyncBeside) {
        if let Some(syncs) = &self.syncs {
            // It ends only after this sender.
            let _ = syncs.send((ticket, sync));
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.syncs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

    #[test]
    fn answers_come_in_the_order_of_tickets_but_for_syncs_beside_and_the_end_waits_for_all() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut disk = DiskThread::start(FileStore::new(dir.path()), waker).unwrap();
        let append = |text: &str| DiskOp::Append { name: "log".into(), bytes: text.into(), sync: true };
        let ops = [
            append("a"),
            append("b"),
            DiskOp::Replace { name: "other".into(), bytes: b"new".into(), sync: true },
            append("c"),
            DiskOp::Append { name: "absent/../../\0".into(), bytes: b"x".into(), sync: false },
            DiskOp::Truncate { name: "log".into(), len: 2 },
            append("d"),
            DiskOp::Sync { name: "log".into(), beside: true },
            DiskOp::Remove { name: "other".into() },
        ];
        for (number, op) in (1..).zip(ops) {
            disk.push(Job::Op { ticket: Ticket(number), op });
        }
        poll.poll(&mut Events::with_capacity(8), Some(Duration::from_secs(20))).unwrap();
        disk.finish();

        let mut outcomes = Vec::new();
        while let Some(Done::Op { ticket, result }) = disk.next_done() {
            outcomes.push((ticket.0, result.is_ok()));
        }
        let beside = outcomes.iter().position(|(ticket, _)| *ticket == 8).expect("it is waited for");
        assert_eq!(outcomes.remove(beside), (8, true));
        let others = (1..=9).filter(|ticket| *ticket != 8);
        let expected: Vec<_> = others.map(|ticket| (ticket, ticket != 5)).collect();
        assert_eq!(outcomes, expected, "only the impossible name is an error");
        let read = |name| std::fs::read(dir.path().join(name)).unwrap();
        assert_eq!(read("log"), b"abd");
        assert!(!dir.path().join("other").exists());
    }
}
