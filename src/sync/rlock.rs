//! `RLock`: a lock that its owner may take again.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::{Duration, Instant};

use super::owned::Owned;
use super::patience::Patience;
use super::primitive::RawMutex;
use super::thread::me;
use super::{AcquireError, ReleaseError};
use crate::table::primitive::{AtomicU64, Ordering::Relaxed, maybe_const_fn};

/// Data that one thread at a time gets at, which may take the lock again while it holds it: Python's `RLock`. So its
/// guards give shared references only.
///
/// It says no to deadlocks and holders that have ended as [`Mutex`](super::Mutex) does.
///
/// # Examples
///
/// ```
/// use hapax::sync::RLock;
///
/// let number = RLock::new(5);
/// let outer = number.lock()?;
/// let inner = number.lock()?;
/// assert_eq!((*outer + *inner, number.recursion_count()), (10, 2));
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
#[doc(alias = "ReentrantMutex")]
#[doc(alias = "ReentrantLock")]
#[doc(alias = "threading.RLock")]
pub struct RLock<T: ?Sized> {
    lock: Owned<RawMutex>,
    /// How many guards the owner has. Invariant: only the owner touches it.
    count: Cell<u64>,
    /// The number of the owner's hold, from its first guard to its last. While it waits for a condition it is 0, or that
    /// of another owner.
    hold: AtomicU64,
    /// The number of the last new hold. Invariant: only the owner touches it.
    last_hold: Cell<u64>,
    data: T,
}

// SAFETY: it owns the data.
unsafe impl<T: ?Sized + Send> Send for RLock<T> {}
// SAFETY: one thread at a time gets at the data, and at the count.
unsafe impl<T: ?Sized + Send> Sync for RLock<T> {}

impl<T> RLock<T> {
    maybe_const_fn! {
        /// A lock that nobody holds.
        ///
        /// # Examples
        ///
        /// ```
        /// use hapax::sync::RLock;
        ///
        /// assert!(!RLock::new(5).is_locked());
        /// ```
        pub const fn new(data: T) -> Self {
            Self {
                lock: Owned::new(RawMutex::new(), None),
                count: Cell::new(0),
                hold: AtomicU64::new(0),
                last_hold: Cell::new(0),
                data,
            }
        }
    }

    maybe_const_fn! {
        /// As [`new`](Self::new), with a name for reports.
        ///
        /// # Examples
        ///
        /// ```
        /// use hapax::sync::RLock;
        ///
        /// static TREE: RLock<()> = RLock::named("tree", ());
        /// assert!(!TREE.is_locked());
        /// ```
        pub const fn named(name: &'static str, data: T) -> Self {
            Self {
                lock: Owned::new(RawMutex::new(), Some(name)),
                count: Cell::new(0),
                hold: AtomicU64::new(0),
                last_hold: Cell::new(0),
                data,
            }
        }
    }

    /// The data, also if the thread that held the lock has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RLock;
    ///
    /// assert_eq!(RLock::new(5).into_inner(), 5);
    /// ```
    pub fn into_inner(self) -> T {
        self.data
    }
}

impl<T: ?Sized> RLock<T> {
    /// Waits until no other thread holds the lock, and holds it then, once more.
    ///
    /// # Errors
    ///
    /// - [`AcquireError::Deadlock`] if the wait would never end: the calling thread holds something that the lock's holder
    ///   waits for, perhaps through others;
    /// - [`AcquireError::OwnerDied`] if a thread has ended while it held the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RLock;
    ///
    /// assert_eq!(*RLock::new(5).lock()?, 5);
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    #[inline]
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<RLockGuard<'_, T>, AcquireError> {
        self.lock_with(Patience::Forever)
    }

    /// Holds the lock, once more, if no other thread does.
    ///
    /// # Errors
    ///
    /// [`AcquireError::WouldBlock`] if another one does; [`AcquireError::OwnerDied`] if it is known that the holder has
    /// ended, because somebody has waited for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RLock;
    ///
    /// let number = RLock::new(5);
    /// let guard = number.try_lock()?;
    /// assert!(number.try_lock().is_ok());
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    #[inline]
    pub fn try_lock(&self) -> Result<RLockGuard<'_, T>, AcquireError> {
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
    /// use hapax::sync::RLock;
    ///
    /// assert!(RLock::new(5).try_lock_for(Duration::ZERO).is_ok());
    /// ```
    pub fn try_lock_for(&self, time: Duration) -> Result<RLockGuard<'_, T>, AcquireError> {
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
    /// use hapax::sync::RLock;
    ///
    /// assert!(RLock::new(5).try_lock_until(Instant::now()).is_ok());
    /// ```
    pub fn try_lock_until(&self, moment: Instant) -> Result<RLockGuard<'_, T>, AcquireError> {
        self.lock_with(Patience::Until(moment))
    }

    #[inline]
    fn lock_with(&self, patience: Patience) -> Result<RLockGuard<'_, T>, AcquireError> {
        let me = me();
        if self.lock.is_of(me) {
            self.count.set(self.count.get() + 1);
            return Ok(self.guard());
        }
        self.lock.lock_as(me, patience)?;
        let hold = self.last_hold.get() + 1;
        self.last_hold.set(hold);
        Ok(self.begin(hold, 1))
    }

    /// This thread has just locked it.
    #[inline]
    fn begin(&self, hold: u64, count: u64) -> RLockGuard<'_, T> {
        // Relaxed: see `RLockGuard::is_held`.
        self.hold.store(hold, Relaxed);
        self.count.set(count);
        self.guard()
    }

    /// One of the guards that are counted.
    #[inline]
    fn guard(&self) -> RLockGuard<'_, T> {
        RLockGuard {
            lock: self,
            // Relaxed: this thread has stored it.
            hold: self.hold.load(Relaxed),
            _of_this_thread: PhantomData,
        }
    }

    /// Whether the calling thread holds the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RLock;
    ///
    /// let number = RLock::new(5);
    /// let guard = number.lock()?;
    /// assert!(number.is_owned());
    /// std::thread::scope(|scope| { scope.spawn(|| assert!(!number.is_owned())); });
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn is_owned(&self) -> bool {
        self.lock.is_mine()
    }

    /// How many guards the calling thread has on it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RLock;
    ///
    /// assert_eq!(RLock::new(5).recursion_count(), 0);
    /// ```
    pub fn recursion_count(&self) -> u64 {
        if self.lock.is_mine() {
            self.count.get()
        } else {
            0
        }
    }

    /// Whether any thread holds the lock, or has ended while holding it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RLock;
    ///
    /// let number = RLock::new(5);
    /// let guard = number.lock()?;
    /// std::thread::scope(|scope| { scope.spawn(|| assert!(number.is_locked())); });
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// The data, also if the thread that held the lock has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::RLock;
    ///
    /// let mut number = RLock::new(5);
    /// *number.get_mut() += 1;
    /// assert_eq!(number.into_inner(), 6);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

