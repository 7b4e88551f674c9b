//! The dataset with what every change of it entails: expiry, propagation to replicas and file, and WATCH.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::notify::Notifications;
use super::waits::KeyWaits;
use crate::io::{ConnId, Now, WallMs};
use crate::keyspace::{Element, EncodingLimits, Entry, HashSeed, Keyspace, Value};
use crate::random::Random;
use crate::resp::write_command;

/// What is done about a key whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryMode {
    /// A master deletes it and tells replicas so.
    Delete,
    /// A replica, or a master during a manual failover: it is hidden from clients until the DEL comes.
    Hide,
    /// What the master or a file says is done to the key as if it had no time.
    Ignore,
}

/// The dataset of a node.
#[derive(Debug)]
pub struct Db {
    /// The keys.
    pub keys: Keyspace,
    /// For SPOP, RANDOMKEY and their like.
    pub random: Random,
    /// Changes since the node began.
    pub dirty: u64,
    /// Lookups by reading commands that found a key.
    pub hits: u64,
    /// Lookups by reading commands that found none.
    pub misses: u64,
    /// Keys deleted because their time had come.
    pub expired: u64,
    /// What to do about expired keys now.
    pub expiry: ExpiryMode,
    /// What the running command hands on.
    pub propagated: Propagated,
    /// Keys on their way to another server: they may be read, and nothing may change them.
    pub frozen: BTreeSet<Vec<u8>>,
    /// Who waits for keys.
    pub waits: KeyWaits,
    /// What happened to keys, for those who subscribed to it.
    pub notifications: Notifications,
    watched: BTreeMap<Vec<u8>, BTreeSet<ConnId>>,
    broken: BTreeSet<ConnId>,
}

/// Commands to hand on to replicas and the append-only file, in their protocol.
#[derive(Debug, Default)]
pub struct Propagated {
    bytes: Vec<u8>,
    /// Where each command ends, and whether the append-only file gets it too.
    ends: Vec<(usize, bool)>,
}

impl Propagated {
    /// Adds a command.
    pub fn push<T: AsRef<[u8]>>(&mut self, args: impl ExactSizeIterator<Item = T>) {
        write_command(&mut self.bytes, args);
        self.ends.push((self.bytes.len(), true));
    }

    /// Adds a command that changes no data (`PUBLISH`): it goes to replicas, not to the append-only file.
    pub fn push_for_replicas<T: AsRef<[u8]>>(&mut self, args: impl ExactSizeIterator<Item = T>) {
        write_command(&mut self.bytes, args);
        self.ends.push((self.bytes.len(), false));
    }

    /// How many commands.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without commands.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The commands in order, each one array, and whether the append-only file gets them too.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|&(end, _)| end));
        starts.zip(&self.ends).map(|(start, &(end, in_file))| (&self.bytes[start..end], in_file))
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(64 * 1024);
        self.ends.clear();
    }
}

impl Db {
    /// An empty dataset.
    pub fn new(seed: HashSeed, limits: EncodingLimits, random: Random) -> Self {
        Self {
            keys: Keyspace::new(seed, limits),
            random,
            dirty: 0,
            hits: 0,
            misses: 0,
            expired: 0,
            expiry: ExpiryMode::Delete,
            propagated: Propagated::default(),
            frozen: BTreeSet::new(),
            waits: KeyWaits::default(),
            notifications: Notifications::default(),
            watched: BTreeMap::new(),
            broken: BTreeSet::new(),
        }
    }

    /// The entry of a key that is there for the caller: an expired one is deleted or hidden.
    pub fn find(&mut self, key: &[u8], now: Now) -> Option<&Entry> {
        let expired = self.keys.get(key)?.expire_at().is_some_and(|at| at <= now.wall);
        if expired {
            match self.expiry {
                ExpiryMode::Delete if self.frozen.contains(key) => return None,
                ExpiryMode::Delete => {
                    self.expire(key);
                    return None;
                }
                ExpiryMode::Hide => return None,
                ExpiryMode::Ignore => {}
            }
        }
        self.keys.get(key)
    }

