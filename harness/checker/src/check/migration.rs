//! W12: MIGRATE deletes a key at its source once the target has it in memory. If the target is replaced by a replica that
//! did not get it yet, it is gone on both sides; so it is if the target stood still while it was replaced, and takes the
//! key before it hears of that. Told by the replication streams: the source's shows the key go, the target's shows it
//! come, and at which offset.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Nanos, NodeId, Record, StreamWhat};
use crate::slots;
use crate::timeline::{Promotion, SECOND, Span, Timeline, seconds};

/// A key came or went on a replication stream.
#[derive(Clone, Debug)]
struct Passed {
    from: NodeId,
    replid: String,
    offset: u64,
    time: Nanos,
    /// The latest that it may have been: later than `time` only if no stream tells.
    until: Nanos,
}

/// A stream from a master to a replica, as it began.
#[derive(Clone, Debug)]
struct Link {
    from: NodeId,
    to: NodeId,
    replid: String,
    start: Nanos,
    /// When its connection ended, if it did.
    end: Option<Nanos>,
    /// The tap could not follow it to its end.
    lost: bool,
}

/// What the streams tell of some keys.
#[derive(Debug, Default)]
pub(super) struct Migrations {
    came: BTreeMap<String, Vec<Passed>>,
    went: BTreeMap<String, Vec<Passed>>,
    links: Vec<Link>,
}

