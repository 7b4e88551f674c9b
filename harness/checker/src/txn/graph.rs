//! Transactions and what must come before what. Dependencies of data lie in one vector by their source. Time costs no
//! memory per pair: a node of the timeline stands for "all that had returned by then", so that a transaction has at
//! most three edges of time (its process' next, to its node, and from one), whatever the concurrency.

use super::deps::{Dep, Deps};
use super::index::Index;
use super::values::ValueMap;
use crate::answer::Relation;

/// The edges as sets of relations.
pub(super) type Mask = u8;

pub(super) const WW: Mask = 1;
pub(super) const WR: Mask = 1 << 1;
pub(super) const RW: Mask = 1 << 2;
pub(super) const PROCESS: Mask = 1 << 3;
pub(super) const REALTIME: Mask = 1 << 4;
/// Out of a node that is no transaction. It belongs to the relation by which the node was entered.
pub(super) const THROUGH: Mask = 1 << 5;

/// No node.
pub(super) const NONE: u32 = u32::MAX;

const TARGET_BITS: u32 = 30;
const TARGET_MASK: u32 = (1 << TARGET_BITS) - 1;
const KINDS: [Mask; 4] = [WW, WR, RW, THROUGH];

/// Nodes from 0: transactions by their [`OpId`](crate::answer::OpId), hubs (all readers of a version before all of its
/// overwriters), then the timeline.
pub(super) struct Graph {
    txns: u32,
    /// Transactions and hubs.
    dense: u32,
    starts: Vec<u32>,
    /// The target, and the kind of the edge in its two highest bits.
    edges: Vec<u32>,
    time: Time,
}

impl Graph {
    pub fn nodes(&self) -> u32 {
        self.dense + self.time.first_after.len() as u32
    }

    pub fn is_txn(&self, node: u32) -> bool {
        node < self.txns
    }

    /// A node's edge by its number, from 0. [`NONE`] as a target: there is no such edge, but a later one may be.
    pub fn edge(&self, node: u32, number: u32) -> Option<(u32, Mask)> {
        if node >= self.dense {
            return self.edge_of_time(node - self.dense, number);
        }
        let start = self.starts[node as usize];
        let count = self.starts[node as usize + 1] - start;
        if number < count {
            let edge = self.edges[(start + number) as usize];
            return Some((edge & TARGET_MASK, KINDS[(edge >> TARGET_BITS) as usize]));
        }
        if node >= self.txns {
            return None;
        }
        match number - count {
            0 => Some((self.time.next_of_process[node as usize], PROCESS)),
            1 => Some((self.time.after_return[node as usize], REALTIME)),
            _ => None,
        }
    }

    fn edge_of_time(&self, moment: u32, number: u32) -> Option<(u32, Mask)> {
        let here = self.time.first_after[moment as usize];
        let next = self.time.first_after.get(moment as usize + 1).copied();
        let end = next.unwrap_or(self.time.by_invocation.len() as u32);
        match number {
            0 => Some((if next.is_some() { self.dense + moment + 1 } else { NONE }, THROUGH)),
            number if here + number - 1 < end => {
                Some((self.time.by_invocation[(here + number - 1) as usize], THROUGH))
            }
            _ => None,
        }
    }
}

/// Takes the dependencies of all keys.
pub(super) struct GraphBuilder {
    txns: u32,
    hubs: u32,
    /// (source, target with its kind).
    edges: Vec<(u32, u32)>,
}

/// The place of a kind in `KINDS`.
const WRITE_WRITE: u32 = 0;
const WRITE_READ: u32 = 1;
const READ_WRITE: u32 = 2;
const HUB: u32 = 3;

impl GraphBuilder {
    pub fn new(index: &Index<'_>) -> Self {
        Self { txns: index.history.len() as u32, hubs: 0, edges: Vec::with_capacity(index.history.len() * 2) }
    }

    fn push(&mut self, from: u32, to: u32, kind: u32) {
        self.edges.push((from, to | kind << TARGET_BITS));
    }

    /// New nodes behind the transactions; the first one's number.
    fn add_hubs(&mut self, count: u32) -> u32 {
        let first = self.txns + self.hubs;
        self.hubs += count;
        first
    }

    pub fn finish(self, index: &Index<'_>) -> Graph {
        let dense = self.txns + self.hubs;
        assert!(dense <= TARGET_MASK, "too many nodes");
        let mut starts = vec![0u32; dense as usize + 2];
        for (from, _) in &self.edges {
            starts[*from as usize + 2] += 1;
        }
        for node in 2..starts.len() {
            starts[node] += starts[node - 1];
        }
        let mut edges = vec![0u32; self.edges.len()];
        for (from, to) in &self.edges {
            let next = &mut starts[*from as usize + 1];
            edges[*next as usize] = *to;
            *next += 1;
        }
        starts.pop();
        let time = Time::of(index, dense);
        Graph { txns: self.txns, dense, starts, edges, time }
    }
}

