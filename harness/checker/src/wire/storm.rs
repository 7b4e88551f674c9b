//! From the history's lines to what the judge must know of the storm.

use std::collections::BTreeSet;

use super::judge::Fact;
use crate::record::{Action, FailoverMode, Nanos};
use crate::timeline::{CutEffect, MILLI};

/// Shorter stalls are inside the judge's own margins, even many in a row.
const STALL_MIN: Nanos = 100 * MILLI;

/// Follows the storm; its facts come in the order of what it is told.
#[derive(Debug, Default)]
pub struct StormFacts {
    /// Processes that have ended and were not started again: a second end is none.
    down: BTreeSet<String>,
    /// Directed bus links under a policy that holds frames.
    cut: BTreeSet<(String, String)>,
}

impl StormFacts {
    /// Something was done to the world; `tell` gets what it means for the bus.
    pub fn action(&mut self, action: &Action, mut tell: impl FnMut(Fact)) {
        match action {
            Action::Killed { node, .. } | Action::Exited { node, .. } if self.down.insert(node.clone()) => {
                tell(Fact::Ended { node: node.clone() });
            }
            Action::Started { node, .. } => {
                self.down.remove(node);
            }
            Action::Paused { node } => tell(Fact::Paused { node: node.clone() }),
            Action::Resumed { node } => tell(Fact::Resumed { node: node.clone() }),
            Action::Cut { from, to, planes, policy } if on_the_bus(planes) => {
                let link = (from.clone(), to.clone());
                let holds = CutEffect::of(policy).is_some_and(|effect| effect != CutEffect::Breaks);
                if self.cut.remove(&link) {
                    tell(Fact::Healed { from: from.clone(), to: to.clone() });
                }
                if holds {
                    self.cut.insert(link);
                    tell(Fact::Cut { from: from.clone(), to: to.clone() });
                }
            }
            Action::Healed { from, to, planes }
                if on_the_bus(planes) && self.cut.remove(&(from.clone(), to.clone())) =>
            {
                tell(Fact::Healed { from: from.clone(), to: to.clone() });
            }
            Action::ManualFailover { node, mode: FailoverMode::Takeover } => {
                tell(Fact::Takeover { node: node.clone() });
            }
            _ => {}
        }
    }

    /// A loop did not run in this interval, as it was measured: stalls are not merged, so that what one loop saw when
    /// its stall ended is judged with that stall known.
    pub fn stall(&self, from: Nanos, to: Nanos) -> Option<Fact> {
        (to.saturating_sub(from) >= STALL_MIN).then_some(Fact::Stalled { since: from })
    }
}

fn on_the_bus(planes: &[String]) -> bool {
    planes.iter().any(|plane| plane == "bus")
}
