//! The one queue of events: by time, and those of one time in the order in which they were put there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slab::Slab;

use crate::Nanos;

/// Events in the order in which they happen.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    /// Time, number and place of each: the events themselves, which are larger, stay where they are.
    heap: BinaryHeap<Reverse<(Nanos, u64, usize)>>,
    places: Slab<E>,
    next: u64,
}

impl<E> Queue<E> {
    pub const fn new() -> Self {
        Self { heap: BinaryHeap::new(), places: Slab::new(), next: 0 }
    }

    pub fn push(&mut self, at: Nanos, event: E) {
        let place = self.places.insert(event);
        self.heap.push(Reverse((at, self.next, place)));
        self.next += 1;
    }

    pub fn next_at(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub fn pop(&mut self) -> Option<(Nanos, E)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        Some((at, self.places.try_remove(place)?))
    }
}
