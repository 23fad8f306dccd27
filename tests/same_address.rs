//! Tests over an allocator that hands a freed block out again at once, to whatever thread asks next. So
//! whoever still believes in an address meets a new object there.
//!
//! - The mixed operations of `common/mixed.rs` hold their invariants.
//! - The right to build an entry belongs to a node, not to an address: who gives up a node that came too
//!   late doesn't take the right from the next node that lies there.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::sync::{Barrier, Mutex, PoisonError};

use common::mixed::{Sizes, run};
use common::{scaled, seed};
use hapax::{InitError, WeakMap};

/// Blocks of these many classes, sixteen bytes apart, are kept for reuse.
const CLASSES: usize = 128;

/// Freed blocks of one class, the last one on top. A free block's first word leads to the next.
struct Stack(*mut u8);

// SAFETY: the blocks belong to nobody.
unsafe impl Send for Stack {}

struct SameAddress {
    free: [Mutex<Stack>; CLASSES],
}

/// What the thread does when it next allocates or frees a block of `STOP_SIZE`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Nowhere,
    BeforeAllocation,
    AfterFree,
}

thread_local! { static STOP: Cell<Stop> = const { Cell::new(Stop::Nowhere) } }

/// A large value, so that no other test uses blocks of its class.
type Large = [u64; 150];
const STOP_SIZE: usize = 32 + size_of::<u64>() + size_of::<Option<Large>>();

/// The loser has no node yet; somebody else has an entry.
static LOSER_COMES: Barrier = Barrier::new(2);
static LOSER_IS_LATE: Barrier = Barrier::new(2);
/// The loser's node is free again; somebody else has claimed the next one there.
static LOSER_FREED: Barrier = Barrier::new(2);
static NEXT_CLAIMED: Barrier = Barrier::new(2);

impl SameAddress {
    fn class(layout: Layout) -> Option<usize> {
        let class = layout.size().div_ceil(16);
        (layout.align() <= 16 && (1..CLASSES).contains(&class)).then_some(class)
    }
}

// SAFETY: blocks come from the system, have the size of their class, and have one owner at a time.
unsafe impl GlobalAlloc for SameAddress {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() == STOP_SIZE && STOP.get() == Stop::BeforeAllocation {
            STOP.set(Stop::AfterFree);
            LOSER_COMES.wait();
            LOSER_IS_LATE.wait();
        }
        let Some(class) = Self::class(layout) else {
            // SAFETY: as for the caller.
            return unsafe { System.alloc(layout) };
        };
        let mut free = self.free[class]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if free.0.is_null() {
            let whole = Layout::from_size_align(class * 16, 16).expect("a small layout");
            // SAFETY: the layout has a size.
            return unsafe { System.alloc(whole) };
        }
        let block = free.0;
        // SAFETY: a free block leads to the next one.
        free.0 = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = Self::class(layout) else {
            // SAFETY: as for the caller.
            return unsafe { System.dealloc(block, layout) };
        };
        {
            let mut free = self.free[class]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the block is ours now, and has the size of its class. What a late reader meets
            // is garbage.
            unsafe {
                block.write_bytes(0xdb, class * 16);
                block.cast::<*mut u8>().write(free.0);
            }
            free.0 = block;
        }
        if layout.size() == STOP_SIZE && STOP.get() == Stop::AfterFree {
            STOP.set(Stop::Nowhere);
            LOSER_FREED.wait();
            NEXT_CLAIMED.wait();
        }
    }
}

#[global_allocator]
static ALLOCATOR: SameAddress = SameAddress {
    free: [const { Mutex::new(Stack(ptr::null_mut())) }; CLASSES],
};

#[test]
fn the_allocator_hands_a_block_out_again_at_once() {
    let first = Box::into_raw(Box::new([7u8; 1900]));
    // SAFETY: made from a box just now.
    drop(unsafe { Box::from_raw(first) });
    let second = Box::into_raw(Box::new([8u8; 1900]));
    assert_eq!(second, first);
    // SAFETY: as above.
    drop(unsafe { Box::from_raw(second) });
}

#[test]
fn mixed_operations_on_few_keys() {
    run(
        seed(),
        Sizes {
            threads: 3,
            lives: scaled(40, 1),
            rounds: scaled(6, 3),
            operations: scaled(500, 40),
            keys: 4,
            burst: 40,
        },
    );
}

#[test]
fn mixed_operations_in_short_lives() {
    run(
        seed(),
        Sizes {
            threads: 2,
            lives: scaled(400, 3),
            rounds: 1,
            operations: scaled(60, 20),
            keys: 10,
            burst: 30,
        },
    );
}

/// A thread makes a node for a key that somebody else is faster with, and gives it up. Before it has gone
/// on, another thread builds an entry in the very same memory.
///
/// Would catch: the one who gives up erasing the other's claim, after which two threads write one value.
#[test]
fn a_claim_is_not_erased_by_the_former_owner_of_its_address() {
    let map = WeakMap::<u64, Large>::new();
    std::thread::scope(|scope| {
        let loser = scope.spawn(|| {
            STOP.set(Stop::BeforeAllocation);
            map.get_or_init(1, |_| unreachable!("somebody is faster"))[0]
        });
        LOSER_COMES.wait();
        let faster = map.get_or_insert(1, [1; 150]);
        LOSER_IS_LATE.wait();

        LOSER_FREED.wait();
        let mut loser = Some(loser);
        let built = map.get_or_init(2, |_| {
            NEXT_CLAIMED.wait();
            let loser = loser.take().expect("a builder runs once");
            assert_eq!(loser.join().expect("the loser gets the value"), 1);
            // This thread builds, so it would wait for itself.
            let again = map.try_get_or_init(2, |_| Ok::<_, ()>([3; 150]));
            assert!(
                matches!(again, Err(InitError::Deadlock)),
                "two builders of one key at once"
            );
            [2; 150]
        });
        assert_eq!((built[0], faster[0], map.len()), (2, 1, 2));
    });
}
