//! Deadlocks: found when they would come about, and broken.
//!
//! # The graph
//!
//! A lock that knows its owner is held by one thread at a time, and a thread waits for one lock at a time. So from a
//! thread there is one way to go: to the lock that it waits for, to the thread that holds that, and so on. The graph
//! keeps the first kind of steps, as *registered waits*; the second are the owner words of the locks.
//!
//! A thread that is about to park for good goes that way, from the lock that it wants. If it comes to itself, its wait
//! would close a circle: it is refused, with a report, and everybody else in the circle goes on when this thread lets go
//! of what it holds. Otherwise the wait is registered. Both happen in one critical section.
//!
//! - *No deadlock is missed.* Each thread of a circle owns a lock before it registers the wait for the next one.
//!   Registrations come one after the other, so the last one sees all others.
//! - *There is no false alarm.* A thread whose wait is registered can't return from its call without being taken off,
//!   under the same lock, so it can't give back what it owns while somebody looks. What it was granted meanwhile shows
//!   as a thread that waits for what it owns itself; that counts as running.
//!
//! A wait with a time limit ends by itself, so it is no step of the way. It is registered all the same, to learn of the
//! owner's end.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::owned::Owned;
use super::{AcquireError, ThreadKey};
use crate::table::primitive::{AtomicU64, Ordering::Relaxed, thread_number};

/// A circle of threads of which each waits for a lock that the next one holds.
///
/// # Examples
///
/// ```
/// use hapax::sync::{AcquireError, Mutex};
///
/// let account = Mutex::named("account", 5);
/// let guard = account.lock()?;
/// let Err(AcquireError::Deadlock(report)) = account.lock() else { unreachable!() };
/// assert_eq!(report.steps().len(), 1);
/// assert_eq!(report.steps()[0].lock_name, Some("account"));
/// # Ok::<_, AcquireError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadlockReport {
    steps: Vec<Step>,
}

/// A thread of a [`DeadlockReport`], and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The thread that waits.
    pub thread: ThreadKey,
    /// The name that the thread had when it first took a lock.
    pub thread_name: Option<String>,
    /// The name of the lock that it waits for.
    pub lock_name: Option<&'static str>,
    /// An address within that lock, which tells locks without names apart.
    pub lock_address: usize,
    /// The thread that holds it.
    pub holder: ThreadKey,
}

impl DeadlockReport {
    /// The circle. It begins with the thread whose wait was refused; the holder of each lock is the next thread, and that
    /// of the last lock the first.
    ///
    /// # Examples
    ///
    /// See [`DeadlockReport`].
    ///
    /// ```
    /// use hapax::sync::{AcquireError, Mutex, ThreadKey};
    ///
    /// let lock = Mutex::new(());
    /// let guard = lock.lock()?;
    /// let Err(AcquireError::Deadlock(report)) = lock.lock() else { unreachable!() };
    /// assert_eq!(report.steps()[0].thread, ThreadKey::current());
    /// assert_eq!(report.steps()[0].holder, ThreadKey::current());
    /// # Ok::<_, AcquireError>(())
    /// ```
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl fmt::Display for DeadlockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            write!(f, "thread {}", step.thread)?;
            if let Some(name) = &step.thread_name {
                write!(f, " ({name})")?;
            }
            match step.lock_name {
                Some(name) => write!(f, " waits for {name}")?,
                None => write!(f, " waits for the lock at {:#x}", step.lock_address)?,
            }
            write!(f, ", held by thread {}", step.holder)?;
        }
        Ok(())
    }
}

impl Error for DeadlockReport {}

/// How long a thread waits before it looks for a deadlock, in nanoseconds.
static CHECK_AFTER: AtomicU64 = AtomicU64::new(1_000_000);

/// Sets how long threads wait for a lock before they look whether the wait would be a deadlock. It is 1 ms at first: most
/// waits are over by then, and cost nothing. In tests of one's own [`Duration::ZERO`] saves time.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// hapax::sync::deadlock::set_check_after(Duration::ZERO);
/// ```
pub fn set_check_after(time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1);
    // Relaxed: a setting.
    CHECK_AFTER.store(nanos, Relaxed);
}

pub(super) fn check_after() -> Duration {
    Duration::from_nanos(CHECK_AFTER.load(Relaxed))
}

