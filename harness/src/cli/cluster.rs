//! `slotstorm cluster`: `create` makes a cluster of servers that run already; `up` starts a whole cluster of its own
//! behind the proxy and holds it, with a small console on stdin, for trying things by hand.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: stdin, names to addresses

use std::io::{BufRead, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use slotstorm_checker::record::NodeInfo;
use slotstorm_fabric::{Endpoint, LinkChange, OnHeal, Plane, Policy};
use tokio::signal::unix::{SignalKind, signal as unix_signal};
use tokio::sync::mpsc;

use crate::admin::Reach;
use crate::admin::create::{CreatePlan, Created, Member, Progress, create, even_slots};
use crate::backend::process::sut::{self, Sut};
use crate::backend::process::{
    ProcessOptions, ProcessWorld, SELF_EXE, StartError, TcpMailbox, Timers, run_local,
};
use crate::backend::{SeenBy, Signal, World};

/// Bad usage, as for the argument parser's own errors.
const BAD_USAGE: u8 = 254;
/// It could not be done.
const NOT_MADE: u8 = 3;

/// Arguments of `slotstorm cluster`.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    pub command: ClusterCommand,
}

/// What to do with a cluster.
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make a cluster of empty servers that run already.
    ///
    /// Example: slotstorm cluster create 127.0.0.1:7000 127.0.0.1:7001 127.0.0.1:7002
    Create(CreateArgs),
    /// Start a cluster of your own behind the proxy and hold it until `quit`, Ctrl-C or the end of stdin.
    ///
    /// Console: nodes, isolate nX, heal, kill nX, term nX, stop nX, cont nX, start nX, wipe nX, quit.
    Up(UpArgs),
}

/// Arguments of `slotstorm cluster create`.
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    /// The servers, each empty and with cluster-enabled yes.
    #[arg(value_name = "HOST:PORT", required = true)]
    pub nodes: Vec<String>,
    /// Replicas of each master.
    #[arg(long, default_value_t = 0)]
    pub cluster_replicas: u16,
    /// Do not ask.
    #[arg(long, alias = "cluster-yes", short = 'y')]
    pub yes: bool,
    /// Give up after this many seconds.
    #[arg(long, default_value_t = 60)]
    pub timeout: u64,
}

/// Arguments of `slotstorm cluster up`.
#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    /// embedded, a path to a redis-server, or a mix such as embedded:3,/usr/bin/redis-server:3
    #[arg(long, default_value = "embedded")]
    pub sut: Sut,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub masters: u16,
    /// Of each master.
    #[arg(long, default_value_t = 1)]
    pub replicas: u16,
    /// cluster-node-timeout in milliseconds
    #[arg(long, default_value_t = 2000)]
    pub node_timeout: u64,
    /// A directive for all nodes
    #[arg(long, value_name = "DIRECTIVE=VALUE")]
    pub set: Vec<String>,
    /// Client addresses that the proxy shall know
    #[arg(long, default_value_t = 10)]
    pub clients: u16,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where its folder goes; removed at the end
    #[arg(long, default_value = "results")]
    pub out: PathBuf,
    /// Print the cluster as one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
pub fn run(args: ClusterArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        ClusterCommand::Create(args) => run_create(&args),
        ClusterCommand::Up(args) => run_local(up(args))?,
    }
}

