//! CLUSTER FAILOVER in its three forms.
//!
//! | rule (REDIS-CLUSTER-FACTS 2.13) | story |
//! |---|---|
//! | the replica starts when it has exactly the paused master's bytes | `the_replica_takes_over_when_..`, `the_first_offset_..` |
//! | an attempt lasts 5000 ms on either side | `an_attempt_..`, `both_sides_..` |
//! | only my replica's MFSTART, only at a master | `a_wish_of_a_stranger_..` |
//! | FORCE asks for votes, TAKEOVER does not | `force_..`, `takeover_..` |
//! | F-01, F-46 | `a_third_failover_..`, `f46_..` |

use super::super::bus::MFLAG_PAUSED;
use super::bench::Bench;
use super::*;

const NT: u64 = 6000;

#[test]
fn the_replica_takes_over_when_it_has_every_byte() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.nodes[0].facts.offset = 5000;
    bench.nodes[3].replicates = None;
    bench.nodes[3].facts.offset = 4000;
    bench.ok(3, "FAILOVER");
    bench.run(500);
    assert!(bench.nodes[0].seen.iter().any(|action| matches!(action, Action::PauseWrites { .. })));
    assert!(bench.at(3).i_am_replica(), "took over without the last bytes");
    bench.nodes[3].facts.offset = 5000;
    let took = bench.until(1000, "promotion", |b| !b.at(3).i_am_replica());
    assert!(took <= 150, "{took} ms");
    bench.until(1000, "the old master follows", |b| b.at(0).i_am_replica());
    assert!(bench.nodes[0].seen.contains(&Action::ResumeWrites));
    assert!(bench.nodes[0].seen.contains(&Action::UnblockClients));
}

#[test]
fn the_paused_master_says_so_in_every_header() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.nodes[3].replicates = None;
    bench.nodes[0].facts.offset = 7;
    bench.record = true;
    bench.ok(3, "FAILOVER");
    bench.run(300);
    let paused =
        |s: &&bench::Sighting| s.from == 0 && s.to == 3 && s.packet.header.mflags[0] & MFLAG_PAUSED != 0;
    assert!(bench.wire_log.iter().filter(paused).count() >= 3, "a ping each cron");
}

#[test]
fn an_attempt_that_gets_nowhere_ends_after_five_seconds() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.nodes[3].replicates = None;
    bench.nodes[0].facts.offset = 9;
    bench.ok(3, "FAILOVER");
    bench.run(4900);
    assert!(!bench.nodes[0].seen.contains(&Action::ResumeWrites));
    bench.run(300);
    assert!(bench.nodes[0].seen.contains(&Action::ResumeWrites));
    assert!(bench.logged(3, "Manual failover timed out.") && bench.at(3).i_am_replica());
}

#[test]
fn force_needs_votes_but_not_the_master() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.kill(0);
    bench.run(250);
    let refused = bench.command(3, "FAILOVER");
    assert_eq!(refused, Reply::err("Master is down or failed, please use CLUSTER FAILOVER FORCE"));
    bench.ok(3, "FAILOVER FORCE");
    bench.until(500, "promotion by votes", |b| !b.at(3).i_am_replica());
}

#[test]
fn takeover_needs_nobody() {
    let mut bench = Bench::cluster(3, 1, NT);
    let before = bench.at(3).current_epoch;
    for node in [0, 1, 2] {
        bench.kill(node);
    }
    bench.ok(3, "FAILOVER TAKEOVER");
    assert!(!bench.at(3).i_am_replica());
    assert_eq!(bench.at(3).nodes.me().config_epoch, before + 1);
}

