//! What closures of `with` are using on the calling thread: a value that its local gives up meanwhile is *kept* until
//! they have returned.
//!
//! The outermost closure is one word, written when it begins and when it returns. Those that run within it are frames
//! on the stack, each linked to the next one out.
//!
//! When a thread ends with closures on its stack, because one of them has ended the process, what they use is kept for
//! ever: other threads may have got at it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::sync::Arc;

use super::key::Key;
use crate::table::FirstPanic;
use crate::table::primitive::local;

struct Uses {
    /// Whose value the outermost closure is using: an id, or 0.
    outermost: Cell<u64>,
    /// The innermost closure, if that isn't the outermost. Invariant: on the stack, and so are all that it leads to.
    inner: Cell<*const Frame>,
    /// Values in `KEPT`.
    kept: Cell<usize>,
}

/// A closure within another one.
struct Frame {
    id: u64,
    outer: *const Frame,
}

/// A value of the local with that id, which has given it up.
struct Kept {
    id: u64,
    _value: Arc<dyn Any>,
}

// Both without a destructor, so that they work while thread-locals are destroyed. Not everywhere: hence `try_with`.
local! {
    static USES: Uses = Uses {
        outermost: Cell::new(0),
        inner: Cell::new(ptr::null()),
        kept: Cell::new(0),
    }
}
local! {
    static KEPT: ManuallyDrop<RefCell<Vec<Kept>>> = ManuallyDrop::new(RefCell::new(Vec::new()))
}

/// Runs `f`, which uses the calling thread's value of that local.
#[inline]
pub(super) fn using<R>(key: Key, f: impl FnOnce() -> R) -> R {
    match Outermost::begin(key) {
        Some(_outermost) => f(),
        None => using_within(key, f),
    }
}

struct Outermost;

impl Outermost {
    #[inline]
    fn begin(key: Key) -> Option<Self> {
        let free = USES.try_with(|uses| {
            let free = uses.outermost.get() == 0;
            if free {
                uses.outermost.set(key.id);
            }
            free
        });
        // Not `then_some`: what that is given is dropped if it isn't wanted.
        free.unwrap_or(true).then(|| Self)
    }
}

impl Drop for Outermost {
    #[inline]
    fn drop(&mut self) {
        let keeps = USES.try_with(|uses| {
            uses.outermost.set(0);
            uses.kept.get() != 0
        });
        if keeps.unwrap_or(false) {
            drop_kept();
        }
    }
}

struct Within<'a>(&'a Frame);

#[inline(never)]
fn using_within<R>(key: Key, f: impl FnOnce() -> R) -> R {
    let outer = USES.try_with(|uses| uses.inner.get());
    let frame = Frame {
        id: key.id,
        outer: outer.unwrap_or(ptr::null()),
    };
    let _ = USES.try_with(|uses| uses.inner.set(&raw const frame));
    let _within = Within(&frame);
    f()
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        let keeps = USES.try_with(|uses| {
            uses.inner.set(self.0.outer);
            uses.kept.get() != 0
        });
        if keeps.unwrap_or(false) {
            drop_kept();
        }
    }
}

impl Uses {
    fn has(&self, id: u64) -> bool {
        let mut next = self.inner.get();
        // SAFETY: by the invariant.
        while let Some(frame) = unsafe { next.as_ref() } {
            if frame.id == id {
                return true;
            }
            next = frame.outer;
        }
        self.outermost.get() == id
    }
}

/// Whether a closure is using the calling thread's value of that local.
fn is_in_use(id: u64) -> bool {
    USES.try_with(|uses| uses.has(id)).unwrap_or(false)
}

/// Lets a value that its local has given up live on, if a closure is using it.
pub(super) fn keep<T: 'static>(key: Key, value: &Arc<T>) {
    if !is_in_use(key.id) {
        return;
    }
    let mut value = Some(Kept {
        id: key.id,
        _value: value.clone(),
    });
    let _ = KEPT.try_with(|kept| {
        if let Ok(mut kept) = kept.try_borrow_mut() {
            kept.extend(value.take());
            let _ = USES.try_with(|uses| uses.kept.set(kept.len()));
        }
    });
    // No list, or we are called by the allocator for it.
    mem::forget(value);
}

/// Drops what isn't in use any more.
#[cold]
fn drop_kept() {
    let mut unused = Vec::new();
    let _ = KEPT.try_with(|kept| {
        if let Ok(mut kept) = kept.try_borrow_mut() {
            unused.extend(kept.extract_if(.., |kept| !is_in_use(kept.id)));
            // Nobody frees the list when the thread ends.
            kept.shrink_to_fit();
            let _ = USES.try_with(|uses| uses.kept.set(kept.len()));
        }
    });
    let mut panics = FirstPanic::default();
    for value in unused {
        panics.catch(|| drop(value));
    }
    panics.resume();
}
