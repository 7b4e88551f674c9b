//! `slotstorm zoo`: does the harness find bugs that were put there on purpose, and is it silent about a node without?

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use slotstorm_sim::zoo::{SPECIMENS, Specimen, Zoo};

use super::Failure;
use super::crowd;
use super::interrupt::Interrupt;
use super::repro::on_processes;
use crate::backend::process::binary_sha256;
use crate::hunt::zoo::{self, Hunt, Page, Small, Storm};
use crate::hunt::{self, Origin, Trial, swarm};
use crate::plan::{Plan, StormFile};

/// The node without any bug.
const HEALTHY: &str = "healthy";
/// Operations a second and clients of a replay on real processes, at least.
const LOAD: (f64, u16) = (200.0, 5);

/// Hunt bugs that were put into the node on purpose, and print which were found
#[derive(clap::Args)]
#[command(after_help = "Interrupted or ended, the same command goes on where it stopped.")]
pub struct ZooArgs {
    /// Storms of a hunt at most; the healthy node gets ten times as many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    budget: u64,
    /// Hunts for each bug, with storms of their own
    #[arg(long, value_name = "N", default_value_t = 5)]
    hunts: u64,
    /// Only these bugs; `healthy` is the node without any
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The first hunt's first seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    first_seed: u64,
    /// Storms at once [default: one a core]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Storms to make each finding small with, at most; 0: they stay as they are
    #[arg(long, value_name = "N", default_value_t = 300)]
    shrink: u32,
    /// Replay each small finding so often on real processes
    #[arg(long, value_name = "N", default_value_t = 0)]
    processes: u32,
    /// Print the table of what is known, and hunt nothing
    #[arg(long)]
    table: bool,
    /// List the bugs and end
    #[arg(long)]
    list: bool,
    /// Where pages, small storms and the table land, in `zoo/`
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
}

/// A page and where it is kept.
struct Kept<'a> {
    args: &'a ZooArgs,
    specimen: Option<&'static Specimen>,
    path: PathBuf,
    page: Page,
    stop: &'a Arc<AtomicBool>,
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
    let known = |name: &String| name == HEALTHY || SPECIMENS.iter().any(|one| one.name == *name);
    if let Some(name) = args.only.iter().find(|name| !known(name)) {
        return Err(Failure::Usage(format!("the zoo has no bug called '{name}'; see slotstorm zoo --list")));
    }
    let folder = args.out.join("zoo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (binary, storms) = (binary_sha256().context("cannot read this binary")?, swarm::sha256());
    println!("storms {storms} (the SHA-256 of the first {} of them)", swarm::HASHED);
    let stop = Interrupt::listen().flag();
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|one| one == name);
    let all = SPECIMENS.iter().map(Some).chain([None]);
    let mut pages = Vec::new();
    for specimen in all.filter(|specimen| wanted(specimen.map_or(HEALTHY, |specimen| specimen.name))) {
        let name = specimen.map_or(HEALTHY, |specimen| specimen.name);
        let path = folder.join(format!("{name}.json"));
        let page = load(&path, Page::new(name, &binary, &storms), args.table)?;
        pages.push(Kept { args, specimen, path, page, stop: &stop });
    }
    if !args.table {
        work(args, &mut pages, &stop)?;
    }
    let mut table = String::from(zoo::TABLE);
    for kept in &pages {
        table.push_str(&kept.page.row(kept.specimen));
        table.push('\n');
    }
    let path = folder.join("table.md");
    fs::write(&path, &table).with_context(|| format!("cannot write {}", path.display()))?;
    let right = pages.iter().filter(|kept| kept.page.is_right(kept.specimen)).count();
    println!("{table}\n{right} of {} as they should be\n{}", pages.len(), path.display());
    Ok(ExitCode::from(u8::from(right < pages.len())))
}

