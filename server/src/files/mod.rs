//! The data directory: appends, atomic replacements, and the lock that one node holds for life.
//!
//! A replacement is crash-safe: whatever system call is the last one, the file is the old or the new one,
//! whole. The lock is an flock on the file's inode, as redis-server's on nodes.conf, so a redis-server and
//! this server keep each other out. A replacement brings a new inode: it is locked before it gets the name.
//! Who opened an old inode just before and locks it just after could believe the lock to be his: this server
//! looks at the name again when it has a lock, and for redis-server, which does not, the last replaced
//! inodes stay locked for a while.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // this is where the data directory is touched

pub mod calls;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use calls::{Calls, LockedFile, Os};
use slotstorm_node::io::DiskError;

pub use reading::{FileReader, READ_CHUNK_BYTES};

/// Work on the files of one directory. Names are relative to it.
#[derive(Debug)]
pub struct FileStore<C: Calls = Os> {
    dir: PathBuf,
    calls: C,
    locks: BTreeMap<String, Lock>,
    appended: BTreeMap<String, Appended>,
}

/// Bytes of a long replacement that are written between two syncs.
const SYNC_EVERY_BYTES: usize = 32 << 20;
/// A file of more bytes than this is given back to the disk beside other work.
const BIG_FILE_BYTES: u64 = 1 << 20;
/// Replaced inodes that stay locked.
const RETIRED_LOCKS: usize = 16;

#[derive(Debug)]
struct Lock {
    current: LockedFile,
    /// Inodes that had the name before, the last one at the end; see the module's head.
    retired: VecDeque<LockedFile>,
}

/// A file kept open for appending.
#[derive(Debug)]
struct Appended {
    file: File,
    len: u64,
}

/// A sync that is still to be made.
#[derive(Debug)]
pub struct SyncBeside(File);

impl SyncBeside {
    /// Makes it.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn carry_out(self) -> Result<(), DiskError> {
        Os.sync(&self.0).map_err(disk_error)
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("another process holds the lock")]
    Busy,
    /// The file cannot be opened or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One append: bytes and whether they must be durable.
#[derive(Debug)]
pub struct AppendPiece {
    /// What to write.
    pub bytes: Vec<u8>,
    /// fdatasync before the answer.
    pub sync: bool,
}

impl FileStore<Os> {
    /// A store on `dir`, which must be there.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::with_calls(dir, Os)
    }
}

impl<C: Calls> FileStore<C> {
    /// A store that makes its system calls through `calls`.
    pub fn with_calls(dir: impl Into<PathBuf>, calls: C) -> Self {
        Self { dir: dir.into(), calls, locks: BTreeMap::new(), appended: BTreeMap::new() }
    }

    /// Takes the lock on a file for the store's life, creating the file empty if it is not there. What a
    /// process that was killed in the middle of a replacement left behind is removed.
    ///
    /// # Errors
    /// [`LockError::Busy`] if another process has it.
    pub fn lock(&mut self, name: &str) -> Result<(), LockError> {
        let path = self.path(name);
        loop {
            let file = self.calls.create(&path, false)?;
            let locked = self.calls.lock(file).map_err(|error| match error.kind() {
                ErrorKind::WouldBlock => LockError::Busy,
                _ => LockError::Io(error),
            })?;
            // The name may have got another inode between the opening and the locking.
            let ours = locked.metadata()?;
            if std::fs::metadata(&path)
                .is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
            {
                self.locks.insert(name.to_owned(), Lock { current: locked, retired: VecDeque::new() });
                break;
            }
        }
        self.remove_leftovers(&path);
        Ok(())
    }

