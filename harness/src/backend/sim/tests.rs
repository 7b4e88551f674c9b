//! The whole run in virtual time, against a tiny model of a cluster: three shards whose replicas are always
//! equal.
#![allow(clippy::format_collect)] // short texts, and the shortest way to make them

use std::collections::{BTreeMap, BTreeSet};

use redis_protocol::redis_keyslot;
use slotstorm_checker::record::verdict::{Validity, Verdict};
use slotstorm_checker::record::{FaultPhase, FaultStep, NodeInfo, Phase, RunInfo, Sources, read_folder};
use slotstorm_workloads::workload::WorkloadKind;

use super::model::{Model, Modelled, bulk, id};
use super::toy::Toy;
use super::*;
use crate::driver::{Listener, Outcome, Run, Tally};
use crate::observer::{RoleChange, node_name};
use crate::plan::{Plan, StormFile};

const SHARDS: u16 = 3;

/// Nodes 1 to 3 are masters, 4 to 6 their replicas, for ever.
#[derive(Default)]
pub struct ModelCluster {
    data: BTreeMap<String, Vec<String>>,
    writes: u64,
    /// Forgets an element now and then after acknowledging it, if it is to be caught.
    loses_every: Option<u64>,
}

impl ModelCluster {
    fn slots(shard: u16) -> (u16, u16) {
        (shard * 5461, if shard == 2 { 16383 } else { shard * 5461 + 5460 })
    }

    fn shard_of(key: &str) -> u16 {
        (redis_keyslot(key.as_bytes()) / 5461).min(2)
    }

    pub fn reply(&mut self, node: u16, args: &[String]) -> String {
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["CLUSTER", "NODES"] => bulk(&Self::nodes_text(node)),
            ["CLUSTER", "INFO"] => bulk(
                "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n\
                 cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:6\r\ncluster_size:3\r\n\
                 cluster_current_epoch:3\r\ncluster_my_epoch:1\r\n",
            ),
            ["INFO", "server"] => bulk(&format!("# Server\r\nrun_id:{node}\r\n")),
            ["INFO", _] => bulk(&self.replication_text(node)),
            ["CLUSTER", "SLOTS"] => Self::slots_reply(),
            ["READONLY"] => "+OK\r\n".into(),
            [command, key, rest @ ..] => {
                let write = !matches!(*command, "SMEMBERS" | "LRANGE");
                Self::moved(node, key, write).unwrap_or_else(|| self.on_key(command, key, rest))
            }
            other => format!("-ERR unknown {other:?}\r\n"),
        }
    }

    /// The answer of a node that has not the key, nor a copy of it for a read.
    pub fn moved(node: u16, key: &str, write: bool) -> Option<String> {
        let owner = Self::shard_of(key) + 1;
        let here = node == owner || (!write && node == owner + SHARDS);
        (!here).then(|| format!("-MOVED {} 127.1.1.{owner}:6379\r\n", redis_keyslot(key.as_bytes())))
    }

    fn on_key(&mut self, command: &str, key: &str, rest: &[&str]) -> String {
        let list = self.data.entry(key.to_owned()).or_default();
        match (command, rest) {
            ("SADD" | "RPUSH", [element]) => {
                self.writes += 1;
                if self.loses_every.is_none_or(|n| !self.writes.is_multiple_of(n)) {
                    list.push((*element).to_owned());
                }
                format!(":{}\r\n", if command == "SADD" { 1 } else { list.len() })
            }
            ("SMEMBERS" | "LRANGE", _) => {
                let members: String = list.iter().map(|member| bulk(member)).collect();
                format!("*{}\r\n{members}", list.len())
            }
            _ => "-ERR unknown command\r\n".into(),
        }
    }

    fn nodes_text(asked: u16) -> String {
        (1..=2 * SHARDS)
            .map(|node| {
                let myself = if node == asked { "myself," } else { "" };
                let (role, master, slots) = if node <= SHARDS {
                    let (first, last) = Self::slots(node - 1);
                    ("master", "-".to_owned(), format!(" {first}-{last}"))
                } else {
                    ("slave", id(node - SHARDS), String::new())
                };
                let at = format!("127.1.1.{node}:6379@16379");
                format!("{} {at} {myself}{role} {master} 0 0 1 connected{slots}\n", id(node))
            })
            .collect()
    }

    fn replication_text(&self, node: u16) -> String {
        let role = if node <= SHARDS {
            "role:master\r\nconnected_slaves:1\r\n".to_owned()
        } else {
            format!(
                "role:slave\r\nmaster_host:127.1.1.{}\r\nmaster_port:6379\r\nmaster_link_status:up\r\n",
                node - SHARDS
            )
        };
        let (ids, offset) = ("a".repeat(40), self.writes);
        format!(
            "{role}master_replid:{ids}\r\nmaster_replid2:{ids}\r\nmaster_repl_offset:{offset}\r\nsecond_repl_offset:-1\r\n"
        )
    }

    fn slots_reply() -> String {
        let shards: String = (0..SHARDS)
            .map(|shard| {
                let (first, last) = Self::slots(shard);
                let member = |node: u16| {
                    format!("*3\r\n{}:6379\r\n{}", bulk(&format!("127.1.1.{node}")), bulk(&id(node)))
                };
                let (master, replica) = (member(shard + 1), member(shard + 1 + SHARDS));
                format!("*4\r\n:{first}\r\n:{last}\r\n{master}{replica}")
            })
            .collect();
        format!("*{SHARDS}\r\n{shards}")
    }
}

