//! `slotstorm campaign`: nights of many runs.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::interrupt::Interrupt;
use super::run::fresh_seed;
use super::{BROKEN, Failure};
use crate::backend::process::folder::Utc;
use crate::backend::process::{binary_sha256, host_line, run_local};
use crate::campaign::attempt::Attempt;
use crate::campaign::child::{self, Manner};
use crate::campaign::engine::{self, Engine, Submission};
use crate::campaign::file::{CampaignFile, EXAMPLE};
use crate::campaign::index::{INDEX, Index};
use crate::campaign::matrix::{Sequence, Task};
use crate::campaign::night::{Night, NightInfo, StoredNight, nights_of, task_dir};
use crate::campaign::outcome::Outcome;
use crate::campaign::runner::{self, Listener, Stop};
use crate::campaign::{out, retain, small, summary};
use slotstorm_sim::zoo::Zoo;

/// Nights of many runs: what is new in the morning.
#[derive(clap::Args)]
pub struct CampaignArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Make runs all night, then say what is new
    #[command(after_help = format!("A campaign file:\n\n{EXAMPLE}\n\
        Exit codes: 0 nothing failed, 1 something failed (whatever else went wrong), 2 nothing can be said, 3 the night broke"))]
    Run(RunArgs),
    /// Go on with a night that was interrupted, with the very runs that are missing
    Resume {
        /// The night's folder
        #[arg(value_name = "NIGHT", default_value = "results/campaigns/latest")]
        night: PathBuf,
    },
    /// Make one run of a night: what a queue's task does (`run --engine`). Done already: nothing
    Task {
        /// The night's folder, on a path that all machines share
        #[arg(value_name = "NIGHT")]
        night: PathBuf,
        /// Which run, from 0 [default: what Slurm or Kubernetes says]
        #[arg(value_name = "NUMBER")]
        number: Option<u64>,
    },
    /// Gather what the tasks of a queue made, and sum up as at the end of a local night
    #[command(
        after_help = "Tasks that are missing are told: slotstorm campaign resume NIGHT makes them here."
    )]
    Collect {
        /// The night's folder
        #[arg(value_name = "NIGHT", default_value = "results/campaigns/latest")]
        night: PathBuf,
    },
    /// Sum up a night again, and write its page, JUnit, Markdown and JSON lines
    Report {
        /// The night's folder
        #[arg(value_name = "NIGHT", default_value = "results/campaigns/latest")]
        night: PathBuf,
        /// Print the summary as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make results/campaigns.sqlite anew from the folders of the nights
    Reindex {
        /// Where results are
        #[arg(long, value_name = "DIR", default_value = "results")]
        out: PathBuf,
    },
}

#[derive(clap::Args)]
struct RunArgs {
    /// What the night is made of
    #[arg(value_name = "CAMPAIGN.toml")]
    file: PathBuf,
    /// How long runs are started, such as 8h, 90m or 1h30m [default: the file's for_s]
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    length: Option<f64>,
    /// Runs at the most [default: the file's]
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// Clusters of real processes side by side [default: the file's, or half of the processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: Option<u64>,
    /// Simulated runs side by side, beside those [default: the file's, or half of the processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=256))]
    sim_jobs: Option<u64>,
    /// Seed of the runs' order and of their seeds [default: the file's, or a fresh one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where results land
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// Who makes the runs: this machine, or a queue, which needs --runs and results on a path that all its machines share
    #[arg(long, value_name = "ENGINE", default_value = "local")]
    engine: Engine,
    /// List the night's first runs as command lines, and make none
    #[arg(long, value_name = "N")]
    list: Option<usize>,
}

