//! A night's folder, which is all of its state: `night.json`, `campaign.toml`, and a folder for each task that is done.
//!
//! ```text
//! results/campaigns/<utc>-<name>-<seed>/tasks/000017/{task.json, stderr.txt, runs/<run>/..., outcome.json}
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::attempt;
use super::engine::Engine;
use super::file::CampaignFile;
use super::outcome::{Outcome, from_json, write_whole};
use super::small::Small;
use crate::backend::process::folder::Utc;

/// `night.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NightInfo {
    pub schema: u32,
    /// The campaign's name.
    pub campaign: String,
    /// Of the order of runs and of their seeds.
    pub seed: u64,
    /// UTC, RFC 3339.
    pub started: String,
    /// How long runs are started; absent: until `runs` are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<f64>,
    /// Runs at the most; 0: as many as fit.
    #[serde(default)]
    pub runs: u64,
    pub jobs: usize,
    /// Simulated runs side by side.
    pub sim_jobs: usize,
    /// Who made the runs first.
    #[serde(default)]
    pub engine: Engine,
    /// How much of its time it has had, all its processes together.
    pub ran_s: f64,
    /// Why it is over; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    pub version: String,
    pub binary_sha256: String,
    pub host: String,
}

impl NightInfo {
    /// Month, day, hour and minute (UTC): nights of one day differ.
    pub fn short_start(&self) -> String {
        self.started.get(5..16).unwrap_or_default().replace('T', " ")
    }
}

/// A night that this process works on.
pub struct Night {
    pub path: PathBuf,
    pub info: NightInfo,
    pub file: CampaignFile,
    /// What is done, by task.
    pub done: BTreeMap<u64, Outcome>,
    _lock: Flock<File>,
}

/// A night as it lies on disk.
#[derive(Clone, Debug)]
pub struct StoredNight {
    /// Its folder's name.
    pub id: String,
    pub path: PathBuf,
    pub info: NightInfo,
    pub file: CampaignFile,
    pub outcomes: Vec<Outcome>,
    /// Failures that were made small.
    pub smalls: Vec<Small>,
    /// What could not be read.
    pub damaged: Vec<String>,
}

/// The folder of all nights.
pub fn nights_of(results: &Path) -> PathBuf {
    results.join("campaigns")
}

/// The folder of a task of a night; it is there once the task is done.
pub fn task_dir(night: &Path, number: u64) -> PathBuf {
    night.join("tasks").join(format!("{number:06}"))
}

impl Night {
    /// Makes the folder of a new night.
    pub fn create(results: &Path, text: &str, file: CampaignFile, info: NightInfo) -> anyhow::Result<Self> {
        let nights = nights_of(results);
        fs::create_dir_all(&nights).with_context(|| format!("cannot make {}", nights.display()))?;
        let id = format!("{}-{}-{}", Utc::now().compact(), info.campaign, info.seed);
        let path = nights.join(&id);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        fs::create_dir(path.join("tasks"))?;
        let lock = lock(&path)?;
        write_whole(&path.join("campaign.toml"), text.as_bytes())?;
        let night = Self { path, info, file, done: BTreeMap::new(), _lock: lock };
        night.save()?;
        let fresh = nights.join(format!(".latest-{}", std::process::id()));
        let _ = fs::remove_file(&fresh);
        std::os::unix::fs::symlink(&id, &fresh)?;
        fs::rename(&fresh, nights.join("latest"))?;
        Ok(night)
    }

    /// Opens a night to go on with it. Fails if another process does.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let path = fs::canonicalize(path).with_context(|| format!("there is no {}", path.display()))?;
        let lock = lock(&path)?;
        attempt::sweep(&path).with_context(|| format!("cannot clean {}", path.display()))?;
        let stored = StoredNight::read(&path)?;
        if let Some(damaged) = stored.damaged.first() {
            bail!("{damaged}: remove that task's folder to make its run again");
        }
        let done = stored.outcomes.into_iter().map(|outcome| (outcome.task.number, outcome)).collect();
        Ok(Self { path, info: stored.info, file: stored.file, done, _lock: lock })
    }

    /// Writes `night.json`.
    pub fn save(&self) -> anyhow::Result<()> {
        write_whole(&self.path.join("night.json"), &serde_json::to_vec_pretty(&self.info)?)
            .with_context(|| format!("cannot write in {}", self.path.display()))
    }

    /// A task's folder.
    pub fn task_dir(&self, number: u64) -> PathBuf {
        task_dir(&self.path, number)
    }
}

impl StoredNight {
    /// What became of a task.
    pub fn outcome(&self, task: u64) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.task.number == task)
    }

    /// What is to be made in a night's folder.
    pub fn plan(path: &Path) -> anyhow::Result<(NightInfo, CampaignFile)> {
        let info: NightInfo = from_json(&path.join("night.json"))?;
        let of_file = path.join("campaign.toml");
        let text =
            fs::read_to_string(&of_file).with_context(|| format!("cannot read {}", of_file.display()))?;
        Ok((info, CampaignFile::parse(&of_file.display().to_string(), &text)?))
    }

    /// Reads a night's folder.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let (info, file) = Self::plan(path)?;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(path.join("tasks"))?.flatten() {
            if let Ok(number) = entry.file_name().to_string_lossy().parse::<u64>() {
                numbers.push((number, entry.path()));
            }
        }
        numbers.sort();
        let mut stored = Self {
            id: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            path: path.to_owned(),
            info,
            file,
            outcomes: Vec::new(),
            smalls: Small::stored(path),
            damaged: Vec::new(),
        };
        for (_, dir) in numbers {
            match Outcome::stored(&dir) {
                Ok(outcome) => stored.outcomes.extend(outcome),
                Err(error) => stored.damaged.push(format!("{error:#}")),
            }
        }
        Ok(stored)
    }

    /// All nights, oldest first, and the folders that are none.
    pub fn all(results: &Path) -> (Vec<Self>, Vec<String>) {
        let (mut nights, mut damaged) = (Vec::new(), Vec::new());
        let entries = fs::read_dir(nights_of(results)).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        for path in paths {
            match Self::read(&path) {
                Ok(night) => nights.push(night),
                Err(error) => damaged.push(format!("{error:#}")),
            }
        }
        (nights, damaged)
    }
}

fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let file =
        File::create(path.join(".lock")).with_context(|| format!("cannot write in {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| anyhow::anyhow!("{} is being worked on ({error})", path.display()))
}
