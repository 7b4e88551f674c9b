//! Snapshots on their way to files and replicas, each on a thread of its own: what takes seconds must keep neither
//! clients nor the disk thread, behind which every acknowledged write waits.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // threads and files are used here

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use slotstorm_node::aof::CommandsEncoder;
use slotstorm_node::io::{DiskError, SaveJob, SnapshotFormat, SnapshotId};
use slotstorm_node::keyspace::Snapshot;
use slotstorm_node::rdb::SnapshotEncoder;

use crate::disk::{Answers, Done};
use crate::files::{FileStore, disk_error};

/// Bytes of one piece sent to a replica.
const PIECE_BYTES: usize = 1024 * 1024;
/// Bytes of one write to a file.
const WRITE_BYTES: usize = 256 * 1024;
/// The longest sleep within a delay, so that it can be ended.
const NAP: Duration = Duration::from_millis(10);

/// All snapshots that are being written or sent.
#[derive(Debug)]
pub struct Savers {
    answers: Answers,
    running: BTreeMap<SnapshotId, Running>,
}

#[derive(Debug)]
struct Running {
    cancelled: Arc<AtomicBool>,
    /// Asks for the next piece, of what is sent.
    pulls: Option<Sender<()>>,
    thread: JoinHandle<()>,
}

impl Savers {
    /// Answers go where the disk thread's go.
    pub const fn new(answers: Answers) -> Self {
        Self { answers, running: BTreeMap::new() }
    }

    /// Writes a snapshot to a file of the present working directory, which is the data directory.
    pub fn save(&mut self, id: SnapshotId, job: SaveJob) {
        let answers = self.answers.clone();
        let started = std::env::current_dir().and_then(|dir| {
            self.spawn(id, None, move |cancelled| {
                let result = save(&dir, job, cancelled);
                if !cancelled.load(Ordering::Relaxed) {
                    answers.send(Done::Saved { id, result });
                }
            })
        });
        if let Err(error) = started {
            self.answers.send(Done::Saved { id, result: Err(disk_error(error)) });
        }
    }

    /// Begins to encode a snapshot as RDB, a piece a pull.
    pub fn start(
        &mut self,
        id: SnapshotId,
        snapshot: Snapshot,
        rdb_aux: Vec<(String, String)>,
        format: SnapshotFormat,
    ) {
        let answers = self.answers.clone();
        self.start_pulled(id, move |pulls, cancelled| {
            let mut encoder = SnapshotEncoder::with_format(snapshot, rdb_aux, format);
            for () in pulls {
                let keys = encoder.keys_done();
                let piece = encoder.next_chunk(piece_bytes(format, PIECE_BYTES));
                if !dawdle(format, encoder.keys_done() - keys, cancelled) {
                    return;
                }
                answers.send(Done::Snapshot { id, bytes: piece.bytes, last: piece.last });
                if piece.last {
                    return;
                }
            }
        });
    }

    /// Opens a file now, to send it a piece a pull.
    pub fn start_file(&mut self, id: SnapshotId, name: &str) {
        let answers = self.answers.clone();
        let opened = File::open(name);
        self.start_pulled(id, move |pulls, _| {
            let next = |file: &mut File| -> io::Result<(Vec<u8>, bool)> {
                let mut bytes = Vec::with_capacity(PIECE_BYTES);
                file.take(PIECE_BYTES as u64).read_to_end(&mut bytes)?;
                let last = bytes.len() < PIECE_BYTES;
                Ok((bytes, last))
            };
            let mut opened = opened;
            for () in pulls {
                let piece = match &mut opened {
                    Ok(file) => next(file).map_err(disk_error),
                    Err(error) => Err(disk_error(error.kind().into())),
                };
                match piece {
                    Ok((bytes, last)) => {
                        answers.send(Done::Snapshot { id, bytes: bytes.into(), last });
                        if last {
                            return;
                        }
                    }
                    Err(error) => return answers.send(Done::FileFailed { id, error }),
                }
            }
        });
    }

    /// Asks for the next piece.
    pub fn pull(&mut self, id: SnapshotId) {
        // A pull of a cancelled snapshot has no answer.
        if let Some(Running { pulls: Some(pulls), .. }) = self.running.get(&id) {
            let _ = pulls.send(());
        }
    }

