//! What this node holds true: the nodes it knows and who owns which slot.
//!
//! Nodes live in an arena and are named by [`NodeIdx`] inside this room, so that the slot table is 16384
//! small numbers. Every relation between two nodes (replica of, reports about) is kept consistent here.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::bitmap::{SLOTS, SlotBitmap};
use super::credence::Place;
use super::flags::NodeFlags;
use super::id::NodeId;
use super::view::NodeText;
use crate::io::{ConnId, Mono};

/// A node's place in the table. Places are reused after a node was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeIdx(u16);

/// Myself is never removed and always stands first.
pub(super) const MYSELF: NodeIdx = NodeIdx(0);

/// One known node, myself included.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub id: NodeId,
    pub created: Mono,
    pub flags: NodeFlags,
    pub config_epoch: u64,
    /// The slots that the slot table binds to this node.
    pub slots: SlotBitmap,
    pub replicas: Vec<NodeIdx>,
    pub master: Option<NodeIdx>,
    /// A master: whose replica it was until then. Of two that took each other's place the later one has it.
    pub succeeded: Option<NodeId>,
    /// When the outstanding ping was sent.
    pub ping_sent: Option<Mono>,
    pub pong_received: Option<Mono>,
    pub data_received: Option<Mono>,
    pub fail_time: Option<Mono>,
    /// When I last voted for a replica of this master.
    pub voted: Option<Mono>,
    pub orphaned_since: Option<Mono>,
    /// Since when it is a master under my own config epoch.
    pub collided: Option<Mono>,
    /// Since when this master, which has slots, calls itself a replica in words that may be older than its promotion.
    pub doubted: Option<Mono>,
    /// When I last sent it a MEET, as long as it has not called me back.
    pub met: Option<Mono>,
    pub repl_offset: u64,
    /// Address as text; empty if not known.
    pub ip: String,
    pub hostname: String,
    pub port: u16,
    pub pport: u16,
    pub cport: u16,
    /// The link that I dialled.
    pub outbound: Option<ConnId>,
    /// The last link on which it called me.
    pub inbound: Option<ConnId>,
    /// Where its last believed words on a link of its own came from.
    pub calls_from: Option<Place>,
    /// Who said that it failed, and when.
    pub fail_reports: BTreeMap<NodeIdx, Mono>,
    /// What CLUSTER NODES showed of it last.
    pub line: RefCell<NodeText>,
}

impl Node {
    pub fn new(id: NodeId, flags: NodeFlags, now: Mono) -> Self {
        Self {
            id,
            created: now,
            flags,
            config_epoch: 0,
            slots: SlotBitmap::new(),
            replicas: Vec::new(),
            master: None,
            succeeded: None,
            ping_sent: None,
            pong_received: None,
            data_received: None,
            fail_time: None,
            voted: None,
            orphaned_since: None,
            collided: None,
            doubted: None,
            met: None,
            repl_offset: 0,
            ip: String::new(),
            hostname: String::new(),
            port: 0,
            pport: 0,
            cport: 0,
            outbound: None,
            inbound: None,
            calls_from: None,
            fail_reports: BTreeMap::new(),
            line: RefCell::default(),
        }
    }

    pub fn is_master(&self) -> bool {
        self.flags.any(NodeFlags::MASTER)
    }

    pub fn is_replica(&self) -> bool {
        self.flags.any(NodeFlags::REPLICA)
    }

    pub fn failed(&self) -> bool {
        self.flags.any(NodeFlags::FAIL)
    }

    /// F-47c: a node whose address was lost is nobody to dial, but its slots are missed all the same.
    pub fn may_be_missed(&self) -> bool {
        self.has_address() || !self.slots.is_empty()
    }

    /// FAIL or PFAIL.
    pub fn suspected(&self) -> bool {
        self.flags.any(NodeFlags::FAIL | NodeFlags::PFAIL)
    }

    pub fn in_handshake(&self) -> bool {
        self.flags.any(NodeFlags::HANDSHAKE)
    }

    pub fn has_address(&self) -> bool {
        !self.flags.any(NodeFlags::NOADDR)
    }
}

/// The nodes.
#[derive(Debug)]
pub(super) struct NodeTable {
    arena: Vec<Option<Node>>,
    by_id: BTreeMap<NodeId, NodeIdx>,
    /// Every node, in an order that a seeded draw may pick from.
    order: Vec<NodeIdx>,
}

impl NodeTable {
    pub fn new(myself: Node) -> Self {
        let by_id = BTreeMap::from([(myself.id, MYSELF)]);
        Self { arena: vec![Some(myself)], by_id, order: vec![MYSELF] }
    }

