//! Values that are made immortal, while others take and give back handles of them.

use hapax::Interned;
use hapax_loom_tests::{Key, meet, model, pinned, race, values};

/// One thread makes a value immortal and drops its handle, while the other one drops the only handle that counts.
///
/// Would catch: a bias that a compare-exchange to DEAD overlooks, a handle that knows it needn't count but does.
#[test]
fn immortality_races_last_drop() {
    model(3, || {
        let (values, ledger) = values();
        let here = values.intern(ledger.value(Key::at(1)));
        let there = here.clone();
        race(
            move || drop(Interned::immortalize(here)),
            move || drop(there),
        );
        let found = values.get(&Key::at(1)).expect("it never dies");
        found.touch();
        assert!(Interned::is_immortal(&found));
        assert_eq!(ledger.alive(), 1);
    });
}

/// One thread makes a value immortal, while the other one finds it, reads it and drops what it got.
///
/// Would catch: a finder that doesn't count and doesn't keep the value either, or that reads it unpublished.
#[test]
fn immortality_races_get() {
    model(3, || {
        let (values, ledger) = values();
        let (immortal, ()) = meet(
            {
                let (values, ledger) = (values.clone(), ledger.clone());
                move || {
                    let value = ledger.value(Key::at(1));
                    drop(pinned(|| values.intern_static(value)));
                    values.get(&Key::at(1)).expect("it never dies")
                }
            },
            {
                let values = values.clone();
                move || {
                    if let Some(found) = pinned(|| values.get(&Key::at(1))) {
                        found.touch();
                    }
                }
            },
        );
        immortal.touch();
        assert_eq!(ledger.alive(), 1);
        loom::skip_branch();
    });
}

/// Two threads make one value immortal.
///
/// Would catch: a bias that is added twice, which reaches the flags.
#[test]
fn immortality_races_immortality() {
    model(3, || {
        let (values, ledger) = values();
        let here = values.intern(ledger.value(Key::at(1)));
        let there = here.clone();
        let (here, there) = race(
            move || Interned::immortalize(here),
            move || Interned::immortalize(there),
        );
        assert!(here == there && Interned::is_immortal(&here));
        drop((here, there));
        assert_eq!(values.len(), 1);
        assert!(values.get(&Key::at(1)).is_some());
    });
}

/// A weak handle is upgraded, while the value becomes immortal and its interner goes.
///
/// Would catch: a teardown that closes an immortal value.
#[test]
fn immortality_races_upgrade_and_teardown() {
    model(2, || {
        let (values, ledger) = values();
        let here = values.intern(ledger.value(Key::at(1)));
        let weak = Interned::downgrade(&here);
        let (immortal, found) = race(
            move || {
                let immortal = Interned::immortalize(here);
                drop(values);
                immortal
            },
            move || weak.upgrade().expect("it is held, or never dies"),
        );
        found.touch();
        drop((immortal, found));
        assert_eq!(ledger.alive(), 1);
    });
}
