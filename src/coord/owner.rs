//! In whose name something is held and waited for, as far as deadlocks are concerned.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use crate::sync::ThreadKey;

/// In whose name locks are held and waited for, for the detection of deadlocks.
///
/// A guard can go to another thread, so nobody can tell from a guard whose wait keeps it from being given back. The owner
/// says it: while a wait in its name lasts, nothing that is held in its name is given back. Waits in the name of no owner,
/// and grants of none, are never part of a deadlock that is found.
///
/// An [`RLock`](super::RLock) has the calling thread for its owner, the command `hapax lock` one of its own. What somebody does
/// for another who waits for that is done in the name of a [child](Self::child). The text form is that of the variable
/// `HAPAX_OWNER`, by which a process learns in whose name it was started.
///
/// # Examples
///
/// ```
/// use hapax::coord::{CoordError, Lock, MemoryStore, Owner};
///
/// let store = MemoryStore::new();
/// let reports = Lock::new(&store, "reports").owned_by(&Owner::current_thread());
/// let _guard = reports.lock()?;
/// assert!(matches!(reports.lock(), Err(CoordError::Deadlock { .. })));
/// # Ok::<_, CoordError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Its own number, then that of whoever waits for what it does, and so on.
    lineage: Arc<[u128]>,
}

/// How many ancestors are remembered.
const LONGEST_LINEAGE: usize = 64;

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
        Self::of([random()])
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
        static PROCESS: LazyLock<u128> = LazyLock::new(random);
        // A child that was forked has the same number and the same threads, but another process id.
        let process = u128::from(std::process::id()) << 64;
        Self::of([*PROCESS ^ process ^ u128::from(ThreadKey::current().number())])
    }

    /// Another owner, for what is done while this one waits for that: nothing that this one holds is given back before.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::{CoordError, Lock, MemoryStore, Owner};
    ///
    /// let store = MemoryStore::new();
    /// let (parent, lock) = (Owner::new(), Lock::new(&store, "reports"));
    /// let _guard = lock.clone().owned_by(&parent).lock()?;
    /// let child = lock.owned_by(&parent.child());
    /// assert!(matches!(child.lock(), Err(CoordError::Deadlock { .. })));
    /// # Ok::<_, CoordError>(())
    /// ```
    #[must_use]
    pub fn child(&self) -> Self {
        let ancestors = self.lineage.iter().copied().take(LONGEST_LINEAGE - 1);
        Self::of(std::iter::once(random()).chain(ancestors))
    }

    pub(super) fn of(lineage: impl IntoIterator<Item = u128>) -> Self {
        Self {
            lineage: lineage.into_iter().collect(),
        }
    }

    pub(super) fn number(&self) -> u128 {
        self.lineage[0]
    }

    /// Its own number, and those of its ancestors.
    pub(super) fn lineage(&self) -> &[u128] {
        &self.lineage
    }
}

fn random() -> u128 {
    // Each has keys of its own.
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    half() << 64 | half()
}

impl fmt::Display for Owner {
    /// As 32 hexadecimal digits, and as many for each ancestor, with dots between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, number) in self.lineage.iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{number:032x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({self})")
    }
}

/// That a text isn't that of an [`Owner`]: 32 hexadecimal digits, and as many for each ancestor, with dots between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseOwnerError(String);

impl FromStr for Owner {
    type Err = ParseOwnerError;

    fn from_str(text: &str) -> Result<Self, ParseOwnerError> {
        let number = |digits: &str| {
            let is_digits =
                digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_digits
                .then(|| u128::from_str_radix(digits, 16).ok())
                .flatten()
        };
        let line: Option<Vec<_>> = text.split('.').map(number).collect();
        match line {
            Some(line) if line.len() <= LONGEST_LINEAGE => Ok(Self::of(line)),
            _ => Err(ParseOwnerError(text.to_owned())),
        }
    }
}

impl fmt::Display for ParseOwnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an owner is 32 hexadecimal digits, and as many for each ancestor, not {:?}",
            self.0
        )
    }
}

impl std::error::Error for ParseOwnerError {}
