//! A failover by hand: of a master to its best replica, or to a given replica; and waiting until all nodes agree.

use slotstorm_checker::record::Nanos;

use super::fleet::Fleet;
use super::health;
use super::note::{Note, Teller, step};
use super::parse::{self, NodeLine, ReplicationInfo};
use super::resp::AskError;
use super::{Reach, ms};

/// How hard a replica takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// With the master's help: no acknowledged write is lost.
    #[default]
    Plain,
    /// Without the master, by election.
    Force,
    /// Without anybody.
    Takeover,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverPlan {
    /// A node's id (or the start of one), or its `host:port`. A master that is gone may be named, too.
    pub node: String,
    pub mode: Mode,
    /// For the promotion, and again for the agreement.
    pub timeout_ms: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedOver {
    pub old_master: String,
    pub new_master: String,
    pub new_id: String,
    /// Slots that it serves now.
    pub slots: u32,
    /// From the command to the promotion.
    pub promotion: Nanos,
    /// From the command until all nodes that answer agreed; `None` if they did not in time.
    pub agreement: Option<Nanos>,
}

/// Why nobody was promoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailoverError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("no node of this cluster is {0}")]
    Unknown(String),
    #[error("{0} has no replica that answers")]
    NoReplica(String),
    #[error("{replica} does not start a failover: {why}")]
    Refused { replica: String, why: String },
    #[error("{replica} is not master after {waited_ms} ms, {old_master} still is: {why}")]
    NotPromoted { replica: String, old_master: String, waited_ms: u64, why: String },
}

/// A manual failover that timed out on the server may be asked for again after this long.
const SERVER_TIMEOUT_MS: u64 = 5500;

/// Voters vote only for nodes that they know as replicas; who became one just now is waited for so long.
const VIEWS_MS: u64 = 5000;
/// Slots travel by gossip, too.
const SETTLE_MS: u64 = 5000;

/// Starts the failover, waits for its end.
pub async fn fail_over<R: Reach>(
    fleet: &mut Fleet<R>,
    plan: &FailoverPlan,
    tell: Teller<'_>,
) -> Result<FailedOver, FailoverError> {
    let (replica, old_master) = choose(fleet, &plan.node).await?;
    let label = fleet.nodes[replica].label();
    let command: &[&str] = match plan.mode {
        Mode::Plain => &["CLUSTER", "FAILOVER"],
        Mode::Force => &["CLUSTER", "FAILOVER", "FORCE"],
        Mode::Takeover => &["CLUSTER", "FAILOVER", "TAKEOVER"],
    };
    if plan.mode != Mode::Takeover {
        let master = fleet.nodes[replica].own.master_id.clone().unwrap_or_default();
        let (id, patience) = (fleet.nodes[replica].id.clone(), plan.timeout_ms.min(VIEWS_MS));
        if !all_see(fleet, patience, |line| line.id != id || line.master_id.as_ref() == Some(&master)).await {
            tell(Note::Warning(format!(
                "Not every node knows {label} as a replica of {old_master}: votes may lack"
            )));
        }
    }
    let old_id = fleet.nodes[replica].own.master_id.clone();
    step(tell, format!("Sending {} to {label}, replica of {old_master}", command.join(" ")));
    let begun = fleet.reach.now();
    let until = begun + ms(plan.timeout_ms);
    let mut asked = None;
    loop {
        let now = fleet.reach.now();
        if asked.is_none_or(|at| now >= at + ms(SERVER_TIMEOUT_MS)) {
            match fleet.ask(replica, command).await {
                Ok(_) => asked = Some(now),
                // It became master between two looks.
                Err(AskError::Server { text, .. }) if asked.is_some() && text.contains("to a replica") => {}
                Err(AskError::Server { text, .. }) => {
                    return Err(FailoverError::Refused { replica: label, why: text });
                }
                Err(error) => return Err(error.into()),
            }
        }
        let deadline = fleet.deadline().min(until.max(now + ms(100)));
        let table = super::fleet::nodes_of(&mut fleet.links[replica], deadline).await;
        if let Ok(table) = &table
            && let Some(own) = table.iter().find(|line| line.myself())
            && own.master()
        {
            let promotion = fleet.reach.now() - begun;
            let slots = own.slot_count();
            let new_id = own.id.clone();
            step(tell, format!("{label} is master now, after {} ms", promotion / ms(1)));
            // The old master counts, too, if it answers: until all know it as a replica, nobody votes for it.
            let old_answers = fleet.nodes.iter().any(|node| Some(&node.id) == old_id.as_ref());
            let settled = |line: &NodeLine| {
                let is_old = old_answers && Some(&line.id) == old_id.as_ref();
                (line.id != new_id || line.master()) && (!is_old || line.master_id.as_ref() == Some(&new_id))
            };
            let agreed =
                all_see(fleet, plan.timeout_ms, settled).await && health::settle(fleet, SETTLE_MS).await;
            let agreement = agreed.then(|| fleet.reach.now() - begun);
            return Ok(FailedOver { old_master, new_master: label, new_id, slots, promotion, agreement });
        }
        if fleet.reach.now() >= until {
            let why = match table {
                Err(error) => error.to_string(),
                Ok(_) => diagnosis(fleet, replica, plan.mode).await,
            };
            let waited_ms = (fleet.reach.now() - begun) / ms(1);
            return Err(FailoverError::NotPromoted { replica: label, old_master, waited_ms, why });
        }
        fleet.reach.sleep_until(fleet.reach.now() + ms(5)).await;
    }
}

