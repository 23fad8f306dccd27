//! What many want at the same time is computed once.
//!
//! *When to compute anew.* A value that is used for long is computed again a little before its time is over, so that nobody
//! waits then: each reader throws dice, and the nearer the end is, and the longer a computation takes, the more of them
//! compute. A. Vattani, F. Chierichetti and K. Lowenstein, *Optimal Probabilistic Cache Stampede Prevention*, VLDB 2015: it is
//! time if `Δ · β · −ln(rand)` is at least what is left, with the duration of a computation for Δ. Here only one of those
//! computes: for the others the lock isn't free, and they take what is there.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::CoordError;
use super::averager::Averager;
use super::lease::Lease;
use super::lock::{Lock, LockGuard};
use super::owner::Owner;
use super::store::Store;

/// For how long it is remembered how long a computation takes.
const MEMORY: Duration = Duration::from_secs(30 * 86_400);

/// Computes something once for all who want it at the same time, among all threads and processes.
///
/// The value lies where the caller keeps it: a file, a cache, a table. What is here is who computes it, and who waits:
///
/// - there is *none*: one computes it, the others wait, and read it then, all at once;
/// - there is one whose time is *over*: one computes a new one, the others take the old one and don't wait;
/// - its time is *nearly over*: one of those who read it may compute a new one [early](Self::beta), so that it doesn't come
///   to that.
///
/// Who computes is the caller itself, on its thread: it gets the new value, or the error, or the panic, and with either of those
/// the next one tries. Who fails early, while the value is still fresh, gets that. If its process is killed the next one tries at
/// once; on a Redis server when the lease has ended.
///
/// How long computations take is remembered as an [`Averager`] of the name `KEY (single flight)`, in seconds, for thirty
/// days after the last one; each handle asks the store for that once, so that a value which is there costs nothing here
/// but the read.
///
/// # Examples
///
/// ```
/// use hapax::coord::{CoordError, MemoryStore, SingleFlight};
/// use std::sync::Mutex;
/// use std::time::{Duration, Instant};
///
/// let cache: Mutex<Option<(u32, Instant)>> = Mutex::new(None);
/// let read = || {
///     let found = *cache.lock().unwrap();
///     // The value, and for how long it is fresh yet.
///     Ok(found.map(|(value, ends)| (value, ends.saturating_duration_since(Instant::now()))))
/// };
/// let compute = |_: &_| {
///     let value = 42;
///     *cache.lock().unwrap() = Some((value, Instant::now() + Duration::from_secs(60)));
///     Ok(value)
/// };
///
/// let answer = SingleFlight::new(&MemoryStore::new(), "answer");
/// assert_eq!(answer.get(read, compute)?, 42);
/// assert_eq!(answer.get(read, |_| panic!("it is there"))?, 42);
/// # Ok::<_, CoordError>(())
/// ```
#[doc(alias("singleflight", "memoize_stampede", "XFetch", "stampede"))]
#[derive(Clone)]
pub struct SingleFlight {
    lock: Lock,
    /// How long computations take.
    durations: Averager,
    /// The same, once it is known.
    duration: Arc<Mutex<Option<Duration>>>,
    beta: f64,
}

impl SingleFlight {
    /// That of this name, which has the [`Lock`] of the same name. Nothing is done yet.
    ///
    /// # Examples
    ///
    /// See [`SingleFlight`].
    pub fn new(store: &(impl Store + ?Sized), key: &str) -> Self {
        let durations = Averager::new(store, &format!("{key} (single flight)"));
        Self {
            lock: Lock::new(store, key),
            durations: durations.expire(MEMORY),
            duration: Arc::default(),
            beta: 1.0,
        }
    }

