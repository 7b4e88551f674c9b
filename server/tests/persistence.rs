//! Files and streams both ways: what our node writes a real redis-server reads, and the other way round, for every
//! type and encoding; Debian's checkers find nothing; replicas of either kind go on after a cut link; FAILOVER.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a test of processes, sockets and files

mod side_by_side;

use std::process::Command;
use std::time::{Duration, Instant};

use side_by_side::{Client, Kind, PORT, Server};

const BASE: [&str; 10] = [
    "--cluster-enabled",
    "no",
    "--save",
    "",
    "--repl-diskless-sync-delay",
    "0",
    "--enable-debug-command",
    "yes",
    "--repl-ping-replica-period",
    "1",
];

fn start(kind: Kind, number: u8, more: &[&str]) -> Server {
    // The real server knows only its own directives, and is alone unless told otherwise.
    let base = BASE.iter().skip(if kind == Kind::Redis { 2 } else { 0 });
    let words: Vec<&str> = base.chain(more).copied().collect();
    Server::start(kind, number, &words)
}

fn start_on_files_of(kind: Kind, number: u8, other: &Server, more: &[&str]) -> Server {
    let base = BASE.iter().skip(if kind == Kind::Redis { 2 } else { 0 });
    let words: Vec<&str> = base.chain(more).copied().collect();
    Server::start_on_files_of(kind, number, &words, other)
}

fn client(server: &Server) -> Client {
    Client::connect(&server.ip).expect("a server that answers")
}

/// A key of every type and encoding, in two databases.
fn fill(client: &mut Client) {
    let long = "long ".repeat(40).replace(' ', "_");
    for line in [
        "SET int 12345",
        "SET short hello",
        &format!("SET long {long}"),
        "SETRANGE hole 100 x",
        "SET expires soon PXAT 4102444800999",
        "RPUSH smalllist a 1 -1 70000 5000000000",
        "SADD ints 1 2 3 100000 -5000000000",
        "SADD words a b c 1",
        "HSET smallhash f v g 2 h -3",
        "ZADD smallzset 1 a 2.5 b -inf c +inf d",
        "PFADD hll a b c d e f",
        "GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
        "SETBIT bits 1000 1",
        "XADD stream 1-1 field value other 2",
        "XADD stream 2-1 field value other 3",
        "XADD stream 3-1 single x",
        "XDEL stream 2-1",
        "XGROUP CREATE stream group 0 ENTRIESREAD 0",
        "XREADGROUP GROUP group alice COUNT 1 STREAMS stream >",
        "XGROUP CREATECONSUMER stream group bob",
        "XADD emptied 5-5 a b",
        "XDEL emptied 5-5",
    ] {
        let reply = client.ask(line);
        assert!(!reply.starts_with('-'), "{line}: {reply}");
    }
    for n in 0..6000 {
        // Several in one go: each is answered before the next question.
        let lines = [
            format!("RPUSH biglist element:{n}"),
            format!("SADD bigset member:{n}"),
            format!("HSET bighash field:{n} value:{n}"),
            format!("ZADD bigzset {n}.5 member:{n}"),
        ];
        for line in lines {
            assert!(client.begin(&line));
        }
        for _ in 0..4 {
            client.finish();
        }
    }
    client.ask("SELECT 9");
    client.ask("SET elsewhere yes");
    client.ask("SELECT 0");
}

