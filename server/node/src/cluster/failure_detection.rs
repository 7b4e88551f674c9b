//! PFAIL and FAIL: suspicion by silence, agreement by reports of masters, and the way back.

use super::bus::Body;
use super::{Cluster, MYSELF, NodeFlags, NodeId, NodeIdx, Turn};
use crate::io::LogLevel;
use crate::zoo::Mutation;

/// A failure report counts for so many node timeouts.
const REPORT_VALIDITY: u64 = 2;
/// A failed master that kept its slots is taken back after so many node timeouts.
const FAIL_UNDO: u64 = 2;

impl Cluster {
    /// Cron's part: pings that are due, links that hang.
    pub(super) fn keep_in_touch(&mut self, turn: &mut Turn<'_>) {
        let timeout = self.settings.node_timeout_ms;
        for idx in self.nodes.snapshot() {
            let node = self.nodes.get(idx);
            if idx == MYSELF || node.flags.any(NodeFlags::NOADDR | NodeFlags::HANDSHAKE) {
                continue;
            }
            // F-47b: judged by what came on my own link. That the node's pings reach me on its link says
            // nothing about this one, and votes need this one.
            let hangs = node.outbound.and_then(|conn| self.links.get(&conn)).is_some_and(|link| {
                turn.now.mono.ms_since(link.created) > timeout
                    && node.ping_sent.is_some()
                    && turn.ms_since(node.ping_sent) > timeout / 2
                    && turn.ms_since(link.data_received) > timeout / 2
            });
            if hangs && !self.settings.zoo.has(Mutation::InboundHidesDeadLink) {
                self.drop_outbound(idx, turn);
            }
            let node = self.nodes.get(idx);
            let ping_due = node.ping_sent.is_none() && self.is_ping_due(node.pong_received, turn);
            let manual = self.nodes.me().is_master() && self.manual.is_for(idx);
            if node.outbound.is_some() && (ping_due || manual) {
                self.ping(idx, turn);
            }
        }
    }

    /// PFAIL for who has left a ping unanswered for longer than the node timeout and said nothing else either.
    /// True if a node became suspect.
    pub(super) fn suspect_the_silent(&mut self, turn: &mut Turn<'_>) -> bool {
        let now = turn.now.mono;
        let mut fresh = Vec::new();
        self.next_suspicion = None;
        for idx in self.nodes.by_id() {
            let node = self.nodes.get(idx);
            if idx == MYSELF || node.suspected() || node.in_handshake() || !node.may_be_missed() {
                continue;
            }
            let Some(ping_sent) = node.ping_sent else { continue };
            // Any byte of the node counts as life.
            let silent_since = node.data_received.map_or(ping_sent, |data| data.max(ping_sent));
            let patience_ms = self.settings.node_timeout_ms + self.excused_ms(silent_since);
            if now.ms_since(silent_since) > patience_ms {
                fresh.push(idx);
            } else if self.is_fast() {
                let deadline = silent_since.plus_ms(patience_ms + 1);
                self.next_suspicion = Some(self.next_suspicion.map_or(deadline, |next| next.min(deadline)));
            }
        }
        for idx in &fresh {
            let node = self.nodes.get_mut(*idx);
            node.flags |= NodeFlags::PFAIL;
            turn.log(LogLevel::Debug, format!("*** NODE {} possibly failing", node.id));
        }
        if self.is_fast() && self.nodes.me().is_master() && !fresh.is_empty() {
            self.suspects += fresh.len();
            self.tell_suspicions(&fresh, turn);
        }
        !fresh.is_empty()
    }

    /// A master's gossip says that a node is ill, or that it is not.
    pub(super) fn failure_reported(
        &mut self,
        reporter: NodeIdx,
        idx: NodeIdx,
        ill: bool,
        turn: &mut Turn<'_>,
    ) {
        let reporter_id = self.nodes.get(reporter).id;
        let node = self.nodes.get_mut(idx);
        if !ill {
            if node.fail_reports.remove(&reporter).is_some() {
                let text = format!("Node {reporter_id} reported node {} is back online.", node.id);
                turn.log(LogLevel::Verbose, text);
            }
            return;
        }
        if node.fail_reports.insert(reporter, turn.now.mono).is_none() {
            let text = format!("Node {reporter_id} reported node {} as not reachable.", node.id);
            turn.log(LogLevel::Verbose, text);
        }
        if self.settings.zoo.has(Mutation::RumourFails) && !self.nodes.get(idx).failed() {
            self.mark_failed(idx, turn);
        }
        self.fail_if_agreed(idx, turn);
    }

