//! Makes the runs of a night, each as a process of its own: some side by side, each within its time, none while the host is
//! not calm. A run's process is tied to this one: if this one is killed, so is the run, and its keeper takes its servers.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::file::{CampaignFile, GuardFile};
use super::guard::{Guard, free_mb};
use super::matrix::{Sequence, Task};
use super::night::Night;
use super::outcome::{End, Ended, Outcome};
use super::retain;
use crate::backend::process::SELF_EXE;
use crate::backend::process::folder::{Utc, tail};

/// Between two looks at host, disk and time.
const LOOK: Duration = Duration::from_millis(200);
/// What a run that has had its time may still take to heal, stop and judge.
const GRACE: Duration = Duration::from_secs(30);
/// A new cluster is being made: the next one waits until that is over.
const SETTLING: Duration = Duration::from_secs(5);
/// A canary needs the time of a few faults, however short a night's runs are.
const CANARY_S: f64 = 40.0;
/// Runs in a row that could not be made: something is wrong that a further one will not mend.
const BROKEN_IN_A_ROW: u32 = 5;

/// Why no further run is started.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// Its time is over, or its runs are done.
    Done,
    /// The user ended it: it can be resumed.
    Interrupted,
    /// It can be resumed once there is room.
    DiskFull { free_mb: u64 },
    /// The last runs could not be made.
    Broken(String),
}

impl Stop {
    /// In words; `None`: as it should be.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Done => None,
            Self::Interrupted => Some("it was interrupted".into()),
            Self::DiskFull { free_mb } => Some(format!("the disk is full: {free_mb} MB are free")),
            Self::Broken(why) => Some(format!("{BROKEN_IN_A_ROW} runs in a row could not be made: {why}")),
        }
    }
}

/// Who wants to know how it goes.
pub trait Listener {
    fn started(&self, task: &Task);
    fn done(&self, outcome: &Outcome);
    /// Nothing starts, and why.
    fn held(&self, why: &str);
}

/// Works on a night until it is over. `interrupted` is looked at often.
pub async fn run(
    night: &mut Night,
    listener: &dyn Listener,
    interrupted: Rc<Cell<bool>>,
    mut on_outcome: impl FnMut(&Night, &Outcome),
) -> anyhow::Result<Stop> {
    let guard = Guard::start().context("no thread for the guard")?;
    let mut tasks = Sequence::new(&night.file, night.info.seed).peekable();
    let mut running: JoinSet<(Task, PathBuf, io::Result<Ended>)> = JoinSet::new();
    let mut clock = Clock { since: Instant::now() };
    let mut broken_in_a_row = 0;
    let mut started = Instant::now();
    let stop = loop {
        while tasks.next_if(|task| night.done.contains_key(&task.number)).is_some() {}
        let more = !interrupted.get() && clock.more(night, running.len());
        if interrupted.get() || (!more && running.is_empty()) {
            break if interrupted.get() { Stop::Interrupted } else { Stop::Done };
        }
        let free = free_mb(&night.path);
        if let Some(free_mb) = free.filter(|free| *free < night.file.guard.min_free_mb)
            && running.is_empty()
        {
            break Stop::DiskFull { free_mb };
        }
        let room = more
            && running.len() < night.info.jobs
            && free.is_none_or(|free| free >= night.file.guard.min_free_mb);
        if room && may_start(&guard, &night.file.guard, started, running.is_empty(), listener) {
            let task = tasks.next().context("a matrix has always one more task")?;
            let dir = match night.fresh_task_dir(&task) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    break Stop::DiskFull { free_mb: free.unwrap_or(0) };
                }
                made => made.with_context(|| format!("cannot make a folder in {}", night.path.display()))?,
            };
            listener.started(&task);
            let words = words(&night.file, &task, &dir);
            let least = if task.canary { 2.0 * CANARY_S + 180.0 } else { 0.0 };
            let limit = Duration::from_secs_f64(night.file.run_limit_s().max(least));
            running.spawn_local(async move {
                let ended = make(&words, &dir, limit).await;
                (task, dir, ended)
            });
            started = Instant::now();
            guard.forget();
        }
        let ended = tokio::select! {
            ended = running.join_next(), if !running.is_empty() => ended,
            () = tokio::time::sleep(LOOK) => None,
        };
        let Some(ended) = ended else { continue };
        let (task, dir, ended) = ended.context("a run's watcher panicked")?;
        let ended = ended.context("a run cannot be started")?;
        if interrupted.get() {
            continue; // it may have been ended by the same signal: it will be made again
        }
        let outcome = Outcome::of(task, &dir, ended, &night.file.guard);
        match outcome.write(&dir) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                break Stop::DiskFull { free_mb: free.unwrap_or(0) };
            }
            written => written.with_context(|| format!("cannot write in {}", dir.display()))?,
        }
        clock.note(night)?;
        listener.done(&outcome);
        broken_in_a_row = if outcome.end == End::Broken { broken_in_a_row + 1 } else { 0 };
        on_outcome(night, &outcome);
        let why = outcome.reason.clone();
        night.done.insert(outcome.task.number, outcome);
        retain::thin(night)?;
        if broken_in_a_row >= BROKEN_IN_A_ROW {
            break Stop::Broken(why);
        }
    };
    running.shutdown().await;
    clock.note(night)?;
    Ok(stop)
}

/// A night's time: only what its processes worked counts.
struct Clock {
    since: Instant,
}

impl Clock {
    /// True if one more run may begin.
    fn more(&self, night: &Night, running: usize) -> bool {
        let ran = night.info.ran_s + self.since.elapsed().as_secs_f64();
        let in_time = night.info.for_s.is_none_or(|length| ran < length);
        let made = night.done.len() + running;
        in_time && (night.info.runs == 0 || (made as u64) < night.info.runs)
    }

    /// Adds what was worked since the last time, on disk too.
    fn note(&mut self, night: &mut Night) -> anyhow::Result<()> {
        night.info.ran_s += self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        night.save()
    }
}

fn may_start(guard: &Guard, limits: &GuardFile, last: Instant, idle: bool, listener: &dyn Listener) -> bool {
    if !idle && last.elapsed() < SETTLING {
        return false;
    }
    let Some(delay) = guard.delay_ms() else { return false };
    if delay <= limits.max_delay_ms {
        return true;
    }
    if idle && last.elapsed().as_secs_f64() > limits.patience_s {
        listener.held(&format!(
            "the host is not calm ({delay:.0} ms late), but nothing runs: starting all the same"
        ));
        return true;
    }
    listener.held(&format!(
        "the host is not calm: threads run {delay:.0} ms late (bound {:.0} ms)",
        limits.max_delay_ms
    ));
    false
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
    if let Some(percent) = task.min_availability_pct {
        flag("min-availability", percent.to_string());
    }
    for (name, value) in &file.set {
        flag("set", format!("{name}={}", value.text()));
    }
    words
}

/// Runs one command line to its end, or ends it.
async fn make(words: &[String], dir: &Path, limit: Duration) -> io::Result<Ended> {
    let log = dir.join("stderr.txt");
    let (started, begun) = (Utc::now().rfc3339(), Instant::now());
    let mut child = spawn(words, &log)?;
    let (status, hung) = match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) => (status?, false),
        Err(_) => (end(&mut child).await?, true),
    };
    Ok(Ended {
        exit: status.code(),
        hung,
        started,
        took_s: begun.elapsed().as_secs_f64(),
        said: tail(&log, 5),
    })
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
