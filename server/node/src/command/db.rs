//! The dataset with what every change of it entails: expiry, propagation to replicas and file, and WATCH.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::eviction::Candidates;
use super::notify::{Notification, Notifications, class};
use super::waits::KeyWaits;
use super::watches::{Watched, Watches};
use crate::io::{ConnId, Now, WallMs};
use crate::keyspace::{
    Dataset, Element, EncodingLimits, Entry, Env, HashSeed, Keyspace, Place, Snapshot, Spread, Usage, Value,
};
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

/// The dataset of a node: all its databases, one of them selected.
#[derive(Debug)]
pub struct Db {
    /// The keys of the selected database.
    pub keys: Keyspace,
    selected: u32,
    /// The other databases by number. The places of the selected one, and of those that nobody used yet, are empty.
    others: Vec<Option<Box<Keyspace>>>,
    /// Bytes that the others hold: they change only while they are selected.
    others_bytes: usize,
    /// Cluster mode: there is database 0 and no other.
    pub is_cluster: bool,
    /// For SPOP, RANDOMKEY and their like.
    pub random: Random,
    /// FLUSHALL ran: what is being saved is of no use any more.
    pub flushed_all: bool,
    /// Changes since the node began.
    pub dirty: u64,
    /// Lookups by reading commands that found a key.
    pub hits: u64,
    /// Lookups by reading commands that found none.
    pub misses: u64,
    /// Keys deleted because their time had come.
    pub expired: u64,
    /// Keys deleted because memory was short.
    pub evicted: u64,
    /// Bytes of a reply after which its client will be closed: what would make it longer may be left out.
    pub reply_limit: usize,
    /// The user of the running command may not read every key: SORT must refuse BY and GET.
    pub refuses_patterns: bool,
    /// Small integers are one object for all who hold them, as OBJECT REFCOUNT tells: not under a policy that looks
    /// at the use of each key.
    pub shares_integers: bool,
    /// The policy of `maxmemory` looks at the use of keys: files tell it.
    pub evicts_by_use: bool,
    /// Expired keys are handed on as UNLINK instead of DEL (`lazyfree-lazy-expire`).
    pub unlinks_expired: bool,
    /// What is noted of accesses.
    pub(super) usage: Usage,
    pub(super) candidates: Candidates,
    /// What to do about expired keys now.
    pub expiry: ExpiryMode,
    /// What the running command hands on.
    pub propagated: Propagated,
    /// The code of the libraries of functions, for files and replicas.
    pub libraries: Arc<[Arc<[u8]>]>,
    /// Keys on their way to another server: they may be read, and nothing may change them. Whatever their database:
    /// a namesake in another one is held up for a moment, which harms nobody.
    pub frozen: BTreeSet<Vec<u8>>,
    /// Who waits for keys.
    pub waits: KeyWaits,
    /// What happened to keys, for those who subscribed to it.
    pub notifications: Notifications,
    watches: Watches,
}

/// Commands to hand on to replicas and the append-only file, in their protocol.
#[derive(Debug, Default)]
pub struct Propagated {
    /// Nobody wants what is added now: no replica and no file.
    pub unwanted: bool,
    bytes: Vec<u8>,
    ends: Vec<End>,
    /// Number of the database that commands added now are meant for.
    db: u32,
}

#[derive(Clone, Copy, Debug)]
struct End {
    /// Where the command's bytes end.
    at: usize,
    db: u32,
    in_file: bool,
    for_replicas: bool,
}

/// One command to hand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropagatedCommand<'a> {
    /// One array of the protocol.
    pub bytes: &'a [u8],
    /// The database that must be selected where it is executed.
    pub db: u32,
    /// The append-only file gets it.
    pub in_file: bool,
    /// The replicas get it.
    pub for_replicas: bool,
}

impl Propagated {
    /// Adds a command.
    pub fn push<T: AsRef<[u8]>>(&mut self, args: impl ExactSizeIterator<Item = T>) {
        if self.unwanted {
            return;
        }
        write_command(&mut self.bytes, args);
        self.ends.push(End { at: self.bytes.len(), db: self.db, in_file: true, for_replicas: true });
    }

    /// The commands from the one with this number on go to the file, or to the replicas, only if these say so.
    pub fn restrict_from(&mut self, first: usize, in_file: bool, for_replicas: bool) {
        if !in_file && !for_replicas {
            let kept = first.checked_sub(1).and_then(|last| self.ends.get(last)).map_or(0, |end| end.at);
            self.ends.truncate(first);
            self.bytes.truncate(kept);
        }
        for end in self.ends.iter_mut().skip(first) {
            end.in_file &= in_file;
            end.for_replicas &= for_replicas;
        }
    }

