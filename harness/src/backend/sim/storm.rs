//! A whole run in virtual time, from the first process to the last read.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use slotstorm_checker::record::{Nanos, RunInfo};
use slotstorm_sim::zoo::Zoo;
use slotstorm_sim::{
    Cluster, ClusterOptions, DiskPace, Executor, Handshake, Latency, MachineOptions, ProcessPace,
};

use super::{Keep, SimWorld, Tape};
use crate::admin::create::create;
use crate::backend::process::StartError;
use crate::backend::process::address::{AddressPlan, BUS_OFFSET};
use crate::backend::process::sut::{self, Program, Server};
use crate::backend::{BackendError, SeenBy, World, roster};
use crate::driver::{Listener, Run};
use crate::plan::{Plan, seed};

/// Where simulated clusters live; nobody else is on their loopback.
const ADDRESSES: AddressPlan = AddressPlan { t: 1, port: 6379 };
/// How often what the fabric saw is written down.
const DRAIN_EVERY: Nanos = 100_000_000;

/// A run to be made.
pub struct SimStorm {
    pub plan: Rc<Plan>,
    pub keep: Keep,
    pub listener: Rc<dyn Listener>,
    /// Asked often: true once the user wants it to end.
    pub interrupted: Rc<dyn Fn() -> bool>,
}

/// A run that was made.
pub struct Simulated {
    pub info: RunInfo,
    pub tape: Tape,
    /// By node.
    pub logs: Vec<String>,
    /// Why the cluster was not whole in the end.
    pub not_converged: Option<String>,
    /// The harness' own trouble.
    pub broken: Option<String>,
    /// Events of the cluster.
    pub events: u64,
    /// How much time passed in the simulation.
    pub lasted: Nanos,
}

/// Makes a cluster of simulated machines and storms it.
pub fn simulate(storm: SimStorm) -> Result<Simulated, StartError> {
    let SimStorm { plan, keep, listener, interrupted } = storm;
    let set: Vec<String> = plan.directives.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let directives = sut::directives(plan.node_timeout_ms, &set)?;
    let zoo = match &plan.mutation {
        None => Zoo::default(),
        Some(name) => Zoo::named(name).ok_or_else(|| StartError::Mutation(name.clone()))?,
    };
    let embedded = Server::find(&Program::Embedded)?;
    let machine = |node: u16| {
        let dir = format!("/n{node}");
        let args =
            sut::arguments(&embedded, ADDRESSES, node, Path::new(&dir), Path::new(""), &directives, None);
        MachineOptions {
            // The first word is the verb.
            args: args.into_iter().skip(1).collect(),
            zoo,
            ip: ADDRESSES.real_ip(node).into(),
            data: [SeenBy::Controller, SeenBy::Cluster].map(|by| ADDRESSES.node(node, by)).into(),
            bus: [SeenBy::Controller, SeenBy::Cluster].map(|by| ADDRESSES.bus(node, by)).into(),
        }
    };
    debug_assert_eq!(ADDRESSES.bus(1, SeenBy::Cluster).port(), ADDRESSES.port + BUS_OFFSET);
    let nodes = plan.nodes();
    let seed = plan.seed;
    let cluster = Cluster::new(ClusterOptions {
        machines: (1..=nodes).map(machine).collect(),
        seed,
        rng: &|concern| seed::rng(seed, &format!("sim {concern}")),
        latency: Latency::default(),
        handshake: Handshake::default(),
        disk: DiskPace::default(),
        process: ProcessPace::default(),
        tape_bus: true,
    });
    let executor = Executor::new();
    let world = SimWorld::new(executor.clone(), cluster, ADDRESSES, nodes, seed);
    let all = carry_out(world.clone(), Rc::clone(&plan), directives, keep, listener, interrupted);
    let carried_out = executor.run(all);
    executor.clear();
    let (mut info, not_converged) = match carried_out {
        Ok(done) => done?,
        Err(deadlock) => return Err(BackendError::Harness(deadlock.to_string()).into()),
    };
    world.drain_fabric();
    let inner = Rc::try_unwrap(world.inner).map_err(|_| {
        BackendError::Harness("something still holds the simulated world after its run".to_owned())
    })?;
    let cluster = inner.cluster.into_inner();
    let mut tape = inner
        .tape
        .into_inner()
        .ok_or_else(|| BackendError::Harness("the simulated run has no record".to_owned()))?;
    tape.end();
    let (events, fingerprint) = cluster.fingerprint();
    info.fingerprint = Some(fingerprint.to_string());
    let (not_converged, broken) = match not_converged {
        Ok(not_converged) => (not_converged, None),
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(Simulated {
        info,
        tape,
        logs: (1..=nodes).map(|node| cluster.log(node).to_owned()).collect(),
        not_converged,
        broken,
        events,
        lasted: cluster.now(),
    })
}

type Ended = (RunInfo, Result<Option<String>, BackendError>);

async fn carry_out(
    world: SimWorld,
    plan: Rc<Plan>,
    directives: BTreeMap<String, String>,
    keep: Keep,
    listener: Rc<dyn Listener>,
    interrupted: Rc<dyn Fn() -> bool>,
) -> Result<Ended, StartError> {
    for node in 1..=world.nodes() {
        world.start(node).await?;
    }
    let created = create(&world, &roster::create_plan(&world, plan.masters), |_| {}).await;
    if let Some(exited) = world.inner.crashed.borrow_mut().take() {
        let node = format!("n{}", exited.node);
        return Err(BackendError::Server { node, message: exited.status }.into());
    }
    let created = created.map_err(|error| {
        let logs: Vec<String> =
            (1..=world.nodes()).map(|node| tail(world.inner.cluster.borrow().log(node))).collect();
        BackendError::Harness(format!("the cluster could not be made: {error}\n{}", logs.join("\n")))
    })?;
    let version = format!("slotstorm {}", env!("CARGO_PKG_VERSION"));
    let nodes =
        roster::node_infos(&world, plan.masters, &created, |_| ("embedded".to_owned(), version.clone()));
    // The judge asks what the servers were started with, also where it judges from memory.
    let info = RunInfo { backend: "sim".to_owned(), directives, ..plan.run_info(nodes) };
    *world.inner.tape.borrow_mut() = Some(Tape::new(keep, &info));
    let drained = world.clone();
    world.spawn(async move {
        loop {
            drained.sleep_until(drained.now() + DRAIN_EVERY).await;
            drained.drain_fabric();
        }
    });
    let run = Run { world, plan, nodes: info.nodes.clone(), listener, interrupted };
    let outcome = run.carry_out().await;
    Ok((info, outcome.map(|outcome| outcome.not_converged)))
}

/// The last lines of a log, for error messages.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
