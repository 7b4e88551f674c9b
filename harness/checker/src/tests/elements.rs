//! Corrupted histories are caught; correct ones, however they were scrambled by time, are not.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::judge;
use crate::record::verdict::Verdict;
use crate::record::*;
use crate::scene::{Held, Scene};

/// A calm shard with three acknowledged elements, and a fault elsewhere.
fn calm(workload: &str) -> (Scene, String) {
    let mut scene = Scene::new(workload);
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").add(&key, 2, "n1").pause("n5").add(&key, 3, "n1").at(2.0).resume("n5");
    scene.at(3.0).end_storm().final_reads();
    (scene, key)
}

#[test]
fn the_calm_history_is_valid() {
    for workload in ["set", "append"] {
        let (scene, _) = calm(workload);
        let verdict = judge(&scene.record());
        assert_eq!(verdict.exit_code, 0, "{}", verdict.reason);
    }
}

#[test]
fn one_acknowledged_element_removed_from_the_final_read_is_caught() {
    for workload in ["set", "append"] {
        let (mut scene, key) = calm(workload);
        scene.final_read(&key).retain(|&element| element != 2);
        let verdict = judge(&scene.record());
        assert_eq!((verdict.exit_code, verdict.checks.lost_writes.by_class["unexplained"]), (1, 1));
    }
}

#[test]
fn one_element_duplicated_is_caught() {
    for workload in ["set", "append"] {
        let (mut scene, key) = calm(workload);
        scene.final_read(&key).push(2);
        let verdict = judge(&scene.record());
        assert_eq!((verdict.exit_code, verdict.checks.elements.duplicated), (1, 1), "{}", verdict.reason);
        assert_eq!(verdict.checks.elements.misordered, 0);
    }
}

#[test]
fn an_element_that_nobody_wrote_or_that_failed_is_a_phantom() {
    let (mut scene, key) = calm("set");
    scene.final_read(&key).push(99);
    assert_eq!(judge(&scene.record()).checks.elements.phantom, 1);

    let mut scene = Scene::new("set");
    scene.at(1.5).write(&key, 1, "n1", Kind::Fail, true).write(&key, 2, "n1", Kind::Fail, false).kill("n5");
    let verdict = judge(&scene.at(2.0).finish());
    assert_eq!((verdict.checks.elements.phantom, verdict.exit_code), (1, 1));
}

#[test]
fn an_element_under_another_key_is_a_phantom_there() {
    let (mut scene, key) = calm("set");
    let other = Scene::key(0, 2);
    scene.at(10.0).add(&other, 50, "n1").read(&other, "n1");
    if let Some(Body::Read(op)) = scene.events.last_mut().map(|event| &mut event.body) {
        op.elements = Some(vec![50, 1]);
    }
    let verdict = judge(&scene.record());
    assert_eq!(verdict.checks.elements.phantom, 1, "{key} {}", verdict.reason);
}

#[test]
fn swapped_appends_are_misordered() {
    let (mut scene, key) = calm("append");
    scene.final_read(&key).swap(0, 1);
    let verdict = judge(&scene.record());
    assert_eq!((verdict.exit_code, verdict.checks.elements.misordered), (1, 2), "{}", verdict.reason);
}

#[test]
fn reads_of_a_list_that_are_no_prefixes_are_misordered() {
    let mut scene = Scene::new("append");
    let key = Scene::key(0, 1);
    scene.at(1.5).write(&key, 1, "n1", Kind::Info, true).write(&key, 2, "n1", Kind::Info, true).kill("n5");
    scene.read(&key, "n1");
    if let Some(Body::Read(op)) = scene.events.last_mut().map(|event| &mut event.body) {
        op.elements = Some(vec![2, 1]);
    }
    let verdict = judge(&scene.at(3.0).finish());
    assert_eq!((verdict.checks.elements.misordered, verdict.exit_code), (1, 1));
}

#[test]
fn what_an_overtaken_master_appended_and_lost_disturbs_no_order() {
    let mut scene = Scene::new("append");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").at(2.0).isolate("n1").at(3.0).add(&key, 2, "n1").read(&key, "n1");
    scene.at(4.8).fails("n1").at(5.0).promote("n4").add(&key, 3, "n4").add(&key, 4, "n4").read(&key, "n4");
    let verdict = judge(&scene.at(8.0).heal("n1").learns("n1").at(9.0).finish());
    assert_eq!((verdict.exit_code, verdict.checks.lost_writes.lost), (0, 1), "{}", verdict.reason);
    assert_eq!(verdict.checks.elements.misordered, 0);
}

