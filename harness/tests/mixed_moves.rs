//! Our nodes and redis-server 7.0.15 in one cluster while masters change on purpose, slots move between the kinds and
//! replicas migrate: writers run on, and lose nothing.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // real processes

mod common;

use std::time::{Duration, Instant};

use common::formed::{Plan, form, mixed, until_equal};
use common::load::{Load, LoadOptions, keys_in};
use common::lock::real_processes;
use common::redis_cli::{self, check};
use common::servers::{Kind, Servers};

const SECONDS_30: Duration = Duration::from_secs(30);

/// How our nodes time failovers: their own way, and as the original does.
const TIMINGS: [&str; 2] = ["fast", "redis"];

fn set_timing(servers: &Servers, timing: &str) {
    for node in servers.nodes.iter().filter(|node| node.kind == Kind::Embedded) {
        node.must(&["CONFIG", "SET", "failover-timing", timing]);
    }
}

fn load(servers: &Servers, wait: bool) -> Load {
    let busy = [0, 5461, 10923].into_iter().flat_map(|start: u16| start..start + 60);
    let keys = keys_in(busy, 4);
    let load = Load::start(&servers.addresses(), &keys, &LoadOptions { wait, ..LoadOptions::default() });
    load.until_more(keys.len() as u64);
    load
}

/// `replica` takes over from its master, which becomes its replica.
#[track_caller]
fn manual_failover(servers: &Servers, replica: usize, way: &[&str]) {
    let id = servers.nodes[replica].follows().expect("it is a replica");
    servers.until_known(replica, &id);
    let master = servers.by_id(&id);
    servers.nodes[replica].must(&[&["CLUSTER", "FAILOVER"], way].concat());
    servers.until("the replica is master", SECONDS_30, |s| {
        (s.nodes[replica].info("role").as_deref() == Some("master") && s.nodes[replica].slots() > 0)
            .then_some(())
    });
    servers.until_known(master, &servers.nodes[replica].id());
    servers.until_in_sync(&[master]);
}

fn reshard(servers: &Servers, from: usize, to: usize, count: usize) {
    let before = servers.nodes[to].slots();
    redis_cli::reshard(servers, from, to, count);
    assert_eq!(servers.nodes[to].slots(), before + count);
    // A replica that has not heard of the new owner yet would ask for votes for slots that its master has lost.
    check(&servers.nodes[0].address());
}

#[test]
fn plain_manual_failovers_both_ways_lose_nothing_while_slots_move() {
    for timing in TIMINGS {
        plain_manual_failovers(timing);
    }
}

fn plain_manual_failovers(timing: &str) {
    let _lock = real_processes();
    let servers = mixed();
    set_timing(&servers, timing);
    let load = load(&servers, false);
    reshard(&servers, 0, 1, 50); // ours (its replica is real) to a real one (its replica is ours)
    // The real replica of ours takes over, and ours takes back.
    manual_failover(&servers, 3, &[]);
    load.until_more(300);
    reshard(&servers, 3, 1, 40);
    manual_failover(&servers, 0, &[]);
    load.until_more(300);
    // Our replica of the real one takes over, the real one takes back, and ours once more, as soon as voters may vote
    // about the same master again (two node timeouts): 7.0.15 itself would count the votes of its first election again
    // if it had to stand twice within four (F-01).
    let voted = Instant::now();
    manual_failover(&servers, 4, &[]);
    load.until_more(300);
    reshard(&servers, 0, 4, 40);
    manual_failover(&servers, 1, &[]);
    load.until_more(300);
    std::thread::sleep(Duration::from_secs(5).saturating_sub(voted.elapsed()));
    manual_failover(&servers, 4, &[]);
    load.until_more(500);
    let report = load.stop();
    check(&servers.nodes[2].address());
    report.assert_flawless(&format!("plain manual failovers, timing {timing}"), &servers);
    until_equal(&servers, &[3, 1, 5]);
}

#[test]
fn forced_manual_failovers_both_ways_keep_what_a_replica_confirmed() {
    for timing in TIMINGS {
        forced_manual_failovers(timing);
    }
}

fn forced_manual_failovers(timing: &str) {
    let _lock = real_processes();
    let servers = mixed();
    set_timing(&servers, timing);
    let load = load(&servers, true);
    for way in ["FORCE", "TAKEOVER"] {
        for (replica, master) in [(3, 0), (4, 1)] {
            manual_failover(&servers, replica, &[way]);
            load.until_more(200);
            manual_failover(&servers, master, &[way]);
            load.until_more(200);
        }
    }
    let report = load.stop();
    check(&servers.nodes[2].address());
    let lost = report.assert_protected(&format!("FORCE and TAKEOVER, timing {timing}"), &servers);
    eprintln!("{lost} unprotected writes lost");
    until_equal(&servers, &[3, 4, 5]);
}

#[test]
fn replicas_of_both_kinds_migrate_to_masters_without() {
    use Kind::{Embedded as E, Redis as R};
    let _lock = real_processes();
    // Masters E0, R1, E2. E0 has a replica of each kind to spare; R1 has one; E2 has one.
    let mut servers = form(&Plan {
        kinds: &[E, R, E, R, E, E, R],
        replicas: &[(3, 0), (4, 0), (5, 1), (6, 2)],
        node_timeout_ms: 1000,
        further: |_| vec!["--enable-debug-command", "yes"],
    });
    let load = load(&servers, false);
    // R1 loses its only replica: one of E0's, the one with the smaller id, goes there.
    let spare = smaller_id(&servers, 3, 4);
    let left = if spare == 3 { 4 } else { 3 };
    orphan(&mut servers, 5, spare, 1);
    // The dead replica comes back to R1: now R1 has one to spare, for E0 when that loses its last one.
    servers.nodes[5].spawn();
    servers.nodes[5].wait_ready();
    servers.until_in_sync(&[5]);
    servers.until("all is ok", SECONDS_30, |s| s.all_ok(7).then_some(()));
    let spare = smaller_id(&servers, spare, 5);
    orphan(&mut servers, left, spare, 0);
    let report = load.stop();
    report.assert_flawless("replica migration", &servers);
}

fn smaller_id(servers: &Servers, a: usize, b: usize) -> usize {
    if servers.nodes[a].id() < servers.nodes[b].id() { a } else { b }
}

/// Kills the last replica of `master` and waits until `spare` follows it and has its data.
#[track_caller]
fn orphan(servers: &mut Servers, victim: usize, spare: usize, master: usize) {
    let id = servers.nodes[master].id();
    servers.nodes[victim].kill();
    servers.until("a replica migrates", SECONDS_30, |s| {
        (s.nodes[spare].follows().as_deref() == Some(&id)).then_some(())
    });
    servers.until_in_sync(&[spare]);
}
