//! Protocol invariants that the nodes' own views and what they say on the bus must keep, each with a name and a count of
//! how often it was evaluated; and servers that crashed.

use std::collections::BTreeMap;

use super::{LISTED, candidates, collisions, members, rules, wire};
use crate::record::verdict::{Finding, Invariants, SplitBrain, Validity};
use crate::record::{FailoverMode, Nanos, NodeId, Phase, Record, Seen, View};
use crate::slots;
use crate::timeline::{SECOND, Timeline, seconds};

/// In each node's table, the epoch of a slot's owner never goes back.
pub const OWNER_EPOCH: &str = "owner-epoch-never-goes-back";
/// A process' currentEpoch never goes back.
pub const CURRENT_EPOCH: &str = "current-epoch-never-goes-back";
/// A restarted node knows at least the config epochs that it had told before.
pub const EPOCH_SURVIVES: &str = "epochs-survive-a-restart";
/// No two promotions have the same epoch.
pub const PROMOTION_EPOCH: &str = "promotion-epoch-is-new";
/// Two masters with the same epoch and a slot in common do not last.
pub const EQUAL_EPOCHS: &str = "no-lasting-equal-epochs";
/// Slots of another are taken by its replica only.
pub const PROMOTED_REPLICA: &str = "only-a-replica-takes-over";
/// How long after an operator's move a node may take to hear of it.
const MOVES_HEARD: Nanos = 10 * SECOND;
/// No server ends unasked.
pub const CRASH: &str = "no-crash";

/// Watches all of them. `split_brain` has measured how long equal epochs lasted.
pub fn check(record: &Record, timeline: &Timeline, split_brain: &SplitBrain) -> Invariants {
    let mut watch = Watch { record, timeline, entry: Invariants::default() };
    watch.crashes();
    for node in 0..record.nodes.len() {
        watch.node(NodeId(node as u16));
    }
    watch.promotions();
    watch.report(candidates::check(record, timeline));
    watch.report(collisions::check(record, timeline));
    watch.report(members::check(record));
    watch.equal_epochs(split_brain);
    watch.entry.takeovers =
        timeline.promotions.iter().map(|promotion| timeline.takeover(record, promotion)).collect();
    watch.wire();
    watch.decide()
}

struct Watch<'a> {
    record: &'a Record,
    timeline: &'a Timeline,
    entry: Invariants,
}