fn run_create(args: &CreateArgs) -> anyhow::Result<ExitCode> {
    let mut addresses = Vec::new();
    for node in &args.nodes {
        match resolve(node) {
            Ok(address) => addresses.push(address),
            Err(error) => {
                eprintln!("error: {error:#}");
                return Ok(ExitCode::from(BAD_USAGE));
            }
        }
    }
    let plan = match layout(&args.nodes, &addresses, args.cluster_replicas) {
        Ok(members) => CreatePlan { members, timeout_ms: args.timeout * 1000, prove_replication: false },
        Err(why) => {
            eprintln!("error: {why}");
            return Ok(ExitCode::from(BAD_USAGE));
        }
    };
    print_layout(&plan);
    if !args.yes && !asked("Shall this cluster be made? (type 'yes' to accept): ")? {
        println!("Nothing was changed.");
        return Ok(ExitCode::from(NOT_MADE));
    }
    let outcome = run_local(async {
        let reach = PlainReach { timers: Timers::start(Instant::now()).context("no timer")? };
        anyhow::Ok(create(&reach, &plan, |step| println!("{}", sentence(&step))).await)
    })??;
    match outcome {
        Ok(created) => {
            println!(
                "All {} slots are covered, {} nodes agree.",
                crate::admin::parse::SLOTS,
                created.ids.len()
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("error: {error}");
            Ok(ExitCode::from(NOT_MADE))
        }
    }
}

fn resolve(node: &str) -> anyhow::Result<SocketAddr> {
    let mut found = node.to_socket_addrs().with_context(|| format!("{node:?} is no HOST:PORT"))?;
    found.next().with_context(|| format!("{node:?} has no address"))
}

/// The first nodes become masters; replicas follow, each under the master with the fewest that is, if that can be had,
/// on another host.
fn layout(names: &[String], addresses: &[SocketAddr], replicas: u16) -> Result<Vec<Member>, String> {
    let masters = addresses.len() / (usize::from(replicas) + 1);
    if masters < 3 {
        let need = 3 * (usize::from(replicas) + 1);
        return Err(format!(
            "a cluster needs at least 3 masters: with {replicas} replicas each that is {need} nodes, {} were given",
            addresses.len()
        ));
    }
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    if let Some([twice, ..]) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("{twice} was given twice"));
    }
    if let Some(high) = addresses.iter().find(|address| address.port() > 55_535) {
        return Err(format!(
            "{high}: the bus port would be {} (over 65535)",
            u32::from(high.port()) + 10_000
        ));
    }
    let mut followers = vec![0; masters];
    let mut members = Vec::with_capacity(addresses.len());
    for (index, address) in addresses.iter().enumerate() {
        let master = (index >= masters).then(|| {
            let place = |master: usize| (followers[master], addresses[master].ip() == address.ip(), master);
            let pick = (0..masters).min_by_key(|master| place(*master)).unwrap_or(0);
            followers[pick] += 1;
            pick
        });
        members.push(Member {
            name: names[index].clone(),
            address: *address,
            announced: *address,
            bus_port: address.port() + 10_000,
            master,
        });
    }
    Ok(members)
}

fn print_layout(plan: &CreatePlan) {
    let masters = plan.members.iter().filter(|member| member.master.is_none());
    let slots = even_slots(masters.clone().count() as u16);
    for (index, (member, (first, last))) in masters.zip(slots).enumerate() {
        println!("master  {}  slots {first}-{last}", member.address);
        for replica in plan.members.iter().filter(|it| it.master == Some(index)) {
            println!("  replica  {}", replica.address);
        }
    }
}

