//! Guarantees that faults void. A fault's kind says which promises it breaks, and the record for which nodes: from then on
//! what depends on them is listed as outside the model, and not held against the server.

use crate::record::{Nanos, Record};

/// Promises that a fault may void, by the names of the rules that depend on them; and four that are no rule's name.
pub const GUARANTEES: [&str; 24] = [
    "one-vote-per-epoch",
    "votes-for-the-entitled",
    "fail-by-a-majority",
    "promotion-by-a-majority",
    "no-claims-with-equal-epochs",
    "told-epochs-never-go-back",
    "owner-epoch-never-goes-back",
    "current-epoch-never-goes-back",
    "epochs-survive-a-restart",
    "votes-survive-a-restart",
    "promotion-epoch-is-new",
    "no-lasting-equal-epochs",
    "only-a-replica-takes-over",
    "promoted-data-is-fresh-enough",
    "promoted-data-is-of-its-shard",
    "best-replica-is-promoted",
    "collision-spares-who-serves",
    "forgotten-stays-forgotten",
    "no-crash",
    ACKNOWLEDGED_WRITES,
    VALUES_AS_WRITTEN,
    SPLIT_BRAIN_BOUND,
    "replicas-equal",
    CONVERGENCE,
];

/// What was acknowledged is on the disk when the configuration says so.
pub const ACKNOWLEDGED_WRITES: &str = "acknowledged-writes";
/// What is read is what somebody wrote: an append-only file has no checksum.
pub const VALUES_AS_WRITTEN: &str = "values-as-written";
/// An old master hears of the newer one, and its clock runs, so that it steps down in time.
pub const SPLIT_BRAIN_BOUND: &str = "split-brain-bound";

/// A healed cluster becomes whole by itself.
pub const CONVERGENCE: &str = "convergence";

/// What a majority is depends on every node's table: who comes back with another one voids it for all.
const OF_ALL_NODES: [&str; 2] = ["fail-by-a-majority", "promotion-by-a-majority"];

/// The class of a loss whose cause lies outside the model.
pub const OUTSIDE_MODEL: &str = "outside-model";

/// All that the storm voided.
#[derive(Clone, Debug, Default)]
pub struct Voided(Vec<Void>);

#[derive(Clone, Debug)]
struct Void {
    since: Nanos,
    guarantees: Vec<String>,
    nodes: Vec<String>,
}

impl Voided {
    /// Reads the steps of the faults.
    pub fn of(record: &Record) -> Self {
        let void = |event: &crate::record::FaultEvent| {
            let voids = event.step.voids.clone()?;
            Some(Void { since: event.time, guarantees: voids.guarantees, nodes: voids.nodes })
        };
        Self(record.faults.iter().filter_map(void).collect())
    }

    /// Whether this promise of one of these nodes was void at some time up to `until`.
    pub fn covers<S: AsRef<str>>(&self, guarantee: &str, nodes: &[S], until: Nanos) -> bool {
        self.0.iter().any(|void| {
            void.since <= until
                && void.guarantees.iter().any(|it| it == guarantee)
                && (OF_ALL_NODES.contains(&guarantee)
                    || nodes.iter().any(|node| void.nodes.iter().any(|it| it == node.as_ref())))
        })
    }
}
