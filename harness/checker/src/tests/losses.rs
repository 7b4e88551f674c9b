//! Each window both ways: proven, and not.

use crate::judge;
use crate::record::verdict::{Loss, Validity, Verdict};
use crate::record::{Action, Body, Expect, FailoverMode, Kind, Record, StreamLine, StreamWhat, View};
use crate::scene::{Held, Scene};
use crate::slots::slot_of;
use crate::timeline::SECOND;

/// Acknowledged by n1, and n4 never gets it.
fn unreplicated(held: Held) -> (Scene, String) {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").at(1.9).hold("n1", held).add(&key, 2, "n1");
    (scene, key)
}

fn only_loss(record: &Record) -> (Verdict, Loss) {
    let verdict = judge(record);
    assert_eq!(verdict.checks.lost_writes.losses.len(), 1, "{:#?}", verdict.checks.lost_writes);
    let loss = verdict.checks.lost_writes.losses[0].clone();
    (verdict, loss)
}

#[test]
fn nothing_is_lost_when_the_replica_had_it_all() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").at(2.0).kill("n1").at(5.0).promote("n4").at(6.0).add(&key, 2, "n4");
    let verdict = judge(&scene.finish());
    assert_eq!((verdict.exit_code, verdict.failovers), (0, 1), "{}", verdict.reason);
    assert_eq!(verdict.checks.lost_writes.lost, 0);
}

#[test]
fn w1_by_offset_when_the_tap_read_it_and_the_replica_did_not_get_it() {
    let (mut scene, _) = unreplicated(Held::Read);
    let (verdict, loss) = only_loss(
        &scene.at(2.0).kill("n1").add(&Scene::key(1, 1), 3, "n2").at(5.0).promote("n4").at(6.0).finish(),
    );
    assert_eq!((loss.class.as_str(), loss.element, verdict.exit_code), ("W1", 2, 0), "{}", loss.proof);
    assert_eq!((loss.offset, loss.erased_by.unwrap().offset), (Some(1200), Some(1100)));
}

#[test]
fn w1_by_absence_when_the_tap_never_saw_it() {
    let (mut scene, _) = unreplicated(Held::Unread);
    scene.at(2.0).kill("n1").at(5.0).promote("n4").at(6.0).end_storm().final_reads();
    // n4 does not say at which offset it was promoted.
    let promoted =
        scene.views.iter_mut().filter(|view| view.node == "n4").filter_map(|view| view.seen.as_mut());
    promoted.for_each(|seen| seen.second_offset = -1);
    let (_, loss) = only_loss(&scene.record());
    assert_eq!((loss.class.as_str(), loss.offset), ("W1", None), "{}", loss.proof);
    assert!(loss.proof.contains("never passed"), "{}", loss.proof);
}

#[test]
fn w1_by_the_masters_own_offset_without_any_tap() {
    let mut scene = Scene::new("set");
    scene.stream.clear();
    scene.taps = false;
    let key = Scene::key(0, 1);
    scene
        .at(1.5)
        .add(&key, 1, "n1")
        .at(1.8)
        .hold("n1", Held::Unread)
        .add(&key, 2, "n1")
        .at(2.0)
        .add(&key, 3, "n1");
    let record = scene.at(2.5).kill("n1").at(5.0).promote("n4").at(6.0).finish();
    let verdict = judge(&record);
    let losses = &verdict.checks.lost_writes;
    assert_eq!((losses.lost, losses.by_class.get("W1")), (2, Some(&2)), "{losses:#?}");
}

#[test]
fn full_evidence_missing_proves_nothing() {
    let (mut scene, _) = unreplicated(Held::Unread);
    scene.at(2.0).kill("n1").at(5.0).promote("n4").at(6.0).end_storm().final_reads();
    let promoted =
        scene.views.iter_mut().filter(|view| view.node == "n4").filter_map(|view| view.seen.as_mut());
    promoted.for_each(|seen| seen.second_offset = -1);
    let why = StreamWhat::Lost { why: "garbage".into() };
    let base = scene.stream.iter().position(|line| line.to == "n4").unwrap();
    scene.stream.insert(base + 1, StreamLine { what: why, ..scene.stream[base].clone() });
    let (verdict, loss) = only_loss(&scene.record());
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("unexplained", 1));
    assert!(loss.proof.contains("lost the stream (garbage)"), "{}", loss.proof);
}

