//! Two masters of one slot: claims in the polls, acknowledged writes of both, and either of them for longer than the
//! windows allow (`lasting`).

use std::collections::BTreeMap;

use super::LISTED;
use super::claims::Claims;
use crate::record::verdict::{Overlap, SplitBrain, Validity};
use crate::record::{Expect, Nanos, NodeId, Operation, Outcome, Record, Seen, View};
use crate::slots;
use crate::timeline::{MILLI, SECOND, Term, Timeline};
use crate::voids::SPLIT_BRAIN_BOUND;

/// Between two polls further apart than this, a claim may have lapsed and come back unseen.
const POLLS_APART: Nanos = SECOND;
/// How long after a promotion was seen a claim may stand that no window covers.
const CLAIM_SLACK: Nanos = 200 * MILLI;
/// How many operations are named as witnesses of one overlap.
const WITNESSES: usize = 20;

/// Judges claims and writers.
pub fn check(record: &Record, timeline: &Timeline) -> SplitBrain {
    let limits = Limits { record, timeline, by_hand: Claims::of(record) };
    let two_claims = two_claims(record, &limits);
    let two_writers = two_writers(record, &limits);
    let lasting: Vec<Overlap> = two_claims
        .iter()
        .chain(&two_writers)
        .filter(|found| found.lasts && !outside_model(timeline, &found.overlap))
        .map(|found| found.overlap.clone())
        .collect();
    let answered = timeline.answers.iter().any(|answers| !answers.answered.is_empty());
    let (valid, reason) = if let Some(first) = lasting.first() {
        let (old, new) = &first.nodes;
        (
            Validity::Invalid,
            format!("{old} and {new} were both master for longer than {} allows", window(first)),
        )
    } else if record.info.expect == Expect::Strict && !two_writers.is_empty() {
        let (old, new) = &two_writers[0].overlap.nodes;
        (Validity::Invalid, format!("{old} and {new} acknowledged writes of the same slots side by side"))
    } else if answered {
        (Validity::Valid, String::new())
    } else {
        (Validity::Unknown, "no node answered any poll".into())
    };
    let take = |found: Vec<Found>| found.into_iter().map(|found| found.overlap).collect();
    SplitBrain { valid, reason, two_claims: take(two_claims), two_writers: take(two_writers), lasting }
}

/// A fault took one of the two what makes it step down in time.
fn outside_model(timeline: &Timeline, overlap: &Overlap) -> bool {
    let nodes = [&overlap.nodes.0, &overlap.nodes.1];
    timeline.voided.covers(SPLIT_BRAIN_BOUND, &nodes, overlap.to)
}

fn window(overlap: &Overlap) -> &str {
    if overlap.window.is_empty() { "any window" } else { &overlap.window }
}

struct Found {
    overlap: Overlap,
    /// Some certain moment of it lies after what is allowed.
    lasts: bool,
}

/// One answer that claims slots with state ok.
struct Claim<'a> {
    sent: Nanos,
    time: Nanos,
    seen: &'a Seen,
}

impl Claim<'_> {
    /// A slot that is on the move is claimed by both ends until the source is told that it is gone: the source answers ASK
    /// for what it has not got any more, so it claims only what it would serve alone.
    fn slots(&self) -> Vec<(u16, u16)> {
        let mut open = self.seen.open_slots.clone();
        open.sort_unstable();
        slots::without(&self.seen.slots, &slots::ranges_of(open))
    }
}

fn claim(view: &View) -> Option<Claim<'_>> {
    let seen = view.seen.as_ref().filter(|seen| seen.master && seen.ok && !seen.slots.is_empty())?;
    Some(Claim { sent: view.sent, time: view.time, seen })
}

/// For each pair of nodes that ever held a slot in common: polls of one between two claiming polls of the other. Slots that
/// the newer one came by later (as they were moved to it one after the other) are an overlap of their own.
fn two_claims(record: &Record, limits: &Limits<'_>) -> Vec<Found> {
    let timeline = limits.timeline;
    let mut found: BTreeMap<(Claimant, Claimant, Nanos), Found> = BTreeMap::new();
    for (holder, other) in rivals(timeline) {
        let answers = &timeline.answers[usize::from(holder.0)].answered;
        let mut after = 0;
        for &index in &timeline.answers[usize::from(other.0)].answered {
            let Some(claimed) = claim(&record.views[index]) else { continue };
            while after < answers.len() && record.views[answers[after]].sent < claimed.time {
                after += 1;
            }
            let Some(both) = held_around(record, timeline, (holder, answers, after), &claimed) else {
                continue;
            };
            let Some((older, newer)) = ordered(record, (holder, both.1), (other, claimed.seen.epoch)) else {
                continue;
            };
            for (since, gained) in gains(timeline, newer) {
                let slots = slots::overlap(&both.0, &gained);
                if slots.is_empty() {
                    continue;
                }
                let allowed = limits.allowed_until((older.0, newer.0), &slots, since, claimed.sent);
                let entry = found.entry((older, newer, since)).or_insert_with(|| {
                    let overlap = Overlap {
                        from: claimed.sent,
                        slots,
                        nodes: (name(record, older.0), name(record, newer.0)),
                        epochs: (older.1, newer.1),
                        ..Overlap::default()
                    };
                    Found { overlap, lasts: false }
                });
                entry.overlap.from = entry.overlap.from.min(claimed.sent);
                entry.overlap.to = entry.overlap.to.max(claimed.time);
                entry.lasts |= claimed.sent > allowed.0;
                widen_allowed(&mut entry.overlap, allowed);
            }
        }
    }
    let mut found: Vec<Found> = found.into_values().collect();
    found.sort_by_key(|found| found.overlap.from);
    found
}

