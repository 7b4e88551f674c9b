//! The proxy's loop: one thread, one epoll, edge-triggered. The common case costs a read and a write: the
//! fabric is shown the bytes and says that they may go straight through. Bytes are copied only while they
//! wait.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::socket::{setsockopt, sockopt};
use slotstorm_fabric::{
    BusTape, ConnId, Dir, End, Endpoint, Fabric, FabricOptions, Listener, Nanos, Offer, Output,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Control, ProxiedConn, ProxyError, ProxyOptions, Route, Shared, Stall, owner};

const READ_BYTES: usize = 64 * 1024;
/// Reads of one source before the others get their turn.
const READS_PER_TURN: usize = 8;
const EVENTS: usize = 1024;
const BACKLOG: i32 = 4096;
/// The loop wakes at least this often, so that its lateness is known.
const TICK: Nanos = 10_000_000;
/// Lateness from here on is recorded.
const STALL_MIN: Nanos = 5_000_000;

/// The tape of the bus is handed over this often, or when it is this long: who takes it need not wake for each frame.
const TAPE_EVERY: Nanos = 100_000_000;
const TAPE_BYTES: usize = 1024 * 1024;

const WAKER: Token = Token(0);
const FIRST_LISTENER: usize = 1;

/// One end of a proxied connection.
struct Side {
    stream: TcpStream,
    /// There may be something to read.
    readable: bool,
    /// A short read does not mean that nothing is left: the end follows.
    closing: bool,
    /// The peer reset it (the kernel tells only once).
    failed: bool,
    /// The end was read.
    ended: bool,
    /// It took no more; waits for the kernel to say that it does.
    blocked: bool,
    connecting: bool,
}

struct Conn {
    id: ConnId,
    route: usize,
    caller_address: SocketAddr,
    /// By [`Dir`]: the source of `Up` is the caller.
    sides: [Option<Side>; 2],
}

pub(super) struct Shell {
    poll: Poll,
    waker: Arc<Waker>,
    clock: Instant,
    routes: Vec<(Route, TcpListener)>,
    callers: BTreeMap<IpAddr, Endpoint>,
    orders: Receiver<Control>,
    shared: Arc<Shared>,
    fabric: Fabric,
    conns: Vec<Option<Conn>>,
    scratch: Box<[u8]>,
    /// Sources that used up their turn.
    again: Vec<(usize, Dir)>,
    /// Listeners that could not accept for want of files.
    starved: Vec<usize>,
    next_tick: Nanos,
    bus: Option<Sender<BusTape>>,
    next_tape: Nanos,
    stopping: bool,
}

