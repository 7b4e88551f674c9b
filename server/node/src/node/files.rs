//! The node's files: what is loaded at start and in which order, the append-only file, dumps, CONFIG REWRITE.
//!
//! At start: nodes.conf, then the append-only file if it is on, else dump.rdb; then the cluster looks at the keys
//! and the node serves.
#![allow(clippy::redundant_closure_for_method_calls)] // `Reply::ok` is not general enough in its lifetime

use super::Node;
use super::replication_glue::{LOADED_AT_ONCE, TOO_MANY_DATABASES, keep_key, keep_keys, load_delay_us};
use super::saving::Saves;
use super::tickets::Purpose;
use crate::aof::{
    AofEvent, AofItem, AofLoader, AofNames, AofWriter, DiskQueue, FsyncPolicy, LoadWhat, LoadedAof,
    RewriteMode,
};
use crate::cluster::{Cluster, nodes_conf};
use crate::command::{Db, ExpiryMode, Fault, Run, Verb, lookup, text};
use crate::config::{Config, Key};
use crate::io::{ConnId, DiskError, DiskOp, Effect, LogLevel, Mono, Now, SnapshotId, Ticket, WallMs};
use crate::rdb::{RdbDecoder, RdbEvent, RdbKey};
use crate::replication::MasterAddr;
use crate::replication::commands::write_command;
use crate::replication::identity::ReplId;
use crate::resp::{OwnedArgs, Protocol};
use crate::zoo::Mutation;

/// A piece of a file that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileChunk<'a> {
    pub bytes: &'a [u8],
    pub eof: bool,
    pub missing: bool,
    pub total_bytes: u64,
}

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
    /// Keys of the file take the place of those that are there.
    merge: bool,
    /// Keys that were left out because their time had come, with their databases.
    expired: Vec<(u32, Vec<u8>)>,
}

/// What a file says of libraries of functions.
#[derive(Debug)]
pub(super) enum LibraryItem {
    /// The code of one.
    Code(Vec<u8>),
    /// `FUNCTION LOAD` and its like.
    Command(OwnedArgs),
}

/// `rdb_last_load_keys_...`
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LoadCounts {
    pub loaded: u64,
    pub expired: u64,
}

/// How far loading is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    pub since: Mono,
    pub since_wall: WallMs,
    /// Of the file that is being read.
    pub total_bytes: u64,
    pub loaded_bytes: u64,
}

/// Files of a node.
#[derive(Debug)]
pub struct Files {
    loading: Option<Loading>,
    /// Number of the database that what is loaded belongs to.
    loading_db: u32,
    aof: Option<AofWriter>,
    /// The writer makes a base only: the append-only file is off.
    aof_detached: bool,
    next_snapshot: u64,
    /// What is saved in the background.
    pub(super) saves: Saves,
    pub(super) load_counts: LoadCounts,
    progress: Option<Progress>,
    /// A client waits for the old text of the configuration file.
    rewriting: Option<(ConnId, String, Vec<u8>)>,
    /// A rewrite is to begin at the end of this batch.
    pub(super) rewrite_wanted: bool,
    /// `DEBUG AOF-FLUSH-SLEEP`
    pub(super) flush_sleep_us: u64,
    /// What `dir` was before a change that is on its way.
    old_dir: Option<String>,
    /// A client waits for the append-only file to be loaded again.
    reloading: Option<ConnId>,
    /// The rewrite of the configuration file writes defaults too (`DEBUG CONFIG-REWRITE-FORCE-ALL`).
    rewrites_all: bool,
}

impl Files {
    pub const fn new(now: Now) -> Self {
        Self {
            loading: None,
            loading_db: 0,
            aof: None,
            aof_detached: false,
            next_snapshot: 1,
            saves: Saves::new(now),
            load_counts: LoadCounts { loaded: 0, expired: 0 },
            progress: None,
            rewriting: None,
            rewrite_wanted: false,
            flush_sleep_us: 0,
            old_dir: None,
            reloading: None,
            rewrites_all: false,
        }
    }

    /// True until the dataset is there.
    pub const fn is_loading(&self) -> bool {
        // Reading the manifest of an old file to begin a new one does not concern the dataset.
        !matches!(self.loading, None | Some(Loading::Aof(_, LoadWhat::ManifestOnly)))
    }

