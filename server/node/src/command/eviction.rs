//! Which key goes when memory is short: `maxmemory-policy` as redis.io "Key eviction" has it. Keys are sampled, the
//! best candidates of several samples are kept, and the best of them that is still there goes.

use super::db::Db;
use super::notify::class;
use crate::io::WallMs;
use crate::keyspace::{Entry, Keyspace, SLOTS, Slot, Usage};
use crate::random::Random;

/// Candidates that are kept from one eviction to the next.
const POOL: usize = 16;
/// Entries looked at in search of one that expires.
const SEARCH: usize = 128;

/// By what a key is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvictBy {
    /// Nothing is evicted.
    #[default]
    Nothing,
    /// The least recently used of a sample.
    Recency,
    /// The least frequently used of a sample.
    Frequency,
    /// Chance.
    Chance,
    /// The one that expires first.
    Expiry,
}

/// A policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvictionPolicy {
    /// By what a key is chosen.
    pub by: EvictBy,
    /// Only keys that expire may go.
    pub volatile: bool,
    /// Keys looked at for each eviction.
    pub samples: usize,
    /// Evicted keys are handed on as UNLINK instead of DEL (`lazyfree-lazy-eviction`).
    pub as_unlink: bool,
}

impl EvictionPolicy {
    /// The policy of this name, as the directive has it.
    pub fn named(name: &str, samples: usize, as_unlink: bool) -> Self {
        let (scope, by) = name.split_once('-').unwrap_or(("", name));
        let by = match by {
            "lru" => EvictBy::Recency,
            "lfu" => EvictBy::Frequency,
            "random" => EvictBy::Chance,
            "ttl" => EvictBy::Expiry,
            _ => EvictBy::Nothing,
        };
        Self { by, volatile: scope == "volatile", samples, as_unlink }
    }
}

/// What is remembered between evictions.
#[derive(Debug, Default)]
pub struct Candidates {
    /// Ascending: the last is the best one.
    pool: Vec<Candidate>,
    /// Where chance continues.
    next_db: u32,
}

#[derive(Debug)]
struct Candidate {
    score: u64,
    db: u32,
    key: Vec<u8>,
}

impl Candidates {
    fn offer(&mut self, score: u64, db: u32, key: &[u8]) {
        if self.pool.len() == POOL && score <= self.pool[0].score {
            return;
        }
        if self.pool.iter().any(|other| other.db == db && other.key == key) {
            return;
        }
        let at = self.pool.partition_point(|other| other.score < score);
        self.pool.insert(at, Candidate { score, db, key: key.to_vec() });
        if self.pool.len() > POOL {
            self.pool.remove(0);
        }
    }
}

impl Db {
    /// Evicts one key by this policy; false if none may go.
    pub fn evict_one(&mut self, policy: EvictionPolicy, now: WallMs) -> bool {
        let chosen = match policy.by {
            EvictBy::Nothing => None,
            EvictBy::Chance => self.any_key(policy),
            _ => self.best_candidate(policy, now),
        };
        let Some((db, key)) = chosen.or_else(|| self.beside_frozen(policy)) else { return false };
        self.within(db, |db| db.evict(&key, policy.as_unlink));
        true
    }

    fn evict(&mut self, key: &[u8], as_unlink: bool) {
        if !self.keys.remove(key) {
            return;
        }
        self.evicted += 1;
        self.touch_watchers(key);
        self.notify(class::EVICTED, "evicted", key);
        let name: &[u8] = if as_unlink { b"UNLINK" } else { b"DEL" };
        self.propagated.push([name, key].into_iter());
    }

    fn any_key(&mut self, policy: EvictionPolicy) -> Option<(u32, Vec<u8>)> {
        for _ in 0..self.databases() {
            let db = self.candidates.next_db % self.databases();
            self.candidates.next_db = db + 1;
            // Not only one look: what is drawn may be frozen.
            for _ in 0..8 {
                let mut random = self.random.clone();
                let drawn = self.database(db).and_then(|keys| draw(keys, policy.volatile, &mut random));
                let key = drawn.map(|entry| entry.key().to_vec());
                self.random = random;
                match key {
                    None => break,
                    Some(key) if !self.frozen.contains(&key) => return Some((db, key)),
                    Some(_) => {}
                }
            }
        }
        None
    }

