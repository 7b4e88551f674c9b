//! Sets.

use std::collections::BTreeSet;

use super::call::{Call, is};
use super::fault::{Fault, NOT_POSITIVE, Outcome, SYNTAX, WRONG_TYPE, text};
use super::notify::class;
use crate::keyspace::number::parse_i64;
use crate::keyspace::set::Set;
use crate::keyspace::{Element, Entry, Env, Value};

pub(super) fn sadd(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let members = call.args.from(2);
    let added =
        call.make_set(key, |set, env| members.iter().filter(|member| set.add(env, member)).count())?;
    if added > 0 {
        call.changed(key, class::SET, "sadd");
    }
    call.reply.int(added as i64);
    Ok(())
}

pub(super) fn srem(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let members = call.args.from(2);
    let removed =
        call.change_set(key, |set, env| members.iter().filter(|member| set.remove(env, member)).count())?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        call.shrunk(key, class::SET, "srem");
    }
    call.reply.int(removed as i64);
    Ok(())
}

pub(super) fn smembers(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    match call.db.read(key, call.now) {
        None => call.reply.set(0),
        Some(Value::Set(set)) => {
            call.reply.set(set.len());
            for member in set.iter_from(0) {
                call.reply.element(member);
            }
        }
        Some(_) => return Err(WRONG_TYPE),
    }
    Ok(())
}

pub(super) fn scard(call: &mut Call<'_>) -> Outcome {
    let len = call.set(call.arg(1))?.map_or(0, Set::len);
    call.reply.int(len as i64);
    Ok(())
}

pub(super) fn sismember(call: &mut Call<'_>) -> Outcome {
    let (env, member) = (call.db.keys.env(), call.arg(2));
    let found = call.set(call.arg(1))?.is_some_and(|set| set.contains(env, member));
    call.reply.bool(found);
    Ok(())
}

pub(super) fn smismember(call: &mut Call<'_>) -> Outcome {
    let (env, members) = (call.db.keys.env(), call.args.from(2));
    let set = call.set(call.arg(1))?;
    let found: Vec<bool> =
        members.iter().map(|member| set.is_some_and(|set| set.contains(env, member))).collect();
    call.reply.array(found.len());
    for found in found {
        call.reply.bool(found);
    }
    Ok(())
}

pub(super) fn smove(call: &mut Call<'_>) -> Outcome {
    let (source, target, member) = (call.arg(1), call.arg(2), call.arg(3));
    match call.db.find_value(source, call.now) {
        None => {
            call.reply.int(0);
            return Ok(());
        }
        Some(Value::Set(_)) => {}
        Some(_) => return Err(WRONG_TYPE),
    }
    if !matches!(call.db.find_value(target, call.now), None | Some(Value::Set(_))) {
        return Err(WRONG_TYPE);
    }
    let env = call.db.keys.env();
    if source == target {
        let found = call.set(source)?.is_some_and(|set| set.contains(env, member));
        call.reply.bool(found);
        return Ok(());
    }
    let moved = call.change_set(source, |set, env| set.remove(env, member))?.unwrap_or(false);
    if moved {
        call.shrunk(source, class::SET, "srem");
        if call.make_set(target, |set, env| set.add(env, member))? {
            call.changed(target, class::SET, "sadd");
        }
    }
    call.reply.bool(moved);
    Ok(())
}

pub(super) fn spop(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let count = match call.args.len() {
        2 => None,
        3 => Some(positive(call.arg(2))?),
        _ => return Err(SYNTAX),
    };
    let len = match call.db.find_value(key, call.now) {
        None => 0,
        Some(Value::Set(set)) => set.len(),
        Some(_) => return Err(WRONG_TYPE),
    };
    let wanted = count.unwrap_or(1).min(len);
    let mut popped: Vec<Vec<u8>> = Vec::with_capacity(wanted);
    for gone in 0..wanted {
        let rank = call.db.random.below((len - gone) as u64) as usize;
        let member = call.change_set(key, |set, env| {
            let member = set.nth(rank)?.to_vec();
            set.remove(env, &member);
            Some(member)
        })?;
        popped.extend(member.flatten());
    }
    if !popped.is_empty() {
        call.shrunk(key, class::SET, "spop");
        if count.is_some() && popped.len() == len {
            call.propagate(&[b"DEL", key]);
        } else {
            let args: Vec<&[u8]> =
                [&b"SREM"[..], key].into_iter().chain(popped.iter().map(Vec::as_slice)).collect();
            call.propagate(&args);
        }
    }
    if count.is_some() {
        call.reply.set(popped.len());
        for member in &popped {
            call.reply.bulk(member);
        }
    } else {
        call.reply.optional(popped.first().map(Vec::as_slice));
    }
    Ok(())
}

