//! Virtual time, and nodes on the fabric.
//!
//! Rooms, callers above callees: `executor` tasks and timers in virtual time · `cluster` all machines and what lies
//! between them, one queue of events · `process` a node driven as the real shell drives it · `network` the ends of
//! connections on the fabric · `disk`, `clock` of each machine · `queue`, `fingerprint`.
//!
//! Nothing here reads a clock, iterates a map that is keyed at random, or draws from a generator that was not given.

mod clock;
mod cluster;
mod disk;
mod executor;
mod fingerprint;
mod network;
mod process;
mod queue;

pub use clock::Clock;
pub use cluster::{Cluster, ClusterOptions, Exited, LinkEvent, MachineOptions, MachineState, ProcessPace};
pub use disk::{DiskPace, DiskTrouble};
pub use executor::{Deadlock, Executor, Machinery, Nanos, Sleep};
pub use fingerprint::Fingerprint;
pub use network::{Handshake, Latency, PipeId};
pub use process::in_node;
pub use slotstorm_node::zoo;
