//! Locks that break deadlocks instead of hanging, after Python's `threading`; monitors and scopes, after python-safethread.
//!
//! | Python | here |
//! |---|---|
//! | `Lock()` | [`Lock`]; for data [`Mutex`] |
//! | `RLock()` | [`RLock`] |
//! | `Semaphore(n)`, `BoundedSemaphore(n)` | [`Semaphore::new`], [`Semaphore::bounded`] |
//! | `Event()` | [`Event`] |
//! | `Condition(lock)` | [`Condition`], over any of the locks |
//! | its `wait(timeout)`, `wait_for(f)` | [`Condition::wait_for`], [`Condition::wait_while`] not `f` |
//! | `Barrier(n, action, timeout)` | [`Barrier`] |
//! | `Thread(target=f).start()`, `join()` | [`spawn()`], [`JoinHandle::join`] |
//! | none | [`RwLock`]; [`Semaphore::tracked`], which knows who has its permits |
//!
//! | python-safethread | here |
//! |---|---|
//! | `Monitor`, `@monitormethod` | [`Monitor`], [`Monitor::enter`] |
//! | `@condition`, `wait(condition)` | [`MonitorGuard::wait_while`] not that |
//! | `wait(monitor, func)` | [`MonitorGuard::unlocked`] |
//! | `branch()`, its `add`, `addresult`, `getresults` | [`scope()`], [`Scope::spawn`], what it returns |
//! | `Cancelled`, `SoftDeadlockError`, `MultipleError` | [`Cancelled`], [`AcquireError::Deadlock`], [`ScopeError`] |
//! | `__finalize__`, `bind` | [`finalize`](crate::finalize) |
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
//! if lock.acquire(timeout=0.5):
//!     try:
//!         ...
//!     finally:
//!         lock.release()
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::sync::{AcquireError, Mutex};
//! # use std::time::Duration;
//! # let lock = Mutex::new(());
//! match lock.try_lock_for(Duration::from_millis(500)) {
//!     Ok(guard) => { /* … */ }
//!     Err(AcquireError::TimedOut) => {}
//!     Err(error) => return Err(error),
//! }
//! # Ok::<_, AcquireError>(())
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
//! </td></tr><tr><td>
//!
//! ```python
//! items, changed = [], threading.Condition()
//!
//! with changed:
//!     changed.wait_for(lambda: items)
//!     item = items.pop()
//!
//! with changed:
//!     items.append(5)
//!     changed.notify()
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::sync::{Condition, Mutex, WaitError};
//! let (items, changed) = (Mutex::new(vec![]), Condition::new());
//! # items.lock()?.push(4);
//!
//! let guard = items.lock()?;
//! let mut guard = changed.wait_while(guard, |items| items.is_empty())?;
//! let item = guard.pop();
//! # drop(guard);
//!
//! let mut guard = items.lock()?;
//! guard.push(5);
//! changed.notify_one(&guard)?;
//! # Ok::<_, WaitError>(())
//! ```
//!
//! </td></tr><tr><td>
//!
//! ```python
//! connections = threading.BoundedSemaphore(10)
//! with connections:
//!     ...
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::sync::Semaphore;
//! static CONNECTIONS: Semaphore = Semaphore::bounded(10);
//! let connection = CONNECTIONS.acquire()?;
//! # Ok::<_, hapax::sync::AcquireError>(())
//! ```
//!
//! </td></tr><tr><td>
//!
//! ```python
//! stop = threading.Event()
//!
//! def work():
//!     while not stop.wait(timeout=1):
//!         ...
//!
//! worker = threading.Thread(target=work)
//! worker.start()
//! stop.set()
//! worker.join()
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::sync::{Event, spawn};
//! # use std::time::Duration;
//! static STOP: Event = Event::new();
//!
//! fn work() {
//!     while STOP.wait_for(Duration::from_secs(1)) == Ok(false) { /* … */ }
//! }
//!
//! let worker = spawn(work)?;
//! STOP.set();
//! worker.join().unwrap();
//! # Ok::<_, std::io::Error>(())
//! ```
//!
//! </td></tr></table>
//!
//! # python-safethread, and here
//!
//! <table>
//! <tr><td>
//!
//! ```python
//! class Queue(Monitor):
//!     __shared__ = True
//!
//!     def __init__(self):
//!         self.items = []
//!
//!     @monitormethod
//!     def put(self, item):
//!         self.items.append(item)
//!
//!     @condition
//!     def filled(self):
//!         return len(self.items) > 0
//!
//!     @monitormethod
//!     def get(self):
//!         wait(self.filled)
//!         return self.items.pop(0)
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::sync::{AcquireError, Monitor};
//! # use std::collections::VecDeque;
//! #[derive(Default)]
//! struct Queue {
//!     items: Monitor<VecDeque<u32>>,
//! }
//!
//! impl Queue {
//!     fn put(&self, item: u32) -> Result<(), AcquireError> {
//!         self.items.enter()?.push_back(item);
//!         Ok(())
//!     }
//!
//!     fn get(&self) -> Result<u32, AcquireError> {
//!         let items = self.items.enter()?;
//!         let mut items = items.wait_while(|items| items.is_empty())?;
//!         Ok(items.pop_front().expect("that was waited for"))
//!     }
//! }
//! # let queue = Queue::default();
//! # queue.put(5)?;
//! # assert_eq!(queue.get(), Ok(5));
//! # Ok::<_, AcquireError>(())
//! ```
//!
//! </td></tr><tr><td>
//!
//! ```python
//! @monitormethod
//! def read(self):
//!     line = wait(self, self.file.readline)
//!     self.lines.append(line)
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::sync::{AcquireError, Monitor};
//! # let (lines, readline) = (Monitor::new(vec![]), || String::new());
//! let inside = lines.enter()?;
//! let (line, inside) = inside.unlocked(|| readline());
//! inside?.push(line);
//! # Ok::<_, AcquireError>(())
//! ```
//!
//! </td></tr><tr><td>
//!
//! ```python
//! with branch() as children:
//!     for url in urls:
//!         children.addresult(fetch, url)
//! pages = children.getresults()
//! ```
//!
//! </td><td>
//!
//! ```
//! # use hapax::sync::scope;
//! # fn fetch(url: &str) -> std::io::Result<String> { Ok(url.to_owned()) }
//! # let urls = ["alpha", "beta"];
//! let pages = scope(|children| {
//!     for url in urls {
//!         children.spawn(move || Ok(fetch(url)?));
//!     }
//!     Ok(())
//! })?;
//! # assert_eq!(pages, ["alpha", "beta"]);
//! # Ok::<_, hapax::sync::BoxError>(())
//! ```
//!
//! </td></tr></table>
//!
//! # Deadlocks
//!
//! A thread that waits for a [`Mutex`], an [`RLock`], a [`Lock::owned`], a [`Monitor`], a writer of an [`RwLock`],
//! permits of a [`Semaphore::tracked`], the end of a thread that was [spawned](spawn()) here, or the children of a
//! [`scope()`], without a time limit, looks where that would lead: for locks and permits after a millisecond
//! ([`deadlock::set_check_after`]), otherwise at once. If the wait would never end, because of the holder's own wait,
//! and that of whoever holds what that one waits for, up to this thread, the call returns [`AcquireError::Deadlock`]
//! with a [report](DeadlockReport), and the others go on as soon as this thread lets go of what they want. (A scope
//! can't return before its children are done: it fails with that error, and cancels them.) Exactly one thread of a
//! circle (a cycle of the wait-for graph) gets that error: the one that would have closed it, or, where a thread has
//! closed it by ending with permits that it leaked, one that waits for those. None is missed, and there are no false
//! alarms; `src/sync/deadlock/graph.rs` says why, and [docs/SYNC.md] what was seen.
//!
//! Not seen are waits with a time limit, which end by themselves; waits for readers, events, conditions, also those of
//! a monitor, barriers, ordinary semaphores, an unowned [`Lock`], which anybody may release; what tasks wait for;
//! locks of other libraries, channels and joins of `std`, unless [`deadlock::blocking_on`] names the threads; and what
//! threads hold or wait for whose thread-locals are being destroyed. When a wait for a [`Condition`] is over, to take
//! the lock again is a wait as any other.
//!
//! [docs/SYNC.md]: https://docs.rs/crate/hapax/latest/source/docs/SYNC.md
//!
//! # Holders that end
//!
//! A thread that ends while it holds a [`Mutex`], an [`RLock`], a [`Lock::owned`], a [`Monitor`], or an [`RwLock`] for
//! writing, because a guard was forgotten or leaked, makes all waits for it end with [`AcquireError::OwnerDied`],
//! those that have begun before and those to come. A panic gives locks back as it passes their guards, and poisons
//! nothing.
//!
//! A thread ends, for this, when its thread-locals are destroyed. A guard that lies in a thread-local may be dropped
//! after that: if nobody has waited for the lock it is given back, otherwise the lock stays out of use. What a thread
//! takes only then, and leaks, nobody learns of.
//!
//! # Cancelled threads
//!
//! When something fails in a [`scope()`] the threads in it are *cancelled*: a wait of theirs ends with [`Cancelled`],
//! [`AcquireError::Cancelled`], or what the error of its kind has for that, also one with a time limit, and the lock
//! or the guard that it would have come with isn't there. That is why a wait for an [`Event`] returns a `Result`.
//! [`sleep()`] is a sleep that can be cancelled, [`check_cancelled`] is for who doesn't wait. Threads that aren't in a
//! scope are never cancelled.
//!
//! # Blocking
//!
//! `lock`, `read`, `write`, `enter`, `acquire`, `wait` and `join` block the thread, and so do [`sleep()`],
//! [`scope()`], [`deadlock::retry`] and [`deadlock::blocking_on`]. The forms with a time limit don't block for longer
//! than that, except that a [`Condition`] takes its lock again, a wait in a [`Monitor`] enters again, and a
//! [`Barrier`] runs its action, without a limit. Everything else doesn't block, but for a moment.
//!
//! Tasks don't block: [`Event::wait_async`], [`Semaphore::acquire_async`] and [`Condition::notified`] work on any
//! executor, stand in the same queues as threads, and lose nothing when they are dropped. A guard of data stays on its
//! thread, so it can't be kept across an `await`.
//!
//! [`Semaphore::new`] and [`Semaphore::bounded`] serve those who wait in the order in which they came; of the barging
//! and the tracked ones who wants many permits may be passed by others. Conditions notify in the order in which waits
//! began. The locks are parking_lot's: who comes by may pass those who wait, but about every half millisecond the one
//! that has waited for longest gets the lock. A wait that lasts for a millisecond goes to the end of that queue when
//! it is looked at for deadlocks, and that of a thread in a scope each time that this looks whether it is cancelled.
//!
//! A global allocator can't use any of this: it allocates.

