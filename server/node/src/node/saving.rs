//! Saves in the background: dump.rdb and rewrites of the append-only file, when they are due, one at a time as Redis
//! has one child, and what becomes of them.
#![allow(clippy::redundant_closure_for_method_calls)] // `Reply::ok` is not general enough in its lifetime

use super::Node;
use super::files::{aof_names, fsync_policy};
use crate::aof::{AofEvent, AofWriter, DiskQueue, RewriteMode, RewriteRequest};
use crate::command::{Fault, text};
use crate::config::Key;
use crate::io::{ConnId, DiskError, Effect, LogLevel, Mono, SaveJob, SnapshotFormat, SnapshotId, WallMs};
use crate::rdb::{SnapshotUse, aux_fields};

/// After a failed save the next one waits so long.
const SAVE_RETRY_MS: u64 = 5000;
/// After so many rewrites that failed one after the other, the next ones wait...
const REWRITE_FAILURES: u32 = 3;
/// ... longer and longer, up to this many minutes.
const REWRITE_MAX_DELAY_MIN: u64 = 60;

/// A dump on its way.
#[derive(Debug)]
pub(super) struct Saving {
    id: SnapshotId,
    /// Who waits for it: SAVE or DEBUG RELOAD.
    waiting: Option<ConnId>,
    /// The changes that it holds.
    dirty: u64,
    /// SAVE, or the last one before the end: not Redis' child.
    foreground: bool,
    /// Replicas get the file.
    for_replicas: bool,
    pub(super) since: Mono,
}

/// What is known of saves.
#[derive(Debug)]
pub(super) struct Saves {
    pub(super) running: Option<Saving>,
    /// When the last dump was made, and the changes that it held.
    pub(super) last: WallMs,
    pub(super) dirty: u64,
    pub(super) last_ok: bool,
    last_try: Mono,
    /// `rdb_last_bgsave_time_sec`
    pub(super) last_took_s: Option<u64>,
    /// `rdb_saves`
    pub(super) count: u64,
    pub(super) scheduled: bool,
    pub(super) rewrite_scheduled: bool,
    /// `aof_last_rewrite_time_sec`
    pub(super) rewrite_took_s: Option<u64>,
    pub(super) rewrite_failed: bool,
    /// `aof_rewrites`
    pub(super) rewrites: u64,
    rewrite_failures: u32,
    rewrite_delay_min: u64,
    rewrite_not_before: Option<Mono>,
    /// Who waits in SHUTDOWN.
    pub(super) shutdown_by: Option<ConnId>,
}

impl Saves {
    pub const fn new(now: crate::io::Now) -> Self {
        Self {
            running: None,
            last: now.wall,
            dirty: 0,
            last_ok: true,
            last_try: now.mono,
            last_took_s: None,
            count: 0,
            scheduled: false,
            rewrite_scheduled: false,
            rewrite_took_s: None,
            rewrite_failed: false,
            rewrites: 0,
            rewrite_failures: 0,
            rewrite_delay_min: 0,
            rewrite_not_before: None,
            shutdown_by: None,
        }
    }

    /// `aof_rewrites_consecutive_failures`
    pub(super) const fn rewrite_failures(&self) -> u32 {
        self.rewrite_failures
    }

    /// True while Redis would have a child that saves to dump.rdb.
    pub(super) fn in_background(&self) -> bool {
        self.running.as_ref().is_some_and(|saving| !saving.foreground)
    }
}

impl Node {
    // ---- what runs

    /// True while Redis would have a child for dump.rdb or a replica's snapshot.
    pub(super) fn is_saving_rdb(&self) -> bool {
        self.files.saves.in_background() || self.replication.is_encoding()
    }

    /// True while Redis would have a child.
    pub(super) fn is_saving_anything(&self) -> bool {
        self.is_saving_rdb() || self.files.is_rewriting()
    }

    pub(super) fn snapshot_format(&self) -> SnapshotFormat {
        SnapshotFormat {
            compress: self.config.flag(Key::Rdbcompression),
            checksum: self.config.flag(Key::Rdbchecksum),
            key_delay_us: self.config.int(Key::RdbKeySaveDelay),
        }
    }

