//! A mean that processes share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::CoordError;
use super::error::{Fault, Operation};
use super::session::Session;
use super::store::{Mean, OfAverage, Store};

/// The mean of numbers that processes add, as a sum and a count in the store.
///
/// It belongs to nobody: it stays when those who have added to it end, and when the machine does. To add is one step for
/// all, so no number is lost, and none counts twice. An average has nothing to do with a lock or a semaphore of the same name,
/// but is none if a [`RateLimiter`](super::RateLimiter) has that name.
///
/// The sum is that of `f64`, so of ten million numbers the mean has nine right digits at least, if they have one sign.
///
/// # Examples
///
/// ```
/// use hapax::coord::{Averager, MemoryStore};
///
/// let store = MemoryStore::new();
/// let latency = Averager::new(&store, "latency");
/// latency.add(0.08)?;
/// assert_eq!(latency.add(0.12)?, 0.1);
/// assert_eq!(latency.get()?, Some(0.1));
/// assert_eq!(latency.pop()?, Some(0.1));
/// assert_eq!(latency.pop()?, None);
/// # Ok::<_, hapax::coord::CoordError>(())
/// ```
#[derive(Clone)]
pub struct Averager {
    session: Arc<Session>,
    key: Arc<str>,
    expire: Option<Duration>,
    tag: Option<Arc<str>>,
}

impl Averager {
    /// The average of that name. Nothing is done yet.
    ///
    /// # Examples
    ///
    /// See [`Averager`].
    pub fn new(store: &(impl Store + ?Sized), key: &str) -> Self {
        Self {
            session: Arc::clone(store.session()),
            key: Arc::from(key),
            expire: None,
            tag: None,
        }
    }

    /// The same, to be forgotten when nobody has added to it for that long; never if this isn't called.
    ///
    /// What was added last says how long. The time is that of the wall clock, since an average outlives the machine's boot: if
    /// that is set ahead it is forgotten sooner, and if it is set back no earlier than otherwise, and not much later.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Averager, MemoryStore};
    /// use std::time::Duration;
    ///
    /// let store = MemoryStore::with_virtual_clock();
    /// let latency = Averager::new(&store, "latency").expire(Duration::from_secs(60));
    /// latency.add(1.0)?;
    /// store.advance(Duration::from_secs(59));
    /// latency.add(2.0)?;
    /// store.advance(Duration::from_secs(59));
    /// assert_eq!(latency.get()?, Some(1.5));
    /// store.advance(Duration::from_secs(1));
    /// assert_eq!(latency.get()?, None);
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn expire(mut self, time: Duration) -> Self {
        self.expire = Some(time);
        self
    }

    /// The same with a text by which [`evict`](Store::evict) removes it. What is added without a tag leaves the one that is
    /// there.
    ///
    /// # Examples
    ///
    /// See [`Store::evict`].
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        self.tag = Some(Arc::from(tag));
        self
    }

    /// Its name.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Averager, MemoryStore};
    ///
    /// assert_eq!(Averager::new(&MemoryStore::new(), "latency").key(), "latency");
    /// ```
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Adds a number. Answers with the mean of all that were added so far.
    ///
    /// # Errors
    ///
    /// - [`NotFinite`](CoordError::NotFinite) if the number is a NaN or an infinity, or so large that the sum would be
    ///   infinite. The average is what it was.
    /// - [`KindMismatch`](CoordError::KindMismatch) if the key is in use as a rate limit.
    /// - [`OutcomeUnknown`](CoordError::OutcomeUnknown) if a Redis server has given no answer: it is sent only once.
    /// - What else can be wrong with a store. Nothing was added then.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{Averager, CoordError, MemoryStore};
    ///
    /// let latency = Averager::new(&MemoryStore::new(), "latency");
    /// assert_eq!(latency.add(1.0)?, 1.0);
    /// assert_eq!(latency.add(2.0)?, 1.5);
    /// assert!(matches!(latency.add(f64::NAN), Err(CoordError::NotFinite { .. })));
    /// # Ok::<_, CoordError>(())
    /// ```
    pub fn add(&self, number: f64) -> Result<f64, CoordError> {
        if !number.is_finite() {
            return Err(Fault::NotFinite(number).at(Some(&self.key), Operation::Add));
        }
        let step = OfAverage::Add {
            number,
            expire: self.expire,
            tag: self.tag.as_deref(),
        };
        let mean = self.step(step, Operation::Add)?;
        Ok(mean.unwrap_or(number))
    }

    /// The mean of all numbers that were added, if there are any.
    ///
    /// # Errors
    ///
    /// - [`KindMismatch`](CoordError::KindMismatch) if the key is in use as a rate limit.
    /// - What can be wrong with a store.
    ///
    /// # Examples
    ///
    /// See [`Averager`].
    pub fn get(&self) -> Result<Option<f64>, CoordError> {
        self.step(OfAverage::Get, Operation::Get)
    }

    /// The same, and takes all of them out in the same step: what others add at the same time is in this mean or in the next.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get), and [`OutcomeUnknown`](CoordError::OutcomeUnknown) if a Redis server has given no answer: then
    /// it may have been taken out, and nobody has it.
    ///
    /// # Examples
    ///
    /// See [`Averager`].
    pub fn pop(&self) -> Result<Option<f64>, CoordError> {
        self.step(OfAverage::Pop, Operation::Pop)
    }

    fn step(&self, step: OfAverage<'_>, operation: Operation) -> Result<Option<f64>, CoordError> {
        let found = self.session.engine().average(&self.key, step);
        let mean = found.map_err(|fault| fault.at(Some(&self.key), operation))?;
        Ok(mean.map(Mean::value))
    }
}

impl fmt::Debug for Averager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Averager")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