    /// How far loading is, while it is.
    pub(super) fn progress(&self) -> Option<Progress> {
        self.progress.filter(|_| self.is_loading())
    }

    /// The append-only file, if it is on.
    pub const fn aof(&self) -> Option<&AofWriter> {
        if self.aof_detached { None } else { self.aof.as_ref() }
    }

    /// The writer, of a file that is off too while it makes a base.
    pub(super) const fn aof_mut(&mut self) -> Option<&mut AofWriter> {
        self.aof.as_mut()
    }

    /// True while the append-only file is being rewritten.
    pub(super) fn is_rewriting(&self) -> bool {
        // Its first step is to look which files there are.
        matches!(self.loading, Some(Loading::Aof(_, LoadWhat::ManifestOnly)))
            || self.aof.as_ref().is_some_and(|aof| aof.rewriting_since().is_some())
    }

    /// How the writer stands, or would.
    pub(super) fn aof_status(&self) -> (crate::aof::AofStatus, Option<Mono>) {
        let aof = self.aof.as_ref();
        (aof.map(AofWriter::status).unwrap_or_default(), aof.and_then(AofWriter::rewriting_since))
    }

    pub(super) fn put_detached(&mut self, writer: AofWriter) {
        self.aof = Some(writer);
        self.aof_detached = true;
    }

    /// A base has been made, or not: the file is off again.
    pub(super) fn close_detached(&mut self) {
        if self.aof_detached {
            self.drop_aof();
        }
    }

    pub(super) fn drop_aof(&mut self) {
        self.aof = None;
        self.aof_detached = false;
    }

    /// Adds an executed command to the append-only file; `annotate`: with the time, if this second has none yet.
    /// `db` is the database that it is meant for; none: it is the same in all.
    pub fn append(&mut self, db: Option<u32>, command: &[u8], annotate: Option<WallMs>) {
        if self.aof_detached {
            return;
        }
        if let Some(aof) = &mut self.aof {
            if let Some(wall) = annotate {
                aof.annotate(wall);
            }
            aof.feed(db, command);
        }
    }

    /// True if [`Self::append`] keeps what it is given.
    pub const fn wants_commands(&self) -> bool {
        self.aof.is_some() && !self.aof_detached
    }

    /// Refuses writes while they could not be kept.
    pub fn check_writable(&self, config: &Config) -> Result<(), Fault> {
        if let Some(error) = self.aof().and_then(AofWriter::write_error) {
            return Err(Fault::new(format!("MISCONF Errors writing to the AOF file: {}", error.message)));
        }
        if !self.saves.last_ok
            && config.flag(Key::StopWritesOnBgsaveError)
            && !config.save_points().is_empty()
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

    /// As [`Self::check_writable`], for a script that says that it writes.
    pub fn check_scripts_may_write(&self, config: &Config) -> Result<(), Fault> {
        if let Some(error) = self.aof().and_then(AofWriter::write_error) {
            return Err(Fault::new(format!(
                "MISCONF Redis is configured to persist data to AOF, but it's currently unable to persist to disk. \
                 Writable scripts are blocked. Use 'no-writes' flag for read only scripts. AOF error: {}",
                error.message
            )));
        }
        self.check_writable(config).map_err(|_| {
            text(
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
                 Writable scripts are blocked. Use 'no-writes' flag for read only scripts.",
            )
        })
    }

    pub const fn snapshot_id(&mut self) -> SnapshotId {
        let id = SnapshotId(self.next_snapshot);
        self.next_snapshot += 1;
        id
    }
}

pub(super) fn fsync_policy(config: &Config) -> FsyncPolicy {
    match config.text(Key::Appendfsync) {
        "always" => FsyncPolicy::Always,
        "no" => FsyncPolicy::No,
        _ => FsyncPolicy::EverySecond,
    }
}

pub(super) fn aof_names(config: &Config) -> AofNames {
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
        if self.config.zoo.has(Mutation::RestartEmpty) {
            self.load_aof(LoadWhat::ManifestOnly);
        } else if self.config.flag(Key::Appendonly) {
            self.load_aof(LoadWhat::Everything);
        } else {
            self.load_rdb(false);
        }
    }

    fn load_aof(&mut self, what: LoadWhat) {
        let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
        let cut = self.config.flag(Key::AofLoadTruncated);
        let loader = AofLoader::new(aof_names(&self.config), what, cut, &mut queue);
        self.files.loading = Some(Loading::Aof(Box::new(loader), what));
    }

