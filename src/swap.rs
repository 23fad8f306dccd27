//! Feature `arc-swap`: handles in an `ArcSwapAny`.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use arc_swap::RefCnt;

use crate::cached::Entry;
use crate::table::{Internable, Node, Payload, Ref};
use crate::{Cached, Interned};

/// What handles lead to, for [`arc_swap::RefCnt`]. Opaque: there is nothing to do with it but to hold a
/// pointer.
///
/// # Examples
///
/// ```
/// use arc_swap::ArcSwapAny;
/// use hapax::{Interned, Interner};
///
/// let names = Interner::<str>::new();
/// let current: ArcSwapAny<Interned<str>> = ArcSwapAny::new(names.intern("alpha"));
/// current.store(names.intern("beta"));
/// assert_eq!(*current.load(), *"beta");
/// assert_eq!(names.len(), 1);
/// ```
#[derive(Debug)]
pub struct Pointee {
    _node: Node,
}

fn as_ptr<T: ?Sized + Payload>(entry: &Ref<T>) -> *mut Pointee {
    entry.as_tagged().as_ptr().cast()
}

/// # Safety
///
/// The pointer came from `as_ptr` for a count that the caller hands over.
unsafe fn from_ptr<T: ?Sized + Payload>(pointer: *const Pointee) -> Ref<T> {
    // SAFETY: the pointer is a tagged node's, and not null, by the caller's promise.
    unsafe { Ref::from_tagged(NonNull::new_unchecked(pointer.cast_mut().cast())) }
}

// SAFETY: the pointer is the node's address, and not null; a node is aligned to eight bytes, and the tag of an
// immortal one leaves arc-swap's two bits alone. It is the same for all handles of a value, but for those that don't
// know yet that it is immortal, which arc-swap takes for handles of another value. `into_ptr` keeps what `from_ptr`
// takes over.
unsafe impl<T: ?Sized + Internable> RefCnt for Interned<T> {
    type Base = Pointee;

    fn into_ptr(me: Self) -> *mut Pointee {
        as_ptr(&ManuallyDrop::new(me).0)
    }

    fn as_ptr(me: &Self) -> *mut Pointee {
        as_ptr(&me.0)
    }

    unsafe fn from_ptr(pointer: *const Pointee) -> Self {
        // SAFETY: as for the caller.
        Self::from_ref(unsafe { from_ptr(pointer) })
    }
}

// SAFETY: as above.
unsafe impl<K, V> RefCnt for Cached<K, V> {
    type Base = Pointee;

    fn into_ptr(me: Self) -> *mut Pointee {
        as_ptr(ManuallyDrop::new(me).entry())
    }

    fn as_ptr(me: &Self) -> *mut Pointee {
        as_ptr(me.entry())
    }

    unsafe fn from_ptr(pointer: *const Pointee) -> Self {
        // SAFETY: as for the caller.
        Self::from_ref(unsafe { from_ptr::<Entry<K, V>>(pointer) })
    }
}
