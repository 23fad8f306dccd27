//! What has gone wrong in a scope.

use std::any::Any;
use std::error::Error;
use std::fmt;

use super::Cancelled;
use crate::finalize::BoxError;
use crate::panic::Panic;

/// What has failed in a [`scope`](super::scope()): all of it, the first one first, but for what has only been cancelled. Its
/// message has those of all; its source is the first error.
///
/// # Examples
///
/// ```
/// use hapax::sync::{Failure, scope};
///
/// let error = scope::<(), _>(|scope| {
///     scope.spawn(|| panic!("no"));
///     Ok(())
/// })
/// .unwrap_err();
/// assert_eq!(error.to_string(), "a thread has panicked: no");
/// assert!(matches!(error.failures(), [Failure::Panicked(_)]));
/// assert!(!error.is_cancelled());
/// ```
#[derive(Debug)]
pub struct ScopeError {
    /// Invariant: there is one. Either none says that it was cancelled, or it is the only one.
    failures: Vec<Failure>,
}

/// Something that has failed in a [`scope`](super::scope()).
///
/// # Examples
///
/// See [`ScopeError`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// A child, or the closure of the scope, has returned this, or a child couldn't be begun, or waited for.
    Error(BoxError),
    /// A child has panicked.
    Panicked(Panic),
}

impl Failure {
    pub(super) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        Self::Panicked(Panic::new(payload))
    }

    fn is_cancelled(&self) -> bool {
        let Self::Error(error) = self else {
            return false;
        };
        let mut next: Option<&(dyn Error + 'static)> = Some(&**error);
        while let Some(error) = next {
            if error.is::<Cancelled>() {
                return true;
            }
            next = error.source();
        }
        false
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Panicked(panic) => write!(f, "a thread {panic}"),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Error(error) => error.source(),
            Self::Panicked(_) => None,
        }
    }
}

impl ScopeError {
    /// `None` if nothing has failed.
    pub(super) fn of(mut failures: Vec<Failure>) -> Option<Self> {
        if failures.iter().all(Failure::is_cancelled) {
            failures.truncate(1);
        } else {
            failures.retain(|failure| !failure.is_cancelled());
        }
        (!failures.is_empty()).then_some(Self { failures })
    }

    /// What has failed: at least one, and the first one first.
    ///
    /// # Examples
    ///
    /// See [`ScopeError`].
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// As [`failures`](Self::failures), by value.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{Failure, scope};
    ///
    /// let error = scope::<(), _>(|_| Ok(std::fs::exists("a\0b").map(drop)?)).unwrap_err();
    /// let Failure::Error(error) = error.into_failures().remove(0) else { unreachable!() };
    /// assert!(error.is::<std::io::Error>());
    /// ```
    pub fn into_failures(self) -> Vec<Failure> {
        self.failures
    }

    /// Whether nothing has failed but by being cancelled: an outer scope has failed, or somebody has returned such an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::{Event, scope};
    ///
    /// let never = Event::new();
    /// let error = scope(|outer| {
    ///     outer.spawn(|| Ok(scope(|inner| {
    ///         inner.spawn(|| Ok(never.wait()?));
    ///         Ok(never.wait()?)
    ///     })?));
    ///     Err("outer".into())
    /// });
    /// // The inner scope's error is one of those that are left out.
    /// assert_eq!(error.unwrap_err().failures().len(), 1);
    /// ```
    pub fn is_cancelled(&self) -> bool {
        self.failures[0].is_cancelled()
    }
}

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, failure) in self.failures.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            failure.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for ScopeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.failures[0] {
            Failure::Error(error) => Some(&**error),
            Failure::Panicked(_) => None,
        }
    }
}
