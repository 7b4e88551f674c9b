//! Every kind of fault on an unmodified redis-server: what it does is seen from outside, in the servers' own words, and
//! so is that it is undone. Several share a storm.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell

mod common;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// A storm that was carried out.
struct Storm {
    _folder: tempfile::TempDir,
    run: PathBuf,
    verdict: Value,
    history: Vec<Value>,
    views: Vec<Value>,
}

const HEAD: &str = "seed = 7\nnode_timeout_ms = 1500\nclients = 4\nrate = 200\n";

impl Storm {
    fn on(sut: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("storm.toml"), format!("{HEAD}{text}")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_slotstorm"))
            .args(["run", "storm.toml", "--sut", sut, "--json"])
            .current_dir(folder.path())
            .output()
            .expect("the binary starts");
        let verdict = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("no verdict: {}", String::from_utf8_lossy(&output.stderr)));
        let run = std::fs::canonicalize(folder.path().join("results/latest")).expect("latest is there");
        let lines = |name: &str| -> Vec<Value> {
            let text = std::fs::read_to_string(run.join(name)).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        Self { verdict, history: lines("history.jsonl"), views: lines("views.jsonl"), run, _folder: folder }
    }

    /// The steps of a kind and phase, with their times in seconds.
    fn steps(&self, name: &str, phase: &str) -> Vec<(f64, &Value)> {
        let fits = |event: &&Value| event["f"] == "fault" && event["name"] == name && event["phase"] == phase;
        self.history.iter().filter(fits).map(|event| (time(event), event)).collect()
    }

    /// When a kind began and ended first.
    fn span(&self, name: &str) -> (f64, f64) {
        let at = |phase| self.steps(name, phase).first().unwrap_or_else(|| panic!("no {phase} of {name}")).0;
        (at("start"), at("end"))
    }

    /// How often this was done in steps of a kind.
    fn acts(&self, name: &str, act: &str) -> usize {
        let steps = ["start", "beat", "end"].into_iter().flat_map(|phase| self.steps(name, phase));
        steps.flat_map(|(_, step)| actions(step)).filter(|action| action["act"] == act).count()
    }

    /// What the nth command of this text was answered (or why it was refused).
    fn answers(&self, command: &str) -> Vec<String> {
        let asked = |event: &Value| -> Vec<String> {
            let told = |action: &Value| {
                let is = action["command"].as_str().is_some_and(|text| text.starts_with(command));
                let refused = action["why"].as_str().filter(|why| why.starts_with(command));
                is.then(|| action["answer"].as_str().unwrap_or_default().to_owned())
                    .or_else(|| refused.map(str::to_owned))
            };
            actions(event).filter_map(told).collect()
        };
        self.history.iter().filter(|event| event["f"] == "fault").flat_map(asked).collect()
    }

    /// How a kind's work ended.
    fn outcomes(&self, name: &str) -> Vec<String> {
        let works = self.steps(name, "beat").into_iter().flat_map(|(_, step)| actions(step));
        works.filter_map(|action| action["outcome"].as_str().map(str::to_owned)).collect()
    }

    /// Some answer of `node` between these times for which `is` holds.
    fn saw(&self, node: &str, (from, to): (f64, f64), is: impl Fn(&Value) -> bool) -> bool {
        let of_it = |view: &&Value| view["node"] == node && (from..to).contains(&time(view));
        self.views.iter().filter(of_it).any(|view| view.get("seen").is_some_and(&is))
    }

    /// `observer` flags `node` as failing (or suspects it) at some time between these.
    fn suspects(&self, observer: &str, node: &str, span: (f64, f64)) -> bool {
        self.saw(observer, span, |seen| {
            let rows = seen["table"].as_array().unwrap();
            rows.iter().any(|row| row["node"] == node && row["flags"].as_str().unwrap().contains("fail"))
        })
    }

    fn log(&self, node: &str) -> String {
        std::fs::read_to_string(self.run.join("logs").join(format!("{node}.log"))).unwrap()
    }

    fn is_whole_at_the_end(&self) {
        let convergence = &self.verdict["checks"]["convergence"];
        assert_eq!(convergence["valid"], Value::Bool(true), "{convergence}");
        assert_ne!(self.verdict["exit_code"], 3, "{}", self.verdict["reason"]);
    }
}

