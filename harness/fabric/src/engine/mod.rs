//! The engine: connections made of two directions each, every direction under the policy of its directed
//! link.
//!
//! Its caller (the proxy, or the simulator) owns the ends. It tells what happens there and asks what to do:
//!
//! ```text
//! open ------------> Dial (or Abort)         connected: the callee's side exists
//! offer / push ----> Deliver, in order       give_back, sink_ready: back pressure
//! push_end --------> Fin or Abort, in order  sink_gone: a write failed
//! apply -----------> all of these, at once   next_deadline: when to ask again
//! ```
//!
//! What it keeps: in each direction what was delivered is a prefix of what was pushed, whatever the policies
//! do, and all of it is delivered once the link passes again and the connection was not reset. The ends come
//! in order too, but a reset does not wait for a receiver that takes nothing.
//!
//! A blackholed direction is not read (the sender's and the kernel's buffers fill) and holds FIN and RST. A
//! connection that is tried while either direction between the two is blackholed (SYN or SYN-ACK would not
//! arrive) is accepted but not dialled on before the heal; if its caller leaves before, it is forgotten, as a
//! SYN that was never answered. A heal that resets does so to every connection on the link, since a
//! retransmission timeout is not modelled.

mod admission;
mod flow;
mod frames;
mod links;
mod messages;
mod plane;
mod reports;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use links::{PairStats, Touched};

use crate::{
    BusPassed, BusPiece, BusTape, Endpoint, LinkChange, Plane, Policy, ReplicationTap, StreamEvent,
    StreamWhat,
};
use admission::{Admission, admit, gate_of, undecided_gate};
use flow::{Flow, Gate, Sink, Step};
use frames::Cutter;
use links::{Changed, Links};
use watch::{Follower, Watch};

/// Nanoseconds since the run's start.
pub type Nanos = u64;

/// What an engine is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FabricOptions {
    /// Of the jitter.
    pub seed: u64,
    /// Bytes that one direction may queue before its source is read no more. A delay needs its bandwidth
    /// times the delay, so this is part of what a delay means.
    pub queue_bytes: usize,
    /// Whether what passes on the bus is copied for [`Fabric::take_bus_tape`].
    pub tape_bus: bool,
}

impl Default for FabricOptions {
    fn default() -> Self {
        Self { seed: 0, queue_bytes: 1024 * 1024, tape_bus: false }
    }
}

/// A connection. Never used twice, so a stale one is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    slot: u32,
    serial: u64,
}

impl ConnId {
    /// A small number, used again after the connection has ended: an index for the shell's own table.
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// The connection's number in stream events: from 0, never used again.
    pub fn serial(self) -> u64 {
        self.serial
    }
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dir {
    /// From the one who dialled.
    Up,
    /// To the one who dialled.
    Down,
}

impl Dir {
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];

    /// The other one.
    #[must_use]
    #[inline]
    pub fn reverse(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }

    /// 0 or 1.
    #[inline]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What kind of port was dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    Bus,
    Data,
}

/// How the source of a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It sends no more.
    Fin,
    /// It is gone: it sends no more and takes no more.
    Rst,
}

/// What became of offered bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The caller must give them to the sink at once, and what it did not take to [`Fabric::give_back`].
    Through,
    /// The engine has them (or they reach nobody).
    Taken,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Dial the callee, then [`Fabric::connected`] or, if that fails, [`Fabric::push_end`] of `Down` with
    /// `Rst`.
    Dial(ConnId),
    /// Give bytes to the sink of `dir`; what it does not take goes to [`Fabric::give_back`].
    Deliver { conn: ConnId, dir: Dir, bytes: Vec<u8> },
    /// Tell the sink of `dir` that no more comes.
    Fin { conn: ConnId, dir: Dir },
    /// Reset both ends; the connection is over.
    Abort(ConnId),
    /// Both directions were finished; the connection is over.
    Closed(ConnId),
    /// Whether the source of `dir` should be read from now on. A new source is not.
    Reading { conn: ConnId, dir: Dir, on: bool },
}

