//! What does it cost that a lock knows its owner, and that waits are checked?
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin locks
//! ```
//!
//! All threads take one lock (or the one permit of a semaphore), add one to what it protects, and give it back, as fast
//! as they can. In the last table threads go in turn, each waiting by a condition for the one before. The contestants take
//! turns, and figures are medians over all turns: nanoseconds from one such step to the next, whoever makes it.

#[path = "../stats.rs"]
mod stats;

use std::cell::Cell;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use hapax::sync::{Condition, Monitor, Mutex, RLock, RwLock, Semaphore};
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
    /// Only contestants whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
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

impl Contestant for Monitor<u64> {
    #[inline]
    fn add(&self) {
        *self.enter().expect("there is no deadlock") += 1;
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

/// A number that is protected by a permit.
struct Permitted<S> {
    semaphore: S,
    number: AtomicU64,
}

impl<S> Permitted<S> {
    fn new(semaphore: S) -> Self {
        let number = AtomicU64::new(0);
        Self { semaphore, number }
    }

    #[inline]
    fn add(&self) {
        let number = self.number.load(Relaxed);
        self.number.store(number + 1, Relaxed);
    }
}

impl Default for Permitted<Semaphore> {
    fn default() -> Self {
        Self::new(Semaphore::new(1))
    }
}

impl Contestant for Permitted<Semaphore> {
    #[inline]
    fn add(&self) {
        let _permit = self.semaphore.acquire().expect("nobody closes it");
        self.add();
    }
}

/// A semaphore that lets those pass who come by.
struct Barging(Permitted<Semaphore>);

impl Default for Barging {
    fn default() -> Self {
        Self(Permitted::new(Semaphore::barging(1)))
    }
}

impl Contestant for Barging {
    #[inline]
    fn add(&self) {
        let _permit = self.0.semaphore.acquire().expect("nobody closes it");
        self.0.add();
    }
}

/// The same semaphore, awaited.
#[derive(Default)]
struct Awaited(Permitted<Semaphore>);

impl Contestant for Awaited {
    #[inline]
    fn add(&self) {
        let permit = pollster::block_on(self.0.semaphore.acquire_async());
        let _permit = permit.expect("nobody closes it");
        self.0.add();
    }
}

impl Default for Permitted<tokio::sync::Semaphore> {
    fn default() -> Self {
        Self::new(tokio::sync::Semaphore::new(1))
    }
}

impl Contestant for Permitted<tokio::sync::Semaphore> {
    #[inline]
    fn add(&self) {
        let permit = pollster::block_on(self.semaphore.acquire());
        let _permit = permit.expect("nobody closes it");
        self.add();
    }
}

impl Contestant for RwLock<u64> {
    #[inline]
    fn add(&self) {
        *self.write().expect("there is no deadlock") += 1;
    }
}

impl Contestant for parking_lot::RwLock<u64> {
    #[inline]
    fn add(&self) {
        *self.write() += 1;
    }
}

/// How long a turn lasts, and how many steps threads make before they look whether it is over.
const TURN: Duration = Duration::from_millis(50);
const STEPS: u64 = 64;

/// One turn of a contestant.
fn turn<C: Contestant>(threads: usize) -> f64 {
    let lock = C::default();
    let ready = Barrier::new(threads + 1);
    let is_over = AtomicBool::new(false);
    let work = || {
        ready.wait();
        let mut steps = 0;
        while !is_over.load(Relaxed) {
            for _ in 0..STEPS {
                lock.add();
            }
            steps += STEPS;
        }
        steps
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        ready.wait();
        let start = Instant::now();
        thread::sleep(TURN);
        is_over.store(true, Relaxed);
        let steps = threads.into_iter().map(|thread| thread.join().unwrap());
        let steps = steps.sum::<u64>();
        start.elapsed().as_nanos() as f64 / steps as f64
    })
}

type Turn = fn(usize) -> f64;

const CONTESTANTS: [(&str, Turn); 12] = [
    ("Mutex", turn::<Mutex<u64>>),
    ("Monitor", turn::<Monitor<u64>>),
    ("parking_lot::Mutex", turn::<parking_lot::Mutex<u64>>),
    ("std Mutex", turn::<std::sync::Mutex<u64>>),
    ("RLock", turn::<RLock<Cell<u64>>>),
    ("ReentrantMutex", turn::<ReentrantMutex<Cell<u64>>>),
    ("RwLock", turn::<RwLock<u64>>),
    ("parking_lot::RwLock", turn::<parking_lot::RwLock<u64>>),
    ("Semaphore", turn::<Permitted<Semaphore>>),
    ("Semaphore, awaited", turn::<Awaited>),
    ("Semaphore, barging", turn::<Barging>),
    ("tokio Semaphore", turn::<Permitted<tokio::sync::Semaphore>>),
];

/// Threads take turns, each waiting for the one before. The lock protects whose turn it is.
fn round(threads: usize, take_turn: impl Fn(usize) + Sync) -> f64 {
    const TURNS: usize = 10_000;
    let start = Instant::now();
    thread::scope(|scope| {
        for own in 0..threads {
            let take_turn = &take_turn;
            scope.spawn(move || (0..TURNS / threads).for_each(|_| take_turn(own)));
        }
    });
    start.elapsed().as_nanos() as f64 / (TURNS / threads * threads) as f64
}

fn round_of_monitor(threads: usize) -> f64 {
    let turn = Monitor::new(0);
    round(threads, |own| {
        let inside = turn.enter().expect("there is no deadlock");
        let inside = inside.wait_while(|turn| *turn != own);
        *inside.expect("there is no deadlock") = (own + 1) % threads;
    })
}

fn round_of_condition(threads: usize) -> f64 {
    let (turn, changed) = (Mutex::new(0), Condition::new());
    round(threads, |own| {
        let guard = turn.lock().expect("there is no deadlock");
        let guard = changed.wait_while(guard, |turn| **turn != own);
        let mut guard = guard.expect("there is no deadlock");
        *guard = (own + 1) % threads;
        changed.notify_all(&guard).expect("it is held");
    })
}

fn round_of_parking_lot(threads: usize) -> f64 {
    let (turn, changed) = (parking_lot::Mutex::new(0), parking_lot::Condvar::new());
    round(threads, |own| {
        let mut guard = turn.lock();
        changed.wait_while(&mut guard, |turn| *turn != own);
        *guard = (own + 1) % threads;
        changed.notify_all();
    })
}

fn round_of_std(threads: usize) -> f64 {
    let (turn, changed) = (std::sync::Mutex::new(0), std::sync::Condvar::new());
    round(threads, |own| {
        let guard = turn.lock().expect("nobody panics");
        let guard = changed.wait_while(guard, |turn| *turn != own);
        let mut guard = guard.expect("nobody panics");
        *guard = (own + 1) % threads;
        changed.notify_all();
    })
}

const PLAYERS: [(&str, Turn); 4] = [
    ("Monitor", round_of_monitor),
    ("Condition", round_of_condition),
    ("parking_lot::Condvar", round_of_parking_lot),
    ("std Condvar", round_of_std),
];

/// Calls each in turn, so many times, and returns a row of the medians.
fn row(title: String, rounds: u32, turns: &[impl Fn() -> f64]) -> Vec<String> {
    let mut samples = vec![Vec::new(); turns.len()];
    for _ in 0..rounds {
        for (turn, samples) in turns.iter().zip(&mut samples) {
            samples.push(turn());
        }
    }
    let medians = samples.iter().map(|samples| Summary::of(samples).median);
    let medians = medians.map(|median| format!("{median:.1}"));
    [title].into_iter().chain(medians).collect()
}

/// Times those that are meant, with each number of threads.
fn show(title: &str, all: &[(&str, Turn)], threads: &[usize], rounds: u32, only: &str) {
    let chosen = all.iter().filter(|(name, _)| name.contains(only));
    let (names, turns): (Vec<_>, Vec<_>) = chosen.copied().unzip();
    if names.is_empty() {
        return;
    }
    let mut table = Builder::default();
    let names = names.into_iter().map(str::to_owned);
    table.push_record([title.to_owned()].into_iter().chain(names));
    for &threads in threads {
        let turns: Vec<_> = turns.iter().map(|turn| move || turn(threads)).collect();
        let title = match threads {
            1 => "1 thread".to_owned(),
            _ => format!("{threads} threads"),
        };
        table.push_record(row(title, rounds, &turns));
    }
    println!("{}\n", table.build().with(Style::markdown()));
}

fn main() {
    let Arguments { rounds, only } = Arguments::parse();
    show("ns per step", &CONTESTANTS, &[1, 2, 8], rounds, &only);
    show("ns per turn", &PLAYERS, &[2, 8], rounds, &only);
}
