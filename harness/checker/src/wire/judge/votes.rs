//! Votes: one per voter and epoch, and for an entitled claimant only.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Broken, Heard, Node, Rule, Said, WireJudge};
use crate::record::{KeptVote, Nanos};
use crate::slots;
use crate::timeline::{SECOND, seconds};

/// A voter's FAIL is read from it on some link within this after its vote, unless that is held.
const FAIL_FOLLOWS: Nanos = 2 * SECOND;

/// Someone asked for votes in an epoch.
#[derive(Clone, Debug)]
struct Request {
    line: u64,
    of: Option<Node>,
    slots: Arc<Vec<(u16, u16)>>,
    config: u64,
    force: bool,
    /// Whom it asked.
    asked: Vec<String>,
}

/// A node holds another for failed.
#[derive(Clone, Copy, Debug)]
struct Failed {
    time: Nanos,
    /// The greatest epoch on the wire then: a frame with a greater one was made later.
    greatest: u64,
}

/// A vote whose reason (that the master failed) was not seen yet.
#[derive(Clone, Debug)]
struct Pending {
    voter: Node,
    voter_name: String,
    master: Node,
    candidate: String,
    epoch: u64,
    time: Nanos,
    lines: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Votes {
    /// By voter and epoch: whom it voted for, and the line.
    given: BTreeMap<(Node, u64), (String, u64)>,
    /// By candidate and epoch: who voted for it, and the line.
    got: BTreeMap<(Node, u64), BTreeMap<Node, u64>>,
    requests: BTreeMap<(Node, u64), Request>,
    /// By node: whom it holds for failed.
    failed: BTreeMap<(Node, Node), Failed>,
    pending: Vec<Pending>,
}

impl Votes {
    /// Epochs after `after` up to `until` in which the candidate got votes: each with the voters and their lines.
    pub fn of(
        &self,
        candidate: Node,
        after: u64,
        until: u64,
    ) -> impl Iterator<Item = (u64, &BTreeMap<Node, u64>)> {
        self.got
            .range((candidate, after.saturating_add(1))..=(candidate, until.max(after.saturating_add(1))))
            .filter(move |((_, epoch), _)| *epoch <= until)
            .map(|((_, epoch), votes)| (*epoch, votes))
    }

    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.given.len() + self.got.len() + self.requests.len() + self.pending.len()
    }

    /// Elections before this epoch are over.
    pub fn forget_before(&mut self, floor: u64) {
        self.given.retain(|&(_, epoch), _| epoch >= floor);
        self.got.retain(|&(_, epoch), _| epoch >= floor);
        self.requests.retain(|&(_, epoch), _| epoch >= floor);
    }
}

impl WireJudge {
    pub(super) fn on_request(&mut self, heard: &Heard<'_>) {
        let key = (heard.now.node, heard.now.current);
        let elections = &mut self.report.elections;
        let request = self.votes.requests.entry(key).or_insert_with(|| {
            *elections += 1;
            Request {
                line: heard.line,
                of: heard.now.of,
                slots: heard.now.slots.clone(),
                config: heard.now.config,
                force: heard.frame.force,
                asked: Vec::new(),
            }
        });
        if !request.asked.iter().any(|to| to == heard.to) {
            request.asked.push(heard.to.to_owned());
        }
    }

    pub(super) fn on_vote(&mut self, heard: &Heard<'_>) {
        let (voter, epoch) = (heard.now.node, heard.now.current);
        let given = self.votes.given.get(&(voter, epoch)).cloned();
        match given {
            Some((to, _)) if to == heard.to => return, // the same vote once more
            Some((to, line)) => {
                self.count(Rule::OneVote);
                let text = format!(
                    "{} voted for {to} and for {} in epoch {epoch}, by {}",
                    heard.from,
                    heard.to,
                    seconds(heard.time)
                );
                let nodes = vec![heard.from.to_owned(), to, heard.to.to_owned()];
                let lines = vec![line, heard.line];
                self.broken(Rule::OneVote, Broken { text, from: heard.time, to: heard.time, nodes, lines });
            }
            None => {
                self.report.votes += 1;
                self.count(Rule::OneVote);
                self.votes.given.insert((voter, epoch), (heard.to.to_owned(), heard.line));
            }
        }
        let Some(candidate) = self.members.at(heard.to) else {
            return self.unknown(Rule::Entitled, "the candidate has never spoken");
        };
        self.votes.got.entry((candidate, epoch)).or_default().insert(voter, heard.line);
        self.entitled(heard, candidate);
    }

