//! Which anomalies a consistency model forbids. After Adya, Liskov, O'Neil (Generalized Isolation Level Definitions,
//! 2000), Cerone and Gotsman (Analysing Snapshot Isolation, 2016), and the lattice of Elle's consistency models.

/// What a transaction system promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Model {
    pub isolation: Isolation,
    /// What the order of transactions must keep besides.
    pub order: Order,
}

/// Adya's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    SnapshotIsolation,
    Serializable,
}

/// How far time counts. Each also keeps those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// Dependencies of data only.
    Data,
    /// And the order in which a process did its transactions (`strong-session-`).
    Process,
    /// And a transaction that had returned comes before one that was invoked later (`strong-`).
    Realtime,
}

impl Model {
    pub const SERIALIZABLE: Self = Self { isolation: Isolation::Serializable, order: Order::Data };
    pub const STRICT_SERIALIZABLE: Self = Self { isolation: Isolation::Serializable, order: Order::Realtime };

    /// By the field's name, such as `snapshot-isolation` or `strong-session-serializable`.
    pub fn parse(name: &str) -> Option<Self> {
        MODELS.iter().find(|(known, _)| *known == name).map(|(_, model)| *model)
    }

    /// The names that [`parse`](Model::parse) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        MODELS.iter().map(|(name, _)| *name)
    }

    pub fn name(self) -> &'static str {
        MODELS.iter().find(|(_, model)| *model == self).map_or("", |(name, _)| name)
    }

    /// Whether a history with this anomaly contradicts the model.
    pub fn forbids(self, anomaly: Anomaly) -> bool {
        use Isolation::{ReadCommitted, RepeatableRead};
        let level = self.isolation;
        match anomaly {
            Anomaly::Cycle(cycle, order) => order <= self.order && level.forbids_cycle(cycle),
            Anomaly::GarbageRead | Anomaly::DuplicateElements | Anomaly::CyclicVersions => true,
            Anomaly::G1a
            | Anomaly::G1b
            | Anomaly::DirtyUpdate
            | Anomaly::IncompatibleOrder
            | Anomaly::FutureRead => level >= ReadCommitted,
            Anomaly::LostUpdate | Anomaly::Internal => level >= RepeatableRead,
        }
    }
}

impl Isolation {
    fn forbids_cycle(self, cycle: Cycle) -> bool {
        match self {
            Self::ReadUncommitted => cycle == Cycle::G0,
            Self::ReadCommitted => cycle <= Cycle::G1c,
            Self::SnapshotIsolation => cycle <= Cycle::GNonadjacent,
            Self::RepeatableRead | Self::Serializable => true,
        }
    }
}

/// Something that no system without flaws (of some model) shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Anomaly {
    /// A read saw what nobody ever wrote.
    GarbageRead,
    /// A list holds an element twice.
    DuplicateElements,
    /// A register's versions follow each other in a circle.
    CyclicVersions,
    /// Two reads of a list, neither a prefix of the other; or a transaction's appends out of its own order.
    IncompatibleOrder,
    /// Read what an aborted transaction wrote.
    G1a,
    /// Read what another transaction wrote and later overwrote itself.
    G1b,
    /// An aborted write lies under a committed one.
    DirtyUpdate,
    /// Read what the transaction itself wrote only later.
    FutureRead,
    /// A transaction contradicts its own earlier reads and writes.
    Internal,
    /// Two transactions read the same version and both replaced it.
    LostUpdate,
    /// Transactions that each must come before the next, in a circle.
    Cycle(Cycle, Order),
}

/// Cycles by their anti-dependencies, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cycle {
    /// Writes only.
    G0,
    /// Writes and reads, no anti-dependency.
    G1c,
    /// One anti-dependency.
    GSingle,
    /// Several, never two in a row: what snapshot isolation forbids.
    GNonadjacent,
    /// Several, two in a row among them.
    G2Item,
}

impl Cycle {
    /// Whether a cycle of this kind is by definition also one of the other.
    pub(super) fn implies(self, other: Self) -> bool {
        (self == other) || (self == Self::G0 && other == Self::G1c) || (self >= Self::GSingle && self < other)
    }
}

impl Anomaly {
    /// The field's word for it.
    pub fn class(self) -> &'static str {
        match self {
            Self::GarbageRead => "garbage-read",
            Self::DuplicateElements => "duplicate-elements",
            Self::CyclicVersions => "cyclic-versions",
            Self::IncompatibleOrder => "incompatible-order",
            Self::G1a => "G1a",
            Self::G1b => "G1b",
            Self::DirtyUpdate => "dirty-update",
            Self::FutureRead => "future-read",
            Self::Internal => "internal",
            Self::LostUpdate => "lost-update",
            Self::Cycle(cycle, order) => CYCLE_NAMES[cycle as usize][order as usize],
        }
    }
}

const CYCLE_NAMES: [[&str; 3]; 5] = [
    ["G0", "G0-process", "G0-realtime"],
    ["G1c", "G1c-process", "G1c-realtime"],
    ["G-single", "G-single-process", "G-single-realtime"],
    ["G-nonadjacent", "G-nonadjacent-process", "G-nonadjacent-realtime"],
    ["G2-item", "G2-item-process", "G2-item-realtime"],
];

const MODELS: [(&str, Model); 15] = {
    use Isolation::{ReadCommitted, ReadUncommitted, RepeatableRead, Serializable, SnapshotIsolation};
    use Order::{Data, Process, Realtime};
    const fn model(isolation: Isolation, order: Order) -> Model {
        Model { isolation, order }
    }
    [
        ("read-uncommitted", model(ReadUncommitted, Data)),
        ("read-committed", model(ReadCommitted, Data)),
        ("repeatable-read", model(RepeatableRead, Data)),
        ("snapshot-isolation", model(SnapshotIsolation, Data)),
        ("serializable", model(Serializable, Data)),
        ("strong-session-read-uncommitted", model(ReadUncommitted, Process)),
        ("strong-session-read-committed", model(ReadCommitted, Process)),
        ("strong-session-repeatable-read", model(RepeatableRead, Process)),
        ("strong-session-snapshot-isolation", model(SnapshotIsolation, Process)),
        ("strong-session-serializable", model(Serializable, Process)),
        ("strong-read-uncommitted", model(ReadUncommitted, Realtime)),
        ("strong-read-committed", model(ReadCommitted, Realtime)),
        ("strong-repeatable-read", model(RepeatableRead, Realtime)),
        ("strong-snapshot-isolation", model(SnapshotIsolation, Realtime)),
        ("strict-serializable", model(Serializable, Realtime)),
    ]
};
