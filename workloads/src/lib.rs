//! What clients do: operations, generators, the cluster client.
//!
//! Pure: time, bytes and randomness are arguments, so the same code drives real processes and the simulator.
//! Rooms: `client` a Redis Cluster client as a state machine · `workload` what is asked, and what answers mean.

pub mod client;
pub mod workload;
