//! Selectors to nodes, at the moment the fault fires. A node that is down or stopped is never chosen, and a careful fault
//! never takes the last sound copy of a shard.

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::links;
use crate::observer::{ClusterModel, NodeModel, node_name};
use crate::plan::{Placed, Selector};

/// What selectors are relative to.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Whom the fault before hit, with a slot of its shard at that time.
    pub last: Option<(u16, Option<u16>)>,
    /// Of what triggered the fault.
    pub sender: Option<u16>,
    pub receiver: Option<u16>,
    pub subject: Option<u16>,
    /// Who gave the vote that was seen last.
    pub voter: Option<u16>,
    /// Whose promotion was seen last.
    pub promoted: Option<u16>,
}

/// The nodes that `selector` means now, of those that are `allowed`; an error says why there is none.
pub fn resolve(
    selector: Selector,
    model: &ClusterModel,
    context: &Context,
    allowed: &dyn Fn(u16) -> bool,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<u16>, String> {
    let some_of = |nodes: Vec<u16>, what: &str| {
        if nodes.is_empty() { Err(format!("no live {what}")) } else { Ok(nodes) }
    };
    let mut one_of = |nodes: Vec<u16>, what: &str| {
        let nodes = some_of(nodes, what)?;
        let fit: Vec<u16> = nodes.into_iter().filter(|node| allowed(*node)).collect();
        fit.choose(rng).map(|node| vec![*node]).ok_or_else(|| {
            format!("the budget forbids it: every live {what} is the last sound copy of its shard")
        })
    };
    // A node that was named by what it did: it is what it is, if it runs.
    let this = |node: Option<u16>, what: &str| {
        let number = node.ok_or_else(|| format!("no {what} was seen"))?;
        match model.node(number) {
            Some(node) if node.live() && allowed(number) => Ok(vec![number]),
            Some(node) if node.live() => {
                Err(format!("the budget forbids it: n{number} is the last sound copy of its shard"))
            }
            Some(_) => Err(format!("n{number} is not running")),
            None => Err(format!("there is no node n{number}")),
        }
    };
    let master = |slot: u16| model.master_of(slot).ok_or_else(|| format!("no live master of slot {slot}"));
    match selector {
        Selector::RandomMaster => one_of(model.masters(), "master"),
        Selector::RandomReplica => one_of(model.replicas(), "replica"),
        Selector::RandomNode => one_of(model.live(), "node"),
        Selector::MasterOfSlot(slot) => this(Some(master(slot)?), "master"),
        Selector::ReplicaOfSlot(slot) => {
            let master = master(slot)?;
            one_of(model.replicas_of(master), &format!("replica of {}", node_name(master)))
        }
        Selector::MostCaughtUp(slot) => this(by_offset(model, master(slot)?).pop(), "replica"),
        Selector::LeastCaughtUp(slot) => this(by_offset(model, master(slot)?).first().copied(), "replica"),
        Selector::ItsReplica => {
            let (node, slot) = context.last.ok_or("no fault came before this one")?;
            let mut replicas = model.replicas_of(node);
            if replicas.is_empty()
                && let Some(master) = slot.and_then(|slot| model.master_of(slot))
            {
                replicas = model.replicas_of(master);
            }
            one_of(replicas, &format!("replica of {}'s shard", node_name(node)))
        }
        Selector::It => this(context.last.map(|(node, _)| node), "fault before this one"),
        Selector::Sender => this(context.sender, "sender"),
        Selector::Receiver => this(context.receiver, "receiver"),
        Selector::Subject => this(context.subject, "subject"),
        Selector::Voter => this(context.voter, "vote"),
        Selector::NewMaster => this(context.promoted.or_else(|| newest_master(model)), "promotion"),
        Selector::Node(number) => this(Some(number), "node"),
        Selector::Majority(placed) | Selector::Minority(placed) => {
            let majority = matches!(selector, Selector::Majority(_));
            let (with, without) = match placed {
                Placed::Anywhere => (None, None),
                Placed::With(slot) => (Some(master(slot)?), None),
                Placed::Without(slot) => (None, Some(master(slot)?)),
            };
            if model.masters().len() < 3 {
                return Err("sides need three masters".to_owned());
            }
            Ok(links::side(model, majority, with, without, rng).into_iter().collect())
        }
        Selector::All => some_of(model.live(), "node"),
        Selector::AllMasters => some_of(model.masters(), "master"),
        Selector::AllReplicas => some_of(model.replicas(), "replica"),
    }
}

/// Live replicas of a node, the one that applied least first.
fn by_offset(model: &ClusterModel, master: u16) -> Vec<u16> {
    let offset = |number: &u16| {
        let seen = model.node(*number).and_then(|node| node.seen.as_ref());
        (seen.map(|(_, seen)| seen.offset), *number)
    };
    let mut replicas = model.replicas_of(master);
    replicas.sort_by_key(offset);
    replicas
}

/// Who claims slots with the greatest config epoch.
fn newest_master(model: &ClusterModel) -> Option<u16> {
    let epoch =
        |number: &u16| model.node(*number).and_then(|node| node.seen.as_ref()).map(|(_, seen)| seen.epoch);
    model.masters().into_iter().max_by_key(epoch)
}

/// Whether a shard still has a sound copy without this node: one that runs, that no fault of `hit` holds, and that is the
/// master or in touch with it.
pub fn spares(model: &ClusterModel, number: u16, hit: &dyn Fn(u16) -> bool) -> bool {
    let Some((_, seen)) = model.node(number).and_then(|node| node.seen.as_ref()) else { return false };
    let master = if seen.master { Some(node_name(number)) } else { seen.master_name.clone() };
    let sound = |node: &&NodeModel| {
        node.number != number
            && node.live()
            && !hit(node.number)
            && node.seen.as_ref().is_some_and(|(_, seen)| {
                (seen.master && Some(node.name()) == master)
                    || (!seen.master && seen.link_up && seen.master_name == master)
            })
    };
    // A master without slots has nothing to lose.
    (seen.master && seen.slots.is_empty()) || model.nodes().iter().any(|node| sound(&node))
}
