//! What is watched for and what is done to single bus messages: rules and traps, and the little of the cluster's state
//! that they need (who has which node id, who was a replica, the greatest epoch).

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::commands::{Commands, Visit};
use crate::messages::{Fate, MESSAGE_TYPES, Match, MessageRule, Messages, Moment, Trap};
use crate::{Endpoint, Plane};

use super::Nanos;

/// Where things stand in a frame of the cluster bus (cluster.h, the same from 4.0 to valkey 9).
const TYPE: usize = 12;
const CURRENT_EPOCH: usize = 16;
const SENDER: std::ops::Range<usize> = 40..80;
const SLOTS: std::ops::Range<usize> = 80..2128;
const FLAGS: usize = 2250;
const FAILED_ID: std::ops::Range<usize> = 2256..2296;
const FLAG_MASTER: u16 = 1;
/// Valkey marks light messages with the highest bit.
const TYPE_MASK: u16 = 0x7fff;
const FAIL: u16 = 3;

#[derive(Debug)]
pub(super) struct Watch {
    rules: Vec<MessageRule>,
    traps: Vec<Armed>,
    /// By rule: messages that it hit.
    hits: BTreeMap<u32, u64>,
    matches: Vec<Match>,
    rng: ChaCha8Rng,
    ids: BTreeMap<Vec<u8>, Endpoint>,
    /// Nodes that said last that they are replicas.
    replicas: BTreeSet<Endpoint>,
    epoch: u64,
}

#[derive(Debug)]
struct Armed {
    trap: Trap,
    seen: u64,
}

/// What is to become of a message: its fate, and the traps that hold it.
#[derive(Debug, Default)]
pub(super) struct Ruling {
    pub fate: Option<Fate>,
    pub held_by: Vec<u32>,
}

/// Follows the commands of one direction, from the first piece that begins like one.
#[derive(Debug, Default)]
pub(super) struct Follower(Option<Commands>);

/// What a frame says of itself.
struct Head {
    kind: u16,
    epoch: u64,
    id: Vec<u8>,
    master: bool,
    slots: bool,
    failed: Option<Vec<u8>>,
}

impl Watch {
    pub fn new(seed: u64) -> Self {
        Self {
            rules: Vec::new(),
            traps: Vec::new(),
            hits: BTreeMap::new(),
            matches: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(seed ^ 0x6d65_7373_6167_6573),
            ids: BTreeMap::new(),
            replicas: BTreeSet::new(),
            epoch: 0,
        }
    }

    /// These rules and no others from now on.
    pub fn filter(&mut self, rules: Vec<MessageRule>) {
        self.rules = rules;
    }

    /// These traps and no others; those that stand already go on counting, and what has matched stays matched.
    pub fn arm(&mut self, traps: Vec<Trap>) {
        let mut seen: BTreeMap<u32, u64> =
            self.traps.iter().map(|armed| (armed.trap.id, armed.seen)).collect();
        let armed = traps.into_iter().map(|trap| Armed { seen: seen.remove(&trap.id).unwrap_or(0), trap });
        self.traps = armed.collect();
    }

    pub fn hits(&self) -> BTreeMap<u32, u64> {
        self.hits.clone()
    }

    pub fn take_matches(&mut self) -> Vec<Match> {
        std::mem::take(&mut self.matches)
    }

    /// Bus messages must be cut out of their streams.
    pub fn wants_messages(&self) -> bool {
        let on_bus =
            |armed: &Armed| !matches!(armed.trap.on, Moment::Command { .. } | Moment::FullSync { .. });
        !self.rules.is_empty() || self.traps.iter().any(on_bus)
    }

    /// Commands of this plane must be followed.
    pub fn wants_commands(&self, on: Plane) -> bool {
        self.traps.iter().any(|armed| matches!(&armed.trap.on, Moment::Command { plane, .. } if *plane == on))
    }

    /// A whole bus message was read.
    pub fn message(&mut self, now: Nanos, from: Endpoint, to: Endpoint, frame: &[u8]) -> Ruling {
        let Some(head) = head(frame) else { return Ruling::default() };
        if !head.id.is_empty() && self.ids.get(&head.id) != Some(&from) {
            self.ids.insert(head.id.clone(), from);
        }
        let promoted = !head.id.is_empty() && head.master && head.slots && self.replicas.remove(&from);
        if !head.id.is_empty() && !head.master {
            self.replicas.insert(from);
        }
        let rose = head.epoch > self.epoch && std::mem::replace(&mut self.epoch, head.epoch) > 0;
        let subject = head.failed.as_ref().and_then(|id| self.ids.get(id)).copied();
        let name = MESSAGE_TYPES.get(usize::from(head.kind)).copied().unwrap_or("unknown message");
        let mut ruling = Ruling::default();
        for armed in &mut self.traps {
            let met = match &armed.trap.on {
                Moment::Message(messages) => fits(messages, &head, from, to),
                Moment::Promotion(ends) => promoted && ends.hold(from),
                Moment::Failure(ends) => subject.is_some_and(|subject| ends.hold(subject)),
                Moment::Epoch => rose,
                Moment::Command { .. } | Moment::FullSync { .. } => false,
            };
            if met && armed.met() {
                if armed.trap.hold {
                    ruling.held_by.push(armed.trap.id);
                }
                let what = format!("{name} {from} to {to}, epoch {}", head.epoch);
                let (trap, epoch) = (armed.trap.id, head.epoch);
                self.matches.push(Match { trap, time: now, from, to, subject, epoch, what });
            }
        }
        let rule = self.rules.iter().find(|rule| fits(&rule.which, &head, from, to));
        if let Some(rule) = rule
            && (rule.percent >= 100 || self.rng.random_range(0..100) < rule.percent)
        {
            *self.hits.entry(rule.id).or_default() += 1;
            ruling.fate = Some(rule.fate);
        }
        ruling
    }

