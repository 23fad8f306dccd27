//! Locks and semaphores that span processes, after DiskCache's recipes.
//!
//! | DiskCache | here |
//! |---|---|
//! | `Cache(directory)`, for the recipes | [`SqliteStore`], a file for locks alone |
//! | `Lock(cache, key, expire, tag)` | [`Lock`], [`Lock::lease`], [`Lock::tag`] |
//! | `RLock(cache, key)` | [`RLock`] |
//! | `BoundedSemaphore(cache, key, value)` | [`Semaphore`] |
//! | none | [`Lock::shared`], time limits, [`fencing_token`](LockGuard::fencing_token), [`lost`](LockGuard::lost), [`Store::list`], [`Store::force_unlock`] |
//!
//! ```
//! use hapax::coord::{Lock, MemoryStore};
//!
//! // In a program: `SqliteStore::open("/var/lib/reports/locks.db")?`, with the feature `coord-sqlite`.
//! let store = MemoryStore::new();
//! let guard = Lock::new(&store, "reports").lock()?;
//! // Nobody else on this machine makes reports now.
//! guard.release()?;
//! # Ok::<_, hapax::coord::CoordError>(())
//! ```
//!
//! # What a lock is worth
//!
//! When the process that holds it ends, even by `kill -9`, the next one in the line gets it at once. Waiters sleep, and are
//! served in the order in which they came, except that others may pass one for its first millisecond at the
//! head. A guard belongs to whoever has it, and can't give back what a successor holds.
//!
//! A [`Lease`] says how long a grant lasts otherwise: as long as the process by default, and for a time if a process
//! that is stopped shall lose it. A guard always knows whether it [is valid](LockGuard::is_valid), by a clock that goes on
//! while the machine sleeps, and [tells](LockGuard::lost) when it is lost. No such look helps against a pause right after it:
//! for that each grant has a *fencing token*, which only grows, and which the resource itself has to compare. See
//! [`FencingGate`].
//!
//! # Deadlocks
//!
//! Two processes that take two locks in opposite orders wait for each other for ever, unless the locks have an [`Owner`],
//! that of an [`RLock`] being its thread. Then the one that closes the circle gets [`CoordError::Deadlock`]. Waits with a time
//! limit are never part of one: they end by themselves.
//!
//! # Blocking, and what runs inside
//!
//! `lock` and `acquire` block the thread. All other calls, and the drop of a guard, take a short transaction or two: some 20 µs
//! each on a SQLite file, and each waits for others no longer than [its limit]; threads of a process take turns. No code of the caller runs inside. A guard that is
//! dropped while the store is busy, or full, is given back later by a thread of the store; [`release`](LockGuard::release) says
//! what happened. A process has one such thread for each store that it holds something in.
//!
//! Tasks don't block: [`Lock::lock_async`] and [`Semaphore::acquire_async`] work on any executor and lose nothing when they are
//! dropped; a second thread of the store stands in the queues for them.
//!
//! In a thread of a [`Scope`](crate::sync::Scope) that is cancelled, waits end with [`CoordError::Cancelled`] within a second.
//!
//! A store in memory, with a clock that a test sets and sessions that die on command, is for one's own tests:
//! [`MemoryStore`]. The protocol, what a crash leaves, and what can't be promised: [docs/COORD.md].
//!
//! [docs/COORD.md]: https://docs.rs/crate/hapax/latest/source/docs/COORD.md
#![cfg_attr(
    feature = "coord-sqlite",
    doc = "\n[its limit]: SqliteOptions::busy_for"
)]
#![cfg_attr(
    not(feature = "coord-sqlite"),
    doc = "\n[`SqliteStore`]: https://docs.rs/hapax/latest/hapax/coord/struct.SqliteStore.html\n[its limit]: https://docs.rs/hapax/latest/hapax/coord/struct.SqliteOptions.html"
)]

mod acquire;
mod averager;
mod clerk;
mod deadlock;
mod error;
mod fencing;
mod guard;
mod hold;
mod keeper;
mod lease;
mod lock;
mod lock_set;
mod owner;
mod rate_limiter;
mod rlock;
mod semaphore;
mod session;
mod single_flight;
mod status;
mod store;
mod time;
mod trace;

pub use averager::Averager;
pub use deadlock::{Circle, CircleStep};
pub use error::{At, CoordError, Kind, Limit, Operation};
pub use fencing::{FencingGate, StaleTokenError};
pub use lease::Lease;
pub use lock::{Lock, LockGuard};
pub use lock_set::LockSet;
pub use owner::{Owner, ParseOwnerError};
pub use rate_limiter::RateLimiter;
pub use rlock::{RLock, RLockGuard};
pub use semaphore::{Permit, Semaphore};
pub use single_flight::SingleFlight;
pub use status::{HolderStatus, Mode, ProcessStatus, Status, WaiterStatus};
pub use store::{MemoryStore, Store};
#[cfg(feature = "coord-sqlite")]
pub use store::{SqliteOptions, SqliteStore};
