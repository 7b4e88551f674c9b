//! What COMMAND and ACL tell of commands: flags, key specifications, categories, sub-commands, documentation.
//!
//! The text is recorded from a redis-server 7.0 (`scripts/record-commands`) and read once, when somebody asks. The
//! hot path does not: [`super::TABLE`] has what it needs, and a test says that both agree. What the table does not
//! have is not told.

mod keys;
mod parse;
mod reply;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use super::{Spec, flag, lookup};
use crate::resp::Args;

pub use keys::{KeyFlags, KeyRef, KeySpec, channels_of, keys_of};
pub use reply::{write_docs, write_info, write_key_flags};

const RECORDED: &str = include_str!("commands.txt");

/// Sub-commands of 7.0 that this server does not have.
pub const ABSENT: &[&str] = &[];

/// Categories of ACL rules, in Redis' order; a category's bit is its place.
pub const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// The bit of a category, whatever the case of its name.
pub fn category(name: &[u8]) -> Option<u32> {
    let found = CATEGORIES.iter().position(|category| name.eq_ignore_ascii_case(category.as_bytes()));
    found.map(|index| 1 << index)
}

/// A command or a sub-command.
#[derive(Debug)]
pub struct Entry {
    /// As it runs; a sub-command's name is `container|name`.
    pub spec: Spec,
    /// Names of its flags, as COMMAND shows them.
    pub flags: Vec<&'static str>,
    /// First key, last key, step, as COMMAND shows them.
    pub positions: [i32; 3],
    /// Bits of [`CATEGORIES`].
    pub categories: u32,
    /// Hints for clients.
    pub tips: Vec<&'static str>,
    /// Where its keys are.
    pub key_specs: Vec<KeySpec>,
    /// Lines of documentation.
    pub docs: Vec<&'static str>,
    /// Its container's place.
    pub parent: Option<usize>,
    /// Its sub-commands are the entries behind it.
    pub subcommands: usize,
}

impl Entry {
    /// True if COMMAND shows this flag.
    pub fn is_flagged(&self, name: &str) -> bool {
        self.flags.contains(&name)
    }
}

/// All commands of the table, each followed by its sub-commands; sorted by name.
#[derive(Debug)]
pub struct Catalog {
    entries: Vec<Entry>,
}

/// The one catalog.
pub fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| Catalog { entries: parse::entries(RECORDED) })
}

impl Catalog {
    /// All entries; an entry's place is its number in ACL rules.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Commands that are no sub-commands, with their places.
    pub fn top(&self) -> impl ExactSizeIterator<Item = usize> + use<> {
        let top = self.entries.iter().enumerate().filter(|(_, entry)| entry.parent.is_none());
        top.map(|(index, _)| index).collect::<Vec<_>>().into_iter()
    }

    /// The place of a full name (`client|kill`), whatever the case.
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        let name = name.to_ascii_lowercase();
        self.entries.binary_search_by(|entry| entry.spec.name.as_bytes().cmp(&name)).ok()
    }

    /// The entry of what [`resolve`] gave.
    pub fn entry(&self, spec: &Spec) -> Option<(usize, &Entry)> {
        let index = self.entries.binary_search_by(|entry| entry.spec.name.cmp(spec.name)).ok()?;
        Some((index, &self.entries[index]))
    }

    /// The places of a container's sub-commands.
    pub fn subcommands(&self, index: usize) -> std::ops::Range<usize> {
        index + 1..index + 1 + self.entries.get(index).map_or(0, |entry| entry.subcommands)
    }

    /// The sub-command of a container.
    fn subcommand(&self, container: &Spec, name: &[u8]) -> Option<&Spec> {
        let (index, _) = self.entry(container)?;
        let prefix = container.name.len() + 1;
        self.entries[self.subcommands(index)]
            .iter()
            .find(|entry| entry.spec.name.as_bytes()[prefix..].eq_ignore_ascii_case(name))
            .map(|entry| &entry.spec)
    }
}

/// Why words name no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// No such command.
    Command,
    /// The container has no such sub-command.
    Subcommand,
}

/// The command that these arguments call: a container's sub-command if one is named.
///
/// # Errors
/// There is none.
pub fn resolve(args: Args<'_>) -> Result<&'static Spec, Unresolved> {
    let spec = args.get(0).and_then(lookup).ok_or(Unresolved::Command)?;
    match args.get(1) {
        Some(name) if spec.has(flag::CONTAINER) => {
            catalog().subcommand(spec, name).ok_or(Unresolved::Subcommand)
        }
        _ => Ok(spec),
    }
}
