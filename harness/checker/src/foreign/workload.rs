//! What a history is about, by the names that Jepsen, Elle and Knossos use, and by those of our own workloads.

use crate::record::OpKind;
use crate::record::objects::Object;

/// How values and answers are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// `read`, `write`, `cas [from to]`.
    Register,
    /// `add`, and a final `read` of all.
    Set,
    /// `add` and any number of `read`s.
    SetFull,
    /// `append` of an element, `read` of the list; no transactions.
    List,
    /// Transactions of `[:append k v]` and `[:r k [..]]`.
    ListAppend,
    /// Transactions of `[:w k v]` and `[:r k v]`.
    RwRegister,
    /// `add` of a number (its `:reply` the new count), `read`.
    Counter,
    /// A counter that only grows, read by `read-at-replica`: do clients see it go back?
    ReplicaReads,
    /// `enqueue`, `dequeue`, `move [to element]`, `drain`: first in, first out.
    Queue,
    /// The same in any order: what goes in comes out, once.
    TotalQueue,
    /// `acquire`, `release`: who acquired releases.
    Lock,
    /// A lock with a time to live and fencing tokens: `acquire [owner milliseconds]`, `release [owner token]`, `guarded token`.
    Lease,
    /// `write-for [value milliseconds]`, `write`, `read`.
    Expiring,
    /// `transfer {:from :to :amount}`, `read` of all balances: one order of all.
    Bank,
    /// The same, each read alone: Jepsen's checker.
    BankTotals,
}

const NAMES: [(&str, Workload); 29] = [
    ("register", Workload::Register),
    ("cas-register", Workload::Register),
    ("multi-key", Workload::Register),
    ("set", Workload::Set),
    ("wait", Workload::Set),
    ("set-full", Workload::SetFull),
    ("list", Workload::List),
    ("list-append", Workload::ListAppend),
    ("append", Workload::ListAppend),
    ("txn", Workload::ListAppend),
    ("rw-register", Workload::RwRegister),
    ("wr", Workload::RwRegister),
    ("counter", Workload::Counter),
    ("replica-reads", Workload::ReplicaReads),
    ("sessions", Workload::ReplicaReads),
    ("queue", Workload::Queue),
    ("fifo-queue", Workload::Queue),
    ("total-queue", Workload::TotalQueue),
    ("unordered-queue", Workload::TotalQueue),
    ("lock", Workload::Lock),
    ("mutex", Workload::Lock),
    ("lease", Workload::Lease),
    ("fenced-lock", Workload::Lease),
    ("expiry", Workload::Expiring),
    ("expiring-register", Workload::Expiring),
    ("bank", Workload::Bank),
    ("transfer", Workload::Bank),
    ("bank-totals", Workload::BankTotals),
    ("transfer-totals", Workload::BankTotals),
];

/// Names of workloads of ours that no check takes, and why.
const UNJUDGED: [(&str, &str); 3] = [
    ("pubsub", "messages may be lost and late: nothing contradicts"),
    ("spubsub", "messages may be lost and late: nothing contradicts"),
    (
        "mixed",
        "it is several workloads at once: name one of them, or judge the run's folder or its history.bin",
    ),
];

impl Workload {
    pub fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, workload)| *workload)
    }

    /// Why no check takes the workload of ours that has this name.
    pub fn unjudged(name: &str) -> Option<&'static str> {
        UNJUDGED.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
    }

    /// The names that [`parse`](Workload::parse) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Judged as transactions, all keys together.
    pub fn is_transactional(self) -> bool {
        matches!(self, Self::ListAppend | Self::RwRegister)
    }

    /// Judges operations on this object of ours.
    fn takes(self, object: Object) -> bool {
        match self {
            Self::Register => matches!(object, Object::Register | Object::KeysTogether),
            Self::Set | Self::SetFull => object == Object::Set,
            Self::List => object == Object::List,
            Self::ListAppend => object == Object::ListTxns,
            Self::RwRegister => object == Object::RegisterTxns,
            Self::Counter | Self::ReplicaReads => {
                matches!(object, Object::Counter | Object::CounterAtReplicas)
            }
            Self::Queue | Self::TotalQueue => object == Object::Queue,
            Self::Lock | Self::Lease => object == Object::Lease,
            Self::Expiring => object == Object::ExpiringRegister,
            Self::Bank | Self::BankTotals => object == Object::Accounts,
        }
    }

    /// Judges a key of a run of ours on which these operations were done. Reads alone do not say what they read.
    pub fn takes_key(self, kinds: impl IntoIterator<Item = OpKind>) -> bool {
        kinds.into_iter().all(|kind| match (Object::told_by(kind), kind) {
            (Some(object), _) => self.takes(object),
            (None, OpKind::Read) => matches!(self, Self::Set | Self::SetFull | Self::List),
            (None, OpKind::Get) => matches!(self, Self::Register | Self::Expiring),
            (None, _) => false,
        })
    }
}

/// An operation that the workload does not know.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: expected {expected}, found {found}")]
pub struct WorkloadError {
    pub line: u64,
    pub expected: String,
    pub found: String,
}
