//! Replication as stories: a few nodes in virtual time, joined by an in-memory wire that can be cut.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::commands::{CommandParser, write_command};
use super::*;
use crate::io::WallMs;
use crate::keyspace::{EncodingLimits, HashSeed, Keyspace, Value};
use crate::rdb::{SnapshotEncoder, SnapshotUse, aux_fields};

/// One node: replication with the smallest glue around it, a keyspace that knows SET and APPEND.
struct Node {
    addr: SocketAddr,
    repl: Replication,
    keys: Keyspace,
    loading: Option<Keyspace>,
    encoders: BTreeMap<SnapshotId, SnapshotEncoder>,
    /// Pieces asked for; the disk thread delivers one a round.
    pulls: Vec<SnapshotId>,
    /// Files that are written at the next batch's end.
    saves: Vec<(SnapshotId, u64)>,
    parsers: BTreeMap<ConnId, CommandParser>,
    waits_done: Vec<(ConnId, usize)>,
    logs: Vec<String>,
    applied_batches: usize,
}

fn keyspace() -> Keyspace {
    Keyspace::new(HashSeed(1, 2), EncodingLimits::default())
}

impl Node {
    fn execute(&mut self, args: &[&[u8]]) {
        match args {
            [b"SET", key, value] => self.keys.set(key, Value::string(value), None, WallMs(0)),
            [b"APPEND", key, more] => {
                let mut value = self.value(key);
                value.extend_from_slice(more);
                self.keys.set(key, Value::string(&value), None, WallMs(0));
            }
            [b"MULTI" | b"EXEC"] => {}
            other => panic!("the bench knows no {other:?}"),
        }
    }

    fn value(&self, key: &[u8]) -> Vec<u8> {
        self.keys
            .get(key)
            .and_then(|entry| entry.value().as_string())
            .map_or(Vec::new(), crate::keyspace::Element::to_vec)
    }

    fn dataset(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.keys.snapshot().iter().map(|entry| (entry.key.to_vec(), self.value(entry.key))).collect()
    }
}

/// One connection: `ends.0` dialled.
struct Wire {
    nodes: (usize, usize),
    ends: (ConnId, ConnId),
    /// Bytes on their way to the dialler and from it.
    to_dialler: Vec<u8>,
    from_dialler: Vec<u8>,
    /// Nothing arrives while set.
    frozen: bool,
}

struct World {
    now: Now,
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    next_conn: u64,
    /// Bytes delivered at a time.
    piece: usize,
    /// Everything that dialled connections received, by node.
    received: BTreeMap<usize, Vec<u8>>,
}

use crate::io::Now;

impl World {
    fn new(count: usize) -> Self {
        Self::with(count, &ReplicationSettings { diskless_sync_delay_s: 0, ..ReplicationSettings::default() })
    }

