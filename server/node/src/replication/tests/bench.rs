//! The bench: a few nodes in virtual time, joined by an in-memory wire that can be cut.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::commands::{CommandParser, write_command};
use super::super::*;
use crate::io::{Now, WallMs};
use crate::keyspace::{EncodingLimits, HashSeed, Keyspace, Value};
use crate::rdb::{SnapshotEncoder, SnapshotUse, aux_fields};

/// One node: replication with the smallest glue around it, a keyspace that knows SET and APPEND.
pub(super) struct Node {
    pub(super) addr: SocketAddr,
    pub(super) repl: Replication,
    pub(super) keys: Keyspace,
    pub(super) loading: Option<Keyspace>,
    pub(super) encoders: BTreeMap<SnapshotId, SnapshotEncoder>,
    /// Pieces asked for; the disk thread delivers one a round.
    pub(super) pulls: Vec<SnapshotId>,
    /// Files that are written at the next batch's end.
    pub(super) saves: Vec<(SnapshotId, u64)>,
    pub(super) parsers: BTreeMap<ConnId, CommandParser>,
    pub(super) waits_done: Vec<(ConnId, usize)>,
    pub(super) logs: Vec<String>,
    pub(super) applied_batches: usize,
}

pub(super) fn keyspace() -> Keyspace {
    Keyspace::new(HashSeed(1, 2), EncodingLimits::default())
}

impl Node {
    pub(super) fn execute(&mut self, args: &[&[u8]]) {
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

    pub(super) fn value(&self, key: &[u8]) -> Vec<u8> {
        self.keys
            .get(key)
            .and_then(|entry| entry.value().as_string())
            .map_or(Vec::new(), crate::keyspace::Element::to_vec)
    }

    pub(super) fn dataset(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.keys.snapshot().iter().map(|entry| (entry.key.to_vec(), self.value(entry.key))).collect()
    }
}

/// One connection: `ends.0` dialled.
pub(super) struct Wire {
    pub(super) nodes: (usize, usize),
    pub(super) ends: (ConnId, ConnId),
    /// Bytes on their way to the dialler and from it.
    pub(super) to_dialler: Vec<u8>,
    pub(super) from_dialler: Vec<u8>,
    /// Nothing arrives while set.
    pub(super) frozen: bool,
}

pub(super) struct World {
    pub(super) now: Now,
    pub(super) nodes: Vec<Node>,
    pub(super) wires: Vec<Wire>,
    pub(super) next_conn: u64,
    /// Bytes delivered at a time.
    pub(super) piece: usize,
    /// Everything that dialled connections received, by node.
    pub(super) received: BTreeMap<usize, Vec<u8>>,
}

impl World {
    pub(super) fn new(count: usize) -> Self {
        Self::with(count, &ReplicationSettings { diskless_sync_delay_s: 0, ..ReplicationSettings::default() })
    }

    pub(super) fn with(count: usize, settings: &ReplicationSettings) -> Self {
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

    pub(super) fn with_node<R>(
        &mut self,
        index: usize,
        event: impl FnOnce(&mut Node, Mono, &mut Actions) -> R,
    ) -> R {
        let mut actions = Vec::new();
        let result = event(&mut self.nodes[index], self.now.mono, &mut actions);
        self.carry_out(index, actions);
        result
    }

    pub(super) fn carry_out(&mut self, index: usize, actions: Actions) {
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

    pub(super) fn put(&mut self, conn: ConnId, bytes: &[u8]) {
        for wire in &mut self.wires {
            if wire.ends.0 == conn {
                wire.from_dialler.extend_from_slice(bytes);
            } else if wire.ends.1 == conn {
                wire.to_dialler.extend_from_slice(bytes);
            }
        }
    }

    /// Ends a connection; the other side learns of it.
    pub(super) fn close(&mut self, conn: ConnId, by: usize) {
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
    pub(super) fn cut(&mut self, a: usize, b: usize) {
        while let Some(wire) = self.wires.iter().find(|wire| wire.nodes == (a, b) || wire.nodes == (b, a)) {
            let (dialler, conn) = (wire.nodes.0, wire.ends.0);
            self.close(conn, dialler);
            self.with_node(dialler, |node, now, actions| node.repl.closed(conn, now, actions));
        }
    }

    pub(super) fn freeze(&mut self, a: usize, b: usize, frozen: bool) {
        for wire in &mut self.wires {
            if wire.nodes == (a, b) || wire.nodes == (b, a) {
                wire.frozen = frozen;
            }
        }
    }

    /// Ends every node's batch; delivers at most one piece of a snapshot to each. True if there was one.
    pub(super) fn end_of_batch(&mut self) -> bool {
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
    pub(super) fn settle(&mut self) {
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

    pub(super) fn client_bytes(&mut self, at: usize, from: usize, conn: ConnId, bytes: &[u8]) {
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
    pub(super) fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now.mono = self.now.mono.plus_ms(100);
            for index in 0..self.nodes.len() {
                self.with_node(index, |node, now, actions| node.repl.tick(now, actions));
            }
            self.settle();
        }
    }

    pub(super) fn write(&mut self, index: usize, args: &[&str]) {
        let node = &mut self.nodes[index];
        assert!(!node.repl.is_replica_role(), "only masters write");
        let bytes: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        node.execute(&bytes);
        let mut raw = Vec::new();
        write_command(&mut raw, args);
        node.repl.propagate(Some(0), &raw);
    }

    pub(super) fn follow(&mut self, replica: usize, master: usize) {
        let addr = self.nodes[master].addr;
        self.with_node(replica, |node, now, actions| node.repl.set_master(addr, now, actions));
        self.settle();
    }

    pub(super) fn promote(&mut self, index: usize) {
        self.with_node(index, |node, now, actions| node.repl.promote(now, actions));
        self.settle();
    }

    pub(super) fn up(&self, index: usize) -> bool {
        self.nodes[index].repl.link_status().is_some_and(|link| link.up)
    }

    pub(super) fn counts(&self, index: usize) -> SyncCounts {
        self.nodes[index].repl.sync_counts()
    }

    pub(super) fn offset(&self, index: usize) -> u64 {
        self.nodes[index].repl.offset()
    }

    pub(super) fn value(&self, index: usize, key: &str) -> String {
        String::from_utf8(self.nodes[index].value(key.as_bytes())).unwrap()
    }

    /// Fails unless all hold the same data under the same id at the same offset.
    pub(super) fn assert_same(&self, nodes: &[usize]) {
        let first = &self.nodes[nodes[0]];
        for &index in nodes {
            let node = &self.nodes[index];
            assert_eq!(node.repl.history().id, first.repl.history().id, "id of node {index}");
            assert_eq!(node.repl.offset(), first.repl.offset(), "offset of node {index}");
            assert_eq!(node.dataset(), first.dataset(), "data of node {index}");
        }
    }

    /// One round of delivery on every wire.
    pub(super) fn step_once(&mut self) {
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