#[test]
fn a_third_failover_within_the_vote_spacing_is_not_won_by_old_votes() {
    // F-01: B, A, B again, all within two node timeouts. 7.0.15 promotes the third time with no vote at all.
    let mut bench = Bench::cluster(3, 1, NT);
    let (a, b) = (0, 3);
    let swapped = |x: &Bench, master: usize, replica: usize| {
        (0..6).all(|n| x.view(n, x.id(master)).is_master() && x.view(n, x.id(replica)).is_replica())
    };
    bench.ok(b, "FAILOVER");
    bench.until(4000, "B", |x| swapped(x, b, a));
    bench.ok(a, "FAILOVER");
    bench.until(4000, "A", |x| swapped(x, a, b));
    let promotions = |x: &Bench| x.nodes[b].seen.iter().filter(|action| **action == Action::Promote).count();
    assert_eq!(promotions(&bench), 1);
    bench.record = true;
    bench.ok(b, "FAILOVER");
    bench.run(5500);
    let votes = (0..6).map(|n| bench.sent(n, bus::PacketType::AuthAck).len()).sum::<usize>();
    assert_eq!((promotions(&bench), votes), (1, 0), "the voters' spacing holds, so nobody may be promoted");
    assert!(!bench.at(a).i_am_replica());
    // When the spacing is over a fresh election is possible, under a new epoch.
    bench.run(NT * 4);
    let epoch = bench.at(a).nodes.me().config_epoch;
    bench.ok(b, "FAILOVER");
    bench.until(4000, "B again", |x| !x.at(b).i_am_replica());
    assert!(bench.at(b).nodes.me().config_epoch > epoch);
}

#[test]
fn both_sides_give_up_one_millisecond_after_five_seconds() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.nodes[3].replicates = None;
    bench.nodes[0].facts.offset = 9;
    bench.ok(3, "FAILOVER");
    let asked = bench.now_ms;
    bench.run(1);
    let paused = bench.now_ms;
    let pause = Action::PauseWrites { until: bench.mono().plus_ms(10_000) };
    assert!(bench.nodes[0].seen.contains(&pause), "longer than the attempt, so that it cannot end before");
    for (node, deadline) in [(0, paused + 5000), (3, asked + 5000)] {
        bench.cron_at(node, deadline);
        assert!(bench.at(node).manual.is_running());
        bench.cron_at(node, deadline + 1);
        assert!(!bench.at(node).manual.is_running());
    }
}

#[test]
fn a_wish_of_a_stranger_or_to_a_replica_pauses_nobody() {
    let mut bench = Bench::cluster(3, 1, NT);
    for (from, to) in [(1, 0), (4, 0), (0, 3)] {
        bench.inject(from, to, |packet| packet.body = bus::Body::MfStart);
        assert!(!bench.at(to).manual.is_running(), "{from} to {to}");
    }
    bench.inject(3, 0, |packet| packet.body = bus::Body::MfStart);
    assert!(bench.at(0).manual.is_running());
}

#[test]
fn the_first_offset_of_the_paused_master_counts_and_only_if_it_says_paused() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.nodes[3].replicates = None;
    bench.nodes[3].facts.offset = 50;
    // The real master does not answer.
    bench.lost_types.insert((3, 0, bus::PacketType::MfStart as u16));
    bench.ok(3, "FAILOVER");
    let says = |bench: &mut Bench, from: usize, offset, mflag| {
        bench.ping(from, 3, |header| (header.offset, header.mflags[0]) = (offset, mflag));
        bench.logged(3, "manual failover can start")
    };
    assert!(!says(&mut bench, 0, 50, 0), "not paused");
    assert!(!says(&mut bench, 1, 50, MFLAG_PAUSED), "not my master");
    assert!(!says(&mut bench, 0, 60, MFLAG_PAUSED), "bytes are missing");
    assert!(!says(&mut bench, 0, 50, MFLAG_PAUSED), "a paused master does not go back");
    bench.nodes[3].facts.offset = 61;
    bench.with(3, |_, _| {});
    assert!(!bench.logged(3, "manual failover can start"), "more than the master has");
    bench.nodes[3].facts.offset = 60;
    bench.with(3, |_, _| {});
    assert!(bench.logged(3, "manual failover can start"));
}

