//! The windows of slots that change hands, each both ways: W10 (a claim), W11 (a failover tears an open slot), W12 (a key is lost
//! on its way).

use super::losses::only_loss;
use crate::judge;
use crate::record::verdict::{Loss, Verdict};
use crate::record::{Action, Body, Expect, FailoverMode, Nanos, Record, StreamWhat, View};
use crate::scene::{Held, Scene};
use crate::slots::slot_of;
use crate::timeline::SECOND;

/// Slots are carried; with an outcome: that has ended.
fn work(outcome: Option<&str>) -> Vec<Action> {
    vec![Action::Work { what: "slots go".into(), outcome: outcome.map(str::to_owned) }]
}

/// n1 gives a key to n2, which dies before n5 has heard of it.
fn lost_on_the_way(held: Held) -> (Scene, String) {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").at(1.9).hold("n2", held).migrate(&key, "n1", "n2");
    scene.at(2.0).kill("n2").at(3.0).add(&Scene::key(2, 1), 2, "n3").at(5.0).promote("n5").at(6.0);
    (scene, key)
}

#[test]
fn w12_by_offset_when_the_tap_read_the_restore_and_the_replica_did_not_get_it() {
    let (mut scene, _) = lost_on_the_way(Held::Read);
    let (verdict, loss) = only_loss(&scene.finish());
    assert_eq!(
        (loss.class.as_str(), loss.element, verdict.exit_code),
        ("W12", 1, 0),
        "{} {}",
        loss.proof,
        verdict.reason
    );
    assert!(loss.proof.contains("offset 1100, the promotion was at 1000"), "{}", loss.proof);
}

#[test]
fn w12_by_absence_when_the_restore_never_passed() {
    let (mut scene, _) = lost_on_the_way(Held::Unread);
    let (verdict, loss) = only_loss(&scene.finish());
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("W12", 0), "{}", loss.proof);
    assert!(loss.proof.contains("never passed on the link"), "{}", loss.proof);
}

#[test]
fn w12_of_a_key_that_left_the_heir_of_the_one_that_wrote_it() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene
        .at(1.5)
        .add(&key, 1, "n1")
        .at(2.0)
        .kill("n1")
        .add(&Scene::key(2, 1), 2, "n3")
        .at(4.5)
        .promote("n4")
        .at(5.0)
        .restart("n1")
        .learns("n1");
    scene.at(6.0).hold("n2", Held::Unread).migrate(&key, "n4", "n2").at(6.1).kill("n2").at(9.0).promote("n5");
    let (verdict, loss) = only_loss(&scene.at(10.0).finish());
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("W12", 0), "{} {}", loss.proof, verdict.reason);
}

/// No poll fell between the key's leaving and the death of its target; the source is asked right after it.
#[test]
fn w12_told_by_the_source_after_the_key_had_left() {
    let class = |until_s: f64| {
        let (mut scene, _) = lost_on_the_way(Held::Unread);
        let left = 19 * SECOND / 10;
        let told = left + (until_s * SECOND as f64) as Nanos;
        scene.views.retain(|view| view.node != "n1" || view.sent < left - SECOND || view.sent > told);
        scene.views.retain(|view| view.node != "n2" || view.sent < left - SECOND);
        only_loss(&scene.finish()).1.class
    };
    assert_eq!((class(0.3).as_str(), class(1.5).as_str()), ("W12", "unexplained"));
}

#[test]
fn w12_of_a_source_without_a_replica_whose_stream_would_show_the_key_go() {
    for (carries, class) in [(true, "W12"), (false, "unexplained")] {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.2).kill("n4").at(1.5).add(&key, 1, "n1").at(1.8);
        let name = if carries { "reshard" } else { "burst" };
        scene.fault(name, work(None)).hold("n2", Held::Read).migrate(&key, "n1", "n2").at(2.0);
        scene.fault(name, work(Some("1 of 1 slots"))).kill("n2").at(5.0).promote("n5").at(6.0);
        let (_, loss) = only_loss(&scene.finish());
        assert_eq!(loss.class, class, "{}", loss.proof);
    }
}

/// n2 stands still and n5 is promoted over it; the key that n1 sent it meanwhile it takes before (or long after) it hears of
/// that, and n1 deletes it.
fn given_to_one_that_was_replaced(heard: bool) -> (Verdict, Loss) {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").at(1.7).pause("n2").at(3.0);
    scene.add(&Scene::key(2, 1), 2, "n3").at(4.0).promote("n5").at(4.2);
    if heard {
        scene.resume("n2").learns("n2").at(6.0);
    }
    scene.migrate(&key, "n1", "n2").resume("n2").learns("n2").forgets_all("n2");
    let end = if heard { 8.0 } else { 6.0 };
    only_loss(&scene.at(end).finish())
}

