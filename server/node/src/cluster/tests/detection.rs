//! Failure detection, from both sides of each boundary.
//!
//! | rule (REDIS-CLUSTER-FACTS 2.5, 2.6) | story |
//! |---|---|
//! | PFAIL: silent for more than NT | `a_node_is_suspected_one_millisecond_after_the_timeout` |
//! | any byte is life | `any_byte_of_a_node_counts_as_life` |
//! | reports count for 2 NT | `a_report_counts_for_exactly_two_node_timeouts` |
//! | n/2 + 1 voices, my own included if I am a master | `two_of_five_..`, `a_replica_has_no_voice_..` |
//! | only a suspect can be agreed upon | `no_number_of_reports_..` |
//! | reports come from masters, about others | `a_replica_reports_nothing`, `nobody_reports_me_to_myself` |
//! | a healthy entry takes the report back | `a_master_takes_its_report_back` |
//! | FAIL messages | `a_fail_message_is_believed_..` |
//! | FAIL is undone by a PONG on my own link | `a_failed_master_..`, `a_failed_replica_or_slotless_master_..` |

use super::super::bus::{Body, PingKind};
use super::bench::Bench;
use super::*;

const NT: u64 = 2000;

/// Five masters; 4 is deaf and dumb, and nobody has noticed.
fn silent_fifth() -> (Bench, NodeId) {
    let mut bench = Bench::original(5, 1, NT);
    bench.isolate(4);
    let ill = bench.id(4);
    (bench, ill)
}

/// As `silent_fifth`, and node `at` suspects it; others' words have not reached `at`.
fn suspected_at(at: usize) -> (Bench, NodeId) {
    let (mut bench, ill) = silent_fifth();
    bench.view_mut(at, ill).flags |= NodeFlags::PFAIL;
    (bench, ill)
}

fn report(bench: &mut Bench, from: usize, to: usize, about: NodeId, flags: NodeFlags) {
    let entry = bench.entry(to, about, flags | NodeFlags::MASTER);
    bench.gossip(from, to, vec![entry], |_| {});
}

#[test]
fn a_node_is_suspected_one_millisecond_after_the_timeout() {
    let (mut bench, ill) = silent_fifth();
    let sent = bench.now_ms;
    let at = bench.mono();
    bench.view_mut(0, ill).ping_sent = Some(at);
    bench.cron_at(0, sent + NT);
    assert!(!bench.view(0, ill).suspected());
    bench.cron_at(0, sent + NT + 1);
    assert!(bench.view(0, ill).suspected());
}

#[test]
fn any_byte_of_a_node_counts_as_life() {
    let (mut bench, ill) = silent_fifth();
    let sent = bench.now_ms;
    let at = bench.mono();
    let node = bench.view_mut(0, ill);
    (node.ping_sent, node.data_received) = (Some(at), Some(at.plus_ms(500)));
    bench.cron_at(0, sent + NT + 500);
    assert!(!bench.view(0, ill).suspected());
    bench.cron_at(0, sent + NT + 501);
    assert!(bench.view(0, ill).suspected());
}

#[test]
fn two_of_five_voices_are_no_agreement_and_three_are() {
    let (mut bench, ill) = suspected_at(0);
    report(&mut bench, 1, 0, ill, NodeFlags::PFAIL);
    assert!(!bench.view(0, ill).failed(), "mine and one more");
    report(&mut bench, 2, 0, ill, NodeFlags::FAIL);
    assert!(bench.view(0, ill).failed() && !bench.view(0, ill).flags.any(NodeFlags::PFAIL));
}

