//! A number of permits that processes share.

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

/// At most so many at a time, among all who have the store open.
///
/// Each permit has its holder, so none can be given back twice, or by somebody else, and those of a process that has
/// died come free. It is the bounded semaphore of Python and DiskCache.
///
/// # Examples
///
/// ```
/// use hapax::coord::{CoordError, MemoryStore, Semaphore};
///
/// let store = MemoryStore::new();
/// let downloads = Semaphore::new(&store, "downloads", 2);
/// let first = downloads.acquire()?;
/// let second = downloads.acquire()?;
/// assert_eq!((first.slot(), second.slot()), (0, 1));
/// assert!(matches!(downloads.try_acquire(), Err(CoordError::TimedOut { .. })));
/// # Ok::<_, CoordError>(())
/// ```
#[doc(alias = "BoundedSemaphore")]
#[derive(Clone)]
pub struct Semaphore {
    session: Arc<Session>,
    ask: Ask,
}

impl Semaphore {
    /// The semaphore of that name, with so many permits. Nothing is done yet.
    ///
    /// All who use it at the same time must name the same number.
    ///
    /// # Panics
    ///
    /// If there are no permits at all.
    ///
    /// # Examples
    ///
    /// See [`Semaphore`].
    pub fn new(store: &(impl Store + ?Sized), key: &str, permits: u32) -> Self {
        assert!(permits > 0, "the semaphore `{key}` has no permits");
        Self {
            session: Arc::clone(store.session()),
            ask: Ask::of(key, Want::Permit { limit: permits }),
        }
    }

    /// The same with grants that last for that long if they aren't given back; [`Lease::Session`] if this isn't called.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Lease, MemoryStore, Semaphore};
    /// use std::time::Duration;
    ///
    /// let store = MemoryStore::with_virtual_clock();
    /// let lease = Lease::Fixed(Duration::from_secs(1));
    /// let downloads = Semaphore::new(&store, "downloads", 1).lease(lease);
    /// let permit = downloads.acquire()?;
    /// store.advance(Duration::from_secs(1));
    /// assert!(downloads.try_acquire().is_ok());
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn lease(mut self, lease: Lease) -> Self {
        self.ask.lease = lease;
        self
    }

    /// The same in that owner's name, so that deadlocks with it are found. See [`Owner`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{CoordError, MemoryStore, Owner, Semaphore};
    ///
    /// let store = MemoryStore::new();
    /// let downloads = Semaphore::new(&store, "downloads", 1).owned_by(&Owner::new());
    /// let permit = downloads.acquire()?;
    /// assert!(matches!(downloads.acquire(), Err(CoordError::Deadlock { .. })));
    /// # Ok::<_, CoordError>(())
    /// ```
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
    /// use hapax::coord::{MemoryStore, Semaphore, Store};
    ///
    /// let store = MemoryStore::new();
    /// let _permit = Semaphore::new(&store, "downloads", 1).tag("images").acquire()?;
    /// assert_eq!(store.list()?[0].holders[0].tag.as_deref(), Some("images"));
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        self.ask.tag = Some(Arc::from(tag));
        self
    }

    /// The same for somebody whom nobody may pass once it is the first that waits, and who passes nobody.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, Semaphore};
    ///
    /// let store = MemoryStore::new();
    /// let permit = Semaphore::new(&store, "downloads", 1).strict().acquire()?;
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
    /// use hapax::coord::{MemoryStore, Semaphore};
    ///
    /// assert_eq!(Semaphore::new(&MemoryStore::new(), "downloads", 1).key(), "downloads");
    /// ```
    pub fn key(&self) -> &str {
        &self.ask.key
    }

    /// Waits for a permit, for as long as that takes.
    ///
    /// # Errors
    ///
    /// - [`Deadlock`](CoordError::Deadlock) if this would wait for itself; see [`Owner`].
    /// - [`KindMismatch`](CoordError::KindMismatch) if the key is in use as a lock,
    ///   [`LimitMismatch`](CoordError::LimitMismatch) if it is with another number of permits.
    /// - [`Cancelled`](CoordError::Cancelled) if the thread is in a [`Scope`](crate::sync::Scope) that is cancelled, noticed
    ///   within a second.
    /// - [`Lost`](CoordError::Lost) if the lease was over before this has heard of the grant.
    /// - What can be wrong with a store.
    ///
    /// # Examples
    ///
    /// See [`Semaphore`].
    pub fn acquire(&self) -> Result<Permit, CoordError> {
        self.get(Limit::Endless)
    }

    /// Takes a permit if there is one and nobody waits for it who is due.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](CoordError::TimedOut) if there is none, and otherwise those of [`acquire`](Self::acquire), without
    /// `Deadlock` and `Cancelled`.
    ///
    /// # Examples
    ///
    /// See [`Semaphore`].
    pub fn try_acquire(&self) -> Result<Permit, CoordError> {
        self.get(Limit::None)
    }

    /// Waits for a permit for that long at most; not at all if that is zero.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](CoordError::TimedOut) if there was none in time, and otherwise those of [`acquire`](Self::acquire),
    /// without `Deadlock`.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, Semaphore};
    /// use std::time::Duration;
    ///
    /// let store = MemoryStore::new();
    /// let permit = Semaphore::new(&store, "downloads", 1).try_acquire_for(Duration::from_secs(1))?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn try_acquire_for(&self, time: Duration) -> Result<Permit, CoordError> {
        self.get(Limit::of(time))
    }

    /// Waits for a permit until then at most.
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire_for`](Self::try_acquire_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, Semaphore};
    /// use std::time::Instant;
    ///
    /// let store = MemoryStore::new();
    /// let permit = Semaphore::new(&store, "downloads", 1).try_acquire_until(Instant::now())?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub fn try_acquire_until(&self, moment: Instant) -> Result<Permit, CoordError> {
        self.get(Limit::until(moment))
    }

    /// Waits for a permit without blocking the thread, on any executor: as [`Lock::lock_async`](super::Lock::lock_async).
    ///
    /// # Errors
    ///
    /// Those of [`acquire`](Self::acquire), without `Cancelled`.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, Semaphore};
    ///
    /// # pollster::block_on(async {
    /// let store = MemoryStore::new();
    /// let permit = Semaphore::new(&store, "downloads", 2).acquire_async().await?;
    /// assert_eq!(permit.slot(), 0);
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// # })?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    pub async fn acquire_async(&self) -> Result<Permit, CoordError> {
        let hold = self.session.clerk.acquire(self.ask.clone()).await?;
        Ok(Permit(Guard::of(&self.session, hold, By::Clerk)))
    }

    fn get(&self, limit: Limit) -> Result<Permit, CoordError> {
        let hold = acquire(&self.session.keeper, self.ask.clone(), limit)?;
        Ok(Permit(Guard::of(&self.session, hold, By::ThisThread)))
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("key", &self.ask.key)
            .finish_non_exhaustive()
    }
}

/// A permit of a [`Semaphore`]. It is given back when this is dropped.
///
/// # Examples
///
/// See [`Semaphore`].
#[must_use = "the permit is given back when this is dropped"]
pub struct Permit(Guard);

super::guard::forward! { Permit }

impl Permit {
    /// Which of the permits it is: less than their number, and no other one's at the same time.
    ///
    /// Several tokens are valid at once here, so what is used under a permit has to remember the greatest one of each slot,
    /// and not one for all.
    ///
    /// # Examples
    ///
    /// See [`Semaphore`].
    pub fn slot(&self) -> u32 {
        self.0.hold.slot
    }
}
