//! What MEMORY and INFO memory tell: sums that the node keeps anyway, and what the shell knows of the process.

use super::client::Client;
use super::{ConnKind, Node};
use crate::cluster::Cluster;
use crate::command::{Fault, NOT_INTEGER, SYNTAX, is, write_help};
use crate::config::Key;
use crate::io::VitalSigns;
use crate::keyspace::number::parse_i64;
use crate::keyspace::{Entry, Keyspace};
use crate::resp::{Args, Reply};

/// Below so many bytes there is nothing to be said of memory.
const TOO_SMALL: usize = 5 << 20;

/// The sums, in bytes.
#[derive(Debug, Default)]
pub(super) struct MemoryFacts {
    pub used: usize,
    pub peak: usize,
    /// All that is not keys and values.
    pub overhead: usize,
    /// Keys and values.
    pub dataset: usize,
    /// What an empty node has.
    pub startup: usize,
    pub backlog: usize,
    pub replicas: usize,
    pub clients: usize,
    pub links: usize,
    pub aof_buffer: usize,
    pub vitals: VitalSigns,
}

impl MemoryFacts {
    pub fn dataset_percent(&self) -> f64 {
        if self.used == 0 { 0.0 } else { self.dataset as f64 * 100.0 / self.used as f64 }
    }

    pub fn peak_percent(&self) -> f64 {
        if self.peak == 0 { 0.0 } else { self.used as f64 * 100.0 / self.peak as f64 }
    }

    /// What the process holds per byte that is used.
    pub fn fragmentation(&self) -> f64 {
        if self.used == 0 { 0.0 } else { self.vitals.rss_bytes as f64 / self.used as f64 }
    }

    pub const fn fragmentation_bytes(&self) -> i64 {
        self.vitals.rss_bytes as i64 - self.used as i64
    }
}

impl Node {
    /// Adds up, over all clients: for people, not for each command.
    pub(super) fn memory_facts(&self) -> MemoryFacts {
        let (mut clients, mut replicas) = (0, 0);
        for (conn, state) in &self.conns {
            let ConnKind::Client(client) = &state.kind else { continue };
            let output = state.outbox.allocated();
            if self.replication.is_replica(*conn) {
                // What waits for replicas is there once for all of them.
                replicas = replicas.max(output);
            } else {
                clients += client.as_ref().map_or(output, |client| client.memory(output));
            }
        }
        let (backlog, beyond) = self.replication.backlog_memory();
        let replicas = beyond.max(replicas.saturating_sub(backlog));
        let links = self.cluster.as_ref().map_or(0, Cluster::link_memory);
        let aof_buffer = self.files.aof().map_or(0, |aof| aof.status().buffered_bytes) as usize;
        let dataset = self.db.used_memory();
        let startup = self.startup_memory();
        let overhead = startup + clients + replicas + backlog + links + aof_buffer;
        let used = dataset + overhead;
        MemoryFacts {
            used,
            peak: self.peak_memory.max(used),
            overhead,
            dataset,
            startup,
            backlog,
            replicas,
            clients,
            links,
            aof_buffer,
            vitals: self.vitals.read(),
        }
    }

    /// `MEMORY ...`
    pub(super) fn memory(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        match &args[1].to_ascii_lowercase()[..] {
            b"usage" => self.memory_usage(client, args)?,
            b"stats" => self.memory_stats(client),
            b"doctor" => {
                let diagnosis = self.diagnosis();
                self.reply(client).verbatim(&diagnosis);
            }
            b"purge" => {
                // What was dropped is freed now, all of it; the allocator gives back what it can by itself.
                self.db.keys.free_some(usize::MAX);
                self.reply(client).ok();
            }
            b"malloc-stats" => {
                self.reply(client).verbatim("Stats not supported for the current allocator");
            }
            b"help" => write_help(
                &mut self.reply(client),
                "MEMORY",
                &[
                    "DOCTOR",
                    "    Return memory problems reports.",
                    "MALLOC-STATS",
                    "    Return internal statistics report from the memory allocator.",
                    "PURGE",
                    "    Attempt to purge dirty pages for reclamation by the allocator.",
                    "STATS",
                    "    Return information about the memory usage of the server.",
                    "USAGE <key> [SAMPLES <count>]",
                    "    Return memory in bytes used by <key> and its value. Nested values are",
                    "    sampled up to <count> times (default: 5, 0 means sample all).",
                ],
            ),
            _ => return Err(Fault::subcommand(&args[1], "MEMORY")),
        }
        Ok(())
    }

