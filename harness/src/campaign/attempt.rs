//! An attempt at a task: a hidden folder that becomes the task's folder, in one step, when its run is judged. So a task that is
//! killed leaves nothing that counts, and one that is made twice (a queue that lost sight of it) counts once: the first to
//! end wins, and the other one goes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::matrix::Task;
use super::night::task_dir;
use super::outcome::{OUTCOME, Outcome, write_whole};

/// Held by the process that works in the folder. By lock, not by process number: nodes of a cluster share the folder.
const LOCK: &str = ".lock";
/// Attempts at one task that may lie about.
const MOST: u32 = 1000;

/// A folder that is being worked in.
#[derive(Debug)]
pub struct Attempt {
    dir: PathBuf,
    home: PathBuf,
    _lock: Flock<File>,
}

impl Attempt {
    /// Makes a fresh folder for a task of a night.
    pub fn begin(night: &Path, task: &Task) -> io::Result<Self> {
        let home = task_dir(night, task.number);
        for number in 1..=MOST {
            let dir = home.with_file_name(format!(".{:06}-{number}", task.number));
            match fs::create_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            let Some(lock) = try_lock(&dir)? else { continue };
            write_whole(&dir.join("task.json"), &serde_json::to_vec_pretty(task)?)?;
            return Ok(Self { dir, home, _lock: lock });
        }
        Err(io::Error::other(format!("{MOST} attempts at {} lie about", home.display())))
    }

    /// Where the run goes.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes it the task's folder. False if another attempt was first: then this one is removed.
    pub fn finish(self, outcome: &Outcome) -> io::Result<bool> {
        outcome.write(&self.dir)?;
        match fs::rename(&self.dir, &self.home) {
            Err(_) if self.home.join(OUTCOME).exists() => {
                fs::remove_dir_all(&self.dir)?;
                return Ok(false);
            }
            renamed => renamed?,
        }
        // Left behind it harms nothing.
        let _ = fs::remove_file(self.home.join(LOCK));
        Ok(true)
    }

    /// Removes it: it says nothing of its task.
    pub fn discard(self) -> io::Result<()> {
        fs::remove_dir_all(&self.dir)
    }
}

/// Removes the attempts of a night that nobody works on any more.
pub fn sweep(night: &Path) -> io::Result<()> {
    for entry in fs::read_dir(night.join("tasks"))? {
        let entry = entry?;
        let is_attempt = entry.file_name().to_string_lossy().starts_with('.');
        if is_attempt && try_lock(&entry.path())?.is_some() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// `None`: somebody else has it.
fn try_lock(dir: &Path) -> io::Result<Option<Flock<File>>> {
    let file = match File::create(dir.join(LOCK)) {
        // It has just become its task's folder, or was swept away.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        made => made?,
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::tests::outcome;

    #[test]
    fn of_two_attempts_at_a_task_the_first_to_end_counts_and_nothing_of_the_other_stays() {
        let night = tempfile::tempdir().unwrap();
        fs::create_dir(night.path().join("tasks")).unwrap();
        let (mut one, mut other) = (outcome(7, "embedded", &[]), outcome(7, "embedded", &["x"]));
        (one.took_s, other.took_s) = (1.0, 2.0);
        let first = Attempt::begin(night.path(), &one.task).unwrap();
        let second = Attempt::begin(night.path(), &one.task).unwrap();
        assert_ne!(first.dir(), second.dir());
        assert!(second.finish(&other).unwrap());
        assert!(!first.finish(&one).unwrap());
        let stored = Outcome::stored(&task_dir(night.path(), 7)).unwrap();
        assert_eq!(stored, Some(other));
        assert_eq!(fs::read_dir(night.path().join("tasks")).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_attempt_left_is_swept_away_and_what_is_being_worked_in_is_not() {
        let night = tempfile::tempdir().unwrap();
        fs::create_dir(night.path().join("tasks")).unwrap();
        let task = outcome(7, "embedded", &[]).task;
        let alive = Attempt::begin(night.path(), &task).unwrap();
        let killed = Attempt::begin(night.path(), &task).unwrap();
        let left = killed.dir().to_owned();
        drop(killed); // as the kernel does with the locks of a process that is killed
        sweep(night.path()).unwrap();
        assert!(alive.dir().exists() && !left.exists());
        assert!(Attempt::begin(night.path(), &task).unwrap().dir() == left, "its name is free again");
    }
}
