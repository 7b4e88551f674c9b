//! The compatibility suite: the same requests to redis-server 7.0 and to our node, replies compared byte for byte in RESP2
//! and RESP3, then the data. Requests are generated (`../grammar`) or written (`scripts/`); what makes the servers
//! differ is made short and printed as a script.
//!
//! `SLOTSTORM_COMPAT_SEEDS=1..200` runs other seeds, `SLOTSTORM_COMPAT_FAMILY=lists` one family,
//! `SLOTSTORM_COMPAT_REQUESTS` says how many requests a seed has.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a test of processes

#[path = "../grammar/mod.rs"]
mod grammar;
mod judge;
mod session;
#[path = "../side_by_side/mod.rs"]
mod side_by_side;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use grammar::{Form, Generator, Keys, Request, forms, quoted, unquoted};
use session::{Difference, Pair};

/// A form that made so many differences is left alone, so that others are seen.
const ENOUGH: usize = 2;
/// Different differences that are made short and told.
const MOST_TOLD: usize = 40;
const SPOILED_PERCENT: u64 = 12;

fn seeds() -> std::ops::RangeInclusive<u64> {
    let text = std::env::var("SLOTSTORM_COMPAT_SEEDS").unwrap_or_else(|_| "1..40".to_owned());
    let (first, last) = text.split_once("..").unwrap_or((&text, &text));
    let number =
        |text: &str| text.parse().unwrap_or_else(|_| panic!("SLOTSTORM_COMPAT_SEEDS: {text} is no number"));
    number(first)..=number(last)
}

fn requests_a_seed() -> usize {
    std::env::var("SLOTSTORM_COMPAT_REQUESTS")
        .map_or(250, |text| text.parse().expect("SLOTSTORM_COMPAT_REQUESTS"))
}

/// What a seed's session draws from: all families, or one with a few others among it.
fn forms_of(seed: u64, all: &[Form], families: &[&str]) -> Vec<Form> {
    let wanted = std::env::var("SLOTSTORM_COMPAT_FAMILY").ok();
    let family = match &wanted {
        Some(family) => Some(&family[..]),
        None if seed.is_multiple_of(3) => None,
        None => Some(families[(seed as usize * 2 / 3) % families.len()]),
    };
    let Some(family) = family else { return all.to_vec() };
    let mut forms: Vec<Form> = Vec::new();
    let own: Vec<&Form> = all.iter().filter(|form| form.family == family).collect();
    assert!(wanted.is_none() || !own.is_empty(), "no family {family}");
    let others = all.iter().filter(|form| matches!(form.family, "generic" | "transactions"));
    let others: Vec<&Form> = others.collect();
    // About one in four is another's.
    let times = (3 * others.len()).div_ceil(own.len().max(1)).max(1);
    for _ in 0..times {
        forms.extend(own.iter().copied().cloned());
    }
    forms.extend(others.into_iter().cloned());
    forms
}

#[test]
fn generated_requests_get_the_same_replies() {
    let pair = Pair::start(60);
    let all: Vec<Form> = forms().into_iter().filter(|form| !form.family.starts_with("soak")).collect();
    let missing: BTreeSet<&str> =
        grammar::commands(&all).into_iter().filter(|name| !pair.has(name)).collect();
    let here: Vec<Form> = all.iter().filter(|form| pair.has(form.command)).cloned().collect();
    if !missing.is_empty() {
        let skipped = all.len() - here.len();
        println!(
            "skipped: {skipped} of {} forms, of commands that our COMMAND LIST lacks: {missing:?}",
            all.len()
        );
    }
    let families: Vec<&str> =
        here.iter().map(|form| form.family).collect::<BTreeSet<_>>().into_iter().collect();
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
    let mut asked = 0;
    for seed in seeds() {
        let protocol = if seed % 2 == 0 { 2 } else { 3 };
        let mut forms = forms_of(seed, &here, &families);
        forms.retain(|form| faults.get(form.text).is_none_or(|count| *count < ENOUGH));
        let mut generator = Generator::new(seed, forms, Keys::Plain, SPOILED_PERCENT);
        let drawn: Vec<(Request, Form)> = (0..requests_a_seed()).map(|_| generator.draw()).collect();
        let requests: Vec<Request> = drawn.iter().map(|(request, _)| request.clone()).collect();
        let Some(found) = pair.run(&requests, protocol) else {
            asked += requests.len();
            continue;
        };
        asked += found.at + 1;
        *faults.entry(drawn[found.at].1.text).or_default() += 1;
        if !told.contains_key(&found.name()) && told.len() < MOST_TOLD {
            let (short, difference) = pair.shrink(&requests, protocol, &found);
            let text = told_as(seed, protocol, &short, &difference);
            println!("{text}");
            told.insert(found.name(), text);
        }
    }
    println!(
        "{asked} requests were asked; left alone in the end: {:?}",
        faults.iter().filter(|(_, n)| **n >= ENOUGH)
    );
    assert!(told.is_empty(), "{} differences:\n{}", told.len(), told.values().cloned().collect::<String>());
}

fn told_as(seed: u64, protocol: u8, requests: &[Request], difference: &Difference) -> String {
    let mut text = format!("\n# seed {seed}, RESP{protocol}\n");
    for request in requests {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", quoted(request));
    }
    let Difference { asked, redis, ours, .. } = difference;
    let _ = writeln!(text, "# differs: {asked}\n#   redis {redis:?}\n#   ours  {ours:?}");
    text
}

#[test]
fn written_requests_get_the_same_replies() {
    let pair = Pair::start(64);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compat/scripts");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let (mut found, mut skipped, mut asked) = (String::new(), BTreeSet::new(), 0);
    for (file, protocol) in files.iter().flat_map(|file| [(file, 2), (file, 3)]) {
        let text = std::fs::read_to_string(file).unwrap();
        let mut requests = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let request = unquoted(line);
            let command = String::from_utf8_lossy(&request[0]).to_ascii_uppercase();
            // `NOSUCH`: a command that nobody has.
            if pair.has(&command) || command.starts_with("NOSUCH") {
                requests.push(request);
            } else {
                skipped.insert(command);
            }
        }
        asked += requests.len();
        // All of a file's differences: each is taken out, and the rest asked again.
        for _ in 0..8 {
            let Some(difference) = pair.run(&requests, protocol) else { break };
            let name = file.file_name().unwrap().to_string_lossy();
            let Difference { at, asked, redis, ours } = difference;
            let _ = write!(
                found,
                "\n{name} RESP{protocol}: {asked}\n  behind {}\n  redis {redis:?}\n  ours  {ours:?}",
                quoted(&requests[at])
            );
            requests.remove(at);
        }
    }
    println!("{asked} written requests; skipped, because our COMMAND LIST lacks them: {skipped:?}");
    assert!(found.is_empty(), "{found}");
}
