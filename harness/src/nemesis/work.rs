//! What takes its time and goes on beside everything else: an operator's work on the cluster, and load.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use redis_protocol::redis_keyslot;
use slotstorm_checker::record::Nanos;

use super::step::Work;
use crate::admin::fix::{FixOptions, FixReport, fix};
use crate::admin::fleet::Fleet;
use crate::admin::health::open_slots;
use crate::admin::membership::{AddNode, NewRole, add_node, del_node};
use crate::admin::migrate::{CarryOptions, Road};
use crate::admin::mover::{Orders, SlotMove, move_slots};
use crate::admin::ms;
use crate::admin::reshard::{RebalanceOptions, plan_rebalance, plan_reshard};
use crate::admin::resp::{AskError, connection};
use crate::backend::{ProcessState, SeenBy, World};
use crate::observer::{Observer, node_name};
use crate::plan::Load;

/// Milliseconds for one request of an operator.
const PATIENCE_MS: u64 = 1000;
/// For one step of joining.
const JOIN_MS: u64 = 10_000;
/// MIGRATE's own time-out.
const MIGRATE_MS: u64 = 2000;
/// Small writes in one go.
const BATCH: u32 = 50;

/// Work that is done.
pub struct Finished {
    pub fault: u32,
    pub name: String,
    pub what: String,
    pub outcome: String,
    /// Who left the cluster by it.
    pub left: Option<u16>,
    /// Who joined.
    pub joined: Vec<u16>,
}

/// All work that goes on.
pub struct Jobs<W: World> {
    world: W,
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    finished: RefCell<Vec<Finished>>,
    running: Cell<u32>,
    /// Work stops where it can.
    halted: Cell<bool>,
    /// Work is dropped where it stands.
    abandoned: Cell<bool>,
    /// A bug of the zoo, see [`Orders::source_first`].
    source_first: Cell<bool>,
}

/// What came of a piece of work.
#[derive(Default)]
struct Outcome {
    text: String,
    left: Option<u16>,
    joined: Vec<u16>,
}

impl<W: World> Jobs<W> {
    pub fn new(world: &W) -> Self {
        Self { world: world.clone(), shared: Rc::default() }
    }

    /// Begins a fault's work; says what it is.
    pub fn start(&self, fault: u32, name: &str, work: Work) -> String {
        let what = told(&work);
        let (world, shared) = (self.world.clone(), Rc::clone(&self.shared));
        let (name, told) = (name.to_owned(), what.clone());
        shared.running.set(shared.running.get() + 1);
        self.world.spawn(async move {
            let outcome = unless_abandoned(&world, &shared, carry_out(&world, &shared, work)).await;
            let outcome =
                outcome.unwrap_or_else(|| Outcome { text: "abandoned".into(), ..Outcome::default() });
            let Outcome { text, left, joined } = outcome;
            shared.finished.borrow_mut().push(Finished {
                fault,
                name,
                what: told,
                outcome: text,
                left,
                joined,
            });
            shared.running.set(shared.running.get() - 1);
        });
        what
    }

    /// A bug of the zoo: slots are moved in the wrong order from now on.
    pub fn tell_source_first(&self) {
        self.shared.source_first.set(true);
    }

    /// Does it here and now.
    pub async fn now(&self, work: Work) -> String {
        let fresh = Shared::default();
        carry_out(&self.world, &fresh, work).await.text
    }

    pub fn finished(&self) -> Vec<Finished> {
        std::mem::take(&mut self.shared.finished.borrow_mut())
    }

    pub fn running(&self) -> bool {
        self.shared.running.get() > 0
    }

    /// All work is to stop where it can.
    pub fn halt(&self) {
        self.shared.halted.set(true);
    }

    /// What did not stop is dropped.
    pub fn abandon(&self) {
        self.shared.abandoned.set(true);
    }

