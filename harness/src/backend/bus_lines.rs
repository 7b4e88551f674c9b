//! From the fabric's tape of the cluster bus to the lines of `bus.jsonl`.

use std::collections::BTreeMap;

use slotstorm_checker::record::{BusLine, Nanos};
use slotstorm_checker::wire::{Digest, Place};
use slotstorm_fabric::{BusPassed, BusPiece, BusTape, Endpoint};

/// The frames are counted into the file this often.
const TALLY_EVERY: Nanos = 10_000_000_000;

/// Follows the bus.
pub struct BusLines {
    digest: Digest,
    /// When the frames were counted last.
    tallied: Nanos,
    names: BTreeMap<Endpoint, String>,
}

impl BusLines {
    /// `node_timeout` is cluster-node-timeout.
    pub fn new(node_timeout: Nanos) -> Self {
        Self { digest: Digest::new(node_timeout), tallied: 0, names: BTreeMap::new() }
    }

    /// Appends what a tape holds; answers the time of its end.
    pub fn take(&mut self, tape: &BusTape, lines: &mut Vec<BusLine>) -> Nanos {
        let mut last = 0;
        for piece in tape.pieces() {
            last = piece.time;
            match piece.what {
                BusPassed::Opened => self.digest.opened(piece.time, piece.conn),
                BusPassed::Closed => self.digest.closed(piece.conn),
                BusPassed::Bytes(bytes) => {
                    let BusPiece { time, from, to, conn, dialled, .. } = piece;
                    if !(self.names.contains_key(&from) && self.names.contains_key(&to)) {
                        self.names.extend([from, to].map(|end| (end, end.name())));
                    }
                    let place = Place { time, from: &self.names[&from], to: &self.names[&to], conn, dialled };
                    self.digest.bytes(&place, bytes, lines);
                }
            }
        }
        if last >= self.tallied + TALLY_EVERY {
            self.tallied = last;
            lines.push(self.digest.tally(last));
        }
        last
    }

    /// The last line.
    pub fn tally(&self, last: Nanos) -> BusLine {
        self.digest.tally(last)
    }
}
