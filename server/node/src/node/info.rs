//! The text of INFO: Redis' sections and the fields that tools read, with true values.

use std::fmt::{Display, Write};

use super::Node;
use crate::config::Key;
use crate::io::Mono;

/// Sections in Redis' order, and whether INFO shows them unasked.
const SECTIONS: [(&str, bool); 13] = [
    ("server", true),
    ("clients", true),
    ("memory", true),
    ("persistence", true),
    ("stats", true),
    ("replication", true),
    ("cpu", true),
    ("modules", true),
    ("commandstats", false),
    ("errorstats", true),
    ("latencystats", false),
    ("cluster", true),
    ("keyspace", true),
];

/// A section under construction.
pub(super) struct Section {
    out: String,
}

impl Section {
    fn new(title: &str) -> Self {
        Self { out: format!("# {title}\r\n") }
    }

    pub(super) fn line(&mut self, name: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.out, "{name}:{value}\r\n");
    }

    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.line(name, u8::from(value));
    }

    /// Fields of what this server does without: forks, modules, threads.
    fn zeros(&mut self, names: &[&str]) {
        for name in names {
            self.line(name, 0);
        }
    }

    /// A time in us as seconds with six decimals.
    fn seconds(&mut self, name: &str, us: u64) {
        self.line(name, format_args!("{}.{:06}", us / 1_000_000, us % 1_000_000));
    }
}

impl Node {
    /// The sections asked for (none: those that are shown unasked), separated by empty lines.
    pub(super) fn info(&self, wanted: &[String]) -> String {
        let asks_for = |name: &str| wanted.iter().any(|wanted| wanted == name);
        let all = asks_for("all") || asks_for("everything");
        let default = wanted.is_empty() || asks_for("default");
        let chosen = SECTIONS.iter().filter(|(name, unasked)| all || default && *unasked || asks_for(name));
        let texts: Vec<String> = chosen.map(|(name, _)| self.section(name)).collect();
        texts.join("\r\n")
    }

