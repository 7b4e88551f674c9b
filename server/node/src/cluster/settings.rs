//! What the cluster room must be told by the configuration. Every field may change while the node runs.

use std::net::IpAddr;

use super::FailoverTiming;
use crate::zoo::Zoo;

/// Which word of a node's address clients are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointType {
    /// Its ip.
    #[default]
    Ip,
    /// Its announced host name, `?` if it has none.
    Hostname,
    /// Nothing: the client keeps the host it used.
    Unknown,
}

/// Settings; the directive that fills a field is named where the names differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// `cluster-node-timeout`.
    pub node_timeout_ms: u64,
    /// `port`.
    pub port: u16,
    /// `cluster-port`, or port + 10000.
    pub bus_port: u16,
    /// `cluster-announce-ip`, empty for none.
    pub announce_ip: String,
    /// `cluster-announce-port`, 0 for `port`.
    pub announce_port: u16,
    /// `cluster-announce-bus-port`, 0 for `bus_port`.
    pub announce_bus_port: u16,
    /// `cluster-announce-hostname`, empty for none.
    pub announce_hostname: String,
    /// `bind-source-addr`: dial the bus from here.
    pub source_addr: Option<IpAddr>,
    /// `cluster-require-full-coverage`.
    pub require_full_coverage: bool,
    /// `cluster-allow-reads-when-down`.
    pub allow_reads_when_down: bool,
    /// `cluster-allow-pubsubshard-when-down`.
    pub allow_pubsubshard_when_down: bool,
    /// `cluster-migration-barrier`.
    pub migration_barrier: usize,
    /// `cluster-allow-replica-migration`.
    pub allow_replica_migration: bool,
    /// `cluster-replica-validity-factor`; 0: never too old.
    pub validity_factor: u64,
    /// `cluster-replica-no-failover`.
    pub no_failover: bool,
    /// `cluster-link-sendbuf-limit` in bytes; 0: none.
    pub link_sendbuf_limit: usize,
    /// `cluster-preferred-endpoint-type`.
    pub preferred_endpoint: EndpointType,
    /// `failover-timing`.
    pub timing: FailoverTiming,
    /// `repl-ping-replica-period` in seconds.
    pub repl_ping_period_s: u64,
    /// `cluster-blacklist-ttl` in seconds: so long a forgotten node may not come back through gossip.
    pub blacklist_ttl_s: u64,
    /// A bus packet that claims more bytes ends its link.
    pub max_packet_bytes: usize,
    /// The bug that this node has on purpose.
    pub zoo: Zoo,
}

impl Default for ClusterSettings {
    /// The defaults of Redis 7.0.15, and the fast timing.
    fn default() -> Self {
        Self {
            node_timeout_ms: 15_000,
            port: 6379,
            bus_port: 16_379,
            announce_ip: String::new(),
            announce_port: 0,
            announce_bus_port: 0,
            announce_hostname: String::new(),
            source_addr: None,
            require_full_coverage: true,
            allow_reads_when_down: false,
            allow_pubsubshard_when_down: true,
            migration_barrier: 1,
            allow_replica_migration: true,
            validity_factor: 10,
            no_failover: false,
            link_sendbuf_limit: 0,
            preferred_endpoint: EndpointType::Ip,
            timing: FailoverTiming::default(),
            repl_ping_period_s: 10,
            blacklist_ttl_s: 60,
            max_packet_bytes: 64 * 1024 * 1024,
            zoo: Zoo::default(),
        }
    }
}
