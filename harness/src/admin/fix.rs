//! Mending a cluster whose slots are open, without an owner, or with several: every key ends on the one owner of its
//! slot, every mark is taken away. A value is never overwritten by another one unless the operator says so.

use std::collections::{BTreeMap, BTreeSet};

use super::Reach;
use super::fleet::Fleet;
use super::health::{self, count_keys, many_owners_of, open_slots, uncovered};
use super::migrate::{CarryError, CarryOptions, Pace, Road, Winner, carry};
use super::mover::{MoveReport, Orders, SlotMove, move_slots, set_slots};
use super::note::{Note, Teller, line, step};
use super::resp::{AskError, Reply};

/// What may be done.
pub struct FixOptions<'a> {
    pub carry: CarryOptions,
    /// Of two different values of a key the owner's stays, whatever `carry` says.
    pub owner_wins: bool,
    /// Go on though masters do not answer: what they hold is out of sight.
    pub despite_unreachable: bool,
    /// Search every master for keys of slots that are not its own.
    pub search_owners: bool,
    /// Asked before slots without an owner are given one.
    pub confirm: &'a dyn Fn(&str) -> bool,
    pub tell: Teller<'a>,
    pub halt: &'a dyn Fn() -> bool,
    /// Milliseconds that the nodes may take to agree at the end.
    pub settle_ms: u64,
}

impl FixOptions<'_> {
    /// How keys are carried if the owner is on this side.
    fn carrying(&self, owner: Winner) -> CarryOptions {
        if self.owner_wins { CarryOptions { winner: owner, ..self.carry } } else { self.carry }
    }
}

/// What was mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixReport {
    /// Slots whose marks were taken away, or whose owners became one.
    pub closed: Vec<u16>,
    /// Slots that have an owner now.
    pub covered: Vec<u16>,
    /// Slots that are not mended, and why.
    pub left: BTreeMap<u16, String>,
    /// Slots that the operator did not want covered.
    pub declined: Vec<u16>,
    /// Nothing was done, because these many masters do not answer.
    pub refused: Option<usize>,
    /// All nodes agreed at the end.
    pub agree: bool,
}

impl FixReport {
    /// Nothing is left to mend.
    pub fn complete(&self) -> bool {
        self.left.is_empty() && self.declined.is_empty() && self.refused.is_none() && self.agree
    }
}

/// Why one slot could not be mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unmended {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Carry(#[from] CarryError),
    #[error("{}", .0.sentences("HOST:PORT").join("; "))]
    Move(Box<MoveReport>),
}

/// Mends all that it finds. The fleet must have been looked at just before.
pub async fn fix<R: Reach>(fleet: &mut Fleet<R>, options: &FixOptions<'_>) -> Result<FixReport, AskError> {
    let mut report = FixReport::default();
    let tell = options.tell;
    let unreachable = fleet.absent_masters();
    let open = open_slots(fleet);
    if unreachable > 0 && !options.despite_unreachable {
        tell(Note::Stop(format!(
            "{unreachable} masters are unreachable: what they hold is out of sight. Bring them back, or go on without \
             them with --cluster-fix-with-unreachable-masters"
        )));
        report.refused = Some(unreachable);
        return Ok(report);
    }
    for slot in open.into_keys() {
        if (options.halt)() {
            report.left.insert(slot, "it was asked to stop".to_owned());
            continue;
        }
        match fix_open(fleet, slot, options).await {
            Ok(()) => report.closed.push(slot),
            Err(error) => {
                tell(Note::Bad(format!("Slot {slot} could not be fixed: {error}")));
                report.left.insert(slot, error.to_string());
            }
        }
        fleet.refresh().await;
    }
    let bare: Vec<u16> =
        uncovered(fleet).into_iter().filter(|slot| !report.left.contains_key(slot)).collect();
    if !bare.is_empty() && !(options.halt)() {
        step(tell, "Fixing slots coverage...");
        cover(fleet, &bare, options, &mut report).await?;
    }
    if options.search_owners {
        health::settle(fleet, options.settle_ms).await;
        for slot in many_owners_of(fleet).await?.into_keys() {
            step(tell, format!("Fixing multiple owners for slot {slot}..."));
            match fix_open(fleet, slot, options).await {
                Ok(()) => report.closed.push(slot),
                Err(error) => drop(report.left.insert(slot, error.to_string())),
            }
        }
    }
    report.agree = health::settle(fleet, options.settle_ms).await;
    Ok(report)
}

