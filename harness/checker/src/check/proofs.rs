//! What is gone is proven into a documented window of loss (W1 to W16), or no window holds.

use std::collections::{BTreeMap, BTreeSet};

use super::Index;
use super::claims::Claims;
use super::erasure::{Erasure, Evidence, Suspect};
use super::migration::Migrations;
use super::torn;
use crate::record::verdict::Loss;
use crate::record::{FailoverMode, Nanos, NodeId, Operation, Outcome, Record};
use crate::slots;
use crate::timeline::{Promotion, Restart, SECOND, Timeline, seconds};
use crate::voids::{ACKNOWLEDGED_WRITES, OUTSIDE_MODEL};

/// The class of a loss that no window explains.
pub const UNEXPLAINED: &str = "unexplained";
/// The windows that can explain a loss, in the order in which they are tried.
pub const WINDOWS: [&str; 12] = ["W9", "W10", "W12", "W11", "W7", "W5", "W4", "W6", "W3", "W1", "W2", "W16"];
/// W16: how long `appendfsync everysec` may hold an append back.
const EVERYSEC_HELD: Nanos = 2 * SECOND;
/// A node that answers no more has been asked on if it was so soon after the last write that it answered.
const ASKED_ON: Nanos = SECOND;

/// What the run configured against restarts.
struct Persistence {
    append_only: bool,
    everysec: bool,
}

impl Persistence {
    fn of(record: &Record) -> Self {
        let directive =
            |name: &str| record.info.directives.get(name).map(|value| value.trim().to_ascii_lowercase());
        Self {
            append_only: directive("appendonly").as_deref() == Some("yes"),
            everysec: directive("appendfsync").is_none_or(|value| value == "everysec"),
        }
    }
}

/// Proves operations into windows. Other checks ask it, too: an anomaly that a lost operation explains is no other one.
pub(super) struct Prover<'a> {
    record: &'a Record,
    timeline: &'a Timeline,
    index: &'a Index,
    evidence: Evidence<'a>,
    migrations: Migrations,
    claims: Claims,
    /// By node and the end of its process.
    last_writes: BTreeMap<(NodeId, Nanos), LastWrites>,
    rules: Persistence,
}

/// What a node did with writes before its process ended.
#[derive(Clone, Copy)]
struct LastWrites {
    /// The latest invocation of one that it acknowledged, and that survived.
    survived: Nanos,
    /// When the last one was asked for that it acknowledged, if it was asked on and answered no more: then it waited for its
    /// disk, as redis-server does once a running fsync has held the append back for 2 s, and nothing reached the file since.
    stood_since: Option<Nanos>,
}

/// The windows that hold for one loss, in words.
type Holding = Vec<(&'static str, String)>;

/// What is to be explained: elements that are missing, and the keys that are looked at.
pub(super) struct Questions<'a> {
    pub elements: BTreeSet<u64>,
    pub keys: BTreeSet<&'a str>,
}

impl<'a> Prover<'a> {
    /// For the operations in question, or none.
    pub fn new(
        record: &'a Record,
        timeline: &'a Timeline,
        index: &'a Index,
        questions: Option<&Questions<'_>>,
    ) -> Self {
        Self {
            record,
            timeline,
            index,
            migrations: questions
                .as_ref()
                .map(|asked| Migrations::of(record, &asked.keys))
                .unwrap_or_default(),
            claims: Claims::of(record),
            evidence: Evidence::of(record, timeline, index, questions.map(|asked| &asked.elements)),
            last_writes: BTreeMap::new(),
            rules: Persistence::of(record),
        }
    }

