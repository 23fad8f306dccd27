//! What others have deferred on the collector may run in any pin of ours, and panic: also in the pin between a last
//! decrement and the closer's look. The value must die all the same, at the latest with its next last handle.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use hapax::{Interned, Interner};

/// What one test has deferred may run in the pins of another.
static ALONE: Mutex<()> = Mutex::new(());

static ARMED: AtomicBool = AtomicBool::new(false);
static DIED: AtomicU32 = AtomicU32::new(0);

#[derive(PartialEq, Eq, Hash)]
struct Mortal(u32);

impl Drop for Mortal {
    fn drop(&mut self) {
        DIED.fetch_add(1, Relaxed);
    }
}

#[test]
fn a_panic_of_others_in_the_pin_of_a_last_drop_loses_no_value() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let values = Interner::<Mortal>::new();
    for number in 0.. {
        let value = values.intern(Mortal(number));
        let weak = Interned::downgrade(&value);
        let guard = crossbeam_epoch::pin();
        guard.defer(|| assert!(!ARMED.load(Relaxed), "somebody else's panic"));
        guard.flush();
        drop(guard);
        ARMED.store(true, Relaxed);
        let panicked = catch_unwind(AssertUnwindSafe(|| drop(value))).is_err();
        ARMED.store(false, Relaxed);
        if panicked {
            // Whoever revives it is the last to let go of it.
            drop(weak.upgrade());
            assert!(weak.upgrade().is_none(), "it lives for ever");
            assert_eq!((values.len(), DIED.load(Relaxed)), (0, number + 1));
            return;
        }
    }
}

#[test]
fn a_panic_of_others_while_a_table_shrinks_hides_no_value() {
    const GROWN: u32 = if cfg!(miri) { 100 } else { 20_000 };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut numbers = Interner::<u32>::new();
    for _ in 0..if cfg!(miri) { 1 } else { 20 } {
        let held: Vec<_> = (0..GROWN).map(|n| numbers.intern(n)).collect();
        let held: Vec<_> = held.into_iter().step_by(100).collect();
        let guard = crossbeam_epoch::pin();
        guard.defer(|| assert!(!ARMED.load(Relaxed), "somebody else's panic"));
        guard.flush();
        drop(guard);
        ARMED.store(true, Relaxed);
        let _ = catch_unwind(AssertUnwindSafe(|| numbers.shrink_to_fit()));
        ARMED.store(false, Relaxed);
        numbers.shrink_to_fit();
        let again: Vec<_> = (0..GROWN).map(|n| numbers.intern(n)).collect();
        for (n, number) in (0..GROWN).zip(&again) {
            assert_eq!(numbers.get(&n).as_ref(), Some(number));
        }
        assert!(
            held.iter()
                .zip(again.iter().step_by(100))
                .all(|(a, b)| a == b)
        );
        assert_eq!(numbers.len(), GROWN as usize);
    }
}