impl Shell {
    pub fn new(
        options: ProxyOptions,
        orders: Receiver<Control>,
        shared: Arc<Shared>,
    ) -> Result<Self, ProxyError> {
        let poll = Poll::new().map_err(ProxyError::Setup)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(ProxyError::Setup)?);
        let mut routes = Vec::with_capacity(options.routes.len());
        for route in options.routes {
            let mut listener = listen(route.listen)
                .map_err(|source| ProxyError::Listen { address: route.listen, source })?;
            let token = Token(FIRST_LISTENER + routes.len());
            poll.registry().register(&mut listener, token, Interest::READABLE).map_err(ProxyError::Setup)?;
            routes.push((route, listener));
        }
        Ok(Self {
            poll,
            waker,
            clock: options.clock,
            routes,
            callers: options.callers,
            orders,
            shared,
            fabric: Fabric::new(FabricOptions {
                seed: options.seed,
                tape_bus: options.bus.is_some(),
                ..FabricOptions::default()
            }),
            conns: Vec::new(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            again: Vec::new(),
            starved: Vec::new(),
            next_tick: 0,
            bus: options.bus,
            next_tape: 0,
            stopping: false,
        })
    }

    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        self.next_tick = self.now() + TICK;
        while !self.stopping {
            match self.poll.poll(&mut events, Some(self.timeout())) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    self.trouble(format!("epoll failed: {error}"));
                    break;
                }
                _ => {}
            }
            let now = self.now();
            self.tick(now);
            for event in &events {
                self.event(now, event);
            }
            for (slot, dir) in std::mem::take(&mut self.again) {
                self.pump(now, slot, dir);
            }
            while let Some(output) = self.fabric.poll(now) {
                self.act(now, output);
            }
            self.publish();
            if now >= self.next_tape || self.fabric.bus_bytes() >= TAPE_BYTES {
                self.next_tape = now + TAPE_EVERY;
                self.hand_over_tape();
            }
        }
        self.hand_over_tape();
        let ids: Vec<ConnId> = self.conns.iter().flatten().map(|conn| conn.id).collect();
        for id in ids {
            self.close(id, true);
        }
    }

    fn now(&self) -> Nanos {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    fn timeout(&self) -> Duration {
        if !self.again.is_empty() {
            return Duration::ZERO;
        }
        let until = self.fabric.next_deadline().map_or(self.next_tick, |at| at.min(self.next_tick));
        Duration::from_nanos(until.saturating_sub(self.now()))
    }

    /// Measures the loop's lateness, and gives starved listeners another try.
    fn tick(&mut self, now: Nanos) {
        if now < self.next_tick {
            return;
        }
        let length = now - self.next_tick;
        if length >= STALL_MIN {
            let mut stalls = self.shared.stalls.lock().unwrap_or_else(PoisonError::into_inner);
            stalls.push(Stall { end: now, length });
        }
        self.next_tick = now + TICK;
        for route in std::mem::take(&mut self.starved) {
            self.accept(now, route);
        }
    }

    fn event(&mut self, now: Nanos, event: &Event) {
        match event.token() {
            WAKER => self.obey(now),
            Token(i) if i < FIRST_LISTENER + self.routes.len() => self.accept(now, i - FIRST_LISTENER),
            Token(i) => {
                let i = i - FIRST_LISTENER - self.routes.len();
                self.side_event(now, i / 2, if i.is_multiple_of(2) { Dir::Up } else { Dir::Down }, event);
            }
        }
    }

    /// `dir` is the direction whose source this side is.
    fn side_event(&mut self, now: Nanos, slot: usize, dir: Dir, event: &Event) {
        let Some(Some(conn)) = self.conns.get_mut(slot) else { return };
        let (id, Some(side)) = (conn.id, conn.sides[dir.index()].as_mut()) else { return };
        if side.connecting {
            match side.stream.take_error() {
                // What came together with the connection is looked at below: it will not be told again.
                Ok(None) if side.stream.peer_addr().is_ok() => {
                    side.connecting = false;
                    self.fabric.connected(id);
                }
                Ok(None) => return,
                _ => return self.unreachable(now, id),
            }
        }
        side.closing |= event.is_read_closed() || event.is_error();
        if event.is_error() {
            side.failed = true;
        }
        side.readable |= event.is_readable() || side.closing;
        let (closing, over) = (side.closing, side.failed && side.ended);
        if event.is_writable() && std::mem::take(&mut side.blocked) {
            self.fabric.sink_ready(id, dir.reverse());
        }
        if over {
            self.fabric.push_end(now, id, dir, End::Rst);
        } else if closing && dir == Dir::Up {
            // What it sent into a connection that was never made counts as held.
            self.note_held(slot, dir);
            if self.fabric.caller_left(id) {
                return;
            }
        }
        self.pump(now, slot, dir);
    }

    /// Moves what the source of `dir` has sent, as far as it is wanted.
    fn pump(&mut self, now: Nanos, slot: usize, dir: Dir) {
        let Some(Some(conn)) = self.conns.get_mut(slot) else { return };
        let id = conn.id;
        for _ in 0..READS_PER_TURN {
            let Some(side) = conn.sides[dir.index()].as_mut() else { return };
            if !side.readable || side.ended || side.connecting || !self.fabric.wants_read(id, dir) {
                return;
            }
            match side.stream.read(&mut self.scratch) {
                Ok(0) => {
                    (side.ended, side.readable) = (true, false);
                    let end = if side.failed { End::Rst } else { End::Fin };
                    return self.fabric.push_end(now, id, dir, end);
                }
                Ok(n) => {
                    if n < self.scratch.len() && !side.closing {
                        side.readable = false;
                    }
                    let bytes = &self.scratch[..n];
                    if self.fabric.offer(now, id, dir, bytes) == Offer::Through
                        && !write(&mut self.fabric, conn, now, dir, bytes)
                    {
                        self.again.push((slot, dir.reverse()));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    side.readable = false;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    (side.ended, side.readable, side.failed) = (true, false, true);
                    return self.fabric.push_end(now, id, dir, End::Rst);
                }
            }
        }
        self.again.push((slot, dir));
    }

    fn act(&mut self, now: Nanos, output: Output) {
        match output {
            Output::Dial(id) => self.dial(now, id),
            Output::Deliver { conn: id, dir, bytes } => {
                if let Some(conn) = find(&mut self.conns, id)
                    && !write(&mut self.fabric, conn, now, dir, &bytes)
                {
                    self.again.push((id.slot(), dir.reverse()));
                }
            }
            Output::Fin { conn: id, dir } => {
                if let Some(side) =
                    find(&mut self.conns, id).and_then(|c| c.sides[dir.reverse().index()].as_ref())
                {
                    // It may be gone already; its reset is on its way then.
                    let _ = side.stream.shutdown(Shutdown::Write);
                }
            }
            Output::Abort(id) => self.close(id, true),
            Output::Closed(id) => self.close(id, false),
            Output::Reading { conn: id, dir, on: true } => self.pump(now, id.slot(), dir),
            Output::Reading { on: false, .. } => {}
        }
    }

    fn accept(&mut self, now: Nanos, route: usize) {
        loop {
            let (at, listener) = &self.routes[route];
            let (stream, address) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    match error.kind() {
                        ErrorKind::WouldBlock => return,
                        // The caller has left already.
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted => continue,
                        _ => {}
                    }
                    self.starved.push(route);
                    return self.trouble(format!("{} cannot accept: {error}", at.listen));
                }
            };
            let (kind, listen, to) = (if at.bus { Listener::Bus } else { Listener::Data }, at.listen, at.to);
            let caller = self.caller(address, listen);
            let id = self.fabric.open(now, caller, to, kind);
            let slot = id.slot();
            if self.conns.len() <= slot {
                self.conns.resize_with(slot + 1, || None);
            }
            self.conns[slot] = Some(Conn { id, route, caller_address: address, sides: [None, None] });
            self.attach(now, id, Dir::Up, stream, false);
        }
    }

    fn caller(&self, address: SocketAddr, listen: SocketAddr) -> Endpoint {
        if let Some(endpoint) = self.callers.get(&address.ip()) {
            return *endpoint;
        }
        let pids = self.shared.pids.lock().unwrap_or_else(PoisonError::into_inner);
        owner::owner(address, listen, &pids).unwrap_or(Endpoint::Controller)
    }

    /// Makes `stream` the source of `dir`.
    fn attach(&mut self, now: Nanos, id: ConnId, dir: Dir, mut stream: TcpStream, connecting: bool) {
        let token = FIRST_LISTENER + self.routes.len() + 2 * id.slot() + dir.index();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut stream, Token(token), interest);
        let _ = stream.set_nodelay(true);
        let Some(conn) = find(&mut self.conns, id) else { return };
        conn.sides[dir.index()] = Some(Side {
            stream,
            readable: true,
            closing: false,
            failed: false,
            ended: false,
            blocked: false,
            connecting,
        });
        if let Err(error) = registered {
            self.trouble(format!("a connection cannot be watched: {error}"));
            self.fabric.push_end(now, id, dir, End::Rst);
        }
    }

    fn dial(&mut self, now: Nanos, id: ConnId) {
        let Some(conn) = find(&mut self.conns, id) else { return };
        let target = self.routes[conn.route].0.target;
        match connect(conn.caller_address.ip(), target) {
            Ok((stream, connecting)) => {
                self.attach(now, id, Dir::Down, stream, connecting);
                if !connecting {
                    self.fabric.connected(id);
                }
            }
            Err(error) => {
                if error.kind() != ErrorKind::ConnectionRefused {
                    self.trouble(format!("{target} cannot be dialled: {error}"));
                }
                self.unreachable(now, id);
            }
        }
    }

    /// The callee does not listen: to the caller it looks as if the callee had reset.
    fn unreachable(&mut self, now: Nanos, id: ConnId) {
        if let Some(conn) = find(&mut self.conns, id) {
            conn.sides[Dir::Down.index()] = None;
        }
        self.fabric.push_end(now, id, Dir::Down, End::Rst);
    }

    fn close(&mut self, id: ConnId, reset: bool) {
        let Some(conn) = self.conns.get_mut(id.slot()).and_then(|slot| slot.take_if(|conn| conn.id == id))
        else {
            return;
        };
        for side in conn.sides.into_iter().flatten() {
            if reset {
                let _ = SockRef::from(&side.stream).set_linger(Some(Duration::ZERO));
            }
        }
    }

    fn obey(&mut self, now: Nanos) {
        while let Ok(order) = self.orders.try_recv() {
            // Nobody may wait for the answer any more: that is no fault of the loop's.
            match order {
                Control::Apply(changes, answer) => {
                    // What the last events began is done first, so that the change falls between two steps.
                    while let Some(output) = self.fabric.poll(now) {
                        self.act(now, output);
                    }
                    self.note_all_held();
                    let at = self.now();
                    self.fabric.apply(at, &changes);
                    let _ = answer.send(at);
                }
                Control::Filter(rules, answer) => {
                    self.fabric.filter(rules);
                    let _ = answer.send(self.now());
                }
                Control::Filtered(answer) => {
                    let _ = answer.send(self.fabric.filtered());
                }
                Control::Watch(traps, answer) => {
                    self.fabric.watch(now, traps);
                    let _ = answer.send(now);
                }
                Control::Release(trap, answer) => {
                    let at = self.now();
                    self.fabric.release(at, trap);
                    let _ = answer.send(at);
                }
                Control::Touched(links, reset, answer) => {
                    self.note_all_held();
                    let _ = answer.send(self.fabric.touched(&links, reset));
                }
                Control::Pairs(answer) => {
                    let _ = answer.send(self.fabric.pairs());
                }
                Control::Conns(answer) => {
                    let _ = answer.send(self.list());
                }
                Control::Stop => self.stopping = true,
            }
        }
    }

    fn list(&self) -> Vec<ProxiedConn> {
        let row = |info: slotstorm_fabric::ConnInfo| {
            let conn = self.conns.get(info.conn.slot())?.as_ref()?;
            let listen = self.routes[conn.route].0.listen;
            Some(ProxiedConn { info, caller_address: conn.caller_address, listen })
        };
        self.fabric.conns().into_iter().filter_map(row).collect()
    }

    fn note_all_held(&mut self) {
        for slot in 0..self.conns.len() {
            for dir in Dir::BOTH {
                self.note_held(slot, dir);
            }
        }
    }

    /// Tells the fabric how much of a held direction waits in the kernel.
    fn note_held(&mut self, slot: usize, dir: Dir) {
        let Some(Some(conn)) = self.conns.get(slot) else { return };
        if self.fabric.is_held(conn.id, dir)
            && let Some(side) = &conn.sides[dir.index()]
            && let Ok(unread) = rustix::io::ioctl_fionread(&side.stream)
        {
            self.fabric.note_held(conn.id, dir, unread);
        }
    }

    fn publish(&mut self) {
        let found = self.fabric.take_matches();
        if !found.is_empty() {
            self.shared.matches.put(found);
        }
        let seen = self.fabric.take_stream_events();
        if !seen.is_empty() {
            self.shared.stream.lock().unwrap_or_else(PoisonError::into_inner).extend(seen);
        }
    }

    fn hand_over_tape(&mut self) {
        if let Some(bus) = &self.bus {
            let tape = self.fabric.take_bus_tape();
            // Who took it may be gone: the run is over then.
            if !tape.is_empty() && bus.send(tape).is_err() {
                self.bus = None;
            }
        }
    }

    fn trouble(&self, what: String) {
        self.shared.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

fn find(conns: &mut [Option<Conn>], id: ConnId) -> Option<&mut Conn> {
    conns.get_mut(id.slot())?.as_mut().filter(|conn| conn.id == id)
}

/// Gives bytes to the sink of `dir`; what it does not take goes back to the fabric. False: it is
/// gone, and what it sent before is to be read.
fn write(fabric: &mut Fabric, conn: &mut Conn, now: Nanos, dir: Dir, mut bytes: &[u8]) -> bool {
    let id = conn.id;
    let Some(side) = conn.sides[dir.reverse().index()].as_mut() else { return true };
    while !bytes.is_empty() {
        match side.stream.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                side.blocked = true;
                fabric.give_back(id, dir, bytes);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                // What it sent before that is still to be read, if reading is wanted; then its reset.
                side.failed = true;
                (side.closing, side.readable) = (true, true);
                fabric.sink_gone(id, dir);
                if side.ended {
                    fabric.push_end(now, id, dir.reverse(), End::Rst);
                }
                return false;
            }
        }
    }
    true
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Dials from the caller's own address; true: it is not decided yet.
fn connect(from: IpAddr, target: SocketAddr) -> io::Result<(TcpStream, bool)> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // The port is chosen at connect, when the target is known, so that it need only be free towards that one.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    let connecting = match socket.connect(&target.into()) {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => true,
        Err(error) => return Err(error),
    };
    Ok((TcpStream::from_std(socket.into()), connecting))
}
