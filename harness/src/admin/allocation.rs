//! Which of the given nodes become masters, and whose replicas the others become: nodes of one host apart from each
//! other as far as that can be had, as redis-cli does it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Who is what, by places in the given list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Masters, in the order in which slots are dealt.
    pub masters: Vec<usize>,
    /// (replica, its master), in the order of assignment; those after `extra` were left over.
    pub replicas: Vec<(usize, usize)>,
    /// How many of `replicas` every master has by right.
    pub regular: usize,
    /// Replicas that live on the host of their master, or of another replica of it.
    pub same_host: usize,
}

/// Why it cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "*** ERROR: Invalid configuration for cluster creation.\n*** Redis Cluster requires at least 3 master nodes.\n\
     *** This is not possible with {nodes} nodes and {replicas} replicas per node.\n*** At least {need} nodes are \
     required."
)]
pub struct TooFew {
    pub nodes: usize,
    pub replicas: usize,
    pub need: usize,
}

/// Deals the roles.
pub fn allocate(addresses: &[SocketAddr], replicas: usize) -> Result<Allocation, TooFew> {
    let count = addresses.len() / (replicas + 1);
    if count < 3 {
        return Err(TooFew { nodes: addresses.len(), replicas, need: 3 * (replicas + 1) });
    }
    let order = interleaved(addresses);
    let masters = order[..count].to_vec();
    // One step on, so that with one node a host no replica stands where its master does.
    let mut free = order[count..].to_vec();
    if !free.is_empty() {
        free.rotate_left(1);
    }
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    let host = |node: usize| addresses[node].ip();
    let take = |free: &mut Vec<usize>, master: usize| {
        let apart = free.iter().position(|node| host(*node) != host(master)).unwrap_or(0);
        free.remove(apart)
    };
    for master in &masters {
        for _ in 0..replicas {
            if !free.is_empty() {
                pairs.push((take(&mut free, *master), *master));
            }
        }
    }
    let regular = pairs.len();
    for master in masters.iter().cycle() {
        if free.is_empty() {
            break;
        }
        pairs.push((take(&mut free, *master), *master));
    }
    part(&mut pairs, &host);
    let same_host = crowding(&pairs, &host).0;
    Ok(Allocation { masters, replicas: pairs, regular, same_host })
}

/// One node of each host in turn.
fn interleaved(addresses: &[SocketAddr]) -> Vec<usize> {
    let mut hosts: Vec<IpAddr> = Vec::new();
    let mut by_host: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
    for (index, address) in addresses.iter().enumerate() {
        if !hosts.contains(&address.ip()) {
            hosts.push(address.ip());
        }
        by_host.entry(address.ip()).or_default().push(index);
    }
    let longest = by_host.values().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|round| {
            hosts.iter().filter_map(|host| by_host[host].get(round)).copied().collect::<Vec<_>>()
        })
        .collect()
}

/// Replicas on their master's host, and pairs of one master's replicas on one host.
fn crowding(pairs: &[(usize, usize)], host: &impl Fn(usize) -> IpAddr) -> (usize, usize) {
    let with_master = pairs.iter().filter(|(replica, master)| host(*replica) == host(*master)).count();
    let together = pairs.iter().enumerate().map(|(index, (replica, master))| {
        let later = pairs[index + 1..].iter();
        later.filter(|(other, its)| its == master && host(*other) == host(*replica)).count()
    });
    (with_master, together.sum())
}

/// Swaps replicas while that makes it less crowded.
fn part(pairs: &mut [(usize, usize)], host: &impl Fn(usize) -> IpAddr) {
    let mut best = crowding(pairs, host);
    let mut better = true;
    while better && best != (0, 0) {
        better = false;
        for a in 0..pairs.len() {
            for b in a + 1..pairs.len() {
                swap(pairs, a, b);
                let now = crowding(pairs, host);
                if now < best {
                    best = now;
                    better = true;
                } else {
                    swap(pairs, a, b);
                }
            }
        }
    }
}

fn swap(pairs: &mut [(usize, usize)], a: usize, b: usize) {
    (pairs[a].0, pairs[b].0) = (pairs[b].0, pairs[a].0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|it| it.parse().unwrap()).collect()
    }

    #[test]
    fn six_nodes_on_six_hosts_are_paired_as_redis_cli_pairs_them() {
        let nodes: Vec<String> = (1..=6).map(|host| format!("127.14.1.{host}:7000")).collect();
        let nodes = addresses(&nodes.iter().map(String::as_str).collect::<Vec<_>>());
        let dealt = allocate(&nodes, 1).unwrap();
        assert_eq!(dealt.masters, [0, 1, 2]);
        assert_eq!(dealt.replicas, [(4, 0), (5, 1), (3, 2)]);
    }

    #[test]
    fn replicas_go_to_another_host_where_there_is_one() {
        let nodes =
            addresses(&["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1", "10.0.0.2:2", "10.0.0.3:1", "10.0.0.3:2"]);
        let dealt = allocate(&nodes, 1).unwrap();
        assert_eq!(dealt.same_host, 0, "{dealt:?}");
        assert_eq!(dealt.masters, [0, 2, 4], "one master a host");
    }

    #[test]
    fn nodes_that_are_left_over_become_extra_replicas() {
        let nodes = addresses(&["10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3", "10.0.0.1:4"]);
        let dealt = allocate(&nodes, 0).unwrap();
        assert_eq!((dealt.masters.len(), dealt.replicas.len()), (4, 0));
        let nodes = addresses(&[
            "1.0.0.1:1",
            "1.0.0.1:2",
            "1.0.0.1:3",
            "1.0.0.1:4",
            "1.0.0.1:5",
            "1.0.0.1:6",
            "1.0.0.1:7",
        ]);
        let dealt = allocate(&nodes, 1).unwrap();
        assert_eq!((dealt.masters.len(), dealt.regular, dealt.replicas.len()), (3, 3, 4));
        assert_eq!(dealt.same_host, 4);
    }

    #[test]
    fn fewer_than_three_masters_are_refused() {
        let error = allocate(&addresses(&["1.0.0.1:1", "1.0.0.1:2", "1.0.0.1:3"]), 1).unwrap_err();
        assert_eq!(error.need, 6);
    }
}
