//! Snapshots on their way to files and replicas, beside all else: jobs with virtual durations.

use std::collections::BTreeMap;
use std::sync::Arc;

use slotstorm_node::aof::CommandsEncoder;
use slotstorm_node::io::{DiskError, SaveJob, SnapshotFormat, SnapshotId};
use slotstorm_node::keyspace::Snapshot;
use slotstorm_node::rdb::SnapshotEncoder;

use crate::Nanos;
use crate::disk::{Disk, Replacement};

/// Bytes of one piece sent to a replica.
const PIECE_BYTES: usize = 1024 * 1024;
/// Encoding: a start, and bytes a microsecond.
const START_NS: Nanos = 100_000;
const BYTES_PER_US: u64 = 200;

/// What became of a snapshot or a part of it.
pub(super) enum SaverDone {
    Piece { id: SnapshotId, bytes: Arc<[u8]>, last: bool },
    Saved { id: SnapshotId, result: Result<u64, DiskError> },
    Failed { id: SnapshotId, error: DiskError },
}

/// All snapshots that are being written or sent.
#[derive(Default)]
pub(super) struct Savers(BTreeMap<SnapshotId, Saver>);

enum Saver {
    Stream {
        encoder: Box<SnapshotEncoder>,
        format: SnapshotFormat,
        made: Option<(Arc<[u8]>, bool)>,
        pulls: u32,
    },
    File {
        content: Option<Vec<u8>>,
        from: usize,
        pulls: u32,
    },
    Save {
        replacement: Replacement,
        encoding: bool,
    },
}

impl Savers {
    /// Begins to encode a snapshot, a piece a pull.
    pub fn start(
        &mut self,
        id: SnapshotId,
        snapshot: Snapshot,
        rdb_aux: Vec<(String, String)>,
        format: SnapshotFormat,
    ) {
        let encoder = Box::new(SnapshotEncoder::with_format(snapshot, rdb_aux, format));
        self.0.insert(id, Saver::Stream { encoder, format, made: None, pulls: 0 });
    }

    /// Opens a file, to send it a piece a pull.
    pub fn start_file(&mut self, id: SnapshotId, content: Option<Vec<u8>>) {
        self.0.insert(id, Saver::File { content, from: 0, pulls: 0 });
    }

    /// Asks for the next piece; answers how long it takes if it is begun at once. A pull of a cancelled snapshot has no
    /// answer.
    pub fn pull(&mut self, id: SnapshotId) -> Option<Nanos> {
        let saver = self.0.get_mut(&id)?;
        match saver {
            Saver::Stream { pulls, .. } | Saver::File { pulls, .. } => {
                *pulls += 1;
                if *pulls == 1 { saver.begin() } else { None }
            }
            Saver::Save { .. } => None,
        }
    }

    /// Begins to write a snapshot to a file; answers how long the first step takes.
    pub fn save(&mut self, id: SnapshotId, job: SaveJob) -> Nanos {
        let SaveJob { name, snapshot, rdb_aux, format, as_commands, annotate_s } = job;
        let mut bytes = Vec::new();
        let keys = if as_commands {
            let mut encoder = CommandsEncoder::new(snapshot, annotate_s);
            while !encoder.fill(&mut bytes, PIECE_BYTES) {}
            encoder.keys_done()
        } else {
            let mut encoder = SnapshotEncoder::with_format(snapshot, rdb_aux, format);
            while !encoder.fill(&mut bytes, PIECE_BYTES) {}
            encoder.keys_done()
        };
        let takes = START_NS + encoding(bytes.len()) + delay(format, keys);
        let replacement = Disk::replacement(&name, bytes);
        self.0.insert(id, Saver::Save { replacement, encoding: true });
        takes
    }

    /// Ends one without an answer.
    pub fn cancel(&mut self, id: SnapshotId) {
        self.0.remove(&id);
    }

    /// A step is over: what came of it, and how long the next one takes.
    pub fn step(&mut self, id: SnapshotId, disk: &mut Disk) -> (Option<SaverDone>, Option<Nanos>) {
        match self.0.get_mut(&id) {
            None => (None, None),
            Some(saver @ Saver::Stream { .. }) => {
                let Saver::Stream { made, pulls, .. } = saver else { return (None, None) };
                let Some((bytes, last)) = made.take() else { return (None, None) };
                *pulls -= 1;
                let next = if *pulls > 0 && !last { saver.begin() } else { None };
                if last {
                    self.0.remove(&id);
                }
                (Some(SaverDone::Piece { id, bytes, last }), next)
            }
            Some(Saver::File { content: None, .. }) => {
                self.0.remove(&id);
                (Some(SaverDone::Failed { id, error: super::no_such_file() }), None)
            }
            Some(Saver::File { content: Some(content), from, pulls }) => {
                let piece = &content[*from..content.len().min(*from + PIECE_BYTES)];
                let (bytes, last) = (Arc::from(piece), piece.len() < PIECE_BYTES);
                *from += piece.len();
                *pulls -= 1;
                let next = (*pulls > 0).then_some(START_NS);
                if last {
                    self.0.remove(&id);
                }
                (Some(SaverDone::Piece { id, bytes, last }), next)
            }
            Some(Saver::Save { replacement, encoding }) => {
                if !std::mem::take(encoding)
                    && let Err(error) = disk.replacement_step(replacement)
                {
                    self.0.remove(&id);
                    return (Some(SaverDone::Saved { id, result: Err(error) }), None);
                }
                if let Some(takes) = disk.replacement_takes(replacement) {
                    return (None, Some(takes));
                }
                let result = Ok(replacement.len);
                self.0.remove(&id);
                (Some(SaverDone::Saved { id, result }), None)
            }
        }
    }
}

impl Saver {
    /// Begins with the next piece.
    fn begin(&mut self) -> Option<Nanos> {
        match self {
            Self::Stream { encoder, format, made, .. } => {
                let keys = encoder.keys_done();
                let piece = encoder.next_chunk(PIECE_BYTES);
                let keys = encoder.keys_done() - keys;
                let takes = START_NS + encoding(piece.bytes.len()) + delay(*format, keys);
                *made = Some((piece.bytes, piece.last));
                Some(takes)
            }
            Self::File { .. } => Some(START_NS),
            Self::Save { .. } => None,
        }
    }
}

fn encoding(bytes: usize) -> Nanos {
    bytes as u64 * 1000 / BYTES_PER_US
}

/// What `rdb-key-save-delay` says for so many keys.
fn delay(format: SnapshotFormat, keys: u64) -> Nanos {
    let delay = format.key_delay_us;
    let us = if delay >= 0 { keys.saturating_mul(delay.unsigned_abs()) } else { keys / delay.unsigned_abs() };
    us * 1000
}
