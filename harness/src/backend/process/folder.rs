//! A run's folder: made under a temporary name, renamed when whole, `latest` pointing at the newest.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where a run writes. Left under its temporary name if the run never finishes, which tells it apart.
#[derive(Clone, Debug)]
pub struct RunFolder {
    results: PathBuf,
    name: String,
    path: PathBuf,
}

impl RunFolder {
    /// Makes `<results>/runs/.<utc>-<name>-<seed>.part` with `logs/` and `data/`.
    pub fn create(results: &Path, run: &str, seed: u64) -> io::Result<Self> {
        let run: String = run
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
            .collect();
        let runs = std::path::absolute(results.join("runs"))?;
        std::fs::create_dir_all(&runs)?;
        let base = format!("{}-{run}-{seed}", Utc::now().compact());
        for attempt in 1..100 {
            let name = if attempt == 1 { base.clone() } else { format!("{base}-{attempt}") };
            let path = runs.join(format!(".{name}.part"));
            if runs.join(&name).exists() {
                continue;
            }
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    std::fs::create_dir(path.join("logs"))?;
                    std::fs::create_dir(path.join("data"))?;
                    return Ok(Self { results: std::path::absolute(results)?, name, path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{base} exists a hundred times")))
    }

    /// Where it is now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A node's data directory.
    pub fn data(&self, node: u16) -> PathBuf {
        self.path.join("data").join(format!("n{node}"))
    }

    /// Where a copy of a node's nodes.conf is kept for a later rollback.
    pub fn kept_config(&self, node: u16) -> PathBuf {
        self.path.join("data").join(format!("n{node}.kept-nodes.conf"))
    }

    /// What a node's clock is told of its error.
    pub fn clock(&self, node: u16) -> PathBuf {
        self.path.join("data").join(format!("n{node}.clock"))
    }

    /// A node's own log; appended over restarts.
    pub fn log(&self, node: u16) -> PathBuf {
        self.path.join("logs").join(format!("n{node}.log"))
    }

    /// What a node wrote to stdout and stderr: refused flags, panics.
    pub fn output(&self, node: u16) -> PathBuf {
        self.path.join("logs").join(format!("n{node}.out"))
    }

    /// Gives it its final name and points `latest` at it. The nodes' data goes unless it is to be kept; so do empty
    /// `.out` files. Answers the final path.
    pub fn finish(self, keep_data: bool) -> io::Result<PathBuf> {
        if !keep_data {
            std::fs::remove_dir_all(self.path.join("data"))?;
        }
        for entry in std::fs::read_dir(self.path.join("logs"))? {
            let entry = entry?;
            if entry.metadata()?.len() == 0 {
                std::fs::remove_file(entry.path())?;
            }
        }
        let path = self.results.join("runs").join(&self.name);
        std::fs::rename(&self.path, &path)?;
        // A link is replaced in one step by renaming another over it.
        let fresh = self.results.join(format!(".latest-{}", std::process::id()));
        let _ = std::fs::remove_file(&fresh);
        std::os::unix::fs::symlink(Path::new("runs").join(&self.name), &fresh)?;
        std::fs::rename(&fresh, self.results.join("latest"))?;
        Ok(path)
    }

    /// Removes it: the run was never one.
    pub fn discard(self) -> io::Result<()> {
        std::fs::remove_dir_all(self.path)
    }
}

/// The last lines of a file, for error messages.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A moment in UTC, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    year: i64,
    month: u64,
    day: u64,
    second_of_day: u64,
}

impl Utc {
    /// Now.
    pub fn now() -> Self {
        Self::at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
    }

    /// Seconds since 1970, by the proleptic Gregorian calendar (years begin in March for the arithmetic).
    fn at(unix_s: u64) -> Self {
        let days = unix_s / 86_400 + 719_468; // since 0000-03-01
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = (era * 400 + year_of_era).cast_signed() + i64::from(month <= 2);
        Self { year, month, day: day_of_year - (153 * shifted + 2) / 5 + 1, second_of_day: unix_s % 86_400 }
    }

    fn clock(self) -> (u64, u64, u64) {
        (self.second_of_day / 3600, self.second_of_day / 60 % 60, self.second_of_day % 60)
    }

    /// `20261123T215003Z`.
    pub fn compact(self) -> String {
        let (h, m, s) = self.clock();
        format!("{:04}{:02}{:02}T{h:02}{m:02}{s:02}Z", self.year, self.month, self.day)
    }

    /// `2026-11-23T21:50:03Z`.
    pub fn rfc3339(self) -> String {
        let (h, m, s) = self.clock();
        format!("{:04}-{:02}-{:02}T{h:02}:{m:02}:{s:02}Z", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_at_the_calendars_corners() {
        for (unix_s, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_470_603, "2026-11-23T21:50:03Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Utc::at(unix_s).rfc3339(), expected);
        }
    }

    #[test]
    fn a_run_appears_whole_or_under_its_temporary_name() {
        let results = tempfile::tempdir().unwrap();
        let first = RunFolder::create(results.path(), "fail over/now", 7).unwrap();
        let second = RunFolder::create(results.path(), "fail over/now", 7).unwrap();
        assert_ne!(first.path(), second.path());
        std::fs::write(first.log(1), "hello\n").unwrap();
        std::fs::write(first.output(1), "").unwrap();
        assert!(!results.path().join("latest").exists());
        let path = first.finish(false).unwrap();
        assert_eq!(results.path().join("latest").canonicalize().unwrap(), path.canonicalize().unwrap());
        assert!(path.join("logs/n1.log").exists() && !path.join("logs/n1.out").exists());
        assert!(!path.join("data").exists());
        let newer = second.finish(true).unwrap();
        assert_eq!(results.path().join("latest").canonicalize().unwrap(), newer.canonicalize().unwrap());
    }
}
