//! Making a cluster out of empty nodes, in the time that the protocol needs.
//!
//! Order matters for speed. Slots and config epochs are set before anybody meets, so the first packets carry them; each
//! replica first meets its own master alone and becomes its replica, and only then all nodes meet each other, so that
//! no role has to travel by gossip. What remains is the two seconds for which a master that just started refuses to
//! call the cluster ok, and all of the above happens inside them.

use std::net::SocketAddr;

use slotstorm_checker::record::Nanos;

use super::converge::{NotWhole, WaitOptions, Watched, Whole, shards, wait_whole};
use super::parse::{self, SLOTS};
use super::resp::{AskError, Connection, Reply, connection};
use super::{Reach, join_all, ms};
use crate::backend::Mailbox;

/// A node that shall be part of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// For people.
    pub name: String,
    /// Where the administrator reaches it.
    pub address: SocketAddr,
    /// Where the other nodes reach it; must be a literal address.
    pub announced: SocketAddr,
    /// Its bus port at `announced`.
    pub bus_port: u16,
    /// The member (by its place in the list) that it replicates; `None` for a master.
    pub master: Option<usize>,
}

/// What is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatePlan {
    pub members: Vec<Member>,
    /// All of it, in milliseconds.
    pub timeout_ms: u64,
    /// Write and delete one key on each master at the end, and WAIT for all its replicas: a proof that replication
    /// works, and the only way to know that a replica has acknowledged anything. Not on other people's servers.
    pub prove_replication: bool,
}

impl CreatePlan {
    fn masters(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|index| self.members[*index].master.is_none()).collect()
    }

    fn replicas_of(&self, master: usize) -> usize {
        self.members.iter().filter(|member| member.master == Some(master)).count()
    }
}

/// Slots dealt evenly to `masters` masters, as redis-cli does.
pub fn even_slots(masters: u16) -> Vec<(u16, u16)> {
    let per_master = f64::from(SLOTS) / f64::from(masters.max(1));
    let edge = |index: u16| (f64::from(index) * per_master).round() as u16;
    (0..masters)
        .map(|index| (edge(index), if index + 1 == masters { SLOTS } else { edge(index + 1) } - 1))
        .collect()
}

/// What happens, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every node answers.
    Up { at: Nanos },
    /// Slots are dealt.
    Assigned { at: Nanos },
    /// Every replica has its master.
    Replicating { at: Nanos },
    /// Everybody was told of everybody.
    Introduced { at: Nanos },
    /// Still missing.
    Missing { at: Nanos, what: String },
    /// The cluster is whole.
    Whole { at: Nanos },
    /// Every replica acknowledged a write.
    Proven { at: Nanos },
}

/// A cluster that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Node ids, in the order of the members.
    pub ids: Vec<String>,
    /// What each node said when the cluster was whole.
    pub whole: Whole,
    /// From the call to the end.
    pub took: Nanos,
}

impl Created {
    /// Slots by node id.
    pub fn shards(&self) -> Vec<(String, Vec<(u16, u16)>)> {
        self.whole.probes.first().map(shards).unwrap_or_default()
    }
}

/// Why no cluster was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("{name} ({address}) is not empty: {why}")]
    NotEmpty { name: String, address: SocketAddr, why: String },
    #[error("{name} ({address}) has no cluster mode (cluster-enabled yes)")]
    NoCluster { name: String, address: SocketAddr },
    #[error("the replicas of {name} did not acknowledge a write: {acked} of {wanted} did")]
    NotProven { name: String, acked: i64, wanted: usize },
    #[error(transparent)]
    NotWhole(#[from] NotWhole),
}

