//! The cluster protocol as a pure state machine: membership, failure detection, elections, slots.
//! Wire-compatible with Redis 7.0.
//!
//! # How the node drives it
//!
//! Make one with [`Cluster::new`] from settings and the parsed nodes.conf (see [`nodes_conf::parse`]). Each
//! call takes a [`Turn`]: the clocks, the [`Facts`] of the rest of the node, the next number for an outbound
//! connection, and the vector to which [`Action`]s are pushed. Carry actions out in order, any time before
//! the batch ends.
//!
//! | when | call |
//! |---|---|
//! | a bus connection was accepted | [`Cluster::link_accepted`] |
//! | a dialled connection is up / could not be made | [`Cluster::link_connected`] / [`Cluster::link_failed`] |
//! | bytes of a bus connection / it ended | [`Cluster::link_received`] / [`Cluster::link_closed`] |
//! | after the batch's events, if `now >= next_deadline()` | [`Cluster::cron`] |
//! | at the end of every batch, last, if [`Cluster::has_work`] | [`Cluster::before_sleep`] |
//! | `CLUSTER ...` | [`Cluster::command`] (arguments without the word CLUSTER) |
//! | `PUBLISH` / `SPUBLISH` (local delivery is the node's) | [`Cluster::publish`] |
//! | before each command with keys, and at EXEC | [`Cluster::route`] |
//! | a blocked client, once a second | [`Cluster::route_blocked`] |
//! | a disk effect of `SaveConfig` ended | [`Cluster::config_saved`] |
//! | the data set was loaded at start | [`Cluster::data_loaded`] |
//! | a directive changed | [`Cluster::set_settings`] |
//! | the replication offset moved | nothing: `before_sleep` looks |
//!
//! # Durability
//!
//! `SaveConfig` comes only out of `before_sleep` (and before any `Send` of the batch). A `Send` with
//! `after_save` carries the ticket of the latest `SaveConfig`; a `SaveConfig` with `answers_wait` also gates the
//! client replies of its batch. When a save fails, call `config_saved` with the error: the room tries again
//! (every 100 ms, F-49: a node does not die of a full disk); until a **later** save has succeeded nothing
//! gated by the failed ticket may leave, so `durable()` must not pass the failed ticket before that.
//!
//! # Deviations from 7.0.15 on purpose, all compatible on the wire
//!
//! F-01 (`election`, `roles`), F-06 and F-07 (`slot_claims`), F-10 (`process`, `election`), F-11 to F-13
//! (`process`, `slot_claims`), F-27 (`slot_claims`), F-46 (`roles`), F-47b and F-47c (`failure_detection`), F-48
//! (`nodes_conf`), F-49 (`save`), F-54 (`links`). F-51 (`adopt`) is as 7.0.15 does it.
//! Failovers are faster unless `failover-timing` says `redis` (`timing`).
//! Timers use monotonic time, so that clock jumps do not touch failure detection (F-47d).
//! An id speaks from one place at a time, and an epoch that nobody can have minted is not believed (`credence`).

#[cfg(any(test, feature = "fuzzing"))]
mod attack;
mod bitmap;
pub mod bus;
mod commands;
mod credence;
mod election;
mod failure_detection;
mod flags;
mod gossip;
mod id;
mod links;
mod manual_failover;
mod membership;
mod migration;
pub mod nodes_conf;
mod process;
mod pubsub;
mod redirection;
mod replica_migration;
mod reply;
mod roles;
mod save;
mod settings;
mod slot_claims;
#[cfg(any(test, feature = "fuzzing"))]
mod soundness;
mod state;
mod stats;
mod table;
mod timing;
mod turn;
mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

#[cfg(any(test, feature = "fuzzing"))]
pub use attack::{bus_node, nodes_conf_text};
pub use bitmap::{SLOTS, SlotBitmap};
pub use flags::NodeFlags;
pub use id::NodeId;
pub use redirection::{BlockedQuery, Endpoint, Query, Route};
pub use reply::Reply;
pub use settings::{ClusterSettings, EndpointType};
pub use timing::FailoverTiming;
pub use turn::{Action, Facts, MasterLink, Turn};

use crate::io::{ConnId, LogLevel, Mono, Now};
use crate::random::Random;
use election::Election;
use links::Link;
use manual_failover::ManualFailover;
use nodes_conf::NodesConf;
use save::SaveState;
use state::ClusterState;
use stats::BusStats;
use table::{MYSELF, Node, NodeIdx, NodeTable, SlotTable};
use timing::Stalls;

/// Cron's period, and the grain of every timer here.
const CRON_MS: u64 = 100;

/// Work that waits for the end of the batch.
#[derive(Clone, Copy, Debug, Default)]
struct Todo {
    update_state: bool,
    failover: bool,
    manual_failover: bool,
    redial: bool,
}

