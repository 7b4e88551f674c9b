//! Network faults as lists of directed link changes, and what holds on a link while several of them overlap.

use std::collections::{BTreeMap, BTreeSet};

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use slotstorm_fabric::{Endpoint, LinkChange, Plane, Policy};

use crate::observer::ClusterModel;
use crate::plan::{ClientSide, Shape};

/// A directed link.
pub type Link = (Endpoint, Endpoint);

/// Who stands where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// The target's side.
    pub inside: BTreeSet<Endpoint>,
    /// The rest.
    pub outside: BTreeSet<Endpoint>,
}

/// Draws the sides: the targets (or a random half with about half of the masters) and the clients that stay
/// with them.
pub fn sides(
    shape: Shape,
    targets: &[u16],
    clients: ClientSide,
    client_count: u16,
    model: &ClusterModel,
    rng: &mut ChaCha8Rng,
) -> Sides {
    let inside_nodes: BTreeSet<u16> = match shape {
        Shape::Halves | Shape::Bridge => half(model, rng),
        _ => targets.iter().copied().collect(),
    };
    let mut sides = Sides::default();
    // Who is the bridge stands on neither side.
    let apart = |number: u16| shape == Shape::Bridge && targets.contains(&number);
    for node in model.nodes().iter().filter(|node| !apart(node.number)) {
        let side = if inside_nodes.contains(&node.number) { &mut sides.inside } else { &mut sides.outside };
        side.insert(Endpoint::Node(node.number));
    }
    let mut order: Vec<u16> = (0..client_count).collect();
    order.shuffle(rng);
    let staying = match (clients, shape) {
        (ClientSide::Both, _) => return sides,
        (ClientSide::Rest, _) => 0,
        (ClientSide::Side, Shape::Halves) => usize::from(client_count) / 2,
        // Three of ten: enough to keep writing to an isolated master, and the rest still loads the others.
        (ClientSide::Side, _) => (usize::from(client_count) * 3).div_ceil(10),
    };
    sides.inside.extend(order.iter().take(staying).map(|client| Endpoint::Client(*client)));
    sides.outside.extend(order.iter().skip(staying).map(|client| Endpoint::Client(*client)));
    sides
}

/// The smaller half of the cluster: a minority of the masters, and as many of the replicas.
fn half(model: &ClusterModel, rng: &mut ChaCha8Rng) -> BTreeSet<u16> {
    let mut masters = model.masters();
    let mut others: Vec<u16> =
        model.nodes().iter().map(|node| node.number).filter(|number| !masters.contains(number)).collect();
    masters.shuffle(rng);
    others.shuffle(rng);
    let some_masters = (masters.len().saturating_sub(1) / 2).max(usize::from(masters.len() > 1));
    let some_others = (model.nodes().len() / 2).saturating_sub(some_masters).min(others.len());
    masters.into_iter().take(some_masters).chain(others.into_iter().take(some_others)).collect()
}

/// The directed links that a ring cuts: each node keeps its nearest neighbours up to a majority.
pub fn ring(model: &ClusterModel, rng: &mut ChaCha8Rng) -> Vec<Link> {
    let mut order: Vec<u16> = model.nodes().iter().map(|node| node.number).collect();
    order.shuffle(rng);
    let count = order.len();
    let reach = (count / 2).div_ceil(2);
    let mut links = Vec::new();
    for (place, from) in order.iter().enumerate() {
        for (other, to) in order.iter().enumerate() {
            let apart = place.abs_diff(other);
            if apart.min(count - apart) > reach {
                links.push((Endpoint::Node(*from), Endpoint::Node(*to)));
            }
        }
    }
    links.sort();
    links
}

/// A side of the cluster with more (or less) than half of the masters and about half of the replicas; `with` is on it,
/// `without` is not.
pub fn side(
    model: &ClusterModel,
    majority: bool,
    with: Option<u16>,
    without: Option<u16>,
    rng: &mut ChaCha8Rng,
) -> BTreeSet<u16> {
    let mut masters = model.masters();
    let mut others = model.replicas();
    masters.shuffle(rng);
    others.shuffle(rng);
    let wanted = if majority { masters.len() / 2 + 1 } else { (masters.len() - 1) / 2 };
    masters.sort_by_key(|master| (Some(*master) != with, Some(*master) == without));
    let half = others.len() / 2;
    masters.into_iter().take(wanted).chain(others.into_iter().take(half)).collect()
}

/// The directed links between the sides that carry something: node to node, and client to node both ways.
pub fn links_between(shape: Shape, sides: &Sides) -> Vec<Link> {
    let mut links = Vec::new();
    for inside in &sides.inside {
        for outside in &sides.outside {
            if !matches!((inside, outside), (Endpoint::Node(_), _) | (_, Endpoint::Node(_))) {
                continue; // clients do not talk to each other
            }
            if shape != Shape::Incoming {
                links.push((*inside, *outside));
            }
            if shape != Shape::Outgoing {
                links.push((*outside, *inside));
            }
        }
    }
    links.sort();
    links
}

