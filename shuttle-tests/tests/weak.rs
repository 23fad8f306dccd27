//! Weak handles and callbacks.

use std::sync::Arc;

use hapax::Interned;
use hapax_shuttle_tests::mix::{Callbacks, assert_gone};
use hapax_shuttle_tests::{assert_empty, below, chance, explore, key, together, values};

/// Weak handles are made, upgraded and dropped while the value dies and comes back.
///
/// Would catch: a handle of a dead value; a weak handle of one value that leads to the next; an upgrade that fails
/// though somebody holds the value.
#[test]
fn weak_handles_race_deaths() {
    explore(16_000, || {
        let (values, census) = values();
        let first = values.intern(census.value(key(0)));
        let weak = Interned::downgrade(&first);
        let serial = first.life.serial;
        let last = together((0..5).map(|number| {
            let (values, census) = (values.clone(), census.clone());
            let (mut strong, mut weak) = (vec![first.clone()], vec![(weak.clone(), serial)]);
            let keeps = number == 0 && chance(2);
            move || {
                for _ in 0..6 {
                    let (of, serial) = weak[below(weak.len())].clone();
                    match below(4) {
                        0 => match of.upgrade() {
                            Some(value) => {
                                value.touch();
                                assert_eq!(value.life.serial, serial);
                                strong.push(value);
                            }
                            None => assert!(strong.iter().all(|held| held.life.serial != serial)),
                        },
                        1 => {
                            let value = values.intern(census.value(key(0)));
                            weak.push((Interned::downgrade(&value), value.life.serial));
                        }
                        2 if weak.len() > 1 => drop(weak.swap_remove(below(weak.len()))),
                        _ => strong.truncate(usize::from(keeps)),
                    }
                }
                strong
            }
        }));
        drop((first, last));
        assert!(weak.upgrade().is_none());
        assert_eq!(weak.strong_count(), 0);
        assert_empty(&values, &census);
    });
}

/// Callbacks are registered, shared, cancelled and called.
///
/// Would catch: a callback that runs twice, or for a value that lives; one that is lost with those that were
/// cancelled; a closure that is dropped twice, never, or while it runs.
#[test]
fn callbacks_run_once_or_are_cancelled() {
    explore(16_000, || {
        let (values, census) = values();
        let callbacks = Arc::<Callbacks>::default();
        let first = values.intern(census.value(key(0)));
        let kept: Vec<_> = (0..3)
            .map(|_| Interned::downgrade_with(&first, callbacks.register()))
            .collect();
        let shared = kept[0].clone();
        let left = together((0..5).map(|_| {
            let (callbacks, strong, shared) = (callbacks.clone(), first.clone(), shared.clone());
            move || {
                let mut weak = vec![shared];
                for _ in 0..5 {
                    if chance(2) {
                        weak.push(Interned::downgrade_with(&strong, callbacks.register()));
                    } else {
                        weak.truncate(below(weak.len() + 1));
                    }
                }
                assert_eq!(callbacks.ran(), 0, "the value lives");
                // Some are cancelled while the value dies.
                drop(strong);
                weak.truncate(below(weak.len() + 1));
                weak
            }
        }));
        drop(shared);
        assert_eq!(callbacks.ran(), 0, "the value lives");
        let armed = callbacks.waiting();
        drop(first);
        assert_eq!((callbacks.ran(), callbacks.waiting()), (armed, 0));
        drop((left, kept));
        assert_eq!(callbacks.ran(), armed);
        assert_empty(&values, &census);
        assert_gone(&census, &callbacks);
    });
}

/// As before, but nobody waits with the last handle: deaths race registrations of others and cancellations.
#[test]
fn callbacks_race_the_death() {
    explore(16_000, || {
        let (values, census) = values();
        let callbacks = Arc::<Callbacks>::default();
        together((0..5).map(|_| {
            let (values, census, callbacks) = (values.clone(), census.clone(), callbacks.clone());
            move || {
                for _ in 0..2 {
                    let value = values.intern(census.value(key(below(2))));
                    let one = Interned::downgrade_with(&value, callbacks.register());
                    let two = Interned::downgrade_with(&value, callbacks.register());
                    if chance(2) {
                        drop((two, value));
                    } else {
                        drop((value, two));
                    }
                    assert!(
                        one.upgrade()
                            .is_none_or(|value| value.key == key(0) || value.key == key(1))
                    );
                }
            }
        }));
        assert_empty(&values, &census);
        assert_gone(&census, &callbacks);
    });
}
