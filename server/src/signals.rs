//! Signals as a readable file descriptor, so that they are events like any other.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Blocked signals, read one by one. SIGHUP is taken and dropped; SIGPIPE is ignored by Rust's start-up code.
#[derive(Debug)]
pub struct Signals {
    source: SignalFd,
}

impl Signals {
    /// Blocks SIGTERM, SIGINT and SIGHUP in this thread and those it starts later: call it first.
    ///
    /// # Errors
    /// The kernel has no file descriptor left.
    pub fn block() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let source = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { source })
    }

    /// The next SIGTERM or SIGINT that arrived.
    pub fn next(&mut self) -> Option<Signal> {
        while let Ok(Some(info)) = self.source.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(signal @ (Signal::SIGTERM | Signal::SIGINT)) => return Some(signal),
                _ => {}
            }
        }
        None
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.source.as_raw_fd()
    }
}
