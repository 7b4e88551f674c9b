//! Streams: entries in the order of their ids, packed in nodes as Redis packs them, and the groups that read them.
//!
//! Nodes, groups and lists of pending entries are shared with snapshots; a write copies one node, one page of each
//! map it touches, and their spines.

mod extent;
mod group;
mod id;
mod load;
mod node;
mod paged;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use extent::Extent;
pub use group::{Consumer, Group, Name, Pending, UNKNOWN_READ};
pub use id::{GivenId, GivenSeq, IdText, StreamId};
pub use load::{Damage, GroupHead, StreamLoader};
pub use node::Entry;

use node::{EntryAt, Node};
use paged::PagedMap;

/// The most bytes of a node, and of the parts of one entry: what the length of a listpack can tell, with room.
const MAX_NODE_BYTES: usize = 1 << 30;
/// What a node costs besides its listpack.
const NODE_BYTES: usize = 80;

/// A stream. It may be empty: a key can hold it for its groups and its last id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// By the id of their first entry.
    nodes: PagedMap<Node>,
    extent: Extent,
    groups: BTreeMap<Name, Arc<Group>>,
    heap: usize,
}

/// When a node is full (`stream-node-max-bytes`, `stream-node-max-entries`; 0: no bound).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// Bytes of its listpack.
    pub max_bytes: usize,
    /// Entries, deleted ones included.
    pub max_entries: u64,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self { max_bytes: 4096, max_entries: 100 }
    }
}

/// Which id a new entry is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// The next one at this Unix time in milliseconds.
    At(u64),
    /// The next one of this millisecond.
    In(u64),
    /// This one.
    Exactly(StreamId),
}

/// Why an entry was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The last id is the greatest there is.
    Exhausted,
    /// Its id is not above the last one.
    NotAbove,
    /// Its parts are too long.
    TooLarge,
}

/// What is to go from the beginning of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// What stays.
    pub keep: Keep,
    /// Only whole nodes go.
    pub whole_nodes: bool,
    /// No more entries go than this; 0: no bound.
    pub limit: u64,
}

/// What a trim leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So many entries.
    Len(u64),
    /// The entries from this id on.
    From(StreamId),
}

impl Stream {
    /// Number of entries.
    pub const fn len(&self) -> usize {
        self.extent.len as usize
    }

    /// True without entries.
    pub const fn is_empty(&self) -> bool {
        self.extent.len == 0
    }

