//! Epochs: who mints them, who yields, whose slots stay.
//!
//! | rule (REDIS-CLUSTER-FACTS 2.4, 2.7 to 2.9; FAILOVER-BUGS) | story |
//! |---|---|
//! | BUMPEPOCH acts unless mine is the greatest of all | `bumpepoch_..` |
//! | epochs that are heard only grow | `an_epoch_that_was_heard_never_falls` |
//! | equal epochs: the smaller id acts | `claims::two_masters_under_one_epoch_part_ways` |
//! | F-06: over the same slots not the one from the minority | `f06_..` |
//! | F-07: over the same slots not the elected one at once | `f07_..` |
//! | but at once against the master that it replaced, which waits | `a_master_that_was_replaced_..` |
//! | F-11, F-12: a demoted master names its heir | `f11_..`, `f12_..` |
//! | F-13: no circle of replicas | `f13_..` |
//! | slots that are not claimed any more are free | `a_slot_that_its_owner_..` |
//! | UPDATE | `an_update_..` |
//! | an emptied master follows the winner | `a_master_that_lost_everything_..` |

use std::collections::BTreeSet;

use super::super::bus::{Body, PacketType};
use super::bench::Bench;
use super::*;

const NT: u64 = 2000;

fn my_epoch(bench: &Bench, node: usize) -> u64 {
    bench.at(node).nodes.me().config_epoch
}

#[test]
fn bumpepoch_acts_unless_mine_is_the_greatest_epoch_of_all() {
    let mut bench = Bench::strangers(2, NT);
    assert_eq!(bench.command(0, "BUMPEPOCH"), Reply::Simple("BUMPED 1".to_owned()), "from nothing");
    assert_eq!(bench.command(0, "BUMPEPOCH"), Reply::Simple("STILL 1".to_owned()));
    bench.at_mut(0).current_epoch = 2;
    assert_eq!(bench.command(0, "BUMPEPOCH"), Reply::Simple("BUMPED 3".to_owned()), "the clock is ahead");
    bench.ok(1, "SET-CONFIG-EPOCH 7");
    bench.ok(1, &format!("MEET {} 6379", bench::ip_of(0)));
    bench.run(1000);
    assert_eq!(bench.command(0, "BUMPEPOCH"), Reply::Simple("BUMPED 8".to_owned()), "another is ahead");
    assert!(bench.nodes[0].file.is_empty() || !bench.nodes[0].file.contains("currentEpoch 8"));
    bench.run(5);
    assert!(bench.nodes[0].file.contains("vars currentEpoch 8"));
}

#[test]
fn an_epoch_that_was_heard_never_falls() {
    let mut bench = Bench::cluster(3, 0, NT);
    let id = bench.id(1);
    bench.ping(1, 0, |header| (header.current_epoch, header.config_epoch) = (50, 40));
    bench.ping(1, 0, |header| (header.current_epoch, header.config_epoch) = (45, 2));
    assert_eq!((bench.at(0).current_epoch, bench.view(0, id).config_epoch), (50, 40));
}

#[test]
fn a_collision_without_common_slots_is_the_smaller_ids_matter() {
    let mut bench = Bench::cluster(3, 0, NT);
    for (node, other) in [(0, 1), (1, 0)] {
        let before = my_epoch(&bench, node);
        bench.ping(other, node, |header| header.config_epoch = before);
        assert_eq!(my_epoch(&bench, node) != before, bench.id(node) < bench.id(other));
    }
}

/// Node `me`, a master, hears `other` claim its slots under its own epoch, in this state; whether it acts at once,
/// and after so long.
fn collide(bench: &mut Bench, me: usize, other: usize, their_state: u8, later_ms: u64) -> (bool, bool) {
    let (epoch, slots) = (my_epoch(bench, me), bench.at(me).nodes.me().slots.clone());
    let say = |bench: &mut Bench| {
        bench.ping(other, me, |header| {
            header.master = None;
            header.config_epoch = epoch;
            header.slots = slots.clone();
            header.state = their_state;
        });
        my_epoch(bench, me) > epoch
    };
    let at_once = say(bench);
    bench.now_ms += later_ms;
    (at_once, say(bench))
}

/// Of two masters the one with the smaller and the one with the greater id.
fn by_id(bench: &Bench) -> (usize, usize) {
    if bench.id(0) < bench.id(1) { (0, 1) } else { (1, 0) }
}