fn time(event: &Value) -> f64 {
    event["time"].as_u64().unwrap() as f64 / 1e9
}

fn actions(step: &Value) -> impl Iterator<Item = &Value> {
    step["actions"].as_array().into_iter().flatten()
}

const PROCESSES_DISKS_AND_LOAD: &str = r#"
duration_s = 52
[[fault]]
at = 2
kind = "slow"
target = "n4"
run = "30 ms"
stop = "120 ms"
duration = 1
[[fault]]
at = 4
kind = "config"
target = "n1"
option = "repl-backlog-size"
value = "32768"
duration = 1
[[fault]]
at = 4.5
kind = "command"
target = "n1"
command = "CONFIG GET repl-backlog-size"
[[fault]]
at = 6
kind = "command"
target = "n1"
command = "CONFIG GET repl-backlog-size"
[[fault]]
at = 7
kind = "slow-command"
target = "n2"
duration = 1
[[fault]]
at = 9
kind = "big-values"
target = "n1"
count = 3
bytes = 500000
duration = 3
[[fault]]
at = 9
kind = "burst"
target = "n2"
rate = 2000
duration = 1
[[fault]]
at = 9
kind = "flood"
target = "n3"
count = 50
duration = 1
[[fault]]
at = 9.7
kind = "command"
target = "n3"
command = "INFO clients"
[[fault]]
at = 11
kind = "read-only"
target = "n5"
duration = 2
[[fault]]
at = 12
kind = "command"
target = "n5"
command = "CLUSTER SAVECONFIG"
[[fault]]
at = 14
kind = "command"
target = "n5"
command = "CLUSTER SAVECONFIG"
[[fault]]
at = 15
kind = "disk-full"
target = "n6"
duration = 2
[[fault]]
at = 16
kind = "command"
target = "n6"
command = "SAVE"
[[fault]]
at = 18
kind = "command"
target = "n6"
command = "SAVE"
[[fault]]
at = 20
kind = "restart-loop"
target = "n4"
up = 0.5
down = 0.3
duration = 2
[[fault]]
at = 25
kind = "wipe"
target = "n5"
restart_after = 0.5
[[fault]]
at = 29
kind = "truncate"
target = "n6"
file = "aof"
permille = 5
restart_after = 0.5
[[fault]]
at = 39
kind = "corrupt"
target = "n5"
file = "rdb"
count = 2
restart_after = 0.5
[[fault]]
at = 33
kind = "crash-all"
restart_after = 0.3
[[fault]]
at = 43
kind = "failover"
target = "n4"
mode = "takeover"
[[fault]]
at = 47
kind = "roll-back-config"
target = "n6"
restart_after = 0.5
[[fault]]
at = 1
kind = "clock-jump"
target = "n1"
offset_ms = 5000
duration = 1
"#;

