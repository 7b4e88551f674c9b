//! Small random histories, most of them nearly legal, against the definition. `SLOTSTORM_FUZZ_HISTORIES` asks for more
//! than the 100,000 of each model.

use std::collections::BTreeMap;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::reference::explainable;
use crate::answer::Answer;
use crate::txn::{Isolation, MicroOp, Model, Objects, Options, Order, Outcome, Span, TxnHistory, check};

pub(super) fn histories() -> u64 {
    std::env::var("SLOTSTORM_FUZZ_HISTORIES").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000)
}

#[test]
fn lists_agree_with_exhaustive_search_under_serializability() {
    agree_on_lists(Order::Data, 1);
}

#[test]
fn lists_agree_with_exhaustive_search_under_strong_session_serializability() {
    agree_on_lists(Order::Process, 2);
}

#[test]
fn lists_agree_with_exhaustive_search_under_strict_serializability() {
    agree_on_lists(Order::Realtime, 3);
}

fn agree_on_lists(order: Order, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let options =
        Options { expected: Model { isolation: Isolation::Serializable, order }, ..Options::default() };
    let mut legal = 0;
    for number in 0..histories() {
        let tiny = Tiny::random(&mut rng, Objects::Lists);
        let history = tiny.history();
        let expected = explainable(&history, order);
        legal += u64::from(expected);
        let report = check(&history, &options);
        match report.answer {
            Answer::Holds => {
                assert!(expected, "history {number} has no order, but none was missed:\n{tiny:?}");
            }
            Answer::Violated { .. } => {
                assert!(!expected, "history {number} has an order:\n{tiny:?}\n{report:#?}");
            }
            Answer::Unknown(unknown) => panic!("history {number}: {unknown:?}"),
        }
    }
    let share = legal as f64 / histories() as f64;
    assert!((0.2..0.8).contains(&share), "the generator is lopsided: {share} legal");
}

#[test]
fn registers_are_never_wrong_under_serializability() {
    never_wrong_on_registers(Order::Data, 4);
}

#[test]
fn registers_are_never_wrong_under_strong_session_serializability() {
    never_wrong_on_registers(Order::Process, 5);
}

#[test]
fn registers_are_never_wrong_under_strict_serializability() {
    never_wrong_on_registers(Order::Realtime, 6);
}

/// Violated and holds are both proofs; where every write returns what it replaced, one of them is always found.
fn never_wrong_on_registers(order: Order, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let options =
        Options { expected: Model { isolation: Isolation::Serializable, order }, ..Options::default() };
    let (mut legal, mut open, mut illegal_open) = (0, 0, 0);
    for number in 0..histories() {
        let mut tiny = Tiny::random(&mut rng, Objects::Registers);
        let evident = number % 2 == 0;
        if evident {
            tiny.read_before_each_write();
        }
        let history = tiny.history();
        let expected = explainable(&history, order);
        legal += u64::from(expected);
        let report = check(&history, &options);
        match report.answer {
            Answer::Holds => {
                assert!(expected, "history {number} has no order, but one was claimed:\n{tiny:?}");
            }
            Answer::Violated { .. } => {
                assert!(!expected, "history {number} has an order:\n{tiny:?}\n{report:#?}");
            }
            Answer::Unknown(unknown) => {
                let unsure = tiny.txns.iter().any(|(span, _)| span.outcome == Outcome::Info);
                assert!(!evident || unsure, "history {number}: {unknown:?}\n{tiny:?}");
                open += 1;
                illegal_open += u64::from(!expected);
            }
        }
    }
    let share = |part: u64| part as f64 / histories() as f64;
    assert!((0.1..0.9).contains(&share(legal)), "the generator is lopsided: {} legal", share(legal));
    assert!(share(open) < 0.03, "{} open, {} of them illegal", share(open), share(illegal_open));
}

/// A history as loose parts, so that it can be broken.
#[derive(Clone, Debug)]
pub(super) struct Tiny {
    pub objects: Objects,
    pub txns: Vec<(Span, Vec<Step>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Write(u32, u64),
    Read(u32, Vec<u64>),
}

impl Tiny {
    /// Transactions that ran one at a time, with times round that; then some things are changed.
    pub fn random(rng: &mut ChaCha8Rng, objects: Objects) -> Self {
        let count = rng.random_range(2..=6);
        let mut tiny = Self::legal(rng, objects, count, 3, 3);
        for _ in 0..*[0, 2, 4, 6].choose(rng).unwrap_or(&0) {
            tiny.change(rng);
        }
        tiny
    }

