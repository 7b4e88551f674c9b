//! Stories of whole clusters in memory.

mod bench;
mod claims;
mod clients;
mod codec;
mod detection;
mod durability;
mod elections;
mod failover;
mod files;
mod manual;
mod lending;
mod membership;
mod state;
mod votes;

use super::*;
