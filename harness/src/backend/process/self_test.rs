//! The proof that no link of the cluster bypasses the proxy: what does not pass through it cannot be cut, delayed or
//! counted, and every verdict would rest on sand.
//!
//! Two sides: the proxy must have carried a bus connection between every two nodes, in both directions, and each
//! replica's link to its master; and no server's own socket may lead to another server's real address. (The addresses
//! alone do not tell: the proxy dials on from the caller's own address. Who holds the socket does.)

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use slotstorm_fabric::{Endpoint, Plane};

use super::ProcessWorld;
use super::address::AddressPlan;
use crate::admin::create::Created;
use crate::admin::ms;
use crate::backend::{BackendError, World};

/// How long links may take to appear at the proxy; the cluster is whole, so they are there.
const PATIENCE_MS: u64 = 3_000;

/// Fails if a link bypasses the proxy.
pub async fn no_bypass(world: &ProcessWorld, created: &Created) -> Result<(), BackendError> {
    let deadline = World::now(world) + ms(PATIENCE_MS);
    loop {
        let missing = missing_links(world, created).await;
        if missing.is_empty() {
            break;
        }
        if World::now(world) >= deadline {
            return Err(BackendError::Harness(format!(
                "links of the cluster bypass the proxy (it never carried them): {}",
                missing.into_iter().take(6).collect::<Vec<_>>().join(", ")
            )));
        }
        World::sleep_until(world, World::now(world) + ms(20)).await;
    }
    let sockets = std::fs::read_to_string("/proc/net/tcp")
        .map_err(|error| BackendError::Harness(format!("cannot read /proc/net/tcp: {error}")))?;
    let owners: BTreeMap<u16, BTreeSet<u64>> =
        world.pids().into_iter().map(|(node, pid)| (node, socket_inodes(pid))).collect();
    let found = bypasses(&sockets, &owners, world.plan());
    if found.is_empty() {
        return Ok(());
    }
    Err(BackendError::Harness(format!("links of the cluster bypass the proxy: {}", found.join(", "))))
}

/// Links that must have been carried and were not.
async fn missing_links(world: &ProcessWorld, created: &Created) -> Vec<String> {
    let carried = world.0.network.carried().await;
    let nodes = 1..=world.nodes();
    let mut missing = Vec::new();
    for from in nodes.clone() {
        for to in nodes.clone().filter(|to| *to != from) {
            if !carried.contains(&(Endpoint::Node(from), Endpoint::Node(to), Plane::Bus)) {
                missing.push(format!("bus n{from} to n{to}"));
            }
        }
    }
    for (index, probe) in created.whole.probes.iter().enumerate() {
        let master = probe.me().and_then(|me| me.master_id.as_ref());
        let Some(master) = master.and_then(|id| created.ids.iter().position(|it| it == id)) else { continue };
        let (replica, master) = (index as u16 + 1, master as u16 + 1);
        if !carried.contains(&(Endpoint::Node(replica), Endpoint::Node(master), Plane::Replication)) {
            missing.push(format!("replication n{replica} to n{master}"));
        }
    }
    missing
}

/// Sockets that a server itself opened to a real address of another.
fn bypasses(proc_net_tcp: &str, owners: &BTreeMap<u16, BTreeSet<u64>>, plan: AddressPlan) -> Vec<String> {
    let mut found = Vec::new();
    for socket in proc_net_tcp.lines().filter_map(TcpLine::read) {
        let Some((node, _)) = owners.iter().find(|(_, inodes)| inodes.contains(&socket.inode)) else {
            continue;
        };
        let accepted =
            socket.local.port() == plan.port || socket.local.port() == plan.port + super::address::BUS_OFFSET;
        let remote = socket.remote.ip().octets();
        if !accepted && remote[..3] == [127, plan.t, 0] {
            found.push(format!("n{node} ({}) to {}", socket.local, socket.remote));
        }
    }
    found
}

/// One line of /proc/net/tcp.
#[derive(Debug, PartialEq, Eq)]
struct TcpLine {
    local: SocketAddrV4,
    remote: SocketAddrV4,
    inode: u64,
}

impl TcpLine {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let local = socket_address(words.next()?)?;
        let remote = socket_address(words.next()?)?;
        let inode = words.nth(6)?.parse().ok()?;
        Some(Self { local, remote, inode })
    }
}

/// `0100007F:18EB`: the address in the machine's byte order, the port in hexadecimal.
fn socket_address(word: &str) -> Option<SocketAddrV4> {
    let (ip, port) = word.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(ip.to_ne_bytes()), u16::from_str_radix(port, 16).ok()?))
}

/// Inodes of the sockets that a process holds.
fn socket_inodes(pid: u32) -> BTreeSet<u64> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return BTreeSet::new() };
    entries
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.ok()?.path()).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn line(local: &str, remote: &str, inode: u64) -> String {
        let hex = |text: &str| {
            let address: SocketAddrV4 = text.parse().unwrap();
            format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
        };
        format!(
            "   0: {} {} 01 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 20 4 30 10 -1\n",
            hex(local),
            hex(remote)
        )
    }

    #[test]
    fn the_owner_of_the_socket_tells_a_bypass_from_the_proxys_own_dial() {
        let plan = AddressPlan { t: 9, port: 6379 };
        let (n1, n2, bus) = ("127.9.0.1:40000", "127.9.0.2:16379", "127.9.1.2:16379");
        let owners: BTreeMap<u16, BTreeSet<u64>> = [(1, [11].into()), (2, [22].into())].into();
        let through = [HEAD, &line(n1, bus, 11), &line(n1, n2, 99), &line(n2, n1, 22)].concat();
        assert_eq!(bypasses(&through, &owners, plan), Vec::<String>::new());
        let direct = [HEAD, &line(n1, n2, 11), &line(n2, n1, 22)].concat();
        assert_eq!(bypasses(&direct, &owners, plan), ["n1 (127.9.0.1:40000) to 127.9.0.2:16379"]);
    }

    #[test]
    fn a_process_finds_its_own_sockets() {
        let listener = std::net::TcpListener::bind("127.26.8.1:0").unwrap();
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let own = socket_inodes(std::process::id());
        let address = listener.local_addr().unwrap();
        let found =
            table.lines().filter_map(TcpLine::read).find(|line| address == line.local.into()).unwrap();
        assert!(own.contains(&found.inode));
    }
}
