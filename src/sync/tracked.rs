//! `TrackedSemaphore`: permits whose holders are known, so that a wait for them which would never end is refused.
//!
//! Its state is a pool of the graph (`deadlock::graph`), and so under the lock of that: who holds permits, who waits for
//! some, and what waits there are otherwise are looked at together. Those who wait get permits in the order in which they
//! came, but who wants more than there are holds nobody up: so a thread waits for the holders of permits only, never for
//! somebody in front of it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::AcquireError;
use super::cancel::NoAnswer;
use super::deadlock::{Awaited, Limit, NOBODY, Share, State, Wish, with_graph};
use super::patience::Patience;
use super::semaphore::Semaphore;
use super::thread::{LATE, me};
use super::waiter::{Answer, Waiter, wake_all};
use crate::table::primitive::{AtomicU64, Ordering::Relaxed, maybe_const_fn};

impl Semaphore {
    maybe_const_fn! {
        /// A semaphore of so many permits that knows who holds them; see [`TrackedSemaphore`].
        ///
        /// # Examples
        ///
        /// ```
        /// use hapax::sync::{Semaphore, TrackedSemaphore};
        ///
        /// static CONNECTIONS: TrackedSemaphore = Semaphore::tracked(10);
        /// assert_eq!(CONNECTIONS.available_permits(), 10);
        /// ```
        pub const fn tracked(permits: usize) -> TrackedSemaphore {
            TrackedSemaphore::with(permits, None)
        }
    }

    maybe_const_fn! {
        /// As [`tracked`](Self::tracked), with a name for reports.
        ///
        /// # Examples
        ///
        /// ```
        /// use hapax::sync::{Semaphore, TrackedSemaphore};
        ///
        /// static CONNECTIONS: TrackedSemaphore = Semaphore::tracked_named("connections", 10);
        /// assert_eq!(CONNECTIONS.available_permits(), 10);
        /// ```
        pub const fn tracked_named(name: &'static str, permits: usize) -> TrackedSemaphore {
            TrackedSemaphore::with(permits, Some(name))
        }
    }
}

/// A semaphore that knows who holds its permits: [`Semaphore::tracked`].
///
/// A wait without a time limit is refused if it would never end: all permits that it would need are held by threads which
/// wait, perhaps through others, for the calling one. So permits are given back by their guards only, each on the thread
/// that has taken it; there is no adding, forgetting or closing.
///
/// Waits are served in the order in which they began, as far as there are permits; who wants many may be passed by others
/// who want few. Permits that a thread has leaked when it ends are gone: waits that can't be served without them end with
/// [`AcquireError::OwnerDied`].
///
/// Each call takes a lock that all tracked semaphores share; an ordinary [`Semaphore`] is much faster.
///
/// # Examples
///
/// ```
/// use hapax::sync::{AcquireError, Semaphore};
///
/// let connections = Semaphore::tracked(2);
/// let first = connections.acquire()?;
/// let second = connections.acquire()?;
/// assert!(matches!(connections.acquire(), Err(AcquireError::Deadlock(_))));
/// # Ok::<_, AcquireError>(())
/// ```
pub struct TrackedSemaphore {
    permits: usize,
    name: Option<&'static str>,
    /// The number of its pool in the graph, or 0 if it has none yet.
    pool: AtomicU64,
}

