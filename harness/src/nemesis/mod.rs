//! What breaks the cluster. [`Nemesis`] is a state machine: at each deadline, and at each moment that it waited for, it
//! says what is to be done to the world now; [`runner`] does it and records what really happened.
//!
//! `resolve` whom a fault hits · `links` which links · `begin` and `end` what a fault is made of · `waiting` triggers ·
//! `runner`, `perform` and `work` the doing.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use slotstorm_checker::record::{FaultPhase, Nanos};
use slotstorm_fabric::{Match, MessageRule, Trap};

use crate::backend::{ProcessState, Signal};
use crate::observer::ClusterModel;
use crate::plan::{Planned, When};

mod begin;
mod end;
mod links;
mod perform;
mod resolve;
pub mod runner;
mod step;
mod waiting;
mod work;

use links::InForce;
pub use links::Link;
use resolve::Context;
pub use step::{Deed, SetOff, Step, Work};
use waiting::Waiting;

/// The state machine.
#[derive(Debug)]
pub struct Nemesis {
    options: NemesisOptions,
    rng: ChaCha8Rng,
    /// What is due when; the number keeps the schedule's order among equals.
    due: BTreeMap<(Nanos, u64), Due>,
    next_due: u64,
    faults: Vec<Planned>,
    active: BTreeMap<u32, Active>,
    in_force: InForce,
    /// Rules for bus messages, by fault.
    rules: BTreeMap<u32, MessageRule>,
    waiting: BTreeMap<u32, Waiting>,
    context: Context,
    /// Nodes that were made to leave.
    outside: BTreeSet<u16>,
}

/// What the nemesis must know of the run.
#[derive(Clone, Copy, Debug)]
pub struct NemesisOptions {
    /// When the clients began: the schedule's zero.
    pub origin: Nanos,
    pub node_timeout_ms: u64,
    /// How many clients there are to put on a side.
    pub clients: u16,
    /// Replicas of each master: without any, no fault can be careful.
    pub replicas: u16,
}

#[derive(Clone, Debug, PartialEq)]
enum Due {
    Begin(u32, Option<SetOff>),
    /// The next half of something that comes and goes.
    Beat(u32),
    End(u32),
    /// From now on it waits for its trigger.
    Arm(u32),
}

/// A fault that holds.
#[derive(Debug)]
struct Active {
    nodes: Vec<u16>,
    links: Vec<Link>,
    /// Of what comes and goes: it holds now.
    on: bool,
    /// When a beat is no longer due.
    until: Nanos,
    /// It ends when its work is done.
    works: bool,
}

impl Nemesis {
    /// A nemesis with its schedule.
    pub fn new(faults: Vec<Planned>, options: NemesisOptions, rng: ChaCha8Rng) -> Self {
        let mut nemesis = Self {
            options,
            rng,
            due: BTreeMap::new(),
            next_due: 0,
            faults,
            active: BTreeMap::new(),
            in_force: InForce::default(),
            rules: BTreeMap::new(),
            waiting: BTreeMap::new(),
            context: Context::default(),
            outside: BTreeSet::new(),
        };
        for planned in nemesis.faults.clone() {
            let due = match planned.fault.when {
                When::On { .. } => Due::Arm(planned.number),
                When::At(_) | When::Every { .. } => Due::Begin(planned.number, None),
            };
            nemesis.at(options.origin + planned.at, due);
        }
        nemesis
    }

    /// When `on` is due.
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// True while a fault holds.
    pub fn holds(&self) -> bool {
        !self.active.is_empty()
    }

    /// The moments that are waited for now.
    pub fn traps(&self, model: &ClusterModel) -> Vec<Trap> {
        self.waiting.values().filter_map(|waiting| waiting.trap(model, &self.context)).collect()
    }

