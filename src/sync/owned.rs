//! A lock that knows which thread holds it: what `Mutex`, `RLock` and `Lock::owned` have in common.
//!
//! parking_lot's `RawMutex` does the locking. Beside it is one word that names the owner:
//!
//! ```text
//! owner            | raw      | meaning                                   | left by
//! 0                | free     | free                                      | who locks
//! 0                | held     | just locked, or about to be unlocked      | the same thread
//! a thread         | held     | held by it                                | its unlock; its end, to DIED
//! LATE | a thread  | held     | held by a thread whose thread-locals are  | its unlock
//!                  |          | being destroyed                           |
//! DIED | a thread  | any      | its owner has ended: for ever out of use  | exclusive access
//! ```
//!
//! # Steps
//!
//! - *Lock*: the raw lock, then the owner. If that is there already, it has died: the raw lock is given back, so that
//!   the next one who waits learns it too.
//! - *Unlock*: the owner to 0, then the raw lock. Who reads 0 takes the lock for one whose holder is running.
//! - *Wait*: for `check_after` without more ado, since most waits are over by then. Then the thread asks the graph,
//!   which registers the wait in the same critical section, or refuses it (see `deadlock`). Then it parks, for good or
//!   until its time is over. Before it returns it is taken off the graph.
//! - *The end of an owner*: under the graph's lock, for each registered wait on something that the thread still owns:
//!   DIED, then the raw unlock. A wait that isn't registered yet finds out when it is to be.
//!
//! A guard may be dropped later than its thread's end was told: by a thread-local that is destroyed last. That unlock
//! and the change to DIED each are a compare-exchange of the owner, and whoever wins gives the raw lock back.
//!
//! # Orderings
//!
//! The owner is Relaxed throughout. What the lock protects is ordered by the raw lock. What the graph's walks read is
//! ordered by the graph's lock: a thread that is registered has stored its name in all that it owns before, and can't
//! take it out before it is taken off. DIED is stored before the raw unlock that lets others see it.

use std::time::Instant;

use parking_lot::RawMutex;
use parking_lot::lock_api::{RawMutex as _, RawMutexTimed as _};

use super::deadlock::{Refused, check_after, graph};
use super::patience::Patience;
use super::thread::{LATE, me};
use super::{AcquireError, ThreadKey};
use crate::table::primitive::{AtomicU64, Ordering::Relaxed};

/// The owner has ended.
const DIED: u64 = 1 << 63;

pub(super) struct Owned {
    raw: RawMutex,
    owner: AtomicU64,
    name: Option<&'static str>,
}

impl Owned {
    pub(super) const fn new(name: Option<&'static str>) -> Self {
        Self {
            raw: RawMutex::INIT,
            owner: AtomicU64::new(0),
            name,
        }
    }

