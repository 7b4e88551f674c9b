//! All machines of a cluster and what lies between them, driven by one queue of events.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker};

use rand_chacha::ChaCha8Rng;
use slotstorm_fabric::{
    BusTape, Dir, End, Endpoint, LinkChange, Listener, Match, MessageRule, StreamEvent, Touched, Trap,
};
use slotstorm_node::io::SnapshotId;
use slotstorm_node::zoo::Zoo;

use crate::Nanos;
use crate::disk::{DiskPace, DiskTrouble};
use crate::fingerprint::Fingerprint;
use crate::network::{Handshake, Latency, Network, NetworkOptions, Notice, Owner, PipeId};
use crate::process::{Machine, Surroundings};
use crate::queue::Queue;

/// What happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection's first packet has arrived.
    Open(PipeId),
    /// Its answer has.
    Established(PipeId),
    Refused(PipeId),
    Arrived {
        pipe: PipeId,
        dir: Dir,
        bytes: Vec<u8>,
    },
    Ended {
        pipe: PipeId,
        dir: Dir,
        end: End,
    },
    FabricTimer,
    /// A process that was started is up.
    Boot {
        node: u16,
        generation: u32,
    },
    /// A process looks at what has come.
    Wake {
        node: u16,
        generation: u32,
    },
    /// A step of its disk is done.
    DiskStep {
        node: u16,
        generation: u32,
    },
    /// A step of a snapshot is.
    SaverStep {
        node: u16,
        generation: u32,
        id: SnapshotId,
    },
}

pub(crate) type Events = Queue<Event>;

/// What an outsider hears of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    Connected(PipeId),
    Refused(PipeId, &'static str),
    Received(PipeId, Vec<u8>),
    Closed(PipeId, &'static str),
}

/// One node of the cluster.
#[derive(Clone, Debug)]
pub struct MachineOptions {
    /// redis-server's arguments, without the program.
    pub args: Vec<String>,
    /// The bug that its node has on purpose.
    pub zoo: Zoo,
    /// Where it dials from.
    pub ip: IpAddr,
    /// Where its client port is reached, by whatever address.
    pub data: Vec<SocketAddr>,
    /// The same of its bus port.
    pub bus: Vec<SocketAddr>,
}

/// How long a process takes for things, besides what it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessPace {
    /// From the start to the first turn of its loop.
    pub boot_ns: (Nanos, Nanos),
    /// A turn of its loop.
    pub turn_ns: Nanos,
    /// Each thing that it finds in a turn.
    pub input_ns: Nanos,
}

impl Default for ProcessPace {
    fn default() -> Self {
        Self { boot_ns: (4_000_000, 12_000_000), turn_ns: 5_000, input_ns: 3_000 }
    }
}

/// What a cluster is made with.
pub struct ClusterOptions<'a> {
    /// Nodes from 1 on.
    pub machines: Vec<MachineOptions>,
    /// Of the fabric's jitter.
    pub seed: u64,
    /// A generator for each concern.
    pub rng: &'a dyn Fn(&str) -> ChaCha8Rng,
    pub latency: Latency,
    pub handshake: Handshake,
    pub disk: DiskPace,
    pub process: ProcessPace,
    /// Whether what passes on the bus is copied for [`Cluster::take_bus_tape_onto`].
    pub tape_bus: bool,
}

/// What became of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineState {
    Running { pid: u32 },
    Stopped { pid: u32 },
    Down { status: Option<String> },
}

/// Something that nobody had asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exited {
    pub node: u16,
    pub status: String,
}

/// The cluster.
pub struct Cluster {
    now: Nanos,
    events: Events,
    network: Network,
    machines: Vec<Machine>,
    outsiders: Vec<Outsider>,
    next_pid: u32,
    exited: Vec<Exited>,
    /// Processes that look at what has come at this very moment, by node and generation.
    due: VecDeque<(u16, u32)>,
    fingerprint: Fingerprint,
    handled: u64,
}

struct Outsider {
    endpoint: Endpoint,
    source: IpAddr,
    heard: VecDeque<LinkEvent>,
    waker: Option<Waker>,
}

