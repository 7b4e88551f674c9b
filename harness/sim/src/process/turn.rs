//! One turn of a process' loop, as the real shell makes it: feed the node what has come, end the batch, carry out the effects,
//! write what may leave.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;

use slotstorm_fabric::{Dir, Endpoint};
use slotstorm_node::io::{ConnId, Effect, Effects, Input, LogLevel, Now, Outbox, SnapshotId, Ticket};
use slotstorm_node::node::Node;

use super::Surroundings;
use super::saver::{SaverDone, Savers};
use crate::Nanos;
use crate::clock::Clock;
use crate::cluster::{Event, MachineOptions, ProcessPace};
use crate::disk::{Disk, Done, Job};
use crate::network::{Notice, Owner, PipeId};

/// Bytes read from one connection at once.
const READ_BYTES: usize = 64 * 1024;
/// How many buffers of one long argument are read before others have their turn.
const READS_OF_ARGUMENT: usize = 16;
/// Bytes written to one connection in one turn.
const WRITE_BYTES: usize = 1024 * 1024;
/// Slices that are gathered for one write.
const WRITE_SLICES: usize = 64;
/// A connection with more waiting for it is not read.
const OUTBOX_STOP_BYTES: usize = 64 * 1024 * 1024;
/// A log that is longer loses its first half.
const LOG_BYTES: usize = 4 * 1024 * 1024;

/// A running process.
pub(super) struct Process {
    pub node: Node,
    /// What the machine had counted when it began.
    pub boot: u64,
    pub effects: Effects,
    pub pending: VecDeque<Pending>,
    pub connections: BTreeMap<ConnId, Connection>,
    pub dirty: Vec<ConnId>,
    /// Connections whose next byte waits for the disk.
    pub gated: Vec<ConnId>,
    pub durable: Ticket,
    pub savers: Savers,
    pub done: Vec<Done>,
    /// It computes until then.
    pub free_at: Nanos,
    /// When it looks next.
    pub wake_at: Option<Nanos>,
    /// When the queue wakes it next. Its deadline mostly is the one of the turn before: one event does for all of them.
    pub queued_at: Option<Nanos>,
    pub exit: Option<i32>,
    pub said_ready: bool,
}

pub(super) struct Connection {
    pub pipe: PipeId,
    /// Its side of the pipe.
    pub side: usize,
    up: bool,
    readable: bool,
    write_blocked: bool,
    /// What is still to be sent before a close with `flush`.
    parting: Option<Outbox>,
}

impl Connection {
    const fn outgoing(&self) -> Dir {
        if self.side == 0 { Dir::Up } else { Dir::Down }
    }
}

/// What the next turn finds.
pub(super) enum Pending {
    Network(Notice),
    Disk(Done),
    Saver(SaverDone),
    Terminate,
}

/// One turn of the loop.
pub(super) struct Turn<'a, 'b> {
    pub process: &'a mut Process,
    pub disk: &'a mut Disk,
    pub clock: &'a Clock,
    pub pace: &'a ProcessPace,
    pub options: &'a MachineOptions,
    pub log: &'a mut String,
    pub number: u16,
    pub generation: u32,
    pub around: &'a mut Surroundings<'b>,
}

impl Turn<'_, '_> {
    pub fn run(&mut self) {
        let now = self.clock.now(self.around.now, self.process.boot);
        let inputs = self.process.pending.len();
        for _ in 0..inputs {
            let Some(pending) = self.process.pending.pop_front() else { break };
            self.take(now, pending);
        }
        self.process.node.end_of_batch(now, &mut self.process.effects);
        self.process.free_at = self.around.now + self.pace.turn_ns + self.pace.input_ns * inputs as u64;
        self.carry_out_effects(now);
        let durable = self.process.node.durable();
        if durable > self.process.durable {
            self.process.durable = durable;
            self.process.dirty.append(&mut self.process.gated);
        }
        self.process.node.take_dirty(&mut self.process.dirty);
        let departs = self.process.free_at;
        let mut dirty = std::mem::take(&mut self.process.dirty);
        for conn in dirty.drain(..) {
            self.process.write(now, departs, conn, self.around);
        }
        dirty.append(&mut self.process.dirty);
        self.process.dirty = dirty;
        if !self.process.said_ready && self.process.node.is_ready() {
            self.process.said_ready = true;
            self.say(LogLevel::Notice, "Ready to accept connections");
        }
    }

