//! Hashes.

use super::call::Call;
use super::fault::{Fault, NOT_FLOAT, OVERFLOW, Outcome, WRONG_TYPE, text};
use super::long_double::LongDouble;
use super::notify::class;
use super::sets::{random_count, random_ranks};
use crate::keyspace::hashtable::Hash;
use crate::keyspace::number::{IntText, parse_i64};
use crate::keyspace::{Entry, Value};
use crate::resp::Protocol;

pub(super) fn hset(call: &mut Call<'_>) -> Outcome {
    let added = put_pairs(call)?;
    call.reply.int(added as i64);
    Ok(())
}

pub(super) fn hmset(call: &mut Call<'_>) -> Outcome {
    put_pairs(call)?;
    call.reply.ok();
    Ok(())
}

fn put_pairs(call: &mut Call<'_>) -> Result<usize, Fault> {
    if !call.args.len().is_multiple_of(2) {
        return Err(Fault::arity(call.name));
    }
    let (key, args) = (call.arg(1), call.args);
    let added = call.make_hash(key, |hash, env| {
        (2..args.len()).step_by(2).filter(|&index| hash.set(env, &args[index], &args[index + 1])).count()
    })?;
    call.changed(key, class::HASH, "hset");
    Ok(added)
}

pub(super) fn hsetnx(call: &mut Call<'_>) -> Outcome {
    let (key, field, value) = (call.arg(1), call.arg(2), call.arg(3));
    let added =
        call.make_hash(key, |hash, env| hash.get(env, field).is_none() && hash.set(env, field, value))?;
    if added {
        call.changed(key, class::HASH, "hset");
    }
    call.reply.bool(added);
    Ok(())
}

pub(super) fn hget(call: &mut Call<'_>) -> Outcome {
    let (env, field) = (call.db.keys.env(), call.arg(2));
    match call.db.read(call.arg(1), call.now) {
        None => call.reply.null(),
        Some(Value::Hash(hash)) => call.reply.optional(hash.get(env, field)),
        Some(_) => return Err(WRONG_TYPE),
    }
    Ok(())
}

pub(super) fn hmget(call: &mut Call<'_>) -> Outcome {
    let (env, fields) = (call.db.keys.env(), call.args.from(2));
    let hash = match call.db.read(call.arg(1), call.now) {
        None => None,
        Some(Value::Hash(hash)) => Some(hash),
        Some(_) => return Err(WRONG_TYPE),
    };
    call.reply.array(fields.len());
    for field in fields.iter() {
        call.reply.optional(hash.and_then(|hash| hash.get(env, field)));
    }
    Ok(())
}

pub(super) fn hdel(call: &mut Call<'_>) -> Outcome {
    let (key, fields) = (call.arg(1), call.args.from(2));
    let removed =
        call.change_hash(key, |hash, env| fields.iter().filter(|field| hash.remove(env, field)).count())?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        call.shrunk(key, class::HASH, "hdel");
    }
    call.reply.int(removed as i64);
    Ok(())
}

pub(super) fn hlen(call: &mut Call<'_>) -> Outcome {
    let len = call.hash(call.arg(1))?.map_or(0, Hash::len);
    call.reply.int(len as i64);
    Ok(())
}

pub(super) fn hstrlen(call: &mut Call<'_>) -> Outcome {
    let (env, field) = (call.db.keys.env(), call.arg(2));
    let len = call.hash(call.arg(1))?.and_then(|hash| hash.get(env, field)).map_or(0, <[u8]>::len);
    call.reply.int(len as i64);
    Ok(())
}

pub(super) fn hexists(call: &mut Call<'_>) -> Outcome {
    let (env, field) = (call.db.keys.env(), call.arg(2));
    let found = call.hash(call.arg(1))?.is_some_and(|hash| hash.get(env, field).is_some());
    call.reply.bool(found);
    Ok(())
}

