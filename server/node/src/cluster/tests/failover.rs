//! Kill a master: suspicion, agreement, election, promotion, and the old master's way back.

use super::super::bus::{Body, PacketType};
use super::bench::Bench;
use super::*;

const NT: u64 = 2000;

#[test]
fn a_killed_master_is_replaced_and_comes_back_as_a_replica() {
    let mut bench = Bench::cluster(3, 1, NT);
    let (old, new) = (bench.id(0), bench.id(3));
    bench.kill(0);
    let pfail = bench.until(NT * 2, "PFAIL at 1", |b| b.view(1, old).suspected());
    assert!((NT..=NT * 3 / 2 + 300).contains(&pfail), "suspected after {pfail} ms");
    let fail = bench.until(2000, "FAIL everywhere", |b| (1..6).all(|n| b.view(n, old).failed()));
    assert!(fail < 1500, "agreed {fail} ms later");
    bench.until(2500, "promotion", |b| !b.at(3).i_am_replica());
    assert_eq!(bench.at(3).nodes.me().slots.len(), 5461);
    bench
        .until(1000, "all see it", |b| (1..6).all(|n| b.view(n, new).slots.len() == 5461 && b.at(n).is_ok()));
    assert!(bench.nodes[3].seen.contains(&Action::Promote));

    bench.start(0);
    bench.until(5000, "the old master follows the new one", |b| b.at(0).i_am_replica());
    bench.until(5000, "everybody sees that", |b| {
        (1..6).all(|n| b.view(n, old).is_replica() && !b.view(n, old).failed())
    });
    assert_eq!(bench.nodes[0].replicates.map(|addr| addr.ip().to_string()).as_deref(), Some("127.22.0.4"));
}

#[test]
fn a_promotion_takes_a_new_epoch_and_a_majority_of_votes() {
    let mut bench = Bench::cluster(3, 1, NT);
    let before = bench.at(3).current_epoch;
    bench.record = true;
    bench.kill(0);
    bench.until(10_000, "promotion", |b| !b.at(3).i_am_replica());
    assert_eq!(bench.at(3).nodes.me().config_epoch, before + 1);
    let votes = (1..3).map(|n| bench.sent(n, PacketType::AuthAck).len()).collect::<Vec<_>>();
    assert_eq!(votes, [1, 1]);
}

#[test]
fn one_silent_voter_is_no_agreement_and_its_report_expires() {
    let mut bench = Bench::cluster(5, 0, NT);
    // Only 1 cannot hear 0.
    bench.cut.insert((0, 1));
    let dead = bench.id(0);
    bench.until(NT * 2, "PFAIL at 1", |b| b.view(1, dead).suspected());
    bench.until(NT * 2, "2 has the report", |b| b.view(2, dead).fail_reports.len() == 1);
    bench.run(NT * 3);
    assert!((1..5).all(|n| !b_failed(&bench, n, dead)));
    // The reporter falls silent: after two node timeouts its word is worth nothing.
    bench.isolate(1);
    assert_eq!(bench.command(2, &format!("COUNT-FAILURE-REPORTS {dead}")), Reply::Integer(1));
    bench.run(NT * 2 + 200);
    assert_eq!(bench.command(2, &format!("COUNT-FAILURE-REPORTS {dead}")), Reply::Integer(0));
}

fn b_failed(bench: &Bench, node: usize, other: NodeId) -> bool {
    bench.view(node, other).failed()
}

#[test]
fn a_failed_master_that_kept_its_slots_is_taken_back_after_two_node_timeouts() {
    let mut bench = Bench::cluster(3, 0, NT);
    let ill = bench.id(0);
    bench.isolate(0);
    bench.until(NT * 3, "FAIL", |b| b.view(1, ill).failed() && b.view(2, ill).failed());
    let failed_at = bench.view(1, ill).fail_time.unwrap().ms();
    bench.heal();
    bench.until(NT * 4, "cleared", |b| !b.view(1, ill).failed());
    let after = bench.now_ms - failed_at;
    assert!((2 * NT..2 * NT + NT).contains(&after), "cleared after {after} ms");
}

#[test]
fn a_failed_replica_is_taken_back_at_its_first_pong() {
    let mut bench = Bench::cluster(3, 1, NT);
    let ill = bench.id(3);
    bench.isolate(3);
    bench.until(NT * 3, "FAIL", |b| b.view(1, ill).failed());
    bench.heal();
    let took = bench.until(NT * 2, "cleared", |b| !b.view(1, ill).failed());
    assert!(took <= NT, "{took} ms");
}

#[test]
fn a_minority_goes_down_and_comes_back_after_the_rejoin_delay() {
    let mut bench = Bench::cluster(3, 0, 8000);
    bench.isolate(0);
    let down = bench.until(16_000, "the minority is down", |b| !b.at(0).is_ok());
    assert!((8000..12_500).contains(&down), "down after {down} ms");
    bench.heal();
    let suspects = |b: &Bench| b.at(0).nodes.by_id().filter(|n| b.at(0).nodes.get(*n).suspected()).count();
    bench.until(30_000, "majority again", |b| suspects(b) <= 1);
    let delay = bench.until(10_000, "up", |b| b.at(0).is_ok());
    // clamp(NT, 500, 5000) after it was last in a minority.
    assert!((4800..=5200).contains(&delay), "up after {delay} ms");
}