fn asked(question: &str) -> anyhow::Result<bool> {
    print!("{question}");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// What a step of the creation is called.
pub fn sentence(step: &Progress) -> String {
    let (at, text) = match step {
        Progress::Up { at } => (at, "every node answers".to_owned()),
        Progress::Assigned { at } => (at, "slots are dealt".to_owned()),
        Progress::Replicating { at } => (at, "every replica has its master".to_owned()),
        Progress::Introduced { at } => (at, "every node was told of every other".to_owned()),
        Progress::Missing { at, what } => (at, format!("waiting: {what}")),
        Progress::Whole { at } => (at, "the cluster is whole".to_owned()),
        Progress::Proven { at } => (at, "every replica acknowledged a write".to_owned()),
    };
    format!("{:7.3} s  {text}", *at as f64 / 1e9)
}

/// Servers anywhere, reached directly.
#[derive(Clone)]
struct PlainReach {
    timers: Timers,
}

impl Reach for PlainReach {
    type Mailbox = TcpMailbox;

    fn now(&self) -> u64 {
        self.timers.now()
    }

    fn sleep_until(&self, at: u64) -> impl Future<Output = ()> {
        self.timers.sleep_until(at)
    }

    fn mailbox(&self) -> TcpMailbox {
        TcpMailbox::new(Ipv4Addr::UNSPECIFIED, self.timers.clone())
    }
}

async fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    let opened =
        sut::directives(args.node_timeout, &args.set).map_err(StartError::from).and_then(|directives| {
            ProcessWorld::open(ProcessOptions {
                masters: args.masters,
                replicas: args.replicas,
                clients: args.clients,
                sut: args.sut.clone(),
                directives,
                seed: args.seed,
                results: args.out.clone(),
                name: "up".to_owned(),
                launcher: SELF_EXE.into(),
            })
        });
    let world = match opened {
        Ok(world) => world,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(ExitCode::from(if matches!(error, StartError::Sut(_)) {
                BAD_USAGE
            } else {
                NOT_MADE
            }));
        }
    };
    let verbose = !args.json;
    let mut interrupt = unix_signal(SignalKind::interrupt())?;
    let mut terminate = unix_signal(SignalKind::terminate())?;
    let outcome = tokio::select! {
        outcome = hold(&world, verbose) => outcome,
        _ = interrupt.recv() => Ok(ExitCode::SUCCESS),
        _ = terminate.recv() => Ok(ExitCode::SUCCESS),
    };
    world.stop().await;
    if let Err(error) = world.discard_folder() {
        eprintln!("warning: {error}");
    }
    outcome
}

/// The cluster as `--json` tells it.
#[derive(Serialize)]
struct Ready<'a> {
    #[serde(rename = "ready_ms")]
    took_ms: u64,
    network: u8,
    port: u16,
    keeper: u32,
    folder: &'a std::path::Path,
    nodes: Vec<ReadyNode>,
}

#[derive(Serialize)]
struct ReadyNode {
    pid: u32,
    #[serde(flatten)]
    info: NodeInfo,
}

async fn hold(world: &ProcessWorld, verbose: bool) -> anyhow::Result<ExitCode> {
    let brought = world.bring_up(|step| {
        if verbose {
            println!("{}", sentence(&step));
        }
    });
    let created = match brought.await {
        Ok(created) => created,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(ExitCode::from(NOT_MADE));
        }
    };
    announce(world, &created, verbose)?;
    let mut lines = stdin_lines();
    let mut cut = Vec::new();
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                None => return Ok(ExitCode::SUCCESS),
                Some(line) if line.trim() == "quit" => return Ok(ExitCode::SUCCESS),
                Some(line) if line.trim().is_empty() => {}
                Some(line) => match obey(world, &line, &mut cut).await {
                    Ok(answer) => println!("{answer}"),
                    Err(error) => println!("error: {error}"),
                },
            },
            () = lost_harness(world) => {
                eprintln!("error: {}", world.broken().unwrap_or_default());
                return Ok(ExitCode::from(NOT_MADE));
            }
        }
    }
}

