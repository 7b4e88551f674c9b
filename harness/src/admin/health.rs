//! Whether a cluster is as it should be: one view in all nodes, no open slot, every slot owned, and by one node.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::fleet::{Fleet, expect_number, portrait};
use super::note::{Note, Teller, line, step};
use super::parse::SLOTS;
use super::resp::AskError;
use super::{Reach, ms, slots};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// All nodes name the same owners.
    pub agree: bool,
    /// Slots with a mark on any node.
    pub open: Vec<u16>,
    /// Slots that no node claims.
    pub uncovered: Vec<u16>,
    /// Slots that more than one master claims or holds keys of; only searched for on demand.
    pub many_owners: Vec<u16>,
    /// Masters that do not answer.
    pub unreachable_masters: usize,
}

impl Health {
    /// Nothing is wrong.
    pub fn clean(&self) -> bool {
        self.agree && self.open.is_empty() && self.uncovered.is_empty() && self.many_owners.is_empty()
    }
}

/// How a check is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Ask every master for keys of every slot that is not its own.
    pub search_owners: bool,
    /// Leave out the list of nodes.
    pub brief: bool,
    /// Milliseconds that the nodes may take to agree: claims travel by gossip.
    pub settle_ms: u64,
}

/// Looks at all that [`Health`] holds, and says it as redis-cli does.
pub async fn check<R: Reach>(
    fleet: &mut Fleet<R>,
    options: CheckOptions,
    tell: Teller<'_>,
) -> Result<Health, AskError> {
    step(tell, format!("Performing Cluster Check (using node {})", fleet.nodes[0].label()));
    let agree = settle(fleet, options.settle_ms).await;
    if !options.brief {
        for index in 0..fleet.nodes.len() {
            line(tell, portrait(fleet, index, ""));
        }
    }
    for absent in &fleet.absent {
        let (host, port) = (&absent.line.ip, absent.line.port);
        tell(Note::Warning(format!("{} {host}:{port} is not there: {}", absent.line.id, absent.why)));
    }
    tell(if agree {
        Note::Good("All nodes agree about slots configuration.".to_owned())
    } else {
        Note::Bad("Nodes don't agree about configuration!".to_owned())
    });
    step(tell, "Check for open slots...");
    let open = say_open(fleet, tell);
    step(tell, "Check slots coverage...");
    let uncovered = uncovered(fleet);
    tell(if uncovered.is_empty() {
        Note::Good(format!("All {SLOTS} slots covered."))
    } else {
        Note::Bad(format!("Not all {SLOTS} slots are covered by nodes.\n"))
    });
    let mut many_owners = Vec::new();
    if options.search_owners {
        step(tell, "Check for multiple slot owners...");
        let owners = many_owners_of(fleet).await?;
        for (slot, nodes) in &owners {
            let list: Vec<String> =
                nodes.iter().map(|node| format!("    {}", fleet.nodes[*node].label())).collect();
            tell(Note::Warning(format!("Slot {slot} has {} owners:\n{}", nodes.len(), list.join("\n"))));
        }
        many_owners = owners.into_keys().collect();
        if many_owners.is_empty() {
            tell(Note::Good("No multiple owners found.".to_owned()));
        }
    }
    Ok(Health { agree, open, uncovered, many_owners, unreachable_masters: fleet.absent_masters() })
}

/// Asks all nodes until they name the same owners, or the time is up; whether they do.
pub async fn settle<R: Reach>(fleet: &mut Fleet<R>, settle_ms: u64) -> bool {
    let until = fleet.reach.now() + ms(settle_ms);
    loop {
        let silent = fleet.refresh().await;
        if silent.is_empty() && agree(fleet) {
            return true;
        }
        if fleet.reach.now() >= until {
            return false;
        }
        fleet.reach.sleep_until((fleet.reach.now() + ms(50)).min(until)).await;
    }
}

/// A check that says nothing: whether anything is wrong. For flows that need to know.
pub async fn look<R: Reach>(fleet: &mut Fleet<R>, settle_ms: u64) -> Health {
    let agree = settle(fleet, settle_ms).await;
    Health {
        agree,
        open: open_slots(fleet).into_keys().collect(),
        uncovered: uncovered(fleet),
        many_owners: Vec::new(),
        unreachable_masters: fleet.absent_masters(),
    }
}

/// `host:port (id...) -> n keys | n slots | n slaves.` of each master, and the sums.
pub async fn say_info<R: Reach>(fleet: &mut Fleet<R>, tell: Teller<'_>) -> Result<Vec<MasterInfo>, AskError> {
    let infos = info(fleet).await?;
    for info in &infos {
        let (id, slaves) = (&info.id[..8.min(info.id.len())], info.replicas);
        line(
            tell,
            format!(
                "{} ({id}...) -> {} keys | {} slots | {slaves} slaves.",
                info.address, info.keys, info.slots
            ),
        );
    }
    let keys: u64 = infos.iter().map(|info| info.keys).sum();
    tell(Note::Good(format!("{keys} keys in {} masters.", infos.len())));
    line(tell, format!("{:.2} keys per slot on average.", keys as f64 / f64::from(SLOTS)));
    Ok(infos)
}

