//! The one queue of events: by time, and those of one time in the order in which they were put there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::Nanos;

/// Events in the order in which they happen.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    /// Time, number and place of each: the events themselves, which are larger, stay where they are.
    heap: BinaryHeap<Reverse<(Nanos, u64, u32)>>,
    places: Vec<Option<E>>,
    free: Vec<u32>,
    next: u64,
}

impl<E> Queue<E> {
    pub const fn new() -> Self {
        Self { heap: BinaryHeap::new(), places: Vec::new(), free: Vec::new(), next: 0 }
    }

    pub fn push(&mut self, at: Nanos, event: E) {
        let place = if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(event);
            place
        } else {
            self.places.push(Some(event));
            (self.places.len() - 1) as u32
        };
        self.heap.push(Reverse((at, self.next, place)));
        self.next += 1;
    }

    pub fn next_at(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub fn pop(&mut self) -> Option<(Nanos, E)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        Some((at, self.places[place as usize].take()?))
    }
}
