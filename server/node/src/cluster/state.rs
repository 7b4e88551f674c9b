//! Is the cluster up, in my view: coverage, majority, and the delays before a master says so again.

use super::{Cluster, MYSELF, SLOTS, Turn};
use crate::io::{LogLevel, Mono};
use crate::zoo::Mutation;

/// A master that comes back with its slots stays down so long, so that it can hear what happened meanwhile. Redis lets new nodes
/// wait too (CLUSTER_WRITABLE_DELAY), though these have nothing that could have been taken over.
const WRITABLE_DELAY_MS: u64 = 2000;
/// Bounds of the delay after a master was in a minority.
const REJOIN_DELAY_MS: (u64, u64) = (500, 5000);

#[derive(Debug, Default)]
pub(super) struct ClusterState {
    ok: bool,
    first_evaluated: Option<Mono>,
    /// I started with slots: they are what I remember, not what is.
    returning: bool,
    /// When I was last among a minority of masters.
    minority: Option<Mono>,
    /// Masters with slots, at the last evaluation: what a quorum is counted of.
    size: usize,
}

impl ClusterState {
    /// Of a node that starts, with slots or without.
    pub fn of_start(has_slots: bool) -> Self {
        Self { returning: has_slots, ..Self::default() }
    }

    pub const fn is_ok(&self) -> bool {
        self.ok
    }

    pub const fn size(&self) -> usize {
        self.size
    }

    /// A majority of the masters with slots.
    pub const fn quorum(&self) -> usize {
        self.size / 2 + 1
    }
}

impl Cluster {
    pub(super) fn update_state(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let first = *self.state.first_evaluated.get_or_insert(now);
        let master = self.nodes.me().is_master();
        let (mut size, mut reachable, mut failed_owner) = (0, 0, false);
        for idx in self.nodes.by_id() {
            let node = self.nodes.get(idx);
            failed_owner |= node.failed() && !node.slots.is_empty();
            if node.is_master() && !node.slots.is_empty() {
                size += 1;
                reachable += usize::from(!node.suspected() || idx == MYSELF);
            }
        }
        if master && self.state.returning && !self.state.ok && now.ms_since(first) < WRITABLE_DELAY_MS {
            // Elections and reports need the size at once, the state waits.
            self.state.size = size;
            return;
        }
        let covered = self.slots.assigned() == SLOTS && !failed_owner;
        let mut ok = covered || !self.settings.require_full_coverage;
        self.state.size = size;
        if reachable < self.state.quorum() && !self.settings.zoo.has(Mutation::MinorityServes) {
            ok = false;
            // Before any slot is dealt there is no majority to be cut off from.
            if size > 0 {
                self.state.minority = Some(now);
            }
        }
        if ok == self.state.ok {
            return;
        }
        if ok && master {
            let delay = self.settings.node_timeout_ms.clamp(REJOIN_DELAY_MS.0, REJOIN_DELAY_MS.1);
            if turn.ms_since(self.state.minority) < delay {
                return;
            }
        }
        self.state.ok = ok;
        let word = if ok { "ok" } else { "fail" };
        turn.log(LogLevel::Warning, format!("Cluster state changed: {word}"));
    }
}
