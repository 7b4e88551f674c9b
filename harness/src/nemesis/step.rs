//! What the nemesis wants done, as values.

use slotstorm_checker::record::{FailoverMode, FaultPhase, Nanos};
use slotstorm_fabric::{LinkChange, MessageRule};

use super::Link;
use crate::backend::{ClockShift, Damage, Disk, Signal};
use crate::plan::Load;

/// What is to be done to the world, at once, as one step of one fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The fault's number; final healing has none.
    pub fault: Option<u32>,
    pub name: &'static str,
    pub phase: FaultPhase,
    /// When the schedule wanted it.
    pub planned: Option<Nanos>,
    /// In this order.
    pub deeds: Vec<Deed>,
    /// The fault's links, whose counters are reset at its start and read at its end.
    pub links: Vec<Link>,
    /// The fault has a rule for bus messages under its number, whose hits are read at its end.
    pub counts_messages: bool,
    /// For people: the selector and what it became.
    pub note: String,
    /// Nothing can be done, and why.
    pub vacuous: Option<String>,
    /// What set it off.
    pub trigger: Option<SetOff>,
    /// Guarantees that do not hold from now on, for the nodes of the fault.
    pub voids: Vec<String>,
    /// On start: whom it hits.
    pub targets: Vec<u16>,
}

/// What set a fault off.
#[derive(Clone, Debug, PartialEq)]
pub struct SetOff {
    pub what: String,
    pub at: Nanos,
    pub delay: Nanos,
    /// The trap that holds what was seen, to be released when the step is done.
    pub trap: Option<u32>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    Signal {
        node: u16,
        signal: Signal,
    },
    /// SIGKILL to all before any is waited for.
    KillAll {
        nodes: Vec<u16>,
    },
    Start {
        node: u16,
    },
    Wipe {
        node: u16,
    },
    Damage {
        node: u16,
        damage: Damage,
    },
    Disk {
        node: u16,
        disk: Disk,
    },
    Clock {
        node: u16,
        shift: ClockShift,
    },
    Net(Vec<LinkChange>),
    /// All rules for bus messages from now on, and what changed, for the record: link by link, by which rule (none: it
    /// passes again).
    Filter {
        rules: Vec<MessageRule>,
        changed: Vec<(Link, Option<String>)>,
    },
    /// CLUSTER FAILOVER.
    FailOver {
        node: u16,
        mode: FailoverMode,
    },
    /// A command; `{host of nX}` and `{port of nX}` stand for where the cluster reaches a node.
    Ask {
        node: u16,
        words: Vec<String>,
    },
    /// CONFIG SET; the value before is kept for [`Deed::Restore`].
    Configure {
        node: u16,
        option: String,
        value: String,
    },
    /// What this fault configured goes back.
    Restore,
    /// Goes on beside everything else, until it is done.
    Work(Work),
}

/// What takes its time.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    Leave { node: u16 },
    Join { nodes: Vec<u16> },
    Reshard { from: u16, to: Option<u16>, slots: u16, slot: Option<u16> },
    Rebalance,
    Load { node: u16, slot: u16, load: Load, until: Nanos },
}
