//! How many files a cluster needs open in the controller, and the limit for them.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::ProxyError;

/// Listeners, logs, the record, the runtime's own.
const FILES_BESIDE: u64 = 200;
/// Connections between two nodes of one shard that are not the bus: replication, cached connections of
/// MIGRATE, and those that a fault keeps while their successors are made.
const DATA_CONNS_PER_NODE: u64 = 8;

/// Open files that the whole controller needs for a cluster: each proxied connection has two sockets here,
/// and each client's one more.
///
/// Every node keeps a bus connection to every other one, every client one to every node.
pub fn sockets_needed(nodes: u64, clients: u64) -> u64 {
    let bus = nodes * nodes.saturating_sub(1);
    let data = nodes * DATA_CONNS_PER_NODE;
    let client = nodes * clients;
    let listeners = 2 * nodes;
    let observer = 2 * nodes;
    let logs = 2 * nodes;
    2 * (bus + data) + 3 * client + listeners + observer + logs + FILES_BESIDE
}

/// Raises the limit of open files to at least `need` if it is lower, the hard limit included where that is
/// allowed; answers the limit.
pub fn ensure_open_files(need: u64) -> Result<u64, ProxyError> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| ProxyError::Setup(errno.into()))?;
    if soft >= need {
        return Ok(soft);
    }
    // All that is allowed: faults leave connections behind that nobody can count beforehand.
    if hard >= need && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Ok(hard);
    }
    if setrlimit(Resource::RLIMIT_NOFILE, need, need.max(hard)).is_ok() {
        return Ok(need);
    }
    Err(ProxyError::OpenFiles { need, have: hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_of_96_nodes_needs_some_18_000_sockets_for_its_bus() {
        let need = sockets_needed(96, 0);
        assert!((18_240..22_000).contains(&need), "{need}");
    }

    #[test]
    fn an_impossible_need_is_an_error_that_names_both_numbers() {
        let error = ensure_open_files(u64::MAX / 2).unwrap_err();
        assert!(matches!(error, ProxyError::OpenFiles { .. }), "{error}");
    }
}