/// Who has what of a slot.
struct Scene {
    claimers: Vec<usize>,
    migrating: Vec<(usize, String)>,
    importing: Vec<usize>,
    keys: BTreeMap<usize, u64>,
}

impl Scene {
    fn keys_of(&self, node: usize) -> u64 {
        self.keys.get(&node).copied().unwrap_or(0)
    }

    /// The one that most keys are on; of those, one that claims the slot; of those, the first.
    fn richest(&self) -> Option<usize> {
        let rank =
            |node: &usize| (self.keys_of(*node), self.claimers.contains(node), std::cmp::Reverse(*node));
        self.keys.keys().copied().max_by_key(rank)
    }
}

async fn look_at<R: Reach>(fleet: &mut Fleet<R>, slot: u16) -> Result<Scene, AskError> {
    let masters = fleet.masters();
    let mut keys = BTreeMap::new();
    for master in &masters {
        // One that died since the fleet was found is a case for the operator's flag, not for a guess.
        keys.insert(*master, count_keys(fleet, *master, &[slot]).await?[0].1);
    }
    let mark = |marks: &[(u16, String)]| marks.iter().find(|(it, _)| *it == slot).map(|(_, id)| id.clone());
    Ok(Scene {
        claimers: masters.iter().copied().filter(|it| fleet.nodes[*it].owns(slot)).collect(),
        migrating: masters
            .iter()
            .filter_map(|it| Some((*it, mark(&fleet.nodes[*it].own.migrating)?)))
            .collect(),
        importing: masters
            .iter()
            .copied()
            .filter(|it| mark(&fleet.nodes[*it].own.importing).is_some())
            .collect(),
        keys,
    })
}

