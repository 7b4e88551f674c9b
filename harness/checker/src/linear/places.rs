//! Operations without a rank of their own, put into the ranks that nobody's reply names.
//!
//! A counter that stood at 5 was incremented five times; a list of five elements got five. Where replies name only some of
//! those, the others are increments (appends) whose reply was lost or never asked for. Each has a window of ranks that real
//! time allows, windows are ordered by call and by return, so giving every free rank the released operation with the
//! earliest return is optimal (earliest deadline first); exchanging two of them restores real time between them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::op::{NEVER, Op};
use super::rank::Ranked;

/// What could not be placed.
pub(super) enum Misfit {
    /// No operation can have taken this rank: all that could were called after `bound` had returned, which ranks higher.
    Gap { rank: u32, bound: Ranked },
    /// This acknowledged operation found no rank: `bound`, which ranks lower than any rank left for it, was called
    /// after it had returned.
    Lost { id: u32, bound: Ranked },
}

/// Fills the ranks of `free` (ascending; every rank above the last ranked operation is free as well) from `pool`.
/// `ranked` is sorted. Unknown operations of the pool may be left over, done ones may not.
pub(super) fn fill<K>(
    ranked: &[Ranked],
    free: &[u32],
    mut pool: Vec<u32>,
    ops: &[Op<K>],
    mut report: impl FnMut(Misfit),
) {
    let op = |id: u32| &ops[id as usize];
    pool.sort_unstable_by_key(|&id| (op(id).call, id));
    let bounds = first_returns_above(ranked, free, ops);
    let mut released: BinaryHeap<Reverse<(u64, u32)>> = BinaryHeap::new();
    let mut waiting = pool.into_iter().peekable();
    let mut lower = ranked.iter().peekable();
    let mut latest: Option<Ranked> = None;
    let mut advance = |rank: u32, latest: &mut Option<Ranked>| {
        while let Some(&next) = lower.next_if(|next| next.rank() < rank) {
            if latest.is_none_or(|latest| op(latest.id()).call < op(next.id()).call) {
                *latest = Some(next);
            }
        }
    };
    for (&rank, &bound) in free.iter().zip(&bounds) {
        advance(rank, &mut latest);
        while let Some(id) = waiting.next_if(|&id| op(id).call <= op(bound.id()).ret) {
            released.push(Reverse((op(id).ret, id)));
        }
        expire(&mut released, latest, ops, &mut report);
        if released.pop().is_none() {
            report(Misfit::Gap { rank, bound });
        }
    }
    advance(u32::MAX, &mut latest);
    released.extend(waiting.map(|id| Reverse((op(id).ret, id))));
    expire(&mut released, latest, ops, &mut report);
}

/// Reports and drops those that returned before `latest`, which is now behind, was called.
fn expire<K>(
    released: &mut BinaryHeap<Reverse<(u64, u32)>>,
    latest: Option<Ranked>,
    ops: &[Op<K>],
    report: &mut impl FnMut(Misfit),
) {
    let Some(bound) = latest else { return };
    while let Some(&Reverse((ret, id))) = released.peek()
        && ret < ops[bound.id() as usize].call
    {
        released.pop();
        debug_assert!(ret != NEVER, "unknown operations do not expire");
        report(Misfit::Lost { id, bound });
    }
}

/// For each free rank the operation that returned first among those of higher rank. There is always one: free ranks
/// are below the highest that a reply names.
fn first_returns_above<K>(ranked: &[Ranked], free: &[u32], ops: &[Op<K>]) -> Vec<Ranked> {
    let mut bounds = Vec::with_capacity(free.len());
    let mut higher = ranked.iter().rev().peekable();
    let mut first: Option<Ranked> = None;
    for &rank in free.iter().rev() {
        while let Some(&next) = higher.next_if(|next| next.rank() > rank) {
            if first.is_none_or(|first| ops[next.id() as usize].ret < ops[first.id() as usize].ret) {
                first = Some(next);
            }
        }
        bounds.extend(first);
    }
    bounds.reverse();
    bounds
}
