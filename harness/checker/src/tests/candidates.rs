//! Who may be elected: not a replica whose data is too old, and not the one that is behind.

use crate::check::candidates::{BEST, FRESH, OWN_SHARD};
use crate::record::*;
use crate::scene::Scene;
use crate::{judge, record::verdict::Verdict};

fn broken(verdict: &Verdict) -> Vec<&str> {
    let violations = &verdict.checks.invariants.violations;
    violations
        .iter()
        .map(|one| one.what.as_str())
        .filter(|what| [BEST, FRESH, OWN_SHARD].contains(what))
        .collect()
}

/// The validity factor allows 7 s in all.
fn short_lived_data() -> Scene {
    let mut scene = Scene::new("set");
    for (name, value) in [("cluster-replica-validity-factor", "1"), ("repl-ping-replica-period", "1")] {
        scene.info.directives.insert(name.into(), value.into());
    }
    scene
}

/// n4 hears nothing from its master after 1.5 s and is elected at `at`.
fn elected_with_old_data(at: f64) -> Scene {
    let mut scene = short_lived_data();
    scene.at(1.5).add(&Scene::key(0, 1), 1, "n1").at(at - 3.0).kill("n1").at(at).promote("n4").at(at + 1.0);
    scene
}

#[test]
fn data_may_be_as_old_as_the_validity_factor_allows_and_not_older() {
    let young = judge(&elected_with_old_data(6.0).finish());
    assert!(broken(&young).is_empty() && young.checks.invariants.watched[FRESH] == 1, "{}", young.reason);
    let old = judge(&elected_with_old_data(14.0).finish());
    assert_eq!(broken(&old), [FRESH], "{}", old.reason);
    assert_eq!(old.checks.invariants.violations[0].nodes, ["n4"]);
}

#[test]
fn how_old_data_may_be_is_not_judged_where_any_age_is_allowed_or_somebody_asked_for_it() {
    let mut any = elected_with_old_data(14.0);
    any.info.directives.insert("cluster-replica-validity-factor".into(), "0".into());
    assert!(broken(&judge(&any.finish())).is_empty());
    let manual = judge(&{
        let mut scene = Scene::new("set");
        scene.at(1.5).add(&Scene::key(0, 1), 1, "n1").at(11.0).manual("n4", FailoverMode::Force);
        scene.at(11.5).promote("n4").at(13.0).finish()
    });
    assert!(broken(&manual).is_empty(), "{}", manual.reason);
}

#[test]
fn a_replica_that_hears_late_of_its_links_end_has_data_of_that_moment() {
    let story = |heals_first: bool| {
        let mut scene = short_lived_data();
        scene.at(1.5).add(&Scene::key(0, 1), 1, "n1").isolate("n4").at(11.0).kill("n1");
        if heals_first {
            scene.at(13.9).heal("n4").at(14.0).promote("n4");
        } else {
            scene.at(14.0).promote("n4").at(14.5).heal("n4");
        }
        judge(&scene.at(15.0).finish())
    };
    assert!(broken(&story(true)).is_empty());
    assert_eq!(broken(&story(false)), [FRESH]);
}

/// n1 is killed and n4 elected in its place; n5 says that it is a replica of n1, too, and stands at `offset`.
fn elected_beside_another(offset: u64) -> Verdict {
    judge(&beside_another(offset).finish())
}

fn beside_another(offset: u64) -> Scene {
    let mut scene = Scene::new("set");
    scene.at(4.0).kill("n1").at(8.0).promote("n4").at(9.0);
    let of_n1 = scene.views.iter().find_map(|view| view.seen.as_ref().filter(|_| view.node == "n4"));
    let replid = of_n1.map(|seen| seen.replid.clone()).unwrap_or_default();
    for view in scene.views.iter_mut().filter(|view| view.node == "n5") {
        let Some(seen) = &mut view.seen else { continue };
        seen.master_name = Some("n1".into());
        seen.replid.clone_from(&replid);
        seen.offset = offset;
    }
    scene
}

#[test]
fn the_replica_with_the_most_data_is_elected_if_nothing_is_in_its_way() {
    let equal = elected_beside_another(1000);
    assert!(broken(&equal).is_empty() && equal.checks.invariants.watched[BEST] == 1, "{}", equal.reason);
    let behind = elected_beside_another(5000);
    assert_eq!(broken(&behind), [BEST], "{}", behind.reason);
}

/// The same, with more data at n5, and both ask for votes: in this order.
fn both_asked(order: [&str; 2]) -> Verdict {
    let mut record = beside_another(5000).finish();
    let asks = (0..).zip(order).map(|(number, node)| {
        let frame = BusFrame { kind: "auth-req".into(), ..BusFrame::default() };
        let time = 7_000_000_000 + number * 300_000_000;
        let what = BusWhat::Frame(Box::new(frame));
        BusLine { time, from: node.into(), to: "n2".into(), conn: number, what }
    });
    record.bus = Some(asks.collect());
    judge(&record)
}

#[test]
fn whoever_is_behind_may_win_but_must_not_ask_first() {
    let lost = both_asked(["n5", "n4"]);
    assert!(broken(&lost).is_empty(), "{}", lost.reason);
    let hasty = both_asked(["n4", "n5"]);
    assert_eq!(broken(&hasty), [BEST], "{}", hasty.reason);
}

/// n4 came from another shard, whose history (of n1 to n3, by number) it still has, and is elected in n1's place.
fn elected_with_history_of(shard: usize) -> Verdict {
    let mut scene = Scene::new("set");
    scene.at(4.0).kill("n1").at(8.0).promote("n4").at(9.0);
    let history = format!("{shard:040x}");
    for seen in scene.views.iter_mut().filter(|view| view.node == "n4").filter_map(|view| view.seen.as_mut())
    {
        let its = if seen.master { &mut seen.replid2 } else { &mut seen.replid };
        its.clone_from(&history);
    }
    judge(&scene.finish())
}

#[test]
fn a_replica_with_another_shards_data_is_not_elected() {
    let own = elected_with_history_of(1);
    assert!(broken(&own).is_empty() && own.checks.invariants.watched[OWN_SHARD] == 1, "{}", own.reason);
    let foreign = elected_with_history_of(3);
    assert_eq!(broken(&foreign), [OWN_SHARD], "{}", foreign.reason);
    let unknown = elected_with_history_of(77);
    assert!(broken(&unknown).is_empty() && !unknown.checks.invariants.watched.contains_key(OWN_SHARD));
}
