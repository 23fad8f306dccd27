//! A raw lock with an owner word: what `Mutex`, `RLock`, `Lock` and `RwLock` have in common. Readers, and holders of an unowned
//! `Lock`, leave the owner 0.
//!
//! A raw lock (of parking_lot) does the locking. Beside it is one word that names the owner:
//!
//! ```text
//! owner            | raw      | meaning                                   | next state made by
//! 0                | free     | free                                      | who locks
//! 0                | held     | just locked, or about to be unlocked      | the same thread
//! 0                | held     | by readers, or by an unowned `Lock`       | their unlock
//! a thread         | held     | held by it                                | its unlock, or it hands over; its end,
//!                  |          |                                           | to DIED
//! LATE | a thread  | held     | held by a thread whose thread-locals are  | its unlock
//!                  |          | being destroyed                           |
//! DIED | a thread  | any      | its owner has ended: for ever out of use  | nothing
//! ```
//!
//! # Steps
//!
//! - *Lock*: the raw lock, then the owner. If that is there already, it has died: the raw lock is given back, so that
//!   the next one who waits learns it too.
//! - *Unlock*: the owner to 0, then the raw lock. Who reads 0 takes the lock for one whose holder is running.
//! - *Hand over*: the owner to the next one, while the raw lock stays locked. That one sleeps elsewhere, and is told so.
//! - *Wait*: for `check_after` without more ado, since most waits are over by then. Then the thread asks the graph,
//!   which registers the wait in the same critical section, or refuses it (see `deadlock`). Then it parks, for good or
//!   until its time is over. Before it returns it is taken off the graph.
//! - *The end of an owner*: under the graph's lock, for each registered wait on something that the thread still owns:
//!   DIED, then the raw unlock. A wait that isn't registered yet finds out when it is to be.
//!
//! A guard may be dropped later than its thread's end was told: by a thread-local that is destroyed last. That unlock,
//! handing over, and the change to DIED each are a compare-exchange of the owner: whoever wins gives the raw lock back, or on.
//!
//! # Orderings
//!
//! The owner is Relaxed throughout. What the lock protects is ordered by the raw lock. What the graph's walks read is
//! ordered by the graph's lock: a thread that is registered has stored its name in all that it owns before, and can't
//! take it out before it is taken off. Who is handed a lock is told with Release and Acquire (see `waiter`). DIED is stored before
//! the raw unlock that lets others see it.

use super::AcquireError;
use super::cancel::{NoAnswer, lock_raw};
use super::deadlock::{Held, died, owner_died, wait_for_lock, wait_for_oneself};
use super::patience::Patience;
use super::primitive::{Raw, RawRwLock, Shared};
use super::thread::{LATE, me};
use crate::table::primitive::{AtomicU64, Ordering::Relaxed, maybe_const_fn};

/// The owner has ended.
const DIED: u64 = 1 << 63;

pub(super) struct Owned<R> {
    raw: R,
    owner: AtomicU64,
    name: Option<&'static str>,
}

impl<R> Owned<R> {
    maybe_const_fn! {
        pub(super) const fn new(raw: R, name: Option<&'static str>) -> Self {
            Self {
                raw,
                owner: AtomicU64::new(0),
                name,
            }
        }
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

    /// Whether the calling thread holds it.
    pub(super) fn is_mine(&self) -> bool {
        self.is_of(me())
    }

    /// Whether that thread holds it, which is the calling one.
    #[inline]
    pub(super) fn is_of(&self, me: u64) -> bool {
        // It is stored by this thread, perhaps before its end was told, and perhaps after that; or while it sleeps.
        self.owner.load(Relaxed) & !LATE == me & !LATE
    }

    /// The error, unless it is known that the owner has ended.
    fn dead_or(&self, error: AcquireError) -> AcquireError {
        self.dead_owner().map_or(error, died)
    }

    /// The error of a lock that was free and has an owner.
    fn death(&self) -> AcquireError {
        died(
            self.dead_owner()
                .expect("who is alive takes its name away first"),
        )
    }
}

impl<R: Raw + 'static> Owned<R> {
    pub(super) fn is_locked(&self) -> bool {
        self.raw.is_locked() || self.dead_owner().is_some()
    }

    #[inline]
    pub(super) fn lock(&self, patience: Patience) -> Result<(), AcquireError> {
        self.lock_as(me(), patience)
    }

    /// As [`lock`](Self::lock), for the calling thread, which knows what it is.
    #[inline]
    pub(super) fn lock_as(&self, me: u64, patience: Patience) -> Result<(), AcquireError> {
        if !self.raw.try_lock() {
            self.wait(&self.raw, patience)?;
        }
        self.claim(me)
    }

