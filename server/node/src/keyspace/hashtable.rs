//! Hashes: one packed buffer while small, else a hash trie of fields.

use std::sync::Arc;

use super::bytestr::ByteStr;
use super::packed::{self, Packed};
use super::trie::{self, Trie};
use super::value::Env;

/// A map of byte strings.
#[derive(Clone, Debug)]
pub enum Hash {
    /// At most `hash-max-listpack-entries` fields, each text at most `hash-max-listpack-value` bytes; in order
    /// of insertion.
    Packed(Packed),
    /// Anything.
    Table(Arc<Table>),
}

/// Of a table's own block.
const TABLE_BYTES: usize = 16 + size_of::<Table>();

/// Fields by hash.
#[derive(Clone, Debug, Default)]
pub struct Table {
    fields: Trie<Field>,
    heap: usize,
}

#[derive(Clone, Debug)]
struct Field {
    hash: u32,
    name: ByteStr,
    value: ByteStr,
}

impl trie::Item for Field {
    fn hash(&self) -> u32 {
        self.hash
    }
    fn key(&self) -> &[u8] {
        &self.name
    }
}

impl Default for Hash {
    fn default() -> Self {
        Self::Packed(Packed::default())
    }
}

impl Hash {
    /// Number of fields.
    pub fn len(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.len() / 2,
            Self::Table(table) => table.fields.len(),
        }
    }

    /// True without fields.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Approximate bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.heap_bytes(),
            Self::Table(table) => TABLE_BYTES + table.heap + table.fields.len() * (size_of::<Field>() + 10),
        }
    }

    /// The value of a field.
    pub fn get(&self, env: Env, field: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Packed(packed) => packed.pair_value(field),
            Self::Table(table) => table.fields.get(env.seed.hash(field), field).map(|field| &*field.value),
        }
    }

    /// Sets a field; true if it is new.
    pub fn set(&mut self, env: Env, field: &[u8], value: &[u8]) -> bool {
        if let Self::Packed(packed) = self {
            let max = env.limits.hash_max_listpack_value;
            if field.len() <= max && value.len() <= max {
                if packed.replace_pair(field, value) {
                    return false;
                }
                if packed.len() / 2 < env.limits.hash_max_listpack_entries {
                    packed.push_pair(field, value);
                    return true;
                }
            }
            self.become_table(env);
        }
        let Self::Table(table) = self else { return false };
        let table = Arc::make_mut(table);
        let new = Field { hash: env.seed.hash(field), name: ByteStr::new(field), value: ByteStr::new(value) };
        table.heap += new.name.heap_bytes() + new.value.heap_bytes();
        match table.fields.insert(new) {
            Some(old) => {
                table.heap -= old.name.heap_bytes() + old.value.heap_bytes();
                false
            }
            None => true,
        }
    }

    /// Removes a field; false if it was not there.
    pub fn remove(&mut self, env: Env, field: &[u8]) -> bool {
        match self {
            Self::Packed(packed) => packed.remove_pair(field),
            Self::Table(table) => {
                let table = Arc::make_mut(table);
                let Some(old) = table.fields.remove(env.seed.hash(field), field) else { return false };
                table.heap -= old.name.heap_bytes() + old.value.heap_bytes();
                true
            }
        }
    }

    /// The pair at `rank` in the hash's own order.
    pub fn nth(&self, rank: usize) -> Option<(&[u8], &[u8])> {
        self.iter_from(rank).next()
    }

    /// The pairs from `rank` on: in order of insertion, or hash order.
    pub fn iter_from(&self, rank: usize) -> Iter<'_> {
        match self {
            Self::Packed(packed) => {
                let mut iter = packed.iter();
                for _ in 0..rank * 2 {
                    iter.next();
                }
                Iter::Packed(iter)
            }
            Self::Table(table) => Iter::Table(table.fields.iter_from_rank(rank)),
        }
    }

    /// The pairs with hashes from `from` on, with their hashes; those of a packed hash count as 0 (they are few).
    pub fn iter_from_hash(&self, from: u32) -> impl Iterator<Item = (u32, &[u8], &[u8])> {
        let (packed, table) = match self {
            Self::Packed(_) => ((from == 0).then(|| self.iter_from(0)), None),
            Self::Table(table) => (None, Some(table.fields.iter_from_hash(from))),
        };
        packed
            .into_iter()
            .flatten()
            .map(|(name, value)| (0, name, value))
            .chain(table.into_iter().flatten().map(|field| (field.hash, &*field.name, &*field.value)))
    }

    /// Drops one leaf of a table that nobody wants; true when none is left.
    pub(super) fn free_some(&mut self) -> bool {
        match self {
            Self::Table(table) => Arc::get_mut(table).is_none_or(|table| table.fields.free_leaf()),
            Self::Packed(_) => true,
        }
    }

    fn become_table(&mut self, env: Env) {
        if let Self::Packed(packed) = std::mem::replace(self, Self::Table(Arc::default())) {
            let mut iter = packed.iter();
            while let (Some(name), Some(value)) = (iter.next(), iter.next()) {
                self.set(env, name, value);
            }
        }
    }
}

/// Pairs of a hash.
#[derive(Debug)]
pub enum Iter<'a> {
    #[doc(hidden)]
    Packed(packed::Iter<'a>),
    #[doc(hidden)]
    Table(#[allow(private_interfaces)] trie::Iter<'a, Field>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Packed(iter) => Some((iter.next()?, iter.next()?)),
            Self::Table(fields) => fields.next().map(|field| (&*field.name, &*field.value)),
        }
    }
}
