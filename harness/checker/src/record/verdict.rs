//! `verdict.json`: what was found, check by check, and what it means under the declared expectation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Expect, Nanos};

/// Valid, unknown or invalid; the order is the rank when several are merged (the worst wins).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Validity {
    #[default]
    Valid,
    Unknown,
    Invalid,
}

impl Serialize for Validity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Valid => serializer.serialize_bool(true),
            Self::Invalid => serializer.serialize_bool(false),
            Self::Unknown => serializer.serialize_str("unknown"),
        }
    }
}

impl<'de> Deserialize<'de> for Validity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Bool(true) => Ok(Self::Valid),
            serde_json::Value::Bool(false) => Ok(Self::Invalid),
            serde_json::Value::String(text) if text == "unknown" => Ok(Self::Unknown),
            other => {
                Err(serde::de::Error::custom(format!("validity is true, false or \"unknown\", not {other}")))
            }
        }
    }
}

/// The whole file; also what `--json` prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Version of this format.
    pub schema: u32,
    pub valid: Validity,
    /// 0 valid, 1 invalid, 2 unknown or vacuous, 3 the run could not be made.
    pub exit_code: i32,
    /// One sentence a person would say.
    pub reason: String,
    pub seed: u64,
    pub sut: String,
    pub expect: Expect,
    /// Acknowledged operations.
    pub acknowledged: u64,
    /// Completed promotions seen.
    pub failovers: u64,
    /// Faults that touched nothing, one line each.
    pub vacuous_faults: Vec<String>,
    /// What the storm really reached, fault by role by phase.
    #[serde(default)]
    pub coverage: Vec<Covered>,
    pub checks: Checks,
}

/// So many faults of a kind hit a node in this role while this was going on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    pub fault: String,
    pub role: String,
    pub phase: String,
    pub count: u64,
}

/// One entry per check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checks {
    pub lost_writes: LostWrites,
    pub elements: Elements,
    /// Absent in the verdicts of older versions.
    #[serde(default)]
    pub consistency: Consistency,
    pub split_brain: SplitBrain,
    pub convergence: Convergence,
    pub availability: Availability,
    pub invariants: Invariants,
}

/// Acknowledged (or seen) writes that are gone at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LostWrites {
    pub valid: Validity,
    /// Why it is unknown or invalid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Writes judged: acknowledged, or of unknown outcome and seen by a read.
    pub judged: u64,
    pub lost: u64,
    /// Losses by window (`W1` ...), each counted once; `unexplained` is always there.
    pub by_class: BTreeMap<String, u64>,
    /// Outcome unknown, present at the end.
    pub recovered: u64,
    /// Acknowledged, absent in a later read, present at the end.
    pub stale: u64,
    /// Keys whose final read failed.
    pub unread_keys: u64,
    /// Under `wait`: acknowledged writes that WAIT protected, and how many of these are lost.
    pub protected: u64,
    pub protected_lost: u64,
    /// Each loss, at most 1000 (the rest is counted only).
    pub losses: Vec<Loss>,
}

/// One lost write and its proof.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    pub element: u64,
    pub key: String,
    pub slot: u16,
    /// Who acknowledged it; empty if only a read saw it.
    pub acked_by: String,
    pub invoked: Nanos,
    pub acked: Nanos,
    /// The first window that holds, or `unexplained`.
    pub class: String,
    /// All windows that hold.
    pub windows: Vec<String>,
    /// The end offset of the write in its master's history, if it was seen on a replication link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The takeover that erased it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_by: Option<Takeover>,
    /// The proof (or what is missing of it) in words.
    pub proof: String,
    /// History indexes of the operations that show it.
    pub witness: Vec<u64>,
}

/// A completed promotion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// When the promoted node was first seen as a master.
    pub time: Nanos,
    pub node: String,
    /// The master whose slots it took.
    pub from: String,
    /// The config epoch it took them with.
    pub epoch: u64,
    /// Its replication offset at promotion (`second_repl_offset` - 1) in the history `replid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub replid: String,
}

/// Elements that should not be where they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Elements {
    pub valid: Validity,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    pub duplicated: u64,
    pub phantom: u64,
    pub misordered: u64,
    /// Of these: excused, since every witness holds a classified-lost write or one executed in a W3 to W7 interval.
    pub excused: u64,
    pub findings: Vec<Finding>,
}

