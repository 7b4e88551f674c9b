//! What a key holds, and how one looks at it without knowing its encoding.

use std::sync::Arc;

use super::bytestr::ByteStr;
use super::hash::HashSeed;
use super::hashtable::{self, Hash};
use super::ints;
use super::list::List;
use super::number::{IntText, parse_i64};
use super::score::Score;
use super::set::{self, Set};
use super::stream::{NodeLimits, Stream};
use super::zset::{self, Zset};

/// When small encodings give way to tables (`hash-max-listpack-*`, `set-max-intset-entries`,
/// `zset-max-listpack-*`, `hll-sparse-max-bytes`), and when a node of a stream is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodingLimits {
    /// Fields of a packed hash.
    pub hash_max_listpack_entries: usize,
    /// Bytes of a field or value of a packed hash.
    pub hash_max_listpack_value: usize,
    /// Members of an integer set.
    pub set_max_intset_entries: usize,
    /// Members of a packed sorted set.
    pub zset_max_listpack_entries: usize,
    /// Bytes of a member of a packed sorted set.
    pub zset_max_listpack_value: usize,
    /// Bytes of a sparse HyperLogLog.
    pub hll_sparse_max_bytes: usize,
    /// Nodes of streams.
    pub stream_node: NodeLimits,
}

impl Default for EncodingLimits {
    fn default() -> Self {
        Self {
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            set_max_intset_entries: 512,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            hll_sparse_max_bytes: 3000,
            stream_node: NodeLimits::default(),
        }
    }
}

/// What the tables inside values need to know of the node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Env {
    /// Seed of all hashes.
    pub seed: HashSeed,
    /// Limits of small encodings.
    pub limits: EncodingLimits,
    /// How keys are spread over slots.
    pub spread: Spread,
}

/// How a keyspace spreads keys over its slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// As a Redis Cluster does, by name or hash tag: slots are moved, counted and dropped.
    #[default]
    ByName,
    /// Outside a cluster nobody asks for slots: the hash that is computed anyway does, and many keys of one hash tag
    /// are spread as well as others.
    ByHash,
}

impl Env {
    /// As it is, but sorted sets are never in their small form.
    #[must_use]
    pub const fn without_small_sorted_sets(mut self) -> Self {
        self.limits.zset_max_listpack_entries = 0;
        self
    }
}

/// A value. Aggregates other than streams are never empty while they are in the keyspace.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string that is an integer's canonical text.
    Int(i64),
    /// A string.
    Str(ByteStr),
    /// A string that was changed in place (`APPEND`, `SETRANGE`).
    Raw(Arc<Vec<u8>>),
    /// A list.
    List(Arc<List>),
    /// A set.
    Set(Set),
    /// A hash.
    Hash(Hash),
    /// A sorted set.
    Zset(Zset),
    /// A stream.
    Stream(Arc<Stream>),
}

/// The parts of a value as a file or a stream gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueParts {
    /// A string.
    String(Vec<u8>),
    /// Elements from head to tail.
    List(Vec<Vec<u8>>),
    /// Members.
    Set(Vec<Vec<u8>>),
    /// Pairs.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    /// Members with scores, in any order.
    Zset(Vec<(Vec<u8>, Score)>),
    /// A stream; a clone shares its parts.
    Stream(Arc<Stream>),
}

/// A string that may be held as an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// The integer whose decimal text it is.
    Int(i64),
}

impl Element<'_> {
    /// Hands the bytes to `f`.
    pub fn with<R>(self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Bytes(bytes) => f(bytes),
            Self::Int(int) => f(&IntText::new(int)),
        }
    }

    /// A copy of the bytes.
    pub fn to_vec(self) -> Vec<u8> {
        self.with(<[u8]>::to_vec)
    }
}

