//! `Semaphore`: a number of permits, and a queue of those who want some.
//!
//! Everything is behind one lock, which is held for a few steps. Who finds too few permits puts a *ticket* into the
//! queue and parks. Who gives permits back deals them out from the head of the queue, before anybody else can have them,
//! and wakes the threads when the lock is free again. A ticket is *granted* or *refused* once, under the lock; a thread
//! whose time is over looks there last, so that no grant is lost.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::patience::Patience;
use super::{AcquireError, ReleaseError};
use crate::table::primitive::{AtomicU8, Ordering};

/// A number of permits, of which threads take some and give them back: Python's `Semaphore`, and with
/// [`bounded`](Self::bounded) its `BoundedSemaphore`.
///
/// Threads get their permits in the order in which they came, whatever number each wants; so who wants many isn't passed
/// over for ever by others who want few. A semaphore that is [`barging`](Self::barging) gives permits that are free to who
/// comes by, which is faster if many come.
///
/// A permit belongs to nobody: it may be given back by any thread, and there need not have been one before. So waits for
/// semaphores are no part of what is looked at for deadlocks.
///
/// # Examples
///
/// ```
/// use hapax::sync::{AcquireError, Semaphore};
///
/// let connections = Semaphore::new(2);
/// let first = connections.acquire()?;
/// let second = connections.acquire()?;
/// assert_eq!(connections.try_acquire().unwrap_err(), AcquireError::WouldBlock);
/// drop(first);
/// assert_eq!(connections.available_permits(), 1);
/// # Ok::<_, AcquireError>(())
/// ```
#[doc(alias = "threading.Semaphore")]
#[doc(alias = "BoundedSemaphore")]
pub struct Semaphore {
    state: Mutex<State>,
    /// There are never more permits than that.
    limit: usize,
    is_barging: bool,
}

struct State {
    permits: usize,
    queue: VecDeque<Arc<Ticket>>,
    is_closed: bool,
}

/// What a thread in the queue waits for.
struct Ticket {
    wanted: usize,
    thread: Thread,
    /// Changed once, under the lock of the semaphore.
    answer: AtomicU8,
}

const WAITING: u8 = 0;
const GRANTED: u8 = 1;
const REFUSED: u8 = 2;

impl Ticket {
    /// Answers the thread, which is to be woken when the lock is free again.
    fn answer(&self, answer: u8) {
        // Release: pairs with the Acquire in `has`; what came before the permits were given back is seen.
        self.answer.store(answer, Ordering::Release);
    }

    fn has(&self, answer: u8) -> bool {
        // Acquire: pairs with the Release in `answer`.
        self.answer.load(Ordering::Acquire) == answer
    }
}

impl Semaphore {
    /// So many permits, and more if somebody adds some.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// static CONNECTIONS: Semaphore = Semaphore::new(10);
    /// assert_eq!(CONNECTIONS.available_permits(), 10);
    /// ```
    pub const fn new(permits: usize) -> Self {
        Self::with(permits, usize::MAX, false)
    }

    /// So many permits, and never more: to give back one that nobody has taken is an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{ReleaseError, Semaphore};
    ///
    /// let semaphore = Semaphore::bounded(2);
    /// assert_eq!(semaphore.add_permits(1), Err(ReleaseError::OverRelease { max: 2 }));
    /// ```
    pub const fn bounded(permits: usize) -> Self {
        Self::with(permits, permits, false)
    }

    /// As [`new`](Self::new), but threads that come by may take free permits before those that wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// assert!(Semaphore::barging(1).try_acquire().is_ok());
    /// ```
    pub const fn barging(permits: usize) -> Self {
        Self::with(permits, usize::MAX, true)
    }

    const fn with(permits: usize, limit: usize, is_barging: bool) -> Self {
        Self {
            state: Mutex::new(State {
                permits,
                queue: VecDeque::new(),
                is_closed: false,
            }),
            limit,
            is_barging,
        }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    ///
    /// [`AcquireError::Closed`] if the semaphore is closed, or will be before there is one.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// let permit = Semaphore::new(1).acquire().map(drop);
    /// assert!(permit.is_ok());
    /// ```
    pub fn acquire(&self) -> Result<Permit<'_>, AcquireError> {
        self.acquire_many(1)
    }

