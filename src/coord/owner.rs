//! In whose name something is held and waited for, as far as deadlocks are concerned.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::LazyLock;

use crate::sync::ThreadKey;

/// In whose name locks are held and waited for, for the detection of deadlocks.
///
/// A guard can go to another thread, so nobody can tell from a guard whose wait keeps it from being given back. The owner
/// says it: while a wait in its name lasts, nothing that is held in its name is given back. Waits in the name of no owner,
/// and grants of none, are never part of a deadlock that is found.
///
/// An [`RLock`](super::RLock) has the calling thread for its owner, the command `hapax lock` itself. Its text form is that
/// of the variable `HAPAX_OWNER`, by which a process takes part in the name of the one that has started it.
///
/// # Examples
///
/// ```
/// use hapax::coord::{CoordError, Lock, MemoryStore, Owner};
///
/// let store = MemoryStore::new();
/// let reports = Lock::new(&store, "reports").owned_by(Owner::current_thread());
/// let _guard = reports.lock()?;
/// assert!(matches!(reports.lock(), Err(CoordError::Deadlock { .. })));
/// # Ok::<_, CoordError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub(super) u128);

impl Owner {
    /// An owner that is none of the others.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::Owner;
    ///
    /// assert_ne!(Owner::new(), Owner::new());
    /// ```
    #[expect(clippy::new_without_default, reason = "two of them are never the same")]
    pub fn new() -> Self {
        // Each has keys of its own.
        let half = || u128::from(RandomState::new().hash_one(std::process::id()));
        Self(half() << 64 | half())
    }

    /// The calling thread of this process. To be used where guards stay on the thread that got them.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::Owner;
    ///
    /// let here = Owner::current_thread();
    /// assert_eq!(here, Owner::current_thread());
    /// assert_ne!(here, std::thread::spawn(Owner::current_thread).join().unwrap());
    /// ```
    pub fn current_thread() -> Self {
        static PROCESS: LazyLock<Owner> = LazyLock::new(Owner::new);
        // A child that was forked has the same number and the same threads, but another process id.
        let process = u128::from(std::process::id()) << 64;
        Self(PROCESS.0 ^ process ^ u128::from(ThreadKey::current().number()))
    }
}

impl fmt::Display for Owner {
    /// As 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({self})")
    }
}

/// That a text isn't that of an [`Owner`]: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseOwnerError(String);

impl FromStr for Owner {
    type Err = ParseOwnerError;

    fn from_str(text: &str) -> Result<Self, ParseOwnerError> {
        let is_digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16);
        match number {
            Ok(number) if is_digits => Ok(Self(number)),
            _ => Err(ParseOwnerError(text.to_owned())),
        }
    }
}

impl fmt::Display for ParseOwnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an owner is 32 hexadecimal digits, not {:?}", self.0)
    }
}

impl std::error::Error for ParseOwnerError {}
