//! Reads a run's folder from readers that the caller opened (this crate opens no files), and says precisely which line
//! is wrong. A last line that a crash cut off is left out and noted, never an error.
//!
//! Operations are nearly all of a history, so their lines have a decoder of their own without owned strings; all
//! other lines go through [`Event`]. A test holds both to the same result.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::folder::{Completion, OpExtras};
use super::{
    BusLine, Event, Kind, Nanos, OpKind, Process, ReadResult, Record, RecordBuilder, RunInfo, StreamLine,
    View,
};

/// Why a run's folder could not be read. All of these are about the folder that the user named.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A line is not what its file should hold.
    #[error("{file}, line {line}: expected {expected}")]
    Line { file: &'static str, line: u64, expected: String },
    /// The reader failed.
    #[error("{file}, line {line}: {source}")]
    Io { file: &'static str, line: u64, source: io::Error },
}

/// The opened files of a run's folder. An absent `views.jsonl` or `stream.jsonl` is an empty reader; without `bus.jsonl`
/// the cluster bus was not watched.
#[derive(Debug)]
pub struct Sources<'a, H, V, S, B> {
    /// The whole text of `run.json`.
    pub run: &'a str,
    pub history: H,
    pub views: V,
    pub stream: S,
    pub bus: Option<B>,
}

/// Reads it all.
pub fn read_folder<H: BufRead, V: BufRead, S: BufRead, B: BufRead>(
    sources: Sources<'_, H, V, S, B>,
) -> Result<Record, ReadError> {
    let info: RunInfo = serde_json::from_str(sources.run).map_err(|error| ReadError::Line {
        file: "run.json",
        line: error.line() as u64,
        expected: format!("the plan of a run ({error})"),
    })?;
    let mut builder = RecordBuilder::new(info);
    each_line("history.jsonl", sources.history, &mut builder, history_line)?;
    each_line("views.jsonl", sources.views, &mut builder, |builder, line| {
        let view: View = parse(line, "a node's answer to a poll")?;
        builder.view(view);
        Ok(())
    })?;
    each_line("stream.jsonl", sources.stream, &mut builder, |builder, line| {
        let line: StreamLine = parse(line, "what passed on a replication link")?;
        builder.stream(line);
        Ok(())
    })?;
    if let Some(bus) = sources.bus {
        builder.bus_watched();
        each_line("bus.jsonl", bus, &mut builder, |builder, line| {
            let line: BusLine = parse(line, "what passed on the cluster bus")?;
            builder.bus(line);
            Ok(())
        })?;
    }
    Ok(builder.finish())
}

/// What was wrong with a line.
enum Wrong {
    /// It is no line of this file at all: torn, if it is the last one.
    Shape(String),
    /// It is one, but does not belong here.
    Sense(String),
}

fn each_line(
    file: &'static str,
    mut reader: impl BufRead,
    builder: &mut RecordBuilder,
    mut take: impl FnMut(&mut RecordBuilder, &[u8]) -> Result<(), Wrong>,
) -> Result<(), ReadError> {
    let mut buffer = Vec::new();
    let mut line = 0;
    loop {
        buffer.clear();
        line += 1;
        let length =
            reader.read_until(b'\n', &mut buffer).map_err(|source| ReadError::Io { file, line, source })?;
        if length == 0 {
            return Ok(());
        }
        let whole = buffer.last() == Some(&b'\n');
        let text = buffer.trim_ascii();
        if text.is_empty() {
            continue;
        }
        match take(builder, text) {
            Ok(()) => {}
            Err(Wrong::Shape(_)) if !whole => builder.torn(format!("{file}:{line}")),
            Err(Wrong::Shape(expected) | Wrong::Sense(expected)) => {
                return Err(ReadError::Line { file, line, expected });
            }
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8], what: &str) -> Result<T, Wrong> {
    serde_json::from_slice(line).map_err(|error| Wrong::Shape(format!("{what} ({error})")))
}

fn history_line(builder: &mut RecordBuilder, line: &[u8]) -> Result<(), Wrong> {
    let op: OpLine<'_> = parse(line, "an event of the history")?;
    let kind = match &*op.f {
        "add" => OpKind::Add,
        "append" => OpKind::Append,
        "read" => OpKind::Read,
        _ => {
            let event: Event = parse(line, "an event of the history")?;
            return builder.event(event).map_err(Wrong::Sense);
        }
    };
    let process = op.process.number();
    if op.kind == Kind::Invoke {
        let extras = OpExtras {
            intended: op.intended,
            client: op.client,
            wait_wanted: op.wait_wanted,
            is_final: op.is_final,
        };
        let value = op.value.and_then(|value| value.0);
        return builder
            .invoke(op.index, op.time, process, kind, &op.key, value, &extras)
            .map_err(Wrong::Sense);
    }
    let node = op.node.as_deref().map(|name| builder.name(name));
    let ok = op.kind == Kind::Ok;
    let seen =
        op.elements.filter(|_| ok).map(|elements| Box::new(ReadResult { elements, foreign: op.foreign }));
    builder
        .complete(Completion {
            index: op.index,
            time: op.time,
            kind: op.kind,
            process,
            node,
            reply: op.reply,
            wait: op.wait,
            wait_wanted: op.wait_wanted,
            is_final: op.is_final,
            seen,
        })
        .map_err(Wrong::Sense)
}

/// An operation's line; of other lines only what all have.
#[derive(Deserialize)]
struct OpLine<'a> {
    index: u64,
    time: Nanos,
    #[serde(rename = "type")]
    kind: Kind,
    process: Process,
    #[serde(borrow)]
    f: Cow<'a, str>,
    #[serde(borrow, default)]
    key: Cow<'a, str>,
    #[serde(default)]
    value: Option<Element>,
    #[serde(default)]
    elements: Option<Vec<u64>>,
    #[serde(default)]
    foreign: Vec<String>,
    #[serde(default)]
    intended: Option<Nanos>,
    #[serde(default)]
    client: Option<u32>,
    #[serde(borrow, default)]
    node: Option<Cow<'a, str>>,
    #[serde(default)]
    reply: Option<i64>,
    #[serde(default)]
    wait: Option<i64>,
    #[serde(default)]
    wait_wanted: Option<i64>,
    #[serde(rename = "final", default)]
    is_final: bool,
}

/// `value`: a number; or what is read elsewhere: a phase's word, a call's arguments.
struct Element(Option<u64>);

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Element;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a word or a list")
            }
            fn visit_unit<E>(self) -> Result<Element, E> {
                Ok(Element(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Element, E> {
                Ok(Element(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Element, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Element(None))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Element, E> {
                Ok(Element(Some(value)))
            }
            fn visit_str<E>(self, _: &str) -> Result<Element, E> {
                Ok(Element(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
