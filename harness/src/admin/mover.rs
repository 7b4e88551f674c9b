//! Moving slots with the cluster alive. For each group of slots: the target is marked, then the source; the keys are
//! carried; both ends are looked at once more; then the target is told that it owns the slots, one of its replicas is
//! seen to know it, and only then the source and the other masters are told. So at no step can the death of one node
//! leave a slot with an owner that nobody can replace, nor a key on no side.
//!
//! Slots go in groups so that a group costs the round trips, and the servers the saved configurations, of one slot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use slotstorm_checker::record::Nanos;

use super::fleet::{Fleet, expect_text};
use super::health::count_keys;
use super::membership::cluster_ok;
use super::migrate::{CarryError, CarryOptions, Pace, Road, carry};
use super::note::{Gauge, Note, Teller};
use super::parse::{self, NodeLine};
use super::resp::{AskError, Reply};
use super::{Reach, ms, slots};

/// Slots of a group, at most.
const GROUP_SLOTS: usize = 64;
/// Keys of a group, unless it is one slot: while a slot is open, commands of several keys may be told to try again.
const GROUP_KEYS: u64 = 2000;
/// Both ends should hold the cluster ok within this time.
const CLUSTER_OK_MS: u64 = 10_000;
/// A replica of the target should hear of its master's new slots within this time.
const REPLICA_HEARS_MS: u64 = 500;

/// One slot's way, by places in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotMove {
    pub slot: u16,
    pub road: Road,
}

/// What a mover is told.
pub struct Orders<'a> {
    pub carry: CarryOptions,
    /// The slots had no marks before: if a group fails, those of which no key was carried lose their marks again.
    pub fresh: bool,
    pub tell: Teller<'a>,
    /// Asked before each group: true ends the work there.
    pub halt: &'a dyn Fn() -> bool,
    /// A bug of the zoo: the source and the others are told of the new owner before the owner itself.
    pub source_first: bool,
}

/// How far a slot came that is neither where it was nor where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// One side or both may have the mark; no key was carried.
    Marked,
    /// Both sides have the mark; keys may be on both sides.
    Carrying,
    /// Every key is on the target; the source still owns it.
    Carried,
    /// The target was asked to own it and did not answer: it may.
    MayOwn,
    /// The target owns it; the source was not told by us. Gossip tells it while the two can talk.
    Owned,
}

impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Marked => "marked importing or migrating, no key moved",
            Self::Carrying => "migrating, its keys may be on both nodes",
            Self::Carried => "migrating, all its keys are on the new node",
            Self::MayOwn => "all its keys are on the new node, which may own it already",
            Self::Owned => "owned by the new node, the old one was not told",
        })
    }
}

/// A slot that was left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOpen {
    pub slot: u16,
    pub from: String,
    pub to: String,
    pub stage: Stage,
}

/// Why a move ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Carry(#[from] CarryError),
    #[error("{label} changed while its slots moved: {why}")]
    Changed { label: String, why: String },
    #[error("it was asked to stop")]
    Halted,
    #[error("the time is up")]
    TimeUp,
}

/// What was done, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MoveReport {
    /// Slots that the target owns now.
    pub moved: Vec<SlotMove>,
    /// Keys carried.
    pub keys: u64,
    /// Slots that were begun and are not done.
    pub open: Vec<LeftOpen>,
    /// Slots that are as they were.
    pub untouched: Vec<u16>,
    /// Nodes that did not take the news; they learn it by gossip.
    pub untold: BTreeMap<String, String>,
    /// Why it ended early.
    pub error: Option<MoveError>,
    pub took: Nanos,
}

impl MoveReport {
    /// Everything was done.
    pub fn complete(&self) -> bool {
        self.error.is_none() && self.open.is_empty() && self.untouched.is_empty()
    }

    /// Adds what a later move did.
    pub fn absorb(&mut self, later: Self) {
        self.moved.extend(later.moved);
        self.keys += later.keys;
        self.open.extend(later.open);
        self.untouched.extend(later.untouched);
        self.untold.extend(later.untold);
        self.error = self.error.take().or(later.error);
        self.took += later.took;
    }

