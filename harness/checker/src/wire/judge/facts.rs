//! What was done to processes and links, so that a frame's age is known: one that was held is read long after it was
//! made, and a stopped process acts late on what it was told.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{KeptVote, Nanos};
use crate::timeline::SECOND;

/// What happened beside the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The node's process is gone.
    Ended {
        node: String,
    },
    /// It is started again, on a nodes.conf that holds this vote.
    Started {
        node: String,
        kept: KeptVote,
    },
    Paused {
        node: String,
    },
    Resumed {
        node: String,
    },
    /// Frames from one to the other are held or delayed.
    Cut {
        from: String,
        to: String,
    },
    Healed {
        from: String,
        to: String,
    },
    /// Proxy, controller or host did not run since then. These facts come in the order in which the stalls end.
    Stalled {
        since: Nanos,
    },
    /// CLUSTER FAILOVER TAKEOVER was answered: the node takes an epoch without votes.
    Takeover {
        node: String,
    },
    /// CLUSTER BUMPEPOCH was answered with this epoch: the node took it without votes.
    Bumped {
        node: String,
        epoch: u64,
    },
}

/// A frame is read this soon after it was made, if nothing held it.
const PROMPT: Nanos = SECOND;

#[derive(Clone, Copy, Debug)]
struct Past {
    from: Nanos,
    to: Nanos,
}

/// All that happened so far.
#[derive(Debug, Default)]
pub(super) struct Facts {
    paused: BTreeMap<String, Vec<Past>>,
    cut: BTreeMap<(String, String), Vec<Past>>,
    stalled: Vec<Past>,
    takeovers: BTreeMap<String, Vec<Nanos>>,
    bumped: BTreeSet<(String, u64)>,
}

impl Facts {
    /// The node took this epoch by CLUSTER BUMPEPOCH.
    pub fn bumped(&self, node: &str, epoch: u64) -> bool {
        self.bumped.iter().any(|(name, bumped)| name == node && *bumped == epoch)
    }

    pub fn note(&mut self, time: Nanos, fact: &Fact) {
        match fact {
            Fact::Paused { node } => open(self.paused.entry(node.clone()).or_default(), time),
            Fact::Resumed { node } => close(self.paused.entry(node.clone()).or_default(), time),
            Fact::Ended { node } => {
                let spans = self.paused.entry(node.clone()).or_default();
                close(spans, time);
                spans.push(Past { from: time, to: time });
            }
            Fact::Cut { from, to } => open(self.cut.entry((from.clone(), to.clone())).or_default(), time),
            Fact::Healed { from, to } => close(self.cut.entry((from.clone(), to.clone())).or_default(), time),
            Fact::Started { .. } => {}
            Fact::Stalled { since } => self.stalled.push(Past { from: *since, to: time }),
            Fact::Takeover { node } => self.takeovers.entry(node.clone()).or_default().push(time),
            Fact::Bumped { node, epoch } => {
                self.bumped.insert((node.clone(), *epoch));
            }
        }
    }

    /// The frame that was read at `time` was made after this; `opened` is when its connection was seen to be. A cut of
    /// either direction holds a connection that is dialled under it, with all that is written to it.
    pub fn made_after(&self, from: &str, to: &str, opened: Nanos, time: Nanos) -> Nanos {
        let (opened, seen) = (self.earliest(opened), self.earliest(time));
        let since = seen.saturating_sub(PROMPT);
        let held = self.cut_within(from, to, since, time)
            || self.cut_within(to, from, since, time)
            || self.paused_within(from, since, time)
            || self.paused_within(to, since, time);
        if held { opened } else { opened.max(seen) }
    }

    /// What was seen at `time` happened after this: promptly before, and nothing is prompt while the host stands still.
    fn earliest(&self, time: Nanos) -> Nanos {
        let mut earliest = time.saturating_sub(PROMPT);
        // The last ones to end are the last in the list.
        for stall in self.stalled.iter().rev() {
            if stall.to < earliest {
                break;
            }
            if stall.from < time {
                earliest = earliest.min(stall.from.saturating_sub(PROMPT));
            }
        }
        earliest
    }

    fn paused_within(&self, node: &str, from: Nanos, to: Nanos) -> bool {
        self.paused.get(node).is_some_and(|spans| meets(spans, from, to))
    }

    /// The process, or the whole host, did not run at some moment of the interval.
    pub fn stopped_within(&self, node: &str, from: Nanos, to: Nanos) -> bool {
        self.paused_within(node, from, to) || meets(&self.stalled, from, to)
    }

    /// Frames were held on the way from one to the other at some moment of the interval.
    pub fn cut_within(&self, from: &str, to: &str, since: Nanos, until: Nanos) -> bool {
        self.cut.get(&(from.to_owned(), to.to_owned())).is_some_and(|spans| meets(spans, since, until))
    }

    /// Some link from the node was cut at some moment of the interval.
    pub fn gagged_within(&self, node: &str, since: Nanos, until: Nanos) -> bool {
        self.cut.iter().any(|((from, _), spans)| from == node && meets(spans, since, until))
    }

    pub fn took_over_within(&self, node: &str, since: Nanos, until: Nanos) -> bool {
        self.takeovers.get(node).is_some_and(|times| times.iter().any(|&at| since <= at && at <= until))
    }
}

fn open(spans: &mut Vec<Past>, time: Nanos) {
    if spans.last().is_none_or(|last| last.to != Nanos::MAX) {
        spans.push(Past { from: time, to: Nanos::MAX });
    }
}

fn close(spans: &mut [Past], time: Nanos) {
    if let Some(last) = spans.last_mut().filter(|last| last.to == Nanos::MAX) {
        last.to = time;
    }
}

fn meets(spans: &[Past], from: Nanos, to: Nanos) -> bool {
    spans.iter().any(|span| span.from <= to && from <= span.to)
}
