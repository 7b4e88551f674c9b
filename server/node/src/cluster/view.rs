//! The table as clients see it: CLUSTER NODES, SLOTS, SHARDS, INFO, LINKS.

use std::fmt::Write;

use super::bus::PacketType;
use super::{Cluster, EndpointType, MYSELF, Node, NodeFlags, NodeIdx, Reply, SLOTS, Turn};

impl Cluster {
    /// CLUSTER NODES; `handshakes`: with nodes that are still being met (not in nodes.conf).
    pub fn nodes_text(&self, handshakes: bool, turn: &Turn<'_>) -> String {
        let mut text = String::new();
        for idx in self.nodes.by_id() {
            if handshakes || !self.nodes.get(idx).in_handshake() {
                text.push_str(&self.node_line(idx, turn));
                text.push('\n');
            }
        }
        text
    }

    /// One line of CLUSTER NODES, without its end.
    pub(super) fn node_line(&self, idx: NodeIdx, turn: &Turn<'_>) -> String {
        let node = self.nodes.get(idx);
        let mut line = format!("{} {}:{}@{}", node.id, node.ip, node.port, node.cport);
        if !node.hostname.is_empty() {
            let _ = write!(line, ",{}", node.hostname);
        }
        let master = node.master.map(|master| self.nodes.get(master));
        let _ = write!(
            line,
            " {} {} {} {} {} {}",
            node.flags,
            master.map_or("-", |master| master.id.as_str()),
            turn.wall_ms(node.ping_sent),
            turn.wall_ms(node.pong_received),
            master.unwrap_or(node).config_epoch,
            if idx == MYSELF || node.outbound.is_some() { "connected" } else { "disconnected" },
        );
        for (first, last) in node.slots.ranges() {
            let _ = if first == last { write!(line, " {first}") } else { write!(line, " {first}-{last}") };
        }
        if idx == MYSELF {
            let migrating = self.slots.migrating.iter().map(|(slot, peer)| (slot, "->-", peer));
            let importing = self.slots.importing.iter().map(|(slot, peer)| (slot, "-<-", peer));
            let mut open: Vec<_> = migrating.chain(importing).collect();
            open.sort_by_key(|(slot, ..)| **slot);
            for (slot, arrow, peer) in open {
                let _ = write!(line, " [{slot}{arrow}{}]", self.nodes.get(*peer).id);
            }
        }
        line
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
        let mut text = format!(
            "cluster_state:{}\r\ncluster_slots_assigned:{assigned}\r\ncluster_slots_ok:{}\r\n\
             cluster_slots_pfail:{pfail}\r\ncluster_slots_fail:{fail}\r\ncluster_known_nodes:{}\r\n\
             cluster_size:{}\r\ncluster_current_epoch:{}\r\ncluster_my_epoch:{}\r\n",
            if self.state.is_ok() { "ok" } else { "fail" },
            assigned - pfail - fail,
            self.nodes.len(),
            self.state.size(),
            self.current_epoch,
            self.my_config_epoch(),
        );
        for (word, counts) in [("sent", &self.stats.sent), ("received", &self.stats.received)] {
            for (packet_type, count) in PacketType::ALL.iter().zip(counts).filter(|(_, count)| **count > 0) {
                let _ = write!(text, "cluster_stats_messages_{}_{word}:{count}\r\n", packet_type.name());
            }
            let total: u64 = counts.iter().sum();
            let _ = write!(text, "cluster_stats_messages_{word}:{total}\r\n");
        }
        let _ = write!(text, "total_cluster_links_buffer_limit_exceeded:{}\r\n", self.stats.over_limit);
        text
    }

    /// CLUSTER SLOTS.
    pub(super) fn slots_reply(&self, turn: &Turn<'_>) -> Reply {
        let mut entries = Vec::new();
        let mut first = 0;
        while first < SLOTS {
            let owner = self.slots.owner(first);
            let end = (first..SLOTS).find(|slot| self.slots.owner(*slot) != owner).unwrap_or(SLOTS);
            if let Some(owner) = owner {
                let master = self.nodes.get(owner);
                let mut entry = vec![Reply::Integer(first.into()), Reply::Integer((end - 1).into())];
                entry.push(self.slots_node(master));
                let replicas = master.replicas.iter().filter(|replica| {
                    // A replica that never synced has nothing to serve.
                    !self.nodes.get(**replica).failed() && self.offset_of(**replica, turn) != 0
                });
                entry.extend(replicas.map(|replica| self.slots_node(self.nodes.get(*replica))));
                entries.push(Reply::Array(entry));
            }
            first = end;
        }
        Reply::Array(entries)
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
