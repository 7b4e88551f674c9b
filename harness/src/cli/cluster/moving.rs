//! The levers that move slots and keys: reshard, rebalance, fix, import.

use std::net::SocketAddr;

use clap::Args;

use super::screen::{Screen, agreed, ask, halt_on_interrupt, secret};
use super::{Auth, Common, Done, Entry, PATIENCE_MS, Trouble, resolve, with_fleet};
use crate::admin::fix::{FixOptions, fix as mend};
use crate::admin::fleet::{Fleet, portrait};
use crate::admin::health::{self, CheckOptions, check};
use crate::admin::import::{ImportPlan, import as bring};
use crate::admin::migrate::{CarryOptions, Road, Winner};
use crate::admin::mover::{MoveReport, Orders, SlotMove, move_slots};
use crate::admin::note::{Note, Teller, line, step};
use crate::admin::parse::SLOTS;
use crate::admin::reshard::{NoRebalance, RebalanceOptions, plan_rebalance, plan_reshard};
use crate::admin::{Login, Reach, ms};

/// The nodes may take this long to agree, milliseconds: claims travel by gossip.
const SETTLE_MS: u64 = 5000;

/// How keys are carried.
#[derive(Clone, Debug, Args)]
pub struct Carrying {
    /// MIGRATE's time-out
    #[arg(
        long = "cluster-timeout", visible_alias = "timeout", default_value_t = 60_000, value_name = "MILLISECONDS",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    timeout_ms: u64,
    /// Keys of one MIGRATE; without it, as many as take some ten milliseconds
    #[arg(
        long = "cluster-pipeline", visible_alias = "pipeline", value_name = "KEYS",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pipeline: Option<u32>,
    /// Where both sides hold a key with different values, the source's wins
    #[arg(long = "cluster-replace", visible_alias = "replace")]
    replace: bool,
}

impl Carrying {
    fn options(&self, give_up_at: Option<u64>) -> CarryOptions {
        CarryOptions {
            timeout_ms: self.timeout_ms,
            keys: self.pipeline,
            winner: if self.replace { Winner::Source } else { Winner::Nobody },
            give_up_at,
            ..CarryOptions::default()
        }
    }
}

/// Arguments of `slotstorm cluster reshard`.
#[derive(Clone, Debug, Args)]
pub struct ReshardArgs {
    #[command(flatten)]
    entry: Entry,
    /// Masters to take slots from, or `all`
    #[arg(long = "cluster-from", visible_alias = "from", value_name = "ID[,ID...]")]
    from: Option<String>,
    /// The master that gets them
    #[arg(long = "cluster-to", visible_alias = "to", value_name = "ID")]
    to: Option<String>,
    /// How many slots
    #[arg(long = "cluster-slots", visible_alias = "slots", value_name = "N")]
    slots: Option<u16>,
    /// Stop after this many seconds, between two groups of slots
    #[arg(long, value_name = "SECONDS")]
    within: Option<u64>,
    #[command(flatten)]
    carrying: Carrying,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `slotstorm cluster rebalance`.
#[derive(Clone, Debug, Args)]
pub struct RebalanceArgs {
    #[command(flatten)]
    entry: Entry,
    /// Shares of masters; 1 for those that are not named, 0 empties one
    #[arg(
        long = "cluster-weight", visible_alias = "weight", value_name = "ID=W", num_args = 1.., action =
        clap::ArgAction::Append
    )]
    weight: Vec<String>,
    /// Masters without slots take part
    #[arg(long = "cluster-use-empty-masters", visible_alias = "use-empty-masters")]
    use_empty: bool,
    /// Say what would be done
    #[arg(long = "cluster-simulate", visible_alias = "simulate")]
    simulate: bool,
    /// Percent by which a master may be off
    #[arg(
        long = "cluster-threshold",
        visible_alias = "threshold",
        default_value_t = 2.0,
        value_name = "PERCENT"
    )]
    threshold: f64,
    /// Stop after this many seconds, between two groups of slots
    #[arg(long, value_name = "SECONDS")]
    within: Option<u64>,
    #[command(flatten)]
    carrying: Carrying,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `slotstorm cluster fix`.
