//! The end of a value: the last release, its closer, and what the closer runs.
//!
//! See "Release" in the essay of `table/mod.rs`.

use std::cell::{Cell, RefCell};
use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::Table;
use super::count::Count;
use super::hook::Hook;
use super::node::{Node, NodeRef, Payload};
use super::panics::FirstPanic;
use super::primitive::local;
use super::reference::Ref;
use super::retire::{self, Guard, pin};
use super::side::SideRef;
use super::walk::Walk;

/// Gives a count back; the last one ends the value.
///
/// # Safety
///
/// The caller holds that count, on a node that was built for `T`, and forgets it.
#[inline]
pub(super) unsafe fn release<T: ?Sized + Payload>(node: NonNull<Node>) {
    // SAFETY: the caller's count keeps the node, until it is given back.
    if unsafe { node.as_ref() }.count.release() {
        // SAFETY: this thread is the closer; as for the caller.
        unsafe { release_last::<T>(node) };
    }
}

/// A release took the count to zero.
///
/// # Safety
///
/// This thread is the closer of the node, which was built for `T`, and hasn't looked yet.
#[inline(never)]
unsafe fn release_last<T: ?Sized + Payload>(node: NonNull<Node>) {
    let guard = pin();
    // SAFETY: the node stays until its closer has looked at it, and then until the pin from before the look is gone.
    let closed = unsafe { close(NodeRef::new(node), &guard) };
    drop(guard);
    if let Some(dying) = closed {
        // SAFETY: as for the caller.
        unsafe { destroy::<T>(dying) };
    }
}

/// Closes the node and takes it out of its table, if it still has no handles. `None` if somebody has revived it: then
/// nothing is owed.
///
/// # Safety
///
/// As for `release_last`.
#[inline]
unsafe fn close(node: NodeRef<'_>, guard: &Guard) -> Option<Dying> {
    // Nothing else of the node before: who resigns may be followed by another closer at once.
    let count = node.count.close()?;
    let table = node.table();
    // A detached one is out already. If the teardown comes to this one only now, it waits for our pin before the
    // table can serve another owner.
    let hook = if count.is_detached() {
        None
    } else {
        table.take_out(&node, count, guard);
        table.hook.load(count)
    };
    // SAFETY: closed by us and no longer in the list.
    Some(unsafe { Dying::new(node.as_ptr(), table, count, hook) })
}

impl Table {
    /// Takes a closed node out of the list.
    fn take_out(&self, node: &Node, closed: Count, guard: &Guard) {
        let mut walk = Walk::new(self, node.key, guard);
        if walk.seek_address(node).is_some() {
            let frozen = node.next.mark();
            if !walk.unlink(node, frozen) {
                // A walk that comes past the place unlinks what is marked.
                let met = Walk::new(self, node.key, guard).seek_address(node);
                debug_assert!(met.is_none(), "a walk unlinks what is marked");
            }
        } else {
            // Who met it dead, or tears the table down, has unlinked it.
            debug_assert!(node.next.load().is_marked(), "it was linked");
        }
        self.discount(closed);
    }
}

impl<T: Payload> Ref<T> {
    /// Moves the value out, if this is the only handle, and nobody is giving another one back. Weak handles see it
    /// dead; no hook runs.
    pub(crate) fn try_unwrap(self) -> Result<T, Self> {
        let guard = pin();
        let node = self.node();
        let table = node.table();
        let Some(count) = node.count.close_sole() else {
            return Err(self);
        };
        // The teardown of the table hadn't come to this node, so it can't end while we are pinned.
        if !count.is_detached() {
            table.take_out(node, count, &guard);
        }
        // SAFETY: closed by us, and no longer in the table. The handle's count went with it.
        let dying =
            unsafe { Dying::new(ManuallyDrop::new(self).as_node_ptr(), table, count, None) };
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
    if !mem::needs_drop::<T>() && dying.hook.is_none() && dying.side.is_none() {
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
    /// The last one that came dies next.
    waiting: RefCell<Vec<Dying>>,
    outer: *const Frame,
}

// Without a destructor, so that it works while thread-locals are destroyed.
local! { static INNERMOST: Cell<*const Frame> = Cell::new(ptr::null()) }

impl Frame {
    /// # Safety
    ///
    /// The value is of type `T`.
    unsafe fn destroy<T: ?Sized + Payload>(dying: Dying) {
        let Err(dying) = Self::hand_over(dying) else {
            return;
        };
        let frame = Self {
            home: dying.home,
            waiting: RefCell::default(),
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

    /// Lets the value wait if this thread is destroying one of its table. Otherwise gives it back.
    fn hand_over(dying: Dying) -> Result<(), Dying> {
        let mut next = INNERMOST.with(Cell::get);
        // SAFETY: frames are on the stack of this thread, and leave the list when they end.
        while let Some(frame) = unsafe { next.as_ref() } {
            if frame.home == dying.home {
                frame.waiting.borrow_mut().push(dying);
                return Ok(());
            }
            next = frame.outer;
        }
        Err(dying)
    }

    fn next(&self) -> Option<Dying> {
        self.waiting.borrow_mut().pop()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        INNERMOST.with(|innermost| innermost.set(self.outer));
    }
}
