//! What `sync` blocks with: the switch between parking_lot (`parking.rs`), for users, and what loom and shuttle can look
//! into (`checker.rs`). Atomics, plain locks and time come from `table::primitive`, the other switch.

use std::time::Instant;

pub(super) use crate::table::primitive::Parker;

#[cfg(not(any(loom, shuttle)))]
mod parking;
#[cfg(not(any(loom, shuttle)))]
pub(super) use self::parking::*;

#[cfg(any(loom, shuttle))]
mod checker;
#[cfg(any(loom, shuttle))]
pub(super) use self::checker::*;

/// A lock that doesn't know who holds it.
pub(super) trait Raw {
    fn try_lock(&self) -> bool;

    /// Waits for the lock, at most until a moment. Whether the lock is held now.
    fn lock(&self, until: Option<Instant>) -> bool;

    fn is_locked(&self) -> bool;

    /// # Safety
    ///
    /// The lock is held, on behalf of the caller. Any thread may call it.
    unsafe fn unlock(&self);
}

/// How a [`RawRwLock`] is shared.
pub(super) struct Shared<'a>(pub(super) &'a RawRwLock);
