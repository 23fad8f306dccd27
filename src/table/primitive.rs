//! The only switch between `std` and loom.
//!
//! All loads, stores and read-modify-writes of the table go through the names of this file, so that
//! the models of `loom-tests` run the very code that users run. Where loom has no counterpart
//! (`AtomicPtr::fetch_or`, arc-swap, parking_lot, constant constructors) the difference is hidden here
//! as well.

pub(crate) use std::sync::atomic::Ordering;

pub(crate) use inner::*;

/// Defines a constructor that is `const`, except under loom, whose atomics have no constant ones.
macro_rules! maybe_const_fn {
    ($(#[$attr:meta])* $vis:vis const fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$attr])* $vis const fn $($rest)*

        #[cfg(loom)]
        $(#[$attr])* $vis fn $($rest)*
    };
}
pub(crate) use maybe_const_fn;

#[cfg(all(loom, not(feature = "loom")))]
compile_error!("`--cfg loom` needs the `loom` feature of this crate");

#[cfg(not(loom))]
mod inner {
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    use std::sync::Arc;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    };

    use super::Ordering;

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

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock()
    }

    /// Storage of a segment: zeroed by the allocator, so that the system hands out its pages lazily.
    pub(crate) fn zeroed_slice<T: Zeroed>(len: usize) -> Option<std::ptr::NonNull<T>> {
        let layout = std::alloc::Layout::array::<T>(len).ok()?;
        // SAFETY: callers ask for at least one element and `T` is not zero-sized, so the layout has
        // a size.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        std::ptr::NonNull::new(memory.cast())
    }

    /// # Safety
    ///
    /// `at` came from `zeroed_slice(len)` and is given back once.
    pub(crate) unsafe fn free_slice<T: Zeroed>(at: std::ptr::NonNull<T>, len: usize) {
        let layout = std::alloc::Layout::array::<T>(len).expect("it was allocated with it");
        // SAFETY: the same layout as in `zeroed_slice`.
        unsafe { std::alloc::dealloc(at.as_ptr().cast(), layout) };
    }

    /// Types for which zeroed memory is a value.
    ///
    /// # Safety
    ///
    /// All-zero bytes are a valid value that needs no destructor, and the type has a size.
    pub(crate) unsafe trait Zeroed {
        fn zeroed() -> Self;
    }

    macro_rules! local {
        (static $name:ident: $type:ty = $value:expr) => {
            std::thread_local! { static $name: $type = const { $value } }
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

    /// Detects touches of reclaimed nodes in models; nothing here.
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
}

#[cfg(loom)]
mod inner {
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    };
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
    use std::sync::Arc;

    use super::Ordering;

    fn update(at: &AtomicPtr<()>, order: Ordering, f: impl Fn(usize) -> usize) -> *mut () {
        let mut seen = at.load(Ordering::Relaxed);
        loop {
            let new = seen.map_addr(&f);
            match at.compare_exchange(seen, new, order, Ordering::Relaxed) {
                Ok(old) => return old,
                Err(now) => seen = now,
            }
        }
    }

    pub(crate) fn fetch_or(at: &AtomicPtr<()>, bits: usize, order: Ordering) -> *mut () {
        update(at, order, |addr| addr | bits)
    }

    pub(crate) fn fetch_and(at: &AtomicPtr<()>, bits: usize, order: Ordering) -> *mut () {
        update(at, order, |addr| addr & bits)
    }

    #[derive(Debug)]
    pub(crate) struct Slot<T>(Mutex<Option<Arc<T>>>);

    impl<T> Slot<T> {
        pub(crate) fn new() -> Self {
            Self(Mutex::new(None))
        }

        pub(crate) fn store(&self, content: Option<Arc<T>>) {
            let old = std::mem::replace(&mut *lock(&self.0), content);
            drop(old);
        }

        pub(crate) fn load(&self) -> Option<Arc<T>> {
            lock(&self.0).clone()
        }
    }

    pub(crate) fn wait<'a, T>(at: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        at.wait(guard).unwrap_or_else(|poison| poison.into_inner())
    }

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    pub(crate) unsafe trait Zeroed {
        fn zeroed() -> Self;
    }

    pub(crate) fn zeroed_slice<T: Zeroed>(len: usize) -> Option<std::ptr::NonNull<T>> {
        let slice: Box<[T]> = (0..len).map(|_| T::zeroed()).collect();
        std::ptr::NonNull::new(Box::into_raw(slice).cast())
    }

    pub(crate) unsafe fn free_slice<T: Zeroed>(at: std::ptr::NonNull<T>, len: usize) {
        // SAFETY: `zeroed_slice` made this box with this length.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(at.as_ptr(), len)) });
    }

    macro_rules! local {
        (static $name:ident: $type:ty = $value:expr) => {
            loom::thread_local! { static $name: $type = $value }
        };
    }
    pub(crate) use local;

    /// Statics of a model end with it, and deferred functions may run later: so this one is shared.
    macro_rules! global {
        (fn $name:ident() -> $type:ty = $value:expr) => {
            fn $name() -> std::sync::Arc<$type> {
                loom::lazy_static! {
                    static ref GLOBAL: std::sync::Arc<$type> = std::sync::Arc::new($value);
                }
                GLOBAL.clone()
            }
        };
    }
    pub(crate) use global;

    /// A cell that readers read and that reclamation writes: loom reports the pair when nothing orders
    /// them, and a read after the end fails the assertion.
    #[derive(Debug)]
    pub(crate) struct Liveness(loom::cell::UnsafeCell<bool>);

    impl Liveness {
        pub(crate) fn new() -> Self {
            let cell = loom::cell::UnsafeCell::new(false);
            // A write of its own: loom takes a cell's making for as old as the thread's last step.
            //
            // SAFETY: nobody else has the cell.
            cell.with_mut(|alive| unsafe { *alive = true });
            Self(cell)
        }

        pub(crate) fn touch(&self) {
            // SAFETY: loom reports a concurrent write instead of performing it.
            self.0
                .with(|alive| assert!(unsafe { *alive }, "a reclaimed node was touched"));
        }

        pub(crate) fn end(&self) {
            // SAFETY: loom reports a concurrent access instead of performing it.
            self.0.with_mut(|alive| unsafe { *alive = false });
        }
    }
}

global! { fn threads() -> AtomicU64 = AtomicU64::new(1) }
local! { static NUMBER: std::cell::Cell<u64> = std::cell::Cell::new(0) }

/// A number for the calling thread: never 0, never used again.
#[inline]
pub(crate) fn thread_number() -> u64 {
    NUMBER.with(|number| match number.get() {
        // Relaxed: each caller gets another number, that is all.
        0 => {
            number.set(threads().fetch_add(1, Ordering::Relaxed));
            number.get()
        }
        known => known,
    })
}
