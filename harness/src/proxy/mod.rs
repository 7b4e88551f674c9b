//! The proxy: sockets in front of the fabric, on a thread of its own. It stands on every link between nodes
//! and from clients to nodes; the fabric decides what becomes of the bytes.
//!
//! A caller is known by its source address, and the proxy dials on from that same address, so that the callee
//! sees the true caller. A caller without an address of its own (MIGRATE of redis-server 7.0.15 comes from
//! 127.0.0.1) is known by the process that owns its socket, see [`ProxyHandle::set_pid`]. Anyone else is an
//! outsider: forwarded, never cut, and counted under [`Endpoint::Controller`].
//!
//! What a loopback proxy cannot do: the handshake is over before it can refuse, so a refused connection (also
//! to a dead server) is seen as made and reset at once.

// The shell of the fabric: sockets, a thread, a clock.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod limits;
mod owner;
mod shell;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use slotstorm_fabric::{
    BusTape, ConnInfo, Endpoint, LinkChange, Match, MessageRule, Nanos, PairStats, StreamEvent, Touched, Trap,
};
use tokio::sync::{Notify, oneshot};

pub use limits::{ensure_open_files, sockets_needed};
use shell::Shell;

/// What a proxy is started with.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Where it listens, for whom.
    pub routes: Vec<Route>,
    /// Who calls from which address.
    pub callers: BTreeMap<IpAddr, Endpoint>,
    /// Of the fabric's jitter.
    pub seed: u64,
    /// The run's origin: all times are nanoseconds since it.
    pub clock: Instant,
    /// Who gets a copy of what passes on the bus, in pieces of a tenth of a second.
    pub bus: Option<Sender<BusTape>>,
}

/// One listening address and what stands behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The address that the cluster knows.
    pub listen: SocketAddr,
    /// The real address.
    pub target: SocketAddr,
    /// Whose it is.
    pub to: Endpoint,
    /// True for the cluster bus port.
    pub bus: bool,
}

/// Why the proxy could not be started or does not answer: the harness' or the machine's fault, never a
/// server's.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The address is taken, or this machine does not have it.
    #[error("the proxy cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Too few files may be open.
    #[error(
        "this cluster needs {need} open files, but the limit is {have}; raise it (ulimit -n {need}) or use \
         fewer nodes or clients"
    )]
    OpenFiles {
        /// Files that the whole controller needs.
        need: u64,
        /// What could be had.
        have: u64,
    },
    /// epoll or the thread could not be had.
    #[error("the proxy cannot be set up: {0}")]
    Setup(io::Error),
    /// Its thread has ended.
    #[error("the proxy has stopped")]
    Gone,
}

/// Time in which the proxy's loop should have run but did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// When the loop ran again.
    pub end: Nanos,
    /// How late it was, in nanoseconds.
    pub length: Nanos,
}

/// A connection through the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxiedConn {
    /// Who with whom.
    pub info: ConnInfo,
    /// The caller's socket address.
    pub caller_address: SocketAddr,
    /// The listening address that was dialled.
    pub listen: SocketAddr,
}

/// What the loop is asked to do between two polls.
enum Control {
    Apply(Vec<LinkChange>, oneshot::Sender<Nanos>),
    Filter(Vec<MessageRule>, oneshot::Sender<Nanos>),
    Filtered(oneshot::Sender<BTreeMap<u32, u64>>),
    Watch(Vec<Trap>, oneshot::Sender<Nanos>),
    Release(u32, oneshot::Sender<Nanos>),
    Touched(Vec<(Endpoint, Endpoint)>, bool, oneshot::Sender<Touched>),
    Pairs(oneshot::Sender<Vec<PairStats>>),
    #[cfg_attr(not(test), allow(dead_code))] // tests look at single connections
    Conns(oneshot::Sender<Vec<ProxiedConn>>),
    Stop,
}

/// What loop and handle share.
#[derive(Default)]
struct Shared {
    pids: Mutex<BTreeMap<u32, Endpoint>>,
    stream: Mutex<Vec<StreamEvent>>,
    stalls: Mutex<Vec<Stall>>,
    troubles: Mutex<Vec<String>>,
    matches: Arc<Matches>,
}

/// Moments that came, in order, from the proxy's thread to whoever waits for them.
#[derive(Default)]
pub struct Matches {
    found: Mutex<VecDeque<Match>>,
    told: Notify,
}

impl Matches {
    /// The next one.
    pub async fn next(&self) -> Match {
        loop {
            let told = self.told.notified();
            if let Some(found) = self.found.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                return found;
            }
            told.await;
        }
    }

    fn put(&self, found: Vec<Match>) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        self.told.notify_one();
    }
}

/// The proxy.
pub struct Proxy;

impl Proxy {
    /// Raises the limit of open files as far as the routes and callers need, listens on all routes, and
    /// starts the thread. When it answers, every route accepts.
    pub fn start(options: ProxyOptions) -> Result<ProxyHandle, ProxyError> {
        let nodes = options.routes.iter().filter(|route| route.bus).count() as u64;
        let clients =
            options.callers.values().filter(|end| matches!(end, Endpoint::Client(_))).count() as u64;
        ensure_open_files(sockets_needed(nodes, clients))?;
        let shared = Arc::new(Shared::default());
        let (control, orders) = mpsc::channel();
        let shell = Shell::new(options, orders, Arc::clone(&shared))?;
        let waker = shell.waker();
        let thread = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || shell.run())
            .map_err(ProxyError::Setup)?;
        Ok(ProxyHandle { control, waker, shared, thread: Some(thread) })
    }
}

