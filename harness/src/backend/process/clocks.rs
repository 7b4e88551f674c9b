//! Wall clocks that err. Each node's shift stands in a file in libfaketime's words (`+1.500 x1.0001`), and is read anew
//! while the node runs: by our own server by itself (`SLOTSTORM_CLOCK_FILE`), by any other through libfaketime where that
//! is installed (Debian: `apt install faketime`). Monotonic time is left alone.

use std::io;
use std::path::{Path, PathBuf};

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
            ("LD_PRELOAD", library.display().to_string()),
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

/// Writes a node's shift, whole or not at all.
pub fn write(file: &Path, shift: ClockShift) -> io::Result<()> {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text(shift))?;
    std::fs::rename(&fresh, file)
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
    fn a_shift_is_written_in_the_words_of_libfaketime() {
        assert_eq!(text(ClockShift { offset_ms: -1500, drift_ppm: 100 }), "-1.500 x1.000100\n");
        assert_eq!(text(ClockShift::default()), "+0.000 x1.000000\n");
    }
}