    /// What a person must know after an incomplete move, and the command that repairs it.
    pub fn sentences(&self, entry: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(error) = &self.error {
            lines.push(format!("stopped: {error}"));
        }
        let moved: Vec<u16> = self.moved.iter().map(|it| it.slot).collect();
        if !self.complete() {
            lines.push(format!(
                "moved: {} slots ({}), {} keys",
                moved.len(),
                slots::sentence(&moved),
                self.keys
            ));
        }
        let mut by_state: BTreeMap<(Stage, &str, &str), Vec<u16>> = BTreeMap::new();
        for open in &self.open {
            by_state.entry((open.stage, &open.from, &open.to)).or_default().push(open.slot);
        }
        for ((stage, from, to), list) in by_state {
            lines.push(format!("open, from {from} to {to}: slots {}: {stage}", slots::sentence(&list)));
        }
        if !self.untouched.is_empty() {
            lines.push(format!("not touched: slots {}", slots::sentence(&self.untouched)));
        }
        for (label, why) in &self.untold {
            lines.push(format!("{label} did not take the news ({why}); gossip will tell it"));
        }
        if !self.open.is_empty() {
            lines.push(format!("repair with: slotstorm cluster fix {entry}"));
        }
        lines
    }
}

/// Moves slots one group after the other. Never fails as a whole: the report says what became of each slot.
pub async fn move_slots<R: Reach>(
    fleet: &mut Fleet<R>,
    moves: &[SlotMove],
    orders: &Orders<'_>,
) -> MoveReport {
    let begun = fleet.reach.now();
    let mut report = MoveReport::default();
    let mut left = moves;
    match count(fleet, moves).await {
        Err(error) => report.error = Some(error.into()),
        Ok(counts) => {
            let mut gauge = Gauge {
                slots_in_all: moves.len() as u64,
                keys_in_all: counts.iter().sum(),
                ..Gauge::default()
            };
            let mut counts = &counts[..];
            let mut pace = Pace::new(&orders.carry);
            while !left.is_empty() {
                if (orders.halt)() {
                    report.error = Some(MoveError::Halted);
                    break;
                }
                if orders.carry.give_up_at.is_some_and(|at| fleet.reach.now() >= at) {
                    report.error = Some(MoveError::TimeUp);
                    break;
                }
                let size = group_size(left, counts);
                let (group, later) = left.split_at(size);
                let stuck = move_group(fleet, group, orders, &mut pace, &mut gauge, &mut report).await;
                (left, counts) = (later, &counts[size..]);
                if let Err(error) = stuck {
                    report.error = Some(error);
                    break;
                }
            }
        }
    }
    report.untouched.extend(left.iter().map(|it| it.slot));
    report.took = fleet.reach.now() - begun;
    report
}

/// Keys of each slot where it comes from.
async fn count<R: Reach>(fleet: &mut Fleet<R>, moves: &[SlotMove]) -> Result<Vec<u64>, AskError> {
    let mut by_source: BTreeMap<usize, Vec<u16>> = BTreeMap::new();
    for it in moves {
        by_source.entry(it.road.from).or_default().push(it.slot);
    }
    let mut keys = BTreeMap::new();
    for (source, list) in by_source {
        keys.extend(count_keys(fleet, source, &list).await?.into_iter().map(|(slot, n)| ((source, slot), n)));
    }
    Ok(moves.iter().map(|it| keys.get(&(it.road.from, it.slot)).copied().unwrap_or(0)).collect())
}

fn group_size(moves: &[SlotMove], counts: &[u64]) -> usize {
    let mut keys = 0;
    let fits = moves.iter().zip(counts).take(GROUP_SLOTS).take_while(|(it, count)| {
        keys += **count;
        it.road == moves[0].road && keys <= GROUP_KEYS
    });
    fits.count().max(1)
}

