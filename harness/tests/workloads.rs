//! Every workload in a small storm on an unmodified redis-server: its answers hold together, and what does not is explained by
//! a documented loss. Nine of them run inside `mixed`; those with clients of their own kind have a cluster each, at the same time.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A killed master, and one that is cut off from the rest.
const STORM: &str = "seed = 5\nduration_s = 16\nnode_timeout_ms = 1000\nrate = 600\n\
                     [[fault]]\nat = 3\nkind = 'kill'\ntarget = 'master of slot 0'\nrestart_after = 4\n\
                     [[fault]]\nat = 9\nkind = 'isolate'\ntarget = 'master of slot 16000'\nduration = 3\n";

struct Running {
    workload: &'static str,
    folder: tempfile::TempDir,
    child: Child,
}

fn begin(workload: &'static str) -> Running {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("storm.toml"), STORM).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_slotstorm"))
        .args(["run", "storm.toml", "--json", "--sut", common::REDIS_SERVER, "--workload", workload])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    Running { workload, folder, child }
}

struct Ended {
    workload: &'static str,
    verdict: Value,
    run: PathBuf,
    /// Kept while its run is looked at.
    _folder: tempfile::TempDir,
}

impl Running {
    fn end(self) -> Ended {
        let output = self.child.wait_with_output().unwrap();
        let verdict: Value = serde_json::from_slice(&output.stdout).expect("--json prints the verdict");
        assert_eq!(output.status.code(), Some(0), "{}: {}", self.workload, verdict["reason"]);
        let run = std::fs::canonicalize(self.folder.path().join("results/latest")).expect("latest is there");
        Ended { workload: self.workload, verdict, run, _folder: self.folder }
    }
}

impl Ended {
    fn consistency(&self) -> &Value {
        &self.verdict["checks"]["consistency"]
    }

    fn objects(&self) -> Vec<&str> {
        self.consistency()["objects"].as_object().unwrap().keys().map(String::as_str).collect()
    }
}

#[test]
fn every_workload_survives_a_kill_and_a_cut_on_redis_server() {
    let _lock = common::lock::real_processes();
    let running = ["mixed", "replica-reads", "expiry", "wait", "pubsub", "spubsub"].map(begin);
    let [mixed, replica_reads, expiry, wait, pubsub, spubsub] = running.map(Running::end);
    for ended in [&mixed, &replica_reads, &expiry, &wait, &pubsub, &spubsub] {
        let entry = ended.consistency();
        assert_eq!(entry["valid"], Value::Bool(true), "{}: {entry}", ended.workload);
        assert!(ended.verdict["failovers"].as_u64() >= Some(1), "{}", ended.workload);
        let html = std::fs::read_to_string(ended.run.join("report.html")).unwrap();
        assert!(html.contains("Consistency"), "{}: the page has its card", ended.workload);
    }
    assert_eq!(
        mixed.objects(),
        [
            "accounts",
            "counter",
            "keys written together",
            "list",
            "lock",
            "queue",
            "register",
            "set",
            "transactions of lists",
            "transactions of registers"
        ]
    );
    let reads = &replica_reads.consistency()["replica_reads"];
    assert!(reads["reads"].as_u64() > Some(1000), "{reads}");
    assert!(expiry.objects().contains(&"expiring register"), "{:?}", expiry.objects());
    assert!(wait.verdict["checks"]["lost_writes"]["protected"].as_u64() > Some(1000));

    for ended in [&pubsub, &spubsub] {
        let messages = &ended.consistency()["messages"];
        let number = |name: &str| messages[name].as_u64().unwrap();
        assert_eq!(
            (number("subscribers"), number("never_published")),
            (3, 0),
            "{}: {messages}",
            ended.workload
        );
        assert!(number("received") > number("published") && number("missed") > 0, "{messages}");
    }

    let exported = Command::new(env!("CARGO_BIN_EXE_slotstorm"))
        .args(["export", "--edn", mixed.run.to_str().unwrap()])
        .output()
        .unwrap();
    let edn = String::from_utf8(exported.stdout).unwrap();
    for word in [":f :cas", ":f :txn", ":f :transfer", ":f :acquire", ":f :enqueue"] {
        assert!(edn.contains(word), "{word}");
    }
}
