//! PUBLISH crosses the bus: to everyone, or to one's own shard.

use super::bus::Body;
use super::{Cluster, MYSELF, Turn};

impl Cluster {
    /// Sends a message to the other nodes; `sharded`: to my master and its replicas only.
    pub fn publish(&mut self, sharded: bool, channel: &[u8], message: &[u8], turn: &mut Turn<'_>) {
        let body = Body::Publish { sharded, channel: channel.to_vec(), message: message.to_vec() };
        let header = self.header(turn);
        if !sharded {
            self.broadcast(&header, &body);
            return;
        }
        let shard = self.my_master().unwrap_or(MYSELF);
        let peers = std::iter::once(shard).chain(self.nodes.get(shard).replicas.iter().copied());
        for idx in peers.collect::<Vec<_>>() {
            if let Some(conn) = self.nodes.get(idx).outbound.filter(|_| idx != MYSELF) {
                self.send(conn, header.clone(), body.clone());
            }
        }
    }
}
