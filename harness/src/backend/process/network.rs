//! The proxy as this world uses it: its routes from the address plan, its words turned into the record's.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::time::Instant;

use slotstorm_checker::record::{Nanos, StreamLine, StreamWhat, Touched};
use slotstorm_fabric::{
    BusTape, Endpoint, LinkChange, Match, MessageRule, Plane, StreamEvent, StreamWhat as Passed, Trap,
};

use super::address::AddressPlan;
use crate::backend::{BackendError, SeenBy};
use crate::proxy::{Proxy, ProxyError, ProxyHandle, ProxyOptions, Route};

/// The proxy of one cluster.
pub struct Network(RefCell<Option<ProxyHandle>>);

impl Network {
    /// Listens on every node's announced addresses; `bus` gets a copy of what passes on the cluster bus.
    pub fn start(
        plan: AddressPlan,
        nodes: u16,
        clients: u16,
        seed: u64,
        clock: Instant,
        bus: Sender<BusTape>,
    ) -> Result<Self, BackendError> {
        let route = |node: u16, bus: bool| {
            let at = |seen_by| if bus { plan.bus(node, seen_by) } else { plan.node(node, seen_by) };
            Route {
                listen: at(SeenBy::Cluster),
                target: at(SeenBy::Controller),
                to: Endpoint::Node(node),
                bus,
            }
        };
        let routes = (1..=nodes).flat_map(|node| [route(node, false), route(node, true)]).collect();
        let callers = plan.callers(nodes, clients);
        let handle =
            Proxy::start(ProxyOptions { routes, callers, seed, clock, bus: Some(bus) }).map_err(broken)?;
        Ok(Self(RefCell::new(Some(handle))))
    }

    /// Whose a process is, for callers without an address of their own.
    pub fn set_pid(&self, pid: u32, endpoint: Endpoint) {
        if let Some(handle) = self.0.borrow().as_ref() {
            handle.set_pid(pid, endpoint);
        }
    }

    /// The process is gone.
    pub fn forget_pid(&self, pid: u32) {
        if let Some(handle) = self.0.borrow().as_ref() {
            handle.forget_pid(pid);
        }
    }

    /// Changes links in one step.
    pub async fn apply(&self, changes: Vec<LinkChange>) -> Result<Nanos, BackendError> {
        let applied = self.handle(|handle| handle.apply(changes))?;
        applied.await.map_err(broken)
    }

    /// Rules for single bus messages, instead of those before.
    pub async fn filter(&self, rules: Vec<MessageRule>) -> Result<Nanos, BackendError> {
        let applied = self.handle(|handle| handle.filter(rules))?;
        applied.await.map_err(broken)
    }

    /// How many messages each rule has hit.
    pub async fn filtered(&self) -> BTreeMap<u32, u64> {
        let Ok(asked) = self.handle(ProxyHandle::filtered) else { return BTreeMap::new() };
        asked.await.unwrap_or_default()
    }

    /// Moments that are waited for, instead of those before.
    pub async fn watch(&self, traps: Vec<Trap>) -> Result<(), BackendError> {
        let applied = self.handle(|handle| handle.watch(traps))?;
        applied.await.map(|_| ()).map_err(broken)
    }

    /// The next moment that came.
    pub async fn next_match(&self) -> Match {
        let matches = self.handle(ProxyHandle::matches).ok();
        match matches {
            Some(matches) => matches.next().await,
            None => std::future::pending().await,
        }
    }

    /// Lets go what a trap holds.
    pub async fn release(&self, trap: u32) -> Result<Nanos, BackendError> {
        let released = self.handle(|handle| handle.release(trap))?;
        released.await.map_err(broken)
    }

    /// What these links carried and held.
    pub async fn touched(&self, links: &[(Endpoint, Endpoint)], reset: bool) -> Touched {
        let Ok(asked) = self.handle(|handle| handle.touched(links, reset)) else { return Touched::default() };
        let touched = asked.await.unwrap_or_default();
        Touched {
            passed_bytes: touched.passed_bytes,
            held_bytes: touched.held_bytes,
            connects: touched.connects,
            resets: touched.resets,
        }
    }

    /// Which links were dialled through the proxy: caller, callee, plane.
    pub async fn carried(&self) -> BTreeSet<(Endpoint, Endpoint, Plane)> {
        let Ok(asked) = self.handle(ProxyHandle::pairs) else { return BTreeSet::new() };
        let pairs = asked.await.unwrap_or_default();
        pairs
            .into_iter()
            .filter(|pair| pair.dialled > 0)
            .map(|pair| (pair.from, pair.to, pair.plane))
            .collect()
    }

    /// What passed on replication links since the last call.
    pub fn stream_lines(&self) -> Vec<StreamLine> {
        let events = self.0.borrow().as_ref().map(ProxyHandle::stream_events).unwrap_or_default();
        events.into_iter().map(line).collect()
    }

    /// When (end) and for how long the proxy's loop was not let run, since the last call.
    pub fn stalls(&self) -> Vec<(Nanos, Nanos)> {
        let stalls = self.0.borrow().as_ref().map(ProxyHandle::stalls).unwrap_or_default();
        stalls.into_iter().map(|stall| (stall.end, stall.length)).collect()
    }

    /// What went wrong inside the proxy since the last call: the run is not to be trusted.
    pub fn troubles(&self) -> Vec<String> {
        self.0.borrow().as_ref().map(ProxyHandle::troubles).unwrap_or_default()
    }

    /// Resets all connections and ends the proxy's thread.
    pub fn stop(&self) {
        if let Some(handle) = self.0.borrow_mut().take() {
            handle.stop();
        }
    }

    fn handle<T>(&self, with: impl FnOnce(&ProxyHandle) -> T) -> Result<T, BackendError> {
        self.0.borrow().as_ref().map(with).ok_or_else(|| broken(ProxyError::Gone))
    }
}

#[allow(clippy::needless_pass_by_value)] // used as map_err(broken)
fn broken(error: ProxyError) -> BackendError {
    BackendError::Harness(error.to_string())
}

fn line(event: StreamEvent) -> StreamLine {
    let what = match event.what {
        Passed::Full { replid, offset } => StreamWhat::Full { replid, offset },
        Passed::Continue { replid, offset } => StreamWhat::Continue { replid, offset },
        Passed::Elements { elements } => StreamWhat::Elements { elements },
        Passed::Keys { came, went } => StreamWhat::Keys { came, went },
        Passed::Lost { why } => StreamWhat::Lost { why },
        Passed::End { offset } => StreamWhat::End { offset },
    };
    StreamLine {
        time: event.time,
        from: event.from.to_string(),
        to: event.to.to_string(),
        conn: event.conn,
        what,
    }
}
