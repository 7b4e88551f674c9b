//! Carries the nemesis' steps out on a world and records what was really done: planned and actual times, what set them
//! off, primitive actions, what the fault's links carried, and whether it touched anything at all.

use std::collections::BTreeMap;

use slotstorm_checker::record::{
    Action, Body, FaultPhase, FaultStep, Kind as EventKind, Nanos, Process, Speaker, Touched, Triggered,
    Voids,
};
use slotstorm_fabric::Trap;

use super::perform::Performer;
use super::work::{Finished, Jobs};
use super::{Deed, Nemesis, Step, Work};
use crate::backend::{BackendError, World};
use crate::observer::{Observer, node_name};

/// What the caller wants to hear.
pub trait Listener {
    /// A step was carried out and recorded.
    fn fault(&self, time: Nanos, step: &FaultStep);
}

/// Does what the nemesis wants done.
pub struct Runner<'a, W: World> {
    world: W,
    observer: &'a Observer,
    listener: &'a dyn Listener,
    performer: Performer<W>,
    jobs: Jobs<W>,
    /// The traps that the world knows.
    traps: Vec<Trap>,
    /// How many messages each rule had hit when it began.
    hits: BTreeMap<u32, u64>,
}

/// How often roles are looked at again, and finished work is asked for.
const LOOK_UP: Nanos = 20_000_000;
/// How long a server may take to refuse its files.
const SETTLE: Nanos = 400_000_000;
/// How long work that was told to stop may take to do so.
const PATIENCE: Nanos = 10_000_000_000;

impl<'a, W: World> Runner<'a, W> {
    pub fn new(world: &W, observer: &'a Observer, listener: &'a dyn Listener) -> Self {
        Self {
            world: world.clone(),
            observer,
            listener,
            performer: Performer::new(world),
            jobs: Jobs::new(world),
            traps: Vec::new(),
            hits: BTreeMap::new(),
        }
    }

    /// A bug of the zoo: slots are moved in the wrong order.
    pub fn tell_source_first(&self) {
        self.jobs.tell_source_first();
    }

    /// Carries out everything that is due until `until`, or until `stop` says so. An error is the harness' own.
    pub async fn run(
        &mut self,
        nemesis: &mut Nemesis,
        until: Nanos,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), BackendError> {
        for node in 1..=self.world.nodes() {
            self.world.keep_config(node)?;
        }
        while self.world.now() < until && !stop() {
            let model = self.observer.model(&self.world);
            if let Some(step) = nemesis.on(self.world.now(), &model) {
                self.observer.set_fault_holds(nemesis.holds());
                self.carry_out(step).await?;
                continue;
            }
            for finished in self.jobs.finished() {
                self.told(nemesis, finished);
            }
            let traps = nemesis.traps(&model);
            if traps != self.traps {
                self.world.watch(traps.clone()).await?;
                self.traps = traps;
            }
            let wake = nemesis.next_deadline().unwrap_or(until).min(until).min(self.world.now() + LOOK_UP);
            if self.traps.is_empty() {
                self.world.sleep_until(wake).await;
            } else if let Some(found) = self.world.next_match(wake).await {
                nemesis.matched(&found);
                // Taken off the list only when what it holds was released.
                self.traps.retain(|trap| trap.id != found.trap || trap.hold);
            }
        }
        Ok(())
    }

    /// Undoes everything, brings every node back, lets all work end, and closes slots that stand open.
    pub async fn heal(&mut self, nemesis: &mut Nemesis) -> Result<(), BackendError> {
        self.world.watch(Vec::new()).await?;
        self.traps.clear();
        self.jobs.halt();
        for step in nemesis.heal_all(self.world.now(), &self.observer.model(&self.world)) {
            self.carry_out(step).await?;
        }
        for attempt in 0..2 {
            if !self.performer.damaged_any() {
                break;
            }
            self.world.sleep_until(self.world.now() + SETTLE).await;
            let actions = self.performer.mend(attempt).await?;
            if actions.is_empty() {
                break;
            }
            let (name, note) = ("mend".to_owned(), "a server did not start on its damaged files".to_owned());
            self.write(&FaultStep { name, phase: FaultPhase::End, note, actions, ..FaultStep::default() });
        }
        let given_up = self.world.now() + PATIENCE;
        while self.jobs.running() && self.world.now() < given_up {
            self.world.sleep_until(self.world.now() + LOOK_UP).await;
            for finished in self.jobs.finished() {
                self.told(nemesis, finished);
            }
        }
        self.jobs.abandon();
        let outside = nemesis.outside();
        if !outside.is_empty() {
            let outcome = self.jobs.now(Work::Join { nodes: outside.clone() }).await;
            let names = outside.iter().map(|node| node_name(*node)).collect::<Vec<_>>().join(", ");
            self.record_work("add-node", &format!("{names} join again"), outcome);
        }
        if let Some(outcome) = self.jobs.close_slots(self.observer).await {
            self.record_work("fix", "slots stood open", outcome);
        }
        self.observer.set_fault_holds(false);
        Ok(())
    }

