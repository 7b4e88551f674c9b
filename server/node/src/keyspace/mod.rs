//! Slots of keys, their types, expiry and snapshots.
//!
//! The keyspace is 16384 persistent tries, one a slot ([`trie`]): a [`Snapshot`] clones the roots, and a write to
//! what a snapshot shares copies a leaf of at most 64 keys and its branches. Big values are shared, not copied:
//! sets and hashes are tries themselves, sorted sets a trie and a tree, lists are chunked. So no write stalls for longer than the copy of a few
//! kilobytes, whatever the size of a slot or a value.
//!
//! Time is an argument: nothing here expires by itself. Callers decide (`command` lazily, `node` actively).

mod block;
pub mod bytestr;
mod dataset;
pub mod geohash;
pub mod hash;
pub mod hashtable;
pub mod hll;
pub mod ints;
pub mod list;
pub mod listpack;
pub mod number;
pub mod packed;
pub mod ranktree;
pub mod score;
pub mod set;
pub mod slot;
mod snapshot;
pub mod stream;
pub mod trie;
mod usage;
pub mod value;
pub mod zset;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

pub use bytestr::ByteStr;
pub use dataset::Dataset;
pub use hash::HashSeed;
pub use slot::{SLOTS, Slot, hash_tag};
pub use snapshot::{DatabaseSnapshot, Snapshot, SnapshotKey};
pub use usage::{KeyUsage, Usage};
pub use value::{
    Element, EncodingLimits, Env, HashView, ListView, PartsError, SetView, Spread, Value, ValueParts,
    ValueView, ZsetView,
};

use crate::io::WallMs;
use trie::{Demolition, Trie};

/// Dropping an aggregate or table with more elements than this is left to [`Keyspace::free_some`].
const DROP_AT_ONCE: usize = 64;

/// One key with what it holds.
#[derive(Debug)]
pub struct Entry {
    key: ByteStr,
    holding: Holding,
    hash: u32,
    /// As [`Usage`] says. Atomic because a read of a shared page must not copy it.
    usage: AtomicU32,
}

impl Clone for Entry {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone(),
            holding: self.holding.clone(),
            hash: self.hash,
            usage: AtomicU32::new(self.usage.load(Ordering::Relaxed)),
        }
    }
}

/// A value, with its time if it has one: most have none, and should not pay for it.
#[derive(Clone, Debug)]
enum Holding {
    For(Value),
    Until(Box<(WallMs, Value)>),
}

impl Holding {
    fn new(value: Value, expire_at: Option<WallMs>) -> Self {
        match expire_at {
            None => Self::For(value),
            Some(at) => Self::Until(Box::new((at, value))),
        }
    }

    fn value_mut(&mut self) -> &mut Value {
        match self {
            Self::For(value) => value,
            Self::Until(held) => &mut held.1,
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::For(value) => value,
            Self::Until(held) => held.1,
        }
    }
}

impl trie::Item for Entry {
    fn hash(&self) -> u32 {
        self.hash
    }
    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// What an expiry costs: its box, and its place in the order of expiries.
const EXPIRY_BYTES: usize = 32 + 24;

impl Entry {
    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// What it holds.
    pub const fn value(&self) -> &Value {
        match &self.holding {
            Holding::For(value) => value,
            Holding::Until(held) => &held.1,
        }
    }

    /// When it expires, if ever.
    pub const fn expire_at(&self) -> Option<WallMs> {
        match &self.holding {
            Holding::For(_) => None,
            Holding::Until(held) => Some(held.0),
        }
    }

    /// Its place in the slot's order.
    pub const fn hash(&self) -> u32 {
        self.hash
    }

    /// How much it is used, as [`Usage`] has it.
    pub fn usage_bits(&self) -> u32 {
        self.usage.load(Ordering::Relaxed)
    }

    /// Notes an access.
    pub fn touch(&self, usage: Usage, now: WallMs, draw: impl FnOnce() -> u64) {
        self.usage.store(usage.touched(self.usage_bits(), now, draw), Ordering::Relaxed);
    }

