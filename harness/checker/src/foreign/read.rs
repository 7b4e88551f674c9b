//! Readers of the three formats: each hands out events one by one.

use std::io::BufRead;

use super::edn::EdnReader;
use super::error::ForeignError;
use super::event::{Event, Kind, Speaker};
use super::own;
use super::value::Value;

/// How a history is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Jepsen's `history.edn`.
    Edn,
    /// One JSON object a line: Jepsen's keys, or `history.jsonl` of a run.
    JsonLines,
    /// Log lines of Jepsen, as Porcupine's etcd test data has them.
    PorcupineLog,
}

impl Format {
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "edn" => Some(Self::Edn),
            "jsonl" => Some(Self::JsonLines),
            "porcupine-log" => Some(Self::PorcupineLog),
            _ => None,
        }
    }
}

/// Reads a whole history, an event at a time; the events of clients only. Returns how many there were.
pub fn read(source: impl BufRead, format: Format, mut each: impl FnMut(Event)) -> Result<u64, ForeignError> {
    let mut count = 0;
    let mut take = |event: Event| {
        if matches!(event.speaker, Speaker::Client(_)) {
            count += 1;
            each(event);
        }
    };
    let expected = match format {
        Format::Edn => {
            edn(source, &mut take)?;
            "maps such as {:type :invoke, :process 0, :f :read, :value nil}"
        }
        Format::JsonLines => {
            json_lines(source, &mut take)?;
            r#"lines such as {"type":"invoke","process":0,"f":"read","value":null}"#
        }
        Format::PorcupineLog => {
            porcupine_log(source, &mut take)?;
            "lines such as INFO  jepsen.util - 0  :invoke  :read  nil"
        }
    };
    if count == 0 { Err(ForeignError::Empty { expected }) } else { Ok(count) }
}

fn edn(source: impl BufRead, take: &mut impl FnMut(Event)) -> Result<(), ForeignError> {
    let mut reader = EdnReader::new(source);
    while let Some(located) = reader.next_value()? {
        take(Event::of_map(&located.value, located.line, located.column)?);
    }
    Ok(())
}

fn json_lines(source: impl BufRead, take: &mut impl FnMut(Event)) -> Result<(), ForeignError> {
    // A run's own history says so by what the harness tells in it.
    let mut is_ours = false;
    each_line(source, |line, text| {
        if text.trim().is_empty() {
            return Ok(());
        }
        if is_ours && let Some(own) = own::event(text, line) {
            take(own);
            return Ok(());
        }
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| ForeignError::Syntax {
            line,
            column: column_of(text.as_bytes(), error.column()),
            expected: "one JSON object a line".to_owned(),
            found: error.to_string(),
        })?;
        let value = of_json(value);
        let mut event = Event::of_map(&value, line, 1)?;
        is_ours |= event.speaker == Speaker::Other("harness".to_owned());
        event.key = value.entry("key").and_then(Value::word).map(str::to_owned);
        // Our reads have what they saw in fields of their own, also where the lines stand alone.
        if event.key.is_some() && value.entry("elements").is_some() && event.kind == Kind::Ok {
            let seen = |name: &str| value.entry(name).and_then(Value::vector).unwrap_or_default();
            event.value = Value::Vector(seen("elements").iter().chain(seen("foreign")).cloned().collect());
        }
        take(event);
        Ok(())
    })
}

/// Words in JSON are strings.
fn of_json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(int) => Value::Int(int),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Array(items) => Value::Vector(items.into_iter().map(of_json).collect()),
        serde_json::Value::Object(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| (Value::Text(key), of_json(value))).collect())
        }
    }
}

/// `INFO  jepsen.util - 4  :invoke  :cas  [1 2]`; all other lines of a log are passed over.
fn porcupine_log(source: impl BufRead, take: &mut impl FnMut(Event)) -> Result<(), ForeignError> {
    const MARK: &str = "jepsen.util - ";
    each_line(source, |line, text| {
        let Some(at) = text.find(MARK).filter(|_| text.starts_with("INFO")) else { return Ok(()) };
        let fields = &text[at + MARK.len()..];
        let column = text[..at + MARK.len()].chars().count() as u64 + 1;
        let mut reader = EdnReader::new(fields.as_bytes());
        let mut next = |expected: &str| match reader.next_value() {
            Ok(Some(located)) => Ok(located.value),
            Ok(None) => Err(ForeignError::Syntax {
                line,
                column: column + fields.chars().count() as u64,
                expected: expected.to_owned(),
                found: "the end of the line".to_owned(),
            }),
            Err(ForeignError::Syntax { column: inner, expected, found, .. }) => {
                Err(ForeignError::Syntax { line, column: column + inner - 1, expected, found })
            }
            Err(error) => Err(error),
        };
        let names = ["process", "type", "f", "value"];
        let mut entries = Vec::new();
        for name in names {
            let value = next(&format!("the operation's {name}"))?;
            entries.push((Value::Word(name.to_owned()), value));
        }
        take(Event::of_map(&Value::Map(entries), line, column)?);
        Ok(())
    })
}

fn each_line(
    mut source: impl BufRead,
    mut take: impl FnMut(u64, &str) -> Result<(), ForeignError>,
) -> Result<(), ForeignError> {
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        match source.read_until(b'\n', &mut bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(source) => return Err(ForeignError::Io { line, source }),
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| ForeignError::Syntax {
            line,
            column: column_of(&bytes, error.valid_up_to() + 1),
            expected: "UTF-8".to_owned(),
            found: format!("byte {:#04x}", bytes[error.valid_up_to()]),
        })?;
        take(line, text.trim_end_matches(['\n', '\r']))?;
    }
    Ok(())
}

/// The column, in characters, of the byte with this number (from 1).
fn column_of(line: &[u8], byte: usize) -> u64 {
    let before = line.len().min(byte.saturating_sub(1));
    line[..before].iter().filter(|&&byte| byte & 0xc0 != 0x80).count() as u64 + 1
}