#[test]
fn a_write_that_the_promoted_node_had_is_unexplained() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").add(&key, 2, "n1").at(2.0).kill("n1").at(5.0).promote("n4");
    let (verdict, loss) = only_loss(&scene.at(6.0).forgets("n4", &key, 1).finish());
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("unexplained", 1));
    assert!(loss.proof.contains("had its offset"), "{}", loss.proof);
}

#[test]
fn a_loss_without_any_promotion_is_unexplained() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    let record =
        scene.at(1.5).add(&key, 1, "n1").pause("n5").at(2.0).resume("n5").forgets("n1", &key, 1).finish();
    let (verdict, loss) = only_loss(&record);
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("unexplained", 1), "{}", loss.proof);
}

#[test]
fn a_promotion_without_cause_in_this_run_proves_no_window() {
    let (mut scene, _) = unreplicated(Held::Read);
    let (verdict, loss) = only_loss(&scene.at(5.0).promote("n4").at(5.05).learns("n1").at(6.0).finish());
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("unexplained", 1), "{}", loss.proof);
}

#[test]
fn w3_acknowledged_by_a_master_cut_from_the_majority() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(2.0).isolate("n1").at(3.0).add(&key, 1, "n1").at(4.9).fails("n1").at(5.0).promote("n4");
    let record = scene.at(8.0).heal("n1").at(8.2).learns("n1").at(9.0).finish();
    let (verdict, loss) = only_loss(&record);
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("W3", 0), "{}", loss.proof);
    assert_eq!(loss.windows, vec!["W3", "W1"]);
}

#[test]
fn a_write_of_an_isolated_master_later_than_it_may_serve_is_unexplained() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    // 1.5 NT + 0.2 s after 2.0 s is 5.2 s.
    scene.at(2.0).isolate("n1").at(6.0).add(&key, 1, "n1").at(7.0).promote("n4").at(7.1).fails("n1");
    let (verdict, loss) = only_loss(&scene.at(8.0).heal("n1").learns("n1").at(9.0).finish());
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("unexplained", 1), "{}", loss.proof);
}

#[test]
fn w3_lasts_longer_for_a_master_that_hears_the_others_on() {
    let class = |heard_until_s: f64| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        // 2.5 NT + 0.4 s after 2.0 s is 7.4 s.
        scene
            .at(2.0)
            .mute("n1")
            .at(heard_until_s)
            .add(&key, 1, "n1")
            .at(8.5)
            .promote("n4")
            .at(8.6)
            .fails("n1");
        only_loss(&scene.at(9.0).heal("n1").learns("n1").at(10.0).finish()).1.class
    };
    assert_eq!((class(6.5).as_str(), class(8.0).as_str()), ("W3", "unexplained"));
}

#[test]
fn a_stall_of_the_host_widens_the_bound() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(2.0).isolate("n1").at(5.0).stall(1500).at(6.0).add(&key, 1, "n1").at(6.5).fails("n1");
    let record = scene.at(7.0).promote("n4").at(8.0).heal("n1").learns("n1").at(9.0).finish();
    assert_eq!(only_loss(&record).1.class, "W3");
}

#[test]
fn a_node_that_stood_still_notices_its_isolation_later() {
    let class = |answered: bool| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(2.0).isolate("n1").at(6.0).add(&key, 1, "n1").at(6.5).fails("n1");
        let still = (25 * SECOND / 10)..(4 * SECOND);
        for view in scene.views.iter_mut().filter(|it| it.node == "n1" && still.contains(&it.sent)) {
            if !answered {
                (view.seen, view.error) = (None, Some("no answer to an earlier question".into()));
            }
        }
        only_loss(&scene.at(7.0).promote("n4").at(8.0).heal("n1").learns("n1").at(9.0).finish()).1.class
    };
    assert_eq!((class(false).as_str(), class(true).as_str()), ("W3", "unexplained"));
}

