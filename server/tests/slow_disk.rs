//! A disk that takes seconds for an fsync: under `appendfsync everysec` nobody waits for it but the thread that syncs. Both servers put
//! a write off for up to two seconds while a sync runs; then it is written all the same.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a test of processes, sockets and files

mod side_by_side;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use side_by_side::{Client, Kind, Server};

/// Builds the library that makes a server's disk slow. The C compiler is there: Lua was built with it.
fn library(dir: &Path) -> PathBuf {
    let (source, library) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slow_disk.c"), dir.join("slow_disk.so"));
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o"])
        .args([&library, &source])
        .status();
    assert!(built.expect("cc").success(), "{} does not compile", source.display());
    library
}

/// Writes for ten seconds to a server whose syncs take four: how long the longest answer took, and how many there were.
fn longest_answer(kind: Kind, number: u8, library: &Path) -> (Duration, usize) {
    let server = Server::start_with_library(
        kind,
        number,
        &["--cluster-enabled", "no", "--appendonly", "yes", "--appendfsync", "everysec"],
        library,
    );
    let mut client = Client::connect(&server.ip).unwrap();
    std::fs::write(server.path().join("slow"), "").unwrap();
    let (begun, mut longest, mut answers) = (Instant::now(), Duration::ZERO, 0);
    while begun.elapsed() < Duration::from_secs(10) {
        let asked = Instant::now();
        assert_eq!(client.ask(&format!("SET key:{answers} value")), "+OK|");
        (longest, answers) = (longest.max(asked.elapsed()), answers + 1);
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::remove_file(server.path().join("slow")).unwrap();
    let info = client.ask("INFO persistence");
    assert!(
        info.contains("aof_delayed_fsync:") && !info.contains("aof_delayed_fsync:0|"),
        "no sync was slow: {info}"
    );
    (longest, answers)
}

#[test]
fn a_sync_that_takes_seconds_keeps_no_client_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let library = &library(dir.path());
    let both = std::thread::scope(|scope| {
        let asked = [(Kind::Redis, 1), (Kind::Ours, 2)]
            .map(|(kind, number)| scope.spawn(move || longest_answer(kind, number, library)));
        asked.map(|one| one.join().unwrap())
    });
    println!("longest answers and how many, redis-server and ours: {both:?}");
    // A sync takes four seconds, and the busiest machine of ours needs less than one for an answer.
    assert!(both.iter().all(|(longest, _)| *longest < Duration::from_millis(1500)), "{both:?}");
}
