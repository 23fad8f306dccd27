//! The map: removal, and values built exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hapax::{Cached, InitError};
use hapax_loom_tests::{
    Key, Ledger, assert_map_empty, map, model, pinned, quietly, race, race3, spawn,
};

const KEY: fn() -> Key = || Key::at(1);

/// An entry is removed while another thread looks it up and lets go, and its last handle goes.
///
/// Would catch: a removed entry that is found later, closed twice, or leaked because it is no longer linked.
#[test]
fn remove_races_get_and_last_drop() {
    model(2, || {
        let (map, ledger) = map();
        let (here, there) = (map.clone(), map.clone());
        let a = map.get_or_insert(KEY(), ledger.life());
        race3(
            move || {
                if let Some(removed) = here.remove(&KEY()) {
                    removed.touch();
                    assert!(here.get(&KEY()).is_none());
                }
            },
            move || {
                if let Some(found) = there.get(&KEY()) {
                    found.touch();
                }
            },
            move || drop(a),
        );
        assert!(map.get(&KEY()).is_none());
        assert_map_empty(&map, &ledger);
    });
}

/// An entry is removed while its only handle goes.
///
/// Would catch: a count of entries that is off by one, because an entry was counted out twice, or never.
#[test]
fn remove_races_last_drop() {
    model(3, || {
        let (map, ledger) = map();
        let here = map.clone();
        let a = map.get_or_insert(KEY(), ledger.life());
        race(move || drop(here.remove(&KEY())), move || drop(a));
        assert_map_empty(&map, &ledger);
    });
}

/// Two threads remove the same entry.
///
/// Would catch: both get it.
#[test]
fn remove_races_remove() {
    model(3, || {
        let (map, ledger) = map();
        let (here, there) = (map.clone(), map.clone());
        let a = map.get_or_insert(KEY(), ledger.life());
        let (one, two) = race(move || here.remove(&KEY()), move || there.remove(&KEY()));
        assert!(one.is_some() != two.is_some());
        assert_eq!(map.len(), 0);
        drop((a, one, two));
        assert_map_empty(&map, &ledger);
    });
}

/// An entry is removed while another thread sets its key again.
///
/// Would catch: two visible entries of one key; a removed entry handed out by a call that began later.
#[test]
fn remove_races_get_or_insert() {
    model(3, || {
        let (map, ledger) = map();
        let (here, there) = (map.clone(), map.clone());
        let a = map.get_or_insert(KEY(), ledger.life());
        let new = ledger.life();
        let (removed, b) = race(
            move || here.remove(&KEY()),
            move || {
                let b = there.get_or_insert(KEY(), new);
                b.touch();
                b
            },
        );
        let removed = removed.expect("one entry or the other was there all the time");
        removed.touch();
        match map.get(&KEY()) {
            Some(found) => assert!(Cached::ptr_eq(&found, &b) && !Cached::ptr_eq(&b, &removed)),
            None => assert!(Cached::ptr_eq(&b, &removed)),
        }
        assert!(map.iter().count() <= 1);
        drop((a, b, removed));
        assert_map_empty(&map, &ledger);
    });
}

/// Counts the builders that ran, and makes their values.
#[derive(Clone)]
struct Builders(Ledger, Arc<AtomicUsize>);

impl Builders {
    fn new(ledger: &Ledger) -> Self {
        Self(ledger.clone(), Arc::default())
    }

    fn build(&self) -> hapax_loom_tests::Life {
        self.1.fetch_add(1, Relaxed);
        self.0.life()
    }

    fn fail(&self) -> Result<hapax_loom_tests::Life, ()> {
        self.1.fetch_add(1, Relaxed);
        Err(())
    }

    fn ran(&self) -> usize {
        self.1.load(Relaxed)
    }
}

/// Two threads want a value built.
///
/// Would catch: two builders; a waiter that sleeps for ever, or reads a value that isn't there yet.
#[test]
fn get_or_init_races_get_or_init() {
    model(2, || {
        let (map, ledger) = map();
        let builders = Builders::new(&ledger);
        let (here, there) = (map.clone(), map.clone());
        let (one, two) = (builders.clone(), builders.clone());
        let (a, b) = race(
            move || {
                let a = here.get_or_init(KEY(), |_| one.build());
                a.touch();
                a
            },
            move || {
                let b = there.get_or_init(KEY(), |_| two.build());
                b.touch();
                b
            },
        );
        assert_eq!(builders.ran(), 1);
        assert!(Cached::ptr_eq(&a, &b));
        assert_eq!(map.len(), 1);
        drop((a, b));
        assert_map_empty(&map, &ledger);
    });
}