#[test]
fn w4_acknowledged_right_after_a_resume() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(2.0).pause("n1").at(5.0).promote("n4").at(7.0).resume("n1").hold("n1", Held::Unread);
    let record = scene.at(7.05).add(&key, 1, "n1").at(7.2).learns("n1").at(8.0).finish();
    let (verdict, loss) = only_loss(&record);
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("W4", 0), "{}", loss.proof);
}

#[test]
fn w4_at_a_master_that_a_slot_was_on_its_way_to() {
    let lost_at = |node: &str, successor: &str, open: bool| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.9);
        if open {
            scene.migrate(&key, "n1", node);
        }
        scene.at(2.5).pause(node).at(5.0).promote(successor).at(7.0).resume(node).hold(node, Held::Unread);
        only_loss(&scene.at(7.05).add(&key, 1, node).at(7.2).learns(node).at(8.0).finish()).1
    };
    let loss = lost_at("n2", "n5", true);
    assert_eq!(loss.class, "W4", "{}", loss.proof);
    let loss = lost_at("n2", "n5", false);
    assert_eq!(loss.class, "unexplained", "{}", loss.proof);
}

#[test]
fn acknowledged_long_after_a_resume_is_unexplained() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(2.0).pause("n1").at(5.0).promote("n4").at(7.0).resume("n1");
    let (verdict, loss) = only_loss(&scene.at(8.0).add(&key, 1, "n1").at(8.2).learns("n1").at(9.0).finish());
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("unexplained", 1), "{}", loss.proof);
}

#[test]
fn w5_acknowledged_after_a_restart_with_an_old_map() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(2.0).isolate("n1").kill("n1").at(5.0).promote("n4").at(6.0).restart("n1");
    let record = scene
        .at(8.5)
        .add(&key, 1, "n1")
        .at(9.0)
        .fails("n1")
        .at(10.0)
        .heal("n1")
        .learns("n1")
        .at(11.0)
        .finish();
    let (verdict, loss) = only_loss(&record);
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("W5", 0), "{}", loss.proof);
}

#[test]
fn w6_acknowledged_right_after_healing() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(2.0).isolate("n1").at(5.0).promote("n4").at(5.1).heal("n1");
    let record = scene.at(5.4).add(&key, 1, "n1").learns("n1").at(7.0).finish();
    let (_, loss) = only_loss(&record);
    assert_eq!(loss.class, "W6", "{}", loss.proof);
}

#[test]
fn w6_while_nobody_has_heard_of_a_winner_that_was_cut_off() {
    let story = |somebody_heard: bool| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(2.0).pause("n1");
        if somebody_heard {
            scene.at(5.0).promote("n4").isolate("n4");
        } else {
            scene.at(5.0).isolate("n4").promote("n4");
        }
        // Longer after its resume than a claim takes that anybody knows of.
        scene.at(7.0).resume("n1").at(9.0).add(&key, 1, "n1").at(10.0).heal("n4").learns("n1");
        only_loss(&scene.at(11.0).finish()).1
    };
    let loss = story(false);
    assert_eq!(loss.class, "W6", "{}", loss.proof);
    let loss = story(true);
    assert_eq!(loss.class, "unexplained", "{}", loss.proof);
}

#[test]
fn w7_by_force_and_a_plain_failover_loses_nothing_by_design() {
    for (mode, class) in [(FailoverMode::Force, "W7"), (FailoverMode::Plain, "unexplained")] {
        let (mut scene, _) = unreplicated(Held::Read);
        let record = scene.at(3.0).manual("n4", mode).at(3.4).promote("n4").learns("n1").at(5.0).finish();
        assert_eq!(only_loss(&record).1.class, class);
    }
}

#[test]
fn w9_of_a_later_master_that_the_storm_emptied() {
    let story = |wiped: bool| {
        let mut scene = Scene::new("set");
        scene.info.directives.insert("appendonly".into(), "yes".into());
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(2.0).kill("n1").at(5.0).promote("n4").at(6.0).kill("n4");
        if wiped {
            scene.wipe("n4");
        }
        scene.at(6.5).restart("n4").forgets_all("n4").at(7.0).restart("n1").learns("n1").at(8.0);
        only_loss(&scene.finish()).1.class
    };
    assert_eq!(story(true), "W9");
    assert_eq!(story(false), "unexplained");
}