    /// The first key that may go, when luck has found none but frozen ones.
    fn beside_frozen(&self, policy: EvictionPolicy) -> Option<(u32, Vec<u8>)> {
        if self.frozen.is_empty() || policy.by == EvictBy::Nothing {
            return None;
        }
        let may_go = |entry: &&Entry| {
            (!policy.volatile || entry.expire_at().is_some()) && !self.frozen.contains(entry.key())
        };
        self.all().find_map(|(db, keys)| {
            let mut all = (0..SLOTS).flat_map(|slot| keys.slot_iter_from(Slot(slot as u16), 0));
            all.find(may_go).map(|entry| (db, entry.key().to_vec()))
        })
    }

    fn best_candidate(&mut self, policy: EvictionPolicy, now: WallMs) -> Option<(u32, Vec<u8>)> {
        // What was frozen when it was drawn is drawn again; if nothing else is there, nothing can go.
        for _ in 0..8 {
            self.draw_candidates(policy, now);
            while let Some(Candidate { db, key, .. }) = self.candidates.pool.pop() {
                let entry = self.database(db).and_then(|keys| keys.get(&key));
                let may_go = entry.is_some_and(|entry| !policy.volatile || entry.expire_at().is_some());
                if may_go && !self.frozen.contains(&key) {
                    return Some((db, key));
                }
            }
        }
        None
    }

    fn draw_candidates(&mut self, policy: EvictionPolicy, now: WallMs) {
        let usage = self.usage;
        let score = |entry: &Entry| match policy.by {
            EvictBy::Frequency => u64::from(u8::MAX - usage.frequency(entry.usage_bits(), now)),
            EvictBy::Expiry => u64::MAX - entry.expire_at().map_or(u64::MAX, |at| at.0),
            _ => Usage::idle_s(entry.usage_bits(), now),
        };
        let mut random = self.random.clone();
        let mut candidates = std::mem::take(&mut self.candidates);
        for (db, keys) in self.all() {
            if policy.by == EvictBy::Expiry {
                // These are in order: no luck is needed.
                for entry in keys.soonest(policy.samples) {
                    candidates.offer(score(entry), db, entry.key());
                }
                continue;
            }
            for _ in 0..policy.samples {
                let Some(entry) = draw(keys, policy.volatile, &mut random) else { break };
                candidates.offer(score(entry), db, entry.key());
            }
        }
        self.candidates = candidates;
        self.random = random;
    }
}

