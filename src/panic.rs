//! `Panic`: what a thread that runs user code has caught.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// With what a thread, or a finalizer, has panicked.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
///
/// use hapax::finalize::{Deferred, FinalizeError, Finalizer};
///
/// struct Bomb;
/// impl Drop for Bomb {
///     fn drop(&mut self) {
///         panic!("no");
///     }
/// }
///
/// let finalizer = Finalizer::new()?;
/// let (send, errors) = mpsc::channel();
/// finalizer.on_error(move |error| send.send(error).unwrap());
/// drop(Deferred::new_in(&finalizer, Bomb));
/// let FinalizeError::Panicked { panic, .. } = errors.recv()? else { unreachable!() };
/// assert_eq!(panic.message(), Some("no"));
/// assert_eq!(panic.into_payload().downcast_ref(), Some(&"no"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Panic {
    message: Option<String>,
    /// Never locked: it makes `Sync` what is only given out by value.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        let message = match payload.downcast_ref::<&str>() {
            Some(message) => Some((*message).to_owned()),
            None => payload.downcast_ref::<String>().cloned(),
        };
        Self {
            message,
            payload: Mutex::new(payload),
        }
    }

    /// The message, if it has panicked with one.
    ///
    /// # Examples
    ///
    /// See [`Panic`].
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The payload, for [`resume_unwind`](std::panic::resume_unwind) for instance.
    ///
    /// # Examples
    ///
    /// See [`Panic`].
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.message).finish()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(message) => write!(f, "has panicked: {message}"),
            None => f.write_str("has panicked"),
        }
    }
}
