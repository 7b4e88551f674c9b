//! Wires the replication room: carrying out what it wants, applying the master's commands, loading a full resync.

use std::net::SocketAddr;

use super::Node;
use super::client::{Client, ConnKind, NOW_A_REPLICA, Origin};
use crate::aof::RewriteMode;
use crate::command::{ExpiryMode, Fault, NOT_INTEGER, Run, SYNTAX, Verb, is, lookup, text};
use crate::config::{Config, Key, OutputClass};
use crate::io::{ConnId, Effect, LogLevel, Mono, WallMs};
use crate::keyspace::number::parse_i64;
use crate::keyspace::{Dataset, Keyspace, PartsError};
use crate::rdb::{RdbKey, SnapshotUse, aux_fields};
use crate::replication::commands::{CommandBatch, selected_by};
use crate::replication::failover::FailoverRequest;
use crate::replication::{Action, Actions, MasterAddr, Replication, ReplicationSettings};
use crate::resp::{Args, OwnedArgs, Protocol};
use crate::zoo::Mutation;

/// The settings of the replication room, from the directives.
pub(super) fn settings(config: &Config) -> ReplicationSettings {
    let limit = config.output_limit(OutputClass::Replica);
    let some = |key: Key| config.some_text(key).map(str::to_owned);
    let announced = config.uint(Key::ReplicaAnnouncePort);
    ReplicationSettings {
        timeout_s: config.uint(Key::ReplTimeout),
        ping_period_s: config.uint(Key::ReplPingReplicaPeriod),
        backlog_bytes: config.uint(Key::ReplBacklogSize),
        backlog_ttl_s: config.uint(Key::ReplBacklogTtl),
        diskless_sync: config.flag(Key::ReplDisklessSync),
        diskless_sync_delay_s: config.uint(Key::ReplDisklessSyncDelay),
        databases: if config.flag(Key::ClusterEnabled) { 1 } else { config.uint(Key::Databases) as u32 },
        diskless_sync_max_replicas: config.uint(Key::ReplDisklessSyncMaxReplicas) as usize,
        output_hard_limit_bytes: limit.hard_bytes,
        output_soft_limit_bytes: limit.soft_bytes,
        output_soft_limit_s: limit.soft_s,
        listening_port: if announced == 0 { config.uint(Key::Port) } else { announced } as u16,
        announce_ip: some(Key::ReplicaAnnounceIp),
        master_user: some(Key::Masteruser),
        master_auth: some(Key::Masterauth),
        priority: config.uint(Key::ReplicaPriority) as u32,
        read_only: config.flag(Key::ReplicaReadOnly),
        zoo: config.zoo,
    }
}

/// A file or a master has more databases than this server.
pub(super) const TOO_MANY_DATABASES: &str =
    "FATAL: Data file was created with a Redis server configured to handle more databases. Exiting";

/// Keys that are put in the keyspace together: as many as the processor's nearest cache has room for.
pub(super) const LOADED_AT_ONCE: usize = 32;

/// Puts keys of a file or a full resync in the keyspace, as [`keep_key`] does; the first error counts.
pub(super) fn keep_keys(
    mut keyspace: Option<&mut Keyspace>,
    keys: &[RdbKey],
    now: WallMs,
) -> Result<(), String> {
    let mut result = Ok(());
    for keys in keys.chunks(LOADED_AT_ONCE) {
        if let Some(keyspace) = &keyspace {
            keyspace.foresee(keys.iter().map(|key| &key.key[..]));
        }
        for key in keys {
            result = result.and(keep_key(keyspace.as_deref_mut(), key, now));
        }
    }
    result
}

/// Puts a key of a file or a full resync in the keyspace. An empty aggregate is skipped, as Redis does.
/// `keys` is its database, if there is one of that number.
pub(super) fn keep_key(keys: Option<&mut Keyspace>, key: &RdbKey, now: WallMs) -> Result<(), String> {
    let Some(keys) = keys else { return Err(TOO_MANY_DATABASES.to_owned()) };
    keys.set_load_time(now);
    let loaded = keys.load(&key.key, &key.value, key.expire_at_ms.map(WallMs));
    if let Some(usage) = key.usage {
        keys.tell_usage(&key.key, usage, now);
    }
    match loaded {
        Ok(()) | Err(PartsError::Empty) => Ok(()),
        Err(error) => Err(format!("Bad data for key '{}': {error}", key.key.escape_ascii())),
    }
}

