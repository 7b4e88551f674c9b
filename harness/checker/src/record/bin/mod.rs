//! `history.bin`: the operations of a history as fixed-size records grouped by key, for the consistency checks.
//!
//! ```text
//! header    16 bytes   magic "slotstrm", version u32, reserved u32
//! then for each object, in any order, a group:
//!   head    40 bytes   key length u32, kind of object u32, record count u64, element count u64, two u64 reserved
//!   key     its bytes, padded with zeros to a multiple of 8
//!   records 40 bytes each
//!   elements 8 bytes each: what reads saw; records say where theirs begin and how many there are
//! ```
//!
//! All numbers are little-endian. A group is judged without the others, so a reader holds one key at a time. A key may have several:
//! what masters and what replicas said of a counter. A record:
//!
//! ```text
//!  0 call u64    8 return u64 (all ones: never)    16 a u64    24 b u64    32 process u32    36 kind u8    37 status u8    38 node u16
//! ```
//!
//! What `a` and `b` are is the object's matter: see the `linear` room's kinds and [`BinKind`]. Of accounts the elements are
//! balances; of transactions they are their steps ([`BinTxn`]).

mod any;
mod kinds;
mod txns;

use std::io::{self, Read, Write};

use crate::linear::{Op, Status};
pub use any::AnyGroup;
pub use txns::{BinTxn, Steps};

const MAGIC: &[u8; 8] = b"slotstrm";

/// The layout described above. Another layout gets another number.
pub const BIN_VERSION: u32 = 2;

/// Bytes of a record.
pub const RECORD_BYTES: usize = 40;

const HEADER_BYTES: usize = 16;
const HEAD_BYTES: usize = 40;

/// An operation kind that fits a record.
pub trait BinKind: Copy {
    /// The number of the object in a group's head.
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
    #[error("expected a history.bin of version {BIN_VERSION}, found the header {0:02x?}")]
    Header(Vec<u8>),
    #[error("byte {at}: {what}")]
    Malformed { at: u64, what: &'static str },
    #[error("the transactions of {key}: steps that nobody knows, or that are cut short")]
    Txn { key: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes the header; groups follow.
pub fn write_header(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&header())
}

fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&BIN_VERSION.to_le_bytes());
    header
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
    head[4..8].copy_from_slice(&K::OBJECT.to_le_bytes());
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

/// What stands before a group's records.
struct Head {
    object: u32,
    key: Vec<u8>,
    records: u64,
    elements: u64,
}

impl<R: Read> BinReader<R> {
    /// Reads and checks the header. `input` should be buffered.
    pub fn open(mut input: R) -> Result<Self, BinError> {
        let mut found = Vec::new();
        input.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut found)?;
        if found != header() {
            return Err(BinError::Header(found));
        }
        Ok(Self { input, at: HEADER_BYTES as u64 })
    }

    /// The next group, which must be of this object; None at the end.
    pub fn next_group<K: BinKind>(&mut self) -> Result<Option<Group<K>>, BinError> {
        let Some(head) = self.head()? else { return Ok(None) };
        if head.object != K::OBJECT {
            return Err(self.malformed("a group of another object"));
        }
        self.group(head).map(Some)
    }

    /// The next group, whatever it is; None at the end.
    pub fn next_any(&mut self) -> Result<Option<AnyGroup>, BinError> {
        let Some(head) = self.head()? else { return Ok(None) };
        AnyGroup::read(self, head).map(Some)
    }

    fn head(&mut self) -> Result<Option<Head>, BinError> {
        let mut head = Vec::new();
        self.input.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        if head.is_empty() {
            return Ok(None);
        }
        if head.len() < HEAD_BYTES {
            return Err(self.malformed("a group's head is cut short"));
        }
        self.at += HEAD_BYTES as u64;
        let first = number(&head, 0);
        let length = first as u32 as usize;
        let mut key = self.bytes(length + padding(length))?;
        key.truncate(length);
        let (records, elements) = (number(&head, 8), number(&head, 16));
        Ok(Some(Head { object: (first >> 32) as u32, key, records, elements }))
    }

    fn group<K: BinKind>(&mut self, head: Head) -> Result<Group<K>, BinError> {
        let Head { key, records, elements, .. } = head;
        let mut group: Group<K> = Group { key, ops: Vec::new(), nodes: Vec::new(), elements: Vec::new() };
        let first_record = self.at;
        self.chunks(records, RECORD_BYTES, |at, bytes| {
            let (op, node) =
                parse(bytes).ok_or(BinError::Malformed { at, what: "no such kind, status or interval" })?;
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
        Ok(group)
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
    let (call, ret) = (number(record, 0), number(record, 8));
    if call > ret {
        return None;
    }
    let op = Op { call, ret, process: tail as u32, status, kind };
    Some((op, (tail >> 48) as u16))
}
