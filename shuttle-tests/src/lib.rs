//! What the scenarios share: how they run, values that prove their own life cycle, a count of what was made and
//! what has gone.
//!
//! A scenario is what a program might do: several threads, many operations, drawn from the random numbers of the
//! execution. shuttle runs it under many schedules, of which it explores none completely. `ci/shuttle.sh` runs
//! them all.

#[cfg(not(shuttle))]
compile_error!("without `--cfg shuttle` nothing here means anything: run `ci/shuttle.sh`");

pub mod allocator;
mod bursts;
pub mod freeze;
#[path = "../../loom-tests/src/keys.rs"]
mod keys;
pub mod mix;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use equivalent::Equivalent;
use hapax::{Interned, Interner, WeakMap};
use shuttle::rand::{RngCore, thread_rng};
use shuttle::scheduler::{
    PctScheduler, RandomScheduler, ReplayScheduler, Scheduler,
    UncontrolledNondeterminismCheckScheduler,
};
use shuttle::{Config, Runner};

use allocator::Reuse;
use bursts::BurstScheduler;
pub use keys::{Identity, IdentityHasher, Key, key_at};

/// Preemptions of a schedule that has few of them.
const DEPTH: usize = 4;

/// Runs a scenario so many times: a third of the schedules switch to any thread at each step, a third now and then,
/// the last third hardly ever.
///
/// `HAPAX_SHUTTLE_TIMES` multiplies the number. `HAPAX_SHUTTLE_REPLAY` names a file with the one schedule to run.
pub fn explore(executions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let start = Instant::now();
    let third = executions * times() / 3;
    let schedulers: Vec<Box<dyn Scheduler + Send>> = match std::env::var("HAPAX_SHUTTLE_REPLAY") {
        Ok(file) => {
            let schedule = ReplayScheduler::new_from_file(file).expect("the file can be read");
            vec![Box::new(schedule)]
        }
        Err(_) => vec![
            Box::new(RandomScheduler::new(third)),
            Box::new(BurstScheduler::new(third)),
            Box::new(PctScheduler::new(DEPTH, third)),
        ],
    };
    let scenario = Arc::new(scenario);
    let mut executions = 0;
    for scheduler in schedulers {
        let scenario = scenario.clone();
        executions += run(scheduler, move || scenario());
    }
    report(executions, start);
}

/// Runs each of so many schedules twice, and fails if a scenario doesn't do the same again: then no failure of it
/// could be replayed.
pub fn explore_twice(executions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let start = Instant::now();
    let executions = executions * times();
    let scheduler = RandomScheduler::new(executions);
    run(
        UncontrolledNondeterminismCheckScheduler::new(scheduler),
        scenario,
    );
    report(executions, start);
}

/// How many times as long a run takes as the normal one.
fn times() -> usize {
    std::env::var("HAPAX_SHUTTLE_TIMES").map_or(1, |times| {
        times.parse().expect("HAPAX_SHUTTLE_TIMES is a number")
    })
}

fn report(executions: usize, start: Instant) {
    let name = std::thread::current()
        .name()
        .map(str::to_owned)
        .unwrap_or_default();
    let seconds = start.elapsed().as_secs_f64();
    println!("@ {name} | {seconds:.1} | {executions}");
}

/// Runs a scenario as often as the scheduler wants it.
fn run(scheduler: impl Scheduler + 'static, scenario: impl Fn() + Send + Sync + 'static) -> usize {
    let mut config = Config::new();
    config.stack_size = 0x20000;
    config.silence_warnings = true;
    // Others would go on with what a thread that fails has left half done, and fail as well.
    config
        .ungraceful_shutdown_config
        .immediately_return_on_panic = true;
    let executions = Runner::new(scheduler, config).run(move || {
        allocator::begin(if chance(2) {
            Reuse::AtOnce
        } else {
            Reuse::Never
        });
        scenario();
    });
    allocator::begin(Reuse::System);
    executions
}

/// A place where shuttle may switch to another thread.
pub fn step() {
    shuttle::thread::sleep(Duration::ZERO);
}

/// A random number below a bound.
pub fn below(bound: usize) -> usize {
    (thread_rng().next_u64() % bound as u64) as usize
}

