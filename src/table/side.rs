//! Side records: what a weak handle keeps instead of the node, and the callbacks of weak handles.
//!
//! The first weak handle of a value hangs a record into the node's owner word. The record outlives the
//! node and its memory. It leads to the node until that dies, then to nothing.
//!
//! Callbacks hang on the record in a stack. They are pushed by threads that hold a strong handle, so none
//! can come while the value dies; its closer takes the whole stack. A callback is *cancelled* when the
//! last weak handle that shares it goes first. One compare-exchange decides between the two: ARMED to
//! TAKEN, or to CANCELLED, and the winner owns the closure. Cancelled records leave the stack with the
//! next registration that finds them outnumbering the others.

use std::cell::{Cell, UnsafeCell};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::Table;
use super::node::{Node, NodeRef, Owner};
use super::panics::FirstPanic;
use super::primitive::{AtomicPtr, AtomicU8, AtomicUsize, Liveness, Ordering};
use super::retire::{Guard, pin};

/// What a value leaves behind for its weak handles.
#[derive(Debug)]
pub(crate) struct Side {
    table: &'static Table,
    /// Null once the value is dead.
    node: AtomicPtr<Node>,
    /// Weak handles, and one for the node.
    holders: AtomicUsize,
    callbacks: AtomicPtr<Callback>,
    /// Callbacks on the stack, and those of them that were cancelled.
    registered: AtomicUsize,
    cancelled: AtomicUsize,
    liveness: Liveness,
}

impl Side {
    pub(super) fn table(&self) -> &'static Table {
        self.liveness.touch();
        self.table
    }

    /// The node, if the value still lives. The pin keeps it readable.
    fn node<'g>(&self, _guard: &'g Guard) -> Option<NodeRef<'g>> {
        // Relaxed: the node was visible to whoever handed us the record.
        let node = self.node.load(Ordering::Relaxed);
        // SAFETY: the closer takes the pointer away before it retires the node. So a pin that the grace
        // period waits for protects what the pointer leads to, and one that comes later reads null.
        Some(unsafe { NodeRef::new(NonNull::new(node)?) })
    }
}

/// A shared hold on a side record.
#[derive(Debug)]
pub(crate) struct SideRef(NonNull<Side>);

// SAFETY: a record is made of atomics, the callbacks it owns are `Send`, and they are called and dropped
// by one thread.
unsafe impl Send for SideRef {}
// SAFETY: as above.
unsafe impl Sync for SideRef {}

impl SideRef {
    /// The record of a node on which the caller holds a count. Made if it isn't there yet.
    pub(super) fn of(node: NodeRef<'_>) -> Self {
        let side = match node.owner() {
            Owner::Side(side) => side,
            Owner::Table(table) => return Self::install(node, table),
        };
        // SAFETY: the node holds a count on its record while the caller holds one on the node.
        unsafe { side.as_ref() }.hold();
        Self(side)
    }

    #[cold]
    fn install(node: NodeRef<'_>, table: &'static Table) -> Self {
        let side = NonNull::from(Box::leak(Box::new(Side {
            table,
            node: AtomicPtr::new(node.as_ptr().as_ptr()),
            holders: AtomicUsize::new(2),
            callbacks: AtomicPtr::new(ptr::null_mut()),
            registered: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            liveness: Liveness::new(),
        })));
        match node.install_side(table, side) {
            Ok(()) => Self(side),
            Err(other) => {
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(side.as_ptr()) });
                // SAFETY: as in `of`.
                unsafe { other.as_ref() }.hold();
                Self(other)
            }
        }
    }

    /// Takes over the hold that a node has on its record. The caller has closed the node.
    ///
    /// From here on weak handles find nothing.
    pub(super) fn take(node: &Node) -> Option<Self> {
        let Owner::Side(side) = node.owner() else {
            return None;
        };
        let side = Self(side);
        // Relaxed: it comes before the node is retired, and the epoch orders the rest.
        side.get().node.store(ptr::null_mut(), Ordering::Relaxed);
        Some(side)
    }

    fn get(&self) -> &Side {
        // SAFETY: the record is alive while somebody holds it.
        let side = unsafe { self.0.as_ref() };
        side.liveness.touch();
        side
    }

    /// The node, if the value still lives and `guard` lets us read it.
    pub(super) fn node<'g>(&self, guard: &'g Guard) -> Option<NodeRef<'g>> {
        self.get().node(guard)
    }

    /// How many strong handles there are.
    pub(crate) fn strong_count(&self) -> u64 {
        let guard = pin();
        self.node(&guard).map_or(0, |node| node.ref_count())
    }

    pub(crate) fn address(&self) -> usize {
        self.0.addr().get()
    }

    /// Registers a callback. The caller holds a strong handle.
    pub(super) fn register(&self, f: Box<dyn FnOnce() + Send>) -> Arc<Registration> {
        let side = self.get();
        let callback = Arc::new(Callback {
            state: AtomicU8::new(ARMED),
            closure: UnsafeCell::new(Some(f)),
            next: Cell::new(ptr::null_mut()),
            liveness: Liveness::new(),
        });
        // Relaxed: numbers, from which nobody concludes that anything is visible.
        let registered = side.registered.fetch_add(1, Ordering::Relaxed);
        if side.cancelled.load(Ordering::Relaxed) > registered / 2 {
            side.prune();
        }
        side.push(Arc::into_raw(callback.clone()).cast_mut());
        Arc::new(Registration {
            callback,
            side: self.clone(),
        })
    }

    /// Runs the callbacks that are still armed, the last registered first. The value is dead.
    pub(super) fn run_callbacks(&self, panics: &mut FirstPanic) {
        for callback in self.get().take_callbacks() {
            if let Some(closure) = callback.claim(TAKEN) {
                panics.catch(closure);
            }
        }
    }
}

