//! One run's history as a table: of one key, one process, one kind of event, a span of time. A key with faults between its
//! operations shows how it went through a failover.

use std::fs::File;
use std::io::{BufRead, BufReader};

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::Html;
use serde::{Deserialize, Deserializer};
use slotstorm_checker::record::{Body, Call, Datum, Event, FaultPhase, Kind, Op, OpKind, Process, Speaker};

use super::{Site, Trouble, reading};

/// Rows of one page.
const ROWS: usize = 500;
/// Elements of one answer that are shown.
const LAST: usize = 8;

/// What is wanted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    key: String,
    process: String,
    /// `ok`, `fail`, `info`, `invoke`; nothing: all.
    kind: String,
    #[serde(deserialize_with = "maybe")]
    from: Option<f64>,
    #[serde(deserialize_with = "maybe")]
    to: Option<f64>,
    /// Rows to leave out before the first that is shown.
    #[serde(deserialize_with = "maybe")]
    skip: Option<usize>,
}

/// A form sends a field that was left empty as an empty word.
fn maybe<'de, D: Deserializer<'de>, T: std::str::FromStr>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    text.trim().parse().map(Some).map_err(|_| serde::de::Error::custom(format!("{text:?} is no number")))
}

#[derive(Template)]
#[template(path = "history.html")]
struct Page {
    path: String,
    wanted: Wanted,
    rows: Vec<Row>,
    found: usize,
    shown_from: usize,
    /// The same filter, elsewhere in the list; empty: there is no more.
    earlier: String,
    later: String,
    damaged: usize,
}

struct Row {
    index: u64,
    time: String,
    kind: &'static str,
    process: String,
    what: &'static str,
    key: String,
    value: String,
    node: String,
    note: String,
}

/// `/history/{path}?key=...`
pub async fn page(
    State(site): State<Site>,
    Path(asked): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Html<String>, Trouble> {
    reading(move || {
        let dir = site.results.find(asked.trim_end_matches('/')).ok_or(Trouble::NotFound)?;
        let file = File::open(dir.join("history.jsonl")).map_err(|_| Trouble::NotFound)?;
        let skip = wanted.skip.unwrap_or(0);
        let (mut rows, mut found, mut damaged) = (Vec::new(), 0, 0);
        for line in BufReader::new(file).split(b'\n') {
            let line = line?;
            let Ok(event) = serde_json::from_slice::<Event>(&line) else {
                damaged += usize::from(!line.is_empty());
                continue;
            };
            if wanted.takes(&event) {
                if found >= skip && rows.len() < ROWS {
                    rows.push(row(&event));
                }
                found += 1;
            }
        }
        let page = Page {
            path: site.results.name(&dir),
            earlier: if skip > 0 { wanted.at(skip.saturating_sub(ROWS)) } else { String::new() },
            later: if skip + rows.len() < found { wanted.at(skip + ROWS) } else { String::new() },
            shown_from: skip,
            wanted,
            rows,
            found,
            damaged,
        };
        Ok(Html(page.render()?))
    })
    .await
}

impl Wanted {
    fn from(&self) -> String {
        self.from.map(|from| from.to_string()).unwrap_or_default()
    }

    fn to(&self) -> String {
        self.to.map(|to| to.to_string()).unwrap_or_default()
    }

    /// The same filter, elsewhere in the list.
    fn at(&self, skip: usize) -> String {
        let word = |text: &str| -> String {
            text.bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                        char::from(byte).to_string()
                    }
                    _ => format!("%{byte:02X}"),
                })
                .collect()
        };
        let (key, process, kind) = (word(&self.key), word(&self.process), word(&self.kind));
        format!("?key={key}&process={process}&kind={kind}&from={}&to={}&skip={skip}", self.from(), self.to())
    }

    fn takes(&self, event: &Event) -> bool {
        let seconds = event.time as f64 / 1e9;
        if self.from.is_some_and(|from| seconds < from) || self.to.is_some_and(|to| seconds > to) {
            return false;
        }
        if !self.kind.is_empty() && self.kind != word(event.kind) {
            return false;
        }
        // Faults and phases say where one is, whatever key is followed.
        (self.process.is_empty() || self.process == name(event.process))
            && (self.key.is_empty() || event.body.op().is_none() || touches(&event.body, &self.key))
    }
}

