//! What an operator's flow tells while it works: lines as redis-cli's scripts know them, and how far it is. Flows
//! tell it to a [`Teller`], which may print, record or drop it.

use std::fmt;

/// One thing told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// `>>> ...`: a step begins.
    Step(String),
    /// A plain line.
    Line(String),
    /// `[OK] ...`
    Good(String),
    /// `[WARNING] ...`
    Warning(String),
    /// `[ERR] ...`
    Bad(String),
    /// `*** ...`: why nothing is done, or what is about to be.
    Stop(String),
    /// A slot begins to move, from and to as `host:port`.
    Moving { slot: u16, from: String, to: String },
    /// Keys and slots that are in their new place, of how many.
    Moved(Gauge),
}

/// How far a move is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    pub slots: u64,
    pub slots_in_all: u64,
    pub keys: u64,
    /// Counted when it began; clients may add some.
    pub keys_in_all: u64,
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(text) => write!(out, ">>> {text}"),
            Self::Line(text) => out.write_str(text),
            Self::Good(text) => write!(out, "[OK] {text}"),
            Self::Warning(text) => write!(out, "[WARNING] {text}"),
            Self::Bad(text) => write!(out, "[ERR] {text}"),
            Self::Stop(text) => write!(out, "*** {text}"),
            Self::Moving { slot, from, to } => write!(out, "Moving slot {slot} from {from} to {to}: "),
            Self::Moved(gauge) => write!(
                out,
                "{} of {} slots, {} of {} keys moved",
                gauge.slots, gauge.slots_in_all, gauge.keys, gauge.keys_in_all
            ),
        }
    }
}

/// Whom a flow tells.
pub type Teller<'a> = &'a dyn Fn(Note);

/// Says a step.
pub fn step(tell: Teller<'_>, text: impl Into<String>) {
    tell(Note::Step(text.into()));
}

/// Says a line.
pub fn line(tell: Teller<'_>, text: impl Into<String>) {
    tell(Note::Line(text.into()));
}
