//! Faults that void guarantees: what depends on them is listed, and the same without the fault is invalid. And what a run
//! reached.

use crate::record::{Body, Expect, Voids};
use crate::scene::Scene;
use crate::{GUARANTEES, Requirement, judge};

/// The last fault voids these, for this node.
fn voids(scene: &mut Scene, node: &str, guarantees: &[&str]) {
    assert!(guarantees.iter().all(|it| GUARANTEES.contains(it)));
    let Some(Body::Fault(step)) = scene.events.last_mut().map(|event| &mut event.body) else {
        panic!("a fault comes first")
    };
    let guarantees = guarantees.iter().map(|it| (*it).to_owned()).collect();
    step.voids = Some(Voids { guarantees, nodes: vec![node.to_owned()] });
}

/// n5 has a full disk (or another one has) and ends over it.
fn ends_over_its_disk(voided: &str) -> Scene {
    let mut scene = Scene::new("set");
    scene.at(1.5).add(&Scene::key(0, 1), 1, "n1").at(2.0).fault("disk-full", Vec::new());
    voids(&mut scene, voided, &["no-crash"]);
    scene.at(3.0).exits("n5");
    scene
}

#[test]
fn a_server_that_ends_over_a_full_disk_is_outside_the_model_and_another_one_is_not() {
    let verdict = judge(&ends_over_its_disk("n5").at(5.0).finish());
    let invariants = &verdict.checks.invariants;
    assert_eq!((invariants.violations.len(), invariants.outside_model.len()), (0, 1), "{invariants:#?}");
    assert_ne!(verdict.exit_code, 1, "{}", verdict.reason);
    let verdict = judge(&ends_over_its_disk("n6").at(5.0).finish());
    assert_eq!(verdict.exit_code, 1, "{}", verdict.reason);
}

#[test]
fn a_node_with_an_older_table_voids_majorities_for_all_and_votes_for_itself() {
    let mut scene = Scene::new("set");
    scene.at(2.0).fault("roll-back-config", Vec::new());
    voids(&mut scene, "n5", &["fail-by-a-majority", "one-vote-per-epoch"]);
    let record = scene.at(3.0).finish();
    let voided = crate::voids::Voided::of(&record);
    let covers = |guarantee, node| voided.covers(guarantee, &[node], record.end);
    assert!(covers("fail-by-a-majority", "n1") && covers("one-vote-per-epoch", "n5"));
    assert!(!covers("one-vote-per-epoch", "n1") && !covers("promotion-by-a-majority", "n1"));
    assert!(!voided.covers("fail-by-a-majority", &["n1"], 0), "before that it held");
}

#[test]
fn an_owner_that_forgot_its_epoch_takes_its_slots_back_in_every_table() {
    for (rolled_back, held_against) in [("n1", false), ("n5", true)] {
        let mut scene = Scene::new("set");
        scene
            .at(1.5)
            .add(&Scene::key(0, 1), 1, "n1")
            .at(2.0)
            .kill("n1")
            .fault("roll-back-config", Vec::new());
        voids(&mut scene, rolled_back, &["owner-epoch-never-goes-back"]);
        scene.at(2.1).restart("n1").at(3.0).end_storm().final_reads();
        let of_n2 = scene.views.iter_mut().filter(|view| view.node == "n2" && view.sent < 2_000_000_000);
        for seen in of_n2.filter_map(|view| view.seen.as_mut()) {
            seen.table[0].epoch = 9; // n1's; later it is 1
        }
        let invariants = judge(&scene.record()).checks.invariants;
        let found = (!invariants.violations.is_empty(), !invariants.outside_model.is_empty());
        assert_eq!(found, (held_against, !held_against), "{invariants:#?}");
    }
}

#[test]
fn what_nobody_wrote_is_excused_once_stored_bytes_were_changed() {
    for (voided, held_against) in [("values-as-written", false), ("acknowledged-writes", true)] {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(2.0).kill("n4").fault("corrupt", Vec::new());
        voids(&mut scene, "n4", &[voided]);
        scene.at(3.0).restart("n4").at(4.0).finish();
        scene.final_read(&key).push(99);
        let verdict = judge(&scene.record());
        let counts = verdict.exit_code == 1;
        assert_eq!((verdict.checks.elements.phantom, counts), (1, held_against), "{}", verdict.reason);
    }
}

/// The second of three appended elements turns into another one, and is gone in the end: the third stands where it did not.
#[test]
fn a_changed_element_moves_those_behind_it() {
    for (seen, excused) in [(vec![1, 99], 2), (vec![1], 0)] {
        let mut scene = Scene::new("append");
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").add(&key, 2, "n1").at(2.0).kill("n4").fault("corrupt", Vec::new());
        voids(&mut scene, "n4", &["values-as-written"]);
        scene.at(3.0).restart("n4").read(&key, "n1");
        if let Some(Body::Read(op)) = scene.events.last_mut().map(|event| &mut event.body) {
            op.elements = Some(seen);
        }
        scene.add(&key, 3, "n1").at(4.0).finish();
        scene.final_read(&key).remove(1);
        let elements = judge(&scene.record()).checks.elements;
        assert_eq!((elements.misordered, elements.excused), (1, excused), "{elements:#?}");
    }
}

