//! Bus connections: one that I dial to each node, one on which each node calls me.

use std::net::{IpAddr, SocketAddr};

use super::bus::{self, Body, FrameReader, Header, Packet, PingKind};
use super::{Action, Cluster, FailoverTiming, MYSELF, Node, NodeFlags, NodeIdx, Turn};
use crate::io::{ConnId, LogLevel, Mono};

/// A MEET without an answer is sent again after so long.
const MEET_REPEAT_MS: u64 = 500;

/// One bus connection.
#[derive(Debug)]
pub(super) struct Link {
    /// Whom I dialled; on an accepted link who spoke there last.
    pub node: Option<NodeIdx>,
    pub outbound: bool,
    pub created: Mono,
    /// When bytes last came on this very connection.
    pub data_received: Option<Mono>,
    /// Unix milliseconds, for CLUSTER LINKS.
    pub created_wall_ms: u64,
    pub peer_ip: Option<IpAddr>,
    pub local_ip: Option<IpAddr>,
    pub reader: FrameReader,
    /// It claimed to be a node that talks to me from elsewhere, and that was logged.
    pub doubted: bool,
    /// Packets for a connection that is still being made.
    pending: Option<Vec<Vec<u8>>>,
}

impl Link {
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.reader.held() + self.pending_len()
    }

    /// Bytes for a connection that is still being made.
    fn pending_len(&self) -> usize {
        self.pending.iter().flatten().map(Vec::len).sum()
    }

    const fn is_up(&self) -> bool {
        self.pending.is_none()
    }

    fn new(node: Option<NodeIdx>, outbound: bool, turn: &Turn<'_>) -> Self {
        Self {
            node,
            outbound,
            created: turn.now.mono,
            data_received: None,
            created_wall_ms: turn.now.wall.0,
            peer_ip: None,
            local_ip: None,
            reader: FrameReader::default(),
            doubted: false,
            pending: outbound.then(Vec::new),
        }
    }
}

impl Cluster {
    /// A peer called on the bus port.
    pub fn link_accepted(&mut self, conn: ConnId, peer: SocketAddr, local: SocketAddr, turn: &mut Turn<'_>) {
        // A master that still loads its data has nothing true to say (Redis leaves the call in the backlog).
        if turn.facts.loading() && !self.i_am_replica() {
            turn.actions.push(Action::CloseLink { conn });
            return;
        }
        let mut link = Link::new(None, false, turn);
        link.peer_ip = Some(peer.ip().to_canonical());
        link.local_ip = Some(local.ip().to_canonical());
        self.links.insert(conn, link);
    }

    /// A connection that this room asked for is up.
    pub fn link_connected(&mut self, conn: ConnId, peer: SocketAddr, local: SocketAddr, turn: &mut Turn<'_>) {
        let Some(link) = self.links.get_mut(&conn) else {
            // It was given up while it was being made.
            turn.actions.push(Action::CloseLink { conn });
            return;
        };
        link.peer_ip = Some(peer.ip().to_canonical());
        link.local_ip = Some(local.ip().to_canonical());
        for bytes in link.pending.take().unwrap_or_default() {
            self.outgoing.push((conn, bytes));
        }
        let Some(idx) = link.node else { return };
        // A ping that is outstanding from before stays so: a node that only accepts connections is not alive.
        let outstanding = self.nodes.get(idx).ping_sent;
        let meet = self.nodes.get(idx).flags.any(NodeFlags::MEET);
        self.send_ping(conn, if meet { PingKind::Meet } else { PingKind::Ping }, turn);
        let node = self.nodes.get_mut(idx);
        if outstanding.is_some() {
            node.ping_sent = outstanding;
        }
        if meet {
            node.met = Some(turn.now.mono);
        }
    }

    /// A connection that this room asked for could not be made.
    pub fn link_failed(&mut self, conn: ConnId, error: &str, turn: &mut Turn<'_>) {
        let Some(link) = self.links.get(&conn) else { return };
        if let Some(idx) = link.node {
            let node = self.nodes.get_mut(idx);
            // Failure detection starts even for a node that was never reached. (The original is told so late
            // that it lets the next ping start it.)
            if self.settings.timing == FailoverTiming::Fast {
                node.ping_sent.get_or_insert(turn.now.mono);
            }
            let (id, ip, port) = (node.id, node.ip.clone(), node.cport);
            turn.log(LogLevel::Verbose, format!("Connection with Node {id} at {ip}:{port} failed: {error}"));
        }
        self.forget_link(conn);
    }

