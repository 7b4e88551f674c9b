//! What a fault does when it begins.

use slotstorm_checker::record::{FailoverMode, FaultPhase, Nanos};
use slotstorm_fabric::{Endpoint, Ends, Fate, MESSAGE_TYPES, MessageRule, Messages, OnHeal, Plane, Policy};

use super::resolve::{resolve, spares};
use super::step::{Deed, SetOff, Step, Work};
use super::{Active, Due, Link, Nemesis, links};
use crate::backend::Signal;
use crate::observer::{ClusterModel, node_name};
use crate::plan::{Down, Fault, Kind, Load, Network, Restart, Selector, Shape, Span, page};

impl Nemesis {
    pub(super) fn begin(
        &mut self,
        now: Nanos,
        planned: Nanos,
        number: u32,
        off: Option<SetOff>,
        model: &ClusterModel,
    ) -> Step {
        let fault = self.faults[number as usize].fault.clone();
        let mut step = Step::new(Some(number), fault.kind.name(), FaultPhase::Start);
        step.planned = Some(planned);
        step.trigger = off;
        let targets = match self.targets(&fault, model) {
            Ok(targets) => targets,
            Err(why) => {
                step.note = fault.target.to_string();
                step.vacuous = Some(why);
                return step;
            }
        };
        self.carry_out(&fault, &targets, now, model, &mut step);
        if step.vacuous.is_some() {
            step.deeds.clear();
            return step;
        }
        if !matches!(fault.target, Selector::All)
            && let Some(first) = targets.first()
        {
            self.context.last = Some((*first, model.slot_of(*first)));
        }
        if let Ok(page) = page(step.name) {
            step.voids = page.voided().map(str::to_owned).collect();
        }
        step.targets.clone_from(&targets);
        let works =
            fault.kind.duration().is_none() && step.deeds.iter().any(|deed| matches!(deed, Deed::Work(_)));
        let begun = now.max(planned);
        let until = fault.kind.duration().map_or(Nanos::MAX, |span| begun + self.span(span));
        self.active
            .insert(number, Active { nodes: targets, links: step.links.clone(), on: true, until, works });
        if let Some(first) = self.beat_after(&fault.kind, true) {
            self.at(begun + first, Due::Beat(number));
        }
        if until < Nanos::MAX {
            self.at(until, Due::End(number));
        }
        self.announce(now, number, true);
        step
    }

    fn targets(&mut self, fault: &Fault, model: &ClusterModel) -> Result<Vec<u16>, String> {
        let budget = fault.careful && fault.kind.takes_a_copy() && self.options.replicas > 0;
        let whole = matches!(fault.kind, Kind::Down { how: Down::CrashAll, .. });
        let active = &self.active;
        let faults = &self.faults;
        let hit = |node: u16| {
            active.iter().any(|(number, active)| {
                active.nodes.contains(&node) && faults[*number as usize].fault.kind.takes_a_copy()
            })
        };
        let allowed = |node: u16| !budget || whole || spares(model, node, &hit);
        resolve(fault.target, model, &self.context, &allowed, &mut self.rng)
    }

    /// After how long the next half of what comes and goes is due.
    pub(super) fn beat_after(&self, kind: &Kind, on: bool) -> Option<Nanos> {
        let half = match (kind, on) {
            (Kind::RestartLoop { down, .. }, true) => *down,
            (Kind::RestartLoop { up, .. }, false) => *up,
            (Kind::Slow { stop, .. }, true) => *stop,
            (Kind::Slow { run, .. }, false) => *run,
            (Kind::Network(Network { flap: Some(flap), .. }), true) => flap.down,
            (Kind::Network(Network { flap: Some(flap), .. }), false) => flap.up,
            _ => return None,
        };
        Some(self.span(half).max(1_000_000))
    }