#[test]
fn w9_of_a_master_that_had_lost_its_slots_and_taken_them_back() {
    let story = |wiped: bool| {
        let mut scene = Scene::new("set");
        scene.info.directives.insert("appendonly".into(), "yes".into());
        let key = Scene::key(0, 1);
        scene
            .at(1.5)
            .add(&key, 1, "n1")
            .at(2.0)
            .kill("n1")
            .at(5.0)
            .promote("n4")
            .at(6.0)
            .restart("n1")
            .learns("n1");
        scene.at(7.0).kill("n4").at(10.0).promote("n1").at(11.0).kill("n1");
        if wiped {
            scene.wipe("n1");
        }
        scene.at(11.5).restart("n1").forgets_all("n1").at(12.0).restart("n4").learns("n4").at(13.0);
        only_loss(&scene.finish()).1.class
    };
    assert_eq!((story(true).as_str(), story(false).as_str()), ("W9", "unexplained"));
}

#[test]
fn a_plain_failover_waits_for_the_stream_however_slow_it_is() {
    let slow = |plane: &str| {
        let (from, to, planes) = ("n1".to_owned(), "n4".to_owned(), vec![plane.to_owned()]);
        vec![Action::Cut { from, to, planes, policy: "delay 800 ms".into() }]
    };
    for (plane, class) in [("replication", "unexplained"), ("bus", "W1")] {
        let (mut scene, _) = unreplicated(Held::Read);
        scene.at(2.8).fault("delay", slow(plane)).at(3.0).manual("n4", FailoverMode::Plain);
        let record = scene.at(3.4).promote("n4").learns("n1").at(5.0).finish();
        assert_eq!(only_loss(&record).1.class, class, "{plane}");
    }
}

#[test]
fn w9_only_without_persistence_or_by_the_storms_hand() {
    let story = |append_only: &str, wiped: bool| {
        let mut scene = Scene::new("set");
        scene.info.directives.insert("appendonly".into(), append_only.into());
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(2.0).kill("n1");
        if wiped {
            scene.wipe("n1");
        }
        scene.at(2.5).restart("n1").forgets_all("n1").at(3.0).learns("n4").at(4.0);
        only_loss(&scene.finish()).1.class
    };
    assert_eq!(story("no", false), "W9");
    assert_eq!(story("yes", true), "W9");
    assert_eq!(story("yes", false), "unexplained");
}

#[test]
fn w16_is_a_tail_of_a_killed_master_under_everysec() {
    let story = |policy: &str, forget: u64| {
        let mut scene = Scene::new("set");
        scene.info.directives.insert("appendfsync".into(), policy.into());
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(1.7).add(&key, 2, "n1").at(2.0).kill("n1");
        scene.at(2.5).restart("n1").forgets("n1", &key, forget).at(3.0).learns("n4").at(4.0);
        only_loss(&scene.finish()).1.class
    };
    assert_eq!(story("everysec", 2), "W16");
    assert_eq!(story("everysec", 1), "unexplained", "a later write survived");
    assert_eq!(story("always", 2), "unexplained");
}

#[test]
fn a_write_survives_two_failovers_on_paper_and_is_missed_all_the_same() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene
        .at(1.5)
        .add(&key, 1, "n1")
        .at(2.0)
        .kill("n1")
        .at(5.0)
        .promote("n4")
        .at(6.0)
        .restart("n1")
        .learns("n1");
    scene.at(7.0).kill("n4").at(10.0).promote("n1").at(11.0).restart("n4").learns("n4").at(12.0);
    let (_, loss) = only_loss(&scene.forgets("n1", &key, 1).finish());
    assert_eq!(loss.class, "unexplained");
    assert!(loss.proof.matches("had its offset").count() == 2, "{}", loss.proof);
}

#[test]
fn the_second_of_two_takeovers_erased_it() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(2.0).kill("n1").at(5.0).promote("n4").at(6.0).restart("n1").learns("n1").at(7.0);
    scene.hold("n4", Held::Read).add(&key, 1, "n4").at(7.2).kill("n4").at(10.0).promote("n1").at(11.0);
    let (_, loss) = only_loss(&scene.finish());
    let by = loss.erased_by.unwrap();
    assert_eq!(
        (loss.class.as_str(), by.node.as_str(), by.from.as_str()),
        ("W1", "n1", "n4"),
        "{}",
        loss.proof
    );
}

