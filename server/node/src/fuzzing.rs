//! What the fuzz targets (`server/node/fuzz`) do with their bytes, and what the kept corpora
//! (`tests/corpora`) go through in every `cargo test`: one body a target, for both. A body panics where the
//! code under it breaks a promise; foreign bytes that are refused are no fault.

use crate::aof::{AofItem, AofLoader, AofNames, DiskQueue, LoadWhat, Manifest};
use crate::cluster::bus::{self, FrameReader, HEADER_LEN};
pub use crate::cluster::{bus_node, nodes_conf_text as nodes_conf};
use crate::config::{Config, KEYS, Source};
use crate::io::{DiskOp, Effect, Effects, Ticket};
use crate::keyspace::stream::{Keep, NewId, NodeLimits, Stream, StreamId, Trim};
use crate::keyspace::{Env, Value};
use crate::rdb::{RdbDecoder, VERSION, crc64, dump};
use crate::resp::{RequestLimits, RequestParser, write_command};
pub use crate::script::fuzzing::script_values;

/// A target's name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. A folder of this name in `tests/corpora` holds a target's kept inputs.
pub const TARGETS: [Target; 10] = [
    ("bus_frame", bus_frame),
    ("bus_node", bus_node),
    ("nodes_conf", nodes_conf),
    ("rdb", rdb),
    ("resp_request", resp_request),
    ("stream", stream),
    ("aof_manifest", aof_manifest),
    ("aof", aof),
    ("config", config),
    ("script_values", script_values),
];

/// A stream of the bus: cut into frames, decoded, encoded, decoded again the same; nothing held that did not come.
pub fn bus_frame(stream: &[u8]) {
    let mut reader = FrameReader::default();
    for piece in pieces(stream) {
        reader.push(piece);
        while let Ok(Some(frame)) = reader.next(1 << 20) {
            round_trip(frame);
        }
        assert!(reader.held() <= 2 * stream.len() + 64, "{} bytes held of {}", reader.held(), stream.len());
        reader.settle();
    }
    // The same bytes as one frame with a right beginning, so that more than the reader is reached.
    let mut frame = stream.to_vec();
    frame.resize(frame.len().max(HEADER_LEN), 0);
    frame[..4].copy_from_slice(b"RCmb");
    let len = (frame.len() as u32).to_be_bytes();
    frame[4..8].copy_from_slice(&len);
    frame[8..10].copy_from_slice(&bus::VERSION.to_be_bytes());
    round_trip(&frame);
}

fn round_trip(frame: &[u8]) {
    let Ok(packet) = bus::decode(frame) else { return };
    let again = bus::encode(&packet);
    assert_eq!(bus::decode(&again).as_ref(), Ok(&packet));
    assert!(again.len() <= frame.len(), "grew from {} to {}", frame.len(), again.len());
}

/// An RDB file in pieces and whole gives the same keys; a RESTORE payload of any bytes is refused or is a value that
/// survives DUMP and RESTORE.
pub fn rdb(bytes: &[u8]) {
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut decoder, mut events) = (RdbDecoder::new(), Vec::new());
        for piece in pieces {
            if let Err(error) = decoder.feed(piece, &mut |event| events.push(event)) {
                return (Err(error), events);
            }
        }
        (Ok(()), events)
    };
    assert_eq!(read(&mut pieces(bytes)), read(&mut std::iter::once(bytes)));
    let mut payload = bytes.to_vec();
    payload.extend_from_slice(&(VERSION as u16).to_le_bytes());
    let crc = crc64(0, &payload);
    payload.extend_from_slice(&crc.to_le_bytes());
    for payload in [bytes, &payload] {
        let Ok(value) = dump::decode(payload, Env::default()) else { continue };
        let dumped = dump::encode(value.view());
        let again = dump::decode(&dumped, Env::default()).expect("what DUMP made is right");
        assert_eq!(dump::encode(again.view()).len(), dumped.len());
    }
}