async fn fix_open<R: Reach>(
    fleet: &mut Fleet<R>,
    slot: u16,
    options: &FixOptions<'_>,
) -> Result<(), Unmended> {
    let tell = options.tell;
    step(tell, format!("Fixing open slot {slot}"));
    let mut scene = look_at(fleet, slot).await?;
    for (node, keys) in &scene.keys {
        let marked = scene.importing.contains(node) || scene.migrating.iter().any(|(it, _)| it == node);
        if *keys > 0 && !marked && !scene.claimers.contains(node) {
            let label = fleet.nodes[*node].label();
            tell(Note::Stop(format!("Found keys about slot {slot} in node {label}!")));
        }
    }
    let names = |fleet: &Fleet<R>, nodes: &[usize]| {
        nodes.iter().map(|it| fleet.nodes[*it].label()).collect::<Vec<_>>().join(",")
    };
    let migrating: Vec<usize> = scene.migrating.iter().map(|(it, _)| *it).collect();
    if !migrating.is_empty() {
        line(tell, format!("Set as migrating in: {}", names(fleet, &migrating)));
    }
    if !scene.importing.is_empty() {
        line(tell, format!("Set as importing in: {}", names(fleet, &scene.importing)));
    }
    let owner =
        if let [only] = scene.claimers[..] { only } else { appoint(fleet, slot, &mut scene, tell).await? };
    let poor = |scene: &Scene| scene.importing.iter().all(|it| scene.keys_of(*it) == 0);
    let foreign_keys =
        scene.keys.iter().any(|(node, keys)| *keys > 0 && *node != owner && !scene.importing.contains(node));
    let (from, importing) = (fleet.nodes[owner].label(), scene.importing.clone());
    match (&scene.migrating[..], &importing[..]) {
        ([(source, target)], [one])
            if *source == owner && !foreign_keys && fleet.nodes[*one].id == *target =>
        {
            let to = fleet.nodes[*one].label();
            step(tell, format!("Case 1: Moving slot {slot} from {from} to {to}"));
            finish_move(fleet, slot, owner, *one, options).await
        }
        ([], [_, ..]) => {
            step(tell, format!("Case 2: Moving all the {slot} slot keys to its owner {from}"));
            gather(fleet, slot, owner, &scene, options).await
        }
        ([(source, target)], [_, _, ..]) if *source == owner && !foreign_keys && poor(&scene) => {
            let named = importing.iter().copied().find(|it| fleet.nodes[*it].id == *target);
            if let Some(named) = named {
                let to = fleet.nodes[named].label();
                step(
                    tell,
                    format!(
                        "Case 3: Moving slot {slot} from {from} to {to} and closing it on all the other importing nodes."
                    ),
                );
                for other in importing.into_iter().filter(|it| *it != named) {
                    set_slots(fleet, other, &[slot], &["STABLE"]).await?;
                }
                finish_move(fleet, slot, owner, named, options).await
            } else {
                step(tell, format!("Case 3: Closing slot {slot} on both migrating and importing nodes."));
                for node in importing.into_iter().chain([owner]) {
                    set_slots(fleet, node, &[slot], &["STABLE"]).await?;
                }
                Ok(())
            }
        }
        ([(source, _)], []) if !foreign_keys && (*source == owner || scene.keys_of(*source) == 0) => {
            let label = fleet.nodes[*source].label();
            step(tell, format!("Case 4: Closing slot {slot} on {label}"));
            set_slots(fleet, *source, &[slot], &["STABLE"]).await?;
            Ok(())
        }
        // redis-cli gives up here. Every key can still go to the owner, and every mark away.
        _ => {
            step(
                tell,
                format!(
                    "Case 5: Moving all the {slot} slot keys to its owner {from} and closing it everywhere"
                ),
            );
            gather(fleet, slot, owner, &scene, options).await
        }
    }
}

/// Makes the master with most keys the one owner of a slot that has none, or several.
async fn appoint<R: Reach>(
    fleet: &mut Fleet<R>,
    slot: u16,
    scene: &mut Scene,
    tell: Teller<'_>,
) -> Result<usize, AskError> {
    step(tell, "No single clear owner for the slot, selecting an owner by # of keys...");
    let owner = scene.richest().ok_or_else(|| AskError::Nonsense {
        address: fleet.nodes[0].dial,
        command: "CLUSTER NODES".to_owned(),
        why: "no master at all".to_owned(),
    })?;
    line(tell, format!("*** Configuring {} as the slot owner", fleet.nodes[owner].label()));
    set_slots(fleet, owner, &[slot], &["STABLE"]).await?;
    assign(fleet, owner, &[slot]).await?;
    for other in scene.claimers.iter().copied().filter(|it| *it != owner).collect::<Vec<_>>() {
        disown(fleet, other, slot, owner).await?;
        scene.importing.push(other);
    }
    scene.importing.retain(|it| *it != owner);
    scene.migrating.retain(|(it, _)| *it != owner);
    Ok(owner)
}

async fn finish_move<R: Reach>(
    fleet: &mut Fleet<R>,
    slot: u16,
    from: usize,
    to: usize,
    options: &FixOptions<'_>,
) -> Result<(), Unmended> {
    let owner_id = fleet.nodes[from].id.clone();
    know_owner(fleet, to, slot, &owner_id).await?;
    let orders = Orders {
        carry: options.carrying(Winner::Source),
        fresh: false,
        tell: options.tell,
        halt: &|| false,
        source_first: false,
    };
    let report = move_slots(fleet, &[SlotMove { slot, road: Road { from, to } }], &orders).await;
    if report.complete() { Ok(()) } else { Err(Unmended::Move(Box::new(report))) }
}

