//! `Event`: a flag, and a queue of those who wait for it.
//!
//! Under the lock of the queue the flag is set and those who wait are answered, or the flag is looked at and somebody
//! begins to wait. So nobody waits for a flag that is set, and whose flag is cleared again at once has been answered all
//! the same.

use std::fmt;
use std::future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cancel::{Cancelled, NoAnswer};
use super::patience::Patience;
use super::waiter::{Answer, Queue, Waiter, wake_all};
use crate::table::primitive::{AtomicBool, Mutex, Ordering, lock, maybe_const_fn};

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
    /// Changed under the lock.
    is_set: AtomicBool,
    queue: Mutex<Queue<()>>,
}

impl Event {
    maybe_const_fn! {
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
                queue: Mutex::new(Queue::new()),
            }
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

    /// Sets it, and wakes everybody who waits. Wakers of tasks run on this thread.
    ///
    /// # Panics
    ///
    /// If the waker of a task does. All others were woken before.
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
        let mut queue = lock(&self.queue);
        // Release: pairs with the Acquire in `is_set`.
        self.is_set.store(true, Ordering::Release);
        let answered = queue.answer_some(usize::MAX, Answer::Granted, |()| true);
        drop(queue);
        wake_all(answered);
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
        let _queue = lock(&self.queue);
        // Relaxed: who sees that it isn't set concludes nothing from it.
        self.is_set.store(false, Ordering::Relaxed);
    }

    /// Waits until it is set.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the thread is cancelled before: a thread that is in no [`Scope`](super::Scope) never is.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::Event;
    ///
    /// let event = Event::new();
    /// event.set();
    /// event.wait()?;
    /// # Ok::<_, hapax::sync::Cancelled>(())
    /// ```
    pub fn wait(&self) -> Result<(), Cancelled> {
        self.wait_with(Patience::Forever).map(|_| ())
    }

    /// Waits until it is set, but no longer than so long. Returns whether it was set.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::sync::Event;
    ///
    /// assert_eq!(Event::new().wait_for(Duration::from_millis(1)), Ok(false));
    /// ```
    pub fn wait_for(&self, time: Duration) -> Result<bool, Cancelled> {
        self.wait_with(Patience::lasting(time))
    }

    /// As [`wait_for`](Self::wait_for), until a moment.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use hapax::sync::Event;
    ///
    /// assert_eq!(Event::new().wait_until(Instant::now()), Ok(false));
    /// ```
    pub fn wait_until(&self, moment: Instant) -> Result<bool, Cancelled> {
        self.wait_with(Patience::Until(moment))
    }

    /// As [`wait`](Self::wait), for a task: it waits without blocking its thread, on any executor. A future that is
    /// dropped waits no longer, and changes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::task::{Context, Waker};
    /// use hapax::sync::Event;
    ///
    /// let ready = Event::new();
    /// let mut wait = Box::pin(ready.wait_async());
    /// let mut context = Context::from_waker(Waker::noop());
    /// assert!(wait.as_mut().poll(&mut context).is_pending());
    /// ready.set();
    /// ready.clear();
    /// assert!(wait.as_mut().poll(&mut context).is_ready());
    /// ```
    pub async fn wait_async(&self) {
        if self.is_set() {
            return;
        }
        if let Some(place) = self.enqueue(Waiter::task(())) {
            future::poll_fn(|cx| place.waiter.poll(cx)).await;
        }
    }

    fn wait_with(&self, patience: Patience) -> Result<bool, Cancelled> {
        if self.is_set() {
            return Ok(true);
        }
        let Some(place) = self.enqueue(Waiter::thread(())) else {
            return Ok(true);
        };
        let waiter = place.waiter.clone();
        let answer = waiter.sleep(patience.end());
        drop(place);
        // From here on there will be no answer any more.
        match answer {
            _ if waiter.answered().is_some() => Ok(true),
            Err(NoAnswer::Cancelled) => Err(Cancelled),
            _ => Ok(false),
        }
    }

    /// Finds a place in the queue, unless the event is set by now.
    #[cold]
    fn enqueue(&self, waiter: Arc<Waiter<()>>) -> Option<Place<'_>> {
        let mut queue = lock(&self.queue);
        if self.is_set() {
            return None;
        }
        queue.push(waiter.clone());
        Some(Place {
            event: self,
            waiter,
        })
    }
}

/// A place in the queue, which is given up when this is dropped.
struct Place<'a> {
    event: &'a Event,
    waiter: Arc<Waiter<()>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.waiter.answered().is_none() {
            lock(&self.event.queue).remove(&self.waiter);
        }
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
