//! The directed links: the policy in force on each, and what it carried.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Endpoint, OnHeal, Plane, Policy};

use super::{Dir, Nanos};

const NANOS_PER_MS: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// What links carried since their counters were last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Bytes that were given to their receiver.
    pub passed_bytes: u64,
    /// Bytes that a blackhole or half-close held: in queues and, as far as told by
    /// [`super::Fabric::note_held`], in the kernel. Those that were delivered at heal stay counted.
    pub held_bytes: u64,
    /// Connections that were tried; one is counted once even if both its directions were asked for.
    pub connects: u64,
    /// Connections that a policy reset or refused.
    pub resets: u64,
}

/// What one directed link carried over its whole life.
#[derive(Clone, Debug, PartialEq)]
pub struct PairStats {
    pub from: Endpoint,
    pub to: Endpoint,
    pub plane: Plane,
    /// The policy in force.
    pub policy: Policy,
    /// Connections that `from` dialled.
    pub dialled: u64,
    /// Connections that `to` dialled.
    pub answered: u64,
    /// Connections that exist now, whoever dialled.
    pub open: u64,
    /// Bytes that `to` was given.
    pub bytes: u64,
}

/// A link's policy before and after a change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Changed {
    pub old: Policy,
    pub new: Policy,
}

impl Changed {
    /// Connections that exist are reset.
    pub fn resets(&self) -> bool {
        let healed = matches!(self.old, Policy::Blackhole { on_heal: OnHeal::Reset })
            && !matches!(self.new, Policy::Blackhole { .. });
        healed || matches!(self.new, Policy::Reset | Policy::Refuse)
    }

    /// What waits for its turn need not wait any longer.
    pub fn lifts_a_limit(&self) -> bool {
        matches!(self.old, Policy::Rate { .. }) && !matches!(self.new, Policy::Rate { .. })
    }
}

#[derive(Debug)]
pub(super) struct Link {
    key: (Endpoint, Endpoint, Plane),
    pub policy: Policy,
    /// Made when first needed: most links never have jitter.
    rng: Option<Box<ChaCha8Rng>>,
    /// Under a rate limit: when the link is free again.
    busy_until: Nanos,
    passed: u64,
    pub held: u64,
    /// By role: [`Dir::Up`] = `from` dialled.
    tried: [u64; 2],
    resets: [u64; 2],
    total_tried: [u64; 2],
    total_passed: u64,
    open: u64,
}

/// All links that were ever named or used.
#[derive(Debug)]
pub(super) struct Links {
    seed: u64,
    index: BTreeMap<(Endpoint, Endpoint, Plane), usize>,
    all: Vec<Link>,
}

impl Links {
    pub fn new(seed: u64) -> Self {
        Self { seed, index: BTreeMap::new(), all: Vec::new() }
    }

    pub fn intern(&mut self, from: Endpoint, to: Endpoint, plane: Plane) -> usize {
        let key = (from, to, plane);
        *self.index.entry(key).or_insert_with(|| {
            self.all.push(Link {
                key,
                policy: Policy::Pass,
                rng: None,
                busy_until: 0,
                passed: 0,
                held: 0,
                tried: [0; 2],
                resets: [0; 2],
                total_tried: [0; 2],
                total_passed: 0,
                open: 0,
            });
            self.all.len() - 1
        })
    }

    pub fn policy(&self, from: Endpoint, to: Endpoint, plane: Plane) -> Policy {
        self.index.get(&(from, to, plane)).map_or(Policy::Pass, |&i| self.all[i].policy)
    }

    pub fn get(&mut self, link: usize) -> &mut Link {
        &mut self.all[link]
    }

    /// Gives a link another policy; what it had.
    pub fn change(&mut self, link: usize, policy: Policy) -> Policy {
        let link = &mut self.all[link];
        let change = Changed { old: std::mem::replace(&mut link.policy, policy), new: policy };
        if change.lifts_a_limit() {
            link.busy_until = 0;
        }
        change.old
    }