    /// The window in which what this acknowledged operation did (or saw) was lost, or may have been: if nobody can say
    /// whether the promoted node had it, a window that would explain its absence counts.
    pub fn excuse(&mut self, number: u32) -> Option<(&'static str, String)> {
        let op = &self.record.ops[number as usize];
        let (node, executed_by) = (op.node?, op.completed.filter(|_| op.outcome == Outcome::Ok)?);
        let slot = self.record.key(op.key).slot;
        let suspect = Suspect { element: op.value, slot, node: Some(node), invoked: op.invoked, executed_by };
        let mut erasure = self.evidence.erasure(&suspect);
        erasure.by = erasure.by.or(erasure.undecided);
        let windows = self.holding(&suspect, op, &erasure);
        let voided = || self.beyond(&suspect, op, &erasure) == OUTSIDE_MODEL;
        windows.into_iter().next().or_else(|| {
            voided()
                .then(|| (OUTSIDE_MODEL, "a fault voids the promise to keep acknowledged writes".to_owned()))
        })
    }

    /// Why this node may have had less data at `to` than at `from`, though it never left its master's history; `None`: it
    /// may not.
    pub fn began_anew(&self, node: NodeId, from: Nanos, to: Nanos) -> Option<String> {
        let name = self.record.node_name(node);
        if self.evidence.full_resync_under_way(node, from, to) {
            return Some(format!("{name} took all data of its master anew in between"));
        }
        let restarts = &self.timeline.faults.process(node).restarts;
        let emptied = restarts
            .iter()
            .find(|it| (from..=to).contains(&it.at) && (it.wiped || !self.rules.append_only))?;
        Some(format!("{name} was started at {} without the data it had", seconds(emptied.at)))
    }

    /// The windows that hold, in the order in which they count.
    fn holding(&mut self, suspect: &Suspect, op: &Operation, erasure: &Erasure) -> Holding {
        let mut holding = self.emptied(suspect, &self.record.key(op.key).name, erasure);
        let (key, since) = (self.record.key(op.key).name.as_str(), op.invoked);
        let slot = suspect.slot;
        let unknown = suspect.node.is_none().then_some((None, since));
        let keepers = self.keepers_since(suspect, key).map(|(master, since)| (Some(master), since));
        let moved = unknown.into_iter().chain(keepers).find_map(|source| {
            self.migrations.lost_on_the_way(self.record, self.timeline, (key, slot), source)
        });
        holding.extend(moved.map(|why| ("W12", why)));
        let taken = self.keepers_since(suspect, key).find_map(|(master, since)| {
            self.claims.took(self.record, self.timeline, &self.migrations, (key, slot), (master, since))
        });
        holding.extend(taken.map(|why| ("W10", why)));
        if holding.is_empty() {
            let torn = torn::kept_one_of_two(
                self.record,
                self.timeline,
                &self.migrations,
                (op, suspect.executed_by),
            );
            holding.extend(torn.map(|why| ("W11", why)));
        }
        if let Some(number) = erasure.by {
            holding.extend(self.overtaken(suspect, op, &self.timeline.promotions[number]));
        } else if holding.is_empty() {
            holding.extend(self.unsaved(suspect, key));
        }
        holding.sort_by_key(|(name, _)| rank(name));
        holding
    }

    /// Who had to keep the write, and from when on: the master that executed it, and whoever took its slot over later, in
    /// the order of time.
    fn masters_since(&self, suspect: &Suspect) -> Vec<(NodeId, Nanos)> {
        let later = self.timeline.promotions_of_slot(suspect.slot).filter(|it| it.time >= suspect.invoked);
        let first = suspect.node.map(|node| (node, suspect.invoked));
        first.into_iter().chain(later.map(|it| (it.node, it.time))).collect()
    }

    /// As [`Self::masters_since`], and whom the write's key was carried to, and when.
    fn keepers_since(&self, suspect: &Suspect, key: &str) -> impl Iterator<Item = (NodeId, Nanos)> {
        self.masters_since(suspect).into_iter().chain(self.migrations.came_to(key, suspect.invoked))
    }

