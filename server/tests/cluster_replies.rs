//! Beside real redis-server 7.0: every CLUSTER subcommand, redirection and cluster directive gets the same bytes, on a
//! single node and in a cluster of four. What cannot be equal (ids, addresses, times) is masked, nothing else.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets and processes

mod side_by_side;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use side_by_side::{Client, Kind, PORT, Server};

const ARGS: [&str; 10] = [
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "5000",
    "--enable-debug-command",
    "yes",
    "--repl-diskless-sync-delay",
    "0",
    "--repl-ping-replica-period",
    "1",
];

/// Servers of one kind with a client each.
struct Side {
    servers: Vec<Server>,
    clients: Vec<Client>,
    ids: Vec<String>,
}

impl Side {
    fn start(kind: Kind, first: u8, count: u8) -> Self {
        let servers: Vec<Server> = (first..first + count).map(|n| Server::start(kind, n, &ARGS)).collect();
        let mut clients: Vec<Client> =
            servers.iter().map(|server| Client::connect(&server.ip).unwrap()).collect();
        let ids = clients.iter_mut().map(my_id).collect();
        Self { servers, clients, ids }
    }

    /// Sends `{n}`-resolved words to a node; the reply without what cannot be equal.
    fn ask(&mut self, node: usize, line: &str) -> String {
        let mut request = line.to_owned();
        for (n, id) in self.ids.iter().enumerate() {
            request = request.replace(&format!("{{{n}}}"), id);
        }
        let reply = self.clients[node].ask(&request);
        if line.contains("RESET HARD") && reply == "+OK|" {
            self.ids[node] = my_id(&mut self.clients[node]);
        }
        self.masked(line, &reply)
    }

    fn until(&mut self, node: usize, line: &str, text: &str) {
        let until = Instant::now() + Duration::from_secs(30);
        while !self.ask(node, line).contains(text) {
            assert!(Instant::now() < until, "{line} never said {text}: {}", self.ask(node, line));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn masked(&self, line: &str, reply: &str) -> String {
        let mut text = reply.to_owned();
        for (n, (id, server)) in self.ids.iter().zip(&self.servers).enumerate() {
            text = text.replace(id, &format!("<id{n}>")).replace(&server.ip, &format!("<ip{n}>"));
        }
        // The length of a text that holds addresses or counts.
        let text: Vec<&str> = text.split('|').collect();
        if line.ends_with("CLUSTER NODES") || line.contains("REPLICAS") || line.contains("SLAVES") {
            let is_length = |part: &&str| !part.starts_with('$');
            let mut lines: Vec<String> =
                text.into_iter().filter(is_length).flat_map(|part| part.split('\n')).map(node_line).collect();
            lines.sort();
            lines.join("|")
        } else if line.contains("CLUSTER INFO") {
            let kept = text.iter().filter(|part| !part.starts_with('$') && !part.contains("_messages_"));
            kept.copied().collect::<Vec<_>>().join("|")
        } else if line.contains("CLUSTER SHARDS") {
            let text = after(&text, "replication-offset").join("|");
            let mut shards: Vec<&str> = text.split("*4|$5|slots|").collect();
            shards.sort_unstable();
            shards.join("*4|$5|slots|")
        } else if line.starts_with("CONFIG GET") {
            let mut pairs: Vec<String> = text[1..].chunks(4).map(|pair| pair.join("|")).collect();
            pairs.sort();
            format!("{}|{}", text[0], pairs.join("|"))
        } else {
            text.join("|")
        }
    }
}

/// Without the times of ping and pong.
fn node_line(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    if words.len() >= 8 {
        words[4] = "_";
        words[5] = "_";
    }
    words.join(" ")
}

/// The number behind each `name` is masked.
fn after<'a>(parts: &[&'a str], name: &str) -> Vec<&'a str> {
    let follows = |n: usize| n > 0 && parts[n - 1] == name;
    parts.iter().enumerate().map(|(n, part)| if follows(n) { ":_" } else { part }).collect()
}

fn my_id(client: &mut Client) -> String {
    client.ask("CLUSTER MYID").split('|').nth(1).unwrap().to_owned()
}

/// Runs a script on both sides; what differs.
fn differences(script: &str, mut redis: Side, mut ours: Side, many: bool) -> String {
    let mut found = String::new();
    for line in script.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (node, line) = if many { line.split_once(' ').unwrap() } else { ("0", line) };
        let node = node.parse().unwrap();
        if let Some((line, text)) = line.strip_prefix("until ").and_then(|rest| rest.split_once(" ~ ")) {
            redis.until(node, line, text);
            ours.until(node, line, text);
            continue;
        }
        let (expected, got) = (redis.ask(node, line), ours.ask(node, line));
        if expected != got {
            // Writing to a string cannot fail.
            let _ = write!(found, "\n{node} {line}\n  redis {expected}\n  ours  {got}");
        }
    }
    found
}

#[test]
fn a_single_node_answers_every_cluster_request_alike() {
    let redis = Side::start(Kind::Redis, 11, 1);
    let ours = Side::start(Kind::Ours, 12, 1);
    let found = differences(include_str!("cluster-single.txt"), redis, ours, false);
    assert!(found.is_empty(), "{found}");
}

#[test]
fn a_cluster_of_four_answers_every_cluster_request_alike() {
    let (redis, ours) = (four(Kind::Redis, 20), four(Kind::Ours, 30));
    let found = differences(include_str!("cluster-four.txt"), redis, ours, true);
    assert!(found.is_empty(), "{found}");
}

