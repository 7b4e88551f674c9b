//! Sorted sets: members and their scores. Ranges are in `zset_ranges`, unions and their like in `zset_algebra`.

use super::call::{Call, is};
use super::fault::{Fault, NOT_FLOAT, NOT_POSITIVE, Outcome, SYNTAX, text};
use super::multi_pop::{MultiPop, PopEnd, blocking_pop};
use super::notify::class;
use super::sets::{random_count, random_ranks};
use crate::keyspace::number::parse_i64;
use crate::keyspace::zset::Zset;
use crate::keyspace::{Entry, Env, Value, score};
use crate::resp::{Protocol, Reply};

/// A copied pair, to be answered after its set has changed.
type Taken = (Vec<u8>, f64);

/// Options of ZADD.
#[derive(Clone, Copy, Default)]
pub(super) struct AddOptions {
    pub(super) only_new: bool,
    pub(super) only_existing: bool,
    greater: bool,
    less: bool,
    pub(super) count_changed: bool,
    increment: bool,
}

/// What adding did.
#[derive(Default)]
struct Added {
    new: i64,
    updated: i64,
    /// The last score that was set, or confirmed.
    score: Option<f64>,
    not_a_number: bool,
}

pub(super) fn zadd(call: &mut Call<'_>) -> Outcome {
    add_with_options(call, AddOptions::default())
}

/// Redis takes the options of ZADD here, too.
pub(super) fn zincrby(call: &mut Call<'_>) -> Outcome {
    add_with_options(call, AddOptions { increment: true, ..AddOptions::default() })
}

fn add_with_options(call: &mut Call<'_>, mut options: AddOptions) -> Outcome {
    let mut index = 2;
    while index < call.args.len() {
        match call.arg(index) {
            word if is(word, "NX") => options.only_new = true,
            word if is(word, "XX") => options.only_existing = true,
            word if is(word, "GT") => options.greater = true,
            word if is(word, "LT") => options.less = true,
            word if is(word, "CH") => options.count_changed = true,
            word if is(word, "INCR") => options.increment = true,
            _ => break,
        }
        index += 1;
    }
    add(call, options, index)
}

