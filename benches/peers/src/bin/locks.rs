//! What does it cost that a lock knows its owner, and that waits are checked?
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin locks
//! ```
//!
//! All threads take one lock (or the one permit of a semaphore), add one to what it protects, and give it back, as fast
//! as they can. In the last row two threads wait for each other in turn, by a condition. The contestants take turns, and
//! figures are medians over all turns: nanoseconds from one such step to the next, whoever makes it.

#[path = "../stats.rs"]
mod stats;

use std::cell::Cell;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use hapax::sync::{Condition, Mutex, RLock, RwLock, Semaphore};
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

const CONTESTANTS: [(&str, Turn); 11] = [
    ("Mutex", turn::<Mutex<u64>>),
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

/// Two threads take turns, each waiting for the other's notification. The lock protects whose turn it is.
fn ping_pong(take_turn: impl Fn(bool) + Sync) -> f64 {
    const TURNS: usize = 10_000;
    let play = |side: bool| (0..TURNS).for_each(|_| take_turn(side));
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| play(true));
        play(false);
    });
    start.elapsed().as_nanos() as f64 / (2 * TURNS) as f64
}

fn play_here() -> f64 {
    let (side, changed) = (Mutex::new(false), Condition::new());
    ping_pong(|own| {
        let guard = side.lock().expect("there is no deadlock");
        let guard = changed.wait_while(guard, |side| **side != own);
        let mut guard = guard.expect("there is no deadlock");
        *guard = !own;
        changed.notify_one(&guard).expect("it is held");
    })
}

fn play_parking_lot() -> f64 {
    let (side, changed) = (parking_lot::Mutex::new(false), parking_lot::Condvar::new());
    ping_pong(|own| {
        let mut guard = side.lock();
        changed.wait_while(&mut guard, |side| *side != own);
        *guard = !own;
        changed.notify_one();
    })
}

fn play_std() -> f64 {
    let (side, changed) = (std::sync::Mutex::new(false), std::sync::Condvar::new());
    ping_pong(|own| {
        let guard = side.lock().expect("nobody panics");
        let guard = changed.wait_while(guard, |side| *side != own);
        let mut guard = guard.expect("nobody panics");
        *guard = !own;
        changed.notify_one();
    })
}

type Play = fn() -> f64;

const PLAYERS: [(&str, Play); 3] = [
    ("Condition", play_here),
    ("parking_lot::Condvar", play_parking_lot),
    ("std Condvar", play_std),
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

fn print(title: &str, names: &[&str], rows: Vec<Vec<String>>) {
    if names.is_empty() {
        return;
    }
    let mut table = Builder::default();
    let names = names.iter().map(|name| (*name).to_owned());
    table.push_record([title.to_owned()].into_iter().chain(names));
    rows.into_iter().for_each(|row| table.push_record(row));
    println!("{}\n", table.build().with(Style::markdown()));
}

fn main() {
    let Arguments { rounds, only } = Arguments::parse();
    let chosen = CONTESTANTS.iter().filter(|(name, _)| name.contains(&only));
    let (names, turns): (Vec<_>, Vec<_>) = chosen.copied().unzip();
    let rows = [1, 2, 8].map(|threads| {
        let turns: Vec<_> = turns.iter().map(|turn| move || turn(threads)).collect();
        row(format!("{threads} threads"), rounds, &turns)
    });
    print("ns per step", &names, rows.into());
    let chosen = PLAYERS.iter().filter(|(name, _)| name.contains(&only));
    let (names, plays): (Vec<_>, Vec<_>) = chosen.copied().unzip();
    print(
        "ns per turn",
        &names,
        vec![row("2 threads".to_owned(), rounds, &plays)],
    );
}
