//! A node alone against whatever may come over the bus: its table is full of peers, none of which is there, and
//! the attacker speaks for all of them and for strangers. Between the packets time passes, links come and go,
//! saves fail, commands arrive. The script of an attack is bytes: the fuzzer's, or a kept file's.

use std::net::{IpAddr, SocketAddr};

use super::bus::{self, Body, Extension, Gossip, Header, Packet, PingKind};
use super::{
    Action, CRON_MS, Cluster, ClusterSettings, Facts, MasterLink, NodeFlags, NodeId, SLOTS, SlotBitmap, Turn,
    nodes_conf,
};
use crate::io::{ConnId, Mono, Now, WallMs};

const STEPS_MAX: usize = 64;
/// The whole table is looked at after so many steps, and at the end.
const CHECK_EVERY: usize = 8;
const NODES: u8 = 6;
const NODE_TIMEOUT_MS: u64 = 1000;
/// Bytes of a link's own that are no buffer.
const LINK_BYTES: usize = 4096;

/// Carries out the script; panics where the node breaks one of its rules.
pub fn bus_node(script: &[u8]) {
    let mut script = Script(script);
    let mut attack = Attack::new(&mut script);
    for step in 1..=STEPS_MAX {
        if script.0.is_empty() {
            break;
        }
        attack.step(&mut script);
        if step % CHECK_EVERY == 0 {
            attack.cluster.check_table();
        }
    }
    attack.cluster.check_table();
}

/// A nodes.conf: what was read is written and read again the same.
pub fn nodes_conf_text(text: &[u8]) {
    let Ok(Some(conf)) = nodes_conf::parse(text) else { return };
    let rewrite = |conf| {
        let now = Now { mono: Mono(5_000_000), wall: WallMs(1_700_000_000_000) };
        let mut turn = Turn { now, facts: &Idle, next_conn: &mut ConnId(1), actions: &mut Vec::new() };
        let cluster = Cluster::new(ClusterSettings::default(), Some(conf), 1, &mut turn);
        cluster.check_table();
        cluster.nodes_conf_text(&turn)
    };
    let once = rewrite(conf);
    let again = nodes_conf::parse(once.as_bytes()).expect("a node reads what it wrote");
    assert_eq!(rewrite(again.expect("it is not empty")), once);
}

/// The script, read as choices.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, n: u8) -> u8 {
        self.byte() % n
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn u64(&mut self) -> u64 {
        (0..8).fold(0, |sum, _| sum << 8 | u64::from(self.byte()))
    }

    fn bytes(&mut self, max: u8) -> Vec<u8> {
        let len = usize::from(self.below(max)).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken.to_vec()
    }
}

struct Attack {
    cluster: Cluster,
    now_ms: u64,
    next_conn: ConnId,
    next_inbound: u64,
    /// Connections that the node holds open, with who is at the other end.
    links: Vec<(ConnId, IpAddr)>,
    dialled: Vec<(ConnId, SocketAddr)>,
    saves: usize,
    /// Bytes given to the node, a bound for what it may hold.
    fed: usize,
}

/// A node without data.
struct Idle;

impl Facts for Idle {
    fn replication_offset(&self) -> u64 {
        1000
    }
    fn master_link(&self) -> MasterLink {
        MasterLink::Down { since: None }
    }
    fn keys_in_slot(&self, slot: u16) -> usize {
        usize::from(slot.is_multiple_of(5))
    }
    fn some_keys_of_slot(&self, _: u16, _: usize) -> Vec<Vec<u8>> {
        Vec::new()
    }
    fn no_keys(&self) -> bool {
        false
    }
    fn key_slot(&self, _: &[u8]) -> u16 {
        0
    }
    fn loading(&self) -> bool {
        false
    }
    fn outbox_len(&self, _: ConnId) -> usize {
        0
    }
    fn outbox_allocated(&self, _: ConnId) -> usize {
        0
    }
}

fn id_of(node: u8) -> NodeId {
    NodeId::parse(&[b'a' + node % 26; 40]).expect("letters")
}

fn ip_of(node: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, node + 1])
}

/// The slots of a master of the table; a replica speaks for its master's.
fn slots_of(node: u8) -> (u16, u16) {
    let third = |n: u16| SLOTS / 3 * n;
    let master = u16::from(node % 3);
    (third(master), third(master + 1) - 1)
}