    /// When a piece of `bytes` that is read at `now` is due under the link's policy.
    pub fn due(&mut self, link: usize, now: Nanos, bytes: usize) -> Nanos {
        let (seed, Link { key, policy, rng, busy_until, .. }) = (self.seed, &mut self.all[link]);
        let mut draw =
            |most: u64| rng.get_or_insert_with(|| Box::new(link_rng(seed, *key))).random_range(0..=most);
        match *policy {
            Policy::Delay { delay_ms, jitter_ms } => {
                let jitter = u64::from(jitter_ms) * NANOS_PER_MS;
                let jitter = if jitter > 0 { draw(jitter) } else { 0 };
                now + u64::from(delay_ms) * NANOS_PER_MS + jitter
            }
            Policy::Stall { permille, stall_ms } if draw(999) < u64::from(permille) => {
                now + u64::from(stall_ms) * NANOS_PER_MS
            }
            Policy::Rate { bytes_per_s } => {
                let takes = bytes as u64 * NANOS_PER_SECOND / u64::from(bytes_per_s.max(1));
                *busy_until = now.max(*busy_until) + takes;
                *busy_until
            }
            _ => now,
        }
    }

    /// Sums over pairs (all planes).
    pub fn touched(
        &self,
        pairs: &BTreeSet<(Endpoint, Endpoint)>,
        held_now: impl Fn(usize) -> u64,
    ) -> Touched {
        let mut sum = Touched::default();
        for (i, link) in self.named(pairs) {
            let (from, to, _) = link.key;
            sum.passed_bytes += link.passed;
            sum.held_bytes += link.held + held_now(i);
            // A connection stands on both its directed links: count it where its caller sends, and on the
            // other one only if that direction was not asked for.
            let both = pairs.contains(&(to, from));
            let (up, down) = (Dir::Up.index(), Dir::Down.index());
            sum.connects += link.tried[up] + if both { 0 } else { link.tried[down] };
            sum.resets += link.resets[up] + if both { 0 } else { link.resets[down] };
        }
        sum
    }

    pub fn reset_touched(&mut self, pairs: &BTreeSet<(Endpoint, Endpoint)>) {
        let named: Vec<usize> = self.named(pairs).map(|(i, _)| i).collect();
        for i in named {
            let link = &mut self.all[i];
            (link.passed, link.held, link.tried, link.resets) = (0, 0, [0; 2], [0; 2]);
        }
    }

    pub fn stats(&self) -> Vec<PairStats> {
        let stats = |&i: &usize| {
            let link = &self.all[i];
            let (from, to, plane) = link.key;
            PairStats {
                from,
                to,
                plane,
                policy: link.policy,
                dialled: link.total_tried[Dir::Up.index()],
                answered: link.total_tried[Dir::Down.index()],
                open: link.open,
                bytes: link.total_passed,
            }
        };
        self.index.values().map(stats).collect()
    }

    fn named<'a>(
        &'a self,
        pairs: &'a BTreeSet<(Endpoint, Endpoint)>,
    ) -> impl Iterator<Item = (usize, &'a Link)> {
        self.all.iter().enumerate().filter(|(_, link)| pairs.contains(&(link.key.0, link.key.1)))
    }
}

impl Link {
    pub fn passed(&mut self, bytes: usize) {
        self.passed += bytes as u64;
        self.total_passed += bytes as u64;
    }

    /// They were said to have passed, but the receiver did not take them.
    pub fn not_passed(&mut self, bytes: usize) {
        self.passed = self.passed.saturating_sub(bytes as u64);
        self.total_passed = self.total_passed.saturating_sub(bytes as u64);
    }

    pub fn tried(&mut self, role: Dir) {
        self.tried[role.index()] += 1;
        self.total_tried[role.index()] += 1;
        self.open += 1;
    }

    /// It turned out to belong to another plane.
    pub fn not_tried(&mut self, role: Dir) {
        let (tried, total) = (&mut self.tried[role.index()], &mut self.total_tried[role.index()]);
        (*tried, *total) = (tried.saturating_sub(1), total.saturating_sub(1));
        self.open = self.open.saturating_sub(1);
    }

    pub fn was_reset(&mut self, role: Dir) {
        self.resets[role.index()] += 1;
    }

    pub fn closed(&mut self) {
        self.open = self.open.saturating_sub(1);
    }
}

/// A generator of its own for each link, so that traffic on one does not shift another's jitter.
fn link_rng(seed: u64, (from, to, plane): (Endpoint, Endpoint, Plane)) -> ChaCha8Rng {
    let number = |end: Endpoint| match end {
        Endpoint::Node(i) => [0, i],
        Endpoint::Client(i) => [1, i],
        Endpoint::Controller => [2, 0],
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    for (i, part) in [number(from), number(to), [3, plane as u16]].into_iter().flatten().enumerate() {
        bytes[8 + 2 * i..10 + 2 * i].copy_from_slice(&part.to_le_bytes());
    }
    ChaCha8Rng::from_seed(bytes)
}
