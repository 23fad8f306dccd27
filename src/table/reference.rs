//! The counted reference that every handle is made of.

use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::Arc;

use super::close;
use super::node::{Node, NodeRef, Payload};
use super::retire::pin;
use super::side::{Registration, SideRef};

/// A counted reference to the value of a node: what every handle is made of.
#[repr(transparent)]
pub(crate) struct Ref<T: ?Sized + Payload> {
    /// Invariant: this holds one count of the node.
    node: NonNull<Node>,
    value: PhantomData<T>,
}

// SAFETY:
// - `T: Send`, because the last of the handles drops the value, on whatever thread it is.
// - `T: Sync`, because handles on other threads lead to the same value.
unsafe impl<T: ?Sized + Payload + Send + Sync> Send for Ref<T> {}
// SAFETY: as above; a shared handle can be cloned.
unsafe impl<T: ?Sized + Payload + Send + Sync> Sync for Ref<T> {}

impl<T: ?Sized + Payload + RefUnwindSafe> UnwindSafe for Ref<T> {}
impl<T: ?Sized + Payload + RefUnwindSafe> RefUnwindSafe for Ref<T> {}

impl<T: ?Sized + Payload> Ref<T> {
    /// Takes over one count.
    ///
    /// # Safety
    ///
    /// The caller has taken a count on a node that was built for `T`, and forgets it.
    #[inline]
    pub(crate) unsafe fn from_counted(node: NonNull<Node>) -> Self {
        Self {
            node,
            value: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn node(&self) -> &Node {
        // SAFETY: our count keeps the node.
        unsafe { self.node.as_ref() }
    }

    #[inline]
    pub(super) fn node_ref(&self) -> NodeRef<'_> {
        // SAFETY: our count keeps the node.
        unsafe { NodeRef::new(self.node) }
    }

    pub(crate) fn as_node_ptr(&self) -> NonNull<Node> {
        self.node
    }

    /// The value, with the provenance of the whole node.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *const T {
        // SAFETY: the node was built for `T`.
        unsafe { T::value(self.node.cast()) }
    }

    #[inline]
    pub(crate) fn value(&self) -> &T {
        // SAFETY: our count keeps the value alive, and nobody has it exclusively.
        unsafe { &*self.as_ptr() }
    }

    /// A weak handle's part.
    pub(crate) fn downgrade(&self) -> SideRef {
        SideRef::of(self.node_ref())
    }

    /// A weak handle's part, with a callback.
    pub(crate) fn downgrade_with(
        &self,
        f: impl FnOnce() + Send + 'static,
    ) -> (SideRef, Arc<Registration>) {
        let side = self.downgrade();
        let registration = side.register(Box::new(f));
        (side, registration)
    }

    /// Takes a count through a weak handle.
    ///
    /// # Safety
    ///
    /// The record is of a node that was built for `T`.
    pub(crate) unsafe fn upgrade(side: &SideRef) -> Option<Self> {
        let guard = pin();
        let node = side.node(&guard)?;
        // SAFETY: `upgrade` has taken a count, on a node of type `T`.
        node.count
            .upgrade()
            .then(|| unsafe { Self::from_counted(node.as_ptr()) })
    }

    /// Removes the entry from its table, while its handles live on. `false` if it was removed before.
    pub(crate) fn hide(&self) -> bool {
        let removed = self.node().count.hide();
        if removed {
            self.node().table().entries.subtract();
        }
        removed
    }
}

impl<T: ?Sized + Payload> Clone for Ref<T> {
    #[inline]
    fn clone(&self) -> Self {
        self.node().count.clone_handle();
        Self {
            node: self.node,
            value: PhantomData,
        }
    }
}

impl<T: ?Sized + Payload> Drop for Ref<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this gives back the one count that we hold, on a node that was built for `T`.
        unsafe { close::release::<T>(self.node) };
    }
}
