//! The command line: verbs, help texts, exit codes.
//!
//! Exit codes: 0 valid, 1 invalid, 2 unknown or vacuous, 3 the run could not be made or the harness broke,
//! 254 bad usage, 255 panic.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: files, the terminal, entropy for seeds

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod campaign;
mod check;
pub mod cluster;
mod crowd;
pub mod determinism;
mod doctor;
mod faults;
mod history;
mod hunt;
mod interrupt;
pub mod redis_cli;
mod repro;
mod run;
mod screen;
mod serve;
mod simulate;
mod terminal;
mod zoo;

/// Bad usage: the user's to mend.
const USAGE: u8 = 254;
/// The run could not be made, or the harness broke.
const BROKEN: u8 = 3;
/// A bug of ours.
const PANIC: i32 = 255;

/// What the binary is when it is called by another name than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A node, with redis-server's command line.
    Server,
    /// A client, with redis-cli's command line.
    Client,
}

impl Role {
    /// By the first argument, which a link's name comes as.
    pub fn of(called: Option<&OsStr>) -> Option<Self> {
        match Path::new(called?).file_name()?.to_str()? {
            "redis-server" | "valkey-server" => Some(Self::Server),
            "redis-cli" | "valkey-cli" => Some(Self::Client),
            _ => None,
        }
    }
}

#[derive(Parser)]
#[command(
    name = "slotstorm",
    version,
    about = "Breaks Redis Clusters on purpose and proves what happened",
    after_help = "Examples:\n  slotstorm run                                    a storm on slotstorm's own server\n  \
                  slotstorm run --sut /usr/bin/redis-server        the same on an unmodified redis-server\n  \
                  slotstorm run results/latest/repro.toml          the last run once more\n  \
                  slotstorm check results/latest                   judge a stored run again\n  \
                  slotstorm check history.edn --workload list-append   judge a history of Jepsen's\n\n\
                  Exit codes: 0 valid, 1 invalid, 2 unknown or vacuous, 3 the run could not be made, 254 bad usage\n\n\
                  Called by the name redis-server (or valkey-server) it is a server with that one's arguments,\n\
                  called redis-cli (or valkey-cli) a client: `ln -s $(which slotstorm) redis-cli`"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start a cluster, storm it, judge what happened
    Run(Box<run::RunArgs>),
    /// Run many storms in the simulator and collect what they find
    Hunt(Box<hunt::HuntArgs>),
    /// Replay a finding, and say how often it shows
    Repro(repro::ReproArgs),
    /// Make a finding smaller, and tell its story
    Shrink(repro::ShrinkArgs),
    /// Hunt bugs that were put into the node on purpose
    Zoo(zoo::ZooArgs),
    /// Judge the stored history of a run again, or a history that others recorded
    Check(Box<check::CheckArgs>),
    /// Write the history of a run for other checkers
    #[command(after_help = "Example:\n  slotstorm export results/latest --edn history.edn")]
    Export(history::ExportArgs),
    /// Draw the plots and the page of a stored run again
    Report(FolderArgs),
    /// Many runs all night; what is new in the morning
    Campaign(campaign::CampaignArgs),
    /// Show results in a browser, and a storm as it happens
    Serve(serve::ServeArgs),
    /// Look whether this machine can run storms, and what servers it has
    Doctor(doctor::DoctorArgs),
    /// Make a cluster of servers that run already
    Cluster(cluster::ClusterArgs),
    /// Be a Redis Cluster node; takes redis-server's arguments
    #[command(disable_help_flag = true)]
    Server {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

/// A verb on a stored run.
#[derive(clap::Args)]
struct FolderArgs {
    /// The run's folder, such as results/latest
    run_dir: PathBuf,
}

/// What went wrong, by whose fault.
enum Failure {
    /// What the user asked for makes no sense.
    Usage(String),
    /// The run could not be made, or the harness broke.
    Broken(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    exit_255_on_panic();
    say_troubles();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let done = match cli.verb {
        Verb::Run(args) => run::run(&args),
        Verb::Hunt(args) => hunt::run(&args),
        Verb::Repro(args) => repro::repro(&args),
        Verb::Shrink(args) => repro::shrink(&args),
        Verb::Zoo(args) => zoo::run(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Export(args) => history::export(&args),
        Verb::Report(args) => check::report(&args),
        Verb::Campaign(args) => campaign::run(&args),
        Verb::Serve(args) => serve::run(&args),
        Verb::Doctor(args) => doctor::run(args).map_err(Failure::Broken),
        Verb::Cluster(args) => cluster::run(args).map_err(Failure::Broken),
        Verb::Server { args } => Ok(slotstorm_server::run(args)),
    };
    done.unwrap_or_else(|failure| {
        let (text, code) = match failure {
            Failure::Usage(text) => (text, USAGE),
            Failure::Broken(error) => (format!("{error:#}"), BROKEN),
        };
        eprintln!("slotstorm: {text}");
        ExitCode::from(code)
    })
}

/// What the harness has to say of itself goes to standard error; SLOTSTORM_LOG=debug says more.
fn say_troubles() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SLOTSTORM_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
}

fn exit_255_on_panic() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if slotstorm_sim::in_node::is() {
            return; // a crash of the simulated server, which the record tells
        }
        usual(info);
        // The keeper sees its pipe end and kills every server.
        std::process::exit(PANIC);
    }));
}
