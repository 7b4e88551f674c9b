//! Commands on keys of any type, expiry and iteration.

use std::borrow::Cow;

use super::call::{Call, is};
use super::databases;
use super::db::ExpiryMode;
use super::fault::{Fault, INVALID_CURSOR, NO_SUCH_KEY, Outcome, SAME_OBJECT, SYNTAX, WRONG_TYPE, text};
use super::help::write_help;
use super::notify::class;
use super::strings::{EX, EXAT, PX, PXAT, TimeUnit};
use crate::config::glob_matches;
use crate::io::WallMs;
use crate::keyspace::number::IntText;
use crate::keyspace::zset::Zset;
use crate::keyspace::{Element, Entry, SLOTS, Slot, Usage, Value, score};

/// Bits of a key's hash that a SCAN cursor holds: with the 14 of the slot it stays below 2^31, which redis-cli's
/// import needs.
const SCAN_BITS: u32 = 17;
/// Bits of an element's hash that an SSCAN, HSCAN or ZSCAN cursor holds.
const ELEMENT_BITS: u32 = 30;

pub(super) fn del(call: &mut Call<'_>) -> Outcome {
    let mut removed = 0;
    for key in call.args.from(1).iter() {
        if call.db.find(key, call.now).is_some() {
            call.delete(key);
            removed += 1;
        }
    }
    call.reply.int(removed);
    Ok(())
}

pub(super) fn exists(call: &mut Call<'_>) -> Outcome {
    let found = call.args.from(1).iter().filter(|key| call.db.look(key, call.now).is_some()).count();
    call.reply.int(found as i64);
    Ok(())
}

pub(super) fn key_type(call: &mut Call<'_>) -> Outcome {
    let name = call.db.look(call.arg(1), call.now).map_or("none", |entry| entry.value().type_name());
    call.reply.simple(name);
    Ok(())
}

pub(super) fn expire(call: &mut Call<'_>) -> Outcome {
    expire_in(call, EX)
}

pub(super) fn pexpire(call: &mut Call<'_>) -> Outcome {
    expire_in(call, PX)
}

pub(super) fn expireat(call: &mut Call<'_>) -> Outcome {
    expire_in(call, EXAT)
}

pub(super) fn pexpireat(call: &mut Call<'_>) -> Outcome {
    expire_in(call, PXAT)
}

fn expire_in(call: &mut Call<'_>, unit: TimeUnit) -> Outcome {
    let key = call.arg(1);
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in call.args.from(3).iter() {
        match () {
            () if is(option, "NX") => nx = true,
            () if is(option, "XX") => xx = true,
            () if is(option, "GT") => gt = true,
            () if is(option, "LT") => lt = true,
            () => {
                return Err(Fault::new(format!(
                    "ERR Unsupported option {}",
                    super::fault::shown(option, 128)
                )));
            }
        }
    }
    if nx && (xx || gt || lt) {
        return Err(text("ERR NX and XX, GT or LT options at the same time are not compatible"));
    }
    if gt && lt {
        return Err(text("ERR GT and LT options at the same time are not compatible"));
    }
    let at = unit.at(call.int(2)?, call.now).ok_or_else(|| Fault::expire_time(call.name))?;
    let Some(current) = call.db.find(key, call.now).map(Entry::expire_at) else {
        call.reply.int(0);
        return Ok(());
    };
    let refused = match current {
        Some(current) => nx || (gt && at <= current.0 as i64) || (lt && at >= current.0 as i64),
        None => xx || gt,
    };
    if refused {
        call.reply.int(0);
        return Ok(());
    }
    if at <= call.now.wall.0 as i64 && call.db.expiry == ExpiryMode::Delete {
        call.delete(key);
        call.propagate(&[b"DEL", key]);
    } else {
        call.db.keys.set_expiry(key, Some(WallMs(at.max(0) as u64)));
        call.changed(key, class::GENERIC, "expire");
        call.propagate(&[b"PEXPIREAT", key, &IntText::new(at)]);
    }
    call.reply.int(1);
    Ok(())
}

pub(super) fn ttl(call: &mut Call<'_>) -> Outcome {
    time_left(call, |left, _| left.wrapping_add(500) / 1000)
}

pub(super) fn pttl(call: &mut Call<'_>) -> Outcome {
    time_left(call, |left, _| left)
}

pub(super) fn expiretime(call: &mut Call<'_>) -> Outcome {
    time_left(call, |_, at| at.wrapping_add(500) / 1000)
}

pub(super) fn pexpiretime(call: &mut Call<'_>) -> Outcome {
    time_left(call, |_, at| at)
}