/// Whether an operation is about this key: its own, one that its arguments name, or one of those that it works on together
/// (an object of several keys is recorded under what their names begin with, before a colon).
fn touches(body: &Body, key: &str) -> bool {
    let Some(op) = body.op() else { return false };
    if op.key == key {
        return true;
    }
    let Body::Call(call) = body else { return false };
    let named = |datum: &Datum| datum.text() == Some(key);
    match call.f {
        OpKind::Move => named(&call.asked),
        OpKind::TxnAppend | OpKind::TxnRegister => {
            call.asked.items().iter().any(|step| step.items().get(1).is_some_and(named))
        }
        OpKind::Transfer
        | OpKind::Balances
        | OpKind::WriteAll
        | OpKind::GetAll
        | OpKind::Acquire
        | OpKind::Release
        | OpKind::Guarded
        | OpKind::Get => key.strip_prefix(&op.key).is_some_and(|member| member.starts_with(':')),
        _ => false,
    }
}

fn row(event: &Event) -> Row {
    let mut row = Row {
        index: event.index,
        time: format!("{:.3}", event.time as f64 / 1e9),
        kind: word(event.kind),
        process: name(event.process),
        what: "",
        key: String::new(),
        value: String::new(),
        node: String::new(),
        note: String::new(),
    };
    if let (Some(what), Some(op)) = (event.body.kind(), event.body.op()) {
        row.what = what.name();
        row.key.clone_from(&op.key);
        row.node = op.node.clone().unwrap_or_default();
        row.value = match &event.body {
            Body::Call(call) => called(call, event.kind),
            _ => grown(op),
        };
        row.note = op.error.clone().unwrap_or_default();
        return row;
    }
    match &event.body {
        Body::Fault(step) => {
            row.what = if step.phase == FaultPhase::Start { "fault" } else { "heal" };
            row.value.clone_from(&step.name);
            row.note.clone_from(&step.note);
        }
        Body::Phase { value } => {
            row.what = "phase";
            row.value = format!("{value:?}").to_lowercase();
        }
        Body::Stall { value, of } => {
            row.what = "stall";
            row.value = format!("{:.0} ms", *value as f64 / 1e6);
            row.note.clone_from(of);
        }
        Body::ReplicaCompare(compare) => {
            row.what = "compare";
            row.value = format!(
                "{} beside {}: {} of {} differ",
                compare.replica, compare.master, compare.differing, compare.keys
            );
        }
        Body::Add(_) | Body::Append(_) | Body::Read(_) | Body::Call(_) => {}
    }
    row
}

/// What an operation on a growing object wrote or saw.
fn grown(op: &Op) -> String {
    match (&op.value, &op.elements) {
        (Some(value), _) => format!("e{value}"),
        (None, Some(elements)) => {
            let last = last_of(elements, |element| format!("e{element}"));
            format!("{} elements {last}", elements.len())
        }
        (None, None) => String::new(),
    }
}

/// What another operation asked, and what it was answered.
fn called(call: &Call, kind: Kind) -> String {
    let asked = if call.asked.is_nil() { String::new() } else { shown(&call.asked) };
    if kind != Kind::Ok {
        return asked;
    }
    format!("{asked} \u{2192} {}", shown(&call.answer)).trim_start().to_owned()
}

fn shown(datum: &Datum) -> String {
    match datum.items() {
        [] => datum.to_string(),
        items => format!("[{}]", last_of(items, Datum::to_string)),
    }
}

/// The last few, which are the newest.
fn last_of<T>(items: &[T], word: impl Fn(&T) -> String) -> String {
    let last: Vec<String> = items[items.len().saturating_sub(LAST)..].iter().map(word).collect();
    format!("{}{}", if items.len() > LAST { "... " } else { "" }, last.join(" "))
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Invoke => "invoke",
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    }
}

fn name(process: Process) -> String {
    match process {
        Process::Client(number) => number.to_string(),
        Process::Other(Speaker::Nemesis) => "nemesis".into(),
        Process::Other(Speaker::Harness) => "harness".into(),
    }
}
