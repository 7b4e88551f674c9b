//! Registers: plain, with times to live, and several keys that are one.

use super::{Converted, Converter, value};
use crate::linear::{Expiring, NIL, Register};
use crate::record::{OpKind, Outcome};

const NANOS_PER_MILLI: u64 = 1_000_000;

impl Converter<'_> {
    pub fn register(&self, ops: &[u32]) -> Converted<Register> {
        self.each(ops, |op, outcome| match (op.kind, outcome) {
            (OpKind::Get, Outcome::Ok) => Some(Register::Read(value(op.answer()))),
            (OpKind::Write, _) => Some(Register::Write(value(op.asked()))),
            (OpKind::Swap, Outcome::Ok) => {
                Some(Register::Swap { to: value(op.asked()), seen: value(op.answer()) })
            }
            (OpKind::Swap, _) => Some(Register::Write(value(op.asked()))),
            (OpKind::Cas, _) => {
                let [from, to] = op.asked().items() else { return None };
                let (from, to) = (value(from), value(to));
                let seen = value(op.answer());
                Some(if outcome == Outcome::Ok && seen != from {
                    Register::CasLost { from, seen }
                } else {
                    Register::Cas { from, to }
                })
            }
            _ => None,
        })
    }

    pub fn expiring(&self, ops: &[u32]) -> Converted<Expiring> {
        self.each(ops, |op, outcome| match (op.kind, outcome) {
            (OpKind::Get, Outcome::Ok) => Some(Expiring::Read(value(op.answer()))),
            (OpKind::WriteFor, _) => {
                let [element, millis] = op.asked().items() else { return None };
                let ttl_nanos = millis.number()?.saturating_mul(NANOS_PER_MILLI);
                Some(Expiring::Write { value: value(element), ttl_nanos })
            }
            _ => None,
        })
    }

    /// Keys that are written together as one register, and the reads that saw different elements in them.
    pub fn together(&self, ops: &[u32]) -> (Converted<Register>, Vec<u32>) {
        let mut halves = Vec::new();
        let mut at = ops.iter();
        let converted = self.each(ops, |op, outcome| {
            let number = *at.next()?;
            match (op.kind, outcome) {
                (OpKind::WriteAll, _) => Some(Register::Write(value(op.asked()))),
                (OpKind::GetAll, Outcome::Ok) => {
                    let seen: Vec<u64> = op.answer().items().iter().map(value).collect();
                    let first = seen.first().copied().unwrap_or(NIL);
                    if seen.iter().any(|&other| other != first) {
                        halves.push(number);
                        return None;
                    }
                    Some(Register::Read(first))
                }
                _ => None,
            }
        });
        (converted, halves)
    }
}

impl Converted<Register> {
    /// A read that saw half of a write, as one of a value that nobody wrote.
    pub fn push_half(&mut self, converter: &Converter<'_>, half: u32) {
        let seen = value(converter.op(half).answer());
        self.push(converter.as_op(half, Register::Read(seen)), half);
    }
}
