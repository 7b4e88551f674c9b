//! Slots change hands: by epoch, by UPDATE, by hand.
//!
//! | rule (REDIS-CLUSTER-FACTS 2.7, 2.15, 5.4, 5.6) | story |
//! |---|---|
//! | the greater epoch takes, others are corrected | `a_stronger_claim_..`, `a_weaker_or_equal_claim_..` |
//! | SETSLOT NODE: only the end of an import mints an epoch | `a_slot_moves_..`, `a_slot_given_to_me_..` |
//! | the last slot | `a_master_that_gives_its_last_slot_..`, `..may_not_migrate_stays` |
//! | open slots end with ADDSLOTS, STABLE, a role change | `open_slots_..` |
//! | DELSLOTS and FLUSHSLOTS tell shard subscribers | `slots_that_are_dropped_..` |

use super::super::bus::Body;
use super::bench::{Bench, slots_of};
use super::*;

const NT: u64 = 2000;

#[test]
fn two_masters_under_one_epoch_part_ways() {
    let mut bench = Bench::strangers(2, NT);
    for (node, slots) in [(0, "0 8191"), (1, "8192 16383")] {
        bench.ok(node, &format!("ADDSLOTSRANGE {slots}"));
        bench.ok(node, "SET-CONFIG-EPOCH 1");
    }
    bench.ok(1, "MEET 127.22.0.1 6379");
    bench.run(NT * 3);
    let epochs: Vec<u64> = (0..2).map(|n| bench.at(n).nodes.me().config_epoch).collect();
    let smaller = usize::from(bench.id(1) < bench.id(0));
    assert_eq!(epochs[1 - smaller], 1, "the greater id keeps its epoch");
    assert_eq!(epochs[smaller], 2, "the smaller id takes the next");
}

#[test]
fn a_stronger_claim_takes_a_slot_and_its_keys_are_deleted_for_replicas_too() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.nodes[0].facts.keys.insert(100, 3);
    let epoch = bench.at(1).current_epoch + 5;
    bench.inject(1, 0, |packet| {
        packet.body = Body::Ping { kind: bus::PingKind::Ping, gossip: vec![], extensions: vec![] };
        packet.header.current_epoch = epoch;
        packet.header.config_epoch = epoch;
        packet.header.slots.insert(100);
    });
    let owner = bench.at(0).slots.owner(100);
    assert_eq!(owner, bench.at(0).nodes.find(&bench.id(1)));
    assert!(bench.nodes[0].seen.contains(&Action::DeleteSlotKeys { slot: 100 }));
    assert!(bench.told_that_it_left(0, 100));
    assert_eq!(bench.at(0).slots.owner(99), Some(MYSELF));
}

#[test]
fn a_weaker_or_equal_claim_changes_nothing_and_is_answered_with_an_update() {
    let mut bench = Bench::cluster(3, 0, NT);
    bench.record = true;
    let owner = bench.id(2);
    let (slot, _) = slots_of(2, 3);
    // Node 0 has epoch 1, the owner has 3.
    bench.inject(0, 1, |packet| {
        packet.body = Body::Ping { kind: bus::PingKind::Ping, gossip: vec![], extensions: vec![] };
        packet.header.slots.insert(slot);
    });
    bench.run(5);
    assert_eq!(bench.at(1).slots.owner(slot), bench.at(1).nodes.find(&owner));
    let told = bench.sent(1, bus::PacketType::Update);
    assert!(matches!(&told[..], [s] if s.to == 0
            && matches!(&s.packet.body, Body::Update { node: Some(id), .. } if *id == owner)));
}

#[test]
fn an_update_teaches_a_new_owner_only_if_it_is_newer() {
    let mut bench = Bench::cluster(3, 0, NT);
    let subject = bench.id(2);
    let epoch = bench.view(1, subject).config_epoch;
    let tell = |bench: &mut Bench, config_epoch: u64| {
        bench.inject(0, 1, |packet| {
            let mut slots = packet.header.slots.clone();
            slots.insert(slots_of(2, 3).0);
            packet.body = Body::Update { node: Some(subject), config_epoch, slots };
        });
        bench.at(1).slots.owner(0) == bench.at(1).nodes.find(&subject)
    };
    assert!(!tell(&mut bench, epoch));
    assert!(tell(&mut bench, epoch + 1));
}