#[test]
fn w12_when_the_target_took_the_key_after_it_had_been_replaced_and_before_it_heard_of_that() {
    let (verdict, loss) = given_to_one_that_was_replaced(false);
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("W12", 0), "{} {}", loss.proof, verdict.reason);
    let (verdict, loss) = given_to_one_that_was_replaced(true);
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("unexplained", 1), "{}", loss.proof);
}

#[test]
fn a_key_that_the_promoted_target_had_is_not_lost_on_the_way() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").at(1.9).migrate(&key, "n1", "n2").at(2.0).kill("n2");
    scene.at(5.0).promote("n5").at(5.5).forgets("n5", &key, 1);
    let (verdict, loss) = only_loss(&scene.at(6.0).finish());
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("unexplained", 1), "{}", loss.proof);
}

#[test]
fn a_key_that_was_deleted_while_no_target_died_is_unexplained() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").at(1.9).migrate(&key, "n1", "n2").pause("n6").at(4.0).resume("n6");
    let (verdict, loss) = only_loss(&scene.at(6.0).finish());
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("unexplained", 1), "{}", loss.proof);
}

/// n2 takes the slot of n1's key by a claim of its own.
fn taken(tell: impl FnOnce(&mut Scene, u16)) -> Record {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").at(3.0);
    tell(&mut scene, slot_of(key.as_bytes()));
    scene.at(3.1).claims("n2", &key).at(5.0).add(&key, 2, "n2").at(6.0).finish()
}

#[test]
fn w10_a_slot_taken_by_a_claim_that_an_operator_made() {
    let record = taken(|scene, slot| {
        scene.asks("n2", &format!("CLUSTER SETSLOT {slot} NODE {:040x}", 2)).asks("n2", "CLUSTER BUMPEPOCH");
    });
    let (verdict, loss) = only_loss(&record);
    assert_eq!(
        (loss.class.as_str(), loss.element, verdict.exit_code),
        ("W10", 1, 0),
        "{} {}",
        loss.proof,
        verdict.reason
    );
    assert!(loss.proof.contains("to n2, whose claim had the greater epoch 4"), "{}", loss.proof);
}

#[test]
fn w10_a_slot_taken_by_a_node_whose_nodes_conf_was_put_back() {
    let record = taken(|scene, _| {
        let back = Action::Damaged { node: "n2".into(), what: "nodes.conf back from (vars ...)".into() };
        scene.fault("roll-back-config", vec![back]);
    });
    assert_eq!(only_loss(&record).1.class, "W10");
}

#[test]
fn w10_of_a_slot_that_came_back_before_its_master_was_asked_again() {
    let story = |told: bool| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(3.0);
        if told {
            scene.asks("n2", &format!("CLUSTER SETSLOT {} NODE x", slot_of(key.as_bytes())));
        }
        scene.at(3.05).claims("n2", &key).at(3.15).claims("n1", &key).at(5.0).add(&key, 2, "n1");
        let of_n1 = |time: std::ops::Range<u64>| {
            move |view: &&mut View| view.node == "n1" && time.contains(&(view.sent / 1_000_000))
        };
        let before = scene.views.iter_mut().find(of_n1(2900..3000)).and_then(|view| view.seen.clone());
        for view in scene.views.iter_mut().filter(of_n1(3050..3150)) {
            view.seen.clone_from(&before);
        }
        only_loss(&scene.at(6.0).finish()).1.class
    };
    assert_eq!((story(true).as_str(), story(false).as_str()), ("W10", "unexplained"));
}

#[test]
fn w10_of_a_master_that_had_taken_the_slot_over_before() {
    let story = |came_back: bool, told: bool| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(2.0).kill("n1").at(5.0).promote("n4").at(5.5);
        if came_back {
            scene.restart("n1").learns("n1").at(6.0).kill("n4").at(9.0).promote("n1").at(10.0);
        }
        if told {
            scene.asks("n2", "CLUSTER BUMPEPOCH");
        }
        let now = scene.seconds();
        scene.at(now + 0.1).claims("n2", &key).at(now + 2.0).add(&key, 2, "n2").at(now + 3.0);
        only_loss(&scene.finish()).1.class
    };
    for came_back in [false, true] {
        let told = [true, false].map(|told| story(came_back, told));
        assert_eq!(told, ["W10", "unexplained"], "came back: {came_back}");
    }
}

