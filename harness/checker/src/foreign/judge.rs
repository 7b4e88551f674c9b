//! Judges paired operations as a workload's: all keys together if it is transactional, else key by key.

use std::collections::BTreeMap;

use super::calls::Call;
use super::objects::{Object, Side, View, renumber, renumbered};
use super::txns;
use super::value::Value;
use super::workload::{Workload, WorkloadError};
use crate::answer::{Answer, Witness};
use crate::linear::{ClockError, Limits, keyed};
use crate::record::OpKind;
use crate::txn::{self, Model, Objects};

/// How to judge.
#[derive(Clone, Copy)]
pub struct ForeignOptions<'a> {
    pub workload: Workload,
    /// Values are tuples `[key value]` (Jepsen's independent workloads). A history with keys of its own needs no flag.
    pub keyed: bool,
    /// A failed `cas` found another value: how Porcupine reads its logs.
    pub failed_cas_tells: bool,
    /// What is expected of transactions.
    pub model: Model,
    /// By how much the servers' clocks may err, where times to live are judged.
    pub clock: ClockError,
    /// Accounts of a bank may owe.
    pub negative_balances: bool,
    pub limits: Limits<'a>,
    pub threads: usize,
}

impl ForeignOptions<'static> {
    /// Strict, without a budget, on one thread.
    pub fn of(workload: Workload) -> Self {
        Self {
            workload,
            keyed: false,
            failed_cas_tells: false,
            model: Model::STRICT_SERIALIZABLE,
            clock: ClockError::default(),
            negative_balances: false,
            limits: Limits::default(),
            threads: 1,
        }
    }
}

/// What the checks say, one part a key (transactions are one part).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub parts: Vec<Part>,
    /// Anomalies that the expected model of transactions permits.
    pub permitted: Vec<Witness>,
    /// Operations of other workloads, in a history of ours that has several.
    pub passed_over: u64,
}

/// One key's answer; operations are numbered by their place in the slice of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub key: Option<String>,
    pub operations: u64,
    pub answer: Answer,
    /// What numbers in sentences stand for, where the history's value is no whole number.
    pub legend: Vec<(u64, String)>,
}

/// Judges.
pub fn judge(calls: &[Call], options: &ForeignOptions<'_>) -> Result<Judgement, WorkloadError> {
    let has = |kind: OpKind| calls.iter().any(|call| call.own == Some(kind));
    match options.workload {
        // Our workload of that name is plain RPUSHes.
        Workload::ListAppend if has(OpKind::Append) && !has(OpKind::TxnAppend) => {
            objects(calls, &ForeignOptions { workload: Workload::List, ..*options })
        }
        workload if workload.is_transactional() => transactions(calls, options),
        _ => objects(calls, options),
    }
}

fn transactions(calls: &[Call], options: &ForeignOptions<'_>) -> Result<Judgement, WorkloadError> {
    let objects = if options.workload == Workload::ListAppend { Objects::Lists } else { Objects::Registers };
    let wanted = |call: &Call| options.workload.takes_key(call.own);
    let numbered = (0..).zip(calls).filter(|(_, call)| wanted(call));
    let (numbers, of_workload): (Vec<u32>, Vec<&Call>) = numbered.unzip();
    let (history, legend) = txns::history(&of_workload, objects)?;
    let expected = txn::Options { expected: options.model, ..txn::Options::default() };
    let report = txn::check(&history, &expected);
    let operations = of_workload.len() as u64;
    let passed_over = calls.len() as u64 - operations;
    let answer = renumbered(report.answer, &numbers);
    let mut permitted = report.permitted;
    for witness in &mut permitted {
        renumber(witness, &numbers);
    }
    Ok(Judgement { parts: vec![Part { key: None, operations, answer, legend }], permitted, passed_over })
}

fn objects(calls: &[Call], options: &ForeignOptions<'_>) -> Result<Judgement, WorkloadError> {
    let mut objects: BTreeMap<Option<String>, Object<'_>> = BTreeMap::new();
    for (number, call) in (0..).zip(calls) {
        for (key, view) in split(call, options.keyed)? {
            let object = objects
                .entry(key)
                .or_insert_with(|| Object { calls: Vec::new(), failed_cas_tells: options.failed_cas_tells });
            object.calls.push((number, view));
        }
    }
    let mut passed_over = 0;
    objects.retain(|_, object| {
        let wanted = options.workload.takes_key(object.calls.iter().filter_map(|(_, view)| view.call.own));
        passed_over += if wanted { 0 } else { object.calls.len() as u64 };
        wanted
    });
    let (keys, objects): (Vec<_>, Vec<_>) = objects.into_iter().unzip();
    let sizes: Vec<u64> = objects.iter().map(|object| object.calls.len() as u64).collect();
    let judged = keyed(&sizes, options.threads, |at| objects[at].judge(options));
    let mut parts = Vec::new();
    for ((key, operations), judged) in keys.into_iter().zip(sizes).zip(judged) {
        let judged = judged?;
        parts.push(Part { key, operations, answer: judged.answer, legend: judged.legend });
    }
    Ok(Judgement { parts, permitted: Vec::new(), passed_over })
}

/// An operation's keys, and the rest.
fn split(call: &Call, keyed: bool) -> Result<Vec<(Option<String>, View<'_>)>, WorkloadError> {
    let mut view = View { call, asked: &call.asked, answered: &call.answered, side: Side::Source };
    let key = if let Some(key) = &call.key {
        Some(key.clone())
    } else if keyed {
        let Some([key, asked]) = call.asked.vector() else {
            return Err(view.wrong("a tuple [key value] (--keyed)", &call.asked));
        };
        view.answered = match call.answered.vector() {
            Some([of, answered]) if of == key => answered,
            // A completion that is no tuple tells an error, not a value.
            _ => &Value::Nil,
        };
        view.asked = asked;
        Some(key.to_string())
    } else {
        None
    };
    if call.f != "move" || key.is_none() {
        return Ok(vec![(key, view)]);
    }
    let Some([to, _]) = view.asked.vector() else {
        return Err(view.wrong("the value of :move, [to element]", view.asked));
    };
    // A key that stands apart is bare.
    let to = if call.key.is_some() {
        to.word().map_or_else(|| to.to_string(), str::to_owned)
    } else {
        to.to_string()
    };
    view.answered = view.answered.vector().and_then(|pair| pair.get(1)).unwrap_or(&Value::Nil);
    Ok(vec![(key, view), (Some(to), View { side: Side::Target, ..view })])
}
