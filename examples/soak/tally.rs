//! Counters that many threads raise at once, and what is counted.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

const PARTS: usize = 16;

/// A counter in parts, so that threads don't meet in it. Its sum is exact at a standstill.
pub(crate) struct Tally([CachePadded<AtomicU64>; PARTS]);

thread_local! { static PART: Cell<Option<usize>> = const { Cell::new(None) } }

/// The part of the calling thread.
fn part() -> usize {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    PART.get().unwrap_or_else(|| {
        let part = NEXT.fetch_add(1, Ordering::Relaxed) as usize % PARTS;
        PART.set(Some(part));
        part
    })
}

impl Tally {
    const fn new() -> Self {
        Self([const { CachePadded::new(AtomicU64::new(0)) }; PARTS])
    }

    /// Counts one more, and answers a number that no other call gets.
    ///
    /// Relaxed, so that it orders nothing between threads: it must not hide a missing order of the crate's.
    pub(crate) fn add(&self) -> u64 {
        let part = part();
        self.0[part].fetch_add(1, Ordering::Relaxed) * PARTS as u64 + part as u64
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|part| part.load(Ordering::Relaxed)).sum()
    }
}

/// Values that were made.
pub(crate) static MADE: Tally = Tally::new();
/// Values that were destroyed.
pub(crate) static DESTROYED: Tally = Tally::new();
/// Callbacks that were registered.
pub(crate) static REGISTERED: Tally = Tally::new();
/// Callbacks that ran.
pub(crate) static RAN: Tally = Tally::new();
/// Callbacks that were dropped without having run.
pub(crate) static CANCELLED: Tally = Tally::new();
/// Values that a drop hook was called with.
pub(crate) static HOOKED: Tally = Tally::new();
/// Builders that failed, or panicked, on purpose.
pub(crate) static FAILED: Tally = Tally::new();
/// Errors that spared a thread a wait for itself.
pub(crate) static DEADLOCKS: Tally = Tally::new();
/// Threads that were started.
pub(crate) static BORN: Tally = Tally::new();
/// Interners and maps that were made.
pub(crate) static TABLES: Tally = Tally::new();
/// Tables that were shrunk.
pub(crate) static SHRUNK: Tally = Tally::new();
/// Values that came in bursts.
pub(crate) static BURST: Tally = Tally::new();
/// Seconds that a thread stood still with a pin, or in the midst of an iteration.
pub(crate) static STALLED: Tally = Tally::new();
