//! Replication as stories.

mod bench;

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::io::WallMs;
use crate::keyspace::Value;
use crate::rdb::SnapshotEncoder;
use bench::{Node, World, keyspace};

#[test]
fn a_new_replica_gets_everything_and_then_the_stream() {
    let mut world = World::new(3);
    for n in 0..300 {
        world.write(0, &["SET", &format!("key{n}"), "before"]);
    }
    world.follow(1, 0);
    world.write(0, &["SET", "after", "1"]);
    world.settle();
    assert!(world.up(1));
    assert_eq!(world.value(1, "after"), "1");
    world.assert_same(&[0, 1]);
    // SELECT 0 (23 bytes) stands before the first write after each full resync.
    assert_eq!(world.offset(0), 23 + 31);
    world.follow(2, 0);
    world.write(0, &["SET", "after", "2"]);
    world.settle();
    assert_eq!(world.offset(0), 2 * (23 + 31));
    world.assert_same(&[0, 1, 2]);
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let mut world = World::new(2);
    world.piece = 1;
    for n in 0..30 {
        world.write(0, &["SET", &format!("key{n}"), "value"]);
    }
    world.follow(1, 0);
    world.write(0, &["APPEND", "key1", "!"]);
    world.settle();
    world.assert_same(&[0, 1]);
}

#[test]
fn the_offset_announced_is_that_of_the_snapshot_even_when_writes_go_on() {
    let mut world = World::new(3);
    world.write(0, &["SET", "log", ""]);
    world.follow(1, 0);
    for n in 0..50 {
        world.write(0, &["SET", &format!("key{n}"), "a value"]);
    }
    // The second replica asks, waits and loads while writes go on: none may be missing or come twice.
    world.piece = 60;
    let addr = world.nodes[0].addr;
    world.with_node(2, |node, now, actions| node.repl.set_master(addr, now, actions));
    let mut during = 0;
    for n in 0..200 {
        world.write(0, &["APPEND", "log", &format!("{n},")]);
        world.step_once();
        during += usize::from(world.nodes[2].loading.is_some());
    }
    assert!(during > 5, "writes fell into the transfer");
    world.settle();
    world.run_ms(2000);
    world.assert_same(&[0, 1, 2]);
}