    /// Asks which files the append-only file has.
    pub(super) fn load_manifest(&mut self) {
        self.load_aof(LoadWhat::ManifestOnly);
    }

    /// Loads the append-only file again (`DEBUG LOADAOF`); `waiting` is answered when it is there. All that was
    /// executed has been handed to the disk before it is asked for the file.
    pub(super) fn reload_aof(&mut self, waiting: ConnId) {
        self.append_to_file();
        self.db.flush_all(self.now.wall);
        self.files.reloading = Some(waiting);
        self.db.expiry = ExpiryMode::Ignore;
        self.load_aof(LoadWhat::Everything);
    }

    /// Loads dump.rdb again (`DEBUG RELOAD NOSAVE`), in place of what is there (`flush`) or to it, where keys of the
    /// file win (`merge`) or are an error.
    pub(super) fn reload_rdb(&mut self, waiting: ConnId, flush: bool, merge: bool) {
        if flush {
            self.db.flush_all(self.now.wall);
            self.take_libraries_or_complain(&[]);
        }
        self.files.reloading = Some(waiting);
        self.load_rdb(merge);
    }

    fn load_rdb(&mut self, merge: bool) {
        self.db.expiry = ExpiryMode::Ignore;
        let decoder = RdbDecoder::new();
        self.files.loading = Some(Loading::Rdb(Box::new(RdbLoad {
            decoder,
            id: None,
            offset: None,
            stream_db: 0,
            merge,
            expired: Vec::new(),
        })));
        let name = self.config.text(Key::Dbfilename).to_owned();
        self.effects.push(Effect::Read { name });
    }

