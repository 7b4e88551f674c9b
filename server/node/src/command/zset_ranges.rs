//! Ranges of sorted sets, by rank, by score and by member.

use super::call::{Call, is, range};
use super::fault::{Fault, Outcome, SYNTAX, WRONG_TYPE, text};
use super::notify::class;
use super::zsets::put_pairs;
use crate::keyspace::score::parse_bound;
use crate::keyspace::zset::{Pair, Zset};
use crate::keyspace::{Entry, Value};

const BAD_SCORE: Fault = text("ERR min or max is not a float");
const BAD_LEX: Fault = text("ERR min or max not valid string range item");

/// How a range is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// An end of a range of members.
#[derive(Clone, Copy)]
enum Lex<'a> {
    Lowest,
    Highest,
    At { member: &'a [u8], exclusive: bool },
}

/// A range of a sorted set.
#[derive(Clone, Copy)]
enum Range<'a> {
    Rank(i64, i64),
    /// Ends, each with whether it is left out.
    Score((f64, bool), (f64, bool)),
    Lex(Lex<'a>, Lex<'a>),
}

impl<'a> Range<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Self, Fault> {
        Ok(match by {
            By::Rank => {
                let int = |arg| crate::keyspace::number::parse_i64(arg).ok_or(super::NOT_INTEGER);
                Self::Rank(int(min)?, int(max)?)
            }
            By::Score => Self::Score(score_end(min)?, score_end(max)?),
            By::Lex => Self::Lex(lex_end(min)?, lex_end(max)?),
        })
    }

    /// The ranks in it, as a half-open range; those of a range by rank count from the end if `reverse`.
    fn ranks(self, zset: &Zset, reverse: bool) -> (usize, usize) {
        match self {
            Self::Rank(start, end) => {
                let (from, to) = range(start, end, zset.len());
                if reverse { (zset.len() - to, zset.len() - from) } else { (from, to) }
            }
            Self::Score((min, without_min), (max, without_max)) => zset.ranks(
                |(_, score)| score < min || without_min && score <= min,
                |(_, score)| score < max || !without_max && score <= max,
            ),
            Self::Lex(min, max) => {
                zset.ranks(|(member, _)| !min.is_at_most(member), |(member, _)| max.is_at_least(member))
            }
        }
    }
}

impl Lex<'_> {
    fn is_at_most(self, other: &[u8]) -> bool {
        match self {
            Self::Lowest => true,
            Self::Highest => false,
            Self::At { member, exclusive } => {
                if exclusive {
                    member < other
                } else {
                    member <= other
                }
            }
        }
    }

    fn is_at_least(self, other: &[u8]) -> bool {
        match self {
            Self::Lowest => false,
            Self::Highest => true,
            Self::At { member, exclusive } => {
                if exclusive {
                    member > other
                } else {
                    member >= other
                }
            }
        }
    }
}

fn score_end(arg: &[u8]) -> Result<(f64, bool), Fault> {
    let (exclusive, number) = match arg {
        [b'(', rest @ ..] => (true, rest),
        _ => (false, arg),
    };
    parse_bound(number).map(|score| (score, exclusive)).ok_or(BAD_SCORE)
}

fn lex_end(arg: &[u8]) -> Result<Lex<'_>, Fault> {
    match arg {
        b"-" => Ok(Lex::Lowest),
        b"+" => Ok(Lex::Highest),
        [b'(', member @ ..] => Ok(Lex::At { member, exclusive: true }),
        [b'[', member @ ..] => Ok(Lex::At { member, exclusive: false }),
        _ => Err(BAD_LEX),
    }
}

/// What a ZRANGE of any kind asks for.
struct Query<'a> {
    range: Range<'a>,
    reverse: bool,
    /// Members to leave out first (negative: all), and how many to give at most (negative: all).
    limit: (i64, i64),
    with_scores: bool,
}

