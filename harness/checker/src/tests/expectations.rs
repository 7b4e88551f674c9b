//! The table of expectations, row by row; vacuity; the order of exit codes.

use crate::record::verdict::{Validity, Verdict};
use crate::record::*;
use crate::scene::{Held, Scene};
use crate::{JudgeOptions, judge, judge_with};

/// A write that only n1 had when it was killed.
fn with_a_w1_loss(expect: Expect) -> Scene {
    let mut scene = Scene::new("set");
    scene.info.expect = expect;
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").waited(1, 1).hold("n1", Held::Read).add(&key, 2, "n1").waited(0, 1);
    scene.at(2.0).kill("n1").add(&Scene::key(1, 1), 3, "n2").at(5.0).promote("n4").at(6.0);
    scene
}

#[test]
fn a_loss_inside_a_window_is_invalid_under_strict_only() {
    for (expect, exit_code) in [(Expect::Redis, 0), (Expect::Wait, 0), (Expect::Strict, 1)] {
        let verdict = judge(&with_a_w1_loss(expect).finish());
        assert_eq!(verdict.exit_code, exit_code, "{expect:?}: {}", verdict.reason);
        assert_eq!(verdict.checks.lost_writes.by_class["W1"], 1);
    }
}

/// WAIT said that the only replica had it, and still it is beyond the offset of its promotion.
fn with_a_protected_loss() -> Scene {
    let mut scene = Scene::new("set");
    scene.info.expect = Expect::Wait;
    let key = Scene::key(0, 1);
    scene.at(1.5).hold("n1", Held::Read).add(&key, 2, "n1").waited(1, 1).at(2.0).kill("n1");
    scene.add(&Scene::key(1, 1), 3, "n2");
    scene
}

#[test]
fn a_protected_write_must_survive() {
    let verdict = judge(&with_a_protected_loss().at(5.0).promote("n4").at(6.0).finish());
    let lost = &verdict.checks.lost_writes;
    assert_eq!((lost.protected, lost.protected_lost, verdict.exit_code), (1, 1, 1), "{}", verdict.reason);
}

#[test]
fn protection_ends_when_the_storm_forces_a_failover() {
    let mut scene = with_a_protected_loss();
    let verdict =
        judge(&scene.at(4.0).manual("n4", FailoverMode::Force).at(4.5).promote("n4").at(6.0).finish());
    assert_eq!((verdict.checks.lost_writes.protected_lost, verdict.exit_code), (0, 0), "{}", verdict.reason);
}

/// As in storm 76477: what protects a write is the shard that took it, whoever had its slot at the beginning.
#[test]
fn protection_ends_when_the_storm_empties_a_copy_in_the_shard_that_answered() {
    let protected_lost = |emptied: &str| {
        let mut scene = Scene::new("set");
        scene.info.expect = Expect::Wait;
        let key = Scene::key(0, 1);
        scene.at(1.5).asks("n2", "CLUSTER BUMPEPOCH").claims("n2", &key).at(2.0).hold("n2", Held::Read);
        scene.add(&key, 1, "n2").waited(1, 1).add(&Scene::key(2, 1), 2, "n3").kill(emptied).wipe(emptied);
        scene.at(2.5).restart(emptied).at(3.0).kill("n2").at(6.0).promote("n5").at(7.0);
        judge(&scene.finish()).checks.lost_writes.protected_lost
    };
    assert_eq!((protected_lost("n5"), protected_lost("n4")), (0, 1));
}

#[test]
fn w2_names_copies_that_were_too_few() {
    let mut scene = Scene::new("set");
    scene.info.expect = Expect::Wait;
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").waited(1, 1).hold("n1", Held::Read).add(&key, 2, "n1").waited(1, 2);
    let verdict = judge(&scene.at(2.0).kill("n1").at(5.0).promote("n4").at(6.0).finish());
    assert_eq!(verdict.checks.lost_writes.losses[0].windows, vec!["W1", "W2"]);
}

#[test]
fn without_any_protected_write_wait_is_unknown() {
    let mut scene = Scene::new("set");
    scene.info.expect = Expect::Wait;
    scene.at(1.5).add(&Scene::key(0, 1), 1, "n1").waited(0, 1).kill("n5").add(&Scene::key(1, 1), 2, "n2");
    assert_eq!(judge(&scene.at(2.0).finish()).exit_code, 2);
}

/// Acknowledged writes during a fault on n5, and nothing else.
fn harmless() -> Scene {
    let mut scene = Scene::new("set");
    scene.at(1.5).kill("n5").add(&Scene::key(0, 1), 1, "n1").at(2.0).restart("n5");
    scene
}

