//! A FIFO queue of unique elements: RPUSH, LPOP, and LPOP that found nothing.
//!
//! A history is wrong iff one of four patterns is in it (Henzinger, Sezgin, Vafeiadis, CONCUR 2013): an element from nowhere,
//! one taken twice, two taken against the order in which they were put, and an "empty" while something was certainly inside.
//! A pop of unknown outcome may have taken an element that nobody saw again: which one is a matching by deadlines. Only if
//! what was matched explains no "empty" the search has to look.

use std::collections::{BTreeSet, VecDeque};

use super::findings::{Findings, in_time, witness};
use super::op::{NEVER, NIL, Op, Status, numbered};
use super::search::{self, Limits, Model, uniform};
use super::values::{NONE, ValueIndex};
use crate::answer::{Answer, Unknown};

/// An operation on a queue that begins empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// RPUSH of one element.
    Enqueue(u64),
    /// LPOP answered this element (of an unknown pop the element means nothing).
    Dequeue(u64),
    /// LPOP answered nil.
    Empty,
}

/// Is there one order of these operations that a queue explains?
pub fn queue(ops: &[Op<Queue>], limits: &Limits<'_>) -> Answer {
    let mut check = Check { ops, findings: Findings::default() };
    let search = || search::decide(&QueueModel::default(), ops, None, limits);
    let Some(items) = check.items() else { return search() };
    let items = check.with_unknown_pops(items, true);
    check.order(&items);
    match check.decide_empties(&items) {
        Ok(()) => check.findings.answer(),
        Err(Undecided) => search(),
    }
}

/// Is there one order of these operations that a queue which hands out its elements in any order explains?
pub fn bag(ops: &[Op<Queue>]) -> Answer {
    let unknown = |reason: &str| Answer::Unknown(Unknown { reason: reason.to_owned(), checked_until: None });
    let mut check = Check { ops, findings: Findings::default() };
    let Some(items) = check.items() else {
        return unknown("an element was put in more than once, so that nobody can say which was taken");
    };
    let items = check.with_unknown_pops(items, false);
    match check.decide_empties(&items) {
        Ok(()) => check.findings.answer(),
        Err(Undecided) => unknown("what pops of unknown outcome took, and when, is not decided"),
    }
}

/// Another guess at what pops of unknown outcome took might do.
struct Undecided;

/// Elements that left without having come were brought by moves whose outcome is unknown (`silent`): at most one by each, and
/// not before the first of them was asked for. The puts that these moves then were, beside the place of the move.
pub fn arrivals(ops: &[Op<Queue>], silent: &[Op<()>]) -> Vec<(usize, Op<Queue>)> {
    let Some(call) = silent.iter().map(|op| op.call).min() else { return Vec::new() };
    let elements =
        |of: fn(Queue) -> Option<u64>| -> BTreeSet<u64> { ops.iter().filter_map(|op| of(op.kind)).collect() };
    let known = elements(|kind| if let Queue::Enqueue(element) = kind { Some(element) } else { None });
    let left = elements(|kind| if let Queue::Dequeue(element) = kind { Some(element) } else { None });
    let strangers = left.difference(&known).copied().filter(|&element| element != NIL);
    strangers
        .zip(silent.iter().enumerate())
        .map(|(element, (at, op))| (at, Op::unknown(op.process, call, Queue::Enqueue(element))))
        .collect()
}

/// An element that was certainly put in.
#[derive(Clone, Copy)]
struct Item {
    put: u32,
    /// NONE if it was never taken.
    taken: u32,
    put_call: u64,
    put_ret: u64,
    /// NEVER if it was never taken.
    take_call: u64,
    take_ret: u64,
}

/// What was put in before `from` must be gone by `until`, because of what that operation saw.
#[derive(Clone, Copy)]
struct Bound {
    from: u64,
    until: u64,
    by: u32,
}

impl Bound {
    /// In the order of `from`, each with the earliest end among itself and those behind it.
    fn tightest(mut bounds: Vec<Self>) -> Vec<Self> {
        bounds.sort_unstable_by_key(|bound| (bound.from, bound.by));
        for at in (1..bounds.len()).rev() {
            let next = bounds[at];
            let bound = &mut bounds[at - 1];
            if next.until < bound.until {
                (bound.until, bound.by) = (next.until, next.by);
            }
        }
        bounds
    }
}

