//! Tries to prove that a register history without anomaly is serializable, by an order that explains every read. A
//! greedy search: a transaction is next if all that must come before it is done, it reads what is there, and nobody
//! else still waits to read what it overwrites. It may fail where an order exists.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::graph::{Graph, Mask, NONE, THROUGH};
use super::history::{MicroOp, Outcome};
use super::index::Index;

/// The current content of a key.
#[derive(Clone, Debug, Default)]
struct Cell {
    value: Option<u64>,
    /// Transactions that wait for the key to change, or for its last reader.
    waiting: Vec<u32>,
}

/// Whether an order was found; all edges of the mask are kept.
pub(super) fn exists(index: &Index<'_>, graph: &Graph, mask: Mask) -> bool {
    let mut search = Search {
        index,
        cells: vec![Cell::default(); index.history.keys() as usize],
        readers: index.outside_reads(),
        ready: BinaryHeap::new(),
        done: 0,
    };
    let mut before = vec![0u32; graph.nodes() as usize];
    let allowed = mask | THROUGH;
    for_edges(graph, 0..graph.nodes(), allowed, |_, to| before[to as usize] += 1);
    let mut open: Vec<u32> = (0..graph.nodes()).filter(|node| before[*node as usize] == 0).collect();
    loop {
        while let Some(node) = open.pop() {
            if graph.is_txn(node) && index.committed(node) {
                search.make_ready(node);
            } else {
                close(graph, node, allowed, &mut before, &mut open);
            }
        }
        let Some(txn) = search.run_next() else { break };
        close(graph, txn, allowed, &mut before, &mut open);
    }
    search.done == (0..index.history.len() as u32).filter(|txn| index.committed(*txn)).count()
}

fn close(graph: &Graph, node: u32, allowed: Mask, before: &mut [u32], open: &mut Vec<u32>) {
    for_edges(graph, node..node + 1, allowed, |_, to| {
        before[to as usize] -= 1;
        if before[to as usize] == 0 {
            open.push(to);
        }
    });
}

fn for_edges(graph: &Graph, nodes: std::ops::Range<u32>, allowed: Mask, mut each: impl FnMut(u32, u32)) {
    for node in nodes {
        let edges = (0..).map_while(|number| graph.edge(node, number));
        for (to, _) in edges.filter(|(to, kind)| *to != NONE && kind & allowed != 0) {
            each(node, to);
        }
    }
}

struct Search<'a> {
    index: &'a Index<'a>,
    cells: Vec<Cell>,
    /// How many transactions still wait to read a value of a key, sorted by both.
    readers: Vec<(u32, Option<u64>, u32)>,
    ready: BinaryHeap<Reverse<(u64, u32)>>,
    done: usize,
}

impl Search<'_> {
    fn make_ready(&mut self, txn: u32) {
        let span = self.index.history.spans()[txn as usize];
        let due = if span.outcome == Outcome::Ok { span.returned } else { span.invoked };
        self.ready.push(Reverse((due, txn)));
    }

    /// Executes one transaction that can be executed now.
    fn run_next(&mut self) -> Option<u32> {
        while let Some(Reverse((_, txn))) = self.ready.pop() {
            let Some(key) = self.obstacle(txn) else {
                self.run(txn);
                return Some(txn);
            };
            self.cells[key as usize].waiting.push(txn);
        }
        None
    }

    /// The key that keeps it from being next.
    fn obstacle(&self, txn: u32) -> Option<u32> {
        let own = self.index.outside_reads_of(txn);
        let stale = own.iter().find(|(key, value)| self.cells[*key as usize].value != *value);
        let in_the_way = || {
            self.index.history.micro_range(txn).find_map(|micro| {
                let MicroOp::Write { key, .. } = self.index.history.micro(micro) else { return None };
                let value = self.cells[key as usize].value;
                let others = self.waiting_readers(key, value) - u32::from(own.contains(&(key, value)));
                (others > 0).then_some(key)
            })
        };
        stale.map(|(key, _)| *key).or_else(in_the_way)
    }

    fn run(&mut self, txn: u32) {
        for (key, value) in self.index.outside_reads_of(txn) {
            if let Ok(at) = self.readers.binary_search_by_key(&(key, value), |(key, value, _)| (*key, *value))
            {
                self.readers[at].2 -= 1;
            }
            self.wake(key);
        }
        for micro in self.index.history.micro_range(txn) {
            if let MicroOp::Write { key, value } = self.index.history.micro(micro) {
                self.cells[key as usize].value = Some(value);
                self.wake(key);
            }
        }
        self.done += 1;
    }

    fn wake(&mut self, key: u32) {
        for txn in std::mem::take(&mut self.cells[key as usize].waiting) {
            self.make_ready(txn);
        }
    }

    fn waiting_readers(&self, key: u32, value: Option<u64>) -> u32 {
        let found = self.readers.binary_search_by_key(&(key, value), |(key, value, _)| (*key, *value));
        found.map_or(0, |at| self.readers[at].2)
    }
}
