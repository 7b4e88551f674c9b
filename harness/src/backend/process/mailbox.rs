//! Connections over TCP, each from the address of the endpoint that dials, so that the proxy knows who it is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use nix::sys::socket::{setsockopt, sockopt};
use slotstorm_checker::record::Nanos;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::timer::Timers;
use crate::backend::{LinkEvent, LinkId, Mailbox};

/// Connections of one endpoint.
pub struct TcpMailbox {
    source: Ipv4Addr,
    timers: Timers,
    links: BTreeMap<LinkId, Link>,
    next_id: u64,
    tell: mpsc::UnboundedSender<LinkEvent>,
    told: mpsc::UnboundedReceiver<LinkEvent>,
}

struct Link {
    shared: Rc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stream: RefCell<Option<Rc<TcpStream>>>,
    /// What the kernel did not take at once, or what was sent before the connection stood.
    unsent: RefCell<Vec<u8>>,
    more: Notify,
}

impl TcpMailbox {
    /// A mailbox that dials from `source`. Call inside a `LocalSet`.
    pub fn new(source: Ipv4Addr, timers: Timers) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self { source, timers, links: BTreeMap::new(), next_id: 0, tell, told }
    }
}

impl Mailbox for TcpMailbox {
    fn connect(&mut self, to: SocketAddr) -> LinkId {
        let id = LinkId(self.next_id);
        self.next_id += 1;
        let shared = Rc::new(Shared::default());
        let task = tokio::task::spawn_local(run(id, self.source, to, shared.clone(), self.tell.clone()));
        self.links.insert(id, Link { shared, task });
        id
    }

    fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        let Some(link) = self.links.get(&link) else { return };
        let mut unsent = link.shared.unsent.borrow_mut();
        let mut rest = &bytes[..];
        if unsent.is_empty()
            && let Some(stream) = link.shared.stream.borrow().as_ref()
            && let Ok(count) = stream.try_write(rest)
        {
            rest = &rest[count..];
        }
        if !rest.is_empty() {
            unsent.extend_from_slice(rest);
            link.shared.more.notify_one();
        }
    }

    fn close(&mut self, link: LinkId) {
        if let Some(link) = self.links.remove(&link) {
            link.close();
        }
    }

    async fn next(&mut self, deadline: Nanos) -> Option<LinkEvent> {
        loop {
            let event = tokio::select! {
                biased;
                event = self.told.recv() => event?,
                () = self.timers.sleep_until(deadline) => return None,
            };
            match &event {
                LinkEvent::Connected(id) | LinkEvent::Received(id, _) if self.links.contains_key(id) => {
                    return Some(event);
                }
                LinkEvent::Refused(id, _) | LinkEvent::Closed(id, _) if self.links.remove(id).is_some() => {
                    return Some(event);
                }
                _ => {} // of a link that was closed here meanwhile
            }
        }
    }
}

impl Drop for TcpMailbox {
    fn drop(&mut self) {
        std::mem::take(&mut self.links).into_values().for_each(Link::close);
    }
}

impl Link {
    fn close(self) {
        self.task.abort();
        self.shared.stream.borrow_mut().take();
    }
}

async fn run(
    id: LinkId,
    source: Ipv4Addr,
    to: SocketAddr,
    shared: Rc<Shared>,
    tell: mpsc::UnboundedSender<LinkEvent>,
) {
    let stream = match dial(source, to).await {
        Ok(stream) => Rc::new(stream),
        Err(error) => {
            let _ = tell.send(LinkEvent::Refused(id, error.to_string()));
            return;
        }
    };
    shared.stream.borrow_mut().replace(stream.clone());
    let _ = tell.send(LinkEvent::Connected(id));
    let why = match carry(id, &stream, &shared, &tell).await {
        Ok(()) => "closed by the peer".to_owned(),
        Err(error) => error.to_string(),
    };
    shared.stream.borrow_mut().take();
    let _ = tell.send(LinkEvent::Closed(id, why));
}

