//! Strings.

use std::sync::Arc;

use super::call::{Call, is};
use super::fault::{Fault, NOT_FLOAT, NOT_INTEGER, OVERFLOW, Outcome, SYNTAX, TOO_LONG, WRONG_TYPE, text};
use super::long_double::LongDouble;
use super::notify::class;
use crate::io::{Now, WallMs};
use crate::keyspace::number::{IntText, parse_i64};
use crate::keyspace::{ByteStr, Entry, Value};

pub(super) fn get(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    match call.db.read(key, call.now) {
        None => call.reply.null(),
        Some(value) => call.reply.element(value.as_string().ok_or(WRONG_TYPE)?),
    }
    Ok(())
}

/// How a command gives a time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeUnit {
    seconds: bool,
    absolute: bool,
}

pub(super) const EX: TimeUnit = TimeUnit { seconds: true, absolute: false };
pub(super) const PX: TimeUnit = TimeUnit { seconds: false, absolute: false };
pub(super) const EXAT: TimeUnit = TimeUnit { seconds: true, absolute: true };
pub(super) const PXAT: TimeUnit = TimeUnit { seconds: false, absolute: true };

impl TimeUnit {
    /// The unit that an option's name stands for.
    fn named(option: &[u8]) -> Option<Self> {
        [("EX", EX), ("PX", PX), ("EXAT", EXAT), ("PXAT", PXAT)]
            .into_iter()
            .find_map(|(name, unit)| is(option, name).then_some(unit))
    }

    /// The wall time in ms of `value`; `None` if it does not fit.
    pub(super) fn at(self, value: i64, now: Now) -> Option<i64> {
        let ms = if self.seconds { value.checked_mul(1000)? } else { value };
        if self.absolute { Some(ms) } else { ms.checked_add(now.wall.0 as i64) }
    }
}

/// A positive expiry time as SET and its like demand it.
fn expiry(call: &Call<'_>, index: usize, unit: TimeUnit) -> Result<WallMs, Fault> {
    let value = call.int(index)?;
    let at = Some(value).filter(|&value| value > 0).and_then(|value| unit.at(value, call.now));
    at.map(|at| WallMs(at as u64)).ok_or_else(|| Fault::expire_time(call.name))
}

/// What `SET`, `SETEX` and so on do: set, reply, and hand on the absolute form.
fn store(call: &mut Call<'_>, key: &[u8], value: &[u8], expire_at: Option<WallMs>) {
    call.db.keys.set(key, Value::string(value), expire_at, call.now.wall);
    call.changed(key, class::STRING, "set");
    if let Some(at) = expire_at {
        call.db.notify(class::GENERIC, "expire", key);
        let at_text = IntText::new(at.0 as i64);
        call.propagate(&[b"SET", key, value, b"PXAT", &at_text]);
        if at <= call.now.wall && call.db.expiry == super::db::ExpiryMode::Delete {
            call.db.expire(key);
        }
    }
}

pub(super) fn set(call: &mut Call<'_>) -> Outcome {
    let (key, value) = (call.arg(1), call.arg(2));
    let (mut not_exists, mut exists, mut keep, mut give_old) = (false, false, false, false);
    let mut time: Option<(usize, TimeUnit)> = None;
    let mut index = 3;
    while index < call.args.len() {
        let option = call.arg(index);
        if is(option, "NX") && !exists {
            not_exists = true;
        } else if is(option, "XX") && !not_exists {
            exists = true;
        } else if is(option, "GET") {
            give_old = true;
        } else if is(option, "KEEPTTL") && time.is_none() {
            keep = true;
        } else if let Some(unit) = TimeUnit::named(option)
            && time.is_none()
            && !keep
            && index + 1 < call.args.len()
        {
            time = Some((index + 1, unit));
            index += 1;
        } else {
            return Err(SYNTAX);
        }
        index += 1;
    }
    let expire_at = time.map(|(index, unit)| expiry(call, index, unit)).transpose()?;
    let old = if give_old { call.string(key)?.map(crate::keyspace::Element::to_vec) } else { None };
    let found = call.db.find(key, call.now).map(Entry::expire_at);
    if (not_exists && found.is_some()) || (exists && found.is_none()) {
        if give_old {
            call.reply.optional(old.as_deref());
        } else {
            call.reply.null();
        }
        return Ok(());
    }
    if keep {
        call.db.keys.set(key, Value::string(value), found.flatten(), call.now.wall);
        call.changed(key, class::STRING, "set");
    } else {
        store(call, key, value, expire_at);
    }
    if give_old && expire_at.is_none() {
        // To those it is handed on to nobody answers.
        let args = call.args;
        let kept = (0..args.len()).filter(|&index| index < 3 || !is(&args[index], "GET"));
        let kept: Vec<&[u8]> = kept.map(|index| call.arg(index)).collect();
        call.propagate(&kept);
    }
    if give_old {
        call.reply.optional(old.as_deref());
    } else {
        call.reply.ok();
    }
    Ok(())
}

