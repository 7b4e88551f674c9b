//! Both ends of PSYNC: a master that feeds replicas, and a replica that follows a master.
//!
//! [`Replication`] is a state machine of its own. The node's glue hands it events and carries out the [`Action`]s
//! that it pushes, **in order and before it handles any other event**: offsets are exact only then.
//!
//! The driving contract:
//!
//! | when | call |
//! | --- | --- |
//! | start | [`Replication::new`]; after a dump was loaded (never after an AOF) [`Replication::restore`] |
//! | a write was executed on a master | [`Replication::propagate`] with the rewritten command, at once |
//! | a client sends PSYNC, SYNC or REPLCONF | [`Replication::client_command`]; replies come as actions |
//! | an empty line from a connection | [`Replication::keepalive`] if [`Replication::is_replica`] |
//! | `Flushed` / `Closed` of a connection for which [`Replication::owns`] | [`Replication::flushed`] / [`Replication::closed`] |
//! | the cluster gives this node a master, or makes it one | [`Replication::set_master`] / [`Replication::promote`] |
//! | `Connected`, `ConnectFailed`, `Received` of the link's connection | [`Replication::connected`], [`Replication::connect_failed`], [`Replication::received`] |
//! | `SnapshotChunk` for which [`Replication::owns_snapshot`] | [`Replication::snapshot_chunk`] |
//! | WAIT | [`Replication::wait`]; its client went away: [`Replication::cancel_wait`] |
//! | end of batch, after the AOF's append | [`Replication::flush`]: stream bytes go to outboxes now, so the batch's ticket can gate them |
//! | a manual failover begins or ends its pause of writes | [`Replication::pause_pings`] |
//! | [`Replication::next_deadline`] has come | [`Replication::tick`] |
//!
//! Notes for the glue:
//! - A replica's expiry only hides keys; deletes come from the master. Commands in [`Action::Apply`] run without
//!   redirection, without replies and are never propagated again: the log already has them, byte for byte.
//! - [`Action::TakeSnapshot`]: read [`Replication::rdb_identity`], take the keyspace's snapshot, push
//!   `SnapshotStart` or `Save`, call [`Replication::snapshot_taken`], all in one go. The offset announced to replicas is read
//!   in that call, so it is that of the snapshot (F-33).
//! - [`Action::LoadBegin`], [`Action::LoadKeys`]..., then [`Action::LoadCommit`] or [`Action::LoadAbort`]: fill a
//!   **new** keyspace and put it in place of the old one at commit only (F-19). Answer the commit with
//!   [`Replication::loaded`], or with [`Replication::load_failed`] if a key was refused; on `loaded`, restart the
//!   AOF (`AofWriter::restart`), because what it holds is another history.

mod address;
pub mod commands;
pub mod failover;
pub mod identity;
mod info;
mod link;
pub mod log;
mod replicas;
mod transfer;
mod waits;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

pub use address::MasterAddr;
pub use info::{RoleView, SyncCounts};
pub use link::LinkStatus;

use crate::io::{ConnId, LogLevel, Mono, SnapshotId};
use crate::rdb::RdbKey;
use crate::zoo::{Mutation, Zoo};
use commands::{CommandBatch, write_command};
use identity::{History, Random, ReplId};
use link::MasterLink;
use log::ReplicationLog;
use replicas::Replicas;
use waits::Waits;

/// What the replication directives say. Seconds and bytes as in `redis.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationSettings {
    /// `repl-timeout`.
    pub timeout_s: u64,
    /// `repl-ping-replica-period`.
    pub ping_period_s: u64,
    /// `repl-backlog-size`.
    pub backlog_bytes: u64,
    /// `repl-backlog-ttl`; 0: for ever.
    pub backlog_ttl_s: u64,
    /// `repl-diskless-sync`: send a snapshot while it is made, to replicas that understand it.
    pub diskless_sync: bool,
    /// `repl-diskless-sync-delay`: how long a snapshot waits for more replicas to share it.
    pub diskless_sync_delay_s: u64,
    /// `repl-diskless-sync-max-replicas`: as many end the wait; 0: none do.
    pub diskless_sync_max_replicas: usize,
    /// `client-output-buffer-limit replica`, the hard limit; 0: none.
    pub output_hard_limit_bytes: u64,
    /// The soft limit; 0: none.
    pub output_soft_limit_bytes: u64,
    /// For how long the soft limit may be passed.
    pub output_soft_limit_s: u64,
    /// What to tell a master: `replica-announce-port` or the port listened on.
    pub listening_port: u16,
    /// `replica-announce-ip`, if set.
    pub announce_ip: Option<String>,
    /// `masteruser`, if set.
    pub master_user: Option<String>,
    /// `masterauth`, if set.
    pub master_auth: Option<String>,
    /// `replica-priority`, for INFO only.
    pub priority: u32,
    /// `replica-read-only`, for INFO only.
    pub read_only: bool,
    /// How many databases this server has: a master with more cannot be followed.
    pub databases: u32,
    /// The bug that this node has on purpose.
    pub zoo: Zoo,
}

