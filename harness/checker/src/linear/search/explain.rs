//! Reduces a history without a legal order to few operations that have none either.
//!
//! Each step keeps the argument sound: a legal order of the whole would leave one of the part. What was called after the stuck return
//! is left out, what returned after it may or may not have happened; the beginning is left out if no state explains
//! what follows; read-only operations are left out one by one, and whole parts of the object.

use std::collections::BTreeMap;

use super::engine::{Found, Model, search};
use super::{Limits, matters};
use crate::answer::{Answer, Witness};
use crate::linear::findings::witness;
use crate::linear::op::{NEVER, Op, Status};

/// Configurations for one attempt to leave something out. A witness need not be the smallest at any price.
const ATTEMPT: u64 = 100_000;

/// Attempts in all.
const ATTEMPTS: u32 = 600;

pub(super) fn violation<M: Model>(model: &M, ops: &[Op<M::Kind>], stuck: u32, limits: &Limits<'_>) -> Answer {
    let limits = Limits { configurations: ATTEMPT, ..*limits };
    let mut shrink =
        Shrink { starts: vec![model.clone()], kept: prefix::<M>(ops, stuck), attempts: ATTEMPTS, limits };
    let from_start = shrink.forget_beginning(model, ops[stuck as usize].ret);
    shrink.forget_reads();
    shrink.forget_parts();
    shrink.forget_reads();
    Answer::Violated { witnesses: vec![describe(ops, stuck, &shrink, from_start)], unlisted: 0 }
}

fn describe<M: Model>(ops: &[Op<M::Kind>], stuck: u32, shrink: &Shrink<'_, M>, from_start: bool) -> Witness {
    let ids: Vec<u32> = shrink.kept.iter().map(|&(id, _)| id).collect();
    let whence = if from_start { "from the initial state" } else { "from any state" };
    let sentence = format!("no order of these {} operations, {whence}, explains every reply", ids.len());
    let class = if M::only_reads(ops[stuck as usize].kind) { "stale-read" } else { "no-legal-order" };
    // The stuck operation may have been left out as unneeded; then only the general name is honest.
    let class = if ids.contains(&stuck) { class } else { "no-legal-order" };
    witness(ops, class, &ids, sentence)
}

/// What was called before the stuck operation returned. Later returns are forgotten.
fn prefix<M: Model>(ops: &[Op<M::Kind>], stuck: u32) -> Kept<M::Kind> {
    let end = ops[stuck as usize].ret;
    let mut kept = Vec::new();
    for (id, op) in (0..).zip(ops).filter(|(_, op)| matters::<M>(op) && op.call <= end) {
        if op.ret <= end {
            kept.push((id, *op));
        } else if !M::only_reads(op.kind) {
            kept.push((id, Op { ret: NEVER, status: Status::Unknown, ..*op }));
        }
    }
    kept
}

type Kept<K> = Vec<(u32, Op<K>)>;

struct Shrink<'a, M: Model> {
    /// The states from which no order exists.
    starts: Vec<M>,
    kept: Kept<M::Kind>,
    attempts: u32,
    limits: Limits<'a>,
}

impl<M: Model> Shrink<'_, M> {
    /// Tries ever longer windows before the stuck return. True if the history's beginning is needed.
    fn forget_beginning(&mut self, model: &M, end: u64) -> bool {
        let mut returns: Vec<u64> = self.kept.iter().map(|(_, op)| op.ret).filter(|&ret| ret < end).collect();
        returns.sort_unstable();
        let mut back = 4;
        while back < returns.len() {
            let from = returns[returns.len() - back];
            // What returned before is the state's past; what spans the moment may have happened already.
            let window: Kept<M::Kind> = self
                .kept
                .iter()
                .filter(|(_, op)| op.ret > from && (op.call > from || !M::only_reads(op.kind)))
                .map(|&(id, op)| {
                    if op.call > from {
                        (id, op)
                    } else {
                        (id, Op { ret: NEVER, status: Status::Unknown, ..op })
                    }
                })
                .collect();
            let kinds: Vec<M::Kind> = window.iter().map(|(_, op)| op.kind).collect();
            if let Some(starts) = model.starts(&kinds)
                && self.is_impossible(&window, &starts)
            {
                (self.kept, self.starts) = (window, starts);
                return false;
            }
            back *= 2;
        }
        true
    }

    fn forget_reads(&mut self) {
        let reads = self.kept.iter().filter(|(_, op)| M::only_reads(op.kind)).map(|&(id, _)| vec![id]);
        let groups = reads.collect();
        self.forget(groups);
    }

    /// Parts that no operation joins with others can go.
    fn forget_parts(&mut self) {
        let mut group_of: BTreeMap<u64, usize> = BTreeMap::new();
        let mut groups: Vec<Vec<u32>> = Vec::new();
        for &(id, op) in &self.kept {
            let into = groups.len();
            groups.push(vec![id]);
            for part in M::parts(op.kind) {
                let Some(old) = group_of.insert(part, into) else { continue };
                let moved = std::mem::take(&mut groups[old]);
                groups[into].extend(moved);
                for group in group_of.values_mut().filter(|group| **group == old) {
                    *group = into;
                }
            }
        }
        groups.retain(|group| !group.is_empty());
        if groups.len() > 1 {
            self.forget(groups);
        }
    }

    /// Leaves out as many of the groups as possible: halves first, then ever smaller runs of them.
    fn forget(&mut self, mut groups: Vec<Vec<u32>>) {
        let mut run = groups.len().div_ceil(2);
        while run > 0 && !groups.is_empty() {
            let mut at = 0;
            while at < groups.len() {
                let end = (at + run).min(groups.len());
                let mut gone: Vec<u32> = groups[at..end].concat();
                gone.sort_unstable();
                let rest: Kept<M::Kind> =
                    self.kept.iter().filter(|(id, _)| gone.binary_search(id).is_err()).copied().collect();
                let starts = std::mem::take(&mut self.starts);
                if self.is_impossible(&rest, &starts) {
                    self.kept = rest;
                    groups.drain(at..end);
                } else {
                    at = end;
                }
                self.starts = starts;
            }
            run = if run == 1 { 0 } else { run.div_ceil(2) };
        }
    }

    fn is_impossible(&mut self, kept: &Kept<M::Kind>, starts: &[M]) -> bool {
        if self.attempts == 0 || kept.is_empty() {
            return false;
        }
        self.attempts -= 1;
        let ops: Vec<Op<M::Kind>> = kept.iter().map(|&(_, op)| op).collect();
        starts.iter().all(|start| matches!(search(start, &ops, None, &self.limits), Found::None { .. }))
    }
}
