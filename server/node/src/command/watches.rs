//! WATCH: which clients want to know whether a key changes, and whose transactions have failed for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::io::{ConnId, WallMs};
use crate::keyspace::Keyspace;

/// A key that a client watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Number of its database.
    pub db: u32,
    /// Its name.
    pub key: Vec<u8>,
}

/// By client: the key was there, but its time had come, when it was first watched. Deleting it changes nothing then.
type Watchers = BTreeMap<ConnId, bool>;

/// All watched keys.
#[derive(Debug, Default)]
pub struct Watches {
    /// By number of the database; none is empty.
    databases: BTreeMap<u32, BTreeMap<Vec<u8>, Watchers>>,
    broken: BTreeSet<ConnId>,
}

fn has_expired(keys: &Keyspace, key: &[u8], now: WallMs) -> bool {
    keys.get(key).is_some_and(|entry| entry.expire_at().is_some_and(|at| at <= now))
}

impl Watches {
    /// A client watches a key of the database that holds `keys`.
    pub fn add(&mut self, conn: ConnId, watched: &Watched, keys: &Keyspace, now: WallMs) {
        let expired = has_expired(keys, &watched.key, now);
        let watchers = self.databases.entry(watched.db).or_default().entry(watched.key.clone()).or_default();
        watchers.entry(conn).or_insert(expired);
    }

    /// A client watches nothing any more. `all` is what it watched.
    pub fn remove(&mut self, conn: ConnId, all: &[Watched]) {
        for Watched { db, key } in all {
            let Some(database) = self.databases.get_mut(db) else { continue };
            if let Some(watchers) = database.get_mut(key) {
                watchers.remove(&conn);
                if watchers.is_empty() {
                    database.remove(key);
                }
            }
            if database.is_empty() {
                self.databases.remove(db);
            }
        }
        self.broken.remove(&conn);
    }

    /// A key of database `db`, whose keys are now `keys`, changed.
    pub fn touch(&mut self, db: u32, key: &[u8], keys: &Keyspace) {
        if self.databases.is_empty() {
            return;
        }
        let Some(watchers) = self.databases.get_mut(&db).and_then(|database| database.get_mut(key)) else {
            return;
        };
        for (conn, expired) in watchers {
            if *expired && keys.get(key).is_none() {
                *expired = false;
            } else {
                self.broken.insert(*conn);
            }
        }
    }

    /// Database `db` loses its keys, `old`, and gets those of `new`, if there are any: what is watched and is in one
    /// of them has changed. To be called before it happens.
    pub fn replaced(&mut self, db: u32, old: &Keyspace, new: Option<&Keyspace>, now: WallMs) {
        for (key, watchers) in self.databases.get_mut(&db).into_iter().flatten() {
            let was_there = old.get(key).is_some();
            let will_be = new.is_some_and(|new| new.get(key).is_some());
            let expired_then = new.is_some_and(|new| has_expired(new, key, now));
            if !was_there && !will_be {
                continue;
            }
            for (conn, expired) in watchers {
                match () {
                    () if *expired && !will_be => *expired = false,
                    () if *expired && expired_then => {}
                    () if !*expired && !was_there && expired_then => *expired = true,
                    () => {
                        self.broken.insert(*conn);
                    }
                }
            }
        }
    }

    /// True if something changed that the client watches, or has expired since.
    pub fn is_broken<'a>(
        &self,
        conn: ConnId,
        all: &[Watched],
        keys: impl Fn(u32) -> Option<&'a Keyspace>,
        now: WallMs,
    ) -> bool {
        self.broken.contains(&conn)
            || all.iter().any(|Watched { db, key }| {
                let database = self.databases.get(db);
                let was_expired = database.and_then(|it| it.get(key)?.get(&conn)).copied().unwrap_or(false);
                !was_expired && keys(*db).is_some_and(|keys| has_expired(keys, key, now))
            })
    }
}
