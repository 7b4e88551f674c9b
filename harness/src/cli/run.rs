//! `slotstorm run`: plan, cluster, storm, verdict, report.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use slotstorm_checker::JudgeOptions;
use slotstorm_checker::record::verdict::Verdict;
use slotstorm_checker::record::{Expect, NodeInfo, RunInfo};

use super::interrupt::Interrupt;
use super::simulate::{self, SimulateArgs};
use super::terminal::Terminal;
use super::{BROKEN, Failure};
use super::{faults, screen};
use crate::backend::process::folder::Utc;
use crate::backend::process::sut::{self, Sut};
use crate::backend::process::{
    LiveVerdict, ProcessOptions, ProcessWorld, SELF_EXE, StartError, binary_sha256, host_line, run_local,
};
use crate::driver::Run;
use crate::plan::{Directive, EXAMPLE, Kind, PRESETS, Plan, StormFile};
use crate::verdict;

const EXAMPLES: &str = "Examples:
  slotstorm run                                                  60 s of the preset `failover`
  slotstorm run --sut /usr/bin/redis-server --seed 7             an unmodified redis-server, a chosen storm
  slotstorm run --sut embedded:3,/usr/bin/redis-server:3         a mixed cluster
  slotstorm run --preset partitions --duration 120 --expect strict
  slotstorm run results/latest/repro.toml                        the last run once more
  slotstorm run --backend sim --seed 7                           in virtual time, far faster than real time
  slotstorm run --set appendfsync=always --set cluster-require-full-coverage=yes";

/// Start a cluster, storm it, judge what happened. Flags go before the storm file's words.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\nA storm file:\n\n{EXAMPLE}"))]
pub struct RunArgs {
    /// A storm file: schedule of faults, topology, clients (see results/latest/storm.toml for one)
    #[arg(value_name = "STORM.toml")]
    storm: Option<PathBuf>,
    /// Make the schedule from a preset and the seed [default: failover]
    #[arg(long, value_name = "NAME", conflicts_with = "storm")]
    preset: Option<String>,
    /// List the presets and end
    #[arg(long)]
    list_presets: bool,
    /// The server under test: embedded, a path, or a mix such as embedded:3,PATH:3 [default: embedded]
    #[arg(long, value_name = "SUT")]
    sut: Option<String>,
    /// Where the storm happens: process (real processes behind the proxy) or sim (virtual time; a seed replays exactly)
    #[arg(long, value_name = "BACKEND", default_value = "process")]
    backend: Backend,
    /// With --backend sim: run it again in a second process and compare the fingerprints
    #[arg(long)]
    verify_determinism: bool,
    /// Start every server with this directive (`failover-timing` goes to Slotstorm's own node only); may be given several
    /// times
    #[arg(long, value_name = "DIRECTIVE=VALUE")]
    set: Vec<String>,
    /// What the clients do: set, append, register, counter, queue, lock, transfer, txn, wait, replica-reads, expiry,
    /// multi-key or mixed [default: set]
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Masters [default: 3]
    #[arg(long, value_name = "N")]
    masters: Option<u16>,
    /// Replicas of each master [default: 1]
    #[arg(long, value_name = "N")]
    replicas: Option<u16>,
    /// cluster-node-timeout in milliseconds [default: 2000]
    #[arg(long, value_name = "MS")]
    node_timeout: Option<u64>,
    /// How long clients run, in seconds [default: 60]
    #[arg(long, value_name = "SECS")]
    duration: Option<f64>,
    /// Operations per second of all clients together, whatever becomes of them [default: 1000]
    #[arg(long, value_name = "OPS")]
    rate: Option<f64>,
    /// Clients [default: 10]
    #[arg(long, value_name = "N")]
    clients: Option<u16>,
    /// Seed of everything random [default: a fresh one, printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// What must hold: redis (losses inside documented windows are counted), wait, strict [default: redis]
    #[arg(long, value_name = "LEVEL", value_parser = expect)]
    expect: Option<Expect>,
    /// Invalid if a shard is out for longer than this, in seconds
    #[arg(long, value_name = "SECS")]
    max_outage: Option<f64>,
    /// Invalid if the cluster is available for less than this, in percent
    #[arg(long, value_name = "PCT")]
    min_availability: Option<f64>,
    /// The seed draws which of the preset's kinds of faults there are at all
    #[arg(long)]
    swarm: bool,
    /// Unknown unless this happened: "2 failovers", "kill", "pause on voter", "isolate on master in election" (repeatable)
    #[arg(long, value_name = "WHAT")]
    require: Vec<String>,
    /// What every kind of fault does, does not do, and what undoes it; or one kind
    #[arg(long, value_name = "KIND", num_args = 0..=1, default_missing_value = "all")]
    list_faults: Option<String>,
    /// Give every embedded node this bug of the zoo (a build with `--features zoo`)
    #[arg(long, value_name = "NAME", hide = true)]
    mutation: Option<String>,
    /// Where runs land
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// Print the verdict only, as JSON
    #[arg(long)]
    json: bool,
}

