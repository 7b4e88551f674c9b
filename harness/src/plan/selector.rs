//! Whom a fault hits, in words; resolved only when the fault fires, since roles move during a storm.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A target in words. The text forms are those of [`fmt::Display`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Selector {
    /// Any live master that owns slots.
    RandomMaster,
    /// Any live replica.
    RandomReplica,
    /// Any live node.
    RandomNode,
    /// The live master with the newest claim on this slot.
    MasterOfSlot(u16),
    /// A live replica of that master.
    ReplicaOfSlot(u16),
    /// A live replica of the node that the fault before this one hit.
    ItsReplica,
    /// Whom the fault before hit, whatever it is now.
    It,
    /// Who sent what triggered this fault.
    Sender,
    /// Who was to receive it.
    Receiver,
    /// Whom the FAIL message was about.
    Subject,
    /// Who gave the latest vote.
    Voter,
    /// Who was promoted last.
    NewMaster,
    /// The live replica of this slot's master with the greatest offset.
    MostCaughtUp(u16),
    /// The one with the smallest.
    LeastCaughtUp(u16),
    /// A drawn side of the cluster with more than half of the masters; with or without the master of a slot.
    Majority(Placed),
    /// The same with less than half.
    Minority(Placed),
    /// This node, whatever it is.
    Node(u16),
    /// All live nodes.
    All,
    /// All live masters that own slots.
    AllMasters,
    /// All live replicas.
    AllReplicas,
}

/// Where a certain master stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placed {
    #[default]
    Anywhere,
    /// The master of this slot is on the side.
    With(u16),
    /// It is on the other one.
    Without(u16),
}

const FORMS: &str = "\"random master\", \"random replica\", \"random node\", \"master of slot N\", \
                     \"replica of slot N\", \"most caught-up replica of slot N\", \"least caught-up replica of slot N\", \
                     \"it\" or \"its replica\" (of whom the fault before hit), \"sender\", \"receiver\" or \"subject\" (of \
                     what triggered the fault), \"voter\", \"new master\", \"majority\" or \"minority\", both \"with master \
                     of slot N\" or \"without master of slot N\", \"node nX\", \"all\", \"all masters\" or \"all replicas\"";

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_ascii_lowercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["random", "master"] => Ok(Self::RandomMaster),
            ["random", "replica"] => Ok(Self::RandomReplica),
            ["random", "node"] => Ok(Self::RandomNode),
            ["master", "of", "slot", slot] => Ok(Self::MasterOfSlot(parse_slot(slot)?)),
            ["replica", "of", "slot", slot] => Ok(Self::ReplicaOfSlot(parse_slot(slot)?)),
            ["its", "replica"] => Ok(Self::ItsReplica),
            ["it"] => Ok(Self::It),
            ["sender"] => Ok(Self::Sender),
            ["receiver"] => Ok(Self::Receiver),
            ["subject"] => Ok(Self::Subject),
            ["voter"] => Ok(Self::Voter),
            ["new", "master"] => Ok(Self::NewMaster),
            ["most", "caught-up", "replica", "of", "slot", slot] => Ok(Self::MostCaughtUp(parse_slot(slot)?)),
            ["least", "caught-up", "replica", "of", "slot", slot] => {
                Ok(Self::LeastCaughtUp(parse_slot(slot)?))
            }
            ["majority", place @ ..] => Ok(Self::Majority(parse_place(place, text)?)),
            ["minority", place @ ..] => Ok(Self::Minority(parse_place(place, text)?)),
            ["node", name] | [name] if name.starts_with('n') => parse_node(name).map(Self::Node),
            ["all"] => Ok(Self::All),
            ["all", "masters"] => Ok(Self::AllMasters),
            ["all", "replicas"] => Ok(Self::AllReplicas),
            _ => Err(format!("no such target: \"{text}\"; expected {FORMS}")),
        }
    }
}

fn parse_place(words: &[&str], text: &str) -> Result<Placed, String> {
    match words {
        [] => Ok(Placed::Anywhere),
        ["with", "master", "of", "slot", slot] => Ok(Placed::With(parse_slot(slot)?)),
        ["without", "master", "of", "slot", slot] => Ok(Placed::Without(parse_slot(slot)?)),
        _ => Err(format!("no such target: \"{text}\"; expected {FORMS}")),
    }
}

fn parse_slot(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|slot| *slot < 16384)
        .ok_or_else(|| format!("a slot is a number from 0 to 16383, not \"{text}\""))
}

/// Reads a node's name: `n1` is 1.
pub fn parse_node(name: &str) -> Result<u16, String> {
    name.strip_prefix('n')
        .and_then(|digits| digits.parse().ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("a node is named n1, n2, ..., not \"{name}\""))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RandomMaster => f.write_str("random master"),
            Self::RandomReplica => f.write_str("random replica"),
            Self::RandomNode => f.write_str("random node"),
            Self::MasterOfSlot(slot) => write!(f, "master of slot {slot}"),
            Self::ReplicaOfSlot(slot) => write!(f, "replica of slot {slot}"),
            Self::ItsReplica => f.write_str("its replica"),
            Self::It => f.write_str("it"),
            Self::Sender => f.write_str("sender"),
            Self::Receiver => f.write_str("receiver"),
            Self::Subject => f.write_str("subject"),
            Self::Voter => f.write_str("voter"),
            Self::NewMaster => f.write_str("new master"),
            Self::MostCaughtUp(slot) => write!(f, "most caught-up replica of slot {slot}"),
            Self::LeastCaughtUp(slot) => write!(f, "least caught-up replica of slot {slot}"),
            Self::Majority(placed) => write!(f, "majority{placed}"),
            Self::Minority(placed) => write!(f, "minority{placed}"),
            Self::Node(number) => write!(f, "node n{number}"),
            Self::All => f.write_str("all"),
            Self::AllMasters => f.write_str("all masters"),
            Self::AllReplicas => f.write_str("all replicas"),
        }
    }
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => Ok(()),
            Self::With(slot) => write!(f, " with master of slot {slot}"),
            Self::Without(slot) => write!(f, " without master of slot {slot}"),
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_as_itself() {
        let all = [
            Selector::RandomMaster,
            Selector::RandomReplica,
            Selector::RandomNode,
            Selector::MasterOfSlot(42),
            Selector::ReplicaOfSlot(16383),
            Selector::ItsReplica,
            Selector::It,
            Selector::Sender,
            Selector::Receiver,
            Selector::Subject,
            Selector::Voter,
            Selector::NewMaster,
            Selector::MostCaughtUp(1),
            Selector::LeastCaughtUp(2),
            Selector::Majority(Placed::Anywhere),
            Selector::Majority(Placed::With(3)),
            Selector::Minority(Placed::Without(4)),
            Selector::Node(3),
            Selector::All,
            Selector::AllMasters,
            Selector::AllReplicas,
        ];
        for selector in all {
            assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
        }
    }

    #[test]
    fn a_wrong_target_says_what_is_possible() {
        assert!("random slave".parse::<Selector>().unwrap_err().contains("\"random replica\""));
        assert!("master of slot 16384".parse::<Selector>().unwrap_err().contains("16383"));
        assert!("node n0".parse::<Selector>().is_err());
    }
}
