//! Zones (Gibbons and Korach, Testing Shared Memories, SIAM J. Comput. 26(4), 1997), over chains of glued clusters.
//!
//! A block is a chain with nothing between its clusters. With f the first return and s the last call in it, a block must
//! come before another iff f < the other's s. Any cycle of that relation contains one of length two, so
//! there is an order iff no two blocks must each come before the other: blocks with f < s ("forward") do not overlap, and none of the
//! others lies inside a forward one. Inside a block the rank check decides.

use super::chains::{Chains, Cluster, Span};
use super::{Register, show};
use crate::answer::{Relation, Witness};
use crate::linear::findings::{Findings, by_value, in_time};
use crate::linear::op::{NIL, Op, Status};
use crate::linear::rank::sort_nearly_sorted;
use crate::linear::values::NONE;

/// A block: its extremes and the cluster that it begins with.
#[derive(Clone, Copy)]
pub(super) struct Zone {
    span: Span,
    root: u32,
}

impl Zone {
    fn is_forward(&self) -> bool {
        self.span.first_ret < self.span.last_call
    }

    /// Where the block stands in an order that all zones allow.
    fn place(&self) -> (u64, bool) {
        (self.span.first_ret.min(self.span.last_call), self.is_forward())
    }
}

/// The forward zones and the others.
pub(super) type Zones = (Vec<Zone>, Vec<Zone>);

/// Judges every block and every pair of them.
pub(super) fn check(ops: &[Op<Register>], chains: &Chains<'_>, findings: &mut Findings) -> Zones {
    let (mut forward, mut backward) = blocks(ops, chains, findings);
    sort_nearly_sorted(&mut forward, |zone| (zone.span.first_ret, zone.root));
    sort_nearly_sorted(&mut backward, |zone| (zone.span.last_call, zone.root));
    let mut explain = Explain { ops, chains, findings };
    let mut reach: Option<Zone> = None;
    let mut opened = forward.iter().peekable();
    for zone in &backward {
        while let Some(next) = opened.next_if(|next| next.span.first_ret < zone.span.last_call) {
            explain.open(&mut reach, *next);
        }
        if let Some(outer) = reach
            && zone.span.first_ret < outer.span.last_call
        {
            explain.conflict(&outer, zone);
        }
    }
    for next in opened {
        explain.open(&mut reach, *next);
    }
    (forward, backward)
}

/// For each operation its place in an order that the zones allow: the search tries that order first.
pub(super) fn schedule(count: usize, chains: &Chains<'_>, (mut zones, backward): Zones) -> Vec<u64> {
    zones.extend(backward);
    zones.sort_unstable_by_key(|zone| (zone.place(), zone.root));
    let mut places = vec![u64::MAX; count];
    let mut next = 0;
    for zone in zones {
        for cluster in chain(chains, zone.root) {
            if cluster.writer != NONE {
                places[cluster.writer as usize] = next;
                next += 1;
            }
        }
    }
    places
}

/// The clusters from this one to the end of its chain.
fn chain<'a>(chains: &'a Chains<'_>, root: u32) -> impl Iterator<Item = &'a Cluster> {
    let mut at = root;
    std::iter::from_fn(move || {
        let cluster = chains.clusters.get(at as usize)?;
        at = cluster.behind;
        Some(cluster)
    })
}

/// One zone a block; orders inside blocks are judged on the way.
fn blocks(ops: &[Op<Register>], chains: &Chains<'_>, findings: &mut Findings) -> Zones {
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    let mut visited = 0;
    let mut counted = 0;
    for root in 0..chains.clusters.len() {
        let counts = chains.counts(root);
        counted += usize::from(counts);
        if chains.clusters[root].before != NONE || !counts {
            continue;
        }
        let mut span = Span::EMPTY;
        for cluster in chain(chains, root as u32) {
            visited += 1;
            let writer = match cluster.writer {
                NONE => Span { first_ret: 0, ..Span::EMPTY },
                id => Span::of(id, &ops[id as usize]),
            };
            for group in [writer, cluster.reads] {
                if group.first_ret < span.last_call {
                    explain_inside(ops, chains, &group, &span, findings);
                }
                span.join(group);
            }
        }
        let zone = Zone { span, root: root as u32 };
        if zone.is_forward() { forward.push(zone) } else { backward.push(zone) }
    }
    if visited < counted {
        circles(chains, findings);
    }
    (forward, backward)
}

/// `early` returned before `late` was called, though it stands behind it in the same block.
fn explain_inside(
    ops: &[Op<Register>],
    chains: &Chains<'_>,
    early: &Span,
    late: &Span,
    findings: &mut Findings,
) {
    let (early, late) = (early.first, late.last);
    let seen = |id: u32| value_seen(ops[id as usize].kind);
    let class = if ops[late as usize].kind.wrote().is_some() { "future-read" } else { "stale-read" };
    findings.add(class, || {
        let sentence = match class {
            "future-read" => format!(
                "{} was seen before the write that it depends on was called",
                show(seen(early).unwrap_or(NIL))
            ),
            _ => format!("{} was read after it had been replaced", show(seen(late).unwrap_or(NIL))),
        };
        let mut witness = chains.witness(class, &[early, late], sentence);
        witness.links.push(in_time(early, late));
        witness
    });
}