#[test]
fn a_crash_is_invalid_and_a_kill_is_not() {
    assert_eq!(judge(&harmless().finish()).exit_code, 0);
    let verdict = judge(&harmless().at(3.0).exits("n2").at(3.5).finish());
    assert_eq!((verdict.checks.invariants.crashes, verdict.exit_code), (1, 1), "{}", verdict.reason);
}

fn views_of<'a>(scene: &'a mut Scene, node: &'a str) -> impl Iterator<Item = &'a mut Seen> {
    scene.views.iter_mut().filter(move |view| view.node == node).filter_map(|view| view.seen.as_mut())
}

#[test]
fn a_current_epoch_that_goes_back_is_a_broken_invariant() {
    let mut scene = harmless();
    scene.at(3.0).end_storm().final_reads();
    views_of(&mut scene, "n2").nth(20).unwrap().current_epoch = 9;
    let verdict = judge(&scene.record());
    assert_eq!(verdict.exit_code, 1);
    assert_eq!(verdict.checks.invariants.violations[0].what, "current-epoch-never-goes-back");
}

#[test]
fn an_owners_epoch_that_goes_back_is_a_broken_invariant() {
    let mut scene = harmless();
    scene.at(3.0).end_storm().final_reads();
    views_of(&mut scene, "n2").nth(20).unwrap().table[0].epoch = 9;
    let verdict = judge(&scene.record());
    assert_eq!(
        verdict.checks.invariants.violations[0].what, "owner-epoch-never-goes-back",
        "{}",
        verdict.reason
    );
}

/// An operator moves a slot, and half a second after n2 can be reached again (or could all the time) an owner's epoch goes back in its table.
fn goes_back_after_a_move(cut: bool) -> Verdict {
    let mut scene = harmless();
    scene.at(2.1);
    if cut {
        scene.isolate("n2");
    }
    scene.at(2.5).asks("n1", "CLUSTER SETSLOT 7 NODE n3").at(3.5);
    if cut {
        scene.heal("n2");
    }
    scene.at(5.5).end_storm().final_reads();
    let seen = views_of(&mut scene, "n2").nth(39).unwrap();
    seen.table[0].epoch = 9;
    judge(&scene.record())
}

#[test]
fn an_owners_epoch_may_go_back_where_words_about_moved_slots_come_late_and_in_another_order() {
    let verdict = goes_back_after_a_move(true);
    assert!(verdict.checks.invariants.violations.is_empty(), "{}", verdict.reason);
    assert_eq!(goes_back_after_a_move(false).exit_code, 1);
}

/// As in storm 83577: n3 imported a slot of n1 under its old epoch, n1 took a new one for something else, and n2 hears n3 last.
#[test]
fn an_owners_epoch_may_go_back_where_the_slot_was_imported() {
    let broken = |imported: bool| {
        let mut scene = harmless();
        scene.at(5.0).end_storm().final_reads();
        for seen in views_of(&mut scene, "n3").take(20).filter(|_| imported) {
            seen.open_slots = vec![5460];
        }
        for (number, seen) in views_of(&mut scene, "n2").enumerate().skip(20) {
            seen.table[0].epoch = 9;
            if number > 30 {
                seen.table[0].slots = vec![(0, 5459)];
                seen.table[2].slots.insert(0, (5460, 5460));
            }
        }
        let violations = judge(&scene.record()).checks.invariants.violations;
        violations.iter().any(|it| it.what == "owner-epoch-never-goes-back")
    };
    assert_eq!((broken(true), broken(false)), (false, true));
}

#[test]
fn epochs_that_a_restart_forgets_are_a_broken_invariant() {
    let mut scene = harmless();
    scene.at(3.0).end_storm().final_reads();
    for seen in views_of(&mut scene, "n5").filter(|seen| seen.run_id.ends_with("-2")) {
        seen.current_epoch = 1;
    }
    let verdict = judge(&scene.record());
    assert_eq!(
        verdict.checks.invariants.violations[0].what, "epochs-survive-a-restart",
        "{}",
        verdict.reason
    );
}

#[test]
fn a_promotion_with_a_used_epoch_is_a_broken_invariant_unless_takeover_voids_it() {
    let story = |takeover: bool| {
        let mut scene = harmless();
        scene.at(3.0).kill("n1").at(6.0).promote_with("n4", 5).at(7.0).kill("n2").at(10.0);
        if takeover {
            scene.manual("n5", FailoverMode::Takeover);
        }
        judge(&scene.promote_with("n5", 5).at(11.0).finish())
    };
    let (reused, minted) = (story(false), story(true));
    assert_eq!(reused.checks.invariants.violations[0].what, "promotion-epoch-is-new", "{}", reused.reason);
    assert_eq!((minted.checks.invariants.outside_model.len(), minted.exit_code), (1, 0), "{}", minted.reason);
}