/// As before; each lets go of the value at once.
///
/// Would catch: a waiter that misses the value because its builder let go; an entry that is closed twice.
#[test]
fn get_or_init_races_short_lived_get_or_init() {
    model(2, || {
        let (map, ledger) = map();
        let builders = Builders::new(&ledger);
        let (here, there) = (map.clone(), map.clone());
        let (one, two) = (builders.clone(), builders.clone());
        race(
            move || here.get_or_init(KEY(), |_| one.build()).touch(),
            move || there.get_or_init(KEY(), |_| two.build()).touch(),
        );
        assert!((1..=2).contains(&builders.ran()));
        assert_map_empty(&map, &ledger);
    });
}

/// A value is looked up while it is built.
///
/// Would catch: a look-up that sees the entry before its value.
#[test]
fn get_races_get_or_init() {
    model(3, || {
        let (map, ledger) = map();
        let builders = Builders::new(&ledger);
        let (here, there) = (map.clone(), map.clone());
        let (a, found) = race(
            move || here.get_or_init(KEY(), |_| builders.build()),
            move || there.get(&KEY()).inspect(|found| found.touch()),
        );
        assert!(found.as_ref().is_none_or(|found| Cached::ptr_eq(found, &a)));
        drop((a, found));
        assert_map_empty(&map, &ledger);
    });
}

/// The entries are iterated over while one is built.
///
/// Would catch: an iteration that hands out an entry before its value.
#[test]
fn iter_races_get_or_init() {
    model(3, || {
        let (map, ledger) = map();
        let builders = Builders::new(&ledger);
        let (here, there) = (map.clone(), map.clone());
        let (a, ()) = race(
            move || here.get_or_init(KEY(), |_| builders.build()),
            move || there.iter().for_each(|entry| entry.touch()),
        );
        drop(a);
        assert_map_empty(&map, &ledger);
    });
}

/// A builder fails while another thread waits for it.
///
/// Would catch: a waiter that isn't woken, or doesn't build in its turn; an entry that stays unbuilt.
#[test]
fn failing_builder_races_waiter() {
    model(2, || {
        let (map, ledger) = map();
        let (failing, builders) = (Builders::new(&ledger), Builders::new(&ledger));
        let (here, there) = (map.clone(), map.clone());
        let (one, two) = (failing.clone(), builders.clone());
        let (a, b) = race(
            move || here.try_get_or_init(KEY(), |_| one.fail()),
            move || {
                let b = there.get_or_init(KEY(), |_| two.build());
                b.touch();
                b
            },
        );
        assert_eq!(
            (builders.ran(), failing.ran()),
            (1, usize::from(a.is_err()))
        );
        match a {
            Ok(a) => assert!(Cached::ptr_eq(&a, &b)),
            Err(error) => assert_eq!(error, InitError::Init(())),
        }
        assert_eq!(map.len(), 1);
        drop(b);
        assert_map_empty(&map, &ledger);
    });
}

/// Both builders of a key fail.
///
/// Would catch: a key without a value that stays in the table.
#[test]
fn failing_builder_races_failing_builder() {
    model(2, || {
        let (map, ledger) = map();
        let builders = Builders::new(&ledger);
        let (here, there) = (map.clone(), map.clone());
        let (one, two) = (builders.clone(), builders.clone());
        let (a, b) = race(
            move || here.try_get_or_init(KEY(), |_| one.fail()).is_err(),
            move || there.try_get_or_init(KEY(), |_| two.fail()).is_err(),
        );
        assert!(a && b);
        assert_eq!(builders.ran(), 2);
        assert_map_empty(&map, &ledger);
    });
}

/// A value is built while another one is set for its key.
///
/// Would catch: two visible entries of one key; the builder's own value handed out beside the other; a
/// value that is leaked.
#[test]
fn builder_races_get_or_insert() {
    model(3, || {
        let (map, ledger) = map();
        let builders = Builders::new(&ledger);
        let (here, there) = (map.clone(), map.clone());
        let new = ledger.life();
        let (a, b) = race(
            move || here.get_or_init(KEY(), |_| builders.build()),
            move || {
                let b = there.get_or_insert(KEY(), new);
                b.touch();
                b
            },
        );
        a.touch();
        assert!(Cached::ptr_eq(&a, &b));
        assert_eq!((map.len(), ledger.alive()), (1, 1));
        drop((a, b));
        assert_map_empty(&map, &ledger);
    });
}

