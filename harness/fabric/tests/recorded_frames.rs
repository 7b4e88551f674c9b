//! The scanner beside bus frames that real servers sent (the node's fixtures, recorded by `scripts/record-bus`).
#![allow(clippy::disallowed_methods)] // reads fixtures

use slotstorm_fabric::FrameScanner;

const KINDS: [&str; 11] = [
    "ping",
    "pong",
    "meet",
    "fail",
    "publish",
    "auth-req",
    "auth-ack",
    "update",
    "mfstart",
    "module",
    "publishshard",
];

#[test]
fn every_type_that_real_servers_send_is_found_wherever_the_stream_is_cut() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../server/node/tests/fixtures/bus");
    let files = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let (mut stream, mut sent) = (Vec::new(), Vec::new());
    for file in files {
        let path = file.unwrap().path();
        // `<version>-<kind>[-<feature>].bin`; kinds have dashes of their own.
        let name = path.file_stem().unwrap().to_str().unwrap();
        let shape = name.split_once('-').expect("a version first").1;
        let kind = (0_u16..).zip(KINDS).filter(|(_, kind)| shape.starts_with(kind));
        let (kind, _) = kind.max_by_key(|(_, kind)| kind.len()).unwrap_or_else(|| panic!("{name}"));
        let frame = std::fs::read(&path).unwrap();
        sent.push((stream.len() as u64, frame.len() as u32, kind, frame[40..80].to_vec()));
        stream.extend(frame);
    }
    for (number, name) in (0_u16..).zip(KINDS) {
        assert!(sent.iter().any(|(_, _, kind, _)| *kind == number), "no {name}");
    }
    for cut in [1, 15, 79, 1460, stream.len()] {
        let (mut scanner, mut found) = (FrameScanner::default(), Vec::new());
        for piece in stream.chunks(cut) {
            scanner.feed(piece, &mut found).unwrap();
        }
        let seen: Vec<_> =
            found.into_iter().map(|frame| (frame.at, frame.len, frame.kind, frame.sender)).collect();
        assert_eq!(seen, sent, "cut into {cut}");
    }
}
