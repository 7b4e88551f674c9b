//! Who may be voted for: each rule of the voter from both sides of its boundary, and what votes count for.

use super::super::bus::{Body, MFLAG_FORCEACK, Packet, PacketType};
use super::bench::Bench;

const NT: u64 = 2000;

/// Three masters, one replica each; node 0 (master of 3) is FAIL in the eyes of voter 1, and nobody runs for
/// election on its own.
fn failed_master() -> Bench {
    let mut bench = Bench::cluster(3, 1, NT);
    for node in 3..6 {
        bench.set(node, |settings| settings.no_failover = true);
    }
    let old = bench.id(0);
    bench.kill(0);
    bench.until(NT * 3, "FAIL", |b| (1..6).all(|n| b.view(n, old).failed()));
    // Epochs have spread before the story begins.
    bench.run(1000);
    bench.record = true;
    bench
}

/// Candidate 3 asks voter 1, with changes; was the vote given?
fn asks(bench: &mut Bench, change: impl FnOnce(&mut Packet)) -> bool {
    let before = bench.sent(1, PacketType::AuthAck).len();
    let epoch = bench.at(1).current_epoch;
    bench.inject(3, 1, |packet| {
        packet.body = Body::AuthRequest;
        packet.header.current_epoch = epoch + 1;
        change(packet);
    });
    bench.run(5);
    bench.sent(1, PacketType::AuthAck).len() > before
}

#[test]
fn a_replica_of_a_failed_master_gets_the_vote_and_it_is_on_disk_before_it_leaves() {
    let mut bench = failed_master();
    let epoch = bench.at(1).current_epoch + 1;
    bench.nodes[1].disk_fails = true;
    assert!(!asks(&mut bench, |_| {}), "the vote left before the disk had it");
    assert!(!bench.nodes[1].file.contains(&format!("lastVoteEpoch {epoch}")));
    bench.nodes[1].disk_fails = false;
    bench.run(300);
    assert_eq!(bench.sent(1, PacketType::AuthAck).len(), 1);
    assert!(bench.nodes[1].file.ends_with(&format!("currentEpoch {epoch} lastVoteEpoch {epoch}\n")));
}

#[test]
fn an_older_epoch_gets_no_vote_and_an_equal_one_does() {
    let mut bench = failed_master();
    let epoch = bench.at(1).current_epoch;
    assert!(!asks(&mut bench, |packet| packet.header.current_epoch = epoch - 1));
    assert!(bench.logged(1, "reqEpoch"));
    assert!(asks(&mut bench, |packet| packet.header.current_epoch = epoch));
}

#[test]
fn one_vote_an_epoch_even_after_a_restart() {
    let mut bench = failed_master();
    assert!(asks(&mut bench, |_| {}));
    let epoch = bench.at(1).last_vote_epoch;
    bench.run(2 * NT + 100);
    bench.kill(1);
    bench.start(1);
    let candidate = bench.id(3);
    bench.until(2000, "links", |b| b.view(1, candidate).outbound.is_some());
    bench.run(500);
    assert!(!asks(&mut bench, |packet| packet.header.current_epoch = epoch));
    assert!(bench.logged(1, &format!("already voted for epoch {epoch}")));
}

#[test]
fn a_replica_of_a_live_master_is_refused_unless_forced() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.record = true;
    assert!(!asks(&mut bench, |_| {}));
    assert!(bench.logged(1, "its master is up"));
    assert!(asks(&mut bench, |packet| packet.header.mflags[0] = MFLAG_FORCEACK));
}

#[test]
fn a_master_is_refused() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.record = true;
    let epoch = bench.at(1).current_epoch + 1;
    bench.inject(2, 1, |packet| {
        packet.header.current_epoch = epoch;
        packet.header.mflags[0] = MFLAG_FORCEACK;
    });
    bench.run(5);
    assert!(bench.sent(1, PacketType::AuthAck).is_empty() && bench.logged(1, "it is a master node"));
}

#[test]
fn a_second_vote_for_the_same_shard_waits_two_node_timeouts() {
    let mut bench = failed_master();
    assert!(asks(&mut bench, |_| {}));
    bench.run(2 * NT - 20);
    assert!(!asks(&mut bench, |_| {}));
    assert!(bench.logged(1, "can't vote about this master before"));
    bench.run(20);
    assert!(asks(&mut bench, |_| {}));
}

#[test]
fn a_claim_older_than_the_owner_is_refused_and_an_equal_one_is_not() {
    let mut bench = failed_master();
    let old = bench.id(0);
    let epoch = bench.view(1, old).config_epoch;
    assert!(!asks(&mut bench, |packet| packet.header.config_epoch = epoch - 1));
    assert!(bench.logged(1, "reqConfigEpoch"));
    assert!(asks(&mut bench, |packet| packet.header.config_epoch = epoch));
}

#[test]
fn a_replica_and_a_master_without_slots_do_not_vote() {
    let mut bench = failed_master();
    let epoch = bench.at(1).current_epoch + 1;
    bench.inject(3, 4, |packet| packet.header.current_epoch = epoch);
    bench.run(5);
    assert!(bench.sent(4, PacketType::AuthAck).is_empty());
    bench.ok(1, "FLUSHSLOTS");
    assert!(!asks(&mut bench, |_| {}));
}

#[test]
fn a_voter_counts_once_and_only_in_the_epoch_it_was_asked_in() {
    // F-01: three acks of one master, or acks of another epoch, are no majority.
    let mut bench = Bench::cluster(5, 1, NT);
    let silent = [2, 3, 4];
    for voter in silent {
        // Only voter 1 answers.
        bench.lost_types.insert((5, voter, PacketType::AuthRequest as u16));
    }
    let before = bench.at(5).current_epoch;
    bench.kill(0);
    bench.until(10_000, "candidacy", |b| b.at(5).current_epoch > before);
    bench.run(50);
    let epoch = bench.at(5).current_epoch;
    for _ in 0..3 {
        bench.inject(1, 5, |packet| {
            packet.body = Body::AuthAck;
            packet.header.current_epoch = epoch;
        });
    }
    for (voter, wrong) in [(2, epoch - 1), (3, epoch + 1)] {
        bench.inject(voter, 5, |packet| {
            packet.body = Body::AuthAck;
            packet.header.current_epoch = wrong;
        });
    }
    bench.run(200);
    assert!(bench.at(5).i_am_replica(), "elected by less than a majority");
    for voter in [2, 3] {
        bench.inject(voter, 5, |packet| {
            packet.body = Body::AuthAck;
            packet.header.current_epoch = epoch;
        });
    }
    assert!(!bench.at(5).i_am_replica(), "a majority of three of five");
}