    /// Fills a starting step in.
    fn carry_out(
        &mut self,
        fault: &Fault,
        targets: &[u16],
        now: Nanos,
        model: &ClusterModel,
        step: &mut Step,
    ) {
        let names: Vec<String> = targets.iter().map(|node| node_name(*node)).collect();
        let whom = format!("{} = {}", fault.target, names.join(", "));
        let lasting = |duration: Span| format!("{whom} for {}", self.seconds(duration));
        match &fault.kind {
            Kind::Down { how, restart, wipe, damage } => {
                let signal = match how {
                    Down::Kill | Down::CrashAll => Signal::Kill,
                    Down::Term | Down::Restart => Signal::Term,
                };
                if *how == Down::CrashAll {
                    step.deeds.push(Deed::KillAll { nodes: targets.to_vec() });
                }
                for node in targets {
                    if *how != Down::CrashAll {
                        step.deeds.push(Deed::Signal { node: *node, signal });
                    }
                    if *wipe {
                        step.deeds.push(Deed::Wipe { node: *node });
                    }
                    step.deeds.extend(damage.map(|damage| Deed::Damage { node: *node, damage }));
                }
                let back = match restart {
                    Restart::After(Span::Secs(0.0)) => ", back at once".to_owned(),
                    Restart::After(span) => format!(", back in {}", self.seconds(*span)),
                    Restart::Never => ", not before the storm is over".to_owned(),
                };
                let wiped = if *wipe { ", without its data" } else { "" };
                step.note = format!("{whom}{back}{wiped}");
            }
            Kind::RestartLoop { duration, .. } => {
                let kill = |node: &u16| Deed::Signal { node: *node, signal: Signal::Kill };
                step.deeds.extend(targets.iter().map(kill));
                step.note = lasting(*duration);
            }
            Kind::Pause { duration } | Kind::Slow { duration, .. } => {
                let stop = |node: &u16| Deed::Signal { node: *node, signal: Signal::Stop };
                step.deeds.extend(targets.iter().map(stop));
                step.note = lasting(*duration);
            }
            Kind::Network(network) => self.cut(network, targets, &whom, model, step),
            Kind::Messages { fate, which, to, epochs, percent, duration } => {
                step.note = format!("{}: {}", lasting(*duration), told(*fate, which));
                let only =
                    |nodes: &[u16]| Ends::Only(nodes.iter().map(|node| Endpoint::Node(*node)).collect());
                let from = if fault.target == Selector::All { Ends::Any } else { only(targets) };
                let receivers = match to {
                    None => Ends::Any,
                    Some(to) => match resolve(*to, model, &self.context, &|_| true, &mut self.rng) {
                        Ok(nodes) => only(&nodes),
                        Err(why) => {
                            step.vacuous = Some(why);
                            return;
                        }
                    },
                };
                let number = step.fault.expect("a starting step has its fault's number");
                let which = Messages { types: which.clone(), from, to: receivers, epochs: *epochs };
                let rule = MessageRule { id: number, which, fate: *fate, percent: *percent };
                let links = rule_links(&rule, model);
                self.rules.insert(number, rule.clone());
                let told = told(*fate, &rule.which.types);
                let changed = links.into_iter().map(|link| (link, Some(told.clone()))).collect();
                step.deeds.push(Deed::Filter { rules: self.rules.values().cloned().collect(), changed });
                step.counts_messages = true;
            }
            Kind::Disk { disk, duration } => {
                step.deeds.extend(targets.iter().map(|node| Deed::Disk { node: *node, disk: *disk }));
                step.note = lasting(*duration);
            }
            Kind::Clock { shift, duration } => {
                step.deeds.extend(targets.iter().map(|node| Deed::Clock { node: *node, shift: *shift }));
                step.note =
                    format!("{}: {:+} ms, {:+} ppm", lasting(*duration), shift.offset_ms, shift.drift_ppm);
            }
            Kind::Failover { mode } => {
                step.deeds.extend(targets.iter().map(|node| Deed::FailOver { node: *node, mode: *mode }));
                step.note = match mode {
                    FailoverMode::Plain => whom,
                    FailoverMode::Force => format!("{whom}, FORCE"),
                    FailoverMode::Takeover => format!("{whom}, TAKEOVER"),
                };
            }
            Kind::DelNode => {
                step.note = whom;
                step.deeds.extend(targets.iter().map(|node| Deed::Work(Work::Leave { node: *node })));
            }
            Kind::AddNode => {
                let nodes = self.outside();
                step.note = nodes.iter().map(|node| node_name(*node)).collect::<Vec<_>>().join(", ");
                if nodes.is_empty() {
                    step.vacuous = Some("nobody stands outside the cluster".into());
                } else {
                    step.deeds.push(Deed::Work(Work::Join { nodes }));
                }
            }
            Kind::Reshard { slots, slot, to } => {
                let to = to.map(|to| resolve(to, model, &self.context, &|_| true, &mut self.rng)).transpose();
                step.note = match slot {
                    Some(slot) => format!("{whom}, slot {slot}"),
                    None => format!("{whom}, {slots} slots"),
                };
                match to {
                    Err(why) => step.vacuous = Some(why),
                    Ok(to) => {
                        let to = to.and_then(|nodes| nodes.first().copied());
                        let from = targets[0];
                        step.deeds.push(Deed::Work(Work::Reshard { from, to, slots: *slots, slot: *slot }));
                    }
                }
            }
            Kind::Rebalance => {
                step.note = "all masters".into();
                step.deeds.push(Deed::Work(Work::Rebalance));
            }
            Kind::Forget { duration } => {
                step.note = lasting(*duration);
                for node in targets {
                    let Some(id) = model.id_of(*node) else { continue };
                    for other in model.live().into_iter().filter(|other| other != node) {
                        let words = ["CLUSTER", "FORGET", id].map(str::to_owned).to_vec();
                        step.deeds.push(Deed::Ask { node: other, words });
                    }
                }
            }
            Kind::Config { option, value, duration } => {
                step.note = format!("{}: {option} {value}", lasting(*duration));
                let set = |node: &u16| Deed::Configure {
                    node: *node,
                    option: option.clone(),
                    value: value.clone(),
                };
                step.deeds.extend(targets.iter().map(set));
            }
            Kind::Command { command } => {
                step.note = format!("{whom}: {command}");
                match self.words(command, model) {
                    Err(why) => step.vacuous = Some(why),
                    Ok(words) => {
                        let ask = |node: &u16| Deed::Ask { node: *node, words: words.clone() };
                        step.deeds.extend(targets.iter().map(ask));
                    }
                }
            }
            Kind::Load { load, duration } => {
                step.note = lasting(*duration);
                let until = now + self.span(*duration);
                for node in targets {
                    if matches!(load, Load::Overflow { .. }) {
                        self.hold_replicas(*node, model, step);
                    }
                    let slot = model.slot_of(*node).unwrap_or(0);
                    step.deeds.push(Deed::Work(Work::Load { node: *node, slot, load: *load, until }));
                }
            }
        }
    }

