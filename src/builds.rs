//! Who builds which entry, and who waits for it: the one place of the crate that blocks.
//!
//! A key without a value stands in the table as a node in the state BUILDING. This registry says which
//! thread builds it, if one does, so that
//!
//! - others of that key sleep until the value is there,
//! - one of them goes on if the builder gives up, and
//! - nobody waits for itself, however many keys, maps and threads lie in between.
//!
//! A node is registered before it is linked, and only the lock's owner changes who builds. A waiter holds a
//! count on its node, so the address that stands here is not used again meanwhile. A builder leaves the
//! registry before it gives its count back.

#![allow(
    clippy::borrow_deref_ref,
    reason = "the registry is a reference here and an `Arc` under loom"
)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ptr;
use std::sync::Arc;

use crate::table::primitive::{Condvar, Mutex, global, lock, thread_number, wait};
use crate::table::{Building, Node};

global! { fn registry() -> Mutex<Builds> = Mutex::new(Builds::new()) }

struct Builds {
    /// By the node's address.
    builders: BTreeMap<usize, Builder>,
    /// What a thread waits for, by the thread's number.
    waiting: BTreeMap<u64, Awaited>,
    claims: u64,
}

struct Builder {
    thread: u64,
    /// The claim's own: an address may be used again before its claim has ended.
    claim: u64,
    /// Made by the first who waits.
    gone: Option<Arc<Condvar>>,
}

impl Builder {
    /// Lets those who wait look again.
    fn wake(&self) {
        if let Some(gone) = &self.gone {
            gone.notify_all();
        }
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
            claims: 0,
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
                self.builders.get(&node).inspect(|builder| builder.wake());
                return false;
            }
        }
        false
    }

    fn claim(&mut self, node: usize) -> Claim {
        self.claims += 1;
        let claim = self.claims;
        let builder = Builder {
            thread: thread_number(),
            claim,
            gone: None,
        };
        self.builders.insert(node, builder);
        Claim { node, claim }
    }

    fn release(&mut self, claim: &Claim) {
        if let Entry::Occupied(builder) = self.builders.entry(claim.node)
            && builder.get().claim == claim.claim
        {
            builder.remove().wake();
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
    pub(crate) fn of_new(node: usize) -> Self {
        lock(&*registry()).claim(node)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&*registry()).release(self);
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
            return Waited::Claimed(builds.claim(address));
        };
        let gone = builder.gone.get_or_insert_default().clone();
        builds.waiting.insert(me, Awaited(node));
        builds = wait(&gone, builds);
        builds.waiting.remove(&me);
    }
}
