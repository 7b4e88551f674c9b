//! `run.json`: all of the plan that the judge and the report need, and what the machine was.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The plan of a run as it was carried out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Version of the folder's formats.
    pub schema: u32,
    /// The run's name (the preset or the storm file's).
    pub name: String,
    /// The seed of everything random.
    pub seed: u64,
    /// As given: `embedded`, a path, or a mix.
    pub sut: String,
    /// UTC start, RFC 3339.
    pub started: String,
    /// The nodes, in order of their names.
    pub nodes: Vec<NodeInfo>,
    /// Masters at the start.
    pub masters: u32,
    /// Replicas of each master at the start.
    pub replicas: u32,
    /// cluster-node-timeout in milliseconds (NT).
    pub node_timeout_ms: u64,
    /// Length of load and storm together, in seconds.
    pub duration_s: f64,
    /// Clients.
    pub clients: u32,
    /// Operations per second wanted from all clients together.
    pub rate: f64,
    /// `set` or `append`.
    pub workload: String,
    /// How many faults the schedule holds; 0 is a calm run, which cannot be vacuous. Absent: not stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults_planned: Option<u32>,
    /// What must have happened, else the run shows nothing; see [`crate::Requirement`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<String>,
    /// `redis`, `wait` or `strict`.
    pub expect: Expect,
    /// `--max-outage`, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_outage_s: Option<f64>,
    /// `--min-availability`, percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_availability_pct: Option<f64>,
    /// Bound on convergence after healing, in seconds.
    pub converge_bound_s: f64,
    /// Directives that all nodes were started with.
    pub directives: BTreeMap<String, String>,
    /// SHA-256 of the binary that ran.
    pub binary_sha256: String,
    /// Slotstorm's version.
    pub version: String,
    /// Kernel, processors, memory: one line.
    pub host: String,
    /// The command line as given.
    pub command: Vec<String>,
}

/// One node of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// `n1`, ...
    pub name: String,
    /// Node id; empty until the cluster was made.
    pub id: String,
    /// `embedded` or the binary's path.
    pub sut: String,
    /// What it says of its version.
    pub version: String,
    /// Its real address, `ip:port`.
    pub real: String,
    /// The address that the cluster knows (the proxy's), `ip:port`.
    pub announced: String,
    /// The shard it belonged to at the start, from 0.
    pub shard: u32,
    /// True if it was a master at the start.
    pub master: bool,
    /// The shard's slots at the start.
    pub slots: Vec<(u16, u16)>,
}

/// What a declared expectation allows (DESIGN: "What is judged").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// Losses inside documented windows are counted and shown.
    #[default]
    Redis,
    /// A WAIT-protected write must survive.
    Wait,
    /// Nothing may be lost.
    Strict,
}

impl std::fmt::Display for Expect {
    /// The word of the command line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Redis => "redis",
            Self::Wait => "wait",
            Self::Strict => "strict",
        })
    }
}
