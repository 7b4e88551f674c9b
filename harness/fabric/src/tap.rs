//! Follows one replication link and says at which offset of the master's history each of our unique elements
//! passed.
//!
//! It sees the bytes as they are read from either end, before any policy holds them, and keeps none of the
//! payload.

use crate::commands::{Commands, Visit, decimal, trim_crlf};
use crate::{Endpoint, Nanos};

/// Longest reply line of the handshake that is understood.
const LINE_BYTES_MAX: usize = 1024;
/// Length of the mark of a transfer without a length.
const MARK_BYTES: usize = 40;

/// What passed on a replication link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamWhat {
    /// `+FULLRESYNC replid offset`: the command stream that follows the payload starts at `offset` + 1.
    Full { replid: String, offset: u64 },
    /// `+CONTINUE [replid]` to `PSYNC asked offset+1`: the stream goes on after `offset`.
    Continue { replid: String, offset: u64 },
    /// Commands whose arguments (key and name aside) hold our elements: (element, offset of the command's
    /// last byte).
    Elements { elements: Vec<(u64, u64)> },
    /// Whole keys came by RESTORE (as MIGRATE brings them) or went by DEL or UNLINK: (key, offset of the command's last
    /// byte). Keys that are longer than what is looked at are left out.
    Keys { came: Vec<(String, u64)>, went: Vec<(String, u64)> },
    /// The stream cannot be followed any further, and why; later elements of this connection are missing.
    Lost { why: String },
    /// The connection ended; `offset` is the last byte of it that was read from the master.
    End { offset: u64 },
}

/// One thing that passed, when and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// When the bytes were read from the master.
    pub time: Nanos,
    /// The master.
    pub from: Endpoint,
    /// The replica.
    pub to: Endpoint,
    /// The fabric's number of the connection.
    pub conn: u64,
    /// What passed.
    pub what: StreamWhat,
}

/// Follows one replication connection, dialled by the replica.
#[derive(Debug, Default)]
pub struct ReplicationTap {
    /// What the replica says, until the master has answered its PSYNC.
    asking: Commands,
    asked: Asked,
    phase: Phase,
    transfers: u32,
}

#[derive(Debug, Default)]
enum Phase {
    /// Reply lines, until the one to PSYNC.
    #[default]
    Handshake,
    /// The reply line so far (kept apart so that `Handshake` stays the default).
    Line(Vec<u8>),
    /// After +FULLRESYNC: newlines that keep the link alive, then `$len` or `$EOF:mark`.
    Size {
        base: u64,
        line: Vec<u8>,
    },
    Sized {
        base: u64,
        left: u64,
    },
    Marked {
        base: u64,
        mark: Vec<u8>,
        tail: Vec<u8>,
    },
    Stream {
        base: u64,
        commands: Commands,
        pending: Pending,
    },
    /// Given up; `last` is the last offset that was known.
    Lost {
        last: Option<u64>,
    },
}

impl Phase {
    fn stream(base: u64) -> Self {
        Self::Stream { base, commands: Commands::default(), pending: Pending::default() }
    }
}

/// What the replica asked for last.
#[derive(Debug, Default)]
struct Asked {
    name: Vec<u8>,
    replid: String,
    from: i64,
    psync: Option<(String, i64)>,
    sync: bool,
}

impl Visit for Asked {
    fn arg(&mut self, index: u32, head: &[u8], _len: u64) {
        match index {
            0 => self.name = head.to_ascii_uppercase(),
            1 => self.replid = String::from_utf8_lossy(head).into_owned(),
            2 => self.from = decimal(head).unwrap_or(-1),
            _ => {}
        }
    }

    fn end(&mut self, _at: u64) {
        match self.name.as_slice() {
            b"PSYNC" => self.psync = Some((std::mem::take(&mut self.replid), self.from)),
            b"SYNC" => self.sync = true,
            _ => {}
        }
    }
}

/// What the command that has not ended yet has shown so far.
#[derive(Debug, Default)]
struct Pending {
    elements: Vec<u64>,
    moves: Moves,
    keys: Vec<String>,
}

/// What a command does with whole keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Moves {
    #[default]
    None,
    Come,
    Go,
}

/// Collects elements of the stream, and keys that come and go whole.
struct Elements<'a> {
    base: u64,
    pending: &'a mut Pending,
    found: Vec<(u64, u64)>,
    came: Vec<(String, u64)>,
    went: Vec<(String, u64)>,
}