/// Answers that no one order of an object's operations explains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Consistency {
    pub valid: Validity,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What was judged, by kind of object.
    pub objects: BTreeMap<String, ObjectCount>,
    /// Contradictions that were found, and how many of these are excused: each witness holds an operation that was lost in a
    /// documented window or was executed inside one of W3 to W7.
    pub anomalies: u64,
    pub excused: u64,
    /// The listed ones by class.
    pub by_class: BTreeMap<String, u64>,
    /// Objects of which the budget left something open.
    pub unknown: u64,
    /// Those that count against the server first.
    pub findings: Vec<Anomaly>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_reads: Option<ReplicaReads>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Messages>,
}

/// How many objects of a kind there were, and operations on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectCount {
    pub objects: u64,
    pub operations: u64,
}

/// A contradiction: the operations that alone show it, and why they must come before each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// Its class, in the field's words.
    pub what: String,
    /// A sentence.
    pub text: String,
    pub object: String,
    pub key: String,
    /// True if it does not count against the server under the default expectation, and by which window.
    pub excused: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub excuse: String,
    pub from: Nanos,
    pub to: Nanos,
    pub nodes: Vec<String>,
    /// History indexes that show it.
    pub witness: Vec<u64>,
    pub ops: Vec<WitnessOp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<WitnessLink>,
}

/// An operation of a witness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessOp {
    pub name: String,
    /// Who did it.
    pub lane: String,
    pub from: Nanos,
    /// Absent if its outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Nanos>,
    pub words: String,
}

/// One operation must come before another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessLink {
    pub from: String,
    pub to: String,
    /// Short, such as `wr`.
    pub relation: String,
    pub why: String,
}

/// What replicas answered to clients that read from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplicaReads {
    pub reads: u64,
    /// Reads before which something newer had been acknowledged, and for how long (milliseconds).
    pub stale: u64,
    pub age_p50_ms: f64,
    pub age_p99_ms: f64,
    pub age_max_ms: f64,
    /// Reads that missed what their own client had written: promised by nobody.
    pub own_writes_missed: u64,
}

/// What was published and what of it arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// Acknowledged.
    pub published: u64,
    /// Clients that got anything.
    pub subscribers: u64,
    pub received: u64,
    /// Acknowledged ones that a subscriber did not get, over all subscribers.
    pub missed: u64,
    /// The same message at the same subscriber once more.
    pub repeated: u64,
    /// Messages that nobody published: a bug.
    pub never_published: u64,
}

impl Consistency {
    /// What was judged and found, in a few words.
    pub fn told(&self) -> String {
        let count = |(name, count): (&String, &ObjectCount)| format!("{} of {name}", count.objects);
        let judged: Vec<String> = self.objects.iter().map(count).collect();
        let judged = if judged.is_empty() { "nothing to judge".to_owned() } else { judged.join(", ") };
        let unknown = if self.unknown > 0 { format!(", {} unknown", self.unknown) } else { String::new() };
        let messages = self.messages.map_or(String::new(), |messages| {
            let Messages { published, subscribers, missed, repeated, .. } = messages;
            format!(
                "; {published} messages to {subscribers} subscribers, {missed} missed, {repeated} repeated"
            )
        });
        let replicas = self.replica_reads.map_or(String::new(), |reads| {
            format!(
                "; {} of {} replica reads stale (p99 {:.0} ms, at most {:.0} ms)",
                reads.stale, reads.reads, reads.age_p99_ms, reads.age_max_ms
            )
        });
        format!(
            "{} anomalies, {} of them excused{unknown} ({judged}){replicas}{messages}",
            self.anomalies, self.excused
        )
    }
}

/// Something a checker points at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is: `duplicate`, `phantom`, `misorder`, `stale`, an invariant's name ...
    pub what: String,
    /// A sentence.
    pub text: String,
    /// True if it does not count against the server under the declared expectation.
    pub excused: bool,
    /// Where on the time axis.
    pub from: Nanos,
    pub to: Nanos,
    pub nodes: Vec<String>,
    /// History indexes that show it.
    pub witness: Vec<u64>,
    /// Lines of `bus.jsonl` that show it, from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bus: Vec<u64>,
}

/// Two masters of one slot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitBrain {
    pub valid: Validity,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    pub two_claims: Vec<Overlap>,
    pub two_writers: Vec<Overlap>,
    pub lasting: Vec<Overlap>,
}