impl Cluster {
    /// A cluster of machines on which no process runs yet.
    pub fn new(options: ClusterOptions<'_>) -> Self {
        let ClusterOptions { machines, seed, rng, latency, handshake, disk, process, tape_bus } = options;
        let mut listeners = BTreeMap::new();
        for (node, machine) in (1..).zip(&machines) {
            listeners.extend(machine.data.iter().map(|at| (*at, (node, Listener::Data))));
            listeners.extend(machine.bus.iter().map(|at| (*at, (node, Listener::Bus))));
        }
        let nodes = machines.len() as u16;
        let network = Network::new(NetworkOptions {
            seed,
            latency,
            handshake,
            tape_bus,
            listeners,
            nodes,
            rng: rng("latency"),
        });
        let machines = (1..)
            .zip(machines)
            .map(|(node, options)| {
                let rngs = [rng(&format!("disk n{node}")), rng(&format!("process n{node}"))];
                Machine::new(node, options, disk, process, rngs)
            })
            .collect();
        Self {
            now: 0,
            events: Queue::new(),
            network,
            machines,
            outsiders: Vec::new(),
            next_pid: 1000,
            exited: Vec::new(),
            due: VecDeque::new(),
            fingerprint: Fingerprint::default(),
            handled: 0,
        }
    }

    /// When the next event happens.
    #[inline]
    pub fn next_at(&self) -> Option<Nanos> {
        if self.due.is_empty() { self.events.next_at() } else { Some(self.now) }
    }

    /// Lets the next event happen, and what comes of it at the same moment.
    pub fn turn(&mut self) {
        if self.due.is_empty() {
            self.next_event();
        }
        // Nearly every event wakes a process: that one need not go through the queue.
        while let Some((node, generation)) = self.due.pop_front() {
            self.handled += 1;
            self.note(self.now, &Event::Wake { node, generation });
            self.with_machine(node, |machine, around| machine.wake(generation, around));
            self.pass_on();
        }
    }

    fn next_event(&mut self) {
        let Some((at, event)) = self.events.pop() else { return };
        self.now = self.now.max(at);
        self.handled += 1;
        self.note(at, &event);
        match event {
            Event::Open(pipe) => self.network.open(at, &mut self.events, pipe),
            Event::Established(pipe) => self.network.established(at, &mut self.events, pipe),
            Event::Refused(pipe) => self.network.refused(pipe),
            Event::Arrived { pipe, dir, bytes } => {
                self.network.arrived(at, &mut self.events, pipe, dir, bytes);
            }
            Event::Ended { pipe, dir, end } => self.network.ended(at, &mut self.events, pipe, dir, end),
            Event::FabricTimer => self.network.on_timer(at, &mut self.events),
            Event::Boot { node, generation } => {
                self.with_machine(node, |machine, around| machine.boot(generation, around));
            }
            Event::Wake { node, generation } => {
                self.with_machine(node, |machine, around| machine.wake(generation, around));
            }
            Event::DiskStep { node, generation } => {
                self.with_machine(node, |machine, around| machine.disk_step(generation, around));
            }
            Event::SaverStep { node, generation, id } => {
                self.with_machine(node, |machine, around| machine.saver_step(generation, id, around));
            }
        }
        self.pass_on();
    }

    /// The time of the last event.
    #[inline]
    pub const fn now(&self) -> Nanos {
        self.now
    }

    /// Time passes without an event of this cluster's.
    pub fn advance(&mut self, now: Nanos) {
        self.now = self.now.max(now);
    }

    /// How many events have happened, and their fingerprint.
    pub const fn fingerprint(&self) -> (u64, Fingerprint) {
        (self.handled, self.fingerprint)
    }

    /// Something that is no event of the cluster's belongs to the fingerprint, too.
    pub fn note_number(&mut self, number: u64) {
        self.fingerprint.number(number);
    }

    // ---- Processes

    /// Starts a process on a machine where none runs; answers its pid.
    pub fn start(&mut self, node: u16) -> Option<u32> {
        let pid = self.next_pid;
        self.next_pid += 1;
        self.with_machine(node, |machine, around| machine.start(pid, around)).then_some(pid)
    }