#[test]
fn an_importing_slot_is_not_rebound_by_claims() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (slot, _) = slots_of(2, 3);
    let source = bench.id(2);
    bench.ok(1, &format!("SETSLOT {slot} IMPORTING {source}"));
    let epoch = bench.at(1).current_epoch + 1;
    bench.inject(0, 1, |packet| {
        packet.body = Body::Ping { kind: bus::PingKind::Ping, gossip: vec![], extensions: vec![] };
        packet.header.current_epoch = epoch;
        packet.header.config_epoch = epoch;
        packet.header.slots.insert(slot);
    });
    assert_eq!(bench.at(1).slots.owner(slot), bench.at(1).nodes.find(&source));
}

#[test]
fn a_slot_moves_as_redis_cli_moves_it() {
    let mut bench = Bench::cluster(3, 1, NT);
    let (from, to, slot) = (bench.id(0), bench.id(1), 7);
    bench.nodes[0].facts.keys.insert(slot, 1);
    bench.ok(1, &format!("SETSLOT {slot} IMPORTING {from}"));
    bench.ok(0, &format!("SETSLOT {slot} MIGRATING {to}"));
    let text = bench.nodes_text(0);
    assert!(text.contains(&format!("[{slot}->-{to}]")), "{text}");
    let held = bench.command(0, &format!("SETSLOT {slot} NODE {to}"));
    assert_eq!(
        held,
        Reply::err("Can't assign hashslot 7 to a different node while I still hold keys for this hash slot.")
    );
    bench.nodes[0].facts.keys.clear();
    let before = bench.at(1).current_epoch;
    bench.ok(1, &format!("SETSLOT {slot} NODE {to}"));
    bench.ok(0, &format!("SETSLOT {slot} NODE {to}"));
    assert_eq!(bench.at(1).nodes.me().config_epoch, before + 1, "the new owner has the greatest epoch");
    bench.until(100, "all know", |b| (0..6).all(|n| b.at(n).slots.owner(slot) == b.at(n).nodes.find(&to)));
    assert!(!bench.nodes_text(0).contains('['));
}

#[test]
fn a_master_that_gives_its_last_slot_away_follows_the_taker() {
    let mut bench = Bench::cluster(3, 1, NT);
    let to = bench.id(1);
    bench.ok(0, "DELSLOTSRANGE 1 5460");
    bench.ok(0, &format!("SETSLOT 0 NODE {to}"));
    assert!(bench.at(0).i_am_replica());
}

#[test]
fn an_orphaned_master_is_lent_a_replica() {
    let mut bench = Bench::cluster(3, 2, NT);
    // Replicas of 0 are 3 and 6. Master 1 loses both of its own.
    bench.kill(4);
    bench.kill(7);
    let orphan = bench.id(1);
    bench.until(30_000, "a replica moved", |b| {
        [3, 5, 6, 8].iter().any(|n| b.at(*n).my_master() == b.at(*n).nodes.find(&orphan))
    });
    bench.run(10_000);
    let moved =
        [3, 5, 6, 8].into_iter().filter(|n| bench.at(*n).my_master() == bench.at(*n).nodes.find(&orphan));
    assert_eq!(moved.count(), 1, "one is enough");
}

#[test]
fn keys_found_after_loading_open_their_slots() {
    let mut bench = Bench::cluster(3, 0, NT);
    let other = slots_of(1, 3).0;
    bench.nodes[0].facts.keys = [(other, 1), (0, 2)].into();
    bench.with(0, super::super::Cluster::data_loaded);
    assert_eq!(bench.at(0).slots.importing.keys().copied().collect::<Vec<_>>(), [other]);
}

