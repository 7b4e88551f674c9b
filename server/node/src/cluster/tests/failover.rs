//! Kill a master: suspicion, agreement, election, promotion, and the old master's way back.

use super::super::bus::PacketType;
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
