//! `WeakMap`, method by method, and what its builders promise.
//!
//! - One live entry for a key, whoever inserts; what isn't needed is dropped once, without a hook.
//! - `get_or_init` builds exactly once. Those who wait get that very value, also if the builder lets go of
//!   it at once. After a panic or an error the next one builds.
//! - Who would wait for itself gets an error, through any number of keys, maps and threads; and only one
//!   of a cycle does. Who doesn't wait for itself gets none.
//! - An entry that is being built is invisible, and gives way to `get_or_insert`.
//! - `remove` forgets an entry and leaves its handles what they are.

mod common;

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use common::{Census, Counted, panic_of, scaled};
use hapax::{Cached, InitError, WeakMap};

// One thread.

#[test]
fn the_first_value_of_a_key_counts() {
    let map = WeakMap::<String, u32>::new();
    assert!(map.is_empty() && map.get("one").is_none());
    let one = map.get_or_insert("one".into(), 1);
    assert_eq!((*one, &Cached::key(&one)[..]), (1, "one"));
    for again in [
        map.get_or_insert("one".into(), 2),
        map.get_or_insert_with("one".into(), |_| unreachable!()),
        map.get_or_init("one".into(), |_| unreachable!()),
        map.try_get_or_insert_with("one".into(), |_| Err(()))
            .unwrap(),
        map.try_get_or_init("one".into(), |_| Err(())).unwrap(),
        map.get("one").unwrap(),
        map.get(&String::from("one")).unwrap(),
    ] {
        assert!(Cached::ptr_eq(&one, &again));
    }
    assert_eq!((map.len(), Cached::ref_count(&one)), (1, 1));
    drop(one);
    assert!(map.is_empty() && map.get("one").is_none());
}

#[test]
fn each_way_to_build_gets_its_key() {
    let map = WeakMap::<u32, u32>::new();
    let held = [
        map.get_or_insert_with(1, |key| key * 10),
        map.get_or_init(2, |key| key * 10),
        map.try_get_or_insert_with(3, |key| Ok::<_, ()>(key * 10))
            .unwrap(),
        map.try_get_or_init(4, |key| Ok::<_, ()>(key * 10)).unwrap(),
    ];
    assert_eq!(held.map(|entry| *entry), [10, 20, 30, 40]);
}

#[test]
fn an_error_changes_nothing() {
    let map = WeakMap::<u32, Counted>::new();
    let error = map.try_get_or_insert_with(1, |_| Err("no")).unwrap_err();
    assert_eq!(error, "no");
    let error = map.try_get_or_init(1, |_| Err("no")).unwrap_err();
    assert_eq!(error, InitError::Init("no"));
    assert_eq!(error.to_string(), "no");
    assert_eq!(error.into_init(), Some("no"));
    assert_eq!((map.len(), map.iter().count()), (0, 0));
    assert!(map.get(&1).is_none() && map.remove(&1).is_none());
}

#[test]
fn handles_show_and_compare_their_values() {
    let map = WeakMap::<u32, &str>::new();
    let one = map.get_or_insert(1, "one");
    assert_eq!(format!("{one} {one:?}"), "one \"one\"");
    assert_eq!(
        format!("{one:p}"),
        format!("{:p}", std::ptr::from_ref(&*one))
    );
    assert_eq!(one.as_ref(), &"one");
    assert_eq!(format!("{map:?}"), "{1: \"one\"}");
    assert!(!format!("{:?} {:?}", map.iter(), Cached::downgrade(&one)).is_empty());
    assert_eq!(format!("{:?}", WeakMap::<u8, u8>::default()), "{}");
}

