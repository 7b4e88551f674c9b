//! Links, meetings, addresses and bans, from both sides of each boundary.
//!
//! | rule (REDIS-CLUSTER-FACTS 1.8, 1.9, 2.2, 2.17; FAILOVER-BUGS) | story |
//! |---|---|
//! | F-54: MEET until answered, and until called back | `f54_..` |
//! | a handshake lives max(NT, 1000) | `a_handshake_..` |
//! | a ban lasts 60 s (`cluster-blacklist-ttl`) | `a_ban_..` |
//! | forgotten elsewhere (extension 2) | `f55_..` |
//! | an unknown PING is answered, and teaches nothing | `a_stranger_gets_a_pong_..` |
//! | an old name on a new process: noaddr | `another_name_..` |
//! | address from PING, not PONG; from gossip only for suspects | `a_new_address_..`, `gossip_gives_..` |
//! | my own address | `my_address_..` |
//! | cluster-link-sendbuf-limit | `a_link_over_its_limit_..` |
//! | DEBUG CLUSTERLINK KILL, DROP-CLUSTER-PACKET-FILTER | `a_killed_link_..`, `a_filtered_type_..` |
//! | PUBLISHSHARD | `a_sharded_message_..` |

use super::super::bus::{Body, Extension, PacketType, PingKind};
use super::bench::{Bench, ip_of};
use super::*;

const NT: u64 = 2000;

fn knows(bench: &Bench, node: usize, other: usize) -> bool {
    let cluster = bench.at(node);
    cluster.nodes.find(&bench.id(other)).is_some_and(|idx| !cluster.nodes.get(idx).in_handshake())
}

#[test]
fn f54_a_meet_that_was_lost_is_said_again() {
    let mut bench = Bench::strangers(2, NT);
    bench.lost_types.insert((0, 1, PacketType::Meet as u16));
    bench.ok(0, &format!("MEET {} 6379", ip_of(1)));
    bench.run(900);
    bench.lost_types.clear();
    bench.until(1000, "both know each other", |b| knows(b, 0, 1) && knows(b, 1, 0));
}

#[test]
fn f54_a_meet_whose_receiver_could_not_call_back_is_repeated_until_it_does() {
    let mut bench = Bench::strangers(2, NT);
    // 1 answers, but its own calls to 0 are lost for longer than its handshake lives.
    bench.lost_types.insert((1, 0, PacketType::Ping as u16));
    bench.ok(0, &format!("MEET {} 6379", ip_of(1)));
    bench.run(NT + 500);
    assert!(knows(&bench, 0, 1) && !knows(&bench, 1, 0), "one-sided");
    bench.lost_types.clear();
    bench.until(2 * NT + 500, "both know each other", |b| knows(b, 1, 0));
    bench.record = true;
    bench.run(5 * NT);
    assert!(bench.sent(0, PacketType::Meet).is_empty(), "and no MEET is sent any more");
}

#[test]
fn f54_a_node_that_was_forgotten_does_not_meet_its_way_back() {
    let mut bench = Bench::strangers(2, NT);
    bench.ok(0, &format!("MEET {} 6379", ip_of(1)));
    bench.until(1000, "met", |b| knows(b, 0, 1) && knows(b, 1, 0));
    let id = bench.id(0);
    bench.ok(1, &format!("FORGET {id}"));
    bench.run(30_000);
    assert!(bench.at(1).nodes.find(&id).is_none());
}

#[test]
fn a_handshake_lives_for_the_node_timeout_but_no_less_than_a_second() {
    for (nt, lives) in [(300, 1000), (3000, 3000)] {
        let mut bench = Bench::strangers(1, nt);
        bench.ok(0, "MEET 127.22.0.77 6379");
        let met = bench.now_ms;
        bench.cron_at(0, met + lives);
        assert_eq!(bench.at(0).nodes.len(), 2, "NT {nt}");
        bench.cron_at(0, met + lives + 1);
        assert_eq!(bench.at(0).nodes.len(), 1, "NT {nt}");
    }
}

