//! A frozen view of all databases: cheap to take and to clone, safe to encode on another thread.

use std::sync::Arc;

use super::trie::Trie;
use super::{Entry, KeyUsage, Keyspace, SLOTS, Slot, Usage, ValueView};
use crate::io::WallMs;

/// The view.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    databases: Arc<[DatabaseSnapshot]>,
    /// What entries note of their use, and when it was: a file tells it under policies that look at it.
    usage: Option<(Usage, WallMs)>,
    libraries: Arc<[Arc<[u8]>]>,
}

/// One database of it; it has keys.
#[derive(Clone, Debug)]
pub struct DatabaseSnapshot {
    number: u32,
    slots: Box<[Trie<Entry>]>,
    len: usize,
    expiring: usize,
}

impl Snapshot {
    /// The view of these databases, in ascending order of their numbers: in the time of copying 16384 pointers for
    /// each that has keys.
    pub fn of<'a>(databases: impl Iterator<Item = (u32, &'a Keyspace)>) -> Self {
        let some = databases.filter(|(_, keys)| !keys.is_empty());
        let databases = some.map(|(number, keys)| DatabaseSnapshot {
            number,
            slots: keys.slots.clone().into(),
            len: keys.len,
            expiring: keys.expiring,
        });
        Self { databases: databases.collect(), usage: None, libraries: Arc::default() }
    }

    /// Lets a file tell how much each key was used at this time.
    #[must_use]
    pub const fn with_usage(mut self, usage: Usage, now: WallMs) -> Self {
        self.usage = Some((usage, now));
        self
    }

    /// Adds the code of libraries of functions, which are no keys but stand in the same files.
    #[must_use]
    pub fn with_libraries(mut self, libraries: Arc<[Arc<[u8]>]>) -> Self {
        self.libraries = libraries;
        self
    }

    /// The code of each library.
    pub fn libraries(&self) -> &[Arc<[u8]>] {
        &self.libraries
    }

    /// What a file tells of a key's use, if anything.
    pub fn told_usage(&self, key: &SnapshotKey<'_>) -> Option<KeyUsage> {
        self.usage.map(|(usage, now)| usage.told(key.usage_bits, now))
    }

    /// The databases that have keys, in ascending order of their numbers.
    pub fn databases(&self) -> &[DatabaseSnapshot] {
        &self.databases
    }

    /// Number of keys in all databases.
    pub fn len(&self) -> usize {
        self.databases.iter().map(DatabaseSnapshot::len).sum()
    }

    /// True without keys.
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty()
    }

    /// All keys, database by database, slot by slot.
    pub fn iter(&self) -> impl Iterator<Item = SnapshotKey<'_>> {
        self.databases
            .iter()
            .flat_map(|database| (0..SLOTS).flat_map(|slot| database.slot_iter_from(Slot(slot as u16), 0)))
    }
}

impl DatabaseSnapshot {
    /// Its number.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Number of keys.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True without keys; a snapshot holds no such database.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of keys with an expiry.
    pub const fn expiring(&self) -> usize {
        self.expiring
    }

    /// Number of keys in a slot.
    pub fn slot_len(&self, slot: Slot) -> usize {
        self.slots.get(slot.index()).map_or(0, Trie::len)
    }

    /// The keys of a slot from `rank` on, in the slot's stable order; cheap to resume at any rank.
    pub fn slot_iter_from(&self, slot: Slot, rank: usize) -> impl Iterator<Item = SnapshotKey<'_>> {
        self.slots.get(slot.index()).into_iter().flat_map(move |trie| trie.iter_from_rank(rank)).map(
            |entry| SnapshotKey {
                key: &entry.key,
                expire_at: entry.expire_at(),
                value: entry.value().view(),
                usage_bits: entry.usage_bits(),
            },
        )
    }
}

/// One key of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotKey<'a> {
    /// The key.
    pub key: &'a [u8],
    /// When it expires, if ever.
    pub expire_at: Option<WallMs>,
    /// What it holds.
    pub value: ValueView<'a>,
    usage_bits: u32,
}
