//! What loom and shuttle have in common: locks that look like those of `std`, and segments that can't be made
//! by zeroing memory.

use std::ptr::NonNull;

use super::{Condvar, Mutex, MutexGuard, Zeroed};

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
