//! Why a local has no value for the calling thread.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;

/// Why a [`Local`](super::Local) has no value for the calling thread. `E` is what the initialiser fails with.
///
/// # Examples
///
/// ```
/// use std::error::Error;
///
/// use hapax::local::{Local, LocalError};
///
/// let port = Local::try_new(|| "x".parse::<u16>());
/// let error = port.try_with(|port| *port).unwrap_err();
/// assert!(matches!(error, LocalError::Init(_)));
/// assert_eq!(error.to_string(), "no value for this thread: its initialiser failed");
/// assert_eq!(error.source().unwrap().to_string(), "invalid digit found in string");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalError<E = Infallible> {
    /// The thread is ending, and its value was dropped, or never made: the call comes from the destructor of another one,
    /// or from that of a `thread_local!` which is destroyed later.
    Destroyed,
    /// Something further up the stack is making the value: its initialiser. Of a [`LocalCell`](super::LocalCell) or
    /// [`LocalDict`](super::LocalDict) also: is using it in a way that excludes this one.
    Reentrant,
    /// The initialiser failed. The next use tries again.
    Init(E),
}

impl<E> LocalError<E> {
    /// For functions whose users have asked for a panic.
    #[cold]
    #[track_caller]
    pub(super) fn panic(self) -> ! {
        panic!("{self}");
    }
}

impl<E> fmt::Display for LocalError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no value for this thread: ")?;
        f.write_str(match self {
            Self::Destroyed => "the thread is ending",
            Self::Reentrant => "it is being made or borrowed further up the stack",
            Self::Init(_) => "its initialiser failed",
        })
    }
}

impl<E: Error + 'static> Error for LocalError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Init(error) => Some(error),
            _ => None,
        }
    }
}
