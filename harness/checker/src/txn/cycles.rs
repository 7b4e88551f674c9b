//! The shortest cycle of each class in each strongly connected component.
//!
//! A component of the class' own edges proves that there is a cycle, so a breadth-first search from one edge inside
//! finds it; more edges are tried for a shorter one while the budget (in steps, so that answers repeat) lasts. Only
//! G-single may be missed for want of budget; its cycle then still shows as G-nonadjacent or G2-item.

use super::components::{Edge, Space, components};
use super::graph::{Graph, Mask, NONE, PROCESS, REALTIME, RW, THROUGH, WR, WW};
use super::model::{Cycle, Order};

/// A cycle's edges between transactions, each with its relation.
pub(super) type Hops = Vec<(u32, u32, Mask)>;

pub(super) struct Cycles {
    pub found: Vec<(Cycle, Order, Hops)>,
    /// Some component was larger than the budget.
    pub cut: bool,
}

const CLASSES: [Cycle; 5] = [Cycle::G0, Cycle::G1c, Cycle::GSingle, Cycle::GNonadjacent, Cycle::G2Item];
const ORDERS: [(Order, Mask); 3] =
    [(Order::Data, 0), (Order::Process, PROCESS), (Order::Realtime, PROCESS | REALTIME)];
const MAX_STEPS_EACH: u64 = 1 << 20;

/// All of it, up to the given order of time; `steps` is the budget beyond the first search of each component.
pub(super) fn find(graph: &Graph, highest: Order, steps: u64) -> Cycles {
    let all = all_edges(highest);
    let suspects = components(&Within { graph, mask: all, label: None }, 0..graph.nodes());
    let mut cycles = Cycles { found: Vec::new(), cut: false };
    if suspects.is_empty() {
        return cycles;
    }
    let mut label = vec![0u32; graph.nodes() as usize];
    for (number, nodes) in (1..).zip(&suspects) {
        for node in nodes {
            label[*node as usize] = number;
        }
    }
    let suspects: Vec<u32> = suspects.concat();
    let mut marks = vec![0u16; graph.nodes() as usize];
    let mut walk = Walk::new(graph, steps);
    for (order, time) in ORDERS.into_iter().filter(|(order, _)| *order <= highest) {
        for class in CLASSES {
            let rule = Rule::of(class, time);
            let within = Within { graph, mask: rule.span, label: Some(&label) };
            let parts = if rule.nonadjacent {
                components(&Nonadjacent(within), suspects.iter().map(|node| node << 1))
            } else {
                components(&within, suspects.iter().copied())
            };
            for part in parts {
                let shift = u32::from(rule.nonadjacent);
                let known = part.iter().fold(0, |known, state| known | marks[(state >> shift) as usize]);
                if known & implying(class, order) != 0 {
                    continue;
                }
                let Some(hops) = walk.shortest_in(&part, rule) else { continue };
                let (class, order) = classify(&hops);
                if known & implying(class, order) == 0 {
                    marks[hops[0].0 as usize] |= bit(class, order);
                    cycles.found.push((class, order, hops));
                }
            }
        }
    }
    cycles.cut = walk.cut;
    cycles
}

/// Every dependency, and this order of time.
pub(super) fn all_edges(order: Order) -> Mask {
    WW | WR | RW | ORDERS[order as usize].1
}

fn bit(class: Cycle, order: Order) -> u16 {
    1 << (class as u16 * 3 + order as u16)
}

/// The classes of which one is always also a cycle of this class.
fn implying(class: Cycle, order: Order) -> u16 {
    let mut bits = 0;
    for worse in CLASSES.into_iter().filter(|worse| worse.implies(class)) {
        for (lower, _) in ORDERS.into_iter().filter(|(lower, _)| *lower <= order) {
            bits |= bit(worse, lower);
        }
    }
    bits
}

