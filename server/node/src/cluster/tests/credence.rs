//! Whose word is taken: places, epochs, strangers.

use std::net::SocketAddr;

use super::super::bus::{Body, PingKind};
use super::bench::{Bench, ip_of};
use super::*;

const NT: u64 = 2000;
/// A connection to the node under attack.
const FORGED: ConnId = ConnId(900_000);

fn address(ip: &str) -> SocketAddr {
    format!("{ip}:40000").parse().unwrap()
}

/// A packet as node `from` would send it, on a new link to node `to` from any address.
fn forge(
    bench: &mut Bench,
    (from, to): (usize, usize),
    ip: &str,
    change: impl FnOnce(&mut bus::Header) -> Body,
) {
    let facts = bench::NodeFacts::default();
    let turn = Turn { now: bench.now(), facts: &facts, next_conn: &mut ConnId(1), actions: &mut Vec::new() };
    let mut header = bench.at(from).header(&turn);
    let body = change(&mut header);
    let bytes = bus::encode(&bus::Packet { header, body });
    bench.with(to, |cluster, turn| {
        if !cluster.links.contains_key(&FORGED) {
            cluster.link_accepted(FORGED, address(ip), address(&ip_of(to)), turn);
        }
        cluster.link_received(FORGED, &bytes, turn);
    });
}

fn ping() -> Body {
    Body::Ping { kind: PingKind::Ping, gossip: vec![], extensions: vec![] }
}

/// Node 1 takes slot 100 from node 0 by a higher epoch.
fn claim(header: &mut bus::Header) -> Body {
    header.current_epoch += 1;
    header.config_epoch = header.current_epoch;
    header.slots.insert(100);
    ping()
}

fn owner(bench: &Bench) -> NodeId {
    let cluster = bench.at(0);
    cluster.nodes.get(cluster.slots.owner(100).unwrap()).id
}

#[test]
fn an_id_that_speaks_from_a_second_place_is_not_believed_and_its_pings_are_answered() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.record = true;
    let (first, second) = (bench.id(0), bench.id(2));
    forge(&mut bench, (1, 0), "198.51.100.7", claim);
    assert_eq!(owner(&bench), first);
    forge(&mut bench, (1, 0), "198.51.100.7", |_| Body::Fail { failed: Some(second) });
    assert!(!bench.view(0, second).failed());
    forge(&mut bench, (1, 0), "198.51.100.7", |header| {
        header.cport = 1;
        ping()
    });
    assert_eq!(bench.view(0, bench.id(1)).cport, 16379);
    let doubts = bench.nodes[0].log.iter().filter(|(_, line)| line.contains("not believed")).count();
    assert_eq!(doubts, 1, "said once a link");
    let pongs = bench.nodes[0].cluster.as_ref().unwrap().stats.sent[1];
    forge(&mut bench, (1, 0), "198.51.100.7", claim);
    assert_eq!(bench.nodes[0].cluster.as_ref().unwrap().stats.sent[1], pongs + 1);
}

#[test]
fn a_node_that_moved_is_believed_once_its_old_place_is_silent() {
    let mut bench = Bench::cluster(3, 1, NT);
    let moved = bench.id(1);
    bench.kill(1);
    // Its process ended, and the same id calls from a new address.
    let header = |bench: &mut Bench| {
        forge(bench, (2, 0), "198.51.100.7", |header| {
            header.sender = moved;
            header.config_epoch = 2;
            header.slots = SlotBitmap::new();
            ping()
        });
    };
    header(&mut bench);
    assert_eq!(bench.view(0, moved).ip, ip_of(1), "its old place spoke a moment ago");
    bench.run(NT + 200);
    header(&mut bench);
    assert_eq!(bench.view(0, moved).ip, "198.51.100.7");
}

#[test]
fn what_comes_from_a_nodes_own_address_is_its_word() {
    let mut bench = Bench::cluster(3, 1, NT);
    let taker = bench.id(1);
    forge(&mut bench, (1, 0), &ip_of(1), claim);
    assert_eq!(owner(&bench), taker);
}

#[test]
fn an_epoch_that_nobody_can_have_minted_is_not_taken_over() {
    for (epoch, believed) in
        [(u64::MAX, false), (i64::MAX as u64 + 1, false), (i64::MAX as u64, true), (1 << 40, true)]
    {
        let mut bench = Bench::cluster(3, 1, NT);
        let before = bench.at(0).current_epoch;
        forge(&mut bench, (1, 0), &ip_of(1), |header| {
            header.current_epoch = epoch;
            ping()
        });
        assert_eq!(bench.at(0).current_epoch, if believed { epoch } else { before }, "{epoch}");
        forge(&mut bench, (1, 0), &ip_of(1), |header| {
            header.config_epoch = u64::MAX;
            header.slots.insert(100);
            ping()
        });
        assert_eq!(owner(&bench), bench.id(0));
        // And elections go on beyond it.
        if believed {
            bench.run(NT);
            bench.kill(2);
            bench.until(20 * NT, "the replica wins", |b| !b.at(5).i_am_replica());
        }
    }
}

#[test]
fn strangers_that_introduce_themselves_are_not_remembered_without_end() {
    let mut bench = Bench::cluster(3, 1, NT);
    for stranger in 0..3000_u16 {
        let sender = NodeId::parse(format!("{stranger:040}").as_bytes()).unwrap();
        forge(&mut bench, (1, 0), "198.51.100.7", |header| {
            header.sender = sender;
            header.port = 1000 + stranger;
            Body::Ping { kind: PingKind::Meet, gossip: vec![], extensions: vec![] }
        });
    }
    assert_eq!(bench.at(0).nodes.len(), 6 + 1024);
    bench.run(NT + 500);
    assert_eq!(bench.at(0).nodes.len(), 6);
}

#[test]
fn who_does_not_read_gets_no_more_pongs() {
    let mut bench = Bench::cluster(3, 1, NT);
    let pongs = |bench: &Bench| bench.at(0).stats.sent[1];
    let before = pongs(&bench);
    forge(&mut bench, (1, 0), &ip_of(1), |_| ping());
    assert_eq!(pongs(&bench), before + 1);
    bench.nodes[0].facts.queued = 2 << 20;
    forge(&mut bench, (1, 0), &ip_of(1), |_| ping());
    assert_eq!(pongs(&bench), before + 1);
}