    fn with(count: usize, settings: &ReplicationSettings) -> Self {
        let nodes = (0..count)
            .map(|index| Node {
                addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, index as u8 + 1)), 6379),
                repl: Replication::new(settings.clone(), index as u64 + 1),
                keys: keyspace(),
                loading: None,
                encoders: BTreeMap::new(),
                pulls: Vec::new(),
                saves: Vec::new(),
                parsers: BTreeMap::new(),
                waits_done: Vec::new(),
                logs: Vec::new(),
                applied_batches: 0,
            })
            .collect();
        let now = Now { mono: Mono(1_000_000), wall: WallMs(0) };
        Self { now, nodes, wires: Vec::new(), next_conn: 0, piece: 1000, received: BTreeMap::new() }
    }

    fn with_node<R>(&mut self, index: usize, event: impl FnOnce(&mut Node, Mono, &mut Actions) -> R) -> R {
        let mut actions = Vec::new();
        let result = event(&mut self.nodes[index], self.now.mono, &mut actions);
        self.carry_out(index, actions);
        result
    }

    fn carry_out(&mut self, index: usize, actions: Actions) {
        let now = self.now.mono;
        for action in actions {
            let mut more = Vec::new();
            let node = &mut self.nodes[index];
            match action {
                Action::Dial { addr } => {
                    let conn = ConnId(self.next_conn * 2 + 1);
                    let accepted = ConnId(self.next_conn * 2 + 2);
                    self.next_conn += 1;
                    node.repl.dialing(conn);
                    let to = self
                        .nodes
                        .iter()
                        .position(|node| MasterAddr::Ip(node.addr) == addr)
                        .expect("a known address");
                    self.wires.push(Wire {
                        nodes: (index, to),
                        ends: (conn, accepted),
                        to_dialler: Vec::new(),
                        from_dialler: Vec::new(),
                        frozen: false,
                    });
                    self.nodes[to].parsers.insert(accepted, CommandParser::default());
                    self.nodes[index].repl.connected(conn, now, &mut more);
                }
                Action::Close { conn, .. } => self.close(conn, index),
                Action::Send { conn, bytes } => self.put(conn, &bytes),
                Action::SendShared { conn, chunk, start, end } => self.put(conn, &chunk[start..end]),
                Action::TakeSnapshot { to_file } => {
                    let id = SnapshotId(now.0 + index as u64);
                    let aux = aux_fields(SnapshotUse::Rdb, self.now.wall, 0, node.repl.rdb_identity());
                    let encoder = SnapshotEncoder::new(node.keys.snapshot(), aux.clone());
                    node.encoders.insert(id, encoder);
                    node.repl.snapshot_taken(id, to_file, now, &mut more);
                    if to_file {
                        let mut file = Vec::new();
                        SnapshotEncoder::new(node.keys.snapshot(), aux).fill(&mut file, usize::MAX);
                        node.saves.push((id, file.len() as u64));
                    }
                }
                Action::HoldWrites | Action::ReleaseWrites | Action::RoleChanged | Action::StartFile(_) => {}
                Action::PullSnapshot(id) => node.pulls.push(id),
                Action::CancelSnapshot(id) => drop(node.encoders.remove(&id)),
                Action::LoadBegin => node.loading = Some(keyspace()),
                Action::LoadKeys { keys, .. } => {
                    let loading = node.loading.as_mut().expect("begun");
                    for key in keys {
                        loading.load(&key.key, &key.value, None).expect("a fresh key");
                    }
                }
                Action::LoadLibrary(_) => panic!("there are no functions"),
                Action::LoadCommit => {
                    node.keys = node.loading.take().expect("begun");
                    node.repl.loaded(now, &mut more);
                }
                Action::LoadAbort => node.loading = None,
                Action::Apply { batch, .. } => {
                    node.applied_batches += 1;
                    for command in batch.iter().filter(|command| !command.is("SELECT")) {
                        node.execute(&command.to_vec());
                    }
                }
                Action::WaitDone { conn, replicas } => node.waits_done.push((conn, replicas)),
                Action::WaitAborted { conn } => node.waits_done.push((conn, usize::MAX)),
                Action::Log(_, text) => node.logs.push(text),
            }
            self.carry_out(index, more);
        }
    }

    fn put(&mut self, conn: ConnId, bytes: &[u8]) {
        for wire in &mut self.wires {
            if wire.ends.0 == conn {
                wire.from_dialler.extend_from_slice(bytes);
            } else if wire.ends.1 == conn {
                wire.to_dialler.extend_from_slice(bytes);
            }
        }
    }

    /// Ends a connection; the other side learns of it.
    fn close(&mut self, conn: ConnId, by: usize) {
        let Some(at) = self.wires.iter().position(|wire| wire.ends.0 == conn || wire.ends.1 == conn) else {
            return;
        };
        let wire = self.wires.remove(at);
        let (other, end) =
            if wire.nodes.0 == by { (wire.nodes.1, wire.ends.1) } else { (wire.nodes.0, wire.ends.0) };
        self.nodes[other].parsers.remove(&end);
        self.with_node(other, |node, now, actions| node.repl.closed(end, now, actions));
    }

    /// Cuts every connection between two nodes, on both sides.
    fn cut(&mut self, a: usize, b: usize) {
        while let Some(wire) = self.wires.iter().find(|wire| wire.nodes == (a, b) || wire.nodes == (b, a)) {
            let (dialler, conn) = (wire.nodes.0, wire.ends.0);
            self.close(conn, dialler);
            self.with_node(dialler, |node, now, actions| node.repl.closed(conn, now, actions));
        }
    }

    fn freeze(&mut self, a: usize, b: usize, frozen: bool) {
        for wire in &mut self.wires {
            if wire.nodes == (a, b) || wire.nodes == (b, a) {
                wire.frozen = frozen;
            }
        }
    }

    /// Ends every node's batch; delivers at most one piece of a snapshot to each. True if there was one.
    fn end_of_batch(&mut self) -> bool {
        let mut pulled = false;
        for index in 0..self.nodes.len() {
            for (id, bytes) in std::mem::take(&mut self.nodes[index].saves) {
                self.with_node(index, |node, now, actions| {
                    node.repl.file_saved(id, Some(bytes), now, actions);
                });
            }
            self.with_node(index, |node, now, actions| node.repl.flush(now, actions));
            let Some(id) = self.nodes[index].pulls.pop() else { continue };
            pulled = true;
            self.with_node(index, |node, now, actions| {
                if let Some(encoder) = node.encoders.get_mut(&id) {
                    let piece = encoder.next_chunk(100);
                    if piece.last {
                        node.encoders.remove(&id);
                    }
                    node.repl.snapshot_chunk(id, &piece.bytes, piece.last, now, actions);
                }
            });
        }
        pulled
    }

    /// Delivers pieces until nothing moves.
    fn settle(&mut self) {
        loop {
            let pulled = self.end_of_batch();
            let piece = self.piece;
            let ready = |wire: &&mut Wire| {
                !(wire.frozen || wire.to_dialler.is_empty() && wire.from_dialler.is_empty())
            };
            let Some(wire) = self.wires.iter_mut().find(ready) else {
                if pulled {
                    continue;
                }
                return;
            };
            let ((dialler, acceptor), (near, far)) = (wire.nodes, wire.ends);
            let len = wire.to_dialler.len().min(piece);
            let down: Vec<u8> = wire.to_dialler.drain(..len).collect();
            let len = wire.from_dialler.len().min(piece);
            let up: Vec<u8> = wire.from_dialler.drain(..len).collect();
            if !down.is_empty() {
                self.received.entry(dialler).or_default().extend_from_slice(&down);
                self.with_node(acceptor, |node, now, actions| {
                    node.repl.flushed(far, down.len(), now, actions);
                });
                self.with_node(dialler, |node, now, actions| node.repl.received(near, &down, now, actions));
            }
            if !up.is_empty() {
                self.client_bytes(acceptor, dialler, far, &up);
            }
        }
    }

    fn client_bytes(&mut self, at: usize, from: usize, conn: ConnId, bytes: &[u8]) {
        let peer = self.nodes[from].addr.ip();
        let Some(mut parser) = self.nodes[at].parsers.remove(&conn) else { return };
        parser.feed(bytes);
        while let Ok(Some(command)) = parser.next_command() {
            if command.is("PING") {
                self.put(conn, b"+PONG\r\n");
                continue;
            }
            self.with_node(at, |node, now, actions| {
                node.repl.client_command(conn, peer, &command.to_vec(), now, actions);
            });
        }
        if self.wires.iter().any(|wire| wire.ends.1 == conn) {
            self.nodes[at].parsers.insert(conn, parser);
        }
    }

    /// Lets time pass in steps of 100 ms.
    fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now.mono = self.now.mono.plus_ms(100);
            for index in 0..self.nodes.len() {
                self.with_node(index, |node, now, actions| node.repl.tick(now, actions));
            }
            self.settle();
        }
    }

    fn write(&mut self, index: usize, args: &[&str]) {
        let node = &mut self.nodes[index];
        assert!(!node.repl.is_replica_role(), "only masters write");
        let bytes: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        node.execute(&bytes);
        let mut raw = Vec::new();
        write_command(&mut raw, args);
        node.repl.propagate(Some(0), &raw);
    }

    fn follow(&mut self, replica: usize, master: usize) {
        let addr = self.nodes[master].addr;
        self.with_node(replica, |node, now, actions| node.repl.set_master(addr, now, actions));
        self.settle();
    }

    fn promote(&mut self, index: usize) {
        self.with_node(index, |node, now, actions| node.repl.promote(now, actions));
        self.settle();
    }

    fn up(&self, index: usize) -> bool {
        self.nodes[index].repl.link_status().is_some_and(|link| link.up)
    }

    fn counts(&self, index: usize) -> SyncCounts {
        self.nodes[index].repl.sync_counts()
    }

    fn offset(&self, index: usize) -> u64 {
        self.nodes[index].repl.offset()
    }

    fn value(&self, index: usize, key: &str) -> String {
        String::from_utf8(self.nodes[index].value(key.as_bytes())).unwrap()
    }

    /// Fails unless all hold the same data under the same id at the same offset.
    fn assert_same(&self, nodes: &[usize]) {
        let first = &self.nodes[nodes[0]];
        for &index in nodes {
            let node = &self.nodes[index];
            assert_eq!(node.repl.history().id, first.repl.history().id, "id of node {index}");
            assert_eq!(node.repl.offset(), first.repl.offset(), "offset of node {index}");
            assert_eq!(node.dataset(), first.dataset(), "data of node {index}");
        }
    }
}