fn time_left(call: &mut Call<'_>, shown: impl Fn(i64, i64) -> i64) -> Outcome {
    let reply = match call.db.look(call.arg(1), call.now).map(Entry::expire_at) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => shown((at.0 as i64 - call.now.wall.0 as i64).max(0), at.0 as i64),
    };
    call.reply.int(reply);
    Ok(())
}

pub(super) fn persist(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let had = call.db.find(key, call.now).is_some_and(|entry| entry.expire_at().is_some());
    if had {
        call.db.keys.set_expiry(key, None);
        call.changed(key, class::GENERIC, "persist");
    }
    call.reply.bool(had);
    Ok(())
}

pub(super) fn rename(call: &mut Call<'_>) -> Outcome {
    rename_to(call, false)
}

pub(super) fn renamenx(call: &mut Call<'_>) -> Outcome {
    rename_to(call, true)
}

fn rename_to(call: &mut Call<'_>, only_free: bool) -> Outcome {
    let (from, to) = (call.arg(1), call.arg(2));
    let expire_at = call.db.find(from, call.now).ok_or(NO_SUCH_KEY)?.expire_at();
    let free = call.db.find(to, call.now).is_none();
    if from != to && (free || !only_free) {
        if let Some(value) = call.db.keys.take(from) {
            // What was there is gone before: the key is a new one.
            call.db.keys.remove(to);
            call.db.keys.set(to, value, expire_at, call.now.wall);
        }
        call.changed(from, class::GENERIC, "rename_from");
        call.changed(to, class::GENERIC, "rename_to");
    }
    if only_free {
        call.reply.bool(from != to && free);
    } else {
        call.reply.ok();
    }
    Ok(())
}

pub(super) fn copy(call: &mut Call<'_>) -> Outcome {
    let (from, to, now) = (call.arg(1), call.arg(2), call.now);
    let mut replace = false;
    let mut target = call.db.selected();
    let mut index = 3;
    while index < call.args.len() {
        if is(call.arg(index), "REPLACE") {
            replace = true;
        } else if is(call.arg(index), "DB") && index + 1 < call.args.len() {
            index += 1;
            target = databases::destination(call, index)?;
        } else {
            return Err(SYNTAX);
        }
        index += 1;
    }
    if call.db.is_cluster && target != 0 {
        return Err(text("ERR Copying to another database is not allowed in cluster mode"));
    }
    if from == to && target == call.db.selected() {
        return Err(SAME_OBJECT);
    }
    let source = call.db.find(from, now).map(|entry| (entry.value().clone(), entry.expire_at()));
    let done = source.is_some_and(|(value, expire_at)| {
        call.db.within(target, |db| {
            if db.find(to, now).is_some() && !replace {
                return false;
            }
            db.keys.remove(to);
            // Copy on write: the two share their pages until one is changed.
            db.keys.set(to, value, expire_at, now.wall);
            db.changed(to);
            db.notify(class::GENERIC, "copy_to", to);
            true
        })
    });
    call.reply.bool(done);
    Ok(())
}

pub(super) fn touch(call: &mut Call<'_>) -> Outcome {
    let found = call.args.from(1).iter().filter(|key| call.db.read(key, call.now).is_some()).count();
    call.reply.int(found as i64);
    Ok(())
}

pub(super) fn randomkey(call: &mut Call<'_>) -> Outcome {
    for _ in 0..100 {
        if call.db.keys.is_empty() {
            break;
        }
        let rank = call.db.random.below(call.db.keys.len() as u64) as usize;
        let Some(key) = call.db.keys.nth(rank).map(|entry| entry.key().to_vec()) else { break };
        if call.db.is_there(&key, call.now) {
            call.reply.bulk(&key);
            return Ok(());
        }
        call.db.find(&key, call.now);
    }
    call.reply.null();
    Ok(())
}

pub(super) fn keys(call: &mut Call<'_>) -> Outcome {
    let pattern = call.arg(1);
    let mut found: Vec<&[u8]> = Vec::new();
    let db = &*call.db;
    for slot in 0..SLOTS {
        for entry in db.keys.slot_iter_from(Slot(slot as u16), 0) {
            if glob_matches(pattern, entry.key(), false) && db.is_there(entry.key(), call.now) {
                found.push(entry.key());
            }
        }
    }
    call.reply.array(found.len());
    for key in found {
        call.reply.bulk(key);
    }
    Ok(())
}

/// Options of the SCAN family.
struct Scan<'a> {
    cursor: u64,
    count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

