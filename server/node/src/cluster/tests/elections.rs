//! The candidate's side of an election, and the voter's clock, from both sides of each boundary.
//!
//! | rule (REDIS-CLUSTER-FACTS 2.11, 2.12) | story |
//! |---|---|
//! | data age: 10 s + NT * factor (+ NT while down) | `data_may_be_as_old_as_the_factor_says` |
//! | delay 500..999 ms + 1000 per rank | `the_delay_..` |
//! | rank = siblings with more bytes that may run | `only_siblings_with_more_bytes_..` |
//! | the attempt ends after max(2 NT, 2 s) | `votes_that_come_too_late_..` |
//! | the next one after twice that | `a_failed_attempt_is_repeated_..` |
//! | nofailover | `a_replica_that_may_not_run_..` |
//! | vote spacing 2 NT | `a_vote_for_the_same_shard_..` |

use super::super::bus::{Body, PacketType};
use super::bench::Bench;
use super::*;

const NT: u64 = 2000;

/// Node 0 is dead and everyone knows; its replicas 3 (and 6 of two each) have not reacted yet.
fn failed_master(replicas_each: usize) -> Bench {
    let mut bench = Bench::original(3, replicas_each, NT);
    let old = bench.id(0);
    bench.kill(0);
    bench.run(5);
    let at = bench.mono();
    for node in 1..3 + 3 * replicas_each {
        let node = bench.view_mut(node, old);
        node.flags |= NodeFlags::FAIL;
        node.fail_time = Some(at);
    }
    bench
}

fn is_scheduled(bench: &Bench, node: usize) -> bool {
    bench.logged(node, "Start of election delayed")
}

#[test]
fn data_may_be_as_old_as_the_factor_says() {
    // Down for age: (age - NT) against 10 s + NT * factor.
    let limit = 10_000 + NT * 3 + NT;
    for (age, runs) in [(limit, true), (limit + 1, false)] {
        let mut bench = failed_master(1);
        bench.set(3, |settings| settings.validity_factor = 3);
        bench.nodes[3].replicates = None;
        let since = bench.mono();
        bench.nodes[3].facts.link = Some(MasterLink::Down { since: Some(since) });
        let at = bench.now_ms + age;
        bench.cron_at(3, at);
        assert_eq!(is_scheduled(&bench, 3), runs, "{age} ms");
    }
}

#[test]
fn a_link_that_is_up_ages_by_its_last_byte() {
    let limit = 10_000 + NT * 3 + NT;
    for (age, runs) in [(limit, true), (limit + 1, false)] {
        let mut bench = failed_master(1);
        bench.set(3, |settings| settings.validity_factor = 3);
        bench.nodes[3].replicates = None;
        let last_io = bench.mono();
        bench.nodes[3].facts.link = Some(MasterLink::Up { last_io });
        let at = bench.now_ms + age;
        bench.cron_at(3, at);
        assert_eq!(is_scheduled(&bench, 3), runs, "{age} ms");
    }
}

#[test]
fn only_siblings_with_more_bytes_that_may_run_go_before_me() {
    for (theirs, nofailover, rank) in [(100, false, 0), (101, false, 1), (101, true, 0)] {
        let mut bench = failed_master(2);
        bench.nodes[3].replicates = None;
        bench.nodes[3].facts.offset = 100;
        let sibling = bench.id(6);
        let node = bench.view_mut(3, sibling);
        node.repl_offset = theirs;
        node.flags.set(NodeFlags::NOFAILOVER, nofailover);
        let now = bench.now_ms;
        bench.cron_at(3, now);
        assert!(bench.logged(3, &format!("(rank #{rank}, offset 100)")), "{theirs} {nofailover}");
    }
}

#[test]
fn a_replica_that_may_not_run_does_so_only_by_hand() {
    let mut bench = failed_master(1);
    bench.set(3, |settings| settings.no_failover = true);
    bench.run(NT * 5);
    assert!(!is_scheduled(&bench, 3));
    bench.ok(3, "FAILOVER FORCE");
    bench.until(500, "promotion", |b| !b.at(3).i_am_replica());
}

/// Replica 3 has asked for votes that nobody gave; when its turn came.
fn asked_in_vain() -> (Bench, u64) {
    let mut bench = failed_master(1);
    for voter in [1, 2] {
        bench.lost_types.insert((3, voter, PacketType::AuthRequest as u16));
    }
    bench.until(3000, "it asks", |b| b.logged(3, "Starting a failover election"));
    let at = bench.at(3).election.scheduled().unwrap().ms();
    (bench, at)
}

fn vote(bench: &mut Bench) {
    let epoch = bench.at(3).current_epoch;
    for voter in [1, 2] {
        bench.inject(voter, 3, |packet| {
            packet.body = Body::AuthAck;
            packet.header.current_epoch = epoch;
        });
    }
}

#[test]
fn votes_that_come_too_late_promote_nobody() {
    for (late, promoted) in [(2 * NT, true), (2 * NT + 1, false)] {
        let (mut bench, at) = asked_in_vain();
        bench.now_ms = at + late;
        vote(&mut bench);
        assert_eq!(!bench.at(3).i_am_replica(), promoted, "{late} ms");
    }
}

