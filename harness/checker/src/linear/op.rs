//! One operation on one object, as every check of this room takes it.

/// A return that never came.
pub const NEVER: u64 = u64::MAX;

/// What a key holds before anybody wrote it, and what an absent key answers.
pub const NIL: u64 = u64::MAX;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It took effect between its call and its return, and its reply is in its kind.
    Done,
    /// It took effect at some moment after its call, or never. What its kind says of a reply is meaningless.
    Unknown,
    /// It certainly never took effect.
    Failed,
}

/// One operation: an interval of time and what it did. Intervals are closed: an operation that returned in the
/// nanosecond of another's call is concurrent with it, so that a coarse clock excuses and never accuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op<K> {
    /// Nanoseconds of the history's clock.
    pub call: u64,
    /// The same clock; [`NEVER`] for an unknown outcome.
    pub ret: u64,
    /// Who did it. One process does one operation at a time.
    pub process: u32,
    /// How it ended.
    pub status: Status,
    /// What it did.
    pub kind: K,
}

impl<K> Op<K> {
    /// It was acknowledged.
    pub fn done(process: u32, call: u64, ret: u64, kind: K) -> Self {
        Self { call, ret, process, status: Status::Done, kind }
    }

    /// Nobody knows whether it took effect.
    pub fn unknown(process: u32, call: u64, kind: K) -> Self {
        Self { call, ret: NEVER, process, status: Status::Unknown, kind }
    }

    /// It was refused.
    pub fn failed(process: u32, call: u64, ret: u64, kind: K) -> Self {
        Self { call, ret, process, status: Status::Failed, kind }
    }

    /// It had returned before the other was called.
    pub fn precedes<L>(&self, other: &Op<L>) -> bool {
        self.ret < other.call
    }
}

/// The operations of a history with their numbers.
pub(super) fn numbered<K>(ops: &[Op<K>]) -> impl Iterator<Item = (u32, &Op<K>)> {
    ops.iter().enumerate().map(|(id, op)| (id as u32, op))
}
