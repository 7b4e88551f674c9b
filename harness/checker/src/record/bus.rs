//! `bus.jsonl`: what the nodes said to each other on the cluster bus, as far as a rule of the protocol needs it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Nanos;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusLine {
    /// When the proxy had read the frame's last byte from its sender: frames that a cut holds are read after it.
    pub time: Nanos,
    /// The sender.
    pub from: String,
    /// The receiver.
    pub to: String,
    /// The proxy's number of the connection.
    pub conn: u64,
    /// What passed.
    #[serde(flatten)]
    pub what: BusWhat,
}

/// What passed on a bus connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum BusWhat {
    /// A frame.
    Frame(Box<BusFrame>),
    /// This direction of the connection could not be followed any further, and why.
    Lost { why: String },
    /// Frames so far by type, on all connections together, and their bytes (`from`, `to` and `conn` say nothing).
    Tally { frames: BTreeMap<String, u64>, bytes: u64 },
}

/// A frame. What its header says is there where it differs from the last line of the same sender on the same
/// connection. A frame that says nothing new, and is no vote, request, FAIL or UPDATE, has no line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusFrame {
    /// `ping`, `auth-ack`, ...: the names of CLUSTER INFO.
    pub kind: String,
    /// On the sender's first line on the connection: when the connection was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<Nanos>,
    /// The sender's node id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its currentEpoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// Its configEpoch; a replica's: its master's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<u64>,
    /// Whose replica it is; empty: it is a master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Its slots; a replica's: its master's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Vec<(u16, u16)>>,
    /// Its flags as CLUSTER NODES prints them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<String>,
    /// Votes are asked for although the master is up (a manual failover).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Whom a FAIL or an UPDATE is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// An UPDATE's: the subject's configEpoch, and its slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claim: Vec<(u16, u16)>,
    /// Nodes that the gossip calls `fail`, `fail?` (again, while it goes on, once a node timeout), or no longer either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fail: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pfail: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fine: Vec<String>,
}