#[test]
fn a_master_that_takes_slots_of_others_breaks_an_invariant() {
    let mut scene = harmless();
    scene.at(3.0).end_storm().final_reads();
    views_of(&mut scene, "n2").skip(20).for_each(|seen| seen.slots = vec![(5000, 10922)]);
    let verdict = judge(&scene.record());
    let what: Vec<&str> = verdict.checks.invariants.violations.iter().map(|f| f.what.as_str()).collect();
    assert!(what.contains(&"only-a-replica-takes-over"), "{what:?}");
}

/// Open slots are closed before the final reads; that is recorded once it is done.
#[test]
fn a_fix_moves_slots_before_it_is_recorded() {
    let mut scene = harmless();
    let work = Action::Work { what: "slots stood open".into(), outcome: Some("33 closed".into()) };
    let step =
        FaultStep { name: "fix".into(), phase: FaultPhase::End, actions: vec![work], ..FaultStep::default() };
    scene.at(3.0).event(Kind::Info, Process::Other(Speaker::Nemesis), Body::Fault(step));
    scene.end_storm().final_reads();
    views_of(&mut scene, "n2").skip(25).for_each(|seen| seen.slots = vec![(5000, 10922)]);
    let violations = judge(&scene.record()).checks.invariants.violations;
    assert!(violations.iter().all(|found| found.what != "only-a-replica-takes-over"), "{violations:?}");
}

#[test]
fn no_convergence_is_invalid_once_the_bound_has_passed() {
    let story = |bound: f64| {
        let mut scene = harmless();
        scene.info.converge_bound_s = bound;
        scene.at(3.0).end_storm();
        views_of(&mut scene, "n3").skip(25).for_each(|seen| seen.ok = false);
        judge(&scene.final_reads().record())
    };
    let (waited, not_waited) = (story(0.5), story(30.0));
    assert_eq!(
        (waited.exit_code, waited.checks.convergence.valid),
        (1, Validity::Invalid),
        "{}",
        waited.reason
    );
    assert_eq!((not_waited.exit_code, not_waited.checks.convergence.valid), (2, Validity::Unknown));
}

#[test]
fn a_replica_that_differs_at_equal_offset_is_invalid_and_one_that_is_behind_unknown() {
    let story = |change: fn(&mut ReplicaCompare)| {
        let mut scene = harmless();
        scene.at(3.0).end_storm().final_reads();
        for event in &mut scene.events {
            if let Body::ReplicaCompare(compare) = &mut event.body {
                change(compare);
            }
        }
        judge(&scene.record())
    };
    assert_eq!(story(|compare| compare.differing = 1).exit_code, 1);
    assert_eq!(story(|compare| compare.replica_offset = 1).exit_code, 2);
    assert_eq!(story(|compare| compare.error = Some("timeout".into())).exit_code, 2);
}

#[test]
fn availability_is_judged_against_stated_limits_only() {
    let story = |max_outage_s: Option<f64>, min_availability_pct: Option<f64>| {
        let mut scene = Scene::new("set");
        (scene.info.max_outage_s, scene.info.min_availability_pct) = (max_outage_s, min_availability_pct);
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(2.0).kill("n1").write(&key, 2, "n1", Kind::Fail, false);
        scene.at(5.0).promote("n4").add(&key, 3, "n4").at(8.0);
        judge(&scene.finish())
    };
    let free = story(None, None);
    let outage = free.checks.availability.longest_outage_s;
    assert!((2.9..3.1).contains(&outage), "{outage}");
    assert_eq!((free.exit_code, free.checks.availability.recoveries.len()), (0, 1), "{}", free.reason);
    let took = free.checks.availability.recoveries[0].took_s.unwrap();
    assert!((2.9..3.1).contains(&took), "{took}");
    assert_eq!((story(Some(2.0), None).exit_code, story(Some(4.0), None).exit_code), (1, 0));
    assert_eq!((story(None, Some(99.0)).exit_code, story(None, Some(50.0)).exit_code), (1, 0));
}

#[test]
fn a_run_without_effective_faults_is_vacuous_and_a_calm_one_is_not() {
    let mut scene = Scene::new("set");
    scene.at(1.5).add(&Scene::key(0, 1), 1, "n1").at(2.0);
    scene.end_storm().final_reads();
    assert_eq!(judge(&scene.record()).exit_code, 2);
    scene.info.faults_planned = Some(0);
    assert_eq!(judge(&scene.record()).exit_code, 0);
}

