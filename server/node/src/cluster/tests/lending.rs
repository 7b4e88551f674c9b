//! Replica migration: a shard with replicas to spare lends one to a shard that lost its last.
//!
//! | rule (REDIS-CLUSTER-FACTS 2.14) | story |
//! |---|---|
//! | orphaned for more than 5000 ms | `an_orphan_waits_five_seconds_..` |
//! | the lender keeps more than the barrier | `a_master_keeps_as_many_as_the_barrier_says` |
//! | of the richest masters' replicas the smallest id goes | `of_all_who_could_go_..` |
//! | directive and state | `nobody_goes_..` |
//! | only a master that has or had replicas is an orphan | `a_master_that_never_had_a_replica_..` |

use super::bench::Bench;
use super::*;

const NT: u64 = 2000;

/// Three masters with two replicas each; both of master 1's have failed in the eyes of everyone else.
fn orphan() -> Bench {
    let mut bench = Bench::cluster(3, 2, NT);
    orphan_1(&mut bench);
    bench
}

fn orphan_1(bench: &mut Bench) {
    let count = bench.nodes.len();
    let (dead, alive): (Vec<usize>, Vec<usize>) = (0..count).partition(|node| *node > 3 && node % 3 == 1);
    for node in &dead {
        bench.kill(*node);
    }
    for at in alive {
        // The stories jump in time; nobody is to be suspected for that.
        bench.set(at, |settings| settings.node_timeout_ms = 600_000);
        for node in &dead {
            fail(bench, at, *node);
        }
    }
}

fn fail(bench: &mut Bench, at: usize, node: usize) {
    let id = bench.id(node);
    bench.view_mut(at, id).flags |= NodeFlags::FAIL;
}

/// Of 3, 5, 6 and 8 the one with the smallest id, and another one.
fn lender(bench: &Bench) -> (usize, usize) {
    let mut by_id = [3, 5, 6, 8];
    by_id.sort_by_key(|node| bench.id(*node));
    (by_id[0], by_id[1])
}

fn went(bench: &Bench, node: usize) -> bool {
    bench.at(node).my_master() == bench.at(node).nodes.find(&bench.id(1))
}

/// The orphan is seen, and once more so much later.
fn watch(bench: &mut Bench, node: usize, ms: u64) -> bool {
    let now = bench.now_ms;
    bench.cron_at(node, now);
    bench.cron_at(node, now + ms);
    went(bench, node)
}

#[test]
fn an_orphan_waits_five_seconds_and_one_millisecond() {
    let mut bench = orphan();
    let (node, _) = lender(&bench);
    assert!(!watch(&mut bench, node, 5000));
    let mut bench = orphan();
    assert!(watch(&mut bench, node, 5001));
}

#[test]
fn of_all_who_could_go_the_smallest_id_goes() {
    let mut bench = orphan();
    let (_, other) = lender(&bench);
    assert!(!watch(&mut bench, other, 5001));
}

#[test]
fn a_master_keeps_as_many_as_the_barrier_says() {
    let mut bench = orphan();
    let (node, _) = lender(&bench);
    bench.set(node, |settings| settings.migration_barrier = 2);
    assert!(!watch(&mut bench, node, 5001));
    let mut bench = orphan();
    bench.set(node, |settings| settings.migration_barrier = 1);
    assert!(watch(&mut bench, node, 5001));
}

#[test]
fn nobody_goes_if_the_directive_forbids_it_or_the_cluster_is_down() {
    let mut bench = orphan();
    let (node, _) = lender(&bench);
    bench.set(node, |settings| settings.allow_replica_migration = false);
    assert!(!watch(&mut bench, node, 5001));
    let mut bench = orphan();
    bench.ok(node, "DELSLOTS 0");
    assert!(!watch(&mut bench, node, 5001));
}

#[test]
fn a_master_that_never_had_a_replica_is_no_orphan() {
    let mut bench = orphan();
    let (node, _) = lender(&bench);
    let id = bench.id(1);
    bench.view_mut(node, id).flags.set(NodeFlags::MIGRATE_TO, false);
    assert!(!watch(&mut bench, node, 5001));
}

#[test]
fn an_orphan_without_slots_or_that_failed_gets_nobody() {
    let mut bench = orphan();
    let (node, _) = lender(&bench);
    let id = bench.id(1);
    bench.view_mut(node, id).flags |= NodeFlags::FAIL;
    bench.set(node, |settings| settings.require_full_coverage = false);
    assert!(!watch(&mut bench, node, 5001));
}

#[test]
fn a_wait_that_was_interrupted_begins_again() {
    let mut bench = orphan();
    let (node, _) = lender(&bench);
    assert!(!watch(&mut bench, node, 4000));
    let id = bench.id(4);
    bench.view_mut(node, id).flags.set(NodeFlags::FAIL, false);
    let now = bench.now_ms;
    bench.cron_at(node, now + 100);
    bench.view_mut(node, id).flags |= NodeFlags::FAIL;
    assert!(!watch(&mut bench, node, 4000));
}

#[test]
fn a_shard_with_one_replica_lends_none_whatever_the_barrier() {
    let mut bench = Bench::cluster(3, 1, NT);
    orphan_1(&mut bench);
    for node in [3, 5] {
        bench.set(node, |settings| settings.migration_barrier = 0);
        assert!(!watch(&mut bench, node, 5001));
    }
}

#[test]
fn only_the_richest_shard_lends() {
    let mut bench = Bench::cluster(3, 3, NT);
    orphan_1(&mut bench);
    let smallest = [3, 5, 6, 8, 9, 11].into_iter().min_by_key(|node| bench.id(*node)).unwrap();
    let sibling = if smallest + 3 < 12 { smallest + 3 } else { smallest - 3 };
    fail(&mut bench, smallest, sibling);
    assert!(!watch(&mut bench, smallest, 5001), "its shard has two left, another one three");
}
