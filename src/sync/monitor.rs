//! `Monitor`: data that one thread at a time is inside with, and conditions that others make come about.

mod gate;

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::patience::Patience;
use super::{AcquireError, WaitTimeoutResult};
use crate::table::primitive::maybe_const_fn;
use gate::Gate;

/// Data that one thread at a time is *inside* with, and that others wait for to become as they want it: python-safethread's
/// monitors, with conditions as absl's `Mutex::Await`.
///
/// A wait names what it waits for, and nobody has to notify: whoever leaves looks for those whose conditions have come
/// about, first come first served, and hands the monitor to one of them. So when a wait returns the condition is as it was
/// asked for, and nobody was inside in between.
///
/// Who waits for long to enter looks for deadlocks, as with a [`Mutex`](super::Mutex). To enter again from inside is refused
/// at once, be it from a closure, from a method that was given the monitor instead of the guard, or by way of another monitor.
///
/// # Cost
///
/// To enter and leave is as fast as with a [`Mutex`](super::Mutex) as long as nobody waits for a condition. Otherwise each
/// leave calls the conditions of those who wait, until one has come about.
///
/// # Examples
///
/// ```
/// use std::thread;
///
/// use hapax::sync::{AcquireError, Monitor};
///
/// static JOBS: Monitor<Vec<u32>> = Monitor::named("jobs", Vec::new());
///
/// let worker = thread::spawn(|| {
///     let mut jobs = JOBS.enter()?.wait_while(|jobs| jobs.is_empty())?;
///     Ok::<_, AcquireError>(jobs.pop())
/// });
/// JOBS.enter()?.push(5);
/// assert_eq!(worker.join().unwrap(), Ok(Some(5)));
/// # Ok::<_, AcquireError>(())
/// ```
pub struct Monitor<T: ?Sized> {
    gate: Gate,
    data: UnsafeCell<T>,
}

// SAFETY: it owns the data.
unsafe impl<T: ?Sized + Send> Send for Monitor<T> {}
// SAFETY: one thread at a time gets at the data: who is inside, or who calls conditions for others while it is. So the data
// is sent, not shared.
unsafe impl<T: ?Sized + Send> Sync for Monitor<T> {}

impl<T> Monitor<T> {
    maybe_const_fn! {
        /// A monitor that nobody is inside.
        ///
        /// # Examples
        ///
        /// ```
        /// use hapax::sync::Monitor;
        ///
        /// assert!(!Monitor::new(5).is_locked());
        /// ```
        pub const fn new(data: T) -> Self {
            Self {
                gate: Gate::new(None),
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
        /// use hapax::sync::Monitor;
        ///
        /// static ACCOUNTS: Monitor<Vec<u64>> = Monitor::named("accounts", Vec::new());
        /// assert!(!ACCOUNTS.is_locked());
        /// ```
        pub const fn named(name: &'static str, data: T) -> Self {
            Self {
                gate: Gate::new(Some(name)),
                data: UnsafeCell::new(data),
            }
        }
    }

    /// The data, also if the thread that was inside has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Monitor;
    ///
    /// assert_eq!(Monitor::new(5).into_inner(), 5);
    /// ```
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> Monitor<T> {
    /// Waits until nobody is inside, and enters.
    ///
    /// # Errors
    ///
    /// - [`AcquireError::Deadlock`] if the wait would never end: the calling thread is inside itself, or holds something that
    ///   the one inside waits for, perhaps through others;
    /// - [`AcquireError::OwnerDied`] if a thread has ended while it was inside;
    /// - [`AcquireError::Cancelled`] if the thread is cancelled while it waits.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{AcquireError, Monitor};
    ///
    /// let number = Monitor::new(5);
    /// let mut inside = number.enter()?;
    /// *inside += 1;
    /// assert!(matches!(number.enter(), Err(AcquireError::Deadlock(_))));
    /// # Ok::<_, AcquireError>(())
    /// ```
    #[inline]
    #[doc(alias = "lock")]
    pub fn enter(&self) -> Result<MonitorGuard<'_, T>, AcquireError> {
        self.enter_with(Patience::Forever)
    }

    /// Enters if nobody is inside.
    ///
    /// # Errors
    ///
    /// [`AcquireError::WouldBlock`] if somebody is; [`AcquireError::OwnerDied`] if it is known that the thread inside has
    /// ended, because somebody has waited for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{AcquireError, Monitor};
    ///
    /// let number = Monitor::new(5);
    /// let inside = number.try_enter()?;
    /// assert_eq!(number.try_enter().unwrap_err(), AcquireError::WouldBlock);
    /// # Ok::<_, AcquireError>(())
    /// ```
    #[inline]
    pub fn try_enter(&self) -> Result<MonitorGuard<'_, T>, AcquireError> {
        self.enter_with(Patience::None)
    }

    /// As [`enter`](Self::enter), but waits no longer than so long. Such a wait ends by itself, so only that of a thread which
    /// is inside itself is a deadlock.
    ///
    /// # Errors
    ///
    /// [`AcquireError::TimedOut`] if the time is over; otherwise as for [`enter`](Self::enter).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    /// use std::time::Duration;
    ///
    /// use hapax::sync::{AcquireError, Monitor};
    ///
    /// let number = Monitor::new(5);
    /// let inside = number.enter()?;
    /// thread::scope(|scope| {
    ///     scope.spawn(|| {
    ///         let second = number.try_enter_for(Duration::from_millis(1));
    ///         assert_eq!(second.unwrap_err(), AcquireError::TimedOut);
    ///     });
    /// });
    /// # Ok::<_, AcquireError>(())
    /// ```
    pub fn try_enter_for(&self, time: Duration) -> Result<MonitorGuard<'_, T>, AcquireError> {
        self.enter_with(Patience::lasting(time))
    }

