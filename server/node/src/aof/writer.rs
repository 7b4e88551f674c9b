//! Writes the append-only file: one append a batch, syncs as `appendfsync` says, and rewrites through snapshots.
//!
//! A process that is killed loses nothing that was answered: every reply waits for the `write` of its batch, with
//! one exception that Redis makes too: under `everysec`, while a sync is running, the write itself is put off by up
//! to two seconds (W16).

use std::collections::VecDeque;

use super::{AofFile, AofNames, DiskQueue, LoadedAof, Manifest};
use crate::io::{
    DiskError, DiskOp, Effect, LogLevel, Mono, SaveJob, SnapshotFormat, SnapshotId, Ticket, WallMs,
};
use crate::keyspace::Snapshot;
use crate::rdb::SnapshotEncoder;
use crate::replication::commands::write_command;

/// `everysec`: time between syncs.
const SYNC_PERIOD_MS: u64 = 1000;
/// `everysec`: for so long writes may be put off while a sync is running.
const POSTPONE_MS: u64 = 2000;
/// Time between attempts to write again after an error.
const RETRY_MS: u64 = 1000;

/// `appendfsync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// Nothing is answered before it is on disk.
    Always,
    /// Synced once a second.
    EverySecond,
    /// Synced when the operating system likes.
    No,
}

/// Why the AOF is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewriteMode {
    /// To make it short (`BGREWRITEAOF`): the old files and the new incremental one are valid until the new base is.
    Compact,
    /// Because the dataset is another now (a full resync) or the AOF was just turned on: what is on disk and what is
    /// appended do not belong together, so the new files become valid all at once.
    Restart,
    /// `BGREWRITEAOF` while the AOF is off: only a base is made, nothing is appended.
    BaseOnly,
}

/// What a rewrite is made from.
#[derive(Debug)]
pub struct RewriteRequest {
    /// Why.
    pub mode: RewriteMode,
    /// The save's name.
    pub id: SnapshotId,
    /// Taken just now, at a batch's boundary.
    pub snapshot: Snapshot,
    /// Auxiliary fields, for a base in RDB form.
    pub aux: Vec<(String, String)>,
    /// How the snapshot is encoded.
    pub format: SnapshotFormat,
    /// The base is made of commands (`aof-use-rdb-preamble no`).
    pub as_commands: bool,
    /// The base of commands begins with the time (`aof-timestamp-enabled`), in Unix seconds.
    pub annotate_s: Option<u64>,
}

/// What the glue must know of a finished disk operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AofEvent {
    /// A write failed under `always`, or the first files could not be made: what was promised cannot be kept.
    /// Redis exits with 1 here.
    Fatal(DiskError),
    /// A write or sync failed; writes must be refused with MISCONF until [`AofWriter::write_error`] is none again.
    WriteFailed(DiskError),
    /// Writes work again.
    WriteRecovered,
    /// The new base is in place.
    Rewritten {
        /// When the rewrite began.
        began: Mono,
    },
    /// The rewrite was given up; after a failed restart see [`AofWriter::needs_restart`].
    RewriteFailed(RewriteMode, DiskError),
}

/// What INFO persistence shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AofStatus {
    /// `aof_rewrite_in_progress`
    pub rewriting: bool,
    /// `aof_last_bgrewrite_status`
    pub last_rewrite_failed: bool,
    /// `aof_current_size`, bytes.
    pub current_bytes: u64,
    /// `aof_base_size`, bytes: the size after the last rewrite or start.
    pub base_bytes: u64,
    /// `aof_buffer_length`, bytes not yet given to the disk.
    pub buffered_bytes: u64,
    /// `aof_pending_bio_fsync`
    pub sync_running: bool,
    /// `aof_delayed_fsync`: how often a write could not wait longer for a running sync.
    pub delayed_syncs: u64,
}

