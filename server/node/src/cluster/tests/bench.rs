//! A cluster in memory: N state machines, virtual time, links that can be cut, held or delayed, disks that
//! can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::bus::{self, Body, Packet};
use super::super::*;
use crate::io::WallMs;

/// One-way delay of the wire and duration of a disk write.
const WIRE_MS: u64 = 1;
const DISK_MS: u64 = 1;
/// The wall clock reads so much more than the monotonic one.
pub const WALL_OFFSET_MS: u64 = 1_700_000_000_000;

/// What the rest of a node would know; set by the story.
#[derive(Debug, Default)]
pub struct NodeFacts {
    pub offset: u64,
    pub keys: BTreeMap<u16, usize>,
    pub loading: bool,
    pub link: Option<MasterLink>,
    pub queued: usize,
}

impl Facts for NodeFacts {
    fn replication_offset(&self) -> u64 {
        self.offset
    }
    fn master_link(&self) -> MasterLink {
        self.link.unwrap_or(MasterLink::Down { since: None })
    }
    fn keys_in_slot(&self, slot: u16) -> usize {
        self.keys.get(&slot).copied().unwrap_or(0)
    }
    fn some_keys_of_slot(&self, slot: u16, count: usize) -> Vec<Vec<u8>> {
        (0..self.keys_in_slot(slot).min(count)).map(|n| format!("{{{slot}}}{n}").into_bytes()).collect()
    }
    fn no_keys(&self) -> bool {
        self.keys.values().all(|count| *count == 0)
    }
    fn key_slot(&self, key: &[u8]) -> u16 {
        key.iter().map(|byte| u16::from(*byte)).sum::<u16>() % SLOTS
    }
    fn loading(&self) -> bool {
        self.loading
    }
    fn outbox_len(&self, _: ConnId) -> usize {
        self.queued
    }
    fn outbox_allocated(&self, _: ConnId) -> usize {
        self.queued.next_power_of_two()
    }
}

/// One process.
pub struct Machine {
    /// `None`: killed.
    pub cluster: Option<Cluster>,
    id: Option<NodeId>,
    pub facts: NodeFacts,
    pub settings: ClusterSettings,
    pub paused: bool,
    /// nodes.conf as a restart would find it.
    pub file: String,
    pub disk_fails: bool,
    pub log: Vec<(u64, String)>,
    /// Actions that the bench does not carry out itself, for stories to look at.
    pub seen: Vec<Action>,
    pub replicates: Option<SocketAddr>,
    conns: BTreeMap<ConnId, (usize, ConnId)>,
    next_out: ConnId,
    next_in: u64,
    ticket: u64,
    durable: u64,
    failed_ticket: Option<u64>,
    gated: Vec<(u64, ConnId, Vec<u8>)>,
    deferred: Vec<Event>,
    boots: u64,
}

#[derive(Debug)]
enum Event {
    Accepted(ConnId, SocketAddr, SocketAddr),
    Connected(ConnId, SocketAddr, SocketAddr),
    Failed(ConnId),
    Bytes(ConnId, Vec<u8>),
    Closed(ConnId),
    Saved(u64, String, bool),
}

/// A packet that went over the wire.
#[derive(Debug)]
pub struct Sighting {
    pub at_ms: u64,
    pub from: usize,
    pub to: usize,
    pub packet: Packet,
}

pub struct Bench {
    pub now_ms: u64,
    pub nodes: Vec<Machine>,
    pub wire_log: Vec<Sighting>,
    /// from -> to: bytes wait in the network until `heal`, as TCP keeps them; dials are not answered.
    pub cut: BTreeSet<(usize, usize)>,
    /// from -> to: bytes wait for `release`, dials pass.
    pub held: BTreeSet<(usize, usize)>,
    /// from -> to, packet type: such packets are lost.
    pub lost_types: BTreeSet<(usize, usize, u16)>,
    /// Keep what passes in `wire_log`.
    pub record: bool,
    waiting: Vec<(usize, usize, ConnId, Vec<u8>)>,
    events: BTreeMap<(u64, u64), (usize, Event)>,
    sequence: u64,
}