impl Visit for Elements<'_> {
    fn arg(&mut self, index: u32, head: &[u8], len: u64) {
        let whole = len == head.len() as u64;
        match (index, self.pending.moves) {
            (0, _) => self.pending.moves = moves(head),
            (1, Moves::Come) | (1.., Moves::Go) if whole => {
                self.pending.keys.push(String::from_utf8_lossy(head).into_owned());
            }
            _ => {}
        }
        // 0 is the name and 1 the key: a key that looks like an element is none.
        if index >= 2
            && whole
            && self.pending.moves == Moves::None
            && let Some(element) = element(head)
        {
            self.pending.elements.push(element);
        }
    }

    fn end(&mut self, at: u64) {
        let offset = self.base + at;
        self.found.extend(self.pending.elements.drain(..).map(|element| (element, offset)));
        let keys = match self.pending.moves {
            Moves::Come => &mut self.came,
            Moves::Go => &mut self.went,
            Moves::None => return,
        };
        keys.extend(self.pending.keys.drain(..).map(|key| (key, offset)));
    }
}

fn moves(name: &[u8]) -> Moves {
    let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
    match () {
        () if is(b"RESTORE") || is(b"RESTORE-ASKING") => Moves::Come,
        () if is(b"DEL") || is(b"UNLINK") => Moves::Go,
        () => Moves::None,
    }
}

/// `e` and decimal digits.
fn element(arg: &[u8]) -> Option<u64> {
    let digits = arg.strip_prefix(b"e")?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl ReplicationTap {
    /// Bytes that the replica sent.
    pub fn replica_sent(&mut self, bytes: &[u8]) -> Option<StreamWhat> {
        if !matches!(self.phase, Phase::Handshake | Phase::Line(_)) {
            return None;
        }
        if let Err(why) = self.asking.feed(bytes, &mut self.asked) {
            return Some(self.lose(None, format!("the replica's handshake: {why}")));
        }
        if self.asked.sync {
            return Some(self.lose(None, "SYNC has no offset".to_owned()));
        }
        None
    }

    /// Bytes that the master sent; what they mean is added to `out`.
    pub fn master_sent(&mut self, mut bytes: &[u8], out: &mut Vec<StreamWhat>) {
        while !bytes.is_empty() {
            match &mut self.phase {
                Phase::Handshake => self.phase = Phase::Line(Vec::new()),
                Phase::Line(line) => match take_line(line, &mut bytes) {
                    LineStep::More => {}
                    LineStep::TooLong => out.push(self.lose(None, "a reply line is too long".to_owned())),
                    LineStep::Whole => {
                        let line = std::mem::take(line);
                        out.extend(self.reply(trim_crlf(&line)));
                    }
                },
                Phase::Size { base, line } => match take_line(line, &mut bytes) {
                    LineStep::More => {}
                    LineStep::TooLong => {
                        let base = *base;
                        out.push(self.lose(Some(base), "the payload's header is too long".to_owned()));
                    }
                    LineStep::Whole => {
                        let (base, line) = (*base, std::mem::take(line));
                        out.extend(self.payload(base, trim_crlf(&line)));
                    }
                },
                Phase::Sized { base, left } => {
                    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        self.phase = Phase::stream(*base);
                    }
                }
                Phase::Marked { base, mark, tail } => {
                    // The master sends nothing after the mark until the replica has acknowledged it, so the
                    // mark is always the last that was read: comparing there, and only there, cannot be
                    // fooled by the payload.
                    let fresh = &bytes[bytes.len().saturating_sub(MARK_BYTES)..];
                    tail.extend_from_slice(fresh);
                    tail.drain(..tail.len().saturating_sub(MARK_BYTES));
                    bytes = &[];
                    if tail == mark {
                        self.phase = Phase::stream(*base);
                    }
                }
                Phase::Stream { base, commands, pending } => {
                    let mut elements = Elements {
                        base: *base,
                        pending,
                        found: Vec::new(),
                        came: Vec::new(),
                        went: Vec::new(),
                    };
                    let fed = commands.feed(bytes, &mut elements);
                    bytes = &[];
                    if !elements.found.is_empty() {
                        out.push(StreamWhat::Elements { elements: elements.found });
                    }
                    if !elements.came.is_empty() || !elements.went.is_empty() {
                        out.push(StreamWhat::Keys { came: elements.came, went: elements.went });
                    }
                    if let Err(why) = fed {
                        let last = *base + commands.seen;
                        out.push(self.lose(Some(last), format!("the command stream: {why}")));
                    }
                }
                Phase::Lost { .. } => return,
            }
        }
    }

    /// How many payloads of full synchronisations have begun.
    pub fn transfers(&self) -> u32 {
        self.transfers
    }

    /// The connection ended.
    pub fn end(&self) -> Option<StreamWhat> {
        let offset = match &self.phase {
            Phase::Handshake | Phase::Line(_) | Phase::Lost { last: None } => return None,
            Phase::Size { base, .. } | Phase::Sized { base, .. } | Phase::Marked { base, .. } => *base,
            Phase::Stream { base, commands, .. } => *base + commands.seen,
            Phase::Lost { last: Some(last) } => *last,
        };
        Some(StreamWhat::End { offset })
    }

    fn reply(&mut self, line: &[u8]) -> Option<StreamWhat> {
        let text = String::from_utf8_lossy(line);
        let mut words = text.split(' ');
        match words.next() {
            Some("+FULLRESYNC") => {
                let replid = words.next().unwrap_or_default().to_owned();
                let Some(offset) = words.next().and_then(|word| word.parse().ok()) else {
                    return Some(self.lose(None, "+FULLRESYNC without an offset".to_owned()));
                };
                self.phase = Phase::Size { base: offset, line: Vec::new() };
                Some(StreamWhat::Full { replid, offset })
            }
            Some("+CONTINUE") => {
                let Some((asked, from)) = self.asked.psync.take().filter(|&(_, from)| from > 0) else {
                    return Some(self.lose(None, "+CONTINUE to a PSYNC that was not seen".to_owned()));
                };
                let offset = from.unsigned_abs() - 1;
                let replid = words.next().map_or(asked, str::to_owned);
                self.phase = Phase::stream(offset);
                Some(StreamWhat::Continue { replid, offset })
            }
            // +PONG, +OK, errors, and the newlines that keep the link alive.
            _ => None,
        }
    }

    fn payload(&mut self, base: u64, line: &[u8]) -> Option<StreamWhat> {
        if line.is_empty() {
            self.phase = Phase::Size { base, line: Vec::new() };
            return None;
        }
        self.transfers += 1;
        if let Some(mark) = line.strip_prefix(b"$EOF:").filter(|mark| mark.len() == MARK_BYTES) {
            self.phase = Phase::Marked { base, mark: mark.to_vec(), tail: Vec::new() };
            return None;
        }
        match line.strip_prefix(b"$").and_then(decimal).and_then(|len| u64::try_from(len).ok()) {
            Some(0) => self.phase = Phase::stream(base),
            Some(left) => self.phase = Phase::Sized { base, left },
            None => return Some(self.lose(Some(base), "the payload's header is malformed".to_owned())),
        }
        None
    }

    fn lose(&mut self, last: Option<u64>, why: String) -> StreamWhat {
        self.phase = Phase::Lost { last };
        StreamWhat::Lost { why }
    }
}

