//! Which values are alive: a list of their jobs, in the order in which they were made. To be kept behind a lock.

use std::fmt;
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use super::job::Header;
use crate::table::primitive::Ordering;

pub(super) struct Register {
    newest: *mut Header,
}

// SAFETY: the links of the jobs are touched by who has the register.
unsafe impl Send for Register {}

impl Register {
    pub(super) const fn new() -> Self {
        Self {
            newest: ptr::null_mut(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_null()
    }

    /// # Safety
    ///
    /// The job isn't in a register, and stays until it is removed.
    pub(super) unsafe fn add(&mut self, job: NonNull<Header>) {
        // SAFETY: as for the caller.
        unsafe { job.as_ref() }.older.set(self.newest);
        if let Some(older) = NonNull::new(self.newest) {
            // SAFETY: what is in the register is there.
            unsafe { older.as_ref() }.newer.set(job.as_ptr());
        }
        self.newest = job.as_ptr();
    }

    /// # Safety
    ///
    /// The job is in this register.
    pub(super) unsafe fn remove(&mut self, job: NonNull<Header>) {
        // SAFETY: as for the caller.
        let Header { older, newer, .. } = unsafe { job.as_ref() };
        if let Some(older) = NonNull::new(older.get()) {
            // SAFETY: the neighbours are in the register, so they are there.
            unsafe { older.as_ref() }.newer.set(newer.get());
        }
        match NonNull::new(newer.get()) {
            // SAFETY: as above.
            Some(newer) => unsafe { newer.as_ref() }.older.set(older.get()),
            None => self.newest = older.get(),
        }
    }

    /// Those that are alive, in the order in which they were added.
    pub(super) fn live(&self) -> Vec<Live> {
        let mut live = Vec::new();
        let mut next = NonNull::new(self.newest);
        while let Some(job) = next {
            // SAFETY: what is in the register is there.
            let job = unsafe { job.as_ref() };
            job.liveness.touch();
            // Acquire: pairs with the Release in `Worker::enqueue`; whoever is dead has been counted as pending.
            if !job.is_dead.load(Ordering::Acquire) {
                live.push(Live {
                    type_name: job.type_name,
                    since: job.since,
                });
            }
            next = NonNull::new(job.older.get());
        }
        live.reverse();
        live
    }
}

/// A value that is alive, and will be finalized when it dies: [`Finalizer::live`](super::Finalizer::live).
///
/// # Examples
///
/// See [`Finalizer::live`](super::Finalizer::live).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Live {
    /// The type of the body, or of what is [deferred](super::Deferred), as [`type_name`](std::any::type_name) has it.
    pub type_name: &'static str,
    /// When the value was made.
    pub since: Instant,
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, for {:?}", self.type_name, self.age())
    }
}

impl Live {
    /// How long ago the value was made.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use hapax::finalize::{Deferred, Finalizer};
    ///
    /// let finalizer = Finalizer::new()?;
    /// let numbers = Deferred::new_in(&finalizer, vec![1, 2, 3]);
    /// assert!(finalizer.live()[0].age() < Duration::from_secs(60));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }
}
