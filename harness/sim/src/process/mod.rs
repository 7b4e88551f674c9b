//! A machine and the process on it: the node, driven as the real shell drives it. One turn of its loop: feed what has
//! come, end the batch, carry out the effects, write what may leave.

mod saver;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use slotstorm_fabric::{Dir, Endpoint};
use slotstorm_node::config::{CommandLine, Config, Key, Source, parse_args};
use slotstorm_node::io::{
    ConnId, DiskError, Effect, Effects, Input, LogLevel, Now, Outbox, SnapshotId, Stopwatch, Ticket, Vitals,
};
use slotstorm_node::node::{Node, NodeBoot};

use crate::Nanos;
use crate::clock::Clock;
use crate::cluster::{Event, Events, Exited, MachineOptions, MachineState, ProcessPace};
use crate::disk::{Disk, DiskPace, Done, Job};
use crate::network::{Network, Notice, Owner, PipeId};
use saver::{SaverDone, Savers};

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

/// What a machine acts on.
pub(crate) struct Surroundings<'a> {
    pub now: Nanos,
    pub events: &'a mut Events,
    pub network: &'a mut Network,
    pub exited: &'a mut Vec<Exited>,
    /// Processes that look at what has come as soon as this event is over, by node and generation.
    pub due: &'a mut VecDeque<(u16, u32)>,
}

/// A machine: disk, clock, and at times a process.
pub(crate) struct Machine {
    number: u16,
    options: MachineOptions,
    pace: ProcessPace,
    disk: Disk,
    clock: Clock,
    /// Of processes: entropy, how long a start takes.
    rng: ChaCha8Rng,
    /// Grows with each start and end: events of former processes are nobody's.
    generation: u32,
    state: MachineState,
    /// It was asked to end.
    condemned: bool,
    process: Option<Box<Process>>,
    /// Events that came while the process was stopped.
    frozen: Vec<Event>,
    log: String,
}

/// A running process.
struct Process {
    node: Node,
    /// What the machine had counted when it began.
    boot: u64,
    effects: Effects,
    pending: VecDeque<Pending>,
    connections: BTreeMap<ConnId, Connection>,
    dirty: Vec<ConnId>,
    /// Connections whose next byte waits for the disk.
    gated: Vec<ConnId>,
    durable: Ticket,
    savers: Savers,
    done: Vec<Done>,
    /// It computes until then.
    free_at: Nanos,
    /// When it looks next.
    wake_at: Option<Nanos>,
    /// When the queue wakes it next. Its deadline mostly is the one of the turn before: one event does for all of them.
    queued_at: Option<Nanos>,
    exit: Option<i32>,
    said_ready: bool,
}

struct Connection {
    pipe: PipeId,
    /// Its side of the pipe.
    side: usize,
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
enum Pending {
    Network(Notice),
    Disk(Done),
    Saver(SaverDone),
    Terminate,
}

impl Machine {
    pub fn new(
        number: u16,
        options: MachineOptions,
        disk: DiskPace,
        pace: ProcessPace,
        [disk_rng, rng]: [ChaCha8Rng; 2],
    ) -> Self {
        Self {
            number,
            options,
            pace,
            disk: Disk::new(disk, disk_rng),
            clock: Clock::right(),
            rng,
            generation: 0,
            state: MachineState::Down { status: None },
            condemned: false,
            process: None,
            frozen: Vec::new(),
            log: String::new(),
        }
    }

    pub fn state(&self) -> MachineState {
        self.state.clone()
    }

    pub fn log(&self) -> &str {
        &self.log
    }

    pub fn disk(&mut self) -> &mut Disk {
        &mut self.disk
    }

    pub fn read_file(&self, name: &str) -> Option<&[u8]> {
        self.disk.read(name)
    }

    pub fn file_names(&self) -> Vec<String> {
        self.disk.names().map(str::to_owned).collect()
    }