/// The value of a RESTORE payload that is a stream, of any version; and one whose first node is made of the bytes, with
/// a right head and end, so that more than the reader is reached. What is taken for a stream can be walked, changed
/// and counted.
pub fn stream(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    let (listpack, rest) = bytes.split_at(bytes.len() * usize::from(kind >> 2) / 64);
    let total = listpack.len() as u32 + 7;
    let mut mended = vec![1, 16];
    mended.extend_from_slice(&StreamId { ms: 5, seq: 1 }.to_bytes());
    mended.push(0x80);
    mended.extend_from_slice(&total.to_be_bytes());
    mended.extend_from_slice(&total.to_le_bytes());
    mended.extend_from_slice(&[0xff, 0xff]);
    mended.extend_from_slice(listpack);
    mended.push(0xff);
    mended.extend_from_slice(rest);
    for value in [bytes, &mended] {
        let mut payload = vec![[15, 19, 21, 19][usize::from(kind & 3)]];
        payload.extend_from_slice(value);
        payload.extend_from_slice(&(VERSION as u16).to_le_bytes());
        let crc = crc64(0, &payload);
        payload.extend_from_slice(&crc.to_le_bytes());
        if let Ok(Value::Stream(stream)) = dump::decode(&payload, Env::default()) {
            let dumped = dump::encode(Value::Stream(stream.clone()).view());
            let again = dump::decode(&dumped, Env::default()).expect("what DUMP made is right");
            assert_eq!(dump::encode(again.view()), dumped);
            change_stream((*stream).clone());
        }
    }
}

fn change_stream(mut stream: Stream) {
    let check = |stream: &Stream| {
        let pairs = |entries: &mut dyn Iterator<Item = crate::keyspace::stream::Entry<'_>>| -> Vec<_> {
            entries.map(|entry| (entry.id, entry.pairs().count(), entry.len())).collect()
        };
        let forward = pairs(&mut stream.range(StreamId::MIN, StreamId::MAX));
        let mut back = pairs(&mut stream.range_back(StreamId::MIN, StreamId::MAX));
        back.reverse();
        assert_eq!(forward, back);
        assert_eq!(forward.len(), stream.len());
        assert!(forward.is_sorted_by(|a, b| a.0 < b.0) && forward.iter().all(|entry| entry.1 == entry.2));
        forward
    };
    let ids = check(&stream);
    let _ = stream.append(NewId::At(7), &[b"a", b"1"], NodeLimits::default());
    let names: Vec<_> = stream.groups().map(|(name, _)| name.clone()).collect();
    for name in &names {
        stream.change_group(name, |group, extent| {
            let lag = extent.lag(group.last_id, group.entries_read);
            assert!(extent.entries_added != 0 || lag == Some(0));
            group.meet_consumer(b"c", 1);
            for (id, ..) in &ids {
                group.advance(*id, extent);
                group.assign(*id, b"c", 1, 1);
            }
            let owned: usize = group.consumers().map(|(_, consumer)| consumer.pending_len()).sum();
            assert_eq!(owned, group.pending().len());
            group.delete_consumer(b"c");
        });
    }
    for (id, ..) in ids.iter().step_by(2) {
        assert!(stream.delete(*id) && !stream.delete(*id));
    }
    check(&stream);
    let len = stream.len() as u64;
    for (keep, whole_nodes) in [(Keep::Len(len / 2), true), (Keep::Len(len / 3), false)] {
        stream.trim(Trim { keep, whole_nodes, limit: 0 });
        check(&stream);
    }
    stream.trim(Trim { keep: Keep::From(StreamId::MAX), whole_nodes: false, limit: 0 });
    check(&stream);
    for name in &names {
        assert!(stream.destroy_group(name));
    }
}

/// Requests of a client: in pieces and whole the same, each written and read again the same.
pub fn resp_request(bytes: &[u8]) {
    // Above that length an inline request may be refused before its end is seen.
    let bytes = &bytes[..bytes.len().min(60_000)];
    let limits = RequestLimits { max_bulk_bytes: 1 << 20, max_args: 1 << 20, unauthenticated: false };
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut parser, mut buffer, mut requests) = (RequestParser::default(), Vec::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match parser.parse(&buffer, limits) {
                    Ok(Some(len)) => {
                        let args: Vec<Vec<u8>> = parser.args(&buffer).iter().map(<[u8]>::to_vec).collect();
                        requests.push(args);
                        parser.next();
                        buffer.drain(..len);
                    }
                    Ok(None) => break,
                    Err(error) => return (Err(error), requests),
                }
            }
        }
        (Ok(buffer.len()), requests)
    };
    let (end, requests) = read(&mut pieces(bytes));
    assert_eq!(read(&mut std::iter::once(bytes)), (end, requests.clone()));
    for request in requests.iter().filter(|request| !request.is_empty()) {
        let mut written = Vec::new();
        write_command(&mut written, request.iter());
        let (_, again) = read(&mut std::iter::once(&written[..]));
        assert_eq!(again, std::slice::from_ref(request));
    }
}

/// A manifest: what was read is written and read again the same.
pub fn aof_manifest(text: &[u8]) {
    let Ok(manifest) = Manifest::parse(text) else { return };
    assert_eq!(Manifest::parse(manifest.to_text().as_bytes()).as_ref(), Ok(&manifest));
}