pub(super) fn setnx(call: &mut Call<'_>) -> Outcome {
    let (key, value) = (call.arg(1), call.arg(2));
    let free = call.db.find(key, call.now).is_none();
    if free {
        store(call, key, value, None);
    }
    call.reply.bool(free);
    Ok(())
}

pub(super) fn setex(call: &mut Call<'_>) -> Outcome {
    set_for(call, EX)
}

pub(super) fn psetex(call: &mut Call<'_>) -> Outcome {
    set_for(call, PX)
}

fn set_for(call: &mut Call<'_>, unit: TimeUnit) -> Outcome {
    let at = expiry(call, 2, unit)?;
    store(call, call.arg(1), call.arg(3), Some(at));
    call.reply.ok();
    Ok(())
}

pub(super) fn getset(call: &mut Call<'_>) -> Outcome {
    let (key, value) = (call.arg(1), call.arg(2));
    let old = call.string(key)?.map(crate::keyspace::Element::to_vec);
    call.reply.optional(old.as_deref());
    store(call, key, value, None);
    call.propagate(&[b"SET", key, value]);
    Ok(())
}

pub(super) fn getdel(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let old = call.string(key)?.map(crate::keyspace::Element::to_vec);
    call.reply.optional(old.as_deref());
    if old.is_some() {
        call.delete(key);
        call.propagate(&[b"DEL", key]);
    }
    Ok(())
}

pub(super) fn getex(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let (persist, unit) = match call.args.len() {
        2 => (false, None),
        3 if is(call.arg(2), "PERSIST") => (true, None),
        4 => (false, Some(TimeUnit::named(call.arg(2)).ok_or(SYNTAX)?)),
        _ => return Err(SYNTAX),
    };
    let Some(value) = call.string(key)?.map(crate::keyspace::Element::to_vec) else {
        call.reply.null();
        return Ok(());
    };
    if let Some(unit) = unit {
        let at = expiry(call, 3, unit)?;
        if at <= call.now.wall && call.db.expiry == super::db::ExpiryMode::Delete {
            call.delete(key);
            call.propagate(&[b"DEL", key]);
        } else {
            call.db.keys.set_expiry(key, Some(at));
            call.changed(key, class::GENERIC, "expire");
            call.propagate(&[b"PEXPIREAT", key, &IntText::new(at.0 as i64)]);
        }
    } else if persist && call.db.keys.get(key).is_some_and(|entry| entry.expire_at().is_some()) {
        call.db.keys.set_expiry(key, None);
        call.changed(key, class::GENERIC, "persist");
        call.propagate(&[b"PERSIST", key]);
    }
    call.reply.bulk(&value);
    Ok(())
}

pub(super) fn mget(call: &mut Call<'_>) -> Outcome {
    call.reply.array(call.args.len() - 1);
    for key in call.args.from(1).iter() {
        match call.db.read(key, call.now).and_then(Value::as_string) {
            Some(text) => call.reply.element(text),
            None => call.reply.null(),
        }
    }
    Ok(())
}

pub(super) fn mset(call: &mut Call<'_>) -> Outcome {
    pairs(call)?;
    for index in (1..call.args.len()).step_by(2) {
        store(call, call.arg(index), call.arg(index + 1), None);
    }
    call.reply.ok();
    Ok(())
}

pub(super) fn msetnx(call: &mut Call<'_>) -> Outcome {
    pairs(call)?;
    let free = (1..call.args.len()).step_by(2).all(|index| call.db.find(call.arg(index), call.now).is_none());
    if free {
        for index in (1..call.args.len()).step_by(2) {
            store(call, call.arg(index), call.arg(index + 1), None);
        }
    }
    call.reply.bool(free);
    Ok(())
}

fn pairs(call: &Call<'_>) -> Outcome {
    if call.args.len().is_multiple_of(2) { Err(Fault::arity(call.name)) } else { Ok(()) }
}

pub(super) fn strlen(call: &mut Call<'_>) -> Outcome {
    let len = call.string(call.arg(1))?.map_or(0, |text| text.with(<[u8]>::len));
    call.reply.int(len as i64);
    Ok(())
}

pub(super) fn incr(call: &mut Call<'_>) -> Outcome {
    add(call, 1)
}

pub(super) fn decr(call: &mut Call<'_>) -> Outcome {
    add(call, -1)
}

pub(super) fn incrby(call: &mut Call<'_>) -> Outcome {
    add(call, call.int(2)?)
}

