//! Consumer groups: how far each has read, and what its consumers were given and have not acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::StreamId;
use super::extent::Extent;
use super::paged::PagedMap;

/// The name of a group or consumer; shared with whom refers to it.
pub type Name = Arc<[u8]>;

/// [`Group::entries_read`] where that is not known.
pub const UNKNOWN_READ: i64 = -1;

/// What an entry costs in the lists of a group and a consumer, in bytes.
const PENDING_BYTES: usize = size_of::<(StreamId, Pending)>() + size_of::<StreamId>();
/// What a consumer costs besides its name and its entries, in bytes.
const CONSUMER_BYTES: usize = 120;

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The last entry that was given to any of its consumers.
    pub last_id: StreamId,
    /// How many of the stream's entries, counted from the first ever, it has read; [`UNKNOWN_READ`].
    pub entries_read: i64,
    pending: PagedMap<Pending>,
    consumers: BTreeMap<Name, Arc<Consumer>>,
    /// Bytes of the consumers' names.
    names: usize,
}

/// An entry that a consumer was given and has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Whose it is.
    pub consumer: Name,
    /// When it was given last, in Unix milliseconds.
    pub delivered_ms: i64,
    /// How often.
    pub deliveries: u64,
}

/// A consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// When it was last heard of, in Unix milliseconds.
    pub seen_ms: i64,
    pending: PagedMap<()>,
}

impl Consumer {
    /// How many entries it has to acknowledge.
    pub const fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Their ids from one on.
    pub fn pending_from(&self, id: StreamId) -> impl Iterator<Item = StreamId> {
        self.pending.iter_from(id).map(|(id, ())| id)
    }

    /// Their ids without the first so many; cheap to resume.
    pub fn pending_from_rank(&self, rank: usize) -> impl Iterator<Item = StreamId> {
        self.pending.iter_from_rank(rank).map(|(id, ())| id)
    }
}

impl Group {
    /// A group without consumers.
    pub fn new(last_id: StreamId, entries_read: i64) -> Self {
        Self { last_id, entries_read, ..Self::default() }
    }

    /// Approximate bytes on the heap, in constant time.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.names
            + self.consumers.len() * CONSUMER_BYTES
            + self.pending.len() * PENDING_BYTES
    }

    /// The entries that are not acknowledged.
    pub const fn pending(&self) -> &PagedMap<Pending> {
        &self.pending
    }

    /// The consumers, in the order of their names.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = (&Name, &Consumer)> {
        self.consumers.iter().map(|(name, consumer)| (name, &**consumer))
    }

    /// A consumer.
    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        self.consumers.get(name).map(|consumer| &**consumer)
    }

    /// Makes a consumer; false if it is there.
    pub fn create_consumer(&mut self, name: &[u8], seen_ms: i64) -> bool {
        if self.consumers.contains_key(name) {
            return false;
        }
        self.names += name.len();
        self.consumers.insert(name.into(), Arc::new(Consumer { seen_ms, pending: PagedMap::default() }));
        true
    }

    /// A consumer is heard of; true if it had to be made.
    pub fn meet_consumer(&mut self, name: &[u8], now_ms: i64) -> bool {
        match self.consumers.get_mut(name) {
            Some(consumer) => {
                Arc::make_mut(consumer).seen_ms = now_ms;
                false
            }
            None => self.create_consumer(name, now_ms),
        }
    }

    /// Removes a consumer with what it had to acknowledge; gives how much that was.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let consumer = self.consumers.remove(name)?;
        self.names -= name.len();
        for (id, ()) in consumer.pending.iter() {
            self.pending.remove(id);
        }
        Some(consumer.pending.len())
    }

    /// The group reads on to an entry of a stream of this extent.
    pub fn advance(&mut self, id: StreamId, extent: &Extent) {
        if id <= self.last_id {
            return;
        }
        if self.entries_read != UNKNOWN_READ && !extent.has_gap_from(id) {
            self.entries_read = self.entries_read.wrapping_add(1);
        } else if extent.entries_added > 0 {
            self.entries_read = extent.entries_until(id).unwrap_or(UNKNOWN_READ);
        }
        self.last_id = id;
    }

    /// An entry is a consumer's now, whosesoever it was. The consumer must be there.
    pub fn assign(&mut self, id: StreamId, name: &[u8], delivered_ms: i64, deliveries: u64) {
        let Some((name, _)) = self.consumers.get_key_value(name) else { return };
        let name = Arc::clone(name);
        let new = Pending { consumer: Arc::clone(&name), delivered_ms, deliveries };
        if self.pending.insert(id, new.clone()) {
            self.change_consumer(&name, |consumer| consumer.pending.insert(id, ()));
            return;
        }
        let old = self.pending.change(id, |pending| std::mem::replace(pending, new));
        if let Some(old) = old.filter(|old| old.consumer != name) {
            self.change_consumer(&old.consumer, |consumer| consumer.pending.remove(id));
            self.change_consumer(&name, |consumer| consumer.pending.insert(id, ()));
        }
    }

    /// A consumer was given an entry once more.
    pub fn deliver_again(&mut self, id: StreamId, now_ms: i64) {
        self.pending.change(id, |pending| {
            pending.delivered_ms = now_ms;
            pending.deliveries = pending.deliveries.wrapping_add(1);
        });
    }

    /// An entry is acknowledged, or gone; false if it was not pending.
    pub fn release(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(id) else { return false };
        self.change_consumer(&pending.consumer, |consumer| consumer.pending.remove(id));
        true
    }

    /// Drops a bounded part of a group that nobody wants; true when the rest may be dropped at once.
    pub(super) fn free_some(&mut self) -> bool {
        if !self.pending.free_some() {
            return false;
        }
        while let Some(mut last) = self.consumers.last_entry() {
            if !Arc::get_mut(last.get_mut()).is_none_or(|consumer| consumer.pending.free_some()) {
                return false;
            }
            last.remove();
        }
        true
    }

    fn change_consumer<R>(&mut self, name: &[u8], change: impl FnOnce(&mut Consumer) -> R) -> Option<R> {
        self.consumers.get_mut(name).map(|consumer| change(Arc::make_mut(consumer)))
    }
}