    pub fn me(&self) -> &Node {
        self.get(MYSELF)
    }

    pub fn me_mut(&mut self) -> &mut Node {
        self.get_mut(MYSELF)
    }

    /// The node at a place that is held by a relation: those are all purged when a node is removed.
    pub fn get(&self, idx: NodeIdx) -> &Node {
        self.arena[usize::from(idx.0)].as_ref().expect("a relation names only nodes of the table")
    }

    pub fn get_mut(&mut self, idx: NodeIdx) -> &mut Node {
        self.arena[usize::from(idx.0)].as_mut().expect("a relation names only nodes of the table")
    }

    pub fn exists(&self, idx: NodeIdx) -> bool {
        self.arena.get(usize::from(idx.0)).is_some_and(Option::is_some)
    }

    pub fn find(&self, id: &NodeId) -> Option<NodeIdx> {
        self.by_id.get(id).copied()
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// The nodes in order of their ids.
    pub fn by_id(&self) -> impl Iterator<Item = NodeIdx> + '_ {
        self.by_id.values().copied()
    }

    /// As [`Self::by_id`], for loops that change the table.
    pub fn snapshot(&self) -> Vec<NodeIdx> {
        self.by_id.values().copied().collect()
    }

    /// The node at a random place, for seeded draws below [`Self::len`].
    pub fn at(&self, place: u64) -> NodeIdx {
        self.order[place as usize % self.order.len()]
    }

    /// Adds a node; `None` when 65535 are known.
    pub fn add(&mut self, node: Node) -> Option<NodeIdx> {
        let id = node.id;
        let idx = if let Some(free) = self.arena.iter().position(Option::is_none) {
            self.arena[free] = Some(node);
            NodeIdx(free as u16)
        } else {
            let idx = NodeIdx(u16::try_from(self.arena.len()).ok().filter(|idx| *idx != u16::MAX)?);
            self.arena.push(Some(node));
            idx
        };
        self.by_id.insert(id, idx);
        self.order.push(idx);
        Some(idx)
    }

    /// Gives a node another id.
    pub fn rename(&mut self, idx: NodeIdx, id: NodeId) {
        let old = std::mem::replace(&mut self.get_mut(idx).id, id);
        self.by_id.remove(&old);
        self.by_id.insert(id, idx);
    }

    /// Removes a node and every relation to it. Its slots must have been released.
    pub fn remove(&mut self, idx: NodeIdx) -> Option<Node> {
        if idx == MYSELF || !self.exists(idx) {
            return None;
        }
        self.detach(idx);
        let replicas = std::mem::take(&mut self.get_mut(idx).replicas);
        for replica in replicas {
            self.get_mut(replica).master = None;
        }
        for other in self.arena.iter_mut().flatten() {
            other.fail_reports.remove(&idx);
        }
        let node = self.arena[usize::from(idx.0)].take()?;
        self.by_id.remove(&node.id);
        self.order.retain(|other| *other != idx);
        Some(node)
    }

    /// Makes `replica` a replica of `master` in the table (the flags of `replica` are the caller's matter).
    pub fn attach(&mut self, replica: NodeIdx, master: NodeIdx) {
        self.detach(replica);
        let node = self.get_mut(replica);
        node.master = Some(master);
        node.succeeded = None;
        let master = self.get_mut(master);
        master.replicas.push(replica);
        master.flags |= NodeFlags::MIGRATE_TO;
    }

    /// `replica` became a master. It takes the place of the one that it followed, if any.
    pub fn succeed(&mut self, replica: NodeIdx) {
        let Some(master) = self.get(replica).master else { return };
        self.detach(replica);
        self.get_mut(master).succeeded = None;
        self.get_mut(replica).succeeded = Some(self.get(master).id);
    }

    /// Ends the relation of `replica` to its master, if any.
    pub fn detach(&mut self, replica: NodeIdx) {
        let Some(master) = self.get_mut(replica).master.take() else { return };
        let master = self.get_mut(master);
        master.replicas.retain(|other| *other != replica);
        if master.replicas.is_empty() {
            master.flags.set(NodeFlags::MIGRATE_TO, false);
        }
    }

    /// Replicas of `master` that are not failing.
    pub fn healthy_replicas(&self, master: NodeIdx) -> usize {
        self.get(master).replicas.iter().filter(|replica| !self.get(**replica).failed()).count()
    }

    /// Does any master have replicas?
    pub fn masters_have_replicas(&self) -> bool {
        self.by_id().any(|idx| self.get(idx).is_master() && !self.get(idx).replicas.is_empty())
    }

