//! Where a master is.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// An address, or a name that is looked up with every attempt to connect, as Redis does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterAddr {
    Ip(SocketAddr),
    Name(String, u16),
}

impl MasterAddr {
    /// What `REPLICAOF host port` means.
    pub fn new(host: &str, port: u16) -> Self {
        match host.parse::<IpAddr>() {
            Ok(ip) => Self::Ip(SocketAddr::new(ip, port)),
            Err(_) => Self::Name(host.to_owned(), port),
        }
    }

    /// The host, as it was given.
    pub fn host(&self) -> String {
        match self {
            Self::Ip(addr) => addr.ip().to_string(),
            Self::Name(name, _) => name.clone(),
        }
    }

    pub const fn port(&self) -> u16 {
        match self {
            Self::Ip(addr) => addr.port(),
            Self::Name(_, port) => *port,
        }
    }
}

impl From<SocketAddr> for MasterAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Ip(addr)
    }
}

impl fmt::Display for MasterAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}