/// Where a storm happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Backend {
    Process,
    Sim,
}

fn expect(text: &str) -> Result<Expect, String> {
    match text {
        "redis" => Ok(Expect::Redis),
        "wait" => Ok(Expect::Wait),
        "strict" => Ok(Expect::Strict),
        _ => Err("expected redis, wait or strict".into()),
    }
}

/// What of the run is known when the processes are gone.
pub(super) struct Done {
    pub folder: PathBuf,
    pub interrupted: bool,
    pub broken: Option<String>,
    /// What the judge of the bus said that ran beside the storm.
    pub live: Option<LiveVerdict>,
}

/// Between two looks at what the judge of the bus found.
const VIOLATIONS_EVERY: Duration = Duration::from_millis(100);

/// Runs a storm.
pub fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    if let Some(kind) = &args.list_faults {
        return faults::list(kind);
    }
    if args.verify_determinism && args.backend != Backend::Sim {
        return Err(Failure::Usage("--verify-determinism is of --backend sim: processes are not".to_owned()));
    }
    if args.list_presets {
        for preset in PRESETS {
            println!("{:<12} {}", preset.name, preset.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (plan, storm_text) = plan(args)?;
    let plan = Rc::new(plan);
    let terminal = Rc::new(Terminal::new(args.json, &plan));
    let done = match args.backend {
        Backend::Process => run_local(storm(&args.out, Rc::clone(&plan), &storm_text, &terminal))??,
        Backend::Sim => {
            let sim = SimulateArgs { results: args.out.clone(), verify_determinism: args.verify_determinism };
            Some(simulate::storm(&sim, &plan, &storm_text, &terminal)?)
        }
    };
    let Some(done) = done else {
        terminal.line("interrupted before the cluster stood: there is nothing to judge");
        return Ok(ExitCode::from(2));
    };
    terminal.judging();
    let how_it_ended =
        JudgeOptions { interrupted: done.interrupted, harness_error: done.broken, ..JudgeOptions::default() };
    let verdict = verdict::judge_folder(&done.folder, &how_it_ended)?;
    verdict::write(&done.folder, &verdict)?;
    if let (Some(live), Some(stored)) = (&done.live, &verdict.checks.invariants.wire)
        && live.wire.rules != stored.rules
    {
        // The verdict is the record's. Lines that could not wait for the history are the one reason known.
        eprintln!(
            "slotstorm: the judge beside the storm saw {:?}, the record's {:?} ({} lines were judged in haste)",
            live.wire.rules, stored.rules, live.hasty
        );
    }
    let drawn = draw(&done.folder);
    terminal.finish();
    show(args, &done.folder, &verdict)?;
    if let Err(error) = drawn {
        eprintln!("slotstorm: the report could not be drawn: {error:#}");
        return Ok(ExitCode::from(if verdict.exit_code == 1 { 1 } else { BROKEN }));
    }
    Ok(ExitCode::from(verdict.exit_code as u8))
}

fn show(args: &RunArgs, folder: &Path, verdict: &Verdict) -> Result<(), Failure> {
    if args.json {
        println!("{}", serde_json::to_string_pretty(verdict)?);
    } else {
        screen::print(folder, verdict);
    }
    Ok(())
}

/// Latency log, plots and page.
fn draw(folder: &Path) -> anyhow::Result<()> {
    verdict::write_latency(folder)?;
    crate::report::write(folder)
}

/// A seed that nobody chose: 32 bits, so that it is easily read out and typed.
pub(super) fn fresh_seed() -> anyhow::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 4];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("no entropy")?;
    Ok(u64::from(u32::from_le_bytes(bytes)))
}

