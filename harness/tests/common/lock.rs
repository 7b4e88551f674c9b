//! One lock for the whole machine: tests that start real processes disturb each other's timing, and cargo runs test
//! binaries (and people run worktrees) side by side.

use std::fs::{File, OpenOptions};

use nix::fcntl::{Flock, FlockArg};

/// Held until dropped, or until the process ends.
pub fn real_processes() -> Flock<File> {
    let path = std::env::temp_dir().join("slotstorm-real-processes.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("flock waits")
}
