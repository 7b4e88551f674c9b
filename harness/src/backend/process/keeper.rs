//! The keeper: a small single-threaded child that is every server's parent, so that nothing outlives a run.
//!
//! It holds a pipe from the controller. When the pipe ends, however the controller died, it kills its direct children
//! until it has none: being a subreaper, it inherits what its children leave behind (a BGSAVE child of a killed server
//! becomes a direct child), and since it alone reaps them, no process id can have been reused under its hand.
//! Servers are started through `slotstorm __exec`, which ties them to the keeper's own life.
//!
//! Spoken over stdin and stdout, one JSON object a line: [`Order`] in, [`Word`] out.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal as UnixSignal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};
use serde::{Deserialize, Serialize};

/// What the controller wants.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// Comes back in the answer.
    pub id: u64,
    pub what: OrderKind,
}

/// The orders.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderKind {
    /// Start a server.
    Spawn(Spawn),
    /// Send a signal (by its number) to a server that was not reaped yet.
    Signal { node: u16, signal: i32 },
}

/// A server to be started.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spawn {
    pub node: u16,
    /// `None`: this very binary.
    pub program: Option<PathBuf>,
    pub args: Vec<String>,
    /// Its working folder.
    pub dir: PathBuf,
    /// Where its stdout and stderr go, appended.
    pub output: PathBuf,
    /// Added to its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
    /// No file of its may grow beyond this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_limit: Option<u64>,
}

/// How [`exec_main`] is told the file limit.
const FILE_LIMIT: &str = "SLOTSTORM_FILE_LIMIT";

/// What the keeper says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The order was carried out; `pid` of a spawn.
    Done { id: u64, pid: u32 },
    /// It was not.
    Failed { id: u64, why: String },
    /// A server is gone and reaped.
    Exited { node: u16, pid: u32, status: String },
    /// A server was stopped by a signal.
    Stopped { node: u16, pid: u32 },
    /// It runs again.
    Continued { node: u16, pid: u32 },
}

/// The hidden verb `__keeper`.
pub fn main() -> ExitCode {
    match keep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slotstorm keeper: {error}");
            ExitCode::from(3)
        }
    }
}

fn keep() -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    let mut watched = SigSet::empty();
    watched.add(UnixSignal::SIGCHLD);
    watched.thread_block()?;
    let deaths = SignalFd::with_flags(&watched, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let mut keeper = Keeper { nodes: BTreeMap::new(), deaths, inbox: Vec::new() };
    let served = keeper.serve();
    keeper.kill_all()?;
    served
}

struct Keeper {
    /// Servers not reaped yet.
    nodes: BTreeMap<i32, u16>,
    deaths: SignalFd,
    inbox: Vec<u8>,
}

impl Keeper {
    /// Until the controller's end of the pipe is gone.
    fn serve(&mut self) -> io::Result<()> {
        let stdin = io::stdin();
        loop {
            let (orders, deaths) = {
                let mut fds = [
                    PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.deaths.as_fd(), PollFlags::POLLIN),
                ];
                match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
                (fds[0].any().unwrap_or(true), fds[1].any().unwrap_or(true))
            };
            if deaths {
                while self.deaths.read_signal()?.is_some() {}
                if !self.reap()? {
                    return Ok(());
                }
            }
            if orders && !self.read_orders(stdin.as_fd())? {
                return Ok(());
            }
        }
    }

    /// False at the end of the pipe.
    fn read_orders(&mut self, stdin: BorrowedFd<'_>) -> io::Result<bool> {
        let mut piece = [0; 16384];
        match nix::unistd::read(stdin, &mut piece) {
            Ok(0) => return Ok(false),
            Ok(count) => self.inbox.extend_from_slice(&piece[..count]),
            Err(Errno::EINTR | Errno::EAGAIN) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        while let Some(end) = self.inbox.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.inbox.drain(..=end).collect();
            let order: Order = serde_json::from_slice(&line)?;
            if !say(&self.obey(order)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn obey(&mut self, order: Order) -> Word {
        let id = order.id;
        let done = match order.what {
            OrderKind::Spawn(spawn) => self.spawn(&spawn),
            OrderKind::Signal { node, signal } => self.signal(node, signal),
        };
        match done {
            Ok(pid) => Word::Done { id, pid },
            Err(why) => Word::Failed { id, why: why.to_string() },
        }
    }

    fn spawn(&mut self, spawn: &Spawn) -> io::Result<u32> {
        let output = OpenOptions::new().create(true).append(true).open(&spawn.output)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("slotstorm").arg("__exec").arg(getpid().to_string());
        match &spawn.program {
            Some(program) => command.arg(program),
            None => command.arg("/proc/self/exe"),
        };
        if let Some(limit) = spawn.file_limit {
            command.env(FILE_LIMIT, limit.to_string());
        }
        let child = command
            .args(&spawn.args)
            .envs(spawn.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&spawn.dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        self.nodes.insert(child.id().cast_signed(), spawn.node);
        Ok(child.id())
    }

    fn signal(&self, node: u16, signal: i32) -> io::Result<u32> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("n{node} does not run"));
        let pid = *self.nodes.iter().find(|(_, it)| **it == node).ok_or_else(gone)?.0;
        kill(Pid::from_raw(pid), UnixSignal::try_from(signal)?)?;
        Ok(pid.cast_unsigned())
    }

    /// Tells of every child that changed. False if nobody listens any more.
    fn reap(&mut self) -> io::Result<bool> {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED | WaitPidFlag::WCONTINUED;
        loop {
            let status = match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(true),
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some(raw) = status.pid().map(Pid::as_raw) else { continue };
            let Some(node) = self.nodes.get(&raw).copied() else { continue };
            let pid = raw.cast_unsigned();
            let word = match status {
                WaitStatus::Exited(_, code) => {
                    Word::Exited { node, pid, status: format!("exit code {code}") }
                }
                WaitStatus::Signaled(_, signal, core) => {
                    let dumped = if core { ", core dumped" } else { "" };
                    Word::Exited { node, pid, status: format!("{signal}{dumped}") }
                }
                WaitStatus::Stopped(..) => Word::Stopped { node, pid },
                WaitStatus::Continued(_) => Word::Continued { node, pid },
                _ => continue,
            };
            if matches!(word, Word::Exited { .. }) {
                self.nodes.remove(&raw);
            }
            if !say(&word) {
                return Ok(false);
            }
        }
    }

    /// Kills direct children until there is none; what they leave behind becomes a direct child.
    fn kill_all(&self) -> io::Result<()> {
        loop {
            for pid in children_of(getpid())? {
                let _ = kill(pid, UnixSignal::SIGKILL);
            }
            loop {
                match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Err(Errno::ECHILD) => return Ok(()),
                    Ok(WaitStatus::StillAlive) => break,
                    Ok(_) | Err(_) => {}
                }
            }
            let mut fds = [PollFd::new(self.deaths.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(5u8));
            while matches!(self.deaths.read_signal(), Ok(Some(_))) {}
        }
    }
}

/// False if the controller is gone.
fn say(word: &Word) -> bool {
    let Ok(mut line) = serde_json::to_vec(word) else { return false };
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).is_ok()
}

