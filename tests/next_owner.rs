//! Values that outlive their interner, whose table serves another one by then.
//!
//! - Their end leaves the next owner alone: its number of entries, its hook.
//! - A destructor of the next owner's values may drop them. They are of another type, and don't queue with its own.
//!
//! A file of its own, whose tests come one after the other, so that the table which is given back is the one that is
//! taken.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use hapax::{Interned, Interner};

/// Tests of one process take each other's tables.
static ALONE: Mutex<()> = Mutex::new(());

static DIED: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Old(u32);

impl Drop for Old {
    fn drop(&mut self) {
        DIED.fetch_add(1, Ordering::Relaxed);
    }
}

/// A value whose interner is gone, and an interner that has its table.
fn left_behind<T: std::hash::Hash + Eq>(number: u32) -> (Interned<Old>, Interner<T>) {
    let first = Interner::<Old>::new();
    let old = first.intern(Old(number));
    drop(first);
    // The table comes back after a grace period.
    let next = Interner::<T>::new();
    next.flush();
    (old, next)
}

#[test]
fn a_value_that_is_moved_out_late_is_not_the_next_owners() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for number in 0..20 {
        let (old, next) = left_behind::<u32>(number);
        let one = next.intern(1);
        assert_eq!(Interned::try_unwrap(old), Ok(Old(number)));
        assert_eq!(next.len(), 1);
        drop(one);
        assert_eq!(next.len(), 0);
    }
}

#[test]
fn a_value_that_dies_late_is_not_the_next_owners() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for number in 0..20 {
        let (old, next) = left_behind::<u32>(number);
        let one = next.intern(1);
        next.on_drop(|value| assert_eq!(*value, 1));
        drop(old);
        assert_eq!(next.len(), 1);
        drop(one);
        assert_eq!(next.len(), 0);
    }
}

/// Larger than `Old`, and with its own destructor.
#[derive(PartialEq, Eq, Hash)]
struct New {
    text: String,
    old: Option<Interned<Old>>,
}

#[test]
fn a_value_of_the_next_owner_drops_one_of_the_former() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for number in 0..20 {
        let (old, next) = left_behind::<New>(number);
        let died = DIED.load(Ordering::Relaxed);
        let new = next.intern(New {
            text: number.to_string(),
            old: Some(old),
        });
        drop(new);
        assert_eq!(DIED.load(Ordering::Relaxed), died + 1);
        assert_eq!(next.len(), 0);
    }
}
