//! Consistency: is there one order of each object's operations (or of a slot's transactions) that explains every answer?
//!
//! Each key is judged by the `linear` and `txn` rooms, all cores at once. What contradicts is then held against what Redis
//! Cluster documents. An operation is *excused* if a master executed it inside a W3 to W7 window, or if it can be proven
//! into a window of lost writes: what it did, or what it saw, was gone with the takeover. An anomaly counts against the
//! server unless each of its witnesses holds an excused operation. Witnesses are the smallest that were found, and not all
//! are listed; so what is left without the excused operations is judged once more, and must hold.

mod messages;
mod replicas;
mod show;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};

use self::verdicts::Judged;
use super::proofs::{Prover, Questions};
use super::{Index, LISTED, torn};
use crate::answer::{Answer, Witness};
use crate::linear::{Limits, keyed};
use crate::record::objects::{Converter, Object, Part, parts};
use crate::record::verdict::{Consistency, ObjectCount, Validity};
use crate::record::{Expect, Nanos, NodeId, Record};
use crate::timeline::Timeline;
use crate::voids::{OUTSIDE_MODEL, VALUES_AS_WRITTEN};

/// What the checks may spend. No limit of time: a stored run is judged again as it was judged.
#[derive(Clone, Copy, Debug)]
pub struct ConsistencyOptions {
    /// Keys are judged on so many threads.
    pub threads: usize,
    /// Configurations that a search may remember, for each key that needs one.
    pub configurations: u64,
}

impl Default for ConsistencyOptions {
    fn default() -> Self {
        Self { threads: 1, configurations: 2_000_000 }
    }
}

/// Judges every object of the record.
pub fn check(
    record: &Record,
    timeline: &Timeline,
    index: &Index,
    options: &ConsistencyOptions,
) -> Consistency {
    let parts = parts(record);
    let mut entry = Consistency::default();
    for part in &parts {
        let count: &mut ObjectCount = entry.objects.entry(part.object.name().to_owned()).or_default();
        count.objects += 1;
        count.operations += part.ops.len() as u64;
    }
    let limits = Limits { configurations: options.configurations, bytes: 1 << 28, ..Limits::default() };
    let sizes: Vec<u64> = parts.iter().map(|part| part.ops.len() as u64).collect();
    let trusting = Converter::trusting(record);
    let judged = keyed(&sizes, options.threads, |at| verdicts::judge(&parts[at], trusting, &limits));
    let violated: Vec<usize> =
        (0..parts.len()).filter(|&at| matches!(judged[at].answer, Answer::Violated { .. })).collect();
    let suspects = || violated.iter().flat_map(|&at| &parts[at].ops).map(|&op| &record.ops[op as usize]);
    let elements = suspects().filter_map(|op| op.value).collect();
    let keys = suspects().map(|op| record.key(op.key).name.as_str()).collect();
    let questions = Questions { elements, keys };
    let prover = Prover::new(record, timeline, index, (!violated.is_empty()).then_some(&questions));
    let mut grader = Grader {
        record,
        timeline,
        prover,
        limits: &limits,
        damaged: timeline.voided.covers(VALUES_AS_WRITTEN, &record.nodes, record.end),
        known: BTreeMap::new(),
        entry,
        unexcused: Vec::new(),
    };
    for (part, judged) in parts.iter().zip(&judged) {
        match &judged.answer {
            Answer::Holds => {}
            Answer::Unknown(unknown) => grader.unknown(part, &unknown.reason),
            Answer::Violated { witnesses, unlisted } => grader.grade(part, judged, witnesses, *unlisted),
        }
    }
    let mut entry = grader.decide();
    entry.replica_reads = replicas::reads(record, &parts);
    entry.messages = messages::count(record);
    if let Some(never) = entry.messages.map(|messages| messages.never_published).filter(|&never| never > 0) {
        entry.valid = Validity::Invalid;
        entry.reason = format!("{never} messages arrived that nobody published");
    }
    entry
}

/// Why an operation does not count: the window and its proof.
type Excuse = Option<(&'static str, String)>;

struct Grader<'a> {
    record: &'a Record,
    timeline: &'a Timeline,
    prover: Prover<'a>,
    limits: &'a Limits<'a>,
    damaged: bool,
    /// By operation: its excuse, once it was looked for.
    known: BTreeMap<u32, Excuse>,
    entry: Consistency,
    /// Sentences of what counts against the server.
    unexcused: Vec<String>,
}

