//! What a run is: topology, clients, seed and the schedule of faults. Pure: files are read and written by the
//! caller.

use std::collections::BTreeMap;

use slotstorm_checker::record::{Expect, Nanos, NodeInfo, RunInfo};
use slotstorm_workloads::workload::WorkloadKind;

mod fault;
mod file;
mod preset;
pub mod seed;
mod selector;
mod span;

pub use fault::*;
pub use file::*;
pub use preset::{Frame, PRESETS};
pub use selector::*;
pub use span::*;

/// A storm file that shows every word, for the help text.
pub const EXAMPLE: &str = include_str!("example.toml");

/// The version of storm files.
const FORMAT: u32 = 1;

/// A run, every question answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub name: String,
    pub seed: u64,
    /// A bug that every embedded node is given on purpose.
    pub mutation: Option<String>,
    /// As given: `embedded`, a path, or a mix such as `embedded:3,PATH:3`.
    pub sut: String,
    pub masters: u16,
    /// Replicas of each master.
    pub replicas: u16,
    pub node_timeout_ms: u64,
    /// Load and storm together, in seconds.
    pub duration_s: f64,
    pub clients: u16,
    /// Operations per second of all clients together.
    pub rate: f64,
    pub workload: String,
    pub expect: Expect,
    pub max_outage_s: Option<f64>,
    pub min_availability_pct: Option<f64>,
    /// The seed draws which of the preset's kinds there are at all.
    pub swarm: bool,
    /// What must have happened, else the run shows nothing: the words of [`slotstorm_checker::Requirement`].
    pub require: Vec<String>,
    /// Directives for every node.
    pub directives: BTreeMap<String, String>,
    /// The schedule.
    pub faults: Vec<Fault>,
}

/// A fault at its time: what the nemesis carries out.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Which firing of the schedule this is, from 0, in order of time.
    pub number: u32,
    /// Since the clients began: when it fires, or from when on it waits for its trigger.
    pub at: Nanos,
    pub fault: Fault,
}

impl Plan {
    /// Answers what `file` leaves open with the defaults, and makes the schedule from the preset if the file
    /// has none. `seed` is used when the file names none.
    pub fn from_file(file: StormFile, seed: u64) -> Result<Self, String> {
        if let Some(format) = file.format.filter(|format| *format > FORMAT) {
            return Err(format!(
                "this file has format {format}; this slotstorm knows formats up to {FORMAT}"
            ));
        }
        let preset = match (&file.preset, &file.faults) {
            (Some(name), _) => Some(preset::find(name)?),
            (None, None) => Some(preset::find("failover")?),
            (None, Some(_)) => None,
        };
        let default_name = preset.map_or("storm", |preset| preset.name);
        let workload = file.workload.unwrap_or_else(|| "set".into());
        // Who asks for WAIT wants to know what it was good for.
        let waits = workload.parse::<WorkloadKind>().is_ok_and(WorkloadKind::waits);
        let expect = if waits { Expect::Wait } else { Expect::default() };
        let mut plan = Self {
            name: file.name.unwrap_or_else(|| default_name.into()),
            seed: file.seed.unwrap_or(seed),
            mutation: file.mutation,
            sut: file.sut.unwrap_or_else(|| "embedded".into()),
            masters: file.masters.unwrap_or(3),
            replicas: file.replicas.unwrap_or(1),
            node_timeout_ms: file.node_timeout_ms.unwrap_or(2000),
            duration_s: file.duration_s.unwrap_or(60.0),
            clients: file.clients.unwrap_or(10),
            rate: file.rate.unwrap_or(1000.0),
            workload,
            expect: file.expect.unwrap_or(expect),
            max_outage_s: file.max_outage_s,
            min_availability_pct: file.min_availability_pct,
            swarm: file.swarm.unwrap_or(false),
            require: file.require,
            directives: file.set.iter().map(|(name, value)| (name.clone(), value.text())).collect(),
            faults: Vec::new(),
        };
        plan.check()?;
        plan.faults = match (file.faults, preset) {
            (Some(faults), _) => faults,
            (None, Some(preset)) => preset.generate(plan.frame()),
            (None, None) => unreachable!("without faults there is a preset: chosen above"),
        };
        plan.check_faults()?;
        Ok(plan)
    }