/// A full resync that is being loaded.
#[derive(Debug)]
pub(super) struct Incoming {
    dataset: Dataset,
    /// The code of libraries of functions that came with it.
    libraries: Vec<Vec<u8>>,
    failure: Option<String>,
    /// How much slower than it is this load has to look.
    delay_us: u64,
    /// It is whole, and will be put in place then.
    commit_at: Option<Mono>,
}

impl Incoming {
    const fn new(dataset: Dataset) -> Self {
        Self { dataset, libraries: Vec::new(), failure: None, delay_us: 0, commit_at: None }
    }
}

/// `key-load-delay`: so many microseconds a key, or so many keys a microsecond.
pub(super) fn load_delay_us(config: &Config, keys: usize) -> u64 {
    let keys = keys as u64;
    match config.int(Key::KeyLoadDelay) {
        delay @ 0.. => keys * delay as u64,
        share => keys / share.unsigned_abs(),
    }
}

impl Node {
    /// True while a full resync is loaded beside a dataset that is still served, as `repl-diskless-load swapdb` does.
    pub(super) fn is_loading_beside(&self) -> bool {
        self.incoming.is_some() && self.config.text(Key::ReplDisklessLoad) == "swapdb"
    }

    /// True while this node does not have, or will soon give up, what it holds.
    pub(super) fn is_loading(&self) -> bool {
        self.files.is_loading() || self.incoming.is_some() && !self.is_loading_beside()
    }

    /// `replicaof` says who the master is now.
    pub(super) fn note_master(&mut self) {
        if !self.config.flag(Key::ClusterEnabled) {
            let master = self.replication.link_status().map(|link| link.master);
            self.config.note_master(master.map(|master| (master.host(), master.port())));
        }
    }

    /// `FAILOVER`
    pub(super) fn failover(&mut self, args: Args<'_>) -> Result<(), Fault> {
        let mut request = FailoverRequest::default();
        let (mut abort, mut at) = (false, 1);
        while at < args.len() {
            let left = args.len() - at;
            if is(&args[at], "TIMEOUT") && left > 1 && request.timeout_ms.is_none() {
                let ms = parse_i64(&args[at + 1]).ok_or(NOT_INTEGER)?;
                let ms = u64::try_from(ms).ok().filter(|&ms| ms > 0);
                request.timeout_ms = Some(ms.ok_or(text("ERR FAILOVER timeout must be greater than 0"))?);
                at += 2;
            } else if is(&args[at], "ABORT") && args.len() == 2 {
                abort = true;
                at += 1;
            } else if is(&args[at], "TO") && left > 2 && request.target.is_none() {
                let port = parse_i64(&args[at + 2]).ok_or(NOT_INTEGER)?;
                let host = String::from_utf8_lossy(&args[at + 1]).into_owned();
                // A port out of range is nobody's.
                request.target = Some((host, u16::try_from(port).unwrap_or(0)));
                at += 3;
            } else if is(&args[at], "FORCE") && !request.force {
                request.force = true;
                at += 1;
            } else {
                return Err(SYNTAX);
            }
        }
        let done = self.replicate(|replication, now, actions| {
            if abort {
                replication.abort_failover("Failover manually aborted", now, actions)
            } else {
                replication.begin_failover(request, now, actions)
            }
        });
        done.map_err(text)
    }

    /// The link to the master is connected: it gets the name and the number of a client.
    pub(super) fn add_master_client(&mut self, conn: ConnId, local: SocketAddr, peer: SocketAddr) {
        let id = self.next_client;
        self.next_client += 1;
        let client = Client::new(Origin { id, peer, local, unix_path: None }, self.now.mono, true);
        if let Some(ConnKind::MasterLink(place)) = self.conns.get_mut(&conn).map(|state| &mut state.kind) {
            *place = Some(Box::new(client));
        }
    }

    pub(super) fn note_master_heard(&mut self, conn: ConnId) {
        if let Some(ConnKind::MasterLink(Some(client))) =
            self.conns.get_mut(&conn).map(|state| &mut state.kind)
        {
            client.last_active = self.now.mono;
        }
    }

    /// Calls the replication room and carries out what it wants.
    pub(super) fn replicate<R>(&mut self, call: impl FnOnce(&mut Replication, Mono, &mut Actions) -> R) -> R {
        let mut actions = Vec::new();
        let result = call(&mut self.replication, self.now.mono, &mut actions);
        if !actions.is_empty() {
            self.carry_out_replication(actions);
        }
        result
    }

