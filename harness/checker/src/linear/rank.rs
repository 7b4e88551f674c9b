//! The rank check. Evidence gives every operation a rank; the ranks are the order of effects; so whoever returned before
//! an operation of lower rank was called broke real time, and if nobody did, sorting by rank is a legal order.

use super::op::Op;

/// An operation and its rank, in one word so that a million of them sort fast.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ranked(u64);

impl Ranked {
    pub fn new(rank: u32, id: u32) -> Self {
        Self(u64::from(rank) << 32 | u64::from(id))
    }

    pub fn rank(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub fn id(self) -> u32 {
        self.0 as u32
    }
}

/// Sorts by rank and tells of each operation that returned too early: `conflict(early, late)` where `early` has the higher
/// rank and had returned before `late`, the latest call of all lower ranks.
pub(super) fn sweep<K>(ranked: &mut [Ranked], ops: &[Op<K>], mut conflict: impl FnMut(Ranked, Ranked)) {
    ranked.sort_unstable();
    let mut lower: Option<(u64, Ranked)> = None;
    let mut same: Option<(u64, Ranked)> = None;
    let mut rank = 0;
    for &item in ranked.iter() {
        if item.rank() != rank {
            lower = later(lower, same);
            (rank, same) = (item.rank(), None);
        }
        let op = &ops[item.id() as usize];
        if let Some((call, late)) = lower
            && op.ret < call
        {
            conflict(item, late);
        }
        same = later(same, Some((op.call, item)));
    }
}

fn later(one: Option<(u64, Ranked)>, other: Option<(u64, Ranked)>) -> Option<(u64, Ranked)> {
    match (one, other) {
        (Some(a), Some(b)) => Some(if b.0 > a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Sorts what is nearly in order, as what comes in the order of calls and is wanted in the order of returns: each item
/// moves past few others. What is not is sorted as usual.
pub(super) fn sort_nearly_sorted<T: Copy, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    const MOVES_PER_ITEM: usize = 12;
    let mut moves_left = items.len() * MOVES_PER_ITEM;
    for at in 1..items.len() {
        let item = items[at];
        let place = key(&item);
        let mut to = at;
        while to > 0 && key(&items[to - 1]) > place {
            items[to] = items[to - 1];
            to -= 1;
        }
        items[to] = item;
        match moves_left.checked_sub(at - to) {
            Some(left) => moves_left = left,
            None => return items.sort_unstable_by_key(key),
        }
    }
}