#[test]
fn f06_the_one_that_is_up_acts_whatever_its_id() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (smaller, greater) = by_id(&bench);
    assert!(collide(&mut bench, greater, smaller, 1, 0).0);
}

#[test]
fn f06_the_one_from_the_minority_waits_although_its_id_is_smaller() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (smaller, greater) = by_id(&bench);
    bench.at_mut(smaller).state = ClusterState::default();
    assert_eq!(collide(&mut bench, smaller, greater, 0, 2 * NT - 1), (false, false));
    assert_eq!(collide(&mut bench, smaller, greater, 0, 1), (false, true), "a peer of 7.0 would never act");
}

#[test]
fn f06_a_bump_in_a_minority_does_not_undo_a_takeover() {
    let mut bench = Bench::cluster(3, 1, NT);
    let (old, new) = (bench.id(0), bench.id(3));
    bench.set(3, |settings| settings.no_failover = true);
    bench.isolate(0);
    bench.until(NT * 3, "the isolated master is down", |b| !b.at(0).is_ok());
    bench.ok(3, "FAILOVER TAKEOVER");
    let epoch = my_epoch(&bench, 3);
    bench.at_mut(0).current_epoch = epoch - 1;
    bench.command(0, "BUMPEPOCH");
    assert_eq!(my_epoch(&bench, 0), epoch, "two masters of one shard under one epoch");
    bench.heal();
    bench.until(NT * 5, "one owner", |b| b.at(0).i_am_replica());
    bench.until(NT, "in every view", |b| {
        (1..6).all(|n| b.view(n, old).slots.is_empty() && b.view(n, new).slots.len() == 5461)
    });
}

#[test]
fn f07_an_elected_master_gives_an_importer_time_to_keep_its_slot() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (smaller, greater) = by_id(&bench);
    let epoch = my_epoch(&bench, smaller);
    bench.at_mut(smaller).elected_epoch = Some(epoch);
    assert_eq!(collide(&mut bench, smaller, greater, 0, 2 * NT - 1), (false, false));
    assert_eq!(collide(&mut bench, smaller, greater, 0, 1), (false, true));
    let mut bench = Bench::cluster(3, 0, NT);
    assert_eq!(collide(&mut bench, greater, smaller, 0, 999), (false, false), "the smaller id may act first");
    assert_eq!(collide(&mut bench, greater, smaller, 0, 1), (false, true), "it did not");
}

#[test]
fn f07_minted_epochs_over_the_same_slots_go_by_id_and_elected_ones_with_a_greater_id_never_act() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (smaller, greater) = by_id(&bench);
    assert!(collide(&mut bench, smaller, greater, 0, 0).0);
    let mut bench = Bench::cluster(3, 0, NT);
    let epoch = my_epoch(&bench, greater);
    bench.at_mut(greater).elected_epoch = Some(epoch);
    assert_eq!(collide(&mut bench, greater, smaller, 0, 20 * NT), (false, false));
}

/// As in storm 11206 on real processes: an importer is paused right after it took a new epoch, which nobody has heard, and its
/// replica is elected under the same one.
#[test]
fn a_master_that_was_replaced_while_it_slept_leaves_its_shard_to_the_elected_one_whatever_their_ids() {
    let mut sleeper_has_the_smaller_id = BTreeSet::new();
    for sleeper in 0..3 {
        let mut bench = Bench::cluster(3, 1, NT);
        let heir = sleeper + 3;
        bench.nodes[sleeper].paused = true;
        let minted = bench.with(sleeper, |cluster, _| cluster.mint_config_epoch());
        bench.until(NT * 4, "promotion", |b| !b.at(heir).i_am_replica());
        assert_eq!(my_epoch(&bench, heir), minted, "two masters of one shard under one epoch");
        bench.resume(sleeper);
        bench.until(NT / 4, "it follows its heir", |b| b.at(sleeper).i_am_replica());
        sleeper_has_the_smaller_id.insert(bench.id(sleeper) < bench.id(heir));
    }
    assert_eq!(sleeper_has_the_smaller_id.len(), 2);
}

/// As in storm 56801: the other one imports slot by slot, and each slot brings it a new epoch.
#[test]
fn who_takes_a_new_epoch_over_disputed_slots_says_so_at_once() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (smaller, greater) = by_id(&bench);
    bench.at_mut(greater).state = ClusterState::default();
    assert!(collide(&mut bench, smaller, greater, 1, 0).0);
    let (id, epoch) = (bench.id(smaller), my_epoch(&bench, smaller));
    bench.until(NT / 100, "all know", |b| {
        [greater, 2].iter().all(|node| b.view(*node, id).config_epoch == epoch)
    });
}

