//! The backend of the scenarios in `shuttle-tests`.
//!
//! shuttle runs all threads of an execution on one thread of the system. It may switch to another one before
//! each access that goes through here, and nowhere else.

pub(crate) use shuttle::sync::atomic::{
    AtomicBool, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
};
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use shuttle::thread;
use std::sync::{Arc, PoisonError};

use super::Ordering;

/// Where shuttle may switch before something that isn't an atomic of its own.
pub(crate) fn step() {
    // Nobody sleeps in shuttle.
    shuttle::thread::sleep(std::time::Duration::ZERO);
}

pub(crate) fn fetch_or(at: &AtomicPtr<()>, bits: usize, order: Ordering) -> *mut () {
    at.fetch_or(bits, order)
}

pub(crate) fn fetch_and(at: &AtomicPtr<()>, bits: usize, order: Ordering) -> *mut () {
    at.fetch_and(bits, order)
}

/// arc-swap's operations are one step each: none of them waits for another, so the lock that stands in for
/// them must not be held where shuttle may switch.
#[derive(Debug)]
pub(crate) struct Slot<T>(std::sync::Mutex<Option<Arc<T>>>);

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self(std::sync::Mutex::new(None))
    }

    pub(crate) fn store(&self, content: Option<Arc<T>>) {
        let old = std::mem::replace(&mut *self.step(), content);
        drop(old);
    }

    pub(crate) fn load(&self) -> Option<Arc<T>> {
        self.step().clone()
    }

    fn step(&self) -> std::sync::MutexGuard<'_, Option<Arc<T>>> {
        step();
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See `std`. Here its name is nobody's business.
#[cfg(feature = "sync")]
pub(crate) fn spawn_scoped<'scope>(
    _builder: thread::Builder,
    threads: &'scope thread::Scope<'scope, '_>,
    f: impl FnOnce() + Send + 'scope,
) -> std::io::Result<()> {
    drop(threads.spawn(f));
    Ok(())
}

macro_rules! local {
    (static $name:ident: $type:ty = $value:expr) => {
        ::shuttle::thread_local! { static $name: $type = $value }
    };
}
pub(crate) use local;

/// Statics of an execution end with it, and deferred functions may run later: so this one is shared.
macro_rules! global {
    (fn $name:ident() -> $type:ty = $value:expr) => {
        fn $name() -> ::std::sync::Arc<$type> {
            ::shuttle::lazy_static! {
                static ref GLOBAL: ::std::sync::Arc<$type> = ::std::sync::Arc::new($value);
            }
            GLOBAL.clone()
        }
    };
}
pub(crate) use global;

const ALIVE: u32 = 0xa11_7e57;

/// What reclamation takes away and readers look at. It is an atomic of `std`, which shuttle doesn't see, because
/// to look is no step of the table's. A reader that comes too late meets memory that was given back, which the
/// scenarios' allocator has spoiled.
#[derive(Debug)]
pub(crate) struct Liveness(std::sync::atomic::AtomicU32);

impl Liveness {
    pub(crate) fn new() -> Self {
        Self(ALIVE.into())
    }

    pub(crate) fn touch(&self) {
        // Relaxed here and below: all on one thread of the system.
        let state = self.0.load(Ordering::Relaxed);
        assert_eq!(state, ALIVE, "reclaimed memory was touched");
    }

    pub(crate) fn end(&self) {
        let state = self.0.swap(0, Ordering::Relaxed);
        assert_eq!(state, ALIVE, "memory was reclaimed twice");
    }
}