#[test]
fn a_new_replica_gets_everything_and_then_the_stream() {
    let mut world = World::new(3);
    for n in 0..300 {
        world.write(0, &["SET", &format!("key{n}"), "before"]);
    }
    world.follow(1, 0);
    world.write(0, &["SET", "after", "1"]);
    world.settle();
    assert!(world.up(1));
    assert_eq!(world.value(1, "after"), "1");
    world.assert_same(&[0, 1]);
    // SELECT 0 (23 bytes) stands before the first write after each full resync.
    assert_eq!(world.offset(0), 23 + 31);
    world.follow(2, 0);
    world.write(0, &["SET", "after", "2"]);
    world.settle();
    assert_eq!(world.offset(0), 2 * (23 + 31));
    world.assert_same(&[0, 1, 2]);
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let mut world = World::new(2);
    world.piece = 1;
    for n in 0..30 {
        world.write(0, &["SET", &format!("key{n}"), "value"]);
    }
    world.follow(1, 0);
    world.write(0, &["APPEND", "key1", "!"]);
    world.settle();
    world.assert_same(&[0, 1]);
}

#[test]
fn the_offset_announced_is_that_of_the_snapshot_even_when_writes_go_on() {
    let mut world = World::new(3);
    world.write(0, &["SET", "log", ""]);
    world.follow(1, 0);
    for n in 0..50 {
        world.write(0, &["SET", &format!("key{n}"), "a value"]);
    }
    // The second replica asks, waits and loads while writes go on: none may be missing or come twice.
    world.piece = 60;
    let addr = world.nodes[0].addr;
    world.with_node(2, |node, now, actions| node.repl.set_master(addr, now, actions));
    let mut during = 0;
    for n in 0..200 {
        world.write(0, &["APPEND", "log", &format!("{n},")]);
        world.step_once();
        during += usize::from(world.nodes[2].loading.is_some());
    }
    assert!(during > 5, "writes fell into the transfer");
    world.settle();
    world.run_ms(2000);
    world.assert_same(&[0, 1, 2]);
}

