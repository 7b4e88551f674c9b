//! One key of a list-append history. The longest read is the order of versions; every other read must be a prefix of
//! it, and appends that it does not hold come after everything that it does. Under (strict) serializability nothing is
//! lost by that: an append that nobody saw can only stand after all reads of its key.

use super::deps::{Dep, Deps};
use super::findings::{Evidence, Findings};
use super::history::MicroOp;
use super::index::{Fate, Index, Step};
use super::model::Anomaly;
use super::values::ValueMap;
use crate::answer::Relation;

/// Analyses keys one by one; holds what is reused between them.
#[derive(Default)]
pub(super) struct ListKeys {
    by_value: ValueMap,
    writes: Vec<Write>,
    /// The version order: numbers of writes, [`NOBODY`] for elements without a committed writer.
    order: Vec<u32>,
    /// The first place of the version order without a committed writer.
    first_bad: usize,
    /// By the length of the list that was read and then appended to.
    appenders: Vec<u32>,
    tail_readers: Vec<u32>,
    unseen: Vec<(u32, u64)>,
    own: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    txn: u32,
    value: u64,
    /// No later append of the same transaction.
    last: bool,
    /// Where in the version order.
    place: u32,
}

const NOBODY: u32 = u32::MAX;

/// The key at hand.
struct Key<'a> {
    index: &'a Index<'a>,
    number: u32,
    /// Who saw the longest list.
    witness: u32,
    longest: &'a [u64],
}

impl ListKeys {
    pub fn analyse(&mut self, index: &Index<'_>, key: u32, deps: &mut impl Deps, findings: &mut Findings) {
        let (witness, longest) = index.longest(key).unwrap_or((NOBODY, &[]));
        let at = Key { index, number: key, witness, longest };
        self.collect_writes(&at, findings);
        self.order_versions(&at, findings);
        self.first_bad = self.order.iter().position(|number| *number == NOBODY).unwrap_or(self.order.len());
        self.appenders.clear();
        self.appenders.resize(self.order.len() + 1, NOBODY);
        self.tail_readers.clear();
        let mut write = 0;
        for (txn, group) in index.groups(key) {
            if index.reads_count(txn) {
                self.reads_of(&at, txn, group, deps, findings);
            }
            write = self.own_order(&at, txn, write, findings);
        }
        self.order_writes(&at, deps);
    }

    fn collect_writes(&mut self, at: &Key<'_>, findings: &mut Findings) {
        self.by_value.clear();
        self.writes.clear();
        for step in at.index.key(at.number) {
            let MicroOp::Write { value, .. } = at.index.history.micro(step.micro) else { continue };
            let number = self.writes.len() as u32;
            if let Some(before) = self.by_value.insert(value, number) {
                findings.written_twice(at.number, value, self.writes[before as usize].txn, step.txn);
            }
            if let Some(previous) = self.writes.last_mut()
                && previous.txn == step.txn
            {
                previous.last = false;
            }
            self.writes.push(Write { txn: step.txn, value, last: true, place: NOBODY });
        }
    }

    /// Ends at the first element that stands there twice: what follows orders nothing.
    fn order_versions(&mut self, at: &Key<'_>, findings: &mut Findings) {
        self.order.clear();
        let mut aborted: Option<Write> = None;
        for (place, element) in at.longest.iter().enumerate() {
            let Some(number) = self.by_value.get(*element) else {
                garbage(at, at.witness, *element, findings);
                self.order.push(NOBODY);
                continue;
            };
            let write = &mut self.writes[number as usize];
            if write.place != NOBODY {
                duplicate(at, at.witness, at.longest, findings);
                break;
            }
            write.place = place as u32;
            match at.index.fates[write.txn as usize] {
                Fate::Committed => {
                    if let Some(under) = aborted.take() {
                        dirty_update(at, under, *write, findings);
                    }
                    self.order.push(number);
                }
                Fate::Aborted | Fate::Dropped => {
                    aborted = Some(*write);
                    self.order.push(NOBODY);
                }
            }
        }
    }

