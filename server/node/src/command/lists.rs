//! Lists.

use super::call::{Call, is, range};
use super::fault::{Fault, NO_SUCH_KEY, NOT_POSITIVE, OUT_OF_RANGE, Outcome, SYNTAX, WRONG_TYPE, text};
use super::multi_pop::{MultiPop, PopEnd, blocking_pop};
use super::notify::class;
use crate::keyspace::list::List;
use crate::keyspace::number::parse_i64;
use crate::keyspace::{ByteStr, Value};
use crate::resp::Reply;

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Left,
    Right,
}

impl End {
    fn push(self, list: &mut List, item: &[u8]) {
        match self {
            Self::Left => list.push_front(item),
            Self::Right => list.push_back(item),
        }
    }

    const fn push_event(self) -> &'static str {
        match self {
            Self::Left => "lpush",
            Self::Right => "rpush",
        }
    }

    fn pop(self, list: &mut List) -> Option<ByteStr> {
        match self {
            Self::Left => list.pop_front(),
            Self::Right => list.pop_back(),
        }
    }
}

impl PopEnd for End {
    type Item = ByteStr;
    const WIDTH: usize = 1;

    fn named(arg: &[u8]) -> Result<Self, Fault> {
        match () {
            () if is(arg, "LEFT") => Ok(Self::Left),
            () if is(arg, "RIGHT") => Ok(Self::Right),
            () => Err(SYNTAX),
        }
    }

    const CLASS: u16 = class::LIST;

    fn pop_event(self) -> &'static str {
        match self {
            Self::Left => "lpop",
            Self::Right => "rpop",
        }
    }

    fn pop_name(self) -> &'static [u8] {
        match self {
            Self::Left => b"LPOP",
            Self::Right => b"RPOP",
        }
    }

    fn fits(value: &Value) -> bool {
        matches!(value, Value::List(_))
    }

    fn pop_from(self, call: &mut Call<'_>, key: &[u8], count: usize) -> Result<Vec<ByteStr>, Fault> {
        let items = call.change_list(key, |list| {
            let count = count.min(list.len());
            (0..count).filter_map(|_| self.pop(list)).collect()
        })?;
        Ok(items.unwrap_or_default())
    }

    fn put(reply: &mut Reply<'_>, item: &ByteStr) {
        reply.bulk(item);
    }

    fn put_flat(reply: &mut Reply<'_>, item: &ByteStr) {
        reply.bulk(item);
    }
}

pub(super) fn lpush(call: &mut Call<'_>) -> Outcome {
    push(call, End::Left, false)
}

pub(super) fn rpush(call: &mut Call<'_>) -> Outcome {
    push(call, End::Right, false)
}

pub(super) fn lpushx(call: &mut Call<'_>) -> Outcome {
    push(call, End::Left, true)
}

pub(super) fn rpushx(call: &mut Call<'_>) -> Outcome {
    push(call, End::Right, true)
}

fn push(call: &mut Call<'_>, end: End, only_existing: bool) -> Outcome {
    let key = call.arg(1);
    let items = call.args.from(2);
    let change = |list: &mut List| {
        for item in items.iter() {
            end.push(list, item);
        }
        list.len()
    };
    let len = if only_existing { call.change_list(key, change)? } else { Some(call.make_list(key, change)?) };
    if len.is_some() {
        call.changed(key, class::LIST, end.push_event());
    }
    call.reply.int(len.unwrap_or(0) as i64);
    Ok(())
}

pub(super) fn lpop(call: &mut Call<'_>) -> Outcome {
    pop(call, End::Left)
}

pub(super) fn rpop(call: &mut Call<'_>) -> Outcome {
    pop(call, End::Right)
}

fn pop(call: &mut Call<'_>, end: End) -> Outcome {
    let key = call.arg(1);
    if call.args.len() > 3 {
        return Err(Fault::arity(call.name));
    }
    if call.args.len() == 2 {
        let item = call.change_list(key, |list| end.pop(list))?.flatten();
        if item.is_some() {
            call.shrunk(key, class::LIST, end.pop_event());
        }
        call.reply.optional(item.as_deref());
        return Ok(());
    }
    let count = parse_i64(call.arg(2)).and_then(|count| usize::try_from(count).ok()).ok_or(NOT_POSITIVE)?;
    let popped = call.change_list(key, |list| {
        let count = count.min(list.len());
        (0..count).filter_map(|_| end.pop(list)).collect::<Vec<_>>()
    })?;
    match popped {
        None => call.reply.null_array(),
        Some(items) => {
            if !items.is_empty() {
                call.shrunk(key, class::LIST, end.pop_event());
            }
            call.reply.array(items.len());
            for item in &items {
                call.reply.bulk(item);
            }
        }
    }
    Ok(())
}