#[test]
fn a_failed_attempt_is_repeated_after_four_node_timeouts() {
    let (mut bench, at) = asked_in_vain();
    let epoch = bench.at(3).current_epoch;
    let attempts = |b: &Bench| b.nodes[3].log.iter().filter(|(_, l)| l.contains("Start of election")).count();
    bench.cron_at(3, at + 4 * NT);
    assert_eq!(attempts(&bench), 1);
    bench.cron_at(3, at + 4 * NT + 1);
    assert_eq!(attempts(&bench), 2);
    bench.lost_types.clear();
    bench.until(3000, "promotion", |b| !b.at(3).i_am_replica());
    assert!(bench.at(3).nodes.me().config_epoch > epoch, "a new attempt has a new epoch");
}

#[test]
fn a_vote_for_the_same_shard_is_given_again_after_exactly_two_node_timeouts() {
    let mut bench = failed_master(1);
    bench.set(3, |settings| settings.no_failover = true);
    bench.record = true;
    let ask = |bench: &mut Bench| {
        let epoch = bench.at(1).current_epoch + 1;
        bench.inject(3, 1, |packet| packet.header.current_epoch = epoch);
        bench.at(1).last_vote_epoch == epoch
    };
    assert!(ask(&mut bench));
    let voted = bench.now_ms;
    bench.now_ms = voted + 2 * NT - 1;
    assert!(!ask(&mut bench));
    bench.now_ms = voted + 2 * NT;
    assert!(ask(&mut bench));
}

#[test]
fn a_candidate_needs_a_shard_with_slots() {
    let mut bench = failed_master(1);
    bench.ok(3, "DELSLOTSRANGE 0 5460");
    bench.run(NT * 3);
    assert!(!is_scheduled(&bench, 3));
}

#[test]
fn replicas_of_the_same_master_are_told_my_offset_when_an_election_begins() {
    let mut bench = failed_master(2);
    bench.record = true;
    let now = bench.now_ms;
    bench.cron_at(3, now);
    let told: Vec<usize> = bench.sent(3, PacketType::Pong).iter().map(|seen| seen.to).collect();
    assert_eq!(told, [6]);
}

#[test]
fn siblings_follow_the_one_that_was_elected() {
    let mut bench = failed_master(2);
    bench.until(6000, "promotion", |b| !b.at(3).i_am_replica() || !b.at(6).i_am_replica());
    let (new, sibling) = if bench.at(3).i_am_replica() { (6, 3) } else { (3, 6) };
    let id = bench.id(new);
    bench.until(1000, "it follows", |b| b.at(sibling).my_master() == b.at(sibling).nodes.find(&id));
}

#[test]
fn a_promotion_is_told_to_everyone_at_once_but_not_before_it_is_on_disk() {
    let (mut bench, _) = asked_in_vain();
    bench.run(10);
    bench.nodes[3].disk_fails = true;
    bench.record = true;
    vote(&mut bench);
    assert!(!bench.at(3).i_am_replica());
    bench.run(50);
    assert!(bench.wire_log.iter().all(|seen| seen.from != 3 || seen.packet.header.master.is_some()));
    bench.nodes[3].disk_fails = false;
    let new = bench.id(3);
    bench.until(200, "everyone knows", |b| [1, 2, 4, 5].iter().all(|n| b.view(*n, new).slots.len() == 5461));
}

#[test]
fn a_promotion_is_heard_within_a_few_milliseconds() {
    let (mut bench, _) = asked_in_vain();
    let new = bench.id(3);
    vote(&mut bench);
    bench.run(5);
    assert!([1, 2, 4, 5].iter().all(|n| bench.view(*n, new).slots.len() == 5461));
}

#[test]
fn f01_an_election_ends_with_the_promotion_and_with_another_master() {
    let (mut bench, _) = asked_in_vain();
    vote(&mut bench);
    assert_eq!(bench.at(3).election.scheduled(), None);
    let (mut bench, _) = asked_in_vain();
    let other = bench.id(1);
    bench.ok(3, &format!("REPLICATE {other}"));
    assert_eq!(bench.at(3).election.scheduled(), None);
}

#[test]
fn a_promoted_replica_may_be_lent_a_replica() {
    let mut bench = failed_master(1);
    for replica in [4, 5] {
        let id = bench.id(replica);
        bench.ok(1, &format!("FORGET {id}"));
    }
    let new = bench.id(3);
    bench.ping(3, 1, |header| {
        header.master = None;
        header.slots = SlotBitmap::new();
    });
    assert!(bench.view(1, new).flags.any(NodeFlags::MIGRATE_TO));
}

#[test]
fn only_masters_with_slots_vote() {
    let (mut bench, _) = asked_in_vain();
    let epoch = bench.at(3).current_epoch;
    let slotless = bench.id(2);
    let (first, last) = bench::slots_of(2, 3);
    bench.ok(3, &format!("DELSLOTSRANGE {first} {last}"));
    for voter in [4, 5, 2] {
        bench.inject(voter, 3, |packet| {
            packet.body = Body::AuthAck;
            packet.header.current_epoch = epoch;
        });
    }
    assert!(bench.view(3, slotless).is_master() && bench.at(3).i_am_replica());
    assert_eq!(bench.at(3).election.votes_for_tests(), 0);
}