/// Happens once in so many times.
pub fn chance(times: usize) -> bool {
    below(times) == 0
}

/// Counts the values that an execution makes, and those that are destroyed.
///
/// In atomics of `std`, as everything that belongs to a test rather than to the table: shuttle doesn't see them.
#[derive(Clone, Debug, Default)]
pub struct Census(Arc<(AtomicUsize, AtomicUsize)>);

impl Census {
    pub fn life(&self) -> Life {
        Life {
            serial: self.0.0.fetch_add(1, Relaxed),
            state: AtomicU32::new(ALIVE),
            census: self.clone(),
        }
    }

    pub fn value(&self, key: Key) -> Value {
        Value {
            key,
            life: self.life(),
            inner: None,
        }
    }

    /// A value that owns a handle of another one.
    pub fn nested(&self, key: Key, inner: Interned<Value>) -> Value {
        Value {
            inner: Some(inner),
            ..self.value(key)
        }
    }

    pub fn alive(&self) -> usize {
        self.0.0.load(Relaxed) - self.0.1.load(Relaxed)
    }
}

const ALIVE: u32 = 0xa11_7e57;
const GONE: u32 = 0xdead_0b1e;

/// Part of a value: notices a second end, and a use after the first one.
pub struct Life {
    /// No two values of an execution have the same.
    pub serial: usize,
    state: AtomicU32,
    census: Census,
}

impl Life {
    /// Reads the value, for so long that another thread may come in between.
    pub fn touch(&self) {
        self.assert_alive();
        step();
        self.assert_alive();
    }

    pub fn assert_alive(&self) {
        assert_eq!(self.state.load(Relaxed), ALIVE, "a dead value is in use");
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.touch();
        self.state.store(GONE, Relaxed);
        self.census.0.1.fetch_add(1, Relaxed);
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Life({})", self.serial)
    }
}

/// A value of an interner. Whoever compares it reads it.
#[derive(Debug)]
pub struct Value {
    pub key: Key,
    pub life: Life,
    pub inner: Option<Interned<Value>>,
}

impl Value {
    pub fn touch(&self) {
        self.life.touch();
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.touch();
        other.life.assert_alive();
        self.key == other.key
    }
}

impl Eq for Value {}

impl Equivalent<Value> for Key {
    fn equivalent(&self, value: &Value) -> bool {
        value.touch();
        *self == value.key
    }
}

/// The interner of most scenarios.
pub type Values = Interner<Value, Identity>;

/// The map of most scenarios.
pub type Map = WeakMap<Key, Life, Identity>;

/// An interner that several threads share, and the census of its values.
pub fn values() -> (Arc<Values>, Census) {
    (Arc::new(Values::with_hasher(Identity)), Census::default())
}

/// A map that several threads share, and the census of its values.
pub fn map() -> (Arc<Map>, Census) {
    (Arc::new(Map::with_hasher(Identity)), Census::default())
}

/// The keys of most scenarios: places all over the list, neighbours, and pairs that have one hash.
pub fn key(number: usize) -> Key {
    let place = Key::at(number as u64 / 4 * 5 % 16);
    match number % 4 {
        0 => place,
        1 => place.twin(),
        2 => place.next(),
        _ => Key::at((number as u64 / 4 * 5 + 8) % 16),
    }
}

/// Runs a thread for each function, and waits for all of them.
pub fn together<R: Send + 'static>(
    threads: impl IntoIterator<Item = impl FnOnce() -> R + Send + 'static>,
) -> Vec<R> {
    let threads: Vec<_> = threads.into_iter().map(shuttle::thread::spawn).collect();
    threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect()
}

/// Nothing is left in the table, and everything that was made is destroyed.
#[track_caller]
pub fn assert_empty(values: &Values, census: &Census) {
    assert_eq!(census.alive(), 0, "a value was leaked");
    assert_eq!(values.len(), 0);
    assert!(values.iter().next().is_none());
}

/// As `assert_empty`, for a map.
#[track_caller]
pub fn assert_map_empty(map: &Map, census: &Census) {
    assert_eq!(census.alive(), 0, "a value was leaked");
    assert_eq!(map.len(), 0);
    assert!(map.iter().next().is_none());
}
