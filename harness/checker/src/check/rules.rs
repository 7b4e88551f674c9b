//! What a check of some rules hands to the invariants: how often each was looked at, and what broke one.

use std::collections::BTreeMap;

use crate::record::{Nanos, NodeId};

/// Of one check.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// By rule; one that nothing was to be said of is not there.
    pub watched: BTreeMap<&'static str, u64>,
    pub broken: Vec<Broken>,
}

/// Something that should not have been.
#[derive(Debug)]
pub(super) struct Broken {
    pub rule: &'static str,
    pub text: String,
    pub span: (Nanos, Nanos),
    pub nodes: Vec<NodeId>,
}

impl Report {
    /// The rule was looked at once more.
    pub fn watch(&mut self, rule: &'static str) {
        *self.watched.entry(rule).or_default() += 1;
    }
}
