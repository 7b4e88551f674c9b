//! Pings: when they are sent, whom they speak of, and what is believed of what others say.

use super::bus::{Body, Extension, Gossip, MFLAG_EXT_DATA, PingKind};
use super::{Cluster, MYSELF, Node, NodeFlags, NodeIdx, Turn};
use crate::io::{ConnId, Mono};
use crate::zoo::Mutation;

/// A pong may be gossiped from so far in my future before I disbelieve it.
const FUTURE_MS: u64 = 500;
/// Masters that are told of a suspicion at once.
const COLLECTORS: usize = 5;
/// Random table entries of which the one heard least recently is pinged.
const RANDOM_PICKS: usize = 5;

impl Cluster {
    /// Queues a PING, PONG or MEET on a link.
    pub(super) fn send_ping(&mut self, conn: ConnId, kind: PingKind, turn: &mut Turn<'_>) {
        let Some(link) = self.links.get(&conn) else { return };
        if let Some(idx) = link.node.filter(|_| link.outbound && kind != PingKind::Pong) {
            self.nodes.get_mut(idx).ping_sent = Some(turn.now.mono);
        }
        let gossip = self.pick_gossip(turn);
        let mut header = self.header(turn);
        let hostname = &self.nodes.me().hostname;
        let mut extensions = Vec::new();
        if !hostname.is_empty() {
            extensions.push(Extension::Hostname(hostname.clone()));
            header.mflags[0] |= MFLAG_EXT_DATA;
        }
        self.send(conn, header, Body::Ping { kind, gossip, extensions });
    }

    /// PING on my own link to a node.
    pub(super) fn ping(&mut self, idx: NodeIdx, turn: &mut Turn<'_>) {
        if let Some(conn) = self.nodes.get(idx).outbound {
            self.send_ping(conn, PingKind::Ping, turn);
        }
    }

    /// PING out of turn, for the answer or for what it says. A ping that is outstanding from before stays so: the
    /// clock of a silence does not begin anew.
    pub(super) fn ping_out_of_turn(&mut self, idx: NodeIdx, turn: &mut Turn<'_>) {
        let outstanding = self.nodes.get(idx).ping_sent;
        self.ping(idx, turn);
        if outstanding.is_some() {
            self.nodes.get_mut(idx).ping_sent = outstanding;
        }
    }

    /// PFAIL, told at once to who counts the reports: the suspects' replicas, which have most use for a FAIL,
    /// and a few masters, the same ones for everybody, so that a majority's reports meet there. (All masters to
    /// all would be a storm in a large cluster, at a time when it may be short of processors.) Who suspects it
    /// too answers with its own report.
    pub(super) fn tell_suspicions(&mut self, suspects: &[NodeIdx], turn: &mut Turn<'_>) {
        let (mut masters, mut told) = (0, Vec::new());
        for idx in self.nodes.by_id() {
            let node = self.nodes.get(idx);
            if node.in_handshake() || node.suspected() {
                continue;
            }
            let counts = if node.is_master() {
                masters += 1;
                masters <= COLLECTORS
            } else {
                node.master.is_some_and(|master| suspects.contains(&master))
            };
            if counts && idx != MYSELF {
                told.push(idx);
            }
        }
        for idx in told {
            self.ping_out_of_turn(idx, turn);
        }
    }

    /// Once a second: of a few nodes picked at random, ping the one whose last pong is oldest.
    pub(super) fn ping_someone(&mut self, turn: &mut Turn<'_>) {
        let mut oldest: Option<(Option<Mono>, NodeIdx)> = None;
        for _ in 0..RANDOM_PICKS {
            let idx = self.nodes.at(self.random.below(self.nodes.len() as u64));
            let node = self.nodes.get(idx);
            let skip =
                idx == MYSELF || node.in_handshake() || node.outbound.is_none() || node.ping_sent.is_some();
            if !skip && oldest.is_none_or(|(pong, _)| node.pong_received < pong) {
                oldest = Some((node.pong_received, idx));
            }
        }
        if let Some((_, idx)) = oldest {
            self.ping(idx, turn);
        }
    }

    /// A PONG to everyone, or to the other replicas of my master.
    pub(super) fn broadcast_pong(&mut self, only_my_shard: bool, turn: &mut Turn<'_>) {
        let master = self.my_master();
        for idx in self.nodes.snapshot() {
            let node = self.nodes.get(idx);
            if idx == MYSELF || node.in_handshake() {
                continue;
            }
            if only_my_shard && !(node.is_replica() && node.master.is_some() && node.master == master) {
                continue;
            }
            if let Some(conn) = node.outbound {
                self.send_ping(conn, PingKind::Pong, turn);
            }
        }
    }