    /// The greatest epoch that is known of any node.
    pub fn max_config_epoch(&self) -> u64 {
        self.by_id().map(|idx| self.get(idx).config_epoch).max().unwrap_or(0)
    }
}

/// Who owns which slot, and which slots are open.
#[derive(Debug)]
pub(super) struct SlotTable {
    owners: Vec<Option<NodeIdx>>,
    /// Slots whose owner said in its last header that it does not claim them.
    unclaimed: SlotBitmap,
    pub migrating: BTreeMap<u16, NodeIdx>,
    pub importing: BTreeMap<u16, NodeIdx>,
    assigned: u16,
}

impl SlotTable {
    pub fn new() -> Self {
        Self {
            owners: vec![None; usize::from(SLOTS)],
            unclaimed: SlotBitmap::new(),
            migrating: BTreeMap::new(),
            importing: BTreeMap::new(),
            assigned: 0,
        }
    }

    #[inline]
    pub fn owner(&self, slot: u16) -> Option<NodeIdx> {
        self.owners[usize::from(slot % SLOTS)]
    }

    /// Free for anyone: no owner, or one that does not claim it.
    #[inline]
    pub fn is_unclaimed(&self, slot: u16) -> bool {
        self.owner(slot).is_none() || self.unclaimed.contains(slot)
    }

    /// Who holds these slots claims those: what it does not speak of any more is free.
    pub fn note_claims(&mut self, held: &SlotBitmap, claimed: &SlotBitmap) {
        self.unclaimed.set_within(held, claimed);
    }

    /// Who holds these slots claims all of them, also what an older word of it had left out.
    pub fn note_all_claimed(&mut self, held: &SlotBitmap) {
        if !self.unclaimed.is_empty() {
            self.unclaimed.remove_all(held);
        }
    }

    pub const fn assigned(&self) -> u16 {
        self.assigned
    }

    /// Binds a free slot to a node.
    #[inline]
    pub fn bind(&mut self, nodes: &mut NodeTable, slot: u16, to: NodeIdx) {
        self.release(nodes, slot);
        self.owners[usize::from(slot % SLOTS)] = Some(to);
        self.assigned += 1;
        let first = nodes.get(to).slots.is_empty();
        // A new master is a target of replica migration if replicas are used here at all.
        if first && nodes.masters_have_replicas() {
            nodes.get_mut(to).flags |= NodeFlags::MIGRATE_TO;
        }
        nodes.get_mut(to).slots.insert(slot);
    }

    /// As [`Self::bind`] of each of these slots: 64 at a time, where a whole shard changes hands.
    pub fn bind_all(&mut self, nodes: &mut NodeTable, slots: &SlotBitmap, to: NodeIdx) {
        if slots.len() < 64 {
            return slots.iter().for_each(|slot| self.bind(nodes, slot, to));
        }
        for (first, last) in slots.runs() {
            for owner in &mut self.owners[usize::from(first)..=usize::from(last)] {
                self.assigned += u16::from(owner.is_none());
                *owner = Some(to);
            }
        }
        self.unclaimed.remove_all(slots);
        for idx in nodes.snapshot() {
            nodes.get_mut(idx).slots.remove_all(slots);
        }
        if nodes.get(to).slots.is_empty() && nodes.masters_have_replicas() {
            nodes.get_mut(to).flags |= NodeFlags::MIGRATE_TO;
        }
        nodes.get_mut(to).slots.insert_all(slots);
    }

    /// Makes a slot unassigned; who owned it.
    #[inline]
    pub fn release(&mut self, nodes: &mut NodeTable, slot: u16) -> Option<NodeIdx> {
        let owner = self.owners[usize::from(slot % SLOTS)].take()?;
        nodes.get_mut(owner).slots.remove(slot);
        self.unclaimed.remove(slot);
        self.assigned -= 1;
        Some(owner)
    }

    /// Releases all slots of a node.
    pub fn release_all(&mut self, nodes: &mut NodeTable, of: NodeIdx) {
        for slot in std::mem::take(&mut nodes.get_mut(of).slots).iter() {
            self.owners[usize::from(slot)] = None;
            self.unclaimed.remove(slot);
            self.assigned -= 1;
        }
    }

    pub fn close_all(&mut self) {
        self.migrating.clear();
        self.importing.clear();
    }

    /// Forgets open slots towards a node.
    pub fn forget(&mut self, node: NodeIdx) {
        self.migrating.retain(|_, peer| *peer != node);
        self.importing.retain(|_, peer| *peer != node);
    }
}