    /// A bus connection ended.
    pub fn link_closed(&mut self, conn: ConnId) {
        // A peer that spoke on it and is gone now may be dead, which the next dial tells. One that only accepts
        // connections is dialled no more often than cron does.
        let spoke = self.links.get(&conn).is_some_and(|link| link.outbound && link.data_received.is_some());
        self.todo.redial |= spoke && self.is_fast();
        self.forget_link(conn);
    }

    /// Bytes of a bus connection.
    pub fn link_received(&mut self, conn: ConnId, bytes: &[u8], turn: &mut Turn<'_>) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        // The reader is out of the table while packets change the table.
        let mut reader = std::mem::take(&mut link.reader);
        link.data_received = Some(turn.now.mono);
        reader.push(bytes);
        loop {
            match reader.next(self.settings.max_packet_bytes) {
                Ok(Some(frame)) => {
                    self.process_frame(conn, frame, turn);
                    if !self.links.contains_key(&conn) {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    turn.log(LogLevel::Warning, error.to_string());
                    self.drop_link(conn, turn);
                    return;
                }
            }
        }
        reader.settle();
        if let Some(link) = self.links.get_mut(&conn) {
            link.reader = reader;
        }
    }

    /// `DEBUG CLUSTERLINK KILL TO|FROM|ALL <id>`; false if the node is not known.
    pub fn kill_links(&mut self, id: &[u8], to: bool, from: bool, turn: &mut Turn<'_>) -> bool {
        let Some(idx) = NodeId::parse(id).and_then(|id| self.nodes.find(&id)) else { return false };
        let node = self.nodes.get(idx);
        for conn in [node.outbound.filter(|_| to), node.inbound.filter(|_| from)].into_iter().flatten() {
            self.drop_link(conn, turn);
        }
        true
    }

    /// Cron's part: dial who is not linked, give up handshakes and overfull links.
    pub(super) fn maintain_links(&mut self, turn: &mut Turn<'_>) {
        let handshake_ms = self.settings.node_timeout_ms.max(1000);
        self.suspects = 0;
        for idx in self.nodes.snapshot() {
            let node = self.nodes.get(idx);
            if idx == MYSELF {
                continue;
            }
            self.suspects += usize::from(node.flags.any(NodeFlags::PFAIL));
            if !node.has_address() {
                continue;
            }
            if node.in_handshake() && turn.now.mono.ms_since(node.created) > handshake_ms {
                self.remove_node(idx, turn);
                continue;
            }
            for conn in [node.outbound, node.inbound].into_iter().flatten() {
                let limit = self.settings.link_sendbuf_limit;
                if limit > 0 && self.queued_on(conn, turn).1 > limit {
                    self.stats.over_limit += 1;
                    turn.log(
                        LogLevel::Warning,
                        format!("Freeing cluster link {} over its buffer limit", conn.0),
                    );
                    self.drop_link(conn, turn);
                }
            }
            match self.nodes.get(idx).outbound {
                None => self.dial(idx, turn),
                Some(conn) => self.meet_again(idx, conn, turn),
            }
        }
    }

    /// F-54: a MEET may be lost, and so may what its receiver does about it. It is said again until it is answered, and
    /// then until the node has called back: only that shows that it knows me, too.
    fn meet_again(&mut self, idx: NodeIdx, conn: ConnId, turn: &mut Turn<'_>) {
        let node = self.nodes.get(idx);
        let waits_ms =
            if node.in_handshake() { MEET_REPEAT_MS } else { self.settings.node_timeout_ms.max(1000) };
        let up = self.links.get(&conn).is_some_and(Link::is_up);
        if up && node.met.is_some() && turn.ms_since(node.met) > waits_ms {
            self.send_ping(conn, PingKind::Meet, turn);
            self.nodes.get_mut(idx).met = Some(turn.now.mono);
        }
    }

    /// Bytes that wait on a link: allocated, and used.
    pub(super) fn queued_on(&self, conn: ConnId, turn: &Turn<'_>) -> (usize, usize) {
        let pending = self.links.get(&conn).map_or(0, Link::pending_len);
        (turn.facts.outbox_allocated(conn) + pending, turn.facts.outbox_len(conn) + pending)
    }

    fn dial(&mut self, idx: NodeIdx, turn: &mut Turn<'_>) {
        let node = self.nodes.get_mut(idx);
        let Ok(ip) = node.ip.parse::<IpAddr>() else {
            node.ping_sent.get_or_insert(turn.now.mono);
            return;
        };
        let addr = SocketAddr::new(ip, node.cport);
        let conn = turn.new_conn();
        node.outbound = Some(conn);
        self.links.insert(conn, Link::new(Some(idx), true, turn));
        turn.actions.push(Action::Dial { conn, addr, source: self.settings.source_addr });
    }

    /// Closes a link and forgets what was queued for it.
    pub(super) fn drop_link(&mut self, conn: ConnId, turn: &mut Turn<'_>) {
        if self.forget_link(conn) {
            turn.actions.push(Action::CloseLink { conn });
        }
    }

    pub(super) fn drop_outbound(&mut self, idx: NodeIdx, turn: &mut Turn<'_>) {
        if let Some(conn) = self.nodes.get(idx).outbound {
            self.drop_link(conn, turn);
        }
    }

    fn forget_link(&mut self, conn: ConnId) -> bool {
        let Some(link) = self.links.remove(&conn) else { return false };
        self.outgoing.retain(|(to, _)| *to != conn);
        if let Some(idx) = link.node.filter(|idx| self.nodes.exists(*idx)) {
            // A node may have called twice: the call that goes on is still its.
            let other = self.links.iter().rev().find(|(_, link)| !link.outbound && link.node == Some(idx));
            let other = other.map(|(conn, _)| *conn);
            let node = self.nodes.get_mut(idx);
            if node.outbound == Some(conn) {
                node.outbound = None;
            }
            if node.inbound == Some(conn) {
                node.inbound = other;
            }
        }
        true
    }

    /// The sender of a packet on an accepted link is whom the link belongs to.
    pub(super) fn own_inbound(&mut self, conn: ConnId, idx: NodeIdx) {
        let Some(link) = self.links.get_mut(&conn).filter(|link| link.node != Some(idx)) else { return };
        let before = link.node.replace(idx);
        if let Some(node) = before.filter(|before| self.nodes.get(*before).inbound == Some(conn)) {
            self.nodes.get_mut(node).inbound = None;
        }
        let node = self.nodes.get_mut(idx);
        node.inbound = Some(conn);
        if !node.in_handshake() {
            node.met = None;
        }
    }

    /// Queues a packet on a link.
    pub(super) fn send(&mut self, conn: ConnId, header: Header, body: Body) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        self.stats.count_sent(body.type_number());
        let bytes = bus::encode(&Packet { header, body });
        match &mut link.pending {
            Some(pending) => pending.push(bytes),
            None => self.outgoing.push((conn, bytes)),
        }
    }

