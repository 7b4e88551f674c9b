//! The payload of DUMP and RESTORE (so of MIGRATE too): one value in RDB form with version and checksum.

use std::cell::RefCell;
use std::sync::Arc;

use super::decode::{single_string, single_value};

use super::encode::{type_of, zset_listpack};
use super::listpack::ListpackWriter;
use super::stream::put_stream;
use super::write::{StringWriter, put_integer_string, put_len};
use super::{VERSION, crc64, opcode, value_type};
use crate::keyspace::{Element, Env, Value, ValueView};

/// Bytes after the value: version (2) and checksum (8).
const TRAILER_BYTES: usize = 10;

/// Why RESTORE refuses a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// Redis' text for a payload that is too short, too new, or damaged.
    #[error("DUMP payload version or checksum are wrong")]
    VersionOrChecksum,
    /// The checksum is right and the value is not, or is of a type that this server has not.
    #[error("Bad data format")]
    Format,
}

/// `list-max-listpack-size` as it is by default (-2): bytes of a node of a list.
const LIST_NODE_BYTES: usize = 8192;
/// What Redis believes that an element costs in a node besides its bytes.
const LIST_ELEMENT_OVERHEAD: usize = 8;
/// An element from here on is a node of its own, as it is.
const LIST_PLAIN_BYTES: usize = 1 << 30;

/// The payload for a value: what a redis-server 7.0.15 gives, byte for byte, where the order of elements is not a
/// matter of its hash tables (strings, lists built at their tail, sets of integers, small hashes, sorted sets, streams).
pub fn encode(value: ValueView<'_>) -> Vec<u8> {
    encode_with(value, usize::MAX)
}

/// As [`encode`], for a value that is on its way to another server: strings of more than a megabyte go as they are.
/// Compressing them would keep this node deaf for longer than it takes to send them.
pub fn encode_for_transfer(value: ValueView<'_>) -> Vec<u8> {
    const COMPRESS_BELOW_BYTES: usize = 1 << 20;
    encode_with(value, COMPRESS_BELOW_BYTES)
}

fn encode_with(value: ValueView<'_>, compress_below: usize) -> Vec<u8> {
    let mut out = Vec::new();
    out.push(type_of(value, true));
    put_value(&mut out, value, &mut StringWriter::new(compress_below));
    seal(&mut out);
    out
}

