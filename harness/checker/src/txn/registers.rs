//! One key of a register history. Here the order of versions is not seen, only inferred:
//!
//! - the initial nil comes before every version;
//! - a transaction that read one version and wrote another put it behind (with `SET k v GET` every write does that, and
//!   the order is whole: a test that can should use it);
//! - where each key is known to keep the order of processes or of real time, that order.
//!
//! What follows from these is true of every order, so each violation is one. The converse is open: deciding
//! serializability of blind writes is NP-complete (Papadimitriou 1979), and `schedule` only tries.

use super::components::{self, components};
use super::deps::{Dep, Deps};
use super::findings::{Evidence, Findings};
use super::history::{MicroOp, Outcome};
use super::index::{Fate, Index, Step};
use super::model::{Anomaly, Order};
use super::values::ValueMap;
use crate::answer::Relation;

/// Analyses keys one by one; holds what is reused between them.
pub(super) struct RegisterKeys {
    /// Which order each key by itself is known to keep.
    key_order: Order,
    by_value: ValueMap,
    writes: Vec<Write>,
    touches: Vec<Touch>,
    /// (version, transaction), sorted.
    readers: Vec<(u32, u32)>,
    follows: Vec<Follow>,
}

/// Version 0 is nil, version n + 1 is write n.
const NIL: u32 = 0;

#[derive(Clone, Copy, Debug)]
struct Write {
    txn: u32,
    value: u64,
    /// No later write of the same transaction.
    last: bool,
}

/// What a committed transaction found in the key and what it left there.
#[derive(Clone, Copy, Debug)]
struct Touch {
    txn: u32,
    found: Option<u32>,
    left: Option<u32>,
}

/// One version comes behind another.
#[derive(Clone, Copy, Debug)]
struct Follow {
    from: u32,
    to: u32,
    why: Why,
}

#[derive(Clone, Copy, Debug)]
enum Why {
    /// The one is nil.
    Initial,
    /// This transaction read the one and wrote the other.
    Replaced(u32),
    /// A process touched the one and then the other in these transactions.
    Process(u32, u32),
    /// The first of these had touched the one before the second, which touched the other, was invoked.
    Realtime(u32, u32),
}

impl RegisterKeys {
    pub fn new(key_order: Order) -> Self {
        Self {
            key_order,
            by_value: ValueMap::default(),
            writes: Vec::new(),
            touches: Vec::new(),
            readers: Vec::new(),
            follows: Vec::new(),
        }
    }

    pub fn analyse(&mut self, index: &Index<'_>, key: u32, deps: &mut impl Deps, findings: &mut Findings) {
        self.collect_writes(index, key, findings);
        self.touches.clear();
        for (txn, group) in index.groups(key) {
            if index.committed(txn) {
                let touch = self.touch(index, key, txn, group, findings);
                self.touches.push(touch);
            }
        }
        self.collect_readers(deps);
        self.replacements(index, key, findings);
        match self.key_order {
            Order::Data => {}
            Order::Process => self.order_of_processes(index),
            Order::Realtime => self.order_of_time(index),
        }
        self.follows.sort_unstable_by_key(|follow| (follow.from, follow.to));
        self.follows.dedup_by_key(|follow| (follow.from, follow.to));
        self.start_with_nil();
        if !self.circular(index, key, findings) {
            self.order_writes(deps);
        }
    }

    fn collect_writes(&mut self, index: &Index<'_>, key: u32, findings: &mut Findings) {
        self.by_value.clear();
        self.writes.clear();
        for step in index.key(key) {
            let MicroOp::Write { value, .. } = index.history.micro(step.micro) else { continue };
            if let Some(before) = self.by_value.insert(value, self.writes.len() as u32) {
                findings.written_twice(key, value, self.writes[before as usize].txn, step.txn);
            }
            if let Some(previous) = self.writes.last_mut()
                && previous.txn == step.txn
            {
                previous.last = false;
            }
            self.writes.push(Write { txn: step.txn, value, last: true });
        }
    }