/// n1's epoch was bumped behind a cut, and outdoes that of n4, which took its place meanwhile. Later both swap places twice more.
#[test]
fn w10_of_a_slot_that_came_back_and_whose_winner_was_elected_over_the_loser_much_later() {
    let story = |told: bool| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(2.0).isolate("n1");
        if told {
            scene.asks("n1", "CLUSTER BUMPEPOCH");
        }
        scene.at(3.0).manual("n4", FailoverMode::Takeover).promote("n4").at(5.3).fails("n1");
        scene.at(5.5).add(&key, 1, "n4").at(6.0).heal("n1").promote_with("n1", 9).learns("n1").learns("n4");
        scene.at(7.0).manual("n4", FailoverMode::Plain).promote_with("n4", 10).learns("n1");
        scene.at(8.0).kill("n4").at(11.0).promote_with("n1", 11).at(12.0);
        only_loss(&scene.finish()).1
    };
    let (told, untold) = (story(true), story(false));
    assert_eq!((told.class.as_str(), untold.class.as_str()), ("W10", "unexplained"), "{}", told.proof);
}

#[test]
fn w10_of_a_slot_that_was_carried_to_its_winner_much_later() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").at(3.0).asks("n2", "CLUSTER BUMPEPOCH").claims("n2", &key);
    scene.at(4.0).asks("n1", "CLUSTER BUMPEPOCH").claims("n1", &key).at(5.0).add(&key, 2, "n1");
    scene.at(6.0).migrate(&key, "n1", "n2").claims("n2", &key).at(7.0);
    let (_, loss) = only_loss(&scene.finish());
    assert_eq!((loss.class.as_str(), loss.element), ("W10", 1), "{}", loss.proof);
}

/// n1 has not heard that n4 took its place, imports slots on and gets a greater epoch for one.
#[test]
fn w10_of_a_replaced_master_that_imports_on() {
    let class = |carrying: bool| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        let name = if carrying { "reshard" } else { "burst" };
        scene.at(1.5).fault(name, work(None)).at(2.0).isolate("n1").at(4.5).promote("n4").at(5.3).fails("n1");
        scene.at(5.5).add(&key, 1, "n4").at(6.0).heal("n1").promote_with("n1", 9).learns("n1").learns("n4");
        scene.at(7.0).fault(name, work(Some("1 of 1 slots"))).at(8.0);
        only_loss(&scene.finish()).1.class
    };
    assert_eq!((class(true).as_str(), class(false).as_str()), ("W10", "unexplained"));
}

#[test]
fn a_slot_that_went_over_without_an_operators_word_is_a_bug() {
    for tell in ["BGREWRITEAOF", "CLUSTER SETSLOT 16383 NODE x", "CLUSTER SETSLOT 1 MIGRATING x"] {
        let (verdict, loss) = only_loss(&taken(|scene, _| {
            scene.asks("n2", tell);
        }));
        assert_eq!((loss.class.as_str(), verdict.exit_code), ("unexplained", 1), "{tell}: {}", loss.proof);
    }
}

#[test]
fn an_operators_word_does_not_explain_what_a_plain_failover_lost() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene
        .at(1.5)
        .add(&key, 1, "n1")
        .at(3.0)
        .asks("n4", "CLUSTER BUMPEPOCH")
        .manual("n4", FailoverMode::Plain);
    scene.at(3.5).promote("n4").forgets("n4", &key, 1).learns("n1").at(6.0);
    assert_eq!(only_loss(&scene.finish()).1.class, "unexplained");
}

/// A slot is on its way from n1 to n2 when n1 dies; its replica knows of no move, and both sides take writes.
fn torn(fixed: bool, promoted: bool) -> Record {
    let (mut scene, key) = on_its_way();
    if promoted {
        scene.kill("n1").at(5.0).promote("n4").at(5.5).add(&key, 3, "n4");
    } else {
        scene.kill("n6").at(5.5).add(&key, 3, "n1");
    }
    scene.at(6.0);
    if fixed {
        closed(&mut scene);
    }
    scene.finish()
}

fn on_its_way() -> (Scene, String) {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").at(1.9).migrate(&key, "n1", "n2").add(&key, 2, "n2").at(2.5);
    (scene, key)
}

fn closed(scene: &mut Scene) {
    let work = Action::Work { what: "slots stood open".into(), outcome: Some("1 closed".into()) };
    scene.fault("fix", vec![work]);
}

