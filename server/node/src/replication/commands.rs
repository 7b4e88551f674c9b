//! Commands as they stand in a replication stream and in an AOF: RESP arrays of bulk strings, nothing else.
//!
//! Unlike a client's, these bytes come from a server or from our own disk: no inline commands, no small limits,
//! and the exact number of bytes of each command matters, because offsets are counted in them.

/// The longest argument that is believed. Memory follows arrival, so this only tells noise from data.
const MAX_BULK_BYTES: u64 = 4 << 30;
/// The most arguments that are believed.
const MAX_ARGS: u64 = 1 << 30;
/// The longest annotation line of an AOF, as in Redis.
const MAX_ANNOTATION_BYTES: usize = 1024;
/// The longest line that announces a length.
const MAX_LENGTH_LINE: usize = 32;

/// The bytes are not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Something else stands where `*` should.
    #[error("expected '*', got byte 0x{0:02x}")]
    NotAnArray(u8),
    /// Something else stands where `$` should.
    #[error("expected '$', got byte 0x{0:02x}")]
    NotABulk(u8),
    /// A length that is no number, is out of range, or has no end.
    #[error("invalid length")]
    Length,
    /// An argument that is not followed by CRLF.
    #[error("an argument is longer than announced")]
    NoCrlf,
}

/// One command out of a [`CommandBatch`].
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// The command exactly as it came: what an AOF or a sub-replica gets.
    pub raw: &'a [u8],
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Command<'a> {
    /// The name (in the sender's letter case) and the arguments.
    pub fn args(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.spans.iter().map(move |span| &bytes[span.start..span.end])
    }

    /// The name, in the sender's letter case.
    pub fn name(&self) -> &'a [u8] {
        self.args().next().unwrap_or_default()
    }

    /// True if the name is `name`, in any letter case.
    pub fn is(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name.as_bytes())
    }

    /// The arguments, for indexing.
    pub fn to_vec(&self) -> Vec<&'a [u8]> {
        self.args().collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
}

/// The number of the database that a SELECT chooses; none if it is no SELECT, or one of nonsense.
pub fn selected_by(command: Command<'_>) -> Option<u32> {
    let number = command.args().nth(1).filter(|_| command.is("SELECT"))?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Commands in order, flat in one buffer: no allocation for each argument.
#[derive(Clone, Debug, Default)]
pub struct CommandBatch {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// For each command the end of its bytes and of its spans.
    ends: Vec<(usize, usize)>,
}

impl CommandBatch {
    /// How many commands there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All bytes of all commands.
    pub fn raw(&self) -> &[u8] {
        &self.bytes
    }

    /// The commands in order.
    pub fn iter(&self) -> impl Iterator<Item = Command<'_>> {
        let mut from = (0, 0);
        self.ends.iter().map(move |&end| {
            let command = Command {
                raw: &self.bytes[from.0..end.0],
                bytes: &self.bytes,
                spans: &self.spans[from.1..end.1],
            };
            from = end;
            command
        })
    }

    /// Adds a copy of one command.
    pub fn push(&mut self, command: Command<'_>) {
        // Spans count from the start of the buffer that the command lies in; find out how far it moves.
        let raw_at = command.raw.as_ptr() as usize - command.bytes.as_ptr() as usize;
        let base = self.bytes.len();
        self.bytes.extend_from_slice(command.raw);
        self.spans.extend(
            command
                .spans
                .iter()
                .map(|span| Span { start: span.start - raw_at + base, end: span.end - raw_at + base }),
        );
        self.ends.push((self.bytes.len(), self.spans.len()));
    }
}

/// Finds commands in bytes as they arrive. Nothing is scanned twice, however the bytes are cut.
#[derive(Debug, Default)]
pub struct CommandParser {
    buffer: Vec<u8>,
    /// Where the command that is being read starts.
    start: usize,
    /// How far it has been scanned.
    scanned: usize,
    /// Arguments found so far.
    spans: Vec<Span>,
    /// Arguments still to come; none: the array's own length is next.
    left: Option<u64>,
    /// The announced length of the argument that is next.
    bulk: Option<usize>,
    /// Lines that begin with `#` stand between commands and mean nothing.
    annotated: bool,
}

impl CommandParser {
    /// A parser for an AOF, in which annotations (`#TS:...`) may stand between commands.
    pub fn for_aof() -> Self {
        Self { annotated: true, ..Self::default() }
    }