/// Which slots a node came by with this epoch, and when that was seen.
fn gains(timeline: &Timeline, (node, epoch): Claimant) -> Vec<(Nanos, Vec<(u16, u16)>)> {
    let mut known: Vec<(u16, u16)> = Vec::new();
    let mut gains = Vec::new();
    for term in timeline.terms.iter().filter(|term| term.node == node && term.epoch == epoch) {
        let gained = slots::without(&term.slots, &known);
        if !gained.is_empty() {
            known.extend(&gained);
            gains.push((term.seen, gained));
        }
    }
    gains
}

/// Ordered pairs of nodes whose terms have slots in common.
fn rivals(timeline: &Timeline) -> Vec<(NodeId, NodeId)> {
    let mut pairs = std::collections::BTreeSet::new();
    for (i, one) in timeline.terms.iter().enumerate() {
        for other in &timeline.terms[i + 1..] {
            if one.node != other.node && !slots::overlap(&one.slots, &other.slots).is_empty() {
                pairs.insert((one.node, other.node));
                pairs.insert((other.node, one.node));
            }
        }
    }
    pairs.into_iter().collect()
}

/// The slots, and the epoch, that the holder claimed in its polls before and after this claim of another, if it cannot
/// have let go of them in between.
fn held_around(
    record: &Record,
    timeline: &Timeline,
    (holder, answers, after): (NodeId, &[usize], usize),
    claimed: &Claim<'_>,
) -> Option<(Vec<(u16, u16)>, u64)> {
    let next = claim(&record.views[*answers.get(after)?])?;
    let before =
        answers[..after].iter().rev().map(|&i| &record.views[i]).find(|view| view.time <= claimed.sent)?;
    // Answers between these two overlap the claim in time; they must not say otherwise.
    let between =
        answers[..after].iter().rev().map(|&i| &record.views[i]).take_while(|v| v.time > claimed.sent);
    let steady = between.map(claim).all(|c| c.is_some_and(|c| c.seen.epoch == next.seen.epoch));
    let before = claim(before)?;
    let same = before.seen.epoch == next.seen.epoch && before.seen.run_id == next.seen.run_id;
    let near = next.time.saturating_sub(before.sent) <= POLLS_APART;
    // A paused node makes no claim.
    let ran = !timeline.faults.stopped_within(holder, claimed.sent, claimed.time);
    let both = slots::overlap(&slots::overlap(&before.slots(), &next.slots()), &claimed.slots());
    (steady && same && near && ran && !both.is_empty()).then_some((both, before.seen.epoch))
}

type Claimant = (NodeId, u64);

/// The older claim first. Equal epochs: the name decides, so that an overlap has one shape.
fn ordered(record: &Record, one: Claimant, other: Claimant) -> Option<(Claimant, Claimant)> {
    let key = |claimant: Claimant| (claimant.1, record.node_name(claimant.0).to_owned());
    (one.0 != other.0).then(|| if key(one) <= key(other) { (one, other) } else { (other, one) })
}

/// How long two may hold one slot.
struct Limits<'a> {
    record: &'a Record,
    timeline: &'a Timeline,
    by_hand: Claims,
}

impl Limits<'_> {
    /// Until when the older master may still serve these slots, which the newer one was seen to hold from `since` on, as far
    /// as windows that began by `at` say, and which of them.
    fn allowed_until(
        &self,
        (older, newer): (NodeId, NodeId),
        slots: &[(u16, u16)],
        since: Nanos,
        at: Nanos,
    ) -> (Nanos, String) {
        let timeline = self.timeline;
        let by_claim = (timeline.widen(since, since + CLAIM_SLACK), String::new());
        let by_window = timeline.windows.latest_bound(older, at).map(|w| (w.until, w.name.to_owned()));
        // Epochs that nobody voted for (W13): told by pings, and by one that was cut off once it is back.
        let by_hand = self.by_hand.unheard_until(self.record, timeline, (older, newer), slots, since);
        let cut_off = timeline.isolation[usize::from(newer.0)].iter().rfind(|span| span.from <= at);
        let back = cut_off.map(|span| timeline.widen(span.to, span.to.saturating_add(CLAIM_SLACK)));
        let unheard = by_hand.max(back).map(|until| (until, "W13".to_owned()));
        let later = |best: (Nanos, String), one: (Nanos, String)| if one.0 > best.0 { one } else { best };
        by_window.into_iter().chain(unheard).fold(by_claim, later)
    }
}

