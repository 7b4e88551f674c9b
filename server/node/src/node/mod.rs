//! The node: connections, commands, roles, files. Owns all other rooms and wires them together.
//!
//! A shell drives it as `crate::io` says. A file a concern: `connections` from their beginning to their end · [`dispatch`]
//! from bytes to executed commands · `propagation` of what was executed · `timers` what happens by the clock ·
//! [`session`] and [`admin`] the commands that touch the node itself · `cluster_glue` and `replication_glue` carry out
//! what those rooms want · [`blocking`] clients that wait for keys · `files` loading and the append-only file · `saving`
//! dumps and rewrites · `info` the INFO text.

mod access;
mod acl_command;
mod admin;
mod blocking;
mod client;
mod clients;
mod cluster_glue;
mod command_docs;
mod command_stats;
mod connections;
mod debug;
mod debug_protocol;
mod dispatch;
mod files;
mod functions;
mod info;
mod memory;
mod memory_report;
mod migrate_glue;
mod monitors;
mod outside;
mod propagation;
mod redact;
mod replication_glue;
mod saving;
mod script_calls;
mod script_commands;
mod script_runs;
mod scripts;
mod session;
mod slow;
#[cfg(test)]
mod tests;
mod tickets;
mod timers;

use std::collections::{BTreeMap, BTreeSet};

use crate::acl::{Acl, Secrets};
use crate::cluster::Cluster;
use crate::command::{Db, EvictionPolicy, ExpiryMode, class, flag, text};
use crate::config::{Config, Key};
use crate::io::{ConnId, Effect, Effects, Input, LogLevel, Mono, Now, Outbox, Stopwatch, Ticket, Vitals};
use crate::keyspace::stream::NodeLimits;
use crate::keyspace::{EncodingLimits, HashSeed};
use crate::migrate::Migrations;
use crate::pubsub::PubSub;
use crate::random::Random;
use crate::replication::Replication;
use blocking::Deadlines;
use client::{Blocked, Conn, ConnKind};
use command_stats::CommandStats;
use files::{FileChunk, Files};
use replication_glue::Incoming;
use scripts::Scripts;
use slow::Slow;
use tickets::Tickets;

/// Keys deleted in one go because their time had come; more wait for the next turn.
const EXPIRE_UNITS: usize = 500;
/// Leaves of dropped tables freed in one go.
const FREE_UNITS: usize = 200;
/// Period of the housekeeping of clients and keys.
const CRON_MS: u64 = 100;
/// A client with more unread replies than this is not served further...
const STALL_BYTES: usize = 32 << 20;
/// Redis' words for a node that does not have its data yet.
const LOADING: &str = "LOADING Redis is loading the dataset in memory";
/// ... until less than this is left.
const RESUME_BYTES: usize = 8 << 20;

/// What a node is made from.
#[derive(Debug)]
pub struct NodeBoot {
    /// The configuration.
    pub config: Config,
    /// The time at which it begins.
    pub now: Now,
    /// Randomness, different for every start: the operating system's, or the run's in a simulator.
    pub entropy: [u8; 32],
    /// Process id, for INFO.
    pub pid: u32,
    /// For the durations of commands.
    pub stopwatch: Stopwatch,
    /// For INFO.
    pub vitals: Vitals,
}

/// A pause of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    until: Mono,
    all: bool,
}

/// Counters for INFO.
#[derive(Debug, Default)]
struct Stats {
    connections: u64,
    rejected: u64,
    commands: u64,
    input_bytes: u64,
    output_bytes: u64,
    per_command: CommandStats,
    errors: BTreeMap<String, u64>,
    error_replies: u64,
    /// Clients closed because of `client-output-buffer-limit`.
    closed_for_output: u64,
    /// Clients closed because of `maxmemory-clients`.
    evicted_clients: u64,
    /// Pieces of input that came.
    reads: u64,
    /// Pieces of output that left.
    writes: u64,
    replica_input_bytes: u64,
    replica_output_bytes: u64,
    rates: Rates,
}

