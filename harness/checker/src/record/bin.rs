//! `history.bin`: the operations of a history as fixed-size records grouped by key, for the consistency checks.
//!
//! ```text
//! header    16 bytes   magic "slotstrm", version u32, kind of object u32
//! then for each key, in any order, a group:
//!   head    40 bytes   key length u32, reserved u32, record count u64, element count u64, two u64 reserved
//!   key     its bytes, padded with zeros to a multiple of 8
//!   records 40 bytes each
//!   elements 8 bytes each: what reads saw; records say where theirs begin and how many there are
//! ```
//!
//! All numbers are little-endian. A group is judged without the others, so a reader holds one key at a time, and lengths in the
//! head let it skip. A record:
//!
//! ```text
//!  0 call u64    8 return u64 (all ones: never)    16 a u64    24 b u64    32 process u32    36 kind u8    37 status u8    38 node u16
//! ```
//!
//! What `a` and `b` are is the object's matter: see the `linear` room's kinds and [`BinKind`].

use std::io::{self, Read, Write};

use crate::linear::{Counter, List, Lock, Op, Queue, Register, Set, Status};

const MAGIC: &[u8; 8] = b"slotstrm";

/// The layout described above. Another layout gets another number.
pub const BIN_VERSION: u32 = 1;

/// Bytes of a record.
pub const RECORD_BYTES: usize = 40;

const HEAD_BYTES: usize = 40;

/// An operation kind that fits a record.
pub trait BinKind: Copy {
    /// The number of the object in the header.
    const OBJECT: u32;

    /// Kind number, `a` and `b`.
    fn encode(self) -> (u8, u64, u64);

    /// The inverse; None for numbers of no kind.
    fn decode(kind: u8, a: u64, b: u64) -> Option<Self>;

    /// Where the elements are that it refers to: start and count.
    fn elements(self) -> Option<(u64, u64)> {
        None
    }
}

/// One operation and the node that answered it (0: none; else its number in `run.json`, from 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BinOp<K> {
    pub op: Op<K>,
    pub node: u16,
}

/// One key's operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<K> {
    pub key: Vec<u8>,
    pub ops: Vec<Op<K>>,
    /// Which node answered each operation.
    pub nodes: Vec<u16>,
    pub elements: Vec<u64>,
}

/// Why a file is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum BinError {
    #[error("not a history.bin, or of another version or object: the header is {0:02x?}")]
    Header(Vec<u8>),
    #[error("byte {at}: {what}")]
    Malformed { at: u64, what: &'static str },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes the header; groups follow.
pub fn write_header<K: BinKind>(out: &mut impl Write) -> io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&BIN_VERSION.to_le_bytes())?;
    out.write_all(&K::OBJECT.to_le_bytes())
}

/// Writes one key's operations.
pub fn write_group<K: BinKind>(
    out: &mut impl Write,
    key: &[u8],
    ops: &[BinOp<K>],
    elements: &[u64],
) -> io::Result<()> {
    let length = u32::try_from(key.len()).map_err(|_| io::Error::other("a key of 4 GB"))?;
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[8..16].copy_from_slice(&(ops.len() as u64).to_le_bytes());
    head[16..24].copy_from_slice(&(elements.len() as u64).to_le_bytes());
    out.write_all(&head)?;
    out.write_all(key)?;
    out.write_all(&[0; 8][..padding(key.len())])?;
    for BinOp { op, node } in ops {
        out.write_all(&record(op, *node))?;
    }
    elements.iter().try_for_each(|element| out.write_all(&element.to_le_bytes()))
}

fn record<K: BinKind>(op: &Op<K>, node: u16) -> [u8; RECORD_BYTES] {
    let (kind, a, b) = op.kind.encode();
    let status = match op.status {
        Status::Done => 0,
        Status::Unknown => 1,
        Status::Failed => 2,
    };
    let mut record = [0; RECORD_BYTES];
    for (at, number) in [op.call, op.ret, a, b].into_iter().enumerate() {
        record[at * 8..][..8].copy_from_slice(&number.to_le_bytes());
    }
    record[32..36].copy_from_slice(&op.process.to_le_bytes());
    record[36..38].copy_from_slice(&[kind, status]);
    record[38..].copy_from_slice(&node.to_le_bytes());
    record
}

