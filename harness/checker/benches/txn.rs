//! One million list-append transactions. `cargo bench -p slotstorm-checker --bench txn`.

#[path = "../examples/generate/txns.rs"]
mod generate;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use generate::history;
use slotstorm_checker::answer::Answer;
use slotstorm_checker::txn::{Options, check};

const TXNS: u32 = 1_000_000;

fn list_append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("txn/list-append");
    group.sample_size(10);
    for (name, stale) in [("1M ok", 0), ("1M with 20 stale reads", 20)] {
        let history = history(TXNS, stale);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (),
                |()| {
                    let report = check(&history, &Options::default());
                    assert_eq!(report.answer == Answer::Holds, stale == 0);
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, list_append);
criterion_main!(benches);
