//! What the pictures show, taken from a run's record: completed operations, fault bands, node lanes, shard bins. Pure.

use std::collections::{BTreeMap, BTreeSet};

use slotstorm_checker::record::OpKind;
use slotstorm_checker::record::{
    Action, Body, Event, FaultPhase, FaultStep, Kind, Nanos, Phase, Process, RunInfo, View,
};

/// A completed operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Invocation, seconds.
    pub at_s: f64,
    /// From the intended start to the completion, milliseconds.
    pub latency_ms: f64,
    /// Completion, seconds.
    pub done_s: f64,
    /// Index into [`Story::functions`].
    pub function: usize,
    pub outcome: Outcome,
    /// The shard that owned the key's slot at the start; `None` if no shard did.
    pub shard: Option<u32>,
}

/// How an operation ended; in the order of drawing (rare ones on top).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    Ok,
    Info,
    Fail,
}

impl Outcome {
    /// All, in drawing order.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Info, Self::Fail];

    /// Jepsen's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Fail => "fail",
        }
    }
}

/// A fault from its start to its end, as Jepsen's plots band it.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    pub name: String,
    pub kind: BandKind,
    /// Seconds.
    pub from_s: f64,
    /// Seconds; the end of the run if nothing undid it.
    pub to_s: f64,
    /// When nodes agreed that a target had failed (flag `fail` in a table), and when no table said so any more.
    pub observed_s: Option<(f64, f64)>,
    pub targets: Vec<String>,
    pub vacuous: bool,
}

/// The colour families of Jepsen's nemesis bands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BandKind {
    Kill,
    Pause,
    Partition,
    Packet,
    Other,
}

impl BandKind {
    fn of(name: &str) -> Self {
        match name {
            "kill" | "term" | "restart" | "exit" | "wipe" => Self::Kill,
            "pause" => Self::Pause,
            "delay" | "slow" => Self::Packet,
            "isolate" | "halves" | "one-way" | "refuse" | "reset" | "half-close" | "cut"
            | "dead-connections" => Self::Partition,
            _ => Self::Other,
        }
    }
}

/// One node's lane: what it believed itself, and what was done to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lane {
    pub node: String,
    pub beliefs: Vec<Belief>,
    pub conditions: Vec<(Condition, f64, f64)>,
}

/// A span in which a node's word about itself did not change.
#[derive(Clone, Debug, PartialEq)]
pub struct Belief {
    pub from_s: f64,
    pub to_s: f64,
    /// The shard it is master of, or whose master it follows.
    pub shard: Option<u32>,
    pub master: bool,
    pub epoch: u64,
    pub ok: bool,
}

/// What was done to a node's process or links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Down,
    Paused,
    Cut,
}

/// One bin of one shard's availability strip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    pub ok: u32,
    pub not_ok: u32,
}

/// All that the pictures need.
#[derive(Clone, Debug, Default)]
pub struct Story {
    pub title: String,
    /// Seconds on the time axis.
    pub end_s: f64,
    /// Names of `f`, sorted.
    pub functions: Vec<String>,
    pub points: Vec<Point>,
    pub bands: Vec<Band>,
    pub lanes: Vec<Lane>,
    /// Shards in order: slots and bins.
    pub shards: Vec<Shard>,
    /// Width of a bin, seconds.
    pub bin_s: f64,
    /// When load and storm ended, seconds.
    pub quiet_s: f64,
}

/// One shard's strip.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shard {
    pub number: u32,
    pub slots: String,
    pub bins: Vec<Bin>,
}

