//! Lists: a deque of shared chunks of at most 128 elements, so that copy on write of one end copies one chunk
//! and the spine (8 bytes a chunk).

use std::collections::VecDeque;
use std::sync::Arc;

use super::bytestr::ByteStr;

const CHUNK: usize = 128;

type Chunk = VecDeque<ByteStr>;

/// A list of byte strings.
#[derive(Clone, Debug, Default)]
pub struct List {
    chunks: VecDeque<Arc<Chunk>>,
    len: usize,
    heap: usize,
}

impl List {
    /// Number of elements.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True without elements.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Approximate bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.heap + self.chunks.len() * (8 + 16 + size_of::<Chunk>() + 64)
    }

    /// Adds at the head.
    pub fn push_front(&mut self, item: &[u8]) {
        if self.chunks.front().is_none_or(|chunk| chunk.len() >= CHUNK) {
            self.chunks.push_front(Arc::default());
        }
        let item = self.added(item);
        if let Some(chunk) = self.chunks.front_mut() {
            Arc::make_mut(chunk).push_front(item);
        }
    }

    /// Adds at the tail.
    pub fn push_back(&mut self, item: &[u8]) {
        if self.chunks.back().is_none_or(|chunk| chunk.len() >= CHUNK) {
            self.chunks.push_back(Arc::default());
        }
        let item = self.added(item);
        if let Some(chunk) = self.chunks.back_mut() {
            Arc::make_mut(chunk).push_back(item);
        }
    }

    /// Takes the head.
    pub fn pop_front(&mut self) -> Option<ByteStr> {
        self.remove(0)
    }

    /// Takes the tail.
    pub fn pop_back(&mut self) -> Option<ByteStr> {
        self.remove(self.len.checked_sub(1)?)
    }

    /// The element at `index`.
    pub fn get(&self, index: usize) -> Option<&ByteStr> {
        let (chunk, offset) = self.locate(index)?;
        self.chunks[chunk].get(offset)
    }

    /// Replaces the element at `index`; false if there is none.
    pub fn set(&mut self, index: usize, item: &[u8]) -> bool {
        let Some((chunk, offset)) = self.locate(index) else { return false };
        let new = ByteStr::new(item);
        self.heap += new.heap_bytes();
        let old = std::mem::replace(&mut Arc::make_mut(&mut self.chunks[chunk])[offset], new);
        self.heap -= old.heap_bytes();
        true
    }

    /// Puts an element before the one at `index`, or at the end.
    pub fn insert(&mut self, index: usize, item: &[u8]) {
        let Some((chunk, offset)) = self.locate(index) else { return self.push_back(item) };
        let item = self.added(item);
        let target = Arc::make_mut(&mut self.chunks[chunk]);
        target.insert(offset, item);
        if target.len() > CHUNK {
            let tail = target.split_off(CHUNK / 2);
            self.chunks.insert(chunk + 1, Arc::new(tail));
        }
    }

    /// Takes out the element at `index`.
    pub fn remove(&mut self, index: usize) -> Option<ByteStr> {
        let (chunk, offset) = self.locate(index)?;
        let target = Arc::make_mut(&mut self.chunks[chunk]);
        let item = target.remove(offset)?;
        if target.is_empty() {
            self.chunks.remove(chunk);
        }
        self.len -= 1;
        self.heap -= item.heap_bytes() + size_of::<ByteStr>();
        Some(item)
    }

    /// Keeps `from..to` only. Whole chunks outside are dropped without being looked into more than once.
    pub fn keep(&mut self, from: usize, to: usize) {
        while self.len > to {
            self.pop_back();
        }
        for _ in 0..from.min(self.len) {
            self.pop_front();
        }
    }

    /// The elements from `index` on.
    pub fn iter_from(&self, index: usize) -> impl Iterator<Item = &ByteStr> {
        let (chunk, offset) = self.locate(index).unwrap_or((self.chunks.len(), 0));
        self.chunks
            .range(chunk..)
            .enumerate()
            .flat_map(move |(nth, chunk)| chunk.range(if nth == 0 { offset.min(chunk.len()) } else { 0 }..))
    }

    /// All elements, tail first.
    pub fn iter_back(&self) -> impl Iterator<Item = &ByteStr> {
        self.chunks.iter().rev().flat_map(|chunk| chunk.iter().rev())
    }

    /// Drops one chunk of a list that nobody wants; true when none is left.
    pub(super) fn free_some(&mut self) -> bool {
        self.chunks.pop_back();
        self.chunks.is_empty()
    }

    fn added(&mut self, item: &[u8]) -> ByteStr {
        let item = ByteStr::new(item);
        self.len += 1;
        self.heap += item.heap_bytes() + size_of::<ByteStr>();
        item
    }

    /// Chunk and offset of an element, searched from the nearer end.
    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index < self.len / 2 {
            let mut rest = index;
            for (nth, chunk) in self.chunks.iter().enumerate() {
                if rest < chunk.len() {
                    return Some((nth, rest));
                }
                rest -= chunk.len();
            }
        } else {
            let mut rest = self.len - index;
            for (nth, chunk) in self.chunks.iter().enumerate().rev() {
                if rest <= chunk.len() {
                    return Some((nth, chunk.len() - rest));
                }
                rest -= chunk.len();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_vector(ops in prop::collection::vec((0u8..7, any::<u16>()), 0..900)) {
            let mut list = List::default();
            let mut model: Vec<Vec<u8>> = Vec::new();
            for (op, number) in ops {
                let item = format!("element {number} {}", "x".repeat(usize::from(number % 40))).into_bytes();
                let index = if model.is_empty() { 0 } else { usize::from(number) % model.len() };
                match op {
                    0 | 1 => { list.push_front(&item); model.insert(0, item); }
                    2 | 3 => { list.push_back(&item); model.push(item); }
                    4 => { list.insert(index, &item); model.insert(index, item); }
                    5 if !model.is_empty() => { prop_assert!(list.set(index, &item)); model[index] = item; }
                    _ if !model.is_empty() => {
                        prop_assert_eq!(list.remove(index).map(|item| item.to_vec()), Some(model.remove(index)));
                    }
                    _ => prop_assert!(list.remove(index).is_none()),
                }
            }
            prop_assert_eq!(list.iter_from(0).map(|item| item.to_vec()).collect::<Vec<_>>(), model.clone());
            for index in (0..model.len()).step_by(13) {
                prop_assert_eq!(list.get(index).map(|item| item.to_vec()), Some(model[index].clone()));
                prop_assert_eq!(list.iter_from(index).count(), model.len() - index);
            }
            let (from, to) = (model.len() / 3, model.len() / 2);
            list.keep(from, to);
            prop_assert_eq!(list.iter_from(0).map(|item| item.to_vec()).collect::<Vec<_>>(), model[from..to].to_vec());
            list.keep(0, 0);
            prop_assert_eq!(list.heap, 0);
        }
    }
}