#[test]
fn weak_handles_find_what_lives() {
    let map = WeakMap::<u32, u32>::new();
    let one = map.get_or_insert(1, 10);
    let weak = Cached::downgrade(&one);
    assert!(Cached::ptr_eq(&weak.upgrade().unwrap(), &one));
    assert_eq!(weak.strong_count(), 1);
    // Removed is not dead.
    map.remove(&1);
    assert!(weak.upgrade().is_some());
    let (sender, receiver) = channel();
    let callback = Cached::downgrade_with(&one, move || sender.send(()).unwrap());
    assert!(callback.ptr_eq(&weak) && callback.clone().ptr_eq(&weak));
    drop(one);
    receiver.try_recv().expect("the callback ran");
    assert_eq!((weak.upgrade().is_none(), weak.strong_count()), (true, 0));
    let again = map.get_or_insert(1, 10);
    assert!(weak.upgrade().is_none());
    assert!(!Cached::downgrade(&again).ptr_eq(&weak));
}

#[test]
fn the_table_grows_shrinks_and_tells_its_size() {
    let mut map = WeakMap::<u64, u64>::with_capacity(1000);
    assert!(map.capacity() >= 1000);
    map.reserve(5000);
    assert!(map.capacity() >= 5000);
    let held: Vec<_> = (0..100).map(|key| map.get_or_insert(key, key)).collect();
    let usage = map.memory_usage();
    assert_eq!((usage.entries, map.iter().count()), (100, 100));
    map.shrink_to_fit();
    assert!((100..1000).contains(&map.capacity()));
    assert!(map.memory_usage().total() < usage.total());
    for (key, entry) in held.iter().enumerate() {
        assert!(Cached::ptr_eq(&map.get(&(key as u64)).unwrap(), entry));
    }
    let mut keys: Vec<_> = (&map)
        .into_iter()
        .map(|entry| *Cached::key(&entry))
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..100).collect::<Vec<_>>());
    drop(held);
    map.flush();
    assert!(map.is_empty());
}

// Hook and losers.

#[test]
fn losers_are_dropped_once_without_a_hook() {
    let census = Census::new();
    let map = WeakMap::<u32, Counted>::new();
    let hooks = Arc::new(Mutex::new(Vec::new()));
    let seen = hooks.clone();
    map.on_drop(move |key, value| seen.lock().unwrap().push((*key, value.key)));
    let new = |key| Counted::new(key, &census);
    let one = map.get_or_insert(1, new(100));
    drop(map.get_or_insert(1, new(101)));
    assert_eq!((census.live(), census.died()), (1, 1));
    assert!(hooks.lock().unwrap().is_empty());
    // The builder of `get_or_insert_with` is overtaken from within.
    let mut overtakes = None;
    let two = map.get_or_insert_with(2, |_| {
        overtakes = Some(map.get_or_insert(2, new(200)));
        new(201)
    });
    assert_eq!(two.key, 200);
    assert_eq!((census.live(), census.died()), (2, 2));
    drop(one);
    assert_eq!(*hooks.lock().unwrap(), [(1, 100)]);
    drop((two, overtakes));
    assert_eq!(*hooks.lock().unwrap(), [(1, 100), (2, 200)]);
    assert_eq!((census.live(), census.died()), (0, 4));
}

#[test]
fn the_only_handle_moves_key_and_value_out() {
    let census = Census::new();
    let map = WeakMap::<String, Counted>::new();
    let events = Arc::new(Mutex::new(Vec::new()));
    let hook = events.clone();
    map.on_drop(move |key, _| hook.lock().unwrap().push(key.clone()));
    let one = map.get_or_insert(String::from("one"), Counted::new(1, &census));
    let serial = one.serial;
    let callback = events.clone();
    let weak = Cached::downgrade_with(&one, move || {
        callback.lock().unwrap().push("callback".into());
    });

    // Shared: nothing happens, and it is the same handle.
    let clone = one.clone();
    let one = Cached::try_unwrap(one).unwrap_err();
    assert!(Cached::ptr_eq(&one, &clone));
    drop(clone);
    assert!(events.lock().unwrap().is_empty());

    let (key, value) = Cached::try_unwrap(one).unwrap();
    assert_eq!((&key[..], value.serial, census.live()), ("one", serial, 1));
    value.assert_alive();
    assert_eq!(*events.lock().unwrap(), ["callback"]);
    assert!(weak.upgrade().is_none() && map.is_empty() && map.get("one").is_none());
    // It is an entry as any other.
    let again = map.get_or_insert(key, value);
    assert_eq!((again.serial, map.len()), (serial, 1));

    // Also one that was removed, and lives beside its successor.
    let removed = map.remove("one").unwrap();
    drop(again);
    let next = map.get_or_insert(String::from("one"), Counted::new(2, &census));
    let (_, value) = Cached::try_unwrap(removed).unwrap();
    assert_eq!((value.serial, next.key, map.len()), (serial, 2, 1));
    drop((value, next));
    assert_eq!((census.live(), map.len()), (0, 0));
}

