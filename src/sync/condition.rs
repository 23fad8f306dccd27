//! `Condition`: waiting, without the lock, until somebody who has it says that something has changed.
//!
//! Who waits goes into the queue *before* it gives the lock up, so a notification that is sent afterwards finds it there,
//! and takes it out: it is the one that is meant, and no other. Then it takes the lock in the ordinary way, so that this
//! wait is seen by those who look for deadlocks.
//!
//! A notification is never lost: a place that is given up (the time is over, or a future is dropped) is taken out of the
//! queue under its lock. If it isn't there any more it was notified, and that counts, or is passed on to the next one that
//! was waiting when it was sent.

use std::fmt;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::cancel::{Cancelled, NoAnswer};
use super::lock::{Lock, LockGuard};
use super::mutex::{Mutex, MutexGuard};
use super::patience::Patience;
use super::rlock::{RLockGuard, Suspended};
use super::waiter::{Answer, Queue, Waiter, wake_all};
use super::{AcquireError, ReleaseError, WaitError};
use crate::table::primitive::{
    AtomicU64, AtomicUsize, Mutex as QueueLock, Ordering, lock, maybe_const_fn,
};

/// Something that threads wait for until others say that it may have changed: Python's `Condition`, over a lock of one's
/// own. There may be any number of conditions over one lock.
///
/// To wait is to give the guard up and get it back. Who is notified has been waiting for longest, of those that wait with
/// the same lock, and nobody wakes who wasn't notified; all the same a condition is best waited for by
/// [`wait_while`](Self::wait_while), since others may have held the lock in between.
///
/// # Which locks
///
/// Those that this module has: [`Mutex`], [`RLock`](super::RLock) (all of the thread's guards give it up, and have it again
/// afterwards; so others read the data meanwhile, which must be `Sync`), and [`Lock`]. A condition doesn't belong to a
/// lock: waits with different locks have nothing to do with each other.
///
/// # Examples
///
/// ```
/// use std::thread;
///
/// use hapax::sync::{Condition, Mutex, WaitError};
///
/// static JOBS: Mutex<Vec<u32>> = Mutex::named("jobs", Vec::new());
/// static HAS_JOBS: Condition = Condition::new();
///
/// let worker = thread::spawn(|| {
///     let mut jobs = HAS_JOBS.wait_while(JOBS.lock()?, |jobs| jobs.is_empty())?;
///     Ok::<_, WaitError>(jobs.pop())
/// });
/// let mut jobs = JOBS.lock()?;
/// jobs.push(5);
/// HAS_JOBS.notify_one(&jobs).unwrap();
/// drop(jobs);
/// assert_eq!(worker.join().unwrap(), Ok(Some(5)));
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
#[doc(alias = "threading.Condition")]
#[doc(alias = "Condvar")]
pub struct Condition {
    /// How many wait. Changed under the lock of the queue.
    waiting: AtomicUsize,
    queue: QueueLock<State>,
}

struct State {
    queue: Queue<Wish>,
    /// How many waits have begun.
    begun: u64,
}

/// What somebody waits for.
struct Wish {
    /// A notification by somebody who has the lock there.
    lock: usize,
    /// How many waits had begun before.
    number: u64,
    /// How many had begun when the notification came. Written under the lock, before the answer.
    notified_at: AtomicU64,
}

/// A guard that a [`Condition`] can give up and get back: [`MutexGuard`], [`LockGuard`], and [`RLockGuard`] of data that is
/// `Sync`. Not to be implemented elsewhere.
///
/// # Examples
///
/// ```
/// use hapax::sync::{AcquireError, Condition, ConditionGuard, Lock, Mutex};
///
/// fn wake_all(condition: &Condition, guard: &impl ConditionGuard) -> usize {
///     condition.notify_all(guard).unwrap_or(0)
/// }
/// assert_eq!(wake_all(&Condition::new(), &Mutex::new(5).lock()?), 0);
/// assert_eq!(wake_all(&Condition::new(), &Lock::new().lock()?), 0);
/// # Ok::<_, AcquireError>(())
/// ```
///
/// ```compile_fail,E0277
/// use std::cell::Cell;
/// use hapax::sync::{Condition, RLock};
///
/// let cell = RLock::new(Cell::new(5));
/// let guard = cell.lock().unwrap();
/// Condition::new().wait(guard);
/// ```
pub trait ConditionGuard: sealed::Guard {}

