//! W11: the mark of a slot on the move is each node's own. A failover on one side takes it away: from then on a key that is
//! on the other side is out of sight, and a write makes a second copy of it, until an operator closes the slot and keeps one
//! of the two.

use std::collections::BTreeSet;

use crate::record::{Action, KeyId, Nanos, NodeId, Outcome, Record};
use crate::timeline::{Span, Timeline, seconds};

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
    let closed = closed_at(record, open).filter(|&at| executed_by <= at)?;
    let ends: BTreeSet<NodeId> = spans.iter().map(|(node, _)| *node).collect();
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
    Some(format!(
        "slot {slot} stood open from {} on when {} became master ({}), which tore it; {} took a write of the key at {}, and one \
         copy was kept when the slot was closed ({})",
        seconds(open.from),
        name(failover.node),
        seconds(failover.time),
        op.node.map_or("a node", name),
        seconds(op.invoked),
        seconds(closed)
    ))
}

/// When open slots were closed by an operator after this one had been opened.
fn closed_at(record: &Record, open: Span) -> Option<Nanos> {
    let closed = |action: &Action| match action {
        Action::Work { what, outcome: Some(outcome) } => {
            what.contains("stood open") || outcome.contains("closed first")
        }
        _ => false,
    };
    let steps = record.faults.iter().filter(|event| event.step.actions.iter().any(closed));
    steps.map(|event| event.time).find(|&at| at >= open.from)
}