    /// Adds a command that changes no data (`PUBLISH`): it goes to replicas, not to the append-only file.
    pub fn push_for_replicas<T: AsRef<[u8]>>(&mut self, args: impl ExactSizeIterator<Item = T>) {
        write_command(&mut self.bytes, args);
        self.ends.push(End { at: self.bytes.len(), db: self.db, in_file: false, for_replicas: true });
    }

    /// How many commands.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without commands.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The commands in order.
    pub fn iter(&self) -> impl Iterator<Item = PropagatedCommand<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|end| end.at));
        starts.zip(&self.ends).map(|(start, end)| PropagatedCommand {
            bytes: &self.bytes[start..end.at],
            db: end.db,
            in_file: end.in_file,
            for_replicas: end.for_replicas,
        })
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(64 * 1024);
        self.ends.clear();
    }
}

impl Db {
    /// Cluster mode or not; there must be no keys yet.
    pub fn serve_cluster(&mut self, is_cluster: bool) {
        debug_assert!(self.all().all(|(_, keys)| keys.is_empty()));
        self.is_cluster = is_cluster;
        let spread = if is_cluster { Spread::ByName } else { Spread::ByHash };
        self.keys = Keyspace::within(Env { spread, ..self.keys.env() });
    }

    /// An empty dataset of so many databases, the first of them selected.
    pub fn new(seed: HashSeed, limits: EncodingLimits, random: Random, databases: u32) -> Self {
        Self {
            keys: Keyspace::new(seed, limits),
            selected: 0,
            others: (0..databases.max(1)).map(|_| None).collect(),
            others_bytes: 0,
            is_cluster: false,
            random,
            flushed_all: false,
            dirty: 0,
            hits: 0,
            misses: 0,
            expired: 0,
            evicted: 0,
            reply_limit: usize::MAX,
            refuses_patterns: false,
            shares_integers: true,
            evicts_by_use: false,
            unlinks_expired: false,
            usage: Usage::default(),
            candidates: Candidates::default(),
            expiry: ExpiryMode::Delete,
            propagated: Propagated::default(),
            libraries: Arc::default(),
            frozen: BTreeSet::new(),
            waits: KeyWaits::default(),
            notifications: Notifications::default(),
            watches: Watches::default(),
        }
    }

    // ---- databases

    /// How many databases there are.
    pub const fn databases(&self) -> u32 {
        self.others.len() as u32
    }

    /// Number of the selected database.
    pub const fn selected(&self) -> u32 {
        self.selected
    }

    /// Selects a database, which must be below [`Self::databases`]. Cheap if it is selected already.
    pub fn select(&mut self, db: u32) {
        if self.selected != db {
            self.swap_in(db);
        }
    }

    #[cold]
    fn swap_in(&mut self, db: u32) {
        let env = self.keys.env();
        let Some(place) = self.others.get_mut(db as usize) else {
            debug_assert!(false, "there is no database {db}");
            return;
        };
        let mut next = place.take().unwrap_or_else(|| Box::new(Keyspace::within(env)));
        self.others_bytes = self.others_bytes + self.keys.used_memory() - next.used_memory();
        next.take_settings_of(&self.keys);
        self.note_births();
        std::mem::swap(&mut self.keys, &mut next);
        // What is to be freed stays where the node looks for it.
        self.keys.take_garbage_of(&mut next);
        self.others[self.selected as usize] = Some(next);
        self.selected = db;
        self.propagated.db = db;
    }

    /// Does something in another database.
    pub fn within<R>(&mut self, db: u32, act: impl FnOnce(&mut Self) -> R) -> R {
        let selected = self.selected;
        self.select(db);
        let result = act(self);
        self.select(selected);
        result
    }

    /// The keys of a database; none for one that nobody used yet.
    pub fn database(&self, db: u32) -> Option<&Keyspace> {
        if db == self.selected { Some(&self.keys) } else { self.others.get(db as usize)?.as_deref() }
    }

    /// All databases that somebody used, with their numbers.
    pub fn all(&self) -> impl Iterator<Item = (u32, &Keyspace)> {
        (0..self.databases()).filter_map(|db| self.database(db).map(|keys| (db, keys)))
    }

    /// A frozen view of all databases.
    pub fn snapshot(&self, now: WallMs) -> Snapshot {
        let snapshot = Snapshot::of(self.all()).with_libraries(self.libraries.clone());
        if self.evicts_by_use { snapshot.with_usage(self.usage, now) } else { snapshot }
    }

    /// Bytes that all databases hold.
    pub const fn used_memory(&self) -> usize {
        self.others_bytes + self.keys.used_memory()
    }

    /// Number of keys in all databases.
    pub fn key_count(&self) -> usize {
        self.all().map(|(_, keys)| keys.len()).sum()
    }

