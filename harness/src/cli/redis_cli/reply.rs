//! Replies of RESP2 and RESP3 as a tree that keeps what a person is shown: a double's digits, which null it was not.
//!
//! `redis-protocol` turns doubles into `f64` and reads a whole reply again for each piece of it that arrives; this reads
//! once, off a buffered stream.

use std::io::{BufRead, Read};

/// How deep replies may nest: more than any command's, less than the stack.
const MAX_DEPTH: usize = 64;
/// The longest bulk string that is believed: Redis' own limit of `proto-max-bulk-len` at its largest.
const MAX_BULK: i64 = 1 << 40;

/// A server's reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK`
    Status(Vec<u8>),
    /// `-ERR ...`, without the dash.
    Error(Vec<u8>),
    /// `:1`
    Integer(i64),
    /// `,1.5`, its digits.
    Double(Vec<u8>),
    /// `(123...`, its digits.
    BigNumber(Vec<u8>),
    /// `$3 ...`
    Bulk(Vec<u8>),
    /// `=7 txt:...`, without the format.
    Verbatim(Vec<u8>),
    /// `$-1`, `*-1` or `_`
    Nil,
    /// `#t`
    Bool(bool),
    /// `*2 ...`
    Array(Vec<Reply>),
    /// `~2 ...`
    Set(Vec<Reply>),
    /// `>2 ...`
    Push(Vec<Reply>),
    /// `%1 ...`
    Map(Vec<(Reply, Reply)>),
}

/// Why no reply came.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// The server ended the connection.
    #[error("Server closed the connection")]
    Eof,
    /// The connection broke.
    #[error("{}", super::link::said(.0))]
    Io(std::io::Error),
    /// What came is no RESP: the server's fault.
    #[error("Protocol error, {0}")]
    Protocol(String),
}

impl From<std::io::Error> for ReplyError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::UnexpectedEof { Self::Eof } else { Self::Io(error) }
    }
}

/// Reads one reply, waiting for all of it. Attributes are dropped.
pub fn read(from: &mut impl BufRead) -> Result<Reply, ReplyError> {
    read_at(from, 0)
}

fn read_at(from: &mut impl BufRead, depth: usize) -> Result<Reply, ReplyError> {
    if depth > MAX_DEPTH {
        return Err(protocol(format!("nested deeper than {MAX_DEPTH}")));
    }
    let line = read_line(from)?;
    let Some((&kind, text)) = line.split_first() else { return Err(protocol("empty line".to_owned())) };
    Ok(match kind {
        b'+' => Reply::Status(text.to_vec()),
        b'-' => Reply::Error(text.to_vec()),
        b':' => Reply::Integer(number(text)?),
        b',' => Reply::Double(text.to_vec()),
        b'(' => Reply::BigNumber(text.to_vec()),
        b'#' => Reply::Bool(text == b"t"),
        b'_' => Reply::Nil,
        b'$' => match number(text)? {
            -1 => Reply::Nil,
            length => Reply::Bulk(read_bulk(from, length)?),
        },
        b'=' => {
            let bytes = read_bulk(from, number(text)?)?;
            // "txt:" or "mkd:"
            Reply::Verbatim(bytes.get(4..).unwrap_or_default().to_vec())
        }
        b'*' if text == b"-1" => Reply::Nil,
        b'*' => Reply::Array(read_many(from, number(text)?, depth)?),
        b'~' => Reply::Set(read_many(from, number(text)?, depth)?),
        b'>' => Reply::Push(read_many(from, number(text)?, depth)?),
        b'%' => Reply::Map(read_pairs(from, number(text)?, depth)?),
        b'|' => {
            read_pairs(from, number(text)?, depth)?;
            return read_at(from, depth + 1);
        }
        other => {
            return Err(protocol(format!("got \"{}\" as reply type byte", other.escape_ascii())));
        }
    })
}

fn read_many(from: &mut impl BufRead, count: i64, depth: usize) -> Result<Vec<Reply>, ReplyError> {
    // No room is made for what a length only promises.
    (0..count).map(|_| read_at(from, depth + 1)).collect()
}

fn read_pairs(from: &mut impl BufRead, count: i64, depth: usize) -> Result<Vec<(Reply, Reply)>, ReplyError> {
    (0..count).map(|_| Ok((read_at(from, depth + 1)?, read_at(from, depth + 1)?))).collect()
}

fn read_line(from: &mut impl BufRead) -> Result<Vec<u8>, ReplyError> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(ReplyError::Eof);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

fn read_bulk(from: &mut impl BufRead, length: i64) -> Result<Vec<u8>, ReplyError> {
    if !(0..=MAX_BULK).contains(&length) {
        return Err(protocol("bulk string length out of range".to_owned()));
    }
    let mut bytes = Vec::new();
    from.by_ref().take(length as u64 + 2).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length as u64 + 2 {
        return Err(ReplyError::Eof);
    }
    if !bytes.ends_with(b"\r\n") {
        return Err(protocol("a bulk string is longer than its length".to_owned()));
    }
    bytes.truncate(length as usize);
    Ok(bytes)
}

fn number(text: &[u8]) -> Result<i64, ReplyError> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| protocol("bad integer value".to_owned()))
}

fn protocol(what: String) -> ReplyError {
    ReplyError::Protocol(what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(mut bytes: &[u8]) -> Result<Reply, ReplyError> {
        read(&mut bytes)
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        let nested = b"*4\r\n$-1\r\n%1\r\n+k\r\n,1.50\r\n~1\r\n#t\r\n=7\r\ntxt:a\r\n\r\n";
        let expected = Reply::Array(vec![
            Reply::Nil,
            Reply::Map(vec![(Reply::Status(b"k".into()), Reply::Double(b"1.50".into()))]),
            Reply::Set(vec![Reply::Bool(true)]),
            Reply::Verbatim(b"a\r\n".into()),
        ]);
        // The verbatim text above is one byte short of its length's end: "txt:a\r\n" is seven bytes.
        assert_eq!(read_all(&[nested.as_slice(), b"\r\n"].concat()).unwrap(), expected);
        assert_eq!(read_all(b"|1\r\n+ttl\r\n:3\r\n:5\r\n").unwrap(), Reply::Integer(5));
        assert_eq!(read_all(b"*-1\r\n").unwrap(), Reply::Nil);
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        assert!(matches!(read_all(b"$3\r\nab"), Err(ReplyError::Eof)));
        assert!(matches!(read_all(b""), Err(ReplyError::Eof)));
        assert!(matches!(read_all(b"$-7\r\n"), Err(ReplyError::Protocol(_))));
        assert!(matches!(read_all(&b"*1\r\n".repeat(100_000)), Err(ReplyError::Protocol(_))));
        let error = read_all(b"HTTP/1.1 400\r\n").unwrap_err().to_string();
        assert_eq!(error, "Protocol error, got \"H\" as reply type byte");
    }

    proptest! {
        #[test]
        fn foreign_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_all(&bytes);
        }
    }
}
