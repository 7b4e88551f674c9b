//! The cluster as it is believed to be right now: each process' state and what each node last said. Selectors
//! are resolved against it, the terminal tells of its changes.

use std::rc::Rc;

use slotstorm_checker::record::{Nanos, Seen};

use crate::backend::ProcessState;

/// The cluster now.
#[derive(Clone, Debug, Default)]
pub struct ClusterModel {
    /// In order of their numbers, from n1.
    nodes: Vec<NodeModel>,
}

/// One node now.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeModel {
    /// From 1.
    pub number: u16,
    pub process: ProcessState,
    /// What it last said, and when.
    pub seen: Option<(Nanos, Rc<Seen>)>,
}

impl NodeModel {
    /// The name that the record uses.
    pub fn name(&self) -> String {
        node_name(self.number)
    }

    /// Its process runs and is not stopped.
    pub fn live(&self) -> bool {
        matches!(self.process, ProcessState::Running { .. })
    }

    fn word(&self) -> Option<&Seen> {
        self.seen.as_ref().map(|(_, seen)| &**seen)
    }

    fn claims(&self, slot: u16) -> bool {
        self.word().is_some_and(|seen| seen.master && holds(&seen.slots, slot))
    }
}

/// `n1` for 1.
pub fn node_name(number: u16) -> String {
    ["n", &number.to_string()].concat()
}

/// True if the inclusive ranges hold the slot.
pub fn holds(ranges: &[(u16, u16)], slot: u16) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot))
}

impl ClusterModel {
    /// A cluster of which nothing is known yet.
    pub fn new(nodes: u16) -> Self {
        let node = |number| NodeModel { number, process: ProcessState::Down { status: None }, seen: None };
        Self { nodes: (1..=nodes).map(node).collect() }
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> &[NodeModel] {
        &self.nodes
    }

    /// A node by number.
    pub fn node(&self, number: u16) -> Option<&NodeModel> {
        self.nodes.get(usize::from(number).checked_sub(1)?)
    }

    /// Notes a process' state.
    pub fn set_process(&mut self, number: u16, state: ProcessState) {
        if let Some(node) = self.node_mut(number) {
            node.process = state;
        }
    }

    /// Notes what a node said.
    pub fn set_seen(&mut self, number: u16, at: Nanos, seen: impl Into<Rc<Seen>>) {
        if let Some(node) = self.node_mut(number) {
            node.seen = Some((at, seen.into()));
        }
    }

    fn node_mut(&mut self, number: u16) -> Option<&mut NodeModel> {
        self.nodes.get_mut(usize::from(number).checked_sub(1)?)
    }

    /// The live node with the newest claim on a slot.
    pub fn master_of(&self, slot: u16) -> Option<u16> {
        self.nodes
            .iter()
            .filter(|node| node.live() && node.claims(slot))
            .max_by_key(|node| node.word().map(|seen| seen.epoch))
            .map(|node| node.number)
    }

    /// The node that claimed a slot with the newest epoch when it spoke last, running or not.
    pub fn claimant_of(&self, slot: u16) -> Option<u16> {
        self.nodes
            .iter()
            .filter(|node| node.claims(slot))
            .max_by_key(|node| node.word().map(|seen| seen.epoch))
            .map(|node| node.number)
    }

    /// A node's id, if it ever told it.
    pub fn id_of(&self, number: u16) -> Option<&str> {
        self.node(number)?.word().map(|seen| seen.id.as_str()).filter(|id| !id.is_empty())
    }

    /// Live masters that hold the newest claim on at least one slot. A node that was replaced and does not
    /// know it is none.
    pub fn masters(&self) -> Vec<u16> {
        self.nodes
            .iter()
            .filter(|node| node.live())
            .filter(|node| {
                node.word().is_some_and(|seen| {
                    seen.master
                        && seen
                            .slots
                            .first()
                            .is_some_and(|(slot, _)| self.master_of(*slot) == Some(node.number))
                })
            })
            .map(|node| node.number)
            .collect()
    }

    /// Live nodes that say they are replicas.
    pub fn replicas(&self) -> Vec<u16> {
        self.nodes
            .iter()
            .filter(|node| node.live() && node.word().is_some_and(|seen| !seen.master))
            .map(|node| node.number)
            .collect()
    }

    /// Live replicas of a node, by their own word.
    pub fn replicas_of(&self, master: u16) -> Vec<u16> {
        let name = node_name(master);
        self.replicas()
            .into_iter()
            .filter(|number| {
                let word = self.node(*number).and_then(NodeModel::word);
                word.is_some_and(|seen| seen.master_name.as_deref() == Some(&name))
            })
            .collect()
    }

    /// Live nodes.
    pub fn live(&self) -> Vec<u16> {
        self.nodes.iter().filter(|node| node.live()).map(|node| node.number).collect()
    }

    /// The slots that a node says are its own.
    pub fn slots_of(&self, number: u16) -> Vec<(u16, u16)> {
        self.node(number).and_then(NodeModel::word).map(|seen| seen.slots.clone()).unwrap_or_default()
    }

    /// The first slot that a node holds or, for a replica, that its master holds.
    pub fn slot_of(&self, number: u16) -> Option<u16> {
        let word = self.node(number)?.word()?;
        if word.master {
            return word.slots.first().map(|(slot, _)| *slot);
        }
        let master = word.master_name.as_deref()?;
        let row = word.table.iter().find(|row| row.node == master)?;
        row.slots.first().map(|(slot, _)| *slot)
    }
}
