//! Collects violations: a few of each class in full, the rest as a count.

use crate::answer::{Answer, Link, MAX_WITNESSES, OpId, Relation, Witness};

use super::op::Op;

/// Violations found so far.
#[derive(Default)]
pub(super) struct Findings {
    witnesses: Vec<Witness>,
    unlisted: u64,
}

impl Findings {
    /// One more of this class. Its witness is made only while the class has room.
    pub fn add(&mut self, class: &'static str, make: impl FnOnce() -> Witness) {
        if self.witnesses.iter().filter(|witness| witness.class == class).count() < MAX_WITNESSES {
            self.witnesses.push(make());
        } else {
            self.unlisted += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.witnesses.is_empty()
    }

    pub fn answer(mut self) -> Answer {
        if self.witnesses.is_empty() {
            return Answer::Holds;
        }
        self.witnesses.sort_by_key(|witness| witness.ops.len());
        Answer::Violated { witnesses: self.witnesses, unlisted: self.unlisted }
    }
}

/// A witness of these operations (by number, in any order, repeats allowed).
pub(super) fn witness<K>(ops: &[Op<K>], class: &'static str, ids: &[u32], sentence: String) -> Witness {
    let mut chosen: Vec<u32> = ids.to_vec();
    chosen.sort_unstable_by_key(|&id| (ops[id as usize].call, id));
    chosen.dedup();
    Witness { class, sentence, ops: chosen.into_iter().map(OpId).collect(), links: Vec::new() }
}

/// `from` returned before `to` was called.
pub(super) fn in_time(from: u32, to: u32) -> Link {
    let why = "it had returned before the other was called".to_owned();
    Link { from: OpId(from), to: OpId(to), relation: Relation::Realtime, why }
}

/// `from` comes before `to` for a reason other than time.
pub(super) fn by_value(from: u32, to: u32, relation: Relation, why: impl Into<String>) -> Link {
    Link { from: OpId(from), to: OpId(to), relation, why: why.into() }
}
