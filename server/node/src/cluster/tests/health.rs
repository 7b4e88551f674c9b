//! Is the cluster up? Each condition from both sides.
//!
//! | rule (REDIS-CLUSTER-FACTS 2.10) | story |
//! |---|---|
//! | full coverage: each slot has an owner that is not FAIL | `a_slot_without_owner_..`, `..only_suspected..` |
//! | majority: n/2 + 1 masters with slots are not suspected | `two_of_four_masters_..` |
//! | a master that comes back with slots is down for 2000 ms | `a_starting_master_..` |
//! | a new one is not (Redis lets it wait too) | `a_new_node_..` |
//! | rejoin delay clamp(NT, 500, 5000) after a minority | `the_rejoin_delay_..` |
//! | replicas change at once | `a_replica_is_up_as_soon_..` |

use super::bench::Bench;
use super::*;

fn suspect(bench: &mut Bench, at: usize, others: &[usize], on: bool) {
    for other in others {
        let id = bench.id(*other);
        bench.view_mut(at, id).flags.set(NodeFlags::PFAIL, on);
    }
    bench.with(at, Cluster::update_state);
}

#[test]
fn a_slot_without_owner_brings_all_down_unless_coverage_may_be_partial() {
    let mut bench = Bench::cluster(3, 0, 2000);
    bench.ok(0, "DELSLOTS 0");
    assert!(!bench.at(0).is_ok());
    bench.set(0, |settings| settings.require_full_coverage = false);
    bench.with(0, |_, _| {});
    assert!(bench.at(0).is_ok(), "the directive works at once");
}

#[test]
fn an_owner_that_is_only_suspected_still_covers_and_a_failed_one_does_not() {
    let mut bench = Bench::cluster(3, 0, 2000);
    suspect(&mut bench, 0, &[1], true);
    assert!(bench.at(0).is_ok());
    let id = bench.id(1);
    bench.view_mut(0, id).flags |= NodeFlags::FAIL;
    bench.with(0, Cluster::update_state);
    assert!(!bench.at(0).is_ok());
}

#[test]
fn a_failed_node_without_slots_harms_nobody() {
    let mut bench = Bench::cluster(3, 1, 2000);
    let id = bench.id(3);
    bench.view_mut(1, id).flags |= NodeFlags::FAIL;
    bench.with(1, Cluster::update_state);
    assert!(bench.at(1).is_ok());
}

#[test]
fn two_of_four_masters_are_no_majority_and_three_are() {
    let mut bench = Bench::cluster(4, 0, 2000);
    suspect(&mut bench, 0, &[1], true);
    assert!(bench.at(0).is_ok());
    suspect(&mut bench, 0, &[2], true);
    assert!(!bench.at(0).is_ok());
}

#[test]
fn masters_without_slots_do_not_count() {
    let mut bench = Bench::cluster(4, 0, 2000);
    let (first, last) = bench::slots_of(3, 4);
    bench.ok(0, &format!("DELSLOTSRANGE {first} {last}"));
    bench.set(0, |settings| settings.require_full_coverage = false);
    suspect(&mut bench, 0, &[1, 3], true);
    assert!(bench.at(0).is_ok(), "two of three");
    assert_eq!(bench.at(0).state.size(), 3);
}

#[test]
fn a_starting_master_is_down_for_exactly_two_seconds() {
    let mut bench = Bench::cluster(3, 0, 15_000);
    bench.kill(0);
    bench.start(0);
    let started = bench.now_ms;
    bench.cron_at(0, started + 1999);
    assert!(!bench.at(0).is_ok());
    bench.cron_at(0, started + 2000);
    assert!(bench.at(0).is_ok());
}

#[test]
fn a_new_node_that_gets_all_slots_is_up_at_once() {
    let mut bench = Bench::strangers(1, 2000);
    assert!(!bench.at(0).is_ok());
    bench.ok(0, "ADDSLOTSRANGE 0 16383");
    bench.with(0, Cluster::update_state);
    assert!(bench.at(0).is_ok());
}

#[test]
fn the_rejoin_delay_is_the_node_timeout_between_half_a_second_and_five() {
    for (nt, delay) in [(300, 500), (2000, 2000), (9000, 5000)] {
        let mut bench = Bench::cluster(3, 0, nt);
        suspect(&mut bench, 0, &[1, 2], true);
        let minority = bench.now_ms;
        bench.now_ms = minority + delay - 1;
        suspect(&mut bench, 0, &[1, 2], false);
        assert!(!bench.at(0).is_ok(), "NT {nt}");
        bench.now_ms = minority + delay;
        bench.with(0, Cluster::update_state);
        assert!(bench.at(0).is_ok(), "NT {nt}");
    }
}

#[test]
fn a_replica_is_up_as_soon_as_it_sees_a_majority() {
    let mut bench = Bench::cluster(3, 1, 2000);
    suspect(&mut bench, 3, &[1, 2], true);
    assert!(!bench.at(3).is_ok());
    suspect(&mut bench, 3, &[1, 2], false);
    assert!(bench.at(3).is_ok());
}
