//! The backend of users: `std`, arc-swap, parking_lot.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
};
pub(crate) use std::thread;
use std::time::Instant;

use super::{Ordering, Zeroed};

/// Sets low bits of a tagged pointer and answers what was there before.
pub(crate) fn fetch_or(at: &AtomicPtr<()>, bits: usize, order: Ordering) -> *mut () {
    at.fetch_or(bits, order)
}

/// Keeps only the given bits of a tagged pointer and answers what was there before.
pub(crate) fn fetch_and(at: &AtomicPtr<()>, bits: usize, order: Ordering) -> *mut () {
    at.fetch_and(bits, order)
}

/// A slot whose shared content is replaced while others read it.
#[derive(Debug)]
pub(crate) struct Slot<T>(arc_swap::ArcSwapOption<T>);

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self(arc_swap::ArcSwapOption::const_empty())
    }

    pub(crate) fn store(&self, content: Option<Arc<T>>) {
        self.0.store(content);
    }

    pub(crate) fn load(&self) -> Option<Arc<T>> {
        self.0.load_full()
    }
}

/// Gives up the lock until the condition is signalled, then takes it again.
pub(crate) fn wait<'a, T>(at: &Condvar, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    at.wait(&mut guard);
    guard
}

/// As `wait`, at most until a moment. Whether that has come; the guard is of that mutex.
pub(crate) fn wait_until<'a, T>(
    at: &Condvar,
    _mutex: &'a Mutex<T>,
    mut guard: MutexGuard<'a, T>,
    end: Instant,
) -> (MutexGuard<'a, T>, bool) {
    let is_over = at.wait_until(&mut guard, end).timed_out();
    (guard, is_over)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// Begins a thread that may borrow.
#[cfg(feature = "sync")]
pub(crate) fn spawn_scoped<'scope>(
    builder: thread::Builder,
    threads: &'scope thread::Scope<'scope, '_>,
    f: impl FnOnce() + Send + 'scope,
) -> std::io::Result<()> {
    builder.spawn_scoped(threads, f).map(drop)
}

/// Storage of a segment: zeroed by the allocator, so that the system hands out its pages lazily.
pub(crate) fn zeroed_slice<T: Zeroed>(len: usize) -> Option<NonNull<T>> {
    let layout = Layout::array::<T>(len).ok()?;
    // SAFETY: callers ask for at least one element and `T` is not zero-sized, so the layout has a size.
    let memory = unsafe { std::alloc::alloc_zeroed(layout) };
    NonNull::new(memory.cast())
}

/// # Safety
///
/// `at` came from `zeroed_slice(len)` and is given back once.
pub(crate) unsafe fn free_slice<T: Zeroed>(at: NonNull<T>, len: usize) {
    let layout = Layout::array::<T>(len).expect("it was allocated with it");
    // SAFETY: the same layout as in `zeroed_slice`.
    unsafe { std::alloc::dealloc(at.as_ptr().cast(), layout) };
}

/// Defines a value of each thread's own.
macro_rules! local {
    (static $name:ident: $type:ty = $value:expr) => {
        ::std::thread_local! { static $name: $type = const { $value } }
    };
}
pub(crate) use local;

/// Defines an accessor of a value that the whole process shares.
macro_rules! global {
    (fn $name:ident() -> $type:ty = $value:expr) => {
        #[inline]
        fn $name() -> &'static $type {
            static GLOBAL: $type = $value;
            &GLOBAL
        }
    };
}
pub(crate) use global;

/// Detects touches of reclaimed memory under a checker; nothing here.
#[derive(Debug)]
pub(crate) struct Liveness;

impl Liveness {
    pub(crate) fn new() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn touch(&self) {}

    #[inline(always)]
    pub(crate) fn end(&self) {}
}
