//! Open slots and slots given by hand: CLUSTER SETSLOT, ADDSLOTS, DELSLOTS, and the check after loading.

use super::{Cluster, MYSELF, NodeId, NodeIdx, Reply, SLOTS, SlotBitmap, Turn};
use crate::io::LogLevel;
use crate::zoo::Mutation;

impl Cluster {
    /// The data set was loaded at start: keys that stand in slots which I do not own. A free slot becomes
    /// mine, another's slot is held open so that its keys can be reached and moved.
    pub fn data_loaded(&mut self, turn: &mut Turn<'_>) {
        if self.i_am_replica() {
            return;
        }
        for slot in 0..SLOTS {
            let owner = self.slots.owner(slot);
            if owner == Some(MYSELF)
                || self.slots.importing.contains_key(&slot)
                || turn.facts.keys_in_slot(slot) == 0
            {
                continue;
            }
            if let Some(owner) = owner {
                self.slots.importing.insert(slot, owner);
                turn.log(
                    LogLevel::Warning,
                    format!(
                        "I have keys for slot {slot}, but the slot is assigned to another node. Setting it \
                         to importing state."
                    ),
                );
            } else {
                self.slots.bind(&mut self.nodes, slot, MYSELF);
                turn.log(
                    LogLevel::Warning,
                    format!("I have keys for unassigned slot {slot}. Taking responsibility for it."),
                );
            }
            self.save.promise();
        }
    }

    /// ADDSLOTS (`add`) and DELSLOTS: all or nothing.
    pub(super) fn change_slots(&mut self, wanted: &[u16], add: bool, turn: &mut Turn<'_>) -> Reply {
        let mut seen = SlotBitmap::new();
        for slot in wanted {
            match (add, self.slots.owner(*slot)) {
                (true, Some(_)) => return Reply::err(format!("Slot {slot} is already busy")),
                (false, None) => return Reply::err(format!("Slot {slot} is already unassigned")),
                _ if !seen.insert(*slot) => {
                    return Reply::err(format!("Slot {slot} specified multiple times"));
                }
                _ => {}
            }
        }
        if add {
            for slot in seen.iter() {
                self.slots.importing.remove(&slot);
                self.slots.bind(&mut self.nodes, slot, MYSELF);
            }
        } else {
            self.release_by_hand(&seen, turn);
        }
        self.save.promise();
        self.todo.update_state = true;
        Reply::ok()
    }

    /// FLUSHSLOTS.
    pub(super) fn flush_slots(&mut self, turn: &mut Turn<'_>) -> Reply {
        if !turn.facts.no_keys() {
            return Reply::err("DB must be empty to perform CLUSTER FLUSHSLOTS.");
        }
        let mine = self.nodes.me().slots.clone();
        self.release_by_hand(&mine, turn);
        self.save.promise();
        self.todo.update_state = true;
        Reply::ok()
    }

    fn release_by_hand(&mut self, slots: &SlotBitmap, turn: &mut Turn<'_>) {
        let mut left = SlotBitmap::new();
        for slot in slots.iter() {
            if self.slots.release(&mut self.nodes, slot) == Some(MYSELF) {
                left.insert(slot);
            }
        }
        turn.slots_left(left);
    }

    /// SETSLOT slot action [id].
    pub(super) fn set_slot(
        &mut self,
        slot: u16,
        action: &[u8],
        node: Option<&[u8]>,
        turn: &mut Turn<'_>,
    ) -> Reply {
        match (action.to_ascii_lowercase().as_slice(), node) {
            (b"migrating", Some(name)) => {
                if self.slots.owner(slot) != Some(MYSELF) {
                    return Reply::err(format!("I'm not the owner of hash slot {slot}"));
                }
                match self.open_peer(name) {
                    Ok(peer) => self.slots.migrating.insert(slot, peer),
                    Err(reply) => return reply,
                };
            }
            (b"importing", Some(name)) => {
                if self.slots.owner(slot) == Some(MYSELF) {
                    return Reply::err(format!("I'm already the owner of hash slot {slot}"));
                }
                match self.open_peer(name) {
                    Ok(peer) => self.slots.importing.insert(slot, peer),
                    Err(reply) => return reply,
                };
            }
            (b"stable", None) => {
                self.slots.importing.remove(&slot);
                self.slots.migrating.remove(&slot);
            }
            (b"node", Some(name)) => {
                if let Err(reply) = self.assign_slot(slot, name, turn) {
                    return reply;
                }
            }
            _ => {
                return Reply::err("Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP");
            }
        }
        self.save.ask_before_answering();
        self.todo.update_state = true;
        Reply::ok()
    }

    fn open_peer(&self, name: &[u8]) -> Result<NodeIdx, Reply> {
        let Some(peer) = NodeId::parse(name).and_then(|id| self.nodes.find(&id)) else {
            let name = String::from_utf8_lossy(name);
            return Err(Reply::err(format!("I don't know about node {name}")));
        };
        if self.nodes.get(peer).is_replica() {
            return Err(Reply::err("Target node is not a master"));
        }
        Ok(peer)
    }

    /// SETSLOT slot NODE id.
    fn assign_slot(&mut self, slot: u16, name: &[u8], turn: &mut Turn<'_>) -> Result<(), Reply> {
        let to = self.node_named(name)?;
        if self.nodes.get(to).is_replica() {
            return Err(Reply::err("Target node is not a master"));
        }
        let was_mine = self.slots.owner(slot) == Some(MYSELF);
        let keys = turn.facts.keys_in_slot(slot);
        if was_mine && to != MYSELF && keys > 0 {
            return Err(Reply::err(format!(
                "Can't assign hashslot {slot} to a different node while I still hold keys for this hash slot."
            )));
        }
        if keys == 0 {
            self.slots.migrating.remove(&slot);
        }
        self.slots.bind(&mut self.nodes, slot, to);
        if was_mine != (to == MYSELF) {
            self.save.promise();
        }
        if was_mine && to != MYSELF {
            turn.slots_left(SlotBitmap::of(slot));
            if self.nodes.me().slots.is_empty() && self.settings.allow_replica_migration {
                let id = self.nodes.get(to).id;
                turn.log(
                    LogLevel::Warning,
                    format!("Configuration change detected. Reconfiguring myself as a replica of {id}"),
                );
                self.become_replica_of(to, turn);
            }
        }
        if to == MYSELF && self.slots.importing.remove(&slot).is_some() {
            let keeps = self.settings.zoo.has(Mutation::ImportKeepsEpoch);
            if !keeps && self.bump_epoch(turn) {
                turn.log(LogLevel::Warning, format!("configEpoch updated after importing slot {slot}"));
            }
            self.save.promise();
            // The others should know before the source's clients are sent here.
            self.broadcast_pong(false, turn);
        }
        Ok(())
    }

    pub(super) fn node_named(&self, name: &[u8]) -> Result<NodeIdx, Reply> {
        NodeId::parse(name)
            .and_then(|id| self.nodes.find(&id))
            .ok_or_else(|| Reply::err(format!("Unknown node {}", String::from_utf8_lossy(name))))
    }
}