/// The writer.
#[derive(Debug)]
pub struct AofWriter {
    names: AofNames,
    policy: FsyncPolicy,
    manifest: Manifest,
    /// The incremental file that is written.
    current: AofFile,
    /// Commands not yet given to the disk.
    buffer: Vec<u8>,
    /// The database that the file has selected since it was opened.
    selected: Option<u32>,
    /// Appends whose outcome is not known, or which must be done again after an error.
    in_flight: VecDeque<InFlight>,
    /// Length of the current file with everything that is known to be in it.
    good_bytes: u64,
    /// Bytes of all files but the current one.
    other_bytes: u64,
    size_at_rewrite: u64,
    gate: Ticket,
    sync: Sync,
    failing: Option<Failing>,
    rewrite: Option<Rewrite>,
    last_rewrite_failed: bool,
    /// What is on disk does not lead to the dataset, from this time on a restart may be tried.
    restart_at: Option<Mono>,
    /// The operations that made the first files.
    opening: Vec<Ticket>,
    /// Numbers of the next base and the next incremental file.
    next_seq: Seqs,
    /// `no-appendfsync-on-rewrite` holds, and something is being saved.
    syncs_held: bool,
    /// The second of the last `#TS:` annotation.
    annotated_s: u64,
}

#[derive(Debug)]
struct InFlight {
    ticket: Ticket,
    bytes: Vec<u8>,
    done: bool,
    /// Of the file that was current before a rewrite began.
    old_file: bool,
}

#[derive(Debug, Default)]
struct Sync {
    running: Option<Ticket>,
    /// Something was written since the last one began.
    dirty: bool,
    last: Mono,
    postponed_since: Option<Mono>,
    delayed: u64,
}

#[derive(Debug)]
struct Failing {
    error: DiskError,
    retry_at: Mono,
}

#[derive(Debug)]
struct Rewrite {
    mode: RewriteMode,
    snapshot: SnapshotId,
    base: AofFile,
    base_bytes: u64,
    began: Mono,
    step: Step,
}

/// How far a rewrite is. Each ticket is that of the operation that is waited for.
#[derive(Debug)]
enum Step {
    /// The new incremental file, and with `Compact` the manifest that names it, are being made. The last of them is
    /// waited for; then the save begins.
    Preparing { file: Ticket, ticket: Ticket, job: Box<SaveJob> },
    /// The new base is being written.
    Saving,
    /// The manifest with the new base is being put in place; `manifest` is what it will be then.
    Switching { ticket: Ticket, manifest: Manifest },
}

impl AofWriter {
    /// Opens the AOF that was loaded for appending, or makes an empty one, its base `as_commands` or as RDB. `now`
    /// begins the first second.
    pub fn open(
        names: AofNames,
        policy: FsyncPolicy,
        as_commands: bool,
        loaded: LoadedAof,
        now: Mono,
        disk: &mut DiskQueue<'_>,
    ) -> Self {
        let fresh = loaded.manifest.is_none();
        let mut fresh_bytes = 0;
        let mut manifest = loaded.manifest.unwrap_or_default();
        let next_seq = next_seq(&manifest);
        let loaded_incrementals = manifest.incremental.len();
        let mut opening = Vec::new();
        let (current, good_bytes) = match manifest.incremental.last() {
            Some(last) => (last.clone(), loaded.last_incremental_bytes),
            None => (names.incremental(next_seq.incremental), 0),
        };
        if fresh {
            let base = names.base(next_seq.base, as_commands);
            let aux = vec![("aof-base".to_owned(), "1".to_owned())];
            let bytes = SnapshotEncoder::new(Snapshot::default(), aux).next_chunk(usize::MAX).bytes;
            let bytes = if as_commands { Vec::new() } else { bytes.to_vec() };
            fresh_bytes = bytes.len() as u64;
            opening.push(disk.op(DiskOp::Replace { name: names.path(&base.name), bytes, sync: true }));
            manifest.base = Some(base);
        }
        let mut gate = Ticket(0);
        for file in manifest.history.drain(..) {
            // The node stopped between a rewrite and its tidying up.
            disk.op(DiskOp::Remove { name: names.path(&file.name) });
        }
        if manifest.incremental.is_empty() {
            // The file first, then the manifest that names it. It may hold the rest of an attempt that crashed.
            let name = names.path(&current.name);
            opening.push(disk.op(DiskOp::Replace { name, bytes: Vec::new(), sync: true }));
            manifest.incremental.push(current.clone());
            gate = put_manifest(&names, &manifest, disk);
            opening.push(gate);
        }
        let base_bytes = loaded.base_bytes + fresh_bytes;
        let other_bytes = base_bytes + loaded.incremental_bytes - loaded.last_incremental_bytes;
        Self {
            names,
            policy,
            manifest,
            current,
            buffer: Vec::new(),
            selected: None,
            in_flight: VecDeque::new(),
            good_bytes,
            other_bytes,
            // Redis' choice: what was rewritten since is not known after a restart.
            size_at_rewrite: base_bytes,
            gate,
            sync: Sync { last: now, ..Sync::default() },
            failing: None,
            rewrite: None,
            last_rewrite_failed: false,
            restart_at: None,
            opening,
            next_seq: Seqs {
                base: next_seq.base + u64::from(fresh),
                incremental: next_seq.incremental + u64::from(loaded_incrementals == 0),
            },
            syncs_held: false,
            annotated_s: 0,
        }
    }