/// A peer that knows only the rule of the ids does nothing if it has the greater.
#[test]
fn a_replaced_master_with_the_smaller_id_acts_when_its_heir_did_not() {
    let mut bench = Bench::cluster(3, 1, NT);
    let sleeper = (0..3).find(|n| bench.id(*n) < bench.id(n + 3)).expect("one of three");
    assert_eq!(collide(&mut bench, sleeper, sleeper + 3, 0, 2 * NT - 1), (false, false));
    assert_eq!(collide(&mut bench, sleeper, sleeper + 3, 0, 1), (false, true));
}

#[test]
fn an_election_is_remembered_as_one_and_a_takeover_is_not() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.kill(0);
    bench.until(NT * 4, "promotion", |b| !b.at(3).i_am_replica());
    assert_eq!(bench.at(3).elected_epoch, Some(my_epoch(&bench, 3)));
    bench.ok(4, "FAILOVER TAKEOVER");
    assert_eq!(bench.at(4).elected_epoch, None);
}

#[test]
fn f11_a_demoted_master_that_is_heard_first_leaves_no_slot_without_owner() {
    let mut bench = Bench::cluster(3, 1, NT);
    // Only what the new master says to 1 is late.
    bench.held.insert((3, 1));
    let (old, new) = (bench.id(0), bench.id(3));
    bench.ok(3, "FAILOVER");
    bench.until(1500, "1 hears of the demotion", |b| b.view(1, old).is_replica());
    assert!(bench.at(1).is_ok() && bench.view(1, new).is_master());
    assert_eq!(bench.view(1, new).slots.len(), 5461);
    assert_eq!(bench.view(1, new).config_epoch, my_epoch(&bench, 3));
}

#[test]
fn f11_a_demoted_master_cannot_give_its_slots_to_another_shard() {
    let mut bench = Bench::cluster(3, 1, NT);
    let stranger = bench.id(2);
    bench.ping(0, 1, |header| header.master = Some(stranger));
    assert_eq!(bench.at(1).slots.owner(0), None, "as in the original: free until somebody claims it");
}

#[test]
fn f12_a_sibling_that_misses_the_promotion_follows_the_heir_all_the_same() {
    let mut bench = Bench::cluster(3, 2, NT);
    bench.held.insert((3, 6));
    let new = bench.id(3);
    bench.ok(3, "FAILOVER");
    bench.until(1500, "6 follows 3", |b| b.at(6).my_master() == b.at(6).nodes.find(&new));
}

#[test]
fn f13_no_words_make_a_circle_of_replicas() {
    let mut bench = Bench::cluster(3, 1, NT);
    let (old, heir) = (bench.id(0), bench.id(3));
    bench.ping(0, 1, |header| header.master = Some(heir));
    assert_eq!(bench.view(1, heir).master, None);
    assert!(bench.view(1, old).master.is_some() && bench.view(1, heir).is_master());
}

#[test]
fn a_slot_that_its_owner_does_not_claim_any_more_is_free_for_any_epoch() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (owner, taker) = (bench.id(2), bench.id(1));
    bench.ping(2, 0, |header| {
        header.slots.remove(16_000);
    });
    assert_eq!(
        bench.at(0).slots.owner(16_000),
        bench.at(0).nodes.find(&owner),
        "bound until somebody claims it"
    );
    let Body::Update { slots, .. } = bench.at(0).update_about(bench.at(0).nodes.find(&owner).unwrap()) else {
        panic!("no update")
    };
    assert!(!slots.contains(16_000) && slots.contains(16_001));
    bench.ping(1, 0, |header| {
        header.slots.insert(16_000);
    });
    assert_eq!(bench.at(0).slots.owner(16_000), bench.at(0).nodes.find(&taker));
}

#[test]
fn an_owner_that_claims_its_slot_again_holds_it_again() {
    let mut bench = Bench::cluster(3, 0, NT);
    let owner = bench.id(2);
    bench.ping(2, 0, |header| {
        header.slots.remove(16_000);
    });
    bench.ping(2, 0, |header| {
        header.slots.remove(16_001);
    });
    bench.ping(1, 0, |header| {
        header.slots.insert(16_000);
    });
    assert_eq!(bench.at(0).slots.owner(16_000), bench.at(0).nodes.find(&owner));
}

