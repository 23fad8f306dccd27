//! What a thread that was refused is told.

use std::error::Error;
use std::fmt;

use crate::sync::ThreadKey;

/// A circle of threads of which each waits for something that the next one holds, or is to do.
///
/// # Examples
///
/// ```
/// use hapax::sync::deadlock::Wanted;
/// use hapax::sync::{AcquireError, Mutex};
///
/// let account = Mutex::named("account", 5);
/// let guard = account.lock()?;
/// let Err(AcquireError::Deadlock(report)) = account.lock() else { unreachable!() };
/// assert_eq!(report.steps().len(), 1);
/// assert!(matches!(report.steps()[0].wanted, Wanted::Lock { name: Some("account"), .. }));
/// # Ok::<_, AcquireError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadlockReport {
    pub(super) steps: Vec<Step>,
}

/// A thread of a [`DeadlockReport`], and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The thread that waits.
    pub thread: ThreadKey,
    /// The name that the thread had when it first took a lock.
    pub thread_name: Option<String>,
    /// What it waits for.
    pub wanted: Wanted,
    /// The thread that it waits for: it holds that, or some of it.
    pub holder: ThreadKey,
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted {
    /// A lock.
    Lock {
        /// The name that it was given.
        name: Option<&'static str>,
        /// An address within it, which tells locks without names apart.
        address: usize,
    },
    /// Permits of a semaphore.
    Permits {
        /// The name that it was given.
        name: Option<&'static str>,
        /// Its number, which tells semaphores without names apart.
        semaphore: u64,
        /// How many.
        permits: usize,
    },
    /// The thread's end.
    End,
    /// Something that the thread is to do; see [`blocking_on`](super::blocking_on).
    Act,
}

impl DeadlockReport {
    /// The circle. It begins with the thread whose wait was refused; the holder of each step is the next thread, and that
    /// of the last one the first.
    ///
    /// Of a semaphore with permits out at several threads the circle names one: the others wait for good as well.
    ///
    /// # Examples
    ///
    /// See [`DeadlockReport`].
    ///
    /// ```
    /// use hapax::sync::{AcquireError, Mutex, ThreadKey};
    ///
    /// let lock = Mutex::new(());
    /// let guard = lock.lock()?;
    /// let Err(AcquireError::Deadlock(report)) = lock.lock() else { unreachable!() };
    /// assert_eq!(report.steps()[0].thread, ThreadKey::current());
    /// assert_eq!(report.steps()[0].holder, ThreadKey::current());
    /// # Ok::<_, AcquireError>(())
    /// ```
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl fmt::Display for DeadlockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            step.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread, holder, .. } = self;
        write!(f, "thread {thread}")?;
        if let Some(name) = &self.thread_name {
            write!(f, " ({name})")?;
        }
        f.write_str(" waits for ")?;
        match self.wanted {
            Wanted::Lock { name, address } => {
                match name {
                    Some(name) => f.write_str(name)?,
                    None => write!(f, "the lock at {address:#x}")?,
                }
                write!(f, ", held by thread {holder}")
            }
            Wanted::Permits {
                name,
                semaphore,
                permits,
            } => {
                write!(f, "{permits} of ")?;
                match name {
                    Some(name) => f.write_str(name)?,
                    None => write!(f, "semaphore {semaphore}")?,
                }
                write!(f, ", some held by thread {holder}")
            }
            Wanted::End => write!(f, "the end of thread {holder}"),
            Wanted::Act => write!(f, "something that thread {holder} is to do"),
        }
    }
}

impl Error for DeadlockReport {}
