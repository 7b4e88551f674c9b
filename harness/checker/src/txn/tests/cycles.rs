//! The search for cycles against the enumeration of all of them.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::random::{Tiny, histories};
use crate::txn::cycles::{self, Hops, classify};
use crate::txn::findings::Findings;
use crate::txn::graph::{Graph, GraphBuilder, Mask, NONE, THROUGH};
use crate::txn::index::Index;
use crate::txn::{Anomaly, Cycle, Model, Objects, Options, Order};

/// Whatever model is expected: some forbidden cycle is found if and only if there is one, and what was found is one.
#[test]
fn each_model_is_judged_as_by_all_cycles() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut classes = BTreeSet::new();
    for number in 0..histories() / 10 {
        let tiny = Tiny::random(&mut rng, Objects::Lists);
        let history = tiny.history();
        let index = Index::new(&history);
        let mut builder = GraphBuilder::new(&index);
        let mut keys = super::super::Keys::new(&history, &Options::default());
        for key in 0..history.keys() {
            keys.analyse(&index, key, &mut builder, &mut Findings::default());
        }
        let graph = builder.finish(&index);
        let all = all_cycles(&graph, history.len() as u32);
        let found = cycles::find(&graph, Order::Realtime, 1000);
        for (cycle, order, hops) in &found.found {
            assert_eq!((*cycle, *order), classify(hops));
            assert!(all.contains(&(*cycle, *order)), "history {number}: {hops:?} is none of {all:?}");
        }
        let found: BTreeSet<(Cycle, Order)> =
            found.found.iter().map(|(cycle, order, _)| (*cycle, *order)).collect();
        for model in Model::names().filter_map(Model::parse) {
            let broken = |cycles: &BTreeSet<(Cycle, Order)>| {
                cycles.iter().any(|(cycle, order)| model.forbids(Anomaly::Cycle(*cycle, *order)))
            };
            assert_eq!(
                broken(&all),
                broken(&found),
                "history {number}, {}: {all:?} {found:?}\n{tiny:?}",
                model.name()
            );
        }
        classes.extend(all);
    }
    assert!(classes.len() >= 13, "too few classes to mean anything: {classes:?}");
}

/// The classes of all cycles in which no transaction stands twice.
fn all_cycles(graph: &Graph, txns: u32) -> BTreeSet<(Cycle, Order)> {
    let edges: Vec<Vec<(u32, Mask)>> = (0..txns).map(|txn| direct(graph, txn)).collect();
    let mut classes = BTreeSet::new();
    for start in 0..txns {
        extend(&edges, start, &mut Vec::new(), &mut classes);
    }
    classes
}

fn extend(edges: &[Vec<(u32, Mask)>], start: u32, hops: &mut Hops, classes: &mut BTreeSet<(Cycle, Order)>) {
    let here = hops.last().map_or(start, |(_, to, _)| *to);
    for (to, kind) in &edges[here as usize] {
        // Each cycle once: from its lowest transaction.
        if *to < start || hops.iter().any(|(_, passed, _)| passed == to) {
            continue;
        }
        hops.push((here, *to, *kind));
        if *to == start {
            classes.insert(classify(hops));
        } else {
            extend(edges, start, hops, classes);
        }
        hops.pop();
    }
}

/// Edges from transaction to transaction, over whatever lies between.
fn direct(graph: &Graph, txn: u32) -> Vec<(u32, Mask)> {
    let mut edges = Vec::new();
    let mut open: Vec<(u32, Mask)> = out(graph, txn);
    while let Some((to, kind)) = open.pop() {
        if graph.is_txn(to) {
            edges.push((to, kind));
        } else {
            open.extend(out(graph, to).into_iter().map(|(next, through)| {
                assert_eq!(through, THROUGH);
                (next, kind)
            }));
        }
    }
    edges.sort_unstable();
    edges.dedup();
    edges
}

fn out(graph: &Graph, node: u32) -> Vec<(u32, Mask)> {
    (0..).map_while(|number| graph.edge(node, number)).filter(|(to, _)| *to != NONE).collect()
}
