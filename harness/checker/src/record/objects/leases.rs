//! Locks with fencing tokens.

use std::collections::BTreeSet;

use super::{Converted, Converter};
use crate::linear::{Lease, NEVER, Status};
use crate::record::{OpKind, Outcome};

const NANOS_PER_MILLI: u64 = 1_000_000;

impl Converter<'_> {
    pub fn lease(&self, ops: &[u32]) -> Converted<Lease> {
        let mut converted = self.known(ops);
        // After a takeover that lost a grant its token is granted again. Uses of a token whose grant is in doubt must not be
        // held against that other grant.
        let in_doubt: BTreeSet<u64> = ops
            .iter()
            .filter(|&&at| self.op(at).outcome == Outcome::Ok && self.outcome(at) != Outcome::Ok)
            .filter(|&&at| self.op(at).kind == OpKind::Acquire)
            .filter_map(|&at| self.op(at).answer().number())
            .collect();
        for op in &mut converted.ops {
            if let Lease::Release { token } | Lease::Accepted { token } | Lease::Rejected { token } = op.kind
                && in_doubt.contains(&token)
            {
                (op.status, op.ret) = (Status::Unknown, NEVER);
            }
        }
        converted
    }

    fn known(&self, ops: &[u32]) -> Converted<Lease> {
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
