//! How long the checks take, apart from reading: `cargo bench -p slotstorm-checker`. `scripts/bench-checker` writes the
//! table of results/baselines/checker.md, with memory and larger histories.

mod generate;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use generate::{Load, Mix};
use slotstorm_checker::answer::Answer;
use slotstorm_checker::linear::*;

const LOAD: Load = Load { ops: 100_000, clients: 10, unknown_permille: 5, seed: 1, first_value: 0 };

fn near_linear(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("100k operations of one key");
    group.sample_size(20);
    for (name, mix) in
        [("register", Mix::Unique), ("cas that tells", Mix::CasTells), ("cas that hides", Mix::Cas)]
    {
        let ops = generate::registers(&LOAD, mix);
        group.bench_function(name, |bench| bench.iter(|| assert_eq!(register(&ops, &limits), Answer::Holds)));
    }
    let (ops, elements) = generate::sets(&LOAD);
    group.bench_function("set", |bench| bench.iter(|| assert_eq!(set(&ops, &elements), Answer::Holds)));
    let (ops, elements) = generate::lists(&LOAD);
    group.bench_function("list", |bench| bench.iter(|| assert_eq!(list(&ops, &elements), Answer::Holds)));
    let ops = generate::counters(&LOAD);
    group.bench_function("counter", |bench| bench.iter(|| assert_eq!(counter(&ops, &limits), Answer::Holds)));
    let ops = generate::queues(&Load { unknown_permille: 0, ..LOAD });
    group.bench_function("queue", |bench| bench.iter(|| assert_eq!(queue(&ops, &limits), Answer::Holds)));
    group.finish();
}

fn searched(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("10k operations of one key, five values");
    group.sample_size(20);
    let load = Load { ops: 10_000, unknown_permille: 0, ..LOAD };
    let good = generate::registers(&load, Mix::FiveValues);
    let mut bad = good.clone();
    assert!(generate::make_stale(&mut bad));
    for (name, ops) in [("good", good), ("one stale read", bad)] {
        group.bench_function(name, |bench| {
            bench.iter_batched(
                || ops.clone(),
                |ops| register(&ops, &Limits::default()),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, near_linear, searched);
criterion_main!(benches);