    /// As [`try_enter_for`](Self::try_enter_for), until a moment.
    ///
    /// # Errors
    ///
    /// As for [`try_enter_for`](Self::try_enter_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use hapax::sync::Monitor;
    ///
    /// assert!(Monitor::new(5).try_enter_until(Instant::now()).is_ok());
    /// ```
    pub fn try_enter_until(&self, moment: Instant) -> Result<MonitorGuard<'_, T>, AcquireError> {
        self.enter_with(Patience::Until(moment))
    }

    #[inline]
    fn enter_with(&self, patience: Patience) -> Result<MonitorGuard<'_, T>, AcquireError> {
        self.gate.enter(patience)?;
        // SAFETY: this thread has just entered.
        Ok(unsafe { self.guard() })
    }

    /// # Safety
    ///
    /// The calling thread is inside, and has no other guard.
    #[inline]
    unsafe fn guard(&self) -> MonitorGuard<'_, T> {
        MonitorGuard {
            monitor: self,
            _of_this_thread: PhantomData,
        }
    }

    /// Whether somebody is inside, or has ended there.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Monitor;
    ///
    /// let number = Monitor::new(5);
    /// let inside = number.enter()?;
    /// assert!(number.is_locked());
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn is_locked(&self) -> bool {
        self.gate.is_locked()
    }

    /// The data, also if the thread that was inside has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Monitor;
    ///
    /// let mut number = Monitor::new(5);
    /// *number.get_mut() += 1;
    /// assert_eq!(number.into_inner(), 6);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }
}

impl<T: Default> Default for Monitor<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Monitor<T> {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Monitor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Monitor");
        match self.try_enter() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(_) => debug.field("data", &format_args!("<locked>")),
        };
        debug.finish()
    }
}