pub(super) fn llen(call: &mut Call<'_>) -> Outcome {
    let len = call.list(call.arg(1))?.map_or(0, List::len);
    call.reply.int(len as i64);
    Ok(())
}

/// An index that may count from the end.
fn place(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index + len as i64 } else { index };
    usize::try_from(index).ok().filter(|&index| index < len)
}

pub(super) fn lindex(call: &mut Call<'_>) -> Outcome {
    let found = call.list(call.arg(1))?.is_some();
    let index = if found { call.int(2)? } else { 0 };
    let item = call
        .db
        .keys
        .get(call.arg(1))
        .and_then(|entry| match entry.value() {
            Value::List(list) if found => list.get(place(index, list.len())?),
            _ => None,
        })
        .cloned();
    call.reply.optional(item.as_deref());
    Ok(())
}

pub(super) fn lset(call: &mut Call<'_>) -> Outcome {
    let (key, item) = (call.arg(1), call.arg(3));
    let len = match call.db.find_value(key, call.now) {
        None => return Err(NO_SUCH_KEY),
        Some(Value::List(list)) => list.len(),
        Some(_) => return Err(WRONG_TYPE),
    };
    let index = place(call.int(2)?, len).ok_or(OUT_OF_RANGE)?;
    call.change_list(key, |list| list.set(index, item))?;
    call.changed(key, class::LIST, "lset");
    call.reply.ok();
    Ok(())
}

pub(super) fn lrange(call: &mut Call<'_>) -> Outcome {
    let (start, end) = (call.int(2)?, call.int(3)?);
    let key = call.arg(1);
    match call.db.read(key, call.now) {
        None => call.reply.array(0),
        Some(Value::List(list)) => {
            let (from, to) = range(start, end, list.len());
            call.reply.array(to - from);
            list.iter_from(from).take(to - from).for_each(|item| call.reply.bulk(item));
        }
        Some(_) => return Err(WRONG_TYPE),
    }
    Ok(())
}

pub(super) fn ltrim(call: &mut Call<'_>) -> Outcome {
    let (start, end) = (call.int(2)?, call.int(3)?);
    let key = call.arg(1);
    let trimmed = call.change_list(key, |list| {
        let (from, to) = range(start, end, list.len());
        let trimmed = list.len() - (to - from);
        list.keep(from, to);
        trimmed
    })?;
    match trimmed {
        None => {}
        // It counts as changed for who watches it, and there is nothing to hand on.
        Some(0) => {
            call.db.touch_watchers(key);
            call.db.notify(class::LIST, "ltrim", key);
        }
        Some(_) => call.shrunk(key, class::LIST, "ltrim"),
    }
    call.reply.ok();
    Ok(())
}

pub(super) fn linsert(call: &mut Call<'_>) -> Outcome {
    let (key, pivot, item) = (call.arg(1), call.arg(3), call.arg(4));
    let after = match call.arg(2) {
        word if is(word, "AFTER") => true,
        word if is(word, "BEFORE") => false,
        _ => return Err(SYNTAX),
    };
    let inserted = call.change_list(key, |list| {
        let index = list.iter_from(0).position(|item| item.as_slice() == pivot)?;
        list.insert(index + usize::from(after), item);
        Some(list.len() as i64)
    })?;
    if let Some(Some(_)) = inserted {
        call.changed(key, class::LIST, "linsert");
    }
    call.reply.int(inserted.map_or(0, |len| len.unwrap_or(-1)));
    Ok(())
}

