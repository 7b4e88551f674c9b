//! Campaign files: what a night is made of, as TOML. Every table but `[matrix]` may be left out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slotstorm_checker::record::Expect;

use crate::backend::process::sut::Sut;
use crate::plan::{Directive, PRESETS};

/// An example, for the help text.
pub const EXAMPLE: &str = r#"name = "nightly"
for_s = 28800            # --for 8h says more
duration_s = 40          # of each run
rate = 500.0

[matrix]
server = ["embedded", { value = "/usr/bin/redis-server", weight = 2 }]
preset = ["failover", "partitions", "restarts"]
workload = ["set", "append"]
topology = ["3+1", "3+2"]
node_timeout_ms = [2000]
expect = ["redis", "wait"]
backend = ["process", { value = "sim", weight = 10 }]    # the simulator has slotstorm's own node only

[guard]
max_delay_ms = 30        # no start while the scheduler is later than that

[retention]
keep_valid = 20          # valid runs that stay whole

[limits]
max_lost_per_million = 20000.0

[regression]
nights = 14
min_change_pct = 15.0

[shrink]
budget_s = 900           # of the night's end, for making findings small
"#;

/// A campaign file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignFile {
    /// Nights of one name are compared with each other.
    pub name: String,
    /// Of the order of runs and of their seeds; absent: a fresh one each night.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How long new runs are started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<f64>,
    /// Runs at the most; 0: as many as fit.
    #[serde(default)]
    pub runs: u64,
    /// Clusters of real processes side by side; absent: half of the processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<usize>,
    /// Simulated runs side by side, beside those; absent: half of the processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sim_jobs: Option<usize>,
    /// How much simulated runs give way: 19, the lowest priority, takes no time from real clusters, and gets none on a machine
    /// that is always busy.
    #[serde(default = "sim_niceness")]
    pub sim_niceness: i32,
    /// How long the clients of a run work.
    #[serde(default = "duration_s")]
    pub duration_s: f64,
    #[serde(default = "rate")]
    pub rate: f64,
    #[serde(default = "clients")]
    pub clients: u16,
    /// A run that takes longer is ended and counts as hung.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_limit_s: Option<f64>,
    /// These seeds in turn, in each cell; none: each run has one of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<u64>,
    /// Directives for every node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Directive>,
    /// A bug that every embedded node gets (a build with `--features zoo`): is this campaign able to see it?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutation: Option<String>,
    pub matrix: Matrix,
    /// Runs that must be found invalid: a night that does not see that is blind. Absent: one for each backend.
    #[serde(default, rename = "canary", skip_serializing_if = "Option::is_none")]
    pub canaries: Option<Vec<Canary>>,
    #[serde(default)]
    pub guard: GuardFile,
    #[serde(default)]
    pub retention: Retention,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub regression: RegressionFile,
    #[serde(default)]
    pub shrink: Shrink,
    #[serde(default)]
    pub slurm: Slurm,
    #[serde(default)]
    pub kubernetes: Kubernetes,
    /// Signatures that are known and do not fail a night.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<String>,
}

/// The axes. Every combination of values is a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// `embedded`, a path, or a mix.
    #[serde(default = "embedded")]
    pub server: Vec<Entry<String>>,
    #[serde(default = "failover")]
    pub preset: Vec<Entry<String>>,
    #[serde(default = "set")]
    pub workload: Vec<Entry<String>>,
    /// `MASTERS+REPLICAS of each`.
    #[serde(default = "three_and_one")]
    pub topology: Vec<Entry<Topology>>,
    #[serde(default = "two_seconds")]
    pub node_timeout_ms: Vec<Entry<u64>>,
    #[serde(default = "redis")]
    pub expect: Vec<Entry<Expect>>,
    /// `process` (real processes) or `sim`. Cells that the simulator cannot run (it has the embedded node only) are none.
    #[serde(default = "process")]
    pub backend: Vec<Entry<String>>,
}

/// A value of an axis, and how much of the night it gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a value or { value = ..., weight = N } (a topology is MASTERS+REPLICAS of each, such as \"3+1\")"
)]
pub enum Entry<T> {
    Weighted { value: T, weight: u32 },
    Plain(T),
}

impl<T> Entry<T> {
    pub fn value(&self) -> &T {
        match self {
            Self::Weighted { value, .. } | Self::Plain(value) => value,
        }
    }

    pub fn weight(&self) -> u32 {
        match self {
            Self::Weighted { weight, .. } => *weight,
            Self::Plain(_) => 1,
        }
    }
}

/// `3+1`: three masters with one replica each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Topology {
    pub masters: u16,
    pub replicas: u16,
}

impl TryFrom<String> for Topology {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.split_once('+').and_then(|(masters, replicas)| {
            Some(Self { masters: masters.trim().parse().ok()?, replicas: replicas.trim().parse().ok()? })
        });
        parsed
            .filter(|topology| topology.masters > 0)
            .ok_or_else(|| format!("a topology is MASTERS+REPLICAS of each, such as \"3+1\", not \"{text}\""))
    }
}

