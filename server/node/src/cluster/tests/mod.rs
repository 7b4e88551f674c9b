//! Stories of whole clusters in memory.

mod bench;
mod claims;
mod clients;
mod codec;
mod durability;
mod failover;
mod files;
mod manual;
mod membership;
mod timing;
mod votes;

use super::*;
