//! Linking bucket words into the list, ahead of their need.
//!
//! A word that isn't linked costs its readers a longer way from an ancestor, nothing else. So readers
//! never splice. Writers do, a few words at a time in the order of the words' index, through one shared
//! cursor. So the words of a new level are all linked when the table has grown by a small part of that level,
//! long before the next one is due.

use std::ops::Range;

use super::Table;
use super::buckets::{INLINE_WORDS, Segment};
use super::glance::GROUP;
use super::primitive::{AtomicUsize, Ordering};
use super::retire::{Guard, pin};
use super::walk::Walk;

/// Words that a writer links at a time: sixteen for each entry by which it has grown the table since the last
/// time, so that a level is linked soon after it was begun.
const STRIDE: usize = if cfg!(any(loom, shuttle, miri)) {
    1
} else {
    256
};

/// The index below which all words are linked or being linked.
#[derive(Debug)]
pub(super) struct Spliced(AtomicUsize);

impl Spliced {
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(INLINE_WORDS))
    }

    /// Claims the next few indices below `end`.
    fn claim(&self, end: usize) -> Option<Range<usize>> {
        // Relaxed throughout: the number only hands out work; each word has its own claim.
        let mut first = self.0.load(Ordering::Relaxed);
        while first < end {
            let next = end.min(first + STRIDE);
            match self
                .0
                .compare_exchange_weak(first, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Some(first..next),
                Err(now) => first = now,
            }
        }
        None
    }

    /// Whether words below `end` are left.
    #[inline]
    pub(super) fn lags(&self, end: usize) -> bool {
        // Relaxed: a hint.
        self.0.load(Ordering::Relaxed) < end
    }

    /// Forgets words from `end` on. Not while others splice.
    pub(super) fn lower(&self, end: usize) {
        // Relaxed: only writers read it, and there are none.
        self.0
            .store(end.min(self.0.load(Ordering::Relaxed)), Ordering::Relaxed);
    }
}

impl Table {
    /// Links the next few words, if some are left.
    #[cold]
    pub(super) fn splice_ahead(&self, guard: &Guard) {
        let Some(indices) = self.spliced.claim(self.buckets.level().words()) else {
            return;
        };
        for first in indices.clone().step_by(GROUP) {
            let group = first..indices.end.min(first + GROUP);
            self.walk_ahead(group.clone(), guard);
            for index in group {
                self.splice(index, guard);
            }
        }
    }

    /// Goes to the places of some words side by side, so that what lies on the ways there is in the cache.
    fn walk_ahead(&self, indices: Range<usize>, guard: &Guard) {
        if cfg!(loom) {
            // It changes nothing, and each of its loads would be explored.
            return;
        }
        let mut orders = [0; GROUP];
        let mut number = 0;
        for (_, order) in indices.filter_map(|index| self.buckets.indexed(index)) {
            orders[number] = order;
            number += 1;
        }
        self.glance_all(&orders[..number], guard);
    }

    /// Links all words of the current level. Doesn't hold up the memory of others for so long.
    pub(super) fn splice_all(&self) {
        while self.spliced.lags(self.buckets.level().words()) {
            self.splice_ahead(&pin());
        }
    }

    /// Links one word, if nobody else does.
    fn splice(&self, index: usize, guard: &Guard) {
        let Some((word, order)) = self.buckets.indexed(index) else {
            return;
        };
        // Nobody waits for the claimer: until the word is linked, others begin at an ancestor.
        if !word.claim() {
            return;
        }
        // The walk can't begin at the word itself, which is BUSY. It stops where the run of the key
        // `order` ends, or at the first node of that run: a word sorts before the nodes with its key.
        let mut walk = Walk::new(self, order, guard);
        loop {
            walk.seek();
            if walk.insert_word(word) {
                break;
            }
        }
        word.clear_busy();
    }

    /// Unlinks the words that a table of so many entries doesn't need and returns their segments,
    /// which nobody can reach any more once the pins of this moment are gone.
    ///
    /// Not while others insert. Droppers may be at work: they see each word deleted as a node is.
    pub(super) fn unsplice(&self, entries: usize) -> Vec<Segment> {
        let mut segments = Vec::new();
        // Level by level, so that each word has a neighbour close by where its walk begins.
        while let Some(deepest) = self.buckets.lower(entries) {
            self.spliced.lower(self.buckets.level().words());
            for index in 1 << (deepest - 1)..1 << deepest {
                self.unsplice_word(index, &pin());
            }
            segments.extend(self.buckets.take_segment(deepest));
        }
        self.buckets.end_shrink();
        segments
    }

    fn unsplice_word(&self, index: usize, guard: &Guard) {
        if let Some((word, order)) = self.buckets.indexed(index)
            && !word.is_unclaimed()
        {
            // MARK, then unlink by a walk that comes past: it unlinks what is marked.
            word.mark();
            Walk::new(self, order, guard).seek();
        }
    }
}
