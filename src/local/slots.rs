//! The calling thread's side: where it finds its value of each local.
//!
//! Each thread has a table of slots, one for each index of a [`Key`]. A slot says which local its value is of, by
//! the id: an index is used again, an id is not. So nobody clears the slots of other threads when a local goes: what
//! they hold has an id that nobody asks for any more. A hit reads the table and writes one word of the thread's own.
//!
//! A slot points to a value that it doesn't own. `Values` owns it, and gives it up in three cases only:
//!
//! - the thread takes it away or replaces it: the slot is changed with it;
//! - the thread ends: the slot is cleared before the value is dropped;
//! - the local is dropped: then nobody is inside of its methods, and nobody asks for its id again.
//!
//! In the first two a closure of `with` may be using the value, further up the stack: then it is kept, see `in_use`.
//!
//! Nothing here has a destructor, so that values can be looked up while thread-locals are destroyed, until the very
//! callback that drops them. The table itself goes with the thread's sentinel.

use std::cell::Cell;
use std::iter;
use std::mem;
use std::ptr::{self, NonNull};

use super::key::Key;
use super::{LocalError, sentinel};
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

/// What a thread knows of its values.
struct Thread {
    /// Invariant: null, or a boxed slice of `len` slots, which belongs to this thread.
    slots: Cell<*mut Slot>,
    len: Cell<usize>,
}

// Without a destructor, so that it works while thread-locals are destroyed. Not everywhere: hence `try_with`.
local! {
    static THREAD: Thread = Thread {
        slots: Cell::new(ptr::null_mut()),
        len: Cell::new(0),
    }
}

impl Thread {
    fn slot(&self, key: Key) -> Option<&Slot> {
        if key.index >= self.len.get() {
            return None;
        }
        // SAFETY: by the invariant there is a slot at that index. The table is replaced by `grow` and given up by
        // `end_thread` only, on this thread, and nobody holds a reference to a slot across either.
        Some(unsafe { &*self.slots.get().add(key.index) })
    }

    /// Makes room for a slot at the index.
    #[cold]
    fn grow(&self, index: usize) {
        let len = (index + 1).next_power_of_two().max(8);
        let new: Box<[Slot]> = iter::repeat_with(Slot::empty).take(len).collect();
        // The allocator may have used a local, and have grown the table before us.
        if index < self.len.get() {
            return;
        }
        let old = self.take_slots();
        for (new, old) in new.iter().zip(&old) {
            new.id.set(old.id.get());
            new.value.set(old.value.get());
        }
        self.len.set(len);
        self.slots.set(Box::into_raw(new).cast());
        drop(old);
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

/// The calling thread is making its value of a local. If this goes before the value is there, nothing is left behind.
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
