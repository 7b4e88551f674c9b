//! What the nemesis really did, as intervals: processes down, paused, wiped, restarted; links cut or slowed. Reads the
//! primitive actions, never the names of faults.

use std::collections::BTreeMap;

use super::span::{MILLI, Span, Spans};
use crate::record::{Action, FailoverMode, FaultPhase, MESSAGES, Nanos, NodeId, Record};

/// A process' life.
#[derive(Clone, Debug, Default)]
pub struct Process {
    pub down: Spans,
    pub paused: Spans,
    pub restarts: Vec<Restart>,
    /// When it ended without being asked to, and with which status.
    pub exits: Vec<(Nanos, String)>,
    pub wipes: Vec<Nanos>,
}

/// A process was started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    pub node: NodeId,
    /// When its predecessor ended.
    pub down_at: Nanos,
    pub at: Nanos,
    /// Its data directory was emptied in between.
    pub wiped: bool,
}

/// CLUSTER FAILOVER was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManualFailover {
    pub at: Nanos,
    pub node: NodeId,
    pub mode: FailoverMode,
}

/// One direction of one plane of one link under a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub from: NodeId,
    pub to: NodeId,
    pub plane: String,
    pub span: Span,
    pub effect: CutEffect,
}

impl Cut {
    /// Nothing gets through on the bus.
    pub(super) fn blocks_bus(&self) -> bool {
        self.plane == "bus" && self.effect == CutEffect::Blocks
    }

    /// It holds the bus itself, or messages on it.
    pub(super) fn is_of_bus(&self) -> bool {
        matches!(self.plane.as_str(), "bus" | MESSAGES)
    }
}

/// What a policy does to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutEffect {
    /// None get through.
    Blocks,
    /// They arrive later, by at most about this much.
    Delays { nanos: Nanos },
    /// Connections break once.
    Breaks,
}

impl CutEffect {
    /// What the text of a policy means: its first word, and for a delay the sum of the numbers in it, in milliseconds.
    pub(crate) fn of(policy: &str) -> Option<Self> {
        let word = policy.trim_start().to_ascii_lowercase();
        let is = |name: &str| word.starts_with(name);
        if is("blackhole") || is("refuse") || is("half") || is("dead") {
            return Some(Self::Blocks);
        }
        if is("messages") {
            return Some(Self::Delays { nanos: 0 });
        }
        // What stands in brackets is for people.
        let word = word.split('(').next().unwrap_or_default();
        if is("delay") {
            let millis: Nanos = word
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|digits| digits.parse::<u32>().ok())
                .map(Nanos::from)
                .sum();
            return Some(Self::Delays { nanos: millis * MILLI });
        }
        is("reset").then_some(Self::Breaks)
    }
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// By node.
    pub processes: Vec<Process>,
    pub cuts: Vec<Cut>,
    /// By node and name of a client: when something was done to the link between them.
    client_links: BTreeMap<(NodeId, String), Spans>,
    pub manual_failovers: Vec<ManualFailover>,
    /// The longest delay that was put on each node's bus links.
    pub bus_delay: BTreeMap<NodeId, Nanos>,
    /// When an operator moved slots (reshard, rebalance, fix) or said a command of his own.
    pub moving: Spans,
    /// When the storm carried slots with their keys from master to master.
    pub carrying: Spans,
}

impl Faults {
    /// Follows the actions of all steps.
    pub(super) fn of(record: &Record) -> Self {
        let mut faults = Self { processes: vec![Process::default(); record.nodes.len()], ..Self::default() };
        let mut open_cuts: BTreeMap<(NodeId, NodeId, String), usize> = BTreeMap::new();
        let mut before = 0;
        for event in &record.faults {
            // It is told when it is done; it began after the step before.
            if event.step.name == "fix" {
                faults.moving.open(before);
            }
            if MOVERS.contains(&event.step.name.as_str()) {
                let done = |action: &Action| matches!(action, Action::Work { outcome: Some(_), .. });
                if event.step.phase == FaultPhase::Start {
                    faults.moving.open(event.time);
                }
                let carries = event.step.actions.iter().any(|it| matches!(it, Action::Work { .. }));
                if carries && event.step.phase == FaultPhase::Start {
                    faults.carrying.open(event.time);
                }
                if event.step.actions.iter().any(done) {
                    faults.carrying.close(event.time);
                }
                // What a command changes, it has changed when it is answered.
                if event.step.name == "command" || event.step.actions.iter().any(done) {
                    faults.moving.close(event.time);
                }
            }
            before = event.time;
            for action in &event.step.actions {
                faults.follow(record, event.time, action, &mut open_cuts);
            }
        }
        for cut in &mut faults.cuts {
            // What a rule for messages holds back may be missing for as long as it holds.
            if cut.plane == MESSAGES {
                cut.effect = CutEffect::Delays { nanos: cut.span.to.saturating_sub(cut.span.from) };
            }
            if let CutEffect::Delays { nanos } = cut.effect {
                for node in [cut.from, cut.to] {
                    let longest = faults.bus_delay.entry(node).or_default();
                    *longest = (*longest).max(nanos);
                }
            }
        }
        faults
    }

    /// The process of a node.
    pub fn process(&self, node: NodeId) -> &Process {
        &self.processes[usize::from(node.0)]
    }

    /// True if the node's process ran at no moment of the interval.
    pub fn stopped_throughout(&self, node: NodeId, from: Nanos, to: Nanos) -> bool {
        let process = self.process(node);
        [&process.down, &process.paused]
            .into_iter()
            .any(|spans| spans.at(from).is_some_and(|span| span.to >= to))
    }

