//! Counts for the status line while a run goes on. The verdict counts again, from the record.

use crate::observer::holds;

/// What became of the operations so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub ok: u64,
    pub fail: u64,
    /// Sent, and nobody can say.
    pub unknown: u64,
    /// Acknowledged writes.
    pub acked: u64,
    pub shards: Vec<ShardTally>,
}

/// The same of one shard (the slots it had at the start).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardTally {
    slots: Vec<(u16, u16)>,
    pub ok: u64,
    pub fail: u64,
    pub unknown: u64,
}

/// How one operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Ok,
    Fail,
    Unknown,
}

impl Tally {
    /// Nothing yet.
    pub fn new(shards: Vec<Vec<(u16, u16)>>) -> Self {
        let shards = shards.into_iter().map(|slots| ShardTally { slots, ..ShardTally::default() }).collect();
        Self { shards, ..Self::default() }
    }

    pub(super) fn count(&mut self, slot: u16, end: End, is_write: bool) {
        let shard = self.shards.iter_mut().find(|shard| holds(&shard.slots, slot));
        let (all, of_shard) = match end {
            End::Ok => (&mut self.ok, shard.map(|shard| &mut shard.ok)),
            End::Fail => (&mut self.fail, shard.map(|shard| &mut shard.fail)),
            End::Unknown => (&mut self.unknown, shard.map(|shard| &mut shard.unknown)),
        };
        *all += 1;
        if let Some(count) = of_shard {
            *count += 1;
        }
        if is_write && end == End::Ok {
            self.acked += 1;
        }
    }
}
