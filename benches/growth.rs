//! What does it take to fill a table?
//!
//! New strings of 30 bytes, all kept:
//!
//! - *grown*: from nothing to a thousand, a hundred thousand, a million entries;
//! - *reserved*: the same in a table that has room from the start;
//! - *threads*: a hundred thousand, a share of them on each of several threads.
//!
//! The time is that of all entries; that of one thread where there are several.

mod common;

use std::time::{Duration, Instant};

use common::{Keys, on_threads, thread_counts};
use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use hapax::Interner;

const SHARED: usize = 100_000;

fn alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("growth");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (entries, seconds) in [(1000, 2), (SHARED, 2), (1_000_000, 9)] {
        group.measurement_time(Duration::from_secs(seconds));
        group.throughput(Throughput::Elements(entries as u64));
        let keys = Keys::new(0, entries);
        group.bench_function(BenchmarkId::new("grown", entries), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| fill(Interner::new(), &keys)).sum());
        });
        group.bench_function(BenchmarkId::new("reserved", entries), |bencher| {
            let table = || Interner::with_capacity(entries);
            bencher.iter_custom(|rounds| (0..rounds).map(|_| fill(table(), &keys)).sum());
        });
    }
    group.finish();
}

/// Neither the handles' own memory nor their end is in the time.
fn fill(names: Interner<str>, keys: &Keys) -> Duration {
    let mut held = Vec::with_capacity(keys.len());
    let start = Instant::now();
    held.extend(keys.iter().map(|key| names.intern(key)));
    start.elapsed()
}

fn threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("growth/threads");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(SHARED as u64));
    for threads in thread_counts() {
        let share = SHARED / threads;
        let keys: Vec<_> = (0..threads)
            .map(|thread| Keys::new(thread, share))
            .collect();
        group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
            bencher.iter_custom(|rounds| {
                let fill_one = |_| {
                    let names = Interner::<str>::new();
                    let prepare = |thread: usize| (&keys[thread], Vec::with_capacity(share));
                    on_threads(threads, prepare, |(keys, held)| {
                        held.extend(keys.iter().map(|key| names.intern(key)));
                    })
                };
                (0..rounds).map(fill_one).sum()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = alone, threads
}
criterion_main!(benches);
