//! Commands: one table ([`table`]), a file a family. Data commands are handlers on a [`Call`]; what touches the
//! node itself (connections, roles, files) is a [`Verb`] that the `node` room carries out.
#![allow(clippy::unnecessary_wraps)] // all handlers have one signature

mod bitmaps;
mod call;
pub mod catalog;
mod databases;
mod db;
mod digest;
mod eviction;
mod fault;
mod generic;
mod geo;
mod hashes;
mod help;
mod hyperloglog;
mod lcs;
mod lists;
mod long_double;
mod multi_pop;
mod notify;
mod sets;
mod sort;
mod stream_claims;
mod stream_groups;
mod stream_info;
mod stream_reads;
mod streams;
mod strings;
mod table;
#[cfg(test)]
mod tests;
mod transfer;
mod waits;
mod watches;
mod zset_algebra;
mod zset_ranges;
mod zsets;

pub use call::{Blocking, Call, Wait, is};
pub use databases::int32;
pub use db::{Db, ExpiryMode, Propagated, PropagatedCommand};
pub use digest::{dataset_digest, hex, key_digest, value_digest};
pub use eviction::{EvictBy, EvictionPolicy};
pub use fault::{
    CLUSTER_DISABLED, DB_OUT_OF_RANGE, Fault, NO_SUCH_KEY, NOT_INTEGER, NOT_POSITIVE, Outcome, SYNTAX, shown,
    text,
};
pub use help::write_help;
pub use notify::{Notification, Notifications, class};
pub use table::{TABLE, Verb, lookup};
pub use transfer::{MigrateAuth, MigrateRequest, migrate_payload};
pub use watches::Watched;

use crate::resp::Args;

/// Flag bits of a command.
pub mod flag {
    pub const WRITE: u32 = 1;
    pub const READONLY: u32 = 1 << 1;
    pub const DENYOOM: u32 = 1 << 2;
    pub const ADMIN: u32 = 1 << 3;
    pub const PUBSUB: u32 = 1 << 4;
    pub const NOSCRIPT: u32 = 1 << 5;
    pub const BLOCKING: u32 = 1 << 6;
    pub const LOADING: u32 = 1 << 7;
    pub const STALE: u32 = 1 << 8;
    pub const ASKING: u32 = 1 << 9;
    pub const FAST: u32 = 1 << 10;
    pub const NO_AUTH: u32 = 1 << 11;
    pub const MAY_REPLICATE: u32 = 1 << 12;
    pub const NO_MULTI: u32 = 1 << 13;
    pub const ALLOW_BUSY: u32 = 1 << 14;
    /// Its first argument names one of its sub-commands, which have arity, flags and keys of their own.
    pub const CONTAINER: u32 = 1 << 15;
    /// Names as `COMMAND` shows them; of `MAY_REPLICATE` and `CONTAINER` it does not tell.
    pub const NAMES: [(u32, &str); 14] = [
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NOSCRIPT, "noscript"),
        (BLOCKING, "blocking"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (ASKING, "asking"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (NO_MULTI, "no_multi"),
        (ALLOW_BUSY, "allow_busy"),
    ];
}

/// Where a command's keys stand, as `COMMAND` tells it: first, last (negative: from the end), step. First 0: no
/// keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPositions {
    pub first: i32,
    pub last: i32,
    pub step: i32,
    /// The number of keys stands in this argument, and they follow it (`LMPOP`, `SINTERCARD`; behind a key that
    /// is written: `ZUNIONSTORE`); 0: not so; [`Self::BEHIND_STREAMS`].
    pub count_at: i32,
    /// A key that is written stands behind the word STORE or STOREDIST, from this argument on (`SORT`,
    /// `GEORADIUS`); 0: not so.
    pub store_from: i32,
}

impl KeyPositions {
    /// The keys are the first half of what follows the word `STREAMS` (`XREAD`).
    pub const BEHIND_STREAMS: i32 = -1;
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// In lower case.
    pub name: &'static str,
    /// Number of arguments, the name included; negative: at least so many.
    pub arity: i32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Where the keys are.
    pub keys: KeyPositions,
    /// What it does.
    pub run: Run,
}

/// What carries a command out.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// A handler that needs the dataset only.
    Data(fn(&mut Call<'_>) -> Outcome),
    /// The node.
    Node(Verb),
}

impl Run {
    /// True for this command of the node's.
    pub fn is(self, verb: Verb) -> bool {
        matches!(self, Self::Node(other) if other == verb)
    }
}

impl Spec {
    /// True if all bits of `flags` are set.
    pub const fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// True if so many arguments are acceptable.
    pub const fn accepts(&self, args: usize) -> bool {
        let args = args as i32;
        if self.arity < 0 { args >= -self.arity } else { args == self.arity }
    }

    /// The keys among the arguments.
    pub fn keys<'a>(&self, args: &Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let KeyPositions { first, last, step, count_at, store_from } = self.keys;
        let args = *args;
        let len = args.len() as i32;
        let (first, last) = if self.run.is(Verb::Migrate) {
            transfer::migrate_key_range(&args)
        } else {
            (first, if last < 0 { len + last } else { last.min(len - 1) })
        };
        let indices = if first == 0 { 0..0 } else { first..(last + 1).max(first) };
        let counted = if count_at > 0 {
            let count = args.get(count_at as usize).and_then(crate::keyspace::number::parse_i64).unwrap_or(0);
            let end = i64::from(count_at) + 1 + count.clamp(0, i64::from(len));
            count_at + 1..(end as i32).min(len).max(count_at + 1)
        } else if count_at == KeyPositions::BEHIND_STREAMS {
            streams::keys_behind_streams(&args)
        } else {
            0..0
        };
        let stored = if store_from > 0 { stored_key(&args, store_from) } else { None };
        indices
            .step_by(step.max(1) as usize)
            .chain(counted)
            .chain(stored)
            .filter_map(move |index| args.get(index as usize))
    }
}

/// The argument behind the last word STORE or STOREDIST that is no other option's.
fn stored_key(args: &Args<'_>, from: i32) -> Option<i32> {
    let mut found = None;
    let mut index = from as usize;
    while index + 1 < args.len() {
        index += match &args[index] {
            word if is(word, "STORE") || is(word, "STOREDIST") => {
                found = Some(index as i32 + 1);
                2
            }
            word if is(word, "GET") || is(word, "BY") => 2,
            word if is(word, "LIMIT") => 3,
            _ => 1,
        };
    }
    found
}
