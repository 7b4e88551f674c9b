//! The text of INFO: Redis' sections and the fields that tools read, with true values.

use std::fmt::{Display, Write};

use super::Node;
use crate::cluster::Cluster;
use crate::config::Key;

/// Sections in Redis' order.
const SECTIONS: [&str; 13] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "modules",
    "commandstats",
    "errorstats",
    "latencystats",
    "cluster",
    "keyspace",
];

/// A section under construction.
struct Section {
    out: String,
}

impl Section {
    fn new(title: &str) -> Self {
        Self { out: format!("# {title}\r\n") }
    }

    fn line(&mut self, name: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.out, "{name}:{value}\r\n");
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.line(name, u8::from(value));
    }
}

impl Node {
    /// The sections asked for (none: all), separated by empty lines.
    pub(super) fn info(&self, wanted: &[String]) -> String {
        let all = wanted.is_empty()
            || wanted.iter().any(|name| matches!(&**name, "all" | "default" | "everything"));
        let chosen = SECTIONS.iter().filter(|name| all || wanted.iter().any(|wanted| wanted == *name));
        let texts: Vec<String> = chosen.map(|name| self.section(name)).collect();
        texts.join("\r\n")
    }

    fn section(&self, name: &str) -> String {
        match name {
            "server" => self.server_section(),
            "clients" => self.clients_section(),
            "memory" => self.memory_section(),
            "persistence" => self.persistence_section(),
            "stats" => self.stats_section(),
            "replication" => self.replication.info(self.now.mono),
            "cpu" => Section::new("CPU").out,
            "errorstats" => self.errors_section(),
            "cluster" => {
                let mut section = Section::new("Cluster");
                section.flag("cluster_enabled", self.config.flag(Key::ClusterEnabled));
                section.out
            }
            _ => self.keyspace_section(),
        }
    }

    fn server_section(&self) -> String {
        let mut section = Section::new("Server");
        let up_s = self.now.mono.ms_since(self.started.mono) / 1000;
        section.line("redis_version", "7.0.15");
        section.line("redis_git_sha1", "00000000");
        section.line("redis_git_dirty", 0);
        section.line("slotstorm_version", env!("CARGO_PKG_VERSION"));
        let is_cluster = self.config.flag(Key::ClusterEnabled);
        section.line("redis_mode", if is_cluster { "cluster" } else { "standalone" });
        section.line("os", std::env::consts::OS);
        section.line("arch_bits", usize::BITS);
        section.line("multiplexing_api", "epoll");
        section.line("process_id", self.pid);
        section.line("run_id", &self.run_id);
        section.line("tcp_port", self.config.uint(Key::Port));
        section.line("server_time_usec", self.now.wall.0 * 1000);
        section.line("uptime_in_seconds", up_s);
        section.line("uptime_in_days", up_s / 86_400);
        section.line("hz", self.config.uint(Key::Hz));
        section.line("configured_hz", self.config.uint(Key::Hz));
        section.line("config_file", self.config.file.as_deref().unwrap_or_default());
        section.out
    }

    fn clients_section(&self) -> String {
        let mut section = Section::new("Clients");
        let replicas = self.replication.connected_replicas();
        section.line("connected_clients", self.clients.saturating_sub(replicas));
        let links = self.conns.values().filter(|state| matches!(state.kind, super::ConnKind::Bus)).count();
        section.line("cluster_connections", links);
        section.line("maxclients", self.config.uint(Key::Maxclients));
        let blocked = self.conns.values().filter(|state| match &state.kind {
            super::ConnKind::Client(Some(client)) => {
                use super::Blocked::{Keys, Migrate, Wait};
                matches!(client.blocked, Some(Wait | Keys | Migrate))
            }
            _ => false,
        });
        section.line("blocked_clients", blocked.count());
        section.out
    }

