//! Who builds which entry, and who waits for it: the one place outside `sync` that blocks.
//!
//! A key without a value stands in the table as a node in the state BUILDING. This registry says which
//! thread builds it, if one does, so that
//!
//! - others of that key, threads and tasks, sleep until the value is there,
//! - one of them goes on if the builder gives up, and
//! - nobody waits for itself, however many keys, maps and threads lie in between.
//!
//! A node is registered before it is linked, and only the lock's owner changes who builds. A waiter holds a
//! count on its node, so the address that stands here is not used again meanwhile. A builder leaves the
//! registry before it gives its count back.
//!
//! What a task builds no thread builds: nobody looks for circles there. Wakers of tasks are user code, and run without the
//! lock.

#![allow(
    clippy::borrow_deref_ref,
    reason = "the registry is a reference here and an `Arc` under loom"
)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::table::primitive::{Condvar, Mutex, global, lock, thread_number, wait};
use crate::table::{Building, Node, wake_tasks};

global! { fn registry() -> Mutex<Builds> = Mutex::new(Builds::new()) }

struct Builds {
    /// By the node's address.
    builders: BTreeMap<usize, Builder>,
    /// What a thread waits for, by the thread's number.
    waiting: BTreeMap<u64, Awaited>,
    /// How many claims and waits of tasks there were.
    numbers: u64,
}

struct Builder {
    /// Or [`NO_THREAD`].
    thread: u64,
    /// The claim's own: an address may be used again before its claim has ended.
    claim: u64,
    /// Made by the first thread that waits.
    gone: Option<Arc<Condvar>>,
    /// Tasks that wait, by their numbers.
    tasks: BTreeMap<u64, Waker>,
}

/// A task builds it.
const NO_THREAD: u64 = 0;

impl Builder {
    /// Lets the threads that wait look again.
    fn wake_threads(&self) {
        if let Some(gone) = &self.gone {
            gone.notify_all();
        }
    }

    /// Lets all who wait look again. Without the lock.
    fn wake(self) {
        self.wake_threads();
        wake_tasks(self.tasks.into_values());
    }
}

/// A node that a thread waits for. Invariant: that thread holds a count on it while this is registered.
#[derive(Clone, Copy)]
struct Awaited(*const Node);

// SAFETY: nodes are shared among threads; the pointer is good by the invariant, wherever it is used.
unsafe impl Send for Awaited {}

impl Builds {
    const fn new() -> Self {
        Self {
            builders: BTreeMap::new(),
            waiting: BTreeMap::new(),
            numbers: 0,
        }
    }

    /// Whether the builder of `node` waits, perhaps through others, for something that `thread` builds.
    fn closes_cycle(&self, thread: u64, mut node: usize) -> bool {
        // Ends: each wait was checked before it began, so the chain has no cycle yet.
        while let Some(builder) = self.builders.get(&node) {
            if builder.thread == thread {
                return true;
            }
            let Some(awaited) = self.waiting.get(&builder.thread) else {
                return false;
            };
            // SAFETY: by the invariant, under the registry's lock.
            let awaited = unsafe { &*awaited.0 };
            node = ptr::from_ref(awaited).addr();
            // Nothing is to be waited for there any more. Whoever has seen to that doesn't take the lock,
            // to tell; so we do.
            if !matches!(awaited.building(), Building::UnderWay) {
                self.builders
                    .get(&node)
                    .inspect(|builder| builder.wake_threads());
                return false;
            }
        }
        false
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn claim(&mut self, node: usize, thread: u64) -> Claim {
        let claim = self.number();
        let builder = Builder {
            thread,
            claim,
            gone: None,
            tasks: BTreeMap::new(),
        };
        self.builders.insert(node, builder);
        Claim { node, claim }
    }

    /// Ends a claim. Those who wait are to be woken.
    fn release(&mut self, claim: &Claim) -> Option<Builder> {
        match self.builders.entry(claim.node) {
            Entry::Occupied(builder) if builder.get().claim == claim.claim => {
                Some(builder.remove())
            }
            _ => None,
        }
    }
}

/// The right to build one entry. Dropping it lets others try.
#[must_use]
pub(crate) struct Claim {
    node: usize,
    claim: u64,
}

impl Claim {
    /// Claims a node that nobody else knows yet.
    pub(crate) fn of_new(node: usize, who: Who) -> Self {
        lock(&*registry()).claim(node, who.thread())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let builder = lock(&*registry()).release(self);
        if let Some(builder) = builder {
            builder.wake();
        }
    }
}

/// On whose behalf an entry is sought.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    /// The calling thread, which may wait for itself.
    Thread,
    Task,
}

impl Who {
    fn thread(self) -> u64 {
        match self {
            Self::Thread => thread_number(),
            Self::Task => NO_THREAD,
        }
    }
}

/// How a wait for an entry ended.
pub(crate) enum Waited {
    /// The value is there.
    Built,
    /// The entry was given up for another one.
    GivenUp,
    /// Nobody builds it: the caller does now.
    Claimed(Claim),
    /// The caller would wait for itself.
    Deadlock,
}

/// Waits until an entry has a value, or needs somebody to build it. The caller holds a count.
pub(crate) fn wait_for(node: &Node) -> Waited {
    let address = ptr::from_ref(node).addr();
    let me = thread_number();
    let registry = registry();
    let mut builds = lock(&*registry);
    loop {
        match node.building() {
            Building::Done => return Waited::Built,
            Building::GivenUp => return Waited::GivenUp,
            Building::UnderWay => {}
        }
        if builds.closes_cycle(me, address) {
            return Waited::Deadlock;
        }
        let Some(builder) = builds.builders.get_mut(&address) else {
            return Waited::Claimed(builds.claim(address, me));
        };
        let gone = builder.gone.get_or_insert_default().clone();
        builds.waiting.insert(me, Awaited(node));
        builds = wait(&gone, builds);
        builds.waiting.remove(&me);
    }
}

/// The wait of a task for an entry. Dropping it ends that.
pub(crate) struct TaskWait {
    node: usize,
    number: u64,
}

impl TaskWait {
    /// The caller keeps its count on the node as long as this is there.
    pub(crate) fn new(node: &Node) -> Self {
        Self {
            node: ptr::from_ref(node).addr(),
            number: lock(&*registry()).number(),
        }
    }

    /// As [`wait_for`], for a task. The node is the one that this was made for.
    pub(crate) fn poll(&self, node: &Node, cx: &Context<'_>) -> Poll<Waited> {
        let waker = cx.waker().clone();
        let registry = registry();
        let mut builds = lock(&*registry);
        let waited = match node.building() {
            Building::Done => Waited::Built,
            Building::GivenUp => Waited::GivenUp,
            Building::UnderWay => match builds.builders.get_mut(&self.node) {
                None => Waited::Claimed(builds.claim(self.node, NO_THREAD)),
                Some(builder) => {
                    let old = builder.tasks.insert(self.number, waker);
                    drop(builds);
                    drop(old);
                    return Poll::Pending;
                }
            },
        };
        // The waker goes without the lock.
        drop(builds);
        Poll::Ready(waited)
    }
}

impl Drop for TaskWait {
    fn drop(&mut self) {
        let waker = lock(&*registry())
            .builders
            .get_mut(&self.node)
            .and_then(|builder| builder.tasks.remove(&self.number));
        drop(waker);
    }
}
