//! What does it take to learn that a value isn't there?
//!
//! `get` of a random one of 10 000 strings that nobody has interned, beside some live ones: none, in an interner that
//! has had one; 10 000; a million. Nothing is allocated or changed.

mod common;

use common::{Keys, LIVE, choices};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hapax::Interner;

fn miss(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("miss");
    group.throughput(Throughput::Elements(1));
    let absent = Keys::new(1, LIVE);
    let chosen = choices(LIVE, 0);
    for live in [0, LIVE, 1_000_000] {
        let names = Interner::<str>::new();
        // So that there is a table.
        drop(names.intern("one"));
        let held = Keys::new(0, live).intern(&names);
        let mut chosen = chosen.iter().cycle().map(|&number| absent.get(number));
        group.bench_function(BenchmarkId::from_parameter(live), |bencher| {
            bencher.iter(|| chosen.next().map(|key| names.get(key)));
        });
        drop(held);
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = miss
}
criterion_main!(benches);