/// A node's share in the cluster.
#[derive(Debug)]
pub struct Cluster {
    settings: ClusterSettings,
    random: Random,
    nodes: NodeTable,
    slots: SlotTable,
    links: BTreeMap<ConnId, Link>,
    /// Bytes queued in this batch; they leave through `before_sleep`, behind a save if there is one.
    outgoing: Vec<(ConnId, Vec<u8>)>,
    current_epoch: u64,
    last_vote_epoch: u64,
    /// The last epoch that I won by votes; others may be minted by several nodes at once.
    elected_epoch: Option<u64>,
    state: ClusterState,
    election: Election,
    manual: ManualFailover,
    /// Forgotten ids and until when gossip may not bring them back.
    blacklist: BTreeMap<NodeId, Mono>,
    /// The address that replication was last told to follow.
    following: Option<(String, u16)>,
    todo: Todo,
    save: SaveState,
    stats: BusStats,
    next_cron: Mono,
    cron_count: u64,
    /// When the next peer will have been silent for too long, if that is before the next cron.
    next_suspicion: Option<Mono>,
    stalls: Stalls,
    /// PFAIL nodes at the last cron: so many extra gossip entries are sent.
    suspects: usize,
    /// Incoming packets of this type are dropped (`DEBUG DROP-CLUSTER-PACKET-FILTER`).
    drop_filter: Option<u16>,
}

impl Cluster {
    /// A node from its nodes.conf, or a new one with a random id. Pushes Redis' log line about which it is.
    pub fn new(settings: ClusterSettings, boot: Option<NodesConf>, seed: u64, turn: &mut Turn<'_>) -> Self {
        let mut random = Random::seeded(seed);
        let id = boot.as_ref().map_or_else(|| NodeId::random(&mut random), NodesConf::my_id);
        let myself = Node::new(id, NodeFlags::MYSELF | NodeFlags::MASTER, turn.now.mono);
        let mut cluster = Self {
            settings,
            random,
            nodes: NodeTable::new(myself),
            slots: SlotTable::new(),
            links: BTreeMap::new(),
            outgoing: Vec::new(),
            current_epoch: 0,
            last_vote_epoch: 0,
            elected_epoch: None,
            state: ClusterState::default(),
            election: Election::default(),
            manual: ManualFailover::default(),
            blacklist: BTreeMap::new(),
            following: None,
            todo: Todo { update_state: true, ..Todo::default() },
            save: SaveState::default(),
            stats: BusStats::default(),
            next_cron: turn.now.mono,
            cron_count: 0,
            next_suspicion: None,
            stalls: Stalls::default(),
            suspects: 0,
            drop_filter: None,
        };
        if let Some(conf) = boot {
            cluster.adopt(&conf, turn.now);
            turn.log(LogLevel::Notice, format!("Node configuration loaded, I'm {id}"));
        } else {
            turn.log(LogLevel::Notice, format!("No cluster configuration found, I'm {id}"));
        }
        cluster.state = ClusterState::of_start(!cluster.nodes.me().slots.is_empty());
        cluster.save.loaded(cluster.current_epoch);
        cluster.refresh_myself();
        cluster.save.ask_synced();
        cluster
    }

    /// When [`Self::cron`] is due.
    pub fn next_deadline(&self) -> Mono {
        let known = self.next_suspicion.into_iter().chain(self.election.next_step());
        known.fold(self.next_cron, Mono::min)
    }

    /// Takes changed settings.
    pub fn set_settings(&mut self, settings: ClusterSettings) {
        if settings.announce_ip.is_empty() && !self.settings.announce_ip.is_empty() {
            // Not announced any more: the next call tells me what others see.
            self.nodes.me_mut().ip.clear();
            self.save.ask();
        }
        self.settings = settings;
        self.refresh_myself();
        self.todo.update_state = true;
    }

    /// The timer: dials, pings, suspects, elects. Call when [`Self::next_deadline`] has come.
    pub fn cron(&mut self, turn: &mut Turn<'_>) {
        let due = self.next_deadline();
        if turn.now.mono < due {
            return;
        }
        self.note_own_stall(due, turn);
        self.election.step_is_due();
        if turn.now.mono < self.next_cron {
            self.act_on_deadline(turn);
            return;
        }
        self.next_cron = turn.now.mono.plus_ms(CRON_MS);
        self.cron_count += 1;
        self.refresh_myself();
        self.blacklist.retain(|_, until| *until > turn.now.mono);
        self.maintain_links(turn);
        if self.cron_count.is_multiple_of(10) {
            self.ping_someone(turn);
        }
        self.keep_in_touch(turn);
        let suspicion = self.suspect_the_silent(turn);
        self.climb_to_grand_master(turn);
        self.follow_master(turn);
        self.check_manual_failover_timeout(turn);
        if self.i_am_replica() {
            self.step_manual_failover(turn);
            self.step_election(turn);
            self.migrate_to_orphan(turn);
        }
        self.save.retry_if_due(turn.now.mono);
        if suspicion || !self.state.is_ok() {
            self.update_state(turn);
        }
    }

    /// Between two crons: a peer's time is up, or my election has a step to take.
    fn act_on_deadline(&mut self, turn: &mut Turn<'_>) {
        let suspicion = self.suspect_the_silent(turn);
        if self.i_am_replica() {
            self.step_election(turn);
        }
        if suspicion {
            self.update_state(turn);
        }
    }

