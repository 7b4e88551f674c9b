//! Transactions of micro-operations inside a slot.

use std::collections::BTreeMap;

use super::{Converter, process, value};
use crate::linear::NIL;
use crate::record::{Datum, OpKind, Outcome};
use crate::txn::{self, Objects, Span, Step, TxnHistory};

/// A history of transactions, and the record's operations that they came from.
pub struct Txns {
    pub history: TxnHistory,
    pub from: Vec<u32>,
}

impl Converter<'_> {
    /// The transactions of one slot.
    pub fn txns(&self, objects: Objects, ops: &[u32]) -> Txns {
        let wanted = match objects {
            Objects::Lists => OpKind::TxnAppend,
            Objects::Registers => OpKind::TxnRegister,
        };
        let mut txns = Txns { history: TxnHistory::new(objects), from: Vec::new() };
        let mut keys: BTreeMap<&str, u32> = BTreeMap::new();
        for &number in ops {
            let op = self.op(number);
            if op.kind != wanted {
                continue;
            }
            let ending = self.outcome(number);
            let known = ending == Outcome::Ok;
            let told = if known { op.answer() } else { op.asked() };
            let steps: Vec<Step> =
                told.items().iter().filter_map(|micro| step(micro, objects, known, &mut keys)).collect();
            let outcome = match ending {
                Outcome::Ok => txn::Outcome::Ok,
                Outcome::Fail => txn::Outcome::Fail,
                Outcome::Info => txn::Outcome::Info,
            };
            let returned = op.completed.filter(|_| ending != Outcome::Info).unwrap_or(u64::MAX);
            let span = Span { process: process(op), invoked: op.invoked, returned, outcome };
            txns.history.push(span, steps.iter().map(Step::micro));
            txns.from.push(number);
        }
        let mut names = vec![String::new(); keys.len()];
        for (name, key) in keys {
            name.clone_into(&mut names[key as usize]);
        }
        txns.history.name_keys(names);
        txns
    }
}

fn step<'a>(
    micro: &'a Datum,
    objects: Objects,
    known: bool,
    keys: &mut BTreeMap<&'a str, u32>,
) -> Option<Step> {
    let [f, key, seen] = micro.items() else { return None };
    let next = keys.len() as u32;
    let key = *keys.entry(key.text()?).or_insert(next);
    Some(match (f.text()?, objects) {
        ("append" | "w", _) => Step::Write(key, value(seen)),
        _ if !known => Step::ReadUnknown(key),
        (_, Objects::Lists) => Step::ReadList(key, seen.items().iter().map(value).collect()),
        (_, Objects::Registers) => Step::ReadRegister(key, Some(value(seen)).filter(|&seen| seen != NIL)),
    })
}
