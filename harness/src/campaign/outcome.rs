//! What is kept of one run of a night: `outcome.json` in the task's folder, written whole or not at all. Its presence says
//! that the task is done.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde::{Deserialize, Serialize};
use slotstorm_checker::record::verdict::{Validity, Verdict};
use slotstorm_checker::record::{Body, Event, Nanos, RunInfo};

use super::file::GuardFile;
use super::matrix::Task;
use crate::verdict::signature::{self, HUNG};

/// The file's name.
pub const OUTCOME: &str = "outcome.json";

/// One run, done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub schema: u32,
    pub task: Task,
    pub end: End,
    /// What it has to say, in a sentence.
    pub reason: String,
    /// The process' exit code; absent: a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// UTC, RFC 3339.
    pub started: String,
    pub took_s: f64,
    /// Processor time of the controller: proxy, clients, judge and pictures, not the servers; of a simulated run all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
    /// Where the run is, from the task's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// The host did not let it run: it does not count. Says how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starved: Option<String>,
    /// What failed.
    pub signatures: Vec<String>,
    #[serde(default)]
    pub numbers: Numbers,
    /// Large files of the run were removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub thinned: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    Valid,
    Invalid,
    Unknown,
    /// It could not be made, or the harness broke.
    Broken,
    /// It did not end in time.
    Hung,
}

impl End {
    /// As it stands in files and on pages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Unknown => "unknown",
            Self::Broken => "broken",
            Self::Hung => "hung",
        }
    }
}

/// What is compared over nights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    pub acknowledged: u64,
    pub failovers: u64,
    pub lost: u64,
    pub by_class: BTreeMap<String, u64>,
    pub availability_pct: f64,
    pub longest_outage_s: f64,
    /// From each fault on a master to the first success on its shard.
    pub recoveries_s: Vec<f64>,
    /// Of acknowledged operations, from their intended start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Quantiles>,
    /// From the first server's start to a cluster that takes writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_s: Option<f64>,
}

/// Latencies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

/// Why the process of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    ItsOwn,
    /// It had its time and had to be ended.
    Hung,
    /// It had to be ended since the host gave it no processor time.
    Starved,
}

/// How the process of a run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub exit: Option<i32>,
    pub ending: Ending,
    pub started: String,
    pub took_s: f64,
    pub cpu_s: Option<f64>,
    /// The end of what it wrote to standard error.
    pub said: String,
}

impl Outcome {
    /// True if it says something of the server.
    pub fn counts(&self) -> bool {
        self.starved.is_none() && !self.task.canary && self.end != End::Broken
    }

    /// True if it fails the night.
    pub fn fails(&self) -> bool {
        self.counts() && !self.signatures.is_empty()
    }

    /// Reads what a task's run left behind.
    pub fn of(task: Task, dir: &Path, ended: Ended, guard: &GuardFile) -> Self {
        let run = run_folder(dir);
        let mut outcome = Self {
            schema: 1,
            task,
            end: End::Broken,
            reason: ended.said.clone(),
            exit: ended.exit,
            started: ended.started,
            took_s: ended.took_s,
            cpu_s: ended.cpu_s,
            folder: run.as_ref().and_then(|run| run.strip_prefix(dir).ok()).map(Path::to_owned),
            starved: None,
            signatures: Vec::new(),
            numbers: Numbers::default(),
            thinned: false,
        };
        if let Some(run) = &run
            && let Err(error) = outcome.read(run, guard)
        {
            outcome.reason = format!("{error:#}; {}", ended.said);
        }
        match ended.ending {
            Ending::ItsOwn => {}
            Ending::Hung => {
                outcome.end = End::Hung;
                outcome.signatures = vec![HUNG.to_owned()];
                outcome.reason = format!("it did not end within {:.0} s", outcome.took_s);
            }
            Ending::Starved => {
                let cpu_s = outcome.cpu_s.unwrap_or(0.0);
                outcome.starved =
                    Some(format!("it had {cpu_s:.1} s of processor time in {:.0} s", outcome.took_s));
            }
        }
        outcome
    }

