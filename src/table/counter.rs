//! How many entries there are, counted where threads don't meet.

use std::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use super::primitive::{AtomicIsize, AtomicPtr, Ordering, Zeroed, free_slice, zeroed_slice};
use super::slot::{SLOTS, slot};

/// Threads that every table has a place for: those with the least numbers.
const INLINE: usize = if cfg!(loom) {
    1
} else if cfg!(shuttle) {
    2
} else {
    4
};

/// Segment *s* has places for the numbers from `INLINE << s` up to `INLINE << (s + 1)`.
const SEGMENTS: usize = (SLOTS / INLINE).ilog2() as usize;

/// A writer looks at the sum when its place passes a multiple of this.
const INTERVAL: isize = if cfg!(any(loom, shuttle, miri)) {
    1
} else {
    16
};

/// A number that one thread writes and all read.
#[derive(Debug)]
#[repr(transparent)]
struct Place(CachePadded<AtomicIsize>);

// SAFETY: all zeroes are an integer of 0.
unsafe impl Zeroed for Place {
    fn zeroed() -> Self {
        Self(CachePadded::new(AtomicIsize::new(0)))
    }
}

/// A sum over places, one for each [`slot`]. A place may be below zero: a thread takes out what another put in.
#[derive(Debug)]
pub(super) struct Counter {
    inline: [Place; INLINE],
    /// Places of further threads, made when the first of them comes.
    segments: [AtomicPtr<Place>; SEGMENTS],
    /// Of threads that have none of their own.
    shared: AtomicIsize,
}

impl Counter {
    pub(super) fn new() -> Self {
        Self {
            inline: std::array::from_fn(|_| Place::zeroed()),
            segments: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            shared: AtomicIsize::new(0),
        }
    }

    /// One more. `true` if this is a moment to look at the sum.
    #[inline]
    pub(super) fn add(&self) -> bool {
        self.change(1) & (INTERVAL - 1) == INTERVAL - 1
    }

    /// One less.
    #[inline]
    pub(super) fn subtract(&self) {
        self.change(-1);
    }

    /// Answers what the thread's place said before.
    #[inline]
    fn change(&self, by: isize) -> isize {
        let own = match slot() {
            Some(slot) if slot < INLINE => Some(&self.inline[slot]),
            Some(slot) => self.beyond(slot),
            None => None,
        };
        // Relaxed throughout: a number, from which nobody concludes that anything else is visible. The place is
        // this thread's own: nobody writes in between.
        match own {
            Some(Place(own)) => {
                let old = own.load(Ordering::Relaxed);
                own.store(old + by, Ordering::Relaxed);
                old
            }
            None => self.shared.fetch_add(by, Ordering::Relaxed),
        }
    }

    /// The place of a thread that came late; `None` if there is no memory for it.
    #[inline(never)]
    fn beyond(&self, slot: usize) -> Option<&Place> {
        let segment = (slot / INLINE).ilog2() as usize;
        let places = self.segment(segment).or_else(|| self.install(segment))?;
        // SAFETY: the segment has as many places, and stays.
        Some(unsafe { places.add(slot - (INLINE << segment)).as_ref() })
    }

    #[inline]
    fn segment(&self, segment: usize) -> Option<NonNull<Place>> {
        // Acquire: pairs with the Release in `install`; who sees a segment sees its places zeroed.
        NonNull::new(self.segments[segment].load(Ordering::Acquire))
    }

    #[cold]
    fn install(&self, segment: usize) -> Option<NonNull<Place>> {
        let len = INLINE << segment;
        let places = zeroed_slice::<Place>(len)?;
        // Release: pairs with the Acquire in `segment`. Relaxed on failure: it is read anew.
        let installed = self.segments[segment].compare_exchange(
            ptr::null_mut(),
            places.as_ptr(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        if installed.is_err() {
            // SAFETY: nobody else has seen this one.
            unsafe { free_slice(places, len) };
        }
        self.segment(segment)
    }

    fn places(&self) -> impl Iterator<Item = &AtomicIsize> {
        let beyond = (0..SEGMENTS).filter_map(|segment| {
            let places = NonNull::slice_from_raw_parts(self.segment(segment)?, INLINE << segment);
            // SAFETY: the segment has as many places, and stays.
            Some(unsafe { places.as_ref() })
        });
        let own = self.inline.iter().chain(beyond.flatten());
        own.map(|place| &*place.0).chain([&self.shared])
    }

    /// The sum: exact whenever nothing else runs.
    pub(super) fn sum(&self) -> usize {
        // Relaxed: as in `change`.
        let sum: isize = self
            .places()
            .map(|place| place.load(Ordering::Relaxed))
            .sum();
        // A thread may subtract what another has added but we have not yet read.
        sum.max(0) as usize
    }

    /// Bytes of all segments outside the header.
    pub(super) fn bytes(&self) -> usize {
        (0..SEGMENTS)
            .filter(|&segment| self.segment(segment).is_some())
            .map(|segment| size_of::<Place>() * (INLINE << segment))
            .sum()
    }

    /// Back to zero, in a table that nobody can see.
    pub(super) fn reset(&self) {
        for place in self.places() {
            // Relaxed: published with the table.
            place.store(0, Ordering::Relaxed);
        }
    }
}