#[test]
fn a_ban_ends_after_exactly_as_long_as_it_is_set_to() {
    for ttl_s in [60, 5] {
        let mut bench = Bench::cluster(4, 0, NT);
        bench.set(0, |settings| settings.blacklist_ttl_s = ttl_s);
        let gone = bench.id(3);
        let entry = bench.entry(0, gone, NodeFlags::MASTER);
        bench.ok(0, &format!("FORGET {gone}"));
        let forgotten = bench.now_ms;
        bench.now_ms = forgotten + ttl_s * 1000 - 1;
        bench.gossip(1, 0, vec![entry.clone()], |_| {});
        assert!(bench.at(0).nodes.find(&gone).is_none());
        bench.now_ms = forgotten + ttl_s * 1000;
        bench.gossip(1, 0, vec![entry], |_| {});
        assert!(bench.at(0).nodes.find(&gone).is_some());
    }
}

fn forgets(bench: &mut Bench, from: usize, to: usize, node: NodeId) {
    bench.inject(from, to, |packet| {
        let extensions = vec![Extension::Forgotten { node: Some(node), ttl_s: 30 }];
        packet.body = Body::Ping { kind: PingKind::Ping, gossip: vec![], extensions };
    });
}

#[test]
fn f55_what_a_newer_peer_forgot_is_forgotten_here_for_as_long() {
    let mut bench = Bench::cluster(4, 0, NT);
    let gone = bench.id(3);
    let entry = bench.entry(0, gone, NodeFlags::MASTER);
    forgets(&mut bench, 1, 0, gone);
    assert!(bench.at(0).nodes.find(&gone).is_none());
    bench.now_ms += 29_999;
    bench.gossip(2, 0, vec![entry.clone()], |_| {});
    assert!(bench.at(0).nodes.find(&gone).is_none());
    bench.now_ms += 1;
    bench.gossip(2, 0, vec![entry], |_| {});
    assert!(bench.at(0).nodes.find(&gone).is_some());
}

#[test]
fn f55_nobody_makes_me_forget_myself_my_master_or_the_one_who_says_it_to_death() {
    let mut bench = Bench::cluster(3, 1, NT);
    let (me, master, speaker) = (bench.id(3), bench.id(0), bench.id(1));
    for node in [me, master, speaker] {
        forgets(&mut bench, 1, 3, node);
    }
    assert!(bench.at(3).nodes.find(&me).is_some() && bench.at(3).nodes.find(&master).is_some());
    assert!(bench.at(3).nodes.find(&speaker).is_none());
}

#[test]
fn a_stranger_gets_a_pong_and_teaches_nothing() {
    let mut bench = Bench::cluster(3, 0, NT);
    let other = bench.id(2);
    let (stranger, unheard) =
        (NodeId::random(&mut Random::seeded(901)), NodeId::random(&mut Random::seeded(902)));
    let mut entry = bench.entry(0, other, NodeFlags::MASTER);
    entry.id = Some(unheard);
    bench.record = true;
    bench.gossip(1, 0, vec![entry], |header| {
        header.sender = stranger;
        header.current_epoch = 99;
    });
    assert_eq!(bench.at(0).nodes.len(), 3);
    assert!(bench.at(0).current_epoch < 99);
    assert_eq!(bench.sent(0, PacketType::Pong).len(), 1);
}

#[test]
fn another_name_behind_a_known_address_costs_the_known_node_its_address() {
    let mut bench = Bench::cluster(3, 0, NT);
    let (known, stranger) = (bench.id(1), NodeId::random(&mut Random::seeded(901)));
    let conn = bench.view(0, known).outbound.unwrap();
    answer(&mut bench, 0, conn, 1, |header| header.sender = stranger);
    let node = bench.view(0, known);
    assert!(!node.has_address() && node.ip.is_empty() && node.port == 0 && node.outbound.is_none());
}

