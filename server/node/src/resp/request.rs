//! Requests, parsed in place: arguments are ranges of the bytes that arrived, and a request that comes in many
//! pieces is not looked at twice. Nothing is ever allocated for a length that was merely announced.

use std::ops::Index;

use crate::keyspace::number::parse_i64;
use crate::words;

/// The longest inline request, and the longest line with a length in it.
const INLINE_MAX: usize = 64 * 1024;

/// What a request may be.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// `proto-max-bulk-len`: bytes of one argument.
    pub max_bulk_bytes: usize,
    /// Arguments of one request.
    pub max_args: i64,
    /// The client has to say who it is first: it needs few and short arguments for that.
    pub unauthenticated: bool,
}

/// Arguments of a client that has not authenticated, and bytes of one: Redis' bounds.
const UNAUTHENTICATED_ARGS: i64 = 10;
const UNAUTHENTICATED_BULK_BYTES: usize = 16384;

impl Default for RequestLimits {
    fn default() -> Self {
        Self { max_bulk_bytes: 512 * 1024 * 1024, max_args: i64::from(i32::MAX), unauthenticated: false }
    }
}

/// The client does not speak the protocol. It is told so (`-ERR Protocol error: ...`) and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    #[error("Protocol error: too big mbulk count string")]
    CountLineTooBig,
    #[error("Protocol error: invalid multibulk length")]
    InvalidCount,
    #[error("Protocol error: too big bulk count string")]
    LengthLineTooBig,
    #[error("Protocol error: expected '$', got '{0}'")]
    ExpectedDollar(char),
    #[error("Protocol error: invalid bulk length")]
    InvalidLength,
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedCount,
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedLength,
}

/// The arguments of one request, the command's name first.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [(usize, usize)],
}

impl<'a> Args<'a> {
    /// Number of arguments.
    pub const fn len(&self) -> usize {
        self.ranges.len()
    }

    /// True without arguments.
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The argument at `index`.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let &(start, end) = self.ranges.get(index)?;
        Some(&self.bytes[start..end])
    }

    /// The arguments from `index` on.
    #[must_use]
    pub fn from(&self, index: usize) -> Args<'a> {
        Args { bytes: self.bytes, ranges: &self.ranges[index.min(self.ranges.len())..] }
    }

    /// The arguments, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + Clone + use<'a> {
        let bytes = self.bytes;
        self.ranges.iter().map(move |&(start, end)| &bytes[start..end])
    }

    /// A copy that can be kept.
    pub fn to_owned(&self) -> OwnedArgs {
        self.iter().collect()
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    /// The argument at `index`, which the caller has made sure of (by the command's arity).
    fn index(&self, index: usize) -> &[u8] {
        let (start, end) = self.ranges[index];
        &self.bytes[start..end]
    }
}

/// Arguments that own their bytes: queued by MULTI, decoded from a file, or made by the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedArgs {
    bytes: Vec<u8>,
    ranges: Vec<(usize, usize)>,
}

impl OwnedArgs {
    /// As a view.
    pub fn view(&self) -> Args<'_> {
        Args { bytes: &self.bytes, ranges: &self.ranges }
    }

    /// Adds an argument.
    pub fn push(&mut self, arg: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(arg);
        self.ranges.push((start, self.bytes.len()));
    }

    /// Bytes held.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ranges.capacity() * 16
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for OwnedArgs {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        let mut args = Self::default();
        for arg in iter {
            args.push(arg.as_ref());
        }
        args
    }
}

/// The state between two looks at one request that has not arrived completely.
#[derive(Debug, Default)]
pub struct RequestParser {
    /// Arguments so far, as ranges of the buffer (or of `inline`).
    ranges: Vec<(usize, usize)>,
    /// How far the buffer has been read.
    position: usize,
    /// Arguments still to come; 0 when no array has begun.
    args_left: i64,
    /// Announced length of the argument that is arriving.
    bulk: Option<usize>,
    /// The unquoted words of an inline request.
    inline: Option<Vec<u8>>,
}

