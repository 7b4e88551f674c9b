//! What a packet does to the table. The order of the steps is Redis' and matters: a PONG leaves before
//! anything else is judged, roles before slots, slots before the collision rule, gossip last.

use super::bus::{self, Body, Extension, Header, MFLAG_PAUSED, Packet, PingKind};
use super::{Cluster, MYSELF, NodeFlags, NodeIdx, Turn};
use crate::io::{ConnId, LogLevel};
use crate::zoo::Mutation;

/// Pings of a link on which more than this waits to be read stay unanswered: some hundred PONGs.
const UNREAD_PONGS_MAX_BYTES: usize = 1 << 20;

impl Cluster {
    /// One whole frame of a link.
    pub(super) fn process_frame(&mut self, conn: ConnId, frame: &[u8], turn: &mut Turn<'_>) {
        let number = bus::type_of(frame);
        self.stats.count_received(number);
        if self.drop_filter == Some(number) {
            return;
        }
        let slots_of = |sender: &_| {
            let node = self.nodes.get(self.nodes.find(sender)?);
            // A replica shows its master's.
            Some(&node.master.map_or(node, |master| self.nodes.get(master)).slots)
        };
        let packet = match bus::decode_knowing(frame, slots_of) {
            Ok(packet) => packet,
            Err(bus::Malformed::Version(_)) => return,
            Err(malformed) => {
                turn.log(LogLevel::Warning, malformed.to_string());
                return;
            }
        };
        self.process(conn, packet, turn);
    }

    fn process(&mut self, conn: ConnId, packet: Packet, turn: &mut Turn<'_>) {
        let Packet { header, body } = packet;
        let Some(link) = self.links.get(&conn) else { return };
        let (outbound, dialled) = (link.outbound, link.node);
        // My own words come back only through a confused network.
        let named = self.nodes.find(&header.sender).filter(|idx| *idx != MYSELF);
        let sender = named.filter(|idx| outbound || self.believed(*idx, conn, turn));
        // On a link that I dialled, somebody else than expected: handled with the pings below.
        let stranger = outbound && dialled != sender;
        let known = sender.filter(|idx| !stranger && !self.nodes.get(*idx).in_handshake());
        if let Some(idx) = sender {
            self.nodes.get_mut(idx).data_received = Some(turn.now.mono);
            if !outbound {
                self.own_inbound(conn, idx);
            }
        }
        let news = known.map(|idx| self.note_epochs(idx, &header, turn));
        // Who lies about epochs counts as alive and may gossip; no order, vote or claim is taken from it.
        let heard = known.filter(|_| news != Some(News::Implausible));
        match body {
            Body::Ping { kind, gossip, extensions } => {
                if kind != PingKind::Pong {
                    self.learn_my_address(conn, kind, turn);
                    // A MEET may also come from this very node: a link to oneself makes no acquaintance.
                    if named.is_none() && kind == PingKind::Meet && header.sender != self.my_id() {
                        self.meet_back(conn, &header, turn);
                    }
                    // Who does not read what he asked for is not answered for ever.
                    if turn.facts.outbox_len(conn) <= UNREAD_PONGS_MAX_BYTES {
                        self.send_ping(conn, PingKind::Pong, turn);
                    }
                }
                if outbound && !self.identify(conn, &header, turn) {
                    return;
                }
                let (Some(idx), Some(news)) = (known, news) else { return };
                self.ping_class(idx, conn, kind, &header, news, turn);
                if !self.nodes.exists(idx) {
                    return;
                }
                self.process_gossip(idx, &gossip, turn);
                self.process_extensions(idx, extensions, turn);
            }
            Body::Fail { failed } => match (heard, failed) {
                (Some(idx), Some(failed)) => self.fail_announced(idx, &failed, turn),
                _ => turn.log(
                    LogLevel::Notice,
                    format!("Ignoring FAIL message from unknown node {}", header.sender),
                ),
            },
            Body::Publish { sharded, channel, message } => {
                if known.is_some() {
                    turn.actions.push(super::Action::Publish { sharded, channel, message });
                }
            }
            Body::AuthRequest => {
                if let Some(idx) = heard {
                    self.consider_vote(idx, &header, turn);
                }
            }
            Body::AuthAck => {
                if let Some(idx) = heard {
                    self.count_vote(idx, header.current_epoch);
                }
            }
            Body::MfStart => {
                if let Some(idx) = heard {
                    self.manual_failover_requested(idx, conn, turn);
                }
            }
            Body::Update { node, config_epoch, slots } => {
                if let (Some(_), Some(about)) = (heard, node.and_then(|id| self.nodes.find(&id))) {
                    self.update_received(about, config_epoch, &slots, turn);
                }
            }
            Body::Module { .. } => {}
            Body::Unknown { number, .. } => {
                turn.log(LogLevel::Warning, format!("Received unknown packet type: {number}"));
            }
        }
    }