    fn carry_out_replication(&mut self, actions: Actions) {
        for action in actions {
            match action {
                Action::Dial { addr } => {
                    let conn = self.next_conn;
                    self.next_conn = ConnId(conn.0 + 2);
                    self.add_conn(conn, ConnKind::MasterLink(None));
                    let source = self.config.text(Key::BindSourceAddr).parse().ok();
                    self.effects.push(match addr {
                        MasterAddr::Ip(addr) => Effect::Connect { conn, addr, source },
                        MasterAddr::Name(host, port) => Effect::ConnectByName { conn, host, port, source },
                    });
                    self.replication.dialing(conn);
                }
                Action::Close { conn, flush } => self.close(conn, flush),
                Action::Send { conn, bytes } => {
                    self.flush_scratch_before(conn);
                    self.send(conn, self.tickets.reply_gate(), &bytes);
                }
                Action::SendShared { conn, chunk, start, end } => {
                    let gate = self.tickets.reply_gate();
                    if let Some(state) = self.conns.get_mut(&conn) {
                        state.outbox.write_shared(gate, chunk, start, end);
                        self.list(conn);
                    }
                }
                Action::TakeSnapshot { to_file } => self.take_replication_snapshot(to_file),
                Action::StartFile(id) => {
                    let name = self.config.text(Key::Dbfilename).to_owned();
                    self.effects.push(Effect::FileStart { id, name });
                }
                Action::HoldWrites => self.failover_pause = Some(Mono(u64::MAX)),
                Action::ReleaseWrites => self.end_failover_pause(),
                Action::RoleChanged => {
                    self.note_master();
                    if self.is_replica() {
                        self.part_from_history_if_script_wrote();
                    }
                    self.abort_migrations();
                    self.end_all_waits();
                    self.db.expiry = self.expiry_mode();
                }
                Action::PullSnapshot(id) => self.effects.push(Effect::SnapshotPull { id }),
                Action::CancelSnapshot(id) => self.effects.push(Effect::SnapshotCancel { id }),
                Action::LoadBegin => {
                    if self.files.saves.running.is_some() {
                        self.log(
                            LogLevel::Notice,
                            "Replica is about to load the RDB file received from the master, but there is a pending \
                             RDB child running. Killing it to avoid possible overwriting of the dataset",
                        );
                        self.cancel_dump();
                    }
                    self.incoming = Some(Incoming::new(self.db.fresh_dataset()));
                }
                Action::LoadKeys { db, keys } => {
                    if let Some(incoming) = &mut self.incoming {
                        incoming.delay_us += load_delay_us(&self.config, keys.len());
                        if let Err(error) = keep_keys(incoming.dataset.database(db), &keys, self.now.wall) {
                            incoming.failure.get_or_insert(error);
                        }
                    }
                }
                Action::LoadLibrary(code) => {
                    if let Some(incoming) = &mut self.incoming {
                        incoming.libraries.push(code);
                    }
                }
                Action::LoadCommit => self.load_complete(),
                Action::LoadAbort => self.incoming = None,
                Action::Apply { db, batch } => self.apply(db, &batch),
                Action::WaitDone { conn, replicas } => {
                    self.unblock(conn, |reply| reply.int(replicas as i64));
                }
                Action::WaitAborted { conn } => self.unblock(conn, |reply| reply.error(NOW_A_REPLICA)),
                Action::Log(level, text) => self.log(level, text),
            }
        }
    }

    /// Makes this node a replica of `master`.
    pub(super) fn follow(&mut self, master: impl Into<MasterAddr>) {
        self.part_from_history_if_script_wrote();
        self.replicate(|replication, now, actions| replication.set_master(master, now, actions));
    }

    /// A script that is under way has written what no stream tells, and as a replica's it never will: only a full resync
    /// makes this node equal to its master again.
    fn part_from_history_if_script_wrote(&mut self) {
        if self.scripts.running.as_ref().is_some_and(|running| running.has_written) {
            self.replication.change_id();
        }
    }

    /// Replies that the replication room writes to the client that is being served stand behind those before.
    fn flush_scratch_before(&mut self, conn: ConnId) {
        let being_served =
            self.conns.get(&conn).is_some_and(|state| matches!(state.kind, ConnKind::Client(None)));
        if being_served && !self.scratch.is_empty() {
            self.flush_scratch(conn);
        }
    }

