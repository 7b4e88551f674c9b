//! `slotstorm cluster`: an operator's levers on servers that run already, with the flags and the meaning of
//! `redis-cli --cluster`, and `up`, which starts a cluster of its own.
//!
//! Exit codes: 0 done, 1 not done, 254 bad usage (1 when called as redis-cli).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: stdin, names to addresses

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::admin::Login;
use crate::admin::fleet::{Fleet, FleetError};
use crate::admin::resp::AskError;

mod create;
mod inspect;
mod membership;
mod moving;
mod plain;
mod screen;
pub mod up;

use plain::PlainReach;

/// One request may take this long, milliseconds.
const PATIENCE_MS: u64 = 5000;

/// Arguments of `slotstorm cluster`.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    pub command: ClusterCommand,
}

/// What to do with a cluster.
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make a cluster of empty servers that run already
    ///
    /// Example: slotstorm cluster create 127.0.0.1:7000 127.0.0.1:7001 127.0.0.1:7002
    Create(create::CreateArgs),
    /// Look whether the cluster is whole
    Check(inspect::CheckArgs),
    /// Keys, slots and replicas of each master
    Info(inspect::TellArgs),
    /// All nodes as a table
    Nodes(inspect::TellArgs),
    /// Send one command to every node
    Call(inspect::CallArgs),
    /// Close open slots, and give slots without an owner one
    Fix(moving::FixArgs),
    /// Move slots to a master
    ///
    /// Example: slotstorm cluster reshard 127.0.0.1:7000 --from all --to ID --slots 1000 --yes
    Reshard(moving::ReshardArgs),
    /// Make all masters even
    Rebalance(moving::RebalanceArgs),
    /// Bring an empty server into the cluster
    #[command(name = "add-node")]
    AddNode(membership::AddNodeArgs),
    /// Take a node without slots out of the cluster
    #[command(name = "del-node")]
    DelNode(membership::DelNodeArgs),
    /// Make a replica the master of its shard
    Failover(membership::FailoverArgs),
    /// Set cluster-node-timeout on every node
    #[command(name = "set-timeout")]
    SetTimeout(membership::SetTimeoutArgs),
    /// Bring the keys of a server without cluster mode into the cluster
    Import(moving::ImportArgs),
    /// Save a snapshot of every master
    Backup(inspect::BackupArgs),
    /// Start a cluster of your own behind the proxy and hold it until `quit`, Ctrl-C or the end of stdin
    ///
    /// Console: nodes, isolate nX, heal, kill nX, term nX, stop nX, cont nX, start nX, wipe nX, quit.
    Up(up::UpArgs),
}

/// How to log in; also what redis-cli's own options said.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    pub user: Option<String>,
    pub password: Option<String>,
}

/// Options that every lever has.
#[derive(Clone, Debug, Default, Args)]
pub struct Common {
    /// The servers' password (or the environment's REDISCLI_AUTH)
    #[arg(short = 'a', long = "pass", value_name = "PASSWORD")]
    pass: Option<String>,
    /// The user to log in as
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Ask for the password
    #[arg(long)]
    askpass: bool,
    /// As redis-cli; there is no such warning here
    #[arg(long, hide = true)]
    no_auth_warning: bool,
    /// Do not ask
    #[arg(long = "cluster-yes", visible_alias = "yes", short = 'y')]
    yes: bool,
}

/// A server by which the cluster is found.
#[derive(Clone, Debug, Args)]
pub struct Entry {
    /// Any node of the cluster
    #[arg(value_name = "HOST:PORT", num_args = 1..=2, required = true)]
    entry: Vec<String>,
}

impl Entry {
    /// `host:port`, or `host port`.
    fn address(&self) -> Result<SocketAddr, Trouble> {
        match &self.entry[..] {
            [host, port] => resolve(&format!("{host}:{port}")),
            [address, ..] => resolve(address),
            [] => Err(Trouble::Usage("no HOST:PORT".to_owned())),
        }
    }
}

/// Why a lever did not do its work.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// It could not be done; said in full.
    #[error("{0}")]
    Failed(String),
    /// Not done, and what there is to say was said.
    #[error("")]
    Said,
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

type Done = Result<(), Trouble>;

/// Runs the verb.
pub fn run(args: ClusterArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        ClusterCommand::Up(args) => up::run(args),
        command => Ok(pull(command, &Auth::default(), crate::cli::USAGE)),
    }
}