impl RequestParser {
    /// Looks for one complete request at the start of `buffer`, which must begin with what was there at the last
    /// call if that one found nothing. Gives the number of bytes the request takes; [`Self::args`] are then its
    /// arguments (none for an empty request), until [`Self::next`].
    pub fn parse(&mut self, buffer: &[u8], limits: RequestLimits) -> Result<Option<usize>, ProtocolError> {
        if self.args_left == 0 {
            match buffer.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some((count, after)) = length_line(buffer, 0, ProtocolError::CountLineTooBig)? else {
                        return Ok(None);
                    };
                    let count =
                        count.filter(|&count| count <= limits.max_args).ok_or(ProtocolError::InvalidCount)?;
                    if limits.unauthenticated && count > UNAUTHENTICATED_ARGS {
                        return Err(ProtocolError::UnauthenticatedCount);
                    }
                    self.position = after;
                    if count <= 0 {
                        return Ok(Some(after));
                    }
                    self.args_left = count;
                }
                Some(_) => return self.parse_inline(buffer),
            }
        }
        while self.args_left > 0 {
            let len = if let Some(len) = self.bulk {
                len
            } else {
                let Some(len) = self.announced_length(buffer, limits)? else { return Ok(None) };
                len
            };
            if buffer.len() < self.position + len + 2 {
                return Ok(None);
            }
            self.ranges.push((self.position, self.position + len));
            self.position += len + 2;
            self.bulk = None;
            self.args_left -= 1;
        }
        Ok(Some(self.position))
    }

    /// The arguments of the request that `parse` found at the start of `buffer`.
    pub fn args<'a>(&'a self, buffer: &'a [u8]) -> Args<'a> {
        Args { bytes: self.inline.as_deref().unwrap_or(buffer), ranges: &self.ranges }
    }

    /// Gets ready for the next request.
    pub fn next(&mut self) {
        self.ranges.clear();
        if self.ranges.capacity() > 1024 {
            self.ranges.shrink_to(64);
        }
        self.position = 0;
        self.args_left = 0;
        self.bulk = None;
        self.inline = None;
    }

    /// Where the argument that is arriving begins, and its length, once that is announced.
    pub const fn arriving(&self) -> Option<(usize, usize)> {
        match self.bulk {
            Some(len) => Some((self.position, len)),
            None => None,
        }
    }

    /// True in the middle of a request.
    pub const fn is_midway(&self) -> bool {
        self.args_left > 0
    }

    /// Reads `$<length>` where the next argument begins.
    fn announced_length(
        &mut self,
        buffer: &[u8],
        limits: RequestLimits,
    ) -> Result<Option<usize>, ProtocolError> {
        let Some(&mark) = buffer.get(self.position) else { return Ok(None) };
        // The end of the line is looked for before its beginning is judged, as Redis does.
        let line = length_line(buffer, self.position, ProtocolError::LengthLineTooBig)?;
        let Some((len, after)) = line else { return Ok(None) };
        if mark != b'$' {
            return Err(ProtocolError::ExpectedDollar(char::from(mark)));
        }
        let len = len
            .and_then(|len| usize::try_from(len).ok())
            .filter(|&len| len <= limits.max_bulk_bytes)
            .ok_or(ProtocolError::InvalidLength)?;
        if limits.unauthenticated && len > UNAUTHENTICATED_BULK_BYTES {
            return Err(ProtocolError::UnauthenticatedLength);
        }
        self.position = after;
        self.bulk = Some(len);
        Ok(Some(len))
    }

    fn parse_inline(&mut self, buffer: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let searched = self.position.min(buffer.len());
        let Some(end) = buffer[searched..].iter().position(|&byte| byte == b'\n') else {
            if buffer.len() > INLINE_MAX {
                return Err(ProtocolError::InlineTooBig);
            }
            self.position = buffer.len();
            return Ok(None);
        };
        let end = searched + end;
        let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
        let words: OwnedArgs = words::split(line).ok_or(ProtocolError::UnbalancedQuotes)?.iter().collect();
        self.ranges = words.ranges;
        self.inline = Some(words.bytes);
        Ok(Some(end + 1))
    }
}

