//! What holds of the table whatever was said on the bus; for tests and fuzz targets.

use super::{Cluster, MYSELF, NodeFlags};

impl Cluster {
    /// Panics unless every relation of the table is the same from both sides.
    pub(super) fn check_table(&self) {
        let mut owned = 0;
        for idx in self.nodes.by_id() {
            let node = self.nodes.get(idx);
            owned += node.slots.len();
            assert_eq!(node.slots.iter().count(), usize::from(node.slots.len()));
            assert!(node.slots.iter().all(|slot| self.slots.owner(slot) == Some(idx)));
            for replica in &node.replicas {
                assert_eq!(self.nodes.get(*replica).master, Some(idx));
            }
            if let Some(master) = node.master {
                assert!(master != idx, "its own master: {}", node.id);
                assert!(self.nodes.get(master).replicas.contains(&idx));
            }
            for conn in [node.outbound, node.inbound].into_iter().flatten() {
                assert!(self.links.contains_key(&conn));
            }
            assert!(node.fail_reports.keys().all(|reporter| self.nodes.exists(*reporter)));
            assert!(!(node.is_master() && node.is_replica()), "two roles: {}", node.id);
        }
        assert_eq!(owned, self.slots.assigned());
        for (slot, peer) in self.slots.migrating.iter().chain(&self.slots.importing) {
            assert!(self.nodes.exists(*peer), "slot {slot} is open towards a node that is gone");
        }
        assert!(self.links.values().filter_map(|link| link.node).all(|idx| self.nodes.exists(idx)));
        let me = self.nodes.get(MYSELF);
        assert!(me.flags.any(NodeFlags::MYSELF) && (me.is_master() || me.is_replica()));
        assert!(!me.is_master() || me.config_epoch <= self.current_epoch, "my epoch is ahead of the clock");
        assert!(self.last_vote_epoch <= self.current_epoch, "a vote ahead of the clock");
    }
}
