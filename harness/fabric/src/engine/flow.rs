//! One direction of one connection: a bounded queue of pieces with delivery times, what its source and its
//! sink have come to, and the gate that the policy in force has set.

use std::collections::VecDeque;

use super::{End, Nanos};

/// Pieces with one delivery time are joined up to this size, so that small ones do not cost an allocation
/// each.
const PIECE_BYTES_JOINED: usize = 16 * 1024;

/// How a direction is treated now. Delivery times are given when a piece enters, so a delay is no matter of
/// the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Read when the queue is empty, deliver at once.
    Pass,
    /// Read up to the bound, deliver in time.
    Delay,
    /// Neither read nor deliver.
    Hold,
    /// Read, but deliver nothing until the plane is known.
    Peek,
}

/// What the receiving end can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    /// The callee has not been reached yet.
    Waiting,
    Ready,
    /// It takes no more for now.
    Blocked,
    /// It was reset or died: what arrives there is nobody's.
    Gone,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Bytes(Vec<u8>),
    Fin,
    Rst,
}

#[derive(Debug)]
struct Piece {
    at: Nanos,
    bytes: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Flow {
    /// Index of the directed link.
    pub link: usize,
    pub gate: Gate,
    pub sink: Sink,
    /// Unread bytes in the kernel (or in the simulated host) when last asked, while held.
    pub kernel_held: u64,
    /// Whether reading was last said to be wanted.
    pub reading: bool,
    /// It stands in the engine's list of flows to look at.
    pub listed: bool,
    /// The timer that is set for it.
    pub timer: Option<Nanos>,
    pieces: VecDeque<Piece>,
    queued: usize,
    last_at: Nanos,
    /// How the source ended, in order after all pieces.
    end: Option<(Nanos, End)>,
    /// FIN was delivered.
    pub finished: bool,
    /// Closed by policy: what the source still sends reaches nobody.
    half_closed: bool,
    /// It stays held whatever the policy says.
    pub dead: bool,
    /// Traps that hold it: what comes now waits for their release.
    holders: u32,
}

/// The time of what waits for a release.
const HELD: Nanos = Nanos::MAX;

impl Flow {
    pub fn new(link: usize, sink: Sink) -> Self {
        Self {
            link,
            gate: Gate::Hold,
            sink,
            kernel_held: 0,
            reading: false,
            listed: false,
            timer: None,
            pieces: VecDeque::new(),
            queued: 0,
            last_at: 0,
            end: None,
            finished: false,
            half_closed: false,
            dead: false,
            holders: 0,
        }
    }

    /// Bytes may go to the sink without touching the queue.
    pub fn straight(&self) -> bool {
        self.gate == Gate::Pass
            && self.sink == Sink::Ready
            && self.pieces.is_empty()
            && self.end.is_none()
            && !self.finished
            && !self.half_closed
            && self.holders == 0
    }

    /// What comes from now on waits for a release.
    pub fn hold(&mut self) {
        self.holders += 1;
    }

    /// A trap lets go; after the last one, what waited is due.
    pub fn release(&mut self, now: Nanos) {
        self.holders = self.holders.saturating_sub(1);
        if self.holders > 0 {
            return;
        }
        self.due_at(now, |at| at == HELD);
    }

    /// What waits for its delivery time is due, but for what waits for a release.
    pub fn hasten(&mut self, now: Nanos) {
        self.due_at(now, |at| at > now && at != HELD);
    }

    /// Gives another time to all whose time this is said of.
    fn due_at(&mut self, now: Nanos, is_meant: impl Fn(Nanos) -> bool) {
        let pieces = self.pieces.iter_mut().map(|piece| &mut piece.at);
        let end = self.end.as_mut().map(|(at, _)| at);
        for at in pieces.chain(end).chain([&mut self.last_at]).filter(|at| is_meant(**at)) {
            *at = now;
        }
    }