/// What a cycle is called, by what it contains.
pub(super) fn classify(hops: &Hops) -> (Cycle, Order) {
    let all = hops.iter().fold(0, |all, (_, _, kind)| all | kind);
    let order = match all {
        all if all & REALTIME != 0 => Order::Realtime,
        all if all & PROCESS != 0 => Order::Process,
        _ => Order::Data,
    };
    let anti = hops.iter().filter(|(_, _, kind)| *kind == RW).count();
    let adjacent = (0..hops.len()).any(|at| hops[at].2 == RW && hops[(at + 1) % hops.len()].2 == RW);
    let class = match anti {
        0 if all & WR == 0 => Cycle::G0,
        0 => Cycle::G1c,
        1 => Cycle::GSingle,
        _ if !adjacent => Cycle::GNonadjacent,
        _ => Cycle::G2Item,
    };
    (class, order)
}

/// How cycles of a class are looked for.
#[derive(Clone, Copy)]
struct Rule {
    /// The edges of the component.
    span: Mask,
    /// The edge that a search begins with.
    first: Mask,
    /// The edges of the way back.
    back: Mask,
    nonadjacent: bool,
}

impl Rule {
    fn of(class: Cycle, time: Mask) -> Self {
        let plain = |data: Mask, first: Mask| Self {
            span: data | time,
            first: match time {
                0 => first,
                PROCESS => PROCESS,
                _ => REALTIME,
            },
            back: data | time,
            nonadjacent: false,
        };
        let anti =
            Self { span: WW | WR | RW | time, first: RW, back: WW | WR | RW | time, nonadjacent: false };
        match class {
            Cycle::G0 => plain(WW, WW),
            Cycle::G1c => plain(WW | WR, WR),
            Cycle::GSingle => Self { back: WW | WR | time, ..anti },
            Cycle::GNonadjacent => Self { nonadjacent: true, ..anti },
            Cycle::G2Item => anti,
        }
    }
}

/// A part of the graph: some kinds of edges, inside components known before.
#[derive(Clone, Copy)]
struct Within<'a> {
    graph: &'a Graph,
    mask: Mask,
    label: Option<&'a [u32]>,
}

impl Within<'_> {
    fn allows(&self, from: u32, to: u32, kind: Mask) -> bool {
        to != NONE
            && kind & (self.mask | THROUGH) != 0
            && self.label.is_none_or(|label| label[from as usize] == label[to as usize])
    }
}

impl Space for Within<'_> {
    fn bound(&self) -> u32 {
        self.graph.nodes()
    }

    fn edge(&self, node: u32, number: u32) -> Option<Edge> {
        let (to, kind) = self.graph.edge(node, number)?;
        Some(if self.allows(node, to, kind) { Edge::To(to) } else { Edge::Hidden })
    }
}

/// The same, in which no two anti-dependencies follow each other: a state is a node and whether it was entered by one.
struct Nonadjacent<'a>(Within<'a>);

impl Space for Nonadjacent<'_> {
    fn bound(&self) -> u32 {
        self.0.graph.nodes() * 2
    }

    fn edge(&self, state: u32, number: u32) -> Option<Edge> {
        let node = state >> 1;
        let (to, kind) = self.0.graph.edge(node, number)?;
        let hidden = !self.0.allows(node, to, kind);
        Some(match next_state(state, to, kind) {
            Some(next) if !hidden => Edge::To(next),
            _ => Edge::Hidden,
        })
    }
}

fn next_state(state: u32, to: u32, kind: Mask) -> Option<u32> {
    match kind {
        THROUGH => Some(to << 1 | state & 1),
        RW if state & 1 == 1 => None,
        RW => Some(to << 1 | 1),
        _ => Some(to << 1),
    }
}

/// Breadth-first searches; its vectors are kept from search to search.
struct Walk<'a> {
    graph: &'a Graph,
    /// The component at hand: states with this stamp.
    inside: Vec<u32>,
    part: u32,
    /// By state: the search that saw it, at which distance, from where, by which kind.
    seen: Vec<Seen>,
    search: u32,
    queue: std::collections::VecDeque<u32>,
    steps_left: u64,
    cut: bool,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    search: u32,
    distance: u32,
    from: u32,
    kind: Mask,
}

impl<'a> Walk<'a> {
    fn new(graph: &'a Graph, steps: u64) -> Self {
        let states = graph.nodes() as usize * 2;
        Self {
            graph,
            inside: vec![0; states],
            part: 0,
            seen: vec![Seen::default(); states],
            search: 0,
            queue: std::collections::VecDeque::new(),
            steps_left: steps,
            cut: false,
        }
    }

