//! The end of a value: the last release, its closer, and what the closer runs.
//!
//! See "Release" in the essay of `table/mod.rs`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::Table;
use super::count::{Count, Released};
use super::hook::Hook;
use super::node::{Node, Payload, needs_drop};
use super::primitive::local;
use super::retire::{self, Guard, pin};
use super::side::{Registration, SideRef, caught};
use super::walk::Walk;

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
        SideRef::of(self.node())
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
            .upgrade(false)
            .then(|| unsafe { Self::from_counted(NonNull::from(node)) })
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
        let node = self.node();
        // After the release the node may be gone. What the last one needs is read before.
        let (key, table) = (node.key, node.table());
        match node.count.release() {
            Released::Others => {}
            // SAFETY: the count went to zero through us.
            Released::Last(count) => unsafe {
                release_last::<T>(self.node, key, table, count.generation());
            },
            // SAFETY: the node is ours, and its table no longer knows it.
            Released::Detached(count) => unsafe {
                destroy::<T>(Dying::new(self.node, table, count, None));
            },
        }
    }
}

impl<T: Payload> Ref<T> {
    /// Moves the value out, if this is the only handle. Weak handles see it dead; no hook runs.
    pub(crate) fn try_unwrap(self) -> Result<T, Self> {
        let guard = pin();
        let node = self.node();
        let table = node.table();
        let Some(count) = node.count.unwrap() else {
            return Err(self);
        };
        // The teardown of the table hadn't come to this node, so it can't end while we are pinned.
        if !count.is_detached() {
            node.next.mark();
            table.pass_by(node, &guard);
            table.forget(count);
        }
        // SAFETY: closed by us, and no longer in the table. The handle's count went with it.
        let dying = unsafe { Dying::new(ManuallyDrop::new(self).node, table, count, None) };
        drop(guard);
        // SAFETY: the value is alive and nobody else will touch it.
        let value = unsafe { T::value(dying.node.cast()).read() };
        let mut panics = FirstPanic::default();
        if let Some(side) = &dying.side {
            side.run_callbacks(&mut panics);
        }
        // SAFETY: the value has moved away.
        unsafe { dying.retire::<T>() };
        panics.resume();
        Ok(value)
    }
}

/// A release took the count to zero.
///
/// **The node must not be touched before it is found again**: since the decrement another thread may have
/// revived it, released it, closed it and given its memory back.
///
/// # Safety
///
/// The table was made for values of type `T` when it had this generation.
#[inline(never)]
unsafe fn release_last<T: ?Sized + Payload>(
    node: NonNull<Node>,
    key: u64,
    table: &'static Table,
    generation: u32,
) {
    if let Some(dying) = table.close(node.as_ptr(), key, generation) {
        // SAFETY: closed by us; the generation says that it is of type `T`.
        unsafe { destroy::<T>(dying) };
    }
}

impl Table {
    /// Closes the node at that address and takes it out of the table, if it is there and still has no
    /// handles. `None` if somebody else has closed or revived it: then nothing is owed.
    #[inline]
    fn close(&'static self, address: *const Node, key: u64, generation: u32) -> Option<Dying> {
        let guard = pin();
        // The teardown has closed what was left to close. If it comes to its end only now, it waits
        // for our pin before the table can serve another owner.
        if self.generation() != generation {
            return None;
        }
        let mut walk = Walk::new(self, key, &guard);
        let node = walk.seek_address(address)?;
        let count = node.count.try_close()?;
        let frozen = node.next.mark();
        if !walk.unlink(frozen) {
            self.pass_by(node, &guard);
        }
        self.forget(count);
        // SAFETY: closed by us and no longer in the list.
        Some(unsafe { Dying::new(NonNull::from(node), self, count, self.hook.load(count)) })
    }

    /// Makes sure that a MARKed node is no longer linked: a walk that comes past its place unlinks it.
    pub(super) fn pass_by(&self, node: &Node, guard: &Guard) {
        let met = Walk::new(self, node.key, guard).seek_address(node);
        debug_assert!(met.is_none(), "a walk unlinks what is marked");
    }

    /// Counts an entry out, if it was counted.
    fn forget(&self, count: Count) {
        if count.was_visible() {
            self.entries.subtract();
        }
    }

    /// Empties a table whose owner is going: values without handles die, the others live on by
    /// themselves. Nobody looks up or inserts any more; droppers and weak handles may be at work.
    ///
    /// # Safety
    ///
    /// The table was made for values of type `T`.
    pub(super) unsafe fn tear_down<T: ?Sized + Payload>(&'static self, panics: &mut FirstPanic) {
        while let Some(detached) = self.detach_first() {
            if let Some(dying) = detached {
                // SAFETY: closed by us; it is of type `T`.
                panics.catch(|| unsafe { destroy::<T>(dying) });
            }
        }
    }

    /// Takes the first item out of the list. `None` if there is none.
    fn detach_first(&'static self) -> Option<Option<Dying>> {
        let guard = pin();
        let super::link::Target::Node(node) = self.pop_first(&guard)? else {
            return Some(None);
        };
        // From here on the last handle's release closes the node without looking for it.
        let Some(count) = node.count.detach() else {
            return Some(None);
        };
        // The one who took the count to zero finds nothing any more, so we close it.
        let hook = self.hook.load(count);
        // SAFETY: closed by us and no longer in the list.
        Some(Some(unsafe {
            Dying::new(NonNull::from(node), self, count, hook)
        }))
    }
}

