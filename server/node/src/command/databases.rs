//! Commands on databases: MOVE, SWAPDB, FLUSHDB, FLUSHALL, DBSIZE. SELECT is the node's: it is about the client.

use super::call::{Call, is};
use super::fault::{DB_OUT_OF_RANGE, Fault, NOT_INTEGER, Outcome, SAME_OBJECT, SYNTAX, text};
use super::notify::class;
use crate::keyspace::number::parse_i64;

/// The argument as the number of a database that there is.
fn database(call: &Call<'_>, index: usize) -> Result<u32, Fault> {
    let number = u32::try_from(int32(call.arg(index))?).map_err(|_| DB_OUT_OF_RANGE)?;
    if number < call.db.databases() { Ok(number) } else { Err(DB_OUT_OF_RANGE) }
}

/// A number as Redis' `int`s are.
pub fn int32(arg: &[u8]) -> Result<i32, Fault> {
    let wrong = text("ERR value is out of range, value must between -2147483648 and 2147483647");
    i32::try_from(parse_i64(arg).ok_or(NOT_INTEGER)?).map_err(|_| wrong)
}

/// The database that an option `DB n` names.
pub(super) fn destination(call: &Call<'_>, index: usize) -> Result<u32, Fault> {
    database(call, index)
}

/// `MOVE key db`
pub(super) fn move_key(call: &mut Call<'_>) -> Outcome {
    if call.db.is_cluster {
        return Err(text("ERR MOVE is not allowed in cluster mode"));
    }
    let (key, now) = (call.arg(1), call.now);
    let (from, to) = (call.db.selected(), database(call, 2)?);
    if from == to {
        return Err(SAME_OBJECT);
    }
    let source = call.db.find(key, now).map(|entry| (entry.expire_at(), entry.value().clone()));
    let Some((expire_at, value)) = source else {
        call.reply.int(0);
        return Ok(());
    };
    if call.db.within(to, |db| db.find(key, now).is_some()) {
        call.reply.int(0);
        return Ok(());
    }
    call.db.within(to, |db| {
        db.keys.set(key, value, expire_at, now.wall);
        db.changed(key);
    });
    call.db.keys.remove(key);
    call.db.touch_watchers(key);
    call.db.notify(class::GENERIC, "move_from", key);
    call.db.within(to, |db| db.notify(class::GENERIC, "move_to", key));
    call.reply.int(1);
    Ok(())
}

/// `SWAPDB db db`
pub(super) fn swapdb(call: &mut Call<'_>) -> Outcome {
    if call.db.is_cluster {
        return Err(text("ERR SWAPDB is not allowed in cluster mode"));
    }
    // Both are looked at before either is found to be out of range.
    int32(call.arg(1)).map_err(|_| text("ERR invalid first DB index"))?;
    int32(call.arg(2)).map_err(|_| text("ERR invalid second DB index"))?;
    let (one, other) = (database(call, 1)?, database(call, 2)?);
    call.db.swap(one, other, call.now.wall);
    call.db.dirty += 1;
    call.reply.ok();
    Ok(())
}

fn check_flush_option(call: &Call<'_>) -> Result<(), Fault> {
    match call.args.len() {
        1 => Ok(()),
        2 if is(call.arg(1), "SYNC") || is(call.arg(1), "ASYNC") => Ok(()),
        _ => Err(SYNTAX),
    }
}

/// `FLUSHDB [SYNC | ASYNC]`
pub(super) fn flushdb(call: &mut Call<'_>) -> Outcome {
    check_flush_option(call)?;
    let removed = call.db.flush(call.now.wall);
    flushed(call, removed)
}

/// `FLUSHALL [SYNC | ASYNC]`
pub(super) fn flushall(call: &mut Call<'_>) -> Outcome {
    check_flush_option(call)?;
    let removed = call.db.flush_all(call.now.wall);
    call.db.flushed_all = true;
    flushed(call, removed)
}

fn flushed(call: &mut Call<'_>, removed: usize) -> Outcome {
    call.db.dirty += removed as u64;
    // Handed on even if there was nothing to remove.
    let all: Vec<&[u8]> = call.args.iter().collect();
    call.propagate(&all);
    call.reply.ok();
    Ok(())
}

/// `DBSIZE`
pub(super) fn dbsize(call: &mut Call<'_>) -> Outcome {
    call.reply.int(call.db.keys.len() as i64);
    Ok(())
}
