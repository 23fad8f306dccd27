//! When memory is given back: every call into crossbeam-epoch.
//!
//! A node that is unlinked may still be read by threads that were pinned before. Its memory waits for them. Nodes
//! don't wait one by one: a thread collects what it retires in a *batch*, and a full batch is handed to the
//! collector with one deferred function. That function frees nothing if it can help it. It flips the batch to
//! READY, and the thread that retired the nodes gets them back the next time it seals a batch. They are *spare*
//! then: its next values of just that layout lie in them, the last ones first, without a call of the allocator.
//! Those that are still spare when others come are freed, by the thread that allocated them more often than not,
//! for which an allocator needs no locks.
//!
//! The life of a batch, after it was sealed:
//!
//! ```text
//! state    | meaning                                   | left by
//! WAITING  | pins may still see its nodes              | the deferred function: to READY, or to FREED
//!          |                                           |   if the owner leaves several lying about;
//!          |                                           | the owner's exit: to ORPHANED
//! READY    | nobody sees its nodes                     | the owner: they are spare now
//! FREED    | its nodes are freed, its shell isn't      | the owner, which uses the shell again
//! ORPHANED | as WAITING, but its owner is gone         | the deferred function, which frees all
//! ```
//!
//! The deferred function and the owner's exit each swap the state; whoever comes second frees.
//! What a thread keeps: one open batch, at most two that are READY, and the spare nodes of one, each of at most
//! 256 nodes and 40 KiB. `flush` gives back those of the calling thread. A large node doesn't wait in a batch.

use std::alloc::Layout;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::{Arc, LazyLock};

use crossbeam_epoch::{Collector, LocalHandle};

use super::node::Node;
use super::primitive::{AtomicU8, AtomicUsize, Liveness, Ordering, get_or_make, global, local};

/// Nodes in a batch.
const BATCH_NODES: usize = if cfg!(any(loom, shuttle, miri)) {
    2
} else {
    256
};

/// Bytes in a batch, beyond which it is sealed.
const BATCH_BYTES: usize = 32 << 10;

/// Nodes from this size on don't wait in batches.
const LARGE: usize = 8 << 10;

/// READY batches that may wait for their owner.
const READY_BATCHES: usize = if cfg!(loom) { 1 } else { 2 };

/// Whether memory is used again without the allocator, which is what checkers know it by.
const REUSE: bool = !cfg!(any(loom, shuttle, miri, hapax_no_reuse));

// Of this crate's own. What else uses crossbeam-epoch in the process can't delay our memory by its pins; and what it
// defers, which may run user code and panic, never runs in ours.
global! { fn collector() -> LazyLock<Collector> = LazyLock::new(Collector::new) }

struct Participant(OnceCell<LocalHandle>);

local! { static PARTICIPANT: Participant = Participant(OnceCell::new()) }

// What `PARTICIPANT` has, as long as it has it. Without a destructor, which would have to be looked after at each pin.
local! { static HANDLE: Cell<*const LocalHandle> = Cell::new(ptr::null()) }

impl Drop for Participant {
    fn drop(&mut self) {
        let _ = HANDLE.try_with(|handle| handle.set(ptr::null()));
    }
}

/// A pin: what was reachable at any moment of its life stays readable.
#[derive(Debug)]
pub(crate) struct Guard(crossbeam_epoch::Guard);

/// Pins the calling thread. Now and then that runs what threads have deferred.
#[inline]
pub(crate) fn pin() -> Guard {
    // What the collector does inside shuttle doesn't see.
    #[cfg(shuttle)]
    super::primitive::step();
    let handle = HANDLE.try_with(Cell::get).unwrap_or(ptr::null());
    // SAFETY: it is null before `PARTICIPANT` has a handle and when that goes.
    match unsafe { handle.as_ref() } {
        Some(handle) => Guard(handle.pin()),
        None => Guard(pin_slow()),
    }
}