    /// Epochs and offset of a known sender. Tells whether the packet is news of its role and slots.
    fn note_epochs(&mut self, idx: NodeIdx, header: &Header, turn: &mut Turn<'_>) -> News {
        if !self.plausible_epoch(header.current_epoch) || !self.plausible_epoch(header.config_epoch) {
            turn.log(
                LogLevel::Verbose,
                format!(
                    "Node {} says epochs {} and {}, which nobody can have minted: not believed.",
                    header.sender, header.current_epoch, header.config_epoch
                ),
            );
            return News::Implausible;
        }
        self.observe_epoch(header.current_epoch);
        let paused_master =
            self.my_master() == Some(idx) && self.i_am_replica() && header.mflags[0] & MFLAG_PAUSED != 0;
        let node = self.nodes.get_mut(idx);
        // F-10: the two links of a pair are separate streams, so a packet can be older than what I heard on
        // the other one. A node's clock never runs behind its own config epoch, so such a packet was made
        // before its sender had the epoch under which I know it: its roles and slots are history.
        let is_old = header.current_epoch < node.config_epoch;
        let believed = self.settings.zoo.has(Mutation::OldMessagesBelieved);
        let news = if is_old && !believed { News::History } else { News::Fresh };
        if header.config_epoch > node.config_epoch {
            node.config_epoch = header.config_epoch;
            self.save.ask_synced();
        }
        let node = self.nodes.get_mut(idx);
        node.repl_offset = header.offset;
        if paused_master && self.manual.master_paused_at(header.offset) {
            self.todo.manual_failover = true;
            turn.log(
                LogLevel::Warning,
                format!("Received replication offset for paused master manual failover: {}", header.offset),
            );
        }
        news
    }

    /// Steps of a ping-class packet from a known node, after the PONG.
    fn ping_class(
        &mut self,
        idx: NodeIdx,
        conn: ConnId,
        kind: PingKind,
        header: &Header,
        news: News,
        turn: &mut Turn<'_>,
    ) {
        let nofailover = header.flags.any(NodeFlags::NOFAILOVER);
        self.nodes.get_mut(idx).flags.set(NodeFlags::NOFAILOVER, nofailover);
        if kind == PingKind::Ping && self.update_address(idx, conn, header, turn) {
            self.save.ask();
            self.todo.update_state = true;
        }
        let own_link = self.links.get(&conn).is_some_and(|link| link.outbound && link.node == Some(idx));
        if own_link && kind == PingKind::Pong {
            self.pong_received(idx, turn);
        }
        if news == News::Implausible {
            return;
        }
        if news == News::History || self.doubts_role(idx, header, turn) {
            turn.log(
                LogLevel::Debug,
                format!("Ignoring the role and slots in an old message of node {}", header.sender),
            );
            return;
        }
        self.note_role(idx, header, turn);
        self.note_slots(idx, header, turn);
        let (me, node) = (self.nodes.me(), self.nodes.get(idx));
        if me.is_master() && node.is_master() && header.config_epoch == me.config_epoch {
            self.resolve_collision(idx, header, turn);
        } else {
            self.nodes.get_mut(idx).collided = None;
        }
    }

    /// F-10, of a candidate: from its request for votes on a replica's packets bear the epoch that it wins later, so that
    /// their clock does not tell them from what it says as master. But its old master's epoch, which they bear too, does. A
    /// master can only say so anew if it gave its slots up by hand; then it says nothing else, and is believed after a while.
    fn doubts_role(&mut self, idx: NodeIdx, header: &Header, turn: &Turn<'_>) -> bool {
        let (now, while_ms) = (turn.now.mono, self.settings.node_timeout_ms);
        let believed = self.settings.zoo.has(Mutation::OldMessagesBelieved);
        let node = self.nodes.get_mut(idx);
        let behind = header.config_epoch < node.config_epoch && header.current_epoch <= node.config_epoch;
        let steps_down = node.is_master() && !node.slots.is_empty() && header.master.is_some();
        if !(behind && steps_down) || believed {
            node.doubted = None;
            return false;
        }
        now.ms_since(*node.doubted.get_or_insert(now)) < while_ms
    }

