//! The drop hook of a table: set, replaced and cleared while threads use it.

use std::ptr::NonNull;
use std::sync::Arc;

use super::count::Count;
use super::node::{Node, Payload};
use super::primitive::{AtomicBool, Ordering, Slot};

/// A function that the user wants called with each value that dies, with its type erased.
pub(crate) struct Hook(Box<dyn Fn(NonNull<Node>) + Send + Sync>);

impl Hook {
    /// # Safety
    ///
    /// It is called only with nodes that were built for `T`, while their value is alive.
    pub(super) unsafe fn new<'a, T: ?Sized + Payload + 'a>(
        f: impl Fn(&T) + Send + Sync + 'static,
    ) -> Self {
        type Erased<'a> = Box<dyn Fn(NonNull<Node>) + Send + Sync + 'a>;
        // SAFETY: by the caller's promise.
        let erased: Erased<'a> = Box::new(move |node| f(unsafe { &*T::value(node.cast()) }));
        // SAFETY: the closure owns nothing but `f`, which is `'static`. Only its type mentions `T`, whose
        // life may be shorter, and it isn't called any more when the values are gone.
        Self(unsafe { std::mem::transmute::<Erased<'a>, Erased<'static>>(erased) })
    }

    /// Runs the user's function.
    pub(super) fn call(&self, node: NonNull<Node>) {
        (self.0)(node);
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

/// Where a table keeps its hook.
#[derive(Debug)]
pub(super) struct HookSlot {
    /// Whether there is one: reading the slot costs two read-modify-writes, this a load.
    ///
    /// Relaxed throughout. A value that dies while the hook changes may meet either, and a change that comes
    /// before a death comes before it in all that follows: the flag publishes nothing. The slot's own changes
    /// are totally ordered, so that flag and slot agree in the end.
    set: AtomicBool,
    slot: Slot<Hook>,
}

impl HookSlot {
    pub(super) fn new() -> Self {
        Self {
            set: AtomicBool::new(false),
            slot: Slot::new(),
        }
    }

    pub(super) fn store(&self, hook: Option<Hook>) {
        // Relaxed: see the field.
        let Some(hook) = hook else {
            self.set.store(false, Ordering::Relaxed);
            return self.slot.store(None);
        };
        self.slot.store(Some(Arc::new(hook)));
        self.set.store(true, Ordering::Relaxed);
    }

    /// The hook for a value that was just closed, unless it never was an entry.
    #[inline]
    pub(super) fn load(&self, closed: Count) -> Option<Arc<Hook>> {
        // Relaxed: see the field.
        if !self.set.load(Ordering::Relaxed) || closed.is_unpublished() {
            return None;
        }
        self.slot.load()
    }
}