/// Several threads hold one handle each and all try: at most one gets the value, and it dies once.
#[test]
fn at_most_one_thread_moves_an_entry_out() {
    for _ in 0..scaled(500, 5) {
        let census = Census::new();
        let map = WeakMap::<u32, Counted>::new();
        let value = map.get_or_insert(1, Counted::new(1, &census));
        let handles = [value.clone(), value.clone(), value];
        let moved_out = thread::scope(|scope| {
            let threads = handles.map(|handle| scope.spawn(|| Cached::try_unwrap(handle).ok()));
            threads
                .into_iter()
                .filter_map(|thread| thread.join().unwrap())
                .count()
        });
        assert!(moved_out <= 1);
        assert_eq!((census.live(), map.len()), (0, 0));
    }
}

#[test]
fn a_hook_can_be_replaced_and_removed() {
    let map = WeakMap::<u32, u32>::new();
    let count = Arc::new(AtomicUsize::new(0));
    for weight in [1, 10] {
        let count = count.clone();
        map.on_drop(move |_, _| {
            count.fetch_add(weight, Ordering::SeqCst);
        });
        drop(map.get_or_insert(1, 1));
    }
    map.clear_on_drop();
    drop(map.get_or_insert(1, 1));
    assert_eq!(count.load(Ordering::SeqCst), 11);
    assert_eq!(Arc::strong_count(&count), 1);
}

// Removal.

#[test]
fn a_removed_entry_lives_beside_the_next_one() {
    let census = Census::new();
    let map = WeakMap::<u32, Counted>::new();
    let hooks = Arc::new(Mutex::new(Vec::new()));
    let seen = hooks.clone();
    map.on_drop(move |_, value| seen.lock().unwrap().push(value.serial));
    let old = map.get_or_insert(1, Counted::new(1, &census));
    let removed = map.remove(&1).expect("it is there");
    assert!(Cached::ptr_eq(&old, &removed));
    assert!(map.get(&1).is_none() && map.remove(&1).is_none());
    assert_eq!((map.len(), map.iter().count()), (0, 0));
    let new = map.get_or_insert(1, Counted::new(1, &census));
    assert!(!Cached::ptr_eq(&old, &new));
    assert!(Cached::ptr_eq(&map.get(&1).unwrap(), &new));
    assert_eq!(map.len(), 1);
    let serial = old.serial;
    drop((old, removed));
    assert_eq!(*hooks.lock().unwrap(), [serial]);
    assert_eq!((map.len(), census.live()), (1, 1));
    assert!(map.get(&1).is_some());
    drop(new);
    assert_eq!((map.len(), census.live()), (0, 0));
}

#[test]
fn many_generations_of_a_key_live_together() {
    let map = WeakMap::<u32, usize>::new();
    let mut held: Vec<_> = (0..scaled(500, 20))
        .map(|number| {
            let entry = map.get_or_insert(1, number);
            assert_eq!(*entry, number);
            map.remove(&1).expect("it is there")
        })
        .collect();
    assert_eq!((map.len(), map.iter().count()), (0, 0));
    while held.len() > 1 {
        held.swap_remove(held.len() / 2);
        assert!(map.get(&1).is_none());
    }
}

