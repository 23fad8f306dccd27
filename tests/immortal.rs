//! Immortal values.
//!
//! - They stay when all handles go, and when their interner goes; nothing ever runs for them.
//! - A handle that knows it needn't count and one that doesn't are the same handle to users.
//! - It goes through `into_raw` and `ArcSwapAny` and comes back as the same.
//! - Any number of handles may forget it, or come from before: nothing dies of it, nothing overflows.
//!
//! What is made immortal here hangs in statics, so that a leak checker finds a way to it.

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use common::{Census, Counted, scaled};
use hapax::{Interned, Interner};

/// Keeps a way to an immortal value for good.
fn keep<T: Send + Sync + 'static>(handle: Interned<T>) {
    static KEPT: Mutex<Vec<Box<dyn Send + Sync>>> = Mutex::new(Vec::new());
    KEPT.lock().unwrap().push(Box::new(handle));
}

#[test]
fn it_stays_when_all_handles_go() {
    static NAMES: Interner<str> = Interner::new();
    let mortal = NAMES.intern("mortal");
    let immortal = NAMES.intern_static("immortal");
    let address = Interned::as_ptr(&immortal);
    drop((mortal, immortal));
    assert_eq!(NAMES.len(), 1);
    assert_eq!(NAMES.iter().collect::<Vec<_>>(), [NAMES.intern("immortal")]);
    assert!(std::ptr::eq(
        Interned::as_ptr(&NAMES.intern("immortal")),
        address
    ));
    assert!(Interned::is_immortal(&NAMES.get("immortal").unwrap()));
}

#[test]
fn it_stays_when_its_interner_goes() {
    let census = Census::new();
    let values = Interner::new();
    let immortal = values.intern_static(Counted::new(1, &census));
    keep(immortal.clone());
    drop(values);
    assert_eq!(census.live(), 1);
    immortal.assert_alive();
    drop(immortal);
    assert_eq!(census.live(), 1);
}

#[test]
fn nothing_runs_for_it() {
    static RAN: AtomicUsize = AtomicUsize::new(0);
    let count = || {
        RAN.fetch_add(1, Ordering::Relaxed);
    };
    let values = Interner::<u64>::new();
    values.on_drop(move |_| count());
    let seven = values.intern(7);
    let weak = Interned::downgrade_with(&seven, count);
    let seven = Interned::immortalize(seven);
    keep(seven.clone());
    let seven = Interned::try_unwrap(seven).unwrap_err();
    drop(seven);
    assert_eq!(weak.upgrade(), values.get(&7));
    assert_eq!(weak.strong_count(), usize::MAX);
    drop(values);
    assert!(Interned::is_immortal(&weak.upgrade().unwrap()));
    drop(weak);
    assert_eq!(RAN.load(Ordering::Relaxed), 0);
}

#[test]
fn a_handle_that_knows_is_the_same_as_one_that_does_not() {
    static NAMES: Interner<str> = Interner::new();
    let before = NAMES.intern("alpha");
    let after = Interned::immortalize(before.clone());
    assert!(Interned::ptr_eq(&before, &after));
    assert_eq!(before, after);
    assert_eq!(before.cmp(&after), std::cmp::Ordering::Equal);
    assert_eq!(format!("{before:p}"), format!("{after:p}"));
    assert_eq!(Interned::as_ptr(&before), Interned::as_ptr(&after));
    assert_eq!(Interned::ref_count(&before), usize::MAX);
    assert_eq!(Interned::ref_count(&after), usize::MAX);
    assert_eq!(Interned::hash_value(&before), Interned::hash_value(&after));
    assert!(Interned::is_immortal(&before) && Interned::is_immortal(&after));
    assert_eq!(HashSet::from([before, after]).len(), 1);
}

#[test]
fn it_is_made_so_once() {
    static NAMES: Interner<str> = Interner::new();
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..scaled(1000, 20) {
                    let alpha = NAMES.intern_static("alpha");
                    assert_eq!(Interned::immortalize(alpha), *"alpha");
                }
            });
        }
    });
    assert_eq!(NAMES.len(), 1);
}

#[test]
fn the_knowledge_survives_a_raw_pointer() {
    static NAMES: Interner<str> = Interner::new();
    let before = NAMES.intern("alpha");
    let raw = Interned::into_raw(before.clone());
    let alpha = Interned::immortalize(before);
    for _ in 0..10 {
        let raw = Interned::into_raw(alpha.clone());
        assert!(std::ptr::eq(raw, &*alpha));
        // SAFETY: `raw` came from `into_raw`, and is taken back once.
        assert_eq!(unsafe { Interned::from_raw(raw) }, alpha);
    }
    // SAFETY: as above.
    assert_eq!(unsafe { Interned::from_raw(raw) }, alpha);
}

#[cfg(feature = "arc-swap")]
#[test]
fn it_is_one_instance_to_arc_swap() {
    use arc_swap::{ArcSwapAny, RefCnt};

    static NAMES: Interner<str> = Interner::new();
    let before = NAMES.intern("alpha");
    let current: ArcSwapAny<_> = ArcSwapAny::new(before.clone());
    let after = Interned::immortalize(before.clone());
    assert_eq!(RefCnt::as_ptr(&before), RefCnt::as_ptr(&after));
    for handle in [&before, &after] {
        current.store(handle.clone());
        assert!(Interned::is_immortal(&current.load()));
        current.rcu(|now| now.clone());
        // Whichever handle leads to it, it is what is there.
        let beta = NAMES.intern("beta");
        assert_eq!(*current.compare_and_swap(&after, beta.clone()), after);
        assert_eq!(*current.load(), beta);
        current.store(handle.clone());
        current.compare_and_swap(&before, beta.clone());
        assert_eq!(*current.load(), beta);
    }
    drop(current);
    assert_eq!((NAMES.len(), &*before), (1, "alpha"));
}

/// Handles from before the change count down, and others that were given away twice count up.
#[test]
fn handles_that_count_do_no_harm() {
    let census = Census::new();
    let values = Interner::new();
    let many: Vec<_> = (0..scaled(10_000, 100))
        .map(|_| values.intern(Counted::new(1, &census)))
        .collect();
    keep(values.intern_static(Counted::new(1, &census)));
    thread::scope(|scope| {
        for chunk in many.chunks(many.len() / 4) {
            scope.spawn(|| chunk.to_vec().len());
        }
    });
    drop(many);
    assert_eq!((census.live(), values.len()), (1, 1));
    values
        .get(&Counted::new(1, &census))
        .unwrap()
        .assert_alive();
}

/// Four threads find, clone and drop it, among values that come and go beside it.
#[test]
fn it_stays_among_values_that_come_and_go() {
    let census = Census::new();
    let values = Interner::new();
    keep(values.intern_static(Counted::new(0, &census)));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..scaled(20_000, 50) as u64 {
                    let value = values.intern(Counted::new(round % 3, &census));
                    value.clone().assert_alive();
                }
            });
        }
    });
    assert_eq!((census.live(), values.len()), (1, 1));
}
