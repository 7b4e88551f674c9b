//! A Redis Cluster node as a process.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs a node until it is told to stop. `args` are redis-server's, without the program's name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let _ = args;
    ExitCode::FAILURE
}
