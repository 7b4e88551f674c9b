//! Bringing a node into a cluster, and taking one out.

use std::net::SocketAddr;

use super::fleet::{Fleet, expect_text};
use super::health::{self, CheckOptions};
use super::note::{Note, Teller, line, step};
use super::parse::{self, info_field};
use super::resp::{AskError, Reply, connection, text_of};
use super::{Reach, ms};

/// A node that is to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddNode {
    /// Where the administrator reaches it.
    pub new: SocketAddr,
    pub role: NewRole,
    /// Milliseconds that joining and following may take, each.
    pub timeout_ms: u64,
}

/// What a new node becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewRole {
    /// A master without slots.
    Master,
    /// A replica of the master with the fewest.
    Replica,
    /// A replica of the master with this place in the fleet.
    ReplicaOf(usize),
}

/// Why a node is not, or not yet, a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("Node {0} is not configured as a cluster node.")]
    NoCluster(SocketAddr),
    #[error(
        "Node {0} is not empty. Either the node already knows other nodes (check with CLUSTER NODES) or contains some \
         key in database 0."
    )]
    NotEmpty(SocketAddr),
    #[error("Failed retrieving Functions from the cluster, or the new node has functions already: {0}")]
    Functions(String),
    #[error(
        "{label} was told to join, but after {waited_ms} ms {why}. It may still join; look with: slotstorm cluster \
         nodes {label}"
    )]
    NotJoined { label: String, waited_ms: u64, why: String },
    #[error(
        "{label} joined as a master without slots, and is not a replica: {why}. Repeat on it: CLUSTER REPLICATE {master}"
    )]
    NotReplica { label: String, master: String, why: String },
    #[error("No master to replicate")]
    NoMaster,
    #[error("Node {0} is not empty! Reshard data away and try again.")]
    HasSlots(String),
    #[error(
        "Node {label} is not empty: it owns no slots, but {why}. Mend that first: slotstorm cluster fix {label}"
    )]
    HasKeys { label: String, why: String },
    #[error("Node {0} is the only one.")]
    Alone(String),
    #[error(
        "{label} was not forgotten by all: {missing}. They, or gossip, may bring it back; repeat: slotstorm cluster \
         del-node"
    )]
    Remembered { label: String, missing: String },
}

/// Who joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    pub id: String,
    /// The master that it follows now.
    pub master: Option<String>,
    /// Nodes that do not know it yet.
    pub unknown_to: Vec<String>,
}

/// What the entry node and the new one know must come in time; the others may take this long before they are only
/// named, milliseconds.
const OTHERS_KNOW_MS: u64 = 5000;

/// Makes an empty node a member of the fleet's cluster, and waits until every node knows it.
pub async fn add_node<R: Reach>(
    fleet: &mut Fleet<R>,
    plan: &AddNode,
    tell: Teller<'_>,
) -> Result<Added, MembershipError> {
    let reach = fleet.reach.clone();
    let mut new = connection(&reach, plan.new);
    let patience = || reach.now() + ms(plan.timeout_ms.min(5000));
    let id = empty_node(&mut new, plan.new, patience()).await?;
    let master = match plan.role {
        NewRole::Master => None,
        NewRole::ReplicaOf(chosen) => Some(chosen),
        NewRole::Replica => {
            let fewest = fleet.masters().into_iter().min_by_key(|it| (fleet.replicas_of(*it).len(), *it));
            let fewest = fewest.ok_or(MembershipError::NoMaster)?;
            line(tell, format!("Automatically selected master {}", fleet.nodes[fewest].label()));
            Some(fewest)
        }
    };
    if master.is_none() {
        copy_functions(fleet, &mut new, plan.new, tell).await?;
    }
    step(tell, format!("Send CLUSTER MEET to node {} to make it join the cluster.", plan.new));
    // The new node meets everybody, so that nobody has to hear of it by gossip (which a node that was told to forget
    // it within the last minute would not believe); only the entry node must take it.
    for index in 0..fleet.nodes.len() {
        let node = &fleet.nodes[index];
        let (port, bus) = (node.port.to_string(), node.bus_port.to_string());
        let mut meet = vec!["CLUSTER", "MEET", &node.host, &port];
        if node.port.checked_add(10_000) != Some(node.bus_port) {
            meet.push(&bus);
        }
        match new.ask(&meet, patience()).await {
            Err(error) if index == 0 => return Err(error.into()),
            _ => {}
        }
    }
    line(tell, "Waiting for the cluster to join");
    let unknown_to = joined(fleet, &mut new, &id, plan).await?;
    if !unknown_to.is_empty() {
        tell(Note::Warning(format!("Not known yet to {}: gossip will tell them", unknown_to.join(", "))));
    }
    let Some(master) = master else { return Ok(Added { id, master: None, unknown_to }) };
    let (label, master_id) = (fleet.nodes[master].label(), fleet.nodes[master].id.clone());
    step(tell, format!("Configure node as replica of {label}."));
    let until = reach.now() + ms(plan.timeout_ms);
    loop {
        match new.ask(&["CLUSTER", "REPLICATE", &master_id], patience()).await {
            Ok(_) => break,
            Err(AskError::Server { text, .. }) if text.contains("nknown node") && reach.now() < until => {}
            Err(error) => {
                let why = error.to_string();
                return Err(MembershipError::NotReplica {
                    label: plan.new.to_string(),
                    master: master_id,
                    why,
                });
            }
        }
        reach.sleep_until(reach.now() + ms(20)).await;
    }
    Ok(Added { id, master: Some(master_id), unknown_to })
}

