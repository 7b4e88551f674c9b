//! The node: connections, commands, roles, files. Owns all other rooms and wires them together.
//!
//! A shell drives it as `crate::io` says. A file a concern: [`dispatch`] from bytes to executed commands ·
//! [`session`] and [`admin`] the commands that touch the node itself · `cluster_glue` and `replication_glue` carry
//! out what those rooms want · [`blocking`] clients that wait for keys · `files` loading and the append-only file · `saving` dumps and rewrites · `info` the INFO text.

mod access;
mod acl_command;
mod admin;
mod blocking;
mod client;
mod clients;
mod cluster_glue;
mod command_docs;
mod command_stats;
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

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::acl::{Acl, Secrets};
use crate::cluster::Cluster;
use crate::command::{Db, EvictionPolicy, ExpiryMode, Notification, PropagatedCommand, class, flag, text};
use crate::config::{Config, Key};
use crate::io::{
    ConnId, Effect, Effects, Input, LogLevel, Mono, Now, Outbox, Plane, Stopwatch, Ticket, Vitals,
};
use crate::keyspace::stream::NodeLimits;
use crate::keyspace::{EncodingLimits, HashSeed};
use crate::migrate::Migrations;
use crate::pubsub::PubSub;
use crate::random::Random;
use crate::replication::Replication;
use crate::resp::{Protocol, Reply};
use blocking::Deadlines;
use client::{Blocked, Client, Conn, ConnKind, Origin};
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

    // ---- connections

    fn accepted(&mut self, conn: ConnId, plane: Plane, peer: SocketAddr, local: SocketAddr) {
        if plane == Plane::Bus {
            // The cluster sleeps until the data is loaded, as in Redis: a node that became a replica meanwhile would
            // get its master's data and then load its own old data over it.
            if self.cluster.is_none() || self.files.is_loading() {
                self.effects.push(Effect::Close { conn, flush: false });
                return;
            }
            self.add_conn(conn, ConnKind::Bus);
            self.with_cluster(|cluster, turn| cluster.link_accepted(conn, peer, local, turn));
            return;
        }
        self.stats.connections += 1;
        let max = self.config.uint(Key::Maxclients) as usize;
        let id = self.next_client;
        self.next_client += 1;
        let unix_path = (plane == Plane::Unix).then(|| self.config.text(Key::Unixsocket));
        let origin = Origin { id, peer, local, unix_path };
        let client = Client::new(origin, self.now.mono, self.acl.is_open());
        self.add_conn(conn, ConnKind::Client(Some(Box::new(client))));
        self.clients += 1;
        let refusal = if self.clients > max {
            Some("ERR max number of clients reached")
        } else if self.is_protected_from(peer) {
            Some(
                "DENIED Redis is running in protected mode because protected mode is enabled and no password is set \
                 for the default user. In this mode connections are only accepted from the loopback interface. If you \
                 want to connect from external computers to Redis you may adopt one of the following solutions: 1) Just \
                 disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface \
                 by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not \
                 publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) \
                 Alternatively you can just disable the protected mode by editing the Redis configuration file, and \
                 setting the protected mode option to 'no', and then restarting the server. 3) If you started the \
                 server manually just for testing, restart it with the '--protected-mode no' option. 4) Setup a an \
                 authentication password for the default user. NOTE: You only need to do one of the above things in \
                 order for the server to start accepting connections from the outside.",
            )
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.stats.rejected += 1;
            self.tell(conn, |reply| reply.error(refusal));
            self.close(conn, true);
        }
    }

    fn is_protected_from(&self, peer: SocketAddr) -> bool {
        self.config.flag(Key::ProtectedMode)
            && self.acl.default_user().needs_no_password()
            && !peer.ip().to_canonical().is_loopback()
    }

    fn add_conn(&mut self, conn: ConnId, kind: ConnKind) {
        let state = Conn { kind, outbox: Outbox::default(), listed: false, protocol: Protocol::Resp2 };
        self.conns.insert(conn, state);
    }

    fn connected(&mut self, conn: ConnId, local: SocketAddr, peer: SocketAddr) {
        match self.conns.get(&conn).map(|state| &state.kind) {
            Some(ConnKind::Bus) => {
                self.with_cluster(|cluster, turn| cluster.link_connected(conn, peer, local, turn));
            }
            Some(ConnKind::MasterLink(_)) => {
                self.add_master_client(conn, local, peer);
                self.replicate(|replication, now, actions| replication.connected(conn, now, actions));
            }
            Some(ConnKind::Migrate) => self.migrate(|migrations, turn| migrations.connected(conn, turn)),
            // It was given up while it was being made.
            _ => self.effects.push(Effect::Close { conn, flush: false }),
        }
    }

    fn connect_failed(&mut self, conn: ConnId, error: &str) {
        match self.conns.remove(&conn).map(|state| state.kind) {
            Some(ConnKind::Bus) => {
                self.with_cluster(|cluster, turn| cluster.link_failed(conn, error, turn));
            }
            Some(ConnKind::MasterLink(_)) => {
                self.replicate(|replication, now, actions| {
                    replication.connect_failed(conn, error, now, actions);
                });
            }
            Some(ConnKind::Migrate) => self.migrate(|migrations, turn| migrations.connect_failed(conn, turn)),
            _ => {}
        }
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8]) {
        match self.conns.get(&conn).map(|state| &state.kind) {
            Some(ConnKind::Client(_)) => {
                self.stats.input_bytes += bytes.len() as u64;
                self.stats.reads += 1;
                self.serve(conn, bytes);
            }
            Some(ConnKind::Bus) => {
                self.with_cluster(|cluster, turn| cluster.link_received(conn, bytes, turn));
            }
            Some(ConnKind::MasterLink(_)) => {
                self.stats.replica_input_bytes += bytes.len() as u64;
                self.note_master_heard(conn);
                self.replicate(|replication, now, actions| replication.received(conn, bytes, now, actions));
            }
            Some(ConnKind::Migrate) => {
                self.migrate(|migrations, turn| migrations.received(conn, bytes, turn));
            }
            Some(ConnKind::Closing { .. }) | None => {}
        }
    }

    fn flushed(&mut self, conn: ConnId, bytes: usize) {
        self.stats.output_bytes += bytes as u64;
        self.stats.writes += 1;
        // What has left is held no more: keys must not be evicted for it.
        self.client_bytes = self.client_bytes.saturating_sub(bytes);
        if self.replication.owns(conn) {
            self.stats.replica_output_bytes += bytes as u64;
            self.replicate(|replication, now, actions| replication.flushed(conn, bytes, now, actions));
        }
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if matches!(state.kind, ConnKind::Migrate) {
            return self.migrate(|migrations, turn| migrations.flushed(conn, bytes, turn));
        }
        let left = state.outbox.len();
        if left == 0 && matches!(state.kind, ConnKind::Closing { .. }) {
            self.conns.remove(&conn);
            return;
        }
        if let ConnKind::Client(Some(client)) = &mut state.kind
            && client.blocked == Some(Blocked::Output)
            && left < RESUME_BYTES
        {
            client.blocked = None;
            self.wake.push(conn);
        }
    }

    fn closed(&mut self, conn: ConnId) {
        match self.conns.get(&conn).map(|state| &state.kind) {
            Some(ConnKind::Bus) => {
                self.with_cluster(|cluster, _| cluster.link_closed(conn));
            }
            Some(ConnKind::MasterLink(_) | ConnKind::Client(_)) => {
                self.replicate(|replication, now, actions| replication.closed(conn, now, actions));
            }
            Some(ConnKind::Migrate) => self.migrate(|migrations, turn| migrations.closed(conn, turn)),
            Some(ConnKind::Closing { .. }) | None => {}
        }
        self.forget(conn);
    }

    /// Closes a connection of ours or a client's; that of a client who is being served when it has been.
    fn close(&mut self, conn: ConnId, flush: bool) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if matches!(state.kind, ConnKind::Client(None)) {
            self.served_ends = true;
            return;
        }
        self.effects.push(Effect::Close { conn, flush });
        let is_client = matches!(state.kind, ConnKind::Client(_));
        if flush && !state.outbox.is_empty() {
            // The shell still has to read the outbox. Nothing else comes of this connection.
            if is_client {
                self.leave(conn);
            }
            if let Some(state) = self.conns.get_mut(&conn) {
                state.kind = ConnKind::Closing { since: self.now.mono };
            }
            self.list(conn);
        } else {
            self.forget(conn);
        }
    }

    fn forget(&mut self, conn: ConnId) {
        self.leave(conn);
        self.conns.remove(&conn);
    }

    /// A client goes: what others know of it goes too.
    fn leave(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        let ConnKind::Client(client) = &mut state.kind else { return };
        self.clients -= 1;
        let Some(mut client) = client.take() else { return };
        self.forget_waiting(conn, &mut client);
        for (kind, name) in &client.subscriptions {
            self.pubsub.unsubscribe(*kind, conn, name);
        }
        self.db.unwatch(conn, &client.watching);
        self.monitors.retain(|other| *other != conn);
        self.replication.cancel_wait(conn);
        if let Some(running) = self.scripts.running.as_mut().filter(|running| running.conn == conn) {
            // Its script goes on all the same.
            running.orphan = Some(client);
        }
    }

    // ---- output

    /// Notes that a connection has something to send.
    fn list(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get_mut(&conn)
            && !state.listed
        {
            state.listed = true;
            self.dirty.push(conn);
        }
    }

    /// Puts bytes in an outbox; gives how many wait there.
    fn send(&mut self, conn: ConnId, gate: Ticket, bytes: &[u8]) -> usize {
        let Some(state) = self.conns.get_mut(&conn) else { return 0 };
        if !bytes.is_empty() {
            self.client_bytes += bytes.len();
            state.outbox.write(gate, bytes);
            if state.outbox.len() >= self.output_alarm {
                self.alarming.push(conn);
            }
            if !state.listed {
                state.listed = true;
                self.dirty.push(conn);
            }
        }
        state.outbox.len()
    }

    /// Writes one reply to a client that is not being served.
    fn tell(&mut self, conn: ConnId, write: impl FnOnce(&mut Reply<'_>)) {
        let gate = self.tickets.reply_gate();
        if let Some(state) = self.conns.get_mut(&conn) {
            let protocol = state.protocol;
            state.outbox.with_owned(gate, |out| write(&mut Reply::new(out, protocol)));
            if state.outbox.len() >= self.output_alarm {
                self.alarming.push(conn);
            }
            self.list(conn);
        }
    }

    /// All that was said in this batch waits for what was promised in it.
    fn close_gates(&mut self) {
        let gate = std::mem::take(&mut self.batch_gate);
        if gate == Ticket(0) {
            return;
        }
        for conn in &self.dirty {
            if let Some(state) = self.conns.get_mut(conn)
                && !matches!(state.kind, ConnKind::Bus)
            {
                state.outbox.raise_gate(gate);
            }
        }
    }

    fn log(&mut self, level: LogLevel, text: impl Into<String>) {
        self.effects.push(Effect::Log { level, text: text.into() });
    }

    // ---- time

    fn run_timers(&mut self) {
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
            self.with_cluster(super::cluster::Cluster::cron);
        }
        if self.replication.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.replicate(super::replication::Replication::tick);
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

    fn sample(&mut self) {
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

    fn client_cron(&mut self) {
        // Who was closed but does not read its last replies is forgotten after a while.
        let now = self.now.mono;
        self.conns.retain(|_, state| match state.kind {
            ConnKind::Closing { since } => !state.outbox.is_empty() && now.ms_since(since) < 60_000,
            _ => true,
        });
        self.close_slow_and_idle_clients();
    }

    fn expire_actively(&mut self) {
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
    fn expiry_mode(&self) -> ExpiryMode {
        if self.is_replica() || self.failover_pause.is_some() || self.client_pause.is_some() {
            ExpiryMode::Hide
        } else {
            ExpiryMode::Delete
        }
    }

    /// Hands what was executed on to replicas and file; more than one command as a transaction.
    fn hand_on(&mut self, as_one: bool) {
        // What a script has done so far is told when it has ended.
        if self.scripts.is_under_way() {
            return;
        }
        self.publish_notifications();
        if self.db.propagated.is_empty() {
            return;
        }
        let propagated = std::mem::take(&mut self.db.propagated);
        let (for_replicas, in_file) = (self.replication.wants_commands(), self.files.aof().is_some());
        // What nobody takes does not count (a script's `redis.set_repl`, PUBLISH without replicas).
        let taken = |command: &PropagatedCommand<'_>| {
            for_replicas && command.for_replicas || in_file && command.in_file
        };
        let wrap = as_one && propagated.len() > 1 && propagated.iter().filter(taken).nth(1).is_some();
        if wrap {
            // The SELECT that the first command needs stands before the transaction.
            let first = propagated.iter().next().map(|command| command.db);
            self.replication.propagate(first, b"*1\r\n$5\r\nMULTI\r\n");
            self.files.append(first, b"*1\r\n$5\r\nMULTI\r\n", None);
        }
        let annotate = self.config.flag(Key::AofTimestampEnabled).then_some(self.now.wall);
        for command in propagated.iter() {
            if command.for_replicas {
                self.replication.propagate(Some(command.db), command.bytes);
            }
            if command.in_file {
                self.files.append(Some(command.db), command.bytes, annotate);
            }
        }
        if wrap {
            self.replication.propagate(None, b"*1\r\n$4\r\nEXEC\r\n");
            self.files.append(None, b"*1\r\n$4\r\nEXEC\r\n", None);
        }
        self.db.propagated = propagated;
        self.db.propagated.clear();
    }
}

impl Node {
    /// Tells subscribers what happened to keys.
    fn publish_notifications(&mut self) {
        let wanted = self.db.notifications.wanted;
        if wanted == 0 {
            return;
        }
        for Notification { db, event, key } in self.db.take_notifications() {
            if wanted & class::KEYSPACE != 0 {
                let channel = [format!("__keyspace@{db}__:").as_bytes(), &key].concat();
                self.deliver(false, &channel, event.as_bytes());
            }
            if wanted & class::KEYEVENT != 0 {
                self.deliver(false, format!("__keyevent@{db}__:{event}").as_bytes(), &key);
            }
        }
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
