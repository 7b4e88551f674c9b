//! The virtual network: the ends of connections, their kernels' buffers and the way to the fabric, which decides what
//! becomes of the bytes. What the proxy's shell is to the fabric on real sockets, this is in virtual time.
//!
//! The whole latency of a hop lies between the sender and the fabric; what the fabric lets out is in the receiver's
//! kernel at once. A direction that the fabric does not read holds its bytes in the sender's kernel, which is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use slotstorm_fabric::{
    BusTape, ConnId as FabricId, Dir, End, Endpoint, Fabric, FabricOptions, LinkChange, Listener, Match,
    MessageRule, Offer, Output, StreamEvent, Touched, Trap,
};
use slotstorm_node::io::{ConnId, Plane};

use crate::cluster::{Event, Events};
use crate::{LinkEvent, Nanos};

/// Bytes that a sender may have under way or waiting in one direction.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;
/// Bytes that wait for a process which does not read.
const RECEIVE_BUFFER_BYTES: usize = 1024 * 1024;
/// Ports of callers.
const FIRST_CALLER_PORT: u16 = 32_768;

/// How long bytes travel, one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// At least.
    pub base_ns: Nanos,
    /// A random part of this comes on top, and of its doubles now and then: a quarter of the pieces take up to twice as
    /// long, a sixteenth up to four times, as far as 64 times.
    pub jitter_ns: Nanos,
}

impl Default for Latency {
    /// Loopback through a userspace proxy.
    fn default() -> Self {
        Self { base_ns: 30_000, jitter_ns: 30_000 }
    }
}

/// What a caller sees of a connection whose SYN, or its answer, a fault holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handshake {
    /// It is made, and nothing comes: all that a userspace proxy can do.
    #[default]
    Accepted,
    /// It is not made before the heal, as where packets are dropped.
    Dropped,
}

/// A connection's number; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipeId(pub u32);

/// Who has an end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Node {
        node: u16,
        conn: ConnId,
    },
    /// A client, the observer: by its number.
    Outsider(u32),
    /// It was closed, or never reached.
    Nobody,
}

/// What a process is told when it next looks.
#[derive(Debug)]
pub(crate) enum Notice {
    Accepted { conn: ConnId, pipe: PipeId, plane: Plane, peer: SocketAddr, local: SocketAddr },
    Connected { conn: ConnId, local: SocketAddr, peer: SocketAddr },
    ConnectFailed { conn: ConnId },
    Readable(ConnId),
    Writable(ConnId),
}

/// For whom.
pub(crate) type Notices = Vec<(u16, Notice)>;

#[derive(Debug)]
struct Side {
    owner: Owner,
    /// In its kernel.
    received: Vec<u8>,
    /// No more comes.
    ended: bool,
    /// It was told that there is something to read, and has not looked.
    told: bool,
    /// The fabric waits for room.
    full: bool,
}

impl Side {
    const fn of(owner: Owner) -> Self {
        Self { owner, received: Vec::new(), ended: false, told: false, full: false }
    }
}

/// The way of one direction to the fabric.
#[derive(Debug, Default)]
struct Wire {
    last_arrival: Nanos,
    /// Under way or held.
    unread: usize,
    held: VecDeque<Vec<u8>>,
    end: Option<End>,
    sender_waits: bool,
}

#[derive(Debug)]
struct Pipe {
    fabric: Option<FabricId>,
    /// It is over for the fabric.
    over: bool,
    caller: Endpoint,
    callee: u16,
    listener: Listener,
    /// The caller was told that it is connected.
    established: bool,
    from: SocketAddr,
    to: SocketAddr,
    /// The caller's, the callee's.
    sides: [Side; 2],
    /// By [`Dir`].
    wires: [Wire; 2],
}

/// The side that gets what goes in this direction.
const fn sink(dir: Dir) -> usize {
    match dir {
        Dir::Up => 1,
        Dir::Down => 0,
    }
}