    /// Work is done: it is recorded as its fault's end, and the nemesis is told.
    fn told(&mut self, nemesis: &mut Nemesis, finished: Finished) {
        let Finished { fault, name, what, outcome, left, joined } = finished;
        let now = self.world.now();
        nemesis.done(now, fault, left, &joined);
        let step = FaultStep {
            fault: Some(fault),
            name,
            phase: FaultPhase::Beat,
            note: format!("{what}: {outcome}"),
            actions: vec![Action::Work { what, outcome: Some(outcome) }],
            ..FaultStep::default()
        };
        self.write(&step);
    }

    fn record_work(&self, name: &str, note: &str, outcome: String) {
        let step = FaultStep {
            name: name.to_owned(),
            phase: FaultPhase::End,
            note: format!("{note}: {outcome}"),
            actions: vec![Action::Work { what: note.to_owned(), outcome: Some(outcome) }],
            ..FaultStep::default()
        };
        self.write(&step);
    }

    fn write(&self, step: &FaultStep) {
        let (_, time) =
            self.world.record(EventKind::Info, Process::Other(Speaker::Nemesis), Body::Fault(step.clone()));
        self.listener.fault(time, step);
    }

    async fn carry_out(&mut self, step: Step) -> Result<(), BackendError> {
        let mut line = FaultStep {
            fault: step.fault,
            name: step.name.into(),
            phase: step.phase,
            planned: step.planned,
            note: step.note.clone(),
            vacuous: step.vacuous.clone(),
            targets: step.targets.iter().map(|node| node_name(*node)).collect(),
            ..FaultStep::default()
        };
        let starts = step.phase == FaultPhase::Start;
        if !step.links.is_empty() && step.phase != FaultPhase::Beat {
            let touched = self.world.touched(&step.links, starts).await;
            if !starts {
                line.touched = Some(touched);
                if touched == Touched::default() {
                    line.vacuous = Some("its links carried nothing while it held".into());
                }
            }
        }
        let mut broken = None;
        for deed in &step.deeds {
            match self.perform(&step, deed).await {
                Ok(actions) => line.actions.extend(actions),
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        let done = self.world.now();
        if let Some(off) = &step.trigger {
            if let Some(trap) = off.trap {
                self.world.release(trap).await?;
                self.traps.retain(|known| known.id != trap);
            }
            line.trigger = Some(Triggered {
                what: off.what.clone(),
                at: off.at,
                delay: off.delay,
                took: done.saturating_sub(off.at),
                held: off.trap.is_some(),
            });
        }
        if step.counts_messages
            && let Some(rule) = step.fault
        {
            self.count_messages(rule, starts, &mut line).await;
        }
        mark(&step, &mut line);
        self.write(&line);
        broken.map_or(Ok(()), Err)
    }

    async fn count_messages(&mut self, rule: u32, starts: bool, line: &mut FaultStep) {
        let hits = self.world.filtered().await.get(&rule).copied().unwrap_or(0);
        if starts {
            self.hits.insert(rule, hits);
            return;
        }
        let hit = hits - self.hits.remove(&rule).unwrap_or(0).min(hits);
        line.note = format!("{}; {hit} messages", line.note);
        if hit == 0 {
            line.vacuous = Some("no such message was sent while it held".into());
        }
    }

    /// Does one thing. What the server under test did wrong becomes an action; what the harness could not do is
    /// an error.
    async fn perform(&mut self, step: &Step, deed: &Deed) -> Result<Vec<Action>, BackendError> {
        match deed {
            Deed::Work(work) => {
                let what = self.jobs.start(step.fault.unwrap_or_default(), step.name, work.clone());
                Ok(vec![Action::Work { what, outcome: None }])
            }
            other => self.performer.perform(step.fault, other).await,
        }
    }
}

/// What could not be done at all makes the fault vacuous; what could voids what its page says.
fn mark(step: &Step, line: &mut FaultStep) {
    if step.phase != FaultPhase::Start {
        return;
    }
    let refused = line.actions.iter().find_map(|action| match action {
        Action::Refused { why, .. } => Some(why.clone()),
        _ => None,
    });
    let all_refused = line.actions.iter().all(|action| matches!(action, Action::Refused { .. }));
    // Whoever died so that its files could be damaged, and then was not, is only dead.
    let essence = matches!(step.name, "roll-back-config" | "truncate" | "corrupt");
    if let Some(why) = refused
        && (all_refused || essence)
    {
        line.vacuous.get_or_insert(why);
    }
    if line.vacuous.is_none() && !step.voids.is_empty() {
        line.voids = Some(Voids { guarantees: step.voids.clone(), nodes: line.targets.clone() });
    }
}