#[test]
fn a_claim_under_an_equal_epoch_takes_nothing() {
    for (more, taken) in [(0, false), (1, true)] {
        let mut bench = Bench::cluster(3, 0, NT);
        let (owner, taker) = (bench.id(2), bench.id(1));
        let epoch = bench.view(0, owner).config_epoch + more;
        bench.ping(1, 0, |header| {
            header.config_epoch = epoch;
            header.slots.insert(16_000);
        });
        let expected = if taken { taker } else { owner };
        assert_eq!(bench.at(0).slots.owner(16_000), bench.at(0).nodes.find(&expected));
    }
}

#[test]
fn a_replicas_header_claims_nothing_for_it_and_is_corrected() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.record = true;
    bench.ping(3, 1, |header| {
        header.config_epoch = 1;
        header.slots.insert(16_000);
    });
    assert_eq!(bench.at(1).slots.owner(16_000), bench.at(1).nodes.find(&bench.id(2)));
    assert_eq!(bench.sent(1, PacketType::Update).len(), 1);
}

#[test]
fn an_update_about_myself_or_a_stranger_is_ignored() {
    let mut bench = Bench::cluster(3, 0, NT);
    let me = bench.id(0);
    let stranger = NodeId::random(&mut crate::random::Random::seeded(5));
    for node in [me, stranger] {
        bench.inject(1, 0, |packet| {
            packet.body = Body::Update { node: Some(node), config_epoch: 90, slots: SlotBitmap::new() };
        });
    }
    assert_eq!((my_epoch(&bench, 0), bench.at(0).slots.owner(0)), (1, Some(MYSELF)));
    assert_eq!(bench.at(0).nodes.len(), 3);
}

#[test]
fn an_update_makes_a_replica_a_master_and_moves_the_clock() {
    let mut bench = Bench::cluster(3, 1, NT);
    let replica = bench.id(3);
    let slots = bench.at(0).nodes.me().slots.clone();
    bench.inject(2, 1, |packet| {
        packet.body = Body::Update { node: Some(replica), config_epoch: 60, slots };
    });
    let node = bench.view(1, replica);
    assert!(node.is_master() && node.slots.len() == 5461 && node.config_epoch == 60);
    assert_eq!(bench.at(1).current_epoch, 60);
}

/// Node 0 loses all it has to node 1, which claims `more` slots beside; did it become a replica?
fn emptied(allow_migration: bool, only_mine: bool) -> bool {
    let mut bench = Bench::cluster(3, 0, NT);
    bench.set(0, |settings| settings.allow_replica_migration = allow_migration);
    let mine = bench.at(0).nodes.me().slots.clone();
    bench.ping(1, 0, |header| {
        (header.current_epoch, header.config_epoch) = (80, 80);
        if only_mine {
            header.slots = mine;
        } else {
            for slot in mine.iter() {
                header.slots.insert(slot);
            }
        }
    });
    bench.at(0).i_am_replica()
}

#[test]
fn a_master_that_lost_everything_follows_the_winner_if_it_may_or_if_that_is_its_heir() {
    assert!(emptied(true, false));
    assert!(!emptied(false, false), "with migration off another shard is not joined");
    assert!(emptied(false, true), "the winner has just my slots: it is my shard");
}

#[test]
fn a_master_that_lost_a_part_stays() {
    let mut bench = Bench::cluster(3, 0, NT);
    bench.ping(1, 0, |header| {
        (header.current_epoch, header.config_epoch) = (80, 80);
        for slot in 1..5461 {
            header.slots.insert(slot);
        }
    });
    assert!(!bench.at(0).i_am_replica() && bench.at(0).nodes.me().slots.len() == 1);
}

#[test]
fn a_replica_follows_the_winner_of_its_masters_slots() {
    let mut bench = Bench::cluster(3, 1, NT);
    let winner = bench.id(1);
    let lost = bench.at(0).nodes.me().slots.clone();
    bench.ping(1, 3, |header| {
        (header.current_epoch, header.config_epoch) = (80, 80);
        for slot in lost.iter() {
            header.slots.insert(slot);
        }
    });
    assert_eq!(bench.at(3).my_master(), bench.at(3).nodes.find(&winner));
}