/// One connection, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnInfo {
    pub conn: ConnId,
    /// Who dialled.
    pub caller: Endpoint,
    pub callee: Endpoint,
    /// `None` until the first command has told.
    pub plane: Option<Plane>,
    /// The callee was dialled.
    pub dialled: bool,
}

#[derive(Debug)]
struct Conn {
    id: ConnId,
    caller: Endpoint,
    callee: Endpoint,
    /// Known for good.
    plane: Option<Plane>,
    dialled: bool,
    /// First bytes of a caller whose plane is not known yet.
    head: Vec<u8>,
    tap: Option<Box<ReplicationTap>>,
    /// On the bus: by direction.
    cutters: Option<Box<[Cutter; 2]>>,
    /// Beside the bus, once commands were waited for: by direction.
    followers: Option<Box<[Follower; 2]>>,
    flows: [Flow; 2],
}

/// The network of links.
#[derive(Debug)]
pub struct Fabric {
    options: FabricOptions,
    links: Links,
    conns: Vec<Option<Conn>>,
    free: Vec<u32>,
    serials: u64,
    outputs: VecDeque<Output>,
    /// Flows that may have something to do.
    listed: VecDeque<(ConnId, Dir)>,
    timers: BTreeSet<(Nanos, ConnId, Dir)>,
    stream: Vec<StreamEvent>,
    tape: BusTape,
    watch: Watch,
    /// Which flow each trap holds.
    holding: BTreeMap<u32, (ConnId, Dir)>,
    /// Messages that were taken out of their streams, by when they come back.
    late: BTreeMap<(Nanos, u64), (ConnId, Dir, Vec<u8>)>,
    late_serials: u64,
    /// The latest time that was told, for the ends of streams.
    now: Nanos,
}

impl Fabric {
    pub fn new(options: FabricOptions) -> Self {
        Self {
            links: Links::new(options.seed),
            watch: Watch::new(options.seed),
            holding: BTreeMap::new(),
            late: BTreeMap::new(),
            late_serials: 0,
            options,
            conns: Vec::new(),
            free: Vec::new(),
            serials: 0,
            outputs: VecDeque::new(),
            listed: VecDeque::new(),
            timers: BTreeSet::new(),
            stream: Vec::new(),
            tape: BusTape::default(),
            now: 0,
        }
    }

