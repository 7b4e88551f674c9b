//! The table as clients see it: CLUSTER NODES, SLOTS, SHARDS, INFO, LINKS.

use std::borrow::Cow;
use std::io::Write;

use super::bus::PacketType;
use super::{Cluster, EndpointType, MYSELF, Node, NodeFlags, NodeId, NodeIdx, Reply, SlotBitmap, Turn};
use crate::keyspace::number::put_unsigned;

/// About as long as a line of CLUSTER NODES is, and the text of CLUSTER INFO.
const LINE_BYTES: usize = 160;
const INFO_BYTES: usize = 768;

/// What a line of CLUSTER NODES shows besides times and open slots.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown<'a> {
    id: NodeId,
    flags: NodeFlags,
    ports: (u16, u16),
    master: Option<NodeId>,
    epoch: u64,
    connected: bool,
    slots: Cow<'a, SlotBitmap>,
    ip: Cow<'a, str>,
    hostname: Cow<'a, str>,
}

/// A line of CLUSTER NODES before and behind its times, as it was printed last.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeText {
    of: Option<Shown<'static>>,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl NodeText {
    fn new(of: Shown<'_>) -> Self {
        let mut before = Vec::with_capacity(LINE_BYTES);
        before.extend_from_slice(of.id.as_bytes());
        before.push(b' ');
        before.extend_from_slice(of.ip.as_bytes());
        put(&mut before, ":", of.ports.0.into());
        put(&mut before, "@", of.ports.1.into());
        if !of.hostname.is_empty() {
            before.push(b',');
            before.extend_from_slice(of.hostname.as_bytes());
        }
        before.push(b' ');
        of.flags.put_words(&mut before);
        before.push(b' ');
        before.extend_from_slice(of.master.as_ref().map_or(&b"-"[..], |master| master.as_bytes()));
        before.push(b' ');
        let mut after = Vec::new();
        put(&mut after, " ", of.epoch);
        after.extend_from_slice(if of.connected { &b" connected"[..] } else { b" disconnected" });
        for (first, last) in of.slots.runs() {
            put(&mut after, " ", first.into());
            if first != last {
                put(&mut after, "-", last.into());
            }
        }
        Self { of: Some(of.into_owned()), before, after }
    }
}

impl Shown<'_> {
    fn into_owned(self) -> Shown<'static> {
        let Self { id, flags, ports, master, epoch, connected, slots, ip, hostname } = self;
        Shown {
            id,
            flags,
            ports,
            master,
            epoch,
            connected,
            slots: Cow::Owned(slots.into_owned()),
            ip: Cow::Owned(ip.into_owned()),
            hostname: Cow::Owned(hostname.into_owned()),
        }
    }
}

impl Cluster {
    /// CLUSTER NODES; `handshakes`: with nodes that are still being met (not in nodes.conf).
    pub fn nodes_text(&self, handshakes: bool, turn: &Turn<'_>) -> String {
        let mut text = Vec::with_capacity(self.nodes.len() * LINE_BYTES);
        for idx in self.nodes.by_id() {
            if handshakes || !self.nodes.get(idx).in_handshake() {
                self.put_node_line(&mut text, idx, turn);
                text.push(b'\n');
            }
        }
        as_text(text)
    }

    /// One line of CLUSTER NODES, without its end.
    pub(super) fn node_line(&self, idx: NodeIdx, turn: &Turn<'_>) -> String {
        let mut line = Vec::with_capacity(LINE_BYTES);
        self.put_node_line(&mut line, idx, turn);
        as_text(line)
    }

