//! Makes a night's failures small when its runs are over, within a budget: the fewest and simplest faults that still show
//! each. A failure that the simulator can show is shrunk there, in seconds; another one on real processes, as far as the
//! budget goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use slotstorm_checker::record::verdict::Verdict;

use super::child::{self, Manner};
use super::file::CampaignFile;
use super::findings::{Finding, State};
use super::matrix::Task;
use super::night::{StoredNight, task_dir};
use super::outcome::{Outcome, from_json, run_folder, write_whole};
use crate::backend::process::run_local;
use crate::hunt::{self, Judged, Origin, Trial};
use crate::plan::{Plan, StormFile};
use crate::verdict::{self, signature};

/// The folder in a night's.
const SMALL: &str = "small";
/// Between two looks at the time.
const LOOK: Duration = Duration::from_millis(50);

/// What became of making one failure small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Small {
    pub signature: String,
    /// Server and backend, as in [`Finding::server`].
    pub server: String,
    /// The run that it began with.
    pub task: u64,
    /// The storm file's name beside this; absent: none was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Where it shows: `sim` or `process`.
    pub backend: String,
    pub faults_before: usize,
    pub faults: usize,
    pub trials: u32,
    pub took_s: f64,
    /// Why there is no file, or what else there is to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Small {
    /// Of a night.
    pub fn stored(night: &Path) -> Vec<Self> {
        let entries = fs::read_dir(night.join(SMALL)).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
        paths.sort();
        // One that is torn is made again.
        paths.iter().filter_map(|path| from_json(path).ok()).collect()
    }

    /// True if it is of this failure.
    pub fn is_of(&self, server: &str, signature: &str) -> bool {
        self.server == server && self.signature == signature
    }

    /// The storm file, from the night's folder.
    pub fn path(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|file| Path::new(SMALL).join(file))
    }

    /// How to see it again.
    pub fn again(&self, night: &Path) -> Option<String> {
        let option = if self.is_simulated() { "" } else { "--backend process " };
        self.path().map(|path| format!("slotstorm repro {option}{}", night.join(path).display()))
    }

    fn is_simulated(&self) -> bool {
        self.backend == "sim"
    }
}

/// Shrinks what failed in the last of these nights and was not shrunk yet, the new ones first. `interrupted` ends it early;
/// `tell` hears of each.
pub fn shrink_all(
    nights: &[StoredNight],
    findings: &[Finding],
    interrupted: &Arc<AtomicBool>,
    mut tell: impl FnMut(&Small),
) -> anyhow::Result<()> {
    let Some(tonight) = nights.last() else { return Ok(()) };
    let end = Instant::now() + Duration::from_secs_f64(tonight.file.shrink.budget_s);
    let mut wanted: Vec<&Finding> = findings.iter().filter(|finding| finding.fails()).collect();
    wanted.sort_by_key(|finding| finding.state != State::New);
    for finding in wanted {
        let is_of = |small: &Small| small.is_of(&finding.server, &finding.signature);
        let is_small =
            nights.iter().flat_map(|night| &night.smalls).any(|small| small.file.is_some() && is_of(small));
        // What could not be made small tonight is not tried again tonight.
        let is_small = is_small || tonight.smalls.iter().any(is_of);
        let out_of_time = Instant::now() >= end || interrupted.load(Ordering::Relaxed);
        if is_small || out_of_time {
            continue;
        }
        let Some(outcome) = first_of(tonight, finding) else { continue };
        let limits = Limits { end, interrupted: Arc::clone(interrupted), trials: tonight.file.shrink.trials };
        let small = make(tonight, finding, outcome, &limits)?;
        if interrupted.load(Ordering::Relaxed) {
            continue;
        }
        // What ended for lack of time is tried again when the night is resumed.
        if small.text.is_some() || !limits.are_reached() {
            keep(&tonight.path, &small)?;
        }
        tell(&small.small);
    }
    Ok(())
}

/// The run to begin with: the first one that shows it.
fn first_of<'a>(night: &'a StoredNight, finding: &Finding) -> Option<&'a Outcome> {
    night.outcome(*finding.tasks.first()?).filter(|outcome| outcome.folder.is_some())
}

struct Limits {
    end: Instant,
    interrupted: Arc<AtomicBool>,
    trials: u32,
}

impl Limits {
    fn are_reached(&self) -> bool {
        Instant::now() >= self.end || self.interrupted.load(Ordering::Relaxed)
    }
}

/// With the storm file's text.
struct Made {
    small: Small,
    text: Option<String>,
}