impl Story {
    /// Tells the record's story.
    pub fn new(info: &RunInfo, history: &[Event], views: &[View]) -> Self {
        let end =
            history.iter().map(|event| event.time).chain(views.iter().map(|v| v.time)).max().unwrap_or(0);
        let end_s = seconds(end).max(1.0);
        let quiet_s = history
            .iter()
            .find(|event| matches!(event.body, Body::Phase { value: Phase::Converge }))
            .map_or(end_s, |event| seconds(event.time));
        let functions = functions(history);
        let points = points(info, history, &functions);
        let bin_s = bucket_s(quiet_s, 120.0);
        Self {
            title: format!("{} · {} · seed {}", info.name, info.sut, info.seed),
            end_s,
            bands: bands(history, views, end_s),
            lanes: lanes(info, history, views, end_s),
            shards: shards(info, &points, bin_s, quiet_s),
            functions,
            points,
            bin_s,
            quiet_s,
        }
    }
}

/// Nanoseconds as seconds.
pub fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

/// A bucket width of 1, 2 or 5 times a power of ten such that `span_s` has at most `most` buckets.
pub fn bucket_s(span_s: f64, most: f64) -> f64 {
    let wanted = (span_s / most).max(0.01);
    let power = 10_f64.powf(wanted.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|width| *width >= wanted * 0.999)
        .unwrap_or(wanted)
}

/// Jepsen's quantile: `sorted[min(n - 1, floor(n * q))]`.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[last.min((sorted.len() as f64 * q).floor() as usize)])
}

fn function_of(body: &Body) -> Option<&'static str> {
    body.kind().map(OpKind::name)
}

fn functions(history: &[Event]) -> Vec<String> {
    let names: BTreeSet<&str> = history.iter().filter_map(|event| function_of(&event.body)).collect();
    names.into_iter().map(str::to_owned).collect()
}

fn points(info: &RunInfo, history: &[Event], functions: &[String]) -> Vec<Point> {
    let mut open: BTreeMap<Process, &Event> = BTreeMap::new();
    let mut points = Vec::new();
    for event in history {
        let Some(op) = event.body.op() else { continue };
        let outcome = match event.kind {
            Kind::Invoke => {
                open.insert(event.process, event);
                continue;
            }
            Kind::Ok => Outcome::Ok,
            Kind::Info => Outcome::Info,
            Kind::Fail => Outcome::Fail,
        };
        let Some(invoked) = open.remove(&event.process) else { continue };
        let Some(asked) = invoked.body.op() else { continue };
        if asked.is_final {
            continue;
        }
        let start = asked.intended.unwrap_or(invoked.time).min(invoked.time);
        let slot = redis_protocol::redis_keyslot(op.key.as_bytes());
        points.push(Point {
            at_s: seconds(start),
            latency_ms: (event.time.saturating_sub(start) as f64 / 1e6).max(0.01),
            done_s: seconds(event.time),
            function: function_of(&event.body)
                .and_then(|name| functions.iter().position(|known| known == name))
                .unwrap_or(0),
            outcome,
            shard: shard_of_slot(info, slot),
        });
    }
    points
}

fn shard_of_slot(info: &RunInfo, slot: u16) -> Option<u32> {
    let owns = |slots: &[(u16, u16)]| slots.iter().any(|(from, to)| (*from..=*to).contains(&slot));
    info.nodes.iter().find(|node| node.master && owns(&node.slots)).map(|node| node.shard)
}

/// The steps of faults, each with its time.
pub fn fault_steps(history: &[Event]) -> impl Iterator<Item = (Nanos, &FaultStep)> {
    history.iter().filter_map(|event| match &event.body {
        Body::Fault(step) => Some((event.time, step)),
        _ => None,
    })
}

/// The nodes that a step's actions name.
pub fn targets(step: &FaultStep) -> Vec<String> {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for action in &step.actions {
        match action {
            Action::Killed { node, .. }
            | Action::Exited { node, .. }
            | Action::Started { node, .. }
            | Action::Paused { node }
            | Action::Resumed { node }
            | Action::Wiped { node }
            | Action::Damaged { node, .. }
            | Action::Disk { node, .. }
            | Action::Clock { node, .. }
            | Action::Asked { node, .. } => {
                names.insert(node);
            }
            _ => {}
        }
    }
    if names.is_empty() {
        // A cut names both ends of each link: the targets are those on the smaller side of it.
        let mut degree: BTreeMap<&str, usize> = BTreeMap::new();
        for action in &step.actions {
            if let Action::Cut { from, to, .. } = action {
                for end in [from, to] {
                    if end.starts_with('n') {
                        *degree.entry(end).or_default() += 1;
                    }
                }
            }
        }
        let most = degree.values().max().copied().unwrap_or(0);
        names.extend(degree.iter().filter(|(_, count)| **count == most).map(|(name, _)| *name));
    }
    names.into_iter().map(str::to_owned).collect()
}

