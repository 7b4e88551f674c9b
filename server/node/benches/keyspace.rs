//! Is the snapshot scheme good enough? Bytes per key, and the longest stall of one write after a snapshot.
//! `cargo bench -p slotstorm-node --bench keyspace`; results stand in `results/baselines/keyspace.md`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a benchmark reads the clock and /proc

use std::time::{Duration, Instant};

use slotstorm_node::io::WallMs;
use slotstorm_node::keyspace::{EncodingLimits, HashSeed, Keyspace, Value, hashtable::Hash};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if let Some(case) = std::env::args().find_map(|arg| arg.strip_prefix("case=").map(str::to_owned)) {
        return run(&case);
    }
    println!(
        "| case | keys | resident | own count | snapshot | longest write | p99.9 write | drop of snapshot |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    // Each case in a process of its own: what one leaves behind would be counted in the next.
    let own = std::env::current_exe().expect("this program's path");
    for case in 0..5 {
        let status = std::process::Command::new(&own).arg(format!("case={case}")).status().expect("a child");
        assert!(status.success(), "case {case} failed");
    }
}

fn run(case: &str) {
    match case {
        "0" => spread("1 M keys of 32 bytes, spread", 1_000_000, 32, ""),
        "1" => spread("1 GB spread, values of 1000 bytes", 1_000_000, 1000, ""),
        "2" => spread("1 GB spread, values of 32 bytes", 8_000_000, 32, ""),
        "3" => spread("1 GB in one hash tag", 8_000_000, 32, "{tag}"),
        _ => one_hash("one hash of 500 MB", 4_000_000, 60),
    }
}

fn fresh() -> Keyspace {
    Keyspace::new(HashSeed(0x1234, 0x5678), EncodingLimits::default())
}

fn spread(name: &str, count: u64, value_bytes: usize, tag: &str) {
    let before = resident();
    let mut keys = fresh();
    for number in 0..count {
        let key = format!("{tag}key:{number:010}");
        keys.set(key.as_bytes(), Value::string(&vec![b'v'; value_bytes]), None, WallMs(0));
    }
    let memory = resident() - before;
    report(name, count, memory, &mut keys, |keys, number| {
        let key = format!("{tag}key:{:010}", number.wrapping_mul(7_919_773) % count);
        keys.set(key.as_bytes(), Value::string(&vec![b'w'; value_bytes]), None, WallMs(0));
    });
}

fn one_hash(name: &str, count: u64, value_bytes: usize) {
    let before = resident();
    let mut keys = fresh();
    let env = keys.env();
    let mut hash = Hash::default();
    for number in 0..count {
        hash.set(env, format!("field:{number:010}").as_bytes(), &vec![b'v'; value_bytes]);
    }
    keys.set(b"hash", Value::Hash(hash), None, WallMs(0));
    let memory = resident() - before;
    report(name, count, memory, &mut keys, |keys, number| {
        let field = format!("field:{:010}", number.wrapping_mul(7_919_773) % count);
        keys.update(b"hash", |value, env| {
            if let Value::Hash(hash) = value {
                hash.set(env, field.as_bytes(), &vec![b'w'; value_bytes]);
            }
        });
    });
}

fn report(name: &str, count: u64, memory: usize, keys: &mut Keyspace, write: impl Fn(&mut Keyspace, u64)) {
    let own = keys.used_memory();
    let began = Instant::now();
    let snapshot = keys.snapshot();
    let snapshot_took = began.elapsed();
    let mut times: Vec<Duration> = (0..200_000)
        .map(|number| {
            let began = Instant::now();
            write(keys, number);
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    let began = Instant::now();
    drop(snapshot);
    let drop_took = began.elapsed();
    println!(
        "| {name} | {count} | {:.0} MB, {:.0} B a key | {:.0} B a key | {snapshot_took:.0?} | {:.0?} | {:.1?} | {drop_took:.0?} |",
        memory as f64 / 1e6,
        memory as f64 / count as f64,
        own as f64 / count as f64,
        times[times.len() - 1],
        times[times.len() - 200],
    );
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm");
    pages * 4096
}
