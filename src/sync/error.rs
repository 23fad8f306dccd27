//! Why a lock can't be had, or can't be given back.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::ThreadKey;
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
    /// Somebody holds it, and the caller doesn't want to wait.
    WouldBlock,
    /// Somebody held it until the time was over.
    TimedOut,
    /// To wait would be to wait for oneself: the threads of the report wait for each other, in a circle which this
    /// wait would have closed. They go on when this thread lets go of what they want.
    Deadlock(Arc<DeadlockReport>),
    /// The semaphore was closed.
    Closed,
    /// The thread that held it has ended without giving it back.
    OwnerDied {
        /// That thread.
        owner: ThreadKey,
    },
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("others have it"),
            Self::TimedOut => f.write_str("others had it until the time was over"),
            Self::Deadlock(report) => {
                write!(f, "waiting for the lock would be a deadlock: {report}")
            }
            Self::Closed => f.write_str("the semaphore is closed"),
            Self::OwnerDied { owner } => {
                write!(f, "thread {owner} has ended while it held the lock")
            }
        }
    }
}

impl Error for AcquireError {}

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