    /// Whether the source should be read now.
    pub fn wants_read(&self, bound: usize) -> bool {
        let ended = matches!(self.end, Some((_, End::Rst)))
            || (!self.half_closed && (self.end.is_some() || self.finished));
        if ended {
            return false;
        }
        match self.gate {
            Gate::Hold => false,
            _ if self.half_closed => true,
            Gate::Peek => self.queued < bound,
            Gate::Pass => match self.sink {
                Sink::Ready => self.pieces.is_empty(),
                Sink::Gone => true,
                Sink::Waiting | Sink::Blocked => false,
            },
            Gate::Delay => self.queued < bound,
        }
    }

    /// Bytes that the source sent, to be delivered at `at` or, to stay in order, later. False: they reach
    /// nobody.
    pub fn enqueue(&mut self, at: Nanos, bytes: &[u8]) -> bool {
        if self.half_closed || self.end.is_some() || self.finished {
            return false;
        }
        let at = self.in_order(at);
        self.queued += bytes.len();
        match self.pieces.back_mut() {
            Some(last) if last.at == at && last.bytes.len() + bytes.len() <= PIECE_BYTES_JOINED => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => self.pieces.push_back(Piece { at, bytes: bytes.to_vec() }),
        }
        true
    }

    /// What the sink did not take comes first again.
    pub fn give_back(&mut self, rest: &[u8]) {
        self.queued += rest.len();
        self.pieces.push_front(Piece { at: 0, bytes: rest.to_vec() });
    }

    /// The source ended. A reset counts even after a FIN.
    pub fn push_end(&mut self, at: Nanos, end: End) {
        let known = match self.end {
            Some((_, End::Rst)) => true,
            Some((_, End::Fin)) => end == End::Fin,
            None => end == End::Fin && (self.finished || self.half_closed),
        };
        if !known {
            self.end = Some((self.in_order(at), end));
        }
    }

    /// The time of what comes now: not before what came earlier.
    fn in_order(&mut self, at: Nanos) -> Nanos {
        self.last_at = if self.holders > 0 { HELD } else { at.max(self.last_at) };
        self.last_at
    }

    /// The policy closes this direction after what was read.
    pub fn half_close(&mut self, at: Nanos) {
        self.push_end(at, End::Fin);
        self.half_closed = true;
    }

    /// The sink is dead: nothing waits for it any more, but the end is still travelling.
    pub fn sink_gone(&mut self) {
        self.sink = Sink::Gone;
        self.pieces.clear();
        self.queued = 0;
    }

    /// What can be done at `now`.
    pub fn next(&mut self, now: Nanos) -> Option<Step> {
        if matches!(self.gate, Gate::Hold | Gate::Peek) {
            return None;
        }
        // A reset does not wait for a slow reader: what the reader has no room for dies with it.
        let blocked = matches!(self.sink, Sink::Blocked | Sink::Waiting);
        if blocked && matches!(self.end, Some((at, End::Rst)) if at <= now) {
            return Some(self.reset());
        }
        if blocked {
            return None;
        }
        if let Some(front) = self.pieces.front() {
            if front.at > now {
                return None;
            }
            let piece = self.pieces.pop_front()?;
            self.queued -= piece.bytes.len();
            return Some(Step::Bytes(piece.bytes));
        }
        match self.end {
            Some((at, End::Fin)) if at <= now => {
                self.end = None;
                self.finished = true;
                Some(Step::Fin)
            }
            Some((at, End::Rst)) if at <= now => Some(self.reset()),
            _ => None,
        }
    }

    /// When `next` has something new without any other event.
    pub fn next_deadline(&self) -> Option<Nanos> {
        if matches!(self.gate, Gate::Hold | Gate::Peek) {
            return None;
        }
        let end = self.end.map(|(at, _)| at);
        match self.sink {
            Sink::Ready | Sink::Gone => self.pieces.front().map(|piece| piece.at).or(end),
            Sink::Waiting | Sink::Blocked => self.end.filter(|&(_, end)| end == End::Rst).map(|(at, _)| at),
        }
        .filter(|at| *at != HELD)
    }

    /// Bytes that wait here.
    pub fn queued(&self) -> usize {
        self.queued
    }

    fn reset(&mut self) -> Step {
        self.end = None;
        self.pieces.clear();
        self.queued = 0;
        Step::Rst
    }
}
