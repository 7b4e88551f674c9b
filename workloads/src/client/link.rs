//! One connection of the client: what waits to be sent, and which replies are due in which order.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;

use super::{Nanos, Request, Route};

/// The client's name for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link(pub u64);

/// What the next reply on a connection answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The PING that every connection begins with.
    Greeting,
    Reply(u64),
    /// One of several commands of a request, but the last.
    Part(u64),
    Wait(u64),
    /// ASKING or READONLY.
    Asking,
    Slots,
    /// Nothing: it comes unasked, or as one of several answers, on a subscriber's connection.
    Nothing,
}

#[derive(Debug)]
pub(super) struct LinkState {
    to: SocketAddr,
    /// What kind of requests it is for.
    route: Route,
    /// The request that has it to itself.
    held_by: Option<u64>,
    open: bool,
    /// Encoded commands, with the replies they will have, that wait for the connection to open.
    waiting: VecDeque<(Expected, Vec<u8>)>,
    outgoing: Vec<u8>,
    /// Replies due, oldest first, with the time of sending.
    expected: VecDeque<(Expected, Nanos)>,
    incoming: BytesMut,
}

impl LinkState {
    pub fn dialling(to: SocketAddr, route: Route) -> Self {
        Self {
            to,
            route,
            held_by: None,
            open: false,
            waiting: VecDeque::new(),
            outgoing: Vec::new(),
            expected: VecDeque::new(),
            incoming: BytesMut::new(),
        }
    }

    pub fn to(&self) -> SocketAddr {
        self.to
    }

    pub fn route(&self) -> Route {
        self.route
    }

    pub fn hold(&mut self, id: u64) {
        self.held_by = Some(id);
    }

    pub fn is_held_by(&self, id: u64) -> bool {
        self.held_by == Some(id)
    }

    pub fn is_free(&self) -> bool {
        self.held_by.is_none()
    }

    pub fn let_go(&mut self) {
        self.held_by = None;
    }

    /// Replies due or to become due.
    pub fn depth(&self) -> usize {
        self.waiting.len() + self.expected.len()
    }

    pub fn oldest_expected(&self) -> Option<Nanos> {
        self.expected.front().map(|(_, sent)| *sent)
    }

    /// True if the request is on its way (the connection is open). What has no effect is followed by no WAIT.
    pub fn queue(&mut self, now: Nanos, request: &Request, effective: bool) -> bool {
        for (number, command) in request.commands.iter().enumerate() {
            let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            let last = number + 1 == request.commands.len();
            let expected = if last { Expected::Reply(request.id) } else { Expected::Part(request.id) };
            self.put(now, expected, encode(&args));
        }
        if let Some(wait) = request.wait.filter(|_| effective) {
            let replicas = wait.replicas.to_string();
            let timeout_ms = wait.timeout_ms.to_string();
            let bytes = encode(&[b"WAIT", replicas.as_bytes(), timeout_ms.as_bytes()]);
            self.put(now, Expected::Wait(request.id), bytes);
        }
        self.open
    }

    pub fn queue_asking(&mut self, now: Nanos) {
        self.put(now, Expected::Asking, encode(&[b"ASKING"]));
    }

    pub fn queue_slots(&mut self, now: Nanos) -> bool {
        self.put(now, Expected::Slots, encode(&[b"CLUSTER", b"SLOTS"]));
        self.open
    }

    /// A command whose answers are pushed; true if it can go out.
    pub fn queue_unanswered(&mut self, bytes: Vec<u8>) -> bool {
        if self.open {
            self.outgoing.extend_from_slice(&bytes);
        } else {
            self.waiting.push_back((Expected::Nothing, bytes));
        }
        self.open
    }

    fn put(&mut self, now: Nanos, expected: Expected, bytes: Vec<u8>) {
        if self.open {
            if expected != Expected::Nothing {
                self.expected.push_back((expected, now));
            }
            if self.outgoing.is_empty() {
                self.outgoing = bytes;
            } else {
                self.outgoing.extend_from_slice(&bytes);
            }
        } else {
            self.waiting.push_back((expected, bytes));
        }
    }

