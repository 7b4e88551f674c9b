//! Two masters: seen, allowed for a while, and lasting.

use crate::judge;
use crate::record::verdict::Validity;
use crate::record::{BusFrame, BusLine, BusWhat, Expect, Nanos, View};
use crate::scene::{Held, Scene};
use crate::slots::{self, slot_of};
use crate::timeline::SECOND;

/// n1 is cut off at 2 s and n4 takes over at 4.5 s; n1 claims on until `until`.
fn cut_off(until: f64) -> Scene {
    let mut scene = Scene::new("set");
    scene
        .at(2.0)
        .isolate("n1")
        .at(3.0)
        .add(&Scene::key(1, 1), 1, "n2")
        .at(4.5)
        .promote("n4")
        .at(until)
        .fails("n1");
    scene
}

#[test]
fn two_claims_within_the_bound_are_counted_only() {
    let mut scene = cut_off(5.1);
    let verdict = judge(&scene.at(8.0).heal("n1").learns("n1").at(9.0).finish());
    let brain = &verdict.checks.split_brain;
    assert_eq!((brain.two_claims.len(), brain.lasting.len(), verdict.exit_code), (1, 0, 0), "{brain:#?}");
    let claims = &brain.two_claims[0];
    assert_eq!(claims.nodes, ("n1".to_owned(), "n4".to_owned()));
    assert_eq!((claims.epochs, claims.window.as_str()), ((1, 4), "W3"));
}

#[test]
fn a_claim_later_than_the_bound_lasts() {
    let mut scene = cut_off(6.5);
    let verdict = judge(&scene.at(8.0).heal("n1").learns("n1").at(9.0).finish());
    assert_eq!((verdict.checks.split_brain.lasting.len(), verdict.exit_code), (1, 1), "{}", verdict.reason);
}

#[test]
fn an_epoch_that_was_bumped_behind_a_cut_is_heard_when_the_cut_is_healed() {
    let lasting = |bumped: bool| {
        let mut scene = cut_off(6.5);
        for view in scene.views.iter_mut().filter(|view| view.node == "n1" && view.sent >= 4 * SECOND) {
            if let Some(seen) = view.seen.as_mut().filter(|_| bumped) {
                seen.epoch = 9;
            }
        }
        judge(&scene.at(8.0).heal("n1").learns("n1").at(9.0).finish()).checks.split_brain.lasting.len()
    };
    assert_eq!((lasting(true), lasting(false)), (0, 1));
}

#[test]
fn a_stall_of_the_host_widens_what_a_claim_may_last() {
    let mut scene = cut_off(6.5);
    scene.stall(1600);
    let verdict = judge(&scene.at(8.0).heal("n1").learns("n1").at(9.0).finish());
    assert_eq!(verdict.exit_code, 0, "{}", verdict.reason);
}

#[test]
fn a_paused_master_makes_no_claim() {
    let mut scene = Scene::new("set");
    scene.at(2.0).pause("n1").at(5.0).promote("n4").at(8.0).resume("n1").learns("n1");
    let verdict = judge(&scene.at(9.0).finish());
    assert!(verdict.checks.split_brain.two_claims.is_empty());
}

#[test]
fn missing_polls_prove_nothing() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").at(2.0).isolate("n1").at(4.5).promote("n4").at(4.7);
    scene.polls = false;
    scene.at(9.0).fails("n1");
    scene.polls = true;
    let verdict = judge(&scene.at(10.0).heal("n1").learns("n1").at(11.0).finish());
    assert!(verdict.checks.split_brain.lasting.is_empty(), "{:#?}", verdict.checks.split_brain);
}

