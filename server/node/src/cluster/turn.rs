//! The words between the cluster room and the node that drives it: what it must know, what it wants done.

use std::net::{IpAddr, SocketAddr};

use super::SlotBitmap;
use crate::io::{ConnId, LogLevel, Mono, Now};

/// A replica's link to its master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasterLink {
    /// In sync; bytes came last at this time.
    Up { last_io: Mono },
    /// Not in sync since then; `None`: it never was.
    Down { since: Option<Mono> },
}

/// What the cluster room must know of the rest of the node.
pub trait Facts {
    /// Bytes of the replication stream: produced if I am a master, applied if I am a replica.
    fn replication_offset(&self) -> u64;
    /// The link to my master (not asked while I am a master).
    fn master_link(&self) -> MasterLink;
    /// Keys in a slot, logically expired ones included.
    fn keys_in_slot(&self, slot: u16) -> usize;
    /// Up to `count` keys of a slot.
    fn some_keys_of_slot(&self, slot: u16, count: usize) -> Vec<Vec<u8>>;
    /// True if there is no key at all.
    fn no_keys(&self) -> bool;
    /// The slot of a key, hash tags honoured.
    fn key_slot(&self, key: &[u8]) -> u16;
    /// True while the data set is being loaded at start.
    fn loading(&self) -> bool;
    /// Bytes waiting in a bus connection's outbox.
    fn outbox_len(&self, conn: ConnId) -> usize;
    /// Bytes allocated for them.
    fn outbox_allocated(&self, conn: ConnId) -> usize;
}

/// What is to be done, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial a bus port; answer with `link_connected` or `link_failed`.
    Dial { conn: ConnId, addr: SocketAddr, source: Option<IpAddr> },
    /// Close a bus connection now and forget its outbox. No `link_closed` is expected.
    CloseLink { conn: ConnId },
    /// Put bytes in a bus connection's outbox; with `after_save`, gated by the ticket of the latest
    /// [`Action::SaveConfig`].
    Send { conn: ConnId, bytes: Vec<u8>, after_save: bool },
    /// Put `text` in place of nodes.conf, atomically. `sync`: fsync it. `answers_wait`: what this node says from now on
    /// depends on it, so replies to clients of this batch wait for it too. Answer with `config_saved`.
    SaveConfig { text: String, sync: bool, answers_wait: bool },
    /// Be a replica of this address from now on (also: its address changed).
    Replicate { ip: IpAddr, port: u16 },
    /// Be a master from now on: stop replicating, keep the data, new replication id (the old one as second).
    Promote,
    /// I became a replica: end clients that block on keys (`-UNBLOCKED force unblock from blocking operation,
    /// instance state changed (master -> replica?)`).
    UnblockClients,
    /// Delete the slot's keys, as commands that reach replicas and AOF (F-27).
    DeleteSlotKeys { slot: u16 },
    /// These slots left this shard: tell subscribers of their shard channels (`sunsubscribe`).
    SlotsLeft { slots: SlotBitmap },
    /// Delete all keys (CLUSTER RESET of a replica).
    FlushAll,
    /// Hold back clients' writes, expiry, eviction and replication pings until then, or until the next
    /// [`Action::ResumeWrites`].
    PauseWrites { until: Mono },
    /// End the pause that `PauseWrites` began.
    ResumeWrites,
    /// A PUBLISH of another node: give it to local subscribers.
    Publish { sharded: bool, channel: Vec<u8>, message: Vec<u8> },
    /// A line for the log, in Redis' words.
    Log { level: LogLevel, text: String },
}

/// One call's surroundings.
pub struct Turn<'a> {
    /// The clocks.
    pub now: Now,
    /// What the rest of the node knows.
    pub facts: &'a dyn Facts,
    /// The number of the next connection asked for; advanced by two for each.
    pub next_conn: &'a mut ConnId,
    /// Where actions go.
    pub actions: &'a mut Vec<Action>,
}

impl Turn<'_> {
    pub(super) fn log(&mut self, level: LogLevel, text: impl Into<String>) {
        self.actions.push(Action::Log { level, text: text.into() });
    }

    /// What is none of this shard's any more.
    pub(super) fn slots_left(&mut self, slots: SlotBitmap) {
        if !slots.is_empty() {
            self.actions.push(Action::SlotsLeft { slots });
        }
    }

    pub(super) fn new_conn(&mut self) -> ConnId {
        let conn = *self.next_conn;
        self.next_conn.0 += 2;
        conn
    }

    /// Milliseconds since an instant; everything that never was is very long ago.
    pub(super) fn ms_since(&self, then: Option<Mono>) -> u64 {
        then.map_or(u64::MAX, |then| self.now.mono.ms_since(then))
    }

    /// An instant as Unix milliseconds, 0 if it never was: for what is printed or gossiped only.
    pub(super) fn wall_ms(&self, then: Option<Mono>) -> u64 {
        then.map_or(0, |then| {
            let ahead = then.0.saturating_sub(self.now.mono.0) / 1000;
            (self.now.wall.0 + ahead).saturating_sub(self.now.mono.ms_since(then))
        })
    }
}