#[test]
fn an_unknown_write_is_lost_only_if_a_read_saw_it() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).write(&key, 1, "n1", Kind::Info, false).write(&key, 2, "n1", Kind::Info, true);
    scene.write(&key, 3, "n1", Kind::Info, true).read(&key, "n1").kill("n5").forgets("n1", &key, 3);
    let verdict = judge(&scene.at(3.0).finish());
    let lost = &verdict.checks.lost_writes;
    assert_eq!((lost.lost, lost.recovered, lost.judged), (1, 1, 2), "{lost:#?}");
    assert_eq!((lost.losses[0].element, lost.losses[0].acked_by.as_str()), (3, ""));
}

#[test]
fn a_failed_final_read_makes_the_check_unknown_and_nothing_lost() {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.5).add(&key, 1, "n1").kill("n5").at(2.0).end_storm().final_reads();
    let at =
        scene.events.iter().rposition(|event| matches!(&event.body, crate::record::Body::Read(_))).unwrap();
    scene.events[at].kind = Kind::Info;
    let verdict = judge(&scene.record());
    let lost = &verdict.checks.lost_writes;
    assert_eq!((lost.valid, lost.unread_keys, lost.lost), (Validity::Unknown, 1, 0));
    assert_eq!(verdict.exit_code, 2);
}

/// n4 is made master by force and killed before anyone asked it; it comes back as what it was, and does not say at which
/// offset it was promoted. n4 had told `had` of the two writes before.
fn promoted_and_killed(had: u32) -> (Verdict, Loss) {
    let mut scene = Scene::new("set");
    let key = Scene::key(0, 1);
    scene.at(1.95).add(&key, 1, "n1");
    if had == 2 {
        scene.add(&key, 2, "n1").at(2.0);
    } else {
        scene.at(2.0).add(&key, 2, "n1");
    }
    scene
        .manual("n4", FailoverMode::Force)
        .promote("n4")
        .kill("n4")
        .at(3.0)
        .add(&Scene::key(2, 1), 3, "n3")
        .at(4.0)
        .forgets("n4", &key, 2)
        .restart("n4");
    scene.learns("n1").at(6.0).end_storm().final_reads();
    let promoted =
        scene.views.iter_mut().filter(|view| view.node == "n4").filter_map(|view| view.seen.as_mut());
    promoted.for_each(|seen| seen.second_offset = -1);
    only_loss(&scene.record())
}

#[test]
fn what_a_node_had_told_before_it_was_promoted_and_killed_bounds_what_it_lacked() {
    let (verdict, loss) = promoted_and_killed(1);
    assert_eq!(
        (loss.class.as_str(), loss.element, verdict.exit_code),
        ("W7", 2, 0),
        "{} {}",
        loss.proof,
        verdict.reason
    );
    assert!(loss.proof.contains("beyond the offset 1100 that n4 had told last"), "{}", loss.proof);
    let (verdict, loss) = promoted_and_killed(2);
    assert_eq!((loss.class.as_str(), verdict.exit_code), ("unexplained", 1), "{}", loss.proof);
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
fn w12_of_a_source_without_a_replica_whose_stream_would_show_the_key_go() {
    for (carries, class) in [(true, "W12"), (false, "unexplained")] {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.2).kill("n4").at(1.5).add(&key, 1, "n1").at(1.8);
        let work = |outcome: Option<&str>| {
            vec![Action::Work { what: "slots go".into(), outcome: outcome.map(str::to_owned) }]
        };
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
    let story = |came: bool| {
        let mut scene = Scene::new("set");
        let key = Scene::key(0, 1);
        scene.at(1.5).add(&key, 1, "n1").at(1.9).migrate(&key, "n1", "n2").at(2.5).kill("n1");
        scene.at(5.0).promote("n4").at(5.5).add(&key, 3, "n4").at(6.0);
        closed(&mut scene);
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
    assert_eq!((story(true), story(false)), (Some(1), None));
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
        let work = |outcome: Option<String>| vec![Action::Work { what: "slots go".into(), outcome }];
        scene.fault("reshard", work(None)).at(9.0).fault("reshard", work(Some(first.to_owned())));
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
