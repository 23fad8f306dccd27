//! Locks, semaphores, rate limits and averages that span processes, after DiskCache's recipes.
//!
//! | DiskCache | here |
//! |---|---|
//! | `Cache(directory)`, for the recipes | [`SqliteStore`], a file for locks alone; [`RedisStore`], a server for many machines |
//! | `Lock(cache, key, expire, tag)` | [`Lock`], [`Lock::lease`], [`Lock::tag`] |
//! | `RLock(cache, key)` | [`RLock`] |
//! | `BoundedSemaphore(cache, key, value)` | [`Semaphore`] |
//! | `barrier(cache, lock)` | [`Lock::synchronized`] |
//! | `Averager(cache, key, expire, tag)` | [`Averager`] |
//! | `throttle(cache, count, seconds)` | [`RateLimiter`] |
//! | `memoize_stampede(cache, expire, beta)` | [`SingleFlight`], over a cache of the caller's |
//! | `cache.evict(tag)` | [`Store::evict`] |
//! | none | [`Lock::shared`], [`LockSet`], time limits, [`fencing_token`](LockGuard::fencing_token), [`lost`](LockGuard::lost), [`Store::list`], [`Store::force_unlock`] |
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
//! When the process that holds it ends, even by `kill -9`, the next one in the line gets it at once; from a Redis server,
//! which doesn't see that, when the lease ends. Waiters sleep, and are
//! served in the order in which they came, except that others may pass one for its first millisecond at the
//! head (five on a Redis server). A guard belongs to whoever has it, and can't give back what a successor holds.
//!
//! On a Redis server that is new, or was started again, the first grant comes half a minute late: others may still hold what
//! it has forgotten. [How long that lasts][grace] can be said.
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
//! limit are never part of one: they end by themselves. Who needs several locks at once takes them by a [`LockSet`], in an
//! order that everybody keeps.
//!
//! # What stays
//!
//! Rate limits and averages belong to nobody: they are in the store when all processes have ended, and after a boot. So a
//! [`RateLimiter`] doesn't let a full burst by whenever a program starts, and an [`Averager`] goes on where it was. Who waits for
//! a limit takes a permit in advance and sleeps until that comes in. They are told by the wall clock; if that is set back, nobody
//! waits longer for it.
//!
//! A [`SingleFlight`] keeps nothing but how long a computation takes. The value is wherever the caller puts it; what is here
//! is that one computes it, and the others wait, or take the old one.
//!
//! ```
//! use hapax::coord::{CoordError, MemoryStore, RateLimiter};
//! use std::time::Duration;
//!
//! let store = MemoryStore::new();
//! // A hundred calls a minute, of all processes together.
//! let calls = RateLimiter::new(&store, "calls", 100, Duration::from_secs(60));
//! match calls.try_acquire() {
//!     Ok(()) => println!("call"),
//!     Err(CoordError::RateLimited { retry_after, .. }) => println!("not before {retry_after:?}"),
//!     Err(error) => return Err(error),
//! }
//! # Ok::<_, CoordError>(())
//! ```
//!
//! # Blocking, and what runs inside
//!
//! `lock` and `acquire` block the thread, and so does [`SingleFlight::get`], which calls code of the caller: to read while nothing
//! is held or the lock is, to compute while that is. All other calls, and the drop of a guard, take a short transaction or two: some 20 µs
//! each on a SQLite file, and each waits for others no longer than [its limit]; threads of a process take turns. On a Redis
//! server it is a request, which is tried again for [as long as it may]. No code of the caller runs inside of those. A guard that is
//! dropped while the store is busy, or full, is given back later by a thread of the store; [`release`](LockGuard::release) says
//! what happened. A process has one such thread for each store that it holds something in.
//!
//! Tasks don't block: [`Lock::lock_async`], [`Semaphore::acquire_async`] and [`RateLimiter::acquire_async`] work on any executor and lose nothing when they are
//! dropped; a second thread of the store stands in the queues for them.
//!
//! In a thread of a [`Scope`](crate::sync::Scope) that is cancelled, waits end with [`CoordError::Cancelled`] within a second.
//!
//! With the feature `tracing` there are events for what somebody may want to find in a log: a wait of more than a second, a
//! grant that is lost or was taken away, a store that was busy, and what is given back late.
//! Whoever listens to them, and the wakers of tasks, may panic: that ends nothing here.
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
    feature = "coord-redis",
    doc = "\n[as long as it may]: RedisOptions::busy_for\n[grace]: RedisOptions::grace"
)]
#![cfg_attr(
    not(feature = "coord-redis"),
    doc = "\n[as long as it may]: https://docs.rs/hapax/latest/hapax/coord/struct.RedisOptions.html\n[grace]: https://docs.rs/hapax/latest/hapax/coord/struct.RedisOptions.html\n[`RedisStore`]: https://docs.rs/hapax/latest/hapax/coord/struct.RedisStore.html"
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
#[cfg(feature = "coord-redis")]
pub use store::{RedisOptions, RedisStore};
#[cfg(feature = "coord-sqlite")]
pub use store::{SqliteOptions, SqliteStore};
