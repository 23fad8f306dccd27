//! The local handle, and the node that it counts.

use std::cell::Cell;
use std::cmp;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::rc::Rc;

use super::nodes::{Address, Entry, Nodes};
use crate::table::overflow;
use crate::{Internable, Interned};

/// A handle to the one instance of a value that stays on its thread, from a [`LocalInterner`](crate::LocalInterner).
///
/// One pointer wide. Its clones are counted without atomics, and count as one shared handle together. Equality,
/// hash and order are those of [`Interned`], also between the two. It is covariant in `T` and outlives front and
/// interner. It never leaves its thread; [`share`](Self::share) it for that.
///
/// # Examples
///
/// ```
/// use hapax::{Interned, Interner, LocalInterned, LocalInterner};
///
/// let names = Interner::<str>::new();
/// let alpha = LocalInterner::new(&names).intern("alpha");
/// let clones = vec![alpha.clone(); 10];
/// assert_eq!(alpha.len(), 5);
/// assert_eq!(Interned::ref_count(LocalInterned::as_shared(&alpha)), 1);
/// ```
pub struct LocalInterned<T: ?Sized + Internable> {
    /// Invariant: this is one of the node's handles.
    ///
    /// An `Rc` would do as well, with a count more. But lints would take handles for keys that change.
    node: NonNull<LocalNode<T>>,
    value: PhantomData<T>,
}

/// What the local handles of one value on one front have in common.
struct LocalNode<T: ?Sized + Internable> {
    handles: Cell<usize>,
    shared: Interned<T>,
    /// Invariant: they list this node exactly as long as it has handles, except while it is made.
    nodes: Rc<Nodes>,
}

impl<T: ?Sized + Internable> LocalNode<T> {
    fn hash_value(&self) -> u64 {
        Interned::hash_value(&self.shared)
    }

    #[inline]
    fn count_up(&self) {
        match self.handles.get().checked_add(1) {
            Some(handles) => self.handles.set(handles),
            None => overflow(),
        }
    }
}

impl<T: ?Sized + Internable> LocalInterned<T> {
    /// The first handle of a shared one for which these nodes have none.
    pub(super) fn new(shared: Interned<T>, nodes: &Rc<Nodes>) -> Self {
        let node = Box::new(LocalNode {
            handles: Cell::new(1),
            shared,
            nodes: nodes.clone(),
        });
        let this = Self {
            node: NonNull::from(Box::leak(node)),
            value: PhantomData,
        };
        let node = this.node();
        let entry = Entry {
            local: this.node.cast(),
            shared: node.shared.0.as_node_ptr(),
        };
        nodes.insert(node.hash_value(), entry);
        this
    }

    /// A further handle of a node.
    ///
    /// # Safety
    ///
    /// It is the address of a node for `T` that is listed.
    #[inline]
    pub(super) unsafe fn from_listed(node: Address) -> Self {
        let node = node.cast::<LocalNode<T>>();
        // SAFETY: a node that is listed has a handle, which keeps it.
        unsafe { node.as_ref() }.count_up();
        Self {
            node,
            value: PhantomData,
        }
    }

    #[inline]
    fn node(&self) -> &LocalNode<T> {
        // SAFETY: a handle keeps its node.
        unsafe { self.node.as_ref() }
    }

    /// Ends a node.
    ///
    /// # Safety
    ///
    /// Its last handle has gone.
    #[inline(never)]
    unsafe fn end(node: NonNull<LocalNode<T>>) {
        // SAFETY: `new` has it from a box, and nobody else has it: there are no handles, and it is unlisted before
        // anything else is called.
        let node = unsafe { Box::from_raw(node.as_ptr()) };
        node.nodes
            .remove(node.hash_value(), NonNull::from(&*node).cast());
        // User code, perhaps, while the list is still there.
        drop(node);
    }

    /// A shared handle to the same instance, which may go to other threads.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, LocalInterned, LocalInterner};
    /// let names = Interner::<str>::new();
    /// let alpha = LocalInterner::new(&names).intern("alpha");
    /// let shared = LocalInterned::share(&alpha);
    /// std::thread::scope(|scope| scope.spawn(move || assert_eq!(shared, *"alpha")).join()).unwrap();
    /// ```
    pub fn share(this: &Self) -> Interned<T> {
        Self::as_shared(this).clone()
    }

