//! Two masters that claim the same slots under one config epoch: the collision decides whose data stays. An id is no reason
//! for that (valkey#969, valkey#974): a master that comes back from a minority, where it could serve nobody, must not take
//! its slots from the one that served meanwhile, unless somebody gives it a new epoch by hand.

use super::rules::{Broken, Report};
use crate::record::{Action, Nanos, NodeId, Record, Seen, View};
use crate::slots;
use crate::timeline::{Timeline, seconds};

/// The master that served keeps what it served.
pub const COLLISION: &str = "collision-spares-who-serves";

/// Follows every master that served until it found its slots at another one, with which its epoch had collided.
pub(super) fn check(record: &Record, timeline: &Timeline) -> Report {
    let mut report = Report::default();
    for node in (0..record.nodes.len()).map(|node| NodeId(node as u16)) {
        let words: Vec<(&View, &Seen)> = timeline.words(record, node).collect();
        for pair in words.windows(2) {
            let [(held_at, held), (lost_at, lost)] = pair else { continue };
            let served = held.master && held.ok && held.run_id == lost.run_id;
            if !served || held.slots.is_empty() || held.slots == lost.slots {
                continue;
            }
            let taken = lost.table.iter().find(|row| {
                row.epoch > held.epoch
                    && record.node_id(&row.node).is_some_and(|other| other != node)
                    && !slots::overlap(&row.slots, &held.slots).is_empty()
            });
            let Some(winner) = taken.and_then(|row| record.node_id(&row.node)) else { continue };
            let claim = Claim { epoch: held.epoch, slots: &held.slots, until: lost_at.time };
            let Some(collided_at) = collided(record, timeline, winner, &claim) else { continue };
            report.watch(COLLISION);
            if !given_an_epoch(record, winner, collided_at, lost_at.time) {
                let (name, other) = (record.node_name(winner), record.node_name(node));
                let text = format!(
                    "{name} came back under epoch {}, which was {other}'s, too, and by {} had slots from it that {other} \
                     had served ({}) while {name} could not",
                    held.epoch,
                    seconds(lost_at.time),
                    seconds(held_at.time),
                );
                let span = (collided_at, lost_at.time);
                report.broken.push(Broken { rule: COLLISION, text, span, nodes: vec![winner, node] });
            }
        }
    }
    report
}

/// What a master held and lost, and when it was seen to have lost it.
struct Claim<'a> {
    epoch: u64,
    slots: &'a [(u16, u16)],
    until: Nanos,
}

/// When this node last said, as its last word before it had a greater epoch, that it was master of these slots under this
/// epoch, and that its cluster was down.
fn collided(record: &Record, timeline: &Timeline, node: NodeId, claim: &Claim<'_>) -> Option<Nanos> {
    let mut before = timeline.words(record, node).rev().filter(|(view, _)| view.time <= claim.until);
    let (view, seen) = before.find(|(_, seen)| seen.epoch <= claim.epoch)?;
    let same = seen.epoch == claim.epoch && !slots::overlap(&seen.slots, claim.slots).is_empty();
    (seen.master && same && !seen.ok).then_some(view.sent)
}

/// An operator gave it an epoch in this time, or the slots.
fn given_an_epoch(record: &Record, node: NodeId, from: Nanos, to: Nanos) -> bool {
    let name = record.node_name(node);
    let meant = record.faults.iter().filter(|event| from <= event.time && event.time <= to);
    meant.flat_map(|event| &event.step.actions).any(|action| match action {
        Action::Asked { node, .. } | Action::ManualFailover { node, .. } => node == name,
        _ => false,
    })
}