    /// Queues a packet on my own link to a node; it is lost if there is none.
    pub(super) fn send_to(&mut self, idx: NodeIdx, body: Body, turn: &Turn<'_>) {
        if let Some(conn) = self.nodes.get(idx).outbound {
            let header = self.header(turn);
            self.send(conn, header, body);
        }
    }

    /// Queues a packet for everyone I have a link to, handshakes excepted.
    pub(super) fn broadcast(&mut self, header: &Header, body: &Body) {
        for idx in self.nodes.snapshot() {
            let node = self.nodes.get(idx);
            if idx == MYSELF || node.in_handshake() {
                continue;
            }
            if let Some(conn) = node.outbound {
                self.send(conn, header.clone(), body.clone());
            }
        }
    }

    /// What every packet says about me.
    pub(super) fn header(&self, turn: &Turn<'_>) -> Header {
        let me = self.nodes.me();
        // A replica speaks for its master's slots and epoch.
        let shard: &Node = self.nodes.get(me.master.unwrap_or(MYSELF));
        let paused = me.is_master() && self.manual.is_running();
        Header {
            sender: me.id,
            port: me.port,
            pport: 0,
            cport: me.cport,
            ip: self.settings.announce_ip.clone(),
            current_epoch: self.announced_epoch(shard.config_epoch),
            config_epoch: shard.config_epoch,
            offset: turn.facts.replication_offset(),
            slots: shard.slots.clone(),
            master: me.master.map(|master| self.nodes.get(master).id),
            flags: me.flags,
            state: u8::from(!self.state.is_ok()),
            mflags: [if paused { bus::MFLAG_PAUSED } else { 0 }, 0, 0],
        }
    }
}

use super::NodeId;
