//! For tests: a [`World`] in virtual time whose servers are models that are called and answer, so that a test can
//! make them forget, refuse or stay silent at will. Connections in memory, latency by seed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use slotstorm_checker::record::{Body, Event, Kind, Nanos, Process, StreamLine, Touched, View};
use slotstorm_fabric::{Endpoint, LinkChange, Match, MessageRule, OnHeal, Policy, Trap};
use slotstorm_sim::Executor;

use super::{
    BackendError, ClockShift, Damage, Disk, LinkEvent, LinkId, Mailbox, ProcessState, SeenBy, Signal, World,
};
use crate::plan::seed;

pub mod servers;
mod tests;
mod toy;

/// Why a fault is refused: the servers of this world are models without disks, clocks and a bus.
const NOT_HERE: &str = "not in this world";

/// The servers behind the connections. Called only while the node runs.
pub trait Servers: 'static {
    /// Bytes arrived on a connection of `node`; answers the bytes to send back.
    fn receive(&mut self, now: Nanos, node: u16, conn: u64, bytes: &[u8]) -> Vec<u8>;
    /// The connection is gone.
    fn closed(&mut self, node: u16, conn: u64);
}

/// What a simulated world is made with.
#[derive(Clone, Copy, Debug)]
pub struct ModelOptions {
    pub nodes: u16,
    pub seed: u64,
    /// One way, at least.
    pub latency_ns: Nanos,
    /// A random part of this comes on top.
    pub jitter_ns: Nanos,
}

/// The world. Cheap to clone: a handle.
#[derive(Clone)]
pub struct ModelWorld {
    executor: Executor,
    inner: Rc<Inner>,
}

struct Inner {
    options: ModelOptions,
    servers: RefCell<Box<dyn Servers>>,
    states: RefCell<Vec<ProcessState>>,
    next_pid: Cell<u32>,
    conns: RefCell<BTreeMap<u64, Conn>>,
    next_conn: Cell<u64>,
    policies: RefCell<BTreeMap<(Endpoint, Endpoint), Policy>>,
    touched: RefCell<BTreeMap<(Endpoint, Endpoint), Touched>>,
    latency: RefCell<ChaCha8Rng>,
    next_index: Cell<u64>,
    history: RefCell<String>,
    views: RefCell<String>,
}

/// A connection from an endpoint to a node.
struct Conn {
    from: Endpoint,
    node: u16,
    mailbox: Rc<RefCell<Inbox>>,
    open: bool,
    /// Nothing overtakes anything in its direction.
    to_node: Direction,
    to_dialler: Direction,
}

#[derive(Default)]
struct Direction {
    last_arrival: Nanos,
    /// Arrived while the receiver was stopped or the direction cut.
    held: Vec<u8>,
}

#[derive(Default)]
struct Inbox {
    events: VecDeque<LinkEvent>,
    waker: Option<Waker>,
}