async fn dial(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if to.is_ipv4() {
        // The port is chosen at connect: one source address can hold as many connections as there are targets.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(SocketAddr::from((source, 0)))?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Until the peer closes.
async fn carry(
    id: LinkId,
    stream: &TcpStream,
    shared: &Shared,
    tell: &mpsc::UnboundedSender<LinkEvent>,
) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let waiting = !shared.unsent.borrow().is_empty();
        tokio::select! {
            ready = stream.readable() => {
                ready?;
                match stream.try_read(&mut piece) {
                    Ok(0) => return Ok(()),
                    Ok(count) => {
                        let _ = tell.send(LinkEvent::Received(id, piece[..count].to_vec()));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            ready = stream.writable(), if waiting => {
                ready?;
                let mut unsent = shared.unsent.borrow_mut();
                match stream.try_write(&unsent) {
                    Ok(count) => drop(unsent.drain(..count)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            () = shared.more.notified(), if !waiting => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::backend::process::run_local;

    const SOON: Nanos = 5_000_000_000;

    async fn bench(source: Ipv4Addr) -> (TcpMailbox, TcpListener) {
        let timers = Timers::start(Instant::now()).unwrap();
        (TcpMailbox::new(source, timers), TcpListener::bind("127.26.9.1:0").await.unwrap())
    }

    #[test]
    fn the_peer_sees_the_endpoints_own_address_and_all_bytes() {
        run_local(async {
            let (mut mailbox, listener) = bench(Ipv4Addr::new(127, 26, 9, 2)).await;
            let link = mailbox.connect(listener.local_addr().unwrap());
            let long = vec![b'x'; 3_000_000]; // more than any kernel buffer
            mailbox.send(link, long.clone());
            let (mut peer, from) = listener.accept().await.unwrap();
            assert_eq!(from.ip().to_string(), "127.26.9.2");
            let reader = tokio::task::spawn_local(async move {
                let mut got = vec![0; 3_000_000];
                peer.read_exact(&mut got).await.unwrap();
                peer.write_all(b"+OK\r\n").await.unwrap();
                got
            });
            assert_eq!(mailbox.next(SOON).await, Some(LinkEvent::Connected(link)));
            assert_eq!(mailbox.next(SOON).await, Some(LinkEvent::Received(link, b"+OK\r\n".to_vec())));
            assert_eq!(reader.await.unwrap(), long);
            assert!(matches!(mailbox.next(SOON).await, Some(LinkEvent::Closed(it, _)) if it == link));
        })
        .unwrap();
    }

    #[test]
    fn a_refused_dial_says_that_nothing_was_sent() {
        run_local(async {
            let (mut mailbox, listener) = bench(Ipv4Addr::new(127, 26, 9, 3)).await;
            let to = listener.local_addr().unwrap();
            drop(listener);
            let link = mailbox.connect(to);
            assert!(matches!(mailbox.next(SOON).await, Some(LinkEvent::Refused(it, _)) if it == link));
        })
        .unwrap();
    }

    #[test]
    fn nothing_is_heard_of_a_link_that_was_closed_here() {
        run_local(async {
            let (mut mailbox, listener) = bench(Ipv4Addr::new(127, 26, 9, 4)).await;
            let link = mailbox.connect(listener.local_addr().unwrap());
            let (mut peer, _) = listener.accept().await.unwrap();
            peer.write_all(b"hello").await.unwrap();
            assert_eq!(mailbox.next(SOON).await, Some(LinkEvent::Connected(link)));
            tokio::task::yield_now().await;
            mailbox.close(link);
            let soon = mailbox.timers.now() + 20_000_000;
            assert_eq!(mailbox.next(soon).await, None);
            assert!(matches!(peer.read(&mut [0; 8]).await, Ok(0) | Err(_)), "the peer sees the end");
        })
        .unwrap();
    }
}
