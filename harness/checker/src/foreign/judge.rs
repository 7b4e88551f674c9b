//! Judges paired operations as a workload's: all keys together if it is transactional, else key by key.

use std::collections::BTreeMap;

use super::calls::Call;
use super::objects::{Object, View};
use super::txns;
use super::value::Value;
use super::workload::{Workload, WorkloadError};
use crate::answer::{Answer, Witness};
use crate::linear::{Limits, keyed};
use crate::txn::{self, Model, Objects};

/// How to judge.
pub struct ForeignOptions<'a> {
    pub workload: Workload,
    /// Values are tuples `[key value]` (Jepsen's independent workloads). A history with keys of its own needs no flag.
    pub keyed: bool,
    /// A failed `cas` found another value: how Porcupine reads its logs.
    pub failed_cas_tells: bool,
    /// What is expected of transactions.
    pub model: Model,
    pub limits: Limits<'a>,
    pub threads: usize,
}

/// What the checks say, one part a key (transactions are one part).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub parts: Vec<Part>,
    /// Anomalies that the expected model of transactions permits.
    pub permitted: Vec<Witness>,
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
    if options.workload.is_transactional() { transactions(calls, options) } else { objects(calls, options) }
}

fn transactions(calls: &[Call], options: &ForeignOptions<'_>) -> Result<Judgement, WorkloadError> {
    let objects = if options.workload == Workload::ListAppend { Objects::Lists } else { Objects::Registers };
    let (history, legend) = txns::history(calls, objects)?;
    let expected = txn::Options { expected: options.model, ..txn::Options::default() };
    let report = txn::check(&history, &expected);
    let part = Part { key: None, operations: calls.len() as u64, answer: report.answer, legend };
    Ok(Judgement { parts: vec![part], permitted: report.permitted })
}

fn objects(calls: &[Call], options: &ForeignOptions<'_>) -> Result<Judgement, WorkloadError> {
    let mut objects: BTreeMap<Option<String>, Object<'_>> = BTreeMap::new();
    for (number, call) in (0..).zip(calls) {
        let (key, view) = split(call, options.keyed)?;
        let object = objects
            .entry(key)
            .or_insert_with(|| Object { calls: Vec::new(), failed_cas_tells: options.failed_cas_tells });
        object.calls.push((number, view));
    }
    let (keys, objects): (Vec<_>, Vec<_>) = objects.into_iter().unzip();
    let sizes: Vec<u64> = objects.iter().map(|object| object.calls.len() as u64).collect();
    let judged = keyed(&sizes, options.threads, |at| objects[at].judge(options.workload, &options.limits));
    let mut parts = Vec::new();
    for ((key, operations), judged) in keys.into_iter().zip(sizes).zip(judged) {
        let judged = judged?;
        parts.push(Part { key, operations, answer: judged.answer, legend: judged.legend });
    }
    Ok(Judgement { parts, permitted: Vec::new() })
}

/// An operation's key, and the rest.
fn split(call: &Call, keyed: bool) -> Result<(Option<String>, View<'_>), WorkloadError> {
    let whole = View { call, asked: &call.asked, answered: &call.answered };
    if let Some(key) = &call.key {
        return Ok((Some(key.clone()), whole));
    }
    if !keyed {
        return Ok((None, whole));
    }
    let Some([key, asked]) = call.asked.vector() else {
        return Err(whole.wrong("a tuple [key value] (--keyed)", &call.asked));
    };
    let answered = match call.answered.vector() {
        Some([of, answered]) if of == key => answered,
        // A completion that is no tuple tells an error, not a value.
        _ => &Value::Nil,
    };
    Ok((Some(key.to_string()), View { call, asked, answered }))
}
