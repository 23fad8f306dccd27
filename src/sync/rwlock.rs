//! `RwLock`: data that many threads read, or one writes.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::AcquireError;
use super::owned::Owned;
use super::patience::Patience;
use super::primitive::RawRwLock;
use crate::table::primitive::maybe_const_fn;

/// Data that many threads read at a time, or one writes.
///
/// Who waits for a *writer* takes part in what is looked at for deadlocks, as with a [`Mutex`](super::Mutex), and learns
/// when a writer has ended. Readers aren't known: who waits for them, to write, waits for nobody in particular. So a
/// thread that asks to write while it reads, or two that do, hang.
///
/// A writer that waits keeps new readers out (but for a moment, when its wait is looked at for deadlocks), so a thread
/// that reads must not ask to read again: it may hang as well.
/// As parking_lot's it isn't poisoned by a panic.
///
/// # Examples
///
/// ```
/// use hapax::sync::RwLock;
///
/// static CONFIG: RwLock<u32> = RwLock::named("config", 5);
///
/// *CONFIG.write()? += 1;
/// let (one, another) = (CONFIG.read()?, CONFIG.read()?);
/// assert_eq!((*one, *another), (6, 6));
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
pub struct RwLock<T: ?Sized> {
    lock: Owned<RawRwLock>,
    data: UnsafeCell<T>,
}

// SAFETY: it owns the data.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: a writer sends the data, readers share it.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    maybe_const_fn! {
        /// A lock that nobody holds.
        ///
        /// # Examples
        ///
        /// ```
        /// use hapax::sync::RwLock;
        ///
        /// assert!(!RwLock::new(5).is_locked());
        /// ```
        pub const fn new(data: T) -> Self {
            Self {
                lock: Owned::new(RawRwLock::new(), None),
                data: UnsafeCell::new(data),
            }
        }
    }

    maybe_const_fn! {
        /// As [`new`](Self::new), with a name for reports.
        ///
        /// # Examples
        ///
        /// ```
        /// use hapax::sync::RwLock;
        ///
        /// static ROUTES: RwLock<Vec<String>> = RwLock::named("routes", Vec::new());
        /// assert!(!ROUTES.is_locked());
        /// ```
        pub const fn named(name: &'static str, data: T) -> Self {
            Self {
                lock: Owned::new(RawRwLock::new(), Some(name)),
                data: UnsafeCell::new(data),
            }
        }
    }

    /// The data, also if a writer has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RwLock;
    ///
    /// assert_eq!(RwLock::new(5).into_inner(), 5);
    /// ```
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until nobody writes, nor waits to, and reads then, together with others.
    ///
    /// # Errors
    ///
    /// - [`AcquireError::Deadlock`] if the writer waits, perhaps through others, for the calling thread, or is it;
    /// - [`AcquireError::OwnerDied`] if a writer has ended while it held the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RwLock;
    ///
    /// assert_eq!(*RwLock::new(5).read()?, 5);
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    #[inline]
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>, AcquireError> {
        self.read_with(Patience::Forever)
    }

    /// Reads if nobody writes, nor waits to.
    ///
    /// # Errors
    ///
    /// [`AcquireError::WouldBlock`] if somebody does; [`AcquireError::OwnerDied`] if it is known that a writer has ended,
    /// because somebody has waited for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RwLock;
    ///
    /// let number = RwLock::new(5);
    /// let guard = number.write()?;
    /// assert!(number.try_read().is_err());
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    #[inline]
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T>, AcquireError> {
        self.read_with(Patience::None)
    }

    /// As [`read`](Self::read), but waits no longer than so long. Such a wait ends by itself, so it is never a deadlock.
    ///
    /// # Errors
    ///
    /// [`AcquireError::TimedOut`] if the time is over; [`AcquireError::OwnerDied`] as for [`read`](Self::read).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::RwLock;
    ///
    /// assert!(RwLock::new(5).try_read_for(Duration::ZERO).is_ok());
    /// ```
    pub fn try_read_for(&self, time: Duration) -> Result<RwLockReadGuard<'_, T>, AcquireError> {
        self.read_with(Patience::lasting(time))
    }

    /// As [`try_read_for`](Self::try_read_for), until a moment.
    ///
    /// # Errors
    ///
    /// As for [`try_read_for`](Self::try_read_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use hapax::sync::RwLock;
    ///
    /// assert!(RwLock::new(5).try_read_until(Instant::now()).is_ok());
    /// ```
    pub fn try_read_until(&self, moment: Instant) -> Result<RwLockReadGuard<'_, T>, AcquireError> {
        self.read_with(Patience::Until(moment))
    }

    #[inline]
    fn read_with(&self, patience: Patience) -> Result<RwLockReadGuard<'_, T>, AcquireError> {
        self.lock.lock_shared(patience)?;
        Ok(RwLockReadGuard {
            lock: self,
            _of_this_thread: PhantomData,
        })
    }

    /// Waits until nobody reads or writes, and holds the lock alone then. A thread that reads must not ask for it: readers
    /// aren't known, so it would hang.
    ///
    /// # Errors
    ///
    /// - [`AcquireError::Deadlock`] if the writer waits, perhaps through others, for the calling thread, or is it;
    /// - [`AcquireError::OwnerDied`] if a writer has ended while it held the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RwLock;
    ///
    /// let number = RwLock::new(5);
    /// *number.write()? += 1;
    /// assert_eq!(*number.read()?, 6);
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    #[inline]
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>, AcquireError> {
        self.write_with(Patience::Forever)
    }

    /// Writes if nobody reads or writes.
    ///
    /// # Errors
    ///
    /// [`AcquireError::WouldBlock`] if somebody reads or writes; [`AcquireError::OwnerDied`] as for
    /// [`try_read`](Self::try_read).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{AcquireError, RwLock};
    ///
    /// let number = RwLock::new(5);
    /// let guard = number.read()?;
    /// assert_eq!(number.try_write().unwrap_err(), AcquireError::WouldBlock);
    /// # Ok::<_, AcquireError>(())
    /// ```
    #[inline]
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_, T>, AcquireError> {
        self.write_with(Patience::None)
    }

    /// As [`write`](Self::write), but waits no longer than so long. Such a wait ends by itself, so it is never a deadlock.
    ///
    /// # Errors
    ///
    /// [`AcquireError::TimedOut`] if the time is over; [`AcquireError::OwnerDied`] as for [`write`](Self::write).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::{AcquireError, RwLock};
    ///
    /// let number = RwLock::new(5);
    /// let guard = number.read()?;
    /// let second = number.try_write_for(Duration::from_millis(1));
    /// assert_eq!(second.unwrap_err(), AcquireError::TimedOut);
    /// # Ok::<_, AcquireError>(())
    /// ```
    pub fn try_write_for(&self, time: Duration) -> Result<RwLockWriteGuard<'_, T>, AcquireError> {
        self.write_with(Patience::lasting(time))
    }

    /// As [`try_write_for`](Self::try_write_for), until a moment.
    ///
    /// # Errors
    ///
    /// As for [`try_write_for`](Self::try_write_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use hapax::sync::RwLock;
    ///
    /// assert!(RwLock::new(5).try_write_until(Instant::now()).is_ok());
    /// ```
    pub fn try_write_until(
        &self,
        moment: Instant,
    ) -> Result<RwLockWriteGuard<'_, T>, AcquireError> {
        self.write_with(Patience::Until(moment))
    }

    #[inline]
    fn write_with(&self, patience: Patience) -> Result<RwLockWriteGuard<'_, T>, AcquireError> {
        self.lock.lock(patience)?;
        Ok(RwLockWriteGuard {
            lock: self,
            _of_this_thread: PhantomData,
        })
    }

    /// Whether somebody reads or writes, or has ended while writing.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RwLock;
    ///
    /// let number = RwLock::new(5);
    /// let guard = number.read()?;
    /// assert!(number.is_locked());
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// Whether somebody writes, or has ended while writing.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RwLock;
    ///
    /// let number = RwLock::new(5);
    /// let guard = number.read()?;
    /// assert!(!number.is_locked_exclusive());
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn is_locked_exclusive(&self) -> bool {
        self.lock.is_locked_exclusively()
    }

    /// The data, also if a writer has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RwLock;
    ///
    /// let mut number = RwLock::new(5);
    /// *number.get_mut() += 1;
    /// assert_eq!(number.into_inner(), 6);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(_) => debug.field("data", &format_args!("<locked>")),
        };
        debug.finish()
    }
}