    /// Someone dialled: [`Output::Dial`] or [`Output::Abort`] follows, now or later.
    pub fn open(&mut self, now: Nanos, caller: Endpoint, callee: Endpoint, listener: Listener) -> ConnId {
        let known = plane::at_open(caller, listener);
        let plane = known.unwrap_or(plane::CANDIDATES[0]);
        let links = [self.links.intern(caller, callee, plane), self.links.intern(callee, caller, plane)];
        let slot = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            (self.conns.len() - 1) as u32
        });
        let id = ConnId { slot, serial: self.serials };
        self.serials += 1;
        for dir in Dir::BOTH {
            self.links.get(links[dir.index()]).tried(dir);
        }
        self.conns[slot as usize] = Some(Conn {
            id,
            caller,
            callee,
            plane: known,
            dialled: false,
            head: Vec::new(),
            tap: None,
            cutters: (known == Some(Plane::Bus)).then(Box::default),
            followers: None,
            flows: [Flow::new(links[0], Sink::Waiting), Flow::new(links[1], Sink::Ready)],
        });
        if self.options.tape_bus && known == Some(Plane::Bus) {
            let (from, to, what) = (caller, callee, BusPassed::Opened);
            self.tape.push(BusPiece { time: now, from, to, conn: id.serial, dialled: true, what });
        }
        self.settle(now, id);
        id
    }

    /// The callee was reached: its side can be written and read.
    pub fn connected(&mut self, id: ConnId) {
        self.sink_ready(id, Dir::Up);
    }

    /// Bytes that the source of `dir` sent. Counted, classified and shown to the tap here, once.
    pub fn offer(&mut self, now: Nanos, id: ConnId, dir: Dir, bytes: &[u8]) -> Offer {
        let Some(conn) = get(&mut self.conns, id) else { return Offer::Taken };
        if conn.plane.is_none() && dir == Dir::Up {
            return self.offer_first(now, id, bytes);
        }
        let syncs = conn.tap.as_ref().map(|tap| tap.transfers());
        if conn.tap.is_some() {
            tap_bytes(&mut self.stream, conn, now, dir, bytes);
        }
        if self.options.tape_bus && conn.plane == Some(Plane::Bus) {
            self.tape.push(bus_piece(conn, now, dir, BusPassed::Bytes(bytes)));
        }
        if let Some(cutters) = &mut conn.cutters {
            let cutter = &mut cutters[dir.index()];
            if self.watch.wants_messages() || !cutter.clear() {
                self.offer_messages(now, id, dir, bytes);
                return Offer::Taken;
            }
            cutter.follow(bytes);
        } else if syncs != conn.tap.as_ref().map(|tap| tap.transfers()) {
            let (from, to) = ends(conn, dir);
            let holders = self.watch.full_sync(now, from, to);
            if !holders.is_empty() {
                let header = bytes.iter().position(|byte| *byte == b'$').unwrap_or(0);
                self.enqueue_and_hold(now, id, dir, bytes, (header, holders));
                return Offer::Taken;
            }
        } else if self.holds_commands(now, id, dir, bytes) {
            return Offer::Taken;
        }
        let Some(conn) = get(&mut self.conns, id) else { return Offer::Taken };
        let flow = &mut conn.flows[dir.index()];
        if flow.straight() {
            self.links.get(flow.link).passed(bytes.len());
            return Offer::Through;
        }
        self.enqueue(now, id, dir, bytes);
        Offer::Taken
    }

    /// As [`Fabric::offer`], but whatever goes through comes out of [`Fabric::poll`] like the rest.
    pub fn push(&mut self, now: Nanos, id: ConnId, dir: Dir, bytes: &[u8]) {
        if self.offer(now, id, dir, bytes) == Offer::Through {
            let Some(conn) = get(&mut self.conns, id) else { return };
            self.links.get(conn.flows[dir.index()].link).not_passed(bytes.len());
            self.enqueue(now, id, dir, bytes);
        }
    }

    /// The source of `dir` ended. After a reset nothing more can be given to it either.
    pub fn push_end(&mut self, now: Nanos, id: ConnId, dir: Dir, end: End) {
        let Some(conn) = get(&mut self.conns, id) else { return };
        if conn.plane.is_none() && dir == Dir::Up {
            // It will never tell: count it where it was counted so far, and let the end travel.
            let head = std::mem::take(&mut conn.head);
            self.decide(now, id, plane::CANDIDATES[0], &head);
        }
        let Some(conn) = get(&mut self.conns, id) else { return };
        let at = self.links.due(conn.flows[dir.index()].link, now, 0);
        conn.flows[dir.index()].push_end(at, end);
        if end == End::Rst {
            conn.flows[dir.reverse().index()].sink_gone();
        }
        self.list_both(id);
    }

    /// The caller of a connection that was not dialled yet is gone (or sends no more): it is forgotten, which
    /// neither end can tell from a connection that was never made. False: it was dialled, and the end must
    /// travel.
    pub fn caller_left(&mut self, id: ConnId) -> bool {
        match get(&mut self.conns, id) {
            Some(conn) if !conn.dialled => {
                self.remove(id);
                self.outputs.push_back(Output::Closed(id));
                true
            }
            _ => false,
        }
    }

    /// What the sink of `dir` did not take of bytes that were to be delivered; it is blocked until
    /// [`Fabric::sink_ready`].
    pub fn give_back(&mut self, id: ConnId, dir: Dir, rest: &[u8]) {
        let Some(conn) = get(&mut self.conns, id) else { return };
        let flow = &mut conn.flows[dir.index()];
        if flow.sink == Sink::Gone || rest.is_empty() {
            return;
        }
        self.links.get(flow.link).not_passed(rest.len());
        flow.give_back(rest);
        flow.sink = Sink::Blocked;
        self.list(id, dir);
    }

    /// The sink of `dir` takes bytes again.
    pub fn sink_ready(&mut self, id: ConnId, dir: Dir) {
        let Some(conn) = get(&mut self.conns, id) else { return };
        let flow = &mut conn.flows[dir.index()];
        if matches!(flow.sink, Sink::Waiting | Sink::Blocked) {
            flow.sink = Sink::Ready;
            self.list_both(id);
        }
    }

    /// The sink of `dir` failed. What it still sent before may be read; [`Fabric::push_end`] with `Rst` must
    /// follow when that was read.
    pub fn sink_gone(&mut self, id: ConnId, dir: Dir) {
        let Some(conn) = get(&mut self.conns, id) else { return };
        conn.flows[dir.index()].sink_gone();
        self.list(id, dir);
    }

    /// Whether the source of `dir` should be read now.
    #[inline]
    pub fn wants_read(&self, id: ConnId, dir: Dir) -> bool {
        let Some(Some(conn)) = self.conns.get(id.slot()) else { return false };
        conn.id == id && conn.flows[dir.index()].wants_read(self.options.queue_bytes)
    }

    /// Whether `dir` is held by a blackhole now.
    pub fn is_held(&self, id: ConnId, dir: Dir) -> bool {
        let Some(Some(conn)) = self.conns.get(id.slot()) else { return false };
        conn.id == id && conn.flows[dir.index()].gate == Gate::Hold
    }

    /// How many bytes of a held direction wait unread outside the engine. To be told before [`Fabric::apply`]
    /// and [`Fabric::touched`].
    pub fn note_held(&mut self, id: ConnId, dir: Dir, bytes: u64) {
        if let Some(conn) = get(&mut self.conns, id) {
            conn.flows[dir.index()].kernel_held = bytes;
        }
    }

    /// Changes links, all in one step: no byte is delivered between the first and the last.
    pub fn apply(&mut self, now: Nanos, changes: &[LinkChange]) {
        self.now = self.now.max(now);
        let mut changed = BTreeMap::new();
        for change in changes {
            for &plane in &change.planes {
                let link = self.links.intern(change.from, change.to, plane);
                let old = self.links.change(link, change.policy);
                changed.entry(link).or_insert(Changed { old, new: old }).new = change.policy;
            }
        }
        let conns: Vec<ConnId> = self.conns.iter().flatten().map(|conn| conn.id).collect();
        for id in conns {
            self.apply_to(now, id, &changed);
        }
    }

    /// What to do now, if anything.
    pub fn poll(&mut self, now: Nanos) -> Option<Output> {
        self.now = self.now.max(now);
        while let Some(&(at, id, dir)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(conn) = get(&mut self.conns, id) {
                conn.flows[dir.index()].timer = None;
                self.list(id, dir);
            }
        }
        while let Some(entry) = self.late.first_entry().filter(|entry| entry.key().0 <= now) {
            let (id, dir, bytes) = entry.remove();
            self.enqueue(now, id, dir, &bytes);
        }
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            let (id, dir) = self.listed.pop_front()?;
            self.look(now, id, dir);
        }
    }

    /// When [`Fabric::poll`] has something new without any other event.
    #[inline]
    pub fn next_deadline(&self) -> Option<Nanos> {
        if !self.outputs.is_empty() || !self.listed.is_empty() {
            return Some(0);
        }
        let timer = self.timers.first().map(|&(at, _, _)| at);
        let late = self.late.keys().next().map(|&(at, _)| at);
        timer.into_iter().chain(late).min()
    }

    /// A node's first bytes: they tell the plane.
    fn offer_first(&mut self, now: Nanos, id: ConnId, bytes: &[u8]) -> Offer {
        let Some(conn) = get(&mut self.conns, id) else { return Offer::Taken };
        conn.head.extend_from_slice(bytes);
        let Some(plane) = plane::by_first_bytes(&conn.head) else { return Offer::Taken };
        let head = std::mem::take(&mut conn.head);
        self.decide(now, id, plane, &head);
        Offer::Taken
    }

    /// The plane is known for good: counters move there, its policies hold, and the first bytes go their way.
    fn decide(&mut self, now: Nanos, id: ConnId, plane: Plane, head: &[u8]) {
        let Some(conn) = get(&mut self.conns, id) else { return };
        conn.plane = Some(plane);
        let (caller, callee) = (conn.caller, conn.callee);
        for (dir, from, to) in [(Dir::Up, caller, callee), (Dir::Down, callee, caller)] {
            let link = self.links.intern(from, to, plane);
            let flow = &mut conn.flows[dir.index()];
            if flow.link != link {
                self.links.get(flow.link).not_tried(dir);
                self.links.get(link).tried(dir);
                flow.link = link;
            }
        }
        if plane == Plane::Replication {
            conn.tap = Some(Box::default());
            tap_bytes(&mut self.stream, conn, now, Dir::Up, head);
        }
        self.settle(now, id);
        if !head.is_empty() && !self.holds_commands(now, id, Dir::Up, head) {
            self.enqueue(now, id, Dir::Up, head);
        }
    }

    /// Bytes that were read at `now`.
    fn enqueue(&mut self, now: Nanos, id: ConnId, dir: Dir, bytes: &[u8]) {
        let Some(conn) = get(&mut self.conns, id) else { return };
        let flow = &mut conn.flows[dir.index()];
        if flow.sink == Sink::Gone {
            return;
        }
        let at = self.links.due(flow.link, now, bytes.len());
        if !flow.enqueue(at, bytes) {
            self.links.get(flow.link).held += bytes.len() as u64;
        }
        self.list(id, dir);
    }

    /// Brings a connection under the policies in force: both gates, and whether it may be made.
    fn settle(&mut self, now: Nanos, id: ConnId) {
        let Some(conn) = get(&mut self.conns, id) else { return };
        let (caller, callee, plane) = (conn.caller, conn.callee, conn.plane);
        let admission = admit(&self.links, caller, callee, plane);
        if admission == Admission::Refuse {
            return self.abort_by_policy(id);
        }
        for (dir, from, to) in [(Dir::Up, caller, callee), (Dir::Down, callee, caller)] {
            let gate = match plane {
                Some(plane) => gate_of(self.links.policy(from, to, plane)),
                None => undecided_gate(&self.links, from, to, dir, admission),
            };
            let flow = &mut conn.flows[dir.index()];
            let gate = if flow.dead { Gate::Hold } else { gate };
            if flow.gate == Gate::Hold && gate != Gate::Hold {
                self.links.get(flow.link).held += held_by(flow);
                flow.kernel_held = 0;
            }
            flow.gate = gate;
            if plane.is_some_and(|plane| self.links.policy(from, to, plane) == Policy::HalfClose) {
                flow.half_close(now);
            }
        }
        if !conn.dialled && admission == Admission::Dial {
            conn.dialled = true;
            self.outputs.push_back(Output::Dial(id));
        }
        self.list_both(id);
    }

    fn apply_to(&mut self, now: Nanos, id: ConnId, changed: &BTreeMap<usize, Changed>) {
        let Some(conn) = get(&mut self.conns, id) else { return };
        let changes = conn.flows.each_ref().map(|flow| changed.get(&flow.link));
        if conn.plane.is_some() && changes == [None, None] {
            return;
        }
        if changes.into_iter().flatten().any(Changed::resets) {
            return self.abort_by_policy(id);
        }
        for (flow, change) in conn.flows.iter_mut().zip(changes) {
            let Some(change) = change else { continue };
            flow.dead |= conn.plane.is_some() && change.new == Policy::Dead;
            if change.lifts_a_limit() {
                flow.hasten(now);
            }
        }
        self.settle(now, id);
    }

    /// Resets both ends because a link says so; counted on both directed links, as a connection is.
    fn abort_by_policy(&mut self, id: ConnId) {
        let Some(conn) = get(&mut self.conns, id) else { return };
        for dir in Dir::BOTH {
            self.links.get(conn.flows[dir.index()].link).was_reset(dir);
        }
        self.abort(id);
    }

    fn abort(&mut self, id: ConnId) {
        self.remove(id);
        self.outputs.push_back(Output::Abort(id));
    }

    /// Forgets a connection that is over.
    fn remove(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.slot()).and_then(|slot| slot.take_if(|conn| conn.id == id))
        else {
            return;
        };
        for (dir, flow) in Dir::BOTH.into_iter().zip(&conn.flows) {
            let link = self.links.get(flow.link);
            link.held += held_by(flow);
            link.closed();
            if let Some(at) = flow.timer {
                self.timers.remove(&(at, id, dir));
            }
        }
        if let Some(what) = conn.tap.as_ref().and_then(|tap| tap.end()) {
            self.stream.push(stream_event(&conn, self.now, what));
        }
        if self.options.tape_bus && conn.plane == Some(Plane::Bus) {
            self.tape.push(bus_piece(&conn, self.now, Dir::Up, BusPassed::Closed));
        }
        self.free.push(id.slot);
    }

    /// Does what one flow has to do now, one step.
    fn look(&mut self, now: Nanos, id: ConnId, dir: Dir) {
        let bound = self.options.queue_bytes;
        let Some(conn) = get(&mut self.conns, id) else { return };
        let flow = &mut conn.flows[dir.index()];
        flow.listed = false;
        match flow.next(now) {
            Some(Step::Bytes(bytes)) => {
                if flow.sink != Sink::Gone {
                    self.links.get(flow.link).passed(bytes.len());
                    self.outputs.push_back(Output::Deliver { conn: id, dir, bytes });
                }
                self.list(id, dir);
            }
            Some(Step::Fin) => {
                if flow.sink != Sink::Gone {
                    self.outputs.push_back(Output::Fin { conn: id, dir });
                }
                if conn.flows.iter().all(|flow| flow.finished) {
                    self.remove(id);
                    self.outputs.push_back(Output::Closed(id));
                }
            }
            Some(Step::Rst) => self.abort(id),
            None => {
                let deadline = flow.next_deadline().filter(|&at| at > now);
                if flow.timer != deadline {
                    if let Some(at) = std::mem::replace(&mut flow.timer, deadline) {
                        self.timers.remove(&(at, id, dir));
                    }
                    if let Some(at) = deadline {
                        self.timers.insert((at, id, dir));
                    }
                }
                let on = flow.wants_read(bound);
                if on != flow.reading {
                    flow.reading = on;
                    self.outputs.push_back(Output::Reading { conn: id, dir, on });
                }
            }
        }
    }

    fn list(&mut self, id: ConnId, dir: Dir) {
        if let Some(conn) = get(&mut self.conns, id)
            && !std::mem::replace(&mut conn.flows[dir.index()].listed, true)
        {
            self.listed.push_back((id, dir));
        }
    }

    fn list_both(&mut self, id: ConnId) {
        for dir in Dir::BOTH {
            self.list(id, dir);
        }
    }
}