/// Appends version and checksum.
fn seal(out: &mut Vec<u8>) {
    out.extend_from_slice(&(VERSION as u16).to_le_bytes());
    let crc = crc64(0, out);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Bytes of the value itself in a payload, as `DEBUG OBJECT` tells them.
pub fn value_bytes(value: ValueView<'_>) -> usize {
    let mut out = Vec::new();
    put_value(&mut out, value, &mut StringWriter::new(usize::MAX));
    out.len()
}

/// What stands before a payload's version and checksum, if those are good.
pub fn check_trailer(payload: &[u8]) -> Result<&[u8], DumpError> {
    let body_len = payload.len().checked_sub(TRAILER_BYTES).ok_or(DumpError::VersionOrChecksum)?;
    let (body, trailer) = payload.split_at(body_len);
    let version = u16::from_le_bytes([trailer[0], trailer[1]]);
    let crc = crc64(0, &payload[..body_len + 2]);
    if u32::from(version) > VERSION || trailer[2..] != crc.to_le_bytes() {
        return Err(DumpError::VersionOrChecksum);
    }
    Ok(body)
}

/// The payload of `FUNCTION DUMP`.
pub fn encode_libraries(libraries: &[Arc<[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut strings = StringWriter::new(usize::MAX);
    for library in libraries {
        out.push(opcode::FUNCTION);
        strings.put(&mut out, library);
    }
    seal(&mut out);
    out
}

/// The code of each library in what stands before such a payload's version and checksum; then the error, if there is
/// one, in Redis' words.
pub fn libraries_of(mut body: &[u8]) -> impl Iterator<Item = Result<Vec<u8>, &'static str>> {
    std::iter::from_fn(move || {
        let (&kind, rest) = body.split_first()?;
        body = &[];
        if kind != opcode::FUNCTION {
            return Some(Err("given type is not a function"));
        }
        let Some((code, rest)) = single_string(rest) else {
            return Some(Err("Failed loading library payload"));
        };
        body = rest;
        Some(Ok(code))
    })
}

/// The value of a payload.
pub fn decode(payload: &[u8], env: Env) -> Result<Value, DumpError> {
    let body = check_trailer(payload)?;
    let (&value_type, value) = body.split_first().ok_or(DumpError::Format)?;
    if let Some(string) = plain_string(value_type, value) {
        return Ok(Value::string(string));
    }
    let parts = single_value(value_type, value).map_err(|_| DumpError::Format)?;
    Value::from_parts(env, &parts).map_err(|_| DumpError::Format)
}

/// A string that stands there as it is, so that a big one is copied once.
fn plain_string(value_type: u8, value: &[u8]) -> Option<&[u8]> {
    let (head, len) = match value {
        _ if value_type != value_type::STRING => return None,
        [0x80, a, b, c, d, ..] => (5, u64::from(u32::from_be_bytes([*a, *b, *c, *d]))),
        _ => return None,
    };
    (value.len() as u64 == head + len).then(|| &value[head as usize..])
}

/// Appends a whole value in Redis' own form, for which [`type_of`] gives the type byte.
pub(super) fn put_value(out: &mut Vec<u8>, value: ValueView<'_>, strings: &mut StringWriter) {
    match value {
        ValueView::String(Element::Int(int)) => put_integer_string(out, int),
        ValueView::String(Element::Bytes(bytes)) => strings.put(out, bytes),
        ValueView::List(list) => put_list(out, list.iter_from(0), strings),
        ValueView::Set(set) => {
            if let Some(ints) = set.ints() {
                return strings.put(out, &intset(&ints.collect::<Vec<_>>()));
            }
            put_len(out, set.len() as u64);
            for member in set.iter_from(0) {
                member.with(|member| strings.put(out, member));
            }
        }
        ValueView::Hash(hash) if hash.is_packed() => {
            let mut packed = ListpackWriter::new();
            for (field, value) in hash.iter_from(0) {
                packed.push(field);
                packed.push(value);
            }
            strings.put(out, &packed.finish());
        }
        ValueView::Hash(hash) => {
            put_len(out, hash.len() as u64);
            for (field, value) in hash.iter_from(0) {
                strings.put(out, field);
                strings.put(out, value);
            }
        }
        ValueView::Zset(zset) if zset.is_packed() => strings.put(out, &zset_listpack(zset)),
        ValueView::Zset(zset) => {
            put_len(out, zset.len() as u64);
            for (member, score) in zset.iter_back(0) {
                strings.put(out, member);
                out.extend_from_slice(&score.to_le_bytes());
            }
        }
        ValueView::Stream(stream) => {
            put_len(out, stream.node_count() as u64);
            let strings = RefCell::new(strings);
            put_stream(out, stream, 0, usize::MAX, &|out, string| strings.borrow_mut().put(out, string));
        }
    }
}

/// A quicklist: nodes filled from the head on, as pushes at the tail fill them.
fn put_list<'a>(out: &mut Vec<u8>, elements: impl Iterator<Item = &'a [u8]>, strings: &mut StringWriter) {
    const PLAIN: u64 = 1;
    const PACKED: u64 = 2;
    let mut nodes = 0;
    let mut body = Vec::new();
    let mut node = ListpackWriter::new();
    let mut close = |node: &mut ListpackWriter, body: &mut Vec<u8>, strings: &mut StringWriter| {
        if node.count() > 0 {
            let full = std::mem::replace(node, ListpackWriter::new());
            put_len(body, PACKED);
            strings.put(body, &full.finish());
            nodes += 1;
        }
    };
    let mut plain_nodes = 0;
    for element in elements {
        if element.len() >= LIST_PLAIN_BYTES {
            close(&mut node, &mut body, strings);
            put_len(&mut body, PLAIN);
            strings.put(&mut body, element);
            plain_nodes += 1;
            continue;
        }
        if node.len() + element.len() + LIST_ELEMENT_OVERHEAD > LIST_NODE_BYTES {
            close(&mut node, &mut body, strings);
        }
        node.push(element);
    }
    close(&mut node, &mut body, strings);
    put_len(out, nodes + plain_nodes);
    out.append(&mut body);
}

/// The blob of an integer set; `ints` ascend.
fn intset(ints: &[i64]) -> Vec<u8> {
    let fits = |low: i64, high: i64| ints.iter().all(|int| (low..=high).contains(int));
    let width = match () {
        () if fits(i64::from(i16::MIN), i64::from(i16::MAX)) => 2,
        () if fits(i64::from(i32::MIN), i64::from(i32::MAX)) => 4,
        () => 8,
    };
    let mut blob = Vec::with_capacity(8 + ints.len() * width);
    blob.extend_from_slice(&(width as u32).to_le_bytes());
    blob.extend_from_slice(&(ints.len() as u32).to_le_bytes());
    for int in ints {
        blob.extend_from_slice(&int.to_le_bytes()[..width]);
    }
    blob
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keyspace::ValueParts;
    use crate::keyspace::stream::{Group, NewId, NodeLimits, Stream, StreamId};

    /// What a redis-server 7.0.15 answers to DUMP of a key that holds 12.
    const TWELVE: [u8; 13] = [0x00, 0xc0, 0x0c, 0x0a, 0x00, 0x3c, 0x2a, 0xf8, 0x51, 0x5c, 0x04, 0xbc, 0xd5];

    #[test]
    fn matches_a_real_server_byte_for_byte() {
        assert_eq!(encode(Value::string(b"12").view()), TWELVE);
        assert_eq!(decode(&TWELVE, Env::default()).unwrap().as_string().unwrap().to_vec(), b"12");
    }

    #[test]
    fn refuses_damage_and_newer_versions() {
        let mut damaged = TWELVE;
        damaged[2] = 0x0d;
        assert_eq!(decode(&damaged, Env::default()).err(), Some(DumpError::VersionOrChecksum));
        let mut newer = TWELVE;
        newer[3] = 11;
        assert_eq!(decode(&newer, Env::default()).err(), Some(DumpError::VersionOrChecksum));
        assert_eq!(decode(b"short", Env::default()).err(), Some(DumpError::VersionOrChecksum));
    }

    /// Values of every kind and encoding, made of noise.
    fn values(numbers: &[i64], strings: &[Vec<u8>]) -> Vec<Value> {
        let mut elements: Vec<Vec<u8>> =
            numbers.iter().map(|number| number.to_string().into_bytes()).collect();
        let mut distinct = elements.clone();
        elements.extend_from_slice(strings);
        let pairs = |elements: &[Vec<u8>]| {
            let mut pairs: Vec<_> = elements.iter().map(|field| (field.clone(), strings.concat())).collect();
            pairs.sort();
            pairs.dedup();
            pairs
        };
        let sorted = |mut elements: Vec<Vec<u8>>| {
            elements.sort();
            elements.dedup();
            elements
        };
        distinct = sorted(distinct);
        [
            ValueParts::String(strings.concat()),
            ValueParts::String(strings.concat().repeat(9)),
            ValueParts::List(std::iter::repeat_n(elements.clone(), 40).flatten().collect()),
            ValueParts::Set(distinct.clone()),
            ValueParts::Set(sorted(elements.clone())),
            ValueParts::Hash(pairs(&distinct)),
            ValueParts::Hash(pairs(&sorted(elements))),
        ]
        .iter()
        .filter_map(|parts| Value::from_parts(Env::default(), parts).ok())
        .chain([Value::Stream(stream(numbers, strings).into())])
        .collect()
    }

    /// An entry a number, and a group whose consumers are the strings.
    fn stream(numbers: &[i64], strings: &[Vec<u8>]) -> Stream {
        let mut stream = Stream::default();
        for (ms, number) in (1..).zip(numbers) {
            let text = number.to_string();
            let mut pairs: Vec<&[u8]> = vec![b"number", text.as_bytes()];
            pairs.extend(strings.iter().take(*number as usize % 3).flat_map(|string| [&string[..], string]));
            let _ = stream.append(NewId::At(ms), &pairs, NodeLimits { max_bytes: 300, max_entries: 5 });
        }
        stream.create_group(b"readers", Group::default());
        stream.change_group(b"readers", |group, _| {
            for (ms, string) in (1..).zip(strings) {
                group.meet_consumer(string, -1);
                group.assign(StreamId { ms, seq: 0 }, string, 1_700_000_000_000, ms);
            }
        });
        stream
    }

    fn digest_of(value: &Value) -> [u8; 20] {
        crate::command::value_digest(value.view(), false)
    }

    proptest! {
        #[test]
        fn every_value_comes_back(
            numbers in proptest::collection::vec(any::<i64>(), 0..30), shift in 0..63_u32,
            strings in proptest::collection::vec(proptest::collection::vec(0..4_u8, 0..90), 0..30),
        ) {
            let numbers: Vec<i64> = numbers.iter().map(|number| number >> shift).collect();
            for value in values(&numbers, &strings) {
                let back = decode(&encode(value.view()), Env::default()).unwrap();
                prop_assert_eq!(digest_of(&back), digest_of(&value));
            }
        }

        #[test]
        fn no_damage_makes_it_panic(
            strings in proptest::collection::vec(proptest::collection::vec(0..4_u8, 0..90), 1..30),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<proptest::sample::Index>(),
        ) {
            for value in values(&[1, -5, 70_000, 1 << 40], &strings) {
                let mut payload = encode(value.view());
                payload.truncate(payload.len() - TRAILER_BYTES);
                for (index, byte) in &damage {
                    let at = index.index(payload.len());
                    payload[at] = *byte;
                }
                if damage.len() == 1 {
                    payload.truncate(cut.index(payload.len()) + 1);
                }
                // With a good trailer, so that the value itself is looked at.
                payload.extend_from_slice(&(VERSION as u16).to_le_bytes());
                let crc = crc64(0, &payload);
                payload.extend_from_slice(&crc.to_le_bytes());
                let value = decode(&payload, Env::default());
                // Memory: LZF gives at most 88 bytes for one, an element costs less than 200.
                prop_assert!(value.map_or(0, |value| value.heap_bytes()) <= payload.len() * 88 * 200);
            }
        }
    }
}
