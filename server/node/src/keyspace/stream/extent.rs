//! What a stream has been through, in five numbers, and what follows from them for its groups: how many entries
//! stand up to an id, and how many are ahead of a reader. The rules, exceptions included, are Redis 7.0's.

use super::StreamId;
use super::group::UNKNOWN_READ;

/// The reach of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Number of entries.
    pub len: u64,
    /// The first entry; `0-0` without any.
    pub first_id: StreamId,
    /// The greatest id given so far, or set by `XSETID`.
    pub last_id: StreamId,
    /// The greatest id that `XDEL` deleted.
    pub max_deleted_id: StreamId,
    /// Number of entries added so far, or set by `XSETID`.
    pub entries_added: u64,
}

impl Extent {
    /// True if an entry was deleted from the midst of what is at `start` or behind it.
    pub fn has_gap_from(&self, start: StreamId) -> bool {
        self.len > 0
            && self.max_deleted_id != StreamId::MIN
            && self.first_id <= self.max_deleted_id
            && start <= self.max_deleted_id
    }

    /// How many entries were added up to an id; `None` where that cannot be told.
    pub fn entries_until(&self, id: StreamId) -> Option<i64> {
        let added = self.entries_added as i64;
        if added == 0 || id == self.last_id || self.len == 0 && id < self.last_id {
            return Some(added);
        }
        let has_gaps = self.max_deleted_id != StreamId::MIN && self.max_deleted_id >= self.first_id;
        if id > self.last_id || has_gaps || id > self.first_id {
            return None;
        }
        let gone = added.wrapping_sub(self.len as i64);
        Some(if id == self.first_id { gone.wrapping_add(1) } else { gone })
    }

    /// How many entries are ahead of a group that has read `entries_read` up to `last_id`; `None` where that
    /// cannot be told.
    pub fn lag(&self, last_id: StreamId, entries_read: i64) -> Option<i64> {
        let added = self.entries_added as i64;
        if added == 0 {
            return Some(0);
        }
        let read = if entries_read != UNKNOWN_READ && !self.has_gap_from(last_id) {
            entries_read
        } else {
            self.entries_until(last_id)?
        };
        Some(added.wrapping_sub(read))
    }
}