    /// Closes slots that stand open, once all nodes answer again; `None`: there are none.
    pub async fn close_slots(&self, observer: &Observer) -> Option<String> {
        let world = &self.world;
        let since = world.now();
        let until = since + ms(15_000);
        loop {
            let model = observer.model(world);
            let seen: Vec<_> = model.nodes().iter().filter_map(|node| node.seen.as_ref()).collect();
            let fresh = seen.len() == model.nodes().len() && seen.iter().all(|(at, _)| *at > since);
            let open = seen.iter().any(|(_, seen)| !seen.open_slots.is_empty());
            // Who went over to another owner says so by gossip first.
            if !open && (fresh || world.now() >= until) {
                return None;
            }
            if fresh && open && world.now() >= since + ms(3000) || world.now() >= until {
                break;
            }
            world.sleep_until(world.now() + ms(50)).await;
        }
        let entry = world.address(1, SeenBy::Controller);
        let mut fleet = match Fleet::discover(world, entry, PATIENCE_MS).await {
            Ok(fleet) => fleet,
            Err(error) => return Some(error.to_string()),
        };
        Some(match close(&mut fleet).await {
            Ok(report) if report.complete() => format!("{} closed", report.closed.len()),
            Ok(report) => format!("{} closed, not mended: {:?}", report.closed.len(), report.left),
            Err(error) => error.to_string(),
        })
    }
}

/// Closes slots that stand open, as an operator would. Of two copies of a key the owner's stays: it is the one that clients
/// have seen and written since.
async fn close<W: World>(fleet: &mut Fleet<W>) -> Result<FixReport, AskError> {
    let options = FixOptions {
        carry: CarryOptions { timeout_ms: MIGRATE_MS, ..CarryOptions::default() },
        owner_wins: true,
        despite_unreachable: false,
        search_owners: false,
        confirm: &|_| true,
        tell: &|_| {},
        halt: &|| false,
        settle_ms: 5000,
    };
    fix(fleet, &options).await
}

fn told(work: &Work) -> String {
    match work {
        Work::Leave { node } => format!("{} leaves", node_name(*node)),
        Work::Join { nodes } => {
            let names: Vec<String> = nodes.iter().map(|node| node_name(*node)).collect();
            format!("{} join", names.join(", "))
        }
        Work::Reshard { from, slot: Some(slot), .. } => format!("slot {slot} goes from {}", node_name(*from)),
        Work::Reshard { from, slots, .. } => format!("{slots} slots go from {}", node_name(*from)),
        Work::Rebalance => "slots are spread evenly".to_owned(),
        Work::Load { node, load, .. } => {
            let what = match load {
                Load::Burst { rate } => format!("{rate} writes a second"),
                Load::BigValues { count, bytes } => format!("{count} values of {bytes} bytes"),
                Load::SlowCommand => "DEBUG SLEEP".to_owned(),
                Load::Flood { count } => format!("{count} connections"),
                Load::Overflow { bytes } => format!("{bytes} bytes while its replicas' links are held"),
            };
            format!("{what} on {}", node_name(*node))
        }
    }
}

async fn carry_out<W: World>(world: &W, shared: &Shared, work: Work) -> Outcome {
    match work {
        Work::Leave { node } => leave(world, node).await,
        Work::Join { nodes } => join(world, &nodes).await,
        Work::Reshard { from, to, slots, slot } => {
            Outcome { text: reshard(world, shared, from, to, (slots, slot)).await, ..Outcome::default() }
        }
        Work::Rebalance => Outcome { text: rebalance(world, shared).await, ..Outcome::default() },
        Work::Load { node, slot, load, until } => {
            Outcome { text: put_load(world, shared, node, slot, load, until).await, ..Outcome::default() }
        }
    }
}

async fn fleet<W: World>(world: &W, but: &[u16]) -> Result<Fleet<W>, String> {
    let live = |node: &u16| matches!(world.state(*node), ProcessState::Running { .. }) && !but.contains(node);
    let entry = (1..=world.nodes()).find(live).ok_or("no node runs")?;
    Fleet::discover(world, world.address(entry, SeenBy::Controller), PATIENCE_MS)
        .await
        .map_err(|error| error.to_string())
}

/// A node's place in the fleet.
fn place<W: World>(world: &W, fleet: &Fleet<W>, node: u16) -> Result<usize, String> {
    let dial = world.address(node, SeenBy::Controller);
    let found = fleet.nodes.iter().position(|it| it.dial == dial);
    found.ok_or_else(|| format!("{} does not answer", node_name(node)))
}

async fn leave<W: World>(world: &W, node: u16) -> Outcome {
    let left = async {
        let mut fleet = fleet(world, &[node]).await?;
        let place = place(world, &fleet, node)?;
        del_node(&mut fleet, place, &|_| {}).await.map_err(|error| error.to_string())
    };
    match left.await {
        Ok(()) => Outcome { text: "it left".into(), left: Some(node), ..Outcome::default() },
        // It may have gone half way: joining again mends that, and says so if there was nothing to mend.
        Err(why) => Outcome { text: why, left: Some(node), ..Outcome::default() },
    }
}

