//! Why a lock can't be had, or can't be given back.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::ThreadKey;
use super::cancel::{Cancelled, NoAnswer};
use super::deadlock::DeadlockReport;

/// Why a lock, or a permit, can't be had.
///
/// # Examples
///
/// ```
/// use hapax::sync::{AcquireError, Mutex};
///
/// let number = Mutex::new(5);
/// let _guard = number.lock()?;
/// assert_eq!(number.try_lock().unwrap_err(), AcquireError::WouldBlock);
/// # Ok::<_, AcquireError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcquireError {
    /// It isn't free, and the caller doesn't want to wait.
    WouldBlock,
    /// It wasn't free before the time was over.
    TimedOut,
    /// To wait would be to wait for oneself: the threads of the report wait for each other, in a circle which this
    /// wait would have closed. They go on when this thread lets go of what they want.
    Deadlock(Arc<DeadlockReport>),
    /// The thread was cancelled before it was free: something has failed in the [`Scope`](super::Scope) that it is in.
    Cancelled,
    /// The semaphore was closed.
    Closed,
    /// There are never so many permits.
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// The thread that held it has ended without giving it back.
    OwnerDied {
        /// That thread.
        owner: ThreadKey,
    },
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("it isn't free at the moment"),
            Self::TimedOut => f.write_str("it wasn't free before the time was over"),
            Self::Deadlock(report) => {
                write!(f, "the wait would be a deadlock: {report}")
            }
            Self::Cancelled => Cancelled.fmt(f),
            Self::Closed => f.write_str("the semaphore is closed"),
            Self::TooMany { max } => write!(f, "there are never more than {max} permits"),
            Self::OwnerDied { owner } => {
                write!(
                    f,
                    "thread {owner} has ended without giving back what it held"
                )
            }
        }
    }
}

impl Error for AcquireError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cancelled => Some(&Cancelled),
            _ => None,
        }
    }
}

/// So that one `?` does for waits of all kinds.
impl From<Cancelled> for AcquireError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl From<NoAnswer> for AcquireError {
    fn from(why: NoAnswer) -> Self {
        match why {
            NoAnswer::TimedOut => Self::TimedOut,
            NoAnswer::Cancelled => Self::Cancelled,
        }
    }
}

/// Why a lock, or a permit, can't be given back.
///
/// # Examples
///
/// ```
/// use hapax::sync::{Lock, ReleaseError};
///
/// assert_eq!(Lock::new().release(), Err(ReleaseError::NotHeld));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Nobody holds it, or, of a guard, somebody else has released that hold.
    NotHeld,
    /// Another thread holds it, and it is for that one to release it.
    NotOwner {
        /// That thread, if it is known.
        owner: Option<ThreadKey>,
    },
    /// There would be more permits than there may be.
    OverRelease {
        /// How many there may be.
        max: usize,
    },
    /// No permits were to be given back.
    ZeroPermits,
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHeld => f.write_str("the lock isn't held"),
            Self::NotOwner { owner: Some(owner) } => write!(f, "thread {owner} holds the lock"),
            Self::NotOwner { owner: None } => f.write_str("another thread holds the lock"),
            Self::OverRelease { max } => write!(f, "there would be more than {max} permits"),
            Self::ZeroPermits => f.write_str("there are no permits to be given back"),
        }
    }
}

impl Error for ReleaseError {}

/// Why a wait for a [`Condition`](super::Condition) doesn't give the guard back. [`source`](Error::source) has the reason.
///
/// # Examples
///
/// ```
/// use hapax::sync::{Condition, Lock, ReleaseError, WaitError};
///
/// let (lock, condition) = (Lock::new(), Condition::new());
/// let guard = lock.lock()?;
/// lock.release().unwrap();
/// assert_eq!(condition.wait(guard).unwrap_err(), WaitError::Release(ReleaseError::NotHeld));
/// # Ok::<_, hapax::sync::AcquireError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// The guard didn't hold the lock any more, so there was nothing to give up, and nothing was waited for.
    Release(ReleaseError),
    /// The wait was over, but the lock couldn't be had again; or the thread was cancelled while it waited.
    Acquire(AcquireError),
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Release(_) => "there was nothing to give up for the wait",
            Self::Acquire(_) => "the lock can't be had, or be had again after the wait",
        })
    }
}

impl Error for WaitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Release(error) => Some(error),
            Self::Acquire(error) => Some(error),
        }
    }
}

/// The lock couldn't be had, for the first time or again. So one `?` does for both.
impl From<AcquireError> for WaitError {
    fn from(error: AcquireError) -> Self {
        Self::Acquire(error)
    }
}

impl From<Cancelled> for WaitError {
    fn from(_: Cancelled) -> Self {
        Self::Acquire(AcquireError::Cancelled)
    }
}

impl From<ReleaseError> for WaitError {
    fn from(error: ReleaseError) -> Self {
        Self::Release(error)
    }
}
