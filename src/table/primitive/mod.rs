//! The only switch between `std` and the checkers that run the table: loom and shuttle.
//!
//! All loads, stores and read-modify-writes of the table go through the names of this module, so that the
//! models of `loom-tests` and the scenarios of `shuttle-tests` run the very code that users run. Where a
//! checker has no counterpart (`AtomicPtr::fetch_or`, arc-swap, parking_lot, constant constructors, statics)
//! the difference is hidden here as well. Each backend is one file:
//!
//! | file | for |
//! |---|---|
//! | `std.rs` | users |
//! | `loom.rs` | `--cfg loom`: every interleaving of two or three threads, weak memory |
//! | `shuttle.rs` | `--cfg shuttle`: random schedules of many threads, all orderings as if `SeqCst` |
//! | `checker.rs` | what the two checkers have in common, time among it |
//!
//! `parker.rs` is made of these names.

pub(crate) use core::sync::atomic::Ordering;

#[cfg(not(any(loom, shuttle)))]
mod std;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use self::std::*;

#[cfg(loom)]
mod loom;
#[cfg(loom)]
pub(crate) use self::loom::*;

#[cfg(shuttle)]
mod shuttle;
#[cfg(shuttle)]
pub(crate) use self::shuttle::*;

mod parker;
pub(crate) use self::parker::Parker;

#[cfg(any(loom, shuttle))]
mod checker;
#[cfg(any(loom, shuttle))]
pub(crate) use self::checker::*;

#[cfg(all(loom, not(feature = "loom")))]
compile_error!("`--cfg loom` needs the `loom` feature of this crate");
#[cfg(all(shuttle, not(feature = "shuttle")))]
compile_error!("`--cfg shuttle` needs the `shuttle` feature of this crate");
#[cfg(all(loom, shuttle))]
compile_error!("`--cfg loom` and `--cfg shuttle` exclude each other");

/// Defines a constructor that is `const`, except under loom, whose atomics have no constant ones.
macro_rules! maybe_const_fn {
    ($(#[$attr:meta])* $vis:vis const fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$attr])* $vis const fn $($rest)*

        #[cfg(loom)]
        $(#[$attr])* $vis fn $($rest)*
    };
}
pub(crate) use maybe_const_fn;

/// Types for which zeroed memory is a value.
///
/// # Safety
///
/// All-zero bytes are a valid value that needs no destructor, and the type has a size.
pub(crate) unsafe trait Zeroed {
    fn zeroed() -> Self;
}

/// As `OnceCell::get_or_init`, for what the allocator may ask for as well while it is being made: who is done first
/// has made it.
pub(crate) fn get_or_make<T>(cell: &core::cell::OnceCell<T>, make: impl FnOnce() -> T) -> &T {
    if cell.get().is_none() {
        let _ = cell.set(make());
    }
    cell.get().expect("it was made")
}

global! { fn threads() -> AtomicU64 = AtomicU64::new(1) }
local! { static NUMBER: core::cell::Cell<u64> = core::cell::Cell::new(0) }

/// A number for the calling thread: never 0, never used again.
#[inline]
pub(crate) fn thread_number() -> u64 {
    NUMBER.with(|number| match number.get() {
        0 => {
            number.set(new_thread_number());
            number.get()
        }
        known => known,
    })
}

/// A number for a thread that is about to begin.
pub(crate) fn new_thread_number() -> u64 {
    // Relaxed: each caller gets another number, that is all.
    threads().fetch_add(1, Ordering::Relaxed)
}

/// Gives the calling thread its number, before it does anything else.
pub(crate) fn become_thread(number: u64) {
    NUMBER.with(|known| known.set(number));
}
