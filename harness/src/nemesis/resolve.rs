//! Selectors to nodes, at the moment the fault fires. A node that is down or stopped is never chosen.

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::observer::{ClusterModel, node_name};
use crate::plan::Selector;

/// The nodes that `selector` means now; an error says why there is none. `last` is whom the fault before hit,
/// with a slot of its shard at that time.
pub fn resolve(
    selector: Selector,
    model: &ClusterModel,
    last: Option<(u16, Option<u16>)>,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<u16>, String> {
    let mut one_of = |nodes: Vec<u16>, what: &str| match nodes.choose(rng) {
        Some(node) => Ok(vec![*node]),
        None => Err(format!("no live {what}")),
    };
    let some_of = |nodes: Vec<u16>, what: &str| {
        if nodes.is_empty() { Err(format!("no live {what}")) } else { Ok(nodes) }
    };
    match selector {
        Selector::RandomMaster => one_of(model.masters(), "master"),
        Selector::RandomReplica => one_of(model.replicas(), "replica"),
        Selector::RandomNode => one_of(model.live(), "node"),
        Selector::MasterOfSlot(slot) => model
            .master_of(slot)
            .map(|node| vec![node])
            .ok_or_else(|| format!("no live master of slot {slot}")),
        Selector::ReplicaOfSlot(slot) => {
            let master = model.master_of(slot).ok_or_else(|| format!("no live master of slot {slot}"))?;
            one_of(model.replicas_of(master), &format!("replica of {}", node_name(master)))
        }
        Selector::ItsReplica => {
            let (node, slot) = last.ok_or("no fault came before this one")?;
            let mut replicas = model.replicas_of(node);
            if replicas.is_empty()
                && let Some(master) = slot.and_then(|slot| model.master_of(slot))
            {
                replicas = model.replicas_of(master);
            }
            one_of(replicas, &format!("replica of {}'s shard", node_name(node)))
        }
        Selector::Node(number) => match model.node(number) {
            Some(node) if node.live() => Ok(vec![number]),
            Some(_) => Err(format!("n{number} is not running")),
            None => Err(format!("there is no node n{number}")),
        },
        Selector::All => some_of(model.live(), "node"),
        Selector::AllMasters => some_of(model.masters(), "master"),
        Selector::AllReplicas => some_of(model.replicas(), "replica"),
    }
}