async fn move_group<R: Reach>(
    fleet: &mut Fleet<R>,
    group: &[SlotMove],
    orders: &Orders<'_>,
    pace: &mut Pace,
    gauge: &mut Gauge,
    report: &mut MoveReport,
) -> Result<(), MoveError> {
    let road = group[0].road;
    let list: Vec<u16> = group.iter().map(|it| it.slot).collect();
    let (from, to) = (fleet.nodes[road.from].label(), fleet.nodes[road.to].label());
    for slot in &list {
        (orders.tell)(Note::Moving { slot: *slot, from: from.clone(), to: to.clone() });
    }
    let mut stage = Stage::Marked;
    let result = walk(fleet, road, &list, orders, pace, gauge, report, &mut stage).await;
    if result.is_ok() {
        report.moved.extend_from_slice(group);
        return result;
    }
    let closed = match stage {
        Stage::Marked | Stage::Carrying if orders.fresh => roll_back(fleet, road, &list).await,
        _ => BTreeSet::new(),
    };
    for slot in list {
        if closed.contains(&slot) {
            report.untouched.push(slot);
        } else {
            report.open.push(LeftOpen { slot, from: from.clone(), to: to.clone(), stage });
        }
    }
    result
}

/// All steps of one group; `stage` says how far it came.
#[allow(clippy::too_many_arguments)] // one caller, and each is a thing of its own
async fn walk<R: Reach>(
    fleet: &mut Fleet<R>,
    road: Road,
    list: &[u16],
    orders: &Orders<'_>,
    pace: &mut Pace,
    gauge: &mut Gauge,
    report: &mut MoveReport,
    stage: &mut Stage,
) -> Result<(), MoveError> {
    let (source_id, target_id) = (fleet.nodes[road.from].id.clone(), fleet.nodes[road.to].id.clone());
    wait_ok(fleet, road, orders.carry.give_up_at).await?;
    set_slots(fleet, road.to, list, &["IMPORTING", &source_id]).await?;
    set_slots(fleet, road.from, list, &["MIGRATING", &target_id]).await?;
    *stage = Stage::Carrying;

    let before = gauge.slots;
    let keys = &mut report.keys;
    let mut carried = |count: u64| {
        *keys += count;
        gauge.keys += count;
        (orders.tell)(Note::Moved(*gauge));
    };
    carry(fleet, road, list, &orders.carry, pace, &mut carried).await?;
    guard(fleet, road, list).await?;
    *stage = Stage::Carried;

    if orders.source_first {
        let _ = set_slots(fleet, road.from, list, &["NODE", &target_id]).await;
        tell_others(fleet, road, list, &target_id, report).await;
    }
    match set_slots(fleet, road.to, list, &["NODE", &target_id]).await {
        Ok(()) => {}
        Err(AskError::Server { address, command, text }) => {
            return Err(AskError::Server { address, command, text }.into());
        }
        Err(_) => {
            *stage = Stage::MayOwn;
            set_slots(fleet, road.to, list, &["NODE", &target_id]).await?; // the same once more changes nothing
        }
    }
    *stage = Stage::Owned;
    if let Some(why) = replica_unaware(fleet, road.to, list).await {
        (orders.tell)(Note::Warning(why));
    }
    match set_slots(fleet, road.from, list, &["NODE", &target_id]).await {
        Ok(()) => {}
        // It gave away its last slot and follows the new owner already.
        Err(AskError::Server { text, .. }) if text.contains("SETSLOT only with masters") => {}
        Err(error) => return Err(error.into()),
    }
    tell_others(fleet, road, list, &target_id, report).await;
    gauge.slots = before + list.len() as u64;
    (orders.tell)(Note::Moved(*gauge));
    Ok(())
}

/// The masters at neither end; who does not take it learns it by gossip.
async fn tell_others<R: Reach>(
    fleet: &mut Fleet<R>,
    road: Road,
    list: &[u16],
    owner: &str,
    report: &mut MoveReport,
) {
    let others: Vec<usize> =
        fleet.masters().into_iter().filter(|master| ![road.from, road.to].contains(master)).collect();
    for (index, answer) in fleet.pipeline_to(&others, &set_slot_commands(list, &["NODE", owner])).await {
        let trouble = match answer {
            Err(error) => Some(error.to_string()),
            Ok(replies) => {
                replies.iter().find_map(complaint).filter(|text| !text.contains("only with masters"))
            }
        };
        if let Some(why) = trouble {
            report.untold.insert(fleet.nodes[index].label(), why);
        }
    }
}

