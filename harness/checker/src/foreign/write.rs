//! Our histories as EDN that Jepsen's tools read: one map a line, keys in Jepsen's order, no outer vector. Operations on
//! a key get the tuple `[key value]` of independent workloads; Elle's list-append can be had instead.

use std::io::{self, Write};

use super::own;
use super::value::Value;
use crate::record::{Body, Call, Event, Kind, Op, OpKind, Process, Speaker};

/// What an operation becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// `:f :add, :value [key 3]`.
    Keyed,
    /// `:f :txn, :value [[:append key 3]]`: for Elle.
    Transactions,
}

/// Writes one event's line.
pub fn write_event(out: &mut impl Write, event: &Event, shape: Shape) -> io::Result<()> {
    let process = match event.process {
        Process::Client(process) => Value::Int(process as i64),
        Process::Other(Speaker::Nemesis) => word("nemesis"),
        Process::Other(Speaker::Harness) => word("harness"),
    };
    let mut kind = event.kind;
    let (f, value, error) = match &event.body {
        Body::Add(op) => operation("add", op, event.kind, shape),
        Body::Append(op) => operation("append", op, event.kind, shape),
        Body::Read(op) => operation("read", op, event.kind, shape),
        Body::Call(call) => {
            let (jepsens, f, value) = own::told(event.kind, call);
            kind = jepsens;
            (f.to_owned(), of_key(call, value), call.op.error.clone().map(Value::Text))
        }
        Body::Fault(step) => (step.name.clone(), Value::Text(step.note.clone()), None),
        Body::Phase { value } => ("phase".to_owned(), Value::Text(format!("{value:?}")), None),
        Body::Stall { value, .. } => ("stall".to_owned(), Value::Int(*value as i64), None),
        Body::ReplicaCompare(_) => ("replica-compare".to_owned(), Value::Nil, None),
    };
    let kind = match kind {
        Kind::Invoke => "invoke",
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    };
    // Jepsen knows no completion of the nemesis but :info.
    let kind = if matches!(event.process, Process::Client(_)) { kind } else { "info" };
    write!(out, "{{:index {}, :time {}, :type :{kind}, :process {process}", event.index, event.time)?;
    write!(out, ", :f :{f}, :value {value}")?;
    if let Some(error) = error {
        write!(out, ", :error {error}")?;
    }
    out.write_all(b"}\n")
}

fn operation(f: &str, op: &Op, kind: Kind, shape: Shape) -> (String, Value, Option<Value>) {
    let int = |value: u64| i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int);
    let seen = || {
        let numbers = op.elements.iter().flatten().copied().map(int);
        Value::Vector(numbers.chain(op.foreign.iter().cloned().map(Value::Text)).collect())
    };
    let read = f == "read";
    let value = match (read, kind) {
        (true, Kind::Ok) => seen(),
        (true, _) => Value::Nil,
        (false, _) => op.value.map_or(Value::Nil, int),
    };
    let key = Value::Text(op.key.clone());
    let error = op.error.clone().map(Value::Text);
    match shape {
        Shape::Keyed => (f.to_owned(), Value::Vector(vec![key, value]), error),
        Shape::Transactions => {
            let micro = Value::Vector(vec![word(if read { "r" } else { "append" }), key, value]);
            ("txn".to_owned(), Value::Vector(vec![micro]), error)
        }
    }
}

/// Transactions name their keys themselves.
fn of_key(call: &Call, value: Value) -> Value {
    if matches!(call.f, OpKind::TxnAppend | OpKind::TxnRegister) {
        return value;
    }
    Value::Vector(vec![Value::Text(call.op.key.clone()), value])
}

fn word(word: &str) -> Value {
    Value::Word(word.to_owned())
}
