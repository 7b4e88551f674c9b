//! Lost writes: acknowledged (or read) elements that are absent from an ok final read, each proven into a documented
//! window (W1 to W16) or `unexplained`; and who among the rest was stale or recovered.

use std::collections::{BTreeMap, BTreeSet};

use super::Index;
use super::proofs::{Prover, Questions, UNEXPLAINED, protected};
use crate::record::verdict::{LostWrites, Validity};
use crate::record::{Expect, Nanos, Outcome, Record};
use crate::timeline::Timeline;

/// How many losses are listed with their proof.
const LISTED_LOSSES: usize = 1000;

/// The check's entry, and what other checks need of it.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub entry: LostWrites,
    /// The class of each lost write, by operation.
    pub lost: BTreeMap<u32, &'static str>,
    /// Reads that missed a write which is there at the end: (the read, the write), one read for each write.
    pub stale: Vec<(u32, u32)>,
}

impl Found {
    /// True if this write was lost inside a documented window.
    pub fn is_classified(&self, write: u32) -> bool {
        self.lost.get(&write).is_some_and(|class| *class != UNEXPLAINED)
    }
}

/// Judges every write of the record.
pub fn check(record: &Record, timeline: &Timeline, index: &Index) -> Found {
    let mut found = Found::default();
    let entry = &mut found.entry;
    entry.by_class.insert(UNEXPLAINED.into(), 0);
    let mut lost: Vec<u32> = Vec::new();
    let mut final_reads = 0;
    let mut stale = StaleReads::new(record);
    for (key, writes) in index.writes.iter().enumerate() {
        let known: Vec<(Nanos, u32)> =
            writes.iter().filter_map(|&w| Some((index.known_since(record, w)?, w))).collect();
        entry.judged += known.len() as u64;
        let Some(last) = index.final_read[key] else {
            entry.unread_keys += u64::from(!known.is_empty());
            continue;
        };
        final_reads += 1;
        let read_at = record.ops[last as usize].invoked;
        for &write in writes {
            let op = &record.ops[write as usize];
            entry.recovered += u64::from(op.outcome == Outcome::Info && index.in_final(write));
        }
        lost.extend(known.iter().filter(|(at, w)| *at <= read_at && !index.in_final(*w)).map(|(_, w)| w));
        stale.of_key(record, index, key, known, &mut found.stale);
    }
    entry.stale = found.stale.len() as u64;
    lost.sort_by_key(|&write| (index.known_since(record, write), write));
    let elements: BTreeSet<u64> = lost.iter().filter_map(|&w| record.ops[w as usize].value).collect();
    let keys = lost.iter().map(|&write| record.key(record.ops[write as usize].key).name.as_str()).collect();
    let questions = Questions { elements, keys };
    let mut prover = Prover::new(record, timeline, index, (!lost.is_empty()).then_some(&questions));
    for &write in &lost {
        let (loss, class) = prover.loss(write);
        *found.entry.by_class.entry(class.into()).or_default() += 1;
        found.lost.insert(write, class);
        // WAIT speaks of the copies in one shard, not of a key that went to another.
        let op = &record.ops[write as usize];
        let moved = matches!(class, "W10" | "W11" | "W12") || prover.was_carried(op);
        if !moved && protected(op) {
            let until = loss.erased_by.as_ref().map_or(record.end, |takeover| takeover.time);
            let still = prover.still_protected(op, until);
            found.entry.protected_lost += u64::from(still);
        }
        if found.entry.losses.len() < LISTED_LOSSES {
            found.entry.losses.push(loss);
        }
    }
    found.entry.lost = lost.len() as u64;
    found.entry.protected = record.ops.iter().filter(|op| protected(op)).count() as u64;
    decide(&mut found.entry, record.info.expect, final_reads);
    found
}

/// What the numbers mean under the expectation.
fn decide(entry: &mut LostWrites, expect: Expect, final_reads: u64) {
    let unexplained = entry.by_class.get(UNEXPLAINED).copied().unwrap_or(0);
    let (valid, reason) = if unexplained > 0 {
        let text = format!("{unexplained} acknowledged writes are gone, outside of every documented window");
        (Validity::Invalid, text)
    } else if expect == Expect::Strict && entry.lost > 0 {
        (Validity::Invalid, format!("{} acknowledged writes are gone", entry.lost))
    } else if expect == Expect::Wait && entry.protected_lost > 0 {
        let text = format!("{} writes that WAIT had protected are gone", entry.protected_lost);
        (Validity::Invalid, text)
    } else if entry.judged > 0 && final_reads == 0 {
        (Validity::Unknown, "no key was read at the end".into())
    } else if entry.unread_keys > 0 {
        (Validity::Unknown, format!("the final read of {} keys failed", entry.unread_keys))
    } else if expect == Expect::Wait && entry.protected == 0 {
        (Validity::Unknown, "WAIT protected no write".into())
    } else {
        (Validity::Valid, String::new())
    };
    entry.valid = valid;
    entry.reason = reason;
}

/// Finds reads that missed a write which was known before they began and is there at the end. Its tables are as long
/// as the operations, and made once for all keys.
struct StaleReads {
    /// By operation: the last read that saw it.
    seen_by: Vec<u32>,
    /// By operation: some read missed it.
    missed: Vec<bool>,
}

impl StaleReads {
    fn new(record: &Record) -> Self {
        Self { seen_by: vec![u32::MAX; record.ops.len()], missed: vec![false; record.ops.len()] }
    }

    /// Those of one key: (the read, the write).
    fn of_key(
        &mut self,
        record: &Record,
        index: &Index,
        key: usize,
        mut known: Vec<(Nanos, u32)>,
        stale: &mut Vec<(u32, u32)>,
    ) {
        known.retain(|&(_, write)| index.in_final(write));
        known.sort_unstable();
        for &read in &index.reads[key] {
            let op = &record.ops[read as usize];
            for &element in op.elements().unwrap_or(&[]) {
                if let Some(write) = index.write_of(element) {
                    self.seen_by[write as usize] = read;
                }
            }
            let due = known.partition_point(|&(at, _)| at < op.invoked);
            for &(_, write) in &known[..due] {
                let missed = &mut self.missed[write as usize];
                if self.seen_by[write as usize] != read && !*missed {
                    *missed = true;
                    stale.push((read, write));
                }
            }
        }
    }
}
