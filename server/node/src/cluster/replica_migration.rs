//! A shard with replicas to spare lends one to a shard that has lost its last.

use super::{Cluster, NodeFlags, NodeIdx, Turn};
use crate::io::LogLevel;

/// A master must have been an orphan for so long.
const ORPHAN_DELAY_MS: u64 = 5000;

impl Cluster {
    /// Each cron on a replica: move to an orphaned master, if it is my turn.
    pub(super) fn migrate_to_orphan(&mut self, turn: &mut Turn<'_>) {
        if !self.settings.allow_replica_migration || !self.state.is_ok() {
            return;
        }
        let Some(mine) = self.my_master() else { return };
        let (mut most, mut target) = (0, None);
        for idx in self.nodes.snapshot() {
            let healthy = self.nodes.healthy_replicas(idx);
            let node = self.nodes.get_mut(idx);
            let master = node.is_master() && !node.failed();
            if master {
                most = most.max(healthy);
            }
            let orphan =
                master && healthy == 0 && !node.slots.is_empty() && node.flags.any(NodeFlags::MIGRATE_TO);
            if orphan {
                node.orphaned_since.get_or_insert(turn.now.mono);
                target = target.or(Some(idx));
            } else {
                node.orphaned_since = None;
            }
        }
        let healthy = self.nodes.healthy_replicas(mine);
        if healthy < 2 || healthy != most || healthy <= self.settings.migration_barrier {
            return;
        }
        let Some(target) = target else { return };
        let waited = turn.ms_since(self.nodes.get(target).orphaned_since);
        if waited > ORPHAN_DELAY_MS && self.i_have_the_smallest_id(most) {
            let id = self.nodes.get(target).id;
            turn.log(LogLevel::Notice, format!("Migrating to orphaned master {id}"));
            self.become_replica_of(target, turn);
        }
    }

    /// Among the replicas of all masters that have `most` healthy ones.
    fn i_have_the_smallest_id(&self, most: usize) -> bool {
        let richest = |idx: &NodeIdx| {
            let node = self.nodes.get(*idx);
            node.is_master() && !node.failed() && self.nodes.healthy_replicas(*idx) == most
        };
        let smallest = self
            .nodes
            .by_id()
            .filter(richest)
            .flat_map(|idx| &self.nodes.get(idx).replicas)
            .map(|idx| self.nodes.get(*idx).id)
            .min();
        smallest.is_none_or(|id| id >= self.my_id())
    }
}
