//! The rules of the cluster bus, judged from what was recorded of it and of the storm.

use crate::record::verdict::Wire;
use crate::record::{Nanos, Record};
use crate::timeline::Timeline;
use crate::wire::{Fact, LiveJudge, StormFacts, WireOptions};

/// Judges the bus; `None`: it was not watched.
pub fn check(record: &Record, timeline: &Timeline) -> Option<Wire> {
    let bus = record.bus.as_ref()?;
    let mut judge = LiveJudge::new(WireOptions { node_timeout: timeline.node_timeout() });
    for (time, fact) in facts(record) {
        judge.fact(time, fact);
    }
    judge.known_up_to(Nanos::MAX);
    for line in bus {
        judge.line(line);
        judge.known_up_to(Nanos::MAX);
    }
    Some(judge.finish().0)
}

/// What was done to processes and links, and when the host stood still.
fn facts(record: &Record) -> Vec<(Nanos, Fact)> {
    let mut facts = Vec::new();
    let mut storm = StormFacts::default();
    for event in &record.faults {
        for action in &event.step.actions {
            storm.action(action, |fact| facts.push((event.time, fact)));
        }
    }
    let stalls = &record.stalls;
    facts.extend(stalls.iter().filter_map(|stall| Some((stall.to, storm.stall(stall.from, stall.to)?))));
    facts
}
