//! The log: one line per event, in the shape of Redis' (`pid:role dd Mon yyyy hh:mm:ss.mmm level message`; UTC).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // the log is a file or standard output

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use slotstorm_node::io::{LogLevel, WallMs};

use crate::clock::wall_now;

/// Where lines go, and which.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    /// Lines below it are dropped.
    pub least: LogLevel,
    /// `M` master, `S` replica, `C` before the server's configuration is loaded.
    pub role: char,
}

impl Log {
    /// A log to standard output that keeps `notice` and above.
    pub const fn to_stdout() -> Self {
        Self { file: None, least: LogLevel::Notice, role: 'C' }
    }

    /// Appends to `path` from now on.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(&mut self, path: &str) -> io::Result<()> {
        self.file = Some(OpenOptions::new().create(true).append(true).open(path)?);
        Ok(())
    }

    /// Writes one line, if the level is high enough.
    pub fn line(&mut self, level: LogLevel, text: &str) {
        if level < self.least {
            return;
        }
        self.raw(&format_line(std::process::id(), self.role, wall_now(), level, text));
    }

    /// Writes a text as it is. A log that cannot be written is no reason to stop.
    pub fn raw(&mut self, text: &str) {
        let _ = match &mut self.file {
            Some(file) => file.write_all(text.as_bytes()),
            None => io::stdout().lock().write_all(text.as_bytes()),
        };
    }

    /// [`LogLevel::Notice`].
    pub fn notice(&mut self, text: &str) {
        self.line(LogLevel::Notice, text);
    }

    /// [`LogLevel::Warning`].
    pub fn warning(&mut self, text: &str) {
        self.line(LogLevel::Warning, text);
    }
}

/// The level that the `loglevel` directive names.
pub fn level_named(name: &str) -> LogLevel {
    match name {
        "debug" => LogLevel::Debug,
        "verbose" => LogLevel::Verbose,
        "warning" => LogLevel::Warning,
        _ => LogLevel::Notice,
    }
}

fn format_line(pid: u32, role: char, at: WallMs, level: LogLevel, text: &str) -> String {
    let mark = match level {
        LogLevel::Debug => '.',
        LogLevel::Verbose => '-',
        LogLevel::Notice => '*',
        LogLevel::Warning => '#',
    };
    let (year, month, day) = civil(at.0 / 86_400_000);
    let month =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month - 1];
    let of_day = at.0 % 86_400_000;
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    let millis = of_day % 1000;
    format!(
        "{pid}:{role} {day:02} {month} {year} {hour:02}:{minute:02}:{second:02}.{millis:03} {mark} {text}\n"
    )
}

/// Year, month and day of a count of days since 1970, in the proleptic Gregorian calendar.
fn civil(days: u64) -> (u64, usize, u64) {
    // Years begin in March here, so that the leap day is the last of its year; an era is 400 years.
    let days = days + 719_468;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = days / 146_097 * 400 + year_of_era + u64::from(month <= 2);
    (year, month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_looks_like_redis() {
        let line = format_line(16449, 'M', WallMs(1_795_470_729_164), LogLevel::Notice, "Ready");
        assert_eq!(line, "16449:M 23 Nov 2026 21:52:09.164 * Ready\n");
    }

    #[test]
    fn leap_days_and_ends_of_years_are_right() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(20_818), (2026, 12, 31));
    }
}