struct Check<'a> {
    ops: &'a [Op<Queue>],
    findings: Findings,
}

impl Check<'_> {
    /// Pairs puts and takes, and finds elements from nowhere and those taken twice. None if an element was put twice.
    fn items(&mut self) -> Option<Vec<Item>> {
        let ops = self.ops;
        let put = || {
            numbered(ops).filter_map(|(id, op)| match op.kind {
                Queue::Enqueue(element) => Some((id, element, op.status)),
                _ => None,
            })
        };
        let mut index = ValueIndex::over(put().map(|(_, element, _)| element));
        for (id, element, _) in put().filter(|&(_, _, status)| status != Status::Failed) {
            if index.insert(element, id).is_some() {
                return None;
            }
        }
        for (id, element, _) in put().filter(|&(_, _, status)| status == Status::Failed) {
            index.insert(element, id);
        }
        let mut takes = vec![NONE; ops.len()];
        for (id, op) in numbered(ops).filter(|(_, op)| op.status == Status::Done) {
            let Queue::Dequeue(element) = op.kind else { continue };
            match index.get(element) {
                None => self.findings.add("garbage-read", || {
                    witness(ops, "garbage-read", &[id], format!("{element} was taken, which nobody put in"))
                }),
                Some(put) if ops[put as usize].status == Status::Failed => {
                    self.findings.add("read-of-failed-write", || {
                        let sentence = format!("{element} was taken, though putting it in was refused");
                        witness(ops, "read-of-failed-write", &[put, id], sentence)
                    });
                }
                Some(put) if takes[put as usize] != NONE => {
                    let other = takes[put as usize];
                    self.findings.add("duplicate-effect", || {
                        let sentence = format!("{element} was put in once and taken twice");
                        witness(ops, "duplicate-effect", &[put, other, id], sentence)
                    });
                }
                Some(put) => {
                    takes[put as usize] = id;
                    if op.precedes(&ops[put as usize]) {
                        self.findings.add("future-read", || {
                            let sentence = format!("{element} was taken before it was put in");
                            let mut witness = witness(ops, "future-read", &[put, id], sentence);
                            witness.links.push(in_time(id, put));
                            witness
                        });
                    }
                }
            }
        }
        let counts = |&(id, _, status): &(u32, u64, Status)| match status {
            Status::Done => true,
            Status::Unknown => takes[id as usize] != NONE,
            Status::Failed => false,
        };
        Some(put().filter(counts).map(|(id, _, _)| item(ops, id, takes[id as usize])).collect())
    }

    /// No element may be taken before another that was certainly put in before it, and no element may stay behind.
    fn order(&mut self, items: &[Item]) {
        let ops = self.ops;
        let mut by_put: Vec<u32> = (0..items.len() as u32).collect();
        by_put.sort_unstable_by_key(|&at| (items[at as usize].put_ret, at));
        let mut by_call: Vec<u32> =
            (0..items.len() as u32).filter(|&at| items[at as usize].taken != NONE).collect();
        by_call.sort_unstable_by_key(|&at| (items[at as usize].put_call, at));
        let mut before = by_put.iter().map(|&at| &items[at as usize]).peekable();
        let mut last: Option<&Item> = None;
        for item in by_call.iter().map(|&at| &items[at as usize]) {
            while let Some(next) = before.next_if(|next| next.put_ret < item.put_call) {
                if last.is_none_or(|last| last.take_call < next.take_call) {
                    last = Some(next);
                }
            }
            let Some(first) = last.filter(|first| item.take_ret < first.take_call) else { continue };
            let class = if first.taken == NONE { "lost-write" } else { "misordered" };
            self.findings.add(class, || {
                let (one, other) = (element(ops, first.put), element(ops, item.put));
                let fate = if first.taken == NONE { "was never taken" } else { "was taken after it" };
                let sentence = format!("{one} was put in before {other}, which was taken, and {fate}");
                let mut ids = vec![first.put, item.put, item.taken];
                ids.extend((first.taken != NONE).then_some(first.taken));
                let mut witness = witness(ops, class, &ids, sentence);
                witness.links.push(in_time(first.put, item.put));
                if first.taken != NONE {
                    witness.links.push(in_time(item.taken, first.taken));
                }
                witness
            });
        }
    }

    /// Elements that must have been taken, by a pop of unknown outcome: they were put in before one that was taken (if the
    /// queue is in order), or before somebody found nothing. Each such pop takes one, from its call on, so the pop that was called
    /// first takes the element that must be gone first; an element for which no pop is left was lost.
    fn with_unknown_pops(&mut self, mut items: Vec<Item>, in_order: bool) -> Vec<Item> {
        let ops = self.ops;
        let ids = |wanted: fn(&Op<Queue>) -> bool| {
            numbered(ops).filter(move |(_, op)| wanted(op)).map(|(id, _)| id)
        };
        let mut pops: Vec<u32> =
            ids(|op| op.status == Status::Unknown && matches!(op.kind, Queue::Dequeue(_))).collect();
        if pops.is_empty() {
            return items;
        }
        pops.sort_unstable_by_key(|&id| (ops[id as usize].call, id));
        let empties = ids(|op| op.status == Status::Done && op.kind == Queue::Empty).map(|id| Bound {
            from: ops[id as usize].call,
            until: ops[id as usize].ret,
            by: id,
        });
        let taken = items.iter().filter(|item| in_order && item.taken != NONE);
        let later = taken.map(|item| Bound { from: item.put_call, until: item.take_ret, by: item.taken });
        let bounds = Bound::tightest(empties.chain(later).collect());
        let mut due: Vec<(u64, usize, u32)> = Vec::new();
        for (at, item) in items.iter().enumerate().filter(|(_, item)| item.taken == NONE) {
            let first = bounds.partition_point(|bound| bound.from <= item.put_ret);
            due.extend(bounds.get(first).map(|bound| (bound.until, at, bound.by)));
        }
        due.sort_unstable();
        let mut pops = pops.into_iter().peekable();
        let mut lost = vec![false; items.len()];
        for (until, at, by) in due {
            let item = &mut items[at];
            if let Some(pop) = pops.next_if(|&pop| ops[pop as usize].call <= until) {
                (item.taken, item.take_call) = (pop, ops[pop as usize].call);
                continue;
            }
            lost[at] = true;
            self.findings.add("lost-write", || {
                let element = element(ops, item.put);
                let sentence = format!(
                    "{element} was put in and never taken, was gone for an operation that was called later, and no pop of unknown \
                     outcome is left that could have taken it"
                );
                witness(ops, "lost-write", &[item.put, by], sentence)
            });
        }
        // They are told of already.
        let mut lost = lost.into_iter();
        items.retain(|_| lost.next() != Some(true));
        items
    }

    /// What was taken for certain is judged alone first: no pop of unknown outcome excuses that.
    fn decide_empties(&mut self, items: &[Item]) -> Result<(), Undecided> {
        let is_pop = |op: &Op<Queue>| op.status == Status::Unknown && matches!(op.kind, Queue::Dequeue(_));
        if !self.ops.iter().any(is_pop) {
            self.empties(items);
            return Ok(());
        }
        let is_certain = |item: &&Item| self.ops.get(item.taken as usize).is_some_and(|op| !is_pop(op));
        let certain: Vec<Item> = items.iter().filter(is_certain).copied().collect();
        self.empties(&certain);
        if !self.findings.is_empty() {
            return Ok(());
        }
        self.empties(items);
        if self.findings.is_empty() { Ok(()) } else { Err(Undecided) }
    }

    /// An "empty" needs a moment at which nothing is certainly inside. An element is certainly inside strictly between the
    /// return of its put and the call of its take.
    fn empties(&mut self, items: &[Item]) {
        let ops = self.ops;
        let mut empties: Vec<u32> = numbered(ops)
            .filter(|(_, op)| op.status == Status::Done && op.kind == Queue::Empty)
            .map(|(id, _)| id)
            .collect();
        if empties.is_empty() {
            return;
        }
        empties.sort_unstable_by_key(|&id| (ops[id as usize].call, id));
        let mut inside: Vec<&Item> = items.iter().filter(|item| item.put_ret < item.take_call).collect();
        inside.sort_unstable_by_key(|item| (item.put_ret, item.put));
        let mut next = inside.iter().copied().peekable();
        // The run of overlapping intervals that began last: its start, its end, its members.
        let mut run: (u64, u64, Vec<&Item>) = (0, 0, Vec::new());
        for &id in &empties {
            let op = &ops[id as usize];
            while let Some(item) = next.next_if(|item| item.put_ret < op.call || item.put_ret < run.1) {
                if run.2.is_empty() || item.put_ret >= run.1 {
                    run = (item.put_ret, item.take_call, vec![item]);
                } else if item.take_call > run.1 {
                    run.1 = item.take_call;
                    run.2.push(item);
                }
            }
            if run.2.is_empty() || run.0 >= op.call || op.ret >= run.1 {
                continue;
            }
            self.findings.add("false-empty", || {
                let sentence =
                    "the queue answered that it was empty while at every moment something was inside"
                        .to_owned();
                let covers = run.2.iter().filter(|item| item.take_call > op.call && item.put_ret < op.ret);
                let mut ids = vec![id];
                for item in covers {
                    ids.push(item.put);
                    ids.extend((item.taken != NONE).then_some(item.taken));
                }
                witness(ops, "false-empty", &ids, sentence)
            });
        }
    }
}

