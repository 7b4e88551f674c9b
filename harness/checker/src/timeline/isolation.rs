//! When a node was cut from the majority of masters on the bus.
//!
//! A link between two nodes is of use only if both directions pass: a node that is heard but hears no pong is taken
//! for failed all the same. A master that is down or paused is out of reach, too; but an isolation always takes a cut.
//!
//! Who cannot have heard of a shard's new master counts the old one, as long as that is in reach ([`Count::AnyMaster`]): it
//! serves on by design, and is cut off for certain only without that one, too.

use std::collections::{BTreeMap, BTreeSet};

use super::faults::Faults;
use super::roles::{Promotion, Term};
use super::span::{Span, Spans};
use crate::record::{Nanos, NodeId, Record};
use crate::slots;

/// Whom a node counts for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// The master of that moment.
    LatestMaster,
    /// Any that it has had so far.
    AnyMaster,
}

/// What decides who reaches whom, put together once for both counts.
pub(super) struct Reach<'a> {
    faults: &'a Faults,
    nodes: usize,
    blocked: Pairs,
    shards: Shards,
    /// All moments at which an answer may change.
    moments: Vec<Nanos>,
}

impl<'a> Reach<'a> {
    pub fn of(record: &Record, faults: &'a Faults, terms: &[Term], promotions: &[Promotion]) -> Self {
        let blocked = blocked_pairs(faults);
        Self {
            faults,
            nodes: record.nodes.len(),
            shards: Shards::of(record, terms, promotions),
            moments: changes(faults, promotions, &blocked),
            blocked,
        }
    }

    /// By node: the intervals in which it reached no majority.
    pub fn isolation(&self, count: Count) -> Vec<Spans> {
        if self.blocked.is_empty() {
            return vec![Spans::default(); self.nodes];
        }
        self.all().map(|node| self.isolation_of(node, count)).collect()
    }

    /// True if, at the beginning of this interval, somebody in reach of the node also reached one that it did not.
    pub fn is_bridged(&self, node: NodeId, span: Span) -> bool {
        let passes = |a, b| !pair(&self.blocked, a, b).is_some_and(|spans| holds_from(spans, span.from));
        let others = || self.all().filter(|other| *other != node);
        let mut far = others().filter(|far| !passes(node, *far));
        far.any(|far| others().any(|bridge| bridge != far && passes(node, bridge) && passes(bridge, far)))
    }

    fn all(&self) -> impl Iterator<Item = NodeId> {
        (0..self.nodes).map(|number| NodeId(number as u16))
    }

    fn isolation_of(&self, node: NodeId, count: Count) -> Spans {
        let majority = self.shards.count() / 2 + 1;
        let mut isolated = Vec::new();
        for (i, &from) in self.moments.iter().enumerate() {
            let to = self.moments.get(i + 1).copied().unwrap_or(Nanos::MAX);
            let mut reached = 0;
            let mut cut = false;
            for mut leaders in self.shards.leaders(node, from, count) {
                reached += usize::from(leaders.any(|leader| {
                    let blocks = leader != node
                        && pair(&self.blocked, node, leader).is_some_and(|spans| holds_from(spans, from));
                    cut |= blocks;
                    !blocks && (leader == node || !stopped_from(self.faults, leader, from))
                }));
            }
            if cut && reached < majority {
                isolated.push(Span { from, to });
            }
        }
        Spans::of(isolated)
    }
}

type Pairs = BTreeMap<(NodeId, NodeId), Spans>;

/// Unordered pairs of nodes with the time in which some direction of their bus was blocked.
fn blocked_pairs(faults: &Faults) -> Pairs {
    let mut spans: BTreeMap<(NodeId, NodeId), Vec<Span>> = BTreeMap::new();
    for cut in faults.cuts.iter().filter(|cut| cut.blocks_bus()) {
        spans.entry((cut.from.min(cut.to), cut.from.max(cut.to))).or_default().push(cut.span);
    }
    spans.into_iter().map(|(pair, spans)| (pair, Spans::of(spans))).collect()
}

