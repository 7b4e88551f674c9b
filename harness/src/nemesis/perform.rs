//! What is done at once: signals, files, links, rules, single commands.

use std::collections::{BTreeMap, BTreeSet};

use slotstorm_checker::record::{Action, FailoverMode, MESSAGES, Nanos};
use slotstorm_fabric::{LinkChange, OnHeal, Policy};

use super::Deed;
use crate::admin::resp::{AskError, Reply, connection};
use crate::admin::{join_all, membership};
use crate::backend::{BackendError, Damage, ProcessState, SeenBy, Signal, World, kept_vote};
use crate::observer::node_name;

/// How long a node may take to answer one command.
const PATIENCE: Nanos = 500_000_000;

/// Performs deeds; knows what was configured.
pub struct Performer<W: World> {
    world: W,
    /// By fault: node, option, the value before.
    kept: BTreeMap<u32, Vec<(u16, String, String)>>,
    /// Nodes whose files were damaged.
    damaged: BTreeSet<u16>,
}

impl<W: World> Performer<W> {
    pub fn new(world: &W) -> Self {
        Self { world: world.clone(), kept: BTreeMap::new(), damaged: BTreeSet::new() }
    }

    /// Does it; what the server did wrong or could not do becomes an action.
    pub async fn perform(&mut self, fault: Option<u32>, deed: &Deed) -> Result<Vec<Action>, BackendError> {
        let world = &self.world;
        Ok(match deed {
            Deed::Signal { node, signal } => vec![signal_to(world, *node, *signal).await?],
            Deed::KillAll { nodes } => {
                let all = join_all(nodes.iter().map(|node| signal_to(world, *node, Signal::Kill))).await;
                all.into_iter().collect::<Result<_, _>>()?
            }
            Deed::Start { node: number } => {
                match start(world, *number).await {
                    Ok(action) => vec![action],
                    // It came back by another fault's hand meanwhile.
                    Err(_) if !down(world, *number) => Vec::new(),
                    Err(error) => return Err(error),
                }
            }
            Deed::Wipe { node } if !down(world, *node) => vec![refused(*node, "it runs".to_owned())],
            Deed::Wipe { node } => {
                world.wipe(*node)?;
                vec![Action::Wiped { node: node_name(*node) }]
            }
            Deed::Damage { node, .. } if !down(world, *node) => vec![refused(*node, "it runs".to_owned())],
            Deed::Damage { node, damage } => vec![match world.damage(*node, *damage)? {
                Ok(what) => {
                    self.damaged.insert(*node);
                    Action::Damaged { node: node_name(*node), what }
                }
                Err(why) => refused(*node, why),
            }],
            Deed::Disk { node, disk } => vec![match world.set_disk(*node, *disk).await? {
                Ok(state) => {
                    self.damaged.insert(*node);
                    Action::Disk { node: node_name(*node), state }
                }
                Err(why) => refused(*node, why),
            }],
            Deed::Clock { node, shift } => vec![match world.set_clock(*node, *shift).await? {
                Ok(_) => Action::Clock {
                    node: node_name(*node),
                    offset_ms: shift.offset_ms,
                    drift_ppm: shift.drift_ppm,
                },
                Err(why) => refused(*node, why),
            }],
            Deed::Net(changes) => {
                let actions = changes.iter().map(action).collect();
                world.apply(changes.clone()).await?;
                actions
            }
            Deed::Filter { rules, changed } => {
                world.filter(rules.clone()).await?;
                let planes = || vec![MESSAGES.to_owned()];
                let told = changed.iter().map(|((from, to), rule)| match rule {
                    Some(policy) => Action::Cut {
                        from: from.to_string(),
                        to: to.to_string(),
                        planes: planes(),
                        policy: policy.clone(),
                    },
                    None => Action::Healed { from: from.to_string(), to: to.to_string(), planes: planes() },
                });
                told.collect()
            }
            Deed::FailOver { node, mode } => vec![fail_over(world, *node, *mode).await],
            Deed::Ask { node, words } => {
                let words: Vec<String> = words.iter().map(|word| self.expanded(word)).collect();
                vec![asked(*node, &words, ask(world, *node, &words).await)]
            }
            Deed::Configure { node, option, value } => {
                let fault = fault.unwrap_or_default();
                self.configure(fault, *node, option, value).await
            }
            Deed::Restore => self.restore(fault.unwrap_or_default()).await,
            Deed::Work(_) => Vec::new(), // the runner's
        })
    }