    /// The plan as a storm file with every word filled in.
    pub fn to_file(&self) -> StormFile {
        StormFile {
            format: Some(FORMAT),
            mutation: self.mutation.clone(),
            name: Some(self.name.clone()),
            preset: None,
            seed: Some(self.seed),
            sut: Some(self.sut.clone()),
            masters: Some(self.masters),
            replicas: Some(self.replicas),
            node_timeout_ms: Some(self.node_timeout_ms),
            duration_s: Some(self.duration_s),
            clients: Some(self.clients),
            rate: Some(self.rate),
            workload: Some(self.workload.clone()),
            expect: Some(self.expect),
            max_outage_s: self.max_outage_s,
            min_availability_pct: self.min_availability_pct,
            swarm: None,
            require: self.require.clone(),
            set: self.directives.iter().map(|(k, v)| (k.clone(), Directive::Text(v.clone()))).collect(),
            faults: Some(self.faults.clone()),
            ..StormFile::default()
        }
    }

    /// What `run.json` says of a run of this plan, as far as the plan knows it.
    pub fn run_info(&self, nodes: Vec<NodeInfo>) -> RunInfo {
        RunInfo {
            schema: 1,
            name: self.name.clone(),
            seed: self.seed,
            sut: self.sut.clone(),
            mutation: self.mutation.clone(),
            nodes,
            masters: u32::from(self.masters),
            replicas: u32::from(self.replicas),
            node_timeout_ms: self.node_timeout_ms,
            duration_s: self.duration_s,
            clients: u32::from(self.clients),
            rate: self.rate,
            workload: self.workload.clone(),
            faults_planned: Some(self.schedule().len() as u32),
            require: self.require.clone(),
            expect: self.expect,
            max_outage_s: self.max_outage_s,
            min_availability_pct: self.min_availability_pct,
            converge_bound_s: self.converge_bound_s(),
            ..RunInfo::default()
        }
    }

    /// Warm-up before the first fault: a tenth of the run, at most 3 s.
    pub fn load_s(&self) -> f64 {
        (self.duration_s / 10.0).min(3.0)
    }

    /// Nodes in all.
    pub fn nodes(&self) -> u16 {
        self.masters * (1 + self.replicas)
    }

    /// How long convergence may take after healing, in seconds.
    pub fn converge_bound_s(&self) -> f64 {
        (self.node_timeout_ms as f64 / 100.0).max(30.0)
    }

    /// Every firing within the storm, in order of time.
    pub fn schedule(&self) -> Vec<Planned> {
        let end = secs_to_nanos(self.duration_s);
        let mut firings: Vec<(Nanos, Fault)> = Vec::new();
        for fault in &self.faults {
            match fault.when.clone() {
                When::At(at) => firings.push((at.nanos(self.node_timeout_ms), fault.clone())),
                When::Every { every, offset } => {
                    let step = every.nanos(self.node_timeout_ms).max(1_000_000);
                    let mut at = offset.nanos(self.node_timeout_ms);
                    while at < end {
                        firings.push((at, fault.clone()));
                        at += step;
                    }
                }
                When::On { after, times, .. } => {
                    let at = after.nanos(self.node_timeout_ms);
                    firings.extend((0..times).map(|_| (at, fault.clone())));
                }
            }
        }
        firings.retain(|(at, _)| *at < end);
        firings.sort_by_key(|(at, _)| *at);
        firings
            .into_iter()
            .enumerate()
            .map(|(number, (at, fault))| Planned { number: number as u32, at, fault })
            .collect()
    }

    fn frame(&self) -> Frame {
        Frame {
            seed: self.seed,
            node_timeout_ms: self.node_timeout_ms,
            duration_s: self.duration_s,
            load_s: self.load_s(),
            swarm: self.swarm,
        }
    }

    fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name} must lie between {low} and {high}, not {value}"))
            }
        };
        within("masters", f64::from(self.masters), 1.0, 250.0)?;
        within("replicas", f64::from(self.replicas), 0.0, 20.0)?;
        within("nodes in all", f64::from(self.masters) * (1.0 + f64::from(self.replicas)), 1.0, 250.0)?;
        within("node_timeout_ms", self.node_timeout_ms as f64, 100.0, 3_600_000.0)?;
        within("duration_s", self.duration_s, 1.0, 86_400.0)?;
        within("clients", f64::from(self.clients), 1.0, 1000.0)?;
        within("rate", self.rate, 0.1, 1_000_000.0)?;
        if let Some(pct) = self.min_availability_pct {
            within("min_availability_pct", pct, 0.0, 100.0)?;
        }
        if let Some(secs) = self.max_outage_s {
            within("max_outage_s", secs, 0.0, 86_400.0)?;
        }
        self.workload.parse::<WorkloadKind>()?;
        for word in &self.require {
            word.parse::<slotstorm_checker::Requirement>()?;
        }
        if self.seed > i64::MAX as u64 {
            return Err(format!("a seed is a number from 0 to {}", i64::MAX));
        }
        if self.name.is_empty()
            || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            return Err(format!("a name is made of letters, digits, -, _ and ., not \"{}\"", self.name));
        }
        Ok(())
    }

    /// What can be known of a target before it is resolved.
    fn check_faults(&self) -> Result<(), String> {
        for (number, fault) in self.faults.iter().enumerate() {
            let triggers = match &fault.when {
                When::On { trigger, .. } => trigger.selectors().collect(),
                _ => Vec::new(),
            };
            let named = triggers.into_iter().chain([fault.target]).find_map(|selector| match selector {
                Selector::Node(node) if node > self.nodes() => Some(node),
                _ => None,
            });
            if let Some(node) = named {
                return Err(format!(
                    "fault {} ({}): there is no node n{node}; nodes are n1 to n{}",
                    number + 1,
                    fault.kind.name(),
                    self.nodes()
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(text: &str) -> Plan {
        Plan::from_file(StormFile::parse("storm.toml", text).unwrap(), 1).unwrap()
    }

    fn error_of(text: &str) -> String {
        match StormFile::parse("storm.toml", text) {
            Ok(file) => Plan::from_file(file, 1).unwrap_err(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_text_and_another_seed_another() {
        let text = |seed| Plan::from_file(StormFile::default(), seed).unwrap().to_file().to_toml("x");
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn the_default_storm_has_every_kind_and_fits_with_quiet_at_the_end() {
        for seed in 0..200 {
            let plan = Plan::from_file(StormFile::default(), seed).unwrap();
            let mut busy_until = plan.load_s();
            let mut kinds = Vec::new();
            for planned in plan.schedule() {
                let at = nanos_to_secs(planned.at);
                assert!(at >= busy_until, "seed {seed}: faults overlap");
                let lasts = planned.fault.kind.duration().unwrap().secs(plan.node_timeout_ms);
                assert!(lasts > 2.0 * 2.0, "seed {seed}: more than 2 NT");
                busy_until = at + lasts + 2.0 * 2.0;
                kinds.push(planned.fault.kind.name());
            }
            assert!(busy_until <= 60.0, "seed {seed}: quiet at the end");
            for kind in ["kill", "pause", "isolate"] {
                assert!(kinds.contains(&kind), "seed {seed}: {kind} in {kinds:?}");
            }
        }
    }

    #[test]
    fn everything_aims_at_every_role_in_every_phase() {
        let file =
            StormFile { preset: Some("everything".into()), duration_s: Some(2000.0), ..StormFile::default() };
        let text = Plan::from_file(file, 1).unwrap().to_file().to_toml("x");
        for moment in ["auth-req", "auth-ack", "promotion", "full sync", "RESTORE-ASKING on migrate"] {
            assert!(text.contains(&format!("{moment}\"")), "{moment}");
        }
    }

    #[test]
    fn every_kind_is_drawn_by_everything_and_swarms_differ() {
        let kinds = |seed, swarm| -> std::collections::BTreeSet<&str> {
            let file = StormFile {
                preset: Some("everything".into()),
                duration_s: Some(2000.0),
                swarm: Some(swarm),
                ..StormFile::default()
            };
            let plan = Plan::from_file(file, seed).unwrap();
            plan.faults.iter().map(|fault| fault.kind.name()).collect()
        };
        for page in KINDS {
            assert!(kinds(1, false).contains(page.name), "{}", page.name);
        }
        assert_ne!(kinds(1, true), kinds(2, true));
        assert!(kinds(1, true).len() < KINDS.len());
    }

    #[test]
    fn a_replay_file_reads_back_as_the_same_plan() {
        for preset in PRESETS {
            for seed in 0..20 {
                let file = StormFile { preset: Some(preset.name.into()), ..StormFile::default() };
                let plan = Plan::from_file(file, seed).unwrap();
                let text = plan.to_file().to_toml("replay\nof a run");
                assert_eq!(plan_of(&text), plan, "{text}");
                let last = plan.schedule().last().map_or(0, |planned| planned.at);
                assert!(nanos_to_secs(last) < plan.duration_s, "{} {seed}", preset.name);
            }
        }
    }

    #[test]
    fn the_example_of_the_help_text_is_a_storm_and_shows_every_word() {
        let plan = plan_of(EXAMPLE);
        let kinds: Vec<&str> = plan.schedule().iter().map(|planned| planned.fault.kind.name()).collect();
        assert_eq!(kinds, ["pause", "kill", "isolate", "isolate"]);
    }

    #[test]
    fn a_short_storm_still_has_a_fault() {
        assert_eq!(plan_of("duration_s = 5").schedule().len(), 1);
        assert!(plan_of("preset = 'calm'").schedule().is_empty());
        assert!(plan_of("fault = []").schedule().is_empty());
    }

    #[test]
    fn every_repeats_while_the_storm_lasts() {
        let plan = plan_of(
            "duration_s = 20\n[[fault]]\nevery = '3 NT'\noffset = 4\nkind = 'kill'\ntarget = 'random master'\n",
        );
        let at: Vec<Nanos> = plan.schedule().iter().map(|p| p.at / 1_000_000_000).collect();
        assert_eq!(at, [4, 10, 16]);
    }

    #[test]
    fn errors_name_the_line_and_what_was_expected() {
        let fault = |line: &str| format!("[[fault]]\nat = 1\nkind = \"isolate\"\ntarget = \"n1\"\n{line}\n");
        let unknown = error_of(&fault("duraton = 2"));
        assert!(unknown.contains("line 5") && unknown.contains("expected one of"), "{unknown}");
        let target = error_of("[[fault]]\nat = 1\nkind = 'kill'\ntarget = 'the boss'\n");
        assert!(target.contains("line 4") && target.contains("random master"), "{target}");
        let kind = error_of("\n[[fault]]\nat = 1\nkind = 'explode'\ntarget = 'n1'\n");
        assert!(kind.contains("line 2") && kind.contains("half-close"), "{kind}");
        assert!(error_of(&fault("")).contains("needs a `duration`"));
        assert!(error_of(&fault("duration = 1\nwipe = true")).contains("`wipe` means nothing"));
        assert!(error_of(&fault("duration = 1\ndelay_ms = 3")).contains("belong to the policy `delay`"));
        assert!(error_of("masters = 0").contains("masters must lie between"));
        assert!(error_of("[[fault]]\nat = 1\nkind = 'kill'\ntarget = 'n9'").contains("n1 to n6"));
        assert!(error_of("preset = 'tornado'").contains("failover, calm"));
        assert!(error_of("expect = 'maybe'").contains("strict"));
    }
}
