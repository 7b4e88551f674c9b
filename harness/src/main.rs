//! Slotstorm: a Jepsen-style chaos harness for Redis Cluster, in one binary.

use std::process::ExitCode;

mod admin;
mod backend;
mod campaign;
mod cli;
mod driver;
mod nemesis;
mod observer;
mod plan;
mod plot;
mod proxy;
mod report;
mod serve;
mod verdict;

/// In the binary only: the node's memory is many small allocations, and storms start many nodes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    match cli::Role::of(args.next().as_deref()) {
        Some(cli::Role::Server) => return slotstorm_server::run_as_redis_server(args.collect()),
        Some(cli::Role::Client) => return cli::redis_cli::main(args.collect()),
        None => {}
    }
    match args.next() {
        Some(verb) if verb == "server" => slotstorm_server::run(args.collect()),
        Some(verb) if verb == "__keeper" => backend::process::keeper::main(),
        Some(verb) if verb == "__exec" => backend::process::keeper::exec_main(&args.collect::<Vec<_>>()),
        Some(verb) if verb == "__proxy" => proxy::run_alone(&args.collect::<Vec<_>>()),
        _ => cli::main(),
    }
}
