//! Crash safety: each system call of a replacement fails, and each is the last one of a process, in turn.
//!
//! The processes that die, and the one that tries the lock, are this test program again: a test that finds its role
//! in the environment plays it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use tempfile::TempDir;

use super::calls::{Calls, LockedFile, Os};
use super::*;

const NAME: &str = "nodes.conf";
const OLD: &[u8] = b"the old content, rather long, of nodes.conf\n";
const NEW: &[u8] = b"new content\n";

/// What happens in the call of a given number, counted from 0.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It fails with this error; a write has written half of its bytes before.
    Fails(usize, Errno),
    /// The process ends in it; a write has written half of its bytes before.
    Dies(usize),
}

#[derive(Debug)]
struct FaultyCalls {
    made: usize,
    fault: Option<Fault>,
}

impl FaultyCalls {
    fn call(&mut self) -> io::Result<()> {
        let number = self.made;
        self.made += 1;
        match self.fault {
            Some(Fault::Fails(at, errno)) if at == number => Err(errno.into()),
            Some(Fault::Dies(at)) if at == number => std::process::abort(),
            _ => Ok(()),
        }
    }
}

impl Calls for FaultyCalls {
    fn create(&mut self, path: &Path, truncate: bool) -> io::Result<File> {
        self.call()?;
        Os.create(path, truncate)
    }
    fn write(&mut self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        let is_next = |at| at == self.made;
        if matches!(self.fault, Some(Fault::Fails(at, _) | Fault::Dies(at)) if is_next(at)) {
            Os.write(file, &bytes[..bytes.len() / 2])?;
        }
        self.call()?;
        Os.write(file, bytes)
    }
    fn lock(&mut self, file: File) -> io::Result<LockedFile> {
        self.call()?;
        Os.lock(file)
    }
    fn sync(&mut self, file: &File) -> io::Result<()> {
        self.call()?;
        Os.sync(file)
    }
    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.call()?;
        Os.sync_dir(path)
    }
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        Os.rename(from, to)
    }
    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.call()?;
        Os.remove(path)
    }
    fn truncate(&mut self, file: &File, len: u64) -> io::Result<()> {
        self.call()?;
        Os.truncate(file, len)
    }
    fn create_dirs(&mut self, path: &Path) -> io::Result<()> {
        self.call()?;
        Os.create_dirs(path)
    }
}

fn store_with_old_file(dir: &Path) -> FileStore<FaultyCalls> {
    fs::write(dir.join(NAME), OLD).unwrap();
    let mut store = FileStore::with_calls(dir, FaultyCalls { made: 0, fault: None });
    store.lock(NAME).unwrap();
    store.calls.made = 0;
    store
}

/// Calls that one durable replacement of a locked file makes.
fn calls_of_a_replacement() -> usize {
    let dir = TempDir::new().unwrap();
    let mut store = store_with_old_file(dir.path());
    store.replace(NAME, [NEW], true).unwrap();
    store.calls.made
}

fn names_in(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// This program again, to play one test's role on `dir`.
fn play(test: &str, dir: &Path, detail: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("files::tests::{test}"), "--nocapture"])
        .env("SLOTSTORM_TEST_DIR", dir)
        .env("SLOTSTORM_TEST_DETAIL", detail)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn role() -> Option<(std::path::PathBuf, String)> {
    let dir = std::env::var_os("SLOTSTORM_TEST_DIR")?;
    Some((dir.into(), std::env::var("SLOTSTORM_TEST_DETAIL").unwrap_or_default()))
}

