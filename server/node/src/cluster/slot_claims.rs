//! Who owns a slot: the claim with the greater config epoch. Claims come in headers and in UPDATE messages.

use super::bus::{Body, Header};
use super::{Action, Cluster, MYSELF, NodeIdx, SlotBitmap, Turn};
use crate::io::LogLevel;
use crate::zoo::Mutation;

/// A master that minted its epoch without votes, and has the greater id, waits so long for the other one to act.
const UNELECTED_YIELD_MS: u64 = 1000;

impl Cluster {
    /// Node `from` claims exactly `claimed`, under `epoch`.
    pub(super) fn apply_claims(
        &mut self,
        from: NodeIdx,
        epoch: u64,
        claimed: &SlotBitmap,
        turn: &mut Turn<'_>,
    ) {
        if from == MYSELF {
            return;
        }
        let my_shard = self.my_master().unwrap_or(MYSELF);
        let mut dirty = Vec::new();
        let mut lost_from_my_shard = SlotBitmap::new();
        // Slots it held and does not speak of any more: free for anyone, but bound to it until someone does.
        let held = self.nodes.get(from).slots.clone();
        self.slots.note_claims(&held, claimed);
        let mut taken = SlotBitmap::new();
        for slot in claimed.difference(&held) {
            let owner = self.slots.owner(slot);
            // An open slot is rebound by its last SETSLOT only.
            if self.slots.importing.contains_key(&slot) {
                continue;
            }
            let stronger = owner.is_none_or(|owner| {
                self.slots.is_unclaimed(slot) || self.nodes.get(owner).config_epoch < epoch
            });
            let keeps = owner == Some(MYSELF) && self.settings.zoo.has(Mutation::IgnoresHigherEpoch);
            if !stronger || keeps {
                continue;
            }
            if owner == Some(MYSELF) && turn.facts.keys_in_slot(slot) > 0 {
                dirty.push(slot);
            }
            if owner == Some(my_shard) {
                lost_from_my_shard.insert(slot);
            }
            taken.insert(slot);
        }
        if !taken.is_empty() {
            self.slots.migrating.retain(|slot, _| !taken.contains(*slot));
            self.slots.bind_all(&mut self.nodes, &taken, from);
            self.save.ask_synced();
            self.todo.update_state = true;
        }
        let lost = lost_from_my_shard.len();
        if lost > 0 && my_shard == MYSELF {
            // What I announce about myself has changed.
            self.save.promise();
        }
        turn.slots_left(lost_from_my_shard);
        self.step_down_if_empty(from, my_shard, (lost, claimed.len() == lost), &dirty, turn);
    }

    /// After claims: an emptied shard joins the winner, a sub-replica climbs, lost keys are deleted.
    fn step_down_if_empty(
        &mut self,
        winner: NodeIdx,
        my_shard: NodeIdx,
        (lost, took_all_it_claims): (u16, bool),
        dirty: &[u16],
        turn: &mut Turn<'_>,
    ) {
        let empty = lost > 0 && self.nodes.get(my_shard).slots.is_empty();
        let winner_id = self.nodes.get(winner).id;
        if empty && (self.settings.allow_replica_migration || took_all_it_claims) {
            turn.log(
                LogLevel::Warning,
                format!("Configuration change detected. Reconfiguring myself as a replica of {winner_id}"),
            );
            self.become_replica_of(winner, turn);
            return;
        }
        if self.climb_to_grand_master(turn) {
            return;
        }
        for slot in dirty {
            // F-27: deleted by commands that my replicas get too, or they would bring the keys back one day.
            turn.log(
                LogLevel::Notice,
                format!("Deleting keys in dirty slot {slot} on node {} after migration", self.my_id()),
            );
            turn.actions.push(Action::DeleteSlotKeys { slot: *slot });
        }
    }

    /// If my master is a replica itself its master becomes mine. Also asked for each cron: the claims that would tell me
    /// may never come (F-12).
    pub(super) fn climb_to_grand_master(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.settings.zoo.has(Mutation::SubReplicaStays) {
            return false;
        }
        let Some(master) = self.my_master() else { return false };
        let Some(grand) = self.nodes.get(master).master.filter(|grand| *grand != MYSELF) else {
            return false;
        };
        let (from, to) = (self.nodes.get(master).id, self.nodes.get(grand).id);
        turn.log(LogLevel::Warning, format!("I'm a sub-replica! Reconfiguring myself from {from} to {to}"));
        self.become_replica_of(grand, turn);
        true
    }

    /// UPDATE about a node, without what it does not claim itself.
    pub(super) fn update_about(&self, idx: NodeIdx) -> Body {
        let node = self.nodes.get(idx);
        let mut slots = node.slots.clone();
        for slot in node.slots.iter().filter(|slot| self.slots.is_unclaimed(*slot)) {
            slots.remove(slot);
        }
        Body::Update { node: Some(node.id), config_epoch: node.config_epoch, slots }
    }

    /// Two masters under one epoch: the one with the smaller id takes a new one.
    ///
    /// If they claim the same slots the new epoch also decides whose data stays, and an id is no reason for that
    /// (F-06, F-07). Then [`Self::dispute_wait_ms`] says who acts. Whoever waits does so for a while only: a peer that
    /// knows just the rule of the ids does nothing if it has the greater.
    pub(super) fn resolve_collision(&mut self, idx: NodeIdx, header: &Header, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let since = *self.nodes.get_mut(idx).collided.get_or_insert(now);
        let (me, other) = (self.nodes.me(), self.nodes.get(idx).id);
        let smaller = me.id < other;
        let by_id_alone = self.settings.zoo.has(Mutation::CollisionByIdAlone);
        let disputed = header.slots.iter().any(|slot| me.slots.contains(slot));
        let wait_ms =
            if disputed && !by_id_alone { self.dispute_wait_ms(idx, header) } else { smaller.then_some(0) };
        if wait_ms.is_none_or(|wait_ms| now.ms_since(since) < wait_ms) {
            return;
        }
        let epoch = self.mint_config_epoch();
        turn.log(
            LogLevel::Verbose,
            format!("WARNING: configEpoch collision with node {other}. configEpoch set to {epoch}"),
        );
        if disputed {
            // Before the other one takes an epoch for some other reason, and our slots with it.
            self.broadcast_pong(false, turn);
        }
    }

    /// How long I wait before I take a new epoch against master `idx`, which claims slots of mine under the one I have;
    /// `None`: for ever.
    ///
    /// The one that is up acts, not the one that comes back from a minority. A master that was replaced while it slept and
    /// had minted that epoch before leaves its shard to the one that was elected over it. Any other epoch that was won
    /// by votes gives way to one that was minted by hand or by a slot's import, and does not win only because of an id.
    fn dispute_wait_ms(&self, idx: NodeIdx, header: &Header) -> Option<u64> {
        let (me, other) = (self.nodes.me(), self.nodes.get(idx));
        let long_ms = self.settings.node_timeout_ms * 2;
        let smaller = me.id < other.id;
        let elected = self.elected_epoch == Some(me.config_epoch);
        let replaced_it = me.succeeded == Some(other.id);
        let replaced_me = other.succeeded == Some(me.id);
        match (self.state.is_ok(), header.state == 0) {
            _ if elected && replaced_it => Some(0),
            (true, false) => Some(if replaced_me { long_ms } else { 0 }),
            (false, true) => smaller.then_some(long_ms),
            _ if replaced_it => Some(0),
            _ if elected || replaced_me => smaller.then_some(long_ms),
            _ if smaller => Some(0),
            _ => Some(UNELECTED_YIELD_MS),
        }
    }
}