/// Whether the calling thread is pinned.
pub(crate) fn is_pinned() -> bool {
    PARTICIPANT
        .try_with(|Participant(mine)| mine.get().is_some_and(LocalHandle::is_pinned))
        .unwrap_or(false)
}

/// The first pin of a thread. One whose thread-locals are gone takes part for the moment.
#[cold]
fn pin_slow() -> crossbeam_epoch::Guard {
    let pinned = PARTICIPANT.try_with(|Participant(mine)| {
        let mine = get_or_make(mine, || collector().register());
        let _ = HANDLE.try_with(|handle| handle.set(mine));
        mine.pin()
    });
    pinned.unwrap_or_else(|_| collector().register().pin())
}

impl Guard {
    /// Hands what this thread has deferred to the collector.
    pub(crate) fn flush(&self) {
        self.0.flush();
    }

    /// Calls a function when all present pins are gone, on some thread. It must not panic, nor run user code: it is
    /// called in the midst of anything.
    ///
    /// # Safety
    ///
    /// The function may run on any thread, at any later time.
    pub(super) unsafe fn defer(&self, f: impl FnOnce()) {
        // SAFETY: as for the caller.
        unsafe { self.0.defer_unchecked(f) };
    }
}

/// Memory of a dead, unlinked node.
struct Retired {
    node: NonNull<Node>,
    layout: Layout,
}

impl Retired {
    /// # Safety
    ///
    /// Nobody can reach the node any more, and its value is gone.
    unsafe fn free(self) {
        // SAFETY: the header is alive until the memory goes.
        unsafe { self.node.as_ref() }.liveness.end();
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.node.as_ptr().cast(), self.layout) };
    }
}

const WAITING: u8 = 0;
const READY: u8 = 1;
const FREED: u8 = 2;
const ORPHANED: u8 = 3;

struct Batch {
    state: AtomicU8,
    nodes: Vec<Retired>,
    bytes: usize,
    /// READY batches of the owner.
    ready: Arc<AtomicUsize>,
    liveness: Liveness,
}

impl Batch {
    #[cold]
    fn new(ready: &Arc<AtomicUsize>) -> Box<Self> {
        Box::new(Self {
            state: AtomicU8::new(WAITING),
            nodes: Vec::with_capacity(BATCH_NODES),
            bytes: 0,
            ready: ready.clone(),
            liveness: Liveness::new(),
        })
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.liveness.end();
    }
}

/// # Safety
///
/// As for `Retired::free`, for all nodes.
unsafe fn free_all(nodes: &mut Vec<Retired>) {
    for retired in nodes.drain(..) {
        // SAFETY: as for the caller.
        unsafe { retired.free() };
    }
}

/// A sealed batch, shared by its owner and the deferred function.
#[derive(Clone, Copy)]
struct Sealed(NonNull<Batch>);

impl Sealed {
    /// What the two agree by: whoever changes it last has the batch.
    ///
    /// # Safety
    ///
    /// The caller is one of the two, and hasn't left the batch.
    unsafe fn state<'a>(self) -> &'a AtomicU8 {
        // SAFETY: the batch is alive until the second of the two has left it. References to other parts of
        // it don't overlap these.
        unsafe {
            (*self.0.as_ptr()).liveness.touch();
            &(*self.0.as_ptr()).state
        }
    }

