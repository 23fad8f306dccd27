//! A small number for each thread, which no other thread has at the same time.
//!
//! What threads write apart from each other lies in arrays with one place for each number. Whoever has the number
//! owns the place, and writes it without a read-modify-write. A thread takes the least free number when it first
//! needs one, and gives it back when it ends; its next owner goes on from what was written there. There are only
//! so many numbers: threads that get none, and those that are ending, share one place.

use std::cell::Cell;

use super::primitive::{AtomicU64, Ordering, global, local};

/// How many threads can have a number at the same time.
pub(super) const SLOTS: usize = if cfg!(loom) {
    2
} else if cfg!(shuttle) {
    4
} else {
    64
};

/// No number yet.
const UNKNOWN: usize = usize::MAX;
/// No number any more, or none was left.
const NONE: usize = usize::MAX - 1;

// A bit for each number that somebody has.
global! { fn taken() -> AtomicU64 = AtomicU64::new(0) }

// Without a destructor, so that in most places it works while thread-locals are destroyed.
local! { static SLOT: Cell<usize> = Cell::new(UNKNOWN) }

/// The number, for when the thread ends. loom's threads do that by `end_thread`.
#[cfg(not(loom))]
struct Return(Cell<usize>);

#[cfg(not(loom))]
impl Drop for Return {
    fn drop(&mut self) {
        let _ = SLOT.try_with(|slot| slot.set(NONE));
        give_back(self.0.get());
    }
}

#[cfg(not(loom))]
local! { static RETURN: Return = Return(Cell::new(NONE)) }

/// The number of the calling thread.
#[inline]
pub(super) fn slot() -> Option<usize> {
    match SLOT.try_with(Cell::get) {
        Ok(known) if known < SLOTS => Some(known),
        Ok(UNKNOWN) => take(),
        _ => None,
    }
}

#[cold]
fn take() -> Option<usize> {
    // Whoever gets none now doesn't ask again.
    SLOT.with(|slot| slot.set(NONE));
    // While thread-locals are destroyed, nobody would give it back.
    #[cfg(not(loom))]
    RETURN.try_with(|_| ()).ok()?;
    // Relaxed: the compare-exchange decides.
    let mut seen = taken().load(Ordering::Relaxed);
    loop {
        let free = seen.trailing_ones() as usize;
        if free >= SLOTS {
            return None;
        }
        // Acquire: pairs with the Release in `give_back`; what the number's last owner wrote is where this one
        // goes on. Relaxed on failure: the value is only compared.
        match taken().compare_exchange_weak(
            seen,
            seen | 1 << free,
            Ordering::Acquire,
            Ordering::Relaxed,
        ) {
            Ok(_) => {
                SLOT.with(|slot| slot.set(free));
                #[cfg(not(loom))]
                RETURN.with(|number| number.0.set(free));
                return Some(free);
            }
            Err(now) => seen = now,
        }
    }
}

/// Takes a number before there is a need.
#[cfg(loom)]
pub(crate) fn begin_thread() {
    slot();
}

/// What thread exit does outside of models.
#[cfg(loom)]
pub(super) fn end_thread() {
    give_back(SLOT.with(|slot| slot.replace(NONE)));
}

fn give_back(number: usize) {
    if number < SLOTS {
        // Release: pairs with the Acquire in `take`.
        taken().fetch_and(!(1 << number), Ordering::Release);
    }
}
