//! The node's files: what is loaded at start and in which order, the append-only file, dumps, CONFIG REWRITE.
//!
//! At start: nodes.conf, then the append-only file if it is on, else dump.rdb; then the cluster looks at the keys
//! and the node serves.
#![allow(clippy::redundant_closure_for_method_calls)] // `Reply::ok` is not general enough in its lifetime

use super::Node;
use super::replication_glue::{TOO_MANY_DATABASES, keep_key};
use super::tickets::Purpose;
use crate::aof::{
    AofEvent, AofItem, AofLoader, AofNames, AofWriter, DiskQueue, FsyncPolicy, LoadWhat, LoadedAof,
    RewriteMode,
};
use crate::cluster::{Cluster, nodes_conf};
use crate::command::{ExpiryMode, Fault, Run, lookup, text};
use crate::config::{Config, Key};
use crate::io::{ConnId, DiskError, DiskOp, Effect, LogLevel, Mono, Now, SnapshotId, Ticket, WallMs};
use crate::rdb::{RdbDecoder, RdbEvent, SnapshotUse, aux_fields};
use crate::replication::identity::ReplId;
use crate::resp::{OwnedArgs, Protocol};

/// What is being loaded.
#[derive(Debug)]
enum Loading {
    /// nodes.conf.
    ClusterConfig { text: Vec<u8> },
    /// The append-only file, all of it or only its manifest.
    Aof(Box<AofLoader>, LoadWhat),
    /// dump.rdb.
    Rdb(Box<RdbLoad>),
}

#[derive(Debug)]
struct RdbLoad {
    decoder: RdbDecoder,
    id: Option<ReplId>,
    offset: Option<u64>,
    stream_db: u32,
}

/// Files of a node.
#[derive(Debug)]
pub struct Files {
    loading: Option<Loading>,
    /// Number of the database that what is loaded belongs to.
    loading_db: u32,
    aof: Option<AofWriter>,
    next_snapshot: u64,
    /// When the last dump was made, and the changes that it held.
    pub last_save: WallMs,
    pub saved_dirty: u64,
    pub last_save_ok: bool,
    last_save_try: Mono,
    /// A client waits for the old text of the configuration file.
    rewriting: Option<(ConnId, String, Vec<u8>)>,
    rewrite_wanted: bool,
    /// A client waits for the append-only file to be loaded again.
    reloading: Option<ConnId>,
}

impl Files {
    pub const fn new(now: Now) -> Self {
        Self {
            loading: None,
            loading_db: 0,
            aof: None,
            next_snapshot: 1,
            last_save: now.wall,
            saved_dirty: 0,
            last_save_ok: true,
            last_save_try: now.mono,
            rewriting: None,
            rewrite_wanted: false,
            reloading: None,
        }
    }

    /// True until the dataset is there.
    pub const fn is_loading(&self) -> bool {
        // Reading the manifest of an old file to begin a new one does not concern the dataset.
        !matches!(self.loading, None | Some(Loading::Aof(_, LoadWhat::ManifestOnly)))
    }

    /// The append-only file, if it is on.
    pub const fn aof(&self) -> Option<&AofWriter> {
        self.aof.as_ref()
    }

    /// Adds an executed command to the append-only file.
    /// `db` is the database that it is meant for; none: it is the same in all.
    pub fn append(&mut self, db: Option<u32>, command: &[u8]) {
        if let Some(aof) = &mut self.aof {
            aof.feed(db, command);
        }
    }

    /// Refuses writes while they could not be kept.
    pub fn check_writable(&self, config: &Config) -> Result<(), Fault> {
        if let Some(error) = self.aof.as_ref().and_then(AofWriter::write_error) {
            return Err(Fault::new(format!("MISCONF Errors writing to the AOF file: {}", error.message)));
        }
        if !self.last_save_ok && config.flag(Key::StopWritesOnBgsaveError) && !config.save_points().is_empty()
        {
            return Err(text(
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
                 Commands that may modify the data set are disabled, because this instance is configured to report \
                 errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check \
                 the Redis logs for details about the RDB error.",
            ));
        }
        Ok(())
    }

    pub const fn snapshot_id(&mut self) -> SnapshotId {
        let id = SnapshotId(self.next_snapshot);
        self.next_snapshot += 1;
        id
    }
}

fn fsync_policy(config: &Config) -> FsyncPolicy {
    match config.text(Key::Appendfsync) {
        "always" => FsyncPolicy::Always,
        "no" => FsyncPolicy::No,
        _ => FsyncPolicy::EverySecond,
    }
}