/// A value as it looks to those who write it somewhere.
#[derive(Clone, Copy, Debug)]
pub enum ValueView<'a> {
    /// A string.
    String(Element<'a>),
    /// A list.
    List(ListView<'a>),
    /// A set.
    Set(SetView<'a>),
    /// A hash.
    Hash(HashView<'a>),
    /// A sorted set.
    Zset(ZsetView<'a>),
    /// A stream.
    Stream(&'a Stream),
}

/// A list's elements.
#[derive(Clone, Copy, Debug)]
pub struct ListView<'a>(&'a List);

impl<'a> ListView<'a> {
    /// Number of elements.
    pub const fn len(self) -> usize {
        self.0.len()
    }
    /// True without elements.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }
    /// The elements from `index` on; cheap to resume.
    pub fn iter_from(self, index: usize) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter_from(index).map(ByteStr::as_slice)
    }
}

/// A set's members.
#[derive(Clone, Copy, Debug)]
pub struct SetView<'a>(&'a Set);

impl<'a> SetView<'a> {
    /// The members in ascending order, while they are few integers.
    pub fn ints(self) -> Option<ints::Iter<'a>> {
        match self.0 {
            Set::Ints(ints) => Some(ints.iter_from(0)),
            Set::Table(_) => None,
        }
    }
    /// Number of members.
    pub fn len(self) -> usize {
        self.0.len()
    }
    /// True without members.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
    /// The members from `rank` on, in the set's own stable order; cheap to resume.
    pub fn iter_from(self, rank: usize) -> set::Iter<'a> {
        self.0.iter_from(rank)
    }
}

/// A hash's pairs.
#[derive(Clone, Copy, Debug)]
pub struct HashView<'a>(&'a Hash);

impl<'a> HashView<'a> {
    /// True while it is small; its pairs then come in the order in which they were added.
    pub const fn is_packed(self) -> bool {
        matches!(self.0, Hash::Packed(_))
    }
    /// Number of pairs.
    pub fn len(self) -> usize {
        self.0.len()
    }
    /// True without pairs.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
    /// The pairs from `rank` on, in the hash's own stable order; cheap to resume.
    pub fn iter_from(self, rank: usize) -> hashtable::Iter<'a> {
        self.0.iter_from(rank)
    }
}

/// A sorted set's pairs.
#[derive(Clone, Copy, Debug)]
pub struct ZsetView<'a>(&'a Zset);

impl<'a> ZsetView<'a> {
    /// True while it is small.
    pub const fn is_packed(self) -> bool {
        matches!(self.0, Zset::Packed(_))
    }
    /// Number of pairs.
    pub fn len(self) -> usize {
        self.0.len()
    }
    /// True without pairs.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
    /// The pairs from `rank` on, ascending.
    pub fn iter_from(self, rank: usize) -> zset::Iter<'a> {
        self.0.iter_from(rank)
    }
    /// The pairs without the first `skipped`, descending; cheap to resume.
    pub fn iter_back(self, skipped: usize) -> zset::Iter<'a> {
        match self.len().checked_sub(skipped + 1) {
            Some(rank) => self.0.iter_back_from(rank),
            // Nothing is left: from behind the end on.
            None => self.0.iter_from(self.len()),
        }
    }
}

impl Value {
    /// A string value; held as an integer if it is one.
    pub fn string(bytes: &[u8]) -> Self {
        match parse_i64(bytes) {
            Some(int) => Self::Int(int),
            None => Self::Str(ByteStr::new(bytes)),
        }
    }

    /// A value made of parts.
    pub fn from_parts(env: Env, parts: &ValueParts) -> Result<Self, PartsError> {
        let value = match parts {
            ValueParts::String(bytes) => return Ok(Self::string(bytes)),
            ValueParts::List(items) => {
                let mut list = List::default();
                for item in items {
                    list.push_back(item);
                }
                Self::List(Arc::new(list))
            }
            ValueParts::Set(members) => {
                let mut set = Set::default();
                if !members.iter().all(|member| set.add(env, member)) {
                    return Err(PartsError::Duplicate);
                }
                Self::Set(set)
            }
            ValueParts::Hash(pairs) => {
                let mut hash = Hash::default();
                if !pairs.iter().all(|(field, value)| hash.set(env, field, value)) {
                    return Err(PartsError::Duplicate);
                }
                Self::Hash(hash)
            }
            ValueParts::Zset(pairs) => {
                let mut zset = Zset::default();
                for (member, score) in pairs {
                    if zset.set(env, member, score.0).is_some() {
                        return Err(PartsError::Duplicate);
                    }
                }
                Self::Zset(zset)
            }
            ValueParts::Stream(stream) => Self::Stream(Arc::clone(stream)),
        };
        if value.is_empty() { Err(PartsError::Empty) } else { Ok(value) }
    }

