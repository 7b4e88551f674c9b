//! Many keys on many cores.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Judges every key with `judge(key)` on up to `threads` threads, the largest first, and returns the answers in order of keys.
/// `sizes[key]` is how much work a key is, in any unit.
pub fn keyed<A: Send>(sizes: &[u64], threads: usize, judge: impl Fn(usize) -> A + Sync) -> Vec<A> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&key| (std::cmp::Reverse(sizes[key]), key));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut answers = Vec::new();
        while let Some(&key) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            answers.push((key, judge(key)));
        }
        answers
    };
    let threads = threads.clamp(1, sizes.len().max(1));
    let mut answers = thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut answers = work();
        for helper in helpers {
            match helper.join() {
                Ok(more) => answers.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        answers
    });
    answers.sort_unstable_by_key(|&(key, _)| key);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
