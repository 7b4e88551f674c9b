//! What hunts of the node without a bug have found: holes of the judge and bugs of the node, since mended, made small. Each storm
//! says what it was about; none shows its finding any more, nor any other. (Scenes and stories beside the mended code hold each
//! case by itself, whatever else changes in the simulator.)

#![allow(clippy::disallowed_methods)] // it looks at files

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn no_finding_of_an_earlier_hunt_comes_back() {
    let museum = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/museum");
    let mut pieces: Vec<PathBuf> = std::fs::read_dir(museum)
        .expect("the museum is there")
        .map(|it| it.expect("readable").path())
        .collect();
    pieces.sort();
    assert!(pieces.len() >= 23, "{pieces:?}");
    for piece in pieces {
        let out = tempfile::tempdir().expect("a temporary directory");
        let ended = Command::new(env!("CARGO_BIN_EXE_slotstorm"))
            .args(["run", "--backend", "sim", "--json", "--out"])
            .args([out.path(), &piece])
            .output()
            .expect("the binary runs");
        let verdict: serde_json::Value = serde_json::from_slice(&ended.stdout)
            .unwrap_or_else(|_| panic!("{}: {}", piece.display(), String::from_utf8_lossy(&ended.stderr)));
        // Unknown is what some faults leave: `forget` bans a node for longer than a storm lasts.
        assert_ne!(verdict["exit_code"], 1, "{}: {}", piece.display(), verdict["reason"]);
        assert!(verdict["reason"].as_str().is_some_and(|why| !why.is_empty()), "{verdict}");
    }
}