/// Runs the verb.
pub fn run(args: &CampaignArgs) -> Result<ExitCode, Failure> {
    match &args.verb {
        Verb::Run(args) => begin(args),
        Verb::Resume { night } => {
            let night = Night::open(night)?;
            println!("{}: {} runs are done", night.path.display(), night.done.len());
            go_on(night).map(ExitCode::from)
        }
        Verb::Task { night, number } => task(night, *number),
        Verb::Collect { night } => collect(night).map(ExitCode::from),
        Verb::Report { night, json } => report(night, *json).map(ExitCode::from),
        Verb::Reindex { out } => {
            let (index, damaged) = Index::rebuild(out)?;
            let count = |table: &str| -> anyhow::Result<i64> {
                Ok(index
                    .connection()
                    .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?)
            };
            println!("{}: {} nights, {} runs", out.join(INDEX).display(), count("night")?, count("run")?);
            for damaged in &damaged {
                eprintln!("slotstorm: not read: {damaged}");
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn begin(args: &RunArgs) -> Result<ExitCode, Failure> {
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", args.file.display())))?;
    let mut file = CampaignFile::parse(&args.file.display().to_string(), &text)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    file.runs = args.runs.unwrap_or(file.runs);
    file.for_s = args.length.or(file.for_s);
    let seed = match args.seed.or(file.seed) {
        Some(seed) => seed,
        None => fresh_seed()?,
    };
    if let Some(count) = args.list {
        for task in Sequence::new(&file, seed).take(count) {
            println!("slotstorm {}", child::words(&file, &task, Path::new("OUT")).join(" "));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if file.for_s.is_none() && file.runs == 0 {
        return Err(Failure::Usage(
            "a night needs an end: --for, --runs, or for_s or runs in the file".into(),
        ));
    }
    if args.engine != Engine::Local && file.runs == 0 {
        return Err(Failure::Usage(
            "a queue needs the number of its tasks: --runs, or runs in the file".into(),
        ));
    }
    if file.mutation.is_some() && !Zoo::IS_OPEN {
        let text = "mutation: this build has no bugs on purpose (cargo build --features zoo)";
        return Err(Failure::Usage(text.into()));
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let side_by_side = |flag: Option<u64>, of_file: Option<usize>| {
        flag.map(|jobs| jobs as usize).or(of_file).unwrap_or((processors / 2).max(1))
    };
    let info = NightInfo {
        schema: 1,
        campaign: file.name.clone(),
        seed,
        started: Utc::now().rfc3339(),
        for_s: file.for_s,
        runs: file.runs,
        jobs: side_by_side(args.jobs, file.jobs),
        sim_jobs: side_by_side(args.sim_jobs, file.sim_jobs),
        engine: args.engine,
        ran_s: 0.0,
        over: None,
        version: env!("CARGO_PKG_VERSION").into(),
        binary_sha256: binary_sha256().context("cannot read this binary")?,
        host: host_line(),
    };
    let at_once = args.jobs.map(|jobs| jobs as usize).or(file.jobs);
    let night = Night::create(&args.out, &text, file, info)?;
    if args.engine != Engine::Local {
        return submit(&night, at_once);
    }
    println!(
        "{}: seed {seed}, {} cells, {} side by side; slotstorm campaign resume {} goes on after an interruption",
        night.path.display(),
        Sequence::new(&night.file, seed).cells(),
        night.info.jobs,
        night.path.display(),
    );
    go_on(night).map(ExitCode::from)
}

/// Hands a night's tasks to a queue.
fn submit(night: &Night, at_once: Option<usize>) -> Result<ExitCode, Failure> {
    let path = std::fs::canonicalize(&night.path)?;
    let results = results_of(&path)?;
    let submission =
        Submission { night: &path, results: &results, info: &night.info, file: &night.file, at_once };
    let told = engine::submit(night.info.engine, submission)?;
    println!("{}: {} tasks; {told}", path.display(), night.info.runs);
    println!("slotstorm campaign collect {} sums up", path.display());
    Ok(ExitCode::SUCCESS)
}

/// One task of a night. Its exit code says whether there is an outcome, not which.
fn task(night: &Path, number: Option<u64>) -> Result<ExitCode, Failure> {
    let number = match number {
        Some(number) => number,
        None => engine::index_from_queue().map_err(|error| Failure::Usage(format!("{error:#}")))?,
    };
    let path = std::fs::canonicalize(night).with_context(|| format!("there is no {}", night.display()))?;
    let (info, file) = StoredNight::plan(&path)?;
    let task = engine::task(&file, &info, number).map_err(|error| Failure::Usage(format!("{error:#}")))?;
    if Outcome::stored(&task_dir(&path, number))?.is_some() {
        println!("task {number} is done already");
        return Ok(ExitCode::SUCCESS);
    }
    let attempt =
        Attempt::begin(&path, &task).with_context(|| format!("cannot write in {}", path.display()))?;
    let words = child::words(&file, &task, attempt.dir());
    // A queue gives its tasks processors of their own: nothing has to give way.
    let aside = task.cell.is_simulated().then_some(0);
    let manner = Manner { limit: child::limit(&file, &task), aside };
    let ended =
        run_local(child::make(&words, attempt.dir(), manner))?.context("the run cannot be started")?;
    let outcome = Outcome::of(task, attempt.dir(), ended, &file.guard);
    let first = attempt.finish(&outcome).with_context(|| format!("cannot write in {}", path.display()))?;
    println!("task {number}: {}: {}", outcome.end.word(), outcome.reason);
    if !first {
        println!("another attempt at it was done before: this one does not count");
    }
    Ok(ExitCode::SUCCESS)
}

/// The end of a night that a queue made.
fn collect(night: &Path) -> Result<u8, Failure> {
    let mut night = Night::open(night)?;
    let missing: Vec<u64> = (0..night.info.runs).filter(|number| !night.done.contains_key(number)).collect();
    let trouble = missing.first().map(|first| {
        format!("{} of {} tasks have no outcome, task {first} first", missing.len(), night.info.runs)
    });
    night.info.ran_s = night.done.values().map(|outcome| outcome.took_s).sum();
    night.info.over = if missing.is_empty() { Some("done".into()) } else { None };
    retain::thin(&mut night)?;
    night.save()?;
    let (path, results) = (night.path.clone(), results_of(&night.path)?);
    drop(night);
    if missing.is_empty() {
        make_small(&path)?;
    }
    Index::rebuild(&results)?;
    let code = sum_up(&path, trouble.clone(), false)?;
    if let Some(trouble) = trouble {
        eprintln!("slotstorm: {trouble}; slotstorm campaign resume {} makes them here", path.display());
    }
    Ok(code)
}

/// Makes what is missing, then sums up.
fn go_on(mut night: Night) -> Result<u8, Failure> {
    let results = results_of(&night.path)?;
    let id = night.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut index = Index::open(&results)?;
    night.info.over = None;
    index.night(&id, &night.info)?;
    let stop = run_local(async {
        // Asked to end it makes no more runs, and ends those that run; `resume` makes them again.
        let interrupted = Interrupt::listen().flag();
        let screen = Screen::default();
        runner::run(&mut night, &screen, interrupted, |night, outcome| {
            // The folders are the truth: an index that cannot be written is made anew later.
            let written = index.night(&id, &night.info).and_then(|()| index.run(&id, outcome));
            if let Err(error) = written {
                eprintln!("slotstorm: the index is not written ({error:#}); slotstorm campaign reindex makes it anew");
            }
        })
        .await
    })??;
    night.info.over = Some(stop.trouble().unwrap_or_else(|| "done".into()));
    if stop == Stop::Interrupted {
        night.info.over = None;
    }
    // On a full disk this may fail; what was judged is on it already.
    let saved = night.save().and_then(|()| index.night(&id, &night.info));
    let path = night.path.clone();
    drop(night);
    if stop == Stop::Done {
        make_small(&path)?;
    }
    let code = sum_up(&path, stop.trouble(), false)?;
    if let Some(why) = stop.trouble() {
        eprintln!("slotstorm: {why}; slotstorm campaign resume {} goes on", path.display());
    }
    if let Err(error) = saved {
        eprintln!("slotstorm: {error:#}");
        return Ok(unless_failed(code));
    }
    Ok(code)
}

/// What broke, unless something was proven to fail: that outranks it.
fn unless_failed(code: u8) -> u8 {
    if code == 1 { 1 } else { BROKEN }
}

fn report(night: &Path, json: bool) -> Result<u8, Failure> {
    let path = std::fs::canonicalize(night).with_context(|| format!("there is no {}", night.display()))?;
    sum_up(&path, None, json)
}

/// A night with those of its campaign before it.
fn nights_up_to(path: &Path) -> anyhow::Result<Vec<StoredNight>> {
    let tonight = StoredNight::read(path)?;
    let (mut nights, damaged) = StoredNight::all(&results_of(path)?);
    for damaged in &damaged {
        eprintln!("slotstorm: not read: {damaged}");
    }
    nights.retain(|night| night.info.campaign == tonight.info.campaign && night.id < tonight.id);
    nights.push(tonight);
    Ok(nights)
}

/// Shrinks what failed, within the file's budget.
fn make_small(path: &Path) -> anyhow::Result<()> {
    let nights = nights_up_to(path)?;
    let summary = summary::summarise(&nights, None).context("there is no night")?;
    small::shrink_all(&nights, &summary.findings, &Interrupt::listen().flag(), |small| {
        println!(
            "  small   {} on {}: {} of {} faults, {} storms in {:.0} s{}{}",
            small.signature,
            small.server,
            small.faults,
            small.faults_before,
            small.trials,
            small.took_s,
            if small.note.is_empty() { "" } else { "; " },
            small.note
        );
    })
}

fn sum_up(path: &Path, trouble: Option<String>, json: bool) -> Result<u8, Failure> {
    let nights = nights_up_to(path)?;
    let summary = summary::summarise(&nights, trouble).context("there is no night")?;
    let written = out::write(&nights, &summary);
    if json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else if let Some(tonight) = nights.last() {
        print!("{}", out::screen(tonight, &summary));
    }
    if let Err(error) = written {
        eprintln!("slotstorm: {error:#}");
        return Ok(unless_failed(summary.exit_code));
    }
    Ok(summary.exit_code)
}

/// A night's folder lies in `RESULTS/campaigns`.
fn results_of(night: &Path) -> anyhow::Result<PathBuf> {
    let night = std::path::absolute(night)?;
    let results = night.ancestors().nth(2).context("a night lies in RESULTS/campaigns")?;
    anyhow::ensure!(
        nights_of(results) == night.parent().unwrap_or(&night),
        "a night lies in RESULTS/campaigns"
    );
    Ok(results.to_owned())
}

/// One line a run.
#[derive(Default)]
struct Screen {
    done: Cell<u64>,
    held: RefCell<String>,
}

impl Listener for Screen {
    fn started(&self, _task: &Task) {
        self.held.borrow_mut().clear();
    }

    fn done(&self, outcome: &Outcome) {
        self.done.set(self.done.get() + 1);
        let cell = &outcome.task.cell;
        let end = if outcome.starved.is_some() { "starved" } else { outcome.end.word() };
        let what = outcome.starved.as_ref().unwrap_or(&outcome.reason);
        println!(
            "{:>6}  {end:<8} {}{} {} {} {} {} seed {}  {:.0} s  {what}",
            outcome.task.number,
            if outcome.task.canary { "canary " } else { "" },
            cell.subject(),
            cell.preset,
            cell.workload,
            cell.topology,
            cell.expect,
            outcome.task.seed,
            outcome.took_s,
        );
    }

    fn held(&self, why: &str) {
        let mut held = self.held.borrow_mut();
        if held.is_empty() {
            println!("        waiting: {why}");
            why.clone_into(&mut held);
        }
    }
}

/// `8h`, `90m`, `1h30m`, `45s`, or seconds.
fn length(text: &str) -> Result<f64, String> {
    let wrong = || format!("expected a time such as 8h, 90m, 1h30m or 45s, not {text:?}");
    if let Ok(seconds) = text.parse::<f64>() {
        return if seconds > 0.0 && seconds.is_finite() { Ok(seconds) } else { Err(wrong()) };
    }
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let amount: f64 = rest[..end].parse().map_err(|_| wrong())?;
        let unit = rest[end..].chars().next().ok_or_else(wrong)?;
        total += amount
            * match unit {
                'h' => 3600.0,
                'm' => 60.0,
                's' => 1.0,
                _ => return Err(wrong()),
            };
        rest = &rest[end + unit.len_utf8()..];
    }
    if total > 0.0 { Ok(total) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in
            [("8h", 28_800.0), ("1h30m", 5400.0), ("45s", 45.0), ("90", 90.0), ("1.5m", 90.0)]
        {
            assert_eq!(length(text), Ok(seconds), "{text}");
        }
        for text in ["", "h", "8", "-3", "0s", "8 h", "8d", "1h30", "inf", "8é"] {
            assert_eq!(length(text).is_ok(), text == "8", "{text}");
        }
    }
}