pub(super) fn decrby(call: &mut Call<'_>) -> Outcome {
    let by = call.int(2)?.checked_neg().ok_or(text("ERR decrement would overflow"))?;
    add(call, by)
}

fn add(call: &mut Call<'_>, by: i64) -> Outcome {
    let key = call.arg(1);
    let old = match call.db.find_value(key, call.now) {
        None => 0,
        Some(Value::Int(int)) => *int,
        Some(other) => {
            let text = other.as_string().ok_or(WRONG_TYPE)?;
            text.with(parse_i64).ok_or(NOT_INTEGER)?
        }
    };
    let new = old.checked_add(by).ok_or(OVERFLOW)?;
    call.db.keys.update_or_insert(key, || Value::Int(0), call.now.wall, |value, _| *value = Value::Int(new));
    call.changed(key, class::STRING, "incrby");
    call.reply.int(new);
    Ok(())
}

pub(super) fn incrbyfloat(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let old = match call.db.find_value(key, call.now) {
        None => LongDouble::parse(b"0"),
        Some(value) => value.as_string().ok_or(WRONG_TYPE)?.with(LongDouble::parse),
    };
    let by = LongDouble::parse(call.arg(2));
    let (old, by) = old.zip(by).ok_or(NOT_FLOAT)?;
    let new = old.plus(by).ok_or(text("ERR increment would produce NaN or Infinity"))?.text();
    call.db.keys.update_or_insert(
        key,
        || Value::Int(0),
        call.now.wall,
        |value, _| {
            *value = Value::Str(ByteStr::new(new.as_bytes()));
        },
    );
    call.changed(key, class::STRING, "incrbyfloat");
    call.reply.bulk(new.as_bytes());
    call.propagate(&[b"SET", key, new.as_bytes(), b"KEEPTTL"]);
    Ok(())
}

pub(super) fn append(call: &mut Call<'_>) -> Outcome {
    let (key, tail) = (call.arg(1), call.arg(2));
    let Some(old) = call.db.find_value(key, call.now) else {
        call.db.keys.set(key, Value::string(tail), None, call.now.wall);
        call.changed(key, class::STRING, "append");
        call.reply.int(tail.len() as i64);
        return Ok(());
    };
    let old_len = old.as_string().ok_or(WRONG_TYPE)?.with(<[u8]>::len);
    if old_len + tail.len() > call.max_string_bytes {
        return Err(TOO_LONG);
    }
    call.db.keys.update(key, |value, _| in_place(value).extend_from_slice(tail));
    call.changed(key, class::STRING, "append");
    call.reply.int((old_len + tail.len()) as i64);
    Ok(())
}

pub(super) fn setrange(call: &mut Call<'_>) -> Outcome {
    let (key, patch) = (call.arg(1), call.arg(3));
    let offset = call.int(2)?;
    let Ok(offset) = usize::try_from(offset) else { return Err(text("ERR offset is out of range")) };
    let old_len = match call.db.find_value(key, call.now) {
        None => 0,
        Some(value) => value.as_string().ok_or(WRONG_TYPE)?.with(<[u8]>::len),
    };
    if patch.is_empty() {
        call.reply.int(old_len as i64);
        return Ok(());
    }
    let end = offset.saturating_add(patch.len());
    if end > call.max_string_bytes {
        return Err(TOO_LONG);
    }
    let fresh = || Value::Raw(Arc::default());
    let new_len = call.db.keys.update_or_insert(key, fresh, call.now.wall, |value, _| {
        let bytes = in_place(value);
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(patch);
        bytes.len()
    });
    call.changed(key, class::STRING, "setrange");
    call.reply.int(new_len as i64);
    Ok(())
}

pub(super) fn getrange(call: &mut Call<'_>) -> Outcome {
    let (start, end) = (call.int(2)?, call.int(3)?);
    let bytes = call.string(call.arg(1))?.map_or(Vec::new(), |text| {
        text.with(|bytes| {
            let len = bytes.len() as i64;
            if start < 0 && end < 0 && start > end {
                return Vec::new();
            }
            let end = if end < 0 { (end + len).max(0) } else { end };
            let (from, to) = super::call::range(start, end, bytes.len());
            bytes[from..to].to_vec()
        })
    });
    call.reply.bulk(&bytes);
    Ok(())
}

/// The bytes of a string value, to be changed in place.
pub(super) fn in_place(value: &mut Value) -> &mut Vec<u8> {
    if !matches!(value, Value::Raw(_)) {
        let bytes = value.as_string().map(crate::keyspace::Element::to_vec).unwrap_or_default();
        *value = Value::Raw(Arc::new(bytes));
    }
    match value {
        Value::Raw(bytes) => Arc::make_mut(bytes),
        _ => unreachable!("made raw above"),
    }
}