impl Clone for SideRef {
    fn clone(&self) -> Self {
        self.get().hold();
        Self(self.0)
    }
}

impl Drop for SideRef {
    fn drop(&mut self) {
        // AcqRel. Release: what this holder did comes before the end. Acquire: the last one sees it all.
        if self.get().holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            drop(self.get().take_callbacks().collect::<Vec<_>>());
            self.get().liveness.end();
            // SAFETY: nobody holds the record, and `install` made it from a box.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

impl Side {
    fn hold(&self) {
        // Relaxed: the caller holds the record already, itself or through the node.
        if self.holders.fetch_add(1, Ordering::Relaxed) > isize::MAX as usize {
            std::process::abort();
        }
    }

    fn push(&self, callback: *mut Callback) {
        // Relaxed: the compare-exchange decides.
        let mut head = self.callbacks.load(Ordering::Relaxed);
        loop {
            // SAFETY: not on the stack yet, so nobody else reads its `next`.
            unsafe { &*callback }.next.set(head);
            // Release: pairs with the Acquire in `take_callbacks`. Relaxed on failure: only compared.
            match self.callbacks.compare_exchange_weak(
                head,
                callback,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Empties the stack.
    fn take_callbacks(&self) -> impl Iterator<Item = Arc<Callback>> + use<> {
        // Acquire: pairs with the Release in `push`.
        let mut next = self.callbacks.swap(ptr::null_mut(), Ordering::Acquire);
        std::iter::from_fn(move || {
            let callback = NonNull::new(next)?;
            // SAFETY: the stack owned it, and we own what was the stack.
            let callback = unsafe { Arc::from_raw(callback.as_ptr().cast_const()) };
            callback.liveness.touch();
            next = callback.next.get();
            Some(callback)
        })
    }

    /// Throws cancelled callbacks away. The caller holds a strong handle, so that the value can't die
    /// and miss the others meanwhile.
    #[cold]
    fn prune(&self) {
        let (gone, mut kept): (Vec<_>, Vec<_>) = self
            .take_callbacks()
            .partition(|callback| callback.is_cancelled());
        // Relaxed: numbers, which only say when pruning pays. A canceller may come to count itself only
        // now; they wrap.
        self.registered.fetch_sub(gone.len(), Ordering::Relaxed);
        self.cancelled.fetch_sub(gone.len(), Ordering::Relaxed);
        while let Some(callback) = kept.pop() {
            self.push(Arc::into_raw(callback).cast_mut());
        }
    }
}

const ARMED: u8 = 0;
const CANCELLED: u8 = 1;
const TAKEN: u8 = 2;

/// A closure that one of two parties will own.
struct Callback {
    state: AtomicU8,
    closure: UnsafeCell<Option<Box<dyn FnOnce() + Send>>>,
    /// Written before the record is pushed, read after the stack was taken.
    next: Cell<*mut Callback>,
    liveness: Liveness,
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callback").finish_non_exhaustive()
    }
}

// SAFETY: the closure is `Send`, and only the winner of `claim` touches it; `next` is touched by who
// owns the record's place on the stack.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

impl Callback {
    /// The closure, for the first who asks.
    fn claim(&self, to: u8) -> Option<Box<dyn FnOnce() + Send>> {
        // Relaxed: the closure was published with the record (by the stack, or by the weak handle that
        // the loser holds), and exactly one party takes it.
        self.state
            .compare_exchange(ARMED, to, Ordering::Relaxed, Ordering::Relaxed)
            .ok()?;
        self.liveness.touch();
        // SAFETY: the state left ARMED through us.
        unsafe { &mut *self.closure.get() }.take()
    }

    fn is_cancelled(&self) -> bool {
        // Relaxed: a record that is seen as armed for a moment longer is thrown away later.
        self.state.load(Ordering::Relaxed) == CANCELLED
    }
}

/// What the clones of a weak handle share: the callback is cancelled when the last of them goes.
#[derive(Debug)]
pub(crate) struct Registration {
    callback: Arc<Callback>,
    side: SideRef,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(closure) = self.callback.claim(CANCELLED) {
            // Relaxed: a number.
            self.side.get().cancelled.fetch_add(1, Ordering::Relaxed);
            drop(closure);
        }
    }
}