#[test]
fn each_failing_call_leaves_the_old_or_the_new_file_whole_and_still_locked() {
    let calls = calls_of_a_replacement();
    assert!(calls >= 6, "create, write, lock, sync, rename, sync of the directory: {calls}");
    for errno in [Errno::ENOSPC, Errno::EROFS, Errno::EIO] {
        for at in 0..calls {
            let dir = TempDir::new().unwrap();
            let mut store = store_with_old_file(dir.path());
            store.calls.fault = Some(Fault::Fails(at, errno));
            let error = store.replace(NAME, [NEW], true).unwrap_err();
            assert_eq!(error.no_space, errno == Errno::ENOSPC, "{error:?}");

            let is_last = at + 1 == calls; // the directory's sync, after the rename
            assert_eq!(
                fs::read(dir.path().join(NAME)).unwrap(),
                if is_last { NEW } else { OLD },
                "call {at}"
            );
            assert_eq!(names_in(dir.path()), [NAME], "call {at} left something behind");
            let other = FileStore::new(dir.path()).lock(NAME);
            assert!(matches!(other, Err(LockError::Busy)), "call {at} lost the lock");

            store.calls.fault = None;
            store.replace(NAME, [NEW], true).unwrap();
            assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), NEW, "after call {at} failed");
        }
    }
}

#[test]
fn wherever_the_process_dies_the_file_is_whole_and_the_next_process_gets_the_lock() {
    let calls = calls_of_a_replacement();
    for at in 0..=calls {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join(NAME), OLD).unwrap();
        let status = play("role_replace_and_die", dir.path(), &at.to_string()).wait().unwrap();
        assert_eq!(status.success(), at == calls, "call {at} is the process' last one: {status}");

        let content = fs::read(dir.path().join(NAME)).unwrap();
        let renamed = at + 1 >= calls; // before the directory's sync, or not at all
        assert_eq!(content, if renamed { NEW } else { OLD }, "died in call {at}");
        let mut next = FileStore::new(dir.path());
        next.lock(NAME).unwrap();
        assert_eq!(names_in(dir.path()), [NAME], "died in call {at}: leftovers are removed");
    }
}

#[test]
fn role_replace_and_die() {
    let Some((dir, at)) = role() else { return };
    let mut store = FileStore::with_calls(dir, FaultyCalls { made: 0, fault: None });
    store.lock(NAME).unwrap();
    store.calls = FaultyCalls { made: 0, fault: Some(Fault::Dies(at.parse().unwrap())) };
    store.replace(NAME, [NEW], true).unwrap();
}

#[test]
fn no_other_process_ever_gets_the_lock_while_the_file_is_replaced_again_and_again() {
    let dir = TempDir::new().unwrap();
    let mut store = store_with_old_file(dir.path());
    let mut other = play("role_try_the_lock", dir.path(), "");
    let started = dir.path().join("tries");
    while !started.exists() {
        std::thread::yield_now();
    }
    for round in 0..3000_u32 {
        store.replace(NAME, [round.to_string()], round % 50 == 0).unwrap();
    }
    // Its standard input ends: it stops, and says whether it ever had the lock.
    drop(other.stdin.take());
    let status = other.wait().unwrap();
    assert!(status.success(), "another process got the lock");
    let tries: u64 = fs::read_to_string(dir.path().join("tried")).unwrap().parse().unwrap();
    assert!(tries > 100, "it tried only {tries} times");
}

#[test]
fn role_try_the_lock() {
    let Some((dir, _)) = role() else { return };
    let ended = std::thread::spawn(|| io::copy(&mut io::stdin(), &mut io::sink()));
    let mut tries = 0_u64;
    File::create(dir.join("tries")).unwrap();
    while !ended.is_finished() {
        // As any server does it: open the name, lock what was opened.
        let file = Os.create(&dir.join(NAME), false).unwrap();
        match Os.lock(file) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            Ok(locked) => {
                // An inode that has lost the name long ago may be free; the one that has it may not.
                let named = fs::metadata(dir.join(NAME)).unwrap();
                assert_ne!(named.ino(), locked.metadata().unwrap().ino(), "the lock was free");
            }
        }
        assert!(matches!(FileStore::new(&dir).lock(NAME), Err(LockError::Busy)), "the lock was free");
        tries += 1;
    }
    write!(File::create(dir.join("tried")).unwrap(), "{tries}").unwrap();
}

