//! What does it take to intern a value that isn't there, and to drop its only handle?
//!
//! Strings of 30 bytes, a few thousand in turn, so that each is long gone when it comes again:
//!
//! - *live*: beside no other live value, 10 000 and a million;
//! - *threads*: on several threads, each of which has keys of its own.

mod common;

use std::hint::black_box;

use common::{Keys, LIVE, on_threads, thread_counts};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hapax::Interner;

/// The family of the live keys; the others are the threads' numbers.
const OTHERS: usize = 1_000_000;

/// Keys that come and go on each thread.
const TURN: usize = 4096;

fn live(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("churn/live");
    group.throughput(Throughput::Elements(1));
    let keys = Keys::new(0, TURN);
    for live in [0, LIVE, 1_000_000] {
        let names = Interner::<str>::new();
        let held = Keys::new(OTHERS, live).intern(&names);
        let mut number = 0;
        group.bench_function(BenchmarkId::from_parameter(live), |bencher| {
            bencher.iter(|| {
                number = (number + 1) % TURN;
                names.intern(keys.get(number))
            });
        });
        drop(held);
    }
    group.finish();
}

fn threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("churn/threads");
    let names = Interner::<str>::new();
    for threads in thread_counts() {
        group.throughput(Throughput::Elements(threads as u64));
        group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
            bencher.iter_custom(|rounds| {
                on_threads(
                    threads,
                    |thread| Keys::new(thread, TURN),
                    |keys| {
                        for number in 0..rounds as usize {
                            black_box(names.intern(keys.get(number % TURN)));
                        }
                    },
                )
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = live, threads
}
criterion_main!(benches);
