//! `Lock`: a lock without data, which any thread may release.

use std::fmt;
use std::time::{Duration, Instant};

use super::owned::Owned;
use super::patience::Patience;
use super::primitive::RawMutex;
use super::{AcquireError, ReleaseError, ThreadKey};
use crate::table::primitive::{AtomicU64, Ordering, maybe_const_fn};

/// A lock without data: Python's `Lock`. Any thread may release it, whoever holds it; so to wait for it twice is no
/// deadlock, and none is looked for. One that is [`owned`](Self::owned) is released by the thread that holds it, and
/// says no to deadlocks as a [`Mutex`](super::Mutex) does.
///
/// # Holds
///
/// Each time the lock is taken is a *hold* of its own. A guard releases its own hold and no other: when another thread
/// has released that before, and a third one holds the lock by now, dropping the guard does nothing.
///
/// # Examples
///
/// ```
/// use std::thread;
///
/// use hapax::sync::Lock;
///
/// let lock = Lock::new();
/// let guard = lock.lock()?;
/// thread::scope(|scope| { scope.spawn(|| lock.release().unwrap()); });
/// let next = lock.lock()?;
/// drop(guard);
/// assert!(lock.is_locked());
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
#[doc(alias = "threading.Lock")]
pub struct Lock {
    lock: Owned<RawMutex>,
    /// The number of the present hold, or 0.
    hold: AtomicU64,
    /// The number of the last hold that there was. Written by who has just locked.
    last_hold: AtomicU64,
    is_owned: bool,
}

impl Lock {
    maybe_const_fn! {
        /// A lock that nobody holds.
        ///
        /// # Examples
        ///
        /// ```
        /// use hapax::sync::Lock;
        ///
        /// assert!(!Lock::new().is_locked());
        /// ```
        pub const fn new() -> Self {
            Self::with(None, false)
        }
    }

    maybe_const_fn! {
        /// A lock that only the thread which holds it may release.
        ///
        /// # Examples
        ///
        /// ```
        /// use hapax::sync::{AcquireError, Lock};
        ///
        /// let lock = Lock::owned();
        /// let guard = lock.lock()?;
        /// assert!(matches!(lock.lock(), Err(AcquireError::Deadlock(_))));
        /// # Ok::<_, AcquireError>(())
        /// ```
        pub const fn owned() -> Self {
            Self::with(None, true)
        }
    }

    maybe_const_fn! {
        /// As [`owned`](Self::owned), with a name for reports.
        ///
        /// # Examples
        ///
        /// ```
        /// use hapax::sync::Lock;
        ///
        /// static PRINTER: Lock = Lock::owned_named("printer");
        /// assert!(!PRINTER.is_locked());
        /// ```
        pub const fn owned_named(name: &'static str) -> Self {
            Self::with(Some(name), true)
        }
    }

    maybe_const_fn! {
        const fn with(name: Option<&'static str>, is_owned: bool) -> Self {
            Self {
                lock: Owned::new(RawMutex::new(), name),
                hold: AtomicU64::new(0),
                last_hold: AtomicU64::new(0),
                is_owned,
            }
        }
    }

