//! The search itself.

use super::visited::Visited;
use super::{Limits, matters};
use crate::answer::Unknown;
use crate::linear::op::{NEVER, Op, Status};
use rustc_hash::FxHashMap;

/// A sequential object, changed in place.
pub trait Model: Clone {
    /// Its operations.
    type Kind: Copy + Eq + std::hash::Hash;
    /// What takes one back.
    type Undo;

    /// Does it, if the state allows what its reply says. With `known` false there was no reply; None then
    /// means that nothing would change.
    fn apply(&mut self, kind: Self::Kind, known: bool) -> Option<Self::Undo>;

    /// Takes the last operation back.
    fn undo(&mut self, kind: Self::Kind, undo: Self::Undo);

    /// The state as a uniform number: equal states, equal numbers. (Those of operations have the highest bit of what they
    /// are made from set.)
    fn fingerprint(&self) -> u128;

    /// It never changes the state.
    fn only_reads(kind: Self::Kind) -> bool;

    /// The state after it is the same whatever was before, and its reply says nothing of that.
    fn is_blind(_kind: Self::Kind) -> bool {
        false
    }

    /// Parts of the object that it touches. If operations that share no part with the others can be left out of any legal
    /// order and leave a legal order, witnesses are shrunk by parts. By default all is one part.
    fn parts(_kind: Self::Kind) -> Vec<u64> {
        vec![0]
    }

    /// Every state that these operations could tell apart, if they are few: then the beginning of a history can be left out of a
    /// witness.
    fn starts(&self, _kinds: &[Self::Kind]) -> Option<Vec<Self>> {
        None
    }
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is a legal order.
    Order,
    /// There is none, already of what was called before operation `stuck` returned.
    None {
        /// The operation whose return no order reached.
        stuck: u32,
    },
    /// The limits ended it.
    Unknown(Unknown),
}

/// Looks for a legal order. Candidates are tried by their place in `schedule`, else by their return.
pub fn search<M: Model>(
    model: &M,
    ops: &[Op<M::Kind>],
    schedule: Option<&[u64]>,
    limits: &Limits<'_>,
) -> Found {
    Search::new(model.clone(), ops, schedule).run(limits)
}

/// How often limits are looked at, in configurations.
const POLL: u64 = 2048;

struct Search<'a, M: Model> {
    model: M,
    ops: &'a [Op<M::Kind>],
    schedule: Option<&'a [u64]>,
    /// Calls (node = operation) and returns (node = operation + count) in time order, a ring through node 2 * count.
    next: Vec<u32>,
    prev: Vec<u32>,
    /// Identical operations have one number.
    twins: Vec<u32>,
    /// The candidate of each twin number that was seen last, and at which expansion.
    leader: Vec<(u64, u32)>,
    expansions: u64,
    /// Operations that must still be placed.
    open: u64,
    placed: u128,
    frames: Vec<Frame<M::Undo>>,
    candidates: Vec<u32>,
    /// Read-only operations placed eagerly.
    reads: Vec<u32>,
    furthest: Option<(u64, u32)>,
}

