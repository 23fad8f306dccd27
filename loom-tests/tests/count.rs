//! The count of a node: taken, given back, revived, closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hapax::Interned;
use hapax_loom_tests::{Key, assert_empty, model, pinned, race, race3, values};

/// Two threads intern the same value.
///
/// Would catch: two live instances; a value that lost the race and was destroyed twice or never.
#[test]
fn intern_races_intern() {
    model(3, || {
        let (values, ledger) = values();
        let (here, there) = (values.clone(), values.clone());
        let (one, two) = (ledger.value(Key::at(1)), ledger.value(Key::at(1)));
        let (a, b) = race(move || here.intern(one), move || there.intern(two));
        assert!(Interned::ptr_eq(&a, &b));
        a.touch();
        assert_eq!((Interned::ref_count(&a), values.len()), (2, 1));
        assert_eq!(ledger.alive(), 1);
        drop((a, b));
        assert_empty(&values, &ledger);
    });
}

/// The last handle goes while another thread interns the value.
///
/// Would catch: a dead instance handed out, or one that dies while it has a handle.
#[test]
fn last_drop_races_intern() {
    model(3, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        let new = ledger.value(Key::at(1));
        let ((), b) = race(
            move || {
                a.touch();
                drop(a);
            },
            move || {
                let b = there.intern(new);
                b.touch();
                b
            },
        );
        b.touch();
        assert_eq!((Interned::ref_count(&b), values.len()), (1, 1));
        assert_eq!(values.get(&Key::at(1)).as_ref(), Some(&b));
        assert_eq!(ledger.alive(), 1);
        drop(b);
        assert_empty(&values, &ledger);
    });
}

/// The last two handles go at once.
///
/// Would catch: both drops believing that the other is the last, or both closing.
#[test]
fn last_drop_races_last_drop() {
    model(3, || {
        let (values, ledger) = values();
        let a = values.intern(ledger.value(Key::at(1)));
        let b = a.clone();
        race(move || drop(a), move || drop(b));
        assert_empty(&values, &ledger);
    });
}

/// Two handles go while a third thread looks the value up and lets go of it.
///
/// Would catch: a revived value that two threads close, or none.
#[test]
fn two_drops_race_get() {
    model(3, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        let b = a.clone();
        race3(
            move || drop(a),
            move || drop(b),
            move || {
                if let Some(c) = there.get(&Key::at(1)) {
                    c.touch();
                }
            },
        );
        assert_empty(&values, &ledger);
    });
}

/// One thread reads the value and lets go; the other's drop closes it.
///
/// Would catch: a destructor that isn't ordered after the other handle's last use.
#[test]
fn close_races_last_dereference() {
    model(3, || {
        let (values, ledger) = values();
        let a = values.intern(ledger.value(Key::at(1)));
        let b = a.clone();
        race(
            move || {
                a.touch();
                drop(a);
            },
            move || {
                b.touch();
                drop(b);
            },
        );
        assert_empty(&values, &ledger);
    });
}

/// A last drop sleeps after its decrement, while the other thread revives the value, lets go of it, and frees what it
/// can.
///
/// Would catch: a reviver that closes the node before its closer has looked; a value that each leaves to the other.
#[test]
fn last_drop_races_revival_and_reclamation() {
    model(3, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        race(
            move || drop(a),
            move || {
                drop(there.get(&Key::at(1)));
                there.flush();
            },
        );
        assert_empty(&values, &ledger);
    });
}

/// As before, and the value comes back, perhaps where the old one lay.
///
/// Would catch: a late drop that closes the new entry, though it has a handle.
#[test]
fn last_drop_races_reuse_of_its_address() {
    static REUSED: AtomicUsize = AtomicUsize::new(0);
    model(3, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        let old = Interned::as_ptr(&a).addr();
        let new = ledger.value(Key::at(1));
        let ((), b) = race(
            move || drop(a),
            move || {
                drop(there.get(&Key::at(1)));
                there.flush();
                let b = there.intern(new);
                if Interned::as_ptr(&b).addr() == old {
                    REUSED.fetch_add(1, Relaxed);
                }
                b.touch();
                b
            },
        );
        b.touch();
        assert_eq!((ledger.alive(), values.len()), (1, 1));
        drop(b);
        assert_empty(&values, &ledger);
    });
    assert_ne!(REUSED.load(Relaxed), 0, "no run has used the address again");
}

