//! Writes `bus.jsonl`: takes the proxy's tape of the cluster bus, on a thread of its own so that neither the proxy nor
//! the clients' loop decodes a frame.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use slotstorm_checker::record::{BusLine, Nanos};
use slotstorm_fabric::BusTape;

use crate::backend::bus_lines::BusLines;

/// The thread. It ends when the proxy has.
pub struct BusWriter(JoinHandle<io::Result<()>>);

impl BusWriter {
    /// Begins `bus.jsonl` in a run's folder.
    pub fn start(folder: &Path, node_timeout: Nanos, tapes: Receiver<BusTape>) -> io::Result<Self> {
        let mut writing = Writing {
            bus: BusLines::new(node_timeout),
            file: BufWriter::new(File::create(folder.join("bus.jsonl"))?),
            lines: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("bus".to_owned()).spawn(move || {
            let mut last = 0;
            while let Ok(tape) = tapes.recv() {
                last = writing.take(&tape)?.max(last);
            }
            writing.put(&[writing.bus.tally(last)])?;
            writing.file.flush()
        })?;
        Ok(Self(thread))
    }

    /// True if it gave up though the proxy runs: the file cannot be written.
    pub fn has_ended(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits until all is written. After the proxy has stopped.
    pub fn finish(self) -> io::Result<()> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("the bus' writer panicked")))
    }
}

struct Writing {
    bus: BusLines,
    file: BufWriter<File>,
    lines: Vec<BusLine>,
}

impl Writing {
    /// Writes what a tape holds; answers the time of its end.
    fn take(&mut self, tape: &BusTape) -> io::Result<Nanos> {
        let mut lines = std::mem::take(&mut self.lines);
        let last = self.bus.take(tape, &mut lines);
        self.put(&lines)?;
        lines.clear();
        self.lines = lines;
        // What a crash leaves behind ends with the last tape.
        self.file.flush()?;
        Ok(last)
    }

    fn put(&mut self, lines: &[BusLine]) -> io::Result<()> {
        for line in lines {
            serde_json::to_writer(&mut self.file, line)?;
            self.file.write_all(b"\n")?;
        }
        Ok(())
    }
}
