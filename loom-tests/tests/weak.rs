//! Weak handles, side records, callbacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hapax::{Interned, WeakInterned};
use hapax_loom_tests::{Key, Ledger, Life, assert_empty, model, race, race3, values};

/// The last handle goes while a weak one is upgraded.
///
/// Would catch: a handle of a dead value, or of one whose memory was given back.
#[test]
fn last_drop_races_upgrade() {
    model(3, || {
        let (values, ledger) = values();
        let a = values.intern(ledger.value(Key::at(1)));
        let weak = Interned::downgrade(&a);
        let ((), strong) = race(
            move || {
                a.touch();
                drop(a);
            },
            move || weak.upgrade().inspect(|strong| strong.touch()),
        );
        assert_eq!(ledger.alive(), strong.iter().count());
        drop(strong);
        assert_empty(&values, &ledger);
    });
}

/// A last drop sleeps after its decrement, while a weak handle is upgraded twice, and the value looked up in between.
///
/// Would catch: a revival that toggles CLOSING although it is set, or doesn't set it.
#[test]
fn last_drop_races_revivals_of_both_kinds() {
    model(3, || {
        let (values, ledger) = values();
        let there = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        let weak = Interned::downgrade(&a);
        race(
            move || drop(a),
            move || {
                drop(weak.upgrade());
                drop(there.get(&Key::at(1)));
                drop(weak.upgrade());
                drop(weak);
                there.flush();
            },
        );
        assert_empty(&values, &ledger);
    });
}

/// The value dies and its memory is given back while a weak handle is upgraded.
///
/// Would catch: a weak handle that reads the node after its end.
#[test]
fn reclamation_races_upgrade() {
    model(2, || {
        let (values, ledger) = values();
        let here = values.clone();
        let a = values.intern(ledger.value(Key::at(1)));
        let weak = Interned::downgrade(&a);
        let ((), strong) = race(
            move || {
                drop(a);
                here.flush();
            },
            move || weak.upgrade().inspect(|strong| strong.touch()),
        );
        assert_eq!(ledger.alive(), strong.iter().count());
        drop(strong);
        assert_empty(&values, &ledger);
    });
}

/// Two threads make the first weak handle of a value.
///
/// Would catch: two side records, one of which never learns of the value's death.
#[test]
fn downgrade_races_downgrade() {
    model(3, || {
        let (values, ledger) = values();
        let a = values.intern(ledger.value(Key::at(1)));
        let b = a.clone();
        let (v, w) = race(
            move || Interned::downgrade(&a),
            move || Interned::downgrade(&b),
        );
        assert!(v.ptr_eq(&w));
        assert!(v.upgrade().is_none() && w.upgrade().is_none());
        drop((v, w));
        assert_empty(&values, &ledger);
    });
}

/// One handle makes the first weak one and goes, while the other goes too.
///
/// Would catch: a closer that doesn't see the side record.
#[test]
fn downgrade_races_drop() {
    model(3, || {
        let (values, ledger) = values();
        let a = values.intern(ledger.value(Key::at(1)));
        let b = a.clone();
        let (weak, ()) = race(
            move || {
                let weak = Interned::downgrade(&a);
                drop(a);
                weak
            },
            move || drop(b),
        );
        assert!(weak.upgrade().is_none());
        assert_empty(&values, &ledger);
    });
}

/// The last weak handle goes while the last strong one does.
///
/// Would catch: a side record that is freed twice, or while the closer uses it.
#[test]
fn last_weak_drop_races_last_drop() {
    model(3, || {
        let (values, ledger) = values();
        let a = values.intern(ledger.value(Key::at(1)));
        let weak = Interned::downgrade(&a);
        race(move || drop(a), move || drop(weak));
        assert_empty(&values, &ledger);
    });
}

/// A callback's closure, and how often it ran.
#[derive(Clone, Default)]
struct Calls(Arc<AtomicUsize>);

impl Calls {
    fn weak<T>(&self, of: &Interned<T>, life: Life) -> WeakInterned<T> {
        let calls = self.clone();
        Interned::downgrade_with(of, move || {
            life.touch();
            calls.0.fetch_add(1, Relaxed);
        })
    }

    fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// A callback is cancelled while its value dies.
///
/// Would catch: a callback that runs twice, a closure that is dropped twice, never, or while it runs.
#[test]
fn cancel_races_death() {
    model(3, || {
        let (values, ledger) = values();
        let closures = Ledger::new();
        let calls = Calls::default();
        let a = values.intern(ledger.value(Key::at(1)));
        let weak = calls.weak(&a, closures.life());
        race(move || drop(a), move || drop(weak));
        assert!(calls.count() <= 1);
        assert_eq!(closures.alive(), 0, "the closure was leaked");
        assert_empty(&values, &ledger);
    });
}

/// Both weak handles that share a callback go, while their value dies.
///
/// Would catch: as above.
#[test]
fn shared_cancel_races_death() {
    model(2, || {
        let (values, ledger) = values();
        let closures = Ledger::new();
        let calls = Calls::default();
        let a = values.intern(ledger.value(Key::at(1)));
        let v = calls.weak(&a, closures.life());
        let w = v.clone();
        race3(move || drop(a), move || drop(v), move || drop(w));
        assert!(calls.count() <= 1);
        assert_eq!(closures.alive(), 0, "the closure was leaked");
        assert_empty(&values, &ledger);
    });
}

/// Two callbacks are registered while cancelled ones are thrown away.
///
/// Would catch: a callback that is lost with those that were cancelled, or runs twice.
#[test]
fn registration_races_registration_and_prune() {
    model(3, || {
        let (values, ledger) = values();
        let closures = Ledger::new();
        let (one, two) = (Calls::default(), Calls::default());
        let a = values.intern(ledger.value(Key::at(1)));
        let b = a.clone();
        // Two cancelled callbacks, so that the next registrations prune.
        for _ in 0..2 {
            drop(Calls::default().weak(&a, closures.life()));
        }
        let (here, there) = (one.clone(), two.clone());
        let (life, life2) = (closures.life(), closures.life());
        let (weak, weak2) = race(
            move || {
                let weak = here.weak(&a, life);
                drop(a);
                weak
            },
            move || {
                let weak = there.weak(&b, life2);
                drop(b);
                weak
            },
        );
        assert_eq!((one.count(), two.count()), (1, 1));
        drop((weak, weak2));
        assert_eq!(closures.alive(), 0, "a closure was leaked");
        assert_empty(&values, &ledger);
    });
}

/// A callback is registered by one thread and cancelled by another one, while a third party's registration
/// prunes.
///
/// Would catch: a closure dropped by two, or by none.
#[test]
fn cancel_races_prune() {
    model(3, || {
        let (values, ledger) = values();
        let closures = Ledger::new();
        let calls = Calls::default();
        let a = values.intern(ledger.value(Key::at(1)));
        drop(Calls::default().weak(&a, closures.life()));
        let cancelled = Calls::default();
        let weak = cancelled.weak(&a, closures.life());
        let here = calls.clone();
        let life = closures.life();
        let (weak, ()) = race(
            move || {
                let weak = here.weak(&a, life);
                drop(a);
                weak
            },
            move || drop(weak),
        );
        assert_eq!(calls.count(), 1);
        assert!(cancelled.count() <= 1);
        drop(weak);
        assert_eq!(closures.alive(), 0, "a closure was leaked");
        assert_empty(&values, &ledger);
    });
}
