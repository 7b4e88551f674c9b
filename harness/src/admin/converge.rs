//! Whether a cluster is whole, and waiting until it is: every slot owned once, one view in all nodes, every replica
//! online and in sync.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use slotstorm_checker::record::Nanos;

use super::parse::{self, ClusterInfo, NodeLine, ReplicationInfo, SLOTS, count_slots};
use super::resp::{AskError, Connection, connection, text_of};
use super::{Reach, join_all, ms};
use crate::backend::Mailbox;

/// What one node says of itself and of the others at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Sorted by id.
    pub table: Vec<NodeLine>,
    pub info: ClusterInfo,
    pub replication: ReplicationInfo,
}

impl Probe {
    /// Its own line.
    pub fn me(&self) -> Option<&NodeLine> {
        self.table.iter().find(|line| line.myself())
    }

    fn my_id(&self) -> &str {
        self.me().map_or("", |line| &line.id)
    }
}

/// Asks one node all that [`Probe`] holds, in one write.
pub async fn probe<M: Mailbox>(node: &mut Connection<M>, deadline: Nanos) -> Result<Probe, AskError> {
    let commands: [&[&str]; 3] = [&["CLUSTER", "NODES"], &["CLUSTER", "INFO"], &["INFO", "replication"]];
    let replies = node.pipeline(&commands, deadline).await?;
    let address = node.address();
    let mut texts = Vec::with_capacity(3);
    for (reply, words) in replies.iter().zip(commands) {
        let command = words.join(" ");
        texts.push(match reply {
            super::resp::Reply::Error(text) => {
                return Err(AskError::Server { address, command, text: text.to_string() });
            }
            reply => text_of(reply).ok_or_else(|| AskError::Nonsense {
                address,
                command,
                why: "no text".to_owned(),
            })?,
        });
    }
    let nonsense = |error: parse::ParseError| AskError::Nonsense {
        address,
        command: error.what.to_owned(),
        why: error.to_string(),
    };
    Ok(Probe {
        table: parse::nodes(&texts[0]).map_err(nonsense)?,
        info: parse::cluster_info(&texts[1]).map_err(nonsense)?,
        replication: parse::replication_info(&texts[2]).map_err(nonsense)?,
    })
}

/// How [`wait_whole`] waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitOptions {
    /// Given up at this time.
    pub deadline: Nanos,
    /// Between two looks, milliseconds.
    pub poll_ms: u64,
    /// Every replica at its master's offset. Only a cluster that nobody writes to can satisfy it.
    pub equal_offsets: bool,
    /// Masters expected; `None`: as many as there are.
    pub masters: Option<usize>,
}

/// A node to be watched: its name for people, and its real address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    pub name: String,
    pub address: SocketAddr,
}

/// The cluster did not become whole in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster is not whole after {waited_ms} ms: {why}")]
pub struct NotWhole {
    pub waited_ms: u64,
    /// The last thing that was missing.
    pub why: String,
}

/// A whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// What each node said, in the order of the nodes.
    pub probes: Vec<Probe>,
    /// How long it took.
    pub took: Nanos,
}

/// Looks until the cluster is whole. `missing` is told each time what is missing, when that changes.
pub async fn wait_whole<R: Reach>(
    reach: &R,
    nodes: &[Watched],
    options: WaitOptions,
    mut missing: impl FnMut(&str),
) -> Result<Whole, NotWhole> {
    let begun = reach.now();
    let mut connections: Vec<_> = nodes.iter().map(|node| connection(reach, node.address)).collect();
    let mut last = String::new();
    loop {
        let patience = reach.now() + ms(1000);
        let probes = join_all(connections.iter_mut().map(|node| probe(node, patience))).await;
        match first_gap(nodes, &probes, options) {
            None => {
                let probes = probes.into_iter().flatten().collect();
                return Ok(Whole { probes, took: reach.now() - begun });
            }
            Some(gap) => {
                if gap != last {
                    missing(&gap);
                    last = gap;
                }
            }
        }
        if reach.now() >= options.deadline {
            return Err(NotWhole { waited_ms: (reach.now() - begun) / ms(1), why: last });
        }
        reach.sleep_until((reach.now() + ms(options.poll_ms)).min(options.deadline)).await;
    }
}

