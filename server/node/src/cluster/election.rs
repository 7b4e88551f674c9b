//! A failed master's replicas elect one of them: the candidate's and the voter's side.

use std::collections::BTreeSet;

use super::bus::{Body, Header, MFLAG_FORCEACK};
use super::{Cluster, MYSELF, MasterLink, NodeFlags, NodeIdx, Turn};
use crate::io::{LogLevel, Mono};
use crate::zoo::Mutation;

/// Fixed and random part of the original's delay before an election, and what each better replica adds.
const DELAY_MS: u64 = 500;
const JITTER_MS: u64 = 500;
const RANK_MS: u64 = 1000;
/// Fast timing: what each shard adds that failed too and comes before mine.
const SHARD_MS: u64 = 500;
/// Fast timing: until so long after the first time, votes are asked for again this often.
const ASK_AGAIN_MS: (u64, u64) = (500, 100);
/// "Cannot failover" is said again after so long, if the reason is the same.
const RELOG_MS: u64 = 300_000;
/// A master that failed just now is no reason to complain yet.
const QUIET_MS: u64 = 5000;

/// My candidacy.
#[derive(Debug, Default)]
pub(super) struct Election {
    /// When votes are asked for; of the last election if it is over. `None`: there was none.
    at: Option<Mono>,
    /// Votes were asked for under this epoch.
    asked: Option<u64>,
    /// When they were last asked for.
    asked_at: Option<Mono>,
    rank: u64,
    voters: BTreeSet<NodeIdx>,
    /// A majority's FAIL of my master came to me in this life.
    master_failed: bool,
    /// Fast timing: when this election was called, and siblings were asked for their offsets.
    called: Option<Mono>,
    next_step: Option<Mono>,
    complaint: Option<Complaint>,
    /// When a complaint was last logged.
    complained: Option<Mono>,
}

/// Why there is no failover yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Complaint {
    DataAge,
    WaitingDelay,
    Expired,
    WaitingVotes,
}

impl Complaint {
    const fn text(self) -> &'static str {
        match self {
            Self::DataAge => {
                "Disconnected from master for longer than allowed. Please check the \
                 'cluster-replica-validity-factor' configuration option."
            }
            Self::WaitingDelay => "Waiting the delay before I can start a new failover.",
            Self::Expired => "Failover attempt expired.",
            Self::WaitingVotes => "Waiting for votes, but majority still not reached.",
        }
    }
}

impl Election {
    /// That epoch, if it is the one under which votes were asked for.
    pub fn asked_in(&self, epoch: u64) -> Option<u64> {
        self.asked.filter(|asked| *asked == epoch)
    }

    #[cfg(test)]
    pub fn count_for_tests(&mut self, voter: NodeIdx) {
        self.voters.insert(voter);
    }

    #[cfg(test)]
    pub fn votes_for_tests(&self) -> usize {
        self.voters.len()
    }

    /// When votes are asked for, or were.
    #[cfg(test)]
    pub const fn scheduled(&self) -> Option<Mono> {
        self.at
    }

    /// When there is something to be done besides the cron; while it is `Some`, news of others matter too.
    pub const fn next_step(&self) -> Option<Mono> {
        self.next_step
    }

    /// The step is being taken.
    pub const fn step_is_due(&mut self) {
        self.next_step = None;
    }

    pub const fn master_failed(&mut self) {
        self.master_failed = true;
    }

    pub fn forget_voter(&mut self, idx: NodeIdx) {
        self.voters.remove(&idx);
    }
}

