//! The system calls that files need, as a trait: tests make each of them fail, or end the process in it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // this is where the data directory is touched

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

/// An open file that holds an exclusive flock.
pub type LockedFile = Flock<File>;

/// One method per system call that changes the data directory.
pub trait Calls: Send {
    /// Opens for writing, creating it; emptied if `truncate`.
    fn create(&mut self, path: &Path, truncate: bool) -> io::Result<File>;
    /// Writes some of the bytes at the file's position.
    fn write(&mut self, file: &File, bytes: &[u8]) -> io::Result<usize>;
    /// Takes the exclusive lock without waiting; `WouldBlock` if another has it.
    fn lock(&mut self, file: File) -> io::Result<LockedFile>;
    /// Makes content and length durable.
    fn sync(&mut self, file: &File) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&mut self, path: &Path) -> io::Result<()>;
    /// Puts `from` in the place of `to` in one step.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Cuts or extends a file.
    fn truncate(&mut self, file: &File, len: u64) -> io::Result<()>;
    /// Makes a directory and those above it, if they are not there.
    fn create_dirs(&mut self, path: &Path) -> io::Result<()>;
}

/// The operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Os;

impl Calls for Os {
    fn create(&mut self, path: &Path, truncate: bool) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(truncate).open(path)
    }

    fn write(&mut self, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    fn lock(&mut self, file: File) -> io::Result<LockedFile> {
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn truncate(&mut self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn create_dirs(&mut self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }
}