/// Makes the cluster, and answers when it is whole.
pub async fn create<R: Reach>(
    reach: &R,
    plan: &CreatePlan,
    mut progress: impl FnMut(Progress),
) -> Result<Created, CreateError> {
    let begun = reach.now();
    let deadline = begun + ms(plan.timeout_ms);
    let mut nodes: Vec<_> = plan.members.iter().map(|member| connection(reach, member.address)).collect();

    let up = nodes.iter_mut().zip(&plan.members).map(|(node, member)| greet(reach, node, member, deadline));
    let ids: Vec<String> =
        join_all(up).await.into_iter().map(|greeted| Ok(greeted?.id)).collect::<Result<_, CreateError>>()?;
    progress(Progress::Up { at: reach.now() });

    let masters = plan.masters();
    let slots = even_slots(masters.len() as u16);
    let deal = nodes.iter_mut().enumerate().map(|(index, node)| {
        let own = masters.iter().position(|master| *master == index).map(|shard| slots[shard]);
        assign(node, own, index as u64 + 1, deadline)
    });
    all_ok(join_all(deal).await)?;
    progress(Progress::Assigned { at: reach.now() });

    let follow = nodes.iter_mut().zip(&plan.members).map(|(node, member)| {
        let master = member.master.map(|master| (&plan.members[master], ids[master].as_str()));
        replicate(reach, node, master, deadline)
    });
    all_ok(join_all(follow).await)?;
    progress(Progress::Replicating { at: reach.now() });

    // Replicas come last in most lists, and it is their packets that tell their role: the later node introduces itself.
    let meet = nodes.iter_mut().enumerate().map(|(index, node)| {
        let others = plan.members[..index].iter();
        introduce(node, others, deadline)
    });
    all_ok(join_all(meet).await)?;
    progress(Progress::Introduced { at: reach.now() });

    let watched: Vec<_> = plan
        .members
        .iter()
        .map(|member| Watched { name: member.name.clone(), address: member.address })
        .collect();
    let options = WaitOptions { deadline, poll_ms: 25, equal_offsets: false, masters: Some(masters.len()) };
    let whole = wait_whole(reach, &watched, options, |gap| {
        progress(Progress::Missing { at: reach.now(), what: gap.to_owned() });
    })
    .await?;
    progress(Progress::Whole { at: reach.now() });

    if plan.prove_replication {
        let prove =
            nodes.iter_mut().enumerate().filter(|(index, _)| masters.contains(index)).map(|(index, node)| {
                let shard = masters.iter().position(|master| *master == index).unwrap_or(0);
                let (name, replicas) = (&plan.members[index].name, plan.replicas_of(index));
                prove_replication(reach, node, name, slots[shard], replicas, deadline)
            });
        all_ok(join_all(prove).await)?;
        progress(Progress::Proven { at: reach.now() });
    }
    Ok(Created { ids, whole, took: reach.now() - begun })
}

/// A node that can become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Empty {
    pub id: String,
    /// Where it listens for its peers.
    pub bus_port: u16,
}

/// Looks whether servers that should run already do, and are empty.
pub async fn inspect<R: Reach>(
    reach: &R,
    addresses: &[SocketAddr],
    timeout_ms: u64,
) -> Vec<Result<Empty, CreateError>> {
    let look = async |address: &SocketAddr| {
        let member = Member {
            name: address.to_string(),
            address: *address,
            announced: *address,
            bus_port: 0,
            master: None,
        };
        // One attempt is enough to know that nothing listens: the clock is asked again only after a first answer.
        let mut node = connection(reach, *address);
        node.ask_text(&["PING"], reach.now() + ms(timeout_ms)).await?;
        greet(reach, &mut node, &member, reach.now() + ms(timeout_ms)).await
    };
    join_all(addresses.iter().map(look)).await
}

fn all_ok(results: Vec<Result<(), CreateError>>) -> Result<(), CreateError> {
    results.into_iter().collect()
}

/// Waits until the node answers; it must be empty.
async fn greet<R: Reach>(
    reach: &R,
    node: &mut Connection<R::Mailbox>,
    member: &Member,
    deadline: Nanos,
) -> Result<Empty, CreateError> {
    let (name, address) = (member.name.clone(), member.address);
    let mut last = None;
    let id = loop {
        match node.ask_text(&["CLUSTER", "MYID"], deadline).await {
            Ok(id) => break id,
            Err(AskError::Server { text, .. }) if text.contains("cluster support disabled") => {
                return Err(CreateError::NoCluster { name, address });
            }
            Err(error) => {
                let wait =
                    error.is_loading() || matches!(error, AskError::Refused { .. } | AskError::Closed { .. });
                if !wait || reach.now() >= deadline {
                    return Err(last.unwrap_or(error).into()); // that the time was up says less than what was before
                }
                last = Some(error);
            }
        }
        reach.sleep_until(reach.now() + ms(10)).await;
    };
    let nonsense = |error: parse::ParseError| AskError::Nonsense {
        address,
        command: error.what.to_owned(),
        why: error.to_string(),
    };
    let info =
        parse::cluster_info(&node.ask_text(&["CLUSTER", "INFO"], deadline).await?).map_err(nonsense)?;
    let why = if info.known_nodes > 1 {
        Some(format!("it knows {} other nodes (CLUSTER RESET makes it forget them)", info.known_nodes - 1))
    } else if info.slots_assigned > 0 {
        Some(format!("it owns {} slots", info.slots_assigned))
    } else {
        match node.ask(&["DBSIZE"], deadline).await? {
            Reply::Integer(0) => None,
            Reply::Integer(keys) => Some(format!("it holds {keys} keys")),
            other => Some(format!("DBSIZE answers {other:?}")),
        }
    };
    match why {
        None => {
            let table = super::fleet::nodes_of(node, deadline).await?;
            let own = table.iter().find(|line| line.myself());
            Ok(Empty {
                id,
                bus_port: own.map_or(address.port().saturating_add(10_000), |line| line.bus_port),
            })
        }
        Some(why) => Err(CreateError::NotEmpty { name, address, why }),
    }
}

