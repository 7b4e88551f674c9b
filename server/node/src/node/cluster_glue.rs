//! Wires the cluster room: what it must know, and carrying out what it wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::client::{Conn, ConnKind};
use super::tickets::Purpose;
use super::{Node, text};
use crate::cluster::{
    Action, Cluster, ClusterSettings, EndpointType, Facts, FailoverTiming, MasterLink, Reply as ClusterReply,
    Turn,
};
use crate::command::{Db, Fault};
use crate::config::{Config, Key};
use crate::io::{ConnId, DiskOp, Effect, Now, Ticket};
use crate::keyspace::Slot;
use crate::replication::Replication;
use crate::resp::{Args, Reply};
use crate::zoo::Mutation;

/// The settings of the cluster room, from the directives.
pub(super) fn settings(config: &Config) -> ClusterSettings {
    ClusterSettings {
        node_timeout_ms: config.uint(Key::ClusterNodeTimeout),
        port: config.uint(Key::Port) as u16,
        bus_port: config.bus_port(),
        announce_ip: config.text(Key::ClusterAnnounceIp).to_owned(),
        announce_port: config.uint(Key::ClusterAnnouncePort) as u16,
        announce_bus_port: config.uint(Key::ClusterAnnounceBusPort) as u16,
        announce_hostname: config.text(Key::ClusterAnnounceHostname).to_owned(),
        source_addr: config.text(Key::BindSourceAddr).parse().ok(),
        require_full_coverage: config.flag(Key::ClusterRequireFullCoverage),
        allow_reads_when_down: config.flag(Key::ClusterAllowReadsWhenDown),
        allow_pubsubshard_when_down: config.flag(Key::ClusterAllowPubsubshardWhenDown),
        migration_barrier: config.uint(Key::ClusterMigrationBarrier) as usize,
        allow_replica_migration: config.flag(Key::ClusterAllowReplicaMigration),
        validity_factor: config.uint(Key::ClusterReplicaValidityFactor),
        no_failover: config.flag(Key::ClusterReplicaNoFailover),
        link_sendbuf_limit: config.uint(Key::ClusterLinkSendbufLimit) as usize,
        preferred_endpoint: match config.text(Key::ClusterPreferredEndpointType) {
            "hostname" => EndpointType::Hostname,
            "unknown-endpoint" => EndpointType::Unknown,
            _ => EndpointType::Ip,
        },
        timing: match config.text(Key::FailoverTiming) {
            "redis" => FailoverTiming::Redis,
            _ => FailoverTiming::Fast,
        },
        repl_ping_period_s: config.uint(Key::ReplPingReplicaPeriod),
        blacklist_ttl_s: config.uint(Key::ClusterBlacklistTtl),
        zoo: config.zoo,
        ..ClusterSettings::default()
    }
}

/// What the cluster room is told of the rest of the node.
struct Rest<'a> {
    db: &'a Db,
    replication: &'a Replication,
    conns: &'a BTreeMap<ConnId, Conn>,
    loading: bool,
    /// A full resync is coming in: what this node holds has no place in its master's history.
    resyncing: bool,
    now: Now,
}

impl Facts for Rest<'_> {
    fn replication_offset(&self) -> u64 {
        if self.resyncing { 0 } else { self.replication.offset() }
    }

    fn master_link(&self) -> MasterLink {
        match self.replication.link_status() {
            Some(link) if link.up => MasterLink::Up { last_io: link.last_io },
            Some(link) => MasterLink::Down { since: link.down_since },
            None => MasterLink::Down { since: None },
        }
    }

    fn keys_in_slot(&self, slot: u16) -> usize {
        self.db.keys.slot_len(Slot(slot))
    }

    fn some_keys_of_slot(&self, slot: u16, count: usize) -> Vec<Vec<u8>> {
        self.db.keys.slot_iter_from(Slot(slot), 0).take(count).map(|entry| entry.key().to_vec()).collect()
    }

    fn no_keys(&self) -> bool {
        self.db.keys.is_empty()
    }

    fn key_slot(&self, key: &[u8]) -> u16 {
        Slot::of_key(key).0
    }

    fn loading(&self) -> bool {
        self.loading
    }

    fn outbox_len(&self, conn: ConnId) -> usize {
        self.conns.get(&conn).map_or(0, |state| state.outbox.len())
    }

    fn outbox_allocated(&self, conn: ConnId) -> usize {
        self.conns.get(&conn).map_or(0, |state| state.outbox.allocated())
    }
}

