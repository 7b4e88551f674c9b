//! A cluster of three `slotstorm server` and three redis-server 7.0.15 nodes: a master of each kind is killed, a replica
//! of the other kind takes over, and the old master comes back as a replica and holds the data.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // real processes

mod common;

use std::time::Duration;

use common::formed::mixed;
use common::lock::real_processes;
use common::servers::{Reply, Server, Servers};

const SECONDS_20: Duration = Duration::from_secs(20);

/// Sets a key on whoever owns its slot, following one redirection; true if acknowledged.
fn set(servers: &Servers, key: &str, value: &str) -> bool {
    let ask = |node: &Server| node.ask(&["SET", key, value]);
    let Some(start) = servers.nodes.iter().find_map(ask) else { return false };
    match start {
        Reply::SimpleString(_) => true,
        Reply::Error(error) if error.starts_with("MOVED") => {
            let to = error.rsplit(' ').next().unwrap_or_default().to_owned();
            let owner = servers.nodes.iter().find(|node| node.address() == to);
            matches!(owner.and_then(ask), Some(Reply::SimpleString(_)))
        }
        _ => false,
    }
}

fn keys() -> impl Iterator<Item = String> {
    (0..300).map(|i| format!("key:{i}"))
}

/// Kills `master`, waits until `replica` is master of its slots, writes on, brings `master` back and compares.
fn fail_over(servers: &mut Servers, master: usize, replica: usize, value: &str) {
    servers.nodes[master].kill();
    servers.until("the replica takes over", SECONDS_20, |s| {
        (s.nodes[replica].info("role").as_deref() == Some("master")).then_some(())
    });
    servers.until("every key takes writes again", SECONDS_20, |s| {
        keys().all(|key| set(s, &key, value)).then_some(())
    });
    servers.nodes[master].spawn();
    servers.nodes[master].wait_ready();
    servers.until("the old master is a replica", SECONDS_20, |s| {
        let ours = s.nodes[master].info("role").as_deref() == Some("slave");
        (ours && s.nodes[master].info("master_link_status").as_deref() == Some("up")).then_some(())
    });
    let new = servers.nodes[replica].info("master_repl_offset").expect("an offset");
    servers.until("the old master has caught up", SECONDS_20, |s| {
        let old = s.nodes[master].info("master_repl_offset")?.parse::<u64>().ok()?;
        (old >= new.parse::<u64>().ok()?).then_some(())
    });
    // A replica answers reads once its own view of the cluster is ok.
    servers.until("the cluster is whole", SECONDS_20, |s| s.all_ok(6).then_some(()));
    let mut old = servers.nodes[master].connect().expect("it answers");
    old.ask(&["READONLY"]).expect("it answers");
    let replies: Vec<Reply> = keys().map(|key| old.ask(&["GET", &key]).expect("it answers")).collect();
    let held = replies.iter().filter(|reply| **reply == Reply::BulkString(value.to_owned().into())).count();
    let Reply::Integer(size) = servers.nodes[replica].must(&["DBSIZE"]) else { panic!("DBSIZE is a number") };
    assert_eq!(held as i64, size, "the old master holds every key of its successor: {:?}", &replies[..5]);
}

#[test]
fn masters_of_both_kinds_fail_over_to_replicas_of_the_other() {
    let _lock = real_processes();
    let mut servers = mixed();
    assert!(keys().all(|key| set(&servers, &key, "first")));
    for (timing, [first, second]) in [("fast", [(0, 3), (1, 4)]), ("redis", [(3, 0), (4, 1)])] {
        for (master, replica) in [first, second] {
            for embedded in [0, 2, 4] {
                servers.nodes[embedded].must(&["CONFIG", "SET", "failover-timing", timing]);
            }
            fail_over(&mut servers, master, replica, &format!("{timing} {master}"));
        }
    }
}
