//! `Finalizer`: the thread, as those see it who want values finalized.

use std::fmt;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::{DrainError, FinalizeError, print};
use super::register::Live;
use super::worker::Worker;
use crate::table::primitive::{become_thread, new_thread_number, thread};

/// A thread of its own that finalizes values in the order in which they die.
///
/// Clones lead to the same thread. It ends when the last clone was dropped, or [`shutdown`](Self::shutdown) was called, *and*
/// the last of its values was finalized: so none is lost, however long it lives. Only the end of the process may come before
/// that; `main` can wait, by [`drain`](Self::drain).
///
/// # Examples
///
/// ```
/// use std::sync::mpsc::{self, Sender};
///
/// use hapax::Interner;
/// use hapax::finalize::{BoxError, Finalize, Finalized, Finalizer};
///
/// #[derive(PartialEq, Eq, Hash)]
/// struct Connection(&'static str);
///
/// impl Finalize for Connection {
///     type Core = Sender<&'static str>;
///
///     fn finalize(log: Self::Core) -> Result<(), BoxError> {
///         Ok(log.send("closed")?)
///     }
/// }
///
/// let finalizer = Finalizer::new()?;
/// let connections = Interner::new();
/// let (log, lines) = mpsc::channel();
/// let connection = connections.intern(Finalized::new_in(&finalizer, Connection("alpha"), log));
/// drop(connection);
/// assert_eq!(connections.len(), 0);
/// finalizer.drain()?;
/// assert_eq!(lines.try_recv()?, "closed");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "Cleaner")]
#[doc(alias = "deathqueue")]
pub struct Finalizer(Arc<Open>);

