//! The interner: values that die and come back, hooks, nested values, collisions, iteration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hapax::Interned;
use hapax_shuttle_tests::{
    Key, Value, Values, assert_empty, below, chance, explore, key, step, together, values,
};

/// All threads intern one value, and let go of it.
///
/// Would catch: two instances, a value that dies while it has a handle, one that two threads close or none.
#[test]
fn one_value_dies_and_comes_back() {
    explore(16_000, || {
        let (values, census) = values();
        let handles = together((0..6).map(|_| {
            let (values, census) = (values.clone(), census.clone());
            move || {
                let mut held = None;
                for _ in 0..4 {
                    let value = values.intern(census.value(key(0)));
                    value.touch();
                    if let Some(held) = &held {
                        assert_eq!(held, &value);
                    }
                    held = chance(2).then_some(value);
                }
                held
            }
        }));
        let handles: Vec<_> = handles.into_iter().flatten().collect();
        assert!(handles.windows(2).all(|pair| pair[0] == pair[1]));
        let one = usize::from(!handles.is_empty());
        assert_eq!((values.len(), census.alive()), (one, one));
        drop(handles);
        assert_empty(&values, &census);
    });
}

/// Values with one hash, and their neighbours, die and come back. One of them is held all the time.
///
/// Would catch: an entry removed by its content instead of its address, an insert that doesn't meet its equal, a
/// walk that goes on from what was unlinked under it.
#[test]
fn values_with_one_hash_die_and_come_back() {
    let run = |number| match number {
        0..3 => (0..number).fold(Key::at(5), |key, _| key.twin()),
        3 => Key::at(4),
        _ => Key::at(5).next(),
    };
    explore(16_000, move || {
        let (values, census) = values();
        let held = values.intern(census.value(run(1)));
        let handles = together((0..4).map(|_| {
            let (values, census, held) = (values.clone(), census.clone(), held.clone());
            move || {
                let mut kept = Vec::new();
                for _ in 0..6 {
                    let value = values.intern(census.value(run(below(5))));
                    assert_eq!(value == held, value.key == held.key);
                    assert_eq!(values.get(&held.key), Some(held.clone()));
                    kept.push(value);
                    kept.truncate(below(3));
                }
                kept
            }
        }));
        let mut instances = BTreeMap::new();
        for value in handles.iter().flatten().chain([&held]) {
            instances.insert(value.life.serial, value.key);
            assert_eq!(values.get(&value.key).as_ref(), Some(value));
        }
        assert_eq!(
            (values.len(), census.alive()),
            (instances.len(), instances.len())
        );
        drop((handles, held));
        assert_empty(&values, &census);
    });
}

/// A hook interns the value that is dying, and others, while other threads do so as well.
///
/// Would catch: an instance that is found while its hook runs, a hook that runs twice for one value, one that
/// waits for another.
#[test]
fn hooks_intern_what_is_dying() {
    explore(8000, || {
        let (values, census) = values();
        let hooked = Arc::new(AtomicUsize::new(0));
        let (again, count, more) = (Arc::downgrade(&values), hooked.clone(), census.clone());
        values.on_drop(move |value: &Value| {
            value.touch();
            count.fetch_add(1, Relaxed);
            let Some(values) = again.upgrade() else {
                return;
            };
            assert!(
                values
                    .get(&value.key)
                    .is_none_or(|live| live.life.serial != value.life.serial)
            );
            // Seldom enough to come to an end.
            match below(4) {
                0 => drop(values.intern(more.value(value.key))),
                1 => drop(values.intern(more.value(key(below(3))))),
                _ => {}
            }
        });
        let lost = together((0..5).map(|_| {
            let (values, census) = (values.clone(), census.clone());
            move || {
                let mut lost = 0;
                for _ in 0..2 {
                    let made = census.value(key(below(3)));
                    let serial = made.life.serial;
                    lost += usize::from(values.intern(made).life.serial != serial);
                }
                lost
            }
        }));
        values.clear_on_drop();
        assert!(lost.iter().sum::<usize>() <= 10);
        assert!(hooked.load(Relaxed) > 0);
        assert_empty(&values, &census);
    });
}

