//! Makes the runs of a night: some side by side, each within its time. Real clusters start only while the host is calm;
//! simulated runs fill what is left of the processors, and give way to them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;

use super::attempt::Attempt;
use super::child::{self, Manner};
use super::file::GuardFile;
use super::guard::{Guard, free_mb};
use super::matrix::{Sequence, Task};
use super::night::Night;
use super::outcome::{End, Ended, Outcome};
use super::retain;

/// Between two looks at host, disk and time.
const LOOK: Duration = Duration::from_millis(200);
/// A new cluster is being made: the next one waits until that is over.
const SETTLING: Duration = Duration::from_secs(5);
/// Runs in a row that could not be made: something is wrong that a further one will not mend.
const BROKEN_IN_A_ROW: u32 = 5;
/// How far the sequence is looked ahead for a run of the backend that has room. Bounded, so that the faster backend does not
/// run away from the campaign's weights.
const AHEAD: usize = 64;

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
    interrupted: Arc<AtomicBool>,
    mut on_outcome: impl FnMut(&Night, &Outcome),
) -> anyhow::Result<Stop> {
    let guard = Guard::start().context("no thread for the guard")?;
    let mut queue = Queue::new(night);
    let mut running: JoinSet<(Task, Attempt, io::Result<Ended>)> = JoinSet::new();
    let mut busy = Busy::default();
    let mut clock = Clock { since: Instant::now() };
    let mut broken_in_a_row = 0;
    let mut started = Instant::now();
    let stop = loop {
        if interrupted.load(Ordering::Relaxed) {
            break Stop::Interrupted;
        }
        let more = clock.more(night) && queue.fill();
        if !more && running.is_empty() {
            break Stop::Done;
        }
        let free = free_mb(&night.path);
        let full = free.filter(|free| *free < night.file.guard.min_free_mb);
        if let Some(free_mb) = full
            && running.is_empty()
        {
            break Stop::DiskFull { free_mb };
        }
        let rules = &night.file.guard;
        let may_begin = more && full.is_none();
        let room = Room {
            cluster: may_begin
                && busy.clusters < night.info.jobs
                && queue.has_cluster()
                && may_start(&guard, rules, started, busy.clusters == 0, listener),
            simulated: may_begin && busy.simulated < night.info.sim_jobs,
        };
        if may_begin && let Some(task) = queue.take(room) {
            let attempt = match Attempt::begin(&night.path, &task) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    break Stop::DiskFull { free_mb: free.unwrap_or(0) };
                }
                made => made.with_context(|| format!("cannot make a folder in {}", night.path.display()))?,
            };
            listener.started(&task);
            let simulated = task.cell.is_simulated();
            let words = child::words(&night.file, &task, attempt.dir());
            let aside = simulated.then_some(night.file.sim_niceness);
            let manner = Manner { limit: child::limit(&night.file, &task), aside };
            running.spawn_local(async move {
                let ended = child::make(&words, attempt.dir(), manner).await;
                (task, attempt, ended)
            });
            busy.add(simulated);
            if !simulated {
                started = Instant::now();
                guard.forget();
            }
        }
        let ended = tokio::select! {
            ended = running.join_next(), if !running.is_empty() => ended,
            () = tokio::time::sleep(LOOK) => None,
        };
        let Some(ended) = ended else { continue };
        let (task, attempt, ended) = ended.context("a run's watcher panicked")?;
        let ended = ended.context("a run cannot be started")?;
        busy.remove(task.cell.is_simulated());
        if interrupted.load(Ordering::Relaxed) {
            break Stop::Interrupted; // it may have been ended by the same signal: it will be made again
        }
        let outcome = Outcome::of(task, attempt.dir(), ended, &night.file.guard);
        if outcome.end == End::Broken
            && let Some(free_mb) = free_mb(&night.path).filter(|free| *free < night.file.guard.min_free_mb)
        {
            // The disk broke it: that says nothing of the task, which is made again once there is room.
            attempt.discard()?;
            break Stop::DiskFull { free_mb };
        }
        match attempt.finish(&outcome) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                break Stop::DiskFull { free_mb: free.unwrap_or(0) };
            }
            written => written.with_context(|| format!("cannot write in {}", night.path.display()))?,
        };
        listener.done(&outcome);
        let was_broken = outcome.end == End::Broken && outcome.starved.is_none();
        broken_in_a_row = if was_broken { broken_in_a_row + 1 } else { 0 };
        on_outcome(night, &outcome);
        let why = outcome.reason.clone();
        night.done.insert(outcome.task.number, outcome);
        match clock.note(night).and_then(|()| retain::thin(night)) {
            Err(error) if is_full(&error) => break Stop::DiskFull { free_mb: free.unwrap_or(0) },
            noted => noted?,
        }
        if broken_in_a_row >= BROKEN_IN_A_ROW {
            break Stop::Broken(why);
        }
    };
    running.shutdown().await;
    match clock.note(night) {
        // Nothing that was judged is lost by it: only how long the night has worked.
        Err(error) if is_full(&error) => {}
        noted => noted?,
    }
    Ok(stop)
}

fn is_full(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.into_iter().any(|cause| cause.kind() == io::ErrorKind::StorageFull)
}

/// Runs that are going on.
#[derive(Clone, Copy, Debug, Default)]
struct Busy {
    clusters: usize,
    simulated: usize,
}

impl Busy {
    fn of(&mut self, simulated: bool) -> &mut usize {
        if simulated { &mut self.simulated } else { &mut self.clusters }
    }

    fn add(&mut self, simulated: bool) {
        *self.of(simulated) += 1;
    }

    fn remove(&mut self, simulated: bool) {
        *self.of(simulated) -= 1;
    }
}

/// The tasks that are not done, in their order as far as there is room.
struct Queue {
    tasks: Box<dyn Iterator<Item = Task>>,
    ahead: VecDeque<Task>,
}

impl Queue {
    fn new(night: &Night) -> Self {
        let all = Sequence::new(&night.file, night.info.seed);
        let runs = if night.info.runs == 0 { usize::MAX } else { night.info.runs as usize };
        let done: Vec<u64> = night.done.keys().copied().collect();
        let tasks = all.take(runs).filter(move |task| done.binary_search(&task.number).is_err());
        Self { tasks: Box::new(tasks), ahead: VecDeque::new() }
    }

    /// Looks ahead; false if nothing is left.
    fn fill(&mut self) -> bool {
        while self.ahead.len() < AHEAD
            && let Some(task) = self.tasks.next()
        {
            self.ahead.push_back(task);
        }
        !self.ahead.is_empty()
    }

    fn has_cluster(&self) -> bool {
        self.ahead.iter().any(|task| !task.cell.is_simulated())
    }

    /// The first task that has room.
    fn take(&mut self, room: Room) -> Option<Task> {
        let fits = |task: &Task| if task.cell.is_simulated() { room.simulated } else { room.cluster };
        let at = self.ahead.iter().position(fits)?;
        self.ahead.remove(at)
    }
}

/// What may start.
#[derive(Clone, Copy, Debug)]
struct Room {
    cluster: bool,
    simulated: bool,
}

/// A night's time: only what its processes worked counts.
struct Clock {
    since: Instant,
}

impl Clock {
    /// True if one more run may begin.
    fn more(&self, night: &Night) -> bool {
        let ran = night.info.ran_s + self.since.elapsed().as_secs_f64();
        night.info.for_s.is_none_or(|length| ran < length)
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
