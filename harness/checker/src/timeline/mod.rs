//! What follows from a record before anything is judged: who was down, paused, cut, isolated and when; who believed
//! itself master of what; promotions with their offsets; the windows in which two masters are allowed; stalls.
//! Checks, plots and the report all read this.

mod faults;
mod isolation;
mod open_slots;
mod roles;
mod span;
mod windows;

pub use faults::{Cut, CutEffect, Faults, ManualFailover, Process as ProcessLife, Restart};
pub use open_slots::OpenSlots;
pub use roles::{Answers, Promotion, Role, RoleSpan, Term};
pub use span::{MILLI, SECOND, Span, Spans, seconds};
pub use windows::{Window, Windows};

use crate::record::{Nanos, NodeId, Record, Seen, View, verdict::Takeover};
use crate::slots;
use crate::voids::Voided;
use isolation::{Count, Reach};

/// Derived facts of one record.
#[derive(Clone, Debug)]
pub struct Timeline {
    pub faults: Faults,
    /// Measured stalls of any loop, merged.
    pub stalls: Spans,
    /// By node: when it reached no majority of masters on the bus.
    pub isolation: Vec<Spans>,
    /// By node: when it reached none either if former masters count, too.
    pub cut_off: Vec<Spans>,
    /// By node: its polls.
    pub answers: Vec<Answers>,
    /// In the order of time.
    pub terms: Vec<Term>,
    /// In the order of time.
    pub promotions: Vec<Promotion>,
    pub windows: Windows,
    /// Slots on the move.
    pub open_slots: OpenSlots,
    /// By node: what it was, over time.
    pub lanes: Vec<Vec<RoleSpan>>,
    /// Promises that the storm broke.
    pub voided: Voided,
    node_timeout: Nanos,
}

impl Timeline {
    /// Derives it.
    pub fn of(record: &Record) -> Self {
        let faults = Faults::of(record);
        let stalls =
            Spans::of(record.stalls.iter().map(|stall| Span { from: stall.from, to: stall.to }).collect());
        let answers = roles::answers_of(record);
        let (terms, promotions) = roles::terms_of(record, &answers, &faults);
        let reach = Reach::of(record, &faults, &terms, &promotions);
        let (isolation, cut_off) = (reach.isolation(Count::LatestMaster), reach.isolation(Count::AnyMaster));
        let windows = windows::windows_of(&windows::Causes {
            record,
            faults: &faults,
            reach: &reach,
            isolation: &isolation,
            cut_off: &cut_off,
            stalls: &stalls,
            promotions: &promotions,
        });
        let open_slots = OpenSlots::of(record, &answers);
        let lanes = roles::lanes_of(record, &answers, &faults);
        let node_timeout = record.info.node_timeout_ms * MILLI;
        let voided = Voided::of(record);
        Self {
            faults,
            stalls,
            isolation,
            cut_off,
            answers,
            terms,
            promotions,
            windows,
            open_slots,
            lanes,
            voided,
            node_timeout,
        }
    }

    /// cluster-node-timeout.
    pub fn node_timeout(&self) -> Nanos {
        self.node_timeout
    }

    /// What the node said of itself, in the order of its polls.
    pub fn words<'a>(
        &self,
        record: &'a Record,
        node: NodeId,
    ) -> impl DoubleEndedIterator<Item = (&'a View, &'a Seen)> + use<'a, '_> {
        let answered = self.answers[usize::from(node.0)].answered.iter();
        answered.map(|&at| &record.views[at]).filter_map(|view| Some((view, view.seen.as_ref()?)))
    }

    /// `bound` on something that began at `from`, later by the stalls in between.
    pub fn widen(&self, from: Nanos, bound: Nanos) -> Nanos {
        windows::widen(&self.stalls, from, bound)
    }

    /// The node's term in force at a moment: the latest one that may have begun by then.
    pub fn term_at(&self, node: NodeId, at: Nanos) -> Option<&Term> {
        self.terms.iter().rfind(|term| term.node == node && term.earliest <= at)
    }

    /// The promotions that took this slot, in the order of time.
    pub fn promotions_of_slot(&self, slot: u16) -> impl Iterator<Item = &Promotion> {
        self.promotions.iter().filter(move |promotion| slots::contains(&promotion.slots, slot))
    }

    /// A promotion as it stands in the verdict.
    pub fn takeover(&self, record: &Record, promotion: &Promotion) -> Takeover {
        Takeover {
            time: promotion.time,
            node: record.node_name(promotion.node).to_owned(),
            from: promotion.from.map(|node| record.node_name(node).to_owned()).unwrap_or_default(),
            epoch: promotion.epoch,
            offset: promotion.offset,
            replid: promotion.replid.clone(),
        }
    }

    /// What in this run can have caused a promotion: a fault that touched the old master or its links on the bus (what
    /// holds its replicas' stream fails nobody), or a stall of the host, not longer ago than failure detection and a
    /// repeated election take. In words; `None`: nothing.
    pub fn cause_of(&self, record: &Record, promotion: &Promotion) -> Option<String> {
        let since = promotion.earliest.saturating_sub(6 * self.node_timeout + 2 * SECOND);
        let until = promotion.time;
        if let Some(old) = promotion.from {
            let name = record.node_name(old);
            let process = self.faults.process(old);
            if process.down.meets(since, until) {
                return Some(format!("{name} was down"));
            }
            if process.paused.meets(since, until) {
                return Some(format!("{name} was paused"));
            }
            if self.faults.bus_touched_within(old, since, until) {
                return Some(format!("{name}'s links on the bus were disturbed"));
            }
        }
        if self.faults.forced(promotion, self.node_timeout) {
            return Some("the storm forced it".into());
        }
        let stalled = self.stalls.covered(since, until);
        (stalled >= self.node_timeout / 2).then(|| "the host stalled".into())
    }
}
