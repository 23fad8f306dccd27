//! Who holds a key, and who waits for it, for people.

use std::time::{Duration, SystemTime};

use super::error::Kind;
use super::owner::Owner;

/// A key, who holds it, and who waits for it.
///
/// # Examples
///
/// ```
/// use hapax::coord::{Kind, Lock, MemoryStore, Mode, Store};
///
/// let store = MemoryStore::new();
/// let _guard = Lock::new(&store, "reports").shared().lock()?;
/// let list = store.list()?;
/// assert_eq!((list[0].key.as_str(), list[0].kind), ("reports", Kind::Lock));
/// assert_eq!(list[0].holders[0].mode, Mode::Shared);
/// assert!(list[0].waiters.is_empty());
/// # Ok::<_, hapax::coord::CoordError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The key.
    pub key: String,
    /// What it is in use as.
    pub kind: Kind,
    /// Who holds it, in the order in which it was granted.
    pub holders: Vec<HolderStatus>,
    /// Who waits for it, the next one first.
    pub waiters: Vec<WaiterStatus>,
}

/// Somebody who holds a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HolderStatus {
    /// In which way.
    pub mode: Mode,
    /// The token of the grant.
    pub fencing_token: u64,
    /// Which of the permits it is.
    pub slot: u32,
    /// Since when, by the wall clock of who granted it.
    pub since: SystemTime,
    /// For how long yet, if it isn't renewed or given back. None if there is no end, or if that is counted by a clock that
    /// can't be read here.
    pub remaining: Option<Duration>,
    /// The tag that it was taken with.
    pub tag: Option<String>,
    /// In whose name, for deadlocks.
    pub owner: Option<Owner>,
    /// The process.
    pub process: ProcessStatus,
}

/// Somebody who waits for a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaiterStatus {
    /// In which way it wants it.
    pub mode: Mode,
    /// Its place: who has a smaller number is served before.
    pub ticket: u64,
    /// Since when, by its wall clock.
    pub since: SystemTime,
    /// In whose name, for deadlocks.
    pub owner: Option<Owner>,
    /// The process.
    pub process: ProcessStatus,
}

/// A process, for people: nothing is decided by this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessStatus {
    /// The name of its host.
    pub host: String,
    /// Its number there, or in its container.
    pub id: u32,
    /// What it calls itself.
    pub label: Option<String>,
    /// What it runs.
    pub command: Option<String>,
}

/// In which way a key is held or wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// As a lock, alone.
    Exclusive,
    /// As a lock, together with others.
    Shared,
    /// As one permit of a semaphore.
    Permit {
        /// How many there are.
        of: u32,
    },
}
