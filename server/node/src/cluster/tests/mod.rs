//! Stories of whole clusters in memory.

mod bench;
mod failover;

use super::*;
