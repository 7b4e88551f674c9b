//! Subscriptions: kept on connections of their own, made again where they were lost.
//!
//! What was published while no connection stood is gone: that is what pub/sub promises, and what is to be counted.

use std::net::SocketAddr;

use redis_protocol::redis_keyslot;
use redis_protocol::resp2::types::BytesFrame;

use super::link::{Link, LinkState, encode};
use super::{ClusterClient, Nanos, Route, Step};

/// How long until a subscription that was not confirmed is asked for again.
const AGAIN_NS: Nanos = 500_000_000;

/// A channel to listen to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub channel: String,
    /// SSUBSCRIBE at the owner of the channel's slot; else SUBSCRIBE at any node.
    pub sharded: bool,
}

/// A message that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub channel: String,
    pub payload: Vec<u8>,
    pub node: SocketAddr,
}

/// The state of one subscription.
#[derive(Debug)]
pub(super) struct Listening {
    subscription: Subscription,
    link: Option<Link>,
    confirmed: bool,
    /// Not before this time.
    ask_at: Nanos,
    attempts: usize,
}

impl ClusterClient {
    /// Listens to a channel from now on: messages arrive as [`Step::Message`].
    pub fn subscribe(&mut self, now: Nanos, subscription: Subscription) {
        self.listening.push(Listening {
            subscription,
            link: None,
            confirmed: false,
            ask_at: now,
            attempts: self.options.seed as usize,
        });
        self.tick(now);
    }

    /// When a subscription has to be asked for.
    pub(super) fn next_subscription(&self) -> Option<Nanos> {
        self.listening.iter().filter(|one| !one.confirmed).map(|one| one.ask_at).min()
    }

    /// Asks for what is not confirmed, and moves what is sharded after its slot.
    pub(super) fn subscribe_if_due(&mut self, now: Nanos) {
        for at in 0..self.listening.len() {
            let Some(to) = self.listening_target(at) else {
                self.listening[at].ask_at = now + AGAIN_NS;
                self.refresh.wanted = true;
                continue;
            };
            let one = &mut self.listening[at];
            let elsewhere = one.link.and_then(|link| self.links.get(&link)).map(LinkState::to) != Some(to);
            if one.subscription.sharded && one.confirmed && elsewhere {
                one.confirmed = false;
                one.ask_at = now;
            }
            if one.confirmed || one.ask_at > now {
                continue;
            }
            one.ask_at = now + AGAIN_NS;
            one.attempts += 1;
            let name = if one.subscription.sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" };
            let bytes = encode(&[name.as_bytes(), one.subscription.channel.as_bytes()]);
            let link = self.link_to(to, Route::Subscriber);
            self.listening[at].link = Some(link);
            if let Some(state) = self.links.get_mut(&link)
                && state.queue_unanswered(bytes)
            {
                self.steps.push_back(Step::Send { link, bytes: state.take_outgoing() });
            }
        }
    }

    /// The owner of a sharded channel's slot; for the others any node, another one each time.
    fn listening_target(&self, at: usize) -> Option<SocketAddr> {
        let Listening { subscription, attempts, .. } = &self.listening[at];
        if subscription.sharded {
            return self.map.owner(redis_keyslot(subscription.channel.as_bytes()));
        }
        let nodes = self.map.nodes();
        nodes.get(attempts % nodes.len().max(1)).copied()
    }

    /// Something arrived on a subscriber's connection that answers no request.
    pub(super) fn pushed(&mut self, now: Nanos, link: Link, frame: &BytesFrame) {
        let text = |frame: &BytesFrame| match frame {
            BytesFrame::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        };
        match frame {
            BytesFrame::Error(_) => {
                self.refresh.wanted = true; // MOVED, or it loads
                self.lost_subscriptions(now + AGAIN_NS, link);
            }
            BytesFrame::Array(items) => {
                let [kind, channel, rest @ ..] = items.as_slice() else { return };
                let (Some(kind), Some(channel)) = (text(kind), text(channel)) else { return };
                let on_it =
                    |one: &&mut Listening| one.link == Some(link) && one.subscription.channel == channel;
                let Some(node) = self.links.get(&link).map(LinkState::to) else { return };
                match (kind.as_str(), rest) {
                    ("message" | "smessage", [BytesFrame::BulkString(payload), ..]) => {
                        let payload = payload.to_vec();
                        self.steps.push_back(Step::Message(Message { channel, payload, node }));
                    }
                    ("subscribe" | "ssubscribe", _) => {
                        self.listening.iter_mut().filter(on_it).for_each(|one| one.confirmed = true);
                    }
                    ("sunsubscribe", _) => {
                        // Its slot has moved away.
                        self.refresh.wanted = true;
                        for one in self.listening.iter_mut().filter(on_it) {
                            (one.confirmed, one.ask_at) = (false, now);
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// A connection is gone, and with it what was subscribed on it.
    pub(super) fn lost_subscriptions(&mut self, ask_at: Nanos, link: Link) {
        for one in self.listening.iter_mut().filter(|one| one.link == Some(link)) {
            (one.link, one.confirmed, one.ask_at) = (None, false, ask_at);
        }
    }
}
