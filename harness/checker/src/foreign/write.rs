//! Our histories as EDN that Jepsen's tools read: one map a line, keys in Jepsen's order, no outer vector. Operations on
//! a key get the tuple `[key value]` of independent workloads; Elle's list-append can be had instead.

use std::io::{self, Write};

use super::own::{self, Told};
use super::value::Value;
use crate::record::{Body, Event, Kind, Op, OpKind, Process, Speaker};

/// What an operation becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// `:f :add, :value [key 3]`.
    Keyed,
    /// `:f :txn, :value [[:append key 3]]`: sets and lists for Elle.
    Transactions,
}

/// Writes one event's line.
pub fn write_event(out: &mut impl Write, event: &Event, shape: Shape) -> io::Result<()> {
    let process = match event.process {
        Process::Client(process) => Value::Int(process as i64),
        Process::Other(Speaker::Nemesis) => word("nemesis"),
        Process::Other(Speaker::Harness) => word("harness"),
    };
    let told = match &event.body {
        Body::Add(op) | Body::Append(op) | Body::Read(op) => {
            let told = own::growing(event.body.kind().unwrap_or_default(), event.kind, op);
            shaped(told, op, shape)
        }
        Body::Call(call) => {
            let told = own::told(event.kind, call);
            // Transactions name their keys themselves.
            let names_keys = matches!(call.f, OpKind::TxnAppend | OpKind::TxnRegister);
            if names_keys { told } else { shaped(told, &call.op, Shape::Keyed) }
        }
        Body::Fault(step) => other(event.kind, &step.name, Value::Text(step.note.clone())),
        Body::Phase { value } => other(event.kind, "phase", Value::Text(format!("{value:?}"))),
        Body::Stall { value, .. } => other(event.kind, "stall", Value::Int(*value as i64)),
        Body::ReplicaCompare(_) => other(event.kind, "replica-compare", Value::Nil),
    };
    let kind = match told.kind {
        Kind::Invoke => "invoke",
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    };
    // Jepsen knows no completion of the nemesis but :info.
    let kind = if matches!(event.process, Process::Client(_)) { kind } else { "info" };
    write!(out, "{{:index {}, :time {}, :type :{kind}, :process {process}", event.index, event.time)?;
    write!(out, ", :f :{}, :value {}", told.f, told.value)?;
    if let Some(reply) = told.reply {
        write!(out, ", :reply {reply}")?;
    }
    let op = event.body.op();
    if let Some(client) = op.and_then(|op| op.client) {
        write!(out, ", :client {client}")?;
    }
    if let Some(error) = op.and_then(|op| op.error.as_ref()) {
        write!(out, ", :error {}", Value::Text(error.clone()))?;
    }
    out.write_all(b"}\n")
}

fn shaped<'a>(told: Told<'a>, op: &Op, shape: Shape) -> Told<'a> {
    let key = Value::Text(op.key.clone());
    match shape {
        Shape::Keyed => Told { value: Value::Vector(vec![key, told.value]), ..told },
        Shape::Transactions => {
            let f = word(if told.f == "append" { "append" } else { "r" });
            let micro = Value::Vector(vec![f, key, told.value]);
            Told { f: "txn", value: Value::Vector(vec![micro]), reply: None, ..told }
        }
    }
}

fn other(kind: Kind, f: &str, value: Value) -> Told<'_> {
    Told { kind, f, value, reply: None }
}

fn word(word: &str) -> Value {
    Value::Word(word.to_owned())
}
