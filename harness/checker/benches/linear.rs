//! A million operations on a unique-value register, on one key and on a hundred; `set` and `append` in memory, and from the
//! bytes of a `history.bin`. `cargo bench -p slotstorm-checker --bench linear`.

#[path = "../examples/generate/mod.rs"]
mod generate;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use generate::{Load, Mix};
use slotstorm_checker::answer::Answer;
use slotstorm_checker::linear::{Limits, keyed, list, register, set};
use slotstorm_checker::record::bin::{BinKind, BinOp, BinReader, Group, write_group, write_header};

const OPS: usize = 1_000_000;
const CLIENTS: u32 = 10;

fn loads(keys: usize, unknown_permille: u32) -> Vec<Load> {
    let of_key = |key: usize| Load {
        ops: OPS / keys,
        clients: CLIENTS,
        unknown_permille,
        seed: 1 << 32 | key as u64,
        first_value: (key * (OPS / keys)) as u64,
    };
    (0..keys).map(of_key).collect()
}

/// Judges all keys on one thread.
fn judge<H: Sync>(keys: &[H], check: impl Fn(&H) -> Answer + Sync) {
    let answers = keyed(&vec![1; keys.len()], 1, |key| check(&keys[key]));
    assert!(answers.iter().all(|answer| *answer == Answer::Holds));
}

fn registers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear/register 1M");
    group.sample_size(10).throughput(Throughput::Elements(OPS as u64));
    for keys in [1, 100] {
        let histories: Vec<_> =
            loads(keys, 0).iter().map(|load| generate::registers(load, Mix::Unique)).collect();
        group.bench_function(format!("{keys} keys"), |bencher| {
            bencher.iter(|| judge(&histories, |ops| register(ops, &Limits::default())));
        });
    }
    group.finish();
}

fn collections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear/collections 1M");
    group.sample_size(10).throughput(Throughput::Elements(OPS as u64));
    for keys in [1, 100] {
        let sets: Vec<_> = loads(keys, 5).iter().map(generate::sets).collect();
        group.bench_function(format!("set, {keys} keys"), |bencher| {
            bencher.iter(|| judge(&sets, |(ops, elements)| set(ops, elements)));
        });
        let bytes = file(&sets);
        group.bench_function(format!("set, {keys} keys, from history.bin"), |bencher| {
            bencher.iter(|| judge_file(&bytes, |group| set(&group.ops, &group.elements)));
        });
        let lists: Vec<_> = loads(keys, 5).iter().map(generate::lists).collect();
        group.bench_function(format!("append, {keys} keys"), |bencher| {
            bencher.iter(|| judge(&lists, |(ops, elements)| list(ops, elements)));
        });
        let bytes = file(&lists);
        group.bench_function(format!("append, {keys} keys, from history.bin"), |bencher| {
            bencher.iter(|| judge_file(&bytes, |group| list(&group.ops, &group.elements)));
        });
    }
    group.finish();
}

/// The histories as the bytes of a `history.bin`.
fn file<K: BinKind>(keys: &[generate::Made<K>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_header(&mut bytes).expect("memory can be written to");
    for (number, (ops, elements)) in keys.iter().enumerate() {
        let ops: Vec<BinOp<K>> = ops.iter().map(|&op| BinOp { op, node: 1 }).collect();
        write_group(&mut bytes, format!("key:{number}").as_bytes(), &ops, elements)
            .expect("memory can be written to");
    }
    bytes
}

fn judge_file<K: BinKind>(bytes: &[u8], check: impl Fn(&Group<K>) -> Answer) {
    let mut reader = BinReader::open(bytes).expect("a header");
    while let Some(group) = reader.next_group::<K>().expect("whole groups") {
        assert_eq!(check(&group), Answer::Holds);
    }
}

criterion_group!(benches, registers, collections);
criterion_main!(benches);
