//! Bus frames of every type, recorded from real servers by `scripts/record-bus`, decode, and encode again to the
//! same bytes.

#![allow(clippy::disallowed_methods, reason = "reads its fixtures")]

use std::collections::BTreeMap;

use slotstorm_node::cluster::NodeFlags;
use slotstorm_node::cluster::bus::{
    Body, Extension, FrameReader, MFLAG_FORCEACK, MFLAG_PAUSED, Packet, PacketType, PingKind, decode, encode,
};

const VERSIONS: [&str; 2] = ["6.2.14", "7.0.15"];

/// Every recorded frame by its name: version and shape.
fn recorded() -> BTreeMap<String, Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bus");
    let files = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let read = files.map(|file| {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read(&path).unwrap())
    });
    read.collect()
}

fn packet(name: &str) -> Packet {
    let frames = recorded();
    let frame = frames.get(name).unwrap_or_else(|| panic!("no frame {name} was recorded"));
    decode(frame).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_recorded_frame_survives_the_round_trip_byte_for_byte() {
    let mut types = BTreeMap::<&str, Vec<u16>>::new();
    for (name, frame) in &recorded() {
        let packet = decode(frame).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = encode(&packet);
        let differs = frame.iter().zip(&again).position(|(a, b)| a != b);
        assert_eq!((again.len(), differs), (frame.len(), None), "{name}");
        let version = VERSIONS.into_iter().find(|version| name.starts_with(version));
        types.entry(version.expect("a known version")).or_default().push(packet.body.type_number());
    }
    // 7.0 brought PUBLISHSHARD; all other types are of both.
    for (version, missing) in [("6.2.14", Some(PacketType::PublishShard)), ("7.0.15", None)] {
        for packet_type in PacketType::ALL.into_iter().filter(|known| Some(*known) != missing) {
            assert!(types[version].contains(&(packet_type as u16)), "no {} of {version}", packet_type.name());
        }
    }
}

#[test]
fn the_frames_of_a_version_are_cut_out_of_one_stream() {
    for version in VERSIONS {
        let frames: Vec<Vec<u8>> = recorded()
            .into_iter()
            .filter(|(name, _)| name.starts_with(version))
            .map(|(_, frame)| frame)
            .collect();
        let (mut reader, mut cut) = (FrameReader::default(), Vec::new());
        for piece in frames.concat().chunks(1460) {
            reader.push(piece);
            while let Some(frame) = reader.next(1 << 20).unwrap() {
                cut.push(frame.to_vec());
            }
        }
        assert!(cut == frames, "{version}");
    }
}

#[test]
fn a_meet_names_its_sender_and_its_announced_address() {
    for version in VERSIONS {
        let packet = packet(&format!("{version}-meet-bare"));
        assert!(matches!(packet.body, Body::Ping { kind: PingKind::Meet, .. }));
        assert!(packet.header.ip.starts_with("127.17.51."));
        assert_eq!((packet.header.port, packet.header.cport), (6379, 16379));
        assert_eq!(packet.header.master, None);
    }
}

#[test]
fn a_host_name_comes_as_an_extension() {
    for name in ["7.0.15-ping-hostname", "7.0.15-pong-hostname", "7.0.15-meet-hostname"] {
        let Body::Ping { extensions, .. } = packet(name).body else { panic!("not a ping-class packet") };
        assert_eq!(extensions, [Extension::Hostname("node-2.example.org".to_owned())]);
    }
}

#[test]
fn suspicion_and_failure_travel_as_flags() {
    for version in VERSIONS {
        for (shape, flag) in [("pfail", NodeFlags::PFAIL), ("fail", NodeFlags::FAIL)] {
            let Body::Ping { gossip, .. } = packet(&format!("{version}-ping-gossips-{shape}")).body else {
                panic!("not a ping-class packet")
            };
            assert!(gossip.iter().any(|entry| entry.flags.any(flag)), "{version} {shape}");
            assert!(gossip.iter().all(|entry| entry.id.is_some() && entry.cport == 16379));
        }
    }
}

#[test]
fn a_candidate_speaks_for_its_masters_slots_and_only_an_ordered_one_demands_the_vote() {
    for version in VERSIONS {
        for (shape, forced) in [("asked", false), ("forced", true)] {
            let packet = packet(&format!("{version}-auth-req-{shape}"));
            assert_eq!(packet.body, Body::AuthRequest);
            assert!(packet.header.master.is_some());
            assert_eq!(packet.header.slots.len(), 5462);
            assert_eq!(packet.header.mflags[0] & MFLAG_FORCEACK != 0, forced, "{version} {shape}");
        }
    }
}

#[test]
fn a_master_in_a_manual_failover_says_that_it_is_paused() {
    for version in VERSIONS {
        assert!(packet(&format!("{version}-ping-paused")).header.mflags[0] & MFLAG_PAUSED != 0);
        assert!(packet(&format!("{version}-ping-gossip")).header.mflags[0] & MFLAG_PAUSED == 0);
    }
}

#[test]
fn messages_and_updates_carry_what_was_said() {
    for version in VERSIONS {
        let Body::Update { node: Some(_), config_epoch, slots } = packet(&format!("{version}-update")).body
        else {
            panic!("not an update")
        };
        assert!(config_epoch > 3 && slots.len() == 5462);
        let Body::Publish { sharded: false, channel, message } = packet(&format!("{version}-publish")).body
        else {
            panic!("not a message")
        };
        assert_eq!((&channel[..], &message[..]), (&b"news"[..], &b"a message"[..]));
        let Body::Module { kind: 7, data, .. } = packet(&format!("{version}-module")).body else {
            panic!("not a module's message")
        };
        assert_eq!(data, b"said by a module");
    }
    let Body::Publish { sharded: true, channel, .. } = packet("7.0.15-publishshard").body else {
        panic!("not a shard's message")
    };
    assert_eq!(channel, b"shard-news");
}
