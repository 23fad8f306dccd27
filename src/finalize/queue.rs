//! The queue from those who drop values to the thread that finalizes them. To enter it waits for nobody.
//!
//! One word leads to the job that was queued last, and each job to the one that was queued before it: a stack, of which the
//! thread takes all at once, and turns it round. So jobs are done in the order in which they were queued, and the
//! operations are a compare-exchange and a swap, without the ABA of stacks that are taken from one by one (Treiber, *Systems
//! Programming: Coping with Parallelism*, 1986).
//!
//! | word | meaning | next state made by |
//! |---|---|---|
//! | null | nothing is queued, the thread is at work | a job; a nudge; the thread: PARKED |
//! | PARKED | nothing is queued, the thread sleeps, or is about to | a job or a nudge, which wake it |
//! | NUDGED | nothing is queued, but the thread is to look at its other news | a job; the thread: null |
//! | a job | it and those before it are queued | a further job; the thread: null |
//!
//! A nudge writes NUDGED and jobs again, as they are. The thread looks at its other news in any case before it sleeps.
//!
//! # Orderings
//!
//! | access | order | pairs with | what is seen |
//! |---|---|---|---|
//! | a job's, a nudge's exchange | Release | the Acquire of `take` | the job; what came before the nudge |
//! | `take`'s swap | Acquire | those | as above |
//! | the exchange to PARKED, the look while asleep | Relaxed | | the thread takes all afterwards, by `take` |
//!
//! Later exchanges are read-modify-writes, so they carry the Release of those before them on.

use std::iter;
use std::ptr::{self, NonNull};

use super::job::Header;
use crate::table::primitive::{AtomicPtr, Ordering, thread};

const PARKED: *mut Header = ptr::without_provenance_mut(1);
const NUDGED: *mut Header = ptr::without_provenance_mut(2);

pub(super) struct Queue(AtomicPtr<Header>);

/// Whether the thread is to be woken.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Wake,
    Nothing,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// # Safety
    ///
    /// The job was never queued, and nobody else will touch it but under the lock of the register.
    pub(super) unsafe fn push(&self, job: NonNull<Header>) -> Then {
        // SAFETY: as for the caller: it is there, and not yet the thread's.
        let Header { next, liveness, .. } = unsafe { job.as_ref() };
        liveness.touch();
        self.change(|before| {
            next.set(if is_job(before) {
                before
            } else {
                ptr::null_mut()
            });
            job.as_ptr()
        })
    }

    /// Lets the thread look at its other news, if it sleeps or is about to.
    pub(super) fn nudge(&self) -> Then {
        // If something is queued the same word is written again, so that what came before is seen with it.
        self.change(|before| if is_job(before) { before } else { NUDGED })
    }

    fn change(&self, mut to: impl FnMut(*mut Header) -> *mut Header) -> Then {
        // Relaxed here and on failure: only compared.
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            // Release: pairs with the Acquire in `take`.
            match self.0.compare_exchange_weak(
                before,
                to(before),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(PARKED) => return Then::Wake,
                Ok(_) => return Then::Nothing,
                Err(now) => before = now,
            }
        }
    }

    /// Takes all jobs, the first ones first. To be called by the thread. The jobs are the caller's.
    pub(super) fn take(&self) -> impl Iterator<Item = NonNull<Header>> + use<> {
        // Acquire: pairs with the Releases in `change`.
        let mut newest = self.0.swap(ptr::null_mut(), Ordering::Acquire);
        if !is_job(newest) {
            newest = ptr::null_mut();
        }
        let mut oldest = ptr::null_mut();
        while let Some(job) = NonNull::new(newest) {
            // SAFETY: it was queued, and so it is ours.
            newest = unsafe { &(*job.as_ptr()).next }.replace(oldest);
            oldest = job.as_ptr();
        }
        iter::from_fn(move || {
            let job = NonNull::new(oldest)?;
            // SAFETY: as above; it wasn't given out yet.
            oldest = unsafe { &(*job.as_ptr()).next }.get();
            Some(job)
        })
    }

    /// Sleeps until there is a job or a nudge, if there is none yet. To be called by the thread.
    pub(super) fn park(&self) {
        // Relaxed: nothing is concluded from it. Who finds PARKED wakes this thread.
        let parked = self.0.compare_exchange(
            ptr::null_mut(),
            PARKED,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if parked.is_err() {
            return;
        }
        // Relaxed: `take` comes next. It may wake for no reason, or by an `unpark` that finalizers' own waits left over.
        while self.0.load(Ordering::Relaxed) == PARKED {
            thread::park();
        }
    }
}

fn is_job(word: *mut Header) -> bool {
    !word.is_null() && word != PARKED && word != NUDGED
}
