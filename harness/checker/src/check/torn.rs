//! W11: the mark of a slot on the move is each node's own. A failover on one side takes it away: from then on a key that is
//! on the other side is out of sight, and a write makes a second copy of it, until an operator closes the slot and keeps one
//! of the two.

use std::collections::BTreeSet;

use crate::record::{Action, KeyId, Nanos, NodeId, Operation, Outcome, Record};
use crate::timeline::{Promotion, Span, Timeline, seconds};

/// An open slot of which one side failed over.
struct Tear<'t> {
    open: Span,
    failover: &'t Promotion,
    /// When an operator closed it; None: nobody did.
    closed: Option<Nanos>,
}

impl Tear<'_> {
    fn sentence(&self, record: &Record, slot: u16) -> String {
        format!(
            "slot {slot} stood open from {} on when {} became master ({}), which tore it",
            seconds(self.open.from),
            record.node_name(self.failover.node),
            seconds(self.failover.time)
        )
    }
}

/// Why a write of this key, executed by `executed_by`, may be gone though both sides had kept all that they took; in words.
pub(super) fn kept_one_of_two(
    record: &Record,
    timeline: &Timeline,
    key: KeyId,
    executed_by: Nanos,
) -> Option<String> {
    let slot = record.key(key).slot;
    let tear = tear(record, timeline, slot)?;
    let closed = tear.closed.filter(|&at| executed_by <= at)?;
    let op = record.ops.iter().find(|op| {
        let meanwhile = op.latest_effect() >= tear.failover.earliest && op.invoked <= closed;
        op.key == key && op.is_write() && op.outcome == Outcome::Ok && meanwhile
    })?;
    Some(format!(
        "{}; {} took a write of the key at {}, and one copy was kept when the slot was closed ({})",
        tear.sentence(record, slot),
        op.node.map_or("a node", |node| record.node_name(node)),
        seconds(op.invoked),
        seconds(closed)
    ))
}

/// Why the operation met one side of its key's slot only, what the other has of the key being out of sight; in words.
pub(super) fn saw_one_side(record: &Record, timeline: &Timeline, op: &Operation) -> Option<String> {
    let slot = record.key(op.key).slot;
    let tear = tear(record, timeline, slot)?;
    let meanwhile =
        op.latest_effect() >= tear.failover.earliest && tear.closed.is_none_or(|closed| op.invoked <= closed);
    meanwhile.then(|| tear.sentence(record, slot))
}

/// The failover is what tears the slot: without it an open slot loses nothing.
fn tear<'t>(record: &Record, timeline: &'t Timeline, slot: u16) -> Option<Tear<'t>> {
    let spans = timeline.open_slots.of_slot(slot);
    let open = Span {
        from: spans.iter().map(|(_, span)| span.from).min()?,
        to: spans.iter().map(|(_, span)| span.to).max()?,
    };
    let closed = closed_at(record, open);
    let ends: BTreeSet<NodeId> = spans.iter().map(|(node, _)| *node).collect();
    let failover = timeline.promotions.iter().find(|it| {
        let of_slot = crate::slots::contains(&it.slots, slot);
        let of_end = ends.contains(&it.node) || it.from.is_some_and(|from| ends.contains(&from));
        open.from <= it.time && it.earliest <= closed.unwrap_or(record.end) && (of_slot || of_end)
    })?;
    Some(Tear { open, failover, closed })
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
