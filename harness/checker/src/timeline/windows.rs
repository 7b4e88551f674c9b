//! The intervals in which a master may, by design, still serve slots that another has taken: W3 to W7 of the
//! documented windows, with the bounds that DESIGN gives them, widened by the stalls measured in them.

use super::faults::{CutEffect, Faults};
use super::isolation::Reach;
use super::roles::Promotion;
use super::span::{MILLI, Span, Spans, seconds};
use crate::record::{FailoverMode, Nanos, NodeId, Record, Row};
use crate::slots;

/// How late the line of a fault may be recorded after the fault took effect.
const RECORDING_SLACK: Nanos = 50 * MILLI;
/// Until a reachable node has seen a newer claim: one cron tick to reconnect (100 ms) with its connect and first ping
/// (within 200 ms), then 0.2 s to act on it.
const CLAIM_REACHES: Nanos = 500 * MILLI;
/// Who is cut off but hears somebody that is not, is told of others' pongs, and that puts its own pings off
/// (clusterProcessGossipSection); but each second it pings the most overdue of five that it draws (clusterCron).
const BRIDGED: Nanos = 10_000 * MILLI;
/// The slack of cron ticks in DESIGN's bounds.
const CRON_SLACK: Nanos = 200 * MILLI;

/// One such interval of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// `W3` to `W7`.
    pub name: &'static str,
    pub node: NodeId,
    pub from: Nanos,
    /// The bound, widened.
    pub until: Nanos,
    /// What began it, in words.
    pub why: String,
}

/// By node, in the order of their beginnings.
#[derive(Clone, Debug, Default)]
pub struct Windows(Vec<Vec<Window>>);

impl Windows {
    /// The windows of a node that have a moment in common with the interval.
    pub fn meeting(&self, node: NodeId, from: Nanos, to: Nanos) -> impl Iterator<Item = &Window> {
        self.0
            .get(usize::from(node.0))
            .into_iter()
            .flatten()
            .filter(move |window| window.from <= to && from <= window.until)
    }

    /// The window of a node that began before `at` and ends last.
    pub fn latest_bound(&self, node: NodeId, at: Nanos) -> Option<&Window> {
        self.0.get(usize::from(node.0))?.iter().filter(|w| w.from <= at).max_by_key(|w| w.until)
    }
}

/// What the windows are made from.
pub(super) struct Causes<'a> {
    pub record: &'a Record,
    pub faults: &'a Faults,
    pub reach: &'a Reach<'a>,
    pub isolation: &'a [Spans],
    pub cut_off: &'a [Spans],
    pub stalls: &'a Spans,
    pub promotions: &'a [Promotion],
}

/// All windows of a run.
pub(super) fn windows_of(causes: &Causes<'_>) -> Windows {
    let Causes { record, faults, reach, isolation, cut_off, stalls, promotions } = causes;
    let node_timeout = record.info.node_timeout_ms * MILLI;
    let mut all: Vec<Vec<Window>> = vec![Vec::new(); record.nodes.len()];
    for (number, windows) in all.iter_mut().enumerate() {
        let node = NodeId(number as u16);
        let name = record.node_name(node);
        let delay = faults.bus_delay.get(&node).copied().unwrap_or(0);
        let detection = node_timeout + node_timeout / 2 + CRON_SLACK + delay;
        // Who still hears others takes them for alive until a node timeout after their last words (clusterCron's data_delay):
        // they find their links dead after theirs, and call once more on new ones.
        let hears_on = node_timeout + CRON_SLACK;
        let mut add = |window, from: Nanos, until: Nanos, why: String| {
            windows.push(Window {
                name: window,
                node,
                from: from.saturating_sub(RECORDING_SLACK),
                until,
                why,
            });
        };
        let still = Spans::of(stalls.iter().copied().chain(silences(record, name)).collect());
        let widened = |from: Nanos, length: Nanos| widen(&still, from, from.saturating_add(length));
        // Who counts a master that was replaced notices only when that one is out of reach, too.
        let later =
            cut_off[number].iter().filter(|span| !isolation[number].iter().any(|it| it.from == span.from));
        for span in isolation[number].iter().chain(later) {
            let why = format!("{name} was cut from the majority at {}", seconds(span.from));
            let deaf = if faults.deafens(node, *span) { 0 } else { hears_on };
            let told = if reach.is_bridged(node, *span) { BRIDGED } else { 0 };
            let notices = detection + deaf + told;
            add("W3", span.from, span.to.min(widened(span.from, notices)), why);
        }
        let process = &faults.processes[number];
        for span in process.paused.iter().filter(|span| span.to != Nanos::MAX) {
            // Nothing is served during the pause, so its beginning is as good as its end, and safe against late lines.
            let why = format!("{name} was resumed at {}", seconds(span.to));
            add("W4", span.from, widened(span.to, CLAIM_REACHES + delay), why);
        }
        for restart in &process.restarts {
            let why = format!("{name} was started again at {}", seconds(restart.at));
            add("W5", restart.at, widened(restart.at, detection), why);
        }
        for span in healed(faults, node) {
            let why = format!("{name}'s bus links were healed at {}", seconds(span.to));
            add("W6", span.to, widened(span.to, CLAIM_REACHES + delay), why);
        }
        let in_reach = |at: Nanos| isolation[number].at(at).is_none() && !process.down.meets(at, at);
        for promotion in promotions.iter().filter(|p| p.from == Some(node) && in_reach(p.time)) {
            let forced = faults.forced(promotion, node_timeout);
            let why = format!(
                "{} took over at {}, while {name} was still in reach",
                record.node_name(promotion.node),
                seconds(promotion.time)
            );
            let until = widened(promotion.time, CRON_SLACK + delay);
            add(if forced { "W7" } else { "W6" }, promotion.earliest, until, why);
        }
        for promotion in promotions.iter().filter(|p| p.from == Some(node)) {
            let Some(silent) = faults.silenced_until(promotion) else { continue };
            let told = told_at(record, promotion).map_or(silent, |at| at.min(silent));
            let why = format!(
                "{} won at {}, and what it said on the bus was held or lost: until {} nobody had heard of it",
                record.node_name(promotion.node),
                seconds(promotion.time),
                seconds(told)
            );
            add("W6", promotion.earliest, widened(told, CLAIM_REACHES + delay), why);
        }
        windows.sort_by_key(|window| window.from);
    }
    Windows(all)
}