    /// Ends one without an answer.
    pub fn cancel(&mut self, id: SnapshotId) {
        if let Some(running) = self.running.remove(&id) {
            running.end();
        }
    }

    /// Ends all: the process does.
    pub fn cancel_all(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            running.end();
        }
    }

    fn start_pulled(
        &mut self,
        id: SnapshotId,
        work: impl FnOnce(&Receiver<()>, &AtomicBool) + Send + 'static,
    ) {
        let (pulls, wanted) = mpsc::channel();
        let started = self.spawn(id, Some(pulls), move |cancelled| work(&wanted, cancelled));
        if let Err(error) = started {
            self.answers.send(Done::FileFailed { id, error: disk_error(error) });
        }
    }

    fn spawn(
        &mut self,
        id: SnapshotId,
        pulls: Option<Sender<()>>,
        work: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> io::Result<()> {
        self.running.retain(|_, running| !running.thread.is_finished());
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancelled);
        let thread = thread::Builder::new().name("saver".to_owned()).spawn(move || work(&flag))?;
        self.running.insert(id, Running { cancelled, pulls, thread });
        Ok(())
    }
}

impl Running {
    /// Waits for the thread: it looks at the flag between two pieces. A file that it began is gone then.
    fn end(self) {
        self.cancelled.store(true, Ordering::Relaxed);
        drop(self.pulls);
        // It cannot have panicked without having said so on stderr.
        let _ = self.thread.join();
    }
}

fn save(dir: &Path, job: SaveJob, cancelled: &AtomicBool) -> Result<u64, DiskError> {
    let SaveJob { name, snapshot, rdb_aux, format, as_commands, annotate_s } = job;
    let mut store = FileStore::new(PathBuf::from(dir));
    let max_bytes = piece_bytes(format, WRITE_BYTES);
    let mut source = if as_commands {
        Source::Commands(CommandsEncoder::new(snapshot, annotate_s))
    } else {
        Source::Rdb(SnapshotEncoder::with_format(snapshot, rdb_aux, format))
    };
    let mut done = false;
    let pieces = std::iter::from_fn(|| {
        if done {
            return None;
        }
        let mut buffer = Vec::with_capacity(max_bytes + 4096);
        let keys = source.keys_done();
        done = source.fill(&mut buffer, max_bytes);
        if !dawdle(format, source.keys_done() - keys, cancelled) || cancelled.load(Ordering::Relaxed) {
            done = true;
            return Some(Err(ErrorKind::Interrupted.into()));
        }
        Some(Ok(buffer))
    });
    store.replace_with(&name, pieces, true)
}

enum Source {
    Rdb(SnapshotEncoder),
    Commands(CommandsEncoder),
}

impl Source {
    fn fill(&mut self, out: &mut Vec<u8>, max_bytes: usize) -> bool {
        match self {
            Self::Rdb(encoder) => encoder.fill(out, max_bytes),
            Self::Commands(encoder) => encoder.fill(out, max_bytes),
        }
    }

    const fn keys_done(&self) -> u64 {
        match self {
            Self::Rdb(encoder) => encoder.keys_done(),
            Self::Commands(encoder) => encoder.keys_done(),
        }
    }
}

/// With a delay a key is a piece, so that it is slept for in its place.
const fn piece_bytes(format: SnapshotFormat, otherwise: usize) -> usize {
    if format.key_delay_us == 0 { otherwise } else { 1 }
}

/// Sleeps as `rdb-key-save-delay` says for so many keys; false if it was cancelled meanwhile.
fn dawdle(format: SnapshotFormat, keys: u64, cancelled: &AtomicBool) -> bool {
    let delay = format.key_delay_us;
    let us = if delay >= 0 { keys.saturating_mul(delay.unsigned_abs()) } else { keys / delay.unsigned_abs() };
    let mut left = Duration::from_micros(us);
    while !left.is_zero() {
        if cancelled.load(Ordering::Relaxed) {
            return false;
        }
        let nap = left.min(NAP);
        thread::sleep(nap);
        left -= nap;
    }
    true
}