    /// The deferred function: all pins that could see the nodes are gone.
    ///
    /// # Safety
    ///
    /// Called once, by the collector.
    unsafe fn grace_passed(self) {
        let batch = self.0.as_ptr();
        // SAFETY: the batch is alive until the second of the two has left it, and this is one of them.
        let (state, ready) = unsafe { (self.state(), (*batch).ready.clone()) };
        // Relaxed: a bound that need not be exact.
        if ready.fetch_add(1, Ordering::Relaxed) < READY_BATCHES {
            // AcqRel. Release: pairs with the Acquire in `poll`; the owner frees after all readers.
            // Acquire: pairs with the Release of the owner's exit.
            if state.swap(READY, Ordering::AcqRel) == ORPHANED {
                // SAFETY: the owner is gone, so the batch is ours.
                unsafe { self.free() };
            }
            return;
        }
        ready.fetch_sub(1, Ordering::Relaxed);
        // The owner doesn't keep up; perhaps it sleeps. Its nodes are freed here.
        //
        // SAFETY: the owner leaves a WAITING or ORPHANED batch alone but for its state, and no pin can
        // see the nodes.
        unsafe { free_all(&mut (*batch).nodes) };
        // AcqRel: as above; the owner uses the shell after we have emptied it.
        if state.swap(FREED, Ordering::AcqRel) == ORPHANED {
            // SAFETY: the owner is gone, so the batch is ours.
            unsafe { self.free() };
        }
    }

    /// Takes the batch back if its grace period is over. Nobody sees the nodes that are still in it.
    ///
    /// # Safety
    ///
    /// Called by the owner, which forgets the batch when it gets it back.
    unsafe fn poll(self) -> Option<Box<Batch>> {
        // SAFETY: this is the owner.
        let state = unsafe { self.state() };
        // Acquire: pairs with the Release in `grace_passed`.
        match state.load(Ordering::Acquire) {
            WAITING => None,
            READY => {
                // SAFETY: READY gives the batch to its owner.
                let batch = unsafe { Box::from_raw(self.0.as_ptr()) };
                batch.ready.fetch_sub(1, Ordering::Relaxed);
                Some(batch)
            }
            // SAFETY: FREED gives the batch to its owner.
            _ => Some(unsafe { Box::from_raw(self.0.as_ptr()) }),
        }
    }

    /// Leaves the batch to the deferred function.
    ///
    /// # Safety
    ///
    /// Called by the owner, which forgets the batch.
    unsafe fn orphan(self) {
        // SAFETY: this is the owner.
        let state = unsafe { self.state() };
        // AcqRel: as in `grace_passed`; whoever comes second sees what the first did.
        if state.swap(ORPHANED, Ordering::AcqRel) != WAITING {
            // SAFETY: the deferred function was here and left the batch to its owner.
            unsafe { self.free() };
        }
    }

    /// # Safety
    ///
    /// The grace period is over, and the batch is the caller's.
    unsafe fn free(self) {
        // SAFETY: `seal` made it from a box.
        let mut batch = unsafe { Box::from_raw(self.0.as_ptr()) };
        // SAFETY: the grace period is over.
        unsafe { free_all(&mut batch.nodes) };
    }
}

/// What a thread has retired.
struct Retirement {
    open: Option<Box<Batch>>,
    sealed: VecDeque<Sealed>,
    /// Memory for new nodes. Invariant: nobody can reach it.
    spare: Vec<Retired>,
    /// READY batches of this thread.
    ready: Option<Arc<AtomicUsize>>,
}

local! {
    static RETIREMENT: RefCell<Retirement> = RefCell::new(Retirement {
        open: None,
        sealed: VecDeque::new(),
        spare: Vec::new(),
        ready: None,
    })
}

/// Calls `f` unless the thread-locals of this thread are gone, or this is a call from within: from the allocator.
fn with_retirement(f: impl FnOnce(&mut Retirement)) {
    let _ = RETIREMENT.try_with(|cell| {
        if let Ok(mut mine) = cell.try_borrow_mut() {
            f(&mut mine);
        }
    });
}

impl Retirement {
    fn push(&mut self, retired: Retired) {
        let ready = &mut self.ready;
        let batch = self
            .open
            .get_or_insert_with(|| Batch::new(ready.get_or_insert_default()));
        batch.bytes += retired.layout.size();
        batch.nodes.push(retired);
        if batch.nodes.len() >= BATCH_NODES || batch.bytes >= BATCH_BYTES {
            self.seal();
            self.collect();
        }
    }

