//! Writes what COMMAND INFO and COMMAND DOCS tell of a command.

use super::keys::{Begin, Find, KeyFlags, KeySpec};
use super::{CATEGORIES, Catalog};
use crate::resp::Reply;

/// `COMMAND INFO` of one command, its sub-commands in it.
pub fn write_info(reply: &mut Reply<'_>, catalog: &Catalog, index: usize) {
    let entry = &catalog.entries()[index];
    reply.array(10);
    reply.bulk(entry.spec.name.as_bytes());
    reply.int(i64::from(entry.spec.arity));
    reply.set(entry.flags.len());
    for flag in &entry.flags {
        reply.simple(flag);
    }
    for position in entry.positions {
        reply.int(i64::from(position));
    }
    reply.set(entry.categories.count_ones() as usize);
    for (bit, category) in CATEGORIES.iter().enumerate() {
        if entry.categories & 1 << bit != 0 {
            reply.simple(&format!("@{category}"));
        }
    }
    reply.set(entry.tips.len());
    for tip in &entry.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(entry.key_specs.len());
    for spec in &entry.key_specs {
        write_key_spec(reply, spec);
    }
    let subcommands = catalog.subcommands(index);
    if subcommands.is_empty() {
        reply.set(0);
    } else {
        reply.array(subcommands.len());
        for sub in subcommands {
            write_info(reply, catalog, sub);
        }
    }
}

/// What is done to a key, as a set of words.
pub fn write_key_flags(reply: &mut Reply<'_>, flags: KeyFlags) {
    reply.set(flags.names().count());
    for name in flags.names() {
        reply.simple(name);
    }
}

fn write_key_spec(reply: &mut Reply<'_>, spec: &KeySpec) {
    reply.map(3 + usize::from(spec.note.is_some()));
    if let Some(note) = spec.note {
        reply.bulk(b"notes");
        reply.bulk(note.as_bytes());
    }
    reply.bulk(b"flags");
    write_key_flags(reply, spec.flags);
    reply.bulk(b"begin_search");
    match spec.begin {
        Begin::Index(index) => write_search(reply, "index", &[("index", index)]),
        Begin::Keyword { keyword, from } => {
            write_type(reply, "keyword", 2);
            reply.bulk(b"keyword");
            reply.bulk(keyword.as_bytes());
            reply.bulk(b"startfrom");
            reply.int(i64::from(from));
        }
        Begin::Unknown => write_search(reply, "unknown", &[]),
    }
    reply.bulk(b"find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            write_search(reply, "range", &[("lastkey", last), ("keystep", step), ("limit", limit)]);
        }
        Find::Counted { count_at, first, step } => {
            write_search(reply, "keynum", &[("keynumidx", count_at), ("firstkey", first), ("keystep", step)]);
        }
        Find::Unknown => write_search(reply, "unknown", &[]),
    }
}

fn write_search(reply: &mut Reply<'_>, kind: &str, numbers: &[(&str, i32)]) {
    write_type(reply, kind, numbers.len());
    for (name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.int(i64::from(*number));
    }
}

fn write_type(reply: &mut Reply<'_>, kind: &str, fields: usize) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(fields);
}

/// `COMMAND DOCS` of one command: its name and what is to be said of it, its sub-commands in it.
pub fn write_docs(reply: &mut Reply<'_>, catalog: &Catalog, index: usize) {
    let entry = &catalog.entries()[index];
    reply.bulk(entry.spec.name.as_bytes());
    let of = |line: &&'static str| line.split_once('\t').unwrap_or((line, ""));
    let lines: Vec<(&str, &str)> = entry.docs.iter().map(of).collect();
    let all = |word: &str| -> Vec<&str> {
        lines.iter().filter(|(other, _)| *other == word).map(|(_, rest)| *rest).collect()
    };
    let (history, arguments) = (all("history"), all("arg"));
    let texts = lines.iter().filter(|(word, _)| !matches!(*word, "history" | "arg"));
    let subcommands = catalog.subcommands(index);
    let fields = [history.is_empty(), arguments.is_empty(), subcommands.is_empty()];
    reply.map(texts.clone().count() + fields.iter().filter(|empty| !**empty).count());
    for (word, text) in texts {
        reply.bulk(word.as_bytes());
        if *word == "doc_flags" {
            write_words(reply, text);
        } else {
            reply.bulk(text.as_bytes());
        }
    }
    if !history.is_empty() {
        reply.bulk(b"history");
        reply.set(history.len());
        for entry in history {
            let (version, change) = entry.split_once('\t').unwrap_or((entry, ""));
            reply.array(2);
            reply.bulk(version.as_bytes());
            reply.bulk(change.as_bytes());
        }
    }
    if !arguments.is_empty() {
        let arguments: Vec<(usize, &str)> = arguments.into_iter().filter_map(depth_and_fields).collect();
        write_arguments(reply, &arguments, 0);
    }
    if !subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(subcommands.len());
        for sub in subcommands {
            write_docs(reply, catalog, sub);
        }
    }
}

fn depth_and_fields(line: &str) -> Option<(usize, &str)> {
    let (depth, fields) = line.split_once('\t')?;
    Some((depth.parse().ok()?, fields))
}

/// The arguments of this depth, those below in them.
fn write_arguments(reply: &mut Reply<'_>, arguments: &[(usize, &str)], depth: usize) {
    let places: Vec<usize> = (0..arguments.len()).filter(|&at| arguments[at].0 == depth).collect();
    reply.bulk(b"arguments");
    reply.array(places.len());
    for (place, &at) in places.iter().enumerate() {
        let end = places.get(place + 1).copied().unwrap_or(arguments.len());
        let below = &arguments[at + 1..end];
        let fields: Vec<(&str, &str)> =
            arguments[at].1.split('\t').filter_map(|field| field.split_once('=')).collect();
        reply.map(fields.len() + usize::from(!below.is_empty()));
        for (name, value) in fields {
            reply.bulk(name.as_bytes());
            match name {
                "key_spec_index" => reply.int(value.parse().unwrap_or(0)),
                "flags" => write_words(reply, value),
                _ => reply.bulk(value.as_bytes()),
            }
        }
        if !below.is_empty() {
            write_arguments(reply, below, depth + 1);
        }
    }
}

fn write_words(reply: &mut Reply<'_>, words: &str) {
    reply.set(words.split(' ').count());
    for word in words.split(' ') {
        reply.simple(word);
    }
}