    /// Waits until the lock is free, and holds it then.
    ///
    /// # Errors
    ///
    /// None, unless the lock is [`owned`](Self::owned): then those of [`Mutex::lock`](super::Mutex::lock).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Lock;
    ///
    /// let lock = Lock::new();
    /// let guard = lock.lock()?;
    /// assert!(lock.is_locked());
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<LockGuard<'_>, AcquireError> {
        self.lock_with(Patience::Forever)
    }

    /// Holds the lock if nobody else does.
    ///
    /// # Errors
    ///
    /// [`AcquireError::WouldBlock`] if somebody does; of an [`owned`](Self::owned) lock also
    /// [`AcquireError::OwnerDied`].
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{AcquireError, Lock};
    ///
    /// let lock = Lock::new();
    /// let guard = lock.try_lock()?;
    /// assert_eq!(lock.try_lock().unwrap_err(), AcquireError::WouldBlock);
    /// # Ok::<_, AcquireError>(())
    /// ```
    pub fn try_lock(&self) -> Result<LockGuard<'_>, AcquireError> {
        self.lock_with(Patience::None)
    }

    /// As [`lock`](Self::lock), but waits no longer than so long.
    ///
    /// # Errors
    ///
    /// [`AcquireError::TimedOut`] if the time is over; of an [`owned`](Self::owned) lock also
    /// [`AcquireError::OwnerDied`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::{AcquireError, Lock};
    ///
    /// let lock = Lock::new();
    /// let guard = lock.lock()?;
    /// let second = lock.try_lock_for(Duration::from_millis(1));
    /// assert_eq!(second.unwrap_err(), AcquireError::TimedOut);
    /// # Ok::<_, AcquireError>(())
    /// ```
    pub fn try_lock_for(&self, time: Duration) -> Result<LockGuard<'_>, AcquireError> {
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
    /// use hapax::sync::Lock;
    ///
    /// assert!(Lock::new().try_lock_until(Instant::now()).is_ok());
    /// ```
    pub fn try_lock_until(&self, moment: Instant) -> Result<LockGuard<'_>, AcquireError> {
        self.lock_with(Patience::Until(moment))
    }

    fn lock_with(&self, patience: Patience) -> Result<LockGuard<'_>, AcquireError> {
        if self.is_owned {
            self.lock.lock(patience)?;
        } else {
            self.lock.lock_for_nobody(patience)?;
        }
        // Relaxed: we have locked after whoever ended the last hold, who has seen its number, and `last_hold` with it.
        let hold = self.last_hold.load(Ordering::Relaxed) + 1;
        self.last_hold.store(hold, Ordering::Relaxed);
        // Release: pairs with the Acquire in `end_hold`, whose thread needn't be this one.
        self.hold.store(hold, Ordering::Release);
        Ok(LockGuard { lock: self, hold })
    }

    /// Releases the present hold, whoever has it.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::NotHeld`] if there is none; of an [`owned`](Self::owned) lock also [`ReleaseError::NotOwner`], if
    /// another thread holds it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{Lock, ReleaseError};
    ///
    /// let lock = Lock::new();
    /// std::mem::forget(lock.lock()?);
    /// assert_eq!(lock.release(), Ok(()));
    /// assert_eq!(lock.release(), Err(ReleaseError::NotHeld));
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn release(&self) -> Result<(), ReleaseError> {
        // Relaxed: `end_hold` asks again.
        self.end_hold(self.hold.load(Ordering::Relaxed))
    }

    /// Ends that hold, if it is the present one.
    fn end_hold(&self, hold: u64) -> Result<(), ReleaseError> {
        // Relaxed: a guess, which spares the others a write; the exchange decides.
        if hold == 0 || hold != self.hold.load(Ordering::Relaxed) {
            return Err(ReleaseError::NotHeld);
        }
        if self.is_owned && !self.lock.is_mine() {
            let owner = self.lock.owner().or(self.lock.dead_owner());
            let owner = owner.map(ThreadKey::of);
            return Err(ReleaseError::NotOwner { owner });
        }
        // Acquire: pairs with the Release in `lock_with`; the unlock hands on what was written there. Relaxed on
        // failure: only compared.
        self.hold
            .compare_exchange(hold, 0, Ordering::Acquire, Ordering::Relaxed)
            .map_err(|_| ReleaseError::NotHeld)?;
        if self.is_owned {
            // SAFETY: this thread has locked it, and that was the only way to end this hold.
            unsafe { self.lock.unlock() };
        } else {
            // SAFETY: it was locked for nobody, and that was the only way to end this hold.
            unsafe { self.lock.unlock_for_nobody() };
        }
        Ok(())
    }

    /// Whether somebody holds the lock.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Lock;
    ///
    /// assert!(!Lock::new().is_locked());
    /// ```
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        // What `release` goes by. An owned one whose owner has ended counts as well.
        // Relaxed: nobody concludes anything else from it.
        self.hold.load(Ordering::Relaxed) != 0 || self.is_owned && self.lock.is_locked()
    }
}

impl Default for Lock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("locked", &self.is_locked())
            .finish_non_exhaustive()
    }
}

/// Releases its hold of a [`Lock`] when it is dropped. It may go to another thread, which then releases it.
///
/// Of an [`owned`](Lock::owned) lock only the thread that has taken it can. A guard that is dropped on another thread does
/// nothing: the lock stays held until its owner calls [`Lock::release`].
///
/// # Examples
///
/// ```
/// use std::thread;
///
/// use hapax::sync::Lock;
///
/// let lock = Lock::new();
/// let guard = lock.lock()?;
/// thread::scope(|scope| { scope.spawn(move || drop(guard)); });
/// assert!(!lock.is_locked());
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
#[derive(Debug)]
#[must_use = "it gives the lock back at once if it isn't kept"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    hold: u64,
}

impl<'a> LockGuard<'a> {
    pub(super) fn lock(&self) -> &'a Lock {
        self.lock
    }

    pub(super) fn is_held(&self) -> bool {
        // Relaxed: only compared.
        self.lock.hold.load(Ordering::Relaxed) == self.hold
    }

    /// Releases the hold.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::NotHeld`] if another thread has released it before; of an [`owned`](Lock::owned) lock
    /// [`ReleaseError::NotOwner`], from another thread than that which has taken it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{Lock, ReleaseError};
    ///
    /// let lock = Lock::new();
    /// let guard = lock.lock()?;
    /// lock.release().unwrap();
    /// assert_eq!(guard.release(), Err(ReleaseError::NotHeld));
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn release(self) -> Result<(), ReleaseError> {
        let answer = self.lock.end_hold(self.hold);
        std::mem::forget(self);
        answer
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // Released before, or not for this thread to release.
        let _ = self.lock.end_hold(self.hold);
    }
}
