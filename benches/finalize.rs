//! How much does it take off the hot path when the destructor of an interned value runs on a finalizer's thread?
//!
//! The values are vectors of 0 to 10 000 strings of 24 bytes in a `WeakMap`. They are *plain*, *deferred*, or go to a
//! thread through a *channel*, as one would do it by hand:
//!
//! - *drop*: what the thread waits that drops the last handle. *Alone*: nothing else is pending, so the finalizer sleeps
//!   and has to be woken. *Burst*: many die one after the other, while the finalizer works.
//! - *make*: an empty one, with its entry.
//! - *throughput*: values are made and dropped all the time, on one and on two threads, until all are destroyed. The
//!   finalizer wants a core of its own, which there may not be, and frees what another thread has allocated.
//! - *latency*: from a drop until the destructor runs, when the finalizer sleeps.
//!
//! But for *throughput* the finalizer is drained outside of the timed part.

mod common;

use std::hint::black_box;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use common::on_threads;
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group,
    criterion_main,
};
use hapax::finalize::{Deferred, Finalizer};
use hapax::{Cached, WeakMap};

type Strings = Vec<String>;

const SIZES: [usize; 5] = [0, 10, 100, 1000, 10_000];

/// So many strings are alive or pending at most.
const STRINGS: usize = 200_000;

/// So many values of a size are made before all are dropped and drained.
fn batch(size: usize) -> usize {
    (STRINGS / size.max(1)).min(4096)
}

/// Each has a place of its own on the heap.
fn strings(size: usize) -> Strings {
    (0..size)
        .map(|number| format!("twenty-four-byte{number:08}"))
        .collect()
}

/// Where the destructors run.
trait Way: Sync {
    const NAME: &str;
    type Value: Send + Sync + 'static;

    fn make(&self, strings: Strings) -> Self::Value;

    /// Waits until all that was dropped is destroyed.
    fn drain(&self);

    /// As `drain`, and gives the other thread the time to fall asleep.
    fn let_sleep(&self) {
        self.drain();
        thread::sleep(Duration::from_micros(50));
    }
}

struct Plain;

impl Way for Plain {
    const NAME: &str = "plain";
    type Value = Strings;

    fn make(&self, strings: Strings) -> Strings {
        strings
    }

    fn drain(&self) {}
}

impl Way for Finalizer {
    const NAME: &str = "deferred";
    type Value = Deferred<Strings>;

    fn make(&self, strings: Strings) -> Deferred<Strings> {
        Deferred::new_in(self, strings)
    }

    fn drain(&self) {
        self.drain().expect("this isn't a finalizer");
    }
}

/// A thread that drops what it gets.
struct Channel(Sender<Message>);

enum Message {
    Drop(Strings),
    Drain(Sender<()>),
}

struct Sent {
    strings: Strings,
    to: Sender<Message>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        let strings = std::mem::take(&mut self.strings);
        self.to.send(Message::Drop(strings)).expect("it receives");
    }
}

impl Channel {
    fn new() -> Self {
        let (send, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in messages {
                match message {
                    Message::Drop(strings) => drop(strings),
                    Message::Drain(done) => done.send(()).expect("it waits"),
                }
            }
        });
        Self(send)
    }
}

impl Way for Channel {
    const NAME: &str = "channel";
    type Value = Sent;

    fn make(&self, strings: Strings) -> Sent {
        let to = self.0.clone();
        Sent { strings, to }
    }

    fn drain(&self) {
        let (send, done) = mpsc::channel();
        self.0.send(Message::Drain(send)).expect("it receives");
        done.recv().expect("it answers");
    }
}

/// What is timed.
#[derive(Clone, Copy)]
enum Question {
    Alone,
    Burst,
    Make,
    UntilDrained { threads: usize },
}