impl Inbox {
    fn put(inbox: &Rc<RefCell<Self>>, event: LinkEvent) {
        let mut inbox = inbox.borrow_mut();
        inbox.events.push_back(event);
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

impl ModelWorld {
    /// A world whose nodes all run.
    pub fn new(executor: Executor, options: ModelOptions, servers: impl Servers) -> Self {
        let states = (1..=u32::from(options.nodes)).map(|pid| ProcessState::Running { pid }).collect();
        let inner = Inner {
            options,
            servers: RefCell::new(Box::new(servers)),
            states: RefCell::new(states),
            next_pid: Cell::new(u32::from(options.nodes) + 1),
            conns: RefCell::default(),
            next_conn: Cell::new(0),
            policies: RefCell::default(),
            touched: RefCell::default(),
            latency: RefCell::new(seed::rng(options.seed, "latency")),
            next_index: Cell::new(0),
            history: RefCell::default(),
            views: RefCell::default(),
        };
        Self { executor, inner: Rc::new(inner) }
    }

    /// `history.jsonl` so far.
    pub fn history(&self) -> String {
        self.inner.history.borrow().clone()
    }

    /// `views.jsonl` so far.
    pub fn views(&self) -> String {
        self.inner.views.borrow().clone()
    }

    fn node_at(&self, address: SocketAddr) -> Option<u16> {
        (1..=self.inner.options.nodes).find(|node| {
            [SeenBy::Cluster, SeenBy::Controller].map(|by| self.address(*node, by)).contains(&address)
        })
    }

    fn policy(&self, from: Endpoint, to: Endpoint) -> Policy {
        self.inner.policies.borrow().get(&(from, to)).copied().unwrap_or_default()
    }

    fn count(&self, from: Endpoint, to: Endpoint, count: impl FnOnce(&mut Touched)) {
        count(self.inner.touched.borrow_mut().entry((from, to)).or_default());
    }

    fn running(&self, node: u16) -> bool {
        matches!(self.state(node), ProcessState::Running { .. })
    }

    /// When something sent now arrives, not before what was sent earlier in the same direction.
    fn arrival(&self, direction: &mut Direction, policy: Policy) -> Nanos {
        let options = &self.inner.options;
        let jitter = self.inner.latency.borrow_mut().random_range(0..=options.jitter_ns);
        let delay = match policy {
            Policy::Delay { delay_ms, .. } | Policy::Stall { stall_ms: delay_ms, .. } => {
                u64::from(delay_ms) * 1_000_000
            }
            _ => 0,
        };
        let at = self.executor.now() + options.latency_ns + jitter + delay;
        direction.last_arrival = at.max(direction.last_arrival + 1);
        direction.last_arrival
    }

    fn later(&self, at: Nanos, deed: impl FnOnce(&Self) + 'static) {
        let world = self.clone();
        self.executor.spawn(async move {
            world.executor.sleep_until(at).await;
            deed(&world);
        });
    }

    fn connected(&self, conn: u64) {
        let mut conns = self.inner.conns.borrow_mut();
        let Some(state) = conns.get_mut(&conn) else { return };
        let link = LinkId(conn);
        let inbox = Rc::clone(&state.mailbox);
        let to = Endpoint::Node(state.node);
        let down = matches!(self.state(state.node), ProcessState::Down { .. });
        let refused =
            self.policy(state.from, to) == Policy::Refuse || self.policy(to, state.from) == Policy::Refuse;
        self.count(state.from, to, |touched| {
            touched.connects += 1;
            touched.resets += u64::from(refused);
        });
        if down || refused {
            conns.remove(&conn);
            Inbox::put(&inbox, LinkEvent::Refused(link, "connection refused".into()));
        } else {
            state.open = true;
            Inbox::put(&inbox, LinkEvent::Connected(link));
        }
    }

    /// Bytes reach the node's end: they are served, or wait there.
    fn reach_node(&self, conn: u64, bytes: &[u8]) {
        let mut conns = self.inner.conns.borrow_mut();
        let Some(state) = conns.get_mut(&conn) else { return };
        let (from, node) = (state.from, state.node);
        let cut = matches!(self.policy(from, Endpoint::Node(node)), Policy::Blackhole { .. });
        state.to_node.held.extend_from_slice(bytes);
        if cut || !self.running(node) {
            self.count(from, Endpoint::Node(node), |touched| touched.held_bytes += bytes.len() as u64);
            return;
        }
        let bytes = std::mem::take(&mut state.to_node.held);
        if bytes.is_empty() {
            return;
        }
        self.count(from, Endpoint::Node(node), |touched| touched.passed_bytes += bytes.len() as u64);
        let reply = self.inner.servers.borrow_mut().receive(self.executor.now(), node, conn, &bytes);
        if !reply.is_empty() {
            let at = self.arrival(&mut state.to_dialler, self.policy(Endpoint::Node(node), from));
            drop(conns);
            self.later(at, move |world| world.reach_dialler(conn, &reply));
        }
    }

    fn reach_dialler(&self, conn: u64, bytes: &[u8]) {
        let mut conns = self.inner.conns.borrow_mut();
        let Some(state) = conns.get_mut(&conn) else { return };
        let (from, to) = (Endpoint::Node(state.node), state.from);
        state.to_dialler.held.extend_from_slice(bytes);
        if matches!(self.policy(from, to), Policy::Blackhole { .. }) {
            self.count(from, to, |touched| touched.held_bytes += bytes.len() as u64);
            return;
        }
        let bytes = std::mem::take(&mut state.to_dialler.held);
        if !bytes.is_empty() {
            self.count(from, to, |touched| touched.passed_bytes += bytes.len() as u64);
            Inbox::put(&state.mailbox, LinkEvent::Received(LinkId(conn), bytes));
        }
    }

    /// Connections end, for both ends.
    fn cut_off(&self, which: impl Fn(&Conn) -> bool, why: &str) {
        let mut conns = self.inner.conns.borrow_mut();
        let gone: Vec<u64> =
            conns.iter().filter(|(_, c)| c.open && which(c)).map(|(number, _)| *number).collect();
        for number in gone {
            let Some(conn) = conns.remove(&number) else { continue };
            self.inner.servers.borrow_mut().closed(conn.node, number);
            Inbox::put(&conn.mailbox, LinkEvent::Closed(LinkId(number), why.into()));
        }
    }

    /// What waited at any end is looked at again.
    fn release(&self) {
        let all: Vec<u64> = self.inner.conns.borrow().keys().copied().collect();
        for conn in all {
            self.reach_node(conn, &[]);
            self.reach_dialler(conn, &[]);
        }
    }

    fn set_state(&self, node: u16, state: ProcessState) {
        if let Some(slot) = self.inner.states.borrow_mut().get_mut(usize::from(node) - 1) {
            *slot = state;
        }
    }
}

impl World for ModelWorld {
    type Mailbox = ModelMailbox;

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
        seed::rng(self.inner.options.seed, concern)
    }

    fn mailbox(&self, from: Endpoint) -> ModelMailbox {
        ModelMailbox { world: self.clone(), from, inbox: Rc::default() }
    }

    fn record(&self, kind: Kind, process: Process, body: Body) -> (u64, Nanos) {
        let index = self.inner.next_index.get();
        self.inner.next_index.set(index + 1);
        let event = Event { index, time: self.now(), kind, process, body };
        let line = serde_json::to_string(&event).expect("events have only string keys");
        let mut history = self.inner.history.borrow_mut();
        history.push_str(&line);
        history.push('\n');
        (index, event.time)
    }

    fn record_view(&self, view: View) {
        let mut views = self.inner.views.borrow_mut();
        views.push_str(&serde_json::to_string(&view).expect("views have only string keys"));
        views.push('\n');
    }

    fn record_stream(&self, _line: &StreamLine) {}

    fn nodes(&self) -> u16 {
        self.inner.options.nodes
    }

    fn address(&self, node: u16, seen_by: SeenBy) -> SocketAddr {
        let third = u8::from(seen_by == SeenBy::Cluster);
        (Ipv4Addr::new(127, 1, third, node as u8), 6379).into()
    }

    async fn start(&self, node: u16) -> Result<u32, BackendError> {
        let pid = self.inner.next_pid.get();
        self.inner.next_pid.set(pid + 1);
        self.set_state(node, ProcessState::Running { pid });
        Ok(pid)
    }

    async fn signal(&self, node: u16, signal: Signal) -> Result<(), BackendError> {
        match (signal, self.state(node)) {
            (Signal::Kill | Signal::Term, _) => {
                self.set_state(node, ProcessState::Down { status: Some("killed".into()) });
                self.cut_off(|conn| conn.node == node, "connection reset");
            }
            (Signal::Stop, ProcessState::Running { pid }) => {
                self.set_state(node, ProcessState::Stopped { pid });
            }
            (Signal::Continue, ProcessState::Stopped { pid }) => {
                self.set_state(node, ProcessState::Running { pid });
                self.release();
            }
            _ => {}
        }
        Ok(())
    }

    fn wipe(&self, _node: u16) -> Result<(), BackendError> {
        Err(BackendError::Harness("the simulated servers have no disk yet".into()))
    }

    fn config(&self, _node: u16) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(None)
    }