    fn take(&mut self, now: Now, pending: Pending) {
        let process = &mut *self.process;
        match pending {
            Pending::Network(Notice::Accepted { conn, pipe, plane, peer, local }) => {
                process.add(conn, pipe, 1, true);
                let input = Input::Accepted { conn, plane, peer, local };
                process.node.input(now, input, &mut process.effects);
            }
            Pending::Network(Notice::Connected { conn, local, peer }) => {
                let Some(connection) = process.connections.get_mut(&conn) else { return };
                connection.up = true;
                let readable = connection.readable;
                process.node.input(now, Input::Connected { conn, local, peer }, &mut process.effects);
                if readable {
                    self.read(now, conn);
                }
            }
            Pending::Network(Notice::ConnectFailed { conn }) => {
                if process.connections.remove(&conn).is_some() {
                    let error = "Connection refused (os error 111)".to_owned();
                    process.node.input(now, Input::ConnectFailed { conn, error }, &mut process.effects);
                }
            }
            Pending::Network(Notice::Readable(conn)) => self.read(now, conn),
            Pending::Network(Notice::Writable(conn)) => {
                if let Some(connection) = process.connections.get_mut(&conn)
                    && std::mem::take(&mut connection.write_blocked)
                {
                    process.dirty.push(conn);
                }
            }
            Pending::Disk(Done::Op { ticket, result }) => {
                process.node.input(now, Input::DiskDone { ticket, result }, &mut process.effects);
            }
            Pending::Disk(Done::Read { name, bytes, eof, missing, total_bytes }) => {
                let input = Input::FileChunk { name: &name, bytes: &bytes, eof, missing, total_bytes };
                process.node.input(now, input, &mut process.effects);
                if !eof {
                    self.disk.push(Job::ReadNext { name });
                }
            }
            Pending::Saver(SaverDone::Piece { id, bytes, last }) => {
                process.node.input(now, Input::SnapshotChunk { id, bytes, last }, &mut process.effects);
            }
            Pending::Saver(SaverDone::Saved { id, result }) => {
                process.node.input(now, Input::Saved { id, result }, &mut process.effects);
            }
            Pending::Saver(SaverDone::Failed { id, error }) => {
                process.node.input(now, Input::FileFailed { id, error }, &mut process.effects);
            }
            Pending::Terminate => {
                self.say(LogLevel::Warning, "Received SIGTERM scheduling shutdown...");
                self.process.node.input(now, Input::Terminate, &mut self.process.effects);
            }
        }
    }

    /// Takes what has come on a connection: one buffer of it, or more while a long argument is arriving.
    fn read(&mut self, now: Now, conn: ConnId) {
        for _ in 0..READS_OF_ARGUMENT {
            let process = &mut *self.process;
            let Some(connection) = process.connections.get_mut(&conn) else { return };
            connection.readable = true;
            if connection.parting.is_some() || !connection.up {
                return;
            }
            let waiting = process.node.outbox(conn).map_or(0, |outbox| outbox.len());
            if waiting > OUTBOX_STOP_BYTES {
                return; // `write` reads on
            }
            let (pipe, side) = (connection.pipe, connection.side);
            let around = &mut *self.around;
            let (bytes, more, ended) =
                around.network.take_received(around.now, around.events, pipe, side, READ_BYTES);
            connection.readable = more;
            if !bytes.is_empty() {
                let input = Input::Received { conn, bytes: &bytes };
                process.node.input(now, input, &mut process.effects);
            }
            if ended {
                return process.lost(now, conn, around);
            }
            if !more {
                return;
            }
            if process.node.missing_bytes(conn) == 0 {
                break;
            }
        }
        self.process.pending.push_back(Pending::Network(Notice::Readable(conn)));
    }

