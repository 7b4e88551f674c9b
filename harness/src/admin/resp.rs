//! Asking a server over a mailbox: one request or a pipeline out, its replies back, within a deadline.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::Nanos;

use super::{Login, Reach, ms};
use crate::backend::{LinkEvent, LinkId, Mailbox};

/// A server's reply.
pub type Reply = BytesFrame;

/// Why a server could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nothing listens there, or the dial failed otherwise.
    #[error("{address} refuses: {why}")]
    Refused { address: SocketAddr, why: String },
    /// The connection ended before the reply.
    #[error("{address} closed the connection: {why}")]
    Closed { address: SocketAddr, why: String },
    /// No whole reply in time.
    #[error("{address} did not answer in time")]
    Timeout { address: SocketAddr },
    /// The server said `-ERR ...`.
    #[error("{address} says {text:?} to {command}")]
    Server { address: SocketAddr, command: String, text: String },
    /// The server's bytes are no RESP, or not the reply that the command has.
    #[error("{address} answered nonsense to {command}: {why}")]
    Nonsense { address: SocketAddr, command: String, why: String },
}

impl AskError {
    /// True for answers that a server gives while it loads its data: ask again.
    pub fn is_loading(&self) -> bool {
        matches!(self, Self::Server { text, .. } if text.starts_with("LOADING"))
    }
}

/// A piece of a snapshot that arrives.
#[derive(Debug)]
pub enum Snapshot<'b> {
    /// First of all: how long it is, if the server knows.
    Length(Option<u64>),
    /// Its bytes, in order.
    Piece(&'b [u8]),
}

/// A connection on which one asks and waits.
pub struct Connection<M: Mailbox> {
    mailbox: M,
    address: SocketAddr,
    login: Option<Login>,
    link: Option<LinkId>,
    inbox: BytesMut,
}

impl<M: Mailbox> Connection<M> {
    /// Dials at the first request, and again after a loss; each time it logs in first.
    pub fn new(mailbox: M, address: SocketAddr, login: Option<Login>) -> Self {
        Self { mailbox, address, login, link: None, inbox: BytesMut::new() }
    }

    /// Where it goes.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// One command. A server's error is [`AskError::Server`].
    pub async fn ask<W: AsRef<[u8]>>(&mut self, words: &[W], deadline: Nanos) -> Result<Reply, AskError> {
        let mut replies = self.pipeline(&[words], deadline).await?;
        match replies.pop() {
            Some(Reply::Error(text)) => Err(AskError::Server {
                address: self.address,
                command: command_name(words),
                text: text.to_string(),
            }),
            Some(reply) => Ok(reply),
            None => Err(self.nonsense(words, "no reply")),
        }
    }

    /// One command whose reply is a text.
    pub async fn ask_text(&mut self, words: &[&str], deadline: Nanos) -> Result<String, AskError> {
        let reply = self.ask(words, deadline).await?;
        text_of(&reply).ok_or_else(|| self.nonsense(words, "no text"))
    }

    /// Several commands in one write; the replies in order, errors among them.
    pub async fn pipeline<W: AsRef<[u8]>>(
        &mut self,
        commands: &[&[W]],
        deadline: Nanos,
    ) -> Result<Vec<Reply>, AskError> {
        let outcome = self.exchange(commands, deadline).await;
        if outcome.is_err() {
            self.hang_up(); // a late reply must not answer the next question
        }
        outcome
    }

    async fn exchange<W: AsRef<[u8]>>(
        &mut self,
        commands: &[&[W]],
        deadline: Nanos,
    ) -> Result<Vec<Reply>, AskError> {
        let mut request = Vec::new();
        let (link, fresh) = self.open(&mut request);
        for words in commands {
            encode(words, &mut request);
        }
        self.mailbox.send(link, request);
        if fresh {
            let greeting = self.reply(deadline, || "AUTH".to_owned()).await?;
            self.check_login(&greeting)?;
        }
        let mut replies = Vec::with_capacity(commands.len());
        for words in commands {
            replies.push(self.reply(deadline, || command_name(words)).await?);
        }
        Ok(replies)
    }

    /// The link, dialled if there is none; true if a login was put in front of `request`.
    fn open(&mut self, request: &mut Vec<u8>) -> (LinkId, bool) {
        match (self.link, &self.login) {
            (Some(link), _) => (link, false),
            (None, login) => {
                if let Some(login) = login {
                    encode(&login.command(), request);
                }
                let fresh = login.is_some();
                (*self.link.insert(self.mailbox.connect(self.address)), fresh)
            }
        }
    }

    /// A server without a password takes everybody, as redis-cli sees it.
    fn check_login(&self, greeting: &Reply) -> Result<(), AskError> {
        match greeting {
            Reply::Error(text) if !text.contains("without any password configured") => {
                Err(AskError::Server {
                    address: self.address,
                    command: "AUTH".to_owned(),
                    text: text.to_string(),
                })
            }
            _ => Ok(()),
        }
    }

    async fn reply(&mut self, deadline: Nanos, command: impl Fn() -> String) -> Result<Reply, AskError> {
        let address = self.address;
        loop {
            match decode_bytes_mut(&mut self.inbox) {
                Ok(Some((reply, _, _))) => return Ok(reply),
                Ok(None) => {}
                Err(error) => {
                    let why = error.details().to_owned();
                    return Err(AskError::Nonsense { address, command: command(), why });
                }
            }
            let bytes = self.more(deadline).await?;
            self.inbox.extend_from_slice(&bytes);
        }
    }

