//! The map: removal, values built exactly once, builders that are overtaken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hapax::{Cached, InitError};
use hapax_shuttle_tests::{
    Key, Life, Map, assert_map_empty, below, chance, explore, key, map, step, together,
};

/// Threads want values built, and hold them.
///
/// Would catch: two builders of a key, a waiter that sleeps for ever, or reads a value that isn't there yet.
#[test]
fn values_are_built_once() {
    explore(16_000, || {
        let (map, census) = map();
        let built = Arc::new(AtomicUsize::new(0));
        let entries = together((0..6).map(|_| {
            let (map, census, built) = (map.clone(), census.clone(), built.clone());
            move || {
                let first = below(2);
                [first, 1 - first].map(|number| {
                    let entry = map.get_or_init(key(number), |_| {
                        built.fetch_add(1, Relaxed);
                        step();
                        census.life()
                    });
                    entry.touch();
                    entry
                })
            }
        }));
        assert_eq!(built.load(Relaxed), 2);
        assert_eq!((map.len(), census.alive()), (2, 2));
        for entry in entries.iter().flatten() {
            assert!(Cached::ptr_eq(entry, &map.get(Cached::key(entry)).unwrap()));
        }
        drop(entries);
        assert_map_empty(&map, &census);
    });
}

/// As before; the values die at once, and some builders fail.
///
/// Would catch: a waiter that isn't woken when its builder fails, or misses the value; two builders at a time.
#[test]
fn builders_fail_and_values_die() {
    explore(16_000, || {
        let (map, census) = map();
        let building = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        together((0..6).map(|_| {
            let (map, census, building) = (map.clone(), census.clone(), building.clone());
            move || {
                for _ in 0..3 {
                    let number = below(2);
                    let entry = map.try_get_or_init(key(number), |_| {
                        assert_eq!(
                            building[number].fetch_add(1, Relaxed),
                            0,
                            "two builders at a time"
                        );
                        step();
                        building[number].fetch_sub(1, Relaxed);
                        if chance(3) {
                            Err(())
                        } else {
                            Ok(census.life())
                        }
                    });
                    match entry {
                        Ok(entry) => entry.touch(),
                        Err(error) => assert_eq!(error, InitError::Init(())),
                    }
                }
            }
        }));
        assert_map_empty(&map, &census);
    });
}

/// One thread at a time changes what a key stands for; all others must agree with it.
fn mix_on(map: &Map, census: &hapax_shuttle_tests::Census, held: &mut Vec<Cached<Key, Life>>) {
    let key = key(below(2));
    let entry = match below(6) {
        0 | 1 => map.get_or_insert(key, census.life()),
        2 => map.get_or_init(key, |_| {
            step();
            census.life()
        }),
        3 => {
            let Some(removed) = map.remove(&key) else {
                return;
            };
            removed.touch();
            assert!(
                map.get(&key)
                    .is_none_or(|entry| !Cached::ptr_eq(&entry, &removed))
            );
            return;
        }
        4 => {
            held.truncate(below(held.len() + 1));
            return;
        }
        _ => match map.get(&key) {
            Some(entry) => entry,
            None => return,
        },
    };
    assert_eq!(*Cached::key(&entry), key);
    entry.touch();
    held.push(entry);
}

/// Builders are overtaken by inserts, entries are removed, all on two keys.
///
/// Would catch: two visible entries of one key, an entry counted in or out twice, a builder or an inserter that
/// waits for the other, a value that is leaked.
#[test]
fn builders_are_overtaken() {
    explore(20_000, || {
        let (map, census) = map();
        let held = together((0..5).map(|_| {
            let (map, census) = (map.clone(), census.clone());
            move || {
                let mut held = Vec::new();
                (0..5).for_each(|_| mix_on(&map, &census, &mut held));
                held
            }
        }));
        let visible: Vec<_> = map.iter().collect();
        assert_eq!(map.len(), visible.len(), "the length of the map");
        for entry in &visible {
            let found = map
                .get(Cached::key(entry))
                .expect("a visible entry is found");
            assert!(
                Cached::ptr_eq(&found, entry),
                "two visible entries of one key"
            );
        }
        drop(visible);
        drop(held);
        assert_map_empty(&map, &census);
    });
}

/// Inserters of one key, while it is built: all of them, and the builder, get one entry.
#[test]
fn builder_and_inserters_agree() {
    explore(20_000, || {
        let (map, census) = map();
        let entries = together((0..5).map(|number| {
            let (map, census) = (map.clone(), census.clone());
            move || {
                if number < 2 {
                    map.get_or_init(key(0), |_| {
                        step();
                        census.life()
                    })
                } else {
                    map.get_or_insert(key(0), census.life())
                }
            }
        }));
        let found = map.get(&key(0)).expect("it is held");
        for entry in &entries {
            entry.touch();
            assert!(Cached::ptr_eq(entry, &found), "two entries of one key");
        }
        assert_eq!((map.len(), census.alive()), (1, 1));
        drop((entries, found));
        assert_map_empty(&map, &census);
    });
}

/// Three keys need each other in a circle, and threads build all of them.
///
/// Would catch: threads that wait for each other for ever; more than one error in a circle that is built once.
#[test]
fn circles_of_builders_end_in_an_error() {
    static CIRCLES: AtomicUsize = AtomicUsize::new(0);
    explore(16_000, || {
        let (map, census) = map();
        let deadlocks = Arc::new(AtomicUsize::new(0));
        let entries = together((0..3).map(|number| {
            let (map, census, deadlocks) = (map.clone(), census.clone(), deadlocks.clone());
            move || {
                let entry = map.get_or_init(key(number), |_| {
                    let inner =
                        map.try_get_or_init(key((number + 1) % 3), |_| Ok::<_, ()>(census.life()));
                    match inner {
                        Ok(inner) => inner.touch(),
                        Err(error) => {
                            assert_eq!(error, InitError::Deadlock);
                            deadlocks.fetch_add(1, Relaxed);
                        }
                    }
                    census.life()
                });
                entry.touch();
                entry
            }
        }));
        let deadlocks = deadlocks.load(Relaxed);
        assert!(deadlocks <= 1);
        CIRCLES.fetch_add(deadlocks, Relaxed);
        drop(entries);
        assert_map_empty(&map, &census);
    });
    assert_ne!(CIRCLES.load(Relaxed), 0, "no execution has closed a circle");
}
