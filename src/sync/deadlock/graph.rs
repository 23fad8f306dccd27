//! The wait-for graph: who waits for what, and who holds that.
//!
//! # What it is
//!
//! A thread's *registered wait* is for a lock that one thread holds, for permits of a tracked semaphore that several may
//! hold, or for one of several threads to end or to do something. A thread has one such wait, or several if it waits within
//! `blocking_on`, or for the children of a scope: then it needs all of them to end. The owner word of a lock says who holds it, the *pool* of a semaphore
//! says who has its permits; both lead to threads again.
//!
//! A registered thread *can go on* if what it waits for comes free once all threads that run have let go of what they
//! hold, and then those that can go on by that, and so on (`circle`). A thread that isn't registered runs. A wait with a
//! time limit ends by itself, and so does one of a thread that was cancelled, when that notices: they count for nothing here.
//! Waits for locks with a time limit are registered all the same, to learn of the owner's end. What a thread has taken with it when it ended doesn't come free.
//!
//! A thread that is about to park for good looks whether it could go on if it were registered. If not, it is itself the
//! reason: all registered waits could go on while it ran. So there is a circle from it to itself, among threads that
//! can't go on. It is refused, with that circle as a report, and the others go on when it lets go of what they want.
//! Otherwise its wait is registered. Both happen in one critical section. (Who waits for children can't be refused. It is told,
//! and its wait is registered all the same: it cancels the children.)
//!
//! - *No deadlock is missed.* Each thread of a circle owns what the one before wants before it registers its own wait.
//!   Registrations come one after the other, so the last one sees all others. Apart from registrations, only a thread's end
//!   can make others stuck, by the permits that it takes with it: so it looks at those who wait for such permits, and
//!   refuses one after the other until nobody is stuck.
//! - *There is no false alarm.* A thread whose wait is registered can't return from its call without being taken off,
//!   under the same lock, so it can't give back what it owns while somebody looks. A lock that it was granted meanwhile
//!   shows no owner yet: that counts as one that runs. Permits are granted under the lock of the graph, and the wait ends
//!   with that.
//!
//! Nothing is said of a wait that can't go on because others are in a circle already: that happens only where circles are
//! reported and not broken, or where a thread was named in `blocking_on` that couldn't help.

#![allow(
    clippy::borrow_deref_ref,
    reason = "the graph is a reference here and an `Arc` under a checker"
)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::pool::{NOBODY, Pool};
use super::{DeadlockReport, Listener, Policy, Step, Wanted, circle, policy};
use crate::sync::cancel::{Token, any_is_cancelled, tokens};
use crate::sync::thread::{LATE, me};
use crate::sync::waiter::wake_all;
use crate::sync::{AcquireError, ThreadKey};
use crate::table::primitive::{Mutex, global, lock};

/// A lock that knows its owner.
pub(in crate::sync) trait Held {
    fn name(&self) -> Option<&'static str>;

    /// Which thread holds it, if one does that can be named.
    fn owner(&self) -> Option<u64>;

    /// Which thread has ended while it held this.
    fn dead_owner(&self) -> Option<u64>;

    /// Gives the lock up in the place of that thread, which has ended, if it still holds it.
    fn abandon(&self, thread: u64);
}

/// What a thread waits for.
pub(in crate::sync) enum Awaited {
    Lock(HeldRef),
    Permits {
        pool: u64,
        permits: usize,
    },
    /// Any of these threads, and what for.
    Threads(Vec<u64>, Wanted),
}

/// A lock that somebody waits for. Invariant: the lock is there as long as this is.
pub(in crate::sync) struct HeldRef(*const dyn Held);

// SAFETY: locks that know their owners are made of atomics.
unsafe impl Send for HeldRef {}

impl HeldRef {
    /// # Safety
    ///
    /// The lock is there as long as this is.
    pub(super) unsafe fn to(held: &(dyn Held + 'static)) -> Self {
        Self(held)
    }

    pub(super) fn get(&self) -> &dyn Held {
        // SAFETY: by the invariant.
        unsafe { &*self.0 }
    }
}

struct Wait {
    number: u64,
    awaited: Awaited,
    limit: Limit,
}

/// What ends a wait apart from what is waited for.
pub(in crate::sync) enum Limit {
    /// It ends by itself.
    Time,
    /// It ends when one of these is cancelled; if there is none, never.
    Tokens(Vec<Arc<Token>>),
}

impl Limit {
    /// Of a wait of the calling thread that ends when that is cancelled.
    pub(in crate::sync) fn of_thread() -> Self {
        Self::Tokens(tokens())
    }

    pub(in crate::sync) const NEVER: Self = Self::Tokens(Vec::new());

    /// What a late thread holds others take for held by nobody, so its wait can't be part of a circle.
    fn unless_late(self, me: u64) -> Self {
        if me & LATE == 0 { self } else { Self::Time }
    }

