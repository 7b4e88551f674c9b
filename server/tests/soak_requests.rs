//! A live node under requests at random (`grammar/`) and bytes at random: it does not end, its memory stays bounded, it
//! serves afterwards. What was sent follows from a seed; the last requests before a failure are saved as a script.
//!
//! `scripts/soak-requests` runs it long; here it is short. `SLOTSTORM_SOAK_SEED`, `SLOTSTORM_SOAK_REQUESTS`,
//! `SLOTSTORM_SOAK_BYTES` change what is sent.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a test of processes

mod grammar;
mod side_by_side;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use grammar::{Form, Generator, Keys, Request, forms, quoted};
use side_by_side::{Client, Kind, PORT, Server};
use slotstorm_node::random::Random;

/// Resident memory of the node, at most: its data may have 64 MB, its connections' buffers the rest.
const MOST_MEMORY_MB: u64 = 400;
const CONNECTIONS: usize = 6;
/// Batches of requests between two looks at the node.
const LOOK_EVERY: u64 = 40;
/// So many requests are kept for a report.
const KEPT: usize = 3000;
/// Commands that end the server, stop it, or make it another's replica; and those that name other hosts.
const NEVER: [&str; 6] = ["shutdown", "debug", "replicaof", "slaveof", "failover", "migrate"];
const ARGS: [&str; 18] = [
    "--save",
    "",
    "--maxmemory",
    "64mb",
    "--maxmemory-policy",
    "allkeys-random",
    "--proto-max-bulk-len",
    "1mb",
    "--client-query-buffer-limit",
    "8mb",
    "--client-output-buffer-limit",
    "normal 8mb 0 0 replica 8mb 0 0 pubsub 8mb 0 0",
    "--repl-timeout",
    "5",
    "--repl-backlog-size",
    "1mb",
    "--cluster-enabled",
    "no",
];

fn number(name: &str, short: u64) -> u64 {
    std::env::var(name)
        .map_or(short, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text} is no number")))
}

fn seed() -> u64 {
    number("SLOTSTORM_SOAK_SEED", 1)
}

/// A node under fire, and what was sent last.
struct Target {
    name: &'static str,
    server: Server,
    in_cluster: bool,
    last: VecDeque<String>,
    most_memory_mb: u64,
}

impl Target {
    fn start(name: &'static str, number: u8, in_cluster: bool) -> Self {
        let mut args = ARGS;
        if in_cluster {
            args[ARGS.len() - 1] = "yes";
        }
        let server = Server::start(Kind::Ours, number, &args);
        Self { name, server, in_cluster, last: VecDeque::new(), most_memory_mb: 0 }
    }

    fn open(&mut self) -> TcpStream {
        let stream = TcpStream::connect((&self.server.ip[..], PORT));
        let stream = stream.unwrap_or_else(|error| self.fail(&format!("no connection: {error}")));
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    fn note(&mut self, line: String) {
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Does it answer, with bounded memory?
    fn look(&mut self) {
        let Some(mut client) = Client::connect(&self.server.ip) else { self.fail("it takes no connection") };
        if self.in_cluster && !client.ask("CLUSTER INFO").contains("cluster_slots_ok:16384") {
            for line in ["FLUSHALL", "CLUSTER FLUSHSLOTS", "CLUSTER ADDSLOTSRANGE 0 16383"] {
                client.ask(line);
            }
        }
        let answer = client.ask("PING");
        if !answer.starts_with("+PONG") {
            self.fail(&format!("PING: {answer}"));
        }
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.server.pid())).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap_or(u64::MAX);
        self.most_memory_mb = self.most_memory_mb.max(kib / 1024);
        if kib / 1024 > MOST_MEMORY_MB {
            self.fail(&format!("it holds {} MB", kib / 1024));
        }
    }

    /// Still of use?
    fn serves(&mut self) {
        self.look();
        let mut client = Client::connect(&self.server.ip).unwrap();
        // A node that was given its slots back waits before it takes writes.
        let until = Instant::now() + Duration::from_secs(20);
        while self.in_cluster
            && !client.ask("CLUSTER INFO").contains("cluster_state:ok")
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(100));
        }
        for (asked, answer) in
            [("FLUSHALL", "+OK|"), ("SET {k}s0 v", "+OK|"), ("GET {k}s0", "$1|v|"), ("DBSIZE", ":1|")]
        {
            let got = client.ask(asked);
            if got != answer {
                self.fail(&format!("{asked}: {got}"));
            }
        }
        println!("{}: at most {} MB", self.name, self.most_memory_mb);
    }

    fn fail(&mut self, why: &str) -> ! {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "soak-{}-seed-{}.txt",
            self.name,
            seed()
        ));
        let mut text = format!("# {why}\n");
        for line in &self.last {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{line}");
        }
        std::fs::write(&path, text).unwrap();
        let said = String::from_utf8_lossy(&self.server.file("stderr")).into_owned();
        panic!("{}: {why}; what was sent last: {}\nthe node said: {said}", self.name, path.display());
    }
}

