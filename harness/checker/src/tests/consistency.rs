//! What objects answered: a right history of each is valid, a corrupted one is not; and what a documented loss excuses.

use crate::record::verdict::{Consistency, Validity};
use crate::record::*;
use crate::scene::{Held, Scene};
use crate::{judge, record::Datum::Nil};

/// The key's owner is n1.
fn key() -> String {
    Scene::key(0, 0)
}

fn int(int: i64) -> Datum {
    Datum::Int(int)
}

fn list<const N: usize>(items: [i64; N]) -> Datum {
    Datum::List(items.map(Datum::Int).into())
}

fn micro(f: &str, of: &str, seen: Datum) -> Datum {
    Datum::List(vec![f.into(), of.into(), seen])
}

/// Operations one after the other: what was done, asked and answered.
type Story = Vec<(OpKind, Datum, Datum)>;

fn told(story: &Story) -> Consistency {
    told_with(story, |_| {})
}

fn told_with(story: &Story, before_the_last: impl FnOnce(&mut Scene)) -> Consistency {
    let mut scene = Scene::new("mixed");
    scene.at(1.5);
    let (last, rest) = story.split_last().unwrap();
    for (kind, asked, answer) in rest {
        scene.call(*kind, &key(), asked.clone(), answer.clone(), "n1");
    }
    before_the_last(&mut scene);
    scene.call(last.0, &key(), last.1.clone(), last.2.clone(), "n1");
    judge(&scene.finish()).checks.consistency
}

/// The story holds, and does not once its last answer is `wrong`, for this reason.
fn holds_but_for_the_last(story: Story, wrong: Datum, class: &str) {
    let right = told(&story);
    assert_eq!((right.valid, right.anomalies), (Validity::Valid, 0), "{story:?}: {}", right.reason);
    let mut broken = story;
    broken.last_mut().unwrap().2 = wrong;
    let wrong = told(&broken);
    assert_eq!(wrong.valid, Validity::Invalid, "{broken:?}");
    assert!(wrong.by_class.contains_key(class), "{class}: {:?}", wrong.by_class);
    let finding = &wrong.findings[0];
    assert!(!finding.excused && !finding.ops.is_empty() && !finding.witness.is_empty());
}

#[test]
fn a_register() {
    let story = vec![
        (OpKind::Write, int(1), Nil),
        (OpKind::Get, Nil, int(1)),
        (OpKind::Cas, list([1, 2]), int(1)),
        (OpKind::Cas, list([1, 3]), int(2)),
        (OpKind::Swap, int(4), int(2)),
        (OpKind::Get, Nil, int(4)),
    ];
    holds_but_for_the_last(story.clone(), int(2), "stale-read");
    holds_but_for_the_last(story, int(99), "garbage-read");
}

#[test]
fn a_counter_up_and_one_down() {
    for sign in [1, -1] {
        let kind = if sign > 0 { OpKind::Increment } else { OpKind::Decrement };
        let story =
            vec![(kind, Nil, int(sign)), (kind, Nil, int(2 * sign)), (OpKind::Count, Nil, int(2 * sign))];
        let wrong = told(&{
            let mut story = story.clone();
            story[2].2 = int(sign);
            story
        });
        assert_eq!(told(&story).valid, Validity::Valid);
        assert_eq!(wrong.valid, Validity::Invalid, "{sign}");
    }
    let both = vec![(OpKind::Increment, Nil, int(1)), (OpKind::Decrement, Nil, int(0))];
    holds_but_for_the_last(both, int(5), "no-legal-order");
}

#[test]
fn a_queue_and_a_move_to_another() {
    let story = vec![
        (OpKind::Enqueue, int(1), int(1)),
        (OpKind::Enqueue, int(2), int(2)),
        (OpKind::Dequeue, Nil, int(1)),
        (OpKind::Move, "elsewhere".into(), int(2)),
        (OpKind::Dequeue, Nil, Nil),
    ];
    let right = told(&story);
    assert_eq!((right.valid, right.anomalies), (Validity::Valid, 0), "{}", right.reason);
    for (at, wrong) in [(2, Datum::Int(2)), (3, Datum::Int(1)), (3, Datum::Int(7))] {
        let mut broken = story.clone();
        broken[at].2 = wrong;
        assert_eq!(told(&broken).valid, Validity::Invalid, "{broken:?}");
    }
}