/// A random key; with `volatile` one that expires. Not all are equally likely, as with Redis' own tables.
fn draw<'a>(keys: &'a Keyspace, volatile: bool, random: &mut Random) -> Option<&'a Entry> {
    if keys.is_empty() || volatile && keys.expiring() == 0 {
        return None;
    }
    let start = random.below(SLOTS as u64) as usize;
    let filled =
        (start..SLOTS).chain(0..start).map(|slot| Slot(slot as u16)).find(|slot| keys.slot_len(*slot) > 0);
    let first = filled?;
    let rank = random.below(keys.slot_len(first) as u64) as usize;
    if !volatile {
        return keys.slot_iter_from(first, rank).next();
    }
    let here = keys.slot_iter_from(first, rank).chain(keys.slot_iter_from(first, 0).take(rank));
    let slots = (first.index() + 1..SLOTS).chain(0..first.index()).map(|slot| Slot(slot as u16));
    let all = here.chain(slots.flat_map(|slot| keys.slot_iter_from(slot, 0)));
    let found = all.take(SEARCH).find(|entry| entry.expire_at().is_some());
    // They are rare: a place in the order of their times.
    found.or_else(|| keys.expiring_near(random.next_u64(), random.next_u64()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::io::Now;
    use crate::keyspace::{EncodingLimits, HashSeed, Value};

    const NOW: WallMs = WallMs(1_700_000_000_000);

    fn db_with(keys: &[(u32, bool)]) -> Db {
        let mut db = Db::new(HashSeed(1, 2), EncodingLimits::default(), Random::seeded(3), 4);
        for (number, &(database, expires)) in keys.iter().enumerate() {
            db.select(database % 4);
            let expire_at = expires.then(|| WallMs(NOW.0 + 1000 + number as u64));
            db.keys.set(format!("key:{number}").as_bytes(), Value::string(b"v"), expire_at, NOW);
        }
        db.select(0);
        db
    }

    const ALL: [&str; 8] = [
        "noeviction",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ];

    proptest! {
        #[test]
        fn all_that_may_go_goes_and_nothing_else(
            keys in proptest::collection::vec((0_u32..4, any::<bool>()), 0..60),
            policy in proptest::sample::select(&ALL[..]),
            frozen in 0_usize..60,
        ) {
            let policy = EvictionPolicy::named(policy, 5, false);
            let mut db = db_with(&keys);
            db.frozen.insert(format!("key:{frozen}").into_bytes());
            while db.evict_one(policy, NOW) {}
            let stays = |(number, (_, expires)): (usize, &(u32, bool))| {
                policy.by == EvictBy::Nothing || policy.volatile && !expires || number == frozen
            };
            let expected = keys.iter().enumerate().filter(|&each| stays(each)).count();
            prop_assert_eq!(db.key_count(), expected);
            prop_assert_eq!(db.evicted as usize, keys.len() - expected);
            prop_assert_eq!(db.propagated.len(), keys.len() - expected);
        }
    }

    /// Of 1000 keys each tenth was used lately (or often): evicting half must hit few of them.
    fn used_keys_left(policy: &str, usage: Usage) -> usize {
        let mut db = db_with(&[(0, true); 1000]);
        db.set_usage(usage);
        let later = Now { mono: crate::io::Mono(0), wall: WallMs(NOW.0 + 100_000) };
        for (number, entry) in
            (0..1000).filter_map(|n| Some((n, db.keys.get(format!("key:{n}").as_bytes())?)))
        {
            let idle = WallMs(NOW.0 + 50 * number);
            entry.set_usage_bits(usage.fresh(idle));
        }
        for _ in 0..30 {
            for number in (0..1000).step_by(10) {
                db.find(format!("key:{number}").as_bytes(), Now { wall: WallMs(NOW.0 + 500), ..later });
            }
        }
        for number in (0..1000).step_by(10) {
            db.find(format!("key:{number}").as_bytes(), Now { wall: WallMs(NOW.0 + 900), ..later });
        }
        if usage == Usage::Recency {
            for number in (0..1000).step_by(10) {
                let entry = db.keys.get(format!("key:{number}").as_bytes()).expect("a key");
                entry.set_usage_bits(usage.fresh(later.wall));
            }
        }
        let policy = EvictionPolicy::named(policy, 5, false);
        (0..500).for_each(|_| assert!(db.evict_one(policy, later.wall)));
        (0..1000).step_by(10).filter(|n| db.keys.get(format!("key:{n}").as_bytes()).is_some()).count()
    }

    #[test]
    fn used_keys_stay() {
        let lfu = Usage::Frequency { log_factor: 1, decay_min: 0 };
        for (policy, usage) in [
            ("allkeys-lru", Usage::Recency),
            ("volatile-lru", Usage::Recency),
            ("allkeys-lfu", lfu),
            ("volatile-lfu", lfu),
        ] {
            let left = used_keys_left(policy, usage);
            assert!(left >= 90, "{policy}: {left} of 100");
        }
    }

    #[test]
    fn what_expires_first_goes_first() {
        let mut db = db_with(&[(0, true); 50]);
        let policy = EvictionPolicy::named("volatile-ttl", 5, false);
        (0..20).for_each(|_| assert!(db.evict_one(policy, NOW)));
        let left: Vec<bool> = (0..50).map(|n| db.keys.get(format!("key:{n}").as_bytes()).is_some()).collect();
        assert!(left[..20].iter().all(|there| !there) && left[20..].iter().all(|there| *there), "{left:?}");
    }
}
