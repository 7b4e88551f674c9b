//! The judge while the storm runs. Lines of the bus and facts of the storm come from two threads, each in its own order;
//! a line is judged once every fact up to its time is known to be here. So the storm is judged as it goes exactly as
//! its record will be, which is judged by the same code.

use std::collections::{BTreeMap, VecDeque};

use super::judge::{Fact, WireJudge, WireOptions};
use crate::record::verdict::{Finding, Wire};
use crate::record::{BusLine, Nanos};

/// Lines that may wait for the facts up to their time; beyond it the oldest is judged with what is known.
const WAITING_MAX: usize = 100_000;

/// Puts lines and facts in one order, and the judge before them.
#[derive(Debug)]
pub struct LiveJudge {
    judge: WireJudge,
    /// By time, and in the order of arrival.
    facts: BTreeMap<Nanos, Vec<Fact>>,
    lines: VecDeque<(u64, BusLine)>,
    /// Lines so far, as `bus.jsonl` numbers them.
    number: u64,
    /// All facts up to here are known.
    known: Nanos,
    hasty: u64,
}

impl LiveJudge {
    /// A judge of a cluster that is watched from its first connection.
    pub fn new(options: WireOptions) -> Self {
        Self {
            judge: WireJudge::new(options),
            facts: BTreeMap::new(),
            lines: VecDeque::new(),
            number: 0,
            known: 0,
            hasty: 0,
        }
    }

    /// The next line of `bus.jsonl`.
    pub fn line(&mut self, line: &BusLine) {
        self.number += 1;
        self.lines.push_back((self.number, line.clone()));
        if self.lines.len() > WAITING_MAX {
            self.hasty += 1;
            self.judge_next();
        }
    }

    /// What happened beside the bus.
    pub fn fact(&mut self, time: Nanos, fact: Fact) {
        self.facts.entry(time).or_default().push(fact);
    }

    /// No fact will come any more that happened at this time or before. Judges what waited for that, and answers what
    /// was found since it was asked last.
    pub fn known_up_to(&mut self, time: Nanos) -> Vec<Finding> {
        self.known = self.known.max(time);
        while self.lines.front().is_some_and(|(_, line)| line.time <= self.known) {
            self.judge_next();
        }
        self.judge.new_findings()
    }

    /// Judges the rest. Lines that could not wait make the answer differ from the record's, perhaps; how many, is told.
    pub fn finish(mut self) -> (Wire, u64) {
        while !self.lines.is_empty() {
            self.judge_next();
        }
        self.facts_until(Nanos::MAX);
        (self.judge.finish(), self.hasty)
    }

    /// Entries that are kept, all tables together.
    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.lines.len() + self.facts.len() + self.judge.size()
    }

    fn judge_next(&mut self) {
        let Some((number, line)) = self.lines.pop_front() else { return };
        self.facts_until(line.time);
        self.judge.on(number, &line);
    }

    fn facts_until(&mut self, time: Nanos) {
        while let Some(first) = self.facts.first_entry().filter(|first| *first.key() <= time) {
            let (time, facts) = first.remove_entry();
            for fact in &facts {
                self.judge.fact(time, fact);
            }
        }
    }
}