    fn keep_config(&self, _node: u16) -> Result<(), BackendError> {
        Ok(()) // there is none, and a rollback says so
    }

    fn damage(&self, _node: u16, _damage: Damage) -> Result<Result<String, String>, BackendError> {
        Ok(Err(NOT_HERE.to_owned()))
    }

    async fn set_disk(&self, _node: u16, _disk: Disk) -> Result<Result<String, String>, BackendError> {
        Ok(Err(NOT_HERE.to_owned()))
    }

    async fn set_clock(
        &self,
        _node: u16,
        _shift: ClockShift,
    ) -> Result<Result<String, String>, BackendError> {
        Ok(Err(NOT_HERE.to_owned()))
    }

    async fn filter(&self, rules: Vec<MessageRule>) -> Result<Nanos, BackendError> {
        if rules.is_empty() { Ok(self.now()) } else { Err(BackendError::Harness(NOT_HERE.to_owned())) }
    }

    async fn filtered(&self) -> BTreeMap<u32, u64> {
        BTreeMap::new()
    }

    async fn watch(&self, traps: Vec<Trap>) -> Result<(), BackendError> {
        if traps.is_empty() { Ok(()) } else { Err(BackendError::Harness(NOT_HERE.to_owned())) }
    }

    async fn next_match(&self, deadline: Nanos) -> Option<Match> {
        self.sleep_until(deadline).await;
        None
    }

