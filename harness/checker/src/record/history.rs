//! `history.jsonl`: operations and faults in one order, in the shape of a Jepsen history (index, time, type, process,
//! f, value, then extras).

use serde::{Deserialize, Serialize};

use super::{Datum, Nanos, OpKind};

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Dense, from 0, in file order.
    pub index: u64,
    /// When it happened. An operation's latency counts from `intended` of its invocation.
    pub time: Nanos,
    /// invoke, ok, fail or info.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// A client's logical thread, or who else speaks.
    pub process: Process,
    /// What was asked or done.
    #[serde(flatten)]
    pub body: Body,
}

/// Jepsen's four types. ok: it did happen; fail: it certainly did not; info: unknown, concurrent with all that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// Who speaks. A client's number is retired after an `info` completion: the client gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Process {
    Client(u64),
    Other(Speaker),
}

/// Speakers that are not clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// Faults.
    Nemesis,
    /// Phases of the run and measured stalls of host and controller.
    Harness,
}

/// `f` and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum Body {
    /// SADD of one unique element.
    Add(Op),
    /// RPUSH of one unique element; `reply` is the list's length.
    Append(Op),
    /// SMEMBERS or LRANGE of the whole key; `elements` on ok.
    Read(Op),
    /// A fault's step.
    Fault(FaultStep),
    /// After the final reads: one replica's content beside its master's. One event a replica, `ok` by the harness.
    ReplicaCompare(ReplicaCompare),
    /// A phase began.
    Phase {
        /// What began.
        value: Phase,
    },
    /// Controller or host did not run for this long, ending at the event's time.
    Stall {
        /// Nanoseconds.
        value: Nanos,
        /// Which loop measured it: `driver`, `proxy`, `observer`.
        of: String,
    },
    /// Any other operation of a client: `f` is one of [`OpKind`]'s words.
    #[serde(untagged)]
    Call(Call),
}

impl Body {
    /// The body of an operation that has no other arguments than `op` says.
    pub fn of(kind: OpKind, op: Op) -> Self {
        match kind {
            OpKind::Add => Self::Add(op),
            OpKind::Append => Self::Append(op),
            OpKind::Read => Self::Read(op),
            f => Self::Call(Call { f, op, ..Call::default() }),
        }
    }

    /// What kind of operation it is; None for what is no operation of a client.
    pub fn kind(&self) -> Option<OpKind> {
        match self {
            Self::Add(_) => Some(OpKind::Add),
            Self::Append(_) => Some(OpKind::Append),
            Self::Read(_) => Some(OpKind::Read),
            Self::Call(call) => Some(call.f),
            Self::Fault(_) | Self::ReplicaCompare(_) | Self::Phase { .. } | Self::Stall { .. } => None,
        }
    }

    /// The operation of a client that it tells of.
    pub fn op(&self) -> Option<&Op> {
        match self {
            Self::Add(op) | Self::Append(op) | Self::Read(op) | Self::Call(Call { op, .. }) => Some(op),
            Self::Fault(_) | Self::ReplicaCompare(_) | Self::Phase { .. } | Self::Stall { .. } => None,
        }
    }

    /// The same, to be filled in.
    pub fn op_mut(&mut self) -> Option<&mut Op> {
        match self {
            Self::Add(op) | Self::Append(op) | Self::Read(op) | Self::Call(Call { op, .. }) => Some(op),
            Self::Fault(_) | Self::ReplicaCompare(_) | Self::Phase { .. } | Self::Stall { .. } => None,
        }
    }
}

/// An operation whose arguments and answer are more than one element: what both mean, [`OpKind`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// What was done.
    pub f: OpKind,
    /// What was asked: the same on invocation and completion.
    #[serde(rename = "value", default)]
    pub asked: Datum,
    /// On ok: what was answered; absent for nil.
    #[serde(default, skip_serializing_if = "Datum::is_nil")]
    pub answer: Datum,
    /// The rest, as of every operation; its own `value` and `elements` are not used.
    #[serde(flatten)]
    pub op: Op,
}

/// The phases of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Clients run, no fault yet.
    Load,
    /// Faults may fire.
    Storm,
    /// Everything is healed, every node is started again; waiting for one view.
    Converge,
    /// Final reads from masters, then the comparison of replicas.
    FinalReads,
    /// Done.
    End,
}

