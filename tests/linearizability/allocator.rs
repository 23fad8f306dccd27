//! An allocator that brings mistakes to light.
//!
//! A thread may pause whenever it allocates or frees: in the midst of an insertion, when the table grows, when memory
//! is reclaimed. What is freed is spoilt: who still reads a node there finds one that isn't dead, has
//! handles, and leads nowhere.

use std::alloc::{GlobalAlloc, Layout, System};

use super::pause::pause;

struct Spoiler;

#[global_allocator]
static SPOILER: Spoiler = Spoiler;

/// No flag of a count, and no address.
const SPOILT: u8 = 1;

/// Larger blocks than a node or two aren't worth the time.
const SMALL: usize = 256;

// SAFETY: passes everything on.
unsafe impl GlobalAlloc for Spoiler {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        pause();
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if layout.size() <= SMALL {
            // SAFETY: the caller gives the memory back.
            unsafe { memory.write_bytes(SPOILT, layout.size()) };
        }
        pause();
        // SAFETY: as for the caller.
        unsafe { System.dealloc(memory, layout) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        pause();
        // SAFETY: as for the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for the caller.
        unsafe { System.realloc(memory, layout, size) }
    }
}