impl TrackedSemaphore {
    maybe_const_fn! {
        const fn with(permits: usize, name: Option<&'static str>) -> Self {
            Self {
                permits,
                name,
                pool: AtomicU64::new(0),
            }
        }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    ///
    /// - [`AcquireError::Deadlock`] if the wait would never end;
    /// - [`AcquireError::OwnerDied`] if there is no permit any more but those that threads had which have ended;
    /// - [`AcquireError::TooMany`] if the semaphore never had any.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// let connections = Semaphore::tracked(1);
    /// let connection = connections.acquire()?;
    /// assert_eq!(connections.available_permits(), 0);
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn acquire(&self) -> Result<TrackedPermit<'_>, AcquireError> {
        self.acquire_with(1, Patience::Forever)
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
    /// use hapax::sync::{AcquireError, Semaphore};
    ///
    /// let connections = Semaphore::tracked(2);
    /// assert!(connections.acquire_many(2).is_ok());
    /// assert_eq!(connections.acquire_many(3).unwrap_err(), AcquireError::TooMany { max: 2 });
    /// ```
    pub fn acquire_many(&self, permits: usize) -> Result<TrackedPermit<'_>, AcquireError> {
        self.acquire_with(permits, Patience::Forever)
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    ///
    /// [`AcquireError::WouldBlock`] if not; [`AcquireError::TooMany`] if the semaphore never had so many.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// assert!(Semaphore::tracked(1).try_acquire().is_ok());
    /// ```
    pub fn try_acquire(&self) -> Result<TrackedPermit<'_>, AcquireError> {
        self.acquire_with(1, Patience::None)
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
    /// assert!(Semaphore::tracked(2).try_acquire_many(2).is_ok());
    /// ```
    pub fn try_acquire_many(&self, permits: usize) -> Result<TrackedPermit<'_>, AcquireError> {
        self.acquire_with(permits, Patience::None)
    }

    /// Waits for a permit, but no longer than so long. Such a wait ends by itself, so it is never a deadlock.
    ///
    /// # Errors
    ///
    /// [`AcquireError::TimedOut`] if the time is over; [`AcquireError::OwnerDied`] and [`AcquireError::TooMany`] as for
    /// [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::{AcquireError, Semaphore};
    ///
    /// let connections = Semaphore::tracked(1);
    /// let connection = connections.acquire()?;
    /// let second = connections.try_acquire_for(Duration::from_millis(1));
    /// assert_eq!(second.unwrap_err(), AcquireError::TimedOut);
    /// # Ok::<_, AcquireError>(())
    /// ```
    pub fn try_acquire_for(&self, time: Duration) -> Result<TrackedPermit<'_>, AcquireError> {
        self.acquire_with(1, Patience::lasting(time))
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
    /// assert!(Semaphore::tracked(1).try_acquire_until(Instant::now()).is_ok());
    /// ```
    pub fn try_acquire_until(&self, moment: Instant) -> Result<TrackedPermit<'_>, AcquireError> {
        self.acquire_with(1, Patience::Until(moment))
    }

    fn acquire_with(
        &self,
        permits: usize,
        patience: Patience,
    ) -> Result<TrackedPermit<'_>, AcquireError> {
        // Not under the lock: a thread's first call takes it.
        let me = me();
        let share = Share {
            holder: if me & LATE == 0 { me } else { NOBODY },
            permits,
        };
        self.take(me, share, patience)?;
        Ok(TrackedPermit {
            semaphore: self,
            share,
            _of_this_thread: PhantomData,
        })
    }

    fn take(&self, me: u64, share: Share, patience: Patience) -> Result<(), AcquireError> {
        let permits = share.permits;
        if permits > self.permits {
            return Err(AcquireError::TooMany { max: self.permits });
        }
        let waiter = Waiter::thread(Wish {
            thread: me & !LATE,
            share,
            refusal: OnceLock::new(),
        });
        let has_them = with_graph(|state| {
            let number = self.pool(state);
            if state.pool(number).take(share) {
                return Ok(true);
            }
            if matches!(patience, Patience::None) {
                return Err(AcquireError::WouldBlock);
            }
            if let Some(error) = state.permits_died(number, permits) {
                return Err(error);
            }
            state.pool(number).queue.push(waiter.clone());
            Ok(false)
        })?;
        if has_them {
            return Ok(());
        }
        let mut place = Place {
            semaphore: self,
            waiter,
            is_left: false,
        };
        let why = place.wait(me, patience)?.err();
        place.leave();
        match place.waiter.answered() {
            Some(Answer::Granted) => Ok(()),
            Some(Answer::Refused) => {
                let refusal = place.waiter.wish.refusal.get();
                Err(refusal.expect("it was told why").clone())
            }
            None => Err(why.expect("who sleeps on is answered").into()),
        }
    }

    /// The number of its pool, which is made when it is first wanted. To be called under the lock of the graph.
    fn pool(&self, state: &mut State) -> u64 {
        // Relaxed here and below: under the lock.
        let known = self.pool.load(Relaxed);
        if known != 0 {
            return known;
        }
        let number = state.add_pool(self.name, self.permits);
        self.pool.store(number, Relaxed);
        number
    }

    fn give_back(&self, share: Share) {
        let granted = with_graph(|state| {
            let pool = self.pool(state);
            state.give_back(pool, share)
        });
        wake_all(granted);
    }

    /// How many permits are free.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// assert_eq!(Semaphore::tracked(3).available_permits(), 3);
    /// ```
    pub fn available_permits(&self) -> usize {
        with_graph(|state| {
            let pool = self.pool(state);
            state.pool(pool).free
        })
    }
}

