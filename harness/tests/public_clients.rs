//! A cluster of `slotstorm server` nodes as public tools see it: redis-cli forms it, redis-cli, redis-benchmark and
//! redis-py and redis-rs work on it through a reshard and a kill -9 of a master.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // real processes

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::lock::real_processes;
use common::redis_cli::{REDIS_CLI, check, reshard};
use common::routed::Routed;
use common::servers::{Kind, Server, Servers, program, python, run, texts};

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
fn redis_benchmark_runs_through_a_reshard() {
    let _lock = real_processes();
    let servers = cluster();
    let ip = servers.nodes[0].ip.clone();
    // No MSET: its keys may be here and there for a moment, and redis-benchmark takes TRYAGAIN for the end.
    let tests = "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,lrange";
    // Its progress would fill a pipe that nobody reads.
    let mut file = tempfile::tempfile().expect("a temporary file");
    let out = || file.try_clone().expect("one more handle");
    let mut benchmark = Command::new(program(REDIS_BENCHMARK))
        .args([
            "-h",
            &ip,
            "-p",
            "7000",
            "--cluster",
            "-t",
            tests,
            "-n",
            "20000",
            "-r",
            "2000",
            "-c",
            "20",
            "-q",
        ])
        .stdin(Stdio::null())
        .stdout(out())
        .stderr(out())
        .spawn()
        .expect("redis-benchmark runs");
    let mut reshards = 0;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = benchmark.try_wait().expect("it can be waited for") {
            break status;
        }
        if begun.elapsed() > Duration::from_secs(120) {
            benchmark.kill().expect("it runs");
        }
        let (from, to) = [(0, 1), (1, 2), (2, 0)][reshards % 3];
        reshard(&servers, from, to, 100);
        check(&servers.nodes[0].address());
        reshards += 1;
    };
    file.rewind().expect("a file");
    let mut said = String::new();
    file.read_to_string(&mut said).expect("text");
    assert!(status.success() && !said.contains("rror"), "{said}");
    assert!(said.contains("LRANGE_600"), "{said}");
    assert!(reshards > 0, "nothing was moved");
    eprintln!("{reshards} reshards of 100 slots during one redis-benchmark");
    check(&servers.nodes[0].address());
}

/// What a public client did: elements appended to lists, when each was acknowledged, and what went wrong.
#[derive(Default)]
struct Account {
    acked: BTreeMap<String, Vec<(u64, SystemTime)>>,
    /// Errors that an application should try again.
    errors: Vec<String>,
    /// Others.
    foreign: Vec<String>,
}

impl Account {
    /// No foreign error; each acknowledged element is in its list, once and in order, unless the killed master
    /// acknowledged it in the last second before the kill and no replica had it yet.
    #[track_caller]
    fn judge(&self, client: &str, servers: &Servers, killed_at: SystemTime) {
        let count: usize = self.acked.values().map(Vec::len).sum();
        assert!(self.foreign.is_empty(), "{client}: {:?}", self.foreign);
        assert!(count > 1000, "{client}: only {count} writes were acknowledged");
        let seeds: Vec<String> =
            servers.nodes.iter().filter(|node| node.runs()).map(Server::address).collect();
        let mut reader = Routed::new(&seeds, 0);
        let mut lost = 0;
        for (key, acked) in &self.acked {
            let reply = reader.call(key.as_bytes(), &["LRANGE", key, "0", "-1"], &AtomicBool::new(false));
            let found: Vec<u64> = texts(&reply.expect("it can be read"))
                .iter()
                .map(|element| element.parse().expect("a number"))
                .collect();
            assert!(found.is_sorted_by(|a, b| a < b), "{client}: {key}: twice or out of order: {found:?}");
            for (element, at) in acked.iter().filter(|(element, _)| !found.contains(element)) {
                let window = killed_at - Duration::from_secs(1)..=killed_at + Duration::from_millis(100);
                assert!(window.contains(at), "{client}: {key} lost {element}");
                lost += 1;
            }
        }
        let errors = self.errors.len();
        eprintln!("{client}: {count} writes, {errors} errors to be tried again, {lost} lost with the master");
    }
}

