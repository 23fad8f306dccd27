//! A lock that the thread that holds it can take again.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::CoordError;
use super::error::Operation;
use super::lease::Lease;
use super::lock::{Lock, LockGuard};
use super::owner::Owner;
use super::store::Store;
use crate::sync::ThreadKey;

/// A [`Lock`] that the thread that holds it can take again, through the same `RLock` or a clone of it.
///
/// The store sees one grant; how often it was taken lies in this process. To take it again neither asks the store nor
/// extends a lease. Guards stay on their thread, and it takes part in the detection of deadlocks in the name of that
/// ([`Owner::current_thread`]).
///
/// # Examples
///
/// ```
/// use hapax::coord::{CoordError, MemoryStore, RLock};
///
/// fn outer(reports: &RLock) -> Result<(), CoordError> {
///     let _guard = reports.lock()?;
///     inner(reports)
/// }
///
/// fn inner(reports: &RLock) -> Result<(), CoordError> {
///     let _guard = reports.lock()?;
///     Ok(())
/// }
///
/// outer(&RLock::new(&MemoryStore::new(), "reports"))?;
/// # Ok::<_, CoordError>(())
/// ```
#[derive(Clone)]
pub struct RLock {
    lock: Lock,
    held: Arc<Mutex<HashMap<ThreadKey, Weak<LockGuard>>>>,
}

impl RLock {
    /// The lock of that name. Nothing is done yet.
    ///
    /// To the store it is the [`Lock`] of the same name; another `RLock` of that name in this process doesn't know of this
    /// one's guards, and to wait for it on the same thread is a deadlock that is found.
    ///
    /// # Examples
    ///
    /// See [`RLock`].
    pub fn new(store: &(impl Store + ?Sized), key: &str) -> Self {
        Self {
            lock: Lock::new(store, key),
            held: Arc::default(),
        }
    }

    /// The same with grants that last for that long if they aren't given back; [`Lease::Session`] if this isn't called.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lease, MemoryStore, RLock};
    /// use std::time::Duration;
    ///
    /// let store = MemoryStore::with_virtual_clock();
    /// let reports = RLock::new(&store, "reports").lease(Lease::Fixed(Duration::from_secs(10)));
    /// let first = reports.lock()?;
    /// store.advance(Duration::from_secs(9));
    /// let second = reports.lock()?;
    /// assert_eq!(second.remaining(), Some(Duration::from_secs(1)));
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn lease(mut self, lease: Lease) -> Self {
        self.lock = self.lock.lease(lease);
        self
    }