/// The replica that shall take over, and its master's label.
async fn choose<R: Reach>(fleet: &mut Fleet<R>, wanted: &str) -> Result<(usize, String), FailoverError> {
    let by_label =
        fleet.nodes.iter().position(|node| node.label() == wanted || node.dial.to_string() == wanted);
    if let Some(index) = by_label.or_else(|| fleet.find(wanted)) {
        if fleet.nodes[index].master() {
            let label = fleet.nodes[index].label();
            let best = best_replica(fleet, fleet.replicas_of(index)).await;
            return best.map(|best| (best, label.clone())).ok_or(FailoverError::NoReplica(label));
        }
        let master_id = fleet.nodes[index].own.master_id.clone().unwrap_or_default();
        let known = fleet.nodes[index].table.iter().find(|line| line.id == master_id);
        let label = known.map_or_else(|| master_id.clone(), |line| format!("{}:{}", line.ip, line.port));
        return Ok((index, label));
    }
    let gone = fleet.absent.iter().map(|absent| &absent.line).find(|line| {
        format!("{}:{}", line.ip, line.port) == wanted || (wanted.len() >= 6 && line.id.starts_with(wanted))
    });
    let Some(gone) = gone else { return Err(FailoverError::Unknown(wanted.to_owned())) };
    let (id, label) = (gone.id.clone(), format!("{}:{}", gone.ip, gone.port));
    let followers =
        (0..fleet.nodes.len()).filter(|index| fleet.nodes[*index].own.master_id.as_ref() == Some(&id));
    let followers = followers.collect();
    let best = best_replica(fleet, followers).await;
    best.map(|best| (best, label.clone())).ok_or(FailoverError::NoReplica(label))
}

/// Of these replicas the one whose link is up and that applied most.
async fn best_replica<R: Reach>(fleet: &mut Fleet<R>, replicas: Vec<usize>) -> Option<usize> {
    let answers = fleet.pipeline_to(&replicas, &[vec!["INFO", "replication"]]).await;
    let read = |(index, answer): (usize, Result<Vec<super::resp::Reply>, AskError>)| {
        let text = super::resp::text_of(&answer.ok()?[0])?;
        let info = parse::replication_info(&text).ok()?;
        Some((info.link_up, info.offset, std::cmp::Reverse(index)))
    };
    answers.into_iter().filter_map(read).max().map(|(_, _, std::cmp::Reverse(index))| index)
}

/// What stands in the way, as far as one can see from outside.
async fn diagnosis<R: Reach>(fleet: &mut Fleet<R>, replica: usize, mode: Mode) -> String {
    let mut found = Vec::new();
    let info = match fleet.ask(replica, &["INFO", "replication"]).await {
        Ok(reply) => super::resp::text_of(&reply).and_then(|text| parse::replication_info(&text).ok()),
        Err(error) => return error.to_string(),
    };
    let info: ReplicationInfo = info.unwrap_or_default();
    if !info.link_up && mode == Mode::Plain {
        found.push("its link to its master is down (--force does without the master)".to_owned());
    }
    let voters = fleet.nodes[replica].table.iter().filter(|line| line.master() && !line.slots.is_empty());
    let (mut in_all, mut up) = (0, 0);
    for line in voters {
        in_all += 1;
        up += usize::from(!line.failed() && !line.suspected());
    }
    if up < in_all / 2 + 1 {
        found.push(format!(
            "it sees {up} of {in_all} masters alive, a majority must vote (--takeover asks nobody)"
        ));
    }
    if found.is_empty() {
        found.push("it did not catch up with its master, or did not get the votes".to_owned());
    }
    found.join("; ")
}

/// Waits until `right` holds of every line of every table of the nodes that answer.
async fn all_see<R: Reach>(fleet: &mut Fleet<R>, timeout_ms: u64, right: impl Fn(&NodeLine) -> bool) -> bool {
    let until = fleet.reach.now() + ms(timeout_ms);
    loop {
        fleet.refresh().await;
        if fleet.nodes.iter().all(|node| node.table.iter().all(&right)) {
            return true;
        }
        if fleet.reach.now() >= until {
            return false;
        }
        fleet.reach.sleep_until(fleet.reach.now() + ms(20)).await;
    }
}