#[test]
fn a_claim_under_the_owners_own_epoch_is_not_corrected() {
    let mut bench = Bench::cluster(3, 0, NT);
    bench.record = true;
    for (less, updates) in [(0, 0), (1, 1)] {
        let epoch = bench.view(0, bench.id(2)).config_epoch - less;
        bench.ping(1, 0, |header| {
            header.config_epoch = epoch;
            header.slots.insert(16_000);
        });
        assert_eq!(bench.sent(0, PacketType::Update).len(), updates);
    }
}

/// Node 1 takes slot 1 of node 0.
fn take_slot_1(bench: &mut Bench) {
    bench.ping(1, 0, |header| {
        (header.current_epoch, header.config_epoch) = (80, 80);
        header.slots.insert(1);
    });
}

#[test]
fn a_slot_that_was_taken_is_not_migrating_any_more() {
    let mut bench = Bench::cluster(3, 0, NT);
    let to = bench.id(2);
    bench.ok(0, &format!("SETSLOT 1 MIGRATING {to}"));
    take_slot_1(&mut bench);
    assert!(bench.at(0).slots.migrating.is_empty());
}

#[test]
fn what_was_taken_from_me_is_on_disk_before_i_stop_claiming_it() {
    let mut bench = Bench::cluster(3, 0, NT);
    bench.run(10);
    bench.nodes[0].disk_fails = true;
    bench.record = true;
    take_slot_1(&mut bench);
    bench.run(NT);
    assert!(bench.wire_log.iter().filter(|s| s.from == 0).all(|s| s.packet.header.slots.contains(1)));
    bench.nodes[0].disk_fails = false;
    bench.until(NT, "said", |b| {
        b.sent(0, PacketType::Ping).iter().any(|s| !s.packet.header.slots.contains(1))
    });
}

#[test]
fn a_new_epoch_is_above_every_epoch_that_is_known() {
    let mut bench = Bench::cluster(3, 0, NT);
    let id = bench.id(1);
    bench.view_mut(0, id).config_epoch = 40;
    assert_eq!(bench.command(0, "BUMPEPOCH"), Reply::Simple("BUMPED 41".to_owned()));
}

#[test]
fn a_free_slot_that_was_taken_is_free_no_longer() {
    let mut bench = Bench::cluster(3, 0, NT);
    let taker = bench.id(1);
    bench.ping(2, 0, |header| {
        header.slots.remove(16_000);
    });
    bench.ping(1, 0, |header| {
        header.slots.insert(16_000);
    });
    let epoch = bench.view(0, taker).config_epoch;
    bench.ping(2, 0, |header| header.config_epoch = epoch);
    assert_eq!(bench.at(0).slots.owner(16_000), bench.at(0).nodes.find(&taker));
}

#[test]
fn a_new_master_with_its_first_slot_may_be_lent_a_replica_where_replicas_are_used() {
    for replicas in [0, 1] {
        let mut bench = Bench::cluster(3, replicas, NT);
        let (last, _) = bench::slots_of(2, 3);
        let (from, to) = (bench.id(2), bench.id(0));
        bench.ok(0, "DELSLOTSRANGE 0 5460");
        bench.at_mut(0).nodes.me_mut().flags.set(NodeFlags::MIGRATE_TO, false);
        bench.ok(0, &format!("SETSLOT {last} IMPORTING {from}"));
        bench.ok(0, &format!("SETSLOT {last} NODE {to}"));
        assert_eq!(bench.at(0).nodes.me().flags.any(NodeFlags::MIGRATE_TO), replicas == 1);
    }
}

#[test]
fn f51_a_replicas_stored_epoch_does_not_block_newer_news() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.run(10);
    let (sibling, master) = (bench.id(3), bench.view(1, bench.id(0)).config_epoch);
    bench.kill(1);
    bench.start(1);
    assert_eq!(bench.view(1, sibling).config_epoch, 0);
    assert_eq!(bench.view(1, bench.id(0)).config_epoch, master);
}

#[test]
fn a_file_whose_clock_is_behind_its_epochs_is_read_with_the_greatest_of_them() {
    let mut bench = Bench::cluster(3, 0, NT);
    bench.run(10);
    bench.kill(0);
    let file = bench.nodes[0].file.clone();
    let vars = file.lines().last().unwrap();
    bench.nodes[0].file = file.replace(vars, "vars currentEpoch 1 lastVoteEpoch 0");
    bench.start(0);
    assert_eq!(bench.at(0).current_epoch, 3);
}