    /// One transaction's steps against each other, and its first read from outside against who wrote it.
    fn touch(&self, index: &Index<'_>, key: u32, txn: u32, group: &[Step], findings: &mut Findings) -> Touch {
        let mut touch = Touch { txn, found: None, left: None };
        let mut current: Option<Option<u64>> = None;
        for step in group {
            match index.history.micro(step.micro) {
                MicroOp::Write { value, .. } => {
                    current = Some(Some(value));
                    touch.left = self.by_value.get(value).map(|number| number + 1);
                }
                MicroOp::ReadRegister { value, .. } if index.reads_count(txn) => match current {
                    None => {
                        current = Some(value);
                        touch.found = self.version_read(index, key, txn, value, findings);
                    }
                    Some(expected) if expected != value => {
                        findings.add(Anomaly::Internal, || {
                            let name = index.history.key_name(key);
                            let (value, expected) = (shown(value), shown(expected));
                            let sentence = format!(
                                "T{txn} read {value} in {name}, but by its own earlier steps it is {expected}"
                            );
                            Evidence::new([txn], sentence)
                        });
                    }
                    Some(_) => {}
                },
                _ => {}
            }
        }
        touch
    }

    /// The version, if it is one that others can be ordered by.
    fn version_read(
        &self,
        index: &Index<'_>,
        key: u32,
        txn: u32,
        value: Option<u64>,
        findings: &mut Findings,
    ) -> Option<u32> {
        let Some(value) = value else { return Some(NIL) };
        let name = || index.history.key_name(key);
        let Some(number) = self.by_value.get(value) else {
            findings.add(Anomaly::GarbageRead, || {
                Evidence::new([txn], format!("T{txn} read {value} in {}, which nobody ever wrote", name()))
            });
            return None;
        };
        let Write { txn: writer, last, .. } = self.writes[number as usize];
        if writer == txn {
            findings.add(Anomaly::FutureRead, || {
                Evidence::new([txn], format!("T{txn} read {value} in {} before it wrote it itself", name()))
            });
        } else if index.fates[writer as usize] == Fate::Aborted {
            findings.add(Anomaly::G1a, || {
                let sentence =
                    format!("T{txn} read {value} in {}, which T{writer} wrote and aborted", name());
                Evidence::new([writer, txn], sentence)
            });
        } else if !last {
            findings.add(Anomaly::G1b, || {
                let sentence =
                    format!("T{txn} read {value} in {}, which T{writer} wrote before it wrote again", name());
                Evidence::new([writer, txn], sentence)
            });
        } else {
            return Some(number + 1);
        }
        None
    }

    fn collect_readers(&mut self, deps: &mut impl Deps) {
        self.readers.clear();
        self.readers.extend(self.touches.iter().filter_map(|touch| Some((touch.found?, touch.txn))));
        self.readers.sort_unstable();
        for (version, reader) in self.readers.iter().filter(|(version, _)| *version != NIL) {
            let Write { txn, value, .. } = self.writes[*version as usize - 1];
            deps.dep(Dep {
                from: txn,
                to: *reader,
                relation: Relation::WriteRead,
                before: Some(value),
                after: value,
            });
        }
    }