impl Faults {
    /// True if CLUSTER FAILOVER FORCE or TAKEOVER made this promotion.
    pub fn forced(&self, promotion: &Promotion, node_timeout: Nanos) -> bool {
        self.manual(promotion, node_timeout).is_some_and(|mode| mode != FailoverMode::Plain)
    }

    /// The CLUSTER FAILOVER that made this promotion: sent to its node not longer ago than the request lives (5 s)
    /// and an election takes.
    pub fn manual(&self, promotion: &Promotion, node_timeout: Nanos) -> Option<FailoverMode> {
        let lives = 5_000 * MILLI + 2 * node_timeout;
        self.manual_failovers
            .iter()
            .rfind(|manual| {
                manual.node == promotion.node
                    && manual.at <= promotion.time + RECORDING_SLACK
                    && promotion.earliest <= manual.at.saturating_add(lives)
            })
            .map(|manual| manual.mode)
    }
}

/// The intervals in which some bus link of the node was cut or slowed, that came to an end.
fn healed(faults: &Faults, node: NodeId) -> Vec<Span> {
    let cut = faults
        .cuts
        .iter()
        .filter(|cut| (cut.from == node || cut.to == node) && cut.plane == "bus")
        .filter(|cut| cut.effect != CutEffect::Breaks && cut.span.to != Nanos::MAX)
        .map(|cut| cut.span);
    Spans::of(cut.collect()).iter().copied().collect()
}

impl Faults {
    /// Until when something kept others from hearing, as it won, who made this promotion; `None`: nothing did.
    fn silenced_until(&self, promotion: &Promotion) -> Option<Nanos> {
        let of_winner = self.cuts.iter().filter(|cut| cut.from == promotion.node && cut.is_of_bus());
        of_winner.filter(|cut| cut.span.meets(promotion.time, promotion.time)).map(|cut| cut.span.to).max()
    }

    /// True if something that others said to the node on the bus was kept from it at some moment of the interval.
    fn deafens(&self, node: NodeId, span: Span) -> bool {
        let mut blocks = self.cuts.iter().filter(|cut| cut.to == node && cut.blocks_bus());
        blocks.any(|cut| cut.span.meets(span.from, span.to))
    }
}

/// When a node other than the winner first told that it knew of this promotion.
fn told_at(record: &Record, promotion: &Promotion) -> Option<Nanos> {
    let winner = record.node_name(promotion.node);
    let knows = |row: &Row| {
        row.node == winner
            && row.epoch >= promotion.epoch
            && promotion.slots.iter().any(|&(slot, _)| slots::contains(&row.slots, slot))
    };
    let others = record.views.iter().filter(|view| view.time >= promotion.earliest && view.node != winner);
    let mut told = others.filter_map(|view| Some((view.time, view.seen.as_ref()?)));
    told.find(|(_, seen)| seen.table.iter().any(knows)).map(|(time, _)| time)
}

/// When the node ran but answered no poll: it did nothing else either, and notices later what it waits for. (redis-server's
/// MIGRATE waits for its target up to its time-out, twice.)
fn silences(record: &Record, name: &str) -> Vec<Span> {
    let mut silences = Vec::new();
    let mut since = None;
    for view in record.views.iter().filter(|view| view.node == name) {
        if view.seen.is_some() {
            silences.extend(since.take().map(|from| Span { from, to: view.time }));
        } else if view.error.as_deref().is_some_and(|why| why.starts_with("no answer")) {
            since.get_or_insert(view.sent);
        } else {
            since = None; // it had ended
        }
    }
    silences
}

/// A bound on what began at `from`, later by the time that nobody ran in between.
pub(super) fn widen(stalls: &Spans, from: Nanos, bound: Nanos) -> Nanos {
    let mut widened = bound;
    loop {
        let next = bound.saturating_add(stalls.covered(from, widened));
        if next == widened || next == Nanos::MAX {
            return next;
        }
        widened = next;
    }
}
