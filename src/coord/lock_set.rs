//! Several locks that one wants together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CoordError;
use super::lock::{Lock, LockGuard};
use super::store::Want;

/// Several locks of a store that are taken together: all of them, or none.
///
/// They are taken one after the other in the order of their keys, so that no two who take theirs by this wait for each
/// other, as long as they hold nothing else meanwhile. While it waits for one it holds those before it. A key that is there
/// twice is taken once.
///
/// # Examples
///
/// ```
/// use hapax::coord::{CoordError, Lock, LockSet, MemoryStore};
///
/// fn transfer(store: &MemoryStore, from: &str, to: &str) -> Result<(), CoordError> {
///     let accounts = LockSet::new([from, to].map(|account| Lock::new(store, account)));
///     let guards = accounts.lock()?;
///     // Nobody else changes either of them now.
///     guards.into_iter().try_for_each(|guard| guard.release())
/// }
///
/// let store = MemoryStore::new();
/// transfer(&store, "a", "b")?;
/// transfer(&store, "b", "a")?;
/// transfer(&store, "a", "a")?;
/// # Ok::<_, CoordError>(())
/// ```
#[doc(alias("acquire_all", "lock_all", "multilock", "scoped_lock"))]
#[derive(Clone)]
pub struct LockSet {
    /// In the order of their keys.
    locks: Vec<Lock>,
}

impl LockSet {
    /// These locks. Nothing is done yet.
    ///
    /// Each is taken as it says itself: by its lease, in its owner's name, shared or not. Of two with the same key the first
    /// says so, but it is exclusive if one of them is.
    ///
    /// # Panics
    ///
    /// If they are of several stores, or of one that was opened twice: their order is that of one store.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, LockSet, MemoryStore};
    ///
    /// let store = MemoryStore::new();
    /// let (a, b) = (Lock::new(&store, "a"), Lock::new(&store, "b"));
    /// let guards = LockSet::new([b.clone(), a.clone().shared()]).lock()?;
    /// assert_eq!([guards[0].key(), guards[1].key()], ["a", "b"]);
    /// assert!(a.shared().try_lock().is_ok());
    /// assert!(b.shared().try_lock().is_err());
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn new(locks: impl IntoIterator<Item = Lock>) -> Self {
        let mut by_key: BTreeMap<Arc<str>, Lock> = BTreeMap::new();
        for lock in locks {
            if let Some(other) = by_key.values().next() {
                assert!(
                    Arc::ptr_eq(&lock.session, &other.session),
                    "the locks `{}` and `{}` are of different stores",
                    other.key(),
                    lock.key()
                );
            }
            match by_key.get_mut(lock.key()) {
                Some(first) if lock.ask.want == Want::Exclusive => {
                    first.ask.want = Want::Exclusive;
                }
                Some(_) => {}
                None => {
                    by_key.insert(Arc::clone(&lock.ask.key), lock);
                }
            }
        }
        let locks = by_key.into_values().collect();
        Self { locks }
    }

    /// Waits for all of them, for as long as that takes. The guards come in the order of the keys.
    ///
    /// # Errors
    ///
    /// Those of [`Lock::lock`], with the key of the lock that can't be had, and [`Lost`](CoordError::Lost) if a lease has ended
    /// before the last one was there: it begins when its own lock is granted. The others are given back.
    ///
    /// # Examples
    ///
    /// See [`LockSet`].
    pub fn lock(&self) -> Result<Vec<LockGuard>, CoordError> {
        self.all(Lock::lock)
    }

    /// Takes all of them if each is free and nobody waits for it who is due.
    ///
    /// # Errors
    ///
    /// Those of [`Lock::try_lock`], with the key of the first lock that can't be had. Those before it are given back.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{CoordError, Lock, LockSet, MemoryStore};
    ///
    /// let store = MemoryStore::new();
    /// let locks = ["a", "b", "c"].map(|key| Lock::new(&store, key));
    /// let guard = locks[1].lock()?;
    /// let error = LockSet::new(locks.clone()).try_lock().unwrap_err();
    /// assert!(matches!(error, CoordError::TimedOut { .. }));
    /// assert_eq!(error.key(), Some("b"));
    /// assert!(locks[0].try_lock().is_ok());
    /// # Ok::<_, CoordError>(())
    /// ```
    pub fn try_lock(&self) -> Result<Vec<LockGuard>, CoordError> {
        self.all(Lock::try_lock)
    }

    /// Waits for all of them, for that long at most altogether; not at all if that is zero.
    ///
    /// # Errors
    ///
    /// Those of [`Lock::try_lock_for`], with the key of the lock that can't be had. Those before it are given back.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, LockSet, MemoryStore};
    /// use std::time::Duration;
    ///
    /// let store = MemoryStore::new();
    /// let locks = LockSet::new(["a", "b"].map(|key| Lock::new(&store, key)));
    /// let guards = locks.try_lock_for(Duration::from_secs(1))?;
    /// assert_eq!(guards.len(), 2);
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn try_lock_for(&self, time: Duration) -> Result<Vec<LockGuard>, CoordError> {
        let engine = self.locks.first().map(|lock| lock.session.engine());
        let Some(engine) = engine else {
            return Ok(Vec::new());
        };
        let deadline = engine.now().after(time);
        self.all(|lock| lock.try_lock_for(deadline.since(engine.now())))
    }

    /// One after the other. The first may be lost before the last is there.
    fn all(
        &self,
        lock: impl Fn(&Lock) -> Result<LockGuard, CoordError>,
    ) -> Result<Vec<LockGuard>, CoordError> {
        let guards: Vec<_> = self.locks.iter().map(lock).collect::<Result<_, _>>()?;
        guards.iter().try_for_each(LockGuard::check)?;
        Ok(guards)
    }

    /// Waits for all of them until then at most.
    ///
    /// # Errors
    ///
    /// Those of [`try_lock_for`](Self::try_lock_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, LockSet, MemoryStore};
    /// use std::time::Instant;
    ///
    /// let store = MemoryStore::new();
    /// let locks = LockSet::new(["a", "b"].map(|key| Lock::new(&store, key)));
    /// let guards = locks.try_lock_until(Instant::now())?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn try_lock_until(&self, moment: Instant) -> Result<Vec<LockGuard>, CoordError> {
        self.try_lock_for(moment.saturating_duration_since(Instant::now()))
    }

    /// Waits for all of them without blocking the thread, on any executor. If this is dropped before it is ready, those that it
    /// has got are given back.
    ///
    /// # Errors
    ///
    /// Those of [`Lock::lock_async`], with the key of the lock that can't be had. Those before it are given back.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lock, LockSet, MemoryStore};
    ///
    /// # pollster::block_on(async {
    /// let store = MemoryStore::new();
    /// let locks = LockSet::new(["a", "b"].map(|key| Lock::new(&store, key)));
    /// let guards = locks.lock_async().await?;
    /// assert_eq!(guards.len(), 2);
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// # })?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub async fn lock_async(&self) -> Result<Vec<LockGuard>, CoordError> {
        let mut guards = Vec::with_capacity(self.locks.len());
        for lock in &self.locks {
            guards.push(lock.lock_async().await?);
        }
        guards.iter().try_for_each(LockGuard::check)?;
        Ok(guards)
    }
}

impl fmt::Debug for LockSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.locks.iter().map(Lock::key))
            .finish()
    }
}
