//! Collects what was found, a bounded number of each class.

use std::collections::BTreeMap;

use super::history::TxnHistory;
use super::model::Anomaly;
use crate::answer::{Link, MAX_WITNESSES, OpId, Witness};

/// Anomalies by kind: the first few with their witness, all of them counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    found: BTreeMap<Anomaly, Found>,
    /// A value that is written twice makes every conclusion void.
    written_twice: Option<(u32, u64, u32, u32)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub witnesses: Vec<Witness>,
    pub count: u64,
}

impl Findings {
    /// Counts an anomaly; its witness is only made if it will be listed.
    pub fn add(&mut self, anomaly: Anomaly, witness: impl FnOnce() -> Evidence) {
        let found = self.found.entry(anomaly).or_default();
        found.count += 1;
        if found.witnesses.len() < MAX_WITNESSES {
            let Evidence { sentence, ops, links } = witness();
            found.witnesses.push(Witness { class: anomaly.class(), sentence, ops, links });
        }
    }

    pub fn written_twice(&mut self, key: u32, value: u64, first: u32, second: u32) {
        self.written_twice.get_or_insert((key, value, first, second));
    }

    pub fn lint(&self, history: &TxnHistory) -> Option<String> {
        self.written_twice.map(|(key, value, first, second)| {
            format!(
                "T{first} and T{second} both write {value} to {}: a read of it names no writer, and nothing can be concluded",
                history.key_name(key)
            )
        })
    }

    /// By anomaly, the smallest witness first, operations in order of invocation.
    pub fn into_found(self, history: &TxnHistory) -> impl Iterator<Item = (Anomaly, Found)> {
        self.found.into_iter().map(|(anomaly, mut found)| {
            for witness in &mut found.witnesses {
                witness.ops.sort_unstable_by_key(|op| (history.span(*op).invoked, *op));
                witness.ops.dedup();
            }
            found.witnesses.sort_by_key(|witness| witness.ops.len());
            (anomaly, found)
        })
    }
}

/// A witness without its class.
pub(super) struct Evidence {
    pub sentence: String,
    pub ops: Vec<OpId>,
    pub links: Vec<Link>,
}

impl Evidence {
    pub fn new(ops: impl IntoIterator<Item = u32>, sentence: String) -> Self {
        Self { sentence, ops: ops.into_iter().map(OpId).collect(), links: Vec::new() }
    }
}
