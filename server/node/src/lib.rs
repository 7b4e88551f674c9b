//! A Redis Cluster node as a pure state machine.
//!
//! The node takes time, bytes and randomness as arguments and answers with values: bytes in outboxes and
//! [`Effects`]. It opens no socket, reads no clock and touches no file, so the same code runs as a process
//! (`slotstorm-server`) and in the simulator (`slotstorm-sim`).
//!
//! Rooms, callers above callees: `node` owns all others · `command` one table of commands, a file a family ·
//! `cluster` the bus, gossip, elections, slots · `migrate` keys on their way to another server · `replication` both ends of PSYNC · `rdb`, `aof` the files ·
//! `keyspace` slots of keys, types, expiry, snapshots · `pubsub` · `script` Lua · `resp` the client protocol · `config` the
//! table of directives · `words` quoting · `io` what the node and its shell speak.

pub mod acl;
pub mod aof;
pub mod cluster;
pub mod command;
pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod io;
pub mod keyspace;
pub mod migrate;
pub mod node;
pub mod pubsub;
pub mod random;
pub mod rdb;
pub mod replication;
pub mod resp;
pub mod script;
pub mod words;
pub mod zoo;
