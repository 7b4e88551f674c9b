//! Real processes on loopback behind the proxy: the [`World`] on tokio's current-thread runtime.
//!
//! `address` who is where · `sut` which program a node runs and its flags · `keeper` the child that is every server's
//! parent · `servers` the controller's side of it · `network` the proxy · `mailbox` connections · `timer` sleeping ·
//! `disk` and `clocks` what
//! faults do to them · `folder`, `recorder` and `bus` what a run leaves behind · `self_test` the proof that no link bypasses the proxy.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: real clocks, files and sockets

pub mod address;
mod bus;
mod clocks;
mod disk;
pub mod folder;
pub mod keeper;
mod mailbox;
mod network;
mod recorder;
mod self_test;
mod servers;
pub mod sut;
mod timer;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use slotstorm_checker::record::verdict::Finding;
use slotstorm_checker::record::{Body, Kind, Nanos, NodeInfo, Process, Speaker, StreamLine, Touched, View};
use slotstorm_fabric::{Endpoint, LinkChange, Match, MessageRule, Trap};
use tokio::sync::Notify;

use self::address::{AddressPlan, Claim};
use self::bus::BusWriter;
pub use self::bus::LiveVerdict;
use self::clocks::Clock;
use self::folder::RunFolder;
use self::keeper::Spawn;
pub use self::mailbox::TcpMailbox;
use self::network::Network;
use self::recorder::Recorder;
use self::servers::{Servers, Surprise};
use self::sut::{Program, Server, Sut, SutError};
pub use self::timer::Timers;
use super::faults::exited_unasked;
use super::{BackendError, ClockShift, Damage, Disk, ProcessState, SeenBy, Signal, World, roster};
use crate::admin::create::{CreateError, Created, Progress, create};

/// Delays of the controller's own loop that are worth a line in the history.
const STALL_WORTH_NOTING: Duration = Duration::from_millis(20);
/// How often the loop is looked at.
const STALL_TICK: Duration = Duration::from_millis(5);
/// How often what the proxy saw on replication links is written down.
const STREAM_TICK: Duration = Duration::from_millis(50);

/// cluster-node-timeout where no directive sets it, as in Redis.
const NODE_TIMEOUT_MS: u64 = 15_000;

/// What a world of processes is made of.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    pub masters: u16,
    /// Of each master.
    pub replicas: u16,
    pub clients: u16,
    pub sut: Sut,
    /// What all nodes are started with; see [`sut::directives`].
    pub directives: BTreeMap<String, String>,
    /// A bug that every embedded node is given on purpose.
    pub mutation: Option<String>,
    /// Of everything random.
    pub seed: u64,
    /// Servers are started so that their clocks can be shifted.
    pub clocks: bool,
    /// The folder that holds `runs/` and `latest`.
    pub results: PathBuf,
    /// The run's name, for its folder.
    pub name: String,
    /// This binary. Only tests name another than [`SELF_EXE`].
    pub launcher: PathBuf,
}

/// The binary that runs, whatever was built over its file meanwhile: the kernel resolves this link to the very file
/// that is being executed.
pub const SELF_EXE: &str = "/proc/self/exe";

