//! Who believed itself master of what, and when that changed, from each node's own answers.

use super::faults::Faults;
use crate::record::{Nanos, NodeId, Phase, Record, Seen, View};
use crate::slots;

/// A time in which a node held the same slots with the same epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub node: NodeId,
    /// Not before this: the last answer that said otherwise was asked for then (0: none did).
    pub earliest: Nanos,
    /// The first answer that said so.
    pub seen: Nanos,
    /// The last answer that said so was asked for then.
    pub last_seen: Nanos,
    /// The first answer that said otherwise.
    pub until: Option<Nanos>,
    pub epoch: u64,
    pub slots: Vec<(u16, u16)>,
    /// The promotion that began this node's mastership, as an index into the takeovers.
    pub takeover: Option<usize>,
}

/// A replica became master of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    pub node: NodeId,
    /// Whose replica it said it was.
    pub from: Option<NodeId>,
    /// Not before this: it was asked then, and still said it was a replica.
    pub earliest: Nanos,
    /// The first answer as a master.
    pub time: Nanos,
    pub epoch: u64,
    pub slots: Vec<(u16, u16)>,
    /// Its offset at promotion in the history `replid`; absent if it did not say.
    pub offset: Option<u64>,
    /// The history it had as a replica (`master_replid2`).
    pub replid: String,
    /// The history it began (`master_replid`).
    pub new_replid: String,
}

/// What a node was, for lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Master {
        epoch: u64,
        slots: Vec<(u16, u16)>,
        /// Its own `cluster_state`.
        ok: bool,
    },
    Replica {
        of: Option<String>,
    },
    Paused,
    Down,
    /// It was asked and did not answer.
    Silent,
}

/// A stretch of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSpan {
    pub from: Nanos,
    pub to: Nanos,
    pub role: Role,
}

/// The answers of one node, in order, as indexes into the record's views.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Answered polls.
    pub answered: Vec<usize>,
    /// Unanswered ones.
    pub silent: Vec<usize>,
}

/// Sorts the views by node.
pub(super) fn answers_of(record: &Record) -> Vec<Answers> {
    let mut answers = vec![Answers::default(); record.nodes.len()];
    for (index, view) in record.views.iter().enumerate() {
        let Some(node) = record.node_id(&view.node) else { continue };
        let of = &mut answers[usize::from(node.0)];
        if view.seen.is_some() { of.answered.push(index) } else { of.silent.push(index) }
    }
    answers
}

/// The terms of all nodes and the promotions that began them, both in the order of time.
pub(super) fn terms_of(record: &Record, answers: &[Answers], faults: &Faults) -> (Vec<Term>, Vec<Promotion>) {
    let begin = record.phase(Phase::Load).or(record.phase(Phase::Storm)).unwrap_or(0);
    let mut terms: Vec<Term> = Vec::new();
    let mut promotions: Vec<Promotion> = Vec::new();
    for (number, of) in answers.iter().enumerate() {
        let node = NodeId(number as u16);
        let mut open: Option<Term> = None;
        let mut before: Option<(&View, &Seen)> = None;
        for (view, seen) in of.answered.iter().filter_map(|&i| answered(&record.views[i])) {
            let holds = seen.master && !seen.slots.is_empty();
            let same =
                open.as_mut().filter(|term| holds && term.epoch == seen.epoch && term.slots == seen.slots);
            if let Some(term) = same {
                term.last_seen = view.sent;
            } else {
                let ended = open.take().map(|mut term| {
                    term.until = Some(view.time);
                    terms.push(term.clone());
                    term
                });
                if holds {
                    let was_replica = before.filter(|(_, seen)| !seen.master);
                    let takeover = match was_replica {
                        Some((last, replica)) if view.time >= begin => {
                            promotions.push(promotion(record, node, (last, replica), (view, seen)));
                            Some(promotions.len() - 1)
                        }
                        Some(_) => None,
                        None => ended.and_then(|term| term.takeover),
                    };
                    // What a process says that was started since the last answer did not begin before.
                    let restarts = &faults.process(node).restarts;
                    let started = restarts.iter().rfind(|it| it.at <= view.sent).map_or(0, |it| it.at);
                    open = Some(Term {
                        node,
                        earliest: before.map_or(0, |(last, _)| last.sent).max(started),
                        seen: view.time,
                        last_seen: view.sent,
                        until: None,
                        epoch: seen.epoch,
                        slots: seen.slots.clone(),
                        takeover,
                    });
                }
            }
            before = Some((view, seen));
        }
        terms.extend(open);
    }
    sort_by_time(&mut terms, &mut promotions);
    (terms, promotions)
}