/// Chains without a beginning: each compare-and-set needs another's result.
fn circles(chains: &Chains<'_>, findings: &mut Findings) {
    let mut visited = vec![false; chains.clusters.len()];
    for root in 0..chains.clusters.len() {
        if chains.clusters[root].before == NONE {
            mark(chains, root as u32, &mut visited);
        }
    }
    for start in 0..chains.clusters.len() {
        if visited[start] || !chains.counts(start) {
            continue;
        }
        let members = mark(chains, start as u32, &mut visited);
        findings.add("cas-circle", || {
            let sentence =
                "each of these operations replaced what another of them wrote, in a circle".to_owned();
            let mut witness = chains.witness("cas-circle", &members, sentence);
            for (at, &member) in members.iter().enumerate() {
                let behind = members[(at + 1) % members.len()];
                witness.links.push(by_value(
                    member,
                    behind,
                    Relation::WriteWrite,
                    "it replaced what the other wrote",
                ));
            }
            witness
        });
    }
}

fn mark(chains: &Chains<'_>, start: u32, visited: &mut [bool]) -> Vec<u32> {
    let mut members = Vec::new();
    let mut at = start;
    while at != NONE && !std::mem::replace(&mut visited[at as usize], true) {
        members.push(chains.clusters[at as usize].writer);
        at = chains.clusters[at as usize].behind;
    }
    members
}

fn value_seen(kind: Register) -> Option<u64> {
    match kind {
        Register::Read(value)
        | Register::CasLost { seen: value, .. }
        | Register::Cas { from: value, .. }
        | Register::Swap { seen: value, .. } => Some(value),
        Register::Write(value) => Some(value),
        Register::Delete => None,
    }
}

struct Explain<'a> {
    ops: &'a [Op<Register>],
    chains: &'a Chains<'a>,
    findings: &'a mut Findings,
}

impl Explain<'_> {
    /// The next forward zone: it must not begin before the furthest of those before it ends.
    fn open(&mut self, reach: &mut Option<Zone>, next: Zone) {
        if let Some(outer) = *reach
            && next.span.first_ret < outer.span.last_call
        {
            self.conflict(&outer, &next);
        }
        if reach.is_none_or(|outer| outer.span.last_call < next.span.last_call) {
            *reach = Some(next);
        }
    }

    /// Each of the two must come before the other. `outer` is the one that goes on after `inner` was there.
    fn conflict(&mut self, outer: &Zone, inner: &Zone) {
        let class = self.class(outer, inner);
        let (ops, chains) = (self.ops, self.chains);
        self.findings.add(class, || explain_pair(ops, chains, class, outer, inner));
    }

    fn class(&self, outer: &Zone, inner: &Zone) -> &'static str {
        let mut reads = Span::EMPTY;
        let mut acknowledged = false;
        for cluster in chain(self.chains, inner.root) {
            if cluster.reads.first != NONE {
                reads.join(cluster.reads);
            }
            let writer = self.ops.get(cluster.writer as usize);
            acknowledged |= writer.is_some_and(|op| op.status == Status::Done);
        }
        if reads.first == NONE && acknowledged {
            "lost-write"
        } else if reads.first != NONE && reads.first_ret < outer.span.last_call {
            "resurrected-value"
        } else {
            "stale-read"
        }
    }
}

fn explain_pair(
    ops: &[Op<Register>],
    chains: &Chains<'_>,
    class: &'static str,
    outer: &Zone,
    inner: &Zone,
) -> Witness {
    let mut ids = Vec::new();
    let mut links = Vec::new();
    for zone in [outer, inner] {
        ids.extend([zone.span.first, zone.span.last].into_iter().filter(|&id| id != NONE));
        let writers = writers_between(chains, zone, ops);
        for pair in writers.windows(2) {
            links.push(by_value(pair[0], pair[1], Relation::WriteWrite, "it replaced what the other wrote"));
        }
        ids.extend(writers);
    }
    for (early, late) in [(outer, inner), (inner, outer)] {
        if early.span.first != NONE && late.span.last != NONE {
            links.push(in_time(early.span.first, late.span.last));
        }
    }
    let value = |id: u32| ops.get(id as usize).and_then(|op| value_seen(op.kind)).unwrap_or(NIL);
    let (old, new) = (show(value(outer.span.last)), show(value(inner.span.first)));
    let sentence = match class {
        "lost-write" => format!("{new} was acknowledged and never seen: {old} was still seen afterwards"),
        "resurrected-value" => format!("{old} was seen again after {new} had replaced it and had been seen"),
        _ => format!("{old} was seen after {new} had been acknowledged"),
    };
    let mut witness = chains.witness(class, &ids, sentence);
    witness.links = links;
    witness
}

/// The writes of the chain from the cluster of the one extreme to that of the other.
fn writers_between(chains: &Chains<'_>, zone: &Zone, ops: &[Op<Register>]) -> Vec<u32> {
    let holds = |cluster: &Cluster, id: u32| {
        let Some(op) = ops.get(id as usize) else { return cluster.writer == NONE };
        if cluster.writer == id || (cluster.writer == NONE && value_seen(op.kind) == Some(NIL)) {
            return true;
        }
        let wrote = ops.get(cluster.writer as usize).and_then(|writer| writer.kind.wrote());
        op.kind.wrote().is_none() && value_seen(op.kind) == wrote && wrote.is_some()
    };
    let clusters: Vec<&Cluster> = chain(chains, zone.root).collect();
    let at = |id: u32| clusters.iter().position(|cluster| holds(cluster, id)).unwrap_or(0);
    let (a, b) = (at(zone.span.first), at(zone.span.last));
    let between = &clusters[a.min(b)..=a.max(b)];
    between.iter().map(|cluster| cluster.writer).filter(|&id| id != NONE).collect()
}