#[test]
fn processes_disks_and_load() {
    let _lock = common::lock::real_processes();
    let storm = Storm::on(common::REDIS_SERVER, PROCESSES_DISKS_AND_LOAD);

    assert!(storm.acts("slow", "paused") >= 4 && storm.acts("slow", "resumed") >= 4, "it stops and goes");
    let sizes = storm.answers("CONFIG GET repl-backlog-size");
    assert!(sizes[0].ends_with("32768") && sizes[1].ends_with("1048576"), "{sizes:?}");
    let (from, to) = storm.span("slow-command");
    assert!(!storm.saw("n2", (from + 0.3, to - 0.1), |_| true), "it answers nobody while it sleeps");
    assert!(storm.saw("n2", (to, to + 1.0), |_| true), "and wakes");
    assert_eq!(storm.outcomes("big-values"), ["3 of 3 values of 500000 bytes"]);
    assert!(storm.outcomes("burst")[0].ends_with("0 refused"), "{:?}", storm.outcomes("burst"));
    assert_eq!(storm.outcomes("flood"), ["50 of 50 connections stood"]);
    let clients = &storm.answers("INFO clients")[0];
    let connected = clients.lines().find_map(|line| line.strip_prefix("connected_clients:")).unwrap();
    assert!(connected.trim().parse::<u32>().unwrap() >= 50, "{connected}");
    let saved = storm.answers("CLUSTER SAVECONFIG");
    assert!(saved[0].contains("error saving") && saved[1] == "OK", "read-only and not any more: {saved:?}");
    let saved = storm.answers("SAVE");
    // 7.0.15 does not even survive it: SAVE on a full disk ends in an abort.
    let refused = storm.acts("exited", "exited") > 0 || saved.len() == 2 && saved[0] != "OK";
    assert!(refused && saved.last().is_some_and(|answer| answer == "OK"), "full and not any more: {saved:?}");
    assert!(storm.acts("restart-loop", "killed") >= 2 && storm.acts("restart-loop", "started") >= 2);
    let (_, back) = storm.span("wipe");
    assert!(
        storm.saw("n5", (back, back + 3.5), |seen| seen["link_up"] == true),
        "the master gave it all back"
    );
    for kind in ["truncate", "corrupt"] {
        let (_, step) = storm.steps(kind, "start")[0];
        let damaged = actions(step).any(|action| action["act"] == "damaged");
        assert!(damaged || step["vacuous"].as_str().is_some_and(|why| why.contains("there is no")), "{step}");
    }
    assert_eq!((storm.acts("crash-all", "killed"), storm.acts("crash-all", "started")), (6, 6));
    let (_, back) = storm.steps("roll-back-config", "start")[0];
    let what = actions(back).find_map(|action| action["what"].as_str()).expect("its epochs are older now");
    assert!(what.contains("nodes.conf back from (vars currentEpoch"), "{what}");
    let (_, jump) = storm.steps("clock-jump", "start")[0];
    let shifted = actions(jump).any(|action| action["act"] == "clock");
    assert!(shifted || jump["vacuous"].as_str().unwrap().contains("apt install faketime"), "{jump}");
    storm.is_whole_at_the_end();
}

const LINKS_MESSAGES_AND_MEMBERS: &str = r#"
duration_s = 78
[[fault]]
at = 2
kind = "drop-messages"
target = "n3"
to = "n1"
types = ["ping", "pong"]
duration = 3
[[fault]]
at = 8
kind = "majority-ring"
duration = 3
[[fault]]
at = 15
kind = "bridge"
target = "n4"
duration = 3
[[fault]]
at = 23
kind = "flapping"
target = "n5"
down = 0.3
up = 0.2
duration = 2
clients = "both"
[[fault]]
at = 27
kind = "stall"
target = "n6"
duration = 2
permille = 300
stall_ms = 200
[[fault]]
at = 31
kind = "rate"
target = "n6"
duration = 2
bytes_per_s = 20000
[[fault]]
at = 35
kind = "delay-messages"
target = "n2"
types = ["pong"]
delay_ms = 300
duration = 2
[[fault]]
at = 35
kind = "duplicate-messages"
target = "n1"
types = ["ping", "pong"]
duration = 2
[[fault]]
at = 35
kind = "reorder-messages"
target = "n3"
types = ["ping"]
delay_ms = 200
duration = 2
[[fault]]
at = 40
kind = "forget"
target = "n5"
duration = 2
[[fault]]
at = 47
kind = "reshard"
target = "master of slot 0"
slots = 300
[[fault]]
at = 52
kind = "rebalance"
[[fault]]
at = 57
kind = "del-node"
target = "random replica"
[[fault]]
at = 61
kind = "add-node"
[[fault]]
at = 68
kind = "overflow"
target = "master of slot 16383"
bytes = 40000000
duration = 5
"#;

