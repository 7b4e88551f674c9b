//! What a simulated run leaves behind: the text of a run's folder, or, where thousands of storms are only judged, the
//! judge's own form of it.

use slotstorm_checker::record::{BusLine, Event, Nanos, Record, RecordBuilder, RunInfo, StreamLine, View};
use slotstorm_fabric::BusTape;

use crate::backend::bus_lines::BusLines;

/// What is kept of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All that a run's folder holds.
    Folder,
    /// What the judge needs.
    Record,
}

/// The record of a run as it grows.
pub struct Tape {
    form: Form,
    bus: BusLines,
    lines: Vec<BusLine>,
    bus_end: Nanos,
}

enum Form {
    Text(Box<Text>),
    Record(Box<RecordBuilder>),
}

/// The growing files of a run's folder.
#[derive(Default)]
struct Text {
    history: Pieces,
    views: Pieces,
    stream: Pieces,
    bus: Pieces,
}

/// A text that grows without being moved: fresh memory costs more than what is written to it.
#[derive(Default)]
struct Pieces(Vec<Vec<u8>>);

const PIECE_BYTES: usize = 256 * 1024;
/// Longer than nearly every line.
const LINE_BYTES: usize = 8 * 1024;

impl Tape {
    pub fn new(keep: Keep, info: &RunInfo) -> Self {
        let form = match keep {
            Keep::Folder => Form::Text(Box::default()),
            Keep::Record => {
                let mut builder = RecordBuilder::new(info.clone());
                builder.bus_watched();
                Form::Record(Box::new(builder))
            }
        };
        let node_timeout = info.node_timeout_ms * 1_000_000;
        Self { form, bus: BusLines::new(node_timeout), lines: Vec::new(), bus_end: 0 }
    }

    pub fn event(&mut self, event: Event) {
        match &mut self.form {
            Form::Text(text) => put(&mut text.history, &event),
            Form::Record(builder) => {
                builder.event(event).unwrap_or_else(|why| unreachable!("the driver records {why}"));
            }
        }
    }

    pub fn view(&mut self, view: View) {
        match &mut self.form {
            Form::Text(text) => put(&mut text.views, &view),
            Form::Record(builder) => builder.view(view),
        }
    }

    pub fn stream(&mut self, line: &StreamLine) {
        match &mut self.form {
            Form::Text(text) => put(&mut text.stream, line),
            Form::Record(builder) => builder.stream(line.clone()),
        }
    }

    pub fn bus(&mut self, tape: &BusTape) {
        self.bus_end = self.bus.take(tape, &mut self.lines).max(self.bus_end);
        self.put_bus_lines();
    }

    /// The run is over.
    pub fn end(&mut self) {
        self.lines.push(self.bus.tally(self.bus_end));
        self.put_bus_lines();
    }

    /// The files of a run's folder, name and content in pieces; none if only the record was kept.
    pub fn files(&self) -> Vec<(&'static str, &[Vec<u8>])> {
        match &self.form {
            Form::Record(_) => Vec::new(),
            Form::Text(text) => vec![
                ("history.jsonl", &text.history.0),
                ("views.jsonl", &text.views.0),
                ("stream.jsonl", &text.stream.0),
                ("bus.jsonl", &text.bus.0),
            ],
        }
    }

    /// The judge's form, if that was kept.
    pub fn into_record(self) -> Option<Record> {
        match self.form {
            Form::Text(_) => None,
            Form::Record(builder) => Some(builder.finish()),
        }
    }

    fn put_bus_lines(&mut self) {
        for line in self.lines.drain(..) {
            match &mut self.form {
                Form::Text(text) => put(&mut text.bus, &line),
                Form::Record(builder) => builder.bus(line),
            }
        }
    }
}

fn put(out: &mut Pieces, value: &impl serde::Serialize) {
    let out = out.with_room();
    serde_json::to_writer(&mut *out, value)
        .unwrap_or_else(|error| unreachable!("lines have only string keys: {error}"));
    out.push(b'\n');
}

impl Pieces {
    fn with_room(&mut self) -> &mut Vec<u8> {
        if self.0.last().is_none_or(|piece| piece.capacity() - piece.len() < LINE_BYTES) {
            self.0.push(Vec::with_capacity(PIECE_BYTES));
        }
        self.0.last_mut().unwrap_or_else(|| unreachable!("there is one now"))
    }
}
