//! Who owns which slot, as far as the client knows.

use std::net::{IpAddr, SocketAddr};

use redis_protocol::resp2::types::BytesFrame;

const SLOTS: usize = 16384;
/// Marks a slot without a known owner.
const NOBODY: u16 = u16::MAX;

/// The slot map: per slot an index into the known nodes.
#[derive(Debug)]
pub(super) struct SlotMap {
    owners: Vec<u16>,
    /// Every address ever heard of, seeds first; few, and never removed: an old address may come back.
    nodes: Vec<SocketAddr>,
    /// Ranges of slots with the replicas of their owners, by address.
    replicas: Vec<(u16, u16, Vec<SocketAddr>)>,
}

impl SlotMap {
    pub fn new(seeds: &[SocketAddr]) -> Self {
        Self { owners: vec![NOBODY; SLOTS], nodes: seeds.to_vec(), replicas: Vec::new() }
    }

    pub fn owner(&self, slot: u16) -> Option<SocketAddr> {
        self.nodes.get(usize::from(self.owners[usize::from(slot) % SLOTS])).copied()
    }

    pub fn replicas(&self, slot: u16) -> &[SocketAddr] {
        let range = self.replicas.iter().find(|(start, end, _)| (*start..=*end).contains(&slot));
        range.map_or(&[], |(_, _, replicas)| replicas)
    }

    pub fn nodes(&self) -> Vec<SocketAddr> {
        self.nodes.clone()
    }

    /// The server said MOVED.
    pub fn moved(&mut self, slot: u16, to: SocketAddr) {
        let index = self.index_of(to);
        self.owners[usize::from(slot) % SLOTS] = index;
    }

    /// Takes over a CLUSTER SLOTS reply; false if it is not one, or if it names no owner at all.
    pub fn learn(&mut self, reply: &BytesFrame, from: SocketAddr) -> bool {
        let BytesFrame::Array(ranges) = reply else { return false };
        let mut owners = vec![NOBODY; SLOTS];
        let mut all_replicas = Vec::new();
        for range in ranges {
            let BytesFrame::Array(fields) = range else { return false };
            let [
                BytesFrame::Integer(start),
                BytesFrame::Integer(end),
                BytesFrame::Array(master),
                replicas @ ..,
            ] = fields.as_slice()
            else {
                return false;
            };
            let (Ok(start), Ok(end)) = (usize::try_from(*start), usize::try_from(*end)) else { return false };
            let Some(address) = address(master, from) else { return false };
            if start > end || end >= SLOTS {
                return false;
            }
            let index = self.index_of(address);
            owners[start..=end].fill(index);
            let mut of_range = Vec::new();
            for replica in replicas {
                if let BytesFrame::Array(replica) = replica
                    && let Some(address) = self::address(replica, from)
                {
                    self.index_of(address);
                    of_range.push(address);
                }
            }
            of_range.sort_unstable();
            all_replicas.push((start as u16, end as u16, of_range));
        }
        if owners.iter().all(|owner| *owner == NOBODY) {
            return false;
        }
        self.owners = owners;
        self.replicas = all_replicas;
        true
    }

    fn index_of(&mut self, address: SocketAddr) -> u16 {
        let index = self.nodes.iter().position(|node| *node == address).unwrap_or_else(|| {
            self.nodes.push(address);
            self.nodes.len() - 1
        });
        // A foreign server could name endless addresses; past the marker they are all "nobody".
        u16::try_from(index).unwrap_or(NOBODY)
    }
}

/// `[endpoint, port, ...]`; an empty or null endpoint means the host that was asked.
fn address(node: &[BytesFrame], from: SocketAddr) -> Option<SocketAddr> {
    let [endpoint, BytesFrame::Integer(port), ..] = node else { return None };
    let ip: IpAddr = match endpoint {
        BytesFrame::Null => from.ip(),
        BytesFrame::BulkString(text) | BytesFrame::SimpleString(text) if text.is_empty() => from.ip(),
        BytesFrame::BulkString(text) | BytesFrame::SimpleString(text) => {
            std::str::from_utf8(text).ok()?.parse().ok()?
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::try_from(*port).ok()?))
}

/// `MOVED slot host:port` and `ASK slot host:port`: whether it is ASK, the slot, and where to go.
pub(super) fn redirection(error: &str, from: Option<SocketAddr>) -> Option<(bool, u16, SocketAddr)> {
    let mut words = error.split(' ');
    let asking = match words.next()? {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let slot = words.next()?.parse().ok()?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    let ip = if host.is_empty() { from?.ip() } else { host.parse().ok()? };
    Some((asking, slot, SocketAddr::new(ip, port.parse().ok()?)))
}