/// Leaves a [`Monitor`] when it is dropped, and leads to its data until then. It stays on its thread.
///
/// To leave for a while, [`unlocked`](Self::unlocked) and the waits take the guard and give it back: so no reference to the
/// data is there while others are inside.
///
/// # Examples
///
/// ```
/// use hapax::sync::Monitor;
///
/// let number = Monitor::new(5);
/// let mut inside = number.enter()?;
/// *inside = 6;
/// drop(inside);
/// assert!(!number.is_locked());
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
///
/// ```compile_fail,E0277
/// let number = hapax::sync::Monitor::new(5);
/// let inside = number.enter().unwrap();
/// std::thread::scope(|scope| { scope.spawn(move || drop(inside)); });
/// ```
#[must_use = "it leaves the monitor at once if it isn't kept"]
pub struct MonitorGuard<'a, T: ?Sized> {
    monitor: &'a Monitor<T>,
    _of_this_thread: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T`.
unsafe impl<T: ?Sized + Sync> Sync for MonitorGuard<'_, T> {}

impl<T: ?Sized> MonitorGuard<'_, T> {
    /// Leaves the monitor, calls `f`, and enters again; safethread's `wait(monitor, f)`. Others may have been inside
    /// meanwhile. What `f` returns comes back also if the monitor can't be entered again.
    ///
    /// # Errors
    ///
    /// In the second place, those of [`Monitor::enter`].
    ///
    /// # Panics
    ///
    /// If `f` does. The thread is outside then.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Monitor;
    ///
    /// let number = Monitor::new(5);
    /// let inside = number.enter()?;
    /// let (seen, inside) = inside.unlocked(|| *number.enter().unwrap());
    /// assert_eq!(seen, *inside?);
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    ///
    /// The data is out of reach from within `f`, and references to it don't outlast it:
    ///
    /// ```compile_fail,E0505
    /// # use hapax::sync::Monitor;
    /// let number = Monitor::new(5);
    /// let mut inside = number.enter().unwrap();
    /// let data: &mut i32 = &mut inside;
    /// let (_, inside) = inside.unlocked(|| ());
    /// *data = 6;
    /// ```
    ///
    /// ```compile_fail
    /// # use hapax::sync::Monitor;
    /// let number = Monitor::new(5);
    /// let mut inside = number.enter().unwrap();
    /// let (_, inside) = inside.unlocked(|| *inside = 6);
    /// ```
    pub fn unlocked<R>(self, f: impl FnOnce() -> R) -> (R, Result<Self, AcquireError>) {
        let monitor = self.monitor;
        drop(self);
        (f(), monitor.enter())
    }

    /// Waits as long as `condition` is true: safethread's `wait(condition)`, negated. The monitor is left meanwhile. When this
    /// returns the condition is false, and nobody was inside since it was found so.
    ///
    /// `condition` is called at first on this thread, and then by others when they leave the monitor, each time inside; also
    /// several times without a change of the data. It may borrow what this thread has. It should depend on the data alone, and
    /// leave it as it is: nobody looks again when something else changes. It should be quick, and must not wait: others wait
    /// for it, this thread too if it gives up, and nobody would see a deadlock. What it locks may be held by whoever calls it,
    /// and then it is refused.
    ///
    /// # Errors
    ///
    /// The thread is outside then, and there is no guard any more:
    ///
    /// - [`AcquireError::OwnerDied`] if another thread has ended while it was inside;
    /// - [`AcquireError::Cancelled`] if the thread is cancelled before the condition is false.
    /// - [`AcquireError::Deadlock`] as for [`Monitor::enter`]: that may be necessary if others want to enter for long while those
    ///   who wait hand the monitor to and fro.
    ///
    /// # Panics
    ///
    /// If `condition` does, on whatever thread that is. The thread is outside then. Nobody else notices.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    ///
    /// use hapax::sync::Monitor;
    ///
    /// let number = Monitor::new(0);
    /// thread::scope(|scope| {
    ///     scope.spawn(|| (0..10).for_each(|_| *number.enter().unwrap() += 1));
    ///     let high = 7;
    ///     let inside = number.enter()?.wait_while(|number| *number < high)?;
    ///     assert!(*inside >= high);
    ///     Ok::<_, hapax::sync::AcquireError>(())
    /// })?;
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    ///
    /// References to the data don't outlast the wait, and what the condition takes with it can be sent to other threads:
    ///
    /// ```compile_fail,E0505
    /// # use hapax::sync::Monitor;
    /// let number = Monitor::new(5);
    /// let mut inside = number.enter().unwrap();
    /// let data: &mut i32 = &mut inside;
    /// let inside = inside.wait_while(|number| *number < 5);
    /// *data = 6;
    /// ```
    ///
    /// ```compile_fail,E0277
    /// # use hapax::sync::Monitor;
    /// let (number, high) = (Monitor::new(5), std::rc::Rc::new(5));
    /// let inside = number.enter().unwrap().wait_while(move |number| *number < *high);
    /// ```
    ///
    /// ```compile_fail
    /// # use hapax::sync::Monitor;
    /// let (name, mut kept) = (Monitor::new(String::new()), None);
    /// let inside = name.enter().unwrap().wait_while(|name| { kept = Some(name); false });
    /// ```
    pub fn wait_while(self, condition: impl FnMut(&T) -> bool + Send) -> Result<Self, AcquireError>
    where
        T: Send,
    {
        self.wait_with(condition, Patience::Forever)
            .map(|(guard, _)| guard)
    }

    /// As [`wait_while`](Self::wait_while), but gives up after so long. Then the monitor is entered again, however long that
    /// lasts, and the condition is looked at once more: the result says whether it was true even then.
    ///
    /// # Errors
    ///
    /// As for [`wait_while`](Self::wait_while).
    ///
    /// # Panics
    ///
    /// As for [`wait_while`](Self::wait_while).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::Monitor;
    ///
    /// let number = Monitor::new(5);
    /// let (inside, result) = number
    ///     .enter()?
    ///     .wait_timeout_while(Duration::from_millis(1), |number| *number == 5)?;
    /// assert!(result.timed_out());
    /// assert_eq!(*inside, 5);
    /// # Ok::<_, hapax::sync::AcquireError>(())
    /// ```
    pub fn wait_timeout_while(
        self,
        time: Duration,
        condition: impl FnMut(&T) -> bool + Send,
    ) -> Result<(Self, WaitTimeoutResult), AcquireError>
    where
        T: Send,
    {
        self.wait_with(condition, Patience::lasting(time))
    }

    /// As [`wait_timeout_while`](Self::wait_timeout_while), until a moment.
    ///
    /// # Errors
    ///
    /// As for [`wait_while`](Self::wait_while).
    ///
    /// # Panics
    ///
    /// As for [`wait_while`](Self::wait_while).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// use hapax::sync::{AcquireError, Monitor};
    ///
    /// /// Enters and waits, for so long together.
    /// fn pop(jobs: &Monitor<Vec<u32>>, time: Duration) -> Result<Option<u32>, AcquireError> {
    ///     let end = Instant::now() + time;
    ///     let jobs = jobs.try_enter_until(end)?;
    ///     let (mut jobs, _) = jobs.wait_until_while(end, |jobs| jobs.is_empty())?;
    ///     Ok(jobs.pop())
    /// }
    /// assert_eq!(pop(&Monitor::default(), Duration::from_millis(1)), Ok(None));
    /// ```
    pub fn wait_until_while(
        self,
        moment: Instant,
        condition: impl FnMut(&T) -> bool + Send,
    ) -> Result<(Self, WaitTimeoutResult), AcquireError>
    where
        T: Send,
    {
        self.wait_with(condition, Patience::Until(moment))
    }

    fn wait_with(
        self,
        mut condition: impl FnMut(&T) -> bool + Send,
        patience: Patience,
    ) -> Result<(Self, WaitTimeoutResult), AcquireError>
    where
        T: Send,
    {
        let monitor = self.monitor;
        mem::forget(self);
        // SAFETY: it is called by who is inside and has no other reference then: this thread, or one that leaves.
        let mut condition = move || condition(unsafe { &*monitor.data.get() });
        // SAFETY: this thread is inside, and its guard is gone.
        let is_true = unsafe { monitor.gate.wait_while(&mut condition, patience) }?;
        // SAFETY: this thread was told that it is inside, and has no guard.
        let guard = unsafe { monitor.guard() };
        Ok((guard, WaitTimeoutResult::new(is_true)))
    }
}

impl<T: ?Sized> Deref for MonitorGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this thread is inside.
        unsafe { &*self.monitor.data.get() }
    }
}

impl<T: ?Sized> DerefMut for MonitorGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this thread is inside, by this guard.
        unsafe { &mut *self.monitor.data.get() }
    }
}

impl<T: ?Sized> Drop for MonitorGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a guard is made when its thread is inside, stays on that thread, and is dropped once.
        unsafe { self.monitor.gate.leave() };
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MonitorGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MonitorGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
