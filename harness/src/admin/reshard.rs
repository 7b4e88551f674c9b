//! Which slots go where: a number of slots from some masters to one (reshard), or as many as make all masters even
//! (rebalance). Plans only; [`super::mover`] carries them out.

use super::fleet::Fleet;
use super::migrate::Road;
use super::mover::SlotMove;
use super::{Reach, slots};
use crate::admin::parse::SLOTS;

/// `wanted` slots from `sources` to `target`, from each in proportion to what it has, the lowest first; the biggest
/// source gives the odd ones. Fewer if the sources have fewer.
pub fn plan_reshard<R: Reach>(
    fleet: &Fleet<R>,
    sources: &[usize],
    target: usize,
    wanted: usize,
) -> Vec<SlotMove> {
    let owned = |source: &usize| slots::expand(&fleet.nodes[*source].own.slots);
    let owned: Vec<(usize, Vec<u16>)> = sources.iter().map(|source| (*source, owned(source))).collect();
    let taken = share(&owned.iter().map(|(_, list)| list.len()).collect::<Vec<_>>(), wanted);
    let mut plan: Vec<(usize, SlotMove)> = Vec::new();
    for ((source, list), count) in owned.into_iter().zip(taken) {
        let road = Road { from: source, to: target };
        let size = list.len();
        plan.extend(list.into_iter().take(count).map(|slot| (size, SlotMove { slot, road })));
    }
    // The biggest source first, as redis-cli lists them; slots of a source stay together.
    plan.sort_by_key(|(size, it)| (std::cmp::Reverse(*size), it.road.from, it.slot));
    plan.into_iter().map(|(_, it)| it).collect()
}

/// How many each gives so that the sum is `wanted` (or all there is), in proportion to what each has.
fn share(sizes: &[usize], wanted: usize) -> Vec<usize> {
    let total: usize = sizes.iter().sum();
    if wanted >= total {
        return sizes.to_vec();
    }
    let mut taken: Vec<usize> = sizes.iter().map(|size| wanted * size / total).collect();
    let mut missing = wanted - taken.iter().sum::<usize>();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(sizes[*index]));
    for index in order.into_iter().cycle() {
        if missing == 0 {
            break;
        }
        if taken[index] < sizes[index] {
            taken[index] += 1;
            missing -= 1;
        }
    }
    taken
}

/// How masters are made even.
#[derive(Clone, Debug, PartialEq)]
pub struct RebalanceOptions {
    /// Places of masters and their weights; a master that is not named has 1.
    pub weights: Vec<(usize, f64)>,
    /// Masters without slots take part.
    pub use_empty: bool,
    /// Percent by which a master may be off before anything is done.
    pub threshold: f64,
}

/// Why nothing is to be done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoRebalance {
    #[error("No rebalancing needed! All nodes are within the {0:.2}% threshold.")]
    Even(f64),
    #[error("The weights of all nodes are zero.")]
    NoWeight,
}

/// From one master to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub road: Road,
    pub slots: Vec<u16>,
}

/// What is to be moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebalance {
    pub nodes: usize,
    pub total_weight: f64,
    pub transfers: Vec<Transfer>,
}

/// The moves that leave each master with its weight's share, to one slot.
pub fn plan_rebalance<R: Reach>(
    fleet: &Fleet<R>,
    options: &RebalanceOptions,
) -> Result<Rebalance, NoRebalance> {
    let mut members: Vec<Share> = Vec::new();
    for node in fleet.masters() {
        let owned = slots::expand(&fleet.nodes[node].own.slots);
        let named = options.weights.iter().find(|(it, _)| *it == node).map(|(_, weight)| *weight);
        if owned.is_empty() && !options.use_empty {
            continue;
        }
        members.push(Share { node, weight: named.unwrap_or(1.0), owned });
    }
    let nodes = members.len();
    let (total_weight, flows) = balance(&mut members, options.threshold)?;
    Ok(Rebalance { nodes, total_weight, transfers: flows })
}

struct Share {
    node: usize,
    weight: f64,
    owned: Vec<u16>,
}