fn scan_options<'a>(call: &Call<'a>, cursor_at: usize, with_type: bool) -> Result<Scan<'a>, Fault> {
    let mut scan = Scan { cursor: cursor(call.arg(cursor_at))?, count: 10, pattern: None, kind: None };
    let mut index = cursor_at + 1;
    while index < call.args.len() {
        let option = call.arg(index);
        if index + 1 >= call.args.len() {
            return Err(SYNTAX);
        }
        if is(option, "COUNT") {
            scan.count =
                usize::try_from(call.int(index + 1)?).ok().filter(|&count| count > 0).ok_or(SYNTAX)?;
        } else if is(option, "MATCH") {
            scan.pattern = Some(call.arg(index + 1));
        } else if is(option, "TYPE") && with_type {
            scan.kind = Some(call.arg(index + 1));
        } else {
            return Err(SYNTAX);
        }
        index += 2;
    }
    Ok(scan)
}

/// As strtoul reads it, which Redis asks: nothing is 0, and `-1` the greatest number.
fn cursor(word: &[u8]) -> Result<u64, Fault> {
    let (negative, digits) = match word {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        _ => (false, word),
    };
    if digits.is_empty() && word.is_empty() {
        return Ok(0);
    }
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number =
        std::str::from_utf8(digits).ok().filter(|_| all_digits).and_then(|text| text.parse::<u64>().ok());
    number.map(|number| if negative { number.wrapping_neg() } else { number }).ok_or(INVALID_CURSOR)
}

/// A key that is not there is scanned to its end at once, whatever the options.
fn nothing_to_scan(call: &mut Call<'_>, type_name: &str) -> Result<bool, Fault> {
    cursor(call.arg(2))?;
    match call.db.read(call.arg(1), call.now) {
        None => {
            reply_elements(call, 0, &[]);
            Ok(true)
        }
        Some(value) if value.type_name() == type_name => Ok(false),
        Some(_) => Err(WRONG_TYPE),
    }
}

/// The cursor is (slot, first bits of the hash) of the next key: hash order is stable, so no key that stays is
/// missed or given twice, whatever else is written.
pub(super) fn scan(call: &mut Call<'_>) -> Outcome {
    let scan = scan_options(call, 1, true)?;
    let mut slot = (scan.cursor >> SCAN_BITS) as usize;
    let mut prefix = (scan.cursor & ((1 << SCAN_BITS) - 1)) as u32;
    let mut seen = 0;
    let mut next = 0;
    let mut found: Vec<&[u8]> = Vec::new();
    let mut expired: Vec<Vec<u8>> = Vec::new();
    let db = &*call.db;
    // Empty slots cost little, so they do not count; but a scan of an empty node must not take a SCAN per slot.
    'slots: while slot < SLOTS {
        let mut last = None;
        for entry in db.keys.slot_iter_from_hash(Slot(slot as u16), prefix << (32 - SCAN_BITS)) {
            let here = entry.hash() >> (32 - SCAN_BITS);
            if seen >= scan.count && last != Some(here) {
                next = (slot as u64) << SCAN_BITS | u64::from(here);
                break 'slots;
            }
            last = Some(here);
            seen += 1;
            let wanted = scan.pattern.is_none_or(|pattern| glob_matches(pattern, entry.key(), false))
                && scan.kind.is_none_or(|kind| is(kind, entry.value().type_name()));
            if wanted && db.is_there(entry.key(), call.now) {
                found.push(entry.key());
            } else if wanted {
                expired.push(entry.key().to_vec());
            }
        }
        slot += 1;
        prefix = 0;
        if seen >= scan.count && slot < SLOTS {
            next = (slot as u64) << SCAN_BITS;
            break;
        }
    }
    call.reply.array(2);
    call.reply.bulk(next.to_string().as_bytes());
    call.reply.array(found.len());
    for key in found {
        call.reply.bulk(key);
    }
    for key in expired {
        call.db.find(&key, call.now);
    }
    Ok(())
}

pub(super) fn sscan(call: &mut Call<'_>) -> Outcome {
    if nothing_to_scan(call, "set")? {
        return Ok(());
    }
    let scan = scan_options(call, 2, false)?;
    let set = match call.db.read(call.arg(1), call.now) {
        None => None,
        Some(Value::Set(set)) => Some(set),
        Some(_) => return Err(WRONG_TYPE),
    };
    let items = set.into_iter().flat_map(|set| set.iter_from_hash(element_hash(&scan)));
    let items = items.map(|(hash, member)| (hash, member, None));
    let (next, found) = scan_elements(&scan, items);
    reply_elements(call, next, &found);
    Ok(())
}

pub(super) fn hscan(call: &mut Call<'_>) -> Outcome {
    if nothing_to_scan(call, "hash")? {
        return Ok(());
    }
    let scan = scan_options(call, 2, false)?;
    let hash = match call.db.read(call.arg(1), call.now) {
        None => None,
        Some(Value::Hash(hash)) => Some(hash),
        Some(_) => return Err(WRONG_TYPE),
    };
    let items = hash.into_iter().flat_map(|hash| hash.iter_from_hash(element_hash(&scan)));
    let items = items.map(|(hash, field, value)| (hash, Element::Bytes(field), Some(Cow::Borrowed(value))));
    let (next, found) = scan_elements(&scan, items);
    reply_elements(call, next, &found);
    Ok(())
}