impl Cluster {
    /// The candidate's side: each cron, and whenever something it waits for has happened.
    pub(super) fn step_election(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let manual = self.manual.may_start();
        let timeout_ms = (self.settings.node_timeout_ms * 2).max(2000);
        // Those who voted for me in an election that nobody won may do so again after two node timeouts.
        let retry_ms = if self.is_fast() { timeout_ms + timeout_ms / 8 } else { timeout_ms * 2 };
        self.election.next_step = None;
        let Some(master) = self.my_master().filter(|_| self.i_am_replica()) else { return };
        let shard = self.nodes.get(master);
        // F-10: without slots to take there is nothing to be elected for.
        if shard.slots.is_empty() || (!shard.failed() && !manual) || (self.settings.no_failover && !manual) {
            self.election.complaint = None;
            self.election.master_failed &= shard.failed();
            return;
        }
        if !manual && self.data_too_old(turn) {
            self.complain(Complaint::DataAge, turn);
            return;
        }
        if turn.ms_since(self.election.at) > retry_ms || self.lost_to_another_shard() {
            self.schedule_election(manual, turn);
            if self.election.called.is_none() {
                return;
            }
        }
        let Some(at) = self.election.at else { return };
        if self.election.asked.is_none() && !manual {
            match self.election.called {
                Some(called) => self.follow_siblings(called, turn),
                None => self.follow_rank(turn),
            }
        }
        let at = self.election.at.unwrap_or(at);
        if now < at {
            self.election.next_step = self.election.called.and(Some(at));
            self.complain(Complaint::WaitingDelay, turn);
            return;
        }
        if now.ms_since(at) > timeout_ms {
            self.complain(Complaint::Expired, turn);
            return;
        }
        let Some(epoch) = self.election.asked else {
            self.ask_for_votes(manual, turn);
            return;
        };
        let by_half = self.settings.zoo.has(Mutation::ElectedByHalf);
        let needed = if by_half { self.state.size() / 2 } else { self.state.quorum() };
        if self.election.voters.len() < needed {
            self.ask_again(epoch, turn);
            self.complain(Complaint::WaitingVotes, turn);
            return;
        }
        let inert = self.settings.zoo.has(Mutation::LogTextDiffers);
        let won = if inert { "Failover election won." } else { "Failover election won: I'm the new master." };
        turn.log(LogLevel::Warning, won);
        let stays = self.settings.zoo.has(Mutation::EpochStaysAtPromotion);
        let me = self.nodes.me_mut();
        if me.config_epoch < epoch && !stays {
            me.config_epoch = epoch;
            turn.log(LogLevel::Warning, format!("configEpoch set to {epoch} after successful failover"));
        }
        self.take_over(turn);
    }

    fn data_too_old(&self, turn: &Turn<'_>) -> bool {
        let age = match turn.facts.master_link() {
            MasterLink::Up { last_io } => turn.now.mono.ms_since(last_io),
            MasterLink::Down { since } => turn.ms_since(since),
        };
        let timeout = self.settings.node_timeout_ms;
        // Until it was found to be down the master could not be blamed on the link.
        let age = if age > timeout { age - timeout } else { age };
        let limit = self.settings.repl_ping_period_s * 1000 + timeout * self.settings.validity_factor;
        let careless = self.settings.zoo.has(Mutation::PromotesStaleData);
        self.settings.validity_factor != 0 && age > limit && !careless
    }

    fn schedule_election(&mut self, manual: bool, turn: &mut Turn<'_>) {
        // A node that was deaf may hear an old FAIL: it takes the time to hear the rest, too.
        let hasty = self.settings.zoo.has(Mutation::NoRankNoDelay);
        let fast = self.is_fast() && self.election.master_failed && !self.was_deaf(turn) && !hasty;
        self.election.called = (fast && !manual).then_some(turn.now.mono);
        let (rank, delay) = if manual || hasty {
            (0, 0)
        } else if fast {
            (self.my_rank(turn), self.fast_start(turn.now.mono, turn).ms_since(turn.now.mono))
        } else {
            let rank = self.my_rank(turn);
            (rank, DELAY_MS + self.random.below(JITTER_MS) + rank * RANK_MS)
        };
        let longer = self.settings.zoo.has(Mutation::TimerOnePercentLonger);
        let delay = if longer { delay + delay / 100 + 1 } else { delay };
        self.election.at = Some(turn.now.mono.plus_ms(delay));
        self.election.asked = None;
        if !self.settings.zoo.has(Mutation::OldVotesCount) {
            self.election.voters.clear();
        }
        self.election.rank = rank;
        if manual {
            self.todo.failover = true;
        }
        turn.log(
            LogLevel::Warning,
            format!(
                "Start of election delayed for {delay} milliseconds (rank #{rank}, offset {}).",
                turn.facts.replication_offset()
            ),
        );
        // Siblings learn my offset, and rank themselves.
        if self.election.called.is_some() {
            for idx in self.siblings() {
                self.ping_out_of_turn(idx, turn);
            }
        } else {
            self.broadcast_pong(true, turn);
        }
    }

    /// The other replicas of my master.
    fn siblings(&self) -> Vec<NodeIdx> {
        let Some(master) = self.my_master() else { return Vec::new() };
        self.nodes.get(master).replicas.iter().copied().filter(|idx| *idx != MYSELF).collect()
    }

    /// When the fast election begins that was called then: at once, or when every sibling has said its offset
    /// (after the original's delay none is waited for any more), and in order of rank.
    fn fast_start(&self, called: Mono, turn: &Turn<'_>) -> Mono {
        let is_awaited = |idx: &NodeIdx| {
            let node = self.nodes.get(*idx);
            !node.suspected()
                && !node.flags.any(NodeFlags::NOFAILOVER)
                && node.data_received.is_none_or(|data| data <= called)
        };
        let patience = called.plus_ms(DELAY_MS);
        if turn.now.mono < patience && self.siblings().iter().any(is_awaited) {
            return patience;
        }
        called.plus_ms(self.my_rank(turn) * RANK_MS + self.shard_rank() * SHARD_MS)
    }