/// Sends all; false if the connection is gone.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.set_nonblocking(false).unwrap();
    stream.write_all(bytes).is_ok()
}

/// Takes what there is; false if the connection is gone.
fn drain(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 65536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

fn encoded(request: &Request) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", request.len()).into_bytes();
    for word in request {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn requests_at(mut target: Target, seed: u64, count: u64) {
    let all: Vec<Form> = forms();
    let keys = if target.in_cluster { Keys::Tagged } else { Keys::Plain };
    let mut generator = Generator::new(seed, all, keys, 20);
    generator.patient = true;
    let commands: Vec<&str> = slotstorm_node::command::TABLE.iter().map(|spec| spec.name).collect();
    let commands: Vec<&str> = commands.into_iter().filter(|name| !NEVER.contains(name)).collect();
    target.look();
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| target.open()).collect();
    let (mut sent, mut batches) = (0, 0_u64);
    while sent < count {
        let at = generator.below(CONNECTIONS as u64) as usize;
        let mut bytes = Vec::new();
        for _ in 0..=generator.below(40) {
            let request = if generator.below(4) == 0 {
                let command = commands[generator.below(commands.len() as u64) as usize];
                generator.nonsense(command)
            } else {
                generator.draw().0
            };
            target.note(format!("# {at}\n{}", quoted(&request)));
            bytes.extend(encoded(&request));
            sent += 1;
        }
        // A connection that waits, listens or is a replica now: others come after it.
        let ended = generator.below(30) == 0;
        if !(send(&mut streams[at], &bytes) && drain(&mut streams[at])) || ended {
            streams[at] = target.open();
        }
        batches += 1;
        if batches.is_multiple_of(LOOK_EVERY) {
            // Those that hear much hear it before their buffers are full.
            for stream in &mut streams {
                if !drain(stream) {
                    *stream = target.open();
                }
            }
            target.look();
            if batches.is_multiple_of(100 * LOOK_EVERY) {
                println!("{}: {sent} of {count}, at most {} MB", target.name, target.most_memory_mb);
            }
        }
    }
    drop(streams);
    target.serves();
}

#[test]
fn a_node_alone_serves_after_requests_at_random() {
    let count = number("SLOTSTORM_SOAK_REQUESTS", 20_000);
    requests_at(Target::start("requests-alone", 70, false), seed(), count / 2);
}

#[test]
fn a_node_of_a_cluster_serves_after_requests_at_random() {
    let count = number("SLOTSTORM_SOAK_REQUESTS", 20_000);
    requests_at(Target::start("requests-cluster", 71, true), seed() + 1000, count / 2);
}

#[test]
fn a_node_serves_after_bytes_at_random() {
    let count = number("SLOTSTORM_SOAK_BYTES", 600_000) as usize;
    let mut target = Target::start("bytes", 72, false);
    let mut random = Random::seeded(seed());
    let mut generator = Generator::new(seed() + 1, forms(), Keys::Plain, 20);
    generator.patient = true;
    let (mut sent, mut pieces) = (0, 0_u64);
    let mut stream = target.open();
    while sent < count {
        let kind = random.below(3);
        let bytes: Vec<u8> = match kind {
            0 => (0..=random.below(2000)).map(|_| random.next_u64() as u8).collect(),
            1 => {
                let signs = b"*$0123456789\r\n\r\n-+:\"' ABCDEFGHIJKLMNOPQRSTUVWXYZ";
                (0..=random.below(2000)).map(|_| signs[random.below(signs.len() as u64) as usize]).collect()
            }
            _ => {
                let mut bytes: Vec<u8> =
                    (0..=random.below(8)).flat_map(|_| encoded(&generator.draw().0)).collect();
                for _ in 0..=random.below(4) {
                    let at = random.below(bytes.len() as u64) as usize;
                    match random.below(3) {
                        0 => bytes[at] ^= 1 << random.below(8),
                        1 => drop(bytes.remove(at)),
                        _ => bytes.insert(at, b"0123456789\r\n*$-"[random.below(15) as usize]),
                    }
                    if bytes.is_empty() {
                        bytes.push(0);
                    }
                }
                bytes
            }
        };
        target.note(format!("# {}", bytes.escape_ascii()));
        sent += bytes.len();
        if !(send(&mut stream, &bytes) && drain(&mut stream)) || random.below(10) == 0 {
            stream = target.open();
        }
        pieces += 1;
        if pieces.is_multiple_of(200) {
            target.look();
        }
    }
    drop(stream);
    target.serves();
}
