//! What LMPOP and ZMPOP, BLPOP and BZPOPMIN have in common: the first of several keys that has something is popped
//! from one of its ends, and a client may wait for one.

use std::ops::Range;

use super::fault::{Fault, Outcome, SYNTAX, text};
use super::{Call, is};
use crate::keyspace::Value;
use crate::keyspace::number::{IntText, parse_i64};
use crate::resp::Reply;

/// An end of a list or sorted set.
pub(super) trait PopEnd: Copy {
    /// What is popped from it.
    type Item;
    /// Elements of an item in a flat reply.
    const WIDTH: usize;

    /// The end that a client names.
    fn named(arg: &[u8]) -> Result<Self, Fault>;
    /// Of its events.
    const CLASS: u16;
    /// What subscribers are told of a pop.
    fn pop_event(self) -> &'static str;
    /// The command that pops from this end only: what is handed on.
    fn pop_name(self) -> &'static [u8];
    /// True for a value that has such ends.
    fn fits(value: &Value) -> bool;
    /// Pops at most `count` items; the key holds a value that fits.
    fn pop_from(self, call: &mut Call<'_>, key: &[u8], count: usize) -> Result<Vec<Self::Item>, Fault>;
    /// Answers with an item among others.
    fn put(reply: &mut Reply<'_>, item: &Self::Item);
    /// Answers with the only item, in [`Self::WIDTH`] elements of the reply around it.
    fn put_flat(reply: &mut Reply<'_>, item: &Self::Item);
}

/// What LMPOP, ZMPOP and their blocking forms ask for.
pub(super) struct MultiPop<E> {
    /// Arguments that are keys.
    keys: Range<usize>,
    end: E,
    count: usize,
}

impl<E: PopEnd> MultiPop<E> {
    /// LMPOP, ZMPOP.
    pub fn run(call: &mut Call<'_>) -> Outcome {
        if !Self::parse(call, 1)?.pop(call)? {
            call.reply.null_array();
        }
        Ok(())
    }

    /// BLMPOP, BZMPOP.
    pub fn run_blocking(call: &mut Call<'_>) -> Outcome {
        let wish = Self::parse(call, 2)?;
        let timeout_ms = call.timeout_ms(1)?;
        if !wish.pop(call)? {
            call.wait_for(wish.keys, timeout_ms, Reply::null_array);
        }
        Ok(())
    }

    /// Reads it from the argument that counts the keys on.
    fn parse(call: &Call<'_>, count_at: usize) -> Result<Self, Fault> {
        let wrong = text("ERR numkeys should be greater than 0");
        let number = parse_i64(call.arg(count_at)).filter(|&keys| keys > 0).ok_or(wrong)?;
        let first = count_at + 1;
        if number >= (call.args.len() - first) as i64 {
            return Err(SYNTAX);
        }
        let keys = first..first + number as usize;
        let end = E::named(call.arg(keys.end))?;
        let count = pop_count(call, keys.end + 1)?;
        Ok(Self { keys, end, count })
    }

    /// Pops from the first key that has something, and answers; false if none has.
    fn pop(&self, call: &mut Call<'_>) -> Result<bool, Fault> {
        for index in self.keys.clone() {
            let key = call.arg(index);
            let Some(items) = take(call, key, self.end, self.count)? else { continue };
            call.propagate(&[self.end.pop_name(), key, &IntText::new(items.len() as i64)]);
            call.reply.array(2);
            call.reply.bulk(key);
            call.reply.array(items.len());
            for item in &items {
                E::put(&mut call.reply, item);
            }
            return Ok(true);
        }
        Ok(false)
    }
}

/// BLPOP, BRPOP, BZPOPMIN, BZPOPMAX.
pub(super) fn blocking_pop<E: PopEnd>(call: &mut Call<'_>, end: E) -> Outcome {
    let last = call.args.len() - 1;
    let timeout_ms = call.timeout_ms(last)?;
    for index in 1..last {
        let key = call.arg(index);
        let Some(items) = take(call, key, end, 1)? else { continue };
        call.propagate(&[end.pop_name(), key]);
        call.reply.array(1 + E::WIDTH);
        call.reply.bulk(key);
        for item in &items {
            E::put_flat(&mut call.reply, item);
        }
        return Ok(());
    }
    call.wait_for(1..last, timeout_ms, Reply::null_array);
    Ok(())
}

/// Takes from a key for a command that tries several, and may have blocked on them.
fn take<E: PopEnd>(
    call: &mut Call<'_>,
    key: &[u8],
    end: E,
    count: usize,
) -> Result<Option<Vec<E::Item>>, Fault> {
    if !call.may_try(key) || !call.has_or_waits(key, E::fits)? {
        return Ok(None);
    }
    let items = end.pop_from(call, key, count)?;
    call.shrunk(key, E::CLASS, end.pop_event());
    Ok(Some(items))
}

/// `[COUNT n]` at `index`, the last of a command; 1 without it.
fn pop_count(call: &Call<'_>, index: usize) -> Result<usize, Fault> {
    match call.args.len() - index {
        0 => Ok(1),
        2 if is(call.arg(index), "COUNT") => {
            let count = parse_i64(call.arg(index + 1)).filter(|&count| count > 0);
            Ok(count.ok_or(text("ERR count should be greater than 0"))? as usize)
        }
        _ => Err(SYNTAX),
    }
}
