//! The one table of directives: name, alias, kind, default, flags, meaning. Everything else in this room
//! reads it.
//!
//! Names, kinds, bounds and defaults are those of redis-server 7.0.15 (a test asks it), plus the few that
//! its and valkey's test suites set. [`ACCEPTED`] marks a directive that is parsed, kept, shown and
//! rewritten, but changes nothing here.

use super::value::Kind;
use Kind::{
    Addresses, Choice, Choices, DirName, EventClasses, FileName, Flag, Hostname, Int, Memory,
    MemoryOrPercent, Octal, OomScores, OutputLimits, Percentiles, ReplicaOf, SavePoints, Switch, Text,
};

/// Flag bits of a [`Directive`].
pub type Flags = u8;
/// No flag.
pub const NONE: Flags = 0;
/// Set at start only.
pub const IMMUTABLE: Flags = 1;
/// Set at run time only if `enable-protected-configs` allows it.
pub const PROTECTED: Flags = 2;
/// `CONFIG GET` shows it only by its exact name.
pub const HIDDEN: Flags = 4;
/// Accepted for compatibility: it has no effect on this node.
pub const ACCEPTED: Flags = 8;

const I32: i64 = i32::MAX as i64;
const U32: i64 = u32::MAX as i64;

/// One line of the table.
#[derive(Debug)]
pub struct Directive {
    /// Its name in lower case.
    pub name: &'static str,
    /// Older names, with the same meaning.
    pub aliases: &'static [&'static str],
    /// What values it takes.
    pub kind: Kind,
    /// The default as a file would say it.
    pub default: &'static str,
    /// [`IMMUTABLE`] and so on.
    pub flags: Flags,
    /// What it is for, with its unit.
    pub doc: &'static str,
}

impl Directive {
    /// True when all bits of `flag` are set.
    pub const fn has(&self, flag: Flags) -> bool {
        self.flags & flag == flag
    }

    /// True for its name or one of its aliases (in lower case).
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

macro_rules! directives {
    ($(
        $key:ident, $name:literal, $aliases:expr, $kind:expr, $default:literal, $flags:expr, $doc:literal;
    )*) => {
        /// A directive, by which its value is asked for. Its number is its place in [`DIRECTIVES`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Key {
            $(#[doc = $doc] $key,)*
        }

        /// All keys, in the order of [`DIRECTIVES`].
        pub const KEYS: &[Key] = &[$(Key::$key,)*];

        /// The table, sorted by name.
        pub static DIRECTIVES: &[Directive] = &[
            $(Directive {
                name: $name, aliases: $aliases, kind: $kind, default: $default, flags: $flags, doc: $doc,
            },)*
        ];
    };
}

impl Key {
    /// The directive's line in the table.
    pub fn directive(self) -> &'static Directive {
        &DIRECTIVES[self as usize]
    }

    /// The key of a name or alias; the case does not matter.
    pub fn by_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        KEYS.iter().copied().find(|key| key.directive().is_called(&name))
    }
}