#[test]
fn a_slot_given_to_me_without_an_import_costs_no_epoch() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (me, other) = (bench.id(0), bench.id(1));
    bench.ok(0, &format!("SETSLOT 6000 NODE {me}"));
    assert_eq!((bench.at(0).nodes.me().config_epoch, bench.at(0).slots.owner(6000)), (1, Some(MYSELF)));
    bench.ok(0, &format!("SETSLOT 6001 IMPORTING {other}"));
    bench.ok(0, &format!("SETSLOT 6001 NODE {other}"));
    assert_eq!(bench.at(0).nodes.me().config_epoch, 1);
}

#[test]
fn the_end_of_an_import_is_told_at_once_and_only_after_it_is_on_disk() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (me, other) = (bench.id(0), bench.id(1));
    bench.ok(0, &format!("SETSLOT 6000 IMPORTING {other}"));
    bench.run(50);
    bench.nodes[0].disk_fails = true;
    bench.record = true;
    bench.ok(0, &format!("SETSLOT 6000 NODE {me}"));
    bench.run(50);
    assert!(bench.sent(0, bus::PacketType::Pong).iter().all(|s| !s.packet.header.slots.contains(6000)));
    bench.nodes[0].disk_fails = false;
    bench.until(500, "all know", |b| (1..3).all(|n| b.at(n).slots.owner(6000) == b.at(n).nodes.find(&me)));
}

#[test]
fn a_master_that_gives_its_last_slot_away_and_may_not_migrate_stays() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.set(0, |settings| settings.allow_replica_migration = false);
    let to = bench.id(1);
    bench.ok(0, "DELSLOTSRANGE 1 5460");
    bench.ok(0, &format!("SETSLOT 0 NODE {to}"));
    assert!(!bench.at(0).i_am_replica());
}

#[test]
fn the_last_slot_but_one_changes_no_role() {
    let mut bench = Bench::cluster(3, 1, NT);
    let to = bench.id(1);
    bench.ok(0, "DELSLOTSRANGE 2 5460");
    bench.ok(0, &format!("SETSLOT 0 NODE {to}"));
    assert!(!bench.at(0).i_am_replica());
}

#[test]
fn open_slots_end_with_addslots_with_stable_and_with_a_role_change() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (other, third) = (bench.id(1), bench.id(2));
    bench.ok(0, "DELSLOTS 6000");
    bench.ok(0, &format!("SETSLOT 6000 IMPORTING {other}"));
    bench.ok(0, "ADDSLOTS 6000");
    assert!(bench.at(0).slots.importing.is_empty());
    bench.ok(0, &format!("SETSLOT 6001 IMPORTING {other}"));
    bench.ok(0, &format!("SETSLOT 1 MIGRATING {other}"));
    bench.ok(0, "SETSLOT 6001 STABLE");
    bench.ok(0, "SETSLOT 1 STABLE");
    assert!(bench.at(0).slots.importing.is_empty() && bench.at(0).slots.migrating.is_empty());
    bench.ok(0, &format!("SETSLOT 6001 IMPORTING {other}"));
    bench.ok(0, "FLUSHSLOTS");
    bench.ok(0, &format!("REPLICATE {third}"));
    assert!(bench.at(0).slots.importing.is_empty());
    assert!(bench.nodes[0].seen.contains(&Action::UnblockClients));
}

#[test]
fn a_forgotten_peer_closes_the_slots_that_were_open_towards_it() {
    let mut bench = Bench::cluster(4, 0, NT);
    let peer = bench.id(3);
    bench.ok(0, &format!("SETSLOT 1 MIGRATING {peer}"));
    bench.ok(0, &format!("SETSLOT 16000 IMPORTING {peer}"));
    bench.ok(0, &format!("FORGET {peer}"));
    assert!(bench.at(0).slots.importing.is_empty() && bench.at(0).slots.migrating.is_empty());
}

