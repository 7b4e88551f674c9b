//! The network of links: queues, policies, bus framing and filters, as a pure engine.
//!
//! The proxy is a socket shell around it; the simulator calls it directly, so both backends share one
//! network.
//!
//! * [`Fabric`] carries connections under [`Policy`]s: bytes, FIN and RST go in, the same come out, later or
//!   never.
//! * [`ReplicationTap`] follows one replication link and says at which offset each of our elements passed.
//! * [`BusTape`] is a copy of what passes on the cluster bus, if it is asked for.
//! * [`MessageRule`]s drop, delay, double or reorder single bus messages; a [`Trap`] tells when a moment comes, and holds
//!   what matched until it is released.
//! * [`FrameScanner`] finds the messages in a cluster bus stream.

mod bus;
mod commands;
mod engine;
mod link;
mod messages;
mod tap;
mod tape;

pub use bus::{FrameError, FrameHead, FrameScanner};
pub use engine::{
    ConnId, ConnInfo, Dir, End, Fabric, FabricOptions, Listener, Nanos, Offer, Output, PairStats, Touched,
};
pub use link::*;
pub use messages::*;
pub use tap::{ReplicationTap, StreamEvent, StreamWhat};
pub use tape::{BusPassed, BusPiece, BusTape};
