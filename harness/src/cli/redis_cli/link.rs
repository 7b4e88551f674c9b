//! A connection to a server: dial, send, read; and Ctrl-C, which ends an endless command.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use socket2::{SockRef, TcpKeepalive};

use super::reply::{self, Reply, ReplyError};

/// As redis-cli: a dead server is noticed within a minute of silence.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Host (a name or an address) and port.
    Tcp { host: String, port: u16 },
    /// A unix socket's path.
    Unix(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

/// An open connection.
pub struct Link {
    inbox: BufReader<Socket>,
}

impl Link {
    /// Dials.
    pub fn dial(place: &Place) -> io::Result<Self> {
        let socket = match place {
            Place::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
            Place::Tcp { host, port } => Socket::Tcp(dial_tcp(host, *port)?),
        };
        Ok(Self { inbox: BufReader::with_capacity(16 * 1024, socket) })
    }

    /// Sends one command.
    pub fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<()> {
        let mut request = Vec::new();
        crate::admin::resp::encode(words, &mut request);
        self.send_bytes(&request)
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inbox.get_mut().write_all(bytes)
    }

    /// The next reply.
    pub fn read(&mut self) -> Result<Reply, ReplyError> {
        reply::read(&mut self.inbox)
    }

    /// One command, one reply.
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<Reply, ReplyError> {
        self.send(words)?;
        self.read()
    }

    /// What comes, as bytes.
    pub fn bytes(&mut self) -> &mut impl io::BufRead {
        &mut self.inbox
    }

    /// A second handle, for another thread.
    pub fn handle(&self) -> io::Result<Socket> {
        match self.inbox.get_ref() {
            Socket::Tcp(stream) => stream.try_clone().map(Socket::Tcp),
            Socket::Unix(stream) => stream.try_clone().map(Socket::Unix),
        }
    }
}

/// IPv4 first, as hiredis does.
fn dial_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    addresses.sort_by_key(std::net::SocketAddr::is_ipv6);
    let stream = TcpStream::connect(addresses.as_slice())?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream)
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3))?;
    Ok(stream)
}

/// A stream of either kind.
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Socket {
    fn shut_down(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// Ctrl-C of an interactive session: ends SUBSCRIBE and MONITOR if one runs, or else the program.
#[derive(Clone)]
pub struct Interrupts(Arc<Mutex<Watched>>);

#[derive(Default)]
struct Watched {
    /// The connection of the endless command that runs.
    socket: Option<Socket>,
    was_ended: bool,
}

impl Interrupts {
    /// Takes SIGINT away from its default action, in this thread and those it starts later.
    pub fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.thread_block()?;
        let interrupts = Self(Arc::default());
        let of_thread = interrupts.clone();
        std::thread::Builder::new().name("ctrl-c".to_owned()).spawn(move || {
            while set.wait().is_ok() {
                let mut watched = of_thread.0.lock().unwrap_or_else(PoisonError::into_inner);
                match watched.socket.take() {
                    Some(socket) => {
                        watched.was_ended = true;
                        socket.shut_down();
                    }
                    None => std::process::exit(1),
                }
            }
        })?;
        Ok(interrupts)
    }

    /// From now on a Ctrl-C ends this connection.
    pub fn watch(&self, link: &Link) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *watched = Watched { socket: link.handle().ok(), was_ended: false };
    }

    /// The endless command is over; true if it was by Ctrl-C.
    pub fn unwatch(&self) -> bool {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *watched).was_ended
    }
}

/// What `strerror` and `gai_strerror` say, without Rust's words around it.
pub fn said(error: &io::Error) -> String {
    if let Some(code) = error.raw_os_error() {
        return nix::errno::Errno::from_raw(code).desc().to_owned();
    }
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").map_or(text.clone(), str::to_owned)
}
