//! Our operations in the words of Jepsen's workloads, as far as these have words for them.

use super::event::{Event, Kind, Speaker};
use super::value::Value;
use crate::record::{self, Body, Call, Datum, OpKind, Process};

/// How Jepsen would have recorded it.
pub(super) struct Told<'a> {
    pub kind: record::Kind,
    pub f: &'a str,
    pub value: Value,
    /// What the server answered, where the value has no place for it.
    pub reply: Option<Value>,
}

pub(super) fn told(kind: record::Kind, call: &Call) -> Told<'static> {
    let ok = kind == record::Kind::Ok;
    let (asked, answer) = (|| value(&call.asked), || value(&call.answer));
    let answered = || if ok { answer() } else { Value::Nil };
    let plain = |f, value| Told { kind, f, value, reply: None };
    let replied = |f, value| Told { kind, f, value, reply: ok.then(answer) };
    // What was refused by the object itself did not happen: Jepsen's fail.
    let refused = |refused: bool, f| {
        let kind = if ok && refused { record::Kind::Fail } else { kind };
        Told { kind, f, value: asked(), reply: ok.then(answer) }
    };
    let first = || call.asked.items().first().cloned().unwrap_or_default();
    let is_zero = call.answer.int() == Some(0);
    match call.f {
        OpKind::Get | OpKind::Count | OpKind::Read => plain("read", answered()),
        OpKind::CountAtReplica => plain("read-at-replica", answered()),
        OpKind::Write | OpKind::WriteAll => plain("write", asked()),
        OpKind::WriteFor => plain("write-for", asked()),
        OpKind::Cas => refused(call.answer != first(), "cas"),
        OpKind::Swap if ok => plain("swap", Value::Vector(vec![asked(), answer()])),
        OpKind::Swap => plain("swap", asked()),
        OpKind::Add => plain("add", asked()),
        OpKind::Append => plain("append", asked()),
        OpKind::Increment => replied("add", Value::Int(1)),
        OpKind::Decrement => replied("add", Value::Int(-1)),
        OpKind::Enqueue => replied("enqueue", asked()),
        OpKind::Dequeue => plain("dequeue", answered()),
        OpKind::Move => plain("move", Value::Vector(vec![asked(), answered()])),
        OpKind::Rest => plain("drain", answered()),
        OpKind::Acquire => refused(call.answer.is_nil(), "acquire"),
        OpKind::Release => refused(is_zero, "release"),
        OpKind::Guarded => refused(is_zero, "guarded"),
        OpKind::Transfer => {
            let names = ["from", "to", "amount"].map(|name| Value::Word(name.to_owned()));
            let entries = names.into_iter().zip(call.asked.items().iter().map(value)).collect();
            plain("transfer", Value::Map(entries))
        }
        OpKind::Balances if ok => {
            let accounts = (0..).map(Value::Int).zip(call.answer.items().iter().map(balance)).collect();
            plain("read", Value::Map(accounts))
        }
        OpKind::Balances => plain("read", Value::Nil),
        OpKind::TxnAppend | OpKind::TxnRegister if ok => plain("txn", answer()),
        OpKind::TxnAppend | OpKind::TxnRegister => plain("txn", asked()),
        OpKind::GetAll => plain("read", together(&call.answer)),
        OpKind::Publish => plain("publish", asked()),
        OpKind::Message => plain("message", answered()),
    }
}

/// An absent account holds nothing.
fn balance(balance: &Datum) -> Value {
    Value::Int(balance.int().unwrap_or(0))
}

/// Keys that are written together are one register, unless half of a write was seen.
fn together(seen: &Datum) -> Value {
    match seen.items() {
        [] => Value::Nil,
        [first, rest @ ..] if rest.iter().all(|other| other == first) => value(first),
        _ => value(seen),
    }
}

fn value(datum: &Datum) -> Value {
    match datum {
        Datum::Nil => Value::Nil,
        Datum::Int(int) => Value::Int(*int),
        Datum::Text(word) if matches!(word.as_str(), "append" | "r" | "w") => Value::Word(word.clone()),
        Datum::Text(text) => Value::Text(text.clone()),
        Datum::List(items) => Value::Vector(items.iter().map(value).collect()),
    }
}

/// An operation in a line of our own history; None for any other line.
pub(super) fn event(text: &str, line: u64) -> Option<Event> {
    let record::Event { time, kind, process, body, .. } = serde_json::from_str(text).ok()?;
    let Process::Client(process) = process else { return None };
    let own = body.kind();
    let (told, op) = match body {
        Body::Call(call) => (told(kind, &call), call.op),
        Body::Add(op) | Body::Append(op) | Body::Read(op) => (growing(own?, kind, &op), op),
        Body::Fault(_) | Body::ReplicaCompare(_) | Body::Phase { .. } | Body::Stall { .. } => return None,
    };
    let kind = match told.kind {
        record::Kind::Invoke => Kind::Invoke,
        record::Kind::Ok => Kind::Ok,
        record::Kind::Fail => Kind::Fail,
        record::Kind::Info => Kind::Info,
    };
    Some(Event {
        line,
        time: Some(time),
        kind,
        speaker: Speaker::Client(i64::try_from(process).ok()),
        f: told.f.to_owned(),
        value: told.value,
        key: Some(op.key),
        reply: told.reply,
        client: op.client.map(i64::from),
        own,
    })
}

/// SADD, RPUSH, and reads of the whole key.
pub(super) fn growing(own: OpKind, kind: record::Kind, op: &record::Op) -> Told<'static> {
    let int = |value: u64| i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int);
    let value = match own {
        OpKind::Read if kind == record::Kind::Ok => {
            let numbers = op.elements.iter().flatten().copied().map(int);
            Value::Vector(numbers.chain(op.foreign.iter().cloned().map(Value::Text)).collect())
        }
        OpKind::Read => Value::Nil,
        _ => op.value.map_or(Value::Nil, int),
    };
    Told { kind, f: own.name(), value, reply: op.reply.map(Value::Int) }
}