/// A node that holds the cluster down (it just started, joined or came back) refuses keys: it is waited for.
async fn wait_ok<R: Reach>(
    fleet: &mut Fleet<R>,
    road: Road,
    give_up_at: Option<Nanos>,
) -> Result<(), MoveError> {
    let until = fleet.reach.now() + ms(CLUSTER_OK_MS);
    let until = give_up_at.map_or(until, |at| until.min(at));
    for node in [road.to, road.from] {
        loop {
            let deadline = fleet.deadline();
            if cluster_ok(&mut fleet.links[node], deadline).await {
                break;
            }
            if fleet.reach.now() >= until {
                let label = fleet.nodes[node].label();
                return Err(MoveError::Changed { label, why: "it does not hold the cluster ok".to_owned() });
            }
            fleet.reach.sleep_until(fleet.reach.now() + ms(50)).await;
        }
    }
    Ok(())
}

fn set_slot_commands(list: &[u16], action: &[&str]) -> Vec<Vec<String>> {
    let one = |slot: &u16| {
        let words = ["CLUSTER", "SETSLOT"].map(str::to_owned).into_iter();
        words.chain([slot.to_string()]).chain(action.iter().map(|&word| word.to_owned())).collect()
    };
    list.iter().map(one).collect()
}

fn complaint(reply: &Reply) -> Option<String> {
    if let Reply::Error(text) = reply { Some(text.to_string()) } else { None }
}

/// `CLUSTER SETSLOT <slot> <action>` for each slot, in one write; the first complaint is the error.
pub async fn set_slots<R: Reach>(
    fleet: &mut Fleet<R>,
    node: usize,
    list: &[u16],
    action: &[&str],
) -> Result<(), AskError> {
    let replies = fleet.pipeline(node, &set_slot_commands(list, action)).await?;
    match list.iter().zip(&replies).find_map(|(slot, reply)| Some((slot, complaint(reply)?))) {
        None => Ok(()),
        Some((slot, text)) => Err(AskError::Server {
            address: fleet.nodes[node].dial,
            command: format!("CLUSTER SETSLOT {slot} {}", action.join(" ")),
            text,
        }),
    }
}

/// Takes the marks of those slots away of which the target holds no key; which they are. As long as the source is
/// marked, a client may write a new key at the target: so the target is counted once more at the end, and a slot in
/// which a key came up meanwhile gets its marks back.
async fn roll_back<R: Reach>(fleet: &mut Fleet<R>, road: Road, list: &[u16]) -> BTreeSet<u16> {
    let empty = async |fleet: &mut Fleet<R>, list: &[u16]| -> Result<Vec<u16>, AskError> {
        let counts = count_keys(fleet, road.to, list).await?;
        Ok(counts.into_iter().filter(|(_, keys)| *keys == 0).map(|(slot, _)| slot).collect())
    };
    let Ok(candidates) = empty(fleet, list).await else { return BTreeSet::new() };
    if candidates.is_empty()
        || set_slots(fleet, road.from, &candidates, &["STABLE"]).await.is_err()
        || set_slots(fleet, road.to, &candidates, &["STABLE"]).await.is_err()
    {
        return BTreeSet::new();
    }
    let Ok(still) = empty(fleet, &candidates).await else { return BTreeSet::new() };
    let again: Vec<u16> = candidates.iter().copied().filter(|slot| !still.contains(slot)).collect();
    if !again.is_empty() {
        let (source, target) = (fleet.nodes[road.from].id.clone(), fleet.nodes[road.to].id.clone());
        let _ = set_slots(fleet, road.to, &again, &["IMPORTING", &source]).await;
        let _ = set_slots(fleet, road.from, &again, &["MIGRATING", &target]).await;
    }
    still.into_iter().collect()
}

