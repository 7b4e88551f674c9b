//! A night on more than one machine, by a queue that exists: this writes what is submitted. The contract is the same for all: a
//! task's number in, its folder out on a path that all machines share (`slotstorm campaign task NIGHT [NUMBER]`), and
//! `campaign collect` sums up. A task that is lost is missing and can be made later; one that is made twice counts once.

mod kubernetes;
mod slurm;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::child;
use super::file::CampaignFile;
use super::matrix::{Sequence, Task};
use super::night::NightInfo;
use super::outcome::write_whole;

/// The copy of this binary in the night's folder, so that all machines run the same one.
const BINARY: &str = "slotstorm";
/// Where a queue's system tells a task its number.
const INDEX_VARIABLES: [&str; 2] = ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"];

/// Who makes a night's runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// This process, on this machine
    #[default]
    Local,
    /// A job array, submitted with sbatch
    Slurm,
    /// The manifest of an Indexed Job, for kubectl
    Kubernetes,
}

/// A night to be submitted.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// Absolute, the same on all machines.
    pub night: &'a Path,
    /// Likewise; the night lies in it.
    pub results: &'a Path,
    pub info: &'a NightInfo,
    pub file: &'a CampaignFile,
    /// Tasks at the same time; absent: as many as the engine likes.
    pub at_once: Option<usize>,
}

impl Submission<'_> {
    /// What one task may take, with room for what the queue does around it.
    fn limit_s(&self) -> u64 {
        let longest = Sequence::new(self.file, self.info.seed)
            .take(self.info.runs as usize)
            .map(|task| child::limit(self.file, &task).as_secs())
            .max();
        longest.unwrap_or_default() + 120
    }
}

/// Writes what is submitted, and submits it where that is a command; answers what to tell the user.
pub fn submit(engine: Engine, submission: Submission<'_>) -> anyhow::Result<String> {
    match engine {
        Engine::Local => bail!("a local night is not submitted"),
        Engine::Slurm => {
            let binary = copy_binary(submission.night)?;
            let script = submission.night.join("job.sbatch");
            write_whole(&script, slurm::script(&submission, &binary).as_bytes())?;
            let asked = Command::new("sbatch").arg("--parsable").arg(&script).output();
            let asked = asked.context("sbatch cannot be started")?;
            if !asked.status.success() {
                bail!("sbatch: {}", String::from_utf8_lossy(&asked.stderr).trim());
            }
            Ok(format!("job {}", String::from_utf8_lossy(&asked.stdout).trim()))
        }
        Engine::Kubernetes => {
            let manifest = submission.night.join("job.json");
            let mut text = serde_json::to_vec_pretty(&kubernetes::manifest(&submission))?;
            text.push(b'\n');
            write_whole(&manifest, &text)?;
            Ok(format!("kubectl create -f {}", manifest.display()))
        }
    }
}

/// The number that the queue gave this process.
pub fn index_from_queue() -> anyhow::Result<u64> {
    let (name, value) = INDEX_VARIABLES
        .iter()
        .find_map(|name| std::env::var(name).ok().map(|value| (name, value)))
        .with_context(|| {
            format!("no task's number is given, and none of {} is set", INDEX_VARIABLES.join(", "))
        })?;
    value.parse().with_context(|| format!("{name} is {value:?}, which is no task's number"))
}

/// A task of a night, by its number.
pub fn task(file: &CampaignFile, info: &NightInfo, number: u64) -> anyhow::Result<Task> {
    let tasks = if info.runs == 0 { u64::MAX } else { info.runs };
    if number >= tasks {
        bail!("there is no task {number}: the night has {tasks}");
    }
    Sequence::new(file, info.seed).nth(number as usize).context("a matrix has always one more task")
}

fn copy_binary(night: &Path) -> anyhow::Result<PathBuf> {
    let copy = night.join(BINARY);
    std::fs::copy(crate::backend::process::SELF_EXE, &copy)
        .with_context(|| format!("cannot write {}", copy.display()))?;
    Ok(copy)
}
