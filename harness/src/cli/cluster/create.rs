//! `slotstorm cluster create`.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use clap::Args;

use super::screen::{Screen, agreed};
use super::{Auth, Common, Done, PATIENCE_MS, Trouble, resolve, with_reach};
use crate::admin::allocation::{Allocation, allocate};
use crate::admin::create::{CreateError, CreatePlan, Empty, Member, Progress, create, even_slots, inspect};
use crate::admin::fleet::Fleet;
use crate::admin::health::{CheckOptions, check};
use crate::admin::note::{Note, line, step};
use crate::admin::{Reach, ms, slots};

/// Arguments of `slotstorm cluster create`.
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    /// The servers, each empty and with cluster-enabled yes
    #[arg(value_name = "HOST:PORT", required = true)]
    nodes: Vec<String>,
    /// Replicas of each master
    #[arg(long = "cluster-replicas", visible_alias = "replicas", default_value_t = 0, value_name = "N")]
    replicas: usize,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,
    #[command(flatten)]
    common: Common,
}

/// Runs the verb.
pub fn run(args: &CreateArgs, auth: &Auth) -> Done {
    let addresses: Vec<SocketAddr> = args.nodes.iter().map(|node| resolve(node)).collect::<Result<_, _>>()?;
    let mut seen = BTreeSet::new();
    if let Some(twice) = addresses.iter().find(|address| !seen.insert(**address)) {
        return Err(Trouble::Usage(format!("{twice} was given twice")));
    }
    let dealt = allocate(&addresses, args.replicas).map_err(|error| Trouble::Usage(error.to_string()))?;
    let screen = Screen::new(false);
    let tell = |note: Note| screen.show(&note);
    with_reach(&args.common, auth, async |reach| {
        let mut nodes = Vec::with_capacity(addresses.len());
        for found in inspect(&reach, &addresses, PATIENCE_MS).await {
            nodes.push(found.map_err(|error| Trouble::Failed(sentence(&error)))?);
        }
        say_plan(&addresses, &nodes, &dealt, &tell);
        if !agreed("Can I set the above configuration? (type 'yes' to accept): ", args.common.yes)? {
            println!("\n*** Nothing was changed.");
            return Err(Trouble::Said);
        }
        let plan = CreatePlan {
            members: members(&addresses, &nodes, &dealt),
            timeout_ms: args.timeout * 1000,
            prove_replication: false,
        };
        let begun = reach.now();
        let created = create(&reach, &plan, |progress| match progress {
            Progress::Assigned { .. } => {
                step(&tell, "Nodes configuration updated");
                step(&tell, "Assign a different config epoch to each node");
            }
            Progress::Replicating { .. } => step(&tell, "Sending CLUSTER MEET messages to join the cluster"),
            Progress::Introduced { .. } => line(&tell, "Waiting for the cluster to join\n"),
            // What takes longer than it should is named; the first three seconds are ordinary.
            Progress::Missing { at, what } if at > begun + ms(3000) => {
                line(&tell, format!("Waiting: {what}"));
            }
            _ => {}
        });
        created.await.map_err(|error| Trouble::Failed(sentence(&error)))?;
        let mut fleet = Fleet::discover(&reach, addresses[0], PATIENCE_MS).await?;
        let options = CheckOptions { settle_ms: 2000, ..CheckOptions::default() };
        if check(&mut fleet, options, &tell).await?.clean() { Ok(()) } else { Err(Trouble::Said) }
    })
}

fn sentence(error: &CreateError) -> String {
    match error {
        CreateError::NotEmpty { address, why, .. } => format!(
            "[ERR] Node {address} is not empty. Either the node already knows other nodes (check with CLUSTER NODES) \
             or contains some key in database 0. Here: {why}"
        ),
        CreateError::NoCluster { address, .. } => {
            format!("[ERR] Node {address} is not configured as a cluster node.")
        }
        CreateError::Ask(crate::admin::resp::AskError::Refused { address, why }) => {
            format!("Could not connect to Redis at {address}: {why}")
        }
        other => format!("[ERR] {other}"),
    }
}

/// Masters first, in the order in which slots are dealt; then replicas.
fn members(addresses: &[SocketAddr], nodes: &[Empty], dealt: &Allocation) -> Vec<Member> {
    let member = |index: usize, master: Option<usize>| Member {
        name: addresses[index].to_string(),
        address: addresses[index],
        announced: addresses[index],
        bus_port: nodes[index].bus_port,
        master,
    };
    let masters = dealt.masters.iter().map(|index| member(*index, None));
    let replicas = dealt
        .replicas
        .iter()
        .map(|(replica, master)| member(*replica, dealt.masters.iter().position(|index| index == master)));
    masters.chain(replicas).collect()
}

fn say_plan(addresses: &[SocketAddr], nodes: &[Empty], dealt: &Allocation, tell: &dyn Fn(Note)) {
    step(tell, format!("Performing hash slots allocation on {} nodes...", addresses.len()));
    let dealt_slots = even_slots(dealt.masters.len() as u16);
    for (index, (first, last)) in dealt_slots.iter().enumerate() {
        line(tell, format!("Master[{index}] -> Slots {first} - {last}"));
    }
    for (place, (replica, master)) in dealt.replicas.iter().enumerate() {
        if place == dealt.regular {
            line(tell, "Adding extra replicas...");
        }
        line(tell, format!("Adding replica {} to {}", addresses[*replica], addresses[*master]));
    }
    if dealt.same_host > 0 {
        step(tell, "Trying to optimize slaves allocation for anti-affinity");
        tell(Note::Warning("Some slaves are in the same host as their master".to_owned()));
    }
    for (index, (address, node)) in addresses.iter().zip(nodes).enumerate() {
        if let Some(shard) = dealt.masters.iter().position(|master| *master == index) {
            let (first, last) = dealt_slots[shard];
            line(tell, format!("M: {} {address}", node.id));
            let ranges = slots::bracketed(&[(first, last)]);
            line(tell, format!("   slots:{ranges} ({} slots) master", last - first + 1));
        } else if let Some((_, master)) = dealt.replicas.iter().find(|(replica, _)| *replica == index) {
            line(tell, format!("S: {} {address}", node.id));
            line(tell, format!("   replicates {}", nodes[*master].id));
        }
    }
}