/// Each removal answers one thread, and each entry is removed once.
#[test]
fn threads_that_remove_at_once_share_the_entries() {
    let map = WeakMap::<u64, u64>::new();
    for _ in 0..scaled(300, 3) {
        let keys = 20;
        let held: Vec<_> = (0..keys).map(|key| map.get_or_insert(key, key)).collect();
        let barrier = Barrier::new(3);
        let removed: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        (0..keys).filter_map(|key| map.remove(&key)).count()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(removed, held.len());
        assert_eq!(map.len(), 0);
    }
}

// Races.

#[test]
fn threads_that_insert_at_once_get_one_entry() {
    let census = Census::new();
    let map = WeakMap::<u64, Counted>::new();
    let hooks = Arc::new(AtomicUsize::new(0));
    let count = hooks.clone();
    map.on_drop(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let rounds = scaled(300, 3);
    let keys = 10;
    for round in 0..rounds {
        let barrier = Barrier::new(4);
        let held: Vec<Vec<_>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let (map, census, barrier) = (&map, &census, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        (0..keys)
                            .map(|key| match (thread + round) % 3 {
                                0 => map.get_or_insert(key, Counted::new(key, census)),
                                1 => map.get_or_insert_with(key, |&key| Counted::new(key, census)),
                                _ => map.get_or_init(key, |&key| Counted::new(key, census)),
                            })
                            .collect()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        for others in &held[1..] {
            for (entry, other) in held[0].iter().zip(others) {
                assert!(Cached::ptr_eq(entry, other));
            }
        }
        assert_eq!((map.len() as u64, census.live() as u64), (keys, keys));
        drop(held);
        assert_eq!((map.len(), census.live()), (0, 0));
    }
    assert_eq!(hooks.load(Ordering::SeqCst) as u64, keys * rounds as u64);
}

#[test]
fn a_value_is_built_exactly_once() {
    const THREADS: usize = 4;
    for _ in 0..scaled(300, 3) {
        let map = WeakMap::<u32, u64>::new();
        let built = AtomicUsize::new(0);
        let barrier = Barrier::new(THREADS);
        let held: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let build = |_: &u32| built.fetch_add(1, Ordering::SeqCst) as u64;
                        map.get_or_init(1, build)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(built.load(Ordering::SeqCst), 1);
        assert!(held.iter().all(|entry| Cached::ptr_eq(entry, &held[0])));
    }
}

/// The builder is not done before the others have come, and lets go at once.
#[test]
fn those_who_wait_get_the_value_that_the_builder_dropped() {
    for _ in 0..scaled(300, 3) {
        let census = Census::new();
        let map = WeakMap::<u32, Counted>::new();
        let entered = Barrier::new(2);
        thread::scope(|scope| {
            let builder = scope.spawn(|| {
                let build = |_: &u32| {
                    entered.wait();
                    Counted::new(1, &census)
                };
                map.get_or_init(1, build).serial
            });
            entered.wait();
            // Comes while the value is built, or after: then it builds another one.
            let own = AtomicUsize::new(0);
            let waiter = map.get_or_init(1, |_| {
                own.fetch_add(1, Ordering::SeqCst);
                Counted::new(1, &census)
            });
            waiter.assert_alive();
            let serial = builder.join().unwrap();
            if own.load(Ordering::SeqCst) == 0 {
                assert_eq!(waiter.serial, serial);
            }
            assert!(Cached::ptr_eq(&waiter, &map.get(&1).expect("it is held")));
        });
        assert_eq!((map.len(), census.live()), (0, 0));
    }
}

#[test]
fn after_a_panic_or_an_error_the_next_one_builds() {
    for panics in [true, false] {
        let map = WeakMap::<u32, u32>::new();
        let entered = Barrier::new(2);
        let attempts = AtomicUsize::new(0);
        thread::scope(|scope| {
            let failing = scope.spawn(|| {
                let build = |_: &u32| {
                    entered.wait();
                    attempts.fetch_add(1, Ordering::SeqCst);
                    if panics {
                        std::panic::panic_any("a builder gives up");
                    }
                    Err::<u32, _>("no")
                };
                catch_unwind(AssertUnwindSafe(|| map.try_get_or_init(1, build).err()))
            });
            entered.wait();
            let others: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        map.get_or_init(1, |_| {
                            attempts.fetch_add(1, Ordering::SeqCst);
                            7
                        })
                    })
                })
                .collect();
            let held: Vec<_> = others
                .into_iter()
                .map(|other| other.join().unwrap())
                .collect();
            assert!(held.iter().all(|entry| **entry == 7));
            match failing.join().unwrap() {
                Ok(error) => assert_eq!(error, Some(InitError::Init("no"))),
                Err(_) => assert!(panics),
            }
        });
        assert!(attempts.load(Ordering::SeqCst) >= 2);
        assert_eq!(map.len(), 0);
    }
}