    /// The value of a key that is there for the caller, as [`Self::find`].
    pub fn find_value(&mut self, key: &[u8], now: Now) -> Option<&Value> {
        self.find(key, now).map(Entry::value)
    }

    /// As [`Self::find`], for a reading command: counts hits and misses and notes the access.
    pub fn read(&mut self, key: &[u8], now: Now) -> Option<&Value> {
        if self.find(key, now).is_some() {
            self.hits += 1;
        } else {
            self.misses += 1;
            return None;
        }
        let entry = self.keys.get(key)?;
        entry.touch(now.wall);
        Some(entry.value())
    }

    /// True if the key is there for the caller; changes nothing.
    pub fn is_there(&self, key: &[u8], now: Now) -> bool {
        self.keys.get(key).is_some_and(|entry| {
            self.expiry == ExpiryMode::Ignore || entry.expire_at().is_none_or(|at| at > now.wall)
        })
    }

    /// The bytes of a string that is there for the caller, none for anything else; counts nothing, so that several
    /// can be looked at together.
    pub fn peek_string(&self, key: &[u8], now: Now) -> Cow<'_, [u8]> {
        let entry = self.keys.get(key).filter(|_| self.is_there(key, now));
        match entry.and_then(|entry| entry.value().as_string()) {
            None => Cow::Borrowed(&[]),
            Some(Element::Bytes(bytes)) => Cow::Borrowed(bytes),
            Some(int @ Element::Int(_)) => Cow::Owned(int.to_vec()),
        }
    }

    /// Deletes a key because its time has come.
    pub fn expire(&mut self, key: &[u8]) {
        if self.keys.remove(key) {
            self.expired += 1;
            self.propagated.push([&b"DEL"[..], key].into_iter());
            self.touch_watchers(key);
        }
    }

    /// Deletes at most `limit` keys whose time has come; true if more may be due.
    pub fn expire_due(&mut self, now: WallMs, limit: usize) -> bool {
        for _ in 0..limit {
            let Some(key) = self.keys.next_expired(now, |key| self.frozen.contains(key)) else {
                return false;
            };
            self.expire(&key);
        }
        true
    }

    /// A command changed this key.
    pub fn changed(&mut self, key: &[u8]) {
        self.dirty += 1;
        self.touch_watchers(key);
        self.waits.note(key);
    }

    /// Something happened to this key that subscribers to its `class` are told: `set`, `lpush`, `del`...
    pub fn notify(&mut self, class: u16, event: &'static str, key: &[u8]) {
        self.notifications.note(class, 0, event, key);
    }

    /// Keys that vanished or changed without a command (a flush, a full resync, lost slots): all of them.
    pub fn all_changed(&mut self) {
        let watchers: Vec<ConnId> = self.watched.values().flatten().copied().collect();
        self.broken.extend(watchers);
    }

    /// A client watches a key.
    pub fn watch(&mut self, conn: ConnId, key: &[u8]) {
        self.watched.entry(key.to_vec()).or_default().insert(conn);
    }

    /// A client watches nothing any more. `keys` are those it watched.
    pub fn unwatch(&mut self, conn: ConnId, keys: &[Vec<u8>]) {
        for key in keys {
            if let Some(watchers) = self.watched.get_mut(key) {
                watchers.remove(&conn);
                if watchers.is_empty() {
                    self.watched.remove(key);
                }
            }
        }
        self.broken.remove(&conn);
    }

    /// True if something that the client watches was changed.
    pub fn is_broken(&self, conn: ConnId) -> bool {
        self.broken.contains(&conn)
    }

    pub(super) fn touch_watchers(&mut self, key: &[u8]) {
        if !self.watched.is_empty()
            && let Some(watchers) = self.watched.get(key)
        {
            self.broken.extend(watchers);
        }
    }
}
