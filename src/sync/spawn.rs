//! Threads whose ends can be waited for without a deadlock.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;

use super::deadlock::{DeadlockReport, Limit, Registered, Wanted, wait_for_threads};
use super::{AcquireError, Cancelled, Event, ThreadKey};
use crate::panic::Panic;
use crate::table::primitive::{become_thread, new_thread_number};

/// Begins a thread, as [`std::thread::spawn`] does. Waits for its end take part in what is looked at for deadlocks.
///
/// # Errors
///
/// If the system can't begin another thread.
///
/// # Examples
///
/// ```
/// let thread = hapax::sync::spawn(|| 5)?;
/// assert_eq!(thread.join().unwrap(), 5);
/// # Ok::<_, std::io::Error>(())
/// ```
#[doc(alias = "threading.Thread")]
pub fn spawn<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    spawn_with(thread::Builder::new(), f)
}

/// As [`spawn`], with a name or another stack.
///
/// # Errors
///
/// If the system can't begin another thread.
///
/// # Panics
///
/// If the name contains a zero, as [`Builder::spawn`](thread::Builder::spawn) does.
///
/// # Examples
///
/// ```
/// let builder = std::thread::Builder::new().name("worker".to_owned());
/// let thread = hapax::sync::spawn_with(builder, || std::thread::current().name().map(str::len))?;
/// assert_eq!(thread.join().unwrap(), Some(6));
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn spawn_with<T: Send + 'static>(
    builder: thread::Builder,
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let number = new_thread_number();
    let is_done = Arc::new(Event::new());
    let done = SetAtLast(is_done.clone());
    let thread = builder.spawn(move || {
        become_thread(number);
        let _done = done;
        f()
    })?;
    Ok(JoinHandle {
        number,
        is_done,
        thread,
    })
}

/// Sets an event when it is dropped.
struct SetAtLast(Arc<Event>);

impl Drop for SetAtLast {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// A thread that was begun by [`spawn`].
///
/// # Examples
///
/// ```
/// let thread = hapax::sync::spawn(hapax::sync::ThreadKey::current)?;
/// let key = thread.key();
/// assert_eq!(thread.join().unwrap(), key);
/// # Ok::<_, std::io::Error>(())
/// ```
pub struct JoinHandle<T> {
    number: u64,
    /// For those who are cancelled while they wait: nobody can be woken from `thread.join()`.
    is_done: Arc<Event>,
    thread: thread::JoinHandle<T>,
}

impl<T> JoinHandle<T> {
    /// Waits for the end of the thread, and returns what it returned.
    ///
    /// # Errors
    ///
    /// - [`JoinError::Panicked`] if it has panicked;
    /// - [`JoinError::Deadlock`] if the wait would never end: the thread waits, perhaps through others, for something that
    ///   the calling one holds, or is the calling one. The error has the handle;
    /// - [`JoinError::Cancelled`] if the calling thread is cancelled before, with the handle.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{JoinError, Mutex, spawn};
    ///
    /// static NUMBERS: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    ///
    /// let guard = NUMBERS.lock().unwrap();
    /// let sum = spawn(|| NUMBERS.lock().map(|numbers| numbers.iter().sum::<u32>()))?;
    /// // Whoever comes last is told.
    /// match sum.join() {
    ///     Err(JoinError::Deadlock { handle, .. }) => {
    ///         drop(guard);
    ///         assert_eq!(handle.join().unwrap(), Ok(0));
    ///     }
    ///     sum => assert!(sum.unwrap().is_err()),
    /// }
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn join(self) -> Result<T, JoinError<T>> {
        let registered = match self.wait_until_done() {
            Ok(registered) => registered,
            Err(AcquireError::Deadlock(report)) => {
                let handle = self;
                return Err(JoinError::Deadlock { report, handle });
            }
            Err(AcquireError::Cancelled) => return Err(JoinError::Cancelled { handle: self }),
            Err(_) => unreachable!("a wait for threads is refused for nothing else"),
        };
        let result = self.thread.join();
        drop(registered);
        result.map_err(|panic| JoinError::Panicked(Panic::new(panic)))
    }

    /// Waits until the closure has returned, and registers the wait for the rest: its thread-locals may have destructors that
    /// wait, and from a wait for them nobody is woken.
    fn wait_until_done(&self) -> Result<Registered, AcquireError> {
        let register = |limit| wait_for_threads(vec![self.number], Wanted::End, limit);
        if !self.is_done.is_set() {
            let registered = register(Limit::of_thread())?;
            self.is_done.wait()?;
            drop(registered);
        }
        register(Limit::NEVER)
    }

    /// The thread, as errors and reports name it.
    ///
    /// # Examples
    ///
    /// See [`JoinHandle`].
    pub fn key(&self) -> ThreadKey {
        ThreadKey::of(self.number)
    }

    /// The thread, as `std` knows it.
    ///
    /// # Examples
    ///
    /// ```
    /// let thread = hapax::sync::spawn(|| 5)?;
    /// assert_eq!(thread.thread().name(), None);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn thread(&self) -> &thread::Thread {
        self.thread.thread()
    }

    /// Whether the thread has done what it was begun for. Its thread-locals may still be there.
    ///
    /// # Examples
    ///
    /// ```
    /// let (send, receive) = std::sync::mpsc::channel();
    /// let thread = hapax::sync::spawn(move || receive.recv())?;
    /// assert!(!thread.is_finished());
    /// send.send(5).unwrap();
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}

/// Why the result of a thread can't be had.
///
/// # Examples
///
/// ```
/// use hapax::sync::{JoinError, spawn};
///
/// let thread = spawn(|| -> u32 { std::panic::resume_unwind(Box::new("no")) })?;
/// assert!(matches!(thread.join(), Err(JoinError::Panicked(_))));
/// # Ok::<_, std::io::Error>(())
/// ```
#[non_exhaustive]
pub enum JoinError<T> {
    /// The thread has panicked, with this.
    Panicked(Panic),
    /// The wait would never end.
    Deadlock {
        /// Who waits for whom.
        report: Arc<DeadlockReport>,
        /// The thread, which goes on.
        handle: JoinHandle<T>,
    },
    /// The calling thread was cancelled: something has failed in the [`Scope`](super::Scope) that it is in.
    Cancelled {
        /// The thread, which goes on.
        handle: JoinHandle<T>,
    },
}

impl<T> fmt::Debug for JoinError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => f.debug_tuple("Panicked").field(panic).finish(),
            Self::Deadlock { report, handle } => f
                .debug_struct("Deadlock")
                .field("report", report)
                .field("handle", handle)
                .finish(),
            Self::Cancelled { handle } => {
                f.debug_struct("Cancelled").field("handle", handle).finish()
            }
        }
    }
}

impl<T> fmt::Display for JoinError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => write!(f, "the thread {panic}"),
            Self::Deadlock { report, .. } => {
                write!(
                    f,
                    "waiting for the thread's end would be a deadlock: {report}"
                )
            }
            Self::Cancelled { .. } => Cancelled.fmt(f),
        }
    }
}

impl<T> Error for JoinError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cancelled { .. } => Some(&Cancelled),
            Self::Panicked(_) | Self::Deadlock { .. } => None,
        }
    }
}