    fn cut(&mut self, network: &Network, targets: &[u16], whom: &str, model: &ClusterModel, step: &mut Step) {
        let Network { shape, policy, planes, clients, duration, .. } = network;
        let number = step.fault.expect("a starting step has its fault's number");
        let mut inside = String::new();
        if *shape == Shape::MajorityRing {
            step.links = links::ring(model, &mut self.rng);
        } else {
            let sides = links::sides(*shape, targets, *clients, self.options.clients, model, &mut self.rng);
            step.links = links::links_between(*shape, &sides);
            let names: Vec<String> = sides.inside.iter().map(Endpoint::to_string).collect();
            inside = format!("; inside: {}", names.join(" "));
        }
        let changes = self.in_force.begin(number, &step.links, planes, *policy);
        if changes.is_empty() {
            step.vacuous = Some("there is no such link".into());
        }
        step.links = changes.iter().map(|change| (change.from, change.to)).collect();
        step.deeds.push(Deed::Net(changes));
        let whom = match shape {
            Shape::Halves => "halves",
            Shape::MajorityRing => "a ring",
            _ => whom,
        };
        step.note = format!("{whom} for {}{inside}", self.seconds(*duration));
    }

    /// Replicas' links are held, and the least of buffers is made ready.
    fn hold_replicas(&mut self, node: u16, model: &ClusterModel, step: &mut Step) {
        for (option, value) in
            [("repl-backlog-size", "16384"), ("client-output-buffer-limit", "replica 65536 65536 0")]
        {
            step.deeds.push(Deed::Configure { node, option: option.into(), value: value.into() });
        }
        let number = step.fault.expect("a starting step has its fault's number");
        let links: Vec<Link> = model
            .replicas_of(node)
            .into_iter()
            .map(|replica| (Endpoint::Node(node), Endpoint::Node(replica)))
            .collect();
        let hole = Policy::Blackhole { on_heal: OnHeal::Resume };
        let changes = self.in_force.begin(number, &links, &[Plane::Replication], hole);
        step.links = links;
        step.deeds.push(Deed::Net(changes));
    }