/// Reads groups one after the other. Every length is checked against what is there before memory is taken for it.
pub struct BinReader<R> {
    input: R,
    at: u64,
}

impl<R: Read> BinReader<R> {
    /// Reads and checks the header. `input` should be buffered.
    pub fn open<K: BinKind>(mut input: R) -> Result<Self, BinError> {
        let mut header = Vec::new();
        input.by_ref().take(16).read_to_end(&mut header)?;
        let mut wanted = MAGIC.to_vec();
        wanted.extend(BIN_VERSION.to_le_bytes());
        wanted.extend(K::OBJECT.to_le_bytes());
        if header != wanted {
            return Err(BinError::Header(header));
        }
        Ok(Self { input, at: 16 })
    }

    /// The next key, or None at the end.
    pub fn next_group<K: BinKind>(&mut self) -> Result<Option<Group<K>>, BinError> {
        let mut head = Vec::new();
        self.input.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        if head.is_empty() {
            return Ok(None);
        }
        if head.len() < HEAD_BYTES {
            return Err(self.malformed("a group's head is cut short"));
        }
        self.at += HEAD_BYTES as u64;
        let length = number(&head, 0) as u32 as usize;
        let (records, elements) = (number(&head, 8), number(&head, 16));
        let mut key = self.bytes(length + padding(length))?;
        key.truncate(length);
        let mut group: Group<K> = Group { key, ops: Vec::new(), nodes: Vec::new(), elements: Vec::new() };
        let first_record = self.at;
        self.chunks(records, RECORD_BYTES, |at, bytes| {
            let (op, node) =
                parse(bytes).ok_or(BinError::Malformed { at, what: "no such kind or status" })?;
            push(&mut group.ops, op, records);
            push(&mut group.nodes, node, records);
            Ok(())
        })?;
        self.chunks(elements, 8, |_, bytes| {
            push(&mut group.elements, number(bytes, 0), elements);
            Ok(())
        })?;
        for (at, op) in group.ops.iter().enumerate() {
            let fits = op.kind.elements().is_none_or(|(start, count)| {
                start.checked_add(count).is_some_and(|end| end <= group.elements.len() as u64)
            });
            if !fits {
                let at = first_record + (at * RECORD_BYTES) as u64;
                return Err(BinError::Malformed { at, what: "a read refers to elements that are not there" });
            }
        }
        Ok(Some(group))
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, BinError> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(count as u64).read_to_end(&mut bytes)?;
        if bytes.len() < count {
            return Err(self.malformed("a key is cut short"));
        }
        self.at += count as u64;
        Ok(bytes)
    }

    /// `count` items of `size` bytes, through a buffer of bounded size.
    fn chunks(
        &mut self,
        count: u64,
        size: usize,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), BinError>,
    ) -> Result<(), BinError> {
        const ITEMS: u64 = 4096;
        let mut buffer = vec![0; ITEMS as usize * size];
        let mut left = count;
        while left > 0 {
            let now = left.min(ITEMS) as usize * size;
            self.input.read_exact(&mut buffer[..now]).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.malformed("a group is cut short"),
                _ => error.into(),
            })?;
            for (number, item) in buffer[..now].chunks_exact(size).enumerate() {
                take(self.at + (number * size) as u64, item)?;
            }
            self.at += now as u64;
            left -= left.min(ITEMS);
        }
        Ok(())
    }

    fn malformed(&self, what: &'static str) -> BinError {
        BinError::Malformed { at: self.at, what }
    }
}

/// Pushes one of `total` items. Memory follows what was read, not what a head promises, and ends without slack.
fn push<T>(items: &mut Vec<T>, item: T, total: u64) {
    let length = items.len();
    if length == items.capacity() {
        let left = usize::try_from(total).unwrap_or(usize::MAX) - length;
        items.reserve_exact(left.min(length / 4 + 4096));
    }
    items.push(item);
}

