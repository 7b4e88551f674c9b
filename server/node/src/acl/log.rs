//! ACL LOG: what was refused to whom, latest first; what comes again within a minute is counted.

use crate::io::WallMs;

/// Refusals that are as far apart count as two entries.
const GROUP_MS: u64 = 60_000;
/// So many entries are looked at for one of the same kind.
const LOOKED_AT: usize = 10;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub count: u64,
    /// `command`, `key`, `channel` or `auth`.
    pub reason: &'static str,
    /// `toplevel`, `multi` or `lua`.
    pub context: &'static str,
    /// The name of the command, key or channel.
    pub object: Vec<u8>,
    pub username: Vec<u8>,
    pub at: WallMs,
    /// The client's line of CLIENT LIST.
    pub client: String,
}

/// The log.
#[derive(Debug, Default)]
pub struct AclLog {
    /// Latest first.
    entries: Vec<Refusal>,
}

impl AclLog {
    /// Notes a refusal; keeps at most `max` entries.
    pub fn add(&mut self, new: Refusal, max: usize) {
        let same = |old: &Refusal| {
            old.reason == new.reason
                && old.context == new.context
                && old.at.0.abs_diff(new.at.0) <= GROUP_MS
                && old.object == new.object
                && old.username == new.username
        };
        let merged = match self.entries.iter().take(LOOKED_AT).position(same) {
            Some(at) => Refusal { count: self.entries.remove(at).count + 1, ..new },
            None => new,
        };
        self.entries.insert(0, merged);
        self.entries.truncate(max);
    }

    /// Latest first.
    pub fn entries(&self) -> &[Refusal] {
        &self.entries
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