#[test]
fn links_messages_and_members() {
    let _lock = common::lock::real_processes();
    let storm = Storm::on(common::REDIS_SERVER, LINKS_MESSAGES_AND_MEMBERS);

    let (from, to) = storm.span("drop-messages");
    assert!(storm.suspects("n1", "n3", (from, to + 0.5)), "n1 hears nothing of n3");
    assert!(!storm.suspects("n2", "n3", (from, to)), "n2 does");
    assert!(!storm.suspects("n1", "n3", (to + 2.5, to + 3.0)), "n1 again, too");
    for kind in ["majority-ring", "bridge"] {
        let (from, to) = storm.span(kind);
        let all = ["n1", "n2", "n3", "n4", "n5", "n6"];
        let pairs = all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b)));
        let suspected = pairs.filter(|(a, b)| storm.suspects(a, b, (from, to + 0.5))).count();
        assert!(suspected >= 2, "{kind}: {suspected} suspicions");
    }
    assert!(storm.steps("flapping", "beat").len() >= 4);
    for kind in ["flapping", "stall", "rate"] {
        let (_, step) = storm.steps(kind, "end")[0];
        assert!(step["touched"]["passed_bytes"].as_u64().unwrap() > 0 && step["vacuous"].is_null(), "{step}");
    }
    for kind in ["delay-messages", "duplicate-messages", "reorder-messages"] {
        let (_, step) = storm.steps(kind, "end")[0];
        assert!(step["vacuous"].is_null(), "{step}");
    }
    let knows = |seen: &Value| seen["table"].as_array().unwrap().iter().any(|row| row["node"] == "n5");
    let (from, to) = storm.span("forget");
    assert!(storm.saw("n1", (from, to), |seen| !knows(seen)), "n1 forgot n5");
    assert!(storm.saw("n1", (to, to + 4.5), knows), "and met it again");
    assert!(storm.outcomes("reshard")[0].starts_with("300 of 300 slots"), "{:?}", storm.outcomes("reshard"));
    assert!(storm.outcomes("rebalance")[0].contains(" of "), "{:?}", storm.outcomes("rebalance"));
    assert_eq!(storm.outcomes("del-node"), ["it left"]);
    assert!(
        storm.outcomes("add-node")[0].contains("joined as a replica"),
        "{:?}",
        storm.outcomes("add-node")
    );
    let (_, step) = storm.steps("overflow", "start")[0];
    let master = actions(step).find_map(|action| action["node"].as_str()).unwrap();
    assert!(storm.log(master).contains("output buffer limits"), "{:?}", storm.outcomes("overflow"));
    storm.is_whole_at_the_end();
}

#[test]
fn a_voter_stands_before_its_vote_arrives_and_what_was_required_is_known() {
    let _lock = common::lock::real_processes();
    let text = "duration_s = 16\nrequire = ['pause on voter in election', '2 isolate']\n\
                [[fault]]\nat = 3\nkind = 'kill'\ntarget = 'master of slot 0'\nrestart_after = 5\n\
                [[fault]]\non = 'auth-ack'\nkind = 'pause'\ntarget = 'voter'\nduration = 0.5\n";
    let storm = Storm::on(common::REDIS_SERVER, text);
    let (_, pause) = storm.steps("pause", "start")[0];
    assert_eq!(pause["trigger"]["held"], true, "{pause}");
    assert!(pause["trigger"]["what"].as_str().unwrap().starts_with("auth-ack"), "{pause}");
    assert!(storm.verdict["failovers"].as_u64().unwrap() >= 1, "{}", storm.verdict);
    let reached = storm.verdict["coverage"].as_array().unwrap();
    let voter = reached
        .iter()
        .any(|cell| cell["fault"] == "pause" && cell["role"] == "voter" && cell["phase"] == "election");
    assert!(voter, "{reached:?}");
    assert_eq!(storm.verdict["exit_code"], 2, "two isolations did not happen: {}", storm.verdict["reason"]);
    assert!(storm.verdict["reason"].as_str().unwrap().contains("vacuous: 2 isolate"), "{}", storm.verdict);
}

#[test]
fn our_own_node_takes_another_time_while_it_runs() {
    let _lock = common::lock::real_processes();
    let text = "duration_s = 9\n\
                [[fault]]\nat = 1\nkind = 'command'\ntarget = 'n1'\ncommand = 'TIME'\n\
                [[fault]]\nat = 2\nkind = 'clock-jump'\ntarget = 'n1'\noffset_ms = 3600000\nduration = 3\n\
                [[fault]]\nat = 3\nkind = 'command'\ntarget = 'n1'\ncommand = 'TIME'\n\
                [[fault]]\nat = 6\nkind = 'command'\ntarget = 'n1'\ncommand = 'TIME'\n\
                [[fault]]\nat = 7\nkind = 'clock-drift'\ntarget = 'n1'\ndrift_ppm = 500000\nduration = 1\n";
    let storm = Storm::on("embedded", text);
    let seconds: Vec<i64> =
        storm.answers("TIME").iter().map(|answer| answer.lines().next().unwrap().parse().unwrap()).collect();
    assert!((3600..3606).contains(&(seconds[1] - seconds[0])), "an hour ahead: {seconds:?}");
    assert!((4..8).contains(&(seconds[2] - seconds[0])), "and back: {seconds:?}");
    assert_eq!(storm.acts("clock-drift", "clock"), 2);
}