fn bands(history: &[Event], views: &[View], end_s: f64) -> Vec<Band> {
    let mut bands: Vec<(Option<u32>, bool, Band)> = Vec::new();
    for (time, step) in fault_steps(history) {
        match step.phase {
            FaultPhase::Start => {
                let band = Band {
                    name: step.name.clone(),
                    kind: BandKind::of(&step.name),
                    from_s: seconds(time),
                    to_s: end_s,
                    observed_s: None,
                    targets: targets(step),
                    vacuous: step.vacuous.is_some(),
                };
                bands.push((step.fault, true, band));
            }
            FaultPhase::Beat => {}
            FaultPhase::End => {
                for (fault, open, band) in &mut bands {
                    if *open && (step.fault.is_none() || *fault == step.fault) {
                        *open = false;
                        band.to_s = seconds(time);
                        band.vacuous |= step.vacuous.is_some();
                    }
                }
            }
        }
    }
    let failed = failed_spans(views, end_s);
    for (_, _, band) in &mut bands {
        let spans = band.targets.iter().filter_map(|target| failed.get(target)).flatten();
        band.observed_s = spans
            .filter(|(from, _)| *from >= band.from_s && *from <= band.to_s + 1.0)
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .copied();
    }
    bands.into_iter().map(|(_, _, band)| band).collect()
}

/// Per node: when at least one other node's table flagged it `fail`.
fn failed_spans(views: &[View], end_s: f64) -> BTreeMap<String, Vec<(f64, f64)>> {
    let mut accusers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut spans: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for view in views {
        let Some(seen) = &view.seen else { continue };
        for row in &seen.table {
            let failed = row.flags.split(',').any(|flag| flag == "fail");
            let who = accusers.entry(&row.node).or_default();
            let before = !who.is_empty();
            if failed {
                who.insert(&view.node);
            } else {
                who.remove(view.node.as_str());
            }
            let after = !who.is_empty();
            let at_s = seconds(view.time);
            match (before, after) {
                (false, true) => spans.entry(row.node.clone()).or_default().push((at_s, end_s)),
                (true, false) => {
                    if let Some(span) = spans.get_mut(&row.node).and_then(|spans| spans.last_mut()) {
                        span.1 = at_s;
                    }
                }
                _ => {}
            }
        }
    }
    spans
}

fn lanes(info: &RunInfo, history: &[Event], views: &[View], end_s: f64) -> Vec<Lane> {
    let names: Vec<String> = if info.nodes.is_empty() {
        let names: BTreeSet<&str> = views.iter().map(|view| view.node.as_str()).collect();
        names.into_iter().map(str::to_owned).collect()
    } else {
        info.nodes.iter().map(|node| node.name.clone()).collect()
    };
    let shard_of_node: BTreeMap<&str, u32> =
        info.nodes.iter().map(|node| (node.name.as_str(), node.shard)).collect();
    names
        .into_iter()
        .map(|node| Lane {
            beliefs: beliefs(info, views, &node, &shard_of_node, end_s),
            conditions: conditions(history, &node, end_s),
            node,
        })
        .collect()
}

