//! A Redis Cluster node as a process: sockets, files and clocks around the pure node.
//!
//! [`run`] is the whole program. Rooms, callers above callees: `startup` from arguments to a running loop ·
//! `shell` the loop · `disk` the disk thread · `saver` the threads of
//! snapshots · `files` the data directory · `listen` sockets · `log`,
//! `clock`, `signals` · `machine` what the loop drives.

pub mod clock;
pub mod disk;
pub mod files;
pub mod listen;
pub mod log;
pub mod machine;
pub mod oom;
pub mod saver;
pub mod shell;
pub mod signals;
mod skew;
pub mod startup;
pub mod vitals;

use std::ffi::OsString;
use std::process::ExitCode;

use slotstorm_node::node::{Node, NodeBoot};

/// Runs a node until it is told to stop. `args` are redis-server's, without the program's name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    startup::run_with(args, startup::Called::Slotstorm, make_node)
}

/// The same, called by the name `redis-server`: standalone unless the configuration says `cluster-enabled yes`, or says
/// nothing of it but names a `cluster-config-file`.
pub fn run_as_redis_server(args: Vec<OsString>) -> ExitCode {
    startup::run_with(args, startup::Called::RedisServer, make_node)
}

fn make_node(boot: startup::Boot<'_>) -> Node {
    let node = NodeBoot {
        config: boot.config,
        now: boot.now,
        entropy: boot.entropy,
        pid: std::process::id(),
        stopwatch: clock::STOPWATCH,
        vitals: vitals::VITALS,
    };
    Node::new(node, boot.effects)
}