#[test]
fn no_stream_follows_the_mark_before_the_first_acknowledgement() {
    let mut world = World::new(2);
    world.write(0, &["SET", "a", "1"]);
    let (conn, peer) = (ConnId(1000), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut sent = Vec::new();
    let node = &mut world.nodes[0];
    let mut actions = Vec::new();
    for command in [&["REPLCONF", "capa", "eof", "capa", "psync2"][..], &["PSYNC", "?", "-1"]] {
        let args: Vec<&[u8]> = command.iter().map(|arg| arg.as_bytes()).collect();
        node.repl.client_command(conn, peer, &args, Mono(0), &mut actions);
    }
    let drain = |node: &mut Node, actions: &mut Actions, sent: &mut Vec<u8>| {
        while !actions.is_empty() {
            for action in std::mem::take(actions) {
                match action {
                    Action::Send { bytes, .. } => sent.extend(bytes),
                    Action::SendShared { chunk, start, end, .. } => sent.extend(&chunk[start..end]),
                    Action::TakeSnapshot { to_file } => {
                        let encoder = SnapshotEncoder::new(node.keys.snapshot(), Vec::new());
                        node.encoders.insert(SnapshotId(1), encoder);
                        node.repl.snapshot_taken(SnapshotId(1), to_file, Mono(0), actions);
                    }
                    Action::PullSnapshot(id) => {
                        let Some(encoder) = node.encoders.get_mut(&id) else { continue };
                        let piece = encoder.next_chunk(1 << 20);
                        if piece.last {
                            node.encoders.remove(&id);
                        }
                        node.repl.snapshot_chunk(id, &piece.bytes, piece.last, Mono(0), actions);
                    }
                    _ => {}
                }
            }
        }
    };
    node.repl.flush(Mono(0), &mut actions);
    drain(node, &mut actions, &mut sent);
    node.repl.propagate(Some(0), b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n");
    node.repl.flush(Mono(0), &mut actions);
    drain(node, &mut actions, &mut sent);
    let at = sent.windows(5).position(|five| five == b"$EOF:").expect("the marked form");
    let mark = sent[at + 5..at + 45].to_vec();
    assert!(sent.ends_with(&mark), "the mark is the last thing sent");
    node.repl.client_command(conn, peer, &[b"REPLCONF", b"ACK", b"0"], Mono(0), &mut actions);
    node.repl.flush(Mono(0), &mut actions);
    sent.clear();
    drain(node, &mut actions, &mut sent);
    assert!(sent.starts_with(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n"));
}

#[test]
fn a_replica_without_the_eof_form_gets_a_length_first() {
    let settings = ReplicationSettings { diskless_sync: false, ..ReplicationSettings::default() };
    let mut world = World::with(2, &settings);
    for n in 0..300 {
        world.write(0, &["SET", &format!("key{n}"), "before"]);
    }
    world.follow(1, 0);
    world.write(0, &["SET", "after", "1"]);
    world.settle();
    world.assert_same(&[0, 1]);
    let received = &world.received[&1];
    assert!(!received.windows(5).any(|five| five == b"$EOF:"));
}

#[test]
fn a_short_cut_costs_only_what_was_missed() {
    let mut world = World::new(2);
    world.write(0, &["SET", "log", "x"]);
    world.follow(1, 0);
    world.write(0, &["APPEND", "log", "1"]);
    world.settle();
    world.cut(0, 1);
    world.write(0, &["APPEND", "log", "2"]);
    world.run_ms(1500);
    assert_eq!(world.value(1, "log"), "x12");
    assert_eq!(world.counts(0), SyncCounts { full: 1, partial_ok: 1, partial_err: 1 });
    world.assert_same(&[0, 1]);
}

#[test]
fn a_long_cut_is_past_the_backlog_and_resyncs_fully() {
    let settings = ReplicationSettings {
        backlog_bytes: 200,
        diskless_sync_delay_s: 0,
        ..ReplicationSettings::default()
    };
    let mut world = World::with(2, &settings);
    world.follow(1, 0);
    world.cut(0, 1);
    for n in 0..100 {
        world.write(0, &["SET", &format!("k{n}"), "v"]);
        world.settle();
    }
    world.run_ms(1500);
    assert_eq!(world.counts(0).full, 2);
    world.assert_same(&[0, 1]);
}

#[test]
fn after_a_failover_the_others_continue_and_the_old_masters_extra_writes_vanish() {
    let mut world = World::new(3);
    world.write(0, &["SET", "log", "x"]);
    world.follow(1, 0);
    world.follow(2, 0);
    world.write(0, &["APPEND", "log", "1"]);
    world.settle();
    world.cut(0, 1);
    world.cut(0, 2);
    // The old master, alone, takes one more write that nobody will see.
    world.write(0, &["APPEND", "log", "GHOST"]);
    world.promote(1);
    world.write(1, &["APPEND", "log", "2"]);
    world.follow(2, 1);
    assert_eq!(world.counts(1), SyncCounts { full: 0, partial_ok: 1, partial_err: 0 });
    world.follow(0, 1);
    world.settle();
    assert_eq!(world.counts(1), SyncCounts { full: 1, partial_ok: 1, partial_err: 1 });
    assert_eq!(world.value(0, "log"), "x12");
    world.assert_same(&[0, 1, 2]);
}

#[test]
fn a_demoted_master_without_extra_writes_just_continues() {
    let mut world = World::new(2);
    world.write(0, &["SET", "log", "x"]);
    world.follow(1, 0);
    world.write(0, &["APPEND", "log", "1"]);
    world.settle();
    world.promote(1);
    world.write(1, &["APPEND", "log", "2"]);
    world.follow(0, 1);
    assert_eq!(world.counts(1), SyncCounts { full: 0, partial_ok: 1, partial_err: 0 });
    world.assert_same(&[0, 1]);
    let history = world.nodes[0].repl.history();
    assert_eq!(history, world.nodes[1].repl.history(), "both know the old id and where it ended");
}

#[test]
fn a_chained_replica_gets_the_same_bytes() {
    let mut world = World::new(3);
    world.follow(1, 0);
    world.follow(2, 1);
    world.write(0, &["SET", "a", "1"]);
    world.run_ms(11_000);
    world.write(0, &["APPEND", "a", "2"]);
    world.settle();
    assert_eq!(world.value(2, "a"), "12");
    world.assert_same(&[0, 1, 2]);
}

#[test]
fn a_full_resync_in_the_middle_of_a_chain_reaches_its_end() {
    let settings = ReplicationSettings {
        backlog_bytes: 100,
        diskless_sync_delay_s: 0,
        ..ReplicationSettings::default()
    };
    let mut world = World::with(3, &settings);
    world.follow(1, 0);
    world.follow(2, 1);
    world.cut(0, 1);
    for n in 0..50 {
        world.write(0, &["SET", &format!("k{n}"), "v"]);
        world.settle();
    }
    world.run_ms(5000);
    world.assert_same(&[0, 1, 2]);
}

#[test]
fn the_old_dataset_stays_until_the_new_one_is_whole() {
    let mut world = World::new(3);
    world.write(0, &["SET", "old", "1"]);
    world.follow(1, 0);
    let before = world.offset(1);
    for n in 0..200 {
        world.write(2, &["SET", &format!("new{n}"), "a value of some length"]);
    }
    // The transfer is cut half-way.
    let addr = world.nodes[2].addr;
    world.piece = 100;
    world.with_node(1, |node, now, actions| node.repl.set_master(addr, now, actions));
    let half_way = |world: &World| {
        world.nodes[1].repl.link_status().and_then(|link| link.transfer).is_some_and(|(read, _)| read > 1000)
    };
    for _ in 0..10_000 {
        if half_way(&world) {
            break;
        }
        world.step_once();
    }
    assert!(half_way(&world));
    // What it holds is of unknown age to its new shard: it must not stand for election.
    assert_eq!(world.nodes[1].repl.link_status().unwrap().down_since, None);
    world.freeze(1, 2, true);
    world.promote(1);
    assert_eq!((world.value(1, "old").as_str(), world.value(1, "new1").as_str()), ("1", ""));
    assert_eq!(world.offset(1), before);
    assert!(world.nodes[1].loading.is_none());
}

#[test]
fn a_transaction_counts_and_applies_at_exec_only() {
    let mut world = World::new(2);
    world.write(0, &["SET", "a", "0"]);
    world.follow(1, 0);
    world.write(0, &["APPEND", "a", "1"]);
    world.settle();
    let before = world.offset(1);
    world.write(0, &["MULTI"]);
    world.write(0, &["APPEND", "a", "2"]);
    world.settle();
    assert_eq!(world.offset(1), before, "frozen within MULTI");
    assert_eq!(world.value(1, "a"), "01");
    // A link lost here resumes from before MULTI.
    world.cut(0, 1);
    world.write(0, &["APPEND", "a", "3"]);
    world.write(0, &["EXEC"]);
    world.run_ms(1500);
    assert_eq!(world.value(1, "a"), "0123");
    world.assert_same(&[0, 1]);
}

#[test]
fn wait_asks_and_is_answered_by_what_was_acknowledged() {
    let mut world = World::new(3);
    world.follow(1, 0);
    world.follow(2, 0);
    world.write(0, &["SET", "a", "1"]);
    let offset = world.offset(0);
    let client = ConnId(500);
    let deadline = world.now.mono.plus_ms(300);
    let at_once = world.with_node(0, |node, _, _| node.repl.wait(client, offset, 2, Some(deadline)));
    assert_eq!(at_once, None);
    world.settle();
    assert_eq!(world.nodes[0].waits_done, [(client, 2)]);
    // GETACK is in the stream (37 bytes), but what it provokes names the offset before it.
    assert_eq!(world.offset(0), offset + 37);
    assert_eq!(world.nodes[0].repl.count_acked(offset), 2);
    assert_eq!(world.nodes[0].repl.count_acked(offset + 1), 0);

    world.freeze(0, 2, true);
    world.write(0, &["SET", "b", "1"]);
    let offset = world.offset(0);
    let deadline = world.now.mono.plus_ms(300);
    world.with_node(0, |node, _, _| node.repl.wait(client, offset, 2, Some(deadline)));
    world.run_ms(200);
    assert_eq!(world.nodes[0].waits_done.len(), 1, "one replica is not two");
    world.run_ms(200);
    assert_eq!(world.nodes[0].waits_done[1], (client, 1));
}

#[test]
fn a_silent_master_and_a_silent_replica_are_dropped_after_the_timeout() {
    let mut world = World::new(2);
    world.follow(1, 0);
    world.run_ms(50_000);
    assert!(world.up(1), "pings and acknowledgements keep the link");
    assert_eq!(world.nodes[1].repl.link_status().unwrap().down_since, None);
    world.freeze(0, 1, true);
    world.run_ms(59_000);
    assert_eq!(world.nodes[0].repl.connected_replicas(), 1);
    world.run_ms(12_000);
    assert!(world.nodes[1].logs.iter().any(|text| text.starts_with("MASTER timeout")));
    world.run_ms(3000);
    assert!(world.up(1), "and it came back");
}

#[test]
fn a_replica_too_far_behind_is_dropped() {
    let settings = ReplicationSettings {
        backlog_bytes: 1000,
        output_hard_limit_bytes: 20_000,
        diskless_sync_delay_s: 0,
        ..ReplicationSettings::default()
    };
    let mut world = World::with(2, &settings);
    world.follow(1, 0);
    world.freeze(0, 1, true);
    let value = "v".repeat(1000);
    for n in 0..30 {
        world.write(0, &["SET", &format!("k{n}"), &value]);
        world.settle();
    }
    assert_eq!(world.nodes[0].repl.connected_replicas(), 0);
    world.run_ms(3000);
    world.assert_same(&[0, 1]);
}

#[test]
fn a_lonely_master_forgets_its_backlog_and_its_name() {
    let settings =
        ReplicationSettings { backlog_ttl_s: 2, diskless_sync_delay_s: 0, ..ReplicationSettings::default() };
    let mut world = World::with(3, &settings);
    world.write(0, &["SET", "a", "0"]);
    world.follow(1, 0);
    world.promote(1);
    let id = world.nodes[1].repl.history().id;
    world.run_ms(5000);
    assert_ne!(world.nodes[1].repl.history().id, id);
    world.write(1, &["APPEND", "a", "1"]);
    assert_eq!(world.nodes[1].repl.rdb_identity(), None);
    // The old master asks to continue the history that both once shared: it must not be let.
    world.follow(0, 1);
    world.settle();
    assert_eq!(world.counts(1).full, 1);
    world.assert_same(&[0, 1]);
}

#[test]
fn a_restarted_master_lets_replicas_of_its_dump_continue_and_nobody_ahead_of_it() {
    let mut world = World::new(3);
    world.write(0, &["SET", "a", "0"]);
    world.follow(1, 0);
    world.follow(2, 0);
    world.settle();
    let (id, offset) = (world.nodes[0].repl.history().id, world.offset(0));
    let dump = world.nodes[0].dataset();
    world.cut(0, 2);
    // Node 2 stands at the dump's offset; node 1 goes beyond it.
    world.write(0, &["APPEND", "a", "LOST"]);
    world.settle();
    world.cut(0, 1);
    let node = &mut world.nodes[0];
    node.repl = Replication::new(node.repl.settings().clone(), 77);
    node.repl.restore(id, offset, 0, false, world.now.mono);
    node.keys = keyspace();
    for (key, value) in dump {
        node.keys.set(&key, Value::string(&value), None, WallMs(0));
    }
    // New writes carry it past the offset at which node 1 stands with what was lost.
    world.write(0, &["APPEND", "a", "1"]);
    world.write(0, &["SET", "more", "bytes that take the offset further"]);
    world.run_ms(2000);
    assert_eq!(world.counts(0), SyncCounts { full: 1, partial_ok: 1, partial_err: 1 });
    assert_eq!(world.value(1, "a"), "01");
    world.assert_same(&[0, 1, 2]);
}

#[test]
fn noise_in_the_stream_is_answered_by_starting_over() {
    let mut world = World::new(2);
    world.write(0, &["SET", "a", "0"]);
    world.follow(1, 0);
    let link = world.wires[0].ends.0;
    world.with_node(1, |node, now, actions| node.repl.received(link, b"-ERR what\r\n", now, actions));
    assert!(!world.up(1));
    assert!(world.nodes[1].repl.link_status().unwrap().down_since.is_some());
    world.cut(0, 1);
    world.run_ms(2500);
    assert_eq!(world.counts(0).full, 2);
    world.assert_same(&[0, 1]);
}

#[test]
fn replconf_answers_as_redis_does() {
    let mut repl = Replication::new(ReplicationSettings::default(), 1);
    let mut ask = |args: &[&str]| {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let mut actions = Vec::new();
        repl.client_command(ConnId(2), IpAddr::V4(Ipv4Addr::LOCALHOST), &args, Mono(0), &mut actions);
        let sent: Vec<u8> = actions
            .into_iter()
            .flat_map(|action| if let Action::Send { bytes, .. } = action { bytes } else { Vec::new() })
            .collect();
        String::from_utf8(sent).unwrap()
    };
    assert_eq!(ask(&["REPLCONF", "listening-port", "7000"]), "+OK\r\n");
    assert_eq!(ask(&["REPLCONF", "capa", "eof", "capa", "psync2"]), "+OK\r\n");
    assert_eq!(ask(&["REPLCONF", "capa"]), "-ERR syntax error\r\n");
    assert_eq!(ask(&["REPLCONF", "version", "8.0.1"]), "-ERR Unrecognized REPLCONF option: version\r\n");
    assert_eq!(ask(&["REPLCONF", "ACK", "12", "FACK", "3"]), "");
    assert_eq!(ask(&["PSYNC", "?", "x"]), "-ERR value is not an integer or out of range\r\n");
}