/// Where a snapshot stands in the replication stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RdbIdentity<'a> {
    /// Name of the history.
    pub id: &'a str,
    /// Offset in it.
    pub offset: u64,
    /// The database that the stream has selected there.
    pub stream_db: u32,
}

impl Default for ReplicationSettings {
    fn default() -> Self {
        Self {
            timeout_s: 60,
            ping_period_s: 10,
            backlog_bytes: 1024 * 1024,
            backlog_ttl_s: 3600,
            diskless_sync: true,
            diskless_sync_delay_s: 5,
            diskless_sync_max_replicas: 0,
            output_hard_limit_bytes: 256 << 20,
            output_soft_limit_bytes: 64 << 20,
            output_soft_limit_s: 60,
            listening_port: 6379,
            announce_ip: None,
            master_user: None,
            master_auth: None,
            priority: 100,
            read_only: true,
            databases: 16,
            zoo: Zoo::default(),
        }
    }
}

/// What replication wants done. Carried out in order, at once.
#[derive(Debug)]
pub enum Action {
    /// Dial the master: choose a [`ConnId`], push `Effect::Connect` and call [`Replication::dialing`].
    Dial {
        /// The master.
        addr: MasterAddr,
    },
    /// Close a connection; with `flush` after its outbox is written.
    Close {
        /// Which one.
        conn: ConnId,
        /// What waits is still written.
        flush: bool,
    },
    /// Put bytes in a connection's outbox.
    Send {
        /// Which one.
        conn: ConnId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Put a range of a shared chunk in a connection's outbox.
    SendShared {
        /// Which one.
        conn: ConnId,
        /// The chunk.
        chunk: Arc<[u8]>,
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
    },
    /// Take a snapshot now and call [`Replication::snapshot_taken`].
    TakeSnapshot {
        /// Save it to dump.rdb; [`Replication::file_saved`] then. Else it is pulled.
        to_file: bool,
    },
    /// `Effect::FileStart` on dump.rdb.
    StartFile(SnapshotId),
    /// A FAILOVER holds writes back.
    HoldWrites,
    /// It no longer does.
    ReleaseWrites,
    /// This node changed its role by itself (FAILOVER).
    RoleChanged,
    /// `Effect::SnapshotPull`.
    PullSnapshot(SnapshotId),
    /// `Effect::SnapshotCancel`.
    CancelSnapshot(SnapshotId),
    /// Begin a new keyspace beside the old one.
    LoadBegin,
    /// Add these keys to the new keyspace.
    LoadKeys {
        /// Number of their database, below [`ReplicationSettings::databases`].
        db: u32,
        /// The keys.
        keys: Vec<RdbKey>,
    },
    /// The master's dataset has this library of functions.
    LoadLibrary(Vec<u8>),
    /// The new keyspace is whole: put it in place and call [`Replication::loaded`].
    LoadCommit,
    /// Drop the new keyspace.
    LoadAbort,
    /// Execute these commands of the master. `MULTI` and `EXEC` are among them, and all between them is in the
    /// same batch, so executing the rest one by one is atomic. So are `SELECT`s, which the glue follows.
    Apply {
        /// Number of the database that is selected before the first of them.
        db: u32,
        /// The commands.
        batch: CommandBatch,
    },
    /// Answer a blocked WAIT.
    WaitDone {
        /// Whose WAIT.
        conn: ConnId,
        /// How many replicas have its writes.
        replicas: usize,
    },
    /// This node became a replica: a blocked WAIT ends with an error.
    WaitAborted {
        /// Whose WAIT.
        conn: ConnId,
    },
    /// One line for the log.
    Log(LogLevel, String),
}

/// Actions, in order.
pub type Actions = Vec<Action>;

/// Both ends of replication of one node. See the module's head for how to drive it.
#[derive(Debug)]
pub struct Replication {
    settings: ReplicationSettings,
    /// The code of libraries of functions, for who wants those and no keys.
    libraries: Arc<[Arc<[u8]>]>,
    random: Random,
    history: History,
    log: ReplicationLog,
    /// False until the first replica: nothing is kept and the offset stands still, as in Redis. Whenever it turns
    /// false or true on a master, the history gets a new name (F-37).
    log_active: bool,
    /// As a master: the database that the stream has selected since the last full resync began.
    selected: Option<u32>,
    /// As a replica: the database that the master's stream has selected at our offset. It outlives the link, as the
    /// offset does.
    stream_db: u32,
    replicas: Replicas,
    link: Option<MasterLink>,
    /// What the master sends is taken, but not applied.
    stream_held: bool,
    waits: Waits,
    failover: Option<failover::Failover>,
    pings_paused: bool,
    next_ping: Mono,
    next_cron: Mono,
    no_replicas_since: Option<Mono>,
    counts: SyncCounts,
}

impl Replication {
    /// A master with a new history of its own. `seed` must differ between nodes and between starts.
    pub fn new(settings: ReplicationSettings, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let history = History { id: random.repl_id(), earlier: None };
        Self {
            log: ReplicationLog::new(0, settings.backlog_bytes),
            libraries: Arc::default(),
            settings,
            random,
            history,
            log_active: false,
            selected: None,
            stream_db: 0,
            replicas: Replicas::default(),
            link: None,
            stream_held: false,
            waits: Waits::default(),
            failover: None,
            pings_paused: false,
            next_ping: Mono(0),
            next_cron: Mono(0),
            no_replicas_since: None,
            counts: SyncCounts::default(),
        }
    }