/// Why there is no world.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The user named a server or directive that cannot be used.
    #[error(transparent)]
    Sut(#[from] SutError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("the cluster could not be made: {0}")]
    Create(#[from] CreateError),
    #[error("no bug is called {0} here (a build with `--features zoo` has those of `slotstorm zoo --list`)")]
    Mutation(String),
}

/// A cluster of processes. A handle.
#[derive(Clone)]
pub struct ProcessWorld(Rc<Inner>);

struct Inner {
    timers: Timers,
    claim: Claim,
    options: ProcessOptions,
    servers_of: Vec<Server>,
    folder: RefCell<Option<RunFolder>>,
    run_path: PathBuf,
    recorder: RefCell<Recorder>,
    bus: RefCell<Option<BusWriter>>,
    live_verdict: RefCell<Option<LiveVerdict>>,
    servers: Servers,
    network: Network,
    /// Disks that are not sound.
    disks: RefCell<BTreeMap<u16, Disk>>,
    /// Wall clocks, if they can be shifted.
    clocks: RefCell<BTreeMap<u16, Clock>>,
    /// What the proxy was told: each node's latest process.
    known_pids: RefCell<BTreeMap<u16, u32>>,
    broken: RefCell<Option<String>>,
    crashed: RefCell<Option<String>>,
    trouble: Notify,
    stopped: Cell<bool>,
}

impl ProcessWorld {
    /// Claims addresses, makes the run's folder, starts keeper and proxy. No server runs yet. Call inside a
    /// `LocalSet` ([`run_local`]).
    pub fn open(options: ProcessOptions) -> Result<Self, StartError> {
        let programs = options.sut.assign(options.masters, options.replicas)?;
        let mut found: BTreeMap<Program, Server> = BTreeMap::new();
        for program in &programs {
            if !found.contains_key(program) {
                found.insert(program.clone(), Server::find(program)?);
            }
        }
        sut::check_compatible(found.values())?;
        let servers_of: Vec<Server> = programs.iter().map(|program| found[program].clone()).collect();
        let nodes = servers_of.len() as u16;

        std::thread::spawn(binary_sha256); // whoever asks for it later finds it, or waits for it
        let origin = Instant::now();
        let timers = Timers::start(origin).map_err(|error| harness(format!("no timer: {error}")))?;
        let claim = Claim::take(nodes, options.clients)?;
        let (tape, tapes) = std::sync::mpsc::channel();
        let network = Network::start(claim.plan, nodes, options.clients, options.seed, origin, tape)?;
        let folder = RunFolder::create(&options.results, &options.name, options.seed).map_err(|error| {
            harness(format!("cannot make a run's folder in {}: {error}", options.results.display()))
        })?;
        let unwritable = |error| harness(format!("cannot write in {}: {error}", folder.path().display()));
        let recorder = Recorder::create(folder.path()).map_err(unwritable)?;
        let node_timeout = options.directives.get("cluster-node-timeout").and_then(|text| text.parse().ok());
        let node_timeout = Duration::from_millis(node_timeout.unwrap_or(NODE_TIMEOUT_MS)).as_nanos() as Nanos;
        let bus = BusWriter::start(folder.path(), node_timeout, tapes).map_err(unwritable)?;
        let weak: Rc<RefCell<std::rc::Weak<Inner>>> = Rc::default();
        let told = weak.clone();
        let servers = Servers::start(&options.launcher, move |surprise| {
            if let Some(inner) = told.borrow().upgrade() {
                Self(inner).surprised(surprise);
            }
        })?;
        let world = Self(Rc::new(Inner {
            timers,
            claim,
            options,
            servers_of,
            run_path: folder.path().to_owned(),
            folder: RefCell::new(Some(folder)),
            recorder: RefCell::new(recorder),
            bus: RefCell::new(Some(bus)),
            live_verdict: RefCell::default(),
            servers,
            network,
            disks: RefCell::default(),
            clocks: RefCell::default(),
            known_pids: RefCell::default(),
            broken: RefCell::default(),
            crashed: RefCell::default(),
            trouble: Notify::new(),
            stopped: Cell::new(false),
        }));
        *weak.borrow_mut() = Rc::downgrade(&world.0);
        tokio::task::spawn_local(measure_stalls(Rc::downgrade(&world.0)));
        tokio::task::spawn_local(write_stream(Rc::downgrade(&world.0)));
        Ok(world)
    }

    /// Starts all nodes, makes them a cluster, and proves that no link bypasses the proxy. A server that ends
    /// meanwhile is an error that quotes its log.
    pub async fn bring_up(&self, progress: impl FnMut(Progress)) -> Result<Created, StartError> {
        for node in 1..=self.nodes() {
            self.start(node).await?;
        }
        let plan = roster::create_plan(self, self.0.options.masters);
        let created = tokio::select! {
            created = create(self, &plan, progress) => created.map_err(|error| self.with_log(error))?,
            why = self.first_trouble() => return Err(why.into()),
        };
        self_test::no_bypass(self, &created).await?;
        Ok(created)
    }

    /// Kills every server, ends keeper and proxy, and answers when all are gone.
    pub async fn stop(&self) {
        self.0.stopped.set(true);
        self.0.servers.stop().await;
        self.drain_stream();
        self.0.network.stop();
        let bus = self.0.bus.borrow_mut().take();
        if let Some(bus) = bus {
            *self.0.live_verdict.borrow_mut() = self.written(bus.finish());
        }
    }

    /// Rules of the cluster bus that were seen broken since this was asked last.
    pub fn violations(&self) -> Vec<Finding> {
        self.0.bus.borrow().as_ref().map(BusWriter::found).unwrap_or_default()
    }

    /// What the judge that watched the bus says in the end. After [`Self::stop`].
    pub fn live_verdict(&self) -> Option<LiveVerdict> {
        self.0.live_verdict.borrow().clone()
    }

    /// Gives the run's folder its final name, and points `latest` at it. After [`Self::stop`].
    pub fn finish_folder(&self, keep_data: bool) -> Result<PathBuf, BackendError> {
        let folder = self.0.folder.borrow_mut().take();
        let folder = folder.ok_or_else(|| harness("the run's folder is finished already".to_owned()))?;
        folder.finish(keep_data).map_err(|error| harness(format!("cannot finish the run's folder: {error}")))
    }

    /// Removes the run's folder: there was no run.
    pub fn discard_folder(&self) -> Result<(), BackendError> {
        match self.0.folder.borrow_mut().take() {
            Some(folder) => folder.discard().map_err(|error| harness(error.to_string())),
            None => Ok(()),
        }
    }

    /// The run's folder while it has its temporary name.
    pub fn run_path(&self) -> &Path {
        &self.0.run_path
    }

    /// Clients that the proxy knows.
    pub fn clients(&self) -> u16 {
        self.0.options.clients
    }

    /// Resolves at the next trouble: a server or the harness ended unasked.
    pub async fn trouble(&self) {
        self.0.trouble.notified().await;
    }

    /// Where everybody is.
    pub fn plan(&self) -> AddressPlan {
        self.0.claim.plan
    }

    /// The keeper's process id.
    pub fn keeper_pid(&self) -> u32 {
        self.0.servers.keeper_pid()
    }

    /// Process ids of the servers.
    pub fn pids(&self) -> BTreeMap<u16, u32> {
        self.0.servers.pids()
    }

    /// Set once the harness itself broke (the keeper gone, the disk full): the run cannot be judged, exit code 3.
    pub fn broken(&self) -> Option<String> {
        self.0.broken.borrow().clone()
    }

    /// The last lines that a node wrote, its own log and its stderr.
    pub fn log_tail(&self, node: u16) -> String {
        let folder = self.0.folder.borrow();
        let Some(folder) = folder.as_ref() else { return String::new() };
        let both = [folder::tail(&folder.output(node), 5), folder::tail(&folder.log(node), 5)];
        both.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
    }

    /// What `run.json` says of the nodes. `created` gives ids and slots.
    pub fn node_infos(&self, created: &Created) -> Vec<NodeInfo> {
        roster::node_infos(self, self.0.options.masters, created, |node| {
            let server = &self.0.servers_of[usize::from(node - 1)];
            (server.program.to_string(), server.version.clone())
        })
    }

    /// The log of the node that an error is about, under it.
    fn with_log(&self, error: CreateError) -> StartError {
        let address = match &error {
            CreateError::Ask(
                crate::admin::resp::AskError::Refused { address, .. }
                | crate::admin::resp::AskError::Closed { address, .. }
                | crate::admin::resp::AskError::Timeout { address }
                | crate::admin::resp::AskError::Server { address, .. }
                | crate::admin::resp::AskError::Nonsense { address, .. },
            ) => Some(*address),
            _ => None,
        };
        let node = (1..=self.nodes()).find(|node| Some(self.address(*node, SeenBy::Controller)) == address);
        match node {
            Some(node) => StartError::Backend(BackendError::Server {
                node: format!("n{node}"),
                message: format!("{error}\n{}", self.log_tail(node)),
            }),
            None => StartError::Create(error),
        }
    }

    /// Resolves when a server or the harness ended unasked.
    pub async fn first_trouble(&self) -> BackendError {
        loop {
            let trouble = self.0.trouble.notified();
            if let Some(why) = self.broken() {
                return harness(why);
            }
            if let Some(node) = self.0.crashed.borrow().clone() {
                let number = node.trim_start_matches('n').parse().unwrap_or(0);
                let status = match self.state(number) {
                    ProcessState::Down { status: Some(status) } => status,
                    other => format!("{other:?}"),
                };
                let message = format!("ended unasked ({status})\n{}", self.log_tail(number));
                return BackendError::Server { node, message };
            }
            trouble.await;
        }
    }

    fn surprised(&self, surprise: Surprise) {
        match surprise {
            Surprise::Exited { node, status } => {
                let step = exited_unasked(node, &status);
                self.record(Kind::Info, Process::Other(Speaker::Nemesis), Body::Fault(step));
                self.0.crashed.borrow_mut().get_or_insert(format!("n{node}"));
            }
            Surprise::KeeperGone => {
                self.break_with("the keeper is gone, and with it every server".to_owned());
            }
        }
        self.0.trouble.notify_waiters();
    }

    /// Changes what is known of a node's clock and writes it for its process.
    fn tell_clock(&self, node: u16, file: &Path, change: impl Fn(&mut Clock)) -> Result<(), BackendError> {
        let (true, Some(server)) =
            (self.0.options.clocks, self.0.servers_of.get(usize::from(node).wrapping_sub(1)))
        else {
            return Ok(());
        };
        let mut clocks = self.0.clocks.borrow_mut();
        let clock = clocks.entry(node).or_default();
        change(clock);
        clock
            .write(file, &server.program)
            .map_err(|error| harness(format!("cannot write n{node}'s clock: {error}")))
    }

    fn disk(&self, node: u16) -> Disk {
        self.0.disks.borrow().get(&node).copied().unwrap_or_default()
    }

    /// A node's data directory, and where the copy of its nodes.conf is kept.
    fn data_of(&self, node: u16) -> Result<(PathBuf, PathBuf), BackendError> {
        let folder = self.0.folder.borrow();
        let folder = folder.as_ref().ok_or_else(|| harness("the run is over".to_owned()))?;
        Ok((folder.data(node), folder.kept_config(node)))
    }

    fn break_with(&self, why: String) {
        tracing::error!("{why}");
        self.0.broken.borrow_mut().get_or_insert(why);
        self.0.trouble.notify_waiters();
    }

    fn written<T>(&self, outcome: std::io::Result<T>) -> Option<T> {
        outcome.map_err(|error| self.break_with(format!("the record cannot be written: {error}"))).ok()
    }

    fn drain_stream(&self) {
        let now = World::now(self);
        for line in self.0.network.stream_lines() {
            self.record_stream(&line);
        }
        for (time, stall) in self.0.network.stalls() {
            if stall >= STALL_WORTH_NOTING.as_nanos() as Nanos {
                self.record_at(time, Body::Stall { value: stall, of: "proxy".to_owned() });
            }
        }
        for trouble in self.0.network.troubles() {
            self.break_with(format!("the proxy: {trouble}"));
        }
        if let Some(bus) = self.0.bus.borrow().as_ref() {
            bus.heard_all(now);
        }
        let bus = self.0.bus.borrow_mut().take_if(|bus| bus.has_ended());
        if let Some(bus) = bus {
            self.written(bus.finish());
        }
    }

    fn record_at(&self, time: Nanos, body: Body) {
        self.write_event(time, Kind::Info, Process::Other(Speaker::Harness), body);
    }

    fn write_event(&self, time: Nanos, kind: Kind, process: Process, body: Body) -> Option<u64> {
        if let Some(bus) = self.0.bus.borrow_mut().as_mut() {
            bus.heard(time, &body);
        }
        let outcome = self.0.recorder.borrow_mut().event(time, kind, process, body);
        self.written(outcome)
    }
}

impl World for ProcessWorld {
    type Mailbox = TcpMailbox;

    fn now(&self) -> Nanos {
        self.0.timers.now()
    }

    fn sleep_until(&self, at: Nanos) -> impl Future<Output = ()> {
        self.0.timers.sleep_until(at)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    fn rng(&self, concern: &str) -> ChaCha8Rng {
        crate::plan::seed::rng(self.0.options.seed, concern)
    }

    fn mailbox(&self, from: Endpoint) -> TcpMailbox {
        TcpMailbox::new(self.0.claim.plan.source(from), self.0.timers.clone())
    }

    fn record(&self, kind: Kind, process: Process, body: Body) -> (u64, Nanos) {
        let time = World::now(self);
        (self.write_event(time, kind, process, body).unwrap_or(u64::MAX), time)
    }

    fn record_view(&self, view: View) {
        let outcome = self.0.recorder.borrow_mut().view(&view);
        self.written(outcome);
    }

    fn record_stream(&self, line: &StreamLine) {
        let outcome = self.0.recorder.borrow_mut().stream(line);
        self.written(outcome);
    }

    fn nodes(&self) -> u16 {
        self.0.servers_of.len() as u16
    }

    fn address(&self, node: u16, seen_by: SeenBy) -> SocketAddr {
        self.0.claim.plan.node(node, seen_by)
    }

    async fn start(&self, node: u16) -> Result<u32, BackendError> {
        let server = self.0.servers_of.get(usize::from(node).wrapping_sub(1));
        let server = server.ok_or_else(|| harness(format!("there is no n{node}")))?;
        let spawn = {
            let folder = self.0.folder.borrow();
            let folder = folder.as_ref().ok_or_else(|| harness("the run is over".to_owned()))?;
            let dir = folder.data(node);
            std::fs::create_dir_all(&dir)
                .map_err(|error| harness(format!("cannot make {}: {error}", dir.display())))?;
            let (plan, log) = (self.0.claim.plan, folder.log(node));
            let full = self.disk(node) == Disk::Full;
            let clock = folder.clock(node);
            self.tell_clock(node, &clock, |clock| clock.started = World::now(self))?;
            Spawn {
                node,
                env: if self.0.options.clocks {
                    clocks::environment(&server.program, &clock)
                } else {
                    Vec::new()
                },
                file_limit: full.then(|| disk::file_limit(&dir)),
                program: match &server.program {
                    Program::Embedded => None,
                    Program::Path(path) => Some(path.clone()),
                },
                args: sut::arguments(
                    server,
                    plan,
                    node,
                    &dir,
                    &log,
                    &self.0.options.directives,
                    self.0.options.mutation.as_deref(),
                ),
                output: folder.output(node),
                dir,
            }
        };
        let pid = self.0.servers.spawn(spawn).await?;
        if let Some(before) = self.0.known_pids.borrow_mut().insert(node, pid) {
            self.0.network.forget_pid(before);
        }
        self.0.network.set_pid(pid, Endpoint::Node(node));
        Ok(pid)
    }

    async fn signal(&self, node: u16, signal: Signal) -> Result<(), BackendError> {
        self.0.servers.signal(node, signal).await
    }

    fn wipe(&self, node: u16) -> Result<(), BackendError> {
        if !matches!(self.state(node), ProcessState::Down { .. }) {
            return Err(harness(format!("n{node} runs: its data is not wiped under it")));
        }
        let folder = self.0.folder.borrow();
        let folder = folder.as_ref().ok_or_else(|| harness("the run is over".to_owned()))?;
        let dir = folder.data(node);
        if self.disk(node) == Disk::ReadOnly {
            return Err(harness(format!("n{node}'s disk is read-only: its data is not wiped")));
        }
        disk::wipe(&dir).map_err(|error| harness(format!("cannot empty {}: {error}", dir.display())))
    }

    fn config(&self, node: u16) -> Result<Option<Vec<u8>>, BackendError> {
        let (dir, _) = self.data_of(node)?;
        disk::config(&dir).map_err(|error| harness(format!("cannot read n{node}'s nodes.conf: {error}")))
    }

    fn keep_config(&self, node: u16) -> Result<(), BackendError> {
        let (dir, kept) = self.data_of(node)?;
        disk::keep_config(&dir, &kept)
            .map_err(|error| harness(format!("cannot copy n{node}'s nodes.conf: {error}")))
    }

    fn damage(&self, node: u16, damage: Damage) -> Result<Result<String, String>, BackendError> {
        if !matches!(self.state(node), ProcessState::Down { .. }) {
            return Err(harness(format!("n{node} runs: its files are not damaged under it")));
        }
        let (dir, kept) = self.data_of(node)?;
        let mut rng = World::rng(self, &format!("damage-{node}-{}", World::now(self)));
        disk::damage(&dir, &kept, damage, &mut rng)
            .map_err(|error| harness(format!("cannot damage n{node}'s files: {error}")))
    }

    async fn set_disk(&self, node: u16, disk: Disk) -> Result<Result<String, String>, BackendError> {
        let (dir, _) = self.data_of(node)?;
        let failed = |error: std::io::Error| harness(format!("cannot make n{node}'s disk {disk}: {error}"));
        let pid = self.pids().get(&node).copied();
        let before = self.disk(node);
        if disk == Disk::ReadOnly && pid.is_some_and(disk::overrides_permissions) {
            let why = "this server may write where permissions forbid it, and that right could not be taken from it";
            return Ok(Err(why.to_owned()));
        }
        if (before == Disk::ReadOnly || disk == Disk::ReadOnly) && dir.exists() {
            disk::set_writable(&dir, disk != Disk::ReadOnly).map_err(failed)?;
        }
        let limit = disk::file_limit(&dir);
        if let Some(pid) = pid
            && (before == Disk::Full || disk == Disk::Full)
            && let Err(error) = disk::limit_files(pid, (disk == Disk::Full).then_some(limit))
            && error.kind() != std::io::ErrorKind::NotFound
            && error.raw_os_error() != Some(nix::errno::Errno::ESRCH as i32)
        {
            return Err(failed(error));
        }
        self.0.disks.borrow_mut().insert(node, disk);
        Ok(Ok(disk::told(disk, limit)))
    }

    async fn set_clock(&self, node: u16, shift: ClockShift) -> Result<Result<String, String>, BackendError> {
        let server = self.0.servers_of.get(usize::from(node).wrapping_sub(1));
        let server = server.ok_or_else(|| harness(format!("there is no n{node}")))?;
        if !self.0.options.clocks {
            return Ok(Err("the servers were not started so that clocks can be shifted".to_owned()));
        }
        if let Some(why) = clocks::refusal(&server.program) {
            return Ok(Err(why));
        }
        let folder = self.0.folder.borrow();
        let folder = folder.as_ref().ok_or_else(|| harness("the run is over".to_owned()))?;
        let now = World::now(self);
        self.tell_clock(node, &folder.clock(node), |clock| (clock.shift, clock.since) = (shift, now))?;
        Ok(Ok(format!("{:+} ms, {:+} ppm", shift.offset_ms, shift.drift_ppm)))
    }

    fn state(&self, node: u16) -> ProcessState {
        self.0.servers.state(node)
    }

    async fn filter(&self, rules: Vec<MessageRule>) -> Result<Nanos, BackendError> {
        self.0.network.filter(rules).await
    }

    async fn filtered(&self) -> BTreeMap<u32, u64> {
        self.0.network.filtered().await
    }

    async fn watch(&self, traps: Vec<Trap>) -> Result<(), BackendError> {
        self.0.network.watch(traps).await
    }

    async fn next_match(&self, deadline: Nanos) -> Option<Match> {
        tokio::select! {
            biased;
            found = self.0.network.next_match() => Some(found),
            () = self.0.timers.sleep_until(deadline) => None,
        }
    }

    async fn release(&self, trap: u32) -> Result<Nanos, BackendError> {
        self.0.network.release(trap).await
    }

    async fn apply(&self, changes: Vec<LinkChange>) -> Result<Nanos, BackendError> {
        self.0.network.apply(changes).await
    }

    async fn touched(&self, links: &[(Endpoint, Endpoint)], reset: bool) -> Touched {
        self.0.network.touched(links, reset).await
    }
}

/// SHA-256 of the binary that runs, in hexadecimal. Computed once: a few hundred milliseconds for a large binary, which
/// [`ProcessWorld::open`] spends on another thread while the servers come up.
pub fn binary_sha256() -> std::io::Result<String> {
    static HASH: OnceLock<Result<String, String>> = OnceLock::new();
    let compute = || -> std::io::Result<String> {
        let mut hash = Sha256::new();
        std::io::copy(&mut std::fs::File::open(SELF_EXE)?, &mut hash)?;
        Ok(format!("{:x}", hash.finalize()))
    };
    HASH.get_or_init(|| compute().map_err(|error| error.to_string())).clone().map_err(std::io::Error::other)
}

/// Kernel, processors and memory in one line, for `run.json`.
pub fn host_line() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kb: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    format!("Linux {}, {processors} processors, {} MiB", kernel.trim(), kb / 1024)
}

/// Runs a future on a fresh single-threaded runtime, as a [`ProcessWorld`] needs it.
pub fn run_local<T>(future: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, future))
}

/// Looks every few milliseconds whether this thread was let run, and writes down when it was not.
async fn measure_stalls(world: std::rc::Weak<Inner>) {
    let tick = STALL_TICK.as_nanos() as Nanos;
    while let Some(inner) = world.upgrade() {
        let timers = inner.timers.clone();
        drop(inner);
        let wanted = timers.now() + tick;
        timers.sleep_until(wanted).await;
        let now = timers.now();
        let late = now.saturating_sub(wanted);
        if late >= STALL_WORTH_NOTING.as_nanos() as Nanos
            && let Some(inner) = world.upgrade()
        {
            ProcessWorld(inner).record_at(now, Body::Stall { value: late, of: "controller".to_owned() });
        }
    }
}

/// Writes down what the proxy saw on replication links.
async fn write_stream(world: std::rc::Weak<Inner>) {
    let tick = STREAM_TICK.as_nanos() as Nanos;
    while let Some(inner) = world.upgrade() {
        ProcessWorld(inner.clone()).drain_stream();
        let timers = inner.timers.clone();
        drop(inner);
        timers.sleep_until(timers.now() + tick).await;
    }
}

fn harness(message: String) -> BackendError {
    BackendError::Harness(message)
}