impl Drop for TrackedSemaphore {
    fn drop(&mut self) {
        // Relaxed: nobody else has it.
        match self.pool.load(Relaxed) {
            0 => {}
            number => with_graph(|state| state.remove_pool(number)),
        }
    }
}

impl fmt::Debug for TrackedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackedSemaphore")
            .field("permits", &self.available_permits())
            .field("of", &self.permits)
            .finish_non_exhaustive()
    }
}

/// A place in the queue, with a registered wait or without. Given up when it is dropped.
struct Place<'a> {
    semaphore: &'a TrackedSemaphore,
    waiter: Arc<Waiter<Wish>>,
    is_left: bool,
}

impl Place<'_> {
    /// Sleeps until there is an answer, the time is over, or the thread is cancelled. Fails if the wait is refused.
    fn wait(&self, me: u64, patience: Patience) -> Result<Result<Answer, NoAnswer>, AcquireError> {
        let (look, end) = patience.look_and_end();
        let answer = self.waiter.sleep(Some(look));
        if answer != Err(NoAnswer::TimedOut) {
            return Ok(answer);
        }
        // A wait with a time limit is part of no circle. Those who end find it in the queue.
        if end.is_none() {
            self.register(me)?;
        }
        Ok(self.waiter.sleep(end))
    }

    /// Registers the wait, unless it has been answered by now, or would never end.
    fn register(&self, me: u64) -> Result<(), AcquireError> {
        let complaint = with_graph(|state| {
            let pool = self.semaphore.pool(state);
            if !state.pool(pool).queue.contains(&self.waiter) {
                return Ok(None);
            }
            let permits = self.waiter.wish.share.permits;
            state
                .begin_wait(me, Awaited::Permits { pool, permits }, Limit::of_thread())
                .map(Some)
        })?;
        complaint
            .into_iter()
            .for_each(|(_, complaint)| complaint.make());
        Ok(())
    }

    /// From here on there will be no answer any more, and no registered wait.
    fn leave(&mut self) {
        self.is_left = true;
        if self.waiter.answered().is_none() {
            with_graph(|state| {
                let number = self.semaphore.pool(state);
                if state.pool(number).queue.remove(&self.waiter) {
                    state.end_wait_for_permits(self.waiter.wish.thread, number);
                }
            });
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        // The wait was refused; or whoever listens to reports has panicked.
        self.leave();
        if self.waiter.answered() == Some(Answer::Granted) {
            self.semaphore.give_back(self.waiter.wish.share);
        }
    }
}

/// Permits of a [`TrackedSemaphore`], which are given back when this is dropped. It stays on its thread.
///
/// # Examples
///
/// ```
/// use hapax::sync::Semaphore;
///
/// let connections = Semaphore::tracked(1);
/// let connection = connections.acquire()?;
/// drop(connection);
/// assert_eq!(connections.available_permits(), 1);
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
///
/// ```compile_fail,E0277
/// let connections = hapax::sync::Semaphore::tracked(1);
/// let connection = connections.acquire().unwrap();
/// std::thread::scope(|scope| { scope.spawn(move || drop(connection)); });
/// ```
#[derive(Debug)]
#[must_use = "it gives the permits back at once if it isn't kept"]
pub struct TrackedPermit<'a> {
    semaphore: &'a TrackedSemaphore,
    share: Share,
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for TrackedPermit<'_> {
    fn drop(&mut self) {
        self.semaphore.give_back(self.share);
    }
}
