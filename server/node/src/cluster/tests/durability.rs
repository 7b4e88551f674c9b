//! What was said survives a kill at any moment and a disk that is full.

use super::bench::Bench;
use super::*;

const NT: u64 = 2000;

#[test]
fn a_restarted_node_is_the_same_node() {
    let mut bench = Bench::cluster(3, 1, NT);
    let texts: Vec<String> = (0..6).map(|n| stable_part(&bench.nodes_text(n))).collect();
    for node in 0..6 {
        bench.kill(node);
    }
    for (node, text) in texts.iter().enumerate() {
        bench.start(node);
        assert_eq!(&stable_part(&bench.nodes_text(node)), text, "node {node}");
    }
    bench.until(10_000, "up again", |b| (0..6).all(|n| b.at(n).is_ok()));
}

/// Without times and link states.
fn stable_part(text: &str) -> String {
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        [&words[..4], &words[6..7], &words[8..]].concat().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_full_disk_silences_promises_but_not_pings() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.nodes[1].disk_fails = true;
    let id = bench.id(1);
    bench.record = true;
    // Others elect; 1 cannot vote, for its vote would be forgotten.
    bench.kill(0);
    bench.run(15_000);
    assert!(bench.sent(1, bus::PacketType::AuthAck).is_empty());
    assert!(bench.logged(1, "Could not save the cluster config file"));
    assert!(bench.at(1).save_failed());
    bench.nodes[1].disk_fails = false;
    bench.until(20_000, "the shard comes back when the disk does", |b| !b.at(3).i_am_replica());
    bench.until(NT * 4, "1 is well", |b| !b.view(2, id).suspected());
}

#[test]
fn a_full_disk_without_promises_is_not_noticed_by_others() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.nodes[1].disk_fails = true;
    let id = bench.id(1);
    // A replica dies: flags change, which is worth a save but is no promise.
    bench.kill(5);
    bench.run(NT * 4);
    assert!(bench.at(1).save_failed());
    assert!([0, 2, 3, 4].iter().all(|n| !bench.view(*n, id).suspected()));
}

#[test]
fn no_announced_epoch_is_ahead_of_the_file() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.record = true;
    bench.kill(0);
    for _ in 0..1000 {
        bench.run(10);
        for node in (0..6).filter(|n| bench.nodes[*n].cluster.is_some()) {
            let file = nodes_conf::parse(bench.nodes[node].file.as_bytes()).unwrap().unwrap();
            for seen in bench.wire_log.iter().filter(|s| s.from == node && s.at_ms <= bench.now_ms) {
                assert!(seen.packet.header.current_epoch <= file.current_epoch, "node {node}");
            }
        }
        bench.wire_log.clear();
    }
    assert!(!bench.at(3).i_am_replica(), "an election took place");
}

#[test]
fn a_paused_node_that_wakes_up_votes_for_nobody_twice() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.kill(0);
    bench.nodes[1].paused = true;
    bench.run(NT * 4);
    bench.record = true;
    bench.resume(1);
    bench.until(30_000, "the shard is served", |b| !b.at(3).i_am_replica());
    let mut epochs: Vec<u64> =
        bench.sent(1, bus::PacketType::AuthAck).iter().map(|s| s.packet.header.current_epoch).collect();
    let votes = epochs.len();
    epochs.dedup();
    assert!(votes >= 1 && epochs.len() == votes, "{epochs:?}");
}