fn positive(arg: &[u8]) -> Result<usize, Fault> {
    parse_i64(arg).and_then(|count| usize::try_from(count).ok()).ok_or(NOT_POSITIVE)
}

pub(super) fn srandmember(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    if call.args.len() > 3 {
        return Err(SYNTAX);
    }
    let (count, _) = random_count(call, "")?;
    let len = call.set(key)?.map_or(0, Set::len);
    let ranks = random_ranks(call, len, count.unwrap_or(1))?;
    let set = match call.db.keys.get(key).map(Entry::value) {
        Some(Value::Set(set)) if len > 0 => Some(set),
        _ => None,
    };
    let members: Vec<Vec<u8>> =
        ranks.iter().filter_map(|&rank| set.and_then(|set| set.nth(rank)).map(Element::to_vec)).collect();
    if count.is_some() {
        call.reply.array(members.len());
        for member in &members {
            call.reply.bulk(member);
        }
    } else {
        call.reply.optional(members.first().map(Vec::as_slice));
    }
    Ok(())
}

/// How many elements a command wants, if it says so, and whether a word behind the number asks for what belongs to
/// them.
pub(super) fn random_count(call: &Call<'_>, with: &str) -> Result<(Option<i64>, bool), Fault> {
    if call.args.len() == 2 {
        return Ok((None, false));
    }
    let count = call.int(2)?;
    if count == i64::MIN {
        return Err(text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    match call.args.len() {
        3 => Ok((Some(count), false)),
        4 if !is(call.arg(3), with) => Err(SYNTAX),
        4 if count.unsigned_abs() > (i64::MAX / 2) as u64 => Err(text("ERR value is out of range")),
        4 => Ok((Some(count), true)),
        _ => Err(SYNTAX),
    }
}

/// Ranks of random elements: `count` different ones, or `-count` with repetition.
pub(super) fn random_ranks(call: &mut Call<'_>, len: usize, count: i64) -> Result<Vec<usize>, Fault> {
    // Each element of a reply has six bytes at least.
    let most = (call.db.reply_limit / 6) as u64 + 1;
    let random = &mut call.db.random;
    if len == 0 {
        return Ok(Vec::new());
    }
    if count < 0 && count.unsigned_abs() > most {
        return Ok((0..most).map(|_| random.below(len as u64) as usize).collect());
    }
    if count < -(1 << 32) {
        // No memory holds such an answer.
        return Err(text("ERR value is out of range"));
    }
    if count < 0 {
        return Ok((0..count.unsigned_abs()).map(|_| random.below(len as u64) as usize).collect());
    }
    let count = (count as usize).min(len);
    if count * 3 > len {
        // Most of them: leave some out.
        let mut all: Vec<usize> = (0..len).collect();
        for index in 0..count {
            let other = index + random.below((len - index) as u64) as usize;
            all.swap(index, other);
        }
        all.truncate(count);
        return Ok(all);
    }
    let mut ranks = BTreeSet::new();
    while ranks.len() < count {
        ranks.insert(random.below(len as u64) as usize);
    }
    Ok(ranks.into_iter().collect())
}

/// An operation on several sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

impl Operation {
    const fn store_event(self) -> &'static str {
        match self {
            Self::Union => "sunionstore",
            Self::Inter => "sinterstore",
            Self::Diff => "sdiffstore",
        }
    }
}

pub(super) fn sunion(call: &mut Call<'_>) -> Outcome {
    answer(call, Operation::Union)
}

pub(super) fn sinter(call: &mut Call<'_>) -> Outcome {
    answer(call, Operation::Inter)
}

pub(super) fn sdiff(call: &mut Call<'_>) -> Outcome {
    answer(call, Operation::Diff)
}

pub(super) fn sunionstore(call: &mut Call<'_>) -> Outcome {
    keep(call, Operation::Union)
}

pub(super) fn sinterstore(call: &mut Call<'_>) -> Outcome {
    keep(call, Operation::Inter)
}

pub(super) fn sdiffstore(call: &mut Call<'_>) -> Outcome {
    keep(call, Operation::Diff)
}

pub(super) fn sintercard(call: &mut Call<'_>) -> Outcome {
    let keys = parse_i64(call.arg(1))
        .filter(|&keys| keys > 0)
        .ok_or(text("ERR numkeys should be greater than 0"))?;
    let keys = keys as usize;
    if keys + 2 > call.args.len() {
        return Err(text("ERR Number of keys can't be greater than number of args"));
    }
    // The last of several counts; what is wrong first is told.
    let mut limit = 0;
    for at in (2 + keys..call.args.len()).step_by(2) {
        if !is(call.arg(at), "LIMIT") || at + 1 >= call.args.len() {
            return Err(SYNTAX);
        }
        let said = parse_i64(call.arg(at + 1)).and_then(|limit| usize::try_from(limit).ok());
        limit = said.ok_or(text("ERR LIMIT can't be negative"))?;
    }
    let sources: Vec<&[u8]> = (2..2 + keys).map(|index| call.arg(index)).collect();
    let len = combine(call, Operation::Inter, &sources)?.len();
    call.reply.int(if limit == 0 { len } else { len.min(limit) } as i64);
    Ok(())
}

fn answer(call: &mut Call<'_>, operation: Operation) -> Outcome {
    let sources: Vec<&[u8]> = call.args.from(1).iter().collect();
    let result = combine(call, operation, &sources)?;
    call.reply.set(result.len());
    for member in &result {
        call.reply.bulk(member);
    }
    Ok(())
}

fn keep(call: &mut Call<'_>, operation: Operation) -> Outcome {
    let target = call.arg(1);
    let sources: Vec<&[u8]> = call.args.from(2).iter().collect();
    let result = combine(call, operation, &sources)?;
    if result.is_empty() {
        if call.db.find(target, call.now).is_some() {
            call.delete(target);
            call.propagate(&[b"DEL", target]);
        }
    } else {
        let (mut set, env) = (Set::default(), call.db.keys.env());
        for member in &result {
            set.add(env, member);
        }
        call.db.keys.set(target, Value::Set(set), None, call.now.wall);
        call.changed(target, class::SET, operation.store_event());
    }
    call.reply.int(result.len() as i64);
    Ok(())
}

fn combine(call: &mut Call<'_>, operation: Operation, sources: &[&[u8]]) -> Result<Vec<Vec<u8>>, Fault> {
    // The types of all are checked before anything is answered.
    for source in sources {
        call.set(source)?;
    }
    let env: Env = call.db.keys.env();
    let now = call.now;
    let db = &*call.db;
    let sets: Vec<Option<&Set>> = sources
        .iter()
        .map(|source| match db.keys.get(source).filter(|_| db.is_there(source, now)).map(Entry::value) {
            Some(Value::Set(set)) => Some(set),
            _ => None,
        })
        .collect();
    let mut result = Vec::new();
    match operation {
        Operation::Union => {
            let mut union = Set::default();
            for member in sets.iter().flatten().flat_map(|set| set.iter_from(0)) {
                member.with(|member| union.add(env, member));
            }
            result.extend(union.iter_from(0).map(Element::to_vec));
        }
        Operation::Inter => {
            if sets.iter().any(Option::is_none) {
                return Ok(result);
            }
            let Some(smallest) = sets.iter().flatten().min_by_key(|set| set.len()) else { return Ok(result) };
            for member in smallest.iter_from(0) {
                if member.with(|text| sets.iter().flatten().all(|set| set.contains(env, text))) {
                    result.push(member.to_vec());
                }
            }
        }
        Operation::Diff => {
            let Some((Some(first), others)) = sets.split_first() else { return Ok(result) };
            for member in first.iter_from(0) {
                if !member.with(|text| others.iter().flatten().any(|set| set.contains(env, text))) {
                    result.push(member.to_vec());
                }
            }
        }
    }
    Ok(result)
}