#[test]
fn a_slot_that_an_older_word_left_out_is_claimed_again_by_the_next() {
    // An operator told C that B has slot 100; then C reads B's words from before, and its present ones. (7.0.15 takes the slot
    // for free from then on: it looks at single slots only if the whole bitmap differs from what it knows.)
    let mut bench = Bench::cluster(3, 0, NT);
    let (a, b) = (bench.id(0), bench.id(1));
    for node in [1, 2, 0] {
        bench.ok(node, &format!("SETSLOT 100 NODE {b}"));
    }
    bench.ping(1, 2, |header| {
        header.slots.remove(100);
    });
    assert!(bench.at(2).slots.is_unclaimed(100), "for a moment");
    bench.ping(1, 2, |_| {});
    assert!(!bench.at(2).slots.is_unclaimed(100));
    // Whoever comes back with an old nodes.conf does not get it.
    bench.ping(0, 2, |header| {
        header.slots.insert(100);
    });
    let cluster = bench.at(2);
    assert_eq!(cluster.slots.owner(100), cluster.nodes.find(&b), "and not {a}");
}

#[test]
fn slots_that_are_dropped_are_told_to_shard_subscribers() {
    let mut bench = Bench::cluster(3, 0, NT);
    let left = |b: &Bench, slot| b.told_that_it_left(0, slot);
    let to = bench.id(1);
    bench.ok(0, "DELSLOTS 1");
    bench.ok(0, &format!("SETSLOT 2 NODE {to}"));
    assert!(left(&bench, 1) && left(&bench, 2) && !left(&bench, 3));
    bench.ok(0, "FLUSHSLOTS");
    assert!(left(&bench, 3));
    bench.ok(0, "DELSLOTS 6000");
    assert!(!left(&bench, 6000), "it was never mine");
}

#[test]
fn an_open_slot_survives_a_restart() {
    let mut bench = Bench::cluster(3, 0, NT);
    let other = bench.id(1);
    bench.ok(0, &format!("SETSLOT 6001 IMPORTING {other}"));
    bench.ok(0, &format!("SETSLOT 1 MIGRATING {other}"));
    bench.run(10);
    bench.kill(0);
    bench.start(0);
    assert!(bench.nodes_text(0).contains(&format!(" [1->-{other}] [6001-<-{other}]\n")));
}

#[test]
fn keys_in_a_free_slot_make_it_mine_after_loading_and_a_replica_opens_nothing() {
    let mut bench = Bench::cluster(3, 1, NT);
    for node in [0, 3] {
        bench.ok(node, "DELSLOTS 6000");
        bench.nodes[node].facts.keys = [(6000, 1), (6001, 1)].into();
        bench.with(node, super::super::Cluster::data_loaded);
    }
    assert_eq!(bench.at(0).slots.owner(6000), Some(MYSELF));
    assert!(bench.at(0).slots.importing.contains_key(&6001));
    assert!(bench.at(3).slots.owner(6000).is_none() && bench.at(3).slots.importing.is_empty());
}

#[test]
fn a_reset_leaves_nothing_and_tells_shard_subscribers() {
    let mut bench = Bench::cluster(3, 1, NT);
    let other = bench.id(1);
    bench.ok(0, &format!("SETSLOT 6001 IMPORTING {other}"));
    bench.ok(0, "RESET");
    let cluster = bench.at(0);
    assert_eq!((cluster.nodes.len(), cluster.slots.assigned()), (1, 0));
    assert!(cluster.slots.importing.is_empty() && !cluster.is_ok());
    assert!(cluster.current_epoch > 0, "a soft one keeps the clock");
    assert!(bench.told_that_it_left(0, 5460));
    assert!(!bench.nodes[0].seen.contains(&Action::FlushAll), "a master has no keys to lose");
}

#[test]
fn a_master_that_is_mistaken_for_a_replica_is_taken_back_with_its_slots() {
    let mut bench = Bench::cluster(3, 1, NT);
    let other = bench.id(0);
    for to in [0, 2, 3, 4, 5] {
        bench.inject(1, to, |packet| {
            packet.body = Body::Ping { kind: bus::PingKind::Ping, gossip: vec![], extensions: vec![] };
            packet.header.master = Some(other);
        });
    }
    bench.run(3 * NT);
    assert!((0..6).all(|node| bench.at(node).is_ok()));
    assert_eq!(bench.view(0, bench.id(1)).slots.len(), 5461);
}