async fn join<W: World>(world: &W, nodes: &[u16]) -> Outcome {
    let (mut told, mut joined) = (Vec::new(), Vec::new());
    for node in nodes {
        let outcome = async {
            let mut fleet = fleet(world, nodes).await?;
            if place(world, &fleet, *node).is_ok() {
                return Ok("a member already".to_owned());
            }
            let new = world.address(*node, SeenBy::Controller);
            let plan = AddNode { new, role: NewRole::Replica, timeout_ms: JOIN_MS };
            let added = add_node(&mut fleet, &plan, &|_| {}).await.map_err(|error| error.to_string())?;
            let master = added.master.unwrap_or_default();
            Ok::<_, String>(format!("joined as a replica of {}", &master[..master.len().min(8)]))
        };
        match outcome.await {
            Ok(how) => {
                joined.push(*node);
                told.push(format!("{} {how}", node_name(*node)));
            }
            Err(why) => told.push(format!("{}: {why}", node_name(*node))),
        }
    }
    Outcome { text: told.join("; "), joined, left: None }
}

async fn reshard<W: World>(
    world: &W,
    shared: &Shared,
    from: u16,
    to: Option<u16>,
    (slots, slot): (u16, Option<u16>),
) -> String {
    on_sound_fleet(world, async |fleet| {
        let source = place(world, fleet, from)?;
        let masters = fleet.masters();
        let target = match to {
            Some(to) => place(world, fleet, to)?,
            // The one with the fewest, so that a storm does not drift.
            None => masters
                .into_iter()
                .filter(|it| *it != source && !fleet.nodes[*it].own.slots.is_empty())
                .min_by_key(|it| (fleet.nodes[*it].own.slot_count(), *it))
                .ok_or("there is no other master")?,
        };
        let road = Road { from: source, to: target };
        let moves = match slot {
            Some(slot) => vec![SlotMove { slot, road }],
            None => plan_reshard(fleet, &[source], target, usize::from(slots)),
        };
        Ok(carry_slots(world, shared, fleet, &moves).await)
    })
    .await
}

async fn rebalance<W: World>(world: &W, shared: &Shared) -> String {
    on_sound_fleet(world, async |fleet| {
        let options = RebalanceOptions { weights: Vec::new(), use_empty: false, threshold: 2.0 };
        let plan = plan_rebalance(fleet, &options).map_err(|error| error.to_string())?;
        let moves: Vec<SlotMove> = plan
            .transfers
            .iter()
            .flat_map(|it| it.slots.iter().map(|slot| SlotMove { slot: *slot, road: it.road }))
            .collect();
        Ok(carry_slots(world, shared, fleet, &moves).await)
    })
    .await
}

/// Moves slots on a fleet whose open slots are closed first, as an operator would; tells of both, whatever becomes of the
/// second: the judge must know that somebody closed slots.
async fn on_sound_fleet<W: World>(
    world: &W,
    moved: impl AsyncFnOnce(&mut Fleet<W>) -> Result<String, String>,
) -> String {
    let (mut fleet, closed) = match sound_fleet(world).await {
        Ok(sound) => sound,
        Err(why) => return why,
    };
    moved(&mut fleet).await.unwrap_or_else(|why| why) + &closed
}

/// The fleet, its open slots closed, as an operator would before moving more; and what to say of that.
async fn sound_fleet<W: World>(world: &W) -> Result<(Fleet<W>, String), String> {
    let mut fleet = fleet(world, &[]).await?;
    if open_slots(&fleet).is_empty() {
        return Ok((fleet, String::new()));
    }
    let report = close(&mut fleet).await.map_err(|error| error.to_string())?;
    if !report.complete() {
        return Err(format!("slots stand open: {} closed first, not all", report.closed.len()));
    }
    fleet.refresh().await;
    Ok((fleet, format!("; {} closed first", report.closed.len())))
}

async fn carry_slots<W: World>(
    world: &W,
    shared: &Shared,
    fleet: &mut Fleet<W>,
    moves: &[SlotMove],
) -> String {
    let carry = CarryOptions {
        timeout_ms: MIGRATE_MS,
        retries: 1,
        give_up_at: Some(World::now(world) + ms(60_000)),
        ..CarryOptions::default()
    };
    let orders = Orders {
        carry,
        fresh: true,
        tell: &|_| {},
        halt: &|| shared.halted.get(),
        source_first: shared.source_first.get(),
    };
    let report = move_slots(fleet, moves, &orders).await;
    let why = report.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    format!(
        "{} of {} slots, {} keys, {} left open{why}",
        report.moved.len(),
        moves.len(),
        report.keys,
        report.open.len()
    )
}