    /// The next bytes from the server.
    async fn more(&mut self, deadline: Nanos) -> Result<Vec<u8>, AskError> {
        let address = self.address;
        loop {
            match self.mailbox.next(deadline).await {
                None => return Err(AskError::Timeout { address }),
                Some(LinkEvent::Connected(_)) => {}
                Some(LinkEvent::Received(_, bytes)) => return Ok(bytes),
                Some(LinkEvent::Refused(_, why)) => {
                    self.link = None;
                    return Err(AskError::Refused { address, why });
                }
                Some(LinkEvent::Closed(_, why)) => {
                    self.link = None;
                    return Err(AskError::Closed { address, why });
                }
            }
        }
    }

    /// Asks for a snapshot as a replica of old does (SYNC) and hands its bytes to `sink` as they come; its length.
    /// `quiet_ms` may pass between two pieces. The connection is closed afterwards: what follows is a stream.
    pub async fn snapshot(
        &mut self,
        now: impl Fn() -> Nanos,
        quiet_ms: u64,
        mut sink: impl FnMut(Snapshot<'_>) -> Result<(), String>,
    ) -> Result<u64, AskError> {
        self.hang_up();
        let outcome = self.receive_snapshot(&now, quiet_ms, &mut sink).await;
        self.hang_up();
        outcome
    }

    async fn receive_snapshot(
        &mut self,
        now: &impl Fn() -> Nanos,
        quiet_ms: u64,
        sink: &mut impl FnMut(Snapshot<'_>) -> Result<(), String>,
    ) -> Result<u64, AskError> {
        let address = self.address;
        let nonsense = |why: String| AskError::Nonsense { address, command: "SYNC".to_owned(), why };
        let mut request = Vec::new();
        let (link, fresh) = self.open(&mut request);
        request.extend_from_slice(b"SYNC\r\n");
        self.mailbox.send(link, request);
        if fresh {
            let greeting = self.reply(now() + ms(quiet_ms), || "AUTH".to_owned()).await?;
            self.check_login(&greeting)?;
        }
        let header = loop {
            // While it prepares the file, a master sends empty lines so that nobody hangs up.
            while self.inbox.first() == Some(&b'\n') {
                self.inbox.advance(1);
            }
            if let Some(end) = self.inbox.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.inbox.split_to(end + 2);
                break String::from_utf8_lossy(&line[..end]).into_owned();
            }
            let bytes = self.more(now() + ms(quiet_ms)).await?;
            self.inbox.extend_from_slice(&bytes);
        };
        if let Some(text) = header.strip_prefix('-') {
            return Err(AskError::Server { address, command: "SYNC".to_owned(), text: text.to_owned() });
        }
        let size = header.strip_prefix('$').ok_or_else(|| nonsense(format!("{header:?} is no length")))?;
        // A master that writes no file names a mark of 40 bytes instead of the length.
        let mark = size.strip_prefix("EOF:").map(|mark| mark.as_bytes().to_vec());
        let length = match &mark {
            Some(_) => None,
            None => Some(size.parse::<u64>().map_err(|_| nonsense(format!("{size:?} is no length")))?),
        };
        sink(Snapshot::Length(length)).map_err(nonsense)?;
        let mut taken = 0;
        loop {
            let held = self.inbox.len();
            let (ready, done) = match (&mark, length) {
                (Some(mark), _) if held >= mark.len() && self.inbox.ends_with(mark) => {
                    (held - mark.len(), true)
                }
                (Some(mark), _) => (held.saturating_sub(mark.len()), false),
                (None, length) => {
                    let missing = length.unwrap_or(0) - taken;
                    let ready = missing.min(held as u64);
                    (ready as usize, ready == missing)
                }
            };
            if ready > 0 {
                let piece = self.inbox.split_to(ready);
                taken += piece.len() as u64;
                sink(Snapshot::Piece(&piece)).map_err(nonsense)?;
            }
            if done {
                return Ok(taken);
            }
            let bytes = self.more(now() + ms(quiet_ms)).await?;
            self.inbox.extend_from_slice(&bytes);
        }
    }

    fn hang_up(&mut self) {
        self.inbox.clear();
        if let Some(link) = self.link.take() {
            self.mailbox.close(link);
        }
    }

    fn nonsense<W: AsRef<[u8]>>(&self, words: &[W], why: &str) -> AskError {
        AskError::Nonsense { address: self.address, command: command_name(words), why: why.to_owned() }
    }
}

/// Opens a connection as the controller does.
pub fn connection<R: Reach>(reach: &R, address: SocketAddr) -> Connection<R::Mailbox> {
    Connection::new(reach.mailbox(), address, reach.login())
}

/// A request as an array of bulk strings.
pub fn encode<W: AsRef<[u8]>>(words: &[W], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The text of a simple or bulk string.
pub fn text_of(reply: &Reply) -> Option<String> {
    let lossy = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match reply {
        Reply::SimpleString(bytes) | Reply::BulkString(bytes) => Some(lossy(bytes)),
        _ => None,
    }
}

/// The command's words as a person would name it, without its arguments' bulk.
fn command_name<W: AsRef<[u8]>>(words: &[W]) -> String {
    let words = words.iter().take(3).map(|word| String::from_utf8_lossy(word.as_ref()).into_owned());
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        encode(&["SET", "", "v\r\n"], &mut out);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$3\r\nv\r\n\r\n");
    }
}
