//! parking_lot's locks, and threads of the system.

use std::time::Instant;

use parking_lot::lock_api::{
    RawMutex as _, RawMutexTimed as _, RawRwLock as _, RawRwLockTimed as _,
};

use super::{Raw, Shared};

pub(in crate::sync) struct RawMutex(parking_lot::RawMutex);

impl RawMutex {
    pub(in crate::sync) const fn new() -> Self {
        Self(parking_lot::RawMutex::INIT)
    }
}

impl Raw for RawMutex {
    #[inline]
    fn try_lock(&self) -> bool {
        self.0.try_lock()
    }

    fn lock(&self, until: Option<Instant>) -> bool {
        match until {
            Some(end) => self.0.try_lock_until(end),
            None => {
                self.0.lock();
                true
            }
        }
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: as for the caller; parking_lot doesn't ask which thread unlocks.
        unsafe { self.0.unlock() };
    }
}

pub(in crate::sync) struct RawRwLock(parking_lot::RawRwLock);

impl RawRwLock {
    pub(in crate::sync) const fn new() -> Self {
        Self(parking_lot::RawRwLock::INIT)
    }
}

impl Raw for RawRwLock {
    #[inline]
    fn try_lock(&self) -> bool {
        self.0.try_lock_exclusive()
    }

    fn lock(&self, until: Option<Instant>) -> bool {
        match until {
            Some(end) => self.0.try_lock_exclusive_until(end),
            None => {
                self.0.lock_exclusive();
                true
            }
        }
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: as for the caller.
        unsafe { self.0.unlock_exclusive() };
    }
}

impl Raw for Shared<'_> {
    #[inline]
    fn try_lock(&self) -> bool {
        self.0.0.try_lock_shared()
    }

    fn lock(&self, until: Option<Instant>) -> bool {
        match until {
            Some(end) => self.0.0.try_lock_shared_until(end),
            None => {
                self.0.0.lock_shared();
                true
            }
        }
    }

    fn is_locked(&self) -> bool {
        self.0.0.is_locked_exclusive()
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: as for the caller.
        unsafe { self.0.0.unlock_shared() };
    }
}
