//! What an operator does to a cluster: make it, grow and shrink it, move its slots, fail it over, mend it, wait until
//! it is whole. Pure: everything goes through [`Reach`] (any [`World`], or plain addresses) or through the text that a
//! server answered. Every flow has time-outs and answers with what was done and what was not.

pub mod allocation;
pub mod backup;
pub mod converge;
pub mod create;
pub mod failover;
pub mod fix;
pub mod fleet;
pub mod health;
pub mod import;
pub mod membership;
pub mod migrate;
pub mod mover;
pub mod note;
pub mod parse;
pub mod reshard;
pub mod resp;
pub mod slots;

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use slotstorm_checker::record::Nanos;
use slotstorm_fabric::Endpoint;

use crate::backend::{Mailbox, SeenBy, World};

/// All that an administrator needs of a world: a clock and a way to reach servers at their real addresses.
pub trait Reach: Clone + 'static {
    /// Connections of the controller.
    type Mailbox: Mailbox;

    /// Nanoseconds since some origin.
    fn now(&self) -> Nanos;
    /// Sleeps until `at`.
    fn sleep_until(&self, at: Nanos) -> impl Future<Output = ()>;
    /// A fresh mailbox of the controller.
    fn mailbox(&self) -> Self::Mailbox;
    /// Where the administrator reaches a node that the cluster knows at `announced`.
    fn reachable_at(&self, announced: SocketAddr) -> SocketAddr {
        announced
    }
    /// What every new connection says first.
    fn login(&self) -> Option<Login> {
        None
    }
}

impl<W: World> Reach for W {
    type Mailbox = W::Mailbox;

    fn now(&self) -> Nanos {
        World::now(self)
    }

    fn sleep_until(&self, at: Nanos) -> impl Future<Output = ()> {
        World::sleep_until(self, at)
    }

    fn mailbox(&self) -> Self::Mailbox {
        World::mailbox(self, Endpoint::Controller)
    }

    fn reachable_at(&self, announced: SocketAddr) -> SocketAddr {
        (1..=self.nodes())
            .find(|node| self.address(*node, SeenBy::Cluster) == announced)
            .map_or(announced, |node| self.address(node, SeenBy::Controller))
    }
}

/// A user's name and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// `None`: the default user.
    pub user: Option<String>,
    pub password: String,
}

impl Login {
    /// `AUTH` and its arguments.
    pub fn command(&self) -> Vec<&str> {
        let mut words = vec!["AUTH"];
        words.extend(self.user.as_deref());
        words.push(&self.password);
        words
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Login({})", self.user.as_deref().unwrap_or("default")) // never the password
    }
}

/// Milliseconds as [`Nanos`].
pub const fn ms(milliseconds: u64) -> Nanos {
    milliseconds * 1_000_000
}

/// Runs all futures beside each other on this task; their outputs in the given order.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, output) in running.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
