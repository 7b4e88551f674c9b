//! nodes.conf: the table on disk, in Redis' format. A file that is not whole is refused (F-48): half a table
//! and a forgotten vote do more harm than a node that does not start.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{Cluster, NodeFlags, NodeId, SLOTS, SlotBitmap, Turn};
use crate::zoo::Mutation;

/// A parsed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodesConf {
    /// The clock of epochs.
    pub current_epoch: u64,
    /// The last epoch in which this node voted.
    pub last_vote_epoch: u64,
    /// One per line; exactly one is myself.
    pub(super) nodes: Vec<NodeLine>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeLine {
    pub id: NodeId,
    pub ip: String,
    pub port: u16,
    pub cport: u16,
    pub hostname: String,
    pub flags: NodeFlags,
    pub master: Option<NodeId>,
    pub ping_sent: bool,
    pub pong_received: bool,
    pub config_epoch: u64,
    pub slots: SlotBitmap,
    pub migrating: Vec<(u16, NodeId)>,
    pub importing: Vec<(u16, NodeId)>,
}

/// Why a file is refused. The user's data directory is at fault, or whatever wrote into it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Unrecoverable error: corrupted cluster config file{at}: {reason}.")]
pub struct NodesConfError {
    at: String,
    reason: String,
}

impl NodesConf {
    /// The id on the line of this node.
    pub(super) fn my_id(&self) -> NodeId {
        // `parse` lets no file without such a line through.
        let mine = self.nodes.iter().find(|line| line.flags.any(NodeFlags::MYSELF));
        mine.map_or_else(|| unreachable!("parse() asks for a myself line"), |line| line.id)
    }
}

/// Parses a whole file. `None` for an empty one: there is no configuration yet.
pub fn parse(text: &[u8]) -> Result<Option<NodesConf>, NodesConfError> {
    if text.is_empty() {
        return Ok(None);
    }
    let error = |line: Option<usize>, reason: String| NodesConfError {
        at: line.map(|line| format!(" at line {line}")).unwrap_or_default(),
        reason,
    };
    let text = std::str::from_utf8(text).map_err(|_| error(None, "it is not text".to_owned()))?;
    let mut nodes: Vec<NodeLine> = Vec::new();
    let mut vars = None;
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.first() {
            None => {}
            Some(&"vars") => {
                vars = Some(parse_vars(&words[1..]).map_err(|reason| error(Some(number), reason))?);
            }
            Some(_) => nodes.push(parse_node(&words).map_err(|reason| error(Some(number), reason))?),
        }
    }
    if nodes.is_empty() && vars.is_none() && text.trim().is_empty() {
        return Err(error(None, "it holds only blanks".to_owned()));
    }
    let myself = nodes.iter().filter(|line| line.flags.any(NodeFlags::MYSELF)).count();
    if myself != 1 {
        return Err(error(None, format!("{myself} lines say 'myself' where one must")));
    }
    let ids: BTreeSet<NodeId> = nodes.iter().map(|line| line.id).collect();
    if ids.len() != nodes.len() {
        return Err(error(None, "a node id appears twice".to_owned()));
    }
    // F-48: the last line of the file. Without it the file was cut, and the vote is forgotten.
    let Some((current_epoch, last_vote_epoch)) = vars else {
        return Err(error(None, "its 'vars' line is missing, so it was cut short".to_owned()));
    };
    // A number that was cut is still a number.
    if !text.ends_with('\n') {
        return Err(error(None, "its last line has no end, so it was cut short".to_owned()));
    }
    Ok(Some(NodesConf { current_epoch, last_vote_epoch, nodes }))
}