impl From<Topology> for String {
    fn from(topology: Topology) -> Self {
        topology.to_string()
    }
}

impl std::fmt::Display for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.masters, self.replicas)
    }
}

/// A run that must be invalid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    #[serde(default = "embedded_word")]
    pub server: String,
    #[serde(default = "failover_word")]
    pub preset: String,
    #[serde(default = "set_word")]
    pub workload: String,
    #[serde(default)]
    pub expect: Expect,
    #[serde(default = "process_word")]
    pub backend: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_availability_pct: Option<f64>,
    /// Part of a signature that must be among those found; absent: any will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Canary {
    /// Masters fail and every shard must have answered all the time: that cannot be.
    fn usual(backend: &str) -> Self {
        Self {
            backend: backend.to_owned(),
            server: embedded_word(),
            preset: failover_word(),
            workload: set_word(),
            expect: Expect::Redis,
            min_availability_pct: Some(100.0),
            signature: Some("availability".into()),
        }
    }
}

/// When a run may start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardFile {
    /// No start while a thread that wants to run is later than this (99 of 100 times), in milliseconds.
    pub max_delay_ms: f64,
    /// After so long a wait with nothing running, a run starts all the same; it will be marked if it starves.
    pub patience_s: f64,
    /// A run is starved if one stall of controller or proxy was longer than this part of the node timeout,
    pub max_stall_of_node_timeout: f64,
    /// or all of them together longer than this part of the run.
    pub max_stalled: f64,
    /// Below this no run starts and the night ends.
    pub min_free_mb: u64,
}

impl Default for GuardFile {
    fn default() -> Self {
        Self {
            max_delay_ms: 30.0,
            patience_s: 60.0,
            max_stall_of_node_timeout: 0.25,
            max_stalled: 0.05,
            min_free_mb: 1024,
        }
    }
}

/// What stays on the disk. Failing runs always do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Valid runs of a night that stay whole, the newest; of the others verdict, plan, report and outcome stay.
    pub keep_valid: usize,
    /// Runs of one finding that stay whole, the first ones.
    pub keep_of_finding: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep_valid: 10, keep_of_finding: 20 }
    }
}

/// Thresholds on the night's numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_availability_pct: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_recovery_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lost_per_million: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_p99_ms: Option<f64>,
}

/// When a number has become worse than before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegressionFile {
    /// How many nights before this one it is compared with.
    pub nights: usize,
    /// Of all comparisons of a night together: how likely one is to alarm on noise.
    pub alpha: f64,
    /// Smaller changes of the median are none.
    pub min_change_pct: f64,
}

impl Default for RegressionFile {
    fn default() -> Self {
        Self { nights: 14, alpha: 0.01, min_change_pct: 10.0 }
    }
}

/// Making findings small when a night's runs are over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shrink {
    /// For all of a night together; 0: none is shrunk.
    pub budget_s: f64,
    /// Storms that are tried for one finding.
    pub trials: u32,
}

impl Default for Shrink {
    fn default() -> Self {
        Self { budget_s: 600.0, trials: 200 }
    }
}

/// How the job array of `--engine slurm` is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slurm {
    /// Of each task.
    pub cpus: u32,
    /// Further words for sbatch, such as `--partition=chaos`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Default for Slurm {
    fn default() -> Self {
        Self { cpus: 2, options: Vec::new() }
    }
}

/// What the manifest of `--engine kubernetes` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// With `slotstorm` on its PATH, and the servers of the matrix at their paths.
    pub image: String,
    /// A volume claim that all pods can write, mounted where results are on this machine.
    pub claim: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of each pod, in Kubernetes' units.
    pub cpu: String,
    pub memory: String,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            image: "slotstorm:latest".into(),
            claim: "slotstorm-results".into(),
            namespace: None,
            cpu: "2".into(),
            memory: "2Gi".into(),
        }
    }
}

/// A campaign file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct BadCampaign {
    pub origin: String,
    pub message: String,
}

impl CampaignFile {
    /// Reads a campaign file's text and looks whether all it names exists.
    pub fn parse(origin: &str, text: &str) -> Result<Self, BadCampaign> {
        let bad = |message: String| BadCampaign { origin: origin.into(), message };
        let file: Self = toml::from_str(text).map_err(|error| bad(error.to_string().trim_end().into()))?;
        file.check().map_err(bad)?;
        Ok(file)
    }

    /// The runs that must be invalid.
    pub fn canaries(&self) -> Vec<Canary> {
        let usual = || self.matrix.backend.iter().map(|backend| Canary::usual(backend.value())).collect();
        self.canaries.clone().unwrap_or_else(usual)
    }

