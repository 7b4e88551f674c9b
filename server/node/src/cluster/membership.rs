//! Who is in the cluster: MEET and handshakes, addresses, forgetting.

use super::bus::{Header, PingKind};
use super::{Cluster, MYSELF, Node, NodeFlags, NodeId, NodeIdx, Turn};
use crate::io::{ConnId, LogLevel};
use crate::zoo::Mutation;

impl Cluster {
    /// CLUSTER MEET: begins a handshake unless one with this address is under way.
    pub(super) fn start_handshake(&mut self, ip: &str, port: u16, cport: u16, turn: &mut Turn<'_>) {
        let running = self.nodes.by_id().any(|idx| {
            let node = self.nodes.get(idx);
            node.in_handshake() && node.ip == ip && node.port == port && node.cport == cport
        });
        if !running {
            self.add_handshake(ip.to_owned(), (port, 0, cport), NodeFlags::HANDSHAKE | NodeFlags::MEET, turn);
        }
    }

    /// A MEET from a node that I do not know: it is added under a passing id, and called back.
    pub(super) fn meet_back(&mut self, conn: ConnId, header: &Header, turn: &mut Turn<'_>) {
        let ip = self.sender_ip(conn, header);
        let running = self.nodes.by_id().any(|idx| {
            let node = self.nodes.get(idx);
            node.in_handshake() && node.ip == ip && node.port == header.port && node.cport == header.cport
        });
        if running || ip.is_empty() || !self.has_room_for_a_handshake() {
            return;
        }
        self.add_handshake(ip, (header.port, header.pport, header.cport), NodeFlags::HANDSHAKE, turn);
        self.save.ask();
    }

    fn add_handshake(&mut self, ip: String, ports: (u16, u16, u16), flags: NodeFlags, turn: &Turn<'_>) {
        let mut node = Node::new(NodeId::random(&mut self.random), flags, turn.now.mono);
        node.ip = ip;
        (node.port, node.pport, node.cport) = ports;
        self.nodes.add(node);
    }

    /// A ping-class packet on a link that I dialled: is it whom I called? False: stop processing it.
    pub(super) fn identify(&mut self, conn: ConnId, header: &Header, turn: &mut Turn<'_>) -> bool {
        let Some(idx) = self.links.get(&conn).and_then(|link| link.node) else { return false };
        let node = self.nodes.get(idx);
        if node.in_handshake() {
            if header.sender == self.my_id() {
                // I met myself.
                self.remove_node(idx, turn);
                return false;
            }
            if let Some(known) = self.nodes.find(&header.sender) {
                turn.log(
                    LogLevel::Verbose,
                    format!(
                        "Handshake: we already know node {}, updating the address if needed.",
                        header.sender
                    ),
                );
                if known != idx && self.update_address_from(known, conn, header, turn) {
                    self.save.ask();
                    self.todo.update_state = true;
                }
                self.remove_node(idx, turn);
                return false;
            }
            self.nodes.rename(idx, header.sender);
            turn.log(LogLevel::Debug, format!("Handshake with node {} completed.", header.sender));
            let node = self.nodes.get_mut(idx);
            node.flags.set(NodeFlags::HANDSHAKE | NodeFlags::MEET, false);
            let role = header.flags.0 & (NodeFlags::MASTER | NodeFlags::REPLICA).0;
            node.flags |= NodeFlags(role).one_role();
            node.data_received = Some(turn.now.mono);
            node.pong_received = Some(turn.now.mono);
            node.ping_sent = None;
            self.save.ask();
            return true;
        }
        if node.id != header.sender {
            turn.log(
                LogLevel::Debug,
                format!(
                    "PONG contains mismatching sender ID. About node {} added {} ms ago, having flags {}",
                    node.id,
                    turn.now.mono.ms_since(node.created),
                    node.flags.0
                ),
            );
            let node = self.nodes.get_mut(idx);
            node.flags |= NodeFlags::NOADDR;
            node.ping_sent.get_or_insert(turn.now.mono);
            node.ip.clear();
            (node.port, node.pport, node.cport) = (0, 0, 0);
            self.drop_link(conn, turn);
            self.save.ask();
            return false;
        }
        true
    }

    /// A PING on an accepted link may bring a new address; true if it did.
    pub(super) fn update_address(
        &mut self,
        idx: NodeIdx,
        conn: ConnId,
        header: &Header,
        turn: &mut Turn<'_>,
    ) -> bool {
        // What comes on my own link came from the address that I know.
        if self.nodes.get(idx).outbound == Some(conn) {
            return false;
        }
        self.update_address_from(idx, conn, header, turn)
    }

