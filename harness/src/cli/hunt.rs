//! `slotstorm hunt`: many simulated storms on all cores; what they find, grouped by signature, one small file each.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::Failure;
use super::crowd::{self, Answer};
use super::interrupt::Interrupt;
use crate::backend::process::binary_sha256;
use crate::hunt::swarm::{self, SWARM};
use crate::hunt::{self, Origin, repro_text};
use crate::plan::{Directive, Plan, StormFile};
use crate::verdict::signature;

const EXAMPLES: &str = "Examples:
  slotstorm hunt                                       1000 storms of all presets
  slotstorm hunt --preset failover --seeds 5000..6000  these seeds
  slotstorm hunt --for 10m --workload append           as many as ten minutes allow
  slotstorm repro results/hunts/swarm/lost-writes-unexplained.toml

Interrupted or ended, the same command goes on where it stopped. Exit codes: 1 something was found, 0 nothing was.";

/// Run many storms in the simulator and collect what they find
#[derive(clap::Args, Clone)]
#[command(after_help = EXAMPLES)]
pub struct HuntArgs {
    /// Which faults: a preset, or `swarm`: another preset, workload and topology for each seed
    #[arg(long, value_name = "NAME", default_value = SWARM)]
    preset: String,
    /// What the clients do
    #[arg(long, value_name = "NAME", default_value = "set")]
    workload: String,
    /// The storms' seeds, the second one excluded
    #[arg(long, value_name = "A..B", default_value = "0..1000", value_parser = seeds)]
    seeds: (u64, u64),
    /// End after this time, such as 90s, 10m or 2h; seeds go on beyond B then
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    time: Option<Duration>,
    /// Storms at once [default: one a core]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Give every node this bug of the zoo (a build with `--features zoo`)
    #[arg(long, value_name = "NAME")]
    mutation: Option<String>,
    /// End as soon as so many storms have found something
    #[arg(long, value_name = "N")]
    until_found: Option<u64>,
    /// How long clients run in each storm, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 60.0)]
    duration: f64,
    /// Operations per second
    #[arg(long, value_name = "OPS", default_value_t = 200.0)]
    rate: f64,
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 10)]
    clients: u16,
    /// Masters
    #[arg(long, value_name = "N", default_value_t = 3)]
    masters: u16,
    /// Replicas of each master
    #[arg(long, value_name = "N", default_value_t = 1)]
    replicas: u16,
    /// cluster-node-timeout in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    node_timeout: u64,
    /// Start every server with this directive (`failover-timing` goes to Slotstorm's own node only); may be given several
    /// times
    #[arg(long, value_name = "DIRECTIVE=VALUE")]
    set: Vec<String>,
    /// Where results land
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let bad = || "expected A..B, such as 0..1000".to_owned();
    let (from, to) = text.split_once("..").ok_or_else(bad)?;
    let (from, to) = (from.parse().map_err(|_| bad())?, to.parse().map_err(|_| bad())?);
    if from < to { Ok((from, to)) } else { Err(bad()) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let scale = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("expected a number with s, m or h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a number with s, m or h".to_owned())?;
    Ok(Duration::from_secs(number * scale))
}

impl HuntArgs {
    /// The storm of one seed.
    fn plan(&self, seed: u64) -> Result<Plan, String> {
        if self.preset == SWARM {
            let file = StormFile { mutation: self.mutation.clone(), ..swarm::storm(seed) };
            return Plan::from_file(file, seed);
        }
        let mut file = StormFile {
            preset: Some(self.preset.clone()),
            mutation: self.mutation.clone(),
            seed: Some(seed),
            workload: Some(self.workload.clone()),
            duration_s: Some(self.duration),
            rate: Some(self.rate),
            clients: Some(self.clients),
            masters: Some(self.masters),
            replicas: Some(self.replicas),
            node_timeout_ms: Some(self.node_timeout),
            ..StormFile::default()
        };
        for word in &self.set {
            let (name, value) =
                word.split_once('=').ok_or_else(|| format!("--set takes DIRECTIVE=VALUE, not \"{word}\""))?;
            file.set.insert(name.trim().to_ascii_lowercase(), Directive::Text(value.to_owned()));
        }
        Plan::from_file(file, seed)
    }

