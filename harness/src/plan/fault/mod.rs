//! One fault of a schedule: when, whom, what. [`KINDS`] holds a page for every kind there is: it drives the reading of
//! storm files, `--list-faults`, the presets and what a fault voids, so that no kind can exist without its page.

use serde::{Deserialize, Serialize};
use slotstorm_checker::record::FailoverMode;
use slotstorm_fabric::{Fate, Plane, Policy};

use super::selector::Selector;
use super::span::Span;
use crate::backend::{ClockShift, Damage, Disk};

mod aimed;
mod draw;
mod kinds;
mod raw;
mod trigger;

pub use aimed::aimed;
pub use draw::{Draw, Drawn, rounded};
pub use kinds::{KINDS, Page, page};
use raw::RawFault;
pub use trigger::{Happening, Trigger};

/// A fault of the schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawFault", into = "RawFault")]
pub struct Fault {
    /// How triggers call it.
    pub name: Option<String>,
    /// When it fires.
    pub when: When,
    /// Whom it hits.
    pub target: Selector,
    /// What it does.
    pub kind: Kind,
    /// It keeps the budget: it is left out where it could take the last sound copy of a shard.
    pub careful: bool,
}

/// When a fault fires, counted from the moment the clients begin.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// Once.
    At(Span),
    /// At `offset`, and then again every `every` while the storm lasts.
    Every { every: Span, offset: Span },
    /// `delay` after something happened, `times` times; what happens before `after` does not count.
    On { trigger: Trigger, delay: Span, after: Span, times: u32 },
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// SIGKILL or SIGTERM, damage to the files of the dead, and perhaps a restart.
    Down { how: Down, restart: Restart, wipe: bool, damage: Option<Damage> },
    /// Killed and started again and again: up and down for so long each.
    RestartLoop { up: Span, down: Span, duration: Span },
    /// SIGSTOP, and SIGCONT after `duration`.
    Pause { duration: Span },
    /// Stopped and continued in turn, so that it runs only part of the time.
    Slow { run: Span, stop: Span, duration: Span },
    /// A change of links, undone after `duration`; if it flaps, it holds and passes in turn.
    Network(Network),
    /// Bus messages that the target sends, by type.
    Messages {
        fate: Fate,
        which: Vec<u16>,
        to: Option<Selector>,
        epochs: Option<(u64, u64)>,
        percent: u8,
        duration: Span,
    },
    /// A disk that takes no more, until `duration` is over.
    Disk { disk: Disk, duration: Span },
    /// A wall clock that errs, until `duration` is over.
    Clock { shift: ClockShift, duration: Span },
    /// CLUSTER FAILOVER.
    Failover { mode: FailoverMode },
    /// The target leaves the cluster; an `add-node` or the end of the storm brings it back.
    DelNode,
    /// Whoever stands outside joins again.
    AddNode,
    /// So many slots (or the one named) go from the target to another master.
    Reshard { slots: u16, slot: Option<u16>, to: Option<Selector> },
    /// Slots are spread evenly.
    Rebalance,
    /// All others forget the target; after `duration` it meets one of them again.
    Forget { duration: Span },
    /// CONFIG SET, and back to the old value after `duration`.
    Config { option: String, value: String, duration: Span },
    /// A command, straight to the target.
    Command { command: String },
    /// Load beside the workload's own.
    Load { load: Load, duration: Span },
}

/// A change of links.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub shape: Shape,
    pub policy: Policy,
    pub planes: Vec<Plane>,
    pub clients: ClientSide,
    pub duration: Span,
    pub flap: Option<Flap>,
}

/// A fault of the network that comes and goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flap {
    /// It holds for so long,
    pub down: Span,
    /// and then does not for so long.
    pub up: Span,
}

/// Load beside the workload's own, straight to the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// So many small writes a second.
    Burst { rate: u32 },
    /// So many values of so many bytes each, one after the other, deleted in the end.
    BigValues { count: u32, bytes: u32 },
    /// A command that takes so long: DEBUG SLEEP.
    SlowCommand,
    /// So many connections.
    Flood { count: u32 },
    /// Replicas' links held, their output buffers made small, so many bytes written.
    Overflow { bytes: u32 },
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// kill -9.
    Kill,
    /// SIGTERM: the server may save and say goodbye.
    Term,
    /// SIGTERM and a start as soon as it is gone.
    Restart,
    /// kill -9 of all at the same time.
    CrashAll,
}

/// When a process that was ended comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Restart {
    /// After this time.
    After(Span),
    /// Not before the storm is over.
    Never,
}

/// Which links a network fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All links between the target's side and the rest, both ways.
    Around,
    /// Only what the target sends to the rest.
    Outgoing,
    /// Only what the rest sends to the target.
    Incoming,
    /// All links between two halves of the cluster; no target.
    Halves,
    /// Nodes in a ring: each reaches itself and its neighbours up to a majority, and no two see the same majority; no
    /// target.
    MajorityRing,
    /// Two halves that only the target reaches.
    Bridge,
}

