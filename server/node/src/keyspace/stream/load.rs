//! Builds a stream from the parts in which a file or another server gives it. Those are foreign: what does not add
//! up is refused, so that the rest of the node may rely on it.

use super::group::{Group, UNKNOWN_READ};
use super::node::Node;
use super::paged::PagedMap;
use super::{Extent, NODE_BYTES, Stream, StreamId};

/// What does not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("a node of a stream is damaged")]
    Node,
    #[error("two nodes of a stream have one id")]
    NodeTwice,
    #[error("the entries of a stream are not in order")]
    Order,
    #[error("the length of a stream is not the number of its entries")]
    Length,
    #[error("two groups of a stream have one name")]
    GroupTwice,
    #[error("an entry is pending twice")]
    PendingTwice,
    #[error("two consumers of a group have one name")]
    ConsumerTwice,
    #[error("a consumer has an entry that is not pending in its group, or another has it")]
    NotPending,
    #[error("a pending entry has no consumer")]
    NoConsumer,
}

/// What is told of a group before its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupHead {
    /// Its name.
    pub name: Vec<u8>,
    /// The last entry given to a consumer.
    pub last_id: StreamId,
    /// How many entries it has read; none: the file is too old to tell.
    pub entries_read: Option<i64>,
}

/// A stream in the making. The parts are given in the order of the methods.
#[derive(Debug, Default)]
pub struct StreamLoader {
    stream: Stream,
    group: Option<(Vec<u8>, Group)>,
    /// What is pending in the group and no consumer has yet: when it was given, and how often.
    unowned: PagedMap<(i64, u64)>,
    consumer: Vec<u8>,
}

impl StreamLoader {
    /// A node's id and listpack.
    pub fn node(&mut self, own: StreamId, listpack: Vec<u8>) -> Result<(), Damage> {
        let node = Node::from_bytes(own, listpack).ok_or(Damage::Node)?;
        self.stream.heap += NODE_BYTES + node.bytes().len();
        if self.stream.nodes.insert(own, node) { Ok(()) } else { Err(Damage::NodeTwice) }
    }

    /// How far the stream reaches, after its nodes. An old file (`old`) tells its length and last id only.
    pub fn extent(&mut self, extent: Extent, old: bool) -> Result<(), Damage> {
        let (mut last, mut len) = (None, 0);
        for (own, node) in self.stream.nodes.iter() {
            if last.is_some_and(|last| own <= last) {
                return Err(Damage::Order);
            }
            len += node.live();
            last = node.iter_back(own).find(|entry| !entry.is_deleted()).map(|entry| entry.id).or(last);
        }
        if last.is_some_and(|last| extent.last_id < last) {
            return Err(Damage::Order);
        }
        if len != extent.len {
            return Err(Damage::Length);
        }
        self.stream.extent = extent;
        if old {
            self.stream.extent.entries_added = extent.len;
            self.stream.find_first();
        }
        Ok(())
    }

    /// The next group begins.
    pub fn group(&mut self, head: GroupHead) -> Result<(), Damage> {
        self.end_group()?;
        if self.stream.group(&head.name).is_some() {
            return Err(Damage::GroupTwice);
        }
        let estimate = || self.stream.extent.entries_until(head.last_id).unwrap_or(UNKNOWN_READ);
        let group = Group::new(head.last_id, head.entries_read.unwrap_or_else(estimate));
        self.group = Some((head.name, group));
        Ok(())
    }

    /// An entry is pending in the group.
    pub fn pending(&mut self, id: StreamId, delivered_ms: i64, deliveries: u64) -> Result<(), Damage> {
        if self.unowned.insert(id, (delivered_ms, deliveries)) { Ok(()) } else { Err(Damage::PendingTwice) }
    }

    /// The group's next consumer begins.
    pub fn consumer(&mut self, name: Vec<u8>, seen_ms: i64) -> Result<(), Damage> {
        let Some((_, group)) = &mut self.group else { return Err(Damage::NoConsumer) };
        if !group.create_consumer(&name, seen_ms) {
            return Err(Damage::ConsumerTwice);
        }
        self.consumer = name;
        Ok(())
    }

    /// One of the group's pending entries is the consumer's.
    pub fn owned(&mut self, id: StreamId) -> Result<(), Damage> {
        let (delivered_ms, deliveries) = self.unowned.remove(id).ok_or(Damage::NotPending)?;
        let Some((_, group)) = &mut self.group else { return Err(Damage::NotPending) };
        group.assign(id, &self.consumer, delivered_ms, deliveries);
        Ok(())
    }

    /// The whole stream.
    pub fn finish(mut self) -> Result<Stream, Damage> {
        self.end_group()?;
        Ok(self.stream)
    }

    fn end_group(&mut self) -> Result<(), Damage> {
        if !self.unowned.is_empty() {
            return Err(Damage::NoConsumer);
        }
        if let Some((name, group)) = self.group.take() {
            self.stream.create_group(&name, group);
        }
        Ok(())
    }
}