    /// Says how much it is used.
    pub fn set_usage_bits(&self, bits: u32) {
        self.usage.store(bits, Ordering::Relaxed);
    }

    /// Approximate bytes of key and value, their share of the trie included.
    pub fn size(&self) -> usize {
        // Of its leaf: what is reserved, rounded up by the allocator, and its share of the leaf's own cost.
        let share = 8;
        let expiry = if self.expire_at().is_some() { EXPIRY_BYTES } else { 0 };
        size_of::<Self>() + share + self.key.heap_bytes() + self.value().heap_bytes() + expiry
    }
}

/// Where a key belongs: what is computed of its name, once for all that a command does with it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    slot: Slot,
    hash: u32,
}

/// All keys of one database.
#[derive(Debug)]
pub struct Keyspace {
    env: Env,
    slots: Vec<Trie<Entry>>,
    len: usize,
    expiring: usize,
    /// When what expires: keys of one slot with equal hash and time share one record (they expire lazily then).
    expiries: BTreeSet<(WallMs, Slot, u32)>,
    bytes: usize,
    garbage: Vec<Garbage>,
    freed: u64,
    /// Keys that were not there before, in order, if somebody wants to know.
    births: Option<Vec<Vec<u8>>>,
    usage: Usage,
    load_time: WallMs,
}

#[derive(Debug)]
enum Garbage {
    Value(Value),
    Table(Demolition<Entry>),
}

impl Keyspace {
    /// An empty keyspace of a node in a cluster.
    pub fn new(seed: HashSeed, limits: EncodingLimits) -> Self {
        Self::within(Env { seed, limits, spread: Spread::ByName })
    }

    /// An empty keyspace.
    pub fn within(env: Env) -> Self {
        Self {
            env,
            slots: vec![Trie::default(); SLOTS],
            len: 0,
            expiring: 0,
            expiries: BTreeSet::new(),
            bytes: 0,
            garbage: Vec::new(),
            freed: 0,
            births: None,
            usage: Usage::default(),
            load_time: WallMs(0),
        }
    }

    /// Seed and limits, for operations on values.
    pub const fn env(&self) -> Env {
        self.env
    }

    /// Changes the limits of small encodings, for values written from now on.
    pub const fn set_limits(&mut self, limits: EncodingLimits) {
        self.env.limits = limits;
    }

    /// Shall keys that were not there before be noted?
    pub fn note_births(&mut self, noted: bool) {
        if noted {
            self.births.get_or_insert_default();
        } else {
            self.births = None;
        }
    }

    /// The keys that were added since the last call, in order, if they are noted.
    pub fn take_births(&mut self) -> Vec<Vec<u8>> {
        self.births.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What is noted of accesses from now on.
    pub const fn set_usage(&mut self, usage: Usage) {
        self.usage = usage;
    }

    /// Limits, and what is noted, become those of another keyspace of the same node.
    pub fn take_settings_of(&mut self, other: &Self) {
        self.env.limits = other.env.limits;
        self.usage = other.usage;
        self.note_births(other.births.is_some());
    }

    /// The keys that expire next, in their order.
    pub fn soonest(&self, count: usize) -> impl Iterator<Item = &Entry> {
        self.expiries.iter().take(count).filter_map(|&(due, slot, hash)| self.recorded(due, slot, hash))
    }

    /// A key that expires, near a place in the order of their times: `when` and `where_` choose it.
    pub fn expiring_near(&self, when: u64, where_: u64) -> Option<&Entry> {
        let (&(first, ..), &(last, ..)) = (self.expiries.first()?, self.expiries.last()?);
        let span = u128::from(last.0 - first.0) + 1;
        let at = WallMs(first.0 + ((u128::from(when) * span) >> 64) as u64);
        let from = (at, Slot((where_ % SLOTS as u64) as u16), (where_ >> 32) as u32);
        let after = self.expiries.range(from..).chain(self.expiries.range(..from));
        after.take(16).find_map(|&(due, slot, hash)| self.recorded(due, slot, hash))
    }

    /// The key behind a record of the order of times, if it is still there.
    fn recorded(&self, due: WallMs, slot: Slot, hash: u32) -> Option<&Entry> {
        let mut same_hash =
            self.slots[slot.index()].iter_from_hash(hash).take_while(|entry| entry.hash == hash);
        same_hash.find(|entry| entry.expire_at() == Some(due))
    }

    /// Number of keys, logically expired ones included.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True without keys.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of keys with an expiry.
    pub const fn expiring(&self) -> usize {
        self.expiring
    }

    /// Approximate bytes held.
    pub const fn used_memory(&self) -> usize {
        self.bytes
    }

    /// Number of keys in a slot.
    pub fn slot_len(&self, slot: Slot) -> usize {
        self.slots[slot.index()].len()
    }

    /// Where a key belongs.
    #[inline]
    pub fn place(&self, key: &[u8]) -> Place {
        let (hash, other) = self.env.seed.both(key);
        let slot = match self.env.spread {
            Spread::ByName => Slot::of_key(key),
            Spread::ByHash => Slot((other % SLOTS as u32) as u16),
        };
        Place { slot, hash }
    }

    /// The entry of a key, expired or not.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.get_at(self.place(key), key)
    }