    pub fn change_clock(&mut self, around: &mut Surroundings<'_>, change: impl FnOnce(Nanos, &mut Clock)) {
        change(around.now, &mut self.clock);
        // The deadline it sleeps until may now be at another time.
        self.wake_by(around.now, around);
    }

    /// False if one runs already.
    pub fn start(&mut self, pid: u32, around: &mut Surroundings<'_>) -> bool {
        if !matches!(self.state, MachineState::Down { .. }) {
            return false;
        }
        self.state = MachineState::Running { pid };
        self.condemned = false;
        self.generation += 1;
        let (low, high) = self.pace.boot_ns;
        let at = around.now + self.rng.random_range(low..=high.max(low));
        around.events.push(at, Event::Boot { node: self.number, generation: self.generation });
        true
    }

    pub fn boot(&mut self, generation: u32, around: &mut Surroundings<'_>) {
        if self.is_former(generation) || self.keep(Event::Boot { node: self.number, generation }) {
            return;
        }
        let (MachineState::Running { pid } | MachineState::Stopped { pid }) = self.state else { return };
        let mut entropy = [0; 32];
        self.rng.fill_bytes(&mut entropy);
        let mut config = match configuration(&self.options.args) {
            Ok(config) => config,
            Err(why) => return self.end(&format!("refused its configuration: {why}"), around),
        };
        config.zoo = self.options.zoo;
        let conf_file = config.text(Key::ClusterConfigFile).to_owned();
        if config.flag(Key::ClusterEnabled) && self.disk.read(&conf_file).is_none() {
            // The lock is a file, and the shell makes it.
            self.disk.put(&conf_file, Vec::new());
        }
        let boot = self.clock.local(around.now);
        let mut effects = Effects::default();
        let now = self.clock.now(around.now, boot);
        let parts =
            NodeBoot { config, now, entropy, pid, stopwatch: Stopwatch::STOPPED, vitals: Vitals::UNKNOWN };
        let node = Node::new(parts, &mut effects);
        let durable = node.durable();
        self.process = Some(Box::new(Process {
            node,
            boot,
            effects,
            pending: VecDeque::new(),
            connections: BTreeMap::new(),
            dirty: Vec::new(),
            gated: Vec::new(),
            durable,
            savers: Savers::default(),
            done: Vec::new(),
            free_at: around.now,
            wake_at: None,
            queued_at: None,
            exit: None,
            said_ready: false,
        }));
        around.network.set_listening(self.number, true);
        self.wake_by(around.now, around);
    }

    /// kill -9, or a crash.
    pub fn die(&mut self, status: &str, around: &mut Surroundings<'_>) {
        if matches!(self.state, MachineState::Down { .. }) {
            return;
        }
        self.condemned = true;
        self.end(status, around);
    }

    pub fn lose_power(&mut self, around: &mut Surroundings<'_>) {
        self.die("lost power", around);
        self.disk.lose_power();
    }

    pub fn terminate(&mut self, around: &mut Surroundings<'_>) {
        if matches!(self.state, MachineState::Down { .. }) {
            return;
        }
        self.condemned = true;
        match &mut self.process {
            Some(process) => process.pending.push_back(Pending::Terminate),
            // It has not set its signal handlers yet.
            None => return self.end("killed by signal 15", around),
        }
        self.wake_by(around.now, around);
    }

    pub fn stop(&mut self) {
        if let MachineState::Running { pid } = self.state {
            self.state = MachineState::Stopped { pid };
        }
    }

    pub fn resume(&mut self, around: &mut Surroundings<'_>) {
        let MachineState::Stopped { pid } = self.state else { return };
        self.state = MachineState::Running { pid };
        for event in self.frozen.drain(..) {
            around.events.push(around.now, event);
        }
        if let Some(process) = &mut self.process {
            process.wake_at = None;
        }
        self.wake_by(around.now, around);
    }

