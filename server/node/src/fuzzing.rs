//! What the fuzz targets (`server/node/fuzz`) do with their bytes, and what the kept corpora
//! (`tests/corpora`) go through in every `cargo test`: one body a target, for both. A body panics where the
//! code under it breaks a promise; foreign bytes that are refused are no fault.

use crate::aof::Manifest;
use crate::cluster::bus::{self, FrameReader, HEADER_LEN};
pub use crate::cluster::{bus_node, nodes_conf_text as nodes_conf};
use crate::keyspace::Env;
use crate::rdb::{RdbDecoder, VERSION, crc64, dump};
use crate::resp::{RequestLimits, RequestParser, write_command};

/// A target's name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. A folder of this name in `tests/corpora` holds a target's kept inputs.
pub const TARGETS: [Target; 6] = [
    ("bus_frame", bus_frame),
    ("bus_node", bus_node),
    ("nodes_conf", nodes_conf),
    ("rdb", rdb),
    ("resp_request", resp_request),
    ("aof_manifest", aof_manifest),
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

/// Requests of a client: in pieces and whole the same, each written and read again the same.
pub fn resp_request(bytes: &[u8]) {
    // Above that length an inline request may be refused before its end is seen.
    let bytes = &bytes[..bytes.len().min(60_000)];
    let limits = RequestLimits { max_bulk_bytes: 1 << 20, max_args: 1 << 20 };
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

/// The bytes cut into pieces of a size that follows from them.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let size = bytes.iter().fold(bytes.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    bytes.chunks(size % 97 + 1)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "reads the corpora")]
mod tests {
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