#[test]
fn a_stale_read_is_excused_only_inside_a_window() {
    // n1 is resumed after n4 took over, and answers once from before.
    let story = |read_at: f64| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(2.0).pause("n1").at(5.0).promote("n4").add(&key, 2, "n4");
        scene.at(7.0).resume("n1").at(read_at).read(&key, "n1").learns("n1");
        judge(&scene.at(10.0).finish())
    };
    let (early, late) = (story(7.05), story(9.0));
    assert_eq!((early.checks.lost_writes.stale, early.exit_code), (1, 0), "{}", early.reason);
    assert_eq!((late.checks.lost_writes.stale, late.exit_code), (1, 1), "{}", late.reason);
}

#[test]
fn stale_in_some_read_is_not_lost() {
    let (mut scene, key) = calm("set");
    scene.at(10.0).read(&key, "n1");
    if let Some(Body::Read(op)) = scene.events.last_mut().map(|event| &mut event.body) {
        op.elements.as_mut().unwrap().retain(|&element| element != 1);
    }
    let verdict = judge(&scene.record());
    assert_eq!((verdict.checks.lost_writes.lost, verdict.checks.lost_writes.stale), (0, 1));
}

#[test]
fn sadd_that_finds_its_element_is_a_duplicate() {
    let (mut scene, _) = calm("set");
    for event in &mut scene.events {
        if let (Body::Add(op), Kind::Ok) = (&mut event.body, event.kind) {
            op.reply = Some(i64::from(op.value != Some(3)));
        }
    }
    assert_eq!(judge(&scene.record()).checks.elements.duplicated, 1);
}

/// One generated operation: which key, when it begins, how long it takes, how it ends, whether it was executed.
#[derive(Clone, Debug)]
struct Plan {
    key: u8,
    begin: u16,
    length: u16,
    at: u16,
    end: u8,
    read: bool,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let plan = (0..3u8, 0..2000u16, 1..300u16, any::<u16>(), 0..10u8, prop::bool::weighted(0.2))
        .prop_map(|(key, begin, length, at, end, read)| Plan { key, begin, length, at, end, read });
    prop::collection::vec(plan, 1..60)
}

/// Executes the plans at moments inside their intervals on one perfect store, and writes the history of it.
fn history(workload: &str, plans: &[Plan]) -> Scene {
    let mut scene = Scene::new(workload);
    scene.at(1.5).kill("n5");
    let base = 1_600_000_000;
    let mut steps: Vec<(u64, u8, usize)> = Vec::new();
    for (number, plan) in plans.iter().enumerate() {
        let (from, length) = (u64::from(plan.begin) * 3, u64::from(plan.length) * 3);
        steps.push((from, 0, number));
        steps.push((from + u64::from(plan.at) % (length + 1), 1, number));
        steps.push((from + length, 2, number));
    }
    steps.sort_unstable();
    let mut store: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
    let mut results: BTreeMap<usize, (i64, Vec<u64>)> = BTreeMap::new();
    let mut events = Vec::new();
    for (time, step, number) in steps {
        let plan = &plans[number];
        let write = !plan.read;
        // 0: failed. 1: unknown, not executed. 2: unknown, executed. Else ok.
        let executed = plan.end >= 2;
        let mut op = Op { key: Scene::key(0, u32::from(plan.key)), ..Op::default() };
        op.value = write.then_some(number as u64);
        let kind = match (step, plan.end) {
            (1, _) => {
                let list = store.entry(plan.key).or_default();
                if write && executed {
                    list.push(number as u64);
                }
                results.insert(number, (list.len() as i64, list.clone()));
                continue;
            }
            (0, _) => Kind::Invoke,
            (_, 0) => Kind::Fail,
            (_, 1 | 2) => Kind::Info,
            _ => Kind::Ok,
        };
        if kind != Kind::Invoke {
            op.node = Some("n1".into());
        }
        if kind == Kind::Ok {
            let (length, seen) = results[&number].clone();
            op.reply = write.then_some(if workload == "append" { length } else { 1 });
            op.elements = plan.read.then_some(seen);
        }
        let body = match (plan.read, workload) {
            (true, _) => Body::Read(op),
            (_, "append") => Body::Append(op),
            _ => Body::Add(op),
        };
        let process = Process::Client(number as u64);
        events.push(Event { index: 0, time: base + time * 1_000_000, kind, process, body });
    }
    scene.events.extend(events);
    for (key, list) in store {
        for element in list {
            scene.remembers("n1", &Scene::key(0, u32::from(key)), element);
        }
    }
    scene.at(9.0).end_storm().final_reads();
    scene
}