#[derive(Parser)]
#[command(name = "redis-cli --cluster", no_binary_name = true, disable_version_flag = true)]
struct Words {
    #[command(subcommand)]
    command: ClusterCommand,
}

/// `redis-cli --cluster VERB ARGS...`: `words` are the verb and its arguments.
#[allow(clippy::needless_pass_by_value)] // the redis-cli personality hands over what it read
pub fn run_words(words: Vec<OsString>, auth: Auth) -> ExitCode {
    match Words::try_parse_from(words) {
        Ok(Words { command: ClusterCommand::Up(_) }) => {
            eprintln!("[ERR] up is no verb of redis-cli");
            ExitCode::from(1)
        }
        Ok(Words { command }) => pull(command, &auth, 1),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(u8::from(error.use_stderr()))
        }
    }
}

fn pull(command: ClusterCommand, auth: &Auth, usage: u8) -> ExitCode {
    let done = match command {
        ClusterCommand::Create(args) => create::run(&args, auth),
        ClusterCommand::Check(args) => inspect::check(&args, auth),
        ClusterCommand::Info(args) => inspect::info(&args, auth),
        ClusterCommand::Nodes(args) => inspect::nodes(&args, auth),
        ClusterCommand::Call(args) => inspect::call(args, auth),
        ClusterCommand::Backup(args) => inspect::backup(&args, auth),
        ClusterCommand::Fix(args) => moving::fix(&args, auth),
        ClusterCommand::Reshard(args) => moving::reshard(&args, auth),
        ClusterCommand::Rebalance(args) => moving::rebalance(&args, auth),
        ClusterCommand::Import(args) => moving::import(&args, auth),
        ClusterCommand::AddNode(args) => membership::add_node(&args, auth),
        ClusterCommand::DelNode(args) => membership::del_node(&args, auth),
        ClusterCommand::Failover(args) => membership::failover(&args, auth),
        ClusterCommand::SetTimeout(args) => membership::set_timeout(&args, auth),
        ClusterCommand::Up(_) => Err(Trouble::Usage("up has its own way".to_owned())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Usage(text)) => {
            eprintln!("error: {text}");
            ExitCode::from(usage)
        }
        Err(Trouble::Said) => ExitCode::from(1),
        Err(trouble) => {
            eprintln!("{trouble}");
            ExitCode::from(1)
        }
    }
}

/// The password from the options, the caller, the environment or the terminal.
fn login(common: &Common, auth: &Auth) -> Result<Option<Login>, Trouble> {
    let user = common.user.clone().or_else(|| auth.user.clone());
    let given = common.pass.clone().or_else(|| auth.password.clone());
    let password = if common.askpass {
        Some(screen::secret("Please input password: ")?)
    } else {
        given.or_else(|| std::env::var("REDISCLI_AUTH").ok())
    };
    match (user, password) {
        (None, None) => Ok(None),
        (Some(user), None) => {
            Err(Trouble::Usage(format!("--user {user} needs a password (-a or REDISCLI_AUTH)")))
        }
        (user, Some(password)) => Ok(Some(Login { user, password })),
    }
}

/// Runs a lever's flow; `work` gets servers as they are reached from here.
fn with_reach<T>(
    common: &Common,
    auth: &Auth,
    work: impl AsyncFnOnce(PlainReach) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let login = login(common, auth)?;
    crate::backend::process::run_local(async { work(PlainReach::start(login)?).await })?
}

/// As [`with_reach`], with the cluster found.
fn with_fleet<T>(
    entry: SocketAddr,
    common: &Common,
    auth: &Auth,
    work: impl AsyncFnOnce(&mut Fleet<PlainReach>) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    with_reach(common, auth, async |reach| {
        let mut fleet = Fleet::discover(&reach, entry, PATIENCE_MS).await?;
        work(&mut fleet).await
    })
}

fn resolve(node: &str) -> Result<SocketAddr, Trouble> {
    // redis-cli's listings write an address with its bus port.
    let plain = node.split('@').next().unwrap_or(node);
    let mut found = plain
        .to_socket_addrs()
        .map_err(|error| Trouble::Usage(format!("{node:?} is no HOST:PORT: {error}")))?;
    found.next().ok_or_else(|| Trouble::Usage(format!("{node:?} has no address")))
}