/// Three masters with a replica each, as the node `me` has saved them.
fn conf(me: u8) -> String {
    let mut text = String::new();
    for node in 0..NODES {
        let (role, master) =
            if node < 3 { ("master", "-".to_owned()) } else { ("slave", id_of(node - 3).to_string()) };
        let own = if node == me { "myself," } else { "" };
        let (first, last) = slots_of(node);
        let slots = if node < 3 { format!(" {first}-{last}") } else { String::new() };
        text += &format!(
            "{} {}:6379@16379 {own}{role} {master} 0 1 {} connected{slots}\n",
            id_of(node),
            ip_of(node),
            node % 3 + 1
        );
    }
    text + "vars currentEpoch 6 lastVoteEpoch 5\n"
}

/// What a packet from a stranger may not touch.
#[derive(Debug, PartialEq, Eq)]
struct View {
    table: String,
    current_epoch: u64,
    last_vote_epoch: u64,
}

impl Attack {
    fn new(script: &mut Script<'_>) -> Self {
        let me = script.below(NODES);
        let boot = nodes_conf::parse(conf(me).as_bytes()).expect("a whole file");
        let settings = ClusterSettings {
            node_timeout_ms: NODE_TIMEOUT_MS,
            announce_ip: ip_of(me).to_string(),
            ..ClusterSettings::default()
        };
        let mut next_conn = ConnId(1);
        let now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
        let mut turn = Turn { now, facts: &Idle, next_conn: &mut next_conn, actions: &mut Vec::new() };
        let cluster = Cluster::new(settings, boot, u64::from(me), &mut turn);
        let mut attack = Self {
            cluster,
            now_ms: 10,
            next_conn,
            next_inbound: 2,
            links: Vec::new(),
            dialled: Vec::new(),
            saves: 0,
            fed: 0,
        };
        attack.turn(|_, _| ());
        for node in 0..NODES {
            attack.accept(ip_of(node));
        }
        attack.pass(100);
        attack
    }

    fn now(&self) -> Now {
        Now { mono: Mono(self.now_ms * 1000), wall: WallMs(1_700_000_000_000 + self.now_ms) }
    }