    /// A tenth of the table (at least three) at random, and everyone under suspicion.
    fn pick_gossip(&mut self, turn: &Turn<'_>) -> Vec<Gossip> {
        let known = self.nodes.len();
        let mut fresh = known.saturating_sub(2);
        let wanted = (known / 10).max(3).min(fresh);
        let mut picked: Vec<NodeIdx> = Vec::with_capacity(wanted + self.suspects);
        for _ in 0..wanted * 3 {
            if picked.len() >= wanted || fresh == 0 {
                break;
            }
            let idx = self.nodes.at(self.random.below(known as u64));
            let node = self.nodes.get(idx);
            // Suspects are added below.
            if idx == MYSELF || node.flags.any(NodeFlags::PFAIL) || picked.contains(&idx) {
                continue;
            }
            if !gossipable(node) || (node.outbound.is_none() && node.slots.is_empty()) {
                fresh -= 1;
                continue;
            }
            picked.push(idx);
        }
        if self.suspects > 0 {
            picked.extend(self.nodes.by_id().filter(|idx| {
                let node = self.nodes.get(*idx);
                *idx != MYSELF
                    && node.flags.any(NodeFlags::PFAIL)
                    && !node.in_handshake()
                    && node.may_be_missed()
            }));
        }
        picked.into_iter().map(|idx| gossip_about(self.nodes.get(idx), turn)).collect()
    }

    /// The gossip section of a known sender.
    pub(super) fn process_gossip(&mut self, sender: NodeIdx, gossip: &[Gossip], turn: &mut Turn<'_>) {
        // An offset or a promotion that my election waits for may have come with it.
        self.todo.failover |= self.election.next_step().is_some();
        for entry in gossip {
            let Some(id) = entry.id else { continue };
            match self.nodes.find(&id) {
                Some(idx) => self.gossip_about_known(sender, idx, entry, turn),
                None => self.gossip_about_unknown(entry, turn),
            }
        }
    }

    fn gossip_about_known(&mut self, sender: NodeIdx, idx: NodeIdx, entry: &Gossip, turn: &mut Turn<'_>) {
        let ill = entry.flags.any(NodeFlags::FAIL | NodeFlags::PFAIL);
        let anyone = self.settings.zoo.has(Mutation::ReplicasReport);
        if (self.nodes.get(sender).is_master() || anyone) && idx != MYSELF {
            self.failure_reported(sender, idx, ill, turn);
        }
        let node = self.nodes.get_mut(idx);
        if !ill && node.ping_sent.is_none() && node.fail_reports.is_empty() {
            // Said in Unix seconds, kept on my own clock.
            let wall = u64::from(entry.pong_received_s) * 1000;
            let pong = Mono(
                (turn.now.mono.0 + wall.saturating_sub(turn.now.wall.0) * 1000)
                    .saturating_sub(turn.now.wall.0.saturating_sub(wall).saturating_mul(1000)),
            );
            if wall <= turn.now.wall.0 + FUTURE_MS && wall > 0 && Some(pong) > node.pong_received {
                node.pong_received = Some(pong);
            }
        }
        // Somebody reaches it at another address than the one that fails for me.
        let moved = node.ip != entry.ip || node.port != entry.port || node.cport != entry.cport;
        let reachable = !ill && !entry.flags.any(NodeFlags::NOADDR) && !entry.ip.is_empty();
        if idx != MYSELF && node.suspected() && reachable && moved {
            node.ip.clone_from(&entry.ip);
            (node.port, node.pport, node.cport) = (entry.port, entry.pport, entry.cport);
            node.flags.set(NodeFlags::NOADDR, false);
            self.drop_outbound(idx, turn);
            self.save.ask();
        }
    }

    fn gossip_about_unknown(&mut self, entry: &Gossip, turn: &Turn<'_>) {
        let Some(id) = entry.id else { return };
        if entry.flags.any(NodeFlags::NOADDR) || entry.ip.is_empty() || self.is_blacklisted(&id, turn) {
            return;
        }
        if !self.has_room_for_gossip() {
            return;
        }
        // What only its holder may say of a node is not taken from others.
        let own = NodeFlags::MYSELF | NodeFlags::HANDSHAKE | NodeFlags::MEET;
        let mut node = Node::new(id, entry.flags.without(own).one_role(), turn.now.mono);
        node.ip.clone_from(&entry.ip);
        (node.port, node.pport, node.cport) = (entry.port, entry.pport, entry.cport);
        self.nodes.add(node);
        self.save.ask();
    }
}

fn gossipable(node: &Node) -> bool {
    node.has_address() && !node.in_handshake()
}

fn gossip_about(node: &Node, turn: &Turn<'_>) -> Gossip {
    Gossip {
        id: Some(node.id),
        ping_sent_s: (turn.wall_ms(node.ping_sent) / 1000) as u32,
        pong_received_s: (turn.wall_ms(node.pong_received) / 1000) as u32,
        ip: node.ip.clone(),
        port: node.port,
        cport: node.cport,
        pport: node.pport,
        flags: node.flags,
    }
}