pub fn ip_of(node: usize) -> String {
    format!("127.22.0.{}", node + 1)
}

fn addr_of(node: usize, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 22, 0, node as u8 + 1)), port)
}

impl Bench {
    /// `count` nodes that do not know each other.
    pub fn strangers(count: usize, node_timeout_ms: u64) -> Self {
        let mut bench = Self {
            now_ms: 1000,
            nodes: Vec::new(),
            wire_log: Vec::new(),
            cut: BTreeSet::new(),
            held: BTreeSet::new(),
            lost_types: BTreeSet::new(),
            record: false,
            waiting: Vec::new(),
            events: BTreeMap::new(),
            sequence: 0,
        };
        for _ in 0..count {
            bench.nodes.push(Machine {
                cluster: None,
                id: None,
                facts: NodeFacts::default(),
                settings: ClusterSettings { node_timeout_ms, ..ClusterSettings::default() },
                paused: false,
                file: String::new(),
                disk_fails: false,
                log: Vec::new(),
                seen: Vec::new(),
                replicates: None,
                conns: BTreeMap::new(),
                next_out: ConnId(1),
                next_in: 2,
                ticket: 0,
                durable: 0,
                failed_ticket: None,
                gated: Vec::new(),
                deferred: Vec::new(),
                boots: 0,
            });
        }
        for node in 0..count {
            bench.start(node);
        }
        bench
    }

    /// Masters 0..m with even slots and epochs 1..=m, then r replicas of each (node m + i replicates i % m),
    /// all ok.
    pub fn cluster(masters: usize, replicas_each: usize, node_timeout_ms: u64) -> Self {
        let count = masters * (1 + replicas_each);
        let mut bench = Self::strangers(count, node_timeout_ms);
        for node in 0..masters {
            let (first, last) = slots_of(node, masters);
            bench.ok(node, &format!("ADDSLOTSRANGE {first} {last}"));
        }
        for node in 0..count {
            bench.ok(node, &format!("SET-CONFIG-EPOCH {}", node + 1));
            if node > 0 {
                bench.ok(node, &format!("MEET {} 6379", ip_of(0)));
            }
        }
        bench.until(20_000, "everybody knows everybody", |b| {
            (0..count).all(|n| {
                let cluster = b.at(n);
                cluster.nodes.len() == count
                    && cluster.nodes.by_id().all(|n| !cluster.nodes.get(n).in_handshake())
            })
        });
        for replica in masters..count {
            let id = bench.id((replica - masters) % masters);
            bench.ok(replica, &format!("REPLICATE {id}"));
        }
        bench.until(30_000, "all ok", |b| {
            (0..count).all(|n| {
                b.at(n).is_ok()
                    && (masters..count).all(|r| {
                        b.at(n).nodes.find(&b.id(r)).is_some_and(|r| b.at(n).nodes.get(r).master.is_some())
                    })
            })
        });
        // Let every pair have a link and a pong.
        bench.run(node_timeout_ms.max(2000));
        bench
    }

    /// As `cluster`, then with the timers of the original (`failover-timing redis`).
    pub fn original(masters: usize, replicas_each: usize, node_timeout_ms: u64) -> Self {
        let mut bench = Self::cluster(masters, replicas_each, node_timeout_ms);
        for node in 0..bench.nodes.len() {
            bench.set(node, |settings| settings.timing = FailoverTiming::Redis);
        }
        bench
    }

    pub fn at(&self, node: usize) -> &Cluster {
        self.nodes[node].cluster.as_ref().expect("the node runs")
    }

    /// Its id, also after its death.
    pub fn id(&self, node: usize) -> NodeId {
        self.nodes[node].id.expect("it was started")
    }

    /// Node `other` as `node` sees it.
    pub fn view(&self, node: usize, other: NodeId) -> &Node {
        let cluster = self.at(node);
        cluster.nodes.get(cluster.nodes.find(&other).expect("it is known"))
    }