#[test]
fn w11_what_one_side_has_is_out_of_sight_at_the_other() {
    for promoted in [true, false] {
        let (mut scene, key) = on_its_way();
        scene.kill(if promoted { "n1" } else { "n6" }).at(5.0);
        let owner = if promoted { "n4" } else { "n1" };
        if promoted {
            scene.promote("n4");
        }
        scene.at(5.5).read(&key, owner).at(6.0);
        closed(&mut scene);
        let verdict = judge(&scene.remembers(owner, &key, 1).remembers(owner, &key, 2).finish());
        let stale = &verdict.checks.elements.findings;
        assert!(!stale.is_empty() && stale.iter().all(|it| it.excused == promoted), "{stale:?}");
        assert_eq!(verdict.exit_code == 0, promoted, "{}", verdict.reason);
    }
}

#[test]
fn w11_a_slot_of_which_nobody_knows_any_more_that_it_was_open() {
    let torn = |forgotten: bool| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(1.9).migrate(&key, "n1", "n2").add(&key, 2, "n2").at(2.5);
        scene.kill("n1").at(5.0).promote("n4").at(5.5).add(&key, 3, "n4").at(6.0);
        if forgotten {
            // The mark of the other end goes with it.
            scene.kill("n2").at(8.0).promote("n5").at(8.5);
        }
        scene.finish()
    };
    let verdict = judge(&torn(true));
    let lost = &verdict.checks.lost_writes;
    assert_eq!((lost.by_class["W11"], lost.by_class["unexplained"]), (2, 0), "{:#?}", lost.losses);
    assert!(lost.losses[0].proof.contains("its copy is out of sight"), "{}", lost.losses[0].proof);
    assert_eq!(judge(&torn(false)).checks.lost_writes.by_class["unexplained"], 2);
}

#[test]
fn w11_of_an_owner_that_gave_its_mark_up_when_the_other_side_was_replaced() {
    for replaced in [true, false] {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(1.9).migrate(&key, "n1", "n2").at(2.5);
        if replaced {
            scene.kill("n2").at(5.0).promote("n5");
        }
        scene.at(5.5).add(&key, 3, "n1").at(8.5);
        let of_n1 = scene.views.iter_mut().filter(|view| view.node == "n1" && view.sent > 6_000_000_000);
        for seen in of_n1.filter_map(|view| view.seen.as_mut()) {
            seen.open_slots.clear();
            seen.migrating_to.clear();
        }
        let verdict = judge(&scene.finish());
        let class = if replaced { "W11" } else { "unexplained" };
        assert_eq!(verdict.checks.lost_writes.by_class.get(class), Some(&1), "{}", verdict.reason);
    }
}

#[test]
fn a_key_that_its_source_deleted_and_nobody_got_is_not_torn() {
    // `still`: neither end is asked until long after the key went.
    let story = |came: bool, still: bool| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(1.9).migrate(&key, "n1", "n2").at(2.5).kill("n1");
        scene.at(5.0).promote("n4").at(5.5).add(&key, 3, "n4").at(6.0);
        closed(&mut scene);
        let unasked = 19 * SECOND / 10..4 * SECOND;
        let of_ends = |view: &View| ["n1", "n2"].contains(&view.node.as_str());
        scene.views.retain(|view| !still || !of_ends(view) || !unasked.contains(&view.sent));
        let mut record = scene.finish();
        if !came {
            for line in &mut record.stream {
                if let StreamWhat::Keys { came, .. } = &mut line.what {
                    came.clear();
                }
            }
        }
        judge(&record).checks.lost_writes.by_class.get("W11").copied()
    };
    for still in [false, true] {
        assert_eq!((story(true, still), story(false, still)), (Some(1), None), "{still}");
    }
}

#[test]
fn w11_of_a_slot_whose_other_side_never_told_that_it_had_it_open() {
    let story = |said: bool| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene
            .at(1.5)
            .add(&key, 1, "n1")
            .at(1.9)
            .migrate(&key, "n1", "n2")
            .at(2.5)
            .kill("n2")
            .at(5.0)
            .promote("n5");
        scene.at(5.5).add(&key, 3, "n1").at(8.5).end_storm();
        for view in &mut scene.views {
            let of_source = view.node == "n1";
            let Some(seen) = view.seen.as_mut() else { continue };
            if !of_source || view.sent > 6_000_000_000 {
                seen.open_slots.clear();
                seen.migrating_to.clear();
            } else if !said {
                seen.migrating_to.clear();
            }
        }
        judge(&scene.final_reads().record()).checks.lost_writes.by_class
    };
    assert_eq!(story(true).get("W11"), Some(&1));
    assert_eq!(story(false).get("W11"), None);
}

