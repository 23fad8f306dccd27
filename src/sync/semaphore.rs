//! `Semaphore`: a number of permits, and a queue of those who want some.
//!
//! # The word
//!
//! ```text
//! permits << 2 | CLOSED | QUEUED
//! ```
//!
//! While nobody waits that word is everything: to take permits, or to give some back, is to change it once. Who finds too
//! few takes the lock of the queue and sets QUEUED, and goes into the queue if there are still too few. As long as
//! QUEUED is set the fast ways are closed, but to those who barge: who gives permits back does it under the lock, and deals
//! them out from the head of the queue, before anybody else can have them. Who leaves the queue empty takes QUEUED away.
//!
//! - *No permit lies beside the head of the queue who could have it.* QUEUED and CLOSED change under the lock only. Permits that
//!   were added before QUEUED was set are seen by whoever sets it; later ones come by the lock, and are dealt out there.
//! - *No grant is lost.* A place in the queue that is given up (the time is over, or a future is dropped) is taken out
//!   under the lock. If it isn't there any more it was granted, or refused by `close`: a thread returns what it was granted,
//!   a future gives it back.
//!
//! # Orderings
//!
//! Permits are taken with Acquire and given back with Release, on one word, so what came before permits were given back is
//! seen by who gets them; those who wait get them with their answer (`waiter`). The rest is ordered by the lock.

use std::fmt;
use std::future;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cancel::NoAnswer;
use super::patience::Patience;
use super::waiter::{Answer, Queue, Waiter, wake_all};
use super::{AcquireError, ReleaseError};
use crate::table::primitive::{AtomicUsize, Mutex, Ordering, lock, maybe_const_fn};

/// A number of permits, of which threads take some and give them back: Python's `Semaphore`, and with
/// [`bounded`](Self::bounded) its `BoundedSemaphore`.
///
/// Threads get their permits in the order in which they came, whatever number each wants; so who wants many isn't passed
/// over for ever by others who want few. A semaphore that is [`barging`](Self::barging) gives permits that are free to who
/// comes by, though somebody waits who wants more.
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
    word: AtomicUsize,
    queue: Mutex<Queue<usize>>,
    /// There are never more permits than that.
    limit: usize,
    is_barging: bool,
}

/// Somebody waits, or is about to.
const QUEUED: usize = 1;
const CLOSED: usize = 2;
const ONE: usize = 4;

impl Semaphore {
    /// How many permits there can be at most. A semaphore that is made with more has so many.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Semaphore;
    ///
    /// assert_eq!(Semaphore::new(usize::MAX).available_permits(), Semaphore::MAX_PERMITS);
    /// ```
    pub const MAX_PERMITS: usize = usize::MAX / ONE;

    maybe_const_fn! {
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
    }

    maybe_const_fn! {
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
    }

    maybe_const_fn! {
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
    }

