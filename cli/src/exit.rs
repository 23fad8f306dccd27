//! How hapax ends: with which status, or by which signal.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};

use hapax::coord::CoordError;
use nix::errno::Errno;
use rustix::process::getpid;

use crate::secret;

/// It isn't called as it should be. This and the next two are those of sysexits.h.
pub(crate) const USAGE: u8 = 64;
/// The store can't be used.
pub(crate) const STORE: u8 = 69;
/// The lease was lost.
pub(crate) const LOST: u8 = 75;
/// The command can't be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The command wasn't found.
const NOT_FOUND: u8 = 127;

/// How hapax ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With that status.
    Status(u8),
    /// By that signal, so that whoever has started hapax sees that it was one.
    Signal(i32),
}

impl Exit {
    pub(crate) const OK: Self = Self::Status(0);

    /// The status for something that was ended by a signal.
    pub(crate) fn ended_by(signal: i32) -> Self {
        Self::Status(status_of(signal))
    }

    /// Ends the process.
    pub(crate) fn leave(self) -> ! {
        let status = match self {
            Self::Status(status) => status,
            Self::Signal(signal) => {
                // The first process of a container doesn't die of what it has no handler for.
                if !getpid().is_init() {
                    // It doesn't return but for what isn't a signal.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                status_of(signal)
            }
        };
        std::process::exit(status.into())
    }
}

/// For something that was ended by a signal.
fn status_of(signal: i32) -> u8 {
    // There are 64 of them.
    128 + u8::try_from(signal).unwrap_or_default()
}

/// Why nothing came of a command, or less than was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    /// Nothing if the status says it all.
    message: Option<String>,
}

impl Failure {
    pub(crate) fn new(status: u8, message: impl fmt::Display) -> Self {
        Self {
            status,
            message: Some(message.to_string()),
        }
    }

    /// Of which nothing is said.
    pub(crate) fn silent(status: u8) -> Self {
        Self {
            status,
            message: None,
        }
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(USAGE, message)
    }

    /// The status for an error of a store. That others have what was asked for is `conflict`, and that is silent.
    pub(crate) fn of(error: &CoordError, conflict: u8) -> Self {
        match error {
            CoordError::TimedOut { .. } => Self::silent(conflict),
            // Nothing but this tells who is in the circle.
            CoordError::Deadlock { .. } => Self::new(conflict, error),
            CoordError::NotHeld { .. } => Self::new(conflict, error),
            CoordError::Lost { .. } => Self::new(LOST, error),
            CoordError::KindMismatch { .. } | CoordError::LimitMismatch { .. } => {
                Self::usage(error)
            }
            _ => Self::new(STORE, error),
        }
    }

    pub(crate) fn cant_execute(program: Option<&OsString>, error: Errno) -> Self {
        let status = match error {
            Errno::ENOENT => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        };
        let program = program.map(|program| program.to_string_lossy());
        let program = program.unwrap_or_default();
        let reason = error.desc();
        Self::new(
            status,
            format_args!("can't execute `{}`: {reason}", program.escape_debug()),
        )
    }

    /// Says it, and answers how to end.
    pub(crate) fn report(self) -> Exit {
        if let Some(message) = self.message {
            say(message);
        }
        Exit::Status(self.status)
    }
}

/// Output that can't be written. A reader that has gone away, as `head` does, has got what it wanted.
pub(crate) fn output(result: io::Result<()>) -> Result<Exit, Failure> {
    match result {
        Ok(()) => Ok(Exit::OK),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::OK),
        Err(error) => Err(Failure::new(1, format_args!("can't write: {error}"))),
    }
}

/// Says something on stderr. Where nobody listens, nothing has to be said.
pub(crate) fn say(message: impl fmt::Display) {
    let text = format!("hapax: {message}\n");
    // One call, so that lines of several processes don't mix.
    let _ = io::stderr().write_all(secret::hide(&text).as_bytes());
}