pub(super) fn zscan(call: &mut Call<'_>) -> Outcome {
    if nothing_to_scan(call, "zset")? {
        return Ok(());
    }
    let scan = scan_options(call, 2, false)?;
    let zset = call.zset(call.arg(1))?;
    // Redis shows what each encoding holds: texts, or doubles.
    let text = match zset {
        Some(Zset::Packed(_)) => score::text_packed,
        _ => score::text_17g,
    };
    let items = zset.into_iter().flat_map(|zset| zset.iter_from_hash(element_hash(&scan)));
    let items = items.map(|(hash, member, score)| {
        (hash, Element::Bytes(member), Some(Cow::Owned(text(score).into_bytes())))
    });
    let (next, found) = scan_elements(&scan, items);
    reply_elements(call, next, &found);
    Ok(())
}

fn element_hash(scan: &Scan<'_>) -> u32 {
    (scan.cursor as u32) << (32 - ELEMENT_BITS)
}

fn scan_elements<'a>(
    scan: &Scan<'_>,
    items: impl Iterator<Item = (u32, Element<'a>, Option<Cow<'a, [u8]>>)>,
) -> (u64, Vec<Vec<u8>>) {
    let mut found = Vec::new();
    let mut last = None;
    for (seen, (hash, name, value)) in items.enumerate() {
        let here = hash >> (32 - ELEMENT_BITS);
        if seen >= scan.count && last != Some(here) {
            return (u64::from(here), found);
        }
        last = Some(here);
        let name = name.to_vec();
        if scan.pattern.is_none_or(|pattern| glob_matches(pattern, &name, false)) {
            found.push(name);
            found.extend(value.map(Cow::into_owned));
        }
    }
    (0, found)
}

fn reply_elements(call: &mut Call<'_>, next: u64, found: &[Vec<u8>]) {
    call.reply.array(2);
    call.reply.bulk(next.to_string().as_bytes());
    call.reply.array(found.len());
    for item in found {
        call.reply.bulk(item);
    }
}

pub(super) fn object(call: &mut Call<'_>) -> Outcome {
    let verb = call.arg(1);
    if is(verb, "HELP") && call.args.len() == 2 {
        let lines = [
            "ENCODING <key>",
            "    Return the kind of internal representation used in order to store the value",
            "    associated with a <key>.",
            "FREQ <key>",
            "    Return the access frequency index of the <key>. The returned integer is",
            "    proportional to the logarithm of the recent access frequency of the key.",
            "IDLETIME <key>",
            "    Return the idle time of the <key>, that is the approximated number of",
            "    seconds elapsed since the last access to the key.",
            "REFCOUNT <key>",
            "    Return the number of references of the value associated with the specified",
            "    <key>.",
        ];
        write_help(&mut call.reply, "OBJECT", &lines);
        return Ok(());
    }
    let known = ["ENCODING", "IDLETIME", "REFCOUNT", "FREQ"].iter().find(|known| is(verb, known));
    let Some(known) = known else { return Err(Fault::subcommand(verb, "OBJECT")) };
    if call.args.len() != 3 {
        return Err(Fault::arity(&format!("object|{}", known.to_lowercase())));
    }
    let (usage, now, shares) = (call.db.usage(), call.now.wall, call.db.shares_integers);
    let Some(entry) = call.db.inspect(call.arg(2), call.now) else {
        call.reply.null();
        return Ok(());
    };
    match *known {
        "ENCODING" => call.reply.bulk(entry.value().encoding().as_bytes()),
        "IDLETIME" if usage == Usage::Recency => {
            call.reply.int(Usage::idle_s(entry.usage_bits(), now) as i64);
        }
        "IDLETIME" => {
            return Err(text(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
                 between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        "REFCOUNT" => call.reply.int(if shares { entry.value().references() } else { 1 }),
        _ if usage != Usage::Recency => call.reply.int(i64::from(usage.frequency(entry.usage_bits(), now))),
        _ => {
            return Err(text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                 switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
    }
    Ok(())
}

/// The version of the server; the drawings of other versions are not drawn.
pub(super) fn lolwut(call: &mut Call<'_>) -> Outcome {
    if call.args.len() >= 3 && is(call.arg(1), "VERSION") {
        call.int(2)?;
    }
    call.reply.verbatim("Redis ver. 7.0.15\n");
    Ok(())
}
