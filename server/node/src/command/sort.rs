//! SORT and SORT_RO: the elements of a list, set or sorted set in the order of what they, or other keys, say.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use super::call::{Blocking, Call, is};
use super::db::Db;
use super::fault::{Fault, Outcome, SYNTAX, WRONG_TYPE, text};
use super::notify::class;
use crate::io::Now;
use crate::keyspace::list::List;
use crate::keyspace::{Element, Entry, Value, score};

const NOT_NUMBERS: Fault = text("ERR One or more scores can't be converted into double");

/// What the arguments ask for.
#[derive(Default)]
struct Wish<'a> {
    descending: bool,
    alphabetic: bool,
    skip: i64,
    /// Negative: all.
    count: i64,
    /// Keys that weigh the elements; `None`: the elements themselves.
    by: Option<&'a [u8]>,
    /// BY a key without an asterisk: in the order of the source.
    unsorted: bool,
    /// A script must get the same everywhere too.
    for_script: bool,
    get: Vec<&'a [u8]>,
    store: Option<&'a [u8]>,
}

/// An element, and what it is sorted by.
struct Item<'a> {
    element: Cow<'a, [u8]>,
    number: f64,
    /// What is sorted by alphabetically, if it is not the element and exists.
    text: Option<Cow<'a, [u8]>>,
}

pub(super) fn sort(call: &mut Call<'_>) -> Outcome {
    let wish = wish(call)?;
    if !matches!(
        call.db.read(call.arg(1), call.now),
        None | Some(Value::List(_) | Value::Set(_) | Value::Zset(_))
    ) {
        return Err(WRONG_TYPE);
    }
    if let Some(Value::Zset(_)) = call.db.find_value(call.arg(1), call.now) {
        // As Redis does it, for good.
        call.db.keys.update(call.arg(1), |value, env| match value {
            Value::Zset(zset) if !zset.is_table() => zset.become_table(env),
            _ => {}
        });
    }
    let db = &*call.db;
    let items = sorted_items(db, call.now, call.arg(1), &wish)?;
    let Some(target) = wish.store else {
        call.reply.array(items.len() * wish.get.len().max(1));
        for item in &items {
            if wish.get.is_empty() {
                call.reply.bulk(&item.element);
            }
            for pattern in &wish.get {
                call.reply.optional(fetch(db, call.now, pattern, &item.element).as_deref());
            }
        }
        return Ok(());
    };
    let mut list = List::default();
    for item in &items {
        if wish.get.is_empty() {
            list.push_back(&item.element);
        }
        for pattern in &wish.get {
            list.push_back(&fetch(db, call.now, pattern, &item.element).unwrap_or_default());
        }
    }
    keep(call, target, list);
    Ok(())
}

fn wish<'a>(call: &Call<'a>) -> Result<Wish<'a>, Fault> {
    let for_script = call.blocking == Blocking::InScript;
    let mut wish = Wish { count: -1, for_script, ..Wish::default() };
    let mut index = 2;
    while index < call.args.len() {
        let (word, left) = (call.arg(index), call.args.len() - index - 1);
        index += 1;
        match () {
            () if is(word, "ASC") => wish.descending = false,
            () if is(word, "DESC") => wish.descending = true,
            () if is(word, "ALPHA") => wish.alphabetic = true,
            () if is(word, "LIMIT") && left >= 2 => {
                (wish.skip, wish.count) = (call.int(index)?, call.int(index + 1)?);
                index += 2;
            }
            () if is(word, "STORE") && left >= 1 && call.name == "sort" => {
                wish.store = Some(call.arg(index));
                index += 1;
            }
            () if is(word, "BY") && left >= 1 => {
                let pattern = call.arg(index);
                wish.by = Some(pattern);
                if !pattern.contains(&b'*') {
                    wish.unsorted = true;
                } else if call.in_cluster {
                    return Err(text("ERR BY option of SORT denied in Cluster mode."));
                } else if call.db.refuses_patterns {
                    return Err(text("ERR BY option of SORT denied due to insufficient ACL permissions."));
                }
                index += 1;
            }
            () if is(word, "GET") && left >= 1 => {
                if call.in_cluster {
                    return Err(text("ERR GET option of SORT denied in Cluster mode."));
                }
                if call.db.refuses_patterns {
                    return Err(text("ERR GET option of SORT denied due to insufficient ACL permissions."));
                }
                wish.get.push(call.arg(index));
                index += 1;
            }
            () => return Err(SYNTAX),
        }
    }
    Ok(wish)
}