#[test]
fn an_offset_of_zero_is_an_offset() {
    // F-44: 6.2.1 took it for none.
    let mut bench = Bench::cluster(3, 1, NT);
    bench.ok(3, "FAILOVER");
    bench.until(500, "promotion of an empty shard", |b| !b.at(3).i_am_replica());
}

#[test]
fn force_without_a_majority_is_in_vain_and_takeover_is_not() {
    let mut bench = Bench::cluster(3, 1, NT);
    for node in [0, 1, 2] {
        bench.kill(node);
    }
    bench.ok(3, "FAILOVER FORCE");
    bench.run(6000);
    assert!(bench.at(3).i_am_replica());
    bench.ok(3, "FAILOVER TAKEOVER");
    assert!(!bench.at(3).i_am_replica());
}

#[test]
fn a_plain_failover_needs_a_link_to_a_master_that_is_well() {
    let refused = Reply::err("Master is down or failed, please use CLUSTER FAILOVER FORCE");
    let mut bench = Bench::cluster(3, 1, NT);
    let master = bench.id(0);
    bench.view_mut(3, master).flags |= NodeFlags::FAIL;
    assert_eq!(bench.command(3, "FAILOVER"), refused);
    let node = bench.view_mut(3, master);
    node.flags.set(NodeFlags::FAIL, false);
    let conn = node.outbound.unwrap();
    bench.with(3, |cluster, turn| cluster.drop_link(conn, turn));
    assert_eq!(bench.command(3, "FAILOVER"), refused);
    bench.run(500);
    bench.ok(3, "FAILOVER");
}

#[test]
fn f46_a_failover_right_after_a_role_change_is_heard() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.ok(3, "FAILOVER TAKEOVER");
    bench.until(1000, "the old master follows", |b| b.at(0).i_am_replica());
    bench.run(3);
    bench.ok(0, "FAILOVER");
    bench.run(5);
    assert!(bench.logged(3, "Manual failover requested by replica"));
}

#[test]
fn a_replica_that_is_forgotten_ends_its_attempt() {
    let mut bench = Bench::cluster(3, 1, NT);
    let replica = bench.id(3);
    bench.inject(3, 0, |packet| packet.body = bus::Body::MfStart);
    bench.ok(0, &format!("FORGET {replica}"));
    assert!(!bench.at(0).manual.is_running() && bench.nodes[0].seen.contains(&Action::ResumeWrites));
}

#[test]
fn a_vote_by_hand_is_asked_for_with_the_force_bit_and_others_without() {
    let force = |manual: bool| {
        let mut bench = Bench::cluster(3, 1, NT);
        bench.record = true;
        if manual {
            bench.ok(3, "FAILOVER");
        } else {
            bench.kill(0);
        }
        bench.until(NT * 4, "promotion", |b| !b.at(3).i_am_replica());
        let asked = bench.sent(3, bus::PacketType::AuthRequest);
        asked.iter().all(|seen| seen.packet.header.mflags[0] & bus::MFLAG_FORCEACK != 0)
    };
    assert!(force(true) && !force(false));
}

#[test]
fn only_the_master_says_that_it_is_paused_and_only_while_it_is() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.record = true;
    bench.ok(3, "FAILOVER");
    bench.until(1000, "promotion", |b| !b.at(3).i_am_replica());
    let promoted = bench.now_ms;
    bench.run(NT);
    let paused = |s: &&bench::Sighting| s.packet.header.mflags[0] & MFLAG_PAUSED != 0;
    let by_replica =
        bench.wire_log.iter().filter(paused).filter(|s| s.from == 3 && s.packet.header.master.is_some());
    assert_eq!(by_replica.count(), 0);
    let later = bench.wire_log.iter().filter(paused).filter(|s| s.from == 3 && s.at_ms > promoted + 5);
    assert_eq!(later.count(), 0, "the winner is not paused");
}

#[test]
fn force_begins_in_the_same_batch() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.ok(3, "FAILOVER FORCE");
    assert!(bench.logged(3, "Start of election delayed for 0 milliseconds"));
}