impl Node {
    /// Makes the cluster room.
    pub(super) fn start_cluster_with(&mut self, make: impl FnOnce(&mut Turn<'_>) -> Cluster) {
        let mut actions = Vec::new();
        let facts = Rest {
            db: &self.db,
            replication: &self.replication,
            conns: &self.conns,
            loading: true,
            resyncing: false,
            now: self.now,
        };
        let mut turn =
            Turn { now: facts.now, facts: &facts, next_conn: &mut self.next_conn, actions: &mut actions };
        self.cluster = Some(make(&mut turn));
        self.carry_out(actions);
    }

    /// Calls the cluster room, if there is one, and carries out what it wants.
    pub(super) fn with_cluster<R>(
        &mut self,
        call: impl FnOnce(&mut Cluster, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let cluster = self.cluster.as_mut()?;
        let mut actions = Vec::new();
        let facts = Rest {
            db: &self.db,
            replication: &self.replication,
            conns: &self.conns,
            loading: self.files.is_loading(),
            resyncing: self.incoming.is_some(),
            now: self.now,
        };
        let mut turn =
            Turn { now: facts.now, facts: &facts, next_conn: &mut self.next_conn, actions: &mut actions };
        let result = call(cluster, &mut turn);
        self.carry_out(actions);
        Some(result)
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Dial { conn, addr, source } => {
                    self.add_conn(conn, ConnKind::Bus);
                    self.effects.push(Effect::Connect { conn, addr, source });
                }
                Action::CloseLink { conn } => {
                    self.conns.remove(&conn);
                    self.effects.push(Effect::Close { conn, flush: false });
                }
                Action::Send { conn, bytes, after_save } => {
                    let gate = if after_save { self.tickets.config() } else { Ticket(0) };
                    self.send(conn, gate, &bytes);
                }
                Action::SaveConfig { text, sync, answers_wait } => {
                    let ticket = self.tickets.issue(Purpose::ClusterConfig);
                    let name = self.config.text(Key::ClusterConfigFile).to_owned();
                    let op = DiskOp::Replace { name, bytes: text.into_bytes(), sync };
                    self.effects.push(Effect::Disk { ticket, op });
                    if answers_wait {
                        self.batch_gate = self.batch_gate.max(ticket);
                    }
                }
                Action::Replicate { ip, port } => {
                    self.abort_migrations();
                    let master = SocketAddr::new(ip, port);
                    self.follow(master);
                }
                Action::Promote => {
                    self.replicate(super::super::replication::Replication::promote);
                    self.db.expiry = self.expiry_mode();
                }
                // WAIT is ended by replication when this node becomes a replica.
                Action::UnblockClients => {
                    self.abort_migrations();
                    self.end_all_waits();
                }
                Action::DeleteSlotKeys { slot } => self.delete_slot(slot),
                Action::SlotsLeft { slots } => self.slots_left(&slots),
                Action::FlushAll => {
                    self.abort_migrations();
                    self.db.flush_all(self.now.wall);
                    self.db.propagated.push([b"FLUSHALL"].iter());
                    self.hand_on(true);
                }
                Action::PauseWrites { until } => {
                    self.failover_pause = Some(until);
                    self.replication.pause_pings(true);
                }
                Action::ResumeWrites => self.end_failover_pause(),
                Action::Publish { sharded, channel, message } => {
                    self.deliver(sharded, &channel, &message);
                }
                Action::Log { level, text } => self.log(level, text),
            }
        }
    }

    pub(super) fn end_failover_pause(&mut self) {
        if self.failover_pause.take().is_some() {
            self.replication.pause_pings(false);
            self.resume_paused();
        }
    }

    /// Deletes the keys of a slot that another shard owns now; replicas and file are told (F-27).
    fn delete_slot(&mut self, slot: u16) {
        let keys: Vec<Vec<u8>> =
            self.db.keys.slot_iter_from(Slot(slot), 0).map(|entry| entry.key().to_vec()).collect();
        for key in keys {
            self.db.keys.remove(&key);
            self.db.changed(&key);
            if !self.config.zoo.has(Mutation::SlotLossNotReplicated) {
                self.db.propagated.push([&b"DEL"[..], &key].into_iter());
            }
        }
        self.hand_on(false);
    }

    /// `CLUSTER ...`
    pub(super) fn cluster_command(&mut self, args: &[&[u8]], loading: bool) -> Result<ClusterReply, Fault> {
        self.needs_cluster()?;
        let is_help = args.first().is_some_and(|word| word.eq_ignore_ascii_case(b"help"));
        if loading && !is_help {
            return Err(text(super::LOADING));
        }
        self.with_cluster(|cluster, turn| cluster.command(args, turn)).ok_or(crate::command::CLUSTER_DISABLED)
    }
}

/// Refuses a CLUSTER command that is wrong at first sight, also when it is queued.
pub(super) fn check_usage(args: Args<'_>) -> Result<(), Fault> {
    let words: Vec<&[u8]> = args.from(1).iter().collect();
    match Cluster::misuse(&words) {
        Some(ClusterReply::Error(error)) => Err(Fault::new(error)),
        _ => Ok(()),
    }
}

/// Writes a reply of the cluster room.
pub(super) fn write_reply(reply: &mut Reply<'_>, value: &ClusterReply) {
    match value {
        ClusterReply::Simple(text) => reply.simple(text),
        ClusterReply::Error(text) => reply.error(text),
        ClusterReply::Integer(number) => reply.int(*number),
        ClusterReply::Bulk(bytes) => reply.bulk(bytes),
        ClusterReply::Text(text) => reply.verbatim(text),
        ClusterReply::Array(items) => {
            reply.array(items.len());
            for item in items {
                write_reply(reply, item);
            }
        }
        ClusterReply::Map(pairs) => {
            reply.map(pairs.len());
            for (name, value) in pairs {
                write_reply(reply, name);
                write_reply(reply, value);
            }
        }
        ClusterReply::Null => reply.null(),
    }
}