#[test]
fn a_later_master_that_may_come_back_with_less_voids_what_it_took_over() {
    for (damaged, class) in [("n4", "outside-model"), ("n2", "unexplained")] {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(2.0).kill("n1").at(5.0).promote("n4").at(6.0).kill("n4");
        voids(&mut scene, damaged, &["acknowledged-writes"]);
        scene.at(6.2).restart("n4").forgets("n4", &key, 1);
        let lost = judge(&scene.at(7.0).finish()).checks.lost_writes;
        assert_eq!(lost.by_class.get(class), Some(&1), "{:?}", lost.by_class);
    }
}

#[test]
fn what_wait_promised_of_one_shard_says_nothing_of_the_one_that_the_key_went_to() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.info.expect = Expect::Wait;
    scene.at(1.5).add(&key, 1, "n1").waited(1, 1).at(1.9).migrate(&key, "n1", "n2").at(2.0).kill("n2");
    voids(&mut scene, "n2", &["acknowledged-writes"]);
    scene.at(2.3).restart("n2").forgets("n2", &key, 1);
    let lost = judge(&scene.at(4.0).finish()).checks.lost_writes;
    assert_eq!((lost.by_class["outside-model"], lost.protected, lost.protected_lost), (1, 1, 0), "{lost:#?}");
}

/// n1's acknowledged write is gone though it neither failed nor was replaced.
fn forgetful(damaged: Option<&str>) -> Scene {
    let key = Scene::key(0, 1);
    let mut scene = Scene::new("set");
    scene.at(1.5).add(&key, 1, "n1").at(2.0).kill("n1");
    if let Some(node) = damaged {
        voids(&mut scene, node, &["acknowledged-writes"]);
    }
    scene.at(2.2).restart("n1").forgets("n1", &key, 1);
    scene
}

#[test]
fn a_write_that_a_damaged_file_lost_is_classified_so_and_without_the_damage_unexplained() {
    let verdict = judge(&forgetful(Some("n1")).at(6.0).finish());
    let lost = &verdict.checks.lost_writes;
    assert_eq!(lost.by_class.get("outside-model"), Some(&1), "{lost:#?}");
    assert_ne!(verdict.exit_code, 1, "{}", verdict.reason);
    for elsewhere in [None, Some("n3")] {
        let verdict = judge(&forgetful(elsewhere).at(6.0).finish());
        assert_eq!(verdict.checks.lost_writes.by_class["unexplained"], 1);
        assert_eq!(verdict.exit_code, 1, "{}", verdict.reason);
    }
}

/// n1 is cut off and claims on for longer than it may.
fn claims_on(clock: bool) -> Scene {
    let mut scene = Scene::new("set");
    scene.at(1.5).fault("clock-jump", Vec::new());
    if clock {
        voids(&mut scene, "n1", &["split-brain-bound"]);
    }
    scene.at(2.0).isolate("n1").at(3.0).add(&Scene::key(1, 1), 1, "n2").at(4.5).promote("n4");
    scene.at(6.5).fails("n1").at(8.0).heal("n1").learns("n1").at(9.0);
    scene
}

#[test]
fn an_old_master_whose_clock_errs_may_claim_on() {
    let verdict = judge(&claims_on(true).finish());
    assert!(verdict.checks.split_brain.lasting.is_empty() && verdict.exit_code != 1, "{}", verdict.reason);
    assert_eq!(judge(&claims_on(false).finish()).exit_code, 1);
}

#[test]
fn what_a_run_reached_is_told_by_role_and_phase_and_may_be_required() {
    let story = |require: &[&str]| {
        let mut scene = Scene::new("set");
        scene.info.require = require.iter().map(|it| (*it).to_owned()).collect();
        scene.at(1.5).add(&Scene::key(1, 1), 1, "n2").at(2.0).kill("n1");
        scene.at(3.0).add(&Scene::key(1, 1), 2, "n2").at(4.5).promote("n4").at(4.8).pause("n4");
        scene.at(5.2).resume("n4").at(5.5).kill("n6").at(6.0);
        judge(&scene.finish())
    };
    let verdict = story(&[]);
    let told: Vec<String> = verdict
        .coverage
        .iter()
        .map(|cell| format!("{} {} {} {}", cell.count, cell.fault, cell.role, cell.phase))
        .collect();
    assert!(told.contains(&"1 kill master steady".to_owned()), "{told:?}");
    assert!(told.contains(&"1 pause new-master promotion".to_owned()), "{told:?}");
    assert_eq!(
        story(&["kill on master", "1 failovers", "pause in promotion", "2 kill"]).exit_code,
        0,
        "{}",
        verdict.reason
    );
    let missed = story(&["2 kill on master"]);
    assert_eq!(missed.exit_code, 2);
    assert!(
        missed.reason.contains("vacuous: 2 kill on master were required, and 1 happened"),
        "{}",
        missed.reason
    );
}

#[test]
fn a_requirement_says_what_is_possible() {
    let error = |text: &str| text.parse::<Requirement>().unwrap_err();
    assert!(error("kill on boss").contains("voter"));
    assert!(error("kill in autumn").contains("migration"));
    assert!(error("2").contains("nothing is named"));
    assert_eq!(
        "3 pause on voter in election".parse::<Requirement>().unwrap().to_string(),
        "3 pause on voter in election"
    );
    assert_eq!("failover".parse::<Requirement>().unwrap().to_string(), "1 failovers");
}