    fn memory_section(&self) -> String {
        let mut section = Section::new("Memory");
        let data = self.db.used_memory();
        let buffers: usize = self.conns.values().map(|state| state.outbox.len()).sum();
        section.line("used_memory", data + buffers);
        section.line("used_memory_dataset", data);
        section.line("maxmemory", self.config.uint(Key::Maxmemory));
        section.line("maxmemory_policy", self.config.text(Key::MaxmemoryPolicy));
        section.line("mem_clients_normal", buffers);
        section.line("mem_cluster_links", self.cluster.as_ref().map_or(0, Cluster::link_memory));
        section.line("mem_allocator", "mimalloc");
        section.flag("lazyfree_pending_objects", self.db.keys.has_garbage());
        section.out
    }

    fn persistence_section(&self) -> String {
        let mut section = Section::new("Persistence");
        section.flag("loading", self.files.is_loading());
        section.flag("async_loading", false);
        let changes = self.db.dirty.saturating_sub(self.files.saved_dirty);
        section.line("rdb_changes_since_last_save", changes);
        section.flag("rdb_bgsave_in_progress", self.tickets.is_saving());
        section.line("rdb_last_save_time", self.files.last_save.0 / 1000);
        section.line("rdb_last_bgsave_status", if self.files.last_save_ok { "ok" } else { "err" });
        let aof = self.files.aof();
        section.flag("aof_enabled", aof.is_some());
        let status = aof.map(crate::aof::AofWriter::status).unwrap_or_default();
        section.flag("aof_rewrite_in_progress", status.rewriting);
        section.flag("aof_rewrite_scheduled", false);
        section.line("aof_last_bgrewrite_status", if status.last_rewrite_failed { "err" } else { "ok" });
        let failing = aof.is_some_and(|aof| aof.write_error().is_some());
        section.line("aof_last_write_status", if failing { "err" } else { "ok" });
        if aof.is_some() {
            section.line("aof_current_size", status.current_bytes);
            section.line("aof_base_size", status.base_bytes);
            section.line("aof_buffer_length", status.buffered_bytes);
            section.flag("aof_pending_bio_fsync", status.sync_running);
            section.line("aof_delayed_fsync", status.delayed_syncs);
        }
        section.out
    }

    fn stats_section(&self) -> String {
        let mut section = Section::new("Stats");
        let stats = &self.stats;
        section.line("total_connections_received", stats.connections);
        section.line("total_commands_processed", stats.commands);
        let samples = stats.sample_index.clamp(1, stats.samples.len()) as u64;
        section.line("instantaneous_ops_per_sec", stats.samples.iter().sum::<u64>() / samples);
        section.line("total_net_input_bytes", stats.input_bytes);
        section.line("total_net_output_bytes", stats.output_bytes);
        section.line("rejected_connections", stats.rejected);
        let syncs = self.replication.sync_counts();
        section.line("sync_full", syncs.full);
        section.line("sync_partial_ok", syncs.partial_ok);
        section.line("sync_partial_err", syncs.partial_err);
        section.line("expired_keys", self.db.expired);
        section.line("evicted_keys", 0);
        section.line("keyspace_hits", self.db.hits);
        section.line("keyspace_misses", self.db.misses);
        section.line("pubsub_channels", self.pubsub.of(crate::pubsub::Kind::Channel).len());
        section.line("pubsub_patterns", self.pubsub.of(crate::pubsub::Kind::Pattern).len());
        section.line("pubsubshard_channels", self.pubsub.of(crate::pubsub::Kind::Shard).len());
        section.line("dump_payload_sanitizations", 0);
        section.line("total_error_replies", stats.error_replies);
        section.out
    }

    fn errors_section(&self) -> String {
        let mut section = Section::new("Errorstats");
        for (code, count) in &self.stats.errors {
            section.line(&format!("errorstat_{code}"), format!("count={count}"));
        }
        section.out
    }

    fn keyspace_section(&self) -> String {
        let mut section = Section::new("Keyspace");
        for (number, keys) in self.db.all().filter(|(_, keys)| !keys.is_empty()) {
            let expires = keys.expiring();
            // Time left of the key that expires next: an estimate without a walk over all keys.
            let ttl_ms = keys.next_expiry().map_or(0, |at| at.0.saturating_sub(self.now.wall.0));
            section.line(
                &format!("db{number}"),
                format!("keys={},expires={expires},avg_ttl={ttl_ms}", keys.len()),
            );
        }
        section.out
    }
}