    fn section(&self, name: &str) -> String {
        match name {
            "server" => self.server_section(),
            "clients" => self.clients_section(),
            "memory" => {
                let mut section = Section::new("Memory");
                self.memory_section(&mut section);
                section.out
            }
            "persistence" => self.persistence_section(),
            "stats" => self.stats_section(),
            "replication" => {
                let max_lag_s = self.config.uint(Key::MinReplicasMaxLag);
                let counts = self.config.uint(Key::MinReplicasToWrite) > 0 && max_lag_s > 0;
                let good = counts.then(|| self.replication.good_replicas(max_lag_s, self.now.mono));
                self.replication.info(self.now.mono, good)
            }
            "cpu" => self.processor_section(),
            "modules" => Section::new("Modules").out,
            "commandstats" => self.commands_section(),
            "errorstats" => self.errors_section(),
            "latencystats" => self.latency_section(),
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
        let vitals = self.vitals.read();
        section.line("redis_version", "7.0.15");
        section.line("redis_git_sha1", "00000000");
        section.line("redis_git_dirty", 0);
        section.line("redis_build_id", "0000000000000000");
        section.line("slotstorm_version", env!("CARGO_PKG_VERSION"));
        if let Some(bug) = self.config.zoo.name() {
            section.line("slotstorm_zoo", bug);
        }
        let is_cluster = self.config.flag(Key::ClusterEnabled);
        section.line("redis_mode", if is_cluster { "cluster" } else { "standalone" });
        section.line("os", vitals.os);
        section.line("arch_bits", usize::BITS);
        section.line("monotonic_clock", "POSIX clock_gettime");
        section.line("multiplexing_api", "epoll");
        section.line("atomicvar_api", "c11-builtin");
        section.line("gcc_version", "0.0.0");
        section.line("process_id", self.pid);
        section.line("process_supervised", "no");
        section.line("run_id", &self.run_id);
        section.line("tcp_port", self.config.uint(Key::Port));
        section.line("server_time_usec", self.now.wall.0 * 1000);
        section.line("uptime_in_seconds", up_s);
        section.line("uptime_in_days", up_s / 86_400);
        section.line("hz", self.config.uint(Key::Hz));
        section.line("configured_hz", self.config.uint(Key::Hz));
        section.line("lru_clock", (self.now.wall.0 / 1000) & 0x00ff_ffff);
        section.line("executable", vitals.executable);
        section.line("config_file", self.config.file.as_deref().unwrap_or_default());
        section.line("io_threads_active", 0);
        section.out
    }

    fn clients_section(&self) -> String {
        let mut section = Section::new("Clients");
        let replicas = self.replication.connected_replicas();
        section.line("connected_clients", self.clients.saturating_sub(replicas));
        let links = self.conns.values().filter(|state| matches!(state.kind, super::ConnKind::Bus)).count();
        section.line("cluster_connections", links);
        section.line("maxclients", self.config.uint(Key::Maxclients));
        let input = self.conns.values().map(|state| match &state.kind {
            super::ConnKind::Client(Some(client)) => client.input.len(),
            _ => 0,
        });
        section.line("client_recent_max_input_buffer", input.max().unwrap_or(0));
        let output = self.conns.values().map(|state| state.outbox.allocated()).max().unwrap_or(0);
        section.line("client_recent_max_output_buffer", output);
        let blocked = self.conns.values().filter(|state| match &state.kind {
            super::ConnKind::Client(Some(client)) => {
                use super::Blocked::{Keys, Migrate, Paused, Wait};
                matches!(client.blocked, Some(Wait | Keys | Migrate | Paused))
            }
            _ => false,
        });
        section.line("blocked_clients", blocked.count());
        section.line("tracking_clients", 0);
        section.line("clients_in_timeout_table", self.deadlines.len());
        section.out
    }

    fn persistence_section(&self) -> String {
        let mut section = Section::new("Persistence");
        let saves = &self.files.saves;
        let seconds = |took: Option<u64>| took.map_or(-1, |s| i64::try_from(s).unwrap_or(i64::MAX));
        let since = |since: Option<Mono>| seconds(since.map(|since| self.now.mono.ms_since(since) / 1000));
        section.flag("loading", self.is_loading());
        section.flag("async_loading", self.is_loading_beside());
        section.line("current_cow_peak", 0);
        section.line("current_cow_size", 0);
        section.line("current_cow_size_age", 0);
        section.line("current_fork_perc", "0.00");
        section.line("current_save_keys_processed", 0);
        section.line("current_save_keys_total", 0);
        section.line("rdb_changes_since_last_save", self.db.dirty.saturating_sub(saves.dirty));
        section.flag("rdb_bgsave_in_progress", self.is_saving_rdb());
        section.line("rdb_last_save_time", saves.last.0 / 1000);
        section.line("rdb_last_bgsave_status", if saves.last_ok { "ok" } else { "err" });
        section.line("rdb_last_bgsave_time_sec", seconds(saves.last_took_s));
        let running = saves.running.as_ref().filter(|_| saves.in_background());
        section.line("rdb_current_bgsave_time_sec", since(running.map(|saving| saving.since)));
        section.line("rdb_saves", saves.count);
        section.line("rdb_last_cow_size", 0);
        section.line("rdb_last_load_keys_expired", self.files.load_counts.expired);
        section.line("rdb_last_load_keys_loaded", self.files.load_counts.loaded);
        let (status, rewriting_since) = self.files.aof_status();
        let aof = self.files.aof();
        section.flag("aof_enabled", aof.is_some());
        section.flag("aof_rewrite_in_progress", self.files.is_rewriting());
        section.flag("aof_rewrite_scheduled", saves.rewrite_scheduled && !self.files.is_rewriting());
        section.line("aof_last_rewrite_time_sec", seconds(saves.rewrite_took_s));
        section.line("aof_current_rewrite_time_sec", since(rewriting_since));
        section.line("aof_last_bgrewrite_status", if saves.rewrite_failed { "err" } else { "ok" });
        section.line("aof_rewrites", saves.rewrites);
        section.line("aof_rewrites_consecutive_failures", saves.rewrite_failures());
        let failing = aof.is_some_and(|aof| aof.write_error().is_some());
        section.line("aof_last_write_status", if failing { "err" } else { "ok" });
        section.line("aof_last_cow_size", 0);
        section.line("module_fork_in_progress", 0);
        section.line("module_fork_last_cow_size", 0);
        if aof.is_some() {
            section.line("aof_current_size", status.current_bytes);
            section.line("aof_base_size", status.base_bytes);
            section.flag("aof_pending_rewrite", false);
            section.line("aof_buffer_length", status.buffered_bytes);
            section.flag("aof_pending_bio_fsync", status.sync_running);
            section.line("aof_delayed_fsync", status.delayed_syncs);
        }
        if let Some(progress) = self.files.progress() {
            let took_s = self.now.mono.ms_since(progress.since) / 1000;
            let left = progress.total_bytes.saturating_sub(progress.loaded_bytes);
            let percent = progress.loaded_bytes as f64 * 100.0 / progress.total_bytes.max(1) as f64;
            section.line("loading_start_time", progress.since_wall.0 / 1000);
            section.line("loading_total_bytes", progress.total_bytes);
            section.line("loading_rdb_used_mem", 0);
            section.line("loading_loaded_bytes", progress.loaded_bytes);
            section.line("loading_loaded_perc", format!("{percent:.2}"));
            let rate = progress.loaded_bytes / took_s.max(1);
            section.line("loading_eta_seconds", left.checked_div(rate).unwrap_or(1));
        }
        section.out
    }

    fn stats_section(&self) -> String {
        let mut section = Section::new("Stats");
        let stats = &self.stats;
        let kilobytes = |which: usize| format!("{:.2}", stats.rates.of(which) as f64 / 1024.0);
        section.line("total_connections_received", stats.connections);
        section.line("total_commands_processed", stats.commands);
        section.line("instantaneous_ops_per_sec", stats.rates.of(0));
        section.line("total_net_input_bytes", stats.input_bytes);
        section.line("total_net_output_bytes", stats.output_bytes);
        section.line("total_net_repl_input_bytes", stats.replica_input_bytes);
        section.line("total_net_repl_output_bytes", stats.replica_output_bytes);
        section.line("instantaneous_input_kbps", kilobytes(1));
        section.line("instantaneous_output_kbps", kilobytes(2));
        section.line("instantaneous_input_repl_kbps", kilobytes(3));
        section.line("instantaneous_output_repl_kbps", kilobytes(4));
        section.line("rejected_connections", stats.rejected);
        let syncs = self.replication.sync_counts();
        section.line("sync_full", syncs.full);
        section.line("sync_partial_ok", syncs.partial_ok);
        section.line("sync_partial_err", syncs.partial_err);
        section.line("expired_keys", self.db.expired);
        section.line("expired_stale_perc", "0.00");
        section.zeros(&["expired_time_cap_reached_count", "expire_cycle_cpu_milliseconds"]);
        section.line("evicted_keys", self.db.evicted);
        section.line("evicted_clients", stats.evicted_clients);
        section.zeros(&["total_eviction_exceeded_time", "current_eviction_exceeded_time"]);
        section.line("keyspace_hits", self.db.hits);
        section.line("keyspace_misses", self.db.misses);
        section.line("pubsub_channels", self.pubsub.of(crate::pubsub::Kind::Channel).len());
        section.line("pubsub_patterns", self.pubsub.of(crate::pubsub::Kind::Pattern).len());
        section.line("pubsubshard_channels", self.pubsub.of(crate::pubsub::Kind::Shard).len());
        section.zeros(&["latest_fork_usec", "total_forks"]);
        section.line("migrate_cached_sockets", self.migrations.cached_connections());
        section.line("slave_expires_tracked_keys", self.own_expiring.len());
        section.zeros(&[
            "active_defrag_hits",
            "active_defrag_misses",
            "active_defrag_key_hits",
            "active_defrag_key_misses",
            "total_active_defrag_time",
            "current_active_defrag_time",
            "tracking_total_keys",
            "tracking_total_items",
            "tracking_total_prefixes",
            "unexpected_error_replies",
        ]);
        section.line("total_error_replies", stats.error_replies);
        section.zeros(&["dump_payload_sanitizations"]);
        section.line("total_reads_processed", stats.reads);
        section.line("total_writes_processed", stats.writes);
        section.zeros(&[
            "io_threaded_reads_processed",
            "io_threaded_writes_processed",
            "reply_buffer_shrinks",
            "reply_buffer_expands",
        ]);
        section.out
    }

    fn processor_section(&self) -> String {
        let mut section = Section::new("CPU");
        let vitals = self.vitals.read();
        section.seconds("used_cpu_sys", vitals.system_us);
        section.seconds("used_cpu_user", vitals.user_us);
        section.seconds("used_cpu_sys_children", 0);
        section.seconds("used_cpu_user_children", 0);
        section.seconds("used_cpu_sys_main_thread", vitals.main_system_us);
        section.seconds("used_cpu_user_main_thread", vitals.main_user_us);
        section.out
    }

    fn commands_section(&self) -> String {
        let mut section = Section::new("Commandstats");
        for (name, stat) in self.stats.per_command.all() {
            let per_call =
                if stat.calls == 0 { 0.0 } else { stat.took_ns as f64 / 1000.0 / stat.calls as f64 };
            section.line(
                &format!("cmdstat_{name}"),
                format_args!(
                    "calls={},usec={},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
                    stat.calls,
                    stat.took_ns / 1000,
                    stat.rejected,
                    stat.failed
                ),
            );
        }
        section.out
    }

    fn latency_section(&self) -> String {
        let mut section = Section::new("Latencystats");
        if !self.tracks_latency {
            return section.out;
        }
        let wanted = self.config.words(Key::LatencyTrackingInfoPercentiles);
        for (name, stat) in self.stats.per_command.all() {
            let Some(latency) = &stat.latency else { continue };
            let shown = wanted.iter().filter_map(|text| {
                let us = latency.percentile_ns(text.parse().ok()?) as f64 / 1000.0;
                Some(format!("p{text}={us:.3}"))
            });
            let shown: Vec<String> = shown.collect();
            section.line(&format!("latency_percentiles_usec_{name}"), shown.join(","));
        }
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
