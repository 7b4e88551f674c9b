//! A list that only grows: RPUSH of unique elements with the length that it answered, LRANGE of everything.
//!
//! All reads are prefixes of the longest, so an element's position in it is its rank; the length that RPUSH answered is one
//! too. Appends that nobody saw come behind every read.

use super::findings::{Findings, by_value, in_time, witness};
use super::op::{Op, Status, numbered};
use super::places::{Misfit, fill};
use super::rank::{Ranked, sweep};
use super::values::{NONE, ValueIndex};
use crate::answer::{Answer, Relation};

/// An operation on a list that begins empty. What reads saw stands in a slice beside the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    /// RPUSH of one element, and the length that it answered; 0 if that was not recorded.
    Append { element: u64, length: u32 },
    /// LRANGE 0 -1 answered these: `elements[start..][..len]`.
    Read { start: u64, len: u32 },
}

/// Is there one order of these operations that a list explains?
pub fn list(ops: &[Op<List>], elements: &[u64]) -> Answer {
    let mut check = Check { ops, elements, findings: Findings::default() };
    check.run();
    check.findings.answer()
}

struct Check<'a> {
    ops: &'a [Op<List>],
    elements: &'a [u64],
    findings: Findings,
}

impl<'a> Check<'a> {
    fn run(&mut self) {
        let index = self.index();
        let longest = self.longest();
        let seen = longest.map_or(&[][..], |id| self.read(id));
        let positions = self.positions(&index, longest, seen);
        let mut ranked = Vec::new();
        let mut pool = Vec::new();
        let mut by_length = Vec::new();
        for (id, op) in numbered(self.ops).filter(|(_, op)| op.status != Status::Failed) {
            match op.kind {
                List::Read { len, .. } => {
                    if op.status == Status::Done && self.is_prefix(id, longest, &index) {
                        ranked.push(Ranked::new(len * 2 + 1, id));
                    }
                }
                List::Append { length, .. } => {
                    let length = if op.status == Status::Done { length } else { 0 };
                    match (positions[id as usize], length) {
                        (NONE, 0) => pool.push(id),
                        (NONE, length) => by_length.push((length, id)),
                        (position, 0) => ranked.push(Ranked::new(position * 2, id)),
                        (position, length) if position == length => {
                            ranked.push(Ranked::new(position * 2, id));
                        }
                        (position, length) => self.wrong_length(id, longest, position, length),
                    }
                }
            }
        }
        self.behind_the_reads(&mut by_length, longest, seen, &index, &mut ranked);
        self.judge(&mut ranked, pool, longest, &index);
    }

    /// Where each element's append is. Two appends of one element are the workload's fault and judged as one.
    fn index(&self) -> ValueIndex {
        let appended = || {
            numbered(self.ops).filter_map(|(id, op)| match op.kind {
                List::Append { element, .. } => Some((id, element)),
                List::Read { .. } => None,
            })
        };
        let mut index = ValueIndex::over(appended().map(|(_, element)| element));
        for (id, element) in appended() {
            index.insert(element, id);
        }
        index
    }

