//! What the models share: how they run, values that prove their own life cycle, a hasher that puts them
//! where a model wants them.
//!
//! A model is one race: two threads, rarely three, with two or three operations. `ci/loom.sh` runs them.

mod keys;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use equivalent::Equivalent;
use hapax::{Interner, WeakMap};
use loom::cell::UnsafeCell;
use loom::thread::JoinHandle;

pub use keys::{Identity, IdentityHasher, Key, key_at};

/// Explores all interleavings of a model, up to a number of preemptions.
///
/// The model runs on a thread of its own: loom ends its statics before the thread-locals of its main
/// thread.
pub fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    let f = Arc::new(f);
    let runs = Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    let start = Instant::now();
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        let f = f.clone();
        spawn(move || f()).join().unwrap();
    });
    let name = std::thread::current()
        .name()
        .map(str::to_owned)
        .unwrap_or_default();
    println!(
        "@ {name} | {:.1} | {}",
        start.elapsed().as_secs_f64(),
        runs.load(Relaxed)
    );
}

/// A thread of a model.
pub fn spawn<R: 'static>(f: impl FnOnce() -> R + 'static) -> JoinHandle<R> {
    loom::thread::spawn(move || {
        quietly(begin_thread);
        let result = f();
        quietly(end_thread);
        result
    })
}

/// What a thread does once: the collector's first pin registers it, which is the collector's race, not ours.
fn begin_thread() {
    #[cfg(loom)]
    hapax::model::begin_thread();
}

/// What thread exit does to the memory that a thread has retired.
pub fn end_thread() {
    #[cfg(loom)]
    hapax::model::end_thread();
}

/// Carries the collector on by one step, and runs what is due then.
pub fn collect() {
    #[cfg(loom)]
    hapax::model::collect();
}

/// Runs a part of a model that takes no part in its race: no other thread comes in between.
pub fn quietly<R>(f: impl FnOnce() -> R) -> R {
    loom::stop_exploring();
    let result = f();
    loom::explore();
    result
}

/// Runs a part of a model under a pin of its own. The pins inside are nested and bring no fence along, which
/// would order more than the code asks for.
pub fn pinned<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(loom)]
    let _pin = hapax::model::pin();
    f()
}

/// Runs both, the first on the calling thread. When they are done the race is over: what the model does
/// afterwards is explored in one order only.
pub fn race<A, B: 'static>(
    here: impl FnOnce() -> A,
    there: impl FnOnce() -> B + 'static,
) -> (A, B) {
    let both = meet(here, there);
    loom::skip_branch();
    both
}

/// As `race`, but what comes afterwards is explored as well. After a plain store in a race loom leaves it
/// open which write came last, until somebody reads it. The model ends the race itself, by
/// `loom::skip_branch`: loom drops thread-locals in random order, which it can't explore.
pub fn meet<A, B: 'static>(
    here: impl FnOnce() -> A,
    there: impl FnOnce() -> B + 'static,
) -> (A, B) {
    let there = spawn(there);
    let here = here();
    (here, there.join().unwrap())
}

/// As `race`, for three.
pub fn race3<A, B: 'static, C: 'static>(
    here: impl FnOnce() -> A,
    there: impl FnOnce() -> B + 'static,
    elsewhere: impl FnOnce() -> C + 'static,
) -> (A, B, C) {
    let there = spawn(there);
    let elsewhere = spawn(elsewhere);
    let here = here();
    let there = there.join().unwrap();
    let elsewhere = elsewhere.join().unwrap();
    loom::skip_branch();
    (here, there, elsewhere)
}

/// Polls a future until it is done; the thread sleeps in between.
pub fn block_on<F: Future>(future: F) -> F::Output {
    #[derive(Default)]
    struct Alarm(loom::sync::Mutex<bool>, loom::sync::Condvar);

    impl Wake for Alarm {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() = true;
            self.1.notify_one();
        }
    }

    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(alarm.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return answer;
        }
        let mut rings = alarm.0.lock().unwrap();
        while !mem::take(&mut *rings) {
            rings = alarm.1.wait(rings).unwrap();
        }
    }
}