    fn read(&mut self, run: &Path, guard: &GuardFile) -> anyhow::Result<()> {
        let verdict: Verdict = from_json(&run.join("verdict.json"))?;
        let info: RunInfo = from_json(&run.join("run.json"))?;
        self.end = match (verdict.exit_code, verdict.valid) {
            (3, _) => End::Broken,
            (_, Validity::Valid) => End::Valid,
            (_, Validity::Invalid) => End::Invalid,
            (_, Validity::Unknown) => End::Unknown,
        };
        // A run that was vacuous is valid in each check, and proves nothing.
        if verdict.exit_code == 2 {
            self.end = End::Unknown;
        }
        self.reason.clone_from(&verdict.reason);
        self.signatures = signature::of(&verdict);
        self.numbers = numbers(&verdict);
        self.numbers.latency_ms = latency(&run.join("latency.hlog"))?;
        let marks = Marks::of(&run.join("history.jsonl"))?;
        self.numbers.ready_s = marks.ready.map(|ready| ready as f64 / 1e9);
        self.starved = marks.starved(&info, guard);
        Ok(())
    }

    /// Writes it into a task's folder, in one step.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        write_whole(&dir.join(OUTCOME), &serde_json::to_vec_pretty(self)?)
    }

    /// What was written; `None` if the task is not done.
    pub fn stored(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(OUTCOME);
        if !path.exists() {
            return Ok(None);
        }
        from_json(&path).map(Some)
    }
}

/// Writes a file in one step: after a crash it is there whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&fresh, path)
}

/// Reads a JSON file; errors name it.
pub fn from_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// The finished run below a task's folder.
pub fn run_folder(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir.join("runs")).ok()?;
    let mut whole: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    whole.sort();
    whole.pop()
}

fn numbers(verdict: &Verdict) -> Numbers {
    let checks = &verdict.checks;
    let classes = checks.lost_writes.by_class.iter().filter(|(_, count)| **count > 0);
    Numbers {
        acknowledged: verdict.acknowledged,
        failovers: verdict.failovers,
        lost: checks.lost_writes.lost,
        by_class: classes.map(|(class, &count)| (class.clone(), count)).collect(),
        availability_pct: checks.availability.overall_pct,
        longest_outage_s: checks.availability.longest_outage_s,
        recoveries_s: checks.availability.recoveries.iter().filter_map(|recovery| recovery.took_s).collect(),
        latency_ms: None,
        ready_s: None,
    }
}

/// Reads the histograms of a latency log, each with its tag (empty: none). One that is not there has none, and one that is torn
/// is read as far as it goes.
pub fn latencies(
    path: &Path,
    mut take: impl FnMut(&str, &Histogram<u64>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Ok(bytes) = std::fs::read(path) else { return Ok(()) };
    let mut decoder = Deserializer::new();
    for entry in IntervalLogIterator::new(&bytes) {
        let Ok(LogEntry::Interval(interval)) = entry else { continue };
        let encoded = base64::engine::general_purpose::STANDARD.decode(interval.encoded_histogram());
        if let Ok(encoded) = encoded
            && let Ok(one) = decoder.deserialize::<u64, _>(&mut encoded.as_slice())
        {
            take(interval.tag().map(|tag| tag.as_str()).unwrap_or_default(), &one)?;
        }
    }
    Ok(())
}

/// Quantiles of all acknowledged operations of a latency log.
fn latency(path: &Path) -> anyhow::Result<Option<Quantiles>> {
    let mut all = Histogram::<u64>::new(3)?;
    latencies(path, |tag, one| {
        let acknowledged = !tag.is_empty() && !tag.ends_with("-fail") && !tag.ends_with("-info");
        if acknowledged {
            all.add(one)?;
        }
        Ok(())
    })?;
    let at = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1e6;
    Ok((!all.is_empty()).then(|| Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999) }))
}

/// What a history says of the run itself: when it was ready, and how long controller and proxy were not let run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    ready: Option<Nanos>,
    longest_stall: Nanos,
    stalled: Nanos,
}

impl Marks {
    fn of(history: &Path) -> anyhow::Result<Self> {
        let Ok(file) = File::open(history) else { return Ok(Self::default()) };
        let mut marks = Self::default();
        for line in BufReader::new(file).split(b'\n') {
            let line = line.context("cannot read history.jsonl")?;
            // Most lines are operations: only the few that may be marks are parsed.
            let has = |word: &[u8]| line.windows(word.len()).any(|part| part == word);
            if !has(b"\"stall\"") && (marks.ready.is_some() || !has(b"\"phase\"")) {
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(Event { body: Body::Stall { value, .. }, .. }) => {
                    marks.longest_stall = marks.longest_stall.max(value);
                    marks.stalled += value;
                }
                Ok(Event { body: Body::Phase { .. }, time, .. }) => {
                    marks.ready.get_or_insert(time);
                }
                _ => {}
            }
        }
        Ok(marks)
    }