/// The last look before a slot changes hands. A source that lost its mark (it failed over, or came back from an old
/// nodes.conf) may have taken new keys, and they would be lost; a target without its mark would own the slot without
/// a new epoch, and nobody would believe it.
async fn guard<R: Reach>(fleet: &mut Fleet<R>, road: Road, list: &[u16]) -> Result<(), MoveError> {
    let own = async |fleet: &mut Fleet<R>, node: usize| -> Result<NodeLine, AskError> {
        let address = fleet.nodes[node].dial;
        let reply = fleet.ask(node, &["CLUSTER", "NODES"]).await?;
        let text = expect_text(address, "CLUSTER NODES", &reply)?;
        let table = parse::nodes(&text).map_err(|error| super::fleet::nonsense(address, &error))?;
        Ok(table.into_iter().find(NodeLine::myself).unwrap_or_default())
    };
    let source = own(fleet, road.from).await?;
    let target = own(fleet, road.to).await?;
    let labels: Vec<String> = fleet.nodes.iter().map(super::fleet::Node::label).collect();
    let changed = |node: usize, why: String| Err(MoveError::Changed { label: labels[node].clone(), why });
    for (node, line) in [(road.from, &source), (road.to, &target)] {
        if !line.master() || line.id != fleet.nodes[node].id {
            return changed(node, "it is no master any more, or another node".to_owned());
        }
    }
    let marked = |marks: &[(u16, String)], slot: u16, other: &str| {
        marks.iter().any(|(marked, id)| *marked == slot && id == other)
    };
    for slot in list {
        if !marked(&source.migrating, *slot, &target.id) {
            return changed(road.from, format!("slot {slot} is not marked migrating any more"));
        }
        if !marked(&target.importing, *slot, &source.id) {
            return changed(road.to, format!("slot {slot} is not marked importing any more"));
        }
    }
    let late: u64 = count_keys(fleet, road.from, list).await?.iter().map(|(_, keys)| keys).sum();
    if late > 0 {
        return changed(road.from, format!("{late} keys appeared in slots that were empty"));
    }
    Ok(())
}

/// Waits until a replica of the new owner knows of the slots: if the owner dies now, it can take them over. Why not,
/// if it does not within [`REPLICA_HEARS_MS`]; nothing if there is no replica.
async fn replica_unaware<R: Reach>(fleet: &mut Fleet<R>, owner: usize, list: &[u16]) -> Option<String> {
    let replica = *fleet.replicas_of(owner).first()?;
    let until = fleet.reach.now() + ms(REPLICA_HEARS_MS);
    let owner_id = fleet.nodes[owner].id.clone();
    loop {
        let deadline = (fleet.reach.now() + ms(REPLICA_HEARS_MS)).min(fleet.deadline());
        let why = match super::fleet::nodes_of(&mut fleet.links[replica], deadline).await {
            Ok(table) => {
                let owned = table.iter().find(|line| line.id == owner_id);
                if owned.is_some_and(|line| list.iter().all(|slot| slots::holds(&line.slots, *slot))) {
                    return None;
                }
                "it has not heard of them".to_owned()
            }
            Err(error) => error.to_string(),
        };
        if fleet.reach.now() >= until {
            return Some(format!(
                "{}, a replica of {}, may not know of slots {}: {why}",
                fleet.nodes[replica].label(),
                fleet.nodes[owner].label(),
                slots::sentence(list)
            ));
        }
        fleet.reach.sleep_until(fleet.reach.now() + ms(2)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_move(slot: u16, from: usize) -> SlotMove {
        SlotMove { slot, road: Road { from, to: 9 } }
    }

    #[test]
    fn a_group_has_one_road_and_a_bounded_number_of_slots_and_keys() {
        let moves: Vec<SlotMove> = (0..100).map(|slot| a_move(slot, usize::from(slot >= 80))).collect();
        assert_eq!(group_size(&moves, &[0; 100]), GROUP_SLOTS);
        assert_eq!(group_size(&moves[64..], &[0; 36]), 16, "another source is another group");
        assert_eq!(group_size(&moves, &[100; 100]), 20);
        assert_eq!(group_size(&moves, &[1_000_000; 100]), 1, "a big slot goes alone");
    }

    #[test]
    fn an_incomplete_move_says_what_is_open_and_how_to_repair_it() {
        let open = |slot| LeftOpen { slot, from: "a:1".into(), to: "b:2".into(), stage: Stage::Carrying };
        let report = MoveReport {
            moved: vec![a_move(0, 0), a_move(1, 0)],
            keys: 7,
            open: vec![open(2), open(3)],
            untouched: vec![9],
            error: Some(MoveError::Halted),
            ..MoveReport::default()
        };
        let text = report.sentences("a:1").join("\n");
        for part in [
            "moved: 2 slots (0-1), 7 keys",
            "open, from a:1 to b:2: slots 2-3: migrating, its keys may be on both nodes",
            "not touched: slots 9",
            "repair with: slotstorm cluster fix a:1",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }
}
