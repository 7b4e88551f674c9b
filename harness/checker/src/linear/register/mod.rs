//! One register: SET, GET, compare-and-set, `SET .. GET`, DEL.
//!
//! While every written value is unique, each reply names the write that it saw, and the answer needs no search
//! ([`zones`]). Repeated values and deletions lose that, and a compare-and-set that failed without saying what it saw is
//! evidence against orders only: then the bounded [`search`](super::search) decides, along the order that the zones suggest.

mod chains;
mod model;
mod zones;

use super::findings::{Findings, witness};
use super::op::{NIL, Op, Status, numbered};
use super::search::{self, Limits};
use super::values::ValueIndex;
use crate::answer::Answer;
use chains::Chains;
pub use model::RegisterModel;

/// What a compare-and-set that lost without telling saw.
pub const UNSEEN: u64 = u64::MAX - 1;

/// An operation on a register. Values are numbers other than [`NIL`], which is the register's state before any write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Register {
    /// GET answered this.
    Read(u64),
    /// SET.
    Write(u64),
    /// A compare-and-set that won (if the outcome is unknown: would have won). From [`NIL`]: SET NX.
    Cas { from: u64, to: u64 },
    /// A compare-and-set that lost, and the value that it answered, or [`UNSEEN`].
    CasLost { from: u64, seen: u64 },
    /// `SET .. GET`: wrote `to` and answered what was there.
    Swap { to: u64, seen: u64 },
    /// DEL of the key, whatever it held.
    Delete,
}

impl Register {
    /// The value that is there after it.
    pub(super) fn wrote(self) -> Option<u64> {
        match self {
            Self::Write(to) | Self::Cas { to, .. } | Self::Swap { to, .. } => Some(to),
            Self::Delete => Some(NIL),
            Self::Read(_) | Self::CasLost { .. } => None,
        }
    }
}

/// Is there one order of these operations that a register explains?
pub fn register(ops: &[Op<Register>], limits: &Limits<'_>) -> Answer {
    let Some(index) = unique_values(ops) else {
        return search::decide(&RegisterModel::default(), ops, None, limits);
    };
    let mut findings = Findings::default();
    for (id, op) in numbered(ops).filter(|(_, op)| op.status == Status::Done) {
        if let Register::CasLost { from, seen } = op.kind
            && from == seen
        {
            findings.add("lost-though-equal", || {
                let sentence =
                    format!("a compare-and-set from {} failed and answered that very value", show(from));
                witness(ops, "lost-though-equal", &[id], sentence)
            });
        }
    }
    let chains = Chains::build(ops, &index, &mut findings);
    let zones = zones::check(ops, &chains, &mut findings);
    let undecided = |op: &Op<Register>| {
        let Register::CasLost { from, seen: UNSEEN } = op.kind else { return false };
        op.status == Status::Done && (from == NIL || index.get(from).is_some())
    };
    if findings.is_empty() && ops.iter().any(undecided) {
        let schedule = zones::schedule(ops.len(), &chains, zones);
        return search::decide(&RegisterModel::default(), ops, Some(&schedule), limits);
    }
    findings.answer()
}

/// The place of each value's writer (from 1; 0 is the initial nil), if no value has two and nothing deletes.
fn unique_values(ops: &[Op<Register>]) -> Option<ValueIndex> {
    let written = || {
        let effective = ops.iter().filter(|op| op.status != Status::Failed);
        effective.filter_map(|op| op.kind.wrote())
    };
    if written().any(|value| value == NIL || value == UNSEEN) {
        return None;
    }
    let mut index = ValueIndex::over(written());
    for (place, value) in (1..).zip(written()) {
        if index.insert(value, place).is_some() {
            return None;
        }
    }
    Some(index)
}

/// A value for people.
pub(super) fn show(value: u64) -> String {
    if value == NIL { "nil".to_owned() } else { value.to_string() }
}
