//! Slotstorm: a Jepsen-style chaos harness for Redis Cluster, in one binary.

#![allow(dead_code)] // until the rooms meet

use std::process::ExitCode;

mod admin;
mod backend;
mod proxy;
#[rustfmt::skip]
mod cli { pub mod cluster; pub mod doctor; }

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(verb) if verb == "server" => slotstorm_server::run(args.collect()),
        Some(verb) if verb == "__keeper" => backend::process::keeper::main(),
        Some(verb) if verb == "__exec" => backend::process::keeper::exec_main(&args.collect::<Vec<_>>()),
        Some(verb) if verb == "__proxy" => proxy::run_alone(&args.collect::<Vec<_>>()),
        _ => verbs(),
    }
}

/// Verbs with arguments of their own, until the command line's room has them.
#[derive(clap::Parser)]
#[command(name = "slotstorm")]
enum Verb {
    Doctor(cli::doctor::DoctorArgs),
    Cluster(cli::cluster::ClusterArgs),
}

fn verbs() -> ExitCode {
    let parsed = <Verb as clap::Parser>::try_parse();
    let done = match parsed {
        Ok(Verb::Doctor(args)) => cli::doctor::run(args),
        Ok(Verb::Cluster(args)) => cli::cluster::run(args),
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 254 } else { 0 });
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(3)
    })
}