    fn ends_it(&self) -> bool {
        match self {
            Self::Time => true,
            Self::Tokens(tokens) => any_is_cancelled(tokens),
        }
    }
}

pub(in crate::sync) struct State {
    /// Threads that have taken locks and haven't ended, with their names.
    living: BTreeMap<u64, Option<String>>,
    /// Of each thread in the order in which they began.
    waits: BTreeMap<u64, Vec<Wait>>,
    /// How many waits there were.
    last_wait: u64,
    pub(super) pools: BTreeMap<u64, Pool>,
    /// How many pools there were.
    pub(super) last_pool: u64,
}

global! { fn graph() -> Mutex<State> = Mutex::new(State::new()) }

/// Does something while nobody else looks at the graph or changes it.
pub(in crate::sync) fn with_graph<R>(f: impl FnOnce(&mut State) -> R) -> R {
    let graph = graph();
    f(&mut lock(&*graph))
}

/// Takes the wait of a thread off the graph when it is dropped, on whatever thread.
pub(in crate::sync) struct Registered {
    thread: u64,
    wait: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        with_graph(|state| state.end_wait(self.thread, |wait| wait.number == self.wait));
    }
}

pub(in crate::sync) fn begin_thread(thread: u64, name: Option<String>) {
    with_graph(|state| state.begin_thread(thread, name));
}

/// What the thread still owns is out of use from now on, and who waits for it learns that.
pub(in crate::sync) fn end_thread(thread: u64) {
    let mut refused = Vec::new();
    let mut complaints = Vec::new();
    with_graph(|state| {
        state.end_thread(thread);
        state.give_up_permits(thread, &mut refused, &mut complaints);
    });
    wake_all(refused);
    complaints.into_iter().for_each(Complaint::make);
}

