//! How many entries there are, counted where threads don't meet.

use crossbeam_utils::CachePadded;

use super::primitive::{AtomicIsize, Ordering, thread_number};

const STRIPES: usize = if cfg!(loom) { 1 } else { 4 };

/// A writer looks at the sum of all stripes once in so many entries of its own.
const INTERVAL: isize = if cfg!(any(loom, shuttle, miri)) {
    1
} else {
    16
};

/// A sum over stripes, one of which a thread writes. Threads that outnumber the stripes share them.
#[derive(Debug)]
pub(super) struct Counter([CachePadded<AtomicIsize>; STRIPES]);

impl Counter {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| {
            CachePadded::new(AtomicIsize::new(0))
        }))
    }

    #[inline]
    fn stripe(&self) -> &AtomicIsize {
        &self.0[thread_number() as usize % STRIPES]
    }

    /// One more. `true` if this is a moment to look at the sum.
    #[inline]
    pub(super) fn add(&self) -> bool {
        // Relaxed here and below: a number, from which nobody concludes that anything else is visible.
        self.stripe().fetch_add(1, Ordering::Relaxed) & (INTERVAL - 1) == INTERVAL - 1
    }

    /// One less.
    #[inline]
    pub(super) fn subtract(&self) {
        self.stripe().fetch_sub(1, Ordering::Relaxed);
    }

    /// The sum: exact whenever nothing else runs.
    pub(super) fn sum(&self) -> usize {
        // Relaxed: as above.
        let sum: isize = self
            .0
            .iter()
            .map(|stripe| stripe.load(Ordering::Relaxed))
            .sum();
        // A thread may subtract what another has added but we have not yet read.
        sum.max(0) as usize
    }

    /// Back to zero, in a table that nobody can see.
    pub(super) fn reset(&self) {
        for stripe in &self.0 {
            // Relaxed: published with the table.
            stripe.store(0, Ordering::Relaxed);
        }
    }
}
