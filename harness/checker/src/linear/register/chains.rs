//! Which write every reply saw, and which writes must stand directly behind one another.
//!
//! A cluster is a write with the reads of its value; the initial nil is one too. A compare-and-set from a to b (or a swap that saw
//! a) glues cluster b directly behind cluster a. Writes of unknown outcome count exactly if something saw
//! them: one that nothing saw can be left out of any order.

use rustc_hash::FxHashMap;

use super::{Register, UNSEEN, show};
use crate::answer::{Relation, Witness};
use crate::linear::findings::{Findings, by_value, witness};
use crate::linear::op::{NIL, Op, Status, numbered};
use crate::linear::values::{NONE, ValueIndex};

/// The extremes of a group of operations: who returned first, who was called last.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub first_ret: u64,
    pub last_call: u64,
    pub first: u32,
    pub last: u32,
}

impl Span {
    pub const EMPTY: Self = Self { first_ret: u64::MAX, last_call: 0, first: NONE, last: NONE };

    pub fn of<K>(id: u32, op: &Op<K>) -> Self {
        // One nanosecond later than they are, so that the initial value can come before all of them.
        Self {
            first_ret: op.ret.saturating_add(1),
            last_call: op.call.saturating_add(1),
            first: id,
            last: id,
        }
    }

    pub fn join(&mut self, other: Self) {
        if other.first_ret < self.first_ret {
            (self.first_ret, self.first) = (other.first_ret, other.first);
        }
        if other.last_call > self.last_call {
            (self.last_call, self.last) = (other.last_call, other.last);
        }
    }
}

/// A write and the reads of its value.
pub(super) struct Cluster {
    /// NONE for the initial nil.
    pub writer: u32,
    /// The clusters glued before and behind it.
    pub before: u32,
    pub behind: u32,
    /// An operation that saw its value, and so proves that the write happened; NONE if there is none.
    pub proof: u32,
    pub reads: Span,
}

/// All clusters, glued.
pub(super) struct Chains<'a> {
    pub clusters: Vec<Cluster>,
    ops: &'a [Op<Register>],
    index: &'a ValueIndex,
}

impl<'a> Chains<'a> {
    pub fn build(ops: &'a [Op<Register>], index: &'a ValueIndex, findings: &mut Findings) -> Self {
        let fresh = |writer| Cluster { writer, before: NONE, behind: NONE, proof: NONE, reads: Span::EMPTY };
        let is_write = |op: &&Op<Register>| op.status != Status::Failed && op.kind.wrote().is_some();
        let mut clusters = Vec::with_capacity(ops.iter().filter(is_write).count() + 1);
        clusters.push(fresh(NONE));
        let mut chains = Self { clusters, ops, index };
        for (id, op) in numbered(ops) {
            if op.status != Status::Failed && op.kind.wrote().is_some() {
                chains.clusters.push(fresh(id));
            }
        }
        let mut glue = Vec::new();
        let mut strangers = Vec::new();
        let mut place_of = |id: u32, value: u64| {
            let found = if value == NIL { Some(0) } else { index.get(value) };
            if found.is_none() {
                strangers.push((id, value));
            }
            found
        };
        let mut place = 0;
        for (id, op) in numbered(ops).filter(|(_, op)| op.status != Status::Failed) {
            place += u32::from(op.kind.wrote().is_some());
            if op.status != Status::Done {
                continue;
            }
            match op.kind {
                Register::Read(value) | Register::CasLost { seen: value, .. } => {
                    if value != UNSEEN
                        && let Some(at) = place_of(id, value)
                    {
                        chains.clusters[at as usize].proof = id;
                        chains.clusters[at as usize].reads.join(Span::of(id, op));
                    }
                }
                Register::Cas { from: value, .. } | Register::Swap { seen: value, .. } => {
                    if let Some(at) = place_of(id, value) {
                        chains.clusters[at as usize].proof = id;
                        glue.push((at, place));
                    }
                }
                Register::Write(_) | Register::Delete => {}
            }
        }
        chains.follow_unknown(&mut place_of, &mut glue);
        chains.blame(&strangers, findings);
        for (before, behind) in glue {
            chains.glue(before, behind, findings);
        }
        chains
    }

