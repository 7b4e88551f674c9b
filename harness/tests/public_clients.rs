//! A cluster of `slotstorm server` nodes as public tools see it: redis-cli forms it, redis-cli, redis-benchmark and
//! redis-py work on it through a kill -9 of a master.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // real processes

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::lock::real_processes;
use common::servers::{Kind, Servers, program, python, run};

const REDIS_CLI: &str = "/usr/bin/redis-cli";
const REDIS_BENCHMARK: &str = "/usr/bin/redis-benchmark";

/// Six embedded nodes, made a cluster by redis-cli.
fn cluster() -> Servers {
    let servers = Servers::start(&[Kind::Embedded; 6], 2000);
    let mut args: Vec<String> = vec!["--cluster".into(), "create".into()];
    args.extend(servers.addresses());
    args.extend(["--cluster-replicas", "1", "--cluster-yes"].map(String::from));
    let said = run(program(REDIS_CLI), &args);
    assert!(said.contains("[OK] All 16384 slots covered."), "{said}");
    servers.until("every node is ok", Duration::from_secs(20), |s| s.all_ok(6).then_some(()));
    servers
}

#[test]
fn redis_cli_forms_a_cluster_and_follows_redirections() {
    let _lock = real_processes();
    let servers = cluster();
    let first = &servers.nodes[0];
    let cli = |args: &[&str]| {
        let mut all = vec!["-c", "-h", first.ip.as_str(), "-p", "7000"];
        all.extend(args);
        run(REDIS_CLI, &all)
    };
    for key in ["a", "b", "c", "d", "e"] {
        assert_eq!(cli(&["SET", key, "1"]).trim(), "OK");
        assert_eq!(cli(&["GET", key]).trim(), "1");
    }
    let check = run(REDIS_CLI, &["--cluster", "check", &first.address()]);
    assert!(check.contains("[OK] All nodes agree about slots configuration."), "{check}");
    let info = run(REDIS_CLI, &["--cluster", "info", &first.address()]);
    assert!(info.contains("[OK] 5 keys in 3 masters."), "{info}");
}

#[test]
fn redis_benchmark_loads_every_master_before_and_after_a_failover() {
    let _lock = real_processes();
    let mut servers = cluster();
    benchmark(&servers);
    servers.nodes[1].kill();
    servers.until("another node has the dead master's slots", Duration::from_secs(20), |s| {
        let masters = s.nodes.iter().filter(|node| node.info("role").as_deref() == Some("master")).count();
        (masters == 3).then_some(())
    });
    benchmark(&servers);
}

/// Every test of redis-benchmark whose commands the node has, spread over the masters.
#[track_caller]
fn benchmark(servers: &Servers) {
    let ip = servers.nodes[0].ip.as_str();
    let tests = "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,lrange_100,mset";
    let args = ["-h", ip, "-p", "7000", "--cluster", "-t", tests, "-n", "3000", "-c", "20", "-P", "4", "-q"];
    let said = run(program(REDIS_BENCHMARK), &args);
    assert!(!said.contains("rror"), "{said}");
    for test in ["SET", "GET", "LPUSH", "SADD", "HSET", "MSET"] {
        assert!(said.contains(test), "{said}");
    }
}

#[test]
fn redis_py_works_through_a_kill_of_a_master() {
    let _lock = real_processes();
    let mut servers = cluster();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/redis_py_client.py");
    let mut client = Command::new(python())
        .args([script, &servers.nodes[0].ip, "7000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut lines = BufReader::new(client.stdout.take().expect("its output")).lines();
    let mut line = || lines.next().expect("the client goes on").expect("text");
    assert_eq!(line(), "writing");
    servers.nodes[1].kill();
    client.stdin.take().expect("its input").write_all(b"killed\n").expect("it listens");
    assert_eq!(line(), "recovered");
    assert_eq!(line(), "read back");
    assert!(client.wait().expect("it ends").success());
}
