//! Which clients wait for which keys (BLPOP and its like), and which of those keys have changed since.

use std::collections::{BTreeMap, VecDeque};

use crate::io::ConnId;

/// The queues of clients, one a key, first come first served.
#[derive(Debug, Default)]
pub struct KeyWaits {
    queues: BTreeMap<Vec<u8>, VecDeque<ConnId>>,
    /// In the order in which they changed.
    changed: Vec<Vec<u8>>,
}

impl KeyWaits {
    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// A client begins to wait for a key.
    pub fn add(&mut self, conn: ConnId, key: &[u8]) {
        let queue = self.queues.entry(key.to_vec()).or_default();
        if !queue.contains(&conn) {
            queue.push_back(conn);
        }
    }

    /// A client does not wait any more for these keys.
    pub fn remove<'a>(&mut self, conn: ConnId, keys: impl Iterator<Item = &'a [u8]>) {
        for key in keys {
            if let Some(queue) = self.queues.get_mut(key) {
                queue.retain(|other| *other != conn);
                if queue.is_empty() {
                    self.queues.remove(key);
                }
            }
        }
    }

    /// A key changed.
    pub fn note(&mut self, key: &[u8]) {
        if !self.queues.is_empty()
            && self.queues.contains_key(key)
            && !self.changed.iter().any(|it| it == key)
        {
            self.changed.push(key.to_vec());
        }
    }

    /// All that anybody waits for may have changed.
    pub fn note_all(&mut self) {
        self.changed = self.queues.keys().cloned().collect();
    }

    /// True if somebody who waits should look again.
    pub const fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The keys that changed, in order; they count as looked at.
    pub fn take_changed(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.changed)
    }

    /// Who waits for a key, the longest waiting first.
    pub fn waiting(&self, key: &[u8]) -> Vec<ConnId> {
        self.queues.get(key).into_iter().flatten().copied().collect()
    }

    /// All who wait, each once, in no order of time.
    pub fn all(&self) -> Vec<ConnId> {
        let all: std::collections::BTreeSet<ConnId> = self.queues.values().flatten().copied().collect();
        all.into_iter().collect()
    }
}