pub(super) fn hgetall(call: &mut Call<'_>) -> Outcome {
    match call.db.read(call.arg(1), call.now) {
        None => call.reply.map(0),
        Some(Value::Hash(hash)) => {
            call.reply.map(hash.len());
            for (field, value) in hash.iter_from(0) {
                call.reply.bulk(field);
                call.reply.bulk(value);
            }
        }
        Some(_) => return Err(WRONG_TYPE),
    }
    Ok(())
}

pub(super) fn hkeys(call: &mut Call<'_>) -> Outcome {
    one_side(call, true)
}

pub(super) fn hvals(call: &mut Call<'_>) -> Outcome {
    one_side(call, false)
}

fn one_side(call: &mut Call<'_>, fields: bool) -> Outcome {
    match call.db.read(call.arg(1), call.now) {
        None => call.reply.array(0),
        Some(Value::Hash(hash)) => {
            call.reply.array(hash.len());
            for (field, value) in hash.iter_from(0) {
                call.reply.bulk(if fields { field } else { value });
            }
        }
        Some(_) => return Err(WRONG_TYPE),
    }
    Ok(())
}

pub(super) fn hincrby(call: &mut Call<'_>) -> Outcome {
    let (key, field) = (call.arg(1), call.arg(2));
    let by = call.int(3)?;
    let env = call.db.keys.env();
    let old = match call.db.find_value(key, call.now) {
        None => 0,
        Some(Value::Hash(hash)) => match hash.get(env, field) {
            None => 0,
            Some(text_) => parse_i64(text_).ok_or(text("ERR hash value is not an integer"))?,
        },
        Some(_) => return Err(WRONG_TYPE),
    };
    let new = old.checked_add(by).ok_or(OVERFLOW)?;
    call.make_hash(key, |hash, env| hash.set(env, field, &IntText::new(new)))?;
    call.changed(key, class::HASH, "hincrby");
    call.reply.int(new);
    Ok(())
}

pub(super) fn hincrbyfloat(call: &mut Call<'_>) -> Outcome {
    let (key, field) = (call.arg(1), call.arg(2));
    let env = call.db.keys.env();
    let by = LongDouble::parse(call.arg(3)).ok_or(NOT_FLOAT)?;
    if !by.is_finite() {
        return Err(text("ERR value is NaN or Infinity"));
    }
    let old = match call.db.find_value(key, call.now) {
        None => LongDouble::parse(b"0"),
        Some(Value::Hash(hash)) => LongDouble::parse(hash.get(env, field).unwrap_or(b"0")),
        Some(_) => return Err(WRONG_TYPE),
    };
    let old = old.ok_or(text("ERR hash value is not a float"))?;
    let new = old.plus(by).ok_or(text("ERR increment would produce NaN or Infinity"))?.text();
    call.make_hash(key, |hash, env| hash.set(env, field, new.as_bytes()))?;
    call.changed(key, class::HASH, "hincrbyfloat");
    call.reply.bulk(new.as_bytes());
    call.propagate(&[b"HSET", key, field, new.as_bytes()]);
    Ok(())
}

pub(super) fn hrandfield(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let (count, with_values) = random_count(call, "WITHVALUES")?;
    let len = call.hash(key)?.map_or(0, Hash::len);
    let ranks = random_ranks(call, len, count.unwrap_or(1))?;
    let hash = match call.db.keys.get(key).map(Entry::value) {
        Some(Value::Hash(hash)) if len > 0 => Some(hash),
        _ => None,
    };
    let chosen: Vec<(Vec<u8>, Vec<u8>)> = ranks
        .iter()
        .filter_map(|&rank| hash?.nth(rank).map(|(field, value)| (field.to_vec(), value.to_vec())))
        .collect();
    if count.is_none() {
        call.reply.optional(chosen.first().map(|(field, _)| field.as_slice()));
        return Ok(());
    }
    let nested = with_values && call.reply.protocol() == Protocol::Resp3;
    call.reply.array(if with_values && !nested { chosen.len() * 2 } else { chosen.len() });
    for (field, value) in &chosen {
        if nested {
            call.reply.array(2);
        }
        call.reply.bulk(field);
        if with_values {
            call.reply.bulk(value);
        }
    }
    Ok(())
}
