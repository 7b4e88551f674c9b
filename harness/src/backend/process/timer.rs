//! Sleeping to the microsecond. The runtime's own timers tick in milliseconds, which would add up to one to every
//! latency that an open-loop client measures; one timerfd wakes all sleepers of this world.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use slotstorm_checker::record::Nanos;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The world's clock and its sleepers. A handle.
#[derive(Clone)]
pub struct Timers(Rc<Inner>);

struct Inner {
    origin: Instant,
    fd: AsyncFd<Alarm>,
    sleepers: RefCell<Sleepers>,
}

/// So that the runtime can watch it.
struct Alarm(TimerFd);

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[derive(Default)]
struct Sleepers {
    next_id: u64,
    by_time: BTreeMap<(Nanos, u64), Waker>,
}

impl Timers {
    /// Call inside a `LocalSet`.
    pub fn start(origin: Instant) -> std::io::Result<Self> {
        let fd = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // The successor is unsafe because a type could lie about its descriptor; `Alarm` owns its own, for all its life.
        #[allow(deprecated)]
        let fd = AsyncFd::with_interest(Alarm(fd), Interest::READABLE)?;
        let timers = Self(Rc::new(Inner { origin, fd, sleepers: RefCell::default() }));
        let alarm = timers.clone();
        tokio::task::spawn_local(async move { alarm.ring().await });
        Ok(timers)
    }

    /// Nanoseconds since the origin.
    pub fn now(&self) -> Nanos {
        Nanos::try_from(self.0.origin.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// Until `at`; ready at once if it has passed.
    pub fn sleep_until(&self, at: Nanos) -> Sleep {
        Sleep { timers: self.clone(), at, id: None }
    }

    async fn ring(&self) {
        while let Ok(mut ready) = self.0.fd.readable().await {
            let _ = ready.get_inner().0.wait(); // reads the expiration count; there may be none if it was set anew
            ready.clear_ready();
            drop(ready);
            let now = self.now();
            let later = {
                let mut sleepers = self.0.sleepers.borrow_mut();
                let later = sleepers.by_time.split_off(&(now + 1, 0));
                std::mem::replace(&mut sleepers.by_time, later)
            };
            later.into_values().for_each(Waker::wake);
            self.arm();
        }
    }

    fn arm(&self) {
        let first = self.0.sleepers.borrow().by_time.keys().next().map(|(at, _)| *at);
        let Some(at) = first else { return };
        let wait = Duration::from_nanos(at.saturating_sub(self.now()).max(1));
        if let Err(error) =
            self.0.fd.get_ref().0.set(Expiration::OneShot(wait.into()), TimerSetTimeFlags::empty())
        {
            tracing::error!("cannot set the timer: {error}");
        }
    }
}

/// See [`Timers::sleep_until`].
pub struct Sleep {
    timers: Timers,
    at: Nanos,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.timers.now() >= self.at {
            return Poll::Ready(());
        }
        let first = {
            let mut sleepers = self.timers.0.sleepers.borrow_mut();
            let id = self.id.unwrap_or_else(|| {
                sleepers.next_id += 1;
                sleepers.next_id
            });
            sleepers.by_time.insert((self.at, id), context.waker().clone());
            let first = sleepers.by_time.keys().next() == Some(&(self.at, id));
            drop(sleepers);
            self.id = Some(id);
            first
        };
        if first {
            self.timers.arm();
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.timers.0.sleepers.borrow_mut().by_time.remove(&(self.at, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::process::run_local;

    #[test]
    fn sleepers_wake_in_their_order_and_never_early() {
        run_local(async {
            let timers = Timers::start(Instant::now()).unwrap();
            let woken: Rc<RefCell<Vec<u64>>> = Rc::default();
            let tasks: Vec<_> = [30u64, 10, 20, 10]
                .into_iter()
                .map(|ms| {
                    let (timers, woken) = (timers.clone(), woken.clone());
                    tokio::task::spawn_local(async move {
                        timers.sleep_until(ms * 1_000_000).await;
                        assert!(timers.now() >= ms * 1_000_000);
                        woken.borrow_mut().push(ms);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*woken.borrow(), [10, 10, 20, 30]);
        })
        .unwrap();
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        run_local(async {
            let timers = Timers::start(Instant::now()).unwrap();
            let hour = timers.sleep_until(3_600_000_000_000);
            let short = timers.sleep_until(1_000_000);
            tokio::select! { () = hour => panic!("an hour passed"), () = short => {} }
            assert!(timers.0.sleepers.borrow().by_time.is_empty());
        })
        .unwrap();
    }
}
