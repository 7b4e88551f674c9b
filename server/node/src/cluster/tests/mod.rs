//! Stories of whole clusters in memory.

mod bench;
mod claims;
mod clients;
mod codec;
mod collisions;
mod credence;
mod detection;
mod durability;
mod elections;
mod failover;
mod files;
mod health;
mod lending;
mod links;
mod manual;
mod membership;
mod timing;
mod votes;

use super::*;
