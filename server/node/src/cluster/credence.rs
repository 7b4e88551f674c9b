//! Whose word is taken. The bus knows no passwords: whoever sends a node's id is taken for that node. What can be
//! had without one, and without refusing any real peer, is here.
//!
//! - **An id speaks from one place.** While a node talks to me on a link that it dialled, another link from
//!   another address is not believed when it claims the same id: its pings are answered as a stranger's, and
//!   nothing it says is learnt. A node that really moved is believed once its old place has been silent for a node
//!   timeout; its known address and the one at which I reach it are believed at any time. Redis believes all.
//! - **An epoch has to be earned.** They are minted one by one, and no command can set one beyond a signed 64-bit
//!   number. A clock that one packet could push to its end would forbid every later election (7.0.15 even wraps to
//!   0): such an epoch is not taken over, neither are the claims made under it; the node counts as alive.
//! - **Strangers cost a bounded amount.** Handshakes that others asked for, and nodes that gossip brought, end at a
//!   number that no cluster comes near.

use std::net::IpAddr;

use super::{Cluster, NodeIdx, Turn};
use crate::io::{ConnId, LogLevel, Mono};

/// Handshakes that MEETs of strangers may have under way. A cluster of a thousand nodes that are all introduced to
/// one of them within a second stays below.
const UNASKED_HANDSHAKES_MAX: usize = 1024;
/// Nodes up to which gossip may fill the table: one a slot.
const GOSSIPED_NODES_MAX: usize = 16_384;
/// `CLUSTER SET-CONFIG-EPOCH` takes no more.
const SETTABLE_EPOCH_MAX: u64 = i64::MAX as u64;
/// Beyond that an epoch is still believed if it is this near to the own clock: elections go on one by one.
const EPOCH_STEP_MAX: u64 = 1 << 32;

/// Where a node called me from, and when it did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    ip: IpAddr,
    at: Mono,
}

impl Cluster {
    /// Is what comes on this accepted link, under a known node's id, that node's word? Notes the place if it is.
    pub(super) fn believed(&mut self, idx: NodeIdx, conn: ConnId, turn: &mut Turn<'_>) -> bool {
        let Some(link) = self.links.get(&conn) else { return false };
        let Some(ip) = link.peer_ip else { return true };
        let node = self.nodes.get(idx);
        let timeout_ms = self.settings.node_timeout_ms;
        let elsewhere =
            node.calls_from.filter(|place| place.ip != ip && turn.now.mono.ms_since(place.at) <= timeout_ms);
        let reached_here = || {
            let own = node.outbound.and_then(|conn| self.links.get(&conn));
            own.is_some_and(|own| own.peer_ip == Some(ip) && turn.ms_since(own.data_received) <= timeout_ms)
        };
        let at_home = || node.ip.parse() == Ok(ip);
        if let Some(place) = elsewhere.filter(|_| !at_home() && !reached_here()) {
            let (id, known) = (node.id, place.ip);
            if self.links.get_mut(&conn).is_some_and(|link| !std::mem::replace(&mut link.doubted, true)) {
                turn.log(
                    LogLevel::Warning,
                    format!("A link from {ip} claims to be node {id}, which talks to me from {known}: not believed."),
                );
            }
            return false;
        }
        self.nodes.get_mut(idx).calls_from = Some(Place { ip, at: turn.now.mono });
        true
    }

    /// Can this be an epoch of the cluster that I know?
    pub(super) const fn plausible_epoch(&self, epoch: u64) -> bool {
        epoch <= SETTABLE_EPOCH_MAX || epoch.saturating_sub(self.current_epoch) <= EPOCH_STEP_MAX
    }

    /// May one more stranger introduce itself?
    pub(super) fn has_room_for_a_handshake(&self) -> bool {
        self.nodes.by_id().filter(|idx| self.nodes.get(*idx).in_handshake()).count() < UNASKED_HANDSHAKES_MAX
    }

    /// May gossip bring one more node?
    pub(super) fn has_room_for_gossip(&self) -> bool {
        self.nodes.len() < GOSSIPED_NODES_MAX
    }
}
