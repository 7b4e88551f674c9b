//! The loopback address plan: every node and every client has an address of its own, so that the proxy knows from the
//! source address who is calling, and any number of clusters live side by side.
//!
//! | | real address | address the cluster knows |
//! |---|---|---|
//! | node i | 127.T.0.i | 127.T.1.i |
//! | client c | 127.T.(4 + c/250).(1 + c mod 250) | - |
//! | controller | 127.T.3.1 | - |

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use slotstorm_fabric::Endpoint;

use crate::backend::{BackendError, SeenBy};

/// The port on 127.T.3.1 whose listener is the claim on T. Not 6379: a cluster may live beside a stray server.
const CLAIM_PORT: u16 = 6377;
/// The port that is tried first for all nodes.
const FIRST_PORT: u16 = 6379;
/// Below the usual ephemeral range even as a bus port, so that no outgoing connection sits on it.
const LAST_PORT: u16 = 22_000;
/// What a bus port is more than its client port.
pub const BUS_OFFSET: u16 = 10_000;
/// Nodes that the plan has room for.
pub const MAX_NODES: u16 = 254;
/// Clients that the plan has room for.
pub const MAX_CLIENTS: u16 = 250 * 252;

/// Where everybody is. Pure arithmetic; see [`Claim`] for the right to use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPlan {
    /// The cluster's second octet, 1 to 254.
    pub t: u8,
    /// The client port of every node; the bus is [`BUS_OFFSET`] above it.
    pub port: u16,
}

impl AddressPlan {
    /// Where a node listens and dials from.
    pub fn real_ip(self, node: u16) -> Ipv4Addr {
        Ipv4Addr::new(127, self.t, 0, octet(node))
    }

    /// Where the proxy listens in its name.
    pub fn proxy_ip(self, node: u16) -> Ipv4Addr {
        Ipv4Addr::new(127, self.t, 1, octet(node))
    }

    /// A node's client address.
    pub fn node(self, node: u16, seen_by: SeenBy) -> SocketAddr {
        let ip = match seen_by {
            SeenBy::Controller => self.real_ip(node),
            SeenBy::Cluster => self.proxy_ip(node),
        };
        SocketAddr::from((ip, self.port))
    }

    /// A node's bus address.
    pub fn bus(self, node: u16, seen_by: SeenBy) -> SocketAddr {
        SocketAddr::new(self.node(node, seen_by).ip(), self.port + BUS_OFFSET)
    }

    /// Where a client dials from.
    pub fn client_ip(self, client: u16) -> Ipv4Addr {
        Ipv4Addr::new(127, self.t, octet(4 + client / 250), octet(1 + client % 250))
    }

    /// Where controller and observer dial from.
    pub fn controller_ip(self) -> Ipv4Addr {
        controller_ip(self.t)
    }

    /// The source address of an endpoint.
    pub fn source(self, endpoint: Endpoint) -> Ipv4Addr {
        match endpoint {
            Endpoint::Node(node) => self.real_ip(node),
            Endpoint::Client(client) => self.client_ip(client),
            Endpoint::Controller => self.controller_ip(),
        }
    }

    /// Who calls from which address.
    pub fn callers(self, nodes: u16, clients: u16) -> BTreeMap<IpAddr, Endpoint> {
        (1..=nodes)
            .map(Endpoint::Node)
            .chain((0..clients).map(Endpoint::Client))
            .chain([Endpoint::Controller])
            .map(|endpoint| (IpAddr::V4(self.source(endpoint)), endpoint))
            .collect()
    }
}

fn octet(number: u16) -> u8 {
    u8::try_from(number).expect("the claim checked that all nodes and clients fit the plan")
}

fn controller_ip(t: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, t, 3, 1)
}

/// The right to use a plan's addresses, held until it is dropped or the process dies, however it dies.
#[derive(Debug)]
pub struct Claim {
    pub plan: AddressPlan,
    _listener: TcpListener,
}

