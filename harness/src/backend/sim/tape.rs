//! What a simulated run leaves behind: the text of a run's folder, or, where thousands of storms are only judged, the
//! judge's own form of it.

use std::collections::BTreeMap;

use slotstorm_checker::record::{
    BusLine, Event, Nanos, Record, RecordBuilder, RunInfo, StreamLine, Table, View, json,
};
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
    /// By node: its last table and the text of that one, which most views show again.
    tables: BTreeMap<String, (Table, Vec<u8>)>,
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
            Form::Text(text) => put(&mut text.history, |out| json::put_event(&event, out)),
            Form::Record(builder) => {
                builder.event(event).unwrap_or_else(|why| unreachable!("the driver records {why}"));
            }
        }
    }

    pub fn view(&mut self, view: View) {
        match &mut self.form {
            Form::Text(text) => text.view(&view),
            Form::Record(builder) => builder.view(view),
        }
    }

    pub fn stream(&mut self, line: &StreamLine) {
        match &mut self.form {
            Form::Text(text) => put(&mut text.stream, |out| json::put_stream(line, out)),
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
                Form::Text(text) => put(&mut text.bus, |out| json::put(&line, out)),
                Form::Record(builder) => builder.bus(line),
            }
        }
    }
}

/// Appends a line.
fn put(out: &mut Pieces, line: impl FnOnce(&mut Vec<u8>)) {
    let out = out.with_room();
    line(out);
    out.push(b'\n');
}

impl Text {
    fn view(&mut self, view: &View) {
        let mut table: &[u8] = &[];
        if let Some(seen) = &view.seen {
            if !self.tables.contains_key(&view.node) {
                self.tables.insert(view.node.clone(), (Table::default(), Vec::new()));
            }
            if let Some((known, text)) = self.tables.get_mut(&view.node) {
                if *known != seen.table || text.is_empty() {
                    text.clear();
                    json::put(&seen.table, text);
                    *known = seen.table.clone();
                }
                table = text;
            }
        }
        put(&mut self.views, |out| json::put_view(view, table, out));
    }
}

impl Pieces {
    fn with_room(&mut self) -> &mut Vec<u8> {
        if self.0.last().is_none_or(|piece| piece.capacity() - piece.len() < LINE_BYTES) {
            self.0.push(Vec::with_capacity(PIECE_BYTES));
        }
        self.0.last_mut().unwrap_or_else(|| unreachable!("there is one now"))
    }
}

#[cfg(test)]
mod tests {
    use slotstorm_checker::record::{Row, Seen};

    use super::*;

    #[test]
    fn views_are_written_as_they_are_whatever_their_tables_were_before() {
        let table = |epochs: &[u64]| -> Table {
            let row = |epoch: &u64| Row { node: "n1".into(), epoch: *epoch, ..Row::default() };
            epochs.iter().map(row).collect::<Vec<_>>().into()
        };
        let answered = |node: &str, table: Table| View {
            node: node.into(),
            seen: Some(Seen { table, replid: "[]}}".into(), ..Seen::default() }),
            ..View::default()
        };
        let silent = View { node: "n1".into(), error: Some("no answer".into()), ..View::default() };
        let views = [
            answered("n1", table(&[])),
            answered("n1", table(&[1, 2])),
            answered("n2", table(&[7])),
            answered("n1", table(&[1, 2])),
            silent,
            answered("n1", table(&[1, 3])),
            answered("n1", table(&[])),
        ];
        let (mut text, mut expected) = (Text::default(), String::new());
        // As many as fill several pieces.
        for view in views.iter().cycle().take(4000) {
            expected += &serde_json::to_string(view).unwrap();
            expected.push('\n');
            text.view(view);
        }
        assert!(text.views.0.len() > 2);
        assert_eq!(String::from_utf8(text.views.0.concat()).unwrap(), expected);
    }
}
