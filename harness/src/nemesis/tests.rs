//! Stories of a nemesis against a cluster that exists only as a model.

use slotstorm_checker::record::Seen;
use slotstorm_fabric::{Endpoint, Policy};

use super::*;
use crate::observer::node_name;
use crate::plan::{Plan, StormFile, seed};

const S: Nanos = 1_000_000_000;

/// Three masters n1 to n3, their replicas n4 to n6, all running.
fn cluster() -> ClusterModel {
    let mut model = ClusterModel::new(6);
    for number in 1..=6u16 {
        model.set_process(number, ProcessState::Running { pid: u32::from(number) });
        let shard = (number - 1) % 3;
        let slots = vec![(shard * 5461, (shard * 5461 + 5460).min(16383))];
        let master = number <= 3;
        let seen = Seen {
            master,
            ok: true,
            epoch: u64::from(shard) + 1,
            slots: if master { slots } else { Vec::new() },
            master_name: (!master).then(|| node_name(number - 3)),
            ..Seen::default()
        };
        model.set_seen(number, 0, seen);
    }
    model
}

fn nemesis(faults: &str) -> Nemesis {
    let plan = Plan::from_file(StormFile::parse("storm.toml", faults).unwrap(), 1).unwrap();
    let options = NemesisOptions { origin: 10 * S, node_timeout_ms: 2000, clients: 10, replicas: 1 };
    Nemesis::new(plan.schedule(), options, seed::rng(1, "nemesis"))
}

fn only_signal(step: &Step) -> (u16, Signal) {
    match step.deeds.as_slice() {
        [Deed::Signal { node, signal }] => (*node, *signal),
        other => panic!("not one signal: {other:?}"),
    }
}

#[test]
fn a_killed_master_is_started_again_after_its_time() {
    let mut nemesis =
        nemesis("[[fault]]\nat = 5\nkind = 'kill'\ntarget = 'master of slot 6000'\nrestart_after = '3 NT'\n");
    let mut model = cluster();
    assert_eq!(nemesis.next_deadline(), Some(15 * S));
    assert_eq!(nemesis.on(14 * S, &model), None);
    let kill = nemesis.on(15 * S, &model).unwrap();
    assert_eq!(only_signal(&kill), (2, Signal::Kill));
    assert!(nemesis.holds());
    model.set_process(2, ProcessState::Down { status: None });
    assert_eq!(nemesis.next_deadline(), Some(21 * S));
    let start = nemesis.on(21 * S, &model).unwrap();
    assert_eq!(start.deeds, [Deed::Start { node: 2 }]);
    assert_eq!((start.fault, start.phase), (Some(0), FaultPhase::End));
    assert!(!nemesis.holds() && nemesis.next_deadline().is_none());
}

#[test]
fn a_dead_or_stopped_node_is_never_chosen() {
    let mut nemesis = nemesis(
        "[[fault]]\nat = 1\nkind = 'pause'\ntarget = 'random master'\nduration = 1\n\
         [[fault]]\nat = 2\nkind = 'pause'\ntarget = 'node n1'\nduration = 1\n\
         [[fault]]\nat = 3\nkind = 'kill'\ntarget = 'master of slot 0'\n",
    );
    let mut model = cluster();
    model.set_process(1, ProcessState::Down { status: None });
    model.set_process(2, ProcessState::Stopped { pid: 2 });
    assert_eq!(only_signal(&nemesis.on(11 * S, &model).unwrap()), (3, Signal::Stop));
    let by_name = nemesis.on(100 * S, &model).unwrap();
    assert!(by_name.deeds.is_empty() || by_name.phase == FaultPhase::End);
    let vacuous: Vec<_> = std::iter::from_fn(|| nemesis.on(100 * S, &model))
        .chain([by_name])
        .filter_map(|s| s.vacuous)
        .collect();
    assert_eq!(vacuous.len(), 2, "{vacuous:?}");
}

#[test]
fn a_master_that_was_replaced_but_does_not_know_it_is_no_master() {
    let mut model = cluster();
    let promoted = Seen { master: true, epoch: 9, slots: vec![(0, 5460)], ..Seen::default() };
    model.set_seen(4, 1, promoted);
    assert_eq!(model.master_of(0), Some(4));
    assert_eq!(model.masters(), [2, 3, 4]);
}

#[test]
fn an_isolated_master_keeps_some_clients_and_loses_everyone_else_in_one_step() {
    let mut nemesis = nemesis("[[fault]]\nat = 1\nkind = 'isolate'\ntarget = 'node n1'\nduration = 5\n");
    let model = cluster();
    let cut = nemesis.on(11 * S, &model).unwrap();
    let [Deed::Net(changes)] = cut.deeds.as_slice() else { panic!("one step: {:?}", cut.deeds) };
    let n1 = Endpoint::Node(1);
    let with_nodes =
        changes.iter().filter(|c| matches!((c.from, c.to), (Endpoint::Node(_), Endpoint::Node(_)))).count();
    assert_eq!(with_nodes, 10, "five peers, both ways");
    let cut_from_n1 = changes.iter().filter(|c| matches!(c.from, Endpoint::Client(_)) && c.to == n1).count();
    assert_eq!(cut_from_n1, 7, "three of ten clients stay");
    let cut_from_n2 =
        changes.iter().filter(|c| matches!(c.from, Endpoint::Client(_)) && c.to == Endpoint::Node(2)).count();
    assert_eq!(cut_from_n2, 3, "those three do not reach the others");
    let heal = nemesis.on(16 * S, &model).unwrap();
    let [Deed::Net(healed)] = heal.deeds.as_slice() else { panic!("one step: {:?}", heal.deeds) };
    assert_eq!(healed.len(), changes.len());
    assert!(healed.iter().all(|change| change.policy == Policy::Pass));
}

