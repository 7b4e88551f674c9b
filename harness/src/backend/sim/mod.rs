//! The simulator as a [`World`]: the same plan, nemesis, driver and observer as on real processes, on machines in
//! virtual time. A seed replays bit for bit.
//!
//! `storm` a whole run · `files` what faults do to them · `mailbox` connections · `tape` the record.

mod files;
mod mailbox;
mod storm;
mod tape;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use rand_chacha::ChaCha8Rng;
use slotstorm_checker::record::{Body, Kind, Nanos, Process, Speaker, StreamLine, Touched, View};
use slotstorm_fabric::{BusTape, Endpoint, LinkChange, Match, MessageRule, Trap};
use slotstorm_sim::{Cluster, DiskTrouble, Executor, Exited, MachineState, Machinery};

use super::faults::exited_unasked;
use super::process::address::AddressPlan;
use super::{BackendError, ClockShift, Damage, Disk, ProcessState, SeenBy, Signal, World};
use crate::plan::seed;

pub use mailbox::SimMailbox;
pub use storm::{SimStorm, simulate};
pub use tape::{Keep, Tape};

/// How often a process that was asked to end is looked at.
const LOOK: Nanos = 500_000;

/// A cluster of simulated machines. Cheap to clone: a handle.
#[derive(Clone)]
pub struct SimWorld {
    executor: Executor,
    inner: Rc<Inner>,
}

struct Inner {
    cluster: RefCell<Cluster>,
    addresses: AddressPlan,
    nodes: u16,
    seed: u64,
    /// None until the cluster stands.
    tape: RefCell<Option<Tape>>,
    /// What passed on the bus before the last hand-over.
    bus: RefCell<BusTape>,
    next_index: Cell<u64>,
    crashed: RefCell<Option<Exited>>,
    now: Cell<Nanos>,
    /// Moments that traps waited for.
    moments: RefCell<Moments>,
    /// nodes.conf as it was, by node.
    kept_configs: RefCell<BTreeMap<u16, Vec<u8>>>,
}

#[derive(Default)]
struct Moments {
    came: VecDeque<Match>,
    waker: Option<Waker>,
}

