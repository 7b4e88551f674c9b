//! A Redis Cluster node as a process.
