//! Others use crossbeam-epoch in the same process. What they defer never runs in our calls, where its panics and its
//! own use of this crate would come at the worst moment; and their pins don't delay our memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use hapax::Interner;

/// Bytes of the blocks that are too large for anything but the strings of these tests.
static LARGE: AtomicUsize = AtomicUsize::new(0);

const LARGE_FROM: usize = 1 << 20;

struct Watching;

#[global_allocator]
static ALLOCATOR: Watching = Watching;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE_FROM {
            LARGE.fetch_add(layout.size(), Relaxed);
        }
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if layout.size() >= LARGE_FROM {
            LARGE.fetch_sub(layout.size(), Relaxed);
        }
        // SAFETY: as for the caller.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Pins of ours in one test would delay the memory of the other.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn what_others_defer_never_runs_in_our_calls() {
    let _alone = ALONE.lock();
    static OURS: AtomicBool = AtomicBool::new(false);
    thread::spawn(|| {
        let mut numbers = Interner::<u64>::new();
        for round in 0..20 {
            let guard = crossbeam_epoch::pin();
            guard.defer(|| assert!(!OURS.load(Relaxed), "somebody else's function in our call"));
            guard.flush();
            drop(guard);
            OURS.store(true, Relaxed);
            let held: Vec<_> = (0..2_000).map(|n| numbers.intern(round + n)).collect();
            drop(held);
            numbers.flush();
            numbers.shrink_to_fit();
            OURS.store(false, Relaxed);
        }
        drop(numbers);
        // The exit of this thread is one of our calls as well.
        OURS.store(true, Relaxed);
    })
    .join()
    .expect("nothing of others runs in our calls");
    OURS.store(false, Relaxed);
}

#[test]
fn the_pin_of_another_user_delays_none_of_our_memory() {
    let _alone = ALONE.lock();
    let names = Interner::<str>::new();
    let _pinned = crossbeam_epoch::pin();
    drop(names.intern("x".repeat(LARGE_FROM)));
    names.flush();
    assert_eq!(LARGE.load(Relaxed), 0);
}