fn item(ops: &[Op<Queue>], put: u32, taken: u32) -> Item {
    let (enqueue, dequeue) = (&ops[put as usize], ops.get(taken as usize));
    Item {
        put,
        taken,
        put_call: enqueue.call,
        put_ret: enqueue.ret,
        take_call: dequeue.map_or(NEVER, |op| op.call),
        take_ret: dequeue.map_or(NEVER, |op| op.ret),
    }
}

fn element(ops: &[Op<Queue>], put: u32) -> u64 {
    match ops[put as usize].kind {
        Queue::Enqueue(element) | Queue::Dequeue(element) => element,
        Queue::Empty => 0,
    }
}

/// The queue as a sequential object.
#[derive(Clone, Debug, Default)]
pub struct QueueModel {
    inside: VecDeque<u64>,
    /// How many were taken so far: gives each element a place that does not move.
    taken: u64,
    fingerprint: u128,
}

impl QueueModel {
    fn toggle(&mut self, place: u64, element: u64) {
        self.fingerprint ^= uniform(u128::from(place) << 64 | u128::from(element));
    }

    fn push_back(&mut self, element: u64) {
        self.toggle(self.taken + self.inside.len() as u64, element);
        self.inside.push_back(element);
    }

    fn pop_front(&mut self) -> Option<u64> {
        let element = self.inside.pop_front()?;
        self.toggle(self.taken, element);
        self.taken += 1;
        Some(element)
    }
}

impl Model for QueueModel {
    type Kind = Queue;
    /// The element that was taken.
    type Undo = u64;

    fn apply(&mut self, kind: Queue, known: bool) -> Option<u64> {
        match kind {
            Queue::Enqueue(element) => {
                self.push_back(element);
                Some(element)
            }
            Queue::Dequeue(element) => {
                if known && self.inside.front() != Some(&element) {
                    return None;
                }
                self.pop_front()
            }
            Queue::Empty => self.inside.is_empty().then_some(0),
        }
    }

    fn undo(&mut self, kind: Queue, element: u64) {
        match kind {
            Queue::Enqueue(_) => {
                self.inside.pop_back();
                self.toggle(self.taken + self.inside.len() as u64, element);
            }
            Queue::Dequeue(_) => {
                self.taken -= 1;
                self.inside.push_front(element);
                self.toggle(self.taken, element);
            }
            Queue::Empty => {}
        }
    }

    fn fingerprint(&self) -> u128 {
        self.fingerprint ^ u128::from(self.taken)
    }

    fn only_reads(kind: Queue) -> bool {
        kind == Queue::Empty
    }
}