    fn memory_usage(&mut self, client: &Client, args: Args<'_>) -> Result<(), Fault> {
        let mut index = 3;
        while index < args.len() {
            if !is(&args[index], "SAMPLES") || index + 1 >= args.len() {
                return Err(SYNTAX);
            }
            // All elements are known by their sum: nothing is sampled.
            if parse_i64(&args[index + 1]).ok_or(NOT_INTEGER)? < 0 {
                return Err(SYNTAX);
            }
            index += 2;
        }
        let size = self.db.keys.get(&args[2]).map(Entry::size);
        let mut reply = self.reply(client);
        match size {
            Some(size) => reply.int(size as i64),
            None => reply.null(),
        }
        Ok(())
    }

    fn memory_stats(&mut self, client: &Client) {
        let facts = self.memory_facts();
        let databases: Vec<(u32, usize, usize)> = self
            .db
            .all()
            .filter(|(_, keys)| !keys.is_empty())
            .map(|(number, keys)| (number, Keyspace::table_bytes(), keys.expiring() * 24))
            .collect();
        let keys = self.db.key_count();
        let (cached, libraries) = (self.scripts.cached_bytes(), self.scripts.libraries.used_memory());
        let mut reply = self.reply(client);
        let int = |reply: &mut Reply<'_>, name: &str, value: usize| {
            reply.bulk(name.as_bytes());
            reply.int(value as i64);
        };
        let double = |reply: &mut Reply<'_>, name: &str, value: f64| {
            reply.bulk(name.as_bytes());
            reply.double(value);
        };
        let rss = facts.vitals.rss_bytes as usize;
        reply.map(27 + databases.len());
        int(&mut reply, "peak.allocated", facts.peak);
        int(&mut reply, "total.allocated", facts.used);
        int(&mut reply, "startup.allocated", facts.startup);
        int(&mut reply, "replication.backlog", facts.backlog);
        int(&mut reply, "clients.slaves", facts.replicas);
        int(&mut reply, "clients.normal", facts.clients);
        int(&mut reply, "cluster.links", facts.links);
        int(&mut reply, "aof.buffer", facts.aof_buffer);
        int(&mut reply, "lua.caches", cached);
        int(&mut reply, "functions.caches", libraries);
        for (number, main, expires) in databases {
            reply.bulk(format!("db.{number}").as_bytes());
            reply.map(3);
            int(&mut reply, "overhead.hashtable.main", main);
            int(&mut reply, "overhead.hashtable.expires", expires);
            int(&mut reply, "overhead.hashtable.slot-to-keys", 0);
        }
        int(&mut reply, "overhead.total", facts.overhead);
        int(&mut reply, "keys.count", keys);
        int(&mut reply, "keys.bytes-per-key", facts.dataset.checked_div(keys).unwrap_or(0));
        int(&mut reply, "dataset.bytes", facts.dataset);
        double(&mut reply, "dataset.percentage", facts.dataset_percent());
        double(&mut reply, "peak.percentage", facts.peak_percent());
        for name in ["allocator.allocated", "allocator.active", "allocator.resident"] {
            int(&mut reply, name, if name == "allocator.allocated" { facts.used } else { rss });
        }
        double(&mut reply, "allocator-fragmentation.ratio", facts.fragmentation());
        reply.bulk(b"allocator-fragmentation.bytes");
        reply.int(facts.fragmentation_bytes());
        double(&mut reply, "allocator-rss.ratio", 1.0);
        int(&mut reply, "allocator-rss.bytes", 0);
        double(&mut reply, "rss-overhead.ratio", 1.0);
        int(&mut reply, "rss-overhead.bytes", 0);
        double(&mut reply, "fragmentation", facts.fragmentation());
        reply.bulk(b"fragmentation.bytes");
        reply.int(facts.fragmentation_bytes());
    }

    fn diagnosis(&self) -> String {
        let facts = self.memory_facts();
        if facts.used < TOO_SMALL {
            return "Hi Sam, this instance is empty or is using very little memory, my issue detector can't be used in \
                    these conditions. Please, leave for your mission on Earth and fill it with some data. The new Sam \
                    and I will be back to our programming as soon as I finished rebooting.\n"
                .to_owned();
        }
        let mut findings = Vec::new();
        if facts.peak as f64 > facts.used as f64 * 1.5 {
            findings.push("Peak memory: the peak was more than 150% of what is used now.".to_owned());
        }
        if facts.fragmentation() > 1.4 && facts.fragmentation_bytes() > 10 << 20 {
            findings.push(format!(
                "High total RSS: the process holds {:.2} times the memory that is used.",
                facts.fragmentation()
            ));
        }
        if facts.clients > self.clients.max(1) * 200 * 1024 {
            findings.push("Big client buffers: clients hold more than 200 kB each on average.".to_owned());
        }
        if findings.is_empty() {
            "Hi Sam, I can't find any memory issue in your instance. I can only account for what occurs on this \
             base.\n"
                .to_owned()
        } else {
            format!(
                "Sam, I detected a few issues in this instance memory:\n\n * {}\n",
                findings.join("\n * ")
            )
        }
    }

    /// What scripts and functions take.
    fn script_lines(&self, section: &mut super::info::Section) {
        let (eval, functions) = self.scripts.interpreter_bytes();
        let (cached, libraries) = (self.scripts.cached_bytes(), self.scripts.libraries.used_memory());
        section.line("used_memory_lua", eval);
        section.line("used_memory_vm_eval", eval);
        section.line("used_memory_lua_human", human(eval as u64));
        section.line("used_memory_scripts_eval", cached);
        section.line("number_of_cached_scripts", self.scripts.cache.len());
        section.line("number_of_functions", self.scripts.libraries.function_count());
        section.line("number_of_libraries", self.scripts.libraries.len());
        section.line("used_memory_vm_functions", functions);
        section.line("used_memory_vm_total", eval + functions);
        section.line("used_memory_vm_total_human", human((eval + functions) as u64));
        section.line("used_memory_functions", libraries);
        section.line("used_memory_scripts", cached + libraries);
        section.line("used_memory_scripts_human", human((cached + libraries) as u64));
    }

    /// INFO's section Memory.
    pub(super) fn memory_section(&self, section: &mut super::info::Section) {
        let facts = self.memory_facts();
        let limit = self.config.uint(Key::Maxmemory);
        let total = facts.vitals.total_memory_bytes;
        let rss = facts.vitals.rss_bytes as usize;
        section.line("used_memory", facts.used);
        section.line("used_memory_human", human(facts.used as u64));
        section.line("used_memory_rss", rss);
        section.line("used_memory_rss_human", human(rss as u64));
        section.line("used_memory_peak", facts.peak);
        section.line("used_memory_peak_human", human(facts.peak as u64));
        section.line("used_memory_peak_perc", format_args!("{:.2}%", facts.peak_percent()));
        section.line("used_memory_overhead", facts.overhead);
        section.line("used_memory_startup", facts.startup);
        section.line("used_memory_dataset", facts.dataset);
        section.line("used_memory_dataset_perc", format_args!("{:.2}%", facts.dataset_percent()));
        section.line("allocator_allocated", facts.used);
        section.line("allocator_active", rss);
        section.line("allocator_resident", rss);
        section.line("total_system_memory", total);
        section.line("total_system_memory_human", human(total));
        self.script_lines(section);
        section.line("maxmemory", limit);
        section.line("maxmemory_human", human(limit));
        section.line("maxmemory_policy", self.config.text(Key::MaxmemoryPolicy));
        section.line("allocator_frag_ratio", format_args!("{:.2}", facts.fragmentation()));
        section.line("allocator_frag_bytes", facts.fragmentation_bytes());
        section.line("allocator_rss_ratio", "1.00");
        section.line("allocator_rss_bytes", 0);
        section.line("rss_overhead_ratio", "1.00");
        section.line("rss_overhead_bytes", 0);
        section.line("mem_fragmentation_ratio", format_args!("{:.2}", facts.fragmentation()));
        section.line("mem_fragmentation_bytes", facts.fragmentation_bytes());
        section.line("mem_not_counted_for_evict", facts.replicas + facts.aof_buffer);
        section.line("mem_replication_backlog", facts.backlog);
        section.line("mem_total_replication_buffers", facts.backlog + facts.replicas);
        section.line("mem_clients_slaves", facts.replicas);
        section.line("mem_clients_normal", facts.clients);
        section.line("mem_cluster_links", facts.links);
        section.line("mem_aof_buffer", facts.aof_buffer);
        section.line("mem_allocator", "mimalloc");
        section.flag("active_defrag_running", false);
        section.line("lazyfree_pending_objects", self.db.keys.garbage_len());
        section.line("lazyfreed_objects", self.db.keys.freed());
    }
}

/// As Redis shortens bytes.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [(&str, u32); 5] = [("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    match UNITS.iter().find(|(_, power)| bytes >= 1 << power) {
        Some((unit, power)) => format!("{:.2}{unit}", bytes as f64 / (1_u64 << power) as f64),
        None => format!("{bytes}B"),
    }
}