/// The first reason why the cluster is not whole; `None` if it is.
fn first_gap(nodes: &[Watched], probes: &[Result<Probe, AskError>], options: WaitOptions) -> Option<String> {
    let mut answered = Vec::with_capacity(nodes.len());
    for (node, probe) in nodes.iter().zip(probes) {
        match probe {
            Ok(probe) if probe.me().is_some() => answered.push((node.name.as_str(), probe)),
            Ok(_) => return Some(format!("{} does not know which node it is", node.name)),
            Err(error) => return Some(format!("{}: {error}", node.name)),
        }
    }
    let ids: BTreeSet<&str> = answered.iter().map(|(_, probe)| probe.my_id()).collect();
    for (name, probe) in &answered {
        if let Some(gap) = gap_in_table(name, probe, &ids) {
            return Some(gap);
        }
    }
    let (first_name, first) = answered.first()?;
    for (name, probe) in &answered {
        if shape(probe) != shape(first) {
            return Some(format!("{name} and {first_name} disagree on roles, epochs or slots"));
        }
    }
    let covered: u32 = first.table.iter().map(NodeLine::slot_count).sum();
    if covered != u32::from(SLOTS) {
        return Some(format!("{covered} of {SLOTS} slots have an owner"));
    }
    if let Some(expected) = options.masters {
        let masters = first.table.iter().filter(|line| line.master()).count();
        if masters != expected {
            return Some(format!("{masters} masters, {expected} are expected"));
        }
    }
    answered.iter().find_map(|(name, probe)| gap_in_replication(name, probe, &answered, options))
}

fn gap_in_table(name: &str, probe: &Probe, ids: &BTreeSet<&str>) -> Option<String> {
    let known: BTreeSet<&str> = probe.table.iter().map(|line| line.id.as_str()).collect();
    for line in &probe.table {
        let whom = if line.ip.is_empty() { line.id.clone() } else { format!("{}:{}", line.ip, line.port) };
        if !line.member() {
            return Some(format!("{name} still shakes hands with {whom}"));
        }
        if line.failed() || line.suspected() {
            return Some(format!("{name} holds {whom} failed"));
        }
        if !line.connected {
            return Some(format!("{name} has no bus link to {whom}"));
        }
        if !line.migrating.is_empty() || !line.importing.is_empty() {
            return Some(format!("{name} has open slots"));
        }
        if !line.master() && line.master_id.is_none() {
            return Some(format!("{name} does not know the master of {whom}"));
        }
    }
    if known != *ids {
        return Some(format!("{name} knows {} of {} nodes", known.intersection(ids).count(), ids.len()));
    }
    (!probe.info.ok).then(|| format!("{name} says cluster_state:fail"))
}

/// Role, master's id, config epoch, slots.
type Claims<'p> = (bool, Option<&'p str>, u64, &'p [(u16, u16)]);

/// What all nodes must agree on: role, master, slots of each node, and the config epochs of masters.
fn shape(probe: &Probe) -> BTreeMap<&str, Claims<'_>> {
    let epoch = |line: &NodeLine| if line.master() { line.epoch } else { 0 };
    probe
        .table
        .iter()
        .map(|line| (&line.id[..], (line.master(), line.master_id.as_deref(), epoch(line), &line.slots[..])))
        .collect()
}

fn gap_in_replication(
    name: &str,
    probe: &Probe,
    all: &[(&str, &Probe)],
    options: WaitOptions,
) -> Option<String> {
    let me = probe.me()?;
    if probe.replication.master != me.master() {
        return Some(format!("{name} has one role in INFO and another in CLUSTER NODES"));
    }
    let Some(master_id) = me.master_id.as_deref() else {
        let expected = probe.table.iter().filter(|line| line.master_id.as_ref() == Some(&me.id)).count();
        let online = probe.replication.replicas.iter().filter(|replica| replica.online).count();
        return (online < expected).then(|| format!("{name} has {online} of {expected} replicas online"));
    };
    if !probe.replication.link_up || probe.replication.sync_in_progress {
        return Some(format!("{name} is not in sync with its master yet"));
    }
    let (master_name, master) = all.iter().find(|(_, it)| it.my_id() == master_id)?;
    if master.replication.replid != probe.replication.replid {
        return Some(format!("{name} follows another history than {master_name} writes"));
    }
    let (applied, written) = (probe.replication.offset, master.replication.offset);
    (options.equal_offsets && applied != written)
        .then(|| format!("{name} is at offset {applied}, {master_name} at {written}"))
}