fn beliefs(
    info: &RunInfo,
    views: &[View],
    node: &str,
    shards: &BTreeMap<&str, u32>,
    end_s: f64,
) -> Vec<Belief> {
    let mut spans: Vec<Belief> = Vec::new();
    let mut silent = true;
    for view in views.iter().filter(|view| view.node == node) {
        let at_s = seconds(view.time);
        let Some(seen) = &view.seen else {
            if !silent && let Some(last) = spans.last_mut() {
                last.to_s = seconds(view.sent);
            }
            silent = true;
            continue;
        };
        let shard = if seen.master {
            seen.slots.first().and_then(|(first, _)| shard_of_slot(info, *first))
        } else {
            seen.master_name.as_deref().and_then(|master| shards.get(master).copied())
        };
        let belief =
            Belief { from_s: at_s, to_s: end_s, shard, master: seen.master, epoch: seen.epoch, ok: seen.ok };
        match spans.last_mut() {
            Some(last)
                if !silent
                    && (last.shard, last.master, last.epoch, last.ok)
                        == (belief.shard, belief.master, belief.epoch, belief.ok) =>
            {
                last.to_s = at_s;
            }
            Some(last) if !silent => {
                last.to_s = at_s;
                spans.push(belief);
            }
            _ => spans.push(belief),
        }
        silent = false;
    }
    spans
}

fn conditions(history: &[Event], node: &str, end_s: f64) -> Vec<(Condition, f64, f64)> {
    let mut spans: Vec<(Condition, f64, f64)> = Vec::new();
    let mut open: BTreeMap<u8, (Condition, f64)> = BTreeMap::new();
    let mut cuts: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (time, step) in fault_steps(history) {
        let at_s = seconds(time);
        for action in &step.actions {
            match action {
                Action::Killed { node: who, .. } | Action::Exited { node: who, .. } if who == node => {
                    close(&mut open, &mut spans, Condition::Paused, at_s);
                    open.entry(Condition::Down as u8).or_insert((Condition::Down, at_s));
                }
                Action::Started { node: who, .. } if who == node => {
                    close(&mut open, &mut spans, Condition::Down, at_s);
                }
                Action::Paused { node: who } if who == node => {
                    open.entry(Condition::Paused as u8).or_insert((Condition::Paused, at_s));
                }
                Action::Resumed { node: who } if who == node => {
                    close(&mut open, &mut spans, Condition::Paused, at_s);
                }
                Action::Cut { from, to, .. } if (from == node || to == node) && isolating(step, node) => {
                    cuts.insert((from, to));
                }
                Action::Healed { from, to, .. } => {
                    cuts.remove(&(from.as_str(), to.as_str()));
                }
                _ => {}
            }
        }
        if cuts.is_empty() {
            close(&mut open, &mut spans, Condition::Cut, at_s);
        } else {
            open.entry(Condition::Cut as u8).or_insert((Condition::Cut, at_s));
        }
    }
    spans.extend(open.into_values().map(|(condition, from)| (condition, from, end_s)));
    spans
}

/// True if the step cuts `node` off rather than cutting others off from it.
fn isolating(step: &FaultStep, node: &str) -> bool {
    targets(step).iter().any(|target| target == node)
}

fn close(
    open: &mut BTreeMap<u8, (Condition, f64)>,
    spans: &mut Vec<(Condition, f64, f64)>,
    condition: Condition,
    at_s: f64,
) {
    if let Some((condition, from)) = open.remove(&(condition as u8)) {
        spans.push((condition, from, at_s));
    }
}

fn shards(info: &RunInfo, points: &[Point], bin_s: f64, quiet_s: f64) -> Vec<Shard> {
    let count = (quiet_s / bin_s).ceil().max(1.0) as usize;
    let mut shards: BTreeMap<u32, Shard> = info
        .nodes
        .iter()
        .filter(|node| node.master)
        .map(|node| {
            let shard = Shard {
                number: node.shard,
                slots: slot_ranges(&node.slots),
                bins: vec![Bin::default(); count],
            };
            (node.shard, shard)
        })
        .collect();
    for point in points {
        let Some(shard) = point.shard.and_then(|shard| shards.get_mut(&shard)) else { continue };
        let Some(bin) = shard.bins.get_mut((point.at_s / bin_s) as usize) else { continue };
        if point.outcome == Outcome::Ok {
            bin.ok += 1;
        } else {
            bin.not_ok += 1;
        }
    }
    shards.into_values().collect()
}