/// Where the clients stand when the network is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientSide {
    /// Some are on the target's side and reach only it, the others reach only the rest.
    #[default]
    Side,
    /// All are with the rest.
    Rest,
    /// All reach everyone: only links between nodes are cut.
    Both,
}

impl Kind {
    /// The name used in storm files and histories.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Down { damage: Some(Damage::RollBackConfig), .. } => "roll-back-config",
            Self::Down { damage: Some(Damage::Truncate { .. }), .. } => "truncate",
            Self::Down { damage: Some(Damage::Corrupt { .. }), .. } => "corrupt",
            Self::Down { how: Down::Kill, wipe: true, .. } => "wipe",
            Self::Down { how: Down::Kill, .. } => "kill",
            Self::Down { how: Down::Term, .. } => "term",
            Self::Down { how: Down::Restart, .. } => "restart",
            Self::Down { how: Down::CrashAll, .. } => "crash-all",
            Self::RestartLoop { .. } => "restart-loop",
            Self::Pause { .. } => "pause",
            Self::Slow { .. } => "slow",
            Self::Network(network) => network.name(),
            Self::Messages { fate: Fate::Drop, .. } => "drop-messages",
            Self::Messages { fate: Fate::Delay { .. }, .. } => "delay-messages",
            Self::Messages { fate: Fate::Duplicate, .. } => "duplicate-messages",
            Self::Messages { fate: Fate::Reorder { .. }, .. } => "reorder-messages",
            Self::Disk { disk: Disk::ReadOnly | Disk::Sound, .. } => "read-only",
            Self::Disk { disk: Disk::Full, .. } => "disk-full",
            Self::Clock { shift, .. } if shift.drift_ppm != 0 => "clock-drift",
            Self::Clock { .. } => "clock-jump",
            Self::Failover { .. } => "failover",
            Self::DelNode => "del-node",
            Self::AddNode => "add-node",
            Self::Reshard { .. } => "reshard",
            Self::Rebalance => "rebalance",
            Self::Forget { .. } => "forget",
            Self::Config { .. } => "config",
            Self::Command { .. } => "command",
            Self::Load { load: Load::Burst { .. }, .. } => "burst",
            Self::Load { load: Load::BigValues { .. }, .. } => "big-values",
            Self::Load { load: Load::SlowCommand, .. } => "slow-command",
            Self::Load { load: Load::Flood { .. }, .. } => "flood",
            Self::Load { load: Load::Overflow { .. }, .. } => "overflow",
        }
    }

    /// How long it lasts, if it ends by itself at a time that is known.
    pub fn duration(&self) -> Option<Span> {
        match self {
            Self::Down { restart: Restart::After(span), .. } => Some(*span),
            Self::Down { restart: Restart::Never, .. } => None,
            Self::RestartLoop { duration, .. }
            | Self::Pause { duration }
            | Self::Slow { duration, .. }
            | Self::Messages { duration, .. }
            | Self::Disk { duration, .. }
            | Self::Clock { duration, .. }
            | Self::Forget { duration }
            | Self::Config { duration, .. }
            | Self::Load { duration, .. } => Some(*duration),
            Self::Network(network) => Some(network.duration),
            // Over as soon as they are said.
            Self::Failover { .. } | Self::Command { .. } => Some(Span::Secs(0.0)),
            // Over when the work is done.
            Self::DelNode | Self::AddNode | Self::Reshard { .. } | Self::Rebalance => None,
        }
    }

    /// It needs no target: it is about the whole cluster.
    pub fn targets_all(&self) -> bool {
        matches!(
            self,
            Self::Down { how: Down::CrashAll, .. }
                | Self::Network(Network { shape: Shape::Halves | Shape::MajorityRing, .. })
                | Self::AddNode
                | Self::Rebalance
        )
    }

    /// While it holds, the target may lose its data or may not be there to be promoted.
    pub fn takes_a_copy(&self) -> bool {
        match self {
            Self::Down { .. } | Self::RestartLoop { .. } | Self::Pause { .. } | Self::Slow { .. } => true,
            Self::Network(network) => {
                matches!(network.shape, Shape::Around | Shape::Outgoing | Shape::Incoming | Shape::Halves)
            }
            Self::Disk { .. } | Self::DelNode | Self::Forget { .. } => true,
            Self::Load { load: Load::SlowCommand | Load::Overflow { .. }, .. } => true,
            _ => false,
        }
    }
}

impl Network {
    fn name(&self) -> &'static str {
        match (self.shape, self.policy) {
            _ if self.flap.is_some() => "flapping",
            (Shape::Halves, _) => "halves",
            (Shape::MajorityRing, _) => "majority-ring",
            (Shape::Bridge, _) => "bridge",
            (Shape::Outgoing | Shape::Incoming, _) => "one-way",
            (_, Policy::Refuse) => "refuse",
            (_, Policy::Reset) => "reset",
            (_, Policy::Delay { .. }) => "delay",
            (_, Policy::HalfClose) => "half-close",
            (_, Policy::Stall { .. }) => "stall",
            (_, Policy::Rate { .. }) => "rate",
            (_, Policy::Dead) => "dead-connections",
            _ => "isolate",
        }
    }
}
