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
        let weak = (Interned::downgrade(&first), first.life.serial);
        let of_first = weak.0.clone();
        together(vec![(first, weak); 5].into_iter().map(|(first, weak)| {
            let (values, census) = (values.clone(), census.clone());
            let (mut strong, mut weak) = (vec![first], vec![weak]);
            move || {
                for _ in 0..6 {
                    let (of, serial) = weak[below(weak.len())].clone();
                    match below(5) {
                        0 | 1 => match of.upgrade() {
                            Some(value) => {
                                value.touch();
                                assert_eq!(value.life.serial, serial);
                                strong.push(value);
                            }
                            None => assert!(strong.iter().all(|held| held.life.serial != serial)),
                        },
                        2 => {
                            let value = values.intern(census.value(key(0)));
                            weak.push((Interned::downgrade(&value), value.life.serial));
                        }
                        3 if weak.len() > 1 => drop(weak.swap_remove(below(weak.len()))),
                        _ => strong.truncate(below(2)),
                    }
                }
                drop(strong);
            }
        }));
        assert!(of_first.upgrade().is_none());
        assert_eq!(of_first.strong_count(), 0);
        assert_empty(&values, &census);
    });
}

/// Callbacks are registered, shared and cancelled; then the value dies, while more of them are cancelled.
///
/// Would catch: a callback that runs twice, or for a value that lives; one that is lost with those that were
/// cancelled; a closure that is dropped twice, never, or while it runs.
#[test]
fn callbacks_run_once_or_are_cancelled() {
    explore(16_000, || {
        let (values, census) = values();
        let callbacks = Arc::<Callbacks>::default();
        let first = values.intern(census.value(key(0)));
        let shared = Interned::downgrade_with(&first, callbacks.register());
        let threads = together(
            vec![(first, shared); 5]
                .into_iter()
                .map(|(strong, shared)| {
                    let callbacks = callbacks.clone();
                    move || {
                        let mut weak = vec![shared];
                        for _ in 0..5 {
                            if chance(2) {
                                weak.push(Interned::downgrade_with(&strong, callbacks.register()));
                            } else {
                                weak.truncate(below(weak.len() + 1));
                            }
                        }
                        (strong, weak)
                    }
                }),
        );
        assert_eq!(callbacks.ran(), 0, "the value lives");
        let (armed, cancels) = (callbacks.waiting(), chance(2));
        let left = together(threads.into_iter().map(|(strong, mut weak)| {
            move || {
                drop(strong);
                if cancels {
                    weak.truncate(below(weak.len() + 1));
                }
                weak
            }
        }));
        assert_eq!(callbacks.waiting(), 0, "the value is dead");
        assert!(callbacks.ran() == armed || cancels && callbacks.ran() < armed);
        drop(left);
        assert_empty(&values, &census);
        assert_gone(&census, &callbacks);
    });
}

/// Two values come and go, each with callbacks of its own: deaths race registrations and cancellations.
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
