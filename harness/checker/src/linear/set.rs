//! A set that only grows: SADD of unique elements, SMEMBERS of everything.
//!
//! Reads must contain one another; the smallest read that has an element gives it its rank. Elements that no read has come
//! last if their SADD was acknowledged, and are left out if nobody knows.

use super::findings::{Findings, in_time, witness};
use super::op::{Op, Status, numbered};
use super::rank::{Ranked, sweep};
use super::values::{NONE, ValueIndex};
use crate::answer::Answer;

/// An operation on a set that begins empty. What reads saw stands in a slice beside the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Set {
    /// SADD of one element.
    Add(u64),
    /// SMEMBERS answered these, in any order: `elements[start..][..len]`.
    Read { start: u64, len: u32 },
}

/// Is there one order of these operations that a set explains?
pub fn set(ops: &[Op<Set>], elements: &[u64]) -> Answer {
    let mut check = Check { ops, elements, findings: Findings::default() };
    let index = check.index();
    let reads = check.reads(&index);
    let (first_seen, chain) = check.chain(&index, &reads);
    drop((index, reads)); // a third of what this check needs beside the history
    check.judge(&first_seen, &chain);
    check.findings.answer()
}

struct Check<'a> {
    ops: &'a [Op<Set>],
    elements: &'a [u64],
    findings: Findings,
}

impl<'a> Check<'a> {
    fn index(&self) -> ValueIndex {
        let added = || {
            numbered(self.ops).filter_map(|(id, op)| match op.kind {
                Set::Add(element) => Some((id, element)),
                Set::Read { .. } => None,
            })
        };
        let mut index = ValueIndex::over(added().map(|(_, element)| element));
        for (id, element) in added() {
            index.insert(element, id);
        }
        index
    }