#[derive(Clone, Debug, Args)]
pub struct FixArgs {
    #[command(flatten)]
    entry: Entry,
    /// Also mend slots of which several masters hold keys
    #[arg(long = "cluster-search-multiple-owners", visible_alias = "search-multiple-owners")]
    search_owners: bool,
    /// Go on though masters do not answer: keys that only they hold stay out of sight
    #[arg(long = "cluster-fix-with-unreachable-masters", visible_alias = "with-unreachable-masters")]
    unreachable: bool,
    #[command(flatten)]
    carrying: Carrying,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `slotstorm cluster import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    entry: Entry,
    /// The server whose keys are imported
    #[arg(long = "cluster-from", visible_alias = "from", value_name = "HOST:PORT")]
    from: Option<String>,
    /// The user to log in as on that server
    #[arg(long = "cluster-from-user", visible_alias = "from-user", value_name = "NAME")]
    from_user: Option<String>,
    /// The password there
    #[arg(long = "cluster-from-pass", visible_alias = "from-pass", value_name = "PASSWORD")]
    from_pass: Option<String>,
    /// Ask for that password
    #[arg(long = "cluster-from-askpass", visible_alias = "from-askpass")]
    from_askpass: bool,
    /// That server keeps its keys
    #[arg(long = "cluster-copy", visible_alias = "copy")]
    copy: bool,
    #[command(flatten)]
    carrying: Carrying,
    #[command(flatten)]
    common: Common,
}

/// Runs `reshard`.
pub fn reshard(args: &ReshardArgs, auth: &Auth) -> Done {
    let entry = args.entry.address()?;
    let screen = Screen::new(false);
    let tell = |note: Note| screen.show(&note);
    with_fleet(entry, &args.common, auth, async |fleet| {
        let options = CheckOptions { settle_ms: SETTLE_MS, ..CheckOptions::default() };
        if !check(fleet, options, &tell).await?.clean() {
            tell(Note::Stop("Please fix your cluster problems before resharding".to_owned()));
            return Err(Trouble::Said);
        }
        let wanted = wanted_slots(args)?;
        let target = receiver(fleet, args, &tell)?;
        let sources = givers(fleet, args, target, &tell)?;
        let moves = plan_reshard(fleet, &sources, target, usize::from(wanted));
        say_plan(fleet, &moves, &sources, target, &tell);
        if !agreed("Do you want to proceed with the proposed reshard plan (yes/no)? ", args.common.yes)? {
            return Err(Trouble::Said);
        }
        let carry = args.carrying.options(args.within.map(|within| fleet.reach.now() + ms(within * 1000)));
        let halt = halt_on_interrupt()?;
        let orders = Orders { carry, fresh: true, tell: &tell, halt: &|| halt.get(), source_first: false };
        let report = move_slots(fleet, &moves, &orders).await;
        screen.end_of_move(0);
        finish(fleet, entry, &report, &tell).await
    })
}

/// What is to say after a move; an error if it is not whole, or the nodes do not agree.
async fn finish<R: Reach>(
    fleet: &mut Fleet<R>,
    entry: SocketAddr,
    report: &MoveReport,
    tell: Teller<'_>,
) -> Done {
    for sentence in report.sentences(&entry.to_string()) {
        tell(if report.complete() { Note::Warning(sentence) } else { Note::Bad(sentence) });
    }
    if !report.complete() {
        return Err(Trouble::Said);
    }
    let seconds = report.took as f64 / 1e9;
    line(tell, format!("Moved {} slots and {} keys in {seconds:.2} s.", report.moved.len(), report.keys));
    if health::settle(fleet, SETTLE_MS).await {
        tell(Note::Good("All nodes agree about slots configuration.".to_owned()));
        Ok(())
    } else {
        tell(Note::Bad(format!("Nodes don't agree about configuration after {} s.", SETTLE_MS / 1000)));
        Err(Trouble::Said)
    }
}

fn wanted_slots(args: &ReshardArgs) -> Result<u16, Trouble> {
    let wrong = |what: &str| Trouble::Usage(format!("{what:?} is no number of slots (1 to {SLOTS})"));
    if let Some(slots) = args.slots {
        return if (1..=SLOTS).contains(&slots) { Ok(slots) } else { Err(wrong(&slots.to_string())) };
    }
    loop {
        let question = format!("How many slots do you want to move (from 1 to {SLOTS})? ");
        let answer =
            ask(&question)?.ok_or_else(|| Trouble::Usage("--cluster-slots is missing".to_owned()))?;
        if let Some(slots) = answer.parse().ok().filter(|slots| (1..=SLOTS).contains(slots)) {
            return Ok(slots);
        }
    }
}

fn unknown_master(id: &str) -> Note {
    Note::Stop(format!("The specified node ({id}) is not known or not a master, please retry."))
}

fn master<R: Reach>(fleet: &Fleet<R>, id: &str) -> Option<usize> {
    fleet.find(id).filter(|node| fleet.nodes[*node].master())
}

fn receiver<R: Reach>(fleet: &Fleet<R>, args: &ReshardArgs, tell: Teller<'_>) -> Result<usize, Trouble> {
    if let Some(id) = &args.to {
        return master(fleet, id).ok_or_else(|| {
            tell(unknown_master(id));
            Trouble::Said
        });
    }
    loop {
        let answer = ask("What is the receiving node ID? ")?;
        let id = answer.ok_or_else(|| Trouble::Usage("--cluster-to is missing".to_owned()))?;
        match master(fleet, &id) {
            Some(node) => return Ok(node),
            None => tell(unknown_master(&id)),
        }
    }
}

fn givers<R: Reach>(
    fleet: &Fleet<R>,
    args: &ReshardArgs,
    target: usize,
    tell: Teller<'_>,
) -> Result<Vec<usize>, Trouble> {
    let all = || fleet.masters().into_iter().filter(|node| *node != target).collect::<Vec<_>>();
    let mut sources = Vec::new();
    if let Some(from) = &args.from {
        if from == "all" {
            return Ok(all());
        }
        for id in from.split(',').map(str::trim).filter(|id| !id.is_empty()) {
            let Some(node) = master(fleet, id) else {
                tell(unknown_master(id));
                return Err(Trouble::Said);
            };
            sources.push(node);
        }
    } else {
        line(
            tell,
            "Please enter all the source node IDs.\n  Type 'all' to use all the nodes as source nodes for the hash \
             slots.\n  Type 'done' once you entered all the source nodes IDs.",
        );
        loop {
            let answer = ask(&format!("Source node #{}: ", sources.len() + 1))?;
            match answer.ok_or_else(|| Trouble::Usage("--cluster-from is missing".to_owned()))?.as_str() {
                "all" => return Ok(all()),
                "done" => break,
                id => match master(fleet, id) {
                    Some(node) if node == target => {
                        tell(Note::Stop(
                            "It is not possible to use the target node as source node.".to_owned(),
                        ));
                    }
                    Some(node) => sources.push(node),
                    None => tell(unknown_master(id)),
                },
            }
        }
    }
    sources.sort_unstable();
    sources.dedup();
    if sources.is_empty() {
        tell(Note::Stop("No source nodes given, operation aborted.".to_owned()));
        return Err(Trouble::Said);
    }
    if sources.contains(&target) {
        tell(Note::Stop("It is not possible to use the target node as source node.".to_owned()));
        return Err(Trouble::Said);
    }
    Ok(sources)
}

fn say_plan<R: Reach>(
    fleet: &Fleet<R>,
    moves: &[SlotMove],
    sources: &[usize],
    target: usize,
    tell: Teller<'_>,
) {
    line(tell, format!("\nReady to move {} slots.", moves.len()));
    line(tell, "  Source nodes:");
    for source in sources {
        line(tell, portrait(fleet, *source, "    "));
    }
    line(tell, "  Destination node:");
    line(tell, portrait(fleet, target, "    "));
    line(tell, "  Resharding plan:");
    for it in moves {
        line(tell, format!("    Moving slot {} from {}", it.slot, fleet.nodes[it.road.from].id));
    }
}

/// Runs `rebalance`.
pub fn rebalance(args: &RebalanceArgs, auth: &Auth) -> Done {
    let entry = args.entry.address()?;
    let screen = Screen::new(false);
    let tell = |note: Note| screen.show(&note);
    with_fleet(entry, &args.common, auth, async |fleet| {
        let mut weights = Vec::new();
        for word in args.weight.iter().flat_map(|words| words.split_ascii_whitespace()) {
            let (id, weight) = word
                .split_once('=')
                .and_then(|(id, weight)| Some((id, weight.parse::<f64>().ok().filter(|it| *it >= 0.0)?)))
                .ok_or_else(|| Trouble::Usage(format!("{word:?} is no ID=WEIGHT")))?;
            let Some(node) = master(fleet, id) else {
                tell(Note::Stop(format!("No such master node {id}")));
                return Err(Trouble::Said);
            };
            weights.push((node, weight));
        }
        let brief = CheckOptions { brief: true, settle_ms: SETTLE_MS, ..CheckOptions::default() };
        if !check(fleet, brief, &tell).await?.clean() {
            tell(Note::Stop("Please fix your cluster problems before rebalancing".to_owned()));
            return Err(Trouble::Said);
        }
        let options = RebalanceOptions { weights, use_empty: args.use_empty, threshold: args.threshold };
        let plan = match plan_rebalance(fleet, &options) {
            Ok(plan) => plan,
            Err(even @ NoRebalance::Even(_)) => {
                tell(Note::Stop(even.to_string()));
                return Ok(());
            }
            Err(error) => return Err(Trouble::Usage(error.to_string())),
        };
        let weight = plan.total_weight;
        step(&tell, format!("Rebalancing across {} nodes. Total weight = {weight:.2}", plan.nodes));
        screen.use_hashes();
        let halt = halt_on_interrupt()?;
        let give_up_at = args.within.map(|within| fleet.reach.now() + ms(within * 1000));
        let mut total = MoveReport::default();
        for (index, transfer) in plan.transfers.iter().enumerate() {
            let Road { from, to } = transfer.road;
            let (giver, taker) = (fleet.nodes[from].label(), fleet.nodes[to].label());
            line(&tell, format!("Moving {} slots from {giver} to {taker}", transfer.slots.len()));
            if args.simulate {
                screen.end_of_move(transfer.slots.len());
                continue;
            }
            let carry = args.carrying.options(give_up_at);
            let orders =
                Orders { carry, fresh: true, tell: &tell, halt: &|| halt.get(), source_first: false };
            let road = transfer.road;
            let moves: Vec<SlotMove> =
                transfer.slots.iter().map(|slot| SlotMove { slot: *slot, road }).collect();
            let report = move_slots(fleet, &moves, &orders).await;
            screen.end_of_move(report.moved.len());
            total.absorb(report);
            if total.error.is_some() {
                let later = plan.transfers[index + 1..].iter().flat_map(|it| it.slots.iter().copied());
                total.untouched.extend(later);
                break;
            }
        }
        if args.simulate { Ok(()) } else { finish(fleet, entry, &total, &tell).await }
    })
}

/// Runs `fix`.
pub fn fix(args: &FixArgs, auth: &Auth) -> Done {
    let screen = Screen::new(false);
    let tell = |note: Note| screen.show(&note);
    with_fleet(args.entry.address()?, &args.common, auth, async |fleet| {
        health::say_info(fleet, &tell).await?;
        // Disagreement alone mends itself; it is waited for so that no slot is given away that has an owner.
        let options =
            CheckOptions { search_owners: args.search_owners, settle_ms: 1000, ..CheckOptions::default() };
        check(fleet, options, &tell).await?;
        let yes = args.common.yes;
        let halt = halt_on_interrupt()?;
        let report = mend(
            fleet,
            &FixOptions {
                carry: args.carrying.options(None),
                owner_wins: false,
                despite_unreachable: args.unreachable,
                search_owners: args.search_owners,
                confirm: &|question| agreed(question, yes).unwrap_or(false),
                tell: &tell,
                halt: &|| halt.get(),
                settle_ms: SETTLE_MS,
            },
        )
        .await?;
        screen.end_of_move(0);
        for (slot, why) in &report.left {
            tell(Note::Bad(format!("Slot {slot} is still to be fixed: {why}")));
        }
        if !report.declined.is_empty() {
            let list = crate::admin::slots::sentence(&report.declined);
            tell(Note::Bad(format!("Slots without an owner: {list}")));
        }
        if report.refused.is_none() {
            tell(if report.agree {
                Note::Good("All nodes agree about slots configuration.".to_owned())
            } else {
                Note::Bad("Nodes don't agree about configuration!".to_owned())
            });
        }
        if report.complete() { Ok(()) } else { Err(Trouble::Said) }
    })
}

/// Runs `import`.
pub fn import(args: &ImportArgs, auth: &Auth) -> Done {
    let Some(from) = &args.from else {
        return Err(Trouble::Failed(
            "[ERR] Option '--cluster-from' is required for subcommand 'import'.".to_owned(),
        ));
    };
    let source = resolve(from)?;
    let password = if args.from_askpass {
        Some(secret("Please input the source's password: ")?)
    } else {
        args.from_pass.clone()
    };
    let login = password.map(|password| Login { user: args.from_user.clone(), password });
    let entry = args.entry.address()?;
    let screen = Screen::new(false);
    let tell = |note: Note| screen.show(&note);
    step(&tell, format!("Importing data from {from} to cluster {entry}"));
    with_fleet(entry, &args.common, auth, async |fleet| {
        let options = CheckOptions { settle_ms: SETTLE_MS, ..CheckOptions::default() };
        if !check(fleet, options, &tell).await?.clean() {
            tell(Note::Stop("Please fix your cluster problems before importing".to_owned()));
            return Err(Trouble::Said);
        }
        fleet.patience_ms = PATIENCE_MS;
        let plan = ImportPlan {
            source,
            login,
            copy: args.copy,
            replace: args.carrying.replace,
            timeout_ms: args.carrying.timeout_ms,
        };
        let (done, result) = bring(fleet, &plan, &tell).await;
        match result {
            Ok(()) => Ok(()),
            Err(error) => Err(Trouble::Failed(format!(
                "{error}\n[ERR] {done} keys were imported before that; the others are still at {source}."
            ))),
        }
    })
}
