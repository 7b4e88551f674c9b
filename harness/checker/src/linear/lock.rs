//! A lock: `SET lock token NX`, a release that deletes the key only if it holds the token.
//!
//! Every hold has a token of its own, so that an acquisition and its release name each other: a hold is a block, and holds
//! must not overlap. One that was not released lasts to the end. "Busy" without the holder's token, "free" and "not yours" are
//! evidence against orders only: search.

use super::findings::{Findings, in_time, witness};
use super::op::{NIL, Op, Status, numbered};
use super::search::{self, Limits, Model, uniform};
use super::values::{NONE, ValueIndex};
use crate::answer::Answer;

/// An operation on a lock. Tokens are numbers other than [`NIL`], each used for one hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lock {
    /// Got the lock.
    Acquire(u64),
    /// Did not get it: this token holds it (`SET NX GET`), or nobody said whose ([`NIL`]).
    Busy(u64),
    /// GET of the lock answered nil.
    Free,
    /// Gave it back.
    Release(u64),
    /// A release that found another holder, or none.
    NotHeld(u64),
}

/// Is there one order of these operations that a lock explains?
pub fn lock(ops: &[Op<Lock>], limits: &Limits<'_>) -> Answer {
    let negative = |op: &Op<Lock>| {
        op.status == Status::Done && matches!(op.kind, Lock::Busy(NIL) | Lock::Free | Lock::NotHeld(_))
    };
    let mut check = Check { ops, findings: Findings::default() };
    let Some(holds) = check.holds() else {
        return search::decide(&LockModel::default(), ops, None, limits);
    };
    check.judge(&holds);
    if check.findings.is_empty() && ops.iter().any(negative) {
        return search::decide(&LockModel::default(), ops, None, limits);
    }
    check.findings.answer()
}

/// One token's operations.
#[derive(Clone)]
struct Hold {
    acquire: u32,
    /// Acknowledged, or unknown.
    release: u32,
    /// Those that were told of this holder: first return, last call.
    first_busy: u32,
    last_busy: u32,
}

/// The extremes of a hold.
#[derive(Clone, Copy)]
struct Zone {
    first_ret: u64,
    last_call: u64,
    first: u32,
    /// NONE if the hold lasts to the end.
    last: u32,
    hold: u32,
}

struct Check<'a> {
    ops: &'a [Op<Lock>],
    findings: Findings,
}

