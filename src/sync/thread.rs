//! Who holds a lock: threads, told apart by numbers that are never used again.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;

use super::deadlock::{begin_thread, end_thread};
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

    pub(crate) fn number(self) -> u64 {
        self.0.get()
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

/// Tells the graph when the thread of that number ends.
struct End(Cell<u64>);

local! { static END: End = End(Cell::new(0)) }

/// The number under which the calling thread holds locks, perhaps with `LATE`.
#[inline]
pub(super) fn me() -> u64 {
    match ME.try_with(Cell::get) {
        Ok(0) => introduce(),
        Ok(known) => known,
        Err(_) => LATE | thread_number(),
    }
}

/// Registers the thread with the graph, at its first call.
#[cold]
fn introduce() -> u64 {
    let number = thread_number();
    let me = match END.try_with(|end| end.0.set(number)) {
        Ok(()) => {
            let name = std::thread::current().name().map(str::to_owned);
            begin_thread(number, name);
            number
        }
        Err(_) => LATE | number,
    };
    let _ = ME.try_with(|cell| cell.set(me));
    me
}

impl End {
    fn tell(&self) {
        let number = self.0.take();
        // Told before, or there is nothing to tell.
        if number != 0 {
            let _ = ME.try_with(|cell| cell.set(LATE | number));
            end_thread(number);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Tells the end of the calling thread, which takes no locks any more. A checker may take its statics away before the
/// thread-locals.
#[cfg(any(loom, shuttle))]
pub(crate) fn tell_end() {
    END.with(End::tell);
}