impl Migrations {
    /// Of the keys in question.
    pub fn of(record: &Record, keys: &BTreeSet<&str>) -> Self {
        let mut found = Self::default();
        let mut current: BTreeMap<u64, usize> = BTreeMap::new();
        for line in &record.stream {
            if let StreamWhat::Full { replid, .. } | StreamWhat::Continue { replid, .. } = &line.what {
                let (Some(from), Some(to)) = (record.node_id(&line.from), record.node_id(&line.to)) else {
                    continue;
                };
                current.insert(line.conn, found.links.len());
                let (replid, start) = (replid.clone(), line.time);
                found.links.push(Link { from, to, replid, start, end: None, lost: false });
                continue;
            }
            let Some(link) = current.get(&line.conn).map(|&at| &mut found.links[at]) else { continue };
            match &line.what {
                StreamWhat::Lost { .. } => link.lost = true,
                StreamWhat::End { .. } => link.end = Some(line.time),
                StreamWhat::Keys { came, went } => {
                    for (moves, into) in [(came, &mut found.came), (went, &mut found.went)] {
                        for (key, offset) in moves.iter().filter(|(key, _)| keys.contains(key.as_str())) {
                            into.entry(key.clone()).or_default().push(Passed {
                                from: link.from,
                                replid: link.replid.clone(),
                                offset: *offset,
                                time: line.time,
                                until: line.time,
                            });
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// True if the key came to this master in this interval.
    pub fn brought(&self, key: &str, to: NodeId, (since, until): (Nanos, Nanos)) -> bool {
        let mut came = self.came.get(key).into_iter().flatten().filter(|came| came.from == to);
        came.any(|came| came.time >= since && came.time <= until)
    }

    /// True if the streams would show that this key came to one of these masters while it told that it had it open, or in the
    /// second before it was asked, and none does. Of the master that had it first no stream need tell.
    pub fn came_to_none(&self, key: &str, masters: &BTreeMap<NodeId, Span>, first: Option<NodeId>) -> bool {
        let followed = |(&node, span): (&NodeId, &Span)| {
            let whole = |link: &&Link| link.start <= span.from && link.end.is_none_or(|end| end >= span.to);
            self.links.iter().filter(|link| link.from == node && !link.lost).any(|link| whole(&link))
        };
        let came = |came: &Passed| {
            masters
                .get(&came.from)
                .is_some_and(|span| came.time + SECOND >= span.from && came.time <= span.to)
        };
        let mut others = masters.iter().filter(|(node, _)| Some(**node) != first).peekable();
        others.peek().is_some() && others.all(followed) && !self.came.get(key).into_iter().flatten().any(came)
    }

    /// The masters that the key came to after `since`, and when.
    pub fn came_to(&self, key: &str, since: Nanos) -> impl Iterator<Item = (NodeId, Nanos)> {
        let came = self.came.get(key).into_iter().flatten();
        came.filter(move |came| came.time >= since).map(|came| (came.from, came.time))
    }

    /// How a key that `source` had at `since` (`None`: whoever had it) was lost on its way from there, if it was: in words.
    pub fn lost_on_the_way(
        &self,
        record: &Record,
        timeline: &Timeline,
        (key, slot): (&str, u16),
        (source, since): (Option<NodeId>, Nanos),
    ) -> Option<String> {
        let mut went = self.went.get(key).into_iter().flatten().filter(|went| went.time >= since);
        let first = went.find(|went| source.is_none_or(|it| it == went.from));
        let lefts = match (first, source) {
            (Some(left), _) => vec![left.clone()],
            (None, Some(source)) => self.untapped(timeline, source, since),
            (None, None) => Vec::new(),
        };
        let lost = |left: &Passed, promotion: &Promotion| {
            let target = promotion.from.filter(|&target| target != left.from)?;
            if promotion.time < left.time && has_heard(record, timeline, target, (promotion.time, left.time))
            {
                return None;
            }
            timeline.cause_of(record, promotion)?;
            let lacked = self.lacked(record, (key, slot), left, target, promotion)?;
            Some(format!(
                "{} gave the key to {} and deleted it {} {}; {} was promoted there ({}) without it: {lacked}",
                record.node_name(left.from),
                record.node_name(target),
                if left.replid.is_empty() { "after" } else { "at" },
                seconds(left.time),
                record.node_name(promotion.node),
                seconds(promotion.time),
            ))
        };
        lefts.iter().find_map(|left| timeline.promotions.iter().find_map(|promotion| lost(left, promotion)))
    }

    /// A source without a replica has no stream that would show its keys go: they may have gone whenever slots were carried.
    fn untapped(&self, timeline: &Timeline, source: NodeId, since: Nanos) -> Vec<Passed> {
        let works = timeline.faults.carrying.iter().filter(|work| work.to >= since);
        let is_tapped = |work: &Span| {
            let during = |link: &Link| link.start <= work.to && link.end.is_none_or(|end| end >= work.from);
            self.links.iter().any(|link| link.from == source && during(link))
        };
        let left = |work: &Span| {
            let time = work.from.max(since);
            Passed { from: source, replid: String::new(), offset: 0, time, until: work.to.max(time) }
        };
        works.filter(|work| !is_tapped(work)).map(left).collect()
    }

    /// Proof that the promoted node lacked a key that its master had been given; `None`: there is none.
    fn lacked(
        &self,
        record: &Record,
        (key, slot): (&str, u16),
        left: &Passed,
        target: NodeId,
        promotion: &Promotion,
    ) -> Option<String> {
        let into = |link: &&Link| {
            link.from == target && link.to == promotion.node && link.replid == promotion.replid
        };
        let mut came = self.came.get(key).into_iter().flatten();
        let came = came.rfind(|came| came.from == target && came.replid == promotion.replid);
        if let Some(came) = came {
            let promoted = promotion.offset?;
            return (came.offset > promoted).then(|| {
                format!("its RESTORE ended at offset {}, the promotion was at {promoted}", came.offset)
            });
        }
        // It never passed: then the target must be known by its own word, the source's or its heir's, and the stream by a tap
        // that saw all of it.
        let took = record.views.iter().any(|view| {
            let Some(seen) = &view.seen else { return false };
            let node = record.node_id(&view.node);
            let takes = node == Some(target)
                && view.time + SECOND >= left.time.min(promotion.time)
                && view.sent <= promotion.time
                && seen.master
                && (seen.open_slots.contains(&slot) || slots::contains(&seen.slots, slot));
            let gives = node == Some(left.from)
                && (view.time + SECOND >= left.time && view.sent <= left.until + SECOND)
                && seen
                    .migrating_to
                    .iter()
                    .any(|(to, ranges)| record.node_id(to) == Some(target) && slots::contains(ranges, slot));
            takes || gives
        });
        let inherits = promotion.time >= left.time && slots::contains(&promotion.slots, slot);
        let mut links = self.links.iter().filter(into).filter(|link| link.start <= promotion.time);
        let followed = links.all(|link| link.start <= left.time && !link.lost)
            && self.links.iter().any(|link| into(&link));
        ((took || inherits) && followed)
            .then(|| "its RESTORE never passed on the link to it, tapped whole".to_owned())
    }
}

/// True if this master told, well before `until`, that it had been replaced by then.
fn has_heard(
    record: &Record,
    timeline: &Timeline,
    target: NodeId,
    (replaced, until): (Nanos, Nanos),
) -> bool {
    let words = timeline.words(record, target);
    let mut after = words.filter(|(view, _)| view.sent >= replaced && view.time + SECOND < until);
    after.any(|(_, seen)| !seen.master)
}