/// The direct children of a process, from /proc (the `children` file of a task is not in every kernel).
pub fn children_of(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if parent_in_stat(&stat) == Some(parent.as_raw()) {
            children.push(Pid::from_raw(pid));
        }
    }
    Ok(children)
}

/// The fourth field of /proc/PID/stat; the second may hold spaces and brackets.
fn parent_in_stat(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The hidden verb `__exec PARENT PROGRAM ARGS...`: becomes the program, tied to the life of the parent.
///
/// The parent-death signal is the kernel's, so it also reaches a stopped server; it survives exec (but not fork, and
/// it fires when the thread that spawned it ends: the keeper has one thread).
pub fn exec_main(args: &[std::ffi::OsString]) -> ExitCode {
    let [parent, program, rest @ ..] = args else {
        eprintln!("slotstorm __exec PARENT PROGRAM ARGS...");
        return ExitCode::from(254);
    };
    // Blocked, a write beyond the file limit fails and does not kill; nothing else sends it.
    let mut blocked = SigSet::empty();
    blocked.add(UnixSignal::SIGXFSZ);
    let prepared = prctl::set_pdeathsig(UnixSignal::SIGKILL).and_then(|()| blocked.thread_set_mask());
    // Root, too, shall be kept from a folder that a fault made read-only. Without this right (or if it is no root that
    // runs) there is nothing to give up.
    let _ = rustix::thread::remove_capability_from_bounding_set(rustix::thread::CapabilitySet::DAC_OVERRIDE);
    if let Err(error) = prepared {
        eprintln!("slotstorm __exec: cannot tie the server to its keeper: {error}");
        return ExitCode::from(126);
    }
    // The keeper may have died before the signal was set: then nobody would send it.
    if parent.to_str().and_then(|text| text.parse().ok()) != Some(getppid().as_raw()) {
        eprintln!("slotstorm __exec: the keeper is gone");
        return ExitCode::from(126);
    }
    let mut command = Command::new(program);
    if let Some(limit) = std::env::var(FILE_LIMIT).ok().and_then(|text| text.parse().ok()) {
        let limited = getrlimit(Resource::RLIMIT_FSIZE)
            .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_FSIZE, limit, hard));
        if let Err(error) = limited {
            eprintln!("slotstorm __exec: cannot limit files: {error}");
            return ExitCode::from(126);
        }
        command.env_remove(FILE_LIMIT);
    }
    if program == "/proc/self/exe" {
        command.arg0("slotstorm");
    }
    let error = command.args(rest).exec();
    eprintln!("slotstorm __exec: cannot run {}: {error}", program.to_string_lossy());
    ExitCode::from(127)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_hide_the_parent() {
        assert_eq!(parent_in_stat("12 (a) S b) (c) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in_stat("nonsense"), None);
    }

    #[test]
    fn this_process_finds_its_child() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let found = children_of(getpid()).unwrap();
        assert!(found.contains(&Pid::from_raw(child.id().cast_signed())));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