    /// Monitors ask for the table all the time, and nearly nothing in it changes but times.
    fn put_node_line(&self, line: &mut Vec<u8>, idx: NodeIdx, turn: &Turn<'_>) {
        let node = self.nodes.get(idx);
        let master = node.master.map(|master| self.nodes.get(master));
        let of = Shown {
            id: node.id,
            flags: node.flags,
            ports: (node.port, node.cport),
            master: master.map(|master| master.id),
            epoch: master.unwrap_or(node).config_epoch,
            connected: idx == MYSELF || node.outbound.is_some(),
            slots: Cow::Borrowed(&node.slots),
            ip: Cow::Borrowed(&node.ip),
            hostname: Cow::Borrowed(&node.hostname),
        };
        let mut shown = node.line.borrow_mut();
        if shown.of.as_ref() != Some(&of) {
            *shown = NodeText::new(of);
        }
        line.extend_from_slice(&shown.before);
        put_unsigned(line, turn.wall_ms(node.ping_sent));
        put(line, " ", turn.wall_ms(node.pong_received));
        line.extend_from_slice(&shown.after);
        if idx == MYSELF {
            let migrating = self.slots.migrating.iter().map(|(slot, peer)| (slot, "->-", peer));
            let importing = self.slots.importing.iter().map(|(slot, peer)| (slot, "-<-", peer));
            let mut open: Vec<_> = migrating.chain(importing).collect();
            open.sort_by_key(|(slot, ..)| **slot);
            for (slot, arrow, peer) in open {
                let _ = write!(line, " [{slot}{arrow}{}]", self.nodes.get(*peer).id);
            }
        }
    }

    /// CLUSTER INFO.
    pub fn info_text(&self) -> String {
        let (mut pfail, mut fail) = (0, 0);
        for idx in self.nodes.by_id() {
            let node = self.nodes.get(idx);
            if node.failed() {
                fail += node.slots.len();
            } else if node.flags.any(NodeFlags::PFAIL) {
                pfail += node.slots.len();
            }
        }
        let assigned = self.slots.assigned();
        let mut text = Vec::with_capacity(INFO_BYTES);
        text.extend_from_slice(if self.state.is_ok() {
            &b"cluster_state:ok"[..]
        } else {
            b"cluster_state:fail"
        });
        put(&mut text, "\r\ncluster_slots_assigned:", assigned.into());
        put(&mut text, "\r\ncluster_slots_ok:", (assigned - pfail - fail).into());
        put(&mut text, "\r\ncluster_slots_pfail:", pfail.into());
        put(&mut text, "\r\ncluster_slots_fail:", fail.into());
        put(&mut text, "\r\ncluster_known_nodes:", self.nodes.len() as u64);
        put(&mut text, "\r\ncluster_size:", self.state.size() as u64);
        put(&mut text, "\r\ncluster_current_epoch:", self.current_epoch);
        put(&mut text, "\r\ncluster_my_epoch:", self.my_config_epoch());
        text.extend_from_slice(b"\r\n");
        for (word, counts) in [("sent", &self.stats.sent), ("received", &self.stats.received)] {
            for (packet_type, count) in PacketType::ALL.iter().zip(counts).filter(|(_, count)| **count > 0) {
                for part in ["cluster_stats_messages_", packet_type.name(), "_", word] {
                    text.extend_from_slice(part.as_bytes());
                }
                put(&mut text, ":", *count);
                text.extend_from_slice(b"\r\n");
            }
            let total: u64 = counts.iter().sum();
            text.extend_from_slice(b"cluster_stats_messages_");
            text.extend_from_slice(word.as_bytes());
            put(&mut text, ":", total);
            text.extend_from_slice(b"\r\n");
        }
        put(&mut text, "total_cluster_links_buffer_limit_exceeded:", self.stats.over_limit);
        text.extend_from_slice(b"\r\n");
        as_text(text)
    }

    /// CLUSTER SLOTS.
    pub(super) fn slots_reply(&self, turn: &Turn<'_>) -> Reply {
        let owners =
            self.nodes.by_id().flat_map(|idx| self.nodes.get(idx).slots.runs().map(move |run| (run, idx)));
        let mut runs: Vec<_> = owners.collect();
        runs.sort_unstable();
        let entry = |((first, last), owner): ((u16, u16), NodeIdx)| {
            let master = self.nodes.get(owner);
            let mut entry = vec![Reply::Integer(first.into()), Reply::Integer(last.into())];
            entry.push(self.slots_node(master));
            let replicas = master.replicas.iter().filter(|replica| {
                // A replica that never synced has nothing to serve.
                !self.nodes.get(**replica).failed() && self.offset_of(**replica, turn) != 0
            });
            entry.extend(replicas.map(|replica| self.slots_node(self.nodes.get(*replica))));
            Reply::Array(entry)
        };
        Reply::Array(runs.into_iter().map(entry).collect())
    }

