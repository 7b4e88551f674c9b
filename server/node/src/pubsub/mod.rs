//! Who listens to which channel. Delivery is the node's.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::glob_matches;
use crate::io::ConnId;

/// The three namespaces of subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `SUBSCRIBE`
    Channel,
    /// `PSUBSCRIBE`
    Pattern,
    /// `SSUBSCRIBE`
    Shard,
}

impl Kind {
    /// The words of (subscribe, unsubscribe, message) notices.
    pub const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Channel => ("subscribe", "unsubscribe", "message"),
            Self::Pattern => ("psubscribe", "punsubscribe", "pmessage"),
            Self::Shard => ("ssubscribe", "sunsubscribe", "smessage"),
        }
    }
}

/// All subscriptions of a node.
#[derive(Debug, Default)]
pub struct PubSub {
    channels: BTreeMap<Vec<u8>, BTreeSet<ConnId>>,
    patterns: BTreeMap<Vec<u8>, BTreeSet<ConnId>>,
    shards: BTreeMap<Vec<u8>, BTreeSet<ConnId>>,
}

/// One delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// To whom.
    pub conn: ConnId,
    /// The pattern that matched, for pattern subscriptions.
    pub pattern: Option<Vec<u8>>,
}

impl PubSub {
    /// The names of a kind with their listeners.
    pub const fn of(&self, kind: Kind) -> &BTreeMap<Vec<u8>, BTreeSet<ConnId>> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shards,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut BTreeMap<Vec<u8>, BTreeSet<ConnId>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }

    /// Begins to listen.
    pub fn subscribe(&mut self, kind: Kind, conn: ConnId, name: &[u8]) {
        self.of_mut(kind).entry(name.to_vec()).or_default().insert(conn);
    }

    /// Stops listening.
    pub fn unsubscribe(&mut self, kind: Kind, conn: ConnId, name: &[u8]) {
        let names = self.of_mut(kind);
        if let Some(conns) = names.get_mut(name) {
            conns.remove(&conn);
            if conns.is_empty() {
                names.remove(name);
            }
        }
    }

    /// Who gets a message of this channel: channel listeners first, then patterns, as Redis delivers.
    pub fn receivers(&self, sharded: bool, channel: &[u8]) -> Vec<Receiver> {
        let exact = if sharded { &self.shards } else { &self.channels };
        let mut receivers: Vec<Receiver> =
            exact.get(channel).into_iter().flatten().map(|&conn| Receiver { conn, pattern: None }).collect();
        if !sharded {
            for (pattern, conns) in &self.patterns {
                if glob_matches(pattern, channel, false) {
                    receivers
                        .extend(conns.iter().map(|&conn| Receiver { conn, pattern: Some(pattern.clone()) }));
                }
            }
        }
        receivers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reaches_channel_and_pattern_listeners_and_no_shard_listener() {
        let mut pubsub = PubSub::default();
        pubsub.subscribe(Kind::Channel, ConnId(2), b"news");
        pubsub.subscribe(Kind::Pattern, ConnId(2), b"n*");
        pubsub.subscribe(Kind::Shard, ConnId(4), b"news");
        let receivers = pubsub.receivers(false, b"news");
        assert_eq!(receivers.len(), 2);
        assert_eq!(receivers[1].pattern.as_deref(), Some(&b"n*"[..]));
        assert_eq!(pubsub.receivers(true, b"news"), [Receiver { conn: ConnId(4), pattern: None }]);
        pubsub.unsubscribe(Kind::Channel, ConnId(2), b"news");
        pubsub.unsubscribe(Kind::Pattern, ConnId(2), b"n*");
        assert!(pubsub.receivers(false, b"news").is_empty());
        assert!(pubsub.of(Kind::Channel).is_empty());
    }
}