fn get(conns: &mut [Option<Conn>], id: ConnId) -> Option<&mut Conn> {
    conns.get_mut(id.slot())?.as_mut().filter(|conn| conn.id == id)
}

/// Bytes that a blackhole holds in this direction.
fn held_by(flow: &Flow) -> u64 {
    if flow.gate == Gate::Hold { flow.queued() as u64 + flow.kernel_held } else { 0 }
}

fn tap_bytes(stream: &mut Vec<StreamEvent>, conn: &mut Conn, now: Nanos, dir: Dir, bytes: &[u8]) {
    let Some(tap) = &mut conn.tap else { return };
    let mut seen = Vec::new();
    match dir {
        Dir::Up => seen.extend(tap.replica_sent(bytes)),
        Dir::Down => tap.master_sent(bytes, &mut seen),
    }
    stream.extend(seen.into_iter().map(|what| stream_event(conn, now, what)));
}

fn stream_event(conn: &Conn, time: Nanos, what: StreamWhat) -> StreamEvent {
    StreamEvent { time, from: conn.callee, to: conn.caller, conn: conn.id.serial, what }
}

/// Sender and receiver of a direction.
fn ends(conn: &Conn, dir: Dir) -> (Endpoint, Endpoint) {
    match dir {
        Dir::Up => (conn.caller, conn.callee),
        Dir::Down => (conn.callee, conn.caller),
    }
}

fn bus_piece<'a>(conn: &Conn, time: Nanos, dir: Dir, what: BusPassed<'a>) -> BusPiece<'a> {
    let (from, to) = ends(conn, dir);
    BusPiece { time, from, to, conn: conn.id.serial, dialled: dir == Dir::Up, what }
}
