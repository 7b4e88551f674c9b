//! Slots of keys, their types, expiry and snapshots.

/// A frozen view of the whole keyspace: cheap to take, safe to encode on another thread.
#[derive(Clone, Debug, Default)]
pub struct Snapshot;
