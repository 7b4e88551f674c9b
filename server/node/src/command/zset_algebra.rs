//! Unions, intersections and differences of sorted sets, with which sets go too: their members score 1.

use super::call::{Call, is};
use super::fault::{Fault, NOT_INTEGER, Outcome, SYNTAX, WRONG_TYPE, text};
use super::zset_ranges::store;
use super::zsets::put_pairs;
use crate::keyspace::number::parse_i64;
use crate::keyspace::set::Set;
use crate::keyspace::zset::Zset;
use crate::keyspace::{Entry, Env, Value, score};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// What becomes of the scores of a member of several sets.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            // Infinities that cancel out count as nothing.
            Self::Sum => Some(a + b).filter(|sum| !sum.is_nan()).unwrap_or(0.0),
            Self::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Self::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

/// One of the sets.
#[derive(Clone, Copy)]
enum Source<'a> {
    Set(&'a Set),
    Zset(&'a Zset),
    Nothing,
}

impl Source<'_> {
    fn len(self) -> usize {
        match self {
            Self::Set(set) => set.len(),
            Self::Zset(zset) => zset.len(),
            Self::Nothing => 0,
        }
    }

    fn score(self, env: Env, member: &[u8]) -> Option<f64> {
        match self {
            Self::Set(set) => set.contains(env, member).then_some(1.0),
            Self::Zset(zset) => zset.score(env, member),
            Self::Nothing => None,
        }
    }

    fn each(self, mut each: impl FnMut(&[u8], f64)) {
        match self {
            Self::Set(set) => set.iter_from(0).for_each(|member| member.with(|member| each(member, 1.0))),
            Self::Zset(zset) => zset.iter_from(0).for_each(|(member, score)| each(member, score)),
            Self::Nothing => {}
        }
    }
}

/// What is asked for.
struct Request<'a> {
    operation: Operation,
    keys: Vec<&'a [u8]>,
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Of ZINTERCARD; 0 is none.
    limit: usize,
}

/// Which options there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Answer,
    Store,
    Count,
}

impl<'a> Request<'a> {
    /// Reads it from the argument that counts the keys on.
    fn parse(call: &mut Call<'a>, operation: Operation, form: Form) -> Result<Self, Fault> {
        let count_at = if form == Form::Store { 2 } else { 1 };
        let count = parse_i64(call.arg(count_at)).ok_or(NOT_INTEGER)?;
        if count < 1 {
            return Err(Fault::new(format!(
                "ERR at least 1 input key is needed for '{}' command",
                call.name
            )));
        }
        let first = count_at + 1;
        if count > (call.args.len() - first) as i64 {
            return Err(SYNTAX);
        }
        let count = count as usize;
        let keys: Vec<&[u8]> = (first..first + count).map(|index| call.arg(index)).collect();
        for key in &keys {
            if !matches!(call.db.read(key, call.now), None | Some(Value::Zset(_) | Value::Set(_))) {
                return Err(WRONG_TYPE);
            }
        }
        let mut request = Self {
            operation,
            weights: vec![1.0; count],
            keys,
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: 0,
        };
        let weighs = operation != Operation::Diff && form != Form::Count;
        let mut index = first + count;
        while index < call.args.len() {
            let left = call.args.len() - index;
            let word = call.arg(index);
            if weighs && left > count && is(word, "WEIGHTS") {
                for (nth, weight) in request.weights.iter_mut().enumerate() {
                    *weight = score::parse(call.arg(index + 1 + nth))
                        .ok_or(text("ERR weight value is not a float"))?;
                }
                index += count;
            } else if weighs && left >= 2 && is(word, "AGGREGATE") {
                index += 1;
                request.aggregate = match call.arg(index) {
                    word if is(word, "SUM") => Aggregate::Sum,
                    word if is(word, "MIN") => Aggregate::Min,
                    word if is(word, "MAX") => Aggregate::Max,
                    _ => return Err(SYNTAX),
                };
            } else if form == Form::Answer && is(word, "WITHSCORES") {
                request.with_scores = true;
            } else if form == Form::Count && left >= 2 && is(word, "LIMIT") {
                index += 1;
                let limit = parse_i64(call.arg(index)).and_then(|limit| usize::try_from(limit).ok());
                request.limit = limit.ok_or(text("ERR LIMIT can't be negative"))?;
            } else {
                return Err(SYNTAX);
            }
            index += 1;
        }
        Ok(request)
    }