    /// The same with a text beside its grants that [`list`](Store::list) shows, and by which [`evict`](Store::evict) takes them
    /// away.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, RLock, Store};
    ///
    /// let store = MemoryStore::new();
    /// let reports = RLock::new(&store, "reports").tag("nightly");
    /// let _guard = reports.lock()?;
    /// assert_eq!(store.list()?[0].holders[0].tag.as_deref(), Some("nightly"));
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        self.lock = self.lock.tag(tag);
        self
    }

    /// Its name.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, RLock};
    ///
    /// assert_eq!(RLock::new(&MemoryStore::new(), "reports").key(), "reports");
    /// ```
    pub fn key(&self) -> &str {
        self.lock.key()
    }

    /// Waits for the lock, for as long as that takes. Doesn't wait if the thread holds it.
    ///
    /// # Errors
    ///
    /// - [`Lost`](CoordError::Lost) if the thread holds it by a guard that isn't valid any more: it has to drop that first.
    /// - Those of [`Lock::lock`].
    ///
    /// # Examples
    ///
    /// See [`RLock`].
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<RLockGuard, CoordError> {
        self.take(Lock::lock)
    }

    /// Takes the lock if it is free, or held by the thread.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock) and [`Lock::try_lock`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, RLock};
    ///
    /// let reports = RLock::new(&MemoryStore::new(), "reports");
    /// let guard = reports.try_lock()?;
    /// assert!(reports.try_lock().is_ok());
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| assert!(reports.try_lock().is_err()));
    /// });
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn try_lock(&self) -> Result<RLockGuard, CoordError> {
        self.take(Lock::try_lock)
    }

    /// Waits for the lock for that long at most.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock) and [`Lock::try_lock_for`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, RLock};
    /// use std::time::Duration;
    ///
    /// let reports = RLock::new(&MemoryStore::new(), "reports");
    /// let guard = reports.try_lock_for(Duration::from_secs(1))?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn try_lock_for(&self, time: Duration) -> Result<RLockGuard, CoordError> {
        self.take(|lock| lock.try_lock_for(time))
    }

    /// Waits for the lock until then at most.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock) and [`Lock::try_lock_until`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, RLock};
    /// use std::time::Instant;
    ///
    /// let reports = RLock::new(&MemoryStore::new(), "reports");
    /// let guard = reports.try_lock_until(Instant::now())?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn try_lock_until(&self, moment: Instant) -> Result<RLockGuard, CoordError> {
        self.take(|lock| lock.try_lock_until(moment))
    }

    fn take(
        &self,
        acquire: impl FnOnce(&Lock) -> Result<LockGuard, CoordError>,
    ) -> Result<RLockGuard, CoordError> {
        let thread = ThreadKey::current();
        let held = self.held.lock().get(&thread).and_then(Weak::upgrade);
        let guard = match held {
            Some(guard) => {
                guard.0.check(Operation::Acquire)?;
                guard
            }
            None => {
                let owned = self.lock.clone().owned_by(&Owner::current_thread());
                let guard = Arc::new(acquire(&owned)?);
                self.held.lock().insert(thread, Arc::downgrade(&guard));
                guard
            }
        };
        Ok(RLockGuard {
            guard: Some(guard),
            held: Arc::clone(&self.held),
            thread: PhantomData,
        })
    }
}

impl fmt::Debug for RLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLock")
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}

/// An [`RLock`] that is held. It is given back when the last of the thread's guards is dropped.
///
/// # Examples
///
/// See [`RLock`].
#[must_use = "the lock is given back when this is dropped"]
pub struct RLockGuard {
    /// There until it is dropped.
    guard: Option<Arc<LockGuard>>,
    held: Arc<Mutex<HashMap<ThreadKey, Weak<LockGuard>>>>,
    /// It stays on its thread.
    thread: PhantomData<*const ()>,
}

impl RLockGuard {
    /// Gives back what was taken with this guard: the lock itself if it is the last one of the thread.
    ///
    /// # Errors
    ///
    /// Those of [`LockGuard::release`], if it is the last one.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, RLock};
    ///
    /// let reports = RLock::new(&MemoryStore::new(), "reports");
    /// let (outer, inner) = (reports.lock()?, reports.lock()?);
    /// inner.release()?;
    /// outer.release()?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn release(mut self) -> Result<(), CoordError> {
        self.let_go().map_or(Ok(()), LockGuard::release)
    }

    /// The guard, if it is the last one of the thread.
    fn let_go(&mut self) -> Option<LockGuard> {
        let last = Arc::into_inner(self.guard.take()?)?;
        self.held.lock().remove(&ThreadKey::current());
        Some(last)
    }
}

impl std::ops::Deref for RLockGuard {
    type Target = LockGuard;

    /// What the guard says of the grant, which is that of all guards of the thread.
    fn deref(&self) -> &LockGuard {
        self.guard
            .as_ref()
            .expect("it is there until it is dropped")
    }
}

impl Drop for RLockGuard {
    fn drop(&mut self) {
        drop(self.let_go());
    }
}

impl fmt::Debug for RLockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLockGuard")
            .field("key", &self.key())
            .field("fencing_token", &self.fencing_token())
            .finish_non_exhaustive()
    }
}
