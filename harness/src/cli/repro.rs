//! `slotstorm repro` and `slotstorm shrink`: a finding again, and made small.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use slotstorm_checker::JudgeOptions;

use super::Failure;
use super::interrupt::Interrupt;
use super::run::{self, Backend};
use super::terminal::Terminal;
use crate::backend::process::run_local;
use crate::campaign::statistics::wilson;
use crate::hunt::{self, Judged, Origin, Trial};
use crate::plan::{Plan, StormFile};
use crate::verdict::{self, signature};

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
    /// Storms to try at most [default: 300; on processes 40]
    #[arg(long, value_name = "N")]
    budget: Option<u32>,
    /// sim (exact) or process (real processes: a smaller storm is run several times, and a vote is taken)
    #[arg(long, value_name = "BACKEND", default_value = "sim")]
    backend: Backend,
    /// With --backend process: how often each storm is run at most
    #[arg(long, value_name = "N", default_value_t = 5)]
    times: u32,
    /// With --backend process: another server under test
    #[arg(long, value_name = "SUT")]
    sut: Option<String>,
    /// Where runs on processes land
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// Where the small one is written [default: beside, as NAME.small.toml]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A finding's file: the storm and what it shows.
struct Finding {
    plan: Plan,
    signature: Option<String>,
    fingerprint: Option<String>,
}

impl Finding {
    fn read(path: &Path) -> Result<Self, Failure> {
        let of_run = path.join("repro.toml");
        let path = if path.is_dir() { &of_run } else { path };
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
        let file = StormFile::parse(&path.display().to_string(), &text)
            .map_err(|error| Failure::Usage(error.to_string()))?;
        let signature = file.signature.as_deref().map(signature::of_today);
        let fingerprint = file.fingerprint.clone();
        let plan = Plan::from_file(file, 0).map_err(Failure::Usage)?;
        Ok(Self { plan, signature, fingerprint })
    }

    fn run_on(&mut self, sut: Option<&str>, backend: Backend) -> Result<(), Failure> {
        let Some(sut) = sut else { return Ok(()) };
        if backend == Backend::Sim {
            return Err(Failure::Usage(
                "--sut needs --backend process: the simulator runs slotstorm's own node".into(),
            ));
        }
        sut.clone_into(&mut self.plan.sut);
        Ok(())
    }

    fn shows(&self, signatures: &[String]) -> bool {
        match &self.signature {
            Some(wanted) => signatures.contains(wanted),
            None => !signatures.is_empty(),
        }
    }
}

/// Where storms are run again.
struct Stage<'a> {
    backend: Backend,
    results: &'a Path,
    stop: Arc<AtomicBool>,
}

impl Stage<'_> {
    fn run(&self, plan: &Plan) -> Result<Judged, Failure> {
        match self.backend {
            Backend::Sim => hunt::judge(plan, &self.stop).map_err(run::start_failure),
            Backend::Process => on_processes(plan, self.results),
        }
    }

    fn place(&self) -> &'static str {
        if self.backend == Backend::Sim { "in the simulator" } else { "on processes" }
    }
}

/// `slotstorm repro`.
pub fn repro(args: &ReproArgs) -> Result<ExitCode, Failure> {
    let mut finding = Finding::read(&args.file)?;
    finding.run_on(args.sut.as_deref(), args.backend)?;
    let stage = Stage { backend: args.backend, results: &args.out, stop: Interrupt::listen().flag() };
    let (mut seen, mut tried) = (0, 0);
    let mut fingerprints = Vec::new();
    for time in 1..=args.times {
        if stage.stop.load(Ordering::Relaxed) {
            break;
        }
        let judged = stage.run(&finding.plan)?;
        fingerprints.extend(Some(judged.fingerprint).filter(|print| !print.is_empty()));
        tried += 1;
        seen += u32::from(finding.shows(&judged.signatures));
        let told =
            if judged.signatures.is_empty() { "nothing".to_owned() } else { judged.signatures.join("; ") };
        println!("{time:>4}  {told}");
    }
    let what = finding.signature.as_deref().unwrap_or("a failure");
    println!("{}: {what}", proportion(seen, tried));
    if let Some(first) = fingerprints.first() {
        let same = fingerprints.iter().all(|one| one == first);
        let note = match &finding.fingerprint {
            _ if !same => ", but not every time: that is a bug of slotstorm",
            Some(found) if found == first => ", as when it was found",
            Some(_) => "; another build found it, the storm is the same",
            None => "",
        };
        println!("fingerprint {first}{note}");
    }
    Ok(ExitCode::from(u8::from(seen > 0)))
}