/// Gives a master its slots, and every node an epoch of its own (so that no two collide while all are masters).
async fn assign<M: Mailbox>(
    node: &mut Connection<M>,
    slots: Option<(u16, u16)>,
    epoch: u64,
    deadline: Nanos,
) -> Result<(), CreateError> {
    if let Some((first, last)) = slots {
        let range = [first.to_string(), last.to_string()];
        match node.ask(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]], deadline).await {
            Ok(_) => {}
            // Before 7.0 there is no ADDSLOTSRANGE. Any other complaint comes again.
            Err(AskError::Server { .. }) => {
                let numbers: Vec<String> = (first..=last).map(|slot| slot.to_string()).collect();
                let words: Vec<&str> =
                    ["CLUSTER", "ADDSLOTS"].into_iter().chain(numbers.iter().map(String::as_str)).collect();
                node.ask(&words, deadline).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()], deadline).await?;
    Ok(())
}

/// Makes a node meet its master and follow it as soon as it knows it.
async fn replicate<R: Reach>(
    reach: &R,
    node: &mut Connection<R::Mailbox>,
    master: Option<(&Member, &str)>,
    deadline: Nanos,
) -> Result<(), CreateError> {
    let Some((member, id)) = master else { return Ok(()) };
    meet(node, member, deadline).await?;
    loop {
        match node.ask(&["CLUSTER", "REPLICATE", id], deadline).await {
            Ok(_) => return Ok(()),
            Err(AskError::Server { text, .. }) if text.contains("nknown node") && reach.now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        reach.sleep_until(reach.now() + ms(10)).await;
    }
}

async fn introduce<M: Mailbox>(
    node: &mut Connection<M>,
    others: impl Iterator<Item = &Member>,
    deadline: Nanos,
) -> Result<(), CreateError> {
    for other in others {
        meet(node, other, deadline).await?;
    }
    Ok(())
}

async fn meet<M: Mailbox>(
    node: &mut Connection<M>,
    member: &Member,
    deadline: Nanos,
) -> Result<(), CreateError> {
    let (ip, port) = (member.announced.ip().to_string(), member.announced.port().to_string());
    let bus = member.bus_port.to_string();
    let mut words = vec!["CLUSTER", "MEET", &ip, &port];
    if member.announced.port().checked_add(10_000) != Some(member.bus_port) {
        words.push(&bus);
    }
    node.ask(&words, deadline).await?;
    Ok(())
}

/// One write that every replica acknowledges; leaves no key behind.
async fn prove_replication<R: Reach>(
    reach: &R,
    node: &mut Connection<R::Mailbox>,
    name: &str,
    slots: (u16, u16),
    replicas: usize,
    deadline: Nanos,
) -> Result<(), CreateError> {
    if replicas == 0 {
        return Ok(());
    }
    let key = key_in(slots);
    let wanted = replicas.to_string();
    loop {
        let commands: [&[&str]; 3] = [&["SET", &key, "1"], &["DEL", &key], &["WAIT", &wanted, "1000"]];
        let replies = node.pipeline(&commands, deadline).await?;
        let acked = match &replies[..] {
            [Reply::Error(text), ..] | [_, Reply::Error(text), _] | [_, _, Reply::Error(text)] => {
                return Err(AskError::Server {
                    address: node.address(),
                    command: "a first write".to_owned(),
                    text: text.to_string(),
                }
                .into());
            }
            [_, _, Reply::Integer(acked)] => *acked,
            _ => 0,
        };
        if acked >= replicas as i64 {
            return Ok(());
        }
        if reach.now() >= deadline {
            return Err(CreateError::NotProven { name: name.to_owned(), acked, wanted: replicas });
        }
    }
}

/// A key whose slot is in the range.
fn key_in((first, last): (u16, u16)) -> String {
    (0..u32::MAX)
        .map(|number| format!("slotstorm:first-write:{number}"))
        .find(|key| (first..=last).contains(&(crc16(key.as_bytes()) % SLOTS)))
        .unwrap_or_default()
}

/// CRC16-XMODEM, as Redis hashes keys (these keys have no hash tag).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_dealt_as_redis_cli_deals_them() {
        assert_eq!(even_slots(3), [(0, 5460), (5461, 10922), (10923, 16383)]);
        for masters in 1..=254 {
            let dealt = even_slots(masters);
            assert_eq!((dealt[0].0, dealt[dealt.len() - 1].1), (0, SLOTS - 1));
            assert!(dealt.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
        }
    }

    #[test]
    fn the_key_of_a_first_write_is_in_its_shard() {
        assert_eq!(crc16(b"123456789"), 0x31c3, "the specification's example");
        for slots in even_slots(5) {
            assert!((slots.0..=slots.1).contains(&(crc16(key_in(slots).as_bytes()) % SLOTS)));
        }
    }
}