#[test]
fn no_stream_follows_the_mark_before_the_first_acknowledgement() {
    let mut world = World::new(2);
    world.write(0, &["SET", "a", "1"]);
    let (conn, peer) = (ConnId(1000), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut sent = Vec::new();
    let node = &mut world.nodes[0];
    let mut actions = Vec::new();
    for command in [&["REPLCONF", "capa", "eof", "capa", "psync2"][..], &["PSYNC", "?", "-1"]] {
        let args: Vec<&[u8]> = command.iter().map(|arg| arg.as_bytes()).collect();
        node.repl.client_command(conn, peer, &args, Mono(0), &mut actions);
    }
    let drain = |node: &mut Node, actions: &mut Actions, sent: &mut Vec<u8>| {
        while !actions.is_empty() {
            for action in std::mem::take(actions) {
                match action {
                    Action::Send { bytes, .. } => sent.extend(bytes),
                    Action::SendShared { chunk, start, end, .. } => sent.extend(&chunk[start..end]),
                    Action::TakeSnapshot { to_file } => {
                        let encoder = SnapshotEncoder::new(node.keys.snapshot(), Vec::new());
                        node.encoders.insert(SnapshotId(1), encoder);
                        node.repl.snapshot_taken(SnapshotId(1), to_file, Mono(0), actions);
                    }
                    Action::PullSnapshot(id) => {
                        let Some(encoder) = node.encoders.get_mut(&id) else { continue };
                        let piece = encoder.next_chunk(1 << 20);
                        if piece.last {
                            node.encoders.remove(&id);
                        }
                        node.repl.snapshot_chunk(id, &piece.bytes, piece.last, Mono(0), actions);
                    }
                    _ => {}
                }
            }
        }
    };
    node.repl.flush(Mono(0), &mut actions);
    drain(node, &mut actions, &mut sent);
    node.repl.propagate(Some(0), b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n");
    node.repl.flush(Mono(0), &mut actions);
    drain(node, &mut actions, &mut sent);
    let at = sent.windows(5).position(|five| five == b"$EOF:").expect("the marked form");
    let mark = sent[at + 5..at + 45].to_vec();
    assert!(sent.ends_with(&mark), "the mark is the last thing sent");
    node.repl.client_command(conn, peer, &[b"REPLCONF", b"ACK", b"0"], Mono(0), &mut actions);
    node.repl.flush(Mono(0), &mut actions);
    sent.clear();
    drain(node, &mut actions, &mut sent);
    assert!(sent.starts_with(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n"));
}

#[test]
fn a_replica_without_the_eof_form_gets_a_length_first() {
    let settings = ReplicationSettings { diskless_sync: false, ..ReplicationSettings::default() };
    let mut world = World::with(2, &settings);
    for n in 0..300 {
        world.write(0, &["SET", &format!("key{n}"), "before"]);
    }
    world.follow(1, 0);
    world.write(0, &["SET", "after", "1"]);
    world.settle();
    world.assert_same(&[0, 1]);
    let received = &world.received[&1];
    assert!(!received.windows(5).any(|five| five == b"$EOF:"));
}

#[test]
fn a_short_cut_costs_only_what_was_missed() {
    let mut world = World::new(2);
    world.write(0, &["SET", "log", "x"]);
    world.follow(1, 0);
    world.write(0, &["APPEND", "log", "1"]);
    world.settle();
    world.cut(0, 1);
    world.write(0, &["APPEND", "log", "2"]);
    world.run_ms(1500);
    assert_eq!(world.value(1, "log"), "x12");
    assert_eq!(world.counts(0), SyncCounts { full: 1, partial_ok: 1, partial_err: 1 });
    world.assert_same(&[0, 1]);
}

#[test]
fn a_long_cut_is_past_the_backlog_and_resyncs_fully() {
    let settings = ReplicationSettings {
        backlog_bytes: 200,
        diskless_sync_delay_s: 0,
        ..ReplicationSettings::default()
    };
    let mut world = World::with(2, &settings);
    world.follow(1, 0);
    world.cut(0, 1);
    for n in 0..100 {
        world.write(0, &["SET", &format!("k{n}"), "v"]);
        world.settle();
    }
    world.run_ms(1500);
    assert_eq!(world.counts(0).full, 2);
    world.assert_same(&[0, 1]);
}

#[test]
fn after_a_failover_the_others_continue_and_the_old_masters_extra_writes_vanish() {
    let mut world = World::new(3);
    world.write(0, &["SET", "log", "x"]);
    world.follow(1, 0);
    world.follow(2, 0);
    world.write(0, &["APPEND", "log", "1"]);
    world.settle();
    world.cut(0, 1);
    world.cut(0, 2);
    // The old master, alone, takes one more write that nobody will see.
    world.write(0, &["APPEND", "log", "GHOST"]);
    world.promote(1);
    world.write(1, &["APPEND", "log", "2"]);
    world.follow(2, 1);
    assert_eq!(world.counts(1), SyncCounts { full: 0, partial_ok: 1, partial_err: 0 });
    world.follow(0, 1);
    world.settle();
    assert_eq!(world.counts(1), SyncCounts { full: 1, partial_ok: 1, partial_err: 1 });
    assert_eq!(world.value(0, "log"), "x12");
    world.assert_same(&[0, 1, 2]);
}

#[test]
fn a_demoted_master_without_extra_writes_just_continues() {
    let mut world = World::new(2);
    world.write(0, &["SET", "log", "x"]);
    world.follow(1, 0);
    world.write(0, &["APPEND", "log", "1"]);
    world.settle();
    world.promote(1);
    world.write(1, &["APPEND", "log", "2"]);
    world.follow(0, 1);
    assert_eq!(world.counts(1), SyncCounts { full: 0, partial_ok: 1, partial_err: 0 });
    world.assert_same(&[0, 1]);
    let history = world.nodes[0].repl.history();
    assert_eq!(history, world.nodes[1].repl.history(), "both know the old id and where it ended");
}

#[test]
fn a_chained_replica_gets_the_same_bytes() {
    let mut world = World::new(3);
    world.follow(1, 0);
    world.follow(2, 1);
    world.write(0, &["SET", "a", "1"]);
    world.run_ms(11_000);
    world.write(0, &["APPEND", "a", "2"]);
    world.settle();
    assert_eq!(world.value(2, "a"), "12");
    world.assert_same(&[0, 1, 2]);
}

#[test]
fn a_full_resync_in_the_middle_of_a_chain_reaches_its_end() {
    let settings = ReplicationSettings {
        backlog_bytes: 100,
        diskless_sync_delay_s: 0,
        ..ReplicationSettings::default()
    };
    let mut world = World::with(3, &settings);
    world.follow(1, 0);
    world.follow(2, 1);
    world.cut(0, 1);
    for n in 0..50 {
        world.write(0, &["SET", &format!("k{n}"), "v"]);
        world.settle();
    }
    world.run_ms(5000);
    world.assert_same(&[0, 1, 2]);
}

#[test]
fn the_old_dataset_stays_until_the_new_one_is_whole() {
    let mut world = World::new(3);
    world.write(0, &["SET", "old", "1"]);
    world.follow(1, 0);
    let before = world.offset(1);
    for n in 0..200 {
        world.write(2, &["SET", &format!("new{n}"), "a value of some length"]);
    }
    // The transfer is cut half-way.
    let addr = world.nodes[2].addr;
    world.piece = 100;
    world.with_node(1, |node, now, actions| node.repl.set_master(addr, now, actions));
    let half_way = |world: &World| {
        world.nodes[1].repl.link_status().and_then(|link| link.transfer).is_some_and(|(read, _)| read > 1000)
    };
    for _ in 0..10_000 {
        if half_way(&world) {
            break;
        }
        world.step_once();
    }
    assert!(half_way(&world));
    // What it holds is of unknown age to its new shard: it must not stand for election.
    assert_eq!(world.nodes[1].repl.link_status().unwrap().down_since, None);
    world.freeze(1, 2, true);
    world.promote(1);
    assert_eq!((world.value(1, "old").as_str(), world.value(1, "new1").as_str()), ("1", ""));
    assert_eq!(world.offset(1), before);
    assert!(world.nodes[1].loading.is_none());
}

impl World {
    /// One round of delivery on every wire.
    fn step_once(&mut self) {
        self.end_of_batch();
        for at in 0..self.wires.len() {
            let Some(wire) = self.wires.get_mut(at) else { return };
            let ((dialler, acceptor), (near, far)) = (wire.nodes, wire.ends);
            let len = wire.to_dialler.len().min(self.piece);
            let down: Vec<u8> = wire.to_dialler.drain(..len).collect();
            let up: Vec<u8> = std::mem::take(&mut wire.from_dialler);
            self.with_node(dialler, |node, now, actions| node.repl.received(near, &down, now, actions));
            self.client_bytes(acceptor, dialler, far, &up);
        }
    }
}

#[test]
fn a_transaction_counts_and_applies_at_exec_only() {
    let mut world = World::new(2);
    world.write(0, &["SET", "a", "0"]);
    world.follow(1, 0);
    world.write(0, &["APPEND", "a", "1"]);
    world.settle();
    let before = world.offset(1);
    world.write(0, &["MULTI"]);
    world.write(0, &["APPEND", "a", "2"]);
    world.settle();
    assert_eq!(world.offset(1), before, "frozen within MULTI");
    assert_eq!(world.value(1, "a"), "01");
    // A link lost here resumes from before MULTI.
    world.cut(0, 1);
    world.write(0, &["APPEND", "a", "3"]);
    world.write(0, &["EXEC"]);
    world.run_ms(1500);
    assert_eq!(world.value(1, "a"), "0123");
    world.assert_same(&[0, 1]);
}

#[test]
fn wait_asks_and_is_answered_by_what_was_acknowledged() {
    let mut world = World::new(3);
    world.follow(1, 0);
    world.follow(2, 0);
    world.write(0, &["SET", "a", "1"]);
    let offset = world.offset(0);
    let client = ConnId(500);
    let deadline = world.now.mono.plus_ms(300);
    let at_once = world.with_node(0, |node, _, _| node.repl.wait(client, offset, 2, Some(deadline)));
    assert_eq!(at_once, None);
    world.settle();
    assert_eq!(world.nodes[0].waits_done, [(client, 2)]);
    // GETACK is in the stream (37 bytes), but what it provokes names the offset before it.
    assert_eq!(world.offset(0), offset + 37);
    assert_eq!(world.nodes[0].repl.count_acked(offset), 2);
    assert_eq!(world.nodes[0].repl.count_acked(offset + 1), 0);

    world.freeze(0, 2, true);
    world.write(0, &["SET", "b", "1"]);
    let offset = world.offset(0);
    let deadline = world.now.mono.plus_ms(300);
    world.with_node(0, |node, _, _| node.repl.wait(client, offset, 2, Some(deadline)));
    world.run_ms(200);
    assert_eq!(world.nodes[0].waits_done.len(), 1, "one replica is not two");
    world.run_ms(200);
    assert_eq!(world.nodes[0].waits_done[1], (client, 1));
}

#[test]
fn a_silent_master_and_a_silent_replica_are_dropped_after_the_timeout() {
    let mut world = World::new(2);
    world.follow(1, 0);
    world.run_ms(50_000);
    assert!(world.up(1), "pings and acknowledgements keep the link");
    assert_eq!(world.nodes[1].repl.link_status().unwrap().down_since, None);
    world.freeze(0, 1, true);
    world.run_ms(59_000);
    assert_eq!(world.nodes[0].repl.connected_replicas(), 1);
    world.run_ms(12_000);
    assert!(world.nodes[1].logs.iter().any(|text| text.starts_with("MASTER timeout")));
    world.run_ms(3000);
    assert!(world.up(1), "and it came back");
}

#[test]
fn a_replica_too_far_behind_is_dropped() {
    let settings = ReplicationSettings {
        backlog_bytes: 1000,
        output_hard_limit_bytes: 20_000,
        diskless_sync_delay_s: 0,
        ..ReplicationSettings::default()
    };
    let mut world = World::with(2, &settings);
    world.follow(1, 0);
    world.freeze(0, 1, true);
    let value = "v".repeat(1000);
    for n in 0..30 {
        world.write(0, &["SET", &format!("k{n}"), &value]);
        world.settle();
    }
    assert_eq!(world.nodes[0].repl.connected_replicas(), 0);
    world.run_ms(3000);
    world.assert_same(&[0, 1]);
}

#[test]
fn a_lonely_master_forgets_its_backlog_and_its_name() {
    let settings =
        ReplicationSettings { backlog_ttl_s: 2, diskless_sync_delay_s: 0, ..ReplicationSettings::default() };
    let mut world = World::with(3, &settings);
    world.write(0, &["SET", "a", "0"]);
    world.follow(1, 0);
    world.promote(1);
    let id = world.nodes[1].repl.history().id;
    world.run_ms(5000);
    assert_ne!(world.nodes[1].repl.history().id, id);
    world.write(1, &["APPEND", "a", "1"]);
    assert_eq!(world.nodes[1].repl.rdb_identity(), None);
    // The old master asks to continue the history that both once shared: it must not be let.
    world.follow(0, 1);
    world.settle();
    assert_eq!(world.counts(1).full, 1);
    world.assert_same(&[0, 1]);
}

#[test]
fn a_restarted_master_lets_replicas_of_its_dump_continue_and_nobody_ahead_of_it() {
    let mut world = World::new(3);
    world.write(0, &["SET", "a", "0"]);
    world.follow(1, 0);
    world.follow(2, 0);
    world.settle();
    let (id, offset) = (world.nodes[0].repl.history().id, world.offset(0));
    let dump = world.nodes[0].dataset();
    world.cut(0, 2);
    // Node 2 stands at the dump's offset; node 1 goes beyond it.
    world.write(0, &["APPEND", "a", "LOST"]);
    world.settle();
    world.cut(0, 1);
    let node = &mut world.nodes[0];
    node.repl = Replication::new(node.repl.settings().clone(), 77);
    node.repl.restore(id, offset, 0, false, world.now.mono);
    node.keys = keyspace();
    for (key, value) in dump {
        node.keys.set(&key, Value::string(&value), None, WallMs(0));
    }
    // New writes carry it past the offset at which node 1 stands with what was lost.
    world.write(0, &["APPEND", "a", "1"]);
    world.write(0, &["SET", "more", "bytes that take the offset further"]);
    world.run_ms(2000);
    assert_eq!(world.counts(0), SyncCounts { full: 1, partial_ok: 1, partial_err: 1 });
    assert_eq!(world.value(1, "a"), "01");
    world.assert_same(&[0, 1, 2]);
}

#[test]
fn noise_in_the_stream_is_answered_by_starting_over() {
    let mut world = World::new(2);
    world.write(0, &["SET", "a", "0"]);
    world.follow(1, 0);
    let link = world.wires[0].ends.0;
    world.with_node(1, |node, now, actions| node.repl.received(link, b"-ERR what\r\n", now, actions));
    assert!(!world.up(1));
    assert!(world.nodes[1].repl.link_status().unwrap().down_since.is_some());
    world.cut(0, 1);
    world.run_ms(2500);
    assert_eq!(world.counts(0).full, 2);
    world.assert_same(&[0, 1]);
}

#[test]
fn replconf_answers_as_redis_does() {
    let mut repl = Replication::new(ReplicationSettings::default(), 1);
    let mut ask = |args: &[&str]| {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let mut actions = Vec::new();
        repl.client_command(ConnId(2), IpAddr::V4(Ipv4Addr::LOCALHOST), &args, Mono(0), &mut actions);
        let sent: Vec<u8> = actions
            .into_iter()
            .flat_map(|action| if let Action::Send { bytes, .. } = action { bytes } else { Vec::new() })
            .collect();
        String::from_utf8(sent).unwrap()
    };
    assert_eq!(ask(&["REPLCONF", "listening-port", "7000"]), "+OK\r\n");
    assert_eq!(ask(&["REPLCONF", "capa", "eof", "capa", "psync2"]), "+OK\r\n");
    assert_eq!(ask(&["REPLCONF", "capa"]), "-ERR syntax error\r\n");
    assert_eq!(ask(&["REPLCONF", "version", "8.0.1"]), "-ERR Unrecognized REPLCONF option: version\r\n");
    assert_eq!(ask(&["REPLCONF", "ACK", "12", "FACK", "3"]), "");
    assert_eq!(ask(&["PSYNC", "?", "x"]), "-ERR value is not an integer or out of range\r\n");
}
