//! CLUSTER FAILOVER: the master pauses writes, the replica catches up to the byte, then asks for votes.

use super::bus::{Body, PingKind};
use super::{Action, Cluster, NodeIdx, Turn};
use crate::io::{ConnId, LogLevel, Mono};
use crate::zoo::Mutation;

/// An attempt ends after so long.
const TIMEOUT_MS: u64 = 5000;
/// The pause is asked for longer, so that it cannot end before the attempt does.
const PAUSE_MS: u64 = TIMEOUT_MS * 2;
/// What [`Mutation::PauseEndsEarly`] has in its place.
const EARLY_MS: u64 = 100;

/// An attempt under way, on either side.
#[derive(Debug, Default)]
pub(super) struct ManualFailover {
    deadline: Option<Mono>,
    /// Master's side: who wants to take over.
    replica: Option<NodeIdx>,
    /// Replica's side: where the master stopped.
    master_offset: Option<u64>,
    /// Replica's side: the election may begin.
    can_start: bool,
}

impl ManualFailover {
    pub const fn is_running(&self) -> bool {
        self.deadline.is_some()
    }

    pub const fn may_start(&self) -> bool {
        self.deadline.is_some() && self.can_start
    }

    /// Is this attempt the wish of that replica?
    pub fn is_for(&self, idx: NodeIdx) -> bool {
        self.deadline.is_some() && self.replica == Some(idx)
    }

    pub const fn waits_for_offset(&self) -> bool {
        self.deadline.is_some() && !self.can_start && self.master_offset.is_some()
    }

    /// The paused master's first word counts; true if this was it.
    pub const fn master_paused_at(&mut self, offset: u64) -> bool {
        let first = self.deadline.is_some() && self.master_offset.is_none() && !self.can_start;
        if first {
            self.master_offset = Some(offset);
        }
        first
    }
}

impl Cluster {
    /// CLUSTER FAILOVER without an option, after its checks.
    pub(super) fn start_manual_failover(&mut self, turn: &mut Turn<'_>) {
        self.begin_manual(turn);
        turn.log(LogLevel::Warning, "Manual failover user request accepted.");
        if let Some(master) = self.my_master() {
            self.send_to(master, Body::MfStart, turn);
        }
    }

    /// CLUSTER FAILOVER FORCE: no word with the master, but a majority of votes.
    pub(super) fn force_manual_failover(&mut self, turn: &mut Turn<'_>) {
        self.begin_manual(turn);
        turn.log(LogLevel::Warning, "Forced failover user request accepted.");
        if self.settings.zoo.has(Mutation::ForceAsksNobody) {
            self.bump_epoch(turn);
            return self.take_over(turn);
        }
        self.manual.can_start = true;
        self.todo.manual_failover = true;
    }

    /// CLUSTER FAILOVER TAKEOVER: nobody is asked.
    pub(super) fn take_over_by_command(&mut self, turn: &mut Turn<'_>) {
        self.begin_manual(turn);
        turn.log(LogLevel::Warning, "Taking over the master (user request).");
        if !self.settings.zoo.has(Mutation::TakeoverKeepsEpoch) {
            self.bump_epoch(turn);
        }
        self.take_over(turn);
    }

    fn begin_manual(&mut self, turn: &mut Turn<'_>) {
        self.reset_manual_failover(turn);
        self.manual.deadline = Some(turn.now.mono.plus_ms(TIMEOUT_MS));
    }

    /// MFSTART: my replica wants my place.
    pub(super) fn manual_failover_requested(&mut self, replica: NodeIdx, conn: ConnId, turn: &mut Turn<'_>) {
        let mine = self.nodes.get(replica).master == Some(super::MYSELF);
        if !self.nodes.me().is_master() || !mine {
            return;
        }
        self.reset_manual_failover(turn);
        self.manual.deadline = Some(turn.now.mono.plus_ms(TIMEOUT_MS));
        self.manual.replica = Some(replica);
        if !self.settings.zoo.has(Mutation::FailoverWithoutPause) {
            let ends_early = self.settings.zoo.has(Mutation::PauseEndsEarly);
            let pause_ms = if ends_early { EARLY_MS } else { PAUSE_MS };
            turn.actions.push(Action::PauseWrites { until: turn.now.mono.plus_ms(pause_ms) });
        }
        let id = self.nodes.get(replica).id;
        turn.log(LogLevel::Warning, format!("Manual failover requested by replica {id}."));
        // It learns my offset from this.
        self.send_ping(conn, PingKind::Ping, turn);
    }

    /// Replica's side: has all of the paused master's stream been applied?
    pub(super) fn step_manual_failover(&mut self, turn: &mut Turn<'_>) {
        if !self.manual.waits_for_offset() {
            return;
        }
        let hurries = self.settings.zoo.has(Mutation::FailoverWithoutCatchingUp);
        let is_old = self.settings.zoo.has(Mutation::OldOffsetSatisfies)
            && self.manual.master_offset <= Some(turn.facts.replication_offset());
        if self.manual.master_offset == Some(turn.facts.replication_offset()) || hurries || is_old {
            self.manual.can_start = true;
            turn.log(
                LogLevel::Warning,
                "All master replication stream processed, manual failover can start.",
            );
        }
    }

    pub(super) fn check_manual_failover_timeout(&mut self, turn: &mut Turn<'_>) {
        if self.manual.deadline.is_some_and(|deadline| deadline < turn.now.mono) {
            turn.log(LogLevel::Warning, "Manual failover timed out.");
            self.reset_manual_failover(turn);
        }
    }

    /// Ends the attempt; clients go on.
    pub(super) fn reset_manual_failover(&mut self, turn: &mut Turn<'_>) {
        if self.manual.replica.is_some() {
            turn.actions.push(Action::ResumeWrites);
        }
        let old = self.manual.master_offset.filter(|_| self.settings.zoo.has(Mutation::OldOffsetSatisfies));
        self.manual = ManualFailover { master_offset: old, ..ManualFailover::default() };
    }
}