    fn carry_out_effects(&mut self, now: Now) {
        let mut list = std::mem::take(&mut self.process.effects.list);
        for effect in list.drain(..) {
            self.carry_out(now, effect);
        }
        // What came up meanwhile is the next turn's.
        list.append(&mut self.process.effects.list);
        self.process.effects.list = list;
    }

    fn carry_out(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Connect { conn, addr, source: _ } => self.dial(conn, Some(addr)),
            Effect::ConnectByName { conn, host, port, source: _ } => {
                self.dial(conn, host.parse().ok().map(|ip| SocketAddr::new(ip, port)));
            }
            Effect::Close { conn, flush } => self.close(conn, flush),
            Effect::Disk { ticket, op } => self.disk.push(Job::Op { ticket, op }),
            Effect::Read { name } => self.disk.push(Job::ReadNext { name }),
            Effect::SnapshotStart { id, snapshot, rdb_aux, format } => {
                self.process.savers.start(id, snapshot, rdb_aux, format);
            }
            Effect::FileStart { id, name } => {
                let content = self.disk.read(&name).map(<[u8]>::to_vec);
                self.process.savers.start_file(id, content);
            }
            Effect::SnapshotPull { id } => {
                let takes = self.process.savers.pull(id);
                self.later(id, takes);
            }
            Effect::Save { id, job } => {
                let takes = self.process.savers.save(id, *job);
                self.later(id, Some(takes));
            }
            Effect::SnapshotCancel { id } => self.process.savers.cancel(id),
            Effect::Busy { us } => self.process.free_at += us * 1000,
            Effect::Log { level, text } => self.say(level, &text),
            Effect::Apply { setting } => {
                // Ports are where they are, and there is no killer to be told of scores.
                let input = Input::Applied { setting, well: true };
                self.process.node.input(now, input, &mut self.process.effects);
            }
            Effect::Exit { code } => self.process.exit = Some(code),
        }
    }

    fn later(&mut self, id: SnapshotId, takes: Option<Nanos>) {
        if let Some(takes) = takes {
            let event = Event::SaverStep { node: self.number, generation: self.generation, id };
            self.around.events.push(self.process.free_at + takes, event);
        }
    }

    fn dial(&mut self, conn: ConnId, to: Option<SocketAddr>) {
        let departs = self.process.free_at;
        let owner = Owner::Node { node: self.number, conn };
        // Nobody listens on a name that is not known either.
        let to = to.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        let caller = (Endpoint::Node(self.number), owner);
        let pipe = self.around.network.dial(departs, self.around.events, caller, self.options.ip, to);
        self.process.add(conn, pipe, 0, false);
    }

    fn close(&mut self, conn: ConnId, flush: bool) {
        let process = &mut *self.process;
        let outbox = process.node.outbox(conn).map(std::mem::take);
        let Some(connection) = process.connections.get_mut(&conn) else { return };
        match outbox {
            Some(outbox) if flush && !outbox.is_empty() && connection.up => {
                connection.parting = Some(outbox);
                process.dirty.push(conn);
            }
            _ => process.forget(process.free_at, conn, self.around),
        }
    }

    fn say(&mut self, level: LogLevel, text: &str) {
        let mark = match level {
            LogLevel::Debug => return,
            LogLevel::Verbose => '-',
            LogLevel::Notice => '*',
            LogLevel::Warning => '#',
        };
        if self.log.len() > LOG_BYTES {
            let half =
                self.log[LOG_BYTES / 2..].find('\n').map_or(self.log.len(), |at| LOG_BYTES / 2 + at + 1);
            self.log.drain(..half);
        }
        let role = if self.process.node.is_replica() { 'S' } else { 'M' };
        let at = self.around.now;
        // Writing to a string does not fail.
        let _ = writeln!(
            self.log,
            "{}:{role} {}.{:06} {mark} {text}",
            self.number,
            at / 1_000_000_000,
            at / 1000 % 1_000_000
        );
    }
}