fn make(night: &StoredNight, finding: &Finding, outcome: &Outcome, limits: &Limits) -> anyhow::Result<Made> {
    let begun = Instant::now();
    let folder =
        task_dir(&night.path, outcome.task.number).join(outcome.folder.as_deref().unwrap_or(Path::new("")));
    let plan = plan_of(&folder.join("repro.toml"))?;
    let cell = &outcome.task.cell;
    let mut small = Small {
        signature: finding.signature.clone(),
        server: finding.server.clone(),
        task: outcome.task.number,
        file: None,
        backend: "sim".into(),
        faults_before: plan.schedule().len(),
        faults: plan.schedule().len(),
        trials: 0,
        took_s: 0.0,
        note: String::new(),
    };
    let signature = finding.signature.as_str();
    let shows_in_sim = |plan: &Plan| simulated(plan, limits).filter(|judged| judged.shows(signature));
    let mut trials = 0;
    let first = if cell.server == "embedded" { shows_in_sim(&plan) } else { None };
    let best = if let Some(first) = first {
        let shows = &mut |plan: &Plan| {
            trials += 1;
            if limits.are_reached() { None } else { shows_in_sim(plan) }
        };
        Some(hunt::small(&plan, first, Trial { budget: limits.trials, shows, progress: &mut |_, _| {} }))
    } else if cell.is_simulated() {
        small.note = if limits.are_reached() {
            "there was no time to see it again".into()
        } else {
            "the simulator did not show it again: that is a bug of slotstorm".into()
        };
        None
    } else {
        small.backend = "process".into();
        let scratch = night.path.join(SMALL).join(".trials");
        let shows = &mut |plan: &Plan| {
            if limits.are_reached() {
                return None;
            }
            trials += 1;
            real(plan, &night.file, &outcome.task, &scratch, limits).filter(|judged| judged.shows(signature))
        };
        // The run of the night is the first that shows it; one whose large files were removed is made again.
        let first = judged(&folder).ok().or_else(|| shows(&plan));
        let best = first.map(|first| {
            hunt::small(&plan, first, Trial { budget: limits.trials, shows, progress: &mut |_, _| {} })
        });
        let _ = fs::remove_dir_all(&scratch);
        let best = best.filter(|best| best.plan != plan);
        if best.is_none() {
            small.note = "no smaller storm showed it within the budget".into();
        }
        best
    };
    if limits.are_reached() {
        small.note =
            format!("{}{}the budget is used up", small.note, if small.note.is_empty() { "" } else { "; " });
    }
    small.trials = trials;
    small.took_s = begun.elapsed().as_secs_f64();
    let text = best.map(|best| {
        small.faults = best.plan.schedule().len();
        let of = format!("on {}, from seed {} of the night {}", finding.server, outcome.task.seed, night.id);
        best.text(signature, &Origin { on_processes: !small.is_simulated(), of })
    });
    Ok(Made { small, text })
}

fn plan_of(path: &Path) -> anyhow::Result<Plan> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = StormFile::parse(&path.display().to_string(), &text)?;
    Plan::from_file(file, 0).map_err(anyhow::Error::msg)
}

/// What a storm shows in the simulator; `None`: it could not be made, or not in time.
fn simulated(plan: &Plan, limits: &Limits) -> Option<Judged> {
    let plan = Plan { sut: "embedded".into(), ..plan.clone() };
    let (stop, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let watch = {
        let (stop, over) = (Arc::clone(&stop), Arc::clone(&over));
        let (end, interrupted) = (limits.end, Arc::clone(&limits.interrupted));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if Instant::now() >= end || interrupted.load(Ordering::Relaxed) {
                    stop.store(true, Ordering::Relaxed);
                }
                std::thread::sleep(LOOK);
            }
        })
    };
    let judged = hunt::judge(&plan, &stop);
    over.store(true, Ordering::Relaxed);
    let _ = watch.join();
    // A storm that was cut short says nothing.
    let whole = !stop.load(Ordering::Relaxed);
    judged.ok().filter(|_| whole)
}

/// What a storm shows on real processes; `None`: it could not be made, or the host let it not run.
fn real(plan: &Plan, file: &CampaignFile, task: &Task, scratch: &Path, limits: &Limits) -> Option<Judged> {
    let trial = || -> anyhow::Result<Option<Judged>> {
        let _ = fs::remove_dir_all(scratch);
        fs::create_dir_all(scratch)?;
        let storm = scratch.join("storm.toml");
        fs::write(&storm, plan.to_file().to_toml("a trial"))?;
        let words: Vec<String> = ["run", "--json", "--out"].map(str::to_owned).into();
        let paths = [scratch, &storm].map(|path| path.display().to_string());
        let words: Vec<String> = words.into_iter().chain(paths).collect();
        let left = limits.end.saturating_duration_since(Instant::now());
        let manner = Manner { limit: child::limit(file, task).min(left), aside: None };
        let ended = run_local(child::make(&words, scratch, manner))??;
        let outcome = Outcome::of(task.clone(), scratch, ended, &file.guard);
        let folder = run_folder(scratch).filter(|_| outcome.fails());
        folder.map(|folder| judged(&folder)).transpose()
    };
    trial().unwrap_or_else(|error| {
        tracing::warn!("a smaller storm could not be tried: {error:#}");
        None
    })
}

/// What the folder of a run on real processes holds.
fn judged(folder: &Path) -> anyhow::Result<Judged> {
    let verdict: Verdict = from_json(&folder.join("verdict.json"))?;
    Ok(Judged::of(verdict, verdict::read_folder(folder)?))
}

/// Writes the storm first: a record without it would say that it is done.
fn keep(night: &Path, made: &Made) -> anyhow::Result<()> {
    let dir = night.join(SMALL);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let name = signature::slug(&format!("{} {}", made.small.server, made.small.signature));
    let mut small = made.small.clone();
    if let Some(text) = &made.text {
        let file = format!("{name}.toml");
        write_whole(&dir.join(&file), text.as_bytes())?;
        small.file = Some(file);
    }
    write_whole(&dir.join(format!("{name}.json")), &serde_json::to_vec_pretty(&small)?)
        .with_context(|| format!("cannot write in {}", dir.display()))
}
