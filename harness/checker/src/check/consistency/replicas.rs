//! How old what replicas answered was.

use std::collections::BTreeMap;

use crate::record::objects::{Object, Part};
use crate::record::verdict::ReplicaReads;
use crate::record::{Nanos, OpKind, Outcome, Record};

/// Measures every read at a replica; None if there was none.
pub(super) fn reads(record: &Record, parts: &[Part]) -> Option<ReplicaReads> {
    let mut ages: Vec<Nanos> = Vec::new();
    let mut entry = ReplicaReads::default();
    for part in parts.iter().filter(|part| part.object == Object::CounterAtReplicas) {
        let ops =
            || part.ops.iter().map(|&op| &record.ops[op as usize]).filter(|op| op.outcome == Outcome::Ok);
        // When each count was acknowledged, by count; of two that claim one, the later.
        let mut acked: BTreeMap<i64, Nanos> = BTreeMap::new();
        for op in ops().filter(|op| op.kind == OpKind::Increment) {
            if let (Some(count), Some(at)) = (op.answer().int(), op.completed) {
                let known = acked.entry(count).or_default();
                *known = (*known).max(at);
            }
        }
        let mut own: BTreeMap<Option<u32>, Vec<(Nanos, i64)>> = BTreeMap::new();
        for op in ops().filter(|op| op.kind == OpKind::Increment) {
            if let (Some(count), Some(at)) = (op.answer().int(), op.completed) {
                own.entry(op.client).or_default().push((at, count));
            }
        }
        for op in ops().filter(|op| op.kind == OpKind::CountAtReplica) {
            let seen = op.answer().int().unwrap_or(0);
            entry.reads += 1;
            let newer = acked.get(&(seen + 1)).filter(|at| **at < op.invoked);
            if let Some(at) = newer {
                entry.stale += 1;
                ages.push(op.invoked - at);
            }
            let wrote = own.get(&op.client).into_iter().flatten();
            let missed = wrote.filter(|(at, _)| *at < op.invoked).any(|(_, count)| *count > seen);
            entry.own_writes_missed += u64::from(missed);
        }
    }
    if entry.reads == 0 {
        return None;
    }
    ages.sort_unstable();
    let at = |share: f64| {
        let place = ((ages.len() as f64 * share) as usize).min(ages.len().saturating_sub(1));
        ages.get(place).map_or(0.0, |&age| age as f64 / 1e6)
    };
    (entry.age_p50_ms, entry.age_p99_ms, entry.age_max_ms) = (at(0.5), at(0.99), at(1.0));
    Some(entry)
}