fn padding(length: usize) -> usize {
    length.wrapping_neg() % 8
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn parse<K: BinKind>(record: &[u8]) -> Option<(Op<K>, u16)> {
    let tail = number(record, 32);
    let status = match (tail >> 40) as u8 {
        0 => Status::Done,
        1 => Status::Unknown,
        2 => Status::Failed,
        _ => return None,
    };
    let kind = K::decode((tail >> 32) as u8, number(record, 16), number(record, 24))?;
    let op = Op { call: number(record, 0), ret: number(record, 8), process: tail as u32, status, kind };
    Some((op, (tail >> 48) as u16))
}

impl BinKind for Register {
    const OBJECT: u32 = 1;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Read(value) => (0, value, 0),
            Self::Write(value) => (1, value, 0),
            Self::Cas { from, to } => (2, from, to),
            Self::CasLost { from, seen } => (3, from, seen),
            Self::Swap { to, seen } => (4, to, seen),
            Self::Delete => (5, 0, 0),
        }
    }

    fn decode(kind: u8, a: u64, b: u64) -> Option<Self> {
        Some(match kind {
            0 => Self::Read(a),
            1 => Self::Write(a),
            2 => Self::Cas { from: a, to: b },
            3 => Self::CasLost { from: a, seen: b },
            4 => Self::Swap { to: a, seen: b },
            5 => Self::Delete,
            _ => return None,
        })
    }
}

impl BinKind for Set {
    const OBJECT: u32 = 2;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Add(element) => (0, element, 0),
            Self::Read { start, len } => (1, start, u64::from(len)),
        }
    }

    fn decode(kind: u8, a: u64, b: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Add(a)),
            1 => Some(Self::Read { start: a, len: u32::try_from(b).ok()? }),
            _ => None,
        }
    }

    fn elements(self) -> Option<(u64, u64)> {
        match self {
            Self::Add(_) => None,
            Self::Read { start, len } => Some((start, u64::from(len))),
        }
    }
}

impl BinKind for List {
    const OBJECT: u32 = 3;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Append { element, length } => (0, element, u64::from(length)),
            Self::Read { start, len } => (1, start, u64::from(len)),
        }
    }

    fn decode(kind: u8, a: u64, b: u64) -> Option<Self> {
        let b = u32::try_from(b).ok()?;
        match kind {
            0 => Some(Self::Append { element: a, length: b }),
            1 => Some(Self::Read { start: a, len: b }),
            _ => None,
        }
    }

    fn elements(self) -> Option<(u64, u64)> {
        match self {
            Self::Append { .. } => None,
            Self::Read { start, len } => Some((start, u64::from(len))),
        }
    }
}

impl BinKind for Counter {
    const OBJECT: u32 = 4;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Add { by, reply } => (0, by as u64, reply as u64),
            Self::Get(value) => (1, value as u64, 0),
        }
    }

    fn decode(kind: u8, a: u64, b: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Add { by: a as i64, reply: b as i64 }),
            1 => Some(Self::Get(a as i64)),
            _ => None,
        }
    }
}

impl BinKind for Queue {
    const OBJECT: u32 = 5;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Enqueue(element) => (0, element, 0),
            Self::Dequeue(element) => (1, element, 0),
            Self::Empty => (2, 0, 0),
        }
    }

    fn decode(kind: u8, a: u64, _b: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Enqueue(a)),
            1 => Some(Self::Dequeue(a)),
            2 => Some(Self::Empty),
            _ => None,
        }
    }
}

impl BinKind for Lock {
    const OBJECT: u32 = 6;

    fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Acquire(token) => (0, token, 0),
            Self::Busy(holder) => (1, holder, 0),
            Self::Free => (2, 0, 0),
            Self::Release(token) => (3, token, 0),
            Self::NotHeld(token) => (4, token, 0),
        }
    }

    fn decode(kind: u8, a: u64, _b: u64) -> Option<Self> {
        Some(match kind {
            0 => Self::Acquire(a),
            1 => Self::Busy(a),
            2 => Self::Free,
            3 => Self::Release(a),
            4 => Self::NotHeld(a),
            _ => return None,
        })
    }
}