#[test]
fn the_same_seed_hits_the_same_nodes() {
    let storm = "[[fault]]\nevery = 1\nkind = 'reset'\ntarget = 'random node'\n";
    let hit = || {
        let mut nemesis = nemesis(storm);
        let model = cluster();
        std::iter::from_fn(|| nemesis.on(100 * S, &model)).map(|step| step.note).collect::<Vec<_>>()
    };
    assert_eq!(hit(), hit());
    assert!(hit().len() > 100);
}

#[test]
fn its_replica_is_one_of_the_shard_that_was_hit_before() {
    let mut nemesis = nemesis(
        "[[fault]]\nat = 1\nkind = 'kill'\ntarget = 'node n3'\n\
         [[fault]]\nat = 2\nkind = 'kill'\ntarget = 'its replica'\n",
    );
    let mut model = cluster();
    nemesis.on(11 * S, &model).unwrap();
    model.set_process(3, ProcessState::Down { status: None });
    assert_eq!(only_signal(&nemesis.on(12 * S, &model).unwrap()), (6, Signal::Kill));
}

#[test]
fn the_end_of_the_storm_undoes_all_that_holds() {
    let mut nemesis = nemesis(
        "[[fault]]\nat = 1\nkind = 'kill'\ntarget = 'n1'\nrestart_after = 'never'\n\
         [[fault]]\nat = 2\nkind = 'pause'\ntarget = 'n2'\nduration = 50\n\
         [[fault]]\nat = 3\nkind = 'one-way'\ntarget = 'n3'\nduration = 50\n",
    );
    let mut model = cluster();
    for at in 11..14 {
        nemesis.on(at * S, &model).unwrap();
    }
    model.set_process(1, ProcessState::Down { status: None });
    model.set_process(2, ProcessState::Stopped { pid: 2 });
    model.set_process(5, ProcessState::Down { status: Some("signal 11".into()) });
    let deeds: Vec<Deed> = nemesis.heal_all(20 * S, &model).into_iter().flat_map(|step| step.deeds).collect();
    assert!(deeds.contains(&Deed::Start { node: 1 }));
    assert!(deeds.contains(&Deed::Signal { node: 2, signal: Signal::Continue }));
    assert!(deeds.contains(&Deed::Start { node: 5 }), "a node that crashed comes back too");
    assert!(deeds.iter().any(|deed| matches!(deed, Deed::Net(changes) if !changes.is_empty())));
    assert_eq!(deeds.len(), 4, "each once: {deeds:?}");
}

#[test]
fn a_fault_waits_for_a_message_and_hits_its_sender_at_once_while_it_is_held() {
    let mut nemesis = nemesis(
        "[[fault]]\non = 'auth-ack to node n4'\nafter = 2\nkind = 'pause'\ntarget = 'voter'\nduration = 1\n",
    );
    let model = cluster();
    assert!(nemesis.on(11 * S, &model).is_none() && nemesis.traps(&model).is_empty(), "not armed yet");
    assert_eq!(nemesis.on(12 * S, &model), None);
    let traps = nemesis.traps(&model);
    let [Trap { id: 0, nth: 1, hold: true, .. }] = traps.as_slice() else { panic!("{traps:?}") };
    nemesis.matched(&seen(0, 13 * S, 2, 4));
    let pause = nemesis.on(13 * S, &model).unwrap();
    assert_eq!(only_signal(&pause), (2, Signal::Stop));
    let off = pause.trigger.unwrap();
    assert_eq!((off.trap, off.at, off.delay), (Some(0), 13 * S, 0));
    assert!(nemesis.traps(&model).is_empty(), "once is once");
}

/// A message from one node to another, caught by a trap.
fn seen(trap: u32, time: Nanos, from: u16, to: u16) -> Match {
    let (from, to) = (Endpoint::Node(from), Endpoint::Node(to));
    Match { trap, time, from, to, subject: None, epoch: 7, what: "a message".into() }
}

