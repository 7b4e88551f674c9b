//! Which plane a connection belongs to.
//!
//! The listener decides for the bus, the caller for clients. A node that calls another node's data port is
//! either a replica or the source of a MIGRATE, and its first command says which, for good:
//!
//! * `PING` (every replica from 2.8 to valkey 9 begins with it, and no migration does), `REPLCONF`, `PSYNC`,
//!   `SYNC`: replication, and the PING is forwarded under the policy of that plane;
//! * `AUTH`, `SELECT`, `ASKING`, `RESTORE`, `RESTORE-ASKING` (how MIGRATE begins): migrate;
//! * anything else: client.
//!
//! Until the command's name is complete nothing of it is forwarded. If the three planes' policies do not
//! agree on whether the connection may be made at all, the callee is not dialled before either: the caller's
//! bytes are read, and they decide.

use crate::commands::{FirstWord, first_word};
use crate::{Endpoint, Plane};

use super::Listener;

/// The planes that a node's call to a data port can turn out to belong to; it is counted under the first
/// meanwhile.
pub(super) const CANDIDATES: [Plane; 3] = [Plane::Replication, Plane::Migrate, Plane::Client];

/// What is known when the connection is made.
pub(super) fn at_open(caller: Endpoint, listener: Listener) -> Option<Plane> {
    match (listener, caller) {
        (Listener::Bus, _) => Some(Plane::Bus),
        (Listener::Data, Endpoint::Node(_)) => None,
        (Listener::Data, Endpoint::Client(_) | Endpoint::Controller) => Some(Plane::Client),
    }
}

/// What a node's first bytes say; `None`: too few.
pub(super) fn by_first_bytes(bytes: &[u8]) -> Option<Plane> {
    match first_word(bytes) {
        FirstWord::Incomplete => None,
        FirstWord::Foreign => Some(Plane::Client),
        FirstWord::Word(word) => Some(match word.as_slice() {
            b"PING" | b"REPLCONF" | b"PSYNC" | b"SYNC" => Plane::Replication,
            b"AUTH" | b"SELECT" | b"ASKING" | b"RESTORE" | b"RESTORE-ASKING" => Plane::Migrate,
            _ => Plane::Client,
        }),
    }
}
