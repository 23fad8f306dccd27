//! A lock that one process has, or several together.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CoordError;
use super::acquire::{Limit, acquire};
use super::guard::{By, Guard};
use super::lease::Lease;
use super::owner::Owner;
use super::session::Session;
use super::store::{Ask, Store, Want};

/// A lock by its name, among all who have the store open.
///
/// It is a handle: cheap to make and to clone, and it holds nothing by itself. Who holds the lock is the guard, and not a
/// thread: guards are `Send`, and a thread's end gives nothing back.
///
/// Waiters are served in the order in which they came. While the first of them has been that for less than a millisecond,
/// others may pass it, so that a lock that is taken and let go all the time isn't handed to and fro; [`strict`](Self::strict)
/// turns that off.
///
/// # Examples
///
/// ```
/// use hapax::coord::{CoordError, Lock, MemoryStore};
///
/// let store = MemoryStore::new();
/// let reports = Lock::new(&store, "reports");
/// let guard = reports.lock()?;
/// println!("{} is ours by token {}", guard.key(), guard.fencing_token());
/// guard.release()?;
/// # Ok::<_, CoordError>(())
/// ```
#[derive(Clone)]
pub struct Lock {
    pub(super) session: Arc<Session>,
    pub(super) ask: Ask,
}

impl Lock {
    /// The lock of that name. Nothing is done yet.
    ///
    /// A key is any text; it lies in the store while it is in use, and every part of a store's work grows with its length.
    ///
    /// # Examples
    ///
    /// See [`Lock`].
    pub fn new(store: &(impl Store + ?Sized), key: &str) -> Self {
        Self {
            session: Arc::clone(store.session()),
            ask: Ask::of(key, Want::Exclusive),
        }
    }

