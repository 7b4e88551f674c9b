//! A replica becomes master by an election: its header then claims its old master's slots with the epoch in which a
//! majority voted for it. A TAKEOVER needs no votes. And two nodes never claim a slot with the same epoch, unless one
//! of them minted it alone (TAKEOVER, a bump): such a collision is repaired by the protocol itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Broken, Heard, Node, Rule, WireJudge, names};
use crate::record::Nanos;
use crate::slots;
use crate::timeline::{SECOND, seconds};

/// How long a request for a manual failover lives.
const MANUAL_LIVES: Nanos = 5 * SECOND;

/// Epochs whose claims are kept: older ones are settled and forgotten.
const EPOCHS_KEPT: u64 = 4096;

/// A replica turned master on some connection, and no majority had voted for it.
#[derive(Clone, Debug)]
struct Unelected {
    /// It was promoted after this.
    after: Nanos,
    time: Nanos,
    majority: usize,
    /// The best election of it: epoch, voters, lines.
    best: Option<(u64, Vec<Node>, Vec<u64>)>,
    lines: Vec<u64>,
}

/// How a node came to claim slots with an epoch.
#[derive(Clone, Debug)]
struct Claim {
    line: u64,
    time: Nanos,
    slots: Arc<Vec<(u16, u16)>>,
    /// It was promoted with it.
    promoted: bool,
    /// It took the epoch alone: it had been a master with a smaller one.
    minted: bool,
    /// When it changed last, and whether it was looked at since.
    changed: Nanos,
    settled: bool,
    counted: bool,
}

#[derive(Debug, Default)]
pub(super) struct Promotions {
    seen: BTreeSet<(Node, u64)>,
    unelected: BTreeMap<(Node, u64), Unelected>,
    /// Promotions that are found unelected, or excused.
    settled: BTreeSet<(Node, u64)>,
    /// By epoch and node.
    claims: BTreeMap<(u64, Node), Claim>,
    /// Pairs of claims with one epoch that are found.
    collided: BTreeSet<(u64, Node, Node)>,
    /// Nothing is due before this.
    claims_due: Nanos,
    unelected_due: Nanos,
}

impl Promotions {
    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.seen.len() + self.unelected.len() + self.settled.len() + self.claims.len() + self.collided.len()
    }
}

impl WireJudge {
    /// Looks for a promotion: a replica's next header on the same connection is a master's.
    pub(super) fn on_role(&mut self, heard: &Heard<'_>) {
        let now = &heard.now;
        let Some(before) = heard.before.as_ref().filter(|before| before.of.is_some()) else { return };
        if !now.claims() {
            return;
        }
        let key = (now.node, now.config);
        let known = self.promotions.seen.contains(&key);
        if slots::overlap(&before.slots, &now.slots).is_empty() {
            if !known {
                self.promotions.seen.insert(key);
                self.unknown(Rule::Promotion, "a replica became master of other slots than its master's");
            }
            return;
        }
        let since = heard.made_after.saturating_sub(self.memory());
        let Some(majority) = self.members.majority(since) else {
            return self.unknown(Rule::Promotion, "not all slots had an owner");
        };
        // The epoch may have been bumped since it was won. A claim that was seen before has used its election up.
        let elected =
            self.votes.of(now.node, now.claimed, now.config).any(|(_, votes)| votes.len() >= majority);
        if elected {
            if !known {
                self.promotions.seen.insert(key);
                self.report.promotions += 1;
                self.count(Rule::Promotion);
            }
            return;
        }
        let best = self.votes.of(now.node, now.claimed, now.config).max_by_key(|(_, votes)| votes.len()).map(
            |(epoch, votes)| (epoch, votes.keys().copied().collect(), votes.values().copied().collect()),
        );
        let unelected = Unelected {
            after: heard.made_after,
            time: heard.time,
            majority,
            best,
            lines: vec![before.line, heard.line],
        };
        if !self.promotions.settled.contains(&key) {
            self.promotions.unelected.entry(key).or_insert(unelected);
            self.promotions.unelected_due = 0;
        }
        if !known {
            self.promotions.seen.insert(key);
            self.report.promotions += 1;
        }
    }