    /// True if the node's process was gone or stopped at some moment of the interval.
    pub fn stopped_within(&self, node: NodeId, from: Nanos, to: Nanos) -> bool {
        let process = self.process(node);
        process.down.meets(from, to) || process.paused.meets(from, to)
    }

    /// True if, in the interval, the node was stopped or some link of it was cut, slowed or broken.
    pub fn touched_within(&self, node: NodeId, from: Nanos, to: Nanos) -> bool {
        self.stopped_within(node, from, to)
            || self.cuts.iter().any(|cut| (cut.from == node || cut.to == node) && cut.span.meets(from, to))
    }

    /// True if, in the interval, something on the bus between the node and others was cut, slowed, broken or taken out.
    pub fn bus_touched_within(&self, node: NodeId, from: Nanos, to: Nanos) -> bool {
        self.cuts
            .iter()
            .any(|cut| (cut.from == node || cut.to == node) && cut.is_of_bus() && cut.span.meets(from, to))
    }

    /// True if, in the interval, something was done to the link between the node and a client.
    pub fn client_touched_within(&self, node: NodeId, client: u32, from: Nanos, to: Nanos) -> bool {
        let spans = self.client_links.get(&(node, format!("c{client}")));
        spans.is_some_and(|spans| spans.meets(from, to))
    }

    /// Since when what is said to the node on the bus may first be heard by it in this interval: what was held back by a cut
    /// that ends in it, or by the node's own standing still, comes then, and each connection brings its words in its own time.
    pub fn heard_since(&self, node: NodeId, from: Nanos, to: Nanos) -> Nanos {
        let cuts = self.cuts.iter().filter(|cut| cut.to == node && cut.is_of_bus());
        let stops = self.process(node).paused.iter();
        let held = cuts.map(|cut| cut.span).chain(stops.copied()).filter(|span| span.meets(from, to));
        held.map(|span| span.from).fold(from, Nanos::min)
    }

    fn follow(
        &mut self,
        record: &Record,
        time: Nanos,
        action: &Action,
        open_cuts: &mut BTreeMap<(NodeId, NodeId, String), usize>,
    ) {
        let at = |name: &String| record.node_id(name);
        match action {
            Action::Killed { node, .. } => {
                if let Some(node) = at(node) {
                    self.end_process(node, time);
                }
            }
            Action::Exited { node, status } => {
                if let Some(node) = at(node) {
                    self.end_process(node, time);
                    self.processes[usize::from(node.0)].exits.push((time, status.clone()));
                }
            }
            Action::Started { node, .. } => {
                if let Some(node) = at(node) {
                    self.start_process(node, time);
                }
            }
            Action::Paused { node } => {
                if let Some(node) = at(node) {
                    self.processes[usize::from(node.0)].paused.open(time);
                }
            }
            Action::Resumed { node } => {
                if let Some(node) = at(node) {
                    self.processes[usize::from(node.0)].paused.close(time);
                }
            }
            Action::Wiped { node } => {
                if let Some(node) = at(node) {
                    self.processes[usize::from(node.0)].wipes.push(time);
                }
            }
            Action::ManualFailover { node, mode } => {
                if let Some(node) = at(node) {
                    self.manual_failovers.push(ManualFailover { at: time, node, mode: *mode });
                }
            }
            Action::Cut { from, to, planes, policy } => {
                let (Some(from), Some(to)) = (at(from), at(to)) else {
                    return self.client_link(record, (from, to), |spans| spans.open(time));
                };
                for plane in planes {
                    let key = (from, to, plane.clone());
                    if let Some(open) = open_cuts.remove(&key) {
                        self.cuts[open].span.to = time;
                    }
                    if let Some(effect) = CutEffect::of(policy) {
                        open_cuts.insert(key, self.cuts.len());
                        let to_end = if effect == CutEffect::Breaks { time } else { Nanos::MAX };
                        let span = Span { from: time, to: to_end };
                        self.cuts.push(Cut { from, to, plane: plane.clone(), span, effect });
                    }
                }
            }
            Action::Damaged { .. }
            | Action::Disk { .. }
            | Action::Clock { .. }
            | Action::Asked { .. }
            | Action::Work { .. }
            | Action::Refused { .. } => {}
            Action::Healed { from, to, planes } => {
                let (Some(from), Some(to)) = (at(from), at(to)) else {
                    return self.client_link(record, (from, to), |spans| spans.close(time));
                };
                for plane in planes {
                    if let Some(open) = open_cuts.remove(&(from, to, plane.clone())) {
                        let span = &mut self.cuts[open].span;
                        span.to = span.to.min(time);
                    }
                }
            }
        }
    }

    fn client_link(
        &mut self,
        record: &Record,
        (from, to): (&String, &String),
        note: impl FnOnce(&mut Spans),
    ) {
        let ends =
            record.node_id(from).map(|node| (node, to)).or(record.node_id(to).map(|node| (node, from)));
        if let Some((node, client)) = ends {
            note(self.client_links.entry((node, client.clone())).or_default());
        }
    }

    fn end_process(&mut self, node: NodeId, time: Nanos) {
        let process = &mut self.processes[usize::from(node.0)];
        process.paused.close(time);
        process.down.open(time);
    }

    fn start_process(&mut self, node: NodeId, time: Nanos) {
        let process = &mut self.processes[usize::from(node.0)];
        let Some(down) = process.down.at(time).filter(|span| span.to == Nanos::MAX) else { return };
        process.down.close(time);
        let wiped = process.wipes.iter().any(|&at| down.from <= at && at <= time);
        process.restarts.push(Restart { node, down_at: down.from, at: time, wiped });
    }
}

/// Steps that move slots, or may.
const MOVERS: [&str; 4] = ["reshard", "rebalance", "fix", "command"];
