//! Turns a snapshot of the keyspace into RDB bytes, a piece at a time: for a full resync, `dump.rdb` and the base
//! of an AOF. Resumable between any two elements, so a piece costs what it holds.

use std::cell::RefCell;
use std::sync::Arc;

use super::dump::put_value;
use super::listpack::ListpackWriter;
use super::stream::put_stream;
use super::write::{StringWriter, put_aux, put_database, put_header, put_integer_string, put_key, put_len};
use super::{crc64, opcode, value_type};
use crate::io::{SnapshotFormat, WallMs};
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
    checksum: bool,
    strings: StringWriter,
    position: Position,
    /// Bytes made and not yet given out.
    pending: Vec<u8>,
    crc: u64,
    keys_done: u64,
}

/// Values of more elements than this are cut between two elements, and written as plain sequences.
const WHOLE_ELEMENTS: usize = 4096;

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
    /// Begins with the given auxiliary fields, see [`aux_fields`], in the default format.
    pub fn new(snapshot: Snapshot, aux: Vec<(String, String)>) -> Self {
        Self::with_format(snapshot, aux, SnapshotFormat::default())
    }

    /// As [`Self::new`], in the given format.
    pub fn with_format(snapshot: Snapshot, aux: Vec<(String, String)>, format: SnapshotFormat) -> Self {
        Self {
            snapshot,
            aux,
            checksum: format.checksum,
            strings: StringWriter::new(if format.compress { usize::MAX } else { 0 }),
            position: Position::Start,
            pending: Vec::new(),
            crc: 0,
            keys_done: 0,
        }
    }

    /// Keys that are written.
    pub const fn keys_done(&self) -> u64 {
        self.keys_done
    }

    /// The next piece, at most `max_bytes` long (at least 1). Nothing may be asked for after the last one.
    pub fn next_chunk(&mut self, max_bytes: usize) -> SnapshotPiece {
        let max_bytes = max_bytes.max(1);
        let mut pending = std::mem::take(&mut self.pending);
        let is_done = pending.len() < max_bytes && self.fill(&mut pending, max_bytes);
        let is_done = is_done || matches!(self.position, Position::Done);
        let len = pending.len().min(max_bytes);
        let bytes = Arc::from(&pending[..len]);
        pending.drain(..len);
        self.pending = pending;
        SnapshotPiece { bytes, last: self.pending.is_empty() && is_done }
    }

    /// Appends to `out` until it holds `max_bytes` or a little more, up to one element; true at the end of the
    /// snapshot. Not to be mixed with [`Self::next_chunk`].
    pub fn fill(&mut self, out: &mut Vec<u8>, max_bytes: usize) -> bool {
        while out.len() < max_bytes && !matches!(self.position, Position::Done) {
            let before = out.len();
            self.position = self.advance(out, max_bytes);
            if self.checksum {
                self.crc = crc64(self.crc, &out[before..]);
            }
            if matches!(self.position, Position::Done) {
                // Without a checksum: 0, which nobody checks.
                out.extend_from_slice(&self.crc.to_le_bytes());
            }
        }
        matches!(self.position, Position::Done)
    }

    /// Appends records until the buffer holds about `max_bytes`; gives where to go on.
    fn advance(&mut self, out: &mut Vec<u8>, max_bytes: usize) -> Position {
        let strings = &mut self.strings;
        let (first_database, mut first_slot, mut first_rank, mut first_element) = match self.position {
            Position::Start => {
                put_header(out);
                for (name, value) in &self.aux {
                    put_aux(out, name.as_bytes(), value.as_bytes());
                }
                for library in self.snapshot.libraries() {
                    out.push(opcode::FUNCTION);
                    strings.put(out, library);
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
                    let whole = is_written_whole(entry.value);
                    let written = first_element.take().unwrap_or_else(|| {
                        let value_type = type_of(entry.value, whole);
                        let expire_at_ms = entry.expire_at.map(|at| at.0);
                        let usage = self.snapshot.told_usage(&entry);
                        put_key(out, entry.key, expire_at_ms, value_type, usage, strings);
                        if !whole {
                            put_count(out, entry.value);
                        }
                        0
                    });
                    if whole {
                        put_value(out, entry.value, strings);
                    } else if let Some(element) = put_elements(out, entry.value, written, max_bytes, strings)
                    {
                        return Position::Key { database, slot, rank, element: Some(element) };
                    }
                    self.keys_done += 1;
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

/// Small enough to be written in Redis' own form in one go.
fn is_written_whole(value: ValueView<'_>) -> bool {
    match value {
        ValueView::String(_) => true,
        ValueView::List(list) => list.len() <= WHOLE_ELEMENTS,
        ValueView::Set(set) => set.len() <= WHOLE_ELEMENTS || set.ints().is_some(),
        ValueView::Hash(hash) => hash.len() <= WHOLE_ELEMENTS || hash.is_packed(),
        ValueView::Zset(zset) => zset.len() <= WHOLE_ELEMENTS || zset.is_packed(),
        // Its form is the same either way.
        ValueView::Stream(_) => false,
    }
}

/// The type byte with which a value is written, `whole` or as a plain sequence of elements.
pub(super) fn type_of(value: ValueView<'_>, whole: bool) -> u8 {
    match value {
        ValueView::String(_) => value_type::STRING,
        ValueView::List(_) if whole => value_type::LIST_QUICKLIST_2,
        ValueView::List(_) => value_type::LIST,
        ValueView::Set(set) if whole && set.ints().is_some() => value_type::SET_INTSET,
        ValueView::Set(_) => value_type::SET,
        ValueView::Hash(hash) if whole && hash.is_packed() => value_type::HASH_LISTPACK,
        ValueView::Hash(_) => value_type::HASH,
        ValueView::Zset(zset) if whole && zset.is_packed() => value_type::ZSET_LISTPACK,
        ValueView::Zset(_) => value_type::ZSET_2,
        ValueView::Stream(_) => value_type::STREAM_LISTPACKS_2,
    }
}

/// Appends the number of elements of a sequence.
fn put_count(out: &mut Vec<u8>, value: ValueView<'_>) {
    match value {
        ValueView::String(_) => {}
        ValueView::List(list) => put_len(out, list.len() as u64),
        ValueView::Set(set) => put_len(out, set.len() as u64),
        ValueView::Hash(hash) => put_len(out, hash.len() as u64),
        ValueView::Zset(zset) => put_len(out, zset.len() as u64),
        ValueView::Stream(stream) => put_len(out, stream.node_count() as u64),
    }
}

/// Appends elements from `from` on; gives where it stopped because the buffer holds `max_bytes`.
fn put_elements(
    out: &mut Vec<u8>,
    value: ValueView<'_>,
    from: usize,
    max_bytes: usize,
    strings: &mut StringWriter,
) -> Option<usize> {
    match value {
        ValueView::String(string) => {
            put_element(out, string, strings);
            None
        }
        ValueView::List(list) => put_until(out, from, max_bytes, list.iter_from(from), |out, element| {
            strings.put(out, element);
        }),
        ValueView::Set(set) => put_until(out, from, max_bytes, set.iter_from(from), |out, element| {
            put_element(out, element, strings);
        }),
        ValueView::Hash(hash) => {
            put_until(out, from, max_bytes, hash.iter_from(from), |out, (field, value)| {
                strings.put(out, field);
                strings.put(out, value);
            })
        }
        ValueView::Zset(zset) => {
            put_until(out, from, max_bytes, zset.iter_back(from), |out, (member, score)| {
                strings.put(out, member);
                out.extend_from_slice(&score.to_le_bytes());
            })
        }
        ValueView::Stream(stream) => {
            let strings = RefCell::new(strings);
            put_stream(out, stream, from, max_bytes, &|out, string| strings.borrow_mut().put(out, string))
        }
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

fn put_element(out: &mut Vec<u8>, element: Element<'_>, strings: &mut StringWriter) {
    match element {
        Element::Bytes(bytes) => strings.put(out, bytes),
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
