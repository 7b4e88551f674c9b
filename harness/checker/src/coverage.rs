//! What the storm really reached: which fault hit a node in which role, and what was going on then.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::record::verdict::Covered;
use crate::record::{Action, BusWhat, FaultEvent, FaultPhase, Nanos, NodeId, Record, View};
use crate::timeline::{Role, SECOND, Timeline};

/// The roles in which a node can be hit.
pub const ROLES: [&str; 6] = ["master", "replica", "candidate", "voter", "new-master", "all"];
/// What can be going on.
pub const PHASES: [&str; 6] = ["steady", "pfail", "election", "promotion", "resync", "migration"];

/// How long a vote, a request for votes, a suspicion or a promotion counts as going on.
const RECENT: Nanos = SECOND;

/// A fault that took effect: in which roles it hit nodes, and what was going on. One that holds for long counts where it
/// begins.
#[derive(Clone, Debug)]
pub struct Hit {
    fault: String,
    roles: Vec<&'static str>,
    phases: Vec<&'static str>,
}

/// All of them.
pub fn hits(record: &Record, timeline: &Timeline, took_effect: &dyn Fn(&FaultEvent) -> bool) -> Vec<Hit> {
    let scene = Scene { record, timeline };
    let starts =
        record.faults.iter().filter(|event| event.step.phase == FaultPhase::Start && took_effect(event));
    starts
        .map(|event| Hit {
            fault: event.step.name.clone(),
            roles: scene.roles(event),
            phases: scene.phases(seen_at(event)),
        })
        .collect()
}

/// Counts them by role and phase; one that hit several stands in several cells.
pub fn coverage(hits: &[Hit]) -> Vec<Covered> {
    let mut cells: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for hit in hits {
        for role in &hit.roles {
            for phase in &hit.phases {
                *cells.entry((&hit.fault, role, phase)).or_default() += 1;
            }
        }
    }
    let covered = |((fault, role, phase), count): ((&str, &str, &str), u64)| Covered {
        fault: fault.to_owned(),
        role: role.to_owned(),
        phase: phase.to_owned(),
        count,
    };
    cells.into_iter().map(covered).collect()
}

/// A fault that waited for a message came into what was going on when that was sent.
fn seen_at(event: &FaultEvent) -> Nanos {
    event
        .step
        .trigger
        .as_ref()
        .map_or(event.time, |trigger| trigger.at.max(event.time.saturating_sub(RECENT)))
}

struct Scene<'a> {
    record: &'a Record,
    timeline: &'a Timeline,
}

impl Scene<'_> {
    fn roles(&self, event: &FaultEvent) -> Vec<&'static str> {
        let nodes = hit(self.record, event);
        if nodes.is_empty() || nodes.len() * 2 > self.record.info.nodes.len() {
            return vec!["all"];
        }
        let at = seen_at(event);
        let mut roles = Vec::new();
        for node in nodes {
            roles.push(if self.was_master(node, at) { "master" } else { "replica" });
            roles.extend(self.said(node, at, "auth-req").then_some("candidate"));
            roles.extend(self.said(node, at, "auth-ack").then_some("voter"));
            let promoted = self.promoted(at).any(|promoted| promoted == node);
            roles.extend(promoted.then_some("new-master"));
        }
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    fn was_master(&self, node: NodeId, at: Nanos) -> bool {
        let lane = &self.timeline.lanes[usize::from(node.0)];
        let known = lane
            .iter()
            .rfind(|span| span.from <= at && matches!(span.role, Role::Master { .. } | Role::Replica { .. }));
        matches!(known.map(|span| &span.role), Some(Role::Master { .. }))
    }

    /// Who was promoted a moment ago: it was seen as a master, or had said so on the bus.
    fn promoted(&self, at: Nanos) -> impl Iterator<Item = NodeId> {
        let recent =
            self.timeline.promotions.iter().filter(move |it| it.earliest <= at && at <= it.time + RECENT);
        let said = move |node: NodeId| {
            let name = self.record.node_name(node);
            self.frames(at).any(|(from, frame)| from == name && frame.of.as_deref() == Some(""))
        };
        recent.filter(move |it| it.time <= at || said(it.node)).map(|it| it.node)
    }

    /// The node sent such a message a moment ago.
    fn said(&self, node: NodeId, at: Nanos, kind: &str) -> bool {
        let name = self.record.node_name(node);
        self.frames(at).any(|(from, frame)| from == name && frame.kind == kind)
    }

    /// What passed on the bus a moment ago.
    fn frames(&self, at: Nanos) -> impl Iterator<Item = (&str, &crate::record::BusFrame)> {
        let bus = self.record.bus.as_deref().unwrap_or_default();
        let first = bus.partition_point(|line| line.time + RECENT < at);
        bus[first..].iter().take_while(move |line| line.time <= at).filter_map(|line| match &line.what {
            BusWhat::Frame(frame) => Some((line.from.as_str(), &**frame)),
            _ => None,
        })
    }

    fn phases(&self, at: Nanos) -> Vec<&'static str> {
        let mut phases = Vec::new();
        let last = self.last_words(at);
        let seen = || last.iter().filter_map(|view| view.seen.as_ref());
        let failing = |flags: &str| flags.split(',').any(|flag| flag == "fail?" || flag == "fail");
        let suspected = seen().any(|seen| seen.table.iter().any(|row| failing(&row.flags)))
            || self.frames(at).any(|(_, frame)| !frame.pfail.is_empty() || !frame.fail.is_empty());
        phases.extend(suspected.then_some("pfail"));
        phases
            .extend(self.frames(at).any(|(_, frame)| frame.kind.starts_with("auth-")).then_some("election"));
        phases.extend(self.promoted(at).next().map(|_| "promotion"));
        phases.extend(seen().any(|seen| !seen.master && !seen.link_up).then_some("resync"));
        // Small moves are over before anybody is polled.
        let carried = self.timeline.faults.carrying.at(at).is_some();
        phases.extend((carried || seen().any(|seen| !seen.open_slots.is_empty())).then_some("migration"));
        if phases.is_empty() {
            phases.push("steady");
        }
        phases
    }

    /// What each node said last, if that is not long ago.
    fn last_words(&self, at: Nanos) -> Vec<&View> {
        let nodes = (0..self.record.nodes.len()).map(|number| NodeId(number as u16));
        let last = nodes.filter_map(|node| {
            let words = self.timeline.words(self.record, node);
            words.map(|(view, _)| view).take_while(|view| view.time <= at).last()
        });
        last.filter(|view| view.time + 2 * RECENT >= at).collect()
    }
}