/// The elements that were asked for, in order.
fn sorted_items<'a>(db: &'a Db, now: Now, key: &[u8], wish: &Wish<'_>) -> Result<Vec<Item<'a>>, Fault> {
    let value = db.keys.get(key).filter(|_| db.is_there(key, now)).map(Entry::value);
    let len = value.map_or(0, Value::elements);
    let skip = (wish.skip.max(0) as usize).min(len);
    let count = usize::try_from(wish.count).unwrap_or(len).min(len - skip);
    // The order of a set says nothing: what is stored must be the same everywhere.
    let needs_order = wish.store.is_some() || wish.for_script;
    let set_to_store = needs_order && matches!(value, Some(Value::Set(_)));
    if wish.unsorted && !set_to_store {
        let elements = elements(value, wish.descending);
        return Ok(elements.skip(skip).take(count).map(Item::unweighed).collect());
    }
    let alphabetic = wish.alphabetic || wish.unsorted;
    let by = wish.by.filter(|_| !wish.unsorted);
    let mut items: Vec<Item<'a>> = elements(value, false).map(Item::unweighed).collect();
    for item in &mut items {
        let weight = match by {
            Some(pattern) => match fetch(db, now, pattern, &item.element) {
                Some(weight) => weight,
                None => continue,
            },
            None if alphabetic => continue,
            None => item.element.clone(),
        };
        if alphabetic {
            item.text = Some(weight);
        } else {
            item.number = score::parse_weight(&weight).ok_or(NOT_NUMBERS)?;
        }
    }
    let collate = |a: &[u8], b: &[u8]| {
        // As strings of C, which end at a zero byte; what is stored is compared whole.
        let ended = |text: &[u8]| text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        if wish.store.is_some() { a.cmp(b) } else { a[..ended(a)].cmp(&b[..ended(b)]) }
    };
    items.sort_by(|a, b| {
        let order = match (alphabetic, by.is_some()) {
            (false, _) => {
                // No NaN is among them, and -0 is 0.
                let order = a.number.partial_cmp(&b.number).unwrap_or(Ordering::Equal);
                order.then_with(|| a.element.cmp(&b.element))
            }
            (true, false) => collate(&a.element, &b.element),
            (true, true) => match (&a.text, &b.text) {
                (Some(a), Some(b)) => collate(a, b),
                (a, b) => a.is_some().cmp(&b.is_some()),
            },
        };
        if wish.descending { order.reverse() } else { order }
    });
    items.drain(..skip);
    items.truncate(count);
    Ok(items)
}

impl<'a> Item<'a> {
    fn unweighed(element: Element<'a>) -> Self {
        let element = match element {
            Element::Bytes(bytes) => Cow::Borrowed(bytes),
            Element::Int(_) => Cow::Owned(element.to_vec()),
        };
        Self { element, number: 0.0, text: None }
    }
}

/// The elements in the order of the value, or the other way round where it has one.
fn elements(value: Option<&Value>, backwards: bool) -> Box<dyn Iterator<Item = Element<'_>> + '_> {
    match value {
        Some(Value::List(list)) if backwards => Box::new(list.iter_back().map(|item| Element::Bytes(item))),
        Some(Value::List(list)) => Box::new(list.iter_from(0).map(|item| Element::Bytes(item))),
        Some(Value::Set(set)) => Box::new(set.iter_from(0)),
        Some(Value::Zset(zset)) if backwards => {
            let last = zset.len().saturating_sub(1);
            Box::new(zset.iter_back_from(last).map(|(member, _)| Element::Bytes(member)))
        }
        Some(Value::Zset(zset)) => Box::new(zset.iter_from(0).map(|(member, _)| Element::Bytes(member))),
        _ => Box::new(std::iter::empty()),
    }
}

/// What the key that a pattern makes of an element holds: `weight_*`, a string, or `object_*->field`, one of a
/// hash; `#` is the element itself.
fn fetch<'a>(db: &'a Db, now: Now, pattern: &[u8], element: &Cow<'a, [u8]>) -> Option<Cow<'a, [u8]>> {
    if pattern == b"#" {
        return Some(element.clone());
    }
    let star = pattern.iter().position(|&byte| byte == b'*')?;
    let (before, after) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = after.windows(2).position(|two| two == b"->").filter(|at| at + 2 < after.len());
    let (after, field) = match arrow {
        Some(at) => (&after[..at], Some(&after[at + 2..])),
        None => (after, None),
    };
    let key = [before, element, after].concat();
    let value = db.keys.get(&key).filter(|_| db.is_there(&key, now))?.value();
    match (field, value) {
        (Some(field), Value::Hash(hash)) => hash.get(db.keys.env(), field).map(Cow::Borrowed),
        (None, value) => match value.as_string()? {
            Element::Bytes(bytes) => Some(Cow::Borrowed(bytes)),
            int @ Element::Int(_) => Some(Cow::Owned(int.to_vec())),
        },
        _ => None,
    }
}

fn keep(call: &mut Call<'_>, target: &[u8], list: List) {
    let len = list.len();
    if len > 0 {
        call.db.keys.set(target, Value::List(Arc::new(list)), None, call.now.wall);
        call.db.changed(target);
        call.db.dirty += len as u64 - 1;
        call.db.notify(class::LIST, "sortstore", target);
    } else if call.db.find(target, call.now).is_some() {
        call.delete(target);
    }
    call.reply.int(len as i64);
}