async fn put_load<W: World>(
    world: &W,
    shared: &Shared,
    node: u16,
    slot: u16,
    load: Load,
    until: Nanos,
) -> String {
    let address = world.address(node, SeenBy::Controller);
    let over = || World::now(world) >= until || shared.halted.get();
    let mut link = connection(world, address);
    let patience = || World::now(world) + ms(2000);
    let key = key_in(slot);
    match load {
        Load::SlowCommand => {
            let left = until.saturating_sub(World::now(world));
            let seconds = format!("{:.3}", left as f64 / 1e9);
            match link.ask(&["DEBUG", "SLEEP", &seconds], until + ms(5000)).await {
                Ok(_) => format!("slept {seconds} s"),
                Err(error) => error.to_string(),
            }
        }
        Load::Flood { count } => {
            let mut links: Vec<_> = (0..count).map(|_| connection(world, address)).collect();
            let mut up = 0;
            for link in &mut links {
                if over() {
                    break;
                }
                up += u32::from(link.ask(&["PING"], patience()).await.is_ok());
            }
            while !over() {
                world.sleep_until(until.min(World::now(world) + ms(50))).await;
            }
            format!("{up} of {count} connections stood")
        }
        Load::Burst { rate } => {
            let begun = World::now(world);
            let (mut done, mut refused) = (0u64, 0u64);
            while !over() {
                let due = (World::now(world) - begun) * u64::from(rate) / 1_000_000_000;
                if due <= done + refused {
                    world.sleep_until(World::now(world) + ms(2)).await;
                    continue;
                }
                let set = ["SET", &key, "burst"];
                let batch = vec![&set[..]; BATCH as usize];
                if link.pipeline(&batch, patience()).await.is_ok() {
                    done += u64::from(BATCH);
                } else {
                    refused += u64::from(BATCH);
                    world.sleep_until(World::now(world) + ms(50)).await;
                }
            }
            let _ = link.ask(&["DEL", &key], patience()).await;
            format!("{done} writes, {refused} refused")
        }
        Load::BigValues { count, bytes } => {
            let (done, why) = big_values(world, shared, &mut link, &key, (count, bytes), until).await;
            format!("{done} of {count} values of {bytes} bytes{why}")
        }
        Load::Overflow { bytes } => {
            const PIECE: u32 = 1_000_000;
            let (done, why) =
                big_values(world, shared, &mut link, &key, (bytes.div_ceil(PIECE), PIECE), until).await;
            format!("{done} MB{why}")
        }
    }
}

/// Writes them one over the other; how many were taken, and why no more.
async fn big_values<W: World>(
    world: &W,
    shared: &Shared,
    link: &mut crate::admin::resp::Connection<W::Mailbox>,
    key: &str,
    (count, bytes): (u32, u32),
    until: Nanos,
) -> (u32, String) {
    let value = vec![b'x'; bytes as usize];
    let (mut done, mut why) = (0, String::new());
    for _ in 0..count {
        if World::now(world) >= until || shared.halted.get() {
            break;
        }
        let words: [&[u8]; 3] = [b"SET", key.as_bytes(), &value];
        match link.ask(&words, World::now(world) + ms(5000)).await {
            Ok(_) => done += 1,
            Err(error) => {
                why = format!(": {error}");
                break;
            }
        }
    }
    let _ = link.ask(&["DEL", key], World::now(world) + ms(2000)).await;
    (done, why)
}

/// A key that no workload uses, in this slot.
fn key_in(slot: u16) -> String {
    (0..u32::MAX)
        .map(|n| format!("storm-load:{n}"))
        .find(|key| redis_keyslot(key.as_bytes()) == slot)
        .unwrap_or_default()
}

/// The work's output, or `None` once all work is abandoned.
async fn unless_abandoned<W: World, T>(
    world: &W,
    shared: &Shared,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    loop {
        let mut pause: Pin<Box<dyn Future<Output = ()> + '_>> =
            Box::pin(world.sleep_until(World::now(world) + ms(100)));
        let done = poll_fn(|context| {
            if let Poll::Ready(value) = work.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            pause.as_mut().poll(context).map(|()| None)
        });
        match done.await {
            Some(value) => return Some(value),
            None if shared.abandoned.get() => return None,
            None => {}
        }
    }
}
