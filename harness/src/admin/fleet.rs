//! All nodes of a cluster as an administrator sees them, found from any one of them: each node's own line of CLUSTER
//! NODES, and a connection to each.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use slotstorm_checker::record::Nanos;

use super::parse::{self, NodeLine, count_slots};
use super::resp::{AskError, Connection, Reply, connection, text_of};
use super::{Reach, join_all, ms, slots};

/// A node that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: String,
    /// Where the other nodes reach it; literal.
    pub host: String,
    pub port: u16,
    pub bus_port: u16,
    /// Where the administrator reaches it.
    pub dial: SocketAddr,
    /// What it says of itself.
    pub own: NodeLine,
    /// All that it says of everybody, sorted by id.
    pub table: Vec<NodeLine>,
}

impl Node {
    /// `host:port`.
    pub fn label(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub fn master(&self) -> bool {
        self.own.master()
    }

    /// Whether it holds itself the owner of `slot`.
    pub fn owns(&self, slot: u16) -> bool {
        slots::holds(&self.own.slots, slot)
    }
}

/// A node of which the entry node knows, and that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    pub line: NodeLine,
    pub why: String,
}

/// A cluster, seen from one node.
pub struct Fleet<R: Reach> {
    pub reach: R,
    /// The node that was asked first, then the others by address.
    pub nodes: Vec<Node>,
    /// To each of `nodes`.
    pub links: Vec<Connection<R::Mailbox>>,
    pub absent: Vec<Absent>,
    /// Milliseconds for one request.
    pub patience_ms: u64,
}

/// Why there is no fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    #[error("Could not connect to Redis at {address}: {why}")]
    NoEntry { address: SocketAddr, why: String },
    #[error("[ERR] Node {address} is not configured as a cluster node.")]
    NoCluster { address: SocketAddr },
    #[error(transparent)]
    Ask(#[from] AskError),
}

impl<R: Reach> Fleet<R> {
    /// Asks the entry node, and then everybody that it names.
    pub async fn discover(reach: &R, entry: SocketAddr, patience_ms: u64) -> Result<Self, FleetError> {
        let mut link = connection(reach, entry);
        let table = match nodes_of(&mut link, reach.now() + ms(patience_ms)).await {
            Ok(table) => table,
            Err(AskError::Server { text, .. }) if text.contains("cluster support disabled") => {
                return Err(FleetError::NoCluster { address: entry });
            }
            Err(AskError::Refused { address, why }) => return Err(FleetError::NoEntry { address, why }),
            Err(error) => return Err(error.into()),
        };
        let first = node_at(entry, table.clone()).ok_or_else(|| AskError::Nonsense {
            address: entry,
            command: "CLUSTER NODES".to_owned(),
            why: "no line is its own".to_owned(),
        })?;
        let mut others: Vec<NodeLine> = table.into_iter().filter(|line| line.id != first.id).collect();
        others.sort_by_key(|line| (line.ip.parse::<IpAddr>().ok(), line.port));
        let asked = join_all(others.iter().map(|line| ask_friend(reach, line, patience_ms))).await;
        let mut fleet = Self {
            reach: reach.clone(),
            nodes: vec![first],
            links: vec![link],
            absent: Vec::new(),
            patience_ms,
        };
        for (line, answer) in others.into_iter().zip(asked) {
            match answer {
                Ok((node, link)) => {
                    fleet.nodes.push(node);
                    fleet.links.push(link);
                }
                Err(why) => fleet.absent.push(Absent { line, why }),
            }
        }
        Ok(fleet)
    }

    /// When a request sent now is given up.
    pub fn deadline(&self) -> Nanos {
        self.reach.now() + ms(self.patience_ms)
    }

    /// Asks every node again what it is and sees. What does not answer keeps its old face, and is named.
    pub async fn refresh(&mut self) -> Vec<(usize, AskError)> {
        let deadline = self.deadline();
        let tables = join_all(self.links.iter_mut().map(|link| nodes_of(link, deadline))).await;
        let mut failed = Vec::new();
        for (index, table) in tables.into_iter().enumerate() {
            match table {
                Ok(table) => {
                    if let Some(node) = node_at(self.nodes[index].dial, table) {
                        self.nodes[index] = node;
                    }
                }
                Err(error) => failed.push((index, error)),
            }
        }
        failed
    }

    /// One command to one node.
    pub async fn ask<W: AsRef<[u8]>>(&mut self, node: usize, words: &[W]) -> Result<Reply, AskError> {
        let deadline = self.deadline();
        self.links[node].ask(words, deadline).await
    }

    /// Several commands to one node in one write.
    pub async fn pipeline<W: AsRef<[u8]>>(
        &mut self,
        node: usize,
        commands: &[Vec<W>],
    ) -> Result<Vec<Reply>, AskError> {
        let deadline = self.deadline();
        let commands: Vec<&[W]> = commands.iter().map(Vec::as_slice).collect();
        self.links[node].pipeline(&commands, deadline).await
    }

    /// The same commands to several nodes at the same time; each node with its replies.
    pub async fn pipeline_to<W: AsRef<[u8]>>(
        &mut self,
        nodes: &[usize],
        commands: &[Vec<W>],
    ) -> Vec<(usize, Result<Vec<Reply>, AskError>)> {
        let deadline = self.deadline();
        let commands: Vec<&[W]> = commands.iter().map(Vec::as_slice).collect();
        let chosen = self.links.iter_mut().enumerate().filter(|(index, _)| nodes.contains(index));
        let (indexes, links): (Vec<usize>, Vec<_>) = chosen.unzip();
        let replies = join_all(links.into_iter().map(|link| link.pipeline(&commands, deadline))).await;
        indexes.into_iter().zip(replies).collect()
    }