/// Policies in force, by link and plane, with the faults that want them: the latest rules, and when it ends
/// the one before it rules again.
#[derive(Debug, Default)]
pub struct InForce {
    wanted: BTreeMap<(Endpoint, Endpoint, Plane), Vec<(u32, Policy)>>,
}

impl InForce {
    /// A fault wants `policy` on `links`; answers the changes.
    pub fn begin(&mut self, fault: u32, links: &[Link], planes: &[Plane], policy: Policy) -> Vec<LinkChange> {
        let mut changes = Vec::new();
        for (from, to) in links {
            let planes = planes_of(*from, *to, planes);
            if planes.is_empty() {
                continue;
            }
            for plane in &planes {
                self.wanted.entry((*from, *to, *plane)).or_default().push((fault, policy));
            }
            changes.push(LinkChange { from: *from, to: *to, planes, policy });
        }
        changes
    }

    /// A fault ends; answers the changes.
    pub fn end(&mut self, fault: u32) -> Vec<LinkChange> {
        let mut next: BTreeMap<(Endpoint, Endpoint), Vec<(Plane, Policy)>> = BTreeMap::new();
        self.wanted.retain(|(from, to, plane), wanted| {
            let before = wanted.len();
            wanted.retain(|(by, _)| *by != fault);
            if wanted.len() < before {
                let policy = wanted.last().map_or(Policy::Pass, |(_, policy)| *policy);
                next.entry((*from, *to)).or_default().push((*plane, policy));
            }
            !wanted.is_empty()
        });
        let mut changes: Vec<LinkChange> = Vec::new();
        for ((from, to), planes) in next {
            for (plane, policy) in planes {
                match changes.last_mut() {
                    Some(last) if (last.from, last.to) == (from, to) && last.policy == policy => {
                        last.planes.push(plane);
                    }
                    _ => changes.push(LinkChange { from, to, planes: vec![plane], policy }),
                }
            }
        }
        changes
    }
}

/// The planes that can exist between two ends: clients have only one. (Between nodes a connection is on the
/// client plane until its first command tells what it is.)
fn planes_of(from: Endpoint, to: Endpoint, planes: &[Plane]) -> Vec<Plane> {
    let between_nodes = matches!((from, to), (Endpoint::Node(_), Endpoint::Node(_)));
    planes.iter().copied().filter(|plane| between_nodes || *plane == Plane::Client).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const N1: Endpoint = Endpoint::Node(1);
    const N2: Endpoint = Endpoint::Node(2);
    const HOLE: Policy = Policy::Blackhole { on_heal: slotstorm_fabric::OnHeal::Resume };

    #[test]
    fn in_a_ring_everyone_sees_a_majority_and_no_two_the_same() {
        let model = ClusterModel::new(6);
        let cut = ring(&model, &mut crate::plan::seed::rng(3, "ring"));
        let sees = |node: u16| -> BTreeSet<u16> {
            let all = (1..=6).filter(|other| !cut.contains(&(Endpoint::Node(node), Endpoint::Node(*other))));
            all.collect()
        };
        let views: BTreeSet<BTreeSet<u16>> = (1..=6).map(sees).collect();
        assert_eq!(views.len(), 6);
        assert!(views.iter().all(|view| view.len() >= 4));
    }

    #[test]
    fn when_one_of_two_overlapping_faults_ends_the_other_still_holds() {
        let mut in_force = InForce::default();
        in_force.begin(0, &[(N1, N2)], &[Plane::Bus, Plane::Replication], HOLE);
        in_force.begin(1, &[(N1, N2)], &[Plane::Bus], Policy::Refuse);
        let changes = in_force.end(0);
        assert_eq!(changes.len(), 2);
        assert_eq!((changes[0].planes.as_slice(), changes[0].policy), (&[Plane::Bus][..], Policy::Refuse));
        assert_eq!(
            (changes[1].planes.as_slice(), changes[1].policy),
            (&[Plane::Replication][..], Policy::Pass)
        );
        assert_eq!(in_force.end(1)[0].policy, Policy::Pass);
        assert!(in_force.wanted.is_empty());
    }

    #[test]
    fn a_client_link_has_only_the_client_plane() {
        let mut in_force = InForce::default();
        let changes = in_force.begin(0, &[(Endpoint::Client(0), N1), (N1, N2)], &Plane::ALL, HOLE);
        assert_eq!(changes[0].planes, [Plane::Client]);
        assert_eq!(changes[1].planes, Plane::ALL);
    }
}