    /// One batch of the node.
    fn turn<R>(&mut self, call: impl FnOnce(&mut Cluster, &mut Turn<'_>) -> R) -> R {
        let (now, mut actions) = (self.now(), Vec::new());
        let mut turn = Turn { now, facts: &Idle, next_conn: &mut self.next_conn, actions: &mut actions };
        let result = call(&mut self.cluster, &mut turn);
        self.cluster.before_sleep(&mut turn);
        for action in actions {
            match action {
                Action::Dial { conn, addr, .. } => self.dialled.push((conn, addr)),
                Action::CloseLink { conn } => {
                    self.links.retain(|(open, _)| *open != conn);
                    self.dialled.retain(|(open, _)| *open != conn);
                }
                Action::Send { bytes, .. } => {
                    bus::decode(&bytes).expect("what a node sends is well formed");
                }
                Action::SaveConfig { text, .. } => {
                    self.saves += 1;
                    nodes_conf::parse(text.as_bytes()).expect("a node can read what it saves");
                }
                _ => {}
            }
        }
        let held = self.cluster.link_memory();
        let bound = 2 * self.fed + (self.links.len() + self.dialled.len() + 1) * (LINK_BYTES + 64 * 1024);
        assert!(held <= bound, "{held} bytes are held after {} were sent", self.fed);
        result
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.below(16) {
            0 => self.pass([10, 100, 300, 700, 1100, 2500][usize::from(script.below(6))]),
            1 => {
                let node = script.below(NODES + 2);
                self.accept(ip_of(node));
            }
            2 if !self.links.is_empty() => {
                let (conn, _) = self.links.swap_remove(usize::from(script.byte()) % self.links.len());
                self.turn(|cluster, _| cluster.link_closed(conn));
            }
            3 if !self.dialled.is_empty() => {
                let (conn, addr) = self.dialled.swap_remove(usize::from(script.byte()) % self.dialled.len());
                if script.below(4) == 0 {
                    self.turn(|cluster, turn| cluster.link_failed(conn, "Connection refused", turn));
                } else {
                    self.links.push((conn, addr.ip()));
                    self.turn(|cluster, turn| cluster.link_connected(conn, addr, addr, turn));
                }
            }
            4 if self.saves > 0 => {
                self.saves -= 1;
                let result = if script.below(4) == 0 { Err("no space".to_owned()) } else { Ok(()) };
                self.turn(|cluster, turn| cluster.config_saved(result, turn));
            }
            5 => self.command(script),
            _ => self.packet(script),
        }
    }

    /// Time passes, with the timer as often as it is due.
    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms = end.min(self.now_ms + CRON_MS);
            self.turn(Cluster::cron);
            let due = self.cluster.next_deadline().0;
            assert!(due > self.now_ms * 1000 && due <= (self.now_ms + CRON_MS) * 1000, "the timer stopped");
        }
    }

    fn accept(&mut self, ip: IpAddr) {
        let conn = ConnId(self.next_inbound);
        self.next_inbound += 2;
        self.links.push((conn, ip));
        let local = SocketAddr::new(ip_of(0), 16379);
        self.turn(|cluster, turn| cluster.link_accepted(conn, SocketAddr::new(ip, 40_000), local, turn));
    }

    fn command(&mut self, script: &mut Script<'_>) {
        let (id, slot, other) = (id_of(script.below(NODES + 1)), script.u16() % SLOTS, script.below(9));
        let words = match script.below(22) {
            0 => "RESET SOFT".to_owned(),
            1 => "RESET HARD".to_owned(),
            2 => format!("FORGET {id}"),
            3 => "FAILOVER".to_owned(),
            4 => "FAILOVER FORCE".to_owned(),
            5 => "FAILOVER TAKEOVER".to_owned(),
            6 => format!("REPLICATE {id}"),
            7 => format!("SETSLOT {slot} MIGRATING {id}"),
            8 => format!("SETSLOT {slot} IMPORTING {id}"),
            9 => format!("SETSLOT {slot} NODE {id}"),
            10 => format!("SETSLOT {slot} STABLE"),
            11 => format!("ADDSLOTS {slot}"),
            12 => format!("DELSLOTS {slot}"),
            13 => format!("MEET 10.0.0.{other} 6379"),
            14 => "BUMPEPOCH".to_owned(),
            15 => "SLOTS".to_owned(),
            16 => "SHARDS".to_owned(),
            17 => "LINKS".to_owned(),
            18 => "INFO".to_owned(),
            19 => format!("COUNT-FAILURE-REPORTS {id}"),
            20 => format!("SET-CONFIG-EPOCH {slot}"),
            _ => format!("REPLICAS {id}"),
        };
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        self.turn(|cluster, turn| cluster.command(&words, turn));
    }

    fn view(&self) -> View {
        let turn =
            Turn { now: self.now(), facts: &Idle, next_conn: &mut ConnId(1), actions: &mut Vec::new() };
        View {
            table: self.cluster.nodes_text(false, &turn),
            current_epoch: self.cluster.current_epoch,
            last_vote_epoch: self.cluster.last_vote_epoch,
        }
    }

    /// A packet on one of the links, and what it may do.
    fn packet(&mut self, script: &mut Script<'_>) {
        if self.links.is_empty() {
            return;
        }
        let (conn, _) = self.links[usize::from(script.byte()) % self.links.len()];
        let mut frame = bus::encode(&self.foreign_packet(script));
        for _ in 0..script.below(4) {
            let at = usize::from(script.u16()) % frame.len();
            // The signature and the length stay right: other streams end their link, which is another target.
            if at >= 8 {
                frame[at] = script.byte();
            }
        }
        let heard = bus::decode(&frame).ok();
        let outbound = self.cluster.links.get(&conn).is_some_and(|link| link.outbound);
        let me = self.cluster.my_id();
        let stranger = !outbound
            && heard.as_ref().is_none_or(|packet| {
                packet.header.sender == me || self.cluster.nodes.find(&packet.header.sender).is_none()
            });
        let before = (stranger || heard.is_none()).then(|| self.view());
        let (epoch, clock) = (self.cluster.nodes.me().config_epoch, self.cluster.current_epoch);
        let mine = (!self.cluster.i_am_replica()).then(|| self.cluster.nodes.me().slots.clone());
        self.fed += frame.len();
        self.turn(|cluster, turn| cluster.link_received(conn, &frame, turn));
        if let Some(before) = before {
            assert_eq!(self.view(), before, "a packet of a stranger changed the view");
        }
        let claimed = heard.map_or(0, |packet| match packet.body {
            Body::Update { config_epoch, .. } => config_epoch.max(packet.header.config_epoch),
            _ => packet.header.config_epoch,
        });
        if let Some(mine) = mine {
            let kept = &self.cluster.nodes.me().slots;
            let lost = mine.iter().find(|slot| !kept.contains(*slot));
            assert!(lost.is_none() || claimed > epoch, "slot {lost:?} of epoch {epoch} lost to {claimed}");
        }
        let ceiling = (i64::MAX as u64).max(clock.saturating_add(1 << 32)).saturating_add(1);
        let reached = self.cluster.current_epoch;
        assert!((clock..=ceiling).contains(&reached), "the clock of epochs went from {clock} to {reached}");
    }

    fn foreign_packet(&self, script: &mut Script<'_>) -> Packet {
        // Known nodes first, then strangers, then the node itself.
        let sender = script.below(NODES + 4);
        let id = if sender == NODES + 3 { self.cluster.my_id() } else { id_of(sender) };
        let header = Header {
            sender: id,
            port: self.port(script, 6379),
            pport: self.port(script, 0),
            cport: self.port(script, 16379),
            ip: self.ip(script, sender),
            current_epoch: self.epoch(script),
            config_epoch: self.epoch(script),
            offset: script.u64(),
            slots: self.slots(script, sender),
            master: (script.below(3) == 0).then(|| id_of(script.below(NODES + 2))),
            flags: NodeFlags(script.u16()),
            state: script.byte(),
            mflags: [script.byte() & 3, 0, 0],
        };
        let body = match script.below(14) {
            0..=2 => self.ping(script, PingKind::Ping),
            3..=4 => self.ping(script, PingKind::Pong),
            5 => self.ping(script, PingKind::Meet),
            6 => Body::Fail { failed: Some(id_of(script.below(NODES + 1))) },
            7 => {
                let channel = script.bytes(20);
                Body::Publish { sharded: script.below(2) == 0, channel, message: script.bytes(40) }
            }
            8 => Body::AuthRequest,
            9 => Body::AuthAck,
            10 => Body::MfStart,
            11 => {
                let node = Some(id_of(script.below(NODES + 1)));
                Body::Update { node, config_epoch: self.epoch(script), slots: self.slots(script, sender) }
            }
            12 => Body::Module { module: [1; 8], kind: script.byte(), data: script.bytes(30) },
            _ => Body::Unknown { number: script.u16().max(11), payload: script.bytes(50) },
        };
        Packet { header, body }
    }

    fn ping(&self, script: &mut Script<'_>, kind: PingKind) -> Body {
        let entries = script.below(5);
        let gossip = (0..entries).map(|_| {
            let about = script.below(26);
            Gossip {
                id: Some(id_of(about)),
                ping_sent_s: script.u64() as u32,
                pong_received_s: script.u64() as u32,
                ip: self.ip(script, about),
                port: self.port(script, 6379),
                cport: self.port(script, 16379),
                pport: self.port(script, 0),
                flags: NodeFlags(script.u16()),
            }
        });
        let gossip = gossip.collect();
        let mut extensions = Vec::new();
        match script.below(8) {
            0 => extensions.push(Extension::Hostname("one.example.org".to_owned())),
            1 => extensions.push(Extension::Other { kind: script.u16().max(3), data: script.bytes(40) }),
            2 => {
                let node = Some(id_of(script.below(NODES + 2)));
                extensions.push(Extension::Forgotten { node, ttl_s: script.u64() });
            }
            _ => {}
        }
        Body::Ping { kind, gossip, extensions }
    }

    fn port(&self, script: &mut Script<'_>, usual: u16) -> u16 {
        if script.below(4) == 0 { script.u16() } else { usual }
    }

    fn ip(&self, script: &mut Script<'_>, of: u8) -> String {
        match script.below(6) {
            0 => String::new(),
            1 => ip_of(script.below(NODES + 2)).to_string(),
            2 => String::from_utf8_lossy(&script.bytes(46)).into_owned(),
            _ => ip_of(of % 26).to_string(),
        }
    }

    fn epoch(&self, script: &mut Script<'_>) -> u64 {
        let clock = self.cluster.current_epoch;
        match script.below(10) {
            0 => 0,
            1..=3 => clock,
            4 | 5 => clock.saturating_add(1),
            6 => clock.saturating_add(1 << 32),
            7 => i64::MAX as u64,
            8 => u64::MAX,
            _ => script.u64(),
        }
    }

    fn slots(&self, script: &mut Script<'_>, sender: u8) -> SlotBitmap {
        let range = |(first, last): (u16, u16)| {
            let mut slots = SlotBitmap::new();
            (first..=last).for_each(|slot| {
                slots.insert(slot);
            });
            slots
        };
        match script.below(6) {
            0 => SlotBitmap::new(),
            1 => range((0, SLOTS - 1)),
            2 => self.cluster.nodes.me().slots.clone(),
            3 => range((script.u16() % SLOTS, script.u16() % SLOTS)),
            _ => range(slots_of(sender)),
        }
    }
}