mod sealed {
    use super::{AcquireError, ReleaseError};

    pub trait Guard: Sized {
        /// What is left of it while the lock is given up.
        type Suspended;

        fn lock_address(&self) -> usize;

        fn is_held(&self) -> bool;

        fn suspend(self) -> Result<Self::Suspended, ReleaseError>;

        fn resume(suspended: Self::Suspended) -> Result<Self, AcquireError>;
    }
}

impl<'a, T: ?Sized> ConditionGuard for MutexGuard<'a, T> {}

impl<'a, T: ?Sized> sealed::Guard for MutexGuard<'a, T> {
    type Suspended = &'a Mutex<T>;

    fn lock_address(&self) -> usize {
        ptr::from_ref(self.mutex()).cast::<()>().addr()
    }

    fn is_held(&self) -> bool {
        true
    }

    fn suspend(self) -> Result<&'a Mutex<T>, ReleaseError> {
        Ok(self.mutex())
    }

    fn resume(mutex: &'a Mutex<T>) -> Result<Self, AcquireError> {
        mutex.lock()
    }
}

impl<'a, T: ?Sized + Sync> ConditionGuard for RLockGuard<'a, T> {}

impl<'a, T: ?Sized + Sync> sealed::Guard for RLockGuard<'a, T> {
    type Suspended = Suspended<'a, T>;

    fn lock_address(&self) -> usize {
        self.lock_address()
    }

    fn is_held(&self) -> bool {
        self.is_held()
    }

    fn suspend(self) -> Result<Suspended<'a, T>, ReleaseError> {
        self.suspend()
    }

    fn resume(suspended: Suspended<'a, T>) -> Result<Self, AcquireError> {
        suspended.resume()
    }
}

impl<'a> ConditionGuard for LockGuard<'a> {}

impl<'a> sealed::Guard for LockGuard<'a> {
    type Suspended = &'a Lock;

    fn lock_address(&self) -> usize {
        ptr::from_ref(self.lock()).addr()
    }

    fn is_held(&self) -> bool {
        self.is_held()
    }

    fn suspend(self) -> Result<&'a Lock, ReleaseError> {
        let lock = self.lock();
        self.release().map(|()| lock)
    }

    fn resume(lock: &'a Lock) -> Result<Self, AcquireError> {
        lock.lock()
    }
}