    /// A command's words; `{id of WHOM}`, `{host of WHOM}` and `{port of WHOM}` may stand among them, and "several words" as one.
    fn words(&mut self, command: &str, model: &ClusterModel) -> Result<Vec<String>, String> {
        let mut words = Vec::new();
        let mut rest = command.trim();
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('{') {
                let end = inner.find('}').ok_or("a { without its }")?;
                let (what, whom) = inner[..end].split_once(" of ").ok_or("expected {id of WHOM}")?;
                let whom: Selector = whom.parse()?;
                let node = match whom {
                    Selector::Node(node) => node,
                    other => resolve(other, model, &self.context, &|_| true, &mut self.rng)?[0],
                };
                words.push(match what {
                    "id" => model.id_of(node).ok_or("its id is not known")?.to_owned(),
                    "host" | "port" => format!("{{{what} of n{node}}}"),
                    _ => return Err(format!("expected id, host or port, not \"{what}\"")),
                });
                rest = inner[end + 1..].trim_start();
            } else if let Some(inner) = rest.strip_prefix('"') {
                let end = inner.find('"').ok_or("a \" without its other one")?;
                words.push(inner[..end].to_owned());
                rest = inner[end + 1..].trim_start();
            } else {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(rest[..end].to_owned());
                rest = rest[end..].trim_start();
            }
        }
        if words.is_empty() { Err("an empty command".into()) } else { Ok(words) }
    }
}

/// The rule as the record tells it.
fn told(fate: Fate, kinds: &[u16]) -> String {
    let fate = match fate {
        Fate::Drop => "drop".to_owned(),
        Fate::Delay { ms } => format!("delay by {ms} ms"),
        Fate::Duplicate => "duplicate".to_owned(),
        Fate::Reorder { ms } => format!("reorder by {ms} ms"),
    };
    let names: Vec<&str> =
        kinds.iter().filter_map(|kind| MESSAGE_TYPES.get(usize::from(*kind)).copied()).collect();
    let names = if names.is_empty() { "all messages".to_owned() } else { names.join(", ") };
    format!("messages: {fate} {names}")
}

/// The links between nodes that a rule is about.
pub(super) fn rule_links(rule: &MessageRule, model: &ClusterModel) -> Vec<Link> {
    let nodes = || model.nodes().iter().map(|node| Endpoint::Node(node.number));
    nodes()
        .filter(|from| rule.which.from.hold(*from))
        .flat_map(|from| nodes().filter(move |to| *to != from).map(move |to| (from, to)))
        .filter(|(_, to)| rule.which.to.hold(*to))
        .collect()
}
