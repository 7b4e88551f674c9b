//! Transactions of micro-operations into the input of [`txn`](crate::txn).

use std::collections::BTreeMap;

use super::calls::{Call, Ending};
use super::objects::{Side, View};
use super::value::Value;
use super::values::Values;
use super::workload::WorkloadError;
use crate::txn::{Objects, Outcome, Span, Step, TxnHistory};

/// Transaction i is call i. Besides: what numbers stand for that are no plain values.
pub(super) fn history(
    calls: &[&Call],
    objects: Objects,
) -> Result<(TxnHistory, Vec<(u64, String)>), WorkloadError> {
    let mut history = TxnHistory::new(objects);
    let mut keys: BTreeMap<String, u32> = BTreeMap::new();
    let mut values = Values::default();
    for &call in calls {
        let view = View { call, asked: &call.asked, answered: &call.answered, side: Side::Source };
        let known = call.ending == Ending::Ok && call.answered.vector().is_some();
        let shown = if known { &call.answered } else { &call.asked };
        let Some(micros) = shown.vector() else {
            return Err(view.wrong("a transaction: a vector of micro-operations", shown));
        };
        let mut steps = Vec::with_capacity(micros.len());
        for micro in micros {
            let Some([f, key, value]) = micro.vector() else {
                return Err(view.wrong("a micro-operation [f key value]", micro));
            };
            let next = keys.len() as u32;
            let key = *keys.entry(key.to_string()).or_insert(next);
            steps.push(match f.word() {
                Some("append" | "w" | "write") => Step::Write(key, values.number(value)),
                Some("r" | "read") if !known => Step::ReadUnknown(key),
                Some("r" | "read") => match (objects, value) {
                    (Objects::Lists, Value::Nil) => Step::ReadList(key, Vec::new()),
                    (Objects::Lists, Value::Vector(seen)) => {
                        Step::ReadList(key, seen.iter().map(|value| values.number(value)).collect())
                    }
                    (Objects::Lists, other) => return Err(view.wrong("the list that was read", other)),
                    (Objects::Registers, Value::Nil) => Step::ReadRegister(key, None),
                    (Objects::Registers, value) => Step::ReadRegister(key, Some(values.number(value))),
                },
                _ => return Err(view.wrong("a micro-operation :r, :append or :w", f)),
            });
        }
        let outcome = match call.ending {
            Ending::Ok => Outcome::Ok,
            Ending::Fail => Outcome::Fail,
            Ending::Info => Outcome::Info,
        };
        let span = Span { process: call.process, invoked: call.invoked, returned: call.returned, outcome };
        history.push(span, steps.iter().map(Step::micro));
    }
    let mut names = vec![String::new(); keys.len()];
    for (name, key) in keys {
        names[key as usize] = name;
    }
    history.name_keys(names);
    let legend = values.legend().map(|(number, text)| (number, text.to_owned())).collect();
    Ok((history, legend))
}
