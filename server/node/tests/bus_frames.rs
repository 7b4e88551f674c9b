//! Bus frames captured from redis-server 7.0.15 decode, and encode again to the same bytes.

#![allow(clippy::disallowed_methods, reason = "reads its fixtures")]

use slotstorm_node::cluster::NodeFlags;
use slotstorm_node::cluster::bus::{Body, Extension, Packet, PingKind, decode, encode};

fn captured(name: &str) -> (Vec<u8>, Packet) {
    let path = format!("{}/tests/data/bus-{name}.bin", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let packet = decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    (bytes, packet)
}

#[test]
fn every_captured_frame_survives_the_round_trip_byte_for_byte() {
    let mut seen = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_prefix("bus-").and_then(|file| file.strip_suffix(".bin")) else {
            continue;
        };
        let (bytes, packet) = captured(name);
        let again = encode(&packet);
        let differs = bytes.iter().zip(&again).position(|(a, b)| a != b);
        assert_eq!((again.len(), differs), (bytes.len(), None), "{name}");
        seen += 1;
    }
    assert!(seen >= 9, "only {seen} fixtures");
}

#[test]
fn a_meet_names_its_sender_and_its_announced_address() {
    let (_, packet) = captured("meet");
    assert!(matches!(packet.body, Body::Ping { kind: PingKind::Meet, .. }));
    assert!(packet.header.ip.starts_with("127.22.1."));
    assert_eq!((packet.header.port, packet.header.cport), (6379, 16379));
    assert_eq!(packet.header.master, None);
}

#[test]
fn a_ping_gossips_about_others_and_brings_its_host_name() {
    let (_, packet) = captured("pong-hostname");
    let Body::Ping { gossip, extensions, .. } = packet.body else { panic!("not a ping-class packet") };
    assert_eq!(extensions, [Extension::Hostname("one.example.org".to_owned())]);
    assert!(gossip.iter().all(|entry| entry.id.is_some() && entry.cport == 16379));
}

#[test]
fn suspicion_travels_as_a_flag() {
    let (_, packet) = captured("ping-gossips-pfail");
    let Body::Ping { gossip, .. } = packet.body else { panic!("not a ping-class packet") };
    assert!(gossip.iter().any(|entry| entry.flags.any(NodeFlags::PFAIL)));
}

#[test]
fn a_candidate_speaks_for_its_masters_slots() {
    let (_, packet) = captured("auth-req");
    assert_eq!(packet.body, Body::AuthRequest);
    assert!(packet.header.master.is_some());
    assert_eq!(packet.header.slots.len(), 5462);
    let (_, ack) = captured("auth-ack");
    assert_eq!(ack.header.current_epoch, packet.header.current_epoch);
}

#[test]
fn an_update_carries_the_newer_owner() {
    let (_, packet) = captured("update");
    let Body::Update { node: Some(_), config_epoch, slots } = packet.body else { panic!("not an update") };
    assert!(config_epoch > 0 && !slots.is_empty());
}
