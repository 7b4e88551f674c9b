//! Faults that wait for something to happen.

use std::collections::BTreeSet;

use slotstorm_checker::record::Nanos;
use slotstorm_fabric::{Endpoint, Ends, Match, Messages, Moment, Trap, message_type};

use super::resolve::{Context, resolve};
use super::step::SetOff;
use super::{Due, Nemesis};
use crate::observer::ClusterModel;
use crate::plan::{Happening, Selector, Trigger, When, seed};

/// A fault that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    number: u32,
    trigger: Trigger,
    pub delay: Nanos,
    /// How often it happened, of what the nemesis itself counts.
    seen: u64,
}

impl Waiting {
    /// What the fabric is to watch for; `None`: the nemesis sees it itself, or there is nobody whom it could be about.
    pub fn trap(&self, model: &ClusterModel, context: &Context) -> Option<Trap> {
        let ends = |selector: Option<Selector>| match selector {
            None => Some(Ends::Any),
            Some(selector) => {
                let nodes = any_of(selector, model, context)?;
                Some(Ends::Only(nodes.into_iter().map(Endpoint::Node).collect::<BTreeSet<_>>()))
            }
        };
        let on = match &self.trigger.what {
            Happening::Message { kind, from, to } => {
                let (from, to) = (ends(*from)?, ends(*to)?);
                Moment::Message(Messages { types: vec![*kind], from, to, epochs: None })
            }
            Happening::Promotion { of } => Moment::Promotion(ends(*of)?),
            Happening::Failure { of } => Moment::Failure(failed(*of, model).or_else(|| ends(*of))?),
            Happening::Epoch => Moment::Epoch,
            Happening::Command { word, plane, from, to } => {
                let (from, to) = (ends(*from)?, ends(*to)?);
                Moment::Command { plane: *plane, word: word.clone(), from, to }
            }
            Happening::FullSync { from, to } => Moment::FullSync { from: ends(*from)?, to: ends(*to)? },
            Happening::Start { .. } | Happening::End { .. } => return None,
        };
        Some(Trap { id: self.number, on, nth: self.trigger.nth, hold: self.holds() })
    }

    /// With a delay the message goes its way: the fault is to come after it.
    fn holds(&self) -> bool {
        self.delay == 0
    }

    pub fn set_off(&self, found: &Match) -> SetOff {
        let trap = self.holds().then_some(self.number);
        SetOff { what: found.what.clone(), at: found.time, delay: self.delay, trap }
    }
}

/// Whom a selector means when anyone will do: nothing is drawn, so that waiting costs no random number.
fn any_of(selector: Selector, model: &ClusterModel, context: &Context) -> Option<Vec<u16>> {
    let nodes = match selector {
        Selector::RandomMaster => model.masters(),
        Selector::RandomReplica => model.replicas(),
        Selector::RandomNode => model.live(),
        Selector::ReplicaOfSlot(slot) => model.replicas_of(model.master_of(slot)?),
        other => resolve(other, model, context, &|_| true, &mut seed::rng(0, "sides")).ok()?,
    };
    Some(nodes)
}

/// Who fails is not running any more: a node that is named is meant whatever it is now.
fn failed(of: Option<Selector>, model: &ClusterModel) -> Option<Ends> {
    let node = match of? {
        Selector::Node(number) => number,
        Selector::MasterOfSlot(slot) => model.claimant_of(slot)?,
        _ => return None,
    };
    Some(Ends::Only(BTreeSet::from([Endpoint::Node(node)])))
}

impl Nemesis {
    /// From now on this fault waits, unless an earlier firing of the same one does.
    pub(super) fn arm(&mut self, number: u32) {
        let fault = &self.faults[number as usize].fault;
        let When::On { trigger, delay, .. } = &fault.when else { return };
        if self.waiting.keys().any(|other| self.faults[*other as usize].fault == *fault) {
            return;
        }
        let delay = delay.nanos(self.options.node_timeout_ms);
        self.waiting.insert(number, Waiting { number, trigger: trigger.clone(), delay, seen: 0 });
    }

    /// It fired: the next firing of the same fault waits, if there is one.
    pub(super) fn arm_next(&mut self, number: u32) {
        let next = self.faults[number as usize + 1..]
            .iter()
            .find(|planned| planned.fault == self.faults[number as usize].fault)
            .map(|planned| planned.number);
        if let Some(next) = next {
            self.arm(next);
        }
    }

    /// Remembers who did what.
    pub(super) fn note(&mut self, found: &Match) {
        let number = |end: Endpoint| match end {
            Endpoint::Node(number) => Some(number),
            Endpoint::Client(_) | Endpoint::Controller => None,
        };
        self.context.sender = number(found.from);
        self.context.receiver = number(found.to);
        self.context.subject = found.subject.and_then(number);
        match self.waiting.get(&found.trap).map(|waiting| &waiting.trigger.what) {
            Some(Happening::Promotion { .. }) => self.context.promoted = number(found.from),
            Some(Happening::Message { kind, .. }) if Some(*kind) == message_type("auth-ack") => {
                self.context.voter = number(found.from);
            }
            _ => {}
        }
    }

    /// Another fault begins or ends: whoever waited for that fires.
    pub(super) fn announce(&mut self, now: Nanos, number: u32, begins: bool) {
        let Some(name) = self.faults[number as usize].fault.name.clone() else { return };
        let mut off = Vec::new();
        for waiting in self.waiting.values_mut() {
            let met = match &waiting.trigger.what {
                Happening::Start { of } => begins && *of == name,
                Happening::End { of } => !begins && *of == name,
                _ => false,
            };
            waiting.seen += u64::from(met);
            if met && waiting.seen == waiting.trigger.nth {
                off.push((waiting.number, waiting.delay, waiting.trigger.to_string()));
            }
        }
        for (waiting, delay, what) in off {
            self.waiting.remove(&waiting);
            self.at(now + delay, Due::Begin(waiting, Some(SetOff { what, at: now, delay, trap: None })));
            self.arm_next(waiting);
        }
    }
}