    fn read(&self, id: u32) -> &'a [u64] {
        match self.ops[id as usize].kind {
            List::Read { start, len } => &self.elements[start as usize..][..len as usize],
            List::Append { .. } => &[],
        }
    }

    fn longest(&self) -> Option<u32> {
        let reads = numbered(self.ops).filter(|(_, op)| op.status == Status::Done);
        let lengths = reads.filter_map(|(id, op)| match op.kind {
            List::Read { len, .. } => Some((len, id)),
            List::Append { .. } => None,
        });
        lengths.max_by_key(|&(len, id)| (len, std::cmp::Reverse(id))).map(|(_, id)| id)
    }

    /// The position (from 1) of each append in the longest read.
    fn positions(&mut self, index: &ValueIndex, longest: Option<u32>, seen: &[u64]) -> Vec<u32> {
        let mut positions = vec![NONE; self.ops.len()];
        let Some(reader) = longest else { return positions };
        let ops = self.ops;
        for (position, &element) in (1..).zip(seen) {
            let Some(id) = index.get(element) else {
                self.findings.add("garbage-read", || {
                    witness(
                        ops,
                        "garbage-read",
                        &[reader],
                        format!("{element} was read, which nobody appended"),
                    )
                });
                continue;
            };
            if ops[id as usize].status == Status::Failed {
                self.findings.add("read-of-failed-write", || {
                    let sentence = format!("{element} was read, though its append was refused");
                    witness(ops, "read-of-failed-write", &[id, reader], sentence)
                });
            } else if positions[id as usize] != NONE {
                self.findings.add("duplicate-effect", || {
                    let sentence = format!("{element} was appended once and is in the list twice");
                    witness(ops, "duplicate-effect", &[id, reader], sentence)
                });
            } else {
                positions[id as usize] = position;
            }
        }
        positions
    }

    fn is_prefix(&mut self, id: u32, longest: Option<u32>, index: &ValueIndex) -> bool {
        let Some(reader) = longest else { return true };
        let (short, long) = (self.read(id), self.read(reader));
        if long.starts_with(short) {
            return true;
        }
        let ops = self.ops;
        let at = short.iter().zip(long).position(|(one, other)| one != other).unwrap_or(0);
        let (element, other) = (short[at], long[at]);
        if index.get(other).is_none() {
            // The longest read itself is wrong here, which has been said.
            return false;
        }
        let Some(append) = index.get(element) else {
            self.findings.add("garbage-read", || {
                witness(ops, "garbage-read", &[id], format!("{element} was read, which nobody appended"))
            });
            return false;
        };
        let lost = !long.contains(&element) && ops[id as usize].precedes(&ops[reader as usize]);
        let class = if ops[append as usize].status == Status::Failed {
            "read-of-failed-write"
        } else if short[..at].contains(&element) {
            "duplicate-effect"
        } else if lost {
            "lost-write"
        } else {
            "incompatible-order"
        };
        self.findings.add(class, || {
            let sentence = format!("position {} held {element} in one read and {other} in another", at + 1);
            let mut ids = vec![id, reader];
            ids.extend([element, other].iter().filter_map(|&element| index.get(element)));
            witness(ops, class, &ids, sentence)
        });
        false
    }

    fn wrong_length(&mut self, id: u32, longest: Option<u32>, position: u32, length: u32) {
        let ops = self.ops;
        let reader = longest.unwrap_or(id);
        self.findings.add("incompatible-order", || {
            let sentence = format!(
                "the append answered length {length}, but its element was read at position {position}"
            );
            witness(ops, "incompatible-order", &[id, reader], sentence)
        });
    }

    /// Appends that no read saw, but whose reply names their position: it must be free and behind the longest read.
    fn behind_the_reads(
        &mut self,
        by_length: &mut [(u32, u32)],
        longest: Option<u32>,
        seen: &[u64],
        index: &ValueIndex,
        ranked: &mut Vec<Ranked>,
    ) {
        let ops = self.ops;
        by_length.sort_unstable();
        let mut last: Option<(u32, u32)> = None;
        for &mut (length, id) in by_length {
            if length as usize <= seen.len() {
                let reader = longest.unwrap_or(id);
                self.findings.add("lost-write", || {
                    let other = seen[length as usize - 1];
                    let sentence =
                        format!("an append answered length {length}, but that position holds {other}");
                    let ids: Vec<u32> = [id, reader].into_iter().chain(index.get(other)).collect();
                    witness(ops, "lost-write", &ids, sentence)
                });
            } else if let Some((_, other)) = last.filter(|last| last.0 == length) {
                self.findings.add("lost-write", || {
                    let sentence = format!("two appends both answered length {length}: one was lost");
                    witness(ops, "lost-write", &[id, other], sentence)
                });
            } else {
                ranked.push(Ranked::new(length.saturating_mul(2), id));
                last = Some((length, id));
            }
        }
    }

    fn judge(&mut self, ranked: &mut [Ranked], pool: Vec<u32>, longest: Option<u32>, index: &ValueIndex) {
        let ops = self.ops;
        let whole = longest.map_or(&[][..], |id| self.read(id));
        let seen = whole.len() as u32;
        let findings = &mut self.findings;
        sweep(ranked, ops, |early, late| {
            let class = match (ops[late.id() as usize].kind, early.rank() / 2 > seen) {
                (List::Read { .. }, true) => "lost-write",
                (List::Read { .. }, false) => "stale-read",
                (List::Append { .. }, _) if matches!(ops[early.id() as usize].kind, List::Read { .. }) => {
                    "future-read"
                }
                (List::Append { .. }, _) => "incompatible-order",
            };
            findings.add(class, || {
                let length = |item: Ranked| item.rank() / 2;
                let sentence = format!(
                    "the list had length {} before an operation was called that found or made it {} long",
                    length(early),
                    length(late)
                );
                let mut ids = vec![early.id(), late.id()];
                // The positions of the two come from the longest read, which has something that the shorter lacks.
                ids.extend(longest);
                let next = whole.get(length(late) as usize);
                ids.extend(next.and_then(|&element| index.get(element)));
                let mut witness = witness(ops, class, &ids, sentence);
                witness.links.push(in_time(early.id(), late.id()));
                let why = "it has the lower position";
                witness.links.push(by_value(late.id(), early.id(), Relation::WriteWrite, why));
                witness
            });
        });
        let most = seen as usize + ops.len();
        let mut free = Vec::new();
        let mut next = (seen + 1) * 2;
        for item in ranked.iter().filter(|item| item.rank() % 2 == 0) {
            if item.rank() < next {
                continue;
            }
            if (item.rank() / 2) as usize > most {
                findings.add("gap", || {
                    let sentence = format!(
                        "an append answered length {}, more than there were appends",
                        item.rank() / 2
                    );
                    witness(ops, "gap", &[item.id()], sentence)
                });
                break;
            }
            free.extend((next..item.rank()).step_by(2));
            next = item.rank() + 2;
        }
        fill(ranked, &free, pool, ops, |misfit| {
            match misfit {
            Misfit::Gap { rank, bound } => findings.add("gap", || {
                let (length, missing) = (bound.rank() / 2, rank / 2);
                let sentence =
                    format!("an operation found or made the list {length} long, but nothing can be at position {missing}");
                witness(ops, "gap", &[bound.id()], sentence)
            }),
            Misfit::Lost { id, bound } => findings.add("lost-write", || {
                let sentence = format!(
                    "an acknowledged append is missing from a list of {} that was seen after it",
                    bound.rank() / 2
                );
                // The position of an append that was seen comes from the longest read.
                let place = longest.filter(|_| bound.rank() <= seen * 2);
                let ids: Vec<u32> = [id, bound.id()].into_iter().chain(place).collect();
                let mut witness = witness(ops, "lost-write", &ids, sentence);
                witness.links.push(in_time(id, bound.id()));
                witness
            }),
        }
        });
    }
}