    async fn release(&self, _trap: u32) -> Result<Nanos, BackendError> {
        Ok(self.now())
    }

    fn state(&self, node: u16) -> ProcessState {
        let states = self.inner.states.borrow();
        states.get(usize::from(node) - 1).cloned().unwrap_or(ProcessState::Down { status: None })
    }

    async fn apply(&self, changes: Vec<LinkChange>) -> Result<Nanos, BackendError> {
        for change in changes {
            let link = (change.from, change.to);
            let before = self.policy(link.0, link.1);
            self.inner.policies.borrow_mut().insert(link, change.policy);
            let resets = matches!(change.policy, Policy::Refuse | Policy::Reset)
                || (before == Policy::Blackhole { on_heal: OnHeal::Reset } && change.policy == Policy::Pass);
            if resets {
                let on_link = |conn: &Conn| {
                    let ends = (conn.from, Endpoint::Node(conn.node));
                    ends == link || (ends.1, ends.0) == link
                };
                self.cut_off(on_link, "connection reset by a fault");
            }
        }
        self.release();
        Ok(self.now())
    }

    async fn touched(&self, links: &[(Endpoint, Endpoint)], reset: bool) -> Touched {
        let mut all = self.inner.touched.borrow_mut();
        let mut sum = Touched::default();
        for link in links {
            if reset {
                all.remove(link);
            } else if let Some(one) = all.get(link) {
                sum.passed_bytes += one.passed_bytes;
                sum.held_bytes += one.held_bytes;
                sum.connects += one.connects;
                sum.resets += one.resets;
            }
        }
        sum
    }
}

/// Connections in memory.
pub struct ModelMailbox {
    world: ModelWorld,
    from: Endpoint,
    inbox: Rc<RefCell<Inbox>>,
}

impl Mailbox for ModelMailbox {
    fn connect(&mut self, to: SocketAddr) -> LinkId {
        let inner = &self.world.inner;
        let number = inner.next_conn.get();
        inner.next_conn.set(number + 1);
        let Some(node) = self.world.node_at(to) else {
            Inbox::put(&self.inbox, LinkEvent::Refused(LinkId(number), "nobody listens there".into()));
            return LinkId(number);
        };
        let mut conn = Conn {
            from: self.from,
            node,
            mailbox: Rc::clone(&self.inbox),
            open: false,
            to_node: Direction::default(),
            to_dialler: Direction::default(),
        };
        let at = self.world.arrival(&mut conn.to_node, Policy::Pass);
        conn.to_dialler.last_arrival = at;
        inner.conns.borrow_mut().insert(number, conn);
        self.world.later(at, move |world| world.connected(number));
        LinkId(number)
    }

    fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        let mut conns = self.world.inner.conns.borrow_mut();
        let Some(conn) = conns.get_mut(&link.0) else { return };
        let policy = self.world.policy(conn.from, Endpoint::Node(conn.node));
        let at = self.world.arrival(&mut conn.to_node, policy);
        drop(conns);
        self.world.later(at, move |world| world.reach_node(link.0, &bytes));
    }

    fn close(&mut self, link: LinkId) {
        let gone = self.world.inner.conns.borrow_mut().remove(&link.0);
        if let Some(conn) = gone {
            self.world.inner.servers.borrow_mut().closed(conn.node, link.0);
        }
    }

    async fn next(&mut self, deadline: Nanos) -> Option<LinkEvent> {
        let mut timer = pin!(self.world.executor.sleep_until(deadline));
        poll_fn(|context| {
            let mut inbox = self.inbox.borrow_mut();
            if let Some(event) = inbox.events.pop_front() {
                return Poll::Ready(Some(event));
            }
            if timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            inbox.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for ModelMailbox {
    fn drop(&mut self) {
        self.world.inner.conns.borrow_mut().retain(|_, conn| !Rc::ptr_eq(&conn.mailbox, &self.inbox));
    }
}