/// The nodes that the fault hit.
fn hit(record: &Record, event: &FaultEvent) -> Vec<NodeId> {
    if !event.step.targets.is_empty() {
        return event.step.targets.iter().filter_map(|name| record.node_id(name)).collect();
    }
    let mut nodes: Vec<NodeId> = event
        .step
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Killed { node, .. }
            | Action::Paused { node }
            | Action::Wiped { node }
            | Action::Damaged { node, .. }
            | Action::Disk { node, .. }
            | Action::Clock { node, .. }
            | Action::Asked { node, .. }
            | Action::ManualFailover { node, .. } => record.node_id(node),
            _ => None,
        })
        .collect();
    if nodes.is_empty() {
        nodes = between_links(record, event);
    }
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// The nodes at which most of the cut links end.
fn between_links(record: &Record, event: &FaultEvent) -> Vec<NodeId> {
    let mut ends: BTreeMap<NodeId, usize> = BTreeMap::new();
    for action in &event.step.actions {
        if let Action::Cut { from, to, .. } = action {
            for node in [from, to].into_iter().filter_map(|name| record.node_id(name)) {
                *ends.entry(node).or_default() += 1;
            }
        }
    }
    let most = ends.values().max().copied().unwrap_or(0);
    ends.into_iter().filter(|(_, count)| *count == most).map(|(node, _)| node).collect()
}

/// Something that must have happened: `2 failovers`, `kill`, `pause on voter`, `isolate on master in election`,
/// `3 kill in migration`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    count: u64,
    /// `None`: failovers are counted.
    fault: Option<String>,
    role: Option<String>,
    phase: Option<String>,
}

impl FromStr for Requirement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: String| {
            format!(
                "cannot require \"{text}\": {why}; expected \"[N] failovers\" or \"[N] FAULT [on ROLE] [in PHASE]\""
            )
        };
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let count = words.first().and_then(|word| word.parse().ok());
        if count.is_some() {
            words.remove(0);
        }
        let count = count.unwrap_or(1);
        let known = |word: &str, list: &[&str], what: &str| {
            if list.contains(&word) {
                Ok(Some(word.to_owned()))
            } else {
                Err(bad(format!("no such {what}, but {}", list.join(", "))))
            }
        };
        let (fault, rest) = words.split_first().ok_or_else(|| bad("nothing is named".to_owned()))?;
        let (role, phase) = match rest {
            [] => (None, None),
            ["on", role] => (known(role, &ROLES, "role")?, None),
            ["in", phase] => (None, known(phase, &PHASES, "phase")?),
            ["on", role, "in", phase] => (known(role, &ROLES, "role")?, known(phase, &PHASES, "phase")?),
            _ => return Err(bad("too many words".to_owned())),
        };
        let fault =
            (!matches!(*fault, "failover" | "failovers") || !rest.is_empty()).then(|| (*fault).to_owned());
        Ok(Self { count, fault, role, phase })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, self.fault.as_deref().unwrap_or("failovers"))?;
        if let Some(role) = &self.role {
            write!(f, " on {role}")?;
        }
        match &self.phase {
            Some(phase) => write!(f, " in {phase}"),
            None => Ok(()),
        }
    }
}

impl Requirement {
    /// How often it happened, if that is too seldom.
    pub fn missed(&self, hits: &[Hit], failovers: u64) -> Option<u64> {
        let fits = |wanted: &Option<String>, are: &[&str]| {
            wanted.as_ref().is_none_or(|wanted| are.contains(&wanted.as_str()))
        };
        let seen = match &self.fault {
            None => failovers,
            Some(fault) => hits
                .iter()
                .filter(|hit| {
                    hit.fault == *fault && fits(&self.role, &hit.roles) && fits(&self.phase, &hit.phases)
                })
                .count() as u64,
        };
        (seen < self.count).then_some(seen)
    }
}