    maybe_const_fn! {
        const fn with(permits: usize, limit: usize, is_barging: bool) -> Self {
            let permits = if permits < Self::MAX_PERMITS { permits } else { Self::MAX_PERMITS };
            Self {
                word: AtomicUsize::new(permits * ONE),
                queue: Mutex::new(Queue::new()),
                limit: if limit < Self::MAX_PERMITS { limit } else { Self::MAX_PERMITS },
                is_barging,
            }
        }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    ///
    /// [`AcquireError::Closed`] if the semaphore is closed, or will be before there is one; [`AcquireError::TooMany`] for
    /// more permits than there may ever be.
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

    /// Waits for so many permits, which it gets at once. For none it waits until nobody stands before it.
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
    /// [`AcquireError::WouldBlock`] if not, or if others wait for permits, or have just begun to; [`AcquireError::Closed`];
    /// [`AcquireError::TooMany`].
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
    /// [`AcquireError::TimedOut`] if the time is over; [`AcquireError::Closed`]; [`AcquireError::TooMany`].
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

    /// As [`acquire_many_owned`](Self::acquire_many_owned), for one permit.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use hapax::sync::Semaphore;
    ///
    /// let permit = Arc::new(Semaphore::new(1)).acquire_owned();
    /// assert!(permit.is_ok());
    /// ```
    pub fn acquire_owned(self: Arc<Self>) -> Result<OwnedPermit, AcquireError> {
        self.acquire_many_owned(1)
    }

    /// As [`acquire_owned`](Self::acquire_owned), if there is a permit.
    ///
    /// # Errors
    ///
    /// As for [`try_acquire`](Self::try_acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use hapax::sync::{AcquireError, Semaphore};
    ///
    /// let permit = Arc::new(Semaphore::new(0)).try_acquire_owned();
    /// assert_eq!(permit.unwrap_err(), AcquireError::WouldBlock);
    /// ```
    pub fn try_acquire_owned(self: Arc<Self>) -> Result<OwnedPermit, AcquireError> {
        self.take(1, Patience::None)?;
        Ok(OwnedPermit {
            semaphore: self,
            permits: 1,
        })
    }

    /// As [`acquire`](Self::acquire), for a task: it waits without blocking its thread, on any executor. Tasks and threads
    /// stand in one queue. A future that is dropped gives its place up, or the permit that it was granted.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::task::{Context, Poll, Waker};
    /// use hapax::sync::Semaphore;
    ///
    /// async fn fetch(connections: &Semaphore) {
    ///     let _permit = connections.acquire_async().await.expect("nobody closes it");
    ///     // …
    /// }
    /// # let connections = Semaphore::new(1);
    /// # let mut fetch = std::pin::pin!(fetch(&connections));
    /// # assert_eq!(fetch.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()));
    /// ```
    pub async fn acquire_async(&self) -> Result<Permit<'_>, AcquireError> {
        self.acquire_many_async(1).await
    }