    fn read(&self, id: u32) -> &'a [u64] {
        match self.ops[id as usize].kind {
            Set::Read { start, len } => &self.elements[start as usize..][..len as usize],
            Set::Add(_) => &[],
        }
    }

    /// For each add the place of the first read that has it, and those reads that contain one another, each with the
    /// place where its content first appeared.
    fn chain(&mut self, index: &ValueIndex, reads: &[u32]) -> (Vec<u32>, Vec<(u32, u32)>) {
        let mut first_seen = vec![NONE; self.ops.len()];
        let mut last_seen = vec![NONE; self.ops.len()];
        let mut chain: Vec<(u32, u32)> = Vec::new();
        for &reader in reads {
            let place = chain.len() as u32;
            let elements = self.read(reader);
            let smaller = chain.last().map(|&(id, _)| self.read(id).len());
            if let Some(smaller) = smaller {
                let in_smaller = |element: &&u64| {
                    index.get(**element).is_some_and(|id| last_seen[id as usize] == place - 1)
                };
                if elements.iter().filter(in_smaller).count() < smaller {
                    self.incomparable(index, reader, chain[place as usize - 1].0);
                    continue;
                }
            }
            for id in elements.iter().filter_map(|&element| index.get(element)) {
                last_seen[id as usize] = place;
                let first = &mut first_seen[id as usize];
                *first = (*first).min(place);
            }
            let grown = smaller.is_none_or(|smaller| smaller < elements.len());
            let since = if grown { place } else { chain.last().map_or(0, |&(_, since)| since) };
            chain.push((reader, since));
        }
        (first_seen, chain)
    }

    /// Reads by size, without those that have elements from nowhere or twice.
    fn reads(&mut self, index: &ValueIndex) -> Vec<u32> {
        let is_read = |op: &Op<Set>| op.status == Status::Done && matches!(op.kind, Set::Read { .. });
        let all = numbered(self.ops).filter(|(_, op)| is_read(op)).map(|(id, _)| id);
        let mut reads: Vec<u32> = all.collect();
        let mut reader_of = vec![NONE; self.ops.len()];
        reads.retain(|&id| self.is_clean(index, id, &mut reader_of));
        reads.sort_by_key(|&id| self.read(id).len());
        reads
    }

    fn is_clean(&mut self, index: &ValueIndex, reader: u32, reader_of: &mut [u32]) -> bool {
        let ops = self.ops;
        let mut clean = true;
        for &element in self.read(reader) {
            let Some(id) = index.get(element) else {
                self.findings.add("garbage-read", || {
                    witness(ops, "garbage-read", &[reader], format!("{element} was read, which nobody added"))
                });
                clean = false;
                continue;
            };
            if std::mem::replace(&mut reader_of[id as usize], reader) == reader {
                self.findings.add("duplicate-effect", || {
                    witness(ops, "duplicate-effect", &[id, reader], format!("{element} is in the set twice"))
                });
                clean = false;
            } else if ops[id as usize].status == Status::Failed {
                self.findings.add("read-of-failed-write", || {
                    let sentence = format!("{element} was read, though its add was refused");
                    witness(ops, "read-of-failed-write", &[id, reader], sentence)
                });
            }
        }
        clean
    }

    /// Neither of two reads contains the other: each lacks an element that the other has.
    fn incomparable(&mut self, index: &ValueIndex, larger: u32, smaller: u32) {
        let ops = self.ops;
        let only_in = |one: u32, other: u32| {
            let mut others = self.read(other).to_vec();
            others.sort_unstable();
            self.read(one).iter().copied().find(|element| others.binary_search(element).is_err())
        };
        let lost = ops[smaller as usize].precedes(&ops[larger as usize]);
        let class = if lost { "lost-write" } else { "long-fork" };
        let (missing, extra) = (only_in(smaller, larger), only_in(larger, smaller));
        let ids = [missing, extra].into_iter().flatten().filter_map(|element| index.get(element));
        let ids: Vec<u32> = ids.chain([larger, smaller]).collect();
        self.findings.add(class, || {
            let show =
                |element: Option<u64>| element.map_or("nothing".to_owned(), |element| element.to_string());
            let (missing, extra) = (show(missing), show(extra));
            let sentence =
                format!("one read has {missing} and lacks {extra}, another has {extra} and lacks {missing}");
            let mut witness = witness(ops, class, &ids, sentence);
            if lost {
                witness.links.push(in_time(smaller, larger));
            }
            witness
        });
    }

    /// Rank 2i are the adds that read i saw first, 2i + 1 the reads of the same content.
    fn judge(&mut self, first_seen: &[u32], chain: &[(u32, u32)]) {
        let ops = self.ops;
        let top = chain.len() as u32 * 2;
        let mut ranked = Vec::with_capacity(ops.len());
        for (id, op) in numbered(ops).filter(|(_, op)| matches!(op.kind, Set::Add(_))) {
            match first_seen[id as usize] {
                NONE if op.status == Status::Done => ranked.push(Ranked::new(top, id)),
                NONE => {}
                place if op.status != Status::Failed => ranked.push(Ranked::new(place * 2, id)),
                _ => {}
            }
        }
        ranked.extend(chain.iter().map(|&(id, since)| Ranked::new(since * 2 + 1, id)));
        let last_read = chain.iter().map(|&(id, _)| ops[id as usize].call).max();
        let findings = &mut self.findings;
        sweep(&mut ranked, ops, |early, late| {
            let is_add = |item: Ranked| matches!(ops[item.id() as usize].kind, Set::Add(_));
            let never_seen = early.rank() == top;
            let gone = Some(ops[late.id() as usize].call) == last_read;
            let class = match (is_add(early), is_add(late)) {
                (true, _) if never_seen => "lost-write",
                (false, true) => "future-read",
                (_, false) if gone => "lost-write",
                _ => "stale-read",
            };
            findings.add(class, || explain(ops, class, (early, late), first_seen, chain));
        });
    }
}

fn explain(
    ops: &[Op<Set>],
    class: &'static str,
    (early, late): (Ranked, Ranked),
    first_seen: &[u32],
    chain: &[(u32, u32)],
) -> crate::answer::Witness {
    let name = |item: Ranked| match ops[item.id() as usize].kind {
        Set::Add(element) => format!("the add of {element}"),
        Set::Read { len, .. } => format!("a read of {len} elements"),
    };
    let sentence = match class {
        "lost-write" => format!(
            "{} was complete before {} was called, and nobody saw it afterwards",
            name(early),
            name(late)
        ),
        "future-read" => format!("{} saw the element before {} was called", name(early), name(late)),
        _ => format!(
            "{} was complete before {} was called, which comes before it in what reads saw",
            name(early),
            name(late)
        ),
    };
    let mut ids = vec![early.id(), late.id()];
    // Between two adds stands a read that has the one and lacks the other.
    let reader = chain.get(late.rank() as usize / 2).map(|&(id, _)| id);
    ids.extend(reader);
    // Between two reads stands an add that the one saw and the other did not.
    let between = |place: u32| place != NONE && place * 2 > late.rank() && place * 2 < early.rank();
    let stranger = (0..).zip(first_seen).find(|&(_, &place)| between(place)).map(|(id, _)| id);
    ids.extend(stranger);
    let mut witness = witness(ops, class, &ids, sentence);
    witness.links.push(in_time(early.id(), late.id()));
    witness
}
