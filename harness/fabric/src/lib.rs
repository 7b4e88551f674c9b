//! The network of links: queues, policies, bus framing and filters, as a pure engine.
//!
//! The proxy is a socket shell around it; the simulator calls it directly, so both backends share one network.

mod link;

pub use link::*;
