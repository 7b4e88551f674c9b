//! Moves in virtual time against a model of two masters: in which order who is told what, and what is left when one of
//! them fails at a chosen step.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::fleet::Fleet;
use super::migrate::{CarryOptions, Road};
use super::mover::{MoveError, MoveReport, Orders, SlotMove, Stage, move_slots};
use crate::backend::model::servers::{self, Modelled, bulk, id};
use crate::backend::model::{ModelOptions, ModelWorld};
use crate::backend::{SeenBy, World};
use slotstorm_sim::Executor;

const SLOT: u16 = 7;
const KEYS: usize = 25;

/// What a node does with a command instead of obeying.
#[derive(Clone, PartialEq, Eq)]
enum Trick {
    /// Says this error, always.
    Refuse(&'static str),
    /// Never answers.
    Silence,
    /// Loses its marks first, as after a failover, and obeys.
    Forget,
}

/// Nodes 1 and 2 are masters of half the slots each; the clients' side does not exist.
#[derive(Default)]
struct Model {
    keys: BTreeMap<u16, BTreeSet<String>>,
    /// Mark of `SLOT`: (action, other's id), by node.
    marks: BTreeMap<u16, (String, String)>,
    owner: u16,
    /// Every SETSLOT that was obeyed, as `node action`.
    log: Rc<RefCell<Vec<String>>>,
    /// By node and the command's first words.
    tricks: Vec<(u16, &'static str, Trick)>,
}

impl Model {
    fn new(tricks: &[(u16, &'static str, Trick)]) -> Self {
        let keys = (0..KEYS).map(|number| format!("key:{number}")).collect();
        Self { keys: [(1, keys)].into(), owner: 1, tricks: tricks.to_vec(), ..Self::default() }
    }

    fn table(&self, asked: u16) -> String {
        let line = |node: u16| {
            let half = if node == 1 { "0-6 8-8191" } else { "8192-16383" };
            let own = if node == self.owner { " 7" } else { "" };
            let mark = self.marks.get(&node).filter(|_| node == asked).map(|(action, other)| {
                let arrow = if action == "MIGRATING" { "->-" } else { "-<-" };
                format!(" [{SLOT}{arrow}{other}]")
            });
            let myself = if node == asked { "myself," } else { "" };
            format!(
                "{} 127.1.1.{node}:6379@16379 {myself}master - 0 0 {node} connected {half}{own}{}\n",
                id(node),
                mark.unwrap_or_default()
            )
        };
        line(1) + &line(2)
    }
}

impl servers::Model for Model {
    fn answer(&mut self, node: u16, words: &[String]) -> Option<String> {
        let line = words.join(" ");
        let trick = self.tricks.iter().find(|(at, start, _)| *at == node && line.starts_with(start));
        match trick.map(|(_, _, trick)| trick.clone()) {
            Some(Trick::Refuse(error)) => return Some(format!("-{error}\r\n")),
            Some(Trick::Silence) => return None,
            Some(Trick::Forget) => drop(self.marks.remove(&node)),
            None => {}
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let held = |it: &Self, node: u16| it.keys.get(&node).map_or(0, BTreeSet::len);
        Some(match &words[..] {
            ["CLUSTER", "NODES"] => bulk(&self.table(node)),
            ["CLUSTER", "INFO"] => bulk(
                "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n\
                 cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:2\r\ncluster_size:2\r\n\
                 cluster_current_epoch:2\r\ncluster_my_epoch:1\r\n",
            ),
            ["CLUSTER", "COUNTKEYSINSLOT", _] => format!(":{}\r\n", held(self, node)),
            ["CLUSTER", "GETKEYSINSLOT", _, count] => {
                let count = count.parse().expect("a number");
                let list: Vec<String> =
                    self.keys.get(&node).into_iter().flatten().take(count).cloned().collect();
                let items: Vec<String> = list.iter().map(|key| bulk(key)).collect();
                format!("*{}\r\n{}", list.len(), items.concat())
            }
            ["CLUSTER", "SETSLOT", _, action, rest @ ..] => {
                self.log.borrow_mut().push(format!("{node} {action}"));
                match (*action, rest) {
                    ("STABLE", _) => drop(self.marks.remove(&node)),
                    ("NODE", [owner]) => {
                        self.marks.remove(&node);
                        self.owner = if *owner == id(1) { 1 } else { 2 };
                    }
                    (mark, [other]) => {
                        self.marks.insert(node, (mark.to_owned(), (*other).to_owned()));
                    }
                    _ => return Some("-ERR syntax\r\n".to_owned()),
                }
                "+OK\r\n".to_owned()
            }
            ["MIGRATE", _, _, _, _, _, "KEYS", keys @ ..] => {
                for key in keys {
                    if self.keys.entry(node).or_default().remove(*key) {
                        self.keys.entry(3 - node).or_default().insert((*key).to_owned());
                    }
                }
                "+OK\r\n".to_owned()
            }
            other => format!("-ERR unknown {other:?}\r\n"),
        })
    }
}

/// Moves the slot from node 1 to node 2; the report and what was told whom.
fn moved(tricks: &[(u16, &'static str, Trick)]) -> (MoveReport, Vec<String>) {
    let model = Model::new(tricks);
    let log = model.log.clone();
    let executor = Executor::new();
    let options = ModelOptions { nodes: 2, seed: 1, latency_ns: 50_000, jitter_ns: 0 };
    let world = ModelWorld::new(executor.clone(), options, Modelled::new(model));
    let flow = async move {
        let entry = world.address(1, SeenBy::Controller);
        let mut fleet = Fleet::discover(&world, entry, 1000).await.expect("the model answers");
        assert_eq!(fleet.nodes[1].dial, world.address(2, SeenBy::Controller), "never through the proxy");
        let carry = CarryOptions { timeout_ms: 500, ..CarryOptions::default() };
        let orders = Orders { carry, fresh: true, tell: &|_| (), halt: &|| false, source_first: false };
        move_slots(&mut fleet, &[SlotMove { slot: SLOT, road: Road { from: 0, to: 1 } }], &orders).await
    };
    let report = executor.run(flow).expect("no deadlock");
    let told = log.borrow().clone();
    (report, told)
}

#[test]
fn the_target_is_told_first_at_the_beginning_and_at_the_end() {
    let (report, told) = moved(&[]);
    assert!(report.complete(), "{report:?}");
    assert_eq!(report.keys, KEYS as u64);
    assert_eq!(told, ["2 IMPORTING", "1 MIGRATING", "2 NODE", "1 NODE"]);
}

#[test]
fn a_source_that_lost_its_mark_keeps_the_slot() {
    // As if it failed over after the last key had left: it may have taken new ones.
    let (report, told) = moved(&[(1, "CLUSTER NODES", Trick::Forget)]);
    assert!(matches!(report.error, Some(MoveError::Changed { .. })), "{report:?}");
    assert!(!told.iter().any(|step| step.ends_with("NODE")), "{told:?}");
    assert_eq!(report.open[0].stage, Stage::Carrying);
}

#[test]
fn a_slot_of_which_no_key_moved_goes_back() {
    let (report, told) =
        moved(&[(1, "MIGRATE", Trick::Refuse("IOERR error or timeout writing to target instance"))]);
    assert_eq!((report.untouched, report.open), (vec![SLOT], vec![]));
    assert_eq!(told, ["2 IMPORTING", "1 MIGRATING", "1 STABLE", "2 STABLE"]);
}

#[test]
fn a_target_that_does_not_say_whether_it_took_the_slot_may_have_taken_it() {
    let (report, told) = moved(&[(2, "CLUSTER SETSLOT 7 NODE", Trick::Silence)]);
    assert_eq!(report.open[0].stage, Stage::MayOwn, "{report:?}");
    assert!(!told.contains(&"1 NODE".to_owned()), "the source must not be told: {told:?}");
    assert!(report.sentences("here").iter().any(|line| line.contains("slotstorm cluster fix here")));
}

#[test]
fn a_source_that_cannot_be_told_leaves_a_slot_that_is_owned() {
    let (report, _) = moved(&[(1, "CLUSTER SETSLOT 7 NODE", Trick::Silence)]);
    assert_eq!(report.open[0].stage, Stage::Owned, "{report:?}");
}