    /// kill -9.
    pub fn kill(&mut self, node: u16) {
        self.with_machine(node, |machine, around| machine.die("killed by signal 9", around));
        self.pass_on();
    }

    /// The machine loses power: the process ends, and what was not synced is lost.
    pub fn lose_power(&mut self, node: u16) {
        self.with_machine(node, Machine::lose_power);
        self.pass_on();
    }

    /// SIGTERM; the process ends when it is ready to.
    pub fn terminate(&mut self, node: u16) {
        self.with_machine(node, Machine::terminate);
    }

    /// SIGSTOP.
    pub fn stop(&mut self, node: u16) {
        self.with_machine(node, |machine, _| machine.stop());
    }

    /// SIGCONT.
    pub fn resume(&mut self, node: u16) {
        self.with_machine(node, Machine::resume);
    }

    /// What became of a node's process.
    pub fn state(&self, node: u16) -> MachineState {
        self.machine(node).state()
    }

    /// Processes that ended unasked since the last call.
    #[inline]
    pub fn take_exited(&mut self) -> Vec<Exited> {
        std::mem::take(&mut self.exited)
    }

    /// What a node has logged.
    pub fn log(&self, node: u16) -> &str {
        self.machine(node).log()
    }

    // ---- Machines

    /// A machine's clock.
    pub fn clock(&mut self, node: u16, change: impl FnOnce(Nanos, &mut crate::Clock)) {
        self.with_machine(node, |machine, around| machine.change_clock(around, change));
    }

    /// What is wrong with a machine's disk from now on.
    pub fn set_disk_trouble(&mut self, node: u16, trouble: DiskTrouble) {
        self.with_machine(node, |machine, _| machine.disk().set_trouble(trouble));
    }

    /// A file on a machine's disk, as a process would read it.
    pub fn read_file(&self, node: u16, name: &str) -> Option<&[u8]> {
        self.machine(node).read_file(name)
    }

    /// The files on a machine's disk.
    pub fn file_names(&self, node: u16) -> Vec<String> {
        self.machine(node).file_names()
    }

    /// Puts a file on a machine's disk; its process should not run.
    pub fn put_file(&mut self, node: u16, name: &str, bytes: Vec<u8>) {
        self.with_machine(node, |machine, _| machine.disk().put(name, bytes));
    }

    /// Empties a machine's disk; its process should not run.
    pub fn wipe(&mut self, node: u16) {
        self.with_machine(node, |machine, _| machine.disk().wipe());
    }

    // ---- The network

    /// Changes links in one step.
    pub fn apply(&mut self, changes: &[LinkChange]) {
        self.network.apply(self.now, &mut self.events, changes);
        self.pass_on();
    }

    /// These rules for single bus messages and no others from now on.
    pub fn filter(&mut self, rules: Vec<MessageRule>) {
        self.network.filter(self.now, &mut self.events, rules);
        self.pass_on();
    }

    /// How many messages each rule has hit.
    pub fn filtered(&self) -> BTreeMap<u32, u64> {
        self.network.filtered()
    }

    /// Waits for these moments and no others.
    pub fn watch(&mut self, traps: Vec<Trap>) {
        self.network.watch(self.now, &mut self.events, traps);
        self.pass_on();
    }

    /// Lets go what a trap holds.
    pub fn release(&mut self, trap: u32) {
        self.network.release(self.now, &mut self.events, trap);
        self.pass_on();
    }

    /// Moments that came since the last call.
    #[inline]
    pub fn take_matches(&mut self) -> Vec<Match> {
        self.network.take_matches()
    }

    /// What links carried and held.
    pub fn touched(&mut self, links: &[(Endpoint, Endpoint)], reset: bool) -> Touched {
        self.network.touched(links, reset)
    }

    /// What was seen on replication links since the last call.
    pub fn take_stream_events(&mut self) -> Vec<StreamEvent> {
        self.network.take_stream_events()
    }

    /// What passed on the cluster bus since the last call, onto a tape that is of no more use.
    pub fn take_bus_tape_onto(&mut self, used: &mut BusTape) {
        self.network.take_bus_tape_onto(used);
    }

    // ---- Outsiders: clients, the observer