/// Registers that the calling thread waits for a lock, unless it would wait for itself, or for a thread that has ended.
///
/// # Safety
///
/// The lock outlives what is returned, and the caller doesn't leak that.
pub(in crate::sync) unsafe fn wait_for_lock(
    held: &(dyn Held + 'static),
    is_timed: bool,
) -> Result<Registered, AcquireError> {
    // SAFETY: as for the caller: it is taken off the graph with that.
    let held = unsafe { HeldRef::to(held) };
    let limit = if is_timed {
        Limit::Time
    } else {
        Limit::of_thread()
    };
    register(Awaited::Lock(held), limit)
}

/// Registers that the calling thread waits for one of these threads.
pub(in crate::sync) fn wait_for_threads(
    threads: Vec<u64>,
    wanted: Wanted,
    limit: Limit,
) -> Result<Registered, AcquireError> {
    register(Awaited::Threads(threads, wanted), limit)
}

fn register(awaited: Awaited, limit: Limit) -> Result<Registered, AcquireError> {
    // Not under the lock: a thread's first call takes it.
    let me = me();
    let (wait, complaint) = with_graph(|state| state.begin_wait(me, awaited, limit))?;
    let thread = me & !LATE;
    let registered = Registered { thread, wait };
    complaint.make();
    Ok(registered)
}

/// Registers that the calling thread waits for a child, which it does whatever the answer is. The complaint is to be made
/// without any lock.
#[cfg(not(loom))]
pub(in crate::sync) fn wait_for_child(child: u64) -> (Registered, Result<Complaint, AcquireError>) {
    let me = me();
    let awaited = Awaited::Threads(vec![child], Wanted::End);
    with_graph(|state| {
        let thread = me & !LATE;
        let limit = Limit::NEVER.unless_late(me);
        let answer = state.look(thread, &awaited, &limit);
        let wait = state.push_wait(thread, awaited, limit);
        (Registered { thread, wait }, answer)
    })
}

/// A report for whoever wants to hear of deadlocks that aren't broken, to be made without the lock.
#[must_use]
pub(in crate::sync) struct Complaint(pub(super) Option<(DeadlockReport, Listener)>);

impl Complaint {
    pub(in crate::sync) fn make(self) {
        if let Some((report, listener)) = self.0 {
            listener(&report);
        }
    }
}

impl State {
    pub(super) const fn new() -> Self {
        Self {
            living: BTreeMap::new(),
            waits: BTreeMap::new(),
            last_wait: 0,
            pools: BTreeMap::new(),
            last_pool: 0,
        }
    }

    pub(super) fn begin_thread(&mut self, thread: u64, name: Option<String>) {
        self.living.insert(thread, name);
    }

    /// Registers a wait of the calling thread, unless it is refused. Answers with its number.
    pub(in crate::sync) fn begin_wait(
        &mut self,
        me: u64,
        awaited: Awaited,
        limit: Limit,
    ) -> Result<(u64, Complaint), AcquireError> {
        if let Awaited::Lock(held) = &awaited
            && let Some(owner) = self.dead_owner(held.get())
        {
            return Err(died(owner));
        }
        let thread = me & !LATE;
        let limit = limit.unless_late(me);
        let complaint = self.look(thread, &awaited, &limit)?;
        Ok((self.push_wait(thread, awaited, limit), complaint))
    }

    /// Whether a wait of that thread would never end.
    fn look(
        &self,
        thread: u64,
        awaited: &Awaited,
        limit: &Limit,
    ) -> Result<Complaint, AcquireError> {
        if limit.ends_it() {
            return Ok(Complaint(None));
        }
        let Some(report) = circle::find(self, thread, Some(awaited)) else {
            return Ok(Complaint(None));
        };
        // It may wait for several things at once, and have heard that one of these waits never ends.
        if circle::find(self, thread, None).is_some() {
            return Ok(Complaint(None));
        }
        match policy() {
            Policy::Break => Err(AcquireError::Deadlock(Arc::new(report))),
            Policy::ReportOnly(listener) => Ok(Complaint(Some((report, listener)))),
        }
    }

    pub(super) fn push_wait(&mut self, thread: u64, awaited: Awaited, limit: Limit) -> u64 {
        self.last_wait += 1;
        let wait = Wait {
            number: self.last_wait,
            awaited,
            limit,
        };
        self.waits.entry(thread).or_default().push(wait);
        self.last_wait
    }

    /// Ends the last of the thread's waits that is meant, if there is one.
    fn end_wait(&mut self, thread: u64, is_meant: impl Fn(&Wait) -> bool) {
        if let Entry::Occupied(mut waits) = self.waits.entry(thread) {
            let at = waits.get().iter().rposition(is_meant);
            at.map(|at| waits.get_mut().remove(at));
            if waits.get().is_empty() {
                waits.remove();
            }
        }
    }

    /// Ends the wait of a thread for permits, if it was registered.
    pub(in crate::sync) fn end_wait_for_permits(&mut self, thread: u64, number: u64) {
        self.end_wait(
            thread,
            |wait| matches!(wait.awaited, Awaited::Permits { pool, .. } if pool == number),
        );
    }

    /// The waits of a thread that don't end by themselves.
    pub(super) fn endless_waits(&self, thread: u64) -> impl Iterator<Item = &Awaited> {
        let waits = self.waits.get(&thread).into_iter().flatten();
        waits
            .filter(|wait| !wait.limit.ends_it())
            .map(|wait| &wait.awaited)
    }

    /// Whether a thread that isn't stuck lets go of its permits some day.
    pub(super) fn runs_on(&self, thread: u64) -> bool {
        thread == NOBODY || self.living.contains_key(&thread)
    }

    pub(super) fn name(&self, thread: u64) -> Option<String> {
        self.living.get(&thread).cloned().flatten()
    }

    pub(super) fn wanted(&self, awaited: &Awaited) -> Wanted {
        match awaited {
            Awaited::Lock(held) => Wanted::Lock {
                name: held.get().name(),
                address: held.0.addr(),
            },
            Awaited::Permits { pool, permits } => Wanted::Permits {
                name: self.pools[pool].name,
                semaphore: *pool,
                permits: *permits,
            },
            Awaited::Threads(_, wanted) => *wanted,
        }
    }

    /// How many waits are registered.
    pub(super) fn registered(&self) -> usize {
        self.waits.values().map(Vec::len).sum()
    }

    fn end_thread(&mut self, thread: u64) {
        self.living.remove(&thread);
        for wait in self.waits.values().flatten() {
            if let Awaited::Lock(held) = &wait.awaited {
                held.get().abandon(thread);
            }
        }
    }

    /// The thread that has ended while it held the lock, which is given up then.
    fn dead_owner(&self, held: &dyn Held) -> Option<u64> {
        if let Some(owner) = held.owner()
            && !self.living.contains_key(&owner)
        {
            // Does nothing if it has got another owner since.
            held.abandon(owner);
        }
        held.dead_owner()
    }
}

/// The error of a wait for what a thread has taken with it.
pub(in crate::sync) fn died(owner: u64) -> AcquireError {
    let owner = ThreadKey::of(owner);
    AcquireError::OwnerDied { owner }
}

/// The circle of a thread that waits for what it holds itself.
pub(in crate::sync) fn wait_for_oneself(held: &(dyn Held + 'static)) -> AcquireError {
    let thread = me() & !LATE;
    let key = ThreadKey::of(thread);
    // SAFETY: it goes before the reference does.
    let awaited = Awaited::Lock(unsafe { HeldRef::to(held) });
    let step = with_graph(|state| Step {
        thread: key,
        thread_name: state.name(thread),
        wanted: state.wanted(&awaited),
        holder: key,
    });
    let steps = vec![step];
    AcquireError::Deadlock(Arc::new(DeadlockReport { steps }))
}

/// The error for a wait for a lock that the caller won't begin: that its owner has ended, if it has.
pub(in crate::sync) fn owner_died(held: &(dyn Held + 'static)) -> Option<AcquireError> {
    with_graph(|state| state.dead_owner(held)).map(died)
}