    /// Takes up the history that a loaded dump names in its `repl-id` and `repl-offset`. Call it before any other
    /// event. A replica goes on under that id. A master gets a new id, and replicas that hold the dump's history up
    /// to its offset may continue: nothing else may, because the master may have lost writes (F-36).
    /// `stream_db` is the dump's `repl-stream-db`: the database that the stream had selected at that offset.
    pub fn restore(&mut self, id: ReplId, offset: u64, stream_db: u32, as_replica: bool, now: Mono) {
        self.stream_db = stream_db;
        if as_replica {
            self.history = History { id, earlier: None };
        } else {
            let fresh = self.random.repl_id();
            self.history = History { id, earlier: None };
            self.history.branch(fresh, offset);
            self.no_replicas_since = Some(now);
        }
        self.log = ReplicationLog::new(offset, self.settings.backlog_bytes);
        self.log_active = true;
    }

    /// The settings in force.
    pub const fn settings(&self) -> &ReplicationSettings {
        &self.settings
    }

    /// The code of all libraries of functions, now.
    pub fn set_libraries(&mut self, libraries: Arc<[Arc<[u8]>]>) {
        self.libraries = libraries;
    }

    /// Changes settings (`CONFIG SET`).
    pub fn set_settings(&mut self, settings: ReplicationSettings) {
        self.log.set_window_bytes(settings.backlog_bytes);
        if settings.ping_period_s != self.settings.ping_period_s {
            self.next_ping = Mono(0);
        }
        self.settings = settings;
    }

    /// The offset: stream bytes written by this master, or applied by this replica.
    pub const fn offset(&self) -> u64 {
        self.log.end()
    }

    /// The current and the earlier history.
    pub const fn history(&self) -> History {
        self.history
    }

    /// True while this node follows a master.
    pub const fn is_replica_role(&self) -> bool {
        self.link.is_some()
    }

    /// False when [`Self::propagate`] would do nothing, so that the caller need not build the command.
    pub const fn wants_commands(&self) -> bool {
        self.log_active && self.link.is_none()
    }

    /// What to put in a snapshot taken now of where it stands in the stream, when that means something.
    pub fn rdb_identity(&self) -> Option<RdbIdentity<'_>> {
        let known = match &self.link {
            None => self.log_active,
            Some(link) => link.can_resume(),
        };
        let stream_db = if self.link.is_some() { self.stream_db } else { self.selected.unwrap_or(0) };
        known.then(|| RdbIdentity { id: self.history.id.as_str(), offset: self.log.end(), stream_db })
    }

