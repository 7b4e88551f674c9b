//! Asking a server over a mailbox: one request or a pipeline out, its replies back, within a deadline.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::Nanos;

use super::Reach;
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

/// A connection on which one asks and waits.
pub struct Connection<M: Mailbox> {
    mailbox: M,
    address: SocketAddr,
    link: Option<LinkId>,
    inbox: BytesMut,
}

impl<M: Mailbox> Connection<M> {
    /// Dials at the first request, and again after a loss.
    pub fn new(mailbox: M, address: SocketAddr) -> Self {
        Self { mailbox, address, link: None, inbox: BytesMut::new() }
    }

    /// Where it goes.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// One command. A server's error is [`AskError::Server`].
    pub async fn ask(&mut self, words: &[&str], deadline: Nanos) -> Result<Reply, AskError> {
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
    pub async fn pipeline(&mut self, commands: &[&[&str]], deadline: Nanos) -> Result<Vec<Reply>, AskError> {
        let outcome = self.exchange(commands, deadline).await;
        if outcome.is_err() {
            self.hang_up(); // a late reply must not answer the next question
        }
        outcome
    }

    async fn exchange(&mut self, commands: &[&[&str]], deadline: Nanos) -> Result<Vec<Reply>, AskError> {
        let link = *self.link.get_or_insert_with(|| self.mailbox.connect(self.address));
        let mut request = Vec::new();
        for words in commands {
            encode(words, &mut request);
        }
        self.mailbox.send(link, request);
        let mut replies = Vec::with_capacity(commands.len());
        loop {
            while replies.len() < commands.len() {
                match decode_bytes_mut(&mut self.inbox) {
                    Ok(Some((reply, _, _))) => replies.push(reply),
                    Ok(None) => break,
                    Err(error) => return Err(self.nonsense(commands[replies.len()], error.details())),
                }
            }
            if replies.len() == commands.len() {
                return Ok(replies);
            }
            let address = self.address;
            match self.mailbox.next(deadline).await {
                None => return Err(AskError::Timeout { address }),
                Some(LinkEvent::Connected(_)) => {}
                Some(LinkEvent::Received(_, bytes)) => self.inbox.extend_from_slice(&bytes),
                Some(LinkEvent::Refused(_, why)) => return Err(AskError::Refused { address, why }),
                Some(LinkEvent::Closed(_, why)) => return Err(AskError::Closed { address, why }),
            }
        }
    }

    fn hang_up(&mut self) {
        self.inbox.clear();
        if let Some(link) = self.link.take() {
            self.mailbox.close(link);
        }
    }

    fn nonsense(&self, words: &[&str], why: &str) -> AskError {
        AskError::Nonsense { address: self.address, command: command_name(words), why: why.to_owned() }
    }
}

/// Opens a connection as the controller does.
pub fn connection<R: Reach>(reach: &R, address: SocketAddr) -> Connection<R::Mailbox> {
    Connection::new(reach.mailbox(), address)
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
fn command_name(words: &[&str]) -> String {
    words.iter().take(3).copied().collect::<Vec<_>>().join(" ")
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
