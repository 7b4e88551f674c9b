//! W10: a slot goes to another master by a claim with a greater epoch that neither an election nor a migration made. An
//! operator said whose it is (SETSLOT, ADDSLOTS) or gave out an epoch (BUMPEPOCH), `fix` closed it at any price, a node
//! came back with an old nodes.conf, or a replaced master imported slots on. Who loses a slot so deletes its keys, and who
//! wins it never had them.

use std::collections::BTreeMap;

use super::migration::Migrations;
use crate::record::{Action, BusWhat, Nanos, NodeId, Record, Seen, View};
use crate::slots;
use crate::timeline::{MILLI, SECOND, Timeline, seconds};

/// How long after it was made a claim may take to reach a node that no fault touches: it rides on the next ping, and a node
/// that must wait to rejoin (up to 5 s) hears it then.
const HEARD_WITHIN: Nanos = 10 * SECOND;

/// What can have made a claim.
#[derive(Debug)]
struct Cause {
    at: Nanos,
    of: Claimed,
    what: String,
}

/// Which slots a claim may be of.
#[derive(Clone, Copy, Debug)]
enum Claimed {
    One(u16),
    Any,
}

impl Claimed {
    fn may_be(self, slot: u16) -> bool {
        match self {
            Self::One(only) => only == slot,
            Self::Any => true,
        }
    }
}

/// All that can have made claims.
#[derive(Debug)]
pub(super) struct Claims(Vec<Cause>);

/// The last answer of a node in which it held a slot, and the first in which it did not.
struct Handover<'a> {
    /// When it was first asked in the time that it held it.
    held_since: Nanos,
    held: &'a Seen,
    lost: &'a Seen,
    lost_at: &'a View,
}

impl Claims {
    pub fn of(record: &Record) -> Self {
        let causes = record.faults.iter().flat_map(|event| {
            let fix = event.step.name == "fix";
            event.step.actions.iter().filter_map(move |action| cause(event.time, action, fix))
        });
        Self(causes.collect())
    }

    /// Until when the older master may not have heard that slots, seen at the newer one at `since`, were claimed by an operator's
    /// word: nobody broadcasts that. The claim rides on pings and pongs between these two alone (an UPDATE by others says
    /// nothing new under an epoch that is known). They are due each half of the node timeout, but what others tell of
    /// each other's pongs puts them off (clusterProcessGossipSection): the record of the bus says when they were.
    pub fn unheard_until(
        &self,
        record: &Record,
        timeline: &Timeline,
        (older, newer): (NodeId, NodeId),
        slots: &[(u16, u16)],
        since: Nanos,
    ) -> Option<Nanos> {
        let of_these = |cause: &&Cause| match cause.of {
            Claimed::One(slot) => slots::contains(slots, slot),
            Claimed::Any => true,
        };
        let mut made =
            self.0.iter().filter(|cause| cause.at <= since + 200 * MILLI).filter(of_these).peekable();
        made.peek()?;
        let told = told_directly(record, (newer, older), slots);
        let heard = |cause: &Cause| {
            let due = cause.at + timeline.node_timeout() / 2;
            let told = told
                .as_ref()
                .map_or(due, |told| told.iter().copied().find(|at| *at >= cause.at).unwrap_or(Nanos::MAX));
            timeline.widen(cause.at, told.clamp(due, due + HEARD_WITHIN).saturating_add(500 * MILLI))
        };
        made.map(heard).max()
    }

    /// A slot that came back so soon that no poll of its master fell in between: others told of the claim.
    fn unseen_handover<'a>(
        &self,
        record: &'a Record,
        timeline: &Timeline,
        (node, slot): (NodeId, u16),
        since: Nanos,
    ) -> Option<Handover<'a>> {
        let name = record.node_name(node);
        let made = |view: &View| {
            let heard = |cause: &Cause| timeline.widen(cause.at, cause.at + HEARD_WITHIN);
            let mut causes = self.0.iter().filter(|cause| cause.of.may_be(slot));
            causes.any(|cause| cause.at <= view.time && view.time <= heard(cause))
        };
        let others = record.views.iter().filter(|view| view.time >= since && view.node != name);
        others.filter(|view| made(view)).find_map(|view| {
            let seen = view.seen.as_ref()?;
            let row = seen.table.iter().find(|row| slots::contains(&row.slots, slot))?;
            // The winner's own word does not show that anybody heard it.
            if row.node == name || row.node == view.node {
                return None;
            }
            let (_, held) = timeline.words(record, node).rfind(|(own, _)| own.time <= view.sent)?;
            let holds = held.master && slots::contains(&held.slots, slot) && held.epoch < row.epoch;
            holds.then_some(Handover { held_since: since, held, lost: seen, lost_at: view })
        })
    }

    /// How the slot of a key was taken from the node that executed a write asked for at `since`, if it was: in words.
    pub fn took(
        &self,
        record: &Record,
        timeline: &Timeline,
        migrations: &Migrations,
        (key, slot): (&str, u16),
        (node, since): (NodeId, Nanos),
    ) -> Option<String> {
        if self.0.is_empty() && timeline.faults.carrying.is_empty() {
            return None;
        }
        let handover = handover(record, timeline, node, slot, since)
            .or_else(|| self.unseen_handover(record, timeline, (node, slot), since))?;
        let row = handover.lost.table.iter().find(|row| slots::contains(&row.slots, slot))?;
        let winner = record.node_id(&row.node).filter(|&winner| winner != node)?;
        let lost_at = handover.lost_at.time;
        let elected = timeline.promotions_of_slot(slot).any(|it| {
            let in_time = it.time >= handover.held_since && it.earliest <= lost_at;
            it.node == winner && it.from == Some(node) && in_time
        });
        let carried =
            handover.held.open_slots.contains(&slot) || migrations.brought(key, winner, (since, lost_at));
        if row.epoch <= handover.held.epoch || elected || carried {
            return None;
        }
        let operators = self.0.iter().rfind(|cause| {
            let heard = timeline.widen(cause.at, cause.at + HEARD_WITHIN);
            cause.at <= lost_at
                && cause.of.may_be(slot)
                && (handover.lost_at.sent <= heard || timeline.faults.touched_within(node, cause.at, lost_at))
        });
        let (what, at) = operators
            .map(|cause| (cause.what.clone(), cause.at))
            .or_else(|| imported_on(record, timeline, (node, winner), slot, lost_at))?;
        Some(format!(
            "{} lost slot {slot} by {} to {}, whose claim had the greater epoch {}, after {what} ({})",
            record.node_name(node),
            seconds(lost_at),
            row.node,
            row.epoch,
            seconds(at)
        ))
    }
}

