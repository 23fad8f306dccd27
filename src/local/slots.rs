//! The calling thread's side: where it finds its value of each local, and when it ends.
//!
//! Each thread has a table of slots, one for each index of a [`Key`]. A slot says which local its value is of, by
//! the id: an index is used again, an id is not. So nobody clears the slots of other threads when a local goes: what
//! they hold has an id that nobody asks for any more. A hit reads the table and writes one word of the thread's own.
//!
//! A slot points to a value that it doesn't own. `Values` owns it, and gives it up in three cases only:
//!
//! - the thread takes it away or replaces it: the slot is changed with it. If a closure of `with` is using it further
//!   up the stack, the value is *kept* until that has returned;
//! - the thread ends: the slot is cleared before the value is dropped;
//! - the local is dropped: then nobody is inside of its methods, and nobody asks for its id again.
//!
//! Nothing here has a destructor, so that values can be looked up while thread-locals are destroyed, until the very
//! callback that drops them. The table itself goes with the thread's sentinel.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::key::Key;
use super::{LocalError, sentinel};
use crate::table::FirstPanic;
use crate::table::primitive::local;

/// Where a thread's value of one local lies.
struct Slot {
    /// The local's id; with `INITIALISING` while the thread makes its value; 0 if it has none.
    id: Cell<u64>,
    /// Anything if it has none.
    value: Cell<NonNull<()>>,
}

impl Slot {
    fn empty() -> Self {
        Self {
            id: Cell::new(0),
            value: Cell::new(NonNull::dangling()),
        }
    }
}

const INITIALISING: u64 = 1 << 63;

/// Closures on the values of more than one local.
const SEVERAL: u64 = u64::MAX;

/// What a thread knows of its values.
struct Thread {
    /// Invariant: null, or a boxed slice of `len` slots, which belongs to this thread.
    slots: Cell<*mut Slot>,
    len: Cell<usize>,
    /// Whose value a closure of `with` is using: an id, `SEVERAL`, or 0 for nobody's.
    in_use: Cell<u64>,
    /// Values in `KEPT`.
    keeps: Cell<u64>,
}

// Both without a destructor, so that they work while thread-locals are destroyed. Under shuttle they don't: hence
// `try_with`.
local! {
    static THREAD: Thread = Thread {
        slots: Cell::new(ptr::null_mut()),
        len: Cell::new(0),
        in_use: Cell::new(0),
        keeps: Cell::new(0),
    }
}
local! {
    static KEPT: ManuallyDrop<RefCell<Vec<Arc<dyn Any>>>> = ManuallyDrop::new(RefCell::new(Vec::new()))
}

impl Thread {
    fn slot(&self, key: Key) -> Option<&Slot> {
        if key.index >= self.len.get() {
            return None;
        }
        // SAFETY: by the invariant there is a slot at that index. The table is replaced by `grow` and given up by
        // `end` only, on this thread, and nobody holds a reference to a slot across either.
        Some(unsafe { &*self.slots.get().add(key.index) })
    }

    #[cold]
    fn grow(&self, index: usize) {
        let mut slots = self.take_slots().into_vec();
        let len = (index + 1).next_power_of_two().max(8);
        slots.resize_with(len, Slot::empty);
        self.len.set(slots.len());
        self.slots
            .set(Box::into_raw(slots.into_boxed_slice()).cast());
    }

    /// Takes the table away: the thread has none then.
    fn take_slots(&self) -> Box<[Slot]> {
        let (slots, len) = (self.slots.replace(ptr::null_mut()), self.len.replace(0));
        if slots.is_null() {
            return Box::default();
        }
        // SAFETY: by the invariant, and we have just given it up.
        unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(slots, len)) }
    }
}

/// Where the calling thread's value lies, if it has one.
#[inline]
pub(super) fn find(key: Key) -> Option<NonNull<()>> {
    THREAD
        .try_with(|thread| {
            let slot = thread.slot(key)?;
            (slot.id.get() == key.id).then(|| slot.value.get())
        })
        .ok()?
}

