//! The keys and channels among a command's arguments, as Redis' key specifications describe them, with what is done
//! to each. For ACL checks and COMMAND GETKEYS; the hot path has [`Spec::keys`](super::Spec::keys).

use super::super::is;
use super::Entry;
use crate::keyspace::number::parse_i64;
use crate::resp::Args;

/// What a command does to a key, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyFlags(pub u16);

impl KeyFlags {
    /// Names as COMMAND shows them.
    pub const NAMES: [&str; 11] = [
        "RO",
        "RW",
        "OW",
        "RM",
        "access",
        "update",
        "insert",
        "delete",
        "not_key",
        "incomplete",
        "variable_flags",
    ];
    const RO: Self = Self(1);
    const RW: Self = Self(1 << 1);
    const OW: Self = Self(1 << 2);
    /// Its value is given to the client.
    pub const ACCESS: Self = Self(1 << 4);
    const UPDATE: Self = Self(1 << 5);
    const INSERT: Self = Self(1 << 6);
    const DELETE: Self = Self(1 << 7);
    const NOT_KEY: Self = Self(1 << 8);
    const INCOMPLETE: Self = Self(1 << 9);
    const VARIABLE: Self = Self(1 << 10);

    pub(super) fn named(names: &str) -> Self {
        let bit = |name| Self::NAMES.iter().position(|other| *other == name).map(|index| 1 << index);
        Self(names.split(' ').filter_map(bit).sum())
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if the key may change.
    pub const fn changes(self) -> bool {
        self.0 & (Self::UPDATE.0 | Self::INSERT.0 | Self::DELETE.0) != 0
    }

    /// Names of the bits that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (0..Self::NAMES.len()).filter(move |index| self.0 & 1 << index != 0).map(|index| Self::NAMES[index])
    }
}

/// Where to begin to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument.
    Index(i32),
    /// Behind this word, sought forward from an argument, or backward from one counted from the end.
    Keyword { keyword: &'static str, from: i32 },
    /// Nobody can say.
    Unknown,
}

/// What is found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Keys up to `last` (behind the first, or from the end if negative); of what follows only the part of
    /// 1/`limit` if that is not 0.
    Range { last: i32, step: i32, limit: i32 },
    /// The number of keys, and `first` arguments behind the beginning so many keys.
    Counted { count_at: i32, first: i32, step: i32 },
    /// Nobody can say.
    Unknown,
}

/// A key specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    pub flags: KeyFlags,
    pub begin: Begin,
    pub find: Find,
    pub note: Option<&'static str>,
}

/// A key among the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRef {
    /// Its place; the command's name has place 0.
    pub at: usize,
    pub flags: KeyFlags,
}

impl Entry {
    /// True if a call of it can have keys.
    pub fn may_have_keys(&self) -> bool {
        self.key_specs.iter().any(|spec| !spec.flags.has(KeyFlags::NOT_KEY))
            || matches!(self.spec.name, "command|getkeys" | "command|getkeysandflags")
    }
}

/// The keys of a call, in Redis' order; none if the arguments do not fit the specifications.
pub fn keys_of(entry: &Entry, args: Args<'_>) -> Vec<KeyRef> {
    let reliable = !entry.key_specs.iter().any(|spec| spec.flags.has(KeyFlags::VARIABLE));
    let by_specs = if reliable && entry.may_have_keys() { by_specs(entry, args) } else { None };
    by_specs.unwrap_or_else(|| by_name(entry.spec.name, args))
}

fn by_specs(entry: &Entry, args: Args<'_>) -> Option<Vec<KeyRef>> {
    let len = args.len() as i64;
    let mut keys = Vec::new();
    for spec in entry.key_specs.iter().filter(|spec| !spec.flags.has(KeyFlags::NOT_KEY)) {
        let begin = match spec.begin {
            Begin::Index(index) => i64::from(index),
            Begin::Keyword { keyword, from } => match find_keyword(args, keyword, from) {
                Some(at) => at as i64 + 1,
                None => continue,
            },
            Begin::Unknown => return None,
        };
        let (first, last, step) = match spec.find {
            Find::Range { last, step, .. } if last >= 0 => (begin, begin + i64::from(last), step),
            Find::Range { last, step, limit: 0 } => (begin, len + i64::from(last), step),
            Find::Range { last, step, limit } => {
                (begin, begin + (len - begin) / i64::from(limit) + i64::from(last), step)
            }
            Find::Counted { count_at, first, step } => {
                let count = args.get(usize::try_from(begin + i64::from(count_at)).ok()?)?;
                let count = parse_i64(count).filter(|count| (0..=i64::from(i32::MAX)).contains(count))?;
                let first = begin + i64::from(first);
                (first, first + count - 1, step)
            }
            Find::Unknown => return None,
        };
        if last >= len || last < first || first >= len {
            return None;
        }
        let places = (first..=last).step_by(step.max(1) as usize);
        keys.extend(places.map(|at| KeyRef { at: at as usize, flags: spec.flags }));
        if spec.flags.has(KeyFlags::INCOMPLETE) {
            return None;
        }
    }
    Some(keys)
}

