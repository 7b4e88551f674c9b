//! After healing: one view of the cluster on every node within the bound, and replicas that hold what their masters
//! hold at equal offset.

use std::collections::BTreeMap;

use crate::record::verdict::{Convergence, Finding, Validity};
use crate::record::{Action, Nanos, Phase, Record, Row, Seen, View};
use crate::slots::SLOTS;
use crate::timeline::{SECOND, Timeline};
use crate::voids::CONVERGENCE;

/// Judges the views of the converge phase and the comparisons of replicas.
pub fn check(record: &Record, timeline: &Timeline) -> Convergence {
    let bound = (record.info.converge_bound_s.max(0.0) * SECOND as f64) as Nanos;
    let mut entry = Convergence { bound_s: record.info.converge_bound_s, ..Convergence::default() };
    let Some(healed) = record.phase(Phase::Converge) else {
        entry.valid = Validity::Unknown;
        entry.reason = "the run ended before the cluster was healed".into();
        return entry;
    };
    let until = record.phase(Phase::FinalReads).or(record.phase(Phase::End)).unwrap_or(record.end);
    let views = one_view(record, healed, until);
    let banned = banned_until(record);
    let allowed = timeline.widen(healed, healed.max(banned).saturating_add(bound));
    match views {
        State::Whole { since } => {
            entry.took_s = Some((since - healed) as f64 / SECOND as f64);
            if since > allowed {
                entry.valid = Validity::Invalid;
                entry.reason = format!(
                    "the nodes agreed only {:.1} s after healing; the bound is {:.1} s",
                    (since - healed) as f64 / SECOND as f64,
                    entry.bound_s
                );
            }
        }
        State::Unasked { node } => {
            entry.valid = Validity::Unknown;
            entry.reason = format!("{node} was not asked after healing");
        }
        State::Split { why, nodes } => {
            let waited = until >= allowed;
            let void = timeline.voided.covers(CONVERGENCE, &record.nodes, until);
            entry.valid = if waited && !void { Validity::Invalid } else { Validity::Unknown };
            let after = (until - healed) as f64 / SECOND as f64;
            let ban = if !waited && banned > healed {
                " (a node that was told to forget another bans it for 60 s)"
            } else {
                ""
            };
            let outside =
                if void { " (outside the model: a fault took what a node knew of the cluster)" } else { "" };
            entry.reason = format!("{after:.1} s after healing, {why}{ban}{outside}");
            entry.findings.push(Finding {
                what: "no-convergence".into(),
                excused: void,
                text: why,
                from: healed,
                to: until,
                nodes,
                ..Finding::default()
            });
        }
    }
    replicas(record, &mut entry);
    entry
}

/// Until when gossip cannot bring back a node that others were told to forget (CLUSTER FORGET bans it for 60 s).
fn banned_until(record: &Record) -> Nanos {
    const BAN: Nanos = 60 * SECOND;
    let forgets = |action: &Action| {
        matches!(action, Action::Asked { command, answer, .. }
            if command.starts_with("CLUSTER FORGET ") && answer == "OK")
    };
    let told = record.faults.iter().filter(|fault| fault.step.actions.iter().any(forgets));
    told.map(|fault| fault.time + BAN).max().unwrap_or(0)
}

enum State {
    Whole {
        since: Nanos,
    },
    /// The harness has no poll of this node.
    Unasked {
        node: String,
    },
    Split {
        why: String,
        nodes: Vec<String>,
    },
}

/// Whether the nodes' latest answers agreed at the end, and since when without a break.
fn one_view(record: &Record, from: Nanos, to: Nanos) -> State {
    let mut latest: BTreeMap<&str, Option<&View>> =
        record.info.nodes.iter().map(|node| (node.name.as_str(), None)).collect();
    let first = record.views.partition_point(|view| view.time < from);
    let mut since = None;
    let mut state = Err((String::new(), Vec::new()));
    for view in record.views[first..].iter().take_while(|view| view.time <= to) {
        if view.sent < from {
            continue;
        }
        let Some(slot) = latest.get_mut(view.node.as_str()) else { continue };
        *slot = Some(view);
        state = agree(&latest);
        since = if state.is_ok() { since.or(Some(view.time)) } else { None };
    }
    if let Some((node, _)) = latest.iter().find(|(_, view)| view.is_none()) {
        return State::Unasked { node: (*node).to_owned() };
    }
    match (state, since) {
        (Ok(()), Some(since)) => State::Whole { since },
        (Err((why, nodes)), _) => State::Split { why, nodes },
        (Ok(()), None) => State::Split { why: "no node was asked".into(), nodes: vec![] },
    }
}

type Disagreement = (String, Vec<String>);

