//! Our operations in the words of Jepsen's workloads, as far as these have words for them.

use super::event::{Event, Kind, Speaker};
use super::value::Value;
use crate::record::{self, Body, Call, Datum, OpKind, Process};

/// How Jepsen would have recorded it: type, `f` and value.
pub(super) fn told(kind: record::Kind, call: &Call) -> (record::Kind, &'static str, Value) {
    let ok = kind == record::Kind::Ok;
    let (asked, answer) = (|| value(&call.asked), || value(&call.answer));
    let answered = || if ok { answer() } else { Value::Nil };
    // What was refused by the object itself did not happen: Jepsen's fail.
    let refused = |refused: bool| if ok && refused { record::Kind::Fail } else { kind };
    let nth = |at: usize| call.asked.items().get(at).cloned().unwrap_or_default();
    match call.f {
        OpKind::Get | OpKind::Count | OpKind::CountAtReplica | OpKind::Read => (kind, "read", answered()),
        OpKind::Write | OpKind::WriteAll => (kind, "write", asked()),
        OpKind::WriteFor => (kind, "write-for", asked()),
        OpKind::Cas => (refused(call.answer != nth(0)), "cas", asked()),
        OpKind::Swap if ok => (kind, "swap", Value::Vector(vec![asked(), answer()])),
        OpKind::Swap => (kind, "swap", asked()),
        OpKind::Add => (kind, "add", asked()),
        OpKind::Append => (kind, "append", asked()),
        OpKind::Increment => (kind, "add", Value::Int(1)),
        OpKind::Decrement => (kind, "add", Value::Int(-1)),
        OpKind::Enqueue => (kind, "enqueue", asked()),
        OpKind::Dequeue => (kind, "dequeue", answered()),
        OpKind::Move => (kind, "move", Value::Vector(vec![asked(), answered()])),
        OpKind::Rest => (kind, "drain", answered()),
        OpKind::Acquire => (refused(call.answer.is_nil()), "acquire", value(&nth(0))),
        OpKind::Release => (refused(call.answer.int() == Some(0)), "release", value(&nth(0))),
        OpKind::Guarded => (refused(call.answer.int() == Some(0)), "guarded", asked()),
        OpKind::Transfer => {
            let names = ["from", "to", "amount"].map(|name| Value::Word(name.to_owned()));
            let entries = names.into_iter().zip(call.asked.items().iter().map(value)).collect();
            (kind, "transfer", Value::Map(entries))
        }
        OpKind::Balances if ok => {
            let accounts = (0..).map(Value::Int).zip(call.answer.items().iter().map(balance)).collect();
            (kind, "read", Value::Map(accounts))
        }
        OpKind::Balances => (kind, "read", Value::Nil),
        OpKind::TxnAppend | OpKind::TxnRegister if ok => (kind, "txn", answer()),
        OpKind::TxnAppend | OpKind::TxnRegister => (kind, "txn", asked()),
        OpKind::GetAll => (kind, "read", together(&call.answer)),
        OpKind::Publish => (kind, "publish", asked()),
        OpKind::Message => (kind, "message", answered()),
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

/// A line of our own history that holds such an operation; None for any other line.
pub(super) fn event(text: &str, line: u64) -> Option<Event> {
    let record::Event { time, kind, process, body: Body::Call(call), .. } =
        serde_json::from_str(text).ok()?
    else {
        return None;
    };
    let (kind, f, value) = told(kind, &call);
    let kind = match kind {
        record::Kind::Invoke => Kind::Invoke,
        record::Kind::Ok => Kind::Ok,
        record::Kind::Fail => Kind::Fail,
        record::Kind::Info => Kind::Info,
    };
    let speaker = match process {
        Process::Client(number) => Speaker::Client(i64::try_from(number).ok()),
        Process::Other(_) => Speaker::Other("harness".to_owned()),
    };
    Some(Event { line, time: Some(time), kind, speaker, f: f.to_owned(), value, key: Some(call.op.key) })
}