    // ---- commands

    /// `SAVE`
    pub(super) fn save(&mut self, conn: ConnId) -> Result<(), Fault> {
        if self.is_saving_rdb() || self.files.saves.running.is_some() {
            return Err(text("ERR Background save already in progress"));
        }
        self.dump(Some(conn), true);
        Ok(())
    }

    /// `BGSAVE`; gives what to answer.
    pub(super) fn background_save(&mut self, schedule: bool, in_exec: bool) -> Result<&'static str, Fault> {
        if self.is_saving_rdb() || self.files.saves.running.is_some() {
            return Err(text("ERR Background save already in progress"));
        }
        if self.is_saving_anything() || in_exec {
            if !schedule && !in_exec {
                return Err(text(
                    "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order \
                     to schedule a BGSAVE whenever possible.",
                ));
            }
            self.files.saves.scheduled = true;
            return Ok("Background saving scheduled");
        }
        self.dump(None, false);
        Ok("Background saving started")
    }

    /// `BGREWRITEAOF`; gives what to answer.
    pub(super) fn background_rewrite(&mut self, in_exec: bool) -> Result<&'static str, Fault> {
        if self.files.is_rewriting() {
            return Err(text("ERR Background append only file rewriting already in progress"));
        }
        self.files.saves.rewrite_failures = 0;
        self.files.saves.rewrite_scheduled = true;
        if self.is_saving_anything() || in_exec {
            return Ok("Background append only file rewriting scheduled");
        }
        // At the end of the batch: everything executed before the snapshot must have been appended.
        self.files.rewrite_wanted = true;
        Ok("Background append only file rewriting started")
    }

    // ---- dumps

    /// Writes dump.rdb; `waiting` is answered when it is there.
    pub(super) fn dump(&mut self, waiting: Option<ConnId>, foreground: bool) {
        self.start_dump(waiting, foreground, false);
    }

    /// Writes dump.rdb for replicas that cannot be sent a snapshot that is still being made; gives its name.
    pub(super) fn dump_for_replicas(&mut self) -> SnapshotId {
        self.start_dump(None, false, true)
    }

    fn start_dump(&mut self, waiting: Option<ConnId>, foreground: bool, for_replicas: bool) -> SnapshotId {
        let id = self.files.snapshot_id();
        let rdb_aux = aux_fields(
            SnapshotUse::Rdb,
            self.now.wall,
            self.db.used_memory(),
            self.replication.rdb_identity(),
        );
        let saves = &mut self.files.saves;
        saves.last_try = self.now.mono;
        saves.scheduled = false;
        let (dirty, since) = (self.db.dirty, self.now.mono);
        saves.running = Some(Saving { id, waiting, dirty, foreground, for_replicas, since });
        let job = SaveJob {
            name: self.config.text(Key::Dbfilename).to_owned(),
            snapshot: self.db.snapshot(self.now.wall),
            rdb_aux,
            format: SnapshotFormat {
                // Who waits for it was not meant.
                key_delay_us: if foreground { 0 } else { self.config.int(Key::RdbKeySaveDelay) },
                ..self.snapshot_format()
            },
            as_commands: false,
            annotate_s: None,
        };
        self.effects.push(Effect::Save { id, job: Box::new(job) });
        if !foreground {
            let pid = self.pid;
            self.log(LogLevel::Notice, format!("Background saving started by pid {pid}"));
        }
        id
    }

    /// Gives up a dump that is running, as Redis kills its child.
    pub(super) fn cancel_dump(&mut self) {
        if let Some(saving) = self.files.saves.running.take() {
            self.effects.push(Effect::SnapshotCancel { id: saving.id });
            if saving.for_replicas {
                // They wait for a file that will not come.
                let id = saving.id;
                self.replicate(|replication, now, actions| replication.file_saved(id, None, now, actions));
            }
            if let Some(conn) = saving.waiting {
                self.unblock(conn, |reply| reply.error("ERR"));
            }
        }
    }

    /// A save has ended, of whichever kind.
    pub(super) fn saved(&mut self, id: SnapshotId, result: &Result<u64, DiskError>) {
        if self.files.saves.running.as_ref().is_some_and(|saving| saving.id == id) {
            let Some(saving) = self.files.saves.running.take() else { return };
            return self.dump_done(&saving, result);
        }
        if let Some(aof) = self.files.aof_mut().filter(|aof| aof.owns_save(id)) {
            let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
            let event = aof.saved(id, result, self.now.mono, &mut queue);
            self.aof_event(event);
        }
    }

    fn dump_done(&mut self, saving: &Saving, result: &Result<u64, DiskError>) {
        let saves = &mut self.files.saves;
        saves.last_ok = result.is_ok();
        if !saving.foreground {
            saves.last_took_s = Some(self.now.mono.ms_since(saving.since) / 1000);
        }
        match result {
            Ok(_) => {
                saves.last = self.now.wall;
                saves.dirty = saving.dirty;
                saves.count += 1;
                self.log(LogLevel::Notice, "DB saved on disk");
                if !saving.foreground {
                    self.log(LogLevel::Notice, "Background saving terminated with success");
                }
            }
            Err(error) => {
                self.log(LogLevel::Warning, format!("Error saving DB on disk: {}", error.message));
                if !saving.foreground {
                    self.log(LogLevel::Warning, "Background saving error");
                }
            }
        }
        if saving.for_replicas {
            let (id, bytes) = (saving.id, result.as_ref().ok().copied());
            self.replicate(|replication, now, actions| replication.file_saved(id, bytes, now, actions));
        }
        if let Some(conn) = saving.waiting {
            match result {
                Ok(_) => self.unblock_ok(conn),
                Err(_) => self.unblock(conn, |reply| reply.error("ERR")),
            }
        }
        if self.exiting {
            if self.files.saves.last_ok {
                self.effects.push(Effect::Exit { code: 0 });
            } else {
                self.exiting = false;
                self.log(LogLevel::Warning, "Error trying to save the DB, can't exit.");
                self.refuse_shutdown();
            }
        }
    }

    // ---- rewrites

    /// Begins a rewrite; false if one is running, or the file is off and the rewrite is not of the kind for that.
    pub(super) fn rewrite_aof(&mut self, mode: RewriteMode) -> bool {
        let id = self.files.snapshot_id();
        let aux = aux_fields(SnapshotUse::AofBase, self.now.wall, self.db.used_memory(), None);
        let format = self.snapshot_format();
        let as_commands = !self.config.flag(Key::AofUseRdbPreamble);
        let now = self.now.mono;
        let annotated = self.config.flag(Key::AofTimestampEnabled);
        let annotate_s = annotated.then_some(self.now.wall.0 / 1000);
        self.files.saves.rewrite_scheduled = false;
        let Some(aof) = self.files.aof_mut() else { return false };
        let snapshot = self.db.snapshot(self.now.wall);
        let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
        let request = RewriteRequest { mode, id, snapshot, aux, format, as_commands, annotate_s };
        let began = aof.begin_rewrite(request, now, &mut queue);
        if began {
            let pid = self.pid;
            let text = format!("Background append only file rewriting started by pid {pid}");
            self.log(LogLevel::Notice, text);
        }
        began
    }

    /// What became of a step of the append-only file.
    pub(super) fn aof_event(&mut self, event: Option<AofEvent>) {
        let Some(event) = event else { return };
        match event {
            AofEvent::Fatal(error) => self.fatal(&format!(
                "Can't recover from AOF write error when the AOF fsync policy is 'always': {}. Exiting...",
                error.message
            )),
            AofEvent::WriteFailed(error) => {
                self.log(LogLevel::Warning, format!("Error writing to the AOF file: {}", error.message));
            }
            AofEvent::WriteRecovered => {
                self.log(LogLevel::Warning, "AOF write error looks solved, Redis can write again.");
            }
            AofEvent::Rewritten { began } => {
                let saves = &mut self.files.saves;
                saves.rewrite_took_s = Some(self.now.mono.ms_since(began) / 1000);
                saves.rewrite_failed = false;
                saves.rewrite_failures = 0;
                saves.rewrites += 1;
                self.files.close_detached();
                self.log(LogLevel::Notice, "Background AOF rewrite terminated with success");
                self.log(LogLevel::Notice, "Background AOF rewrite finished successfully");
            }
            AofEvent::RewriteFailed(_, error) => {
                let saves = &mut self.files.saves;
                saves.rewrite_failed = true;
                saves.rewrite_failures += 1;
                self.files.close_detached();
                self.log(LogLevel::Warning, format!("Background AOF rewrite failed: {}", error.message));
                self.log(LogLevel::Warning, "Background AOF rewrite terminated with error");
            }
        }
    }

    /// True while rewrites have to wait because too many have failed.
    fn is_rewrite_limited(&mut self) -> bool {
        let saves = &mut self.files.saves;
        if saves.rewrite_failures < REWRITE_FAILURES {
            (saves.rewrite_delay_min, saves.rewrite_not_before) = (0, None);
            return false;
        }
        if let Some(at) = saves.rewrite_not_before {
            if self.now.mono < at {
                return true;
            }
            saves.rewrite_not_before = None;
            return false;
        }
        let minutes = (saves.rewrite_delay_min * 2).clamp(1, REWRITE_MAX_DELAY_MIN);
        saves.rewrite_delay_min = minutes;
        saves.rewrite_not_before = Some(self.now.mono.plus_ms(minutes * 60_000));
        self.log(
            LogLevel::Warning,
            format!(
                "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {minutes} minutes"
            ),
        );
        true
    }

    // ---- what is due

    /// Saves and rewrites that are due.
    pub(super) fn file_cron(&mut self) {
        if self.files.is_loading() {
            return;
        }
        let now = self.now.mono;
        self.tend_aof(now);
        if self.exiting {
            return;
        }
        if !self.is_saving_anything() && self.files.saves.rewrite_scheduled && !self.is_rewrite_limited() {
            self.start_rewrite();
        }
        self.files.rewrite_wanted = false;
        if !self.is_saving_anything() && self.files.saves.running.is_none() {
            self.dump_if_due(now);
        }
        let percentage = self.config.uint(Key::AutoAofRewritePercentage);
        let min_bytes = self.config.uint(Key::AutoAofRewriteMinSize);
        if !self.is_saving_anything()
            && let Some(growth) = self.files.aof().and_then(|aof| aof.wants_rewrite(percentage, min_bytes))
            && !self.is_rewrite_limited()
        {
            let text = format!("Starting automatic rewriting of AOF on {growth}% growth");
            self.log(LogLevel::Notice, text);
            self.start_rewrite();
        }
        let may = self.files.saves.last_ok || now.ms_since(self.files.saves.last_try) > SAVE_RETRY_MS;
        if self.files.saves.scheduled && !self.is_saving_anything() && may {
            self.dump(None, false);
        }
    }

    /// FLUSHALL ran in this batch: a dump that is running holds what nobody wants back, and dump.rdb is to be as empty
    /// as the dataset, if it is kept at all.
    pub(super) fn follow_flush(&mut self) {
        self.save_flushed(None);
    }

    /// As [`Self::follow_flush`], for a client that is answered when it is done; false if there is nothing to wait for.
    pub(super) fn save_flushed(&mut self, waiting: Option<ConnId>) -> bool {
        if !std::mem::take(&mut self.db.flushed_all) || self.files.is_loading() {
            return false;
        }
        if self.files.saves.in_background() {
            self.cancel_dump();
        }
        let saves =
            !self.config.save_points().is_empty() && self.files.saves.running.is_none() && !self.is_replica();
        if saves {
            self.dump(waiting, true);
        }
        saves
    }

    /// A rewrite that was asked for in this batch begins at its end.
    pub(super) fn start_wanted_rewrite(&mut self) {
        if std::mem::take(&mut self.files.rewrite_wanted) && !self.is_saving_anything() {
            self.start_rewrite();
        }
    }

    fn start_rewrite(&mut self) {
        self.append_to_file();
        if self.files.aof().is_some() {
            self.rewrite_aof(RewriteMode::Compact);
        } else if !self.files.is_rewriting() {
            // Which files there are must be known first.
            self.files.saves.rewrite_scheduled = false;
            self.load_manifest();
        }
    }

    fn tend_aof(&mut self, now: Mono) {
        let held = self.config.flag(Key::NoAppendfsyncOnRewrite) && self.is_saving_anything();
        let Some(aof) = self.files.aof_mut() else { return };
        aof.hold_syncs(held);
        let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
        aof.tick(now, &mut queue);
        if aof.needs_restart(now) {
            self.rewrite_aof(RewriteMode::Restart);
        }
    }

    fn dump_if_due(&mut self, now: Mono) {
        let saves = &self.files.saves;
        let changes = self.db.dirty.saturating_sub(saves.dirty);
        let age_s = (self.now.wall.0 / 1000).saturating_sub(saves.last.0 / 1000);
        let may = saves.last_ok || now.ms_since(saves.last_try) > SAVE_RETRY_MS;
        let due = self.config.save_points().iter().copied();
        let due = due.into_iter().find(|point| changes >= point.changes && age_s > point.seconds);
        if let Some(point) = due.filter(|_| may && changes > 0) {
            let text = format!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
            self.log(LogLevel::Notice, text);
            self.dump(None, false);
        }
    }

    // ---- the end

    /// SIGTERM.
    pub(super) fn terminate(&mut self) {
        let save = !self.config.save_points().is_empty();
        self.shut_down(save);
    }

    /// The process does not end: who asked for that is told.
    pub(super) fn refuse_shutdown(&mut self) {
        if let Some(conn) = self.files.saves.shutdown_by.take() {
            self.unblock(conn, |reply| reply.error("ERR Errors trying to SHUTDOWN. Check logs."));
        }
    }

    /// Ends the process, after a dump if one is wanted.
    pub(super) fn shut_down(&mut self, save: bool) {
        self.log(LogLevel::Warning, "User requested shutdown...");
        self.exiting = true;
        self.append_to_file();
        if self.files.saves.running.is_some() {
            self.log(LogLevel::Warning, "There is a child saving an .rdb. Killing it!");
            self.cancel_dump();
        }
        if let Some(aof) = self.files.aof_mut().filter(|aof| aof.status().rewriting) {
            let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
            aof.abandon_rewrite(&mut queue);
            self.log(LogLevel::Warning, "There is a child rewriting the AOF. Killing it!");
        }
        if save && !self.files.is_loading() {
            self.log(LogLevel::Notice, "Saving the final RDB snapshot before exiting.");
            self.dump(None, true);
        } else {
            self.effects.push(Effect::Exit { code: 0 });
        }
    }

    /// The append-only file is read by its manifest, and opened for a base of its own only.
    pub(super) fn open_detached_aof(&mut self, loaded: crate::aof::LoadedAof) {
        let writer = AofWriter::open_detached(aof_names(&self.config), loaded, self.now.mono);
        self.files.put_detached(writer);
        self.rewrite_aof(RewriteMode::BaseOnly);
    }

    /// `appendonly` or `appendfsync` changed.
    pub(super) fn aof_settings_changed(&mut self) {
        let on = self.config.flag(Key::Appendonly);
        if self.files.aof().is_some() {
            let policy = fsync_policy(&self.config);
            if on {
                if let Some(aof) = self.files.aof_mut() {
                    aof.set_policy(policy);
                }
                return;
            }
            self.append_to_file();
            if self.files.is_rewriting() {
                self.log(LogLevel::Notice, "Killing AOF child");
            }
            if let Some(aof) = self.files.aof_mut() {
                let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
                aof.close(&mut queue);
            }
            self.files.drop_aof();
            self.files.saves.rewrite_scheduled = false;
        } else if on && !self.files.is_loading() {
            // The dataset is in memory: only the old files' names matter.
            self.files.drop_aof();
            self.load_manifest();
        }
    }
}