    /// The result, always in the big form: a small one does not know -0, which is an answer.
    fn run(&self, call: &Call<'_>) -> Zset {
        let env = call.db.keys.env().without_small_sorted_sets();
        let mut sources: Vec<(Source<'_>, f64)> =
            self.keys.iter().zip(&self.weights).map(|(key, &weight)| (source(call, key), weight)).collect();
        let mut result = Zset::default();
        if self.operation == Operation::Diff {
            let Some(((first, _), others)) = sources.split_first() else { return result };
            first.each(|member, score| {
                if !others.iter().any(|(other, _)| other.score(env, member).is_some()) {
                    result.set(env, member, score);
                }
            });
            return result;
        }
        // Smallest first, as in Redis: sums depend on the order.
        sources.sort_by_key(|(source, _)| source.len());
        let weighed = |score: f64, weight: f64| Some(score * weight).filter(|it| !it.is_nan()).unwrap_or(0.0);
        if self.operation == Operation::Union {
            for (source, weight) in sources {
                source.each(|member, score| {
                    let mut score = weighed(score, weight);
                    if let Some(other) = result.score(env, member) {
                        score = self.aggregate.of(other, score);
                        // 0 may become -0, which would count as no change.
                        if score == 0.0 {
                            result.remove(env, member);
                        }
                    }
                    result.set(env, member, score);
                });
            }
            return result;
        }
        let Some(((first, weight), others)) = sources.split_first() else { return result };
        first.each(|member, score| {
            let start = Some(weighed(score, *weight));
            let all = others.iter().fold(start, |all, (other, weight)| {
                let other = other.score(env, member)? * weight;
                Some(self.aggregate.of(all?, other))
            });
            let wanted = self.limit == 0 || result.len() < self.limit;
            if let Some(score) = all.filter(|_| wanted) {
                result.set(env, member, score);
            }
        });
        result
    }
}

/// The set of a key; it was checked that it is one.
fn source<'a>(call: &'a Call<'_>, key: &[u8]) -> Source<'a> {
    let there = call.db.is_there(key, call.now);
    match call.db.keys.get(key).filter(|_| there).map(Entry::value) {
        Some(Value::Set(set)) => Source::Set(set),
        Some(Value::Zset(zset)) => Source::Zset(zset),
        _ => Source::Nothing,
    }
}

fn answer(call: &mut Call<'_>, operation: Operation) -> Outcome {
    let request = Request::parse(call, operation, Form::Answer)?;
    let result = request.run(call);
    if request.with_scores {
        put_pairs(&mut call.reply, result.len(), result.iter_from(0), true);
    } else {
        call.reply.array(result.len());
        result.iter_from(0).for_each(|(member, _)| call.reply.bulk(member));
    }
    Ok(())
}

fn keep(call: &mut Call<'_>, operation: Operation) -> Outcome {
    let result = Request::parse(call, operation, Form::Store)?.run(call).packed_if_small(call.db.keys.env());
    store(call, call.arg(1), result);
    Ok(())
}

pub(super) fn zunion(call: &mut Call<'_>) -> Outcome {
    answer(call, Operation::Union)
}

pub(super) fn zinter(call: &mut Call<'_>) -> Outcome {
    answer(call, Operation::Inter)
}

pub(super) fn zdiff(call: &mut Call<'_>) -> Outcome {
    answer(call, Operation::Diff)
}

pub(super) fn zunionstore(call: &mut Call<'_>) -> Outcome {
    keep(call, Operation::Union)
}

pub(super) fn zinterstore(call: &mut Call<'_>) -> Outcome {
    keep(call, Operation::Inter)
}

pub(super) fn zdiffstore(call: &mut Call<'_>) -> Outcome {
    keep(call, Operation::Diff)
}

pub(super) fn zintercard(call: &mut Call<'_>) -> Outcome {
    let request = Request::parse(call, Operation::Inter, Form::Count)?;
    let len = request.run(call).len();
    call.reply.int(len as i64);
    Ok(())
}
