//! The decoder against files that real servers wrote, and against our own encoder.

use std::collections::BTreeMap;

use proptest::prelude::*;
use slotstorm_node::io::WallMs;
use slotstorm_node::keyspace::score::Score;
use slotstorm_node::keyspace::stream::{Group, NewId, NodeLimits, Stream, StreamId};
use slotstorm_node::keyspace::{Element, EncodingLimits, HashSeed, Keyspace, Value, ValueParts};
use slotstorm_node::rdb::{RdbDecoder, RdbError, RdbEvent, RdbKey, SnapshotEncoder, SnapshotUse, aux_fields};

const EXPECTED: &str = include_str!("data/expected.txt");
const REDIS_7: &[u8] = include_bytes!("data/redis-7.0.15.rdb");
const REDIS_6: &[u8] = include_bytes!("data/redis-6.2.14.rdb");

fn decode(bytes: &[u8], piece: usize) -> Result<Vec<RdbEvent>, RdbError> {
    let mut decoder = RdbDecoder::new();
    let mut events = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.feed(piece, &mut |event| events.push(event))?;
    }
    assert_eq!(decoder.is_done(), events.last() == Some(&RdbEvent::End));
    Ok(events)
}

/// One line of `expected.txt`.
fn describe(key: &[u8], expire_at_ms: Option<u64>, value: &ValueParts) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let hex = |bytes: &[u8]| -> String {
        bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    };
    let (kind, elements) = match value {
        ValueParts::String(string) => ("string", vec![hex(string)]),
        ValueParts::List(elements) => ("list", elements.iter().map(|element| hex(element)).collect()),
        ValueParts::Set(members) => {
            let mut members: Vec<String> = members.iter().map(|member| hex(member)).collect();
            members.sort();
            ("set", members)
        }
        ValueParts::Hash(pairs) => {
            let mut pairs: Vec<String> =
                pairs.iter().map(|(field, value)| format!("{}={}", hex(field), hex(value))).collect();
            pairs.sort();
            ("hash", pairs)
        }
        ValueParts::Zset(pairs) => {
            let mut pairs: Vec<String> =
                pairs.iter().map(|(member, score)| format!("{}={:e}", hex(member), score.0)).collect();
            pairs.sort();
            ("zset", pairs)
        }
        ValueParts::Stream(stream) => ("stream", describe_stream(stream)),
    };
    let expiry = expire_at_ms.map_or("-".to_owned(), |at| at.to_string());
    format!("{} {kind} {expiry} {}", String::from_utf8_lossy(key), elements.join(" "))
}

#[test]
fn reads_every_type_and_encoding_that_real_servers_write() {
    for (name, file) in [("7.0.15", REDIS_7), ("6.2.14", REDIS_6)] {
        for piece in [1, 7, 4096, usize::MAX] {
            let mut lines: Vec<String> = decode(file, piece)
                .unwrap()
                .iter()
                .filter_map(|event| match event {
                    RdbEvent::Key(key) => Some(describe(&key.key, key.expire_at_ms, &key.value)),
                    _ => None,
                })
                .collect();
            lines.sort();
            let mut expected: Vec<&str> = EXPECTED.lines().collect();
            expected.sort_unstable();
            assert_eq!(lines.len(), expected.len(), "{name}");
            for (line, expected) in lines.iter().zip(expected) {
                assert!(line == expected, "{name}, piece {piece}:\n{line:.200}\n{expected:.200}");
            }
        }
    }
}

/// Entries, groups with what is pending, and how far it reaches; without the times at which consumers were seen.
fn describe_stream(stream: &Stream) -> Vec<String> {
    let text = |element: Element<'_>| element.to_vec().escape_ascii().to_string();
    let mut lines: Vec<String> = stream
        .range(StreamId::MIN, StreamId::MAX)
        .map(|entry| {
            let pairs = entry.pairs().map(|(field, value)| format!("{}={}", text(field), text(value)));
            format!("{}:{}", entry.id, pairs.collect::<Vec<_>>().join(","))
        })
        .collect();
    lines.push(format!("{:?}", stream.extent()));
    for (name, group) in stream.groups() {
        lines.push(format!("{} {} {}", name.escape_ascii(), group.last_id, group.entries_read));
        for (id, pending) in group.pending().iter() {
            let owner = pending.consumer.escape_ascii();
            lines.push(format!("{id} {owner} {} {}", pending.delivered_ms, pending.deliveries));
        }
        for (name, consumer) in group.consumers() {
            let ids: Vec<_> = consumer.pending_from_rank(0).map(|id| id.to_string()).collect();
            lines.push(format!("{} {}", name.escape_ascii(), ids.join(",")));
        }
    }
    lines
}

