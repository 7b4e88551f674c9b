//! A redis-server master and its replica with the proxy between them: the tap's offsets against the servers'
//! own.

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
struct Pair {
    proxy: ProxyHandle,
    master: Redis,
    replica: Redis,
    seen: Vec<StreamEvent>,
}

impl Pair {
    fn in_sync(net: u8, diskless: &str) -> Self {
        let (listen, target) = (free(ip(net, 102)), free(ip(net, 2)));
        let proxy = Proxy::start(ProxyOptions {
            routes: vec![Route { listen, target, to: N2, bus: false }],
            callers: BTreeMap::from([(IpAddr::V4(ip(net, 1)), N1)]),
            seed: 0,
            clock: Instant::now(),
            bus: None,
        });
        let master = Redis::start(target, &["--repl-diskless-sync", diskless]);
        master.ask("SADD before e1 e2");
        let via = [listen.ip().to_string(), listen.port().to_string()];
        let replica = Redis::start(free(ip(net, 1)), &["--replicaof", &via[0], &via[1]]);
        let mut pair = Self { proxy: proxy.unwrap(), master, replica, seen: Vec::new() };
        pair.until("in sync", |pair| {
            pair.replica.info("master_link_status") == "up" && pair.master.info("slave0").contains("online")
        });
        pair
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", self.seen);
            std::thread::sleep(Duration::from_millis(5));
            self.seen.extend(self.proxy.stream_events());
        }
    }

    /// Writes on the master; answers its offset right after. Nothing else writes, and no ping falls due in
    /// between.
    fn write(&self, command: &str) -> u64 {
        let before = self.master.offset();
        self.master.ask(command);
        let after = self.master.offset();
        assert!(after > before, "{command} was not propagated");
        after
    }

    fn replication(&self, policy: Policy) {
        let one = |from, to| LinkChange { from, to, planes: vec![Plane::Replication], policy };
        wait(self.proxy.apply(vec![one(N1, N2), one(N2, N1)])).unwrap();
    }

    fn ends(&self) -> Vec<u64> {
        let end = |event: &StreamEvent| match event.what {
            StreamWhat::End { offset } => Some(offset),
            _ => None,
        };
        self.seen.iter().filter_map(end).collect()
    }
}

/// Every write is seen with the master's own offset: after the full sync, behind a cut, and after the partial
/// one.
fn follow(net: u8, diskless: &str) {
    let mut pair = Pair::in_sync(net, diskless);
    let mut wanted = Vec::new();
    for e in 1000..1020 {
        let offset = pair.write(&format!("{} e{e}", if e % 2 == 0 { "SADD set" } else { "RPUSH list" }));
        wanted.push((e, offset));
    }
    wanted.push((2, pair.write("SREM before e2")));
    // After a diskless transfer the master sends nothing before the first ACK: a cut before that would hold
    // nothing.
    pair.until("all writes", |pair| elements(&pair.seen).last() == wanted.last());

    pair.replication(Policy::Blackhole { on_heal: OnHeal::Reset });
    wanted.push((5000, pair.write("SADD behind e5000")));
    std::thread::sleep(QUIET);
    assert!(pair.replica.ask("EXISTS behind").contains(":0"));
    assert!(wait(pair.proxy.touched(&[(N2, N1)], false)).unwrap().held_bytes > 0);
    pair.replication(Policy::Pass);
    pair.until("the write behind the cut", |pair| elements(&pair.seen).last() == wanted.last());
    assert_eq!(elements(&pair.seen), wanted);

    pair.replica.child.kill().unwrap();
    pair.until("both ends", |pair| pair.ends().len() == 2);
    assert_eq!(pair.ends()[1], pair.master.offset());
    let bases = pair.seen.iter().filter_map(|event| match &event.what {
        StreamWhat::Full { replid, .. } => Some(("full", replid.clone())),
        StreamWhat::Continue { replid, .. } => Some(("continue", replid.clone())),
        StreamWhat::Lost { why } => panic!("{why}"),
        _ => None,
    });
    let replid = pair.master.info("master_replid");
    assert_eq!(bases.collect::<Vec<_>>(), [("full", replid.clone()), ("continue", replid)]);
    assert!(pair.seen.iter().all(|event| (event.from, event.to) == (N2, N1)));
}

#[test]
fn the_taps_offsets_are_the_servers_own_after_a_transfer_from_disk() {
    follow(30, "no");
}

#[test]
fn the_taps_offsets_are_the_servers_own_after_a_diskless_transfer() {
    follow(31, "yes");
}