    fn replacements(&mut self, index: &Index<'_>, key: u32, findings: &mut Findings) {
        self.follows.clear();
        for touch in &self.touches {
            if let (Some(from), Some(to)) = (touch.found, touch.left) {
                self.follows.push(Follow { from, to, why: Why::Replaced(touch.txn) });
            }
        }
        let mut replaced: Vec<(u32, u32)> =
            self.touches.iter().filter_map(|t| t.left.and(t.found).map(|found| (found, t.txn))).collect();
        replaced.sort_unstable();
        for pair in replaced.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            let [(version, one), (_, other)] = [pair[0], pair[1]];
            findings.add(Anomaly::LostUpdate, || {
                let (name, value) = (index.history.key_name(key), shown(self.value(version)));
                Evidence::new(
                    [one, other],
                    format!("T{one} and T{other} both read {value} in {name} and both replaced it"),
                )
            });
        }
    }

    /// What a process touched earlier is not newer.
    fn order_of_processes(&mut self, index: &Index<'_>) {
        let spans = index.history.spans();
        let mut touches: Vec<Touch> =
            self.touches.iter().copied().filter(|t| t.found.or(t.left).is_some()).collect();
        touches.sort_by_key(|touch| (spans[touch.txn as usize].process, spans[touch.txn as usize].invoked));
        for pair in touches.windows(2) {
            let [one, other] = [pair[0], pair[1]];
            let (before, after) = (spans[one.txn as usize], spans[other.txn as usize]);
            let in_order = before.process == after.process
                && before.outcome == Outcome::Ok
                && before.returned < after.invoked;
            if let (true, Some(from), Some(to)) =
                (in_order, one.left.or(one.found), other.found.or(other.left))
                && from != to
            {
                self.follows.push(Follow { from, to, why: Why::Process(one.txn, other.txn) });
            }
        }
    }

    /// A version that someone had touched before another was last touched is older (Gibbons and Korach's zones). Only
    /// each version's next ones: the others follow over them.
    fn order_of_time(&mut self, index: &Index<'_>) {
        let spans = index.history.spans();
        let mut zones: Vec<Zone> = (0..=self.writes.len() as u32)
            .map(|version| Zone { version, first_return: (u64::MAX, 0), last_invoke: None })
            .collect();
        for touch in &self.touches {
            let span = spans[touch.txn as usize];
            for version in [touch.found, touch.left].into_iter().flatten() {
                let zone = &mut zones[version as usize];
                if span.outcome == Outcome::Ok {
                    zone.first_return = zone.first_return.min((span.returned, touch.txn));
                }
                zone.last_invoke = zone.last_invoke.max(Some((span.invoked, touch.txn)));
            }
        }
        zones.retain(|zone| zone.last_invoke.is_some());
        zones.sort_by_key(|zone| zone.last_invoke);
        for zone in &zones {
            let (returned, seen_by) = zone.first_return;
            let start =
                zones.partition_point(|next| next.last_invoke.is_none_or(|(invoked, _)| invoked <= returned));
            let mut horizon = u64::MAX;
            for next in zones[start..].iter().filter(|next| next.version != zone.version) {
                let Some((invoked, touched_by)) = next.last_invoke.filter(|(invoked, _)| *invoked <= horizon)
                else {
                    break;
                };
                debug_assert!(invoked > returned);
                horizon = horizon.min(next.first_return.0);
                self.follows.push(Follow {
                    from: zone.version,
                    to: next.version,
                    why: Why::Realtime(seen_by, touched_by),
                });
            }
        }
    }

    /// Whether the versions follow each other in a circle. If so, they order nothing.
    fn circular(&self, index: &Index<'_>, key: u32, findings: &mut Findings) -> bool {
        let versions = Versions { count: self.writes.len() as u32 + 1, follows: &self.follows };
        let circles = components(&versions, self.follows.iter().map(|follow| follow.from));
        for circle in &circles {
            findings.add(Anomaly::CyclicVersions, || self.circle(index, key, &versions, circle));
        }
        !circles.is_empty()
    }

    fn circle(&self, index: &Index<'_>, key: u32, versions: &Versions<'_>, circle: &[u32]) -> Evidence {
        let name = index.history.key_name(key);
        let mut ops = Vec::new();
        let mut words = Vec::new();
        for follow in versions.shortest_circle(circle) {
            let (from, to) = (shown(self.value(follow.from)), shown(self.value(follow.to)));
            match follow.why {
                Why::Initial => words.push(format!("{from} comes before {to}")),
                Why::Replaced(txn) => {
                    ops.push(txn);
                    words.push(format!("T{txn} read {from} and wrote {to}"));
                }
                Why::Process(one, other) => {
                    ops.extend([one, other]);
                    words.push(format!("one process touched {from} in T{one} and then {to} in T{other}"));
                }
                Why::Realtime(one, other) => {
                    ops.extend([one, other]);
                    words.push(format!(
                        "T{one} touched {from} and had returned before T{other} came to touch {to}"
                    ));
                }
            }
        }
        Evidence::new(
            ops,
            format!("the versions of {name} follow each other in a circle: {}", words.join("; ")),
        )
    }

    /// Nil comes before what has nothing else before it.
    fn start_with_nil(&mut self) {
        let mut first = vec![true; self.writes.len() + 1];
        for follow in &self.follows {
            first[follow.to as usize] = false;
        }
        let firsts = (1..).zip(&first[1..]).filter(|(_, first)| **first);
        self.follows.extend(firsts.map(|(to, _)| Follow { from: NIL, to, why: Why::Initial }));
        self.follows.sort_unstable_by_key(|follow| follow.from);
    }

    fn order_writes(&self, deps: &mut impl Deps) {
        let committed = |txn: u32| self.touches.binary_search_by_key(&txn, |touch| touch.txn).is_ok();
        for next in self.follows.chunk_by(|a, b| a.from == b.from) {
            let from = next[0].from;
            let mut writers: Vec<(u32, u64)> = next
                .iter()
                .map(|follow| self.writes[follow.to as usize - 1])
                .filter(|write| write.last && committed(write.txn))
                .map(|write| (write.txn, write.value))
                .collect();
            writers.sort_unstable();
            if from != NIL {
                let Write { txn, value, .. } = self.writes[from as usize - 1];
                for (to, after) in writers.iter().filter(|(to, _)| *to != txn) {
                    let relation = Relation::WriteWrite;
                    deps.dep(Dep { from: txn, to: *to, relation, before: Some(value), after: *after });
                }
            }
            let start = self.readers.partition_point(|(version, _)| *version < from);
            let readers: Vec<u32> = self.readers[start..]
                .iter()
                .take_while(|(version, _)| *version == from)
                .map(|(_, txn)| *txn)
                .collect();
            deps.anti_deps(self.value(from), &readers, &writers);
        }
    }

    fn value(&self, version: u32) -> Option<u64> {
        version.checked_sub(1).map(|number| self.writes[number as usize].value)
    }
}