    /// Places of the masters, those without slots included.
    pub fn masters(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| self.nodes[*index].master()).collect()
    }

    /// Places of the replicas of a master.
    pub fn replicas_of(&self, master: usize) -> Vec<usize> {
        let id = Some(&self.nodes[master].id);
        (0..self.nodes.len()).filter(|index| self.nodes[*index].own.master_id.as_ref() == id).collect()
    }

    /// The node with this id, or with an id that begins so if only one does.
    pub fn find(&self, id: &str) -> Option<usize> {
        let id = id.to_ascii_lowercase();
        if let Some(exact) = self.nodes.iter().position(|node| node.id == id) {
            return Some(exact);
        }
        let mut starts = (0..self.nodes.len()).filter(|index| self.nodes[*index].id.starts_with(&id));
        // As redis-cli: a prefix of eight or so is what its listings show.
        match (id.len() >= 6, starts.next(), starts.next()) {
            (true, Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// Masters that do not answer and own slots, as the entry node sees it.
    pub fn absent_masters(&self) -> usize {
        self.absent.iter().filter(|absent| absent.line.master()).count()
    }
}

/// CLUSTER NODES of one node.
pub async fn nodes_of<M: crate::backend::Mailbox>(
    link: &mut Connection<M>,
    deadline: Nanos,
) -> Result<Vec<NodeLine>, AskError> {
    let address = link.address();
    let text = link.ask_text(&["CLUSTER", "NODES"], deadline).await?;
    parse::nodes(&text).map_err(|error| nonsense(address, &error))
}

/// A server's text that cannot be read.
pub fn nonsense(address: SocketAddr, error: &parse::ParseError) -> AskError {
    AskError::Nonsense { address, command: error.what.to_owned(), why: error.to_string() }
}

/// The reply's text, or the server's complaint.
pub fn expect_text(address: SocketAddr, command: &str, reply: &Reply) -> Result<String, AskError> {
    match reply {
        Reply::Error(text) => {
            Err(AskError::Server { address, command: command.to_owned(), text: text.to_string() })
        }
        other => text_of(other).ok_or_else(|| AskError::Nonsense {
            address,
            command: command.to_owned(),
            why: "no text".to_owned(),
        }),
    }
}

/// The reply's number, or the server's complaint.
pub fn expect_number(address: SocketAddr, command: &str, reply: &Reply) -> Result<u64, AskError> {
    match reply {
        Reply::Integer(number) => Ok(u64::try_from(*number).unwrap_or(0)),
        Reply::Error(text) => {
            Err(AskError::Server { address, command: command.to_owned(), text: text.to_string() })
        }
        other => Err(AskError::Nonsense {
            address,
            command: command.to_owned(),
            why: format!("{other:?} is no number"),
        }),
    }
}

fn node_at(dial: SocketAddr, table: Vec<NodeLine>) -> Option<Node> {
    let own = table.iter().find(|line| line.myself())?.clone();
    // A node that never met anybody may not know its own address.
    let host = if own.ip.is_empty() { dial.ip().to_string() } else { own.ip.clone() };
    let port = if own.port == 0 { dial.port() } else { own.port };
    Some(Node { id: own.id.clone(), host, port, bus_port: own.bus_port, dial, own, table })
}

async fn ask_friend<R: Reach>(
    reach: &R,
    line: &NodeLine,
    patience_ms: u64,
) -> Result<(Node, Connection<R::Mailbox>), String> {
    if line.has("noaddr") {
        return Err("its address is not known".to_owned());
    }
    let ip: IpAddr = line.ip.parse().map_err(|_| format!("{:?} is no literal address", line.ip))?;
    let address = reach.reachable_at(SocketAddr::from((ip, line.port)));
    let mut link = connection(reach, address);
    // A node that is held failed is asked, too: the entry node may be wrong; but nobody waits long for the dead.
    let patience_ms = if line.failed() || line.suspected() { patience_ms.min(1000) } else { patience_ms };
    let table =
        nodes_of(&mut link, reach.now() + ms(patience_ms)).await.map_err(|error| error.to_string())?;
    let mut node = node_at(address, table).ok_or("no line of its CLUSTER NODES is its own")?;
    if node.id != line.id {
        return Err(format!("another node ({}) answers there", node.id));
    }
    if node.own.ip.is_empty() {
        node.host.clone_from(&line.ip); // how the others know it
    }
    Ok((node, link))
}

/// The two lines or three in which redis-cli shows a node.
pub fn portrait<R: Reach>(fleet: &Fleet<R>, index: usize, indent: &str) -> String {
    let node = &fleet.nodes[index];
    let master = node.master();
    let kind = if master { "M" } else { "S" };
    let role = if master { "master" } else { "slave" };
    let mut text = format!(
        "{indent}{kind}: {} {}\n{indent}   slots:{} ({} slots) {role}",
        node.id,
        node.label(),
        slots::bracketed(&node.own.slots),
        count_slots(&node.own.slots)
    );
    if let Some(master) = &node.own.master_id {
        let _ = write!(text, "\n{indent}   replicates {master}");
    }
    let replicas = fleet.replicas_of(index).len();
    if replicas > 0 {
        let _ = write!(text, "\n{indent}   {replicas} additional replica(s)");
    }
    text
}