/// Stops reading an [`RwLock`] when it is dropped, and leads to its data until then. It stays on its thread.
///
/// # Examples
///
/// ```
/// use hapax::sync::RwLock;
///
/// let number = RwLock::new(5);
/// let guard = number.read()?;
/// assert_eq!(*guard, 5);
/// drop(guard);
/// assert!(!number.is_locked());
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
#[must_use = "it gives the lock back at once if it isn't kept"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    _of_this_thread: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T`.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: nobody writes as long as this guard is there.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a guard is made with its share, and dropped once.
        unsafe { self.lock.lock.unlock_shared() };
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Gives an [`RwLock`] back when it is dropped, and leads to its data until then. It stays on its thread.
///
/// # Examples
///
/// ```
/// use hapax::sync::RwLock;
///
/// let number = RwLock::new(5);
/// let mut guard = number.write()?;
/// *guard = 6;
/// drop(guard);
/// assert!(!number.is_locked());
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
///
/// ```compile_fail,E0277
/// let number = hapax::sync::RwLock::new(5);
/// let guard = number.write().unwrap();
/// std::thread::scope(|scope| { scope.spawn(move || drop(guard)); });
/// ```
#[must_use = "it gives the lock back at once if it isn't kept"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    _of_this_thread: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T`.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this thread holds the lock alone.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this thread holds the lock alone, by this guard.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a guard is made when its thread has locked, stays on that thread, and is dropped once.
        unsafe { self.lock.lock.unlock() };
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
