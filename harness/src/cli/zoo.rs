//! `slotstorm zoo`: does the harness find bugs that were put there on purpose, and is it silent about a node without?

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use slotstorm_sim::zoo::{SPECIMENS, Specimen, Zoo};

use super::Failure;
use crate::hunt::{self, swarm};
use crate::plan::Plan;

/// Hunt bugs that were put into the node on purpose, and print which were found
#[derive(clap::Args)]
pub struct ZooArgs {
    /// Storms for each bug; the healthy node gets ten times as many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    budget: u64,
    /// Only these bugs; `healthy` is the node without any
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    first_seed: u64,
    /// Storms at once [default: one a core]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// List the bugs and end
    #[arg(long)]
    list: bool,
    /// Where the table lands
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
}

/// The first storm that showed a bug, by its number, and what fired in it.
type Found = Arc<Mutex<Option<(u64, Vec<String>)>>>;

/// What became of one bug.
struct Hunted {
    /// Storms until it was found.
    storms: Option<u64>,
    /// What fired.
    signatures: Vec<String>,
    took_s: f64,
}

/// Hunts them all.
pub fn run(args: &ZooArgs) -> Result<ExitCode, Failure> {
    if args.list {
        for one in SPECIMENS {
            println!("{:<28} {:<22} {} -> {}", one.name, one.source, one.about, one.fires);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !Zoo::IS_OPEN {
        return Err(Failure::Usage(
            "this build has no bugs on purpose: cargo run --features zoo -- zoo".into(),
        ));
    }
    let mut table =
        String::from("| bug | source | must fire | storms needed | fired | s |\n|---|---|---|---|---|---|\n");
    let (mut right, mut all) = (0, 0);
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|one| one == name);
    for specimen in SPECIMENS.iter().filter(|specimen| wanted(specimen.name)) {
        let hunted = hunt_one(args, Some(specimen), args.budget);
        all += 1;
        right += u32::from(is_right(specimen, &hunted));
        row(&mut table, specimen.name, specimen.source, specimen.fires, &hunted, args.budget);
    }
    if wanted("healthy") {
        let hunted = hunt_one(args, None, args.budget * 10);
        all += 1;
        right += u32::from(hunted.storms.is_none());
        row(&mut table, "healthy", "control", "", &hunted, args.budget * 10);
    }
    println!("{right} of {all} as they should be");
    let folder = args.out.join("zoo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("table.md");
    fs::write(&path, &table).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(ExitCode::from(u8::from(right < all)))
}

fn is_right(specimen: &Specimen, hunted: &Hunted) -> bool {
    if specimen.fires.is_empty() { hunted.storms.is_none() } else { hunted.storms.is_some() }
}

fn row(table: &mut String, name: &str, source: &str, fires: &str, hunted: &Hunted, budget: u64) {
    let storms = hunted.storms.map_or_else(|| format!("none in {budget}"), |storms| storms.to_string());
    let fired = hunted.signatures.join("; ");
    println!("{name:<28} {storms:<14} {fired} ({:.0} s)", hunted.took_s);
    // Writing to a string does not fail.
    let _ = writeln!(table, "| {name} | {source} | {fires} | {storms} | {fired} | {:.0} |", hunted.took_s);
}

/// Runs storms until one shows what must fire (of a bug that may show nothing: anything), or the budget is used up.
fn hunt_one(args: &ZooArgs, specimen: Option<&'static Specimen>, budget: u64) -> Hunted {
    let began = Instant::now();
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let next = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let found: Found = Arc::default();
    let first_seed = args.first_seed;
    let threads: Vec<_> = (0..jobs.max(1))
        .map(|_| {
            let (next, stop, found) = (Arc::clone(&next), Arc::clone(&stop), Arc::clone(&found));
            std::thread::spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= budget || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut file = swarm::storm(first_seed + number);
                    file.mutation = specimen.map(|specimen| specimen.name.to_owned());
                    let plan = Plan::from_file(file, first_seed);
                    let Some(signatures) = plan.ok().map(|plan| fired(&plan)) else { continue };
                    let fires = specimen.map_or("", |specimen| specimen.fires);
                    if !signatures.is_empty() && is_wanted(&signatures, fires) {
                        stop.store(true, Ordering::Relaxed);
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        if found.as_ref().is_none_or(|(other, _)| number < *other) {
                            *found = Some((number, signatures));
                        }
                        return;
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        // A storm that panicked has found nothing; the hook has said so.
        let _ = thread.join();
    }
    let found = found.lock().unwrap_or_else(PoisonError::into_inner).take();
    let took_s = began.elapsed().as_secs_f64();
    match found {
        Some((number, signatures)) => Hunted { storms: Some(number + 1), signatures, took_s },
        None => Hunted { storms: None, signatures: Vec::new(), took_s },
    }
}

fn fired(plan: &Plan) -> Vec<String> {
    // Each storm is run to its end: another thread's finding says nothing of this one.
    match hunt::judge(plan, &Arc::default()) {
        Ok(judged) => judged.signatures,
        // A bug may keep the cluster from being made: that is no finding of a check.
        Err(error) => {
            tracing::debug!("seed {}: {error}", plan.seed);
            Vec::new()
        }
    }
}

/// True if a check fired that the catalogue names; where it names none, any is one too many.
fn is_wanted(signatures: &[String], fires: &str) -> bool {
    let checks: Vec<&str> = fires.split(", ").filter(|check| !check.is_empty()).collect();
    checks.is_empty()
        || signatures.iter().any(|signature| checks.iter().any(|check| signature.starts_with(check)))
}