    /// The dial succeeded: the server is asked whether it is there. A proxy in between accepts connections to servers
    /// that are down or cut off; what is not sent before the answer certainly did not happen.
    pub fn greet(&mut self, now: Nanos) {
        self.expected.push_back((Expected::Greeting, now));
        self.outgoing.extend_from_slice(&encode(&[b"PING"]));
        if self.route == Route::Replica {
            self.expected.push_back((Expected::Asking, now));
            self.outgoing.extend_from_slice(&encode(&[b"READONLY"]));
        }
    }

    /// The server is there: everything that waited goes out. Answers the requests among it.
    pub fn opened(&mut self, now: Nanos) -> Vec<u64> {
        self.open = true;
        let ids = self.unsent();
        for (expected, bytes) in std::mem::take(&mut self.waiting) {
            self.put(now, expected, bytes);
        }
        ids
    }

    /// Requests that were never handed to the connection.
    pub fn unsent(&self) -> Vec<u64> {
        self.waiting
            .iter()
            .filter_map(|(expected, _)| if let Expected::Reply(id) = expected { Some(*id) } else { None })
            .collect()
    }

    /// Takes a request back that has not gone out.
    pub fn unqueue(&mut self, id: u64) {
        let of_it = |expected: Expected| {
            [Expected::Reply(id), Expected::Part(id), Expected::Wait(id)].contains(&expected)
        };
        self.waiting.retain(|(expected, _)| !of_it(*expected));
    }

    pub fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    pub fn received(&mut self, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
    }

    /// The next complete reply and what it answers; an error if the peer does not speak RESP2 or speaks unasked.
    pub fn next_reply(&mut self) -> Result<Option<(Expected, BytesFrame)>, String> {
        if self.incoming.is_empty() {
            return Ok(None);
        }
        let decoded = match integer(&self.incoming) {
            Some(integer) => {
                self.incoming.clear();
                Ok(Some(BytesFrame::Integer(integer)))
            }
            None => decode_bytes_mut(&mut self.incoming).map(|found| found.map(|(frame, _, _)| frame)),
        };
        match decoded {
            Ok(None) => Ok(None),
            Ok(Some(frame)) => match self.expected.pop_front() {
                Some((expected, _)) => Ok(Some((expected, frame))),
                None if self.route == Route::Subscriber => Ok(Some((Expected::Nothing, frame))),
                None => Err("the server sent a reply that nothing asked for".to_owned()),
            },
            Err(error) => Err(format!("the server's reply is not RESP2: {error}")),
        }
    }

    pub fn into_expected(self) -> impl Iterator<Item = Expected> {
        self.expected.into_iter().map(|(expected, _)| expected)
    }
}

/// The number, if a number and nothing else has come: so most writes are answered. Up to 18 digits fit for certain.
fn integer(incoming: &[u8]) -> Option<i64> {
    let digits = incoming.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    let all_digits = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    all_digits.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

/// A command as a RESP array of bulk strings.
pub(super) fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + args.iter().map(|arg| arg.len() + 16).sum::<usize>());
    put_length(&mut out, b'*', args.len());
    for arg in args {
        put_length(&mut out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn put_length(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    match u8::try_from(length) {
        // Nearly all are.
        Ok(digit @ 0..10) => out.push(b'0' + digit),
        _ => out.extend_from_slice(length.to_string().as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_decoder_reads_them() {
        let answers: [&[u8]; 9] = [
            b":1\r\n",
            b":0\r\n",
            b":007\r\n",
            b":-1\r\n",
            b":999999999999999999\r\n",
            b":9223372036854775807\r\n",
            b":\r\n",
            b":1\r\n:2\r\n",
            b":12\r",
        ];
        for answer in answers {
            let Some(read) = integer(answer) else { continue };
            let decoded = decode_bytes_mut(&mut BytesMut::from(answer)).unwrap();
            assert_eq!(decoded.map(|(frame, _, _)| frame), Some(BytesFrame::Integer(read)), "{answer:?}");
        }
        assert_eq!([answers[0], answers[4]].map(integer), [Some(1), Some(999_999_999_999_999_999)]);
    }
}