    /// How far it reaches.
    pub const fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Approximate bytes on the heap, in constant time.
    pub const fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.heap
    }

    /// How many units of work it is to free: entries and pending entries.
    pub fn elements(&self) -> usize {
        self.len() + self.groups.values().map(|group| group.pending().len()).sum::<usize>()
    }

    /// Adds an entry. `pairs`: field, value, field, value...
    pub fn append(
        &mut self,
        id: NewId,
        pairs: &[&[u8]],
        limits: NodeLimits,
    ) -> Result<StreamId, AppendError> {
        let last = self.extent.last_id;
        let after = last.next().ok_or(AppendError::Exhausted)?;
        let id = match id {
            NewId::At(ms) if ms > last.ms => StreamId { ms, seq: 0 },
            NewId::At(_) => after,
            NewId::In(ms) if ms == last.ms && last.seq < u64::MAX => after,
            NewId::In(ms) => StreamId { ms, seq: 0 },
            NewId::Exactly(id) => id,
        };
        if id <= last {
            return Err(AppendError::NotAbove);
        }
        let text: usize = pairs.iter().map(|part| part.len()).sum();
        if text > MAX_NODE_BYTES {
            return Err(AppendError::TooLarge);
        }
        let max_bytes = match limits.max_bytes {
            0 => MAX_NODE_BYTES,
            bytes => bytes.min(MAX_NODE_BYTES),
        };
        let has_room = self.nodes.last().is_some_and(|(_, node)| {
            node.bytes().len() + text < max_bytes
                && (limits.max_entries == 0 || node.entries() < limits.max_entries)
        });
        let grown = self.nodes.change_last(|own, node| {
            let before = node.bytes().len();
            if has_room {
                node.append(own, id, pairs);
            } else {
                node.settle();
            }
            node.bytes().len() - before
        });
        self.heap += grown.unwrap_or(0);
        if !has_room {
            let node = Node::new(id, pairs);
            self.heap += NODE_BYTES + node.bytes().len();
            self.nodes.insert(id, node);
        }
        let extent = &mut self.extent;
        extent.len += 1;
        extent.entries_added = extent.entries_added.wrapping_add(1);
        extent.last_id = id;
        if extent.len == 1 {
            extent.first_id = id;
        }
        Ok(id)
    }

    /// Deletes an entry; false if it is not there.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Some((own, node)) = self.nodes.floor(id) else { return false };
        let Some(entry) = find(own, node, id) else { return false };
        let at = EntryAt::from(entry);
        if node.live() == 1 {
            self.remove_node(own);
        } else {
            self.change_node(own, |node| node.delete(at));
        }
        let extent = &mut self.extent;
        extent.len -= 1;
        extent.max_deleted_id = extent.max_deleted_id.max(id);
        if id == extent.first_id || extent.len == 0 {
            self.find_first();
        }
        true
    }

    /// Lets entries go from the beginning; gives their number.
    pub fn trim(&mut self, trim: Trim) -> u64 {
        let mut gone = 0;
        while let Some((own, node)) = self.nodes.first() {
            let live = node.live();
            let keeps_enough = |len: u64| matches!(trim.keep, Keep::Len(keep) if len <= keep);
            if keeps_enough(self.extent.len) || trim.limit > 0 && gone + live > trim.limit {
                break;
            }
            let goes_whole = match trim.keep {
                Keep::Len(keep) => self.extent.len.saturating_sub(live) >= keep,
                Keep::From(id) => node.last_id(own) < id,
            };
            if goes_whole {
                self.remove_node(own);
                self.extent.len = self.extent.len.saturating_sub(live);
                gone += live;
                continue;
            }
            if trim.whole_nodes {
                break;
            }
            let mut those = Vec::new();
            for entry in node.iter(own) {
                let stays = match trim.keep {
                    Keep::Len(_) => keeps_enough(self.extent.len - those.len() as u64),
                    Keep::From(id) => entry.id >= id,
                };
                if stays {
                    break;
                }
                if !entry.is_deleted() {
                    those.push(EntryAt::from(entry));
                }
            }
            self.change_node(own, |node| node.delete_all(&those));
            self.extent.len -= those.len() as u64;
            gone += those.len() as u64;
            break;
        }
        if gone > 0 || self.extent.len == 0 {
            self.find_first();
        }
        gone
    }

    /// `XSETID`: what is told replaces what was counted.
    pub const fn set_last_id(
        &mut self,
        last_id: StreamId,
        entries_added: Option<u64>,
        max_deleted_id: Option<StreamId>,
    ) {
        self.extent.last_id = last_id;
        if let Some(entries_added) = entries_added {
            self.extent.entries_added = entries_added;
        }
        if let Some(max_deleted_id) = max_deleted_id {
            self.extent.max_deleted_id = max_deleted_id;
        }
    }

    /// True if an entry has this id.
    pub fn contains(&self, id: StreamId) -> bool {
        self.get(id).is_some()
    }

    /// The entry of this id.
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.nodes.floor(id).and_then(|(own, node)| find(own, node, id))
    }

    /// The greatest id of an entry.
    pub fn last_entry_id(&self) -> Option<StreamId> {
        self.range_back(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id)
    }

    /// The id of the first entry that is stored, deleted or not: what replicas are told to trim to.
    pub fn first_stored_id(&self) -> Option<StreamId> {
        self.nodes.iter().find_map(|(own, node)| node.iter(own).next()).map(|entry| entry.id)
    }

    /// The entries of these ids and those between, ascending.
    pub fn range(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = Entry<'_>> {
        let from = self.nodes.floor(start).map_or(start, |(own, _)| own);
        self.nodes
            .iter_from(from)
            .flat_map(|(own, node)| node.iter(own))
            .filter(move |entry| !entry.is_deleted() && entry.id >= start)
            .take_while(move |entry| entry.id <= end)
    }

    /// The entries of these ids and those between, descending.
    pub fn range_back(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = Entry<'_>> {
        self.nodes
            .iter_back_from(end)
            .flat_map(|(own, node)| node.iter_back(own))
            .filter(move |entry| !entry.is_deleted() && entry.id <= end)
            .take_while(move |entry| entry.id >= start)
    }

    /// Number of nodes.
    pub const fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The ids and listpacks of the nodes without the first `rank`; cheap to resume.
    pub fn nodes_from_rank(&self, rank: usize) -> impl Iterator<Item = (StreamId, &[u8])> {
        self.nodes.iter_from_rank(rank).map(|(own, node)| (own, node.bytes()))
    }

    /// How many nodes Redis' radix tree of the nodes' ids would have.
    pub fn radix_nodes(&self) -> usize {
        let keys: Vec<[u8; 16]> = self.nodes.iter().map(|(own, _)| own.to_bytes()).collect();
        if keys.is_empty() { 1 } else { radix_nodes(&keys, 0) }
    }

    /// The groups, in the order of their names.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&Name, &Group)> {
        self.groups.iter().map(|(name, group)| (name, &**group))
    }

    /// A group.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name).map(|group| &**group)
    }

    /// Puts a group in; false if one of this name is there.
    pub fn create_group(&mut self, name: &[u8], group: Group) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        self.heap += group.heap_bytes() + name.len();
        self.groups.insert(name.into(), Arc::new(group));
        true
    }

    /// Removes a group with all it holds; false if it is not there.
    pub fn destroy_group(&mut self, name: &[u8]) -> bool {
        let Some(group) = self.groups.remove(name) else { return false };
        self.heap -= group.heap_bytes() + name.len();
        true
    }

    /// Changes a group.
    pub fn change_group<R>(
        &mut self,
        name: &[u8],
        change: impl FnOnce(&mut Group, &Extent) -> R,
    ) -> Option<R> {
        let group = Arc::make_mut(self.groups.get_mut(name)?);
        let before = group.heap_bytes();
        let result = change(group, &self.extent);
        self.heap = self.heap + group.heap_bytes() - before;
        Some(result)
    }

    /// Drops a bounded part of a stream that nobody wants; true when the rest may be dropped at once.
    pub(super) fn free_some(&mut self) -> bool {
        if !self.nodes.free_some() {
            return false;
        }
        while let Some(mut last) = self.groups.last_entry() {
            if !Arc::get_mut(last.get_mut()).is_none_or(Group::free_some) {
                return false;
            }
            last.remove();
        }
        true
    }

    fn find_first(&mut self) {
        let first = self.range(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id);
        self.extent.first_id = first.unwrap_or_default();
    }

    fn remove_node(&mut self, own: StreamId) {
        if let Some(node) = self.nodes.remove(own) {
            self.heap -= NODE_BYTES + node.bytes().len();
        }
    }

    fn change_node(&mut self, own: StreamId, change: impl FnOnce(&mut Node)) {
        let sizes = self.nodes.change(own, |node| {
            let before = node.bytes().len();
            change(node);
            (before, node.bytes().len())
        });
        if let Some((before, after)) = sizes {
            self.heap = self.heap + after - before;
        }
    }
}

/// The living entry of this id in the node where it must be.
fn find(own: StreamId, node: &Node, id: StreamId) -> Option<Entry<'_>> {
    node.iter(own).find(|entry| !entry.is_deleted() && entry.id >= id).filter(|entry| entry.id == id)
}

/// Nodes of a compressed radix tree of these keys, which ascend and share their first `depth` bytes: one for each
/// key, each branching, and each run of bytes between those.
fn radix_nodes(keys: &[[u8; 16]], depth: usize) -> usize {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return 0 };
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let run = usize::from(common > depth);
    if keys.len() == 1 {
        return run + 1;
    }
    let branches = keys.chunk_by(|a, b| a[common] == b[common]);
    run + 1 + branches.map(|those| radix_nodes(those, common + 1)).sum::<usize>()
}
