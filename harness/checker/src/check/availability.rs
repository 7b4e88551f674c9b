//! Who could work and when not: per shard the intervals without success while operations were due, the share of time
//! outside of them, and the time from each fault on a master to the first success on its shard.

use std::collections::BTreeMap;

use crate::record::verdict::{Availability, Recovery, ShardAvailability, Validity};
use crate::record::{Action, FaultPhase, Nanos, NodeId, Operation, Outcome, Record};
use crate::timeline::{MILLI, SECOND, Span, Spans, Timeline};

/// A shorter interval without success is latency, not an outage.
const OUTAGE: Nanos = 500 * MILLI;

/// Measures it, and judges it against the stated limits only.
pub fn check(record: &Record, timeline: &Timeline) -> Availability {
    let (from, to) = record.working_time();
    let mut shards: BTreeMap<u32, Shard<'_>> = BTreeMap::new();
    for node in record.info.nodes.iter().filter(|node| !node.slots.is_empty()) {
        shards.entry(node.shard).or_default().slots.clone_from(&node.slots);
    }
    let shard_of: Vec<Option<u32>> = record.keys.iter().map(|key| record.shard_of_slot(key.slot)).collect();
    for op in record.ops.iter().filter(|op| !op.is_final && from <= op.intended && op.intended <= to) {
        if let Some(shard) = shard_of[op.key.0 as usize].and_then(|shard| shards.get_mut(&shard)) {
            shard.ops.push(op);
        }
    }
    let mut entry = Availability::default();
    let mut all = Vec::new();
    let mut longest_unstalled: Nanos = 0;
    for (number, shard) in &mut shards {
        shard.ops.sort_by_key(|op| op.intended);
        let outages = outages(&shard.ops, to);
        for outage in &outages {
            let length = outage.to - outage.from;
            entry.longest_outage_s = entry.longest_outage_s.max(in_seconds(length));
            longest_unstalled =
                longest_unstalled.max(length.saturating_sub(timeline.stalls.covered(outage.from, outage.to)));
        }
        all.extend(outages.iter().copied());
        entry.shards.push(ShardAvailability {
            shard: *number,
            slots: shard.slots.clone(),
            ok: shard.count(Outcome::Ok),
            fail: shard.count(Outcome::Fail),
            info: shard.count(Outcome::Info),
            available_pct: share(&outages, from, to),
            outages: outages.iter().map(|outage| (outage.from, outage.to)).collect(),
        });
    }
    let all: Vec<Span> = Spans::of(all).iter().copied().collect();
    entry.overall_pct = share(&all, from, to);
    entry.recoveries = recoveries(record, timeline, &shards);
    decide(record, timeline, &mut entry, longest_unstalled, &all);
    entry
}

#[derive(Default)]
struct Shard<'a> {
    slots: Vec<(u16, u16)>,
    /// In the order in which they were due.
    ops: Vec<&'a Operation>,
}

impl Shard<'_> {
    fn count(&self, outcome: Outcome) -> u64 {
        self.ops.iter().filter(|op| op.outcome == outcome).count() as u64
    }
}

fn decide(record: &Record, timeline: &Timeline, entry: &mut Availability, longest: Nanos, outages: &[Span]) {
    let (from, to) = record.working_time();
    if let Some(limit) = record.info.max_outage_s.filter(|limit| in_seconds(longest) > *limit) {
        entry.valid = Validity::Invalid;
        entry.reason =
            format!("an outage of {:.1} s; at most {limit} s were allowed", entry.longest_outage_s);
        return;
    }
    // What the host stalled is not the servers' time.
    let stalled: Nanos = outages.iter().map(|outage| timeline.stalls.covered(outage.from, outage.to)).sum();
    let forgiven = 100.0 * stalled as f64 / (to - from).max(1) as f64;
    if let Some(limit) =
        record.info.min_availability_pct.filter(|limit| entry.overall_pct + forgiven < *limit)
    {
        entry.valid = Validity::Invalid;
        entry.reason = format!("{:.2} % available; at least {limit} % were wanted", entry.overall_pct);
    }
}