/// Polls a future, and leaves it at that.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Counts the values that a run of a model makes, and those that are destroyed.
#[derive(Clone, Default)]
pub struct Ledger(Arc<(AtomicUsize, AtomicUsize)>);

impl Ledger {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn life(&self) -> Life {
        self.0.0.fetch_add(1, Relaxed);
        let alive = UnsafeCell::new(false);
        // A write of its own: loom takes a cell's making for as old as the thread's last step.
        //
        // SAFETY: nobody else has the cell.
        alive.with_mut(|alive| unsafe { *alive = true });
        Life {
            alive,
            ledger: self.clone(),
        }
    }

    pub fn value(&self, key: Key) -> Value {
        Value {
            key,
            life: self.life(),
        }
    }

    pub fn made(&self) -> usize {
        self.0.0.load(Relaxed)
    }

    pub fn destroyed(&self) -> usize {
        self.0.1.load(Relaxed)
    }

    pub fn alive(&self) -> usize {
        self.made() - self.destroyed()
    }
}

/// Part of a value. loom proves that it is read after it was made, and destroyed after all reads.
pub struct Life {
    alive: UnsafeCell<bool>,
    ledger: Ledger,
}

// SAFETY: loom reports unordered accesses instead of performing them.
unsafe impl Sync for Life {}

impl Life {
    /// Reads the value.
    pub fn touch(&self) {
        // SAFETY: loom reports a concurrent write instead of performing it.
        self.alive
            .with(|alive| assert!(unsafe { *alive }, "a value was read after its end"));
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.alive.with_mut(|alive| {
            // SAFETY: loom reports a concurrent access instead of performing it.
            let was_alive = unsafe { std::mem::replace(&mut *alive, false) };
            assert!(was_alive, "a value was destroyed twice");
        });
        self.ledger.0.1.fetch_add(1, Relaxed);
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Life")
    }
}

/// A value of an interner. Whoever compares it reads it.
#[derive(Debug)]
pub struct Value {
    pub key: Key,
    pub life: Life,
}

impl Value {
    pub fn touch(&self) {
        self.life.touch();
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.touch();
        self.key.hash(state);
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.touch();
        other.touch();
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

/// The interner of most models.
pub type Values = Interner<Value, Identity>;

/// The map of most models.
pub type Map = WeakMap<Key, Life, Identity>;

/// An interner that several threads share, and the ledger of its values.
pub fn values() -> (Arc<Values>, Ledger) {
    (Arc::new(Values::with_hasher(Identity)), Ledger::new())
}

/// A map that several threads share, and the ledger of its values.
pub fn map() -> (Arc<Map>, Ledger) {
    (Arc::new(Map::with_hasher(Identity)), Ledger::new())
}

/// Nothing is left in the table, and everything that was made is destroyed.
#[track_caller]
pub fn assert_empty(values: &Values, ledger: &Ledger) {
    assert_eq!(ledger.alive(), 0, "a value was leaked");
    assert_eq!(values.len(), 0);
    assert!(values.iter().next().is_none());
}

/// As `assert_empty`, for a map.
#[track_caller]
pub fn assert_map_empty(map: &Map, ledger: &Ledger) {
    assert_eq!(ledger.alive(), 0, "a value was leaked");
    assert_eq!(map.len(), 0);
    assert!(map.iter().next().is_none());
}

/// Spoils memory that is given back, so that a touch of it doesn't go unnoticed.
struct Spoiler;

#[global_allocator]
static SPOILER: Spoiler = Spoiler;

// SAFETY: passes everything on.
unsafe impl GlobalAlloc for Spoiler {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller gives the memory back.
        unsafe { memory.write_bytes(0xa5, layout.size()) };
        // SAFETY: as for the caller.
        unsafe { System.dealloc(memory, layout) };
    }
}