/// The plan, and the text of the storm file that it was made from.
fn plan(args: &RunArgs) -> Result<(Plan, String), Failure> {
    let usage = Failure::Usage;
    let (mut file, given) = match &args.storm {
        Some(path) => {
            let text = fs::read_to_string(path)
                .map_err(|error| usage(format!("cannot read {}: {error}", path.display())))?;
            let file = StormFile::parse(&path.display().to_string(), &text)
                .map_err(|error| usage(error.to_string()))?;
            (file, Some(text))
        }
        None => (StormFile::default(), None),
    };
    let origin = args.storm.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default();
    fn put<T: Clone>(slot: &mut Option<T>, value: Option<&T>) {
        if let Some(value) = value {
            *slot = Some(value.clone());
        }
    }
    put(&mut file.preset, args.preset.as_ref());
    put(&mut file.sut, args.sut.as_ref());
    put(&mut file.workload, args.workload.as_ref());
    put(&mut file.masters, args.masters.as_ref());
    put(&mut file.replicas, args.replicas.as_ref());
    put(&mut file.node_timeout_ms, args.node_timeout.as_ref());
    put(&mut file.duration_s, args.duration.as_ref());
    put(&mut file.rate, args.rate.as_ref());
    put(&mut file.clients, args.clients.as_ref());
    put(&mut file.seed, args.seed.as_ref());
    put(&mut file.expect, args.expect.as_ref());
    put(&mut file.mutation, args.mutation.as_ref());
    put(&mut file.max_outage_s, args.max_outage.as_ref());
    put(&mut file.min_availability_pct, args.min_availability.as_ref());
    if args.swarm {
        file.swarm = Some(true);
    }
    file.require.extend(args.require.iter().cloned());
    for word in &args.set {
        let (name, value) = word
            .split_once('=')
            .ok_or_else(|| usage(format!("--set takes DIRECTIVE=VALUE, not \"{word}\"")))?;
        file.set.insert(name.trim().to_ascii_lowercase(), Directive::Text(value.to_owned()));
    }
    let fresh = fresh_seed()?;
    let plan = Plan::from_file(file, fresh).map_err(|error| usage(format!("{origin}{error}")))?;
    let text = given.unwrap_or_else(|| {
        plan.to_file().to_toml(&format!("made from the preset `{}` and seed {}", plan.name, plan.seed))
    });
    Ok((plan, text))
}

