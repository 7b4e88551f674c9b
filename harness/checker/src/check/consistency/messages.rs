//! What was published, and what of it arrived. Pub/sub promises nothing, so losses and repetitions are only counted; but what
//! arrives was published.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::verdict::Messages;
use crate::record::{KeyId, OpKind, Outcome, Record};

/// Counts; None if nothing was published.
pub(super) fn count(record: &Record) -> Option<Messages> {
    let of_kind = |kind: OpKind| record.ops.iter().filter(move |op| op.kind == kind);
    let mut asked: BTreeSet<(KeyId, u64)> = BTreeSet::new();
    let mut acked: BTreeSet<(KeyId, u64)> = BTreeSet::new();
    for op in of_kind(OpKind::Publish) {
        let Some(message) = op.asked().number().map(|element| (op.key, element)) else { continue };
        asked.insert(message);
        if op.outcome == Outcome::Ok {
            acked.insert(message);
        }
    }
    if asked.is_empty() {
        return None;
    }
    let mut entry = Messages { published: acked.len() as u64, ..Messages::default() };
    let mut got: BTreeMap<Option<u32>, BTreeSet<(KeyId, u64)>> = BTreeMap::new();
    for op in of_kind(OpKind::Message) {
        entry.received += 1;
        let message = op.answer().number().map(|element| (op.key, element));
        let Some(message) = message.filter(|message| asked.contains(message)) else {
            entry.never_published += 1;
            continue;
        };
        entry.repeated += u64::from(!got.entry(op.client).or_default().insert(message));
    }
    entry.subscribers = got.len() as u64;
    entry.missed = got.values().map(|seen| acked.difference(seen).count() as u64).sum();
    Some(entry)
}