/// A last drop sleeps after its decrement, while two others revive the value and let go of it.
///
/// Would catch: two closers at a time, or none, because one of the three toggles CLOSING once too often.
#[test]
fn last_drop_races_two_revivals() {
    model(2, || {
        let (values, ledger) = values();
        let (one, two) = (values.clone(), values.clone());
        let a = values.intern(ledger.value(Key::at(1)));
        race3(
            move || pinned(|| drop(a)),
            move || pinned(|| drop(one.get(&Key::at(1)))),
            move || pinned(|| drop(two.get(&Key::at(1)))),
        );
        assert_empty(&values, &ledger);
    });
}

/// A last drop sleeps after its decrement, while the value is revived and moved out of the table.
///
/// Would catch: a value that is moved out, and its memory given back, before the closer has looked.
#[test]
fn last_drop_races_revival_and_unwrap() {
    static MOVED: AtomicUsize = AtomicUsize::new(0);
    model(3, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        race(
            move || drop(a),
            move || {
                let found = there.get(&Key::at(1));
                if let Some(Ok(value)) = found.map(Interned::try_unwrap) {
                    MOVED.fetch_add(1, Relaxed);
                    value.touch();
                }
                there.flush();
            },
        );
        assert_empty(&values, &ledger);
    });
    assert_ne!(MOVED.load(Relaxed), 0, "no run has moved the value out");
}

/// The only handle takes the value out of the table while another thread looks it up.
///
/// Would catch: a value that is moved out and found; an entry that is dead and not unlinked.
#[test]
fn try_unwrap_races_get() {
    model(3, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        let (unwrapped, found) = race(
            move || Interned::try_unwrap(a),
            move || {
                let found = there.get(&Key::at(1));
                if let Some(found) = &found {
                    found.touch();
                }
                found
            },
        );
        assert_eq!(ledger.alive(), 1);
        match unwrapped {
            Ok(value) => {
                value.touch();
                assert!(found.is_none());
                assert_eq!(values.len(), 0);
            }
            Err(a) => drop(a),
        }
        drop(found);
        assert_empty(&values, &ledger);
    });
}

/// A value is moved out while its other handle is used and goes.
///
/// Would catch: a value that is moved out without being ordered after its last use.
#[test]
fn try_unwrap_races_last_use() {
    model(3, || {
        let (values, ledger) = values();
        let a = values.intern(ledger.value(Key::at(1)));
        let b = a.clone();
        let (moved, ()) = race(
            move || Interned::try_unwrap(a).map(drop),
            move || {
                b.touch();
                drop(b);
            },
        );
        drop(moved);
        assert_empty(&values, &ledger);
    });
}

/// The drop hook is replaced while the last handle goes.
///
/// Would catch: a value that dies without any of the two, or with both.
#[test]
fn last_drop_races_new_hook() {
    model(3, || {
        let (values, ledger) = values();
        let there = values.clone();
        let called = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let (old, new) = (called.clone(), called.clone());
        let a = values.intern(ledger.value(Key::at(1)));
        values.on_drop(move |value| {
            value.touch();
            old[0].fetch_add(1, Relaxed);
        });
        race(
            move || drop(a),
            move || {
                there.on_drop(move |value| {
                    value.touch();
                    new[1].fetch_add(1, Relaxed);
                });
            },
        );
        assert_eq!(called[0].load(Relaxed) + called[1].load(Relaxed), 1);
        assert_empty(&values, &ledger);
    });
}