    /// The AOF of a server that has it off, or has just turned it on: nothing is made before the rewrite
    /// ([`RewriteMode::BaseOnly`] or [`RewriteMode::Restart`]) that must come next.
    pub fn open_detached(names: AofNames, loaded: LoadedAof, now: Mono) -> Self {
        let manifest = loaded.manifest.unwrap_or_default();
        let next_seq = next_seq(&manifest);
        Self {
            current: names.incremental(next_seq.incremental),
            names,
            policy: FsyncPolicy::No,
            manifest,
            buffer: Vec::new(),
            selected: None,
            in_flight: VecDeque::new(),
            good_bytes: 0,
            other_bytes: 0,
            size_at_rewrite: 0,
            gate: Ticket(0),
            sync: Sync { last: now, ..Sync::default() },
            failing: None,
            rewrite: None,
            last_rewrite_failed: false,
            restart_at: None,
            opening: Vec::new(),
            next_seq,
            syncs_held: false,
            annotated_s: 0,
        }
    }

    /// Holds syncs back, or no longer (`no-appendfsync-on-rewrite` while something is being saved).
    pub const fn hold_syncs(&mut self, held: bool) {
        self.syncs_held = held;
    }

    /// When the rewrite that is running began.
    pub fn rewriting_since(&self) -> Option<Mono> {
        self.rewrite.as_ref().map(|rewrite| rewrite.began)
    }

    /// Gives up a rewrite that is running: the AOF is turned off, or the process ends.
    pub fn abandon_rewrite(&mut self, disk: &mut DiskQueue<'_>) {
        if let Some(running) = self.rewrite.take() {
            disk.effect(Effect::SnapshotCancel { id: running.snapshot });
            if !matches!(running.step, Step::Switching { .. }) {
                disk.op(DiskOp::Remove { name: self.names.path(&running.base.name) });
            }
        }
    }

    /// Adds the annotation of this second, if it has none yet (`aof-timestamp-enabled`).
    pub fn annotate(&mut self, wall: WallMs) {
        let second = wall.0 / 1000;
        if self.annotated_s != second {
            self.annotated_s = second;
            self.buffer.extend_from_slice(format!("#TS:{second}\r\n").as_bytes());
        }
    }

    /// Changes `appendfsync`.
    pub const fn set_policy(&mut self, policy: FsyncPolicy) {
        self.policy = policy;
    }

    /// The manifest as it is now, for opening the AOF again later.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Why writes must be refused at the moment, if they must.
    pub fn write_error(&self) -> Option<&DiskError> {
        self.failing.as_ref().map(|failing| &failing.error)
    }

    /// What INFO shows.
    pub fn status(&self) -> AofStatus {
        AofStatus {
            rewriting: self.rewrite.is_some(),
            last_rewrite_failed: self.last_rewrite_failed,
            current_bytes: self.size(),
            base_bytes: self.size_at_rewrite,
            buffered_bytes: self.buffer.len() as u64,
            sync_running: self.sync.running.is_some(),
            delayed_syncs: self.sync.delayed,
        }
    }

