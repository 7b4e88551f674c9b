//! One run of a night as a process of its own, which is tied to this one: if this one is killed, so is the run, and its keeper
//! takes its servers.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use tokio::process::{Child, Command};

use super::file::CampaignFile;
use super::matrix::Task;
use super::outcome::{Ended, Ending};
use crate::backend::process::SELF_EXE;
use crate::backend::process::folder::{Utc, tail};

/// What a run that has had its time may still take to heal, stop and judge.
const GRACE: Duration = Duration::from_secs(30);
/// A canary needs the time of a few faults, however short a night's runs are.
const CANARY_S: f64 = 40.0;
/// Between two looks at how much processor time a run has had.
const LOOK: Duration = Duration::from_millis(100);
/// What runs in virtual time is let run late, not ended: its limit is processor time, and this many times as much by the clock.
const PATIENCE: u32 = 10;

/// How long a task's run may take before it counts as hung.
pub fn limit(file: &CampaignFile, task: &Task) -> Duration {
    let least = if task.canary { 2.0 * CANARY_S + 180.0 } else { 0.0 };
    Duration::from_secs_f64(file.run_limit_s().max(least))
}

/// The command line of a task's run.
pub fn words(file: &CampaignFile, task: &Task, dir: &Path) -> Vec<String> {
    let cell = &task.cell;
    let mut words: Vec<String> = ["run", "--json"].map(str::to_owned).into();
    let mut flag = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    flag("preset", cell.preset.clone());
    flag("sut", cell.server.clone());
    flag("workload", cell.workload.clone());
    flag("masters", cell.topology.masters.to_string());
    flag("replicas", cell.topology.replicas.to_string());
    flag("node-timeout", cell.node_timeout_ms.to_string());
    flag("expect", cell.expect.to_string());
    let duration = if task.canary { file.duration_s.max(CANARY_S) } else { file.duration_s };
    flag("duration", duration.to_string());
    flag("rate", file.rate.to_string());
    flag("clients", file.clients.to_string());
    flag("seed", task.seed.to_string());
    flag("out", dir.display().to_string());
    if cell.backend != "process" {
        flag("backend", cell.backend.clone());
    }
    if let Some(bug) = file.mutation.as_ref().filter(|_| !task.canary) {
        flag("mutation", bug.clone());
    }
    if let Some(percent) = task.min_availability_pct {
        flag("min-availability", percent.to_string());
    }
    for (name, value) in &file.set {
        flag("set", format!("{name}={}", value.text()));
    }
    words
}

/// How one command line is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub limit: Duration,
    /// It happens in virtual time: it gives way to what does not, by this much niceness, and has its limit in processor time.
    pub aside: Option<i32>,
}

/// Runs one command line to its end, or ends it. What it says goes to `stderr.txt` in `dir`.
pub async fn make(words: &[String], dir: &Path, manner: Manner) -> io::Result<Ended> {
    let log = dir.join("stderr.txt");
    let (started, begun) = (Utc::now().rfc3339(), Instant::now());
    let mut child = spawn(words, &log)?;
    let pid = child.id();
    if let Some(niceness) = manner.aside
        && let Some(pid) = pid.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
    {
        rustix::process::setpriority_process(Some(pid), niceness)?;
    }
    let mut cpu_s = None;
    let limit = manner.limit.as_secs_f64();
    let (status, ending) = loop {
        tokio::select! {
            status = child.wait() => break (status?, Ending::ItsOwn),
            () = tokio::time::sleep(LOOK) => cpu_s = pid.and_then(cpu_seconds).or(cpu_s),
        }
        let took_s = begun.elapsed().as_secs_f64();
        let (is_hung, is_starved) = match manner.aside {
            None => (took_s >= limit, false),
            Some(_) => (cpu_s.unwrap_or(0.0) >= limit, took_s >= limit * f64::from(PATIENCE)),
        };
        if is_hung || is_starved {
            let ending = if is_hung { Ending::Hung } else { Ending::Starved };
            break (end(&mut child).await?, ending);
        }
    };
    Ok(Ended {
        exit: status.code(),
        ending,
        started,
        took_s: begun.elapsed().as_secs_f64(),
        cpu_s,
        said: tail(&log, 5),
    })
}

/// Processor time of a process so far, all its threads together; its children's is not in it.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = sysconf(SysconfVar::CLK_TCK).ok()??;
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th fields after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((field(11)? + field(12)?) as f64 / ticks as f64)
}

fn spawn(words: &[String], log: &Path) -> io::Result<Child> {
    let log = File::create(log)?;
    Command::new(SELF_EXE)
        .arg0("slotstorm")
        // Ties the run's life to ours, then becomes the run.
        .args(["__exec", &std::process::id().to_string(), SELF_EXE])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // Ctrl-C at the terminal is ours to act on.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Asks a run to end, then ends it; its keeper kills its servers.
async fn end(child: &mut Child) -> io::Result<ExitStatus> {
    if let Some(pid) = child.id() {
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
    }
    if let Ok(status) = tokio::time::timeout(GRACE, child.wait()).await {
        return status;
    }
    child.start_kill()?;
    child.wait().await
}