/// Carries the keys that are not on the owner to it, takes all marks away, and tells everybody who the owner is.
async fn gather<R: Reach>(
    fleet: &mut Fleet<R>,
    slot: u16,
    owner: usize,
    scene: &Scene,
    options: &FixOptions<'_>,
) -> Result<(), Unmended> {
    let owner_id = fleet.nodes[owner].id.clone();
    // While it migrates it would send us on for keys that it does not have yet.
    set_slots(fleet, owner, &[slot], &["STABLE"]).await?;
    let strangers: BTreeSet<usize> = scene
        .importing
        .iter()
        .copied()
        .chain(scene.migrating.iter().map(|(it, _)| *it))
        .chain(scene.keys.iter().filter(|(_, keys)| **keys > 0).map(|(it, _)| *it))
        .filter(|it| *it != owner)
        .collect();
    let carrying = options.carrying(Winner::Target);
    let mut pace = Pace::new(&carrying);
    for node in strangers {
        let (from, to) = (fleet.nodes[node].label(), fleet.nodes[owner].label());
        know_owner(fleet, node, slot, &owner_id).await?;
        // Only a node that imports a slot may MIGRATE keys of a slot that it does not own.
        set_slots(fleet, node, &[slot], &["IMPORTING", &owner_id]).await?;
        (options.tell)(Note::Moving { slot, from: from.clone(), to });
        carry(fleet, Road { from: node, to: owner }, &[slot], &carrying, &mut pace, &mut |_| ()).await?;
        step(options.tell, format!("Setting {slot} as STABLE in {from}"));
        set_slots(fleet, node, &[slot], &["STABLE"]).await?;
    }
    for other in fleet.masters().into_iter().filter(|it| *it != owner) {
        set_slots(fleet, other, &[slot], &["NODE", &owner_id]).await?;
    }
    Ok(())
}

/// A node that imports a slot takes no claim of it, so it knows no owner once the one that it knew is a replica: for it the
/// slot is not served, and it refuses RESTORE and MIGRATE. It is told.
async fn know_owner<R: Reach>(
    fleet: &mut Fleet<R>,
    node: usize,
    slot: u16,
    owner_id: &str,
) -> Result<(), AskError> {
    set_slots(fleet, node, &[slot], &["NODE", owner_id]).await
}

