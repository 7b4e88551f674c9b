//! Slotstorm: a Jepsen-style chaos harness for Redis Cluster, in one binary.

#![allow(dead_code)] // until the rooms meet

use std::process::ExitCode;

mod backend;
mod proxy;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(verb) if verb == "server" => slotstorm_server::run(args.collect()),
        Some(verb) if verb == "__proxy" => proxy::run_alone(&args.collect::<Vec<_>>()),
        _ => ExitCode::from(254),
    }
}
