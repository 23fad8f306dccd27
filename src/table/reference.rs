//! The reference that every handle is made of: counted, unless it knows its value to be immortal.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::Arc;

use super::close;
use super::count::Found;
use super::node::{Node, NodeRef, Payload};
use super::retire::pin;
use super::side::{Registration, SideRef};

/// A counted reference to the value of a node: what every handle is made of. It knows of an immortal value what it
/// is, and touches its count no more.
#[repr(transparent)]
pub(crate) struct Ref<T: ?Sized + Payload> {
    /// The node, tagged if it is known to be immortal. Invariant: this holds one count of the node, or is tagged.
    tagged: NonNull<Node>,
    value: PhantomData<T>,
}

/// Tag of a reference that knows its value to be immortal.
const IMMORTAL: usize = 4;

const _: () = assert!(align_of::<Node>() > IMMORTAL);

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
            tagged: node,
            value: PhantomData,
        }
    }

    /// # Safety
    ///
    /// The node was built for `T`, and is immortal.
    unsafe fn immortal(node: NonNull<Node>) -> Self {
        let tagged = node.as_ptr().map_addr(|addr| addr | IMMORTAL);
        Self {
            // SAFETY: a tag doesn't make it null.
            tagged: unsafe { NonNull::new_unchecked(tagged) },
            value: PhantomData,
        }
    }

    /// What a finder got; `None` if that was nothing.
    ///
    /// # Safety
    ///
    /// The caller got `found` from the node, which was built for `T`, and forgets it.
    #[inline]
    pub(super) unsafe fn from_found(node: NodeRef<'_>, found: Found) -> Option<Self> {
        match found {
            Found::Dead => None,
            // SAFETY: the node says so.
            Found::Immortal => Some(unsafe { Self::immortal(node.as_ptr()) }),
            // SAFETY: as for the caller.
            _ => Some(unsafe { Self::from_counted(node.as_ptr()) }),
        }
    }

    /// Whether this reference knows its value to be immortal.
    #[inline]
    fn is_tagged(&self) -> bool {
        self.tagged.addr().get() & IMMORTAL != 0
    }

    /// Whether the value never dies.
    pub(crate) fn is_immortal(&self) -> bool {
        self.is_tagged() || self.node().is_immortal()
    }

    /// The same reference, to a value that never dies from now on. It counts no more.
    pub(crate) fn immortalize(self) -> Self {
        if self.is_tagged() {
            return self;
        }
        let this = ManuallyDrop::new(self);
        this.node().immortalize();
        // SAFETY: it is immortal now, and our count was given back.
        unsafe { Self::immortal(this.as_node_ptr()) }
    }

    /// Lets go of the reference, which counts from here on, whatever it knew.
    pub(crate) fn into_counted(self) -> NonNull<Node> {
        let this = ManuallyDrop::new(self);
        if this.is_tagged() {
            this.node().count.clone_handle();
        }
        this.as_node_ptr()
    }

    #[inline]
    pub(crate) fn node(&self) -> &Node {
        // SAFETY: our count keeps the node, or it stays for ever.
        unsafe { self.as_node_ptr().as_ref() }
    }

    #[inline]
    pub(super) fn node_ref(&self) -> NodeRef<'_> {
        // SAFETY: as above.
        unsafe { NodeRef::new(self.as_node_ptr()) }
    }

    /// The node's address, which is the same for all references to a value.
    #[inline]
    pub(crate) fn as_node_ptr(&self) -> NonNull<Node> {
        let node = self.tagged.as_ptr().map_addr(|addr| addr & !IMMORTAL);
        // SAFETY: a node's address isn't null.
        unsafe { NonNull::new_unchecked(node) }
    }

    /// The value, with the provenance of the whole node.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *const T {
        // SAFETY: the node was built for `T`.
        unsafe { T::value(self.as_node_ptr().cast()) }
    }

    #[inline]
    pub(crate) fn value(&self) -> &T {
        // SAFETY: our count keeps the value alive, or it is immortal, and nobody has it exclusively.
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
        // SAFETY: it is of type `T`.
        unsafe { Self::from_found(node, node.count.upgrade()) }
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
        if !self.is_tagged() {
            self.node().count.clone_handle();
        }
        Self {
            tagged: self.tagged,
            value: PhantomData,
        }
    }
}

impl<T: ?Sized + Payload> Drop for Ref<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_tagged() {
            // SAFETY: this gives back the one count that we hold, on a node that was built for `T`.
            unsafe { close::release::<T>(self.tagged) };
        }
    }
}
