//! Whose a loopback connection is: from its two addresses to its socket's inode (/proc/net/tcp), and from
//! there to the process that has it open (/proc/PID/fd). It costs a scan of all sockets, so only callers
//! without an address of their own are looked up: MIGRATE's, which keep their connection for ten seconds.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use slotstorm_fabric::Endpoint;

/// The owner of the socket that is bound to `local` and connected to `remote`, if it is one of `pids`.
pub(super) fn owner(
    local: SocketAddr,
    remote: SocketAddr,
    pids: &BTreeMap<u32, Endpoint>,
) -> Option<Endpoint> {
    if pids.is_empty() {
        return None;
    }
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = inode(&table, local, remote)?;
    let wanted = format!("socket:[{inode}]");
    pids.iter().find(|(pid, _)| has_open(**pid, &wanted)).map(|(_, endpoint)| *endpoint)
}

fn has_open(pid: u32, wanted: &str) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted))
}

/// Columns: `sl local rem st tx:rx tr:when retrnsmt uid timeout inode ...`; addresses as the kernel's hex
/// words.
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (hex(local)?, hex(remote)?);
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        (words.next()? == local && words.next()? == remote).then_some(())?;
        words.nth(6)?.parse().ok().filter(|&inode| inode != 0)
    })
}

fn hex(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_socket_of_this_process_is_found_by_its_addresses() {
        let listener = TcpListener::bind("127.25.90.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let pids = BTreeMap::from([(1, Endpoint::Node(1)), (std::process::id(), Endpoint::Node(7))]);
        assert_eq!(owner(local, remote, &pids), Some(Endpoint::Node(7)));
        assert_eq!(owner(remote, remote, &pids), None);
    }
}
