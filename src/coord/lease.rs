//! How long a grant lasts if nobody gives it back.

use std::time::Duration;

/// How long a grant lasts if its holder doesn't give it back.
///
/// # Examples
///
/// ```
/// use hapax::coord::{Lease, Lock, MemoryStore};
/// use std::time::Duration;
///
/// let store = MemoryStore::with_virtual_clock();
/// let lock = Lock::new(&store, "reports").lease(Lease::Fixed(Duration::from_secs(10)));
/// let guard = lock.lock()?;
/// assert_eq!(guard.remaining(), Some(Duration::from_secs(10)));
/// store.advance(Duration::from_secs(10));
/// assert!(!guard.is_valid());
/// # Ok::<_, hapax::coord::CoordError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Lease {
    /// As long as the process that holds it, and no clock is asked. When the process ends, however it ends, the next one
    /// in the queue gets it at once. What is stopped holds it until it is continued.
    ///
    /// A Redis server doesn't see processes end or stop: there it is a lease that renews itself, for
    /// thirty seconds if the store wasn't opened with another time, until its holder [extends](super::LockGuard::extend) it.
    #[default]
    Session,
    /// For that long after the last renewal; it renews itself each third of that. A process that is stopped for longer
    /// has lost it when it is continued. It ends with the process as well.
    Renewed(Duration),
    /// For that long, unless the holder [extends](super::LockGuard::extend) it. It ends with the process as well.
    Fixed(Duration),
}

impl Lease {
    pub(super) fn time(self) -> Option<Duration> {
        match self {
            Self::Session => None,
            Self::Renewed(time) | Self::Fixed(time) => Some(time),
        }
    }
}
