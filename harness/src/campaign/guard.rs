//! Is the host calm enough for one more cluster? Measured, not guessed: a thread sleeps a little, again and again, and
//! notes how much later than wanted it ran.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

/// One sleep.
const TICK: Duration = Duration::from_millis(10);
/// How many of them are looked at: three seconds.
const KEPT: usize = 300;
/// Fewer say nothing.
const ENOUGH: usize = 50;

/// The last delays.
#[derive(Debug, Default)]
struct Delays(VecDeque<Duration>);

impl Delays {
    fn note(&mut self, late: Duration) {
        self.0.push_back(late);
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// What 99 of 100 sleeps did not exceed; `None`: too few so far.
    fn p99(&self) -> Option<Duration> {
        if self.0.len() < ENOUGH {
            return None;
        }
        let mut sorted: Vec<Duration> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        Some(sorted[(sorted.len() * 99 / 100).min(sorted.len() - 1)])
    }
}

/// The measuring thread. It ends with this value.
pub struct Guard {
    delays: Arc<Mutex<Delays>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    /// Begins to measure.
    pub fn start() -> std::io::Result<Self> {
        let delays: Arc<Mutex<Delays>> = Arc::default();
        let over = Arc::new(AtomicBool::new(false));
        let (theirs, ends) = (Arc::clone(&delays), Arc::clone(&over));
        let thread = std::thread::Builder::new().name("guard".to_owned()).spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let asleep = Instant::now();
                std::thread::sleep(TICK);
                let late = asleep.elapsed().saturating_sub(TICK);
                theirs.lock().unwrap_or_else(PoisonError::into_inner).note(late);
            }
        })?;
        Ok(Self { delays, over, thread: Some(thread) })
    }

    /// How late a thread runs that wants to (99 of 100 times), over the last seconds; `None`: not known yet.
    pub fn delay_ms(&self) -> Option<f64> {
        let p99 = self.delays.lock().unwrap_or_else(PoisonError::into_inner).p99();
        p99.map(|late| late.as_secs_f64() * 1e3)
    }

    /// Forgets what was measured: a cluster has just been started, and its making says nothing of its storm.
    pub fn forget(&self) {
        self.delays.lock().unwrap_or_else(PoisonError::into_inner).0.clear();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Megabytes that may still be written below a folder; `None`: the file system does not say.
pub fn free_mb(path: &Path) -> Option<u64> {
    let stats = statvfs(path).ok()?;
    Some(stats.blocks_available() * stats.fragment_size() / (1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_late_wake_ups_hold_nothing_back_and_many_do() {
        let mut delays = Delays::default();
        for _ in 0..ENOUGH - 1 {
            delays.note(Duration::from_millis(1));
        }
        assert_eq!(delays.p99(), None, "too few to say");
        for _ in 0..KEPT {
            delays.note(Duration::from_millis(1));
        }
        delays.note(Duration::from_millis(500));
        assert_eq!(delays.p99(), Some(Duration::from_millis(1)));
        for _ in 0..KEPT / 50 {
            delays.note(Duration::from_millis(80));
        }
        assert_eq!(delays.p99(), Some(Duration::from_millis(80)));
    }

    #[test]
    fn the_thread_measures_and_ends() {
        let guard = Guard::start().unwrap();
        let begun = Instant::now();
        while guard.delay_ms().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing was measured");
            std::thread::sleep(Duration::from_millis(50));
        }
        guard.forget();
        assert_eq!(guard.delay_ms(), None);
    }

    #[test]
    fn a_folder_that_exists_has_room_and_one_that_does_not_has_no_answer() {
        assert!(free_mb(&std::env::temp_dir()).is_some());
        assert_eq!(free_mb(Path::new("/nowhere/at/all")), None);
    }
}
