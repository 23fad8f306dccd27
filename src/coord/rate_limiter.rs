//! How often something may be done, among processes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CoordError;
use super::error::{At, Fault, Operation};
use super::session::Session;
use super::store::{Engine, Rate, Store, Turn};
use crate::sync::check_cancelled;

/// How long a thread sleeps at most before it looks whether it was cancelled, or the store closed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// At most so many in a time, among all who have the store open.
///
/// It is a bucket of permits that is full at first: `count` of them can be had at once, and they come in again one by one,
/// `count` in the time `per`. So in any span of that length there are at most twice as many, and in the long run as many as
/// the limit says. The store has the moment in which the bucket will be full again (the generic cell rate algorithm), which
/// stays when processes end, and the machine: who starts anew doesn't begin with a full bucket, as
/// long as the store keeps it: a Redis server without a disk, or whose place a replica has taken, may have forgotten it. When it is full there is
/// nothing left in the store.
///
/// Who waits takes a permit in advance and sleeps once, until that comes in. So waiters are served in the order in which they
/// came. Who gives up puts his permit back, if nobody has come after him; otherwise it is unused, as is that of a process
/// that was killed while it waited.
///
/// Time is that of the wall clock, since a limit outlives the machine's boot. If that is set back nobody waits longer than
/// he would have when it was set; if it is set ahead, the time in between has gone by.
///
/// # Examples
///
/// ```
/// use hapax::coord::{CoordError, MemoryStore, RateLimiter};
/// use std::time::Duration;
///
/// let store = MemoryStore::with_virtual_clock();
/// let mails = RateLimiter::new(&store, "mails", 2, Duration::from_secs(60));
/// mails.try_acquire()?;
/// mails.try_acquire()?;
/// match mails.try_acquire() {
///     Err(CoordError::RateLimited { retry_after, .. }) => {
///         assert_eq!(retry_after, Duration::from_secs(30));
///     }
///     other => panic!("{other:?}"),
/// }
/// store.advance(Duration::from_secs(30));
/// mails.try_acquire()?;
/// # Ok::<_, CoordError>(())
/// ```
#[doc(alias("throttle", "token bucket", "GCRA"))]
#[derive(Clone)]
pub struct RateLimiter {
    session: Arc<Session>,
    turns: Turns,
}

impl RateLimiter {
    /// The rate limit of that name: `count` in the time `per`, and as many at once. Nothing is done yet.
    ///
    /// All who use it at the same time must name the same numbers. A limit has nothing to do with a lock or a semaphore of the
    /// same name.
    ///
    /// # Panics
    ///
    /// If the count or the time is zero.
    ///
    /// # Examples
    ///
    /// See [`RateLimiter`].
    pub fn new(store: &(impl Store + ?Sized), key: &str, count: u32, per: Duration) -> Self {
        assert!(count > 0, "the rate limit `{key}` lets nobody by");
        assert!(!per.is_zero(), "the rate limit `{key}` has no time");
        Self {
            session: Arc::clone(store.session()),
            turns: Turns {
                key: Arc::from(key),
                rate: Rate::of(count, per),
                tag: None,
            },
        }
    }

