//! Which replica may be elected. Not one whose data is older than `cluster-replica-validity-factor` allows; not one that
//! holds another shard's data, since it never synchronised with the master that it replaces; and where nothing disturbs the
//! replicas, not one that is behind another of its shard and asks before it: offsets are told on the bus.

use std::collections::BTreeMap;

use super::rules::{Broken, Report};
use crate::record::{Action, BusWhat, MESSAGES, Nanos, NodeId, Record, Seen, StreamLine, StreamWhat, View};
use crate::slots;
use crate::timeline::{MILLI, Promotion, SECOND, Span, Spans, Timeline, seconds};

/// A replica whose data is too old refuses to be elected.
pub const FRESH: &str = "promoted-data-is-fresh-enough";
/// A replica that came from another shard and has not synchronised since is not elected (valkey#4425).
pub const OWN_SHARD: &str = "promoted-data-is-of-its-shard";
/// Of several replicas the one with the most data is elected.
pub const BEST: &str = "best-replica-is-promoted";

/// Offsets are told once a second; whoever has known its own for so long has told it.
const TOLD: Nanos = 1_200 * MILLI;

/// Judges every promotion that nobody asked for by hand.
pub(super) fn check(record: &Record, timeline: &Timeline) -> Report {
    let mut look = Look { record, timeline, report: Report::default() };
    let limit = look.oldest_allowed();
    for (number, promotion) in timeline.promotions.iter().enumerate() {
        if timeline.faults.manual(promotion, timeline.node_timeout()).is_some() {
            continue;
        }
        if let Some(limit) = limit {
            look.fresh(promotion, limit);
        }
        look.of_its_shard(promotion);
        look.best(number, promotion);
    }
    look.report
}

struct Look<'a> {
    record: &'a Record,
    timeline: &'a Timeline,
    report: Report,
}

impl<'a> Look<'a> {
    /// How old a promoted replica's data may be; none: as old as it likes, or the storm changed that.
    fn oldest_allowed(&self) -> Option<Nanos> {
        let names = ["cluster-replica-validity-factor", "cluster-slave-validity-factor"];
        let periods = ["repl-ping-replica-period", "repl-ping-slave-period"];
        let changed =
            self.record.faults.iter().flat_map(|event| &event.step.actions).any(|action| match action {
                Action::Asked { command, .. } => {
                    names.iter().chain(&periods).any(|name| command.to_ascii_lowercase().contains(name))
                }
                // Its time may run at another speed.
                Action::Clock { .. } => true,
                _ => false,
            });
        let number = |of: &[&str]| -> Nanos {
            let found = of.iter().find_map(|name| self.record.info.directives.get(*name));
            found.and_then(|text| text.trim().parse().ok()).unwrap_or(10)
        };
        let (factor, period) = (number(&names), number(&periods) * SECOND);
        let node_timeout = self.timeline.node_timeout();
        // The limit itself; the time in which the master could not be blamed yet; a master that had nothing to say but
        // its pings; and what the polls cannot tell.
        let limit = (period + factor * node_timeout) + node_timeout + period + SECOND;
        (factor > 0 && !changed).then_some(limit)
    }

    fn fresh(&mut self, promotion: &Promotion, limit: Nanos) {
        // Its last word as a replica may have come after the moment from which on it may have been promoted.
        let mut views = self.views_before(promotion.node, promotion.time).skip_while(|(_, seen)| seen.master);
        let Some((mut first, last)) = views.next() else { return };
        for (view, seen) in views {
            let same = (seen.offset, seen.link_up, &seen.run_id) == (last.offset, last.link_up, &last.run_id);
            if !same || seen.master {
                break;
            }
            first = view;
        }
        let (since, until) = (first.time, promotion.earliest);
        let unseen = self.link_freed(promotion.node).chain(self.synced(promotion.node));
        let since = unseen.filter(|&at| since < at && at <= promotion.time).max().unwrap_or(since);
        if self.timeline.faults.stopped_within(promotion.node, since, until) {
            return;
        }
        self.report.watch(FRESH);
        let age = until.saturating_sub(since);
        if age > limit {
            let text = format!(
                "{} was elected by {} with data of {}: nothing had come from its master since, and {:.1} s is the limit",
                self.record.node_name(promotion.node),
                seconds(promotion.time),
                seconds(since),
                limit as f64 / 1e9
            );
            let nodes = vec![promotion.node];
            self.report.broken.push(Broken { rule: FRESH, text, span: (since, promotion.time), nodes });
        }
    }