    pub(super) fn name(&self) -> Option<&'static str> {
        self.name
    }

    /// Which thread holds it, if one does that can be named.
    pub(super) fn owner(&self) -> Option<u64> {
        let owner = self.owner.load(Relaxed);
        (owner != 0 && owner & (LATE | DIED) == 0).then_some(owner)
    }

    /// Which thread has ended while it held this.
    pub(super) fn dead_owner(&self) -> Option<u64> {
        let owner = self.owner.load(Relaxed);
        (owner & DIED != 0).then_some(owner & !DIED)
    }

    pub(super) fn is_locked(&self) -> bool {
        self.raw.is_locked() || self.dead_owner().is_some()
    }

    /// Whether the calling thread holds it.
    pub(super) fn is_mine(&self) -> bool {
        // Only this thread stores its own number, perhaps before its end was told, and perhaps after that.
        self.owner.load(Relaxed) & !LATE == me() & !LATE
    }

    #[inline]
    pub(super) fn lock(&self, patience: Patience) -> Result<(), AcquireError> {
        if self.raw.try_lock() {
            self.claim()
        } else {
            self.lock_slow(patience)
        }
    }

    /// This thread has got the raw lock.
    #[inline]
    fn claim(&self) -> Result<(), AcquireError> {
        if self.owner.load(Relaxed) != 0 {
            return self.claim_dead();
        }
        self.owner.store(me(), Relaxed);
        Ok(())
    }

    #[cold]
    fn claim_dead(&self) -> Result<(), AcquireError> {
        // SAFETY: we have just locked it.
        unsafe { self.raw.unlock() };
        let owner = self.dead_owner().expect("a free lock has no owner");
        Err(owner_died(owner))
    }

    #[cold]
    fn lock_slow(&self, patience: Patience) -> Result<(), AcquireError> {
        let me = me();
        if matches!(patience, Patience::Forever) && self.is_mine() {
            return Err(AcquireError::Deadlock(graph().wait_for_oneself(self)));
        }
        let now = Instant::now();
        // When to ask the graph, and when to give up.
        let (first, end) = match patience {
            // Not even the graph is asked: who tries may try often.
            Patience::None => return Err(self.dead_or(AcquireError::WouldBlock)),
            Patience::Until(end) => (end.min(now + check_after()), Some(end)),
            Patience::Forever => (now + check_after(), None),
        };
        if self.raw.try_lock_until(first) {
            return self.claim();
        }
        if end == Some(first) {
            return Err(match graph().dead_owner(self) {
                Some(owner) => owner_died(owner),
                None => AcquireError::TimedOut,
            });
        }
        // What a late thread holds others take for held by nobody, so its wait can't be part of a circle.
        let ends_by_itself = end.is_some() || me & LATE != 0;
        let wait = match graph().register(me & !LATE, self, ends_by_itself) {
            Ok(wait) => wait,
            Err(Refused::Deadlock(report)) => return Err(AcquireError::Deadlock(report)),
            Err(Refused::OwnerDied(owner)) => return Err(owner_died(owner)),
        };
        let locked = match end {
            Some(end) => self.raw.try_lock_until(end),
            None => {
                self.raw.lock();
                true
            }
        };
        let answer = if locked {
            self.claim()
        } else {
            Err(self.dead_or(AcquireError::TimedOut))
        };
        drop(wait);
        answer
    }

    /// The error, unless it is known that the owner has ended.
    fn dead_or(&self, error: AcquireError) -> AcquireError {
        self.dead_owner().map_or(error, owner_died)
    }

    /// Locks it for nobody: it has no owner then, and nothing is checked.
    pub(super) fn lock_for_nobody(&self, patience: Patience) -> Result<(), AcquireError> {
        if self.raw.try_lock() {
            return Ok(());
        }
        match patience {
            Patience::None => Err(AcquireError::WouldBlock),
            Patience::Until(end) if !self.raw.try_lock_until(end) => Err(AcquireError::TimedOut),
            Patience::Until(_) => Ok(()),
            Patience::Forever => {
                self.raw.lock();
                Ok(())
            }
        }
    }

    /// # Safety
    ///
    /// It was locked for nobody, and hasn't been unlocked since.
    pub(super) unsafe fn unlock_for_nobody(&self) {
        // SAFETY: as for the caller. parking_lot's raw lock doesn't ask which thread unlocks.
        unsafe { self.raw.unlock() };
    }

    /// # Safety
    ///
    /// The calling thread has locked it, and hasn't unlocked it since.
    #[inline]
    pub(super) unsafe fn unlock(&self) {
        if self.owner.load(Relaxed) == me() {
            self.owner.store(0, Relaxed);
            // SAFETY: as for the caller; the owner hasn't died, and nobody else unlocks what has a living one.
            unsafe { self.raw.unlock() };
        } else {
            self.unlock_late();
        }
    }

    /// The thread's end was told in the meantime.
    #[cold]
    fn unlock_late(&self) {
        let owner = self.owner.load(Relaxed);
        let living = owner & DIED == 0;
        if living
            && self
                .owner
                .compare_exchange(owner, 0, Relaxed, Relaxed)
                .is_ok()
        {
            // SAFETY: it was locked by this thread, and nobody has given it up in its place.
            unsafe { self.raw.unlock() };
        }
    }

    /// Gives the lock up in the place of a thread that has ended.
    pub(super) fn abandon(&self, dead: u64) {
        let died = self
            .owner
            .compare_exchange(dead, DIED | dead, Relaxed, Relaxed);
        if died.is_ok() {
            // SAFETY: the thread had locked it, and won't unlock it any more: it would find DIED. parking_lot's raw
            // lock doesn't ask which thread unlocks.
            unsafe { self.raw.unlock() };
        }
    }
}

fn owner_died(owner: u64) -> AcquireError {
    AcquireError::OwnerDied {
        owner: ThreadKey::of(owner),
    }
}