fn balance(members: &mut [Share], threshold: f64) -> Result<(f64, Vec<Transfer>), NoRebalance> {
    let total: f64 = members.iter().map(|it| it.weight).sum();
    if total <= 0.0 {
        return Err(NoRebalance::NoWeight);
    }
    let in_all: usize = members.iter().map(|it| it.owned.len()).sum();
    let ideal = |it: &Share| f64::from(SLOTS) / total * it.weight;
    let off = |it: &Share| {
        let (has, should) = (it.owned.len() as f64, ideal(it).floor());
        if it.owned.is_empty() { should > 1.0 } else { (100.0 - 100.0 * should / has).abs() > threshold }
    };
    if !members.iter().any(off) {
        return Err(NoRebalance::Even(threshold));
    }
    let mut expected: Vec<usize> = members.iter().map(|it| ideal(it).floor() as usize).collect();
    // What rounding left over goes to those that would have to give most, so that the fewest slots move.
    let mut spare = in_all.saturating_sub(expected.iter().sum());
    let mut order: Vec<usize> = (0..members.len()).filter(|index| members[*index].weight > 0.0).collect();
    order.sort_by_key(|index| (expected[*index] as i64 - members[*index].owned.len() as i64, *index));
    for index in order.into_iter().cycle() {
        if spare == 0 {
            break;
        }
        expected[index] += 1;
        spare -= 1;
    }
    let mut transfers = Vec::new();
    loop {
        let surplus = |index: &usize| members[*index].owned.len() as i64 - expected[*index] as i64;
        let giver = (0..members.len()).max_by_key(|index| (surplus(index), std::cmp::Reverse(*index)));
        let taker = (0..members.len()).min_by_key(|index| (surplus(index), *index));
        let (Some(giver), Some(taker)) = (giver, taker) else { break };
        let count = surplus(&giver).min(-surplus(&taker));
        if count <= 0 {
            break;
        }
        let road = Road { from: members[giver].node, to: members[taker].node };
        let slots: Vec<u16> = members[giver].owned.drain(..count as usize).collect();
        // The taker's new slots come last, so that none is moved twice.
        members[taker].owned.extend(&slots);
        transfers.push(Transfer { road, slots });
    }
    Ok((total, transfers))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(node: usize, weight: f64, first: u16, end: u16) -> Share {
        Share { node, weight, owned: (first..end).collect() }
    }

    #[test]
    fn sources_give_in_proportion_and_exactly_what_is_wanted() {
        assert_eq!(share(&[5461, 5462, 5461], 1000), [333, 334, 333]);
        assert_eq!(share(&[10, 0], 99), [10, 0]);
        assert_eq!(share(&[1, 1, 1], 2), [1, 1, 0]);
    }

    #[test]
    fn an_even_cluster_needs_nothing() {
        let mut even = [member(0, 1.0, 0, 5461), member(1, 1.0, 5461, 10923), member(2, 1.0, 10923, 16384)];
        assert_eq!(balance(&mut even, 2.0).unwrap_err(), NoRebalance::Even(2.0));
    }

    #[test]
    fn an_empty_master_gets_its_share_from_everybody() {
        let mut members = [
            member(0, 1.0, 0, 5461),
            member(1, 1.0, 5461, 10923),
            member(2, 1.0, 10923, 16384),
            member(3, 1.0, 0, 0),
        ];
        let (_, transfers) = balance(&mut members, 2.0).unwrap();
        let counts: Vec<usize> = transfers.iter().map(|it| it.slots.len()).collect();
        assert_eq!(counts, [1366, 1365, 1365]);
        assert!(transfers.iter().all(|it| it.road.to == 3));
    }

    #[test]
    fn a_weight_of_zero_empties_a_master() {
        let mut members = [member(0, 0.0, 0, 6000), member(1, 1.0, 6000, 16384)];
        balance(&mut members, 2.0).unwrap();
        assert!(members[0].owned.is_empty());
    }

    proptest! {
        #[test]
        fn every_master_ends_within_a_slot_of_its_share_and_no_slot_moves_twice(
            cuts in proptest::collection::btree_set(1u16..16383, 1..6),
            weights in proptest::collection::vec(0u8..4, 7),
        ) {
            let mut edges = vec![0];
            edges.extend(cuts);
            edges.push(SLOTS);
            let mut members: Vec<Share> = edges.windows(2).enumerate()
                .map(|(node, pair)| member(node, f64::from(weights[node]), pair[0], pair[1])).collect();
            let total: f64 = members.iter().map(|it| it.weight).sum();
            match balance(&mut members, 0.0) {
                Err(NoRebalance::NoWeight) => prop_assert!(total <= 0.0),
                Err(NoRebalance::Even(_)) => {}
                Ok((_, transfers)) => {
                    for it in &members {
                        let ideal = f64::from(SLOTS) / total * it.weight;
                        prop_assert!((it.owned.len() as f64 - ideal).abs() <= members.len() as f64);
                    }
                    let mut moved: Vec<u16> = transfers.iter().flat_map(|it| it.slots.clone()).collect();
                    let count = moved.len();
                    moved.sort_unstable();
                    moved.dedup();
                    prop_assert_eq!(moved.len(), count);
                }
            }
        }
    }
}