#[test]
fn a_restarted_master_takes_no_writes_for_two_seconds() {
    let mut bench = Bench::cluster(3, 0, 15_000);
    bench.kill(0);
    bench.run(300);
    bench.start(0);
    let delay = bench.until(5000, "ok", |b| b.at(0).is_ok());
    assert!((2000..2300).contains(&delay), "{delay} ms");
}

#[test]
fn the_replica_with_more_data_is_elected() {
    let mut bench = Bench::cluster(3, 2, NT);
    // Replicas of 0 are 3 and 6; 3 lags behind for good.
    bench.nodes[0].facts.offset = 1000;
    bench.run(NT);
    bench.kill(0);
    bench.run(100);
    bench.nodes[3].facts.offset = 500;
    bench.until(15_000, "promotion", |b| !b.at(3).i_am_replica() || !b.at(6).i_am_replica());
    assert!(!bench.at(6).i_am_replica());
    assert!(bench.logged(3, "rank #1") || bench.logged(3, "Replica rank updated to #1"));
    bench.until(5000, "the sibling follows", |b| b.at(3).my_master() == b.at(3).nodes.find(&b.id(6)));
}

#[test]
fn a_replica_whose_data_is_too_old_does_not_run() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.set(3, |settings| {
        settings.validity_factor = 1;
        settings.repl_ping_period_s = 1;
    });
    bench.nodes[3].replicates = None;
    let long_ago = Mono(bench.now_ms * 1000);
    bench.nodes[3].facts.link = Some(MasterLink::Down { since: Some(long_ago) });
    bench.run(NT * 3);
    bench.kill(0);
    bench.run(20_000);
    assert!(bench.at(3).i_am_replica());
    assert!(bench.logged(3, "Disconnected from master for longer than allowed"));
    bench.set(3, |settings| settings.validity_factor = 0);
    bench.until(10_000, "no check, so it runs", |b| !b.at(3).i_am_replica());
}

#[test]
fn without_a_majority_of_masters_nobody_is_promoted() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.kill(0);
    bench.kill(1);
    bench.run(30_000);
    assert!(bench.at(3).i_am_replica() && bench.at(4).i_am_replica());
    assert!(!bench.at(2).is_ok());
}

#[test]
fn an_old_packet_moves_nobody() {
    // F-10: C knows "B is master", then reads an older packet of B on another link: "I am a replica of A".
    let mut bench = Bench::cluster(3, 1, NT);
    let (a, b) = (bench.id(0), bench.id(3));
    let old_epoch = bench.at(3).current_epoch;
    bench.kill(0);
    bench.until(15_000, "C knows B as master", |x| {
        x.view(4, b).is_master() && x.view(4, b).slots.len() == 5461
    });
    let say = |bench: &mut Bench, current_epoch: u64| {
        bench.inject(3, 4, |packet| {
            packet.body = Body::Ping { kind: bus::PingKind::Ping, gossip: vec![], extensions: vec![] };
            packet.header.master = Some(a);
            packet.header.current_epoch = current_epoch;
            packet.header.config_epoch = 1;
        });
        bench.view(4, b).is_replica()
    };
    assert!(!say(&mut bench, old_epoch));
    assert_eq!(bench.view(4, b).slots.len(), 5461);
    // Also of the time in which B asked for votes, and had counted its clock up to the epoch that it then won.
    let epoch = bench.at(3).current_epoch;
    assert!(!say(&mut bench, epoch));
    assert_eq!(bench.view(4, b).slots.len(), 5461);
    // Under a later clock the same words are news: B was told to follow A by hand.
    assert!(say(&mut bench, epoch + 1));
}

#[test]
fn a_master_that_says_nothing_else_for_long_has_stepped_down() {
    // It gave its slots up by hand, under the greatest epoch of all, and nobody minted another since.
    let mut bench = Bench::cluster(3, 0, NT);
    let (first, last) = (bench.id(0), bench.id(2));
    assert_eq!(bench.at(2).current_epoch, bench.view(1, last).config_epoch);
    bench.ok(2, "FLUSHSLOTS");
    bench.ok(2, &format!("REPLICATE {first}"));
    bench.run(NT / 2);
    assert!(bench.view(1, last).is_master());
    bench.until(NT * 2, "the others believe it", |b| {
        b.view(1, last).is_replica() && b.view(0, last).is_replica()
    });
}

#[test]
fn a_link_that_swallows_pings_is_made_anew() {
    // F-47b: my pings are lost on my link, the peer's own pings reach me on its link.
    let mut bench = Bench::cluster(3, 0, NT);
    let peer = bench.id(1);
    let before = bench.view(0, peer).outbound;
    bench.lost_types.insert((0, 1, PacketType::Ping as u16));
    bench.until(NT * 3, "a new link", |b| {
        let now = b.view(0, peer).outbound;
        now.is_some() && now != before
    });
    bench.lost_types.clear();
    bench.until(NT, "answers", |b| b.view(0, peer).ping_sent.is_none());
}

#[test]
fn f47c_a_master_that_became_another_node_is_replaced() {
    // RESET HARD: 7.0.15 forgets the address, never suspects the old name, and calls the cluster ok without its slots.
    let mut bench = Bench::cluster(3, 1, NT);
    let old = bench.id(0);
    bench.ok(0, "RESET HARD");
    bench.until(NT * 3, "its replica takes over", |b| !b.at(3).i_am_replica());
    bench.until(NT, "its slots are served", |b| {
        (1..6).all(|n| b.at(n).is_ok() && b.view(n, old).slots.is_empty())
    });
}