    /// Changes the limits of small encodings, for values written from now on.
    pub fn set_limits(&mut self, limits: EncodingLimits) {
        self.keys.set_limits(limits);
        for keys in self.others.iter_mut().flatten() {
            keys.set_limits(limits);
        }
    }

    /// Removes all keys of the selected database; gives their number.
    pub fn flush(&mut self, now: WallMs) -> usize {
        self.watches.replaced(self.selected, &self.keys, None, now);
        let removed = self.keys.len();
        self.keys.clear();
        self.waits.note_database(self.selected);
        removed
    }

    /// Removes all keys of all databases; gives their number.
    pub fn flush_all(&mut self, now: WallMs) -> usize {
        let mut removed = self.flush(now);
        for db in 0..self.databases() {
            if self.others[db as usize].as_ref().is_some_and(|keys| !keys.is_empty()) {
                removed += self.within(db, |db| db.flush(now));
            }
        }
        removed
    }

    /// An empty dataset with as many databases, to be filled and put in the place of this one.
    pub fn fresh_dataset(&self) -> Dataset {
        Dataset::new(self.keys.env(), self.usage, self.databases())
    }

    /// Puts another dataset in the place of all databases. What was watched and is in the old one or the new has
    /// changed; what somebody waits for may be there now.
    pub fn replace_all(&mut self, dataset: Dataset, now: WallMs) {
        for (number, new) in dataset.into_databases().into_iter().enumerate() {
            let number = number as u32;
            if number >= self.databases() || (new.is_none() && self.database(number).is_none()) {
                continue;
            }
            self.within(number, |db| {
                let env = db.keys.env();
                let new = new.map_or_else(|| Keyspace::within(env), |new| *new);
                db.watches.replaced(number, &db.keys, Some(&new), now);
                let old = std::mem::replace(&mut db.keys, new);
                db.keys.take_settings_of(&old);
                db.keys.inherit_garbage(old);
            });
        }
    }

    /// `SWAPDB`: each of two databases gets the keys of the other. Clients, and what they wait for and watch, stay.
    pub fn swap(&mut self, one: u32, other: u32, now: WallMs) {
        if one == other {
            return;
        }
        let selected = self.selected;
        self.select(other);
        // Both are there from now on, and `one` is selected.
        self.select(one);
        if let Some(Some(theirs)) = self.others.get_mut(other as usize) {
            self.watches.replaced(one, &self.keys, Some(theirs), now);
            self.watches.replaced(other, theirs, Some(&self.keys), now);
            self.others_bytes = self.others_bytes + self.keys.used_memory() - theirs.used_memory();
            std::mem::swap(&mut self.keys, theirs);
            self.keys.take_garbage_of(theirs);
        }
        self.waits.note_database(one);
        self.waits.note_database(other);
        self.select(selected);
    }

    // ---- keys of the selected database

    /// The entry of a key that is there for the caller: an expired one is deleted or hidden. Its access is noted.
    pub fn find(&mut self, key: &[u8], now: Now) -> Option<&Entry> {
        let place = self.settle(key, now)?;
        let entry = self.keys.get_at(place, key)?;
        let random = &mut self.random;
        entry.touch(self.usage, now.wall, || random.below(1_000_000));
        Some(entry)
    }