/// `slotstorm shrink`.
pub fn shrink(args: &ShrinkArgs) -> Result<ExitCode, Failure> {
    let mut finding = Finding::read(&args.path)?;
    finding.run_on(args.sut.as_deref(), args.backend)?;
    let stage = Stage { backend: args.backend, results: &args.out, stop: Interrupt::listen().flag() };
    let Some((first, voters)) = first_look(&finding, &stage, args.times.max(1))? else {
        return Ok(ExitCode::SUCCESS);
    };
    let signature = finding.signature.take().unwrap_or_else(|| first.signatures[0].clone());
    println!("shrinking: {signature} ({} faults)", finding.plan.schedule().len());
    let mut shows = |plan: &Plan| {
        let once = || stage.run(plan).ok().filter(|judged| judged.shows(&signature));
        voters.decide(&stage.stop, once)
    };
    let small = hunt::small(
        &finding.plan,
        first,
        Trial {
            budget: args.budget.unwrap_or(if args.backend == Backend::Sim { 300 } else { 40 }),
            shows: &mut shows,
            progress: &mut told_smaller,
        },
    );
    let output = args.output.clone().unwrap_or_else(|| small_name(&args.path));
    let origin = Origin { on_processes: args.backend == Backend::Process, ..Origin::default() };
    let text = small.text(&signature, &origin);
    fs::write(&output, &text).with_context(|| format!("cannot write {}", output.display()))?;
    println!("\n{text}\nwritten to {}", output.display());
    Ok(ExitCode::from(1))
}

/// The failure as it is before anything is smaller, and how a vote on it is taken; `None`: it does not show.
fn first_look(finding: &Finding, stage: &Stage<'_>, times: u32) -> Result<Option<(Judged, Vote)>, Failure> {
    // In the simulator a storm is the same every time.
    let times = if stage.backend == Backend::Sim { 1 } else { times };
    let (mut seen, mut tried) = (0, 0);
    let (mut shown, mut others) = (None, Vec::new());
    while tried < times && !stage.stop.load(Ordering::Relaxed) {
        let judged = stage.run(&finding.plan)?;
        tried += 1;
        if finding.shows(&judged.signatures) {
            seen += 1;
            shown = Some(judged);
        } else {
            others.extend(judged.signatures);
        }
    }
    if times > 1 {
        println!("as it is: {}", proportion(seen, tried));
    }
    let Some(shown) = shown else {
        let wanted = finding.signature.as_deref().unwrap_or("anything");
        let others = if others.is_empty() { "nothing".to_owned() } else { others.join("; ") };
        println!("{} it does not show {wanted}; it shows {others}", stage.place());
        return Ok(None);
    };
    // Something smaller may show it half as often: it is run less long, too.
    Ok(Some((shown, Vote { times, needed: (seen / 2).max(1) })))
}

/// When a storm counts as failing: if it fails so often in so many runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Vote {
    times: u32,
    needed: u32,
}

impl Vote {
    /// Runs it until the vote is decided; what the last failing run showed if it was for it.
    fn decide<T>(self, stop: &AtomicBool, mut once: impl FnMut() -> Option<T>) -> Option<T> {
        let mut seen = 0;
        for left in (0..self.times).rev() {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(shown) = once() {
                seen += 1;
                if seen >= self.needed {
                    return Some(shown);
                }
            }
            if seen + left < self.needed {
                return None;
            }
        }
        None
    }
}

/// A step of shrinking, for people.
pub(super) fn told_smaller(what: &str, plan: &Plan) {
    println!(
        "  {what:<20} {} faults, {} s, {} clients, {} ops/s, {}+{} nodes",
        plan.faults.len(),
        plan.duration_s,
        plan.clients,
        plan.rate,
        plan.masters,
        plan.masters * plan.replicas
    );
}

fn small_name(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("small.toml") } else { path.with_extension("small.toml") }
}

/// One run of it on real processes.
pub(super) fn on_processes(plan: &Plan, results: &Path) -> Result<Judged, Failure> {
    let plan = Rc::new(plan.clone());
    let terminal = Rc::new(Terminal::new(true, &plan));
    let text = plan.to_file().to_toml("a replay");
    let done = run_local(run::storm(results, Rc::clone(&plan), &text, &terminal))??;
    let done = done.ok_or_else(|| anyhow::anyhow!("interrupted before the cluster stood"))?;
    let options =
        JudgeOptions { interrupted: done.interrupted, harness_error: done.broken, ..JudgeOptions::default() };
    let record = verdict::read_folder(&done.folder)?;
    let verdict = verdict::judge_record(&done.folder, &record, &options)?;
    verdict::write(&done.folder, &verdict)?;
    Ok(Judged::of(verdict, record))
}

/// So many of so many, as a sentence.
pub(super) fn proportion(seen: u32, tried: u32) -> String {
    let (low, high) = interval(seen, tried);
    format!("reproduced {seen} of {tried} (95% interval {low:.0} to {high:.0} %)")
}

/// Wilson's interval of a proportion at 95%, in percent.
fn interval(seen: u32, tried: u32) -> (f64, f64) {
    let (low, high) = wilson(seen.into(), tried.into());
    (low * 100.0, high * 100.0)
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
        assert_eq!(proportion(17, 20), "reproduced 17 of 20 (95% interval 64 to 95 %)");
    }

    #[test]
    fn a_vote_ends_as_soon_as_it_is_decided() {
        let vote = Vote { times: 5, needed: 2 };
        let decide = |runs: &[bool]| {
            let mut tried = 0;
            let once = || {
                tried += 1;
                runs[tried - 1].then_some(())
            };
            (vote.decide(&AtomicBool::new(false), once).is_some(), tried)
        };
        assert_eq!(decide(&[true, false, true]), (true, 3));
        assert_eq!(decide(&[false, false, false, false]), (false, 4));
        assert_eq!(decide(&[true, false, false, false, false]), (false, 5));
    }
}
