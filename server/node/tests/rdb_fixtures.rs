//! The decoder against files that real servers wrote, and against our own encoder.

use std::collections::BTreeMap;

use proptest::prelude::*;
use slotstorm_node::io::WallMs;
use slotstorm_node::keyspace::score::Score;
use slotstorm_node::keyspace::stream::StreamId;
use slotstorm_node::keyspace::{EncodingLimits, HashSeed, Keyspace, Value, ValueParts};
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
        ValueParts::Stream(stream) => {
            let entries = stream.range(StreamId::MIN, StreamId::MAX).map(|entry| {
                let pairs = entry
                    .pairs()
                    .map(|(field, value)| format!("{}={}", hex(&field.to_vec()), hex(&value.to_vec())));
                format!("{}:{}", entry.id, pairs.collect::<Vec<_>>().join(","))
            });
            ("stream", entries.collect())
        }
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

#[test]
fn names_the_key_and_the_type_that_it_cannot_read() {
    for (file, name) in [
        (&include_bytes!("data/redis-7.0.15-stream.rdb")[..], "stream"),
        (include_bytes!("data/redis-6.2.14-stream.rdb"), "stream"),
    ] {
        let text = decode(file, 100).unwrap_err().to_string();
        assert!(text.contains(name) && text.starts_with("key '"), "{text}");
    }
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
    ]
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
