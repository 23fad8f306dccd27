//! Who holds a lock: threads, told apart by numbers that are never used again.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;

use super::deadlock::graph;
use crate::table::primitive::{local, thread_number};

/// A thread, as errors and reports name it. No two threads of a process ever have the same.
///
/// # Examples
///
/// ```
/// use hapax::sync::ThreadKey;
///
/// let other = std::thread::spawn(ThreadKey::current).join().unwrap();
/// assert_ne!(other, ThreadKey::current());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadKey(NonZeroU64);

impl ThreadKey {
    /// The calling thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::sync::ThreadKey;
    ///
    /// assert_eq!(ThreadKey::current(), ThreadKey::current());
    /// ```
    pub fn current() -> Self {
        Self::of(thread_number())
    }

    pub(super) fn of(number: u64) -> Self {
        Self(NonZeroU64::new(number).expect("threads are counted from 1"))
    }
}

impl fmt::Debug for ThreadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadKey({})", self.0)
    }
}

impl fmt::Display for ThreadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Beside a thread's number when its end has been told, while its thread-locals are being destroyed: nobody could say
/// any more when it is gone, so it is no owner that others may rely on.
pub(super) const LATE: u64 = 1 << 62;

// Without a destructor, so that it works while thread-locals are destroyed.
local! { static ME: Cell<u64> = Cell::new(0) }

/// Tells the graph when the thread ends.
struct End;

local! { static END: End = End }

/// By what the calling thread holds locks: its number, perhaps with `LATE`.
#[inline]
pub(super) fn me() -> u64 {
    match ME.try_with(Cell::get) {
        Ok(0) => introduce(),
        Ok(known) => known,
        Err(_) => LATE | thread_number(),
    }
}

/// The first lock of a thread.
#[cold]
fn introduce() -> u64 {
    let me = match END.try_with(|_| ()) {
        Ok(()) => {
            let me = thread_number();
            let name = std::thread::current().name().map(str::to_owned);
            graph().begin_thread(me, name);
            me
        }
        Err(_) => LATE | thread_number(),
    };
    let _ = ME.try_with(|cell| cell.set(me));
    me
}

impl Drop for End {
    fn drop(&mut self) {
        let me = thread_number();
        let _ = ME.try_with(|cell| cell.set(LATE | me));
        graph().end_thread(me);
    }
}
