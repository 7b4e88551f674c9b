//! Slotstorm: a Jepsen-style chaos harness for Redis Cluster, in one binary.

#![allow(dead_code)] // until the rooms meet

mod backend;

fn main() {}