impl Model for ModelCluster {
    fn answer(&mut self, node: u16, words: &[String]) -> Option<String> {
        Some(self.reply(node, words))
    }
}

struct Silent;

impl Listener for Silent {
    fn phase(&self, _: Nanos, _: Phase) {}
    fn fault(&self, _: Nanos, _: &FaultStep) {}
    fn role(&self, _: &RoleChange) {}
    fn tick(&self, _: Nanos, _: &Tally) {}
}

/// Runs a storm file's text in virtual time.
fn storm(text: &str, cluster: ModelCluster) -> (Outcome, Vec<Event>, String) {
    let (outcome, history, _) = storm_and_views(text, cluster);
    let events = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (outcome, events, history)
}

fn storm_and_views(text: &str, cluster: ModelCluster) -> (Outcome, String, String) {
    storm_on(text, Modelled::new(cluster))
}

fn storm_on(text: &str, servers: impl Servers) -> (Outcome, String, String) {
    let plan = Rc::new(Plan::from_file(StormFile::parse("storm.toml", text).unwrap(), 1).unwrap());
    let executor = Executor::new();
    let options = SimOptions { nodes: 6, seed: plan.seed, latency_ns: 50_000, jitter_ns: 100_000 };
    let world = SimWorld::new(executor.clone(), options, servers);
    let run = Run {
        world: world.clone(),
        plan,
        nodes: nodes(),
        listener: Rc::new(Silent),
        interrupted: Rc::new(|| false),
    };
    let outcome = executor.run(run.carry_out()).expect("no deadlock").expect("the harness works");
    (outcome, world.history(), world.views())
}

fn nodes() -> Vec<NodeInfo> {
    let node = |node| NodeInfo {
        name: node_name(node),
        id: id(node),
        shard: u32::from((node - 1) % SHARDS),
        master: node <= SHARDS,
        slots: vec![ModelCluster::slots((node - 1) % SHARDS)],
        ..NodeInfo::default()
    };
    (1..=6).map(node).collect()
}

fn elements(events: &[Event], wanted: impl Fn(&Event) -> Option<Vec<u64>>) -> BTreeSet<u64> {
    events.iter().filter_map(wanted).flatten().collect()
}

fn acknowledged(events: &[Event]) -> BTreeSet<u64> {
    elements(events, |event| match &event.body {
        Body::Add(op) | Body::Append(op) if event.kind == Kind::Ok => op.value.map(|value| vec![value]),
        _ => None,
    })
}

fn finally_read(events: &[Event]) -> BTreeSet<u64> {
    elements(events, |event| match &event.body {
        Body::Read(op) if event.kind == Kind::Ok && op.is_final => op.elements.clone(),
        _ => None,
    })
}

#[test]
fn a_storm_in_virtual_time_twice_with_the_same_seed_gives_the_same_bytes() {
    for workload in ["set", "append"] {
        let text = format!("workload = '{workload}'\nseed = 11\nduration_s = 30\nnode_timeout_ms = 1000\n");
        let (outcome, _, first) = storm(&text, ModelCluster::default());
        let (_, _, second) = storm(&text, ModelCluster::default());
        assert!(first == second, "{workload}: the histories differ");
        assert_eq!(outcome.not_converged, None);
        let (_, _, other) = storm(&text.replace("11", "12"), ModelCluster::default());
        assert!(first != other, "{workload}: another seed is another run");
    }
}

#[test]
fn all_that_was_acknowledged_is_read_at_the_end_and_what_a_server_forgets_is_not() {
    let (_, events, _) = storm("seed = 3", ModelCluster::default());
    let (acked, read) = (acknowledged(&events), finally_read(&events));
    assert!(acked.len() > 40_000, "{}", acked.len());
    assert!(acked.is_subset(&read));
    let forgetful = ModelCluster { loses_every: Some(10_000), ..ModelCluster::default() };
    let (_, events, _) = storm("seed = 3", forgetful);
    assert!(!acknowledged(&events).is_subset(&finally_read(&events)));
}

