//! Slots on the move: which node said, and when, that it was importing or migrating them.

use std::collections::BTreeMap;

use super::roles::Answers;
use super::span::Span;
use crate::record::Nanos;
use crate::record::{NodeId, Record};

/// By slot: who had it open, and from its first answer that said so to its first that did not.
#[derive(Clone, Debug, Default)]
pub struct OpenSlots(BTreeMap<u16, Vec<(NodeId, Span)>>);

impl OpenSlots {
    pub(super) fn of(record: &Record, answers: &[Answers]) -> Self {
        let mut all: BTreeMap<u16, Vec<(NodeId, Span)>> = BTreeMap::new();
        for (number, of) in answers.iter().enumerate() {
            let node = NodeId(number as u16);
            let mut open: BTreeMap<u16, Nanos> = BTreeMap::new();
            for view in of.answered.iter().map(|&view| &record.views[view]) {
                let Some(seen) = &view.seen else { continue };
                if seen.open_slots.is_empty() && open.is_empty() {
                    continue;
                }
                for &slot in &seen.open_slots {
                    open.entry(slot).or_insert(view.sent);
                }
                open.retain(|slot, from| {
                    let still = seen.open_slots.contains(slot);
                    if !still {
                        all.entry(*slot).or_default().push((node, Span { from: *from, to: view.time }));
                    }
                    still
                });
            }
            for (slot, from) in open {
                all.entry(slot).or_default().push((node, Span { from, to: record.end }));
            }
        }
        Self(all)
    }

    /// Who had this slot open, and when.
    pub fn of_slot(&self, slot: u16) -> &[(NodeId, Span)] {
        self.0.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// True if the node had the slot open at some moment of the interval.
    pub fn at(&self, node: NodeId, slot: u16, from: Nanos, to: Nanos) -> bool {
        self.of_slot(slot).iter().any(|(it, span)| *it == node && span.meets(from, to))
    }
}