    /// Someone who dials as `endpoint`, from `source`.
    pub fn outsider(&mut self, endpoint: Endpoint, source: IpAddr) -> u32 {
        self.outsiders.push(Outsider { endpoint, source, heard: VecDeque::new(), waker: None });
        (self.outsiders.len() - 1) as u32
    }

    /// Begins to make a connection; what becomes of it is heard.
    pub fn dial(&mut self, outsider: u32, to: SocketAddr) -> PipeId {
        let Outsider { endpoint, source, .. } = self.outsiders[outsider as usize];
        self.network.dial(self.now, &mut self.events, (endpoint, Owner::Outsider(outsider)), source, to)
    }

    /// Sends on one of an outsider's connections.
    pub fn send(&mut self, pipe: PipeId, bytes: Vec<u8>) {
        self.network.send(self.now, &mut self.events, pipe, Dir::Up, bytes);
    }

    /// Closes one of an outsider's connections; nothing more is heard of it.
    pub fn close(&mut self, outsider: u32, pipe: PipeId) {
        self.network.close(self.now, &mut self.events, pipe, 0);
        let gone = |event: &LinkEvent| match event {
            LinkEvent::Connected(id)
            | LinkEvent::Refused(id, _)
            | LinkEvent::Received(id, _)
            | LinkEvent::Closed(id, _) => *id == pipe,
        };
        self.outsiders[outsider as usize].heard.retain(|event| !gone(event));
    }

    /// The next thing that an outsider hears.
    pub fn poll_heard(&mut self, outsider: u32, context: &Context<'_>) -> Poll<LinkEvent> {
        let outsider = &mut self.outsiders[outsider as usize];
        if let Some(event) = outsider.heard.pop_front() {
            return Poll::Ready(event);
        }
        match &mut outsider.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => outsider.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn machine(&self, node: u16) -> &Machine {
        &self.machines[usize::from(node) - 1]
    }

    fn with_machine<T>(
        &mut self,
        node: u16,
        deed: impl FnOnce(&mut Machine, &mut Surroundings<'_>) -> T,
    ) -> T {
        let mut around = Surroundings {
            now: self.now,
            events: &mut self.events,
            network: &mut self.network,
            exited: &mut self.exited,
            due: &mut self.due,
        };
        deed(&mut self.machines[usize::from(node) - 1], &mut around)
    }

    /// Tells processes and outsiders what the network has for them.
    fn pass_on(&mut self) {
        while !self.network.notices.is_empty() {
            let mut notices: Vec<(u16, Notice)> = std::mem::take(&mut self.network.notices);
            for (node, notice) in notices.drain(..) {
                self.with_machine(node, |machine, around| machine.notice(notice, around));
            }
            if self.network.notices.is_empty() {
                self.network.notices = notices; // keep the buffer
            }
        }
        for (number, event) in self.network.heard.drain(..) {
            let outsider = &mut self.outsiders[number as usize];
            outsider.heard.push_back(event);
            if let Some(waker) = outsider.waker.take() {
                waker.wake();
            }
        }
    }

    fn note(&mut self, at: Nanos, event: &Event) {
        let print = &mut self.fingerprint;
        print.number(at);
        match event {
            Event::Open(pipe) => print.number(1 << 32 | u64::from(pipe.0)),
            Event::Established(pipe) => print.number(2 << 32 | u64::from(pipe.0)),
            Event::Refused(pipe) => print.number(3 << 32 | u64::from(pipe.0)),
            Event::Arrived { pipe, dir, bytes } => {
                print.number((4 + dir.index() as u64) << 32 | u64::from(pipe.0));
                print.bytes(bytes);
            }
            Event::Ended { pipe, dir, .. } => {
                print.number((6 + dir.index() as u64) << 32 | u64::from(pipe.0));
            }
            Event::FabricTimer => print.number(8 << 32),
            Event::Boot { node, .. } => print.number(9 << 32 | u64::from(*node)),
            Event::Wake { node, .. } => print.number(10 << 32 | u64::from(*node)),
            Event::DiskStep { node, .. } => print.number(11 << 32 | u64::from(*node)),
            Event::SaverStep { node, .. } => print.number(12 << 32 | u64::from(*node)),
        }
    }
}