/// A PONG as node `from` would send it, on a link that `node` dialled.
fn answer(bench: &mut Bench, node: usize, conn: ConnId, from: usize, change: impl FnOnce(&mut bus::Header)) {
    say(bench, node, conn, from, PingKind::Pong, change);
}

fn say(
    bench: &mut Bench,
    node: usize,
    conn: ConnId,
    from: usize,
    kind: PingKind,
    change: impl FnOnce(&mut bus::Header),
) {
    let facts = bench::NodeFacts::default();
    let turn = Turn { now: bench.now(), facts: &facts, next_conn: &mut ConnId(1), actions: &mut Vec::new() };
    let mut header = bench.at(from).header(&turn);
    change(&mut header);
    let body = Body::Ping { kind, gossip: vec![], extensions: vec![] };
    let bytes = bus::encode(&bus::Packet { header, body });
    bench.with(node, |cluster, turn| cluster.link_received(conn, &bytes, turn));
}

#[test]
fn a_new_address_is_taken_from_a_nodes_own_ping_only() {
    let mut bench = Bench::cluster(3, 0, NT);
    let id = bench.id(1);
    let conn = bench.view(0, id).outbound.unwrap();
    answer(&mut bench, 0, conn, 1, |header| header.port = 7777);
    assert_eq!(bench.view(0, id).port, 6379);
    bench.ping(1, 0, |header| (header.port, header.cport) = (7777, 8888));
    assert_eq!((bench.view(0, id).port, bench.view(0, id).cport), (7777, 8888));
    assert_ne!(bench.view(0, id).outbound, Some(conn), "its link is made anew");
}

#[test]
fn a_masters_new_address_turns_replication_there() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.ping(0, 3, |header| header.port = 7777);
    assert_eq!(bench.nodes[3].replicates.map(|addr| addr.port()), Some(7777));
}

#[test]
fn gossip_gives_a_suspect_another_address_and_nobody_else() {
    for (suspected, ill, taken) in [(false, false, false), (true, true, false), (true, false, true)] {
        let mut bench = Bench::cluster(3, 0, NT);
        let id = bench.id(2);
        bench.view_mut(0, id).flags.set(NodeFlags::PFAIL, suspected);
        let mut entry = bench.entry(0, id, if ill { NodeFlags::PFAIL } else { NodeFlags::MASTER });
        entry.port = 7777;
        bench.gossip(1, 0, vec![entry], |_| {});
        assert_eq!(bench.view(0, id).port == 7777, taken, "{suspected} {ill}");
    }
}

#[test]
fn gossip_brings_no_node_without_an_address_or_with_flags_that_are_not_its_own() {
    let mut bench = Bench::cluster(3, 0, NT);
    let other = bench.id(2);
    let base = bench.entry(0, other, NodeFlags::MASTER | NodeFlags::MYSELF | NodeFlags::HANDSHAKE);
    let with = |n: u64, flags, ip: &str| bus::Gossip {
        id: Some(NodeId::random(&mut Random::seeded(n))),
        flags,
        ip: ip.to_owned(),
        ..base.clone()
    };
    let good = with(903, base.flags, "127.22.0.9");
    let id = good.id.unwrap();
    let entries = vec![
        with(901, NodeFlags::MASTER | NodeFlags::NOADDR, "127.22.0.9"),
        with(902, NodeFlags::MASTER, ""),
        good,
        bus::Gossip { id: None, ..base.clone() },
    ];
    bench.gossip(1, 0, entries, |_| {});
    assert_eq!(bench.at(0).nodes.len(), 4);
    assert_eq!(bench.view(0, id).flags, NodeFlags::MASTER);
}