/// Reads a line `<mark><integer>\r\n` at `start`: the integer if it is one, and the offset after the line.
fn length_line(
    buffer: &[u8],
    start: usize,
    too_big: ProtocolError,
) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    let line = &buffer[start..];
    // Nearly all lengths have one or two digits; a zero in front is no length.
    match *line {
        [_, digit @ b'1'..=b'9', b'\r', _, ..] => {
            return Ok(Some((Some(i64::from(digit - b'0')), start + 4)));
        }
        [_, ten @ b'1'..=b'9', one @ b'0'..=b'9', b'\r', _, ..] => {
            return Ok(Some((Some(i64::from(ten - b'0') * 10 + i64::from(one - b'0')), start + 5)));
        }
        _ => {}
    }
    let window = &line[..line.len().min(INLINE_MAX + 1)];
    match window.iter().position(|&byte| byte == b'\r') {
        None if window.len() > INLINE_MAX => Err(too_big),
        None => Ok(None),
        Some(end) if end + 1 >= line.len() => Ok(None),
        // The line may be empty, without even its mark.
        Some(end) => Ok(Some((line.get(1..end).and_then(parse_i64), start + end + 2))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `bytes` in pieces of `step`; gives the requests and how it ended.
    fn feed(bytes: &[u8], step: usize) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
        let mut parser = RequestParser::default();
        let mut buffer = Vec::new();
        let mut requests = Vec::new();
        for piece in bytes.chunks(step) {
            buffer.extend_from_slice(piece);
            loop {
                match parser.parse(&buffer, RequestLimits::default()) {
                    Ok(None) => break,
                    Ok(Some(consumed)) => {
                        let request: Vec<_> = parser.args(&buffer).iter().map(<[u8]>::to_vec).collect();
                        if !request.is_empty() {
                            requests.push(request);
                        }
                        parser.next();
                        buffer.drain(..consumed);
                    }
                    Err(error) => return (requests, Some(error)),
                }
            }
        }
        (requests, None)
    }

    #[test]
    fn pieces_of_any_size_give_the_same_requests() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$5\r\na\r\nbc\r\nPING\r\n\r\n*0\r\n*-1\r\nset \"a b\" '\\x41' \"\\x41\\n\"\n*1\r\n$0\r\n\r\n";
        let whole = feed(bytes, bytes.len());
        assert_eq!(whole.0.len(), 4);
        assert_eq!(whole.0[2], [&b"set"[..], b"a b", b"\\x41", b"A\n"]);
        for step in 1..bytes.len() {
            assert_eq!(feed(bytes, step), whole, "in pieces of {step}");
        }
    }

    #[test]
    fn errors_are_those_of_redis() {
        let cases: [(&[u8], ProtocolError); 9] = [
            (b"*x\r\n", ProtocolError::InvalidCount),
            (b"*3000000000\r\n", ProtocolError::InvalidCount),
            (b"*1\r\nPING\r\n", ProtocolError::ExpectedDollar('P')),
            (b"*1\r\n$-1\r\n", ProtocolError::InvalidLength),
            (b"*1\r\n$536870913\r\n", ProtocolError::InvalidLength),
            (b"SET \"a\r\n", ProtocolError::UnbalancedQuotes),
            (b"SET 'a'b\r\n", ProtocolError::UnbalancedQuotes),
            (&vec![b'*'; 70_000], ProtocolError::CountLineTooBig),
            (&vec![b'a'; 70_000], ProtocolError::InlineTooBig),
        ];
        for (bytes, error) in cases {
            assert_eq!(feed(bytes, 4096).1, Some(error), "{}", bytes[..10.min(bytes.len())].escape_ascii());
        }
    }

    #[test]
    fn an_announced_length_costs_nothing() {
        let mut parser = RequestParser::default();
        let buffer = b"*2147483647\r\n$536870912\r\nxx";
        assert_eq!(parser.parse(buffer, RequestLimits::default()), Ok(None));
        assert!(parser.ranges.capacity() < 100);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"*$\r\n0123456789\"'\\x "[..])], 0..400), step in 1usize..50) {
            feed(&bytes, step);
        }

        #[test]
        fn what_is_written_is_read(args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8), step in 1usize..50) {
            let mut bytes = Vec::new();
            super::super::write_command(&mut bytes, args.iter());
            prop_assert_eq!(feed(&bytes, step), (vec![args], None));
        }
    }
}