/// Adds the pairs of score and member from argument `first` on.
fn add(call: &mut Call<'_>, options: AddOptions, first: usize) -> Outcome {
    let words = call.args.len() - first;
    if words == 0 || words % 2 == 1 {
        return Err(SYNTAX);
    }
    if options.only_new && options.only_existing {
        return Err(text("ERR XX and NX options at the same time are not compatible"));
    }
    if options.only_new && (options.greater || options.less) || options.greater && options.less {
        return Err(text("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if options.increment && words > 2 {
        return Err(text("ERR INCR option supports a single increment-element pair"));
    }
    let mut pairs = Vec::with_capacity(words / 2);
    for at in (first..call.args.len()).step_by(2) {
        pairs.push((score::parse(call.arg(at)).ok_or(NOT_FLOAT)?, call.arg(at + 1)));
    }
    add_pairs(call, options, &pairs)
}

/// Adds pairs of score and member to the key that is the first argument, and answers.
pub(super) fn add_pairs(call: &mut Call<'_>, options: AddOptions, pairs: &[(f64, &[u8])]) -> Outcome {
    let key = call.arg(1);
    let done = call.make_zset(key, |zset, env| {
        let mut done = Added::default();
        for &(score, member) in pairs {
            done.add(zset, env, options, member, score);
        }
        done
    })?;
    if done.not_a_number {
        return Err(text("ERR resulting score is not a number (NaN)"));
    }
    if done.new + done.updated > 0 {
        call.changed(key, class::ZSET, if options.increment { "zincr" } else { "zadd" });
    }
    match done.score {
        Some(score) if options.increment => call.reply.double(score),
        None if options.increment => call.reply.null(),
        _ => call.reply.int(done.new + if options.count_changed { done.updated } else { 0 }),
    }
    Ok(())
}

impl Added {
    fn add(&mut self, zset: &mut Zset, env: Env, options: AddOptions, member: &[u8], score: f64) {
        let conditional =
            options.only_new || options.only_existing || options.greater || options.less || options.increment;
        let mut score = score;
        if conditional {
            match zset.score(env, member) {
                None if options.only_existing => return,
                None => {}
                Some(_) if options.only_new => return,
                Some(old) => {
                    if options.increment {
                        score += old;
                        if score.is_nan() {
                            self.not_a_number = true;
                            return;
                        }
                    }
                    if options.less && score >= old || options.greater && score <= old {
                        return;
                    }
                }
            }
        }
        match zset.set(env, member, score) {
            None => self.new += 1,
            #[allow(clippy::float_cmp)] // as Redis compares
            Some(old) if old != score => self.updated += 1,
            Some(_) => {}
        }
        self.score = Some(score);
    }
}

pub(super) fn zrem(call: &mut Call<'_>) -> Outcome {
    let (key, members) = (call.arg(1), call.args.from(2));
    let removed = call.change_zset(key, |zset, env| {
        members.iter().filter(|member| zset.remove(env, member).is_some()).count()
    })?;
    let removed = removed.unwrap_or(0);
    if removed > 0 {
        call.shrunk(key, class::ZSET, "zrem");
    }
    call.reply.int(removed as i64);
    Ok(())
}

pub(super) fn zcard(call: &mut Call<'_>) -> Outcome {
    let len = call.zset(call.arg(1))?.map_or(0, Zset::len);
    call.reply.int(len as i64);
    Ok(())
}

pub(super) fn zscore(call: &mut Call<'_>) -> Outcome {
    let (env, member) = (call.db.keys.env(), call.arg(2));
    let score = call.zset(call.arg(1))?.and_then(|zset| zset.score(env, member));
    put_score(&mut call.reply, score);
    Ok(())
}

pub(super) fn zmscore(call: &mut Call<'_>) -> Outcome {
    let (env, members) = (call.db.keys.env(), call.args.from(2));
    let zset = call.zset(call.arg(1))?;
    let scores: Vec<Option<f64>> =
        members.iter().map(|member| zset.and_then(|zset| zset.score(env, member))).collect();
    call.reply.array(scores.len());
    for score in scores {
        put_score(&mut call.reply, score);
    }
    Ok(())
}

fn put_score(reply: &mut Reply<'_>, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

pub(super) fn zrank(call: &mut Call<'_>) -> Outcome {
    rank(call, false)
}

pub(super) fn zrevrank(call: &mut Call<'_>) -> Outcome {
    rank(call, true)
}

fn rank(call: &mut Call<'_>, from_end: bool) -> Outcome {
    let (env, member) = (call.db.keys.env(), call.arg(2));
    let zset = call.zset(call.arg(1))?;
    let rank = zset.and_then(|zset| {
        let rank = zset.rank(env, member)?;
        Some(if from_end { zset.len() - 1 - rank } else { rank })
    });
    match rank {
        Some(rank) => call.reply.int(rank as i64),
        None => call.reply.null(),
    }
    Ok(())
}

/// An end of a sorted set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Min,
    Max,
}

impl End {
    fn pop(self, zset: &mut Zset, env: Env, count: usize) -> Vec<Taken> {
        let own = |(member, score): (&[u8], f64)| (member.to_vec(), score);
        let taken: Vec<Taken> = match self {
            Self::Min => zset.iter_from(0).take(count).map(own).collect(),
            Self::Max if zset.is_empty() => Vec::new(),
            Self::Max => zset.iter_back_from(zset.len() - 1).take(count).map(own).collect(),
        };
        for (member, _) in &taken {
            zset.remove(env, member);
        }
        taken
    }
}

impl PopEnd for End {
    type Item = Taken;
    const WIDTH: usize = 2;

    fn named(arg: &[u8]) -> Result<Self, Fault> {
        match () {
            () if is(arg, "MIN") => Ok(Self::Min),
            () if is(arg, "MAX") => Ok(Self::Max),
            () => Err(SYNTAX),
        }
    }

    const CLASS: u16 = class::ZSET;

    fn pop_event(self) -> &'static str {
        match self {
            Self::Min => "zpopmin",
            Self::Max => "zpopmax",
        }
    }

    fn pop_name(self) -> &'static [u8] {
        match self {
            Self::Min => b"ZPOPMIN",
            Self::Max => b"ZPOPMAX",
        }
    }

    fn fits(value: &Value) -> bool {
        matches!(value, Value::Zset(_))
    }

    fn pop_from(self, call: &mut Call<'_>, key: &[u8], count: usize) -> Result<Vec<Taken>, Fault> {
        Ok(call.change_zset(key, |zset, env| self.pop(zset, env, count))?.unwrap_or_default())
    }

    fn put(reply: &mut Reply<'_>, taken: &Taken) {
        reply.array(2);
        Self::put_flat(reply, taken);
    }

    fn put_flat(reply: &mut Reply<'_>, (member, score): &Taken) {
        reply.bulk(member);
        reply.double(*score);
    }
}