    /// Notes who claims what with which epoch.
    pub(super) fn on_claim(&mut self, heard: &Heard<'_>) {
        let now = &heard.now;
        if !now.claims() || now.config == 0 {
            return;
        }
        if now.line != heard.line {
            return; // as before
        }
        self.members.claim(now.node, &now.slots, now.config);
        let was_replica = heard.before.as_ref().is_some_and(|before| before.of.is_some());
        let rose =
            heard.before.as_ref().is_some_and(|before| before.of.is_none() && before.config < now.config);
        // A cut may have ended the connection on which it claimed before. Frames of two connections may come in another
        // order than they were made in: had it been elected between, votes would have been heard.
        let voted = || self.votes.of(now.node, now.config - 1, now.config).next().is_some();
        let rose = rose || (heard.rose && !voted());
        let claim = self.promotions.claims.entry((now.config, now.node)).or_insert_with(|| Claim {
            line: heard.line,
            time: heard.time,
            slots: now.slots.clone(),
            promoted: false,
            minted: false,
            changed: heard.time,
            settled: false,
            counted: false,
        });
        (claim.changed, claim.settled) = (heard.time, false);
        self.promotions.claims_due = 0;
        claim.slots = now.slots.clone();
        claim.promoted |= was_replica;
        claim.minted |= rose;
    }

    /// TAKEOVER explains a promotion without votes; it may be recorded a little after it was seen.
    pub(super) fn settle_promotions(&mut self, now: Nanos) {
        if now < self.promotions.unelected_due {
            return;
        }
        let due = |unelected: &Unelected| unelected.time.saturating_add(MANUAL_LIVES) < now;
        let all = std::mem::take(&mut self.promotions.unelected);
        let (due, later): (BTreeMap<_, _>, BTreeMap<_, _>) = all.into_iter().partition(|(_, one)| due(one));
        let next = later.values().map(|one| one.time.saturating_add(MANUAL_LIVES)).min();
        self.promotions.unelected_due = next.unwrap_or(Nanos::MAX);
        self.promotions.unelected = later;
        for ((node, epoch), unelected) in due {
            self.promotions.settled.insert((node, epoch));
            let name = self.members.name(node).to_owned();
            if self.took_over(&name, unelected.after, unelected.time) {
                self.report.takeovers += 1;
                self.promotions.claims.entry((epoch, node)).and_modify(|claim| claim.minted = true);
                continue;
            }
            if self.lost.iter().any(|(_, to)| *to == name) {
                self.unknown(Rule::Promotion, "the votes for the node could not be followed");
                continue;
            }
            self.count(Rule::Promotion);
            let Unelected { time, majority, best, mut lines, .. } = unelected;
            let votes = match best {
                Some((election, voters, voted)) => {
                    lines.extend(voted);
                    format!("{} voted for it in epoch {election}", names(&self.members, voters))
                }
                None => "nobody had voted for it since".to_owned(),
            };
            let text = format!(
                "{name} became master with epoch {epoch} by {}, but {votes} (a majority is {majority})",
                seconds(time)
            );
            let broken = Broken { text, from: time, to: time, nodes: vec![name], lines };
            self.broken(Rule::Promotion, broken);
        }
    }