    fn size(&self) -> u64 {
        self.good_bytes + self.other_bytes
    }

    /// The growth in per cent if `auto-aof-rewrite-percentage` and `-min-size` ask for a rewrite.
    pub fn wants_rewrite(&self, percentage: u64, min_bytes: u64) -> Option<u64> {
        let (size, base) = (self.size(), self.size_at_rewrite.max(1));
        let growth = (size.saturating_mul(100) / base).saturating_sub(100);
        let wanted = self.rewrite.is_none() && percentage > 0 && size > min_bytes && growth >= percentage;
        wanted.then_some(growth)
    }

    /// The AOF is turned off: what is there becomes durable, and a rewrite is given up.
    pub fn close(&mut self, disk: &mut DiskQueue<'_>) {
        self.abandon_rewrite(disk);
        disk.op(DiskOp::Sync { name: self.names.path(&self.current.name), beside: false });
    }

    /// True when the glue must take a snapshot and call [`Self::begin_rewrite`] with [`RewriteMode::Restart`]: an
    /// earlier restart failed, or a write failed in a way that only a new base repairs.
    pub fn needs_restart(&self, now: Mono) -> bool {
        self.restart_at.is_some_and(|at| at <= now)
    }

    /// Adds one executed command (a RESP array), in the form in which it is propagated, with a SELECT before it if
    /// the file has selected another database than `db` (none: it is the same in all of them).
    pub fn feed(&mut self, db: Option<u32>, command: &[u8]) {
        if let Some(db) = db.filter(|_| self.selected != db) {
            self.selected = Some(db);
            write_command(&mut self.buffer, &["SELECT", &db.to_string()]);
        }
        self.buffer.extend_from_slice(command);
    }

    /// Hands the batch's commands to the disk. Gives the ticket that must be durable before anything that this
    /// batch answers leaves the node.
    pub fn end_of_batch(&mut self, now: Mono, disk: &mut DiskQueue<'_>) -> Ticket {
        if !self.buffer.is_empty() && self.failing.is_none() && !self.must_postpone(now) {
            self.append(disk);
        }
        self.sync_if_due(now, disk);
        self.gate
    }

    /// True while a sync runs and the write can still wait for it.
    fn must_postpone(&mut self, now: Mono) -> bool {
        if self.policy != FsyncPolicy::EverySecond || self.sync.running.is_none() {
            self.sync.postponed_since = None;
            return false;
        }
        let since = *self.sync.postponed_since.get_or_insert(now);
        if now.ms_since(since) < POSTPONE_MS {
            return true;
        }
        self.sync.postponed_since = None;
        self.sync.delayed += 1;
        false
    }

    fn append(&mut self, disk: &mut DiskQueue<'_>) {
        let bytes = std::mem::take(&mut self.buffer);
        self.append_bytes(bytes, disk);
    }

    fn append_bytes(&mut self, bytes: Vec<u8>, disk: &mut DiskQueue<'_>) {
        let always = self.policy == FsyncPolicy::Always && !self.syncs_held;
        let name = self.names.path(&self.current.name);
        let ticket = disk.op(DiskOp::Append { name, bytes: bytes.clone(), sync: always });
        self.in_flight.push_back(InFlight { ticket, bytes, done: false, old_file: false });
        self.sync.dirty |= !always;
        self.gate = ticket;
    }

    fn sync_if_due(&mut self, now: Mono, disk: &mut DiskQueue<'_>) {
        let due = self.policy == FsyncPolicy::EverySecond
            && self.sync.dirty
            && self.sync.running.is_none()
            && !self.syncs_held
            && now.ms_since(self.sync.last) >= SYNC_PERIOD_MS;
        if due {
            let name = self.names.path(&self.current.name);
            self.sync.running = Some(disk.op(DiskOp::Sync { name, beside: true }));
            self.sync.dirty = false;
            self.sync.last = now;
        }
    }

