//! A wall clock that errs on purpose. If `SLOTSTORM_CLOCK_FILE` names a file, its words (those of libfaketime:
//! `+1.500 x1.0001` is a second and a half ahead, running a ten-thousandth too fast) shift what this process takes for the
//! wall clock from the moment they are found. The fault injector writes it; nobody else sets the variable.
#![allow(clippy::disallowed_methods)] // a file and a clock beside the host's

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

const VARIABLE: &str = "SLOTSTORM_CLOCK_FILE";
/// How often the file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the file said last.
#[derive(Debug)]
struct Skew {
    file: PathBuf,
    looked: Option<Instant>,
    modified: Option<SystemTime>,
    shift: Shift,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Shift {
    offset_ms: i64,
    /// Beyond 1.
    rate: f64,
    /// The host's time from which on the rate counts.
    since_ms: u64,
}

/// The host's wall clock as this process is to take it.
pub fn shifted(host_ms: u64) -> u64 {
    static SKEW: OnceLock<Option<Mutex<Skew>>> = OnceLock::new();
    let skew = SKEW.get_or_init(|| {
        let file = PathBuf::from(std::env::var_os(VARIABLE)?);
        Some(Mutex::new(Skew { file, looked: None, modified: None, shift: Shift::default() }))
    });
    let Some(skew) = skew else { return host_ms };
    let mut skew = skew.lock().unwrap_or_else(PoisonError::into_inner);
    skew.look(host_ms);
    skew.shift.apply(host_ms)
}

impl Skew {
    fn look(&mut self, host_ms: u64) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        let modified = std::fs::metadata(&self.file).and_then(|meta| meta.modified()).ok();
        if modified == self.modified {
            return;
        }
        self.modified = modified;
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        self.shift = Shift { since_ms: host_ms, ..parse(&text).unwrap_or_default() };
    }
}

impl Shift {
    fn apply(self, host_ms: u64) -> u64 {
        let drift = host_ms.saturating_sub(self.since_ms) as f64 * self.rate;
        host_ms.saturating_add_signed(self.offset_ms + drift as i64)
    }
}

/// Offset in seconds, then `x` and the rate.
fn parse(text: &str) -> Option<Shift> {
    let mut words = text.split_ascii_whitespace();
    let offset: f64 = words.next()?.parse().ok()?;
    let rate: f64 = match words.next() {
        Some(word) => word.strip_prefix('x')?.parse().ok()?,
        None => 1.0,
    };
    (offset.is_finite() && rate.is_finite() && rate > 0.0).then_some(Shift {
        offset_ms: (offset * 1000.0) as i64,
        rate: rate - 1.0,
        since_ms: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_ahead_and_runs_too_fast() {
        let shift = Shift { since_ms: 1_000_000, ..parse("+1.500 x1.100000\n").unwrap() };
        assert_eq!(shift.apply(1_000_000), 1_001_500);
        assert_eq!(shift.apply(1_010_000), 1_012_500, "a tenth more of ten seconds");
        assert_eq!(parse("-5.000 x1.000000").unwrap().apply(100_000), 95_000);
    }

    #[test]
    fn other_words_shift_nothing() {
        for text in ["", "soon", "+1 y2", "+inf x1", "+1 x-1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