    /// What one completed transaction read of the key: against itself, against the version order, and what follows.
    fn reads_of(
        &mut self,
        at: &Key<'_>,
        txn: u32,
        group: &[Step],
        deps: &mut impl Deps,
        findings: &mut Findings,
    ) {
        self.own.clear();
        // What the transaction found there before its own appends.
        let mut found: Option<&[u64]> = None;
        let mut sound = true;
        for step in group {
            match at.index.history.micro(step.micro) {
                MicroOp::Write { value, .. } => {
                    let number = self.by_value.get(value).unwrap_or(NOBODY);
                    self.own.push(number);
                }
                MicroOp::ReadList { elements, .. } => {
                    let split = elements.len().checked_sub(self.own.len());
                    let before = split.map(|split| &elements[..split]);
                    let own_seen = split.is_some_and(|split| {
                        elements[split..]
                            .iter()
                            .zip(&self.own)
                            .all(|(e, own)| self.writes[*own as usize].value == *e)
                    });
                    if !own_seen || (found.is_some() && found != before) {
                        internal(
                            at,
                            txn,
                            elements,
                            found,
                            self.own.iter().map(|o| self.writes[*o as usize].value),
                            findings,
                        );
                        sound = false;
                        continue;
                    }
                    if elements.len() > at.longest.len() || elements != &at.longest[..elements.len()] {
                        self.incompatible(at, txn, elements, findings);
                        sound = false;
                    }
                    found = before;
                }
                MicroOp::ReadRegister { .. } | MicroOp::ReadUnknown { .. } => {}
            }
        }
        let Some(found) = found.filter(|found| sound && found.len() <= self.order.len()) else { return };
        let own = self.own.iter().map(|own| self.writes[*own as usize]);
        if let Some(Write { value: future, .. }) =
            own.into_iter().find(|own| (own.place as usize) < found.len())
        {
            findings.add(Anomaly::FutureRead, || {
                let name = at.index.history.key_name(at.number);
                Evidence::new([txn], format!("T{txn} read {future} in {name} before it appended it itself"))
            });
            return;
        }
        self.follow(at, txn, found.len(), deps, findings);
    }

    /// A transaction found the first `place` elements of the version order.
    fn follow(
        &mut self,
        at: &Key<'_>,
        txn: u32,
        place: usize,
        deps: &mut impl Deps,
        findings: &mut Findings,
    ) {
        let name = || at.index.history.key_name(at.number);
        for bad in self.first_bad..place {
            if self.order[bad] == NOBODY {
                self.bad_element(at, txn, at.longest[bad], findings);
            }
        }
        if let Some(number) =
            place.checked_sub(1).map(|last| self.order[last]).filter(|number| *number != NOBODY)
        {
            let Write { txn: writer, value, last, .. } = self.writes[number as usize];
            if !last {
                findings.add(Anomaly::G1b, || {
                    Evidence::new(
                        [writer, txn],
                        format!(
                            "T{txn} read {} up to {value}, which T{writer} appended before it appended more",
                            name()
                        ),
                    )
                });
            }
            deps.dep(Dep {
                from: writer,
                to: txn,
                relation: Relation::WriteRead,
                before: Some(value),
                after: value,
            });
        }
        let before = place.checked_sub(1).map(|last| at.longest[last]);
        match self.order[place..].iter().find(|number| **number != NOBODY) {
            Some(next) => {
                let Write { txn: writer, value, .. } = self.writes[*next as usize];
                deps.anti_deps(before, &[txn], &[(writer, value)]);
            }
            None => self.tail_readers.push(txn),
        }
        if !self.own.is_empty() {
            let other = std::mem::replace(&mut self.appenders[place], txn);
            if other != NOBODY {
                findings.add(Anomaly::LostUpdate, || {
                    let version =
                        before.map_or("while it was empty".to_owned(), |value| format!("up to {value}"));
                    Evidence::new(
                        [other, txn],
                        format!("T{other} and T{txn} both read {} {version} and both appended to it", name()),
                    )
                });
            }
        }
    }

    /// A committed transaction's appends stand in its order, and none is missing before one that is there. Returns the
    /// first write of the next transaction.
    fn own_order(&mut self, at: &Key<'_>, txn: u32, from: usize, findings: &mut Findings) -> usize {
        let count = self.writes[from..].iter().take_while(|write| write.txn == txn).count();
        let own = &self.writes[from..from + count];
        if count > 1 && at.index.committed(txn) {
            for pair in own.windows(2) {
                // NOBODY is the highest place: unseen after seen is in order.
                if pair[1].place < pair[0].place {
                    findings.add(Anomaly::IncompatibleOrder, || {
                        let name = at.index.history.key_name(at.number);
                        let (first, second) = (pair[0].value, pair[1].value);
                        let how = if pair[0].place == NOBODY { "without" } else { "before" };
                        Evidence::new(
                            [txn, at.witness],
                            format!(
                                "T{txn} appended {first} and then {second} to {name}, but T{} saw {second} {how} {first}",
                                at.witness
                            ),
                        )
                    });
                }
            }
        }
        from + count
    }