    fn folder(&self) -> PathBuf {
        let mutation = self.mutation.as_deref().map(|name| format!("-{name}")).unwrap_or_default();
        // A swarm has workloads of its own.
        let workload = if self.preset == SWARM { String::new() } else { format!("-{}", self.workload) };
        self.out.join("hunts").join(format!("{}{workload}{mutation}", self.preset))
    }
}

/// How far a hunt has come; in its folder, so that it can go on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// Of the binary that hunted: another one begins anew.
    binary_sha256: String,
    /// What else makes a storm besides its seed.
    storm: String,
    /// Seeds that were run: from, to (excluded).
    done: Vec<(u64, u64)>,
    /// Storms by signature.
    found: BTreeMap<String, Vec<u64>>,
    /// Storms that could not be made, and why.
    broken: Vec<(u64, String)>,
    /// Seconds of work, of all cores together.
    busy_s: f64,
}

impl Progress {
    fn add(&mut self, seed: u64) {
        self.done.push((seed, seed + 1));
        self.done.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (from, to) in self.done.drain(..) {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        self.done = merged;
    }

    fn storms(&self) -> u64 {
        self.done.iter().map(|(from, to)| to - from).sum()
    }
}

/// What one storm came to: signatures and fingerprint, or why there was no storm.
type Outcome = Result<(Vec<String>, String), String>;

/// Hunts.
pub fn run(args: &HuntArgs) -> Result<ExitCode, Failure> {
    // Whatever is wrong with the arguments is wrong with every storm.
    args.plan(args.seeds.0).map_err(Failure::Usage)?;
    let folder = args.folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut progress = load(args, &folder)?;
    let before = progress.storms();
    let stop = Interrupt::listen().flag();
    let found_before: u64 = progress.found.values().map(|seeds| seeds.len() as u64).sum();
    if before > 0 {
        println!("going on: {before} storms were run already ({})", folder.display());
    }
    let began = Instant::now();
    let bar = bar(args);
    let mut since_saved = Instant::now();
    let mut found = found_before;
    let wanted = args.until_found.unwrap_or(u64::MAX);
    if found < wanted {
        for answer in storms(args, &progress, &stop) {
            progress.add(answer.seed);
            progress.busy_s += answer.took.as_secs_f64();
            match answer.outcome {
                Err(why) => progress.broken.push((answer.seed, why)),
                Ok((signatures, fingerprint)) => {
                    if let Some(first) = signatures.first() {
                        found += 1;
                        keep(args, &folder, answer.seed, first, &fingerprint)?;
                        let seeds = progress.found.entry(first.clone()).or_default();
                        if seeds.is_empty() {
                            tell(
                                bar.as_ref(),
                                &format!("  seed {:<8} {}", answer.seed, signatures.join("; ")),
                            );
                        }
                        seeds.push(answer.seed);
                    }
                }
            }
            let storms = progress.storms() - before;
            if let Some(bar) = &bar {
                bar.set_position(storms);
                let rate = storms as f64 / began.elapsed().as_secs_f64();
                bar.set_message(format!(
                    "{rate:.1} storms/s, {found} found, {} signatures",
                    progress.found.len()
                ));
            }
            if since_saved.elapsed() > Duration::from_secs(5) {
                save(&folder, &progress)?;
                since_saved = Instant::now();
            }
            if found >= wanted || args.time.is_some_and(|time| began.elapsed() >= time) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    save(&folder, &progress)?;
    report(&folder, &progress, before, began.elapsed());
    if !progress.broken.is_empty() && progress.found.is_empty() {
        return Err(Failure::Broken(anyhow::anyhow!("{} storms could not be made", progress.broken.len())));
    }
    Ok(ExitCode::from(u8::from(!progress.found.is_empty())))
}

fn bar(args: &HuntArgs) -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = match args.time {
            None => ProgressBar::new(args.seeds.1 - args.seeds.0),
            Some(_) => ProgressBar::no_length(),
        };
        let style = ProgressStyle::with_template("  {bar:20.cyan/blue} {pos}/{len} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    })
}

fn tell(bar: Option<&ProgressBar>, text: &str) {
    match bar {
        Some(bar) => bar.suspend(|| println!("{text}")),
        None => println!("{text}"),
    }
}

/// Runs the storms that are left, on threads of their own; ends when all are done or `stop` is set.
fn storms(
    args: &HuntArgs,
    progress: &Progress,
    stop: &Arc<AtomicBool>,
) -> impl Iterator<Item = Answer<Outcome>> + use<> {
    let last = if args.time.is_some() { u64::MAX } else { args.seeds.1 };
    let done = progress.done.clone();
    let is_done = move |seed| done.iter().any(|(from, to)| (*from..*to).contains(&seed));
    let (args_of_all, asked) = (args.clone(), Arc::clone(stop));
    crowd::run(args.seeds.0..last, is_done, args.jobs, stop, move |seed| {
        let outcome = one(&args_of_all, seed, &asked);
        // A storm that was cut short says nothing of its seed.
        (!asked.load(Ordering::Relaxed)).then_some(outcome)
    })
}

fn one(args: &HuntArgs, seed: u64, stop: &Arc<AtomicBool>) -> Outcome {
    let plan = args.plan(seed)?;
    let judged = hunt::judge(&plan, stop).map_err(|error| error.to_string())?;
    Ok((judged.signatures, judged.fingerprint))
}

/// Writes the finding's file, unless its signature has one.
fn keep(args: &HuntArgs, folder: &Path, seed: u64, signature: &str, fingerprint: &str) -> anyhow::Result<()> {
    let path = folder.join(format!("{}.toml", signature::slug(signature)));
    if path.exists() {
        return Ok(());
    }
    let plan = args.plan(seed).map_err(anyhow::Error::msg)?;
    fs::write(&path, repro_text(&plan, signature, Some(fingerprint), &Origin::default()))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn load(args: &HuntArgs, folder: &Path) -> anyhow::Result<Progress> {
    let storm = StormFile { seed: None, faults: None, ..args.plan(0).map_err(anyhow::Error::msg)?.to_file() };
    let fresh = Progress {
        binary_sha256: binary_sha256().context("cannot read this binary")?,
        storm: storm.to_toml(""),
        ..Progress::default()
    };
    let path = folder.join("progress.json");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(fresh) };
    let old: Progress = serde_json::from_str(&text)
        .with_context(|| format!("{} is no hunt's progress; move it away to begin anew", path.display()))?;
    if old.binary_sha256 == fresh.binary_sha256 && old.storm == fresh.storm {
        return Ok(old);
    }
    println!("the hunt in {} was of another binary or other storms: it begins anew", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            fs::remove_file(path)?;
        }
    }
    Ok(fresh)
}

fn save(folder: &Path, progress: &Progress) -> anyhow::Result<()> {
    let (path, fresh) = (folder.join("progress.json"), folder.join(".progress.json"));
    fs::write(&fresh, serde_json::to_string_pretty(progress)?)?;
    fs::rename(&fresh, &path).with_context(|| format!("cannot write {}", path.display()))
}

fn report(folder: &Path, progress: &Progress, before: u64, took: Duration) {
    let storms = progress.storms();
    println!(
        "{} storms in {:.1} s ({storms} in all), {:.2} s of one core each",
        storms - before,
        took.as_secs_f64(),
        progress.busy_s / (storms.max(1) as f64)
    );
    for (signature, seeds) in &progress.found {
        let first = seeds.iter().min().copied().unwrap_or_default();
        let file = folder.join(format!("{}.toml", signature::slug(signature)));
        println!(
            "FOUND  {:>6} x  {signature} (first seed {first})\n         {}",
            seeds.len(),
            file.display()
        );
    }
    for (seed, why) in progress.broken.iter().take(5) {
        println!("broken  seed {seed}: {why}");
    }
    if progress.found.is_empty() {
        println!("nothing found");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_remembers_every_seed_in_few_ranges() {
        let mut progress = Progress::default();
        for seed in [5, 3, 4, 9, 6] {
            progress.add(seed);
        }
        assert_eq!(progress.done, [(3, 7), (9, 10)]);
        assert_eq!(progress.storms(), 5);
    }

    #[test]
    fn seeds_and_durations_are_read_or_refused() {
        assert_eq!(seeds("3..7"), Ok((3, 7)));
        assert!(seeds("7..3").is_err() && seeds("7").is_err());
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert!(duration("10 parsecs").is_err());
    }
}
