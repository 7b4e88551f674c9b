//! The loop: one thread that waits for sockets, feeds the machine, carries out its effects, and writes what
//! it may.
//!
//! One turn: wait; accept; read each ready socket once (so that no connection starves the others); feed; end
//! the batch; carry out effects; write each connection whose outbox has grown or whose bytes have become
//! durable. Sockets are edge-triggered, so one that still has bytes, or room, is remembered and served again
//! next turn.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::signal::Signal;
use slotstorm_node::config::Key;
use slotstorm_node::io::{ConnId, Effect, Effects, Input, Mono, Now, Outbox, Plane, Setting, Ticket};

use crate::clock::Clock;
use crate::disk::{DiskThread, Done, Job, ReadPiece};
use crate::files::FileStore;
use crate::listen::{ListenSocket, Listener, dial, listen, listen_on, look_up, tune};
use crate::log::{Log, level_named};
use crate::machine::Machine;
use crate::oom::OomScore;
use crate::saver::Savers;
use crate::signals::Signals;

/// Bytes read from one socket in one turn.
const READ_BYTES: usize = 64 * 1024;
/// How many buffers of one long argument are read before others have their turn.
const READS_OF_ARGUMENT: usize = 16;
/// Bytes written to one socket in one turn.
const WRITE_BYTES: usize = 1024 * 1024;
/// Slices of one writev.
const WRITE_SLICES: usize = 64;
/// Connections accepted per listener in one turn.
const ACCEPTS: usize = 1000;
/// Pieces of files and snapshots dealt with in one turn; more would keep clients waiting.
const DISK_ANSWERS: usize = 64;
/// A connection with more waiting for it is not read until half of that has gone: who does not read answers
/// may not ask on.
const OUTBOX_STOP_BYTES: usize = 64 * 1024 * 1024;
/// ms until accepting is tried again when descriptors have run out.
const ACCEPT_RETRY_MS: u64 = 100;
/// After so many reads the clocks are read again.
const READS_PER_CLOCK: usize = 16;

/// Tokens of everything that is no connection; connections have their own number, which is far from the end.
const WAKER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);
const FIRST_LISTENER: usize = usize::MAX - 1000;

/// Numbers are spread well enough by one multiplication; nobody chooses them from outside.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }
}

type ConnMap<V> = HashMap<ConnId, V, BuildHasherDefault<NumberHasher>>;

/// One socket.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    state: State,
    /// Edge seen, and not read empty since.
    readable: bool,
    /// The peer has closed its side: read on until the end is seen.
    read_closed: bool,
    /// In the list of sockets to read next turn.
    queued: bool,
    /// The kernel took less than it was given; wait for the edge.
    write_blocked: bool,
    /// What is still to be sent before a close with `flush`.
    parting: Option<Outbox>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Dialling,
    Up,
}

/// The sockets, files and clocks of one machine.
pub struct Shell<M: Machine> {
    machine: M,
    log: Log,
    clock: Clock,
    poll: Poll,
    signals: Signals,
    interrupts: u32,
    disk: DiskThread,
    savers: Savers,
    listeners: Vec<Listener>,
    said_ready: bool,
    /// More answers of the disk wait for the next turn.
    disk_pending: bool,
    accept_again_at: Option<Mono>,
    accept_pending: bool,
    next_accepted: u64,
    connections: ConnMap<Connection>,
    /// Sockets to read in this turn, in order.
    ready: VecDeque<ConnId>,
    /// Outboxes to write in this turn.
    dirty: Vec<ConnId>,
    /// Outboxes whose next byte waits for the disk.
    gated: Vec<ConnId>,
    durable: Ticket,
    effects: Effects,
    buffer: Box<[u8]>,
    exit: Option<i32>,
    oom_score: OomScore,
}

/// What a shell is made of.
pub struct Parts<M: Machine> {
    /// The state machine.
    pub machine: M,
    /// Where lines go.
    pub log: Log,
    /// The clocks; the same from which the machine's first `Now` came.
    pub clock: Clock,
    /// Blocked before any thread was started.
    pub signals: Signals,
    /// The data directory, with its lock held.
    pub store: FileStore,
    /// Open sockets.
    pub listeners: Vec<Listener>,
    /// What the machine wanted done when it was made.
    pub effects: Effects,
}