    /// Waits for so many permits, which it gets at once.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(3);
    /// let permits = semaphore.acquire_many(2)?;
    /// assert_eq!(semaphore.available_permits(), 1);
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn acquire_many(&self, permits: usize) -> Result<Permit<'_>, AcquireError> {
        self.acquire_with(permits, Patience::Forever)
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    ///
    /// [`AcquireError::WouldBlock`] if not, or if others wait for it; [`AcquireError::Closed`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{AcquireError, Semaphore};
    ///
    /// assert_eq!(Semaphore::new(0).try_acquire().unwrap_err(), AcquireError::WouldBlock);
    /// ```
    pub fn try_acquire(&self) -> Result<Permit<'_>, AcquireError> {
        self.try_acquire_many(1)
    }

    /// Takes so many permits if there are so many.
    ///
    /// # Errors
    ///
    /// As for [`try_acquire`](Self::try_acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// assert!(Semaphore::new(2).try_acquire_many(2).is_ok());
    /// ```
    pub fn try_acquire_many(&self, permits: usize) -> Result<Permit<'_>, AcquireError> {
        self.acquire_with(permits, Patience::None)
    }

    /// Waits for a permit, but no longer than so long.
    ///
    /// # Errors
    ///
    /// [`AcquireError::TimedOut`] if the time is over; [`AcquireError::Closed`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::{AcquireError, Semaphore};
    ///
    /// let permit = Semaphore::new(0).try_acquire_for(Duration::from_millis(1)).map(drop);
    /// assert_eq!(permit, Err(AcquireError::TimedOut));
    /// ```
    pub fn try_acquire_for(&self, time: Duration) -> Result<Permit<'_>, AcquireError> {
        self.acquire_with(1, Patience::lasting(time))
    }

    /// As [`try_acquire_for`](Self::try_acquire_for), for so many permits.
    ///
    /// # Errors
    ///
    /// As for [`try_acquire_for`](Self::try_acquire_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::Semaphore;
    ///
    /// assert!(Semaphore::new(2).try_acquire_many_for(2, Duration::ZERO).is_ok());
    /// ```
    pub fn try_acquire_many_for(
        &self,
        permits: usize,
        time: Duration,
    ) -> Result<Permit<'_>, AcquireError> {
        self.acquire_with(permits, Patience::lasting(time))
    }

    /// As [`try_acquire_for`](Self::try_acquire_for), until a moment.
    ///
    /// # Errors
    ///
    /// As for [`try_acquire_for`](Self::try_acquire_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use hapax::sync::Semaphore;
    ///
    /// assert!(Semaphore::new(1).try_acquire_until(Instant::now()).is_ok());
    /// ```
    pub fn try_acquire_until(&self, moment: Instant) -> Result<Permit<'_>, AcquireError> {
        self.acquire_with(1, Patience::Until(moment))
    }

    /// As [`acquire_many`](Self::acquire_many), for permits that go elsewhere together with the semaphore.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::thread;
    ///
    /// use hapax::sync::Semaphore;
    ///
    /// let workers = Arc::new(Semaphore::new(1));
    /// let permit = workers.clone().acquire_many_owned(1)?;
    /// thread::spawn(move || drop(permit)).join().unwrap();
    /// assert_eq!(workers.available_permits(), 1);
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn acquire_many_owned(
        self: Arc<Self>,
        permits: usize,
    ) -> Result<OwnedPermit, AcquireError> {
        self.take(permits, Patience::Forever)?;
        Ok(OwnedPermit {
            semaphore: self,
            permits,
        })
    }

    fn acquire_with(&self, permits: usize, patience: Patience) -> Result<Permit<'_>, AcquireError> {
        self.take(permits, patience)?;
        Ok(Permit {
            semaphore: self,
            permits,
        })
    }

    fn take(&self, wanted: usize, patience: Patience) -> Result<(), AcquireError> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(AcquireError::Closed);
        }
        if state.permits >= wanted && (self.is_barging || state.queue.is_empty()) {
            state.permits -= wanted;
            return Ok(());
        }
        match patience {
            Patience::None => Err(AcquireError::WouldBlock),
            _ => self.wait(state, wanted, patience),
        }
    }

    #[cold]
    fn wait(
        &self,
        mut state: MutexGuard<'_, State>,
        wanted: usize,
        patience: Patience,
    ) -> Result<(), AcquireError> {
        let ticket = Arc::new(Ticket {
            wanted,
            thread: thread::current(),
            answer: AtomicU8::new(WAITING),
        });
        state.queue.push_back(ticket.clone());
        drop(state);
        while ticket.has(WAITING) {
            let Patience::Until(end) = patience else {
                thread::park();
                continue;
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.leave(&ticket);
            }
            thread::park_timeout(left);
        }
        answer_of(&ticket)
    }

    /// The time is over. If the answer came first, it counts.
    fn leave(&self, ticket: &Arc<Ticket>) -> Result<(), AcquireError> {
        let mut state = self.state.lock();
        if !ticket.has(WAITING) {
            return answer_of(ticket);
        }
        state.queue.retain(|other| !Arc::ptr_eq(other, ticket));
        // It may have stood in the way of others who want less.
        let granted = state.deal_out();
        drop(state);
        wake(granted);
        Err(AcquireError::TimedOut)
    }

    /// Gives so many permits back, or adds them: Python's `release`.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::ZeroPermits`] for none; [`ReleaseError::OverRelease`] if there would be more than a
    /// [`bounded`](Self::bounded) semaphore has, or than can be counted. Then nothing is added.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{ReleaseError, Semaphore};
    ///
    /// let semaphore = Semaphore::new(0);
    /// semaphore.add_permits(2)?;
    /// assert_eq!(semaphore.available_permits(), 2);
    /// assert_eq!(semaphore.add_permits(0), Err(ReleaseError::ZeroPermits));
    /// # Ok::<_, ReleaseError>(())
    /// ```
    #[doc(alias = "release")]
    pub fn add_permits(&self, permits: usize) -> Result<(), ReleaseError> {
        if permits == 0 {
            return Err(ReleaseError::ZeroPermits);
        }
        let mut state = self.state.lock();
        match state.permits.checked_add(permits) {
            Some(sum) if sum <= self.limit => state.permits = sum,
            _ => return Err(ReleaseError::OverRelease { max: self.limit }),
        }
        let granted = state.deal_out();
        drop(state);
        wake(granted);
        Ok(())
    }

    /// Takes all permits that are free, and returns how many there were.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(3);
    /// assert_eq!(semaphore.drain_permits(), 3);
    /// assert_eq!(semaphore.available_permits(), 0);
    /// ```
    pub fn drain_permits(&self) -> usize {
        mem::take(&mut self.state.lock().permits)
    }

    /// How many permits are free.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// assert_eq!(Semaphore::new(3).available_permits(), 3);
    /// ```
    pub fn available_permits(&self) -> usize {
        self.state.lock().permits
    }

    /// Refuses all who wait and all who come from now on. Permits can still be given back.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{AcquireError, Semaphore};
    ///
    /// let semaphore = Semaphore::new(1);
    /// semaphore.close();
    /// assert_eq!(semaphore.acquire().unwrap_err(), AcquireError::Closed);
    /// ```
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let refused = mem::take(&mut state.queue);
        refused.iter().for_each(|ticket| ticket.answer(REFUSED));
        drop(state);
        wake(refused);
    }

    /// Whether it was closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// assert!(!Semaphore::new(1).is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }
}

