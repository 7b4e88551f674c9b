//! A run from the first operation to the last read: clients at a set rate, the storm, healing, convergence,
//! final reads, comparison of replicas. Everything is written to the record as it happens.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use slotstorm_checker::record::{Body, Expect, FaultStep, Kind, Nanos, NodeInfo, Phase, Process, Speaker};
use slotstorm_workloads::client::Wait;
use slotstorm_workloads::workload::{Workload, WorkloadKind, WorkloadOptions};

use crate::backend::{BackendError, SeenBy, World};
use crate::nemesis::runner::{self, Runner};
use crate::nemesis::{Nemesis, NemesisOptions};
use crate::observer::{Observer, ObserverOptions, RoleChange};
use crate::plan::{Plan, secs_to_nanos};

mod client;
mod finale;
mod tally;

pub use tally::Tally;

const MS: Nanos = 1_000_000;
/// The bug of the zoo that is none of a node: see [`Runner::tell_source_first`].
pub const TELLS_SOURCE_FIRST: &str = "tells-source-first";

/// What the terminal wants to hear while a run goes on.
pub trait Listener {
    /// A phase began.
    fn phase(&self, time: Nanos, phase: Phase);
    /// A step of a fault was carried out.
    fn fault(&self, time: Nanos, step: &FaultStep);
    /// A node says something new of itself.
    fn role(&self, change: &RoleChange);
    /// Ten times a second.
    fn tick(&self, now: Nanos, tally: &Tally);
}

/// A listener that nothing is told.
pub struct Silent;

impl Listener for Silent {
    fn phase(&self, _: Nanos, _: Phase) {}
    fn fault(&self, _: Nanos, _: &FaultStep) {}
    fn role(&self, _: &RoleChange) {}
    fn tick(&self, _: Nanos, _: &Tally) {}
}

/// A run that is ready to begin: the cluster stands and is whole.
pub struct Run<W: World> {
    pub world: W,
    pub plan: Rc<Plan>,
    /// In order, with ids, addresses and the shards at the start.
    pub nodes: Vec<NodeInfo>,
    pub listener: Rc<dyn Listener>,
    /// Asked often: true once the user wants it to end.
    pub interrupted: Rc<dyn Fn() -> bool>,
}

/// How a run went, beside its record.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Why the cluster was not whole when the bound was over.
    pub not_converged: Option<String>,
}

/// What clients and phases share.
struct Shared {
    workload: RefCell<Workload>,
    tally: RefCell<Tally>,
    /// The cluster's addresses, as clients know them, to names.
    node_names: BTreeMap<SocketAddr, String>,
    options: ClientPlan,
    /// Processes are numbered over all clients.
    next_process: RefCell<u64>,
    /// No new operation is invoked from now on.
    closing: RefCell<bool>,
    /// Clients that have not finished.
    running: RefCell<u16>,
    /// The latest scheduling delay that was recorded: clients share one thread, so one record does for all.
    last_stall: RefCell<Nanos>,
}

/// How each client behaves.
#[derive(Clone, Debug)]
struct ClientPlan {
    seeds: Vec<SocketAddr>,
    /// When the first operation is due.
    origin: Nanos,
    clients: u16,
    /// Operations per second of all clients together.
    rate: f64,
    op_timeout: Nanos,
    wait: Option<Wait>,
}

impl<W: World> Run<W> {
    /// Carries the run out. An error is the harness' own; what the servers did is in the record.
    pub async fn carry_out(self) -> Result<Outcome, BackendError> {
        let (world, plan) = (&self.world, &self.plan);
        let names = self.nodes.iter().map(|node| (node.id.clone(), node.name.clone())).collect();
        let listener = Rc::clone(&self.listener);
        let observer =
            Observer::start(world, names, ObserverOptions::default(), move |change| listener.role(change));
        let shared = Rc::new(self.shared());
        let origin = shared.options.origin;
        let options = NemesisOptions {
            origin,
            node_timeout_ms: plan.node_timeout_ms,
            clients: plan.clients,
            replicas: plan.replicas,
        };
        let mut nemesis = Nemesis::new(plan.schedule(), options, world.rng("nemesis"));

        self.begin(Phase::Load);
        *shared.running.borrow_mut() = plan.clients;
        for number in 0..plan.clients {
            world.spawn(client::Client::new(world, number, Rc::clone(&shared)).run());
        }
        self.tell_progress(&shared);
        let load_until = origin + secs_to_nanos(plan.load_s());
        let storm_until = origin + secs_to_nanos(plan.duration_s);
        self.sleep(load_until).await;
        self.begin(Phase::Storm);
        let interrupted = || (self.interrupted)();
        let adapter = Adapter(&*self.listener);
        let mut runner = Runner::new(world, &observer, &adapter);
        if plan.mutation.as_deref() == Some(TELLS_SOURCE_FIRST) {
            runner.tell_source_first();
        }
        let stormed = runner.run(&mut nemesis, storm_until, &interrupted).await;

        *shared.closing.borrow_mut() = true;
        while *shared.running.borrow() > 0 {
            world.sleep_until(world.now() + 10 * MS).await;
        }
        // Healed even if the storm broke: nothing may be left stopped.
        let healed = runner.heal(&mut nemesis).await;
        let finished = match stormed.and(healed) {
            Ok(()) => self.finish(&observer, &shared).await,
            Err(error) => Err(error),
        };
        observer.stop();
        finished.map(|not_converged| Outcome { not_converged })
    }

