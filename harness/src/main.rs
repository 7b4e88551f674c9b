//! Slotstorm: a Jepsen-style chaos harness for Redis Cluster, in one binary.

#![allow(dead_code)] // until the rooms meet

use std::process::ExitCode;

mod admin;
mod backend;
mod plot;
mod report;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(verb) if verb == "server" => slotstorm_server::run(args.collect()),
        _ => ExitCode::from(254),
    }
}