    /// Nothing in it is wrong under any model.
    pub fn legal(rng: &mut ChaCha8Rng, objects: Objects, count: u32, keys: u32, processes: u32) -> Self {
        let mut state: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let mut value = 0;
        let mut txns: Vec<(Span, Vec<Step>)> = Vec::new();
        let mut free: Vec<(u32, u64)> = (0..processes).map(|process| (process, 0)).collect();
        let mut fresh = processes;
        for at in 0..count {
            // A transaction takes effect at its own moment, somewhere in its span; spans overlap.
            let moment = u64::from(at) * 10 + 100;
            let slot = rng.random_range(0..free.len());
            let (mut process, free_from) = free[slot];
            if free_from > moment {
                fresh += 1;
                process = fresh;
            }
            let earliest = if free_from > moment { 0 } else { free_from };
            let invoked = rng.random_range(earliest.max(moment.saturating_sub(25))..=moment);
            let returned = moment + rng.random_range(0..25);
            let outcome = *[Outcome::Ok, Outcome::Ok, Outcome::Ok, Outcome::Ok, Outcome::Info, Outcome::Fail]
                .choose(rng)
                .unwrap_or(&Outcome::Ok);
            let happens = outcome == Outcome::Ok || (outcome == Outcome::Info && rng.random());
            let before = state.clone();
            let mut steps = Vec::new();
            for _ in 0..rng.random_range(1..=3) {
                let key = rng.random_range(0..keys);
                let content = state.entry(key).or_default();
                if rng.random() {
                    value += 1;
                    if objects == Objects::Registers {
                        content.clear();
                    }
                    content.push(value);
                    steps.push(Step::Write(key, value));
                } else {
                    steps.push(Step::Read(key, content.clone()));
                }
            }
            if !happens {
                state = before;
            }
            free[slot] = if outcome == Outcome::Info {
                fresh += 1;
                (fresh, returned + 1)
            } else {
                (process, returned + 1)
            };
            txns.push((Span { process, invoked, returned, outcome }, steps));
        }
        Self { objects, txns }
    }

    fn change(&mut self, rng: &mut ChaCha8Rng) {
        let values: Vec<u64> = self.writes().map(|(_, value)| value).chain([77]).collect();
        let at = rng.random_range(0..self.txns.len());
        let (span, steps) = &mut self.txns[at];
        if rng.random_ratio(1, 4) {
            // A process does one thing at a time: at another time it must be another one.
            span.process = 100 + at as u32;
            match rng.random_range(0..3) {
                0 => {
                    let outcomes = [Outcome::Ok, Outcome::Info, Outcome::Fail];
                    span.outcome = *outcomes.choose(rng).unwrap_or(&Outcome::Ok);
                }
                1 => span.returned = span.invoked + rng.random_range(0..8),
                _ => {
                    let shift = rng.random_range(0..40);
                    span.invoked += shift;
                    span.returned += shift;
                }
            }
            return;
        }
        let mut reads: Vec<&mut Vec<u64>> = steps
            .iter_mut()
            .filter_map(|step| match step {
                Step::Read(_, seen) => Some(seen),
                Step::Write(..) => None,
            })
            .collect();
        let Some(read) = (!reads.is_empty()).then(|| rng.random_range(0..reads.len())) else { return };
        let seen = &mut *reads[read];
        if self.objects == Objects::Registers {
            seen.clear();
            seen.extend(values.choose(rng).filter(|_| rng.random_ratio(4, 5)));
            return;
        }
        match rng.random_range(0..4) {
            0 => drop(seen.pop()),
            1 => seen.extend(values.choose(rng)),
            2 if seen.len() > 1 => seen.swap(0, 1),
            _ if !seen.is_empty() => drop(seen.remove(0)),
            _ => {}
        }
    }

    /// Gives each write of a completed transaction a read of its key before it, of what a run in the order of the
    /// transactions would show (the changes made before may contradict that).
    fn read_before_each_write(&mut self) {
        let mut state: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (span, steps) in &mut self.txns {
            let mut evident = Vec::new();
            for step in steps.drain(..) {
                if let Step::Write(key, value) = &step {
                    evident.push(Step::Read(*key, state.get(key).cloned().unwrap_or_default()));
                    if span.outcome != Outcome::Fail {
                        state.insert(*key, vec![*value]);
                    }
                }
                evident.push(step);
            }
            *steps = evident;
        }
    }

    pub fn writes(&self) -> impl Iterator<Item = (u32, u64)> {
        self.txns.iter().flat_map(|(_, steps)| steps).filter_map(|step| match step {
            Step::Write(key, value) => Some((*key, *value)),
            Step::Read(..) => None,
        })
    }

    pub fn history(&self) -> TxnHistory {
        let mut history = TxnHistory::new(self.objects);
        for (span, steps) in &self.txns {
            let known = span.outcome == Outcome::Ok;
            let micros = steps.iter().map(|step| match step {
                Step::Write(key, value) => MicroOp::Write { key: *key, value: *value },
                Step::Read(key, _) if !known => MicroOp::ReadUnknown { key: *key },
                Step::Read(key, seen) if self.objects == Objects::Lists => {
                    MicroOp::ReadList { key: *key, elements: seen }
                }
                Step::Read(key, seen) => MicroOp::ReadRegister { key: *key, value: seen.first().copied() },
            });
            history.push(*span, micros);
        }
        history
    }
}