    /// The same with another eagerness to compute anew before the time is over. With 1, as if this isn't called, a value for
    /// which a computation takes a second is replaced about a second before that, or some seconds if it is read often;
    /// twice as early with 2, and with 0 never before.
    ///
    /// # Panics
    ///
    /// If it is negative, infinite or a NaN.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{CoordError, MemoryStore, SingleFlight};
    /// use std::time::Duration;
    ///
    /// let answer = SingleFlight::new(&MemoryStore::new(), "answer").beta(0.0);
    /// let nearly_over = || Ok(Some((42, Duration::from_nanos(1))));
    /// assert_eq!(answer.get(nearly_over, |_| panic!("it is there"))?, 42);
    /// # Ok::<_, CoordError>(())
    /// ```
    #[must_use]
    pub fn beta(mut self, beta: f64) -> Self {
        assert!(
            beta >= 0.0 && beta.is_finite(),
            "a beta of {beta} means nothing"
        );
        self.beta = beta;
        self
    }

    /// The same with a [`Lease`] for the time of the computation; [`Lease::Session`] if this isn't called. With
    /// another one a process that is stopped while it computes keeps the others waiting no longer than that.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{CoordError, Lease, MemoryStore, SingleFlight};
    /// use std::time::Duration;
    ///
    /// let lease = Lease::Renewed(Duration::from_secs(30));
    /// let answer = SingleFlight::new(&MemoryStore::new(), "answer").lease(lease);
    /// let value = answer.get(|| Ok(None), |guard| {
    ///     guard.check()?;
    ///     Ok(42)
    /// });
    /// assert_eq!(value?, 42);
    /// # Ok::<_, CoordError>(())
    /// ```
    #[must_use]
    pub fn lease(mut self, lease: Lease) -> Self {
        self.lock = self.lock.lease(lease);
        self
    }