#[test]
fn my_address_is_learnt_by_a_ping_if_i_have_none_and_by_a_meet_always() {
    let mut bench = Bench::cluster(3, 0, NT);
    let says = |bench: &mut Bench, kind| {
        bench.inject(1, 0, |packet| {
            packet.body = Body::Ping { kind, gossip: vec![], extensions: vec![] };
        });
        bench.at(0).nodes.me().ip.clone()
    };
    bench.at_mut(0).nodes.me_mut().ip = "9.9.9.9".to_owned();
    assert_eq!(says(&mut bench, PingKind::Ping), "9.9.9.9");
    assert_eq!(says(&mut bench, PingKind::Meet), ip_of(0));
    bench.at_mut(0).nodes.me_mut().ip.clear();
    assert_eq!(says(&mut bench, PingKind::Ping), ip_of(0));
    bench.set(0, |settings| settings.announce_ip = "8.8.8.8".to_owned());
    assert_eq!(says(&mut bench, PingKind::Meet), "8.8.8.8");
}

#[test]
fn an_address_that_is_not_announced_any_more_is_learnt_again() {
    let mut bench = Bench::cluster(3, 0, NT);
    bench.set(0, |settings| settings.announce_ip = ip_of(0));
    bench.set(0, |settings| settings.announce_ip.clear());
    assert_eq!(bench.at(0).nodes.me().ip, "");
    bench.until(NT * 2, "learnt", |b| b.at(0).nodes.me().ip == ip_of(0));
}

#[test]
fn announced_ports_and_no_failover_work_at_once_and_reach_everyone() {
    let mut bench = Bench::cluster(3, 1, NT);
    bench.set(3, |settings| {
        (settings.announce_port, settings.announce_bus_port) = (7777, 16_379);
        settings.no_failover = true;
    });
    let id = bench.id(3);
    bench.until(NT * 2, "known", |b| {
        (0..3).all(|n| b.view(n, id).port == 7777 && b.view(n, id).flags.any(NodeFlags::NOFAILOVER))
    });
    bench.set(3, |settings| settings.no_failover = false);
    bench.until(NT * 2, "withdrawn", |b| (0..3).all(|n| !b.view(n, id).flags.any(NodeFlags::NOFAILOVER)));
}

#[test]
fn a_link_over_its_limit_is_closed_and_counted_and_one_at_its_limit_is_not() {
    let mut bench = Bench::cluster(2, 0, NT);
    bench.set(0, |settings| settings.link_sendbuf_limit = 1000);
    let id = bench.id(1);
    bench.nodes[0].facts.queued = 1000;
    let (conn, now) = (bench.view(0, id).outbound, bench.now_ms);
    bench.cron_at(0, now);
    assert_eq!(bench.view(0, id).outbound, conn);
    bench.nodes[0].facts.queued = 1001;
    bench.cron_at(0, now + 100);
    assert_ne!(bench.view(0, id).outbound, conn);
    let Reply::Text(info) = bench.command(0, "INFO") else { panic!("no text") };
    assert!(info.contains("total_cluster_links_buffer_limit_exceeded:2\r\n"), "one each way: {info}");
}

#[test]
fn what_waits_for_a_dial_counts_against_the_limit_too() {
    let mut bench = Bench::cluster(2, 0, 600_000);
    let id = bench.id(1);
    bench.isolate(1);
    let conn = bench.view(0, id).outbound.unwrap();
    bench.with(0, |cluster, turn| cluster.drop_link(conn, turn));
    let now = bench.now_ms;
    bench.cron_at(0, now);
    bench.with(0, |cluster, turn| cluster.publish(false, b"c", &[0; 5000], turn));
    let dialled = bench.view(0, id).outbound;
    bench.set(0, |settings| settings.link_sendbuf_limit = 5000);
    bench.cron_at(0, now + 100);
    assert_ne!(bench.view(0, id).outbound, dialled);
}