    /// Whether [`Self::before_sleep`] has anything to do: after most batches there is nothing.
    pub fn has_work(&self) -> bool {
        let Todo { update_state, failover, manual_failover, redial } = self.todo;
        let steps = failover || manual_failover || self.manual.waits_for_offset();
        update_state || redial || steps || self.save.is_wanted() || !self.outgoing.is_empty()
    }

    /// The end of a batch: failover steps, state, save, and only then the batch's packets.
    pub fn before_sleep(&mut self, turn: &mut Turn<'_>) {
        let todo = std::mem::take(&mut self.todo);
        if todo.redial {
            self.maintain_links(turn);
        }
        if todo.manual_failover || self.manual.waits_for_offset() {
            if self.i_am_replica() {
                self.step_manual_failover(turn);
                self.step_election(turn);
            }
        } else if todo.failover && self.i_am_replica() {
            self.step_election(turn);
        }
        if todo.update_state || self.todo.update_state {
            self.todo.update_state = false;
            self.update_state(turn);
        }
        self.save_if_needed(turn);
        let after_save = self.save.holds_packets();
        for (conn, bytes) in self.outgoing.drain(..) {
            turn.actions.push(Action::Send { conn, bytes, after_save });
        }
    }

    /// My id.
    pub fn my_id(&self) -> NodeId {
        self.nodes.me().id
    }

    /// Am I a replica?
    pub fn i_am_replica(&self) -> bool {
        self.nodes.me().is_replica()
    }

    /// Is the cluster up in my view?
    pub const fn is_ok(&self) -> bool {
        self.state.is_ok()
    }

    /// True while a manual failover waits for the replication offset: batches that move it must not be put
    /// off.
    pub const fn wants_offset(&self) -> bool {
        self.manual.waits_for_offset()
    }

    /// `DEBUG DROP-CLUSTER-PACKET-FILTER`: incoming packets of this type are dropped.
    pub const fn set_drop_filter(&mut self, packet_type: Option<u16>) {
        self.drop_filter = packet_type;
    }

    /// Buffers of the bus, for INFO's `mem_cluster_links`.
    pub fn link_memory(&self) -> usize {
        self.links.values().map(Link::memory).sum()
    }

    /// Takes the table of a nodes.conf.
    fn adopt(&mut self, conf: &NodesConf, now: Now) {
        for line in &conf.nodes {
            let idx = if line.flags.any(NodeFlags::MYSELF) {
                MYSELF
            } else {
                match self.nodes.add(Node::new(line.id, line.flags, now.mono)) {
                    Some(idx) => idx,
                    None => continue,
                }
            };
            let node = self.nodes.get_mut(idx);
            node.flags = line.flags;
            node.ip.clone_from(&line.ip);
            node.port = line.port;
            node.cport = line.cport;
            node.hostname.clone_from(&line.hostname);
            // F-51: a replica's stored epoch is its master's and must not block newer news.
            node.config_epoch = if line.master.is_some() { 0 } else { line.config_epoch };
            node.fail_time = line.flags.any(NodeFlags::FAIL).then_some(now.mono);
            node.ping_sent = line.ping_sent.then_some(now.mono);
            node.pong_received = line.pong_received.then_some(now.mono);
        }
        for line in &conf.nodes {
            let Some(idx) = self.nodes.find(&line.id) else { continue };
            if let Some(master) = line.master.and_then(|id| self.nodes.find(&id)).filter(|m| *m != idx) {
                self.nodes.attach(idx, master);
            }
            for slot in line.slots.iter() {
                self.slots.bind(&mut self.nodes, slot, idx);
            }
            for (open, table) in
                [(&line.migrating, &mut self.slots.migrating), (&line.importing, &mut self.slots.importing)]
            {
                for (slot, peer) in open {
                    if let Some(peer) = self.nodes.find(peer) {
                        table.insert(*slot, peer);
                    }
                }
            }
        }
        self.last_vote_epoch = conf.last_vote_epoch;
        // Epochs that are in use, and one that I voted in, have been reached.
        self.current_epoch = conf.current_epoch.max(conf.last_vote_epoch).max(self.nodes.max_config_epoch());
    }

    /// Brings my own line up to date with the settings.
    fn refresh_myself(&mut self) {
        let settings = &self.settings;
        let me = self.nodes.me_mut();
        me.port = if settings.announce_port == 0 { settings.port } else { settings.announce_port };
        me.cport =
            if settings.announce_bus_port == 0 { settings.bus_port } else { settings.announce_bus_port };
        me.hostname.clone_from(&settings.announce_hostname);
        me.flags.set(NodeFlags::NOFAILOVER, settings.no_failover);
        if !settings.announce_ip.is_empty() && me.ip != settings.announce_ip {
            me.ip.clone_from(&settings.announce_ip);
            self.save.ask();
        }
    }

    /// The epoch that counts for my shard: mine, or my master's.
    fn my_config_epoch(&self) -> u64 {
        let me = self.nodes.me();
        self.nodes.get(me.master.unwrap_or(MYSELF)).config_epoch
    }

    fn my_master(&self) -> Option<NodeIdx> {
        self.nodes.me().master
    }
}