    /// Appends one executed command (one RESP array; for a transaction one call each for MULTI, the commands, EXEC)
    /// to the stream, with a SELECT before it if the stream has selected another database than `db` (none: it is the
    /// same in all of them). Nothing on a replica: its stream is its master's.
    pub fn propagate(&mut self, db: Option<u32>, command: &[u8]) {
        if !self.wants_commands() {
            return;
        }
        if let Some(db) = db.filter(|_| self.selected != db) {
            self.selected = Some(db);
            self.append_command(&["SELECT", &db.to_string()]);
        }
        self.log.append(command);
    }

    fn append_command(&mut self, args: &[&str]) {
        let mut bytes = Vec::new();
        write_command(&mut bytes, args);
        self.log.append(&bytes);
    }

    /// True if the connection is a replica's or the link to the master.
    pub fn owns(&self, conn: ConnId) -> bool {
        self.is_replica(conn) || self.is_link(conn)
    }

    /// True if a replica is attached on this connection (since its PSYNC or SYNC).
    pub fn is_replica(&self, conn: ConnId) -> bool {
        self.replicas.map.contains_key(&conn)
    }

    /// True if the connection is the link to the master.
    pub fn is_link(&self, conn: ConnId) -> bool {
        self.link.as_ref().is_some_and(|link| link.conn() == Some(conn))
    }

    /// Makes this node a replica of `addr`, from either role. What it holds stays until a full resync has come
    /// whole; if the new master knows this node's history, the stream just goes on.
    pub fn set_master(&mut self, addr: impl Into<MasterAddr>, now: Mono, actions: &mut Actions) {
        let addr = addr.into();
        let can_resume = match self.link.take() {
            Some(link) if *link.addr() == addr => {
                self.link = Some(link);
                return;
            }
            Some(mut link) => {
                link.hang_up(actions);
                link.can_resume()
            }
            None => {
                // The history goes on under the same id: what was written here is what will be asked for.
                self.activate_log();
                self.stream_db = self.selected.unwrap_or(0);
                true
            }
        };
        self.drop_replicas(actions);
        self.waits.abort(actions);
        self.link = Some(MasterLink::new(addr.clone(), can_resume, now));
        actions.push(Action::Log(LogLevel::Notice, format!("Connecting to MASTER {addr}")));
        actions.push(Action::Dial { addr });
    }

    /// Makes this node a master: a new history that branches off at the applied offset.
    pub fn promote(&mut self, now: Mono, actions: &mut Actions) {
        let Some(mut link) = self.link.take() else { return };
        link.hang_up(actions);
        let id = self.random.repl_id();
        if !self.settings.zoo.has(Mutation::KeepsIdAtPromotion) {
            self.history.branch(id, self.log.end());
        }
        self.activate_log();
        self.selected = None;
        self.no_replicas_since = Some(now);
        self.drop_replicas(actions);
        let (earlier, until) = self.history.earlier.unwrap_or((ReplId::NONE, 0));
        actions.push(Action::Log(
            LogLevel::Warning,
            format!(
                "Setting secondary replication ID to {earlier}, valid up to offset: {}. New replication ID is {id}",
                until + 1
            ),
        ));
    }

    /// Forgets both ids and goes on under a new one: no replica can continue from here, and no master lets this node
    /// (`DEBUG CHANGE-REPL-ID`, data that no stream tells).
    pub fn change_id(&mut self) {
        self.history = History { id: self.random.repl_id(), earlier: None };
    }

    fn activate_log(&mut self) {
        if !self.log_active {
            self.log_active = true;
            self.log = ReplicationLog::new(self.log.end(), self.settings.backlog_bytes);
        }
    }

    /// Asks for no pings in the stream while a manual failover waits for the replica to catch up.
    pub const fn pause_pings(&mut self, paused: bool) {
        self.pings_paused = paused;
    }

    /// A connection ended.
    pub fn closed(&mut self, conn: ConnId, now: Mono, actions: &mut Actions) {
        self.waits.cancel(conn);
        if self.is_link(conn) {
            self.link_lost("Connection with master lost.", now, actions);
        }
        self.replicas.forget_hints(conn);
        self.forget_replica(conn, now, actions);
    }

    /// Ends the batch: what was propagated becomes bytes for replicas, and a snapshot that is due is asked for.
    pub fn flush(&mut self, now: Mono, actions: &mut Actions) {
        if self.waits.take_ack_wanted() && self.link.is_none() && !self.replicas.map.is_empty() {
            self.append_command(&["REPLCONF", "GETACK", "*"]);
        }
        if self.is_quiet() {
            return;
        }
        self.log.seal(self.replicas.oldest_cursor());
        self.feed_replicas(now, actions);
        self.start_snapshot_if_due(now, actions);
    }