/// As before, with both threads pinned throughout.
///
/// Would catch: an inserter that reads the value which was built without seeing it; a builder that finds itself
/// given up and misses what was linked instead.
#[test]
fn pinned_builder_races_pinned_get_or_insert() {
    model(3, || {
        let (map, ledger) = map();
        let builders = Builders::new(&ledger);
        let (here, there) = (map.clone(), map.clone());
        let new = ledger.life();
        let (a, b) = race(
            move || pinned(|| here.get_or_init(KEY(), |_| builders.build())),
            move || {
                pinned(|| {
                    let b = there.get_or_insert(KEY(), new);
                    b.touch();
                    b
                })
            },
        );
        assert!(Cached::ptr_eq(&a, &b));
        assert_eq!(map.len(), 1);
        drop((a, b));
        assert_map_empty(&map, &ledger);
    });
}

/// As before, and the other value is let go of at once.
///
/// Would catch: a builder that finds neither value; an entry counted in without being visible.
#[test]
fn builder_races_short_lived_get_or_insert() {
    model(2, || {
        let (map, ledger) = map();
        let builders = Builders::new(&ledger);
        let (here, there) = (map.clone(), map.clone());
        let new = ledger.life();
        let (a, ()) = race(
            move || here.get_or_init(KEY(), |_| builders.build()),
            move || there.get_or_insert(KEY(), new).touch(),
        );
        a.touch();
        assert_eq!(ledger.alive(), 1);
        drop(a);
        assert_map_empty(&map, &ledger);
    });
}

/// A thread waits for a builder that another value of the key makes superfluous.
///
/// Would catch: a waiter that sleeps on, though the entry was given up.
#[test]
fn waiter_races_get_or_insert() {
    model(1, || {
        let (map, ledger) = map();
        let builders = Builders::new(&ledger);
        let (here, there, elsewhere) = (map.clone(), map.clone(), map.clone());
        let (one, two) = (builders.clone(), builders.clone());
        let new = ledger.life();
        let (a, b, c) = race3(
            move || here.get_or_init(KEY(), |_| one.build()),
            move || there.get_or_init(KEY(), |_| two.build()),
            move || elsewhere.get_or_insert(KEY(), new),
        );
        assert!(Cached::ptr_eq(&a, &b) && Cached::ptr_eq(&a, &c));
        drop((a, b, c));
        assert_map_empty(&map, &ledger);
    });
}

/// An entry is given up for one that is gone again, and completed all the same, while another thread waits for
/// it.
///
/// Would catch: a waiter that reads the value without seeing it.
#[test]
fn waiter_races_completion_of_given_up_entry() {
    model(3, || {
        let (map, ledger) = map();
        let there = map.clone();
        let second = ledger.clone();
        let mut waiter = None;
        let built = map.get_or_init(KEY(), |_| {
            waiter = Some(spawn(move || {
                there.get_or_init(KEY(), |_| second.life()).touch();
            }));
            // For the waiter to meet the entry before it is given up.
            loom::thread::yield_now();
            quietly(|| drop(map.get_or_insert(KEY(), ledger.life())));
            ledger.life()
        });
        built.touch();
        waiter.unwrap().join().unwrap();
        loom::skip_branch();
        drop(built);
        assert_map_empty(&map, &ledger);
    });
}

/// Two threads build two keys, each of which needs the other.
///
/// Would catch: threads that wait for each other for ever; an error for both, or for none.
#[test]
fn cycle_of_two_builders() {
    static DEADLOCKS: AtomicUsize = AtomicUsize::new(0);
    model(1, || {
        let (map, ledger) = map();
        let deadlocks = Arc::new(AtomicUsize::new(0));
        let both = [(1, 2), (2, 1)].map(|(outer, inner)| {
            let (map, ledger, deadlocks) = (map.clone(), ledger.clone(), deadlocks.clone());
            move || {
                let entry = map.get_or_init(Key::at(outer), |_| {
                    match map.try_get_or_init(Key::at(inner), |_| Ok::<_, ()>(ledger.life())) {
                        Err(InitError::Deadlock) => deadlocks.fetch_add(1, Relaxed),
                        _ => 0,
                    };
                    ledger.life()
                });
                entry.touch();
            }
        });
        let [one, two] = both;
        race(one, two);
        let deadlocks = deadlocks.load(Relaxed);
        assert!(deadlocks <= 1);
        DEADLOCKS.fetch_add(deadlocks, Relaxed);
        assert_map_empty(&map, &ledger);
    });
    assert_ne!(DEADLOCKS.load(Relaxed), 0, "no run has closed the cycle");
}