    /// When [`Self::tick`] wants to be called.
    pub fn next_deadline(&self) -> Option<Mono> {
        let sync =
            (self.policy == FsyncPolicy::EverySecond && self.sync.dirty && self.sync.running.is_none())
                .then(|| self.sync.last.plus_ms(SYNC_PERIOD_MS));
        let postponed = self.sync.postponed_since.map(|since| since.plus_ms(POSTPONE_MS));
        let retry = self.failing.as_ref().map(|failing| failing.retry_at);
        [sync, postponed, retry, self.restart_at].into_iter().flatten().min()
    }

    /// Time has come: a sync, a write that can wait no longer, another attempt after an error.
    pub fn tick(&mut self, now: Mono, disk: &mut DiskQueue<'_>) {
        let settled = self.in_flight.iter().all(|append| append.done);
        let retry = self.failing.as_ref().is_some_and(|failing| failing.retry_at <= now);
        if retry && settled && self.restart_at.is_none() {
            // What failed left the file as it was, what came after it may be there: cut and write all again.
            self.retry_appends(now, disk);
        }
        self.end_of_batch(now, disk);
    }

    fn retry_appends(&mut self, now: Mono, disk: &mut DiskQueue<'_>) {
        let name = self.names.path(&self.current.name);
        disk.op(DiskOp::Truncate { name, len: self.good_bytes });
        let bytes = self.in_flight.drain(..).flat_map(|append| append.bytes).collect();
        self.append_bytes(bytes, disk);
        if let Some(failing) = &mut self.failing {
            failing.retry_at = now.plus_ms(RETRY_MS);
        }
    }

    /// True if the end of this operation, if it ended well, has only to be noted: an append while writes work.
    pub fn only_notes(&self, ticket: Ticket) -> bool {
        self.failing.is_none()
            && self.sync.running != Some(ticket)
            && self.in_flight.iter().any(|append| append.ticket == ticket)
    }

    /// A disk operation finished. None if it is not the AOF's, or means nothing to the glue.
    pub fn disk_done(
        &mut self,
        ticket: Ticket,
        result: &Result<(), DiskError>,
        now: Mono,
        disk: &mut DiskQueue<'_>,
    ) -> Option<AofEvent> {
        if self.sync.running == Some(ticket) {
            self.sync.running = None;
            return match result {
                Ok(()) => {
                    if !self.buffer.is_empty() && self.failing.is_none() {
                        self.sync.postponed_since = None;
                        self.append(disk);
                    }
                    None
                }
                Err(error) => {
                    self.sync.dirty = true;
                    self.fail(error, now)
                }
            };
        }
        if let Some(at) = self.opening.iter().position(|&opening| opening == ticket) {
            self.opening.swap_remove(at);
            return result.as_ref().err().map(|error| AofEvent::Fatal(error.clone()));
        }
        if self.in_flight.iter().any(|append| append.ticket == ticket) {
            return self.append_done(ticket, result, now);
        }
        self.rewrite_done(ticket, result, now, disk)
    }

    fn append_done(&mut self, ticket: Ticket, result: &Result<(), DiskError>, now: Mono) -> Option<AofEvent> {
        let append = self.in_flight.iter_mut().find(|append| append.ticket == ticket)?;
        append.done = true;
        let old_file = append.old_file;
        match result {
            Ok(()) if self.failing.is_none() || self.in_flight.len() == 1 => {
                let append = self.in_flight.pop_front()?;
                let len = append.bytes.len() as u64;
                if append.old_file {
                    self.other_bytes += len;
                } else {
                    self.good_bytes += len;
                }
                self.failing.take().map(|_| AofEvent::WriteRecovered)
            }
            // Something before it failed: it will be written again, behind that.
            Ok(()) => None,
            Err(error) if self.policy == FsyncPolicy::Always => Some(AofEvent::Fatal(error.clone())),
            Err(error) => {
                if old_file {
                    // It cannot be put in its place any more: newer commands are in a newer file.
                    self.restart_at = Some(now.plus_ms(RETRY_MS));
                }
                self.fail(error, now)
            }
        }
    }

    fn fail(&mut self, error: &DiskError, now: Mono) -> Option<AofEvent> {
        let first = self.failing.is_none();
        self.failing = Some(Failing { error: error.clone(), retry_at: now.plus_ms(RETRY_MS) });
        first.then(|| AofEvent::WriteFailed(error.clone()))
    }