fn agree(latest: &BTreeMap<&str, Option<&View>>) -> Result<(), Disagreement> {
    let mut reference: Option<(&str, &Seen, Vec<Owner<'_>>)> = None;
    for (&name, view) in latest {
        let only = |why: String| Err((why, vec![name.to_owned()]));
        let Some(view) = view else { return only(format!("{name} was not asked yet")) };
        let Some(seen) = &view.seen else {
            let error = view.error.as_deref().unwrap_or("no answer");
            return only(format!("{name} does not answer ({error})"));
        };
        if let Some(why) = unwell(seen) {
            return only(format!("{name} {why}"));
        }
        if !latest.keys().all(|&other| seen.table.iter().any(|row| row.node == other)) {
            return only(format!("{name} does not know every node"));
        }
        let owners = owners(seen);
        match &reference {
            None => reference = Some((name, seen, owners)),
            Some((other, of_other, same)) => {
                let about = if *same == owners {
                    other_master(of_other, seen).map(|row| format!("whom {} replicates", row.node))
                } else {
                    Some("who owns the slots".to_owned())
                };
                if let Some(about) = about {
                    let nodes = vec![(*other).to_owned(), name.to_owned()];
                    return Err((format!("{other} and {name} do not agree {about}"), nodes));
                }
            }
        }
    }
    let covered: u32 = reference
        .iter()
        .flat_map(|(_, _, owners)| owners)
        .map(|owner| u32::from(owner.1) - u32::from(owner.0) + 1)
        .sum();
    if covered == u32::from(SLOTS) {
        Ok(())
    } else {
        Err((format!("{} slots have no owner", u32::from(SLOTS).saturating_sub(covered)), vec![]))
    }
}

/// First slot, last slot, owner and its epoch.
type Owner<'a> = (u16, u16, &'a str, u64);

fn owners(seen: &Seen) -> Vec<Owner<'_>> {
    let mut owners: Vec<Owner<'_>> = seen
        .table
        .iter()
        .flat_map(|row| row.slots.iter().map(|&(a, b)| (a, b.max(a), row.node.as_str(), row.epoch)))
        .collect();
    owners.sort_unstable();
    owners
}

/// A node that has another master in one table than in the other.
fn other_master<'a>(one: &'a Seen, other: &Seen) -> Option<&'a Row> {
    let differs = |row: &&Row| other.table.iter().any(|it| it.node == row.node && it.master != row.master);
    one.table.iter().find(differs)
}

/// What a node's own answer says against convergence.
fn unwell(seen: &Seen) -> Option<String> {
    if !seen.ok {
        return Some("says the cluster's state is fail".into());
    }
    if !seen.open_slots.is_empty() {
        return Some("has open slots".into());
    }
    let flagged = |row: &&Row| {
        row.flags.split(',').any(|flag| matches!(flag, "fail" | "fail?" | "handshake" | "noaddr"))
    };
    if let Some(row) = seen.table.iter().find(flagged) {
        return Some(format!("holds {} for {}", row.node, row.flags));
    }
    if seen.master {
        return seen.slots.is_empty().then(|| "is a master without slots".into());
    }
    if !seen.link_up {
        return Some("has no link to its master".into());
    }
    let master = seen.table.iter().find(|row| Some(&row.node) == seen.master_name.as_ref());
    match master {
        Some(row) if !row.slots.is_empty() => None,
        Some(row) => Some(format!("replicates {}, which owns no slots", row.node)),
        None => Some("replicates a node that it does not know".into()),
    }
}

/// What the comparison of replicas said.
fn replicas(record: &Record, entry: &mut Convergence) {
    let mut unknown: Vec<String> = Vec::new();
    for event in &record.compares {
        let compare = &event.compare;
        let nodes = vec![compare.master.clone(), compare.replica.clone()];
        let equal_offsets = compare.master_offset == compare.replica_offset;
        let (what, text) = if compare.differing > 0 && equal_offsets && compare.error.is_none() {
            entry.replica_differences += 1;
            let examples = compare.examples.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            let text = format!(
                "{} differs from {} in {} of {} keys at equal offset {} ({examples})",
                compare.replica, compare.master, compare.differing, compare.keys, compare.master_offset
            );
            ("replica-differs", text)
        } else if let Some(error) = &compare.error {
            ("replica-unread", format!("{} could not be compared: {error}", compare.replica))
        } else if !equal_offsets {
            let text = format!(
                "{} stood at offset {}, its master {} at {}",
                compare.replica, compare.replica_offset, compare.master, compare.master_offset
            );
            ("replica-behind", text)
        } else {
            continue;
        };
        if what != "replica-differs" {
            unknown.push(text.clone());
        }
        entry.findings.push(Finding {
            what: what.into(),
            text,
            from: event.time,
            to: event.time,
            nodes,
            witness: vec![event.index],
            ..Finding::default()
        });
    }
    if record.info.replicas > 0 && record.compares.is_empty() {
        unknown.push("no replica was compared with its master".into());
    }
    if entry.replica_differences > 0 {
        entry.valid = Validity::Invalid;
        if entry.reason.is_empty() {
            entry.reason =
                format!("{} replicas differ from their masters at equal offset", entry.replica_differences);
        }
    } else if let Some(first) = unknown.into_iter().next()
        && entry.valid == Validity::Valid
    {
        entry.valid = Validity::Unknown;
        entry.reason = first;
    }
}