#[test]
fn w1_at_a_master_that_got_the_slot_from_one_that_was_replaced_before() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).kill("n1").at(4.5).promote("n4").at(6.0).asks("n2", "CLUSTER BUMPEPOCH").claims("n2", &key);
    scene
        .at(8.0)
        .hold("n2", Held::Read)
        .add(&key, 1, "n2")
        .at(8.5)
        .kill("n2")
        .at(12.0)
        .promote("n5")
        .at(14.0);
    let (verdict, loss) = only_loss(&scene.finish());
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("W1", 0), "{}", loss.proof);
}

#[test]
fn w11_of_an_importing_side_that_was_told_to_forget_the_source() {
    let story = |told: Action| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(1.9).migrate(&key, "n1", "n2").at(2.5).kill("n1");
        scene.at(5.0).promote("n4").at(5.5).add(&key, 3, "n4").at(5.8).fault("told", vec![told]).at(8.5);
        let of_n2 = scene.views.iter_mut().filter(|view| view.node == "n2" && view.sent > 6_000_000_000);
        for seen in of_n2.filter_map(|view| view.seen.as_mut()) {
            seen.open_slots.clear();
        }
        judge(&scene.finish()).checks.lost_writes.by_class
    };
    let asked =
        |command: &str| Action::Asked { node: "n2".into(), command: command.into(), answer: "OK".into() };
    assert_eq!(story(asked("CLUSTER FORGET x")).get("W11"), Some(&1));
    let left = Action::Work { what: "n1 leaves".into(), outcome: Some("it left".into()) };
    assert_eq!(story(left).get("W11"), Some(&1));
    assert_eq!(story(asked("CLUSTER BUMPEPOCH")).get("W11"), None, "its mark went for no reason");
}

#[test]
fn w11_closed_by_work_that_was_recorded_long_after() {
    let story = |first: &str| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(1.9).migrate(&key, "n1", "n2").at(2.5);
        scene.kill("n1").at(5.0).promote("n4").at(5.2).add(&key, 3, "n4").at(5.5);
        scene.fault("reshard", work(None)).at(9.0).fault("reshard", work(Some(first)));
        // By then nobody had a mark any more for three seconds.
        for seen in
            scene.views.iter_mut().filter(|it| it.sent > 6_000_000_000).filter_map(|it| it.seen.as_mut())
        {
            seen.open_slots.clear();
            seen.migrating_to.clear();
        }
        for event in &mut scene.events {
            if let Body::Fault(step) = &mut event.body
                && step.name == "reshard"
            {
                step.fault = Some(7);
            }
        }
        judge(&scene.finish()).checks.lost_writes.by_class
    };
    assert_eq!(story("9 slots, 1 closed first").get("W11"), Some(&1));
    assert_eq!(story("9 slots").get("W11"), None);
}

#[test]
fn w11_lasts_until_the_slot_is_really_closed() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").at(1.9).migrate(&key, "n1", "n2").at(2.5);
    scene.kill("n1").at(5.0).promote("n4").at(5.2);
    let some =
        Action::Work { what: "slots go".into(), outcome: Some("stand open: 3 closed first, not all".into()) };
    scene.fault("reshard", vec![some]).at(5.5).add(&key, 3, "n4").at(5.8);
    let last = Action::Work { what: "slots stood open".into(), outcome: Some("1 closed".into()) };
    scene.fault("fix", vec![last]).forgets("n4", &key, 3);
    let verdict = judge(&scene.at(6.0).finish());
    let lost = &verdict.checks.lost_writes;
    assert_eq!((lost.by_class["W11"], lost.by_class["unexplained"]), (2, 0), "{:#?}", lost.losses);
}

#[test]
fn w11_two_copies_of_a_key_since_a_failover_tore_its_slot() {
    let verdict = judge(&torn(true, true));
    let lost = &verdict.checks.lost_writes;
    assert_eq!((lost.lost, lost.by_class["W11"], verdict.exit_code), (2, 2, 0), "{:#?}", lost.losses);
    assert!(lost.losses[0].proof.contains("n4 took a write of the key at 5.5"), "{}", lost.losses[0].proof);
    let mut of_wait = torn(true, true);
    of_wait.info.expect = Expect::Wait;
    for op in of_wait.ops.iter_mut().filter(|op| op.is_write()) {
        (op.wait, op.wait_wanted) = (Some(1), Some(1));
    }
    let lost = judge(&of_wait).checks.lost_writes;
    assert_eq!(
        (lost.protected > 0, lost.protected_lost),
        (true, 0),
        "WAIT promises nothing of the other shard"
    );
    for (fixed, promoted) in [(false, true), (true, false)] {
        let verdict = judge(&torn(fixed, promoted));
        assert_eq!(verdict.checks.lost_writes.by_class["unexplained"], 2, "{fixed} {promoted}");
    }
}
