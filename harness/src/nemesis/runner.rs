//! Carries the nemesis' steps out on a world and records what was really done: planned and actual times,
//! primitive actions, what the fault's links carried, and whether it touched anything at all.

use slotstorm_checker::record::{
    Action, Body, FaultPhase, FaultStep, Kind as EventKind, Nanos, Process, Speaker, Touched,
};
use slotstorm_fabric::{LinkChange, OnHeal, Policy};

use super::{Deed, Nemesis, Step};
use crate::backend::{BackendError, Signal, World};
use crate::observer::{Observer, node_name};

/// What the caller wants to hear.
pub trait Listener {
    /// A step was carried out and recorded.
    fn fault(&self, time: Nanos, step: &FaultStep);
}

/// Carries out everything that is due until `until`, or until `stop` says so. An error is the harness' own.
pub async fn run<W: World>(
    world: &W,
    nemesis: &mut Nemesis,
    observer: &Observer,
    until: Nanos,
    stop: &dyn Fn() -> bool,
    listener: &dyn Listener,
) -> Result<(), BackendError> {
    const LOOK_UP: Nanos = 50_000_000;
    while world.now() < until && !stop() {
        if let Some(step) = nemesis.on(world.now(), &observer.model(world)) {
            observer.set_fault_holds(nemesis.holds());
            carry_out(world, step, listener).await?;
            continue;
        }
        let wake = nemesis.next_deadline().unwrap_or(until).min(until).min(world.now() + LOOK_UP);
        world.sleep_until(wake).await;
    }
    Ok(())
}

/// Undoes everything and brings every node back.
pub async fn heal_all<W: World>(
    world: &W,
    nemesis: &mut Nemesis,
    observer: &Observer,
    listener: &dyn Listener,
) -> Result<(), BackendError> {
    for step in nemesis.heal_all(world.now(), &observer.model(world)) {
        carry_out(world, step, listener).await?;
    }
    observer.set_fault_holds(false);
    Ok(())
}

async fn carry_out<W: World>(world: &W, step: Step, listener: &dyn Listener) -> Result<(), BackendError> {
    let mut line = FaultStep {
        fault: step.fault,
        name: step.name.into(),
        phase: step.phase,
        planned: step.planned,
        note: step.note,
        vacuous: step.vacuous,
        ..FaultStep::default()
    };
    if !step.links.is_empty() {
        let starts = step.phase == FaultPhase::Start;
        let touched = world.touched(&step.links, starts).await;
        if !starts {
            line.touched = Some(touched);
            if touched == Touched::default() {
                line.vacuous = Some("its links carried nothing while it held".into());
            }
        }
    }
    let mut broken = None;
    for deed in step.deeds {
        match perform(world, deed).await {
            Ok(actions) => line.actions.extend(actions),
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    let (_, time) =
        world.record(EventKind::Info, Process::Other(Speaker::Nemesis), Body::Fault(line.clone()));
    listener.fault(time, &line);
    broken.map_or(Ok(()), Err)
}

/// Does one thing. What the server under test did wrong becomes an action; what the harness could not do is
/// an error.
async fn perform<W: World>(world: &W, deed: Deed) -> Result<Vec<Action>, BackendError> {
    Ok(match deed {
        Deed::Signal { node: number, signal } => {
            let node = node_name(number);
            match world.signal(number, signal).await {
                Ok(()) => {}
                Err(BackendError::Server { message, .. }) => {
                    return Ok(vec![Action::Exited { node, status: message }]);
                }
                Err(error) => return Err(error),
            }
            vec![match signal {
                Signal::Kill => Action::Killed { node, signal: "KILL".into() },
                Signal::Term => Action::Killed { node, signal: "TERM".into() },
                Signal::Stop => Action::Paused { node },
                Signal::Continue => Action::Resumed { node },
            }]
        }
        Deed::Start { node: number } => {
            let node = node_name(number);
            match world.start(number).await {
                Ok(pid) => vec![Action::Started { node, pid }],
                Err(BackendError::Server { message, .. }) => vec![Action::Exited { node, status: message }],
                Err(error) => return Err(error),
            }
        }
        Deed::Wipe { node: number } => {
            world.wipe(number)?;
            vec![Action::Wiped { node: node_name(number) }]
        }
        Deed::Net(changes) => {
            let actions = changes.iter().map(action).collect();
            world.apply(changes).await?;
            actions
        }
    })
}

/// A link change as the record tells it.
fn action(change: &LinkChange) -> Action {
    let (from, to) = (change.from.to_string(), change.to.to_string());
    let planes = change.planes.iter().map(|plane| plane.name().to_owned()).collect();
    match change.policy {
        Policy::Pass => Action::Healed { from, to, planes },
        policy => Action::Cut { from, to, planes, policy: policy_name(policy) },
    }
}

fn policy_name(policy: Policy) -> String {
    match policy {
        Policy::Pass => "pass".into(),
        Policy::Blackhole { on_heal: OnHeal::Resume } => "blackhole".into(),
        Policy::Blackhole { on_heal: OnHeal::Reset } => "blackhole, reset on heal".into(),
        Policy::Refuse => "refuse".into(),
        Policy::Reset => "reset".into(),
        Policy::Delay { delay_ms, jitter_ms } => format!("delay {delay_ms} ms + {jitter_ms} ms"),
        Policy::HalfClose => "half-close".into(),
    }
}