impl<T: Default> Default for RLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RLock<T> {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RLock");
        match self.try_lock() {
            Ok(guard) => debug.field("data", &&guard.lock.data),
            Err(_) => debug.field("data", &format_args!("<locked>")),
        };
        debug.finish()
    }
}

/// Gives an [`RLock`] back, once, when it is dropped, and leads to its data until then. It stays on its thread.
///
/// # Examples
///
/// ```
/// use hapax::sync::RLock;
///
/// let number = RLock::new(5);
/// let guard = number.lock()?;
/// assert_eq!(*guard, 5);
/// drop(guard);
/// assert!(!number.is_locked());
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
///
/// ```compile_fail,E0277
/// let number = hapax::sync::RLock::new(5);
/// let guard = number.lock().unwrap();
/// std::thread::scope(|scope| { scope.spawn(move || drop(guard)); });
/// ```
#[must_use = "it gives the lock back at once if it isn't kept"]
pub struct RLockGuard<'a, T: ?Sized> {
    lock: &'a RLock<T>,
    hold: u64,
    _of_this_thread: PhantomData<*const ()>,
}

impl<T: ?Sized> Deref for RLockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.lock.data
    }
}

impl<T: ?Sized> Drop for RLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_held() {
            // The hold was lost in a wait for a condition, which has said so.
            return;
        }
        let count = self.lock.count.get() - 1;
        self.lock.count.set(count);
        if count == 0 {
            // SAFETY: this thread has locked it, and this was its last guard.
            unsafe { self.lock.lock.unlock() };
        }
    }
}

/// What is left of a thread's guards while the lock is given up for all of them.
#[derive(Debug)]
pub struct Suspended<'a, T: ?Sized> {
    lock: &'a RLock<T>,
    hold: u64,
    count: u64,
}

impl<'a, T: ?Sized> RLockGuard<'a, T> {
    pub(super) fn lock_address(&self) -> usize {
        std::ptr::from_ref(&self.lock.lock).addr()
    }

    /// Whether it hasn't lost its hold.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        // Relaxed: if it is ours this thread has stored it, and no other thread ever stores it.
        self.lock.hold.load(Relaxed) == self.hold
    }

    /// Gives the lock up, also for the other guards of this thread.
    pub(super) fn suspend(self) -> Result<Suspended<'a, T>, ReleaseError> {
        if !self.is_held() {
            return Err(ReleaseError::NotHeld);
        }
        let suspended = Suspended {
            lock: self.lock,
            hold: self.hold,
            count: self.lock.count.replace(0),
        };
        std::mem::forget(self);
        // Relaxed: the raw lock orders it for its next owner.
        suspended.lock.hold.store(0, Relaxed);
        // SAFETY: this thread has locked it, and the guards that are left know by the hold's number that it has given
        // it up.
        unsafe { suspended.lock.lock.unlock() };
        Ok(suspended)
    }
}

impl<'a, T: ?Sized> Suspended<'a, T> {
    /// Takes the lock again, for all those guards.
    pub(super) fn resume(self) -> Result<RLockGuard<'a, T>, AcquireError> {
        self.lock.lock.lock(Patience::Forever)?;
        Ok(self.lock.begin(self.hold, self.count))
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