    /// Files or disks were damaged in this run.
    pub fn damaged_any(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// A server that refuses its damaged files, or that its disk felled, gets another chance: first without its data, then
    /// with the nodes.conf of the storm's beginning. What was done; empty: none is down.
    pub async fn mend(&self, attempt: u32) -> Result<Vec<Action>, BackendError> {
        let mut actions = Vec::new();
        for node in self.damaged.iter().copied().filter(|node| down(&self.world, *node)) {
            if attempt == 0 {
                self.world.wipe(node)?;
                actions.push(Action::Wiped { node: node_name(node) });
            } else if let Ok(what) = self.world.damage(node, Damage::RollBackConfig)? {
                actions.push(Action::Damaged { node: node_name(node), what });
            }
            actions.push(start(&self.world, node).await?);
        }
        Ok(actions)
    }

    async fn configure(&mut self, fault: u32, node: u16, option: &str, value: &str) -> Vec<Action> {
        let get = ["CONFIG", "GET", option].map(str::to_owned);
        let before = match ask(&self.world, node, &get).await {
            Ok(Reply::Array(pair)) if pair.len() == 2 => membership::readable(&pair[1]),
            other => return vec![asked(node, &get, other)],
        };
        let set = ["CONFIG", "SET", option, value].map(str::to_owned);
        let answer = ask(&self.world, node, &set).await;
        if answer.is_ok() {
            self.kept.entry(fault).or_default().push((node, option.to_owned(), before));
        }
        vec![asked(node, &set, answer)]
    }

    async fn restore(&mut self, fault: u32) -> Vec<Action> {
        let mut actions = Vec::new();
        for (node, option, value) in self.kept.remove(&fault).unwrap_or_default() {
            let set = ["CONFIG", "SET", &option, &value].map(str::to_owned);
            actions.push(asked(node, &set, ask(&self.world, node, &set).await));
        }
        actions
    }

    /// `{host of n3}` and `{port of n3}`.
    fn expanded(&self, word: &str) -> String {
        let inner = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
        let Some((what, node)) = inner.and_then(|inner| inner.split_once(" of ")) else {
            return word.to_owned();
        };
        let Ok(node) = crate::plan::parse_node(node) else { return word.to_owned() };
        let address = self.world.address(node, SeenBy::Cluster);
        if what == "host" { address.ip().to_string() } else { address.port().to_string() }
    }
}

/// One command over the node's real address.
async fn ask<W: World>(world: &W, node: u16, words: &[String]) -> Result<Reply, AskError> {
    let mut link = connection(world, world.address(node, SeenBy::Controller));
    link.ask(words, World::now(world) + PATIENCE).await
}

async fn fail_over<W: World>(world: &W, number: u16, mode: FailoverMode) -> Action {
    let mut words = vec!["CLUSTER".to_owned(), "FAILOVER".to_owned()];
    match mode {
        FailoverMode::Plain => {}
        FailoverMode::Force => words.push("FORCE".to_owned()),
        FailoverMode::Takeover => words.push("TAKEOVER".to_owned()),
    }
    match ask(world, number, &words).await {
        Ok(_) => Action::ManualFailover { node: node_name(number), mode },
        Err(error) => refused(number, error.to_string()),
    }
}

fn asked(node: u16, words: &[String], answer: Result<Reply, AskError>) -> Action {
    let command = words.join(" ");
    match answer {
        Ok(reply) => {
            let answer: String = membership::readable(&reply).chars().take(200).collect();
            Action::Asked { node: node_name(node), command, answer }
        }
        Err(error) => refused(node, format!("{command}: {error}")),
    }
}

fn refused(node: u16, why: String) -> Action {
    Action::Refused { node: node_name(node), why }
}

fn down<W: World>(world: &W, node: u16) -> bool {
    matches!(world.state(node), ProcessState::Down { .. })
}

/// Starts a node on what its nodes.conf holds; a server that refuses has ended.
async fn start<W: World>(world: &W, node: u16) -> Result<Action, BackendError> {
    let kept = world.config(node)?.map(|config| kept_vote(&config));
    match world.start(node).await {
        Ok(pid) => Ok(Action::Started { node: node_name(node), pid, kept }),
        Err(BackendError::Server { message, .. }) => {
            Ok(Action::Exited { node: node_name(node), status: message })
        }
        Err(error) => Err(error),
    }
}

async fn signal_to<W: World>(world: &W, number: u16, signal: Signal) -> Result<Action, BackendError> {
    let node = node_name(number);
    match world.signal(number, signal).await {
        Ok(()) => {}
        Err(BackendError::Server { message, .. }) => return Ok(Action::Exited { node, status: message }),
        // It ended by itself a moment ago.
        Err(_) if down(world, number) => return Ok(refused(number, "it does not run".to_owned())),
        Err(error) => return Err(error),
    }
    Ok(match signal {
        Signal::Kill => Action::Killed { node, signal: "KILL".into() },
        Signal::Term => Action::Killed { node, signal: "TERM".into() },
        Signal::Stop => Action::Paused { node },
        Signal::Continue => Action::Resumed { node },
    })
}

/// A link change as the record tells it.
fn action(change: &LinkChange) -> Action {
    let (from, to) = (change.from.to_string(), change.to.to_string());
    let planes = change.planes.iter().map(|plane| plane.name().to_owned()).collect();
    match change.policy {
        Policy::Pass => Action::Healed { from, to, planes },
        policy => Action::Cut { from, to, planes, policy: policy_name(policy) },
    }
}

/// What waits in the proxy and in kernels, at most, before a sender stands still.
const BUFFERS_BYTES: u64 = 8 * 1024 * 1024;

/// The judge reads these: a delay says how late a byte can be, and what stands in brackets is for people.
fn policy_name(policy: Policy) -> String {
    match policy {
        Policy::Pass => "pass".into(),
        Policy::Blackhole { on_heal: OnHeal::Resume } => "blackhole".into(),
        Policy::Blackhole { on_heal: OnHeal::Reset } => "blackhole, reset on heal".into(),
        Policy::Refuse => "refuse".into(),
        Policy::Reset => "reset".into(),
        Policy::Delay { delay_ms, jitter_ms } => format!("delay {delay_ms} ms + {jitter_ms} ms"),
        Policy::HalfClose => "half-close".into(),
        Policy::Dead => "dead connections".into(),
        Policy::Stall { permille, stall_ms } => {
            format!("delay {stall_ms} ms (at times: {permille} of 1000 pieces stall)")
        }
        Policy::Rate { bytes_per_s } => {
            let most_ms = BUFFERS_BYTES * 1000 / u64::from(bytes_per_s.max(1));
            format!("delay {most_ms} ms (at most: {bytes_per_s} bytes a second)")
        }
    }
}
