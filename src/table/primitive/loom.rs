//! The backend of the models in `loom-tests`.

pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
};
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use loom::thread;
use std::sync::Arc;

use super::{Ordering, lock};

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

macro_rules! local {
    (static $name:ident: $type:ty = $value:expr) => {
        ::loom::thread_local! { static $name: $type = $value }
    };
}
pub(crate) use local;

/// Statics of a model end with it, and deferred functions may run later: so this one is shared.
macro_rules! global {
    (fn $name:ident() -> $type:ty = $value:expr) => {
        fn $name() -> ::std::sync::Arc<$type> {
            ::loom::lazy_static! {
                static ref GLOBAL: ::std::sync::Arc<$type> = ::std::sync::Arc::new($value);
            }
            GLOBAL.clone()
        }
    };
}
pub(crate) use global;

/// A cell that readers read and that reclamation writes: loom reports the pair when nothing orders them, and
/// a read after the end fails the assertion.
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
            .with(|alive| assert!(unsafe { *alive }, "reclaimed memory was touched"));
    }

    pub(crate) fn end(&self) {
        // SAFETY: loom reports a concurrent access instead of performing it.
        self.0.with_mut(|alive| unsafe { *alive = false });
    }
}
