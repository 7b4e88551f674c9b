//! Bad input gets a clear error, never a panic, never unbounded memory, and nothing else in the node suffers.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // real processes and sockets

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use common::lock::real_processes;
use common::servers::{Connection, Kind, Reply, Server, Servers};

/// One embedded node, with a healthy client beside the bad one.
struct Bench {
    servers: Servers,
    healthy: Connection,
}

impl Bench {
    fn new() -> Self {
        let servers = Servers::start(&[Kind::Embedded], 2000);
        let node = &servers.nodes[0];
        node.must(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        servers.until("it serves", Duration::from_secs(10), |s| s.all_ok(1).then_some(()));
        let healthy = servers.nodes[0].connect().expect("it answers");
        Self { servers, healthy }
    }

    fn node(&self) -> &Server {
        &self.servers.nodes[0]
    }

    /// Sends bytes on a fresh client connection; what comes back until the node closes (or 2 s pass).
    fn raw(&self, bytes: &[u8]) -> String {
        exchange(&self.node().address(), bytes)
    }

    fn resident_kb(&self) -> u64 {
        let pid = self.node().info("process_id").expect("INFO has process_id");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// The healthy client was never disturbed.
    #[track_caller]
    fn still_well(&mut self) {
        let reply = self.healthy.ask(&["SET", "k", "v"]).expect("the healthy client is still connected");
        assert_eq!(reply, Reply::SimpleString("OK".into()));
    }
}

fn exchange(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    // The node may close before it has read everything: that is an answer, too.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn broken_requests_get_redis_words_and_their_connection_is_closed() {
    let _lock = real_processes();
    let mut bench = Bench::new();
    let cases: [(&[u8], &str); 6] = [
        (b"*abc\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*3000000000\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\nPING\r\n", "-ERR Protocol error: expected '$', got 'P'\r\n"),
        (b"*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"SET \"k v\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
    ];
    for (bytes, words) in cases {
        assert_eq!(bench.raw(bytes), words, "{:?}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(bench.raw(&vec![b'x'; 70_000]), "-ERR Protocol error: too big inline request\r\n");
    bench.still_well();
}

#[test]
fn announced_bytes_cost_nothing_until_they_come() {
    let _lock = real_processes();
    let mut bench = Bench::new();
    let before = bench.resident_kb();
    let open: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(bench.node().address()).expect("it accepts");
            stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nsome bytes").expect("it reads");
            stream
        })
        .collect();
    bench.still_well();
    let after = bench.resident_kb();
    assert!(after < before + 64 * 1024, "50 announced bulks of 512 MB took {} kB", after - before);
    drop(open);
}

#[test]
fn garbage_on_the_bus_closes_that_link_only() {
    let _lock = real_processes();
    let mut bench = Bench::new();
    let bus = format!("{}:{}", bench.node().ip, bench.node().port + 10000);
    let before = bench.resident_kb();
    // Garbage; a frame that claims 4 GB; one shorter than a header; a truncated one; an HTTP request.
    let mut huge = b"RCmb\xff\xff\xff\xff\x00\x01".to_vec();
    huge.resize(4096, 0);
    let mut short = b"RCmb\x00\x00\x00\x10\x00\x01".to_vec();
    short.resize(64, 0);
    let truncated = b"RCmb\x00\x00\x08\xd0\x00\x01\x18\x6b".to_vec();
    for bytes in [vec![0xA5; 8192], huge, short, truncated, b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        assert_eq!(exchange(&bus, &bytes), "", "nothing is answered to garbage");
    }
    bench.still_well();
    let after = bench.resident_kb();
    assert!(after < before + 32 * 1024, "garbage took {} kB", after.saturating_sub(before));
    let known = bench.node().text(&["CLUSTER", "NODES"]).expect("a table");
    assert_eq!(known.lines().count(), 1, "nobody was learnt from garbage:\n{known}");
}

/// Starts a node that must refuse to run; what it said, and its exit code.
fn refused(args: &[&str]) -> (String, Option<i32>) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_slotstorm")).arg("server").args(args).output().expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.code())
}

#[test]
fn an_unknown_flag_is_named() {
    let (said, code) = refused(&["--port", "7000", "--no-such-flag", "1"]);
    assert!(said.contains("no-such-flag") && said.contains("Bad directive"), "{said}");
    assert_eq!(code, Some(1));
}

#[test]
fn a_taken_port_is_named() {
    let _lock = real_processes();
    let servers = Servers::start(&[Kind::Embedded], 2000);
    let dir = tempfile::tempdir().expect("a directory");
    let ip = servers.nodes[0].ip.as_str();
    let (said, code) =
        refused(&["--bind", ip, "--port", "7000", "--dir", dir.path().to_str().expect("text")]);
    assert!(said.contains("Failed listening on port 7000 (TCP), aborting."), "{said}");
    assert_eq!(code, Some(1));
}

#[test]
fn a_corrupt_nodes_conf_is_refused_and_left_as_it_is() {
    let id = "a".repeat(40);
    let cases = [
        "this is no cluster file\n".to_owned(),
        format!(
            "{id} 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-99999\nvars currentEpoch 1 lastVoteEpoch 0\n"
        ),
        // Cut after a full disk (redis-server 7.0.15 starts on it and forgets its votes, catalogue F-48).
        format!("{id} 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-54"),
        format!(
            "{id} 127.0.0.1:7000@17000 myself,nosuchflag - 0 0 1 connected\nvars currentEpoch 1 lastVoteEpoch 0\n"
        ),
    ];
    for text in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("nodes.conf");
        std::fs::write(&path, &text).expect("it can be written");
        let args = ["--bind", "127.88.7.1", "--port", "7000", "--dir", dir.path().to_str().expect("text")];
        let (said, code) = refused(&args);
        assert!(said.contains("nodes.conf") || said.contains("cluster config"), "{said}");
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(
            std::fs::read_to_string(&path).expect("it is there"),
            text,
            "the file is left for its owner"
        );
    }
}