    pub(super) fn file_chunk(&mut self, name: &str, chunk: FileChunk<'_>) {
        let FileChunk { bytes, eof, missing, total_bytes } = chunk;
        if self.acl_chunk(name, bytes, eof, missing) {
            return;
        }
        let progress = self.files.progress.get_or_insert(Progress {
            since: self.now.mono,
            since_wall: self.now.wall,
            total_bytes: 0,
            loaded_bytes: 0,
        });
        progress.total_bytes = total_bytes;
        progress.loaded_bytes += bytes.len() as u64;
        if eof {
            progress.loaded_bytes = 0;
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
        let wall = now.wall;
        let db = &mut self.db;
        let loading_db = &mut self.files.loading_db;
        db.select(*loading_db);
        let mut scratch = Vec::new();
        let max_string_bytes = self.config.uint(Key::ProtoMaxBulkLen) as usize;
        let mut libraries = Vec::new();
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
                if let Err(error) = keep_key(Some(&mut db.keys), &key, wall) {
                    failure.get_or_insert(error);
                }
            }
            AofItem::Library(code) => libraries.push(LibraryItem::Code(code)),
            AofItem::Command(command) => {
                let args: OwnedArgs = command.args().collect();
                scratch.clear();
                let known = lookup(command.name()).filter(|spec| spec.accepts(args.view().len()));
                if known.is_some_and(|spec| spec.run.is(Verb::Function)) {
                    // They have nothing to do with keys: after those will do.
                    libraries.push(LibraryItem::Command(args));
                    return;
                }
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
        let failure = failure.or_else(|| self.load_libraries(libraries, false).err());
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
        if !self.config.flag(Key::Appendonly) {
            self.files.loading = None;
            return match what {
                // DEBUG LOADAOF of a server that has it off.
                LoadWhat::Everything => self.loaded(),
                LoadWhat::ManifestOnly => self.open_detached_aof(loaded),
            };
        }
        let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
        let policy = fsync_policy(&self.config);
        let (names, now) = (aof_names(&self.config), self.now.mono);
        self.files.aof = Some(match what {
            LoadWhat::Everything => {
                let as_commands = !self.config.flag(Key::AofUseRdbPreamble);
                AofWriter::open(names, policy, as_commands, loaded, now, &mut queue)
            }
            LoadWhat::ManifestOnly => {
                let mut writer = AofWriter::open_detached(names, loaded, now);
                writer.set_policy(policy);
                writer
            }
        });
        match what {
            LoadWhat::Everything => self.loaded(),
            LoadWhat::ManifestOnly => {
                self.files.loading = None;
                self.rewrite_aof(RewriteMode::Restart);
            }
        }
    }

    fn rdb_chunk(&mut self, mut load: Box<RdbLoad>, bytes: &[u8], eof: bool, missing: bool) {
        if missing {
            return self.loaded();
        }
        let mut failure = None;
        let mut libraries = Vec::new();
        let (mut id, mut offset, mut stream_db) = (None, None, None);
        let wall = self.now.wall;
        let merge = load.merge;
        // A replica keeps what has expired until its master deletes it.
        let is_replica = self.cluster.as_ref().is_some_and(Cluster::i_am_replica)
            || !self.config.words(Key::Replicaof).is_empty();
        let due = self.now.wall.0;
        let loaded_before = self.files.load_counts.loaded;
        let counts = &mut self.files.load_counts;
        let expired = &mut load.expired;
        let db = &mut self.db;
        let loading_db = &mut self.files.loading_db;
        db.select(*loading_db);
        let mut keys: Vec<RdbKey> = Vec::with_capacity(LOADED_AT_ONCE);
        let mut keep = |db: &mut Db, keys: &mut Vec<RdbKey>| {
            if let Err(error) = keep_keys(Some(&mut db.keys), keys, wall) {
                failure.get_or_insert(error);
            }
            keys.clear();
        };
        let mut no_such_database = false;
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
                keep(db, &mut keys);
                match u32::try_from(number).ok().filter(|&it| it < db.databases()) {
                    Some(number) => {
                        *loading_db = number;
                        db.select(number);
                    }
                    None => no_such_database = true,
                }
            }
            RdbEvent::Key(key) if !is_replica && key.expire_at_ms.is_some_and(|at| at < due) => {
                counts.expired += 1;
                expired.push((*loading_db, key.key));
            }
            RdbEvent::Key(key) => {
                counts.loaded += 1;
                if merge {
                    db.keys.remove(&key.key);
                }
                keys.push(key);
                if merge || keys.len() == LOADED_AT_ONCE {
                    keep(db, &mut keys);
                }
            }
            RdbEvent::Function(code) => libraries.push(LibraryItem::Code(code)),
            RdbEvent::ResizeDb { .. } | RdbEvent::End => {}
        });
        keep(db, &mut keys);
        if no_such_database {
            failure = Some(TOO_MANY_DATABASES.to_owned());
        }
        let keys = (self.files.load_counts.loaded - loaded_before) as usize;
        let us = load_delay_us(&self.config, keys);
        if us > 0 {
            self.effects.push(Effect::Busy { us });
        }
        load.id = id.or(load.id);
        load.offset = offset.or(load.offset);
        load.stream_db = stream_db.filter(|&number| number < self.db.databases()).unwrap_or(load.stream_db);
        let failure = failure.or_else(|| self.load_libraries(libraries, merge).err());
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
        if let (Some(id), Some(offset)) = (load.id, load.offset)
            && self.files.reloading.is_none()
        {
            self.replication.restore(id, offset, load.stream_db, is_replica, self.now.mono);
            // Replicas that go on from the dump's offset still have what has expired meanwhile.
            for (db, key) in std::mem::take(&mut load.expired) {
                let mut command = Vec::new();
                write_command(&mut command, &[b"DEL", &key[..]]);
                self.replication.propagate(Some(db), &command);
            }
        }
        let keys = self.db.key_count();
        self.log(LogLevel::Notice, format!("DB loaded from disk: {keys} keys"));
        self.loaded();
    }

    /// Everything is there: the node serves.
    fn loaded(&mut self) {
        self.files.loading = None;
        self.files.progress = None;
        self.db.dirty = 0;
        self.db.propagated.clear();
        // Nobody did anything: it was only read.
        self.db.take_notifications();
        self.db.expiry = self.expiry_mode();
        self.with_cluster(super::super::cluster::Cluster::data_loaded);
        if let Some(waiting) = self.files.reloading.take() {
            self.unblock_ok(waiting);
        } else if !self.config.flag(Key::ClusterEnabled) {
            self.follow_configured_master();
        }
    }

    /// `replicaof` of the configuration file, once the data is loaded.
    fn follow_configured_master(&mut self) {
        let words = self.config.words(Key::Replicaof);
        let [host, port] = words else { return };
        let Ok(port) = port.parse() else { return };
        let master = MasterAddr::new(host, port);
        self.follow(master);
        self.db.expiry = self.expiry_mode();
    }

    pub(super) fn fatal(&mut self, why: &str) {
        self.log(LogLevel::Warning, why);
        self.exiting = true;
        self.effects.push(Effect::Exit { code: 1 });
    }

    // ---- the append-only file

    /// Hands the batch's writes to the disk, and gates what the batch said.
    pub(super) fn append_to_file(&mut self) {
        if self.files.aof_detached {
            return;
        }
        let Some(aof) = &mut self.files.aof else { return };
        if self.files.flush_sleep_us > 0 && aof.status().buffered_bytes > 0 {
            self.effects.push(Effect::Busy { us: self.files.flush_sleep_us });
        }
        let mut queue = DiskQueue::new(&mut self.effects, &mut self.tickets.last);
        let gate = aof.end_of_batch(self.now.mono, &mut queue);
        if gate > self.tickets.durable() && !self.config.zoo.has(Mutation::RepliesBeforeFsync) {
            self.tickets.gate_replies(gate);
            self.batch_gate = self.batch_gate.max(gate);
        }
    }

    // ---- ends of disk effects

    /// True if something is done as soon as this disk effect has ended well. Else its end may be told with whatever comes
    /// next: but for bytes that are gated by it, nothing waits for it.
    pub fn acts_on_end_of(&self, ticket: Ticket) -> bool {
        !self.files.aof.as_ref().is_some_and(|aof| aof.only_notes(ticket))
    }

    pub(super) fn disk_done(&mut self, ticket: Ticket, result: Result<(), DiskError>) {
        match self.tickets.ended(ticket, result.is_ok()) {
            Some(Purpose::ClusterConfig) => {
                let result = result.map_err(|error| error.message);
                self.with_cluster(|cluster, turn| cluster.config_saved(result, turn));
            }
            Some(Purpose::ChangeDir { waiting }) => self.dir_changed(waiting, result),
            Some(Purpose::ConfigFile { waiting }) => match result {
                Ok(()) => {
                    self.log(LogLevel::Warning, "CONFIG REWRITE executed with success.");
                    self.unblock_ok(waiting);
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
        let event = aof.disk_done(ticket, result, self.now.mono, &mut queue);
        if matches!(event, Some(AofEvent::Fatal(_))) {
            self.tickets.lose(ticket);
        }
        self.aof_event(event);
    }

    // ---- CONFIG SET dir

    /// Goes to another directory; `waiting` is answered when that is done.
    pub(super) fn change_dir(&mut self, waiting: Option<ConnId>, old: String) {
        let path = self.config.text(Key::Dir).to_owned();
        self.files.old_dir = Some(old);
        let ticket = self.tickets.issue(Purpose::ChangeDir { waiting });
        self.effects.push(Effect::Disk { ticket, op: DiskOp::ChangeDir { path } });
    }

    fn dir_changed(&mut self, waiting: Option<ConnId>, result: Result<(), DiskError>) {
        let old = self.files.old_dir.take();
        match result {
            Ok(()) => {
                if let Some(conn) = waiting {
                    self.unblock_ok(conn);
                }
            }
            Err(error) => {
                if let Some(old) = old {
                    // It was the directory's value before: the table cannot refuse it.
                    let _ = self.config.set(&[("dir", old.as_str())], true);
                }
                let why = error.message.split(" (os error").next().unwrap_or_default().to_owned();
                let why = format!("ERR CONFIG SET failed (possibly related to argument 'dir') - {why}");
                if let Some(conn) = waiting {
                    self.unblock(conn, |reply| reply.error(&why));
                }
            }
        }
    }

    // ---- CONFIG REWRITE

    /// Asks for the old text; the rest follows when it is there.
    pub(super) fn begin_config_rewrite(&mut self, conn: ConnId, path: String, all: bool) {
        self.effects.push(Effect::Read { name: path.clone() });
        self.files.rewriting = Some((conn, path, Vec::new()));
        self.files.rewrites_all = all;
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
        let text = self.config.rewrite(&String::from_utf8_lossy(&old), self.files.rewrites_all);
        let ticket = self.tickets.issue(Purpose::ConfigFile { waiting });
        let op = DiskOp::Replace { name, bytes: text.into_bytes(), sync: true };
        self.effects.push(Effect::Disk { ticket, op });
    }
}