/// All fail, one after the other, and nobody is left waiting.
#[test]
fn builders_that_all_fail_leave_nothing() {
    let map = WeakMap::<u32, u32>::new();
    let attempts = AtomicUsize::new(0);
    for _ in 0..scaled(200, 3) {
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    let build = |_: &u32| Err(attempts.fetch_add(1, Ordering::SeqCst));
                    assert!(map.try_get_or_init(1, build).is_err());
                });
            }
        });
        assert_eq!((map.len(), map.iter().count()), (0, 0));
    }
    assert_eq!(attempts.load(Ordering::SeqCst), 4 * scaled(200, 3));
}

// Waiting for oneself.

#[test]
fn a_builder_that_asks_for_its_own_key_gets_an_error() {
    let map = WeakMap::<u32, u32>::new();
    let entry = map.get_or_init(1, |_| {
        let again = map.try_get_or_init(1, |_| Ok::<_, ()>(2));
        assert_eq!(again.err(), Some(InitError::Deadlock));
        let message = panic_of(|| map.get_or_init(1, |_| 2));
        assert_eq!(
            message,
            "the builder of this key waits for the calling thread"
        );
        // Through another key and another map as well.
        let other = WeakMap::<u32, u32>::new();
        let nested = other.get_or_init(5, |_| {
            assert!(map.try_get_or_init(1, |_| Ok::<_, ()>(2)).is_err());
            6
        });
        *nested
    });
    assert_eq!((*entry, map.len()), (6, 1));
}

/// Two threads build one key each, in two maps, and then ask for the other's.
#[test]
fn one_of_a_cycle_over_two_maps_gets_an_error() {
    for _ in 0..scaled(300, 3) {
        let maps = [WeakMap::<u32, u32>::new(), WeakMap::<u32, u32>::new()];
        let both_build = Barrier::new(2);
        let errors = AtomicUsize::new(0);
        let build = |own: usize| {
            let (maps, both_build, errors) = (&maps, &both_build, &errors);
            move || {
                let entry = maps[own].get_or_init(1, |_| {
                    both_build.wait();
                    match maps[1 - own].try_get_or_init(1, |_| Ok::<_, ()>(100)) {
                        Ok(other) => *other + 1,
                        Err(error) => {
                            assert_eq!(error, InitError::Deadlock);
                            errors.fetch_add(1, Ordering::SeqCst);
                            10
                        }
                    }
                });
                *entry
            }
        };
        let mut values: Vec<u32> = thread::scope(|scope| {
            let threads = [scope.spawn(build(0)), scope.spawn(build(1))];
            threads.map(|thread| thread.join().unwrap()).into()
        });
        values.sort_unstable();
        // Only one is refused. The other gets the value that the refused one builds instead.
        assert_eq!(
            (errors.load(Ordering::SeqCst), &values[..]),
            (1, &[10, 11][..])
        );
    }
}