    /// When cuts that held what a master sends to this replica ended. What was held arrives then, its end with it: the data are
    /// as old as that, and no poll may have seen it before the election (redis-server shows it, too).
    fn link_freed(&self, node: NodeId) -> impl Iterator<Item = Nanos> {
        let cuts = self.timeline.faults.cuts.iter();
        let to_it = cuts.filter(move |cut| cut.to == node && cut.plane == "replication");
        to_it.map(|cut| cut.span.to)
    }

    /// When this replica began to follow a master anew, which no poll may have seen either.
    fn synced(&self, node: NodeId) -> impl Iterator<Item = Nanos> {
        let name = self.record.node_name(node);
        let begins =
            |line: &&StreamLine| matches!(line.what, StreamWhat::Full { .. } | StreamWhat::Continue { .. });
        self.record.stream.iter().filter(begins).filter(move |line| line.to == name).map(|line| line.time)
    }

    /// Told by the histories that masters had before: the promoted one's must have been of a master of its slots. One that no
    /// answer shows, since its master ended before it was asked, proves nothing.
    fn of_its_shard(&mut self, promotion: &Promotion) {
        let mut owner = None;
        let before = self.record.views.iter().filter(|view| view.time <= promotion.earliest);
        for view in before {
            let Some(seen) = view.seen.as_ref().filter(|seen| seen.master && !seen.slots.is_empty()) else {
                continue;
            };
            if ![&seen.replid, &seen.replid2].contains(&&promotion.replid) {
                continue;
            }
            let is_own = !slots::overlap(&seen.slots, &promotion.slots).is_empty();
            owner = Some((view, is_own));
            if is_own {
                break;
            }
        }
        let Some((owner, is_own)) = owner else { return };
        self.report.watch(OWN_SHARD);
        if is_own {
            return;
        }
        let text = format!(
            "{} was elected by {} with the data of another shard: its history was that of {} ({}), and of no master of its \
             slots",
            self.record.node_name(promotion.node),
            seconds(promotion.time),
            owner.node,
            seconds(owner.time)
        );
        let (span, nodes) = ((promotion.earliest, promotion.time), vec![promotion.node]);
        self.report.broken.push(Broken { rule: OWN_SHARD, text, span, nodes });
    }

    fn best(&mut self, number: usize, promotion: &Promotion) {
        let node_timeout = self.timeline.node_timeout();
        let (Some(master), Some(mine)) = (promotion.from, promotion.offset) else { return };
        let until = promotion.time;
        let since = promotion.earliest.saturating_sub(2 * node_timeout + 2 * SECOND);
        if self.disturbed(master, since, until) || self.was_contested(number, promotion) {
            return;
        }
        let asked = self.asked(promotion);
        let first_ask = asked.get(self.record.node_name(promotion.node)).copied();
        let mut compared = false;
        let others = (0..self.record.nodes.len()).map(|other| NodeId(other as u16));
        for other in others.filter(|other| *other != promotion.node && *other != master) {
            let of_master = |seen: &Seen| {
                !seen.master
                    && seen.master_name.as_deref() == Some(self.record.node_name(master))
                    && seen.replid == promotion.replid
            };
            let at = |time| self.views_before(other, time).next();
            let (Some((_, now)), Some((_, told)), Some((_, before))) =
                (at(promotion.earliest), at(promotion.earliest.saturating_sub(TOLD)), at(since))
            else {
                continue;
            };
            let there =
                [now, told, before].into_iter().all(|seen| seen.run_id == now.run_id && of_master(seen));
            // Who asked and did not win may have lost to another shard's election; who is behind must not ask before it.
            let in_turn = match asked.get(self.record.node_name(other)) {
                Some(theirs) => first_ask.is_none_or(|mine| *theirs <= mine),
                None => asked.len() > usize::from(first_ask.is_some()),
            };
            if !there || in_turn {
                continue;
            }
            compared = true;
            if told.offset.min(now.offset) > mine {
                let (name, better) = (self.record.node_name(promotion.node), self.record.node_name(other));
                let text = format!(
                    "{name} was elected by {} with offset {mine}, though {better} had {} and nothing was in its way",
                    seconds(promotion.time),
                    told.offset
                );
                let (span, nodes) = ((since, until), vec![promotion.node, other]);
                self.report.broken.push(Broken { rule: BEST, text, span, nodes });
            }
        }
        if compared {
            self.report.watch(BEST);
        }
    }