impl Stats {
    /// Counts a reply that is an error.
    fn count_error(&mut self, reply: &[u8]) {
        let [b'-', rest @ ..] = reply else { return };
        // Codes end with a space, and are short.
        let end = rest.iter().take(31).position(|&byte| byte == b' ');
        let code =
            end.map_or_else(|| "ERR".to_owned(), |end| String::from_utf8_lossy(&rest[..end]).into_owned());
        self.error_replies += 1;
        if self.errors.len() < 128 || self.errors.contains_key(&code) {
            *self.errors.entry(code).or_default() += 1;
        }
    }
}

/// Rates per second of the last 16 samples: commands, bytes from and to clients, bytes from masters and to replicas.
#[derive(Debug, Default)]
struct Rates {
    samples: [[u64; 5]; 16],
    last: [u64; 5],
    at: Mono,
    count: usize,
}

impl Rates {
    fn sample(&mut self, now: Mono, sums: [u64; 5]) {
        let elapsed_ms = now.ms_since(self.at).max(1);
        let index = self.count % self.samples.len();
        for (which, sum) in sums.into_iter().enumerate() {
            self.samples[index][which] = sum.saturating_sub(self.last[which]) * 1000 / elapsed_ms;
        }
        (self.last, self.at) = (sums, now);
        self.count += 1;
    }

    fn of(&self, which: usize) -> u64 {
        let samples = self.count.clamp(1, self.samples.len()) as u64;
        self.samples.iter().map(|sample| sample[which]).sum::<u64>() / samples
    }
}

/// A node.
#[derive(Debug)]
pub struct Node {
    now: Now,
    started: Now,
    pid: u32,
    stopwatch: Stopwatch,
    vitals: Vitals,
    /// What it said behind the last command, or when the bytes of a client came.
    last_reading_ns: u64,
    /// Whoever is being served has been closed by what it asked for: nothing more of it is executed.
    served_ends: bool,
    /// What goes when memory is short.
    eviction: EvictionPolicy,
    /// Memory is still short: keys go at the end of each batch.
    more_eviction: bool,
    /// Keys with a time that clients of this writable replica have made: no master's DEL will come for them.
    own_expiring: BTreeSet<(u32, Vec<u8>)>,
    /// When what clients hold was last added up.
    measured_at: Mono,
    /// What clients held when it was last added up.
    client_bytes: usize,
    /// The most that was ever used.
    peak_memory: usize,
    /// `DEBUG PAUSE-CRON`: no housekeeping.
    cron_paused: bool,
    /// SIGTERM came while housekeeping was paused.
    terminate_wanted: bool,
    /// For how long the running command has asked the shell to be deaf.
    asked_busy_ns: u64,
    /// `latency-tracking`
    tracks_latency: bool,
    run_id: String,
    config: Config,
    acl: Acl,
    secrets: Secrets,
    /// ACL LOAD: who waits for it, and what of the file has come.
    acl_reading: Option<(ConnId, Vec<u8>)>,
    slow: Slow,
    /// A CONFIG SET that waits for the shell.
    unsettled: Option<outside::Unsettled>,
    /// Bytes of an outbox that may be too many for some class of clients.
    output_alarm: usize,
    /// Clients whose outboxes have so many.
    alarming: Vec<ConnId>,
    /// Clients that are told of every command.
    monitors: Vec<ConnId>,
    random: Random,
    db: Db,
    conns: BTreeMap<ConnId, Conn>,
    clients: usize,
    dirty: Vec<ConnId>,
    next_conn: ConnId,
    next_client: u64,
    effects: Effects,
    tickets: Tickets,
    /// What replies of this batch must wait for.
    batch_gate: Ticket,
    files: Files,
    /// None outside cluster mode, and until nodes.conf was read.
    cluster: Option<Cluster>,
    replication: Replication,
    migrations: Migrations,
    /// What a full resync brings.
    incoming: Option<Incoming>,
    pubsub: PubSub,
    scripts: Scripts,
    client_pause: Option<Pause>,
    failover_pause: Option<Mono>,
    active_expire: bool,
    next_cron: Mono,
    more_expiry: bool,
    /// Of clients that wait for keys.
    deadlines: Deadlines,
    stats: Stats,
    /// Clients that may go on with what they sent.
    wake: Vec<ConnId>,
    /// Replies of the client that is being served.
    scratch: Vec<u8>,
    exiting: bool,
}

