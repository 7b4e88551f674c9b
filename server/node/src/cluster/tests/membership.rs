//! Joining, leaving, moving house.

use super::bench::{Bench, ip_of};
use super::*;

const NT: u64 = 2000;

#[test]
fn one_meet_each_joins_six_nodes() {
    let mut bench = Bench::strangers(6, NT);
    for node in 1..6 {
        bench.ok(node, &format!("MEET {} 6379", ip_of(0)));
    }
    let took = bench.until(5000, "all know all", |b| (0..6).all(|n| b.at(n).nodes.len() == 6));
    assert!(took <= 4000, "{took} ms");
    bench.run(NT);
    for node in 0..6 {
        let text = bench.nodes_text(node);
        assert!(!text.contains("handshake") && !text.contains("disconnected"), "{text}");
    }
}

#[test]
fn a_meet_that_nobody_answers_is_given_up() {
    let mut bench = Bench::strangers(1, NT);
    bench.ok(0, "MEET 127.22.0.77 6379");
    bench.ok(0, "MEET 127.22.0.77 6379");
    assert_eq!(bench.at(0).nodes.len(), 2, "the same address is met once");
    bench.run(NT + 300);
    assert_eq!(bench.at(0).nodes.len(), 1);
}

#[test]
fn meeting_oneself_makes_no_acquaintance() {
    let mut bench = Bench::strangers(1, NT);
    bench.ok(0, &format!("MEET {} 6379", ip_of(0)));
    bench.run(5000);
    assert_eq!(bench.at(0).nodes.len(), 1);
}

#[test]
fn a_forgotten_node_stays_away_for_a_minute_unless_it_is_met() {
    let mut bench = Bench::cluster(4, 0, NT);
    let gone = bench.id(3);
    bench.ok(0, &format!("FORGET {gone}"));
    bench.run(55_000);
    assert!(bench.at(0).nodes.find(&gone).is_none(), "gossip brought it back");
    bench.run(10_000);
    assert!(bench.at(0).nodes.find(&gone).is_some(), "the ban is over");
    bench.ok(0, &format!("FORGET {gone}"));
    bench.ok(0, &format!("MEET {} 6379", ip_of(3)));
    bench.until(1000, "met again", |b| b.at(0).nodes.find(&gone).is_some());
}

#[test]
fn forgetting_releases_slots_and_keeps_the_table_sound() {
    let mut bench = Bench::cluster(3, 1, NT);
    let gone = bench.id(0);
    bench.ok(1, &format!("FORGET {gone}"));
    assert_eq!(bench.at(1).slots.owner(0), None);
    let replica = bench.view(1, bench.id(3));
    assert_eq!(replica.master, None);
    assert!(bench.nodes_text(1).lines().all(|line| line.split(' ').count() >= 8));
}

#[test]
fn a_hard_reset_is_another_node_and_a_soft_one_is_not() {
    let mut bench = Bench::cluster(3, 1, NT);
    let id = bench.id(3);
    bench.nodes[3].facts.keys.insert(1, 1);
    bench.ok(3, "RESET");
    assert_eq!(bench.at(3).my_id(), id);
    assert_eq!(bench.at(3).nodes.len(), 1);
    assert!(bench.nodes[3].seen.contains(&Action::FlushAll) && !bench.at(3).i_am_replica());
    bench.nodes[3].facts.keys.clear();
    bench.ok(3, "RESET HARD");
    assert_ne!(bench.at(3).my_id(), id);
    assert_eq!((bench.at(3).current_epoch, bench.at(3).last_vote_epoch), (0, 0));
    // Its old place is taken by a stranger: the others lose the old node's address, not their peace.
    bench.run(NT * 2);
    assert!(bench.view(1, id).flags.any(NodeFlags::NOADDR));
}

#[test]
fn a_master_with_keys_is_not_reset() {
    let mut bench = Bench::strangers(1, NT);
    bench.nodes[0].facts.keys.insert(5, 1);
    let reply = bench.command(0, "RESET");
    assert_eq!(reply, Reply::err("CLUSTER RESET can't be called with master nodes containing keys"));
}

#[test]
fn a_host_name_spreads_and_is_withdrawn() {
    let mut bench = Bench::cluster(3, 0, NT);
    bench.set(0, |settings| settings.announce_hostname = "zero.example.org".to_owned());
    let id = bench.id(0);
    bench.until(NT * 2, "known", |b| (1..3).all(|n| b.view(n, id).hostname == "zero.example.org"));
    bench.set(0, |settings| settings.announce_hostname.clear());
    bench.until(NT * 2, "withdrawn", |b| (1..3).all(|n| b.view(n, id).hostname.is_empty()));
}

#[test]
fn an_announced_port_reaches_the_others() {
    let mut bench = Bench::cluster(3, 0, NT);
    bench.set(0, |settings| settings.announce_port = 7777);
    let id = bench.id(0);
    bench.until(NT * 2, "known", |b| (1..3).all(|n| b.view(n, id).port == 7777));
}

#[test]
fn a_hundred_nodes_find_each_other_from_one_address() {
    let mut bench = Bench::strangers(100, 5000);
    for node in 1..100 {
        bench.ok(node, &format!("MEET {} 6379", ip_of(0)));
    }
    bench.until(30_000, "all know all", |b| (0..100).all(|n| b.at(n).nodes.len() == 100));
}
