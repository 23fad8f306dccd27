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

/// How far behind the beginning of a node the pointer leads. arc-swap tells pointers of different types apart by
/// nothing but their address, so it must be one that no other type can have: also not one without a size, which may
/// lie at the very end of the allocation before.
const INSIDE: usize = size_of::<u64>();

const _: () = assert!(INSIDE < size_of::<Node>());

fn inside(node: NonNull<Node>) -> *mut Pointee {
    node.as_ptr().wrapping_byte_add(INSIDE).cast()
}

/// # Safety
///
/// The pointer came from `inside`, and the caller hands a count over.
unsafe fn from_ptr<T: ?Sized + Payload>(pointer: *const Pointee) -> Ref<T> {
    let node = pointer.wrapping_byte_sub(INSIDE).cast_mut().cast();
    // SAFETY: the pointer is a node's, and not null, by the caller's promise.
    unsafe { Ref::from_counted(NonNull::new_unchecked(node)) }
}

// SAFETY: the pointer leads into the node, at a multiple of eight bytes. It isn't null, it is the same for all handles
// of a value, and different from the pointers of anything else that is alive. `into_ptr` keeps a count, which
// `from_ptr` takes over.
unsafe impl<T: ?Sized + Internable> RefCnt for Interned<T> {
    type Base = Pointee;

    fn into_ptr(me: Self) -> *mut Pointee {
        inside(me.0.into_counted())
    }

    fn as_ptr(me: &Self) -> *mut Pointee {
        inside(me.0.as_node_ptr())
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
        inside(ManuallyDrop::new(me).entry().as_node_ptr())
    }

    fn as_ptr(me: &Self) -> *mut Pointee {
        inside(me.entry().as_node_ptr())
    }

    unsafe fn from_ptr(pointer: *const Pointee) -> Self {
        // SAFETY: as for the caller.
        Self::from_ref(unsafe { from_ptr::<Entry<K, V>>(pointer) })
    }
}
