//! What does it cost that a lock knows its owner, and that waits are checked?
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin locks
//! ```
//!
//! All threads take one lock, add one to what it protects, and give it back, as fast as they can. The contestants take
//! turns, and figures are medians over all turns: nanoseconds from one such step to the next, whoever makes it.

#[path = "../stats.rs"]
mod stats;

use std::cell::Cell;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use clap::Parser;
use hapax::sync::{Mutex, RLock};
use parking_lot::ReentrantMutex;
use tabled::builder::Builder;
use tabled::settings::Style;

use stats::Summary;

/// Times locks under contention and without, for this crate and its rivals.
#[derive(Parser)]
struct Arguments {
    /// Turns of each contestant.
    #[arg(long, default_value_t = 51, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// A lock around a number.
trait Contestant: Default + Sync {
    fn add(&self);
}

impl Contestant for Mutex<u64> {
    #[inline]
    fn add(&self) {
        *self.lock().expect("there is no deadlock") += 1;
    }
}

impl Contestant for parking_lot::Mutex<u64> {
    #[inline]
    fn add(&self) {
        *self.lock() += 1;
    }
}

impl Contestant for std::sync::Mutex<u64> {
    #[inline]
    fn add(&self) {
        *self.lock().expect("nobody panics") += 1;
    }
}

impl Contestant for RLock<Cell<u64>> {
    #[inline]
    fn add(&self) {
        let guard = self.lock().expect("there is no deadlock");
        guard.set(guard.get() + 1);
    }
}

impl Contestant for ReentrantMutex<Cell<u64>> {
    #[inline]
    fn add(&self) {
        let guard = self.lock();
        guard.set(guard.get() + 1);
    }
}

const STEPS: usize = 2_000_000;

/// One turn of a contestant.
fn turn<C: Contestant>(threads: usize) -> f64 {
    let lock = C::default();
    let ready = Barrier::new(threads);
    let steps = STEPS / threads;
    let work = || {
        ready.wait();
        let start = Instant::now();
        for _ in 0..steps {
            lock.add();
        }
        start.elapsed().as_nanos() as f64
    };
    let longest = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let others = others.into_iter().map(|thread| thread.join().unwrap());
        others.fold(own, f64::max)
    });
    longest / (steps * threads) as f64
}

type Turn = fn(usize) -> f64;

const CONTESTANTS: [(&str, Turn); 5] = [
    ("Mutex", turn::<Mutex<u64>>),
    ("parking_lot::Mutex", turn::<parking_lot::Mutex<u64>>),
    ("std Mutex", turn::<std::sync::Mutex<u64>>),
    ("RLock", turn::<RLock<Cell<u64>>>),
    ("ReentrantMutex", turn::<ReentrantMutex<Cell<u64>>>),
];

fn main() {
    let rounds = Arguments::parse().rounds;
    let mut table = Builder::default();
    let names = CONTESTANTS.map(|(name, _)| name.to_owned());
    table.push_record(["ns per step".to_owned()].into_iter().chain(names));
    for threads in [1, 2, 8] {
        let mut samples = CONTESTANTS.map(|_| Vec::new());
        for _ in 0..rounds {
            for ((_, turn), samples) in CONTESTANTS.iter().zip(&mut samples) {
                samples.push(turn(threads));
            }
        }
        let medians = samples.map(|samples| format!("{:.1}", Summary::of(&samples).median));
        let title = format!("{threads} threads");
        table.push_record([title].into_iter().chain(medians));
    }
    println!("{}", table.build().with(Style::markdown()));
}