impl Check<'_> {
    /// None if a token was acquired or released twice.
    fn holds(&mut self) -> Option<Vec<Hold>> {
        let ops = self.ops;
        let acquired = || {
            numbered(ops).filter(|(_, op)| op.status != Status::Failed).filter_map(|(id, op)| match op.kind {
                Lock::Acquire(token) => Some((id, token)),
                _ => None,
            })
        };
        let mut index = ValueIndex::over(acquired().map(|(_, token)| token));
        let mut holds: Vec<Hold> = Vec::new();
        for (id, token) in acquired() {
            if index.insert(token, holds.len() as u32).is_some() {
                return None;
            }
            holds.push(Hold { acquire: id, release: NONE, first_busy: NONE, last_busy: NONE });
        }
        for (id, op) in numbered(ops).filter(|(_, op)| op.status != Status::Failed) {
            let (Lock::Release(token) | Lock::Busy(token)) = op.kind else { continue };
            if token == NIL || (op.status == Status::Unknown && matches!(op.kind, Lock::Busy(_))) {
                continue;
            }
            let Some(place) = index.get(token) else {
                if op.status == Status::Done {
                    self.findings.add("garbage-read", || {
                        let sentence = format!("token {token} was seen or released, which nobody acquired");
                        witness(ops, "garbage-read", &[id], sentence)
                    });
                }
                continue;
            };
            let hold = &mut holds[place as usize];
            if matches!(op.kind, Lock::Release(_)) {
                if hold.release != NONE {
                    return None;
                }
                hold.release = id;
                continue;
            }
            let earlier = |at: u32| at == NONE || op.ret < ops[at as usize].ret;
            let later = |at: u32| at == NONE || op.call > ops[at as usize].call;
            if earlier(hold.first_busy) {
                hold.first_busy = id;
            }
            if later(hold.last_busy) {
                hold.last_busy = id;
            }
        }
        Some(holds)
    }

    fn judge(&mut self, holds: &[Hold]) {
        let ops = self.ops;
        let mut forward = Vec::new();
        let mut backward = Vec::new();
        for (at, hold) in (0..).zip(holds) {
            if !certain(ops, hold) {
                continue;
            }
            self.inside(hold);
            let zone = zone(ops, at, hold);
            if zone.first_ret < zone.last_call { forward.push(zone) } else { backward.push(zone) }
        }
        forward.sort_unstable_by_key(|zone| (zone.first_ret, zone.hold));
        backward.sort_unstable_by_key(|zone| (zone.last_call, zone.hold));
        let mut reach: Option<Zone> = None;
        let mut opened = forward.iter().peekable();
        for zone in &backward {
            while let Some(next) = opened.next_if(|next| next.first_ret < zone.last_call) {
                self.open(holds, &mut reach, *next);
            }
            if let Some(outer) = reach.filter(|outer| zone.first_ret < outer.last_call) {
                self.overlap(holds, &outer, zone);
            }
        }
        for next in opened {
            self.open(holds, &mut reach, *next);
        }
    }

    /// Acquire, then whoever was told of the holder, then release.
    fn inside(&mut self, hold: &Hold) {
        let ops = self.ops;
        let groups =
            [(hold.acquire, hold.acquire), (hold.first_busy, hold.last_busy), (hold.release, hold.release)];
        let mut latest = NONE;
        for (first, last) in groups {
            if first == NONE {
                continue;
            }
            if latest != NONE && ops[first as usize].precedes(&ops[latest as usize]) {
                let class = if latest == hold.acquire { "future-read" } else { "stale-read" };
                self.findings.add(class, || {
                    let sentence = match class {
                        "future-read" => {
                            "the lock was seen held or released before it was acquired".to_owned()
                        }
                        _ => "the lock was seen held after it had been released".to_owned(),
                    };
                    let mut witness = witness(ops, class, &[hold.acquire, first, latest], sentence);
                    witness.links.push(in_time(first, latest));
                    witness
                });
            }
            if latest == NONE || ops[last as usize].call > ops[latest as usize].call {
                latest = last;
            }
        }
    }

    fn open(&mut self, holds: &[Hold], reach: &mut Option<Zone>, next: Zone) {
        if let Some(outer) = reach.filter(|outer| next.first_ret < outer.last_call) {
            self.overlap(holds, &outer, &next);
        }
        if reach.is_none_or(|outer| outer.last_call < next.last_call) {
            *reach = Some(next);
        }
    }

    fn overlap(&mut self, holds: &[Hold], outer: &Zone, inner: &Zone) {
        let ops = self.ops;
        self.findings.add("mutual-exclusion", || {
            let mut ids = Vec::new();
            for zone in [outer, inner] {
                let hold = &holds[zone.hold as usize];
                let release =
                    if zone.last == NONE || zone.last == hold.release { hold.release } else { NONE };
                ids.extend(
                    [hold.acquire, zone.first, zone.last, release].into_iter().filter(|&id| id != NONE),
                );
                // Without its release a hold would seem to last for ever.
                ids.extend((hold.release != NONE).then_some(hold.release));
            }
            let sentence = "two holders had the lock at one time".to_owned();
            let mut witness = witness(ops, "mutual-exclusion", &ids, sentence);
            for (early, late) in [(outer, inner), (inner, outer)] {
                if late.last != NONE && early.first != NONE {
                    witness.links.push(in_time(early.first, late.last));
                }
            }
            witness
        });
    }
}

/// It was acquired: acknowledged, or someone saw it, or it could be released.
fn certain(ops: &[Op<Lock>], hold: &Hold) -> bool {
    let done = |id: u32| ops.get(id as usize).is_some_and(|op| op.status == Status::Done);
    done(hold.acquire) || hold.first_busy != NONE || done(hold.release)
}

fn zone(ops: &[Op<Lock>], at: u32, hold: &Hold) -> Zone {
    let mut zone = Zone { first_ret: u64::MAX, last_call: 0, first: NONE, last: NONE, hold: at };
    for id in [hold.acquire, hold.first_busy, hold.last_busy, hold.release] {
        let Some(op) = ops.get(id as usize) else { continue };
        if op.ret < zone.first_ret {
            (zone.first_ret, zone.first) = (op.ret, id);
        }
        if op.call >= zone.last_call {
            (zone.last_call, zone.last) = (op.call, id);
        }
    }
    if hold.release == NONE {
        (zone.last_call, zone.last) = (u64::MAX, NONE);
    }
    zone
}

/// The lock as a sequential object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockModel(u64);

impl Default for LockModel {
    fn default() -> Self {
        Self(NIL)
    }
}

impl Model for LockModel {
    type Kind = Lock;
    type Undo = u64;

    fn apply(&mut self, kind: Lock, _known: bool) -> Option<u64> {
        let old = self.0;
        self.0 = match kind {
            Lock::Acquire(token) => (old == NIL).then_some(token),
            Lock::Busy(holder) => (old != NIL && (holder == NIL || holder == old)).then_some(old),
            Lock::Free => (old == NIL).then_some(old),
            Lock::Release(token) => (old == token).then_some(NIL),
            Lock::NotHeld(token) => (old != token).then_some(old),
        }?;
        Some(old)
    }

    fn undo(&mut self, _kind: Lock, old: u64) {
        self.0 = old;
    }

    fn fingerprint(&self) -> u128 {
        uniform(1 << 100 | u128::from(self.0))
    }

    fn only_reads(kind: Lock) -> bool {
        matches!(kind, Lock::Busy(_) | Lock::Free | Lock::NotHeld(_))
    }
}
