//! What loom and shuttle have in common: locks that look like those of `std`, and segments that can't be made
//! by zeroing memory.

use std::ptr::NonNull;
use std::time::Instant;

use super::thread::yield_now;
use super::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering::Relaxed, Zeroed, global};

// Under a checker time stands still, so that nothing depends on how fast it runs: a moment that lies ahead has come
// when the model says so, by `model::pass_time`.
global! { fn time_has_passed() -> AtomicBool = AtomicBool::new(false) }

/// From now on all moments have come.
pub(crate) fn pass_time() {
    // Relaxed: time orders nothing.
    time_has_passed().store(true, Relaxed);
}

pub(crate) fn has_come(moment: Instant) -> bool {
    moment <= Instant::now() || time_has_passed().load(Relaxed)
}

/// As for users. Each turn is a step at which the checker may go on with another thread.
pub(crate) fn wait_until<'a, T>(
    _at: &Condvar,
    mutex: &'a Mutex<T>,
    guard: MutexGuard<'a, T>,
    end: Instant,
) -> (MutexGuard<'a, T>, bool) {
    if has_come(end) {
        return (guard, true);
    }
    drop(guard);
    yield_now();
    (lock(mutex), false)
}

pub(crate) fn wait<'a, T>(at: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    at.wait(guard).unwrap_or_else(|poison| poison.into_inner())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

pub(crate) fn zeroed_slice<T: Zeroed>(len: usize) -> Option<NonNull<T>> {
    let slice: Box<[T]> = (0..len).map(|_| T::zeroed()).collect();
    NonNull::new(Box::into_raw(slice).cast())
}

/// # Safety
///
/// `at` came from `zeroed_slice(len)` and is given back once.
pub(crate) unsafe fn free_slice<T: Zeroed>(at: NonNull<T>, len: usize) {
    // SAFETY: `zeroed_slice` made this box with this length.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(at.as_ptr(), len)) });
}