#[test]
fn with_a_delay_the_message_passes_and_the_fault_comes_after_it_every_time() {
    let mut nemesis = nemesis(
        "[[fault]]\non = 'promotion'\ndelay = '15 ms'\ntimes = 2\nkind = 'kill'\ntarget = 'new master'\n",
    );
    let mut model = cluster();
    for (trap, node) in [(0, 4), (1, 5)] {
        while nemesis.on(12 * S, &model).is_some() {}
        let traps = nemesis.traps(&model);
        assert_eq!((traps.len(), traps[0].id, traps[0].hold), (1, trap, false), "one after the other");
        nemesis.matched(&seen(trap, 13 * S, node, 1));
        assert_eq!(nemesis.next_deadline(), Some(13 * S + 15_000_000));
        let kill = nemesis.on(13 * S + 15_000_000, &model).unwrap();
        assert_eq!(only_signal(&kill), (node, Signal::Kill));
        model.set_process(node, ProcessState::Down { status: None });
    }
    assert!(nemesis.traps(&model).is_empty());
}

#[test]
fn a_fault_follows_the_end_of_another() {
    let mut nemesis = nemesis(
        "[[fault]]\nname = 'cut'\nat = 1\nkind = 'isolate'\ntarget = 'n1'\nduration = 2\n\
         [[fault]]\non = 'end of cut'\ndelay = 0.5\nkind = 'kill'\ntarget = 'its replica'\n",
    );
    let model = cluster();
    assert_eq!(nemesis.on(11 * S, &model).unwrap().name, "isolate");
    assert_eq!(nemesis.on(13 * S, &model).unwrap().phase, FaultPhase::End);
    assert_eq!(nemesis.next_deadline(), Some(13 * S + S / 2));
    assert_eq!(only_signal(&nemesis.on(14 * S, &model).unwrap()), (4, Signal::Kill));
}

#[test]
fn a_careful_fault_never_takes_the_last_sound_copy() {
    let two = |careful: &str| {
        format!(
            "[[fault]]\nat = 1\nkind = 'pause'\ntarget = 'n4'\nduration = 9\n\
             [[fault]]\nat = 2\nkind = 'kill'\ntarget = 'n1'\n{careful}\n"
        )
    };
    for (careful, spared) in [("careful = true", true), ("", false)] {
        let mut nemesis = nemesis(&two(careful));
        let mut model = cluster();
        for number in 4..=6 {
            let mut seen = Seen::clone(&model.node(number).unwrap().seen.as_ref().unwrap().1);
            seen.link_up = true;
            model.set_seen(number, 0, seen);
        }
        nemesis.on(11 * S, &model).unwrap();
        let kill = nemesis.on(12 * S, &model).unwrap();
        assert_eq!(kill.vacuous.is_some_and(|why| why.contains("last sound copy")), spared, "{careful}");
    }
}

#[test]
fn what_comes_and_goes_beats_until_its_end() {
    let mut nemesis =
        nemesis("[[fault]]\nat = 1\nkind = 'flapping'\ntarget = 'n1'\ndown = 0.5\nup = 0.25\nduration = 2\n");
    let model = cluster();
    let mut told = Vec::new();
    for now in [11 * S, 100 * S, 100 * S] {
        let step = nemesis.on(now, &model).expect("a step is due");
        let passes = step.deeds.iter().any(|deed| {
            matches!(deed, Deed::Net(changes) if changes.iter().all(|change| change.policy == Policy::Pass))
        });
        told.push((step.phase, passes));
    }
    let (start, beat, end) = (FaultPhase::Start, FaultPhase::Beat, FaultPhase::End);
    assert_eq!(told, [(start, false), (beat, true), (end, true)], "late beats are dropped");
    assert!(!nemesis.holds());
}

#[test]
fn bus_messages_are_under_a_rule_from_begin_to_end() {
    let mut nemesis = nemesis(
        "[[fault]]\nat = 1\nkind = 'drop-messages'\ntarget = 'n1'\nto = 'n4'\ntypes = ['auth-ack']\nduration = 2\n",
    );
    let model = cluster();
    let begin = nemesis.on(11 * S, &model).unwrap();
    let [Deed::Filter { rules, changed }] = begin.deeds.as_slice() else { panic!("{begin:?}") };
    assert_eq!((rules.len(), changed.len()), (1, 1));
    assert_eq!(changed[0].1.as_deref(), Some("messages: drop auth-ack"));
    assert_eq!(begin.voids, ["split-brain-bound"]);
    let end = nemesis.on(13 * S, &model).unwrap();
    assert!(matches!(end.deeds.as_slice(), [Deed::Filter { rules, .. }] if rules.is_empty()));
}

#[test]
fn a_command_names_nodes_by_what_they_are() {
    let mut nemesis = nemesis(
        "[[fault]]\nat = 1\nkind = 'command'\ntarget = 'n1'\n\
         command = 'CLUSTER SETSLOT 0 NODE {id of master of slot 16000} \"a b\" {port of n2}'\n",
    );
    let mut model = cluster();
    let mut seen = Seen::clone(&model.node(3).unwrap().seen.as_ref().unwrap().1);
    seen.id = "cafe".into();
    model.set_seen(3, 0, seen);
    let step = nemesis.on(11 * S, &model).unwrap();
    let [Deed::Ask { node: 1, words }] = step.deeds.as_slice() else { panic!("{step:?}") };
    assert_eq!(words.join("|"), "CLUSTER|SETSLOT|0|NODE|cafe|a b|{port of n2}");
}
