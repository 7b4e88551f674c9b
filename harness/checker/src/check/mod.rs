//! The checks, one file each, and the index of writes and reads that several of them share.

pub mod availability;
pub mod candidates;
mod claims;
pub mod collisions;
pub mod consistency;
pub mod convergence;
pub mod elements;
mod erasure;
pub mod invariants;
pub mod lost_writes;
pub mod members;
mod migration;
pub mod proofs;

mod rules;
pub mod split_brain;
mod torn;
pub mod wire;

use crate::record::{KeyId, Nanos, OpKind, Operation, Outcome, Record};

/// How many findings of one kind are listed; the rest is only counted.
pub const LISTED: usize = 100;

/// Writes by element, operations by key, and which read first saw what.
#[derive(Debug)]
pub struct Index {
    elements: Elements,
    /// By key: writes of growing sets and lists and their reads, as indexes into the record's operations, in the order of
    /// invocation.
    pub writes: Vec<Vec<u32>>,
    pub reads: Vec<Vec<u32>>,
    /// By key: the last ok final read.
    pub final_read: Vec<Option<u32>>,
    /// By operation: the completion of the first ok read that saw its element, and that read.
    first_seen: Vec<(Nanos, u32)>,
    /// By operation: its element is in its key's final read.
    in_final: Vec<bool>,
    /// By operation, close together since whatever a read saw is looked up here: key, invocation, certainly failed.
    brief: Vec<Brief>,
    /// Elements that were written more than once: the harness' mistake, and nothing can be judged.
    pub written_twice: Vec<u64>,
}

impl Index {
    /// Builds it in one pass over the operations and one over what reads saw.
    pub fn of(record: &Record) -> Self {
        let keys = record.keys.len();
        let (elements, written_twice) = Elements::of(&record.ops);
        let mut index = Self {
            elements,
            writes: vec![Vec::new(); keys],
            reads: vec![Vec::new(); keys],
            final_read: vec![None; keys],
            first_seen: vec![(Nanos::MAX, 0); record.ops.len()],
            in_final: vec![false; record.ops.len()],
            brief: record
                .ops
                .iter()
                .map(|op| Brief { invoked: op.invoked, key: op.key, failed: op.outcome == Outcome::Fail })
                .collect(),
            written_twice,
        };
        for (number, op) in record.ops.iter().enumerate() {
            let key = op.key.0 as usize;
            if op.kind.grows() {
                index.writes[key].push(number as u32);
            } else if op.kind == OpKind::Read && op.outcome == Outcome::Ok {
                index.reads[key].push(number as u32);
                if op.is_final {
                    index.final_read[key] = Some(number as u32);
                }
            }
        }
        for (number, op) in record.ops.iter().enumerate() {
            let (Some(elements), Some(completed)) = (op.elements(), op.completed) else { continue };
            let is_last = index.final_read[op.key.0 as usize] == Some(number as u32);
            for &element in elements {
                let Some(write) = index.elements.find(element) else { continue };
                if index.brief[write as usize].key != op.key {
                    continue;
                }
                let seen = &mut index.first_seen[write as usize];
                *seen = (*seen).min((completed, number as u32));
                index.in_final[write as usize] |= is_last;
            }
        }
        index
    }

    /// The write of an element, as an index into the record's operations.
    pub fn write_of(&self, element: u64) -> Option<u32> {
        self.elements.find(element)
    }

    /// What every sighting of a write is held against.
    pub(crate) fn brief(&self, write: u32) -> Brief {
        self.brief[write as usize]
    }

    /// The first ok read that saw this write: its completion, and itself.
    pub fn first_seen(&self, write: u32) -> Option<(Nanos, u32)> {
        Some(self.first_seen[write as usize]).filter(|(time, _)| *time != Nanos::MAX)
    }

    /// True if the write's element is in the final read of its key.
    pub fn in_final(&self, write: u32) -> bool {
        self.in_final[write as usize]
    }

    /// From when on the write is known to have happened: its ok completion, or the first ok read that saw it.
    pub fn known_since(&self, record: &Record, write: u32) -> Option<Nanos> {
        let op = &record.ops[write as usize];
        let seen = self.first_seen(write).map(|(time, _)| time);
        match op.outcome {
            Outcome::Ok => Some(op.latest_effect().min(seen.unwrap_or(Nanos::MAX))),
            Outcome::Info => seen,
            Outcome::Fail => None,
        }
    }
}

/// What every sighting of a write is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brief {
    pub invoked: Nanos,
    pub key: KeyId,
    pub failed: bool,
}

/// From element to write: a table if the elements are dense, else a sorted list.
#[derive(Debug)]
enum Elements {
    Table(Vec<u32>),
    Sorted(Vec<(u64, u32)>),
}

impl Elements {
    fn of(ops: &[Operation]) -> (Self, Vec<u64>) {
        let mut sorted: Vec<(u64, u32)> = ops
            .iter()
            .enumerate()
            .filter(|(_, op)| op.kind.writes())
            .filter_map(|(number, op)| Some((op.value?, number as u32)))
            .collect();
        sorted.sort_unstable();
        let mut twice: Vec<u64> =
            sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].0).collect();
        twice.dedup();
        let largest = sorted.last().map_or(0, |&(element, _)| element);
        if largest / 4 > sorted.len() as u64 + 1024 {
            return (Self::Sorted(sorted), twice);
        }
        let mut table = vec![u32::MAX; largest as usize + 1];
        for &(element, number) in sorted.iter().rev() {
            table[element as usize] = number;
        }
        (Self::Table(table), twice)
    }

    fn find(&self, element: u64) -> Option<u32> {
        match self {
            Self::Table(table) => usize::try_from(element)
                .ok()
                .and_then(|at| table.get(at))
                .copied()
                .filter(|&number| number != u32::MAX),
            Self::Sorted(sorted) => {
                let at = sorted.partition_point(|&(other, _)| other < element);
                sorted.get(at).filter(|&&(other, _)| other == element).map(|&(_, number)| number)
            }
        }
    }
}
