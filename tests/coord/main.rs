//! `coord`: one suite for all stores, then what only a store in memory can do: faults under a clock that the test sets,
//! random histories beside models of the rules, and a stress of threads whose sessions die.

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "coord-redis")]
#[path = "../redis_server/mod.rs"]
mod redis_server;

mod memory;
mod model;
mod rates;
mod stress;
mod suite;
#[cfg(feature = "tracing")]
mod trace;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{Rng, SeedOnFailure, scaled, seed};
use hapax::coord::{
    Averager, CircleStep, CoordError, FencingGate, HolderStatus, Kind, Lease, Limit, Lock,
    LockGuard, LockSet, MemoryStore, Mode, Operation, Owner, Permit, RLock, RateLimiter, Semaphore,
    SingleFlight, Status, Store, WaiterStatus,
};

/// For how long something may take that is expected to come about.
const PATIENCE: Duration = Duration::from_secs(30);
/// For how long something is looked at that is expected not to come about.
const SHORT: Duration = Duration::from_millis(20);

/// A thread whose answer is waited for, but not forever.
struct Task<R> {
    answer: Receiver<R>,
    thread: JoinHandle<()>,
}

fn task<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> Task<R> {
    let (sender, answer) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = f();
        // Nobody listens if the time is over.
        let _ = sender.send(result);
    });
    Task { answer, thread }
}

impl<R> Task<R> {
    /// Fails instead of hanging.
    fn answer(self) -> R {
        let answer = self.answer.recv_timeout(PATIENCE);
        self.unwrap(answer)
    }

    /// The same, while time is made to go by.
    fn answer_while(self, mut pass: impl FnMut()) -> R {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.answer.try_recv() {
                Err(TryRecvError::Empty) if Instant::now() < end => pass(),
                Err(TryRecvError::Empty) => return self.unwrap(Err(RecvTimeoutError::Timeout)),
                Err(TryRecvError::Disconnected) => {
                    return self.unwrap(Err(RecvTimeoutError::Disconnected));
                }
                Ok(answer) => return self.unwrap(Ok(answer)),
            }
        }
    }

    fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    fn unwrap(self, answer: Result<R, RecvTimeoutError>) -> R {
        match answer {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
            Err(RecvTimeoutError::Disconnected) => match self.thread.join() {
                Ok(()) => unreachable!("it has sent nothing"),
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    }
}

/// Looks again and again until something is so; fails if that lasts too long.
#[track_caller]
fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it doesn't come about");
        thread::sleep(Duration::from_millis(1));
    }
}

fn status(store: &impl Store, key: &str) -> Option<Status> {
    let list = store.list().unwrap();
    list.into_iter().find(|status| status.key == key)
}

fn holders(store: &impl Store, key: &str) -> Vec<HolderStatus> {
    status(store, key).map_or(Vec::new(), |status| status.holders)
}

fn waiters(store: &impl Store, key: &str) -> Vec<WaiterStatus> {
    status(store, key).map_or(Vec::new(), |status| status.waiters)
}

/// Waits until so many wait for the key.
#[track_caller]
fn until_queued(store: &impl Store, key: &str, count: usize) {
    until(|| waiters(store, key).len() == count);
}

fn is_timed_out<T>(answer: &Result<T, CoordError>) -> bool {
    matches!(answer, Err(CoordError::TimedOut { .. }))
}

fn is_lost<T>(answer: &Result<T, CoordError>) -> bool {
    matches!(answer, Err(CoordError::Lost { .. }))
}

fn is_closed<T>(answer: &Result<T, CoordError>) -> bool {
    matches!(answer, Err(CoordError::Closed { .. }))
}

fn is_deadlock<T>(answer: &Result<T, CoordError>) -> bool {
    matches!(answer, Err(CoordError::Deadlock { .. }))
}

/// What a holder that has been succeeded gets, and what it doesn't harm.
#[track_caller]
fn assert_lost(guard: LockGuard, successor: &LockGuard) {
    assert!(!guard.is_valid());
    assert!(is_lost(&guard.check()));
    assert_eq!(guard.remaining(), Some(Duration::ZERO));
    assert!(is_lost(&guard.extend(PATIENCE)));
    assert!(successor.fencing_token() > guard.fencing_token());
    match guard.release() {
        Err(CoordError::Lost { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(successor.is_valid());
}
