//! Writes the history: each line is handed to the kernel, by one write, before the caller goes on. So what was asked of
//! a server is on record even if the controller is killed the moment after.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use slotstorm_checker::record::{Body, Event, Kind, Nanos, Process, StreamLine, View};

/// The three growing files of a run.
#[derive(Debug)]
pub struct Recorder {
    history: File,
    views: File,
    stream: File,
    next_index: u64,
    line: Vec<u8>,
}

impl Recorder {
    /// Opens the files in a run's folder.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let open = |name: &str| OpenOptions::new().create(true).append(true).open(folder.join(name));
        Ok(Self {
            history: open("history.jsonl")?,
            views: open("views.jsonl")?,
            stream: open("stream.jsonl")?,
            next_index: 0,
            line: Vec::with_capacity(4096),
        })
    }

    /// Writes an event; answers its index.
    pub fn event(&mut self, time: Nanos, kind: Kind, process: Process, body: Body) -> io::Result<u64> {
        let index = self.next_index;
        self.next_index += 1;
        put(&mut self.history, &mut self.line, &Event { index, time, kind, process, body })?;
        Ok(index)
    }

    /// Writes a node's answer to a poll.
    pub fn view(&mut self, view: &View) -> io::Result<()> {
        put(&mut self.views, &mut self.line, view)
    }

    /// Writes what was seen on a replication link.
    pub fn stream(&mut self, line: &StreamLine) -> io::Result<()> {
        put(&mut self.stream, &mut self.line, line)
    }
}

fn put(file: &mut File, line: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    line.clear();
    serde_json::to_writer(&mut *line, value)?;
    line.push(b'\n');
    file.write_all(line)
}

#[cfg(test)]
mod tests {
    use slotstorm_checker::record::{Op, Phase, Speaker};

    use super::*;

    #[test]
    fn every_line_is_readable_before_the_recorder_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(folder.path()).unwrap();
        let op = Op { key: "k1".to_owned(), value: Some(7), ..Op::default() };
        recorder.event(5, Kind::Invoke, Process::Client(3), Body::Add(op)).unwrap();
        let phase = Body::Phase { value: Phase::Storm };
        recorder.event(6, Kind::Info, Process::Other(Speaker::Harness), phase).unwrap();
        let text = std::fs::read_to_string(folder.path().join("history.jsonl")).unwrap();
        let events: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            events.iter().map(|event| (event.index, event.time)).collect::<Vec<_>>(),
            [(0, 5), (1, 6)]
        );
    }
}
