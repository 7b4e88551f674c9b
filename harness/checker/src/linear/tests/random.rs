//! Random small histories. Half of them come from an object that really ran, so that legal ones are not rare.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::linear::op::{Op, Status};

/// Random histories a model is tried on; `SLOTSTORM_HISTORIES` sets another count.
pub fn histories() -> u64 {
    std::env::var("SLOTSTORM_HISTORIES").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000)
}

/// The generator of one history.
pub fn rng(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

/// Two to nine intervals with many overlaps and ties, in order of their moments of effect.
pub fn intervals(rng: &mut SmallRng) -> Vec<(u64, u64)> {
    let count = rng.random_range(2..=9);
    let spread = *[2, 4, 8].get(rng.random_range(0..3_usize)).unwrap_or(&4);
    let mut moments: Vec<u64> = (0..count).map(|_| rng.random_range(10..40)).collect();
    moments.sort_unstable();
    moments
        .into_iter()
        .map(|at| (at - rng.random_range(0..=spread), at + rng.random_range(0..=spread)))
        .collect()
}

/// How an operation ended, in a history where `unknown` of ten have no outcome.
pub fn status(rng: &mut SmallRng, unknown: u32) -> Status {
    match rng.random_range(0..100) {
        0..4 => Status::Failed,
        other if other < 4 + unknown * 10 => Status::Unknown,
        _ => Status::Done,
    }
}

/// An operation that ended so.
pub fn op<K>(process: u32, (call, ret): (u64, u64), status: Status, kind: K) -> Op<K> {
    match status {
        Status::Done => Op::done(process, call, ret, kind),
        Status::Unknown => Op::unknown(process, call, kind),
        Status::Failed => Op::failed(process, call, ret, kind),
    }
}

/// Counts both verdicts, so that a comparison that saw only one kind of history fails.
#[derive(Default)]
pub struct Tally {
    legal: u64,
    illegal: u64,
}

impl Tally {
    pub fn add(&mut self, legal: bool) {
        if legal { self.legal += 1 } else { self.illegal += 1 }
    }

    pub fn assert_both(&self) {
        let least = (self.legal + self.illegal) / 20;
        assert!(self.legal > least && self.illegal > least, "{} legal, {} not", self.legal, self.illegal);
    }
}