pub(super) fn lrem(call: &mut Call<'_>) -> Outcome {
    let (key, item) = (call.arg(1), call.arg(3));
    let count = call.int(2)?;
    let removed = call.change_list(key, |list| {
        let limit = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
        let len = list.len();
        let mut found: Vec<usize> = if count < 0 {
            let back = list.iter_back().enumerate().filter(|(_, other)| other.as_slice() == item);
            back.map(|(index, _)| len - 1 - index).take(limit).collect()
        } else {
            let front = list.iter_from(0).enumerate().filter(|(_, other)| other.as_slice() == item);
            front.map(|(index, _)| index).take(limit).collect()
        };
        found.sort_unstable();
        found.iter().rev().for_each(|&index| {
            list.remove(index);
        });
        found.len()
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        call.shrunk(key, class::LIST, "lrem");
    }
    call.reply.int(removed as i64);
    Ok(())
}

pub(super) fn lpos(call: &mut Call<'_>) -> Outcome {
    let (key, wanted) = (call.arg(1), call.arg(2));
    let (mut rank, mut count, mut max_len) = (1i64, None, 0usize);
    let mut index = 3;
    while index < call.args.len() {
        let option = call.arg(index);
        if index + 1 >= call.args.len() {
            return Err(SYNTAX);
        }
        if is(option, "RANK") {
            rank = call.int(index + 1)?;
            if rank == 0 {
                return Err(text(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                     negative to start from the end of the list",
                ));
            }
        } else if is(option, "COUNT") {
            let number = parse_i64(call.arg(index + 1)).and_then(|number| usize::try_from(number).ok());
            count = Some(number.ok_or(text("ERR COUNT can't be negative"))?);
        } else if is(option, "MAXLEN") {
            let number = parse_i64(call.arg(index + 1)).and_then(|number| usize::try_from(number).ok());
            max_len = number.ok_or(text("ERR MAXLEN can't be negative"))?;
        } else {
            return Err(SYNTAX);
        }
        index += 2;
    }
    let limit = match count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => count,
    };
    let depth = if max_len == 0 { usize::MAX } else { max_len };
    // The least of all integers has no opposite: to Redis 7.0 it is the first match from the end.
    let skip = if rank == i64::MIN { 0 } else { rank.unsigned_abs() as usize - 1 };
    let found: Vec<usize> = call.list(key)?.map_or(Vec::new(), |list| {
        if rank > 0 {
            let matches =
                list.iter_from(0).take(depth).enumerate().filter(|(_, item)| item.as_slice() == wanted);
            matches.map(|(index, _)| index).skip(skip).take(limit).collect()
        } else {
            let matches =
                list.iter_back().take(depth).enumerate().filter(|(_, item)| item.as_slice() == wanted);
            matches.map(|(index, _)| list.len() - 1 - index).skip(skip).take(limit).collect()
        }
    });
    if count.is_some() {
        call.reply.array(found.len());
        for &index in &found {
            call.reply.int(index as i64);
        }
    } else if let Some(&index) = found.first() {
        call.reply.int(index as i64);
    } else {
        call.reply.null();
    }
    Ok(())
}

pub(super) fn lmove(call: &mut Call<'_>) -> Outcome {
    let (from, to) = (End::named(call.arg(3))?, End::named(call.arg(4))?);
    if !transfer(call, from, to)? {
        call.reply.null();
    }
    Ok(())
}

pub(super) fn rpoplpush(call: &mut Call<'_>) -> Outcome {
    if !transfer(call, End::Right, End::Left)? {
        call.reply.null();
    }
    Ok(())
}

pub(super) fn blmove(call: &mut Call<'_>) -> Outcome {
    let (from, to) = (End::named(call.arg(3))?, End::named(call.arg(4))?);
    let timeout_ms = call.timeout_ms(5)?;
    if transfer(call, from, to)? {
        // Of a command that has waited Redis knows no more how the ends were written.
        let name = |end| if end == End::Left { &b"left"[..] } else { b"right" };
        let given = [call.arg(3), call.arg(4)];
        let [from, to] = if call.is_woken() { [name(from), name(to)] } else { given };
        call.propagate(&[b"LMOVE", call.arg(1), call.arg(2), from, to]);
    } else {
        call.wait_for(1..2, timeout_ms, Reply::null);
    }
    Ok(())
}

pub(super) fn brpoplpush(call: &mut Call<'_>) -> Outcome {
    let timeout_ms = call.timeout_ms(3)?;
    if transfer(call, End::Right, End::Left)? {
        call.propagate(&[b"RPOPLPUSH", call.arg(1), call.arg(2)]);
    } else {
        call.wait_for(1..2, timeout_ms, Reply::null);
    }
    Ok(())
}

/// Moves an element and answers with it; false if there is none.
fn transfer(call: &mut Call<'_>, from: End, to: End) -> Result<bool, Fault> {
    let (source, target) = (call.arg(1), call.arg(2));
    if !call.has_or_waits(source, End::fits)? {
        return Ok(false);
    }
    if !matches!(call.db.find_value(target, call.now), None | Some(Value::List(_))) {
        return Err(WRONG_TYPE);
    }
    let item = if source == target {
        call.change_list(source, |list| {
            let item = from.pop(list)?;
            to.push(list, &item);
            Some(item)
        })?
    } else {
        call.change_list(source, |list| from.pop(list))?
    };
    let Some(item) = item.flatten() else { return Ok(false) };
    if source != target {
        call.make_list(target, |list| to.push(list, &item))?;
    }
    call.changed(target, class::LIST, to.push_event());
    if source == target {
        call.db.notify(class::LIST, from.pop_event(), source);
    } else {
        call.shrunk(source, class::LIST, from.pop_event());
    }
    call.reply.bulk(&item);
    Ok(true)
}

pub(super) fn blpop(call: &mut Call<'_>) -> Outcome {
    blocking_pop(call, End::Left)
}

pub(super) fn brpop(call: &mut Call<'_>) -> Outcome {
    blocking_pop(call, End::Right)
}

pub(super) fn lmpop(call: &mut Call<'_>) -> Outcome {
    MultiPop::<End>::run(call)
}

pub(super) fn blmpop(call: &mut Call<'_>) -> Outcome {
    MultiPop::<End>::run_blocking(call)
}
