//! Listening sockets for clients and the bus, and sockets for dialling out.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // sockets, and the unix socket's file

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use mio::net::{TcpListener, TcpStream, UnixListener};
use mio::{Interest, Registry, Token};
use slotstorm_node::config::{Config, Key};
use slotstorm_node::io::Plane;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: ListenSocket,
    /// Who is served there.
    pub plane: Plane,
}

/// The two kinds of listening sockets.
#[derive(Debug)]
pub enum ListenSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl ListenSocket {
    /// Has it watched for connections.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => registry.register(socket, token, Interest::READABLE),
            Self::Unix(socket) => registry.register(socket, token, Interest::READABLE),
        }
    }

    /// The next connection, with both its addresses; a unix socket's are loopback's.
    ///
    /// # Errors
    /// There is none, or the kernel has no descriptors left.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Option<SocketAddr>)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                let local = stream.local_addr().ok();
                Ok((stream, peer, local))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                // All that is done to it, reading and writing, is the same for both kinds.
                let stream = std::net::TcpStream::from(OwnedFd::from(stream));
                let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
                Ok((TcpStream::from_std(stream), nowhere, Some(nowhere)))
            }
        }
    }

    /// Where it listens, unless that is a path.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

/// Opens the unix socket that the configuration names, if it does. A socket that an earlier server left there is
/// removed; another file is not.
///
/// # Errors
/// The path cannot be had.
pub fn listen_unix(config: &Config) -> Result<Option<Listener>, ListenError> {
    let Some(path) = config.some_text(Key::Unixsocket) else { return Ok(None) };
    let refused = |source| ListenError::Unix { path: path.to_owned(), source };
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path).map_err(refused)?;
    }
    let socket = UnixListener::bind(path).map_err(refused)?;
    let mode = config.int(Key::Unixsocketperm) as u32;
    if mode != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(refused)?;
    }
    Ok(Some(Listener { socket: ListenSocket::Unix(socket), plane: Plane::Unix }))
}

/// Why the server cannot listen: mostly a port that another process has.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A socket could not be made.
    #[error("Could not create server TCP listening socket {addr}: bind: {source}")]
    Socket {
        /// Where.
        addr: String,
        /// Why.
        source: io::Error,
    },
    /// The unix socket could not be made.
    #[error("Failed opening Unix socket {path}: bind: {source}")]
    Unix {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// `port 0`, or no address is left.
    #[error("Configured to not listen anywhere, exiting.")]
    Nowhere,
}

/// Opens all listeners of a plane on the `bind` addresses. An address with a leading `-` may be missing on
/// this host; a family that the host does not have is skipped.
///
/// # Errors
/// The first address that cannot be had.
pub fn listen(config: &Config, plane: Plane) -> Result<Vec<Listener>, ListenError> {
    let port = match plane {
        Plane::Client | Plane::Unix => config.int(Key::Port) as u16,
        Plane::Bus => config.bus_port(),
    };
    let backlog = config.int(Key::TcpBacklog) as i32;
    let mut listeners = Vec::new();
    for word in config.words(Key::Bind) {
        let (name, is_optional) = match word.strip_prefix('-') {
            Some(name) => (name, true),
            None => (word.as_str(), false),
        };
        match resolve(name, port).and_then(|addr| listen_on(addr, backlog)) {
            Ok(socket) => listeners.push(Listener { socket: ListenSocket::Tcp(socket), plane }),
            Err(error) if is_optional && error.kind() == io::ErrorKind::AddrNotAvailable => {}
            Err(error) if is_missing_family(&error) => {}
            Err(source) => return Err(ListenError::Socket { addr: format!("{name}:{port}"), source }),
        }
    }
    if listeners.is_empty() && !config.words(Key::Bind).is_empty() {
        return Err(ListenError::Nowhere);
    }
    Ok(listeners)
}

fn resolve(name: &str, port: u16) -> io::Result<SocketAddr> {
    let ip = match name {
        "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "::*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        name => {
            let mut found = (name, port).to_socket_addrs()?;
            return found.next().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into());
        }
    };
    Ok(SocketAddr::new(ip, port))
}

/// Opens one listener.
///
/// # Errors
/// The address cannot be had.
pub fn listen_on(addr: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn is_missing_family(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let missing = [
        Errno::EAFNOSUPPORT,
        Errno::EPFNOSUPPORT,
        Errno::EPROTONOSUPPORT,
        Errno::ESOCKTNOSUPPORT,
        Errno::ENOPROTOOPT,
    ];
    error.raw_os_error().is_some_and(|code| missing.contains(&Errno::from_raw(code)))
}

/// Starts to dial. The stream becomes writable when it is up, or when it has failed.
///
/// # Errors
/// The dial failed at once: a source address that this host lacks, no descriptors left, no route.
pub fn dial(addr: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(source) = source {
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// The address behind a name, an IPv4 one if there is one. It waits for the resolver, as Redis does.
pub fn look_up(host: &str, port: u16) -> io::Result<SocketAddr> {
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let first = found.iter().find(|addr| addr.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Options of every connection: no delay of small writes, and probes after `keepalive_s` of silence if not 0.
pub fn tune(stream: &TcpStream, keepalive_s: u64) {
    let socket = socket2::SockRef::from(stream);
    // Without them the connection works all the same.
    let _ = socket.set_tcp_nodelay(true);
    if keepalive_s > 0 {
        let interval_s = (keepalive_s / 3).max(1);
        let keepalive = TcpKeepalive::new()
            .with_time(std::time::Duration::from_secs(keepalive_s))
            .with_interval(std::time::Duration::from_secs(interval_s))
            .with_retries(3);
        let _ = socket.set_tcp_keepalive(&keepalive);
    }
}
