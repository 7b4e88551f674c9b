//! A snapshot as commands: the base of an AOF when `aof-use-rdb-preamble` is off. The commands and their batches
//! are those of Redis' own rewrite.

use super::stream_commands::put_stream;
use crate::keyspace::{Element, SLOTS, Slot, Snapshot, SnapshotKey, ValueView, score};
use crate::replication::commands::write_command;

/// Elements of one command at most, as Redis has it.
const BATCH_ELEMENTS: usize = 64;

/// A snapshot on its way to becoming commands.
#[derive(Debug)]
pub struct CommandsEncoder {
    snapshot: Snapshot,
    /// Index among the databases, slot and rank of the next key, and its elements that are written; none at the end.
    position: Option<(usize, usize, usize, usize)>,
    selected: Option<u32>,
    annotate_s: Option<u64>,
    keys_done: u64,
    libraries_done: bool,
}

impl CommandsEncoder {
    /// Begins with the first key, behind an annotation of the time if one is given (Unix seconds).
    pub const fn new(snapshot: Snapshot, annotate_s: Option<u64>) -> Self {
        Self {
            snapshot,
            position: Some((0, 0, 0, 0)),
            selected: None,
            annotate_s,
            keys_done: 0,
            libraries_done: false,
        }
    }

    /// Keys that are written.
    pub const fn keys_done(&self) -> u64 {
        self.keys_done
    }

    /// Appends to `out` until it holds `max_bytes` or a little more, up to one command; true at the end.
    pub fn fill(&mut self, out: &mut Vec<u8>, max_bytes: usize) -> bool {
        let Some((first_database, mut first_slot, mut first_rank, mut written)) = self.position else {
            return true;
        };
        if let Some(second) = self.annotate_s.take() {
            out.extend_from_slice(format!("#TS:{second}\r\n").as_bytes());
        }
        if !std::mem::replace(&mut self.libraries_done, true) {
            for library in self.snapshot.libraries() {
                write_command(out, &[&b"FUNCTION"[..], b"LOAD", library]);
            }
        }
        for (database, keys) in self.snapshot.databases().iter().enumerate().skip(first_database) {
            if self.selected != Some(keys.number()) {
                self.selected = Some(keys.number());
                write_command(out, &["SELECT", &keys.number().to_string()]);
            }
            for slot in first_slot..SLOTS {
                for (rank, entry) in (first_rank..).zip(keys.slot_iter_from(Slot(slot as u16), first_rank)) {
                    loop {
                        if out.len() >= max_bytes {
                            self.position = Some((database, slot, rank, written));
                            return false;
                        }
                        match put_batch(out, &entry, written) {
                            Some(next) => written = next,
                            None => break,
                        }
                    }
                    if let Some(at) = entry.expire_at {
                        write_command(out, &[b"PEXPIREAT", entry.key, at.0.to_string().as_bytes()]);
                    }
                    written = 0;
                    self.keys_done += 1;
                }
                first_rank = 0;
            }
            first_slot = 0;
        }
        self.position = None;
        true
    }
}

/// Appends one command with elements from `from` on; gives where to go on, or nothing if that was all.
fn put_batch(out: &mut Vec<u8>, entry: &SnapshotKey<'_>, from: usize) -> Option<usize> {
    let mut args = vec![Vec::new(), entry.key.to_vec()];
    let text = |element: Element<'_>| element.with(<[u8]>::to_vec);
    let (name, len) = match entry.value {
        ValueView::String(string) => {
            args.push(text(string));
            ("SET", 0)
        }
        ValueView::List(list) => {
            args.extend(list.iter_from(from).take(BATCH_ELEMENTS).map(<[u8]>::to_vec));
            ("RPUSH", list.len())
        }
        ValueView::Set(set) => {
            args.extend(set.iter_from(from).take(BATCH_ELEMENTS).map(text));
            ("SADD", set.len())
        }
        ValueView::Hash(hash) => {
            for (field, value) in hash.iter_from(from).take(BATCH_ELEMENTS) {
                args.extend([field.to_vec(), value.to_vec()]);
            }
            ("HMSET", hash.len())
        }
        ValueView::Zset(zset) => {
            for (member, number) in zset.iter_from(from).take(BATCH_ELEMENTS) {
                args.extend([score::text_17g(number).into_bytes(), member.to_vec()]);
            }
            ("ZADD", zset.len())
        }
        ValueView::Stream(stream) => {
            // In one go, however long: its entries cannot be counted off by rank.
            put_stream(out, entry.key, stream);
            return None;
        }
    };
    args[0] = name.into();
    write_command(out, &args);
    let next = from + BATCH_ELEMENTS;
    (next < len).then_some(next)
}