    /// Two claims with one epoch are compared once what may excuse them has been heard: that one of them took its
    /// epoch alone is read on a link of its, or recorded, a little later.
    pub(super) fn settle_claims(&mut self, now: Nanos) {
        if now < self.promotions.claims_due {
            return;
        }
        let memory = MANUAL_LIVES + self.memory();
        let mut next = Nanos::MAX;
        let mut due = Vec::new();
        for (&(epoch, node), claim) in self.promotions.claims.iter().filter(|(_, claim)| !claim.settled) {
            let at = claim.changed.saturating_add(memory);
            let held = || {
                let since = now.saturating_sub(memory);
                self.facts.gagged_within(self.members.name(node), since, now)
            };
            if now == Nanos::MAX || (at < now && !held()) {
                due.push((epoch, node));
            } else {
                next = next.min(at.max(now.saturating_add(SECOND)));
            }
        }
        self.promotions.claims_due = next;
        for &(epoch, node) in &due {
            let Some(claim) = self.promotions.claims.get_mut(&(epoch, node)) else { continue };
            claim.settled = true;
            if !std::mem::replace(&mut claim.counted, true) {
                self.count(Rule::EqualEpochs);
            }
        }
        for (epoch, node) in due {
            let of_epoch = self.promotions.claims.range((epoch, 0)..=(epoch, Node::MAX));
            let settled = of_epoch.filter(|((_, other), claim)| *other != node && claim.settled);
            let others: Vec<Node> = settled.map(|((_, other), _)| *other).collect();
            for other in others {
                self.pair(epoch, node.min(other), node.max(other));
            }
        }
        self.forget_old_epochs();
    }

    /// A server that counts its epoch up without end does not fill the memory.
    fn forget_old_epochs(&mut self) {
        let Some((&(newest, _), _)) = self.promotions.claims.last_key_value() else { return };
        let floor = newest.saturating_sub(EPOCHS_KEPT);
        if self.promotions.claims.len() as u64 > EPOCHS_KEPT {
            self.promotions.claims.retain(|&(epoch, _), claim| epoch >= floor || !claim.settled);
            self.promotions.collided.retain(|&(epoch, ..)| epoch >= floor);
            self.promotions.settled.retain(|&(_, epoch)| epoch >= floor);
            self.promotions.seen.retain(|&(_, epoch)| epoch >= floor);
            self.votes.forget_before(floor);
        }
    }

    fn pair(&mut self, epoch: u64, one: Node, other: Node) {
        let claims = &self.promotions.claims;
        let (Some(first), Some(second)) = (claims.get(&(epoch, one)), claims.get(&(epoch, other))) else {
            return;
        };
        let both = slots::overlap(&first.slots, &second.slots);
        let elected_twice = first.promoted && second.promoted;
        if both.is_empty() && !elected_twice {
            return;
        }
        if self.promotions.collided.contains(&(epoch, one, other)) {
            return;
        }
        let alone = |node: Node, claim: &Claim| {
            claim.minted
                || self.facts.bumped(self.members.name(node), epoch)
                || self.took_over(self.members.name(node), claim.time.saturating_sub(SECOND), claim.time)
        };
        if alone(one, first) || alone(other, second) {
            self.report.collisions += 1;
            self.promotions.collided.insert((epoch, one, other));
            return;
        }
        let (a, b) = (self.members.name(one).to_owned(), self.members.name(other).to_owned());
        let text = match both.first() {
            Some((first, last)) => {
                format!("{a} and {b} both claimed slots {first}-{last} with epoch {epoch}")
            }
            None => format!("{a} and {b} both became masters with epoch {epoch}"),
        };
        let (from, to) = (first.time.min(second.time), first.time.max(second.time));
        let lines = vec![first.line, second.line];
        self.promotions.collided.insert((epoch, one, other));
        self.broken(Rule::EqualEpochs, Broken { text, from, to, nodes: vec![a, b], lines });
    }

    /// A TAKEOVER can have made what happened in this interval.
    fn took_over(&self, name: &str, after: Nanos, time: Nanos) -> bool {
        let lives = MANUAL_LIVES + 2 * self.options.node_timeout;
        self.facts.took_over_within(name, after.saturating_sub(lives), time.saturating_add(MANUAL_LIVES))
    }
}