/// One hunt for each before the second for any, so that an interrupted zoo knows a little of all.
fn work(args: &ZooArgs, pages: &mut [Kept<'_>], stop: &AtomicBool) -> Result<(), Failure> {
    for number in 0..args.hunts {
        for kept in &mut *pages {
            kept.hunt(number)?;
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }
    for kept in &mut *pages {
        kept.make_small()?;
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
    for kept in &mut *pages {
        kept.replay()?;
    }
    Ok(())
}

/// What is kept at `path`, unless it is of another binary or other storms; a table is made of whatever there is.
fn load(path: &Path, fresh: Page, any: bool) -> anyhow::Result<Page> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(fresh) };
    let old: Page = serde_json::from_str(&text)
        .with_context(|| format!("{} is no page of a zoo; move it away to begin anew", path.display()))?;
    let same = old.binary_sha256 == fresh.binary_sha256 && old.storms_sha256 == fresh.storms_sha256;
    Ok(if same || any { old } else { fresh })
}

impl Kept<'_> {
    fn save(&self) -> anyhow::Result<()> {
        let fresh = self.path.with_extension("json.new");
        fs::write(&fresh, serde_json::to_string_pretty(&self.page)?)?;
        fs::rename(&fresh, &self.path).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Goes on with the hunt of this number until it has found the bug or used its budget up. What must be silent is
    /// not done with its first finding.
    fn hunt(&mut self, number: u64) -> Result<(), Failure> {
        let budget = match self.specimen {
            // One long hunt: there is nothing to take a median of.
            None if number > 0 => return Ok(()),
            None => self.args.budget * 10,
            Some(_) => self.args.budget,
        };
        let at = number as usize;
        while self.page.hunts.len() <= at {
            self.page.hunts.push(Hunt::new(self.page.hunts.len() as u64, self.args.first_seed));
        }
        let wanted = zoo::wanted(self.specimen);
        let mut hunt = self.page.hunts[at].clone();
        if hunt.found.is_some() || hunt.storms >= budget {
            return Ok(());
        }
        let (began, mut saved) = (Instant::now(), Instant::now());
        let (seeds, bug) = (hunt.next_seed()..hunt.first_seed + budget, self.specimen.map(|it| it.name));
        let done = Arc::new(AtomicBool::new(false));
        let (asked, finished) = (Arc::clone(self.stop), Arc::clone(&done));
        let answers = crowd::run(
            seeds,
            |_| false,
            self.args.jobs,
            &done,
            move |seed| {
                let storm = fired(bug, seed, &asked);
                if asked.load(Ordering::Relaxed) {
                    finished.store(true, Ordering::Relaxed);
                    return None;
                }
                Some(storm)
            },
        );
        // Storms count in the order of their seeds, whoever ends first.
        let mut early = std::collections::BTreeMap::new();
        for answer in answers {
            early.insert(answer.seed, answer.outcome);
            while let Some(storm) = early.remove(&hunt.next_seed()) {
                if hunt.note(storm, &wanted) {
                    done.store(true, Ordering::Relaxed);
                    break;
                }
            }
            if hunt.found.is_some() {
                break;
            }
            if saved.elapsed() > Duration::from_secs(5) {
                self.page.hunts[at] = hunt.clone();
                self.save()?;
                saved = Instant::now();
            }
        }
        let told = match &hunt.found {
            Some(found) => format!("found by storm {}: {}", found.storm, found.signatures.join("; ")),
            None => format!("not found in {} storms, {} fired otherwise", hunt.storms, hunt.others),
        };
        let took = began.elapsed().as_secs_f64();
        println!("{:<28} hunt {}: {told} ({took:.0} s)", self.page.bug, number + 1);
        self.page.hunts[at] = hunt;
        Ok(self.save()?)
    }

    /// Shrinks the first finding.
    fn make_small(&mut self) -> Result<(), Failure> {
        let wanted_small = self.page.small.is_none() && self.args.shrink > 0;
        let Some(found) = self.page.found().filter(|_| wanted_small) else { return Ok(()) };
        let wanted = zoo::wanted(self.specimen);
        let Some(signature) = zoo::right(&found.signatures, &wanted).cloned() else { return Ok(()) };
        let name = self.specimen.map(|specimen| specimen.name);
        let plan = storm(name, found.seed).map_err(Failure::Usage)?;
        let mut shows = |plan: &Plan| {
            let judged = hunt::judge(plan, self.stop).ok()?;
            (!self.stop.load(Ordering::Relaxed) && judged.shows(&signature)).then_some(judged)
        };
        let Some(first) = shows(&plan) else { return Ok(()) };
        let trial = Trial { budget: self.args.shrink, shows: &mut shows, progress: &mut |_, _| {} };
        let small = hunt::small(&plan, first, trial);
        if self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let file = format!("{}.toml", self.page.bug);
        let path = self.path.with_file_name(&file);
        fs::write(&path, small.text(&signature, &Origin::default()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        let faults: Vec<String> =
            small.plan.faults.iter().map(|fault| fault.kind.name().to_owned()).collect();
        println!("{:<28} shrunk to {}: {}", self.page.bug, faults.join(", "), path.display());
        self.page.small = Some(Small { file, signature, faults });
        Ok(self.save()?)
    }

    /// Replays the small one on real processes.
    fn replay(&mut self) -> Result<(), Failure> {
        let Some(small) = self.page.small.clone() else { return Ok(()) };
        let path = self.path.with_file_name(&small.file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = StormFile::parse(&small.file, &text).map_err(|error| Failure::Usage(error.to_string()))?;
        let mut plan = Plan::from_file(file, 0).map_err(Failure::Usage)?;
        // In the simulator one operation at the right moment is enough; here many must be tried.
        plan.rate = plan.rate.max(LOAD.0);
        plan.clients = plan.clients.max(LOAD.1);
        let before = self.page.on_processes.tried;
        while self.page.on_processes.tried < self.args.processes && !self.stop.load(Ordering::Relaxed) {
            let judged = on_processes(&plan, &self.args.out)?;
            let tally = &mut self.page.on_processes;
            tally.tried += 1;
            tally.seen += u32::from(judged.shows(&small.signature));
            self.save()?;
        }
        if self.page.on_processes.tried > before {
            let zoo::Tally { seen, tried } = self.page.on_processes;
            println!("{:<28} {}", self.page.bug, super::repro::proportion(seen, tried));
        }
        Ok(())
    }
}

/// The storm of a seed, on nodes with this bug.
fn storm(bug: Option<&str>, seed: u64) -> Result<Plan, String> {
    Plan::from_file(StormFile { mutation: bug.map(str::to_owned), ..swarm::storm(seed) }, seed)
}

/// What a storm shows of the bug: what the node without it shows in the same storm is none of it.
fn fired(bug: Option<&str>, seed: u64, stop: &Arc<AtomicBool>) -> Storm {
    let signatures = |bug: Option<&str>| -> Result<Vec<String>, String> {
        let judged = hunt::judge(&storm(bug, seed)?, stop).map_err(|error| error.to_string())?;
        Ok(judged.signatures)
    };
    let shown = signatures(bug).and_then(|mut shown| {
        if bug.is_some() && !shown.is_empty() {
            let without = signatures(None)?;
            shown.retain(|signature| !without.contains(signature));
        }
        Ok(shown)
    });
    match shown {
        Ok(signatures) => Storm::Judged(signatures),
        Err(error) => {
            tracing::debug!("seed {seed}: {error}");
            Storm::Broken
        }
    }
}