    /// The network has something for the process.
    pub fn notice(&mut self, notice: Notice, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else {
            // It ended in this very moment.
            if let Notice::Accepted { pipe, .. } = notice {
                around.network.close(around.now, around.events, pipe, 1);
            }
            return;
        };
        process.pending.push_back(Pending::Network(notice));
        self.wake_by(around.now, around);
    }

    pub fn disk_step(&mut self, generation: u32, around: &mut Surroundings<'_>) {
        if self.is_former(generation) || self.keep(Event::DiskStep { node: self.number, generation }) {
            return;
        }
        let Some(process) = &mut self.process else { return };
        if let Some(takes) = self.disk.step(&mut process.done) {
            around.events.push(around.now + takes, Event::DiskStep { node: self.number, generation });
            return;
        }
        let is_awaited = process.done.iter().any(|done| process.awaits(done));
        process.pending.extend(process.done.drain(..).map(Pending::Disk));
        self.begin_disk(around);
        if is_awaited {
            self.wake_by(around.now, around);
        }
    }

    pub fn saver_step(&mut self, generation: u32, id: SnapshotId, around: &mut Surroundings<'_>) {
        if self.is_former(generation) || self.keep(Event::SaverStep { node: self.number, generation, id }) {
            return;
        }
        let Some(process) = &mut self.process else { return };
        let (done, next) = process.savers.step(id, &mut self.disk);
        if let Some(takes) = next {
            around.events.push(around.now + takes, Event::SaverStep { node: self.number, generation, id });
        }
        if let Some(done) = done {
            process.pending.push_back(Pending::Saver(done));
            self.wake_by(around.now, around);
        }
    }

