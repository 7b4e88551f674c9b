//! Reads the recorded text. It is part of the program: a line that is wrong is a programming error.

use super::super::table::TABLE;
use super::super::{KeyPositions, Spec, flag, lookup};
use super::keys::{Begin, Find, KeyFlags, KeySpec};
use super::{ABSENT, Entry, category};

/// Entries of the commands that the table has, sorted by name.
pub(super) fn entries(text: &'static str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(TABLE.len() * 2);
    let mut skipping = true;
    for line in text.lines() {
        let Some((word, rest)) = line.split_once('\t') else { continue };
        if word == "command" {
            let entry = begin(rest, &entries);
            skipping = entry.is_none();
            if let Some(parent) = entry.as_ref().and_then(|entry| entry.parent) {
                entries[parent].subcommands += 1;
            }
            entries.extend(entry);
        } else if let Some(entry) = entries.last_mut().filter(|_| !skipping) {
            take_line(entry, word, rest, line);
        }
    }
    debug_assert!(entries.is_sorted_by_key(|entry| entry.spec.name));
    entries
}

/// An entry without its lines; nothing for a command that this server does not have.
fn begin(rest: &'static str, entries: &[Entry]) -> Option<Entry> {
    let mut fields = rest.split('\t');
    let name = fields.next()?;
    let mut number = || fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
    let (arity, first, last, step) = (number(), number(), number(), number());
    let (spec, parent) = match name.split_once('|') {
        None => (*lookup(name.as_bytes())?, None),
        Some((container, _)) if !ABSENT.contains(&name) => {
            let run = lookup(container.as_bytes())?.run;
            let keys = KeyPositions { first, last, step, count_at: 0, store_from: 0 };
            let parent = entries.iter().rposition(|entry| entry.spec.name == container);
            (Spec { name, arity, flags: 0, keys, run }, parent)
        }
        Some(_) => return None,
    };
    Some(Entry {
        spec,
        flags: Vec::new(),
        positions: [first, last, step],
        categories: 0,
        tips: Vec::new(),
        key_specs: Vec::new(),
        docs: Vec::new(),
        parent,
        subcommands: 0,
    })
}

fn take_line(entry: &mut Entry, word: &str, rest: &'static str, line: &'static str) {
    match word {
        "flags" => {
            entry.flags = rest.split_whitespace().collect();
            if entry.parent.is_some() {
                let bits = flag::NAMES.iter().filter(|(_, name)| entry.flags.contains(name));
                entry.spec.flags = bits.map(|(bit, _)| bit).sum();
            }
        }
        "acl" => entry.categories = rest.split(' ').filter_map(|name| category(name.as_bytes())).sum(),
        "tip" => entry.tips.push(rest),
        "spec" => entry.key_specs.extend(key_spec(rest)),
        _ => entry.docs.push(line),
    }
}

fn key_spec(rest: &'static str) -> Option<KeySpec> {
    let mut fields = rest.split('\t');
    let (flags, begin, find) = (fields.next()?, fields.next()?, fields.next()?);
    let note = fields.next().filter(|note| !note.is_empty());
    let words: Vec<&'static str> = begin.split(' ').collect();
    let begin = match words[..] {
        ["index", index] => Begin::Index(index.parse().ok()?),
        ["keyword", keyword, from] => Begin::Keyword { keyword, from: from.parse().ok()? },
        _ => Begin::Unknown,
    };
    let words: Vec<&str> = find.split(' ').collect();
    let number = |index: usize| words.get(index).and_then(|word| word.parse().ok()).unwrap_or(0);
    let find = match words[0] {
        "range" => Find::Range { last: number(1), step: number(2), limit: number(3) },
        "keynum" => Find::Counted { count_at: number(1), first: number(2), step: number(3) },
        _ => Find::Unknown,
    };
    Some(KeySpec { flags: KeyFlags::named(flags), begin, find, note })
}