    /// Hands the open batch to the collector.
    #[cold]
    fn seal(&mut self) {
        let Some(batch) = self.open.take() else {
            return;
        };
        let guard = pin();
        let batch = Sealed(NonNull::from(Box::leak(batch)));
        self.sealed.push_back(batch);
        // SAFETY: the nodes were unlinked before they were retired. The function runs once and touches
        // nothing of this thread but the batch and what the batch owns.
        unsafe { guard.defer(move || batch.grace_passed()) };
        // Not to wait in a bag of this thread until that is full of others.
        guard.flush();
    }

    /// Takes the oldest batches back, if their time has come, and frees what was spare before.
    fn collect(&mut self) {
        while let Some(&oldest) = self.sealed.front() {
            // SAFETY: this is the owner, and forgets what it gets.
            let Some(mut shell) = (unsafe { oldest.poll() }) else {
                break;
            };
            self.sealed.pop_front();
            if REUSE {
                mem::swap(&mut self.spare, &mut shell.nodes);
            }
            // SAFETY: nobody sees the nodes, neither those that came nor those that were spare.
            unsafe { free_all(&mut shell.nodes) };
            if self.open.is_none() {
                // Relaxed: nobody else knows the batch.
                shell.state.store(WAITING, Ordering::Relaxed);
                shell.bytes = 0;
                self.open = Some(shell);
            }
        }
    }

    /// Frees what waits to be used again: spare nodes, and a shell.
    fn free_spare(&mut self) {
        // SAFETY: by the invariant.
        unsafe { free_all(&mut mem::take(&mut self.spare)) };
        self.open.take_if(|shell| shell.nodes.is_empty());
    }

    /// Leaves everything to the collector.
    fn end(&mut self) {
        self.seal();
        self.collect();
        self.free_spare();
        for batch in mem::take(&mut self.sealed) {
            // SAFETY: this is the owner, and forgets it.
            unsafe { batch.orphan() };
        }
    }
}

/// At thread exit. loom ends the thread-locals of a thread in random order, which no model survives that
/// has two of them at work; there it's the model that calls `end_thread`.
#[cfg(not(loom))]
impl Drop for Retirement {
    fn drop(&mut self) {
        self.end();
    }
}

/// What thread exit does outside of models.
#[cfg(loom)]
pub(crate) fn end_thread() {
    with_retirement(Retirement::end);
    super::slot::end_thread();
}

/// Memory that a node of this thread has left behind, if it has just this layout.
pub(super) fn spare(layout: Layout) -> Option<NonNull<Node>> {
    if !REUSE {
        return None;
    }
    let mut spare = None;
    with_retirement(|mine| spare = mine.spare.pop_if(|retired| retired.layout == layout));
    spare.map(|retired| retired.node)
}

/// Gives the memory of a dead node back once no pin can see it.
///
/// # Safety
///
/// The node is unlinked, its value is gone, `layout` is its own, and it is retired once.
pub(super) unsafe fn retire(node: NonNull<Node>, layout: Layout) {
    if layout.size() >= LARGE {
        return retire_alone(Retired { node, layout });
    }
    let mut retired = Some(Retired { node, layout });
    with_retirement(|mine| mine.push(retired.take().expect("it is there")));
    if let Some(retired) = retired {
        retire_alone(retired);
    }
}

/// The node is too large to lie about, the thread-locals of this thread are gone, or this is a call from
/// within its own allocator.
#[cold]
fn retire_alone(retired: Retired) {
    let guard = pin();
    // SAFETY: the node is unlinked, and its memory may be freed anywhere.
    unsafe { guard.defer(move || retired.free()) };
    guard.flush();
}

/// Hands over what this thread has retired so far, and frees what can be freed by now.
pub(crate) fn flush() {
    with_retirement(Retirement::seal);
    // The epoch must advance twice after the hand-over, and each round advances it once, unless somebody is
    // pinned; one more collects.
    for _ in 0..3 {
        pin().flush();
    }
    with_retirement(|mine| {
        mine.collect();
        mine.free_spare();
    });
}
