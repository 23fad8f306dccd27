//! What does it gain to hand many values over at once?
//!
//! Random ones of some live strings of 30 bytes, 64 at a time: by `intern` of one after the other, in a session, and
//! by `intern_all`. And fresh ones, into a table that has room for them.

mod common;

use std::hint::black_box;

use common::{Keys, LIVE, choices};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hapax::Interner;

/// Values at a time.
const MANY: usize = 64;

fn hits(criterion: &mut Criterion) {
    for live in [LIVE, 1_000_000] {
        let names = Interner::<str>::new();
        let keys = Keys::new(0, live);
        let held = keys.intern(&names);
        let chosen = choices(live, 0);
        let mut chosen = chosen.chunks_exact(MANY).cycle();
        let mut next = || {
            let chosen = chosen.next().unwrap_or_default();
            chosen.iter().map(|&number| keys.get(number))
        };

        let mut group = criterion.benchmark_group(format!("batch/hits of {live}"));
        group.throughput(Throughput::Elements(MANY as u64));
        group.bench_function("intern", |bencher| {
            bencher.iter(|| next().for_each(|key| drop(black_box(names.intern(key)))));
        });
        group.bench_function("pinned", |bencher| {
            bencher.iter(|| {
                let pinned = names.pin();
                next().for_each(|key| drop(black_box(pinned.intern(key))));
            });
        });
        group.bench_function("intern_all", |bencher| {
            bencher.iter(|| {
                names
                    .intern_all(next())
                    .for_each(|name| drop(black_box(name)))
            });
        });
        group.finish();
        drop(held);
    }
}

fn misses(criterion: &mut Criterion) {
    let keys = Keys::new(1, 100_000);
    let mut group = criterion.benchmark_group("batch/misses");
    group.throughput(Throughput::Elements(keys.len() as u64));
    let table = || Interner::<str>::with_capacity(keys.len());
    group.bench_function(BenchmarkId::from_parameter("intern"), |bencher| {
        bencher.iter_batched(
            table,
            |names| {
                let held: Vec<_> = keys.iter().map(|key| names.intern(key)).collect();
                (held, names)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function(BenchmarkId::from_parameter("intern_all"), |bencher| {
        bencher.iter_batched(
            table,
            |names| {
                let held: Vec<_> = names.intern_all(keys.iter()).collect();
                (held, names)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = hits, misses
}
criterion_main!(benches);
