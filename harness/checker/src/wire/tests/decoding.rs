//! The decoder on frames that real servers sent (`scripts/record-bus` made the captures), and on bytes that nobody
//! would send.

use proptest::prelude::*;

use crate::record::BusWhat;
use crate::wire::frame::{HEADER, Header, repeats};
use crate::wire::{Body, Digest, FrameReader, Kind, Place, StreamFault, decode};

macro_rules! captures {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../../../server/node/tests/fixtures/bus/", $name, ".bin")))),*]
    };
}

const CAPTURES: &[(&str, &[u8])] = captures![
    "6.2.14-auth-ack",
    "6.2.14-auth-ack-paused",
    "6.2.14-auth-req-asked",
    "6.2.14-auth-req-forced",
    "6.2.14-fail",
    "6.2.14-meet-bare",
    "6.2.14-mfstart",
    "6.2.14-module",
    "6.2.14-ping-bare",
    "6.2.14-ping-gossip",
    "6.2.14-ping-gossips-fail",
    "6.2.14-ping-gossips-pfail",
    "6.2.14-ping-paused",
    "6.2.14-ping-replica",
    "6.2.14-pong-bare",
    "6.2.14-pong-gossip",
    "6.2.14-pong-gossips-fail",
    "6.2.14-pong-gossips-pfail",
    "6.2.14-pong-paused",
    "6.2.14-pong-replica",
    "6.2.14-publish",
    "6.2.14-update",
    "7.0.15-auth-ack",
    "7.0.15-auth-ack-paused",
    "7.0.15-auth-req-asked",
    "7.0.15-auth-req-forced",
    "7.0.15-fail",
    "7.0.15-meet-bare",
    "7.0.15-meet-hostname",
    "7.0.15-mfstart",
    "7.0.15-module",
    "7.0.15-ping-bare",
    "7.0.15-ping-gossip",
    "7.0.15-ping-gossips-fail",
    "7.0.15-ping-gossips-pfail",
    "7.0.15-ping-hostname",
    "7.0.15-ping-paused",
    "7.0.15-ping-replica",
    "7.0.15-pong-bare",
    "7.0.15-pong-gossip",
    "7.0.15-pong-gossips-fail",
    "7.0.15-pong-gossips-pfail",
    "7.0.15-pong-hostname",
    "7.0.15-pong-paused",
    "7.0.15-pong-replica",
    "7.0.15-publish",
    "7.0.15-publishshard",
    "7.0.15-update",
];

fn capture(name: &str) -> &'static [u8] {
    CAPTURES.iter().find(|(known, _)| *known == name).unwrap().1
}

#[test]
fn every_capture_is_what_its_name_says() {
    for (name, bytes) in CAPTURES {
        let frame = decode(bytes).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let shape = name.split_once('-').unwrap().1;
        let kind = frame.kind.name();
        assert!(shape.starts_with(kind), "{name} is a {kind}");
        assert_eq!(frame.header.paused, shape.ends_with("paused"), "{name}");
        assert_eq!(frame.header.force_ack, shape.ends_with("forced"), "{name}");
        if shape.ends_with("replica") || frame.kind == Kind::AuthReq {
            assert!(frame.header.master.is_some(), "{name}");
        }
        let gossiped = |bit: u16| match &frame.body {
            Body::Gossip { nodes, .. } => nodes.iter().any(|node| node.flags & bit != 0),
            _ => false,
        };
        assert_eq!(shape.ends_with("gossips-pfail"), gossiped(4) && !gossiped(8), "{name}");
        assert_eq!(shape.ends_with("gossips-fail"), gossiped(8), "{name}");
    }
}

#[test]
fn what_a_frame_carries_is_read() {
    for version in ["6.2.14", "7.0.15"] {
        let bytes = |shape: &str| capture(&format!("{version}-{shape}"));
        let Body::Fail { subject } = decode(bytes("fail")).unwrap().body else { panic!("a FAIL") };
        assert_eq!(subject.len(), 40);
        let update = decode(bytes("update")).unwrap();
        let Body::Update { subject, config_epoch, bitmap } = update.body else { panic!("an UPDATE") };
        assert!(subject.len() == 40 && config_epoch > 0 && bitmap.iter().any(|&byte| byte != 0));
        let Body::Publish { channel, message } = decode(bytes("publish")).unwrap().body else {
            panic!("a PUBLISH")
        };
        assert!(channel > 0 && message > 0);
        let Body::Module { kind: 7, len: 16, .. } = decode(bytes("module")).unwrap().body else {
            panic!("a MODULE")
        };
        let replica = decode(bytes("ping-replica")).unwrap();
        assert!(!replica.header.slots().is_empty(), "a replica shows its master's slots");
    }
    let named = decode(capture("7.0.15-ping-hostname")).unwrap();
    let Body::Gossip { extensions, .. } = named.body else { panic!("a PING") };
    assert!(matches!(&extensions[..], [hostname] if hostname.kind == 0), "{extensions:?}");
}