fn aof_names(config: &Config) -> AofNames {
    AofNames {
        dir: config.text(Key::Appenddirname).to_owned(),
        file: config.text(Key::Appendfilename).to_owned(),
    }
}

impl Node {
    // ---- loading

    /// Asks for the first file.
    pub(super) fn begin_loading(&mut self) {
        if self.config.flag(Key::ClusterEnabled) {
            let name = self.config.text(Key::ClusterConfigFile).to_owned();
            self.files.loading = Some(Loading::ClusterConfig { text: Vec::new() });
            self.effects.push(Effect::Read { name });
        } else {
            self.load_data();
        }
    }

    fn load_data(&mut self) {
        self.db.expiry = ExpiryMode::Ignore;
        self.files.loading_db = 0;
        if self.config.flag(Key::Appendonly) {
            self.load_aof(LoadWhat::Everything);
        } else {
            let decoder = RdbDecoder::new();
            self.files.loading =
                Some(Loading::Rdb(Box::new(RdbLoad { decoder, id: None, offset: None, stream_db: 0 })));
            let name = self.config.text(Key::Dbfilename).to_owned();
            self.effects.push(Effect::Read { name });
        }
    }

    fn load_aof(&mut self, what: LoadWhat) {
        let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
        let loader = AofLoader::new(aof_names(&self.config), what, &mut queue);
        self.files.loading = Some(Loading::Aof(Box::new(loader), what));
    }

    /// Loads the append-only file again (`DEBUG LOADAOF`); `waiting` is answered when it is there. All that was
    /// executed has been handed to the disk before it is asked for the file.
    pub(super) fn reload_aof(&mut self, waiting: ConnId) {
        self.append_to_file();
        self.db.flush_all(self.now.wall);
        self.files.reloading = Some(waiting);
        self.load_data();
    }

    pub(super) fn file_chunk(&mut self, name: &str, bytes: &[u8], eof: bool, missing: bool) {
        if self.acl_chunk(name, bytes, eof, missing) {
            return;
        }
        if let Some((_, wanted, old)) = &mut self.files.rewriting
            && wanted == name
        {
            old.extend_from_slice(bytes);
            if eof {
                self.write_config_file();
            }
            return;
        }
        match self.files.loading.take() {
            Some(Loading::ClusterConfig { mut text }) => {
                text.extend_from_slice(bytes);
                if eof {
                    self.start_cluster(&text);
                } else {
                    self.files.loading = Some(Loading::ClusterConfig { text });
                }
            }
            Some(Loading::Aof(loader, what)) if loader.wants(name) => {
                self.aof_chunk(loader, what, bytes, eof, missing);
            }
            Some(Loading::Rdb(load)) if name == self.config.text(Key::Dbfilename) => {
                self.rdb_chunk(load, bytes, eof, missing);
            }
            other => self.files.loading = other,
        }
    }

    fn start_cluster(&mut self, text: &[u8]) {
        let boot = match nodes_conf::parse(text) {
            Ok(boot) => boot,
            Err(error) => return self.fatal(&error.to_string()),
        };
        let settings = super::cluster_glue::settings(&self.config);
        let seed = self.random.next_u64();
        self.start_cluster_with(|turn| Cluster::new(settings, boot, seed, turn));
        self.load_data();
    }

    fn aof_chunk(
        &mut self,
        mut loader: Box<AofLoader>,
        what: LoadWhat,
        bytes: &[u8],
        eof: bool,
        missing: bool,
    ) {
        let mut failure = None;
        let now = self.now;
        let db = &mut self.db;
        let loading_db = &mut self.files.loading_db;
        db.select(*loading_db);
        let mut scratch = Vec::new();
        let max_string_bytes = self.config.uint(Key::ProtoMaxBulkLen) as usize;
        let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
        let result = loader.file_chunk(bytes, eof, missing, &mut queue, &mut |item| match item {
            AofItem::Database(number) if number < db.databases() => {
                *loading_db = number;
                db.select(number);
            }
            AofItem::Database(_) => {
                failure.get_or_insert(TOO_MANY_DATABASES.to_owned());
            }
            AofItem::Key(key) => {
                if let Err(error) = keep_key(Some(&mut db.keys), &key) {
                    failure.get_or_insert(error);
                }
            }
            AofItem::Command(command) => {
                let args: OwnedArgs = command.args().collect();
                scratch.clear();
                let known = lookup(command.name()).filter(|spec| spec.accepts(args.view().len()));
                let Some((spec, Run::Data(handler))) = known.map(|spec| (spec, spec.run)) else {
                    failure.get_or_insert(format!(
                        "Unknown command '{}' reading the append only file",
                        String::from_utf8_lossy(command.name())
                    ));
                    return;
                };
                let mut call = crate::command::Call {
                    now,
                    args: args.view(),
                    reply: crate::resp::Reply::new(&mut scratch, Protocol::Resp2),
                    db,
                    name: spec.name,
                    max_string_bytes,
                    in_cluster: self.cluster.is_some(),
                    rewritten: true,
                    blocking: crate::command::Blocking::Never,
                    wait: None,
                };
                // What failed when it was executed fails again: nothing was done then either.
                let _ = handler(&mut call);
                db.propagated.clear();
            }
        });
        if let Some(failure) = failure {
            return self.fatal(&failure);
        }
        match result {
            Err(error) => self.fatal(&error.to_string()),
            Ok(None) => self.files.loading = Some(Loading::Aof(loader, what)),
            Ok(Some(loaded)) => self.aof_loaded(loaded, what),
        }
    }