    /// States are `node << 1 | entered by an anti-dependency` throughout; without the rule the low bit stays 0.
    fn shortest_in(&mut self, part: &[u32], rule: Rule) -> Option<Hops> {
        self.part += 1;
        for state in part {
            let state = if rule.nonadjacent { *state } else { state << 1 };
            self.inside[state as usize] = self.part;
        }
        let mut best: Option<Hops> = None;
        let budget = self.steps_left.min(MAX_STEPS_EACH);
        let mut steps = 0;
        for state in part {
            let from = if rule.nonadjacent { *state } else { state << 1 };
            if !self.graph.is_txn(from >> 1) || from & 1 == 1 {
                continue;
            }
            for number in 0.. {
                let Some((to, kind)) = self.graph.edge(from >> 1, number) else { break };
                let Some(first) = self.step(from, to, kind, rule.first, rule) else { continue };
                let limit = best.as_ref().map_or(u32::MAX, |best| best.len() as u32);
                if limit == 2 {
                    break;
                }
                if steps > budget {
                    self.cut = true;
                    self.steps_left -= budget.min(steps);
                    return best;
                }
                if let Some(hops) = self.way_back(from, (first, kind), rule, limit, &mut steps) {
                    best = Some(hops);
                }
            }
        }
        self.steps_left -= budget.min(steps);
        best
    }

    /// The state behind an edge, if the search may take it.
    fn step(&self, state: u32, to: u32, kind: Mask, mask: Mask, rule: Rule) -> Option<u32> {
        if to == NONE || kind & (mask | THROUGH) == 0 {
            return None;
        }
        let next = if rule.nonadjacent { next_state(state, to, kind)? } else { to << 1 };
        (self.inside[next as usize] == self.part).then_some(next)
    }

    /// The shortest cycle through this edge, if it has fewer than `limit` edges. An edge into a transaction counts one.
    fn way_back(
        &mut self,
        goal: u32,
        first: (u32, Mask),
        rule: Rule,
        limit: u32,
        steps: &mut u64,
    ) -> Option<Hops> {
        self.search += 1;
        self.queue.clear();
        self.reach(first.0, Seen { search: self.search, distance: 0, from: goal, kind: first.1 });
        while let Some(state) = self.queue.pop_front() {
            if state == goal {
                return Some(simple(self.path(goal)));
            }
            let distance = self.seen[state as usize].distance;
            for number in 0.. {
                let Some((to, kind)) = self.graph.edge(state >> 1, number) else { break };
                *steps += 1;
                let Some(next) = self.step(state, to, kind, rule.back, rule) else { continue };
                if distance + u32::from(self.graph.is_txn(to)) < limit {
                    self.reach(next, Seen { search: self.search, distance, from: state, kind });
                }
            }
        }
        None
    }

    /// `seen.distance` is that of the state before.
    fn reach(&mut self, state: u32, mut seen: Seen) {
        let txn = self.graph.is_txn(state >> 1);
        seen.distance += u32::from(txn);
        let before = &mut self.seen[state as usize];
        if before.search == seen.search && before.distance <= seen.distance {
            return;
        }
        *before = seen;
        if txn {
            self.queue.push_back(state);
        } else {
            self.queue.push_front(state);
        }
    }

    fn path(&self, goal: u32) -> Hops {
        let mut hops = Hops::new();
        let mut to = goal;
        let mut state = goal;
        loop {
            let Seen { from, kind, .. } = self.seen[state as usize];
            state = from;
            if self.graph.is_txn(state >> 1) {
                hops.push((state >> 1, to >> 1, kind));
                to = state;
            }
            if state == goal {
                break;
            }
        }
        hops.reverse();
        hops
    }
}

/// A walk in which a transaction stands twice holds a smaller cycle. Where anti-dependencies may not meet, one of the
/// two halves keeps that, and it is chosen.
fn simple(mut hops: Hops) -> Hops {
    'again: loop {
        for first in 0..hops.len() {
            for second in first + 1..hops.len() {
                if hops[first].0 != hops[second].0 {
                    continue;
                }
                let meets = hops[second - 1].2 == RW && hops[first].2 == RW;
                if meets {
                    hops.drain(first..second);
                } else {
                    hops = hops[first..second].to_vec();
                }
                continue 'again;
            }
        }
        return hops;
    }
}
