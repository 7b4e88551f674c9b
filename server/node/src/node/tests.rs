//! The node as its shell and clients see it: a tiny shell with a disk that the test controls.

mod blocking;
mod migrate;
mod scripts;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::*;
use crate::io::{DiskError, DiskOp, Plane, WallMs};

/// A node, its effects, and a disk that works when it is told to.
struct Bench {
    node: Node,
    now: Now,
    effects: Effects,
    /// Disk effects that were asked for and not answered.
    disk: Vec<(Ticket, DiskOp)>,
    /// Files that are there when they are read.
    files: BTreeMap<String, String>,
    /// Connections that the node asked for and made, and those that it closed.
    dials: Vec<(ConnId, SocketAddr)>,
    closes: Vec<ConnId>,
    connections: u64,
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Bench {
    fn new(directives: &[(&str, &str)]) -> Self {
        Self::with_files(directives, &[])
    }

    /// Outside cluster mode.
    fn alone() -> Self {
        Self::new(&[("cluster-enabled", "no")])
    }

    /// A node that owns all slots, and the id of another that owns none.
    fn one_of_two() -> (Self, String) {
        let (me, other) = ("a".repeat(40), "b".repeat(40));
        let table = format!(
            "{me} 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-16383\n\
             {other} 127.0.0.2:7000@17000 master - 0 0 2 connected\n\
             vars currentEpoch 2 lastVoteEpoch 0\n"
        );
        let mut bench = Self::with_files(&[("cluster-enabled", "yes")], &[("nodes.conf", &table)]);
        bench.pass_ms(2100);
        bench.pass_ms(200);
        bench.disk_works();
        (bench, other)
    }

    fn with_files(directives: &[(&str, &str)], files: &[(&str, &str)]) -> Self {
        let mut config = Config::default();
        // Set at start only, most of them, so through the text of a file.
        let lines: Vec<String> = directives.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let text = lines.join("\n");
        let source = crate::config::Source { file: &text, ..Default::default() };
        if !directives.is_empty() {
            config = Config::load(source, &mut |_| Err("no includes".to_owned())).unwrap();
        }
        let now = Now { mono: Mono(1_000_000), wall: WallMs(1_700_000_000_000) };
        let mut effects = Effects::default();
        let boot = NodeBoot {
            config,
            now,
            entropy: [7; 32],
            pid: 1,
            stopwatch: Stopwatch::STOPPED,
            vitals: Vitals::UNKNOWN,
        };
        let node = Node::new(boot, &mut effects);
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let (disk, dials, closes) = (Vec::new(), Vec::new(), Vec::new());
        let mut bench = Self { node, now, effects, disk, files, dials, closes, connections: 0 };
        bench.settle();
        bench.disk_works();
        bench
    }

    /// Ends the batch and answers all reads.
    fn settle(&mut self) {
        loop {
            self.node.end_of_batch(self.now, &mut self.effects);
            let mut reads = Vec::new();
            for effect in self.effects.list.drain(..) {
                match effect {
                    Effect::Read { name } => reads.push(name),
                    Effect::Disk { ticket, op } => self.disk.push((ticket, op)),
                    Effect::Connect { conn, addr, .. } => self.dials.push((conn, addr)),
                    Effect::Close { conn, .. } => self.closes.push(conn),
                    _ => {}
                }
            }
            if reads.is_empty() {
                return;
            }
            for name in reads {
                let text = self.files.get(&name);
                let bytes = text.map_or(&b""[..], |text| text.as_bytes());
                let input = Input::FileChunk {
                    name: &name,
                    bytes,
                    eof: true,
                    missing: text.is_none(),
                    total_bytes: 0,
                };
                self.node.input(self.now, input, &mut self.effects);
            }
        }
    }

    /// The disk does all that it was asked for.
    fn disk_works(&mut self) {
        while !self.disk.is_empty() {
            for (ticket, _) in std::mem::take(&mut self.disk) {
                self.node.input(self.now, Input::DiskDone { ticket, result: Ok(()) }, &mut self.effects);
            }
            self.settle();
        }
    }

    fn connect(&mut self) -> ConnId {
        self.connections += 2;
        let conn = ConnId(self.connections);
        let input = Input::Accepted { conn, plane: Plane::Client, peer: addr(50_000), local: addr(6379) };
        self.node.input(self.now, input, &mut self.effects);
        conn
    }

    /// Sends bytes and ends the batch.
    fn send(&mut self, conn: ConnId, bytes: &str) {
        let input = Input::Received { conn, bytes: bytes.as_bytes() };
        self.node.input(self.now, input, &mut self.effects);
        self.settle();
    }

    /// What the shell may write to a connection now; it is written.
    fn sendable(&mut self, conn: ConnId) -> String {
        let durable = self.node.durable();
        let Some(outbox) = self.node.outbox(conn) else { return "(closed)".to_owned() };
        let bytes: Vec<u8> = outbox.sendable(durable, usize::MAX).flatten().copied().collect();
        outbox.advance(bytes.len());
        let input = Input::Flushed { conn, bytes: bytes.len() };
        self.node.input(self.now, input, &mut self.effects);
        self.settle();
        String::from_utf8_lossy(&bytes).replace("\r\n", "|")
    }

    fn ask(&mut self, conn: ConnId, line: &str) -> String {
        self.send(conn, &format!("{line}\r\n"));
        self.sendable(conn)
    }

    fn pass_ms(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus_ms(ms);
        self.now.wall.0 += ms;
        self.settle();
    }
}

#[test]
fn no_reply_leaves_before_an_always_synced_write_is_on_disk() {
    let mut bench =
        Bench::new(&[("cluster-enabled", "no"), ("appendonly", "yes"), ("appendfsync", "always")]);
    let (writer, reader) = (bench.connect(), bench.connect());
    bench.send(writer, "SET k v\r\n");
    assert_eq!(bench.sendable(writer), "", "the append is not durable yet");
    assert_eq!(bench.ask(reader, "GET k"), "", "nor may anybody see what could be lost");
    bench.disk_works();
    assert_eq!(bench.sendable(writer), "+OK|");
    assert_eq!(bench.sendable(reader), "$1|v|");
    assert_eq!(bench.ask(reader, "GET k"), "$1|v|", "reads wait for nothing when nothing is on its way");
}

#[test]
fn a_write_whose_always_synced_append_failed_is_never_answered() {
    let mut bench =
        Bench::new(&[("cluster-enabled", "no"), ("appendonly", "yes"), ("appendfsync", "always")]);
    let writer = bench.connect();
    bench.send(writer, "SET k v\r\n");
    let (ticket, _) = bench.disk.remove(0);
    let full = Err(DiskError { message: "No space left on device".to_owned(), no_space: true });
    bench.node.input(bench.now, Input::DiskDone { ticket, result: full }, &mut bench.effects);
    let ends = bench.effects.list.iter().any(|effect| matches!(effect, Effect::Exit { code: 1 }));
    assert!(ends, "redis-server ends, too");
    assert_eq!(bench.sendable(writer), "");
}

#[test]
fn an_everysec_write_is_answered_when_it_is_in_the_file_and_waits_for_no_sync() {
    let mut bench = Bench::new(&[("cluster-enabled", "no"), ("appendonly", "yes")]);
    let conn = bench.connect();
    // Redis too writes before it answers: a killed process loses nothing that it acknowledged.
    assert_eq!(bench.ask(conn, "SET k v"), "");
    assert!(
        matches!(&bench.disk[..], [(_, DiskOp::Append { bytes, sync: false, .. })] if bytes.ends_with(b"\r\nv\r\n"))
    );
    bench.disk_works();
    assert_eq!(bench.sendable(conn), "+OK|");
}

#[test]
fn a_transaction_is_one_and_fails_as_a_whole_when_a_command_was_refused() {
    let mut bench = Bench::new(&[]);
    let (a, b) = (bench.connect(), bench.connect());
    assert_eq!(bench.ask(a, "MULTI"), "+OK|");
    assert_eq!(bench.ask(a, "INCR n"), "+QUEUED|");
    assert_eq!(bench.ask(b, "GET n"), "$-1|", "nothing is done before EXEC");
    assert_eq!(bench.ask(a, "LPUSH n x"), "+QUEUED|");
    let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value|";
    assert_eq!(bench.ask(a, "EXEC"), format!("*2|:1|{wrong_type}"));
    assert_eq!(bench.ask(a, "MULTI"), "+OK|");
    assert!(bench.ask(a, "NOSUCH").starts_with("-ERR unknown command 'NOSUCH', with args beginning with: "));
    assert_eq!(bench.ask(a, "INCR n"), "+QUEUED|");
    assert_eq!(bench.ask(a, "EXEC"), "-EXECABORT Transaction discarded because of previous errors.|");
    assert_eq!(bench.ask(b, "GET n"), "$1|1|");
}

#[test]
fn a_watched_key_that_another_changes_ends_the_transaction() {
    let mut bench = Bench::new(&[]);
    let (a, b) = (bench.connect(), bench.connect());
    for (change, reply) in [("SET k 1", "*-1|"), ("GET k", "*1|+PONG|")] {
        bench.ask(a, "WATCH k");
        bench.ask(b, change);
        bench.ask(a, "MULTI");
        bench.ask(a, "PING");
        assert_eq!(bench.ask(a, "EXEC"), reply, "{change}");
    }
}

#[test]
fn a_paused_write_waits_and_a_read_does_not() {
    let mut bench = Bench::new(&[]);
    let (a, b) = (bench.connect(), bench.connect());
    assert_eq!(bench.ask(a, "CLIENT PAUSE 300 WRITE"), "+OK|");
    assert_eq!(bench.ask(a, "SET k v"), "");
    assert_eq!(bench.ask(b, "GET k"), "$-1|");
    assert_eq!(bench.ask(a, "PING"), "", "what follows a held back command waits with it");
    bench.pass_ms(299);
    assert_eq!(bench.sendable(a), "");
    bench.pass_ms(1);
    bench.settle();
    assert_eq!(bench.sendable(a), "+OK|+PONG|");
}

#[test]
fn a_client_that_does_not_read_is_not_served_without_end() {
    let mut bench = Bench::new(&[]);
    let conn = bench.connect();
    bench.ask(conn, &format!("SET big {}", "x".repeat(1 << 15)));
    // 320 MB of replies are asked for.
    for _ in 0..100 {
        bench.send(conn, &"GET big\r\n".repeat(100));
    }
    let waiting = bench.node.outbox(conn).unwrap().len();
    assert!(waiting < STALL_BYTES + (1 << 20), "{waiting} bytes wait");
    let mut total = 0;
    for _ in 0..100 {
        total += bench.sendable(conn).len();
        bench.settle();
    }
    // Here a line end counts as one byte.
    assert_eq!(total, 10_000 * ("$32768|".len() + (1 << 15) + 1), "all of it comes when the client reads");
}

#[test]
fn what_is_not_the_protocol_is_answered_and_closed() {
    let mut bench = Bench::new(&[]);
    let (conn, other) = (bench.connect(), bench.connect());
    assert_eq!(bench.ask(conn, "*1\r\n!3"), "-ERR Protocol error: expected '$', got '!'|");
    assert_eq!(bench.sendable(conn), "(closed)");
    assert_eq!(bench.ask(other, "PING"), "+PONG|");
}

#[test]
fn one_client_too_many_is_told_so() {
    let mut bench = Bench::new(&[("maxclients", "1")]);
    let (first, second) = (bench.connect(), bench.connect());
    assert_eq!(bench.sendable(second), "-ERR max number of clients reached|");
    assert_eq!(bench.ask(first, "PING"), "+PONG|");
}

#[test]
fn replies_can_be_switched_off() {
    let mut bench = Bench::new(&[]);
    let conn = bench.connect();
    assert_eq!(bench.ask(conn, "CLIENT REPLY SKIP"), "");
    assert_eq!(bench.ask(conn, "PING"), "");
    assert_eq!(bench.ask(conn, "PING"), "+PONG|");
    assert_eq!(bench.ask(conn, "CLIENT REPLY OFF"), "");
    assert_eq!(bench.ask(conn, "PING"), "");
    assert_eq!(bench.ask(conn, "CLIENT REPLY ON"), "+OK|");
}

#[test]
fn a_published_message_comes_before_the_publishers_own_reply() {
    let mut bench = Bench::new(&[]);
    let (a, b) = (bench.connect(), bench.connect());
    assert_eq!(bench.ask(a, "SUBSCRIBE c"), "*3|$9|subscribe|$1|c|:1|");
    assert!(bench.ask(a, "GET k").starts_with("-ERR Can't execute 'get': only (P|S)SUBSCRIBE"));
    assert_eq!(bench.ask(b, "PUBLISH c hello"), ":1|");
    assert_eq!(bench.sendable(a), "*3|$7|message|$1|c|$5|hello|");
    bench.node.input(bench.now, Input::Closed { conn: a }, &mut bench.effects);
    assert_eq!(bench.ask(b, "PUBLISH c hello"), ":0|");
}

#[test]
fn keys_expire_without_being_asked_for_and_the_file_is_told() {
    let mut bench = Bench::new(&[("cluster-enabled", "no"), ("appendonly", "yes")]);
    let conn = bench.connect();
    bench.send(conn, "SET k v PX 100\r\n");
    bench.disk_works();
    assert_eq!(bench.sendable(conn), "+OK|");
    bench.pass_ms(150);
    bench.pass_ms(1000);
    let appended = bench.disk.iter().any(|(_, op)| {
        matches!(op, DiskOp::Append { bytes, .. } if bytes.ends_with(b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"))
    });
    assert!(appended, "{:?}", bench.disk);
    bench.disk_works();
    assert_eq!(bench.ask(conn, "DBSIZE"), ":0|");
}

#[test]
fn a_published_message_is_not_kept_in_the_file() {
    let mut bench = Bench::new(&[("cluster-enabled", "no"), ("appendonly", "yes")]);
    let conn = bench.connect();
    assert_eq!(bench.ask(conn, "PUBLISH c hello"), ":0|");
    assert!(bench.disk.is_empty(), "loading the file would not know it: {:?}", bench.disk);
}

#[test]
fn a_cluster_node_without_slots_serves_no_key() {
    let mut bench = Bench::new(&[("cluster-enabled", "yes")]);
    let conn = bench.connect();
    assert_eq!(bench.ask(conn, "GET k"), "-CLUSTERDOWN Hash slot not served|");
    assert_eq!(bench.ask(conn, "SELECT 1"), "-ERR SELECT is not allowed in cluster mode|");
    assert!(bench.ask(conn, "CLUSTER INFO").contains("cluster_state:fail"));
    bench.send(conn, "CLUSTER ADDSLOTSRANGE 0 16383\r\n");
    bench.disk_works();
    assert_eq!(bench.sendable(conn), "+OK|");
    bench.pass_ms(2100);
    bench.pass_ms(200);
    assert_eq!(bench.ask(conn, "SET k v"), "+OK|");
    assert_eq!(bench.ask(conn, "MGET a b"), "-CROSSSLOT Keys in request don't hash to the same slot|");
}

#[test]
fn a_slot_is_on_the_move_once_the_file_says_so() {
    let (mut bench, other) = Bench::one_of_two();
    let admin = bench.connect();
    bench.send(admin, &format!("CLUSTER SETSLOT 7 MIGRATING {other}\r\n"));
    assert_eq!(bench.sendable(admin), "", "killed now, this node would come back without the mark");
    bench.disk_works();
    assert_eq!(bench.sendable(admin), "+OK|");
}

#[test]
fn who_is_closed_by_what_it_asked_for_is_not_served_any_more() {
    let mut bench = Bench::new(&[("cluster-enabled", "no")]);
    let [replica, other] = [(); 2].map(|()| bench.connect());
    // A node that becomes a replica drops its own.
    bench.send(replica, "SYNC\r\nREPLICAOF 127.0.0.1 7001\r\nSET k v\r\nACL DELUSER nobody\r\n");
    assert!(bench.closes.contains(&replica));
    assert_eq!(bench.ask(other, "REPLICAOF NO ONE"), "+OK|");
    assert_eq!(bench.ask(other, "GET k"), "$-1|");
}

#[test]
fn a_replica_asks_its_master_for_nothing_before_its_own_file_is_loaded() {
    // Seen in a mixed cluster: the resync was over first, and then the old file was loaded over it.
    let (me, master) = ("a".repeat(40), "b".repeat(40));
    let table = format!(
        "{me} 127.0.0.1:7001@17001 myself,slave {master} 0 0 1 connected\n\
         {master} 127.0.0.1:7002@17002 master - 0 0 1 connected 0-16383\n\
         vars currentEpoch 1 lastVoteEpoch 0\n"
    );
    let text = "cluster-enabled yes\nappendonly yes";
    let source = crate::config::Source { file: text, ..Default::default() };
    let config = Config::load(source, &mut |_| Err("no includes".to_owned())).unwrap();
    let mut now = Now { mono: Mono(1_000_000), wall: WallMs(1_700_000_000_000) };
    let mut effects = Effects::default();
    let mut node = Node::new(
        NodeBoot {
            config,
            now,
            entropy: [7; 32],
            pid: 1,
            stopwatch: Stopwatch::STOPPED,
            vitals: Vitals::UNKNOWN,
        },
        &mut effects,
    );
    let chunk = Input::FileChunk {
        name: "nodes.conf",
        bytes: table.as_bytes(),
        eof: true,
        missing: false,
        total_bytes: 0,
    };
    node.input(now, chunk, &mut effects);
    let dials =
        |effects: &Effects| effects.list.iter().filter(|e| matches!(e, Effect::Connect { .. })).count();

    now.mono = now.mono.plus_ms(5000);
    let (conn, peer) = (ConnId(2), addr(50_000));
    node.input(now, Input::Accepted { conn, plane: Plane::Bus, peer, local: addr(17001) }, &mut effects);
    node.end_of_batch(now, &mut effects);
    assert_eq!(dials(&effects), 0, "neither the bus nor the master");
    assert!(effects.list.iter().any(|e| matches!(e, Effect::Close { conn: ConnId(2), .. })));
    assert!(node.next_deadline().is_some_and(|at| at > now.mono), "and it does not spin meanwhile");

    for _ in 0..3 {
        let reads: Vec<String> = effects
            .list
            .extract_if(.., |effect| matches!(effect, Effect::Read { .. }))
            .map(|effect| if let Effect::Read { name } = effect { name } else { String::new() })
            .collect();
        for name in reads.iter().filter(|name| *name != "nodes.conf") {
            let chunk = Input::FileChunk { name, bytes: b"", eof: true, missing: true, total_bytes: 0 };
            node.input(now, chunk, &mut effects);
        }
        now.mono = now.mono.plus_ms(100);
        node.end_of_batch(now, &mut effects);
    }
    assert!(dials(&effects) >= 2, "the bus and the master");
}

#[test]
fn client_reply_does_not_silence_what_is_no_reply() {
    let mut bench = Bench::new(&[("cluster-enabled", "no")]);
    let (listener, speaker) = (bench.connect(), bench.connect());
    assert_eq!(bench.ask(listener, "CLIENT REPLY OFF"), "");
    assert_eq!(bench.ask(listener, "SUBSCRIBE news"), "*3|$9|subscribe|$4|news|:1|");
    assert_eq!(bench.ask(speaker, "PUBLISH news hello"), ":1|");
    assert_eq!(bench.sendable(listener), "*3|$7|message|$4|news|$5|hello|");
    assert_eq!(bench.ask(listener, "PING"), "", "a reply is silenced");
}

#[test]
fn exec_tells_why_it_may_not_do_what_was_queued() {
    let mut bench = Bench::new(&[("cluster-enabled", "no")]);
    let (a, b) = (bench.connect(), bench.connect());
    bench.ask(a, "MULTI");
    assert_eq!(bench.ask(a, "SET k v"), "+QUEUED|");
    bench.ask(b, "CONFIG SET min-replicas-to-write 1");
    assert_eq!(
        bench.ask(a, "EXEC"),
        "-EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.|"
    );
    assert_eq!(bench.ask(a, "GET k"), "$-1|", "the transaction is over");
}

#[test]
fn who_has_not_said_who_it_is_may_not_send_much() {
    for (request, error) in [
        ("*11\r\n", "-ERR Protocol error: unauthenticated multibulk length|"),
        ("*1\r\n$16385\r\n", "-ERR Protocol error: unauthenticated bulk length|"),
    ] {
        let mut bench = Bench::new(&[("requirepass", "secret")]);
        let (stranger, known) = (bench.connect(), bench.connect());
        bench.send(stranger, request);
        assert_eq!(bench.sendable(stranger), error);
        assert_eq!(bench.ask(known, "AUTH secret"), "+OK|");
        bench.send(known, request);
        assert_eq!(bench.sendable(known), "", "it is heard out");
    }
}

#[test]
fn replies_that_have_left_do_not_count_against_maxmemory() {
    let mut bench = Bench::new(&[("cluster-enabled", "no"), ("maxmemory-policy", "allkeys-lru")]);
    let conn = bench.connect();
    bench.ask(conn, &format!("SET kept {}", "x".repeat(1 << 15)));
    let used: usize = {
        let info = bench.ask(conn, "INFO memory");
        let line = info.split('|').find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        line.parse().unwrap()
    };
    bench.ask(conn, &format!("CONFIG SET maxmemory {}", used + (1 << 17)));
    // No time passes: nobody has looked at all clients in between.
    for _ in 0..100 {
        bench.ask(conn, "GET kept");
    }
    assert_eq!(bench.ask(conn, "DBSIZE"), ":1|");
}