/// Brings the cluster up, storms it and takes it down; `None` if the user ended it before the storm began.
pub(super) async fn storm(
    results: &Path,
    plan: Rc<Plan>,
    storm_text: &str,
    terminal: &Rc<Terminal>,
) -> Result<Option<Done>, Failure> {
    let sut: Sut = plan.sut.parse().map_err(|error: sut::SutError| Failure::Usage(error.to_string()))?;
    let set: Vec<String> = plan.directives.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let directives =
        sut::directives(plan.node_timeout_ms, &set).map_err(|error| Failure::Usage(error.to_string()))?;
    let interrupt = Interrupt::listen();

    let world = ProcessWorld::open(ProcessOptions {
        masters: plan.masters,
        replicas: plan.replicas,
        clients: plan.clients,
        sut,
        directives: directives.clone(),
        mutation: plan.mutation.clone(),
        seed: plan.seed,
        clocks: plan.faults.iter().any(|fault| matches!(fault.kind, Kind::Clock { .. })),
        results: results.to_owned(),
        name: plan.name.clone(),
        launcher: SELF_EXE.into(),
    })
    .map_err(start_failure)?;
    terminal.begin(&plan);
    let started = Utc::now().rfc3339();
    write_plan(world.run_path(), &plan, storm_text)?;
    let created = tokio::select! {
        created = world.bring_up(|progress| terminal.creating(&progress)) => created,
        () = interrupt.asked() => {
            world.stop().await;
            world.discard_folder()?;
            return Ok(None);
        }
    };
    let created = match created {
        Ok(created) => created,
        Err(error) => {
            world.stop().await;
            let failure = start_failure(error);
            // The servers' logs tell more than we can: the folder stays.
            let kept = world.finish_folder(true)?;
            return Err(match failure {
                Failure::Usage(text) => Failure::Usage(text),
                Failure::Broken(error) => {
                    Failure::Broken(error.context(format!("logs are in {}", kept.display())))
                }
            });
        }
    };
    let info = run_info(&plan, world.node_infos(&created), started, directives)?;
    fs::write(world.run_path().join("run.json"), serde_json::to_string_pretty(&info)?)
        .context("cannot write run.json")?;
    terminal.ready(&info, created.took);

    let (asked, watched) = (interrupt.clone(), world.clone());
    let run = Run {
        world: world.clone(),
        plan: Rc::clone(&plan),
        nodes: info.nodes,
        listener: Rc::clone(terminal) as Rc<dyn crate::driver::Listener>,
        interrupted: Rc::new(move || asked.is_asked() || watched.broken().is_some()),
    };
    let showing = tokio::task::spawn_local(show_violations(world.clone(), Rc::clone(terminal)));
    let carried_out = run.carry_out().await;
    showing.abort();
    world.stop().await;
    let folder = world.finish_folder(false)?;
    if let Ok(outcome) = &carried_out
        && let Some(missing) = &outcome.not_converged
    {
        terminal.line(&format!("  the cluster did not become whole: {missing}"));
    }
    let broken = carried_out.err().map(|error| error.to_string()).or_else(|| world.broken());
    Ok(Some(Done { folder, interrupted: interrupt.is_asked(), broken, live: world.live_verdict() }))
}

/// Tells of broken rules when they are seen.
async fn show_violations(world: ProcessWorld, terminal: Rc<Terminal>) {
    loop {
        tokio::time::sleep(VIOLATIONS_EVERY).await;
        for finding in &world.violations() {
            terminal.violation(finding);
        }
    }
}

pub(super) fn start_failure(error: StartError) -> Failure {
    match error {
        StartError::Sut(_) | StartError::Mutation(_) => Failure::Usage(error.to_string()),
        error => Failure::Broken(error.into()),
    }
}

/// What a replay needs, before anything can go wrong.
pub(super) fn write_plan(folder: &Path, plan: &Plan, storm_text: &str) -> anyhow::Result<()> {
    fs::write(folder.join("storm.toml"), storm_text).context("cannot write storm.toml")?;
    let comment = "All that a replay needs: slotstorm run repro.toml";
    fs::write(folder.join("repro.toml"), plan.to_file().to_toml(comment)).context("cannot write repro.toml")
}

/// All of `run.json`: the plan, and what is known of this process and machine.
fn run_info(
    plan: &Plan,
    nodes: Vec<NodeInfo>,
    started: String,
    directives: std::collections::BTreeMap<String, String>,
) -> anyhow::Result<RunInfo> {
    let info = RunInfo { started, directives, ..plan.run_info(nodes) };
    of_this_process(info)
}

/// Fills in what is known of this process and machine.
pub(super) fn of_this_process(info: RunInfo) -> anyhow::Result<RunInfo> {
    Ok(RunInfo {
        backend: if info.backend.is_empty() { "process".to_owned() } else { info.backend },
        binary_sha256: binary_sha256().context("cannot read this binary")?,
        version: env!("CARGO_PKG_VERSION").into(),
        host: host_line(),
        command: std::env::args().collect(),
        ..info
    })
}
