//! Nights on Slotstorm's own node: a night with its canary, one that is killed and goes on, one whose disk is full, one that is
//! made by a queue.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell

mod common;

use std::io::Write;
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
    let _lock = common::lock::beside_another();
    let folder = folder_with(SMALL);
    let listed = campaign(folder.path(), &["run", "small.toml", "--list", "3"]).output().unwrap();
    assert_eq!(listed.status.code(), Some(0), "{}", text(&listed));
    assert_eq!(text(&listed).lines().count(), 3);

    let mut night = Kill(campaign(folder.path(), &["run", "small.toml", "--runs", "3"]).spawn().unwrap());
    let done =
        |number: u64| folder.path().join(format!("results/campaigns/latest/tasks/{number:06}/outcome.json"));
    wait_for("the canary is judged", || done(0).exists());
    let second = folder.path().join("results/campaigns/latest/tasks/.000001-1/runs");
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
    let _lock = common::lock::beside_another();
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

/// In a mount namespace of its own: a disk of 4 MB that fills up while runs are made, and is made larger before the night
/// goes on. `$0` is slotstorm, `$1` the folder.
const FULL_DISK: &str = r#"
mount -t tmpfs -o size=4m tmpfs "$1" && cd "$1" && cat >small.toml || exit 99
"$0" campaign run small.toml --runs 9; echo "ended $?"
for task in results/campaigns/latest/tasks/0*; do [ -s "$task/outcome.json" ] && echo "kept $task"; done
mount -o remount,size=500m "$1" && "$0" campaign resume; echo "ended $?"
cat results/campaigns/latest/summary.json
"#;

#[test]
fn a_disk_that_fills_up_during_a_night_loses_nothing_that_was_judged_and_the_night_goes_on_when_there_is_room()
 {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", FULL_DISK])
        .arg(env!("CARGO_BIN_EXE_slotstorm"))
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(SIMULATED.as_bytes()).unwrap();
    let said = text(&child.wait_with_output().unwrap());
    assert!(said.contains("the disk is full") && said.contains("ended 3"), "{said}");
    let kept = said.matches("kept ").count();
    assert!((1..9).contains(&kept), "{said}");
    assert!(said.contains("ended 2") && said.contains(&format!("{kept} runs are done")), "{said}");
    assert!(said.contains("\"valid\": 9") && said.contains("\"broken\": 0"), "{said}");
}

/// Short runs in virtual time, and no canary: such a night says nothing (exit code 2).
const SIMULATED: &str = "name = 'small'\nseed = 3\nduration_s = 5\nrate = 50\nclients = 4\nsim_niceness = 0\ncanary = []\n\
                         [matrix]\npreset = ['calm']\nnode_timeout_ms = [1000]\nbackend = ['sim']\n[guard]\nmin_free_mb = 1\n";

