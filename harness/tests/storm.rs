//! Whole storms on an unmodified redis-server, on our own server and on a mix: one command, and what it
//! leaves behind.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A run whose storm is a file of these words; its results land in a folder of their own.
struct Storm {
    folder: tempfile::TempDir,
    child: Child,
}

impl Storm {
    fn begin(text: &str, flags: &[&str]) -> Self {
        Self::begin_on(common::REDIS_SERVER, text, flags)
    }

    fn begin_on(sut: &str, text: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("storm.toml"), text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_slotstorm"))
            .args(["run", "storm.toml", "--sut", sut, "--json"])
            .args(flags)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        Self { folder, child }
    }

    /// Waits for the end; answers exit code, verdict and the run's folder.
    fn end(self) -> Ended {
        let output = self.child.wait_with_output().unwrap();
        let verdict =
            serde_json::from_slice(&output.stdout).expect("--json prints the verdict and nothing else");
        let run = std::fs::canonicalize(self.folder.path().join("results/latest")).expect("latest is there");
        Ended { code: output.status.code(), verdict, run, folder: self.folder }
    }
}

struct Ended {
    code: Option<i32>,
    verdict: Value,
    run: PathBuf,
    folder: tempfile::TempDir,
}

impl Ended {
    fn number(&self, pointer: &str) -> u64 {
        self.verdict.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer}"))
    }
}

/// Processes whose working folder lies below `folder`.
fn processes_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name();
        let below = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if below {
            found.push(pid.to_string_lossy().into_owned());
        }
    }
    found
}

const KILL: &str = "name = 'kill'\nseed = 5\nduration_s = 14\nnode_timeout_ms = 1000\n\
                    [[fault]]\nat = 2\nkind = 'kill'\ntarget = 'random master'\nrestart_after = 6\n";

/// The master keeps three clients, whose writes are acknowledged and erased by the takeover.
const ISOLATE: &str = "name = 'isolate'\nseed = 5\nduration_s = 14\nnode_timeout_ms = 2000\n\
                       [[fault]]\nat = 2\nkind = 'isolate'\ntarget = 'master of slot 0'\nduration = 7\n";

#[test]
fn a_killed_master_is_replaced_and_the_verdict_is_whole() {
    let _lock = common::lock::beside_another();
    let ended = Storm::begin(KILL, &[]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.verdict);
    assert_eq!(ended.verdict["valid"], Value::Bool(true));
    assert_eq!(ended.verdict["exit_code"], 0);
    assert_eq!(ended.number("/seed"), 5);
    assert!(ended.number("/failovers") >= 1 && ended.number("/acknowledged") > 5000, "{}", ended.verdict);
    for pointer in [
        "/schema",
        "/sut",
        "/expect",
        "/reason",
        "/vacuous_faults",
        "/checks/lost_writes/lost",
        "/checks/lost_writes/by_class/unexplained",
        "/checks/elements/duplicated",
        "/checks/elements/phantom",
        "/checks/elements/misordered",
        "/checks/split_brain/two_claims",
        "/checks/split_brain/two_writers",
        "/checks/split_brain/lasting",
        "/checks/convergence/valid",
        "/checks/availability/valid",
        "/checks/invariants/valid",
    ] {
        assert!(ended.verdict.pointer(pointer).is_some(), "{pointer} is missing");
    }
    for file in ["run.json", "history.jsonl", "views.jsonl", "stream.jsonl", "verdict.json", "latency.hlog"] {
        assert!(ended.run.join(file).metadata().is_ok_and(|meta| meta.len() > 0), "{file}");
    }
    for file in ["storm.toml", "repro.toml", "report.html", "logs/n1.log"] {
        assert!(ended.run.join(file).exists(), "{file}");
    }
    assert_eq!(
        std::fs::read_to_string(ended.run.join("storm.toml")).unwrap(),
        KILL,
        "the file that was used"
    );
    assert_eq!(processes_below(ended.folder.path()), Vec::<String>::new());

    let again = Command::new(env!("CARGO_BIN_EXE_slotstorm"))
        .args(["check", "--json", ended.run.to_str().unwrap()])
        .output()
        .unwrap();
    let verdict: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((again.status.code(), &verdict), (Some(0), &ended.verdict), "judged again, judged the same");
}

#[test]
fn slotstorms_own_server_and_a_mixed_cluster_survive_the_same() {
    let _lock = common::lock::beside_another();
    for sut in ["embedded", &format!("embedded:3,{}:3", common::REDIS_SERVER)] {
        let ended = Storm::begin_on(sut, KILL, &[]).end();
        assert_eq!(ended.code, Some(0), "{sut}: {}", ended.verdict);
        assert!(ended.number("/failovers") >= 1, "{sut}: {}", ended.verdict);
    }
}

#[test]
fn a_write_lost_in_a_window_is_valid_for_redis_and_invalid_under_strict() {
    let _lock = common::lock::beside_another();
    let ended = Storm::begin(ISOLATE, &["--expect", "strict", "--workload", "append"]).end();
    assert!(ended.number("/checks/lost_writes/lost") > 0, "{}", ended.verdict);
    assert_eq!(ended.number("/checks/lost_writes/by_class/unexplained"), 0, "{}", ended.verdict);
    assert_eq!((ended.code, &ended.verdict["valid"]), (Some(1), &Value::Bool(false)));
    let loss = &ended.verdict["checks"]["lost_writes"]["losses"][0];
    assert_eq!(loss["acked_by"], "n1", "the master that was isolated acknowledged it");
}

#[test]
fn ctrl_c_heals_stops_everything_and_still_leaves_a_record() {
    let _lock = common::lock::beside_another();
    let mut storm = Storm::begin(&KILL.replace("duration_s = 14", "duration_s = 60"), &[]);
    std::thread::sleep(Duration::from_secs(8));
    assert!(storm.child.try_wait().unwrap().is_none(), "it still runs");
    kill(Pid::from_raw(storm.child.id() as i32), Signal::SIGINT).unwrap();
    let ended = storm.end();
    assert_eq!(
        (ended.code, &ended.verdict["valid"]),
        (Some(2), &Value::from("unknown")),
        "{}",
        ended.verdict
    );
    assert!(ended.run.join("report.html").exists());
    assert!(ended.number("/acknowledged") > 1000);
    assert_eq!(processes_below(ended.folder.path()), Vec::<String>::new());
}