mod barrier;
mod cancel;
mod condition;
pub mod deadlock;
mod error;
mod event;
#[cfg(not(loom))]
mod failure;
mod lock;
mod monitor;
mod mutex;
mod owned;
mod patience;
mod primitive;
mod rlock;
mod rwlock;
// loom has no threads that borrow.
#[cfg(not(loom))]
mod scope;
mod semaphore;
mod spawn;
mod thread;
mod tracked;
mod waiter;

#[cfg(loom)]
pub(crate) use cancel::{Token, Within};
#[cfg(any(loom, shuttle))]
pub(crate) use thread::tell_end;

#[cfg(not(loom))]
pub use crate::finalize::BoxError;
pub use crate::panic::Panic;
pub use barrier::{Barrier, BarrierError};
pub use cancel::{Cancelled, check_cancelled, sleep};
pub use condition::{Condition, ConditionGuard, Notified, WaitTimeoutResult};
pub use deadlock::DeadlockReport;
pub use error::{AcquireError, ReleaseError, WaitError};
pub use event::Event;
#[cfg(not(loom))]
pub use failure::{Failure, ScopeError};
pub use lock::{Lock, LockGuard};
pub use monitor::{Monitor, MonitorGuard};
pub use mutex::{ArcMutexGuard, MappedMutexGuard, Mutex, MutexGuard};
pub use rlock::{RLock, RLockGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(loom))]
pub use scope::{Scope, scope};
pub use semaphore::{OwnedPermit, Permit, Semaphore};
pub use spawn::{JoinError, JoinHandle, spawn, spawn_with};
pub use thread::ThreadKey;
pub use tracked::{TrackedPermit, TrackedSemaphore};
