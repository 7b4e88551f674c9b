//! Transactional anomalies as Elle names them (Kingsbury and Alvaro, VLDB 2020), for lists and registers.
//!
//! For **lists** the answer is exact under `serializable`, `strong-session-serializable` and `strict-serializable`:
//! [`Answer::Holds`] if and only if some legal order exists. For the weaker models it is exact for Adya's phenomena on
//! the version order that was seen. For **registers** it is sound: a violation is one; it holds if an order was found,
//! else nobody knows (see `registers`).
//!
//! Rooms: `history` the input · `index` its micro-operations by key, and which transactions committed · `lists`,
//! `registers` one key at a time: anomalies without a cycle, and dependencies · `graph` all of them and time ·
//! `components`, `cycles` the shortest cycle of each class · `schedule` an order that explains a register history ·
//! `model` who forbids what · `explain` the words.

mod components;
mod cycles;
mod deps;
mod explain;
mod findings;
mod graph;
mod history;
mod index;
mod lists;
mod model;
mod registers;
mod schedule;
mod values;

use self::cycles::Hops;
use self::deps::Deps;
use self::findings::{Evidence, Findings};
use self::graph::GraphBuilder;
pub(crate) use self::history::Step;
pub use self::history::{MicroOp, Objects, Outcome, Span, TxnHistory};
use self::index::Index;
use self::lists::ListKeys;
pub use self::model::{Anomaly, Cycle, Isolation, Model, Order};
use self::registers::RegisterKeys;
use crate::answer::{Answer, Unknown, Witness};

/// What to look for, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Anomalies that it forbids are violations; all others are only reported.
    pub expected: Model,
    /// Anomalies are looked for up to this order of time, whatever is expected.
    pub highest: Order,
    /// Of registers: the order that each key by itself is known to keep. None: what the expected model implies, if it is
    /// serializable; an anomaly's class then does not say that time was needed to see it.
    pub each_key: Option<Order>,
    /// Edges looked at in search of *shorter* cycles. Verdicts do not depend on it.
    pub search_steps: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            expected: Model::STRICT_SERIALIZABLE,
            highest: Order::Realtime,
            each_key: None,
            search_steps: 100_000_000,
        }
    }
}

impl Options {
    fn key_order(&self) -> Order {
        let implied = if self.expected.isolation == Isolation::Serializable {
            self.expected.order
        } else {
            Order::Data
        };
        self.each_key.unwrap_or(implied)
    }
}

/// What a history of transactions shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Under the expected model.
    pub answer: Answer,
    /// Anomalies that the expected model permits.
    pub permitted: Vec<Witness>,
    /// How often each class was found, listed or not. Of cycles: in how many components.
    pub counts: Vec<(&'static str, u64)>,
    /// A shorter cycle may exist than the one shown.
    pub search_cut: bool,
}

/// Looks for all anomalies.
pub fn check(history: &TxnHistory, options: &Options) -> Report {
    let index = Index::new(history);
    let mut findings = Findings::default();
    let mut graph = GraphBuilder::new(&index);
    let mut keys = Keys::new(history, options);
    for key in 0..history.keys() {
        keys.analyse(&index, key, &mut graph, &mut findings);
    }
    if let Some(reason) = findings.lint(history) {
        let answer = Answer::Unknown(Unknown { reason, checked_until: None });
        return Report { answer, permitted: Vec::new(), counts: Vec::new(), search_cut: false };
    }
    let graph = graph.finish(&index);
    let cycles = cycles::find(&graph, options.highest.max(options.expected.order), options.search_steps);
    for (class, order, hops) in &cycles.found {
        findings.add(Anomaly::Cycle(*class, *order), || cycle_evidence(&index, &mut keys, hops));
    }
    let mut report = report(history, options, findings, cycles.cut);
    let Model { isolation, order } = options.expected;
    if report.answer == Answer::Holds
        && history.objects() == Objects::Registers
        && isolation == Isolation::Serializable
        && !schedule::exists(&index, &graph, cycles::all_edges(order))
    {
        let reason = "no anomaly was found, but no order that explains every read either: the order of blind writes is \
                      not known (let every write return what it replaced, as SET .. GET does)";
        report.answer = Answer::Unknown(Unknown { reason: reason.to_owned(), checked_until: None });
    }
    report
}

/// What analyses a key.
enum Keys {
    Lists(ListKeys),
    Registers(RegisterKeys),
}

impl Keys {
    fn new(history: &TxnHistory, options: &Options) -> Self {
        match history.objects() {
            Objects::Lists => Self::Lists(ListKeys::default()),
            Objects::Registers => Self::Registers(RegisterKeys::new(options.key_order())),
        }
    }

    fn analyse(&mut self, index: &Index<'_>, key: u32, deps: &mut impl Deps, findings: &mut Findings) {
        match self {
            Self::Lists(lists) => lists.analyse(index, key, deps, findings),
            Self::Registers(registers) => registers.analyse(index, key, deps, findings),
        }
    }
}

fn report(history: &TxnHistory, options: &Options, findings: Findings, search_cut: bool) -> Report {
    let mut witnesses = Vec::new();
    let mut unlisted = 0;
    let mut permitted = Vec::new();
    let mut counts = Vec::new();
    for (anomaly, found) in findings.into_found(history) {
        counts.push((anomaly.class(), found.count));
        if options.expected.forbids(anomaly) {
            unlisted += found.count - found.witnesses.len() as u64;
            witnesses.extend(found.witnesses);
        } else {
            permitted.extend(found.witnesses);
        }
    }
    let answer = if witnesses.is_empty() { Answer::Holds } else { Answer::Violated { witnesses, unlisted } };
    Report { answer, permitted, counts, search_cut }
}

fn cycle_evidence(index: &Index<'_>, keys: &mut Keys, hops: &Hops) -> Evidence {
    let links: Vec<_> =
        hops.iter().map(|(from, to, kind)| explain::link(index, keys, *from, *to, *kind)).collect();
    let steps: Vec<String> =
        links.iter().map(|link| format!("T{} before T{} ({})", link.from.0, link.to.0, link.why)).collect();
    let sentence = format!("no order fits: {}", steps.join(", "));
    Evidence { links, ..Evidence::new(hops.iter().map(|(from, _, _)| *from), sentence) }
}

#[cfg(test)]
mod tests;
