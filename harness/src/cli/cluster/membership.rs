//! The levers that change who is what: add-node, del-node, failover, set-timeout.

use clap::Args;

use super::screen::Screen;
use super::{Auth, Common, Done, Trouble, resolve, with_fleet};
use crate::admin::failover::{FailoverPlan, Mode, fail_over};
use crate::admin::health;
use crate::admin::membership::{self as flows, AddNode, NewRole};
use crate::admin::note::{Note, step};

/// Arguments of `slotstorm cluster add-node`.
#[derive(Clone, Debug, Args)]
pub struct AddNodeArgs {
    /// The empty server
    #[arg(value_name = "NEW_HOST:PORT")]
    new: String,
    /// Any node of the cluster
    #[arg(value_name = "HOST:PORT")]
    entry: String,
    /// As a replica, of the master with the fewest
    #[arg(long = "cluster-slave", visible_aliases = ["replica", "cluster-replica"], alias = "slave")]
    replica: bool,
    /// As a replica of this master
    #[arg(
        long = "cluster-master-id", visible_aliases = ["master-id", "cluster-master-node"], alias = "master-node",
        value_name = "NODE_ID"
    )]
    master: Option<String>,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    timeout: u64,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `slotstorm cluster del-node`.
#[derive(Clone, Debug, Args)]
pub struct DelNodeArgs {
    /// Any node of the cluster
    #[arg(value_name = "HOST:PORT")]
    entry: String,
    /// The node to be taken out
    #[arg(value_name = "NODE_ID")]
    node: String,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `slotstorm cluster failover`.
#[derive(Clone, Debug, Args)]
pub struct FailoverArgs {
    /// A master (its best replica takes over), or the replica that shall: HOST:PORT or node id
    #[arg(value_name = "HOST:PORT|NODE_ID")]
    node: String,
    /// Any node of the cluster, if NODE is given by its id or is down
    #[arg(long, value_name = "HOST:PORT")]
    via: Option<String>,
    /// Without the master's help: writes that the replica does not have are lost
    #[arg(long, conflicts_with = "takeover")]
    force: bool,
    /// Without the master's help and without votes
    #[arg(long)]
    takeover: bool,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 15, value_name = "SECONDS")]
    timeout: u64,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `slotstorm cluster set-timeout`.
#[derive(Clone, Debug, Args)]
pub struct SetTimeoutArgs {
    /// Any node of the cluster
    #[arg(value_name = "HOST:PORT")]
    entry: String,
    #[arg(value_name = "MILLISECONDS")]
    timeout_ms: u64,
    #[command(flatten)]
    common: Common,
}

/// Where the cluster is asked for if only a node id is given: redis-cli's own default.
const DEFAULT_ENTRY: &str = "127.0.0.1:6379";

/// Runs `add-node`.
pub fn add_node(args: &AddNodeArgs, auth: &Auth) -> Done {
    let new = resolve(&args.new)?;
    let screen = Screen::new(false);
    let tell = |note: Note| screen.show(&note);
    step(&tell, format!("Adding node {} to cluster {}", args.new, args.entry));
    with_fleet(resolve(&args.entry)?, &args.common, auth, async |fleet| {
        if !flows::fit_to_grow(fleet, &tell).await? {
            return Err(Trouble::Said);
        }
        let role = match &args.master {
            None if args.replica => NewRole::Replica,
            None => NewRole::Master,
            Some(id) => match fleet.find(id).filter(|master| fleet.nodes[*master].master()) {
                Some(master) => NewRole::ReplicaOf(master),
                None => return Err(Trouble::Failed(format!("[ERR] No such master ID {id}"))),
            },
        };
        let plan = AddNode { new, role, timeout_ms: args.timeout * 1000 };
        flows::add_node(fleet, &plan, &tell)
            .await
            .map_err(|error| Trouble::Failed(format!("[ERR] {error}")))?;
        tell(Note::Good("New node added correctly.".to_owned()));
        Ok(())
    })
}

/// Runs `del-node`.
pub fn del_node(args: &DelNodeArgs, auth: &Auth) -> Done {
    let screen = Screen::new(false);
    let tell = |note: Note| screen.show(&note);
    step(&tell, format!("Removing node {} from cluster {}", args.node, args.entry));
    with_fleet(resolve(&args.entry)?, &args.common, auth, async |fleet| {
        let Some(node) = fleet.find(&args.node) else {
            return Err(Trouble::Failed(format!("[ERR] No such node ID {}", args.node)));
        };
        flows::del_node(fleet, node, &tell).await.map_err(|error| Trouble::Failed(format!("[ERR] {error}")))
    })
}

/// Runs `failover`.
pub fn failover(args: &FailoverArgs, auth: &Auth) -> Done {
    let named = args.node.contains(':').then(|| resolve(&args.node)).transpose()?;
    let entry = match (&args.via, named) {
        (Some(via), _) => resolve(via)?,
        (None, Some(node)) => node,
        (None, None) => resolve(DEFAULT_ENTRY)?,
    };
    let mode = match (args.force, args.takeover) {
        (true, _) => Mode::Force,
        (_, true) => Mode::Takeover,
        _ => Mode::Plain,
    };
    let screen = Screen::new(false);
    let tell = |note: Note| screen.show(&note);
    with_fleet(entry, &args.common, auth, async |fleet| {
        let node = named.map_or_else(|| args.node.clone(), |address| address.to_string());
        let plan = FailoverPlan { node, mode, timeout_ms: args.timeout * 1000 };
        let done = fail_over(fleet, &plan, &tell)
            .await
            .map_err(|error| Trouble::Failed(format!("[ERR] {error}")))?;
        tell(Note::Good(format!(
            "{} ({}) is master of {} slots now, in place of {}: promoted after {} ms.",
            done.new_master,
            done.new_id,
            done.slots,
            done.old_master,
            done.promotion / 1_000_000
        )));
        if let Some(after) = done.agreement {
            let nodes = fleet.nodes.len();
            tell(Note::Good(format!("All {nodes} nodes agree, after {} ms.", after / 1_000_000)));
            return Ok(());
        }
        // Who does not follow yet, so that one knows where to look.
        let silent: Vec<String> =
            fleet.refresh().await.into_iter().map(|(index, _)| fleet.nodes[index].label()).collect();
        let health = health::look(fleet, 0).await;
        tell(Note::Bad(format!(
            "Not all nodes agree after {} s{}{}.",
            args.timeout,
            if silent.is_empty() { String::new() } else { format!(": {} do not answer", silent.join(", ")) },
            if health.uncovered.is_empty() { "" } else { ": slots have no owner" }
        )));
        Err(Trouble::Said)
    })
}

/// Runs `set-timeout`.
pub fn set_timeout(args: &SetTimeoutArgs, auth: &Auth) -> Done {
    if args.timeout_ms < 100 {
        let text = "Setting a node timeout of less than 100 milliseconds is a bad idea.";
        return Err(Trouble::Failed(text.to_owned()));
    }
    let screen = Screen::new(false);
    let tell = |note: Note| screen.show(&note);
    with_fleet(resolve(&args.entry)?, &args.common, auth, async |fleet| {
        // As redis-cli, this says how many took it, and is no failure.
        flows::set_timeout(fleet, args.timeout_ms, &tell).await;
        Ok(())
    })
}