/// `0-5460, 7000`.
pub fn slot_ranges(slots: &[(u16, u16)]) -> String {
    let range = |(from, to): &(u16, u16)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    slots.iter().map(range).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use slotstorm_checker::record::Op;

    use super::*;

    fn fault(time: Nanos, fault: u32, name: &str, phase: FaultPhase, actions: Vec<Action>) -> Event {
        let step =
            FaultStep { fault: Some(fault), name: name.into(), phase, actions, ..FaultStep::default() };
        Event {
            index: 0,
            time,
            kind: Kind::Info,
            process: Process::Other(slotstorm_checker::record::Speaker::Nemesis),
            body: Body::Fault(step),
        }
    }

    #[test]
    fn quantiles_are_jepsens() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        let all: Vec<_> = [0.0, 0.5, 0.95, 1.0].iter().map(|q| quantile(&sorted, *q)).collect();
        assert_eq!(all, [Some(1.0), Some(3.0), Some(4.0), Some(4.0)]);
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn bucket_widths_are_round_and_few_enough() {
        for span_s in [0.5, 7.0, 60.0, 61.0, 3600.0, 86_400.0] {
            let width = bucket_s(span_s, 30.0);
            assert!(span_s / width <= 30.1, "{span_s} s in buckets of {width} s");
        }
        assert!((bucket_s(60.0, 30.0) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_fault_is_banded_to_its_own_end_and_an_open_one_to_the_edge() {
        let kill = Action::Killed { node: "n1".into(), signal: "KILL".into() };
        let history = [
            fault(1_000_000_000, 0, "kill", FaultPhase::Start, vec![kill]),
            fault(2_000_000_000, 1, "pause", FaultPhase::Start, vec![Action::Paused { node: "n2".into() }]),
            fault(
                3_000_000_000,
                0,
                "kill",
                FaultPhase::End,
                vec![Action::Started { node: "n1".into(), pid: 7, kept: None }],
            ),
        ];
        let spans: Vec<_> = bands(&history, &[], 9.0).iter().map(|b| (b.from_s, b.to_s)).collect();
        assert_eq!(spans, [(1.0, 3.0), (2.0, 9.0)]);
        assert_eq!(conditions(&history, "n1", 9.0), [(Condition::Down, 1.0, 3.0)]);
        assert_eq!(conditions(&history, "n2", 9.0), [(Condition::Paused, 2.0, 9.0)]);
    }

    #[test]
    fn latency_counts_from_the_intended_start() {
        let event = |time, kind, intended| Event {
            index: 0,
            time,
            kind,
            process: Process::Client(3),
            body: Body::Add(Op { key: "k".into(), intended, ..Op::default() }),
        };
        let history =
            [event(2_000_000_000, Kind::Invoke, Some(1_000_000_000)), event(2_500_000_000, Kind::Ok, None)];
        let story = Story::new(&RunInfo::default(), &history, &[]);
        assert_eq!((story.points[0].at_s, story.points[0].latency_ms), (1.0, 1500.0));
    }

    #[test]
    fn the_target_of_a_cut_is_the_node_that_all_cut_links_share() {
        let cut = |from: &str, to: &str| Action::Cut {
            from: from.into(),
            to: to.into(),
            planes: vec![],
            policy: "blackhole".into(),
        };
        let step = FaultStep {
            name: "isolate".into(),
            actions: vec![
                cut("n1", "n2"),
                cut("n2", "n1"),
                cut("n1", "n3"),
                cut("n3", "n1"),
                cut("c0", "n1"),
            ],
            ..FaultStep::default()
        };
        assert_eq!(targets(&step), ["n1"]);
    }
}