    fn take_replication_snapshot(&mut self, to_file: bool) {
        if to_file {
            let id = self.dump_for_replicas();
            self.replicate(|replication, now, actions| replication.snapshot_taken(id, true, now, actions));
            return;
        }
        let id = self.files.snapshot_id();
        let rdb_aux = aux_fields(
            SnapshotUse::Rdb,
            self.now.wall,
            self.db.used_memory(),
            self.replication.rdb_identity(),
        );
        let (snapshot, format) = (self.db.snapshot(self.now.wall), self.snapshot_format());
        self.effects.push(Effect::SnapshotStart { id, snapshot, rdb_aux, format });
        self.replicate(|replication, now, actions| replication.snapshot_taken(id, false, now, actions));
    }

    /// The master has sent everything.
    fn load_complete(&mut self) {
        let now = self.now.mono;
        let delay_us = self.incoming.as_ref().map_or(0, |incoming| incoming.delay_us);
        if let Some(incoming) = self.incoming.as_mut().filter(|_| delay_us > 0) {
            incoming.commit_at = Some(now.plus_ms(delay_us / 1000));
        } else {
            self.commit_load();
        }
    }

    /// When what has come may be put in place.
    pub(super) fn load_due_at(&self) -> Option<Mono> {
        self.incoming.as_ref().and_then(|incoming| incoming.commit_at)
    }

    /// A full resync has come whole: it replaces what was there.
    pub(super) fn commit_load(&mut self) {
        match self.incoming.take() {
            Some(Incoming { dataset, libraries, failure: None, .. }) => {
                if !self.config.zoo.has(Mutation::ResyncKeepsData) {
                    self.db.replace_all(dataset, self.now.wall);
                }
                self.take_libraries_or_complain(&libraries);
                // They belong to what was there before.
                self.scripts.held_batches.clear();
                self.own_expiring.clear();
                self.replicate(super::super::replication::Replication::loaded);
                if self.files.aof().is_some() {
                    self.rewrite_aof(RewriteMode::Restart);
                }
            }
            Some(Incoming { failure: Some(failure), .. }) => {
                self.replicate(|replication, now, actions| replication.load_failed(&failure, now, actions));
            }
            None => {}
        }
    }

    /// Executes commands of the master, who has selected database `db` before them.
    pub(super) fn apply(&mut self, mut db: u32, batch: &CommandBatch) {
        if self.scripts.is_under_way() {
            // Nobody may touch the data but the script.
            self.scripts.held_batches.push((db, batch.clone()));
            return;
        }
        let served = std::mem::take(&mut self.scratch);
        self.db.expiry = ExpiryMode::Ignore;
        for command in batch.iter() {
            // Another may have been selected meanwhile, by a client that was served.
            self.db.select(db);
            let args: OwnedArgs = command.args().collect();
            let args = args.view();
            let spec = lookup(command.name());
            match spec.map(|spec| spec.run) {
                Some(Run::Node(Verb::Publish)) if args.len() == 3 => {
                    self.deliver(false, &args[1], &args[2]);
                }
                Some(Run::Node(Verb::Function)) if args.len() > 1 => {
                    if self.apply_function(args).is_err() {
                        self.log_bad_stream(command.name());
                    }
                    let annotate = self.config.flag(Key::AofTimestampEnabled).then_some(self.now.wall);
                    self.files.append(Some(db), command.raw, annotate);
                    self.stats.commands += 1;
                }
                Some(Run::Node(Verb::Select)) => db = selected_by(command).unwrap_or(db),
                Some(Run::Node(_)) => {}
                Some(Run::Data(_)) => {
                    self.scratch.clear();
                    let spec = spec.filter(|spec| spec.accepts(args.len()));
                    let outcome = spec.map(|spec| self.run_data(spec, args, Protocol::Resp2));
                    if !matches!(outcome, Some(Ok(()))) {
                        self.log_bad_stream(command.name());
                    }
                    let annotate = self.config.flag(Key::AofTimestampEnabled).then_some(self.now.wall);
                    self.files.append(Some(db), command.raw, annotate);
                    // The log of the stream has it already, byte for byte.
                    self.db.propagated.clear();
                    self.publish_notifications();
                    self.stats.commands += 1;
                }
                None => self.log_bad_stream(command.name()),
            }
        }
        self.db.expiry = self.expiry_mode();
        self.scratch = served;
        // Readers wait on replicas too: XREAD.
        if self.db.waits.has_changed() {
            self.serve_waiting();
        }
    }

    fn log_bad_stream(&mut self, name: &[u8]) {
        let name = name.escape_ascii();
        self.log(
            LogLevel::Warning,
            format!("== CRITICAL == This replica is sending an error to its master after processing the command '{name}'"),
        );
    }
}