    /// Write-write dependencies along the version order, and what nobody saw after all of it.
    fn order_writes(&mut self, at: &Key<'_>, deps: &mut impl Deps) {
        let mut previous: Option<Write> = None;
        for number in self.order.iter().filter(|number| **number != NOBODY) {
            let write = self.writes[*number as usize];
            if let Some(before) = previous
                && before.txn != write.txn
            {
                deps.dep(write_write(before, write));
            }
            previous = Some(write);
        }
        self.unseen.clear();
        for write in &self.writes {
            if write.place == NOBODY && at.index.committed(write.txn) {
                if let Some(before) = previous
                    && before.txn != write.txn
                {
                    deps.dep(write_write(before, *write));
                }
                if self.unseen.last().is_none_or(|(txn, _)| *txn != write.txn) {
                    self.unseen.push((write.txn, write.value));
                }
            }
        }
        deps.anti_deps(at.longest[..self.order.len()].last().copied(), &self.tail_readers, &self.unseen);
    }

    /// A read that is no prefix of the longest: its elements are looked at one by one.
    fn incompatible(&self, at: &Key<'_>, txn: u32, elements: &[u64], findings: &mut Findings) {
        findings.add(Anomaly::IncompatibleOrder, || {
            let name = at.index.history.key_name(at.number);
            let place = elements.iter().zip(at.longest).take_while(|(a, b)| a == b).count();
            Evidence::new(
                [at.witness, txn],
                format!(
                    "T{txn} saw {} where T{} saw {} as element {} of {name}",
                    elements[place],
                    at.witness,
                    at.longest[place],
                    place + 1
                ),
            )
        });
        let mut seen = elements.to_vec();
        seen.sort_unstable();
        if seen.windows(2).any(|pair| pair[0] == pair[1]) {
            duplicate(at, txn, elements, findings);
        }
        for element in elements {
            self.bad_element(at, txn, *element, findings);
        }
    }

    /// An element that nobody appended, or a transaction that did not commit.
    fn bad_element(&self, at: &Key<'_>, txn: u32, element: u64, findings: &mut Findings) {
        let Some(number) = self.by_value.get(element) else {
            if txn != at.witness {
                garbage(at, txn, element, findings);
            }
            return;
        };
        let writer = self.writes[number as usize].txn;
        if at.index.fates[writer as usize] == Fate::Aborted {
            findings.add(Anomaly::G1a, || {
                let name = at.index.history.key_name(at.number);
                Evidence::new(
                    [writer, txn],
                    format!("T{txn} read {element} in {name}, which T{writer} appended and aborted"),
                )
            });
        }
    }
}

fn garbage(at: &Key<'_>, txn: u32, element: u64, findings: &mut Findings) {
    findings.add(Anomaly::GarbageRead, || {
        let name = at.index.history.key_name(at.number);
        Evidence::new([txn], format!("T{txn} read {element} in {name}, which nobody ever appended"))
    });
}

fn write_write(before: Write, after: Write) -> Dep {
    Dep {
        from: before.txn,
        to: after.txn,
        relation: Relation::WriteWrite,
        before: Some(before.value),
        after: after.value,
    }
}

fn duplicate(at: &Key<'_>, txn: u32, elements: &[u64], findings: &mut Findings) {
    findings.add(Anomaly::DuplicateElements, || {
        let mut sorted = elements.to_vec();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]).map_or(0, |pair| pair[0]);
        let name = at.index.history.key_name(at.number);
        Evidence::new([txn], format!("T{txn} saw {twice} twice in {name}"))
    });
}

fn dirty_update(at: &Key<'_>, aborted: Write, over: Write, findings: &mut Findings) {
    findings.add(Anomaly::DirtyUpdate, || {
        let name = at.index.history.key_name(at.number);
        Evidence::new(
            [aborted.txn, over.txn, at.witness],
            format!(
                "T{} aborted, but its append of {} to {name} stayed under {}, which T{} appended and committed",
                aborted.txn, aborted.value, over.value, over.txn
            ),
        )
    });
}

fn internal(
    at: &Key<'_>,
    txn: u32,
    elements: &[u64],
    found: Option<&[u64]>,
    own: impl Iterator<Item = u64>,
    findings: &mut Findings,
) {
    findings.add(Anomaly::Internal, || {
        let name = at.index.history.key_name(at.number);
        let own: Vec<u64> = own.collect();
        let expected = match found {
            Some(found) => short(&[found, &own].concat()),
            None => format!("something that ends in {}", short(&own)),
        };
        Evidence::new(
            [txn],
            format!(
                "T{txn} read {name} as {}, but by its own earlier steps it is {expected}",
                short(elements)
            ),
        )
    });
}

/// A list for people: the last few elements.
fn short(elements: &[u64]) -> String {
    const SHOWN: usize = 8;
    let tail = &elements[elements.len().saturating_sub(SHOWN)..];
    let words: Vec<String> = tail.iter().map(u64::to_string).collect();
    let dots = if elements.len() > SHOWN { "... " } else { "" };
    format!("[{dots}{}]", words.join(" "))
}