/// Kills a master of `servers` and waits until its slots have another; when it was killed.
fn kill_a_master(servers: &mut Servers) -> SystemTime {
    servers.nodes[1].kill();
    let at = SystemTime::now();
    servers.until("another node has the dead master's slots", Duration::from_secs(20), |s| {
        (s.masters().len() == 3 && s.nodes.iter().filter(|node| node.runs()).all(state_ok)).then_some(())
    });
    at
}

fn state_ok(node: &Server) -> bool {
    node.text(&["CLUSTER", "INFO"]).is_some_and(|info| info.contains("cluster_state:ok"))
}

#[test]
fn redis_py_works_through_a_reshard_and_a_kill_of_a_master() {
    let _lock = real_processes();
    let mut servers = cluster();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/redis_py_client.py");
    let mut client = Command::new(python())
        .args([script, &servers.nodes[0].ip, "7000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut orders = client.stdin.take().expect("its input");
    let mut lines = BufReader::new(client.stdout.take().expect("its output")).lines();
    let mut line = || lines.next().expect("the client goes on").expect("text");
    assert_eq!(line(), "writing");
    reshard(&servers, 0, 1, 500);
    orders.write_all(b"mark\n").expect("it listens");
    assert_eq!(line(), "marked 0", "a reshard shows no error to the application");
    let killed_at = kill_a_master(&mut servers);
    std::thread::sleep(Duration::from_secs(1));
    orders.write_all(b"end\n").expect("it listens");
    let told: serde_json::Value = serde_json::from_str(&line()).expect("JSON");
    assert!(client.wait().expect("it ends").success());

    let texts = |name: &str| serde_json::from_value(told[name].clone()).expect("texts");
    let acked: BTreeMap<String, Vec<(u64, f64)>> =
        serde_json::from_value(told["acked"].clone()).expect("elements and times");
    let time = |(element, at)| (element, SystemTime::UNIX_EPOCH + Duration::from_secs_f64(at));
    let acked =
        acked.into_iter().map(|(key, elements)| (key, elements.into_iter().map(time).collect())).collect();
    let account = Account { acked, errors: texts("errors"), foreign: texts("foreign") };
    account.judge("redis-py", &servers, killed_at);
}

#[test]
fn redis_rs_works_through_a_reshard_and_a_kill_of_a_master() {
    let _lock = real_processes();
    let mut servers = cluster();
    let nodes: Vec<String> = servers.addresses().iter().map(|address| format!("redis://{address}")).collect();
    let (stop, errors) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let writer = std::thread::spawn({
        let (stop, errors) = (Arc::clone(&stop), Arc::clone(&errors));
        move || redis_rs_writer(nodes, &stop, &errors)
    });
    reshard(&servers, 0, 1, 500);
    assert_eq!(errors.load(Ordering::Relaxed), 0, "a reshard shows no error to the application");
    let killed_at = kill_a_master(&mut servers);
    std::thread::sleep(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer does not panic").judge("redis-rs", &servers, killed_at);
}

/// Appends to lists without pause until told to stop; counts its errors as they come.
fn redis_rs_writer(nodes: Vec<String>, stop: &AtomicBool, errors: &AtomicUsize) -> Account {
    let client = redis::cluster::ClusterClient::builder(nodes)
        .connection_timeout(Duration::from_secs(2))
        .response_timeout(Duration::from_secs(2))
        .build()
        .expect("addresses");
    let mut connection = client.get_connection().expect("a connection");
    let mut account = Account::default();
    for element in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("rs:{}", element % 300);
        match redis::cmd("RPUSH").arg(&key).arg(element).query::<u64>(&mut connection) {
            Ok(_) => account.acked.entry(key).or_default().push((element, SystemTime::now())),
            Err(error) => {
                errors.fetch_add(1, Ordering::Relaxed);
                let retry = error.is_io_error() || error.is_cluster_error() || error.is_timeout();
                let list = if retry { &mut account.errors } else { &mut account.foreign };
                list.push(format!("{:?}: {error}", error.kind()));
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    account
}
