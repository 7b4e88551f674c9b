//! The clocks of one machine: the monotonic one, which may run fast or slow, and the wall clock, which may also
//! be wrong and jump. Both are functions of the simulation's one true time.

use slotstorm_node::io::{Mono, Now, WallMs};

use crate::Nanos;

/// The wall time at which every simulation begins: 2026-01-01, so that no run depends on the day it is made.
const WALL_ORIGIN_MS: i64 = 1_767_225_600_000;
/// A process' monotonic clock begins at 1 s, as the real shell's does: a zero means "never".
const MONO_ORIGIN_US: u64 = 1_000_000;
const PPM: i128 = 1_000_000;

/// A machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// From here on the present rate holds.
    since: Nanos,
    /// What the machine had counted by then, in its own nanoseconds.
    counted: u64,
    /// How much faster than true time it runs, in millionths.
    drift_ppm: i64,
    /// How far the wall clock is ahead.
    ahead_ms: i64,
}

/// The rate that no clock leaves: a tenth too fast or too slow is far more than any real one.
const MAX_DRIFT_PPM: i64 = 100_000;

impl Clock {
    /// A clock that is right.
    pub const fn right() -> Self {
        Self { since: 0, counted: 0, drift_ppm: 0, ahead_ms: 0 }
    }

    /// The wall clock jumps, forth or back.
    pub fn jump(&mut self, by_ms: i64) {
        self.ahead_ms = self.ahead_ms.saturating_add(by_ms);
    }

    /// From now on both clocks run at another rate.
    pub fn drift(&mut self, now: Nanos, ppm: i64) {
        self.counted = self.local(now);
        self.since = now;
        self.drift_ppm = ppm.clamp(-MAX_DRIFT_PPM, MAX_DRIFT_PPM);
    }

    /// The wall clock is right again, and from now on the rate.
    pub fn correct(&mut self, now: Nanos) {
        self.drift(now, 0);
        self.counted = now;
        self.ahead_ms = 0;
    }

    /// Nanoseconds that the machine has counted.
    #[inline]
    pub fn local(&self, now: Nanos) -> u64 {
        if self.drift_ppm == 0 {
            return self.counted + now.saturating_sub(self.since);
        }
        let elapsed = i128::from(now.saturating_sub(self.since));
        self.counted + (elapsed + elapsed * i128::from(self.drift_ppm) / PPM) as u64
    }

    /// What a process reads that was started when the machine had counted `boot`.
    #[inline]
    pub fn now(&self, now: Nanos, boot: u64) -> Now {
        let local = self.local(now);
        let mono = MONO_ORIGIN_US + local.saturating_sub(boot) / 1000;
        let wall = WALL_ORIGIN_MS + (local / 1_000_000) as i64 + self.ahead_ms;
        Now { mono: Mono(mono), wall: WallMs(wall.max(0) as u64) }
    }

    /// The first moment of true time at which such a process reads `at` or later.
    #[inline]
    pub fn when(&self, at: Mono, boot: u64) -> Nanos {
        let local = boot + at.0.saturating_sub(MONO_ORIGIN_US).saturating_mul(1000);
        if self.drift_ppm == 0 {
            return self.since + local.saturating_sub(self.counted);
        }
        let wanted = i128::from(local.saturating_sub(self.counted));
        let rate = PPM + i128::from(self.drift_ppm);
        // Twice rounded down on the way there, so a nanosecond more where it did not come out even.
        let elapsed = (wanted * PPM + rate - 1) / rate;
        let at = self.since + elapsed as u64;
        if self.local(at) < local { at + 1 } else { at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Nanos = 1_000_000_000;

    #[test]
    fn a_deadline_has_come_when_the_clock_says_so_and_not_before() {
        for ppm in [-100_000, -37, 0, 1, 250, 99_999] {
            let mut clock = Clock::right();
            clock.drift(3 * S, ppm);
            for us in [1_000_001, 1_500_000, 7_123_457, 99_000_000] {
                let at = clock.when(Mono(us), 2 * S);
                assert!(clock.now(at, 2 * S).mono >= Mono(us), "{ppm} ppm, {us}");
                let just_before = clock.now(at.max(3 * S + 2) - 2, 2 * S);
                assert!(at == 3 * S || just_before.mono < Mono(us), "{ppm} ppm, {us}: too late");
            }
        }
    }

    #[test]
    fn a_jump_moves_the_wall_clock_alone_and_a_drift_both() {
        let mut clock = Clock::right();
        let right = clock.now(10 * S, 0);
        clock.jump(-3_600_000);
        let jumped = clock.now(10 * S, 0);
        assert_eq!((jumped.mono, jumped.wall.0), (right.mono, right.wall.0 - 3_600_000));
        clock.correct(10 * S);
        clock.drift(10 * S, 100_000);
        let fast = clock.now(20 * S, 0);
        assert_eq!(fast.mono.ms_since(right.mono), 11_000);
        assert_eq!(fast.wall.0 - right.wall.0, 11_000);
    }
}