    /// The place of a key, none of one whose time has come: that is deleted or hidden. Whether there is anything at the
    /// place is not looked at if no key expires, which spares most commands a lookup.
    fn settle(&mut self, key: &[u8], now: Now) -> Option<Place> {
        let place = self.keys.place(key);
        let due = |entry: &Entry| entry.expire_at().is_some_and(|at| at <= now.wall);
        if self.keys.expiring() > 0 && self.keys.get_at(place, key).is_some_and(due) {
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
        Some(place)
    }

    /// The value of a key that is there for the caller, as [`Self::find`].
    pub fn find_value(&mut self, key: &[u8], now: Now) -> Option<&Value> {
        self.find(key, now).map(Entry::value)
    }

    /// As [`Self::find`], for a reading command: counts hits and misses and notes the access.
    pub fn read(&mut self, key: &[u8], now: Now) -> Option<&Value> {
        let (usage, place) = (self.usage, self.settle(key, now));
        let (entry, random) = self.count_lookup(place, key);
        let entry = entry?;
        entry.touch(usage, now.wall, || random.below(1_000_000));
        Some(entry.value())
    }

    /// As [`Self::read`], for a command that looks at a key without using its value: its access is not noted.
    pub fn look(&mut self, key: &[u8], now: Now) -> Option<&Entry> {
        let place = self.settle(key, now);
        self.count_lookup(place, key).0
    }

    /// Looks at a place, and counts whether something was there; gives it, and the randomness of this dataset.
    fn count_lookup(&mut self, place: Option<Place>, key: &[u8]) -> (Option<&Entry>, &mut Random) {
        if self.notifications.wanted != 0 {
            self.note_births();
        }
        let entry = place.and_then(|place| self.keys.get_at(place, key));
        if entry.is_some() {
            self.hits += 1;
        } else {
            self.misses += 1;
            if self.notifications.wanted != 0 {
                self.notifications.note(class::KEY_MISS, self.selected, "keymiss", key);
            }
        }
        (entry, &mut self.random)
    }

    /// As [`Self::look`], and nobody is told of a miss: for OBJECT.
    pub fn inspect(&mut self, key: &[u8], now: Now) -> Option<&Entry> {
        let place = self.settle(key, now);
        let entry = place.and_then(|place| self.keys.get_at(place, key));
        *(if entry.is_some() { &mut self.hits } else { &mut self.misses }) += 1;
        entry
    }

    /// What is noted of accesses from now on. What was noted until now means something else then, for a while.
    pub fn set_usage(&mut self, usage: Usage) {
        self.usage = usage;
        self.keys.set_usage(usage);
        for keys in self.others.iter_mut().flatten() {
            keys.set_usage(usage);
        }
    }

    /// What is noted of accesses.
    pub const fn usage(&self) -> Usage {
        self.usage
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
            let name: &[u8] = if self.unlinks_expired { b"UNLINK" } else { b"DEL" };
            self.propagated.push([name, key].into_iter());
            self.touch_watchers(key);
            self.notify(class::EXPIRED, "expired", key);
            self.waits.note(self.selected, key);
        }
    }

    /// Deletes at most `limit` keys of all databases whose time has come; true if more may be due.
    pub fn expire_due(&mut self, now: WallMs, limit: usize) -> bool {
        let mut left = limit;
        let is_due = |keys: &Keyspace| keys.next_expiry().is_some_and(|at| at <= now);
        if is_due(&self.keys) {
            self.expire_due_here(now, &mut left);
        }
        if self.others.iter().flatten().any(|keys| is_due(keys)) {
            for db in 0..self.databases() {
                if self.others[db as usize].as_deref().is_some_and(is_due) {
                    self.within(db, |db| db.expire_due_here(now, &mut left));
                }
            }
        }
        left == 0
    }

    fn expire_due_here(&mut self, now: WallMs, left: &mut usize) {
        while *left > 0 {
            let Some(key) = self.keys.next_expired(now, |key| self.frozen.contains(key)) else { return };
            self.expire(&key);
            *left -= 1;
        }
    }

    /// A command changed this key.
    pub fn changed(&mut self, key: &[u8]) {
        self.dirty += 1;
        self.touch_watchers(key);
        self.waits.note(self.selected, key);
    }

    /// Something happened to this key that subscribers to its `class` are told: `set`, `lpush`, `del`...
    pub fn notify(&mut self, class: u16, event: &'static str, key: &[u8]) {
        if self.notifications.wanted != 0 {
            self.note_births();
            self.notifications.note(class, self.selected, event, key);
        }
    }

    /// Which classes of events subscribers are told from now on: bits of [`class`].
    pub fn want_notifications(&mut self, wanted: u16) {
        self.notifications.wanted = wanted;
        let births = wanted & class::NEW_KEY != 0;
        self.keys.note_births(births);
        for keys in self.others.iter_mut().flatten() {
            keys.note_births(births);
        }
    }

    /// Keys that were not there before are told of before what was done to them.
    fn note_births(&mut self) {
        for key in self.keys.take_births() {
            self.notifications.note(class::NEW_KEY, self.selected, "new", &key);
        }
    }

    /// What subscribers must be told of what happened so far.
    pub fn take_notifications(&mut self) -> Vec<Notification> {
        self.note_births();
        self.notifications.take()
    }

    /// A client watches a key of the selected database.
    pub fn watch(&mut self, conn: ConnId, key: &[u8], now: WallMs) -> Watched {
        let watched = Watched { db: self.selected, key: key.to_vec() };
        self.watches.add(conn, &watched, &self.keys, now);
        watched
    }

    /// A client watches nothing any more. `all` is what it watched.
    pub fn unwatch(&mut self, conn: ConnId, all: &[Watched]) {
        self.watches.remove(conn, all);
    }

    /// True if something of what the client watches (`all`) was changed, or has expired since.
    pub fn is_broken(&self, conn: ConnId, all: &[Watched], now: WallMs) -> bool {
        self.watches.is_broken(conn, all, |db| self.database(db), now)
    }

    pub(super) fn touch_watchers(&mut self, key: &[u8]) {
        self.watches.touch(self.selected, key, &self.keys);
    }
}