/// Closes the worker when it goes.
struct Open(Arc<Worker>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Finalizer {
    /// Begins a thread, which is called `hapax-finalizer`.
    ///
    /// # Errors
    ///
    /// If the system can't begin another thread.
    ///
    /// # Examples
    ///
    /// ```
    /// let finalizer = hapax::finalize::Finalizer::new()?;
    /// assert_eq!(finalizer.pending(), 0);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn new() -> io::Result<Self> {
        Self::bounded(usize::MAX)
    }

    /// As [`new`](Self::new), with a finalizer that takes no further value while `bound` or more are
    /// [pending](Self::pending): then [`try_new_in`](super::Finalized::try_new_in) answers with
    /// [`QueueFull`](super::Refusal::QueueFull). Values that are alive already die and wait all the same: to drop one is
    /// never refused, and never waits.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::finalize::{Deferred, Finalizer, Refusal};
    ///
    /// let finalizer = Finalizer::bounded(0)?;
    /// let refused = Deferred::try_new_in(&finalizer, vec![1, 2, 3]).unwrap_err();
    /// assert_eq!(refused.why, Refusal::QueueFull { bound: 0 });
    /// assert_eq!(refused.value, [1, 2, 3]);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn bounded(bound: usize) -> io::Result<Self> {
        let builder = thread::Builder::new().name(String::from("hapax-finalizer"));
        Self::bounded_with(builder, bound)
    }

    /// As [`bounded`](Self::bounded), with a thread that has another name or stack. [`usize::MAX`] is no bound.
    ///
    /// # Errors
    ///
    /// If the system can't begin another thread.
    ///
    /// # Panics
    ///
    /// If the name contains a zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread::Builder;
    ///
    /// use hapax::finalize::Finalizer;
    ///
    /// let builder = Builder::new().name(String::from("closing")).stack_size(256 << 10);
    /// let finalizer = Finalizer::bounded_with(builder, usize::MAX)?;
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn bounded_with(builder: thread::Builder, bound: usize) -> io::Result<Self> {
        let worker = Arc::new(Worker::new(bound, print()));
        let of_thread = worker.clone();
        let number = new_thread_number();
        // It ends by itself: nobody joins it.
        let thread = builder.spawn(move || {
            become_thread(number);
            of_thread.work();
        })?;
        worker.set_thread(number, thread.thread().clone());
        Ok(Self(Arc::new(Open(worker))))
    }

    /// The finalizer of the whole process, which begins when it is first wanted: the one of
    /// [`Finalized::new`](super::Finalized::new) and [`Deferred::new`](super::Deferred::new).
    ///
    /// When the process ends what is pending there is lost, unless `main` waits for it, by [`drain`](Self::drain).
    ///
    /// # Panics
    ///
    /// If the system can't begin another thread, at the first call.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::finalize::{Deferred, Finalizer};
    ///
    /// drop(Deferred::new(vec![1, 2, 3]));
    /// Finalizer::global().drain().unwrap();
    /// assert_eq!(Finalizer::global().pending(), 0);
    /// ```
    #[cfg(not(any(loom, shuttle)))]
    pub fn global() -> &'static Self {
        use std::sync::LazyLock;

        static GLOBAL: LazyLock<Finalizer> = LazyLock::new(|| {
            Finalizer::new().unwrap_or_else(|error| panic!("the finalizer's thread: {error}"))
        });
        &GLOBAL
    }

    pub(super) fn worker(&self) -> &Arc<Worker> {
        &self.0.0
    }

    /// Calls `hook` from now on, on the finalizer's thread, when the finalizer of a value has failed or panicked. Then the
    /// next one runs. A hook that panics does no harm. At first errors are printed to the standard error.
    ///
    /// A hook is dropped when it is replaced, or by the thread, as the last thing that this does.
    ///
    /// # Examples
    ///
    /// See [`FinalizeError`].
    ///
    /// ```
    /// let finalizer = hapax::finalize::Finalizer::new()?;
    /// finalizer.on_error(|error| eprintln!("{error}"));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn on_error(&self, hook: impl Fn(FinalizeError) + Send + Sync + 'static) {
        self.worker().set_hook(Arc::new(hook));
    }

    /// How many values are dead and not finalized yet, with the one that is being finalized. It is a number to look at: only
    /// [`drain`](Self::drain) makes sure that what finalizers did is seen.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::finalize::{Deferred, Finalizer};
    ///
    /// let finalizer = Finalizer::new()?;
    /// let numbers = Deferred::new_in(&finalizer, vec![1, 2, 3]);
    /// assert_eq!(finalizer.pending(), 0);
    /// drop(numbers);
    /// assert!(finalizer.pending() <= 1);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn pending(&self) -> usize {
        self.worker().pending()
    }

    /// The values that are alive, the oldest first: what `main` may ask for at its end, and what helps to find handles that
    /// somebody keeps. Values that die or begin meanwhile are there or not; one that has died is pending when it isn't here
    /// any more, if [`pending`](Self::pending) is asked afterwards.
    ///
    /// Takes time in proportion to their number, during which no value is made, and the thread may wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::finalize::{Deferred, Finalizer};
    ///
    /// let finalizer = Finalizer::new()?;
    /// let numbers = Deferred::new_in(&finalizer, vec![1, 2, 3]);
    /// let live = finalizer.live();
    /// assert_eq!(live.len(), 1);
    /// assert_eq!(live[0].type_name, "alloc::vec::Vec<i32>");
    /// drop(numbers);
    /// assert!(finalizer.live().is_empty());
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn live(&self) -> Vec<Live> {
        self.worker().live()
    }

    /// Waits until nothing is pending, at some moment: neither what was dropped before the call (by a drop that had returned),
    /// nor what was dropped since, by finalizers for instance. If others drop values all the time that moment may not come;
    /// then the forms with a time limit are better. So they are for who holds locks that a finalizer may want: such a deadlock
    /// isn't seen by `sync`.
    ///
    /// # Errors
    ///
    /// [`DrainError::WouldDeadlock`] if the caller is a finalizer, on this finalizer's thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::finalize::{Deferred, Finalizer};
    ///
    /// let finalizer = Finalizer::new()?;
    /// drop(Deferred::new_in(&finalizer, vec![1, 2, 3]));
    /// finalizer.drain().unwrap();
    /// assert_eq!(finalizer.pending(), 0);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn drain(&self) -> Result<(), DrainError> {
        self.worker().drain(None)
    }

    /// As [`drain`](Self::drain), but waits no longer than so long.
    ///
    /// # Errors
    ///
    /// [`DrainError::TimedOut`] if the time is over; what is pending goes on all the same. Otherwise as
    /// [`drain`](Self::drain).
    ///
    /// # Examples
    ///
    /// See [`DrainError`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let finalizer = hapax::finalize::Finalizer::new()?;
    /// assert_eq!(finalizer.drain_for(Duration::from_secs(60)), Ok(()));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn drain_for(&self, time: Duration) -> Result<(), DrainError> {
        self.worker().drain(Instant::now().checked_add(time))
    }

    /// As [`drain_for`](Self::drain_for), until a moment.
    ///
    /// # Errors
    ///
    /// As for [`drain_for`](Self::drain_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let finalizer = hapax::finalize::Finalizer::new()?;
    /// assert_eq!(finalizer.drain_until(Instant::now() + Duration::from_secs(60)), Ok(()));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn drain_until(&self, moment: Instant) -> Result<(), DrainError> {
        self.worker().drain(Some(moment))
    }

    /// Takes no further values, waits until nothing is pending, and returns what is still alive, the oldest first. The
    /// thread goes on until that is gone as well: what dies later is finalized as before. When nothing is left it ends by
    /// itself, perhaps after this has returned.
    ///
    /// # Errors
    ///
    /// As for [`drain`](Self::drain). The finalizer takes no further values all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::finalize::{Deferred, Finalizer};
    ///
    /// let finalizer = Finalizer::new()?;
    /// let numbers = Deferred::new_in(&finalizer, vec![1, 2, 3]);
    /// let live = finalizer.shutdown().unwrap();
    /// assert_eq!(live.len(), 1);
    /// assert!(Deferred::try_new_in(&finalizer, 5).is_err());
    /// drop(numbers);
    /// finalizer.drain().unwrap();
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn shutdown(&self) -> Result<Vec<Live>, DrainError> {
        self.close_and(Self::drain)
    }

    /// As [`shutdown`](Self::shutdown), but waits no longer than so long.
    ///
    /// # Errors
    ///
    /// As for [`drain_for`](Self::drain_for). The finalizer takes no further values all the same.
    ///
    /// # Examples
    ///
    /// At the end of `main`:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let finalizer = hapax::finalize::Finalizer::new()?;
    /// match finalizer.shutdown_for(Duration::from_secs(5)) {
    ///     Ok(live) => live.iter().for_each(|live| eprintln!("still alive: {live}")),
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn shutdown_for(&self, time: Duration) -> Result<Vec<Live>, DrainError> {
        self.close_and(|this| this.drain_for(time))
    }

    /// As [`shutdown_for`](Self::shutdown_for), until a moment.
    ///
    /// # Errors
    ///
    /// As for [`shutdown_for`](Self::shutdown_for).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let finalizer = hapax::finalize::Finalizer::new()?;
    /// assert!(finalizer.shutdown_until(Instant::now() + Duration::from_secs(60)).is_ok());
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn shutdown_until(&self, moment: Instant) -> Result<Vec<Live>, DrainError> {
        self.close_and(|this| this.drain_until(moment))
    }

    fn close_and(
        &self,
        drain: impl FnOnce(&Self) -> Result<(), DrainError>,
    ) -> Result<Vec<Live>, DrainError> {
        self.worker().close();
        drain(self)?;
        Ok(self.live())
    }
}

// A panic leaves nothing of it half done.
impl UnwindSafe for Finalizer {}
impl RefUnwindSafe for Finalizer {}

impl fmt::Debug for Finalizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finalizer")
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