    /// It is part of every order.
    pub fn counts(&self, place: usize) -> bool {
        let cluster = &self.clusters[place];
        let is_done = |id: u32| self.ops[id as usize].status == Status::Done;
        cluster.writer == NONE || cluster.proof != NONE || is_done(cluster.writer)
    }

    /// A witness of these operations, and of those that prove that the unknown ones among them happened.
    pub fn witness(&self, class: &'static str, ids: &[u32], sentence: String) -> Witness {
        let mut all = ids.to_vec();
        let mut at = 0;
        while let Some(&id) = all.get(at) {
            at += 1;
            let op = &self.ops[id as usize];
            let place = op.kind.wrote().and_then(|value| self.index.get(value));
            if let Some(place) = place
                && op.status == Status::Unknown
                && !all.contains(&self.clusters[place as usize].proof)
            {
                all.push(self.clusters[place as usize].proof);
            }
        }
        all.retain(|&id| id != NONE);
        witness(self.ops, class, &all, sentence)
    }

    /// A compare-and-set of unknown outcome whose value was seen did win, so its source was there too, and so on.
    fn follow_unknown(
        &mut self,
        place_of: &mut impl FnMut(u32, u64) -> Option<u32>,
        glue: &mut Vec<(u32, u32)>,
    ) {
        let ops = self.ops;
        let is_unknown = |cluster: &Cluster| {
            cluster.writer != NONE && ops[cluster.writer as usize].status == Status::Unknown
        };
        let mut open: Vec<u32> = (0..self.clusters.len() as u32)
            .filter(|&place| {
                self.clusters[place as usize].proof != NONE && is_unknown(&self.clusters[place as usize])
            })
            .collect();
        while let Some(place) = open.pop() {
            let writer = self.clusters[place as usize].writer;
            let Register::Cas { from, .. } = ops[writer as usize].kind else { continue };
            let Some(source) = place_of(writer, from) else { continue };
            glue.push((source, place));
            let cluster = &mut self.clusters[source as usize];
            if cluster.proof == NONE {
                cluster.proof = writer;
                if is_unknown(cluster) {
                    open.push(source);
                }
            }
        }
    }

    fn glue(&mut self, before: u32, behind: u32, findings: &mut Findings) {
        let ops = self.ops;
        let taken = self.clusters[before as usize].behind;
        if taken == NONE {
            self.clusters[before as usize].behind = behind;
            self.clusters[behind as usize].before = before;
            return;
        }
        let (one, two) = (self.clusters[taken as usize].writer, self.clusters[behind as usize].writer);
        let is_cas = |id: u32| matches!(ops[id as usize].kind, Register::Cas { .. });
        let class = if is_cas(one) && is_cas(two) { "double-cas-win" } else { "lost-update" };
        findings.add(class, || {
            let source = self.clusters[before as usize].writer;
            let value = if source == NONE { NIL } else { ops[source as usize].kind.wrote().unwrap_or(NIL) };
            let mut ids = vec![one, two];
            ids.extend((source != NONE).then_some(source));
            let sentence = format!("two operations replaced the same value {}", show(value));
            let mut witness = self.witness(class, &ids, sentence);
            if source != NONE {
                for id in [one, two] {
                    let why = format!("it replaced {}", show(value));
                    witness.links.push(by_value(source, id, Relation::WriteWrite, why));
                }
            }
            witness
        });
    }

    /// Operations that saw a value which no effective write left.
    fn blame(&self, strangers: &[(u32, u64)], findings: &mut Findings) {
        if strangers.is_empty() {
            return;
        }
        let refused = numbered(self.ops).filter(|(_, op)| op.status == Status::Failed);
        let refused: FxHashMap<u64, u32> =
            refused.filter_map(|(id, op)| op.kind.wrote().map(|value| (value, id))).collect();
        for &(id, value) in strangers {
            match refused.get(&value) {
                Some(&writer) => findings.add("read-of-failed-write", || {
                    let sentence = format!("{} was seen, though its write was refused", show(value));
                    self.witness("read-of-failed-write", &[writer, id], sentence)
                }),
                None => findings.add("garbage-read", || {
                    let sentence = format!("{} was seen, which nobody wrote", show(value));
                    self.witness("garbage-read", &[id], sentence)
                }),
            }
        }
    }
}