impl<'a> Query<'a> {
    /// Reads it from the argument behind the key on; what the command's name has decided cannot be given again.
    fn parse(
        call: &Call<'a>,
        first: usize,
        mut by: Option<By>,
        mut reverse: Option<bool>,
        may_have_scores: bool,
    ) -> Result<Self, Fault> {
        let (mut limit, mut with_scores) = ((0, -1), false);
        let mut index = first + 2;
        while index < call.args.len() {
            match call.arg(index) {
                word if may_have_scores && is(word, "WITHSCORES") => with_scores = true,
                word if is(word, "LIMIT") && index + 2 < call.args.len() => {
                    limit = (call.int(index + 1)?, call.int(index + 2)?);
                    index += 2;
                }
                word if reverse.is_none() && is(word, "REV") => reverse = Some(true),
                word if by.is_none() && is(word, "BYLEX") => by = Some(By::Lex),
                word if by.is_none() && is(word, "BYSCORE") => by = Some(By::Score),
                _ => return Err(SYNTAX),
            }
            index += 1;
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        if limit.1 != -1 && by == By::Rank {
            return Err(text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(text("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        let (mut min, mut max) = (call.arg(first), call.arg(first + 1));
        if reverse && by != By::Rank {
            (min, max) = (max, min);
        }
        let range = Range::parse(by, min, max)?;
        if by == By::Rank {
            limit = (0, -1);
        }
        Ok(Self { range, reverse, limit, with_scores })
    }

    /// The pairs that fit, and how many they are.
    fn pairs<'z>(&self, zset: &'z Zset) -> (usize, impl Iterator<Item = Pair<'z>> + use<'z>) {
        let (from, to) = self.range.ranks(zset, self.reverse);
        let all = to.saturating_sub(from);
        let skipped = usize::try_from(self.limit.0).unwrap_or(all).min(all);
        let len = usize::try_from(self.limit.1).unwrap_or(all).min(all - skipped);
        let iter = match len {
            0 => zset.iter_from(zset.len()),
            _ if self.reverse => zset.iter_back_from(to - 1 - skipped),
            _ => zset.iter_from(from + skipped),
        };
        (len, iter.take(len))
    }
}

pub(super) fn zrange(call: &mut Call<'_>) -> Outcome {
    answer(call, None, None)
}

pub(super) fn zrevrange(call: &mut Call<'_>) -> Outcome {
    answer(call, Some(By::Rank), Some(true))
}

pub(super) fn zrangebyscore(call: &mut Call<'_>) -> Outcome {
    answer(call, Some(By::Score), Some(false))
}

pub(super) fn zrevrangebyscore(call: &mut Call<'_>) -> Outcome {
    answer(call, Some(By::Score), Some(true))
}

pub(super) fn zrangebylex(call: &mut Call<'_>) -> Outcome {
    answer(call, Some(By::Lex), Some(false))
}

pub(super) fn zrevrangebylex(call: &mut Call<'_>) -> Outcome {
    answer(call, Some(By::Lex), Some(true))
}

fn answer(call: &mut Call<'_>, by: Option<By>, reverse: Option<bool>) -> Outcome {
    let query = Query::parse(call, 2, by, reverse, true)?;
    match call.db.read(call.arg(1), call.now) {
        None => call.reply.array(0),
        Some(Value::Zset(zset)) => {
            let (len, pairs) = query.pairs(zset);
            if query.with_scores {
                put_pairs(&mut call.reply, len, pairs, true);
            } else {
                call.reply.array(len);
                pairs.for_each(|(member, _)| call.reply.bulk(member));
            }
        }
        Some(_) => return Err(WRONG_TYPE),
    }
    Ok(())
}

pub(super) fn zrangestore(call: &mut Call<'_>) -> Outcome {
    let query = Query::parse(call, 3, None, None, false)?;
    let mut env = call.db.keys.env();
    let mut result = Zset::default();
    if let Some(zset) = call.zset(call.arg(2))? {
        let (len, pairs) = query.pairs(zset);
        // Redis knows the length of a range of ranks before: a big one is never small, and keeps -0.
        if matches!(query.range, Range::Rank(..)) && len > env.limits.zset_max_listpack_entries {
            env = env.without_small_sorted_sets();
        }
        for (member, score) in pairs {
            result.set(env, member, score);
        }
    }
    store(call, call.arg(1), result);
    Ok(())
}

/// Puts a made sorted set in place of whatever a key holds, an empty one by deleting it; answers with its length.
pub(super) fn store(call: &mut Call<'_>, target: &[u8], result: Zset) {
    let len = result.len();
    if len > 0 {
        call.db.keys.set(target, Value::Zset(result), None, call.now.wall);
        // `zunionstore`, `zrangestore`... : the event has the command's name.
        call.changed(target, class::ZSET, call.name);
    } else if call.db.find(target, call.now).is_some() {
        call.delete(target);
    }
    call.reply.int(len as i64);
}

pub(super) fn zcount(call: &mut Call<'_>) -> Outcome {
    count(call, By::Score)
}

pub(super) fn zlexcount(call: &mut Call<'_>) -> Outcome {
    count(call, By::Lex)
}

fn count(call: &mut Call<'_>, by: By) -> Outcome {
    let range = Range::parse(by, call.arg(2), call.arg(3))?;
    let (from, to) = call.zset(call.arg(1))?.map_or((0, 0), |zset| range.ranks(zset, false));
    call.reply.int(to.saturating_sub(from) as i64);
    Ok(())
}

pub(super) fn zremrangebyrank(call: &mut Call<'_>) -> Outcome {
    remove(call, By::Rank)
}

pub(super) fn zremrangebyscore(call: &mut Call<'_>) -> Outcome {
    remove(call, By::Score)
}

pub(super) fn zremrangebylex(call: &mut Call<'_>) -> Outcome {
    remove(call, By::Lex)
}

fn remove(call: &mut Call<'_>, by: By) -> Outcome {
    let key = call.arg(1);
    let range = Range::parse(by, call.arg(2), call.arg(3))?;
    // Nothing in the range: nothing is touched.
    let ranks = match call.db.find(key, call.now).map(Entry::value) {
        None => (0, 0),
        Some(Value::Zset(zset)) => range.ranks(zset, false),
        Some(_) => return Err(WRONG_TYPE),
    };
    let mut removed = 0;
    if ranks.0 < ranks.1 {
        removed = call.change_zset(key, |zset, env| zset.remove_ranks(env, ranks.0, ranks.1))?.unwrap_or(0);
        call.shrunk(key, class::ZSET, call.name);
    }
    call.reply.int(removed as i64);
    Ok(())
}
