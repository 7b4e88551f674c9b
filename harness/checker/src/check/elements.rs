//! Elements that should not be where they are: twice (`duplicate`), never written (`phantom`), out of order
//! (`misorder`), or missing from a read though known before it and there at the end (`stale`).
//!
//! For `append`, the order of a key is its final read (or its longest one): every other read, without the elements
//! that were lost inside a window, must be a prefix of it; RPUSH's reply is an element's position; and who was done
//! before another began stands before it.

use std::collections::{BTreeMap, BTreeSet};

use super::lost_writes::Found;
use super::{Index, LISTED, torn};
use crate::record::verdict::{Elements, Finding, Validity};
use crate::record::{Nanos, OpKind, Operation, Outcome, Record};
use crate::timeline::Timeline;
use crate::voids::VALUES_AS_WRITTEN;

/// Judges what all ok reads saw.
pub fn check(record: &Record, timeline: &Timeline, index: &Index, lost: &Found) -> Elements {
    let mut judge = Judge {
        record,
        timeline,
        index,
        lost,
        entry: Elements::default(),
        damaged: timeline.voided.covers(VALUES_AS_WRITTEN, &record.nodes, record.end),
        spoiled: false,
        seen_by: vec![u32::MAX; record.ops.len()],
        counted: BTreeSet::new(),
        listed: BTreeMap::new(),
        unexcused: 0,
    };
    for key in 0..record.keys.len() {
        judge.sightings(key);
        if index.writes[key].iter().any(|&w| record.ops[w as usize].kind == OpKind::Append) {
            judge.order(key);
        }
        judge.spoiled = false;
    }
    judge.replies();
    for &(read, write) in &lost.stale {
        judge.stale(read, write);
    }
    judge.decide()
}

struct Judge<'a> {
    record: &'a Record,
    timeline: &'a Timeline,
    index: &'a Index,
    lost: &'a Found,
    entry: Elements,
    /// The storm changed bytes of stored values, which go wherever their keys go.
    damaged: bool,
    /// Since it did, the key in question held an element that is none of its own: those behind it stand elsewhere.
    spoiled: bool,
    /// By operation: the last read that saw its element.
    seen_by: Vec<u32>,
    /// What has been counted: each element once for each kind of finding.
    counted: BTreeSet<(&'static str, u64)>,
    /// How many findings of each kind are listed.
    listed: BTreeMap<&'static str, usize>,
    unexcused: u64,
}

