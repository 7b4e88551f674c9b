//! Where a storm happens: real processes behind the proxy, or the simulator. Everything above speaks only the
//! [`World`] trait, so that plan, nemesis, driver, observer and admin run on both, in real or in virtual time.
//!
//! Futures here are not `Send`: each backend has one thread for all of them (tokio's `LocalSet`, or the simulator's
//! own executor).

mod bus_lines;
mod faults;
#[cfg(test)]
pub mod model;
pub mod process;
mod roster;
pub mod sim;
mod stream_lines;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;

use rand_chacha::ChaCha8Rng;
use slotstorm_checker::record::{Body, Kind, Nanos, Process, StreamLine, Touched, View};
use slotstorm_fabric::{Endpoint, LinkChange, Match, MessageRule, Trap};

pub use faults::{ClockShift, Damage, DataFile, Disk, kept_vote};

/// The world that a run acts on. Cheap to clone: a handle.
pub trait World: Clone + 'static {
    /// Connections of one endpoint, and what arrives on them.
    type Mailbox: Mailbox;

    /// Nanoseconds since the run's start.
    fn now(&self) -> Nanos;
    /// Sleeps until `at`; at once if it has passed.
    fn sleep_until(&self, at: Nanos) -> impl Future<Output = ()>;
    /// Runs a task beside the caller, until it ends or the world does.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
    /// A generator of its own for each concern, so that a draw added in one place does not shift the others.
    fn rng(&self, concern: &str) -> ChaCha8Rng;

    /// A fresh mailbox that dials as `from`.
    fn mailbox(&self, from: Endpoint) -> Self::Mailbox;

    /// Stamps `body` with the time and writes it to the history, handed to the kernel before this returns.
    /// Answers the event's index and time.
    fn record(&self, kind: Kind, process: Process, body: Body) -> (u64, Nanos);
    /// Writes one poll's answer to the views.
    fn record_view(&self, view: View);
    /// Writes what was seen on a replication link.
    fn record_stream(&self, line: &StreamLine);

    /// How many nodes there are; they are numbered from 1.
    fn nodes(&self) -> u16;
    /// A node's real address (for the controller) or the one that the cluster knows (for clients).
    fn address(&self, node: u16, seen_by: SeenBy) -> SocketAddr;
    /// Starts a node that is down, on its data directory; answers its pid once the process exists.
    fn start(&self, node: u16) -> impl Future<Output = Result<u32, BackendError>>;
    /// Sends a signal. After `Kill` and `Term` it answers when the process is gone.
    fn signal(&self, node: u16, signal: Signal) -> impl Future<Output = Result<(), BackendError>>;
    /// Removes all files of a node that is down but its nodes.conf: it lost its data, and not who it is.
    fn wipe(&self, node: u16) -> Result<(), BackendError>;
    /// A node's nodes.conf as it is now; `None`: there is no such file.
    fn config(&self, node: u16) -> Result<Option<Vec<u8>>, BackendError>;
    /// Keeps a copy of a node's nodes.conf as it is now, running or not, for [`Damage::RollBackConfig`].
    fn keep_config(&self, node: u16) -> Result<(), BackendError>;
    /// Damages files of a node that is down. `Ok` says what was done; `Err` of the inner one why nothing could be (no such
    /// file, nothing to go back to).
    fn damage(&self, node: u16, damage: Damage) -> Result<Result<String, String>, BackendError>;
    /// How the node's disk answers from now on, over restarts too. The inner error: not on this machine, and why.
    fn set_disk(
        &self,
        node: u16,
        disk: Disk,
    ) -> impl Future<Output = Result<Result<String, String>, BackendError>>;
    /// How the node's wall clock errs from now on, over restarts too. The inner error: not with this server, and why.
    fn set_clock(
        &self,
        node: u16,
        shift: ClockShift,
    ) -> impl Future<Output = Result<Result<String, String>, BackendError>>;
    /// Whether the node's process runs, is stopped, or is gone (with the status it left).
    fn state(&self, node: u16) -> ProcessState;

    /// Applies all changes in one step between two polls of the proxy; answers the one time stamp.
    fn apply(&self, changes: Vec<LinkChange>) -> impl Future<Output = Result<Nanos, BackendError>>;
    /// These rules for single bus messages and no others from now on; answers when.
    fn filter(&self, rules: Vec<MessageRule>) -> impl Future<Output = Result<Nanos, BackendError>>;
    /// How many messages each rule has hit since the run began.
    fn filtered(&self) -> impl Future<Output = BTreeMap<u32, u64>>;
    /// Waits for these moments and no others; see [`slotstorm_fabric::Fabric::watch`].
    fn watch(&self, traps: Vec<Trap>) -> impl Future<Output = Result<(), BackendError>>;
    /// The next moment that came, or `None` at `deadline`.
    fn next_match(&self, deadline: Nanos) -> impl Future<Output = Option<Match>>;
    /// Lets go what a trap holds; answers when.
    fn release(&self, trap: u32) -> impl Future<Output = Result<Nanos, BackendError>>;
    /// What the links named in `changes` carried and held since the counters were last reset by `reset`.
    fn touched(&self, links: &[(Endpoint, Endpoint)], reset: bool) -> impl Future<Output = Touched>;
}

/// Connections of one endpoint. Dropping it closes them.
pub trait Mailbox: 'static {
    /// Begins to dial; the outcome arrives as an event.
    fn connect(&mut self, to: SocketAddr) -> LinkId;
    /// Queues bytes; silently nothing if the connection is gone (its `Closed` tells).
    fn send(&mut self, link: LinkId, bytes: Vec<u8>);
    /// Closes; no event follows.
    fn close(&mut self, link: LinkId);
    /// The next event, or `None` at `deadline`.
    fn next(&mut self, deadline: Nanos) -> impl Future<Output = Option<LinkEvent>>;
}

/// A connection of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    Connected(LinkId),
    /// The dial failed: nothing was ever sent.
    Refused(LinkId, String),
    Received(LinkId, Vec<u8>),
    Closed(LinkId, String),
}

/// Who wants to know an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenBy {
    /// The real one.
    Controller,
    /// The proxy's.
    Cluster,
}

/// What can be sent to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Kill,
    Term,
    Stop,
    Continue,
}

/// What became of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessState {
    Running {
        pid: u32,
    },
    Stopped {
        pid: u32,
    },
    /// Never started, or gone; `status` says how it ended.
    Down {
        status: Option<String>,
    },
}

/// Why the backend could not do it, and whose fault that is.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The server under test: it refused to start, crashed, or answered nonsense.
    #[error("server {node}: {message}")]
    Server { node: String, message: String },
    /// The harness or the machine: a limit, a port, a missing binary.
    #[error("{0}")]
    Harness(String),
}