/// Calls `f` until it ends otherwise than by a deadlock of several threads. In between it waits for a while, at random
/// and longer each time, so that the threads of the circle don't meet again. What `f` has done before the error stays
/// done; guards are given back by the `?` that returns it. The caller must hold no lock that others of the circle want:
/// they would never get it.
///
/// # Examples
///
/// ```
/// use hapax::sync::{Mutex, deadlock};
///
/// let (from, to) = (Mutex::new(5), Mutex::new(0));
/// deadlock::retry(|| {
///     let (mut from, mut to) = (from.lock()?, to.lock()?);
///     *from -= 1;
///     *to += 1;
///     Ok(())
/// })?;
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
///
/// # Errors
///
/// Those of `f`; of [`AcquireError::Deadlock`] only the wait of a thread for itself, which it would meet again.
pub fn retry<R>(mut f: impl FnMut() -> Result<R, AcquireError>) -> Result<R, AcquireError> {
    let mut longest = Duration::from_micros(50);
    loop {
        match f() {
            Err(AcquireError::Deadlock(report)) if report.steps().len() > 1 => {}
            answer => return answer,
        }
        // A random number: the hasher of `std` has one for each instance.
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u8);
        thread::sleep(longest.mul_f64(random as f64 / u64::MAX as f64));
        longest = (longest * 2).min(Duration::from_millis(50));
    }
}

/// A wait that is registered.
struct Wait {
    /// Invariant: valid as long as the wait is registered. Who waits borrows the lock.
    on: *const Owned,
    timed: bool,
}

// SAFETY: the lock is made of atomics.
unsafe impl Send for Wait {}

struct State {
    /// Threads that have taken locks and haven't ended, with their names.
    living: BTreeMap<u64, Option<String>>,
    waits: BTreeMap<u64, Wait>,
}

pub(super) struct Graph(Mutex<State>);

static GRAPH: Graph = Graph(Mutex::new(State {
    living: BTreeMap::new(),
    waits: BTreeMap::new(),
}));

pub(super) fn graph() -> &'static Graph {
    &GRAPH
}

/// Why a wait isn't registered.
pub(super) enum Refused {
    Deadlock(Arc<DeadlockReport>),
    OwnerDied(u64),
}

/// Takes the wait of a thread off the graph when it is dropped.
pub(super) struct Registered(u64);

impl Drop for Registered {
    fn drop(&mut self) {
        GRAPH.0.lock().waits.remove(&self.0);
    }
}

impl Graph {
    pub(super) fn begin_thread(&self, thread: u64, name: Option<String>) {
        self.0.lock().living.insert(thread, name);
    }

    /// What the thread still owns is out of use from now on, and who waits for it learns that.
    pub(super) fn end_thread(&self, thread: u64) {
        let mut state = self.0.lock();
        state.living.remove(&thread);
        for wait in state.waits.values() {
            // SAFETY: by the invariant.
            let on = unsafe { &*wait.on };
            on.abandon(thread);
        }
    }

    /// The thread that has ended while it held `on`, if one has.
    pub(super) fn dead_owner(&self, on: &Owned) -> Option<u64> {
        self.0.lock().dead_owner(on)
    }

    /// The circle of a thread that waits for what it holds itself.
    pub(super) fn wait_for_oneself(&self, on: &Owned) -> Arc<DeadlockReport> {
        let thread = thread_number();
        let step = self.0.lock().step(thread, on, thread);
        Arc::new(DeadlockReport { steps: vec![step] })
    }

    /// Registers that a thread waits, unless it would wait for itself, or for a thread that has ended.
    pub(super) fn register(
        &self,
        thread: u64,
        on: &Owned,
        timed: bool,
    ) -> Result<Registered, Refused> {
        let mut state = self.0.lock();
        if let Some(owner) = state.dead_owner(on) {
            return Err(Refused::OwnerDied(owner));
        }
        if !timed && let Some(report) = state.circle(thread, on) {
            return Err(Refused::Deadlock(Arc::new(report)));
        }
        let on = ptr::from_ref(on);
        state.waits.insert(thread, Wait { on, timed });
        Ok(Registered(thread))
    }
}

impl State {
    fn dead_owner(&self, on: &Owned) -> Option<u64> {
        if let Some(owner) = on.owner()
            && !self.living.contains_key(&owner)
        {
            // Does nothing if it has got another owner since.
            on.abandon(owner);
        }
        on.dead_owner()
    }

    fn step(&self, waiter: u64, on: &Owned, holder: u64) -> Step {
        Step {
            thread: ThreadKey::of(waiter),
            thread_name: self.living.get(&waiter).cloned().flatten(),
            lock_name: on.name(),
            lock_address: ptr::from_ref(on).addr(),
            holder: ThreadKey::of(holder),
        }
    }

    /// The circle that a wait of `thread` would close.
    fn circle(&self, thread: u64, wanted: &Owned) -> Option<DeadlockReport> {
        let mut steps = Vec::new();
        let (mut waiter, mut on) = (thread, wanted);
        loop {
            let holder = on.owner()?;
            steps.push(self.step(waiter, on, holder));
            if holder == thread {
                return Some(DeadlockReport { steps });
            }
            let next = self.waits.get(&holder).filter(|wait| !wait.timed)?;
            // It was granted what it waited for; or there is a circle already, which this wait isn't part of: somebody
            // was refused there and hasn't let go yet.
            if ptr::eq(next.on, on) || steps.len() > self.waits.len() {
                return None;
            }
            waiter = holder;
            // SAFETY: by the invariant.
            on = unsafe { &*next.on };
        }
    }
}
