//! Turns a snapshot of the keyspace into RDB bytes, a piece at a time: for a full resync, `dump.rdb` and the base
//! of an AOF. Resumable between any two elements, so a piece costs what it holds.

use std::sync::Arc;

use super::listpack::ListpackWriter;
use super::stream::put_stream;
use super::write::{put_aux, put_database, put_header, put_integer_string, put_key, put_len, put_string};
use super::{crc64, opcode, value_type};
use crate::io::WallMs;
use crate::keyspace::{Element, SLOTS, Slot, Snapshot, ValueView, ZsetView, score};
use crate::replication::RdbIdentity;

/// The version of Redis that the file claims to be from; what it can hold is that version's.
const REDIS_VERSION: &str = "7.0.15";

/// What a snapshot is made for; decides its auxiliary fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotUse {
    /// A file of its own or a full resync.
    Rdb,
    /// The base file of an AOF.
    AofBase,
}

/// The auxiliary fields of a snapshot: `replication` is what `Replication::rdb_identity` says at that moment.
pub fn aux_fields(
    used_for: SnapshotUse,
    wall: WallMs,
    used_memory: usize,
    replication: Option<RdbIdentity<'_>>,
) -> Vec<(String, String)> {
    let mut fields = vec![
        ("redis-ver", REDIS_VERSION.to_owned()),
        ("redis-bits", "64".to_owned()),
        ("ctime", (wall.0 / 1000).to_string()),
        ("used-mem", used_memory.to_string()),
    ];
    if let Some(RdbIdentity { id, offset, stream_db }) = replication {
        fields.push(("repl-stream-db", stream_db.to_string()));
        fields.push(("repl-id", id.to_owned()));
        fields.push(("repl-offset", offset.to_string()));
    }
    let aof_base = if used_for == SnapshotUse::AofBase { "1" } else { "0" };
    fields.push(("aof-base", aof_base.to_owned()));
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// One piece of an RDB file.
#[derive(Clone, Debug)]
pub struct SnapshotPiece {
    /// The bytes.
    pub bytes: Arc<[u8]>,
    /// True for the piece that ends the file.
    pub last: bool,
}

/// A snapshot on its way to becoming an RDB file.
#[derive(Debug)]
pub struct SnapshotEncoder {
    snapshot: Snapshot,
    aux: Vec<(String, String)>,
    position: Position,
    /// Bytes made and not yet given out.
    pending: Vec<u8>,
    crc: u64,
}

#[derive(Clone, Copy, Debug)]
enum Position {
    Start,
    /// `element`: parts of the key's value that are written; none: not even its head is.
    Key {
        /// Index among the snapshot's databases.
        database: usize,
        slot: usize,
        rank: usize,
        element: Option<usize>,
    },
    Done,
}

impl SnapshotEncoder {
    /// Begins with the given auxiliary fields; see [`aux_fields`].
    pub const fn new(snapshot: Snapshot, aux: Vec<(String, String)>) -> Self {
        Self { snapshot, aux, position: Position::Start, pending: Vec::new(), crc: 0 }
    }

    /// The next piece, at most `max_bytes` long (at least 1). Nothing may be asked for after the last one.
    pub fn next_chunk(&mut self, max_bytes: usize) -> SnapshotPiece {
        let max_bytes = max_bytes.max(1);
        while self.pending.len() < max_bytes && !matches!(self.position, Position::Done) {
            let before = self.pending.len();
            self.position = self.advance(max_bytes);
            self.crc = crc64(self.crc, &self.pending[before..]);
            if matches!(self.position, Position::Done) {
                self.pending.extend_from_slice(&self.crc.to_le_bytes());
            }
        }
        let len = self.pending.len().min(max_bytes);
        let bytes = Arc::from(&self.pending[..len]);
        self.pending.drain(..len);
        SnapshotPiece { bytes, last: self.pending.is_empty() && matches!(self.position, Position::Done) }
    }

    /// Appends records until the buffer holds about `max_bytes`; gives where to go on.
    fn advance(&mut self, max_bytes: usize) -> Position {
        let out = &mut self.pending;
        let (first_database, mut first_slot, mut first_rank, mut first_element) = match self.position {
            Position::Start => {
                put_header(out);
                for (name, value) in &self.aux {
                    put_aux(out, name.as_bytes(), value.as_bytes());
                }
                (0, 0, 0, None)
            }
            Position::Key { database, slot, rank, element } => (database, slot, rank, element),
            Position::Done => return Position::Done,
        };
        let databases = self.snapshot.databases().iter().enumerate().skip(first_database);
        for (database, keys) in databases {
            if (first_slot, first_rank, first_element) == (0, 0, None) {
                put_database(out, keys.number(), keys.len() as u64, keys.expiring() as u64);
            }
            for slot in first_slot..SLOTS {
                for (rank, entry) in (first_rank..).zip(keys.slot_iter_from(Slot(slot as u16), first_rank)) {
                    let written = first_element.take().unwrap_or_else(|| {
                        put_key(out, entry.key, entry.expire_at.map(|at| at.0), type_of(entry.value));
                        put_count(out, entry.value);
                        0
                    });
                    if let Some(element) = put_elements(out, entry.value, written, max_bytes) {
                        return Position::Key { database, slot, rank, element: Some(element) };
                    }
                    if out.len() >= max_bytes {
                        return Position::Key { database, slot, rank: rank + 1, element: None };
                    }
                }
                first_rank = 0;
            }
            first_slot = 0;
        }
        out.push(opcode::END);
        Position::Done
    }
}

/// The type byte with which a value is written.
pub(super) const fn type_of(value: ValueView<'_>) -> u8 {
    match value {
        ValueView::String(_) => value_type::STRING,
        ValueView::List(_) => value_type::LIST,
        ValueView::Set(_) => value_type::SET,
        ValueView::Hash(_) => value_type::HASH,
        ValueView::Zset(zset) if zset.is_packed() => value_type::ZSET_LISTPACK,
        ValueView::Zset(_) => value_type::ZSET_2,
        ValueView::Stream(_) => value_type::STREAM_LISTPACKS_2,
    }
}

/// Appends the number of elements, for values that have one.
pub(super) fn put_count(out: &mut Vec<u8>, value: ValueView<'_>) {
    match value {
        ValueView::String(_) => {}
        ValueView::List(list) => put_len(out, list.len() as u64),
        ValueView::Set(set) => put_len(out, set.len() as u64),
        ValueView::Hash(hash) => put_len(out, hash.len() as u64),
        ValueView::Zset(zset) if zset.is_packed() => {}
        ValueView::Zset(zset) => put_len(out, zset.len() as u64),
        ValueView::Stream(stream) => put_len(out, stream.node_count() as u64),
    }
}

/// Appends elements from `from` on; gives where it stopped because the buffer holds `max_bytes`.
pub(super) fn put_elements(
    out: &mut Vec<u8>,
    value: ValueView<'_>,
    from: usize,
    max_bytes: usize,
) -> Option<usize> {
    match value {
        ValueView::String(string) => {
            put_element(out, string);
            None
        }
        ValueView::List(list) => put_until(out, from, max_bytes, list.iter_from(from), |out, element| {
            put_string(out, element);
        }),
        ValueView::Set(set) => put_until(out, from, max_bytes, set.iter_from(from), put_element),
        ValueView::Hash(hash) => {
            put_until(out, from, max_bytes, hash.iter_from(from), |out, (field, value)| {
                put_string(out, field);
                put_string(out, value);
            })
        }
        ValueView::Zset(zset) if zset.is_packed() => {
            put_string(out, &zset_listpack(zset));
            None
        }
        ValueView::Zset(zset) => {
            put_until(out, from, max_bytes, zset.iter_back(from), |out, (member, score)| {
                put_string(out, member);
                out.extend_from_slice(&score.to_le_bytes());
            })
        }
        ValueView::Stream(stream) => put_stream(out, stream, from, max_bytes, &put_string),
    }
}

/// A small sorted set as Redis holds it: members and scores, ascending.
pub(super) fn zset_listpack(zset: ZsetView<'_>) -> Vec<u8> {
    let mut packed = ListpackWriter::new();
    for (member, score) in zset.iter_from(0) {
        packed.push(member);
        packed.push(score::text_packed(score).as_bytes());
    }
    packed.finish()
}

fn put_element(out: &mut Vec<u8>, element: Element<'_>) {
    match element {
        Element::Bytes(bytes) => put_string(out, bytes),
        Element::Int(int) => put_integer_string(out, int),
    }
}

fn put_until<T>(
    out: &mut Vec<u8>,
    from: usize,
    max_bytes: usize,
    elements: impl Iterator<Item = T>,
    mut put: impl FnMut(&mut Vec<u8>, T),
) -> Option<usize> {
    for (index, element) in elements.enumerate() {
        if out.len() >= max_bytes {
            return Some(from + index);
        }
        put(out, element);
    }
    None
}