    /// Begins a rewrite from `snapshot`, which was taken just now, at a batch's boundary: everything executed before
    /// it has been fed, nothing after it. False if one is running or writes fail; a restart begins whatever else.
    pub fn begin_rewrite(&mut self, request: RewriteRequest, now: Mono, disk: &mut DiskQueue<'_>) -> bool {
        let RewriteRequest { mode, id, snapshot, aux, format, as_commands, annotate_s } = request;
        match mode {
            RewriteMode::BaseOnly if self.rewrite.is_some() => return false,
            RewriteMode::BaseOnly => {}
            RewriteMode::Compact if self.rewrite.is_some() || self.write_error().is_some() => return false,
            RewriteMode::Compact => {
                if !self.buffer.is_empty() {
                    self.append(disk);
                }
                self.in_flight.iter_mut().for_each(|append| append.old_file = true);
            }
            RewriteMode::Restart => {
                self.abandon_rewrite(disk);
                // The snapshot holds what they did.
                self.buffer.clear();
                self.in_flight.clear();
                self.failing = None;
                self.restart_at = None;
            }
        }
        // Whatever reaches the next file is never durable before what this one holds.
        if std::mem::take(&mut self.sync.dirty) || self.sync.running.is_some() {
            disk.op(DiskOp::Sync { name: self.names.path(&self.current.name), beside: false });
        }
        let base = self.names.base(self.next_seq.base, as_commands);
        self.next_seq.base += 1;
        self.other_bytes += self.good_bytes;
        self.good_bytes = 0;
        if mode != RewriteMode::BaseOnly {
            self.current = self.names.incremental(self.next_seq.incremental);
            self.next_seq.incremental += 1;
        }
        self.selected = None;
        let incremental = self.names.path(&self.current.name);
        // Whatever an earlier attempt left under these names is gone before it can be appended to.
        let name = self.names.path(&base.name);
        let mut file = disk.op(DiskOp::Remove { name: name.clone() });
        if mode != RewriteMode::BaseOnly {
            // Durable before a manifest names it, whatever order of renames the file system keeps.
            file = disk.op(DiskOp::Replace { name: incremental, bytes: Vec::new(), sync: true });
        }
        let mut ticket = file;
        if mode == RewriteMode::Compact {
            self.manifest.incremental.push(self.current.clone());
            ticket = put_manifest(&self.names, &self.manifest, disk);
        }
        let job = Box::new(SaveJob { name, snapshot, rdb_aux: aux, format, as_commands, annotate_s });
        let step = Step::Preparing { file, ticket, job };
        self.rewrite = Some(Rewrite { mode, snapshot: id, base, base_bytes: 0, began: now, step });
        true
    }

    /// True if the save belongs to the rewrite.
    pub fn owns_save(&self, id: SnapshotId) -> bool {
        self.rewrite.as_ref().is_some_and(|rewrite| rewrite.snapshot == id)
    }

    /// The new base is written, and durable, or could not be.
    pub fn saved(
        &mut self,
        id: SnapshotId,
        result: &Result<u64, DiskError>,
        now: Mono,
        disk: &mut DiskQueue<'_>,
    ) -> Option<AofEvent> {
        let rewrite = self.rewrite.as_mut().filter(|rewrite| rewrite.snapshot == id)?;
        match result {
            Err(error) => return self.give_up_rewrite(error.clone(), now, disk),
            Ok(bytes) => rewrite.base_bytes = *bytes,
        }
        let incremental =
            if rewrite.mode == RewriteMode::BaseOnly { Vec::new() } else { vec![self.current.clone()] };
        let mut manifest = Manifest {
            base: Some(rewrite.base.clone()),
            incremental,
            history: self.manifest.history.clone(),
        };
        manifest.history.extend(self.manifest.base.clone());
        let old = self.manifest.incremental.iter();
        let old = old.filter(|file| rewrite.mode == RewriteMode::BaseOnly || **file != self.current);
        manifest.history.extend(old.cloned());
        let ticket = put_manifest(&self.names, &manifest, disk);
        rewrite.step = Step::Switching { ticket, manifest };
        None
    }

