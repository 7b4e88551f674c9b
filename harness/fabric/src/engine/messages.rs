//! Where single messages and commands matter: rules for bus messages, and traps that hold what they were set for.

use std::collections::{BTreeMap, BTreeSet};

use super::frames::Cut;
use super::{ConnId, Dir, Fabric, Nanos, ends, get};
use crate::{Fate, Match, MessageRule, Trap};

impl Fabric {
    /// These rules for bus messages and no others from now on.
    pub fn filter(&mut self, rules: Vec<MessageRule>) {
        self.watch.filter(rules);
        self.let_messages_go();
    }

    /// How many messages each rule has hit so far.
    pub fn filtered(&self) -> BTreeMap<u32, u64> {
        self.watch.hits()
    }

    /// Waits for these moments and no others; what traps hold that are gone is released.
    pub fn watch(&mut self, now: Nanos, traps: Vec<Trap>) {
        let stay: BTreeSet<u32> = traps.iter().map(|trap| trap.id).collect();
        self.watch.arm(traps);
        let gone: Vec<u32> = self.holding.keys().copied().filter(|trap| !stay.contains(trap)).collect();
        for trap in gone {
            self.release(now, trap);
        }
        self.let_messages_go();
    }

    /// Lets go what a trap holds.
    pub fn release(&mut self, now: Nanos, trap: u32) {
        let Some((id, dir)) = self.holding.remove(&trap) else { return };
        let Some(conn) = get(&mut self.conns, id) else { return };
        conn.flows[dir.index()].release(now);
        self.list(id, dir);
    }

    /// Moments that came since the last call.
    #[inline]
    pub fn take_matches(&mut self) -> Vec<Match> {
        self.watch.take_matches()
    }

    /// Bus bytes while single messages matter.
    pub(super) fn offer_messages(&mut self, now: Nanos, id: ConnId, dir: Dir, bytes: &[u8]) {
        let Some(conn) = get(&mut self.conns, id) else { return };
        let (from, to) = ends(conn, dir);
        let Some(cutters) = &mut conn.cutters else { return };
        let mut cuts = Vec::new();
        cutters[dir.index()].cut(bytes, &mut cuts);
        for cut in cuts {
            let message = match cut {
                Cut::Rest(rest) => {
                    self.enqueue(now, id, dir, &rest);
                    continue;
                }
                Cut::Message(message) => message,
            };
            let ruling = self.watch.message(now, from, to, &message);
            for trap in ruling.held_by {
                self.hold(id, dir, trap);
            }
            match ruling.fate {
                None => self.enqueue(now, id, dir, &message),
                Some(Fate::Drop) => {}
                Some(Fate::Delay { ms }) => {
                    self.enqueue(now + u64::from(ms) * 1_000_000, id, dir, &message);
                }
                Some(Fate::Duplicate) => {
                    self.enqueue(now, id, dir, &message);
                    self.enqueue(now, id, dir, &message);
                }
                Some(Fate::Reorder { ms }) => {
                    let at = now + u64::from(ms) * 1_000_000;
                    self.late.insert((at, self.late_serials), (id, dir, message));
                    self.late_serials += 1;
                }
            }
        }
    }

    /// Shows commands to the traps; true if one holds these bytes, which are taken then.
    pub(super) fn holds_commands(&mut self, now: Nanos, id: ConnId, dir: Dir, bytes: &[u8]) -> bool {
        let Some(conn) = get(&mut self.conns, id) else { return false };
        let Some(plane) = conn.plane.filter(|plane| self.watch.wants_commands(*plane)) else { return false };
        let (from, to) = ends(conn, dir);
        let followers = conn.followers.get_or_insert_default();
        let follower = &mut followers[dir.index()];
        let (before, holders) = self.watch.commands(now, (plane, from, to), follower, bytes);
        if holders.is_empty() {
            return false;
        }
        self.enqueue_and_hold(now, id, dir, bytes, (before, holders));
        true
    }

    /// What comes in this direction from now on waits until the trap is released.
    fn hold(&mut self, id: ConnId, dir: Dir, trap: u32) {
        if let Some(conn) = get(&mut self.conns, id)
            && !self.holding.contains_key(&trap)
        {
            conn.flows[dir.index()].hold();
            self.holding.insert(trap, (id, dir));
        }
    }

    /// The first so many bytes go their way, the rest is held by these traps.
    pub(super) fn enqueue_and_hold(
        &mut self,
        now: Nanos,
        id: ConnId,
        dir: Dir,
        bytes: &[u8],
        (before, holders): (usize, Vec<u32>),
    ) {
        let (free, held) = bytes.split_at(before.min(bytes.len()));
        if !free.is_empty() {
            self.enqueue(now, id, dir, free);
        }
        for trap in holders {
            self.hold(id, dir, trap);
        }
        self.enqueue(now, id, dir, held);
    }

    /// Nobody asks for single messages any more: what waits for its message's end goes its way.
    fn let_messages_go(&mut self) {
        if self.watch.wants_messages() {
            return;
        }
        let mut waited = Vec::new();
        for conn in self.conns.iter_mut().flatten() {
            let Some(cutters) = &mut conn.cutters else { continue };
            for dir in Dir::BOTH {
                let bytes = cutters[dir.index()].let_go();
                if !bytes.is_empty() {
                    waited.push((conn.id, dir, bytes));
                }
            }
        }
        for (id, dir, bytes) in waited {
            self.enqueue(self.now, id, dir, &bytes);
        }
    }
}