#[test]
fn an_agreement_is_announced_to_everyone() {
    let (mut bench, ill) = suspected_at(0);
    bench.record = true;
    report(&mut bench, 1, 0, ill, NodeFlags::PFAIL);
    report(&mut bench, 2, 0, ill, NodeFlags::PFAIL);
    let mut told: Vec<usize> = bench.sent(0, bus::PacketType::Fail).iter().map(|seen| seen.to).collect();
    told.sort_unstable();
    assert_eq!(told, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_replica_has_no_voice_of_its_own() {
    let (mut bench, ill) = suspected_at(5);
    for master in [0, 1] {
        report(&mut bench, master, 5, ill, NodeFlags::PFAIL);
    }
    assert!(!bench.view(5, ill).failed(), "two of five");
    report(&mut bench, 2, 5, ill, NodeFlags::PFAIL);
    assert!(bench.view(5, ill).failed());
}

#[test]
fn no_number_of_reports_fails_a_node_that_i_hear() {
    let (mut bench, ill) = silent_fifth();
    for master in 1..4 {
        report(&mut bench, master, 0, ill, NodeFlags::PFAIL);
    }
    assert_eq!(bench.view(0, ill).fail_reports.len(), 3);
    assert!(!bench.view(0, ill).failed());
}

#[test]
fn a_report_counts_for_exactly_two_node_timeouts() {
    let (mut bench, ill) = silent_fifth();
    report(&mut bench, 1, 0, ill, NodeFlags::PFAIL);
    let said = bench.now_ms;
    let count = format!("COUNT-FAILURE-REPORTS {ill}");
    bench.now_ms = said + 2 * NT;
    assert_eq!(bench.command(0, &count), Reply::Integer(1));
    bench.now_ms += 1;
    assert_eq!(bench.command(0, &count), Reply::Integer(0));
}

#[test]
fn a_replica_reports_nothing() {
    let (mut bench, ill) = suspected_at(0);
    for replica in 5..9 {
        report(&mut bench, replica, 0, ill, NodeFlags::FAIL);
    }
    assert!(bench.view(0, ill).fail_reports.is_empty());
}

#[test]
fn nobody_reports_me_to_myself() {
    let mut bench = Bench::original(3, 0, NT);
    let me = bench.id(0);
    for master in [1, 2] {
        report(&mut bench, master, 0, me, NodeFlags::FAIL);
    }
    assert!(bench.at(0).nodes.me().fail_reports.is_empty());
}

#[test]
fn a_master_takes_its_report_back() {
    let (mut bench, ill) = silent_fifth();
    report(&mut bench, 1, 0, ill, NodeFlags::PFAIL);
    report(&mut bench, 2, 0, ill, NodeFlags::default());
    assert_eq!(bench.view(0, ill).fail_reports.len(), 1, "another's word takes nothing back");
    report(&mut bench, 1, 0, ill, NodeFlags::default());
    assert!(bench.view(0, ill).fail_reports.is_empty());
}

#[test]
fn a_fail_message_is_believed_of_any_known_node_and_not_about_me() {
    let mut bench = Bench::original(3, 1, NT);
    let (me, other) = (bench.id(0), bench.id(1));
    bench.inject(3, 0, |packet| packet.body = Body::Fail { failed: Some(me) });
    assert!(!bench.at(0).nodes.me().failed());
    bench.inject(3, 0, |packet| packet.body = Body::Fail { failed: Some(other) });
    assert!(bench.view(0, other).failed());
}

#[test]
fn a_stranger_fails_nobody_and_publishes_nothing() {
    let mut bench = Bench::original(3, 0, NT);
    let other = bench.id(1);
    let stranger = NodeId::random(&mut crate::random::Random::seeded(9));
    let publish = Body::Publish { sharded: false, channel: b"c".to_vec(), message: b"m".to_vec() };
    let update =
        Body::Update { node: Some(other), config_epoch: 99, slots: bench.at(0).nodes.me().slots.clone() };
    for body in [Body::Fail { failed: Some(other) }, publish, update] {
        bench.inject(2, 0, |packet| {
            packet.header.sender = stranger;
            packet.body = body;
        });
    }
    assert!(!bench.view(0, other).failed());
    assert!(!bench.nodes[0].seen.iter().any(|action| matches!(action, Action::Publish { .. })));
    assert_eq!(bench.at(0).slots.owner(0), Some(MYSELF));
}

/// Node 1's view of a failed node; a PONG of it comes on 1's own link so long after it was found to have failed.
fn pong_after(bench: &mut Bench, ill: usize, ms: u64) -> bool {
    let id = bench.id(ill);
    bench.isolate(ill);
    let at = bench.mono();
    let node = bench.view_mut(1, id);
    node.flags |= NodeFlags::FAIL;
    node.fail_time = Some(at);
    bench.now_ms += ms;
    bench.with(1, |cluster, turn| {
        let idx = cluster.nodes.find(&id).unwrap();
        cluster.pong_received(idx, turn);
    });
    !bench.view(1, id).failed()
}

#[test]
fn a_failed_master_with_slots_is_taken_back_one_millisecond_after_two_node_timeouts() {
    let mut bench = Bench::original(3, 1, NT);
    assert!(!pong_after(&mut bench, 0, 2 * NT));
    assert!(pong_after(&mut bench, 0, 2 * NT + 1));
}

#[test]
fn a_failed_replica_or_slotless_master_is_taken_back_at_once() {
    let mut bench = Bench::original(3, 1, NT);
    assert!(pong_after(&mut bench, 3, 0));
    bench.ok(1, "DELSLOTSRANGE 0 5460");
    assert!(pong_after(&mut bench, 0, 0));
}

#[test]
fn a_pong_on_the_link_that_the_node_dialled_proves_nothing() {
    let mut bench = Bench::original(3, 0, NT);
    let ill = bench.id(0);
    bench.view_mut(1, ill).flags |= NodeFlags::PFAIL;
    bench.inject(0, 1, |packet| {
        packet.body = Body::Ping { kind: PingKind::Pong, gossip: vec![], extensions: vec![] };
    });
    assert!(bench.view(1, ill).suspected());
}

#[test]
fn a_ping_of_the_node_is_a_sign_of_life_too() {
    let mut bench = Bench::original(5, 0, NT);
    let (id, sent, at) = (bench.id(4), bench.now_ms, bench.mono());
    bench.view_mut(0, id).ping_sent = Some(at);
    bench.now_ms = sent + 1000;
    bench.ping(4, 0, |_| {});
    bench.cut.insert((4, 0));
    bench.cron_at(0, sent + NT + 1000);
    assert!(!bench.view(0, id).suspected());
}

#[test]
fn a_ping_that_was_outstanding_stays_so_over_a_new_link() {
    // A process that accepts connections and says nothing is not alive.
    let mut bench = Bench::original(3, 0, NT);
    let (id, at) = (bench.id(1), bench.mono());
    bench.lost_types.insert((1, 0, bus::PacketType::Pong as u16));
    bench.view_mut(0, id).ping_sent = Some(at);
    let conn = bench.view(0, id).outbound.unwrap();
    bench.with(0, |cluster, turn| cluster.drop_link(conn, turn));
    bench.until(500, "a new link that is up", |b| b.sent_on_new_link(0, id, conn));
    assert_eq!(bench.view(0, id).ping_sent, Some(at));
}

#[test]
fn the_word_of_a_forgotten_reporter_is_forgotten_too() {
    let (mut bench, ill) = silent_fifth();
    report(&mut bench, 1, 0, ill, NodeFlags::PFAIL);
    let reporter = bench.id(1);
    bench.ok(0, &format!("FORGET {reporter}"));
    assert_eq!(bench.command(0, &format!("COUNT-FAILURE-REPORTS {ill}")), Reply::Integer(0));
}