/// Whether a wait ended because its time was over.
///
/// # Examples
///
/// See [`Condition::wait_for`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(super) fn new(is_over: bool) -> Self {
        Self(is_over)
    }

    /// Whether the time was over, and nobody had notified the thread.
    ///
    /// # Examples
    ///
    /// See [`Condition::wait_for`].
    #[must_use]
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condition {
    maybe_const_fn! {
        /// A condition that nobody waits for.
        ///
        /// # Examples
        ///
        /// ```
        /// use hapax::sync::Condition;
        ///
        /// static CHANGED: Condition = Condition::new();
        /// ```
        pub const fn new() -> Self {
            Self {
                waiting: AtomicUsize::new(0),
                queue: QueueLock::new(State {
                    queue: Queue::new(),
                    begun: 0,
                }),
            }
        }
    }

    /// Gives the lock up until somebody notifies the thread, and takes it again.
    ///
    /// # Errors
    ///
    /// - [`WaitError::Release`] if the guard doesn't hold the lock any more, or, of a [`Lock::owned`], is on another thread
    ///   than that which has taken it. Nothing was waited for, and the guard is gone.
    /// - [`WaitError::Acquire`] if the lock can't be had again, for a reason that its `lock` has, or if the thread is
    ///   [cancelled](AcquireError::Cancelled) before it is notified. A notification is
    ///   passed on to the next one who waits. Further guards of this thread on an [`RLock`](super::RLock) don't hold it
    ///   any more; they do nothing when they are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    ///
    /// use hapax::sync::{Condition, Mutex};
    ///
    /// let (turns, changed) = (Mutex::new(0), Condition::new());
    /// thread::scope(|scope| {
    ///     let guard = turns.lock().unwrap();
    ///     scope.spawn(|| {
    ///         let mut turns = turns.lock().unwrap();
    ///         *turns += 1;
    ///         changed.notify_one(&turns).unwrap();
    ///     });
    ///     assert_eq!(changed.wait(guard).map(|turns| *turns), Ok(1));
    /// });
    /// ```
    pub fn wait<G: ConditionGuard>(&self, guard: G) -> Result<G, WaitError> {
        self.wait_with(guard, Patience::Forever)
            .map(|(guard, _)| guard)
    }

    /// As [`wait`](Self::wait), but gives up after so long. Then it takes the lock again, however long that lasts.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::{Condition, Mutex};
    ///
    /// let number = Mutex::new(5);
    /// let guard = number.lock().unwrap();
    /// let (guard, result) = Condition::new().wait_for(guard, Duration::from_millis(1))?;
    /// assert!(result.timed_out());
    /// assert_eq!(*guard, 5);
    /// # Ok::<_, hapax::sync::WaitError>(())
    /// ```
    pub fn wait_for<G: ConditionGuard>(
        &self,
        guard: G,
        time: Duration,
    ) -> Result<(G, WaitTimeoutResult), WaitError> {
        self.wait_with(guard, Patience::lasting(time))
    }

    /// As [`wait_for`](Self::wait_for), until a moment.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use hapax::sync::{Condition, Lock};
    ///
    /// let lock = Lock::new();
    /// let (_, result) = Condition::new().wait_until(lock.lock().unwrap(), Instant::now())?;
    /// assert!(result.timed_out());
    /// # Ok::<_, hapax::sync::WaitError>(())
    /// ```
    pub fn wait_until<G: ConditionGuard>(
        &self,
        guard: G,
        moment: Instant,
    ) -> Result<(G, WaitTimeoutResult), WaitError> {
        self.wait_with(guard, Patience::Until(moment))
    }

    /// Waits as long as `condition` is true. It is called with the guard, and so with the lock held: at first, and after
    /// each notification. Python's `wait_for` waits as long as its condition is *false*.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// If `condition` does. The lock is given back.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{Condition, Mutex};
    ///
    /// let number = Mutex::new(5);
    /// let guard = Condition::new().wait_while(number.lock().unwrap(), |number| **number < 5)?;
    /// assert_eq!(*guard, 5);
    /// # Ok::<_, hapax::sync::WaitError>(())
    /// ```
    pub fn wait_while<G: ConditionGuard>(
        &self,
        mut guard: G,
        mut condition: impl FnMut(&mut G) -> bool,
    ) -> Result<G, WaitError> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait_while`](Self::wait_while), but gives up after so long: Python's `wait_for`, with the condition negated. The condition is looked at
    /// once more when the time is over; the result says whether it was true even then.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// If `condition` does. The lock is given back.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::{Condition, Mutex};
    ///
    /// let number = Mutex::new(5);
    /// let guard = number.lock().unwrap();
    /// let wait = Duration::from_millis(1);
    /// let (_, result) = Condition::new().wait_timeout_while(guard, wait, |number| **number == 5)?;
    /// assert!(result.timed_out());
    /// # Ok::<_, hapax::sync::WaitError>(())
    /// ```
    #[doc(alias = "wait_for")]
    pub fn wait_timeout_while<G: ConditionGuard>(
        &self,
        mut guard: G,
        time: Duration,
        mut condition: impl FnMut(&mut G) -> bool,
    ) -> Result<(G, WaitTimeoutResult), WaitError> {
        let patience = Patience::lasting(time);
        let mut last = WaitTimeoutResult(false);
        loop {
            if !condition(&mut guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            if last.timed_out() {
                return Ok((guard, last));
            }
            (guard, last) = self.wait_with(guard, patience)?;
        }
    }

    fn wait_with<G: ConditionGuard>(
        &self,
        guard: G,
        patience: Patience,
    ) -> Result<(G, WaitTimeoutResult), WaitError> {
        let mut place = self.enqueue(&guard, Waiter::thread)?;
        let suspended = guard.suspend().map_err(WaitError::Release)?;
        let answer = place.waiter.sleep(patience.end());
        let was_notified = place.leave();
        if !was_notified && answer == Err(NoAnswer::Cancelled) {
            return Err(Cancelled.into());
        }
        let guard = G::resume(suspended).map_err(WaitError::Acquire)?;
        // The notification has come to somebody who can make something of it.
        place.is_over = true;
        Ok((guard, WaitTimeoutResult(!was_notified)))
    }

    /// Gives the lock up, and returns what a task can await, on any executor: somebody's notification. The task is in
    /// the queue from now on, together with threads, also if the future isn't polled. The future doesn't take the lock
    /// again: when it is done the task has to lock.
    ///
    /// A future that is dropped gives its place up, and passes its notification on if it has got one. Wakers run on the
    /// thread that notifies, which has the lock: they must not wait for it. Further guards of this thread on an
    /// [`RLock`](super::RLock) don't hold it any more.
    ///
    /// # Errors
    ///
    /// [`WaitError::Release`] as for [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::task::{Context, Poll, Waker};
    /// use hapax::sync::{Condition, Mutex};
    ///
    /// async fn pop(jobs: &Mutex<Vec<u32>>, has_jobs: &Condition) -> u32 {
    ///     loop {
    ///         let notified = {
    ///             let mut jobs = jobs.lock().expect("nobody keeps it");
    ///             if let Some(job) = jobs.pop() {
    ///                 return job;
    ///             }
    ///             has_jobs.notified(jobs).expect("it is held")
    ///         };
    ///         notified.await;
    ///     }
    /// }
    /// # let (jobs, has_jobs) = (Mutex::new(Vec::new()), Condition::new());
    /// # let mut pop = std::pin::pin!(pop(&jobs, &has_jobs));
    /// # let mut context = Context::from_waker(Waker::noop());
    /// # assert!(pop.as_mut().poll(&mut context).is_pending());
    /// # let mut guard = jobs.lock().unwrap();
    /// # guard.push(5);
    /// # has_jobs.notify_one(&guard).unwrap();
    /// # drop(guard);
    /// # assert_eq!(pop.as_mut().poll(&mut context), Poll::Ready(5));
    /// ```
    ///
    /// The lock must stay where it is as long as the future is there:
    ///
    /// ```compile_fail,E0505
    /// # use hapax::sync::{Condition, Mutex};
    /// let (mutex, changed) = (Mutex::new(0), Condition::new());
    /// let notified = changed.notified(mutex.lock().unwrap());
    /// let elsewhere = Box::new(mutex);
    /// drop(notified);
    /// ```
    pub fn notified<'a, G: ConditionGuard + 'a>(
        &'a self,
        guard: G,
    ) -> Result<Notified<'a>, WaitError> {
        let place = self.enqueue(&guard, Waiter::task)?;
        guard.suspend().map_err(WaitError::Release)?;
        Ok(Notified(place))
    }

    fn enqueue(
        &self,
        guard: &impl ConditionGuard,
        waiter: fn(Wish) -> Arc<Waiter<Wish>>,
    ) -> Result<Place<'_>, WaitError> {
        // Nobody is to be notified who doesn't wait.
        if !guard.is_held() {
            return Err(WaitError::Release(ReleaseError::NotHeld));
        }
        let mut state = lock(&self.queue);
        let waiter = waiter(Wish {
            lock: guard.lock_address(),
            number: state.begun,
            notified_at: AtomicU64::new(0),
        });
        state.begun += 1;
        state.queue.push(waiter.clone());
        self.count(&state);
        drop(state);
        Ok(Place {
            condition: self,
            waiter,
            is_over: false,
        })
    }

    fn count(&self, state: &State) {
        // Relaxed: see `notify`.
        self.waiting.store(state.queue.len(), Ordering::Relaxed);
    }

    /// Wakes so many of those that wait with this lock, the first ones first, and returns how many there were. They get the
    /// lock when the caller's guard is dropped, at the soonest. Nothing is kept for those that come later. Wakers of tasks
    /// run on this thread.
    ///
    /// # Panics
    ///
    /// If the waker of a task does. All others were woken before.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::NotHeld`] if the guard doesn't hold the lock any more, because another thread has released a
    /// [`Lock`]. Then nobody was woken.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{Condition, Mutex};
    ///
    /// let number = Mutex::new(5);
    /// assert_eq!(Condition::new().notify(&number.lock().unwrap(), 3), Ok(0));
    /// ```
    pub fn notify(&self, guard: &impl ConditionGuard, n: usize) -> Result<usize, ReleaseError> {
        if !guard.is_held() {
            return Err(ReleaseError::NotHeld);
        }
        // Relaxed: who waits with this lock was counted before it gave the lock up.
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return Ok(0);
        }
        Ok(self.notify_some(guard.lock_address(), n, u64::MAX))
    }

    /// Notifies so many who wait with that lock, and have begun before so many waits had begun.
    #[cold]
    fn notify_some(&self, lock_address: usize, n: usize, before: u64) -> usize {
        let mut state = lock(&self.queue);
        let before = before.min(state.begun);
        let notified = state.queue.answer_some(n, Answer::Granted, |wish| {
            let is_meant = wish.lock == lock_address && wish.number < before;
            if is_meant {
                // Relaxed: seen with the answer.
                wish.notified_at.store(before, Ordering::Relaxed);
            }
            is_meant
        });
        self.count(&state);
        drop(state);
        let number = notified.len();
        wake_all(notified);
        number
    }

    /// As [`notify`](Self::notify), for one.
    ///
    /// # Errors
    ///
    /// As for [`notify`](Self::notify).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{Condition, Mutex};
    ///
    /// let number = Mutex::new(5);
    /// assert_eq!(Condition::new().notify_one(&number.lock().unwrap()), Ok(0));
    /// ```
    pub fn notify_one(&self, guard: &impl ConditionGuard) -> Result<usize, ReleaseError> {
        self.notify(guard, 1)
    }

    /// As [`notify`](Self::notify), for all.
    ///
    /// # Errors
    ///
    /// As for [`notify`](Self::notify).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{Condition, Mutex};
    ///
    /// let number = Mutex::new(5);
    /// assert_eq!(Condition::new().notify_all(&number.lock().unwrap()), Ok(0));
    /// ```
    pub fn notify_all(&self, guard: &impl ConditionGuard) -> Result<usize, ReleaseError> {
        self.notify(guard, usize::MAX)
    }
}