    /// The node's answers up to then, the latest first.
    fn views_before(
        &self,
        node: NodeId,
        time: Nanos,
    ) -> impl Iterator<Item = (&'a View, &'a Seen)> + use<'a> {
        self.timeline.words(self.record, node).rev().filter(move |(view, _)| view.time <= time)
    }

    /// Something but the master's own end may have kept somebody from hearing or being heard.
    fn disturbed(&self, master: NodeId, since: Nanos, until: Nanos) -> bool {
        let mut others =
            (0..self.record.nodes.len()).map(|node| NodeId(node as u16)).filter(|node| *node != master);
        others.any(|node| self.timeline.faults.stopped_within(node, since, until))
            || self.timeline.stalls.covered(since, until) > 100 * MILLI
            || self.bus_cuts(master).meets(since, until)
    }

    /// When some link of the bus between others than this node was under any policy, or messages under a rule.
    fn bus_cuts(&self, except: NodeId) -> Spans {
        let mut open: BTreeMap<(&str, &str, &str), Nanos> = BTreeMap::new();
        let mut spans = Vec::new();
        let except = self.record.node_name(except);
        let on_bus = |plane: &&String| plane.as_str() == "bus" || plane.as_str() == MESSAGES;
        for event in &self.record.faults {
            for action in &event.step.actions {
                match action {
                    Action::Cut { from, to, planes, .. } if from != except && to != except => {
                        for plane in planes.iter().filter(on_bus) {
                            open.entry((from.as_str(), to.as_str(), plane.as_str())).or_insert(event.time);
                        }
                    }
                    Action::Healed { from, to, planes } => {
                        for plane in planes {
                            let key = (from.as_str(), to.as_str(), plane.as_str());
                            spans.extend(open.remove(&key).map(|since| Span { from: since, to: event.time }));
                        }
                    }
                    _ => {}
                }
            }
        }
        spans.extend(open.into_values().map(|from| Span { from, to: Nanos::MAX }));
        Spans::of(spans)
    }

    /// The shard had an election shortly before: who may vote again, and when, then depends on that one.
    fn was_contested(&self, number: usize, promotion: &Promotion) -> bool {
        let since = self.retried_since(promotion);
        let shard = [Some(promotion.node), promotion.from];
        self.timeline.promotions[..number].iter().any(|other| {
            other.time >= since && (shard.contains(&Some(other.node)) || shard.contains(&other.from))
        })
    }

    /// Who asked for votes, of this shard and others, and when first.
    fn asked(&self, promotion: &Promotion) -> BTreeMap<&'a str, Nanos> {
        let since = self.retried_since(promotion);
        let mut asked = BTreeMap::new();
        for line in self.record.bus.iter().flatten() {
            let BusWhat::Frame(frame) = &line.what else { continue };
            if frame.kind == "auth-req" && since <= line.time && line.time <= promotion.time {
                asked.entry(line.from.as_str()).or_insert(line.time);
            }
        }
        asked
    }

    /// An election that failed is repeated after four node timeouts.
    fn retried_since(&self, promotion: &Promotion) -> Nanos {
        promotion.earliest.saturating_sub(6 * self.timeline.node_timeout() + 2 * SECOND)
    }
}