/// A cycle of four threads.
#[test]
fn one_of_a_long_cycle_gets_an_error() {
    const THREADS: usize = 4;
    for _ in 0..scaled(100, 2) {
        let map = WeakMap::<usize, usize>::new();
        let all_build = Barrier::new(THREADS);
        let errors = AtomicUsize::new(0);
        thread::scope(|scope| {
            for own in 0..THREADS {
                let (map, all_build, errors) = (&map, &all_build, &errors);
                scope.spawn(move || {
                    map.get_or_init(own, |_| {
                        all_build.wait();
                        let next = (own + 1) % THREADS;
                        if map.try_get_or_init(next, |_| Ok::<_, ()>(0)).is_err() {
                            errors.fetch_add(1, Ordering::SeqCst);
                        }
                        own
                    });
                });
            }
        });
        assert_eq!(errors.load(Ordering::SeqCst), 1);
        assert_eq!(map.len(), 0);
    }
}

/// A waiter whose entry was given up for another one goes on, so that nobody waits for the builder any
/// more. If that builder now waits for the former waiter, there is no cycle.
///
/// Would catch: an error, or a panic, because the former waiter hasn't had its turn on the processor yet.
#[test]
fn a_builder_that_was_given_up_is_waited_for_by_nobody() {
    for _ in 0..scaled(1000, 3) {
        let map = WeakMap::<&str, u32>::new();
        let both_build = Barrier::new(3);
        let (go_on, given_up) = channel::<()>();
        thread::scope(|scope| {
            // Builds "first", and asks for "second" when "first" was given up.
            let (map, both_build) = (&map, &both_build);
            let builder = scope.spawn(move || {
                let mut refused = false;
                map.get_or_init("first", |_| {
                    both_build.wait();
                    given_up.recv().unwrap();
                    let second = map.try_get_or_init("second", |_| Ok::<_, ()>(5));
                    refused = second.is_err();
                    6
                });
                refused
            });
            // Builds "second", and asks for "first".
            scope.spawn(move || {
                map.get_or_init("second", |_| {
                    both_build.wait();
                    *map.get_or_init("first", |_| 7)
                });
            });
            both_build.wait();
            let first = map.get_or_insert("first", 3);
            go_on.send(()).unwrap();
            // The waiter may have built it, if it came in between.
            assert!([3, 7].contains(&*first));
            assert!(!builder.join().unwrap(), "nobody waits for the builder");
        });
    }
}

// An entry that is being built.

#[test]
fn an_entry_that_is_being_built_is_invisible() {
    let map = WeakMap::<u32, u32>::new();
    let other = map.get_or_insert(2, 20);
    let entry = map.get_or_init(1, |_| {
        assert!(map.get(&1).is_none() && map.remove(&1).is_none());
        assert_eq!((map.len(), map.iter().count()), (1, 1));
        assert_eq!(map.memory_usage().entries, 1);
        assert_eq!(format!("{map:?}"), "{2: 20}");
        10
    });
    assert_eq!((map.len(), map.iter().count()), (2, 2));
    assert!(Cached::ptr_eq(&map.get(&1).unwrap(), &entry));
    drop((entry, other));
}

