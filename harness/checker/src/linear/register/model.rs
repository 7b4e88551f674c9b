//! The register as a sequential object.

use super::{Register, UNSEEN};
use crate::linear::op::NIL;
use crate::linear::search::{Model, uniform};

/// What a register holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterModel(pub u64);

impl Default for RegisterModel {
    fn default() -> Self {
        Self(NIL)
    }
}

impl Model for RegisterModel {
    type Kind = Register;
    type Undo = u64;

    fn apply(&mut self, kind: Register, known: bool) -> Option<u64> {
        let old = self.0;
        let new = match kind {
            Register::Read(value) => (old == value).then_some(old),
            Register::Write(to) => Some(to),
            Register::Cas { from, to } => (old == from).then_some(to),
            Register::CasLost { from, seen } => {
                (old != from && (seen == UNSEEN || seen == old)).then_some(old)
            }
            Register::Swap { to, seen } => (!known || seen == old).then_some(to),
            Register::Delete => Some(NIL),
        }?;
        if !known && new == old {
            return None;
        }
        self.0 = new;
        Some(old)
    }

    fn undo(&mut self, _kind: Register, old: u64) {
        self.0 = old;
    }

    fn fingerprint(&self) -> u128 {
        uniform(1 << 100 | u128::from(self.0))
    }

    fn only_reads(kind: Register) -> bool {
        matches!(kind, Register::Read(_) | Register::CasLost { .. })
    }

    fn is_blind(kind: Register) -> bool {
        matches!(kind, Register::Write(_) | Register::Delete)
    }

    /// A part is a value: without the writes and reads of one, every other read still sees the write that it saw.
    fn parts(kind: Register) -> Vec<u64> {
        match kind {
            Register::Read(value) | Register::Write(value) => vec![value],
            Register::Cas { from, to } | Register::Swap { to, seen: from } => vec![from, to],
            Register::CasLost { from, seen: UNSEEN } => vec![from],
            Register::CasLost { seen, .. } => vec![seen],
            Register::Delete => vec![NIL],
        }
    }

    /// Any value that the operations name, or another.
    fn starts(&self, kinds: &[Register]) -> Option<Vec<Self>> {
        let mut values: Vec<u64> = kinds
            .iter()
            .flat_map(|&kind| match kind {
                Register::Read(value) => vec![value],
                Register::Cas { from, .. } => vec![from],
                Register::CasLost { from, seen } => vec![from, seen],
                Register::Swap { seen, .. } => vec![seen],
                Register::Write(_) | Register::Delete => Vec::new(),
            })
            .collect();
        // UNSEEN is no value of anybody's: it stands for all others.
        values.push(UNSEEN);
        values.sort_unstable();
        values.dedup();
        (values.len() <= MOST_STARTS).then(|| values.into_iter().map(RegisterModel).collect())
    }
}

/// More possible first values than this are not tried.
const MOST_STARTS: usize = 16;