/// The id of a node that knows nobody and holds nothing.
async fn empty_node<M: crate::backend::Mailbox>(
    new: &mut super::resp::Connection<M>,
    address: SocketAddr,
    deadline: u64,
) -> Result<String, MembershipError> {
    let commands: [&[&str]; 3] = [&["INFO"], &["CLUSTER", "INFO"], &["CLUSTER", "MYID"]];
    let replies = new.pipeline(&commands, deadline).await?;
    let info = expect_text(address, "INFO", &replies[0])?;
    if info_field(&info, "cluster_enabled") != Some("1") {
        return Err(MembershipError::NoCluster(address));
    }
    let cluster = expect_text(address, "CLUSTER INFO", &replies[1])?;
    let cluster = parse::cluster_info(&cluster).map_err(|error| super::fleet::nonsense(address, &error))?;
    if info_field(&info, "db0").is_some() || cluster.known_nodes != 1 || cluster.slots_assigned > 0 {
        return Err(MembershipError::NotEmpty(address));
    }
    Ok(expect_text(address, "CLUSTER MYID", &replies[2])?)
}

/// A new master gets the functions of the others; a server that knows none has none to give.
async fn copy_functions<R: Reach>(
    fleet: &mut Fleet<R>,
    new: &mut super::resp::Connection<R::Mailbox>,
    address: SocketAddr,
    tell: Teller<'_>,
) -> Result<(), MembershipError> {
    step(tell, "Getting functions from cluster");
    let dump = match fleet.ask(0, &["FUNCTION", "DUMP"]).await {
        Ok(Reply::BulkString(dump)) => dump,
        Ok(_) | Err(AskError::Server { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    step(tell, format!("Send FUNCTION LIST to {address} to verify there is no functions in it"));
    match new.ask(&["FUNCTION", "LIST"], fleet.deadline()).await? {
        Reply::Array(list) if list.is_empty() => {}
        other => return Err(MembershipError::Functions(format!("FUNCTION LIST of {address}: {other:?}"))),
    }
    step(tell, format!("Send FUNCTION RESTORE to {address}"));
    let words: [&[u8]; 3] = [b"FUNCTION", b"RESTORE", &dump];
    new.ask(&words, fleet.deadline()).await.map_err(|error| MembershipError::Functions(error.to_string()))?;
    Ok(())
}

/// Waits until the entry node and the new one know each other, and the new one knows all the others and holds the
/// cluster to be as well as the entry node does. Who does not know it then.
async fn joined<R: Reach>(
    fleet: &mut Fleet<R>,
    new: &mut super::resp::Connection<R::Mailbox>,
    id: &str,
    plan: &AddNode,
) -> Result<Vec<String>, MembershipError> {
    let begun = fleet.reach.now();
    let until = begun + ms(plan.timeout_ms);
    loop {
        fleet.refresh().await;
        let knows = |node: &super::fleet::Node| node.table.iter().any(|it| it.id == id && it.member());
        let deadline = fleet.deadline();
        let seen = super::fleet::nodes_of(new, deadline).await.unwrap_or_default();
        let missing = fleet.nodes.iter().find(|node| !seen.iter().any(|it| it.id == node.id && it.member()));
        let unknown_to: Vec<String> =
            fleet.nodes.iter().filter(|node| !knows(node)).map(super::fleet::Node::label).collect();
        let why = if let Some(missing) = missing {
            Some(format!("it does not know {}", missing.label()))
        } else if !knows(&fleet.nodes[0]) {
            Some(format!("{} does not know it", fleet.nodes[0].label()))
        } else if cluster_ok(&mut fleet.links[0], deadline).await && !cluster_ok(new, deadline).await {
            Some("it does not hold the cluster ok".to_owned()) // it would refuse keys
        } else {
            None
        };
        match why {
            None if unknown_to.is_empty() => return Ok(unknown_to),
            None if fleet.reach.now() >= until.min(begun + ms(OTHERS_KNOW_MS)) => return Ok(unknown_to),
            Some(why) if fleet.reach.now() >= until => {
                let waited_ms = (fleet.reach.now() - begun) / ms(1);
                return Err(MembershipError::NotJoined { label: plan.new.to_string(), waited_ms, why });
            }
            _ => fleet.reach.sleep_until(fleet.reach.now() + ms(25)).await,
        }
    }
}

/// `cluster_state:ok`.
pub async fn cluster_ok<M: crate::backend::Mailbox>(
    link: &mut super::resp::Connection<M>,
    deadline: u64,
) -> bool {
    let text = link.ask_text(&["CLUSTER", "INFO"], deadline).await.unwrap_or_default();
    parse::cluster_info(&text).is_ok_and(|info| info.ok)
}

/// Takes a node without slots out: every other node forgets it (its replicas follow another master first), and it is
/// reset, so that it knows nobody.
pub async fn del_node<R: Reach>(
    fleet: &mut Fleet<R>,
    node: usize,
    tell: Teller<'_>,
) -> Result<(), MembershipError> {
    let (label, id) = (fleet.nodes[node].label(), fleet.nodes[node].id.clone());
    if !fleet.nodes[node].own.slots.is_empty() {
        return Err(MembershipError::HasSlots(label));
    }
    if fleet.nodes.len() == 1 {
        return Err(MembershipError::Alone(label));
    }
    if fleet.nodes[node].master() {
        // What it holds would be lost with its reset, and a reset that is refused leaves it half taken out.
        let keys = fleet.ask(node, &["DBSIZE"]).await?;
        let keys = super::fleet::expect_number(fleet.nodes[node].dial, "DBSIZE", &keys)?;
        let own = &fleet.nodes[node].own;
        let why = if keys > 0 {
            Some(format!("it holds {keys} keys"))
        } else {
            (own.importing.len() + own.migrating.len() > 0).then(|| "it has open slots".to_owned())
        };
        if let Some(why) = why {
            return Err(MembershipError::HasKeys { label, why });
        }
    }
    step(tell, "Sending CLUSTER FORGET messages to the cluster...");
    let mut missing = Vec::new();
    for absent in &fleet.absent {
        missing.push(format!("{}:{} (not there)", absent.line.ip, absent.line.port));
    }
    let mut moved_to: Vec<usize> = Vec::new();
    for other in (0..fleet.nodes.len()).filter(|other| *other != node) {
        if fleet.nodes[other].own.master_id.as_deref() == Some(&id) {
            let fewest = fleet
                .masters()
                .into_iter()
                .filter(|it| *it != node)
                .min_by_key(|it| (fleet.replicas_of(*it).len() + count(&moved_to, *it), *it));
            let new_master = fewest.ok_or(MembershipError::NoMaster)?;
            let (follower, followed) = (fleet.nodes[other].label(), fleet.nodes[new_master].label());
            step(tell, format!("{follower} as replica of {followed}"));
            let master_id = fleet.nodes[new_master].id.clone();
            fleet.ask(other, &["CLUSTER", "REPLICATE", &master_id]).await?;
            moved_to.push(new_master);
        }
        match fleet.ask(other, &["CLUSTER", "FORGET", &id]).await {
            Ok(_) => {}
            Err(AskError::Server { text, .. }) if text.contains("nknown node") => {}
            Err(error) => missing.push(format!("{}: {error}", fleet.nodes[other].label())),
        }
    }
    step(tell, "Sending CLUSTER RESET SOFT to the deleted node.");
    fleet.ask(node, &["CLUSTER", "RESET", "SOFT"]).await?;
    if missing.is_empty() {
        Ok(())
    } else {
        Err(MembershipError::Remembered { label, missing: missing.join(", ") })
    }
}

fn count(list: &[usize], wanted: usize) -> usize {
    list.iter().filter(|it| **it == wanted).count()
}

/// The same command to every node that `wanted` lets through; each node's label and answer.
pub async fn call<R: Reach>(
    fleet: &mut Fleet<R>,
    wanted: impl Fn(bool) -> bool,
    words: &[String],
) -> Vec<(String, Result<Reply, AskError>)> {
    let chosen: Vec<usize> = (0..fleet.nodes.len()).filter(|it| wanted(fleet.nodes[*it].master())).collect();
    let answers = fleet.pipeline_to(&chosen, &[words.to_vec()]).await;
    answers
        .into_iter()
        .map(|(index, replies)| (fleet.nodes[index].label(), replies.map(|mut replies| replies.remove(0))))
        .collect()
}

/// A reply as a person reads it: texts and numbers as they are, lists one item a line.
pub fn readable(reply: &Reply) -> String {
    match reply {
        Reply::Error(text) => text.to_string(),
        Reply::Integer(number) => number.to_string(),
        Reply::Null => String::new(),
        Reply::Array(items) => items.iter().map(readable).collect::<Vec<_>>().join("\n"),
        other => text_of(other).unwrap_or_default(),
    }
}

/// Sets cluster-node-timeout on every node, and writes it to their files; (how many took it, how many did not).
pub async fn set_timeout<R: Reach>(
    fleet: &mut Fleet<R>,
    timeout_ms: u64,
    tell: Teller<'_>,
) -> (usize, usize) {
    step(tell, "Reconfiguring node timeout in every cluster node...");
    let commands = [
        ["CONFIG", "SET", "cluster-node-timeout"]
            .map(str::to_owned)
            .into_iter()
            .chain([timeout_ms.to_string()])
            .collect(),
        ["CONFIG", "REWRITE"].map(str::to_owned).to_vec(),
    ];
    let all: Vec<usize> = (0..fleet.nodes.len()).collect();
    let (mut good, mut bad) = (0, 0);
    for (index, answer) in fleet.pipeline_to(&all, &commands).await {
        let trouble = match answer {
            Err(error) => Some(error.to_string()),
            Ok(replies) => replies
                .iter()
                .find_map(|it| if let Reply::Error(text) = it { Some(text.to_string()) } else { None }),
        };
        let label = fleet.nodes[index].label();
        match trouble {
            None => {
                line(tell, format!("*** New timeout set for {label}"));
                good += 1;
            }
            Some(why) => {
                line(tell, format!("ERR setting node-timeout for {label}: {why}"));
                bad += 1;
            }
        }
    }
    step(tell, format!("New node timeout set. {good} OK, {bad} ERR."));
    (good, bad)
}

/// The check that add-node begins with; false if something is wrong.
pub async fn fit_to_grow<R: Reach>(fleet: &mut Fleet<R>, tell: Teller<'_>) -> Result<bool, AskError> {
    let options = CheckOptions { settle_ms: 2000, ..CheckOptions::default() };
    let health = health::check(fleet, options, tell).await?;
    if !health.clean() {
        tell(Note::Stop("Please fix your cluster problems before adding a node".to_owned()));
    }
    Ok(health.clean())
}
