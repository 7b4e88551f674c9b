//! Replies, appended to a byte buffer in the protocol that the client asked for.

use crate::keyspace::Element;
use crate::keyspace::number::IntText;
use crate::keyspace::score::text_17g;

/// The version of the protocol that a client speaks (`HELLO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Writes one reply.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// A writer that appends to `out`.
    pub const fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// The client's protocol.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The bytes written so far, this reply's and those before it.
    pub const fn buffer(&mut self) -> &mut Vec<u8> {
        self.out
    }

    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    pub fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.out.extend_from_slice(text.as_bytes());
        self.crlf();
    }

    /// An error; `text` begins with its code. Line ends inside are replaced: they would break the protocol.
    pub fn error(&mut self, text: &str) {
        self.out.push(b'-');
        // What a client said stands in it a character a byte.
        for char in text.chars() {
            match u8::try_from(char) {
                Ok(b'\r' | b'\n') => self.out.push(b' '),
                Ok(byte) => self.out.push(byte),
                Err(_) => self.out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.crlf();
    }

    pub fn int(&mut self, value: i64) {
        self.prefixed(b':', value);
    }

    /// A number with a fraction: a string for RESP2; 17 digits, as Redis 7.0.
    pub fn double(&mut self, value: f64) {
        let text = text_17g(value);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.out.push(b',');
                self.out.extend_from_slice(text.as_bytes());
                self.crlf();
            }
        }
    }

    /// A number as people write it: no exponent, 17 digits behind the point, without zeros at the end; a string for
    /// RESP2.
    pub fn human_double(&mut self, value: f64) {
        let text = format!("{value:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        let text = if text == "-0" { "0" } else { text };
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.out.push(b',');
                self.out.extend_from_slice(text.as_bytes());
                self.crlf();
            }
        }
    }

    pub fn bool(&mut self, value: bool) {
        self.int(i64::from(value));
    }

    pub fn bulk(&mut self, bytes: &[u8]) {
        self.prefixed(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.crlf();
    }

    pub fn element(&mut self, element: Element<'_>) {
        element.with(|bytes| self.bulk(bytes));
    }

    pub fn optional(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// The absence of a string.
    pub fn null(&mut self) {
        self.out.extend_from_slice(if self.protocol == Protocol::Resp2 { b"$-1\r\n" } else { b"_\r\n" });
    }

    /// The absence of an array.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(if self.protocol == Protocol::Resp2 { b"*-1\r\n" } else { b"_\r\n" });
    }

    pub fn array(&mut self, len: usize) {
        self.prefixed(b'*', len as i64);
    }

    /// Where the reply stands; what is written from here on can be made an array or a map, with
    /// [`Self::array_from`] or [`Self::map_from`], once it is known how long it is.
    pub const fn mark(&self) -> usize {
        self.out.len()
    }

    /// Makes what stands behind `mark` an array of `len`.
    pub fn array_from(&mut self, mark: usize, len: usize) {
        self.head_at(mark, b'*', len);
    }

    /// Makes what stands behind `mark` a map of `pairs` pairs; for RESP2 an array of them, each of which the caller
    /// has made an array of two.
    pub fn map_from(&mut self, mark: usize, pairs: usize) {
        self.head_at(mark, if self.protocol == Protocol::Resp2 { b'*' } else { b'%' }, pairs);
    }

    fn head_at(&mut self, at: usize, mark: u8, len: usize) {
        let end = self.out.len();
        self.prefixed(mark, len as i64);
        // What was appended last comes first.
        let head = self.out.len() - end;
        self.out[at..].rotate_right(head);
    }

    /// A map of `pairs` pairs; a flat array for RESP2.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(pairs * 2),
            Protocol::Resp3 => self.prefixed(b'%', pairs as i64),
        }
    }

    pub fn set(&mut self, len: usize) {
        let mark = if self.protocol == Protocol::Resp2 { b'*' } else { b'~' };
        self.prefixed(mark, len as i64);
    }

    /// A message that no request asked for.
    pub fn push(&mut self, len: usize) {
        let mark = if self.protocol == Protocol::Resp2 { b'*' } else { b'>' };
        self.prefixed(mark, len as i64);
    }

    /// Text for people (`INFO`, `CLUSTER NODES`).
    pub fn verbatim(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.prefixed(b'=', text.len() as i64 + 4);
                self.out.extend_from_slice(b"txt:");
                self.out.extend_from_slice(text.as_bytes());
                self.crlf();
            }
        }
    }

    fn prefixed(&mut self, mark: u8, value: i64) {
        self.out.push(mark);
        self.out.extend_from_slice(&IntText::new(value));
        self.crlf();
    }

    fn crlf(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Appends a command as a client, a master or an append-only file writes it.
pub fn write_command<T: AsRef<[u8]>>(out: &mut Vec<u8>, args: impl ExactSizeIterator<Item = T>) {
    let mut reply = Reply::new(out, Protocol::Resp2);
    reply.array(args.len());
    for arg in args {
        reply.bulk(arg.as_ref());
    }
}