    /// How long a run may take: what it does, and time to make the cluster, to heal, to read and to judge.
    pub fn run_limit_s(&self) -> f64 {
        self.run_limit_s.unwrap_or(2.0 * self.duration_s + 180.0)
    }

    fn check(&self) -> Result<(), String> {
        let named =
            !self.name.is_empty() && self.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if !named {
            return Err(format!("name = \"{}\": letters, digits, - and _ only", self.name));
        }
        let matrix = &self.matrix;
        for (axis, entries) in [
            ("server", matrix.server.len()),
            ("preset", matrix.preset.len()),
            ("workload", matrix.workload.len()),
            ("topology", matrix.topology.len()),
            ("node_timeout_ms", matrix.node_timeout_ms.len()),
            ("expect", matrix.expect.len()),
            ("backend", matrix.backend.len()),
        ] {
            if entries == 0 {
                return Err(format!("matrix.{axis} is empty: leave it out for its default"));
            }
        }
        let canaries = self.canaries();
        let servers =
            matrix.server.iter().map(Entry::value).chain(canaries.iter().map(|canary| &canary.server));
        for server in servers {
            server.parse::<Sut>().map_err(|error| format!("server \"{server}\": {error}"))?;
        }
        let presets =
            matrix.preset.iter().map(Entry::value).chain(canaries.iter().map(|canary| &canary.preset));
        for preset in presets {
            if !PRESETS.iter().any(|known| known.name == preset) {
                let names: Vec<&str> = PRESETS.iter().map(|known| known.name).collect();
                return Err(format!("there is no preset \"{preset}\"; there are {}", names.join(", ")));
            }
        }
        let backends =
            matrix.backend.iter().map(Entry::value).chain(canaries.iter().map(|canary| &canary.backend));
        for backend in backends {
            if !["process", "sim"].contains(&backend.as_str()) {
                return Err(format!("there is no backend \"{backend}\"; there are process and sim"));
            }
        }
        if let Some(canary) = canaries.iter().find(|canary| !can_run(&canary.backend, &canary.server)) {
            return Err(format!("a canary cannot run {} in the simulator", canary.server));
        }
        let any = |backend: &Entry<String>| matrix.server.iter().any(|s| can_run(backend.value(), s.value()));
        if let Some(backend) = matrix.backend.iter().find(|backend| !any(backend)) {
            return Err(format!("no server of the matrix can run on the backend {}", backend.value()));
        }
        let positive = |name: &str, value: f64| {
            if value.is_finite() && value > 0.0 { Ok(()) } else { Err(format!("{name} must be positive")) }
        };
        positive("duration_s", self.duration_s)?;
        positive("rate", self.rate)?;
        positive("run_limit_s", self.run_limit_s())?;
        positive("guard.max_delay_ms", self.guard.max_delay_ms)?;
        if let Some(length) = self.for_s {
            positive("for_s", length)?;
        }
        if self.clients == 0 || self.jobs == Some(0) || self.sim_jobs == Some(0) || self.slurm.cpus == 0 {
            return Err("clients, jobs, sim_jobs and slurm.cpus must be at least 1".into());
        }
        if !(0..=19).contains(&self.sim_niceness) {
            return Err("sim_niceness lies between 0 and 19".into());
        }
        if !(self.shrink.budget_s >= 0.0 && self.shrink.budget_s.is_finite()) {
            return Err("shrink.budget_s must not be negative".into());
        }
        let alpha = self.regression.alpha;
        if !(alpha > 0.0 && alpha < 1.0) {
            return Err("regression.alpha lies between 0 and 1".into());
        }
        Ok(())
    }
}

/// True if a backend has a server: the simulator has slotstorm's own node only.
pub fn can_run(backend: &str, server: &str) -> bool {
    backend != "sim" || server == "embedded"
}

fn duration_s() -> f64 {
    40.0
}
fn rate() -> f64 {
    500.0
}
fn clients() -> u16 {
    10
}
fn sim_niceness() -> i32 {
    19
}
fn embedded_word() -> String {
    "embedded".into()
}
fn failover_word() -> String {
    "failover".into()
}
fn set_word() -> String {
    "set".into()
}
fn process_word() -> String {
    "process".into()
}
fn embedded() -> Vec<Entry<String>> {
    vec![Entry::Plain(embedded_word())]
}
fn failover() -> Vec<Entry<String>> {
    vec![Entry::Plain(failover_word())]
}
fn set() -> Vec<Entry<String>> {
    vec![Entry::Plain(set_word())]
}
fn three_and_one() -> Vec<Entry<Topology>> {
    vec![Entry::Plain(Topology { masters: 3, replicas: 1 })]
}
fn two_seconds() -> Vec<Entry<u64>> {
    vec![Entry::Plain(2000)]
}
fn redis() -> Vec<Entry<Expect>> {
    vec![Entry::Plain(Expect::Redis)]
}
fn process() -> Vec<Entry<String>> {
    vec![Entry::Plain(process_word())]
}
