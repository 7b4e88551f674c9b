//! W11: the mark of a slot on the move is each node's own. A failover on one side takes it away: from then on a key that is
//! on the other side is out of sight, and a write makes a second copy of it, until an operator closes the slot and keeps one
//! of the two. If failovers took the marks of both sides, or the owner gave its mark up since the other side is no master any
//! more, nobody knows of the slot any more: the copy that is not its owner's stays out of sight.

use std::collections::{BTreeMap, BTreeSet};

use super::migration::Migrations;
use crate::record::{Action, Nanos, NodeId, Operation, Outcome, Phase, Record, Seen};
use crate::timeline::{Promotion, SECOND, Span, Timeline, seconds};

/// A slot that stood open when one of its sides failed over, as it was at some moment.
struct Tear<'t> {
    slot: u16,
    open: Span,
    failover: &'t Promotion,
    /// When an operator closed it; None: nobody did.
    closed: Option<Nanos>,
    /// No node knows of it any more.
    forgotten: bool,
    /// Who had it open or was to get it, until when: then it was closed, or another one took its place.
    ends: BTreeMap<NodeId, Span>,
}

/// Why this write, executed by `executed_by`, may be gone though both sides had kept all that they took; in words.
pub(super) fn kept_one_of_two(
    record: &Record,
    timeline: &Timeline,
    migrations: &Migrations,
    (write, executed_by): (&Operation, Nanos),
) -> Option<String> {
    let tear = Tear::at(record, timeline, record.key(write.key).slot, executed_by)?;
    if executed_by > tear.open.to.saturating_add(SECOND) {
        return None;
    }
    let (until, end) = match tear.closed {
        Some(at) => (at, format!("one copy was kept when the slot was closed ({})", seconds(at))),
        None if tear.forgotten => (
            record.end,
            "failovers took the marks of the other side, too: its copy is out of sight".to_owned(),
        ),
        None => return None,
    };
    let key = record.key(write.key).name.as_str();
    let mut of_key =
        record.ops.iter().filter(|op| op.key == write.key && op.is_write() && op.invoked <= until);
    if of_key.clone().all(|op| std::ptr::eq(op, write)) {
        return None; // of one write there are no two copies
    }
    let took = of_key.clone().filter(|op| op.outcome == Outcome::Ok).filter_map(|op| op.node);
    let ends_that_took: BTreeSet<NodeId> = took.filter(|node| tear.ends.contains_key(node)).collect();
    if ends_that_took.len() < 2 && migrations.came_to_none(key, &tear.ends, write.node) {
        return None; // nor of a key that never came to the other end
    }
    let op = of_key.find(|op| op.outcome == Outcome::Ok && op.latest_effect() >= tear.failover.earliest)?;
    Some(format!(
        "{}; {} took a write of the key at {}, and {end}",
        tear.sentence(record),
        op.node.map_or("a node", |node| record.node_name(node)),
        seconds(op.invoked),
    ))
}

/// Why the operation met one side of its key's slot only, what the other has of the key being out of sight; in words.
pub(super) fn saw_one_side(record: &Record, timeline: &Timeline, op: &Operation) -> Option<String> {
    let tear = Tear::at(record, timeline, record.key(op.key).slot, op.invoked)?;
    let open = tear.forgotten || op.invoked <= tear.open.to.saturating_add(SECOND);
    (open && op.latest_effect() >= tear.failover.earliest).then(|| tear.sentence(record))
}

impl<'t> Tear<'t> {
    /// The failover is what tears the slot: without it an open slot loses nothing.
    fn at(record: &Record, timeline: &'t Timeline, slot: u16, at: Nanos) -> Option<Self> {
        let spans = timeline.open_slots.of_slot(slot);
        let open = Span {
            from: spans.iter().map(|(_, span)| span.from).min()?,
            to: spans.iter().map(|(_, span)| span.to).max()?,
        };
        let closed = closed_in(record, open.from.max(at), open.to.saturating_add(SECOND));
        let mut ends: BTreeSet<NodeId> = spans.iter().map(|(node, _)| *node).collect();
        // Whoever it goes to may have failed before anybody asked it.
        ends.extend(spans.iter().filter_map(|&(node, span)| goes_to(record, timeline, (node, span), slot)));
        let failover = timeline.promotions.iter().find(|it| {
            let of_slot = crate::slots::contains(&it.slots, slot);
            let of_end = ends.contains(&it.node) || it.from.is_some_and(|from| ends.contains(&from));
            open.from <= it.time && it.earliest <= closed.unwrap_or(record.end) && (of_slot || of_end)
        })?;
        let replaced_by = |node: NodeId| {
            timeline.promotions.iter().find(|it| it.from == Some(node) && it.time >= open.from)
        };
        let forgets = |node: &NodeId| replaced_by(*node).is_some() || gave_up(record, timeline, *node, slot);
        let forgotten = ends.iter().all(forgets);
        let ends = ends.into_iter().map(|node| {
            let to = replaced_by(node).map_or(open.to, |it| it.earliest.min(open.to));
            // It may have stood still since it was asked before.
            let before = timeline.words(record, node).rfind(|(view, _)| view.time <= open.from);
            let from = before.map_or(open.from, |(view, _)| view.sent);
            (node, Span { from, to: to.max(open.from) })
        });
        Some(Self { slot, open, failover, closed, forgotten, ends: ends.collect() })
    }

