//! A few integers, ascending, in one shared block, each in two, four or eight bytes as the widest needs: what a small
//! set of integers is made of, as Redis' intset.

use super::block::Block;

/// The integers.
#[derive(Clone, Debug, Default)]
pub struct Ints {
    /// Empty, or the width in bytes and the integers, little-endian.
    block: Block,
}

#[allow(clippy::len_without_is_empty)] // used by sets only, which do not need it
impl Ints {
    fn width(&self) -> usize {
        self.block.first().map_or(2, |&width| usize::from(width))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.block.len().saturating_sub(1) / self.width()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.block.heap_bytes()
    }

    /// The integer at `rank`.
    pub fn get(&self, rank: usize) -> Option<i64> {
        let width = self.width();
        let bytes = self.block.get(1 + rank * width..1 + (rank + 1) * width)?;
        Some(match width {
            2 => i64::from(i16::from_le_bytes(bytes.try_into().ok()?)),
            4 => i64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
            _ => i64::from_le_bytes(bytes.try_into().ok()?),
        })
    }

    /// Where the integer is, or where it belongs.
    pub fn search(&self, int: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).map(|other| other.cmp(&int)) {
                Some(std::cmp::Ordering::Equal) => return Ok(middle),
                Some(std::cmp::Ordering::Less) => low = middle + 1,
                _ => high = middle,
            }
        }
        Err(low)
    }

    /// Puts an integer at the place that [`Self::search`] gave for it.
    pub fn insert(&mut self, rank: usize, int: i64) {
        let width = self.width().max(width_of(int));
        let before = (0..rank).filter_map(|rank| self.get(rank));
        let after = (rank..self.len()).filter_map(|rank| self.get(rank));
        self.block = block(width, self.len() + 1, before.chain([int]).chain(after));
    }

    /// Takes out the integer at `rank`. The width stays, as in Redis.
    pub fn remove(&mut self, rank: usize) {
        let len = self.len() - 1;
        let left = (0..=len).filter(|&other| other != rank).filter_map(|rank| self.get(rank));
        self.block = if len == 0 { Block::default() } else { block(self.width(), len, left) };
    }

    /// The integers from `rank` on.
    pub fn iter_from(&self, rank: usize) -> Iter<'_> {
        Iter { ints: self, rank }
    }
}

/// Integers of an [`Ints`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    ints: &'a Ints,
    rank: usize,
}

impl Iterator for Iter<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let int = self.ints.get(self.rank)?;
        self.rank += 1;
        Some(int)
    }
}

fn width_of(int: i64) -> usize {
    if i16::try_from(int).is_ok() {
        2
    } else if i32::try_from(int).is_ok() {
        4
    } else {
        8
    }
}

fn block(width: usize, len: usize, ints: impl Iterator<Item = i64>) -> Block {
    Block::filled(1 + len * width, |bytes| {
        bytes[0] = width as u8;
        for (to, int) in bytes[1..].chunks_exact_mut(width).zip(ints) {
            to.copy_from_slice(&int.to_le_bytes()[..width]);
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_an_ordered_set(ops in prop::collection::vec((any::<bool>(), 0u8..64, any::<i64>()), 0..200)) {
            let (mut ints, mut model) = (Ints::default(), BTreeSet::new());
            for (put, bits, int) in ops {
                let int = int >> bits;
                match (put, ints.search(int)) {
                    (true, Err(rank)) => ints.insert(rank, int),
                    (false, Ok(rank)) => ints.remove(rank),
                    _ => {}
                }
                if put { model.insert(int) } else { model.remove(&int) };
                prop_assert!(ints.iter_from(0).eq(model.iter().copied()));
                prop_assert_eq!(ints.len(), model.len());
            }
        }
    }
}