impl Claim {
    /// Claims the first free T in an order that differs from process to process, then the first port that is free on
    /// all addresses of the cluster.
    pub fn take(nodes: u16, clients: u16) -> Result<Self, BackendError> {
        if nodes == 0 || nodes > MAX_NODES || clients > MAX_CLIENTS {
            return Err(BackendError::Harness(format!(
                "{nodes} nodes and {clients} clients do not fit the loopback plan: at most {MAX_NODES} nodes and \
                 {MAX_CLIENTS} clients"
            )));
        }
        let mut order: Vec<u8> = (1..=254).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(u64::from(std::process::id())));
        let mut last = None;
        for t in order {
            match TcpListener::bind((controller_ip(t), CLAIM_PORT)) {
                Ok(listener) => {
                    let port = free_port(t, nodes)?;
                    return Ok(Self { plan: AddressPlan { t, port }, _listener: listener });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(BackendError::Harness(format!(
            "no loopback network is free: every 127.T.3.1:{CLAIM_PORT} is taken ({}). Something listens on \
             0.0.0.0:{CLAIM_PORT}, or 254 clusters run",
            last.map_or_else(String::new, |error| error.to_string())
        )))
    }
}

/// The first port that nobody holds, for clients and for the bus, on all addresses of the cluster. A wildcard listener
/// anywhere on the machine takes its port from everyone.
fn free_port(t: u8, nodes: u16) -> Result<u16, BackendError> {
    let mut last = None;
    'ports: for port in FIRST_PORT..LAST_PORT {
        let plan = AddressPlan { t, port };
        for node in 1..=nodes {
            for seen_by in [SeenBy::Controller, SeenBy::Cluster] {
                for address in [plan.node(node, seen_by), plan.bus(node, seen_by)] {
                    match TcpListener::bind(address) {
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                            last = Some(address);
                            continue 'ports;
                        }
                        Err(error) => {
                            return Err(BackendError::Harness(format!(
                                "cannot listen on {address}: {error}"
                            )));
                        }
                    }
                }
            }
        }
        return Ok(port);
    }
    Err(BackendError::Harness(format!(
        "no port between {FIRST_PORT} and {LAST_PORT} is free on all of 127.{t}.0-1.1-{nodes} (last taken: {last:?})"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_endpoints_share_an_address() {
        let plan = AddressPlan { t: 9, port: 6379 };
        let callers = plan.callers(MAX_NODES, MAX_CLIENTS);
        assert_eq!(callers.len(), usize::from(MAX_NODES) + usize::from(MAX_CLIENTS) + 1);
        assert!((1..=MAX_NODES).all(|node| !callers.contains_key(&IpAddr::V4(plan.proxy_ip(node)))));
        assert_eq!(plan.client_ip(0), Ipv4Addr::new(127, 9, 4, 1));
        assert_eq!(plan.client_ip(251), Ipv4Addr::new(127, 9, 5, 2));
    }

    #[test]
    fn two_claims_never_share_a_network() {
        let (a, b) = (Claim::take(6, 10).unwrap(), Claim::take(6, 10).unwrap());
        assert_ne!(a.plan.t, b.plan.t);
    }

    #[test]
    fn a_taken_bus_port_on_one_address_moves_the_whole_cluster() {
        // Networks that claims reach too, so the port's place in the order is what is tested, not its number.
        let claim = Claim::take(3, 0).unwrap();
        let AddressPlan { t, port } = claim.plan;
        let _squatter = TcpListener::bind(claim.plan.bus(3, SeenBy::Cluster)).unwrap();
        assert!(free_port(t, 3).unwrap() > port);
        assert!(free_port(t, 2).unwrap() == port, "a cluster that does not use the address keeps the port");
    }

    #[test]
    fn too_many_nodes_is_a_clear_error() {
        let error = Claim::take(255, 0).unwrap_err().to_string();
        assert!(error.contains("at most 254 nodes"), "{error}");
    }
}
