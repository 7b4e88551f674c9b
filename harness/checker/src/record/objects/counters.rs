//! Counters, at their masters and at replicas.

use super::{Converted, Converter};
use crate::linear::{Counter, SILENT, Session};
use crate::record::{OpKind, Outcome};

impl Converter<'_> {
    /// A counter that only counts down is the same as one that counts up, with the signs turned: that is exact without a
    /// search.
    pub fn counter(&self, ops: &[u32]) -> Converted<Counter> {
        let has = |kind: OpKind| ops.iter().any(|&at| self.op(at).kind == kind);
        let sign = if has(OpKind::Decrement) && !has(OpKind::Increment) { -1 } else { 1 };
        self.each(ops, |op, outcome| {
            let answer = op.answer().int();
            let by = match op.kind {
                OpKind::Increment => sign,
                OpKind::Decrement => -sign,
                OpKind::Count if outcome == Outcome::Ok => {
                    return Some(Counter::Get(answer.unwrap_or(0).saturating_mul(sign)));
                }
                _ => return None,
            };
            let reply = answer.filter(|_| outcome == Outcome::Ok).map_or(SILENT, |n| n.saturating_mul(sign));
            Some(Counter::Add { by, reply })
        })
    }

    /// What each client did, and saw at its replica; a process is a client.
    pub fn sessions(&self, ops: &[u32]) -> Converted<Session> {
        let mut converted = self.each(ops, |op, outcome| {
            let count = op.answer().number().filter(|_| outcome == Outcome::Ok);
            match op.kind {
                OpKind::Increment => count.map(Session::Wrote),
                OpKind::CountAtReplica if outcome == Outcome::Ok => Some(Session::Read(count.unwrap_or(0))),
                _ => None,
            }
        });
        for (op, &from) in converted.ops.iter_mut().zip(&converted.from) {
            op.process = self.op(from).client.unwrap_or(op.process);
        }
        converted
    }
}