    /// Commands passed: how many of `bytes` come before the first that a trap holds, and which traps do.
    pub fn commands(
        &mut self,
        now: Nanos,
        (plane, from, to): (Plane, Endpoint, Endpoint),
        follower: &mut Follower,
        bytes: &[u8],
    ) -> (usize, Vec<u32>) {
        let mut held = (bytes.len(), Vec::new());
        for (at, word) in follower.commands(bytes) {
            for armed in &mut self.traps {
                let Moment::Command { plane: on, word: wanted, from: senders, to: receivers } =
                    &armed.trap.on
                else {
                    continue;
                };
                let met = *on == plane
                    && wanted.as_ref().is_none_or(|wanted| wanted.as_bytes() == word)
                    && senders.hold(from)
                    && receivers.hold(to);
                if met && armed.met() {
                    let what = format!("{} {from} to {to}", String::from_utf8_lossy(&word));
                    let (trap, seen) = (armed.trap.id, armed.seen);
                    let what = format!("{what}, number {seen}");
                    self.matches.push(Match { trap, time: now, from, to, subject: None, epoch: 0, what });
                    if armed.trap.hold {
                        held.0 = held.0.min(at);
                        held.1.push(trap);
                    }
                }
            }
        }
        held
    }

    /// The payload of a full synchronisation begins; which traps hold it.
    pub fn full_sync(&mut self, now: Nanos, from: Endpoint, to: Endpoint) -> Vec<u32> {
        let mut held = Vec::new();
        for armed in &mut self.traps {
            let Moment::FullSync { from: masters, to: replicas } = &armed.trap.on else { continue };
            if masters.hold(from) && replicas.hold(to) && armed.met() {
                let what = format!("full sync {from} to {to}");
                let trap = armed.trap.id;
                self.matches.push(Match { trap, time: now, from, to, subject: None, epoch: 0, what });
                held.extend(armed.trap.hold.then_some(trap));
            }
        }
        held
    }
}

impl Armed {
    /// Counts; true at the n-th time.
    fn met(&mut self) -> bool {
        self.seen += 1;
        self.seen == self.trap.nth.max(1)
    }
}

impl Follower {
    /// The commands that end in these bytes, with the places where they begin (0 if before).
    fn commands(&mut self, bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
        struct Words {
            base: u64,
            begun: u64,
            word: Vec<u8>,
            found: Vec<(usize, Vec<u8>)>,
        }
        impl Visit for Words {
            fn arg(&mut self, index: u32, head: &[u8], _len: u64) {
                if index == 0 {
                    self.word = head.to_ascii_uppercase();
                }
            }
            fn end(&mut self, at: u64) {
                let begins = usize::try_from(self.begun.saturating_sub(self.base)).unwrap_or(usize::MAX);
                self.found.push((begins, std::mem::take(&mut self.word)));
                self.begun = at;
            }
        }
        if self.0.is_none() && bytes.first() != Some(&b'*') {
            return Vec::new();
        }
        let commands = self.0.get_or_insert_with(Commands::default);
        let base = commands.seen;
        let mut words = Words { base, begun: base, word: Vec::new(), found: Vec::new() };
        if commands.feed(bytes, &mut words).is_err() {
            self.0 = None; // taken up again at the next piece that looks like a command
        }
        words.found
    }
}

fn fits(messages: &Messages, head: &Head, from: Endpoint, to: Endpoint) -> bool {
    (messages.types.is_empty() || messages.types.contains(&head.kind))
        && messages.from.hold(from)
        && messages.to.hold(to)
        && messages.epochs.is_none_or(|(first, last)| (first..=last).contains(&head.epoch))
}

/// Light messages say no more than their type.
fn head(frame: &[u8]) -> Option<Head> {
    let be16 = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let kind = be16(TYPE)?;
    let (light, kind) = (kind & !TYPE_MASK != 0, kind & TYPE_MASK);
    if light || frame.len() < FAILED_ID.start {
        return Some(Head { kind, epoch: 0, id: Vec::new(), master: false, slots: false, failed: None });
    }
    let epoch = u64::from_be_bytes(frame[CURRENT_EPOCH..CURRENT_EPOCH + 8].try_into().ok()?);
    Some(Head {
        kind,
        epoch,
        id: frame[SENDER].to_vec(),
        master: be16(FLAGS)? & FLAG_MASTER != 0,
        slots: frame[SLOTS].iter().any(|byte| *byte != 0),
        failed: (kind == FAIL).then(|| frame.get(FAILED_ID).map(<[u8]>::to_vec)).flatten(),
    })
}
