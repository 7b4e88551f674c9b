//! Is a command with keys for me, and if not, what is its client told? Decided by the local table alone.

use super::{Cluster, EndpointType, MYSELF, Node, NodeIdx};

/// A command with keys (or a transaction: all its commands' keys).
pub struct Query<'a> {
    /// Each key with its slot, in the order of the command; channels of shard pub/sub count as keys.
    pub keys: &'a [(u16, &'a [u8])],
    /// Is the key there, and not logically expired?
    pub exists: &'a dyn Fn(&[u8]) -> bool,
    /// The command (or one of the transaction) may write.
    pub write: bool,
    /// The client said ASKING, or the command implies it (RESTORE-ASKING).
    pub asking: bool,
    /// The client said READONLY.
    pub readonly_client: bool,
    /// MIGRATE.
    pub migrate: bool,
    /// SSUBSCRIBE, SUNSUBSCRIBE, SPUBLISH.
    pub shard_pubsub: bool,
}

/// A client that blocks on a key.
#[derive(Clone, Copy, Debug)]
pub struct BlockedQuery {
    /// The key's slot.
    pub slot: u16,
    /// The client said READONLY.
    pub readonly_client: bool,
    /// The command does not write.
    pub read_only_command: bool,
}

/// Where a client is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Ip, host name, `?`, or nothing, as `cluster-preferred-endpoint-type` wants it.
    pub host: String,
    /// Client port.
    pub port: u16,
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Execute here.
    Local,
    /// Another node owns the slot.
    Moved { slot: u16, to: Endpoint },
    /// The key may have moved already.
    Ask { slot: u16, to: Endpoint },
    /// Keys of several slots.
    CrossSlot,
    /// Some keys have moved already, some have not.
    TryAgain,
    /// Nobody owns the slot.
    NotServed,
    /// The cluster is down.
    Down,
    /// The cluster is down, and this was a write.
    DownForWrites,
}

impl Route {
    /// The error reply's text with its code, `None` for [`Route::Local`].
    pub fn error(&self) -> Option<String> {
        Some(match self {
            Self::Local => return None,
            Self::Moved { slot, to } => format!("MOVED {slot} {}:{}", to.host, to.port),
            Self::Ask { slot, to } => format!("ASK {slot} {}:{}", to.host, to.port),
            Self::CrossSlot => "CROSSSLOT Keys in request don't hash to the same slot".to_owned(),
            Self::TryAgain => "TRYAGAIN Multiple keys request during rehashing of slot".to_owned(),
            Self::NotServed => "CLUSTERDOWN Hash slot not served".to_owned(),
            Self::Down => "CLUSTERDOWN The cluster is down".to_owned(),
            Self::DownForWrites => {
                "CLUSTERDOWN The cluster is down and only accepts read commands".to_owned()
            }
        })
    }
}

impl Cluster {
    /// Decides one query; first match wins, in Redis' order.
    pub fn route(&self, query: &Query<'_>) -> Route {
        let Some(((slot, first), others)) = query.keys.split_first() else { return Route::Local };
        let slot = *slot;
        let Some(owner) = self.slots.owner(slot) else { return Route::NotServed };
        if others.iter().any(|(other, _)| *other != slot) {
            return Route::CrossSlot;
        }
        if !self.state.is_ok()
            && let Some(down) = self.while_down(query)
        {
            return down;
        }
        let migrating = self.slots.migrating.get(&slot).filter(|_| owner == MYSELF);
        let importing = self.slots.importing.contains_key(&slot) && owner != MYSELF;
        if query.migrate && (migrating.is_some() || importing) {
            return Route::Local;
        }
        if let Some(target) = migrating.filter(|_| !query.shard_pubsub) {
            let missing = query.keys.iter().filter(|(_, key)| !(query.exists)(key)).count();
            if missing > 0 {
                let some_here = missing < query.keys.len();
                return if some_here {
                    Route::TryAgain
                } else {
                    Route::Ask { slot, to: self.endpoint(*target) }
                };
            }
        }
        if importing && query.asking {
            let several = others.iter().any(|(_, key)| key != first);
            if several && query.keys.iter().any(|(_, key)| !(query.exists)(key)) {
                return Route::TryAgain;
            }
            return Route::Local;
        }
        let read = query.shard_pubsub || (query.readonly_client && !query.write);
        if owner == MYSELF || (self.i_am_replica() && self.my_master() == Some(owner) && read) {
            return Route::Local;
        }
        Route::Moved { slot, to: self.endpoint(owner) }
    }

    /// Should a blocked client be sent away?
    pub fn route_blocked(&self, query: BlockedQuery) -> Route {
        if !self.state.is_ok() {
            return Route::Down;
        }
        let slot = query.slot;
        let owner = self.slots.owner(slot);
        let served = query.readonly_client && query.read_only_command && self.i_am_replica();
        if owner == Some(MYSELF)
            || self.slots.importing.contains_key(&slot)
            || (served && owner.is_some() && owner == self.my_master())
        {
            return Route::Local;
        }
        owner.map_or(Route::NotServed, |owner| Route::Moved { slot, to: self.endpoint(owner) })
    }

    fn while_down(&self, query: &Query<'_>) -> Option<Route> {
        if query.shard_pubsub {
            return (!self.settings.allow_pubsubshard_when_down).then_some(Route::Down);
        }
        if !self.settings.allow_reads_when_down {
            return Some(Route::Down);
        }
        query.write.then_some(Route::DownForWrites)
    }

    /// The address of a known node that announced this host name.
    pub fn ip_of_hostname(&self, name: &str) -> Option<std::net::IpAddr> {
        let known = self.nodes.by_id().map(|idx| self.nodes.get(idx));
        known.filter(|node| !name.is_empty() && node.hostname == name).find_map(|node| node.ip.parse().ok())
    }

    fn endpoint(&self, idx: NodeIdx) -> Endpoint {
        let node = self.nodes.get(idx);
        Endpoint { host: self.endpoint_host(node).unwrap_or_default().to_owned(), port: node.port }
    }

    /// What clients are told as the host of a node; `None` for nothing.
    pub(super) fn endpoint_host<'a>(&self, node: &'a Node) -> Option<&'a str> {
        match self.settings.preferred_endpoint {
            EndpointType::Ip => Some(&node.ip),
            EndpointType::Hostname if node.hostname.is_empty() => Some("?"),
            EndpointType::Hostname => Some(&node.hostname),
            EndpointType::Unknown => None,
        }
    }
}