    /// Takes bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 && (self.start == self.buffer.len() || self.start > 64 * 1024) {
            let start = std::mem::take(&mut self.start);
            self.buffer.drain(..start);
            self.scanned -= start;
            for span in &mut self.spans {
                span.start -= start;
                span.end -= start;
            }
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that are here and belong to no complete command.
    pub fn unfinished_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next complete command. Empty lines before it count as its bytes. After an error the parser is of no use.
    pub fn next_command(&mut self) -> Result<Option<Command<'_>>, CommandError> {
        // What was returned last time is gone only now, so that it could be borrowed.
        if self.left == Some(0) {
            self.start = self.scanned;
            self.spans.clear();
            self.left = None;
        }
        loop {
            match self.left {
                None => match self.buffer.get(self.scanned) {
                    None => return Ok(None),
                    // A keepalive of a server that is busy, or the rest of one.
                    Some(b'\r' | b'\n') => self.scanned += 1,
                    Some(b'#') if self.annotated => {
                        let line = &self.buffer[self.scanned..];
                        match line.iter().position(|&byte| byte == b'\n') {
                            Some(end) => self.scanned += end + 1,
                            None if line.len() > MAX_ANNOTATION_BYTES => return Err(CommandError::Length),
                            None => return Ok(None),
                        }
                    }
                    Some(b'*') => {
                        let Some(count) = self.length_line()? else { return Ok(None) };
                        if count > MAX_ARGS {
                            return Err(CommandError::Length);
                        }
                        // An empty array is no command; its bytes count all the same.
                        self.left = (count > 0).then_some(count);
                    }
                    Some(&other) => return Err(CommandError::NotAnArray(other)),
                },
                Some(0) => break,
                Some(left) => {
                    let Some(len) = self.bulk else {
                        match self.buffer.get(self.scanned) {
                            None => return Ok(None),
                            Some(b'$') => {}
                            Some(&other) => return Err(CommandError::NotABulk(other)),
                        }
                        let Some(len) = self.length_line()? else { return Ok(None) };
                        if len > MAX_BULK_BYTES {
                            return Err(CommandError::Length);
                        }
                        self.bulk = Some(len as usize);
                        continue;
                    };
                    let span = Span { start: self.scanned, end: self.scanned + len };
                    match self.buffer.get(span.end..span.end + 2) {
                        None => return Ok(None),
                        Some(b"\r\n") => {}
                        Some(_) => return Err(CommandError::NoCrlf),
                    }
                    self.spans.push(span);
                    self.scanned = span.end + 2;
                    self.bulk = None;
                    self.left = Some(left - 1);
                }
            }
        }
        Ok(Some(Command {
            raw: &self.buffer[self.start..self.scanned],
            bytes: &self.buffer,
            spans: &self.spans,
        }))
    }

    /// The number of a line `*n` or `$n` at the scan position, once the line is whole.
    fn length_line(&mut self) -> Result<Option<u64>, CommandError> {
        let line = &self.buffer[self.scanned + 1..];
        let Some(end) = line.iter().take(MAX_LENGTH_LINE).position(|&byte| byte == b'\r') else {
            return if line.len() >= MAX_LENGTH_LINE { Err(CommandError::Length) } else { Ok(None) };
        };
        match line.get(end + 1) {
            None => return Ok(None),
            Some(b'\n') => {}
            Some(_) => return Err(CommandError::Length),
        }
        let number = std::str::from_utf8(&line[..end])
            .ok()
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .ok_or(CommandError::Length)?;
        self.scanned += end + 3;
        Ok(Some(number))
    }
}

/// Appends a command in the form that streams and AOFs hold.
pub fn write_command<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    let line = |kind: u8, number: usize, out: &mut Vec<u8>| {
        out.push(kind);
        out.extend_from_slice(number.to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    line(b'*', args.len(), out);
    for arg in args {
        let arg = arg.as_ref();
        line(b'$', arg.len(), out);
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(parser: &mut CommandParser) -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
        let mut found = Vec::new();
        while let Some(command) = parser.next_command().unwrap() {
            found.push((command.raw.to_vec(), command.args().map(<[u8]>::to_vec).collect()));
        }
        found
    }

    #[test]
    fn counts_keepalives_as_bytes_of_the_next_command() {
        let mut parser = CommandParser::default();
        parser.feed(b"\n*1\r\n$4\r\nping\r\n\n");
        let found = all(&mut parser);
        assert_eq!(found, [(b"\n*1\r\n$4\r\nping\r\n".to_vec(), vec![b"ping".to_vec()])]);
        assert_eq!(parser.unfinished_bytes(), 1);
    }

    #[test]
    fn refuses_noise() {
        for (bytes, error) in [
            (&b"PING\r\n"[..], CommandError::NotAnArray(b'P')),
            (b"*1\r\n+OK\r\n", CommandError::NotABulk(b'+')),
            (b"*-1\r\n", CommandError::Length),
            (b"*99999999999999999999\r\n", CommandError::Length),
            (b"*1\r\n$1\r\nab\r\n", CommandError::NoCrlf),
            (b"*111111111111111111111111111111111111111111", CommandError::Length),
        ] {
            let mut parser = CommandParser::default();
            parser.feed(bytes);
            assert_eq!(parser.next_command().map(|_| ()), Err(error), "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn finds_what_was_written_however_it_is_cut(
            commands in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..5), 0..20),
            cut in 1_usize..50,
        ) {
            let mut bytes = Vec::new();
            for command in &commands {
                write_command(&mut bytes, command);
            }
            let mut parser = CommandParser::default();
            let mut batch = CommandBatch::default();
            for piece in bytes.chunks(cut) {
                parser.feed(piece);
                while let Some(command) = parser.next_command().unwrap() {
                    batch.push(command);
                }
            }
            prop_assert_eq!(batch.raw(), &bytes[..]);
            let found: Vec<Vec<Vec<u8>>> =
                batch.iter().map(|command| command.args().map(<[u8]>::to_vec).collect()).collect();
            prop_assert_eq!(found, commands);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut parser = CommandParser::default();
            parser.feed(&bytes);
            while let Ok(Some(_)) = parser.next_command() {}
        }
    }
}
