//! Beside a real redis-server 7.0: the same requests get the same bytes, and both kinds form one cluster.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets and processes

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PORT: u16 = 7000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Redis,
}

/// A server process on an address of its own.
struct Server {
    kind: Kind,
    ip: String,
    args: Vec<String>,
    dir: TempDir,
    child: Child,
}

impl Server {
    fn start(kind: Kind, ip: &str, args: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let port = PORT.to_string();
        let mut all: Vec<String> =
            ["--bind", ip, "--bind-source-addr", ip, "--port", &port, "--protected-mode", "no"]
                .into_iter()
                .chain(args.iter().copied())
                .map(str::to_owned)
                .collect();
        all.extend(["--dir".to_owned(), dir.path().to_string_lossy().into_owned()]);
        let child = Self::spawn(kind, &all);
        let server = Self { kind, ip: ip.to_owned(), args: all, dir, child };
        server.wait_until_it_answers();
        server
    }

    fn spawn(kind: Kind, args: &[String]) -> Child {
        let program = match kind {
            Kind::Redis => "redis-server".into(),
            Kind::Ours => {
                let tests = std::env::current_exe().unwrap();
                tests.parent().unwrap().with_file_name("examples").join("node")
            }
        };
        let spawned = Command::new(&program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        spawned.unwrap_or_else(|error| {
            panic!(
                "{} is needed: {error} (Debian: redis-server; ours: cargo build --example node)",
                program.display()
            )
        })
    }

    fn wait_until_it_answers(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while Client::connect(&self.ip).is_none_or(|mut client| client.ask("PING") != "+PONG|") {
            assert!(Instant::now() < until, "{:?} does not answer on {}", self.kind, self.ip);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = Self::spawn(self.kind, &self.args);
        self.wait_until_it_answers();
    }

    fn ask(&self, line: &str) -> String {
        Client::connect(&self.ip).map_or_else(String::new, |mut client| client.ask(line))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = &self.dir;
    }
}

struct Client(TcpStream);

impl Client {
    fn connect(ip: &str) -> Option<Self> {
        let address = format!("{ip}:{PORT}").parse().unwrap();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        Some(Self(stream))
    }

    /// Sends a line and reads what comes until a PING behind it is answered; `|` stands for a line's end.
    fn ask(&mut self, line: &str) -> String {
        let mark = "mark-of-the-end";
        let request = format!("{line}\r\nECHO {mark}\r\n");
        let mut got = Vec::new();
        let end = format!("${}\r\n{mark}\r\n", mark.len());
        let mut buffer = [0; 65536];
        if self.0.write_all(request.as_bytes()).is_err() {
            return "(closed)".to_owned();
        }
        while !got.ends_with(end.as_bytes()) {
            match self.0.read(&mut buffer) {
                Ok(read) if read > 0 => got.extend_from_slice(&buffer[..read]),
                _ => return format!("{}(closed)", String::from_utf8_lossy(&got).replace("\r\n", "|")),
            }
        }
        got.truncate(got.len() - end.len());
        String::from_utf8_lossy(&got).replace("\r\n", "|")
    }
}

#[test]
fn replies_are_the_same_byte_for_byte() {
    let args = ["--cluster-enabled", "no", "--save", ""];
    let ours = Server::start(Kind::Ours, "127.21.8.1", &args);
    let redis = Server::start(Kind::Redis, "127.21.8.2", &args);
    let mut ours = Client::connect(&ours.ip).unwrap();
    let mut redis = Client::connect(&redis.ip).unwrap();
    let mut differences = String::new();
    for line in include_str!("requests.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (expected, got) = (redis.ask(line), ours.ask(line));
        if expected != got {
            // Writing to a string cannot fail.
            let _ = write!(differences, "\n{line}\n  redis {expected}\n  ours  {got}");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn broken_requests_get_the_same_errors() {
    let args = ["--cluster-enabled", "no", "--save", ""];
    let ours = Server::start(Kind::Ours, "127.21.8.3", &args);
    let redis = Server::start(Kind::Redis, "127.21.8.4", &args);
    let long = "x".repeat(70_000);
    for bytes in [
        "*x\r\n",
        "*3000000000\r\n",
        "*1\r\nPING\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n$536870913\r\n",
        "SET \"a\r\n",
        "SET 'a'b\r\n",
        &long,
        &format!("*{long}"),
        &format!("*1\r\n${long}"),
    ] {
        let replies = [&redis, &ours].map(|server| {
            let mut client = Client::connect(&server.ip).unwrap();
            client.0.write_all(bytes.as_bytes()).unwrap();
            let mut reply = Vec::new();
            let _ = client.0.read_to_end(&mut reply);
            String::from_utf8_lossy(&reply).into_owned()
        });
        assert_eq!(replies[0], replies[1], "{}", &bytes[..20.min(bytes.len())]);
        assert!(replies[0].starts_with("-ERR Protocol error"), "{replies:?}");
    }
}

/// Waits for something to become true.
fn until(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_mixed_cluster_survives_the_death_of_a_master_of_each_kind() {
    let args = [
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "2000",
        "--appendonly",
        "yes",
        "--repl-diskless-sync-delay",
        "0",
        "--cluster-allow-replica-migration",
        "no",
    ];
    // Masters: ours, redis, ours. The replica of each is of the other kind.
    let kinds = [Kind::Ours, Kind::Redis, Kind::Ours, Kind::Redis, Kind::Ours, Kind::Redis];
    let mut nodes: Vec<Server> = kinds
        .iter()
        .enumerate()
        .map(|(index, kind)| Server::start(*kind, &format!("127.21.9.{}", index + 1), &args))
        .collect();
    for (index, (from, to)) in [(0, 5460), (5461, 10_922), (10_923, 16_383)].into_iter().enumerate() {
        assert_eq!(nodes[index].ask(&format!("CLUSTER ADDSLOTSRANGE {from} {to}")), "+OK|");
    }
    for (index, node) in nodes.iter().enumerate() {
        assert_eq!(node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1)), "+OK|");
    }
    for node in &nodes[1..] {
        assert_eq!(node.ask(&format!("CLUSTER MEET 127.21.9.1 {PORT}")), "+OK|");
    }
    let known = |node: &Server| node.ask("CLUSTER INFO").contains("cluster_known_nodes:6|");
    until("all know all", 20, || nodes.iter().all(known));
    for index in 0..3 {
        let id = nodes[index].ask("CLUSTER MYID");
        let id = id.split('|').nth(1).unwrap().to_owned();
        until("REPLICATE", 10, || nodes[index + 3].ask(&format!("CLUSTER REPLICATE {id}")) == "+OK|");
    }
    let has = |node: &Server, text: &str| node.ask("INFO").contains(text);
    until("replicas in sync", 20, || nodes[3..].iter().all(|node| has(node, "master_link_status:up")));
    until("cluster ok", 20, || {
        nodes.iter().all(|node| node.ask("CLUSTER INFO").contains("cluster_state:ok"))
    });
    // One key in each shard: slots 865, 5598 ("bar" is 5061, so take what is known), 12182.
    let keys = [("bar", 0), ("hello", 0), ("foo", 2)];
    for (key, shard) in keys {
        assert_eq!(nodes[shard].ask(&format!("SET {key} before")), "+OK|", "{key}");
    }
    let second = "{user1000}x"; // slot 3443: the first shard too; the second gets a key of slot 8363
    assert_eq!(nodes[0].ask(&format!("SADD {second} a b c")), ":3|");
    assert_eq!(nodes[1].ask("RPUSH foo{}{bar} a b c"), ":3|");
    std::thread::sleep(Duration::from_millis(300));
    for (master, replica, question, answer) in
        [(0, 3, "GET bar", "$6|before|"), (1, 4, "LRANGE foo{}{bar} 0 -1", "*3|$1|a|$1|b|$1|c|")]
    {
        nodes[master].kill();
        until("takeover", 20, || nodes[replica].ask(question) == answer);
        nodes[master].restart();
        until("the old master is a replica", 20, || {
            has(&nodes[master], "role:slave") && has(&nodes[master], "master_link_status:up")
        });
        let mut client = Client::connect(&nodes[master].ip).unwrap();
        assert_eq!(client.ask("READONLY"), "+OK|");
        assert_eq!(client.ask(question), answer, "the old master holds the data");
    }
}