    fn sentence(&self, record: &Record) -> String {
        format!(
            "slot {} stood open from {} on when {} became master ({}), which tore it",
            self.slot,
            seconds(self.open.from),
            record.node_name(self.failover.node),
            seconds(self.failover.time)
        )
    }
}

/// Who a slot is to go to, in the words of a node that has it open.
fn goes_to(record: &Record, timeline: &Timeline, (node, span): (NodeId, Span), slot: u16) -> Option<NodeId> {
    let mut open = timeline.words(record, node).filter(|(_, seen)| seen.open_slots.contains(&slot));
    let (_, seen) = open.find(|(view, _)| view.sent >= span.from)?;
    let (name, _) = seen.migrating_to.iter().find(|(_, ranges)| crate::slots::contains(ranges, slot))?;
    record.node_id(name)
}

/// True if the node's mark went by itself while the storm lasted, and the slot is whose it was: the other side is no master any
/// more, or the importing one was told to forget it.
fn gave_up(record: &Record, timeline: &Timeline, node: NodeId, slot: u16) -> bool {
    let spans = timeline.open_slots.of_slot(slot).iter().filter(|(it, _)| *it == node);
    let Some(ended) = spans.map(|(_, span)| span.to).max() else { return false };
    let closes = record.phase(Phase::Converge).unwrap_or(record.end);
    if ended.saturating_add(SECOND) >= closes {
        return false;
    }
    let is_open = |seen: &Seen| seen.open_slots.contains(&slot);
    let owns = |seen: &Seen| crate::slots::contains(&seen.slots, slot);
    let words = || timeline.words(record, node);
    let before = words().rfind(|(view, seen)| view.sent < ended && is_open(seen)).map(|(_, seen)| owns(seen));
    let after = words().find(|(view, _)| view.sent > ended).map(|(_, seen)| seen);
    let unchanged = after.is_some_and(|seen| seen.master && !is_open(seen) && Some(owns(seen)) == before);
    unchanged && (before == Some(true) || told_to_forget(record, node, ended))
}

/// By CLUSTER FORGET, or as all are when a node leaves.
fn told_to_forget(record: &Record, node: NodeId, until: Nanos) -> bool {
    let name = record.node_name(node);
    let forgets = |action: &Action| match action {
        Action::Asked { node, command, .. } => node == name && command.starts_with("CLUSTER FORGET"),
        Action::Work { what, outcome: Some(_) } => what.ends_with(" leaves"),
        _ => false,
    };
    record
        .faults
        .iter()
        .filter(|event| event.time <= until)
        .any(|event| event.step.actions.iter().any(forgets))
}

/// When an operator closed open slots for the last time in this interval: what was closed before may have left the slot open.
/// Work that goes on after it closed them is recorded at its end; then the interval's end, when the slot stood open no more.
fn closed_in(record: &Record, from: Nanos, to: Nanos) -> Option<Nanos> {
    let mut last = None;
    let mut begun: BTreeMap<(Option<u32>, &str), Nanos> = BTreeMap::new();
    for event in &record.faults {
        for action in &event.step.actions {
            let Action::Work { what, outcome } = action else { continue };
            let work = (event.step.fault, what.as_str());
            let Some(outcome) = outcome else {
                begun.insert(work, event.time);
                continue;
            };
            let since = begun.remove(&work).unwrap_or(event.time);
            let closes = what.contains("stood open") || outcome.contains("closed first");
            if closes && since <= to && from <= event.time {
                last = last.max(Some(event.time.min(to)));
            }
        }
    }
    last
}
