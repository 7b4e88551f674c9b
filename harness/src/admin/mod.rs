//! What an operator does to a cluster: make it, and wait until it is whole. Pure: everything goes through [`Reach`]
//! (any [`World`], or plain addresses) or through the text that a server answered.

pub mod converge;
pub mod create;
pub mod parse;
pub mod resp;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use slotstorm_checker::record::Nanos;
use slotstorm_fabric::Endpoint;

use crate::backend::{Mailbox, World};

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