    fn entitled(&mut self, heard: &Heard<'_>, candidate: Node) {
        let (voter, epoch) = (heard.now.node, heard.now.current);
        if !heard.now.claims() {
            return self.wrong_vote(heard, "it is no master with slots", &[]);
        }
        let request = self
            .votes
            .requests
            .get(&(candidate, epoch))
            .filter(|request| request.asked.iter().any(|to| to == heard.from))
            .cloned();
        let Some(request) = request else {
            if self.lost.contains(&(heard.to.to_owned(), heard.from.to_owned())) {
                return self.unknown(Rule::Entitled, "what the candidate said could not be followed");
            }
            return self.wrong_vote(heard, "it had not been asked in this epoch", &[]);
        };
        let Some(master) = request.of else {
            return self.wrong_vote(heard, "the claimant had asked as a master", &[request.line]);
        };
        if let Some((why, line)) = self.newer_claim(heard, &request) {
            return self.wrong_vote(heard, &why, &[request.line, line]);
        }
        if request.force || self.votes.failed.contains_key(&(voter, master)) {
            return self.count(Rule::Entitled);
        }
        if self.members.all[voter].joined.saturating_add(self.memory()) >= heard.time {
            return self.unknown(Rule::Entitled, "the voter had just joined");
        }
        self.votes.pending.push(Pending {
            voter,
            voter_name: heard.from.to_owned(),
            master,
            candidate: heard.to.to_owned(),
            epoch,
            time: heard.time,
            lines: vec![request.line, heard.line],
        });
    }

    /// A claim that the voter knew for certain, newer than the claimant's and for a slot of it.
    fn newer_claim(&self, heard: &Heard<'_>, request: &Request) -> Option<(String, u64)> {
        let newer = |said: &Said| {
            said.claims()
                && said.config > request.config
                && !slots::overlap(&said.slots, &request.slots).is_empty()
        };
        if newer(&heard.now) {
            let why = format!("it has slots of the claim itself, with epoch {}", heard.now.config);
            return Some((why, heard.now.line));
        }
        // A vote that waited behind delayed messages was given before it was read.
        let settled = heard.time.saturating_sub(self.options.node_timeout).min(heard.made_after);
        // It was told, can have read it, and had no reason to forget it.
        let known = self.streams.iter().find(|((_, name), said)| {
            *said.to == *heard.from
                && said.node != heard.now.node
                && newer(said)
                && said.since < settled
                && self.members.all[said.node].steady_master(said.since)
                && self.links.contains_key(&(heard.from.to_owned(), name.clone()))
                && !self.facts.stopped_within(heard.from, said.since, heard.time)
                && !self.facts.cut_within(name, heard.from, said.since, heard.time)
        });
        known.map(|((_, name), said)| {
            (format!("{name} had told it of a claim with epoch {}", said.config), said.line)
        })
    }