/// Lines of stdin, from a thread of its own: the runtime's stdin would hold up the end until the next line.
fn stdin_lines() -> mpsc::UnboundedReceiver<String> {
    let (tell, told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

/// Resolves when the harness broke; a server that ended is the user's business here.
async fn lost_harness(world: &ProcessWorld) {
    while world.broken().is_none() {
        world.trouble().await;
    }
}

fn announce(world: &ProcessWorld, created: &Created, verbose: bool) -> anyhow::Result<()> {
    let pids = world.pids();
    let nodes = world.node_infos(created);
    if verbose {
        println!("ready in {:.3} s", created.took as f64 / 1e9);
        for (node, pid) in nodes.iter().zip(pids.values()) {
            let role = if node.master { "master " } else { "replica" };
            println!("{:>4}  {role}  {}  pid {pid}  {}", node.name, node.announced, node.version);
        }
        if std::io::stdin().is_terminal() {
            println!("nodes, isolate nX, heal, kill nX, term nX, stop nX, cont nX, start nX, wipe nX, quit");
        }
    } else {
        let ready = Ready {
            took_ms: created.took / 1_000_000,
            network: world.plan().t,
            port: world.plan().port,
            keeper: world.keeper_pid(),
            folder: world.run_path(),
            nodes: nodes
                .into_iter()
                .zip(pids.into_values())
                .map(|(info, pid)| ReadyNode { pid, info })
                .collect(),
        };
        println!("{}", serde_json::to_string(&ready)?);
    }
    std::io::stdout().flush()?;
    Ok(())
}

async fn obey(world: &ProcessWorld, line: &str, cut: &mut Vec<LinkChange>) -> anyhow::Result<String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let node = || -> anyhow::Result<u16> {
        let number = words.get(1).and_then(|word| word.strip_prefix('n')?.parse().ok());
        match number {
            Some(number) if (1..=world.nodes()).contains(&number) => Ok(number),
            _ => bail!("which node? n1 to n{}", world.nodes()),
        }
    };
    match words[0] {
        "nodes" => {
            let one = |node: u16| {
                format!("n{node} {} {:?}", world.address(node, SeenBy::Cluster), world.state(node))
            };
            return Ok((1..=world.nodes()).map(one).collect::<Vec<_>>().join("\n"));
        }
        "isolate" => {
            let changes = isolation(world, node()?);
            cut.extend(changes.iter().map(|change| LinkChange { policy: Policy::Pass, ..change.clone() }));
            let at = world.apply(changes).await?;
            return Ok(format!("ok at {:.3} s", at as f64 / 1e9));
        }
        "heal" => {
            let at = world.apply(std::mem::take(cut)).await?;
            return Ok(format!("ok at {:.3} s", at as f64 / 1e9));
        }
        "kill" => world.signal(node()?, Signal::Kill).await?,
        "term" => world.signal(node()?, Signal::Term).await?,
        "stop" => world.signal(node()?, Signal::Stop).await?,
        "cont" => world.signal(node()?, Signal::Continue).await?,
        "wipe" => world.wipe(node()?)?,
        "start" => return Ok(format!("ok pid {}", world.start(node()?).await?)),
        word => {
            bail!("{word:?} is no command: nodes, isolate, heal, kill, term, stop, cont, start, wipe, quit")
        }
    }
    Ok("ok".to_owned())
}

/// Every link of a node, both ways, to nodes and clients alike.
fn isolation(world: &ProcessWorld, node: u16) -> Vec<LinkChange> {
    let here = Endpoint::Node(node);
    let others = (1..=world.nodes()).filter(|other| *other != node).map(Endpoint::Node);
    let clients = (0..world.clients()).map(Endpoint::Client);
    others
        .chain(clients)
        .flat_map(|there| [(here, there), (there, here)])
        .map(|(from, to)| LinkChange {
            from,
            to,
            planes: Plane::ALL.to_vec(),
            policy: Policy::Blackhole { on_heal: OnHeal::Resume },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(addresses: &[&str], replicas: u16) -> Result<Vec<Option<usize>>, String> {
        let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let parsed: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Ok(layout(&names, &parsed, replicas)?.iter().map(|member| member.master).collect())
    }

    #[test]
    fn replicas_go_to_another_host_where_there_is_one() {
        let nodes = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.1:2", "10.0.0.2:2", "10.0.0.3:2"];
        let masters = laid(&nodes, 1).unwrap();
        assert_eq!(masters, [None, None, None, Some(1), Some(0), Some(2)]);
    }

    #[test]
    fn a_list_that_makes_no_cluster_is_refused_with_the_reason() {
        assert!(laid(&["10.0.0.1:1", "10.0.0.2:1"], 0).unwrap_err().contains("at least 3 masters"));
        assert!(laid(&["10.0.0.1:1", "10.0.0.1:1", "10.0.0.3:1"], 0).unwrap_err().contains("twice"));
        assert!(laid(&["10.0.0.1:60000", "10.0.0.2:1", "10.0.0.3:1"], 0).unwrap_err().contains("bus port"));
    }
}
