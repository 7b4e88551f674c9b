//! Writes `bus.jsonl` and judges it as it grows: takes the proxy's tape of the cluster bus, on a thread of its own so that
//! neither the proxy nor the clients' loop decodes a frame.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use slotstorm_checker::record::verdict::{Finding, Wire};
use slotstorm_checker::record::{Body, BusLine, Nanos};
use slotstorm_checker::wire::{Digest, Fact, LiveJudge, Place, StormFacts, WireOptions};
use slotstorm_fabric::{BusPassed, BusTape};

/// The frames are counted into the file this often.
const TALLY_EVERY: Nanos = 10_000_000_000;

/// What the history says is whole up to this long ago: the proxy's stalls are handed over a little after they ended.
const HISTORY_LAG: Nanos = 200_000_000;

/// The thread. It ends when the proxy has.
pub struct BusWriter {
    thread: JoinHandle<io::Result<LiveVerdict>>,
    storm: StormFacts,
    told: Sender<Told>,
    found: Receiver<Finding>,
}

/// What the judge that ran beside the storm says at its end.
#[derive(Clone, Debug)]
pub struct LiveVerdict {
    pub wire: Wire,
    /// Lines that had to be judged before the history up to them was known.
    pub hasty: u64,
}

/// What the clients' loop knows of the storm.
enum Told {
    Fact(Nanos, Fact),
    KnownUpTo(Nanos),
}

impl BusWriter {
    /// Begins `bus.jsonl` in a run's folder.
    pub fn start(folder: &Path, node_timeout: Nanos, tapes: Receiver<BusTape>) -> io::Result<Self> {
        let (told, hears) = channel();
        let (finds, found) = channel();
        let mut writing = Writing {
            digest: Digest::new(node_timeout),
            judge: LiveJudge::new(WireOptions { node_timeout }),
            hears,
            finds,
            file: BufWriter::new(File::create(folder.join("bus.jsonl"))?),
            lines: Vec::new(),
            tallied: 0,
        };
        let thread = std::thread::Builder::new().name("bus".to_owned()).spawn(move || {
            let mut last = 0;
            while let Ok(tape) = tapes.recv() {
                last = writing.take(&tape)?.max(last);
            }
            let tally = [writing.digest.tally(last)];
            writing.put(&tally)?;
            writing.judge();
            writing.file.flush()?;
            let (wire, hasty) = writing.judge.finish();
            Ok(LiveVerdict { wire, hasty })
        })?;
        Ok(Self { thread, storm: StormFacts::default(), told, found })
    }

    /// A line was written to the history.
    pub fn heard(&mut self, time: Nanos, body: &Body) {
        // If the thread is gone, `has_ended` tells.
        let tell = |fact| drop(self.told.send(Told::Fact(time, fact)));
        match body {
            Body::Fault(step) => step.actions.iter().for_each(|action| self.storm.action(action, tell)),
            Body::Stall { value, .. } => {
                self.storm.stall(time.saturating_sub(*value), time).into_iter().for_each(tell);
            }
            _ => {}
        }
    }

    /// All that happened until a moment ago is in the history.
    pub fn heard_all(&self, now: Nanos) {
        let _ = self.told.send(Told::KnownUpTo(now.saturating_sub(HISTORY_LAG)));
    }

    /// Rules that were broken since this was asked last.
    pub fn found(&self) -> Vec<Finding> {
        self.found.try_iter().collect()
    }

    /// True if it gave up though the proxy runs: the file cannot be written.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until all is written. After the proxy has stopped.
    pub fn finish(self) -> io::Result<LiveVerdict> {
        drop(self.told);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the bus' writer panicked")))
    }
}

struct Writing {
    digest: Digest,
    judge: LiveJudge,
    hears: Receiver<Told>,
    finds: Sender<Finding>,
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
        self.judge();
        // What a crash leaves behind ends with the last tape.
        self.file.flush()?;
        Ok(last)
    }

    fn put(&mut self, lines: &[BusLine]) -> io::Result<()> {
        for line in lines {
            serde_json::to_writer(&mut self.file, line)?;
            self.file.write_all(b"\n")?;
            self.judge.line(line);
        }
        Ok(())
    }

    /// Hears what the storm did meanwhile, and tells what was found.
    fn judge(&mut self) {
        for told in self.hears.try_iter() {
            match told {
                Told::Fact(time, fact) => self.judge.fact(time, fact),
                Told::KnownUpTo(time) => {
                    self.judge
                        .known_up_to(time)
                        .into_iter()
                        .for_each(|finding| drop(self.finds.send(finding)));
                }
            }
        }
    }
}
