//! A redis-server master and its replica with the proxy between them: the tap's offsets against the servers' own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use slotstorm_fabric::{StreamEvent, StreamWhat};

use super::*;

const BINARY: &str = "/usr/bin/redis-server";

/// A redis-server that dies with its test.
struct Redis {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Redis {
    fn start(address: SocketAddr, more: &[&str]) -> Self {
        assert!(Path::new(BINARY).exists(), "this test needs Debian's redis-server: {BINARY}");
        let dir = tempfile::tempdir().unwrap();
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let mut child = Command::new(BINARY)
            .args(["--bind", &ip, "--port", &port, "--bind-source-addr", &ip, "--save", "", "--dir"])
            .arg(dir.path())
            .args(["--repl-diskless-sync-delay", "0", "--protected-mode", "no"])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stdout.take().unwrap());
        let mut lines = log.lines().map_while(Result::ok);
        assert!(
            lines.any(|line| line.contains("Ready to accept")),
            "redis-server did not start on {address}"
        );
        // It blocks when nobody reads what it says.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _dir: dir }
    }

    /// One command (words without spaces), its first reply line or bulk.
    fn ask(&self, command: &str) -> String {
        let mut stream = patient(TcpStream::connect(self.address).unwrap());
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    fn info(&self, field: &str) -> String {
        let info = self.ask("INFO replication");
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    }

    fn offset(&self) -> u64 {
        self.info("master_repl_offset").parse().unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn elements(events: &[StreamEvent]) -> Vec<(u64, u64)> {
    let found = events.iter().filter_map(|event| match &event.what {
        StreamWhat::Elements { elements } => Some(elements.clone()),
        _ => None,
    });
    found.flatten().collect()
}

/// The master is n2, behind the proxy; the replica is n1 and dials from its own address.
fn replicate(net: u8, diskless: &str) {
    let bench = Bench::new(net);
    let at = bench.server.local_addr().unwrap();
    let (listen, listen_bus) = (bench.listen, bench.listen_bus);
    drop(bench);
    let clock = Instant::now();
    let routes = vec![Route { listen, target: at, to: N2, bus: false }];
    let callers = BTreeMap::from([(IpAddr::V4(ip(net, 1)), N1)]);
    let proxy = Proxy::start(ProxyOptions { routes, callers, seed: 0, clock }).unwrap();
    let master = Redis::start(at, &["--repl-diskless-sync", diskless]);
    master.ask("SADD before e1 e2");
    let via = [listen.ip().to_string(), listen.port().to_string()];
    let replica = Redis::start(free(ip(net, 1)), &["--replicaof", &via[0], &via[1]]);
    let mut events = Vec::new();
    let mut until = |what: &str, holds: &dyn Fn(&[StreamEvent]) -> bool| {
        let begun = Instant::now();
        while !holds(&events) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {events:?}");
            std::thread::sleep(Duration::from_millis(5));
            events.extend(proxy.stream_events());
        }
    };
    until("in sync", &|_| {
        replica.info("master_link_status") == "up" && master.info("slave0").contains("online")
    });

    // Each write's offset is the master's own right after it (nothing else writes, and no ping falls due in between).
    let mut wanted = Vec::new();
    for i in 0..30 {
        let element = 1000 + i;
        let before = master.offset();
        master.ask(&match i % 3 {
            0 => format!("SADD k{i} e{element}"),
            1 => format!("RPUSH k{i} e{element}"),
            _ => format!("SREM before e{element} e1"),
        });
        let offset = master.offset();
        if i % 3 != 2 || i == 2 {
            assert!(offset > before);
            wanted.push((element, offset));
        }
    }
    let last = *wanted.last().unwrap();
    until("the last element", &|events| elements(events).contains(&last));
    let mut seen = elements(&events);
    // SREM of e1 names e1 too.
    seen.retain(|&(element, _)| element >= 1000);
    assert_eq!(seen, wanted);

    // A cut of the replication plane alone, both ways, with writes behind it: the link breaks, then goes on by PSYNC.
    let cut = |policy| {
        let one = |from, to| LinkChange { from, to, planes: vec![Plane::Replication], policy };
        wait(proxy.apply(vec![one(N1, N2), one(N2, N1)])).unwrap()
    };
    cut(Policy::Blackhole { on_heal: OnHeal::Reset });
    master.ask("SADD behind e5000");
    let behind = (5000, master.offset());
    std::thread::sleep(QUIET);
    assert!(!replica.ask("EXISTS behind").contains(":1"));
    let held = wait(proxy.touched(&[(N2, N1)], false)).unwrap().held_bytes;
    assert!(held > 0);
    cut(Policy::Pass);
    let mut until = |what: &str, holds: &dyn Fn(&[StreamEvent]) -> bool| {
        let begun = Instant::now();
        while !holds(&events) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {events:?}");
            std::thread::sleep(Duration::from_millis(5));
            events.extend(proxy.stream_events());
        }
    };
    until("the write behind the cut", &|events| elements(events).contains(&behind));
    until("partial sync", &|events| events.iter().any(|e| matches!(e.what, StreamWhat::Continue { .. })));
    drop(replica);
    until("the end", &|events| {
        events.iter().filter(|e| matches!(e.what, StreamWhat::End { .. })).count() == 2
    });

    let replid = master.info("master_replid");
    let bases: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.what {
            StreamWhat::Full { replid, .. } | StreamWhat::Continue { replid, .. } => Some(replid.clone()),
            StreamWhat::Lost { why } => panic!("{why}"),
            _ => None,
        })
        .collect();
    assert_eq!(bases, [replid.clone(), replid]);
    let ends: Vec<_> = events.iter().filter(|e| matches!(e.what, StreamWhat::End { .. })).collect();
    assert_eq!(ends[1].what, StreamWhat::End { offset: master.offset() });
    assert!(events.iter().all(|event| (event.from, event.to) == (N2, N1)));
    assert_ne!(listen_bus, listen);
}

#[test]
fn the_taps_offsets_are_the_servers_own_after_a_transfer_from_disk() {
    replicate(30, "no");
}

#[test]
fn the_taps_offsets_are_the_servers_own_after_a_diskless_transfer() {
    replicate(31, "yes");
}