pub(super) fn zpopmin(call: &mut Call<'_>) -> Outcome {
    pop(call, End::Min)
}

pub(super) fn zpopmax(call: &mut Call<'_>) -> Outcome {
    pop(call, End::Max)
}

fn pop(call: &mut Call<'_>, end: End) -> Outcome {
    let key = call.arg(1);
    let count = match call.args.len() {
        2 => None,
        3 => {
            let count = parse_i64(call.arg(2)).and_then(|count| usize::try_from(count).ok());
            Some(count.ok_or(NOT_POSITIVE)?)
        }
        _ => return Err(SYNTAX),
    };
    let taken = call.change_zset(key, |zset, env| end.pop(zset, env, count.unwrap_or(1)))?;
    let taken = taken.unwrap_or_default();
    if !taken.is_empty() {
        call.shrunk(key, class::ZSET, end.pop_event());
    }
    put_pairs(&mut call.reply, taken.len(), borrowed(&taken), count.is_some());
    Ok(())
}

fn borrowed(taken: &[Taken]) -> impl Iterator<Item = (&[u8], f64)> {
    taken.iter().map(|(member, score)| (&**member, *score))
}

/// Pairs as most commands answer them: flat, or for RESP3 (if `nested` there) each an array of two.
pub(super) fn put_pairs<'a>(
    reply: &mut Reply<'_>,
    len: usize,
    pairs: impl Iterator<Item = (&'a [u8], f64)>,
    nested: bool,
) {
    let nested = nested && reply.protocol() == Protocol::Resp3;
    reply.array(if nested { len } else { len * 2 });
    for (member, score) in pairs {
        if nested {
            reply.array(2);
        }
        reply.bulk(member);
        reply.double(score);
    }
}

pub(super) fn zmpop(call: &mut Call<'_>) -> Outcome {
    MultiPop::<End>::run(call)
}

pub(super) fn bzmpop(call: &mut Call<'_>) -> Outcome {
    MultiPop::<End>::run_blocking(call)
}

pub(super) fn bzpopmin(call: &mut Call<'_>) -> Outcome {
    blocking_pop(call, End::Min)
}

pub(super) fn bzpopmax(call: &mut Call<'_>) -> Outcome {
    blocking_pop(call, End::Max)
}

pub(super) fn zrandmember(call: &mut Call<'_>) -> Outcome {
    let key = call.arg(1);
    let (count, with_scores) = random_count(call, "WITHSCORES")?;
    let len = call.zset(key)?.map_or(0, Zset::len);
    let ranks = random_ranks(call, len, count.unwrap_or(1))?;
    let zset = match call.db.keys.get(key).map(Entry::value) {
        Some(Value::Zset(zset)) if len > 0 => Some(zset),
        _ => None,
    };
    let found: Vec<Taken> = ranks
        .iter()
        .filter_map(|&rank| zset?.nth(rank))
        .map(|(member, score)| (member.to_vec(), score))
        .collect();
    if count.is_none() {
        call.reply.optional(found.first().map(|(member, _)| &**member));
    } else if with_scores {
        put_pairs(&mut call.reply, found.len(), borrowed(&found), true);
    } else {
        call.reply.array(found.len());
        for (member, _) in &found {
            call.reply.bulk(member);
        }
    }
    Ok(())
}