    /// No window holds: was the promise to keep it void at a node that had it or erased it?
    fn beyond(&self, suspect: &Suspect, op: &Operation, erasure: &Erasure) -> &'static str {
        let by = erasure.by.map(|number| self.timeline.promotions[number].node);
        let keepers = self.keepers_since(suspect, &self.record.key(op.key).name).map(|(node, _)| node);
        let nodes = keepers.chain(by).map(|node| self.record.node_name(node));
        let nodes: Vec<&str> = nodes.collect();
        let void = self.timeline.voided.covers(ACKNOWLEDGED_WRITES, &nodes, self.record.end);
        if void { OUTSIDE_MODEL } else { UNEXPLAINED }
    }

    /// What is told of a lost write, and its class.
    pub fn loss(&mut self, write: u32) -> (Loss, &'static str) {
        let op = &self.record.ops[write as usize];
        let slot = self.record.key(op.key).slot;
        let executed_by = self.index.known_since(self.record, write).unwrap_or(Nanos::MAX);
        let suspect = Suspect { element: op.value, slot, node: op.node, invoked: op.invoked, executed_by };
        let erasure = self.evidence.erasure(&suspect);
        let holding = self.holding(&suspect, op, &erasure);
        let class = holding.first().map_or_else(|| self.beyond(&suspect, op, &erasure), |(name, _)| name);
        let mut witness = op.witness();
        if op.outcome != Outcome::Ok {
            witness.extend(
                self.index.first_seen(write).and_then(|(_, r)| self.record.ops[r as usize].complete_index),
            );
        }
        witness.extend(
            self.index.final_read[op.key.0 as usize].and_then(|r| self.record.ops[r as usize].complete_index),
        );
        let windows: BTreeSet<&str> = holding.iter().map(|(name, _)| *name).collect();
        let mut windows: Vec<String> = windows.into_iter().map(str::to_owned).collect();
        windows.sort_by_key(|name| rank(name));
        let reasons: Vec<String> = holding.into_iter().map(|(name, why)| format!("{name}: {why}")).collect();
        let proof = if reasons.is_empty() {
            format!("no window holds: {}", erasure.proof)
        } else if erasure.by.is_some() {
            format!("{}; {}", reasons.join("; "), erasure.proof)
        } else {
            reasons.join("; ")
        };
        let loss = Loss {
            element: op.value.unwrap_or_default(),
            key: self.record.key(op.key).name.clone(),
            slot,
            acked_by: acked_by(self.record, op),
            invoked: op.invoked,
            acked: executed_by,
            class: class.to_owned(),
            windows,
            offset: erasure.offset,
            erased_by: erasure
                .by
                .map(|number| self.timeline.takeover(self.record, &self.timeline.promotions[number])),
            proof,
            witness,
        };
        (loss, class)
    }

    /// W9: the write's master, or a node that took over or was given the key later, came back without its data.
    fn emptied(&self, suspect: &Suspect, key: &str, erasure: &Erasure) -> Holding {
        let mut holding = Holding::new();
        let keepers: BTreeSet<NodeId> = self.keepers_since(suspect, key).map(|(node, _)| node).collect();
        for node in keepers {
            for restart in self.came_back_as_master(node, suspect, key) {
                let why = if restart.wiped {
                    "after the storm had emptied its directory"
                } else if self.rules.append_only {
                    continue;
                } else {
                    "without an append-only file to restore from"
                };
                let name = self.record.node_name(node);
                holding.push(("W9", format!("{name} came back as master at {} {why}", seconds(restart.at))));
            }
        }
        if let Some(promotion) = erasure.by.map(|number| &self.timeline.promotions[number]) {
            let wipes = &self.timeline.faults.process(promotion.node).wipes;
            if let Some(&at) = wipes.iter().find(|&&at| suspect.invoked <= at && at <= promotion.time) {
                let name = self.record.node_name(promotion.node);
                holding.push(("W9", format!("the storm emptied {name}'s directory at {}", seconds(at))));
            }
        }
        holding
    }

    /// W3 to W7, W1, W2: the promoted node had no copy, so what remains is why the write was acknowledged all the same.
    fn overtaken(&self, suspect: &Suspect, op: &Operation, promotion: &Promotion) -> Holding {
        let mut holding = Holding::new();
        let name = self.record.node_name(promotion.node);
        if self.timeline.faults.forced(promotion, self.timeline.node_timeout()) {
            holding.push(("W7", format!("{name} was made master by force")));
        }
        let may_be_after = promotion.earliest <= suspect.executed_by;
        if let Some(node) = suspect.node {
            let windows = self.timeline.windows.meeting(node, suspect.invoked, suspect.executed_by);
            for window in windows.filter(|window| may_be_after || window.name == "W3") {
                holding.push((window.name, window.why.clone()));
            }
        }
        let cause = self.timeline.cause_of(self.record, promotion);
        if let Some(cause) =
            cause.filter(|_| suspect.invoked <= promotion.time && !self.outlived_isolation(suspect))
        {
            let why = format!("it was not yet replicated when {name} was promoted, since {cause}");
            holding.push(("W1", why));
        }
        // WAIT's answer does not say who acknowledged: W2 only adds to a window that already holds.
        if !holding.is_empty() && op.wait.is_some_and(|copies| copies > 0) && !protected(op) {
            holding.push((
                "W2",
                format!("{} copies had acknowledged, none of them {name}", op.wait.unwrap_or(0)),
            ));
        }
        holding
    }

    /// True if the write was executed by a master that had been cut off for longer than it may serve.
    fn outlived_isolation(&self, suspect: &Suspect) -> bool {
        let Some(node) = suspect.node else { return false };
        let cut_off = &self.timeline.cut_off[usize::from(node.0)];
        cut_off.at(suspect.invoked).is_some_and(|span| {
            suspect.executed_by <= span.to
                && self
                    .timeline
                    .windows
                    .meeting(node, suspect.invoked, suspect.executed_by)
                    .all(|window| window.name != "W3")
        })
    }

    /// W16: the append-only file of a killed master did not yet hold it.
    fn unsaved(&mut self, suspect: &Suspect, key: &str) -> Holding {
        let Some(node) = suspect.node.filter(|_| self.rules.append_only && self.rules.everysec) else {
            return Holding::new();
        };
        let restarts = self.came_back_as_master(node, suspect, key);
        let mut holding = Holding::new();
        for restart in restarts {
            let last = self.last_writes(node, restart.down_at);
            let until = last.stood_since.unwrap_or(restart.down_at);
            let stalled = self.timeline.stalls.covered(suspect.invoked, until);
            let recent = suspect.executed_by.saturating_add(EVERYSEC_HELD + stalled) >= until;
            // The file is written in order: whatever survived was asked for before this write was done.
            let in_order = last.survived <= suspect.executed_by;
            if recent && in_order {
                let name = self.record.node_name(node);
                let stood = last.stood_since.map_or(String::new(), |since| {
                    format!(" and had acknowledged nothing since {}", seconds(since))
                });
                holding.push((
                    "W16",
                    format!(
                        "{name} was killed at {}{stood}, less than 2 s later, and came back as master from an append-only file \
                         that everysec may hold back; nothing later survived",
                        seconds(restart.down_at)
                    ),
                ));
            }
        }
        holding
    }

    /// Restarts of one that had the write, after the write, from which it came back as master of the slot before anyone took over.
    fn came_back_as_master(&self, node: NodeId, suspect: &Suspect, key: &str) -> Vec<Restart> {
        let restarts = &self.timeline.faults.process(node).restarts;
        let after: Vec<Restart> = restarts.iter().copied().filter(|r| r.down_at >= suspect.invoked).collect();
        after
            .into_iter()
            .filter(|restart| {
                let came = self.migrations.came_to(key, suspect.invoked).filter(|(to, _)| *to == node);
                let carried = came.map(|(_, at)| at).filter(|at| *at <= restart.down_at).max();
                let first = self.timeline.words(self.record, node).find(|(view, _)| view.sent >= restart.at);
                let as_master = first.filter(|(_, seen)| {
                    // Also while its slot was still on the way.
                    let imports = carried.is_some() && seen.open_slots.contains(&suspect.slot);
                    seen.master && (imports || slots::contains(&seen.slots, suspect.slot))
                });
                let Some((first, _)) = as_master else { return false };
                let of_slot = || self.timeline.promotions_of_slot(suspect.slot);
                // It may have ended before anybody saw that it had taken the slot back.
                let own = of_slot().filter(|p| p.node == node && p.earliest <= restart.down_at);
                let retook = own.map(|p| p.time.min(restart.down_at)).max();
                let since = retook.max(carried).unwrap_or(restart.down_at.min(suspect.invoked));
                of_slot().all(|p| p.time < since || p.earliest >= first.sent || p.node == node)
            })
            .collect()
    }

    /// What this node did with writes before its process ended.
    fn last_writes(&mut self, node: NodeId, down_at: Nanos) -> LastWrites {
        if let Some(&known) = self.last_writes.get(&(node, down_at)) {
            return known;
        }
        let writes = || {
            let ops = self.record.ops.iter().enumerate();
            ops.filter(|(_, op)| op.is_write() && op.node == Some(node) && op.invoked <= down_at)
        };
        let acked = || writes().filter(|(_, op)| op.latest_effect() <= down_at);
        let survived = acked().filter(|(number, _)| self.index.in_final(*number as u32));
        let answered = acked().map(|(_, op)| op.invoked).max().unwrap_or(0);
        let is_unanswered = |op: &Operation| {
            let (asked, until) = (op.invoked, op.completed.unwrap_or(down_at));
            let reached = |client| !self.timeline.faults.client_touched_within(node, client, asked, until);
            op.outcome == Outcome::Info
                && (answered..=answered + ASKED_ON).contains(&asked)
                && op.client.is_some_and(reached)
        };
        let last = LastWrites {
            survived: survived.map(|(_, op)| op.invoked).max().unwrap_or(0),
            stood_since: writes().any(|(_, op)| is_unanswered(op)).then_some(answered),
        };
        self.last_writes.insert((node, down_at), last);
        last
    }

    /// True if the write's key went to another shard after it.
    pub fn was_carried(&self, op: &Operation) -> bool {
        self.migrations.came_to(&self.record.key(op.key).name, op.invoked).next().is_some()
    }

    /// False if, between acknowledgement and loss, a copy lost its data or began a full resync, or the storm forced a
    /// failover on the shard.
    pub fn still_protected(&self, op: &Operation, until: Nanos) -> bool {
        let from = op.latest_effect();
        // Slots go from shard to shard: who answered tells which copies WAIT counted.
        let nodes = &self.record.info.nodes;
        let asked = op.node.and_then(|node| nodes.iter().find(|it| it.name == self.record.node_name(node)));
        let shard =
            asked.map(|it| it.shard).or_else(|| self.record.shard_of_slot(self.record.key(op.key).slot));
        let faults = &self.timeline.faults;
        nodes.iter().filter(|node| Some(node.shard) == shard).all(|node| {
            let Some(node) = self.record.node_id(&node.name) else { return true };
            let life = faults.process(node);
            let within = |at: Nanos| from <= at && at <= until;
            let emptied = life.wipes.iter().any(|&at| within(at))
                || (!self.rules.append_only && life.restarts.iter().any(|restart| within(restart.at)));
            let forced = faults
                .manual_failovers
                .iter()
                .any(|manual| manual.node == node && manual.mode != FailoverMode::Plain && within(manual.at));
            !emptied && !forced && !self.evidence.full_resync(node, from, until)
        })
    }
}

/// True if WAIT was answered by all the replicas it was asked for.
pub(super) fn protected(op: &Operation) -> bool {
    op.is_write()
        && op.outcome == Outcome::Ok
        && op.wait_wanted.is_some_and(|wanted| wanted > 0 && op.wait.is_some_and(|copies| copies >= wanted))
}

fn acked_by(record: &Record, op: &Operation) -> String {
    let acked = op.outcome == Outcome::Ok;
    op.node.filter(|_| acked).map(|node| record.node_name(node).to_owned()).unwrap_or_default()
}

fn rank(window: &str) -> usize {
    WINDOWS.iter().position(|name| *name == window).unwrap_or(WINDOWS.len())
}