    /// The same, to be held by several at once, but not beside one that is exclusive.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, MemoryStore};
    ///
    /// let store = MemoryStore::new();
    /// let reports = Lock::new(&store, "reports");
    /// let reader = reports.clone().shared().lock()?;
    /// let other = reports.clone().shared().lock()?;
    /// assert!(reports.try_lock().is_err());
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.ask.want = Want::Shared;
        self
    }

    /// The same with grants that last for that long if they aren't given back; [`Lease::Session`] if this isn't called.
    ///
    /// # Examples
    ///
    /// See [`Lease`].
    #[must_use]
    pub fn lease(mut self, lease: Lease) -> Self {
        self.ask.lease = lease;
        self
    }

    /// The same in that owner's name, so that deadlocks with it are found. See [`Owner`].
    ///
    /// # Examples
    ///
    /// See [`Owner`].
    #[must_use]
    pub fn owned_by(mut self, owner: &Owner) -> Self {
        self.ask.owner = Some(owner.clone());
        self
    }

    /// The same with a text beside its grants that [`list`](Store::list) shows, and by which [`evict`](Store::evict) takes them
    /// away.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, MemoryStore, Store};
    ///
    /// let store = MemoryStore::new();
    /// let _guard = Lock::new(&store, "reports").tag("nightly").lock()?;
    /// assert_eq!(store.list()?[0].holders[0].tag.as_deref(), Some("nightly"));
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        self.ask.tag = Some(Arc::from(tag));
        self
    }

    /// The same for somebody whom nobody may pass once it is the first that waits, and who passes nobody: a
    /// [`try_lock`](Self::try_lock) fails if anybody waits.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, MemoryStore};
    ///
    /// let store = MemoryStore::new();
    /// let guard = Lock::new(&store, "reports").strict().lock()?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.ask.is_strict = true;
        self
    }

    /// Its name.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, MemoryStore};
    ///
    /// assert_eq!(Lock::new(&MemoryStore::new(), "reports").key(), "reports");
    /// ```
    pub fn key(&self) -> &str {
        &self.ask.key
    }

    /// Waits for the lock, for as long as that takes.
    ///
    /// # Errors
    ///
    /// - [`Deadlock`](CoordError::Deadlock) if this would wait for itself; see [`Owner`].
    /// - [`KindMismatch`](CoordError::KindMismatch) if the key is in use as a semaphore.
    /// - [`Cancelled`](CoordError::Cancelled) if the thread is in a [`Scope`](crate::sync::Scope) that is cancelled, noticed
    ///   within a second.
    /// - [`Lost`](CoordError::Lost) if the lease was over before this has heard of the grant.
    /// - What can be wrong with a store.
    ///
    /// # Examples
    ///
    /// See [`Lock`].
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<LockGuard, CoordError> {
        self.acquire(Limit::Endless)
    }

    /// Takes the lock if it is free and nobody waits for it who is due.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](CoordError::TimedOut) if it isn't, and otherwise those of [`lock`](Self::lock), without `Deadlock` and
    /// `Cancelled`.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{CoordError, Lock, MemoryStore};
    ///
    /// let store = MemoryStore::new();
    /// let reports = Lock::new(&store, "reports");
    /// let guard = reports.try_lock()?;
    /// assert!(matches!(reports.try_lock(), Err(CoordError::TimedOut { .. })));
    /// # Ok::<_, CoordError>(())
    /// ```
    pub fn try_lock(&self) -> Result<LockGuard, CoordError> {
        self.acquire(Limit::None)
    }

    /// Waits for the lock for that long at most; not at all if that is zero.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](CoordError::TimedOut) if it wasn't free in time, and otherwise those of [`lock`](Self::lock), without
    /// `Deadlock`.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, MemoryStore};
    /// use std::time::Duration;
    ///
    /// let store = MemoryStore::new();
    /// let guard = Lock::new(&store, "reports").try_lock_for(Duration::from_secs(1))?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn try_lock_for(&self, time: Duration) -> Result<LockGuard, CoordError> {
        self.acquire(Limit::of(time))
    }

    /// Waits for the lock until then at most.
    ///
    /// # Errors
    ///
    /// Those of [`try_lock_for`](Self::try_lock_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, MemoryStore};
    /// use std::time::{Duration, Instant};
    ///
    /// let store = MemoryStore::new();
    /// let moment = Instant::now() + Duration::from_secs(1);
    /// let guard = Lock::new(&store, "reports").try_lock_until(moment)?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn try_lock_until(&self, moment: Instant) -> Result<LockGuard, CoordError> {
        self.acquire(Limit::until(moment))
    }

    /// Waits for the lock without blocking the thread, on any executor.
    ///
    /// A thread of the store stands in the queue for all of its tasks. If this is dropped before it is ready, it leaves the
    /// queue, or gives back what was granted meanwhile. The guard is given back by that thread as well when it is
    /// dropped; its other methods take a short transaction on the thread that calls them. Nothing happens before the first poll.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), without `Cancelled`.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{CoordError, Lock, MemoryStore};
    ///
    /// # pollster::block_on(async {
    /// let store = MemoryStore::new();
    /// let guard = Lock::new(&store, "reports").lock_async().await?;
    /// guard.release_async().await?;
    /// # Ok::<_, CoordError>(())
    /// # })?;
    /// # Ok::<_, CoordError>(())
    /// ```
    pub async fn lock_async(&self) -> Result<LockGuard, CoordError> {
        let hold = self.session.clerk.acquire(self.ask.clone()).await?;
        Ok(LockGuard(Guard::of(&self.session, hold, By::Clerk)))
    }

    /// Does something while the lock is held, and gives it back. If that panics it is given back as well.
    ///
    /// # Errors
    ///
    /// - Those of [`lock`](Self::lock), before anything was done.
    /// - [`Lost`](CoordError::Lost), [`StoreReplaced`](CoordError::StoreReplaced) or [`Closed`](CoordError::Closed) if it wasn't
    ///   held any more in the end: it was done, but perhaps not alone. If the store is only too busy to give it back then,
    ///   that is no error, and is done later.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, MemoryStore};
    ///
    /// let store = MemoryStore::new();
    /// let reports = Lock::new(&store, "reports");
    /// let sum = reports.synchronized(|guard| {
    ///     assert!(guard.is_valid());
    ///     1 + 1
    /// })?;
    /// assert_eq!(sum, 2);
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[doc(alias = "barrier")]
    pub fn synchronized<R>(&self, f: impl FnOnce(&LockGuard) -> R) -> Result<R, CoordError> {
        let guard = self.lock()?;
        let answer = f(&guard);
        let was_held = guard.check();
        match guard.release() {
            Ok(()) => Ok(answer),
            // It is given back later. Nobody else had it before that.
            Err(CoordError::Busy { .. } | CoordError::Store { .. }) => was_held.map(|()| answer),
            Err(error) => Err(error),
        }
    }

    /// Whether somebody holds it, in whatever mode. It may have changed when this returns, and who has died may count.
    ///
    /// # Errors
    ///
    /// What can be wrong with a store.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, MemoryStore};
    ///
    /// let store = MemoryStore::new();
    /// let reports = Lock::new(&store, "reports");
    /// assert!(!reports.is_locked()?);
    /// let guard = reports.lock()?;
    /// assert!(reports.is_locked()?);
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> Result<bool, CoordError> {
        let list = self.session.list()?;
        Ok(list
            .iter()
            .any(|status| status.key == *self.ask.key && !status.holders.is_empty()))
    }

    fn acquire(&self, limit: Limit) -> Result<LockGuard, CoordError> {
        let hold = acquire(&self.session.keeper, self.ask.clone(), limit)?;
        Ok(LockGuard(Guard::of(&self.session, hold, By::ThisThread)))
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("key", &self.ask.key)
            .finish_non_exhaustive()
    }
}

/// A [`Lock`] that is held. It is given back when this is dropped.
///
/// A guard says at any time whether it is [valid](Self::is_valid), but whoever uses something that others can reach at the
/// same time shall have the [fencing token](Self::fencing_token) checked there: between a look at the guard and the
/// use a process can be stopped for any time. See [`FencingGate`](super::FencingGate).
///
/// # Examples
///
/// See [`Lock`].
#[must_use = "the lock is given back when this is dropped"]
pub struct LockGuard(pub(super) Guard);

super::guard::forward! { LockGuard }