#[test]
fn links_tells_what_is_used_and_what_is_allocated() {
    let mut bench = Bench::cluster(2, 0, NT);
    bench.nodes[0].facts.queued = 1000;
    let Reply::Array(links) = bench.command(0, "LINKS") else { panic!("no array") };
    let Reply::Map(fields) = &links[0] else { panic!("no map") };
    let field = |name: &str| fields.iter().find(|(key, _)| *key == Reply::bulk(name)).unwrap().1.clone();
    assert_eq!(links.len(), 2);
    assert_eq!(field("events"), Reply::bulk("rw"));
    assert_eq!(field("send-buffer-used"), Reply::Integer(1000));
    assert_eq!(field("send-buffer-allocated"), Reply::Integer(1024));
}

#[test]
fn a_killed_link_is_made_anew() {
    let mut bench = Bench::cluster(2, 0, NT);
    let id = bench.id(1);
    let links = |b: &Bench| (b.view(0, id).outbound, b.view(0, id).inbound);
    let before = links(&bench);
    let kill =
        |bench: &mut Bench, id: &[u8], to, from| bench.with(0, |c, turn| c.kill_links(id, to, from, turn));
    assert!(!kill(&mut bench, b"abc", true, true));
    assert!(kill(&mut bench, id.as_bytes(), true, false));
    assert_eq!(links(&bench), (None, before.1));
    assert!(kill(&mut bench, id.as_bytes(), false, true));
    assert_eq!(links(&bench), (None, None));
    bench.until(NT * 2, "both again", |b| links(b).0.is_some() && links(b).1.is_some());
}

#[test]
fn a_filtered_type_is_counted_and_goes_no_further() {
    let mut bench = Bench::cluster(2, 0, NT);
    let publish = |bench: &mut Bench| {
        bench.with(1, |cluster, turn| cluster.publish(false, b"c", b"m", turn));
        bench.run(5);
        bench.nodes[0].seen.iter().filter(|action| matches!(action, Action::Publish { .. })).count()
    };
    bench.with(0, |cluster, _| cluster.set_drop_filter(Some(PacketType::Publish as u16)));
    assert_eq!(publish(&mut bench), 0);
    let Reply::Text(info) = bench.command(0, "INFO") else { panic!("no text") };
    assert!(info.contains("cluster_stats_messages_publish_received:1\r\n"));
    bench.with(0, |cluster, _| cluster.set_drop_filter(None));
    assert_eq!(publish(&mut bench), 1);
}

#[test]
fn a_sharded_message_reaches_the_whole_shard_from_its_replica_too() {
    let mut bench = Bench::cluster(3, 2, NT);
    bench.record = true;
    bench.with(3, |cluster, turn| cluster.publish(true, b"s", b"m", turn));
    bench.run(5);
    let mut told: Vec<usize> = bench.sent(3, PacketType::PublishShard).iter().map(|seen| seen.to).collect();
    told.sort_unstable();
    assert_eq!(told, [0, 6]);
    let Reply::Text(info) = bench.command(6, "INFO") else { panic!("no text") };
    assert!(info.contains("cluster_stats_messages_publishshard_received:1\r\n"), "{info}");
    let heard = Action::Publish { sharded: true, channel: b"s".to_vec(), message: b"m".to_vec() };
    assert!(bench.nodes[0].seen.contains(&heard));
}

#[test]
fn a_master_that_loads_takes_no_call_and_a_replica_does() {
    for (node, taken) in [(0, false), (3, true)] {
        let mut bench = Bench::cluster(3, 1, NT);
        bench.nodes[node].facts.loading = true;
        let peer = "127.22.0.9:5555".parse().unwrap();
        bench.with(node, |cluster, turn| cluster.link_accepted(ConnId(900_000), peer, peer, turn));
        assert_eq!(bench.at(node).links.contains_key(&ConnId(900_000)), taken);
    }
}

