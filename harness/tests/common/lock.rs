//! Who may start real processes on this machine now: cargo runs tests (and people run worktrees) side by side, and clusters
//! disturb each other's timing.

use std::fs::{File, OpenOptions};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Clusters that may run at once. A storm on redis-server keeps a third of a processor busy.
const PLACES: usize = 2;

/// Held until dropped, or until the process ends.
#[must_use]
pub struct Held(Vec<Flock<File>>);

/// For a test that judges how soon something happens: nobody else starts anything meanwhile.
pub fn real_processes() -> Held {
    let place = |number| {
        let lock = Flock::lock(file(number), FlockArg::LockExclusive);
        lock.map_err(|(_, error)| error).expect("flock waits")
    };
    Held((0..PLACES).map(place).collect())
}

/// For a test to which a moment more or less is the same: another such test may run beside it.
pub fn beside_another() -> Held {
    loop {
        for number in 0..PLACES {
            match Flock::lock(file(number), FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Held(vec![lock]),
                Err((_, Errno::EWOULDBLOCK)) => {}
                Err((_, error)) => panic!("flock: {error}"),
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn file(place: usize) -> File {
    let path = std::env::temp_dir().join(format!("slotstorm-real-processes-{place}.lock"));
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
