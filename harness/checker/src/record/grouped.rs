//! A run's operations by key, as the `linear` room takes them and `history.bin` keeps them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::bin::{BinKind, BinOp, write_group, write_header};
use super::{OpKind, Operation, Outcome, Record};
use crate::linear::{List, NEVER, Op, Set, Status};

/// One key's operations, in the order of their invocations, and what its reads saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHistory<K> {
    pub key: String,
    pub ops: Vec<BinOp<K>>,
    pub elements: Vec<u64>,
}

/// All keys' histories, by the object that the run's workload used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouped {
    Sets(Vec<KeyHistory<Set>>),
    Lists(Vec<KeyHistory<List>>),
}

impl Grouped {
    /// Groups a record. None without a write, or if sets and lists are mixed. Elements that are none of the harness' are
    /// left out: the check of elements has them.
    pub fn of(record: &Record) -> Option<Self> {
        let wrote = |kind: OpKind| record.ops.iter().any(|op| op.kind == kind);
        match (wrote(OpKind::Add), wrote(OpKind::Append)) {
            (true, false) => Some(Self::Sets(group(record, |op, start, len| match op.kind {
                OpKind::Read => Set::Read { start, len },
                OpKind::Add | OpKind::Append => Set::Add(op.value.unwrap_or_default()),
            }))),
            (false, true) => Some(Self::Lists(group(record, |op, start, len| match op.kind {
                OpKind::Read => List::Read { start, len },
                OpKind::Add | OpKind::Append => {
                    let length = op.reply.and_then(|length| u32::try_from(length).ok()).unwrap_or(0);
                    List::Append { element: op.value.unwrap_or_default(), length }
                }
            }))),
            _ => None,
        }
    }

    /// Writes `history.bin`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Sets(keys) => write_keys(out, keys),
            Self::Lists(keys) => write_keys(out, keys),
        }
    }
}

fn group<K>(record: &Record, kind: impl Fn(&Operation, u64, u32) -> K) -> Vec<KeyHistory<K>> {
    let mut keys: Vec<KeyHistory<K>> = record
        .keys
        .iter()
        .map(|key| KeyHistory { key: key.name.clone(), ops: Vec::new(), elements: Vec::new() })
        .collect();
    // Speakers that are no clients have numbers of 64 bits.
    let mut processes = BTreeMap::new();
    for op in &record.ops {
        let known = processes.len() as u32;
        let process = *processes.entry(op.process).or_insert(known);
        let history = &mut keys[op.key.0 as usize];
        let seen = op.elements().unwrap_or_default();
        let kind = kind(op, history.elements.len() as u64, seen.len() as u32);
        history.elements.extend_from_slice(seen);
        let (status, ret) = match (op.outcome, op.completed) {
            (Outcome::Ok, Some(at)) => (Status::Done, at),
            (Outcome::Fail, Some(at)) => (Status::Failed, at),
            _ => (Status::Unknown, NEVER),
        };
        let node = op.node.map_or(0, |node| node.0.saturating_add(1));
        history.ops.push(BinOp { op: Op { call: op.invoked, ret, process, status, kind }, node });
    }
    keys
}

fn write_keys<K: BinKind>(out: &mut impl Write, keys: &[KeyHistory<K>]) -> io::Result<()> {
    write_header::<K>(out)?;
    keys.iter().try_for_each(|key| write_group(out, key.key.as_bytes(), &key.ops, &key.elements))
}