    /// The same with a text beside its lock and its memory, as [`Lock::tag`] and [`Averager::tag`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{CoordError, MemoryStore, SingleFlight, Store};
    ///
    /// let store = MemoryStore::new();
    /// let answer = SingleFlight::new(&store, "answer").tag("answers");
    /// answer.get(|| Ok::<_, CoordError>(None), |_| Ok(42))?;
    /// assert_eq!(store.evict("answers")?, 1);
    /// # Ok::<_, CoordError>(())
    /// ```
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        self.lock = self.lock.tag(tag);
        self.durations = self.durations.tag(tag);
        self
    }

    /// Its name.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{MemoryStore, SingleFlight};
    ///
    /// assert_eq!(SingleFlight::new(&MemoryStore::new(), "answer").key(), "answer");
    /// ```
    pub fn key(&self) -> &str {
        self.lock.key()
    }

    /// The value: what is there, what another one computes, or what this one does.
    ///
    /// `read` answers with the value, if there is one, and for how long it is fresh yet: zero if its time is over,
    /// [`Duration::MAX`] if it has none. It may be called several times, by several at once, and while another one computes.
    ///
    /// `compute` makes a new value, puts it where `read` finds it, and answers with it. It is called once at most, while the
    /// caller holds the lock, whose guard it gets: what it writes can be fenced by the
    /// [token](LockGuard::fencing_token). `read` should find a value whole or not at all, since a process can be killed
    /// while it writes. It may get other values by the same means; if two wait for each other by that, one of them gets a
    /// [`Deadlock`](CoordError::Deadlock).
    ///
    /// # Errors
    ///
    /// None once a value was read that is fresh, as long as it is. Otherwise
    ///
    /// - Those of `read` and `compute`. Who waits for another one that fails computes in its place.
    /// - Those of [`Lock::lock`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{CoordError, MemoryStore, SingleFlight};
    /// use std::time::Duration;
    ///
    /// let answer = SingleFlight::new(&MemoryStore::new(), "answer");
    /// // Any error that can hold a `CoordError`.
    /// let value: Result<u32, Box<dyn std::error::Error>> = answer.get(
    ///     || Ok(Some(("42".parse()?, Duration::MAX))),
    ///     |_| Err("there is no answer".into()),
    /// );
    /// assert_eq!(value?, 42);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn get<V, E: From<CoordError>>(
        &self,
        mut read: impl FnMut() -> Result<Option<(V, Duration)>, E>,
        compute: impl FnOnce(&LockGuard) -> Result<V, E>,
    ) -> Result<V, E> {
        match read()? {
            Some((value, left)) if !self.is_due(left) => Ok(value),
            Some((value, left)) => self.replace(value, left, read, compute),
            None => self.make(read, compute),
        }
    }

    /// In the name of the thread, which stays here as long as it holds it.
    fn lock(&self) -> Lock {
        self.lock.clone().owned_by(&Owner::current_thread())
    }

    /// A new one instead of the old one, if that goes well.
    #[cold]
    fn replace<V, E: From<CoordError>>(
        &self,
        old: V,
        left: Duration,
        read: impl FnMut() -> Result<Option<(V, Duration)>, E>,
        compute: impl FnOnce(&LockGuard) -> Result<V, E>,
    ) -> Result<V, E> {
        let began = Instant::now();
        match self.renew(left, read, compute) {
            Ok(value) => Ok(value.unwrap_or(old)),
            Err(_) if began.elapsed() < left => Ok(old),
            Err(error) => Err(error),
        }
    }

    /// A new one, or none if another one is at it.
    fn renew<V, E: From<CoordError>>(
        &self,
        left: Duration,
        mut read: impl FnMut() -> Result<Option<(V, Duration)>, E>,
        compute: impl FnOnce(&LockGuard) -> Result<V, E>,
    ) -> Result<Option<V>, E> {
        let guard = match self.lock().try_lock() {
            Err(CoordError::TimedOut { .. }) => return Ok(None),
            answer => answer?,
        };
        // Another one may have been at it since the look.
        match read()? {
            Some((value, now_left)) if now_left > left => {
                self.forget();
                Ok(Some(value))
            }
            _ => self.compute(&guard, compute).map(Some),
        }
    }

    /// One where there is none.
    #[cold]
    fn make<V, E: From<CoordError>>(
        &self,
        mut read: impl FnMut() -> Result<Option<(V, Duration)>, E>,
        compute: impl FnOnce(&LockGuard) -> Result<V, E>,
    ) -> Result<V, E> {
        let lock = self.lock();
        let guard = match lock.try_lock() {
            Ok(guard) => guard,
            Err(CoordError::TimedOut { .. }) => {
                // Another one is at it. All who wait share the lock, so that they read at the same time.
                drop(lock.clone().shared().lock()?);
                if let Some((value, _)) = read()? {
                    self.forget();
                    return Ok(value);
                }
                // It has failed. One after the other tries from now on.
                lock.lock()?
            }
            Err(error) => return Err(error.into()),
        };
        match read()? {
            Some((value, left)) if !left.is_zero() => {
                self.forget();
                Ok(value)
            }
            _ => self.compute(&guard, compute),
        }
    }

    fn compute<V, E>(
        &self,
        guard: &LockGuard,
        compute: impl FnOnce(&LockGuard) -> Result<V, E>,
    ) -> Result<V, E> {
        let began = Instant::now();
        let value = compute(guard)?;
        // The value is there, whatever becomes of this.
        if let Ok(mean) = self.durations.add(began.elapsed().as_secs_f64()) {
            *self.duration.lock() = Some(seconds(mean));
        }
        Ok(value)
    }

    /// Whether it is time for a new one.
    fn is_due(&self, left: Duration) -> bool {
        if left.is_zero() {
            return true;
        }
        if self.beta == 0.0 || left == Duration::MAX {
            return false;
        }
        let early = self.duration().as_secs_f64() * self.beta * -dice().ln();
        early >= left.as_secs_f64()
    }

    /// How long a computation takes. None at all as long as nobody knows.
    fn duration(&self) -> Duration {
        let known = *self.duration.lock();
        if let Some(known) = known {
            return known;
        }
        // Nobody waits for the store behind this one.
        let Ok(mean) = self.durations.get() else {
            return Duration::ZERO;
        };
        let found = mean.map_or(Duration::ZERO, seconds);
        *self.duration.lock().get_or_insert(found)
    }

    /// Others have computed: how long that takes is to be asked for again.
    fn forget(&self) {
        *self.duration.lock() = None;
    }
}

/// Of an average that others may have added anything to.
fn seconds(mean: f64) -> Duration {
    Duration::try_from_secs_f64(mean).unwrap_or_default()
}

/// More than zero, and one at most.
fn dice() -> f64 {
    let random = RandomState::new().hash_one(()) >> 11;
    (random + 1) as f64 / (1_u64 << 53) as f64
}

impl fmt::Debug for SingleFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight")
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}
