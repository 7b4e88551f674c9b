//! W11: the mark of a slot on the move is each node's own. A failover on one side takes it away: from then on a key that is
//! on the other side is out of sight, and a write makes a second copy of it, until an operator closes the slot and keeps one
//! of the two. If failovers took the marks of both sides, nobody knows of the slot any more: the copy that is not its owner's
//! stays out of sight.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::record::{Action, KeyId, Nanos, NodeId, Outcome, Record};
use crate::timeline::{SECOND, Span, Timeline, seconds};

/// Why a write of this key, executed by `executed_by`, may be gone though both sides had kept all that they took; in words.
pub(super) fn kept_one_of_two(
    record: &Record,
    timeline: &Timeline,
    key: KeyId,
    executed_by: Nanos,
) -> Option<String> {
    let slot = record.key(key).slot;
    let spans = timeline.open_slots.of_slot(slot);
    let open = Span {
        from: spans.iter().map(|(_, span)| span.from).min()?,
        to: spans.iter().map(|(_, span)| span.to).max()?,
    };
    let ends: BTreeSet<NodeId> = spans.iter().map(|(node, _)| *node).collect();
    let by_operator = closed_at(record, open.from.max(executed_by)..=open.to.saturating_add(SECOND));
    // What was written after that met one copy only.
    let forgotten =
        || marks_gone(timeline, open.from, &ends).filter(|&at| executed_by <= at).map(|_| record.end);
    let closed = by_operator.or_else(forgotten)?;
    // The failover is what tears the slot: without it an open slot loses nothing.
    let failover = timeline.promotions.iter().find(|it| {
        let of_slot = crate::slots::contains(&it.slots, slot);
        let of_end = ends.contains(&it.node) || it.from.is_some_and(|from| ends.contains(&from));
        open.from <= it.time && it.earliest <= closed && (of_slot || of_end)
    })?;
    let op = record.ops.iter().find(|op| {
        let meanwhile = op.latest_effect() >= failover.earliest && op.invoked <= closed;
        op.key == key && op.is_write() && op.outcome == Outcome::Ok && meanwhile
    })?;
    let name = |node| record.node_name(node);
    let end = if by_operator.is_some() {
        format!("one copy was kept when the slot was closed ({})", seconds(closed))
    } else {
        "failovers took the marks of the other side, too: its copy is out of sight".to_owned()
    };
    Some(format!(
        "slot {slot} stood open from {} on when {} became master ({}), which tore it; {} took a write of the key at {}, and \
         {end}",
        seconds(open.from),
        name(failover.node),
        seconds(failover.time),
        op.node.map_or("a node", name),
        seconds(op.invoked),
    ))
}

/// When the last of the nodes that were seen with a mark of the slot was replaced; `None`: one still has it.
fn marks_gone(timeline: &Timeline, since: Nanos, ends: &BTreeSet<NodeId>) -> Option<Nanos> {
    let replaced = |node: &NodeId| {
        timeline.promotions.iter().find(|it| it.from == Some(*node) && it.time >= since).map(|it| it.time)
    };
    let all: Option<Vec<Nanos>> = ends.iter().map(replaced).collect();
    all?.into_iter().max()
}

/// When an operator closed open slots, the last time in this interval: before that some may have stayed open.
fn closed_at(record: &Record, within: RangeInclusive<Nanos>) -> Option<Nanos> {
    let closed = |action: &Action| match action {
        Action::Work { what, outcome: Some(outcome) } => {
            what.contains("stood open") || outcome.contains("closed first")
        }
        _ => false,
    };
    let steps = record.faults.iter().filter(|event| event.step.actions.iter().any(closed));
    steps.map(|event| event.time).filter(|at| within.contains(at)).next_back()
}