/// An interval in which two nodes were master of the same slots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    pub from: Nanos,
    pub to: Nanos,
    pub slots: Vec<(u16, u16)>,
    /// The older claim, the newer claim.
    pub nodes: (String, String),
    pub epochs: (u64, u64),
    /// The end of what is allowed, and by which window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_until: Option<Nanos>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub window: String,
    /// Two writers: acknowledged writes of the older master in it.
    pub writes: u64,
    pub witness: Vec<u64>,
}

/// One view, one data set, after healing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Convergence {
    pub valid: Validity,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// From healing to one view, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_s: Option<f64>,
    pub bound_s: f64,
    /// Replicas whose content differs from their master's at equal offset.
    pub replica_differences: u64,
    pub findings: Vec<Finding>,
}

/// Who could write, and when not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Availability {
    pub valid: Validity,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Percent of load and storm in which every shard answered.
    pub overall_pct: f64,
    /// The longest outage of any shard, seconds.
    pub longest_outage_s: f64,
    pub shards: Vec<ShardAvailability>,
    /// Time from each fault on a master to the first success on its shard, seconds.
    pub recoveries: Vec<Recovery>,
}

/// One shard's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardAvailability {
    pub shard: u32,
    pub slots: Vec<(u16, u16)>,
    pub ok: u64,
    pub fail: u64,
    pub info: u64,
    pub available_pct: f64,
    /// Intervals without success while operations were due.
    pub outages: Vec<(Nanos, Nanos)>,
}

/// From a fault to the first success after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    pub fault: u32,
    pub name: String,
    pub shard: u32,
    pub at: Nanos,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_s: Option<f64>,
}

/// Protocol invariants, watched in the views and on the cluster bus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Invariants {
    pub valid: Validity,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Names of the invariants that were watched, with how often each was evaluated.
    pub watched: BTreeMap<String, u64>,
    /// Server crashes, asserts, refused starts.
    pub crashes: u64,
    pub violations: Vec<Finding>,
    /// Violations of guarantees that a fault had voided: listed, not invalid.
    pub outside_model: Vec<Finding>,
    pub takeovers: Vec<Takeover>,
    /// What was seen on the cluster bus; absent: it was not watched. Its findings are among the violations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<Wire>,
}

/// The cluster bus: what passed, and how often each rule was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire {
    /// Frames by type, and their bytes.
    pub frames: BTreeMap<String, u64>,
    pub bytes: u64,
    /// Votes given: one each voter, epoch and candidate.
    pub votes: u64,
    /// Elections: one each candidate and epoch in which it asked for votes.
    pub elections: u64,
    /// Replicas that became masters: one each node and epoch; and how many of these by TAKEOVER.
    pub promotions: u64,
    pub takeovers: u64,
    /// Broadcasts of FAIL: one each sender and subject.
    pub failures: u64,
    /// Equal claims that the protocol repairs by itself, since one of the two had taken its epoch alone.
    pub collisions: u64,
    /// By rule.
    pub rules: BTreeMap<String, RuleCount>,
    /// Connections that could not be followed to their end, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
    /// What broke a rule, until it is put among the violations.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

impl Invariants {
    /// What the bus showed, in a few words.
    pub fn bus(&self) -> String {
        let Some(wire) = &self.wire else { return "bus not watched".to_owned() };
        let unknown: u64 = wire.rules.values().map(|rule| rule.unknown).sum();
        let unknown = if unknown > 0 { format!(", {unknown} unknown") } else { String::new() };
        format!(
            "on the bus {} votes in {} elections, {} promotions, {} FAILs{unknown}",
            wire.votes, wire.elections, wire.promotions, wire.failures
        )
    }
}

impl RuleCount {
    /// What became of the rule, in words.
    pub fn told(&self) -> String {
        let mut parts = Vec::new();
        if self.judged > 0 {
            parts.push(format!("{} judged, {} broken", self.judged, self.broken));
        }
        if self.unknown > 0 {
            parts.push(format!("{} unknown ({})", self.unknown, self.why));
        }
        if parts.is_empty() { "not seen".to_owned() } else { parts.join(", ") }
    }
}

/// How often a rule was looked at. None judged and none unknown: it was not seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    pub judged: u64,
    pub broken: u64,
    pub unknown: u64,
    /// Why some are unknown (the first reason).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}