impl Deps for GraphBuilder {
    fn dep(&mut self, dep: Dep) {
        let kind = match dep.relation {
            Relation::WriteWrite => WRITE_WRITE,
            Relation::WriteRead => WRITE_READ,
            _ => READ_WRITE,
        };
        self.push(dep.from, dep.to, kind);
    }

    /// Few pairs are edges. Many go over hubs: one chain up and one down the writers, so that a reader that is also
    /// the writer at place i enters both beside i, and does not come before itself.
    fn anti_deps(&mut self, _before: Option<u64>, readers: &[u32], writers: &[(u32, u64)]) {
        let count = writers.len() as u32;
        if readers.len() * writers.len() <= 4 * (readers.len() + writers.len()) {
            for from in readers {
                for (to, _) in writers.iter().filter(|(to, _)| to != from) {
                    self.push(*from, *to, READ_WRITE);
                }
            }
            return;
        }
        let up = self.add_hubs(count);
        let down = self.add_hubs(count);
        for (place, (writer, _)) in (0..).zip(writers) {
            self.push(up + place, *writer, HUB);
            self.push(down + place, *writer, HUB);
            if place + 1 < count {
                self.push(up + place, up + place + 1, HUB);
                self.push(down + place + 1, down + place, HUB);
            }
        }
        for reader in readers {
            match writers.binary_search_by_key(reader, |(writer, _)| *writer) {
                Err(_) => self.push(*reader, up, READ_WRITE),
                Ok(place) => {
                    let place = place as u32;
                    if place + 1 < count {
                        self.push(*reader, up + place + 1, READ_WRITE);
                    }
                    if place > 0 {
                        self.push(*reader, down + place - 1, READ_WRITE);
                    }
                }
            }
        }
    }
}

/// The orders of time.
struct Time {
    next_of_process: Vec<u32>,
    /// The node that a transaction's return leads to.
    after_return: Vec<u32>,
    /// By node of the timeline: the place in `by_invocation` from which on transactions were invoked after it.
    first_after: Vec<u32>,
    by_invocation: Vec<u32>,
}

impl Time {
    fn of(index: &Index<'_>, first_node: u32) -> Self {
        let spans = index.history.spans();
        let invoked = |txn: &u32| spans[*txn as usize].invoked;
        let mut by_invocation: Vec<u32> =
            (0..spans.len() as u32).filter(|txn| index.committed(*txn)).collect();
        if !by_invocation.is_sorted_by_key(invoked) {
            by_invocation.sort_by_key(invoked);
        }
        let mut returns: Vec<(u64, u32)> = by_invocation
            .iter()
            .filter(|txn| index.reads_count(**txn))
            .map(|txn| (spans[*txn as usize].returned, *txn))
            .collect();
        returns.sort_unstable();
        let mut after_return = vec![NONE; spans.len()];
        let mut first_after: Vec<u32> = Vec::new();
        let mut place = 0;
        for (returned, txn) in returns {
            while by_invocation.get(place).is_some_and(|next| invoked(next) <= returned) {
                place += 1;
            }
            if place == by_invocation.len() {
                break;
            }
            if first_after.last() != Some(&(place as u32)) {
                first_after.push(place as u32);
            }
            after_return[txn as usize] = first_node + first_after.len() as u32 - 1;
        }
        Self {
            next_of_process: next_of_process(index, &by_invocation),
            after_return,
            first_after,
            by_invocation,
        }
    }
}

/// The next transaction of the same process, if this one had returned by then.
fn next_of_process(index: &Index<'_>, by_invocation: &[u32]) -> Vec<u32> {
    let spans = index.history.spans();
    let mut next = vec![NONE; spans.len()];
    let mut processes = ValueMap::default();
    let mut last: Vec<u32> = Vec::new();
    for txn in by_invocation {
        let span = spans[*txn as usize];
        let fresh = last.len() as u32;
        let slot = processes.insert(u64::from(span.process), fresh).unwrap_or(fresh) as usize;
        if slot == last.len() {
            last.push(*txn);
            continue;
        }
        let before = std::mem::replace(&mut last[slot], *txn);
        if index.reads_count(before) && spans[before as usize].returned < span.invoked {
            next[before as usize] = *txn;
        }
    }
    next
}
