//! The bus codec and the whole room under arbitrary bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::bus::{Body, Extension, Gossip, Header, MFLAG_EXT_DATA, Packet, PingKind, decode, encode};
use super::bench::{Bench, ip_of};
use super::*;

fn id() -> impl Strategy<Value = NodeId> {
    any::<u64>().prop_map(|seed| NodeId::random(&mut Random::seeded(seed)))
}

fn slots() -> impl Strategy<Value = SlotBitmap> {
    vec(0..SLOTS, 0..50).prop_map(|slots| {
        let mut map = SlotBitmap::new();
        for slot in slots {
            map.insert(slot);
        }
        map
    })
}

fn ip() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), Just("127.0.0.1".to_owned()), Just("fe80::1%eth0".to_owned())]
}

fn gossip() -> impl Strategy<Value = Gossip> {
    (proptest::option::of(id()), any::<(u32, u32)>(), ip(), any::<(u16, u16, u16, u16)>()).prop_map(
        |(id, (ping_sent_s, pong_received_s), ip, (port, cport, pport, flags))| Gossip {
            id,
            ping_sent_s,
            pong_received_s,
            ip,
            port,
            cport,
            pport,
            flags: NodeFlags(flags),
        },
    )
}

fn extension() -> impl Strategy<Value = Extension> {
    prop_oneof![
        "[a-z0-9.-]{0,40}".prop_map(Extension::Hostname),
        (1_u16..300, 0_usize..8, any::<u8>())
            .prop_map(|(kind, words, byte)| Extension::Other { kind, data: vec![byte; words * 8] }),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let kind = prop_oneof![Just(PingKind::Ping), Just(PingKind::Pong), Just(PingKind::Meet)];
    prop_oneof![
        (kind, vec(gossip(), 0..6), vec(extension(), 0..3))
            .prop_map(|(kind, gossip, extensions)| Body::Ping { kind, gossip, extensions }),
        proptest::option::of(id()).prop_map(|failed| Body::Fail { failed }),
        (any::<bool>(), vec(any::<u8>(), 0..50), vec(any::<u8>(), 0..50))
            .prop_map(|(sharded, channel, message)| Body::Publish { sharded, channel, message }),
        Just(Body::AuthRequest),
        Just(Body::AuthAck),
        Just(Body::MfStart),
        (proptest::option::of(id()), any::<u64>(), slots())
            .prop_map(|(node, config_epoch, slots)| Body::Update { node, config_epoch, slots }),
        (any::<[u8; 8]>(), any::<u8>(), vec(any::<u8>(), 0..50))
            .prop_map(|(module, kind, data)| Body::Module { module, kind, data }),
        (11_u16.., vec(any::<u8>(), 0..50)).prop_map(|(number, payload)| Body::Unknown { number, payload }),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    let numbers = (any::<(u64, u64, u64)>(), any::<(u16, u16, u16, u16, u8)>());
    (numbers, id(), proptest::option::of(id()), ip(), slots(), body(), 0_u8..8).prop_map(
        |(((current_epoch, config_epoch, offset), ports), sender, master, ip, slots, body, mflags)| {
            let (port, pport, cport, flags, state) = ports;
            let extended = matches!(&body, Body::Ping { extensions, .. } if !extensions.is_empty());
            let mflags = if extended { mflags | MFLAG_EXT_DATA } else { mflags };
            let header = Header {
                sender,
                port,
                pport,
                cport,
                ip,
                current_epoch,
                config_epoch,
                offset,
                slots,
                master,
                flags: NodeFlags(flags),
                state,
                mflags: [mflags, 0, 0],
            };
            Packet { header, body }
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(packet in packet()) {
        let bytes = encode(&packet);
        prop_assert_eq!(decode(&bytes), Ok(packet));
    }

    #[test]
    fn a_packet_of_another_length_than_it_says_is_dropped(packet in packet(), extra in 1_usize..200) {
        let mut bytes = encode(&packet);
        bytes.resize(bytes.len() + extra, 0);
        let longer = decode(&bytes);
        let unknown = matches!(packet.body, Body::Unknown { .. });
        prop_assert!(longer.is_err() || unknown);
    }

    #[test]
    fn no_damage_makes_the_decoder_panic(
        packet in packet(),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..20),
        cut: proptest::sample::Index,
    ) {
        let mut bytes = encode(&packet);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = decode(&bytes);
        let _ = decode(&bytes[..cut.index(bytes.len())]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A live cluster under packets that lie about everything: it may be led astray, it may not break.
    #[test]
    fn a_liar_on_the_bus_breaks_no_table(packets in vec((packet(), 0_usize..4, 0_usize..4), 1..20)) {
        let mut bench = Bench::cluster(3, 1, 1000);
        for (lie, sender, target) in packets {
            if sender == target {
                continue;
            }
            let named = bench.id(target);
            let (liar, master) = (bench.id(sender), bench.id((sender + 1) % 6));
            let conn = ConnId(900_000);
            let peer = format!("{}:5555", ip_of(sender)).parse().unwrap();
            let mut packet = lie;
            // A lie comes under a known name and speaks of known nodes, or it would not be listened to.
            packet.header.sender = liar;
            packet.header.master = packet.header.master.map(|_| master);
            match &mut packet.body {
                Body::Update { node, .. } => *node = Some(master),
                Body::Fail { failed } => *failed = Some(named),
                _ => {}
            }
            let bytes = encode(&packet);
            bench.with(target, |cluster, turn| {
                cluster.link_accepted(conn, peer, peer, turn);
                cluster.link_received(conn, &bytes, turn);
                cluster.link_closed(conn);
            });
            bench.run(150);
        }
        bench.run(3000);
        for node in 0..6 {
            bench.at(node).check_table();
            let text = bench.at(node).nodes_conf_text_for_tests(&bench);
            prop_assert!(nodes_conf::parse(text.as_bytes()).is_ok(), "{}", text);
        }
    }
}

impl Cluster {
    fn nodes_conf_text_for_tests(&self, bench: &Bench) -> String {
        let facts = bench::NodeFacts::default();
        let turn =
            Turn { now: bench.now(), facts: &facts, next_conn: &mut ConnId(1), actions: &mut Vec::new() };
        self.nodes_conf_text(&turn)
    }
}
