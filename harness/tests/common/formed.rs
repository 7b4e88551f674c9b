//! Clusters formed by hand, with replicas where a test wants them (redis-cli chooses for itself).

#![allow(clippy::disallowed_methods, clippy::disallowed_types, dead_code)] // real processes

use std::time::Duration;

use super::servers::{Kind, Servers};

/// A cluster to be formed.
pub struct Plan<'a> {
    /// The first three are masters.
    pub kinds: &'a [Kind],
    /// A replica and its master.
    pub replicas: &'a [(usize, usize)],
    pub node_timeout_ms: u32,
    /// Further arguments of every server of this kind.
    pub further: fn(Kind) -> Vec<&'static str>,
}

/// Masters E0, R1, E2; their replicas R3, E4, R5: each of the other kind.
pub fn mixed() -> Servers {
    use Kind::{Embedded, Redis};
    form(&Plan {
        kinds: &[Embedded, Redis, Embedded, Redis, Embedded, Redis],
        replicas: &[(3, 0), (4, 1), (5, 2)],
        node_timeout_ms: 2000,
        further: |_| vec!["--enable-debug-command", "yes"],
    })
}

/// Forms it and waits until it is whole.
pub fn form(plan: &Plan<'_>) -> Servers {
    let servers = Servers::start_with(plan.kinds, plan.node_timeout_ms, plan.further);
    let first = &servers.nodes[0];
    for (index, range) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")].iter().enumerate() {
        servers.nodes[index].must(&["CLUSTER", "ADDSLOTSRANGE", range.0, range.1]);
    }
    for (index, node) in servers.nodes.iter().enumerate() {
        node.must(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
    }
    for node in &servers.nodes[1..] {
        node.must(&["CLUSTER", "MEET", &first.ip, "7000"]);
    }
    let count = plan.kinds.len();
    let whole = |s: &Servers| s.all_ok(count).then_some(());
    servers.until("all nodes know each other", Duration::from_secs(20), whole);
    for (replica, master) in plan.replicas {
        let id = servers.nodes[*master].id();
        servers.nodes[*replica].must(&["CLUSTER", "REPLICATE", &id]);
    }
    servers.until_in_sync(&plan.replicas.iter().map(|(replica, _)| *replica).collect::<Vec<_>>());
    for (replica, master) in plan.replicas {
        servers.until_known(*replica, &servers.nodes[*master].id());
    }
    servers.until("all is ok", Duration::from_secs(20), whole);
    servers
}

/// Waits until each of these replicas holds exactly what its master holds.
#[track_caller]
pub fn until_equal(servers: &Servers, replicas: &[usize]) {
    servers.until("replicas equal their masters", Duration::from_secs(20), |s| {
        let equal = |replica: &usize| {
            let master = s.by_id(&s.nodes[*replica].follows()?);
            let digest = |node: usize| s.nodes[node].text(&["DEBUG", "DIGEST"]);
            (digest(master)? == digest(*replica)?).then_some(())
        };
        replicas.iter().all(|replica| equal(replica).is_some()).then_some(())
    });
}
