//! CLUSTER FAILOVER in its three forms.

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
