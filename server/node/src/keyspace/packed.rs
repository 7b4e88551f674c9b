//! A sequence of short byte strings in one shared block: what a small hash or sorted set is made of. One exact
//! allocation, no pointers; searched from the front, as Redis' listpack. A change of length makes a new block: they are
//! small, and a snapshot may hold the old one.

use super::block::Block;

/// The sequence.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// Empty, or the number of strings and the strings, each behind its length.
    block: Block,
}

#[allow(clippy::len_without_is_empty, clippy::iter_without_into_iter)] // used by values only, which need neither
impl Packed {
    /// Number of strings.
    pub fn len(&self) -> usize {
        read_len(&self.block).map_or(0, |(len, _)| len)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.block.heap_bytes()
    }

    /// Adds a string at the end.
    pub fn push(&mut self, item: &[u8]) {
        self.splice(self.records().len(), 0, &[item], self.len() + 1);
    }

    /// Adds a pair at the end.
    pub fn push_pair(&mut self, field: &[u8], value: &[u8]) {
        self.splice(self.records().len(), 0, &[field, value], self.len() + 2);
    }

    /// The strings, in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: self.records() }
    }

    /// The value that follows `field` in a sequence of pairs.
    pub fn pair_value(&self, field: &[u8]) -> Option<&[u8]> {
        let mut iter = self.iter();
        while let (Some(name), Some(value)) = (iter.next(), iter.next()) {
            if name == field {
                return Some(value);
            }
        }
        None
    }

    /// Replaces the value that follows `field`; false if the field is not there.
    pub fn replace_pair(&mut self, field: &[u8], value: &[u8]) -> bool {
        let Some((_, from, to)) = self.locate(field) else { return false };
        let record = len_bytes(value.len()) + value.len();
        let head = self.block.len() - self.records().len();
        if record == to - from
            && let Some(block) = self.block.get_mut()
        {
            let end = head + to;
            block[end - value.len()..end].copy_from_slice(value);
            return true;
        }
        self.splice(from, to - from, &[value], self.len());
        true
    }

    /// Removes `field` and its value; false if it is not there.
    pub fn remove_pair(&mut self, field: &[u8]) -> bool {
        let Some((from, _, to)) = self.locate(field) else { return false };
        self.splice(from, to - from, &[], self.len() - 2);
        true
    }

    /// Puts a pair before the one at `rank`, or at the end.
    pub fn insert_pair(&mut self, rank: usize, field: &[u8], value: &[u8]) {
        let mut iter = self.iter();
        for _ in 0..rank * 2 {
            iter.next();
        }
        let at = self.records().len() - iter.rest.len();
        self.splice(at, 0, &[field, value], self.len() + 2);
    }

    fn records(&self) -> &[u8] {
        read_len(&self.block).map_or(&[], |(_, records)| records)
    }

    /// Offsets among the records of the pair's begin, of its value's record, and of its end.
    fn locate(&self, field: &[u8]) -> Option<(usize, usize, usize)> {
        let records = self.records().len();
        let mut iter = self.iter();
        loop {
            let begin = records - iter.rest.len();
            let name = iter.next()?;
            let middle = records - iter.rest.len();
            iter.next()?;
            if name == field {
                return Some((begin, middle, records - iter.rest.len()));
            }
        }
    }

    /// A new block in which `items` stand in place of `removed` bytes of records from `at` on.
    fn splice(&mut self, at: usize, removed: usize, items: &[&[u8]], len: usize) {
        if len == 0 {
            *self = Self::default();
            return;
        }
        let old = self.records();
        let added: usize = items.iter().map(|item| len_bytes(item.len()) + item.len()).sum();
        let block = Block::filled(len_bytes(len) + old.len() - removed + added, |bytes| {
            let mut end = 0;
            let mut put = |part: &[u8]| {
                bytes[end..end + part.len()].copy_from_slice(part);
                end += part.len();
            };
            put_len(len, &mut put);
            put(&old[..at]);
            for item in items {
                put_len(item.len(), &mut put);
                put(item);
            }
            put(&old[at + removed..]);
        });
        self.block = block;
    }
}

/// Strings of a [`Packed`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = read_len(self.rest)?;
        let (item, rest) = rest.split_at(len);
        self.rest = rest;
        Some(item)
    }
}

fn put_len(mut len: usize, mut put: impl FnMut(&[u8])) {
    while len >= 0x80 {
        put(&[len as u8 | 0x80]);
        len >>= 7;
    }
    put(&[len as u8]);
}

/// Bytes that a length takes.
const fn len_bytes(len: usize) -> usize {
    let bits = usize::BITS - len.leading_zeros();
    if bits == 0 { 1 } else { bits.div_ceil(7) as usize }
}

fn read_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut len = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((len, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_vector_of_pairs(
            ops in prop::collection::vec((0u8..4, 0u8..12, prop::collection::vec(any::<u8>(), 0..300)), 0..80),
        ) {
            let mut packed = Packed::default();
            let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            let mut frozen = None;
            for (step, (op, field, value)) in ops.iter().enumerate() {
                let field = vec![*field; usize::from(*field)];
                let at = model.iter().position(|(name, _)| *name == field);
                match (op, at) {
                    (0, Some(at)) => {
                        model.remove(at);
                        prop_assert!(packed.remove_pair(&field));
                    }
                    (_, Some(at)) => {
                        model[at].1.clone_from(value);
                        prop_assert!(packed.replace_pair(&field, value));
                    }
                    (0, None) => prop_assert!(!packed.remove_pair(&field) && !packed.replace_pair(&field, value)),
                    (1, None) => {
                        let rank = value.len() % (model.len() + 1);
                        model.insert(rank, (field.clone(), value.clone()));
                        packed.insert_pair(rank, &field, value);
                    }
                    (_, None) => {
                        model.push((field.clone(), value.clone()));
                        packed.push_pair(&field, value);
                    }
                }
                if step == ops.len() / 2 {
                    frozen = Some((packed.clone(), model.clone()));
                }
            }
            for (packed, model) in [(packed, model)].into_iter().chain(frozen) {
                let flat: Vec<&[u8]> = model.iter().flat_map(|(name, value)| [&name[..], value]).collect();
                prop_assert_eq!(packed.iter().collect::<Vec<_>>(), flat);
                prop_assert_eq!(packed.len(), model.len() * 2);
                for (name, value) in &model {
                    prop_assert_eq!(packed.pair_value(name), Some(&value[..]));
                }
            }
        }
    }
}
