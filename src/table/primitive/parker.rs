//! How a thread sleeps until another one wakes it.

use std::mem;
use std::time::Instant;

use super::{Condvar, Mutex, lock, wait, wait_until};

/// How the thread that has made it sleeps. Not by the one token that each thread has for `std::thread::park`: somebody
/// else may wait for that.
pub(crate) struct Parker {
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl Parker {
    pub(crate) fn new() -> Self {
        Self {
            is_woken: Mutex::new(false),
            woken: Condvar::new(),
        }
    }

    /// Sleeps until it is woken, or until a moment has come. Whether it was woken.
    pub(crate) fn park(&self, until: Option<Instant>) -> bool {
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
    pub(crate) fn unpark(&self) {
        *lock(&self.is_woken) = true;
        self.woken.notify_one();
    }
}
