//! What does it take to find a live value, and to drop the handle on it?
//!
//! A random one of some live strings of 30 bytes:
//!
//! - *live*: of one, which stays in the cache; of 10 000; of a million, where all that is touched comes from memory;
//! - *way*: by `intern`, `get`, with a hash that was computed before, in a session, from a weak handle;
//! - *threads*: on several threads, each of which has handles of its own.

mod common;

use std::hint::black_box;

use common::{Keys, LIVE, choices, on_threads, thread_counts};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hapax::{Interned, Interner};

fn live(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hit/live");
    group.throughput(Throughput::Elements(1));
    for live in [1, LIVE, 1_000_000] {
        let names = Interner::<str>::new();
        let keys = Keys::new(0, live);
        let held = keys.intern(&names);
        let chosen = choices(live, 0);
        let mut chosen = chosen.iter().cycle().map(|&number| keys.get(number));
        group.bench_function(BenchmarkId::from_parameter(live), |bencher| {
            bencher.iter(|| chosen.next().map(|key| names.intern(key)));
        });
        drop(held);
    }
    group.finish();
}

fn way(criterion: &mut Criterion) {
    let names = Interner::<str>::new();
    let keys = Keys::new(0, LIVE);
    let held = keys.intern(&names);
    let hashes: Vec<_> = keys.iter().map(|key| names.hash_of(key)).collect();
    let weak: Vec<_> = held.iter().map(Interned::downgrade).collect();
    let chosen = choices(LIVE, 0);
    let mut chosen = chosen.iter().copied().cycle();
    let mut next = || chosen.next().unwrap_or_default();

    let mut group = criterion.benchmark_group("hit/way");
    group.throughput(Throughput::Elements(1));
    group.bench_function("intern", |bencher| {
        bencher.iter(|| names.intern(keys.get(next())))
    });
    group.bench_function("get", |bencher| {
        bencher.iter(|| names.get(keys.get(next())))
    });
    group.bench_function("hashed", |bencher| {
        bencher.iter(|| {
            let number = next();
            names.intern_hashed(hashes[number], keys.get(number))
        });
    });
    group.bench_function("pinned", |bencher| {
        let pinned = names.pin();
        bencher.iter(|| pinned.intern(keys.get(next())));
    });
    group.bench_function("upgrade", |bencher| bencher.iter(|| weak[next()].upgrade()));
    group.finish();
}

fn threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hit/threads");
    let names = Interner::<str>::new();
    let keys = Keys::new(0, LIVE);
    for threads in thread_counts() {
        group.throughput(Throughput::Elements(threads as u64));
        group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
            bencher.iter_custom(|rounds| {
                let prepare = |thread| (keys.intern(&names), choices(LIVE, thread));
                on_threads(threads, prepare, |(_held, chosen)| {
                    for &number in chosen.iter().cycle().take(rounds as usize) {
                        black_box(names.intern(keys.get(number)));
                    }
                })
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = live, way, threads
}
criterion_main!(benches);