/// From the first operation that was due after a success to the next success, where that took long.
fn outages(ops: &[&Operation], end: Nanos) -> Vec<Span> {
    let mut successes: Vec<Nanos> = ops
        .iter()
        .filter(|op| op.outcome == Outcome::Ok)
        .filter_map(|op| op.completed)
        .filter(|&at| at <= end)
        .collect();
    successes.sort_unstable();
    let mut outages = Vec::new();
    let mut due = 0;
    let mut last = 0;
    for next in successes.into_iter().chain([end]) {
        while due < ops.len() && ops[due].intended < last {
            due += 1;
        }
        if let Some(first) = ops.get(due).map(|op| op.intended).filter(|&first| first < next)
            && next - first >= OUTAGE
        {
            outages.push(Span { from: first, to: next });
        }
        last = next;
    }
    outages
}

/// Percent of `from..to` outside of the intervals.
fn share(outages: &[Span], from: Nanos, to: Nanos) -> f64 {
    let out: Nanos =
        outages.iter().map(|outage| outage.to.min(to).saturating_sub(outage.from.max(from))).sum();
    100.0 * (1.0 - out as f64 / (to - from).max(1) as f64)
}

/// For each fault that stopped or cut a master: when its shard next acknowledged an operation that was asked for after
/// it, by another node, or by the same one once the fault on it was over.
fn recoveries(record: &Record, timeline: &Timeline, shards: &BTreeMap<u32, Shard<'_>>) -> Vec<Recovery> {
    let mut recoveries = Vec::new();
    for event in record.faults.iter().filter(|event| event.step.phase == FaultPhase::Start) {
        let Some(fault) = event.step.fault else { continue };
        for node in targets(record, &event.step.actions) {
            let term = timeline
                .term_at(node, event.time)
                .filter(|term| term.until.is_none_or(|until| until > event.time));
            let Some(term) = term else { continue };
            let Some(number) = term.slots.first().and_then(|&(slot, _)| record.shard_of_slot(slot)) else {
                continue;
            };
            let Some(shard) = shards.get(&number) else { continue };
            let over = over_at(timeline, node, event.time);
            let first = shard
                .ops
                .iter()
                .filter(|op| op.outcome == Outcome::Ok && op.invoked >= event.time)
                .filter(|op| op.node != Some(node) || op.latest_effect() >= over)
                .filter_map(|op| op.completed)
                .min();
            recoveries.push(Recovery {
                fault,
                name: event.step.name.clone(),
                shard: number,
                at: event.time,
                took_s: first.map(|at| in_seconds(at - event.time)),
            });
        }
    }
    recoveries
}

/// Nodes that the step stopped, or cut from most of the others.
fn targets(record: &Record, actions: &[Action]) -> Vec<NodeId> {
    let mut stopped = Vec::new();
    let mut cuts: BTreeMap<NodeId, std::collections::BTreeSet<NodeId>> = BTreeMap::new();
    for action in actions {
        match action {
            Action::Killed { node, .. } | Action::Exited { node, .. } | Action::Paused { node } => {
                stopped.extend(record.node_id(node));
            }
            Action::Cut { from, to, .. } => {
                if let (Some(from), Some(to)) = (record.node_id(from), record.node_id(to)) {
                    cuts.entry(from).or_default().insert(to);
                    cuts.entry(to).or_default().insert(from);
                }
            }
            _ => {}
        }
    }
    let others = record.info.nodes.len().saturating_sub(1);
    stopped.extend(cuts.into_iter().filter(|(_, cut)| 2 * cut.len() > others).map(|(node, _)| node));
    stopped.sort_unstable();
    stopped.dedup();
    stopped
}

/// When the node was back and in reach.
fn over_at(timeline: &Timeline, node: NodeId, at: Nanos) -> Nanos {
    let process = timeline.faults.process(node);
    let spans = [&process.down, &process.paused, &timeline.isolation[usize::from(node.0)]];
    spans.into_iter().filter_map(|spans| spans.at(at)).map(|span| span.to).max().unwrap_or(at)
}

fn in_seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND as f64
}