#[test]
fn a_moved_element_leaves_the_other_queue_once() {
    let other = format!("{{{}}}:next", key());
    let judged = |popped: &[i64]| {
        let mut scene = Scene::new("mixed");
        scene.at(1.5).call(OpKind::Enqueue, &key(), int(5), int(1), "n1");
        scene.call(OpKind::Move, &key(), other.clone().into(), int(5), "n1");
        for &element in popped {
            scene.call(OpKind::Dequeue, &other, Nil, element.into(), "n1");
        }
        judge(&scene.finish()).checks.consistency.valid
    };
    assert_eq!(judged(&[5]), Validity::Valid);
    assert_eq!(judged(&[5, 5]), Validity::Invalid, "taken twice");
    assert_eq!(judged(&[6]), Validity::Invalid, "from nowhere");
}

#[test]
fn a_lock_with_fencing_tokens() {
    let story = vec![
        (OpKind::Acquire, list([11, 5000]), int(1)),
        (OpKind::Acquire, list([12, 5000]), Nil),
        (OpKind::Guarded, int(1), int(1)),
        (OpKind::Release, list([11, 1]), int(1)),
        (OpKind::Acquire, list([13, 5000]), int(2)),
        (OpKind::Guarded, int(2), int(1)),
        (OpKind::Guarded, int(1), int(0)),
    ];
    holds_but_for_the_last(story.clone(), int(1), "fencing");
    let mut two_holders = story;
    two_holders.remove(3);
    assert!(told(&two_holders).by_class.contains_key("mutual-exclusion"));
}

#[test]
fn accounts() {
    let story =
        vec![(OpKind::Transfer, list([0, 1, 5]), list([-5, 5])), (OpKind::Balances, Nil, list([-5, 5, 0]))];
    holds_but_for_the_last(story, list([-5, 0, 0]), "wrong-total");
}

#[test]
fn transactions_of_lists() {
    let story = vec![
        (
            OpKind::TxnAppend,
            vec![micro("append", "k:0", int(1)), micro("append", "k:1", int(2))].into(),
            vec![micro("append", "k:0", int(1)), micro("append", "k:1", int(2))].into(),
        ),
        (
            OpKind::TxnAppend,
            vec![micro("r", "k:0", Nil), micro("r", "k:1", Nil)].into(),
            vec![micro("r", "k:0", list([1])), micro("r", "k:1", list([2]))].into(),
        ),
    ];
    let half = vec![micro("r", "k:0", list([1])), micro("r", "k:1", list([]))].into();
    holds_but_for_the_last(story, half, "G-single");
}

#[test]
fn transactions_of_registers() {
    let write = |element: i64, before: Datum| {
        let asked = Datum::List(vec![micro("w", "k:0", element.into())]);
        let answer = vec![micro("r", "k:0", before), micro("w", "k:0", element.into())].into();
        (OpKind::TxnRegister, asked, answer)
    };
    let story = vec![write(1, Nil), write(2, int(1)), write(3, int(2))];
    let wrong = write(3, int(1)).2;
    holds_but_for_the_last(story, wrong, "lost-update");
}

#[test]
fn keys_that_are_written_together() {
    let story = vec![
        (OpKind::WriteAll, int(1), Nil),
        (OpKind::WriteAll, int(2), Nil),
        (OpKind::GetAll, Nil, list([2, 2, 2])),
    ];
    holds_but_for_the_last(story.clone(), list([2, 1, 2]), "half-result");
    holds_but_for_the_last(story, list([1, 1, 1]), "lost-write");
}

#[test]
fn a_value_with_a_time_to_live_neither_ends_early_nor_comes_back() {
    let after = |seconds: f64, seen: Datum| {
        let story = vec![(OpKind::WriteFor, list([1, 1000]), Nil), (OpKind::Get, Nil, seen)];
        told_with(&story, |scene| {
            scene.at(1.5 + seconds);
        })
        .valid
    };
    assert_eq!(after(0.5, int(1)), Validity::Valid);
    assert_eq!(after(0.5, Nil), Validity::Invalid, "early");
    assert_eq!(after(1.02, int(1)), Validity::Valid, "the clocks' error");
    assert_eq!(after(2.0, Nil), Validity::Valid);
    assert_eq!(after(2.0, int(1)), Validity::Invalid, "it came back");
}

#[test]
fn a_replica_lags_but_does_not_go_back() {
    let seen = |counts: [i64; 2]| {
        let mut story = vec![(OpKind::Increment, Nil, int(1)), (OpKind::Increment, Nil, int(2))];
        story.extend(counts.map(|count| (OpKind::CountAtReplica, Nil, count.into())));
        told(&story)
    };
    let lags = seen([1, 1]);
    assert_eq!((lags.valid, lags.anomalies), (Validity::Valid, 0));
    let reads = lags.replica_reads.unwrap();
    assert_eq!((reads.reads, reads.stale, reads.own_writes_missed), (2, 2, 2));
    assert!(reads.age_max_ms > 0.0);
    let back = seen([2, 1]);
    assert_eq!(back.valid, Validity::Invalid);
    assert!(back.by_class.contains_key("non-monotonic-read"));
}

