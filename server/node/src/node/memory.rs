//! What the node's memory is used for, and what is done when it is more than `maxmemory`.

use super::Node;
use crate::command::{EvictBy, EvictionPolicy, Spec};
use crate::config::Key;
use crate::keyspace::{Keyspace, Usage};
use crate::resp::Args;

/// Keys evicted in one go at the usual tenacity of 10.
const EVICT_UNITS: f64 = 64.0;

/// While memory is short, what clients hold is added up so often.
const MEASURE_MS: u64 = 1;

/// Whether there is room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is, or there will be soon: keys are being evicted.
    Enough,
    /// There is none, and nothing may be evicted.
    None,
}

impl Node {
    /// Directives about memory changed.
    pub(super) fn memory_settings_changed(&mut self) {
        let samples = self.config.uint(Key::MaxmemorySamples) as usize;
        let as_unlink = self.config.flag(Key::LazyfreeLazyEviction);
        self.eviction = EvictionPolicy::named(self.config.text(Key::MaxmemoryPolicy), samples, as_unlink);
        self.db.unlinks_expired = self.config.flag(Key::LazyfreeLazyExpire);
        let by_use = matches!(self.eviction.by, EvictBy::Recency | EvictBy::Frequency);
        self.db.evicts_by_use = by_use;
        self.db.shares_integers = !(by_use && self.config.uint(Key::Maxmemory) > 0);
        self.db.set_usage(match self.eviction.by {
            EvictBy::Frequency => Usage::Frequency {
                log_factor: self.config.uint(Key::LfuLogFactor),
                decay_min: self.config.uint(Key::LfuDecayTime),
            },
            _ => Usage::Recency,
        });
        self.more_eviction = self.config.uint(Key::Maxmemory) > 0;
    }

    /// Bytes that count against `maxmemory`: the data, and what the last look at all clients found them to hold. Not
    /// the buffers of replicas and of the append-only file, which grow because keys are evicted.
    pub(super) fn counted_memory(&self) -> usize {
        self.db.used_memory()
            + self.startup_memory()
            + self.replication.backlog_memory().0
            + self.client_bytes
    }

    /// What an empty node has.
    pub(super) fn startup_memory(&self) -> usize {
        Keyspace::table_bytes() * self.db.all().count() + size_of::<Self>()
    }

    /// Adds up what clients hold, once in a while: a sum over all of them is too much for each command.
    pub(super) fn measure_clients(&mut self) {
        let mut bytes = 0;
        for (conn, state) in &self.conns {
            if !self.replication.is_replica(*conn) {
                let output = state.outbox.allocated();
                bytes += match &state.kind {
                    super::ConnKind::Client(Some(client)) => client.memory(output),
                    _ => output,
                };
            }
        }
        self.client_bytes = bytes;
        self.measured_at = self.now.mono;
        self.peak_memory = self.peak_memory.max(self.counted_memory());
    }

    /// Evicts a bounded number of keys if there is need; the rest follows at the end of the batch.
    pub(super) fn make_room(&mut self) -> Room {
        let limit = self.config.uint(Key::Maxmemory) as usize;
        // Clients that use more than is theirs go before any key does.
        let clients_go_first = self.config.int(Key::MaxmemoryClients) != 0;
        if limit > 0
            && self.counted_memory() > limit
            && (clients_go_first || self.now.mono.ms_since(self.measured_at) >= MEASURE_MS)
        {
            self.evict_clients();
            self.measure_clients();
        }
        if limit == 0 || self.counted_memory() <= limit {
            self.more_eviction = false;
            return Room::Enough;
        }
        let may_not = self.files.is_loading()
            || self.is_replica() && self.config.flag(Key::ReplicaIgnoreMaxmemory)
            || self.client_pause.is_some()
            || self.failover_pause.is_some();
        if may_not {
            return Room::Enough;
        }
        let mut left = self.evictions_at_once();
        let mut room = Room::Enough;
        while self.counted_memory() > limit {
            if left == 0 {
                self.more_eviction = true;
                self.hand_on(false);
                return Room::Enough;
            }
            left -= 1;
            if !self.db.evict_one(self.eviction, self.now.wall) {
                // Clients that have gone since are not to be held against this one.
                self.measure_clients();
                if self.counted_memory() > limit {
                    room = Room::None;
                }
                break;
            }
        }
        self.more_eviction = false;
        // Each is a command of its own, not part of a transaction.
        self.hand_on(false);
        room
    }

    /// A client of this writable replica changed these keys: those that expire now do so by themselves.
    pub(super) fn note_own_expiries(&mut self, spec: &Spec, args: Args<'_>) {
        for key in spec.keys(&args) {
            if self.db.keys.get(key).is_some_and(|entry| entry.expire_at().is_some()) {
                self.own_expiring.insert((self.db.selected(), key.to_vec()));
            }
        }
    }

    /// Deletes what clients of a writable replica have made, when its time has come.
    pub(super) fn expire_own(&mut self) {
        if self.own_expiring.is_empty() {
            return;
        }
        if !self.is_replica() {
            // All keys expire by themselves now.
            self.own_expiring.clear();
            return;
        }
        if !self.active_expire {
            return;
        }
        let now = self.now.wall;
        for (db, key) in std::mem::take(&mut self.own_expiring) {
            let expire_at = self
                .db
                .database(db)
                .and_then(|keys| keys.get(&key))
                .and_then(crate::keyspace::Entry::expire_at);
            match expire_at {
                Some(at) if at <= now => self.db.within(db, |db| db.expire(&key)),
                Some(_) => {
                    self.own_expiring.insert((db, key));
                }
                None => {}
            }
        }
    }

    /// What Redis bounds by time, `maxmemory-eviction-tenacity`, by number: the node has no clock to look at.
    fn evictions_at_once(&self) -> usize {
        let tenacity = self.config.uint(Key::MaxmemoryEvictionTenacity) as f64;
        match tenacity {
            ..=10.0 => (EVICT_UNITS * tenacity / 10.0) as usize,
            ..100.0 => (EVICT_UNITS * 1.15_f64.powf(tenacity - 10.0)) as usize,
            _ => usize::MAX,
        }
        .max(1)
    }
}
