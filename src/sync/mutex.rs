//! `Mutex`: data that one thread at a time gets at.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::AcquireError;
use super::owned::Owned;
use super::patience::Patience;
use super::primitive::RawMutex;
use crate::table::primitive::maybe_const_fn;

/// Data that one thread at a time gets at. A wait that could never end is refused.
///
/// As parking_lot's mutex it isn't poisoned by a panic. When a thread ends while it holds one, because the guard was
/// forgotten or leaked, nobody gets at the data any more but through [`get_mut`](Self::get_mut) and
/// [`into_inner`](Self::into_inner): a reference to it may still be somewhere.
///
/// # Examples
///
/// ```
/// use hapax::sync::{AcquireError, Mutex};
///
/// static COUNT: Mutex<u32> = Mutex::named("count", 0);
///
/// let mut count = COUNT.lock()?;
/// *count += 1;
/// let Err(AcquireError::Deadlock(report)) = COUNT.lock() else { unreachable!() };
/// assert!(report.to_string().contains(" waits for count, held by thread "));
/// # Ok::<_, AcquireError>(())
/// ```
#[doc(alias = "threading.Lock")]
pub struct Mutex<T: ?Sized> {
    lock: Owned<RawMutex>,
    data: UnsafeCell<T>,
}

// SAFETY: it owns the data.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: one thread at a time gets at the data: so it is sent, not shared.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    maybe_const_fn! {
        /// A mutex that nobody holds.
        ///
        /// # Examples
        ///
        /// ```
        /// use hapax::sync::Mutex;
        ///
        /// assert!(!Mutex::new(5).is_locked());
        /// ```
        pub const fn new(data: T) -> Self {
            Self {
                lock: Owned::new(RawMutex::new(), None),
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
        /// use hapax::sync::Mutex;
        ///
        /// static ACCOUNTS: Mutex<Vec<u64>> = Mutex::named("accounts", Vec::new());
        /// assert!(!ACCOUNTS.is_locked());
        /// ```
        pub const fn named(name: &'static str, data: T) -> Self {
            Self {
                lock: Owned::new(RawMutex::new(), Some(name)),
                data: UnsafeCell::new(data),
            }
        }
    }

    /// The data, also if the thread that held the mutex has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Mutex;
    ///
    /// assert_eq!(Mutex::new(5).into_inner(), 5);
    /// ```
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the mutex is free, and holds it then.
    ///
    /// # Errors
    ///
    /// - [`AcquireError::Deadlock`] if the wait would never end: the calling thread holds the mutex itself, or something
    ///   that its holder waits for, perhaps through others;
    /// - [`AcquireError::OwnerDied`] if a thread has ended while it held the mutex.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Mutex;
    ///
    /// let number = Mutex::new(5);
    /// *number.lock()? += 1;
    /// assert_eq!(*number.lock()?, 6);
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    #[inline]
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, AcquireError> {
        self.lock_with(Patience::Forever)
    }

    /// Holds the mutex if nobody else does.
    ///
    /// # Errors
    ///
    /// [`AcquireError::WouldBlock`] if somebody does; [`AcquireError::OwnerDied`] if it is known that the holder has ended,
    /// because somebody has waited for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Mutex;
    ///
    /// let number = Mutex::new(5);
    /// let guard = number.try_lock()?;
    /// assert!(number.try_lock().is_err());
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    #[inline]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, AcquireError> {
        self.lock_with(Patience::None)
    }

    /// As [`lock`](Self::lock), but waits no longer than so long. Such a wait ends by itself, so it is never a deadlock.
    ///
    /// # Errors
    ///
    /// [`AcquireError::TimedOut`] if the time is over; [`AcquireError::OwnerDied`] as for [`lock`](Self::lock).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::{AcquireError, Mutex};
    ///
    /// let number = Mutex::new(5);
    /// let guard = number.lock()?;
    /// let second = number.try_lock_for(Duration::from_millis(1));
    /// assert_eq!(second.unwrap_err(), AcquireError::TimedOut);
    /// # Ok::<_, AcquireError>(())
    /// ```
    pub fn try_lock_for(&self, time: Duration) -> Result<MutexGuard<'_, T>, AcquireError> {
        self.lock_with(Patience::lasting(time))
    }

    /// As [`try_lock_for`](Self::try_lock_for), until a moment.
    ///
    /// # Errors
    ///
    /// As for [`try_lock_for`](Self::try_lock_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use hapax::sync::Mutex;
    ///
    /// assert!(Mutex::new(5).try_lock_until(Instant::now()).is_ok());
    /// ```
    pub fn try_lock_until(&self, moment: Instant) -> Result<MutexGuard<'_, T>, AcquireError> {
        self.lock_with(Patience::Until(moment))
    }

    #[inline]
    fn lock_with(&self, patience: Patience) -> Result<MutexGuard<'_, T>, AcquireError> {
        self.lock.lock(patience)?;
        Ok(MutexGuard {
            mutex: self,
            _of_this_thread: PhantomData,
        })
    }

    /// As [`lock`](Self::lock), with a guard that keeps the mutex.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use hapax::sync::{ArcMutexGuard, Mutex};
    ///
    /// struct Session {
    ///     account: ArcMutexGuard<u32>,
    /// }
    /// let mut session = Session { account: Arc::new(Mutex::new(5)).lock_arc()? };
    /// *session.account += 1;
    /// assert_eq!(*session.account, 6);
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn lock_arc(self: &Arc<Self>) -> Result<ArcMutexGuard<T>, AcquireError> {
        self.lock_arc_with(Patience::Forever)
    }

    /// As [`try_lock`](Self::try_lock), with a guard that keeps the mutex.
    ///
    /// # Errors
    ///
    /// As for [`try_lock`](Self::try_lock).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use hapax::sync::Mutex;
    ///
    /// let number = Arc::new(Mutex::new(5));
    /// let guard = number.try_lock_arc()?;
    /// assert!(number.try_lock_arc().is_err());
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn try_lock_arc(self: &Arc<Self>) -> Result<ArcMutexGuard<T>, AcquireError> {
        self.lock_arc_with(Patience::None)
    }

    fn lock_arc_with(
        self: &Arc<Self>,
        patience: Patience,
    ) -> Result<ArcMutexGuard<T>, AcquireError> {
        self.lock.lock(patience)?;
        Ok(ArcMutexGuard {
            mutex: self.clone(),
            _of_this_thread: PhantomData,
        })
    }

    /// Whether somebody holds the mutex, or has ended while holding it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Mutex;
    ///
    /// let number = Mutex::new(5);
    /// let guard = number.lock()?;
    /// assert!(number.is_locked());
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// The data, also if the thread that held the mutex has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Mutex;
    ///
    /// let mut number = Mutex::new(5);
    /// *number.get_mut() += 1;
    /// assert_eq!(number.into_inner(), 6);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(_) => debug.field("data", &format_args!("<locked>")),
        };
        debug.finish()
    }
}

