//! Connections of one endpoint on the virtual network.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use slotstorm_checker::record::Nanos;
use slotstorm_sim::{LinkEvent as Heard, PipeId};

use super::SimWorld;
use crate::backend::{LinkEvent, LinkId, Mailbox};

/// See [`Mailbox`].
pub struct SimMailbox {
    world: SimWorld,
    /// Its number in the cluster.
    number: u32,
    open: Vec<PipeId>,
}

impl SimMailbox {
    pub(super) const fn new(world: SimWorld, number: u32) -> Self {
        Self { world, number, open: Vec::new() }
    }

    fn translate(&mut self, heard: Heard) -> LinkEvent {
        match heard {
            Heard::Connected(pipe) => LinkEvent::Connected(link(pipe)),
            Heard::Received(pipe, bytes) => LinkEvent::Received(link(pipe), bytes),
            Heard::Refused(pipe, why) => {
                self.open.retain(|open| *open != pipe);
                LinkEvent::Refused(link(pipe), why.to_owned())
            }
            Heard::Closed(pipe, why) => {
                self.open.retain(|open| *open != pipe);
                LinkEvent::Closed(link(pipe), why.to_owned())
            }
        }
    }
}

impl Mailbox for SimMailbox {
    fn connect(&mut self, to: SocketAddr) -> LinkId {
        let pipe = self.world.inner.cluster.borrow_mut().dial(self.number, to);
        self.open.push(pipe);
        link(pipe)
    }

    fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.world.inner.cluster.borrow_mut().send(pipe(link), bytes);
    }

    fn close(&mut self, link: LinkId) {
        let pipe = pipe(link);
        self.open.retain(|open| *open != pipe);
        self.world.inner.cluster.borrow_mut().close(self.number, pipe);
    }

    async fn next(&mut self, deadline: Nanos) -> Option<LinkEvent> {
        let mut timer = pin!(self.world.executor.sleep_until(deadline));
        let heard = poll_fn(|context| {
            let heard = self.world.inner.cluster.borrow_mut().poll_heard(self.number, context);
            match heard {
                Poll::Ready(event) => Poll::Ready(Some(event)),
                Poll::Pending => timer.as_mut().poll(context).map(|()| None),
            }
        })
        .await;
        heard.map(|heard| self.translate(heard))
    }
}

impl Drop for SimMailbox {
    fn drop(&mut self) {
        let mut cluster = self.world.inner.cluster.borrow_mut();
        for pipe in self.open.drain(..) {
            cluster.close(self.number, pipe);
        }
    }
}

fn link(pipe: PipeId) -> LinkId {
    LinkId(u64::from(pipe.0))
}

/// The way back: every link of this mailbox was a pipe.
fn pipe(link: LinkId) -> PipeId {
    PipeId(link.0 as u32)
}