#[test]
fn a_known_node_that_is_met_at_a_new_address_has_moved() {
    let mut bench = Bench::cluster(3, 0, NT);
    let id = bench.id(1);
    // Its own pings, which would tell the same, do not arrive.
    bench.lost_types.insert((1, 0, PacketType::Ping as u16));
    bench.view_mut(0, id).port = 7000;
    bench.ok(0, &format!("MEET {} 6379", ip_of(1)));
    bench.until(500, "its address is known", |b| b.view(0, id).port == 6379 && b.at(0).nodes.len() == 3);
}

#[test]
fn a_ping_on_a_link_that_i_dialled_moves_nobody() {
    let mut bench = Bench::cluster(3, 0, NT);
    let id = bench.id(1);
    let conn = bench.view(0, id).outbound.unwrap();
    say(&mut bench, 0, conn, 1, PingKind::Ping, |header| header.port = 7777);
    assert_eq!(bench.view(0, id).port, 6379);
}

#[test]
fn a_voter_that_is_forgotten_has_not_voted() {
    let mut bench = Bench::cluster(3, 1, NT);
    let voter = bench.id(1);
    let idx = bench.at(3).nodes.find(&voter).unwrap();
    bench.at_mut(3).election.count_for_tests(idx);
    bench.ok(3, &format!("FORGET {voter}"));
    assert_eq!(bench.at(3).election.votes_for_tests(), 0);
}

#[test]
fn after_a_hard_reset_the_clock_that_is_announced_begins_at_zero() {
    let mut bench = Bench::cluster(3, 0, NT);
    bench.ok(0, "RESET HARD");
    bench.ok(0, &format!("MEET {} 6379", ip_of(1)));
    bench.record = true;
    bench.until(500, "a MEET", |b| !b.sent(0, PacketType::Meet).is_empty());
    assert_eq!(bench.sent(0, PacketType::Meet)[0].packet.header.current_epoch, 0);
}

#[test]
fn a_reset_closes_even_a_slot_that_is_imported_from_myself() {
    let mut bench = Bench::strangers(1, NT);
    let me = bench.id(0);
    bench.ok(0, &format!("SETSLOT 1 IMPORTING {me}"));
    bench.ok(0, "RESET");
    assert!(bench.at(0).slots.importing.is_empty());
}

#[test]
fn nothing_is_sent_on_a_link_that_was_dropped_in_the_same_batch() {
    let mut bench = Bench::cluster(2, 0, NT);
    let conn = bench.view(0, bench.id(1)).outbound.unwrap();
    let left = bench.with(0, |cluster, turn| {
        cluster.publish(false, b"c", b"m", turn);
        cluster.drop_link(conn, turn);
        cluster.outgoing.len()
    });
    assert_eq!(left, 0);
}

#[test]
fn a_node_in_handshake_gets_no_broadcast() {
    let mut bench = Bench::strangers(2, NT);
    bench.lost_types.insert((1, 0, PacketType::Pong as u16));
    bench.lost_types.insert((1, 0, PacketType::Ping as u16));
    bench.ok(0, &format!("MEET {} 6379", ip_of(1)));
    bench.run(300);
    bench.record = true;
    bench.with(0, |cluster, turn| cluster.publish(false, b"c", b"m", turn));
    bench.run(5);
    assert!(bench.sent(0, PacketType::Publish).is_empty());
}

#[test]
fn after_a_hard_reset_no_epoch_of_the_former_life_counts_as_saved() {
    let mut bench = Bench::cluster(3, 0, NT);
    bench.ok(0, "RESET HARD");
    bench.run(10);
    bench.nodes[0].disk_fails = true;
    bench.ok(0, &format!("MEET {} 6379", ip_of(1)));
    bench.until(1000, "it hears of an epoch", |b| b.at(0).current_epoch > 0);
    bench.record = true;
    bench.run(NT);
    let said =
        bench.wire_log.iter().filter(|seen| seen.from == 0).map(|seen| seen.packet.header.current_epoch);
    assert_eq!(said.max(), Some(0), "nothing but zero is on disk");
}