    /// The node is started on a nodes.conf that holds this vote.
    pub(super) fn vote_kept(&mut self, time: Nanos, node: &str, kept: &KeptVote) {
        // A file that names nobody is read as one that holds nothing; whoever has another id has made no promise.
        let Some(voter) = self.members.at(node) else { return };
        if !kept.id.is_empty() && self.members.node(&kept.id) != voter {
            return;
        }
        let last = self.votes.given.range((voter, 0)..=(voter, u64::MAX)).next_back();
        let Some((&(_, epoch), (to, line))) = last.map(|(key, vote)| (key, vote.clone())) else { return };
        self.count(Rule::VoteKept);
        if kept.epoch >= epoch {
            return;
        }
        let text = format!(
            "{node} had voted for {to} in epoch {epoch}, and was started at {} on a nodes.conf with lastVoteEpoch {}",
            seconds(time),
            kept.epoch
        );
        let nodes = vec![node.to_owned()];
        self.broken(Rule::VoteKept, Broken { text, from: time, to: time, nodes, lines: vec![line] });
    }

    fn wrong_vote(&mut self, heard: &Heard<'_>, why: &str, lines: &[u64]) {
        self.count(Rule::Entitled);
        let text = format!(
            "{} voted for {} in epoch {} at {}, but {why}",
            heard.from,
            heard.to,
            heard.now.current,
            seconds(heard.time)
        );
        let nodes = vec![heard.from.to_owned(), heard.to.to_owned()];
        let lines = lines.iter().copied().chain([heard.line]).collect();
        let broken = Broken { text, from: heard.time, to: heard.time, nodes, lines };
        self.broken(Rule::Entitled, broken);
    }

    /// A FAIL about `subject` passed: its sender holds it for failed, and its receiver will.
    pub(super) fn note_failed(&mut self, heard: &Heard<'_>, subject: Node) {
        let failed = Failed { time: heard.time, greatest: self.greatest };
        self.votes.failed.insert((heard.now.node, subject), failed);
        if let Some(to) = self.members.at(heard.to) {
            self.votes.failed.insert((to, subject), failed);
        }
    }

    /// Gossip tells whom its sender holds for failed, and whom no more.
    pub(super) fn note_opinions(&mut self, heard: &Heard<'_>) {
        let node = heard.now.node;
        for id in &heard.frame.fail {
            let subject = self.members.node(id);
            let failed = Failed { time: heard.time, greatest: self.greatest };
            self.votes.failed.insert((node, subject), failed);
        }
        for id in heard.frame.pfail.iter().chain(&heard.frame.fine) {
            let subject = self.members.node(id);
            let cleared = |failed: &Failed| {
                heard.now.current > failed.greatest
                    && failed.time.saturating_add(SECOND) < heard.time
                    && !self.facts.stopped_within(heard.from, failed.time, heard.time)
            };
            if self.votes.failed.get(&(node, subject)).is_some_and(cleared) {
                self.votes.failed.remove(&(node, subject));
            }
        }
    }

    /// Votes whose reason has been seen meanwhile, or should have been by now.
    pub(super) fn settle_votes(&mut self, now: Nanos) {
        let Some(first) = self.votes.pending.first() else { return };
        if now < first.time.saturating_add(FAIL_FOLLOWS) {
            return;
        }
        let due = |pending: &Pending| now >= pending.time.saturating_add(FAIL_FOLLOWS);
        let (due, later) = std::mem::take(&mut self.votes.pending).into_iter().partition(due);
        self.votes.pending = later;
        let due: Vec<Pending> = due;
        for pending in due {
            let Pending { voter, voter_name, master, candidate, epoch, time, lines } = pending;
            if self.votes.failed.contains_key(&(voter, master)) {
                self.count(Rule::Entitled);
                continue;
            }
            if self.facts.gagged_within(&voter_name, time.saturating_sub(self.memory()), time) {
                self.unknown(Rule::Entitled, "what the voter said of the master was held");
                continue;
            }
            self.count(Rule::Entitled);
            let text = format!(
                "{voter_name} voted for {candidate} in epoch {epoch} at {}, but nothing had told it that {} failed",
                seconds(time),
                self.members.name(master)
            );
            let nodes = vec![voter_name, candidate];
            self.broken(Rule::Entitled, Broken { text, from: time, to: time, nodes, lines });
        }
    }
}