/// The proxy's other end. Dropping it stops the proxy: all its connections are reset.
pub struct ProxyHandle {
    control: Sender<Control>,
    waker: Arc<mio::Waker>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl ProxyHandle {
    /// Changes links, all in one step between two polls; answers the one time stamp.
    pub fn apply(&self, changes: Vec<LinkChange>) -> impl Future<Output = Result<Nanos, ProxyError>> + use<> {
        let (answer, answered) = oneshot::channel();
        self.send(Control::Apply(changes, answer));
        wait(answered)
    }

    /// These rules for single bus messages and no others from now on; answers when.
    pub fn filter(&self, rules: Vec<MessageRule>) -> impl Future<Output = Result<Nanos, ProxyError>> + use<> {
        let (answer, answered) = oneshot::channel();
        self.send(Control::Filter(rules, answer));
        wait(answered)
    }

    /// How many messages each rule has hit.
    pub fn filtered(&self) -> impl Future<Output = Result<BTreeMap<u32, u64>, ProxyError>> + use<> {
        let (answer, answered) = oneshot::channel();
        self.send(Control::Filtered(answer));
        wait(answered)
    }

    /// Waits for these moments and no others from now on; answers when.
    pub fn watch(&self, traps: Vec<Trap>) -> impl Future<Output = Result<Nanos, ProxyError>> + use<> {
        let (answer, answered) = oneshot::channel();
        self.send(Control::Watch(traps, answer));
        wait(answered)
    }

    /// Lets go what a trap holds; answers when.
    pub fn release(&self, trap: u32) -> impl Future<Output = Result<Nanos, ProxyError>> + use<> {
        let (answer, answered) = oneshot::channel();
        self.send(Control::Release(trap, answer));
        wait(answered)
    }

    /// Where moments are told.
    pub fn matches(&self) -> Arc<Matches> {
        Arc::clone(&self.shared.matches)
    }

    /// What the links between these pairs, in these directions and on all planes, carried and held since the
    /// last reset of their counters; the kernel's unread bytes of held connections count as held.
    pub fn touched(
        &self,
        links: &[(Endpoint, Endpoint)],
        reset: bool,
    ) -> impl Future<Output = Result<Touched, ProxyError>> + use<> {
        let (answer, answered) = oneshot::channel();
        self.send(Control::Touched(links.to_vec(), reset, answer));
        wait(answered)
    }

    /// Every directed link that was ever used or named, by plane, with connections and bytes.
    pub fn pairs(&self) -> impl Future<Output = Result<Vec<PairStats>, ProxyError>> + use<> {
        let (answer, answered) = oneshot::channel();
        self.send(Control::Pairs(answer));
        wait(answered)
    }

    /// Every connection there is.
    #[cfg_attr(not(test), allow(dead_code))] // tests look at single connections
    pub fn conns(&self) -> impl Future<Output = Result<Vec<ProxiedConn>, ProxyError>> + use<> {
        let (answer, answered) = oneshot::channel();
        self.send(Control::Conns(answer));
        wait(answered)
    }

    /// What passed on the replication links since the last call, in order of time. To be drained every 100 ms
    /// or so; until then it is kept.
    pub fn stream_events(&self) -> Vec<StreamEvent> {
        std::mem::take(&mut *self.shared.stream.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the loop did not run though it should have (5 ms and more), since the last call.
    pub fn stalls(&self) -> Vec<Stall> {
        std::mem::take(&mut *self.shared.stalls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What went wrong inside the proxy since the last call (connections that could not be accepted or
    /// dialled for want of files or ports): a run that has any is not to be trusted.
    pub fn troubles(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.troubles.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whose the sockets of this process are, for callers without an address of their own. To be told at each
    /// start.
    pub fn set_pid(&self, pid: u32, endpoint: Endpoint) {
        self.pids().insert(pid, endpoint);
    }

    /// The process is gone; its number may come again.
    pub fn forget_pid(&self, pid: u32) {
        self.pids().remove(&pid);
    }

    /// Resets all connections, closes all listeners, and waits for the thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn pids(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Endpoint>> {
        self.shared.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, order: Control) {
        // If the thread is gone, the answer's sender is dropped with the order, and the waiting future says
        // so.
        let _ = self.control.send(order);
        let _ = self.waker.wake();
    }

    fn end(&mut self) {
        self.send(Control::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for ProxyHandle {
    fn drop(&mut self) {
        self.end();
    }
}

async fn wait<T>(answered: oneshot::Receiver<T>) -> Result<T, ProxyError> {
    answered.await.map_err(|_| ProxyError::Gone)
}

/// `slotstorm __proxy LISTEN TARGET`: one route and no faults until it is killed, for the benchmark.
pub fn run_alone(args: &[OsString]) -> ExitCode {
    let address = |i: usize| args.get(i).and_then(|arg| arg.to_str()).and_then(|arg| arg.parse().ok());
    let (Some(listen), Some(target)) = (address(0), address(1)) else {
        eprintln!("usage: slotstorm __proxy LISTEN_IP:PORT TARGET_IP:PORT");
        return ExitCode::from(254);
    };
    let route = Route { listen, target, to: Endpoint::Node(1), bus: false };
    let options = ProxyOptions {
        routes: vec![route],
        callers: BTreeMap::new(),
        seed: 0,
        clock: Instant::now(),
        bus: None,
    };
    match Proxy::start(options) {
        Ok(handle) => {
            let _keep = handle;
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}