    /// As [`acquire_async`](Self::acquire_async), for so many permits.
    ///
    /// # Errors
    ///
    /// As for [`acquire_many`](Self::acquire_many).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::task::{Context, Poll, Waker};
    /// use hapax::sync::Semaphore;
    ///
    /// let connections = Semaphore::new(1);
    /// let mut two = Box::pin(connections.acquire_many_async(2));
    /// let mut context = Context::from_waker(Waker::noop());
    /// assert!(two.as_mut().poll(&mut context).is_pending());
    /// connections.add_permits(1).unwrap();
    /// assert!(two.as_mut().poll(&mut context).is_ready());
    /// ```
    pub async fn acquire_many_async(&self, permits: usize) -> Result<Permit<'_>, AcquireError> {
        self.take_async(permits).await?;
        Ok(Permit {
            semaphore: self,
            permits,
        })
    }

    /// As [`acquire_many_async`](Self::acquire_many_async), for permits that go elsewhere together with the semaphore.
    ///
    /// # Errors
    ///
    /// As for [`acquire_many`](Self::acquire_many).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::task::{Context, Poll, Waker};
    /// use std::sync::Arc;
    ///
    /// use hapax::sync::Semaphore;
    ///
    /// async fn work(workers: Arc<Semaphore>) {
    ///     let _permit = workers.acquire_many_owned_async(1).await;
    /// }
    /// # let mut work = std::pin::pin!(work(Arc::new(Semaphore::new(1))));
    /// # assert_eq!(work.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()));
    /// ```
    pub async fn acquire_many_owned_async(
        self: Arc<Self>,
        permits: usize,
    ) -> Result<OwnedPermit, AcquireError> {
        self.take_async(permits).await?;
        Ok(OwnedPermit {
            semaphore: self,
            permits,
        })
    }

    async fn take_async(&self, wanted: usize) -> Result<(), AcquireError> {
        match self.try_take(wanted) {
            Err(AcquireError::WouldBlock) => {}
            answer => return answer,
        }
        let Some(place) = self.enqueue(Waiter::task(wanted))? else {
            return Ok(());
        };
        let answer = future::poll_fn(|cx| place.waiter.poll(cx)).await;
        place.take(answer)
    }

    fn acquire_with(&self, permits: usize, patience: Patience) -> Result<Permit<'_>, AcquireError> {
        self.take(permits, patience)?;
        Ok(Permit {
            semaphore: self,
            permits,
        })
    }

    #[inline]
    fn take(&self, wanted: usize, patience: Patience) -> Result<(), AcquireError> {
        match self.try_take(wanted) {
            Err(AcquireError::WouldBlock) if !matches!(patience, Patience::None) => {
                self.take_slow(wanted, patience)
            }
            answer => answer,
        }
    }

    #[cold]
    fn take_slow(&self, wanted: usize, patience: Patience) -> Result<(), AcquireError> {
        let Some(place) = self.enqueue(Waiter::thread(wanted))? else {
            return Ok(());
        };
        match place.waiter.sleep(patience.end()) {
            Ok(answer) => place.take(answer),
            Err(why) => place.leave(why),
        }
    }

    /// Takes so many permits if they are free and nobody stands before the caller.
    #[inline]
    fn try_take(&self, wanted: usize) -> Result<(), AcquireError> {
        let closed_to_us = if self.is_barging { 0 } else { QUEUED };
        // Relaxed: only compared.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & CLOSED != 0 {
                return Err(AcquireError::Closed);
            }
            if word / ONE < wanted || word & closed_to_us != 0 {
                return Err(self.too_few(wanted));
            }
            // Acquire: pairs with the Release in `add_permits`. Relaxed on failure: only compared.
            let less = word - wanted * ONE;
            match self
                .word
                .compare_exchange_weak(word, less, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    #[cold]
    fn too_few(&self, wanted: usize) -> AcquireError {
        if wanted > self.limit {
            AcquireError::TooMany { max: self.limit }
        } else {
            AcquireError::WouldBlock
        }
    }

    /// Finds a place in the queue, unless there are enough permits by now.
    fn enqueue(&self, waiter: Arc<Waiter<usize>>) -> Result<Option<Place<'_>>, AcquireError> {
        let mut queue = lock(&self.queue);
        // Relaxed here and below: the lock orders it. From here on permits come by the lock.
        let word = self.word.fetch_or(QUEUED, Ordering::Relaxed);
        if word & CLOSED != 0 {
            self.end_queue(&queue);
            return Err(AcquireError::Closed);
        }
        if (self.is_barging || queue.is_empty()) && self.take_from_lock(waiter.wish) {
            self.end_queue(&queue);
            return Ok(None);
        }
        queue.push(waiter.clone());
        Ok(Some(Place {
            semaphore: self,
            waiter,
            is_left: false,
        }))
    }

    /// Takes so many permits if they are there. To be called under the lock, with QUEUED set.
    fn take_from_lock(&self, wanted: usize) -> bool {
        // Relaxed: only compared. Others may take some meanwhile: those who barge.
        let mut word = self.word.load(Ordering::Relaxed);
        while word / ONE >= wanted {
            let less = word - wanted * ONE;
            // Acquire, Relaxed: as in `try_take`.
            match self
                .word
                .compare_exchange_weak(word, less, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Opens the fast ways if nobody is left in the queue. To be called under its lock.
    fn end_queue(&self, queue: &Queue<usize>) {
        if queue.is_empty() {
            // Relaxed: who sees it goes by the permits alone, which have an order of their own.
            self.word.fetch_and(!QUEUED, Ordering::Relaxed);
        }
    }

    /// Grants what the permits suffice for, from the head of the queue on. Those are to be woken.
    fn deal_out(&self, queue: &mut Queue<usize>) -> Vec<Arc<Waiter<usize>>> {
        let mut granted = Vec::new();
        while let Some(head) = queue.head()
            && self.take_from_lock(head.wish)
        {
            granted.extend(queue.answer_head(Answer::Granted));
        }
        self.end_queue(queue);
        granted
    }

    /// Gives so many permits back, or adds them: Python's `release`. Wakers of tasks that get some run on this thread, also
    /// when a [`Permit`] is dropped.
    ///
    /// # Panics
    ///
    /// If the waker of a task does. All others were woken before.
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
        // Relaxed: only compared.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let more = self.with_more(word, permits)?;
            if word & QUEUED != 0 {
                return self.add_to_queue(permits);
            }
            // Release: pairs with the Acquire in `try_take`. Relaxed on failure: only compared.
            match self
                .word
                .compare_exchange_weak(word, more, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    #[cold]
    fn add_to_queue(&self, permits: usize) -> Result<(), ReleaseError> {
        let mut queue = lock(&self.queue);
        let mut word = self.word.load(Ordering::Relaxed);
        // Under the lock only those who barge are in the way, and, if the queue has gone, everybody.
        // Release, Relaxed: as in `add_permits`.
        loop {
            let more = self.with_more(word, permits)?;
            match self
                .word
                .compare_exchange_weak(word, more, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        let granted = self.deal_out(&mut queue);
        drop(queue);
        wake_all(granted);
        Ok(())
    }

    fn with_more(&self, word: usize, permits: usize) -> Result<usize, ReleaseError> {
        match (word / ONE).checked_add(permits) {
            Some(sum) if sum <= self.limit => Ok(word + permits * ONE),
            _ => Err(ReleaseError::OverRelease { max: self.limit }),
        }
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
        // Acquire: as if they were taken one by one.
        self.word.fetch_and(ONE - 1, Ordering::Acquire) / ONE
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
        // Relaxed: they may be gone before the caller looks at the number.
        self.word.load(Ordering::Relaxed) / ONE
    }

    /// Refuses all who wait and all who come from now on. Permits can still be given back.
    ///
    /// # Panics
    ///
    /// If the waker of a task does. All others were woken before.
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
        let mut queue = lock(&self.queue);
        // Relaxed: it tells nothing else. Who waits learns it by the answer.
        self.word.fetch_or(CLOSED, Ordering::Relaxed);
        let refused = queue.answer_some(usize::MAX, Answer::Refused, |_| true);
        self.end_queue(&queue);
        drop(queue);
        wake_all(refused);
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
        // Relaxed: it tells nothing else.
        self.word.load(Ordering::Relaxed) & CLOSED != 0
    }
}

/// A place in the queue. Given up when it is dropped, unless it has been granted and taken.
struct Place<'a> {
    semaphore: &'a Semaphore,
    waiter: Arc<Waiter<usize>>,
    is_left: bool,
}

impl Place<'_> {
    /// Its answer has come, and is the caller's.
    fn take(mut self, answer: Answer) -> Result<(), AcquireError> {
        self.is_left = true;
        match answer {
            Answer::Granted => Ok(()),
            Answer::Refused => Err(AcquireError::Closed),
        }
    }

    /// It is given up. If the answer came first, it counts.
    fn leave(mut self, why: NoAnswer) -> Result<(), AcquireError> {
        if self.give_up() {
            self.is_left = true;
            return Err(why.into());
        }
        let answer = self.waiter.answered();
        self.take(answer.expect("who isn't in the queue any more was answered"))
    }

    /// Whether it was still in the queue.
    fn give_up(&self) -> bool {
        let mut queue = lock(&self.semaphore.queue);
        if !queue.remove(&self.waiter) {
            return false;
        }
        // It may have stood in the way of others who want less.
        let granted = self.semaphore.deal_out(&mut queue);
        drop(queue);
        wake_all(granted);
        true
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        if !self.give_up() && self.waiter.answered() == Some(Answer::Granted) {
            // None were wanted, or, of a bounded semaphore, somebody has given them back in our place.
            let _ = self.semaphore.add_permits(self.waiter.wish);
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Semaphore");
        debug.field("permits", &self.available_permits());
        if self.limit != Self::MAX_PERMITS {
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