/// What a network is made with.
pub(crate) struct NetworkOptions {
    pub seed: u64,
    pub latency: Latency,
    pub handshake: Handshake,
    pub tape_bus: bool,
    /// Where each node listens: node, what for; real and announced addresses.
    pub listeners: BTreeMap<SocketAddr, (u16, Listener)>,
    pub nodes: u16,
    pub rng: ChaCha8Rng,
}

pub(crate) struct Network {
    fabric: Fabric,
    latency: Latency,
    handshake: Handshake,
    rng: ChaCha8Rng,
    listeners: BTreeMap<SocketAddr, (u16, Listener)>,
    /// By node - 1: whether its process listens, and the next name of a connection that it accepts.
    listening: Vec<Option<u64>>,
    pipes: Vec<Option<Box<Pipe>>>,
    /// By the fabric's serial.
    by_serial: Vec<PipeId>,
    next_port: u16,
    /// When the fabric is looked at next.
    timer: Option<Nanos>,
    pub notices: Notices,
    /// For outsiders.
    pub heard: Vec<(u32, LinkEvent)>,
}

impl Network {
    pub fn new(options: NetworkOptions) -> Self {
        let NetworkOptions { seed, latency, handshake, tape_bus, listeners, nodes, rng } = options;
        Self {
            fabric: Fabric::new(FabricOptions { seed, tape_bus, ..FabricOptions::default() }),
            latency,
            handshake,
            rng,
            listeners,
            listening: vec![None; usize::from(nodes)],
            pipes: Vec::new(),
            by_serial: Vec::new(),
            next_port: FIRST_CALLER_PORT,
            timer: None,
            notices: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// A process begins to listen, or ends it.
    pub fn set_listening(&mut self, node: u16, listens: bool) {
        // Accepted connections have even numbers, from 2.
        self.listening[usize::from(node) - 1] = listens.then_some(2);
    }

    /// Begins to make a connection.
    pub fn dial(
        &mut self,
        now: Nanos,
        events: &mut Events,
        (caller, owner): (Endpoint, Owner),
        source: IpAddr,
        to: SocketAddr,
    ) -> PipeId {
        let id = PipeId(self.pipes.len() as u32);
        let from = SocketAddr::new(source, self.next_port);
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_CALLER_PORT);
        let known = self.listeners.get(&to).copied();
        let (callee, listener) = known.unwrap_or((0, Listener::Data));
        let mut pipe = Box::new(Pipe {
            fabric: None,
            over: false,
            caller,
            callee,
            listener,
            established: false,
            from,
            to,
            sides: [Side::of(owner), Side::of(Owner::Nobody)],
            wires: [Wire::default(), Wire::default()],
        });
        let at = arrival(self.latency, &mut self.rng, now, &mut pipe.wires[0]);
        events.push(at, if known.is_some() { Event::Open(id) } else { Event::Refused(id) });
        self.pipes.push(Some(pipe));
        id
    }

    /// The SYN has arrived at the proxy.
    pub fn open(&mut self, now: Nanos, events: &mut Events, id: PipeId) {
        let Some(pipe) = pipe(&mut self.pipes, id) else { return };
        if pipe.sides[0].owner == Owner::Nobody {
            self.pipes[id.0 as usize] = None;
            return;
        }
        let fabric = self.fabric.open(now, pipe.caller, Endpoint::Node(pipe.callee), pipe.listener);
        pipe.fabric = Some(fabric);
        debug_assert_eq!(fabric.serial(), self.by_serial.len() as u64);
        self.by_serial.push(id);
        if self.handshake == Handshake::Accepted && pipe.caller != Endpoint::Controller {
            let at = arrival(self.latency, &mut self.rng, now, &mut pipe.wires[1]);
            events.push(at, Event::Established(id));
        }
        self.run_fabric(now, events);
    }

    /// The answer to the SYN has arrived at the caller.
    pub fn established(&mut self, now: Nanos, events: &mut Events, id: PipeId) {
        let Some(pipe) = pipe(&mut self.pipes, id) else { return };
        if std::mem::replace(&mut pipe.established, true) {
            return;
        }
        match pipe.sides[0].owner {
            Owner::Node { node, conn } => {
                self.notices.push((node, Notice::Connected { conn, local: pipe.from, peer: pipe.to }));
            }
            Owner::Outsider(number) => self.heard.push((number, LinkEvent::Connected(id))),
            Owner::Nobody => {}
        }
        if pipe.over {
            self.told_of_end(now, events, id, 0, "connection reset");
        }
    }

    /// Nobody listens there.
    pub fn refused(&mut self, id: PipeId) {
        let Some(pipe) = pipe(&mut self.pipes, id) else { return };
        match std::mem::replace(&mut pipe.sides[0].owner, Owner::Nobody) {
            Owner::Node { node, conn } => self.notices.push((node, Notice::ConnectFailed { conn })),
            Owner::Outsider(number) => {
                self.heard.push((number, LinkEvent::Refused(id, "connection refused")));
            }
            Owner::Nobody => {}
        }
        self.bury(id);
    }

    /// How many bytes a sender may give to its kernel.
    pub fn room(&mut self, id: PipeId, dir: Dir) -> usize {
        let Some(pipe) = pipe(&mut self.pipes, id) else { return usize::MAX };
        let wire = &mut pipe.wires[dir.index()];
        let room = SEND_BUFFER_BYTES.saturating_sub(wire.unread);
        wire.sender_waits = room == 0;
        room
    }

    /// A sender gives bytes to its kernel.
    pub fn send(&mut self, now: Nanos, events: &mut Events, id: PipeId, dir: Dir, bytes: Vec<u8>) {
        let Some(pipe) = pipe(&mut self.pipes, id) else { return };
        let wire = &mut pipe.wires[dir.index()];
        wire.unread += bytes.len();
        let at = arrival(self.latency, &mut self.rng, now, wire);
        events.push(at, Event::Arrived { pipe: id, dir, bytes });
    }

    /// The bytes are where the fabric may read them.
    pub fn arrived(&mut self, now: Nanos, events: &mut Events, id: PipeId, dir: Dir, bytes: Vec<u8>) {
        let Some(pipe) = pipe(&mut self.pipes, id) else { return };
        let Some(fabric) = pipe.fabric.filter(|_| !pipe.over) else { return };
        let wire = &mut pipe.wires[dir.index()];
        if wire.held.is_empty() && self.fabric.wants_read(fabric, dir) {
            self.read(now, fabric, id, dir, bytes);
            self.run_fabric(now, events);
        } else {
            wire.held.push_back(bytes);
        }
    }

    /// A side closes its end.
    pub fn close(&mut self, now: Nanos, events: &mut Events, id: PipeId, side: usize) {
        let Some(pipe) = pipe(&mut self.pipes, id) else { return };
        let side_state = &mut pipe.sides[side];
        if side_state.owner == Owner::Nobody {
            return;
        }
        side_state.owner = Owner::Nobody;
        // The kernel resets a connection on which something was left unread.
        let end = if side_state.received.is_empty() { End::Fin } else { End::Rst };
        side_state.received = Vec::new();
        let full = std::mem::take(&mut side_state.full);
        let dir = if side == 0 { Dir::Up } else { Dir::Down };
        if pipe.over {
            return self.bury(id);
        }
        if let Some(fabric) = pipe.fabric.filter(|_| full) {
            self.fabric.sink_gone(fabric, dir.reverse());
        }
        let at = arrival(self.latency, &mut self.rng, now, &mut pipe.wires[dir.index()]);
        events.push(at, Event::Ended { pipe: id, dir, end });
    }

    /// A FIN or RST has come as far as its bytes before it.
    pub fn ended(&mut self, now: Nanos, events: &mut Events, id: PipeId, dir: Dir, end: End) {
        let Some(pipe) = pipe(&mut self.pipes, id) else { return };
        let Some(fabric) = pipe.fabric.filter(|_| !pipe.over) else { return };
        pipe.wires[dir.index()].end = Some(end);
        if dir == Dir::Up {
            note_held(&mut self.fabric, pipe, Dir::Up);
            if self.fabric.caller_left(fabric) {
                return self.run_fabric(now, events);
            }
        }
        self.pump(now, id, dir);
        self.run_fabric(now, events);
    }

    /// The fabric's own time has come.
    pub fn on_timer(&mut self, now: Nanos, events: &mut Events) {
        if self.timer.is_some_and(|at| at <= now) {
            self.timer = None;
            self.run_fabric(now, events);
        }
    }

    /// Takes what a process may read, at most `limit` bytes; and whether more is there, and whether it is the end.
    pub fn take_received(
        &mut self,
        now: Nanos,
        events: &mut Events,
        id: PipeId,
        side: usize,
        limit: usize,
    ) -> (Vec<u8>, bool, bool) {
        let Some(pipe) = pipe(&mut self.pipes, id) else { return (Vec::new(), false, true) };
        let end = &mut pipe.sides[side];
        let bytes = if end.received.len() <= limit {
            std::mem::take(&mut end.received)
        } else {
            let rest = end.received.split_off(limit);
            std::mem::replace(&mut end.received, rest)
        };
        let more = !end.received.is_empty();
        end.told = more;
        let ended = end.ended && !more;
        if std::mem::take(&mut end.full)
            && let Some(fabric) = pipe.fabric
        {
            let dir = if side == 0 { Dir::Down } else { Dir::Up };
            self.fabric.sink_ready(fabric, dir);
            self.run_fabric(now, events);
        }
        (bytes, more, ended)
    }

    /// Changes links in one step.
    pub fn apply(&mut self, now: Nanos, events: &mut Events, changes: &[LinkChange]) {
        self.note_all_held();
        self.fabric.apply(now, changes);
        self.run_fabric(now, events);
    }

    /// These rules for single bus messages and no others from now on.
    pub fn filter(&mut self, now: Nanos, events: &mut Events, rules: Vec<MessageRule>) {
        self.fabric.filter(rules);
        self.run_fabric(now, events);
    }

    pub fn filtered(&self) -> BTreeMap<u32, u64> {
        self.fabric.filtered()
    }

    /// Waits for these moments and no others.
    pub fn watch(&mut self, now: Nanos, events: &mut Events, traps: Vec<Trap>) {
        self.fabric.watch(now, traps);
        self.run_fabric(now, events);
    }

    /// Lets go what a trap holds.
    pub fn release(&mut self, now: Nanos, events: &mut Events, trap: u32) {
        self.fabric.release(now, trap);
        self.run_fabric(now, events);
    }

    pub fn take_matches(&mut self) -> Vec<Match> {
        self.fabric.take_matches()
    }

    /// What links carried and held.
    pub fn touched(&mut self, links: &[(Endpoint, Endpoint)], reset: bool) -> Touched {
        self.note_all_held();
        self.fabric.touched(links, reset)
    }

    pub fn take_stream_events(&mut self) -> Vec<StreamEvent> {
        self.fabric.take_stream_events()
    }

    pub fn take_bus_tape_onto(&mut self, used: &mut BusTape) {
        self.fabric.take_bus_tape_onto(used);
    }

    /// The fabric reads a piece.
    fn read(&mut self, now: Nanos, fabric: FabricId, id: PipeId, dir: Dir, bytes: Vec<u8>) {
        let through = self.fabric.offer(now, fabric, dir, &bytes) == Offer::Through;
        if let Some(pipe) = pipe(&mut self.pipes, id) {
            let wire = &mut pipe.wires[dir.index()];
            wire.unread -= bytes.len();
            if std::mem::take(&mut wire.sender_waits)
                && let Owner::Node { node, conn } = pipe.sides[1 - sink(dir)].owner
            {
                self.notices.push((node, Notice::Writable(conn)));
            }
        }
        if through {
            self.deliver(now, fabric, id, dir, bytes);
        }
    }

    /// Lets the fabric read what waits, as far as it wants to.
    fn pump(&mut self, now: Nanos, id: PipeId, dir: Dir) {
        loop {
            let Some(pipe) = pipe(&mut self.pipes, id) else { return };
            let Some(fabric) = pipe.fabric.filter(|_| !pipe.over) else { return };
            if !self.fabric.wants_read(fabric, dir) {
                return;
            }
            let wire = &mut pipe.wires[dir.index()];
            if let Some(bytes) = wire.held.pop_front() {
                self.read(now, fabric, id, dir, bytes);
            } else {
                if let Some(end) = wire.end.take() {
                    self.fabric.push_end(now, fabric, dir, end);
                }
                return;
            }
        }
    }

    /// Does what the fabric wants done, until it wants nothing more at this moment.
    fn run_fabric(&mut self, now: Nanos, events: &mut Events) {
        while let Some(output) = self.fabric.poll(now) {
            match output {
                Output::Dial(fabric) => self.reach(now, events, fabric),
                Output::Deliver { conn, dir, bytes } => {
                    self.deliver(now, conn, self.by_serial[conn.serial() as usize], dir, bytes);
                }
                Output::Fin { conn, dir } => {
                    let id = self.by_serial[conn.serial() as usize];
                    self.told_of_end(now, events, id, sink(dir), "connection closed");
                }
                Output::Abort(conn) => self.over(now, events, conn, true),
                Output::Closed(conn) => self.over(now, events, conn, false),
                Output::Reading { conn, dir, on: true } => {
                    self.pump(now, self.by_serial[conn.serial() as usize], dir);
                }
                Output::Reading { .. } => {}
            }
        }
        if let Some(at) = self.fabric.next_deadline()
            && self.timer.is_none_or(|set| at < set)
        {
            self.timer = Some(at);
            events.push(at, Event::FabricTimer);
        }
    }

    /// The callee is dialled.
    fn reach(&mut self, now: Nanos, events: &mut Events, fabric: FabricId) {
        let id = self.by_serial[fabric.serial() as usize];
        let Some(pipe) = pipe(&mut self.pipes, id) else { return };
        let tells = !pipe.established
            && (self.handshake == Handshake::Dropped || pipe.caller == Endpoint::Controller);
        if tells {
            let at = arrival(self.latency, &mut self.rng, now, &mut pipe.wires[1]);
            let listens = self.listening[usize::from(pipe.callee) - 1].is_some();
            events.push(at, if listens { Event::Established(id) } else { Event::Refused(id) });
            pipe.over = !listens;
        }
        let Some(next) = &mut self.listening[usize::from(pipe.callee) - 1] else {
            return self.fabric.push_end(now, fabric, Dir::Down, End::Rst);
        };
        let conn = ConnId(*next);
        *next += 2;
        pipe.sides[1].owner = Owner::Node { node: pipe.callee, conn };
        let plane = match pipe.listener {
            Listener::Bus => Plane::Bus,
            Listener::Data => Plane::Client,
        };
        let accepted = Notice::Accepted { conn, pipe: id, plane, peer: pipe.from, local: pipe.to };
        self.notices.push((pipe.callee, accepted));
        self.fabric.connected(fabric);
    }

    /// Bytes for the sink of `dir`.
    fn deliver(&mut self, now: Nanos, fabric: FabricId, id: PipeId, dir: Dir, bytes: Vec<u8>) {
        let Some(pipe) = pipe(&mut self.pipes, id) else { return };
        let side = &mut pipe.sides[sink(dir)];
        match side.owner {
            Owner::Outsider(number) => self.heard.push((number, LinkEvent::Received(id, bytes))),
            Owner::Node { node, conn } => {
                let room = RECEIVE_BUFFER_BYTES.saturating_sub(side.received.len());
                if room < bytes.len() {
                    side.full = true;
                    side.received.extend_from_slice(&bytes[..room]);
                    self.fabric.give_back(fabric, dir, &bytes[room..]);
                } else if side.received.is_empty() {
                    side.received = bytes;
                } else {
                    side.received.extend_from_slice(&bytes);
                }
                if !std::mem::replace(&mut side.told, true) {
                    self.notices.push((node, Notice::Readable(conn)));
                }
            }
            // The kernel of a closed socket resets.
            Owner::Nobody => {
                self.fabric.sink_gone(fabric, dir);
                self.fabric.push_end(now, fabric, dir.reverse(), End::Rst);
            }
        }
    }

    /// A side is told that nothing more comes.
    fn told_of_end(&mut self, now: Nanos, events: &mut Events, id: PipeId, side: usize, why: &'static str) {
        let Some(pipe) = pipe(&mut self.pipes, id) else { return };
        if side == 0 && !pipe.established {
            return; // when it is told that it was made
        }
        let end = &mut pipe.sides[side];
        end.ended = true;
        match end.owner {
            Owner::Outsider(number) => {
                self.heard.push((number, LinkEvent::Closed(id, why)));
                self.close(now, events, id, side);
            }
            Owner::Node { node, conn } => {
                if !std::mem::replace(&mut end.told, true) {
                    self.notices.push((node, Notice::Readable(conn)));
                }
            }
            Owner::Nobody => {}
        }
    }

    /// The fabric has forgotten the connection.
    fn over(&mut self, now: Nanos, events: &mut Events, fabric: FabricId, reset: bool) {
        let id = self.by_serial[fabric.serial() as usize];
        let Some(pipe) = pipe(&mut self.pipes, id) else { return };
        if std::mem::replace(&mut pipe.over, true) {
            return; // it is being refused
        }
        pipe.wires = [Wire::default(), Wire::default()];
        if reset {
            for side in [0, 1] {
                self.told_of_end(now, events, id, side, "connection reset");
            }
        }
        self.bury(id);
    }

    /// Forgets a connection that is over and has no owner.
    fn bury(&mut self, id: PipeId) {
        let slot = &mut self.pipes[id.0 as usize];
        let is_dead = |pipe: &Pipe| {
            (pipe.over || pipe.fabric.is_none()) && pipe.sides.iter().all(|side| side.owner == Owner::Nobody)
        };
        if slot.as_deref().is_some_and(is_dead) {
            *slot = None;
        }
    }

    fn note_all_held(&mut self) {
        for pipe in self.pipes.iter().flatten() {
            for dir in Dir::BOTH {
                note_held(&mut self.fabric, pipe, dir);
            }
        }
    }
}

fn pipe(pipes: &mut [Option<Box<Pipe>>], id: PipeId) -> Option<&mut Pipe> {
    pipes.get_mut(id.0 as usize)?.as_deref_mut()
}

/// Tells the fabric how much of a held direction waits before it.
fn note_held(fabric: &mut Fabric, pipe: &Pipe, dir: Dir) {
    if let Some(id) = pipe.fabric.filter(|_| !pipe.over)
        && fabric.is_held(id, dir)
    {
        let waiting: usize = pipe.wires[dir.index()].held.iter().map(Vec::len).sum();
        fabric.note_held(id, dir, waiting as u64);
    }
}

/// When something sent now arrives: never before what was sent earlier in the same direction.
fn arrival(latency: Latency, rng: &mut ChaCha8Rng, now: Nanos, wire: &mut Wire) -> Nanos {
    let tail = (rng.next_u32().trailing_zeros() / 2).min(6);
    let jitter = rng.random_range(0..=latency.jitter_ns << tail);
    wire.last_arrival = (now + latency.base_ns + jitter).max(wire.last_arrival + 1);
    wire.last_arrival
}
