//! The judge: a state machine that is fed lines of `bus.jsonl` and what happened beside the bus, in the order of
//! time, and knows at the end which rule was kept, broken or not seen.
//!
//! It calls broken only what no order of processing could excuse. A node's own opinion is not on the wire, its table
//! may lag behind what it was sent, and a frame may be older than the moment it was read (a cut held it, a process or
//! the host stood still): then the judge takes what excuses the node most, or says `unknown`.

mod epochs;
mod facts;
mod failures;
mod members;
mod promotions;
mod votes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub use facts::Fact;
use facts::Facts;
use members::{Members, Node};

use super::frame::Kind;
use crate::record::verdict::{Finding, RuleCount, Wire};
use crate::record::{BusFrame, BusLine, BusWhat, Nanos};
use crate::timeline::SECOND;

/// Connections of a directed pair whose last words are kept: two are open at a time, more are made anew.
const STREAMS_OF_A_PAIR: usize = 16;
/// Findings that are kept; all are counted.
const FINDINGS_MAX: usize = 10_000;

/// What the judge must know of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireOptions {
    /// cluster-node-timeout.
    pub node_timeout: Nanos,
}

/// A rule of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A voter votes for one candidate in an epoch.
    OneVote,
    /// Masters with slots vote, for a replica that asked in this epoch, whose master failed (or that forces it), and
    /// whose claim is not older than what the voter knows.
    Entitled,
    /// FAIL is said by a node that a majority of masters had reported to.
    Failure,
    /// A replica becomes master after a majority voted for it in the epoch that it claims, or by TAKEOVER.
    Promotion,
    /// No two nodes claim a slot with the same epoch, and no two are elected in one.
    EqualEpochs,
    /// Epochs that a node told or promised do not go back.
    EpochsBack,
    /// A vote is in the voter's nodes.conf before it is on the wire: who comes back without it can give it once more.
    VoteKept,
}

/// All rules.
pub const RULES: [Rule; 7] = [
    Rule::OneVote,
    Rule::Entitled,
    Rule::Failure,
    Rule::Promotion,
    Rule::EqualEpochs,
    Rule::EpochsBack,
    Rule::VoteKept,
];

impl Rule {
    /// Its name in verdicts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneVote => "one-vote-per-epoch",
            Self::Entitled => "votes-for-the-entitled",
            Self::Failure => "fail-by-a-majority",
            Self::Promotion => "promotion-by-a-majority",
            Self::EqualEpochs => "no-claims-with-equal-epochs",
            Self::EpochsBack => "told-epochs-never-go-back",
            Self::VoteKept => "votes-survive-a-restart",
        }
    }
}

/// What one sender says on one connection, put together from its lines.
#[derive(Clone, Debug)]
struct Said {
    node: Node,
    /// To whom it is said.
    to: Arc<str>,
    current: u64,
    config: u64,
    of: Option<Node>,
    slots: Arc<Vec<(u16, u16)>>,
    /// The greatest epoch with which the same id claimed slots on this connection before.
    claimed: u64,
    /// When its connection was opened.
    opened: Nanos,
    /// When and where (line) the claim changed last.
    since: Nanos,
    line: u64,
}

impl Said {
    /// It claims slots as their master.
    fn claims(&self) -> bool {
        self.of.is_none() && !self.slots.is_empty()
    }
}

/// One line with a frame, as the rules see it.
struct Heard<'a> {
    line: u64,
    time: Nanos,
    /// The frame was made after this.
    made_after: Nanos,
    from: &'a str,
    to: &'a str,
    frame: &'a BusFrame,
    now: Said,
    /// What the same id had said before on the connection.
    before: Option<Said>,
    /// By its newest frame on any connection it was a master before, with a smaller epoch.
    rose: bool,
}

