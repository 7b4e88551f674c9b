//! A witness as it stands in the verdict: told, and ready to be drawn.

use std::collections::BTreeSet;

use super::Excuse;
use super::verdicts::Judged;
use crate::answer::Witness;
use crate::record::objects::Part;
use crate::record::verdict::{Anomaly, WitnessLink, WitnessOp};
use crate::record::{OpKind, Operation, Outcome, Record};
use crate::witness::label;

/// Elements of a read that are shown; the rest is counted.
const SHOWN: usize = 8;

pub(super) fn anomaly(
    record: &Record,
    part: &Part,
    judged: &Judged,
    witness: &Witness,
    excuse: Excuse,
) -> Anomaly {
    let of = |local: u32| &record.ops[judged.from[local as usize] as usize];
    let ops: Vec<&Operation> = witness.ops.iter().map(|op| of(op.0)).collect();
    let nodes: BTreeSet<&str> =
        ops.iter().filter_map(|op| op.node).map(|node| record.node_name(node)).collect();
    Anomaly {
        what: witness.class.to_owned(),
        text: witness.sentence.clone(),
        object: part.object.name().to_owned(),
        key: record.key(part.key).name.clone(),
        excused: excuse.is_some(),
        excuse: excuse.map_or(String::new(), |(window, why)| format!("{window}: {why}")),
        from: ops.iter().map(|op| op.invoked).min().unwrap_or(0),
        to: ops.iter().filter_map(|op| op.completed).max().unwrap_or(0),
        nodes: nodes.into_iter().map(str::to_owned).collect(),
        witness: ops.iter().flat_map(|op| op.witness()).collect(),
        ops: witness.ops.iter().map(|op| shown(record, op.0, of(op.0))).collect(),
        links: witness
            .links
            .iter()
            .map(|link| WitnessLink {
                from: name(link.from.0),
                to: name(link.to.0),
                relation: label(link.relation).to_owned(),
                why: link.why.clone(),
            })
            .collect(),
    }
}

/// Sentences about transactions call them so.
fn name(local: u32) -> String {
    format!("T{local}")
}

fn shown(record: &Record, local: u32, op: &Operation) -> WitnessOp {
    let node = op.node.map_or("?", |node| record.node_name(node));
    WitnessOp {
        name: name(local),
        lane: format!("process {} at {node}", op.process),
        from: op.invoked,
        to: op.completed.filter(|_| op.outcome != Outcome::Info),
        words: words(op),
    }
}

fn words(op: &Operation) -> String {
    let asked = match op.kind {
        OpKind::Add | OpKind::Append => format!(" {}", op.value.unwrap_or_default()),
        _ if op.asked().is_nil() => String::new(),
        _ => format!(" {}", op.asked()),
    };
    let answered = match (op.outcome, op.elements()) {
        (Outcome::Ok, Some(seen)) => {
            let last: Vec<String> = seen.iter().rev().take(SHOWN).rev().map(u64::to_string).collect();
            let before =
                if seen.len() > SHOWN { format!("{} and ", seen.len() - SHOWN) } else { String::new() };
            format!(" -> {before}[{}]", last.join(" "))
        }
        (Outcome::Ok, None) if op.reply.is_some() => format!(" -> {}", op.reply.unwrap_or_default()),
        (Outcome::Ok, None) if op.call.is_some() => format!(" -> {}", op.answer()),
        (Outcome::Ok, None) => String::new(),
        (Outcome::Fail, _) => " failed".to_owned(),
        (Outcome::Info, _) => " unknown".to_owned(),
    };
    format!("{}{asked}{answered}", op.kind)
}
