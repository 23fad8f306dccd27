//! An allocator that leaves nothing between what it hands out. There a value without a size, at the end of its
//! allocation, has the address at which the next allocation begins.
#![cfg(feature = "arc-swap")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapAny};
use hapax::{Interned, Interner};

const SIZE: usize = 4096;

thread_local! {
    /// What is left of this thread's arena; empty for threads that have none.
    static LEFT: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    static ARENA: Cell<usize> = const { Cell::new(0) };
}

struct Tight;

#[global_allocator]
static TIGHT: Tight = Tight;

// SAFETY: what doesn't come from the arena, of which no part is handed out twice, comes from the system.
unsafe impl GlobalAlloc for Tight {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (from, to) = LEFT.get();
        let begin = from.next_multiple_of(layout.align());
        if begin + layout.size() <= to {
            LEFT.set((begin + layout.size(), to));
            return std::ptr::with_exposed_provenance_mut(begin);
        }
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let arena = ARENA.get();
        if !(arena..arena + SIZE).contains(&memory.addr()) || arena == 0 {
            // SAFETY: as for the caller.
            unsafe { System.dealloc(memory, layout) };
        }
    }
}

/// arc-swap keeps a list of what its readers owe, by address and nothing else.
#[test]
fn arc_swap_does_not_take_nothing_for_a_handle() {
    let numbers = Interner::<u64>::new();
    let _table = numbers.intern(0);
    let arena = Vec::<u128>::leak(vec![0; SIZE / 16]);
    ARENA.set(arena.as_mut_ptr().expose_provenance());
    LEFT.set((ARENA.get(), ARENA.get() + SIZE));
    let nothing = Arc::new(());
    let seven = numbers.intern(7);
    LEFT.set((0, 0));
    // They lie as they should for this.
    let node = Interned::as_ptr(&seven).addr() - 32;
    assert_eq!(Arc::as_ptr(&nothing).addr(), node);

    let numbered: ArcSwapAny<_> = ArcSwapAny::new(seven);
    let other = ArcSwap::new(nothing);
    let guard = numbered.load();
    other.store(Arc::new(()));
    drop(guard);
    assert_eq!(*numbered.load(), numbers.intern(7));
    assert_eq!(numbers.len(), 2);
}
