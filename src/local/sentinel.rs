//! The end of a thread, as the death of an interned value.
//!
//! Each thread that has values has a *sentinel*: a handle on its number, of which there is no other, and which is dropped
//! with the thread-locals. Locals hang weak handles with callbacks on it. CPython does so with weak references to the
//! sentinel of a thread state.

use std::cell::OnceCell;

use super::slots;
use crate::table::primitive::{get_or_make, global, local, thread_number};
use crate::{Interned, Interner, WeakInterned};

global! { fn threads() -> Interner<u64> = Interner::new() }

struct Sentinel(OnceCell<Interned<u64>>);

local! { static SENTINEL: Sentinel = Sentinel(OnceCell::new()) }

/// Calls `f` unless the thread's values were dropped.
fn with<R>(f: impl FnOnce(&Interned<u64>) -> R) -> Option<R> {
    SENTINEL
        .try_with(|Sentinel(sentinel)| {
            f(get_or_make(sentinel, || threads().intern(thread_number())))
        })
        .ok()
}

/// Makes sure that the end of the thread will be noticed. `None` if that has been.
pub(super) fn rely_on() -> Option<()> {
    with(|_| ())
}

/// Registers what is to be done when the calling thread ends, on that thread; what comes last is done first. Dropping
/// the answer cancels it. `None` if the thread is ending, and its values were dropped.
pub(super) fn at_thread_end(f: impl FnOnce() + Send + 'static) -> Option<WeakInterned<u64>> {
    with(|sentinel| Interned::downgrade_with(sentinel, f))
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // Runs the callbacks.
        drop(self.0.take());
        slots::end_thread();
    }
}