#[test]
fn names_the_key_and_the_type_that_it_cannot_read() {
    let file = b"REDIS0010\xfe\x00\x07\x03key\x00";
    let text = decode(file, 100).unwrap_err().to_string();
    assert!(text.contains("module") && text.starts_with("key 'key'"), "{text}");
}

#[test]
fn reads_streams_of_real_servers_with_their_groups() {
    // (The file of 6.2 tells neither what was deleted nor how much a group has read.)
    for (file, tells_all) in [
        (&include_bytes!("data/redis-7.0.15-stream.rdb")[..], true),
        (include_bytes!("data/redis-6.2.14-stream.rdb"), false),
    ] {
        for piece in [1, 50, usize::MAX] {
            let mut read = BTreeMap::new();
            for event in decode(file, piece).unwrap() {
                if let RdbEvent::Key(RdbKey { key, value: ValueParts::Stream(stream), .. }) = event {
                    read.insert(String::from_utf8(key).unwrap(), stream);
                }
            }
            let stream = &read["z"];
            assert_eq!((stream.len(), stream.node_count()), (117, 6));
            let lines = describe_stream(stream);
            assert_eq!(lines[0], "1-1:f=v1,n=1000");
            assert_eq!(lines[5], format!("4-7:g=7,other={}", "x".repeat(7)));
            let added = if tells_all { 120 } else { 117 };
            let deleted = StreamId { ms: 61, seq: 120 };
            assert_eq!(stream.extent().entries_added, added);
            assert_eq!(stream.extent().max_deleted_id, if tells_all { deleted } else { StreamId::MIN });
            assert_eq!(stream.extent().first_id, StreamId { ms: 1, seq: 1 });
            let (end, unread) = if tells_all {
                ("12 61-120 -1", "readers 4-6 -1")
            } else {
                ("12 61-120 117", "readers 4-6 -1")
            };
            let expected = [
                end,
                unread,
                "1-1 alice 1700000000000 2",
                "3-4 alice 1700000000000 2",
                "3-5 bob 1700000000001 3",
                "4-6 bob 1700000000001 3",
                "alice 1-1,3-4",
                "bob 3-5,4-6",
            ];
            assert_eq!(lines[118..], expected);
            assert_eq!(read["empty"].groups().len(), 1);
        }
    }
}