    /// The same, for a key whose place is known.
    pub fn get_at(&self, Place { slot, hash }: Place, key: &[u8]) -> Option<&Entry> {
        self.slots[slot.index()].get(hash, key)
    }

    /// Sets key, value and expiry, whatever was there.
    pub fn set(&mut self, key: &[u8], value: Value, expire_at: Option<WallMs>, now: WallMs) {
        self.set_at(self.place(key), key, value, expire_at, now);
    }

    fn set_at(&mut self, place: Place, key: &[u8], value: Value, expire_at: Option<WallMs>, now: WallMs) {
        // A counter of accesses outlives the value that was accessed.
        let counted = match self.usage {
            Usage::Recency => None,
            Usage::Frequency { .. } => self.get_at(place, key).map(Entry::usage_bits),
        };
        let entry = Entry {
            key: ByteStr::new(key),
            holding: Holding::new(value, expire_at),
            hash: place.hash,
            usage: AtomicU32::new(counted.unwrap_or_else(|| self.usage.fresh(now))),
        };
        self.put(place.slot, entry);
    }

    /// The time at which keys are loaded: they count as used then, if the file does not say when they were.
    pub const fn set_load_time(&mut self, now: WallMs) {
        self.load_time = now;
    }

    /// These keys will be loaded next: brings the places where they belong near.
    pub fn foresee<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        let descent = |key| {
            let Place { slot, hash } = self.place(key);
            self.slots[slot.index()].descend(hash)
        };
        trie::foresee(&mut keys.map(descent).collect::<Vec<_>>());
    }

    /// Adds a key that a file or a full resync gives. Fails for values that cannot be, and for a key twice: the later
    /// one is there then, and all of it should be thrown away.
    pub fn load(
        &mut self,
        key: &[u8],
        parts: &ValueParts,
        expire_at: Option<WallMs>,
    ) -> Result<(), PartsError> {
        let value = Value::from_parts(self.env, parts)?;
        let before = self.len;
        self.set(key, value, expire_at, self.load_time);
        // Looking for it before would cost as much as putting it in.
        if self.len == before { Err(PartsError::Duplicate) } else { Ok(()) }
    }

    /// Changes a value in place; an aggregate left empty is removed with its key. `None` without such a key.
    pub fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Value, Env) -> R) -> Option<R> {
        self.update_at(self.place(key), key, change).ok()
    }

    /// As [`Self::update`]; gives `change` back without such a key.
    fn update_at<R, F: FnOnce(&mut Value, Env) -> R>(
        &mut self,
        Place { slot, hash }: Place,
        key: &[u8],
        change: F,
    ) -> Result<R, F> {
        let Some(entry) = self.slots[slot.index()].get_mut(hash, key) else { return Err(change) };
        let before = entry.size();
        let result = change(entry.holding.value_mut(), self.env);
        let after = entry.size();
        let empty = entry.value().is_empty();
        self.bytes = self.bytes + after - before;
        if empty {
            self.remove(key);
        }
        Ok(result)
    }

    /// As [`Self::update`], on `fresh` if there is no such key.
    pub fn update_or_insert<R>(
        &mut self,
        key: &[u8],
        fresh: impl FnOnce() -> Value,
        now: WallMs,
        change: impl FnOnce(&mut Value, Env) -> R,
    ) -> R {
        let place = self.place(key);
        let change = match self.update_at(place, key, change) {
            Ok(result) => return result,
            Err(change) => change,
        };
        let mut value = fresh();
        let result = change(&mut value, self.env);
        if !value.is_empty() {
            self.set_at(place, key, value, None, now);
        }
        result
    }

    /// Removes a key; false if it was not there. Big values are freed later, by [`Self::free_some`].
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.take(key).map(|value| self.discard(value)).is_some()
    }

    /// Removes a key and gives its value.
    pub fn take(&mut self, key: &[u8]) -> Option<Value> {
        let Place { slot, hash } = self.place(key);
        let entry = self.slots[slot.index()].remove(hash, key)?;
        self.bytes -= entry.size();
        self.len -= 1;
        self.forget_expiry(slot, &entry);
        Some(entry.holding.into_value())
    }

    /// Sets or clears the expiry of a key; false if it is not there.
    pub fn set_expiry(&mut self, key: &[u8], expire_at: Option<WallMs>) -> bool {
        let Place { slot, hash } = self.place(key);
        let Some(entry) = self.slots[slot.index()].get_mut(hash, key) else { return false };
        let old = entry.expire_at();
        if let (Holding::Until(held), Some(at)) = (&mut entry.holding, expire_at) {
            held.0 = at;
        } else {
            let value = std::mem::replace(entry.holding.value_mut(), Value::Int(0));
            entry.holding = Holding::new(value, expire_at);
        }
        if let Some(old) = old {
            self.bytes -= EXPIRY_BYTES;
            self.expiries.remove(&(old, slot, hash));
            self.expiring -= 1;
        }
        if let Some(new) = expire_at {
            self.bytes += EXPIRY_BYTES;
            self.expiries.insert((new, slot, hash));
            self.expiring += 1;
        }
        true
    }

    /// A key whose expiry is at or before `now`, the longest due first, that may go.
    pub fn next_expired(&mut self, now: WallMs, stays: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let mut gone = Vec::new();
        let mut next = None;
        for &(due, slot, hash) in &self.expiries {
            if due > now {
                break;
            }
            let mut those = self.slots[slot.index()]
                .iter_from_hash(hash)
                .take_while(|entry| entry.hash == hash)
                .filter(|entry| entry.expire_at().is_some_and(|at| at <= now))
                .peekable();
            if those.peek().is_none() {
                gone.push((due, slot, hash));
            } else if let Some(entry) = those.find(|entry| !stays(&entry.key)) {
                next = Some(entry.key.to_vec());
                break;
            }
        }
        for record in gone {
            self.expiries.remove(&record);
        }
        next
    }

    /// When the next key expires.
    pub fn next_expiry(&self) -> Option<WallMs> {
        self.expiries.first().map(|&(due, _, _)| due)
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        for slot in 0..SLOTS {
            self.clear_slot(Slot(slot as u16));
        }
        self.expiries.clear();
    }

    /// Removes all keys of a slot; gives their number.
    pub fn clear_slot(&mut self, slot: Slot) -> usize {
        let trie = std::mem::take(&mut self.slots[slot.index()]);
        let removed = trie.len();
        if removed == 0 {
            return 0;
        }
        for entry in trie.iter() {
            self.bytes -= entry.size();
            self.forget_expiry(slot, entry);
        }
        self.len -= removed;
        self.garbage.push(Garbage::Table(Demolition::new(trie)));
        removed
    }

    /// The keys of a slot from `rank` on, in the slot's stable order.
    pub fn slot_iter_from(&self, slot: Slot, rank: usize) -> impl Iterator<Item = &Entry> {
        self.slots[slot.index()].iter_from_rank(rank)
    }

    /// The keys of a slot whose hash is `from` or greater, in hash order.
    pub fn slot_iter_from_hash(&self, slot: Slot, from: u32) -> impl Iterator<Item = &Entry> {
        self.slots[slot.index()].iter_from_hash(from)
    }

    /// The key of this rank over all slots, for a uniform random choice.
    pub fn nth(&self, mut rank: usize) -> Option<&Entry> {
        for slot in &self.slots {
            if rank < slot.len() {
                return slot.nth(rank);
            }
            rank -= slot.len();
        }
        None
    }

    /// A frozen view of a dataset that has these keys in database 0 and no others.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(std::iter::once((0, self)))
    }

    /// A file tells how much this key is used.
    pub fn tell_usage(&self, key: &[u8], told: KeyUsage, now: WallMs) {
        if let Some((bits, entry)) = self.usage.from_told(told, now).zip(self.get(key)) {
            entry.set_usage_bits(bits);
        }
    }

    /// Takes over what another keyspace has dropped and not yet freed.
    pub fn take_garbage_of(&mut self, other: &mut Self) {
        if self.garbage.is_empty() {
            std::mem::swap(&mut self.garbage, &mut other.garbage);
        } else {
            self.garbage.append(&mut other.garbage);
        }
    }

    /// Takes over the freeing of a keyspace that is no longer wanted.
    pub fn inherit_garbage(&mut self, old: Self) {
        self.garbage.extend(old.garbage);
        let tables = old.slots.into_iter().filter(|trie| !trie.is_empty());
        self.garbage.extend(tables.map(|trie| Garbage::Table(Demolition::new(trie))));
    }

    /// How many dropped values and tables wait to be freed.
    pub const fn garbage_len(&self) -> usize {
        self.garbage.len()
    }

    /// How many dropped values and tables were freed bit by bit.
    pub const fn freed(&self) -> u64 {
        self.freed
    }

    /// Begins to count anew.
    pub const fn reset_freed(&mut self) {
        self.freed = 0;
    }

    /// Bytes of an empty keyspace's table.
    pub const fn table_bytes() -> usize {
        SLOTS * size_of::<Trie<Entry>>()
    }

    /// True while dropped data waits to be freed.
    pub fn has_garbage(&self) -> bool {
        !self.garbage.is_empty()
    }

    /// Frees a bounded part of what was dropped.
    pub fn free_some(&mut self, units: usize) {
        for _ in 0..units {
            let Some(garbage) = self.garbage.last_mut() else { return };
            let done = match garbage {
                Garbage::Table(demolition) => {
                    let mut big = Vec::new();
                    let done = demolition.step(1, |entry| {
                        if entry.value().elements() > DROP_AT_ONCE {
                            big.push(Garbage::Value(entry.holding.into_value()));
                        }
                    });
                    if done {
                        self.garbage.pop();
                        self.freed += 1;
                    }
                    self.garbage.append(&mut big);
                    false
                }
                Garbage::Value(value) => value.free_some(),
            };
            if done {
                self.garbage.pop();
                self.freed += 1;
            }
        }
    }

    fn put(&mut self, slot: Slot, entry: Entry) {
        let (hash, expire_at) = (entry.hash, entry.expire_at());
        self.bytes += entry.size();
        let name = self.births.is_some().then(|| entry.key.to_vec());
        if let Some(old) = self.slots[slot.index()].insert(entry) {
            self.bytes -= old.size();
            self.forget_expiry(slot, &old);
            self.discard(old.holding.into_value());
        } else {
            self.len += 1;
            if let (Some(births), Some(name)) = (&mut self.births, name) {
                births.push(name);
            }
        }
        if let Some(at) = expire_at {
            self.expiries.insert((at, slot, hash));
            self.expiring += 1;
        }
    }

    fn forget_expiry(&mut self, slot: Slot, entry: &Entry) {
        if let Some(at) = entry.expire_at() {
            self.expiries.remove(&(at, slot, entry.hash));
            self.expiring -= 1;
        }
    }

    fn discard(&mut self, value: Value) {
        if value.elements() > DROP_AT_ONCE {
            self.garbage.push(Garbage::Value(value));
        }
    }
}

#[cfg(test)]
mod tests;
