//! A copy of what passes on the cluster bus, for whoever judges it: in the order in which it was read, in one buffer
//! that is handed over whole, so that the one who carries the bytes does no more than copy them.

use crate::{Endpoint, Nanos};

/// What passed since the last hand-over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusTape {
    pieces: Vec<Piece>,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    time: Nanos,
    from: Endpoint,
    to: Endpoint,
    conn: u64,
    dialled: bool,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Opened,
    Bytes(usize),
    Closed,
}

/// One thing that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusPiece<'a> {
    /// When it was read from the sender, or the connection was opened or over.
    pub time: Nanos,
    /// The sender (of an opening and a closing: who dialled).
    pub from: Endpoint,
    pub to: Endpoint,
    /// The fabric's number of the connection.
    pub conn: u64,
    /// The sender dialled it.
    pub dialled: bool,
    pub what: BusPassed<'a>,
}

/// What it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusPassed<'a> {
    Opened,
    Bytes(&'a [u8]),
    Closed,
}

impl BusTape {
    /// How much is on it.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Nothing passed.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// All of it, in order.
    pub fn pieces(&self) -> impl Iterator<Item = BusPiece<'_>> {
        let mut rest = &self.bytes[..];
        self.pieces.iter().map(move |piece| BusPiece {
            time: piece.time,
            from: piece.from,
            to: piece.to,
            conn: piece.conn,
            dialled: piece.dialled,
            what: match piece.what {
                What::Opened => BusPassed::Opened,
                What::Closed => BusPassed::Closed,
                What::Bytes(len) => {
                    let (bytes, after) = rest.split_at(len);
                    rest = after;
                    BusPassed::Bytes(bytes)
                }
            },
        })
    }

    /// Forgets what is on it, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.bytes.clear();
    }

    /// Hands over what is on it; the next stretch of time brings about as much.
    pub(crate) fn hand_over(&mut self) -> Self {
        let next = Self {
            pieces: Vec::with_capacity(self.pieces.len()),
            bytes: Vec::with_capacity(self.bytes.len()),
        };
        std::mem::replace(self, next)
    }

    pub(crate) fn push(&mut self, piece: BusPiece<'_>) {
        let what = match piece.what {
            BusPassed::Opened => What::Opened,
            BusPassed::Closed => What::Closed,
            BusPassed::Bytes(bytes) => {
                self.bytes.extend_from_slice(bytes);
                What::Bytes(bytes.len())
            }
        };
        let BusPiece { time, from, to, conn, dialled, .. } = piece;
        self.pieces.push(Piece { time, from, to, conn, dialled, what });
    }
}
