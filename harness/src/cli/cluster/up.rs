//! `slotstorm cluster up`: starts a whole cluster of its own behind the proxy and holds it, with a small console on
//! stdin, for trying things by hand.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: stdin, processes

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use slotstorm_checker::record::NodeInfo;
use slotstorm_fabric::{Endpoint, LinkChange, OnHeal, Plane, Policy};
use tokio::signal::unix::{SignalKind, signal as unix_signal};
use tokio::sync::mpsc;

use crate::admin::create::{Created, Progress};
use crate::backend::process::sut::{self, Sut};
use crate::backend::process::{ProcessOptions, ProcessWorld, SELF_EXE, StartError, run_local};
use crate::backend::{SeenBy, Signal, World};
use crate::cli::{BROKEN as NOT_MADE, USAGE as BAD_USAGE};

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

/// Runs the verb.
pub fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    run_local(up(args))?
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
                mutation: None,
                seed: args.seed,
                clocks: false,
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