/// One client operation's invocation or completion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// The Redis key.
    pub key: String,
    /// The element written: a decimal number, unique over the whole run and all keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    /// On ok of a read: what was seen, in the server's order. Elements that are no numbers of ours are in `foreign`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elements: Option<Vec<u64>>,
    /// On ok of a read: elements that no client of ours ever writes, as lossy text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<String>,
    /// On invoke: when the open-loop schedule wanted it to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended: Option<Nanos>,
    /// The client (stable over retired process numbers), from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<u32>,
    /// On completion: the node that answered (on info: the one that was asked last).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// On ok of `append`: the length that RPUSH answered; of `add`: how many members were new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<i64>,
    /// Under `--expect wait`: what WAIT answered on the same connection (absent: no answer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<i64>,
    /// Under `--expect wait`: how many replicas WAIT was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_wanted: Option<i64>,
    /// True for the reads after convergence.
    #[serde(rename = "final", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
    /// On fail and info: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One step of one fault of the schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultStep {
    /// Which fault of the schedule, from 0; steps of one fault share it. Final healing has no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<u32>,
    /// The kind's name: `kill`, `term`, `pause`, `restart`, `isolate`, `halves`, ..., `heal`.
    pub name: String,
    /// What it does to the world from now on: `start` begins it, `end` undoes it. A fault without an undoing step
    /// (a kill that is followed by its own restart has one) has only a start.
    pub phase: FaultPhase,
    /// When the schedule wanted the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<Nanos>,
    /// What was really done, in order; all of one step share the event's time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
    /// On end: what the fault's links carried or held while it lasted. Absent for faults without links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touched: Option<Touched>,
    /// On end (or on start, if nothing could be done): the fault touched nothing, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vacuous: Option<String>,
    /// A line for people: the selector and what it resolved to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// On start: whom it hits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// What set it off, if it waited for something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Triggered>,
    /// On start: guarantees that do not hold from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voids: Option<Voids>,
}

/// What set a fault off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggered {
    /// The message, command or change that was seen.
    pub what: String,
    /// When it was seen.
    pub at: Nanos,
    /// How long after it the fault was to come.
    pub delay: Nanos,
    /// How long after it the fault had really been carried out.
    pub took: Nanos,
    /// What was seen was held back until then.
    pub held: bool,
}

/// Guarantees that a fault voids, until the end of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voids {
    /// Names of [`crate::GUARANTEES`].
    pub guarantees: Vec<String>,
    /// The nodes whose promises they were.
    pub nodes: Vec<String>,
}

/// Start or end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultPhase {
    #[default]
    Start,
    /// In between: a fault that comes and goes.
    Beat,
    End,
}

/// A vote as nodes.conf holds it (`lastVoteEpoch`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptVote {
    /// Whose: the node id of the line `myself`; empty if the file tells none.
    pub id: String,
    /// The epoch; 0 if the file tells none, as a server reads it.
    pub epoch: u64,
}

/// One primitive thing that was done to the world. The judge reads these, never the fault's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Action {
    /// The process was sent this signal and is gone.
    Killed { node: String, signal: String },
    /// The process ended by itself (a crash, an assert, a refused start).
    Exited { node: String, status: String },
    /// The process was started, on a nodes.conf that holds this vote (absent: it had no such file, or the record is older).
    Started {
        node: String,
        pid: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<KeptVote>,
    },
    /// SIGSTOP took effect.
    Paused { node: String },
    /// SIGCONT was sent.
    Resumed { node: String },
    /// The node's data directory was emptied (only while it is down).
    Wiped { node: String },
    /// Bytes that `from` sends and `to` receives get this policy. Names are nodes (`n1`) or clients (`c0`).
    Cut { from: String, to: String, planes: Vec<String>, policy: String },
    /// They pass again.
    Healed { from: String, to: String, planes: Vec<String> },
    /// CLUSTER FAILOVER was sent to this replica (and answered OK).
    ManualFailover { node: String, mode: FailoverMode },
    /// Files of the node were damaged (only while it is down).
    Damaged { node: String, what: String },
    /// The node's disk answers so from now on: `sound`, `read-only`, `full`.
    Disk { node: String, state: String },
    /// The node's wall clock errs so from now on.
    Clock { node: String, offset_ms: i64, drift_ppm: i32 },
    /// A command went straight to the node.
    Asked { node: String, command: String, answer: String },
    /// Work beside everything else began, or ended and with what.
    Work { what: String, outcome: Option<String> },
    /// What was wanted cannot be done here, and why.
    Refused { node: String, why: String },
}

/// The argument of CLUSTER FAILOVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailoverMode {
    /// None: the replica first waits for its master's offset.
    Plain,
    Force,
    Takeover,
}

/// One replica compared with its master, key by key, once both stood at the same offset (or the wait for that was
/// given up).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaCompare {
    /// The master that was read.
    pub master: String,
    /// The replica that was read (READONLY).
    pub replica: String,
    /// `master_repl_offset` of the master when the contents were read.
    pub master_offset: u64,
    /// The replica's at the same time. Contents are judged only if both are equal.
    pub replica_offset: u64,
    /// How many keys were compared.
    pub keys: u64,
    /// How many of them differ.
    pub differing: u64,
    /// Some of those that differ (at most 100).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// Why the comparison could not be made or finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a fault's links saw while it held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Bytes that passed under the policy.
    pub passed_bytes: u64,
    /// Bytes that were held (the proxy's queues and the kernel's).
    pub held_bytes: u64,
    /// Connections that were tried.
    pub connects: u64,
    /// Connections that were reset or refused.
    pub resets: u64,
}
