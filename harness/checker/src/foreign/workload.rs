//! What a history is about, by the names that Jepsen, Elle and Knossos use.

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
    /// `add` of a number, `read`.
    Counter,
    /// `enqueue`, `dequeue`, `drain`: first in, first out.
    Queue,
    /// `acquire`, `release`: who acquired releases.
    Lock,
    /// `transfer {:from :to :amount}`, `read` of all balances.
    Bank,
}

const NAMES: [(&str, Workload); 17] = [
    ("register", Workload::Register),
    ("cas-register", Workload::Register),
    ("set", Workload::Set),
    ("set-full", Workload::SetFull),
    ("list", Workload::List),
    ("append", Workload::ListAppend),
    ("list-append", Workload::ListAppend),
    ("txn", Workload::ListAppend),
    ("rw-register", Workload::RwRegister),
    ("wr", Workload::RwRegister),
    ("counter", Workload::Counter),
    ("queue", Workload::Queue),
    ("fifo-queue", Workload::Queue),
    ("lock", Workload::Lock),
    ("mutex", Workload::Lock),
    ("bank", Workload::Bank),
    ("transfer", Workload::Bank),
];

impl Workload {
    pub fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, workload)| *workload)
    }

    /// The names that [`parse`](Workload::parse) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Judged as transactions, all keys together.
    pub fn is_transactional(self) -> bool {
        matches!(self, Self::ListAppend | Self::RwRegister)
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
