//! Servers anywhere, reached directly: the world of an operator.

use std::net::Ipv4Addr;
use std::time::Instant;

use crate::admin::{Login, Reach};
use crate::backend::process::{TcpMailbox, Timers};

/// Reaches servers from this machine's own address.
#[derive(Clone)]
pub struct PlainReach {
    timers: Timers,
    login: Option<Login>,
}

impl PlainReach {
    /// Call inside a `LocalSet`.
    #[allow(clippy::disallowed_methods)] // a shell: the clock starts here
    pub fn start(login: Option<Login>) -> std::io::Result<Self> {
        Ok(Self { timers: Timers::start(Instant::now())?, login })
    }
}

impl Reach for PlainReach {
    type Mailbox = TcpMailbox;

    fn now(&self) -> u64 {
        self.timers.now()
    }

    fn sleep_until(&self, at: u64) -> impl Future<Output = ()> {
        self.timers.sleep_until(at)
    }

    fn mailbox(&self) -> TcpMailbox {
        TcpMailbox::new(Ipv4Addr::UNSPECIFIED, self.timers.clone())
    }

    fn login(&self) -> Option<Login> {
        self.login.clone()
    }
}
