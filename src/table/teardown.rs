//! The end of a table's service: its owner is gone, its handles and weak handles may not be.
//!
//! See "Tear down" in the essay of `table/mod.rs`.

use super::buckets::{Buckets, INLINE_WORDS};
use super::count::GENERATIONS;
use super::link::{AtomicLink, Target};
use super::panics::FirstPanic;
use super::primitive::Ordering;
use super::retire::{Guard, pin};
use super::{Table, pool};

/// Empties a table and gives it back. What has handles, or a closer to come, lives on by itself.
///
/// # Safety
///
/// Nobody looks up or inserts any more.
pub(super) unsafe fn tear_down(table: &'static Table) {
    loop {
        let guard = pin();
        let Some(item) = table.pop_first(&guard) else {
            break;
        };
        // From here on the last handle's release closes the node without looking for it.
        if let Target::Node(node) = item {
            node.count.detach();
        }
    }
    // That may drop what the hook has captured.
    let mut panics = FirstPanic::default();
    panics.catch(|| table.hook.store(None));
    if table.end_generation() {
        pool::recycle(table);
    } else {
        pool::abandon(table);
    }
    panics.resume();
}

impl Table {
    /// Removes the first item of the list.
    fn pop_first<'g>(&'g self, _guard: &'g Guard) -> Option<Target<'g>> {
        let root = self.buckets.root();
        let next = root.load();
        // SAFETY: read with Acquire from the root, under the caller's pin.
        let target = unsafe { next.target() };
        let behind: &AtomicLink = match target {
            Target::Node(node) => &node.get().next,
            Target::Word(word) => word,
            Target::End => return None,
        };
        // A dropper may stand behind the item and unlink what follows: the mark makes it fail.
        let frozen = behind.mark();
        // Nobody inserts, so if the root has changed, a dropper has unlinked the item for us.
        let _ = root.swing(next, frozen);
        Some(target)
    }

    /// Says that the owner is gone. `false` if the table can't have another one.
    fn end_generation(&self) -> bool {
        // Relaxed: only the owner changes it.
        let next = self.generation.load(Ordering::Relaxed) + 1;
        // Relaxed: it comes before the table's next use is deferred.
        self.generation.store(next, Ordering::Relaxed);
        next < GENERATIONS
    }

    /// Makes the table new again. Nobody else looks at it.
    pub(super) fn reset(&'static self) {
        for level in Buckets::all_levels() {
            if let Some(segment) = self.buckets.take_segment(level) {
                // SAFETY: nobody looks at the words.
                unsafe { segment.free() };
            }
        }
        self.buckets.lay_out();
        self.spliced.lower(INLINE_WORDS);
        self.entries.reset();
    }
}