/// The only file of an AOF, base or increment by its first bytes: in pieces and whole it gives the same items, the same
/// end and the same cut, and what is left after a cut is loaded without one.
pub fn aof(bytes: &[u8]) {
    let whole = load_aof(&mut std::iter::once(bytes));
    assert_eq!(load_aof(&mut pieces(bytes)), whole);
    if let AofEnd { left: Some(left), loaded: Ok(_), items } = whole {
        let again = load_aof(&mut std::iter::once(&bytes[..left as usize]));
        assert_eq!(again, AofEnd { items, left: None, loaded: Ok(left) });
    }
}

/// What became of an append-only file.
#[derive(Debug, PartialEq)]
struct AofEnd {
    items: Vec<String>,
    /// Where the file was cut.
    left: Option<u64>,
    /// Bytes loaded, or why not.
    loaded: Result<u64, String>,
}

fn load_aof(pieces: &mut dyn Iterator<Item = &[u8]>) -> AofEnd {
    let (mut effects, mut last_ticket) = (Effects::default(), Ticket(0));
    let mut end = AofEnd { items: Vec::new(), left: None, loaded: Err("it goes on".into()) };
    let mut disk = DiskQueue::new(&mut effects, &mut last_ticket);
    let mut loader = AofLoader::new(AofNames::default(), LoadWhat::Everything, true, &mut disk);
    let manifest: &[u8] = b"file appendonly.aof.1.incr.aof seq 1 type i\n";
    // An end that comes with no bytes, as a shell may tell it.
    let pieces =
        pieces.filter(|piece| !piece.is_empty()).map(|piece| (piece, false)).chain([(&b""[..], true)]);
    for (bytes, eof) in std::iter::once((manifest, true)).chain(pieces) {
        let mut sink = |item: AofItem<'_>| {
            end.items.push(match item {
                AofItem::Command(command) => format!("{:?}", command.to_vec()),
                other => format!("{other:?}"),
            });
        };
        match loader.file_chunk(bytes, eof, false, &mut disk, &mut sink) {
            Ok(None) => {}
            Ok(Some(loaded)) => end.loaded = Ok(loaded.incremental_bytes),
            Err(error) => {
                end.loaded = Err(error.to_string());
                break;
            }
        }
    }
    for effect in &effects.list {
        if let Effect::Disk { op: DiskOp::Truncate { len, .. }, .. } = effect {
            end.left = Some(*len);
        }
    }
    end
}

/// A configuration file: refused, or CONFIG REWRITE's text of it says the same, as does its text of an empty file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let load = |text: &str| {
        let source = Source { file: text, ..Source::default() };
        Config::load(source, &mut |_| Err("no files here".into()))
    };
    let Ok(config) = load(text) else { return };
    for rewritten in [config.rewrite(text, false), config.rewrite("", false), config.rewrite(text, true)] {
        let again = load(&rewritten).unwrap_or_else(|error| panic!("{rewritten:?}: {error}"));
        for &key in KEYS {
            assert_eq!(again.value(key), config.value(key), "{} of {rewritten:?}", key.directive().name);
        }
    }
}

/// The bytes cut into pieces of a size that follows from them.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let size = bytes.iter().fold(bytes.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    bytes.chunks(size % 97 + 1)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "reads the corpora")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kept_input_of_the_fuzz_targets_passes() {
        for (name, body) in TARGETS {
            let folder = format!("{}/tests/corpora/{name}", env!("CARGO_MANIFEST_DIR"));
            let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
            let mut seen = 0;
            for file in files {
                let path = file.unwrap().path();
                let input = std::fs::read(&path).unwrap();
                if let Err(panic) = std::panic::catch_unwind(|| body(&input)) {
                    eprintln!("the input is {}", path.display());
                    std::panic::resume_unwind(panic);
                }
                seen += 1;
            }
            assert!(seen >= 3, "only {seen} inputs in {folder}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn damaged_streams_are_refused_or_work(
            which: prop::sample::Index, kind: u8,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            noise in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpora/stream");
            let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
            files.sort();
            let mut bytes = std::fs::read(which.get(&files)).unwrap();
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            stream(&bytes);
            stream(&[&[kind][..], &noise].concat());
        }
    }

    #[test]
    fn frames_of_real_servers_pass_as_one_stream() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bus");
        let mut stream = Vec::new();
        for file in std::fs::read_dir(folder).unwrap() {
            stream.extend(std::fs::read(file.unwrap().path()).unwrap());
        }
        bus_frame(&stream);
    }
}
