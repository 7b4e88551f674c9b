//! Nights of real runs on Slotstorm's own node: a night with its canary, a night that is killed and goes on.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const SMALL: &str = "name = 'small'\nseed = 3\njobs = 1\nduration_s = 12\nrate = 100\nclients = 4\n\
                     [matrix]\npreset = ['calm']\nnode_timeout_ms = [1000]\n\
                     [guard]\nmax_delay_ms = 10000\nmax_stall_of_node_timeout = 1000\nmax_stalled = 1000\nmin_free_mb = 1\n";

fn campaign(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slotstorm"));
    command.arg("campaign").args(words).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn folder_with(file: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.toml"), file).unwrap();
    folder
}

fn latest(folder: &Path) -> PathBuf {
    folder.join("results/campaigns/latest").canonicalize().expect("a night is there")
}

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(latest(folder).join("summary.json")).unwrap()).unwrap()
}

/// Processes whose working folder or command line names the folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let below = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if below || String::from_utf8_lossy(&words).contains(&*folder.to_string_lossy()) {
            found.push(String::from_utf8_lossy(&words).replace('\0', " "));
        }
    }
    found
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(400), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_night_catches_its_canary_survives_being_killed_and_goes_on_with_the_very_runs_that_are_missing() {
    let _lock = common::lock::real_processes();
    let folder = folder_with(SMALL);
    let listed = campaign(folder.path(), &["run", "small.toml", "--list", "3"]).output().unwrap();
    assert_eq!(listed.status.code(), Some(0), "{}", text(&listed));
    assert_eq!(text(&listed).lines().count(), 3);

    let mut night = Kill(campaign(folder.path(), &["run", "small.toml", "--runs", "3"]).spawn().unwrap());
    let done =
        |number: u64| folder.path().join(format!("results/campaigns/latest/tasks/{number:06}/outcome.json"));
    wait_for("the canary is judged", || done(0).exists());
    let second = folder.path().join("results/campaigns/latest/tasks/000001/runs");
    wait_for("the second run has begun", || second.exists());
    night.0.kill().unwrap();
    night.0.wait().unwrap();
    wait_for("its run and all servers go with it", || processes_of(folder.path()).is_empty());
    assert!(!done(1).exists());

    let canary = std::fs::read(done(0)).unwrap();
    let resumed = campaign(folder.path(), &["resume"]).output().unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed));
    assert_eq!(std::fs::read(done(0)).unwrap(), canary, "what was judged is not made again");
    let words = |number: usize| -> String {
        let task: Value = serde_json::from_slice(&std::fs::read(done(number as u64)).unwrap()).unwrap();
        task["task"]["seed"].to_string()
    };
    for (number, line) in String::from_utf8_lossy(&listed.stdout).lines().enumerate() {
        assert!(line.contains(&format!("--seed {} ", words(number))), "{line}");
    }
    let summary = summary(folder.path());
    assert_eq!(summary["canaries"]["caught"], 1, "{summary}");
    assert_eq!(
        (&summary["counts"]["runs"], &summary["counts"]["valid"]),
        (&2.into(), &2.into()),
        "{summary}"
    );
    let night = latest(folder.path());
    for file in ["report.html", "junit.xml", "summary.md", "runs.jsonl"] {
        assert!(night.join(file).metadata().is_ok_and(|meta| meta.len() > 0), "{file}");
    }
    let reindexed = campaign(folder.path(), &["reindex"]).output().unwrap();
    assert!(text(&reindexed).contains("1 nights, 3 runs"), "{}", text(&reindexed));
    assert_eq!(processes_of(folder.path()), [""; 0]);
}

#[test]
fn a_run_that_does_not_end_is_ended_and_recorded_as_such() {
    let _lock = common::lock::real_processes();
    let folder = folder_with(&format!("run_limit_s = 6\ncanary = []\n{SMALL}"));
    let night = campaign(folder.path(), &["run", "small.toml", "--runs", "1"]).output().unwrap();
    assert_eq!(night.status.code(), Some(1), "{}", text(&night));
    let summary = summary(folder.path());
    assert_eq!(summary["counts"]["hung"], 1, "{summary}");
    assert_eq!(summary["findings"][0]["signature"], "run: did not end", "{summary}");
    assert_eq!(processes_of(folder.path()), [""; 0]);
}

#[test]
fn a_full_disk_ends_a_night_cleanly_and_it_says_so() {
    let folder = folder_with(&SMALL.replace("min_free_mb = 1", "min_free_mb = 1000000000"));
    let night = campaign(folder.path(), &["run", "small.toml", "--runs", "1"]).output().unwrap();
    assert_eq!(night.status.code(), Some(3), "{}", text(&night));
    assert!(
        text(&night).contains("the disk is full") && text(&night).contains("campaign resume"),
        "{}",
        text(&night)
    );
}

#[test]
fn what_cannot_be_used_is_said_before_anything_is_made() {
    for (file, words, says) in [
        (SMALL, &["run", "none.toml"][..], "cannot read none.toml"),
        (SMALL, &["run", "small.toml"], "a night needs an end"),
        (
            "name = 'x'\n[matrix]\npreset = ['x']\n",
            &["run", "small.toml", "--runs", "1"],
            "there is no preset",
        ),
        (SMALL, &["run", "small.toml", "--for", "8d"], "expected a time"),
    ] {
        let folder = folder_with(file);
        let ended = campaign(folder.path(), words).output().unwrap();
        assert_eq!(ended.status.code(), Some(254), "{}", text(&ended));
        assert!(text(&ended).contains(says), "{}", text(&ended));
        assert!(!folder.path().join("results").exists());
    }
}