fn parse_vars(words: &[&str]) -> Result<(u64, u64), String> {
    let (mut current, mut vote) = (None, None);
    if !words.len().is_multiple_of(2) {
        return Err("'vars' needs pairs of name and value".to_owned());
    }
    for pair in words.chunks_exact(2) {
        let target = match pair[0] {
            "currentEpoch" => &mut current,
            "lastVoteEpoch" => &mut vote,
            // Redis skips names that it does not know.
            _ => continue,
        };
        *target = Some(pair[1].parse().map_err(|_| format!("{} is no epoch: '{}'", pair[0], pair[1]))?);
    }
    match (current, vote) {
        (Some(current), Some(vote)) => Ok((current, vote)),
        _ => Err("'vars' lacks currentEpoch or lastVoteEpoch".to_owned()),
    }
}

fn parse_node(words: &[&str]) -> Result<NodeLine, String> {
    let [id, address, flags, master, ping, pong, epoch, link, slots @ ..] = words else {
        return Err(format!("a node needs 8 fields, found {}", words.len()));
    };
    let node_id = |word: &str| NodeId::parse(word.as_bytes()).ok_or_else(|| format!("no node id: '{word}'"));
    let (ip, port, cport, hostname) = parse_address(address)?;
    if !matches!(*link, "connected" | "disconnected") {
        return Err(format!("no link state: '{link}'"));
    }
    let time = |word: &str| word.parse::<i64>().map(|ms| ms != 0).map_err(|_| format!("no time: '{word}'"));
    let mut line = NodeLine {
        id: node_id(id)?,
        ip,
        port,
        cport,
        hostname,
        flags: NodeFlags::parse(flags).map_err(|word| format!("unknown flag '{word}'"))?,
        master: if *master == "-" { None } else { Some(node_id(master)?) },
        ping_sent: time(ping)?,
        pong_received: time(pong)?,
        config_epoch: epoch.parse().map_err(|_| format!("no config epoch: '{epoch}'"))?,
        slots: SlotBitmap::new(),
        migrating: Vec::new(),
        importing: Vec::new(),
    };
    for word in slots {
        parse_slots(word, &mut line)?;
    }
    Ok(line)
}

/// `ip:port[@busport][,hostname[,aux...]]`; what valkey appends is skipped.
fn parse_address(word: &str) -> Result<(String, u16, u16, String), String> {
    let bad = || format!("no address: '{word}'");
    let mut fields = word.split(',');
    let address = fields.next().unwrap_or_default();
    let hostname = fields.next().unwrap_or_default().to_owned();
    let (ip, ports) = address.rsplit_once(':').ok_or_else(bad)?;
    let (port, cport) = match ports.split_once('@') {
        Some((port, cport)) => (port, cport.parse().map_err(|_| bad())?),
        None => (ports, ports.parse::<u16>().ok().and_then(|p| p.checked_add(10_000)).ok_or_else(bad)?),
    };
    Ok((ip.to_owned(), port.parse().map_err(|_| bad())?, cport, hostname))
}

/// `n`, `a-b`, `[slot->-id]` or `[slot-<-id]`.
fn parse_slots(word: &str, line: &mut NodeLine) -> Result<(), String> {
    let bad = || format!("no slot or range: '{word}'");
    let number = |text: &str| text.parse::<u16>().ok().filter(|slot| *slot < SLOTS).ok_or_else(bad);
    if let Some(open) = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let (table, split) = if open.contains("->-") {
            (&mut line.migrating, open.split_once("->-"))
        } else {
            (&mut line.importing, open.split_once("-<-"))
        };
        let (slot, peer) = split.ok_or_else(bad)?;
        table.push((number(slot)?, NodeId::parse(peer.as_bytes()).ok_or_else(bad)?));
        return Ok(());
    }
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(bad());
    }
    for slot in first..=last {
        line.slots.insert(slot);
    }
    Ok(())
}

impl Cluster {
    /// The file for the table as it is now.
    pub(super) fn nodes_conf_text(&self, turn: &Turn<'_>) -> String {
        let mut text = self.nodes_text(false, turn);
        let forgets = self.settings.zoo.has(Mutation::ForgetsItsVote);
        let (current, vote) = (self.current_epoch, if forgets { 0 } else { self.last_vote_epoch });
        let _ = writeln!(text, "vars currentEpoch {current} lastVoteEpoch {vote}");
        text
    }
}
