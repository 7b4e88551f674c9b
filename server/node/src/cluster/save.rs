//! When nodes.conf is written, and which packets wait for it.
//!
//! A *promise* is what this node must still know after a crash once it has said it: its vote, its config
//! epoch, its slots, the epoch of its election. Packets of a batch that makes a promise wait for the save.
//! Ordinary pings carry the epoch clock as far as it is durable, so they never have to wait for news that
//! came from others, and a node on a full disk goes on answering pings with what it has on disk (F-49).

use super::{Action, Cluster, Turn};
use crate::io::{LogLevel, Mono};

/// After a failed save, the next try.
const RETRY_MS: u64 = 100;
/// How often the same failure is logged.
const RELOG_MS: u64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct SaveState {
    wanted: bool,
    sync: bool,
    /// Answers to commands wait until it is written.
    answering: bool,
    /// The table holds a promise that is in no save yet.
    promise: bool,
    /// A promise is in a save that has not succeeded yet.
    promise_in_flight: bool,
    in_flight: usize,
    failed: bool,
    retry_at: Option<Mono>,
    logged_at: Option<Mono>,
    /// The epoch clock in each save under way, oldest first, and in the last one that succeeded.
    epochs_in_flight: std::collections::VecDeque<u64>,
    durable_epoch: u64,
}

impl SaveState {
    /// Save at the end of this batch.
    pub const fn ask(&mut self) {
        self.wanted = true;
    }

    /// Save, and hold this batch's answers until it is written: Redis, too, writes before it answers, so that a process
    /// that is killed then has it in its file.
    pub const fn ask_before_answering(&mut self) {
        self.wanted = true;
        self.answering = true;
    }

    /// There is something to save.
    pub const fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Save and fsync.
    pub const fn ask_synced(&mut self) {
        self.wanted = true;
        self.sync = true;
    }

    /// Save, fsync, and hold this batch's packets until it is done.
    pub const fn promise(&mut self) {
        self.wanted = true;
        self.sync = true;
        self.promise = true;
    }

    /// The file held this epoch when it was read.
    pub const fn loaded(&mut self, epoch: u64) {
        self.durable_epoch = epoch;
    }

    /// CLUSTER RESET HARD: the clock begins again at zero.
    pub fn restart_epochs(&mut self) {
        self.durable_epoch = 0;
        for epoch in &mut self.epochs_in_flight {
            *epoch = 0;
        }
    }

    /// Packets made now wait for the latest save.
    pub const fn holds_packets(&self) -> bool {
        self.promise || self.promise_in_flight
    }

    pub fn retry_if_due(&mut self, now: Mono) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.ask_synced();
        }
    }
}

impl Cluster {
    /// The disk effect of the oldest unanswered `SaveConfig` ended.
    pub fn config_saved(&mut self, result: Result<(), String>, turn: &mut Turn<'_>) {
        let save = &mut self.save;
        save.in_flight = save.in_flight.saturating_sub(1);
        let epoch = save.epochs_in_flight.pop_front().unwrap_or(save.durable_epoch);
        match result {
            Ok(()) => {
                save.durable_epoch = save.durable_epoch.max(epoch);
                if save.in_flight == 0 {
                    save.promise_in_flight = false;
                    if save.promise {
                        save.ask_synced();
                    }
                    if save.failed {
                        save.failed = false;
                        save.retry_at = None;
                        save.logged_at = None;
                        turn.log(LogLevel::Notice, "The cluster config file is saved again.");
                    }
                }
            }
            Err(error) => {
                save.failed = true;
                // What the failed file held is in no file: the next save must carry it.
                save.promise |= save.promise_in_flight;
                save.retry_at = Some(turn.now.mono.plus_ms(RETRY_MS));
                if turn.ms_since(save.logged_at) >= RELOG_MS {
                    save.logged_at = Some(turn.now.mono);
                    turn.log(
                        LogLevel::Warning,
                        format!(
                            "Could not save the cluster config file ({error}); what depends on it waits."
                        ),
                    );
                }
            }
        }
    }

    /// True while the last save of nodes.conf has failed and no later one has succeeded.
    pub const fn save_failed(&self) -> bool {
        self.save.failed
    }

    pub(super) fn save_if_needed(&mut self, turn: &mut Turn<'_>) {
        if !self.save.wanted {
            return;
        }
        let answers_wait = self.save.promise || self.save.answering;
        // News of others that come while a save is under way go into the next one, together.
        if !answers_wait && self.save.in_flight > 0 {
            return;
        }
        // A full disk is not helped by a save per batch.
        if self.save.failed && !self.save.sync && !answers_wait && self.save.retry_at.is_some() {
            return;
        }
        let text = self.nodes_conf_text(turn);
        let save = &mut self.save;
        let promise = save.promise;
        turn.actions.push(Action::SaveConfig { text, sync: save.sync, answers_wait });
        save.promise_in_flight |= promise;
        save.in_flight += 1;
        save.epochs_in_flight.push_back(self.current_epoch);
        save.wanted = false;
        save.sync = false;
        save.answering = false;
        save.promise = false;
    }

    /// The epoch clock for the next header. Packets with a promise wait for a save that holds the clock;
    /// others must not run ahead of the file.
    pub(super) fn announced_epoch(&self, config_epoch: u64) -> u64 {
        if self.save.holds_packets() {
            self.current_epoch
        } else {
            self.save.durable_epoch.max(config_epoch).min(self.current_epoch)
        }
    }

    /// Raises the epoch clock to what others have reached.
    pub(super) fn observe_epoch(&mut self, epoch: u64) {
        if epoch > self.current_epoch {
            self.current_epoch = epoch;
            self.save.ask();
        }
    }

    /// Gives me the next epoch of all.
    pub(super) fn mint_config_epoch(&mut self) -> u64 {
        self.current_epoch = self.current_epoch.saturating_add(1);
        self.nodes.me_mut().config_epoch = self.current_epoch;
        self.save.promise();
        self.current_epoch
    }

    /// BUMPEPOCH: a new epoch unless mine is the greatest already; true if it was bumped.
    pub(super) fn bump_epoch(&mut self, turn: &mut Turn<'_>) -> bool {
        let max = self.nodes.max_config_epoch().max(self.current_epoch);
        let mine = self.nodes.me().config_epoch;
        if mine != 0 && mine == max {
            return false;
        }
        self.observe_epoch(max);
        let epoch = self.mint_config_epoch();
        turn.log(LogLevel::Warning, format!("New configEpoch set to {epoch}"));
        true
    }
}