/// A client reads 2 at one node, then something happens, then it reads 1.
fn goes_back(
    (first, second): (&str, &str),
    before: impl FnOnce(&mut Scene),
    between: impl FnOnce(&mut Scene),
) -> Consistency {
    let mut scene = Scene::new("replica-reads");
    scene.at(1.5);
    for count in [1, 2] {
        scene.call(OpKind::Increment, &key(), Nil, int(count), "n1");
    }
    before(&mut scene);
    scene.call(OpKind::CountAtReplica, &key(), Nil, int(2), first);
    between(&mut scene);
    scene.call(OpKind::CountAtReplica, &key(), Nil, int(1), second);
    judge(&scene.finish()).checks.consistency
}

#[test]
fn a_client_that_goes_over_to_another_replica_may_go_back_and_it_is_counted() {
    let back = goes_back(
        ("n4", "n1"),
        |_| {},
        |scene| {
            scene.kill("n1").at(4.0).promote("n4").restart("n1");
        },
    );
    assert_eq!((back.valid, back.anomalies, back.excused), (Validity::Valid, 1, 1), "{}", back.reason);
    assert_eq!(back.by_class["non-monotonic-read"], 1);
    assert_eq!(back.findings[0].excuse, "another replica: read at n1 and at n4, which lag each by itself");
}

#[test]
fn a_replica_that_takes_all_data_anew_goes_back_with_its_master_and_one_that_stays_does_not() {
    let nothing = |_: &mut Scene| {};
    let anew = |scene: &mut Scene| {
        scene.learns("n4");
    };
    let between = goes_back(("n4", "n4"), nothing, anew);
    assert_eq!((between.valid, between.excused), (Validity::Valid, 1), "{}", between.reason);
    assert!(
        between.findings[0].excuse.starts_with("resync: n4 took all data"),
        "{}",
        between.findings[0].excuse
    );
    let under_way = goes_back(("n4", "n4"), anew, nothing);
    assert_eq!((under_way.valid, under_way.excused), (Validity::Valid, 1), "{}", under_way.reason);
    let long_over = goes_back(
        ("n4", "n4"),
        |scene| {
            scene.learns("n4").at(3.0);
        },
        nothing,
    );
    assert_eq!((long_over.valid, long_over.excused), (Validity::Invalid, 0));
    let never = goes_back(("n4", "n4"), nothing, |scene| {
        scene.kill("n5").at(4.0);
    });
    assert_eq!((never.valid, never.excused), (Validity::Invalid, 0));
}

#[test]
fn a_replica_that_comes_back_without_its_data_goes_back_unless_it_had_a_file() {
    let again = |scene: &mut Scene| {
        scene.kill("n4").at(2.0).restart("n4");
    };
    let wiped = |scene: &mut Scene| {
        scene.kill("n4").wipe("n4").at(2.0).restart("n4");
    };
    let nothing = |_: &mut Scene| {};
    assert_eq!(goes_back(("n4", "n4"), nothing, wiped).valid, Validity::Valid);
    assert_eq!(goes_back(("n4", "n4"), nothing, again).valid, Validity::Invalid);
}

/// n1 acknowledges 2, dies before its replica has it, and n4 goes on with 1.
fn lost_write(expect: Expect) -> Scene {
    let mut scene = Scene::new("register");
    scene.info.expect = expect;
    scene.at(1.5).call(OpKind::Write, &key(), int(1), Nil, "n1").hold("n1", Held::Read);
    scene.at(1.8).call(OpKind::Write, &key(), int(2), Nil, "n1").call(OpKind::Get, &key(), Nil, int(2), "n1");
    scene.at(2.0).kill("n1").call(OpKind::Write, &Scene::key(1, 1), int(3), Nil, "n2");
    scene.at(5.0).promote("n4").at(6.0).call(OpKind::Get, &key(), Nil, int(1), "n4");
    scene
}

#[test]
fn a_stale_read_after_a_documented_loss_is_counted_and_under_strict_invalid() {
    for (expect, valid) in [(Expect::Redis, Validity::Valid), (Expect::Strict, Validity::Invalid)] {
        let entry = judge(&lost_write(expect).finish()).checks.consistency;
        assert!(entry.anomalies > 0 && entry.excused == entry.anomalies, "{entry:?}");
        assert_eq!(entry.valid, valid, "{}", entry.reason);
        assert!(entry.findings[0].excuse.starts_with("W1: "), "{}", entry.findings[0].excuse);
    }
}

