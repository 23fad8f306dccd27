//! Faults, under a clock that the test sets: processes that die or are stopped wherever it hurts, time that is over at the
//! wrong moment, and everything that shall *not* come about however long one waits.

mod deadlocks;
mod deaths;
mod leases;
mod order;
mod stops;

use std::collections::BTreeSet;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// For how long the first waiter may be passed.
const HEAD_START: Duration = Duration::from_millis(1);

/// Lets that much time go by in steps, with a moment for the threads after each.
fn pass(store: &MemoryStore, time: Duration) {
    const STEPS: u32 = 20;
    for _ in 0..STEPS {
        store.advance(time / STEPS);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whoever waits has seen where it stands, and sleeps.
fn until_asleep(store: &MemoryStore, key: &str, count: usize) {
    until_queued(store, key, count);
    thread::sleep(Duration::from_millis(5));
}

/// A waiter in a queue, whose guard comes back.
fn queued(store: &MemoryStore, lock: Lock) -> Task<Result<LockGuard, CoordError>> {
    let before = waiters(store, lock.key()).len();
    let key = lock.key().to_owned();
    let task = task(move || lock.lock());
    until_queued(store, &key, before + 1);
    task
}
