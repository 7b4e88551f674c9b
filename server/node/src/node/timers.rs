//! What happens by the clock: pauses that end, the crons of all rooms, keys whose time has come.

use super::client::ConnKind;
use super::{CRON_MS, EXPIRE_UNITS, Node};
use crate::cluster::Cluster;
use crate::command::ExpiryMode;
use crate::migrate::Migrations;
use crate::replication::Replication;

impl Node {
    pub(super) fn run_timers(&mut self) {
        let now = self.now.mono;
        if self.client_pause.is_some_and(|pause| pause.until <= now) {
            self.client_pause = None;
            self.resume_paused();
        }
        if self.failover_pause.is_some_and(|until| until <= now) {
            self.end_failover_pause();
        }
        let awake = self.cluster.as_ref().filter(|_| !self.files.is_loading());
        if awake.is_some_and(|cluster| cluster.next_deadline() <= now) {
            self.with_cluster(Cluster::cron);
        }
        if self.replication.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.replicate(Replication::tick);
        }
        if self.load_due_at().is_some_and(|due| due <= now) {
            self.commit_load();
        }
        if self.migrations.next_deadline(self.holds_writes()).is_some_and(|deadline| deadline <= now) {
            self.migrate(Migrations::tick);
        }
        self.end_waits_due();
        if self.next_cron <= now && self.cron_paused {
            self.next_cron = now.plus_ms(CRON_MS);
        } else if self.next_cron <= now {
            self.next_cron = now.plus_ms(CRON_MS);
            if std::mem::take(&mut self.terminate_wanted) {
                self.terminate();
            }
            self.client_cron();
            self.measure_clients();
            self.redirect_waiting();
            if !self.scripts.is_under_way() {
                self.file_cron();
            }
            self.sample();
        }
    }

    pub(super) fn sample(&mut self) {
        let stats = &mut self.stats;
        let sums = [
            stats.commands,
            stats.input_bytes,
            stats.output_bytes,
            stats.replica_input_bytes,
            stats.replica_output_bytes,
        ];
        stats.rates.sample(self.now.mono, sums);
    }

    pub(super) fn client_cron(&mut self) {
        // Who was closed but does not read its last replies is forgotten after a while.
        let now = self.now.mono;
        self.conns.retain(|_, state| match state.kind {
            ConnKind::Closing { since } => !state.outbox.is_empty() && now.ms_since(since) < 60_000,
            _ => true,
        });
        self.close_slow_and_idle_clients();
    }

    pub(super) fn expire_actively(&mut self) {
        let may = self.active_expire
            && !self.is_replica()
            && self.failover_pause.is_none()
            && self.client_pause.is_none()
            && !self.files.is_loading();
        self.expire_own();
        self.more_expiry = may && self.db.expire_due(self.now.wall, EXPIRE_UNITS);
        // Each key's DEL is a command of its own, not part of a transaction.
        self.hand_on(false);
        if self.db.waits.has_changed() {
            self.serve_waiting();
        }
    }

    /// What to do about expired keys now.
    pub(super) fn expiry_mode(&self) -> ExpiryMode {
        if self.is_replica() || self.failover_pause.is_some() || self.client_pause.is_some() {
            ExpiryMode::Hide
        } else {
            ExpiryMode::Delete
        }
    }
}