impl Watch<'_> {
    fn crashes(&mut self) {
        let end = self.record.phase(Phase::End).unwrap_or(Nanos::MAX);
        for number in 0..self.record.nodes.len() {
            let node = NodeId(number as u16);
            *self.entry.watched.entry(CRASH.into()).or_default() += 1;
            for (at, status) in self.timeline.faults.process(node).exits.iter().filter(|(at, _)| *at < end) {
                self.entry.crashes += 1;
                let name = self.record.node_name(node);
                let text = format!("{name} ended unasked at {} ({status})", seconds(*at));
                self.broken(CRASH, text, (*at, *at), &[node], false);
            }
        }
    }

    /// What one node's answers must keep from each to the next.
    fn node(&mut self, node: NodeId) {
        let begin = self.record.phase(Phase::Load).or(self.record.phase(Phase::Storm)).unwrap_or(0);
        let timeline = self.timeline;
        let mut before: Option<(&View, &Seen)> = None;
        for (view, seen) in timeline.words(self.record, node) {
            if let Some((last, known)) = before {
                let wiped = self
                    .timeline
                    .faults
                    .process(node)
                    .wipes
                    .iter()
                    .any(|&at| last.sent <= at && at <= view.time);
                if !wiped {
                    self.step(node, (last, known), (view, seen));
                }
                if view.time >= begin {
                    self.grab(node, (last, known), (view, seen));
                }
            }
            before = Some((view, seen));
        }
    }

    fn step(&mut self, node: NodeId, (last, known): (&View, &Seen), (view, seen): (&View, &Seen)) {
        let name = self.record.node_name(node);
        let at = (last.time, view.time);
        if known.run_id == seen.run_id {
            self.count(CURRENT_EPOCH);
            if seen.current_epoch < known.current_epoch {
                let text = format!(
                    "{name}'s currentEpoch went from {} to {} by {}",
                    known.current_epoch,
                    seen.current_epoch,
                    seconds(view.time)
                );
                self.broken(CURRENT_EPOCH, text, at, &[node], false);
            }
        } else {
            // currentEpoch itself may be learned without being saved; config epochs are saved before they are told.
            self.count(EPOCH_SURVIVES);
            let told = known.table.iter().map(|row| row.epoch).max().unwrap_or(0).max(known.epoch);
            if seen.current_epoch < told {
                let text = format!(
                    "{name} knew config epoch {told}, and came back with currentEpoch {} by {}",
                    seen.current_epoch,
                    seconds(view.time)
                );
                self.broken(EPOCH_SURVIVES, text, at, &[node], false);
            }
        }
        if known.table == seen.table {
            self.count(OWNER_EPOCH);
            return;
        }
        self.count(OWNER_EPOCH);
        // Who is told by an operator whose a slot is believes it, whatever the epochs. Who hears late of slots that moved hears
        // an owner's older words after its newer ones, on another connection: what it does not speak of is anyone's then.
        let faults = &self.timeline.faults;
        let since = faults.heard_since(node, last.sent.saturating_sub(SECOND), view.time).min(last.sent);
        if faults.moving.meets(since, view.time) {
            return;
        }
        for row in &known.table {
            for other in seen.table.iter().filter(|other| other.epoch < row.epoch) {
                let both =
                    self.not_imported(slots::overlap(&row.slots, &other.slots), &other.node, view.time);
                if let Some((first, end)) = both.first() {
                    let text = format!(
                        "in {name}'s table slots {first}-{end} went from {} (epoch {}) back to {} (epoch {}) by {}",
                        row.node,
                        row.epoch,
                        other.node,
                        other.epoch,
                        seconds(view.time)
                    );
                    // What an owner says of itself is believed, also if it forgot the epoch under which it took them.
                    let voided =
                        self.timeline.voided.covers(OWNER_EPOCH, &[&row.node, &other.node], view.time);
                    self.broken(OWNER_EPOCH, text, at, &[node], voided);
                }
            }
        }
    }

    /// Without those that this node had imported shortly before: its claim rides on pings, which others' words of pongs put off, and
    /// meanwhile the old owner may tell a greater epoch that it took for something else.
    fn not_imported(&self, both: Vec<(u16, u16)>, owner: &str, at: Nanos) -> Vec<(u16, u16)> {
        let Some(owner) = self.record.node_id(owner) else { return both };
        let imported =
            |slot: &u16| self.timeline.open_slots.at(owner, *slot, at.saturating_sub(MOVES_HEARD), at);
        let slots = both.iter().flat_map(|&(first, last)| first..=last);
        slots::without(&both, &slots::ranges_of(slots.filter(imported)))
    }

    /// Slots may come to a node by its promotion only: a master does not take another's.
    fn grab(&mut self, node: NodeId, (last, known): (&View, &Seen), (view, seen): (&View, &Seen)) {
        if !seen.master || seen.slots.is_empty() || seen.slots == known.slots {
            return;
        }
        self.count(PROMOTED_REPLICA);
        let since = last.sent.saturating_sub(MOVES_HEARD);
        if !known.master || self.timeline.faults.moving.meets(since, view.time) {
            return;
        }
        let held: u32 =
            slots::overlap(&known.slots, &seen.slots).iter().map(|r| u32::from(r.1 - r.0) + 1).sum();
        let holds: u32 = seen.slots.iter().map(|r| u32::from(r.1 - r.0) + 1).sum();
        if holds > held {
            let text = format!(
                "{} was a master and took {} slots of others by {}",
                self.record.node_name(node),
                holds - held,
                seconds(view.time)
            );
            self.broken(PROMOTED_REPLICA, text, (last.time, view.time), &[node], false);
        }
    }

    fn promotions(&mut self) {
        let mut won: BTreeMap<u64, usize> = BTreeMap::new();
        let promotions = &self.timeline.promotions;
        for (number, promotion) in promotions.iter().enumerate() {
            self.count(PROMOTION_EPOCH);
            let Some(before) = won.insert(promotion.epoch, number).map(|before| &promotions[before]) else {
                continue;
            };
            let text = format!(
                "{} took over with epoch {} by {}, with which {} had taken over by {}",
                self.record.node_name(promotion.node),
                promotion.epoch,
                seconds(promotion.time),
                self.record.node_name(before.node),
                seconds(before.time)
            );
            // TAKEOVER mints its epoch alone (W13), so it voids this one.
            let node_timeout = self.timeline.node_timeout();
            let voided = [before, promotion]
                .into_iter()
                .any(|p| self.timeline.faults.manual(p, node_timeout) == Some(FailoverMode::Takeover));
            let at = (before.time, promotion.time);
            self.broken(PROMOTION_EPOCH, text, at, &[before.node, promotion.node], voided);
        }
    }

    /// Rules that have a check of their own.
    fn report(&mut self, report: rules::Report) {
        let rules::Report { watched, broken } = report;
        self.entry.watched.extend(watched.into_iter().map(|(rule, count)| (rule.to_owned(), count)));
        for rules::Broken { rule, text, span, nodes } in broken {
            self.broken(rule, text, span, &nodes, false);
        }
    }

    fn equal_epochs(&mut self, split_brain: &SplitBrain) {
        self.count(EQUAL_EPOCHS);
        for overlap in split_brain.lasting.iter().filter(|overlap| overlap.epochs.0 == overlap.epochs.1) {
            let (one, other) = &overlap.nodes;
            let text = format!("{one} and {other} held the same slots with epoch {}", overlap.epochs.0);
            let nodes: Vec<NodeId> =
                [one, other].into_iter().filter_map(|name| self.record.node_id(name)).collect();
            self.broken(EQUAL_EPOCHS, text, (overlap.from, overlap.to), &nodes, false);
        }
    }

    /// What the judge of the bus found is put among the rest.
    fn wire(&mut self) {
        let Some(mut seen) = wire::check(self.record, self.timeline) else { return };
        for (name, rule) in &seen.rules {
            self.entry.watched.insert(name.clone(), rule.judged);
        }
        for finding in std::mem::take(&mut seen.findings) {
            let voided = self.timeline.voided.covers(&finding.what, &finding.nodes, finding.to);
            let finding = Finding { excused: finding.excused || voided, ..finding };
            let list =
                if finding.excused { &mut self.entry.outside_model } else { &mut self.entry.violations };
            if list.len() < LISTED {
                list.push(finding);
            }
        }
        self.entry.wire = Some(seen);
    }

    fn count(&mut self, name: &str) {
        match self.entry.watched.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.entry.watched.insert(name.into(), 1);
            }
        }
    }

    fn broken(
        &mut self,
        name: &str,
        text: String,
        (from, to): (Nanos, Nanos),
        nodes: &[NodeId],
        voided: bool,
    ) {
        let names: Vec<&str> = nodes.iter().map(|&node| self.record.node_name(node)).collect();
        let voided = voided || self.timeline.voided.covers(name, &names, to);
        let list = if voided { &mut self.entry.outside_model } else { &mut self.entry.violations };
        if list.len() >= LISTED {
            return;
        }
        list.push(Finding {
            what: name.into(),
            text,
            excused: voided,
            from,
            to,
            nodes: nodes.iter().map(|&node| self.record.node_name(node).to_owned()).collect(),
            witness: Vec::new(),
            bus: Vec::new(),
        });
    }

    fn decide(self) -> Invariants {
        let mut entry = self.entry;
        if let Some(first) = entry.violations.first() {
            entry.valid = Validity::Invalid;
            entry.reason = format!("{}: {}", first.what, first.text);
        } else if self.timeline.answers.iter().all(|answers| answers.answered.is_empty()) {
            entry.valid = Validity::Unknown;
            entry.reason = "no node answered any poll".into();
        }
        entry
    }
}
