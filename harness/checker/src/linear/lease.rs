//! Leases with fencing tokens: every grant has a larger token than the grant before, and what the leases protect accepts no
//! smaller token than it has seen.
//!
//! Both are rank checks. That two leases also overlap in time can only be said with a bound on the clocks' error: a
//! hold is certain from the grant's return to its call plus the time to live, less that error.

use super::findings::{Findings, in_time, witness};
use super::op::{NEVER, Op, Status, numbered};
use super::rank::{Ranked, sweep};
use super::values::ValueIndex;
use crate::answer::Answer;

/// An operation on a lease, or on what it protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lease {
    /// Granted with this token, for this long unless released.
    Grant { token: u64, ttl_nanos: u64 },
    /// Given back.
    Release { token: u64 },
    /// The protected resource did this for the holder of the token.
    Accepted { token: u64 },
    /// The protected resource refused it for an outdated token.
    Rejected { token: u64 },
}

/// How wrong the clocks of servers can be.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockError {
    /// Nanoseconds lost or gained in a second.
    pub drift_nanos_per_second: u64,
    /// A jump that may have happened within one lease.
    pub jump_nanos: u64,
}

impl ClockError {
    /// By how much a time to live may be shorter or longer than it says.
    pub(super) fn of(self, ttl_nanos: u64) -> u64 {
        let drift = u128::from(ttl_nanos) * u128::from(self.drift_nanos_per_second) / 1_000_000_000;
        u64::try_from(drift).unwrap_or(NEVER).saturating_add(self.jump_nanos)
    }
}

/// Are grants ordered by their tokens, are accepted tokens, and does no certain hold overlap another?
pub fn lease(ops: &[Op<Lease>], clock: ClockError) -> Answer {
    let mut check = Check { ops, findings: Findings::default() };
    let tokens = check.tokens();
    check.grants(&tokens);
    check.writes(&tokens);
    check.holds(clock);
    check.findings.answer()
}

struct Check<'a> {
    ops: &'a [Op<Lease>],
    findings: Findings,
}

