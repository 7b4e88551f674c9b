//! Finds commands in a stream of RESP arrays (or inline lines) without keeping their arguments: of each only
//! the first [`HEAD_BYTES`] are shown, so that a 500 MB value costs no memory. Used to tell planes apart and
//! by the tap.

/// How much of an argument is shown: a replication id has 40 bytes, our elements at most 21.
pub(crate) const HEAD_BYTES: usize = 48;
/// Longest line (a header, or an inline command) that is understood.
const LINE_BYTES_MAX: usize = 1024;
/// Redis' own bound on the number of arguments.
const ARGS_MAX: i64 = 1024 * 1024 * 1024;

/// Receives what is found.
pub(crate) trait Visit {
    /// Argument `index` (0 is the command's name) with its first bytes and its whole length.
    fn arg(&mut self, index: u32, head: &[u8], len: u64);
    /// A command ended with the byte number `at` of the stream, counted from 1.
    fn end(&mut self, at: u64);
}

/// The position inside a stream of commands.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    state: State,
    line: Vec<u8>,
    index: u32,
    args: u32,
    head: Vec<u8>,
    len: u64,
    /// Bytes consumed so far.
    pub(crate) seen: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before or inside `*N` or an inline line.
    #[default]
    Start,
    /// Before or inside `$len`.
    Size,
    Body {
        left: u64,
    },
    /// The CRLF after a body.
    BodyEnd {
        left: u8,
    },
}

impl Commands {
    /// Goes on with `bytes`; the error says why the stream cannot be followed.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], visit: &mut impl Visit) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            match self.state {
                State::Start | State::Size => {
                    let (taken, whole) = match bytes.iter().position(|&b| b == b'\n') {
                        Some(i) => (i + 1, true),
                        None => (bytes.len(), false),
                    };
                    if self.line.len() + taken > LINE_BYTES_MAX {
                        return Err("a line is too long");
                    }
                    self.line.extend_from_slice(&bytes[..taken]);
                    self.seen += taken as u64;
                    bytes = &bytes[taken..];
                    if whole {
                        let line = std::mem::take(&mut self.line);
                        let done = self.line_ended(trim_crlf(&line), visit);
                        self.line = line;
                        self.line.clear();
                        done?;
                    }
                }
                State::Body { left } => {
                    let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let shown = taken.min(HEAD_BYTES - self.head.len());
                    self.head.extend_from_slice(&bytes[..shown]);
                    self.seen += taken as u64;
                    bytes = &bytes[taken..];
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::BodyEnd { left: 2 } } else { State::Body { left } };
                }
                State::BodyEnd { left } => {
                    self.seen += 1;
                    bytes = &bytes[1..];
                    if left > 1 {
                        self.state = State::BodyEnd { left: left - 1 };
                    } else {
                        visit.arg(self.index, &self.head, self.len);
                        self.index += 1;
                        self.next_arg(visit);
                    }
                }
            }
        }
        Ok(())
    }

    fn line_ended(&mut self, line: &[u8], visit: &mut impl Visit) -> Result<(), &'static str> {
        if matches!(self.state, State::Size) {
            let Some(len) = line.strip_prefix(b"$").and_then(decimal).and_then(|n| u64::try_from(n).ok())
            else {
                return Err("a bulk length is malformed");
            };
            self.len = len;
            self.head.clear();
            self.state = if len == 0 { State::BodyEnd { left: 2 } } else { State::Body { left: len } };
            return Ok(());
        }
        self.index = 0;
        if let Some(count) = line.strip_prefix(b"*") {
            let count = decimal(count).filter(|&n| n <= ARGS_MAX).ok_or("an argument count is malformed")?;
            self.args = u32::try_from(count).unwrap_or(0);
        } else {
            let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            for word in words {
                visit.arg(self.index, &word[..word.len().min(HEAD_BYTES)], word.len() as u64);
                self.index += 1;
            }
            self.args = self.index;
        }
        self.next_arg(visit);
        Ok(())
    }

    fn next_arg(&mut self, visit: &mut impl Visit) {
        if self.index < self.args {
            self.state = State::Size;
            return;
        }
        self.state = State::Start;
        if self.args > 0 {
            visit.end(self.seen);
        }
    }
}

/// The line without its LF or CRLF.
pub(crate) fn trim_crlf(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A decimal number that may be negative.
pub(crate) fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The first command's name, in capitals.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FirstWord {
    /// More bytes are needed.
    Incomplete,
    Word(Vec<u8>),
    /// No RESP.
    Foreign,
}

/// Looks at the first bytes that a caller sent.
pub(crate) fn first_word(bytes: &[u8]) -> FirstWord {
    struct First(Option<Vec<u8>>);
    impl Visit for First {
        fn arg(&mut self, index: u32, head: &[u8], _len: u64) {
            if index == 0 && self.0.is_none() {
                self.0 = Some(head.to_ascii_uppercase());
            }
        }
        fn end(&mut self, _at: u64) {}
    }
    let mut first = First(None);
    let fed = Commands::default().feed(bytes, &mut first);
    match (first.0, fed) {
        (Some(word), _) => FirstWord::Word(word),
        (None, Err(_)) => FirstWord::Foreign,
        (None, Ok(())) if bytes.len() > LINE_BYTES_MAX => FirstWord::Foreign,
        (None, Ok(())) => FirstWord::Incomplete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Vec<(Vec<Vec<u8>>, u64)>, Vec<Vec<u8>>);
    impl Visit for Seen {
        fn arg(&mut self, _index: u32, head: &[u8], _len: u64) {
            self.1.push(head.to_vec());
        }
        fn end(&mut self, at: u64) {
            let args = std::mem::take(&mut self.1);
            self.0.push((args, at));
        }
    }

    #[test]
    fn arrays_and_inline_lines_are_found_wherever_the_stream_is_cut() {
        let stream = b"*2\r\n$4\r\nSADD\r\n$0\r\n\r\nSYNC now\r\n*0\r\n\r\n*1\r\n$4\r\nping\r\n";
        for cut in 0..stream.len() {
            let (mut commands, mut seen) = (Commands::default(), Seen::default());
            commands.feed(&stream[..cut], &mut seen).unwrap();
            commands.feed(&stream[cut..], &mut seen).unwrap();
            let words = |list: &[&str]| list.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>();
            assert_eq!(
                seen.0,
                vec![(words(&["SADD", ""]), 20), (words(&["SYNC", "now"]), 30), (words(&["ping"]), 50)],
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn the_first_word_waits_for_its_last_byte() {
        assert_eq!(first_word(b"*1\r\n$4\r\npin"), FirstWord::Incomplete);
        assert_eq!(first_word(b"*1\r\n$4\r\nping\r\n"), FirstWord::Word(b"PING".to_vec()));
        assert_eq!(first_word(b"sync\r\n"), FirstWord::Word(b"SYNC".to_vec()));
        assert_eq!(first_word(b"*1\r\n+OK\r\n"), FirstWord::Foreign);
    }
}
