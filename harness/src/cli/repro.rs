//! `slotstorm repro` and `slotstorm shrink`: a finding again, and made small.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use slotstorm_checker::JudgeOptions;
use slotstorm_checker::record::verdict::Verdict;

use super::Failure;
use super::hunt::repro_text;
use super::run::{self, Backend};
use super::simulate::watch_interrupts;
use super::terminal::Terminal;
use crate::backend::process::run_local;
use crate::hunt::{self, Judged, shrink, signature, story};
use crate::plan::{Plan, StormFile};
use crate::verdict;

/// Replay a finding, and say how often it shows
#[derive(clap::Args)]
#[command(after_help = "Exit codes, for `git bisect run`: 1 the signature was seen, 0 it was not.")]
pub struct ReproArgs {
    /// The finding's file, or any storm file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 1)]
    times: u32,
    /// sim (exact) or process (real processes: the schedule is the same, the moments are not)
    #[arg(long, value_name = "BACKEND", default_value = "sim")]
    backend: Backend,
    /// With --backend process: another server under test
    #[arg(long, value_name = "SUT")]
    sut: Option<String>,
    /// Where runs on processes land
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
}

/// Make a finding smaller, and tell its story
#[derive(clap::Args)]
pub struct ShrinkArgs {
    /// A finding's file, or the folder of a run
    #[arg(value_name = "FILE|RUN")]
    path: PathBuf,
    /// Storms to try at most
    #[arg(long, value_name = "N", default_value_t = 300)]
    budget: u32,
    /// Where the small one is written [default: beside, as NAME.small.toml]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A finding's file: the storm and what it shows.
struct Finding {
    plan: Plan,
    signature: Option<String>,
}

impl Finding {
    fn read(path: &Path) -> Result<Self, Failure> {
        let of_run = path.join("repro.toml");
        let path = if path.is_dir() { &of_run } else { path };
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
        let file = StormFile::parse(&path.display().to_string(), &text)
            .map_err(|error| Failure::Usage(error.to_string()))?;
        let signature = file.signature.clone();
        let plan = Plan::from_file(file, 0).map_err(Failure::Usage)?;
        Ok(Self { plan, signature })
    }