#[test]
fn faults_that_touched_nothing_are_listed_and_do_not_count() {
    let mut scene = harmless();
    for event in &mut scene.events {
        if let Body::Fault(step) = &mut event.body {
            step.vacuous = Some("nothing to kill".into());
        }
    }
    let verdict = judge(&scene.finish());
    assert_eq!((verdict.exit_code, verdict.vacuous_faults.len()), (2, 2), "{}", verdict.reason);
}

#[test]
fn nothing_acknowledged_during_any_fault_is_vacuous() {
    let mut scene = Scene::new("set");
    scene.at(0.5 + 1.0).add(&Scene::key(0, 1), 1, "n1").at(2.0).kill("n5").at(3.0);
    assert_eq!(judge(&scene.finish()).exit_code, 2);
}

/// CLUSTER FORGET bans a node for 60 s from what gossip brings.
#[test]
fn a_forgotten_node_has_until_the_end_of_its_ban_to_be_known_again() {
    let verdict = |waited_s: f64| {
        let mut scene = harmless();
        let command = "CLUSTER FORGET of-n4".to_owned();
        scene.fault("forget", vec![Action::Asked { node: "n3".into(), command, answer: "OK".into() }]);
        let (told, until) = (scene.seconds(), scene.seconds() + waited_s);
        scene.end_storm().at(until).final_reads();
        for view in scene.views.iter_mut().filter(|view| view.node == "n3") {
            let forgot = view.sent as f64 > told * 1e9;
            view.seen
                .iter_mut()
                .filter(|_| forgot)
                .for_each(|seen| seen.table.retain(|row| row.node != "n4"));
        }
        judge(&scene.record())
    };
    let banned = verdict(45.0).checks.convergence;
    assert_eq!(banned.valid, Validity::Unknown);
    assert!(banned.reason.contains("bans it for 60 s"), "{}", banned.reason);
    assert_eq!(verdict(100.0).checks.convergence.valid, Validity::Invalid);
}

/// A command and its end, and a write so much later.
fn written_after_a_command(after_s: f64) -> Verdict {
    let mut scene = Scene::new("set");
    let end =
        FaultStep { fault: Some(0), name: "command".into(), phase: FaultPhase::End, ..FaultStep::default() };
    scene.at(1.5).add(&Scene::key(0, 1), 1, "n1").at(2.0).asks("n1", "CLUSTER BUMPEPOCH");
    scene.event(Kind::Info, Process::Other(Speaker::Nemesis), Body::Fault(end));
    scene.at(2.0 + after_s).add(&Scene::key(0, 1), 2, "n1").at(8.0);
    judge(&scene.finish())
}

#[test]
fn what_a_command_sets_off_goes_on_after_it() {
    assert_eq!(written_after_a_command(1.5).exit_code, 0);
    assert_eq!(written_after_a_command(4.0).exit_code, 2, "nothing was acknowledged within a node timeout");
}

#[test]
fn a_required_failover_that_did_not_happen_is_vacuous() {
    let options = JudgeOptions { required_failovers: 1, ..JudgeOptions::default() };
    assert_eq!(judge_with(&harmless().finish(), &options).exit_code, 2);
    assert_eq!(judge_with(&with_a_w1_loss(Expect::Redis).finish(), &JudgeOptions::default()).failovers, 1);
}

#[test]
fn exit_codes_rank_one_three_two_zero() {
    let broken =
        JudgeOptions { harness_error: Some("disk full".into()), interrupted: true, ..Default::default() };
    let stopped = JudgeOptions { interrupted: true, ..Default::default() };
    let code = |scene: &mut Scene, options: &JudgeOptions| judge_with(&scene.finish(), options).exit_code;
    assert_eq!(code(&mut with_a_w1_loss(Expect::Strict), &broken), 1);
    assert_eq!(code(&mut harmless(), &broken), 3);
    assert_eq!(code(&mut harmless(), &stopped), 2);
    assert_eq!(code(&mut harmless(), &JudgeOptions::default()), 0);
}

#[test]
fn a_record_that_ends_in_the_storm_is_unknown_at_best() {
    let verdict: Verdict = judge(&harmless().record());
    assert_eq!((verdict.exit_code, verdict.valid), (2, Validity::Unknown), "{}", verdict.reason);
}

#[test]
fn an_empty_record_is_unknown_and_does_not_panic() {
    assert_eq!(judge(&RecordBuilder::new(RunInfo::default()).finish()).exit_code, 2);
}
