//! Locks with fencing tokens.

use super::{Converted, Converter};
use crate::linear::Lease;
use crate::record::{OpKind, Outcome};

const NANOS_PER_MILLI: u64 = 1_000_000;

impl Converter<'_> {
    pub fn lease(&self, ops: &[u32]) -> Converted<Lease> {
        self.each(ops, |op, outcome| match (op.kind, outcome) {
            // A grant that nobody answered has no token; its fence leaves a gap.
            (OpKind::Acquire, Outcome::Ok) => {
                let ttl_nanos = op.asked().items().get(1)?.number()?.saturating_mul(NANOS_PER_MILLI);
                Some(Lease::Grant { token: op.answer().number()?, ttl_nanos })
            }
            (OpKind::Release, _) => {
                let token = op.asked().items().get(1)?.number()?;
                let told_no = outcome == Outcome::Ok && op.answer().int() == Some(0);
                (!told_no).then_some(Lease::Release { token })
            }
            (OpKind::Guarded, Outcome::Ok) => {
                let token = op.asked().number()?;
                Some(if op.answer().int() == Some(0) {
                    Lease::Rejected { token }
                } else {
                    Lease::Accepted { token }
                })
            }
            (OpKind::Guarded, _) => Some(Lease::Accepted { token: op.asked().number()? }),
            _ => None,
        })
    }
}
