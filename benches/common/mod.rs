//! What several benchmarks share: keys that are made beforehand, threads that begin together, criterion's settings.
//!
//! A benchmark times calls of the crate and nothing else that can be had beforehand: keys lie ready, random choices
//! too, and what a question calls *live* has a handle that outlives the timed part.

#![allow(dead_code, reason = "each benchmark uses a part of this one")]
#![allow(
    unreachable_pub,
    reason = "shared by several crates, each of which is a benchmark"
)]

use std::num::NonZero;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::Criterion;
use hapax::{Interned, Interner};

/// The number of live values, where a question doesn't vary it.
pub const LIVE: usize = 10_000;

/// Short samples: all benchmarks together take some minutes.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500))
        .nresamples(10_000)
}

/// One thread, two, and as many as can run at once.
pub fn thread_counts() -> Vec<usize> {
    let all = thread::available_parallelism().map_or(1, NonZero::get);
    let mut counts: Vec<_> = [1, 2, all]
        .into_iter()
        .filter(|&count| count <= all)
        .collect();
    counts.dedup();
    counts
}

/// Lets all threads prepare something, begin together, and work. The mean of the times that they took.
///
/// What they have prepared is dropped when the last one has ended, so that what is live stays so for all.
pub fn on_threads<S>(
    threads: usize,
    prepare: impl Fn(usize) -> S + Sync,
    work: impl Fn(&mut S) + Sync,
) -> Duration {
    let barrier = Barrier::new(threads);
    let run = |number| {
        let mut prepared = prepare(number);
        barrier.wait();
        let start = Instant::now();
        work(&mut prepared);
        let took = start.elapsed();
        barrier.wait();
        took
    };
    let total: Duration = thread::scope(|scope| {
        let run = &run;
        let workers: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || run(number)))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no benchmark panics"))
            .sum()
    });
    total / threads as u32
}

/// Different strings of 30 bytes, one behind the other in memory.
pub struct Keys(String);

impl Keys {
    const LENGTH: usize = 30;

    /// Keys of different families differ.
    pub fn new(family: usize, count: usize) -> Self {
        Self(
            (0..count)
                .map(|number| format!("{family:08}-thirty-bytes-{number:08}"))
                .collect(),
        )
    }

    pub fn len(&self) -> usize {
        self.0.len() / Self::LENGTH
    }

    #[inline]
    pub fn get(&self, number: usize) -> &str {
        &self.0[number * Self::LENGTH..][..Self::LENGTH]
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|number| self.get(number))
    }

    /// Makes them all live.
    pub fn intern(&self, names: &Interner<str>) -> Vec<Interned<str>> {
        self.iter().map(|key| names.intern(key)).collect()
    }
}

/// Random numbers below a bound, enough of them that they don't repeat while they are remembered. Another thread has
/// others.
pub fn choices(below: usize, thread: usize) -> Vec<usize> {
    let mut random = 88_172_645_463_325_252 + thread as u64;
    (0..below.max(1 << 16))
        .map(|_| next(&mut random) as usize % below)
        .collect()
}

/// Marsaglia's xorshift.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
