//! Which clients wait for which keys (BLPOP and its like), and which of those keys have changed since.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::io::ConnId;

type Queues = BTreeMap<Vec<u8>, VecDeque<ConnId>>;

/// The queues of clients, one a key of a database, first come first served.
#[derive(Debug, Default)]
pub struct KeyWaits {
    /// By number of the database; none is empty.
    queues: BTreeMap<u32, Queues>,
    /// In the order in which they changed.
    changed: Vec<(u32, Vec<u8>)>,
}

impl KeyWaits {
    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// A client begins to wait for a key of database `db`.
    pub fn add(&mut self, conn: ConnId, db: u32, key: &[u8]) {
        let queue = self.queues.entry(db).or_default().entry(key.to_vec()).or_default();
        if !queue.contains(&conn) {
            queue.push_back(conn);
        }
    }

    /// A client does not wait any more for these keys of database `db`.
    pub fn remove<'a>(&mut self, conn: ConnId, db: u32, keys: impl Iterator<Item = &'a [u8]>) {
        let Some(queues) = self.queues.get_mut(&db) else { return };
        for key in keys {
            if let Some(queue) = queues.get_mut(key) {
                queue.retain(|other| *other != conn);
                if queue.is_empty() {
                    queues.remove(key);
                }
            }
        }
        if queues.is_empty() {
            self.queues.remove(&db);
        }
    }

    /// A key of database `db` changed.
    pub fn note(&mut self, db: u32, key: &[u8]) {
        if !self.queues.is_empty()
            && self.queues.get(&db).is_some_and(|queues| queues.contains_key(key))
            && !self.changed.iter().any(|(other, it)| *other == db && it == key)
        {
            self.changed.push((db, key.to_vec()));
        }
    }

    /// All of database `db` that anybody waits for may have changed.
    pub fn note_database(&mut self, db: u32) {
        let keys: Vec<Vec<u8>> = self.queues.get(&db).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        for key in keys {
            self.note(db, &key);
        }
    }

    /// All that anybody waits for may have changed.
    pub fn note_all(&mut self) {
        for db in self.queues.keys().copied().collect::<Vec<_>>() {
            self.note_database(db);
        }
    }

    /// True if somebody who waits should look again.
    pub const fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The keys that changed, with their databases, in order; they count as looked at.
    pub fn take_changed(&mut self) -> Vec<(u32, Vec<u8>)> {
        std::mem::take(&mut self.changed)
    }

    /// Who waits for a key of database `db`, the longest waiting first.
    pub fn waiting(&self, db: u32, key: &[u8]) -> Vec<ConnId> {
        self.queues.get(&db).and_then(|queues| queues.get(key)).into_iter().flatten().copied().collect()
    }

    /// All who wait, each once, in no order of time.
    pub fn all(&self) -> Vec<ConnId> {
        let all: BTreeSet<ConnId> =
            self.queues.values().flat_map(BTreeMap::values).flatten().copied().collect();
        all.into_iter().collect()
    }
}