/// What is there, digest of the values included.
fn state(client: &mut Client) -> String {
    let mut all = client.ask("DEBUG DIGEST");
    for line in
        ["DBSIZE", "PEXPIRETIME expires", "XINFO STREAM stream", "XPENDING stream group", "LLEN biglist"]
    {
        all.push_str(&client.ask(line));
    }
    for key in [
        "int",
        "smalllist",
        "ints",
        "words",
        "smallhash",
        "smallzset",
        "biglist",
        "bigset",
        "bighash",
        "bigzset",
    ] {
        all.push_str(&client.ask(&format!("OBJECT ENCODING {key}")));
    }
    all
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_there() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn rewrite(client: &mut Client) {
    client.ask("BGREWRITEAOF");
    wait_for("the rewrite ends", || {
        let info = client.ask("INFO persistence");
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    });
}

fn check(program: &str, path: &std::path::Path) {
    let output = Command::new(program).arg(path).output().expect("Debian's redis-tools and redis-server");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

const OTHER: [(Kind, Kind); 2] = [(Kind::Ours, Kind::Redis), (Kind::Redis, Kind::Ours)];

#[test]
fn each_server_loads_the_others_dump() {
    for (number, (writer, reader)) in (1..).zip(OTHER) {
        for compression in ["yes", "no"] {
            let server = start(writer, number, &["--rdbcompression", compression]);
            let mut asked = client(&server);
            fill(&mut asked);
            let before = state(&mut asked);
            assert_eq!(asked.ask("SAVE"), "+OK|");
            check("redis-check-rdb", &server.path().join("dump.rdb"));
            let other = start_on_files_of(reader, number + 50, &server, &[]);
            assert_eq!(state(&mut client(&other)), before, "{writer:?} to {reader:?}, {compression}");
        }
    }
}

#[test]
fn each_server_loads_the_others_append_only_file() {
    for (number, (writer, reader)) in (11..).zip(OTHER) {
        for preamble in ["yes", "no"] {
            let words =
                ["--appendonly", "yes", "--aof-use-rdb-preamble", preamble, "--aof-timestamp-enabled", "yes"];
            let server = start(writer, number, &words);
            let mut asked = client(&server);
            fill(&mut asked);
            rewrite(&mut asked);
            asked.ask("APPEND short more");
            asked.ask("MULTI");
            asked.ask("SELECT 9");
            asked.ask("INCR counted");
            asked.ask("EXEC");
            asked.ask("SELECT 0");
            let before = state(&mut asked);
            let manifest = server.path().join("appendonlydir/appendonly.aof.manifest");
            wait_for("the last commands reach the file", || {
                let status = Command::new("redis-check-aof").arg(&manifest).output().unwrap().status;
                let info = asked.ask("INFO persistence");
                status.success() && info.contains("aof_buffer_length:0")
            });
            let other = start_on_files_of(reader, number + 50, &server, &words);
            assert_eq!(state(&mut client(&other)), before, "{writer:?} to {reader:?}, preamble {preamble}");
        }
    }
}

fn follow(replica: &mut Client, master: &Server) {
    replica.ask(&format!("REPLICAOF {} {PORT}", master.ip));
}

fn wait_in_sync(master: &mut Client, replica: &mut Client) {
    wait_for("the replica has everything", || {
        replica.ask("INFO replication").contains("master_link_status:up")
            && master.ask("INFO replication").contains("state=online")
            && master.ask("DEBUG DIGEST") == replica.ask("DEBUG DIGEST")
    });
}

#[test]
fn replicas_of_either_kind_follow_either_kind_and_go_on_after_a_cut_link() {
    for (number, (first, second)) in (21..).step_by(3).zip([OTHER[0], OTHER[1], (Kind::Ours, Kind::Ours)]) {
        for diskless in ["yes", "no"] {
            let words = ["--repl-diskless-sync", diskless];
            let (master, replica) = (start(first, number, &words), start(second, number + 1, &words));
            let below = start(first, number + 2, &[]);
            let (mut at_master, mut at_replica, mut at_below) =
                (client(&master), client(&replica), client(&below));
            fill(&mut at_master);
            follow(&mut at_replica, &master);
            follow(&mut at_below, &replica);
            wait_in_sync(&mut at_master, &mut at_replica);
            wait_in_sync(&mut at_master, &mut at_below);
            let full = at_master.ask("INFO stats");
            at_master.ask("CLIENT KILL TYPE replica");
            at_master.ask("RPUSH biglist behind-the-cut");
            wait_in_sync(&mut at_master, &mut at_replica);
            wait_in_sync(&mut at_master, &mut at_below);
            let count = |info: &str, name: &str| {
                info.split('|').find(|line| line.starts_with(name)).map(str::to_owned).unwrap_or_default()
            };
            let now = at_master.ask("INFO stats");
            assert_eq!(
                count(&now, "sync_full"),
                count(&full, "sync_full"),
                "{first:?} {second:?} {diskless}"
            );
            assert_ne!(count(&now, "sync_partial_ok"), count(&full, "sync_partial_ok"));
            assert_eq!(at_master.ask("WAIT 1 5000"), ":1|");
            assert_eq!(state(&mut at_master), state(&mut at_below));
        }
    }
}

#[test]
fn a_failover_hands_the_role_over_without_losing_a_write() {
    for (number, (first, second)) in (41..).step_by(2).zip([OTHER[0], OTHER[1], (Kind::Ours, Kind::Ours)]) {
        let (master, replica) = (start(first, number, &[]), start(second, number + 1, &[]));
        let (mut at_master, mut at_replica) = (client(&master), client(&replica));
        at_master.ask("SET a 1");
        assert_eq!(at_master.ask("FAILOVER"), "-ERR FAILOVER requires connected replicas.|");
        follow(&mut at_replica, &master);
        wait_in_sync(&mut at_master, &mut at_replica);
        assert_eq!(at_master.ask("FAILOVER ABORT"), "-ERR No failover in progress.|");
        at_master.ask("SET b 2");
        assert_eq!(at_master.ask(&format!("FAILOVER TO {} {PORT} TIMEOUT 20000", replica.ip)), "+OK|");
        wait_for("the roles are exchanged", || {
            at_replica.ask("ROLE").contains("master") && at_master.ask("ROLE").contains("|connected|")
        });
        at_replica.ask("SET c 3");
        wait_in_sync(&mut at_replica, &mut at_master);
        assert!(at_replica.ask("INFO stats").contains("sync_partial_ok:1"), "{first:?} to {second:?}");
        assert!(at_master.ask("INFO replication").contains("master_failover_state:no-failover"));
    }
}