    /// True for an aggregate without elements (to be removed).
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Int(_) | Self::Str(_) | Self::Raw(_) | Self::Stream(_) => false,
            Self::List(list) => list.is_empty(),
            Self::Set(set) => set.is_empty(),
            Self::Hash(hash) => hash.is_empty(),
            Self::Zset(zset) => zset.is_empty(),
        }
    }

    /// Number of elements; 1 for a string.
    pub fn elements(&self) -> usize {
        match self {
            Self::Int(_) | Self::Str(_) | Self::Raw(_) => 1,
            Self::List(list) => list.len(),
            Self::Set(set) => set.len(),
            Self::Hash(hash) => hash.len(),
            Self::Zset(zset) => zset.len(),
            Self::Stream(stream) => stream.elements(),
        }
    }

    /// Frees a bounded part of a value that nobody wants; true when it may be dropped at once.
    pub(super) fn free_some(&mut self) -> bool {
        match self {
            Self::Int(_) | Self::Str(_) | Self::Raw(_) => true,
            Self::List(list) => Arc::get_mut(list).is_none_or(List::free_some),
            Self::Set(set) => set.free_some(),
            Self::Hash(hash) => hash.free_some(),
            Self::Zset(zset) => zset.free_some(),
            Self::Stream(stream) => Arc::get_mut(stream).is_none_or(Stream::free_some),
        }
    }

    /// Redis' name of the type.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Int(_) | Self::Str(_) | Self::Raw(_) => "string",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::Hash(_) => "hash",
            Self::Zset(_) => "zset",
            Self::Stream(_) => "stream",
        }
    }

    /// Redis 7.0's name of the encoding that it would use.
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::Int(_) => "int",
            Self::Str(bytes) if bytes.len() <= 44 => "embstr",
            Self::Str(_) | Self::Raw(_) => "raw",
            Self::List(_) => "quicklist",
            Self::Set(set) => match set {
                Set::Ints(_) => "intset",
                Set::Table(_) => "hashtable",
            },
            Self::Hash(hash) => match hash {
                Hash::Packed(_) => "listpack",
                Hash::Table(_) => "hashtable",
            },
            Self::Zset(zset) => match zset {
                Zset::Packed(_) => "listpack",
                Zset::Table(_) => "skiplist",
            },
            Self::Stream(_) => "stream",
        }
    }

    /// How often Redis would refer to it: small integers are one object for ever, whoever holds them.
    pub const fn references(&self) -> i64 {
        match self {
            Self::Int(0..10_000) => i32::MAX as i64,
            _ => 1,
        }
    }

    /// The string, if it is one.
    pub fn as_string(&self) -> Option<Element<'_>> {
        match self {
            Self::Int(int) => Some(Element::Int(*int)),
            Self::Str(bytes) => Some(Element::Bytes(bytes)),
            Self::Raw(bytes) => Some(Element::Bytes(bytes)),
            _ => None,
        }
    }

    /// The value without its encoding.
    pub fn view(&self) -> ValueView<'_> {
        match self {
            Self::Int(int) => ValueView::String(Element::Int(*int)),
            Self::Str(bytes) => ValueView::String(Element::Bytes(bytes)),
            Self::Raw(bytes) => ValueView::String(Element::Bytes(bytes)),
            Self::List(list) => ValueView::List(ListView(list)),
            Self::Set(set) => ValueView::Set(SetView(set)),
            Self::Hash(hash) => ValueView::Hash(HashView(hash)),
            Self::Zset(zset) => ValueView::Zset(ZsetView(zset)),
            Self::Stream(stream) => ValueView::Stream(stream),
        }
    }

    /// Approximate bytes on the heap, in constant time.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Int(_) => 0,
            Self::Str(bytes) => bytes.heap_bytes(),
            Self::Raw(bytes) => bytes.capacity() + 40,
            Self::List(list) => list.heap_bytes() + 80,
            Self::Set(set) => set.heap_bytes(),
            Self::Hash(hash) => hash.heap_bytes(),
            Self::Zset(zset) => zset.heap_bytes(),
            Self::Stream(stream) => stream.heap_bytes() + 16,
        }
    }
}

/// Why parts do not make a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartsError {
    /// A set or hash with a member twice: a corrupt file.
    #[error("duplicate member")]
    Duplicate,
    /// An aggregate without elements; Redis skips such keys with a warning.
    #[error("empty key")]
    Empty,
}
