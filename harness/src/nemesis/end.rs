//! What a fault does when it ends, and in between.

use slotstorm_checker::record::{FaultPhase, Nanos};
use slotstorm_fabric::LinkChange;

use super::begin::rule_links;
use super::step::{Deed, Step};
use super::{Due, Nemesis};
use crate::backend::{ClockShift, Disk, ProcessState, Signal};
use crate::observer::{ClusterModel, node_name};
use crate::plan::{Kind, Load, Network};

impl Nemesis {
    /// The other half of what comes and goes.
    pub(super) fn beat(
        &mut self,
        now: Nanos,
        planned: Nanos,
        number: u32,
        model: &ClusterModel,
    ) -> Option<Step> {
        let kind = self.faults[number as usize].fault.kind.clone();
        let active = self.active.get_mut(&number)?;
        active.on = !active.on;
        let (on, until, nodes, links) = (active.on, active.until, active.nodes.clone(), active.links.clone());
        let mut step = Step::new(Some(number), kind.name(), FaultPhase::Beat);
        step.planned = Some(planned);
        step.note = format!("{}again", if on { "" } else { "not for now, then " });
        match &kind {
            Kind::RestartLoop { .. } | Kind::Slow { .. } => {
                step.deeds = nodes.iter().filter_map(|node| half(&kind, on, *node, model)).collect();
            }
            Kind::Network(Network { policy, planes, .. }) => {
                let changes = if on {
                    self.in_force.begin(number, &links, planes, *policy)
                } else {
                    self.in_force.end(number)
                };
                step.deeds.push(Deed::Net(changes));
            }
            _ => return None,
        }
        if let Some(next) = self.beat_after(&kind, on)
            && now + next < until
        {
            self.at(planned.max(now) + next, Due::Beat(number));
        }
        (!step.deeds.is_empty()).then_some(step)
    }

    pub(super) fn end(
        &mut self,
        now: Nanos,
        planned: Nanos,
        number: u32,
        model: &ClusterModel,
    ) -> Option<Step> {
        let active = self.active.remove(&number)?;
        let fault = self.faults[number as usize].fault.clone();
        let mut step = Step::new(Some(number), fault.kind.name(), FaultPhase::End);
        step.planned = Some(planned);
        step.note = active.nodes.iter().map(|node| node_name(*node)).collect::<Vec<_>>().join(", ");
        let nodes = || active.nodes.iter().copied();
        let state = |node: u16| model.node(node).map(|node| node.process.clone());
        step.deeds = match &fault.kind {
            Kind::Down { .. } | Kind::RestartLoop { .. } => nodes()
                .filter(|node| matches!(state(*node), Some(ProcessState::Down { .. })))
                .map(|node| Deed::Start { node })
                .collect(),
            Kind::Pause { .. } | Kind::Slow { .. } => nodes()
                .filter(|node| matches!(state(*node), Some(ProcessState::Stopped { .. })))
                .map(|node| Deed::Signal { node, signal: Signal::Continue })
                .collect(),
            Kind::Network(_) => vec![Deed::Net(self.in_force.end(number))],
            Kind::Messages { .. } => {
                step.counts_messages = true;
                let rule = self.rules.remove(&number);
                let changed = rule.iter().flat_map(|rule| rule_links(rule, model)).map(|link| (link, None));
                let changed = changed.collect();
                vec![Deed::Filter { rules: self.rules.values().cloned().collect(), changed }]
            }
            Kind::Disk { .. } => {
                let mut deeds: Vec<Deed> =
                    nodes().map(|node| Deed::Disk { node, disk: Disk::Sound }).collect();
                // A server that ended over it comes back with its disk.
                deeds.extend(
                    nodes()
                        .filter(|node| matches!(state(*node), Some(ProcessState::Down { .. })))
                        .map(|node| Deed::Start { node }),
                );
                deeds
            }
            Kind::Clock { .. } => {
                nodes().map(|node| Deed::Clock { node, shift: ClockShift::default() }).collect()
            }
            // Those that were told to forget it ban it for 60 s from what gossip brings, though not from its own MEET.
            Kind::Forget { .. } => nodes()
                .flat_map(|node| {
                    let others = model.live().into_iter().filter(move |other| *other != node);
                    others.map(move |other| {
                        let words = vec![
                            "CLUSTER".to_owned(),
                            "MEET".to_owned(),
                            format!("{{host of n{other}}}"),
                            format!("{{port of n{other}}}"),
                        ];
                        Deed::Ask { node, words }
                    })
                })
                .collect(),
            Kind::Config { .. } => vec![Deed::Restore],
            Kind::Load { load: Load::Overflow { .. }, .. } => {
                let healed: Vec<LinkChange> = self.in_force.end(number);
                vec![Deed::Net(healed), Deed::Restore]
            }
            Kind::Load { .. }
            | Kind::Failover { .. }
            | Kind::Command { .. }
            | Kind::DelNode
            | Kind::AddNode
            | Kind::Reshard { .. }
            | Kind::Rebalance => Vec::new(),
        };
        step.links = active.links;
        self.announce(now, number, false);
        Some(step)
    }
}

/// One node's half of a restart loop or of slowness.
fn half(kind: &Kind, on: bool, node: u16, model: &ClusterModel) -> Option<Deed> {
    let process = &model.node(node)?.process;
    match (kind, on, process) {
        (Kind::RestartLoop { .. }, true, ProcessState::Running { .. }) => {
            Some(Deed::Signal { node, signal: Signal::Kill })
        }
        (Kind::RestartLoop { .. }, false, ProcessState::Down { .. }) => Some(Deed::Start { node }),
        (Kind::Slow { .. }, true, ProcessState::Running { .. }) => {
            Some(Deed::Signal { node, signal: Signal::Stop })
        }
        (Kind::Slow { .. }, false, ProcessState::Stopped { .. }) => {
            Some(Deed::Signal { node, signal: Signal::Continue })
        }
        _ => None,
    }
}