/// A master in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MasterInfo {
    pub id: String,
    pub address: String,
    pub keys: u64,
    pub slots: u32,
    pub replicas: usize,
}

/// Each master in numbers.
pub async fn info<R: Reach>(fleet: &mut Fleet<R>) -> Result<Vec<MasterInfo>, AskError> {
    let masters = fleet.masters();
    let replies = fleet.pipeline_to(&masters, &[vec!["DBSIZE"]]).await;
    let mut infos = Vec::with_capacity(masters.len());
    for (index, reply) in replies {
        let node = &fleet.nodes[index];
        infos.push(MasterInfo {
            id: node.id.clone(),
            address: node.label(),
            keys: expect_number(node.dial, "DBSIZE", &reply?[0])?,
            slots: node.own.slot_count(),
            replicas: fleet.replicas_of(index).len(),
        });
    }
    Ok(infos)
}

/// Slots with a mark, and the nodes that have it.
pub fn open_slots<R: Reach>(fleet: &Fleet<R>) -> BTreeMap<u16, Vec<usize>> {
    let mut open: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (index, node) in fleet.nodes.iter().enumerate() {
        let marked: BTreeSet<u16> =
            node.own.migrating.iter().chain(&node.own.importing).map(|(slot, _)| *slot).collect();
        for slot in marked {
            open.entry(slot).or_default().push(index);
        }
    }
    open
}

/// Slots that no node that answers claims for itself.
pub fn uncovered<R: Reach>(fleet: &Fleet<R>) -> Vec<u16> {
    let mut covered = vec![false; usize::from(SLOTS)];
    let lines = fleet.nodes.iter().filter(|node| node.master());
    for slot in lines.flat_map(|node| slots::expand(&node.own.slots)) {
        covered[usize::from(slot)] = true;
    }
    (0..SLOTS).filter(|slot| !covered[usize::from(*slot)]).collect()
}

fn say_open<R: Reach>(fleet: &Fleet<R>, tell: Teller<'_>) -> Vec<u16> {
    for node in &fleet.nodes {
        for (marks, state) in [(&node.own.importing, "importing"), (&node.own.migrating, "migrating")] {
            if !marks.is_empty() {
                let list: Vec<String> = marks.iter().map(|(slot, _)| slot.to_string()).collect();
                let list = list.join(",");
                tell(Note::Warning(format!("Node {} has slots in {state} state {list}.", node.label())));
            }
        }
    }
    let open: Vec<u16> = open_slots(fleet).into_keys().collect();
    if !open.is_empty() {
        let list: Vec<String> = open.iter().map(ToString::to_string).collect();
        tell(Note::Warning(format!("The following slots are open: {}.", list.join(","))));
    }
    open
}

/// Every node names the same owner of every slot.
fn agree<R: Reach>(fleet: &Fleet<R>) -> bool {
    let owners = |table: &[super::parse::NodeLine]| -> BTreeMap<String, Vec<(u16, u16)>> {
        let with_slots = table.iter().filter(|line| !line.slots.is_empty());
        with_slots.map(|line| (line.id.clone(), slots::compress(&slots::expand(&line.slots)))).collect()
    };
    let first = owners(&fleet.nodes[0].table);
    fleet.nodes[1..].iter().all(|node| owners(&node.table) == first)
}

/// Slots that several masters claim, or hold keys of. One question per slot and master, thousands in one write.
pub async fn many_owners_of<R: Reach>(fleet: &mut Fleet<R>) -> Result<BTreeMap<u16, Vec<usize>>, AskError> {
    let mut owners: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for master in fleet.masters() {
        for slot in slots::expand(&fleet.nodes[master].own.slots) {
            owners.entry(slot).or_default().push(master);
        }
        let foreign: Vec<u16> = (0..SLOTS).filter(|slot| !fleet.nodes[master].owns(*slot)).collect();
        for (slot, keys) in count_keys(fleet, master, &foreign).await? {
            if keys > 0 {
                owners.entry(slot).or_default().push(master);
            }
        }
    }
    owners.retain(|_, nodes| nodes.len() > 1);
    Ok(owners)
}

/// How many keys of each slot a node holds.
pub async fn count_keys<R: Reach>(
    fleet: &mut Fleet<R>,
    node: usize,
    wanted: &[u16],
) -> Result<Vec<(u16, u64)>, AskError> {
    let mut counts = Vec::with_capacity(wanted.len());
    let address = fleet.nodes[node].dial;
    for some in wanted.chunks(2048) {
        let commands: Vec<Vec<String>> = some
            .iter()
            .map(|slot| vec!["CLUSTER".to_owned(), "COUNTKEYSINSLOT".to_owned(), slot.to_string()])
            .collect();
        for (slot, reply) in some.iter().zip(fleet.pipeline(node, &commands).await?) {
            counts.push((*slot, expect_number(address, "CLUSTER COUNTKEYSINSLOT", &reply)?));
        }
    }
    Ok(counts)
}
