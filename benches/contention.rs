//! What happens when all threads want the same value at once?
//!
//! They share its count, one word that each of them writes:
//!
//! - *intern*: find it and drop the handle; each thread holds another one throughout;
//! - *clone*: clone a handle and drop it;
//! - *upgrade*: the same from a weak handle;
//! - *unheld*: find it or make it, where nobody holds it: threads revive what others are about to close.

mod common;

use std::hint::black_box;

use common::{on_threads, thread_counts};
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use hapax::{Interned, Interner};

const HOT: &str = "a-hot-value-that-has-30-bytes-";

fn contention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("contention");
    let names = Interner::<str>::new();
    let hold = |_| names.intern(HOT);
    for threads in thread_counts() {
        on_all(&mut group, "intern", threads, hold, |_held| {
            black_box(names.intern(black_box(HOT)));
        });
        on_all(&mut group, "clone", threads, hold, |held| {
            black_box(black_box(&*held).clone());
        });
        let hold_both = |thread| {
            let held = hold(thread);
            (Interned::downgrade(&held), held)
        };
        on_all(
            &mut group,
            "upgrade",
            threads,
            hold_both,
            |(weak, _held)| {
                black_box(black_box(&*weak).upgrade());
            },
        );
        on_all(
            &mut group,
            "unheld",
            threads,
            |_| (),
            |()| {
                black_box(names.intern(black_box(HOT)));
            },
        );
    }
    group.finish();
}

/// Does the same on all threads, over and over.
fn on_all<S>(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    threads: usize,
    prepare: impl Fn(usize) -> S + Sync,
    work: impl Fn(&mut S) + Sync,
) {
    group.throughput(Throughput::Elements(threads as u64));
    group.bench_function(BenchmarkId::new(name, threads), |bencher| {
        bencher.iter_custom(|rounds| {
            on_threads(threads, &prepare, |prepared| {
                for _ in 0..rounds {
                    work(prepared);
                }
            })
        });
    });
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = contention
}
criterion_main!(benches);