    /// The shared handle that the local ones stand for. Nothing is counted.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interned, Interner, LocalInterned, LocalInterner};
    /// use std::collections::HashMap;
    ///
    /// let names = Interner::<str>::new();
    /// let ages: HashMap<Interned<str>, u32> = [(names.intern("alpha"), 30)].into();
    /// let alpha = LocalInterner::new(&names).intern("alpha");
    /// assert_eq!(ages[LocalInterned::as_shared(&alpha)], 30);
    /// ```
    #[inline]
    pub fn as_shared(this: &Self) -> &Interned<T> {
        &this.node().shared
    }

    /// Whether two handles lead to the same instance. The same as `==`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use hapax::{Interner, LocalInterned, LocalInterner};
    /// let names = Interner::<str>::new();
    /// let fronts = [LocalInterner::new(&names), LocalInterner::new(&names)];
    /// assert!(LocalInterned::ptr_eq(&fronts[0].intern("alpha"), &fronts[1].intern("alpha")));
    /// ```
    #[inline]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        Interned::ptr_eq(&this.node().shared, &other.node().shared)
    }
}

impl<T: ?Sized + Internable> Clone for LocalInterned<T> {
    #[inline]
    fn clone(&self) -> Self {
        self.node().count_up();
        Self {
            node: self.node,
            value: PhantomData,
        }
    }
}

impl<T: ?Sized + Internable> Drop for LocalInterned<T> {
    #[inline]
    fn drop(&mut self) {
        let handles = self.node().handles.get() - 1;
        self.node().handles.set(handles);
        if handles == 0 {
            // SAFETY: this was the last.
            unsafe { Self::end(self.node) };
        }
    }
}

impl<T: ?Sized + Internable> Deref for LocalInterned<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.node().shared
    }
}

impl<T: ?Sized + Internable> AsRef<T> for LocalInterned<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: ?Sized + Internable> From<LocalInterned<T>> for Interned<T> {
    fn from(local: LocalInterned<T>) -> Self {
        LocalInterned::share(&local)
    }
}

impl<T: ?Sized + Internable> PartialEq for LocalInterned<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        Self::ptr_eq(self, other)
    }
}

impl<T: ?Sized + Internable> Eq for LocalInterned<T> {}

impl<T: ?Sized + Internable> PartialEq<Interned<T>> for LocalInterned<T> {
    #[inline]
    fn eq(&self, other: &Interned<T>) -> bool {
        self.node().shared == *other
    }
}

impl<T: ?Sized + Internable> PartialEq<LocalInterned<T>> for Interned<T> {
    #[inline]
    fn eq(&self, other: &LocalInterned<T>) -> bool {
        *self == other.node().shared
    }
}

/// As that of the shared handle.
impl<T: ?Sized + Internable> Hash for LocalInterned<T> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.node().shared.hash(state);
    }
}

/// By value; by address, where values of several interners are equal.
impl<T: ?Sized + Internable + Ord> Ord for LocalInterned<T> {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.node().shared.cmp(&other.node().shared)
    }
}

impl<T: ?Sized + Internable + Ord> PartialOrd for LocalInterned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: ?Sized + Internable + fmt::Debug> fmt::Debug for LocalInterned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + Internable + fmt::Display> fmt::Display for LocalInterned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The address of the value.
impl<T: ?Sized + Internable> fmt::Pointer for LocalInterned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Pointer::fmt(&self.node().shared, f)
    }
}

impl<T: ?Sized + Internable + RefUnwindSafe> UnwindSafe for LocalInterned<T> {}
impl<T: ?Sized + Internable + RefUnwindSafe> RefUnwindSafe for LocalInterned<T> {}

#[cfg(test)]
mod tests {
    use crate::table::expect_overflow;
    use crate::{Interner, LocalInterner};

    /// The abort of a count that has run away, in a process of its own.
    #[test]
    #[cfg_attr(miri, ignore = "starts a process")]
    fn too_many_local_handles_abort_with_a_message() {
        let test = "too_many_local_handles_abort_with_a_message";
        expect_overflow(test, &["clone", "intern"], |way| {
            let names = Interner::<str>::new();
            let local = LocalInterner::new(&names);
            let alpha = local.intern("alpha");
            alpha.node().handles.set(usize::MAX);
            match way {
                "clone" => std::mem::forget(alpha.clone()),
                _ => std::mem::forget(local.intern("alpha")),
            }
        });
    }
}
