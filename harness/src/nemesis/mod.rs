//! What breaks the cluster. [`Nemesis`] is a state machine: at each deadline it says what is to be done to
//! the world now; [`runner`] does it and records what really happened.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use slotstorm_checker::record::{FaultPhase, Nanos};
use slotstorm_fabric::{Endpoint, LinkChange};

use crate::backend::{ProcessState, Signal};
use crate::observer::{ClusterModel, node_name};
use crate::plan::{Down, Fault, Kind, Planned, Restart, Selector, Span};

mod links;
mod resolve;
pub mod runner;

use links::InForce;
pub use links::Link;

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
    /// Whom the fault before hit, and a slot of its shard then.
    last: Option<(u16, Option<u16>)>,
}

/// What the nemesis must know of the run.
#[derive(Clone, Copy, Debug)]
pub struct NemesisOptions {
    /// When the clients began: the schedule's zero.
    pub origin: Nanos,
    pub node_timeout_ms: u64,
    /// How many clients there are to put on a side.
    pub clients: u16,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Due {
    Begin(u32),
    End(u32),
}

/// A fault that holds.
#[derive(Debug)]
struct Active {
    nodes: Vec<u16>,
    links: Vec<Link>,
}

/// What is to be done to the world, at once, as one step of one fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The fault's number; final healing has none.
    pub fault: Option<u32>,
    pub name: &'static str,
    pub phase: FaultPhase,
    /// When the schedule wanted it.
    pub planned: Option<Nanos>,
    /// In this order.
    pub deeds: Vec<Deed>,
    /// The fault's links, whose counters are reset at its start and read at its end.
    pub links: Vec<Link>,
    /// For people: the selector and what it became.
    pub note: String,
    /// Nothing can be done, and why.
    pub vacuous: Option<String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    Signal { node: u16, signal: Signal },
    Start { node: u16 },
    Wipe { node: u16 },
    Net(Vec<LinkChange>),
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
            last: None,
        };
        for planned in nemesis.faults.clone() {
            nemesis.at(options.origin + planned.at, Due::Begin(planned.number));
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

    /// The next step that is due, resolved against the cluster as it is now.
    pub fn on(&mut self, now: Nanos, model: &ClusterModel) -> Option<Step> {
        let (&(at, seq), _) = self.due.first_key_value()?;
        if at > now {
            return None;
        }
        match self.due.remove(&(at, seq)).expect("just seen") {
            Due::Begin(number) => Some(self.begin(now, at, number, model)),
            Due::End(number) => self.end(at, number, model),
        }
    }

    /// Undoes everything that still holds, and brings back every node that is not running: the end of the
    /// storm. One step per fault that held, then one for what is left.
    pub fn heal_all(&mut self, now: Nanos, model: &ClusterModel) -> Vec<Step> {
        self.due.clear();
        let holding: Vec<u32> = self.active.keys().copied().collect();
        let mut steps: Vec<Step> = Vec::new();
        let mut undone = BTreeSet::new();
        for number in holding {
            let planned = self.end(now, number, model);
            undone.extend(planned.iter().flat_map(|step| &step.deeds).filter_map(|deed| match deed {
                Deed::Signal { node, .. } | Deed::Start { node } => Some(*node),
                Deed::Wipe { .. } | Deed::Net(_) => None,
            }));
            steps.extend(planned.map(|step| Step { planned: None, ..step }));
        }
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
                fault: None,
                name: "heal",
                phase: FaultPhase::End,
                planned: None,
                deeds,
                links: Vec::new(),
                note: "all links pass, every node runs".into(),
                vacuous: None,
            });
        }
        steps
    }

    fn at(&mut self, at: Nanos, due: Due) {
        self.due.insert((at, self.next_due), due);
        self.next_due += 1;
    }

    fn begin(&mut self, now: Nanos, planned: Nanos, number: u32, model: &ClusterModel) -> Step {
        let fault = self.faults[number as usize].fault.clone();
        let mut step = Step {
            fault: Some(number),
            name: fault.kind.name(),
            phase: FaultPhase::Start,
            planned: Some(planned),
            deeds: Vec::new(),
            links: Vec::new(),
            note: String::new(),
            vacuous: None,
        };
        let targets = match resolve::resolve(fault.target, model, self.last, &mut self.rng) {
            Ok(targets) => targets,
            Err(why) => {
                step.note = fault.target.to_string();
                step.vacuous = Some(why);
                return step;
            }
        };
        let duration = fault.kind.duration();
        self.carry_out(&fault, &targets, model, &mut step);
        if fault.target != Selector::All
            && let Some(first) = targets.first()
        {
            self.last = Some((*first, model.slot_of(*first)));
        }
        self.active.insert(number, Active { nodes: targets, links: step.links.clone() });
        if let Some(span) = duration {
            self.at(now.max(planned) + span.nanos(self.options.node_timeout_ms), Due::End(number));
        }
        step
    }

    /// Fills a starting step in.
    fn carry_out(&mut self, fault: &Fault, targets: &[u16], model: &ClusterModel, step: &mut Step) {
        let names: Vec<String> = targets.iter().map(|node| node_name(*node)).collect();
        let whom = format!("{} = {}", fault.target, names.join(", "));
        match &fault.kind {
            Kind::Down { how, restart, wipe } => {
                let signal = if *how == Down::Kill { Signal::Kill } else { Signal::Term };
                for node in targets {
                    step.deeds.push(Deed::Signal { node: *node, signal });
                    if *wipe {
                        step.deeds.push(Deed::Wipe { node: *node });
                    }
                }
                let back = match restart {
                    Restart::After(Span::Secs(0.0)) => ", back at once".to_owned(),
                    Restart::After(span) => format!(", back in {}", self.seconds(*span)),
                    Restart::Never => ", not before the storm is over".to_owned(),
                };
                let wiped = if *wipe { ", without its data" } else { "" };
                step.note = format!("{whom}{back}{wiped}");
            }
            Kind::Pause { duration } => {
                for node in targets {
                    step.deeds.push(Deed::Signal { node: *node, signal: Signal::Stop });
                }
                step.note = format!("{whom} for {}", self.seconds(*duration));
            }
            Kind::Network { shape, policy, planes, clients, duration } => {
                let sides =
                    links::sides(*shape, targets, *clients, self.options.clients, model, &mut self.rng);
                step.links = links::links_between(*shape, &sides);
                let number = step.fault.expect("a starting step has its fault's number");
                let changes = self.in_force.begin(number, &step.links, planes, *policy);
                if changes.is_empty() {
                    step.vacuous = Some("there is no such link".into());
                }
                step.links = changes.iter().map(|change| (change.from, change.to)).collect();
                step.deeds.push(Deed::Net(changes));
                let inside: Vec<String> = sides.inside.iter().map(Endpoint::to_string).collect();
                let whom = if step.name == "halves" { "halves".to_owned() } else { whom };
                step.note = format!("{whom} for {}; inside: {}", self.seconds(*duration), inside.join(" "));
            }
        }
    }

    fn end(&mut self, planned: Nanos, number: u32, model: &ClusterModel) -> Option<Step> {
        let active = self.active.remove(&number)?;
        let fault = self.faults[number as usize].fault.clone();
        let state = |node: &u16| model.node(*node).map(|node| node.process.clone());
        let mut deeds = Vec::new();
        match &fault.kind {
            Kind::Down { .. } => {
                let down =
                    active.nodes.iter().filter(|n| matches!(state(n), Some(ProcessState::Down { .. })));
                deeds.extend(down.map(|node| Deed::Start { node: *node }));
            }
            Kind::Pause { .. } => {
                let stopped =
                    active.nodes.iter().filter(|n| matches!(state(n), Some(ProcessState::Stopped { .. })));
                deeds.extend(stopped.map(|node| Deed::Signal { node: *node, signal: Signal::Continue }));
            }
            Kind::Network { .. } => deeds.push(Deed::Net(self.in_force.end(number))),
        }
        let names: Vec<String> = active.nodes.iter().map(|node| node_name(*node)).collect();
        Some(Step {
            fault: Some(number),
            name: fault.kind.name(),
            phase: FaultPhase::End,
            planned: Some(planned),
            deeds,
            links: active.links,
            note: names.join(", "),
            vacuous: None,
        })
    }

    fn seconds(&self, span: Span) -> String {
        format!("{:.1} s", span.secs(self.options.node_timeout_ms))
    }
}

#[cfg(test)]
mod tests;
