//! Locks that break deadlocks instead of hanging, after Python's `threading`.
//!
//! | Python | here |
//! |---|---|
//! | `Lock()` | [`Lock`]; for data [`Mutex`] |
//! | `RLock()` | [`RLock`] |
//! | `Semaphore(n)`, `BoundedSemaphore(n)` | [`Semaphore::new`], [`Semaphore::bounded`] |
//! | `Event()` | [`Event`] |
//!
//! # Python, and here
//!
//! <table>
//! <tr><td>
//!
//! ```python
//! lock = threading.Lock()
//! with lock:
//!     count += 1
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::sync::Mutex;
//! let count = Mutex::new(0);
//! *count.lock()? += 1;
//! # Ok::<_, hapax::sync::AcquireError>(())
//! ```
//!
//! </td></tr><tr><td>
//!
//! ```python
//! a, b = threading.Lock(), threading.Lock()
//!
//! def first():
//!     with a:
//!         with b:
//!             ...
//!
//! def second():
//!     with b:
//!         with a:  # hangs for ever, sometimes
//!             ...
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::sync::{Mutex, deadlock};
//! let (a, b) = (Mutex::new(5), Mutex::new(0));
//!
//! let first = || deadlock::retry(|| {
//!     let (mut a, mut b) = (a.lock()?, b.lock()?);
//!     Ok(*b += std::mem::take(&mut *a))
//! });
//!
//! let second = || deadlock::retry(|| {
//!     let (mut b, mut a) = (b.lock()?, a.lock()?);
//!     Ok(*a += std::mem::take(&mut *b))
//! });
//! # std::thread::scope(|scope| {
//! #     scope.spawn(|| first().unwrap());
//! #     scope.spawn(|| second().unwrap());
//! # });
//! # assert_eq!(a.into_inner() + b.into_inner(), 5);
//! ```
//!
//! </td></tr></table>
//!
//! # Deadlocks
//!
//! A thread that waits for a [`Mutex`], an [`RLock`] or a [`Lock::owned`] without a time limit looks where it would
//! lead, after a millisecond ([`deadlock::set_check_after`]). If the wait would never end, because of the holder's own
//! wait, and that of whoever holds what that one waits for, up to this thread, the call returns
//! [`AcquireError::Deadlock`] with a [report](DeadlockReport), and the others go on as soon as this thread lets go of what
//! they want. Exactly one thread of a circle gets that error: the one that would have closed it. None is missed, and
//! there are no false alarms; `src/sync/deadlock.rs` says why.
//!
//! Not seen are waits with a time limit, which end by themselves; events, semaphores, locks of other libraries, channels and joins; an
//! unowned [`Lock`], which anybody may release; and what threads hold or wait for whose thread-locals are being
//! destroyed.
//!
//! # Holders that end
//!
//! A thread that ends while it holds a [`Mutex`], an [`RLock`] or a [`Lock::owned`], because a guard was forgotten or
//! leaked, makes all waits for it end with [`AcquireError::OwnerDied`], those that have begun before and those to come.
//! A panic gives locks back as it passes their guards, and poisons nothing.
//!
//! A thread ends, for this, when its thread-locals are destroyed. A guard that lies in a thread-local may be dropped after
//! that: if nobody has waited for the lock it is given back, otherwise the lock stays out of use. What a thread takes only
//! then, and leaks, nobody learns of.
//!
//! # Blocking
//!
//! `lock` blocks the thread until the lock is free, [`Event::wait`] until the event is set, [`Semaphore::acquire`] until there is a permit, `try_lock_for` and
//! `try_lock_until` until the time is over. `try_lock` and everything else doesn't block, but for a moment at a thread's
//! first lock. A global allocator can't use these locks: they allocate. Fairness is parking_lot's: somebody who comes may pass those who wait, but not for
//! longer than half a millisecond.

pub mod deadlock;
mod error;
mod event;
mod lock;
mod mutex;
mod owned;
mod patience;
mod rlock;
mod semaphore;
mod thread;

pub use deadlock::DeadlockReport;
pub use error::{AcquireError, ReleaseError};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use mutex::{Mutex, MutexGuard};
pub use rlock::{RLock, RLockGuard};
pub use semaphore::{OwnedPermit, Permit, Semaphore};
pub use thread::ThreadKey;
