//! Locks that loom and shuttle can look into. A wait with a time limit spins, each turn a step at which the checker may go
//! on with another thread; one without sleeps on a condition of the checker.

use std::time::Instant;

use super::{Raw, Shared};
use crate::table::primitive::{
    AtomicUsize, Condvar, Mutex,
    Ordering::{Acquire, Relaxed, Release},
    has_come, lock, maybe_const_fn,
    thread::yield_now,
    wait,
};

/// Where threads wait for a lock that somebody holds.
struct Waiters {
    queue: Mutex<()>,
    unlocked: Condvar,
}

impl Waiters {
    maybe_const_fn! {
        const fn new() -> Self {
            Self {
                queue: Mutex::new(()),
                unlocked: Condvar::new(),
            }
        }
    }

    fn lock(&self, until: Option<Instant>, try_lock: impl Fn() -> bool) -> bool {
        let Some(end) = until else {
            let mut queue = lock(&self.queue);
            while !try_lock() {
                queue = wait(&self.unlocked, queue);
            }
            return true;
        };
        loop {
            if try_lock() {
                return true;
            }
            if has_come(end) {
                return false;
            }
            yield_now();
        }
    }

    fn wake(&self) {
        drop(lock(&self.queue));
        self.unlocked.notify_all();
    }
}

/// The number of those who share it, or that somebody has it alone.
pub(in crate::sync) struct RawRwLock {
    state: AtomicUsize,
    waiters: Waiters,
}

const EXCLUSIVE: usize = usize::MAX;

/// Nobody shares it.
pub(in crate::sync) type RawMutex = RawRwLock;

impl RawRwLock {
    maybe_const_fn! {
        pub(in crate::sync) const fn new() -> Self {
            Self {
                state: AtomicUsize::new(0),
                waiters: Waiters::new(),
            }
        }
    }
}

impl Raw for RawRwLock {
    fn try_lock(&self) -> bool {
        // Acquire: pairs with the Releases in both `unlock`s.
        self.state
            .compare_exchange(0, EXCLUSIVE, Acquire, Relaxed)
            .is_ok()
    }

    fn lock(&self, until: Option<Instant>) -> bool {
        self.waiters.lock(until, || self.try_lock())
    }

    fn is_locked(&self) -> bool {
        self.state.load(Relaxed) != 0
    }

    unsafe fn unlock(&self) {
        // Release: pairs with the Acquire in both `try_lock`s.
        self.state.store(0, Release);
        self.waiters.wake();
    }
}

impl Raw for Shared<'_> {
    fn try_lock(&self) -> bool {
        let mut sharing = self.0.state.load(Relaxed);
        while sharing != EXCLUSIVE {
            let more = sharing + 1;
            // Acquire: pairs with the Release of an exclusive `unlock`.
            match self
                .0
                .state
                .compare_exchange(sharing, more, Acquire, Relaxed)
            {
                Ok(_) => return true,
                Err(now) => sharing = now,
            }
        }
        false
    }

    fn lock(&self, until: Option<Instant>) -> bool {
        self.0.waiters.lock(until, || self.try_lock())
    }

    fn is_locked(&self) -> bool {
        self.0.state.load(Relaxed) == EXCLUSIVE
    }

    unsafe fn unlock(&self) {
        // Release: pairs with the Acquire of an exclusive `try_lock`.
        self.0.state.fetch_sub(1, Release);
        self.0.waiters.wake();
    }
}