    /// Appends the pieces in order with as few calls as possible: one sync for all, if one of them wants it.
    /// After an error none of them is in the file (as far as the disk still obeys).
    ///
    /// # Errors
    /// What the operating system said.
    pub fn append(&mut self, name: &str, pieces: &[AppendPiece]) -> Result<(), DiskError> {
        let mut appended = self.open_to_append(name).map_err(disk_error)?;
        let before = appended.len;
        let mut result = Ok(());
        for piece in pieces {
            result = result.and_then(|()| self.write_all(&appended.file, &piece.bytes));
            appended.len += piece.bytes.len() as u64;
        }
        if result.is_ok() && pieces.iter().any(|piece| piece.sync) {
            result = self.calls.sync(&appended.file);
        }
        match result {
            Ok(()) => {
                self.appended.insert(name.to_owned(), appended);
                Ok(())
            }
            Err(error) => {
                // Half a command at the end would spoil what is appended next. The file is opened anew then.
                let _ = self.calls.truncate(&appended.file, before);
                Err(disk_error(error))
            }
        }
    }

    /// Puts `content` in the place of the whole file. After an error the old file is there, untouched; only
    /// when the last step, the directory's sync, fails, the new one is there, and perhaps not durable.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn replace(
        &mut self,
        name: &str,
        content: impl IntoIterator<Item: AsRef<[u8]>>,
        sync: bool,
    ) -> Result<(), DiskError> {
        self.replace_with(name, content.into_iter().map(Ok), sync).map(|_| ())
    }

    /// As [`Self::replace`], with content that is still being made: an error of its own gives everything up.
    /// Gives the new length.
    ///
    /// # Errors
    /// The content's, or what the operating system said.
    pub fn replace_with(
        &mut self,
        name: &str,
        content: impl IntoIterator<Item = io::Result<impl AsRef<[u8]>>>,
        sync: bool,
    ) -> Result<u64, DiskError> {
        let path = self.path(name);
        let temporary = temporary_path(&path);
        self.make_parent(&path, name).map_err(disk_error)?;
        let written = self.write_temporary(&temporary, name, content, sync);
        let renamed = written.and_then(|written| self.calls.rename(&temporary, &path).map(|()| written));
        match renamed {
            Err(error) => {
                let _ = self.calls.remove(&temporary);
                Err(disk_error(error))
            }
            Ok((new_lock, len)) => {
                self.appended.remove(name);
                if let (Some(new), Some(held)) = (new_lock, self.locks.get_mut(name)) {
                    held.retired.push_back(std::mem::replace(&mut held.current, new));
                    if held.retired.len() > RETIRED_LOCKS {
                        held.retired.pop_front();
                    }
                }
                if sync {
                    self.calls.sync_dir(parent(&path)).map_err(disk_error)?;
                }
                Ok(len)
            }
        }
    }

    /// Writes the new content beside the old; returns it locked if the old one is, and its length.
    fn write_temporary(
        &mut self,
        temporary: &Path,
        name: &str,
        content: impl IntoIterator<Item = io::Result<impl AsRef<[u8]>>>,
        sync: bool,
    ) -> io::Result<(Option<LockedFile>, u64)> {
        let file = self.calls.create(temporary, true)?;
        let (mut len, mut unsynced) = (0, 0);
        for piece in content {
            let piece = piece?;
            let piece = piece.as_ref();
            self.write_all(&file, piece)?;
            len += piece.len() as u64;
            unsynced += piece.len();
            if sync && unsynced >= SYNC_EVERY_BYTES {
                // One sync of everything at the end would keep the disk from others for long.
                self.calls.sync(&file)?;
                unsynced = 0;
            }
        }
        if self.locks.contains_key(name) {
            let locked = self.calls.lock(file)?;
            if sync {
                self.calls.sync(&locked)?;
            }
            return Ok((Some(locked), len));
        }
        if sync {
            self.calls.sync(&file)?;
        }
        Ok((None, len))
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        let appended = self.open_to_append(name).map_err(disk_error)?;
        self.calls.sync(&appended.file).map_err(disk_error)?;
        self.appended.insert(name.to_owned(), appended);
        Ok(())
    }

    /// What makes durable all that was appended so far, for another thread.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn sync_beside(&mut self, name: &str) -> Result<SyncBeside, DiskError> {
        let appended = self.open_to_append(name).map_err(disk_error)?;
        let file = appended.file.try_clone().map_err(disk_error);
        self.appended.insert(name.to_owned(), appended);
        file.map(SyncBeside)
    }

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn truncate(&mut self, name: &str, len: u64) -> Result<(), DiskError> {
        self.appended.remove(name);
        let file = self.calls.create(&self.path(name), false).map_err(disk_error)?;
        self.calls.truncate(&file, len).map_err(disk_error)
    }

    /// Removes the file if it is there.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.appended.remove(name);
        let path = self.path(name);
        // Giving back the blocks of a big file takes long: whoever closes it last does it, beside other work.
        let big = File::open(&path)
            .ok()
            .filter(|file| file.metadata().is_ok_and(|data| data.len() > BIG_FILE_BYTES));
        let removed = self.calls.remove(&path);
        if let Some(file) = big {
            // Without a thread it is closed here.
            let _ = std::thread::Builder::new().name("closer".to_owned()).spawn(move || drop(file));
        }
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(disk_error(error)),
            _ => Ok(()),
        }
    }

    /// Gives a file another name, durably.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.appended.remove(from);
        self.appended.remove(to);
        let target = self.path(to);
        let renamed = self.calls.rename(&self.path(from), &target);
        renamed.and_then(|()| self.calls.sync_dir(parent(&target))).map_err(disk_error)
    }

    /// Opens a file to read it in pieces; `None` if it is not there.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn read(&self, name: &str) -> io::Result<Option<FileReader>> {
        FileReader::open(&self.path(name))
    }

    /// Makes another directory the data directory, for this process too. Locks that are held stay.
    ///
    /// # Errors
    /// It is not there, or may not be entered; nothing has changed then.
    pub fn change_dir(&mut self, path: &str) -> Result<(), DiskError> {
        std::env::set_current_dir(path).map_err(disk_error)?;
        self.dir = std::env::current_dir().map_err(disk_error)?;
        self.appended.clear();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn open_to_append(&mut self, name: &str) -> io::Result<Appended> {
        if let Some(open) = self.appended.remove(name) {
            return Ok(open);
        }
        let path = self.path(name);
        self.make_parent(&path, name)?;
        let is_new = !path.exists();
        let mut file = self.calls.create(&path, false)?;
        if is_new {
            self.calls.sync_dir(parent(&path))?;
        }
        let len = file.seek(SeekFrom::End(0))?;
        Ok(Appended { file, len })
    }

    fn write_all(&mut self, file: &File, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.calls.write(file, bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The data directory itself must be there; directories inside it (appendonlydir) are made.
    fn make_parent(&mut self, path: &Path, name: &str) -> io::Result<()> {
        let parent = parent(path);
        if !name.contains('/') || parent.is_dir() {
            return Ok(());
        }
        self.calls.create_dirs(parent)?;
        self.calls.sync_dir(&self.dir)
    }

    /// Removes temporary files of killed processes; the caller holds the lock on `path`, so none is being
    /// written.
    fn remove_leftovers(&mut self, path: &Path) {
        let Some(file_name) = path.file_name().and_then(|name| name.to_str()) else { return };
        let Ok(entries) = std::fs::read_dir(parent(path)) else { return };
        for entry in entries.flatten() {
            let found = entry.file_name();
            let pid = found.to_str().and_then(|found| found.strip_prefix("temp-"));
            let pid =
                pid.and_then(|rest| rest.strip_suffix(file_name)).and_then(|rest| rest.strip_suffix('-'));
            if pid.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit())) {
                let _ = self.calls.remove(&entry.path());
            }
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Beside the file, so that the rename stays on one filesystem; with the pid, so that two servers that share
/// a directory do not write into each other's.
fn temporary_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent(path).join(format!("temp-{}-{name}", std::process::id()))
}

/// An error as the node is told it.
#[allow(clippy::needless_pass_by_value)] // it is what map_err gives
pub fn disk_error(error: io::Error) -> DiskError {
    let no_space =
        matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
    DiskError { message: error.to_string(), no_space }
}