#[test]
fn reads_the_small_hashes_of_redis_2_4() {
    let file = b"REDIS0003\xfe\x00\x09\x01h\x0d\x02\x01a\x01\x001\x01b\x01\x012x\xff\xff";
    let events = decode(file, 3).unwrap();
    let hash = ValueParts::Hash(vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
    assert!(
        events.iter().any(|event| matches!(event, RdbEvent::Key(key) if key.value == hash)),
        "{events:?}"
    );
}

#[test]
fn reads_sorted_sets_of_real_servers_in_both_forms() {
    let own = |(member, score): (&str, f64)| (member.as_bytes().to_vec(), Score(score));
    let mut small: Vec<_> = [
        ("least", f64::NEG_INFINITY),
        ("minus", -200.0),
        ("one", 1.0),
        ("odd", 3.1),
        ("half", 3.5),
        ("12", 70000.0),
        ("great", 1e17),
        ("most", f64::INFINITY),
    ]
    .map(own)
    .into();
    small.insert(2, (b"\x00\xff".to_vec(), Score(-5.0)));
    let big: Vec<_> = (0..300).map(|n| own((&format!("member {n}"), f64::from(n) * 0.5 - 50.0))).collect();
    let long = ["least", &"x".repeat(100), "most"];
    let long: Vec<_> = long.into_iter().zip([f64::NEG_INFINITY, 1e-5, f64::INFINITY]).map(own).collect();
    for file in
        [&include_bytes!("data/redis-7.0.15-zset.rdb")[..], include_bytes!("data/redis-6.2.14-zset.rdb")]
    {
        for piece in [1, 50, usize::MAX] {
            let mut read = BTreeMap::new();
            for event in decode(file, piece).unwrap() {
                if let RdbEvent::Key(RdbKey { key, value: ValueParts::Zset(mut pairs), .. }) = event {
                    pairs.sort_by(|a, b| a.1.0.total_cmp(&b.1.0));
                    read.insert(String::from_utf8(key).unwrap(), pairs);
                }
            }
            let expected = [("small", &small), ("big", &big), ("long", &long)];
            let expected = expected.map(|(key, pairs)| (key.to_owned(), pairs.clone()));
            assert_eq!(read, BTreeMap::from(expected), "piece {piece}");
        }
    }
}

#[test]
fn reads_sorted_sets_as_redis_wrote_them_before_version_8() {
    let mut file = b"REDIS0007\x03\x01z\x04".to_vec();
    for (member, score) in [("a", &b"\x031.5"[..]), ("b", b"\xfe"), ("c", b"\xff"), ("d", b"\x06-1e-05")] {
        file.push(member.len() as u8);
        file.extend_from_slice(member.as_bytes());
        file.extend_from_slice(score);
    }
    let end = b"\xff\0\0\0\0\0\0\0\0";
    let lines = lines_of(&[&file[..], end].concat());
    assert_eq!(lines, ["z zset - 61=1.5e0 62=inf 63=-inf 64=-1e-5"]);
    let not_a_number = b"REDIS0007\x03\x01z\x01\x01a\xfd";
    assert!(matches!(decode(not_a_number, 1), Err(RdbError::Corrupt(_))));
}

#[test]
fn gives_functions_as_events_of_their_own() {
    let events = decode(include_bytes!("data/redis-7.0.15-function.rdb"), 10).unwrap();
    assert!(
        events.iter().any(|event| matches!(event, RdbEvent::Function(code) if code.starts_with(b"#!lua")))
    );
}

#[test]
fn every_cut_is_unfinished_and_every_flipped_bit_is_noticed() {
    let file = &include_bytes!("data/redis-7.0.15-function.rdb")[..];
    for cut in 0..file.len() {
        let events = decode(&file[..cut], 50).expect("a beginning is no error");
        assert_ne!(events.last(), Some(&RdbEvent::End), "cut at {cut}");
    }
    for bit in 0..file.len() * 8 {
        let mut damaged = file.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let whole = decode(&damaged, 50).is_ok_and(|events| events.last() == Some(&RdbEvent::End));
        assert!(!whole, "bit {bit}");
    }
}

#[test]
fn a_real_servers_dataset_survives_our_own_encoder() {
    let mut keys = Keyspace::new(HashSeed(3, 4), EncodingLimits::default());
    for event in decode(REDIS_7, 1000).unwrap() {
        if let RdbEvent::Key(key) = event {
            keys.load(&key.key, &key.value, key.expire_at_ms.map(WallMs)).unwrap();
        }
    }
    let mut lines = lines_of(&encode(&keys, 333));
    lines.sort();
    let mut expected: Vec<&str> = EXPECTED.lines().collect();
    expected.sort_unstable();
    assert!(lines == expected);
}

fn encode(keys: &Keyspace, piece: usize) -> Vec<u8> {
    let aux = aux_fields(SnapshotUse::Rdb, WallMs(1_700_000_000_000), keys.used_memory(), None);
    let mut encoder = SnapshotEncoder::new(keys.snapshot(), aux);
    let mut file = Vec::new();
    loop {
        let next = encoder.next_chunk(piece);
        assert!(next.bytes.len() <= piece);
        file.extend_from_slice(&next.bytes);
        if next.last {
            return file;
        }
    }
}

fn lines_of(file: &[u8]) -> Vec<String> {
    let events = decode(file, 1000).unwrap();
    assert_eq!(events.last(), Some(&RdbEvent::End));
    let line = |event: &RdbEvent| match event {
        RdbEvent::Key(key) => Some(describe(&key.key, key.expire_at_ms, &key.value)),
        _ => None,
    };
    events.iter().filter_map(line).collect()
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..100),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        (-200_i64..200).prop_map(|number| number.to_string().into_bytes()),
        (16_300_usize..16_500).prop_map(|len| vec![b'x'; len]),
    ]
}