fn pair(blocked: &Pairs, a: NodeId, b: NodeId) -> Option<&Spans> {
    blocked.get(&(a.min(b), a.max(b)))
}

/// All moments at which the answer may change.
fn changes(faults: &Faults, promotions: &[Promotion], blocked: &Pairs) -> Vec<Nanos> {
    let mut moments = BTreeSet::from([0]);
    let spans = blocked
        .values()
        .chain(faults.processes.iter().flat_map(|process| [&process.down, &process.paused]))
        .flat_map(Spans::iter);
    for span in spans {
        moments.insert(span.from);
        moments.insert(span.to);
    }
    moments.extend(promotions.iter().map(|promotion| promotion.time));
    moments.remove(&Nanos::MAX);
    moments.into_iter().collect()
}

/// True if the interval that holds `at` goes on after it.
fn holds_from(spans: &Spans, at: Nanos) -> bool {
    spans.at(at).is_some_and(|span| span.to > at)
}

fn stopped_from(faults: &Faults, node: NodeId, at: Nanos) -> bool {
    let process = faults.process(node);
    holds_from(&process.down, at) || holds_from(&process.paused, at)
}

/// Who led which shard. Shards are those of the start; without a plan, those of the first terms.
struct Shards {
    shards: Vec<Shard>,
}

struct Shard {
    /// One that it had at the beginning.
    slot: u16,
    first: NodeId,
    /// The leaders after the first, and since when.
    later: Vec<(Nanos, NodeId)>,
}

impl Shard {
    /// The last one.
    fn leader(&self) -> NodeId {
        self.later.last().map_or(self.first, |&(_, leader)| leader)
    }

    fn was_led_by(&self, node: NodeId) -> bool {
        self.first == node || self.later.iter().any(|&(_, leader)| leader == node)
    }
}

impl Shards {
    fn of(record: &Record, terms: &[Term], promotions: &[Promotion]) -> Self {
        let mut first: Vec<(u16, NodeId)> = record
            .info
            .nodes
            .iter()
            .filter(|node| node.master)
            .filter_map(|node| Some((node.slots.first()?.0, record.node_id(&node.name)?)))
            .collect();
        if first.is_empty() {
            first = terms
                .iter()
                .filter(|term| term.takeover.is_none())
                .filter_map(|term| Some((term.slots.first()?.0, term.node)))
                .collect();
            first.sort_unstable();
            first.dedup_by_key(|(slot, _)| *slot);
        }
        let mut shards: Vec<Shard> =
            first.into_iter().map(|(slot, first)| Shard { slot, first, later: Vec::new() }).collect();
        for promotion in promotions {
            // Slots go from shard to shard: whose place it takes tells the shard, if anything does.
            let led_by = |led: fn(&Shard, NodeId) -> bool| {
                promotion.from.and_then(|from| shards.iter().position(|shard| led(shard, from)))
            };
            let shard = led_by(|shard, from| shard.leader() == from)
                .or_else(|| led_by(Shard::was_led_by))
                .or_else(|| shards.iter().position(|it| slots::contains(&promotion.slots, it.slot)));
            if let Some(shard) = shard {
                shards[shard].later.push((promotion.time, promotion.node));
            }
        }
        Self { shards }
    }

    fn count(&self) -> usize {
        self.shards.len()
    }

    /// Whom `node` counts, shard by shard; only itself in a shard that it ever led.
    fn leaders(
        &self,
        node: NodeId,
        at: Nanos,
        count: Count,
    ) -> impl Iterator<Item = impl Iterator<Item = NodeId>> {
        self.shards.iter().map(move |Shard { first, later, .. }| {
            let later = &later[..later.partition_point(|(time, _)| *time <= at)];
            let all = std::iter::once(*first).chain(later.iter().map(|&(_, leader)| leader));
            let own = all.clone().any(|leader| leader == node).then_some(node);
            let passed_over = match count {
                Count::LatestMaster => later.len(),
                Count::AnyMaster => 0,
            };
            let others = own.is_none().then(|| all.skip(passed_over));
            own.into_iter().chain(others.into_iter().flatten())
        })
    }
}