    pub fn now(&self) -> Now {
        Now { mono: Mono(self.now_ms * 1000), wall: WallMs(self.now_ms + WALL_OFFSET_MS) }
    }

    /// Calls into a node as its glue would, then ends its batch.
    pub fn with<R>(&mut self, node: usize, call: impl FnOnce(&mut Cluster, &mut Turn<'_>) -> R) -> R {
        let now = self.now();
        let mut actions = Vec::new();
        let machine = &mut self.nodes[node];
        let cluster = machine.cluster.as_mut().expect("the node runs");
        let mut turn =
            Turn { now, facts: &machine.facts, next_conn: &mut machine.next_out, actions: &mut actions };
        let result = call(cluster, &mut turn);
        cluster.before_sleep(&mut turn);
        self.carry_out(node, actions);
        result
    }

    pub fn command(&mut self, node: usize, words: &str) -> Reply {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        self.with(node, |cluster, turn| cluster.command(&words, turn))
    }

    pub fn ok(&mut self, node: usize, words: &str) {
        assert_eq!(self.command(node, words), Reply::ok(), "{words}");
    }

    /// True if shard subscribers of this slot were to be told that it left.
    pub fn told_that_it_left(&self, node: usize, slot: u16) -> bool {
        let left = |action: &Action| matches!(action, Action::SlotsLeft { slots } if slots.contains(slot));
        self.nodes[node].seen.iter().any(left)
    }

    pub fn nodes_text(&mut self, node: usize) -> String {
        match self.command(node, "NODES") {
            Reply::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }

    pub fn start(&mut self, node: usize) {
        let now = self.now();
        let mut actions = Vec::new();
        let machine = &mut self.nodes[node];
        machine.boots += 1;
        let boot = nodes_conf::parse(machine.file.as_bytes()).expect("a node's own file is whole");
        let mut turn =
            Turn { now, facts: &machine.facts, next_conn: &mut machine.next_out, actions: &mut actions };
        let seed = node as u64 * 1000 + machine.boots;
        let mut cluster = Cluster::new(machine.settings.clone(), boot, seed, &mut turn);
        cluster.before_sleep(&mut turn);
        machine.id = Some(cluster.my_id());
        machine.cluster = Some(cluster);
        self.carry_out(node, actions);
    }

    /// kill -9: what is not on disk is gone, peers see their connections end.
    pub fn kill(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        machine.cluster = None;
        machine.gated.clear();
        machine.deferred.clear();
        machine.replicates = None;
        machine.failed_ticket = None;
        machine.durable = machine.ticket;
        let conns = std::mem::take(&mut machine.conns);
        self.events.retain(|_, (to, _)| *to != node);
        for (_, (peer, conn)) in conns {
            self.nodes[peer].conns.remove(&conn);
            self.push(WIRE_MS, peer, Event::Closed(conn));
        }
    }

    pub fn set(&mut self, node: usize, change: impl FnOnce(&mut ClusterSettings)) {
        let machine = &mut self.nodes[node];
        change(&mut machine.settings);
        let settings = machine.settings.clone();
        machine.cluster.as_mut().expect("the node runs").set_settings(settings);
    }

    /// Cuts a node off from all others, both ways.
    pub fn isolate(&mut self, node: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.cut.insert((node, other));
            self.cut.insert((other, node));
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
        self.release();
    }

    /// What was held arrives now, in order.
    pub fn release(&mut self) {
        self.held.clear();
        let cut = self.cut.clone();
        let waiting = std::mem::take(&mut self.waiting);
        let (stay, go): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(from, to, ..)| cut.contains(&(*from, *to)));
        self.waiting = stay;
        for (_, to, conn, bytes) in go {
            if self.nodes[to].conns.contains_key(&conn) {
                self.push(WIRE_MS, to, Event::Bytes(conn, bytes));
            }
        }
    }

    pub fn resume(&mut self, node: usize) {
        self.nodes[node].paused = false;
        for event in std::mem::take(&mut self.nodes[node].deferred) {
            self.push(0, node, event);
        }
    }

    /// Virtual time passes.
    pub fn run(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.step(end) {}
        self.now_ms = end;
    }

    /// Runs until the condition holds; how long that took. A story that waits in vain fails.
    pub fn until(&mut self, limit_ms: u64, what: &str, done: impl Fn(&Self) -> bool) -> u64 {
        let start = self.now_ms;
        while !done(self) {
            if self.now_ms >= start + limit_ms {
                let up = |n: &usize| self.nodes[*n].cluster.is_some();
                let running: Vec<usize> = (0..self.nodes.len()).filter(up).collect();
                let views: Vec<String> = running.into_iter().map(|n| self.nodes_text(n)).collect();
                panic!("not within {limit_ms} ms: {what}\n{}", views.join("\n"));
            }
            self.run(10);
        }
        self.now_ms - start
    }

    pub fn logged(&self, node: usize, text: &str) -> bool {
        self.nodes[node].log.iter().any(|(_, line)| line.contains(text))
    }

    /// Gives a node a packet as if `from` had sent it on the link that `from` dialled.
    pub fn inject(&mut self, from: usize, to: usize, change: impl FnOnce(&mut Packet)) {
        let conn = self.link_between(from, to);
        let facts = NodeFacts { offset: self.nodes[from].facts.offset, ..NodeFacts::default() };
        let turn =
            Turn { now: self.now(), facts: &facts, next_conn: &mut ConnId(1), actions: &mut Vec::new() };
        let header = self.at(from).header(&turn);
        let mut packet = Packet { header, body: Body::AuthRequest };
        change(&mut packet);
        let bytes = bus::encode(&packet);
        self.with(to, |cluster, turn| cluster.link_received(conn, &bytes, turn));
    }

    /// Is there another link than that to the node, and is it up?
    pub fn sent_on_new_link(&self, node: usize, other: NodeId, old: ConnId) -> bool {
        let conn = self.view(node, other).outbound;
        conn.is_some_and(|conn| conn != old && self.at(node).links[&conn].peer_ip.is_some())
    }

    /// A PING without gossip.
    pub fn ping(&mut self, from: usize, to: usize, change: impl FnOnce(&mut bus::Header)) {
        self.gossip(from, to, vec![], change);
    }

    /// A PING with these gossip entries.
    pub fn gossip(
        &mut self,
        from: usize,
        to: usize,
        gossip: Vec<bus::Gossip>,
        change: impl FnOnce(&mut bus::Header),
    ) {
        self.inject(from, to, |packet| {
            packet.body = Body::Ping { kind: bus::PingKind::Ping, gossip, extensions: vec![] };
            change(&mut packet.header);
        });
    }

    /// What `from` would gossip about `other`, with these flags.
    pub fn entry(&self, from: usize, other: NodeId, flags: NodeFlags) -> bus::Gossip {
        let node = self.view(from, other);
        bus::Gossip {
            id: Some(other),
            ping_sent_s: 0,
            pong_received_s: 0,
            ip: node.ip.clone(),
            port: node.port,
            cport: node.cport,
            pport: 0,
            flags,
        }
    }

    /// Runs a node's timer at this very millisecond, whenever it is due.
    pub fn cron_at(&mut self, node: usize, at_ms: u64) {
        self.now_ms = at_ms;
        let now = self.now().mono;
        self.at_mut(node).next_cron = now;
        self.with(node, super::super::Cluster::cron);
    }

    pub fn at_mut(&mut self, node: usize) -> &mut Cluster {
        self.nodes[node].cluster.as_mut().expect("the node runs")
    }

    /// Node `other` as `node` sees it, to be changed by the story.
    pub fn view_mut(&mut self, node: usize, other: NodeId) -> &mut Node {
        let cluster = self.at_mut(node);
        let idx = cluster.nodes.find(&other).expect("it is known");
        cluster.nodes.get_mut(idx)
    }

    pub fn mono(&self) -> Mono {
        self.now().mono
    }

    /// `to`'s name for the connection that `from` dialled to it.
    fn link_between(&self, from: usize, to: usize) -> ConnId {
        let id = self.id(to);
        let out = self.view(from, id).outbound.expect("there is a link");
        self.nodes[from].conns[&out].1
    }

    /// Packets that left since recording began.
    pub fn sent(&self, from: usize, packet_type: bus::PacketType) -> Vec<&Sighting> {
        let of_type = |s: &&Sighting| s.from == from && s.packet.body.type_number() == packet_type as u16;
        self.wire_log.iter().filter(of_type).collect()
    }

    fn push(&mut self, delay: u64, node: usize, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now_ms + delay, self.sequence), (node, event));
    }

    /// The next thing that happens no later than `end`; false if nothing does.
    fn step(&mut self, end: u64) -> bool {
        let cron = (0..self.nodes.len())
            .filter(|n| !self.nodes[*n].paused)
            .filter_map(|n| {
                Some((self.nodes[n].cluster.as_ref()?.next_deadline().0.div_ceil(1000).max(self.now_ms), n))
            })
            .min();
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        match (event, cron) {
            (Some(at), cron) if at <= end && cron.is_none_or(|(due, _)| at <= due) => {
                self.now_ms = self.now_ms.max(at);
                let Some((_, (node, event))) = self.events.pop_first() else { return false };
                self.deliver(node, event);
                true
            }
            (_, Some((due, node))) if due <= end => {
                self.now_ms = due;
                self.replicate(node);
                self.with(node, super::super::Cluster::cron);
                true
            }
            _ => false,
        }
    }

    fn deliver(&mut self, node: usize, event: Event) {
        if let Event::Saved(ticket, text, sound) = event {
            let machine = &mut self.nodes[node];
            if sound {
                machine.file = text;
                machine.failed_ticket = None;
                machine.durable = ticket;
            } else {
                machine.failed_ticket = Some(ticket);
            }
            if machine.cluster.is_some() {
                let result = if sound { Ok(()) } else { Err("No space left on device".to_owned()) };
                self.with(node, |cluster, turn| cluster.config_saved(result, turn));
                let durable = self.nodes[node].durable;
                let gated = std::mem::take(&mut self.nodes[node].gated);
                let (go, wait): (Vec<_>, Vec<_>) = gated.into_iter().partition(|(gate, ..)| *gate <= durable);
                self.nodes[node].gated = wait;
                for (_, conn, bytes) in go {
                    self.transmit(node, conn, bytes);
                }
            }
            return;
        }
        let machine = &mut self.nodes[node];
        if machine.cluster.is_none() {
            return;
        }
        if machine.paused {
            machine.deferred.push(event);
            return;
        }
        self.with(node, |cluster, turn| match event {
            Event::Accepted(conn, peer, local) => cluster.link_accepted(conn, peer, local, turn),
            Event::Connected(conn, peer, local) => cluster.link_connected(conn, peer, local, turn),
            Event::Failed(conn) => cluster.link_failed(conn, "Connection refused", turn),
            Event::Bytes(conn, bytes) => cluster.link_received(conn, &bytes, turn),
            Event::Closed(conn) => cluster.link_closed(conn),
            Event::Saved(..) => unreachable!("handled above"),
        });
    }

    fn carry_out(&mut self, node: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Dial { conn, addr, .. } => self.dial(node, conn, addr),
                Action::CloseLink { conn } => {
                    self.nodes[node].gated.retain(|(_, to, _)| *to != conn);
                    if let Some((peer, other)) = self.nodes[node].conns.remove(&conn) {
                        self.nodes[peer].conns.remove(&other);
                        self.push(WIRE_MS, peer, Event::Closed(other));
                    }
                }
                Action::Send { conn, bytes, after_save } => {
                    let machine = &mut self.nodes[node];
                    let gate = if after_save { machine.ticket } else { 0 };
                    if gate > machine.durable {
                        machine.gated.push((gate, conn, bytes));
                    } else {
                        self.transmit(node, conn, bytes);
                    }
                }
                Action::SaveConfig { text, .. } => {
                    let machine = &mut self.nodes[node];
                    machine.ticket += 1;
                    let (ticket, sound) = (machine.ticket, !machine.disk_fails);
                    self.push(DISK_MS, node, Event::Saved(ticket, text, sound));
                }
                Action::Log { text, .. } => {
                    let at = self.now_ms;
                    self.nodes[node].log.push((at, text));
                }
                Action::Replicate { ip, port } => {
                    self.nodes[node].replicates = Some(SocketAddr::new(ip, port));
                    self.nodes[node].seen.push(Action::Replicate { ip, port });
                }
                Action::Promote => {
                    self.nodes[node].replicates = None;
                    self.nodes[node].seen.push(Action::Promote);
                }
                Action::DeleteSlotKeys { slot } => {
                    self.nodes[node].facts.keys.remove(&slot);
                    self.nodes[node].seen.push(Action::DeleteSlotKeys { slot });
                }
                other => self.nodes[node].seen.push(other),
            }
        }
    }

    fn dial(&mut self, from: usize, conn: ConnId, addr: SocketAddr) {
        let to = (0..self.nodes.len()).find(|n| {
            addr_of(*n, self.nodes[*n].settings.bus_port) == addr && self.nodes[*n].cluster.is_some()
        });
        match to {
            _ if to.is_some_and(|to| self.cut.contains(&(from, to)) || self.cut.contains(&(to, from))) => {}
            None => self.push(WIRE_MS, from, Event::Failed(conn)),
            Some(to) => {
                let accepted = ConnId(self.nodes[to].next_in);
                self.nodes[to].next_in += 2;
                self.nodes[from].conns.insert(conn, (to, accepted));
                self.nodes[to].conns.insert(accepted, (from, conn));
                let (mine, theirs) = (addr_of(from, 40_000), addr);
                self.push(WIRE_MS, to, Event::Accepted(accepted, mine, theirs));
                self.push(WIRE_MS, from, Event::Connected(conn, theirs, mine));
            }
        }
    }

    fn transmit(&mut self, from: usize, conn: ConnId, bytes: Vec<u8>) {
        let Some((to, other)) = self.nodes[from].conns.get(&conn).copied() else { return };
        if self.record {
            let packet = bus::decode(&bytes).expect("what we send is well formed");
            self.wire_log.push(Sighting { at_ms: self.now_ms, from, to, packet });
        }
        if self.lost_types.contains(&(from, to, bus::type_of(&bytes))) {
            return;
        }
        if self.held.contains(&(from, to)) || self.cut.contains(&(from, to)) {
            self.waiting.push((from, to, other, bytes));
            return;
        }
        self.push(WIRE_MS, to, Event::Bytes(other, bytes));
    }

    /// Replication as far as elections see it: the replica has its master's bytes while they can talk.
    fn replicate(&mut self, node: usize) {
        let Some(addr) = self.nodes[node].replicates else { return };
        let now = self.now().mono;
        let master = (0..self.nodes.len()).find(|n| addr_of(*n, 6379) == addr);
        let up = master.filter(|m| {
            let machine = &self.nodes[*m];
            machine.cluster.is_some() && !machine.paused && !self.cut.contains(&(*m, node))
        });
        if let Some(master) = up {
            self.nodes[node].facts.offset = self.nodes[master].facts.offset;
            self.nodes[node].facts.link = Some(MasterLink::Up { last_io: now });
        } else if let Some(MasterLink::Up { last_io }) = self.nodes[node].facts.link {
            self.nodes[node].facts.link = Some(MasterLink::Down { since: Some(last_io) });
        }
    }
}

/// The slots of master `node` of `masters`.
pub fn slots_of(node: usize, masters: usize) -> (u16, u16) {
    let at = |n: usize| (usize::from(SLOTS) * n / masters) as u16;
    (at(node), at(node + 1) - 1)
}
