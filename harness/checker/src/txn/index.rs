//! The micro-operations grouped by key, in order of transactions: a counting sort, so that all work on a key is local.

use super::history::{MicroOp, TxnHistory};
use super::values::ValueMap;
use crate::txn::history::{Objects, Outcome};

/// A micro-operation and its transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub txn: u32,
    pub micro: u32,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Committed,
    /// Indeterminate, and none of its writes was ever seen: it may as well not have happened.
    Dropped,
    Aborted,
}

pub(super) struct Index<'a> {
    pub history: &'a TxnHistory,
    pub fates: Vec<Fate>,
    starts: Vec<u32>,
    steps: Vec<Step>,
}

impl<'a> Index<'a> {
    pub fn new(history: &'a TxnHistory) -> Self {
        let keys = history.keys() as usize;
        let mut starts = vec![0u32; keys + 2];
        for at in 0..history.micro_count() as u32 {
            starts[history.micro_key(at) as usize + 2] += 1;
        }
        for key in 2..starts.len() {
            starts[key] += starts[key - 1];
        }
        let mut steps = vec![Step { txn: 0, micro: 0 }; history.micro_count()];
        for txn in 0..history.len() as u32 {
            for micro in history.micro_range(txn) {
                let next = &mut starts[history.micro_key(micro) as usize + 1];
                steps[*next as usize] = Step { txn, micro };
                *next += 1;
            }
        }
        starts.pop();
        let mut index = Self { history, fates: Vec::new(), starts, steps };
        index.decide_fates();
        index
    }

    /// All that was done to a key; the steps of one transaction stand together, in their order.
    pub fn key(&self, key: u32) -> &[Step] {
        &self.steps[self.starts[key as usize] as usize..self.starts[key as usize + 1] as usize]
    }

    /// The same, a slice a transaction.
    pub fn groups(&self, key: u32) -> impl Iterator<Item = (u32, &[Step])> {
        self.key(key).chunk_by(|a, b| a.txn == b.txn).map(|group| (group[0].txn, group))
    }

    pub fn committed(&self, txn: u32) -> bool {
        self.fates[txn as usize] == Fate::Committed
    }

    /// Whether what its reads saw counts.
    pub fn reads_count(&self, txn: u32) -> bool {
        self.history.spans()[txn as usize].outcome == Outcome::Ok
    }

    /// The longest list that a completed transaction saw, and which one saw it (the first of several).
    pub fn longest(&self, key: u32) -> Option<(u32, &'a [u64])> {
        let mut longest: Option<(u32, Step)> = None;
        for step in self.key(key) {
            if let Some(len) = self.history.list_len(step.micro)
                && longest.is_none_or(|(longest, _)| len > longest)
                && self.reads_count(step.txn)
            {
                longest = Some((len, *step));
            }
        }
        longest.map(|(_, step)| match self.history.micro(step.micro) {
            MicroOp::ReadList { elements, .. } => (step.txn, elements),
            _ => (step.txn, &[][..]),
        })
    }

    /// What a completed transaction read of registers before it wrote them itself, each key once.
    pub fn outside_reads_of(&self, txn: u32) -> Vec<(u32, Option<u64>)> {
        let mut touched: Vec<u32> = Vec::new();
        let mut reads = Vec::new();
        if !self.reads_count(txn) {
            return reads;
        }
        for micro in self.history.micro_range(txn) {
            let key = self.history.micro_key(micro);
            if touched.contains(&key) {
                continue;
            }
            match self.history.micro(micro) {
                MicroOp::ReadRegister { value, .. } => reads.push((key, value)),
                MicroOp::Write { .. } => {}
                MicroOp::ReadList { .. } | MicroOp::ReadUnknown { .. } => continue,
            }
            touched.push(key);
        }
        reads
    }

    /// How many transactions read each value of each register from outside, sorted.
    pub fn outside_reads(&self) -> Vec<(u32, Option<u64>, u32)> {
        let txns = 0..self.history.len() as u32;
        let mut all: Vec<_> = txns.flat_map(|txn| self.outside_reads_of(txn)).collect();
        all.sort_unstable();
        all.chunk_by(|a, b| a == b).map(|same| (same[0].0, same[0].1, same.len() as u32)).collect()
    }

    /// An indeterminate transaction committed if and only if one of its writes was seen. That is exact: a write that
    /// nobody saw can be moved to the end of time, or left out.
    fn decide_fates(&mut self) {
        self.fates = self
            .history
            .spans()
            .iter()
            .map(|span| match span.outcome {
                Outcome::Ok => Fate::Committed,
                Outcome::Info => Fate::Dropped,
                Outcome::Fail => Fate::Aborted,
            })
            .collect();
        if !self.fates.contains(&Fate::Dropped) {
            return;
        }
        let mut unsure = ValueMap::default();
        for key in 0..self.history.keys() {
            unsure.clear();
            for step in self.key(key) {
                if self.history.spans()[step.txn as usize].outcome == Outcome::Info
                    && let MicroOp::Write { value, .. } = self.history.micro(step.micro)
                {
                    unsure.insert(value, step.txn);
                }
            }
            if unsure.is_empty() {
                continue;
            }
            let mut seen = Vec::new();
            match self.history.objects() {
                Objects::Lists => {
                    let (_, elements) = self.longest(key).unwrap_or_default();
                    seen.extend(elements.iter().filter_map(|element| unsure.get(*element)));
                }
                Objects::Registers => {
                    for step in self.key(key).iter().filter(|step| self.reads_count(step.txn)) {
                        if let MicroOp::ReadRegister { value: Some(value), .. } =
                            self.history.micro(step.micro)
                        {
                            seen.extend(unsure.get(value));
                        }
                    }
                }
            }
            for txn in seen {
                self.fates[txn as usize] = Fate::Committed;
            }
        }
    }
}