/// The judge.
#[derive(Debug)]
pub struct WireJudge {
    options: WireOptions,
    facts: Facts,
    members: Members,
    streams: BTreeMap<(u64, String), Said>,
    votes: votes::Votes,
    failures: failures::Failures,
    promotions: promotions::Promotions,
    epochs: epochs::Epochs,
    /// Directed links (sender, receiver) that could not be followed.
    lost: BTreeSet<(String, String)>,
    /// Directed links that carried frames: on which connections, the newest last.
    links: BTreeMap<(String, String), VecDeque<u64>>,
    report: Wire,
    /// Findings that were handed out while the storm ran.
    handed_out: usize,
    /// The greatest currentEpoch on the wire so far.
    greatest: u64,
}

impl WireJudge {
    /// A judge of a cluster that is watched from its first connection.
    pub fn new(options: WireOptions) -> Self {
        let rules = RULES.map(|rule| (rule.name().to_owned(), RuleCount::default()));
        Self {
            options,
            facts: Facts::default(),
            members: Members::default(),
            streams: BTreeMap::new(),
            votes: votes::Votes::default(),
            failures: failures::Failures::default(),
            promotions: promotions::Promotions::default(),
            epochs: epochs::Epochs::default(),
            lost: BTreeSet::new(),
            links: BTreeMap::new(),
            handed_out: 0,
            report: Wire { rules: rules.into(), ..Wire::default() },
            greatest: 0,
        }
    }

    /// Something happened beside the bus.
    pub fn fact(&mut self, time: Nanos, fact: &Fact) {
        self.facts.note(time, fact);
        match fact {
            Fact::Resumed { node } => self.failures.woke(node, time),
            Fact::Stalled { .. } => self.failures.all_woke(time),
            Fact::Started { node, kept } => self.vote_kept(time, node, kept),
            _ => {}
        }
    }

    /// A line, and its number in the file (from 1).
    pub fn on(&mut self, number: u64, line: &BusLine) {
        match &line.what {
            BusWhat::Tally { frames, bytes } => {
                self.report.frames.clone_from(frames);
                self.report.bytes = *bytes;
            }
            BusWhat::Lost { why } => {
                self.lost.insert((line.from.clone(), line.to.clone()));
                if self.report.lost.len() < FINDINGS_MAX {
                    self.report.lost.push(format!("{} to {}: {why}", line.from, line.to));
                }
            }
            BusWhat::Frame(frame) => {
                self.settle_votes(line.time);
                self.settle_promotions(line.time);
                self.settle_claims(line.time);
                if let Some(heard) = self.hear(number, line, frame) {
                    self.judge(&heard);
                }
            }
        }
    }

    /// What was found since it was asked last.
    pub fn new_findings(&mut self) -> Vec<Finding> {
        let new = self.report.findings[self.handed_out..].to_vec();
        self.handed_out = self.report.findings.len();
        new
    }

