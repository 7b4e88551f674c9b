//! Storms in the simulator, through the command line: the same seed is the same run, and its folder is a run's folder.

#![allow(clippy::disallowed_methods)] // it looks at files

use std::path::Path;
use std::process::{Command, Output};

fn slotstorm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_slotstorm")).args(args).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn simulate(out: &Path, args: &[&str]) -> (i32, String) {
    let out = out.to_str().expect("a temporary directory has a plain name");
    let mut all = vec!["run", "--backend", "sim", "--rate", "100", "--out", out];
    all.extend(args);
    let output = slotstorm(&all);
    (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
}

fn lines(folder: &Path, name: &str) -> usize {
    std::fs::read_to_string(folder.join(name)).unwrap_or_default().lines().count()
}

#[test]
fn a_seed_has_one_fingerprint_in_whatever_process_directory_and_environment() {
    // Short storms; scripts/determinism runs long ones.
    for seed in 0..50 {
        let out = tempfile::tempdir().unwrap();
        let seed = seed.to_string();
        let args = ["--seed", &seed, "--duration", "8", "--preset", "everything", "--verify-determinism"];
        let (code, said) = simulate(out.path(), &args);
        assert!((0..=2).contains(&code), "{said}");
        assert!(said.contains("the same fingerprint"), "{said}");
    }
}

#[test]
fn a_simulated_run_leaves_a_folder_that_every_verb_reads() {
    let out = tempfile::tempdir().unwrap();
    let (code, said) = simulate(out.path(), &["--seed", "5", "--duration", "30"]);
    assert_eq!(code, 0, "{said}");
    let folder = out.path().join("latest");
    for name in ["history.jsonl", "views.jsonl", "stream.jsonl", "bus.jsonl"] {
        assert!(lines(&folder, name) > 20, "{name}: {}", lines(&folder, name));
    }
    let run = std::fs::read_to_string(folder.join("run.json")).unwrap();
    assert!(run.contains("\"backend\": \"sim\"") && run.contains("\"fingerprint\""), "{run}");
    assert!(folder.join("report.html").exists() && folder.join("logs/n1.log").exists());
    let folder = folder.to_str().unwrap();
    let again = slotstorm(&["check", folder]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stdout));
    let repro = slotstorm(&["repro", &format!("{folder}/repro.toml")]);
    assert_eq!(repro.status.code(), Some(0), "{}", text(&repro.stdout));
    assert!(text(&repro.stdout).contains("reproduced 0 of 1"), "{}", text(&repro.stdout));
}

#[test]
fn a_hunt_goes_on_where_it_stopped() {
    let out = tempfile::tempdir().unwrap();
    let results = out.path().to_str().unwrap();
    let hunt = |seeds: &str| {
        let base = ["hunt", "--preset", "kill", "--duration", "15", "--rate", "50", "--out", results];
        let output = slotstorm(&[&base[..], &["--seeds", seeds]].concat());
        assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    assert!(hunt("0..3").contains("3 storms in"));
    let second = hunt("0..5");
    assert!(second.contains("3 storms were run already") && second.contains("2 storms in"), "{second}");
}

#[test]
fn a_hunt_that_a_service_manager_ends_keeps_what_it_has() {
    let out = tempfile::tempdir().unwrap();
    let results = out.path().to_str().unwrap();
    let words = [
        "hunt",
        "--preset",
        "kill",
        "--duration",
        "15",
        "--seeds",
        "0..1000000",
        "--jobs",
        "1",
        "--out",
        results,
    ];
    let hunt = Command::new(env!("CARGO_BIN_EXE_slotstorm"))
        .args(words)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // It saves its progress every few seconds.
    let progress = out.path().join("hunts/kill-set/progress.json");
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while !progress.exists() {
        assert!(std::time::Instant::now() < patience, "it saves nothing");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(hunt.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let output = hunt.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("storms in"), "{output:?}");
}
