//! Growth and shrinking. A table begins with two buckets, and has one entry a bucket.

use std::sync::Arc;

use hapax::Interned;
use hapax_shuttle_tests::{
    Census, Identity, Key, Values, assert_empty, below, chance, explore, together, values,
};

/// A key in one of so many parts of the list that no table here has a bucket for each.
fn spread(number: usize) -> Key {
    Key::of_order((number as u64).wrapping_mul(0x9d << 54 | 3))
}

/// Threads insert, so that the table grows from two buckets to dozens, while others look up what is there, and
/// drop it.
///
/// Would catch: a look-up that stops early at a word that is new, an insert lost behind a word that is being
/// linked, a level without its segment.
#[test]
fn a_table_grows_under_look_ups() {
    explore(6000, || {
        let (values, census) = values();
        let held: Vec<_> = (0..3)
            .map(|n| values.intern(census.value(spread(n))))
            .collect();
        let grow = |first: usize| {
            let (values, census) = (values.clone(), census.clone());
            move || {
                if chance(3) {
                    values.reserve(below(20));
                }
                let new = (first..first + 8).map(|n| values.intern(census.value(spread(n))));
                let new: Vec<_> = new.collect();
                for value in &new {
                    assert_eq!(values.get(&value.key).as_ref(), Some(value));
                }
                new
            }
        };
        let look = |_| {
            let (values, census, held) = (values.clone(), census.clone(), held.clone());
            move || {
                for _ in 0..6 {
                    let wanted = &held[below(held.len())];
                    assert_eq!(values.get(&wanted.key).as_ref(), Some(wanted));
                    assert_eq!(values.intern(census.value(wanted.key)), *wanted);
                    // Also one of those that come and go.
                    drop(values.intern(census.value(spread(10 + below(24)))));
                }
            }
        };
        let growing = [10, 18, 26].map(grow).map(shuttle::thread::spawn);
        together([(), ()].map(look));
        let new: Vec<_> = growing
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect();
        assert_eq!(values.len(), held.len() + new.len());
        assert!(values.capacity() >= values.len() / 2);
        drop((held, new));
        assert_empty(&values, &census);
    });
}

/// A table shrinks while others drop the handles of what is in it, then grows again.
///
/// Would catch: a closer whose walk stops at a word about to be unlinked, so that its node is freed while linked; a
/// word read after its segment was freed, or linked again.
#[test]
fn a_table_shrinks_under_drops() {
    explore(8000, || {
        let census = Census::default();
        let mut values = Values::with_capacity_and_hasher(4 + below(28), Identity);
        for round in 0..2 {
            let handles = (0..12).map(|n| values.intern(census.value(spread(n + 5 * round))));
            let mut handles: Vec<_> = handles.collect();
            let kept = handles.split_off(9);
            let dropping: Vec<_> = (0..3)
                .map(|_| {
                    let mine = handles.split_off(handles.len() - 3);
                    shuttle::thread::spawn(move || drop_in_turn(mine))
                })
                .collect();
            if chance(2) {
                drop(handles);
            }
            values.shrink_to_fit();
            assert_eq!(
                values.iter().filter(|value| kept.contains(value)).count(),
                3
            );
            for thread in dropping {
                thread.join().unwrap();
            }
            assert_eq!((values.len(), census.alive()), (3, 3));
            for value in &kept {
                assert_eq!(values.get(&value.key).as_ref(), Some(value));
            }
        }
        values.shrink_to_fit();
        assert_empty(&values, &census);
    });
}

fn drop_in_turn<T>(handles: Vec<T>) {
    for handle in handles {
        drop(handle);
    }
}

/// A table that has shrunk is used again by many, who make it grow.
#[test]
fn a_shrunk_table_grows_again() {
    explore(6000, || {
        let census = Census::default();
        let mut values = Values::with_capacity_and_hasher(16, Identity);
        let kept = values.intern(census.value(spread(3)));
        let dropped = values.intern(census.value(spread(7)));
        let dropping = shuttle::thread::spawn(move || drop(dropped));
        values.shrink_to_fit();
        let values = Arc::new(values);
        let new = together((0..4).map(|thread| {
            let (values, census, kept) = (values.clone(), census.clone(), kept.clone());
            move || {
                let new = (0..5).map(|n| values.intern(census.value(spread(8 + 3 * thread + n))));
                let new: Vec<_> = new.collect();
                assert!(Interned::ptr_eq(&values.get(&kept.key).unwrap(), &kept));
                new
            }
        }));
        dropping.join().unwrap();
        for value in new.iter().flatten() {
            assert_eq!(values.get(&value.key).as_ref(), Some(value));
        }
        assert_eq!(values.len(), 15);
        drop((new, kept));
        assert_empty(&values, &census);
    });
}
