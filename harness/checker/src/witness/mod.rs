//! Draws a witness: its operations on a timeline with a lane a process, as text ([`text`]) or SVG ([`timeline_svg`]),
//! and what must come before what as a graph ([`graph_svg`]).
//!
//! Time is not to scale: moments stand in their order, as far apart as the words between them need.

mod layout;
mod svg;
mod text;

#[cfg(test)]
mod tests;

use crate::answer::{OpId, Relation, Witness};
use crate::record::verdict::{Anomaly, WitnessLink, WitnessOp};

pub use self::svg::{graph_svg, timeline_svg};
pub use self::text::text;

/// An operation as people should see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What links call it, such as `T3`.
    pub name: String,
    /// Whose lane, such as `process 4`.
    pub lane: String,
    pub from: u64,
    /// None: it may go on for ever.
    pub to: Option<u64>,
    /// What it did and what it was answered, in a few words.
    pub words: String,
}

/// `from` and `to` are places in the drawing's operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrow {
    pub from: usize,
    pub to: usize,
    /// Short, such as `wr`.
    pub label: String,
    /// The evidence.
    pub why: String,
}

/// A witness ready to be drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawing {
    pub title: String,
    /// In order of invocation.
    pub ops: Vec<Shown>,
    pub arrows: Vec<Arrow>,
}

impl Drawing {
    /// Of a witness whose operations `show` knows.
    pub fn new(witness: &Witness, mut show: impl FnMut(OpId) -> Shown) -> Self {
        let place = |op: OpId| witness.ops.iter().position(|known| *known == op);
        let arrows = witness
            .links
            .iter()
            .filter_map(|link| {
                let (from, to) = (place(link.from)?, place(link.to)?);
                Some(Arrow { from, to, label: label(link.relation).to_owned(), why: link.why.clone() })
            })
            .collect();
        let ops = witness.ops.iter().map(|op| show(*op)).collect();
        Self { title: format!("{}: {}", witness.class, witness.sentence), ops, arrows }
    }
}

impl From<&Anomaly> for Drawing {
    /// Of an anomaly in a run's verdict.
    fn from(anomaly: &Anomaly) -> Self {
        let place = |name: &str| anomaly.ops.iter().position(|op| op.name == name);
        let arrow = |link: &WitnessLink| {
            let (from, to) = (place(&link.from)?, place(&link.to)?);
            Some(Arrow { from, to, label: link.relation.clone(), why: link.why.clone() })
        };
        let shown = |op: &WitnessOp| Shown {
            name: op.name.clone(),
            lane: op.lane.clone(),
            from: op.from,
            to: op.to,
            words: op.words.clone(),
        };
        Self {
            title: format!("{}: {}", anomaly.what, anomaly.text),
            ops: anomaly.ops.iter().map(shown).collect(),
            arrows: anomaly.links.iter().filter_map(arrow).collect(),
        }
    }
}

/// The field's short names.
pub(crate) fn label(relation: Relation) -> &'static str {
    match relation {
        Relation::WriteWrite => "ww",
        Relation::WriteRead => "wr",
        Relation::ReadWrite => "rw",
        Relation::Realtime => "realtime",
        Relation::Process => "process",
    }
}
