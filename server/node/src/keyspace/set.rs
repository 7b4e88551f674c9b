//! Sets: sorted integers while they are few integers, else a hash trie of members.

use std::sync::Arc;

use super::bytestr::ByteStr;
use super::ints::{self, Ints};
use super::number::parse_i64;
use super::trie::{self, Trie};
use super::value::{Element, Env};

/// A set of byte strings.
#[derive(Clone, Debug)]
pub enum Set {
    /// At most `set-max-intset-entries` integers, ascending.
    Ints(Ints),
    /// Anything.
    Table(Arc<Table>),
}

/// Of a table's own block.
const TABLE_BYTES: usize = 16 + size_of::<Table>();

/// Members by hash.
#[derive(Clone, Debug, Default)]
pub struct Table {
    members: Trie<Member>,
    heap: usize,
}

#[derive(Clone, Debug)]
struct Member {
    hash: u32,
    text: ByteStr,
}

impl trie::Item for Member {
    fn hash(&self) -> u32 {
        self.hash
    }
    fn key(&self) -> &[u8] {
        &self.text
    }
}

impl Default for Set {
    fn default() -> Self {
        Self::Ints(Ints::default())
    }
}

impl Set {
    /// Number of members.
    pub fn len(&self) -> usize {
        match self {
            Self::Ints(ints) => ints.len(),
            Self::Table(table) => table.members.len(),
        }
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Approximate bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Ints(ints) => ints.heap_bytes(),
            Self::Table(table) => TABLE_BYTES + table.heap + table.members.len() * (size_of::<Member>() + 8),
        }
    }

    /// True if `member` is in it.
    pub fn contains(&self, env: Env, member: &[u8]) -> bool {
        match self {
            Self::Ints(ints) => parse_i64(member).is_some_and(|int| ints.search(int).is_ok()),
            Self::Table(table) => table.members.get(env.seed.hash(member), member).is_some(),
        }
    }

    /// Puts `member` in; false if it was there.
    pub fn add(&mut self, env: Env, member: &[u8]) -> bool {
        if let Self::Ints(ints) = self {
            match parse_i64(member) {
                Some(int) => match ints.search(int) {
                    Ok(_) => return false,
                    Err(index) if ints.len() < env.limits.set_max_intset_entries => {
                        ints.insert(index, int);
                        return true;
                    }
                    Err(_) => self.become_table(env),
                },
                None => self.become_table(env),
            }
        }
        let Self::Table(table) = self else { return false };
        let table = Arc::make_mut(table);
        let hash = env.seed.hash(member);
        if table.members.get(hash, member).is_some() {
            return false;
        }
        let text = ByteStr::new(member);
        table.heap += text.heap_bytes();
        table.members.insert(Member { hash, text });
        true
    }

    /// Takes `member` out; false if it was not there.
    pub fn remove(&mut self, env: Env, member: &[u8]) -> bool {
        match self {
            Self::Ints(ints) => match parse_i64(member).and_then(|int| ints.search(int).ok()) {
                Some(index) => {
                    ints.remove(index);
                    true
                }
                None => false,
            },
            Self::Table(table) => {
                let table = Arc::make_mut(table);
                let Some(removed) = table.members.remove(env.seed.hash(member), member) else { return false };
                table.heap -= removed.text.heap_bytes();
                true
            }
        }
    }

    /// The member at `rank` in the set's own order.
    pub fn nth(&self, rank: usize) -> Option<Element<'_>> {
        self.iter_from(rank).next()
    }

    /// The members from `rank` on: ascending integers, or hash order.
    pub fn iter_from(&self, rank: usize) -> Iter<'_> {
        match self {
            Self::Ints(ints) => Iter::Ints(ints.iter_from(rank)),
            Self::Table(table) => Iter::Table(table.members.iter_from_rank(rank)),
        }
    }

    /// The members with hashes from `from` on, with their hashes; integers count as hash 0 (they are few).
    pub fn iter_from_hash(&self, from: u32) -> impl Iterator<Item = (u32, Element<'_>)> {
        let (ints, table) = match self {
            Self::Ints(ints) => ((from == 0).then(|| ints.iter_from(0)), None),
            Self::Table(table) => (None, Some(table.members.iter_from_hash(from))),
        };
        ints.into_iter()
            .flatten()
            .map(|int| (0, Element::Int(int)))
            .chain(table.into_iter().flatten().map(|member| (member.hash, Element::Bytes(&member.text))))
    }

    /// Drops one leaf of a table that nobody wants; true when none is left.
    pub(super) fn free_some(&mut self) -> bool {
        match self {
            Self::Table(table) => Arc::get_mut(table).is_none_or(|table| table.members.free_leaf()),
            Self::Ints(_) => true,
        }
    }

    fn become_table(&mut self, env: Env) {
        if let Self::Ints(ints) = std::mem::replace(self, Self::Table(Arc::default())) {
            for int in ints.iter_from(0) {
                Element::Int(int).with(|text| self.add(env, text));
            }
        }
    }
}

/// Members of a set.
#[derive(Debug)]
pub enum Iter<'a> {
    #[doc(hidden)]
    Ints(ints::Iter<'a>),
    #[doc(hidden)]
    Table(#[allow(private_interfaces)] trie::Iter<'a, Member>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        match self {
            Self::Ints(ints) => ints.next().map(Element::Int),
            Self::Table(members) => members.next().map(|member| Element::Bytes(&member.text)),
        }
    }
}