fn value() -> impl Strategy<Value = ValueParts> {
    let set = proptest::collection::btree_set(bytes(), 1..40);
    let hash = proptest::collection::btree_map(bytes(), bytes(), 1..40);
    // Sums of small powers of two: no -0, which a small sorted set does not keep.
    let score = prop_oneof![
        any::<i32>().prop_map(|score| f64::from(score) / 8.0),
        any::<i64>().prop_map(|score| score as f64 * 1e30),
        Just(f64::INFINITY),
    ];
    let zset = proptest::collection::btree_map(bytes(), score.prop_map(Score), 1..200);
    prop_oneof![
        zset.prop_map(|pairs| ValueParts::Zset(pairs.into_iter().collect())),
        bytes().prop_map(ValueParts::String),
        proptest::collection::vec(bytes(), 1..40).prop_map(ValueParts::List),
        set.prop_map(|members| ValueParts::Set(members.into_iter().collect())),
        hash.prop_map(|pairs| ValueParts::Hash(pairs.into_iter().collect())),
        stream(),
    ]
}

/// Entries of one or two fields, some deleted, and groups whose consumers have some of them.
fn stream() -> impl Strategy<Value = ValueParts> {
    let entry = (0..3_u64, bytes(), bytes(), any::<bool>());
    let reader = (bytes(), bytes(), 0..40_u64, any::<i64>(), any::<u64>());
    let entries = proptest::collection::vec(entry, 0..40);
    (entries, proptest::collection::vec(reader, 0..20)).prop_map(|(entries, readers)| {
        let mut stream = Stream::default();
        let mut ms = 0;
        for (step, field, value, stays) in entries {
            ms += step;
            let pairs: [&[u8]; 4] = [&field, &value, b"same", b"7"];
            let limits = NodeLimits { max_bytes: 500, max_entries: 6 };
            let added = stream.append(NewId::In(ms), &pairs, limits);
            if let (Ok(id), false) = (added, stays) {
                stream.delete(id);
            }
        }
        for (group, consumer, ms, time, count) in readers {
            let id = StreamId { ms, seq: count % 3 };
            stream.create_group(&group, Group::new(id, time));
            stream.change_group(&group, |group, _| {
                group.meet_consumer(&consumer, time);
                group.assign(id, &consumer, time, count);
            });
        }
        ValueParts::Stream(stream.into())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_dataset_comes_back_whatever_the_pieces(
        dataset in proptest::collection::btree_map(bytes(), (value(), proptest::option::of(1..u64::MAX / 2)), 0..20),
        piece in 1_usize..5000,
    ) {
        let mut keys = Keyspace::new(HashSeed(3, 4), EncodingLimits::default());
        let mut expected = Vec::new();
        for (key, (parts, expire)) in &dataset {
            let value = Value::from_parts(keys.env(), parts).unwrap();
            keys.set(key, value, expire.map(WallMs), WallMs(0));
            expected.push(describe(key, *expire, parts));
        }
        let mut lines = lines_of(&encode(&keys, piece));
        lines.sort();
        expected.sort();
        prop_assert_eq!(lines, expected);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_or_hoard(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut file = b"REDIS0010".to_vec();
        file.extend_from_slice(&body);
        let _ = decode(&file, 17);
    }

    #[test]
    fn no_damage_to_a_real_file_makes_it_panic(at in 9..REDIS_7.len(), byte: u8) {
        let mut damaged = REDIS_7.to_vec();
        damaged[at] = byte;
        let _ = decode(&damaged, 4096);
    }
}

#[test]
fn the_order_of_the_file_is_that_of_the_snapshot() {
    let mut keys = Keyspace::new(HashSeed(3, 4), EncodingLimits::default());
    let mut seen = BTreeMap::new();
    for n in 0..500 {
        keys.set(format!("key {n}").as_bytes(), Value::string(b"x"), None, WallMs(0));
    }
    // Pieces that end anywhere neither lose nor repeat a key.
    for line in lines_of(&encode(&keys, 11)) {
        *seen.entry(line).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 500);
    assert!(seen.values().all(|&times| times == 1));
}

#[test]
fn a_file_from_before_checksums_ends_with_its_last_opcode() {
    // Version 3, key `a` with the value 1, as Redis 2.4 wrote it.
    let file = b"REDIS0003\xfe\x00\x00\x01a\xc0\x01\xff";
    let mut decoder = RdbDecoder::new();
    decoder.feed(file, &mut |_| {}).unwrap();
    assert!(decoder.is_done());
    let newer = b"REDIS0005\xfe\x00\x00\x01a\xc0\x01\xff";
    let mut decoder = RdbDecoder::new();
    decoder.feed(newer, &mut |_| {}).unwrap();
    assert!(!decoder.is_done(), "the checksum is still to come");
}