fn widen_allowed(overlap: &mut Overlap, (until, window): (Nanos, String)) {
    if overlap.allowed_until.is_none_or(|known| known < until) {
        overlap.allowed_until = Some(until);
        overlap.window = window;
    }
}

/// First writes of a newer master, by slot.
struct Newer<'a> {
    term: &'a Term,
    op: &'a Operation,
}

/// True if a node may have executed this for a slot that it was importing: its source had sent the client over (ASK).
fn on_the_move(timeline: &Timeline, slot: u16, op: &Operation) -> bool {
    let (from, to) = (op.invoked.saturating_sub(POLLS_APART), op.latest_effect().saturating_add(POLLS_APART));
    op.node.is_some_and(|node| timeline.open_slots.at(node, slot, from, to))
        || timeline.faults.moving.meets(op.invoked, op.latest_effect())
}

/// Acknowledged writes of an older master that were asked for after an acknowledged write of a newer one was done.
fn two_writers(record: &Record, limits: &Limits<'_>) -> Vec<Found> {
    let timeline = limits.timeline;
    let writers: Vec<(u16, &Operation, &Term)> = record
        .ops
        .iter()
        .filter(|op| op.is_write() && op.outcome == Outcome::Ok)
        .filter_map(|op| {
            let slot = record.key(op.key).slot;
            let term = timeline.term_at(op.node?, op.latest_effect())?;
            (term.holds_slot(slot) || !on_the_move(timeline, slot, op)).then_some((slot, op, term))
        })
        .collect();
    // By slot: for each term (few), the first write that it acknowledged.
    let mut newer: BTreeMap<u16, Vec<Newer<'_>>> = BTreeMap::new();
    for &(slot, op, term) in &writers {
        let terms = newer.entry(slot).or_default();
        match terms.iter_mut().find(|known| std::ptr::eq(known.term, term)) {
            Some(known) if known.op.completed > op.completed => known.op = op,
            Some(_) => {}
            None => terms.push(Newer { term, op }),
        }
    }
    newer.retain(|_, terms| terms.len() > 1);
    let mut overlaps: BTreeMap<(Claimant, Claimant), (Found, Vec<u16>)> = BTreeMap::new();
    for &(slot, op, term) in &writers {
        for rival in newer.get(&slot).into_iter().flatten() {
            let later = op.invoked > rival.op.latest_effect();
            if !later || rival.term.node == term.node || rival.term.epoch <= term.epoch {
                continue;
            }
            let pair = ((term.node, term.epoch), (rival.term.node, rival.term.epoch));
            let (found, slots) = overlaps.entry(pair).or_insert_with(|| {
                let overlap = Overlap {
                    from: op.invoked,
                    nodes: (name(record, term.node), name(record, rival.term.node)),
                    epochs: (term.epoch, rival.term.epoch),
                    witness: rival.op.witness(),
                    ..Overlap::default()
                };
                (Found { overlap, lasts: false }, Vec::new())
            });
            let gained =
                gains(timeline, pair.1).into_iter().find(|(_, gained)| slots::contains(gained, slot));
            let since = gained.map_or(rival.term.seen, |(since, _)| since);
            // It was executed at some moment of its time: it lasts if no window has any of that.
            let allowed = limits.allowed_until(
                (term.node, rival.term.node),
                &[(slot, slot)],
                since,
                op.latest_effect(),
            );
            found.lasts |= op.invoked > allowed.0;
            let overlap = &mut found.overlap;
            overlap.from = overlap.from.min(op.invoked);
            overlap.to = overlap.to.max(op.latest_effect());
            overlap.writes += 1;
            if overlap.witness.len() < WITNESSES {
                overlap.witness.extend(op.witness());
            }
            widen_allowed(overlap, allowed);
            slots.push(slot);
        }
    }
    let mut found: Vec<Found> = overlaps
        .into_values()
        .map(|(mut found, mut slots)| {
            slots.sort_unstable();
            found.overlap.slots = slots::ranges_of(slots);
            found
        })
        .collect();
    found.sort_by_key(|found| found.overlap.from);
    found.truncate(LISTED);
    found
}

fn name(record: &Record, node: NodeId) -> String {
    record.node_name(node).to_owned()
}
