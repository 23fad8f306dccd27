//! What others have deferred on the collector may run in any pin of ours, and panic: also in the pin between a last
//! decrement and the closer's look. The value must die all the same, at the latest with its next last handle.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use hapax::{Interned, Interner};

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