/// A node that claims the slot, and shall not own it, becomes one that imports it: its keys stay and can be carried.
async fn disown<R: Reach>(
    fleet: &mut Fleet<R>,
    node: usize,
    slot: u16,
    owner: usize,
) -> Result<(), AskError> {
    let slot = slot.to_string();
    let owner_id = fleet.nodes[owner].id.clone();
    let commands = [
        vec!["CLUSTER", "DELSLOTS", &slot],
        vec!["CLUSTER", "SETSLOT", &slot, "NODE", &owner_id],
        vec!["CLUSTER", "SETSLOT", &slot, "IMPORTING", &owner_id],
    ];
    let replies = fleet.pipeline(node, &commands).await?;
    // That it was unassigned already is no harm; that it cannot import is.
    match replies.into_iter().last() {
        Some(Reply::Error(text)) => Err(AskError::Server {
            address: fleet.nodes[node].dial,
            command: format!("CLUSTER SETSLOT {slot} IMPORTING"),
            text: text.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Makes a master own slots whoever owned them before, with an epoch that everybody believes. One transaction.
async fn assign<R: Reach>(fleet: &mut Fleet<R>, owner: usize, list: &[u16]) -> Result<(), AskError> {
    let words = |command: &[&str]| command.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
    let mut commands = vec![words(&["MULTI"])];
    for slot in list {
        let slot = slot.to_string();
        commands.push(words(&["CLUSTER", "DELSLOTS", &slot]));
        commands.push(words(&["CLUSTER", "ADDSLOTS", &slot]));
    }
    commands.push(words(&["CLUSTER", "BUMPEPOCH"]));
    commands.push(words(&["EXEC"]));
    let address = fleet.nodes[owner].dial;
    let replies = fleet.pipeline(owner, &commands).await?;
    let complain = |text: String| AskError::Server { address, command: "CLUSTER ADDSLOTS".to_owned(), text };
    match replies.last() {
        Some(Reply::Array(results)) => {
            // DELSLOTS complains of a slot that nobody owned.
            let added =
                results.iter().enumerate().filter(|(index, _)| index % 2 == 1 && *index < 2 * list.len());
            match added.map(|(_, reply)| reply).find(|reply| matches!(reply, Reply::Error(_))) {
                Some(Reply::Error(text)) => Err(complain(text.to_string())),
                _ => Ok(()),
            }
        }
        Some(Reply::Error(text)) => Err(complain(text.to_string())),
        other => Err(complain(format!("EXEC answered {other:?}"))),
    }
}

/// Gives slots that nobody owns an owner: where their keys are.
async fn cover<R: Reach>(
    fleet: &mut Fleet<R>,
    bare: &[u16],
    options: &FixOptions<'_>,
    report: &mut FixReport,
) -> Result<(), AskError> {
    let tell = options.tell;
    let mut holders: BTreeMap<u16, BTreeMap<usize, u64>> =
        bare.iter().map(|it| (*it, BTreeMap::new())).collect();
    for master in fleet.masters() {
        for (slot, keys) in count_keys(fleet, master, bare).await? {
            if keys > 0 {
                holders.entry(slot).or_default().insert(master, keys);
            }
        }
    }
    let with = |count: fn(usize) -> bool| -> Vec<u16> {
        holders.iter().filter(|(_, nodes)| count(nodes.len())).map(|(slot, _)| *slot).collect()
    };
    let kinds = [
        (with(|n| n == 0), "The following uncovered slots have no keys across the cluster:", "a random node"),
        (with(|n| n == 1), "The following uncovered slots have keys in just one node:", "those nodes"),
        (
            with(|n| n > 1),
            "The following uncovered slots have keys in multiple nodes:",
            "moving keys into a single node",
        ),
    ];
    for (list, title, with_what) in kinds {
        if list.is_empty() {
            continue;
        }
        line(tell, title);
        line(tell, format!("[{}]", list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")));
        let how = if with_what.starts_with("moving") { "by" } else { "by covering with" };
        if !(options.confirm)(&format!("Fix these slots {how} {with_what}? (type 'yes' to accept): ")) {
            report.declined.extend(list);
            continue;
        }
        let mut owners: BTreeMap<usize, Vec<u16>> = BTreeMap::new();
        for slot in &list {
            let richest = holders[slot].iter().max_by_key(|(node, keys)| (**keys, std::cmp::Reverse(**node)));
            // Where there are no keys, the master with the fewest slots takes it.
            let fewest = || {
                let load = |it: &usize| {
                    fleet.nodes[*it].own.slot_count() as usize + owners.get(it).map_or(0, Vec::len)
                };
                fleet.masters().into_iter().min_by_key(load)
            };
            let Some(owner) = richest.map(|(node, _)| *node).or_else(fewest) else { continue };
            step(tell, format!("Covering slot {slot} with {}", fleet.nodes[owner].label()));
            owners.entry(owner).or_default().push(*slot);
        }
        for (owner, slots) in owners {
            assign(fleet, owner, &slots).await?;
            for slot in slots {
                let strangers: Vec<usize> =
                    holders[&slot].keys().copied().filter(|it| *it != owner).collect();
                for node in &strangers {
                    disown(fleet, *node, slot, owner).await?;
                }
                let scene = Scene {
                    claimers: vec![owner],
                    migrating: Vec::new(),
                    importing: strangers,
                    keys: holders[&slot].clone(),
                };
                let done = if scene.importing.is_empty() {
                    Ok(())
                } else {
                    gather(fleet, slot, owner, &scene, options).await
                };
                match done {
                    Ok(()) => report.covered.push(slot),
                    Err(error) => drop(report.left.insert(slot, error.to_string())),
                }
            }
        }
    }
    Ok(())
}
