//! What a consistency check answers about a history, whatever its algorithm: it holds; it is violated, with the
//! smallest set of operations that shows it; or nobody knows, with how far the check came.

/// An operation (or transaction) by its place in the history that the check was given, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u32);

/// A verdict and its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Some legal order explains every operation.
    Holds,
    /// No legal order does. Never empty.
    Violated {
        /// At most [`MAX_WITNESSES`] of each class, the smallest first.
        witnesses: Vec<Witness>,
        /// Violations found beyond those listed.
        unlisted: u64,
    },
    /// The budget ended first. A violation in what was looked at would be final, so there is none in it.
    Unknown(Unknown),
}

/// Violations listed per class; the rest is counted.
pub const MAX_WITNESSES: usize = 10;

/// How far a check came that found neither an order nor a violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What ended it, for people: the budget and what was spent.
    pub reason: String,
    /// Everything that returned before this moment (nanoseconds of the history's clock) is explained.
    pub checked_until: Option<u64>,
}

/// Operations that, taken alone, already contradict the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The class of the violation, in the field's words: `stale-read`, `lost-update`, `G1c`, ...
    pub class: &'static str,
    /// One sentence for people.
    pub sentence: String,
    /// The operations, in order of their invocation.
    pub ops: Vec<OpId>,
    /// Why they contradict: for a cycle its edges in order, else the relations that the sentence speaks of.
    pub links: Vec<Link>,
}

/// `from` must come before `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub from: OpId,
    pub to: OpId,
    pub relation: Relation,
    /// The evidence in words, such as "read 5, which the other appended".
    pub why: String,
}

/// Why one operation must come before another (Adya's dependencies, and the orders of time).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// It overwrote or extended what the other wrote.
    WriteWrite,
    /// It read what the other wrote.
    WriteRead,
    /// The other read what it then overwrote.
    ReadWrite,
    /// The other had returned before it was invoked.
    Realtime,
    /// The same process did the other first.
    Process,
}