    fn aof_loaded(&mut self, loaded: LoadedAof, what: LoadWhat) {
        if loaded.manifest.is_some() && what == LoadWhat::Everything {
            let keys = self.db.key_count();
            self.log(LogLevel::Notice, format!("DB loaded from append only file: {keys} keys"));
        }
        let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
        let policy = fsync_policy(&self.config);
        let writer = AofWriter::open(aof_names(&self.config), policy, loaded, self.now.mono, &mut queue);
        self.files.aof = Some(writer);
        match what {
            LoadWhat::Everything => self.loaded(),
            LoadWhat::ManifestOnly => {
                self.rewrite_aof(RewriteMode::Restart);
            }
        }
    }

    fn rdb_chunk(&mut self, mut load: Box<RdbLoad>, bytes: &[u8], eof: bool, missing: bool) {
        if missing {
            return self.loaded();
        }
        let mut failure = None;
        let (mut id, mut offset, mut stream_db) = (None, None, None);
        let db = &mut self.db;
        let loading_db = &mut self.files.loading_db;
        db.select(*loading_db);
        let result = load.decoder.feed(bytes, &mut |event| match event {
            RdbEvent::Aux { name, value } => match &name[..] {
                b"repl-id" => id = ReplId::parse(&value),
                b"repl-offset" => {
                    offset = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                }
                b"repl-stream-db" => {
                    stream_db = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                }
                _ => {}
            },
            RdbEvent::SelectDb(number) => {
                match u32::try_from(number).ok().filter(|&it| it < db.databases()) {
                    Some(number) => {
                        *loading_db = number;
                        db.select(number);
                    }
                    None => {
                        failure.get_or_insert(TOO_MANY_DATABASES.to_owned());
                    }
                }
            }
            RdbEvent::Key(key) => {
                if let Err(error) = keep_key(Some(&mut db.keys), &key) {
                    failure.get_or_insert(error);
                }
            }
            _ => {}
        });
        load.id = id.or(load.id);
        load.offset = offset.or(load.offset);
        load.stream_db = stream_db.filter(|&number| number < self.db.databases()).unwrap_or(load.stream_db);
        if let Some(failure) = failure {
            return self.fatal(&failure);
        }
        if let Err(error) = result {
            return self.fatal(&format!("Error loading the dump: {error}"));
        }
        if !eof {
            self.files.loading = Some(Loading::Rdb(load));
            return;
        }
        if !load.decoder.is_done() {
            return self.fatal("Short read or OOM loading DB. Unrecoverable error, aborting now.");
        }
        if let (Some(id), Some(offset)) = (load.id, load.offset) {
            let as_replica = self.cluster.as_ref().is_some_and(Cluster::i_am_replica);
            self.replication.restore(id, offset, load.stream_db, as_replica, self.now.mono);
        }
        let keys = self.db.key_count();
        self.log(LogLevel::Notice, format!("DB loaded from disk: {keys} keys"));
        self.loaded();
    }

    /// Everything is there: the node serves.
    fn loaded(&mut self) {
        self.files.loading = None;
        self.db.dirty = 0;
        self.db.propagated.clear();
        // Nobody did anything: it was only read.
        self.db.take_notifications();
        self.db.expiry = self.expiry_mode();
        self.with_cluster(super::super::cluster::Cluster::data_loaded);
        if let Some(waiting) = self.files.reloading.take() {
            self.unblock(waiting, |reply| reply.ok());
        }
    }

    pub(super) fn fatal(&mut self, why: &str) {
        self.log(LogLevel::Warning, why);
        self.exiting = true;
        self.effects.push(Effect::Exit { code: 1 });
    }