    fn update_address_from(
        &mut self,
        idx: NodeIdx,
        conn: ConnId,
        header: &Header,
        turn: &mut Turn<'_>,
    ) -> bool {
        let ip = self.sender_ip(conn, header);
        let node = self.nodes.get_mut(idx);
        let ports = (header.port, header.pport, header.cport);
        if ip.is_empty() || (node.ip == ip && (node.port, node.pport, node.cport) == ports) {
            return false;
        }
        node.ip.clone_from(&ip);
        (node.port, node.pport, node.cport) = ports;
        node.flags.set(NodeFlags::NOADDR, false);
        self.drop_outbound(idx, turn);
        turn.log(
            LogLevel::Warning,
            format!("Address updated for node {}, now {ip}:{}", header.sender, header.port),
        );
        self.follow_master(turn);
        true
    }

    /// The announced address, or the one that the connection shows.
    fn sender_ip(&self, conn: ConnId, header: &Header) -> String {
        if !header.ip.is_empty() {
            return header.ip.clone();
        }
        let peer = self.links.get(&conn).and_then(|link| link.peer_ip);
        peer.map(|ip| ip.to_string()).unwrap_or_default()
    }

    /// The address on which I was called, if nothing else says what mine is.
    pub(super) fn learn_my_address(&mut self, conn: ConnId, kind: PingKind, turn: &mut Turn<'_>) {
        let unknown = kind == PingKind::Meet || self.nodes.me().ip.is_empty();
        if !unknown || !self.settings.announce_ip.is_empty() {
            return;
        }
        let Some(ip) = self.links.get(&conn).and_then(|link| link.local_ip).map(|ip| ip.to_string()) else {
            return;
        };
        let me = self.nodes.me_mut();
        if me.ip != ip {
            me.ip.clone_from(&ip);
            turn.log(LogLevel::Warning, format!("IP address for this node updated to {ip}"));
            self.save.ask();
        }
    }

    /// Removes a node with all that the table holds of it.
    pub(super) fn remove_node(&mut self, idx: NodeIdx, turn: &mut Turn<'_>) {
        if idx == MYSELF || !self.nodes.exists(idx) {
            return;
        }
        let links: Vec<ConnId> =
            self.links.iter().filter(|(_, link)| link.node == Some(idx)).map(|(conn, _)| *conn).collect();
        for conn in links {
            self.drop_link(conn, turn);
        }
        self.slots.forget(idx);
        self.slots.release_all(&mut self.nodes, idx);
        self.election.forget_voter(idx);
        if self.manual.is_for(idx) {
            self.reset_manual_failover(turn);
        }
        self.nodes.remove(idx);
    }

    /// A peer of 7.2 or later was told to forget a node, and passes it on (F-55).
    pub(super) fn forgotten_elsewhere(&mut self, id: &NodeId, ttl_s: u64, turn: &mut Turn<'_>) {
        let Some(idx) = self.nodes.find(id).filter(|idx| *idx != MYSELF && self.my_master() != Some(*idx))
        else {
            return;
        };
        self.forget_for(idx, ttl_s, turn);
    }

    /// CLUSTER FORGET, after its checks.
    pub(super) fn forget(&mut self, idx: NodeIdx, turn: &mut Turn<'_>) {
        self.forget_for(idx, self.settings.blacklist_ttl_s, turn);
    }

    fn forget_for(&mut self, idx: NodeIdx, ttl_s: u64, turn: &mut Turn<'_>) {
        let id = self.nodes.get(idx).id;
        if !self.settings.zoo.has(Mutation::ForgottenReturns) {
            self.blacklist.insert(id, turn.now.mono.plus_ms(ttl_s.saturating_mul(1000)));
        }
        self.remove_node(idx, turn);
        self.save.ask();
        self.todo.update_state = true;
    }

    pub(super) fn is_blacklisted(&self, id: &NodeId, turn: &Turn<'_>) -> bool {
        self.blacklist.get(id).is_some_and(|until| *until > turn.now.mono)
    }

    /// CLUSTER RESET, after its check.
    pub(super) fn reset(&mut self, hard: bool, turn: &mut Turn<'_>) {
        if self.i_am_replica() {
            self.set_as_master(MYSELF);
            self.following = None;
            turn.actions.push(super::Action::Promote);
            turn.actions.push(super::Action::FlushAll);
        }
        self.slots.close_all();
        self.reset_manual_failover(turn);
        self.election = super::Election::default();
        turn.slots_left(self.nodes.me().slots.clone());
        for idx in self.nodes.snapshot() {
            self.slots.release_all(&mut self.nodes, idx);
        }
        for idx in self.nodes.snapshot() {
            self.remove_node(idx, turn);
        }
        if hard {
            self.current_epoch = 0;
            self.last_vote_epoch = 0;
            self.nodes.me_mut().config_epoch = 0;
            turn.log(LogLevel::Warning, "configEpoch set to 0 via CLUSTER RESET HARD");
            let old = self.my_id();
            let id = NodeId::random(&mut self.random);
            self.nodes.rename(MYSELF, id);
            self.save.restart_epochs();
            turn.log(LogLevel::Notice, format!("Node hard reset, now I'm {id} (was {old})"));
        }
        self.save.promise();
        self.todo.update_state = true;
    }
}