fn sort_by_time(terms: &mut [Term], promotions: &mut Vec<Promotion>) {
    let mut order: Vec<usize> = (0..promotions.len()).collect();
    order.sort_by_key(|&i| (promotions[i].time, promotions[i].epoch));
    let mut place = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old] = new;
    }
    for term in terms.iter_mut() {
        term.takeover = term.takeover.map(|old| place[old]);
    }
    *promotions = order.iter().map(|&i| promotions[i].clone()).collect();
    terms.sort_by_key(|term| (term.seen, term.node));
}

fn answered(view: &View) -> Option<(&View, &Seen)> {
    view.seen.as_ref().map(|seen| (view, seen))
}

fn promotion(
    record: &Record,
    node: NodeId,
    (last, replica): (&View, &Seen),
    (view, master): (&View, &Seen),
) -> Promotion {
    // A promotion shifts the history: without a new one, `second_repl_offset` speaks of something older.
    let shifted = master.replid != replica.replid && !master.replid2.bytes().all(|byte| byte == b'0');
    let offset = u64::try_from(master.second_offset).ok().and_then(|next| next.checked_sub(1));
    Promotion {
        node,
        from: replica.master_name.as_deref().and_then(|name| record.node_id(name)),
        earliest: last.sent,
        time: view.time,
        epoch: master.epoch,
        slots: master.slots.clone(),
        offset: offset.filter(|_| shifted),
        replid: if shifted { master.replid2.clone() } else { String::new() },
        new_replid: master.replid.clone(),
    }
}

/// One lane a node: its own word, overlaid by what is known of its process.
pub(super) fn lanes_of(record: &Record, answers: &[Answers], faults: &Faults) -> Vec<Vec<RoleSpan>> {
    answers
        .iter()
        .enumerate()
        .map(|(number, of)| {
            let mut polls: Vec<usize> = of.answered.iter().chain(&of.silent).copied().collect();
            polls.sort_unstable();
            let mut lane: Vec<RoleSpan> = Vec::new();
            for index in polls {
                let view = &record.views[index];
                extend(&mut lane, view.time, role(view));
            }
            if let Some(last) = lane.last_mut() {
                last.to = record.end;
            }
            let process = &faults.processes[number];
            for (spans, role) in [(&process.paused, Role::Paused), (&process.down, Role::Down)] {
                for span in spans {
                    lane = overlay(lane, span.from, span.to.min(record.end), &role);
                }
            }
            lane
        })
        .collect()
}

fn role(view: &View) -> Role {
    match &view.seen {
        None => Role::Silent,
        Some(seen) if seen.master => {
            Role::Master { epoch: seen.epoch, slots: seen.slots.clone(), ok: seen.ok }
        }
        Some(seen) => Role::Replica { of: seen.master_name.clone() },
    }
}

fn extend(lane: &mut Vec<RoleSpan>, at: Nanos, role: Role) {
    if let Some(last) = lane.last_mut() {
        last.to = at;
        if last.role == role {
            return;
        }
    }
    lane.push(RoleSpan { from: at, to: at, role });
}

fn overlay(lane: Vec<RoleSpan>, from: Nanos, to: Nanos, role: &Role) -> Vec<RoleSpan> {
    let mut result = Vec::with_capacity(lane.len() + 2);
    for span in lane {
        if span.to <= from || span.from >= to {
            result.push(span);
            continue;
        }
        if span.from < from {
            result.push(RoleSpan { to: from, ..span.clone() });
        }
        if span.to > to {
            result.push(RoleSpan { from: to, ..span });
        }
    }
    result.push(RoleSpan { from, to, role: role.clone() });
    result.sort_by_key(|span| span.from);
    result
}

impl Term {
    /// True if it held this slot.
    pub fn holds_slot(&self, slot: u16) -> bool {
        slots::contains(&self.slots, slot)
    }
}