    /// This thread has got the raw lock.
    #[inline]
    fn claim(&self, me: u64) -> Result<(), AcquireError> {
        if self.owner.load(Relaxed) != 0 {
            return self.claim_dead();
        }
        self.owner.store(me, Relaxed);
        Ok(())
    }

    #[cold]
    fn claim_dead(&self) -> Result<(), AcquireError> {
        // SAFETY: we have just locked it.
        unsafe { self.raw.unlock() };
        Err(self.death())
    }

    /// Waits until the raw lock is held: in `way`, which is itself or, of a lock for readers and writers, how it is shared.
    #[cold]
    fn wait(&self, way: &impl Raw, patience: Patience) -> Result<(), AcquireError> {
        if matches!(patience, Patience::Forever) && self.is_mine() {
            return Err(wait_for_oneself(self));
        }
        if matches!(patience, Patience::None) {
            // Not even the graph is asked: who tries may try often.
            return Err(self.dead_or(AcquireError::WouldBlock));
        }
        let (look, end) = patience.look_and_end();
        match lock_raw(way, Some(look)) {
            Ok(()) => return Ok(()),
            Err(NoAnswer::Cancelled) => return Err(self.dead_or(AcquireError::Cancelled)),
            Err(NoAnswer::TimedOut) => {}
        }
        if end == Some(look) {
            return Err(owner_died(self).unwrap_or(AcquireError::TimedOut));
        }
        // SAFETY: we have a reference to it, and drop the registration here.
        let registered = unsafe { wait_for_lock(self, end.is_some()) }?;
        let answer = lock_raw(way, end);
        drop(registered);
        answer.map_err(|why| self.dead_or(why.into()))
    }

    /// Locks it for nobody: it has no owner then, and nothing is checked.
    pub(super) fn lock_for_nobody(&self, patience: Patience) -> Result<(), AcquireError> {
        if self.raw.try_lock() {
            return Ok(());
        }
        match patience {
            Patience::None => Err(AcquireError::WouldBlock),
            _ => lock_raw(&self.raw, patience.end()).map_err(AcquireError::from),
        }
    }

    /// # Safety
    ///
    /// It was locked for nobody, and hasn't been unlocked since.
    pub(super) unsafe fn unlock_for_nobody(&self) {
        // SAFETY: as for the caller.
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

    /// Makes another thread the owner, while the raw lock stays locked. Fails if the end of the calling one was told, and it
    /// is the owner no more: it is the one that has died then.
    ///
    /// # Safety
    ///
    /// As for `unlock`. From now on it is the other thread that has locked it.
    pub(super) unsafe fn hand_over(&self, to: u64) -> Result<(), u64> {
        let owner = self.owner.load(Relaxed);
        if owner & DIED == 0
            && self
                .owner
                .compare_exchange(owner, to, Relaxed, Relaxed)
                .is_ok()
        {
            return Ok(());
        }
        Err(self.dead_owner().expect("nobody else changes its name"))
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
}

impl<R: Raw + 'static> Held for Owned<R> {
    fn name(&self) -> Option<&'static str> {
        self.name
    }

    fn owner(&self) -> Option<u64> {
        self.owner()
    }

    fn dead_owner(&self) -> Option<u64> {
        self.dead_owner()
    }

    fn abandon(&self, dead: u64) {
        let died = self
            .owner
            .compare_exchange(dead, DIED | dead, Relaxed, Relaxed);
        if died.is_ok() {
            // SAFETY: the thread had locked it, and won't unlock it any more: it would find DIED.
            unsafe { self.raw.unlock() };
        }
    }
}

impl Owned<RawRwLock> {
    /// Shares the lock with others that do. They aren't known to the graph: a wait for them counts as one for a thread that
    /// runs.
    #[inline]
    pub(super) fn lock_shared(&self, patience: Patience) -> Result<(), AcquireError> {
        let shared = Shared(&self.raw);
        if !shared.try_lock() {
            self.wait(&shared, patience)?;
        }
        if self.owner.load(Relaxed) != 0 {
            return self.share_dead();
        }
        Ok(())
    }

    #[cold]
    fn share_dead(&self) -> Result<(), AcquireError> {
        // SAFETY: we have just got our share.
        unsafe { Shared(&self.raw).unlock() };
        Err(self.death())
    }

    /// # Safety
    ///
    /// The caller has a share, and gives it back once.
    #[inline]
    pub(super) unsafe fn unlock_shared(&self) {
        // SAFETY: as for the caller.
        unsafe { Shared(&self.raw).unlock() };
    }

    /// Whether a writer holds it, or has ended while holding it. The raw lock would also say so of one that waits.
    pub(super) fn is_locked_exclusively(&self) -> bool {
        self.owner.load(Relaxed) != 0
    }
}