    /// The role that a header claims: the master field decides.
    fn note_role(&mut self, idx: NodeIdx, header: &Header, turn: &mut Turn<'_>) {
        let Some(master_id) = header.master else {
            self.set_as_master(idx);
            return;
        };
        // Also one of which no role was known yet.
        if !self.nodes.get(idx).is_replica() {
            let left = self.nodes.get(idx).slots.clone();
            self.slots.release_all(&mut self.nodes, idx);
            let flags = &mut self.nodes.get_mut(idx).flags;
            flags.set(NodeFlags::MASTER | NodeFlags::MIGRATE_TO, false);
            flags.set(NodeFlags::REPLICA, true);
            self.save.ask();
            self.todo.update_state = true;
            self.inherit(idx, &left, header);
        }
        let Some(master) = self.nodes.find(&master_id).filter(|master| *master != idx) else { return };
        if self.nodes.get(idx).master != Some(master) {
            self.nodes.attach(idx, master);
            self.save.ask();
            turn.log(LogLevel::Debug, format!("Node {} is now a replica of node {master_id}", header.sender));
        }
    }

    /// F-11: a master that says "I am a replica now" names its heir, with the heir's epoch and slots. If that was its
    /// replica the slots go over to it at once; else they would have no owner until the heir is heard.
    fn inherit(&mut self, from: NodeIdx, left: &super::SlotBitmap, header: &Header) {
        let believed = self.settings.zoo.has(Mutation::OldMessagesBelieved);
        let heir = header.master.and_then(|id| self.nodes.find(&id)).filter(|heir| *heir != MYSELF);
        let is_heir = |heir: &NodeIdx| self.nodes.get(*heir).master == Some(from) || believed;
        let Some(heir) = heir.filter(is_heir) else { return };
        self.set_as_master(heir);
        let node = self.nodes.get_mut(heir);
        node.config_epoch = node.config_epoch.max(header.config_epoch);
        for slot in left.iter().filter(|slot| header.slots.contains(*slot)) {
            self.slots.bind(&mut self.nodes, slot, heir);
        }
        self.save.ask_synced();
    }

    /// The slots that a header claims for its sender, or for its sender's master.
    fn note_slots(&mut self, idx: NodeIdx, header: &Header, turn: &mut Turn<'_>) {
        let is_master = self.nodes.get(idx).is_master();
        let shard = if is_master { Some(idx) } else { self.nodes.get(idx).master };
        let Some(shard) = shard else { return };
        if self.nodes.get(shard).slots == header.slots {
            if is_master {
                self.slots.note_all_claimed(&header.slots);
            }
            return;
        }
        if is_master {
            self.apply_claims(idx, header.config_epoch, &header.slots, turn);
            if !self.nodes.exists(idx) {
                return;
            }
        }
        // Tell a sender that speaks for slots which have a newer owner.
        let newer = header.slots.iter().find_map(|slot| {
            let owner = self.slots.owner(slot)?;
            let free = owner == idx || self.slots.is_unclaimed(slot);
            (!free && self.nodes.get(owner).config_epoch > header.config_epoch).then_some((slot, owner))
        });
        if let Some((slot, owner)) = newer {
            turn.log(
                LogLevel::Verbose,
                format!(
                    "Node {} has old slots configuration, sending an UPDATE message about {} (slot {slot})",
                    header.sender,
                    self.nodes.get(owner).id
                ),
            );
            let body = self.update_about(owner);
            self.send_to(idx, body, turn);
        }
    }

    /// UPDATE: what its sender knows of `about`.
    fn update_received(
        &mut self,
        about: NodeIdx,
        config_epoch: u64,
        slots: &super::SlotBitmap,
        turn: &mut Turn<'_>,
    ) {
        // What I own is mine to say.
        let old = self.nodes.get(about).config_epoch >= config_epoch;
        if about == MYSELF || old || !self.plausible_epoch(config_epoch) {
            return;
        }
        self.set_as_master(about);
        self.nodes.get_mut(about).config_epoch = config_epoch;
        // The clock of epochs never runs behind an epoch that is in use.
        self.observe_epoch(config_epoch);
        self.save.ask_synced();
        self.apply_claims(about, config_epoch, slots, turn);
    }

    fn process_extensions(&mut self, idx: NodeIdx, extensions: Vec<Extension>, turn: &mut Turn<'_>) {
        // No host name in the packet: the sender has none.
        let mut hostname = String::new();
        for extension in extensions {
            match extension {
                Extension::Hostname(name) => hostname = name,
                Extension::Forgotten { node: Some(id), ttl_s } => self.forgotten_elsewhere(&id, ttl_s, turn),
                Extension::Forgotten { .. } | Extension::Other { .. } => {}
            }
        }
        if !self.nodes.exists(idx) {
            return;
        }
        let node = self.nodes.get_mut(idx);
        if node.hostname != hostname {
            node.hostname = hostname;
            self.save.ask();
        }
    }
}

/// Whether a packet's role and slots are to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Fresh,
    History,
    Implausible,
}
