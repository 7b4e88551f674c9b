//! Which workloads there are.

use std::fmt;
use std::str::FromStr;

use super::{
    Load, counter, expiry, growing, lock, mixed, pubsub, queue, register, replica_reads, together, transfer,
    txn,
};

/// Which workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// Unique SADDs over many keys and slots, some SMEMBERS, final read.
    #[default]
    Set,
    /// RPUSH of unique elements, LRANGE reads.
    Append,
    /// Unique writes, reads, `SET .. GET`, compare-and-set by script and by WATCH.
    Register,
    /// INCR, DECR, GET.
    Counter,
    /// LPUSH, RPOP, LMOVE of unique elements.
    Queue,
    /// SET NX PX with fencing tokens, and writes that they guard.
    Lock,
    /// Money moved between the accounts of a slot in MULTI/EXEC.
    Transfer,
    /// Transactions of list appends and of register writes inside a slot.
    Txn,
    /// `set`, each write followed by WAIT.
    Wait,
    /// Counters, read from replicas.
    ReplicaReads,
    /// Values with a time to live.
    Expiry,
    /// Several keys of a slot written and read at once.
    MultiKey,
    /// PUBLISH and SUBSCRIBE: what is lost is counted.
    Pubsub,
    /// The same with SPUBLISH and SSUBSCRIBE.
    Spubsub,
    /// All of those that need no clients of their own kind.
    Mixed,
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Set,
        Self::Append,
        Self::Register,
        Self::Counter,
        Self::Queue,
        Self::Lock,
        Self::Transfer,
        Self::Txn,
        Self::Wait,
        Self::ReplicaReads,
        Self::Expiry,
        Self::MultiKey,
        Self::Pubsub,
        Self::Spubsub,
        Self::Mixed,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Append => "append",
            Self::Register => "register",
            Self::Counter => "counter",
            Self::Queue => "queue",
            Self::Lock => "lock",
            Self::Transfer => "transfer",
            Self::Txn => "txn",
            Self::Wait => "wait",
            Self::ReplicaReads => "replica-reads",
            Self::Expiry => "expiry",
            Self::MultiKey => "multi-key",
            Self::Pubsub => "pubsub",
            Self::Spubsub => "spubsub",
            Self::Mixed => "mixed",
        }
    }

    /// True if its writes are followed by WAIT whatever is expected of the run.
    pub const fn waits(self) -> bool {
        matches!(self, Self::Wait)
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WorkloadKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("no workload is called {text:?}; there are {}", names.join(", "))
        })
    }
}

/// How much of what.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadOptions {
    /// Which.
    pub kind: WorkloadKind,
    /// Keys (or groups of keys of one slot), spread evenly over the slots by hashing.
    pub keys: u32,
    /// Share of reads in percent.
    pub read_percent: u32,
}

impl WorkloadOptions {
    /// The storm's defaults: enough keys that each shard has many and that each key's final read stays small.
    pub fn new(kind: WorkloadKind) -> Self {
        let (keys, read_percent) = match kind {
            WorkloadKind::Set | WorkloadKind::Wait => (400, 10),
            WorkloadKind::Append => (400, 20),
            WorkloadKind::Register | WorkloadKind::MultiKey => (200, 40),
            WorkloadKind::Counter => (200, 20),
            WorkloadKind::Queue | WorkloadKind::Lock => (100, 0),
            WorkloadKind::Transfer | WorkloadKind::Txn => (100, 30),
            WorkloadKind::ReplicaReads => (60, 70),
            WorkloadKind::Expiry => (100, 50),
            WorkloadKind::Pubsub | WorkloadKind::Spubsub => (12, 0),
            WorkloadKind::Mixed => (60, 30),
        };
        Self { kind, keys, read_percent }
    }
}

/// The workload itself.
pub(super) fn load(options: WorkloadOptions) -> Box<dyn Load> {
    match options.kind {
        WorkloadKind::Set | WorkloadKind::Append | WorkloadKind::Wait => {
            Box::new(growing::Growing::new(options))
        }
        WorkloadKind::Register => Box::new(register::Registers::new(options)),
        WorkloadKind::Counter => Box::new(counter::Counters::new(options)),
        WorkloadKind::Queue => Box::new(queue::Queues::new(options)),
        WorkloadKind::Lock => Box::new(lock::Locks::new(options)),
        WorkloadKind::Transfer => Box::new(transfer::Transfers::new(options)),
        WorkloadKind::Txn => Box::new(txn::Txns::new(options)),
        WorkloadKind::ReplicaReads => Box::new(replica_reads::ReplicaReads::new(options)),
        WorkloadKind::Expiry => Box::new(expiry::Expiry::new(options)),
        WorkloadKind::MultiKey => Box::new(together::Together::new(options)),
        WorkloadKind::Pubsub | WorkloadKind::Spubsub => Box::new(pubsub::Pubsub::new(options)),
        WorkloadKind::Mixed => Box::new(mixed::Mixed::new(options)),
    }
}