impl Check<'_> {
    /// All tokens, ascending: a token's place is its rank.
    fn tokens(&self) -> Vec<u64> {
        let mut tokens: Vec<u64> = self.done().map(|(_, op)| token(op.kind)).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    fn done(&self) -> impl Iterator<Item = (u32, &Op<Lease>)> {
        numbered(self.ops).filter(|(_, op)| op.status == Status::Done)
    }

    fn grants(&mut self, tokens: &[u64]) {
        let ops = self.ops;
        let mut ranked: Vec<Ranked> = self
            .done()
            .filter(|(_, op)| matches!(op.kind, Lease::Grant { .. }))
            .map(|(id, op)| Ranked::new(rank(tokens, op.kind), id))
            .collect();
        let findings = &mut self.findings;
        sweep(&mut ranked, ops, |early, late| {
            findings.add("token-order", || {
                let (larger, smaller) = (tokens[early.rank() as usize], tokens[late.rank() as usize]);
                let sentence = format!("token {smaller} was granted after token {larger} had been");
                let mut witness = witness(ops, "token-order", &[early.id(), late.id()], sentence);
                witness.links.push(in_time(early.id(), late.id()));
                witness
            });
        });
        for pair in ranked.windows(2).filter(|pair| pair[0].rank() == pair[1].rank()) {
            findings.add("duplicate-token", || {
                let sentence = format!("token {} was granted twice", tokens[pair[0].rank() as usize]);
                witness(ops, "duplicate-token", &[pair[0].id(), pair[1].id()], sentence)
            });
        }
    }

    /// Accepted tokens never go back; a refusal needs a larger token accepted before it.
    fn writes(&mut self, tokens: &[u64]) {
        let ops = self.ops;
        let mut ranked: Vec<Ranked> = self
            .done()
            .filter(|(_, op)| matches!(op.kind, Lease::Accepted { .. }))
            .map(|(id, op)| Ranked::new(rank(tokens, op.kind), id))
            .collect();
        let findings = &mut self.findings;
        sweep(&mut ranked, ops, |early, late| {
            findings.add("fencing", || {
                let (larger, smaller) = (tokens[early.rank() as usize], tokens[late.rank() as usize]);
                let sentence =
                    format!("a write with token {smaller} was accepted after one with token {larger}");
                let mut witness = witness(ops, "fencing", &[early.id(), late.id()], sentence);
                witness.links.push(in_time(early.id(), late.id()));
                witness
            });
        });
        self.before_their_grant();
        self.refusals(tokens, &ranked);
    }

    /// No token is used before it was granted.
    fn before_their_grant(&mut self) {
        let ops = self.ops;
        let granted = || self.done().filter(|(_, op)| matches!(op.kind, Lease::Grant { .. }));
        let mut index = ValueIndex::over(granted().map(|(_, op)| token(op.kind)));
        for (id, op) in granted() {
            index.insert(token(op.kind), id);
        }
        for (id, op) in numbered(ops).filter(|(_, op)| op.status == Status::Done) {
            // A grant of unknown outcome says no token, so a token without a known grant proves nothing.
            let Some(grant) = index.get(token(op.kind)) else { continue };
            if op.precedes(&ops[grant as usize]) && !matches!(op.kind, Lease::Grant { .. }) {
                self.findings.add("future-read", || {
                    let sentence = format!("token {} was used before it was granted", token(op.kind));
                    let mut witness = witness(ops, "future-read", &[id, grant], sentence);
                    witness.links.push(in_time(id, grant));
                    witness
                });
            }
        }
    }

    /// A write of unknown outcome may be what a refusal saw.
    fn refusals(&mut self, tokens: &[u64], accepted: &[Ranked]) {
        let ops = self.ops;
        // The latest call among the accepted writes before each place.
        let mut reached = vec![0];
        for item in accepted {
            reached.push(reached[reached.len() - 1].max(ops[item.id() as usize].call));
        }
        // When the first accepted write of this token or a larger one can have happened: behind all smaller ones.
        let call = |item: &Ranked| ops[item.id() as usize].call;
        let earliest = |from: usize| {
            let smaller = reached[from];
            let same = accepted[from..].iter().take_while(|item| item.rank() == accepted[from].rank());
            same.map(call).min().map_or(smaller, |call| call.max(smaller))
        };
        let unknown: Vec<&Op<Lease>> = ops
            .iter()
            .filter(|op| op.status == Status::Unknown && matches!(op.kind, Lease::Accepted { .. }))
            .collect();
        for (id, op) in numbered(ops).filter(|(_, op)| op.status == Status::Done) {
            let Lease::Rejected { token } = op.kind else { continue };
            let larger = accepted.partition_point(|item| tokens[item.rank() as usize] <= token);
            let explained = (larger < accepted.len() && earliest(larger) <= op.ret)
                || unknown.iter().any(|write| {
                    let Lease::Accepted { token: other } = write.kind else { return false };
                    let below = accepted.partition_point(|item| tokens[item.rank() as usize] < other);
                    other > token && reached[below].max(write.call) <= op.ret
                });
            if !explained {
                self.findings.add("refused-without-cause", || {
                    let sentence =
                        format!("token {token} was refused, but no larger one can have been accepted before");
                    witness(ops, "refused-without-cause", &[id], sentence)
                });
            }
        }
    }

    /// Two holders that both were certain of their lease at one moment.
    fn holds(&mut self, clock: ClockError) {
        let ops = self.ops;
        let releases: Vec<(u64, u64)> = {
            let released =
                ops.iter().filter(|op| op.status != Status::Failed).filter_map(|op| match op.kind {
                    Lease::Release { token } => Some((token, op.call)),
                    _ => None,
                });
            let mut released: Vec<(u64, u64)> = released.collect();
            released.sort_unstable();
            released
        };
        let mut holds: Vec<(u64, u64, u32)> = Vec::new();
        for (id, op) in self.done() {
            let Lease::Grant { token, ttl_nanos } = op.kind else { continue };
            let mut end = op.call.saturating_add(ttl_nanos.saturating_sub(clock.of(ttl_nanos)));
            if let Some(&(released, call)) =
                releases.get(releases.partition_point(|&(other, _)| other < token))
                && released == token
            {
                end = end.min(call);
            }
            if op.ret < end {
                holds.push((op.ret, end, id));
            }
        }
        holds.sort_unstable();
        let mut reach: Option<(u64, u32)> = None;
        for (start, end, id) in holds {
            if let Some((until, other)) = reach.filter(|&(until, _)| start < until) {
                self.findings.add("mutual-exclusion", || {
                    let sentence = format!(
                        "two leases were certainly held at one time, for {} ns",
                        until.min(end) - start
                    );
                    witness(ops, "mutual-exclusion", &[other, id], sentence)
                });
            }
            if reach.is_none_or(|(until, _)| until < end) {
                reach = Some((end, id));
            }
        }
    }
}

fn token(kind: Lease) -> u64 {
    match kind {
        Lease::Grant { token, .. }
        | Lease::Release { token }
        | Lease::Accepted { token }
        | Lease::Rejected { token } => token,
    }
}

fn rank(tokens: &[u64], kind: Lease) -> u32 {
    tokens.partition_point(|&other| other < token(kind)) as u32
}