/// When one node said to another that it claims some of these slots, if that or its epoch was new on the connection. `None`:
/// the bus was not watched.
fn told_directly(record: &Record, (from, to): (NodeId, NodeId), slots: &[(u16, u16)]) -> Option<Vec<Nanos>> {
    let (from, to) = (record.node_name(from), record.node_name(to));
    let mut claimed: BTreeMap<u64, bool> = BTreeMap::new();
    let mut told = Vec::new();
    for line in record.bus.as_ref()?.iter().filter(|line| line.from == from && line.to == to) {
        let BusWhat::Frame(frame) = &line.what else { continue };
        let claims = claimed.entry(line.conn).or_default();
        if let Some(said) = &frame.slots {
            *claims = !slots::overlap(said, slots).is_empty();
        }
        if *claims && (frame.slots.is_some() || frame.config.is_some()) {
            told.push(line.time);
        }
    }
    Some(told)
}

/// A master that has not heard that `heir` took its place imports slots on, and each may give it an epoch that nobody voted for
/// (W13): so it takes its shard back. In words, and when the slots began to be carried.
fn imported_on(
    record: &Record,
    timeline: &Timeline,
    (heir, replaced): (NodeId, NodeId),
    slot: u16,
    lost_at: Nanos,
) -> Option<(String, Nanos)> {
    let promotions = timeline.promotions_of_slot(slot);
    let promotion = promotions
        .filter(|it| it.time <= lost_at)
        .last()
        .filter(|it| it.node == heir && it.from == Some(replaced))?;
    let mut works = timeline.faults.carrying.iter();
    let work = works.find(|work| work.from <= lost_at && promotion.earliest <= work.to)?;
    Some((
        format!("slots were carried on, of which {} may have got some", record.node_name(replaced)),
        work.from,
    ))
}

fn cause(at: Nanos, action: &Action, fix: bool) -> Option<Cause> {
    match action {
        Action::Asked { node, command, .. } => {
            let of = claimed(command)?;
            Some(Cause { at, of, what: format!("{node} was told {command}") })
        }
        Action::Damaged { node, what } if what.contains("nodes.conf") => {
            Some(Cause { at, of: Claimed::Any, what: format!("the storm changed {node}'s nodes.conf") })
        }
        Action::Work { outcome: Some(_), .. } if fix => {
            Some(Cause { at, of: Claimed::Any, what: "open slots were closed".to_owned() })
        }
        _ => None,
    }
}

/// What a command can make a claim of, if it can.
fn claimed(command: &str) -> Option<Claimed> {
    let words: Vec<String> = command.split_whitespace().map(str::to_ascii_uppercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["CLUSTER", "SETSLOT", slot, "NODE", _] => slot.parse().ok().map(Claimed::One),
        [
            "CLUSTER",
            "BUMPEPOCH" | "SET-CONFIG-EPOCH" | "ADDSLOTS" | "ADDSLOTSRANGE" | "DELSLOTS" | "DELSLOTSRANGE"
            | "FLUSHSLOTS" | "RESET",
            ..,
        ] => Some(Claimed::Any),
        _ => None,
    }
}

/// When the node lost the slot after `since`, by its own word.
fn handover<'a>(
    record: &'a Record,
    timeline: &Timeline,
    node: NodeId,
    slot: u16,
    since: Nanos,
) -> Option<Handover<'a>> {
    let mut held: Option<(Nanos, &Seen)> = None;
    for (view, seen) in timeline.words(record, node) {
        if seen.master && slots::contains(&seen.slots, slot) {
            held = Some((held.map_or(view.sent, |(since, _)| since), seen));
        } else if let Some((held_since, held)) = held.take()
            && view.time >= since
        {
            return Some(Handover { held_since, held, lost: seen, lost_at: view });
        }
    }
    None
}