impl Judge<'_> {
    /// Duplicates and phantoms in the reads of one key.
    fn sightings(&mut self, key: usize) {
        let record = self.record;
        for &read in &self.index.reads[key] {
            let op = &record.ops[read as usize];
            let Some(seen) = op.seen.as_deref() else { continue };
            for foreign in &seen.foreign {
                let text = format!("{} holds {foreign:?}, which no client ever writes", self.key_name(op));
                self.find("phantom", hash(foreign), text, false, &[op]);
            }
            for &element in &seen.elements {
                let Some(write) = self.index.write_of(element) else {
                    let text = format!("{} holds {element}, which no client ever wrote", self.key_name(op));
                    self.find("phantom", element, text, false, &[op]);
                    continue;
                };
                let brief = self.index.brief(write);
                let told = if brief.key != op.key {
                    Some(format!("was written to {}", self.key_name(&record.ops[write as usize])))
                } else if brief.failed {
                    Some("whose write certainly failed".to_owned())
                } else if op.completed.is_some_and(|completed| brief.invoked > completed) {
                    Some("which was written only after that read".to_owned())
                } else {
                    None
                };
                if let Some(told) = told {
                    let by = &record.ops[write as usize];
                    let text = format!("{} holds {element}, {told}", self.key_name(op));
                    self.find("phantom", element, text, false, &[by, op]);
                }
                if std::mem::replace(&mut self.seen_by[write as usize], read) == read {
                    let by = &record.ops[write as usize];
                    let text = format!("{} holds {element} more than once in one read", self.key_name(op));
                    self.find("duplicate", element, text, false, &[by, op]);
                }
            }
        }
    }

    /// SADD that found its element already there: it was executed before, by nobody's wish.
    fn replies(&mut self) {
        let record = self.record;
        for op in record.ops.iter().filter(|op| op.kind == OpKind::Add && op.outcome == Outcome::Ok) {
            if let (Some(0), Some(element)) = (op.reply, op.value) {
                let text = format!("SADD of {element} found it already in {}", self.key_name(op));
                self.find("duplicate", element, text, false, &[op]);
            }
        }
    }

    /// The order of one key's appends.
    fn order(&mut self, key: usize) {
        let reads = &self.index.reads[key];
        let longest = reads
            .iter()
            .copied()
            .max_by_key(|&read| self.record.ops[read as usize].elements().map_or(0, <[u64]>::len));
        let Some(reference) = self.index.final_read[key].or(longest) else { return };
        // From the first element on that is a finding of its own, positions say nothing.
        let list = self.sound_prefix(reference);
        for &read in reads {
            if read != reference {
                self.prefix(&list, reference, read);
            }
        }
        self.positions(&list, reference);
        self.real_time(&list, reference);
    }

    /// The writes in a read's list, up to the first duplicate or phantom.
    fn sound_prefix(&self, read: u32) -> Vec<u32> {
        let op = &self.record.ops[read as usize];
        let mut known = BTreeSet::new();
        op.elements()
            .unwrap_or(&[])
            .iter()
            .map_while(|&element| self.index.write_of(element))
            .take_while(|&write| self.record.ops[write as usize].key == op.key && known.insert(write))
            .collect()
    }

    /// `read` must be a prefix of the reference, but for lost elements.
    fn prefix(&mut self, list: &[u32], reference: u32, read: u32) {
        let record = self.record;
        let own = self.sound_prefix(read);
        let mut place = 0;
        let mut lost_before = false;
        for &write in &own {
            if self.lost.lost.contains_key(&write) {
                lost_before |= self.lost.is_classified(write);
                continue;
            }
            // Longer than the sound part of the reference: the rest is compared with nothing.
            let Some(&expected) = list.get(place) else { return };
            if expected != write {
                let (seen, due) = (&record.ops[write as usize], &record.ops[expected as usize]);
                let by = [seen, due, &record.ops[read as usize], &record.ops[reference as usize]];
                let text = format!(
                    "a read of {} saw {} at place {place}, where another saw {}",
                    self.key_name(seen),
                    seen.value.unwrap_or_default(),
                    due.value.unwrap_or_default()
                );
                let excuse = lost_before || by[..3].iter().any(|op| self.in_window(op));
                self.find("misorder", seen.value.unwrap_or_default(), text, excuse, &by);
                return;
            }
            place += 1;
        }
    }

    /// RPUSH answered the length: the element's position, counted from 1.
    fn positions(&mut self, list: &[u32], reference: u32) {
        let record = self.record;
        let lost: Vec<&Operation> = self.index.writes[record.ops[reference as usize].key.0 as usize]
            .iter()
            .filter(|&&write| self.lost.is_classified(write))
            .map(|&write| &record.ops[write as usize])
            .collect();
        for (place, &write) in list.iter().enumerate() {
            let op = &record.ops[write as usize];
            let Some(reply) = op.reply.filter(|_| op.outcome == Outcome::Ok) else { continue };
            if reply == place as i64 + 1 {
                continue;
            }
            let counted_lost = lost.iter().any(|gone| {
                gone.node == op.node
                    && gone.reply.is_some_and(|position| position < reply)
                    && gone.invoked <= op.latest_effect()
            });
            let excuse = counted_lost || self.in_window(op);
            let text = format!(
                "RPUSH of {} to {} answered {reply}, but it stands at {}",
                op.value.unwrap_or_default(),
                self.key_name(op),
                place + 1
            );
            self.find(
                "misorder",
                op.value.unwrap_or_default(),
                text,
                excuse,
                &[op, &record.ops[reference as usize]],
            );
        }
    }

    /// Who was done before another began stands before it.
    fn real_time(&mut self, list: &[u32], reference: u32) {
        let record = self.record;
        let mut latest: Option<&Operation> = None;
        for &write in list {
            let op = &record.ops[write as usize];
            let done = self.index.known_since(record, write).unwrap_or(Nanos::MAX);
            if let Some(before) = latest.filter(|before| before.invoked > done) {
                let text = format!(
                    "{} stands before {} in {}, but was asked for only after that one was done",
                    before.value.unwrap_or_default(),
                    op.value.unwrap_or_default(),
                    self.key_name(op)
                );
                let excuse = self.in_window(op) || self.in_window(before);
                let by = [before, op, &record.ops[reference as usize]];
                self.find("misorder", op.value.unwrap_or_default(), text, excuse, &by);
            }
            if latest.is_none_or(|before| op.invoked > before.invoked) {
                latest = Some(op);
            }
        }
    }

    fn stale(&mut self, read: u32, write: u32) {
        let (by, op) = (&self.record.ops[write as usize], &self.record.ops[read as usize]);
        let excuse = self.in_window(op) || self.in_window(by);
        let text = format!(
            "a read of {} missed {}, which was known before it and is there at the end",
            self.key_name(op),
            by.value.unwrap_or_default()
        );
        self.find("stale", by.value.unwrap_or_default(), text, excuse, &[by, op]);
    }

    /// True if the operation was executed by a master inside a W3 to W7 window, or at one side of a slot that was torn (W11).
    fn in_window(&self, op: &Operation) -> bool {
        let until = op.completed.unwrap_or(Nanos::MAX);
        let window = |node| self.timeline.windows.meeting(node, op.invoked, until).next().is_some();
        op.node.is_some_and(window) || torn::saw_one_side(self.record, self.timeline, op).is_some()
    }

    /// Counts a finding, and lists it if there is room. `excused`: it does not count against the server.
    fn find(&mut self, what: &'static str, element: u64, text: String, excused: bool, by: &[&Operation]) {
        self.spoiled |= self.damaged && what == "phantom";
        if !self.counted.insert((what, element)) {
            return;
        }
        match what {
            "duplicate" => self.entry.duplicated += 1,
            "phantom" => self.entry.phantom += 1,
            "misorder" => self.entry.misordered += 1,
            _ => {}
        }
        let by_damage = match what {
            "duplicate" | "phantom" => self.damaged,
            "misorder" => self.spoiled,
            _ => false,
        };
        let excused = excused || by_damage;
        self.entry.excused += u64::from(excused);
        self.unexcused += u64::from(!excused);
        let listed = self.listed.entry(what).or_default();
        if *listed >= LISTED {
            return;
        }
        *listed += 1;
        let nodes: BTreeSet<&str> =
            by.iter().filter_map(|op| op.node).map(|node| self.record.node_name(node)).collect();
        self.entry.findings.push(Finding {
            what: what.to_owned(),
            text,
            excused,
            from: by.iter().map(|op| op.invoked).min().unwrap_or(0),
            to: by.iter().filter_map(|op| op.completed).max().unwrap_or(0),
            nodes: nodes.into_iter().map(str::to_owned).collect(),
            witness: by.iter().flat_map(|op| op.witness()).collect(),
            bus: Vec::new(),
        });
    }

    fn decide(self) -> Elements {
        let mut entry = self.entry;
        if self.unexcused > 0 {
            entry.valid = Validity::Invalid;
            let stale = self.counted.iter().filter(|(what, _)| *what == "stale").count();
            entry.reason = format!(
                "{} duplicated, {} phantom, {} misordered, {stale} stale elements, {} of them excused",
                entry.duplicated, entry.phantom, entry.misordered, entry.excused
            );
        }
        entry
    }

    fn key_name(&self, op: &Operation) -> String {
        self.record.key(op.key).name.clone()
    }
}

/// FNV-1a: a number for an element that is none of ours, so that it is counted once.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