    /// True after most batches: nothing is to be sealed, and no replica lacks anything or waits for it.
    fn is_quiet(&self) -> bool {
        let end = self.log.end();
        self.replicas.map.values().all(|replica| replica.has_all_up_to(end))
            && !self.log.would_seal(self.replicas.oldest_cursor())
    }

    /// When [`Self::tick`] wants to be called, if ever.
    pub fn next_deadline(&self) -> Option<Mono> {
        let busy = self.link.is_some() || !self.replicas.map.is_empty() || self.no_replicas_since.is_some();
        Mono::earliest([
            busy.then_some(self.next_cron),
            self.waits.next_deadline(),
            self.failover_deadline(),
            self.snapshot_due(),
            self.link_retry_at(),
        ])
    }

    /// Time has come for something: timeouts, pings, acknowledgements, reconnects. Cheap when called too often.
    pub fn tick(&mut self, now: Mono, actions: &mut Actions) {
        self.waits.expire(now, &self.replicas, actions);
        self.failover_step(now, actions);
        self.retry_link(now, actions);
        if now < self.next_cron {
            return;
        }
        self.next_cron = now.plus_ms(1000);
        self.link_cron(now, actions);
        self.replicas_cron(now, actions);
        if self.next_ping == Mono(0) {
            // The first one, and the first by a new period.
            self.next_ping = now.plus_ms(self.settings.ping_period_s * 1000);
        }
        if now >= self.next_ping {
            self.next_ping = now.plus_ms(self.settings.ping_period_s * 1000);
            if self.link.is_none() && !self.replicas.map.is_empty() && !self.pings_paused {
                self.append_command(&["ping"]);
            }
        }
        self.expire_log(now, actions);
    }

    /// A master without replicas forgets its backlog after a while, and its history gets a new name: its offset
    /// will no longer count its writes.
    fn expire_log(&mut self, now: Mono, actions: &mut Actions) {
        let Some(since) = self.no_replicas_since else { return };
        let ttl_ms = self.settings.backlog_ttl_s * 1000;
        if self.link.is_some() || !self.log_active || ttl_ms == 0 || now.ms_since(since) <= ttl_ms {
            return;
        }
        self.history = History { id: self.random.repl_id(), earlier: None };
        self.log = ReplicationLog::new(self.log.end(), self.settings.backlog_bytes);
        self.log_active = false;
        self.no_replicas_since = None;
        actions.push(Action::Log(
            LogLevel::Notice,
            format!("Replication backlog freed after {} seconds without connected replicas.", ttl_ms / 1000),
        ));
    }

    /// WAIT: gives the number of replicas that have everything up to `offset` if that is `needed` or more, else
    /// `None`, and [`Action::WaitDone`] follows when it is, or at `deadline`.
    pub fn wait(
        &mut self,
        conn: ConnId,
        offset: u64,
        needed: usize,
        deadline: Option<Mono>,
    ) -> Option<usize> {
        let asks_nobody = self.settings.zoo.has(Mutation::WaitDoesNotWait);
        let have = if asks_nobody { self.replicas.map.len() } else { self.replicas.count_acked(offset) };
        if have >= needed {
            return Some(have);
        }
        self.waits.add(conn, offset, needed, deadline);
        None
    }

    /// Forgets a blocked WAIT whose client went away or was unblocked.
    pub fn cancel_wait(&mut self, conn: ConnId) {
        self.waits.cancel(conn);
    }

    /// The number of replicas that have acknowledged everything up to `offset`: WAIT where it must not block.
    pub fn count_acked(&self, offset: u64) -> usize {
        self.replicas.count_acked(offset)
    }

    /// Replicas online whose last acknowledgement is at most `max_lag_s` whole seconds old: what
    /// `min-replicas-to-write` counts.
    pub fn good_replicas(&self, max_lag_s: u64, now: Mono) -> usize {
        self.replicas.count_good(max_lag_s, now)
    }
}

/// A reply or a command of our own, as bytes of a stream.
fn command_bytes<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_command(&mut bytes, args);
    bytes
}

/// How a connection's other end is named in logs.
fn endpoint(ip: IpAddr, announced: Option<&str>, port: u16) -> String {
    announced.map_or_else(|| format!("{ip}:{port}"), |name| format!("{name}:{port}"))
}