impl Process {
    /// True if the loop is woken for it. What is only to be noted, as the end of an append whose sync nobody waits for, is
    /// found in the turn that comes next anyway, as in a ring of completions.
    pub fn awaits(&self, done: &Done) -> bool {
        match done {
            Done::Op { ticket, result: Ok(()) } => {
                !self.gated.is_empty() || self.node.acts_on_end_of(*ticket)
            }
            Done::Op { .. } | Done::Read { .. } => true,
        }
    }

    fn add(&mut self, conn: ConnId, pipe: PipeId, side: usize, up: bool) {
        let connection = Connection { pipe, side, up, readable: false, write_blocked: false, parting: None };
        self.connections.insert(conn, connection);
    }

    /// The peer or the network ended it.
    fn lost(&mut self, now: Now, conn: ConnId, around: &mut Surroundings<'_>) {
        let was_parting = self.connections.get(&conn).is_some_and(|connection| connection.parting.is_some());
        self.forget(around.now, conn, around);
        if !was_parting {
            self.node.input(now, Input::Closed { conn }, &mut self.effects);
        }
    }

    fn forget(&mut self, at: Nanos, conn: ConnId, around: &mut Surroundings<'_>) {
        if let Some(connection) = self.connections.remove(&conn) {
            around.network.close(at, around.events, connection.pipe, connection.side);
        }
    }

    /// Writes what may leave, as much as the kernel takes.
    pub fn write(&mut self, now: Now, departs: Nanos, conn: ConnId, around: &mut Surroundings<'_>) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if !connection.up || connection.write_blocked {
            return;
        }
        let (pipe, dir) = (connection.pipe, connection.outgoing());
        let is_parting = connection.parting.is_some();
        let outbox = match &mut connection.parting {
            Some(outbox) => outbox,
            None => match self.node.outbox(conn) {
                Some(outbox) => outbox,
                None => return,
            },
        };
        let room = around.network.room(pipe, dir).min(WRITE_BYTES);
        let bytes = gather(outbox, self.durable, room);
        let sent = bytes.len();
        outbox.advance(sent);
        let left = outbox.len();
        if sent > 0 {
            around.network.send(departs, around.events, pipe, dir, bytes);
        }
        if left > 0 {
            let is_gated = outbox.sendable(self.durable, 1).next().is_none();
            let is_full = around.network.room(pipe, dir) == 0;
            if is_gated {
                self.gated.push(conn);
            } else if is_full {
                connection.write_blocked = true;
            } else {
                self.dirty.push(conn);
            }
        } else if is_parting {
            return self.forget(departs, conn, around);
        }
        if left <= OUTBOX_STOP_BYTES / 2 && connection.readable {
            // It was not read while too much waited for it.
            self.pending.push_back(Pending::Network(Notice::Readable(conn)));
        }
        if sent > 0 && !is_parting {
            self.node.input(now, Input::Flushed { conn, bytes: sent }, &mut self.effects);
        }
    }
}

/// What may leave now, at most `room` bytes.
fn gather(outbox: &Outbox, durable: Ticket, room: usize) -> Vec<u8> {
    let mut slices = outbox.sendable(durable, WRITE_SLICES);
    let Some(first) = slices.next() else { return Vec::new() };
    let mut bytes = Vec::with_capacity(outbox.len().min(room));
    bytes.extend_from_slice(&first[..first.len().min(room)]);
    for slice in slices {
        let fits = slice.len().min(room - bytes.len());
        bytes.extend_from_slice(&slice[..fits]);
        if bytes.len() == room {
            break;
        }
    }
    bytes
}