impl Node {
    /// A node that has read nothing yet: the first effects ask for its files.
    pub fn new(boot: NodeBoot, effects: &mut Effects) -> Self {
        let NodeBoot { config, now, entropy, pid, stopwatch, vitals } = boot;
        let seed = |index: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&entropy[index * 8..index * 8 + 8]);
            u64::from_le_bytes(eight)
        };
        let mut random = Random::seeded(seed(0) ^ seed(3).rotate_left(17));
        let db_random = Random::seeded(random.next_u64());
        let replication_seed = random.next_u64();
        let run_id = String::from_utf8_lossy(&random.hex::<40>()).into_owned();
        let databases = config.uint(Key::Databases) as u32;
        let mut db = Db::new(HashSeed(seed(1), seed(2)), encoding_limits(&config), db_random, databases);
        db.serve_cluster(config.flag(Key::ClusterEnabled));
        db.want_notifications(class::wanted(config.text(Key::NotifyKeyspaceEvents)));
        let mut node = Self {
            now,
            started: now,
            pid,
            stopwatch,
            vitals,
            last_reading_ns: 0,
            served_ends: false,
            eviction: EvictionPolicy::default(),
            more_eviction: false,
            own_expiring: BTreeSet::new(),
            measured_at: Mono(0),
            client_bytes: 0,
            peak_memory: 0,
            cron_paused: false,
            terminate_wanted: false,
            asked_busy_ns: 0,
            tracks_latency: config.flag(Key::LatencyTracking),
            acl: Acl::default(),
            secrets: Secrets::new(&entropy),
            acl_reading: None,
            slow: Slow::new(&config),
            unsettled: None,
            output_alarm: usize::MAX,
            alarming: Vec::new(),
            monitors: Vec::new(),
            run_id,
            db,
            replication: Replication::new(replication_glue::settings(&config), replication_seed),
            config,
            random,
            conns: BTreeMap::new(),
            clients: 0,
            dirty: Vec::new(),
            next_conn: ConnId(1),
            next_client: 1,
            effects: Effects::default(),
            tickets: Tickets::default(),
            batch_gate: Ticket(0),
            files: Files::new(now),
            cluster: None,
            migrations: Migrations::default(),
            incoming: None,
            pubsub: PubSub::default(),
            scripts: Scripts::default(),
            client_pause: None,
            failover_pause: None,
            active_expire: true,
            next_cron: now.mono.plus_ms(CRON_MS),
            more_expiry: false,
            deadlines: Deadlines::default(),
            stats: Stats::default(),
            wake: Vec::new(),
            scratch: Vec::new(),
            exiting: false,
        };
        node.memory_settings_changed();
        node.start_users();
        node.output_limits_changed();
        node.begin_loading();
        effects.list.append(&mut node.effects.list);
        node
    }

    /// One event.
    pub fn input(&mut self, now: Now, input: Input<'_>, effects: &mut Effects) {
        self.now = now;
        match input {
            Input::Accepted { conn, plane, peer, local } => self.accepted(conn, plane, peer, local),
            Input::Connected { conn, local, peer } => self.connected(conn, local, peer),
            Input::ConnectFailed { conn, error } => self.connect_failed(conn, &error),
            Input::Received { conn, bytes } => self.received(conn, bytes),
            Input::Flushed { conn, bytes } => self.flushed(conn, bytes),
            Input::Closed { conn } => self.closed(conn),
            Input::DiskDone { ticket, result } => self.disk_done(ticket, result),
            Input::FileChunk { name, bytes, eof, missing, total_bytes } => {
                self.file_chunk(name, FileChunk { bytes, eof, missing, total_bytes });
            }
            Input::SnapshotChunk { id, bytes, last } => {
                self.replicate(|replication, now, actions| {
                    replication.snapshot_chunk(id, &bytes, last, now, actions);
                });
            }
            Input::Saved { id, result } => self.saved(id, &result),
            Input::FileFailed { id, error } => self.replicate(|replication, now, actions| {
                replication.file_failed(id, &error.message, now, actions);
            }),
            Input::Terminate if self.cron_paused => self.terminate_wanted = true,
            Input::Applied { setting, well } => self.applied(setting, well),
            Input::Terminate => self.terminate(),
        }
        effects.list.append(&mut self.effects.list);
    }

    /// Ends a batch of events: timers, saves, packets, and the gates of what the batch said.
    pub fn end_of_batch(&mut self, now: Now, effects: &mut Effects) {
        self.now = now;
        self.run_timers();
        for conn in std::mem::take(&mut self.wake) {
            self.serve(conn, &[]);
        }
        self.go_on_with_script();
        if !self.scripts.is_under_way() {
            self.expire_actively();
            if self.more_eviction {
                self.make_room();
            }
        }
        self.db.keys.free_some(FREE_UNITS);
        if !self.files.is_loading() && self.cluster.as_ref().is_some_and(Cluster::has_work) {
            self.with_cluster(super::cluster::Cluster::before_sleep);
        }
        self.append_to_file();
        if !self.scripts.is_under_way() {
            self.follow_flush();
            self.start_wanted_rewrite();
        }
        // Nor is a dataset sent on which a script is at work.
        let busy = self.is_saving_anything() || self.scripts.is_under_way();
        self.replication.hold_snapshots(busy);
        self.replicate(super::replication::Replication::flush);
        self.close_alarming_clients();
        self.evict_clients();
        self.close_gates();
        effects.list.append(&mut self.effects.list);
    }

    /// When to call [`Self::end_of_batch`] though nothing happens.
    pub fn next_deadline(&self) -> Option<Mono> {
        let more = self.more_expiry || self.more_eviction || self.db.keys.has_garbage();
        if more || !self.wake.is_empty() || self.scripts.is_under_way() {
            return Some(self.now.mono.plus_ms(1));
        }
        let pause = self.client_pause.map(|pause| pause.until);
        let awake = self.cluster.as_ref().filter(|_| !self.files.is_loading());
        let cluster = awake.map(Cluster::next_deadline);
        let migrations = self.migrations.next_deadline(self.holds_writes());
        Mono::earliest([
            Some(self.next_cron),
            cluster,
            self.replication.next_deadline(),
            migrations,
            self.deadlines.next(),
            pause,
            self.failover_pause,
            self.load_due_at(),
        ])
    }

    /// What waits to be sent on a connection.
    #[inline]
    pub fn outbox(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        self.conns.get_mut(&conn).map(|conn| &mut conn.outbox)
    }

    /// Bytes that the argument which is arriving from a client still lacks.
    pub fn missing_bytes(&self, conn: ConnId) -> usize {
        match self.conns.get(&conn).map(|state| &state.kind) {
            Some(ConnKind::Client(Some(client))) => client.missing_bytes(),
            _ => 0,
        }
    }

    /// All disk effects up to this one are done: bytes gated by them may leave.
    #[inline]
    pub fn durable(&self) -> Ticket {
        self.tickets.durable()
    }

    /// Moves the names of connections whose outbox has grown since the last call into `into`.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        for conn in self.dirty.drain(..) {
            if let Some(state) = self.conns.get_mut(&conn) {
                state.listed = false;
                into.push(conn);
            }
        }
    }

    /// True while this node follows a master.
    #[inline]
    pub const fn is_replica(&self) -> bool {
        self.replication.is_replica_role()
    }

    /// True once the dataset was loaded and clients are served.
    #[inline]
    pub const fn is_ready(&self) -> bool {
        !self.files.is_loading() && !self.exiting
    }

    /// The configuration in force.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    fn log(&mut self, level: LogLevel, text: impl Into<String>) {
        self.effects.push(Effect::Log { level, text: text.into() });
    }
}

fn encoding_limits(config: &Config) -> EncodingLimits {
    EncodingLimits {
        hash_max_listpack_entries: config.uint(Key::HashMaxListpackEntries) as usize,
        hash_max_listpack_value: config.uint(Key::HashMaxListpackValue) as usize,
        set_max_intset_entries: config.uint(Key::SetMaxIntsetEntries) as usize,
        zset_max_listpack_entries: config.uint(Key::ZsetMaxListpackEntries) as usize,
        zset_max_listpack_value: config.uint(Key::ZsetMaxListpackValue) as usize,
        hll_sparse_max_bytes: config.uint(Key::HllSparseMaxBytes) as usize,
        stream_node: NodeLimits {
            max_bytes: config.uint(Key::StreamNodeMaxBytes) as usize,
            max_entries: config.uint(Key::StreamNodeMaxEntries),
        },
    }
}
