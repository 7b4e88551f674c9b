//! Transactions in a `history.bin`: a record is a transaction, its steps are elements.
//!
//! ```text
//! a step    kind << 32 | key, then:
//!   0 write              the value
//!   1 read of a list     the number of elements, and these
//!   2 read of a register the value
//!   3 read of a register that was nil
//!   4 read of which nobody knows what it saw
//! ```
//!
//! Keys are numbers of the group's own.

use std::collections::BTreeMap;

use super::{BinKind, Group};
use crate::linear::{Op, Status};
use crate::txn::{MicroOp, Objects, Outcome, Span, TxnHistory};

/// A transaction: its steps are `elements[start..][..len]`. `REGISTERS` says what the keys hold; else they hold lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BinTxn<const REGISTERS: bool> {
    pub start: u64,
    pub len: u32,
}

impl<const REGISTERS: bool> BinKind for BinTxn<REGISTERS> {
    const OBJECT: u32 = if REGISTERS { 12 } else { 11 };

    fn encode(self) -> (u8, u64, u64) {
        (0, self.start, u64::from(self.len))
    }

    fn decode(kind: u8, a: u64, b: u64) -> Option<Self> {
        Some(Self { start: a, len: u32::try_from(b).ok().filter(|_| kind == 0)? })
    }

    fn elements(self) -> Option<(u64, u64)> {
        Some((self.start, u64::from(self.len)))
    }
}

/// Writes transactions as records.
#[derive(Debug, Default)]
pub struct Steps {
    pub elements: Vec<u64>,
}

impl Steps {
    /// The transaction of these steps. None: it is too long for a record.
    pub fn txn<'a, const REGISTERS: bool>(
        &mut self,
        micros: impl IntoIterator<Item = MicroOp<'a>>,
    ) -> Option<BinTxn<REGISTERS>> {
        let start = self.elements.len();
        for micro in micros {
            match micro {
                MicroOp::Write { key, value } => self.elements.extend([u64::from(key), value]),
                MicroOp::ReadList { key, elements } => {
                    self.elements.extend([1 << 32 | u64::from(key), elements.len() as u64]);
                    self.elements.extend_from_slice(elements);
                }
                MicroOp::ReadRegister { key, value: Some(value) } => {
                    self.elements.extend([2 << 32 | u64::from(key), value]);
                }
                MicroOp::ReadRegister { key, value: None } => self.elements.push(3 << 32 | u64::from(key)),
                MicroOp::ReadUnknown { key } => self.elements.push(4 << 32 | u64::from(key)),
            }
        }
        let len = u32::try_from(self.elements.len() - start).ok()?;
        Some(BinTxn { start: start as u64, len })
    }
}

impl<const REGISTERS: bool> Group<BinTxn<REGISTERS>> {
    /// The group as the `txn` room takes it. None: steps are not what they should be.
    pub fn history(&self) -> Option<TxnHistory> {
        let mut history = TxnHistory::new(if REGISTERS { Objects::Registers } else { Objects::Lists });
        let mut keys: BTreeMap<u32, u32> = BTreeMap::new();
        for op in &self.ops {
            let steps = steps::<REGISTERS>(self.words(op), &mut keys)?;
            history.push(span(op), steps);
        }
        let mut names = vec![String::new(); keys.len()];
        for (number, key) in keys {
            names[key as usize] = format!("k{number}");
        }
        history.name_keys(names);
        Some(history)
    }

    fn words(&self, op: &Op<BinTxn<REGISTERS>>) -> &[u64] {
        &self.elements[op.kind.start as usize..][..op.kind.len as usize]
    }
}

fn span<K>(op: &Op<K>) -> Span {
    let outcome = match op.status {
        Status::Done => Outcome::Ok,
        Status::Unknown => Outcome::Info,
        Status::Failed => Outcome::Fail,
    };
    Span { process: op.process, invoked: op.call, returned: op.ret, outcome }
}

/// `keys` numbers the keys without gaps, so that memory follows what is there.
fn steps<'a, const REGISTERS: bool>(
    mut words: &'a [u64],
    keys: &mut BTreeMap<u32, u32>,
) -> Option<Vec<MicroOp<'a>>> {
    let mut steps = Vec::new();
    while let [head, rest @ ..] = words {
        let next = keys.len() as u32;
        let key = *keys.entry(*head as u32).or_insert(next);
        let (step, rest) = match (head >> 32, REGISTERS) {
            (0, _) => {
                let (&value, rest) = rest.split_first()?;
                (MicroOp::Write { key, value }, rest)
            }
            (1, false) => {
                let (&count, rest) = rest.split_first()?;
                let (elements, rest) = rest.split_at_checked(usize::try_from(count).ok()?)?;
                (MicroOp::ReadList { key, elements }, rest)
            }
            (2, true) => {
                let (&value, rest) = rest.split_first()?;
                (MicroOp::ReadRegister { key, value: Some(value) }, rest)
            }
            (3, true) => (MicroOp::ReadRegister { key, value: None }, rest),
            (4, _) => (MicroOp::ReadUnknown { key }, rest),
            _ => return None,
        };
        steps.push(step);
        words = rest;
    }
    Some(steps)
}