impl Question {
    fn ask(self, criterion: &mut Criterion, name: &str, sizes: &[usize]) {
        let finalizer = Finalizer::new().expect("a thread");
        let channel = Channel::new();
        let mut group = criterion.benchmark_group(format!("finalize/{name}"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        if let Self::UntilDrained { threads } = self {
            group.throughput(Throughput::Elements(threads as u64));
        }
        for &size in sizes {
            self.ask_of(&mut group, size, &Plain);
            self.ask_of(&mut group, size, &finalizer);
            self.ask_of(&mut group, size, &channel);
        }
        group.finish();
    }

    fn ask_of<W: Way>(self, group: &mut BenchmarkGroup<'_, WallTime>, size: usize, way: &W) {
        let time = |rounds| match self {
            Self::Alone => alone(rounds, size, way),
            Self::Burst => burst(rounds, size, way).1,
            Self::Make => burst(rounds, size, way).0,
            Self::UntilDrained { threads } => until_drained(rounds, threads, size, way),
        };
        group.bench_function(BenchmarkId::new(W::NAME, size), |bencher| {
            bencher.iter_custom(|rounds| time(rounds as usize));
        });
    }
}

/// The time in which one handle is dropped while nothing else happens, `rounds` times.
fn alone<W: Way>(rounds: usize, size: usize, way: &W) -> Duration {
    let values = WeakMap::new();
    let time = |round| {
        let value = values.get_or_insert_with(round, |_| way.make(strings(size)));
        way.let_sleep();
        let start = Instant::now();
        drop(value);
        start.elapsed()
    };
    let took = (0..rounds).map(time).sum();
    way.drain();
    took
}

/// The time in which all handles are made, and the one in which they are dropped, one after the other.
fn burst<W: Way>(rounds: usize, size: usize, way: &W) -> (Duration, Duration) {
    let values = WeakMap::with_capacity(batch(size));
    let mut handles: Vec<Cached<usize, W::Value>> = Vec::with_capacity(batch(size));
    let mut took = (Duration::ZERO, Duration::ZERO);
    let mut left = rounds;
    while left > 0 {
        let now = left.min(batch(size));
        left -= now;
        let start = Instant::now();
        let make = |key| values.get_or_insert_with(key, |_| way.make(strings(size)));
        handles.extend((0..now).map(make));
        took.0 += start.elapsed();
        way.let_sleep();
        let start = Instant::now();
        handles.clear();
        took.1 += start.elapsed();
        way.let_sleep();
    }
    took
}

/// The time in which each of the threads makes and drops `rounds` values, and all of them are destroyed.
fn until_drained<W: Way>(rounds: usize, threads: usize, size: usize, way: &W) -> Duration {
    let values = WeakMap::new();
    let share = batch(size) / threads;
    let mut took = Duration::ZERO;
    let mut left = rounds;
    while left > 0 {
        let now = left.min(share);
        left -= now;
        took += on_threads(
            threads,
            |thread| thread * share,
            |first| {
                for key in *first..*first + now {
                    black_box(values.get_or_insert_with(key, |_| way.make(strings(size))));
                }
            },
        );
        let start = Instant::now();
        way.drain();
        took += start.elapsed();
    }
    took
}

fn drops(criterion: &mut Criterion) {
    Question::Alone.ask(criterion, "drop alone", &SIZES);
    Question::Burst.ask(criterion, "drop burst", &SIZES);
}

fn make(criterion: &mut Criterion) {
    Question::Make.ask(criterion, "make", &[0]);
}

fn throughput(criterion: &mut Criterion) {
    for threads in [1, 2] {
        let name = format!("throughput/{threads}");
        Question::UntilDrained { threads }.ask(criterion, &name, &SIZES);
    }
}

/// Says when its destructor runs.
struct Stamp(Sender<Instant>);

impl Drop for Stamp {
    fn drop(&mut self) {
        let now = Instant::now();
        self.0.send(now).expect("the benchmark waits for it");
    }
}

fn latency(criterion: &mut Criterion) {
    let finalizer = Finalizer::new().expect("a thread");
    let (send, stamps) = mpsc::channel();
    criterion.bench_function("finalize/latency", |bencher| {
        let time = |_| {
            let stamp = Deferred::new_in(&finalizer, Stamp(send.clone()));
            Way::let_sleep(&finalizer);
            let start = Instant::now();
            drop(stamp);
            let end = stamps.recv().expect("there is a sender");
            end.saturating_duration_since(start)
        };
        bencher.iter_custom(|rounds| (0..rounds).map(time).sum());
    });
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = drops, make, throughput, latency
}
criterion_main!(benches);