/// Which table a value belongs to, for its whole life.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Home {
    table: *const Table,
    generation: u32,
}

/// A value that is closed and out of its table, and what is left to do for it.
struct Dying {
    node: NonNull<Node>,
    home: Home,
    side: Option<SideRef>,
    hook: Option<Arc<Hook>>,
}

impl Dying {
    /// # Safety
    ///
    /// The caller has closed the node, and it is out of its table.
    unsafe fn new(
        node: NonNull<Node>,
        table: &'static Table,
        count: Count,
        hook: Option<Arc<Hook>>,
    ) -> Self {
        let home = Home {
            table,
            generation: count.generation(),
        };
        // SAFETY: a closed node stays until its closer retires it.
        let side = SideRef::take(unsafe { node.as_ref() });
        Self {
            node,
            home,
            side,
            hook,
        }
    }

    /// Runs hook, destructor and callbacks, and retires the memory.
    ///
    /// # Safety
    ///
    /// The value is of type `T`.
    unsafe fn run<T: ?Sized + Payload>(mut self, panics: &mut FirstPanic) {
        if let Some(hook) = &self.hook {
            panics.catch(|| hook.call(self.node));
        }
        // SAFETY: nobody has a handle, and nobody gets one.
        panics.catch(|| unsafe { ptr::drop_in_place(T::value(self.node.cast())) });
        if let Some(side) = &self.side {
            side.run_callbacks(panics);
        }
        // SAFETY: the value is gone.
        unsafe { self.retire::<T>() };
        // It may have been replaced, and this the last reference to it.
        let hook = self.hook.take();
        panics.catch(|| drop(hook));
    }

    /// # Safety
    ///
    /// The value is of type `T`, and gone.
    unsafe fn retire<T: ?Sized + Payload>(&self) {
        // SAFETY: the node was built for `T`; it is closed, unlinked, and retired by its closer only.
        unsafe { retire::retire(self.node, T::layout(self.node.cast())) };
    }
}

/// Does what is left to do for a value.
///
/// # Safety
///
/// The value is of type `T`.
#[inline]
unsafe fn destroy<T: ?Sized + Payload>(dying: Dying) {
    if !needs_drop::<T>() && dying.hook.is_none() && dying.side.is_none() {
        // SAFETY: there is nothing to run for the value.
        unsafe { dying.retire::<T>() };
    } else {
        // SAFETY: as for the caller.
        unsafe { Frame::destroy::<T>(dying) };
    }
}

/// A table of which this thread is destroying a value, and further values of that table which died from
/// it. They wait for their turn, so that a chain of them needs no deep stack; but they don't outlive the
/// frame, because they may borrow from what comes after it.
struct Frame {
    home: Home,
    queue: RefCell<Vec<Dying>>,
    outer: *const Frame,
}

// Without a destructor, so that it works while thread-locals are destroyed.
local! { static INNERMOST: Cell<*const Frame> = Cell::new(ptr::null()) }

impl Frame {
    /// # Safety
    ///
    /// The value is of type `T`.
    unsafe fn destroy<T: ?Sized + Payload>(dying: Dying) {
        let Some(dying) = Self::hand_over(dying) else {
            return;
        };
        let frame = Self {
            home: dying.home,
            queue: RefCell::default(),
            outer: INNERMOST.with(Cell::get),
        };
        let mut panics = FirstPanic::default();
        INNERMOST.with(|innermost| innermost.set(&raw const frame));
        // SAFETY: as for the caller.
        unsafe { dying.run::<T>(&mut panics) };
        while let Some(dying) = frame.next() {
            // SAFETY: it is of the same table in the same generation, and so of the same type.
            unsafe { dying.run::<T>(&mut panics) };
        }
        drop(frame);
        panics.resume();
    }

    /// Queues the value if this thread is destroying one of its table. Otherwise gives it back.
    fn hand_over(dying: Dying) -> Option<Dying> {
        let mut next = INNERMOST.with(Cell::get);
        // SAFETY: frames are on the stack of this thread, and leave the list when they end.
        while let Some(frame) = unsafe { next.as_ref() } {
            if frame.home == dying.home {
                frame.queue.borrow_mut().push(dying);
                return None;
            }
            next = frame.outer;
        }
        Some(dying)
    }

    fn next(&self) -> Option<Dying> {
        self.queue.borrow_mut().pop()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        INNERMOST.with(|innermost| innermost.set(self.outer));
    }
}

/// The first of several panics. The others are reported by the panic hook and dropped.
#[derive(Default)]
pub(crate) struct FirstPanic(Option<Box<dyn Any + Send>>);

impl FirstPanic {
    pub(crate) fn catch(&mut self, f: impl FnOnce()) {
        let Err(panic) = caught(f) else { return };
        if self.0.is_none() {
            self.0 = Some(panic);
        } else if let Err(nested) = caught(|| drop(panic)) {
            // The destructor of a panic's payload panicked: there is nobody left to tell.
            std::mem::forget(nested);
        }
    }

    pub(crate) fn resume(self) {
        if let Some(panic) = self.0 {
            panic::resume_unwind(panic);
        }
    }
}