    // ---- the append-only file

    /// Hands the batch's writes to the disk, and gates what the batch said.
    pub(super) fn append_to_file(&mut self) {
        let Some(aof) = &mut self.files.aof else { return };
        let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
        let gate = aof.end_of_batch(self.now.mono, &mut queue);
        if gate > self.tickets.durable() {
            self.tickets.gate_replies(gate);
            self.batch_gate = self.batch_gate.max(gate);
        }
    }

    /// Begins a rewrite; false if one is running or the file is off.
    pub(super) fn rewrite_aof(&mut self, mode: RewriteMode) -> bool {
        let id = self.files.snapshot_id();
        let aux = aux_fields(SnapshotUse::AofBase, self.now.wall, self.db.used_memory(), None);
        let Some(aof) = &mut self.files.aof else { return false };
        let snapshot = self.db.snapshot();
        let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
        aof.begin_rewrite(mode, id, snapshot, aux, &mut queue)
    }

    pub(super) const fn want_rewrite(&mut self) {
        self.files.rewrite_wanted = true;
    }

    /// `appendonly` or `appendfsync` changed.
    pub(super) fn aof_settings_changed(&mut self) {
        let on = self.config.flag(Key::Appendonly);
        if let Some(aof) = &mut self.files.aof {
            aof.set_policy(fsync_policy(&self.config));
            if !on {
                self.append_to_file();
                self.files.aof = None;
            }
        } else if on && self.files.loading.is_none() {
            // The dataset is in memory: only the old files' names matter.
            self.load_aof(LoadWhat::ManifestOnly);
        }
    }

    pub(super) fn snapshot_chunk(&mut self, id: SnapshotId, bytes: &std::sync::Arc<[u8]>, last: bool) {
        if let Some(aof) = self.files.aof.as_mut().filter(|aof| aof.owns_snapshot(id)) {
            let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
            aof.snapshot_chunk(id, bytes, last, &mut queue);
        }
    }

    // ---- ends of disk effects

    pub(super) fn disk_done(&mut self, ticket: Ticket, result: Result<(), DiskError>) {
        match self.tickets.ended(ticket, result.is_ok()) {
            Some(Purpose::ClusterConfig) => {
                let result = result.map_err(|error| error.message);
                self.with_cluster(|cluster, turn| cluster.config_saved(result, turn));
            }
            Some(Purpose::Rdb { waiting, dirty }) => self.dump_done(waiting, dirty, &result),
            Some(Purpose::ConfigFile { waiting }) => match result {
                Ok(()) => {
                    self.log(LogLevel::Warning, "CONFIG REWRITE executed with success.");
                    self.unblock(waiting, |reply| reply.ok());
                }
                Err(error) => {
                    let why = format!("ERR Rewriting config file: {}", error.message);
                    self.unblock(waiting, |reply| reply.error(&why));
                }
            },
            Some(Purpose::AclFile { waiting }) => self.acl_saved(waiting, result),
            None => self.aof_done(ticket, &result),
        }
    }

    fn aof_done(&mut self, ticket: Ticket, result: &Result<(), DiskError>) {
        let Some(aof) = &mut self.files.aof else { return };
        let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
        match aof.disk_done(ticket, result, self.now.mono, &mut queue) {
            None => {}
            Some(AofEvent::Fatal(error)) => self.fatal(&format!(
                "Can't recover from AOF write error when the AOF fsync policy is 'always': {}. Exiting...",
                error.message
            )),
            Some(AofEvent::WriteFailed(error)) => {
                self.log(LogLevel::Warning, format!("Error writing to the AOF file: {}", error.message));
            }
            Some(AofEvent::WriteRecovered) => {
                self.log(LogLevel::Warning, "AOF write error looks solved, Redis can write again.");
            }
            Some(AofEvent::Rewritten) => {
                self.log(LogLevel::Notice, "Background AOF rewrite finished successfully");
            }
            Some(AofEvent::RewriteFailed(_, error)) => {
                self.log(LogLevel::Warning, format!("Background AOF rewrite failed: {}", error.message));
            }
        }
    }