/// One placed operation, the reads that went right behind it, and what can be tried next.
struct Frame<U> {
    placed: Option<(u32, U)>,
    first_read: usize,
    first_candidate: usize,
    next_candidate: usize,
    /// An unknown write that nothing has seen yet.
    unseen: bool,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: M, ops: &'a [Op<M::Kind>], schedule: Option<&'a [u64]>) -> Self {
        let count = ops.len() as u32;
        let mut events: Vec<(u64, u32)> = Vec::with_capacity(ops.len() * 2);
        let mut open = 0;
        let mut classes = FxHashMap::default();
        let mut twins = vec![0; ops.len()];
        for (id, op) in (0..).zip(ops).filter(|(_, op)| matters::<M>(op)) {
            events.push((op.call, id));
            if op.status == Status::Done {
                events.push((op.ret, id + count));
                open += 1;
            }
            let fresh = classes.len() as u32;
            twins[id as usize] = *classes.entry((op.kind, op.status)).or_insert(fresh);
        }
        // Calls have the smaller numbers, so at one moment they come before returns.
        events.sort_unstable();
        let ring = count * 2;
        let (mut next, mut prev) = (vec![ring; ring as usize + 1], vec![ring; ring as usize + 1]);
        let mut last = ring;
        for (_, node) in events {
            (next[last as usize], prev[node as usize]) = (node, last);
            last = node;
        }
        (next[last as usize], prev[ring as usize]) = (ring, last);
        Self {
            model,
            ops,
            schedule,
            next,
            prev,
            leader: vec![(0, 0); classes.len()],
            twins,
            expansions: 0,
            open,
            placed: 0,
            frames: Vec::new(),
            candidates: Vec::new(),
            reads: Vec::new(),
            furthest: None,
        }
    }

    fn run(mut self, limits: &Limits<'_>) -> Found {
        let mut visited = Visited::new();
        self.expand(None);
        loop {
            if self.open == 0 {
                return Found::Order;
            }
            let fingerprint = self.placed ^ self.model.fingerprint();
            if !visited.insert(fingerprint) {
                self.collapse();
            } else if visited.len().is_multiple_of(POLL)
                && let Some(reason) = exceeded(&visited, limits)
            {
                let checked_until = self.furthest.map(|(time, _)| time);
                return Found::Unknown(Unknown { reason, checked_until });
            }
            if !self.advance() {
                let stuck = self.furthest.map_or(0, |(_, id)| id);
                return Found::None { stuck };
            }
        }
    }

    /// Places the next untried candidate, going back as far as needed. False if nothing is left to try.
    fn advance(&mut self) -> bool {
        while let Some(frame) = self.frames.last_mut() {
            if frame.next_candidate == self.candidates.len() {
                self.collapse();
                continue;
            }
            let id = self.candidates[frame.next_candidate];
            frame.next_candidate += 1;
            let unseen = frame.unseen;
            let op = &self.ops[id as usize];
            if unseen && M::is_blind(op.kind) {
                continue;
            }
            if let Some(undo) = self.model.apply(op.kind, op.status == Status::Done) {
                self.lift(id);
                self.expand(Some((id, undo)));
                return true;
            }
        }
        false
    }

    /// A new frame: eager reads, then the candidates.
    fn expand(&mut self, placed: Option<(u32, M::Undo)>) {
        let first_read = self.reads.len();
        let first_candidate = self.candidates.len();
        let count = self.ops.len() as u32;
        self.expansions += 1;
        let mut node = self.next[count as usize * 2];
        while node < count {
            let op = &self.ops[node as usize];
            let after = self.next[node as usize];
            if !M::only_reads(op.kind) {
                self.offer(node);
            } else if self.model.apply(op.kind, true).is_some() {
                self.lift(node);
                self.reads.push(node);
                // Its return may have been the one right behind it.
                node = self.next[self.prev[node as usize] as usize];
                continue;
            }
            node = after;
        }
        if node < count * 2 {
            let id = node - count;
            let time = self.ops[id as usize].ret;
            if self.furthest.is_none_or(|(furthest, _)| furthest < time) {
                self.furthest = Some((time, id));
            }
        }
        let (ops, schedule) = (self.ops, self.schedule);
        let place = |id: u32| schedule.map_or(ops[id as usize].ret, |schedule| schedule[id as usize]);
        self.candidates[first_candidate..].sort_unstable_by_key(|&id| (place(id), id));
        let unseen = self.reads.len() == first_read
            && placed.as_ref().is_some_and(|&(id, _)| {
                let op = &self.ops[id as usize];
                op.ret == NEVER && M::is_blind(op.kind)
            });
        self.frames.push(Frame {
            placed,
            first_read,
            first_candidate,
            next_candidate: first_candidate,
            unseen,
        });
    }

    /// One more candidate, unless an identical one must return earlier.
    fn offer(&mut self, id: u32) {
        let leader = &mut self.leader[self.twins[id as usize] as usize];
        if leader.0 == self.expansions {
            let slot = &mut self.candidates[leader.1 as usize];
            if self.ops[id as usize].ret < self.ops[*slot as usize].ret {
                *slot = id;
            }
            return;
        }
        *leader = (self.expansions, self.candidates.len() as u32);
        self.candidates.push(id);
    }

    /// Takes the last frame back.
    fn collapse(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        while self.reads.len() > frame.first_read {
            if let Some(id) = self.reads.pop() {
                self.unlift(id);
            }
        }
        self.candidates.truncate(frame.first_candidate);
        if let Some((id, undo)) = frame.placed {
            self.model.undo(self.ops[id as usize].kind, undo);
            self.unlift(id);
        }
    }

    fn lift(&mut self, id: u32) {
        self.unlink(id);
        if self.ops[id as usize].status == Status::Done {
            self.unlink(id + self.ops.len() as u32);
            self.open -= 1;
        }
        self.placed ^= number(id);
    }

    fn unlift(&mut self, id: u32) {
        self.placed ^= number(id);
        if self.ops[id as usize].status == Status::Done {
            self.open += 1;
            self.relink(id + self.ops.len() as u32);
        }
        self.relink(id);
    }

    fn unlink(&mut self, node: u32) {
        let (before, behind) = (self.prev[node as usize], self.next[node as usize]);
        self.next[before as usize] = behind;
        self.prev[behind as usize] = before;
    }

    fn relink(&mut self, node: u32) {
        let (before, behind) = (self.prev[node as usize], self.next[node as usize]);
        self.next[before as usize] = node;
        self.prev[behind as usize] = node;
    }
}

fn exceeded(visited: &Visited, limits: &Limits<'_>) -> Option<String> {
    let (count, bytes) = (visited.len(), visited.bytes());
    if count >= limits.configurations {
        Some(format!("{count} configurations tried, the limit"))
    } else if bytes >= limits.bytes {
        Some(format!("{bytes} bytes of configurations held, the limit ({count} configurations)"))
    } else if (limits.go_on)() {
        None
    } else {
        Some(format!("the time ended after {count} configurations"))
    }
}

/// A uniform number for an operation (Zobrist hashing), none that a state has.
fn number(id: u32) -> u128 {
    uniform(1 << 127 | u128::from(id))
}

/// A uniform number for a number: two rounds of splitmix64, each half its own.
pub(in crate::linear) fn uniform(of: u128) -> u128 {
    let low = mix(of as u64 ^ mix((of >> 64) as u64));
    let high = mix(low ^ 0x9e37_79b9_7f4a_7c15 ^ of as u64);
    u128::from(high) << 64 | u128::from(low)
}

fn mix(of: u64) -> u64 {
    let mut x = of.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