    fn shows(&self, signatures: &[String]) -> bool {
        match &self.signature {
            Some(wanted) => signatures.contains(wanted),
            None => !signatures.is_empty(),
        }
    }
}

/// `slotstorm repro`.
pub fn repro(args: &ReproArgs) -> Result<ExitCode, Failure> {
    let mut finding = Finding::read(&args.file)?;
    if args.sut.is_some() && args.backend == Backend::Sim {
        return Err(Failure::Usage(
            "--sut needs --backend process: the simulator runs slotstorm's own node".into(),
        ));
    }
    if let Some(sut) = &args.sut {
        finding.plan.sut.clone_from(sut);
    }
    let stop = watch_interrupts();
    let (mut seen, mut tried) = (0, 0);
    let mut fingerprints = Vec::new();
    for time in 1..=args.times {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let signatures = match args.backend {
            Backend::Sim => {
                let judged = simulated(&finding.plan, &stop)?;
                fingerprints.push(judged.fingerprint);
                judged.signatures
            }
            Backend::Process => signature::of(&on_processes(&finding.plan, &args.out)?),
        };
        tried += 1;
        seen += u32::from(finding.shows(&signatures));
        let told = if signatures.is_empty() { "nothing".to_owned() } else { signatures.join("; ") };
        println!("{time:>4}  {told}");
    }
    let what = finding.signature.as_deref().unwrap_or("a failure");
    let (low, high) = interval(seen, tried);
    println!("reproduced {seen} of {tried} (95% interval {low:.0} to {high:.0} %): {what}");
    if let Some(first) = fingerprints.first() {
        let same = fingerprints.iter().all(|one| one == first);
        println!(
            "fingerprint {first}{}",
            if same { "" } else { ", but not every time: that is a bug of slotstorm" }
        );
    }
    Ok(ExitCode::from(u8::from(seen > 0)))
}

/// `slotstorm shrink`.
pub fn shrink(args: &ShrinkArgs) -> Result<ExitCode, Failure> {
    let mut finding = Finding::read(&args.path)?;
    let stop = watch_interrupts();
    let first = simulated(&finding.plan, &stop)?;
    if !finding.shows(&first.signatures) {
        let wanted = finding.signature.as_deref().unwrap_or("anything");
        println!("in the simulator it does not show {wanted}; it shows {:?}", first.signatures);
        return Ok(ExitCode::SUCCESS);
    }
    let signature = finding.signature.take().unwrap_or_else(|| first.signatures[0].clone());
    println!("shrinking: {signature} ({} faults)", finding.plan.schedule().len());
    let mut fails = |plan: &Plan| {
        !stop.load(Ordering::Relaxed)
            && hunt::judge(plan, &stop).is_ok_and(|judged| judged.signatures.contains(&signature))
    };
    let mut progress = |what: &str, plan: &Plan| {
        println!(
            "  {what:<16} {} faults, {} s, {} clients, {} ops/s, {}+{} nodes",
            plan.faults.len(),
            plan.duration_s,
            plan.clients,
            plan.rate,
            plan.masters,
            plan.masters * plan.replicas
        );
    };
    let small = shrink::shrink(&finding.plan, args.budget, &mut fails, &mut progress);
    let last = simulated(&small, &Arc::default())?;
    let output = args.output.clone().unwrap_or_else(|| small_name(&args.path));
    let story = story::tell(&last.record, &last.verdict);
    let mut text = repro_text(&small, &signature, Some(&last.fingerprint));
    text.push_str("\n# What happened:\n");
    for line in &story {
        text.extend(["# ", line, "\n"]);
    }
    fs::write(&output, &text).with_context(|| format!("cannot write {}", output.display()))?;
    println!("\n{text}\nwritten to {}", output.display());
    Ok(ExitCode::from(1))
}

fn small_name(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("small.toml") } else { path.with_extension("small.toml") }
}

fn simulated(plan: &Plan, stop: &Arc<AtomicBool>) -> Result<Judged, Failure> {
    hunt::judge(plan, stop).map_err(run::start_failure)
}

fn on_processes(plan: &Plan, results: &Path) -> Result<Verdict, Failure> {
    let plan = Rc::new(plan.clone());
    let terminal = Rc::new(Terminal::new(true, &plan));
    let text = plan.to_file().to_toml("a replay");
    let done = run_local(run::storm(results, Rc::clone(&plan), &text, &terminal))??;
    let done = done.ok_or_else(|| anyhow::anyhow!("interrupted before the cluster stood"))?;
    let options =
        JudgeOptions { interrupted: done.interrupted, harness_error: done.broken, ..JudgeOptions::default() };
    let verdict = verdict::judge_folder(&done.folder, &options)?;
    verdict::write(&done.folder, &verdict)?;
    Ok(verdict)
}

/// Wilson's interval of a proportion at 95%, in percent.
fn interval(seen: u32, tried: u32) -> (f64, f64) {
    if tried == 0 {
        return (0.0, 100.0);
    }
    let (k, n, z) = (f64::from(seen), f64::from(tried), 1.96_f64);
    let middle = (k + z * z / 2.0) / (n + z * z);
    let half = z / (n + z * z) * (k * (n - k) / n + z * z / 4.0).sqrt();
    ((middle - half).max(0.0) * 100.0, (middle + half).min(1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_is_that_of_the_textbooks() {
        let (low, high) = interval(17, 20);
        assert!((low - 64.0).abs() < 0.5 && (high - 94.8).abs() < 0.5, "{low} {high}");
        assert_eq!(interval(0, 0), (0.0, 100.0));
        assert!(interval(0, 20).0 < 1e-9);
    }
}
