//! Writes `bus.jsonl`: takes the proxy's tape of the cluster bus, on a thread of its own so that neither the proxy nor
//! the clients' loop decodes a frame.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use slotstorm_checker::record::{BusLine, Nanos};
use slotstorm_checker::wire::{Digest, Place};
use slotstorm_fabric::{BusPassed, BusTape};

/// The frames are counted into the file this often.
const TALLY_EVERY: Nanos = 10_000_000_000;

/// The thread. It ends when the proxy has.
pub struct BusWriter(JoinHandle<io::Result<()>>);

impl BusWriter {
    /// Begins `bus.jsonl` in a run's folder.
    pub fn start(folder: &Path, node_timeout: Nanos, tapes: Receiver<BusTape>) -> io::Result<Self> {
        let mut writing = Writing {
            digest: Digest::new(node_timeout),
            file: BufWriter::new(File::create(folder.join("bus.jsonl"))?),
            lines: Vec::new(),
            tallied: 0,
        };
        let thread = std::thread::Builder::new().name("bus".to_owned()).spawn(move || {
            let mut last = 0;
            while let Ok(tape) = tapes.recv() {
                last = writing.take(&tape)?.max(last);
            }
            writing.put(&[writing.digest.tally(last)])?;
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
    digest: Digest,
    file: BufWriter<File>,
    lines: Vec<BusLine>,
    /// When the frames were counted last.
    tallied: Nanos,
}

impl Writing {
    /// Writes what a tape holds; answers the time of its end.
    fn take(&mut self, tape: &BusTape) -> io::Result<Nanos> {
        let mut last = 0;
        let mut lines = std::mem::take(&mut self.lines);
        for piece in tape.pieces() {
            last = piece.time;
            match piece.what {
                BusPassed::Opened => self.digest.opened(piece.time, piece.conn),
                BusPassed::Closed => self.digest.closed(piece.conn),
                BusPassed::Bytes(bytes) => {
                    let (from, to) = (piece.from.to_string(), piece.to.to_string());
                    let place = Place {
                        time: piece.time,
                        from: &from,
                        to: &to,
                        conn: piece.conn,
                        dialled: piece.dialled,
                    };
                    self.digest.bytes(&place, bytes, &mut lines);
                }
            }
        }
        if last >= self.tallied + TALLY_EVERY {
            self.tallied = last;
            lines.push(self.digest.tally(last));
        }
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
