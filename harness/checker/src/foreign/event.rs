//! One line of a history in Jepsen's sense, whatever it was written in.

use super::error::ForeignError;
use super::value::Value;
use crate::record::OpKind;

/// Jepsen's four types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaker {
    /// A client's logical thread; none if the history does not say.
    Client(Option<i64>),
    /// The nemesis and others: not judged.
    Other(String),
}

/// An invocation or a completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Where it stands in its file.
    pub line: u64,
    /// Nanoseconds from the start, if the history says.
    pub time: Option<u64>,
    pub kind: Kind,
    pub speaker: Speaker,
    /// What was asked, such as `read`; empty if the history does not say.
    pub f: String,
    pub value: Value,
    /// The key apart from the value, where the format has a place for it.
    pub key: Option<String>,
    /// `:reply`, an extra of ours: what the server answered, where Jepsen has no place for it. The length of a list, the new
    /// count of a counter, what a compare-and-set that lost saw, a fencing token.
    pub reply: Option<Value>,
    /// `:client`, an extra of ours: who stays the same when a process retires.
    pub client: Option<i64>,
    /// What it was in a run of ours.
    pub own: Option<OpKind>,
}

impl Event {
    /// From a map with Jepsen's keys. `column` is where it begins.
    pub(super) fn of_map(map: &Value, line: u64, column: u64) -> Result<Self, ForeignError> {
        let wrong = |expected: &str, found: Option<&Value>| ForeignError::Syntax {
            line,
            column,
            expected: expected.to_owned(),
            found: found.map_or("none".to_owned(), shortened),
        };
        if !matches!(map, Value::Map(_)) {
            return Err(wrong("an operation: a map with :type, :process, :f and :value", Some(map)));
        }
        let kind = map.entry("type");
        let kind = match kind.and_then(Value::word) {
            Some("invoke") => Kind::Invoke,
            Some("ok") => Kind::Ok,
            Some("fail") => Kind::Fail,
            Some("info") => Kind::Info,
            _ => return Err(wrong("the operation's :type, one of :invoke, :ok, :fail, :info", kind)),
        };
        let speaker = match map.entry("process") {
            None | Some(Value::Nil) => Speaker::Client(None),
            Some(Value::Int(process)) => Speaker::Client(Some(*process)),
            Some(Value::Word(name) | Value::Text(name)) => Speaker::Other(name.clone()),
            other => return Err(wrong("the operation's :process, a number or a name", other)),
        };
        let f = match map.entry("f") {
            None | Some(Value::Nil) => String::new(),
            Some(Value::Word(f) | Value::Text(f)) => f.clone(),
            other => return Err(wrong("the operation's :f, a word", other)),
        };
        let time = map.entry("time").and_then(Value::int).and_then(|time| u64::try_from(time).ok());
        let value = map.entry("value").cloned().unwrap_or(Value::Nil);
        let reply = map.entry("reply").cloned();
        let client = map.entry("client").and_then(Value::int);
        Ok(Self { line, time, kind, speaker, f, value, key: None, reply, client, own: None })
    }
}

/// At most so much of a value in a message.
fn shortened(value: &Value) -> String {
    const CHARS: usize = 60;
    let whole = value.to_string();
    match whole.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}...", &whole[..end]),
        None => whole,
    }
}