impl Grader<'_> {
    fn unknown(&mut self, part: &Part, reason: &str) {
        self.entry.unknown += 1;
        if self.entry.unknown == 1 {
            self.entry.reason = format!("{}: {reason}", self.name(part));
        }
    }

    fn grade(&mut self, part: &Part, judged: &Judged, witnesses: &[Witness], unlisted: u64) {
        let mut all_excused = true;
        for witness in witnesses {
            let excuse = self.excuse_of_witness(part, judged, witness);
            all_excused &= excuse.is_some();
            self.count(part, judged, witness, excuse);
        }
        self.entry.anomalies += unlisted;
        if all_excused {
            self.entry.excused += unlisted;
            self.judge_the_rest(part);
        }
    }

    /// Without what the excused operations said, is there still a contradiction? Only one that needs none of them counts.
    fn judge_the_rest(&mut self, part: &Part) {
        let excused: BTreeSet<u32> =
            part.ops.iter().copied().filter(|&op| self.excuse(op).is_some()).collect();
        let doubted = |op: u32| excused.contains(&op);
        let converter = Converter { record: self.record, doubted: &doubted };
        let judged = verdicts::judge(part, converter, self.limits);
        match &judged.answer {
            Answer::Holds => {}
            Answer::Unknown(unknown) => {
                let reason = format!("what the documented losses hide is not known: {}", unknown.reason);
                self.unknown(part, &reason);
            }
            Answer::Violated { witnesses, .. } => {
                for witness in witnesses {
                    if self.excuse_of_witness(part, &judged, witness).is_none() {
                        self.count(part, &judged, witness, None);
                    }
                }
            }
        }
    }

    fn excuse_of_witness(&mut self, part: &Part, judged: &Judged, witness: &Witness) -> Excuse {
        if witness.class == "garbage-read" && self.damaged {
            return Some((OUTSIDE_MODEL, "the storm changed bytes of stored values".to_owned()));
        }
        let ops: Vec<u32> = witness.ops.iter().map(|op| judged.from[op.0 as usize]).collect();
        if part.object == Object::CounterAtReplicas {
            return self.excuse_of_replicas(&ops);
        }
        ops.into_iter().find_map(|op| self.excuse(op))
    }

    /// What READONLY leaves open (REDIS-CLUSTER-FACTS 9.1): each replica lags by itself, so a client that goes over to
    /// another one, as it must when a replica becomes master, may go back; and a replica that takes another master's data
    /// goes back with that master. One that stays where it is never does.
    fn excuse_of_replicas(&self, ops: &[u32]) -> Excuse {
        let ops = || ops.iter().map(|&op| &self.record.ops[op as usize]);
        let from = ops().map(|op| op.invoked).min()?;
        let to = ops().filter_map(|op| op.completed).max()?;
        let nodes: BTreeSet<NodeId> = ops().filter_map(|op| op.node).collect();
        let mut nodes = nodes.into_iter();
        let (first, other) = (nodes.next()?, nodes.next());
        if let Some(other) = other {
            let name = |node| self.record.node_name(node);
            let why = format!("read at {} and at {}, which lag each by itself", name(first), name(other));
            return Some(("another replica", why));
        }
        self.prover.began_anew(first, from, to).map(|why| ("resync", why))
    }

    fn excuse(&mut self, number: u32) -> Excuse {
        if let Some(known) = self.known.get(&number) {
            return known.clone();
        }
        let op = &self.record.ops[number as usize];
        let until = op.completed.unwrap_or(Nanos::MAX);
        let in_window =
            op.node.and_then(|node| self.timeline.windows.meeting(node, op.invoked, until).next());
        let torn = || torn::saw_one_side(self.record, self.timeline, op).map(|why| ("W11", why));
        let excuse = in_window
            .map(|window| (window.name, window.why.clone()))
            .or_else(|| self.prover.excuse(number))
            .or_else(torn);
        self.known.insert(number, excuse.clone());
        excuse
    }

    fn count(&mut self, part: &Part, judged: &Judged, witness: &Witness, excuse: Excuse) {
        self.entry.anomalies += 1;
        *self.entry.by_class.entry(witness.class.to_owned()).or_default() += 1;
        if excuse.is_some() {
            self.entry.excused += 1;
        } else {
            self.unexcused.push(format!("{}: {}: {}", self.name(part), witness.class, witness.sentence));
        }
        // What counts against the server is listed first and always has room.
        let room = if excuse.is_some() { LISTED / 2 } else { LISTED };
        if self.entry.findings.iter().filter(|finding| finding.excused == excuse.is_some()).count() < room {
            let anomaly = show::anomaly(self.record, part, judged, witness, excuse);
            self.entry.findings.push(anomaly);
        }
    }

    fn name(&self, part: &Part) -> String {
        format!("{} {}", part.object.name(), self.record.key(part.key).name)
    }

    fn decide(self) -> Consistency {
        let mut entry = self.entry;
        entry.findings.sort_by_key(|finding| (finding.excused, finding.from));
        if let Some(first) = self.unexcused.first() {
            entry.valid = Validity::Invalid;
            let more = self.unexcused.len() - 1;
            entry.reason = if more == 0 { first.clone() } else { format!("{first} (and {more} more)") };
        } else if self.record.info.expect == Expect::Strict && entry.anomalies > 0 {
            entry.valid = Validity::Invalid;
            entry.reason = format!("{} anomalies, all inside documented windows", entry.anomalies);
        } else if entry.unknown > 0 {
            entry.valid = Validity::Unknown;
            entry.reason = format!("{} objects are not decided; {}", entry.unknown, entry.reason);
        }
        entry
    }
}
