//! `Event`: a flag that threads wait for.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::patience::Patience;
use crate::table::primitive::{AtomicBool, Ordering};

/// A flag that threads wait for: Python's `Event`.
///
/// [`set`](Self::set) wakes everybody who waits, and who has been woken knows that it was set, also if it has been
/// [cleared](Self::clear) since. As long as it is set nobody waits. What happened before `set` is seen by whoever sees
/// that it is set.
///
/// # Examples
///
/// ```
/// use std::thread;
///
/// use hapax::sync::Event;
///
/// let ready = Event::new();
/// thread::scope(|scope| {
///     scope.spawn(|| ready.wait());
///     ready.set();
/// });
/// assert!(ready.is_set());
/// ```
#[doc(alias = "threading.Event")]
pub struct Event {
    is_set: AtomicBool,
    /// How often it was set. A thread that waits has seen one number and waits for another.
    times_set: Mutex<u64>,
    changed: Condvar,
}

impl Event {
    /// An event that isn't set.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Event;
    ///
    /// static STOP: Event = Event::new();
    /// assert!(!STOP.is_set());
    /// ```
    pub const fn new() -> Self {
        Self {
            is_set: AtomicBool::new(false),
            times_set: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    /// Whether it is set.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Event;
    ///
    /// assert!(!Event::new().is_set());
    /// ```
    #[inline]
    pub fn is_set(&self) -> bool {
        // Acquire: pairs with the Release in `set`; what came before that is seen.
        self.is_set.load(Ordering::Acquire)
    }

    /// Sets it, and wakes everybody who waits.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Event;
    ///
    /// let event = Event::new();
    /// event.set();
    /// assert!(event.is_set());
    /// ```
    pub fn set(&self) {
        let mut times_set = self.times_set.lock();
        // Release: pairs with the Acquire in `is_set`.
        self.is_set.store(true, Ordering::Release);
        *times_set += 1;
        self.changed.notify_all();
    }

    /// Clears it. Who was woken before doesn't notice.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Event;
    ///
    /// let event = Event::new();
    /// event.set();
    /// event.clear();
    /// assert!(!event.is_set());
    /// ```
    pub fn clear(&self) {
        let _times_set = self.times_set.lock();
        // Relaxed: who sees that it isn't set concludes nothing from it.
        self.is_set.store(false, Ordering::Relaxed);
    }

    /// Waits until it is set.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Event;
    ///
    /// let event = Event::new();
    /// event.set();
    /// event.wait();
    /// ```
    pub fn wait(&self) {
        self.wait_with(Patience::Forever);
    }

    /// Waits until it is set, but no longer than so long. Returns whether it was set.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::Event;
    ///
    /// assert!(!Event::new().wait_for(Duration::from_millis(1)));
    /// ```
    #[must_use = "it says whether the event was set"]
    pub fn wait_for(&self, time: Duration) -> bool {
        self.wait_with(Patience::lasting(time))
    }

    /// As [`wait_for`](Self::wait_for), until a moment.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use hapax::sync::Event;
    ///
    /// assert!(!Event::new().wait_until(Instant::now()));
    /// ```
    #[must_use = "it says whether the event was set"]
    pub fn wait_until(&self, moment: Instant) -> bool {
        self.wait_with(Patience::Until(moment))
    }

    fn wait_with(&self, patience: Patience) -> bool {
        if self.is_set() {
            return true;
        }
        let mut times_set = self.times_set.lock();
        let seen = *times_set;
        // Under the lock it can't be set between this look and the wait.
        while !self.is_set() && *times_set == seen {
            match patience {
                Patience::Until(end) => {
                    if self.changed.wait_until(&mut times_set, end).timed_out() {
                        return *times_set != seen;
                    }
                }
                _ => self.changed.wait(&mut times_set),
            }
        }
        true
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("is_set", &self.is_set())
            .finish_non_exhaustive()
    }
}