/// A change of any byte but those that it may not look at is looked at.
#[test]
fn a_frame_repeats_only_one_that_says_the_same() {
    let pings = || CAPTURES.iter().filter(|(name, _)| name.contains("-ping") || name.contains("-pong"));
    for (name, known) in pings() {
        let header = &known[..HEADER];
        let plain = decode(known).is_ok_and(|frame| match frame.body {
            Body::Gossip { nodes, .. } => {
                nodes.iter().all(|node| node.flags & 0xc == 0) && known[2253] & 4 == 0
            }
            _ => false,
        });
        assert_eq!(repeats(known, header), plain, "{name}");
        for (_, other) in pings() {
            for at in 0..other.len() {
                let mut changed = other.to_vec();
                changed[at] ^= 8;
                if !repeats(&changed, header) {
                    continue;
                }
                let (was, is) = (decode(known).unwrap(), decode(&changed).unwrap());
                let now = Header { offset: was.header.offset, ..is.header };
                assert_eq!((is.kind, now), (was.kind, was.header), "{name}: {at}");
                let Body::Gossip { nodes, extensions } = is.body else { panic!("a PING") };
                assert!(extensions.is_empty() && nodes.iter().all(|node| node.flags & 0xc == 0));
            }
        }
    }
}

#[test]
fn frames_are_found_wherever_the_stream_is_cut() {
    let stream: Vec<u8> = CAPTURES.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    for piece in [1, 7, 16, 1448, 2256, 5000, stream.len()] {
        let (mut reader, mut found) = (FrameReader::default(), Vec::new());
        for bytes in stream.chunks(piece) {
            reader.feed(bytes, |frame| found.push(frame.to_vec())).unwrap();
        }
        let sent: Vec<&[u8]> = CAPTURES.iter().map(|(_, bytes)| *bytes).collect();
        assert_eq!(found, sent, "pieces of {piece}");
    }
}

#[test]
fn a_long_message_is_found_whole_though_its_end_is_not_kept() {
    let mut bytes = capture("7.0.15-publish")[..2264].to_vec();
    let message = 3_000_000u32;
    bytes[4..8].copy_from_slice(&(2264 + 2 + message).to_be_bytes());
    bytes[2256..2264].copy_from_slice(&[&2u32.to_be_bytes()[..], &message.to_be_bytes()].concat());
    bytes.resize(2266 + message as usize, b'x');
    bytes.extend_from_slice(capture("7.0.15-fail"));
    for piece in [4096, bytes.len()] {
        let (mut reader, mut kinds) = (FrameReader::default(), Vec::new());
        for part in bytes.chunks(piece) {
            reader.feed(part, |frame| kinds.push(decode(frame).unwrap().kind)).unwrap();
        }
        assert_eq!(kinds, [Kind::Publish, Kind::Fail]);
    }
}

#[test]
fn a_stream_that_is_no_bus_is_lost_once_and_for_all() {
    let mut reader = FrameReader::default();
    let fail = capture("7.0.15-fail");
    let mut seen = 0;
    reader.feed(fail, |_| seen += 1).unwrap();
    let lost = reader.feed(b"*1\r\n$4\r\nPING\r\n", |_| seen += 1).unwrap_err();
    assert_eq!(lost, StreamFault::Signature(fail.len() as u64));
    assert_eq!(reader.feed(fail, |_| seen += 1), Err(lost));
    assert_eq!(seen, 1);
}

#[test]
fn the_digest_says_once_what_does_not_change() {
    let (mut digest, mut out) = (Digest::new(1_000), Vec::new());
    digest.opened(5, 9);
    let ping = capture("7.0.15-ping-gossips-pfail");
    let mut at = |time, bytes: &[u8]| {
        out.clear();
        digest.bytes(&Place { time, from: "n1", to: "n2", conn: 9, dialled: false }, bytes, &mut out);
        out.iter().map(|line| line.what.clone()).collect::<Vec<_>>()
    };
    let first = at(10, ping);
    let [BusWhat::Frame(told)] = &first[..] else { panic!("one frame: {first:?}") };
    assert!(told.opened == Some(5) && told.id.is_some() && told.slots.is_some() && !told.pfail.is_empty());
    assert_eq!(at(500, ping), [], "nothing new");
    let again = at(1_500, ping);
    let [BusWhat::Frame(told)] = &again[..] else { panic!("one frame: {again:?}") };
    assert!(told.id.is_none() && !told.pfail.is_empty(), "the suspicion lasts: {told:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn mutated_frames_never_panic(
        which in 0..CAPTURES.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        head in prop::collection::vec((0usize..16, any::<u8>()), 0..3),
        cut in any::<prop::sample::Index>(),
        piece in 1usize..4000,
    ) {
        let mut bytes = CAPTURES[which].1.to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = decode(&bytes);
        for (at, byte) in head {
            bytes[at] = byte;
        }
        let _ = decode(&bytes[..cut.index(bytes.len())]);
        let (mut digest, mut out) = (Digest::new(1), Vec::new());
        for part in [&bytes[..], CAPTURES[which].1].concat().chunks(piece) {
            digest.bytes(&Place { time: 1, from: "n1", to: "n2", conn: 1, dialled: true }, part, &mut out);
        }
        for line in out {
            prop_assert!(serde_json::to_string(&line).is_ok());
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
        let _ = decode(&bytes);
        let signed = [b"RCmb", &bytes[..]].concat();
        let _ = FrameReader::default().feed(&signed, |frame| {
            let _ = decode(frame);
        });
    }
}