    fn dump_done(&mut self, waiting: Option<ConnId>, dirty: u64, result: &Result<(), DiskError>) {
        self.files.last_save_ok = result.is_ok();
        match result {
            Ok(()) => {
                self.files.last_save = self.now.wall;
                self.files.saved_dirty = dirty;
                self.log(LogLevel::Notice, "DB saved on disk");
            }
            Err(error) => {
                self.log(LogLevel::Warning, format!("Error saving DB on disk: {}", error.message));
            }
        }
        if let Some(conn) = waiting {
            match result {
                Ok(()) => self.unblock(conn, |reply| reply.ok()),
                Err(_) => self.unblock(conn, |reply| reply.error("ERR")),
            }
        }
        if self.exiting {
            if self.files.last_save_ok {
                self.effects.push(Effect::Exit { code: 0 });
            } else {
                self.exiting = false;
                self.log(LogLevel::Warning, "Error trying to save the DB, can't exit.");
            }
        }
    }

    // ---- dumps

    /// Writes dump.rdb in the background; `waiting` is answered when it is there.
    pub(super) fn dump(&mut self, waiting: Option<ConnId>) {
        let ticket = self.tickets.issue(Purpose::Rdb { waiting, dirty: self.db.dirty });
        let rdb_aux = aux_fields(
            SnapshotUse::Rdb,
            self.now.wall,
            self.db.used_memory(),
            self.replication.rdb_identity(),
        );
        self.files.last_save_try = self.now.mono;
        let name = self.config.text(Key::Dbfilename).to_owned();
        let op = DiskOp::ReplaceWithSnapshot { name, snapshot: self.db.snapshot(), rdb_aux, sync: true };
        self.effects.push(Effect::Disk { ticket, op });
    }

    /// Saves and rewrites that are due.
    pub(super) fn file_cron(&mut self) {
        if self.files.is_loading() {
            return;
        }
        let now = self.now.mono;
        if let Some(aof) = &mut self.files.aof {
            let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
            aof.tick(now, &mut queue);
            if aof.needs_restart(now) {
                self.rewrite_aof(RewriteMode::Restart);
            } else {
                let percentage = self.config.uint(Key::AutoAofRewritePercentage);
                let min_bytes = self.config.uint(Key::AutoAofRewriteMinSize);
                let wanted = std::mem::take(&mut self.files.rewrite_wanted);
                if wanted || aof.wants_rewrite(percentage, min_bytes) {
                    self.rewrite_aof(RewriteMode::Compact);
                }
            }
        }
        if self.tickets.is_saving() || self.exiting {
            return;
        }
        let changes = self.db.dirty.saturating_sub(self.files.saved_dirty);
        let age_s = self.now.wall.0.saturating_sub(self.files.last_save.0) / 1000;
        // After a failure: not before 5 s.
        let may = self.files.last_save_ok || now.ms_since(self.files.last_save_try) > 5000;
        let due = self
            .config
            .save_points()
            .iter()
            .any(|point| changes >= point.changes.max(1) && age_s > point.seconds);
        if due && may {
            self.log(LogLevel::Notice, format!("{changes} changes in {age_s} seconds. Saving..."));
            self.dump(None);
        }
    }

    /// SIGTERM.
    pub(super) fn terminate(&mut self) {
        self.log(LogLevel::Warning, "Received SIGTERM scheduling shutdown...");
        let save = !self.config.save_points().is_empty();
        self.shut_down(save);
    }

    /// Ends the process, after a dump if one is wanted.
    pub(super) fn shut_down(&mut self, save: bool) {
        self.log(LogLevel::Warning, "User requested shutdown...");
        self.exiting = true;
        self.append_to_file();
        if save && !self.files.is_loading() {
            self.log(LogLevel::Notice, "Saving the final RDB snapshot before exiting.");
            self.dump(None);
        } else {
            self.effects.push(Effect::Exit { code: 0 });
        }
    }

    // ---- CONFIG REWRITE

    /// Asks for the old text; the rest follows when it is there.
    pub(super) fn begin_config_rewrite(&mut self, conn: ConnId, path: String) {
        self.effects.push(Effect::Read { name: path.clone() });
        self.files.rewriting = Some((conn, path, Vec::new()));
    }

    pub(super) const fn is_rewriting_config(&self) -> bool {
        self.files.rewriting.is_some()
    }

    fn write_config_file(&mut self) {
        let Some((waiting, name, old)) = self.files.rewriting.take() else { return };
        let has_acl_file = self.config.some_text(Key::Aclfile).is_some();
        let users = if has_acl_file { Vec::new() } else { self.acl.lines() };
        self.config.user_lines =
            users.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        let text = self.config.rewrite(&String::from_utf8_lossy(&old));
        let ticket = self.tickets.issue(Purpose::ConfigFile { waiting });
        let op = DiskOp::Replace { name, bytes: text.into_bytes(), sync: true };
        self.effects.push(Effect::Disk { ticket, op });
    }
}