#[test]
fn an_insertion_during_a_build_is_what_the_builder_gets() {
    let census = Census::new();
    let map = WeakMap::<u32, Counted>::new();
    let hooks = Arc::new(AtomicUsize::new(0));
    let count = hooks.clone();
    map.on_drop(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let mut inserted = None;
    let built = map.get_or_init(1, |_| {
        inserted = Some(map.get_or_insert(1, Counted::new(1, &census)));
        assert_eq!(map.len(), 1);
        Counted::new(1, &census)
    });
    let inserted = inserted.unwrap();
    assert!(Cached::ptr_eq(&built, &inserted));
    // The built value has died, without a hook.
    assert_eq!((census.made(), census.live(), map.len()), (2, 1, 1));
    assert_eq!(hooks.load(Ordering::SeqCst), 0);
    drop((built, inserted));
    assert_eq!(
        (census.live(), map.len(), hooks.load(Ordering::SeqCst)),
        (0, 0, 1)
    );
}

#[test]
fn an_insertion_that_has_come_and_gone_leaves_the_builder_its_value() {
    let census = Census::new();
    let map = WeakMap::<u32, Counted>::new();
    let mut gone = 0;
    let built = map.get_or_init(1, |_| {
        gone = map.get_or_insert(1, Counted::new(1, &census)).serial;
        Counted::new(1, &census)
    });
    built.assert_alive();
    assert_ne!(built.serial, gone);
    // It is as if it had been removed at once.
    assert!(map.get(&1).is_none());
    assert_eq!((map.len(), census.live()), (0, 1));
    let next = map.get_or_insert(1, Counted::new(1, &census));
    assert!(!Cached::ptr_eq(&built, &next));
    drop((built, next));
    assert_eq!((map.len(), census.live()), (0, 0));
}

thread_local! { static STOP_IN_EQ: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) } }

/// All keys have one hash, and a comparison of two different ones may stop its thread.
#[derive(Debug, Eq)]
struct Colliding(u32);

impl PartialEq for Colliding {
    fn eq(&self, other: &Self) -> bool {
        if self.0 != other.0
            && let Some(stop) = STOP_IN_EQ.take()
        {
            stop();
        }
        self.0 == other.0
    }
}

impl Hash for Colliding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        0.hash(state);
    }
}

/// An inserter has found the key under construction, and is stopped before it has published its own
/// value. The builder comes to its end meanwhile. Nobody removes anything, and both keep what they got.
///
/// Would catch: two entries of one key.
#[test]
fn a_builder_and_a_slow_inserter_get_one_entry() {
    let map = WeakMap::<Colliding, u32>::new();
    let (arrived, arrival) = channel();
    let (go_on, resume) = channel::<()>();
    thread::scope(|scope| {
        let map = &map;
        let mut behind = None;
        let mut inserter = None;
        let built = map.get_or_init(Colliding(1), |_| {
            // The inserter compares with this one after it has met the one that is being built.
            behind = Some(map.get_or_insert(Colliding(2), 20));
            inserter = Some(scope.spawn(move || {
                STOP_IN_EQ.set(Some(Box::new(move || {
                    arrived.send(()).unwrap();
                    resume.recv().unwrap();
                })));
                map.get_or_insert(Colliding(1), 11)
            }));
            arrival.recv().unwrap();
            10
        });
        go_on.send(()).unwrap();
        let inserted = inserter.expect("it was started").join().unwrap();
        assert_eq!(*built, *inserted, "two values of one key");
        assert!(Cached::ptr_eq(&built, &inserted));
        assert!(Cached::ptr_eq(&map.get(&Colliding(1)).unwrap(), &built));
    });
}

/// Builders, inserters and removers of one key, all at once.
#[test]
fn builders_inserters_and_removers_meet() {
    let census = Census::new();
    let map = WeakMap::<u32, Counted>::new();
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (map, census, barrier) = (&map, &census, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for turn in 0..scaled(5000, 20) {
                    let new = || Counted::new(1, census);
                    match thread {
                        0 | 1 => {
                            let fails = turn % 3 == 0;
                            let build = |_: &u32| if fails { Err(new()) } else { Ok(new()) };
                            match map.try_get_or_init(1, build) {
                                Ok(entry) => entry.assert_alive(),
                                Err(InitError::Init(value)) => value.assert_alive(),
                                Err(error) => panic!("{error:?}"),
                            }
                        }
                        2 => map.get_or_insert(1, new()).assert_alive(),
                        _ => {
                            if let Some(entry) = map.remove(&1) {
                                entry.assert_alive();
                            }
                        }
                    }
                }
            });
        }
    });
    assert_eq!((map.len(), map.iter().count(), census.live()), (0, 0, 0));
}
