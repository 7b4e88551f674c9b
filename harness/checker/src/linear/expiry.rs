//! A register whose values may have a time to live (`SET k v PX n`, GET, DEL).
//!
//! Each write with a time to live brings a hidden operation: at some moment between its call plus that time and its return
//! plus that time, both widened by the clocks' error, the key becomes absent if it still holds that write. So a
//! value read too late and one absent too early are both orders that do not exist.

use super::lease::ClockError;
use super::op::{NEVER, NIL, Op, Status, numbered};
use super::search::{self, Limits, Model, uniform};
use crate::answer::{Answer, OpId, Witness};

/// An operation on a register with times to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expiring {
    /// GET answered this; [`NIL`] for an absent key.
    Read(u64),
    /// SET, to live so long; [`NEVER`] without end.
    Write { value: u64, ttl_nanos: u64 },
    /// DEL.
    Delete,
}

/// Is there one order of these operations, and of the ends of what they wrote, that fits the clocks?
pub fn expiring(ops: &[Op<Expiring>], clock: ClockError, limits: &Limits<'_>) -> Answer {
    let mut steps: Vec<Op<Step>> = numbered(ops).map(|(id, op)| op_as(op, Step::from(op.kind, id))).collect();
    let mut ends = Vec::new();
    for (id, op) in numbered(ops).filter(|(_, op)| op.status != Status::Failed) {
        let Expiring::Write { ttl_nanos, .. } = op.kind else { continue };
        if ttl_nanos == NEVER {
            continue;
        }
        let error = clock.of(ttl_nanos);
        let call = op.call.saturating_add(ttl_nanos.saturating_sub(error));
        let ret = op.ret.saturating_add(ttl_nanos).saturating_add(error);
        let kind = Step::Expire { birth: id };
        let end = if ret == NEVER {
            Op::unknown(op.process, call, kind)
        } else {
            Op::done(op.process, call, ret, kind)
        };
        steps.push(end);
        ends.push(id);
    }
    let answer = search::decide(&ExpiryModel::new(ops), &steps, None, limits);
    match answer {
        Answer::Violated { witnesses, unlisted } => {
            let witnesses = witnesses.into_iter().map(|witness| without_ends(ops, &ends, witness)).collect();
            Answer::Violated { witnesses, unlisted }
        }
        other => other,
    }
}

fn op_as<K, L>(op: &Op<K>, kind: L) -> Op<L> {
    Op { call: op.call, ret: op.ret, process: op.process, status: op.status, kind }
}

/// Names the writes instead of their ends.
fn without_ends(ops: &[Op<Expiring>], ends: &[u32], mut witness: Witness) -> Witness {
    let count = ops.len() as u32;
    let mut named: Vec<u32> = witness
        .ops
        .iter()
        .map(|&OpId(id)| id.checked_sub(count).map_or(id, |end| ends[end as usize]))
        .collect();
    named.sort_unstable_by_key(|&id| (ops[id as usize].call, id));
    named.dedup();
    witness.sentence = format!(
        "no order of these {} operations and of the ends of what they wrote explains every reply",
        named.len()
    );
    witness.ops = named.into_iter().map(OpId).collect();
    witness
}

/// What the search places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Read(u64),
    /// The number of the operation tells apart equal values with different ends.
    Write {
        birth: u32,
    },
    Delete,
    /// The end of what that operation wrote.
    Expire {
        birth: u32,
    },
}

impl Step {
    fn from(kind: Expiring, id: u32) -> Self {
        match kind {
            Expiring::Read(value) => Self::Read(value),
            Expiring::Write { .. } => Self::Write { birth: id },
            Expiring::Delete => Self::Delete,
        }
    }
}

/// The register, and which writes have happened: none can end before.
#[derive(Clone)]
struct ExpiryModel<'a> {
    ops: &'a [Op<Expiring>],
    /// The write that is there.
    now: Option<u32>,
    born: Vec<bool>,
}

impl<'a> ExpiryModel<'a> {
    fn new(ops: &'a [Op<Expiring>]) -> Self {
        Self { ops, now: None, born: vec![false; ops.len()] }
    }

    fn value(&self) -> u64 {
        match self.now.map(|birth| self.ops[birth as usize].kind) {
            Some(Expiring::Write { value, .. }) => value,
            _ => NIL,
        }
    }
}

impl Model for ExpiryModel<'_> {
    type Kind = Step;
    type Undo = Option<u32>;

    fn apply(&mut self, kind: Step, known: bool) -> Option<Option<u32>> {
        let old = self.now;
        match kind {
            Step::Read(value) => (value == self.value()).then_some(old),
            Step::Write { birth } => {
                self.born[birth as usize] = true;
                self.now = Some(birth);
                Some(old)
            }
            Step::Delete => {
                self.now = None;
                (known || old.is_some()).then_some(old)
            }
            Step::Expire { birth } => {
                if !self.born[birth as usize] || (!known && old != Some(birth)) {
                    return None;
                }
                if old == Some(birth) {
                    self.now = None;
                }
                Some(old)
            }
        }
    }

    fn undo(&mut self, kind: Step, old: Option<u32>) {
        if let Step::Write { birth } = kind {
            self.born[birth as usize] = false;
        }
        self.now = old;
    }

    fn fingerprint(&self) -> u128 {
        uniform(1 << 100 | self.now.map_or(u128::MAX >> 64, u128::from))
    }

    fn only_reads(kind: Step) -> bool {
        matches!(kind, Step::Read(_))
    }

    fn is_blind(kind: Step) -> bool {
        matches!(kind, Step::Write { .. } | Step::Delete)
    }
}
