//! Transactions in a compact form: 16 bytes a micro-operation, and the elements that list reads saw in one vector.

use crate::answer::OpId;

/// What the keys hold, and so what a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Objects {
    /// A write appends; a read sees all that was appended (Elle's list-append).
    Lists,
    /// A write replaces; a read sees the last (Elle's rw-register). Before the first write a read sees nil.
    Registers,
}

/// Jepsen's completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It took effect between its times.
    Ok,
    /// It may take effect at any time after its invocation, or never; what it read is not known.
    Info,
    /// It took no effect.
    Fail,
}

/// Who ran a transaction, when, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Does one transaction at a time. A number is not used again after [`Outcome::Info`].
    pub process: u32,
    /// In the history's clock; only the order counts.
    pub invoked: u64,
    /// Of an [`Outcome::Info`]: not looked at. Equal times are concurrent.
    pub returned: u64,
    pub outcome: Outcome,
}

/// One step of a transaction. Values written to one key must differ from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MicroOp<'a> {
    /// Appends to the list, or sets the register.
    Write { key: u32, value: u64 },
    /// Saw the whole list.
    ReadList { key: u32, elements: &'a [u64] },
    /// Saw the register; none is nil.
    ReadRegister { key: u32, value: Option<u64> },
    /// Was to read, but what it saw is not known.
    ReadUnknown { key: u32 },
}

/// A [`MicroOp`] that owns what it saw, while a transaction is read.
pub(crate) enum Step {
    Write(u32, u64),
    ReadUnknown(u32),
    ReadList(u32, Vec<u64>),
    ReadRegister(u32, Option<u64>),
}

impl Step {
    pub fn micro(&self) -> MicroOp<'_> {
        match self {
            Self::Write(key, value) => MicroOp::Write { key: *key, value: *value },
            Self::ReadUnknown(key) => MicroOp::ReadUnknown { key: *key },
            Self::ReadList(key, elements) => MicroOp::ReadList { key: *key, elements },
            Self::ReadRegister(key, value) => MicroOp::ReadRegister { key: *key, value: *value },
        }
    }
}

/// A history of transactions. [`OpId`]s are given in order of [`push`](TxnHistory::push).
#[derive(Clone, Debug)]
pub struct TxnHistory {
    objects: Objects,
    spans: Vec<Span>,
    /// Transaction i has the micro-operations from `starts[i]` to `starts[i + 1]`.
    starts: Vec<u32>,
    micros: Vec<Packed>,
    elements: Vec<u64>,
    keys: u32,
    names: Vec<String>,
}

/// A micro-operation in 16 bytes: the kind and a list's length share a word.
#[derive(Clone, Copy, Debug)]
struct Packed {
    key: u32,
    kind_len: u32,
    payload: u64,
}

const KIND_SHIFT: u32 = 29;
const LEN_MASK: u32 = (1 << KIND_SHIFT) - 1;
const WRITE: u32 = 0;
const READ_LIST: u32 = 1;
const READ_VALUE: u32 = 2;
const READ_NIL: u32 = 3;
const READ_UNKNOWN: u32 = 4;

impl TxnHistory {
    pub fn new(objects: Objects) -> Self {
        Self {
            objects,
            spans: Vec::new(),
            starts: vec![0],
            micros: Vec::new(),
            elements: Vec::new(),
            keys: 0,
            names: Vec::new(),
        }
    }

    /// Adds a transaction.
    ///
    /// # Panics
    /// Beyond 2^30 transactions, 2^32 micro-operations, or 2^29 elements in one read.
    pub fn push<'a>(&mut self, span: Span, micros: impl IntoIterator<Item = MicroOp<'a>>) -> OpId {
        let id = self.spans.len() as u32;
        assert!(id < MAX_TXNS, "too many transactions");
        self.spans.push(span);
        for micro in micros {
            let packed = self.pack(micro);
            self.keys = self.keys.max(packed.key + 1);
            self.micros.push(packed);
        }
        self.starts.push(u32::try_from(self.micros.len()).expect("too many micro-operations"));
        OpId(id)
    }

    /// Gives the keys names for people: key i is called `names[i]`, those beyond `k` and their number.
    pub fn name_keys(&mut self, names: Vec<String>) {
        self.names = names;
    }

    pub fn objects(&self) -> Objects {
        self.objects
    }

    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// One more than the highest key.
    pub fn keys(&self) -> u32 {
        self.keys
    }

    pub fn key_name(&self, key: u32) -> String {
        self.names.get(key as usize).cloned().unwrap_or_else(|| format!("k{key}"))
    }

    pub fn span(&self, txn: OpId) -> Span {
        self.spans[txn.0 as usize]
    }

    /// A transaction's steps in order.
    pub fn micros(&self, txn: OpId) -> impl Iterator<Item = MicroOp<'_>> {
        self.micro_range(txn.0).map(|at| self.micro(at))
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    pub(super) fn micro_range(&self, txn: u32) -> std::ops::Range<u32> {
        self.starts[txn as usize]..self.starts[txn as usize + 1]
    }

    pub(super) fn micro_count(&self) -> usize {
        self.micros.len()
    }

    pub(super) fn micro_key(&self, at: u32) -> u32 {
        self.micros[at as usize].key
    }

    /// Length of the list that a read saw; none if it is no list read.
    pub(super) fn list_len(&self, at: u32) -> Option<u32> {
        let packed = self.micros[at as usize];
        (packed.kind_len >> KIND_SHIFT == READ_LIST).then_some(packed.kind_len & LEN_MASK)
    }

    pub(super) fn micro(&self, at: u32) -> MicroOp<'_> {
        let Packed { key, kind_len, payload } = self.micros[at as usize];
        match kind_len >> KIND_SHIFT {
            WRITE => MicroOp::Write { key, value: payload },
            READ_LIST => {
                let start = payload as usize;
                MicroOp::ReadList {
                    key,
                    elements: &self.elements[start..start + (kind_len & LEN_MASK) as usize],
                }
            }
            READ_VALUE => MicroOp::ReadRegister { key, value: Some(payload) },
            READ_NIL => MicroOp::ReadRegister { key, value: None },
            _ => MicroOp::ReadUnknown { key },
        }
    }

    fn pack(&mut self, micro: MicroOp<'_>) -> Packed {
        let (key, kind, len, payload) = match micro {
            MicroOp::Write { key, value } => (key, WRITE, 0, value),
            MicroOp::ReadList { key, elements } => {
                let start = self.elements.len() as u64;
                self.elements.extend_from_slice(elements);
                (key, READ_LIST, elements.len() as u32, start)
            }
            MicroOp::ReadRegister { key, value: Some(value) } => (key, READ_VALUE, 0, value),
            MicroOp::ReadRegister { key, value: None } => (key, READ_NIL, 0, 0),
            MicroOp::ReadUnknown { key } => (key, READ_UNKNOWN, 0, 0),
        };
        assert!(len <= LEN_MASK, "a read of too many elements");
        Packed { key, kind_len: kind << KIND_SHIFT | len, payload }
    }
}

/// Two bits of an edge's target say its kind.
pub(super) const MAX_TXNS: u32 = 1 << 30;