/// Three masters and a replica of the first, in sync.
fn four(kind: Kind, first: u8) -> Side {
    let mut side = Side::start(kind, first, 4);
    for (node, slots) in ["0 5460", "5461 10922", "10923 16383"].into_iter().enumerate() {
        side.ask(node, &format!("CLUSTER ADDSLOTSRANGE {slots}"));
    }
    for node in 0..4 {
        side.ask(node, &format!("CLUSTER SET-CONFIG-EPOCH {}", node + 1));
    }
    let meet = format!("CLUSTER MEET {} {PORT}", side.servers[0].ip);
    for node in 1..4 {
        side.ask(node, &meet);
    }
    for node in 0..4 {
        side.until(node, "CLUSTER INFO", "cluster_known_nodes:4");
        side.until(node, "CLUSTER INFO", "cluster_state:ok");
    }
    side.until(3, "CLUSTER REPLICATE {0}", "+OK");
    for node in 0..4 {
        let replica = format!("<ip3>|:{PORT}|$40|<id3>");
        side.until(node, "CLUSTER SLOTS", &replica);
    }
    side
}

/// A master of one kind and its replica of the other: messages of PUBLISH and SPUBLISH cross the bus both ways.
#[test]
fn messages_cross_the_bus_of_a_mixed_shard_both_ways() {
    for (master, replica, first) in [(Kind::Ours, Kind::Redis, 40), (Kind::Redis, Kind::Ours, 50)] {
        let (mut a, mut b) = (Side::start(master, first, 1), Side::start(replica, first + 1, 1));
        a.ask(0, "CLUSTER ADDSLOTSRANGE 0 16383");
        b.ask(0, &format!("CLUSTER MEET {} {PORT}", a.servers[0].ip));
        a.until(0, "CLUSTER INFO", "cluster_known_nodes:2");
        let id = a.ids[0].clone();
        b.until(0, &format!("CLUSTER REPLICATE {id}"), "+OK");
        a.until(0, "CLUSTER SLOTS", &b.servers[0].ip);
        for side in [&mut a, &mut b] {
            side.until(0, "CLUSTER INFO", "cluster_state:ok");
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let sides = [&mut a, &mut b];
            let mut listener = Client::connect(&sides[to].servers[0].ip).unwrap();
            assert!(listener.ask("SSUBSCRIBE ch").contains("ssubscribe"));
            assert!(listener.ask("SUBSCRIBE news").contains("subscribe"));
            let mut heard = String::new();
            let until = Instant::now() + Duration::from_secs(20);
            while !(heard.contains("smessage|$2|ch|$5|shard") && heard.contains("message|$4|news|$3|all")) {
                assert!(Instant::now() < until, "{from} to {to}: {heard}");
                sides[from].clients[0].ask("SPUBLISH ch shard");
                sides[from].clients[0].ask("PUBLISH news all");
                heard += &listener.ask("PING x");
            }
        }
        for side in [&mut a, &mut b] {
            let info = side.clients[0].ask("CLUSTER INFO");
            for line in ["publishshard_sent", "publishshard_received", "publish_sent", "publish_received"] {
                assert!(info.contains(&format!("cluster_stats_messages_{line}:")), "{line}: {info}");
            }
        }
    }
}

/// `CONFIG SET` of cluster directives is kept by CONFIG REWRITE and read at the next start, on both sides alike.
#[test]
fn a_rewritten_config_keeps_the_cluster_directives() {
    for (kind, number) in [(Kind::Redis, 60), (Kind::Ours, 61)] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.conf");
        std::fs::write(&file, "cluster-enabled yes\nenable-debug-command yes\n").unwrap();
        let file = file.to_str().unwrap();
        let settings = [
            ("cluster-node-timeout", "7000"),
            ("cluster-migration-barrier", "2"),
            ("cluster-replica-validity-factor", "3"),
            ("cluster-require-full-coverage", "no"),
            ("cluster-replica-no-failover", "yes"),
            ("cluster-allow-replica-migration", "no"),
            ("cluster-allow-reads-when-down", "yes"),
            ("cluster-allow-pubsubshard-when-down", "no"),
            ("cluster-link-sendbuf-limit", "1048576"),
            ("cluster-announce-ip", "10.1.2.3"),
            ("cluster-announce-port", "7001"),
            ("cluster-announce-bus-port", "17001"),
            ("cluster-announce-hostname", "node.example.org"),
            ("cluster-preferred-endpoint-type", "hostname"),
        ];
        {
            let server = Server::start_with_file(kind, number, file);
            let mut client = Client::connect(&server.ip).unwrap();
            for (name, value) in settings {
                assert_eq!(client.ask(&format!("CONFIG SET {name} {value}")), "+OK|", "{kind:?} {name}");
            }
            assert_eq!(client.ask("CONFIG REWRITE"), "+OK|", "{kind:?}");
        }
        // The first server's directory went with it.
        let text = std::fs::read_to_string(file).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("dir ")).collect();
        std::fs::write(file, kept.join("\n")).unwrap();
        let server = Server::start_with_file(kind, number, file);
        let mut client = Client::connect(&server.ip).unwrap();
        for (name, value) in settings {
            let got = client.ask(&format!("CONFIG GET {name}"));
            assert!(got.ends_with(&format!("|{value}|")), "{kind:?} {name}: {got}");
        }
    }
}