    /// F-08: shards that failed with mine and come before it, in the order of their masters' ids, so that
    /// their elections do not share an epoch. One that is over, or that nobody can win, does not count.
    fn shard_rank(&self) -> u64 {
        let Some(mine) = self.my_master() else { return 0 };
        let can_run = |idx: &NodeIdx| {
            let node = self.nodes.get(*idx);
            !node.suspected() && !node.flags.any(NodeFlags::NOFAILOVER)
        };
        let before_me = self.nodes.by_id().take_while(|idx| *idx != mine);
        let has_election = |idx: &NodeIdx| {
            let node = self.nodes.get(*idx);
            let open = node.is_master() && node.suspected() && !node.slots.is_empty();
            open && node.replicas.iter().any(can_run)
        };
        before_me.filter(has_election).count() as u64
    }

    /// Fast timing: what siblings and other shards have said since may put the start off, or bring it near.
    fn follow_siblings(&mut self, called: Mono, turn: &mut Turn<'_>) {
        let rank = self.my_rank(turn);
        if rank != self.election.rank {
            turn.log(LogLevel::Warning, format!("Replica rank updated to #{rank}."));
            self.election.rank = rank;
        }
        self.election.at = Some(self.fast_start(called, turn));
    }

    /// The epoch that I asked in was won by somebody else: this election can only fail. (A winner of my own
    /// shard is my master by now.)
    fn lost_to_another_shard(&self) -> bool {
        let Some(asked) = self.election.asked.filter(|_| self.election.called.is_some()) else {
            return false;
        };
        self.nodes.by_id().any(|idx| idx != MYSELF && self.nodes.get(idx).config_epoch == asked)
    }

    /// Fast timing: asks those again that have not voted. They may not have heard of the FAIL when I asked, or
    /// not have heard me. Asking twice in an epoch gets nobody a second vote.
    fn ask_again(&mut self, epoch: u64, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let (Some(_), Some(at)) = (self.election.called, self.election.at) else { return };
        let (until_ms, every_ms) = ASK_AGAIN_MS;
        let Some(asked_at) = self.election.asked_at.filter(|_| now.ms_since(at) < until_ms) else { return };
        // Under a newer epoch it would be another election.
        if now < asked_at.plus_ms(every_ms) {
            self.election.next_step = Some(asked_at.plus_ms(every_ms));
            return;
        }
        self.election.asked_at = Some(now);
        self.election.next_step = Some(now.plus_ms(every_ms));
        if self.current_epoch == epoch {
            for idx in self.nodes.snapshot() {
                let node = self.nodes.get(idx);
                if idx != MYSELF && node.is_master() && !self.election.voters.contains(&idx) {
                    self.send_to(idx, Body::AuthRequest, turn);
                }
            }
        }
    }

    /// Siblings with more data than I have; with fast timing those that have as much and come before me by
    /// id too, but none that has failed.
    fn my_rank(&self, turn: &Turn<'_>) -> u64 {
        let Some(master) = self.my_master() else { return 0 };
        let mine = turn.facts.replication_offset();
        let (fast, my_id) = (self.is_fast(), self.my_id());
        let better = |idx: &&NodeIdx| {
            let node = self.nodes.get(**idx);
            let ahead = node.repl_offset > mine || (fast && node.repl_offset == mine && node.id < my_id);
            let out = node.flags.any(NodeFlags::NOFAILOVER) || (fast && node.failed());
            **idx != MYSELF && !out && ahead
        };
        self.nodes.get(master).replicas.iter().filter(better).count() as u64
    }

    /// A sibling turned out to be better: wait longer.
    fn follow_rank(&mut self, turn: &mut Turn<'_>) {
        let rank = self.my_rank(turn);
        if rank <= self.election.rank || self.settings.zoo.has(Mutation::NoRankNoDelay) {
            return;
        }
        let added = (rank - self.election.rank) * RANK_MS;
        self.election.rank = rank;
        self.election.at = self.election.at.map(|at| at.plus_ms(added));
        turn.log(
            LogLevel::Warning,
            format!("Replica rank updated to #{rank}, added {added} milliseconds of delay."),
        );
    }

