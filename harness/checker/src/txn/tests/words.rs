//! Histories in a short script: `a x 1` appends 1 to x, `r x 1 2` read 1 and 2 there, `w x 1` sets a register, `r x _`
//! read nil; micro-operations are parted by commas.

use crate::answer::{Answer, Witness};
use crate::txn::{MicroOp, Model, Objects, Options, Outcome, Report, Span, TxnHistory, check};

pub(super) struct Script {
    history: TxnHistory,
    names: Vec<String>,
    clock: u64,
}

impl Script {
    pub fn lists() -> Self {
        Self { history: TxnHistory::new(Objects::Lists), names: Vec::new(), clock: 0 }
    }

    pub fn registers() -> Self {
        Self { history: TxnHistory::new(Objects::Registers), names: Vec::new(), clock: 0 }
    }

    /// All at once, each by a process of its own.
    pub fn together(mut self, txns: &[&str]) -> Self {
        for txn in txns {
            let process = self.history.len() as u32;
            self = self.at(process, 0, 1, Outcome::Ok, txn);
        }
        self.clock = 2;
        self
    }

    /// After everything before it, by this process.
    pub fn then(mut self, process: u32, txn: &str) -> Self {
        self.clock += 2;
        let now = self.clock;
        self.at(process, now, now + 1, Outcome::Ok, txn)
    }

    pub fn failed(self, txn: &str) -> Self {
        let process = self.history.len() as u32;
        self.at(process, 0, 1, Outcome::Fail, txn)
    }

    pub fn unknown(self, txn: &str) -> Self {
        let process = self.history.len() as u32;
        self.at(process, 0, 0, Outcome::Info, txn)
    }

    pub fn at(mut self, process: u32, invoked: u64, returned: u64, outcome: Outcome, txn: &str) -> Self {
        let mut lists: Vec<Vec<u64>> = Vec::new();
        let mut parsed = Vec::new();
        for micro in txn.split(',') {
            let words: Vec<&str> = micro.split_whitespace().collect();
            let key = self.key(words[1]);
            lists.push(words[2..].iter().filter_map(|word| word.parse().ok()).collect());
            parsed.push((words[0], key));
        }
        let lists_kept = self.history.objects() == Objects::Lists;
        let micros = parsed.iter().zip(&lists).map(|((what, key), list)| match *what {
            "r" if lists_kept => MicroOp::ReadList { key: *key, elements: list },
            "r" => MicroOp::ReadRegister { key: *key, value: list.first().copied() },
            "u" => MicroOp::ReadUnknown { key: *key },
            _ => MicroOp::Write { key: *key, value: list[0] },
        });
        self.history.push(Span { process, invoked, returned, outcome }, micros);
        self
    }

    fn key(&mut self, name: &str) -> u32 {
        if let Some(at) = self.names.iter().position(|known| known == name) {
            return at as u32;
        }
        self.names.push(name.to_owned());
        self.names.len() as u32 - 1
    }

    pub fn check(mut self, model: &str) -> Report {
        self.history.name_keys(self.names);
        let expected = Model::parse(model).expect("a known model");
        check(&self.history, &Options { expected, ..Options::default() })
    }

    /// The classes that violate the model, each once, sorted.
    pub fn violations(self, model: &str) -> Vec<&'static str> {
        classes(&witnesses(&self.check(model)))
    }
}

pub(super) fn witnesses(report: &Report) -> Vec<Witness> {
    match &report.answer {
        Answer::Violated { witnesses, .. } => witnesses.clone(),
        Answer::Holds | Answer::Unknown(_) => Vec::new(),
    }
}

pub(super) fn classes(witnesses: &[Witness]) -> Vec<&'static str> {
    let mut classes: Vec<_> = witnesses.iter().map(|witness| witness.class).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}