    fn rewrite_done(
        &mut self,
        ticket: Ticket,
        result: &Result<(), DiskError>,
        now: Mono,
        disk: &mut DiskQueue<'_>,
    ) -> Option<AofEvent> {
        let rewrite = self.rewrite.as_mut()?;
        let waited_for = match &rewrite.step {
            Step::Preparing { file, .. } if *file == ticket && result.is_err() => *file,
            Step::Preparing { ticket: step, .. } | Step::Switching { ticket: step, .. } => *step,
            Step::Saving => return None,
        };
        if ticket != waited_for {
            return None;
        }
        if let Err(error) = result {
            return self.give_up_rewrite(error.clone(), now, disk);
        }
        match std::mem::replace(&mut rewrite.step, Step::Saving) {
            Step::Preparing { job, .. } => {
                disk.effect(Effect::Save { id: rewrite.snapshot, job });
                None
            }
            Step::Saving => None,
            Step::Switching { manifest, .. } => {
                self.other_bytes = rewrite.base_bytes;
                let began = rewrite.began;
                self.rewrite = None;
                self.last_rewrite_failed = false;
                self.manifest = manifest;
                // Appends to the old file that are still under way belong to history now.
                self.size_at_rewrite = self.size();
                for file in self.manifest.history.drain(..) {
                    disk.op(DiskOp::Remove { name: self.names.path(&file.name) });
                }
                // If this one is lost, what is already removed is removed again at the next start. It must be durable
                // all the same: a rename that comes before the data leaves half a manifest, and no start.
                put_manifest(&self.names, &self.manifest, disk);
                Some(AofEvent::Rewritten { began })
            }
        }
    }

    fn give_up_rewrite(&mut self, error: DiskError, now: Mono, disk: &mut DiskQueue<'_>) -> Option<AofEvent> {
        let rewrite = self.rewrite.take()?;
        let is_appended = rewrite.mode != RewriteMode::BaseOnly;
        if is_appended
            && (rewrite.mode == RewriteMode::Restart || matches!(rewrite.step, Step::Preparing { .. }))
        {
            // The manifest does not name the file that is being written.
            self.restart_at = Some(now.plus_ms(RETRY_MS));
        }
        self.last_rewrite_failed = true;
        disk.effect(Effect::SnapshotCancel { id: rewrite.snapshot });
        // A manifest that could not be replaced may yet name the new base: then it must stay.
        if !matches!(rewrite.step, Step::Switching { .. }) {
            disk.op(DiskOp::Remove { name: self.names.path(&rewrite.base.name) });
        }
        let text = format!("Background AOF rewrite failed: {}", error.message);
        disk.effect(Effect::Log { level: LogLevel::Warning, text });
        if self.policy == FsyncPolicy::Always && self.restart_at.is_some() {
            // What was promised durable would be in a file that nothing names.
            return Some(AofEvent::Fatal(error));
        }
        Some(AofEvent::RewriteFailed(rewrite.mode, error))
    }
}

/// Numbers of files of both kinds.
#[derive(Clone, Copy, Debug)]
struct Seqs {
    base: u64,
    incremental: u64,
}

/// Numbers that no file of the manifest has.
fn next_seq(manifest: &Manifest) -> Seqs {
    let after = |files: &mut dyn Iterator<Item = &AofFile>| files.map(|file| file.seq).max().unwrap_or(0) + 1;
    let of_kind = |kind: &'static str| manifest.history.iter().filter(move |file| file.name.contains(kind));
    Seqs {
        base: after(&mut manifest.base.iter().chain(of_kind(".base."))),
        incremental: after(&mut manifest.incremental.iter().chain(of_kind(".incr."))),
    }
}

fn put_manifest(names: &AofNames, manifest: &Manifest, disk: &mut DiskQueue<'_>) -> Ticket {
    let bytes = manifest.to_text().into_bytes();
    disk.op(DiskOp::Replace { name: names.manifest(), bytes, sync: true })
}