impl Moments {
    fn add(&mut self, found: Vec<Match>) {
        if found.is_empty() {
            return;
        }
        self.came.extend(found);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl SimWorld {
    fn new(executor: Executor, cluster: Cluster, addresses: AddressPlan, nodes: u16, seed: u64) -> Self {
        let inner = Rc::new(Inner {
            cluster: RefCell::new(cluster),
            addresses,
            nodes,
            seed,
            tape: RefCell::new(None),
            bus: RefCell::default(),
            next_index: Cell::new(0),
            crashed: RefCell::new(None),
            moments: RefCell::default(),
            kept_configs: RefCell::default(),
            now: Cell::new(0),
        });
        executor.attach(Rc::clone(&inner) as Rc<dyn Machinery>);
        Self { executor, inner }
    }

    fn down(&self, node: u16) -> bool {
        matches!(self.inner.cluster.borrow().state(node), MachineState::Down { .. })
    }

    /// Hands what the fabric has seen since the last call to the record.
    fn drain_fabric(&self) {
        let mut bus = self.inner.bus.borrow_mut();
        let events = {
            let mut cluster = self.inner.cluster.borrow_mut();
            cluster.take_bus_tape_onto(&mut bus);
            cluster.take_stream_events()
        };
        if let Some(record) = self.inner.tape.borrow_mut().as_mut() {
            for event in events {
                record.stream(&super::stream_lines::stream_line(event));
            }
            record.bus(&bus);
        }
    }
}

impl Machinery for Inner {
    fn next_at(&self) -> Option<Nanos> {
        self.cluster.borrow().next_at()
    }

    fn turn(&self) {
        let exited = {
            let mut cluster = self.cluster.borrow_mut();
            cluster.turn();
            self.now.set(cluster.now());
            self.moments.borrow_mut().add(cluster.take_matches());
            cluster.take_exited()
        };
        for exited in exited {
            self.surprised(exited);
        }
    }

    fn advance(&self, now: Nanos) {
        self.cluster.borrow_mut().advance(now);
        self.now.set(now);
    }
}

impl Inner {
    fn record(&self, kind: Kind, process: Process, body: Body) -> (u64, Nanos) {
        let (index, time) = (self.next_index.get(), self.now.get());
        self.next_index.set(index + 1);
        self.cluster.borrow_mut().note_number(time ^ index.rotate_left(40));
        if let Some(tape) = self.tape.borrow_mut().as_mut() {
            tape.event(slotstorm_checker::record::Event { index, time, kind, process, body });
        }
        (index, time)
    }

    fn surprised(&self, exited: Exited) {
        let step = exited_unasked(exited.node, &exited.status);
        self.record(Kind::Info, Process::Other(Speaker::Nemesis), Body::Fault(step));
        self.crashed.borrow_mut().get_or_insert(exited);
    }
}

impl World for SimWorld {
    type Mailbox = SimMailbox;

    fn now(&self) -> Nanos {
        self.executor.now()
    }

    fn sleep_until(&self, at: Nanos) -> impl Future<Output = ()> {
        self.executor.sleep_until(at)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.executor.spawn(task);
    }

    fn rng(&self, concern: &str) -> ChaCha8Rng {
        seed::rng(self.inner.seed, concern)
    }

    fn mailbox(&self, from: Endpoint) -> SimMailbox {
        let source = IpAddr::V4(self.inner.addresses.source(from));
        let number = self.inner.cluster.borrow_mut().outsider(from, source);
        SimMailbox::new(self.clone(), number)
    }

    fn record(&self, kind: Kind, process: Process, body: Body) -> (u64, Nanos) {
        self.inner.record(kind, process, body)
    }

    fn record_view(&self, view: View) {
        if let Some(tape) = self.inner.tape.borrow_mut().as_mut() {
            tape.view(view);
        }
    }

    fn record_stream(&self, line: &StreamLine) {
        if let Some(tape) = self.inner.tape.borrow_mut().as_mut() {
            tape.stream(line);
        }
    }

    fn nodes(&self) -> u16 {
        self.inner.nodes
    }

    fn address(&self, node: u16, seen_by: SeenBy) -> SocketAddr {
        self.inner.addresses.node(node, seen_by)
    }

    async fn start(&self, node: u16) -> Result<u32, BackendError> {
        let started = self.inner.cluster.borrow_mut().start(node);
        started.ok_or_else(|| BackendError::Harness(format!("n{node} runs already")))
    }

    async fn signal(&self, node: u16, signal: Signal) -> Result<(), BackendError> {
        let refused = |why: &str| Err(BackendError::Harness(format!("n{node} {why}")));
        let state = self.inner.cluster.borrow().state(node);
        match (signal, state) {
            (_, MachineState::Down { .. }) => return refused("does not run: no signal can be sent"),
            (Signal::Term, MachineState::Stopped { .. }) => {
                return refused("is stopped: it would only see a SIGTERM once it continues");
            }
            _ => {}
        }
        {
            let mut cluster = self.inner.cluster.borrow_mut();
            match signal {
                Signal::Kill => cluster.kill(node),
                Signal::Term => cluster.terminate(node),
                Signal::Stop => cluster.stop(node),
                Signal::Continue => cluster.resume(node),
            }
        }
        while signal == Signal::Term && !self.down(node) {
            self.sleep_until(self.now() + LOOK).await;
        }
        Ok(())
    }

    fn wipe(&self, node: u16) -> Result<(), BackendError> {
        if !self.down(node) {
            return Err(BackendError::Harness(format!("n{node} runs: its data is not wiped under it")));
        }
        self.wipe_data(node);
        Ok(())
    }

    fn config(&self, node: u16) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(self.config_of(node))
    }

    fn keep_config(&self, node: u16) -> Result<(), BackendError> {
        self.keep_config_of(node);
        Ok(())
    }

    fn damage(&self, node: u16, damage: Damage) -> Result<Result<String, String>, BackendError> {
        if !self.down(node) {
            return Err(BackendError::Harness(format!("n{node} runs: its files are not damaged under it")));
        }
        Ok(self.damage_files(node, damage))
    }

    async fn set_disk(&self, node: u16, disk: Disk) -> Result<Result<String, String>, BackendError> {
        let trouble = match disk {
            Disk::Sound => DiskTrouble::None,
            Disk::ReadOnly => DiskTrouble::ReadOnly,
            Disk::Full => DiskTrouble::Full,
        };
        self.inner.cluster.borrow_mut().set_disk_trouble(node, trouble);
        Ok(Ok(disk.to_string()))
    }

    async fn set_clock(&self, node: u16, shift: ClockShift) -> Result<Result<String, String>, BackendError> {
        self.inner.cluster.borrow_mut().clock(node, |now, clock| {
            clock.correct(now);
            clock.jump(shift.offset_ms);
            clock.drift(now, shift.drift_ppm.into());
        });
        Ok(Ok(format!("{:+} ms, {:+} ppm", shift.offset_ms, shift.drift_ppm)))
    }

    async fn filter(&self, rules: Vec<MessageRule>) -> Result<Nanos, BackendError> {
        self.inner.cluster.borrow_mut().filter(rules);
        Ok(self.now())
    }

    async fn filtered(&self) -> BTreeMap<u32, u64> {
        self.inner.cluster.borrow().filtered()
    }

    async fn watch(&self, traps: Vec<Trap>) -> Result<(), BackendError> {
        self.inner.cluster.borrow_mut().watch(traps);
        Ok(())
    }

    async fn next_match(&self, deadline: Nanos) -> Option<Match> {
        let mut timer = pin!(self.executor.sleep_until(deadline));
        poll_fn(|context| {
            let mut moments = self.inner.moments.borrow_mut();
            if let Some(found) = moments.came.pop_front() {
                return Poll::Ready(Some(found));
            }
            if timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            moments.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    async fn release(&self, trap: u32) -> Result<Nanos, BackendError> {
        self.inner.cluster.borrow_mut().release(trap);
        Ok(self.now())
    }

    fn state(&self, node: u16) -> ProcessState {
        match self.inner.cluster.borrow().state(node) {
            MachineState::Running { pid } => ProcessState::Running { pid },
            MachineState::Stopped { pid } => ProcessState::Stopped { pid },
            MachineState::Down { status } => ProcessState::Down { status },
        }
    }

    async fn apply(&self, changes: Vec<LinkChange>) -> Result<Nanos, BackendError> {
        self.inner.cluster.borrow_mut().apply(&changes);
        Ok(self.now())
    }

    async fn touched(&self, links: &[(Endpoint, Endpoint)], reset: bool) -> Touched {
        let touched = self.inner.cluster.borrow_mut().touched(links, reset);
        Touched {
            passed_bytes: touched.passed_bytes,
            held_bytes: touched.held_bytes,
            connects: touched.connects,
            resets: touched.resets,
        }
    }
}