/// The place of a keyword. Redis looks neither at the last argument when it goes forward, nor at the first one when it
/// goes backward.
fn find_keyword(args: Args<'_>, keyword: &str, from: i32) -> Option<usize> {
    let len = args.len();
    let fits = |at: &usize| args.get(*at).is_some_and(|arg| is(arg, keyword));
    if from > 0 {
        (from as usize..len.saturating_sub(1)).find(fits)
    } else {
        let start = len.checked_sub(from.unsigned_abs() as usize)?;
        (2..=start).rev().find(fits)
    }
}

/// The commands whose keys the specifications cannot tell.
fn by_name(name: &str, args: Args<'_>) -> Vec<KeyRef> {
    let key = |at, flags| KeyRef { at, flags };
    let read = KeyFlags::RO.with(KeyFlags::ACCESS);
    let overwritten = KeyFlags::OW.with(KeyFlags::UPDATE);
    let changed = KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE);
    match name {
        "sort" => {
            let mut stored = None;
            let mut at = 2;
            while let Some(arg) = args.get(at) {
                match () {
                    () if is(arg, "LIMIT") => at += 2,
                    () if is(arg, "GET") || is(arg, "BY") => at += 1,
                    () if is(arg, "STORE") && at + 1 < args.len() => stored = Some(at + 1),
                    () => {}
                }
                at += 1;
            }
            let stored = stored.map(|at| key(at, overwritten));
            std::iter::once(key(1, read)).chain(stored).collect()
        }
        "sort_ro" => vec![key(1, read)],
        "migrate" => {
            let flags = KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE);
            let mut at = 6;
            while let Some(arg) = args.get(at) {
                match () {
                    () if is(arg, "KEYS") && !args[3].is_empty() => return Vec::new(),
                    () if is(arg, "KEYS") => return (at + 1..args.len()).map(|at| key(at, flags)).collect(),
                    () if is(arg, "AUTH") => at += 1,
                    () if is(arg, "AUTH2") => at += 2,
                    () => {}
                }
                at += 1;
            }
            vec![key(3, flags)]
        }
        "georadius" | "georadiusbymember" => {
            let none = KeyFlags::default();
            let mut stored = None;
            let mut at = 5;
            while at + 1 < args.len() {
                if is(&args[at], "STORE") || is(&args[at], "STOREDIST") {
                    stored = Some(key(at + 1, none));
                    at += 1;
                }
                at += 1;
            }
            std::iter::once(key(1, none)).chain(stored).collect()
        }
        "set" => {
            let gets = args.from(3).iter().any(|arg| is(arg, "GET"));
            vec![key(1, if gets { changed } else { overwritten })]
        }
        "bitfield" => vec![key(1, if only_gets(args) { read } else { changed })],
        _ => Vec::new(),
    }
}

/// Does this BITFIELD change nothing?
fn only_gets(args: Args<'_>) -> bool {
    let mut at = 2;
    while let Some(arg) = args.get(at) {
        let left = args.len() - at - 1;
        match () {
            () if is(arg, "GET") && left >= 2 => at += 3,
            () if is(arg, "OVERFLOW") && left >= 1 => at += 2,
            () => return false,
        }
    }
    true
}

/// The channels that a call publishes to or subscribes to, and whether they are patterns. Leaving needs no right.
pub fn channels_of(name: &str, args: Args<'_>) -> Option<(std::ops::Range<usize>, bool)> {
    match name {
        "publish" | "spublish" => Some((1..args.len().min(2), false)),
        "subscribe" | "ssubscribe" => Some((1..args.len(), false)),
        "psubscribe" => Some((1..args.len(), true)),
        _ => None,
    }
}