    /// Why the run does not count, if it does not.
    fn starved(self, info: &RunInfo, guard: &GuardFile) -> Option<String> {
        let (longest, total) = (self.longest_stall as f64 / 1e9, self.stalled as f64 / 1e9);
        let bound = guard.max_stall_of_node_timeout * info.node_timeout_ms as f64 / 1e3;
        if longest > bound {
            return Some(format!("controller or proxy stood still for {longest:.2} s (bound {bound:.2} s)"));
        }
        let bound = guard.max_stalled * info.duration_s;
        (total > bound)
            .then(|| format!("controller and proxy stood still for {total:.1} s in all (bound {bound:.1} s)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_stood_still_is_told_from_one_that_did_not() {
        let info = RunInfo { node_timeout_ms: 2000, duration_s: 40.0, ..RunInfo::default() };
        let stalls = |longest_ms: u64, total_ms: u64| Marks {
            ready: None,
            longest_stall: longest_ms * 1_000_000,
            stalled: total_ms * 1_000_000,
        };
        let guard = GuardFile::default();
        assert_eq!(stalls(400, 1900).starved(&info, &guard), None);
        assert!(stalls(600, 600).starved(&info, &guard).unwrap().contains("0.60 s (bound 0.50 s)"));
        assert!(stalls(90, 2100).starved(&info, &guard).unwrap().contains("2.1 s in all (bound 2.0 s)"));
    }

    #[test]
    fn marks_are_read_from_the_history_and_operations_that_look_like_them_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let lines = [
            r#"{"index":0,"time":5,"type":"invoke","process":1,"f":"add","key":"\"stall\"","value":7}"#,
            r#"{"index":8,"time":6,"type":"info","process":"harness","f":"phase","value":"load"}"#,
            r#"{"index":9,"time":7,"type":"info","process":"harness","f":"phase","value":"storm"}"#,
            r#"{"index":1,"time":9,"type":"info","process":"harness","f":"stall","value":40,"of":"proxy"}"#,
            r#"{"index":2,"time":99,"type":"info","process":"harness","f":"stall","value":60,"of":"controller"}"#,
            r#"{"index":3,"time":99,"type":"info","process":"harness","f":"stall","val"#,
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let marks = Marks { ready: Some(6), longest_stall: 60, stalled: 100 };
        assert_eq!(Marks::of(&path).unwrap(), marks);
    }

    #[test]
    fn a_simulated_run_that_got_no_processor_is_starved_and_not_hung() {
        let dir = tempfile::tempdir().unwrap();
        let file = super::super::file::CampaignFile::parse("x", "name = 'x'\n[matrix]\n").unwrap();
        let task = super::super::matrix::Sequence::new(&file, 1).next().unwrap();
        let ended = Ended {
            exit: None,
            ending: Ending::Starved,
            started: String::new(),
            took_s: 900.0,
            cpu_s: Some(2.0),
            said: String::new(),
        };
        let outcome = Outcome::of(task, dir.path(), ended, &file.guard);
        assert_eq!(outcome.starved.as_deref(), Some("it had 2.0 s of processor time in 900 s"));
        assert!(outcome.signatures.is_empty() && !outcome.counts());
    }

    #[test]
    fn a_run_without_a_verdict_is_broken_and_says_what_the_process_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = super::super::file::CampaignFile::parse("x", "name = 'x'\n[matrix]\n").unwrap();
        let task = super::super::matrix::Sequence::new(&file, 1).next().unwrap();
        let ended = Ended {
            exit: Some(3),
            ending: Ending::ItsOwn,
            started: String::new(),
            took_s: 1.0,
            cpu_s: None,
            said: "no such server".into(),
        };
        let outcome = Outcome::of(task, dir.path(), ended, &file.guard);
        assert_eq!((outcome.end, outcome.reason.as_str()), (End::Broken, "no such server"));
        outcome.write(dir.path()).unwrap();
        assert_eq!(Outcome::stored(dir.path()).unwrap(), Some(outcome));
    }
}
