//! What can go wrong with a finalizer, and who learns of it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::BoxError;
use crate::panic::Panic;

/// Gets what goes wrong on the thread of a finalizer.
pub(super) type Hook = Arc<dyn Fn(FinalizeError) + Send + Sync>;

/// The hook of a finalizer that was given no other.
pub(super) fn print() -> Hook {
    Arc::new(|error| match error.source() {
        Some(source) => eprintln!("hapax: {error}: {source}"),
        None => eprintln!("hapax: {error}"),
    })
}

/// What has gone wrong with one value, on the thread of its finalizer: see [`Finalizer::on_error`](super::Finalizer::on_error).
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
///
/// use hapax::finalize::{BoxError, Finalize, FinalizeError, Finalized, Finalizer};
///
/// struct File;
/// impl Finalize for File {
///     type Core = &'static str;
///     fn finalize(path: &'static str) -> Result<(), BoxError> {
///         Err(format!("{path} can't be removed").into())
///     }
/// }
///
/// let finalizer = Finalizer::new()?;
/// let (send, errors) = mpsc::channel();
/// finalizer.on_error(move |error| send.send(error).unwrap());
/// drop(Finalized::new_in(&finalizer, File, "/tmp/a"));
/// match errors.recv()? {
///     FinalizeError::Failed { error, .. } => assert_eq!(error.to_string(), "/tmp/a can't be removed"),
///     error => unreachable!("{error}"),
/// }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum FinalizeError {
    /// [`finalize`](super::Finalize::finalize) has returned an error.
    Failed {
        /// The type of the body.
        type_name: &'static str,
        /// The error.
        error: BoxError,
    },
    /// [`finalize`](super::Finalize::finalize), or the destructor of what is [deferred](super::Deferred), has panicked.
    Panicked {
        /// The type of the body, or of what is deferred.
        type_name: &'static str,
        /// With what.
        panic: Panic,
    },
}

impl fmt::Display for FinalizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { type_name, .. } => write!(f, "the finalizer of {type_name} has failed"),
            Self::Panicked { type_name, panic } => {
                write!(f, "the finalizer of {type_name} {panic}")
            }
        }
    }
}

impl Error for FinalizeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { error, .. } => Some(&**error),
            Self::Panicked { .. } => None,
        }
    }
}

/// Why a finalizer takes no further value.
///
/// # Examples
///
/// See [`Refused`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// As many values wait to be finalized as the finalizer lets wait.
    QueueFull {
        /// So many.
        bound: usize,
    },
    /// The finalizer was shut down.
    ShutDown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueFull { bound } => write!(f, "{bound} values or more wait to be finalized"),
            Self::ShutDown => f.write_str("the finalizer was shut down"),
        }
    }
}

impl Error for Refusal {}

/// A value that a finalizer hasn't taken, and why: [`Finalized::try_new_in`](super::Finalized::try_new_in),
/// [`Deferred::try_new_in`](super::Deferred::try_new_in).
///
/// # Examples
///
/// ```
/// use hapax::finalize::{Deferred, Finalizer, Refusal};
///
/// let finalizer = Finalizer::new()?;
/// finalizer.shutdown().unwrap();
/// let refused = Deferred::try_new_in(&finalizer, vec![1, 2, 3]).unwrap_err();
/// assert_eq!(refused.why, Refusal::ShutDown);
/// assert_eq!(refused.value, [1, 2, 3]);
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused<V> {
    /// Why.
    pub why: Refusal,
    /// What was given: a value, or body and core.
    pub value: V,
}

impl<V> Refused<V> {
    pub(super) fn new(why: Refusal, value: V) -> Self {
        Self { why, value }
    }

    pub(super) fn panic(self) -> ! {
        panic!("{self}: {}", self.why)
    }
}

impl<V> fmt::Debug for Refused<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("why", &self.why)
            .finish_non_exhaustive()
    }
}

impl<V> fmt::Display for Refused<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the finalizer takes no further value")
    }
}

impl<V> Error for Refused<V> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.why)
    }
}

/// A core that is being finalized.
///
/// # Examples
///
/// See [`DrainError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Running {
    /// The type of the body, or of what is [deferred](super::Deferred).
    pub type_name: &'static str,
    /// Since when.
    pub since: Instant,
}

/// Why not everything was finalized: [`Finalizer::drain`](super::Finalizer::drain) and its other forms.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use hapax::finalize::{BoxError, DrainError, Finalize, Finalized, Finalizer};
/// use std::sync::mpsc::Receiver;
///
/// struct Slow;
/// impl Finalize for Slow {
///     type Core = Receiver<()>;
///     fn finalize(until: Receiver<()>) -> Result<(), BoxError> {
///         Ok(until.recv()?)
///     }
/// }
///
/// let finalizer = Finalizer::new()?;
/// let (send, receive) = std::sync::mpsc::channel();
/// drop(Finalized::new_in(&finalizer, Slow, receive));
/// let Err(DrainError::TimedOut { pending, running }) = finalizer.drain_for(Duration::from_millis(50))
/// else { unreachable!() };
/// assert_eq!(pending, 1);
/// assert!(running.unwrap().type_name.ends_with("Slow"));
/// send.send(())?;
/// finalizer.drain()?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainError {
    /// The time was over before. What is pending goes on.
    TimedOut {
        /// How many values are dead and not finalized.
        pending: usize,
        /// The one that is being finalized.
        running: Option<Running>,
    },
    /// A finalizer would wait for its own end.
    WouldDeadlock,
}

impl fmt::Display for DrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { pending, running } => {
                write!(
                    f,
                    "{pending} values weren't finalized before the time was over"
                )?;
                if let Some(Running { type_name, since }) = running {
                    let time = since.elapsed();
                    write!(f, "; the finalizer of {type_name} has run for {time:?}")?;
                }
                Ok(())
            }
            Self::WouldDeadlock => f.write_str("a finalizer would wait for its own end"),
        }
    }
}

impl Error for DrainError {}
