//! Memory of dead nodes: batches, hand-over, thread exit.
//!
//! In models a batch is full with two nodes, and a thread keeps one READY batch.

use std::sync::Arc;

use hapax::Interned;
use hapax_loom_tests::{
    Key, Ledger, Value, Values, assert_empty, collect, end_thread, model, quietly, race, race3,
    values,
};

/// An interner, and handles of some values.
fn some_values(number: u64) -> (Arc<Values>, Ledger, Vec<Interned<Value>>) {
    let (values, ledger) = values();
    let handles = (1..=number)
        .map(|n| values.intern(ledger.value(Key::at(n))))
        .collect();
    (values, ledger, handles)
}

/// A thread that has retired nodes exits, while another one runs the function it has deferred.
///
/// Would catch: a batch that is freed by both parties, or by none.
#[test]
fn thread_exit_races_deferred_function() {
    model(3, || {
        let (values, ledger, two) = some_values(2);
        drop(two);
        race(end_thread, || {
            collect();
            collect();
        });
        assert_empty(&values, &ledger);
    });
}

/// As before, with two batches, of which the second is freed at once for lack of room.
///
/// Would catch: as above.
#[test]
fn thread_exit_races_two_deferred_functions() {
    model(2, || {
        let (values, ledger, four) = some_values(4);
        drop(four);
        race(end_thread, || {
            collect();
            collect();
        });
        assert_empty(&values, &ledger);
    });
}

/// A thread closes another batch, while one of its two that wait is made READY and the other is freed for
/// lack of room.
///
/// Would catch: nodes freed by both parties, a shell used again while the deferred function empties it.
#[test]
fn poll_races_deferred_functions() {
    model(2, || {
        let (values, ledger, mut six) = some_values(6);
        let two = six.split_off(4);
        drop(six);
        race(
            move || drop(two),
            || {
                collect();
                collect();
            },
        );
        assert_empty(&values, &ledger);
    });
}

/// A thread retires a full batch and carries the collector on, while another one walks over its nodes.
///
/// Would catch: memory given back while a pinned thread reads it.
#[test]
fn hand_over_races_walk() {
    model(3, || {
        let (values, ledger, two) = some_values(2);
        let there = values.clone();
        race(
            move || {
                drop(two);
                quietly(|| {
                    collect();
                    collect();
                });
            },
            move || assert!(there.get(&Key::at(3)).is_none()),
        );
        assert_empty(&values, &ledger);
    });
}

/// Two threads retire a node each and exit, while a third one walks over them.
///
/// Would catch: as above, with a collector that any thread carries on.
#[test]
fn two_exits_race_walk() {
    model(2, || {
        let (values, ledger, mut two) = some_values(2);
        let there = values.clone();
        let (a, b) = (two.pop(), two.pop());
        race3(
            move || {
                drop(a);
                quietly(end_thread);
            },
            move || {
                drop(b);
                quietly(end_thread);
                quietly(collect);
            },
            move || assert!(there.get(&Key::at(3)).is_none()),
        );
        assert_empty(&values, &ledger);
    });
}