/// Gives a [`Mutex`] back when it is dropped, and leads to its data until then. It stays on its thread.
///
/// # Examples
///
/// ```
/// use hapax::sync::Mutex;
///
/// let number = Mutex::new(5);
/// let mut guard = number.lock()?;
/// *guard = 6;
/// drop(guard);
/// assert!(!number.is_locked());
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
///
/// ```compile_fail,E0277
/// let number = hapax::sync::Mutex::new(5);
/// let guard = number.lock().unwrap();
/// std::thread::scope(|scope| { scope.spawn(move || drop(guard)); });
/// ```
#[must_use = "it gives the lock back at once if it isn't kept"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    _of_this_thread: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T`.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// A guard of the same hold that leads to a part of the data.
    ///
    /// # Panics
    ///
    /// If `part` does. The mutex is given back.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{Mutex, MutexGuard};
    ///
    /// let pair = Mutex::new((1, "one"));
    /// let mut name = MutexGuard::map(pair.lock()?, |pair| &mut pair.1);
    /// *name = "eins";
    /// drop(name);
    /// assert_eq!(*pair.lock()?, (1, "eins"));
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn map<U: ?Sized>(
        mut guard: Self,
        part: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedMutexGuard<'a, U> {
        let data = NonNull::from(part(&mut *guard));
        let lock = &guard.mutex.lock;
        mem::forget(guard);
        MappedMutexGuard {
            lock,
            data,
            _of_this_thread: PhantomData,
        }
    }

    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this thread holds the mutex.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this thread holds the mutex, by this guard.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a guard is made when its thread has locked, stays on that thread, and is dropped once.
        unsafe { self.mutex.lock.unlock() };
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A [`MutexGuard`] that leads to a part of the data: [`MutexGuard::map`].
///
/// # Examples
///
/// See [`MutexGuard::map`].
#[must_use = "it gives the lock back at once if it isn't kept"]
pub struct MappedMutexGuard<'a, U: ?Sized> {
    lock: &'a Owned<RawMutex>,
    /// Invariant: leads into the data of the mutex, and nothing else does.
    data: NonNull<U>,
    _of_this_thread: PhantomData<(&'a mut U, *const ())>,
}

// SAFETY: a shared guard gives `&U`.
unsafe impl<U: ?Sized + Sync> Sync for MappedMutexGuard<'_, U> {}

impl<U: ?Sized> Deref for MappedMutexGuard<'_, U> {
    type Target = U;

    fn deref(&self) -> &U {
        // SAFETY: by the invariant, and this thread holds the mutex.
        unsafe { self.data.as_ref() }
    }
}

impl<U: ?Sized> DerefMut for MappedMutexGuard<'_, U> {
    fn deref_mut(&mut self) -> &mut U {
        // SAFETY: as above.
        unsafe { self.data.as_mut() }
    }
}

impl<U: ?Sized> Drop for MappedMutexGuard<'_, U> {
    fn drop(&mut self) {
        // SAFETY: it has the hold of a `MutexGuard`, stays on its thread, and is dropped once.
        unsafe { self.lock.unlock() };
    }
}

impl<U: ?Sized + fmt::Debug> fmt::Debug for MappedMutexGuard<'_, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A guard that keeps its [`Mutex`]: [`Mutex::lock_arc`]. It stays on its thread.
///
/// # Examples
///
/// See [`Mutex::lock_arc`].
///
/// ```compile_fail,E0277
/// let number = std::sync::Arc::new(hapax::sync::Mutex::new(5));
/// let guard = number.lock_arc().unwrap();
/// std::thread::spawn(move || drop(guard));
/// ```
#[must_use = "it gives the lock back at once if it isn't kept"]
pub struct ArcMutexGuard<T: ?Sized> {
    mutex: Arc<Mutex<T>>,
    _of_this_thread: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T`.
unsafe impl<T: ?Sized + Sync> Sync for ArcMutexGuard<T> {}

impl<T: ?Sized> Deref for ArcMutexGuard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this thread holds the mutex.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T: ?Sized> DerefMut for ArcMutexGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this thread holds the mutex, by this guard.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T: ?Sized> Drop for ArcMutexGuard<T> {
    fn drop(&mut self) {
        // SAFETY: a guard is made when its thread has locked, stays on that thread, and is dropped once.
        unsafe { self.mutex.lock.unlock() };
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ArcMutexGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