    /// The same with a text by which [`evict`](Store::evict) removes it: then the bucket is full again.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, RateLimiter, Store};
    /// use std::time::Duration;
    ///
    /// let store = MemoryStore::new();
    /// let mails = RateLimiter::new(&store, "mails", 1, Duration::from_secs(60)).tag("nightly");
    /// mails.try_acquire()?;
    /// store.evict("nightly")?;
    /// mails.try_acquire()?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        self.turns.tag = Some(Arc::from(tag));
        self
    }

    /// Its name.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, RateLimiter};
    /// use std::time::Duration;
    ///
    /// let mails = RateLimiter::new(&MemoryStore::new(), "mails", 1, Duration::from_secs(60));
    /// assert_eq!(mails.key(), "mails");
    /// ```
    pub fn key(&self) -> &str {
        &self.turns.key
    }

    /// Takes a permit, and waits until that comes in, for as long as that takes.
    ///
    /// # Errors
    ///
    /// - [`KindMismatch`](CoordError::KindMismatch) if the key is in use as an average,
    ///   [`LimitMismatch`](CoordError::LimitMismatch) if it is limited by another rate, and the bucket of that isn't full.
    /// - [`Cancelled`](CoordError::Cancelled) if the thread is in a [`Scope`](crate::sync::Scope) that is cancelled, and
    ///   [`Closed`](CoordError::Closed) if the store is closed, noticed within a second.
    /// - What can be wrong with a store.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, RateLimiter};
    /// use std::time::{Duration, Instant};
    ///
    /// let store = MemoryStore::new();
    /// let mails = RateLimiter::new(&store, "mails", 1, Duration::from_millis(20));
    /// let began = Instant::now();
    /// for _ in 0..3 {
    ///     mails.acquire()?;
    /// }
    /// assert!(began.elapsed() >= Duration::from_millis(40));
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn acquire(&self) -> Result<(), CoordError> {
        self.get(Duration::MAX)
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    ///
    /// [`RateLimited`](CoordError::RateLimited) if there is none, with the time after which there will be one, and
    /// otherwise those of [`acquire`](Self::acquire), without `Cancelled`.
    ///
    /// # Examples
    ///
    /// See [`RateLimiter`].
    pub fn try_acquire(&self) -> Result<(), CoordError> {
        self.get(Duration::ZERO)
    }

    /// Takes a permit if one comes in within that time, and waits until then. Otherwise it doesn't wait at all.
    ///
    /// # Errors
    ///
    /// [`RateLimited`](CoordError::RateLimited) if none will be there in time, and otherwise those of
    /// [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{CoordError, MemoryStore, RateLimiter};
    /// use std::time::Duration;
    ///
    /// let store = MemoryStore::new();
    /// let mails = RateLimiter::new(&store, "mails", 1, Duration::from_secs(60));
    /// mails.try_acquire_for(Duration::from_secs(1))?;
    /// // This one returns at once.
    /// let answer = mails.try_acquire_for(Duration::from_secs(1));
    /// assert!(matches!(answer, Err(CoordError::RateLimited { .. })));
    /// # Ok::<_, CoordError>(())
    /// ```
    pub fn try_acquire_for(&self, time: Duration) -> Result<(), CoordError> {
        self.get(time)
    }

    /// Takes a permit if one comes in until then, and waits for it. Otherwise it doesn't wait at all.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire_for`](Self::try_acquire_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, RateLimiter};
    /// use std::time::{Duration, Instant};
    ///
    /// let store = MemoryStore::new();
    /// let mails = RateLimiter::new(&store, "mails", 1, Duration::from_secs(60));
    /// mails.try_acquire_until(Instant::now())?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn try_acquire_until(&self, moment: Instant) -> Result<(), CoordError> {
        self.get(moment.saturating_duration_since(Instant::now()))
    }

    /// Takes a permit and waits for it without blocking the thread, on any executor.
    ///
    /// A thread of the store takes it and waits for all of its tasks. If this is dropped before it is ready, the permit is put
    /// back if nobody has come after. Nothing happens before the first poll. Many that are dropped again and again while others
    /// come leave permits that nobody uses: whoever wants to wait for a time only better asks whether that is enough, by
    /// [`try_acquire_for`](Self::try_acquire_for) on a thread, which takes nothing then.
    ///
    /// # Errors
    ///
    /// Those of [`acquire`](Self::acquire), without `Cancelled`.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, RateLimiter};
    /// use std::time::Duration;
    ///
    /// # pollster::block_on(async {
    /// let store = MemoryStore::new();
    /// let mails = RateLimiter::new(&store, "mails", 1, Duration::from_millis(20));
    /// mails.acquire_async().await?;
    /// mails.acquire_async().await?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// # })?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub async fn acquire_async(&self) -> Result<(), CoordError> {
        self.session.clerk.turn(self.turns.clone()).await
    }

    #[inline]
    fn get(&self, longest: Duration) -> Result<(), CoordError> {
        match self.turns.take(self.session.engine(), longest)? {
            None => Ok(()),
            Some(ahead) => self.wait(&ahead),
        }
    }

    #[cold]
    fn wait(&self, ahead: &Ahead) -> Result<(), CoordError> {
        let engine = self.session.engine();
        let until = engine.now().after(ahead.wait);
        loop {
            let now = engine.now();
            if until <= now {
                return Ok(());
            }
            let at = || self.turns.at();
            if check_cancelled().is_err() {
                self.turns.put_back(engine, ahead);
                return Err(CoordError::Cancelled { at: at() });
            }
            if self.session.keeper.is_closed() {
                return Err(CoordError::Closed { at: at() });
            }
            let next = until.min(now.after(LONGEST_SLEEP));
            if engine.is_driven() {
                // If it can't sleep any more it will find out why.
                let _ = engine.sleep(&[], next);
            } else {
                std::thread::sleep(next.since(now));
            }
        }
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("key", &self.turns.key)
            .finish_non_exhaustive()
    }
}

/// Permits of a limit, as they are taken and put back.
#[derive(Clone)]
pub(super) struct Turns {
    pub(super) key: Arc<str>,
    rate: Rate,
    tag: Option<Arc<str>>,
}

/// A permit that was taken in advance.
pub(super) struct Ahead {
    pub(super) wait: Duration,
    number: i64,
}

impl Turns {
    /// Takes one if it comes in within that time. None if it can be used at once.
    pub(super) fn take(
        &self,
        engine: &dyn Engine,
        longest: Duration,
    ) -> Result<Option<Ahead>, CoordError> {
        let tag = self.tag.as_deref();
        match engine.take_turn(&self.key, self.rate, longest, tag) {
            Ok(Turn::Taken { wait, .. }) if wait.is_zero() => Ok(None),
            Ok(Turn::Taken { wait, number }) => Ok(Some(Ahead { wait, number })),
            Ok(Turn::Refused { wait }) => Err(CoordError::RateLimited {
                at: self.at(),
                retry_after: wait,
            }),
            Err(fault) => Err(self.fault(fault)),
        }
    }

    /// If that can't be done it is as if somebody had come after.
    pub(super) fn put_back(&self, engine: &dyn Engine, ahead: &Ahead) {
        let _ = engine.put_back_turn(&self.key, self.rate, ahead.number);
    }

    pub(super) fn fault(&self, fault: Fault) -> CoordError {
        fault.at(Some(&self.key), Operation::Acquire)
    }

    fn at(&self) -> At {
        At {
            key: Some(Arc::clone(&self.key)),
            operation: Operation::Acquire,
        }
    }
}
