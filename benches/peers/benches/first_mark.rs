//! Is this crate ahead of the interner that people use and of the one that they write, on the two things
//! that an interner does: answer what is there, and take in what comes and goes?
//!
//! - *hit*: a random one of 10 000 live strings of 30 bytes; each thread holds handles on all of them.
//! - *churn*: intern and drop a string of 30 bytes that nobody has had before.
//! - *hasher*: *hit* on integers, for hashers that leave the work to the table.
//!
//! A figure is the time per operation of one thread while all threads are at work.

use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hapax::Interner;
use hapax_peers::{Dashmap, Hapax, Internment, Peer};

const LIVE: usize = 10_000;

/// Runs `work` on all threads at once and answers the mean of the times they took.
fn on_threads(threads: usize, work: impl Fn(usize, &Barrier) -> Duration + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let total: Duration = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (work, barrier) = (&work, &barrier);
                scope.spawn(move || work(thread, barrier))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    });
    total / threads as u32
}

/// Marsaglia's xorshift.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn hit<P: Peer>(peer: &P, words: &[String], threads: usize, rounds: u64) -> Duration {
    on_threads(threads, |thread, barrier| {
        let held: Vec<_> = words.iter().map(|word| peer.intern(word)).collect();
        let mut random = 88_172_645_463_325_252 + thread as u64;
        barrier.wait();
        let start = Instant::now();
        for _ in 0..rounds {
            let word = &words[next(&mut random) as usize % words.len()];
            black_box(peer.intern(word));
        }
        let took = start.elapsed();
        barrier.wait();
        drop(held);
        took
    })
}

fn churn<P: Peer>(peer: &P, threads: usize, rounds: u64) -> Duration {
    on_threads(threads, |thread, barrier| {
        let mut text = String::from("a-fresh-key-of-30-bytes-000000");
        let mut random = 88_172_645_463_325_252 + thread as u64;
        barrier.wait();
        let start = Instant::now();
        for _ in 0..rounds {
            let fresh = next(&mut random);
            text.replace_range(24.., "");
            text.extend((0..6).map(|place| char::from(b'0' + (fresh >> (place * 6) & 63) as u8)));
            black_box(peer.intern(&text));
        }
        start.elapsed()
    })
}

fn compare<P: Peer>(criterion: &mut Criterion, words: &[String]) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in [1, 2].into_iter().filter(|&threads| threads <= cores) {
        let mut group = criterion.benchmark_group(format!("hit, {threads} threads"));
        group.bench_function(P::NAME, |bencher| {
            let peer = P::fresh();
            bencher.iter_custom(|rounds| hit(&peer, words, threads, rounds));
        });
        group.finish();
        let mut group = criterion.benchmark_group(format!("churn, {threads} threads"));
        group.bench_function(P::NAME, |bencher| {
            let peer = P::fresh();
            bencher.iter_custom(|rounds| churn(&peer, threads, rounds));
        });
        group.finish();
    }
}

fn first_mark(criterion: &mut Criterion) {
    let words: Vec<_> = (0..LIVE)
        .map(|word| format!("a-live-key-of-30-bytes-{word:07}"))
        .collect();
    compare::<Hapax>(criterion, &words);
    compare::<Internment>(criterion, &words);
    compare::<Dashmap>(criterion, &words);
}

/// Hashes an integer to some of its bits.
#[derive(Clone, Copy)]
struct Bits<const N: u32>;

struct BitsHasher<const N: u32>(u64);

impl<const N: u32> BuildHasher for Bits<N> {
    type Hasher = BitsHasher<N>;

    fn build_hasher(&self) -> BitsHasher<N> {
        BitsHasher(0)
    }
}

impl<const N: u32> Hasher for BitsHasher<N> {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only integers are hashed")
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value & (u64::MAX >> (64 - N));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn hash_with<S: BuildHasher>(criterion: &mut Criterion, name: &str, hasher: S) {
    let numbers = Interner::with_hasher(hasher);
    let held: Vec<_> = (0..1_000_000u64)
        .map(|number| numbers.intern(number))
        .collect();
    let mut random = 88_172_645_463_325_252;
    criterion.bench_with_input(
        BenchmarkId::new("hasher", name),
        &numbers,
        |bencher, numbers| {
            bencher.iter(|| numbers.intern(next(&mut random) % held.len() as u64));
        },
    );
}

fn hashers(criterion: &mut Criterion) {
    hash_with(criterion, "default", hapax::RandomState);
    hash_with(criterion, "identity", Bits::<64>);
    hash_with(criterion, "32 bits", Bits::<32>);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = first_mark, hashers
}
criterion_main!(benches);
