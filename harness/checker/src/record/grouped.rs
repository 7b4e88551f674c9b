//! A run's operations by key, as the `linear` room takes them and `history.bin` keeps them.

use std::io::{self, Write};

use super::Record;
use super::bin::{BinKind, BinOp, write_group, write_header};
use super::objects::{Converted, Converter, Object, Part, parts};
use crate::linear::{Counter, List, Queue, Register, Set};

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
    Registers(Vec<KeyHistory<Register>>),
    Counters(Vec<KeyHistory<Counter>>),
    Queues(Vec<KeyHistory<Queue>>),
}

impl Grouped {
    /// Groups a record. None if its keys are of several kinds (`mixed`), or of one that has no records of a fixed size.
    pub fn of(record: &Record) -> Option<Self> {
        let parts = parts(record);
        let object = parts.first()?.object;
        if parts.iter().any(|part| part.object != object) {
            return None;
        }
        let converter = Converter::trusting(record);
        Some(match object {
            Object::Set => Self::Sets(group(record, &parts, |part| converter.set(&part.ops))),
            Object::List => Self::Lists(group(record, &parts, |part| converter.list(&part.ops))),
            Object::Register => Self::Registers(group(record, &parts, |part| converter.register(&part.ops))),
            Object::Counter => Self::Counters(group(record, &parts, |part| converter.counter(&part.ops))),
            Object::Queue => Self::Queues(group(record, &parts, |part| converter.queue(part.key, &part.ops))),
            _ => return None,
        })
    }

    /// Writes `history.bin`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Sets(keys) => write_keys(out, keys),
            Self::Lists(keys) => write_keys(out, keys),
            Self::Registers(keys) => write_keys(out, keys),
            Self::Counters(keys) => write_keys(out, keys),
            Self::Queues(keys) => write_keys(out, keys),
        }
    }
}

fn group<K>(record: &Record, parts: &[Part], convert: impl Fn(&Part) -> Converted<K>) -> Vec<KeyHistory<K>> {
    let of_part = |part: &Part| {
        let Converted { ops, from, elements } = convert(part);
        let node = |number: u32| record.ops[number as usize].node.map_or(0, |node| node.0.saturating_add(1));
        let ops = ops.into_iter().zip(from).map(|(op, from)| BinOp { op, node: node(from) }).collect();
        KeyHistory { key: record.key(part.key).name.clone(), ops, elements }
    };
    parts.iter().map(of_part).collect()
}

fn write_keys<K: BinKind>(out: &mut impl Write, keys: &[KeyHistory<K>]) -> io::Result<()> {
    write_header::<K>(out)?;
    keys.iter().try_for_each(|key| write_group(out, key.key.as_bytes(), &key.ops, &key.elements))
}
