//! How long does a single call take at most, while a table grows from nothing to a million entries?
//!
//! Growing moves nothing, so there is no call that moves everything; but some link bucket words for those that come.
//! Printed are quantiles of the times of all calls, each of which contains two readings of the clock, and how often
//! calls took so long. Where the machine is busy, the longest calls are those from which the processor was taken;
//! `benches/peers` has a program that tells them apart, and compares.

mod common;

use std::time::Instant;

use common::Keys;
use hapax::Interner;

const ENTRIES: usize = 1_000_000;

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let entries = if std::env::args().any(|argument| argument == "--bench") {
        ENTRIES
    } else {
        1000
    };
    let mut times = grow(entries);
    times.sort_unstable();
    for (name, share) in [
        ("p50", 0.5),
        ("p99", 0.99),
        ("p99.9", 0.999),
        ("p99.99", 0.9999),
        ("max", 1.0),
    ] {
        let place = (share * (times.len() - 1) as f64).round() as usize;
        println!("{name:<7}{:>10} ns", times[place]);
    }
    println!();
    histogram(&times);
}

/// The nanoseconds of each call, in turn.
fn grow(entries: usize) -> Vec<u64> {
    let names = Interner::<str>::new();
    let keys = Keys::new(0, entries);
    let mut held = Vec::with_capacity(entries);
    let mut times = Vec::with_capacity(entries);
    for key in keys.iter() {
        let start = Instant::now();
        let handle = names.intern(key);
        times.push(start.elapsed().as_nanos() as u64);
        held.push(handle);
    }
    times
}

/// How many calls there are between each two powers of two, with bars for their logarithms. The times are sorted.
fn histogram(times: &[u64]) {
    let mut from = 1 << times[0].max(1).ilog2();
    let mut counted = 0;
    while counted < times.len() {
        let below = times.partition_point(|&time| time < 2 * from);
        let count = below - counted;
        let bar = "#".repeat(count.checked_ilog2().map_or(0, |log| 2 * log as usize + 1));
        println!("{from:>10} ns {count:>8} {bar}");
        from *= 2;
        counted = below;
    }
}