#[test]
fn a_second_store_does_not_get_the_lock_and_a_third_does_when_the_first_is_gone() {
    let dir = TempDir::new().unwrap();
    let mut first = FileStore::new(dir.path());
    first.lock(NAME).unwrap();
    first.replace(NAME, [NEW], true).unwrap();
    assert!(matches!(FileStore::new(dir.path()).lock(NAME), Err(LockError::Busy)));
    drop(first);
    FileStore::new(dir.path()).lock(NAME).unwrap();
}

#[test]
fn a_file_that_may_not_grow_is_an_error_with_the_old_content() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(NAME), OLD).unwrap();
    let status = play("role_write_too_much", dir.path(), "").wait().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), OLD);
    assert_eq!(fs::read(dir.path().join("log.aof")).unwrap(), b"before");
}

/// In a process of its own: the limit on the size of files holds for the whole process.
#[test]
fn role_write_too_much() {
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::signal::{SigSet, Signal};
    let Some((dir, _)) = role() else { return };
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGXFSZ);
    blocked.thread_block().unwrap();
    let mut store = FileStore::new(dir);
    store.lock(NAME).unwrap();
    let piece = |bytes: &[u8]| [AppendPiece { bytes: bytes.to_vec(), sync: true }];
    store.append("log.aof", &piece(b"before")).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 4096, 4096).unwrap();

    let error = store.replace(NAME, [vec![b'x'; 8192]], true).unwrap_err();
    assert!(error.no_space, "{error:?}");
    let error = store.append("log.aof", &piece(&[b'x'; 8192])).unwrap_err();
    assert!(error.no_space, "{error:?}");
}

#[test]
fn a_failed_append_leaves_no_half_command_and_the_next_one_follows_the_last_good_one() {
    let dir = TempDir::new().unwrap();
    let mut store = FileStore::with_calls(dir.path(), FaultyCalls { made: 0, fault: None });
    let pieces = |texts: &[&str]| {
        let piece = |text: &&str| AppendPiece { bytes: text.as_bytes().to_vec(), sync: true };
        texts.iter().map(piece).collect::<Vec<_>>()
    };
    let name = "appendonlydir/a.aof";
    store.append(name, &pieces(&["one "])).unwrap();
    for (at, errno) in [(0, Errno::ENOSPC), (1, Errno::EIO), (2, Errno::EIO)] {
        store.calls.fault = Some(Fault::Fails(store.calls.made + at, errno));
        store.append(name, &pieces(&["torn", "lost"])).unwrap_err();
        // The file is opened anew in the next call.
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"one ");
        store.calls.fault = None;
        store.sync(name).unwrap();
    }
    store.append(name, &pieces(&["two ", "three"])).unwrap();
    assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"one two three");
    store.truncate(name, 3).unwrap();
    store.append(name, &pieces(&["!"])).unwrap();
    assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"one!");
    store.remove(name).unwrap();
    store.remove(name).unwrap();
    assert!(store.read(name).unwrap().is_none());
}

#[test]
fn a_big_file_is_read_in_pieces() {
    let dir = TempDir::new().unwrap();
    let content: Vec<u8> = (0..READ_CHUNK_BYTES * 2 + 10).map(|at| at as u8).collect();
    fs::write(dir.path().join("big"), &content).unwrap();
    let mut reader = FileStore::new(dir.path()).read("big").unwrap().unwrap();
    let pieces = [(); 3].map(|()| reader.next_chunk().unwrap());
    assert_eq!(pieces.each_ref().map(Vec::len), [READ_CHUNK_BYTES, READ_CHUNK_BYTES, 10]);
    assert_eq!(pieces.concat(), content);
    assert!(reader.next_chunk().unwrap().is_empty());
}
