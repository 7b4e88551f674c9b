//! The general search, for what no evidence decides: repeated values, deletions, lost replies that carry sums.
//!
//! Depth first over orders (Wing and Gong 1993) with the visited configurations remembered (Lowe, Testing for
//! Linearizability, 2016), as a 128-bit fingerprint of operations done and state. Three rules keep it small, each an exchange
//! argument: a read-only operation that can go now goes now; of two identical operations the one that must return
//! first goes first; and an unknown write that nothing saw is not overwritten, but never happened.

mod engine;
mod explain;
mod visited;

use super::op::{Op, Status};
use crate::answer::Answer;
pub(super) use engine::uniform;
pub use engine::{Found, Model, search};

/// What a search may spend on one history.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Configurations remembered.
    pub configurations: u64,
    /// Bytes for them.
    pub bytes: u64,
    /// Asked every few thousand configurations: may it go on? For limits of time, which this crate cannot know.
    pub go_on: &'a (dyn Fn() -> bool + Sync),
}

impl Default for Limits<'_> {
    /// 20 million configurations, 1 GB.
    fn default() -> Self {
        Self { configurations: 20_000_000, bytes: 1 << 30, go_on: &|| true }
    }
}

/// Judges by search. `schedule` gives operations a place in an order that is likely legal.
pub fn decide<M: Model>(
    model: &M,
    ops: &[Op<M::Kind>],
    schedule: Option<&[u64]>,
    limits: &Limits<'_>,
) -> Answer {
    match search(model, ops, schedule, limits) {
        Found::Order => Answer::Holds,
        Found::Unknown(unknown) => Answer::Unknown(unknown),
        Found::None { stuck } => explain::violation(model, ops, stuck, limits),
    }
}

/// Takes part in the search: it may have had an effect, or its reply must be explained.
fn matters<M: Model>(op: &Op<M::Kind>) -> bool {
    match op.status {
        Status::Done => true,
        Status::Unknown => !M::only_reads(op.kind),
        Status::Failed => false,
    }
}