#[test]
fn a_task_of_a_queue_that_is_lost_is_missing_and_one_that_is_made_twice_counts_once() {
    let folder = folder_with(SIMULATED);
    let run = |words: &[&str]| campaign(folder.path(), words).output().unwrap();
    let submitted = run(&["run", "small.toml", "--runs", "4", "--engine", "kubernetes"]);
    assert_eq!(submitted.status.code(), Some(0), "{}", text(&submitted));
    let night = latest(folder.path());
    let night = night.to_str().unwrap();
    // As Kubernetes does, and by number; twice one after the other, and twice at once.
    let first = campaign(folder.path(), &["task", night]).env("JOB_COMPLETION_INDEX", "0").output().unwrap();
    assert_eq!(first.status.code(), Some(0), "{}", text(&first));
    let judged = std::fs::read(Path::new(night).join("tasks/000000/outcome.json")).unwrap();
    assert!(text(&run(&["task", night, "0"])).contains("done already"));
    let both = [(); 2].map(|()| campaign(folder.path(), &["task", night, "1"]).spawn().unwrap());
    let both: Vec<String> = both.into_iter().map(|one| text(&one.wait_with_output().unwrap())).collect();
    assert!(both.iter().any(|one| one.contains("task 1: valid")), "{both:?}");
    // A third one is lost on its way: its machine went down.
    let mut lost = Kill(campaign(folder.path(), &["task", night, "2"]).spawn().unwrap());
    wait_for("it has begun", || Path::new(night).join("tasks/.000002-1/task.json").exists());
    drop(lost.0.kill());
    drop(lost);
    assert_eq!(run(&["task", night, "4"]).status.code(), Some(254), "there are four");

    let collected = run(&["collect", night]);
    assert_eq!(collected.status.code(), Some(3), "{}", text(&collected));
    assert!(text(&collected).contains("2 of 4 tasks have no outcome, task 2 first"), "{}", text(&collected));
    let resumed = run(&["resume", night]);
    assert_eq!(resumed.status.code(), Some(2), "{}", text(&resumed));
    assert_eq!(std::fs::read(Path::new(night).join("tasks/000000/outcome.json")).unwrap(), judged);
    let collected = run(&["collect", night]);
    assert_eq!(collected.status.code(), Some(2), "{}", text(&collected));
    let counts = summary(folder.path())["counts"].clone();
    assert_eq!((&counts["runs"], &counts["valid"]), (&4.into(), &4.into()), "{counts}");
    let hidden = std::fs::read_dir(Path::new(night).join("tasks")).unwrap().flatten();
    assert_eq!(hidden.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count(), 0);
    assert!(text(&run(&["reindex"])).contains("1 nights, 4 runs"));
}

#[test]
fn the_manifest_is_a_job_as_kubernetes_publishes_it() {
    let settings = "[kubernetes]\nimage = 'registry.example/slotstorm:1'\nnamespace = 'chaos'\n";
    let folder = folder_with(&format!("{SIMULATED}{settings}"));
    let words = ["run", "small.toml", "--runs", "20", "--jobs", "5", "--engine", "kubernetes"];
    let submitted = campaign(folder.path(), &words).output().unwrap();
    assert_eq!(submitted.status.code(), Some(0), "{}", text(&submitted));
    let night = latest(folder.path());
    let manifest = night.join("job.json");
    let validate = "import json, sys, jsonschema; schema, manifest = (json.load(open(path)) for path in sys.argv[1:]); \
                    jsonschema.Draft7Validator.check_schema(schema); jsonschema.validate(manifest, schema)";
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kubernetes-job.schema.json");
    let checked = |manifest: &Path| {
        Command::new(common::servers::python()).args(["-c", validate, schema]).arg(manifest).output().unwrap()
    };
    assert!(checked(&manifest).status.success(), "{}", text(&checked(&manifest)));
    let mut job: Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    let spec = &job["spec"];
    assert_eq!((&spec["completions"], &spec["parallelism"]), (&20.into(), &5.into()));
    let results = night.ancestors().nth(2).unwrap().to_str().unwrap();
    assert_eq!(spec["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], results);
    // The check is one: a word that Kubernetes does not know is refused.
    job["spec"]["completionsMode"] = "Indexed".into();
    let wrong = folder.path().join("wrong.json");
    std::fs::write(&wrong, job.to_string()).unwrap();
    assert!(!checked(&wrong).status.success());
}

#[test]
fn a_job_array_of_a_slurm_cluster_of_two_nodes_makes_a_night() {
    let folder = folder_with(SIMULATED);
    let story = r#"
        "$0" campaign run small.toml --runs 4 --engine slurm || exit
        until [ -z "$(squeue -h)" ]; do sleep 0.2; done
        scontrol show jobs -o | grep -o ' NodeList=[^ ]*' | sort -u
        "$0" campaign collect; echo "ended $?""#;
    let cluster = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/slurm-cluster");
    let made = Command::new(cluster)
        .args(["sh", "-c", story, env!("CARGO_BIN_EXE_slotstorm")])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = text(&made);
    assert!(said.contains("NodeList=n1") && said.contains("NodeList=n2"), "{said}");
    assert!(said.contains("ended 2"), "{said}");
    assert_eq!(summary(folder.path())["counts"]["valid"], 4, "{said}");
    assert_eq!(processes_of(folder.path()), [""; 0]);
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