    /// Reports about a node that still count.
    pub(super) fn count_failure_reports(&mut self, idx: NodeIdx, turn: &Turn<'_>) -> usize {
        let valid_ms = self.settings.node_timeout_ms * REPORT_VALIDITY;
        let reports = &mut self.nodes.get_mut(idx).fail_reports;
        reports.retain(|_, at| turn.now.mono.ms_since(*at) <= valid_ms);
        reports.len()
    }

    /// PFAIL becomes FAIL when a majority of masters says so.
    fn fail_if_agreed(&mut self, idx: NodeIdx, turn: &mut Turn<'_>) {
        let node = self.nodes.get(idx);
        if !node.flags.any(NodeFlags::PFAIL) || node.failed() {
            return;
        }
        let voices = self.count_failure_reports(idx, turn) + usize::from(self.nodes.me().is_master());
        if voices < self.state.quorum() && !self.settings.zoo.has(Mutation::FailsAlone) {
            return;
        }
        let id = self.nodes.get(idx).id;
        turn.log(LogLevel::Notice, format!("Marking node {id} as failing (quorum reached)."));
        self.mark_failed(idx, turn);
        let header = self.header(turn);
        self.broadcast(&header, &Body::Fail { failed: Some(id) });
    }

    /// FAIL message: a majority agreed elsewhere.
    pub(super) fn fail_announced(&mut self, sender: NodeIdx, failed: &NodeId, turn: &mut Turn<'_>) {
        let Some(idx) = self.nodes.find(failed).filter(|idx| *idx != MYSELF) else { return };
        if self.nodes.get(idx).failed() {
            return;
        }
        let sender = self.nodes.get(sender).id;
        turn.log(LogLevel::Notice, format!("FAIL message received from {sender} about {failed}"));
        self.mark_failed(idx, turn);
    }

    fn mark_failed(&mut self, idx: NodeIdx, turn: &Turn<'_>) {
        let node = self.nodes.get_mut(idx);
        node.flags.set(NodeFlags::PFAIL, false);
        node.flags.set(NodeFlags::FAIL, true);
        node.fail_time = Some(turn.now.mono);
        self.save.ask();
        self.todo.update_state = true;
        self.todo.failover = true;
        if self.my_master() == Some(idx) {
            self.election.master_failed();
        }
    }

    /// A PONG on my own link to the node.
    pub(super) fn pong_received(&mut self, idx: NodeIdx, turn: &mut Turn<'_>) {
        let node = self.nodes.get_mut(idx);
        node.pong_received = Some(turn.now.mono);
        node.ping_sent = None;
        if node.flags.any(NodeFlags::PFAIL) {
            node.flags.set(NodeFlags::PFAIL, false);
            self.save.ask();
            self.todo.update_state = true;
        } else if node.failed() {
            self.clear_fail_if_due(idx, turn);
        }
    }

    fn clear_fail_if_due(&mut self, idx: NodeIdx, turn: &mut Turn<'_>) {
        if self.settings.zoo.has(Mutation::FailNeverCleared) {
            return;
        }
        let undo_ms = self.settings.node_timeout_ms * FAIL_UNDO;
        let node = self.nodes.get(idx);
        let what = if node.is_replica() {
            "replica is reachable again."
        } else if node.slots.is_empty() {
            "master without slots is reachable again."
        } else if turn.ms_since(node.fail_time) > undo_ms {
            "is reachable again and nobody is serving its slots after some time."
        } else {
            return;
        };
        turn.log(LogLevel::Notice, format!("Clear FAIL state for node {}: {what}", node.id));
        self.nodes.get_mut(idx).flags.set(NodeFlags::FAIL, false);
        self.save.ask();
        self.todo.update_state = true;
    }
}