    /// A moment came.
    pub fn matched(&mut self, found: &Match) {
        let delay = self.waiting.get(&found.trap).map(|waiting| waiting.delay);
        let Some(delay) = delay else { return };
        self.note(found);
        let off = self.waiting.remove(&found.trap).map(|waiting| waiting.set_off(found));
        self.at(found.time + delay, Due::Begin(found.trap, off));
        self.arm_next(found.trap);
    }

    /// A fault's work is done: it ends.
    pub fn done(&mut self, now: Nanos, number: u32, left: Option<u16>, joined: &[u16]) {
        self.outside.extend(left);
        self.outside.retain(|node| !joined.contains(node));
        if let Some(active) = self.active.get_mut(&number)
            && std::mem::take(&mut active.works)
        {
            self.at(now, Due::End(number));
        }
    }

    /// The next step that is due, resolved against the cluster as it is now.
    pub fn on(&mut self, now: Nanos, model: &ClusterModel) -> Option<Step> {
        loop {
            let (&(at, seq), _) = self.due.first_key_value()?;
            if at > now {
                return None;
            }
            let step = match self.due.remove(&(at, seq)).expect("just seen") {
                Due::Begin(number, off) => Some(self.begin(now, at, number, off, model)),
                Due::Beat(number) => self.beat(now, at, number, model),
                Due::End(number) => self.end(now, at, number, model),
                Due::Arm(number) => {
                    self.arm(number);
                    None
                }
            };
            if step.is_some() {
                return step;
            }
        }
    }

    /// Undoes everything that still holds, and brings back every node that is not running: the end of the
    /// storm. One step per fault that held, then one for what is left.
    pub fn heal_all(&mut self, now: Nanos, model: &ClusterModel) -> Vec<Step> {
        self.due.clear();
        self.waiting.clear();
        let holding: Vec<u32> = self.active.keys().copied().collect();
        let mut steps: Vec<Step> = Vec::new();
        let mut undone = BTreeSet::new();
        for number in holding {
            let planned = self.end(now, now, number, model);
            undone.extend(planned.iter().flat_map(|step| &step.deeds).filter_map(|deed| match deed {
                Deed::Signal { node, .. } | Deed::Start { node } => Some(*node),
                _ => None,
            }));
            steps.extend(planned.map(|step| Step { planned: None, ..step }));
        }
        self.due.clear();
        let rest = model.nodes().iter().filter(|node| !undone.contains(&node.number));
        let deeds: Vec<Deed> = rest
            .filter_map(|node| match node.process {
                ProcessState::Running { .. } => None,
                ProcessState::Stopped { .. } => {
                    Some(Deed::Signal { node: node.number, signal: Signal::Continue })
                }
                ProcessState::Down { .. } => Some(Deed::Start { node: node.number }),
            })
            .collect();
        if !deeds.is_empty() || !steps.is_empty() {
            steps.push(Step {
                deeds,
                note: "all links pass, every node runs".into(),
                ..Step::new(None, "heal", FaultPhase::End)
            });
        }
        steps
    }

    /// Nodes that were made to leave and stand outside still.
    pub fn outside(&self) -> Vec<u16> {
        self.outside.iter().copied().collect()
    }

    fn at(&mut self, at: Nanos, due: Due) {
        self.due.insert((at, self.next_due), due);
        self.next_due += 1;
    }

    fn span(&self, span: crate::plan::Span) -> Nanos {
        span.nanos(self.options.node_timeout_ms)
    }

    fn seconds(&self, span: crate::plan::Span) -> String {
        format!("{:.1} s", span.secs(self.options.node_timeout_ms))
    }
}

impl Step {
    fn new(fault: Option<u32>, name: &'static str, phase: FaultPhase) -> Self {
        Self {
            fault,
            name,
            phase,
            planned: None,
            deeds: Vec::new(),
            links: Vec::new(),
            counts_messages: false,
            note: String::new(),
            vacuous: None,
            trigger: None,
            voids: Vec::new(),
            targets: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
