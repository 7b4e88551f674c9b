//! The rules of the cluster bus, judged from what was recorded of it and of the storm.

use crate::record::verdict::Wire;
use crate::record::{FailoverMode, Nanos, NodeId, Record};
use crate::timeline::{CutEffect, MILLI, Span, Timeline};
use crate::wire::{Fact, WireJudge, WireOptions};

/// Shorter ones are inside the judge's own margins, even many in a row.
const STALL_MIN: Nanos = 100 * MILLI;

/// Judges the bus; `None`: it was not watched.
pub fn check(record: &Record, timeline: &Timeline) -> Option<Wire> {
    let bus = record.bus.as_ref()?;
    let mut judge = WireJudge::new(WireOptions { node_timeout: timeline.node_timeout() });
    let mut facts = facts(record, timeline).into_iter().peekable();
    for (at, line) in bus.iter().enumerate() {
        while let Some((time, fact)) = facts.next_if(|(time, _)| *time <= line.time) {
            judge.fact(time, &fact);
        }
        judge.on(at as u64 + 1, line);
    }
    facts.for_each(|(time, fact)| judge.fact(time, &fact));
    Some(judge.finish())
}

/// What was done to processes and links, in the order of time.
fn facts(record: &Record, timeline: &Timeline) -> Vec<(Nanos, Fact)> {
    let mut facts = Vec::new();
    let name = |node: NodeId| record.node_name(node).to_owned();
    let mut between = |span: &Span, begin: Fact, end: Fact| {
        facts.push((span.from, begin));
        if span.to != Nanos::MAX {
            facts.push((span.to, end));
        }
    };
    for number in 0..record.nodes.len() {
        let node = NodeId(number as u16);
        for span in &timeline.faults.process(node).paused {
            between(span, Fact::Paused { node: name(node) }, Fact::Resumed { node: name(node) });
        }
    }
    for cut in timeline.faults.cuts.iter().filter(|cut| cut.plane == "bus") {
        if cut.effect != CutEffect::Breaks {
            let (from, to) = (name(cut.from), name(cut.to));
            between(&cut.span, Fact::Cut { from: from.clone(), to: to.clone() }, Fact::Healed { from, to });
        }
    }
    for number in 0..record.nodes.len() {
        let node = NodeId(number as u16);
        let down = timeline.faults.process(node).down.iter();
        facts.extend(down.map(|span| (span.from, Fact::Ended { node: name(node) })));
    }
    let takeovers =
        timeline.faults.manual_failovers.iter().filter(|manual| manual.mode == FailoverMode::Takeover);
    facts.extend(takeovers.map(|manual| (manual.at, Fact::Takeover { node: name(manual.node) })));
    // As they were measured, not merged: what one loop saw when its stall ended is judged with that stall known.
    let stalls = record.stalls.iter().filter(|stall| stall.to - stall.from >= STALL_MIN);
    facts.extend(stalls.map(|stall| (stall.to, Fact::Stalled { since: stall.from })));
    facts.sort_by_key(|(time, _)| *time);
    facts
}
