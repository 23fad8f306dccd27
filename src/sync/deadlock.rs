//! Deadlocks: found when they would come about, and broken.
//!
//! [`retry`] is for the thread that was refused, [`blocking_on`] for waits that this crate can't see, [`set_policy`] and
//! [`set_check_after`] are for the program. How they are found: `graph`.

#![allow(
    clippy::borrow_deref_ref,
    reason = "settings are references here and `Arc`s under a checker"
)]

mod circle;
#[cfg(all(feature = "coord", not(any(loom, shuttle))))]
mod elsewhere;
mod graph;
mod pool;
mod report;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

use std::fmt;
use std::thread;
use std::time::Duration;

use super::{AcquireError, ThreadKey};
use crate::table::primitive::{AtomicU64, Mutex, Ordering::Relaxed, global, lock};

#[cfg(all(feature = "coord", not(any(loom, shuttle))))]
pub(crate) use elsewhere::Waits;
#[cfg(not(loom))]
pub(super) use graph::wait_for_child;
pub(super) use graph::{
    Awaited, Held, Limit, Registered, State, begin_thread, died, end_thread, owner_died,
    wait_for_lock, wait_for_oneself, wait_for_threads, with_graph,
};
pub(super) use pool::{NOBODY, Share, Wish};
pub use report::{DeadlockReport, Step, Wanted};

// How long a thread waits before it looks for a deadlock, in nanoseconds.
global! { fn nanos() -> AtomicU64 = AtomicU64::new(1_000_000) }

/// Sets how long threads wait for a lock before they look whether the wait would be a deadlock. It is 1 ms at first: most
/// waits are over by then, and cost nothing. In tests of one's own [`Duration::ZERO`] saves time; each wait takes a lock of the
/// whole process then. A long time also delays [`AcquireError::OwnerDied`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// hapax::sync::deadlock::set_check_after(Duration::ZERO);
/// ```
pub fn set_check_after(time: Duration) {
    // Half of what there is: it is added to the present.
    let time = u64::try_from(time.as_nanos()).map_or(u64::MAX >> 1, |time| time.min(u64::MAX >> 1));
    // Relaxed: a setting.
    nanos().store(time, Relaxed);
}

pub(super) fn check_after() -> Duration {
    Duration::from_nanos(nanos().load(Relaxed))
}

/// What becomes of a wait that would never end.
///
/// # Examples
///
/// ```
/// use hapax::sync::deadlock::{self, Policy};
///
/// deadlock::set_policy(Policy::ReportOnly(|report| eprintln!("deadlock: {report}")));
/// # deadlock::set_policy(Policy::Break);
/// ```
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub enum Policy {
    /// It is refused, with [`AcquireError::Deadlock`].
    #[default]
    Break,
    /// It is reported, and begins: the threads of the circle hang. For programs that are to be watched, not changed. The
    /// function runs on the thread that closes the circle, with none of this crate's internal locks held; where a thread
    /// closes one by ending with permits that it has leaked, among the destructors of its thread-locals.
    ///
    /// It must not take locks or permits, or give any back. A thread that waits for a lock that it holds itself is refused
    /// all the same (for its own permits or its own end it isn't).
    ReportOnly(Listener),
}

/// Gets the reports of deadlocks that aren't broken.
///
/// # Examples
///
/// ```
/// use hapax::sync::deadlock::Listener;
///
/// let listener: Listener = |report| eprintln!("deadlock: {report}");
/// ```
pub type Listener = fn(&DeadlockReport);

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Break => "Break",
            Self::ReportOnly(_) => "ReportOnly",
        })
    }
}

global! { fn policy_of_all() -> Mutex<Policy> = Mutex::new(Policy::Break) }

/// Sets what becomes of waits that would never end, from now on, in the whole process.
///
/// # Examples
///
/// See [`Policy`].
///
/// ```
/// use hapax::sync::deadlock::{self, Policy};
///
/// deadlock::set_policy(Policy::default());
/// ```
pub fn set_policy(policy: Policy) {
    *lock(&*policy_of_all()) = policy;
}

pub(super) fn policy() -> Policy {
    *lock(&*policy_of_all())
}

/// Calls `f` until it returns something else than a deadlock of two or more threads. In between it waits for a while, at random
/// and longer each time, so that the threads of the circle don't meet again. What `f` has done before the error stays
/// done; guards are given back by the `?` that returns it. There is no limit to the attempts: if the caller holds a lock
/// that others of the circle want, this may never return.
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

/// Calls `f`, which waits for something that this crate doesn't know of (a channel, a pipe, a lock of another library),
/// and that one of these threads is to do. Until it returns, the calling thread counts as one that waits for them: if
/// *all* of them wait, for good, for something that only it could give them, there is a deadlock.
///
/// False alarms are possible if a thread that isn't named could end the wait as well; and if a thread that is named has done
/// its part and then waits for something that the caller holds, before `f` has returned (for locks and permits it looks after
/// a millisecond, see [`set_check_after`], which is mostly time enough). Threads that have ended, or never existed, count as
/// running; of no threads at all nothing is said.
///
/// # Errors
///
/// [`AcquireError::Deadlock`] if the wait would be one at once. Then `f` isn't called. Waits of others that close a circle
/// later are refused in their place.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
/// use std::thread;
///
/// use hapax::sync::{AcquireError, Mutex, ThreadKey, deadlock};
///
/// let numbers = Mutex::named("numbers", vec![1, 2, 3]);
/// let (send_key, key) = mpsc::channel();
/// let (send, answer) = mpsc::channel();
/// thread::scope(|scope| {
///     let guard = numbers.lock()?;
///     scope.spawn(|| {
///         send_key.send(ThreadKey::current()).unwrap();
///         // It would wait for the lock while its holder waits for the sum.
///         let sum = numbers.lock().map(|numbers| numbers.iter().sum::<u32>());
///         send.send(sum).unwrap();
///     });
///     let worker = key.recv().unwrap();
///     match deadlock::blocking_on(&[worker], || answer.recv().unwrap()) {
///         // Whoever comes last is told.
///         Ok(answer) => assert!(matches!(answer, Err(AcquireError::Deadlock(_)))),
///         Err(error) => assert!(matches!(error, AcquireError::Deadlock(_))),
///     }
///     drop(guard);
///     Ok::<_, AcquireError>(())
/// })?;
/// # Ok::<_, AcquireError>(())
/// ```
pub fn blocking_on<R>(threads: &[ThreadKey], f: impl FnOnce() -> R) -> Result<R, AcquireError> {
    let threads = threads.iter().map(|thread| thread.number()).collect();
    let registered = wait_for_threads(threads, Wanted::Act, Limit::NEVER)?;
    let answer = f();
    drop(registered);
    Ok(answer)
}

/// How many waits are registered in the graph: none if nobody waits.
#[doc(hidden)]
pub fn registered_waits() -> usize {
    with_graph(|state| state.registered())
}
