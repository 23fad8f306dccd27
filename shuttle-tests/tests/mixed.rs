//! Random operations of several threads, and what must hold when they stand still. See `src/mix.rs`.

use std::sync::Arc;

use hapax_shuttle_tests::mix::{Held, Stage, assert_gone, look_at};
use hapax_shuttle_tests::{chance, explore, explore_twice, together};

/// The life of an interner and a map: rounds of operations, with a look at everything in between. Then the
/// threads drop what they hold, in any order with the end of the tables.
fn live(threads: usize, rounds: usize, operations: usize, keys: usize) {
    let stage = Stage::new(keys);
    if chance(2) {
        stage.set_hooks();
    }
    let (census, callbacks) = (stage.census.clone(), stage.callbacks.clone());
    let mut all: Vec<_> = (0..threads).map(|_| Held::default()).collect();
    for _ in 0..rounds {
        all = together(all.into_iter().map(|mut held| {
            let stage = stage.clone();
            move || {
                (0..operations).for_each(|_| held.operate(&stage));
                held
            }
        }));
        look_at(&stage, &all);
    }
    let leave = |(held, stage): (Held, Arc<Stage>)| {
        move || {
            if chance(2) {
                drop((held.values, stage, held.entries, held.weak));
            } else {
                drop((stage, held));
            }
        }
    };
    let leaving: Vec<_> = all
        .into_iter()
        .map(|held| leave((held, stage.clone())))
        .collect();
    drop(stage);
    together(leaving);
    assert_gone(&census, &callbacks);
}

#[test]
fn four_threads_on_two_keys() {
    explore(16_000, || live(4, 2, 6, 2));
}

#[test]
fn five_threads_on_many_keys() {
    explore(12_000, || live(5, 1, 10, 12));
}

#[test]
fn eight_threads_on_three_keys() {
    explore(8000, || live(8, 1, 6, 3));
}

/// Nothing but the schedule decides what happens, so that a schedule which fails can be replayed.
#[test]
fn executions_are_the_same_again() {
    explore_twice(500, || live(5, 2, 6, 4));
}