struct Zone {
    version: u32,
    /// When, and by whom.
    first_return: (u64, u32),
    last_invoke: Option<(u64, u32)>,
}

/// The versions of a key as a graph.
struct Versions<'a> {
    count: u32,
    /// Sorted by source.
    follows: &'a [Follow],
}

impl Versions<'_> {
    fn after(&self, version: u32) -> &[Follow] {
        let start = self.follows.partition_point(|follow| follow.from < version);
        let end = self.follows.partition_point(|follow| follow.from <= version);
        &self.follows[start..end]
    }

    /// Through the first version of a component.
    fn shortest_circle(&self, component: &[u32]) -> Vec<Follow> {
        let goal = component[0];
        let mut inside = component.to_vec();
        inside.sort_unstable();
        let mut came: Vec<Option<Follow>> = vec![None; self.count as usize];
        let mut queue = std::collections::VecDeque::from([goal]);
        while came[goal as usize].is_none()
            && let Some(version) = queue.pop_front()
        {
            for follow in self.after(version) {
                if inside.binary_search(&follow.to).is_ok() && came[follow.to as usize].is_none() {
                    came[follow.to as usize] = Some(*follow);
                    queue.push_back(follow.to);
                }
            }
        }
        let mut circle = Vec::new();
        let mut at = goal;
        while let Some(follow) = came[at as usize] {
            circle.push(follow);
            at = follow.from;
            if at == goal {
                break;
            }
        }
        circle.reverse();
        circle
    }
}

impl components::Space for Versions<'_> {
    fn bound(&self) -> u32 {
        self.count
    }

    fn edge(&self, version: u32, number: u32) -> Option<components::Edge> {
        let start = self.follows.partition_point(|follow| follow.from < version);
        let follow = self.follows.get(start + number as usize)?;
        (follow.from == version).then_some(components::Edge::To(follow.to))
    }
}

fn shown(value: Option<u64>) -> String {
    value.map_or("nil".to_owned(), |value| value.to_string())
}