#[test]
fn two_writers_within_the_bound_are_invalid_only_under_strict() {
    for (expect, exit_code) in [(Expect::Redis, 0), (Expect::Strict, 1)] {
        let mut scene = Scene::new("set");
        scene.info.expect = expect;
        let key = Scene::key(0, 1);
        scene.at(2.0).isolate("n1").at(4.5).promote("n4").at(4.7).add(&key, 1, "n4").add(&key, 2, "n1");
        // n4 holds n1's write, so that this is not about a loss.
        scene.remembers("n4", &key, 2).at(5.0).fails("n1").at(8.0).heal("n1").learns("n1").at(9.0);
        let verdict = judge(&scene.finish());
        let brain = &verdict.checks.split_brain;
        assert_eq!(
            (brain.two_writers.len(), verdict.exit_code),
            (1, exit_code),
            "{} {brain:#?}",
            verdict.reason
        );
        assert_eq!(brain.two_writers[0].writes, 1);
    }
}

#[test]
fn two_interleaved_writers_without_a_window_are_caught() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(2.0).kill("n1").at(5.0).promote("n4").at(6.0).restart("n1").learns("n1").at(12.0);
    for value in 0..10 {
        scene.add(&key, 2 * value, "n4").add(&key, 2 * value + 1, "n4");
    }
    scene.at(13.0).end_storm().final_reads();
    assert_eq!(judge(&scene.record()).exit_code, 0);
    // Every other write was acknowledged by the old master instead.
    for event in &mut scene.events {
        if let crate::record::Body::Add(op) = &mut event.body
            && op.value.is_some_and(|value| value % 2 == 1)
            && op.node.is_some()
        {
            op.node = Some("n1".into());
        }
    }
    let verdict = judge(&scene.record());
    assert_eq!(verdict.exit_code, 1, "{}", verdict.reason);
    assert_eq!(verdict.checks.split_brain.lasting[0].writes, 10);
}

/// As in storm 79021: what n1 wrote just before it was killed is not of the epoch with which it comes back.
#[test]
fn a_master_that_comes_back_with_an_old_epoch_did_not_write_with_it_before() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(2.0).kill("n1").at(5.0).promote("n4").at(6.0).restart("n1").learns("n1").at(6.5);
    scene
        .add(&key, 1, "n4")
        .at(7.0)
        .kill("n4")
        .at(10.0)
        .promote("n1")
        .at(12.05)
        .add(&key, 2, "n1")
        .kill("n1");
    scene.at(12.5).restart("n1").at(13.0);
    let back = |view: &&mut View| view.node == "n1" && view.sent >= 12 * SECOND + SECOND / 2;
    for seen in scene.views.iter_mut().filter(back).filter_map(|view| view.seen.as_mut()) {
        seen.epoch = 1;
    }
    let brain = judge(&scene.finish()).checks.split_brain;
    assert!(brain.two_writers.is_empty(), "{brain:#?}");
}

#[test]
fn writers_that_only_overlap_in_time_are_no_two_writers() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene
        .at(2.0)
        .add(&key, 1, "n1")
        .hold("n1", Held::Unread)
        .kill("n1")
        .at(5.0)
        .promote("n4")
        .add(&key, 2, "n4");
    assert!(judge(&scene.at(6.0).finish()).checks.split_brain.two_writers.is_empty());
}

/// A reshard moves slots one batch after the other: each batch has two owners for a moment, and none has them for long.
#[test]
fn slots_that_change_hands_in_batches_are_overlaps_of_their_own() {
    // Ten slots every 0.3 s; n1 lets go 0.15 s after n2 has them.
    let moved = |let_go_of_the_last: bool| {
        let mut scene = Scene::new("set");
        scene.at(8.0);
        let nanos = |seconds: f64| (seconds * SECOND as f64) as Nanos;
        for view in &mut scene.views {
            let sent = view.sent;
            let Some(seen) = &mut view.seen else { continue };
            let batches = |late: f64| {
                let taken =
                    (0..8_u16).filter(move |&batch| sent >= nanos(2.0 + 0.3 * f64::from(batch) + late));
                taken.map(|batch| (batch * 10, batch * 10 + 9)).collect::<Vec<_>>()
            };
            if view.node == "n2" && !batches(0.0).is_empty() {
                seen.epoch = 5;
                seen.slots = [batches(0.0), seen.slots.clone()].concat();
            } else if view.node == "n1" {
                let mut gone = batches(0.15);
                if !let_go_of_the_last {
                    gone.retain(|&(first, _)| first < 70);
                }
                seen.slots = slots::without(&seen.slots, &gone);
            }
        }
        judge(&scene.finish()).checks.split_brain
    };
    let brain = moved(true);
    assert!(brain.two_claims.len() > 1 && brain.lasting.is_empty(), "{brain:#?}");
    assert!(brain.two_claims.iter().all(|overlap| overlap.slots.len() == 1), "{brain:#?}");
    let brain = moved(false);
    assert_eq!(brain.lasting.len(), 1, "{brain:#?}");
    assert_eq!(brain.lasting[0].slots, [(70, 79)]);
}

