//! A counter: INCRBY with or without a reply, GET.
//!
//! With one constant step the value is the number of increments so far, so that every reply is a rank, and increments
//! without reply fill the ranks that are missing. Steps of several sizes with lost replies are a subset sum: search.

use super::findings::{Findings, in_time, witness};
use super::op::{Op, Status, numbered};
use super::places::{Misfit, fill};
use super::rank::{Ranked, sweep};
use super::search::{self, Limits, Model, uniform};
use crate::answer::Answer;

/// An increment whose reply was not recorded.
pub const SILENT: i64 = i64::MIN;

/// An operation on a counter that begins at 0 (an absent key).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// INCRBY, and the new value that it answered, or [`SILENT`].
    Add { by: i64, reply: i64 },
    /// GET answered this.
    Get(i64),
}

/// Is there one order of these operations that a counter explains?
pub fn counter(ops: &[Op<Counter>], limits: &Limits<'_>) -> Answer {
    let mut steps = ops.iter().filter(|op| op.status != Status::Failed).filter_map(|op| match op.kind {
        Counter::Add { by, .. } => Some(by),
        Counter::Get(_) => None,
    });
    let step = steps.next().unwrap_or(1);
    if step <= 0 || steps.any(|other| other != step) {
        return search::decide(&CounterModel::default(), ops, None, limits);
    }
    let mut ranks = Ranks { ops, step, by_rank: Vec::new(), pool: Vec::new(), findings: Findings::default() };
    ranks.collect();
    ranks.judge();
    ranks.findings.answer()
}

struct Ranks<'a> {
    ops: &'a [Op<Counter>],
    step: i64,
    by_rank: Vec<Ranked>,
    /// Increments without a reply.
    pool: Vec<u32>,
    findings: Findings,
}

impl Ranks<'_> {
    /// Rank 2n is the nth increment, rank 2n + 1 are the reads of n.
    fn collect(&mut self) {
        let adds = |op: &&Op<Counter>| op.status != Status::Failed && matches!(op.kind, Counter::Add { .. });
        let most = self.ops.iter().filter(adds).count() as u64;
        for (id, op) in numbered(self.ops).filter(|(_, op)| op.status != Status::Failed) {
            let (value, is_read) = match (op.kind, op.status) {
                (Counter::Get(_), Status::Unknown) => continue,
                (Counter::Get(value), _) => (value, true),
                (Counter::Add { reply: SILENT, .. }, _) | (_, Status::Unknown) => {
                    self.pool.push(id);
                    continue;
                }
                (Counter::Add { reply, .. }, _) => (reply, false),
            };
            let count = u64::try_from(value).ok().filter(|value| value % self.step as u64 == 0);
            let count = count.map(|value| value / self.step as u64);
            match count.filter(|&count| count <= most && (is_read || count > 0)) {
                Some(count) => self.by_rank.push(Ranked::new(count as u32 * 2 + u32::from(is_read), id)),
                None => self.garbage(id, value, most),
            }
        }
    }

    fn garbage(&mut self, id: u32, value: i64, most: u64) {
        let (ops, step) = (self.ops, self.step);
        self.findings.add("garbage-read", || {
            let sentence =
                format!("the counter answered {value}, but there were only {most} increments of {step}");
            witness(ops, "garbage-read", &[id], sentence)
        });
    }

    fn judge(&mut self) {
        let (ops, step) = (self.ops, self.step);
        let findings = &mut self.findings;
        sweep(&mut self.by_rank, ops, |early, late| {
            let (class, words) = match (ops[late.id() as usize].kind, ops[early.id() as usize].kind) {
                (Counter::Get(_), _) => ("stale-read", "was read after"),
                (Counter::Add { .. }, Counter::Get(_)) => {
                    ("future-read", "was reached by an increment that was called after")
                }
                _ => ("lost-write", "was answered to an increment that was called after"),
            };
            findings.add(class, || {
                let value = |item: Ranked| i64::from(item.rank() / 2) * step;
                let sentence = format!("{} {words} {} had been answered", value(late), value(early));
                let mut witness = witness(ops, class, &[early.id(), late.id()], sentence);
                witness.links.push(in_time(early.id(), late.id()));
                witness
            });
        });
        self.duplicates();
        self.fill_gaps();
    }

    /// Two increments cannot both have made the same value.
    fn duplicates(&mut self) {
        let (ops, step) = (self.ops, self.step);
        for pair in
            self.by_rank.windows(2).filter(|pair| pair[0].rank() == pair[1].rank() && pair[0].rank() % 2 == 0)
        {
            self.findings.add("lost-write", || {
                let sentence = format!(
                    "two increments both answered {}: one was lost",
                    i64::from(pair[0].rank() / 2) * step
                );
                witness(ops, "lost-write", &[pair[0].id(), pair[1].id()], sentence)
            });
        }
    }

    fn fill_gaps(&mut self) {
        let (ops, step) = (self.ops, self.step);
        let Some(last) = self.by_rank.last() else { return };
        let mut free = Vec::new();
        let mut next = 2;
        for item in self.by_rank.iter().filter(|item| item.rank() % 2 == 0) {
            free.extend((next..item.rank()).step_by(2));
            next = item.rank() + 2;
        }
        free.extend((next..=last.rank()).step_by(2));
        let findings = &mut self.findings;
        fill(&self.by_rank, &free, std::mem::take(&mut self.pool), ops, |misfit| match misfit {
            Misfit::Gap { rank, bound } => findings.add("gap", || {
                let sentence = format!(
                    "{} was answered, but no increment can have made it {}",
                    i64::from(bound.rank() / 2) * step,
                    i64::from(rank / 2) * step
                );
                witness(ops, "gap", &[bound.id()], sentence)
            }),
            Misfit::Lost { id, bound } => findings.add("lost-write", || {
                let sentence = format!(
                    "an acknowledged increment is missing: {} was answered to an operation called after it",
                    i64::from(bound.rank() / 2) * step
                );
                let mut witness = witness(ops, "lost-write", &[id, bound.id()], sentence);
                witness.links.push(in_time(id, bound.id()));
                witness
            }),
        });
    }
}

/// The counter as a sequential object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterModel(pub i64);

impl Model for CounterModel {
    type Kind = Counter;
    type Undo = i64;

    fn apply(&mut self, kind: Counter, known: bool) -> Option<i64> {
        let old = self.0;
        match kind {
            Counter::Get(value) => (value == old).then_some(old),
            Counter::Add { by, reply } => {
                let new = old.checked_add(by)?;
                if known && reply != SILENT && reply != new {
                    return None;
                }
                self.0 = new;
                Some(old)
            }
        }
    }

    fn undo(&mut self, _kind: Counter, old: i64) {
        self.0 = old;
    }

    fn fingerprint(&self) -> u128 {
        uniform(1 << 100 | u128::from(self.0 as u64))
    }

    fn only_reads(kind: Counter) -> bool {
        matches!(kind, Counter::Get(_))
    }
}