#[test]
fn a_paused_shard_holds_up_its_own_operations_and_no_others() {
    let text = "duration_s = 10\n[[fault]]\nat = 2\nkind = 'pause'\ntarget = 'node n1'\nduration = 5\n";
    let (_, events, _) = storm(text, ModelCluster::default());
    let second = 1_000_000_000;
    let ok_by = |node: &str| {
        let in_pause =
            |event: &&Event| event.kind == Kind::Ok && (3 * second..6 * second).contains(&event.time);
        let by = |event: &&Event| match &event.body {
            Body::Add(op) | Body::Read(op) => op.node.as_deref() == Some(node),
            _ => false,
        };
        events.iter().filter(in_pause).filter(by).count()
    };
    assert_eq!(ok_by("n1"), 0);
    assert!(ok_by("n2") > 800 && ok_by("n3") > 800, "{} {}", ok_by("n2"), ok_by("n3"));
    let unknown =
        events.iter().filter(|event| event.kind == Kind::Info && !matches!(event.process, Process::Other(_)));
    let retired: BTreeSet<_> = unknown.map(|event| (event.process, event.index)).collect();
    assert!(retired.len() > 500, "what was sent to n1 is unknown");
    for (process, index) in retired {
        let after = events.iter().find(|event| event.process == process && event.index > index);
        assert_eq!(after, None, "a process is retired after info");
    }
}

#[test]
fn every_step_of_the_schedule_is_recorded_with_what_it_touched() {
    let (_, events, _) = storm("seed = 5", ModelCluster::default());
    let steps: Vec<&FaultStep> = events
        .iter()
        .filter_map(|e| if let Body::Fault(step) = &e.body { Some(step) } else { None })
        .collect();
    let plan = Plan::from_file(StormFile::parse("x", "seed = 5").unwrap(), 1).unwrap();
    for planned in plan.schedule() {
        let of_this: Vec<_> = steps.iter().filter(|step| step.fault == Some(planned.number)).collect();
        assert_eq!(of_this.len(), 2, "{planned:?}");
        assert_eq!((of_this[0].phase, of_this[1].phase), (FaultPhase::Start, FaultPhase::End));
        assert_eq!(of_this[0].planned, Some(planned.at + 10_000_000), "the clients began 10 ms in");
        assert!(!of_this[0].actions.is_empty() && of_this[1].vacuous.is_none());
        if of_this[0].name == "isolate" {
            assert!(of_this[1].touched.unwrap().held_bytes > 0);
        }
    }
}

/// The default storm on these servers, for so many seconds, judged.
fn judged(workload: &str, seconds: u32, servers: impl Servers) -> Verdict {
    let text = format!("workload = '{workload}'\nseed = 9\nduration_s = {seconds}\n");
    let (_, history, views) = storm_on(&text, servers);
    let info = RunInfo {
        seed: 9,
        nodes: nodes(),
        masters: 3,
        replicas: 1,
        node_timeout_ms: 2000,
        duration_s: f64::from(seconds),
        clients: 10,
        rate: 1000.0,
        workload: workload.into(),
        converge_bound_s: 30.0,
        directives: [("appendonly".to_owned(), "yes".to_owned())].into(),
        ..RunInfo::default()
    };
    let run = serde_json::to_string(&info).unwrap();
    let sources = Sources {
        run: &run,
        history: history.as_bytes(),
        views: views.as_bytes(),
        stream: std::io::empty(),
        bus: None::<std::io::Empty>,
    };
    slotstorm_checker::judge(&read_folder(sources).unwrap())
}

/// Every workload's operations, its client, its record and its check: a right server's answers hold together through kills,
/// pauses and cuts; one that forgets is found by what its answers contradict.
#[test]
fn every_workload_believes_an_honest_server_and_catches_a_forgetful_one() {
    let kept = |kind: &WorkloadKind| !matches!(kind, WorkloadKind::Pubsub | WorkloadKind::Spubsub);
    for kind in WorkloadKind::ALL.into_iter().filter(kept) {
        let honest = judged(kind.name(), 12, Toy::default());
        let entry = &honest.checks.consistency;
        assert_eq!((honest.exit_code, entry.anomalies), (0, 0), "{kind}: {}", honest.reason);
        assert!(!entry.objects.is_empty() && honest.acknowledged > 5000, "{kind}: {}", entry.told());
        let forgetful = judged(kind.name(), 12, Toy::forgetful(701));
        assert_eq!(forgetful.exit_code, 1, "{kind}: {}", forgetful.reason);
        let entry = &forgetful.checks.consistency;
        assert!(
            entry.valid == Validity::Invalid && entry.excused < entry.anomalies,
            "{kind}: {}",
            entry.told()
        );
    }
}

/// The whole path, from the schedule to the verdict: what a server forgets without any window is found, and
/// only that.
#[test]
fn the_judge_believes_an_honest_server_and_catches_a_forgetful_one() {
    let judged = |cluster| judged("set", 30, Modelled::new(cluster));
    let honest = judged(ModelCluster::default());
    assert_eq!((honest.exit_code, honest.checks.lost_writes.lost), (0, 0), "{}", honest.reason);
    let forgetful = judged(ModelCluster { loses_every: Some(7_000), ..ModelCluster::default() });
    assert_eq!(forgetful.exit_code, 1, "{}", forgetful.reason);
    assert!(forgetful.checks.lost_writes.by_class["unexplained"] > 0, "{}", forgetful.reason);
}