/// Values own handles of others, which are interned and dropped by themselves as well.
///
/// Would catch: an inner value that is queued and found, destroyed twice, or never.
#[test]
fn values_own_handles_of_values() {
    explore(8000, || {
        let (values, census) = values();
        together((0..5).map(|_| {
            let (values, census) = (values.clone(), census.clone());
            move || {
                for _ in 0..3 {
                    let mut chain = values.intern(census.value(key(0)));
                    for link in 1..1 + below(4) {
                        chain = values.intern(census.nested(key(link), chain));
                    }
                    let mut next = Some(&chain);
                    while let Some(value) = next {
                        value.touch();
                        next = value.inner.as_ref();
                    }
                }
            }
        }));
        assert_empty(&values, &census);
    });
}

/// Threads iterate while others insert, drop, and make the table grow.
///
/// Would catch: an iteration that misses what was alive throughout, yields something twice, or stands on
/// freed memory.
#[test]
fn iterations_yield_what_is_alive_throughout() {
    explore(8000, || {
        let (values, census) = values();
        let stable: Vec<_> = [1, 6, 8, 11]
            .map(|n| values.intern(census.value(key(n))))
            .into();
        let serials: Vec<_> = stable.iter().map(|value| value.life.serial).collect();
        let thread = |iterates: bool| {
            let (values, census, serials) = (values.clone(), census.clone(), serials.clone());
            move || {
                if iterates {
                    iterate(&values, &serials);
                    iterate(&values, &serials);
                    return;
                }
                for _ in 0..4 {
                    let some = (0..below(4)).map(|_| values.intern(census.value(key(below(16)))));
                    drop(some.collect::<Vec<_>>());
                }
            }
        };
        together([true, true, false, false, false].map(thread));
        drop(stable);
        assert_empty(&values, &census);
    });
}

fn iterate(values: &Values, stable: &[usize]) {
    let mut met = Vec::new();
    for value in values.iter() {
        value.touch();
        met.push(value.life.serial);
    }
    for serial in stable {
        let times = met.iter().filter(|&other| other == serial).count();
        assert_eq!(times, 1, "a value that was alive throughout");
    }
    met.sort_unstable();
    assert!(
        met.windows(2).all(|pair| pair[0] != pair[1]),
        "a value was met twice"
    );
}

/// Handles are handed from thread to thread, moved out, and kept in thread-locals until their threads exit.
///
/// Would catch: a thread's exit that frees what others read, or leaves something behind; a value that is moved
/// out and found.
#[test]
fn threads_come_and_go() {
    shuttle::thread_local! {
        static KEPT: std::cell::RefCell<Vec<Interned<Value>>> = std::cell::RefCell::default();
    }
    explore(8000, || {
        let (values, census) = values();
        let threads = |generation: usize| {
            let (values, census) = (values.clone(), census.clone());
            (0..3).map(move |_| {
                let (values, census) = (values.clone(), census.clone());
                move || {
                    // Before the table's own thread-locals: shuttle ends the oldest first.
                    KEPT.with(|kept| kept.borrow_mut().clear());
                    for _ in 0..3 {
                        let value = values.intern(census.value(key(below(3) + generation)));
                        value.touch();
                        match below(3) {
                            0 => drop(value),
                            1 => drop(Interned::try_unwrap(value)),
                            _ => KEPT.with(|kept| kept.borrow_mut().push(value)),
                        }
                    }
                    step();
                }
            })
        };
        let first: Vec<_> = threads(0).map(shuttle::thread::spawn).collect();
        let second: Vec<_> = threads(1).map(shuttle::thread::spawn).collect();
        for thread in first {
            thread.join().unwrap();
        }
        together(threads(2));
        for thread in second {
            thread.join().unwrap();
        }
        assert_empty(&values, &census);
    });
}
