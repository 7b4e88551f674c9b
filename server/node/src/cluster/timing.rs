//! `failover-timing`: the waits of the original, or the shortest that are as safe.
//!
//! What `fast` does otherwise than Redis 7.0.15. The node timeout NT, the quorum, one vote an epoch, the vote
//! spacing of 2 NT and the order of ranks are the same, and no packet is one that the original would not send.
//!
//! | | redis | fast |
//! |---|---|---|
//! | a peer is pinged when its last pong is older than | NT/2 | [`Cluster::ping_period_ms`]: NT/10, at most 100 pings a second |
//! | a link that ends is dialled again | within 100 ms | at once |
//! | a refused connection starts the clock of the silence | only if the kernel refuses at once | always |
//! | NT of silence is noticed | within 100 ms | to the millisecond |
//! | PFAIL is told | with the next ping | to the suspect's replicas and five masters at once, by a PING |
//! | own stalls count as silence of others | yes | not up to [`Cluster::most_excused_ms`] |
//! | election after a majority's FAIL | 500..999 ms + 1 s a rank | 1 s a rank, once the siblings have said their offsets |
//! | rank among equal offsets | equal | by id |
//! | shards that fail together | meet by chance | in order of their masters' ids |
//! | votes are asked for | once | until 500 ms have passed, while the FAIL spreads |
//! | an election lost to another shard | again after 4 NT | again at once |
//! | an election that nobody won | again after 4 NT | again after 2.25 NT, when voters may vote again |

use std::collections::VecDeque;

use super::{CRON_MS, Cluster, Turn};
use crate::io::Mono;

/// Which timing of failovers a node has; `failover-timing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailoverTiming {
    /// The shortest that is safe.
    #[default]
    Fast,
    /// That of Redis 7.0.15.
    Redis,
}

/// Each peer adds so much to the fast ping period: at most 100 pings leave a node in a second.
const MS_PER_PEER: u64 = 10;
/// The fast ping period is this part of the node timeout, if that keeps the bound.
const PINGS_PER_TIMEOUT: u64 = 10;
/// A timer that fires later than this was kept from running.
const LATE_MS: u64 = 50;
/// Stalls that are remembered.
const STALLS: usize = 64;

impl Cluster {
    pub(super) const fn is_fast(&self) -> bool {
        matches!(self.settings.timing, FailoverTiming::Fast)
    }

    /// A peer is pinged when its last pong is older than this: `clamp(peers * 10 ms, NT/10, NT/2)`, or the
    /// original's NT/2.
    pub(super) fn ping_period_ms(&self) -> u64 {
        let timeout = self.settings.node_timeout_ms;
        let original = timeout / 2;
        if !self.is_fast() {
            return original;
        }
        let peers = self.nodes.len() as u64 - 1;
        (peers * MS_PER_PEER).clamp(timeout / PINGS_PER_TIMEOUT, original)
    }

    /// How much of a peer's silence may be put down to my own stalls: NT/2 less the ping period, so that a dead
    /// peer is suspected after 1.5 NT at the latest, as with the original, and a master that is cut off does
    /// not go on for longer.
    fn most_excused_ms(&self) -> u64 {
        let bound = if self.is_fast() { self.settings.node_timeout_ms / 2 } else { 0 };
        bound.saturating_sub(self.ping_period_ms())
    }

    /// The part of the time since then for which I was kept from running, as far as it is excused.
    pub(super) fn excused_ms(&self, since: Mono) -> u64 {
        self.stalls.since(since).min(self.most_excused_ms())
    }

    /// Called as a timer fires, with when it was due.
    pub(super) fn note_own_stall(&mut self, due: Mono, turn: &Turn<'_>) {
        if turn.now.mono.ms_since(due) > LATE_MS {
            self.stalls.add(due, turn.now.mono);
        }
    }

    /// Was I deaf for a good part of the last node timeout? What I read then may be old.
    pub(super) fn was_deaf(&self, turn: &Turn<'_>) -> bool {
        let timeout = self.settings.node_timeout_ms;
        let since = Mono(turn.now.mono.0.saturating_sub(timeout * 1000));
        self.stalls.since(since) > timeout / 4
    }

    /// When a peer's next ping is due. Pings leave with the cron, so that those due together leave together:
    /// the tick that is nearest.
    pub(super) fn is_ping_due(&self, pong_received: Option<Mono>, turn: &Turn<'_>) -> bool {
        let age = turn.ms_since(pong_received);
        if self.is_fast() {
            age.saturating_add(CRON_MS / 2) >= self.ping_period_ms()
        } else {
            age > self.ping_period_ms()
        }
    }
}

/// When this process was kept from running: stopped, or without a processor.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// From and to, oldest first.
    recent: VecDeque<(Mono, Mono)>,
}

impl Stalls {
    fn add(&mut self, from: Mono, to: Mono) {
        if self.recent.len() == STALLS {
            self.recent.pop_front();
        }
        self.recent.push_back((from, to));
    }

    /// Milliseconds of stalls since then.
    fn since(&self, since: Mono) -> u64 {
        let part = |(from, to): &(Mono, Mono)| to.ms_since(since.max(*from));
        self.recent.iter().rev().take_while(|(_, to)| *to > since).map(part).sum()
    }
}
