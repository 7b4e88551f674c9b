//! Wall clocks that err. Each node's shift stands in a file in libfaketime's words (`+1.500 x1.0001`), and is read anew
//! while the node runs: by our own server by itself (`SLOTSTORM_CLOCK_FILE`), by any other through libfaketime where that
//! is installed (Debian: `apt install faketime`). Monotonic time is left alone.

use std::io;
use std::path::{Path, PathBuf};

use slotstorm_checker::record::Nanos;

use super::sut::Program;
use crate::backend::ClockShift;

/// Where distributions put the library.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// The library, if it is there.
pub fn library() -> Option<PathBuf> {
    LIBRARIES.iter().map(PathBuf::from).find(|path| path.exists())
}

/// What a server's environment gets so that its clock can be shifted; empty: it cannot be.
pub fn environment(program: &Program, file: &Path) -> Vec<(String, String)> {
    let file = file.display().to_string();
    let pairs: Vec<(&str, String)> = match (program, library()) {
        (Program::Embedded, _) => vec![("SLOTSTORM_CLOCK_FILE", file)],
        (Program::Path(_), None) => Vec::new(),
        (Program::Path(_), Some(library)) => vec![
            // Debian's redis-server takes its memory from libjemalloc, which asks for the time before libfaketime is ready:
            // that ends the process. With libc's malloc in front of it there is no such circle.
            ("LD_PRELOAD", format!("{}:libc.so.6", library.display())),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ],
    };
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Why this program's clock cannot be shifted.
pub fn refusal(program: &Program) -> Option<String> {
    (matches!(program, Program::Path(_)) && library().is_none()).then(|| {
        "this server's clock can be shifted through libfaketime only, which is not installed (apt install \
                  faketime)"
            .to_owned()
    })
}

/// A node's clock: how it errs, since when, and when its process began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    pub shift: ClockShift,
    pub since: Nanos,
    pub started: Nanos,
}

impl Clock {
    /// Writes it for the program that reads it, whole or not at all.
    pub fn write(&self, file: &Path, program: &Program) -> io::Result<()> {
        let shift = match program {
            Program::Embedded => self.shift,
            Program::Path(_) => self.since_its_start(),
        };
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, text(shift))?;
        std::fs::rename(&fresh, file)
    }

    /// The same for libfaketime, which counts a drift from the start of the process: what it would have gathered before the
    /// drift began is taken off (and what an earlier process gathered is put on).
    fn since_its_start(&self) -> ClockShift {
        let gathered_ns = (i128::from(self.started) - i128::from(self.since))
            * i128::from(self.shift.drift_ppm)
            / 1_000_000;
        ClockShift { offset_ms: self.shift.offset_ms + (gathered_ns / 1_000_000) as i64, ..self.shift }
    }
}

fn text(shift: ClockShift) -> String {
    let rate = 1.0 + f64::from(shift.drift_ppm) / 1e6;
    let sign = if shift.offset_ms < 0 { '-' } else { '+' };
    let millis = shift.offset_ms.unsigned_abs();
    format!("{sign}{}.{:03} x{rate:.6}\n", millis / 1000, millis % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_that_libfaketime_counts_from_the_start_of_the_process_begins_when_it_was_set() {
        const SECOND: Nanos = 1_000_000_000;
        let shift = ClockShift { offset_ms: 50, drift_ppm: 200_000 };
        let error_ms = |clock: Clock, at_s: i64| {
            let seen = clock.since_its_start();
            seen.offset_ms
                + (at_s * 1000 - (clock.started / 1_000_000) as i64) * i64::from(seen.drift_ppm) / 1_000_000
        };
        let set_later = Clock { shift, since: 30 * SECOND, started: 10 * SECOND };
        assert_eq!((error_ms(set_later, 30), error_ms(set_later, 35)), (50, 1050));
        let started_again = Clock { started: 33 * SECOND, ..set_later };
        assert_eq!(error_ms(started_again, 35), 1050);
    }

    #[test]
    fn a_shift_is_written_in_the_words_of_libfaketime() {
        assert_eq!(text(ClockShift { offset_ms: -1500, drift_ppm: 100 }), "-1.500 x1.000100\n");
        assert_eq!(text(ClockShift::default()), "+0.000 x1.000000\n");
    }
}