    fn slots_node(&self, node: &Node) -> Reply {
        let preferred = self.settings.preferred_endpoint;
        let mut extra = Vec::new();
        if preferred != EndpointType::Ip {
            extra.push((Reply::bulk("ip"), Reply::bulk(node.ip.as_str())));
        }
        if preferred != EndpointType::Hostname && !node.hostname.is_empty() {
            extra.push((Reply::bulk("hostname"), Reply::bulk(node.hostname.as_str())));
        }
        Reply::Array(vec![
            self.endpoint_reply(node),
            Reply::Integer(node.port.into()),
            Reply::bulk(node.id.as_str()),
            Reply::Map(extra),
        ])
    }

    fn endpoint_reply(&self, node: &Node) -> Reply {
        self.endpoint_host(node).map_or(Reply::Null, Reply::bulk)
    }

    fn offset_of(&self, idx: NodeIdx, turn: &Turn<'_>) -> u64 {
        if idx == MYSELF { turn.facts.replication_offset() } else { self.nodes.get(idx).repl_offset }
    }

    /// CLUSTER SHARDS.
    pub(super) fn shards_reply(&self, turn: &Turn<'_>) -> Reply {
        let masters = self.nodes.by_id().filter(|idx| !self.nodes.get(*idx).is_replica());
        let shard = |master: NodeIdx| {
            let node = self.nodes.get(master);
            let slots = node.slots.ranges().into_iter().flat_map(|(first, last)| [first, last]);
            let members = std::iter::once(master).chain(node.replicas.iter().copied());
            Reply::Map(vec![
                (Reply::bulk("slots"), Reply::Array(slots.map(|slot| Reply::Integer(slot.into())).collect())),
                (Reply::bulk("nodes"), Reply::Array(members.map(|idx| self.shard_node(idx, turn)).collect())),
            ])
        };
        Reply::Array(masters.map(shard).collect())
    }

    fn shard_node(&self, idx: NodeIdx, turn: &Turn<'_>) -> Reply {
        let node = self.nodes.get(idx);
        let offset = self.offset_of(idx, turn);
        let health = if node.suspected() {
            "fail"
        } else if node.is_replica() && offset == 0 {
            "loading"
        } else {
            "online"
        };
        let mut fields = vec![
            ("id", Reply::bulk(node.id.as_str())),
            ("port", Reply::Integer(node.port.into())),
            ("ip", Reply::bulk(node.ip.as_str())),
            // Unlike CLUSTER SLOTS, an empty text where clients are to be told nothing.
            ("endpoint", Reply::bulk(self.endpoint_host(node).unwrap_or_default())),
        ];
        if !node.hostname.is_empty() {
            fields.push(("hostname", Reply::bulk(node.hostname.as_str())));
        }
        fields.push(("role", Reply::bulk(if node.is_replica() { "replica" } else { "master" })));
        fields.push(("replication-offset", Reply::Integer(offset as i64)));
        fields.push(("health", Reply::bulk(health)));
        Reply::Map(fields.into_iter().map(|(name, value)| (Reply::bulk(name), value)).collect())
    }

    /// CLUSTER LINKS.
    pub(super) fn links_reply(&self, turn: &Turn<'_>) -> Reply {
        let mut links = Vec::new();
        for idx in self.nodes.by_id() {
            let node = self.nodes.get(idx);
            for conn in [node.outbound, node.inbound].into_iter().flatten() {
                let Some(link) = self.links.get(&conn) else { continue };
                let (allocated, queued) = self.queued_on(conn, turn);
                let fields = [
                    ("direction", Reply::bulk(if link.outbound { "to" } else { "from" })),
                    ("node", Reply::bulk(node.id.as_str())),
                    ("create-time", Reply::Integer(link.created_wall_ms as i64)),
                    ("events", Reply::bulk(if queued > 0 { "rw" } else { "r" })),
                    ("send-buffer-allocated", Reply::Integer(allocated as i64)),
                    ("send-buffer-used", Reply::Integer(queued as i64)),
                ];
                links.push(Reply::Map(fields.map(|(name, value)| (Reply::bulk(name), value)).into()));
            }
        }
        Reply::Array(links)
    }
}

/// A text and a number behind it.
fn put(text: &mut Vec<u8>, before: &str, number: u64) {
    text.extend_from_slice(before.as_bytes());
    put_unsigned(text, number);
}

/// What was put together from texts and numbers.
fn as_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}
