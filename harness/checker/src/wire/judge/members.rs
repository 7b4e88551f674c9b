//! Who is in the cluster, as far as headers told: ids and where they live, who is a master, and how many votes a
//! majority has at the least.

use std::collections::BTreeMap;

use super::Said;
use crate::record::Nanos;
use crate::slots::SLOTS;

/// A node id, as an index.
pub(super) type Node = usize;

const NOBODY: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub id: String,
    /// The endpoint that spoke under this id last.
    pub name: String,
    /// Since when it has been known to the others: it, or a MEET of its, was seen first or again.
    pub joined: Nanos,
    /// What its newest header says.
    pub master: bool,
    newest: u64,
    /// With which epoch it claimed slots as a master last; `None`: it has been something else since.
    claims_under: Option<u64>,
    /// When a header first said that it was a master no more.
    demoted: Option<Nanos>,
}

impl Member {
    /// It is a master, or was one not longer ago than this.
    pub fn was_master(&self, since: Nanos) -> bool {
        self.master || self.demoted.is_some_and(|at| at >= since)
    }

    /// It is a master, and has been nothing else since.
    pub fn steady_master(&self, since: Nanos) -> bool {
        self.master && self.demoted.is_none_or(|at| at < since)
    }
}

/// All ids that were heard or named.
#[derive(Debug)]
pub(super) struct Members {
    pub all: Vec<Member>,
    by_id: BTreeMap<String, Node>,
    by_name: BTreeMap<String, Node>,
    /// By slot: who claimed it with the greatest epoch.
    owners: Vec<(u32, u64)>,
    /// By node: how many of these.
    owned: BTreeMap<u32, u32>,
    /// The fewest owners since all slots were claimed first.
    fewest: Option<usize>,
}

impl Default for Members {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            by_id: BTreeMap::new(),
            by_name: BTreeMap::new(),
            owners: vec![(NOBODY, 0); usize::from(SLOTS)],
            owned: BTreeMap::new(),
            fewest: None,
        }
    }
}

impl Members {
    /// The node with this id.
    pub fn node(&mut self, id: &str) -> Node {
        if let Some(&node) = self.by_id.get(id) {
            return node;
        }
        let node = self.all.len();
        self.all.push(Member {
            id: id.to_owned(),
            name: String::new(),
            joined: Nanos::MAX,
            master: false,
            newest: 0,
            claims_under: None,
            demoted: None,
        });
        self.by_id.insert(id.to_owned(), node);
        node
    }

    /// The id that spoke last from this endpoint.
    pub fn at(&self, name: &str) -> Option<Node> {
        self.by_name.get(name).copied()
    }

    /// A name for people.
    pub fn name(&self, node: Node) -> &str {
        let member = &self.all[node];
        if member.name.is_empty() { &member.id } else { &member.name }
    }

    /// A header was read. Whether a master claims with a greater epoch what it claimed before.
    pub fn hear(&mut self, time: Nanos, from: &str, node: Node, said: &Said) -> bool {
        let member = &mut self.all[node];
        if member.name != from {
            from.clone_into(&mut member.name);
        }
        if self.by_name.get(from) != Some(&node) {
            self.by_name.insert(from.to_owned(), node);
        }
        if member.joined == Nanos::MAX {
            member.joined = time;
        }
        if said.current < member.newest {
            return false;
        }
        member.newest = said.current;
        if member.master && said.of.is_some() {
            member.demoted = Some(time);
        }
        member.master = said.of.is_none();
        let before = std::mem::replace(&mut member.claims_under, said.claims().then_some(said.config));
        said.claims() && before.is_some_and(|before| before < said.config)
    }

    /// A MEET passed between these endpoints: both learn of each other anew.
    pub fn met(&mut self, time: Nanos, ends: [&str; 2]) {
        for end in ends {
            if let Some(node) = self.at(end) {
                self.all[node].joined = time;
            }
        }
    }

    /// A master claims slots.
    pub fn claim(&mut self, node: Node, slots: &[(u16, u16)], epoch: u64) {
        let claimant = node as u32;
        for &(first, last) in slots {
            for slot in first..=last.min(SLOTS - 1) {
                let (owner, held) = &mut self.owners[usize::from(slot)];
                if *owner == claimant || (*owner != NOBODY && *held >= epoch) {
                    *held = (*held).max(if *owner == claimant { epoch } else { 0 });
                    continue;
                }
                if let Some(count) = self.owned.get_mut(owner) {
                    *count -= 1;
                    if *count == 0 {
                        self.owned.remove(owner);
                    }
                }
                (*owner, *held) = (claimant, epoch);
                *self.owned.entry(claimant).or_default() += 1;
            }
        }
        if self.fewest.is_some() || self.owned.values().sum::<u32>() == u32::from(SLOTS) {
            let now = self.owned.len();
            self.fewest = Some(self.fewest.map_or(now, |fewest| fewest.min(now)));
        }
    }

    /// Those who claimed some slot last.
    pub fn owners(&self) -> impl Iterator<Item = Node> {
        self.owned.keys().map(|&owner| owner as Node)
    }

    /// The fewest votes or opinions that any node's table may have called a majority, if demotions not older than
    /// `since` were heard before their successors (the slots of a demoted master belong to nobody then). `None`: not
    /// all slots have had an owner yet.
    pub fn majority(&self, since: Nanos) -> Option<usize> {
        let demoted = self.all.iter().filter(|member| member.demoted.is_some_and(|at| at >= since)).count();
        self.fewest.map(|fewest| fewest.saturating_sub(demoted).max(1) / 2 + 1)
    }
}