#[test]
fn the_same_without_a_takeover_is_invalid() {
    let mut scene = Scene::new("register");
    scene.at(1.5).call(OpKind::Write, &key(), int(1), Nil, "n1").call(
        OpKind::Write,
        &key(),
        int(2),
        Nil,
        "n1",
    );
    scene.kill("n5").call(OpKind::Get, &key(), Nil, int(1), "n1");
    let verdict = judge(&scene.finish());
    assert_eq!((verdict.exit_code, verdict.checks.consistency.valid), (1, Validity::Invalid));
    assert!(verdict.reason.contains("consistency: register "), "{}", verdict.reason);
}

#[test]
fn a_documented_loss_hides_no_other_anomaly_of_its_key() {
    let mut scene = lost_write(Expect::Redis);
    for element in 4..=5_i64 {
        scene.call(OpKind::Write, &key(), element.into(), Nil, "n4");
    }
    scene.call(OpKind::Get, &key(), Nil, int(4), "n4");
    let entry = judge(&scene.finish()).checks.consistency;
    assert_eq!(entry.valid, Validity::Invalid);
    assert!(entry.excused > 0 && !entry.findings[0].excused, "{entry:?}");
}

#[test]
fn counts_that_were_lost_are_counted_again() {
    let mut scene = Scene::new("counter");
    let up = |scene: &mut Scene, count: i64, node: &str| {
        scene.call(OpKind::Increment, &key(), Nil, count.into(), node);
    };
    scene.at(1.4);
    up(&mut scene, 1, "n1");
    scene.at(1.5).hold("n1", Held::Read).at(1.8);
    for count in 2..30 {
        up(&mut scene, count, "n1");
    }
    scene.call(OpKind::Count, &key(), Nil, int(29), "n1");
    scene.at(2.0).kill("n1").call(OpKind::Increment, &Scene::key(1, 1), Nil, int(1), "n2");
    scene.at(5.0).promote("n4").at(6.0);
    for count in 2..10 {
        up(&mut scene, count, "n4");
    }
    let entry = judge(&scene.finish()).checks.consistency;
    assert_eq!(entry.valid, Validity::Valid, "{}", entry.reason);
    assert!(entry.anomalies > 10 && entry.excused == entry.anomalies, "{entry:?}");
}

#[test]
fn sets_and_lists_are_judged_as_well() {
    for workload in ["set", "append"] {
        let mut scene = Scene::new(workload);
        scene.at(1.5).add(&key(), 1, "n1").add(&key(), 2, "n1").read(&key(), "n1");
        let record = scene.finish();
        let right = judge(&record).checks.consistency;
        assert_eq!((right.valid, right.objects.len()), (Validity::Valid, 1), "{workload}");
        *scene.final_read(&key()) = vec![1];
        assert_eq!(judge(&scene.record()).checks.consistency.valid, Validity::Invalid, "{workload}");
    }
}

#[test]
fn a_history_is_read_as_it_was_written() {
    let scene = lost_write(Expect::Redis);
    for event in &scene.events {
        let line = serde_json::to_string(event).unwrap();
        assert_eq!(&serde_json::from_str::<Event>(&line).unwrap(), event, "{line}");
    }
    let history: String =
        scene.events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
    let run = serde_json::to_string(&scene.info).unwrap();
    let sources = Sources {
        run: &run,
        history: history.as_bytes(),
        views: std::io::empty(),
        stream: std::io::empty(),
        bus: None::<std::io::Empty>,
    };
    let (read, built) = (read_folder(sources).unwrap(), scene.record());
    let calls = |record: &Record| record.ops.iter().map(|op| op.call.clone()).collect::<Vec<_>>();
    assert_eq!(calls(&read), calls(&built));
    assert!(read.ops.iter().any(|op| op.answer().int() == Some(2)), "an answer was read");
}

#[test]
fn a_token_that_is_granted_again_after_a_loss_was_not_used_before() {
    let mut scene = Scene::new("lock");
    scene.at(1.4).call(OpKind::Acquire, &key(), list([11, 300]), int(1), "n1");
    scene.at(1.8).hold("n1", Held::Read).call(OpKind::Acquire, &key(), list([12, 5000]), int(2), "n1");
    scene.call(OpKind::Guarded, &key(), int(2), int(1), "n1");
    scene.at(2.0).kill("n1").call(OpKind::Write, &Scene::key(1, 1), int(3), Nil, "n2");
    scene.at(5.0).promote("n4").at(6.0);
    scene.call(OpKind::Acquire, &key(), list([13, 5000]), int(2), "n4");
    scene.call(OpKind::Guarded, &key(), int(2), int(1), "n4");
    let entry = judge(&scene.finish()).checks.consistency;
    assert_eq!(entry.valid, Validity::Valid, "{}", entry.reason);
    assert!(entry.anomalies > 0 && entry.excused == entry.anomalies, "{entry:?}");
}
