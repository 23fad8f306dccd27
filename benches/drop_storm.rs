//! What does it take when a hundred thousand values die at once?
//!
//! Each has one handle, and each death takes its entry out of the table:
//!
//! - *order*: in the order in which they were interned, and in a random one;
//! - *threads*: a share of them on each of several threads.
//!
//! The time is that of all deaths; that of one thread where there are several.

mod common;

use common::{Keys, choices, on_threads, thread_counts};
use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use hapax::{Interned, Interner};

const DEAD: usize = 100_000;

fn drop_storm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("drop_storm");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(DEAD as u64));
    let names = Interner::<str>::new();
    for (order, shuffled) in [("in order", false), ("at random", true)] {
        for threads in thread_counts() {
            let share = DEAD / threads;
            let keys: Vec<_> = (0..threads)
                .map(|thread| Keys::new(thread, share))
                .collect();
            let prepare = |thread: usize| {
                let mut held = keys[thread].intern(&names);
                if shuffled {
                    shuffle(&mut held);
                }
                held
            };
            group.bench_function(BenchmarkId::new(order, threads), |bencher| {
                let storm = |_| on_threads(threads, prepare, Vec::clear);
                bencher.iter_custom(|rounds| (0..rounds).map(storm).sum());
            });
        }
    }
    group.finish();
}

fn shuffle(held: &mut [Interned<str>]) {
    let chosen = choices(held.len(), 0);
    for (number, other) in (0..held.len()).zip(chosen) {
        held.swap(number, other);
    }
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = drop_storm
}
criterion_main!(benches);
