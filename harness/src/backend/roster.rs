//! Who is who in a cluster that slotstorm makes: masters first, then the first replica of each shard, and so on.

use slotstorm_checker::record::NodeInfo;

use super::process::address::BUS_OFFSET;
use super::{SeenBy, World};
use crate::admin::create::{CreatePlan, Created, Member};

/// How the nodes of `world` become a cluster.
pub fn create_plan<W: World>(world: &W, masters: u16) -> CreatePlan {
    let member = |node: u16| {
        let announced = world.address(node, SeenBy::Cluster);
        Member {
            name: format!("n{node}"),
            address: world.address(node, SeenBy::Controller),
            announced,
            bus_port: announced.port() + BUS_OFFSET,
            master: (node > masters).then(|| usize::from((node - 1) % masters)),
        }
    };
    CreatePlan {
        members: (1..=world.nodes()).map(member).collect(),
        timeout_ms: 30_000 + 500 * u64::from(world.nodes()),
        prove_replication: true,
    }
}

/// What `run.json` says of the nodes. `created` gives ids and slots, `server` program and version of a node.
pub fn node_infos<W: World>(
    world: &W,
    masters: u16,
    created: &Created,
    server: impl Fn(u16) -> (String, String),
) -> Vec<NodeInfo> {
    let shards = created.shards();
    (1..=world.nodes())
        .map(|node| {
            let shard = (node - 1) % masters;
            let master_id = &created.ids[usize::from(shard)];
            let slots = shards.iter().find(|(id, _)| id == master_id);
            let (sut, version) = server(node);
            NodeInfo {
                name: format!("n{node}"),
                id: created.ids[usize::from(node - 1)].clone(),
                sut,
                version,
                real: world.address(node, SeenBy::Controller).to_string(),
                announced: world.address(node, SeenBy::Cluster).to_string(),
                shard: u32::from(shard),
                master: node <= masters,
                slots: slots.map(|(_, slots)| slots.clone()).unwrap_or_default(),
            }
        })
        .collect()
}