impl<M: Machine> Shell<M> {
    /// Puts the parts together and starts the disk thread.
    ///
    /// # Errors
    /// The kernel has no descriptors or threads left.
    pub fn new(parts: Parts<M>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        poll.registry().register(&mut SourceFd(&parts.signals.as_raw_fd()), SIGNALS, Interest::READABLE)?;
        let disk = DiskThread::start(parts.store, waker)?;
        let savers = Savers::new(disk.answers().clone());
        let durable = parts.machine.durable();
        let mut shell = Self {
            machine: parts.machine,
            log: parts.log,
            clock: parts.clock,
            poll,
            signals: parts.signals,
            interrupts: 0,
            disk,
            savers,
            listeners: Vec::new(),
            said_ready: false,
            disk_pending: false,
            accept_again_at: None,
            accept_pending: false,
            next_accepted: 2,
            connections: ConnMap::default(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            gated: Vec::new(),
            durable,
            effects: parts.effects,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            exit: None,
            oom_score: OomScore::default(),
        };
        shell.follow_oom_score();
        shell.listen_on(parts.listeners)?;
        Ok(shell)
    }

    /// Serves until the machine ends the process; returns its exit code.
    ///
    /// # Errors
    /// The kernel refuses to wait for events.
    pub fn run(&mut self) -> io::Result<i32> {
        let mut events = Events::with_capacity(1024);
        loop {
            self.end_turn();
            if let Some(code) = self.exit {
                self.part();
                return Ok(code);
            }
            match self.poll.poll(&mut events, self.wait()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            self.take_events(&events);
            self.accept_all();
            self.read_ready();
        }
    }

    /// How long nothing is to be done.
    fn wait(&self) -> Option<Duration> {
        let work_is_left = !self.ready.is_empty() || !self.dirty.is_empty() || !self.effects.list.is_empty();
        if work_is_left || self.accept_pending || self.disk_pending {
            return Some(Duration::ZERO);
        }
        let deadline = [self.machine.next_deadline(), self.accept_again_at].into_iter().flatten().min()?;
        let now = self.clock.now().mono;
        Some(Duration::from_micros(deadline.0.saturating_sub(now.0)))
    }

    // ---- Events in

    fn take_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                SIGNALS => self.take_signals(),
                WAKER => {} // the disk's answers are looked for in each turn
                Token(number) if number >= FIRST_LISTENER => self.accept_pending = true,
                Token(number) => {
                    let conn = ConnId(number as u64);
                    let Some(connection) = self.connections.get_mut(&conn) else { continue };
                    if connection.state == State::Dialling {
                        if event.is_writable() || event.is_error() {
                            self.finish_dial(conn);
                        }
                        if event.is_readable() {
                            self.mark_readable(conn, event.is_read_closed());
                        }
                        continue;
                    }
                    if event.is_writable() && connection.write_blocked {
                        connection.write_blocked = false;
                        self.dirty.push(conn);
                    }
                    if event.is_readable() || event.is_error() {
                        let is_closed = event.is_read_closed() || event.is_error();
                        self.mark_readable(conn, is_closed);
                    }
                }
            }
        }
        self.take_disk_answers();
    }

    fn mark_readable(&mut self, conn: ConnId, is_closed: bool) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.readable = true;
        connection.read_closed |= is_closed;
        if !connection.queued && connection.state == State::Up {
            connection.queued = true;
            self.ready.push_back(conn);
        }
    }

    fn take_signals(&mut self) {
        while let Some(signal) = self.signals.take_next() {
            let name = if signal == Signal::SIGINT { "SIGINT" } else { "SIGTERM" };
            if signal == Signal::SIGINT {
                self.interrupts += 1;
                if self.interrupts > 1 {
                    self.log.warning("You insist... exiting now.");
                    self.exit = Some(1);
                    return;
                }
            }
            self.log.warning(&format!("Received {name} scheduling shutdown..."));
            self.machine.input(self.clock.now(), Input::Terminate, &mut self.effects);
        }
    }

    fn take_disk_answers(&mut self) {
        self.disk_pending = false;
        for _ in 0..DISK_ANSWERS {
            let Some(done) = self.disk.next_done() else { return };
            self.take_disk_answer(done);
        }
        // There may be more: come back at once, after the clients.
        self.disk_pending = true;
    }

    fn take_disk_answer(&mut self, done: Done) {
        let now = self.clock.now();
        match done {
            Done::Op { ticket, result } => {
                self.machine.input(now, Input::DiskDone { ticket, result }, &mut self.effects);
            }
            Done::Snapshot { id, bytes, last } => {
                self.machine.input(now, Input::SnapshotChunk { id, bytes, last }, &mut self.effects);
            }
            Done::Saved { id, result } => {
                self.machine.input(now, Input::Saved { id, result }, &mut self.effects);
            }
            Done::FileFailed { id, error } => {
                self.machine.input(now, Input::FileFailed { id, error }, &mut self.effects);
            }
            Done::Read { name, piece: Ok(piece) } => {
                let ReadPiece { bytes, eof, missing, total_bytes } = piece;
                let input = Input::FileChunk { name: &name, bytes: &bytes, eof, missing, total_bytes };
                self.machine.input(now, input, &mut self.effects);
                if !eof {
                    self.disk.push(Job::ReadNext { name });
                }
            }
            Done::Read { name, piece: Err(error) } => {
                self.log.warning(&format!(
                    "Fatal error: can't read {name} in the data directory: {error}. Exiting."
                ));
                self.exit = Some(1);
            }
        }
    }

    fn accept_all(&mut self) {
        let now = self.clock.now();
        if self.accept_again_at.is_some_and(|at| at <= now.mono) {
            self.accept_again_at = None;
            self.accept_pending = true;
        }
        if !std::mem::take(&mut self.accept_pending) || self.accept_again_at.is_some() {
            return;
        }
        for index in 0..self.listeners.len() {
            for accepted in 0.. {
                if accepted == ACCEPTS {
                    self.accept_pending = true;
                    break;
                }
                match self.listeners[index].socket.accept() {
                    Ok((stream, peer, local)) => {
                        // A peer that is gone already has no local address any more; it was never here.
                        if let Some(local) = local {
                            self.welcome(stream, (peer, local), self.listeners[index].plane);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        self.log.warning(&format!("Accepting client connection: accept: {error}"));
                        self.accept_again_at = Some(now.mono.plus_ms(ACCEPT_RETRY_MS));
                        break;
                    }
                }
            }
        }
    }

    fn welcome(&mut self, stream: TcpStream, (peer, local): (SocketAddr, SocketAddr), plane: Plane) {
        let conn = ConnId(self.next_accepted);
        self.next_accepted += 2;
        if self.watch(conn, stream, State::Up) {
            let input = Input::Accepted { conn, plane, peer, local };
            self.machine.input(self.clock.now(), input, &mut self.effects);
        }
    }

    /// Registers a socket; false if the kernel refuses.
    fn watch(&mut self, conn: ConnId, mut stream: TcpStream, state: State) -> bool {
        tune(&stream, self.machine.config().uint(Key::TcpKeepalive));
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, Token(conn.0 as usize), interest) {
            self.log.warning(&format!("Can't watch a connection: {error}"));
            return false;
        }
        let connection = Connection {
            stream,
            state,
            readable: false,
            read_closed: false,
            queued: false,
            write_blocked: false,
            parting: None,
        };
        self.connections.insert(conn, connection);
        true
    }

    fn finish_dial(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let result = match connection.stream.take_error() {
            Ok(Some(error)) | Err(error) => Err(error),
            Ok(None) => match (connection.stream.peer_addr(), connection.stream.local_addr()) {
                (Ok(peer), Ok(local)) => Ok((local, peer)),
                (Err(error), _) if error.kind() == ErrorKind::NotConnected => return, // not yet
                (Err(error), _) | (_, Err(error)) => Err(error),
            },
        };
        match result {
            Ok((local, peer)) => {
                connection.state = State::Up;
                if connection.readable {
                    connection.queued = true;
                    self.ready.push_back(conn);
                }
                let input = Input::Connected { conn, local, peer };
                self.machine.input(self.clock.now(), input, &mut self.effects);
            }
            Err(error) => {
                self.forget(conn);
                self.dial_failed(conn, &error);
            }
        }
    }

    fn dial(&mut self, conn: ConnId, begun: io::Result<TcpStream>) {
        match begun {
            Ok(stream) => {
                if !self.watch(conn, stream, State::Dialling) {
                    self.dial_failed(conn, &ErrorKind::OutOfMemory.into());
                }
            }
            Err(error) => self.dial_failed(conn, &error),
        }
    }

    fn dial_failed(&mut self, conn: ConnId, error: &io::Error) {
        let input = Input::ConnectFailed { conn, error: error.to_string() };
        self.machine.input(self.clock.now(), input, &mut self.effects);
    }

    fn read_ready(&mut self) {
        let mut now = self.clock.now();
        for reads in 0..self.ready.len() {
            if reads % READS_PER_CLOCK == READS_PER_CLOCK - 1 {
                now = self.clock.now();
            }
            let Some(conn) = self.ready.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(&conn) else { continue };
            connection.queued = false;
            if connection.parting.is_some() || !connection.readable {
                continue;
            }
            let waiting = self.machine.outbox(conn).map_or(0, |outbox| outbox.len());
            if waiting > OUTBOX_STOP_BYTES {
                continue; // `write` puts it back in the list
            }
            self.read(now, conn);
        }
    }

    /// Takes what has come on a connection: one buffer of it, or more while a long argument is arriving.
    fn read(&mut self, now: Now, conn: ConnId) {
        for _ in 0..READS_OF_ARGUMENT {
            let Some(connection) = self.connections.get_mut(&conn) else { return };
            match connection.stream.read(&mut self.buffer) {
                Ok(0) => return self.lost(conn),
                Ok(len) => {
                    // A short read has emptied the socket; only an end of stream would come without a new
                    // edge.
                    let is_full = len == self.buffer.len();
                    connection.readable = is_full || connection.read_closed;
                    if connection.readable && !connection.queued {
                        connection.queued = true;
                        self.ready.push_back(conn);
                    }
                    let input = Input::Received { conn, bytes: &self.buffer[..len] };
                    self.machine.input(now, input, &mut self.effects);
                    if !is_full || self.machine.missing_bytes(conn) == 0 {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return connection.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    if !connection.queued {
                        connection.queued = true;
                        self.ready.push_back(conn);
                    }
                    return;
                }
                Err(_) => return self.lost(conn),
            }
        }
    }

    // ---- Effects and bytes out

    fn end_turn(&mut self) {
        let now = self.clock.now();
        self.machine.end_of_batch(now, &mut self.effects);
        self.carry_out_effects();
        let durable = self.machine.durable();
        if durable > self.durable {
            self.durable = durable;
            self.dirty.append(&mut self.gated);
        }
        self.machine.take_dirty(&mut self.dirty);
        let mut dirty = std::mem::take(&mut self.dirty);
        for conn in dirty.drain(..) {
            self.write(now, conn);
        }
        // Keep the buffer; what could not be finished is the next turn's.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
        if !self.said_ready && self.machine.is_ready() {
            self.said_ready = true;
            self.follow_log_settings();
            self.log.notice("Ready to accept connections");
        }
    }

    fn carry_out_effects(&mut self) {
        let mut list = std::mem::take(&mut self.effects.list);
        for effect in list.drain(..) {
            self.carry_out(effect);
        }
        // Keep the buffer; what came up meanwhile is the next turn's.
        list.append(&mut self.effects.list);
        self.effects.list = list;
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { conn, addr, source } => self.dial(conn, dial(addr, source)),
            Effect::ConnectByName { conn, host, port, source } => {
                self.dial(conn, look_up(&host, port).and_then(|addr| dial(addr, source)));
            }
            Effect::Close { conn, flush } => self.close(conn, flush),
            Effect::Disk { ticket, op } => self.disk.push(Job::Op { ticket, op }),
            Effect::Read { name } => self.disk.push(Job::ReadNext { name }),
            Effect::SnapshotStart { id, snapshot, rdb_aux, format } => {
                self.savers.start(id, snapshot, rdb_aux, format);
            }
            Effect::FileStart { id, name } => self.savers.start_file(id, &name),
            Effect::SnapshotPull { id } => self.savers.pull(id),
            Effect::Save { id, job } => self.savers.save(id, *job),
            Effect::SnapshotCancel { id } => self.savers.cancel(id),
            Effect::Busy { us } => self.clock.sleep(Duration::from_micros(us)),
            Effect::Log { level, text } => {
                self.follow_log_settings();
                self.log.line(level, &text);
            }
            Effect::Apply { setting } => {
                let well = match setting {
                    Setting::Listening => self.relisten(),
                    Setting::OomScore => self.follow_oom_score(),
                };
                let input = Input::Applied { setting, well };
                self.machine.input(self.clock.now(), input, &mut self.effects);
            }
            Effect::Exit { code } => self.exit = Some(code),
        }
    }

    /// Opens the listeners anew, where the configuration says now. If that fails the old ones stay: false.
    fn relisten(&mut self) -> bool {
        let config = self.machine.config();
        let mut planes = Vec::new();
        if config.int(Key::Port) != 0 {
            planes.push(Plane::Client);
        }
        if config.flag(Key::ClusterEnabled) {
            planes.push(Plane::Bus);
        }
        // The unix socket stays as it is.
        let (unix, tcp): (Vec<_>, Vec<_>) =
            self.listeners.drain(..).partition(|listener| listener.plane == Plane::Unix);
        // New sockets on an address that an old one has cannot be opened while that one is: close the old
        // ones, and open them again if the new ones are not to be had.
        let old: Vec<(SocketAddr, Plane)> = tcp
            .into_iter()
            .filter_map(|listener| Some((listener.socket.address()?, listener.plane)))
            .collect();
        let opened: Result<Vec<_>, _> = planes.iter().map(|plane| listen(config, *plane)).collect();
        let well = opened.is_ok();
        let mut listeners: Vec<Listener> = match opened {
            Ok(listeners) => listeners.into_iter().flatten().collect(),
            Err(error) => {
                self.log.warning(&format!("{error}; still listening where it was"));
                let backlog = config.int(Key::TcpBacklog) as i32;
                let again = old.into_iter().map(|(addr, plane)| {
                    Ok(Listener { socket: ListenSocket::Tcp(listen_on(addr, backlog)?), plane })
                });
                again.collect::<io::Result<Vec<_>>>().unwrap_or_default()
            }
        };
        listeners.extend(unix);
        if let Err(error) = self.listen_on(listeners) {
            self.log.warning(&format!("Can't watch the new listening sockets: {error}"));
            return false;
        }
        well
    }

    /// False if the kernel refuses.
    fn follow_oom_score(&mut self) -> bool {
        let is_replica = self.machine.log_role() == 'S';
        let followed = self.oom_score.follow(self.machine.config(), is_replica);
        if let Err(error) = &followed {
            self.log.warning(&format!("Unable to write oom_score_adj: {error}"));
        }
        followed.is_ok()
    }

    fn follow_log_settings(&mut self) {
        let role = self.machine.log_role();
        if role != self.log.role {
            self.log.role = role;
            self.follow_oom_score();
        }
        self.log.least = level_named(self.machine.config().text(Key::Loglevel));
    }

    /// Puts new listeners in the place of the old ones.
    fn listen_on(&mut self, mut listeners: Vec<Listener>) -> io::Result<()> {
        for (index, new) in listeners.iter_mut().enumerate() {
            let token = Token(FIRST_LISTENER + index);
            match new.socket.register(self.poll.registry(), token) {
                // The unix socket that stayed is watched already, and which token it has matters to nobody.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                registered => registered?,
            }
        }
        self.listeners = listeners;
        Ok(())
    }

    fn close(&mut self, conn: ConnId, flush: bool) {
        let outbox = self.machine.outbox(conn).map(std::mem::take);
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        match outbox {
            Some(outbox) if flush && !outbox.is_empty() && connection.state == State::Up => {
                connection.parting = Some(outbox);
                self.dirty.push(conn);
            }
            _ => drop(self.forget(conn)),
        }
    }

    /// The peer or the network ended it.
    fn lost(&mut self, conn: ConnId) {
        let Some(connection) = self.forget(conn) else { return };
        if connection.parting.is_none() {
            self.machine.input(self.clock.now(), Input::Closed { conn }, &mut self.effects);
        }
    }

    fn forget(&mut self, conn: ConnId) -> Option<Connection> {
        let mut connection = self.connections.remove(&conn)?;
        // Closing the descriptor deregisters it too; a failure changes nothing.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        Some(connection)
    }

    /// Writes what may leave, as much as the kernel takes.
    fn write(&mut self, now: Now, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if connection.state == State::Dialling || connection.write_blocked {
            return;
        }
        let is_parting = connection.parting.is_some();
        let outbox = match &mut connection.parting {
            Some(outbox) => outbox,
            None => match self.machine.outbox(conn) {
                Some(outbox) => outbox,
                None => return,
            },
        };
        let mut sent = 0;
        let outcome = loop {
            if outbox.is_empty() {
                break Wrote::All;
            }
            if sent >= WRITE_BYTES {
                break Wrote::Enough;
            }
            let Some(written) = send(&mut connection.stream, outbox, self.durable) else {
                break Wrote::Gated;
            };
            match written {
                Ok(len) => {
                    outbox.advance(len);
                    sent += len;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Wrote::Blocked,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break Wrote::Failed,
            }
        };
        let left = outbox.len();
        match outcome {
            Wrote::All if is_parting => {
                self.forget(conn);
                return;
            }
            Wrote::All => {}
            Wrote::Gated => self.gated.push(conn), // more than once does no harm
            Wrote::Enough => self.dirty.push(conn),
            Wrote::Blocked => connection.write_blocked = true,
            Wrote::Failed => {
                self.lost(conn);
                return;
            }
        }
        // It was not read while too much waited for it.
        if left <= OUTBOX_STOP_BYTES / 2 && connection.readable && !connection.queued {
            connection.queued = true;
            self.ready.push_back(conn);
        }
        if sent > 0 && !is_parting {
            let input = Input::Flushed { conn, bytes: sent };
            self.machine.input(now, input, &mut self.effects);
        }
    }

    /// The end: the disk does what it was given, what has become durable leaves, sockets are closed.
    fn part(&mut self) {
        let now = self.clock.now();
        self.savers.cancel_all();
        self.disk.finish();
        while let Some(done) = self.disk.next_done() {
            if let Done::Op { ticket, result } = done {
                self.machine.input(now, Input::DiskDone { ticket, result }, &mut self.effects);
            }
        }
        self.durable = self.machine.durable();
        let mut all: Vec<ConnId> = self.connections.keys().copied().collect();
        all.sort_unstable();
        for conn in all {
            self.write(now, conn);
        }
        self.log.role = self.machine.log_role();
    }

    /// The log, for what is said after the loop.
    pub const fn log(&mut self) -> &mut Log {
        &mut self.log
    }
}

/// How far a write came.
enum Wrote {
    All,
    Gated,
    Enough,
    Blocked,
    Failed,
}

/// Gives the kernel what may leave now; none if nothing may.
fn send(stream: &mut TcpStream, outbox: &Outbox, durable: Ticket) -> Option<io::Result<usize>> {
    let mut slices = outbox.sendable(durable, 2);
    let first = slices.next()?;
    if slices.next().is_none() {
        // The rule. Making a list of one slice, here and in the kernel, costs more than a short command.
        return Some(stream.write(first));
    }
    let (slices, used) = gather(outbox, durable);
    Some(stream.write_vectored(&slices[..used]))
}

/// The slices that may leave now, on the stack.
fn gather(outbox: &Outbox, durable: Ticket) -> ([IoSlice<'_>; WRITE_SLICES], usize) {
    let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
    let mut used = 0;
    for slice in outbox.sendable(durable, WRITE_SLICES) {
        slices[used] = IoSlice::new(slice);
        used += 1;
    }
    (slices, used)
}