    fn ask_for_votes(&mut self, manual: bool, turn: &mut Turn<'_>) {
        self.current_epoch = self.current_epoch.saturating_add(1);
        let epoch = self.current_epoch;
        self.election.asked = Some(epoch);
        self.election.asked_at = Some(turn.now.mono);
        self.election.next_step = self.election.called.map(|_| turn.now.mono.plus_ms(ASK_AGAIN_MS.1));
        self.save.promise();
        self.todo.update_state = true;
        turn.log(LogLevel::Warning, format!("Starting a failover election for epoch {epoch}."));
        let mut header = self.header(turn);
        if manual {
            header.mflags[0] |= MFLAG_FORCEACK;
        }
        self.broadcast(&header, &Body::AuthRequest);
    }

    /// A voter says yes.
    pub(super) fn count_vote(&mut self, voter: NodeIdx, voter_epoch: u64) {
        let node = self.nodes.get(voter);
        // F-01: a vote counts for the election under way only, and each voter once. A voter grants under the
        // very epoch that it was asked in.
        let any_election = self.settings.zoo.has(Mutation::OldVotesCount);
        if node.is_master()
            && !node.slots.is_empty()
            && (self.election.asked == Some(voter_epoch) || any_election)
        {
            self.election.voters.insert(voter);
            self.todo.failover = true;
        }
    }

    /// The voter's side of FAILOVER_AUTH_REQUEST. A denial is silence.
    pub(super) fn consider_vote(&mut self, candidate: NodeIdx, header: &Header, turn: &mut Turn<'_>) {
        let me = self.nodes.me();
        if !me.is_master() || me.slots.is_empty() {
            return;
        }
        match self.vote(candidate, header, turn) {
            Ok(master) => {
                self.last_vote_epoch = self.current_epoch;
                self.nodes.get_mut(master).voted = Some(turn.now.mono);
                self.save.promise();
                turn.log(
                    LogLevel::Warning,
                    format!("Failover auth granted to {} for epoch {}", header.sender, self.current_epoch),
                );
                self.send_to(candidate, Body::AuthAck, turn);
            }
            Err(reason) => {
                let text = format!("Failover auth denied to {}: {reason}", header.sender);
                turn.log(LogLevel::Warning, text);
            }
        }
    }

    /// The rules, in Redis' order; the candidate's master if the vote is granted.
    fn vote(&self, candidate: NodeIdx, header: &Header, turn: &Turn<'_>) -> Result<NodeIdx, String> {
        let forced = header.mflags[0] & MFLAG_FORCEACK != 0;
        if header.current_epoch < self.current_epoch {
            return Err(format!("reqEpoch ({}) < curEpoch({})", header.current_epoch, self.current_epoch));
        }
        let generous = self.settings.zoo.has(Mutation::VotesTwice);
        if self.last_vote_epoch == self.current_epoch && !generous {
            return Err(format!("already voted for epoch {}", self.current_epoch));
        }
        let node = self.nodes.get(candidate);
        if node.is_master() {
            return Err("it is a master node".to_owned());
        }
        let Some(master) = node.master else { return Err("I don't know its master".to_owned()) };
        let hasty = self.settings.zoo.has(Mutation::VotesWhileMasterIsUp);
        if !self.nodes.get(master).failed() && !forced && !hasty {
            return Err("its master is up".to_owned());
        }
        let spacing = self.settings.node_timeout_ms * 2;
        let since = turn.ms_since(self.nodes.get(master).voted);
        if since < spacing && !generous {
            return Err(format!("can't vote about this master before {} milliseconds", spacing - since));
        }
        let newer = header.slots.iter().find_map(|slot| {
            let owner = self.slots.owner(slot).filter(|_| !self.slots.is_unclaimed(slot))?;
            let epoch = self.nodes.get(owner).config_epoch;
            (epoch > header.config_epoch).then_some((slot, epoch))
        });
        let careless = self.settings.zoo.has(Mutation::VotesForStaleClaims);
        match newer.filter(|_| !careless) {
            Some((slot, epoch)) => {
                Err(format!("slot {slot} epoch ({epoch}) > reqConfigEpoch ({})", header.config_epoch))
            }
            None => Ok(master),
        }
    }

    fn complain(&mut self, complaint: Complaint, turn: &mut Turn<'_>) {
        let failed_just_now = self.my_master().is_some_and(|master| {
            let master = self.nodes.get(master);
            master.failed() && turn.ms_since(master.fail_time) < self.settings.node_timeout_ms + QUIET_MS
        });
        let same = self.election.complaint.replace(complaint) == Some(complaint);
        if failed_just_now || (same && turn.ms_since(self.election.complained) < RELOG_MS) {
            return;
        }
        self.election.complained = Some(turn.now.mono);
        turn.log(LogLevel::Warning, format!("Currently unable to failover: {}", complaint.text()));
    }
}