impl Default for Condition {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: a number to look at.
        let waiting = self.waiting.load(Ordering::Relaxed);
        f.debug_struct("Condition")
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

/// A place in the queue. When it is dropped it is given up, and a notification that it has got is passed on.
struct Place<'a> {
    condition: &'a Condition,
    waiter: Arc<Waiter<Wish>>,
    is_over: bool,
}

impl Place<'_> {
    /// Leaves the queue, or has been notified: whether that.
    fn leave(&self) -> bool {
        if self.waiter.answered().is_none() {
            let mut state = lock(&self.condition.queue);
            state.queue.remove(&self.waiter);
            self.condition.count(&state);
        }
        self.waiter.answered().is_some()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.leave() {
            let Wish {
                lock, notified_at, ..
            } = &self.waiter.wish;
            // Relaxed: the answer has been seen.
            let before = notified_at.load(Ordering::Relaxed);
            self.condition.notify_some(*lock, 1, before);
        }
    }
}

/// What [`Condition::notified`] returns: done when somebody has notified the task.
///
/// # Examples
///
/// See [`Condition::notified`].
#[must_use = "it does nothing unless it is awaited"]
pub struct Notified<'a>(Place<'a>);

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let place = &mut self.0;
        place.waiter.poll(cx).map(|_| place.is_over = true)
    }
}

impl fmt::Debug for Notified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notified").finish_non_exhaustive()
    }
}