    /// From healing to the end; answers why the cluster did not converge.
    async fn finish(&self, observer: &Observer, shared: &Rc<Shared>) -> Result<Option<String>, BackendError> {
        let world = &self.world;
        self.begin(Phase::Converge);
        // The judge widens its bound by what the host stood still: a little longer, so that it has something to judge.
        let bound = world.now() + secs_to_nanos(self.plan.converge_bound_s()) + 3000 * MS;
        let not_converged = finale::converge(world, observer, bound, &*self.interrupted).await.err();
        if !(self.interrupted)() {
            self.begin(Phase::FinalReads);
            let reads = shared.workload.borrow().final_reads();
            finale::final_reads(world, shared, &reads).await;
            let model = observer.model(world);
            finale::compare_replicas(world, &model, &reads).await;
        }
        self.begin(Phase::End);
        Ok(not_converged)
    }

    fn begin(&self, phase: Phase) {
        let (_, time) =
            self.world.record(Kind::Info, Process::Other(Speaker::Harness), Body::Phase { value: phase });
        self.listener.phase(time, phase);
    }

    async fn sleep(&self, until: Nanos) {
        while self.world.now() < until && !(self.interrupted)() {
            self.world.sleep_until(until.min(self.world.now() + 50 * MS)).await;
        }
    }

    fn tell_progress(&self, shared: &Rc<Shared>) {
        let (world, listener, shared) = (self.world.clone(), Rc::clone(&self.listener), Rc::clone(shared));
        self.world.spawn(async move {
            while *shared.running.borrow() > 0 {
                world.sleep_until(world.now() + 100 * MS).await;
                listener.tick(world.now(), &shared.tally.borrow());
            }
        });
    }

    fn shared(&self) -> Shared {
        let (world, plan) = (&self.world, &self.plan);
        let kind: WorkloadKind = plan.workload.parse().unwrap_or_default();
        let addresses: Vec<SocketAddr> =
            (1..=world.nodes()).map(|node| world.address(node, SeenBy::Cluster)).collect();
        let node_names =
            addresses.iter().zip(&self.nodes).map(|(address, node)| (*address, node.name.clone())).collect();
        let mut shards: BTreeMap<u32, Vec<(u16, u16)>> = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.master) {
            shards.entry(node.shard).or_default().extend(&node.slots);
        }
        let waits = plan.expect == Expect::Wait || kind.waits();
        let wait = (waits && plan.replicas > 0)
            .then(|| Wait { replicas: u32::from(plan.replicas), timeout_ms: 500 });
        Shared {
            workload: RefCell::new(Workload::new(WorkloadOptions::new(kind))),
            tally: RefCell::new(Tally::new(shards.into_values().collect())),
            node_names,
            options: ClientPlan {
                seeds: addresses,
                origin: world.now() + 10 * MS,
                clients: plan.clients,
                rate: plan.rate,
                op_timeout: 1000 * MS,
                wait,
            },
            next_process: RefCell::new(0),
            closing: RefCell::new(false),
            running: RefCell::new(0),
            last_stall: RefCell::new(0),
        }
    }
}

/// The nemesis' listener, by ours.
struct Adapter<'a>(&'a dyn Listener);

impl runner::Listener for Adapter<'_> {
    fn fault(&self, time: Nanos, step: &FaultStep) {
        self.0.fault(time, step);
    }
}
