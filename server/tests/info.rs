//! INFO beside a real redis-server 7.0: the same sections and fields in the same order, the same counts of commands and
//! errors, and memory that stays below its limit.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // tests of sockets and processes

mod side_by_side;

use side_by_side::{Client, Kind, Server};

const ARGS: [&str; 8] =
    ["--cluster-enabled", "no", "--save", "", "--appendonly", "yes", "--enable-debug-command", "yes"];

fn both(number: u8, args: &[&str]) -> ([Server; 2], [Client; 2]) {
    let servers = [Server::start(Kind::Redis, number, args), Server::start(Kind::Ours, number + 1, args)];
    let clients = [0, 1].map(|which: usize| Client::connect(&servers[which].ip).unwrap());
    (servers, clients)
}

/// Headings and names of fields, without those that only one of us has, and the number of commands' lines.
fn names(info: &str) -> Vec<String> {
    let ours_only = ["slotstorm_version"];
    let (counted, others): (Vec<&str>, Vec<&str>) = info
        .split('|')
        .skip(1)
        .partition(|line| line.starts_with("cmdstat_") || line.starts_with("latency_"));
    // Redis shows commands in the order of a hash table.
    let counted: std::collections::BTreeSet<&str> = counted.into_iter().collect();
    let lines =
        others.into_iter().chain(counted).map(|line| line.split(':').next().unwrap_or_default().to_owned());
    lines.filter(|name| !ours_only.contains(&&**name) && !name.is_empty()).collect()
}

#[test]
fn the_sections_and_fields_are_those_of_redis() {
    for (number, cluster) in [(1, "no"), (3, "yes")] {
        let mut args = ARGS;
        args[1] = cluster;
        let (_servers, mut clients) = both(number, &args);
        for line in ["SELECT 0", "CONFIG RESETSTAT", "GET a", "NONSENSE", "GET", "DEBUG SET-ACTIVE-EXPIRE 1"]
        {
            for client in &mut clients {
                client.ask(line);
            }
        }
        for line in [
            "INFO",
            "INFO default",
            "INFO all",
            "INFO everything",
            "INFO server",
            "INFO Memory CPU",
            "INFO none",
            "INFO keyspace default",
            "INFO modules",
            "INFO commandstats latencystats errorstats",
            "INFO persistence stats",
            "INFO replication clients",
        ] {
            let [redis, ours] = clients.each_mut().map(|client| names(&client.ask(line)));
            assert_eq!(ours, redis, "{line}, cluster {cluster}");
        }
    }
}

/// The lines of a section, without times.
fn counts(info: &str) -> Vec<String> {
    let known = |line: &str| line.contains("calls=") || line.contains("count=");
    let untimed = |line: &str| {
        let parts = line.split(',').filter(|part| !part.starts_with("usec"));
        parts.collect::<Vec<_>>().join(",")
    };
    let mut counts: Vec<String> = info.split('|').filter(|line| known(line)).map(untimed).collect();
    counts.sort();
    counts
}

#[test]
fn calls_refusals_failures_and_errors_are_counted_as_by_redis() {
    let (servers, mut clients) = both(11, &ARGS);
    for client in &mut clients {
        client.ask("CONFIG RESETSTAT");
    }
    for line in [
        "SET a 1",
        "SET a",
        "LPUSH a 1",
        "INCR a",
        "GET a",
        "GET a b",
        "NONSENSE",
        "CONFIG GET save",
        "CONFIG NONE",
        "CLIENT GETNAME",
        "EXPIRE a x",
        "MULTI",
        "INCR a",
        "LPUSH a 1",
        "SET",
        "EXEC",
        "MULTI",
        "INCR a",
        "LPUSH a 1",
        "EXEC",
        "XGROUP CREATE s g x",
        "BLPOP a 1",
        "BLPOP none 0.01",
        "WATCH a",
        "DISCARD",
        "EXEC",
        "SELECT 99",
        "OBJECT NONE a",
        "DEL a",
    ] {
        let [redis, ours] = clients.each_mut().map(|client| client.ask(line));
        assert_eq!(ours, redis, "{line}");
    }
    // Served by another client.
    let mut waiting = [0, 1].map(|which: usize| Client::connect(&servers[which].ip).unwrap());
    for client in &mut waiting {
        client.begin("BRPOP q 0");
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    for client in &mut clients {
        client.ask("RPUSH q 1");
    }
    for client in &mut waiting {
        client.finish();
    }
    for line in ["INFO commandstats", "INFO errorstats"] {
        let [redis, ours] = clients.each_mut().map(|client| counts(&client.ask(line)));
        assert_eq!(ours, redis, "{line}");
    }
}

fn number(info: &str, name: &str) -> u64 {
    let line = info.split('|').find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {info}"))
}

#[test]
fn memory_stays_below_its_limit_and_who_follows_loses_the_same_keys() {
    for (at, policy) in
        ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl"].iter().enumerate()
    {
        let number_of = 21 + 2 * at as u8;
        let args = [&ARGS[..], &["--maxmemory-policy", policy, "--repl-diskless-sync-delay", "0"]].concat();
        let master = Server::start(Kind::Ours, number_of, &args);
        let replica = Server::start(Kind::Redis, number_of + 1, &args);
        let mut client = Client::connect(&master.ip).unwrap();
        let mut follower = Client::connect(&replica.ip).unwrap();
        follower.ask(&format!("REPLICAOF {} {}", master.ip, side_by_side::PORT));
        let limit = number(&client.ask("INFO memory"), "used_memory") + 3_000_000;
        client.ask(&format!("CONFIG SET maxmemory {limit}"));
        for key in 0..8000 {
            client.ask(&format!("SELECT {}", key % 3));
            let reply = client.ask(&format!("SET key:{key} {key:0500} EX 1000"));
            assert_eq!(reply, "+OK|", "{policy}");
        }
        let used = number(&client.ask("INFO memory"), "used_memory");
        assert!(used <= limit + 100_000, "{policy}: {used} of {limit}");
        assert!(number(&client.ask("INFO stats"), "evicted_keys") > 1000, "{policy}");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while client.ask("DEBUG DIGEST") != follower.ask("DEBUG DIGEST") {
            assert!(std::time::Instant::now() < until, "{policy}: the replica holds something else");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        // Nothing may go: only then is a write refused, and a read is not.
        client.ask("CONFIG SET maxmemory-policy noeviction");
        client.ask("CONFIG SET maxmemory 1000");
        assert!(
            client
                .ask("SET one more")
                .starts_with("-OOM command not allowed when used memory > 'maxmemory'.")
        );
        assert_eq!(client.ask("GET one"), "$-1|");
        assert_eq!(client.ask("DEL one"), ":0|");
    }
}