    /// The process looks at what has come.
    pub fn wake(&mut self, generation: u32, around: &mut Surroundings<'_>) {
        if self.is_former(generation) || matches!(self.state, MachineState::Stopped { .. }) {
            return;
        }
        let Some(process) = &mut self.process else { return };
        process.queued_at = process.queued_at.filter(|at| *at > around.now);
        match process.wake_at {
            Some(at) if at > around.now => return self.queue_wake(at, around), // it woke earlier, and has a new deadline
            Some(_) => process.wake_at = None,
            None => return,
        }
        let mut turn = Turn {
            process,
            disk: &mut self.disk,
            clock: &self.clock,
            pace: &self.pace,
            options: &self.options,
            log: &mut self.log,
            number: self.number,
            generation: self.generation,
            around,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            in_node::set(true);
            turn.run();
            in_node::set(false);
        }));
        if let Err(panic) = outcome {
            in_node::set(false);
            let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            // It is not to be dropped as one that is whole, and its locks are nobody's.
            std::mem::forget(self.process.take());
            return self.end(&format!("panicked: {said}"), around);
        }
        let exit = self.process.as_ref().and_then(|process| process.exit);
        if let Some(code) = exit {
            self.part(around);
            return self.end(&format!("exit status: {code}"), around);
        }
        self.begin_disk(around);
        let Some(process) = &mut self.process else { return };
        let work_is_left =
            !process.pending.is_empty() || !process.effects.list.is_empty() || !process.dirty.is_empty();
        let at = if work_is_left {
            Some(process.free_at)
        } else {
            process.node.next_deadline().map(|at| self.clock.when(at, process.boot).max(process.free_at))
        };
        if let Some(at) = at {
            self.wake_by(at, around);
        }
    }

    /// The orderly end: the disk does what it was given, and what has become durable leaves.
    fn part(&mut self, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else { return };
        let mut done = Vec::new();
        self.disk.finish(&mut done);
        let now = self.clock.now(around.now, process.boot);
        for done in done {
            if let Done::Op { ticket, result } = done {
                process.node.input(now, Input::DiskDone { ticket, result }, &mut process.effects);
            }
        }
        process.durable = process.node.durable();
        let all: Vec<ConnId> = process.connections.keys().copied().collect();
        for conn in all {
            process.write(now, around.now, conn, around);
        }
    }

    /// The process is gone, for whatever reason.
    fn end(&mut self, status: &str, around: &mut Surroundings<'_>) {
        self.generation += 1;
        self.frozen.clear();
        around.network.set_listening(self.number, false);
        if let Some(process) = self.process.take() {
            for connection in process.connections.values() {
                around.network.close(around.now, around.events, connection.pipe, connection.side);
            }
            for pending in process.pending {
                // The kernel had accepted it for a process that never looked.
                if let Pending::Network(Notice::Accepted { pipe, .. }) = pending {
                    around.network.close(around.now, around.events, pipe, 1);
                }
            }
        }
        self.disk.process_died();
        self.state = MachineState::Down { status: Some(status.to_owned()) };
        if !self.condemned {
            around.exited.push(Exited { node: self.number, status: status.to_owned() });
        }
    }

    fn is_former(&self, generation: u32) -> bool {
        generation != self.generation
    }

    /// True if the process is stopped: the event is kept for when it goes on.
    fn keep(&mut self, event: Event) -> bool {
        let stopped = matches!(self.state, MachineState::Stopped { .. });
        if stopped {
            self.frozen.push(event);
        }
        stopped
    }

    fn begin_disk(&mut self, around: &mut Surroundings<'_>) {
        if let Some(takes) = self.disk.begin() {
            let event = Event::DiskStep { node: self.number, generation: self.generation };
            around.events.push(around.now + takes, event);
        }
    }

    /// The process looks at `at` at the latest, but not while it computes.
    fn wake_by(&mut self, at: Nanos, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else { return };
        let at = at.max(process.free_at);
        if process.wake_at.is_none_or(|set| at < set) {
            process.wake_at = Some(at);
            if at <= around.now {
                around.due.push_back((self.number, self.generation));
            } else {
                self.queue_wake(at, around);
            }
        }
    }

    fn queue_wake(&mut self, at: Nanos, around: &mut Surroundings<'_>) {
        let Some(process) = &mut self.process else { return };
        if process.queued_at.is_none_or(|queued| at < queued) {
            process.queued_at = Some(at);
            around.events.push(at, Event::Wake { node: self.number, generation: self.generation });
        }
    }
}

/// The configuration that arguments make.
fn configuration(args: &[String]) -> Result<Config, String> {
    let CommandLine::Serve(serve) = parse_args(args)? else {
        return Err("it is asked for no server".to_owned());
    };
    let source = Source { file: "", stdin: "", args: &serve.lines, standalone_unless_told: false };
    Config::load(source, &mut |path| Err(format!("a simulated machine has no {path}")))
        .map_err(|error| error.to_string())
}

/// One turn of the loop.
struct Turn<'a, 'b> {
    process: &'a mut Process,
    disk: &'a mut Disk,
    clock: &'a Clock,
    pace: &'a ProcessPace,
    options: &'a MachineOptions,
    log: &'a mut String,
    number: u16,
    generation: u32,
    around: &'a mut Surroundings<'b>,
}

impl Turn<'_, '_> {
    fn run(&mut self) {
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
    fn awaits(&self, done: &Done) -> bool {
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
    fn write(&mut self, now: Now, departs: Nanos, conn: ConnId, around: &mut Surroundings<'_>) {
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

/// Whether this thread is inside a simulated node: a panic there is the node's crash, not ours.
pub mod in_node {
    use std::cell::Cell;

    thread_local! {
        static INSIDE: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn set(inside: bool) {
        INSIDE.set(inside);
    }

    /// True while a simulated node computes.
    pub fn is() -> bool {
        INSIDE.get()
    }
}

/// An error of a disk that is not there.
fn no_such_file() -> DiskError {
    DiskError { message: "No such file or directory (os error 2)".to_owned(), no_space: false }
}