enum LineStep {
    More,
    Whole,
    TooLong,
}

fn take_line(line: &mut Vec<u8>, bytes: &mut &[u8]) -> LineStep {
    let (taken, whole) = match bytes.iter().position(|&b| b == b'\n') {
        Some(i) => (i + 1, true),
        None => (bytes.len(), false),
    };
    if line.len() + taken > LINE_BYTES_MAX {
        return LineStep::TooLong;
    }
    line.extend_from_slice(&bytes[..taken]);
    *bytes = &bytes[taken..];
    if whole { LineStep::Whole } else { LineStep::More }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";
    const SADD: &[u8] = b"*3\r\n$4\r\nSADD\r\n$2\r\ne9\r\n$4\r\ne123\r\n";

    /// Feeds both sides in pieces of `piece` bytes and answers all that was seen, elements in one list.
    fn follow(replica: &[u8], master: &[u8], piece: usize) -> (Vec<StreamWhat>, Vec<(u64, u64)>) {
        let (mut tap, mut seen) = (ReplicationTap::default(), Vec::new());
        replica.chunks(piece).for_each(|bytes| seen.extend(tap.replica_sent(bytes)));
        master.chunks(piece).for_each(|bytes| tap.master_sent(bytes, &mut seen));
        seen.extend(tap.end());
        let mut found = Vec::new();
        seen.retain(|what| match what {
            StreamWhat::Elements { elements } => {
                found.extend(elements);
                false
            }
            _ => true,
        });
        (seen, found)
    }

    fn psync(id: &str, from: &str) -> Vec<u8> {
        format!(
            "*1\r\n$4\r\nPING\r\n*3\r\n$5\r\nPSYNC\r\n${}\r\n{id}\r\n${}\r\n{from}\r\n",
            id.len(),
            from.len()
        )
        .into_bytes()
    }

    #[test]
    fn a_full_sync_from_disk_counts_from_its_offset_and_shows_elements_but_not_keys() {
        let mut master = format!("+PONG\r\n\n\n+FULLRESYNC {ID} 100\r\n\n$9\r\n").into_bytes();
        master.extend_from_slice(b"*3\r\n$1\r\ne");
        master.extend_from_slice(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
        master.extend_from_slice(SADD);
        for piece in 1..master.len() {
            let (seen, found) = follow(&psync("?", "-1"), &master, piece);
            assert_eq!(found, [(123, 100 + 23 + SADD.len() as u64)]);
            let full = StreamWhat::Full { replid: ID.to_owned(), offset: 100 };
            assert_eq!(
                seen,
                [full, StreamWhat::End { offset: 123 + SADD.len() as u64 }],
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn a_partial_sync_goes_on_after_the_offset_that_was_asked_for() {
        let master = [b"+CONTINUE new\r\n", SADD].concat();
        let (seen, found) = follow(&psync(ID, "501"), &master, 7);
        assert_eq!(seen[0], StreamWhat::Continue { replid: "new".to_owned(), offset: 500 });
        assert_eq!(found, [(123, 500 + SADD.len() as u64)]);
        let bare = [b"+CONTINUE\r\n", SADD].concat();
        assert_eq!(
            follow(&psync(ID, "501"), &bare, 7).0[0],
            StreamWhat::Continue { replid: ID.to_owned(), offset: 500 }
        );
    }

    #[test]
    fn keys_that_come_and_go_whole_are_told_with_their_offsets() {
        let command = |words: &[&str]| -> Vec<u8> {
            let part = |text: String, word: &&str| format!("{text}${}\r\n{word}\r\n", word.len());
            words.iter().fold(format!("*{}\r\n", words.len()), part).into_bytes()
        };
        let long = "k".repeat(100);
        let came = command(&["RESTORE-ASKING", "k1", "0", "payload e5", "REPLACE"]);
        let went = command(&["del", "k2", &long, "e3"]);
        let master = [b"+CONTINUE\r\n", came.as_slice(), went.as_slice(), SADD].concat();
        for piece in [1, 7, 1000] {
            let (seen, found) = follow(&psync(ID, "11"), &master, piece);
            let (mut arrived, mut left) = (Vec::new(), Vec::new());
            for what in seen {
                if let StreamWhat::Keys { came, went } = what {
                    arrived.extend(came);
                    left.extend(went);
                }
            }
            let (first, second) = (10 + came.len() as u64, 10 + (came.len() + went.len()) as u64);
            assert_eq!(arrived, [("k1".to_owned(), first)]);
            assert_eq!(left, [("k2".to_owned(), second), ("e3".to_owned(), second)]);
            assert_eq!(found.last(), Some(&(123, second + SADD.len() as u64)));
        }
    }

    #[test]
    fn a_diskless_payload_ends_with_its_mark_as_the_last_bytes_read() {
        let mark = "m".repeat(40);
        let mut tap = ReplicationTap::default();
        let mut seen = Vec::new();
        tap.master_sent(format!("+FULLRESYNC {ID} 7\r\n$EOF:{mark}\r\nREDIS{mark}not").as_bytes(), &mut seen);
        tap.master_sent(&mark.as_bytes()[..13], &mut seen);
        tap.master_sent(&mark.as_bytes()[13..], &mut seen);
        tap.master_sent(SADD, &mut seen);
        assert_eq!(seen[1], StreamWhat::Elements { elements: vec![(123, 7 + SADD.len() as u64)] });
    }

    #[test]
    fn what_cannot_be_followed_says_so_and_keeps_the_last_offset_known() {
        let (seen, _) = follow(b"SYNC\r\n", b"$3\r\nabc", 64);
        assert!(matches!(&seen[..], [StreamWhat::Lost { .. }]), "{seen:?}");
        let (seen, _) = follow(&psync(ID, "11"), b"+CONTINUE\r\n*1\r\n+oops\r\n", 64);
        assert!(matches!(&seen[1..], [StreamWhat::Lost { .. }, StreamWhat::End { offset: 21 }]), "{seen:?}");
    }

    proptest::proptest! {
        #[test]
        fn foreign_bytes_never_panic(
            replica in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
            master in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        ) {
            follow(&replica, &master, 11);
            follow(&psync(ID, "11"), &[b"+CONTINUE\r\n".to_vec(), master].concat(), 5);
        }
    }
}