/// Slow and obvious: elements that must be in the final read of their key and are not; those that are there and must
/// not be, or twice.
fn reference(record: &Record) -> (u64, u64, u64) {
    let (mut lost, mut phantom, mut duplicated) = (0, 0, 0);
    let finals: Vec<&Operation> = record.ops.iter().filter(|op| op.is_final).collect();
    for op in record.ops.iter().filter(|op| op.is_write()) {
        let value = op.value.unwrap();
        let seen = record
            .ops
            .iter()
            .filter(|read| read.key == op.key)
            .any(|read| read.elements().is_some_and(|elements| elements.contains(&value)));
        let last = finals.iter().find(|read| read.key == op.key).and_then(|read| read.elements()).unwrap();
        let times = last.iter().filter(|&&element| element == value).count();
        let known = op.outcome == Outcome::Ok || (op.outcome == Outcome::Info && seen);
        lost += u64::from(known && times == 0);
        phantom += u64::from(op.outcome == Outcome::Fail && seen);
        duplicated += u64::from(times > 1);
    }
    (lost, phantom, duplicated)
}

fn counts(verdict: &Verdict) -> (u64, u64, u64) {
    let (lost, elements) = (&verdict.checks.lost_writes, &verdict.checks.elements);
    (lost.lost, elements.phantom, elements.duplicated)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn correct_histories_are_valid(plans in plans(), append: bool) {
        let scene = history(if append { "append" } else { "set" }, &plans);
        let verdict = judge(&scene.record());
        prop_assert!(verdict.exit_code != 1, "{}", verdict.reason);
        prop_assert_eq!(verdict.checks.elements.misordered, 0);
        prop_assert_eq!(verdict.checks.lost_writes.stale, 0);
    }

    #[test]
    fn broken_histories_are_judged_as_the_reference_does(
        plans in plans(), append: bool, way in 0..3u8, pick: prop::sample::Index,
    ) {
        let mut scene = history(if append { "append" } else { "set" }, &plans);
        let writes: Vec<u64> = scene.events.iter().filter(|event| event.kind == Kind::Invoke)
            .filter_map(|event| match &event.body { Body::Add(op) | Body::Append(op) => op.value, _ => None })
            .collect();
        prop_assume!(!writes.is_empty());
        let element = *pick.get(&writes);
        let key = Scene::key(0, u32::from(plans[element as usize].key));
        let list = scene.final_read(&key);
        match way {
            0 => list.retain(|&other| other != element),
            1 => list.push(element),
            _ => list.insert(0, element),
        }
        let record = scene.record();
        let verdict = judge(&record);
        prop_assert_eq!(counts(&verdict), reference(&record));
        let broken = reference(&record) != (0, 0, 0);
        prop_assert!(!broken || verdict.exit_code == 1);
    }

    #[test]
    fn lists_are_in_one_order_or_caught(plans in plans(), pick: prop::sample::Index) {
        let mut scene = history("append", &plans);
        let keys: Vec<String> = (0..3).map(|key| Scene::key(0, key)).collect();
        let record = scene.record();
        let with_two: Vec<&String> = keys.iter().filter(|key| record.ops.iter()
            .any(|op| op.is_final && record.key(op.key).name == **key && op.elements().unwrap().len() > 1)).collect();
        prop_assume!(!with_two.is_empty());
        let key: &&String = pick.get(&with_two);
        let list = scene.final_read(key);
        let last = list.len() - 1;
        list.swap(0, last);
        let (one, other) = (list[0] as usize, list[last] as usize);
        // Without a reply on either, concurrent unknown writes may stand in any order.
        prop_assume!(plans[one].end > 2 || plans[other].end > 2);
        prop_assert_eq!(judge(&scene.record()).exit_code, 1);
    }
}

#[test]
fn a_lost_suffix_moves_no_position() {
    let mut scene = Scene::new("append");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").hold("n1", Held::Read).add(&key, 2, "n1").at(2.0).kill("n1");
    scene.at(5.0).promote("n4").add(&key, 3, "n4").add(&key, 4, "n4");
    let verdict = judge(&scene.at(6.0).finish());
    assert_eq!((verdict.exit_code, verdict.checks.elements.misordered), (0, 0), "{}", verdict.reason);
}
