//! From the history's lines to what the judge must know of the storm.

use std::collections::BTreeSet;

use super::judge::Fact;
use crate::record::{Action, FailoverMode, MESSAGES, Nanos};
use crate::timeline::{CutEffect, MILLI};

/// Shorter stalls are inside the judge's own margins, even many in a row.
const STALL_MIN: Nanos = 100 * MILLI;

/// Follows the storm; its facts come in the order of what it is told.
#[derive(Debug, Default)]
pub struct StormFacts {
    /// Processes that have ended and were not started again: a second end is none.
    down: BTreeSet<String>,
    /// Directed bus links under a policy, or a rule for messages, that holds frames: by from, to and which of the two.
    cut: BTreeSet<(String, String, &'static str)>,
}

impl StormFacts {
    /// Something was done to the world; `tell` gets what it means for the bus.
    pub fn action(&mut self, action: &Action, mut tell: impl FnMut(Fact)) {
        match action {
            Action::Killed { node, .. } | Action::Exited { node, .. } if self.down.insert(node.clone()) => {
                tell(Fact::Ended { node: node.clone() });
            }
            Action::Started { node, kept, .. } => {
                self.down.remove(node);
                if let Some(kept) = kept {
                    tell(Fact::Started { node: node.clone(), kept: kept.clone() });
                }
            }
            Action::Paused { node } => tell(Fact::Paused { node: node.clone() }),
            Action::Resumed { node } => tell(Fact::Resumed { node: node.clone() }),
            Action::Cut { from, to, planes, policy } => {
                let holds = CutEffect::of(policy).is_some_and(|effect| effect != CutEffect::Breaks);
                for plane in of_the_bus(planes) {
                    self.pass(from, to, plane, &mut tell);
                    if holds {
                        self.cut.insert((from.clone(), to.clone(), plane));
                        tell(Fact::Cut { from: from.clone(), to: to.clone() });
                    }
                }
            }
            Action::Healed { from, to, planes } => {
                for plane in of_the_bus(planes) {
                    self.pass(from, to, plane, &mut tell);
                }
            }
            Action::ManualFailover { node, mode: FailoverMode::Takeover } => {
                tell(Fact::Takeover { node: node.clone() });
            }
            Action::Asked { node, command, answer } if command.eq_ignore_ascii_case("CLUSTER BUMPEPOCH") => {
                if let Some(epoch) = answer.strip_prefix("BUMPED ").and_then(|epoch| epoch.parse().ok()) {
                    tell(Fact::Bumped { node: node.clone(), epoch });
                }
            }
            _ => {}
        }
    }

    /// Nothing on this plane holds frames any more; something on the other may.
    fn pass(&mut self, from: &str, to: &str, plane: &'static str, tell: &mut impl FnMut(Fact)) {
        let removed = self.cut.remove(&(from.to_owned(), to.to_owned(), plane));
        let held = BUS.iter().any(|&other| self.cut.contains(&(from.to_owned(), to.to_owned(), other)));
        if removed && !held {
            tell(Fact::Healed { from: from.to_owned(), to: to.to_owned() });
        }
    }

    /// A loop did not run in this interval, as it was measured: stalls are not merged, so that what one loop saw when
    /// its stall ended is judged with that stall known.
    pub fn stall(&self, from: Nanos, to: Nanos) -> Option<Fact> {
        (to.saturating_sub(from) >= STALL_MIN).then_some(Fact::Stalled { since: from })
    }
}

/// Planes that frames of the bus pass on: all of them, or those that a rule for messages picks.
const BUS: [&str; 2] = ["bus", MESSAGES];

fn of_the_bus(planes: &[String]) -> impl Iterator<Item = &'static str> {
    BUS.into_iter().filter(|bus| planes.iter().any(|plane| plane == bus))
}