/// Slots of each master in a probe, in the order of their first slot.
pub fn shards(probe: &Probe) -> Vec<(String, Vec<(u16, u16)>)> {
    let mut shards: Vec<_> = probe
        .table
        .iter()
        .filter(|line| line.master() && count_slots(&line.slots) > 0)
        .map(|line| (line.id.clone(), line.slots.clone()))
        .collect();
    shards.sort_by_key(|(_, slots)| slots.first().copied());
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    /// A master of everything and its replica, as both see it.
    fn pair() -> (Vec<Watched>, Vec<Result<Probe, AskError>>) {
        let table = |me: &str| {
            let text = format!(
                "{A} 127.1.1.1:6379@16379 master - 0 0 3 connected 0-16383\n\
                 {B} 127.1.1.2:6379@16379 slave {A} 0 0 3 connected\n"
            );
            let mut table = parse::nodes(&text).unwrap();
            table.iter_mut().filter(|line| line.id == me).for_each(|line| line.flags.push("myself".into()));
            table
        };
        let replica = parse::ReplicaLine { online: true, offset: 9, ..parse::ReplicaLine::default() };
        let one = |me: &str, master: bool| Probe {
            table: table(me),
            info: ClusterInfo { ok: true, ..ClusterInfo::default() },
            replication: ReplicationInfo {
                master,
                replicas: if master { vec![replica.clone()] } else { Vec::new() },
                link_up: !master,
                replid: "r".to_owned(),
                offset: 9,
                ..ReplicationInfo::default()
            },
        };
        let watched = |name: &str| Watched { name: name.to_owned(), address: "127.1.0.1:1".parse().unwrap() };
        (vec![watched("n1"), watched("n2")], vec![Ok(one(A, true)), Ok(one(B, false))])
    }

    const OPTIONS: WaitOptions =
        WaitOptions { deadline: 0, poll_ms: 1, equal_offsets: true, masters: Some(1) };

    #[test]
    fn a_whole_cluster_has_no_gap() {
        let (nodes, probes) = pair();
        assert_eq!(first_gap(&nodes, &probes, OPTIONS), None);
    }

    #[test]
    fn each_thing_that_can_be_missing_is_named() {
        type Break = fn(&mut Vec<Result<Probe, AskError>>);
        fn probe(probes: &mut [Result<Probe, AskError>], node: usize) -> &mut Probe {
            probes[node].as_mut().unwrap()
        }
        let cases: [(&str, Break); 10] = [
            ("did not answer", |p| p[1] = Err(AskError::Timeout { address: "127.1.0.2:1".parse().unwrap() })),
            ("cluster_state:fail", |p| probe(p, 1).info.ok = false),
            ("disagree", |p| probe(p, 1).table[0].epoch = 2),
            ("knows 1 of 2", |p| drop(probe(p, 0).table.pop())),
            ("failed", |p| probe(p, 0).table[1].flags.push("fail?".to_owned())),
            ("no bus link", |p| probe(p, 0).table[1].connected = false),
            ("shakes hands", |p| probe(p, 0).table[1].flags.push("handshake".to_owned())),
            ("open slots", |p| probe(p, 0).table[0].migrating.push((7, B.to_owned()))),
            ("0 of 1 replicas online", |p| probe(p, 0).replication.replicas[0].online = false),
            ("at offset 8", |p| probe(p, 1).replication.offset = 8),
        ];
        for (expected, break_it) in cases {
            let (nodes, mut probes) = pair();
            break_it(&mut probes);
            let gap = first_gap(&nodes, &probes, OPTIONS).unwrap_or_default();
            assert!(gap.contains(expected), "{expected:?} expected, found {gap:?}");
        }
    }

    #[test]
    fn a_lagging_replica_is_no_gap_while_clients_write() {
        let (nodes, mut probes) = pair();
        probes[1].as_mut().unwrap().replication.offset = 8;
        let options = WaitOptions { equal_offsets: false, ..OPTIONS };
        assert_eq!(first_gap(&nodes, &probes, options), None);
    }
}