#[rustfmt::skip] // one directive, two lines: name and value above, meaning below
directives! {
    AclPubsubDefault, "acl-pubsub-default", &[],
        Choice(&["allchannels", "resetchannels"]), "resetchannels", NONE,
        "Channels that a new user may use without being told so.";
    Aclfile, "aclfile", &[], Text, "", IMMUTABLE,
        "File of ACL users, in the place of `user` lines.";
    AcllogMaxLen, "acllog-max-len", &[], Int { min: 0, max: i64::MAX }, "128", NONE,
        "Entries of ACL LOG.";
    ActiveDefragCycleMax, "active-defrag-cycle-max", &[], Int { min: 1, max: 99 }, "25", ACCEPTED,
        "Memory is not defragmented.";
    ActiveDefragCycleMin, "active-defrag-cycle-min", &[], Int { min: 1, max: 99 }, "1", ACCEPTED,
        "Memory is not defragmented.";
    ActiveDefragIgnoreBytes, "active-defrag-ignore-bytes", &[], Memory { min: 1 }, "104857600", ACCEPTED,
        "Memory is not defragmented.";
    ActiveDefragMaxScanFields, "active-defrag-max-scan-fields", &[],
        Int { min: 1, max: i64::MAX }, "1000", ACCEPTED,
        "Memory is not defragmented.";
    ActiveDefragThresholdLower, "active-defrag-threshold-lower", &[],
        Int { min: 0, max: 1000 }, "10", ACCEPTED,
        "Memory is not defragmented.";
    ActiveDefragThresholdUpper, "active-defrag-threshold-upper", &[],
        Int { min: 0, max: 1000 }, "100", ACCEPTED,
        "Memory is not defragmented.";
    ActiveExpireEffort, "active-expire-effort", &[], Int { min: 1, max: 10 }, "1", ACCEPTED,
        "How hard the cron looks for expired keys, 1 to 10.";
    Activedefrag, "activedefrag", &[], Flag, "no", ACCEPTED,
        "Memory is not defragmented.";
    Activerehashing, "activerehashing", &[], Flag, "yes", ACCEPTED,
        "Tables are not rehashed by a cron.";
    AlwaysShowLogo, "always-show-logo", &[], Flag, "no", IMMUTABLE,
        "Print the banner with the process id even when stdout is no terminal.";
    AofDisableAutoGc, "aof-disable-auto-gc", &[], Flag, "no", ACCEPTED,
        "Keep old AOF files (Redis' tests).";
    AofLoadTruncated, "aof-load-truncated", &[], Flag, "yes", NONE,
        "Load an AOF whose last command is cut off, instead of refusing to start.";
    AofRewriteIncrementalFsync, "aof-rewrite-incremental-fsync", &[], Flag, "yes", ACCEPTED,
        "fsync while a rewrite goes on.";
    AofTimestampEnabled, "aof-timestamp-enabled", &[], Flag, "no", ACCEPTED,
        "Write #TS: annotations.";
    AofUseRdbPreamble, "aof-use-rdb-preamble", &[], Flag, "yes", ACCEPTED,
        "The base AOF file is an RDB.";
    AofRewriteCpulist, "aof_rewrite_cpulist", &[], Text, "", IMMUTABLE | ACCEPTED,
        "No process is pinned.";
    Appenddirname, "appenddirname", &[], DirName, "appendonlydir", IMMUTABLE,
        "Directory, in dir, of the AOF's files.";
    Appendfilename, "appendfilename", &[], FileName, "appendonly.aof", IMMUTABLE,
        "First part of the names of the AOF's files.";
    Appendfsync, "appendfsync", &[], Choice(&["everysec", "always", "no"]), "everysec", NONE,
        "When the AOF reaches the disk: before the reply, every second, or when the kernel likes.";
    Appendonly, "appendonly", &[], Flag, "no", NONE,
        "Log every write to the AOF.";
    AutoAofRewriteMinSize, "auto-aof-rewrite-min-size", &[], Memory { min: 0 }, "67108864", NONE,
        "Bytes under which the AOF is never rewritten by itself.";
    AutoAofRewritePercentage, "auto-aof-rewrite-percentage", &[], Int { min: 0, max: I32 }, "100", NONE,
        "Growth in per cent, since the last rewrite, that starts one; 0 = never.";
    BgsaveCpulist, "bgsave_cpulist", &[], Text, "", IMMUTABLE | ACCEPTED,
        "No process is pinned.";
    Bind, "bind", &[], Addresses, "* -::*", NONE,
        "Addresses to listen on, clients and bus alike; a leading - means: ignore it where it does not exist.";
    BindSourceAddr, "bind-source-addr", &[], Text, "", NONE,
        "Source address of bus and replication connections.";
    BioCpulist, "bio_cpulist", &[], Text, "", IMMUTABLE | ACCEPTED,
        "No thread is pinned.";
    BusyReplyThreshold, "busy-reply-threshold", &["lua-time-limit"],
        Int { min: 0, max: i64::MAX }, "5000", ACCEPTED,
        "ms of a script after which others are answered BUSY.";
    ClientOutputBufferLimit, "client-output-buffer-limit", &[],
        OutputLimits, "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", NONE,
        "Per class: hard limit, soft limit (bytes), s over the soft limit; then the connection is closed.";
    ClientQueryBufferLimit, "client-query-buffer-limit", &[],
        Memory { min: 1_048_576 }, "1073741824", NONE,
        "Bytes of one unfinished request after which its connection is closed.";
    ClusterAllowPubsubshardWhenDown, "cluster-allow-pubsubshard-when-down", &[], Flag, "yes", NONE,
        "Serve shard pub/sub while the cluster is down.";
    ClusterAllowReadsWhenDown, "cluster-allow-reads-when-down", &[], Flag, "no", NONE,
        "Serve reads while the cluster is down.";
    ClusterAllowReplicaMigration, "cluster-allow-replica-migration", &[], Flag, "yes", NONE,
        "Move to a master without replicas, and follow the new owner when the last slot is taken.";
    ClusterAnnounceBusPort, "cluster-announce-bus-port", &[], Int { min: 0, max: 65_535 }, "0", NONE,
        "Bus port told to others; 0 = the real one.";
    ClusterAnnounceHostname, "cluster-announce-hostname", &[], Hostname, "", NONE,
        "Hostname told to others.";
    ClusterAnnounceIp, "cluster-announce-ip", &[], Text, "", NONE,
        "Address told to others; empty = what they see.";
    ClusterAnnouncePort, "cluster-announce-port", &[], Int { min: 0, max: 65_535 }, "0", NONE,
        "Client port told to others; 0 = the real one.";
    ClusterAnnounceTlsPort, "cluster-announce-tls-port", &[], Int { min: 0, max: 65_535 }, "0", ACCEPTED,
        "TLS port told to others.";
    ClusterBlacklistTtl, "cluster-blacklist-ttl", &[], Int { min: 0, max: I32 }, "60", HIDDEN,
        "Valkey: s for which a forgotten node is not met again.";
    ClusterConfigFile, "cluster-config-file", &[], Text, "nodes.conf", IMMUTABLE,
        "Name, in dir, of the file that the node keeps its view of the cluster in, and locks.";
    ClusterEnabled, "cluster-enabled", &[], Flag, "no", IMMUTABLE,
        "Be a node of a cluster.";
    ClusterLinkSendbufLimit, "cluster-link-sendbuf-limit", &[], Memory { min: 0 }, "0", NONE,
        "Bytes waiting on a bus link after which it is closed; 0 = no limit.";
    ClusterMigrationBarrier, "cluster-migration-barrier", &[], Int { min: 0, max: I32 }, "1", NONE,
        "Replicas that a master must keep before one of them may move to an orphaned master.";
    ClusterNodeTimeout, "cluster-node-timeout", &[], Int { min: 0, max: i64::MAX }, "15000", NONE,
        "ms without an answer after which a node is suspected.";
    ClusterPingInterval, "cluster-ping-interval", &[],
        Int { min: 1, max: I32 }, "1000", HIDDEN | ACCEPTED,
        "Valkey: ms between pings of the cluster cron.";
    ClusterPort, "cluster-port", &[], Int { min: 0, max: 65535 }, "0", IMMUTABLE,
        "Bus port; 0 = port + 10000.";
    ClusterPreferredEndpointType, "cluster-preferred-endpoint-type", &[],
        Choice(&["ip", "hostname", "unknown-endpoint"]), "ip", NONE,
        "What clients are told in redirections and CLUSTER SLOTS.";
    ClusterReplicaNoFailover, "cluster-replica-no-failover", &["cluster-slave-no-failover"],
        Flag, "no", NONE,
        "Never start an election by itself.";
    ClusterReplicaValidityFactor, "cluster-replica-validity-factor", &["cluster-slave-validity-factor"],
        Int { min: 0, max: I32 }, "10", NONE,
        "Node timeouts of data age after which a replica does not stand for election; 0 = any age.";
    ClusterRequireFullCoverage, "cluster-require-full-coverage", &[], Flag, "yes", NONE,
        "Refuse all keys when some slot has no owner.";
    ClusterSaveConfig, "cluster-save-config", &[], Switch, "no", IMMUTABLE | HIDDEN | ACCEPTED,
        "Takes no value. Not a Redis directive: our node always saves nodes.conf, at the start and at each change.";
    CrashLogEnabled, "crash-log-enabled", &[], Flag, "yes", ACCEPTED,
        "No crash report is written.";
    CrashMemcheckEnabled, "crash-memcheck-enabled", &[], Flag, "yes", ACCEPTED,
        "No crash report is written.";
    Daemonize, "daemonize", &[], Flag, "no", IMMUTABLE,
        "Go to the background.";
    Databases, "databases", &[], Int { min: 1, max: I32 }, "16", IMMUTABLE,
        "Number of databases; a cluster uses only 0.";
    Dbfilename, "dbfilename", &[], FileName, "dump.rdb", PROTECTED,
        "Name, in dir, of the RDB file.";
    Dir, "dir", &[], Text, "", PROTECTED,
        "Working directory: all data files live in it.";
    DisableThp, "disable-thp", &[], Flag, "yes", IMMUTABLE,
        "No transparent huge pages for this process: they cost memory that is not used.";
    DynamicHz, "dynamic-hz", &[], Flag, "yes", ACCEPTED,
        "The cron's rate does not depend on clients.";
    EnableDebugAssert, "enable-debug-assert", &[],
        Choice(&["no", "yes", "local"]), "no", IMMUTABLE | HIDDEN | ACCEPTED,
        "Valkey: its test suite sets it.";
    EnableDebugCommand, "enable-debug-command", &[], Choice(&["no", "yes", "local"]), "no", IMMUTABLE,
        "Who may call DEBUG: nobody, all, or loopback clients.";
    EnableModuleCommand, "enable-module-command", &[],
        Choice(&["no", "yes", "local"]), "no", IMMUTABLE | ACCEPTED,
        "There are no modules.";
    EnableProtectedConfigs, "enable-protected-configs", &[],
        Choice(&["no", "yes", "local"]), "no", IMMUTABLE,
        "Who may CONFIG SET dir and dbfilename: nobody, all, or loopback clients.";
    FailoverTiming, "failover-timing", &[], Choice(&["fast", "redis"]), "fast", HIDDEN,
        "Not a Redis directive: the waits of a failover, as short as is safe or those of the original.";
    HashMaxListpackEntries, "hash-max-listpack-entries", &["hash-max-ziplist-entries"],
        Int { min: 0, max: i64::MAX }, "512", ACCEPTED,
        "Encoding threshold: fields.";
    HashMaxListpackValue, "hash-max-listpack-value", &["hash-max-ziplist-value"],
        Memory { min: 0 }, "64", ACCEPTED,
        "Encoding threshold: bytes.";
    HideUserDataFromLog, "hide-user-data-from-log", &[], Flag, "no", HIDDEN | ACCEPTED,
        "Valkey: its test suite sets it.";
    HllSparseMaxBytes, "hll-sparse-max-bytes", &[], Memory { min: 0 }, "3000", ACCEPTED,
        "Encoding threshold: bytes.";
    Hz, "hz", &[], Int { min: 0, max: I32 }, "10", NONE,
        "Runs of the server cron in a second, 1 to 500.";
    IgnoreWarnings, "ignore-warnings", &[], Text, "", ACCEPTED,
        "No warning of the host is checked.";
    IoThreads, "io-threads", &[], Int { min: 1, max: 128 }, "1", IMMUTABLE | ACCEPTED,
        "Sockets have one thread.";
    IoThreadsDoReads, "io-threads-do-reads", &[], Flag, "no", IMMUTABLE | ACCEPTED,
        "Sockets have one thread.";
    JemallocBgThread, "jemalloc-bg-thread", &[], Flag, "yes", ACCEPTED,
        "Another allocator is used.";
    KeyLoadDelay, "key-load-delay", &[], Int { min: i32::MIN as i64, max: I32 }, "0", HIDDEN,
        "us to sleep per key while loading (Redis' tests).";
    LatencyMonitorThreshold, "latency-monitor-threshold", &[],
        Int { min: 0, max: i64::MAX }, "0", ACCEPTED,
        "ms; there is no LATENCY history.";
    LatencyTracking, "latency-tracking", &[], Flag, "yes", NONE,
        "Latency percentiles of commands are kept.";
    LatencyTrackingInfoPercentiles, "latency-tracking-info-percentiles", &[],
        Percentiles, "50 99 99.9", ACCEPTED,
        "There are no latency percentiles.";
    LazyfreeLazyEviction, "lazyfree-lazy-eviction", &[], Flag, "no", NONE,
        "Evicted keys are handed on as UNLINK; what they held is freed bit by bit in any case.";
    LazyfreeLazyExpire, "lazyfree-lazy-expire", &[], Flag, "no", NONE,
        "Expired keys are handed on as UNLINK; what they held is freed bit by bit in any case.";
    LazyfreeLazyServerDel, "lazyfree-lazy-server-del", &[], Flag, "no", ACCEPTED,
        "Nothing is freed on another thread.";
    LazyfreeLazyUserDel, "lazyfree-lazy-user-del", &[], Flag, "no", ACCEPTED,
        "Nothing is freed on another thread.";
    LazyfreeLazyUserFlush, "lazyfree-lazy-user-flush", &[], Flag, "no", ACCEPTED,
        "Nothing is freed on another thread.";
    LfuDecayTime, "lfu-decay-time", &[], Int { min: 0, max: I32 }, "1", NONE,
        "Minutes after which a counter of accesses loses one; 0 = never.";
    LfuLogFactor, "lfu-log-factor", &[], Int { min: 0, max: I32 }, "10", NONE,
        "How much rarer each further count of accesses is.";
    ListCompressDepth, "list-compress-depth", &[], Int { min: 0, max: I32 }, "0", ACCEPTED,
        "Encoding threshold: nodes.";
    ListMaxListpackSize, "list-max-listpack-size", &["list-max-ziplist-size"],
        Int { min: i32::MIN as i64, max: I32 }, "-2", ACCEPTED,
        "Encoding threshold: entries, or -1 to -5 for 4 to 64 kB.";
    LoadingProcessEventsIntervalBytes, "loading-process-events-interval-bytes", &[],
        Int { min: 1024, max: I32 }, "2097152", HIDDEN | ACCEPTED,
        "Loading is cut by pieces of files.";
    Logfile, "logfile", &[], Text, "", IMMUTABLE,
        "File that the log is appended to; empty = stdout.";
    Loglevel, "loglevel", &[], Choice(&["debug", "verbose", "notice", "warning"]), "notice", NONE,
        "The least level that is logged.";
    Masterauth, "masterauth", &[], Text, "", NONE,
        "Password sent to the master.";
    Masteruser, "masteruser", &[], Text, "", NONE,
        "User name sent to the master.";
    Maxclients, "maxclients", &[], Int { min: 1, max: U32 }, "10000", NONE,
        "Clients connected at once; more are refused.";
    Maxmemory, "maxmemory", &[], Memory { min: 0 }, "0", NONE,
        "Bytes of data above which writes are refused or keys evicted; 0 = no limit.";
    MaxmemoryClients, "maxmemory-clients", &[], MemoryOrPercent, "0", ACCEPTED,
        "Bytes, or per cent of maxmemory, that client buffers may use.";
    MaxmemoryEvictionTenacity, "maxmemory-eviction-tenacity", &[],
        Int { min: 0, max: 100 }, "10", NONE,
        "How many keys one eviction may take at once, 0 to 100.";
    MaxmemoryPolicy, "maxmemory-policy", &[],
        Choice(&["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl", "allkeys-lru",
            "allkeys-lfu", "allkeys-random", "noeviction"]),
        "noeviction", NONE,
        "What is evicted at maxmemory.";
    MaxmemorySamples, "maxmemory-samples", &[], Int { min: 1, max: I32 }, "5", NONE,
        "Keys looked at for each eviction.";
    MinReplicasMaxLag, "min-replicas-max-lag", &["min-slaves-max-lag"],
        Int { min: 0, max: I32 }, "10", NONE,
        "s since its last ACK for which a replica counts as good.";
    MinReplicasToWrite, "min-replicas-to-write", &["min-slaves-to-write"],
        Int { min: 0, max: I32 }, "0", NONE,
        "Good replicas without which writes are refused; 0 = none needed.";
    NoAppendfsyncOnRewrite, "no-appendfsync-on-rewrite", &[], Flag, "no", ACCEPTED,
        "Do not fsync the AOF during a rewrite.";
    NotifyKeyspaceEvents, "notify-keyspace-events", &[], EventClasses, "", NONE,
        "Classes of keyspace events that are published.";
    OomScoreAdj, "oom-score-adj", &[], Choice(&["no", "yes", "relative", "absolute"]), "no", ACCEPTED,
        "The kernel's OOM scores are left alone.";
    OomScoreAdjValues, "oom-score-adj-values", &[], OomScores, "0 200 800", ACCEPTED,
        "The kernel's OOM scores are left alone.";
    Pidfile, "pidfile", &[], Text, "", IMMUTABLE,
        "File that the process id is written to.";
    Port, "port", &[], Int { min: 0, max: 65535 }, "6379", NONE,
        "Port for clients; 0 = none.";
    ProcTitleTemplate, "proc-title-template", &[], Text, "{title} {listen-addr} {server-mode}", ACCEPTED,
        "The process title is left alone.";
    PropagationErrorBehavior, "propagation-error-behavior", &[],
        Choice(&["ignore", "panic", "panic-on-replicas"]), "ignore", ACCEPTED,
        "What a replica does when a propagated command fails.";
    ProtectedMode, "protected-mode", &[], Flag, "yes", NONE,
        "Refuse clients from other hosts while there is no password and no bind.";
    ProtoMaxBulkLen, "proto-max-bulk-len", &[], Memory { min: 1_048_576 }, "536870912", NONE,
        "Bytes of the longest argument of a request.";
    RdbDelSyncFiles, "rdb-del-sync-files", &[], Flag, "no", ACCEPTED,
        "No file is left by a full sync.";
    RdbKeySaveDelay, "rdb-key-save-delay", &[],
        Int { min: i32::MIN as i64, max: I32 }, "0", HIDDEN | ACCEPTED,
        "us to sleep per key while saving (Redis' tests).";
    RdbSaveIncrementalFsync, "rdb-save-incremental-fsync", &[], Flag, "yes", ACCEPTED,
        "fsync while an RDB is written.";
    Rdbchecksum, "rdbchecksum", &[], Flag, "yes", IMMUTABLE,
        "Write and check the CRC64 of RDB files.";
    Rdbcompression, "rdbcompression", &[], Flag, "yes", ACCEPTED,
        "Compress strings in RDB files.";
    ReplBacklogSize, "repl-backlog-size", &[], Memory { min: 1 }, "1048576", NONE,
        "Bytes of the replication stream kept for partial syncs.";
    ReplBacklogTtl, "repl-backlog-ttl", &[], Int { min: 0, max: i64::MAX }, "3600", NONE,
        "s after the last replica is gone until the backlog is freed; 0 = never.";
    ReplDisableTcpNodelay, "repl-disable-tcp-nodelay", &[], Flag, "no", ACCEPTED,
        "Nagle's algorithm on replica links.";
    ReplDisklessLoad, "repl-diskless-load", &[],
        Choice(&["disabled", "on-empty-db", "swapdb"]), "disabled", ACCEPTED,
        "How a replica loads a full sync.";
    ReplDisklessSync, "repl-diskless-sync", &[], Flag, "yes", ACCEPTED,
        "Send the RDB of a full sync without a file; ours always does.";
    ReplDisklessSyncDelay, "repl-diskless-sync-delay", &[], Int { min: 0, max: I32 }, "5", NONE,
        "s to wait for more replicas before a full sync begins.";
    ReplDisklessSyncMaxReplicas, "repl-diskless-sync-max-replicas", &[],
        Int { min: 0, max: I32 }, "0", ACCEPTED,
        "Replicas that end the wait of repl-diskless-sync-delay early.";
    ReplPingReplicaPeriod, "repl-ping-replica-period", &["repl-ping-slave-period"],
        Int { min: 1, max: I32 }, "10", NONE,
        "s between PINGs in the replication stream.";
    ReplTimeout, "repl-timeout", &[], Int { min: 1, max: I32 }, "60", NONE,
        "s without a byte after which a replication link is closed.";
    ReplicaAnnounceIp, "replica-announce-ip", &["slave-announce-ip"], Text, "", NONE,
        "Address told to the master.";
    ReplicaAnnouncePort, "replica-announce-port", &["slave-announce-port"],
        Int { min: 0, max: 65_535 }, "0", NONE,
        "Port told to the master; 0 = the real one.";
    ReplicaAnnounced, "replica-announced", &[], Flag, "yes", ACCEPTED,
        "Sentinel only.";
    ReplicaIgnoreDiskWriteErrors, "replica-ignore-disk-write-errors", &[], Flag, "no", ACCEPTED,
        "Go on as a replica though the disk fails.";
    ReplicaIgnoreMaxmemory, "replica-ignore-maxmemory", &["slave-ignore-maxmemory"],
        Flag, "yes", NONE,
        "A replica evicts nothing by itself.";
    ReplicaLazyFlush, "replica-lazy-flush", &["slave-lazy-flush"], Flag, "no", ACCEPTED,
        "Nothing is freed on another thread.";
    ReplicaPriority, "replica-priority", &["slave-priority"], Int { min: 0, max: I32 }, "100", NONE,
        "Sentinel only; shown in INFO.";
    ReplicaReadOnly, "replica-read-only", &["slave-read-only"], Flag, "yes", NONE,
        "Refuse writes of clients on a replica.";
    ReplicaServeStaleData, "replica-serve-stale-data", &["slave-serve-stale-data"], Flag, "yes", NONE,
        "Answer reads while the link to the master is down.";
    Replicaof, "replicaof", &["slaveof"], ReplicaOf, "", IMMUTABLE,
        "Master of a server that is not in a cluster.";
    Requirepass, "requirepass", &[], Text, "", NONE,
        "Password of the default user; empty = none.";
    SanitizeDumpPayload, "sanitize-dump-payload", &[], Choice(&["no", "yes", "clients"]), "no", ACCEPTED,
        "Check RESTORE payloads deeply.";
    Save, "save", &[], SavePoints, "3600 1 300 100 60 10000", NONE,
        "Pairs of s and changes: save when so many changes are so old; empty = never.";
    ServerCpulist, "server_cpulist", &[], Text, "", IMMUTABLE | ACCEPTED,
        "No thread is pinned.";
    SetMaxIntsetEntries, "set-max-intset-entries", &[], Int { min: 0, max: i64::MAX }, "512", ACCEPTED,
        "Encoding threshold: members.";
    SetProcTitle, "set-proc-title", &[], Flag, "yes", IMMUTABLE | ACCEPTED,
        "The process title is left alone.";
    ShutdownOnSigint, "shutdown-on-sigint", &[],
        Choices(&["default", "save", "nosave", "now", "force"]), "default", ACCEPTED,
        "What SIGINT means for saving.";
    ShutdownOnSigterm, "shutdown-on-sigterm", &[],
        Choices(&["default", "save", "nosave", "now", "force"]), "default", ACCEPTED,
        "What SIGTERM means for saving.";
    ShutdownTimeout, "shutdown-timeout", &[], Int { min: 0, max: I32 }, "10", NONE,
        "s that a shutdown waits for replicas to catch up.";
    SlowlogLogSlowerThan, "slowlog-log-slower-than", &[],
        Int { min: -1, max: i64::MAX }, "10000", ACCEPTED,
        "us from which a command is in SLOWLOG; -1 = never.";
    SlowlogMaxLen, "slowlog-max-len", &[], Int { min: 0, max: i64::MAX }, "128", ACCEPTED,
        "Entries of SLOWLOG.";
    SocketMarkId, "socket-mark-id", &[], Int { min: 0, max: U32 }, "0", IMMUTABLE | ACCEPTED,
        "SO_MARK of sockets.";
    StopWritesOnBgsaveError, "stop-writes-on-bgsave-error", &[], Flag, "yes", ACCEPTED,
        "Refuse writes after a failed save.";
    StreamNodeMaxBytes, "stream-node-max-bytes", &[], Memory { min: 0 }, "4096", NONE,
        "Bytes of a full node of a stream; 0 = no bound.";
    StreamNodeMaxEntries, "stream-node-max-entries", &[], Int { min: 0, max: i64::MAX }, "100", NONE,
        "Entries of a full node of a stream; 0 = no bound.";
    Supervised, "supervised", &[],
        Choice(&["upstart", "systemd", "auto", "no"]), "no", IMMUTABLE | ACCEPTED,
        "No supervisor is told.";
    SyslogEnabled, "syslog-enabled", &[], Flag, "no", IMMUTABLE | ACCEPTED,
        "Nothing goes to syslog.";
    SyslogFacility, "syslog-facility", &[],
        Choice(&["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]),
        "local0", IMMUTABLE | ACCEPTED,
        "Nothing goes to syslog.";
    SyslogIdent, "syslog-ident", &[], Text, "redis", IMMUTABLE | ACCEPTED,
        "Nothing goes to syslog.";
    TcpBacklog, "tcp-backlog", &[], Int { min: 0, max: I32 }, "511", IMMUTABLE,
        "Connections waiting to be accepted.";
    TcpKeepalive, "tcp-keepalive", &[], Int { min: 0, max: I32 }, "300", NONE,
        "s of silence after which TCP probes a client; 0 = never.";
    Timeout, "timeout", &[], Int { min: 0, max: I32 }, "0", NONE,
        "s after which an idle client is closed; 0 = never.";
    TlsCluster, "tls-cluster", &[], Flag, "no", ACCEPTED,
        "There is no TLS: yes is refused.";
    TlsPort, "tls-port", &[], Int { min: 0, max: 65_535 }, "0", ACCEPTED,
        "There is no TLS: a port is refused.";
    TlsReplication, "tls-replication", &[], Flag, "no", ACCEPTED,
        "There is no TLS: yes is refused.";
    TrackingTableMaxKeys, "tracking-table-max-keys", &[],
        Int { min: 0, max: i64::MAX }, "1000000", ACCEPTED,
        "There is no client-side caching.";
    Unixsocket, "unixsocket", &[], Text, "", IMMUTABLE,
        "Path of a unix socket to listen on too.";
    Unixsocketperm, "unixsocketperm", &[], Octal, "0", IMMUTABLE | ACCEPTED,
        "There is no unix socket.";
    UseExitOnPanic, "use-exit-on-panic", &[], Flag, "no", HIDDEN | ACCEPTED,
        "Exit instead of abort (Redis' tests).";
    WatchdogPeriod, "watchdog-period", &[], Int { min: 0, max: I32 }, "0", HIDDEN | ACCEPTED,
        "There is no watchdog.";
    ZsetMaxListpackEntries, "zset-max-listpack-entries", &["zset-max-ziplist-entries"],
        Int { min: 0, max: i64::MAX }, "128", ACCEPTED,
        "Encoding threshold: members.";
    ZsetMaxListpackValue, "zset-max-listpack-value", &["zset-max-ziplist-value"],
        Memory { min: 0 }, "64", ACCEPTED,
        "Encoding threshold: bytes.";
}
