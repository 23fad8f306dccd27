//! What `sync` blocks with: the switch between parking_lot (`parking.rs`), for users, and what loom and shuttle can look
//! into (`checker.rs`). Atomics and plain locks come from `table::primitive`, the other switch.
//!
//! Under a checker time stands still, so that nothing depends on how fast it runs: a moment that lies ahead has come
//! when the model says so, by `model::pass_time`.

use std::mem;
use std::time::Instant;

use crate::table::primitive::{Condvar, Mutex, lock, wait};

#[cfg(not(any(loom, shuttle)))]
mod parking;
#[cfg(not(any(loom, shuttle)))]
pub(super) use self::parking::*;

#[cfg(any(loom, shuttle))]
mod checker;
#[cfg(any(loom, shuttle))]
pub(crate) use self::checker::*;

/// How the thread that has made it sleeps. Not by the one token that each thread has for `std::thread::park`: somebody
/// else may wait for that.
pub(super) struct Parker {
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl Parker {
    pub(super) fn new() -> Self {
        Self {
            is_woken: Mutex::new(false),
            woken: Condvar::new(),
        }
    }

    /// Sleeps until it is woken, or until a moment has come. Whether it was woken.
    pub(super) fn park(&self, until: Option<Instant>) -> bool {
        let mut is_woken = lock(&self.is_woken);
        while !mem::take(&mut *is_woken) {
            let Some(end) = until else {
                is_woken = wait(&self.woken, is_woken);
                continue;
            };
            let is_over;
            (is_woken, is_over) = wait_until(&self.woken, &self.is_woken, is_woken, end);
            if is_over {
                return mem::take(&mut *is_woken);
            }
        }
        true
    }

    /// Wakes it, or lets its next sleep end at once.
    pub(super) fn unpark(&self) {
        *lock(&self.is_woken) = true;
        self.woken.notify_one();
    }
}

/// A lock that doesn't know who holds it.
pub(super) trait Raw {
    fn try_lock(&self) -> bool;

    /// Waits for the lock, at most until a moment. Whether the lock is held now.
    fn lock(&self, until: Option<Instant>) -> bool;

    fn is_locked(&self) -> bool;

    /// # Safety
    ///
    /// The lock is held, on behalf of the caller. Any thread may call it.
    unsafe fn unlock(&self);
}

/// How a [`RawRwLock`] is shared.
pub(super) struct Shared<'a>(pub(super) &'a RawRwLock);
