//! Masters and replicas: how a node changes its role, in the table and in truth.

use std::net::IpAddr;

use super::bus::PingKind;
use super::{Action, Cluster, Election, MYSELF, NodeFlags, NodeIdx, Turn};
use crate::zoo::Mutation;

impl Cluster {
    /// The table: this node is a master.
    pub(super) fn set_as_master(&mut self, idx: NodeIdx) {
        let node = self.nodes.get(idx);
        if node.is_master() {
            return;
        }
        let had_master = node.master.is_some();
        self.nodes.succeed(idx);
        let flags = &mut self.nodes.get_mut(idx).flags;
        flags.set(NodeFlags::REPLICA, false);
        flags.set(NodeFlags::MASTER, true);
        // A replica that took over has siblings to come: lend it one.
        flags.set(NodeFlags::MIGRATE_TO, had_master && idx != MYSELF);
        self.save.ask();
        self.todo.update_state = true;
    }

    /// I become a replica of `master` (or of another one). I must own no slot.
    pub(super) fn become_replica_of(&mut self, master: NodeIdx, turn: &mut Turn<'_>) {
        debug_assert!(master != MYSELF && self.nodes.me().slots.is_empty());
        if self.nodes.me().is_master() {
            let flags = &mut self.nodes.me_mut().flags;
            flags.set(NodeFlags::MASTER | NodeFlags::MIGRATE_TO, false);
            flags.set(NodeFlags::REPLICA, true);
            self.slots.close_all();
            turn.actions.push(Action::UnblockClients);
        }
        self.nodes.attach(MYSELF, master);
        // F-01: votes of an election before this demotion must not decide one after it.
        self.forget_election();
        self.reset_manual_failover(turn);
        self.following = None;
        self.follow_master(turn);
        self.save.ask();
        self.todo.update_state = true;
        // F-46: the master ignores a CLUSTER FAILOVER of mine until it knows me as its replica. Only it is
        // told: others must hear of its slots before they hear that I gave mine up.
        if let Some(conn) = self.nodes.get(master).outbound {
            self.send_ping(conn, PingKind::Pong, turn);
        }
    }

    fn forget_election(&mut self) {
        if !self.settings.zoo.has(Mutation::OldVotesCount) {
            self.election = Election::default();
        }
    }

    /// Points replication at my master's address when that is new.
    pub(super) fn follow_master(&mut self, turn: &mut Turn<'_>) {
        let Some(master) = self.my_master() else { return };
        let master = self.nodes.get(master);
        if !master.has_address() {
            return;
        }
        let Ok(ip) = master.ip.parse::<IpAddr>() else { return };
        let target = (master.ip.clone(), master.port);
        if self.following.as_ref() != Some(&target) {
            turn.actions.push(Action::Replicate { ip, port: target.1 });
            self.following = Some(target);
        }
    }

    /// I take my master's place: its slots are mine, replication ends, everyone is told.
    pub(super) fn take_over(&mut self, turn: &mut Turn<'_>) {
        let Some(old) = self.my_master() else { return };
        self.elected_epoch = self.election.asked_in(self.nodes.me().config_epoch);
        self.set_as_master(MYSELF);
        self.following = None;
        turn.actions.push(Action::Promote);
        for slot in self.nodes.get(old).slots.clone().iter() {
            self.slots.bind(&mut self.nodes, slot, MYSELF);
        }
        self.save.promise();
        self.update_state(turn);
        // Redis' order: the broadcast of a manual failover still says PAUSED, then the pause is forgotten.
        self.broadcast_pong(false, turn);
        self.reset_manual_failover(turn);
        // F-01: the count of this election must not decide the next one.
        self.forget_election();
    }
}