/// n2 takes one slot of n1, whose answers still name it for `still` seconds.
fn handed_over(still: f64, on_the_move: bool) -> Scene {
    handed_over_by("CLUSTER BUMPEPOCH", still, on_the_move)
}

fn handed_over_by(command: &str, still: f64, on_the_move: bool) -> Scene {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(2.0).add(&key, 1, "n1").kill("n6").at(3.0).asks("n2", command).claims("n2", &key).at(6.0);
    let (from, to) = (3 * SECOND, 3 * SECOND + (still * SECOND as f64) as Nanos);
    let of_n1 = scene.views.iter_mut().filter(|view| view.node == "n1" && (from..to).contains(&view.sent));
    for seen in of_n1.filter_map(|view| view.seen.as_mut()) {
        seen.epoch = 1;
        seen.slots = vec![(0, 5460)];
        seen.open_slots.extend(on_the_move.then_some(slot_of(key.as_bytes())));
    }
    scene
}

#[test]
fn a_slot_on_the_move_is_claimed_by_both_ends_until_the_source_is_told() {
    let verdict = judge(&handed_over(1.0, true).finish());
    let split = &verdict.checks.split_brain;
    assert_eq!((split.valid, split.two_claims.len()), (Validity::Valid, 0), "{:?}", split.two_claims);
    let not_moving = judge(&handed_over(2.0, false).finish());
    assert_eq!(not_moving.checks.split_brain.lasting.len(), 1, "{:?}", not_moving.checks.split_brain);
}

/// Nobody broadcasts it: the old owner is told by the next ping, after half the node timeout (1 s here) at the latest.
#[test]
fn a_slot_that_an_operator_gave_its_new_owner_alone_is_told_by_pings() {
    let brain = |still| {
        let slot = slot_of(Scene::key(0, 1).as_bytes());
        let scene = &mut handed_over_by(&format!("CLUSTER SETSLOT {slot} NODE x"), still, false);
        judge(&scene.finish()).checks.split_brain
    };
    let heard = brain(1.0);
    assert_eq!((heard.lasting.len(), heard.two_claims.len()), (0, 1), "{heard:#?}");
    assert_eq!(heard.two_claims[0].window, "W13");
    assert_eq!(brain(2.0).lasting.len(), 1);
}

/// The old owner is told when the two next speak, and what others say of them puts that off.
#[test]
fn two_that_did_not_speak_to_each_other_cannot_know_better() {
    let lasting = |told: f64, still: f64| {
        let slot = slot_of(Scene::key(0, 1).as_bytes());
        let mut record = handed_over_by(&format!("CLUSTER SETSLOT {slot} NODE x"), still, false).finish();
        let frame = BusFrame { kind: "ping".into(), slots: Some(vec![(slot, slot)]), ..BusFrame::default() };
        let (time, what) = ((told * SECOND as f64) as Nanos, BusWhat::Frame(Box::new(frame)));
        record.bus = Some(vec![BusLine { time, from: "n2".into(), to: "n1".into(), conn: 1, what }]);
        judge(&record).checks.split_brain.lasting.len()
    };
    assert_eq!((lasting(3.1, 2.0), lasting(5.2, 2.4), lasting(5.2, 2.9)), (1, 0, 1));
}