/// Leads the slot to another value.
pub(super) fn set(key: Key, value: NonNull<()>) {
    with_slot(key, |slot| {
        slot.id.set(key.id);
        slot.value.set(value);
    });
}

/// Forgets the value, if the slot doesn't belong to another local by now.
pub(super) fn clear(key: Key) {
    with_slot(key, |slot| {
        if slot.id.get() & !INITIALISING == key.id {
            slot.id.set(0);
        }
    });
}

fn with_slot(key: Key, f: impl FnOnce(&Slot)) {
    let _ = THREAD.try_with(|thread| thread.slot(key).map(f));
}

/// A closure of `with` is using the calling thread's value.
pub(super) struct InUse {
    /// Whose values are in use further up the stack.
    outer: u64,
}

impl InUse {
    #[inline]
    pub(super) fn begin(key: Key) -> Self {
        let outer = THREAD.try_with(|thread| {
            let outer = thread.in_use.get();
            if outer == 0 {
                thread.in_use.set(key.id);
            } else {
                Self::begin_inner(thread, key);
            }
            outer
        });
        Self {
            outer: outer.unwrap_or(0),
        }
    }

    #[cold]
    #[inline(never)]
    fn begin_inner(thread: &Thread, key: Key) {
        if thread.in_use.get() != key.id {
            thread.in_use.set(SEVERAL);
        }
    }

    #[cold]
    #[inline(never)]
    fn end_slow(outer: u64) {
        let _ = THREAD.try_with(|thread| thread.in_use.set(outer));
        if outer == 0 {
            drop_kept();
        }
    }
}

impl Drop for InUse {
    #[inline]
    fn drop(&mut self) {
        let simple = THREAD.try_with(|thread| {
            let simple = self.outer | thread.keeps.get() == 0;
            if simple {
                // Not `outer` itself, so that a use doesn't wait for what the one before it has stored.
                thread.in_use.set(0);
            }
            simple
        });
        if !simple.unwrap_or(true) {
            Self::end_slow(self.outer);
        }
    }
}

/// Lets a value that its local has given up live on, if a closure of `with` may be using it.
pub(super) fn keep_in_use<T: 'static>(key: Key, value: &Arc<T>) {
    let in_use = THREAD.try_with(|thread| thread.in_use.get()).unwrap_or(0);
    if in_use == key.id || in_use == SEVERAL {
        // Both are there: neither has a destructor.
        THREAD.with(|thread| thread.keeps.set(thread.keeps.get() + 1));
        KEPT.with(|kept| kept.borrow_mut().push(value.clone()));
    }
}

#[cold]
fn drop_kept() {
    THREAD.with(|thread| thread.keeps.set(0));
    let kept = KEPT.with(|kept| mem::take(&mut *kept.borrow_mut()));
    let mut panics = FirstPanic::default();
    for value in kept {
        panics.catch(|| drop(value));
    }
    if std::thread::panicking() {
        panics.discard();
    } else {
        panics.resume();
    }
}

/// The calling thread makes its value of a local. If this goes before the value is there, nothing is left behind.
pub(super) struct Initialising(Key);

impl Initialising {
    pub(super) fn begin<E>(key: Key) -> Result<Self, LocalError<E>> {
        sentinel::rely_on().ok_or(LocalError::Destroyed)?;
        THREAD
            .try_with(|thread| {
                if thread.slot(key).is_none() {
                    thread.grow(key.index);
                }
                let slot = thread.slot(key).expect("it has grown");
                if slot.id.get() == key.id | INITIALISING {
                    return Err(LocalError::Reentrant);
                }
                slot.id.set(key.id | INITIALISING);
                Ok(Self(key))
            })
            .unwrap_or(Err(LocalError::Destroyed))
    }

    pub(super) fn finish(self, value: NonNull<()>) {
        set(self.0, value);
        mem::forget(self);
    }
}

/// Gives the table up. The thread has no values any more.
pub(super) fn end_thread() {
    let _ = THREAD.try_with(|thread| drop(thread.take_slots()));
}

impl Drop for Initialising {
    fn drop(&mut self) {
        clear(self.0);
    }
}
