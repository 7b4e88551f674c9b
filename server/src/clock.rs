//! The node's clocks: the shell reads them and hands their values over.
#![allow(clippy::disallowed_methods)] // this is where the clocks are read

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::skew;
use slotstorm_node::io::{Mono, Now, Stopwatch, WallMs};

/// Both clocks of this process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Monotonic time begins now (at 1 s, so that a zero always means "never").
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Reads both.
    pub fn now(&self) -> Now {
        let mono = self.origin.elapsed().as_micros() as u64 + 1_000_000;
        Now { mono: Mono(mono), wall: wall_now() }
    }

    /// Does nothing for so long.
    #[allow(clippy::unused_self)] // the one door to this process' time
    pub fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Nanoseconds since it was first read.
pub const STOPWATCH: Stopwatch = Stopwatch(|| {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
});

/// Wall-clock time.
pub fn wall_now() -> WallMs {
    // A clock before 1970 is nobody's; zero is a safe answer.
    let host_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    WallMs(skew::shifted(host_ms))
}