    /// Entries of all tables that grow with what is heard.
    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.streams.len() + self.report.findings.len() + self.promotions.size() + self.votes.size()
    }

    /// What was found, and how often each rule was looked at.
    pub fn finish(mut self) -> Wire {
        self.settle_votes(Nanos::MAX);
        self.settle_promotions(Nanos::MAX);
        self.settle_claims(Nanos::MAX);
        self.report
    }

    fn judge(&mut self, heard: &Heard<'_>) {
        self.on_epochs(heard);
        self.on_role(heard);
        self.on_claim(heard);
        self.on_gossip(heard);
        match Kind::named(&heard.frame.kind) {
            Some(Kind::Meet) => self.members.met(heard.time, [heard.from, heard.to]),
            Some(Kind::AuthReq) => self.on_request(heard),
            Some(Kind::AuthAck) => self.on_vote(heard),
            Some(Kind::Fail) => self.on_fail(heard),
            _ => {}
        }
    }

    /// Puts the line's header together. `None`: its sender's first line is missing.
    fn hear<'a>(&mut self, number: u64, line: &'a BusLine, frame: &'a BusFrame) -> Option<Heard<'a>> {
        let key = (line.conn, line.from.clone());
        let last = self.streams.get(&key).cloned();
        let node = match &frame.id {
            Some(id) => self.members.node(id),
            None => last.as_ref()?.node,
        };
        let of = match frame.of.as_deref() {
            Some("") => None,
            Some(id) => Some(self.members.node(id)),
            None => last.as_ref()?.of,
        };
        let changed =
            frame.id.is_some() || frame.of.is_some() || frame.slots.is_some() || frame.config.is_some();
        let opened = frame.opened.or(last.as_ref().map(|last| last.opened)).unwrap_or(0);
        let now = Said {
            node,
            to: last.as_ref().map_or_else(|| Arc::from(line.to.as_str()), |last| last.to.clone()),
            current: frame.current.or(last.as_ref().map(|last| last.current))?,
            config: frame.config.or(last.as_ref().map(|last| last.config))?,
            of,
            slots: match &frame.slots {
                Some(slots) => Arc::new(slots.clone()),
                None => last.as_ref()?.slots.clone(),
            },
            claimed: last
                .as_ref()
                .filter(|last| last.node == node)
                .map_or(0, |last| last.claimed.max(if last.claims() { last.config } else { 0 })),
            opened,
            since: last.as_ref().filter(|_| !changed).map_or(line.time, |last| last.since),
            line: last.as_ref().filter(|_| !changed).map_or(number, |last| last.line),
        };
        self.streams.insert(key, now.clone());
        let rose = self.members.hear(line.time, &line.from, node, &now);
        self.greatest = self.greatest.max(now.current);
        if last.is_none() {
            self.remember_stream(line);
        }
        Some(Heard {
            line: number,
            time: line.time,
            made_after: self.facts.made_after(&line.from, &line.to, opened, line.time),
            from: &line.from,
            to: &line.to,
            frame,
            before: last.filter(|last| last.node == node),
            rose,
            now,
        })
    }

    /// Notes a connection of a directed pair, and forgets what the oldest of many said.
    fn remember_stream(&mut self, line: &BusLine) {
        let conns = self.links.entry((line.from.clone(), line.to.clone())).or_default();
        conns.push_back(line.conn);
        if conns.len() > STREAMS_OF_A_PAIR
            && let Some(oldest) = conns.pop_front()
        {
            self.streams.remove(&(oldest, line.from.clone()));
        }
    }

    /// How long a report or a demotion may still play a part: reports hold for two node timeouts, and are written
    /// once in a node timeout.
    fn memory(&self) -> Nanos {
        3 * self.options.node_timeout + SECOND
    }

    fn count(&mut self, rule: Rule) {
        self.rule(rule).judged += 1;
    }

    fn unknown(&mut self, rule: Rule, why: &str) {
        let count = self.rule(rule);
        count.unknown += 1;
        if count.why.is_empty() {
            why.clone_into(&mut count.why);
        }
    }

    fn rule(&mut self, rule: Rule) -> &mut RuleCount {
        self.report.rules.entry(rule.name().to_owned()).or_default()
    }

    fn broken(&mut self, rule: Rule, broken: Broken) {
        let Broken { text, from, to, mut nodes, mut lines } = broken;
        self.rule(rule).broken += 1;
        nodes.sort();
        nodes.dedup();
        lines.sort_unstable();
        lines.dedup();
        let finding = Finding {
            what: rule.name().to_owned(),
            text,
            excused: false,
            from,
            to,
            nodes,
            witness: Vec::new(),
            bus: lines,
        };
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        }
    }
}

/// What breaks a rule, and the lines that prove it.
struct Broken {
    text: String,
    from: Nanos,
    to: Nanos,
    nodes: Vec<String>,
    lines: Vec<u64>,
}

/// Nodes by name, for texts.
fn names(members: &Members, nodes: impl IntoIterator<Item = Node>) -> String {
    let names: Vec<&str> = nodes.into_iter().map(|node| members.name(node)).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}
