//! Many storms at once: seeds are handed out in their order to a few threads.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// What one seed came to, and how much of a core that took.
pub struct Answer<T> {
    pub seed: u64,
    pub outcome: T,
    pub took: Duration,
}

/// Runs `work` for each seed of a range that `skip` does not name, on `jobs` threads (`None`: one a core). Ends when all
/// are done, or once `stop` is set: then nobody begins another seed, and what is under way is still answered if it was
/// done in full, which `work` says by answering at all.
pub fn run<T: Send + 'static>(
    Range { start, end }: Range<u64>,
    skip: impl Fn(u64) -> bool + Send + Sync + 'static,
    jobs: Option<usize>,
    stop: &Arc<AtomicBool>,
    work: impl Fn(u64) -> Option<T> + Send + Sync + 'static,
) -> mpsc::IntoIter<Answer<T>> {
    let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (answers, heard) = mpsc::channel();
    let shared = Arc::new((AtomicU64::new(start), skip, work));
    for _ in 0..jobs.max(1) {
        let (shared, stop, answers) = (Arc::clone(&shared), Arc::clone(stop), answers.clone());
        std::thread::spawn(move || {
            let (next, skip, work) = &*shared;
            while !stop.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return;
                }
                if skip(seed) {
                    continue;
                }
                let began = processor_time();
                let Some(outcome) = work(seed) else { continue };
                let took = processor_time().saturating_sub(began);
                if answers.send(Answer { seed, outcome, took }).is_err() {
                    return;
                }
            }
        });
    }
    heard.into_iter()
}

/// What this thread has had of a core so far: on a busy machine the time on the wall says little.
pub fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_answered_once_but_those_that_are_skipped() {
        let work = |seed| (seed != 7).then_some(seed * 2);
        let answers = run(3..10, |seed| seed == 5, Some(3), &Arc::default(), work);
        let mut all: Vec<(u64, u64)> = answers.map(|one| (one.seed, one.outcome)).collect();
        all.sort_unstable();
        assert_eq!(all, [(3, 6), (4, 8), (6, 12), (8, 16), (9, 18)]);
    }

    #[test]
    fn nothing_begins_once_it_is_to_stop() {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = run(0..u64::MAX, |_| false, Some(1), &stop, Some);
        let told: Vec<u64> =
            answers.inspect(|one| stop.store(one.seed >= 4, Ordering::Relaxed)).map(|one| one.seed).collect();
        assert!(told.len() >= 5 && told.iter().copied().eq(0..told.len() as u64), "{told:?}");
    }
}