impl State {
    /// Grants what the permits suffice for, from the head of the queue on.
    fn deal_out(&mut self) -> Vec<Arc<Ticket>> {
        let mut granted = Vec::new();
        while let Some(head) = self.queue.front()
            && head.wanted <= self.permits
        {
            self.permits -= head.wanted;
            head.answer(GRANTED);
            granted.extend(self.queue.pop_front());
        }
        granted
    }
}

fn answer_of(ticket: &Ticket) -> Result<(), AcquireError> {
    if ticket.has(GRANTED) {
        Ok(())
    } else {
        Err(AcquireError::Closed)
    }
}

fn wake(tickets: impl IntoIterator<Item = Arc<Ticket>>) {
    for ticket in tickets {
        ticket.thread.unpark();
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Semaphore");
        debug.field("permits", &self.available_permits());
        if self.limit != usize::MAX {
            debug.field("limit", &self.limit);
        }
        debug.finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`], which are given back when this is dropped, on whatever thread.
///
/// # Examples
///
/// ```
/// use hapax::sync::Semaphore;
///
/// let semaphore = Semaphore::new(1);
/// let permit = semaphore.acquire()?;
/// drop(permit);
/// assert_eq!(semaphore.available_permits(), 1);
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
#[derive(Debug)]
#[must_use = "it gives the permits back at once if it isn't kept"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

impl Permit<'_> {
    /// Keeps the permits for good: they aren't given back, unless by
    /// [`add_permits`](Semaphore::add_permits).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::new(1);
    /// semaphore.acquire()?.forget();
    /// assert_eq!(semaphore.available_permits(), 0);
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn forget(self) {
        mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // None, or, of a bounded semaphore, somebody has given them back in this one's place.
        let _ = self.semaphore.add_permits(self.permits);
    }
}

/// As [`Permit`], together with its semaphore.
///
/// # Examples
///
/// See [`Semaphore::acquire_many_owned`].
#[derive(Debug)]
#[must_use = "it gives the permits back at once if it isn't kept"]
pub struct OwnedPermit {
    semaphore: Arc<Semaphore>,
    permits: usize,
}

impl OwnedPermit {
    /// As [`Permit::forget`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use hapax::sync::Semaphore;
    ///
    /// let semaphore = Arc::new(Semaphore::new(1));
    /// semaphore.clone().acquire_many_owned(1)?.forget();
    /// assert_eq!(semaphore.available_permits(), 0);
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        // As for `Permit`.
        let _ = self.semaphore.add_permits(self.permits);
    }
}
